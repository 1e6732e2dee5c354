"""A disk in memory that crashes, fills up and breaks on demand, for those who keep files of their own."""

from __future__ import annotations

import errno
import os
import random
import threading
from typing import Literal, final

import attrs
from typing_extensions import override

from mlserve.repositories import Filesystem, Kind

CHANGING = frozenset({"create", "write", "fsync", "mkdir", "rename", "link", "unlink", "rmdir", "fsync_directory"})
"""The operations after which a crash can leave something else than before."""

Survival = Literal["nothing", "everything", "some"]


class PowerLoss(BaseException):
    """The machine of a ``SimulatedDisk`` went down. No ``Exception``: nothing in the program may catch it."""


@attrs.define(eq=False)
class _File:
    data: bytes = b""
    synced: bytes = b""


@attrs.define(eq=False)
class _Directory:
    entries: dict[str, _File | _Directory] = attrs.field(factory=dict)
    durable: dict[str, _File | _Directory] = attrs.field(factory=dict)


_Node = _File | _Directory


@attrs.frozen(eq=False)
class _Change:
    """What one operation changes: names in directories, all or none of them durable. The last one is its target."""

    names: tuple[tuple[_Directory, str, _Node | None], ...]

    def touches(self, directory: _Directory, name: str) -> bool:
        return any(at is directory and one == name for at, one, _ in self.names)

    def make_durable(self) -> None:
        for directory, name, node in self.names:
            directory.durable.pop(name, None)
            if node is not None:
                directory.durable[name] = node


@final
class SimulatedDisk(Filesystem):
    """A ``Filesystem`` that keeps to the letter of POSIX: only what was synced is sure to survive a crash.

    The bytes of a file survive from the last ``fsync`` of the file; a name survives from the last ``fsync_directory``
    of the directory that holds it; what was done since survives in part. A rename is done or not done, never half.

    *Thread safety*: yes.

    Attributes:
        operations: What was done, as a name and its paths, oldest first; reading included.
        crash_after: The power fails once so many changing operations are done; None for never.
        fail_at: Operations that fail: the error number by position in ``operations``, from 1.
        keeps_failing: Whether, after a failure, every further operation that writes fails alike.
        max_write: At most so many bytes are taken by one ``write``; None for all.

    Example:
        >>> disk = SimulatedDisk()
        >>> handle = disk.create("/note")
        >>> written = disk.write(handle, memoryview(b"text"))
        >>> disk.after_crash("nothing").kind("/note") is None
        True
        >>> disk.fsync(handle)
        >>> disk.fsync_directory("/")
        >>> disk.after_crash("nothing").read("/note", 100)
        b'text'
    """

    def __init__(self) -> None:
        self.operations: list[tuple[str, ...]] = []
        self.crash_after: int | None = None
        self.fail_at: dict[int, int] = {}
        self.keeps_failing = False
        self.max_write: int | None = None
        self._root = _Directory()
        self._pending: list[_Change] = []
        self._handles: dict[int, tuple[_File, str]] = {}
        self._changes = 0
        self._is_down = False
        self._failure: int | None = None
        self._lock = threading.RLock()

    # ------------------------------------------------------------------------------------------------- crashing

    @property
    def changes(self) -> int:
        """How many changing operations were done."""
        return self._changes

    def copy(self) -> SimulatedDisk:
        """A disk with the same content, with what is durable and what is not, that was asked for nothing yet."""
        made = SimulatedDisk()
        memo: dict[int, _Node] = {}
        made._root = _copied_directory(self._root, memo)
        made._pending = [
            _Change(
                tuple(
                    (_copied_directory(at, memo), name, None if node is None else _copied(node, memo))
                    for at, name, node in change.names
                )
            )
            for change in self._pending
        ]
        return made

    def after_crash(self, survival: Survival, seed: int = 0) -> SimulatedDisk:
        """The disk as it is found when the power is back.

        Args:
            survival: Of what was not synced, nothing survives, everything (as when only the process was killed), or
                some: each name or not, each file as it was, as it is, or torn.
            seed: Which part, for ``"some"``.
        """
        disk = self.copy()
        chance = random.Random(seed)
        for change in disk._pending:
            if survival == "everything" or (survival == "some" and chance.random() < 0.5):
                change.make_durable()
        disk._pending = []
        seen: set[int] = set()
        _revert(disk._root, survival, chance, seen)
        return disk

    def _begin(self, operation: str, *paths: str) -> None:
        if self._is_down:
            raise PowerLoss
        self.operations.append((operation, *paths))
        failure = self.fail_at.get(len(self.operations))
        if failure is None and operation in CHANGING:
            failure = self._failure
        if failure is not None:
            if self.keeps_failing:
                self._failure = failure
            raise OSError(failure, os.strerror(failure), *paths[:1])

    def _end(self) -> None:
        self._changes += 1
        if self._changes == self.crash_after:
            self._is_down = True
            raise PowerLoss

    def _change(self, *names: tuple[_Directory, str, _Node | None]) -> None:
        for directory, name, node in names:
            directory.entries.pop(name, None)
            if node is not None:
                directory.entries[name] = node
        self._pending.append(_Change(names))

    # ------------------------------------------------------------------------------------------------- finding

    def _node(self, path: str) -> _Node:
        node: _Node = self._root
        for name in _parts(path):
            if not isinstance(node, _Directory):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            if name not in node.entries:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            node = node.entries[name]
        return node

    def _directory(self, path: str) -> _Directory:
        node = self._node(path)
        if not isinstance(node, _Directory):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return node

    def _place(self, path: str) -> tuple[_Directory, str]:
        parts = _parts(path)
        return self._directory("/".join(parts[:-1])), parts[-1]

    # ----------------------------------------------------------------------------------------------- operations

    @override
    def create(self, path: str) -> int:
        with self._lock:
            self._begin("create", path)
            directory, name = self._place(path)
            if name in directory.entries:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
            file = _File()
            self._change((directory, name, file))
            handle = len(self._handles) + 1
            self._handles[handle] = (file, path)
            self._end()
            return handle

    @override
    def write(self, handle: int, data: memoryview) -> int:
        with self._lock:
            file, path = self._handles[handle]
            taken = len(data) if self.max_write is None else min(len(data), self.max_write)
            try:
                self._begin("write", path)
            except OSError:
                file.data += bytes(data[: taken // 2])  # a disk that is full takes what it can
                raise
            file.data += bytes(data[:taken])
            self._end()
            return taken

    @override
    def fsync(self, handle: int) -> None:
        with self._lock:
            file, path = self._handles[handle]
            self._begin("fsync", path)
            file.synced = file.data
            self._end()

    @override
    def close(self, handle: int) -> None:
        with self._lock:
            self._begin("close", self._handles[handle][1])

    @override
    def read(self, path: str, limit: int) -> bytes:
        with self._lock:
            self._begin("read", path)
            node = self._node(path)
            if not isinstance(node, _File):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
            return node.data[: limit + 1]

    @override
    def kind(self, path: str) -> Kind | None:
        with self._lock:
            self._begin("kind", path)
            try:
                return Kind.DIRECTORY if isinstance(self._node(path), _Directory) else Kind.FILE
            except (FileNotFoundError, NotADirectoryError):
                return None

    @override
    def listdir(self, path: str) -> list[str]:
        with self._lock:
            self._begin("listdir", path)
            return list(self._directory(path).entries)

    @override
    def mkdir(self, path: str) -> None:
        with self._lock:
            self._begin("mkdir", path)
            directory, name = self._place(path)
            if name in directory.entries:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
            self._change((directory, name, _Directory()))
            self._end()

    @override
    def rename(self, source: str, target: str) -> None:
        with self._lock:
            self._begin("rename", source, target)
            node = self._node(source)
            (directory, name), (other, new_name) = self._place(source), self._place(target)
            there = other.entries.get(new_name)
            if isinstance(node, _Directory) and (isinstance(there, _File) or (there is not None and there.entries)):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
            if isinstance(node, _File) and isinstance(there, _Directory):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), target)
            self._change((directory, name, None), (other, new_name, node))
            self._end()

    @override
    def link(self, source: str, target: str) -> None:
        with self._lock:
            self._begin("link", source, target)
            node = self._node(source)
            directory, name = self._place(target)
            if name in directory.entries:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
            self._change((directory, name, node))
            self._end()

    @override
    def unlink(self, path: str) -> None:
        with self._lock:
            self._begin("unlink", path)
            if isinstance(self._node(path), _Directory):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
            directory, name = self._place(path)
            self._change((directory, name, None))
            self._end()

    @override
    def rmdir(self, path: str) -> None:
        with self._lock:
            self._begin("rmdir", path)
            if self._directory(path).entries:
                raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
            directory, name = self._place(path)
            self._change((directory, name, None))
            self._end()

    @override
    def fsync_directory(self, path: str) -> None:
        with self._lock:
            self._begin("fsync_directory", path)
            directory = self._directory(path)
            waiting: list[_Change] = []
            for change in self._pending:
                if change.names[-1][0] is not directory:
                    waiting.append(change)
                    continue
                change.make_durable()
                # What was done to these names before is past, wherever it was.
                waiting = [
                    other for other in waiting if not any(other.touches(at, name) for at, name, _ in change.names)
                ]
            self._pending = waiting
            self._end()


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def _copied(node: _Node, memo: dict[int, _Node]) -> _Node:
    return _copied_directory(node, memo) if isinstance(node, _Directory) else _copied_file(node, memo)


def _copied_file(file: _File, memo: dict[int, _Node]) -> _File:
    made = memo.setdefault(id(file), _File(file.data, file.synced))
    assert isinstance(made, _File)
    return made


def _copied_directory(directory: _Directory, memo: dict[int, _Node]) -> _Directory:
    made = memo.get(id(directory))
    if made is None:
        made = memo[id(directory)] = _Directory()
        made.entries.update((name, _copied(node, memo)) for name, node in directory.entries.items())
        made.durable.update((name, _copied(node, memo)) for name, node in directory.durable.items())
    assert isinstance(made, _Directory)
    return made


def _revert(node: _Node, survival: Survival, chance: random.Random, seen: set[int]) -> None:
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, _Directory):
        node.entries = dict(node.durable)
        for one in node.entries.values():
            _revert(one, survival, chance, seen)
    elif node.data != node.synced:
        torn = node.data[: chance.randrange(len(node.data) + 1)]
        kept = {
            "nothing": [node.synced],
            "everything": [node.data],
            "some": [node.synced, node.data, torn, torn + bytes(len(node.data) - len(torn))],
        }[survival]
        node.data = node.synced = chance.choice(kept)
