"""Reading a stored repository: its methods that change nothing, wherever it is kept."""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic

from typing_extensions import TypeVar, override

from mlserve._forking import renew_after_fork
from mlserve.clocks import Clock, SystemClock
from mlserve.errors import DigestMismatchError, InvalidArgumentError, MissingFileError, VersionNotFoundError
from mlserve.protocols import ModelRepository, ObservableRepository, VersionDescriber
from mlserve.records import HistoryEntry, ModelVersion, Stage, VersionDescription
from mlserve.repositories._changes import State
from mlserve.repositories._formats import (
    ModelFormat,
    NumpyFormat,
    PickleFormat,
    SkopsFormat,
    checked_formats,
    restored,
)
from mlserve.repositories._guards import checked_actor, reading, writing
from mlserve.repositories._layout import Layout
from mlserve.repositories._log import Log
from mlserve.repositories._maintenance import Maintenance
from mlserve.repositories._manifests import (
    MODEL_DIRECTORY,
    Manifest,
    StoredFile,
    format_of,
    warn_of_other_libraries,
)
from mlserve.repositories._onnx import OnnxFormat
from mlserve.repositories._reports import RepositoryStatistics
from mlserve.repositories._signing import Signer, Verifier
from mlserve.repositories._versions import Versions

TModel = TypeVar("TModel", default=Any)

_log = logging.getLogger(__name__)


class RepositoryReader(ModelRepository[TModel], VersionDescriber, ObservableRepository, Generic[TModel]):
    """The half of a stored repository that changes nothing.

    What is the same wherever it is kept: its log, its formats, its descriptions. A subclass gives the layout, on a
    file system or on something that answers like one, and perhaps its own kind of ``Versions``.

    Args:
        layout: Where what lies.
        path: As it was given, for messages.
        versions: How versions are written and read; called as ``Versions`` is.
        formats: See ``DirectoryModelRepository``; so are the rest.
    """

    def __init__(
        self,
        layout: Layout,
        path: object,
        *,
        versions: Callable[[Layout, Clock, Signer | None, Verifier | None], Versions] = Versions,
        formats: Sequence[ModelFormat] | None = None,
        trust: bool = False,
        verifier: Verifier | None = None,
        signer: Signer | None = None,
        clock: Clock | None = None,
        actor: str | None = None,
        follow_seconds: float = 1.0,
    ) -> None:
        if not follow_seconds >= 0:
            raise InvalidArgumentError("follow_seconds", follow_seconds, "seconds, at least 0")
        defaults = (NumpyFormat(), OnnxFormat(), SkopsFormat(), PickleFormat())
        self._formats = checked_formats(defaults if formats is None else formats)
        self._may_run_code = trust or verifier is not None
        self._may_save_code = trust or signer is not None
        self._clock: Clock = clock if clock is not None else SystemClock()
        self._monotonic = self._clock.monotonic  # found once: it is called for every request
        self._actor = checked_actor(actor)
        self._layout = layout
        with writing("making the directory of the repository"):
            self._is_prepared = self._layout.open(path, self._clock)
        self._entries = Log(self._layout, self._clock, self._actor)
        self._versions = versions(self._layout, self._clock, signer, verifier)
        self._maintenance = Maintenance(self._layout, self._entries, self._versions, self._clock)
        self._registered_count = self._loaded_count = 0
        self._follow_seconds = follow_seconds
        self._after_fork()
        renew_after_fork(self)
        with reading("the log"):
            self._entries.catch_up()
        self._look_at = self._monotonic() + follow_seconds

    def _after_fork(self) -> None:
        self._looking = threading.Lock()
        self._preparing = threading.Lock()

    @property
    @override
    def generation(self) -> int:
        """Rises with every change; by another process, within ``follow_seconds``.

        Reading it does no I/O: when it is time to look for changes by others, a short-lived thread does.
        """
        if self._monotonic() >= self._look_at:
            self._look()
        return self._entries.generation

    @override
    def get_latest_version(self) -> ModelVersion:
        with reading("the log"):
            latest = self._entries.latest()
            if latest is None:
                with self._entries.state() as state:
                    registered = len(state.versions)
                raise VersionNotFoundError(
                    f"no version is active; {registered} are registered.",
                    hint="Call register(model), or activate(version_id).",
                )
            return latest

    @override
    def get_active_versions(self, limit: int | None = None) -> tuple[ModelVersion, ...]:
        if limit is not None and limit < 0:
            raise InvalidArgumentError("limit", limit, "at least 0, or None for all")
        with self._state() as state:
            return tuple(state.versions[one] for one in itertools.islice(reversed(state.active), limit))

    @override
    def load_model(self, version: ModelVersion) -> TModel:
        """Read the bytes of a version once, check them, and make the model of these very bytes.

        Args:
            version: A version of this repository, in whatever stage.

        Returns:
            A new model, ready to predict.

        Raises:
            VersionNotFoundError: It was never registered, or was collected.
            SignatureError: The repository has a verifier, which does not accept it.
            IntegrityError: It is not as it was published.
            UntrustedModelError: Loading it could run code, and nobody said that it may.
            UnsupportedFormatError: It was saved in a format that the repository does not know.
            RepositoryUnavailableError: The storage cannot be read.
        """
        manifest, contents = self._read(version, lambda manifest: manifest.model_files)
        chosen = format_of(manifest, self._formats)
        files = {path.removeprefix(MODEL_DIRECTORY): contents.pop(path) for path in sorted(contents)}
        model: TModel = restored(files, chosen, f"version {manifest.version.id}", self._may_run_code)
        warn_of_other_libraries(manifest)
        self._loaded_count += 1
        return model

    @override
    def describe(self, version: ModelVersion | str) -> VersionDescription:
        """What a version carries beside its model.

        Raises:
            VersionNotFoundError, SignatureError, IntegrityError, RepositoryUnavailableError: As ``load_model``.
        """
        manifest, contents = self._read(version, lambda manifest: manifest.array_files)
        return manifest.description(contents, f"versions/{manifest.version.id}")

    def get_version(self, version_id: str) -> ModelVersion:
        """See ``WritableModelRepository``."""
        with self._state() as state:
            return state.known(version_id)

    def stage(self, version: ModelVersion | str) -> Stage:
        """See ``WritableModelRepository``."""
        with self._state() as state:
            return state.stage(state.known(version).id)

    def resolve_alias(self, alias: str) -> ModelVersion:
        """See ``WritableModelRepository``."""
        with self._state() as state:
            if alias not in state.aliases:
                raise VersionNotFoundError(
                    f"no alias {alias!r}; there are {sorted(state.aliases)}.",
                    hint="Call set_alias(alias, version_id).",
                )
            return state.known(state.aliases[alias])

    def history(self) -> tuple[HistoryEntry, ...]:
        """See ``WritableModelRepository``."""
        with reading("the log"):
            return self._entries.history()

    def statistics(self) -> RepositoryStatistics:
        """The repository now, and what was done through this object."""
        now = self._clock.now()
        with self._state() as state:
            return RepositoryStatistics(
                generation=state.generation,
                versions=len(state.versions),
                active=len(state.active),
                aliases=len(state.aliases),
                pinned=sum(state.is_pinned(version_id, now) for version_id in state.pins),
                registered=self._registered_count,
                loaded=self._loaded_count,
                lost_races=self._entries.lost_races,
                lost_numbers=self._versions.lost_numbers,
            )

    @contextlib.contextmanager
    def _state(self) -> Iterator[State]:
        with reading("the log"), self._entries.state() as state:
            yield state

    def _read(
        self, version: ModelVersion | str, files_of: Callable[[Manifest], Sequence[StoredFile]]
    ) -> tuple[Manifest, dict[str, bytes]]:
        with self._state() as state:
            known = state.known(version)
        if isinstance(version, ModelVersion) and version.digest not in (None, known.digest):
            raise DigestMismatchError(
                f"version {known.id} has the digest {known.digest}, and {version.digest} was asked for.",
                hint="Is it a version of another repository?",
            )
        try:
            with reading(f"version {known.id}"):
                manifest = self._versions.manifest(known.id, known)
                return manifest, self._versions.contents(manifest, files_of(manifest))
        except MissingFileError:
            with self._state() as state:
                state.known(known.id)  # collected meanwhile, perhaps
            raise

    def _look(self) -> None:
        if not self._looking.acquire(blocking=False):
            return
        try:
            self._look_at = self._monotonic() + self._follow_seconds
            if self._follow_seconds:
                threading.Thread(target=self._catch_up_quietly, name="mlserve-follow-log", daemon=True).start()
            else:
                self._catch_up_quietly()
        except RuntimeError:
            _log.warning("no thread could be started to look for changes", exc_info=True)
        finally:
            self._looking.release()

    def _catch_up_quietly(self) -> None:
        try:
            with reading("the log"):
                self._entries.catch_up()
        except Exception:
            _log.warning("looking for changes failed", exc_info=True)
