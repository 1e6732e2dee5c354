"""A share of the traffic: which share it is, and what its numbers are."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from typing import Any

import attrs
import numpy as np
import pytest

from mlserve import InMemoryModelMonitor, InMemoryModelRepository, ModelServer
from mlserve.clocks import ManualClock
from mlserve.errors import InvalidArgumentError
from mlserve.monitors import FanoutMonitor, MonitorSink, SampledMonitor
from mlserve.protocols import DeferringMonitor, LabelledMonitor, ModelMonitor
from mlserve.records import (
    ConceptDrift,
    DataDrift,
    DriftAnalysis,
    DriftEvent,
    DriftSeverity,
    DriftType,
    FailureEvent,
    PerformanceDrift,
    PredictionEvent,
)

HOUR = timedelta(hours=1)
FOUR_SIGMA = 4.0
"""A right sampler is refused by chance once in 16 000 times; the ids are fixed, so that it either is or is not."""


class Notes:
    """The least that a sink is; notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def record_prediction(self, event: Any) -> None:
        self.told.append(event)

    def record_prediction_error(self, kind: str, version_id: str | None) -> None:
        self.told.append((kind, version_id))

    def record_drift_event(self, event: Any) -> None:
        self.told.append(event)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def prediction(prediction_id: str, clock: ManualClock, **values: Any) -> PredictionEvent:
    told = {"input": [1.0], "output": 1, "processing_time_ms": 2.0, **values}
    return PredictionEvent(prediction_id, "1", timestamp=clock.now(), **told)


def failure(prediction_id: str, clock: ManualClock) -> FailureEvent:
    return FailureEvent(prediction_id, "1", [1.0], "Overloaded", 1.0, clock.now())


def server_ids(count: int, process: int = 0, first: int = 0) -> list[str]:
    """Ids as a server makes them: alike but for a number at the end."""
    return [f"model-{process:012x}-{number}" for number in range(first, first + count)]


def chosen(rate: float, ids: list[str], seed: int = 0) -> np.ndarray:
    sampled = SampledMonitor(Notes(), rate, seed=seed)
    return np.array([sampled.is_sampled(prediction_id) for prediction_id in ids])


# ---------------------------------------------------------------------------------------------------- which are taken


@pytest.mark.parametrize("process", [0, 1, 0xABCDEF012345])
@pytest.mark.parametrize("rate", [0.5, 0.1, 0.01])
def test_the_share_is_the_rate(rate: float, process: int) -> None:
    """Of the ids that a server makes, a share of ``rate`` is taken, as closely as coin tosses would."""
    taken = chosen(rate, server_ids(20_000, process))
    assert abs(taken.mean() - rate) < FOUR_SIGMA * np.sqrt(rate * (1 - rate) / taken.size)


@pytest.mark.parametrize("lag", [1, 2, 5, 10, 100])
@pytest.mark.parametrize("rate", [0.5, 0.1])
def test_neighbours_are_taken_independently(rate: float, lag: int) -> None:
    """Of two requests some way apart, both are taken as often as if each were decided by itself."""
    taken = chosen(rate, server_ids(20_000))
    both = (taken[lag:] & taken[:-lag]).mean()
    assert abs(both - rate**2) < FOUR_SIGMA * np.sqrt(rate**2 * (1 - rate**2) / taken.size)


def test_traffic_with_a_rhythm_is_sampled_evenly() -> None:
    """Of requests of which every tenth is of another kind, each kind has its share taken."""
    taken = chosen(0.1, server_ids(50_000)).reshape(-1, 10).mean(axis=0)
    assert np.abs(taken - 0.1).max() < FOUR_SIGMA * np.sqrt(0.1 * 0.9 / 5_000)


def test_a_larger_rate_takes_the_same_and_more() -> None:
    """Raising the rate loses no prediction that was taken before."""
    ids = server_ids(5_000)
    assert not (chosen(0.05, ids) & ~chosen(0.2, ids)).any()


def test_the_extremes_are_all_and_nothing() -> None:
    """Rate 1 takes every prediction and rate 0 none."""
    ids = server_ids(5_000)
    assert (chosen(1.0, ids).all(), chosen(0.0, ids).any()) == (True, False)


@pytest.mark.parametrize("seed", [1, 2, 12345, 2**32 - 1])
def test_seeds_are_independent(seed: int) -> None:
    """Two samplers of different seeds take a prediction both as often as if each decided by itself."""
    ids = server_ids(40_000)
    both = (chosen(0.2, ids) & chosen(0.2, ids, seed)).mean()
    assert abs(both - 0.04) < FOUR_SIGMA * np.sqrt(0.04 * 0.96 / len(ids))


IN_ANOTHER_PROCESS = """
import sys
sys.path.insert(0, sys.argv[1])
from mlserve.monitors import SampledMonitor
class Sink:
    record_prediction = record_prediction_error = record_drift_event = print
print(*[int(SampledMonitor(Sink(), 0.3, seed=5).is_sampled(f"p{number}")) for number in range(200)])
"""


def test_another_process_takes_the_same(pytestconfig: pytest.Config) -> None:
    """A process with other hashes of text decides alike for every id."""
    ran = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS, str(pytestconfig.rootpath)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "4321"},
    )
    expected = chosen(0.3, [f"p{number}" for number in range(200)], seed=5)
    assert ran.stdout.split() == [str(int(one)) for one in expected]


@pytest.mark.parametrize("odd", ["", "ü", "\ud800", "x" * 10_000])
def test_any_text_is_an_id(odd: str, clock: ManualClock) -> None:
    """An id may be any text, also one that is no Unicode."""
    sink = Notes()
    SampledMonitor(sink, 1.0).record_prediction(prediction(odd, clock))
    assert len(sink.told) == 1


# ------------------------------------------------------------------------------------------------- what is passed on


def test_predictions_are_passed_on_or_not(clock: ManualClock) -> None:
    """``record_prediction`` passes the same event on if its id is taken, and nothing else."""
    sink, events = Notes(), [prediction(prediction_id, clock) for prediction_id in server_ids(500)]
    sampled = SampledMonitor(sink, 0.2)
    for event in events:
        sampled.record_prediction(event)
    assert sink.told == [event for event in events if sampled.is_sampled(event.prediction_id)]


@pytest.mark.parametrize("is_deferring", [True, False])
def test_bare_values_are_passed_on_or_not(is_deferring: bool, clock: ManualClock) -> None:
    """``defer_prediction`` passes bare values on to a sink that takes them, and an event of them to others."""
    notes, monitor = Notes(), InMemoryModelMonitor(clock=clock)
    sampled = SampledMonitor(monitor if is_deferring else notes, 0.2)
    events = [prediction(one, clock, confidence=0.5, arm="a", key="k") for one in server_ids(500)]
    for event in events:
        sampled.defer_prediction(
            event.prediction_id, "1", [1.0], 1, 2.0, event.timestamp.timestamp(), 0.5, "a", "k"
        )  # fmt: skip
    told = monitor.events().events if is_deferring else notes.told
    expected = [event for event in events if sampled.is_sampled(event.prediction_id)]
    assert [attrs.asdict(event) for event in told] == [attrs.asdict(event) for event in expected]


def test_outcomes_follow_their_predictions(clock: ManualClock) -> None:
    """Outcomes of predictions that were not taken are held back: the sink knows every outcome it is told."""
    sink = InMemoryModelMonitor(clock=clock)
    sampled: Any = SampledMonitor(sink, 0.2)
    for prediction_id in server_ids(500):
        sampled.record_prediction(prediction(prediction_id, clock))
        sampled.record_outcome(prediction_id, 1)
    found, counts = sink.statistics(), sampled.statistics()
    assert (found.recorded, found.outcomes, found.unknown_outcomes) == (counts.passed, counts.passed, 0)


def test_all_failures_are_passed_on(clock: ManualClock) -> None:
    """Failures are passed on whatever the rate, whole where the sink takes them so, else by their kind."""
    whole, small = InMemoryModelMonitor(clock=clock), Notes()
    for sink in (whole, small):
        sampled = SampledMonitor(sink, 0.0)
        sampled.record_failure(failure("p7", clock))
        sampled.record_prediction_error("InvalidInput", None)
    assert [getattr(event, "kind", None) for event in whole.events().events] == ["Overloaded", "InvalidInput"]
    assert whole.events().events[0].prediction_id == "p7"
    assert small.told == [("Overloaded", "1"), ("InvalidInput", None)]


def test_a_share_of_failures_can_be_taken(clock: ManualClock) -> None:
    """With ``failure_rate``, such a share of failures is passed on, with and without an id."""
    sink = InMemoryModelMonitor(clock=clock)
    sampled = SampledMonitor(sink, 1.0, failure_rate=0.25)
    for prediction_id in server_ids(2_000):
        sampled.record_failure(failure(prediction_id, clock))
    whole = sink.get_model_metrics("1", HOUR).error_count
    for _ in range(2_000):
        sampled.record_prediction_error("Overloaded", "1")
    nameless = sink.get_model_metrics("1", HOUR).error_count - whole
    allowed = FOUR_SIGMA * np.sqrt(0.25 * 0.75 * 2_000)
    assert (abs(whole - 500) < allowed, abs(nameless - 500) < allowed) == (True, True)


def test_drifts_are_passed_on(clock: ManualClock) -> None:
    """``record_drift_event`` passes every drift on."""
    sink = Notes()
    analysis = DriftAnalysis(performance_drift=PerformanceDrift(), data_drift=DataDrift(), concept_drift=ConceptDrift())
    event = DriftEvent(
        model_version="1",
        drift_type=DriftType.DATA,
        severity=DriftSeverity.HIGH,
        detected_at=clock.now(),
        analysis=analysis,
    )
    SampledMonitor(sink, 0.0).record_drift_event(event)
    assert sink.told == [event]


# --------------------------------------------------------------------------------------------------- what is counted


def test_everything_is_counted(clock: ManualClock) -> None:
    """``statistics`` has what was passed on and what was not, which together are all that came."""
    sampled: Any = SampledMonitor(InMemoryModelMonitor(clock=clock), 0.3, failure_rate=0.5)
    ids = server_ids(1_000)
    for prediction_id in ids[:700]:
        sampled.record_prediction(prediction(prediction_id, clock))
    for prediction_id in ids[:400]:
        sampled.record_outcome(prediction_id, 1)
    for prediction_id in ids[700:]:
        sampled.record_failure(failure(prediction_id, clock))
    counts = sampled.statistics()
    taken = np.array([sampled.is_sampled(prediction_id) for prediction_id in ids])
    assert (counts.passed, counts.skipped) == (taken[:700].sum(), 700 - taken[:700].sum())
    assert (counts.outcomes_passed, counts.outcomes_skipped) == (taken[:400].sum(), 400 - taken[:400].sum())
    failed = chosen(0.5, ids[700:]).sum()
    assert (counts.failures_passed, counts.failures_skipped) == (failed, 300 - failed)


def test_ratios_over_successes_are_those_of_all_traffic(clock: ManualClock) -> None:
    """Accuracy and coverage of the sink estimate those of all traffic; its counts are ``rate`` times theirs."""
    everything, sink = InMemoryModelMonitor(clock=clock), InMemoryModelMonitor(clock=clock)
    monitor: Any = FanoutMonitor(everything, SampledMonitor(sink, 0.25))
    for number, prediction_id in enumerate(server_ids(8_000)):
        monitor.record_prediction(prediction(prediction_id, clock, output=int(number % 10 > 0)))
        if number % 2:
            monitor.record_outcome(prediction_id, 1)
    real, seen = (one.get_model_metrics("1", HOUR) for one in (everything, sink))
    assert real.accuracy is not None
    assert seen.accuracy is not None
    assert seen.label_coverage is not None
    assert abs(seen.accuracy - real.accuracy) < FOUR_SIGMA * np.sqrt(0.2 * 0.8 / seen.labelled_count)
    assert abs(seen.label_coverage - 0.5) < FOUR_SIGMA * np.sqrt(0.25 / seen.request_count)
    assert abs(seen.request_count - 2_000) < FOUR_SIGMA * np.sqrt(8_000 * 0.25 * 0.75)


def test_error_rates_are_right_with_equal_rates(clock: ManualClock) -> None:
    """With ``failure_rate=rate`` the sink's error rate is that of all traffic."""
    sink = InMemoryModelMonitor(clock=clock)
    sampled = SampledMonitor(sink, 0.25, failure_rate=0.25)
    for number, prediction_id in enumerate(server_ids(8_000)):
        if number % 5:
            sampled.record_prediction(prediction(prediction_id, clock))
        else:
            sampled.record_failure(failure(prediction_id, clock))
    metrics = sink.get_model_metrics("1", HOUR)
    assert metrics.error_rate is not None
    assert abs(metrics.error_rate - 0.2) < FOUR_SIGMA * np.sqrt(0.2 * 0.8 / metrics.request_count)


# ---------------------------------------------------------------------------------------------------------- promises


def test_it_is_no_monitor_to_read() -> None:
    """It has no reading methods, so that a sample cannot be taken for all traffic; a fan-out refuses it as primary."""
    sampled = SampledMonitor(InMemoryModelMonitor(), 0.5)
    assert isinstance(sampled, (MonitorSink, DeferringMonitor))
    assert not isinstance(sampled, ModelMonitor)
    with pytest.raises(InvalidArgumentError):
        FanoutMonitor(sampled)  # type: ignore[arg-type]  # what is refused


@pytest.mark.parametrize("sink", [InMemoryModelMonitor, Notes])
def test_it_takes_outcomes_if_the_sink_does(sink: Any) -> None:
    """It is a ``LabelledMonitor`` exactly if the sink is one."""
    sampled = SampledMonitor(sink(), 0.5)
    assert isinstance(sampled, SampledMonitor)
    assert isinstance(sampled, LabelledMonitor) == isinstance(sink(), LabelledMonitor)


def test_it_says_its_rates() -> None:
    """``rate`` and ``failure_rate`` are what it was given."""
    sampled = SampledMonitor(Notes(), 0.25, failure_rate=0.75)
    assert (sampled.rate, sampled.failure_rate) == (0.25, 0.75)


@pytest.mark.parametrize(
    ("parameter", "values"),
    [
        ("rate", {"rate": -0.01}),
        ("rate", {"rate": 1.01}),
        ("rate", {"rate": float("nan")}),
        ("failure_rate", {"failure_rate": 2.0}),
        ("seed", {"seed": -1}),
        ("seed", {"seed": 2**32}),
        ("seed", {"seed": 1.5}),
        ("sink", {"sink": object()}),
    ],
)
def test_what_cannot_be_is_refused(parameter: str, values: dict[str, Any]) -> None:
    """A rate outside [0, 1], a seed that is none and a sink that is none are refused by name."""
    with pytest.raises(InvalidArgumentError) as refused:
        SampledMonitor(**{"sink": Notes(), "rate": 0.5, **values})
    assert refused.value.parameter == parameter


def test_a_served_sample_has_the_outcomes_of_its_predictions() -> None:
    """Behind a server and a fan-out, the sink sees a share of the predictions, and the outcomes of these."""
    repository, sink = InMemoryModelRepository(), InMemoryModelMonitor()
    repository.register(sum)
    sampled = SampledMonitor(sink, 0.5)
    with ModelServer(repository, FanoutMonitor(InMemoryModelMonitor(), sampled)) as server:
        for _ in range(200):
            server.record_outcome(server.predict([1, 2]).prediction_id, 3)
        everything = server.get_model_metrics()
    share = sink.get_model_metrics("1", HOUR)
    assert (everything.request_count, everything.labelled_count) == (200, 200)
    assert 0 < share.request_count < 200
    assert share.labelled_count == share.request_count == sampled.statistics().passed
