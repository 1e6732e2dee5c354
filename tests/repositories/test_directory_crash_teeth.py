"""The checks for crashes find the bugs that such a protocol can have: a test of the tests."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from crashes import (
    BY_NAME,
    check_crashes,
    check_crashes_behind_a_killed_writer,
    check_order,
    published_operations,
)

from mlserve.errors import MlserveError
from mlserve.repositories import _log, _versions
from mlserve.repositories._layout import LOG, VERSIONS
from mlserve.testing import SimulatedDisk

Patch = Callable[[pytest.MonkeyPatch], None]


def without_sync_of(ending: str) -> Patch:
    """Files whose path ends like this are never synced."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        right = SimulatedDisk.fsync

        def fsync(disk: SimulatedDisk, handle: int) -> None:
            if not disk._handles[handle][1].endswith(ending):
                right(disk, handle)

        monkeypatch.setattr(SimulatedDisk, "fsync", fsync)

    return patch


def without_sync_of_directory(named: Callable[[str], bool]) -> Patch:
    """Directories whose path is such are never synced."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        right = SimulatedDisk.fsync_directory

        def fsync_directory(disk: SimulatedDisk, path: str) -> None:
            if not named(path):
                right(disk, path)

        monkeypatch.setattr(SimulatedDisk, "fsync_directory", fsync_directory)

    return patch


def entries_linked_before_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name first, the bytes and their sync then."""
    right_write, right_link = _log.write_file, SimulatedDisk.link
    waiting: dict[str, bytes] = {}

    def write_file(filesystem, path, data, *, durable=True):
        if path.endswith("-entry"):
            filesystem.close(filesystem.create(path))
            waiting[path] = data
        else:
            right_write(filesystem, path, data, durable=durable)

    def link(disk, source, target):
        right_link(disk, source, target)
        data = waiting.pop(source, None)
        if data is not None:
            handle = len(disk._handles)
            disk.write(handle, memoryview(data))
            disk.fsync(handle)

    monkeypatch.setattr(_log, "write_file", write_file)
    monkeypatch.setattr(SimulatedDisk, "link", link)


def registered_before_it_is_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The directories of the versions are synced only at the very end: after the log has named the version."""
    right, right_link = SimulatedDisk.fsync_directory, SimulatedDisk.link
    late: list[str] = []
    named: list[str] = []

    def fsync_directory(disk: SimulatedDisk, path: str) -> None:
        if path.endswith(VERSIONS):
            late.append(path)
            named.clear()
            return
        right(disk, path)
        if path.endswith(LOG) and named and late:
            right(disk, late.pop())

    def link(disk: SimulatedDisk, source: str, target: str) -> None:
        right_link(disk, source, target)
        named.append(target)

    monkeypatch.setattr(SimulatedDisk, "fsync_directory", fsync_directory)
    monkeypatch.setattr(SimulatedDisk, "link", link)


def manifest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest is put in its place before the files that it names are written."""
    right = _versions.write_file
    waiting: list[tuple[str, bytes]] = []

    def write_file(filesystem, path, data, *, durable=True):
        if path.endswith("manifest.json"):
            right(filesystem, path, data)
            for name, content in waiting:
                right(filesystem, name, content)
            waiting.clear()
        else:
            waiting.append((path, data))

    monkeypatch.setattr(_versions, "write_file", write_file)


def target_made_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number is taken by making its directory, into which the version is moved then."""
    right = SimulatedDisk.rename

    def rename(disk: SimulatedDisk, source: str, target: str) -> None:
        if f"/{VERSIONS}/" in target and disk.kind(target) is None:
            disk.mkdir(target)
        right(disk, source, target)

    monkeypatch.setattr(SimulatedDisk, "rename", rename)


def copied_instead_of_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are written where they stay, one after the other."""
    right = SimulatedDisk.rename

    def rename(disk: SimulatedDisk, source: str, target: str) -> None:
        if f"/{VERSIONS}/" not in target:
            right(disk, source, target)
            return
        if disk.kind(target) is not None:
            right(disk, source, target)
        disk.mkdir(target)
        for name in disk.listdir(source):
            right(disk, f"{source}/{name}", f"{target}/{name}")
        with contextlib.suppress(OSError):
            disk.rmdir(source)

    monkeypatch.setattr(SimulatedDisk, "rename", rename)


BEHAVIOUR: dict[str, tuple[str, Patch]] = {
    "model never synced": ("publish", without_sync_of("arrays.npz")),
    "manifest never synced": ("publish", without_sync_of("manifest.json")),
    "entry never synced": ("alias", without_sync_of("-entry")),
    "log directory never synced": ("alias", without_sync_of_directory(lambda path: path.endswith(f"/{LOG}"))),
    "versions directory never synced": ("publish", without_sync_of_directory(lambda path: path.endswith(VERSIONS))),
    "staged directory never synced": ("publish", without_sync_of_directory(lambda path: path.endswith("-publish"))),
    "model directory never synced": ("publish", without_sync_of_directory(lambda path: path.endswith("/model"))),
    "entry linked before it is written": ("alias", entries_linked_before_they_are_written),
    "registered before it is in its place": ("publish", registered_before_it_is_in_its_place),
    "copied instead of moved": ("publish", copied_instead_of_moved),
}

ORDER: dict[str, Patch] = {
    **{name: patch for name, (action, patch) in BEHAVIOUR.items() if action == "publish"},
    "manifest first": manifest_first,
    "target made before": target_made_before,
}


@pytest.mark.parametrize("bug", BEHAVIOUR)
def test_crashes_find_a_protocol_bug(monkeypatch, bug):
    """With a bug put in, a crash somewhere leaves a repository that is not whole, and the check says so."""
    action, patch = BEHAVIOUR[bug]
    patch(monkeypatch)
    with pytest.raises(Exception) as caught:  # an assertion, or the repository's own refusal
        check_crashes(BY_NAME[action])
    assert not isinstance(caught.value, (AttributeError, NameError, TypeError))


def test_a_gap_in_the_log_is_found(monkeypatch):
    """Where a writer does not make another's entry durable before its own, a crash leaves a gap, which is found."""
    right = SimulatedDisk.fsync_directory

    def fsync_directory(disk: SimulatedDisk, path: str) -> None:
        if not path.endswith(f"/{LOG}") or disk.operations[-1][0] == "link":
            right(disk, path)

    monkeypatch.setattr(SimulatedDisk, "fsync_directory", fsync_directory)
    with pytest.raises((AssertionError, MlserveError)):
        check_crashes_behind_a_killed_writer()


@pytest.mark.parametrize("bug", ORDER)
def test_the_order_of_operations_finds_a_protocol_bug(monkeypatch, bug):
    """With a bug put in, the operations of a publication come in an order that the check refuses."""
    ORDER[bug](monkeypatch)
    with pytest.raises((AssertionError, ValueError)):
        check_order(published_operations())


def test_without_a_bug_there_is_nothing_to_find():
    """The checks pass on the repository as it is."""
    check_order(published_operations())
    assert check_crashes(BY_NAME["alias"]) > 10
