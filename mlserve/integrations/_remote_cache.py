"""Copies of what was loaded from elsewhere, on the disk of this machine, by the hash of their bytes."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import final

from mlserve.repositories._documents import digest_of
from mlserve.repositories._filesystem import Filesystem, write_file

_log = logging.getLogger(__name__)


@final
class DigestCache:
    """A directory of files named by their SHA-256.

    Every file is hashed when it is read, so that nobody who can write there can change a model; one that is damaged is
    removed. Whatever goes wrong costs a download and is logged, nothing else. Any number of processes may share it.

    *Thread safety*: yes.

    Args:
        directory: Made when it is missing. Nothing else may lie in it.
        max_bytes: When there is more, the files that were used least recently go. A file that is longer is not kept.
    """

    def __init__(self, directory: str, max_bytes: int) -> None:
        self._directory = Path(directory)
        self._max_bytes = max_bytes
        self._filesystem = Filesystem()

    def get(self, digest: str, size: int) -> bytes | None:
        """The bytes of this hash; None where they are not there."""
        path = self._directory / digest
        with self._careful("reading"):
            try:
                data = self._filesystem.read(str(path), size)
            except FileNotFoundError:
                return None
            if digest_of(data) == digest:
                os.utime(path)
                return data
            _log.warning("%s was damaged and is loaded again", path)
            path.unlink(missing_ok=True)
        return None

    def put(self, digest: str, data: bytes) -> None:
        """Keep some bytes by their hash."""
        if len(data) > self._max_bytes:
            return
        with self._careful("writing"):
            self._directory.mkdir(parents=True, exist_ok=True)
            temporary = self._directory / f"{digest}.{secrets.token_hex(4)}"
            try:
                # Not made durable: what a loss of power tears is found when it is read.
                write_file(self._filesystem, str(temporary), data, durable=False)
                self._filesystem.rename(str(temporary), str(self._directory / digest))
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            self._trim()

    def _trim(self) -> None:
        kept = []
        for entry in os.scandir(self._directory):
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                status = entry.stat(follow_symlinks=False)
                kept.append((status.st_mtime_ns, status.st_size, entry.path))
        kept.sort(reverse=True)
        total = sum(size for _, size, _ in kept)
        while total > self._max_bytes:
            _, size, path = kept.pop()
            Path(path).unlink(missing_ok=True)
            total -= size

    @contextlib.contextmanager
    def _careful(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError:
            _log.warning("%s the cache in %s failed", what, self._directory, exc_info=True)
