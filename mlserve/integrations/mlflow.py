"""The models of an MLflow registry, served and changed through mlserve."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Generic, final

from typing_extensions import TypeVar, override

from mlserve._forking import renew_after_fork
from mlserve.clocks import Clock, SystemClock
from mlserve.errors import InvalidArgumentError, MissingExtraError, VersionNotFoundError
from mlserve.protocols import VersionDescriber, WritableModelRepository
from mlserve.records import HistoryEntry, ModelVersion, Stage, Task, VersionDescription
from mlserve.records._values import FrozenMapping
from mlserve.repositories._describing import carried_with, text_by_key
from mlserve.repositories._documents import checked_alias
from mlserve.repositories._formats import (
    ModelFormat,
    NumpyFormat,
    PickleFormat,
    SkopsFormat,
    checked_formats,
    format_for,
)
from mlserve.repositories._guards import checked_actor, checked_evidence
from mlserve.repositories._onnx import OnnxFormat
from mlserve.schemas import Schema

try:
    import mlflow as _mlflow  # noqa: F401  # only to see whether it is there
except ModuleNotFoundError as _error:  # pragma: no cover  # tested in an interpreter of its own
    raise MissingExtraError(_error.name or "mlflow", "mlflow", "MlflowModelRepository") from _error

from mlserve.integrations._mlflow_artifacts import (
    Download,
    FlavorLoader,
    contents,
    load_flavor,
    load_published,
    published,
)
from mlserve.integrations._mlflow_publishing import Publisher
from mlserve.integrations._mlflow_registry import (
    PREFIX,
    Registry,
    Seen,
    View,
    changing,
)

__all__ = ["MlflowModelRepository"]

TModel = TypeVar("TModel", default=Any)


@final
class MlflowModelRepository(WritableModelRepository[TModel], VersionDescriber, Generic[TModel]):
    """One registered model of an MLflow registry.

    Versions have MLflow's numbers, tags and aliases. Which of them serve is said by one of three rules:

    - ``alias="champion"``: the version with this alias is the latest, whoever set it. Others that mlserve activated
      before are active, too, and are what ``rollback`` goes back to. Without the alias nothing is served.
    - ``stage="Production"``: the versions in this stage, the one that came to it last first. MLflow is about to remove
      stages and warns of their use.
    - neither: those that were activated through mlserve, in that order.

    What MLflow has no place for, mlserve keeps in tags that begin with ``mlserve.``: the order of activation, what is
    retired, and the history, in which only changes through mlserve stand.

    *Thread safety*: yes. *Processes*: any number may read. MLflow has no conditional change: of two processes that
    write at the same moment one may overwrite the other's entry in the history or its activation, and ``expected=`` of
    ``set_alias`` is compared a moment before the change. Let one process at a time write, or use a
    ``RemoteModelRepository``. *Durability*: that of the tracking store. *Ownership*: every call of ``load_model`` gives
    a model of its own.

    Args:
        name: Of the registered model; made by the first ``register``.
        tracking_uri: Of the tracking server or database; None for MLflow's own setting.
        registry_uri: Of the registry, where it is another one.
        alias: See above.
        stage: See above.
        formats: In which forms models are kept that are registered through mlserve, see ``DirectoryModelRepository``.
        flavors: Loaders by flavor, for models that were logged by MLflow: each takes the directory with the
            ``MLmodel`` file. They come first; then ``onnx``, and ``sklearn`` where it was kept by skops, which run no
            code; then by trust ``sklearn`` and ``python_function``.
        trust: Whether models may be loaded that can run code, by whoever could write to the artifact store.
        experiment: In which experiment the runs are made that hold the files of registered models. Default: the name.
        clock: Where times come from.
        actor: Who makes the changes; kept in the history. Default: user and machine.

    Raises:
        InvalidArgumentError: No name; both rules; no formats.
        RepositoryUnavailableError: The registry cannot be reached.
    """

    def __init__(
        self,
        name: str,
        *,
        tracking_uri: str | None = None,
        registry_uri: str | None = None,
        alias: str | None = None,
        stage: str | None = None,
        formats: Sequence[ModelFormat] | None = None,
        flavors: Mapping[str, FlavorLoader] | None = None,
        trust: bool = False,
        experiment: str | None = None,
        clock: Clock | None = None,
        actor: str | None = None,
    ) -> None:
        if not isinstance(name, str) or not name or "'" in name:
            raise InvalidArgumentError("name", name, "the name of a registered model, without quotes")
        if alias is not None and stage is not None:
            raise InvalidArgumentError("stage", stage, "None where alias is given")
        defaults = (NumpyFormat(), OnnxFormat(), SkopsFormat(), PickleFormat())
        self._formats = checked_formats(defaults if formats is None else formats)
        self._flavors = dict(flavors or {})
        self._trust = trust
        self._clock: Clock = clock if clock is not None else SystemClock()
        self._actor = checked_actor(actor)
        self._registry = Registry(
            name, tracking_uri, registry_uri, None if alias is None else checked_alias(alias), stage
        )
        self._publisher = Publisher(self._registry, name if experiment is None else experiment)
        self._after_fork()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self._writing = threading.RLock()

    # ------------------------------------------------------------------------------------------------- reading

    @override
    def get_latest_version(self) -> ModelVersion:
        latest: Seen | None
        if self._registry.alias is not None:
            latest = self._registry.aliased(self._registry.alias)
        else:
            view = self._registry.view()
            latest = view.versions[view.active[0]] if view.active else None
        if latest is None:
            raise VersionNotFoundError(
                f"no version of the registered model {self._registry.name!r} is active by {self._rule()}.",
                hint="Call activate(version_id), or open it with the alias= or stage= that says what serves.",
            )
        return latest.version

    def _rule(self) -> str:
        if self._registry.alias is not None:
            return f"the alias {self._registry.alias!r}"
        return f"the stage {self._registry.stage!r}" if self._registry.stage is not None else "mlserve"

    @override
    def get_active_versions(self, limit: int | None = None) -> tuple[ModelVersion, ...]:
        if limit is not None and limit < 0:
            raise InvalidArgumentError("limit", limit, "at least 0, or None for all")
        view = self._registry.view()
        return tuple(view.versions[one].version for one in itertools.islice(view.active, limit))

    @override
    def load_model(self, version: ModelVersion) -> TModel:
        """Download the files of a version and make its model.

        Args:
            version: A version of this registered model, in whatever stage.

        Returns:
            A new model, ready to predict.

        Raises:
            VersionNotFoundError: There is no such version.
            UntrustedModelError: Loading it could run code, and nobody said that it may.
            UnsupportedFormatError: No format and no flavor can load it.
            IntegrityError: It was registered through mlserve, and is not as it was.
            RepositoryUnavailableError: The registry or the artifact store cannot be read.
        """
        where = f"version {version.id} of {self._registry.name!r}"
        download = self._downloaded(version.id, where)
        is_kept = False
        try:
            model: TModel
            manifest = published(download.directory)
            if manifest is not None:
                model = load_published(download.directory, manifest, self._formats, self._trust, where)
            else:
                model = load_flavor(str(download.directory), self._flavors, self._trust, where)
                download.keep_for(model)
                is_kept = True
            return model
        finally:
            if not is_kept:
                download.close()

    def _downloaded(self, version_id: str, where: str) -> Download:
        return Download(self._registry.one(version_id).source, self._registry.tracking_uri, where)

    @override
    def describe(self, version: ModelVersion | str) -> VersionDescription:
        """What a version carries beside its model: nothing where it was not registered through mlserve.

        Raises:
            VersionNotFoundError, IntegrityError, RepositoryUnavailableError: As ``load_model``.
        """
        seen = self._registry.one(version.id if isinstance(version, ModelVersion) else version)
        if seen.version.digest is None:
            return VersionDescription(seen.version)
        where = f"version {seen.version.id} of {self._registry.name!r}"
        download = self._downloaded(seen.version.id, where)
        try:
            manifest = published(download.directory)
            if manifest is None:
                return VersionDescription(seen.version)
            arrays = contents(download.directory, manifest, manifest.array_files)
            described = manifest.description(arrays, where)
        finally:
            download.close()
        return VersionDescription(
            seen.version, described.task, described.example, described.schema, described.baseline, described.lineage
        )

    @override
    def get_version(self, version_id: str) -> ModelVersion:
        return self._registry.one(version_id).version

    @override
    def stage(self, version: ModelVersion | str) -> Stage:
        version_id = version.id if isinstance(version, ModelVersion) else version
        return self._known(self._registry.view(), version_id)[1]

    @override
    def resolve_alias(self, alias: str) -> ModelVersion:
        view = self._registry.view()
        if alias not in view.aliases:
            raise VersionNotFoundError(
                f"no alias {alias!r}; there are {sorted(view.aliases)}.", hint="Call set_alias(alias, version_id)."
            )
        return view.versions[view.aliases[alias]].version

    @override
    def history(self) -> tuple[HistoryEntry, ...]:
        """Who changed what through mlserve; changes by MLflow's own means are not in it."""
        return self._registry.view().history

    def _known(self, view: View, version_id: str) -> tuple[ModelVersion, Stage]:
        if version_id not in view.versions:
            raise self._registry.unknown(version_id)
        return view.versions[version_id].version, view.stage(version_id)

    # ------------------------------------------------------------------------------------------------- writing

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
        lineage: Mapping[str, str] | None = None,
        activate: bool = True,
        reason: str = "",
        evidence: Mapping[str, Any] | None = None,
    ) -> ModelVersion:
        """Write a model as a new version: its files into a run, whole, and only then its number into the registry.

        Args:
            model: See ``DirectoryModelRepository.register``; so are all arguments but ``tags``.
            task: ``"classification"`` or ``"regression"``.
            example: One input.
            schema: What inputs must look like.
            baseline: What later windows are compared with.
            tags: Free text by key, MLflow's tags of the version; none begins with ``mlserve.``.
            lineage: Where the version came from.
            activate: Whether it serves from now on; else it is a candidate.
            reason: Why; kept in the history.
            evidence: What the decision stands on, as JSON values by name; kept in the history.

        Returns:
            The new version.

        Raises:
            InvalidArgumentError, UnsupportedFormatError, SerializationError: See there.
            RepositoryWriteError: MLflow or its artifact store refused.
        """
        carried = carried_with(model, task, example, schema, baseline, lineage)
        labels = text_by_key("tags", tags)
        for key in labels:
            if key.startswith(PREFIX):
                raise InvalidArgumentError("tags", key, f"keys that do not begin with {PREFIX!r}")
        checked_evidence(reason, evidence)
        with self._writing, changing("registering the model"):
            version = self._publisher.publish(
                model, format_for(model, self._formats, self._trust), carried, labels, self._clock.now(), self._actor
            )
            self._log(self._registry.view(), "register", version.id, "", reason, evidence)
            if activate:
                self._activate(self._registry.view(), version.id, reason, evidence)
        return version

    @override
    def activate(self, version_id: str, *, reason: str = "", evidence: Mapping[str, Any] | None = None) -> ModelVersion:
        """Make a version active, and the latest, by the rule of this repository; errors as ``register``."""
        checked_evidence(reason, evidence)
        with self._writing, changing("activating"):
            view = self._registry.view()
            version, _ = self._known(view, version_id)
            self._activate(view, version_id, reason, evidence)
            return version

    def _activate(self, view: View, version_id: str, reason: str, evidence: Mapping[str, Any] | None) -> None:
        self._log(view, "activate", version_id, "", reason, evidence)
        self._registry.make_active(version_id, view.next_generation)

    @override
    def retire(self, version_id: str, *, reason: str = "", evidence: Mapping[str, Any] | None = None) -> ModelVersion:
        """Take a version out of service; where it has the alias, that moves to the one before, or is deleted."""
        checked_evidence(reason, evidence)
        with self._writing, changing("retiring"):
            view = self._registry.view()
            version, stage = self._known(view, version_id)
            if stage is not Stage.ACTIVE:
                raise VersionNotFoundError(
                    f"version {version_id!r} is {stage}, so it cannot be retired.",
                    hint="Only active versions can.",
                    version_id=version_id,
                )
            self._log(view, "retire", version_id, "", reason, evidence)
            self._registry.make_retired(version_id, view.active)
            return version

    @override
    def rollback(self, *, reason: str = "", evidence: Mapping[str, Any] | None = None) -> ModelVersion:
        """Retire the latest version and return the one that serves now; errors as ``register``."""
        checked_evidence(reason, evidence)
        with self._writing, changing("rolling back"):
            view = self._registry.view()
            if len(view.active) < 2:
                raise VersionNotFoundError(
                    f"nothing to roll back to: {len(view.active)} versions are active.",
                    hint="Activate the version to serve instead.",
                )
            left, serving = view.active[:2]
            self._log(view, "rollback", serving, f"left {left}", reason, evidence)
            self._registry.make_retired(left, view.active)
            return view.versions[serving].version

    @override
    def set_alias(
        self,
        alias: str,
        version_id: str,
        *,
        expected: str | None = None,
        reason: str = "",
        evidence: Mapping[str, Any] | None = None,
    ) -> None:
        """Point an alias at a version; the alias of this repository's rule makes it the latest.

        Args:
            alias: A name as MLflow allows it, and no number.
            version_id: What it means from now on.
            expected: Only if the alias points at this version; compared a moment before the change.
            reason: Why; kept in the history.
            evidence: What the decision stands on; kept in the history.
        """
        checked_alias(alias)
        checked_evidence(reason, evidence)
        with self._writing, changing("setting the alias"):
            view = self._registry.view()
            self._known(view, version_id)
            current = view.aliases.get(alias)
            if expected is not None and current != expected:
                raise InvalidArgumentError(
                    "expected", expected, f"{current!r}, where {alias!r} points now", hint="Read it again and decide."
                )
            if alias == self._registry.alias:
                self._log(view, "alias", version_id, alias, reason, evidence)
                self._registry.make_active(version_id, view.next_generation)
            else:
                self._registry.client.set_registered_model_alias(self._registry.name, alias, version_id)
                self._log(view, "alias", version_id, alias, reason, evidence)

    def _log(
        self,
        view: View,
        action: str,
        version_id: str,
        detail: str,
        reason: str,
        evidence: Mapping[str, Any] | None,
    ) -> None:
        self._registry.log(
            HistoryEntry(
                generation=view.next_generation,
                action=action,
                version_id=version_id,
                at=self._clock.now(),
                detail=detail,
                actor=self._actor,
                reason=reason,
                evidence=FrozenMapping(evidence),
            )
        )
