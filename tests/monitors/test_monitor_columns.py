"""Predictions that come as columns are kept as columns, and nothing about them can be told from single ones."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlserve import InMemoryModelMonitor
from mlserve.clocks import ManualClock
from mlserve.monitors import _buffer
from mlserve.monitors._columns import SEPARATOR, Repeated, RequestColumns
from mlserve.records import FailureEvent, PredictionEvent

HOUR = timedelta(hours=1)
PATIENCE = 20.0
COUNT = 40
"""So many are kept as columns."""


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def monitor(clock: ManualClock) -> InMemoryModelMonitor:
    return InMemoryModelMonitor(clock=clock)


def block(count: int = COUNT, first: int = 0, **columns: Any) -> dict[str, Any]:
    numbers = range(first, first + count)
    return {
        "model_version": "1",
        "prediction_ids": [f"p{number}" for number in numbers],
        "inputs": [np.array([float(number)]) for number in numbers],
        "outputs": [number % 3 for number in numbers],
        "processing_times_ms": [1.0 + number for number in numbers],
        "timestamp": ManualClock().now().timestamp(),
    } | columns


def told(monitor: InMemoryModelMonitor) -> list[PredictionEvent]:
    return [event for event in monitor.events().events if isinstance(event, PredictionEvent)]


@pytest.mark.parametrize("given", ["list", "tuple", "array"])
def test_columns_of_any_kind_are_told_as_single_predictions(monitor: InMemoryModelMonitor, given: str) -> None:
    """Lists, tuples and arrays give the same events, with outputs of the types that they had."""
    make = {"list": list, "tuple": tuple, "array": np.array}[given]
    values = block()
    outputs = [np.int64(value) for value in values["outputs"]]
    confidences = [number / COUNT for number in range(COUNT)]
    values |= {"outputs": make(outputs), "processing_times_ms": make(values["processing_times_ms"])}
    monitor.record_block(**values, confidences=make(confidences))
    events = told(monitor)
    assert [(event.output, type(event.output), event.confidence) for event in events] == [
        (output, np.int64, confidence) for output, confidence in zip(outputs, confidences, strict=True)
    ]
    assert [event.processing_time_ms for event in events] == [1.0 + number for number in range(COUNT)]


@pytest.mark.parametrize("dtype", [np.int64, object])
def test_what_the_caller_changes_later_is_not_seen(monitor: InMemoryModelMonitor, dtype: Any) -> None:
    """The arrays belong to the caller, who may use them again as soon as the call returns."""
    inputs, outputs = np.zeros((COUNT, 2)), np.zeros(COUNT, dtype)
    monitor.record_block(**block(inputs=inputs, outputs=outputs))
    inputs += 1
    outputs += 1
    assert {(event.output, *event.input) for event in told(monitor)} == {(0, 0.0, 0.0)}


def given_away(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array


def test_what_is_given_away_is_not_copied(monitor: InMemoryModelMonitor) -> None:
    """An array that nobody may write to is kept as it is, and told like any other; a view of another is copied."""
    table, outputs = np.arange(2.0 * COUNT).reshape(COUNT, 2).copy(), np.arange(COUNT)
    latencies, confidences = np.full(COUNT, 2.0), np.linspace(0.0, 1.0, COUNT)
    below = np.zeros((COUNT, 2))
    monitor.record_block(
        **block(
            inputs=given_away(table),
            outputs=given_away(outputs),
            processing_times_ms=given_away(latencies),
            confidences=given_away(confidences),
        )
    )
    monitor.record_block(**block(first=COUNT, inputs=given_away(below[:])))
    below += 1
    whole, view = monitor._buffer[:: _buffer.ROW]
    assert (whole.inputs.values is table, whole.outputs is outputs, whole.latency is latencies) == (True, True, True)
    assert view.inputs.values.tolist() == [[0.0, 0.0]] * COUNT
    events = told(monitor)
    assert [event.input.tolist() for event in events[:COUNT]] == table.tolist()
    assert [event.confidence for event in events[:COUNT]] == confidences.tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.int64, object])
def test_numbers_of_any_dtype_may_be_given_away(monitor: InMemoryModelMonitor, dtype: Any) -> None:
    """Latencies that are not float64 are those numbers all the same."""
    monitor.record_block(**block(processing_times_ms=given_away(np.arange(1, COUNT + 1).astype(dtype))))
    assert [event.processing_time_ms for event in told(monitor)] == [1.0 + number for number in range(COUNT)]


BAD = {
    "no latency": {"processing_times_ms": None},
    "a latency that is none": {"processing_times_ms": float("nan")},
    "a latency of text": {"processing_times_ms": "long"},
    "latencies": {"processing_times_ms": [1.0, 2.0]},
    "a confidence of text": {"confidences": "sure"},
    "an id that is none": {"prediction_ids": 7},
}


@pytest.mark.parametrize("name", BAD)
def test_a_row_that_is_none_is_dropped_alone(monitor: InMemoryModelMonitor, name: str) -> None:
    """A value that is nothing of its kind costs its own row, which is counted; the others of the block are kept."""
    values = block() | {"confidences": [0.5] * COUNT}
    for column, bad in BAD[name].items():
        values[column][7] = bad
    monitor.record_block(**values)
    counts = monitor.statistics()
    assert (monitor.get_model_metrics("1", HOUR).request_count, counts.recorded, counts.dropped) == (39, 40, 1)
    assert "p7" not in {event.prediction_id for event in told(monitor)}


def test_a_block_of_no_version_is_dropped(monitor: InMemoryModelMonitor) -> None:
    """What cannot be the id of a version costs its rows, and does not reach the caller as an error."""
    monitor.record_block(**block(model_version=["1"]))
    assert (monitor.statistics().recorded, monitor.statistics().dropped) == (COUNT, COUNT)


def test_order_is_kept_among_blocks_and_single_predictions(monitor: InMemoryModelMonitor, clock: ManualClock) -> None:
    """Events come in the order in which they were recorded, however they were."""
    expected: list[str] = []
    for number in range(6):
        first = 100 * number
        monitor.record_block(**block(COUNT if number % 2 else 3, first))
        expected += [f"p{first + row}" for row in range(COUNT if number % 2 else 3)]
        for single in range(number):
            event = PredictionEvent(f"s{number}{single}", "1", None, 1, 1.0, clock.now())
            monitor.record_prediction(event)
            expected.append(event.prediction_id)
    assert [event.prediction_id for event in told(monitor)] == expected


@pytest.mark.parametrize("outputs", [np.arange(COUNT) / 2, ["a"] * COUNT, np.array(["b"] * COUNT)])
def test_blocks_of_different_kinds_are_counted_together(monitor: InMemoryModelMonitor, outputs: Any) -> None:
    """Blocks with other outputs, versions, arms and ids than the one before keep what they are."""
    odd = [f"q{SEPARATOR}{number}" for number in range(COUNT)]
    monitor.record_block(**block())
    monitor.record_block(**block(prediction_ids=odd, outputs=outputs, model_version="2"), arms=["b", None] * 20)
    second = told(monitor)[COUNT:]
    assert [(event.prediction_id, event.output, type(event.output), event.arm) for event in second] == [
        (name, output, type(output), arm) for name, output, arm in zip(odd, outputs, ["b", None] * 20, strict=True)
    ]


def test_outcomes_find_what_came_as_columns(monitor: InMemoryModelMonitor) -> None:
    """A prediction of a block waits for its true value like any other."""
    monitor.record_block(**block(outputs=np.arange(COUNT)))
    for number in range(COUNT):
        monitor.record_outcome(f"p{number}", number if number % 4 else -1)
    metrics = monitor.get_model_metrics("1", HOUR)
    assert (metrics.labelled_count, metrics.accuracy) == (COUNT, 0.75)


@pytest.mark.parametrize("count", [512, 513, 5000])
def test_a_block_may_be_larger_than_what_is_kept(clock: ManualClock, count: int) -> None:
    """A monitor that keeps few recent requests takes a long block in parts, and counts all of it."""
    monitor = InMemoryModelMonitor(clock=clock, recent_requests=1024)
    monitor.record_block(**block(count))
    assert monitor.get_model_metrics("1", HOUR).request_count == count


@pytest.mark.parametrize("width", [1, 200], ids=["short rows", "long rows"])
@pytest.mark.parametrize("count", [5, COUNT])
def test_inputs_may_come_as_a_table(monitor: InMemoryModelMonitor, count: int, width: int) -> None:
    """Rows of an array are the inputs one by one, and what becomes of the array afterwards changes nothing."""
    table = np.arange(count * width, dtype=float).reshape(count, width)
    given = table.copy()
    monitor.record_block(**block(count, inputs=given))
    given[:] = -1.0
    assert [event.input.tolist() for event in told(monitor)] == table.tolist()


@given(count=st.integers(0, 6), index=st.integers(-7, 7), bounds=st.tuples(*[st.none() | st.integers(-7, 7)] * 2))
def test_a_repeated_value_is_the_list_of_it(count: int, index: int, bounds: tuple[int | None, int | None]) -> None:
    """Length, items, slices and iteration are those of a list."""
    repeated, listed = Repeated("x", count), ["x"] * count

    def item(values: Sequence[str]) -> str | None:
        try:
            return values[index]
        except IndexError:
            return None

    part = slice(*bounds)
    assert (len(repeated), list(repeated), item(repeated), list(repeated[part])) == (
        count, listed, item(listed), listed[part],
    )  # fmt: skip


def test_what_is_the_same_everywhere_is_held_once() -> None:
    """Joined blocks of one version keep its id once, and answers that came as arrays stay one array."""
    part = RequestColumns.of(["p"] * 9, ["1"] * 9, [0] * 9, np.arange(9), [1.0] * 9, [1.0] * 9, [None] * 9, [None] * 9)
    joined = RequestColumns.joined([part, part])
    assert [type(column) for column in (joined.version_ids, joined.rare, joined.outputs)] == [
        Repeated, Repeated, np.ndarray,
    ]  # fmt: skip
    assert (len(joined), joined.packed_ids.count(SEPARATOR)) == (18, 17)
    assert (joined.seconds.tolist(), joined.confidence.size) == ([1.0] * 18, 18)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_child_thins_while_its_parent_did(clock: ManualClock) -> None:
    """A child forked while another thread draws which inputs to keep does not wait for that thread."""
    monitor = InMemoryModelMonitor(clock=clock, sample_size=2)
    for tenth in range(2):
        clock.advance(timedelta(seconds=0.1))
        monitor.record_block(**block(first=tenth * COUNT, timestamp=clock.now().timestamp()))
        monitor.get_model_metrics("1", HOUR)  # folds, and finds that more come than the sample holds
    with monitor._rng.bit_generator.lock:
        child = os.fork()
        if child == 0:
            asking = threading.Thread(
                target=monitor.record_block, kwargs=block(timestamp=clock.now().timestamp()), daemon=True
            )
            asking.start()
            asking.join(PATIENCE)
            os._exit(3 if asking.is_alive() else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    "timestamp", ["noon", ManualClock().now(), [1.0], 10**400, None], ids=lambda value: type(value)
)
def test_a_block_of_no_time_is_dropped_alone(monitor: InMemoryModelMonitor, timestamp: Any) -> None:
    """A block whose time is none costs its own rows; what others recorded is counted, and no reader is told."""
    monitor.record_block(**block(inputs=given_away(np.zeros((COUNT, 2)))))
    monitor.record_block(**block(first=COUNT, timestamp=timestamp))
    counts = monitor.statistics()
    assert (monitor.get_model_metrics("1", HOUR).request_count, counts.dropped) == (COUNT, COUNT)


def test_failures_keep_their_inputs_in_a_burst(clock: ManualClock) -> None:
    """However many inputs of predictions are not kept, a failure is told whole, in whatever company it came."""
    monitor = InMemoryModelMonitor(clock=clock, sample_size=2)
    for number in range(20):
        clock.advance(timedelta(milliseconds=1))
        columns = block(first=number * COUNT, inputs=given_away(np.ones((COUNT, 2))))
        monitor.record_block(**columns | {"timestamp": clock.now().timestamp()})
        monitor.record_failure(FailureEvent(f"f{number}", "1", [float(number)], "Overloaded", 1.0, clock.now()))
        monitor.get_model_metrics("1", HOUR)
    told_failures = [event for event in monitor.events().events if isinstance(event, FailureEvent)]
    assert [event.input for event in told_failures] == [[float(number)] for number in range(20)]
    assert sum(event.input is None for event in told(monitor)) > 10 * COUNT


def test_a_burst_of_one_version_thins_no_other(clock: ManualClock) -> None:
    """While the inputs of one version come too fast to be kept, those of another are."""
    monitor = InMemoryModelMonitor(clock=clock, sample_size=2)
    for number in range(20):
        clock.advance(timedelta(milliseconds=1))
        columns = block(first=number * COUNT, inputs=given_away(np.ones((COUNT, 2))))
        monitor.record_block(**columns | {"timestamp": clock.now().timestamp()})
        monitor.get_model_metrics("1", HOUR)
    columns = block(first=10_000, inputs=given_away(np.ones((COUNT, 2))), model_version="2")
    monitor.record_block(**columns | {"timestamp": clock.now().timestamp()})
    assert [event.input is None for event in told(monitor) if event.model_version == "2"] == [False] * COUNT
