"""One view of many monitors says what one monitor that saw all their traffic would say."""

from __future__ import annotations

import math
import os
import sys
import time
import tracemalloc
from datetime import timedelta
from typing import Any

import attrs
import numpy as np
import pytest
from fleets import BASELINE, NOON, Fleet, assert_agree, assert_same, happenings, metrics_of
from scipy.stats import ks_2samp
from traffic import HOUR, MICROSECOND, MINUTE, SECOND, predict, small_monitor

from mlserve import DriftDetector, DriftPolicy, InMemoryModelMonitor
from mlserve.clocks import ManualClock
from mlserve.monitors import _fleet
from mlserve.numerics._binning import ReferenceBins
from mlserve.records import DriftStatus, MonitorSnapshot

DAY = timedelta(days=1)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


def merged(clock: ManualClock, *monitors: InMemoryModelMonitor, **options: Any) -> InMemoryModelMonitor:
    """A new monitor that merged whole snapshots of others, which travelled as bytes."""
    hub = small_monitor(clock, **options)
    for monitor in monitors:
        hub.merge(MonitorSnapshot.from_bytes(monitor.snapshot().to_bytes()))
    return hub


# --------------------------------------------------------------------------------------------------------- simulation


def exact_rows(listed: list[Any], version_id: str, window: timedelta) -> np.ndarray:
    return np.array([
        one.row for one in listed
        if one.row is not None and one.version_id == version_id and one.at > NOON - window
    ])  # fmt: skip


def check_fleet(fleet: Fleet, listed: list[Any], shifted: bool) -> None:
    """The view of the fleet and the one that saw everything agree on metrics, inputs and drift."""
    assert_agree(fleet.hub, fleet.everything)
    policy = DriftPolicy(min_effect=0.05)
    for version_id in ("1", "2", "3"):
        for window in (HOUR, 3 * HOUR):
            views = [one.get_recent_input_distribution(version_id, window) for one in (fleet.hub, fleet.everything)]
            rows = exact_rows(listed, version_id, window)
            assert [view.method for view in views] == ["binned", "binned"]
            names = [f"x{index}" for index in range(3)]
            counts = ReferenceBins.from_rows(BASELINE, names).count(rows).tolist()
            assert [view.cell_counts.tolist() for view in views] == [counts, counts]
            assert [view.counted_rows for view in views] == [len(rows)] * 2
            found, expected = (
                DriftDetector(one, policy).detect_drift(version_id, window).analysis.data_drift
                for one in (fleet.hub, fleet.everything)
            )
            assert found == expected
            assert found.is_drift_detected is shifted
            for index, feature in enumerate(found.features):
                exact = ks_2samp(BASELINE[:, index], rows[:, index]).statistic
                assert exact - 1 / 100 < feature.statistic <= exact + 1e-12


@pytest.mark.parametrize("seed", [1, 2])
def test_a_fleet_of_twenty_is_one_monitor(seed):
    """Metrics, inputs and drift of 20 merged replicas equal those of one monitor that saw all their traffic."""
    fleet = Fleet.of(20, 6 * HOUR)
    listed = happenings(3500, 6 * HOUR, seed, shift=0.8 * (seed - 1))
    cut = len(listed) // 3
    for start in range(0, len(listed), cut):
        fleet.serve(listed[start : start + cut], seed)
        # In every round some are late, and some send again.
        for number in np.random.default_rng(start).choice(20, 15).tolist():
            fleet.send(number)
    fleet.clock.advance_to(NOON)
    for number in range(20):
        fleet.send(number)
    check_fleet(fleet, listed, shifted=seed == 2)
    assert fleet.hub.statistics().sources == 20


@pytest.mark.slow  # 100 000 requests, each recorded twice, and 1 000 snapshots
def test_a_fleet_of_a_thousand_is_one_monitor(capsys):
    """Metrics, inputs and drift of 1 000 merged replicas equal those of one monitor that saw all their traffic."""
    fleet = Fleet.of(1000, 6 * HOUR, recent_events=1)
    listed = happenings(100_000, 6 * HOUR, seed=3, shift=0.5)
    cut = len(listed) // 2 + 1
    took = {}
    for name, part in (("whole", listed[:cut]), ("changes", listed[cut:])):
        fleet.serve(part, seed=3)
        if name == "changes":
            fleet.clock.advance_to(NOON)
        before, begin = fleet.bytes_sent, time.perf_counter()
        for number in range(1000):
            fleet.send(number)
        took[f"1000 snapshots, {name}"] = (time.perf_counter() - begin, fleet.bytes_sent - before)
    check_fleet(fleet, listed, shifted=True)
    for window in (5 * MINUTE, HOUR, DAY):
        begin = time.perf_counter()
        fleet.hub.get_model_metrics("1", window)
        took[f"metrics of {window}"] = (time.perf_counter() - begin, 0)
        begin = time.perf_counter()
        DriftDetector(fleet.hub).detect_drift("1", window)
        took[f"drift over {window}"] = (time.perf_counter() - begin, 0)
    with capsys.disabled():
        for name, (seconds, sent) in took.items():
            sys.stdout.write(f"\n  {name}: {seconds:.2f} s" + (f", {sent / 1000:.0f} bytes each" if sent else ""))


@pytest.mark.slow  # a day of traffic of one replica
def test_what_a_replica_costs_the_one_that_merges(capsys):
    """A replica with a day of steady traffic takes two megabytes where it is merged, and well under one to travel."""
    clock = ManualClock(NOON - DAY)
    monitor = InMemoryModelMonitor(clock=clock)
    monitor.set_baseline("1", inputs=np.random.default_rng(0).normal(size=(2000, 10)))
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(5000, 10))
    for minute in range(24 * 60):
        for number in range(120):
            at = clock.now() + number * SECOND / 2
            predict(monitor, minute * 120 + number, at, input=rows[number], output=number % 3,
                    processing_time_ms=float(rng.lognormal()), confidence=0.5)  # fmt: skip
            if number % 4 == 0:
                monitor.record_outcome(f"p{minute * 120 + number}", number % 3)
        clock.advance(MINUTE)
    data = monitor.snapshot().to_bytes()
    hub = InMemoryModelMonitor(clock=clock)
    tracemalloc.start()
    hub.merge(MonitorSnapshot.from_bytes(data))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    with capsys.disabled():
        sys.stdout.write(f"\n  a day of 2 requests a second of 10 features: {len(data)} bytes, {held} where merged")
    assert len(data) < 500_000
    assert held < 2_500_000


# -------------------------------------------------------------------------------------------------------------- merging


@pytest.mark.parametrize("seed", range(3))
def test_changes_after_a_whole_snapshot_are_a_whole_one(seed):
    """Snapshots of what changed, each merged after the one before, leave what a whole one would."""
    fleet = Fleet.of(1, 3 * HOUR)
    listed = happenings(1500, 3 * HOUR, seed)
    for start in range(0, len(listed), 150):
        fleet.serve(listed[start : start + 150], seed)
        fleet.send(0)
    fleet.clock.advance_to(NOON)
    fleet.send(0)
    whole = merged(fleet.clock, fleet.replicas[0], label_maturity=HOUR)
    assert_agree(fleet.hub, whole)
    assert_agree(fleet.hub, fleet.everything)


def test_changes_are_small():
    """A snapshot of what changed since a moment ago holds the buckets that changed, and no others."""
    fleet = Fleet.of(1, 3 * HOUR)
    fleet.serve(happenings(1500, 3 * HOUR, 1), 1)
    fleet.clock.advance_to(NOON)
    replica = fleet.replicas[0]
    whole = replica.snapshot()
    predict(replica, 10_000, NOON, output="a", input=np.zeros(3))
    changes = replica.snapshot(whole.sequence)
    # Its bucket of each of three resolutions, and the total of its version.
    assert len(changes.columns["width"]) == 4
    assert len(changes.header["input_buckets"]) == 2
    assert replica.snapshot(changes.sequence).columns["width"].size == 0


def test_a_sequence_of_the_future_has_no_changes():
    """``snapshot`` after a sequence that is not reached yet holds no bucket."""
    fleet = Fleet.of(1, HOUR)
    fleet.serve(happenings(100, HOUR, 1), 1)
    assert fleet.replicas[0].snapshot(10**9).columns["width"].size == 0


def test_labels_that_come_late_reach_the_view(clock):
    """Outcomes of predictions that lie in buckets, or before every window, reach the view with the next changes."""
    monitor = small_monitor(clock)
    for number in range(3000):
        predict(monitor, number, NOON, output=number % 2)
    hub = merged(clock, monitor)
    sequence = monitor.snapshot().sequence
    clock.advance(HOUR)
    for number in range(500):
        monitor.record_outcome(f"p{number}", 0)
    changes = monitor.snapshot(sequence)
    hub.merge(changes)
    assert_same(metrics_of(hub, "1", 2 * HOUR), metrics_of(monitor, "1", 2 * HOUR))
    clock.advance(100 * HOUR)
    for number in range(500, 600):
        monitor.record_outcome(f"p{number}", 0)
    hub.merge(monitor.snapshot(changes.sequence))
    assert hub.cumulative_metrics()[0].labelled_count == monitor.cumulative_metrics()[0].labelled_count == 600


def test_a_gap_is_counted_until_it_is_filled(clock):
    """Changes after a moment newer than the last merged one are counted as a gap; a whole snapshot fills it."""
    monitor, hub = small_monitor(clock), small_monitor(clock)
    sequences = [0]
    for number in range(4):
        predict(monitor, number, NOON)
        sequences.append(monitor.snapshot().sequence)
        clock.advance(10 * SECOND)
    hub.merge(monitor.snapshot(sequences[1]))
    assert hub.statistics().snapshot_gaps == 1
    predict(monitor, 10, clock.now())
    taken = monitor.snapshot()
    predict(monitor, 11, clock.now())
    hub.merge(monitor.snapshot(taken.sequence))
    assert (hub.statistics().snapshot_gaps, hub.statistics().snapshots_merged) == (2, 2)
    predict(monitor, 12, clock.now())
    hub.merge(monitor.snapshot())
    assert hub.statistics().snapshot_gaps == 2
    assert_same(metrics_of(hub, "1", HOUR), metrics_of(monitor, "1", HOUR))


def test_changes_that_overlap_leave_no_gap(clock):
    """Changes after a moment older than the last merged one replace what is known, and are no gap."""
    monitor, hub = small_monitor(clock), small_monitor(clock)
    predict(monitor, 0, NOON)
    hub.merge(monitor.snapshot())
    first = monitor.snapshot().sequence
    predict(monitor, 1, NOON)
    hub.merge(monitor.snapshot(first))
    predict(monitor, 2, NOON)
    hub.merge(monitor.snapshot(first))
    assert (hub.statistics().snapshot_gaps, hub.get_recent_metrics(HOUR).request_count) == (0, 3)


def test_merges_are_counted(clock):
    """Statistics count snapshots that were merged, those that were ignored, and the sources within reach."""
    monitors = [small_monitor(clock) for _ in range(3)]
    for monitor in monitors:
        predict(monitor, 0, NOON)
    hub = merged(clock, *monitors, *monitors[:2])
    predict(hub, 0, NOON)
    hub.merge(hub.snapshot())
    statistics = hub.statistics()
    assert (statistics.snapshots_merged, statistics.snapshots_ignored, statistics.sources) == (3, 3, 3)


def test_all_kinds_of_labels_add_up(clock):
    """Classes that are text, numbers and booleans keep their kind on the way, and equal ones add up as one class."""
    pairs = [[(True, True), ("1", "1")], [(1, 1), ("1", True)], [(False, 0), ("True", "True"), (2, 1)]]
    monitors = []
    for part in pairs:
        monitor = small_monitor(clock)
        for number, (output, actual) in enumerate(part):
            predict(monitor, number, NOON, output=output)
            if type(actual) is str or type(output) is not str:
                monitor.record_outcome(f"p{number}", actual)
        monitors.append(monitor)
    metrics = merged(clock, *monitors).get_recent_metrics(HOUR)
    found = {(type(one.label) is str, one.label): (one.support, one.predicted) for one in metrics.classes}
    assert found == {(False, 1): (3, 2), (True, "1"): (1, 1), (False, 0): (1, 1), (True, "True"): (1, 1),
                     (False, 2): (0, 1)}  # fmt: skip
    assert metrics.accuracy == 5 / 6


def test_one_source_may_name_a_class_in_two_ways(clock):
    """A class that one source calls 1 in one bucket and True in another adds up as one."""
    monitor = small_monitor(clock)
    for number in range(1500):
        predict(monitor, number, NOON - 2 * MINUTE, output=True)
    # The first labels meet rows in buckets, the last one a row that is held whole.
    monitor.record_outcome("p0", True)
    monitor.record_outcome("p1499", 1)
    snapshot = monitor.snapshot()
    words = list(snapshot.header["classes"])
    assert words == [True]
    hub = merged(clock, monitor)
    other = MonitorSnapshot.from_bytes(monitor.snapshot().to_bytes())
    header = {**other.header, "classes": [True, 1]}
    keys = other.columns["roles_keys"].copy()
    keys[len(keys) // 2 :, 0] = 1
    two_names = small_monitor(clock)
    two_names.merge(MonitorSnapshot(source="two names", sequence=1, after=0, taken_at=NOON, header=header,
                                    columns={**other.columns, "roles_keys": keys}))  # fmt: skip
    assert_same(metrics_of(two_names, "1", HOUR), metrics_of(hub, "1", HOUR))


def test_requests_without_a_version_are_merged(clock):
    """Requests for which no version was resolved count in all versions together, and in the totals of None."""
    monitor = small_monitor(clock)
    monitor.record_prediction_error("VersionNotFound", None)
    predict(monitor, 0, NOON)
    hub = merged(clock, monitor)
    assert [metrics_of(hub, one, HOUR).request_count for one in (None, "1", "None")] == [2, 1, 0]
    assert {one.model_version: one.request_count for one in hub.cumulative_metrics()} == {None: 1, "1": 1}


@pytest.mark.parametrize("times", [2**20, 2**40 + 1])
def test_counts_beyond_32_bits_are_merged(clock, times):
    """Counts that need more than 32 bits are merged and added up exactly."""
    monitor = small_monitor(clock)
    for number in range(3):
        predict(monitor, number, NOON, processing_time_ms=10.0**number)
        monitor.record_prediction_error("OurOwn", "1")
    snapshot, hub = monitor.snapshot(), small_monitor(clock)
    counts = {name: snapshot.columns[name] * times for name in ("latency_count", "errors_count")}
    for source in ("first", "second"):
        hub.merge(attrs.evolve(snapshot, source=source, columns={**snapshot.columns, **counts}))
    metrics = hub.get_recent_metrics(HOUR)
    assert (metrics.request_count, metrics.error_count) == (2 * 6 * times, 2 * 3 * times)
    assert metrics.latency_histogram.counts.sum() == 2 * 3 * times


def test_infinite_errors_are_merged(clock):
    """Sums that no float holds stay infinite on the way; nothing warns, and nothing is NaN."""
    monitors = [small_monitor(clock) for _ in range(2)]
    for monitor in monitors:
        for number, (output, actual) in enumerate([(1e200, 0.5), (1.5, -1e200)]):
            predict(monitor, number, NOON - number * MINUTE, output=output)
            monitor.record_outcome(f"p{number}", actual)
    metrics = merged(clock, *monitors).get_recent_metrics(HOUR)
    assert (metrics.labelled_count, metrics.root_mean_squared_error, metrics.r2) == (4, math.inf, None)


# ------------------------------------------------------------------------------------------------ sources that are gone


def test_a_source_out_of_reach_is_forgotten(clock):
    """When no window reaches a source any more it is forgotten, while its totals stay."""
    monitor = small_monitor(clock)
    predict(monitor, 0, NOON, input=[0.0])
    hub = merged(clock, monitor)
    clock.advance(47 * HOUR)
    assert hub.statistics().sources == 1
    clock.advance(2 * HOUR)
    assert hub.statistics().sources == 0
    assert [one.request_count for one in hub.cumulative_metrics()] == [1]
    assert hub.get_recent_metrics(48 * HOUR).request_count == 0


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "changes"])
def test_a_source_that_comes_back_counts_once(clock, whole):
    """A source that was forgotten and comes back goes on where it was: its totals are not counted twice."""
    monitor = small_monitor(clock)
    predict(monitor, 0, NOON, "1")
    predict(monitor, 1, NOON, "2")
    hub = merged(clock, monitor)
    old = monitor.snapshot()
    clock.advance(100 * HOUR)
    hub.statistics()
    hub.merge(old)
    assert hub.statistics().snapshots_ignored == 1
    predict(monitor, 2, clock.now(), "1")
    hub.merge(monitor.snapshot(0 if whole else old.sequence))
    assert {one.model_version: one.request_count for one in hub.cumulative_metrics()} == {"1": 2, "2": 1}
    assert (hub.statistics().sources, hub.statistics().snapshot_gaps) == (1, 0)
    assert hub.get_recent_metrics(HOUR).request_count == 1


def test_totals_stay_when_very_many_sources_are_gone(clock, monkeypatch):
    """Of more former sources than are told apart the totals stay, added into one."""
    monkeypatch.setattr(_fleet, "MOST_FORMER", 3)
    hub = small_monitor(clock)
    for number in range(10):
        monitor = small_monitor(clock)
        for _ in range(number + 1):
            predict(monitor, 0, clock.now(), str(number % 2))
        monitor.record_prediction_error("OurOwn", None)
        hub.merge(monitor.snapshot())
        clock.advance(50 * HOUR)
    assert hub.statistics().sources == 0
    assert len(hub._ledger.merged._former) == 3
    counts = {one.model_version: one.request_count for one in hub.cumulative_metrics()}
    assert counts == {"0": 1 + 3 + 5 + 7 + 9, "1": 2 + 4 + 6 + 8 + 10, None: 10}


def test_a_source_without_traffic_is_none_within_reach(clock):
    """A snapshot without a bucket is merged, and is no source that answers."""
    hub = merged(clock, small_monitor(clock))
    assert (hub.statistics().snapshots_merged, hub.statistics().sources) == (1, 0)
    assert hub.cumulative_metrics() == ()


# ------------------------------------------------------------------------------------------------------------- sources


def test_a_source_may_be_named(clock):
    """``source`` names a monitor in its snapshots."""
    assert small_monitor(clock, source="replica 7").snapshot().source == "replica 7"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.parametrize("source", [None, "preloaded"])
def test_a_forked_child_is_another_source(clock, source):
    """What a forked child counts adds to what its parent counts, however the monitor was named before."""
    monitor = small_monitor(clock, source=source)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        predict(monitor, 0, NOON)
        os.write(writer, monitor.snapshot().to_bytes())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        data = file.read()
    os.waitpid(child, 0)
    predict(monitor, 0, NOON)
    hub = merged(clock, monitor)
    hub.merge(MonitorSnapshot.from_bytes(data))
    assert hub.get_recent_metrics(HOUR).request_count == 2


# -------------------------------------------------------------------------------------------------------------- inputs


def counting(clock: ManualClock, rows: Any, version_id: str = "1", baseline: Any = BASELINE) -> InMemoryModelMonitor:
    monitor = small_monitor(clock, sample_size=10)
    if baseline is not None:
        monitor.set_baseline(version_id, inputs=baseline)
    for number, row in enumerate(rows):
        predict(monitor, number, clock.now() - number * SECOND, version_id, input=row)
    return monitor


def inputs_of(hub: InMemoryModelMonitor, window: timedelta = HOUR) -> Any:
    return hub.get_recent_input_distribution("1", window)


ROWS = np.random.default_rng(5).normal(size=(90, 3))


def test_a_view_without_traffic_of_its_own_has_counts_and_no_rows(clock):
    """A monitor that only merges shows the counted inputs of all, and no rows."""
    hub = merged(clock, counting(clock, ROWS[:40]), counting(clock, ROWS[40:]))
    hub.set_baseline("1", inputs=BASELINE)
    sample = inputs_of(hub)
    assert (sample.method, sample.rows.shape, sample.count, sample.counted_rows) == ("binned", (0, 0), 90, 90)
    assert sample.cell_counts.tolist() == sample.bins.count(ROWS).tolist()


def test_own_inputs_and_merged_ones_add(clock):
    """What a monitor counted itself adds to what it merged."""
    hub = counting(clock, ROWS[:30])
    hub.merge(counting(clock, ROWS[30:]).snapshot())
    sample = inputs_of(hub)
    assert sample.cell_counts.tolist() == sample.bins.count(ROWS).tolist()


def test_a_few_inputs_of_its_own_are_not_all(clock):
    """Where others saw inputs, the rows that are kept here are no sample of all, and claim nothing."""
    hub = counting(clock, ROWS[:5], baseline=None)
    hub.merge(counting(clock, ROWS[5:]).snapshot())
    sample = inputs_of(hub)
    assert (sample.method, len(sample.rows), sample.count, sample.statistic_error_bound) == ("reservoir", 5, 90, 1.0)


def test_unusable_inputs_add(clock):
    """Inputs that are no row are added up like those that are."""
    hub = merged(clock, counting(clock, [*ROWS[:20], None]), counting(clock, [None, *ROWS[:20]]))
    hub.set_baseline("1", inputs=BASELINE)
    assert (inputs_of(hub).counted_rows, inputs_of(hub).unusable_count) == (40, 2)


def test_thinned_inputs_add(clock):
    """Estimates of several thinned monitors add, with what they are worth."""
    monitors = []
    for seed in range(3):
        monitor = small_monitor(clock, sample_size=50, seed=seed)
        monitor.set_baseline("1", inputs=BASELINE)
        for number in range(3000):
            predict(monitor, number, NOON - (3000 - number) * MICROSECOND, input=ROWS[number % 90])
        monitors.append(monitor)
    hub = merged(clock, *monitors)
    hub.set_baseline("1", inputs=BASELINE)
    parts, sample = [inputs_of(monitor) for monitor in monitors], inputs_of(hub)
    assert sample.cell_counts.tolist() == sum(part.cell_counts for part in parts).tolist()
    assert sample.counted_rows == sum(part.counted_rows for part in parts) < sample.count == 9000
    assert max(part.effective_rows for part in parts) < sample.effective_rows <= sample.counted_rows
    assert sample.statistic_error_bound < min(part.statistic_error_bound for part in parts)


@pytest.mark.parametrize("baseline", [None, BASELINE + 1.0], ids=["no baseline", "another baseline"])
def test_a_source_that_counted_otherwise_leaves_no_counts(clock, baseline):
    """Where a source answered without counting in the same cells, there are no counts of all; metrics there are."""
    hub = counting(clock, ROWS[:20])
    hub.merge(counting(clock, ROWS[20:40]).snapshot())
    assert inputs_of(hub).counted_rows == 40
    hub.merge(counting(clock, ROWS[40:], baseline=baseline).snapshot())
    sample = inputs_of(hub)
    assert (sample.cell_counts, sample.method, sample.count) == (None, "reservoir", 90)
    detail = DriftDetector(hub).detect_drift("1", HOUR).analysis.data_drift
    assert detail.status is DriftStatus.INSUFFICIENT_DATA


def test_a_source_that_counted_otherwise_long_ago_does_no_harm(clock):
    """A source with another baseline that answered nothing in the window leaves the counts of the others."""
    old = counting(clock, ROWS[:20], baseline=BASELINE + 1.0)
    clock.advance(10 * HOUR)
    hub = counting(clock, ROWS[20:40])
    for monitor in (old, counting(clock, ROWS[40:])):
        hub.merge(monitor.snapshot())
    assert inputs_of(hub).counted_rows == 70
    assert inputs_of(hub, 12 * HOUR).cell_counts is None


def test_a_source_of_failures_does_no_harm(clock):
    """A source that only failed has no inputs to count, and leaves the counts of the others."""
    failing = small_monitor(clock)
    failing.record_prediction_error("ModelLoadFailed", "1")
    hub = counting(clock, ROWS[:20])
    hub.merge(failing.snapshot())
    assert (inputs_of(hub).counted_rows, hub.get_recent_metrics(HOUR).error_count) == (20, 1)


def test_a_source_counts_since_its_baseline(clock):
    """Where a source was given its baseline in the middle of traffic, only windows since then have counts."""
    late = counting(clock, ROWS[:20], baseline=None)
    late.set_baseline("1", inputs=BASELINE)
    clock.advance(10 * MINUTE)
    for number, row in enumerate(ROWS[20:50], 100):
        predict(late, number, clock.now(), input=row)
    hub = merged(clock, late)
    hub.set_baseline("1", inputs=BASELINE)
    assert inputs_of(hub, 10 * MINUTE).counted_rows == 30
    assert inputs_of(hub, 11 * MINUTE).cell_counts is None


def test_a_new_baseline_of_a_source_replaces_its_counts(clock):
    """When a source is given another baseline, what it counted before is let go with the next changes."""
    monitor = counting(clock, ROWS[:30])
    hub = merged(clock, monitor)
    hub.set_baseline("1", inputs=BASELINE + 1.0)
    sequence = monitor.snapshot().sequence
    monitor.set_baseline("1", inputs=BASELINE + 1.0)
    clock.advance(HOUR)
    changed = monitor.snapshot(sequence)
    assert changed.sequence > sequence
    hub.merge(changed)
    for number, row in enumerate(ROWS[30:70], 100):
        predict(monitor, number, clock.now() - number * SECOND, input=row)
    hub.merge(monitor.snapshot(changed.sequence))
    sample = inputs_of(hub)
    assert sample.cell_counts.tolist() == sample.bins.count(ROWS[30:70]).tolist()


def test_a_snapshot_holds_no_inputs(clock):
    """Neither inputs nor their categories travel; the names of classes do."""
    monitor = small_monitor(clock, sample_size=1)
    monitor.set_baseline("1", inputs=np.array([["secret city"], ["town"]], object), feature_names=["place"])
    for number in range(5):
        predict(monitor, number, NOON, input={"place": "secret city"}, output="approved")
        monitor.record_outcome(f"p{number}", "approved")
    snapshot = monitor.snapshot()
    told = repr((dict(snapshot.header), {name: column.tolist() for name, column in snapshot.columns.items()}))
    assert ("secret" in told, "approved" in told) == (False, True)


def test_merged_windows_of_versions_beyond_those_told_apart(clock, monkeypatch):
    """Versions that a source does not tell apart travel under the name of the others."""
    from mlserve.monitors import _ledger

    monkeypatch.setattr(_ledger, "MOST_VERSIONS", 2)
    monitor = small_monitor(clock)
    for number in range(5):
        predict(monitor, number, NOON, f"v{number}")
    hub = merged(clock, monitor)
    counts = {one.model_version: one.request_count for one in hub.cumulative_metrics()}
    assert counts == {"v0": 1, "v1": 1, _ledger.OTHERS: 3}
