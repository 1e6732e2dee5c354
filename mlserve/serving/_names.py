"""What names of versions mean, and how a change of the repository is seen."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, final

import attrs

from mlserve._logs import LazyLogger
from mlserve._rendering import described
from mlserve.errors import RepositoryUnavailableError, ServingError, VersionNotFoundError
from mlserve.protocols import ModelRepository, ObservableRepository
from mlserve.records import ModelVersion

_log = LazyLogger(__name__)

T = TypeVar("T")

PAUSE_SECONDS = 1.0
"""How long a repository that could not be asked is left alone, where no interval of asking says so."""

PATIENCE_SECONDS = 30.0
"""When a repository that has not answered is asked by another thread, for the first time; each time twice as long."""


@attrs.frozen(eq=False, repr=False)
class _Names:
    """What ids and aliases mean, for as long as the repository has not changed.

    Attributes:
        generation: Of the repository.
        expires: Until when they are good, monotonic seconds.
        versions: What they mean.
        before: What they meant before, for as long as the repository cannot be asked.
    """

    generation: float
    expires: float
    versions: dict[str, ModelVersion] = attrs.field(factory=dict)
    before: dict[str, ModelVersion] = attrs.field(factory=dict)


class NeverChanges:
    """Stands for the generation of a repository that has none: such a repository is followed by time."""

    generation = 0


@attrs.frozen(eq=False, repr=False)
class _WorkedOut:
    """The generation of a repository that works it out: one that cannot be read now equals no other."""

    repository: ObservableRepository

    @property
    def generation(self) -> float:
        try:
            return self.repository.generation
        except Exception:
            return float("nan")


def observed(repository: ModelRepository[Any]) -> Any:
    """What has the repository's generation: itself where that is cheap and safe to read, else what stands for it."""
    if "generation" in getattr(repository, "__dict__", ()):
        return repository  # a plain attribute: reading it costs nothing and cannot fail
    try:
        is_observable = isinstance(repository, ObservableRepository)
    except Exception:  # it is observable, only not now
        is_observable = True
    return _WorkedOut(repository) if is_observable else NeverChanges()  # type: ignore[arg-type]  # just found out


@final
class VersionNames:
    """From a version, an id or an alias to the version, asking the repository once for each until it changes.

    Availability first: a name that is known goes on meaning what it did while the repository is asked again, and while
    it cannot be.

    *Thread safety*: yes.

    Args:
        repository: Where versions come from.
        observed: What has its generation.
        interval: Seconds for which an answer is good if the generation does not change; with 0 a request waits for the
            next one.
        monotonic: Tells seconds.
        count_error: Called when the repository raised.
        start: Does something on a thread with a name; tells whether there was one.
    """

    def __init__(
        self,
        repository: ModelRepository[Any],
        observed: Any,
        interval: float,
        monotonic: Callable[[], float],
        count_error: Callable[[], None],
        start: Callable[[str, Callable[[], None]], bool],
    ) -> None:
        self._repository = repository
        self._observed = observed
        self._interval = interval
        self._monotonic = monotonic
        self._count_error = count_error
        self._start = start
        self._names = _Names(-1, 0.0)
        self.renew()

    def renew(self) -> None:
        """Nobody asks the repository, as in a forked child."""
        self._lock = threading.Lock()
        self._refreshing_until = 0.0
        self._patience = PATIENCE_SECONDS

    def resolve(self, version: ModelVersion | str) -> ModelVersion:
        """The version a name stands for, if it may be served.

        Raises:
            ServingError: It may not, or the repository cannot be asked.
        """
        name = version.id if isinstance(version, ModelVersion) else version
        if not isinstance(name, str):
            raise VersionNotFoundError(
                f"a version is named by a ModelVersion, an id or an alias, not by a {type(name).__name__}.",
                hint="Use str(id).",
            )
        names, generation = self._names, self._observed.generation
        is_over = not self._interval and self._monotonic() >= names.expires
        if names.generation != generation or is_over:
            # One is kept for a while, or until the repository changes; both leave no room for staleness of its own.
            before = names.before | names.versions
            names = self._names = _Names(generation, self._monotonic() + self._interval, before=before)
        found = names.versions.get(name)
        if found is None:  # pragma: no branch  # another thread may have been faster
            try:
                found = self._found(name, self._active(f"version {name!r}"))
            except VersionNotFoundError:
                names.before.pop(name, None)
                raise
            except RepositoryUnavailableError as error:
                found = names.before.get(name)
                if found is None:
                    raise
                self._pause(names, error)
                names.versions[name] = found
            else:
                # Where each request is to ask, it is only for when the repository cannot be.
                (names.versions if self._interval else names.before)[name] = found
        return found

    def known(self, version: ModelVersion | str) -> ModelVersion | None:
        """The same, where the repository need not be asked; else None."""
        name, names = version.id if isinstance(version, ModelVersion) else version, self._names
        generation, now = self._observed.generation, self._monotonic()
        is_changed = names.generation != generation
        if generation != generation:  # it cannot be read now, as NaN says: a pause holds all the same
            is_changed = not now < names.expires < math.inf
        if is_changed or not isinstance(name, str):
            return None
        if now >= names.expires:
            if not self._interval:
                return None
            self._refresh_later(names, now)
        return names.versions.get(name)

    def forget(self) -> None:
        """Have the next request ask again what a name means, and wait for it."""
        names = self._names
        self._names = _Names(-1, 0.0, before=names.before | names.versions)

    def _refresh_later(self, names: _Names, now: float) -> None:
        with self._lock:
            if now < self._refreshing_until or self._names is not names:
                return  # a repository that hangs is not asked by one thread more each time
            self._refreshing_until = now + self._patience
            self._patience *= 2.0
        if not self._start("refresh-names", partial(self._refresh, names)):
            self._refreshing_until = now + PAUSE_SECONDS

    def _refresh(self, names: _Names) -> None:
        """Ask what all names mean now."""
        versions: dict[str, ModelVersion] = {}
        try:
            generation, active = self._observed.generation, self._active("its active versions")
            for name in list(names.versions):
                try:
                    versions[name] = self._found(name, active)
                except ServingError as error:
                    _log.info("%s", error.message)
                    meant = names.versions[name]
                    # An alias that cannot be looked up goes on meaning what it did, where that may still be served.
                    if meant.id in active and not isinstance(error, VersionNotFoundError):
                        versions[name] = meant
            before = {name: version for name, version in names.before.copy().items() if version.id in active}
            with self._lock:
                if self._names is names:  # pragma: no branch  # else it was asked anew meanwhile
                    self._names = _Names(generation, self._monotonic() + self._interval, versions, before)
        except Exception as error:
            self._pause(names, error)
        with self._lock:
            self._refreshing_until, self._patience = 0.0, PATIENCE_SECONDS

    def _pause(self, names: _Names, error: Exception) -> None:
        """Take names for unchanged for a while, lest each request wait for a repository that is down."""
        _log.warning("versions go on being called what they were: %s", described(error))
        pause = self._interval if 0.0 < self._interval < math.inf else PAUSE_SECONDS
        with self._lock:
            if self._names is names:  # pragma: no branch  # else it was asked anew meanwhile
                self._names = attrs.evolve(names, expires=self._monotonic() + pause)

    def _active(self, what: str) -> dict[str, ModelVersion]:
        """The versions that may be served, by id."""
        return self._asked(what, lambda: {version.id: version for version in self._repository.get_active_versions()})

    def _found(self, name: str, active: dict[str, ModelVersion]) -> ModelVersion:
        if name in active:
            return active[name]
        target_id, standing, is_known = self._asked(f"version {name!r}", lambda: self._standing(name, active))
        if target_id in active:
            return active[target_id]
        raise VersionNotFoundError(
            f"version {target_id!r}{standing}, and only active versions are served.",
            hint=f"Call activate({target_id!r}) on the repository.",
            version_id=target_id if is_known else None,
        )

    def _standing(self, name: str, active: dict[str, ModelVersion]) -> tuple[str, str, bool]:
        """The id that a name stands for; where that may not be served, how it stands and whether that is known."""
        resolve_alias = getattr(self._repository, "resolve_alias", None)
        if resolve_alias is not None and not name.isdecimal():
            name = resolve_alias(name).id
        stage = None if name in active else getattr(self._repository, "stage", None)
        if stage is None:
            return name, " is not among the active versions", False
        return name, f" is {stage(name)}", True

    def _asked(self, what: str, ask: Callable[[], T]) -> T:
        """What the repository says when it is asked for something.

        Raises:
            ServingError: It means nothing to it, or it cannot be asked.
        """
        try:
            return ask()
        except VersionNotFoundError as error:
            # A name that means nothing is not recorded as a version: callers could make up any number of them.
            error.version_id = None
            raise
        except ServingError:
            raise
        except Exception as exception:
            self._count_error()
            raise RepositoryUnavailableError(
                f"the repository could not be asked for {what}: {described(exception)}.", exception=exception
            ) from exception


def known_id(repository: ModelRepository[Any], version: ModelVersion | str | None) -> str:
    """The id that a version or a name stands for; of the latest version for None.

    A repository that can list every version is asked; one that only knows the active ones is not believed when it
    does not know a version: it may have been retired since.

    Raises:
        ServingError: There is no such version, or the repository cannot be asked.
    """
    name = version.id if isinstance(version, ModelVersion) else version
    if name is not None and not isinstance(name, str):
        raise VersionNotFoundError(f"a version is named by a string, not by a {type(name).__name__}.")
    resolve_alias = getattr(repository, "resolve_alias", None)
    get_version = getattr(repository, "get_version", None)
    try:
        if name is None:
            return repository.get_latest_version().id
        if resolve_alias is not None and not name.isdecimal():
            return str(resolve_alias(name).id)
        return name if get_version is None else str(get_version(name).id)
    except ServingError:
        raise
    except Exception as exception:
        asked = "its latest version" if name is None else f"version {name!r}"
        raise RepositoryUnavailableError(
            f"the repository could not be asked for {asked}: {described(exception)}.", exception=exception
        ) from exception
