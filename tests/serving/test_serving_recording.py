"""What reaches the monitor, and that a broken monitor breaks nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from serving_doubles import (
    Answering,
    BaselineKeepingMonitor,
    EightMethodMonitor,
    FullRepository,
    UnprintableError,
    all_at_once,
    is_garbage,
)

from mlserve import ErrorKind, InMemoryModelMonitor, InMemoryModelRepository, ModelMetrics, ModelServer
from mlserve.clocks import ManualClock
from mlserve.errors import MissingCapabilityError
from mlserve.protocols import DeferringMonitor
from mlserve.records import Baseline, FailureEvent, HealthState, InputSample, PredictionEvent

Build = Callable[..., ModelServer]
HOUR = timedelta(hours=1)


def failing(input: Any) -> None:
    raise ValueError("no")


# ---------------------------------------------------------------------------------------- an eight-method monitor


def test_a_prediction_reaches_an_eight_method_monitor_as_an_event(build: Build) -> None:
    """Each answered prediction is recorded as one PredictionEvent that equals what was returned."""
    repository, monitor, clock = FullRepository(), EightMethodMonitor(), ManualClock()
    repository.register(Answering("yes"))
    result = build(repository, monitor, clock=clock).predict("asked", key="k")
    (event,) = monitor.predictions
    assert isinstance(event, PredictionEvent)
    assert (event.prediction_id, event.model_version, event.input, event.output, event.key) == (
        result.prediction_id, "1", "asked", "yes", "k",
    )  # fmt: skip
    assert (event.processing_time_ms, event.timestamp) == (result.processing_time_ms, clock.now())


def test_a_failure_reaches_an_eight_method_monitor_by_kind(build: Build) -> None:
    """Each failed prediction is recorded as its kind and version, and not as a prediction."""
    repository, monitor = FullRepository(), EightMethodMonitor()
    repository.register(failing)
    build(repository, monitor).predict(0)
    assert (monitor.errors, monitor.predictions) == ([("PredictionException", "1")], [])


def test_kinds_are_plain_text(build: Build) -> None:
    """A monitor is given ``str``, not a member of an enum that another process could not read."""
    repository, monitor = FullRepository(), EightMethodMonitor()
    server = build(repository, monitor)
    server.predict(0)
    repository.register(failing)
    server.predict(0)
    server.predict(None)
    server.close()
    server.predict(0)
    kinds = [kind for kind, _ in monitor.errors]
    assert kinds == ["VersionNotFound", "PredictionException", "InvalidInput", "ServerClosed"]
    assert {type(kind) for kind in kinds} == {str}


def test_the_confidence_is_recorded(build: Build) -> None:
    """A classifier's confidence is part of the event."""

    class Sure:
        def predict(self, X: Any) -> list[int]:
            return [1]

        def predict_proba(self, X: Any) -> list[list[float]]:
            return [[0.125, 0.875]]

    repository, monitor = FullRepository(), EightMethodMonitor()
    repository.register(Sure())
    build(repository, monitor).predict([1.0])
    assert monitor.predictions[0].confidence == 0.875


def test_awaited_predictions_are_recorded_alike(build: Build) -> None:
    """``apredict`` records the same events as ``predict``."""
    repository, monitor = FullRepository(), EightMethodMonitor()
    repository.register(Answering("yes"))
    server = build(repository, monitor)
    result = asyncio.run(server.apredict(0, key="k"))
    (event,) = monitor.predictions
    assert (event.prediction_id, event.output, event.key) == (result.prediction_id, "yes", "k")


def test_a_monitor_that_defers_is_given_bare_values(build: Build) -> None:
    """A DeferringMonitor gets the nine values of the event, the moment in seconds, and no event."""

    class Deferring(EightMethodMonitor, DeferringMonitor):
        def __init__(self) -> None:
            super().__init__()
            self.rows: list[tuple[Any, ...]] = []

        def defer_prediction(self, *values: Any) -> None:  # type: ignore[override]  # all nine, by position
            self.rows.append(values)

    repository, monitor, clock = FullRepository(), Deferring(), ManualClock()
    repository.register(Answering("yes"))
    result = build(repository, monitor, clock=clock).predict("asked", key="k")
    assert monitor.rows == [(result.prediction_id, "1", "asked", "yes", 0.0, clock.now().timestamp(), None, None, "k")]
    assert monitor.predictions == []


def test_every_prediction_of_many_threads_is_recorded(repository: InMemoryModelRepository, build: Build) -> None:
    """No event is lost or counted twice under threads."""
    monitor = InMemoryModelMonitor()

    def model(input: int) -> int:
        if input % 4 == 0:
            raise ValueError
        return input

    repository.register(model)
    server = build(repository, monitor)
    all_at_once(8, lambda i: [server.predict(number) for number in range(400)])
    metrics = server.get_model_metrics()
    assert (metrics.request_count, metrics.errors_by_kind) == (3200, {"PredictionException": 800})


# -------------------------------------------------------------------------------------------- a monitor that raises

METHODS = [
    "record_prediction",
    "record_prediction_error",
    "get_recent_metrics",
    "get_baseline_metrics",
    "get_baseline_input_distribution",
    "set_baseline",
    "*",
]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("error", [OSError("down"), UnprintableError()], ids=["OSError", "unprintable"])
def test_a_broken_monitor_breaks_no_prediction(method: str, error: Exception, build: Build) -> None:
    """Whatever method raises, a good prediction succeeds and a bad one fails as it would anyway."""
    repository, monitor = FullRepository(), BaselineKeepingMonitor()
    monitor.broken[method] = error

    def model(input: int) -> int:
        return 10 // input

    repository.register(model, baseline=[[1.0], [2.0]])
    server = build(repository, monitor)
    good, bad = server.predict(5), server.predict(0)
    assert (good.value, bad.error.kind) == (2, ErrorKind.PredictionException)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("record_prediction", 3),
        ("record_prediction_error", 2),
        ("set_baseline", 1),
        ("get_baseline_metrics", 1),
        ("*", 6),
    ],
)
def test_calls_of_the_monitor_that_raise_are_counted(method: str, expected: int, build: Build) -> None:
    """``statistics().monitor_errors`` counts each call that raised: here of 3 answers, 2 failures and 1 baseline."""
    repository, monitor = FullRepository(), BaselineKeepingMonitor()
    monitor.broken[method] = OSError("down")
    repository.register(lambda x: 10 // x, baseline=[[1.0], [2.0]])
    server = build(repository, monitor)
    for input in (1, 2, 3, 0, 0):
        server.predict(input)
    assert server.statistics().monitor_errors == expected


def test_a_broken_monitor_breaks_no_awaited_prediction(build: Build) -> None:
    """The same holds for ``apredict``."""
    repository, monitor = FullRepository(), EightMethodMonitor()
    monitor.broken["*"] = OSError("down")
    repository.register(lambda x: 10 // x)
    server = build(repository, monitor)
    good, bad = asyncio.run(server.apredict(5)), asyncio.run(server.apredict(0))
    assert (good.value, bad.error.kind, server.statistics().monitor_errors) == (2, ErrorKind.PredictionException, 2)


def test_a_monitor_that_keeps_failing_is_logged_once_a_minute(build: Build, caplog: pytest.LogCaptureFixture) -> None:
    """Within a minute one record is logged, however many calls fail; after it, one more."""
    repository, monitor, clock = FullRepository(), EightMethodMonitor(), ManualClock()
    monitor.broken["*"] = OSError("monitor down")
    repository.register(Answering(1))
    server = build(repository, monitor, clock=clock)
    logged = []
    for _ in range(3):
        for _ in range(59):
            server.predict(0)
            clock.advance(timedelta(seconds=1))
        logged.append(sum("the monitor failed" in record.message for record in caplog.records))
        clock.advance(timedelta(seconds=1))
    assert logged == [1, 2, 3]


def test_the_log_shows_where_the_monitor_failed(build: Build, caplog: pytest.LogCaptureFixture) -> None:
    """The record carries the monitor's exception with its traceback."""
    repository, monitor = FullRepository(), EightMethodMonitor()
    monitor.broken["record_prediction"] = OSError("monitor down")
    repository.register(Answering(1))
    build(repository, monitor).predict(0)
    assert "in record_prediction" in caplog.text


def test_a_broken_monitor_is_seen_in_health(build: Build) -> None:
    """A monitor that cannot be read makes health DEGRADED: the server serves, unwatched."""
    repository, monitor = FullRepository(), EightMethodMonitor()
    monitor.broken["get_recent_metrics"] = OSError("down")
    repository.register(Answering(1), example=0)
    health = build(repository, monitor).check_health()
    assert (health.status, health.recent_error_rate, health.average_latency_ms) == (HealthState.DEGRADED, None, None)


def test_an_output_that_cannot_be_copied_breaks_nothing(repository: InMemoryModelRepository, build: Build) -> None:
    """Inputs and outputs that no monitor can copy are served and counted all the same."""
    repository.register(lambda x: (value for value in x))
    server = build(repository)
    assert list(server.predict(iter([1, 2])).unwrap()) == [1, 2]
    assert (server.get_model_metrics().request_count, server.statistics().monitor_errors) == (1, 0)


# --------------------------------------------------------------------------------------------------------- failures


def test_whole_failures_go_to_a_monitor_that_takes_them(repository: InMemoryModelRepository, build: Build) -> None:
    """An EventMonitor is given the whole failure, once, instead of its kind."""
    monitor = InMemoryModelMonitor()
    repository.register(failing)
    server = build(repository, monitor)
    server.predict([1.0])
    (event,) = monitor.events().events
    assert isinstance(event, FailureEvent)
    assert (event.input, type(event.kind)) == ([1.0], str)
    assert server.get_model_metrics().error_count == 1


def test_failures_are_logged_with_their_traceback(
    repository: InMemoryModelRepository, build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    """A model's exception is logged in full, under the prediction's id."""
    repository.register(failing)
    result = build(repository).predict(0)
    assert result.prediction_id in caplog.text
    assert "in failing" in caplog.text


def test_the_callers_faults_are_no_errors_in_the_log(
    repository: InMemoryModelRepository, build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    """Rubbish from a caller is logged below WARNING: it must not fill the log of a healthy service."""
    repository.register(len)
    server = build(repository)
    server.predict(None)
    server.predict([], "no such version")
    assert [record.levelname for record in caplog.records if record.levelno >= 30] == []


# -------------------------------------------------------------------------------------------------------- baselines


def test_the_baseline_registered_with_a_version_reaches_the_monitor(build: Build) -> None:
    """The rows a version was trained on are its baseline in the monitor, once it is loaded."""
    repository, monitor = FullRepository(), BaselineKeepingMonitor()
    repository.register(Answering(1), baseline=[[1.0], [2.0]])
    build(repository, monitor).predict([1.0])
    assert monitor.baselines["1"].inputs.rows.tolist() == [[1.0], [2.0]]


def test_a_baseline_reaches_the_monitor_once(build: Build) -> None:
    """Neither further requests, nor loading the version again, nor another server set it a second time."""
    repository, monitor = FullRepository(), BaselineKeepingMonitor()
    repository.register(Answering(1), baseline=[[1.0], [2.0]])
    for server in (build(repository, monitor), build(repository, monitor)):
        for _ in range(3):
            server.predict([1.0])
    assert monitor.times_set == {"1": 1}


def test_a_baseline_that_was_set_already_is_not_overwritten(build: Build) -> None:
    """What somebody set in the monitor before is better known than what was registered."""
    repository, monitor = FullRepository(), BaselineKeepingMonitor()
    mine = Baseline(metrics=ModelMetrics(accuracy=0.75), inputs=InputSample(rows=np.zeros((3, 1))))
    monitor.baselines["1"] = mine
    repository.register(Answering(1), baseline=Baseline(ModelMetrics(accuracy=0.5), InputSample(rows=np.ones((2, 1)))))
    build(repository, monitor).predict([1.0])
    assert (monitor.baselines["1"], monitor.times_set) == (mine, {})


def test_the_missing_half_of_a_baseline_is_added(build: Build) -> None:
    """Metrics set before stay; inputs, which the monitor had not, come from the version."""
    repository, monitor = FullRepository(), BaselineKeepingMonitor()
    monitor.baselines["1"] = Baseline(metrics=ModelMetrics(accuracy=0.75))
    repository.register(Answering(1), baseline=Baseline(ModelMetrics(accuracy=0.5), InputSample(rows=np.ones((2, 1)))))
    build(repository, monitor).predict([1.0])
    found = monitor.baselines["1"]
    assert (found.metrics.accuracy, found.inputs.rows.tolist()) == (0.75, [[1.0], [1.0]])


def test_a_monitor_without_baselines_needs_none(build: Build) -> None:
    """A version with a baseline is served with a monitor that keeps none."""
    repository, monitor = FullRepository(), EightMethodMonitor()
    repository.register(Answering(1), baseline=[[1.0], [2.0]])
    server = build(repository, monitor)
    assert (server.predict(0).value, server.statistics().monitor_errors) == (1, 0)


# --------------------------------------------------------------------------------------------------------- outcomes


def test_an_outcome_is_joined_with_its_prediction(repository: InMemoryModelRepository, build: Build) -> None:
    """``record_outcome`` by prediction id makes the accuracy of the version."""
    repository.register(lambda x: x > 0)
    server = build(repository)
    for input, actual in ((1, True), (2, True), (3, False), (-1, True)):
        server.record_outcome(server.predict(input).prediction_id, actual)
    metrics = server.get_model_metrics()
    assert (metrics.labelled_count, metrics.accuracy) == (4, 0.5)


def test_an_outcome_needs_a_monitor_that_takes_it(build: Build) -> None:
    """A monitor without the protocol LabelledMonitor gives an error that names it."""
    server = build(FullRepository(), EightMethodMonitor())
    with pytest.raises(MissingCapabilityError, match="LabelledMonitor") as raised:
        server.record_outcome("id", 1)
    assert (raised.value.protocol, raised.value.store) == ("LabelledMonitor", "EightMethodMonitor")


def test_an_outcome_of_an_unknown_prediction_is_counted(repository: InMemoryModelRepository, build: Build) -> None:
    """An id that the monitor does not know is no error."""
    monitor = InMemoryModelMonitor()
    build(repository, monitor).record_outcome("nobody", 1)
    assert monitor.statistics().unknown_outcomes == 1


def test_a_monitor_that_fails_on_an_outcome_is_counted(build: Build) -> None:
    """A broken monitor does not reach the caller who brings an outcome."""

    class Labelled(EightMethodMonitor):
        def record_outcome(self, prediction_id: str, actual: Any) -> None:
            raise OSError("down")

    server = build(FullRepository(), Labelled())
    server.record_outcome("id", 1)
    assert server.statistics().monitor_errors == 1


# --------------------------------------------------------------------------------------------------------- the rest


def test_a_server_and_its_monitor_can_be_collected() -> None:
    """A server that nobody refers to any more is garbage, closed or not."""
    import weakref

    repository = FullRepository()
    repository.register(Answering(1))
    server = ModelServer(repository, InMemoryModelMonitor())
    server.predict(0)
    reference = weakref.ref(server)
    del server
    assert is_garbage(reference)


def test_metrics_of_an_hour_see_all_traffic(repository: InMemoryModelRepository, build: Build) -> None:
    """What the server recorded is what its metrics say."""
    clock = ManualClock()
    repository.register(lambda x: 10 // x)
    server = build(repository, InMemoryModelMonitor(clock=clock), clock=clock)
    for input in (1, 2, 0, None):
        server.predict(input)
    metrics = server.get_model_metrics(window=HOUR)
    assert (metrics.request_count, metrics.error_count, metrics.error_rate, metrics.fault_rate) == (4, 2, 0.5, 0.25)
