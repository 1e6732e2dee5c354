"""What a store of models promises."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from typing_extensions import TypeVar

from mlserve.records import HistoryEntry, ModelVersion, Stage, VersionDescription

TModel_co = TypeVar("TModel_co", covariant=True, default=Any)


@runtime_checkable
class ModelRepository(Protocol[TModel_co]):
    """Where versions live: the three methods that an adapter author must write.

    *Thread safety*: every method may be called from any thread at once. *Blocking*: methods may do I/O; the server
    calls them off the request path and off the event loop. *Durability*: the implementation's to state.
    """

    @abstractmethod
    def get_latest_version(self) -> ModelVersion:
        """The most recently activated active version.

        Raises:
            VersionNotFoundError: No version is active.
        """
        ...

    @abstractmethod
    def get_active_versions(self, limit: int | None = None) -> Sequence[ModelVersion]:
        """The versions that may be served, the most recently activated first.

        Args:
            limit: At most so many, at least 0; None for all.

        Raises:
            InvalidArgumentError: ``limit`` is negative.
        """
        ...

    @abstractmethod
    def load_model(self, version: ModelVersion) -> TModel_co:
        """The model of a version, ready to predict. May be slow.

        *Ownership*: the caller shares the model with every other caller and does not change it.

        Raises:
            VersionNotFoundError: No such version was registered.
        """
        ...


@runtime_checkable
class WritableModelRepository(ModelRepository[TModel_co], Protocol[TModel_co]):
    """A repository that mlserve may write to: what rollouts and retraining need."""

    @abstractmethod
    def register(
        self,
        model: Any,
        *,
        task: Any = None,
        example: Any = None,
        schema: Any = None,
        baseline: Any = None,
        tags: Mapping[str, str] | None = None,
        activate: bool = True,
    ) -> ModelVersion:
        """Store a new version; the latest from now on, unless ``activate`` is false: then a candidate."""
        ...

    @abstractmethod
    def activate(self, version_id: str) -> ModelVersion:
        """Make a version active, and the latest, whatever it was before.

        Raises:
            VersionNotFoundError: No such version was registered.
        """
        ...

    @abstractmethod
    def retire(self, version_id: str) -> ModelVersion:
        """Take a version out of service.

        Raises:
            VersionNotFoundError: No such version was registered, or it is not active.
        """
        ...

    @abstractmethod
    def rollback(self) -> ModelVersion:
        """Retire the latest version and return the one that serves now.

        Raises:
            VersionNotFoundError: Fewer than two versions are active; nothing is changed.
        """
        ...

    @abstractmethod
    def get_version(self, version_id: str) -> ModelVersion:
        """A version by its id, in whatever stage.

        Raises:
            VersionNotFoundError: No such version was registered.
        """
        ...

    @abstractmethod
    def stage(self, version: ModelVersion | str) -> Stage:
        """Where a version stands now.

        Raises:
            VersionNotFoundError: No such version was registered.
        """
        ...

    @abstractmethod
    def set_alias(self, alias: str, version_id: str, *, expected: str | None = None) -> None:
        """Point an alias at a version.

        Args:
            alias: A name that is no number.
            version_id: What it means from now on.
            expected: Only if the alias points at this version now.

        Raises:
            VersionNotFoundError: No such version was registered.
            InvalidArgumentError: The alias could be taken for an id, or points elsewhere than ``expected``.
        """
        ...

    @abstractmethod
    def resolve_alias(self, alias: str) -> ModelVersion:
        """The version an alias points at.

        Raises:
            VersionNotFoundError: No such alias.
        """
        ...

    @abstractmethod
    def history(self) -> Sequence[HistoryEntry]:
        """Every change, oldest first."""
        ...


@runtime_checkable
class VersionDescriber(Protocol):
    """A repository that knows what a version carries beside its model."""

    @abstractmethod
    def describe(self, version: ModelVersion | str) -> VersionDescription:
        """Task, example, schema, baseline and lineage of a version.

        Raises:
            VersionNotFoundError: No such version was registered.
        """
        ...


@runtime_checkable
class ObservableRepository(Protocol):
    """A repository whose change is seen by comparing one integer: the server then follows it with no delay."""

    @property
    @abstractmethod
    def generation(self) -> int:
        """Rises with every change. It is read for every request and must cost no more than an attribute."""
        ...
