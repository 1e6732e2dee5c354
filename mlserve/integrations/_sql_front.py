"""The half of a monitor on a database that only hands on to the monitor in memory."""

from __future__ import annotations

from abc import abstractmethod
from datetime import timedelta
from typing import Any

import attrs
from typing_extensions import override

from mlserve.monitors import InMemoryModelMonitor
from mlserve.protocols import DeferringMonitor, EventMonitor, MergeableMonitor, ModelMonitor, PredictionMonitor
from mlserve.records import (
    EventPage,
    FailureEvent,
    InputSample,
    ModelMetrics,
    MonitorSnapshot,
    MonitorStatistics,
    PredictionEvent,
    PredictionSample,
)


@attrs.frozen
class SqlMonitorStatistics(MonitorStatistics):
    """Counters of one ``SqlModelMonitor`` in this process, besides those of any monitor.

    Attributes:
        source: The name of this process in the database.
        flushes: Times that all there was to write was written.
        flush_errors: Times that it could not be.
        last_flush_age_seconds: How long ago it was the last time; None before the first.
        reads: Times that what others wrote was read.
        read_errors: Times that it could not be.
        unreadable: Rows left out because they were damaged or written by a newer mlserve.
        unstorable: Baselines, drift events and answers that hold something that cannot be stored safely, or are too
            large; they are known to this process only.
        queued: Predictions and outcomes waiting for the next write.
        queue_dropped: Predictions, outcomes and drift events that were given up because too many waited. The
            predictions are counted all the same, but an outcome told to another process will not find them.
    """

    source: str = ""
    flushes: int = 0
    flush_errors: int = 0
    last_flush_age_seconds: float | None = None
    reads: int = 0
    read_errors: int = 0
    unreadable: int = 0
    unstorable: int = 0
    queued: int = 0
    queue_dropped: int = 0


class MemoryFront(ModelMonitor, PredictionMonitor, MergeableMonitor, EventMonitor, DeferringMonitor):
    """Records in a monitor in memory and reads from it.

    *Thread safety*: yes.
    """

    _memory: InMemoryModelMonitor

    @abstractmethod
    def _fresh(self) -> InMemoryModelMonitor:
        """The monitor in memory, with what others wrote if that was read long enough ago."""

    @override
    def record_prediction(self, event: PredictionEvent) -> None:
        self._memory.record_prediction(event)

    @override
    def defer_prediction(
        self,
        prediction_id: str,
        model_version: str,
        input: Any,
        output: Any,
        processing_time_ms: float,
        timestamp: float,
        confidence: float | None,
        arm: str | None,
        key: str | None,
    ) -> None:
        self._memory.defer_prediction(
            prediction_id, model_version, input, output, processing_time_ms, timestamp, confidence, arm, key
        )

    @override
    def record_failure(self, event: FailureEvent) -> None:
        self._memory.record_failure(event)

    @override
    def record_prediction_error(self, kind: str, version_id: str | None) -> None:
        self._memory.record_prediction_error(kind, version_id)

    @override
    def events(self, after: int = 0, limit: int | None = None) -> EventPage:
        return self._memory.events(after, limit)

    @override
    def snapshot(self, after: int = 0) -> MonitorSnapshot:
        return self._memory.snapshot(after)

    @override
    def merge(self, snapshot: MonitorSnapshot) -> None:
        self._memory.merge(snapshot)

    # --------------------------------------------------------------------------------------------------- reading

    @override
    def get_recent_metrics(self, window: timedelta) -> ModelMetrics:
        return self._fresh().get_recent_metrics(window)

    @override
    def get_model_metrics(self, version_id: str, window: timedelta) -> ModelMetrics:
        return self._fresh().get_model_metrics(version_id, window)

    @override
    def get_recent_input_distribution(self, version_id: str, window: timedelta) -> InputSample:
        return self._fresh().get_recent_input_distribution(version_id, window)

    @override
    def get_recent_predictions(self, version_id: str, window: timedelta) -> PredictionSample:
        return self._fresh().get_recent_predictions(version_id, window)

    @override
    def get_baseline_metrics(self, version_id: str) -> ModelMetrics | None:
        return self._fresh().get_baseline_metrics(version_id)

    @override
    def get_baseline_input_distribution(self, version_id: str) -> InputSample | None:
        return self._fresh().get_baseline_input_distribution(version_id)

    @override
    def get_baseline_predictions(self, version_id: str) -> PredictionSample | None:
        return self._fresh().get_baseline_predictions(version_id)
