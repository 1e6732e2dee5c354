"""What a server tells its monitor; a broken monitor is counted and breaks nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, final

import numpy as np

from mlserve._logs import LazyLogger
from mlserve.clocks import Clock, timestamps
from mlserve.errors import MissingCapabilityError
from mlserve.protocols import (
    BaselineMonitor,
    BlockMonitor,
    DeferringMonitor,
    EventMonitor,
    LabelledMonitor,
    ModelMonitor,
    PredictionMonitor,
)
from mlserve.protocols._monitors import nobody_waits_for
from mlserve.records import Baseline, FailureEvent, PredictionEvent
from mlserve.serving._pace import Pace

_log = LazyLogger(__name__)

LOG_EVERY_SECONDS = 60.0
"""A monitor that keeps failing is logged this often, not once a request."""


@final
class Recorder:
    """Records predictions, failures, outcomes and baselines with whatever protocols the monitor has.

    *Thread safety*: yes, as far as the monitor is.

    Args:
        monitor: The monitor.
        clock: For times of failures, and of what is logged.
        pace: Of the monitor.

    Attributes:
        prediction: Takes nine values by position, as ``DeferringMonitor.defer_prediction`` does. May raise.
        pace: Of the monitor; None for one that defers what it is told, so that nobody has to wait for it.
    """

    def __init__(self, monitor: ModelMonitor, clock: Clock, pace: Pace) -> None:
        self._monitor = monitor
        self._monotonic = clock.monotonic
        self._now = timestamps(clock)
        self.renew()
        self._next_log = float("-inf")
        self.errors = 0
        """Calls of the monitor that raised."""
        # Found once: to ask what a monitor can do takes 3 µs.
        self._record_block: Callable[..., None] | None = None
        if isinstance(monitor, BlockMonitor):
            self._record_block = monitor.record_block
        self.pace: Pace | None = None
        self.prediction: Callable[..., None]
        self.prediction = self._whole_prediction
        if isinstance(monitor, DeferringMonitor):
            self.prediction = monitor.defer_prediction
        self._record_failure: Callable[..., None] = self._failed_prediction
        if not nobody_waits_for(monitor):
            self.pace = pace
            self.prediction = pace.measured(self.prediction)
            self._record_failure = pace.measured(self._record_failure)
            if self._record_block is not None:
                self._record_block = pace.measured(self._record_block, lambda _version, ids, *_: len(ids))

    def renew(self) -> None:
        """A new lock, for a forked child."""
        self._lock = threading.Lock()

    def _whole_prediction(
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
        moment = datetime.fromtimestamp(timestamp, UTC)
        self._monitor.record_prediction(
            PredictionEvent(
                prediction_id, model_version, input, output, processing_time_ms, moment, confidence, arm, key
            )
        )

    def block(
        self,
        model_version: str,
        ids: Sequence[str],
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        times_ms: Any,
        timestamp: float,
        confidences: Any,
        arms: Sequence[str | None] | None,
        keys: Sequence[str | None] | None,
    ) -> None:
        """Record predictions that were made together, as ``BlockMonitor.record_block`` does. May raise."""
        count = len(ids)
        if self._record_block is not None:
            if arms is not None and arms.count(None) == count:
                arms = None
            if keys is not None and keys.count(None) == count:
                keys = None
            self._record_block(
                model_version, ids, inputs, outputs, times_ms, timestamp, confidences, arms, keys,
            )  # fmt: skip
            return
        nothing = [None] * count
        arms = nothing if arms is None else arms
        keys = nothing if keys is None else keys
        confidences = nothing if confidences is None else _floats(confidences)
        for name, input, output, took_ms, confidence, arm, key in zip(
            ids, inputs, outputs, _floats(times_ms), confidences, arms, keys, strict=True
        ):
            self.prediction(name, model_version, input, output, took_ms, timestamp, confidence, arm, key)

    def failure(
        self,
        prediction_id: str,
        version_id: str | None,
        input: Any,
        kind: str,
        elapsed_ms: float,
        key: str | None,
        arm: str | None = None,
    ) -> None:
        """Record a failed prediction. May raise."""
        moment = datetime.fromtimestamp(self._now(), UTC)
        self._record_failure(prediction_id, version_id, input, kind, elapsed_ms, moment, arm, key)

    def _failed_prediction(self, prediction_id: str, version_id: str | None, input: Any, kind: str, *rest: Any) -> None:
        if isinstance(self._monitor, EventMonitor):
            self._monitor.record_failure(FailureEvent(prediction_id, version_id, input, kind, *rest))
        else:
            self._monitor.record_prediction_error(kind, version_id)

    def outcome(self, prediction_id: str, actual: Any) -> None:
        """Record a true value.

        Raises:
            MissingCapabilityError: The monitor takes none.
        """
        if not isinstance(self._monitor, LabelledMonitor):
            raise MissingCapabilityError(self._monitor, "LabelledMonitor", "recording an outcome")
        try:
            self._monitor.record_outcome(prediction_id, actual)
        except Exception as error:
            self.failed(error)

    def baseline(self, version_id: str, baseline: Baseline | None) -> None:
        """Hand a version's own baseline to the monitor, unless that has one already. Never raises."""
        if baseline is None:
            return
        monitor = self._monitor
        try:
            if isinstance(monitor, BaselineMonitor):
                metrics, inputs = baseline.metrics, baseline.inputs
                if monitor.get_baseline_metrics(version_id) is not None:
                    metrics = None
                if monitor.get_baseline_input_distribution(version_id) is not None:
                    inputs = None
                if metrics is not None or inputs is not None:
                    monitor.set_baseline(version_id, metrics=metrics, inputs=inputs)
            if (
                baseline.predictions is not None
                and isinstance(monitor, PredictionMonitor)
                and monitor.get_baseline_predictions(version_id) is None
            ):
                monitor.set_baseline_predictions(version_id, baseline.predictions)
        except Exception as error:
            self.failed(error)

    def failed(self, error: BaseException) -> None:
        """Count an exception of the monitor; log it, but not more often than once a minute."""
        now = self._monotonic()
        with self._lock:
            self.errors += 1
            is_due = now >= self._next_log
            if is_due:
                self._next_log = now + LOG_EVERY_SECONDS
        if is_due:
            _log.warning("the monitor failed (%d times so far); predictions go on", self.errors, exc_info=error)


def _floats(column: Any) -> Sequence[Any]:
    """Plain floats of an array; anything else as it is."""
    return column.tolist() if isinstance(column, np.ndarray) else column  # type: ignore[no-any-return]  # a list
