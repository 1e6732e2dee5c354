"""A repository in an object store: S3 and what speaks its protocol, a directory, or whatever else fsspec reaches."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final, Generic, final

from typing_extensions import TypeVar, override

from mlserve.clocks import Clock, SystemClock
from mlserve.errors import InvalidArgumentError, MissingExtraError

try:
    import fsspec as _fsspec
except ModuleNotFoundError as _error:  # pragma: no cover  # tested in an interpreter of its own
    raise MissingExtraError("fsspec", "remote", "RemoteModelRepository") from _error

from mlserve.integrations._remote_cache import DigestCache
from mlserve.integrations._remote_filesystem import StoreFilesystem
from mlserve.integrations._remote_store import store_at
from mlserve.integrations._remote_versions import versions_with
from mlserve.repositories._documents import sealed
from mlserve.repositories._formats import ModelFormat
from mlserve.repositories._guards import checked_root
from mlserve.repositories._layout import MARKER, Layout
from mlserve.repositories._signing import Signer, Verifier
from mlserve.repositories._writing import RepositoryWriter

__all__ = ["RemoteModelRepository"]

TModel = TypeVar("TModel", default=Any)

DEFAULT_CACHE_BYTES: Final = 10 * 1024**3
"""How much the cache of models keeps."""


@final
class RemoteModelRepository(RepositoryWriter[TModel], Generic[TModel]):
    """Versions in an object store, shared by any number of processes on any number of machines.

    The same objects under the same names, with the same manifests, signatures and history, as the files of a
    ``DirectoryModelRepository``: a copy of the one can be opened as the other. What differs is how a version comes to
    its place where nothing can be renamed, see ``docs/explanation/repository_protocol.md``.

    *Thread safety*: yes. *Fork*: a child connects anew. *Processes*: any number may read at once. Any number may write
    at once where the store creates an object only if it is not there, in one step: S3 and servers that know
    ``If-None-Match: *``, a local directory, ``memory://``. Elsewhere see ``exclusive``. Readers are never blocked.
    *Durability*: what a method has returned is in the store. A method that raised or was killed has made its change
    wholly or not at all; what it leaves is in nobody's way. *Ownership*: every call of ``load_model`` gives a model of
    its own.

    Every method asks the store and raises ``RepositoryUnavailableError`` or ``RepositoryWriteError`` when it does not
    answer; how long is waited for it, and how often it is tried again, are options of its file system.

    Args:
        location: A URL such as ``"s3://bucket/models"``, or a file system of fsspec. Of the latter another one is made
            with the same options.
        path: The folder in the file system, where one was given.
        storage_options: What the file system of the URL takes: keys, an endpoint, time limits.
        exclusive: Whether the store creates an object only if it is not there, in one step. Default: yes for S3,
            which is put to the test before the first write; for others it is not known, and writing is refused. False:
            one process at a time writes, which you see to; two would overwrite each other's changes and models.
        formats: In which forms models are kept, see ``DirectoryModelRepository``; so are ``trust``, ``verifier``,
            ``signer`` and ``clock``.
        trust: Whether models may be loaded that can run code, by whoever could write to the store.
        verifier: Then only versions whose signature it accepts are described, loaded or found sound.
        signer: Signs what is registered.
        cache_directory: A directory of this machine that keeps the files of models by the hash of their bytes, which
            is compared each time; None to download them each time. Nothing else may lie in it.
        cache_bytes: When the cache holds more, what was used least recently goes.
        clock: Where times come from.
        actor: Who makes the changes; kept in the log. Default: user and machine.
        follow_seconds: How often at most ``generation`` looks for changes by other processes, one small request each
            time, in a thread of its own; 0 looks each time it is read, by whoever reads it.

    Raises:
        InvalidArgumentError: No such kind of store; a folder of something else; no formats; a negative number.
        NewerFormatError: A newer mlserve made the folder.
        RepositoryWriteError: The store does not answer, or refuses.

    Example:
        >>> import numpy as np
        >>> repository = RemoteModelRepository("memory://example/models", actor="docs")
        >>> repository.register({"weights": np.array([1.0, 2.0])}).id
        '1'
        >>> again = RemoteModelRepository("memory://example/models")
        >>> again.load_model(again.get_latest_version())
        {'weights': array([1., 2.])}
    """

    def __init__(
        self,
        location: str | _fsspec.AbstractFileSystem,
        path: str | None = None,
        *,
        storage_options: Mapping[str, Any] | None = None,
        exclusive: bool | None = None,
        formats: Sequence[ModelFormat] | None = None,
        trust: bool = False,
        verifier: Verifier | None = None,
        signer: Signer | None = None,
        cache_directory: str | os.PathLike[str] | None = None,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        clock: Clock | None = None,
        actor: str | None = None,
        follow_seconds: float = 5.0,
    ) -> None:
        if not cache_bytes > 0:
            raise InvalidArgumentError("cache_bytes", cache_bytes, "a number of bytes, above 0")
        clock = clock if clock is not None else SystemClock()
        self._store = store_at(location, path, exclusive, storage_options, clock)
        cache = None if cache_directory is None else DigestCache(checked_root(cache_directory), cache_bytes)
        self._is_proven = False
        super().__init__(
            Layout("", StoreFilesystem(self._store)),
            self._store.root,
            versions=versions_with(cache),
            formats=formats,
            trust=trust,
            verifier=verifier,
            signer=signer,
            clock=clock,
            actor=actor,
            follow_seconds=follow_seconds,
        )

    @override
    def _prepare(self) -> None:
        # A store that takes the condition and ignores it would let two writers overwrite each other unseen.
        if not self._is_proven:
            self._store.prove_exclusive(MARKER, sealed("repository", {}))
            self._is_proven = True
