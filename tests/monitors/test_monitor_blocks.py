"""Predictions recorded together are those recorded one by one; and a buffer that nobody empties stays bounded."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from traffic import HOUR, small_monitor

from mlserve.clocks import ManualClock
from mlserve.errors import InvalidArgumentError
from mlserve.monitors import _buffer

PATIENCE_SECONDS = 60


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def rows_of(count: int) -> list[tuple]:
    return [
        (f"p{number}", np.array([float(number)]), number % 3, 1.0 + number, "arm" if number % 2 else None, None)
        for number in range(count)
    ]


@pytest.mark.parametrize("confidences", [None, [0.5, None, 0.75, 1.0, None]], ids=["none", "some"])
def test_a_block_is_its_predictions(clock, confidences):
    """A block gives the same metrics, events and inputs as its predictions recorded one after the other."""
    together, single, now = small_monitor(clock), small_monitor(clock), clock.now().timestamp()
    together.record_block("1", rows_of(5), now, confidences)
    for (name, row, output, took_ms, arm, key), sure in zip(rows_of(5), confidences or [None] * 5, strict=True):
        single.defer_prediction(name, "1", row, output, took_ms, now, sure, arm, key)
    told = [
        [(e.prediction_id, e.output, e.processing_time_ms, e.confidence, e.arm) for e in monitor.events().events]
        for monitor in (together, single)
    ]
    assert told[0] == told[1]
    assert repr(together.get_recent_metrics(HOUR)) == repr(single.get_recent_metrics(HOUR))


def test_a_block_of_nothing_is_nothing(clock):
    """A block without rows records nothing and is no error."""
    monitor = small_monitor(clock)
    monitor.record_block("1", [], clock.now().timestamp(), None)
    assert monitor.statistics().recorded == 0


@pytest.mark.parametrize("count", [0, 2, 4])
def test_confidences_of_other_rows_are_refused(clock, count):
    """Too few or too many confidences are refused, and nothing of the block is recorded."""
    monitor = small_monitor(clock)
    with pytest.raises(InvalidArgumentError, match="confidences"):
        monitor.record_block("1", rows_of(3), clock.now().timestamp(), [0.5] * count)
    assert monitor.statistics().recorded == 0


def test_the_caller_may_change_what_a_block_held(clock):
    """Inputs and outputs are copied before the call returns."""
    monitor, row, output = small_monitor(clock), np.array([1.0]), [1]
    monitor.record_block("1", [("a", row, output, 1.0, None, None)], clock.now().timestamp(), None)
    row[0], output[0] = 9.0, 9
    (event,) = monitor.events().events
    assert (event.input.tolist(), event.output) == ([1.0], [1])


def test_a_buffer_that_nobody_empties_is_bounded(clock, monkeypatch):
    """While a reader holds the lock, a recorder that is far ahead waits for it; afterwards everything is counted."""
    monkeypatch.setattr(_buffer, "_WAIT_AT", 2 * _buffer._FOLD_AT)
    monitor, now, count = small_monitor(clock), clock.now().timestamp(), 5 * _buffer.FOLD_EVERY

    def record() -> None:
        for number in range(count):
            monitor.defer_prediction(f"p{number}", "1", None, 0, 1.0, now, None, None, None)

    with monitor._lock:
        recorder = threading.Thread(target=record)
        recorder.start()
        recorder.join(0.2)
        assert len(monitor._buffer) <= 2 * _buffer._FOLD_AT
    recorder.join(PATIENCE_SECONDS)
    assert monitor.get_recent_metrics(HOUR).request_count == count
