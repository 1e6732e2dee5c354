"""What monitors keep to whose counts only rise, or travel and add up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import attrs
import numpy as np
import pytest

from mlserve.clocks import ManualClock
from mlserve.errors import ErrorKind, InvalidArgumentError, SnapshotFormatError
from mlserve.protocols import CumulativeMonitor, LabelledMonitor, MergeableMonitor
from mlserve.records import ModelMetrics, MonitorSnapshot
from mlserve.testing._monitor_contract import HOUR, MINUTE, MonitorContract, prediction
from mlserve.testing._monitor_machine import same
from mlserve.testing._threads import THREADS, at_once

LONG_AGO = timedelta(days=1000)
"""Further back than any window reaches."""


class _FleetContract(MonitorContract):
    def _need_outcomes(self, monitor: object) -> None:
        if not isinstance(monitor, LabelledMonitor):
            pytest.skip("it takes no outcomes")


class CumulativeMonitorContract(_FleetContract):
    """The method of ``CumulativeMonitor``: counts since the monitor was built, which only rise."""

    def _totals(self, monitor: Any) -> dict[str | None, ModelMetrics]:
        """What was ever recorded, by version, after ``settle``."""
        self.settle(monitor)
        listed: tuple[ModelMetrics, ...] = monitor.cumulative_metrics()
        versions = [metrics.model_version for metrics in listed]
        assert len(versions) == len(set(versions)), "each version once"
        return {metrics.model_version: metrics for metrics in listed}

    def test_it_is_a_cumulative_monitor(self, monitor: Any) -> None:
        """It has the method of ``CumulativeMonitor``."""
        assert isinstance(monitor, CumulativeMonitor)

    def test_nothing_was_counted_at_first(self, monitor: Any) -> None:
        """``cumulative_metrics`` of a new monitor counts nothing."""
        assert sum(metrics.request_count for metrics in self._totals(monitor).values()) == 0

    def test_everything_since_it_was_built_is_counted(self, monitor: Any, clock: ManualClock) -> None:
        """``cumulative_metrics`` counts the predictions and the failures of each version, by kind."""
        for number, version_id in enumerate(["1", "2", "2"]):
            monitor.record_prediction(prediction(number, clock.now(), version_id))
        monitor.record_prediction_error(ErrorKind.Overloaded, "2")
        totals = self._totals(monitor)
        assert {version_id: one.request_count for version_id, one in totals.items()} == {"1": 1, "2": 3}
        assert dict(totals["2"].errors_by_kind) == {"Overloaded": 1}

    def test_failures_without_a_version_stand_alone(self, monitor: Any) -> None:
        """Requests for which no version was resolved are those of ``model_version`` None, and of no other."""
        monitor.record_prediction_error(ErrorKind.VersionNotFound, None)
        monitor.record_prediction_error(ErrorKind.Overloaded, "1")
        counts = {version_id: one.error_count for version_id, one in self._totals(monitor).items()}
        assert counts == {None: 1, "1": 1}

    def test_cumulative_metrics_have_no_window(self, monitor: Any, clock: ManualClock) -> None:
        """``window`` and ``throughput_per_second`` are None: they belong to no span of time."""
        monitor.record_prediction(prediction(0, clock.now()))
        metrics = self._totals(monitor)["1"]
        assert (metrics.window, metrics.throughput_per_second) == (None, None)

    def test_latencies_are_counted_for_good(self, monitor: Any, clock: ManualClock) -> None:
        """The histogram of latencies counts every prediction, and their mean is that of all."""
        for number in range(10):
            monitor.record_prediction(prediction(number, clock.now(), processing_time_ms=1.0 + number))
            clock.advance(HOUR)
        metrics = self._totals(monitor)["1"]
        assert metrics.latency_histogram is not None
        assert metrics.latency_histogram.count == 10
        assert same(metrics.average_latency_ms, 5.5)

    def test_counts_never_fall(self, monitor: Any, clock: ManualClock) -> None:
        """What no window reaches any more is still counted."""
        monitor.record_prediction(prediction(0, clock.now()))
        monitor.record_prediction_error(ErrorKind.Overloaded, "1")
        self.settle(monitor)
        clock.advance(LONG_AGO)
        monitor.record_prediction(prediction(1, clock.now()))
        assert self._totals(monitor)["1"].request_count == 3
        assert self.metrics(monitor).request_count == 1

    def test_outcomes_are_counted_for_good(self, monitor: Any, clock: ManualClock) -> None:
        """Outcomes count in the totals of their version, also where no window reaches their prediction any more."""
        self._need_outcomes(monitor)
        for number in range(4):
            monitor.record_prediction(prediction(number, clock.now()))
        monitor.record_outcome("p0", 0)
        monitor.record_outcome("p1", 1)
        self.settle(monitor)
        clock.advance(LONG_AGO)
        metrics = self._totals(monitor)["1"]
        assert (metrics.labelled_count, metrics.accuracy, metrics.label_coverage) == (2, 0.5, 0.5)

    def test_what_is_read_rises_while_others_record(self, clock: ManualClock) -> None:
        """Counts that are read while several threads record never fall, and in the end count everything."""
        monitor, each = self.new_monitor(clock), 700

        def record(first: int) -> None:
            for number in range(first, first + each):
                monitor.record_prediction(prediction(number, clock.now()))

        def read() -> None:
            counts = [sum(one.request_count for one in self._totals(monitor).values()) for _ in range(20)]
            assert counts == sorted(counts)

        recording: list[Callable[[], None]] = [partial(record, thread * each) for thread in range(THREADS - 1)]
        at_once([read, *recording])
        assert self._totals(monitor)["1"].request_count == (THREADS - 1) * each


class MergeableMonitorContract(_FleetContract):
    """The methods of ``MergeableMonitor``: snapshots that travel, and one view of many monitors.

    Whatever is recorded lies within the last minutes, so that windows of an hour hold it however a monitor rounds them.
    """

    def _taken(self, monitor: Any, after: int = 0) -> MonitorSnapshot:
        """A snapshot that has travelled, after ``settle``."""
        self.settle(monitor)
        data: bytes = monitor.snapshot(after).to_bytes()
        return MonitorSnapshot.from_bytes(data)

    def _merged(self, clock: ManualClock, snapshots: Sequence[MonitorSnapshot]) -> Any:
        hub = self.new_monitor(clock)
        for snapshot in snapshots:
            hub.merge(snapshot)
        return hub

    def _traffic(self, monitors: Sequence[Any], clock: ManualClock, seed: int) -> None:
        """Requests of all kinds, the same to each monitor."""
        rng = np.random.default_rng(seed)
        labelled = all(isinstance(monitor, LabelledMonitor) for monitor in monitors)
        for number in range(100 * seed, 100 * seed + int(rng.integers(20, 60))):
            event = prediction(
                number,
                clock.now() - float(rng.random()) * 10 * MINUTE,
                str(rng.integers(1, 3)),
                output=int(rng.integers(0, 3)),
                processing_time_ms=float(rng.lognormal(1.0, 1.0)),
                confidence=float(rng.random()) if rng.random() < 0.5 else None,
            )
            kind, version_id = rng.choice(["InvalidInput", "OurOwn"]), rng.choice(["1", "2", ""])
            fails, actual = rng.random() < 0.3, int(rng.integers(0, 3)) if rng.random() < 0.7 else None
            for monitor in monitors:
                monitor.record_prediction(event)
                if fails:
                    monitor.record_prediction_error(str(kind), str(version_id) or None)
                if labelled and actual is not None:
                    monitor.record_outcome(event.prediction_id, actual)

    def _agree(self, first: Any, second: Any) -> None:
        for version_id in (None, "1", "2", "never seen"):
            agree(self.metrics(first, version_id), self.metrics(second, version_id))

    def test_it_is_a_mergeable_monitor(self, monitor: Any) -> None:
        """It has the methods of ``MergeableMonitor``."""
        assert isinstance(monitor, MergeableMonitor)

    def test_nothing_travels_as_nothing(self, monitor: Any, clock: ManualClock) -> None:
        """The snapshot of a new monitor can be merged, and adds nothing."""
        hub = self._merged(clock, [self._taken(monitor)])
        assert self.metrics(hub, None).request_count == 0

    @pytest.mark.parametrize("seed", [1, 2, 3])
    def test_a_snapshot_says_what_its_monitor_says(self, clock: ManualClock, seed: int) -> None:
        """What one monitor recorded, merged into a new one, is what that one says of each version and of all."""
        monitor = self.new_monitor(clock)
        self._traffic([monitor], clock, seed)
        self._agree(self._merged(clock, [self._taken(monitor)]), monitor)

    def test_counts_of_several_add(self, clock: ManualClock) -> None:
        """Snapshots of several monitors add to what the merging one recorded: it says what one for all would say."""
        hub, everything = self.new_monitor(clock), self.new_monitor(clock)
        parts = [self.new_monitor(clock) for _ in range(4)]
        for seed, part in enumerate([*parts, hub], 1):
            self._traffic([part, everything], clock, seed)
        for part in parts:
            hub.merge(self._taken(part))
        self._agree(hub, everything)

    def test_the_order_of_merging_does_not_matter(self, clock: ManualClock) -> None:
        """Snapshots merged in another order say the same."""
        parts = [self.new_monitor(clock) for _ in range(3)]
        for seed, part in enumerate(parts, 1):
            self._traffic([part], clock, seed)
        taken = [self._taken(part) for part in parts]
        self._agree(self._merged(clock, taken), self._merged(clock, taken[::-1]))

    def test_merging_again_changes_nothing(self, monitor: Any, clock: ManualClock) -> None:
        """A snapshot counts once, however often it is merged."""
        self._traffic([monitor], clock, 1)
        taken = self._taken(monitor)
        self._agree(self._merged(clock, [taken, taken, self._taken(monitor)]), monitor)

    def test_the_newest_snapshot_replaces_the_ones_before(self, monitor: Any, clock: ManualClock) -> None:
        """A newer snapshot of a monitor replaces an older one."""
        self._traffic([monitor], clock, 1)
        older = self._taken(monitor)
        self._traffic([monitor], clock, 2)
        self._agree(self._merged(clock, [older, self._taken(monitor)]), monitor)

    def test_an_older_snapshot_changes_nothing(self, monitor: Any, clock: ManualClock) -> None:
        """A snapshot that is older than one already merged changes nothing."""
        self._traffic([monitor], clock, 1)
        older = self._taken(monitor)
        self._traffic([monitor], clock, 2)
        self._agree(self._merged(clock, [self._taken(monitor), older]), monitor)

    def test_a_monitor_does_not_count_itself_twice(self, monitor: Any, clock: ManualClock) -> None:
        """A monitor's own snapshot changes nothing."""
        self._traffic([monitor], clock, 1)
        before = self.metrics(monitor, None)
        monitor.merge(self._taken(monitor))
        agree(self.metrics(monitor, None), before)

    def test_what_was_merged_travels_no_further(self, monitor: Any, clock: ManualClock) -> None:
        """A snapshot holds what its monitor recorded itself, not what it merged: nothing is counted twice."""
        self._traffic([monitor], clock, 1)
        hub = self._merged(clock, [self._taken(monitor)])
        second = self._merged(clock, [self._taken(hub)])
        assert self.metrics(second, None).request_count == 0

    def test_a_full_and_a_partial_snapshot_are_a_full_one(self, monitor: Any, clock: ManualClock) -> None:
        """A snapshot of what changed since an earlier one, merged after that one, says what a full one says."""
        taken: list[MonitorSnapshot] = []
        for seed in (1, 2, 3):
            self._traffic([monitor], clock, seed)
            taken.append(self._taken(monitor, after=taken[-1].sequence if taken else 0))
            clock.advance(7 * MINUTE)
        assert [snapshot.after for snapshot in taken] == [0, taken[0].sequence, taken[1].sequence]
        self._agree(self._merged(clock, taken), monitor)

    def test_late_outcomes_reach_those_who_merged(self, monitor: Any, clock: ManualClock) -> None:
        """An outcome that arrives after a snapshot is in the next one, at the time of its prediction."""
        self._need_outcomes(monitor)
        monitor.record_prediction(prediction(0, clock.now()))
        first = self._taken(monitor)
        clock.advance(30 * MINUTE)
        monitor.record_outcome("p0", 0)
        hub = self._merged(clock, [first, self._taken(monitor, after=first.sequence)])
        counts = [self.metrics(hub, window=minutes * MINUTE).labelled_count for minutes in (10, 40)]
        assert counts == [0, 1]
        assert self.metrics(hub).accuracy == 1.0

    def test_merged_counts_leave_the_window(self, monitor: Any, clock: ManualClock) -> None:
        """What was merged counts at its own time, and leaves a window as what was recorded does."""
        monitor.record_prediction(prediction(0, clock.now()))
        hub = self._merged(clock, [self._taken(monitor)])
        clock.advance(30 * MINUTE)
        assert [self.metrics(hub, window=minutes * MINUTE).request_count for minutes in (10, 40)] == [0, 1]

    def test_the_sequence_rises_with_every_change(self, monitor: Any, clock: ManualClock) -> None:
        """The ``sequence`` of a snapshot is larger than that of one before the last change, and of one source."""
        snapshots = [self._taken(monitor)]
        monitor.record_prediction(prediction(0, clock.now()))
        snapshots.append(self._taken(monitor))
        monitor.record_prediction_error(ErrorKind.Overloaded, None)
        snapshots.append(self._taken(monitor))
        sequences = [snapshot.sequence for snapshot in snapshots]
        assert sequences == sorted(set(sequences))
        assert len({snapshot.source for snapshot in snapshots}) == 1

    def test_two_monitors_are_two_sources(self, clock: ManualClock) -> None:
        """The snapshots of two monitors name two sources."""
        sources = {self._taken(self.new_monitor(clock)).source for _ in range(20)}
        assert len(sources) == 20

    def test_a_sequence_is_not_negative(self, monitor: Any) -> None:
        """``snapshot`` raises ``InvalidArgumentError`` for a negative ``after``."""
        with pytest.raises(InvalidArgumentError):
            monitor.snapshot(-1)

    @pytest.mark.parametrize("other", [None, b"", "text", {}, 5])
    def test_what_is_no_snapshot_is_refused(self, monitor: Any, other: Any) -> None:
        """``merge`` raises ``InvalidArgumentError`` for what is no ``MonitorSnapshot``."""
        with pytest.raises(InvalidArgumentError):
            monitor.merge(other)

    def test_a_damaged_snapshot_changes_nothing(self, monitor: Any, clock: ManualClock) -> None:
        """A snapshot that lacks a column raises ``SnapshotFormatError``, and what was merged before stays."""
        self._traffic([monitor], clock, 1)
        hub = self._merged(clock, [self._taken(monitor)])
        before = self.metrics(hub, None)
        monitor.record_prediction(prediction(0, clock.now()))
        newer = self._taken(monitor)
        for name in newer.columns:
            columns = {other: column for other, column in newer.columns.items() if other != name}
            with pytest.raises(SnapshotFormatError):
                hub.merge(attrs.evolve(newer, columns=columns))
        agree(self.metrics(hub, None), before)

    def test_nothing_is_lost_while_others_merge(self, clock: ManualClock) -> None:
        """While some threads record and take snapshots, others merge and read; in the end everything is counted."""
        hub, parts, each = self.new_monitor(clock), [self.new_monitor(clock) for _ in range(3)], 600

        def serve(monitor: Any, is_part: bool) -> None:
            last = 0
            for number in range(each):
                monitor.record_prediction(prediction(number, clock.now()))
                if is_part and number % 200 == 199:
                    snapshot = self._taken(monitor, after=last)
                    hub.merge(snapshot)
                    last = snapshot.sequence

        def read() -> None:
            counts = [self.metrics(hub).request_count for _ in range(20)]
            assert counts == sorted(counts)

        serving: list[Callable[[], None]] = [partial(serve, hub, False)]
        serving += [partial(serve, part, True) for part in parts]
        at_once([read, *serving])
        assert self.metrics(hub).request_count == (len(parts) + 1) * each


def agree(first: ModelMetrics, second: ModelMetrics) -> None:
    """Check that two metrics are of the same traffic: all that is counted equal, sums and quantiles but for rounding.

    Label delays are left out: a monitor takes the time of an outcome from its own clock.
    """
    counted = ("model_version", "window", "request_count", "error_count", "labelled_count", "latency_histogram")
    assert [getattr(first, name) for name in counted] == [getattr(second, name) for name in counted]
    assert dict(first.errors_by_kind) == dict(second.errors_by_kind)
    assert sorted(first.classes, key=str) == sorted(second.classes, key=str)
    sums = (
        "error_rate", "fault_rate", "average_latency_ms", "p50_latency_ms", "p95_latency_ms", "p99_latency_ms",
        "throughput_per_second", "average_confidence", "accuracy", "mean_absolute_error", "root_mean_squared_error",
        "r2", "label_coverage",
    )  # fmt: skip
    for name in sums:
        assert same(getattr(first, name), getattr(second, name)), name
