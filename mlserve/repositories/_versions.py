"""Versions as directories: staged, made durable, put in their place in one step, and read back byte for byte."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Final

import attrs

from mlserve.clocks import Clock
from mlserve.errors import (
    DigestMismatchError,
    FileSizeError,
    IntegrityError,
    MissingFileError,
    SignatureError,
    SymbolicLinkError,
    UnexpectedFileError,
    UnknownKeyError,
    UnsignedVersionError,
)
from mlserve.records import ModelVersion
from mlserve.repositories._documents import MAX_DOCUMENT_BYTES, checked_path, digest_of, malformed, sealed, unsealed
from mlserve.repositories._filesystem import Filesystem, Kind, make_directories, remove_tree, write_file
from mlserve.repositories._layout import MANIFEST, SIGNATURE, STAGING, VERSIONS, Layout
from mlserve.repositories._manifests import Manifest, StoredFile
from mlserve.repositories._signing import Signature, Signer, Verifier

_OWN: Final = frozenset({MANIFEST, SIGNATURE})

HASHED_ASIDE_BYTES: Final = 1 << 20
"""A longer file is hashed by a thread of its own while the disk takes it; for a shorter one that would cost more."""


class Versions:
    """The directories of versions. A subclass keeps them where a directory cannot be renamed.

    *Thread safety*: yes.

    Args:
        layout: Where what lies.
        clock: Tells since when something is staged.
        signer: Signs what is published, or None.
        verifier: Decides what may be read, or None: everything.
    """

    def __init__(self, layout: Layout, clock: Clock, signer: Signer | None, verifier: Verifier | None) -> None:
        self._layout = layout
        self._filesystem: Filesystem = layout.filesystem
        self._clock = clock
        self._signer = signer
        self._verifier = verifier
        self.lost_numbers = 0
        """How often another writer took the number first."""

    def _directory(self, version_id: str) -> str:
        return self._layout.path(VERSIONS, version_id)

    def numbers(self) -> list[int]:
        """The numbers at which something lies, registered or not, ascending."""
        try:
            names = self._filesystem.listdir(self._layout.path(VERSIONS))
        except FileNotFoundError:  # nothing was ever written
            return []
        return sorted(int(name) for name in names if name.isdecimal() and name == str(int(name)))

    # ------------------------------------------------------------------------------------------------ publishing

    def publish(
        self, contents: Mapping[str, bytes], first: int, manifest_of: Callable[[str, tuple[StoredFile, ...]], Manifest]
    ) -> Manifest:
        """Write a version and put it in its place. It is durable, and not yet registered, when this returns.

        Args:
            contents: The bytes of its files, by path.
            first: The first number to try.
            manifest_of: From an id and the files as they were written to the manifest.

        Returns:
            The manifest, with the number that was free.
        """
        staged = self._layout.temporary("publish", self._clock.now())
        try:
            self._filesystem.mkdir(staged)
            files = tuple(self._staged(staged, path, contents[path]) for path in sorted(contents))
            self._sync_directories(staged, files)
            return self._placed(staged, first, lambda version_id: manifest_of(version_id, files))
        except BaseException:
            with contextlib.suppress(OSError):
                remove_tree(self._filesystem, staged)
            raise

    def _staged(self, staged: str, path: str, data: bytes) -> StoredFile:
        checked_path(path, "the format")
        directory, _, _ = path.rpartition("/")
        if directory:
            make_directories(self._filesystem, f"{staged}/{directory}")
        if len(data) < HASHED_ASIDE_BYTES:
            write_file(self._filesystem, f"{staged}/{path}", data)
            return StoredFile(path, len(data), digest_of(data))
        with ThreadPoolExecutor(1, "mlserve-hash") as aside:
            hashing = aside.submit(digest_of, data)
            write_file(self._filesystem, f"{staged}/{path}", data)
            return StoredFile(path, len(data), hashing.result())

    def _sync_directories(self, staged: str, files: Iterable[StoredFile]) -> None:
        for directory in sorted(_directories(files), key=lambda name: name.count("/"), reverse=True):
            self._filesystem.fsync_directory(f"{staged}/{directory}")

    def _placed(self, staged: str, first: int, manifest_of: Callable[[str], Manifest]) -> Manifest:
        number = first
        while True:
            manifest = manifest_of(str(number))
            data = manifest.to_bytes()
            if self._signer is not None:
                signature = sealed("signature", attrs.asdict(self._signer.sign(data)))
                write_file(self._filesystem, f"{staged}/{SIGNATURE}", signature)
            # Last: where there is a manifest, all that it names is there.
            write_file(self._filesystem, f"{staged}/{MANIFEST}", data)
            self._filesystem.fsync_directory(staged)
            try:
                self._filesystem.rename(staged, self._directory(str(number)))
            except FileExistsError:
                self.lost_numbers += 1
                self._filesystem.unlink(f"{staged}/{MANIFEST}")
                if self._signer is not None:
                    self._filesystem.unlink(f"{staged}/{SIGNATURE}")
                number += 1
                continue
            self._filesystem.fsync_directory(self._layout.path(VERSIONS))
            self._filesystem.fsync_directory(self._layout.path(STAGING))
            return manifest

    def remove(self, version_id: str) -> None:
        """Take a version's directory away, in one step as far as readers see, and then delete it."""
        trash = self._layout.temporary("trash", self._clock.now())
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            self._filesystem.rename(self._directory(version_id), trash)
            remove_tree(self._filesystem, trash)

    def is_being_written(self, version_id: str, since: datetime) -> bool:  # noqa: ARG002  # what a subclass needs
        """Whether what lies at an unregistered number may be a living writer's, which began after ``since``.

        Never, where a version comes to its place in one step.
        """
        return False

    # --------------------------------------------------------------------------------------------------- reading

    def manifest(self, version_id: str, registered: ModelVersion | None = None) -> Manifest:
        """The manifest of a version, verified.

        Args:
            version_id: The version.
            registered: What the log says of it, where it does: the manifest must say the same.

        Raises:
            SignatureError: The repository has a verifier, which does not accept it.
            IntegrityError: It is not as it was published.
        """
        where = f"{VERSIONS}/{version_id}"
        data = self._read(version_id, MANIFEST, MAX_DOCUMENT_BYTES)
        if self._verifier is not None:
            self._verify(version_id, data, self._verifier)
        manifest = Manifest.from_bytes(data, f"{where}/{MANIFEST}")
        if manifest.version.id != version_id or (registered is not None and _differs(manifest.version, registered)):
            raise malformed("manifest", f"{where}/{MANIFEST}", ValueError("it is that of another version"))
        return manifest

    def _verify(self, version_id: str, data: bytes, verifier: Verifier) -> None:
        path = f"{VERSIONS}/{version_id}/{SIGNATURE}"
        try:
            stored = self._read(version_id, SIGNATURE, MAX_DOCUMENT_BYTES)
        except MissingFileError:
            raise UnsignedVersionError(
                f"version {version_id} is not signed, and this repository serves only what is.",
                hint="Publish it again with signer=.",
                path=path,
            ) from None
        body = unsealed("signature", stored, path)
        try:
            signature = Signature(body["algorithm"], body["key_id"], body["value"])
        except KeyError as error:
            raise malformed("signature", path, error) from error
        try:
            verifier.verify(data, signature)
        except SignatureError as error:
            refused = UnknownKeyError if isinstance(error, UnknownKeyError) else SignatureError
            raise refused(f"version {version_id}: {error.message}", path=path, exception=error) from error

    def contents(self, manifest: Manifest, files: Iterable[StoredFile]) -> dict[str, bytes]:
        """The bytes of some files of a version, each read once and hashed as read.

        Raises:
            IntegrityError: They are not as they were published, or other files lie beside them.
        """
        self._check_names(manifest)
        return {file.path: self._checked(manifest.version.id, file) for file in files}

    def _checked(self, version_id: str, file: StoredFile) -> bytes:
        data = self._read(version_id, file.path, file.size)
        where = f"{VERSIONS}/{version_id}/{file.path}"
        if len(data) != file.size:
            longer = len(data) > file.size
            raise FileSizeError(
                f"{where} has {'more than ' if longer else ''}{min(len(data), file.size)} bytes, "
                f"published were {file.size}.",
                hint=_DAMAGED,
                path=where,
            )
        if digest_of(data) != file.sha256:
            raise DigestMismatchError(
                f"the bytes of {where} are not those that were published.", hint=_DAMAGED, path=where
            )
        return data

    def _read(self, version_id: str, name: str, limit: int) -> bytes:
        directory, where = self._directory(version_id), f"{VERSIONS}/{version_id}/{name}"
        self._expect(directory, f"{VERSIONS}/{version_id}", Kind.DIRECTORY)
        path = f"{directory}/{name}"
        self._expect(path, where, Kind.FILE)
        try:
            return self._filesystem.read(path, limit)
        except FileNotFoundError as error:
            raise missing(where) from error

    def _expect(self, path: str, where: str, kind: Kind) -> None:
        found = self._filesystem.kind(path)
        if found is None:
            raise missing(where)
        if found is Kind.OTHER:
            raise SymbolicLinkError(
                f"{where} is a symbolic link or no file at all; links are not followed.", hint=_DAMAGED, path=where
            )
        if found is not kind:
            raise UnexpectedFileError(
                f"{where} is no {kind.name.lower()}, as it was when it was published.", hint=_DAMAGED, path=where
            )

    def _check_names(self, manifest: Manifest) -> None:
        """Refuse what lies in the directory and was not published, whatever it is."""
        version_id = manifest.version.id
        directories = _directories(manifest.files)
        published = {file.path for file in manifest.files} | directories | _OWN
        for directory in sorted({"", *directories}):
            where = f"{VERSIONS}/{version_id}/{directory}".rstrip("/")
            path = f"{self._directory(version_id)}/{directory}".rstrip("/")
            self._expect(path, where, Kind.DIRECTORY)
            for name in sorted(self._filesystem.listdir(path)):
                if f"{directory}/{name}".lstrip("/") not in published:
                    raise UnexpectedFileError(
                        f"{where}/{name} was not published.", hint="Remove it.", path=f"{where}/{name}"
                    )

    def check(self, version_id: str, registered: ModelVersion | None = None) -> Manifest:
        """Read every byte of a version, and return its manifest where all is as it was published.

        Raises:
            RepositoryError: It is not.
        """
        manifest = self.manifest(version_id, registered)
        self._check_names(manifest)
        for file in manifest.files:
            self._checked(version_id, file)
        return manifest


_DAMAGED: Final = "It was changed or damaged; restore it from a backup, or register the model again."


def missing(where: str) -> IntegrityError:
    """The error about a file of a version that is not there."""
    return MissingFileError(f"{where} is not there.", hint=_DAMAGED, path=where)


def _differs(version: ModelVersion, registered: ModelVersion) -> bool:
    mine = (version.id, version.digest, version.created_at, dict(version.tags))
    return mine != (registered.id, registered.digest, registered.created_at, dict(registered.tags))


def _directories(files: Iterable[StoredFile]) -> set[str]:
    found: set[str] = set()
    for file in files:
        parts = file.path.split("/")[:-1]
        found.update("/".join(parts[: index + 1]) for index in range(len(parts)))
    return found
