"""A repository with a verifier serves only what verifies."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from stored_models import OTHER_KEY, SIGNER, VERIFIER, Constant, described, load, opened, rewritten

from mlserve.errors import (
    MalformedDocumentError,
    SignatureError,
    UnknownKeyError,
    UnsignedVersionError,
)
from mlserve.repositories import (
    DirectoryModelRepository,
    HmacSigner,
    HmacVerifier,
    Signature,
    Verifier,
)
from mlserve.repositories._documents import sealed


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "repository"


@pytest.fixture
def repository(path) -> DirectoryModelRepository:
    repository = opened(path)
    described(repository)
    return repository


def test_a_signed_version_is_served(path):
    """What was signed with a known key is loaded and described."""
    options = {"signer": SIGNER, "verifier": VERIFIER}
    described(opened(path, **options))
    assert load(path, **options) == (Constant(1.0), [1.0, 2.0])


def test_an_unsigned_version_is_refused(path, repository):
    """With a verifier, a version without a signature is an ``UnsignedVersionError``."""
    with pytest.raises(UnsignedVersionError):
        load(path, verifier=VERIFIER)


def test_a_changed_manifest_is_refused_however_well_it_is_sealed(path):
    """With a verifier, a manifest that was changed and sealed again is a ``SignatureError``."""
    described(opened(path, signer=SIGNER))
    rewritten(path, lambda body: body["carried"]["lineage"].update(parent="1"))
    assert load(path)
    with pytest.raises(SignatureError):
        load(path, verifier=VERIFIER)


@pytest.mark.parametrize(
    ("signer", "error"),
    [(HmacSigner("first", OTHER_KEY), SignatureError), (HmacSigner("second", OTHER_KEY), UnknownKeyError)],
    ids=["other key", "other id"],
)
def test_another_key_is_refused(path, signer, error):
    """What was signed with another key is refused, whether or not it bears the known key's id."""
    described(opened(path, signer=signer))
    with pytest.raises(error) as caught:
        load(path, verifier=VERIFIER)
    assert caught.value.path == "versions/1/signature.json"


def test_keys_can_be_rotated(path):
    """While the verifier knows both keys, versions of both are served; then only those of the new one."""
    opened(path, signer=SIGNER).register(Constant(1.0))
    opened(path, signer=HmacSigner("second", OTHER_KEY)).register(Constant(2.0))
    both = opened(path, verifier=HmacVerifier({"first": bytes(range(32)), "second": OTHER_KEY}))
    assert [both.load_model(version) for version in both.get_active_versions()] == [Constant(2.0), Constant(1.0)]
    new = opened(path, verifier=HmacVerifier({"second": OTHER_KEY}))
    assert new.load_model(new.get_version("2")) == Constant(2.0)
    with pytest.raises(UnknownKeyError):
        new.load_model(new.get_version("1"))


def test_a_signature_of_another_version_is_refused(path):
    """A signature covers the number: an old version cannot be put in the place of a new one."""
    repository = opened(path, signer=SIGNER)
    repository.register(Constant(1.0))
    repository.register(Constant(2.0))
    shutil.copy(path / "versions/1/signature.json", path / "versions/2/signature.json")
    with pytest.raises(SignatureError):
        load(path, verifier=VERIFIER)


def test_a_signature_that_says_too_little_is_refused(path):
    """A sealed signature without a value is a ``MalformedDocumentError``."""
    described(opened(path, signer=SIGNER))
    (path / "versions/1/signature.json").write_bytes(sealed("signature", {"algorithm": "x"}))
    with pytest.raises(MalformedDocumentError):
        load(path, verifier=VERIFIER)


def test_a_lost_number_is_signed_anew(path):
    """Where another writer took the number, the signature is that of the number that was free."""
    (path / "versions").mkdir(parents=True)
    (path / "versions/1").mkdir()
    (path / "versions/1/occupied").touch()
    options = {"signer": SIGNER, "verifier": VERIFIER}
    assert described(opened(path, **options)).id == "2"
    assert load(path, **options) == (Constant(1.0), [1.0, 2.0])


def test_errors_of_a_verifier_of_ones_own_are_passed_on(path):
    """A verifier of one's own may raise a subclass of its own with other arguments."""

    class ExpiredError(SignatureError):
        def __init__(self) -> None:
            super().__init__("the key has expired.")

    class Strict(Verifier):
        def verify(self, data: bytes, signature: Signature) -> None:
            raise ExpiredError

    described(opened(path, signer=SIGNER))
    with pytest.raises(SignatureError, match="version 1: the key has expired"):
        load(path, verifier=Strict())
