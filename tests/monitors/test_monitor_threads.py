"""Many threads record while others read: nothing is lost, nothing is counted twice."""

from __future__ import annotations

import threading
from functools import partial

import numpy as np
import pytest
from traffic import HOUR, predict, small_monitor

from mlserve.clocks import ManualClock
from mlserve.testing._threads import at_once

RECORDING, READING, EACH = 6, 2, 3000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def run(monitor, record, read) -> None:
    """Record in several threads while others read until the last one is done."""
    left, done = threading.Semaphore(0), threading.Event()

    def recording(thread: int) -> None:
        try:
            for number in range(thread * EACH, (thread + 1) * EACH):
                record(number)
        finally:
            left.release()

    def reading() -> None:
        while not done.is_set():
            read()

    def ending() -> None:
        for _ in range(RECORDING):
            left.acquire()
        done.set()

    at_once([*(partial(recording, thread) for thread in range(RECORDING)), *[reading] * READING, ending])


def test_no_count_is_lost_while_others_read(clock):
    """Far more requests than are held whole, recorded by six threads while two read, are all counted."""
    monitor = small_monitor(clock)
    seen: list[int] = []

    def record(number: int) -> None:
        predict(monitor, number, clock.now(), str(number % 3))
        if number % 5 == 0:
            monitor.record_prediction_error("Overloaded", "0")

    run(monitor, record, lambda: seen.append(monitor.get_recent_metrics(HOUR).request_count))
    metrics = monitor.get_recent_metrics(HOUR)
    assert (metrics.request_count, metrics.error_count) == (RECORDING * EACH * 6 // 5, RECORDING * EACH // 5)
    assert sum(monitor.get_model_metrics(str(v), HOUR).request_count for v in range(3)) == metrics.request_count
    assert max(seen, default=0) <= metrics.request_count


def test_no_outcome_is_lost_while_others_read(clock):
    """Every outcome recorded after its own prediction is joined, whatever is read in between."""
    monitor = small_monitor(clock)

    def record(number: int) -> None:
        predict(monitor, number, clock.now(), output=number % 2)
        monitor.record_outcome(f"p{number}", 1)

    run(monitor, record, monitor.statistics)
    metrics = monitor.get_recent_metrics(HOUR)
    assert (metrics.labelled_count, metrics.accuracy) == (RECORDING * EACH, 0.5)
    statistics = monitor.statistics()
    assert (statistics.outcomes, statistics.unknown_outcomes, statistics.duplicate_outcomes) == (RECORDING * EACH, 0, 0)


def test_every_event_is_read_once(clock):
    """One reader that follows the cursor sees every event once, and those of each thread in order."""
    monitor = small_monitor(clock, recent_events=RECORDING * EACH)
    seen: list[str] = []
    lock = threading.Lock()
    cursor = 0

    def read() -> None:
        nonlocal cursor
        with lock:
            page = monitor.events(cursor)
            assert page.missed == 0
            cursor = page.cursor
            seen.extend(event.prediction_id for event in page.events)

    run(monitor, lambda number: predict(monitor, number, clock.now()), read)
    read()
    numbers = np.array([int(prediction_id[1:]) for prediction_id in seen])
    assert sorted(numbers.tolist()) == list(range(RECORDING * EACH))
    assert all((np.diff(numbers[numbers // EACH == thread]) > 0).all() for thread in range(RECORDING))


def test_a_sample_holds_only_inputs_that_were_sent(clock):
    """Under load from many threads, with inputs thinned, a sample holds distinct inputs that were sent."""
    monitor = small_monitor(clock, sample_size=20)
    start = clock.now().timestamp()
    clock.advance(HOUR)
    drawn: list[np.ndarray] = []

    def record(number: int) -> None:
        seconds = start + 1 + number / 1e4
        monitor.defer_prediction(f"p{number}", "1", float(number), 0, 1.0, seconds, None, None, None)

    run(monitor, record, lambda: drawn.append(monitor.get_recent_input_distribution("1", HOUR).rows.ravel()))
    drawn.append(monitor.get_recent_input_distribution("1", HOUR).rows.ravel())
    assert monitor.get_recent_input_distribution("1", HOUR).unusable_count == 0
    assert all(len(set(rows.tolist())) == rows.size <= 20 for rows in drawn)
    assert all(((rows >= 0) & (rows < RECORDING * EACH)).all() for rows in drawn)
