"""Records of serving: the result of a prediction, the health of a server."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, cast

import attrs
import numpy as np
from typing_extensions import TypeVar, override

from mlserve._rendering import html_table, text_table
from mlserve.errors import ServingError
from mlserve.records._values import aware, to_utc
from mlserve.records._versions import ModelVersion

TOut_co = TypeVar("TOut_co", covariant=True, default=Any)


# No weak-reference slot: DraftResult must have the very same memory layout.
@attrs.frozen(weakref_slot=False, repr=False)
class ServingResult(Generic[TOut_co]):
    """What one prediction came to.

    Attributes:
        success: Whether the model, or a fallback, answered.
        value: The answer; None when it failed.
        error: Why it failed; None when it succeeded.
        version: The version that answered or was asked; None when none could be resolved.
        processing_time_ms: From the call to the answer, validation included, recording not; milliseconds, >= 0.
        prediction_id: Unique over processes; names the prediction when its outcome arrives.
        arm: The arm of the rollout that the request fell in, or None; None where another version answered as a
            fallback, since that is no evidence for either.
        degraded: Which fallback answered and why, or None.
    """

    success: bool
    value: TOut_co | None = None
    error: ServingError | None = None
    version: ModelVersion | None = None
    processing_time_ms: float = 0.0
    prediction_id: str = ""
    arm: str | None = None
    degraded: str | None = None

    def unwrap(self) -> TOut_co:
        """The value, or a fresh copy of the error.

        Returns:
            The answer.

        Raises:
            ServingError: The subclass named by ``error.kind``, caused by the original exception.
        """
        if self.error is not None:
            raise self.error.copy() from self.error.exception
        return cast(TOut_co, self.value)

    def _summary(self) -> list[tuple[str, str]]:
        rows = [("value", _shown(self.value))] if self.success else []
        if self.error is not None:
            rows += [("error", f"{self.error.kind}: {self.error.message}")]
        rows += [
            ("version", "none" if self.version is None else self.version.id),
            ("processing time", f"{self.processing_time_ms:.3f} ms"),
            ("prediction id", self.prediction_id),
        ]
        rows += [(name, text) for name, text in (("arm", self.arm), ("degraded", self.degraded)) if text]
        return rows

    @override
    def __repr__(self) -> str:
        inside = ", ".join(f"{name.replace(' ', '_')}={text}" for name, text in self._summary())
        return f"ServingResult(success={self.success}, {inside})"

    def _repr_html_(self) -> str:
        return html_table("Prediction" if self.success else "Failed prediction", self._summary())


def _shown(value: object) -> str:
    # A numpy scalar is shown as the number or the text it holds.
    return repr(value.item() if isinstance(value, np.generic) else value)


class DraftResult(Generic[TOut_co]):
    """Becomes a ``ServingResult``. A frozen attrs ``__init__`` costs three times these plain stores."""

    __slots__ = ("arm", "degraded", "error", "prediction_id", "processing_time_ms", "success", "value", "version")

    def __init__(
        self,
        success: bool,
        value: TOut_co | None,
        error: ServingError | None,
        version: ModelVersion | None,
        processing_time_ms: float,
        prediction_id: str,
        arm: str | None,
        degraded: str | None,
    ) -> None:
        self.success = success
        self.value = value
        self.error = error
        self.version = version
        self.processing_time_ms = processing_time_ms
        self.prediction_id = prediction_id
        self.arm = arm
        self.degraded = degraded
        self.__class__ = ServingResult  # type: ignore[assignment]  # the same slots in the same order, see above


build_result = cast("type[ServingResult[Any]]", DraftResult)
"""Builds a ``ServingResult`` at a third of the cost of its constructor; takes all eight fields by position."""


@attrs.frozen
class Route:
    """Where a request goes.

    Attributes:
        version_id: The version.
        arm: The part of a rollout that the request falls in, or None.
    """

    version_id: str
    arm: str | None = None


class HealthState(StrEnum):
    """The state of a server as a whole."""

    HEALTHY = "HEALTHY"
    DEGRADED = "DEGRADED"
    """It serves, but something asks for attention."""
    UNHEALTHY = "UNHEALTHY"
    """It should not receive traffic."""


class CheckStatus(StrEnum):
    """What one check found."""

    PASS = "PASS"
    WARN = "WARN"
    FAIL = "FAIL"
    SKIPPED = "SKIPPED"
    """It could not be carried out; the detail says what it lacks."""


@attrs.frozen
class HealthCheck:
    """One named check.

    Attributes:
        name: What was checked, for example ``"prediction"``.
        status: What was found.
        detail: In words.
    """

    name: str
    status: CheckStatus
    detail: str


@attrs.frozen(repr=False)
class HealthStatus:
    """The health of a server at one moment.

    Attributes:
        is_healthy: Whether it serves; true when degraded.
        status: Healthy, degraded or unhealthy.
        current_version: Id of the version that answers when none is named, or None.
        loaded_models: Ids of the versions whose models are in memory, oldest first.
        recent_error_rate: The fault rate (failures less those the caller caused) over the policy's window, in
            [0, 1]; None without traffic or when the monitor cannot be asked.
        average_latency_ms: Over the same window, milliseconds; None without traffic.
        last_check: When this check was made; UTC.
        error: What is wrong, or None.
        checks: Each check by name.
    """

    is_healthy: bool
    status: HealthState
    current_version: str | None
    loaded_models: tuple[str, ...]
    recent_error_rate: float | None
    average_latency_ms: float | None
    last_check: datetime = attrs.field(converter=to_utc, validator=aware)
    error: str | None = None
    checks: tuple[HealthCheck, ...] = ()

    def _summary(self) -> list[tuple[str, str]]:
        rows = [
            ("current version", self.current_version or "none"),
            ("loaded models", ", ".join(self.loaded_models) or "none"),
            ("last check", self.last_check.isoformat(timespec="seconds")),
        ]
        return rows + [(check.name, f"{check.status}: {check.detail}") for check in self.checks]

    @override
    def __repr__(self) -> str:
        return text_table(f"Health: {self.status}", self._summary())

    def _repr_html_(self) -> str:
        return html_table(f"Health: {self.status}", self._summary())
