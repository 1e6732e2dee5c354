"""Signers and verifiers by themselves; how a repository uses them is tested with its integrity."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest
from stored_models import KEY, OTHER_KEY, SIGNER, VERIFIER, Constant, opened

from mlserve.errors import InvalidArgumentError, SignatureError, UnknownKeyError
from mlserve.repositories import (
    HmacSigner,
    HmacVerifier,
    ModelSigningSigner,
    ModelSigningVerifier,
    Signature,
    Signer,
    Verifier,
)


@pytest.mark.parametrize("data", [b"", b"manifest", bytes(1000)], ids=len)
def test_what_was_signed_verifies(data):
    """A signature verifies over the bytes that were signed."""
    VERIFIER.verify(data, SIGNER.sign(data))
    with pytest.raises(SignatureError):
        VERIFIER.verify(data + b"x", SIGNER.sign(data))


def test_the_signature_is_the_hmac_of_rfc_2104():
    """The value is HMAC-SHA256 over purpose, length and text of the key id, and the data."""
    message = b"mlserve version manifest\n" + (5).to_bytes(8, "big") + b"first" + b"data"
    expected = hmac.new(KEY, message, hashlib.sha256).hexdigest()
    assert SIGNER.sign(b"data") == Signature("hmac-sha256", "first", expected)


def test_a_key_id_cannot_run_into_the_data():
    """A key id and data that together are the same bytes have another signature."""
    assert HmacSigner("ab", KEY).sign(b"c").value != HmacSigner("a", KEY).sign(b"bc").value


@pytest.mark.parametrize("change", [{"value": ""}, {"value": "é"}, {"value": "0" * 64}, {"value": "\ud800"}])
def test_another_value_is_refused(change):
    """Any other value than the right one is a ``SignatureError``."""
    with pytest.raises(SignatureError):
        VERIFIER.verify(b"data", Signature("hmac-sha256", "first", **change))


@pytest.mark.parametrize(("algorithm", "key_id"), [("hmac-md5", "first"), ("hmac-sha256", "second"), ("", "")])
def test_an_unknown_key_or_algorithm_is_refused(algorithm, key_id):
    """What the verifier has no key for is an ``UnknownKeyError`` that names those it has."""
    with pytest.raises(UnknownKeyError, match="first"):
        VERIFIER.verify(b"data", Signature(algorithm, key_id, SIGNER.sign(b"data").value))


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(65), "text" * 10, None])
@pytest.mark.parametrize("make", [lambda key: HmacSigner("a", key), lambda key: HmacVerifier({"a": key})])
def test_a_key_of_another_length_is_refused(make, key):
    """A key has 32 to 64 bytes; the error does not hold the key."""
    with pytest.raises(InvalidArgumentError) as caught:
        make(key)
    assert caught.value.value in (f"{len(key or '')} bytes", type(key).__name__)


@pytest.mark.parametrize("length", [32, 48, 64])
def test_a_key_may_be_as_long_as_the_block(length):
    """Keys from the length of the hash to that of its block are taken, and what they sign verifies, nothing else."""
    key = bytes(range(length))
    signature = HmacSigner("a", key).sign(b"data")
    assert HmacVerifier({"a": key}).verify(b"data", signature) is None
    with pytest.raises(SignatureError):
        HmacVerifier({"a": key}).verify(b"other", signature)


@pytest.mark.parametrize("key_id", ["", 5, None, "a\nb"])
def test_a_key_has_a_printable_name(key_id):
    """A key without a name, or with one that cannot be shown, is refused."""
    with pytest.raises(InvalidArgumentError):
        HmacSigner(key_id, KEY)


@pytest.mark.parametrize("keys", [{}, None, [KEY]])
def test_a_verifier_has_a_key(keys):
    """A verifier that knows no key at all would refuse everything, and is refused itself."""
    with pytest.raises(InvalidArgumentError):
        HmacVerifier(keys)


def test_no_key_is_shown():
    """The representations name key ids, never keys."""
    assert (repr(SIGNER), repr(VERIFIER)) == ("HmacSigner('first')", "HmacVerifier(['first'])")


def test_they_keep_the_protocols():
    """All of them are signers and verifiers."""
    assert isinstance(SIGNER, Signer)
    assert isinstance(VERIFIER, Verifier)
    assert isinstance(ModelSigningSigner(Config(KEY)), Signer)
    assert isinstance(ModelSigningVerifier(Config(KEY)), Verifier)


class Config:
    """What ``model_signing.signing.Config`` and ``model_signing.verifying.Config`` promise, with a keyed hash.

    A small double of that package's two methods: the package itself brings Sigstore with it.
    """

    def __init__(self, key: bytes) -> None:
        self.key = key

    def _of(self, model_path: str) -> bytes:
        found = sorted(file for file in Path(model_path).rglob("*") if file.is_file())
        listed = b"".join(file.name.encode() + file.read_bytes() for file in found)
        return hmac.digest(self.key, listed, "sha256")

    def sign(self, model_path: str, signature_path: str) -> None:
        Path(signature_path).write_bytes(self._of(model_path))

    def verify(self, model_path: str, signature_path: str) -> None:
        if Path(signature_path).read_bytes() != self._of(model_path):
            raise ValueError("Signature mismatch")


def test_model_signing_signs_and_verifies(tmp_path):
    """A repository takes signatures of the package model-signing like any other."""
    options = {"signer": ModelSigningSigner(Config(KEY)), "verifier": ModelSigningVerifier(Config(KEY))}
    version = opened(tmp_path / "a", **options).register(Constant(2.0))
    assert opened(tmp_path / "a", **options).load_model(version) == Constant(2.0)


def test_model_signing_refuses_another_key(tmp_path):
    """Whatever the package raises is a ``SignatureError`` that keeps it."""
    version = opened(tmp_path / "a", signer=ModelSigningSigner(Config(KEY))).register(Constant(2.0))
    with pytest.raises(SignatureError, match="Signature mismatch") as caught:
        opened(tmp_path / "a", verifier=ModelSigningVerifier(Config(OTHER_KEY))).load_model(version)
    assert isinstance(caught.value.exception, SignatureError)


def test_model_signing_refuses_what_it_did_not_make():
    """A signature by another method is an ``UnknownKeyError``; one that is no base64 a ``SignatureError``."""
    verifier = ModelSigningVerifier(Config(KEY))
    with pytest.raises(UnknownKeyError):
        verifier.verify(b"data", SIGNER.sign(b"data"))
    with pytest.raises(SignatureError):
        verifier.verify(b"data", Signature("model-signing", "", "é"))
