"""A store that is down, refuses or lies: errors of mlserve, and nothing that is half there."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from remote_doubles import ObjectFileSystem, new_store, remote

from mlserve import InMemoryModelMonitor, ModelServer
from mlserve.clocks import ManualClock
from mlserve.errors import (
    DigestMismatchError,
    ErrorKind,
    FileSizeError,
    InvalidArgumentError,
    MalformedDocumentError,
    MissingFileError,
    RepositoryUnavailableError,
    RepositoryWriteError,
    UnexpectedFileError,
    UnsignedVersionError,
    UntrustedModelError,
)
from mlserve.integrations.remote import RemoteModelRepository
from mlserve.repositories import HmacSigner, HmacVerifier, ModelFormat
from mlserve.testing import ConstantModel

ROOT = Path(__file__).parents[2]
MODEL = "models/versions/1/model/model.pickle"
MANIFEST = "models/versions/1/manifest.json"
KEY = bytes(range(32))


def opened(store: ObjectFileSystem, clock: Any = None, **options: Any) -> RemoteModelRepository[Any]:
    return remote(store, clock, **{"trust": True, **options})


def stored() -> ObjectFileSystem:
    store = new_store()
    opened(store).register(ConstantModel(1.0))
    return store


class NoStoreError(Exception):
    """What a client raises that is no ``OSError``, as botocore's errors are."""


def failing(store: ObjectFileSystem, error: BaseException, part: str = "") -> None:
    def fail(operation: str, name: str) -> None:
        if part in name:
            raise error

    store.bucket.before = fail


# ------------------------------------------------------------------------------------------------------- the store


@pytest.mark.parametrize("error", [ConnectionError("down"), PermissionError("403"), TimeoutError(), NoStoreError("x")])
def test_a_store_that_cannot_be_read_is_unavailable(error: BaseException) -> None:
    """Whatever is raised while the store is read is a ``RepositoryUnavailableError`` that names it."""
    store = stored()
    repository = opened(store)
    failing(store, error)
    with pytest.raises(RepositoryUnavailableError, match=type(error).__name__):
        repository.get_latest_version()


@pytest.mark.parametrize("part", ["manifest.json", "model/", "/log/000000000003"])
@pytest.mark.parametrize("error", [ConnectionError("down"), PermissionError("403"), NoStoreError("x")])
def test_a_store_that_cannot_be_written_publishes_nothing(error: BaseException, part: str) -> None:
    """An upload that fails anywhere is a ``RepositoryWriteError``, and no reader sees a part of it."""
    store = stored()
    repository = opened(store)

    def fail(operation: str, name: str) -> None:
        if operation in ("put", "create") and part in name:
            raise error

    store.bucket.before = fail
    with pytest.raises(RepositoryWriteError, match=type(error).__name__):
        repository.register(ConstantModel(2.0))
    store.bucket.before = lambda operation, name: None
    again = opened(store)
    assert [version.id for version in again.get_active_versions()] == ["1"]
    assert again.verify().problems == ()
    assert opened(store).load_model(again.register(ConstantModel(3.0))) == ConstantModel(3.0)


def test_a_failed_upload_leaves_nothing() -> None:
    """What was uploaded before an upload failed is deleted again."""
    store = stored()
    repository = opened(store)
    failing(store, ConnectionError("down"), "versions/2/model/")
    with pytest.raises(RepositoryWriteError):
        repository.register(ConstantModel(2.0))
    assert not any("versions/2" in name for name in store.bucket.objects)


def test_a_store_that_is_down_from_the_beginning_is_said() -> None:
    """A repository that cannot be opened says why."""
    store = new_store()
    failing(store, ConnectionError("down"))
    with pytest.raises(RepositoryWriteError, match="down"):
        opened(store)


def no_bucket() -> OSError:
    """What s3fs makes of the answer that there is no such bucket."""
    answer = NoStoreError("NoSuchBucket")
    answer.response = {"Error": {"Code": "NoSuchBucket"}}  # type: ignore[attr-defined]  # as botocore's errors have it
    error = FileNotFoundError("The specified bucket does not exist")
    error.__cause__ = answer
    return error


def test_a_bucket_that_vanished_is_no_empty_repository() -> None:
    """A missing bucket in the middle of things is not taken for a missing object, which only means no news."""
    store = stored()
    repository = opened(store)
    failing(store, no_bucket())
    with pytest.raises(RepositoryUnavailableError, match="bucket"):
        repository.get_latest_version()


def test_a_bucket_that_vanished_is_no_empty_folder() -> None:
    """A missing bucket is not taken for a folder in which nothing lies."""
    store = new_store()
    repository = opened(store)
    failing(store, no_bucket(), "models/versions")
    with pytest.raises(RepositoryUnavailableError, match="bucket"):
        repository.verify()


def test_the_end_of_a_long_log_is_found_without_the_hint() -> None:
    """A repository whose hint is gone finds the newest entry all the same."""
    store = stored()
    opened(store).set_alias("champion", "1")
    del store.bucket.objects["models/CURRENT"]
    assert opened(store).statistics().generation == 3


def test_a_server_goes_on_with_what_it_has() -> None:
    """A server whose store is down answers with the loaded version; one that has none says what is wrong."""
    store, clock = stored(), ManualClock()
    server = ModelServer(opened(store), InMemoryModelMonitor(clock=clock), clock=clock)
    assert server.predict([1.0, 2.0]).value == 1.0
    cold = ModelServer(opened(store), InMemoryModelMonitor(clock=clock), clock=clock)
    failing(store, ConnectionError("down"))
    assert server.predict([1.0, 2.0]).value == 1.0
    error = cold.predict([1.0, 2.0]).error
    assert error is not None
    assert error.kind is ErrorKind.RepositoryUnavailable


# ---------------------------------------------------------------------------------------------------- what is stored


def load(store: ObjectFileSystem, **options: Any) -> Any:
    repository = opened(store, **options)
    return repository.load_model(repository.get_latest_version())


def test_other_bytes_are_refused() -> None:
    """Bytes that are not those that were published are not made a model of."""
    store = stored()
    harmless = store.bucket.objects[MODEL]
    store.bucket.objects[MODEL] = harmless[:-1] + bytes([harmless[-1] ^ 1])
    with pytest.raises(DigestMismatchError):
        load(store)


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x"])
def test_another_length_is_refused(change: Any) -> None:
    """A file that is shorter or longer than it was published is refused."""
    store = stored()
    store.bucket.objects[MODEL] = change(store.bucket.objects[MODEL])
    with pytest.raises(FileSizeError):
        load(store)


@pytest.mark.parametrize("name", [MODEL, MANIFEST])
def test_a_missing_object_is_named(name: str) -> None:
    """A version of which an object is gone is refused, by the object's name."""
    store = stored()
    del store.bucket.objects[name]
    with pytest.raises(MissingFileError, match=name.removeprefix("models/")):
        load(store)


def test_a_damaged_manifest_is_refused() -> None:
    """A manifest of which one byte changed is refused."""
    store = stored()
    store.bucket.objects[MANIFEST] = store.bucket.objects[MANIFEST].replace(b"test", b"tesT")
    with pytest.raises(MalformedDocumentError):
        load(store)


def test_what_was_not_published_is_refused() -> None:
    """An object among those of a version that was not published is refused, by its name."""
    store = stored()
    store.bucket.objects["models/versions/1/model/other.pickle"] = pickle.dumps(print)
    with pytest.raises(UnexpectedFileError, match=r"versions/1/model/other\.pickle"):
        load(store)


def test_everything_wrong_is_told_by_verify() -> None:
    """``verify`` reads every byte, past the cache, and returns what is wrong."""
    store = stored()
    store.bucket.objects[MODEL] += b"x"
    assert [type(problem) for problem in opened(store).verify().problems] == [FileSizeError]


def test_code_is_run_only_by_trust() -> None:
    """A pickle from a store is loaded only where somebody said that it may be."""
    with pytest.raises(UntrustedModelError):
        load(stored(), trust=False)


def test_an_unsigned_version_is_refused() -> None:
    """A repository with a verifier serves nothing that is not signed."""
    with pytest.raises(UnsignedVersionError):
        load(stored(), trust=False, verifier=HmacVerifier({"key": KEY}))


def test_a_signed_version_is_served() -> None:
    """What a signer published, the verifier accepts, and it may run code."""
    store = new_store()
    opened(store, trust=False, signer=HmacSigner("key", KEY)).register(ConstantModel(2.0))
    assert load(store, trust=False, verifier=HmacVerifier({"key": KEY})) == ConstantModel(2.0)


class Nothing(ModelFormat):
    """A format of which one file is empty."""

    name = "nothing"
    runs_code = False

    def accepts(self, model):
        return model is None

    def save(self, model):
        return {"empty": b""}

    def load(self, files, *, trusted):
        return files["empty"]


def test_an_empty_file_can_be_loaded() -> None:
    """A file of no bytes, in which no range can be read, comes back."""
    store = new_store()
    repository = opened(store, formats=[Nothing()])
    assert repository.load_model(repository.register(None)) == b""


# --------------------------------------------------------------------------------------------------------- the cache


def downloads(store: ObjectFileSystem) -> list[str]:
    return [name for operation, name in store.bucket.operations if operation == "get" and "model/" in name]


def test_a_model_is_downloaded_once(tmp_path) -> None:
    """With a cache the files of a model are downloaded once, whoever loads them."""
    store = stored()
    for _ in range(3):
        assert load(store, cache_directory=tmp_path / "cache") == ConstantModel(1.0)
    assert downloads(store) == [MODEL]


def test_without_a_cache_a_model_is_downloaded_each_time() -> None:
    """Without a cache nothing is kept."""
    store = stored()
    load(store)
    load(store)
    assert downloads(store) == [MODEL] * 2


def test_a_damaged_copy_is_downloaded_again(tmp_path, caplog) -> None:
    """A cached file of other bytes is not made a model of: it is removed, logged and downloaded again."""
    store = stored()
    load(store, cache_directory=tmp_path)
    (copy,) = tmp_path.iterdir()
    for damaged in (b"harm" * 100, b""):
        copy.write_bytes(damaged)
        assert load(store, cache_directory=tmp_path) == ConstantModel(1.0)
    assert "was damaged" in caplog.text
    assert copy.read_bytes() == store.bucket.objects[MODEL]


def test_what_was_used_least_recently_goes(tmp_path) -> None:
    """A cache that is full forgets what was used least recently."""
    store = new_store()
    repository = opened(store)
    versions = [repository.register(ConstantModel(float(number))) for number in range(3)]
    size = max(len(data) for name, data in store.bucket.objects.items() if "model/" in name)
    cached = opened(store, cache_directory=tmp_path, cache_bytes=2 * size)
    for age, version in zip((300, 200), versions, strict=False):
        before = set(tmp_path.iterdir())
        cached.load_model(version)
        (copy,) = set(tmp_path.iterdir()) - before
        os.utime(copy, (copy.stat().st_mtime - age,) * 2)
    cached.load_model(versions[0])
    cached.load_model(versions[2])
    store.bucket.operations.clear()
    for version in (versions[0], versions[2]):
        cached.load_model(version)
    assert downloads(store) == []
    cached.load_model(versions[1])
    assert downloads(store) == ["models/versions/2/model/model.pickle"]


def test_what_is_longer_than_the_cache_is_not_kept(tmp_path) -> None:
    """A file that is longer than the whole cache is loaded and not kept."""
    assert load(stored(), cache_directory=tmp_path, cache_bytes=1) == ConstantModel(1.0)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_used_costs_a_download(tmp_path, caplog) -> None:
    """Where the cache can be neither read nor written, models are loaded all the same, and it is logged."""
    (tmp_path / "file").touch()
    assert load(stored(), cache_directory=tmp_path / "file") == ConstantModel(1.0)
    assert "reading the cache" in caplog.text
    assert "writing the cache" in caplog.text


def test_a_cache_that_is_full_keeps_no_part(tmp_path, caplog, monkeypatch) -> None:
    """A copy that could not be finished is removed."""
    monkeypatch.setattr(os, "replace", lambda source, target: (_ for _ in ()).throw(OSError("no space")))
    assert load(stored(), cache_directory=tmp_path) == ConstantModel(1.0)
    assert "no space" in caplog.text
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("parameter", "arguments", "options"),
    [
        ("location", ("models",), {}),
        ("location", ("memory://a", "b"), {}),
        ("location", (None,), {}),
        ("location", ("nowhere://a",), {}),
        ("path", (MemoryFileSystem(),), {}),
        ("path", (MemoryFileSystem(), ""), {}),
        ("path", (MemoryFileSystem(), "a"), {"storage_options": {"key": "k"}}),
        ("cache_bytes", ("memory://a",), {"cache_bytes": 0}),
        ("follow_seconds", ("memory://a",), {"follow_seconds": -1}),
    ],
)
def test_a_wrong_argument_is_named(parameter: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    """What cannot mean a store, a folder or a number is refused by name."""
    with pytest.raises(InvalidArgumentError) as caught:
        RemoteModelRepository(*arguments, **options)
    assert caught.value.parameter == parameter


def test_a_folder_of_something_else_is_refused() -> None:
    """A folder in which other things lie is not made a repository."""
    store = new_store()
    store.bucket.objects["models/readme.txt"] = b"other things"
    with pytest.raises(InvalidArgumentError, match="empty or missing"):
        opened(store)


def test_options_reach_the_file_system() -> None:
    """``storage_options`` are the options of the file system, and listings are never kept."""
    fsspec.register_implementation("double", ObjectFileSystem, clobber=True)
    repository = RemoteModelRepository("double://bucket/models", storage_options={"bucket": "options", "speed": 1})
    made = repository._store._fs
    assert (made.storage_options["speed"], made.storage_options["use_listings_cache"]) == (1, False)


def test_files_that_a_killed_process_left_are_cleared_up(tmp_path) -> None:
    """On this machine's disk what was being written lies in the staging directory, from where ``repair`` takes it."""
    repository = RemoteModelRepository(tmp_path.as_uri(), trust=True)
    repository.register(ConstantModel(1.0))
    left = "staging/20200101T000000-0123456789abcdef-object"
    (tmp_path / left).touch()
    assert repository.verify().leftovers == (left,)
    assert repository.repair().removed == (left,)
    assert list((tmp_path / "staging").iterdir()) == []


def test_a_store_needs_no_directories() -> None:
    """What answers as a file system makes and removes no directory: a name with slashes is all that a store has."""
    store = stored()
    before = dict(store.bucket.objects)
    filesystem = opened(store)._layout.filesystem
    filesystem.mkdir("new")
    filesystem.rmdir("log")
    filesystem.fsync_directory("log")
    assert store.bucket.objects == before


def test_a_leftover_elsewhere_is_moved_and_removed() -> None:
    """What lies in the staging folder of a copied repository is removed in a store, too: objects and folders."""
    store = stored()
    left = [f"staging/20200101T000000-0123456789abcde{digit}-publish" for digit in "ef"]
    store.bucket.objects[f"models/{left[0]}"] = b"left"
    store.bucket.objects[f"models/{left[1]}/model/model.pickle"] = b"left"
    assert opened(store).repair().removed == tuple(left)
    assert not any("staging" in name for name in store.bucket.objects)


# ------------------------------------------------------------------------------------------------------- processes


FORK = """
import os, sys
sys.path.insert(0, sys.argv[1])
from mlserve.integrations.remote import RemoteModelRepository
repository = RemoteModelRepository("memory://fork/models", actor="parent", follow_seconds=0)
first = repository._store._fs
child = os.fork()
if child == 0:
    import numpy as np
    again = repository._store._fs
    version = repository.register({"weights": np.array([1.0])})
    os._exit(0 if version.id == "1" and type(again) is type(first) and repository._store._process == os.getpid() else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_connects_anew() -> None:
    """A child of a fork makes a connection of its own and goes on."""
    ran = subprocess.run([sys.executable, "-c", FORK, str(ROOT)], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["0"], ran.stderr


def test_another_process_id_means_another_connection(monkeypatch) -> None:
    """A connection is never used by another process than the one that made it."""
    repository = opened(stored())
    before = repository._store._fs
    monkeypatch.setattr(repository._store, "_process", -1)
    assert repository._store._fs is not before
    assert repository.get_latest_version().id == "1"


MISSING = """
import sys
sys.path.insert(0, sys.argv[1])
sys.modules["fsspec"] = None
from mlserve.errors import MissingExtraError
try:
    import mlserve.integrations.remote
except MissingExtraError as error:
    print(error.extra, error.package)
"""


def test_a_missing_package_is_named() -> None:
    """Without fsspec the import says which extra installs it."""
    ran = subprocess.run([sys.executable, "-c", MISSING, str(ROOT)], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["remote", "fsspec"]
