"""Changing a stored repository: its methods that write, wherever it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Generic

from typing_extensions import TypeVar, override

from mlserve.errors import InvalidArgumentError
from mlserve.protocols import WritableModelRepository
from mlserve.records import ModelVersion, Task
from mlserve.repositories._changes import Change, Plan, State
from mlserve.repositories._describing import carried_with, text_by_key
from mlserve.repositories._documents import checked_alias
from mlserve.repositories._formats import format_for, saved
from mlserve.repositories._guards import checked_count, checked_evidence, reading, writing
from mlserve.repositories._manifests import (
    MODEL_DIRECTORY,
    Manifest,
    StoredFile,
    carried_files,
    libraries_of,
    model_digest,
)
from mlserve.repositories._reading import RepositoryReader
from mlserve.repositories._reports import Collection, Repair, Verification
from mlserve.schemas import Schema

TModel = TypeVar("TModel", default=Any)

DEFAULT_KEEP = 10
"""How many of the last registered versions ``gc`` keeps."""

STALE_AFTER = timedelta(hours=1)
"""No publication takes longer: what is staged since then was left by a killed writer."""


class RepositoryWriter(RepositoryReader[TModel], WritableModelRepository[TModel], Generic[TModel]):
    """The half of a stored repository that changes it; ``RepositoryReader`` says what a subclass gives."""

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
        """Write a model as a new version.

        Args:
            model: Something that one of the formats takes.
            task: ``"classification"`` or ``"regression"``; None to let the server find out.
            example: One input in the form in which callers send it; numbers, text, lists, dicts and arrays of these.
            schema: What inputs must look like. Default: learned from the example, as ``InMemoryModelRepository`` does.
            baseline: A ``Baseline``, or the rows ``(n_samples, n_features)`` the model was trained on.
            tags: Free text by key.
            lineage: Where the version came from, for example ``parent``, ``trigger`` and the window of its data.
            activate: Whether it serves from now on; else it is a candidate.
            reason: Why; kept in the log.
            evidence: What the decision stands on, as JSON values by name; kept in the log.

        Returns:
            The new version.

        Raises:
            InvalidArgumentError: See ``InMemoryModelRepository.register``; also a lineage or evidence of other things.
            UnsupportedFormatError: No format takes the model, or only such as run code.
            SerializationError: The model or what it carries cannot be written.
            RepositoryWriteError: The storage refused.
        """
        carried = carried_with(model, task, example, schema, baseline, lineage)
        labels = text_by_key("tags", tags)
        checked_evidence(reason, evidence)
        chosen = format_for(model, self._formats, self._may_save_code)
        contents = {f"{MODEL_DIRECTORY}{name}": data for name, data in saved(model, chosen).items()}
        body, arrays = carried_files(carried)
        created_at, libraries = self._clock.now(), libraries_of(model, chosen)

        def manifest_of(version_id: str, files: tuple[StoredFile, ...]) -> Manifest:
            version = ModelVersion(version_id, created_at, model_digest(files), labels)
            return Manifest(version, files, chosen.name, libraries, body, self._actor)

        with writing("registering the model"):
            self._prepare()
            with self._entries.state() as state:
                first = state.last_number + 1
            version = self._versions.publish({**contents, **arrays}, first, manifest_of).version
            self._entries.append(partial(State.to_register, version=version), reason=reason, evidence=evidence)
            self._registered_count += 1
            if activate:
                self._entries.append(
                    partial(State.to_activate, version_id=version.id), reason=reason, evidence=evidence
                )
        return version

    @override
    def activate(self, version_id: str, *, reason: str = "", evidence: Mapping[str, Any] | None = None) -> ModelVersion:
        """Make a version active, and the latest, whatever it was before.

        Args:
            version_id: Its id.
            reason: Why; kept in the log.
            evidence: What the decision stands on, as JSON values by name; kept in the log.

        Raises:
            VersionNotFoundError: No such version was registered, or it was collected.
            RepositoryWriteError: The storage refused.
        """
        return self._append("activating", partial(State.to_activate, version_id=version_id), reason, evidence)

    @override
    def retire(self, version_id: str, *, reason: str = "", evidence: Mapping[str, Any] | None = None) -> ModelVersion:
        """Take a version out of service. Arguments and errors as ``activate``; also where it is not active."""
        return self._append("retiring", partial(State.to_retire, version_id=version_id), reason, evidence)

    @override
    def rollback(self, *, reason: str = "", evidence: Mapping[str, Any] | None = None) -> ModelVersion:
        """Retire the latest version and return the one that serves now. Arguments and errors as ``activate``."""
        return self._append("rolling back", State.to_rollback, reason, evidence)

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
        """Point an alias at a version.

        Args:
            alias: A name that is no number and has no separators.
            version_id: What it means from now on.
            expected: Only if the alias points at this version at the very moment of the change.
            reason: Why; kept in the log.
            evidence: What the decision stands on, as JSON values by name; kept in the log.

        Raises:
            VersionNotFoundError: No such version was registered, or it was collected.
            InvalidArgumentError: The alias could be taken for an id or a path, or points elsewhere than ``expected``.
            RepositoryWriteError: The storage refused.
        """
        plan = partial(State.to_alias, alias=checked_alias(alias), version_id=version_id, expected=expected)
        self._append("setting the alias", plan, reason, evidence)

    def pin(self, version_id: str, holder: str, *, until: datetime | None = None) -> None:
        """Keep a version from garbage collection, for as long as somebody may load it again.

        Args:
            version_id: Its id.
            holder: Who holds it; the same holder again moves ``until``.
            until: When the hold ends by itself, timezone-aware; None for when ``unpin`` is called.

        Raises:
            VersionNotFoundError: No such version was registered, or it was collected.
            InvalidArgumentError: No holder, or a time without a zone.
            RepositoryWriteError: The storage refused.
        """
        if not isinstance(holder, str) or not holder:
            raise InvalidArgumentError("holder", holder, "a non-empty string", hint="For example 'nightly evaluation'.")
        if until is not None and (not isinstance(until, datetime) or until.tzinfo is None):
            raise InvalidArgumentError("until", until, "a timezone-aware datetime, or None")
        self._append("pinning", partial(State.to_pin, version_id=version_id, holder=holder, until=until))

    def unpin(self, version_id: str, holder: str) -> None:
        """Let go of a version; what was not held stays as it is. Errors as ``pin``."""
        self._append("unpinning", partial(State.to_unpin, version_id=version_id, holder=holder))

    def _append(
        self, what: str, plan: Plan, reason: str = "", evidence: Mapping[str, Any] | None = None
    ) -> ModelVersion:
        checked_evidence(reason, evidence)
        version: ModelVersion | None = None

        def remembering(state: State) -> Change | None:
            nonlocal version
            change = plan(state)
            version = None if change is None else state.versions[change.version_id]
            return change

        with writing(what):
            self._prepare()
            self._entries.append(remembering, reason=reason, evidence=evidence)
        return version  # type: ignore[return-value]  # None only for unpin, which gives nothing back

    def _prepare(self) -> None:
        # Before the first write of this object only: a repository that is merely read is not touched.
        if not self._is_prepared:
            self._layout.make()
            self._is_prepared = True

    # --------------------------------------------------------------------------------------------- maintenance

    def verify(self, version: ModelVersion | str | None = None) -> Verification:
        """Read every byte again and compare it with what was published.

        Args:
            version: One version; None for all that are registered, and the log.

        Returns:
            What was checked, what is wrong, and what killed writers left. Problems are returned, not raised.

        Raises:
            VersionNotFoundError: No such version was registered.
            RepositoryUnavailableError: The storage cannot be read.
        """
        with reading("the repository"):
            return self._maintenance.verify(version.id if isinstance(version, ModelVersion) else version)

    def gc(self, keep: int = DEFAULT_KEEP) -> Collection:
        """Delete versions that nobody can need; their numbers are never given again, and the history keeps them.

        A version stays that is active, has an alias, is pinned, or is among the last that were registered.

        Args:
            keep: How many of the last registered stay whatever they are; at least 0.

        Raises:
            InvalidArgumentError: ``keep`` is negative or no whole number.
            RepositoryWriteError: The storage refused; what was collected until then is gone.
        """
        checked_count("keep", keep)
        with writing("collecting garbage"):
            self._prepare()
            return self._maintenance.gc(keep)

    def repair(self, *, older_than: timedelta = STALE_AFTER) -> Repair:
        """Finish or remove what killed writers left. Nothing needs it: what they left is in nobody's way.

        A version that is wholly there but was not registered becomes a candidate.

        Args:
            older_than: What was staged since then is taken for a living writer's and left alone. A writer that is
                slower after all fails with ``RepositoryWriteError`` and has published nothing.

        Raises:
            InvalidArgumentError: ``older_than`` is negative.
            RepositoryWriteError: The storage refused.
        """
        if not isinstance(older_than, timedelta) or older_than < timedelta(0):
            raise InvalidArgumentError("older_than", older_than, "a timedelta of at least 0")
        with writing("repairing"):
            self._prepare()
            return self._maintenance.repair(older_than)
