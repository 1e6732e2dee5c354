"""Records of models and their versions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import attrs
from typing_extensions import override

from mlserve.errors import InvalidArgumentError
from mlserve.records._values import FrozenMapping, aware, to_utc

if TYPE_CHECKING:
    from mlserve.records._monitoring import Baseline
    from mlserve.schemas import Schema


class Stage(StrEnum):
    """Where a version stands in its repository."""

    CANDIDATE = "CANDIDATE"
    """Registered, never activated; may not be served."""
    ACTIVE = "ACTIVE"
    """May be served."""
    RETIRED = "RETIRED"
    """Was active; may not be served until it is activated again."""


class Task(StrEnum):
    """What a model predicts. scikit-learn's words ``"classifier"`` and ``"regressor"`` are understood too."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"

    @classmethod
    @override
    def _missing_(cls, value: object) -> Task | None:
        return {"classifier": cls.CLASSIFICATION, "regressor": cls.REGRESSION}.get(str(value))


def _version_id(_instance: object, _attribute: object, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise InvalidArgumentError("id", value, "a non-empty string", hint="Ids are decimal, such as '1'.")


def _tags(value: Mapping[str, str] | None) -> FrozenMapping[str, str]:
    if value is not None and not isinstance(value, Mapping):
        raise InvalidArgumentError("tags", value, "a mapping of str to str", hint="For example {'team': 'search'}.")
    tags = FrozenMapping(value)
    for key, text in tags.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise InvalidArgumentError("tags", {key: text}, "a mapping of str to str", hint="Use str(value).")
    return tags


@attrs.frozen
class ModelVersion:
    """One immutable trained model in a repository. Two are equal when their ids are.

    Its stage is the repository's to tell (``stage(version)``), because it changes.

    Attributes:
        id: Decimal number in order of registration, from ``"1"``, per repository; never reused.
        created_at: When it was registered; timezone-aware, kept in UTC.
        digest: Hash of the model's bytes, where the repository keeps bytes; else None.
        tags: Free text by key; immutable.
    """

    id: str = attrs.field(validator=_version_id)
    created_at: datetime = attrs.field(eq=False, converter=to_utc, validator=aware)
    digest: str | None = attrs.field(default=None, eq=False)
    tags: Mapping[str, str] = attrs.field(default=None, eq=False, converter=_tags)

    @override
    def __str__(self) -> str:
        return self.id


@attrs.frozen(eq=False)
class VersionDescription:
    """What a version carries beside its model: the road on which it reaches server and monitor.

    Attributes:
        version: The version described.
        task: Classification, regression, or None where nobody said.
        example: One input the model takes, in the form in which callers send it, or None.
        schema: What inputs must look like, or None: then any input but None is passed to the model.
        baseline: Metrics and inputs to compare later windows with, or None.
        lineage: Where it came from, for example ``parent`` and ``trigger``; immutable.
    """

    version: ModelVersion
    task: Task | None = None
    example: Any = None
    schema: Schema | None = None
    baseline: Baseline | None = None
    lineage: Mapping[str, str] = attrs.field(factory=FrozenMapping)


@attrs.frozen
class HistoryEntry:
    """One change of a repository, in order.

    Attributes:
        generation: The repository's generation after the change.
        action: ``"register"``, ``"activate"``, ``"retire"``, ``"rollback"`` or ``"alias"``; a repository on disk also
            has ``"pin"``, ``"unpin"``, ``"collect"`` and ``"discard"``.
        version_id: The version it concerned; for a rollback, the version that serves afterwards.
        at: When; UTC.
        detail: What else to know, for example the alias set or the version left by a rollback.
        actor: Who made it, where the repository keeps that; else empty.
        reason: Why, where somebody said.
        evidence: What the decision stood on, by name, where somebody said; immutable.
    """

    generation: int
    action: str
    version_id: str
    at: datetime = attrs.field(converter=to_utc, validator=aware)
    detail: str = ""
    actor: str = ""
    reason: str = ""
    evidence: Mapping[str, Any] = attrs.field(factory=FrozenMapping, hash=False)
