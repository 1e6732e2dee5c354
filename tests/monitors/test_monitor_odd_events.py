"""Events that hold nonsense harm no other."""

from __future__ import annotations

import pytest
from traffic import HOUR, predict

from mlserve import InMemoryModelMonitor
from mlserve.clocks import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def monitor(clock) -> InMemoryModelMonitor:
    return InMemoryModelMonitor(clock=clock)


def defer(monitor, clock, **values) -> None:
    told = {
        "prediction_id": "odd",
        "model_version": "1",
        "input": [1.0],
        "output": 0,
        "processing_time_ms": 1.0,
        "timestamp": clock.now().timestamp(),
        "confidence": None,
        "arm": None,
        "key": None,
        **values,
    }
    monitor.defer_prediction(*told.values())


@pytest.mark.parametrize(
    "nonsense",
    [
        {"processing_time_ms": float("nan")},
        {"processing_time_ms": float("inf")},
        {"processing_time_ms": -1.0},
        {"processing_time_ms": "fast"},
        {"processing_time_ms": None},
        {"timestamp": float("nan")},
        {"timestamp": float("-inf")},
        {"timestamp": 1e20},
        {"timestamp": 1e305},
        {"timestamp": None},
        {"prediction_id": 5},
        {"prediction_id": None},
        {"model_version": ["1"]},
        {"confidence": "high"},
    ],
)
def test_an_event_that_cannot_be_counted_is_dropped_alone(monitor, clock, nonsense):
    """An event with a value that is none of its kind is counted as dropped; those around it are counted."""
    predict(monitor, 0, clock.now())
    defer(monitor, clock, **nonsense)
    predict(monitor, 1, clock.now())
    assert monitor.get_recent_metrics(HOUR).request_count == 2
    assert (monitor.statistics().recorded, monitor.statistics().dropped) == (3, 1)


@pytest.mark.parametrize("confidence", [float("nan"), float("inf")])
def test_a_confidence_that_is_no_number_is_no_evidence(monitor, clock, confidence):
    """A confidence of NaN or infinity is left out of the mean; its prediction is counted."""
    predict(monitor, 0, clock.now(), confidence=0.5)
    predict(monitor, 1, clock.now(), confidence=confidence)
    metrics = monitor.get_recent_metrics(HOUR)
    assert (metrics.request_count, metrics.average_confidence) == (2, 0.5)


def test_a_latency_of_zero_is_a_latency(monitor, clock):
    """A latency of 0 is counted; its percentiles lie at the shortest time there is."""
    predict(monitor, 0, clock.now(), processing_time_ms=0.0)
    metrics = monitor.get_recent_metrics(HOUR)
    assert (metrics.request_count, metrics.average_latency_ms) == (1, 0.0)
    assert metrics.p99_latency_ms == pytest.approx(0.0, abs=1e-5)


def test_many_dropped_events_harm_no_other(monitor, clock):
    """Of a thousand events, one in three without a latency, the others are all counted and labelled."""
    for number in range(1200):
        predict(monitor, number, clock.now(), processing_time_ms=float("nan") if number % 3 == 0 else 1.0)
    for number in range(1200):
        monitor.record_outcome(f"p{number}", 0)
    metrics = monitor.get_recent_metrics(HOUR)
    assert (metrics.request_count, metrics.labelled_count) == (800, 800)
    assert (monitor.statistics().dropped, monitor.statistics().unknown_outcomes) == (400, 400)


def test_an_output_that_cannot_be_compared_harms_no_other(monitor, clock):
    """Outcomes are joined one by one: one that raises when it is compared costs the others nothing."""

    class Incomparable:
        def __eq__(self, other: object) -> bool:
            raise RuntimeError("cannot be compared")

        __hash__ = object.__hash__

    for number, output in enumerate([0, Incomparable(), 0]):
        predict(monitor, number, clock.now(), output=output)
        monitor.record_outcome(f"p{number}", 0)
    assert monitor.get_recent_metrics(HOUR).labelled_count == 2
    assert monitor.statistics().mismatched_outcomes == 1
