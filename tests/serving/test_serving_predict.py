"""``ModelServer.predict``: which version answers, what the result says, and that nothing is raised."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import numpy as np
import pytest
from serving_doubles import (
    EightMethodMonitor,
    FullRepository,
    Tallied,
    ThreeMethodRepository,
    UnprintableError,
    all_at_once,
)

from mlserve import (
    ErrorKind,
    InMemoryModelMonitor,
    InMemoryModelRepository,
    ModelServer,
    ModelVersion,
    ServingError,
    ServingResult,
)
from mlserve.clocks import ManualClock
from mlserve.errors import InvalidArgumentError, PredictionExceptionError
from mlserve.records import FailureEvent, PredictionEvent

Build = Callable[..., ModelServer]


def one(input: Any) -> str:
    return "one"


def two(input: Any) -> str:
    return "two"


# ------------------------------------------------------------------------------------------------ which version


def test_the_latest_version_answers_by_default(repository: InMemoryModelRepository, build: Build) -> None:
    """Without a version named, the most recently activated active version answers."""
    repository.register(one)
    repository.register(two)
    result = build(repository).predict(0)
    assert (result.value, result.version.id) == ("two", "2")


@pytest.mark.parametrize("by", ["version", "id", "alias"])
def test_a_version_can_be_named(by: str, repository: InMemoryModelRepository, build: Build) -> None:
    """A version is named by itself, by its id or by an alias, and then answers whether or not it is the latest."""
    first = repository.register(one)
    repository.register(two)
    repository.set_alias("champion", first.id)
    named = {"version": first, "id": "1", "alias": "champion"}[by]
    result = build(repository).predict(0, version=named)
    assert (result.value, result.version.id) == ("one", "1")


def test_an_alias_that_is_moved_is_followed_at_once(repository: InMemoryModelRepository, build: Build) -> None:
    """The request after an alias was moved is answered by the version it points at now."""
    repository.register(one)
    repository.register(two)
    repository.set_alias("champion", "1")
    server = build(repository)
    before = server.predict(0, "champion").value
    repository.set_alias("champion", "2")
    assert (before, server.predict(0, "champion").value) == ("one", "two")


UNSERVED = ["99", "nobody", "", "retired", "candidate", 1, 1.5, True, int, b"1", ["1"], object()]


@pytest.mark.parametrize("name", UNSERVED)
@pytest.mark.parametrize("kind", [InMemoryModelRepository, FullRepository, ThreeMethodRepository])
def test_a_version_that_may_not_be_served_is_not_found(name: Any, kind: type, build: Build) -> None:
    """Unknown, retired, candidate and nameless versions give a failed result of kind VersionNotFound."""
    repository = kind()
    repository.register(one)
    retired = repository.register(two)
    repository.retire(retired.id)
    candidate = repository.register(two, activate=False)
    version = {"retired": retired.id, "candidate": candidate}.get(name, name) if isinstance(name, str) else name
    result = build(repository).predict(0, version=version)
    assert (result.success, result.error.kind) == (False, ErrorKind.VersionNotFound)


def test_an_alias_of_a_version_that_may_not_be_served(repository: InMemoryModelRepository, build: Build) -> None:
    """An alias that points at a candidate or a retired version is refused, and the message says why."""
    repository.register(one)
    candidate = repository.register(two, activate=False)
    repository.set_alias("next", candidate.id)
    error = build(repository).predict(0, "next").error
    assert (error.kind, error.version_id, "CANDIDATE" in error.message) == (ErrorKind.VersionNotFound, "2", True)


def test_a_version_of_nowhere_is_not_found(repository: InMemoryModelRepository, build: Build) -> None:
    """A ModelVersion that the repository never gave out is refused like an unknown id."""
    repository.register(one)
    stranger = ModelVersion(id="7", created_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert build(repository).predict(0, stranger).error.kind is ErrorKind.VersionNotFound


def test_a_retired_version_that_is_still_loaded_is_refused(repository: InMemoryModelRepository, build: Build) -> None:
    """Having served before does not let a version serve after it was retired."""
    repository.register(one)
    repository.register(two)
    server = build(repository)
    before = server.predict(0, "1")
    repository.retire("1")
    after = server.predict(0, "1")
    assert (before.success, after.error.kind) == (True, ErrorKind.VersionNotFound)


def test_register_then_predict_serves_the_new_version(repository: InMemoryModelRepository, build: Build) -> None:
    """The first request after a version was registered is answered by that version."""
    server = build(repository)
    answers = []
    for number in range(8):
        repository.register(lambda x, number=number: number)
        answers.append(server.predict(0).value)
    assert answers == list(range(8))


def test_rollback_and_activation_are_followed_at_once(repository: InMemoryModelRepository, build: Build) -> None:
    """A rollback, and activating an old version again, both change who answers the next request."""
    repository.register(one)
    repository.register(two)
    server = build(repository)
    answers = [server.predict(0).value]
    repository.rollback()
    answers.append(server.predict(0).value)
    repository.activate("2")
    answers.append(server.predict(0).value)
    repository.activate("1")
    answers.append(server.predict(0).value)
    assert answers == ["two", "one", "two", "one"]


def test_retiring_the_only_version_leaves_none(repository: InMemoryModelRepository, build: Build) -> None:
    """With its only version retired a server answers VersionNotFound, though the model is still loaded."""
    repository.register(one)
    server = build(repository)
    server.predict(0)
    repository.retire("1")
    assert server.predict(0).error.kind is ErrorKind.VersionNotFound


def test_a_retired_version_serves_again_once_it_is_activated(repository: InMemoryModelRepository, build: Build) -> None:
    """After a time without any version, activating one brings it back at the next request."""
    repository.register(one)
    server = build(repository)
    repository.retire("1")
    before = server.predict(0).success
    repository.activate("1")
    assert (before, server.predict(0).value) == (False, "one")


@pytest.mark.parametrize("kind", [InMemoryModelRepository, ThreeMethodRepository])
def test_a_server_may_be_built_before_anything_is_registered(kind: type, build: Build) -> None:
    """An empty repository is not remembered: the first version registered answers the next request."""
    repository = kind()
    server = build(repository)
    before = server.predict(0)
    repository.register(one)
    assert (before.error.kind, server.predict(0).value) == (ErrorKind.VersionNotFound, "one")


# ------------------------------------------------------------------------------------------ nothing is raised


class OwnServingError(ServingError):
    """A subclass that its author gave no kind."""


RAISED = [
    ValueError("no"),
    KeyError("feature"),
    StopIteration(),
    MemoryError(),
    RecursionError(),
    AssertionError(),
    ExceptionGroup("several", [ValueError("a"), TypeError("b")]),
    OSError(5, "disk"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    UnprintableError(),
    ServingError("without a kind"),
    OwnServingError("without a kind either"),
]


@pytest.mark.parametrize("raised", RAISED, ids=lambda error: type(error).__name__)
def test_whatever_a_model_raises_becomes_a_failed_result(raised: Exception, serve: Build) -> None:
    """Any Exception of a model gives a failed result of kind PredictionException that keeps the exception."""

    def model(input: Any) -> None:
        raise raised

    result = serve(model).predict(0)
    assert (result.success, result.error.kind, result.error.exception) == (False, ErrorKind.PredictionException, raised)


def test_a_raised_exception_is_kept_without_its_traceback(serve: Build) -> None:
    """The exception in a result has no traceback, nor have those that it was caused by."""

    def model(input: Any) -> None:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("outer") from error

    exception = serve(model).predict(0).error.exception
    assert (exception.__traceback__, exception.__cause__.__traceback__) == (None, None)


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_exception_propagates_and_counts_as_cancelled(raised: type[BaseException], serve: Build) -> None:
    """KeyboardInterrupt and its like leave ``predict``, release the model and are counted as cancelled."""

    def model(input: Any) -> None:
        raise raised

    server = serve(model)
    with pytest.raises(raised):
        server.predict(0)
    statistics = server.statistics()
    assert (statistics.accepted, statistics.answered, statistics.cancelled, statistics.in_flight) == (1, 0, 1, 0)


def test_an_interrupt_while_the_repository_is_asked_counts_as_cancelled(build: Build) -> None:
    """A KeyboardInterrupt before any version was found is counted as cancelled, not as answered."""
    repository = FullRepository()
    repository.broken["get_latest_version"] = KeyboardInterrupt()
    server = build(repository)
    with pytest.raises(KeyboardInterrupt):
        server.predict(0)
    statistics = server.statistics()
    assert (statistics.accepted, statistics.answered, statistics.cancelled) == (1, 0, 1)


def test_an_error_that_the_model_raises_on_purpose_keeps_its_kind(serve: Build) -> None:
    """A model may raise an InvalidInputError of its own: the result then has that kind and names the version."""
    from mlserve.errors import InvalidInputError

    def model(input: Any) -> None:
        raise InvalidInputError("not in my range")

    error = serve(model).predict(0).error
    assert (error.kind, error.version_id) == (ErrorKind.InvalidInput, "1")


# --------------------------------------------------------------------------------------------------- the result


def test_prediction_ids_are_unique_over_servers_and_threads(repository: InMemoryModelRepository, build: Build) -> None:
    """No id is given twice, whichever of two servers of one name and whichever thread asks."""
    repository.register(one)
    servers = [build(repository, name="same"), build(repository, name="same")]
    ids = all_at_once(8, lambda i: [servers[i % 2].predict(0).prediction_id for _ in range(50)])
    assert len({id for some in ids for id in some}) == 8 * 50


def test_a_prediction_id_begins_with_the_name_of_the_server(serve: Build) -> None:
    """``name`` tells in every id which server made it."""
    assert serve(one, server={"name": "fraud"}).predict(0).prediction_id.startswith("fraud-")


def test_the_fields_of_a_successful_result(serve: Build) -> None:
    """A success carries value, version, id and time, and neither error, arm nor fallback."""
    result = serve(one).predict(0)
    assert isinstance(result, ServingResult)
    found = attrs.asdict(result, recurse=False)
    found["version"] = found["version"].id
    assert found.pop("processing_time_ms") >= 0.0
    assert found.pop("prediction_id") != ""
    assert found == {
        "success": True, "value": "one", "error": None, "version": "1", "arm": None, "degraded": None
    }  # fmt: skip


def test_the_fields_of_a_failed_result(serve: Build) -> None:
    """A failure carries the error with kind, message and version, the version that was asked, and no value."""

    def model(input: Any) -> None:
        raise ValueError("bad luck")

    result = serve(model).predict(0)
    assert (result.success, result.value, result.version.id) == (False, None, "1")
    assert isinstance(result.error, PredictionExceptionError)
    assert "ValueError: bad luck" in result.error.message
    assert result.error.version_id == "1"


def test_a_result_cannot_be_changed(serve: Build) -> None:
    """Results are records: assigning to a field of one fails."""
    result = serve(one).predict(0)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        result.value = "other"


def test_unwrap_gives_the_value_or_raises_the_error(repository: InMemoryModelRepository, build: Build) -> None:
    """``unwrap`` returns what the model answered, or raises the error caused by the original exception."""

    def model(input: Any) -> str:
        return {"known": "yes"}[input]

    repository.register(model)
    server = build(repository)
    assert server.predict("known").unwrap() == "yes"
    with pytest.raises(PredictionExceptionError) as raised:
        server.predict("unknown").unwrap()
    assert isinstance(raised.value.__cause__, KeyError)


def test_the_processing_time_is_taken_from_the_clock(repository: InMemoryModelRepository, build: Build) -> None:
    """The time from call to answer is measured by the server's clock, in milliseconds."""
    clock = ManualClock()

    def model(input: Any) -> int:
        clock.advance(timedelta(milliseconds=30))
        return 1

    repository.register(model)
    result = build(repository, InMemoryModelMonitor(clock=clock), clock=clock).predict(0)
    assert result.processing_time_ms == pytest.approx(30.0)


# ------------------------------------------------------------------------------------------ what is recorded


def test_the_recorded_event_equals_what_was_returned(repository: InMemoryModelRepository, build: Build) -> None:
    """Id, version, input, output, time, moment and key of the event are those of the request and its result."""
    clock = ManualClock()
    monitor = InMemoryModelMonitor(clock=clock)
    repository.register(lambda x: x.sum())
    x = np.array([1.0, 2.0])
    result = build(repository, monitor, clock=clock).predict(x, key="customer 7")
    (event,) = monitor.events().events
    assert isinstance(event, PredictionEvent)
    assert event.input.tolist() == [1.0, 2.0]
    assert (event.prediction_id, event.model_version) == (result.prediction_id, result.version.id)
    assert (event.output, event.processing_time_ms) == (result.value, result.processing_time_ms)
    assert (event.timestamp, event.key, event.arm, event.confidence) == (clock.now(), "customer 7", None, None)


def test_a_recorded_failure_equals_what_was_returned(repository: InMemoryModelRepository, build: Build) -> None:
    """A failure is recorded with the id, version, input, kind, moment and key of the request."""
    clock = ManualClock()
    monitor = InMemoryModelMonitor(clock=clock)

    def model(input: Any) -> None:
        raise ValueError

    repository.register(model)
    result = build(repository, monitor, clock=clock).predict(5, key="customer 7")
    (event,) = monitor.events().events
    assert isinstance(event, FailureEvent)
    assert (event.prediction_id, event.model_version, event.input) == (result.prediction_id, "1", 5)
    assert (event.kind, event.timestamp, event.key) == ("PredictionException", clock.now(), "customer 7")


def test_an_unknown_version_is_recorded_without_one(build: Build) -> None:
    """What a caller makes up as a version does not reach the monitor as a version: it would grow without bound."""
    repository, monitor = FullRepository(), EightMethodMonitor()
    repository.register(one)
    server = build(repository, monitor)
    server.predict(0, "12345")
    server.predict(0, "made up")
    assert monitor.errors == [("VersionNotFound", None), ("VersionNotFound", None)]


def test_a_retired_version_is_recorded_with_its_id(build: Build) -> None:
    """A request for a version that is known but may not be served is recorded against that version."""
    repository, monitor = FullRepository(), EightMethodMonitor()
    repository.register(one)
    repository.register(two)
    repository.retire("1")
    build(repository, monitor).predict(0, "1")
    assert monitor.errors == [("VersionNotFound", "1")]


def test_a_version_that_cannot_be_loaded_is_named(build: Build) -> None:
    """Result, error and record all say which version could not be loaded."""
    repository, monitor = FullRepository(), EightMethodMonitor()
    repository.register(one)
    repository.broken_loads["1"] = OSError("no such file")
    result = build(repository, monitor).predict(0)
    assert (result.version.id, result.error.version_id, monitor.errors) == ("1", "1", [("ModelLoadFailed", "1")])


def test_the_caller_may_change_its_array_afterwards(repository: InMemoryModelRepository, build: Build) -> None:
    """An input that the caller changes after the call is recorded as it was sent."""
    monitor = InMemoryModelMonitor()
    repository.register(lambda x: float(x[0]))
    server = build(repository, monitor)
    x = np.array([1.0])
    for value in (1.0, 2.0, 3.0):
        x[0] = value
        server.predict(x)
    x[0] = -1.0
    assert [event.input.tolist() for event in monitor.events().events] == [[1.0], [2.0], [3.0]]


def test_the_caller_may_change_a_rejected_input_afterwards(repository: InMemoryModelRepository, build: Build) -> None:
    """The same holds for the input of a failure."""
    monitor = InMemoryModelMonitor()

    def model(input: Any) -> None:
        raise ValueError

    repository.register(model)
    input = [1, 2]
    build(repository, monitor).predict(input)
    input.append(3)
    assert monitor.events().events[0].input == [1, 2]


# --------------------------------------------------------------------------------------------------- building it


@pytest.mark.parametrize("name", ["", None, 5, b"model"])
def test_a_server_has_a_name(name: Any, repository: InMemoryModelRepository, monitor: InMemoryModelMonitor) -> None:
    """A name that is no text, or empty, is refused when the server is built."""
    with pytest.raises(InvalidArgumentError, match="name"):
        ModelServer(repository, monitor, name=name)


def test_building_a_server_asks_nothing_of_the_repository(build: Build) -> None:
    """Nothing is loaded, and the repository not called, before the first request."""
    repository = FullRepository()
    repository.register(one)
    build(repository)
    assert repository.calls.total() == 0


def test_finding_the_latest_version_costs_no_call_of_the_repository(build: Build) -> None:
    """While an observable repository does not change, requests do not call it."""
    repository = FullRepository()
    repository.register(one)
    server = build(repository)
    server.predict(0)
    asked = repository.calls.total()
    for _ in range(10):
        server.predict(0)
    assert repository.calls.total() == asked


def test_a_named_version_is_looked_up_once(build: Build) -> None:
    """While an observable repository does not change, the same name is not looked up again."""
    repository = FullRepository()
    repository.register(one)
    server = build(repository)
    server.predict(0, "1")
    asked = repository.calls.total()
    for _ in range(10):
        server.predict(0, "1")
    assert repository.calls.total() == asked


@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    """An exception that refuses that its attributes are set."""

    code: int


def test_an_exception_that_cannot_be_changed_is_a_failed_result(host: Callable[..., Tallied]) -> None:
    """Whatever kind of exception a model raises, every way to predict answers with a failed result."""

    def model(input: Any) -> Any:
        raise FrozenError(input)

    server = host(model)
    results = [server.predict(1), asyncio.run(server.apredict(2)), *server.predict_many([3])]
    assert [result.error.exception.code for result in results] == [1, 2, 3]


def test_a_load_that_raises_such_an_exception_is_remembered(tallied: Callable[..., Tallied]) -> None:
    """The failed load is told of, and is not tried again at each request."""
    repository = ThreeMethodRepository()
    repository.register(int)
    repository.broken_loads["1"] = FrozenError(1)  # type: ignore[assignment]  # it is an exception
    server = tallied(repository)
    found = [server.predict(1).error.kind for _ in range(5)]
    assert (found, repository.loads["1"]) == ([ErrorKind.ModelLoadFailed] * 5, 2)
