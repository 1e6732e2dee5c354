"""A store of objects that answers as the file system of a repository does."""

from __future__ import annotations

import itertools
import os
from typing import final

from typing_extensions import override

from mlserve.integrations._remote_store import Store
from mlserve.repositories._documents import MAX_DOCUMENT_BYTES
from mlserve.repositories._filesystem import Filesystem, Kind
from mlserve.repositories._layout import DIRECTORIES


@final
class StoreFilesystem(Filesystem):
    """What is created is kept in memory until it gets its name by ``link`` or ``rename``, and is uploaded then.

    An object comes to its name whole, and what was uploaded is durable: so there is nothing to stage and to sync.

    *Thread safety*: yes.

    Args:
        store: Where objects go.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._handles = itertools.count(1)
        self._paths: dict[int, str] = {}
        self._staged: dict[str, bytes] = {}

    @override
    def create(self, path: str) -> int:
        handle = next(self._handles)
        self._paths[handle], self._staged[_name(path)] = _name(path), b""
        return handle

    @override
    def write(self, handle: int, data: memoryview) -> int:
        self._staged[self._paths[handle]] += bytes(data)
        return len(data)

    @override
    def fsync(self, handle: int) -> None:
        pass

    @override
    def close(self, handle: int) -> None:
        del self._paths[handle]

    @override
    def read(self, path: str, limit: int) -> bytes:
        return self.store.read(_name(path), limit)

    @override
    def kind(self, path: str) -> Kind | None:
        name = _name(path)
        if not name or name in DIRECTORIES:
            return Kind.DIRECTORY
        if self.store.exists(name):
            return Kind.FILE
        return Kind.DIRECTORY if self.store.names(name) else None

    @override
    def listdir(self, path: str) -> list[str]:
        return self.store.names(_name(path))

    @override
    def mkdir(self, path: str) -> None:
        pass

    @override
    def rename(self, source: str, target: str) -> None:
        name = _name(source)
        if name in self._staged:
            self.store.put(_name(target), self._staged.pop(name))
        else:
            self.store.move(name, _name(target))

    @override
    def link(self, source: str, target: str) -> None:
        data, name = self._staged[_name(source)], _name(target)
        try:
            self.store.create(name, data)
        except FileExistsError:
            # A request whose answer was lost is sent again by the client, and is refused because of itself.
            if self.store.read(name, MAX_DOCUMENT_BYTES) != data:
                raise

    @override
    def unlink(self, path: str) -> None:
        name = _name(path)
        if name in self._staged:
            del self._staged[name]
        else:
            self.store.delete(name)

    @override
    def rmdir(self, path: str) -> None:
        pass

    @override
    def fsync_directory(self, path: str) -> None:
        pass


def _name(path: str) -> str:
    return path.replace(os.sep, "/")
