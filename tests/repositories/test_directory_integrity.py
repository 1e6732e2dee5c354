"""What was changed on disk is refused, each kind of change by its own error; older forms are still read."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from stored_models import SIGNER, VERIFIER, Constant, described, files_of, load, opened, rewritten

from mlserve import ModelVersion
from mlserve.clocks import ManualClock
from mlserve.errors import (
    BrokenHistoryError,
    DigestMismatchError,
    FileSizeError,
    IntegrityError,
    MalformedDocumentError,
    MissingFileError,
    MlserveError,
    NewerFormatError,
    RepositoryUnavailableError,
    SymbolicLinkError,
    UnexpectedFileError,
    UnsafePathError,
)
from mlserve.repositories import (
    DirectoryModelRepository,
    Filesystem,
    Kind,
)
from mlserve.repositories._changes import State
from mlserve.repositories._documents import FORMAT, canonical, digest_of, sealed, unsealed

ASSETS = Path(__file__).parent / "assets"

SAMPLED_BYTES = 150


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "repository"


@pytest.fixture
def repository(path) -> DirectoryModelRepository:
    repository = opened(path)
    described(repository)
    return repository


# ------------------------------------------------------------------------------------------------- changed on disk


@pytest.mark.parametrize("name", ["model/arrays.npz", "arrays.npz", "model/model.json"])
def test_flipped_bytes_are_refused(path, repository, name):
    """A file whose bytes have changed is a ``DigestMismatchError``."""
    file = path / "versions/1" / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(DigestMismatchError):
        load(path)


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: b"", lambda data: data + b"x"])
def test_a_file_of_another_length_is_refused(path, repository, change):
    """A file that is shorter or longer than published is a ``FileSizeError``."""
    file = path / "versions/1/model/arrays.npz"
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(FileSizeError):
        load(path)


@pytest.mark.parametrize("name", ["model/arrays.npz", "manifest.json", "model", "arrays.npz", "."])
def test_a_missing_file_is_refused(path, repository, name):
    """A file or directory that is gone is a ``MissingFileError``."""
    target = path / "versions/1" / name
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    with pytest.raises(MissingFileError):
        load(path)


@pytest.mark.parametrize("name", ["model/extra.bin", "extra.bin", "other/extra.bin"])
def test_an_extra_file_is_refused(path, repository, name):
    """A file that was not published is an ``UnexpectedFileError``."""
    target = path / "versions/1" / name
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(b"x")
    with pytest.raises(UnexpectedFileError):
        load(path)


@pytest.mark.parametrize("name", ["model/arrays.npz", "model", ".", "manifest.json"])
def test_a_symbolic_link_is_refused(path, repository, tmp_path, name):
    """A link is a ``SymbolicLinkError``, even where it leads to the very bytes that were published."""
    target = path / "versions/1" / name
    elsewhere = tmp_path / "elsewhere"
    shutil.move(target, elsewhere)
    os.symlink(elsewhere, target)
    with pytest.raises(SymbolicLinkError):
        load(path)


def test_a_file_in_place_of_a_directory_is_refused(path, repository):
    """A file where a directory was published is an ``UnexpectedFileError``."""
    shutil.rmtree(path / "versions/1/model")
    (path / "versions/1/model").write_bytes(b"x")
    with pytest.raises(UnexpectedFileError):
        load(path)


@pytest.mark.parametrize(
    "name", ["../../2/model/arrays.npz", "/etc/hostname", "model/../x", "model//x", "./x", "a\\b", "C:x", "", "a\n"]
)
def test_a_path_that_leads_elsewhere_is_refused(path, repository, name):
    """A manifest that names a file outside its directory is an ``UnsafePathError``."""
    rewritten(path, lambda body: body["files"][1].update(path=name))
    with pytest.raises(UnsafePathError):
        load(path)


def deep(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body["files"].reverse(),
        lambda body: body["files"].append(body["files"][-1]),
        lambda body: body["files"][0].update(size=-1),
        lambda body: body["files"][0].update(size="1"),
        lambda body: body["files"][0].pop("size"),
        lambda body: body["version"].update(id="2"),
        lambda body: body["version"].update(digest="sha256:0"),
        lambda body: body["version"].update(tags={"commit": "other"}),
        lambda body: body["version"].update(created_at="2026-01-01T00:00:00"),
        lambda body: body.pop("carried"),
        lambda body: body["carried"].update(example={"$unknown": 1}),
        lambda body: body["carried"].update(example={"$timedelta": [10**12]}),
        lambda body: body["carried"].update(example={"$array": "array-9"}),
        lambda body: body["carried"].update(example=deep(900)),
        lambda body: body["carried"].update(task="clustering"),
        lambda body: body["version"].update(id=1),
        lambda body: body["carried"].pop("schema"),
    ],
)
def test_a_manifest_that_does_not_add_up_is_refused(path, repository, change):
    """A manifest that is sealed but says what no manifest says is a ``MalformedDocumentError``."""
    rewritten(path, change)
    with pytest.raises(MalformedDocumentError):
        load(path)


def test_directories_that_changed_places_are_refused(path, repository):
    """A version that lies at the number of another is refused."""
    repository.register(Constant(2.0))
    (path / "versions/1").rename(path / "versions/x")
    (path / "versions/2").rename(path / "versions/1")
    (path / "versions/x").rename(path / "versions/2")
    with pytest.raises(MalformedDocumentError):
        load(path)


def test_a_version_of_another_repository_is_refused(tmp_path, repository):
    """A version that was taken from elsewhere has another digest, and its number alone loads nothing."""
    other = opened(tmp_path / "other").register(Constant(9.0))
    with pytest.raises(DigestMismatchError):
        repository.load_model(other)


def test_a_version_made_by_hand_is_loaded_by_its_id(repository):
    """A version without a digest stands for its id."""
    made = ModelVersion("1", ManualClock().now())
    assert repository.load_model(made) == Constant(1.0)


def survives(path: Path, file: Path, position: int, expected: object, **options) -> str | None:
    """Flip one byte; None where the load was refused or gave what was published, else what it gave."""
    data = file.read_bytes()
    file.write_bytes(data[:position] + bytes([data[position] ^ 0x41]) + data[position + 1 :])
    try:
        found = load(path, **options)
    except MlserveError:
        return None
    finally:
        file.write_bytes(data)
    return None if found == expected else f"{file.name} byte {position}: {found}"


def every_flip(path: Path, positions: list[tuple[Path, int]], **options) -> list[str]:
    expected = load(path, **options)
    results = [survives(path, file, position, expected, **options) for file, position in positions]
    return [result for result in results if result is not None]


def flips(path: Path) -> list[tuple[Path, int]]:
    return [(file, position) for file in files_of(path) for position in range(file.stat().st_size)]


@pytest.mark.parametrize("options", [{}, {"signer": SIGNER, "verifier": VERIFIER}], ids=["plain", "signed"])
def test_a_flipped_byte_never_gives_another_model(path, options):
    """Of a sample of the bytes of everything on disk, each flipped alone, none gives another model or example."""
    described(opened(path, **options))
    sample = random.Random(5).sample(flips(path), SAMPLED_BYTES)
    assert every_flip(path, sample, **options) == []


@pytest.mark.slow
def test_no_flipped_byte_ever_gives_another_model(path):
    """The same for every byte."""
    described(opened(path, signer=SIGNER, verifier=VERIFIER))
    assert every_flip(path, flips(path), signer=SIGNER, verifier=VERIFIER) == []


# ------------------------------------------------------------------------------------------------------------ the log


def entry_path(path: Path, generation: int) -> Path:
    return path / "log" / f"{generation:012d}.json"


def test_a_damaged_entry_is_refused(path, repository):
    """An entry whose bytes have changed is refused by whoever reads it."""
    entry_path(path, 2).write_bytes(entry_path(path, 2).read_bytes().replace(b"activate", b"activatE"))
    with pytest.raises(MalformedDocumentError):
        opened(path)


def test_a_missing_entry_is_found(path, repository):
    """An entry that is gone from the middle is a ``BrokenHistoryError`` when the log is added up."""
    entry_path(path, 1).unlink()
    with pytest.raises(BrokenHistoryError):
        opened(path).history()


def test_an_entry_of_another_log_is_refused(path, repository, tmp_path):
    """An entry that does not name the one before it by its hash is refused."""
    other = opened(tmp_path / "other")
    other.register(Constant(3.0))
    other.register(Constant(4.0))
    shutil.copy(entry_path(tmp_path / "other", 3), entry_path(path, 3))
    with pytest.raises(BrokenHistoryError):
        repository.get_latest_version()


def sealed_entry(path: Path, **changes) -> None:
    """Add a third entry that is sealed and names the second by its hash."""
    second = entry_path(path, 2).read_bytes()
    body = {**unsealed("entry", second, "entry"), "generation": 3, "previous": digest_of(second)}
    entry_path(path, 3).write_bytes(sealed("entry", {**body, **changes}))


@pytest.mark.parametrize(
    "changes",
    [
        {"action": "conquer"},
        {"version_id": "7"},
        {"latest": None},
        {"action": "retire", "latest": {"id": "1"}},
        {"action": "register", "data": {"version": {"id": "1"}}},
        {"action": "alias", "data": {}},
    ],
    ids=str,
)
def test_an_entry_that_cannot_follow_is_refused(path, repository, changes):
    """An entry that is sealed and linked but says what cannot have happened is a ``BrokenHistoryError``."""
    sealed_entry(path, **changes)
    with pytest.raises(BrokenHistoryError):
        repository.get_active_versions()


def test_an_entry_at_another_place_is_refused(path, repository):
    """The newest entry must carry the number of its file, even where only it is read."""
    sealed_entry(path, generation=4)
    with pytest.raises(BrokenHistoryError):
        opened(path)


def test_a_history_that_was_rewritten_is_noticed(path, repository):
    """An entry that was replaced by another after it was read is refused, though it is sealed and follows."""
    again = opened(path)
    body = unsealed("entry", entry_path(path, 2).read_bytes(), "entry")
    entry_path(path, 2).write_bytes(sealed("entry", {**body, "reason": "another"}))
    with pytest.raises(BrokenHistoryError):
        again.get_active_versions()
    body = unsealed("entry", entry_path(path, 1).read_bytes(), "entry")
    entry_path(path, 1).write_bytes(sealed("entry", {**body, "reason": "another"}))
    with pytest.raises(BrokenHistoryError):
        again.history()


def test_an_entry_that_is_seen_and_cannot_be_read_is_missing(path, repository):
    """A name without a file behind it is a ``BrokenHistoryError``, not an empty log."""

    class Haunted(Filesystem):
        def kind(self, name: str):
            return Kind.FILE if name.endswith("000000000003.json") else super().kind(name)

    with pytest.raises(BrokenHistoryError):
        opened(path, filesystem=Haunted())


def test_entries_are_applied_in_their_order():
    """An entry that is not the next one is refused by the state itself, wherever it was read."""
    with pytest.raises(BrokenHistoryError):
        State().apply({"generation": 2, "previous": ""}, "", "log/2")


def test_a_file_that_goes_while_it_is_read_is_missing(path, repository):
    """A file that is gone between the look and the reading is a ``MissingFileError``."""

    class Vanishing(Filesystem):
        def read(self, name: str, limit: int) -> bytes:
            return super().read(f"{name}.gone" if name.endswith(".npz") else name, limit)

    with pytest.raises(MissingFileError):
        load(path, filesystem=Vanishing())


def test_registering_twice_is_refused(path, repository):
    """An entry that registers a version a second time is refused."""
    body = unsealed("entry", entry_path(path, 1).read_bytes(), "entry")
    sealed_entry(path, action="register", data=body["data"])
    with pytest.raises(BrokenHistoryError):
        repository.get_active_versions()


# ------------------------------------------------------------------------------------------------------- the form


def test_a_newer_repository_is_refused(path, repository):
    """A directory that a newer mlserve made is a ``NewerFormatError`` that says which forms are known."""
    text = canonical({"format": FORMAT + 1, "kind": "repository"})
    (path / "repository.json").write_bytes(b'{"body":%b,"sha256":"%b"}\n' % (text, digest_of(text).encode()))
    with pytest.raises(NewerFormatError, match=f"form {FORMAT + 1}.*up to {FORMAT}"):
        opened(path)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b'{"body":{},"sha256":"x"}\n', b"\xff", b"[" * 100_000])
def test_a_document_that_is_none_is_refused(path, repository, data):
    """Whatever is not a sealed document is a ``MalformedDocumentError``."""
    (path / "repository.json").write_bytes(data)
    with pytest.raises(MalformedDocumentError):
        opened(path)


def test_a_document_must_be_spelled_as_it_was_sealed(path, repository):
    """The same content in other bytes is refused: no byte is without meaning."""
    file = path / "versions/1/manifest.json"
    file.write_bytes(json.dumps(json.loads(file.read_bytes())).encode())
    with pytest.raises(MalformedDocumentError):
        load(path)


@pytest.fixture(params=sorted(ASSETS.glob("format_*")), ids=lambda asset: asset.name)
def old(request, tmp_path) -> Path:
    return Path(shutil.copytree(request.param, tmp_path / "old"))


def test_every_old_form_is_still_read(old):
    """A repository of each form that was ever written opens, and everything in it is as it was."""
    repository = opened(old)
    assert repository.verify().problems == ()
    assert [version.id for version in repository.get_active_versions()] == ["3", "1"]
    assert repository.resolve_alias("champion").id == "1"
    description = repository.describe("1")
    assert description.example == [1.0, 2.0]
    assert description.schema.names == ("a", "b")
    assert dict(description.lineage) == {"parent": "0", "trigger": "drift"}
    np.testing.assert_array_equal(description.baseline.inputs.rows, [[1.0, 2.0], [3.0, 4.0]])
    assert description.baseline.metrics.accuracy == 0.9
    assert [repository.load_model(repository.get_version(one)) for one in "13"] == [Constant(1.0), Constant(3.0)]
    assert repository.history()[-1].reason == "worse"


def test_every_old_form_is_still_written(old):
    """A repository of each form that was ever written takes new versions."""
    repository = opened(old)
    assert described(repository, 5.0).id == "5"
    assert opened(old).verify().problems == ()


# ------------------------------------------------------------------------------------------------------ what is wrong


def test_verify_lists_every_problem(path, repository):
    """``verify`` goes on after a problem, and returns them all."""
    repository.register(Constant(2.0))
    repository.register(Constant(3.0))
    (path / "versions/1/model/arrays.npz").write_bytes(b"x")
    (path / "versions/3/model/arrays.npz").unlink()
    verification = repository.verify()
    assert [type(problem) for problem in verification.problems] == [FileSizeError, MissingFileError]
    assert (verification.checked, verification.is_sound) == (("1", "2", "3"), False)


def test_verify_can_be_asked_about_one_version(path, repository):
    """``verify`` of a version looks at this one only."""
    version = repository.register(Constant(2.0))
    (path / "versions/1/model/arrays.npz").write_bytes(b"x")
    assert repository.verify(version).is_sound
    assert not repository.verify("1").is_sound


def test_verify_finds_a_broken_log(path, repository):
    """``verify`` reads the log anew from its first entry."""
    entry_path(path, 1).write_bytes(entry_path(path, 1).read_bytes()[:-10])
    assert [type(problem) for problem in repository.verify().problems] == [MalformedDocumentError]


def test_a_disk_that_cannot_be_read_is_no_integrity_error(path, repository):
    """What the system raises while reading is a ``RepositoryUnavailableError`` that keeps the exception."""
    shutil.rmtree(path / "log")
    (path / "log").write_text("no directory")
    with pytest.raises(RepositoryUnavailableError) as caught:
        repository.get_latest_version()
    assert isinstance(caught.value.exception, NotADirectoryError)
    assert not isinstance(caught.value, IntegrityError)
