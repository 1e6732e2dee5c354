"""The monitor in memory: the embedded default, and the template for every other."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, final

import attrs
from typing_extensions import override

from mlserve._buckets import MICROSECOND, Resolution, microseconds
from mlserve.clocks import Clock, SystemClock, timestamps
from mlserve.errors import InvalidArgumentError
from mlserve.monitors._baselines import BaselineStore, as_input_sample, checked_predictions
from mlserve.monitors._blocks import EPOCH, NOT_HERE, RequestBlock, Waiting
from mlserve.monitors._buffer import FOLD_EVERY, RequestBuffer
from mlserve.monitors._inputs import DEFAULT_BINS, as_drawn
from mlserve.monitors._ledger import Ledger
from mlserve.protocols import (
    BaselineMonitor,
    CumulativeMonitor,
    DeferringMonitor,
    EventMonitor,
    LabelledMonitor,
    MergeableMonitor,
    ModelMonitor,
    PredictionMonitor,
)
from mlserve.records import (
    EventPage,
    InputSample,
    ModelMetrics,
    OutcomeEvent,
    PredictionSample,
)
from mlserve.schemas import feature_rows

if TYPE_CHECKING:
    from mlserve.records import DriftEvent, MonitorSnapshot, MonitorStatistics

DEFAULT_RESOLUTIONS = (
    Resolution(timedelta(seconds=1), timedelta(minutes=10)),
    Resolution(timedelta(minutes=1), timedelta(hours=24)),
    Resolution(timedelta(hours=1), timedelta(days=30)),
)
"""Seconds for what is watched now, minutes for a day, hours for the month that burn rates look back on."""

FEWEST_RECENT = 1024
"""Requests that are kept whole, at least."""

_METHODS = {True: "all", False: "reservoir"}


@final
class InMemoryModelMonitor(
    RequestBuffer,
    ModelMonitor,
    LabelledMonitor,
    BaselineMonitor,
    PredictionMonitor,
    CumulativeMonitor,
    MergeableMonitor,
    EventMonitor,
    DeferringMonitor,
):
    """Counts, latencies, inputs and outcomes in the memory of this process, bounded whatever the traffic.

    Recording appends to a buffer without a lock; what was appended is folded into columns and buckets by the next
    reader, or by the caller that fills the buffer. The last ``recent_requests`` requests are kept whole: a window
    that reaches no further back is exact to the microsecond. Older ones are kept in buckets: a longer window is
    rounded outward to a bucket at its far end, and nothing else about it is inexact but quantiles (1 %). Inputs of any
    window are a uniform sample without replacement of at most ``sample_size``; once a version has a baseline, all of
    them are counted besides, in cells at its quantiles.

    *Thread safety*: yes, from threads and event loops at once. *Ownership*: inputs and outputs are copied before a
    record method returns. *Durability*: none.

    Args:
        resolutions: How finely the past is kept, and how long, from the finest to the coarsest.
        recent_requests: Requests to keep whole.
        sample_size: Inputs in a sample of a window, at most.
        pending_outcomes: Predictions that wait for their outcome, at most.
        recent_events: Events that ``events`` can still show.
        label_maturity: How long after a prediction its label is due; None to learn it from the labels that arrive,
            which tells too little while the slow ones are still out.
        input_bins: Bins in which inputs are counted once a version has a baseline, see ``ReferenceBins``.
        source: Names this monitor in snapshots, unique over processes and their restarts; None to draw one. A forked
            child draws another.
        clock: Where "now" comes from.
        seed: For the sampling of inputs.

    Raises:
        InvalidArgumentError: A size that is not positive, or resolutions out of order.

    Example:
        >>> from mlserve.clocks import ManualClock
        >>> from mlserve.records import PredictionEvent
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
        label_maturity: timedelta | None = None,
        input_bins: int = DEFAULT_BINS,
        source: str | None = None,
        clock: Clock | None = None,
        seed: int = 0,
    ) -> None:
        sizes = {
            "sample_size": sample_size,
            "pending_outcomes": pending_outcomes,
            "recent_events": recent_events,
            "input_bins": input_bins,
        }
        for name, size in sizes.items():
            if size < 1:
                raise InvalidArgumentError(name, size, "at least 1")
        if recent_requests < FEWEST_RECENT:
            raise InvalidArgumentError("recent_requests", recent_requests, f"at least {FEWEST_RECENT}")
        if label_maturity is not None and label_maturity < timedelta(0):
            raise InvalidArgumentError("label_maturity", label_maturity, "a timedelta of at least 0")
        if source == "":
            raise InvalidArgumentError("source", source, "a name", hint="Pass None to have one drawn.")
        self._input_bins = input_bins
        self._clock: Clock = clock if clock is not None else SystemClock()
        ledger = Ledger(
            resolutions=resolutions,
            recent_requests=recent_requests,
            sample_size=sample_size,
            pending_outcomes=pending_outcomes,
            recent_events=recent_events,
            label_maturity=label_maturity,
            now=self._now,
            seed=seed,
        )
        super().__init__(ledger, timestamps(self._clock), min(FOLD_EVERY, recent_requests // 2), seed)
        if source is not None:
            self._source = source
        self._baselines = BaselineStore()
        self._drift_events: deque[DriftEvent] = deque(maxlen=recent_events)

    def record_joined_outcomes(self, outcomes: Iterable[OutcomeEvent]) -> None:
        """Count true values that were joined with their predictions elsewhere, for example in a database.

        The predictions themselves were counted by whoever made them; this adds their outcomes only. Of a prediction
        that was made here and still waits, it is the outcome. That each is told once is the caller's to see to.

        Args:
            outcomes: The pairs. Those that cannot be compared are counted as mismatched outcomes.
        """
        listed = list(outcomes)
        elsewhere = {
            one.prediction_id: Waiting(
                NOT_HERE, one.model_version, one.output, (one.predicted_at - EPOCH) // MICROSECOND, one.arm, one.key
            )
            for one in listed
        }
        with self._lock:
            self._fold()
            self._ledger.fold_outcomes(
                [(one.prediction_id, one.actual, one.timestamp.timestamp()) for one in listed], elsewhere
            )

    def forward_answers(self, to: Callable[[RequestBlock], None]) -> None:
        """Hand on successful predictions to a store, some hundred at a time and without their inputs.

        Args:
            to: Called now and then by whoever records or reads, under the monitor's lock: it must be quick.
        """
        with self._lock:
            self._ledger.answered = to

    @override
    def record_drift_event(self, event: DriftEvent) -> None:
        with self._lock:
            self._drift_events.append(event)
            self._ledger.counts["drift_events"] += 1

    # --------------------------------------------------------------------------------------------------- reading

    @override
    def get_recent_metrics(self, window: timedelta) -> ModelMetrics:
        return self._metrics(None, window)

    @override
    def get_model_metrics(self, version_id: str, window: timedelta) -> ModelMetrics:
        return self._metrics(version_id, window)

    @override
    def cumulative_metrics(self, *, with_merged: bool = True) -> tuple[ModelMetrics, ...]:
        """All that was ever recorded, one ``ModelMetrics`` for each version, with ``window`` None.

        Args:
            with_merged: Whether what other monitors counted, and was merged here, is in it.
        """
        with self._lock:
            self._fold()
            totals = self._ledger.totals(self._ledger.merged.totals() if with_merged else ())
            return tuple(summary.metrics(version_id, None) for version_id, summary in totals)

    @override
    def snapshot(self, after: int = 0) -> MonitorSnapshot:
        if after < 0:
            raise InvalidArgumentError("after", after, "at least 0", hint="Pass the sequence of an earlier snapshot.")
        with self._lock:
            self._fold()
            from mlserve.monitors._snapshots import taken

            return taken(self._ledger, self._source, after, self._clock.now())

    @override
    def merge(self, snapshot: MonitorSnapshot) -> None:
        from mlserve.records import MonitorSnapshot

        if not isinstance(snapshot, MonitorSnapshot):
            raise InvalidArgumentError(
                "snapshot", snapshot, "a MonitorSnapshot", hint="Use MonitorSnapshot.from_bytes(data)."
            )
        with self._lock:
            is_new = snapshot.source != self._source and self._ledger.merge(snapshot)
            self._ledger.counts["snapshots_merged" if is_new else "snapshots_ignored"] += 1

    @override
    def get_recent_input_distribution(self, version_id: str, window: timedelta) -> InputSample:
        with self._lock:
            start, now = self._span(window)
            self._fold()
            sampled = self._ledger.sampled(version_id, start, now)
            counted = None if sampled.is_all else self._ledger.counted(version_id, start, now)
            answered = self._ledger.summary(version_id, start, now).latency.count
        baseline = self._baselines.get(version_id).inputs
        return as_drawn(sampled, counted, answered, () if baseline is None else baseline.feature_names)

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
        self._set_baseline(version_id, metrics, as_input_sample(inputs, feature_names))

    @override
    def set_baseline_predictions(self, version_id: str, predictions: PredictionSample) -> None:
        self._baselines.set(version_id, predictions=checked_predictions(predictions))

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
        # Of traffic that other monitors saw there are counts only.
        known = inputs if len(inputs.rows) else None
        self._set_baseline(version_id, metrics, known, predictions if len(predictions.outputs) else None)

    @override
    def events(self, after: int = 0, limit: int | None = None) -> EventPage:
        for name, value in (("after", after), ("limit", 0 if limit is None else limit)):
            if value < 0:
                raise InvalidArgumentError(name, value, "at least 0")
        with self._lock:
            self._fold()
            return self._ledger.events.page(after, limit)

    def drift_events(self, version_id: str | None = None) -> tuple[DriftEvent, ...]:
        """Drift events recorded, oldest first; of one version, or of all."""
        with self._lock:
            return tuple(event for event in self._drift_events if version_id in (None, event.model_version))

    def statistics(self) -> MonitorStatistics:
        """Counters since the monitor was built."""
        from mlserve.records import MonitorStatistics

        with self._lock:
            self._fold()
            self._ledger.merged.forget_old(self._now())
            return attrs.evolve(
                MonitorStatistics(**self._ledger.counts),
                uncopied=self._copier.uncopied.value,
                pending=len(self._ledger.pending),
                pending_evicted=self._ledger.pending.evicted,
                sources=len(self._ledger.merged),
                snapshot_gaps=self._ledger.merged.gaps,
            )

    # --------------------------------------------------------------------------------------------------- folding

    @override
    def _after_fork(self) -> None:
        super()._after_fork()
        # The parent goes on counting under the name it has.
        self._source = os.urandom(16).hex()

    def _set_baseline(
        self,
        version_id: str,
        metrics: ModelMetrics | None,
        inputs: InputSample | None,
        predictions: PredictionSample | None = None,
    ) -> None:
        self._baselines.set(version_id, metrics=metrics, inputs=inputs, predictions=predictions)
        if inputs is not None and inputs.rows.size:
            from mlserve.numerics._binning import ReferenceBins

            bins = ReferenceBins.from_rows(inputs.rows, inputs.feature_names, self._input_bins)
            with self._lock:
                self._fold()
                self._ledger.set_bins(version_id, bins)

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

    def _metrics(self, version_id: str | None, window: timedelta) -> ModelMetrics:
        with self._lock:
            start, now = self._span(window)
            self._fold()
            return self._ledger.metrics(version_id, window, start, now)
