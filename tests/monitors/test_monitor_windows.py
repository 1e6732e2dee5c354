"""How exact a window of the monitor in memory is, while requests are held whole and after."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from traffic import (
    HOUR,
    MICROSECOND,
    MINUTE,
    RESOLUTIONS,
    SECOND,
    expected_metrics,
    measured_metrics,
    predict,
    random_requests,
    record,
    small_monitor,
)

from mlserve import InMemoryModelMonitor
from mlserve.clocks import ManualClock
from mlserve.errors import InvalidArgumentError
from mlserve.monitors import Resolution

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
"""On the edge of a bucket of every resolution."""


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


def outward(start: datetime, width: timedelta) -> datetime:
    """The edge of a bucket at or before a moment."""
    return start - (start - datetime(1970, 1, 1, tzinfo=UTC)) % width


# ----------------------------------------------------------------------------------------------- requests held whole


@pytest.mark.parametrize("version_id", [None, "1", "2", "3"])
def test_while_requests_are_held_whole_any_window_is_exact(clock, version_id):
    """A window over requests that are held whole is exact to the microsecond, wherever it begins."""
    requests = random_requests(1000, NOON, 2 * HOUR, seed=1)
    monitor = small_monitor(clock)
    record(monitor, requests)
    edges = [NOON - request.at for request in requests[:100]]
    for window in [edge + beside * MICROSECOND for edge in edges for beside in (-1, 0, 1)]:
        expected = expected_metrics(requests, version_id, NOON - window, NOON)
        assert measured_metrics(monitor, version_id, window) == pytest.approx(expected)


def test_a_recent_window_stays_exact_when_older_requests_lie_in_buckets(clock):
    """A window that reaches no further back than what is held whole is exact, whatever lies in buckets."""
    monitor = small_monitor(clock)
    moments = [NOON - 5000 * SECOND + number * SECOND for number in range(1, 5001)]
    for number, at in enumerate(moments):
        predict(monitor, number, at)
    for seconds in (1, 7, 100, 333, 512):
        for beside in (-1, 0, 1):
            window = seconds * SECOND + beside * MICROSECOND
            expected = sum(at > NOON - window for at in moments)
            assert monitor.get_recent_metrics(window).request_count == expected


# ------------------------------------------------------------------------------------------------- requests in buckets


@pytest.mark.parametrize("window", [10 * SECOND, MINUTE, 20 * MINUTE, 25 * MINUTE, HOUR, 3 * HOUR, 4 * HOUR, 47 * HOUR])
@pytest.mark.parametrize("version_id", [None, "1"])
def test_a_window_that_ends_with_buckets_is_exact(clock, window, version_id):
    """A window that begins on the edge of a bucket of its resolution is exact, though no request is held whole."""
    requests = random_requests(6000, NOON, 47 * HOUR, seed=2) + random_requests(3000, NOON, 20 * MINUTE, seed=3)
    requests = [request.__class__(number, *attributes(request)) for number, request in enumerate(requests)]
    monitor = small_monitor(clock)
    record(monitor, requests)
    expected = expected_metrics(requests, version_id, NOON - window, NOON)
    assert measured_metrics(monitor, version_id, window) == pytest.approx(expected)


def attributes(request):
    return (
        request.at,
        request.version_id,
        request.kind,
        request.latency_ms,
        request.confidence,
        request.output,
        request.actual,
    )


@pytest.mark.parametrize("seed", range(3))
def test_a_window_is_rounded_outward_to_one_bucket_at_most(clock, seed):
    """A window counts all that is in it, and nothing before the edge of the bucket in which it begins."""
    requests = random_requests(5000, NOON, 6 * HOUR, seed=seed)
    monitor = small_monitor(clock)
    record(monitor, requests)
    for window_us in np.random.default_rng(seed).integers(1, 6 * HOUR // MICROSECOND, 100).tolist():
        window = window_us * MICROSECOND
        width = next(level.width for level in RESOLUTIONS if window <= level.retention)
        least = sum(request.at > NOON - window for request in requests)
        most = sum(request.at > outward(NOON - window, width) for request in requests)
        assert least <= monitor.get_recent_metrics(window).request_count <= most


def test_percentiles_from_buckets_are_within_one_percent(clock):
    """Percentiles stay within 1 % when requests lie in buckets of several resolutions."""
    rng = np.random.default_rng(4)
    latencies = rng.lognormal(1.0, 2.0, 5000)
    monitor = small_monitor(clock)
    for number, latency_ms in enumerate(latencies.tolist()):
        predict(monitor, number, NOON - number * SECOND, processing_time_ms=latency_ms)
    metrics = monitor.get_recent_metrics(3 * HOUR)
    ordered = np.sort(latencies)
    for q, claimed in ((0.5, metrics.p50_latency_ms), (0.95, metrics.p95_latency_ms), (0.99, metrics.p99_latency_ms)):
        exact = ordered[int(np.ceil(q * 5000)) - 1]
        assert claimed == pytest.approx(exact, rel=0.01 + 1e-9)


def test_the_histogram_answers_what_share_was_fast(clock):
    """The histogram of a window tells the share of latencies under a threshold."""
    monitor = small_monitor(clock)
    for number in range(2000):
        predict(monitor, number, NOON, processing_time_ms=10.0 if number % 4 else 1000.0)
    assert monitor.get_recent_metrics(HOUR).latency_histogram.share_below(100.0) == 0.75


def test_a_moment_on_an_edge_belongs_to_the_bucket_that_ends_there(clock):
    """Buckets are open on the left and closed on the right, like windows."""
    monitor = small_monitor(clock)
    predict(monitor, 0, NOON - 10 * MINUTE)
    predict(monitor, 1, NOON - 10 * MINUTE + MICROSECOND)
    for number in range(2, 2000):
        predict(monitor, number, NOON)
    counts = [monitor.get_recent_metrics(window).request_count for window in (10 * MINUTE, 10 * MINUTE + MICROSECOND)]
    assert counts == [1999, 2000]


def test_late_events_land_in_the_buckets_of_their_own_time(clock):
    """Events that come an hour late, after newer ones went into buckets, count at their own time."""
    monitor = small_monitor(clock)
    for number in range(3000):
        predict(monitor, number, NOON)
    for number in range(3000, 5000):
        predict(monitor, number, NOON - HOUR)
    for number in range(5000, 7000):
        predict(monitor, number, NOON)
    counts = [monitor.get_recent_metrics(window).request_count for window in (20 * MINUTE, HOUR, HOUR + 5 * MINUTE)]
    assert counts == [5000, 5000, 7000]


def test_buckets_of_the_future_wait_for_their_time(clock):
    """Events ahead of the clock count when their time has come, also from buckets."""
    monitor = small_monitor(clock)
    for number in range(3000):
        predict(monitor, number, NOON + 5 * MINUTE)
    assert monitor.get_recent_metrics(HOUR).request_count == 0
    clock.advance(5 * MINUTE)
    assert monitor.get_recent_metrics(HOUR).request_count == 3000


# --------------------------------------------------------------------------------------------------------- retention


def test_a_window_as_long_as_the_retention_is_answered(clock):
    """The longest window is the retention of the coarsest resolution."""
    monitor = small_monitor(clock)
    predict(monitor, 0, NOON - 47 * HOUR)
    assert monitor.get_recent_metrics(48 * HOUR).request_count == 1


@pytest.mark.parametrize("method", ["get_recent_metrics", "get_model_metrics", "get_recent_input_distribution"])
def test_a_window_longer_than_the_retention_is_refused(clock, method):
    """``InvalidArgumentError`` is raised for a window that the buckets cannot answer, naming the retention."""
    window = 48 * HOUR + MICROSECOND
    arguments = (window,) if method == "get_recent_metrics" else ("1", window)
    with pytest.raises(InvalidArgumentError, match="2 days"):
        getattr(small_monitor(clock), method)(*arguments)


@pytest.mark.parametrize("window", ["an hour", 3600, None, timedelta(0)])
def test_a_window_that_is_no_span_is_refused(clock, window):
    """``InvalidArgumentError`` is raised for a window that is no positive ``timedelta``."""
    with pytest.raises(InvalidArgumentError):
        small_monitor(clock).get_recent_metrics(window)


def test_what_is_older_than_the_retention_is_dropped(clock):
    """An event from before the retention can be in no window; it is counted as dropped."""
    monitor = small_monitor(clock)
    predict(monitor, 0, NOON - 48 * HOUR)
    predict(monitor, 1, NOON - 48 * HOUR + MICROSECOND)
    assert monitor.get_recent_metrics(48 * HOUR).request_count == 1
    assert (monitor.statistics().recorded, monitor.statistics().dropped) == (2, 1)


def test_a_long_silence_empties_every_window(clock):
    """After a silence longer than the retention nothing is left, and new traffic is counted as ever."""
    monitor = small_monitor(clock)
    for number in range(3000):
        predict(monitor, number, NOON)
    clock.advance(100 * HOUR)
    assert monitor.get_recent_metrics(48 * HOUR).request_count == 0
    for number in range(3000, 6000):
        predict(monitor, number, clock.now())
    assert monitor.get_recent_metrics(48 * HOUR).request_count == 3000


def test_days_of_traffic_are_counted_exactly_hour_by_hour(clock):
    """Windows of whole hours are exact over two days of steady traffic that was recorded as time went by."""
    monitor = small_monitor(clock)
    number = 0
    for _ in range(48 * 6):
        clock.advance(10 * MINUTE)
        for _ in range(20):
            predict(monitor, number, clock.now())
            number += 1
    counts = [monitor.get_recent_metrics(hours * HOUR).request_count for hours in (1, 3, 4, 24, 47)]
    assert counts == [120 * hours for hours in (1, 3, 4, 24, 47)]


# ------------------------------------------------------------------------------------------------------- construction


@pytest.mark.parametrize(
    "options",
    [
        {"sample_size": 0},
        {"pending_outcomes": 0},
        {"recent_events": 0},
        {"recent_requests": 1023},
        {"recent_requests": -1},
        {"resolutions": ()},
        {"resolutions": RESOLUTIONS[::-1]},
        {"resolutions": (RESOLUTIONS[0], RESOLUTIONS[0])},
    ],
)
def test_an_option_that_means_nothing_is_refused(options):
    """``InvalidArgumentError`` is raised when the monitor is built, not when traffic comes."""
    with pytest.raises(InvalidArgumentError):
        InMemoryModelMonitor(**options)


@pytest.mark.parametrize(("width", "retention"), [(timedelta(0), HOUR), (-SECOND, HOUR), (MINUTE, SECOND)])
def test_a_resolution_that_means_nothing_is_refused(width, retention):
    """A bucket has a positive width, and the retention holds at least one."""
    with pytest.raises(InvalidArgumentError):
        Resolution(width, retention)


def test_the_system_clock_is_the_default():
    """Without a clock, now is the time of the machine."""
    monitor = InMemoryModelMonitor()
    predict(monitor, 0, datetime.now(UTC))
    monitor.record_prediction_error("Overloaded", "1")
    assert monitor.get_recent_metrics(HOUR).request_count == 2
