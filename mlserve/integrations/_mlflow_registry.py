"""An MLflow registry as mlserve sees it: its versions, which of them serve, and what mlserve wrote into its tags."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, final

import attrs
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mlserve.errors import MlserveError, RepositoryUnavailableError, RepositoryWriteError, VersionNotFoundError
from mlserve.records import HistoryEntry, ModelVersion, Stage
from mlserve.records._values import FrozenMapping
from mlserve.repositories._documents import canonical, moment

PREFIX: Final = "mlserve."
"""Tags of mlserve's own begin with it."""

STAGE: Final = "mlserve.stage"
ACTIVATION: Final = "mlserve.activation"
CREATED: Final = "mlserve.created_at"
DIGEST: Final = "mlserve.digest"
LOG: Final = "mlserve.log."

ARCHIVED: Final = "Archived"

_NOT_THERE: Final = "RESOURCE_DOES_NOT_EXIST"
_PAGE: Final = 1000


@attrs.frozen
class Seen:
    """One version of the registry.

    Attributes:
        version: As mlserve gives it.
        source: Where its files are, as MLflow has it.
        stage: The stage in MLflow.
        updated: When its stage or description was changed last, in milliseconds since 1970.
        activation: Number of the entry by which mlserve activated it; 0 where it is not active by mlserve.
        is_retired: Whether mlserve retired it.
    """

    version: ModelVersion
    source: str
    stage: str
    updated: int
    activation: int
    is_retired: bool


@attrs.frozen
class View:
    """The registry at one moment.

    Attributes:
        versions: Every version, by id.
        active: Ids of those that may be served, the latest first.
        aliases: Ids by alias.
        history: What mlserve changed, oldest first.
    """

    versions: Mapping[str, Seen]
    active: tuple[str, ...]
    aliases: Mapping[str, str]
    history: tuple[HistoryEntry, ...]

    @property
    def next_generation(self) -> int:
        """The number of the next entry."""
        return self.history[-1].generation + 1 if self.history else 1

    def stage(self, version_id: str) -> Stage:
        """Where a version stands."""
        if version_id in self.active:
            return Stage.ACTIVE
        seen = self.versions[version_id]
        return Stage.RETIRED if seen.is_retired or seen.stage == ARCHIVED else Stage.CANDIDATE


@final
class Registry:
    """One registered model of an MLflow registry.

    *Thread safety*: that of ``MlflowClient``, whose methods may be called from any thread.

    Args:
        name: Of the registered model.
        tracking_uri: See ``MlflowClient``.
        registry_uri: See ``MlflowClient``.
        alias: Where given, the version with this alias is the latest.
        stage: Where given, the versions in this stage are active.
    """

    def __init__(
        self, name: str, tracking_uri: str | None, registry_uri: str | None, alias: str | None, stage: str | None
    ) -> None:
        self.name = name
        self.alias = alias
        self.stage = stage
        self.tracking_uri = tracking_uri
        with asking(f"the registry of {name!r}"):
            self.client = MlflowClient(tracking_uri=tracking_uri, registry_uri=registry_uri)

    # -------------------------------------------------------------------------------------------------- reading

    def view(self) -> View:
        """The registry now."""
        with asking(f"the registered model {self.name!r}"):
            try:
                model = self.client.get_registered_model(self.name)
            except MlflowException as error:
                if error.error_code != _NOT_THERE:
                    raise
                return View({}, (), {}, ())
            versions = {seen.version.id: seen for seen in map(seen_of, self._listed())}
        aliases = {alias: str(version) for alias, version in model.aliases.items()}
        return View(versions, self._active(versions, aliases), aliases, _history(model.tags))

    def _listed(self) -> Iterator[Any]:
        token = None
        while True:
            page = self.client.search_model_versions(f"name='{self.name}'", max_results=_PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _active(self, versions: Mapping[str, Seen], aliases: Mapping[str, str]) -> tuple[str, ...]:
        if self.stage is not None:
            staged = [one for one in versions.values() if one.stage == self.stage]
            staged.sort(key=lambda one: (one.updated, one.activation, int(one.version.id)), reverse=True)
            return tuple(one.version.id for one in staged)
        ordered = sorted((one for one in versions.values() if one.activation), key=lambda one: -one.activation)
        ids = [one.version.id for one in ordered]
        if self.alias is None:
            return tuple(ids)
        target = aliases.get(self.alias)
        # Whoever takes the alias away in MLflow takes the model out of service.
        return () if target is None else (target, *(version_id for version_id in ids if version_id != target))

    def one(self, version_id: str) -> Seen:
        """One version, without reading the others.

        Raises:
            VersionNotFoundError: There is none.
        """
        if isinstance(version_id, str) and version_id.isdecimal() and version_id == str(int(version_id)):
            with asking(f"version {version_id} of {self.name!r}"):
                try:
                    return seen_of(self.client.get_model_version(self.name, version_id))
                except MlflowException as error:
                    if error.error_code != _NOT_THERE:
                        raise
        raise self.unknown(version_id)

    def unknown(self, version_id: object) -> VersionNotFoundError:
        """The error about a version that is not there."""
        return VersionNotFoundError(
            f"no version {version_id!r} of the registered model {self.name!r}.",
            hint="Ids are decimal, from '1', as MLflow gives them.",
            version_id=str(version_id),
        )

    def aliased(self, alias: str) -> Seen | None:
        """The version with an alias, without reading the others; None where there is none."""
        with asking(f"the alias {alias!r} of {self.name!r}"):
            try:
                return seen_of(self.client.get_model_version_by_alias(self.name, alias))
            except MlflowException as error:
                # Of a missing alias MLflow says that the parameter is wrong.
                if error.error_code not in (_NOT_THERE, "INVALID_PARAMETER_VALUE"):
                    raise
        return None

    # -------------------------------------------------------------------------------------------------- writing

    def log(self, entry: HistoryEntry) -> None:
        """Write an entry, before its change is made: rather one too many than a change that nobody made."""
        body = {
            "action": entry.action,
            "actor": entry.actor,
            "at": entry.at.isoformat(),
            "detail": entry.detail,
            "evidence": dict(entry.evidence),
            "reason": entry.reason,
            "version_id": entry.version_id,
        }
        self.client.set_registered_model_tag(self.name, f"{LOG}{entry.generation:08d}", canonical(body).decode())

    def make_active(self, version_id: str, generation: int) -> None:
        """Make a version active and the latest."""
        self.client.set_model_version_tag(self.name, version_id, ACTIVATION, str(generation))
        self.client.set_model_version_tag(self.name, version_id, STAGE, Stage.ACTIVE.value)
        if self.stage is not None:
            self._transition(version_id, self.stage)
        # Last: it is what is looked at.
        if self.alias is not None:
            self.client.set_registered_model_alias(self.name, self.alias, version_id)

    def make_retired(self, version_id: str, active: tuple[str, ...]) -> None:
        """Take one of the active versions out of service."""
        remaining = [one for one in active if one != version_id]
        if self.alias is not None and active[0] == version_id:
            if remaining:
                self.client.set_registered_model_alias(self.name, self.alias, remaining[0])
            else:
                self.client.delete_registered_model_alias(self.name, self.alias)
        if self.stage is not None:
            self._transition(version_id, ARCHIVED)
        self.client.set_model_version_tag(self.name, version_id, STAGE, Stage.RETIRED.value)

    def _transition(self, version_id: str, stage: str) -> None:
        self.client.transition_model_version_stage(self.name, version_id, stage)


def seen_of(found: Any) -> Seen:
    """A version of MLflow's as mlserve sees it."""
    tags = dict(found.tags)
    created = tags.get(CREATED)
    version = ModelVersion(
        str(found.version),
        datetime.fromtimestamp(found.creation_timestamp / 1000, UTC) if created is None else moment(created),
        tags.get(DIGEST),
        {key: value for key, value in tags.items() if not key.startswith(PREFIX)},
    )
    stage = tags.get(STAGE)
    return Seen(
        version=version,
        source=found.source,
        stage=found.current_stage,
        updated=found.last_updated_timestamp,
        activation=int(tags.get(ACTIVATION, "0")) if stage == Stage.ACTIVE.value else 0,
        is_retired=stage == Stage.RETIRED.value,
    )


def _history(tags: Mapping[str, str]) -> tuple[HistoryEntry, ...]:
    entries = []
    for key in sorted(key for key in tags if key.startswith(LOG)):
        body = json.loads(tags[key])
        body["at"], body["evidence"] = moment(body["at"]), FrozenMapping(body["evidence"])
        entries.append(HistoryEntry(generation=int(key.removeprefix(LOG)), **body))
    return tuple(entries)


@contextlib.contextmanager
def asking(what: str) -> Iterator[None]:
    """Turn what MLflow raises while it is asked into ``RepositoryUnavailableError``."""
    try:
        yield
    except Exception as error:  # of MLflow, of its database, of the network: they have nothing else in common
        raise RepositoryUnavailableError(
            f"{what} cannot be read: {type(error).__name__}: {error}.",
            hint="Is the tracking server or its database there, and may this process read it?",
            exception=error,
        ) from error


@contextlib.contextmanager
def changing(what: str) -> Iterator[None]:
    """Turn what MLflow raises while something is changed into ``RepositoryWriteError``."""
    try:
        yield
    except MlserveError:
        raise
    except Exception as error:  # as above
        raise RepositoryWriteError(
            f"{what} failed: {type(error).__name__}: {error}.",
            hint="history() and stage() tell what was done before it failed.",
            exception=error,
        ) from error
