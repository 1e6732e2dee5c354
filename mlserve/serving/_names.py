"""What names of versions mean, and how a change of the repository is seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import attrs

from mlserve._rendering import described
from mlserve.errors import RepositoryUnavailableError, ServingError, VersionNotFoundError
from mlserve.protocols import ModelRepository, ObservableRepository
from mlserve.records import ModelVersion


@attrs.frozen(eq=False, repr=False)
class _Names:
    """What ids and aliases mean, for as long as the repository has not changed."""

    generation: float
    expires: float
    versions: dict[str, ModelVersion] = attrs.field(factory=dict)


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

    *Thread safety*: yes.

    Args:
        repository: Where versions come from.
        observed: What has its generation.
        interval: Seconds for which an answer is good if the generation does not change.
        monotonic: Tells seconds.
        count_error: Called when the repository raised.
    """

    def __init__(
        self,
        repository: ModelRepository[Any],
        observed: Any,
        interval: float,
        monotonic: Callable[[], float],
        count_error: Callable[[], None],
    ) -> None:
        self._repository = repository
        self._observed = observed
        self._interval = interval
        self._monotonic = monotonic
        self._count_error = count_error
        self._names = _Names(-1, 0.0)

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
        if names.generation != generation or self._monotonic() >= names.expires:
            # One is kept for a while, or until the repository changes; both leave no room for staleness of its own.
            names = self._names = _Names(generation, self._monotonic() + self._interval)
        found = names.versions.get(name)
        if found is None:
            found = names.versions[name] = self._find(name)
        return found

    def known(self, version: ModelVersion | str) -> ModelVersion | None:
        """The same, where the repository need not be asked; else None."""
        name, names = version.id if isinstance(version, ModelVersion) else version, self._names
        is_current = names.generation == self._observed.generation and self._monotonic() < names.expires
        return names.versions.get(name) if is_current and isinstance(name, str) else None

    def _find(self, name: str) -> ModelVersion:
        try:
            active = {version.id: version for version in self._repository.get_active_versions()}
            if name in active:
                return active[name]
            resolve_alias = getattr(self._repository, "resolve_alias", None)
            if resolve_alias is not None and not name.isdecimal():
                target: ModelVersion = resolve_alias(name)
                if target.id in active:
                    return active[target.id]
                name = target.id
            stage = getattr(self._repository, "stage", None)
            standing = f" is {stage(name)}" if stage is not None else " is not among the active versions"
        except VersionNotFoundError as error:
            # A name that means nothing is not recorded as a version: callers could make up any number of them.
            error.version_id = None
            raise
        except ServingError:
            raise
        except Exception as exception:
            self._count_error()
            raise RepositoryUnavailableError(
                f"the repository could not be asked for version {name!r}: {described(exception)}.", exception=exception
            ) from exception
        raise VersionNotFoundError(
            f"version {name!r}{standing}, and only active versions are served.",
            hint=f"Call activate({name!r}) on the repository.",
            version_id=name if stage is not None else None,
        )


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
