"""Versions where nothing can be renamed: claimed by their manifest, uploaded in their place, named by the log."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import cast, final

import attrs
from typing_extensions import override

from mlserve.clocks import Clock
from mlserve.errors import RepositoryError, UnexpectedFileError
from mlserve.integrations._remote_cache import DigestCache
from mlserve.integrations._remote_filesystem import StoreFilesystem
from mlserve.integrations._remote_store import Store
from mlserve.repositories._documents import MAX_DOCUMENT_BYTES, checked_path, digest_of, sealed
from mlserve.repositories._layout import MANIFEST, SIGNATURE, VERSIONS, Layout
from mlserve.repositories._manifests import Manifest, StoredFile
from mlserve.repositories._signing import Signer, Verifier
from mlserve.repositories._versions import Versions, missing


@final
class RemoteVersions(Versions):
    """Versions as objects of a store.

    The manifest is created first, which only one writer can do: so it has the number, and says since when. The files
    follow. No reader looks at any of it before the log names the version.

    *Thread safety*: yes.

    Args:
        layout: Where what lies; on a ``StoreFilesystem``.
        clock: See ``Versions``; so are ``signer`` and ``verifier``.
        cache: Keeps what was loaded, or None.
    """

    def __init__(
        self, layout: Layout, clock: Clock, signer: Signer | None, verifier: Verifier | None, cache: DigestCache | None
    ) -> None:
        super().__init__(layout, clock, signer, verifier)
        self._store: Store = cast(StoreFilesystem, layout.filesystem).store
        self._cache = cache

    # ------------------------------------------------------------------------------------------------ publishing

    @override
    def publish(
        self, contents: Mapping[str, bytes], first: int, manifest_of: Callable[[str, tuple[StoredFile, ...]], Manifest]
    ) -> Manifest:
        files = tuple(
            StoredFile(checked_path(path, "the format"), len(data), digest_of(data))
            for path, data in sorted(contents.items())
        )
        manifest = self._claimed(first, lambda version_id: manifest_of(version_id, files))
        where = f"{VERSIONS}/{manifest.version.id}"
        try:
            if self._signer is not None:
                signature = sealed("signature", attrs.asdict(self._signer.sign(manifest.to_bytes())))
                self._store.put(f"{where}/{SIGNATURE}", signature)
            for file in files:
                self._store.put(f"{where}/{file.path}", contents[file.path])
        except BaseException:
            with contextlib.suppress(OSError):
                self.remove(manifest.version.id)
            raise
        return manifest

    def _claimed(self, first: int, manifest_of: Callable[[str], Manifest]) -> Manifest:
        number = first
        while True:
            manifest = manifest_of(str(number))
            try:
                self._store.create(f"{VERSIONS}/{number}/{MANIFEST}", manifest.to_bytes())
            except FileExistsError:
                # Perhaps our own, whose answer was lost: then a number is skipped, and repair() clears it up.
                self.lost_numbers += 1
                number += 1
                continue
            return manifest

    @override
    def remove(self, version_id: str) -> None:
        where = f"{VERSIONS}/{version_id}"
        # The manifest first: what is left without it is no version to anybody.
        self._store.delete(f"{where}/{MANIFEST}")
        for name in self._store.walk(where):
            self._store.delete(f"{where}/{name}")

    @override
    def is_being_written(self, version_id: str, since: datetime) -> bool:
        try:
            data = self._read(version_id, MANIFEST, MAX_DOCUMENT_BYTES)
            return Manifest.from_bytes(data, f"{VERSIONS}/{version_id}/{MANIFEST}").version.created_at > since
        except RepositoryError:
            return False

    # --------------------------------------------------------------------------------------------------- reading

    @override
    def contents(self, manifest: Manifest, files: Iterable[StoredFile]) -> dict[str, bytes]:
        self._check_names(manifest)
        return {file.path: self._loaded(manifest.version.id, file) for file in files}

    def _loaded(self, version_id: str, file: StoredFile) -> bytes:
        if self._cache is None:
            return self._checked(version_id, file)
        data = self._cache.get(file.sha256, file.size)
        if data is None:
            data = self._checked(version_id, file)
            self._cache.put(file.sha256, data)
        return data

    @override
    def _read(self, version_id: str, name: str, limit: int) -> bytes:
        where = f"{VERSIONS}/{version_id}/{name}"
        try:
            return self._store.read(where, limit)
        except FileNotFoundError as error:
            raise missing(where) from error

    @override
    def _check_names(self, manifest: Manifest) -> None:
        where = f"{VERSIONS}/{manifest.version.id}"
        published = {*(file.path for file in manifest.files), MANIFEST, SIGNATURE}
        for name in self._store.walk(where):
            if name not in published:
                raise UnexpectedFileError(
                    f"{where}/{name} was not published.", hint="Remove it.", path=f"{where}/{name}"
                )


def versions_with(cache: DigestCache | None) -> Callable[[Layout, Clock, Signer | None, Verifier | None], Versions]:
    """How a repository makes its versions."""

    def made(layout: Layout, clock: Clock, signer: Signer | None, verifier: Verifier | None) -> Versions:
        return RemoteVersions(layout, clock, signer, verifier, cache)

    return made
