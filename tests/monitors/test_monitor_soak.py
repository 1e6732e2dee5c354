"""Long traffic: memory stays flat, counts stay exact, percentiles stay true; and days on which clocks misbehave."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import attrs
import numpy as np
import pytest
from traffic import HOUR, MINUTE, SECOND, predict, small_monitor

from mlserve import InMemoryModelMonitor
from mlserve.clocks import ManualClock
from mlserve.testing._threads import at_once

BLOCK = 1000
N_FEATURES = 4
GROWTH_ALLOWED = 12 * 2**20
"""Bytes. Far less than a million requests would leave behind at only 50 bytes each."""


def resident_bytes() -> int:
    """Memory that the process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@attrs.define
class Sent:
    """What was sent, added up the naive way."""

    count: int = 0
    labelled: int = 0
    right: int = 0
    latencies: list[np.ndarray] = attrs.field(factory=list)


def send(monitor: InMemoryModelMonitor, clock: ManualClock, blocks: int, first: int, sent: Sent) -> None:
    """Blocks of predictions, ten milliseconds apart, an outcome for each tenth of them."""
    rng = np.random.default_rng(first)
    for block in range(first, first + blocks):
        clock.advance(timedelta(milliseconds=10))
        latencies = rng.lognormal(0.0, 1.0, BLOCK)
        outputs = rng.integers(2, size=BLOCK)
        monitor.record_block(
            "1",
            [f"{block}-{number}" for number in range(BLOCK)],
            list(rng.normal(size=(BLOCK, N_FEATURES))),
            outputs.tolist(),
            latencies.tolist(),
            clock.now().timestamp(),
        )
        for number in range(0, BLOCK, 10):
            actual = int(rng.integers(2))
            monitor.record_outcome(f"{block}-{number}", actual)
            sent.right += actual == outputs[number]
        sent.count += BLOCK
        sent.labelled += BLOCK // 10
        sent.latencies.append(latencies)


def check_soak(blocks: int) -> None:
    clock = ManualClock()
    # So few wait for their outcome, and so few are remembered to have had it, that both are full when it is warm.
    monitor = InMemoryModelMonitor(clock=clock, pending_outcomes=20_000)
    monitor.set_baseline("1", inputs=np.random.default_rng(1).normal(size=(1000, N_FEATURES)))
    sent = Sent()
    warm = blocks * 2 // 5
    send(monitor, clock, warm, 0, sent)
    monitor.get_recent_metrics(HOUR)
    sent.latencies = [np.concatenate(sent.latencies)]
    before = resident_bytes() - sum(latencies.nbytes for latencies in sent.latencies)
    send(monitor, clock, blocks - warm, warm, sent)
    metrics = monitor.get_recent_metrics(HOUR)
    after = resident_bytes() - sum(latencies.nbytes for latencies in sent.latencies)
    assert after - before < GROWTH_ALLOWED
    assert (metrics.request_count, metrics.labelled_count) == (sent.count, sent.labelled)
    assert metrics.accuracy == pytest.approx(sent.right / sent.labelled, rel=1e-12)
    exact = np.quantile(np.concatenate(sent.latencies), 0.99, method="inverted_cdf")
    assert metrics.p99_latency_ms == pytest.approx(exact, rel=0.01)
    cells = monitor.get_recent_input_distribution("1", HOUR)
    assert cells.count == sent.count


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_a_million_requests_leave_nothing_behind():
    """A million requests with outcomes: memory is flat after warm-up, counts are exact, the 99th percentile is true."""
    check_soak(1_000)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_ten_million_requests_leave_nothing_behind():
    """Ten million requests with outcomes: memory is flat after warm-up, counts exact, the 99th percentile true."""
    check_soak(10_000)


@pytest.mark.slow
def test_sixteen_threads_record_while_two_read():
    """Sixteen threads record a hundred thousand requests each; two readers see no torn window, and none is lost."""
    check_threads(16, 100_000)


def test_threads_record_while_two_read():
    """Sixteen threads record at once; two readers never see a torn window, and nothing is lost."""
    check_threads(16, 2_000)


def check_threads(threads: int, each: int) -> None:
    clock = ManualClock()
    monitor = small_monitor(clock)
    left = [threads]
    torn: list[object] = []

    def recording(thread: int) -> None:
        now = clock.now().timestamp()
        for number in range(each):
            # A request takes as many milliseconds as its version is called: a sum that does not fit the count is torn.
            version = 1 + number % 2
            monitor.defer_prediction(f"{thread}-{number}", str(version), None, 0, version, now, None, None, None)
        left[0] -= 1

    def reading() -> Iterator[None]:
        while left[0] > 0:
            metrics = monitor.get_model_metrics("2", HOUR)
            if metrics.request_count and metrics.average_latency_ms != 2.0:
                torn.append(metrics)
            yield

    def read_all() -> None:
        for _ in reading():
            pass

    at_once([*(partial(recording, thread) for thread in range(threads)), read_all, read_all])
    assert not torn
    assert monitor.get_recent_metrics(HOUR).request_count == threads * each
    assert monitor.get_model_metrics("1", HOUR).request_count == threads * each // 2


@attrs.define
class JumpingClock:
    """A clock that is set, also back, as a clock of a machine may be."""

    moment: datetime

    def now(self) -> datetime:
        return self.moment.astimezone(UTC)

    def monotonic(self) -> float:
        return self.moment.timestamp()


def test_a_clock_set_back_loses_no_request():
    """When the clock is set back by an hour, requests before and after are counted, each in the window of its time."""
    clock = JumpingClock(datetime(2026, 3, 1, 12, 0, tzinfo=UTC))
    monitor = small_monitor(clock)
    for number in range(10):
        predict(monitor, number, clock.now())
    clock.moment -= HOUR
    for number in range(10, 15):
        predict(monitor, number, clock.now())
    assert monitor.get_recent_metrics(MINUTE).request_count == 5
    clock.moment += HOUR + SECOND
    assert monitor.get_recent_metrics(2 * HOUR).request_count == 15


def test_a_clock_set_forward_ages_what_was_counted():
    """After a jump forward a short window is empty and a long one still holds what came before."""
    clock = JumpingClock(datetime(2026, 3, 1, 12, 0, tzinfo=UTC))
    monitor = small_monitor(clock)
    for number in range(10):
        predict(monitor, number, clock.now())
    clock.moment += 10 * HOUR
    assert monitor.get_recent_metrics(HOUR).request_count == 0
    assert monitor.get_recent_metrics(11 * HOUR).request_count == 10


@pytest.mark.parametrize(
    ("start", "zone"),
    [
        (datetime(2026, 3, 29, 1, 30), "Europe/Berlin"),
        (datetime(2026, 10, 25, 2, 30), "Europe/Berlin"),
        (datetime(2026, 6, 30, 23, 59, 30), "UTC"),
        (datetime(2026, 12, 31, 23, 30), "Asia/Tokyo"),
    ],
    ids=["summer time begins", "summer time ends", "midnight", "new year"],
)
def test_an_hour_is_an_hour_on_every_day(start, zone):
    """When a country changes its clocks, at midnight and at new year, a window of an hour holds an hour's requests."""
    clock = ManualClock(start.replace(tzinfo=ZoneInfo(zone)))
    monitor = small_monitor(clock)
    for number in range(180):
        clock.advance(MINUTE)
        predict(monitor, number, clock.now().astimezone(ZoneInfo(zone)))
    assert monitor.get_recent_metrics(HOUR).request_count == 60


def test_a_laptop_that_slept_a_day_counts_on():
    """After a day without a tick the last minutes are empty, the day before is there, and new requests are counted."""
    clock = ManualClock()
    monitor = InMemoryModelMonitor(clock=clock, recent_requests=1024)
    for number in range(5000):
        clock.advance(timedelta(milliseconds=100))
        predict(monitor, number, clock.now())
    clock.advance(timedelta(days=1))
    assert monitor.get_recent_metrics(10 * MINUTE).request_count == 0
    for number in range(5000, 5100):
        clock.advance(timedelta(milliseconds=100))
        predict(monitor, number, clock.now())
    assert monitor.get_recent_metrics(10 * MINUTE).request_count == 100
    assert monitor.get_recent_metrics(timedelta(days=2)).request_count == 5100
