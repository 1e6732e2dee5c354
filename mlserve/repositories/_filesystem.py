"""The operations of a file system that a repository on disk needs, in one place, so that they can be made to fail."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from enum import Enum, auto

WINDOWS = os.name == "nt"

_NOT_EMPTY = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR})
"""What POSIX systems say of a rename of a directory onto something that is not an empty directory."""


class Kind(Enum):
    """What lies at a path; a symbolic link is not followed."""

    FILE = auto()
    DIRECTORY = auto()
    OTHER = auto()


class Filesystem:
    """The file system of the machine. Subclass it to record operations or to make them fail.

    Paths are text. Every method raises ``OSError`` as the system does; the subclasses of it that are named are what
    the repository's protocol decides by.

    *Thread safety*: yes.
    """

    def create(self, path: str) -> int:
        """Open a new file for writing.

        Returns:
            A handle for ``write``, ``fsync`` and ``close``.

        Raises:
            FileExistsError: Something is there already; it is left as it is.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        return os.open(path, flags, 0o666)

    def write(self, handle: int, data: memoryview) -> int:
        """Write some bytes from the beginning of ``data``, perhaps not all.

        Returns:
            How many were written.
        """
        return os.write(handle, data)

    def fsync(self, handle: int) -> None:
        """Return when the bytes of a file are where a loss of power does not reach them."""
        os.fsync(handle)

    def close(self, handle: int) -> None:
        """Close a handle."""
        os.close(handle)

    def read(self, path: str, limit: int) -> bytes:
        """The bytes of a file, opened and read once; symbolic links are not followed.

        Args:
            path: The file.
            limit: Of a file that is longer, so many bytes and one more are read.

        Raises:
            FileNotFoundError: Nothing is there.
        """
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        with open(os.open(path, flags), "rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size > limit:
                return file.read(limit + 1)
            # Into one buffer of the file's size: there is never a second copy of a large model.
            return file.readall()

    def kind(self, path: str) -> Kind | None:
        """What lies at a path; None where nothing does."""
        try:
            mode = os.lstat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None
        if stat.S_ISREG(mode):
            return Kind.FILE
        return Kind.DIRECTORY if stat.S_ISDIR(mode) else Kind.OTHER

    def listdir(self, path: str) -> list[str]:
        """The names in a directory, in no order.

        Raises:
            FileNotFoundError: There is no such directory.
        """
        return os.listdir(path)

    def mkdir(self, path: str) -> None:
        """Make a directory.

        Raises:
            FileExistsError: Something is there already.
        """
        os.mkdir(path)

    def rename(self, source: str, target: str) -> None:
        """Move a file onto nothing or onto a file, or a directory onto nothing, in one step.

        Raises:
            FileExistsError: The source is a directory and something is at the target already.
            FileNotFoundError: There is no source.
        """
        try:
            os.replace(source, target)
        except OSError as error:
            taken = error.errno in _NOT_EMPTY or (WINDOWS and isinstance(error, PermissionError))
            if taken and self.kind(target) is not None:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from error
            raise

    def link(self, source: str, target: str) -> None:
        """Give a file a second name.

        Raises:
            FileExistsError: Something is at the target already; it is left as it is.
        """
        os.link(source, target)

    def unlink(self, path: str) -> None:
        """Remove a name of a file."""
        os.unlink(path)

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        os.rmdir(path)

    def fsync_directory(self, path: str) -> None:
        """Return when the names in a directory are where a loss of power does not reach them.

        Windows cannot open a directory and keeps names itself; there it does nothing.
        """
        if WINDOWS:
            return
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0))
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def make_directories(filesystem: Filesystem, path: str) -> None:
    """Make a directory, of absolute path, and those above it where they are missing, and make each name durable."""
    if filesystem.kind(path) is not None:
        return
    parent = os.path.dirname(path)
    make_directories(filesystem, parent)
    with contextlib.suppress(FileExistsError):  # another process was faster
        filesystem.mkdir(path)
    filesystem.fsync_directory(parent)


def write_file(filesystem: Filesystem, path: str, data: bytes, *, durable: bool = True) -> None:
    """Write a new file whole and make its bytes durable; its name is durable once the directory is.

    Args:
        filesystem: Where.
        path: Nothing may be there.
        data: All of it.
        durable: False for what may be lost or torn when the power fails.

    Raises:
        OSError: The system refused; an unfinished file may be left.
    """
    handle = filesystem.create(path)
    try:
        rest = memoryview(data)
        while rest:
            written = filesystem.write(handle, rest)
            if written <= 0:
                raise OSError(errno.EIO, "the system took no bytes", path)
            rest = rest[written:]
        if durable:
            filesystem.fsync(handle)
    finally:
        filesystem.close(handle)


def remove_tree(filesystem: Filesystem, path: str) -> None:
    """Remove a file, or a directory with all below it; what is gone already is no error."""
    try:
        if filesystem.kind(path) is Kind.DIRECTORY:
            for name in filesystem.listdir(path):
                remove_tree(filesystem, os.path.join(path, name))
            filesystem.rmdir(path)
        else:
            filesystem.unlink(path)
    except FileNotFoundError:
        pass
