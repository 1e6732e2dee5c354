"""What a wrapper of monitors tells, and what it does when that fails."""

from __future__ import annotations

import logging
import threading
from abc import abstractmethod
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, final, runtime_checkable

from mlserve._forking import renew_after_fork
from mlserve.clocks import Clock
from mlserve.records import FailureEvent, PredictionEvent

if TYPE_CHECKING:
    from mlserve.records import DriftEvent

_log = logging.getLogger(__name__)

LOG_EVERY_SECONDS = 60.0
"""What keeps failing is logged this often, not once a request."""


@runtime_checkable
class MonitorSink(Protocol):
    """Where events go and nothing is read: the three of the eight methods of ``ModelMonitor`` that take something in.

    Every monitor is one. A sink may take more than that: ``record_outcome`` (``LabelledMonitor``),
    ``record_failure(event)`` instead of ``record_prediction_error``, ``defer_prediction`` (``DeferringMonitor``).

    *Thread safety*, *blocking*, *ownership*, *failure*: as ``ModelMonitor``.
    """

    @abstractmethod
    def record_prediction(self, event: PredictionEvent) -> None:
        """Take in a prediction that was answered."""
        ...

    @abstractmethod
    def record_prediction_error(self, kind: str, version_id: str | None) -> None:
        """Take in a prediction that failed now.

        Args:
            kind: An ``ErrorKind`` value.
            version_id: The version asked, or None where none was resolved.
        """
        ...

    @abstractmethod
    def record_drift_event(self, event: DriftEvent) -> None:
        """Take in a drift that was found."""
        ...


@runtime_checkable
class TakesFailures(Protocol):
    """The half of ``EventMonitor`` that a sink can have."""

    @abstractmethod
    def record_failure(self, event: FailureEvent) -> None:
        """Take in a prediction that failed."""
        ...


@runtime_checkable
class ReportsStatistics(Protocol):
    """What counts what it does."""

    @abstractmethod
    def statistics(self) -> Any:
        """Counters since it was built."""
        ...


def tell_failure(sink: MonitorSink, event: FailureEvent) -> None:
    """Record a failure whole where the sink can take it so, else its kind only."""
    if isinstance(sink, TakesFailures):
        sink.record_failure(event)
    else:
        sink.record_prediction_error(event.kind, event.model_version)


def as_event(
    prediction_id: str,
    model_version: str,
    input: Any,
    output: Any,
    processing_time_ms: float,
    timestamp: float,
    confidence: float | None,
    arm: str | None,
    key: str | None,
) -> PredictionEvent:
    """The event of the bare values that ``DeferringMonitor.defer_prediction`` takes.

    Raises:
        ValueError, OverflowError: A timestamp that is no time.
    """
    moment = datetime.fromtimestamp(timestamp, UTC)
    return PredictionEvent(
        prediction_id, model_version, input, output, processing_time_ms, moment, confidence, arm, key
    )


@final
class Isolated:
    """Something that may fail, with how often it did.

    *Thread safety*: yes.

    Args:
        what: The thing itself.
        name: What it is called in statistics and logs.
        clock: For the time between two log lines.

    Attributes:
        failures: Calls that raised.
    """

    def __init__(self, what: Any, name: str, clock: Clock) -> None:
        self.what = what
        self.name = name
        self.failures = 0
        self._monotonic = clock.monotonic
        self._next_log = float("-inf")
        self._after_fork()
        renew_after_fork(self)

    def failed(self, error: BaseException) -> None:
        """Count an exception; log it, but not more often than once a minute."""
        now = self._monotonic()
        with self._lock:
            self.failures += 1
            is_due = now >= self._next_log
            if is_due:
                self._next_log = now + LOG_EVERY_SECONDS
        if is_due:
            _log.warning("%s failed (%d times so far); the others go on", self.name, self.failures, exc_info=error)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
