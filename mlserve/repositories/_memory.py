"""The repository in memory: the template for every other."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, final

from typing_extensions import TypeVar, override

from mlserve._forking import renew_after_fork
from mlserve.clocks import Clock, SystemClock
from mlserve.errors import InvalidArgumentError, VersionNotFoundError
from mlserve.protocols import VersionDescriber, WritableModelRepository
from mlserve.records import HistoryEntry, ModelVersion, Stage, Task, VersionDescription
from mlserve.repositories._describing import carried_with

if TYPE_CHECKING:
    from mlserve.schemas import Schema

TModel = TypeVar("TModel", default=Any)


@final
class InMemoryModelRepository(WritableModelRepository[TModel], VersionDescriber, Generic[TModel]):
    """Versions in the memory of this process.

    *Thread safety*: yes. *Ownership*: models are kept and handed out as they are, not copied. *Durability*: none.

    Args:
        clock: Where the times of versions and history come from.

    Attributes:
        generation: Rises with every change.

    Example:
        >>> repository = InMemoryModelRepository()
        >>> repository.register(sum, example=[1.0, 2.0]).id
        '1'
        >>> repository.register(max).id
        '2'
        >>> repository.rollback().id
        '1'
    """

    def __init__(self, *, clock: Clock | None = None) -> None:
        self.generation: int = 0
        self._clock: Clock = clock if clock is not None else SystemClock()
        self._after_fork()
        renew_after_fork(self)
        self._models: dict[str, TModel] = {}
        self._descriptions: dict[str, VersionDescription] = {}
        self._stages: dict[str, Stage] = {}
        # Insertion order is the order of activation; the last one is the latest.
        self._active: dict[str, ModelVersion] = {}
        self._aliases: dict[str, str] = {}
        self._history: list[HistoryEntry] = []

    @override
    def register(
        self,
        model: TModel,
        *,
        task: Task | str | None = None,
        example: Any = None,
        schema: Schema | None = None,
        baseline: Any = None,
        tags: Mapping[str, str] | None = None,
        activate: bool = True,
    ) -> ModelVersion:
        """Keep a model as a new version.

        Args:
            model: A classifier, a regressor, or anything callable.
            task: ``"classification"`` or ``"regression"``; None to let the server find out.
            example: One input in the form in which callers send it, for example ``X_train[0]``.
            schema: What inputs must look like. Default: learned from the example where the model predicts rows and
                the example is an array of numbers; integers are then taken for floats, since one row says little.
                ``ArraySchema.infer(X_train)`` knows more: missing values and ranges. Where the model was fitted on a
                frame, the example has names and the baseline is a frame: ``RecordSchema.infer`` of the baseline.
            baseline: A ``Baseline``, or the rows ``(n_samples, n_features)`` the model was trained on.
            tags: Free text by key.
            activate: Whether it serves from now on; else it is a candidate.

        Returns:
            The new version.

        Raises:
            InvalidArgumentError: An unknown task, tags that are not text, a baseline that is no table, an example
                that does not fit the schema.
        """
        carried = carried_with(model, task, example, schema, baseline)
        with self._lock:
            version = ModelVersion(
                id=str(len(self._descriptions) + 1), created_at=self._clock.now(), tags=tags if tags is not None else {}
            )
            self._descriptions[version.id] = carried.of(version)
            self._models[version.id] = model
            self._stages[version.id] = Stage.CANDIDATE
            self._changed("register", version.id)
            if activate:
                self.activate(version.id)
        return version

    @override
    def get_latest_version(self) -> ModelVersion:
        with self._lock:
            if not self._active:
                raise VersionNotFoundError(
                    f"no version is active; {len(self._descriptions)} are registered.",
                    hint="Call register(model), or activate(version_id).",
                )
            return next(reversed(self._active.values()))

    @override
    def get_active_versions(self, limit: int | None = None) -> tuple[ModelVersion, ...]:
        if limit is not None and limit < 0:
            raise InvalidArgumentError("limit", limit, "at least 0, or None for all")
        with self._lock:
            return tuple(reversed(self._active.values()))[:limit]

    @override
    def load_model(self, version: ModelVersion) -> TModel:
        with self._lock:
            return self._models[self._known(version).id]

    @override
    def get_version(self, version_id: str) -> ModelVersion:
        with self._lock:
            return self._known(version_id)

    @override
    def describe(self, version: ModelVersion | str) -> VersionDescription:
        with self._lock:
            return self._descriptions[self._known(version).id]

    @override
    def stage(self, version: ModelVersion | str) -> Stage:
        with self._lock:
            return self._stages[self._known(version).id]

    @override
    def activate(self, version_id: str) -> ModelVersion:
        with self._lock:
            version = self._known(version_id)
            self._active.pop(version.id, None)
            self._active[version.id] = version
            self._stages[version.id] = Stage.ACTIVE
            self._changed("activate", version.id)
            return version

    @override
    def retire(self, version_id: str) -> ModelVersion:
        with self._lock:
            version = self._known(version_id)
            if version.id not in self._active:
                raise VersionNotFoundError(
                    f"version {version.id!r} is {self._stages[version.id]}, so it cannot be retired.",
                    hint="Only active versions can.",
                    version_id=version.id,
                )
            self._leave(version.id)
            self._changed("retire", version.id)
            return version

    @override
    def rollback(self) -> ModelVersion:
        with self._lock:
            if len(self._active) < 2:
                raise VersionNotFoundError(
                    f"nothing to roll back to: {len(self._active)} versions are active.",
                    hint="Activate the version to serve instead.",
                )
            left = self.get_latest_version()
            self._leave(left.id)
            serving = self.get_latest_version()
            self._changed("rollback", serving.id, f"left {left.id}")
            return serving

    @override
    def set_alias(self, alias: str, version_id: str, *, expected: str | None = None) -> None:
        if not isinstance(alias, str) or not alias or alias.isdecimal():
            raise InvalidArgumentError("alias", alias, "a name that is no number", hint="For example 'champion'.")
        with self._lock:
            version = self._known(version_id)
            current = self._aliases.get(alias)
            if expected is not None and current != expected:
                raise InvalidArgumentError(
                    "expected", expected, f"{current!r}, where {alias!r} points now", hint="Read it again and decide."
                )
            self._aliases[alias] = version.id
            self._changed("alias", version.id, alias)

    @override
    def resolve_alias(self, alias: str) -> ModelVersion:
        with self._lock:
            if alias not in self._aliases:
                raise VersionNotFoundError(
                    f"no alias {alias!r}; there are {sorted(self._aliases)}.", hint="Call set_alias(alias, version_id)."
                )
            return self._known(self._aliases[alias])

    @override
    def history(self) -> tuple[HistoryEntry, ...]:
        with self._lock:
            return tuple(self._history)

    def _known(self, version: ModelVersion | str) -> ModelVersion:
        version_id = version.id if isinstance(version, ModelVersion) else version
        description = self._descriptions.get(version_id)
        if description is None:
            raise VersionNotFoundError(
                f"no version {version_id!r}; {len(self._descriptions)} are registered.",
                hint="Ids are decimal, from '1', in order of registration.",
                version_id=str(version_id),
            )
        return description.version

    def _after_fork(self) -> None:
        self._lock = threading.RLock()

    def _leave(self, version_id: str) -> None:
        del self._active[version_id]
        self._stages[version_id] = Stage.RETIRED

    def _changed(self, action: str, version_id: str, detail: str = "") -> None:
        self._history.append(HistoryEntry(self.generation + 1, action, version_id, self._clock.now(), detail))
        # Last, so that whoever sees the new generation sees the change.
        self.generation += 1
