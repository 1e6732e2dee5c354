"""The monitor in memory: the embedded default, and the template for every other."""

from __future__ import annotations

import copy
import random
import threading
from collections import deque
from collections.abc import Sequence
from datetime import timedelta
from types import NoneType
from typing import TYPE_CHECKING, Any, final

import attrs
import numpy as np
from typing_extensions import override

from mlserve._buckets import MICROSECOND, Resolution, microseconds
from mlserve._counting import Tally
from mlserve._forking import renew_after_fork
from mlserve.clocks import Clock, SystemClock, timestamps
from mlserve.errors import InvalidArgumentError
from mlserve.monitors._baselines import BaselineStore, as_input_sample
from mlserve.monitors._blocks import EPOCH, Rare
from mlserve.monitors._ledger import ROW, Ledger
from mlserve.monitors._sampling import Thinned
from mlserve.monitors._windows import TrafficSummary
from mlserve.protocols import (
    BaselineMonitor,
    DeferringMonitor,
    EventMonitor,
    LabelledMonitor,
    ModelMonitor,
    PredictionMonitor,
)
from mlserve.records import (
    EventPage,
    FailureEvent,
    InputSample,
    ModelMetrics,
    MonitorStatistics,
    PredictionEvent,
    PredictionSample,
)
from mlserve.schemas import feature_rows

if TYPE_CHECKING:
    from mlserve.records import DriftEvent

DEFAULT_RESOLUTIONS = (
    Resolution(timedelta(seconds=1), timedelta(minutes=10)),
    Resolution(timedelta(minutes=1), timedelta(hours=24)),
    Resolution(timedelta(hours=1), timedelta(days=30)),
)
"""Seconds for what is watched now, minutes for a day, hours for the month that burn rates look back on."""

FOLD_EVERY = 512
"""Requests that wait to be counted, at most; few enough that folding them takes a fraction of a millisecond."""

FEWEST_RECENT = 1024
"""Requests that are kept whole, at least."""

_METHODS = {True: "all", False: "reservoir"}
_ndarray = np.ndarray
_IMMUTABLE = frozenset({NoneType, bool, int, float, complex, str, bytes, np.float64, np.float32, np.int64, np.bool_})


@final
class InMemoryModelMonitor(
    ModelMonitor, LabelledMonitor, BaselineMonitor, PredictionMonitor, EventMonitor, DeferringMonitor
):
    """Counts, latencies, inputs and outcomes in the memory of this process, bounded whatever the traffic.

    Recording appends to a buffer without a lock; what was appended is folded into columns and buckets by the next
    reader, or by the caller that fills the buffer. The last ``recent_requests`` requests are kept whole: a window
    that reaches no further back is exact to the microsecond. Older ones are kept in buckets: a longer window is
    rounded outward to a bucket at its far end, and nothing else about it is inexact but quantiles (1 %). Inputs of any
    window are a uniform sample without replacement of at most ``sample_size``.

    *Thread safety*: yes, from threads and event loops at once. *Ownership*: inputs and outputs are copied before a
    record method returns. *Durability*: none.

    Args:
        resolutions: How finely the past is kept, and how long, from the finest to the coarsest.
        recent_requests: Requests to keep whole.
        sample_size: Inputs in a sample of a window, at most.
        pending_outcomes: Predictions that wait for their outcome, at most.
        recent_events: Events that ``events`` can still show.
        clock: Where "now" comes from.
        seed: For the sampling of inputs.

    Raises:
        InvalidArgumentError: A size that is not positive, or resolutions out of order.

    Example:
        >>> from mlserve.clocks import ManualClock
        >>> clock = ManualClock()
        >>> monitor = InMemoryModelMonitor(clock=clock)
        >>> monitor.record_prediction(PredictionEvent("a", "1", [1.0], 0, 2.0, clock.now()))
        >>> monitor.record_outcome("a", 1)
        >>> metrics = monitor.get_model_metrics("1", timedelta(minutes=5))
        >>> metrics.request_count, metrics.accuracy
        (1, 0.0)
    """

    def __init__(
        self,
        *,
        resolutions: Sequence[Resolution] = DEFAULT_RESOLUTIONS,
        recent_requests: int = 65_536,
        sample_size: int = 5_000,
        pending_outcomes: int = 100_000,
        recent_events: int = 10_000,
        clock: Clock | None = None,
        seed: int = 0,
    ) -> None:
        sizes = {
            "sample_size": sample_size,
            "pending_outcomes": pending_outcomes,
            "recent_events": recent_events,
        }
        for name, size in sizes.items():
            if size < 1:
                raise InvalidArgumentError(name, size, "at least 1")
        if recent_requests < FEWEST_RECENT:
            raise InvalidArgumentError("recent_requests", recent_requests, f"at least {FEWEST_RECENT}")
        self._clock: Clock = clock if clock is not None else SystemClock()
        self._timestamp = timestamps(self._clock)
        self._after_fork()
        renew_after_fork(self)
        self._block = min(FOLD_EVERY, recent_requests // 2)
        self._buffer: list[Any] = []
        self._uncopied = Tally()
        self._outcome_buffer: list[tuple[str, Any, float]] = []
        self._random = random.Random(seed).random
        self._ledger = Ledger(
            resolutions=resolutions,
            recent_requests=recent_requests,
            sample_size=sample_size,
            pending_outcomes=pending_outcomes,
            recent_events=recent_events,
            now=self._now,
            seed=seed,
        )
        self._thinning = self._ledger.thinning
        self._baselines = BaselineStore()
        self._drift_events: deque[DriftEvent] = deque(maxlen=recent_events)

    # ------------------------------------------------------------------------------------------------- recording

    @override
    def record_prediction(self, event: PredictionEvent) -> None:
        self.defer_prediction(
            event.prediction_id,
            event.model_version,
            event.input,
            event.output,
            event.processing_time_ms,
            event.timestamp.timestamp(),
            event.confidence,
            event.arm,
            event.key,
        )

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
        buffer = self._buffer
        thinning = self._thinning.get(model_version) if self._thinning else None
        if thinning is not None and timestamp < thinning.until:
            # So many inputs come that most would not stay in the sample: those need not even be copied.
            kept_input: Any = thinning if self._random() < thinning.cut else Thinned(thinning.cut, self._kept(input))
        elif type(input) is _ndarray and not input.dtype.hasobject:
            kept_input = input.copy()
        else:
            kept_input = self._kept(input)
        kept_output = output if type(output) in _IMMUTABLE else self._kept(output)
        rare = None if confidence is None and arm is None and key is None else (confidence, arm, key, None)
        buffer.extend((prediction_id, model_version, kept_input, kept_output, processing_time_ms, timestamp, rare))
        if len(buffer) >= FOLD_EVERY * ROW:
            self._fold_unless_busy()

    @override
    def record_failure(self, event: FailureEvent) -> None:
        rare = Rare(None, event.arm, event.key, str(event.kind))
        seconds = event.timestamp.timestamp()
        self._append_failure(
            (
                event.prediction_id,
                event.model_version,
                self._kept(event.input),
                None,
                event.processing_time_ms,
                seconds,
                rare,
            )
        )

    @override
    def record_prediction_error(self, kind: str, version_id: str | None) -> None:
        self._append_failure(("", version_id, None, None, 0.0, self._timestamp(), Rare(kind=str(kind))))

    def _append_failure(self, row: tuple[Any, ...]) -> None:
        self._buffer.extend(row)
        if len(self._buffer) >= FOLD_EVERY * ROW:
            self._fold_unless_busy()

    @override
    def record_outcome(self, prediction_id: str, actual: Any) -> None:
        self._outcome_buffer.append((prediction_id, self._kept(actual), self._timestamp()))
        if len(self._outcome_buffer) >= FOLD_EVERY:
            self._fold_unless_busy()

    @override
    def record_drift_event(self, event: DriftEvent) -> None:
        with self._lock:
            self._drift_events.append(event)
            self._ledger.counts["drift_events"] += 1

    # --------------------------------------------------------------------------------------------------- reading

    @override
    def get_recent_metrics(self, window: timedelta) -> ModelMetrics:
        with self._lock:
            return self._summary(None, window).metrics(None, window)

    @override
    def get_model_metrics(self, version_id: str, window: timedelta) -> ModelMetrics:
        with self._lock:
            return self._summary(version_id, window).metrics(version_id, window)

    @override
    def get_recent_input_distribution(self, version_id: str, window: timedelta) -> InputSample:
        with self._lock:
            start, now = self._span(window)
            self._fold()
            sampled = self._ledger.sampled(version_id, start, now)
            answered = self._ledger.summary(version_id, start, now).latency.count
        rows, own_names, unusable = feature_rows(sampled.inputs)
        baseline = self._baselines.get(version_id).inputs
        names = () if baseline is None else baseline.feature_names
        return InputSample(
            rows=rows,
            feature_names=own_names or (names if len(names) == rows.shape[1] else ()),
            count=max(answered, len(sampled.inputs)),
            method=_METHODS[sampled.is_all],
            unusable_count=unusable,
        )

    @override
    def get_recent_predictions(self, version_id: str, window: timedelta) -> PredictionSample:
        with self._lock:
            start, now = self._span(window)
            self._fold()
            sampled = self._ledger.sampled(version_id, start, now)
            answered = self._ledger.summary(version_id, start, now).latency.count
        rows, _, unusable = feature_rows(sampled.inputs)
        return PredictionSample(
            sampled.outputs,
            confidences=sampled.confidence,
            # Rows of inputs that are no row are left out, and the others would no longer stand beside their answers.
            inputs=None if unusable else rows,
            count=max(answered, len(sampled.outputs)),
            method=_METHODS[sampled.is_all],
        )

    @override
    def get_baseline_metrics(self, version_id: str) -> ModelMetrics | None:
        return self._baselines.get(version_id).metrics

    @override
    def get_baseline_input_distribution(self, version_id: str) -> InputSample | None:
        return self._baselines.get(version_id).inputs

    @override
    def get_baseline_predictions(self, version_id: str) -> PredictionSample | None:
        return self._baselines.get(version_id).predictions

    @override
    def set_baseline(
        self,
        version_id: str,
        *,
        metrics: ModelMetrics | None = None,
        inputs: Any = None,
        feature_names: Sequence[str] | None = None,
    ) -> None:
        self._baselines.set(version_id, metrics=metrics, inputs=as_input_sample(inputs, feature_names))

    @override
    def set_baseline_predictions(self, version_id: str, predictions: PredictionSample) -> None:
        self._baselines.set(version_id, predictions=predictions)

    @override
    def capture_baseline(self, version_id: str, window: timedelta) -> None:
        metrics = self.get_model_metrics(version_id, window)
        inputs = self.get_recent_input_distribution(version_id, window)
        if metrics.request_count == metrics.error_count:
            raise InvalidArgumentError(
                "window", window, f"a window with predictions of version {version_id}",
                hint="Serve first, or take a longer window.",
            )  # fmt: skip
        predictions = self.get_recent_predictions(version_id, window)
        known = inputs if len(inputs.rows) else None
        self._baselines.set(version_id, metrics=metrics, inputs=known, predictions=predictions)

    @override
    def events(self, after: int = 0, limit: int | None = None) -> EventPage:
        for name, value in (("after", after), ("limit", 0 if limit is None else limit)):
            if value < 0:
                raise InvalidArgumentError(name, value, "at least 0")
        with self._lock:
            self._fold()
            first = max(self._ledger.events.first, min(after, self._ledger.events.count))
            stop = self._ledger.events.count if limit is None else min(first + limit, self._ledger.events.count)
            events = tuple(self._ledger.events.between(first, stop))
            missed = max(0, self._ledger.events.first - after)
        return EventPage(events=events, cursor=max(after, stop), missed=missed)

    def drift_events(self, version_id: str | None = None) -> tuple[DriftEvent, ...]:
        """Drift events recorded, oldest first; of one version, or of all."""
        with self._lock:
            return tuple(event for event in self._drift_events if version_id in (None, event.model_version))

    def statistics(self) -> MonitorStatistics:
        """Counters since the monitor was built."""
        with self._lock:
            self._fold()
            return attrs.evolve(
                MonitorStatistics(**self._ledger.counts),
                uncopied=self._uncopied.value,
                pending=len(self._ledger.pending),
                pending_evicted=self._ledger.pending.evicted,
            )

    # --------------------------------------------------------------------------------------------------- folding

    def _span(self, window: timedelta) -> tuple[int, int]:
        if not isinstance(window, timedelta) or window <= timedelta(0):
            raise InvalidArgumentError("window", window, "a positive timedelta", hint="For example timedelta(hours=1).")
        if window > self._ledger.retention:
            raise InvalidArgumentError(
                "window", window, f"at most the retention, {self._ledger.retention}",
                hint="Give the monitor resolutions that reach further back.",
            )  # fmt: skip
        now = self._now()
        return now - microseconds(window), now

    def _now(self) -> int:
        return (self._clock.now() - EPOCH) // MICROSECOND

    def _summary(self, version_id: str | None, window: timedelta) -> TrafficSummary:
        start, now = self._span(window)
        self._fold()
        return self._ledger.summary(version_id, start, now)

    def _fold_unless_busy(self) -> None:
        # A reader that holds the lock folds the next time; the request does not wait for it.
        if self._lock.acquire(blocking=False):
            try:
                self._fold()
            finally:
                self._lock.release()

    def _fold(self) -> None:
        # Outcomes are taken out first: each one's prediction was appended before it, so it is in the buffer below.
        outcomes = _drained(self._outcome_buffer)
        rows = _drained(self._buffer)
        for start in range(0, len(rows), self._block * ROW):
            self._ledger.fold_requests(rows[start : start + self._block * ROW])
        if outcomes:
            self._ledger.fold_outcomes(outcomes)

    def _kept(self, value: Any) -> Any:
        """A copy that the caller cannot change."""
        kind = type(value)
        if kind in _IMMUTABLE:
            return value
        if kind is _ndarray and not value.dtype.hasobject:
            return value.copy()
        if kind is list and set(map(type, value)) <= _IMMUTABLE:
            return value.copy()
        if kind is dict and set(map(type, value.values())) <= _IMMUTABLE:
            return value.copy()
        try:
            return copy.deepcopy(value)
        except Exception:  # a lock, a socket, a model: counted, and not kept
            self._uncopied.next()
            return None

    def _after_fork(self) -> None:
        self._lock = threading.RLock()


def _drained(buffer: list[Any]) -> list[Any]:
    # As many as there were when it began: others go on appending.
    taken = buffer[:]
    del buffer[: len(taken)]
    return taken
