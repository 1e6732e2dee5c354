"""The memory of the monitor in memory is bounded, whatever the traffic."""

from __future__ import annotations

import copy
import math
import weakref
from datetime import timedelta

import pytest
from traffic import HOUR, MINUTE, RESOLUTIONS, SECOND, predict, small_monitor

from mlserve.clocks import ManualClock
from mlserve.records import (
    ConceptDrift,
    DataDrift,
    DriftAnalysis,
    DriftEvent,
    DriftSeverity,
    DriftType,
    PerformanceDrift,
)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


class Tracked:
    """An input of which every copy that is alive is known."""

    alive: weakref.WeakSet[Tracked] = weakref.WeakSet()

    def __deepcopy__(self, memo) -> Tracked:
        kept = Tracked()
        Tracked.alive.add(kept)
        return kept


FOLDED_AT_ONCE = 1024
"""Requests that wait to be counted, at most."""


def test_the_event_ring_keeps_its_capacity(clock):
    """``events`` shows the last ``recent_events`` events and says how many are gone."""
    monitor = small_monitor(clock, recent_events=100)
    for number in range(5000):
        predict(monitor, number, clock.now())
    page = monitor.events()
    assert [event.prediction_id for event in page.events] == [f"p{number}" for number in range(4900, 5000)]
    assert page.missed == 4900


def test_few_predictions_wait_for_their_outcome(clock):
    """At most ``pending_outcomes`` predictions wait; the others are given up and counted."""
    monitor = small_monitor(clock, pending_outcomes=100)
    for number in range(5000):
        predict(monitor, number, clock.now())
    statistics = monitor.statistics()
    assert (statistics.pending, statistics.pending_evicted) == (100, 4900)


def test_inputs_are_let_go(clock):
    """Inputs are kept for the event ring and the sample only, however many come."""
    monitor = small_monitor(clock, recent_events=100, sample_size=10, pending_outcomes=100)
    Tracked.alive.clear()
    for number in range(100 * FOLDED_AT_ONCE):
        predict(monitor, number, clock.now(), input=Tracked())
    monitor.statistics()
    assert len(Tracked.alive) <= 100 + 4 * FOLDED_AT_ONCE + 4 * 10 * (1 + math.log(100 * FOLDED_AT_ONCE / 10))


def test_a_prediction_that_waits_keeps_no_other_input_alive(clock):
    """When nearly all outcomes arrive, the few predictions that still wait do not hold the inputs of the rest."""
    monitor = small_monitor(clock, recent_events=100, sample_size=10, pending_outcomes=4 * FOLDED_AT_ONCE)
    Tracked.alive.clear()
    for number in range(100 * FOLDED_AT_ONCE):
        predict(monitor, number, clock.now(), input=Tracked())
        if number % FOLDED_AT_ONCE:
            monitor.record_outcome(f"p{number}", 0)
    assert monitor.statistics().pending == 100
    assert len(Tracked.alive) <= 100 + 4 * FOLDED_AT_ONCE + 4 * 10 * (1 + math.log(100 * FOLDED_AT_ONCE / 10))


def test_buckets_expire(clock):
    """The number of buckets is bounded by resolutions and versions, however long traffic goes on."""
    monitor = small_monitor(clock)
    for _ in range(60):
        clock.advance(3 * HOUR)
        for number in range(600):
            predict(monitor, number, clock.now() - number * SECOND, str(number % 2))
    most = sum(level.retention // level.width + 2 for level in RESOLUTIONS)
    assert all(len(ring) <= most for ring in monitor._ledger._rings.values())


def test_the_sample_of_a_window_is_bounded(clock):
    """A sample never has more rows than ``sample_size``."""
    monitor = small_monitor(clock, sample_size=50)
    for number in range(3000):
        predict(monitor, number, clock.now() - number * timedelta(milliseconds=100))
    assert monitor.get_recent_input_distribution("1", HOUR).rows.shape == (50, 1)


def test_drift_events_are_bounded(clock):
    """The last ``recent_events`` drift events are kept; all are counted."""
    monitor = small_monitor(clock, recent_events=10)
    analysis = DriftAnalysis(performance_drift=PerformanceDrift(), data_drift=DataDrift(), concept_drift=ConceptDrift())
    first = DriftEvent(
        model_version="1",
        drift_type=DriftType.DATA,
        severity=DriftSeverity.HIGH,
        detected_at=clock.now(),
        analysis=analysis,
    )
    events = [copy.copy(first) for _ in range(25)]
    for event in events:
        monitor.record_drift_event(event)
    assert len(monitor.drift_events()) == 10
    assert all(kept is event for kept, event in zip(monitor.drift_events(), events[15:], strict=True))
    assert monitor.statistics().drift_events == 25


def test_drift_events_can_be_read_by_version(clock):
    """``drift_events(version)`` gives those of one version."""
    monitor = small_monitor(clock)
    analysis = DriftAnalysis(performance_drift=PerformanceDrift(), data_drift=DataDrift(), concept_drift=ConceptDrift())
    for version_id in ("1", "2", "1"):
        monitor.record_drift_event(
            DriftEvent(
                model_version=version_id,
                drift_type=DriftType.DATA,
                severity=DriftSeverity.LOW,
                detected_at=clock.now(),
                analysis=analysis,
            )
        )
    assert [len(monitor.drift_events(version_id)) for version_id in ("1", "2", "3", None)] == [2, 1, 0, 3]


def test_counts_stay_exact_far_beyond_every_capacity(clock):
    """Fifty times more requests than are held whole are all counted, with their outcomes that came in time."""
    monitor = small_monitor(clock, recent_events=10, sample_size=10, pending_outcomes=1000)
    for number in range(50_000):
        if number % 500 == 0:
            clock.advance(10 * SECOND)
        predict(monitor, number, clock.now(), str(number % 3), output=number % 2)
        monitor.record_outcome(f"p{number}", 0)
        if number % 10 == 0:
            monitor.record_prediction_error("Overloaded", str(number % 3))
    metrics = monitor.get_recent_metrics(20 * MINUTE)
    assert (metrics.request_count, metrics.error_count) == (55_000, 5_000)
    assert (metrics.labelled_count, metrics.accuracy) == (50_000, 0.5)
    assert monitor.get_model_metrics("1", 20 * MINUTE).labelled_count == 16_667


def test_samples_of_versions_without_traffic_are_let_go(clock):
    """Of ever new versions only the latest have a sample of inputs; an older one says that it has not all of them."""
    monitor = small_monitor(clock)
    for version in range(100):
        for number in range(5):
            predict(monitor, 5 * version + number, clock.now(), str(version))
        monitor.get_recent_metrics(HOUR)
    latest, first = (monitor.get_recent_input_distribution(name, HOUR) for name in ("99", "0"))
    assert (len(latest.rows), latest.method) == (5, "all")
    assert (len(first.rows), first.method, first.count) == (0, "reservoir", 5)


def test_a_version_that_comes_back_is_sampled_again(clock):
    """A version whose sample was let go is sampled from its next request on, and does not claim to have all."""
    monitor = small_monitor(clock)
    for version in range(40):
        predict(monitor, version, clock.now(), str(version))
        monitor.get_recent_metrics(HOUR)
    predict(monitor, 40, clock.now(), "0")
    sample = monitor.get_recent_input_distribution("0", HOUR)
    assert (sample.rows.tolist(), sample.count, sample.method) == ([[40.0]], 2, "reservoir")
