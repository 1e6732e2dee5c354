"""Objects by name, somewhere that fsspec reaches: the operations that a repository there needs, in one place."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Final, final

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from typing_extensions import override

from mlserve.clocks import Clock
from mlserve.errors import InvalidArgumentError, RepositoryWriteError
from mlserve.repositories._filesystem import Filesystem, make_directories, write_file
from mlserve.repositories._layout import Layout

S3_PROTOCOLS: Final = frozenset({"s3", "s3a"})
"""Where ``pipe_file(mode="create")`` is ``PutObject`` with ``If-None-Match: *``, which S3 does in one step."""

NOT_MET: Final = frozenset({"PreconditionFailed", "412"})
"""What servers of S3's protocol call it that an object is there already."""

CONFLICTS: Final = frozenset({"ConditionalRequestConflict", "OperationAborted", "409"})
"""What they say of two conditional writes at the same moment: neither is decided, so both are to be tried again."""

NO_BUCKET: Final = "NoSuchBucket"

CREATE_TRIES: Final = 10
"""A conflict lasts as long as one small upload; ten in a row mean that the store is not well."""


class Store:
    """A folder of objects behind a file system of fsspec.

    Names are relative to the folder, with slashes. Every method raises ``OSError``, whatever the file system raises:
    ``FileNotFoundError`` where there is no such object, ``FileExistsError`` from ``create``.

    *Thread safety*: that of the file system; those of fsspec may be called from any thread. *Fork*: a child connects
    anew.

    Args:
        filesystem: A file system. One of the same kind and with the same options is made, which lists anew each time.
        root: The folder.
        exclusive: Whether ``pipe_file(mode="create")`` creates an object in one step only if it is not there. None:
            it is not known, and nothing is created; False: it is looked first, and then written.
    """

    def __init__(self, filesystem: AbstractFileSystem, root: str, exclusive: bool | None) -> None:
        self._kind = type(filesystem)
        self._args = filesystem.storage_args
        # Listings that are kept would hide what others write.
        self._options = {**filesystem.storage_options, "use_listings_cache": False}
        self.root = root.rstrip("/")
        self.exclusive = exclusive
        self._connect()

    def _connect(self) -> None:
        self._filesystem: Any = self._kind(*self._args, **self._options)
        self._process = os.getpid()

    @property
    def _fs(self) -> Any:
        if self._process != os.getpid():
            self._connect()
        return self._filesystem

    def _at(self, name: str) -> str:
        return f"{self.root}/{name}".rstrip("/")

    def read(self, name: str, limit: int) -> bytes:
        """The bytes of an object; of one that is longer than ``limit``, one more.

        Raises:
            FileNotFoundError: There is no such object.
        """
        with translated():
            try:
                return bytes(self._fs.cat_file(self._at(name), start=0, end=limit + 1))
            except OSError as error:
                # S3 has no range in nothing.
                if error.errno != errno.EINVAL or self._fs.info(self._at(name))["size"] != 0:
                    raise
                return b""

    def exists(self, name: str) -> bool:
        """Whether there is an object of this name."""
        try:
            self.read(name, 0)
        except (FileNotFoundError, IsADirectoryError):
            return False
        return True

    def names(self, folder: str) -> list[str]:
        """The names right below a folder, of objects and of folders; empty where there is none."""
        path = self._at(folder)
        with translated():
            try:
                found = self._fs.ls(path, detail=False)
            except FileNotFoundError as error:
                if code_of(error) == NO_BUCKET:
                    raise
                return []
        names = (one.rstrip("/").rpartition("/")[2] for one in found if one.strip("/") != path.strip("/"))
        return sorted({*names})

    def walk(self, folder: str) -> list[str]:
        """The names of all objects below a folder, relative to it."""
        path = self._at(folder)
        with translated():
            found = self._fs.find(path)
        length = len(path.lstrip("/")) + 1
        return sorted(one.lstrip("/")[length:] for one in found)

    def put(self, name: str, data: bytes) -> None:
        """Write an object whole, whatever was there."""
        with translated():
            self._fs.pipe_file(self._at(name), data)

    def create(self, name: str, data: bytes) -> None:
        """Write an object whole, in one step, only if it is not there.

        Raises:
            FileExistsError: It is there, and stays as it is.
            RepositoryWriteError: It is not known whether the store can do so.
        """
        if self.exclusive is None:
            raise RepositoryWriteError(
                f"it is not known whether {self._kind.__name__} can create an object only if it is not there.",
                hint="Pass exclusive=True if its pipe_file(mode='create') does so in one step; or exclusive=False, and "
                "see to it that one process at a time writes.",
                path=name,
            )
        if not self.exclusive:
            if self.exists(name):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
            self.put(name, data)
            return
        conflicts = 0
        while True:
            try:
                with translated():
                    self._fs.pipe_file(self._at(name), data, mode="create")
                return
            except OSError as error:
                if code_of(error) in NOT_MET:
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name) from error
                conflicts += 1
                if code_of(error) not in CONFLICTS or conflicts == CREATE_TRIES:
                    raise

    def prove_exclusive(self, name: str, data: bytes) -> None:
        """Find out that ``create`` refuses, by an object that is there and has these bytes.

        Raises:
            RepositoryWriteError: It was written again: the store ignores the condition.
        """
        try:
            self.create(name, data)
        except FileExistsError:
            return
        raise RepositoryWriteError(
            f"{self._kind.__name__} wrote {name} again, though it was there: this store has no conditional writes.",
            hint="Pass exclusive=False, and see to it that one process at a time writes.",
            path=name,
        )

    def delete(self, name: str) -> None:
        """Delete an object; what is gone already is no error."""
        with translated(), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._at(name))

    def move(self, source: str, target: str) -> None:
        """Give an object, or all objects below a folder, another name; not in one step.

        Raises:
            FileNotFoundError: There is no such object.
        """
        below = [f"/{name}" for name in self.walk(source) if name] or [""]
        with translated():
            for name in below:
                self._fs.mv(self._at(source) + name, self._at(target) + name)


_in_memory = threading.Lock()


@final
class MemoryStore(Store):
    """Objects in the memory of this process, in fsspec's ``memory://``, which has no step of its own that creates."""

    @override
    def create(self, name: str, data: bytes) -> None:
        with _in_memory:
            if self._fs.exists(self._at(name)):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
            self._fs.pipe_file(self._at(name), data)


@final
class LocalStore(Store):
    """Objects as files. Each comes to its name whole and durable, by a link or a rename.

    Args:
        filesystem: See ``Store``; so is ``root``.
        root: The folder.
        clock: Tells since when something is staged.
    """

    def __init__(self, filesystem: AbstractFileSystem, root: str, clock: Clock) -> None:
        super().__init__(filesystem, root, exclusive=True)
        self._layout = Layout(self.root, Filesystem())
        self._clock = clock

    @override
    def create(self, name: str, data: bytes) -> None:
        with self._written(name, data) as (disk, temporary, target):
            disk.link(temporary, target)

    @override
    def put(self, name: str, data: bytes) -> None:
        with self._written(name, data) as (disk, temporary, target):
            disk.rename(temporary, target)

    @contextlib.contextmanager
    def _written(self, name: str, data: bytes) -> Iterator[tuple[Filesystem, str, str]]:
        disk, target = self._layout.filesystem, self._layout.path(name)
        temporary = self._layout.temporary("object", self._clock.now())
        for path in (temporary, target):
            make_directories(disk, os.path.dirname(path))
        try:
            write_file(disk, temporary, data)
            yield disk, temporary, target
            disk.fsync_directory(os.path.dirname(target))
        finally:
            with contextlib.suppress(FileNotFoundError):
                disk.unlink(temporary)


def store_at(
    location: Any,
    path: str | None,
    exclusive: bool | None,
    storage_options: Mapping[str, Any] | None,
    clock: Clock,
) -> Store:
    """The store at a URL, or in a folder of a file system.

    Raises:
        InvalidArgumentError: It is neither, or no package of fsspec knows the URL.
    """
    if isinstance(location, AbstractFileSystem):
        if not isinstance(path, str) or not path.strip("/") or storage_options:
            raise InvalidArgumentError(
                "path", path, "the folder in the file system, without storage_options", hint="For example 'bucket/a'."
            )
        filesystem, root = location, location._strip_protocol(path)
    elif isinstance(location, str) and "://" in location and path is None:
        try:
            filesystem, root = url_to_fs(location, use_listings_cache=False, **(storage_options or {}))
        except (ValueError, ImportError) as error:
            raise InvalidArgumentError(
                "location", location, "a URL that fsspec knows, with its package installed",
                hint=f"{type(error).__name__}: {error}",
            ) from error  # fmt: skip
    else:
        raise InvalidArgumentError(
            "location",
            location,
            "a URL, or a file system of fsspec and a path",
            hint="For example 's3://bucket/models'.",
        )
    if isinstance(filesystem, LocalFileSystem):
        return LocalStore(filesystem, root, clock)
    if isinstance(filesystem, MemoryFileSystem):
        return MemoryStore(filesystem, root, True)
    named = filesystem.protocol
    is_s3 = bool(S3_PROTOCOLS & {*((named,) if isinstance(named, str) else named)})
    return Store(filesystem, root, exclusive if exclusive is not None else is_s3 or None)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Make an ``OSError`` of whatever a file system raises, and tell a missing bucket from a missing object."""
    try:
        yield
    except OSError as error:
        if code_of(error) == NO_BUCKET:
            raise OSError(errno.ENXIO, f"the bucket is not there: {error}") from error
        raise
    except Exception as error:  # the errors of botocore, aiohttp and others have nothing else in common
        raise OSError(errno.EIO, f"{type(error).__name__}: {error}") from error


def code_of(error: BaseException) -> str:
    """What a server of S3's protocol calls an error; empty where it is none of these."""
    answer = getattr(error.__cause__, "response", None)
    return str(answer.get("Error", {}).get("Code", "")) if isinstance(answer, dict) else ""
