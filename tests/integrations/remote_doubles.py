"""A store in memory that does what S3 promises, and can be made to fail."""

from __future__ import annotations

import errno
import itertools
import threading
from collections.abc import Callable
from typing import Any, ClassVar

from fsspec import AbstractFileSystem

from mlserve.clocks import ManualClock
from mlserve.integrations.remote import RemoteModelRepository


class Bucket:
    """Objects by name, and what is done before and after each operation."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.lock = threading.Lock()
        self.operations: list[tuple[str, str]] = []
        self.before: Callable[[str, str], None] = lambda operation, name: None
        self.after: Callable[[str, str], None] = lambda operation, name: None


class ObjectFileSystem(AbstractFileSystem):
    """Flat names, no rename, and a conditional write that is one step, as S3 has it.

    One that is made with the same options shares the bucket, as two connections to one store do.
    """

    protocol = "s3"
    cachable = False
    buckets: ClassVar[dict[str, Bucket]] = {}

    def __init__(self, bucket: str, **options: Any) -> None:
        super().__init__(bucket=bucket, **options)
        self.bucket = self.buckets.setdefault(bucket, Bucket())

    def _done(self, operation: str, path: str, action: Callable[[str], Any]) -> Any:
        name = self._strip_protocol(path).strip("/")
        self.bucket.before(operation, name)
        with self.bucket.lock:
            self.bucket.operations.append((operation, name))
            answer = action(name)
        self.bucket.after(operation, name)
        return answer

    def cat_file(self, path, start=None, end=None, **options):
        def get(name):
            if name not in self.bucket.objects:
                raise FileNotFoundError(errno.ENOENT, "no such object", name)
            data = self.bucket.objects[name]
            if not data:
                raise OSError(errno.EINVAL, "the range is not satisfiable", name)
            return data[start:end]

        return self._done("get", path, get)

    def pipe_file(self, path, value, mode="overwrite", **options):
        def put(name):
            if mode == "create" and name in self.bucket.objects:
                raise FileExistsError(errno.EEXIST, "the condition is not met", name)
            self.bucket.objects[name] = bytes(value)

        self._done("create" if mode == "create" else "put", path, put)

    def rm_file(self, path):
        self._done("delete", path, lambda name: self.bucket.objects.pop(name, None))

    def cp_file(self, path1, path2, **options):
        source = self._strip_protocol(path1).strip("/")
        self._done("copy", path2, lambda name: self.bucket.objects.update({name: self.bucket.objects[source]}))

    def info(self, path, **options):
        if path.strip("/") not in self.bucket.objects:
            raise FileNotFoundError(errno.ENOENT, "no such object", path)
        return {"name": path, "size": len(self.bucket.objects[path.strip("/")]), "type": "file"}

    def ls(self, path, detail=True, **options):
        def listed(folder):
            below = {name.removeprefix(f"{folder}/") for name in self.bucket.objects if name.startswith(f"{folder}/")}
            if not below:
                raise FileNotFoundError(errno.ENOENT, "no such folder", folder)
            found = {(f"{folder}/{name.partition('/')[0]}", "directory" if "/" in name else "file") for name in below}
            return [{"name": name, "size": 0, "type": kind} if detail else name for name, kind in sorted(found)]

        return self._done("list", path, listed)


class Killed(BaseException):
    """What ends a process that is killed; nobody catches it."""


_numbers = itertools.count()


def new_store(**options: Any) -> ObjectFileSystem:
    """A file system on a new, empty store."""
    return ObjectFileSystem(f"bucket-{next(_numbers)}", **options)


def remote(filesystem: Any, clock: Any = None, **options: Any) -> RemoteModelRepository[Any]:
    """A repository in a store."""
    options = {"actor": "test", "follow_seconds": 0, "clock": clock or ManualClock(), **options}
    return RemoteModelRepository(filesystem, "models", **options)
