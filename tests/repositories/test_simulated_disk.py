"""The disk that the crashes are tried on keeps to the letter of POSIX, and the file system of the machine agrees."""

from __future__ import annotations

import errno
import os

import pytest

from mlserve.repositories import Filesystem, Kind
from mlserve.repositories._filesystem import make_directories, remove_tree, write_file
from mlserve.testing import PowerLoss, SimulatedDisk


@pytest.fixture(params=["simulated", "real"])
def place(request, tmp_path):
    """A file system and an empty directory on it."""
    if request.param == "real":
        return Filesystem(), str(tmp_path)
    disk = SimulatedDisk()
    disk.mkdir("/place")
    return disk, "/place"


def written(filesystem, path: str, data: bytes = b"data", *, durable: bool = False) -> str:
    write_file(filesystem, path, data, durable=durable)
    return path


# ------------------------------------------------------------------------------------------ both do the same


def test_a_file_comes_back(place):
    """What was written is read, and no more than a byte beyond the limit."""
    filesystem, root = place
    path = written(filesystem, f"{root}/a")
    assert (filesystem.read(path, 100), filesystem.read(path, 4), filesystem.read(path, 2)) == (
        b"data",
        b"data",
        b"dat",
    )
    assert filesystem.kind(path) is Kind.FILE


def test_nothing_is_there_at_first(place):
    """What is not there has no kind and cannot be read, listed, linked, moved or removed."""
    filesystem, root = place
    assert filesystem.kind(f"{root}/a") is filesystem.kind(f"{root}/a/b") is None
    for fails in (
        lambda: filesystem.read(f"{root}/a", 1),
        lambda: filesystem.listdir(f"{root}/a"),
        lambda: filesystem.unlink(f"{root}/a"),
        lambda: filesystem.rename(f"{root}/a", f"{root}/b"),
        lambda: filesystem.link(f"{root}/a", f"{root}/b"),
        lambda: filesystem.create(f"{root}/a/b"),
    ):
        with pytest.raises(FileNotFoundError):
            fails()


def test_what_is_there_is_not_made_again(place):
    """Creating, linking or making onto something is ``FileExistsError``, and leaves it."""
    filesystem, root = place
    path, other = written(filesystem, f"{root}/a"), written(filesystem, f"{root}/b", b"other")
    for fails in (
        lambda: filesystem.create(path),
        lambda: filesystem.mkdir(path),
        lambda: filesystem.link(other, path),
    ):
        with pytest.raises(FileExistsError):
            fails()
    assert filesystem.read(path, 10) == b"data"


def test_a_link_is_another_name(place):
    """A link outlives the name it was made of."""
    filesystem, root = place
    path = written(filesystem, f"{root}/a")
    filesystem.link(path, f"{root}/b")
    filesystem.unlink(path)
    assert filesystem.read(f"{root}/b", 10) == b"data"


def test_a_file_is_moved_onto_a_file(place):
    """Renaming a file replaces the file that was there."""
    filesystem, root = place
    filesystem.rename(written(filesystem, f"{root}/a"), written(filesystem, f"{root}/b", b"old"))
    assert filesystem.read(f"{root}/b", 10) == b"data"
    assert filesystem.kind(f"{root}/a") is None


@pytest.mark.parametrize("there", ["file", "full"])
def test_a_directory_is_moved_onto_nothing_only(place, there):
    """Renaming a directory onto a file or a directory with content is ``FileExistsError``."""
    filesystem, root = place
    filesystem.mkdir(f"{root}/a")
    if there == "file":
        written(filesystem, f"{root}/b")
    else:
        filesystem.mkdir(f"{root}/b")
        written(filesystem, f"{root}/b/c")
    with pytest.raises(FileExistsError):
        filesystem.rename(f"{root}/a", f"{root}/b")
    assert filesystem.kind(f"{root}/a") is Kind.DIRECTORY


def test_a_file_is_not_moved_onto_a_directory(place):
    """Renaming a file onto a directory is an error."""
    filesystem, root = place
    filesystem.mkdir(f"{root}/a")
    with pytest.raises(OSError):
        filesystem.rename(written(filesystem, f"{root}/b"), f"{root}/a")
    assert filesystem.kind(f"{root}/b") is Kind.FILE


def test_directories_and_files_are_told_apart(place):
    """A directory is not read or unlinked, a file is not listed or removed as a directory, and has nothing below."""
    filesystem, root = place
    path = written(filesystem, f"{root}/a")
    for fails in (
        lambda: filesystem.read(root, 1),
        lambda: filesystem.unlink(root),
        lambda: filesystem.listdir(path),
        lambda: filesystem.rmdir(path),
        lambda: filesystem.rmdir(root),
        lambda: filesystem.create(f"{path}/b"),
    ):
        with pytest.raises(OSError):
            fails()
    assert filesystem.kind(f"{path}/b") is None


def test_a_tree_is_made_and_removed(place):
    """Directories are made with those above them, once, and removed with what is below."""
    filesystem, root = place
    for _ in range(2):
        make_directories(filesystem, f"{root}/a/b/c")
    written(filesystem, f"{root}/a/b/file")
    assert sorted(filesystem.listdir(f"{root}/a/b")) == ["c", "file"]
    for _ in range(2):
        remove_tree(filesystem, f"{root}/a")
    assert filesystem.listdir(root) == []


def test_a_directory_made_by_another_meanwhile_is_taken(place):
    """Where another process makes the directory between the look and the making, it is as good."""
    filesystem, root = place

    class Overtaken:
        def __getattr__(self, name):
            return getattr(filesystem, name)

        def kind(self, path):
            return None if path.endswith("/a") else filesystem.kind(path)

    filesystem.mkdir(f"{root}/a")
    make_directories(Overtaken(), f"{root}/a")
    assert filesystem.listdir(root) == ["a"]


def test_links_are_seen_as_links(tmp_path):
    """On the real file system a symbolic link is neither file nor directory, and is not read through."""
    (tmp_path / "file").write_bytes(b"data")
    os.symlink(tmp_path / "file", tmp_path / "link")
    assert Filesystem().kind(str(tmp_path / "link")) is Kind.OTHER
    with pytest.raises(OSError):
        Filesystem().read(str(tmp_path / "link"), 10)


def test_directories_are_not_synced_where_they_cannot_be_opened(monkeypatch, tmp_path):
    """On Windows, which keeps names itself, syncing a directory does nothing."""
    monkeypatch.setattr("mlserve.repositories._filesystem.WINDOWS", True)
    monkeypatch.setattr(os, "fsync", lambda handle: pytest.fail("opened"))
    Filesystem().fsync_directory(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------- what survives


@pytest.fixture
def disk() -> SimulatedDisk:
    disk = SimulatedDisk()
    make_directories(disk, "/place")
    return disk


def test_bytes_and_names_are_durable_apart(disk):
    """A synced file without a synced name is lost; a synced name without synced bytes is empty."""
    written(disk, "/place/a", durable=True)
    assert disk.after_crash("nothing").listdir("/place") == []
    written(disk, "/place/b")
    disk.fsync_directory("/place")
    after = disk.after_crash("nothing")
    assert (after.read("/place/a", 10), after.read("/place/b", 10)) == (b"data", b"")


def test_a_killed_process_loses_nothing(disk):
    """Where only the process was killed, everything it did is there."""
    written(disk, "/place/a")
    assert disk.after_crash("everything").read("/place/a", 10) == b"data"


def test_some_survives_in_every_way(disk):
    """What was not synced is lost, kept, empty or torn, one way or another by the seed."""
    written(disk, "/place/a", b"0123456789")
    found = set()
    for seed in range(200):
        after = disk.after_crash("some", seed)
        found.add(after.read("/place/a", 100) if after.listdir("/place") else None)
    assert {None, b"", b"0123456789", b"01234", b"01234" + bytes(5)} <= found


def test_a_rename_is_done_or_not(disk):
    """After a crash a renamed file has one of its names, never both, never none."""
    written(disk, "/place/a", durable=True)
    disk.fsync_directory("/place")
    disk.mkdir("/place/b")
    disk.fsync_directory("/place")
    disk.rename("/place/a", "/place/b/a")
    found = set()
    for seed in range(50):
        after = disk.after_crash("some", seed)
        found.add((after.kind("/place/a"), after.kind("/place/b/a")))
    assert found == {(Kind.FILE, None), (None, Kind.FILE)}
    disk.fsync_directory("/place/b")
    assert disk.after_crash("nothing").kind("/place/b/a") is Kind.FILE
    assert disk.after_crash("nothing").kind("/place/a") is None


def test_a_name_that_was_moved_away_does_not_come_back(disk):
    """Syncing the target of a rename also settles what was done to the old name before."""
    disk.mkdir("/place/a")
    disk.mkdir("/place/b")
    disk.fsync_directory("/place")
    disk.mkdir("/place/a/new")
    disk.rename("/place/a/new", "/place/b/new")
    disk.fsync_directory("/place/b")
    disk.fsync_directory("/place/a")
    after = disk.after_crash("nothing")
    assert (after.listdir("/place/a"), after.listdir("/place/b")) == ([], ["new"])


def test_links_survive_as_links(disk):
    """A file with two names is one file after a crash and in a copy."""
    written(disk, "/place/a", durable=True)
    disk.link("/place/a", "/place/b")
    disk.fsync_directory("/place")
    after = disk.copy().after_crash("nothing")
    assert after._node("/place/a") is after._node("/place/b")


def test_the_power_fails_for_good(disk):
    """After the operation that was named nothing can be done any more, not even reading or clearing up."""
    disk.crash_after = disk.changes + 2
    handle = disk.create("/place/a")
    with pytest.raises(PowerLoss):
        disk.write(handle, memoryview(b"data"))
    for fails in (lambda: disk.listdir("/place"), lambda: disk.unlink("/place/a"), lambda: disk.close(handle)):
        with pytest.raises(PowerLoss):
            fails()
    assert disk.after_crash("everything").read("/place/a", 10) == b"data"


def test_an_operation_fails_once(disk):
    """An operation that was named fails with its error; the next one does not."""
    disk.fail_at = {len(disk.operations) + 1: errno.EIO}
    with pytest.raises(OSError) as caught:
        disk.listdir("/place")
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, "/place")
    assert disk.listdir("/place") == []


def test_a_full_disk_stays_full(disk):
    """A disk that keeps failing refuses whatever changes it, takes half of a write, and can still be read."""
    handle = disk.create("/place/a")
    disk.fail_at, disk.keeps_failing = {len(disk.operations) + 1: errno.ENOSPC}, True
    for fails in (lambda: disk.write(handle, memoryview(b"data")), lambda: disk.mkdir("/place/b")):
        with pytest.raises(OSError) as caught:
            fails()
        assert caught.value.errno == errno.ENOSPC
    assert disk.read("/place/a", 10) == b"da"
