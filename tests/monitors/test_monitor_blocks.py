"""Predictions recorded together are those recorded one by one; and a buffer that nobody empties stays bounded."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from traffic import HOUR, small_monitor

from mlserve.clocks import ManualClock
from mlserve.monitors import _buffer

PATIENCE_SECONDS = 60


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def columns_of(count: int) -> dict[str, list[Any]]:
    return {
        "prediction_ids": [f"p{number}" for number in range(count)],
        "inputs": [np.array([float(number)]) for number in range(count)],
        "outputs": [number % 3 for number in range(count)],
        "processing_times_ms": [1.0 + number for number in range(count)],
        "arms": ["arm" if number % 2 else None for number in range(count)],
        "keys": [None] * count,
    }


@pytest.mark.parametrize("confidences", [None, [0.5, None, 0.75, 1.0, None]], ids=["none", "some"])
def test_a_block_is_its_predictions(clock, confidences):
    """A block gives the same metrics, events and inputs as its predictions recorded one after the other."""
    together, single, now = small_monitor(clock), small_monitor(clock), clock.now().timestamp()
    columns = columns_of(5)
    together.record_block("1", **columns, timestamp=now, confidences=confidences)
    for (name, row, output, took_ms, arm, key), sure in zip(
        zip(*columns.values(), strict=True), confidences or [None] * 5, strict=True
    ):
        single.defer_prediction(name, "1", row, output, took_ms, now, sure, arm, key)
    told = [
        [(e.prediction_id, e.output, e.processing_time_ms, e.confidence, e.arm) for e in monitor.events().events]
        for monitor in (together, single)
    ]
    assert told[0] == told[1]
    assert repr(together.get_recent_metrics(HOUR)) == repr(single.get_recent_metrics(HOUR))


def test_blocks_and_single_predictions_keep_their_order(clock):
    """Events come in the order in which they were recorded, whether together or alone."""
    monitor, now = small_monitor(clock), clock.now().timestamp()
    for turn in range(3):
        monitor.defer_prediction(f"before-{turn}", "1", None, 0, 1.0, now, None, None, None)
        ids = [f"{turn}-{number}" for number in range(2)]
        monitor.record_block("1", ids, [None] * 2, [0] * 2, [1.0] * 2, now)
    monitor.defer_prediction("last", "1", None, 0, 1.0, now, None, None, None)
    told = [event.prediction_id for event in monitor.events().events]
    assert told == [name for t in range(3) for name in (f"before-{t}", f"{t}-0", f"{t}-1")] + ["last"]


def test_a_value_of_no_kind_spoils_only_its_own_row(clock):
    """A latency that is none is dropped and counted; the others of its block are kept."""
    monitor = small_monitor(clock)
    monitor.record_block("1", ["a", "b", "c"], [None] * 3, [0] * 3, [1.0, float("nan"), 2.0], clock.now().timestamp())
    assert [event.prediction_id for event in monitor.events().events] == ["a", "c"]
    assert (monitor.statistics().recorded, monitor.statistics().dropped) == (3, 1)


def test_the_caller_may_change_what_a_block_held(clock):
    """Inputs and outputs are copied before the call returns."""
    monitor, row, output = small_monitor(clock), np.array([1.0]), [1]
    monitor.record_block("1", ["a"], [row], [output], [1.0], clock.now().timestamp())
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
