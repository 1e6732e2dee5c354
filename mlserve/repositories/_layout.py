"""What lies where in the directory of a repository."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from datetime import UTC, datetime
from typing import Final

import attrs

from mlserve.clocks import Clock
from mlserve.errors import InvalidArgumentError
from mlserve.repositories._documents import MAX_DOCUMENT_BYTES, sealed, unsealed
from mlserve.repositories._filesystem import Filesystem, Kind, make_directories, write_file

MARKER: Final = "repository.json"
CURRENT: Final = "CURRENT"
LOG: Final = "log"
VERSIONS: Final = "versions"
STAGING: Final = "staging"
CHECKPOINTS: Final = "checkpoints"
MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "signature.json"

DIRECTORIES: Final = (LOG, VERSIONS, STAGING, CHECKPOINTS)
NAMES: Final = frozenset({MARKER, CURRENT, *DIRECTORIES})

_STAMP = "%Y%m%dT%H%M%S"
_TEMPORARY = re.compile(r"(\d{8}T\d{6})-[0-9a-f]{16}-[a-z]+")


@attrs.frozen(eq=False)
class Layout:
    """The directory of a repository.

    Attributes:
        root: Its absolute path.
        filesystem: How it is read and written.
    """

    root: str
    filesystem: Filesystem

    def path(self, *names: str) -> str:
        """The path of something below the root."""
        return os.path.join(self.root, *names)

    def shown(self, path: str) -> str:
        """A path below the root as it is shown in messages: relative, with slashes."""
        return os.path.relpath(path, self.root).replace(os.sep, "/")

    def temporary(self, purpose: str, now: datetime) -> str:
        """A path that nothing else uses, whose name tells since when it has been there.

        Args:
            purpose: A word of small letters.
            now: The time.
        """
        return self.path(STAGING, f"{now.astimezone(UTC).strftime(_STAMP)}-{secrets.token_hex(8)}-{purpose}")

    def make(self) -> None:
        """Make what is missing of the directories, and make their names durable."""
        make_directories(self.filesystem, self.root)
        for name in DIRECTORIES:
            make_directories(self.filesystem, self.path(name))
        # Also what was there already: another process may have made it and been killed before it was durable.
        self.filesystem.fsync_directory(self.root)
        with contextlib.suppress(PermissionError):  # a directory above that may not be read
            self.filesystem.fsync_directory(os.path.dirname(self.root))

    def open(self, path: object, clock: Clock) -> bool:
        """Find out that the directory is a repository, or make it one.

        Args:
            path: As it was given, for messages.
            clock: Tells since when something is staged.

        Returns:
            Whether it was made now.

        Raises:
            InvalidArgumentError: It is a file, or a directory of something else.
            NewerFormatError: Made by a newer mlserve.
        """
        try:
            unsealed("repository", self.filesystem.read(self.path(MARKER), MAX_DOCUMENT_BYTES), MARKER)
        except (FileNotFoundError, NotADirectoryError):
            self._begin(path, clock)
            return True
        return False

    def _begin(self, path: object, clock: Clock) -> None:
        kind = self.filesystem.kind(self.root)
        if kind not in (None, Kind.DIRECTORY):
            raise InvalidArgumentError("path", path, "a directory, not a file", hint="Name a directory of its own.")
        if kind is not None and set(self.filesystem.listdir(self.root)) - NAMES:
            raise InvalidArgumentError(
                "path", path, "a repository, or an empty or missing directory", hint="Name a directory of its own."
            )
        self.make()
        temporary = self.temporary("marker", clock.now())
        write_file(self.filesystem, temporary, sealed("repository", {}))
        with contextlib.suppress(FileExistsError):  # another process was faster
            self.filesystem.link(temporary, self.path(MARKER))
        self.filesystem.fsync_directory(self.root)
        self.filesystem.unlink(temporary)


def temporary_since(name: str) -> datetime | None:
    """Since when something in the staging directory has been there; None where its name is none of ours."""
    match = _TEMPORARY.fullmatch(name)
    return None if match is None else datetime.strptime(match[1], _STAMP).replace(tzinfo=UTC)
