"""Recording in several monitors: all are told, one is read, and what is broken harms nobody."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import hypothesis
import numpy as np
import pytest

from mlserve import InMemoryModelMonitor, InMemoryModelRepository, ModelServer
from mlserve.clocks import ManualClock
from mlserve.errors import InvalidArgumentError, MissingCapabilityError
from mlserve.monitors import FanoutMonitor, MonitorSink, SampledMonitor
from mlserve.protocols import (
    BaselineMonitor,
    CumulativeMonitor,
    DeferringMonitor,
    EventMonitor,
    LabelledMonitor,
    MergeableMonitor,
    ModelMonitor,
    PredictionMonitor,
)
from mlserve.records import (
    ConceptDrift,
    DataDrift,
    DriftAnalysis,
    DriftEvent,
    DriftSeverity,
    DriftType,
    FailureEvent,
    InputSample,
    ModelMetrics,
    PerformanceDrift,
    PredictionEvent,
    PredictionSample,
)
from mlserve.testing import (
    BaselineMonitorContract,
    DeferringMonitorContract,
    EventMonitorContract,
    LabelledMonitorContract,
    ModelMonitorContract,
    PredictionMonitorContract,
)

HOUR = timedelta(hours=1)


class Broken:
    """Takes everything that a monitor takes, and raises each time."""

    def record_prediction(self, *values: Any, **named: Any) -> Any:
        raise OSError("the disk is full")

    record_prediction_error = record_failure = record_outcome = record_drift_event = record_prediction
    defer_prediction = set_baseline = capture_baseline = record_prediction
    get_recent_predictions = get_baseline_predictions = set_baseline_predictions = record_prediction


class Notes:
    """The least that a sink is; notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def record_prediction(self, event: PredictionEvent) -> None:
        self.told.append(event)

    def record_prediction_error(self, kind: str, version_id: str | None) -> None:
        self.told.append((kind, version_id))

    def record_drift_event(self, event: DriftEvent) -> None:
        self.told.append(event)


class OutcomeNotes(Notes):
    """A sink that takes outcomes."""

    def record_outcome(self, prediction_id: str, actual: Any) -> None:
        self.told.append((prediction_id, actual))


class EightMethods(Notes):
    """A monitor with no further promise."""

    def get_recent_metrics(self, window: timedelta) -> ModelMetrics:
        return ModelMetrics(window=window)

    def get_model_metrics(self, version_id: str, window: timedelta) -> ModelMetrics:
        return ModelMetrics(model_version=version_id, window=window)

    def get_baseline_metrics(self, version_id: str) -> ModelMetrics | None:
        return None

    def get_recent_input_distribution(self, version_id: str, window: timedelta) -> InputSample:
        return InputSample(np.zeros((0, 1)))

    def get_baseline_input_distribution(self, version_id: str) -> InputSample | None:
        return None


class BrokenEightMethods(EightMethods):
    """A primary that cannot record."""

    def record_prediction(self, event: Any) -> None:
        raise OSError("the disk is full")

    def record_prediction_error(self, kind: str, version_id: str | None) -> None:
        raise OSError("the disk is full")

    def record_drift_event(self, event: Any) -> None:
        raise OSError("the disk is full")

    def record_outcome(self, prediction_id: str, actual: Any) -> None:
        raise OSError("the disk is full")

    def record_failure(self, event: Any) -> None:
        raise OSError("the disk is full")

    def events(self, after: int = 0, limit: int | None = None) -> Any:
        raise OSError("the disk is full")


def prediction(number: int, clock: ManualClock, **values: Any) -> PredictionEvent:
    told = {"input": [1.0], "output": 1, "processing_time_ms": 2.0, **values}
    return PredictionEvent(f"p{number}", "1", timestamp=clock.now(), **told)


def failure(number: int, clock: ManualClock) -> FailureEvent:
    return FailureEvent(f"p{number}", "1", [1.0], "Overloaded", 1.0, clock.now())


def drift_event(clock: ManualClock) -> DriftEvent:
    analysis = DriftAnalysis(performance_drift=PerformanceDrift(), data_drift=DataDrift(), concept_drift=ConceptDrift())
    return DriftEvent(
        model_version="1",
        drift_type=DriftType.DATA,
        severity=DriftSeverity.HIGH,
        detected_at=clock.now(),
        analysis=analysis,
    )


def defer(monitor: DeferringMonitor, event: PredictionEvent) -> None:
    monitor.defer_prediction(
        event.prediction_id,
        event.model_version,
        event.input,
        event.output,
        event.processing_time_ms,
        event.timestamp.timestamp(),
        event.confidence,
        event.arm,
        event.key,
    )


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


# ------------------------------------------------------------------------------------------------------- the contracts


class FanoutContracts(
    ModelMonitorContract,
    LabelledMonitorContract,
    BaselineMonitorContract,
    PredictionMonitorContract,
    EventMonitorContract,
    DeferringMonitorContract,
):
    """Whatever the primary promises, with another sink beside it."""

    state_machine_settings = hypothesis.settings(
        ModelMonitorContract.state_machine_settings, max_examples=8, stateful_step_count=20
    )

    def kept_drift_events(self, monitor: Any) -> Any:
        return monitor._primary.drift_events()


class TestFanoutToAnother(FanoutContracts):
    """Beside a second monitor."""

    def new_monitor(self, clock: Any) -> FanoutMonitor:
        return FanoutMonitor(InMemoryModelMonitor(clock=clock), InMemoryModelMonitor(clock=clock), clock=clock)


class TestFanoutToABrokenSink(FanoutContracts):
    """Beside a sink that raises each time."""

    def new_monitor(self, clock: Any) -> FanoutMonitor:
        return FanoutMonitor(InMemoryModelMonitor(clock=clock), Broken(), clock=clock)


class TestFanoutToASample(LabelledMonitorContract, EventMonitorContract, DeferringMonitorContract):
    """Beside a sink that takes a share, of a primary that is a fan-out itself."""

    def new_monitor(self, clock: Any) -> FanoutMonitor:
        sampled = SampledMonitor(InMemoryModelMonitor(clock=clock), 0.3)
        primary = FanoutMonitor(InMemoryModelMonitor(clock=clock), Notes(), clock=clock)
        return FanoutMonitor(primary, sampled, clock=clock)


# ----------------------------------------------------------------------------------------------------------- promises

FURTHER = [BaselineMonitor, PredictionMonitor, EventMonitor, CumulativeMonitor, MergeableMonitor, LabelledMonitor]


def kept(monitor: object) -> set[str]:
    return {protocol.__name__ for protocol in FURTHER if isinstance(monitor, protocol)}


def test_it_keeps_what_the_primary_keeps() -> None:
    """A fan-out is an instance of every further protocol of its primary."""
    assert kept(FanoutMonitor(InMemoryModelMonitor(), Notes())) == {protocol.__name__ for protocol in FURTHER}


def test_it_promises_nothing_that_the_primary_cannot_keep() -> None:
    """A protocol that is read is not offered for the sake of a sink that has it."""
    assert kept(FanoutMonitor(EightMethods(), InMemoryModelMonitor())) == {"LabelledMonitor"}


def test_without_further_promises_there_is_none() -> None:
    """Where neither primary nor sink takes outcomes, the fan-out does not either."""
    assert kept(FanoutMonitor(EightMethods(), Notes())) == set()


@pytest.mark.parametrize("primary", [EightMethods, InMemoryModelMonitor])
def test_it_always_counts_and_takes_bare_values(primary: Any) -> None:
    """Every fan-out is a ``FanoutMonitor``, a ``ModelMonitor`` and a ``DeferringMonitor``."""
    monitor = FanoutMonitor(primary())
    assert all(isinstance(monitor, kind) for kind in (FanoutMonitor, ModelMonitor, DeferringMonitor, MonitorSink))


def test_fanouts_of_one_kind_are_of_one_class() -> None:
    """Two fan-outs with the same promises have the same class, named as it is imported."""
    first, second = FanoutMonitor(InMemoryModelMonitor(), Notes()), FanoutMonitor(InMemoryModelMonitor())
    assert type(first) is type(second)
    assert (type(first).__module__, type(first).__qualname__) == ("mlserve.monitors._fanout", "FanoutMonitor")


def test_a_server_asks_it_what_it_would_ask_the_primary() -> None:
    """A server over a fan-out that takes no outcomes names the protocol that is missing."""
    server = ModelServer(InMemoryModelRepository(), FanoutMonitor(EightMethods(), Notes()))
    with pytest.raises(MissingCapabilityError):
        server.record_outcome("p0", 1)


# ---------------------------------------------------------------------------------------------------------- arguments


def test_a_primary_must_be_read() -> None:
    """A sink without reading methods is refused as the primary."""
    with pytest.raises(InvalidArgumentError, match="primary must be a ModelMonitor"):
        FanoutMonitor(Notes())  # type: ignore[arg-type]  # what is refused


def test_a_sink_must_record() -> None:
    """What lacks the three record methods is refused as a sink."""
    with pytest.raises(InvalidArgumentError, match="MonitorSink"):
        FanoutMonitor(EightMethods(), object())  # type: ignore[arg-type]  # what is refused


@pytest.mark.parametrize("twice", ["primary", "sink"])
def test_a_monitor_is_told_once(twice: str) -> None:
    """The same monitor twice is refused: it would count everything twice."""
    primary, sink = EightMethods(), Notes()
    with pytest.raises(InvalidArgumentError, match="each monitor once"):
        FanoutMonitor(primary, sink, primary if twice == "primary" else sink)


# ------------------------------------------------------------------------------------------------------ all are told


def test_all_are_told_of_a_prediction(clock: ManualClock) -> None:
    """``record_prediction`` reaches the primary and every sink, with the same event."""
    primary, sinks = EightMethods(), (Notes(), Notes())
    event = prediction(0, clock)
    FanoutMonitor(primary, *sinks).record_prediction(event)
    assert [one.told for one in (primary, *sinks)] == [[event]] * 3


@pytest.mark.parametrize("primary", [EightMethods, InMemoryModelMonitor])
def test_one_event_is_built_for_those_that_need_one(primary: Any, clock: ManualClock) -> None:
    """Bare values become one event, equal to the one that a caller would have built, for all that take no values."""
    sinks = (Notes(), Notes())
    told = primary()
    event = prediction(0, clock, confidence=0.5, arm="a", key="k")
    defer(FanoutMonitor(told, *sinks), event)
    built = [*(sink.told[0] for sink in sinks), *getattr(told, "told", [])]
    assert all(one is built[0] for one in built)
    assert attrs.asdict(built[0]) == attrs.asdict(event)


def test_bare_values_reach_those_that_take_them(clock: ManualClock) -> None:
    """Bare values reach a deferring sink as they are, beside a primary that needs an event."""
    primary, sink = EightMethods(), InMemoryModelMonitor(clock=clock)
    defer(FanoutMonitor(primary, sink), prediction(0, clock))
    assert (len(primary.told), sink.get_model_metrics("1", HOUR).request_count) == (1, 1)


def test_all_are_told_of_a_failure(clock: ManualClock) -> None:
    """``record_prediction_error`` reaches the primary and every sink."""
    primary, sink = EightMethods(), Notes()
    FanoutMonitor(primary, sink).record_prediction_error("Overloaded", None)
    assert primary.told == sink.told == [("Overloaded", None)]


def test_a_whole_failure_reaches_a_small_sink_by_its_kind(clock: ManualClock) -> None:
    """``record_failure`` reaches a sink that takes whole failures whole, and others by kind and version."""
    whole, small = InMemoryModelMonitor(clock=clock), Notes()
    FanoutMonitor(InMemoryModelMonitor(clock=clock), whole, small).record_failure(failure(7, clock))
    assert [event.prediction_id for event in whole.events().events] == ["p7"]
    assert small.told == [("Overloaded", "1")]


def test_all_are_told_of_a_drift(clock: ManualClock) -> None:
    """``record_drift_event`` reaches the primary and every sink."""
    primary, sink, event = EightMethods(), Notes(), drift_event(clock)
    FanoutMonitor(primary, sink).record_drift_event(event)
    assert primary.told == sink.told == [event]


def test_outcomes_reach_those_that_take_them(clock: ManualClock) -> None:
    """``record_outcome`` reaches the primary and the sinks that take outcomes, and passes the others by."""
    primary, sink, small = InMemoryModelMonitor(clock=clock), OutcomeNotes(), Notes()
    monitor: Any = FanoutMonitor(primary, small, sink)
    monitor.record_outcome("p0", 1)
    assert (primary.statistics().unknown_outcomes, sink.told, small.told) == (1, [("p0", 1)], [])


def test_outcomes_reach_a_sink_where_the_primary_takes_none() -> None:
    """A sink is told outcomes even if the primary cannot be."""
    primary, sink = EightMethods(), OutcomeNotes()
    monitor: Any = FanoutMonitor(primary, sink)
    monitor.record_outcome("p0", 1)
    assert (primary.told, sink.told) == ([], [("p0", 1)])


def test_a_baseline_that_is_set_reaches_the_sinks() -> None:
    """``set_baseline`` and ``set_baseline_predictions`` reach the sinks that have baselines."""
    sink = InMemoryModelMonitor()
    monitor: Any = FanoutMonitor(InMemoryModelMonitor(), Notes(), sink)
    monitor.set_baseline("1", metrics=ModelMetrics(accuracy=0.9), inputs=[[1.0]], feature_names=["age"])
    monitor.set_baseline_predictions("1", PredictionSample([0, 1]))
    metrics, inputs = sink.get_baseline_metrics("1"), sink.get_baseline_input_distribution("1")
    predictions = sink.get_baseline_predictions("1")
    assert metrics is not None
    assert inputs is not None
    assert predictions is not None
    assert (metrics.accuracy, inputs.feature_names, predictions.outputs.tolist()) == (0.9, ("age",), [0, 1])


def test_the_sinks_get_the_baseline_that_the_primary_captured(clock: ManualClock) -> None:
    """``capture_baseline`` gives every sink what the primary saw, not what the sink saw itself."""
    primary, sink = InMemoryModelMonitor(clock=clock), InMemoryModelMonitor(clock=clock)
    primary.record_prediction(prediction(0, clock, processing_time_ms=8.0))
    monitor: Any = FanoutMonitor(primary, Notes(), sink)
    monitor.capture_baseline("1", HOUR)
    metrics = sink.get_baseline_metrics("1")
    assert metrics is not None
    assert metrics == primary.get_baseline_metrics("1")
    assert sink.get_baseline_predictions("1") is primary.get_baseline_predictions("1")


class WithBaselines(EightMethods):
    """A primary with baselines and without predictions."""

    def set_baseline(self, version_id: str, **values: Any) -> None:
        self.told.append(("baseline", version_id))

    def capture_baseline(self, version_id: str, window: timedelta) -> None:
        self.told.append(("captured", version_id))


def test_a_primary_without_answers_hands_on_none() -> None:
    """``capture_baseline`` of a primary that keeps no answers leaves the answers of a sink as they were."""
    sink = InMemoryModelMonitor()
    monitor: Any = FanoutMonitor(WithBaselines(), sink)
    monitor.capture_baseline("1", HOUR)
    assert sink.get_baseline_predictions("1") is None


def test_what_the_primary_refuses_reaches_no_sink() -> None:
    """A baseline that the primary refuses is an error of the caller, and no sink is told."""
    sink = InMemoryModelMonitor()
    monitor: Any = FanoutMonitor(InMemoryModelMonitor(), sink)
    with pytest.raises(InvalidArgumentError):
        monitor.set_baseline("1", metrics=ModelMetrics(), inputs=5.0)
    assert sink.get_baseline_metrics("1") is None


def test_counts_since_the_beginning_are_the_primarys(clock: ManualClock) -> None:
    """``cumulative_metrics`` is that of the primary."""
    primary = InMemoryModelMonitor(clock=clock)
    monitor: Any = FanoutMonitor(primary, InMemoryModelMonitor(clock=clock))
    primary.record_prediction(prediction(0, clock))
    assert [metrics.request_count for metrics in monitor.cumulative_metrics()] == [1]


def test_a_snapshot_is_the_primarys(clock: ManualClock) -> None:
    """``snapshot`` holds what the primary counted, and ``merge`` adds to the primary only."""
    sender: Any = FanoutMonitor(InMemoryModelMonitor(clock=clock), Notes())
    sender.record_prediction(prediction(0, clock))
    primary, sink = InMemoryModelMonitor(clock=clock), InMemoryModelMonitor(clock=clock)
    receiver: Any = FanoutMonitor(primary, sink)
    receiver.merge(sender.snapshot())
    counts = [one.get_model_metrics("1", HOUR).request_count for one in (receiver, primary, sink)]
    assert counts == [1, 1, 0]


# ------------------------------------------------------------------------------------------------------------ failures


def tell_everything(monitor: Any, clock: ManualClock) -> None:
    """Each of the ways to tell a fan-out of an in-memory monitor something, once."""
    monitor.record_prediction(prediction(0, clock))
    defer(monitor, prediction(1, clock))
    monitor.record_prediction_error("Overloaded", "1")
    monitor.record_failure(failure(2, clock))
    monitor.record_outcome("p0", 1)
    monitor.record_drift_event(drift_event(clock))
    monitor.set_baseline("1", inputs=[[1.0]])
    monitor.set_baseline_predictions("1", PredictionSample([0]))
    monitor.capture_baseline("1", HOUR)


def test_a_broken_sink_harms_nobody(clock: ManualClock) -> None:
    """Whatever a sink raises, the primary and the sinks after it are told all the same."""
    primary, after = InMemoryModelMonitor(clock=clock), InMemoryModelMonitor(clock=clock)
    tell_everything(FanoutMonitor(primary, Broken(), after, clock=clock), clock)
    for monitor in (primary, after):
        metrics = monitor.get_model_metrics("1", HOUR)
        assert (metrics.request_count, metrics.error_count, metrics.labelled_count) == (4, 2, 1)
        assert len(monitor.drift_events()) == 1
        assert monitor.get_baseline_metrics("1") is not None


def test_failures_are_counted_for_each_sink(clock: ManualClock) -> None:
    """``statistics`` says of each sink, by name, how many of its calls raised."""
    monitor = FanoutMonitor(InMemoryModelMonitor(clock=clock), Broken(), Notes(), Broken(), clock=clock)
    tell_everything(monitor, clock)
    # Nine calls; capturing tells the metrics with the inputs, and the answers.
    assert [(sink.name, sink.failures) for sink in monitor.statistics().sinks] == [
        ("Broken", 10),
        ("Notes", 0),
        ("Broken-2", 10),
    ]


def test_the_primarys_statistics_are_its_own(clock: ManualClock) -> None:
    """``statistics().primary`` is what the primary says of itself."""
    primary = InMemoryModelMonitor(clock=clock)
    monitor = FanoutMonitor(primary, Notes())
    monitor.record_prediction(prediction(0, clock))
    assert monitor.statistics().primary == primary.statistics()
    assert monitor.statistics().primary.recorded == 1


def test_a_primary_without_statistics_has_none() -> None:
    """``statistics().primary`` is None where the primary counts nothing of itself."""
    assert FanoutMonitor(EightMethods()).statistics().primary is None


def test_a_broken_sink_is_logged_once_a_minute(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    """A sink that keeps failing is logged at its first failure, and again a minute later, with the exception."""
    caplog.set_level(logging.WARNING, "mlserve")
    monitor = FanoutMonitor(EightMethods(), Broken(), clock=clock)
    for seconds in (0, 1, 58.9, 0.1, 1):
        clock.advance(timedelta(seconds=seconds))
        monitor.record_prediction_error("Overloaded", None)
    assert [record.getMessage().split(";")[0] for record in caplog.records] == [
        "Broken failed (1 times so far)",
        "Broken failed (4 times so far)",
    ]
    assert all(record.exc_info and record.exc_info[0] is OSError for record in caplog.records)


@pytest.mark.parametrize(
    "tell",
    [
        lambda monitor, clock: monitor.record_prediction(prediction(0, clock)),
        lambda monitor, clock: defer(monitor, prediction(0, clock)),
        lambda monitor, clock: monitor.record_prediction_error("Overloaded", None),
        lambda monitor, clock: monitor.record_failure(failure(0, clock)),
        lambda monitor, clock: monitor.record_outcome("p0", 1),
        lambda monitor, clock: monitor.record_drift_event(drift_event(clock)),
    ],
    ids=["prediction", "bare values", "failure", "whole failure", "outcome", "drift"],
)
def test_the_sinks_are_told_when_the_primary_fails(tell: Any, clock: ManualClock) -> None:
    """What the primary raises is raised, as by any monitor, after the sinks were told."""
    sink = OutcomeNotes()
    monitor = FanoutMonitor(BrokenEightMethods(), sink)
    with pytest.raises(OSError, match="the disk is full"):
        tell(monitor, clock)
    assert len(sink.told) == 1


def test_a_time_that_is_none_is_a_failure_of_those_that_need_an_event() -> None:
    """Where no event can be built, each sink that needs one counts a failure, and the others are told."""
    primary, deferring = InMemoryModelMonitor(), InMemoryModelMonitor()
    monitor = FanoutMonitor(primary, Notes(), deferring, Notes())
    monitor.defer_prediction("p0", "1", [1.0], 1, 2.0, float("nan"), None, None, None)
    assert [sink.failures for sink in monitor.statistics().sinks] == [1, 0, 1]
    assert (primary.statistics().dropped, deferring.statistics().dropped) == (1, 1)


def test_failures_of_many_threads_are_all_counted() -> None:
    """Failures of a sink that several threads cause at once are counted exactly."""
    monitor = FanoutMonitor(InMemoryModelMonitor(), Broken())
    barrier = threading.Barrier(4)

    def serve() -> None:
        barrier.wait(60)
        for _ in range(500):
            monitor.record_prediction_error("Overloaded", None)

    threads = [threading.Thread(target=serve) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert monitor.statistics().sinks[0].failures == 2000
    assert monitor.get_recent_metrics(HOUR).error_count == 2000


def test_no_prediction_fails_for_a_broken_sink() -> None:
    """A server whose fan-out has a broken sink answers, records in the primary, and counts no error of its monitor."""
    repository = InMemoryModelRepository()
    repository.register(sum)
    monitor = FanoutMonitor(InMemoryModelMonitor(), Broken())
    with ModelServer(repository, monitor) as server:
        result = server.predict([1, 2])
        server.record_outcome(result.prediction_id, 3)
        metrics = server.get_model_metrics()
    assert (result.value, metrics.accuracy, server.statistics().monitor_errors) == (3, 1.0, 0)
    assert monitor.statistics().sinks[0].failures == 2


def test_the_event_of_bare_values_is_in_utc() -> None:
    """An event that is built of bare values has the UTC time of its timestamp."""
    sink = Notes()
    FanoutMonitor(InMemoryModelMonitor(), sink).defer_prediction("p0", "1", 0, 0, 1.0, 1.5, None, None, None)
    assert sink.told[0].timestamp == datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)
