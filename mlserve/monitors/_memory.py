"""The monitor in memory: the embedded default, and the template for every other."""

from __future__ import annotations

import copy
import random
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from datetime import timedelta
from types import NoneType
from typing import Any, final

import attrs
import numpy as np
import numpy.typing as npt
from typing_extensions import override

from mlserve._buckets import MICROSECOND, BucketRing, Resolution, microseconds
from mlserve.clocks import Clock, SystemClock, timestamps
from mlserve.errors import InvalidArgumentError
from mlserve.monitors._blocks import EPOCH, NOTHING_RARE, EventRing, Rare, RequestBlock, packed
from mlserve.monitors._outcomes import PendingOutcomes, pair_up
from mlserve.monitors._recent import SUCCESS, RecentRequests
from mlserve.monitors._sampling import Dropped, Thinned, WindowSample
from mlserve.monitors._windows import OutcomeSummary, TrafficSummary
from mlserve.protocols import BaselineMonitor, DeferringMonitor, EventMonitor, LabelledMonitor, ModelMonitor
from mlserve.records import (
    Baseline,
    DriftEvent,
    EventPage,
    FailureEvent,
    InputSample,
    ModelMetrics,
    MonitorStatistics,
    PredictionEvent,
)
from mlserve.schemas import feature_rows

DEFAULT_RESOLUTIONS = (
    Resolution(timedelta(seconds=1), timedelta(minutes=10)),
    Resolution(timedelta(minutes=1), timedelta(hours=24)),
    Resolution(timedelta(hours=1), timedelta(days=30)),
)
"""Seconds for what is watched now, minutes for a day, hours for the month that burn rates look back on."""

FOLD_EVERY = 512
"""Requests that wait to be counted, at most; few enough that folding them takes a fraction of a millisecond."""

_ndarray = np.ndarray
_IMMUTABLE = frozenset({NoneType, bool, int, float, complex, str, bytes, np.float64, np.float32, np.int64, np.bool_})


ROW = 7
"""Values of a request as it waits to be counted: id, version, input, output, milliseconds, seconds since 1970, and
what is rare. They stand one after the other in one flat list, which takes a row at a time without a lock and gives
whole columns as slices."""


@final
class InMemoryModelMonitor(ModelMonitor, LabelledMonitor, BaselineMonitor, EventMonitor, DeferringMonitor):
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
        if recent_requests < 2 * FOLD_EVERY:
            raise InvalidArgumentError("recent_requests", recent_requests, f"at least {2 * FOLD_EVERY}")
        self._clock: Clock = clock if clock is not None else SystemClock()
        self._timestamp = timestamps(self._clock)
        self._lock = threading.RLock()
        self._buffer: list[Any] = []
        self._outcome_buffer: list[tuple[str, Any, float]] = []
        self._resolutions = tuple(resolutions)
        self._new_ring()  # refuses resolutions that are out of order now, not in the middle of the night
        self._retention = self._resolutions[-1].retention
        self._recent = RecentRequests(recent_requests, self._hand_on)
        self._version_ids: list[str | None] = []
        self._version_codes: dict[str | None, int] = {}
        self._kind_names = [""]
        self._kind_codes: dict[str | None, int] = {None: SUCCESS}
        self._rings: dict[int, BucketRing[TrafficSummary]] = {}
        self._samples: dict[int, WindowSample] = {}
        self._sample_size = sample_size
        self._rng = np.random.default_rng(seed)
        self._random = random.Random(seed).random
        # Versions whose inputs are thinned, with what stands for an input that is not kept.
        self._thinning: dict[str, Dropped] = {}
        self._pending = PendingOutcomes(pending_outcomes)
        self._events = EventRing(recent_events)
        self._baselines: dict[str, Baseline] = {}
        self._drift_events: deque[DriftEvent] = deque(maxlen=recent_events)
        self._counts: Counter[str] = Counter()

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
        if thinning is not None:
            # So many inputs come that most would not stay in the sample: those need not even be copied.
            kept_input: Any = thinning if self._random() < thinning.cut else Thinned(thinning.cut, _kept(input))
        elif type(input) is _ndarray:
            kept_input = input.copy()
        else:
            kept_input = _kept(input)
        kept_output = output if type(output) in _IMMUTABLE else _kept(output)
        rare = None if confidence is None and arm is None and key is None else (confidence, arm, key, None)
        buffer.extend((prediction_id, model_version, kept_input, kept_output, processing_time_ms, timestamp, rare))
        if len(buffer) >= FOLD_EVERY * ROW:
            self._fold_unless_busy()

    @override
    def record_failure(self, event: FailureEvent) -> None:
        rare = Rare(None, event.arm, event.key, str(event.kind))
        seconds = event.timestamp.timestamp()
        self._append_failure(
            (event.prediction_id, event.model_version, _kept(event.input), None, event.processing_time_ms, seconds, rare)
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
        self._outcome_buffer.append((prediction_id, _kept(actual), self._timestamp()))
        if len(self._outcome_buffer) >= FOLD_EVERY:
            self._fold_unless_busy()

    @override
    def record_drift_event(self, event: DriftEvent) -> None:
        with self._lock:
            self._drift_events.append(event)
            self._counts["drift_events"] += 1

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
            code = self._version_codes.get(version_id, -1)
            sample = self._samples.get(code)
            inputs = sample.between(start, now) if sample is not None else []
            answered = self._summary_since(start, now, code).latency.count
        rows, unusable = feature_rows(inputs)
        baseline = self._baselines.get(version_id)
        names = baseline.inputs.feature_names if baseline is not None and baseline.inputs is not None else ()
        return InputSample(
            rows=rows,
            feature_names=names if len(names) == rows.shape[1] else (),
            count=max(answered, len(inputs)),
            method="all" if len(inputs) < self._sample_size else "reservoir",
            unusable_count=unusable,
        )

    @override
    def get_baseline_metrics(self, version_id: str) -> ModelMetrics | None:
        baseline = self._baselines.get(version_id)
        return None if baseline is None else baseline.metrics

    @override
    def get_baseline_input_distribution(self, version_id: str) -> InputSample | None:
        baseline = self._baselines.get(version_id)
        return None if baseline is None else baseline.inputs

    @override
    def set_baseline(
        self,
        version_id: str,
        *,
        metrics: ModelMetrics | None = None,
        inputs: Any = None,
        feature_names: Sequence[str] | None = None,
    ) -> None:
        if metrics is not None and not isinstance(metrics, ModelMetrics):
            raise InvalidArgumentError("metrics", metrics, "a ModelMetrics", hint="Use ModelMetrics(accuracy=0.9).")
        sample = inputs
        if inputs is not None and (feature_names is not None or not isinstance(inputs, InputSample)):
            rows = inputs.rows if isinstance(inputs, InputSample) else inputs
            columns = getattr(rows, "columns", None)
            if feature_names is None and columns is not None:
                feature_names = [str(column) for column in columns]
            sample = InputSample(rows=rows, feature_names=feature_names)
        with self._lock:
            known = self._baselines.get(version_id, Baseline())
            self._baselines[version_id] = Baseline(
                metrics=known.metrics if metrics is None else metrics,
                inputs=known.inputs if sample is None else sample,
            )

    @override
    def capture_baseline(self, version_id: str, window: timedelta) -> None:
        metrics = self.get_model_metrics(version_id, window)
        inputs = self.get_recent_input_distribution(version_id, window)
        if metrics.request_count == metrics.error_count:
            raise InvalidArgumentError(
                "window", window, f"a window with predictions of version {version_id}",
                hint="Serve first, or take a longer window.",
            )  # fmt: skip
        self.set_baseline(version_id, metrics=metrics, inputs=inputs if len(inputs.rows) else None)

    @override
    def events(self, after: int = 0, limit: int | None = None) -> EventPage:
        for name, value in (("after", after), ("limit", 0 if limit is None else limit)):
            if value < 0:
                raise InvalidArgumentError(name, value, "at least 0")
        with self._lock:
            self._fold()
            first = max(self._events.first, min(after, self._events.count))
            stop = self._events.count if limit is None else min(first + limit, self._events.count)
            events = tuple(self._events.between(first, stop))
            missed = max(0, self._events.first - after)
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
                MonitorStatistics(**self._counts), pending=len(self._pending), pending_evicted=self._pending.evicted
            )

    # --------------------------------------------------------------------------------------------------- folding

    def _span(self, window: timedelta) -> tuple[int, int]:
        if not isinstance(window, timedelta) or window <= timedelta(0):
            raise InvalidArgumentError("window", window, "a positive timedelta", hint="For example timedelta(hours=1).")
        if window > self._retention:
            raise InvalidArgumentError(
                "window", window, f"at most the retention, {self._retention}",
                hint="Give the monitor resolutions that reach further back.",
            )  # fmt: skip
        now = (self._clock.now() - EPOCH) // MICROSECOND
        return now - microseconds(window), now

    def _summary(self, version_id: str | None, window: timedelta) -> TrafficSummary:
        start, now = self._span(window)
        self._fold()
        return self._summary_since(start, now, None if version_id is None else self._version_codes.get(version_id, -1))

    def _summary_since(self, start: int, now: int, code: int | None) -> TrafficSummary:
        parts = [self._recent.summarise(self._recent.between(start, now, code), self._kind_names)]
        if start < self._recent.forgotten_until:
            rings = self._rings.values() if code is None else [self._rings[code]] * (code in self._rings)
            parts += [summary for ring in rings for summary in ring.since(start, now)]
        return TrafficSummary.total(parts)

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
        for start in range(0, len(rows), FOLD_EVERY * ROW):
            self._fold_requests(rows[start : start + FOLD_EVERY * ROW])
        if outcomes:
            self._fold_outcomes(outcomes)

    def _fold_requests(self, flat: list[Any]) -> None:
        ids, versions, inputs, outputs, latencies, seconds, rare = (flat[column::ROW] for column in range(ROW))
        latency = np.array(latencies, np.float64)
        time = np.rint(np.array(seconds, np.float64) * 1e6)
        sound = np.isfinite(latency) & (latency >= 0) & np.isfinite(time)
        if not sound.all():
            dropped = int((~sound).sum())
            self._counts["dropped"] += dropped
            self._counts["recorded"] += dropped
            kept = [flat[row * ROW + column] for row in np.flatnonzero(sound).tolist() for column in range(ROW)]
            if kept:
                self._fold_requests(kept)
            return
        self._counts["recorded"] += len(ids)
        times = time.astype(np.int64)
        codes = _coded(versions, self._version_codes, self._new_version).astype(np.int32)
        kind, confidence = self._rare_columns(rare)
        sequence = self._recent.append(times, codes, kind, latency, confidence)
        block = RequestBlock(packed(ids), sequence, versions, inputs, outputs, latency, times, rare)
        self._events.append(block)
        if kind.any():
            answered = np.flatnonzero(kind == SUCCESS)
            block, codes = block.only(answered.tolist()), codes[answered]
        if len(block):
            self._sample_inputs(codes, block.times, block.inputs)
            self._pending.extend(block)

    def _rare_columns(
        self, rare: Sequence[tuple[Any, ...] | None]
    ) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.float64]]:
        if not any(rare):
            return np.zeros(len(rare), np.int16), np.full(len(rare), np.nan)
        confidences, _, _, kinds = zip(*(NOTHING_RARE if row is None else row for row in rare), strict=True)
        return _coded(kinds, self._kind_codes, self._new_kind).astype(np.int16), np.array(confidences, np.float64)

    def _sample_inputs(
        self, codes: npt.NDArray[np.int32], times: npt.NDArray[np.int64], inputs: Sequence[Any]
    ) -> None:
        for code, chosen in _by_code(codes):
            if code not in self._samples:
                self._samples[code] = WindowSample(self._sample_size, self._rng)
            sample = self._samples[code]
            sample.extend(times[chosen], inputs if chosen.size == len(inputs) else [inputs[i] for i in chosen.tolist()])
            version_id = str(self._version_ids[code])
            if sample.cut:
                self._thinning[version_id] = Dropped(sample.cut)
            else:
                self._thinning.pop(version_id, None)

    def _fold_outcomes(self, outcomes: list[tuple[str, Any, float]]) -> None:
        late: dict[int, list[tuple[int, OutcomeSummary]]] = {}
        for prediction_id, actual, timestamp in outcomes:
            found = self._pending.pop(prediction_id)
            if found is None:
                known = self._pending.was_labelled(prediction_id)
                self._counts["duplicate_outcomes" if known else "unknown_outcomes"] += 1
                continue
            block, row = found
            pair = pair_up(block.outputs[row], actual)
            if pair is None:
                self._counts["mismatched_outcomes"] += 1
                continue
            self._counts["outcomes"] += 1
            if not self._recent.label(block.sequence(row), *pair):
                code = self._version_codes[block.version_ids[row]]
                late.setdefault(code, []).append((int(block.times[row]), pair[0]))
            self._events.append((block.outcome(prediction_id, row, actual, timestamp),))
        for code, pairs in late.items():
            self._add_late(code, pairs)

    def _add_late(self, code: int, pairs: list[tuple[int, OutcomeSummary]]) -> None:
        def total(positions: npt.NDArray[np.intp]) -> TrafficSummary:
            return TrafficSummary(outcomes=sum((pairs[i][1] for i in positions.tolist()), OutcomeSummary()))

        times = np.array([time for time, _ in pairs], np.int64)
        self._rings[code].add(times, total, self._now())

    def _hand_on(self, rows: int) -> None:
        """Put the rows that are about to be forgotten into buckets."""
        now = self._now()
        for code, positions in _by_code(self._recent.version[:rows]):
            ring = self._rings.setdefault(code, self._new_ring())
            ring.expire(now)
            ring.add(self._recent.time[positions], self._summariser(positions), now)
            if code in self._samples:
                self._samples[code].forget_before(now - microseconds(self._retention))

    def _summariser(self, positions: npt.NDArray[np.intp]) -> Callable[[npt.NDArray[np.intp]], TrafficSummary]:
        return lambda group: self._recent.summarise(positions[group], self._kind_names)

    def _new_ring(self) -> BucketRing[TrafficSummary]:
        return BucketRing(self._resolutions)

    def _now(self) -> int:
        return (self._clock.now() - EPOCH) // MICROSECOND

    def _new_version(self, version_id: str | None) -> int:
        self._version_ids.append(version_id)
        return len(self._version_ids) - 1

    def _new_kind(self, kind: str | None) -> int:
        self._kind_names.append(str(kind))
        return len(self._kind_names) - 1


def _by_code(codes: npt.NDArray[np.int32]) -> list[tuple[int, npt.NDArray[np.intp]]]:
    """The positions of each code."""
    if (codes == codes[0]).all():  # by far the commonest case, and the cheapest to see
        return [(int(codes[0]), np.arange(codes.size))]
    return [(code, np.flatnonzero(codes == code)) for code in np.unique(codes).tolist()]


def _coded(
    values: Sequence[str | None], codes: dict[str | None, int], new: Callable[[str | None], int]
) -> npt.NDArray[np.int64]:
    """Each value's code; a value seen for the first time gets a new one."""
    distinct = set(values)
    for value in distinct - codes.keys():
        codes[value] = new(value)
    if len(distinct) == 1:
        return np.full(len(values), codes[values[0]])
    return np.fromiter(map(codes.__getitem__, values), np.int64, len(values))


def _drained(buffer: list[Any]) -> list[Any]:
    # As many as there were when it began: others go on appending.
    taken = buffer[:]
    del buffer[: len(taken)]
    return taken


def _kept(value: Any) -> Any:
    """A copy that the caller cannot change."""
    kind = type(value)
    if kind in _IMMUTABLE:
        return value
    if kind is np.ndarray:
        return value.copy()
    if kind is list and set(map(type, value)) <= _IMMUTABLE:
        return value.copy()
    if kind is dict and set(map(type, value.values())) <= _IMMUTABLE:
        return value.copy()
    try:
        return copy.deepcopy(value)
    except Exception:  # whatever cannot be copied is not kept; it shows among the unusable inputs of a sample
        return None
