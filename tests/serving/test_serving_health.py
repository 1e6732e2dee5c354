"""``check_health``: what each field says, and when a server is healthy, degraded or unhealthy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas
import pytest
from serving_doubles import (
    Answering,
    EightMethodMonitor,
    FullRepository,
    Gate,
    InThread,
    UnprintableError,
    all_at_once,
    until,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from mlserve import (
    ArraySchema,
    HealthPolicy,
    InMemoryModelMonitor,
    InMemoryModelRepository,
    ModelMetrics,
    ModelServer,
)
from mlserve.clocks import ManualClock
from mlserve.records import CheckStatus, HealthCheck, HealthState, HealthStatus
from mlserve.serving import Breaker
from mlserve.serving._pool import MOST_THREADS

Build = Callable[..., ModelServer]


def check(health: HealthStatus, name: str) -> HealthCheck:
    (found,) = (check for check in health.checks if check.name == name)
    return found


class Seen:
    """A regressor that keeps what it was asked."""

    def __init__(self) -> None:
        self.inputs: list[Any] = []

    def predict(self, X: Any) -> list[float]:
        self.inputs.append(np.asarray(X).tolist())
        return [0.0] * len(X)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 3, 1, 12, tzinfo=UTC))


@pytest.fixture
def dividing(repository: InMemoryModelRepository, build: Build, clock: ManualClock) -> ModelServer:
    """A server whose model fails on 0, at a clock that stands still."""
    repository.register(lambda x: 10 // x, example=1)
    return build(repository, InMemoryModelMonitor(clock=clock), clock=clock)


# ------------------------------------------------------------------------------------------------------- the fields


def test_the_fields_of_a_healthy_server(dividing: ModelServer, clock: ManualClock) -> None:
    """A server whose model answers is HEALTHY, with every field filled from what was found."""
    dividing.predict(5)
    health = dividing.check_health()
    assert (health.is_healthy, health.status, health.error) == (True, HealthState.HEALTHY, None)
    assert (health.current_version, health.loaded_models, health.last_check) == ("1", ("1",), clock.now())
    assert (health.recent_error_rate, health.average_latency_ms) == (0.0, 0.0)


def test_every_check_is_reported_by_name(dividing: ModelServer) -> None:
    """The checks are listed one by one, each with its status and a sentence."""
    checks = dividing.check_health().checks
    assert {found.name: found.status for found in checks} == {
        "repository": CheckStatus.PASS,
        "model": CheckStatus.PASS,
        "prediction": CheckStatus.PASS,
        "validation": CheckStatus.SKIPPED,
        "batcher": CheckStatus.SKIPPED,
        "monitor": CheckStatus.PASS,
        "error_rate": CheckStatus.PASS,
        "latency": CheckStatus.PASS,
    }
    assert all(found.detail for found in checks)


def test_without_traffic_rates_are_none(dividing: ModelServer) -> None:
    """Absent evidence is None, not 0, and is no reason for alarm."""
    health = dividing.check_health()
    assert (health.recent_error_rate, health.average_latency_ms, health.status) == (None, None, HealthState.HEALTHY)


def test_the_last_check_is_now(dividing: ModelServer, clock: ManualClock) -> None:
    """``last_check`` is the moment of this very check, in UTC."""
    dividing.check_health()
    clock.advance(timedelta(minutes=7))
    assert dividing.check_health().last_check == clock.now()


def test_loaded_models_are_those_in_memory(repository: InMemoryModelRepository, build: Build) -> None:
    """Every loaded version is listed, the current one by itself as well."""
    server = build(repository)
    for number in (1, 2):
        repository.register(Answering(number))
        server.predict(0)
    health = server.check_health()
    assert (health.current_version, health.loaded_models) == ("2", ("1", "2"))


def test_the_average_latency_is_that_of_the_window(
    repository: InMemoryModelRepository, build: Build, clock: ManualClock
) -> None:
    """Latency is the mean over the policy's window, in milliseconds."""
    repository.register(lambda x: clock.advance(timedelta(milliseconds=x)))
    server = build(repository, InMemoryModelMonitor(clock=clock), clock=clock)
    server.predict(1000)
    clock.advance(timedelta(minutes=6))
    server.predict(10)
    server.predict(30)
    assert server.check_health().average_latency_ms == pytest.approx(20.0)


# ------------------------------------------------------------------------------------------------------- HEALTHY?


def test_an_empty_repository_is_unhealthy(repository: InMemoryModelRepository, build: Build) -> None:
    """Empty is not ready: with nothing registered the server should not receive traffic."""
    health = build(repository).check_health()
    assert (health.status, health.is_healthy, health.current_version) == (HealthState.UNHEALTHY, False, None)
    assert "no version is active" in (health.error or "")


def test_a_version_that_was_retired_leaves_the_server_unhealthy(dividing: ModelServer, repository: Any) -> None:
    """A model still in memory is no readiness, when no version is active."""
    dividing.predict(1)
    repository.retire("1")
    health = dividing.check_health()
    assert (health.status, health.current_version) == (HealthState.UNHEALTHY, None)


def test_health_recovers_with_the_first_version(repository: InMemoryModelRepository, build: Build) -> None:
    """A server found unhealthy is healthy as soon as there is something to serve."""
    server = build(repository)
    before = server.check_health().status
    repository.register(Answering(1))
    assert (before, server.check_health().status) == (HealthState.UNHEALTHY, HealthState.HEALTHY)


def test_a_health_check_loads_the_model(repository: InMemoryModelRepository, build: Build) -> None:
    """A check before any request loads the latest version and tries it, so that healthy means ready."""
    model = Seen()
    repository.register(model, example=[1.0])
    server = build(repository)
    health = server.check_health()
    assert (health.loaded_models, model.inputs[-1]) == (("1",), [[1.0]])


def test_a_model_that_cannot_be_loaded_is_unhealthy(build: Build) -> None:
    """With nothing else to serve, a failed load is UNHEALTHY, and the error says why."""
    repository = FullRepository()
    repository.register(Answering(1))
    repository.broken_loads["1"] = OSError("disk on fire")
    health = build(repository).check_health()
    assert (health.status, "disk on fire" in (health.error or "")) == (HealthState.UNHEALTHY, True)


@pytest.mark.parametrize("error", [ValueError("moon phase"), UnprintableError()], ids=["ValueError", "unprintable"])
def test_a_model_that_fails_on_the_synthetic_input_is_unhealthy(error: Exception, serve: Build) -> None:
    """A version that cannot answer its own example should not receive traffic."""

    def model(input: Any) -> None:
        raise error

    health = serve(model, example=1).check_health()
    assert (health.status, check(health, "prediction").status) == (HealthState.UNHEALTHY, CheckStatus.FAIL)


def test_a_closed_server_is_unhealthy(dividing: ModelServer) -> None:
    """After ``close`` health answers, and says what happened."""
    dividing.close()
    health = dividing.check_health()
    assert (health.status, health.is_healthy, health.error) == (HealthState.UNHEALTHY, False, "the server was closed")
    assert (health.current_version, health.loaded_models) == (None, ())


def test_a_monitor_that_cannot_be_read_is_a_warning(build: Build, repository: InMemoryModelRepository) -> None:
    """The server serves without its monitor, so it is DEGRADED, and the failed call is counted."""
    monitor = EightMethodMonitor()
    monitor.broken["get_recent_metrics"] = UnprintableError()
    repository.register(Answering(1))
    server = build(repository, monitor)
    health = server.check_health()
    assert (health.status, health.is_healthy, check(health, "monitor").status) == (
        HealthState.DEGRADED, True, CheckStatus.WARN,
    )  # fmt: skip
    assert server.statistics().monitor_errors == 1


def test_a_monitor_may_know_the_mean_latency_alone(build: Build, repository: InMemoryModelRepository) -> None:
    """Metrics that lack percentiles are no obstacle to a health check."""
    monitor = EightMethodMonitor()
    monitor.metrics = ModelMetrics(request_count=10, error_rate=0.0, fault_rate=0.0, average_latency_ms=2.5)
    repository.register(Answering(1))
    health = build(repository, monitor).check_health()
    assert (health.status, health.average_latency_ms) == (HealthState.HEALTHY, 2.5)


def test_what_fails_is_named_before_what_warns(build: Build, repository: InMemoryModelRepository) -> None:
    """``error`` tells everything that is wrong, the worst first."""
    monitor = EightMethodMonitor()
    monitor.broken["get_recent_metrics"] = OSError("monitor down")
    health = build(repository, monitor).check_health()
    error = health.error or ""
    assert 0 <= error.index("no version is active") < error.index("monitor down")


# ---------------------------------------------------------------------------------------------- the rule of five %


@pytest.mark.parametrize(
    ("good", "faults", "status"),
    [
        (20, 1, HealthState.HEALTHY),
        (19, 1, HealthState.UNHEALTHY),
        (95, 5, HealthState.UNHEALTHY),
        (96, 5, HealthState.HEALTHY),
        (0, 1, HealthState.UNHEALTHY),
    ],
)
def test_the_fault_rate_must_be_below_five_percent(
    good: int, faults: int, status: HealthState, dividing: ModelServer
) -> None:
    """Less than 5 % of the requests may have failed; exactly 5 % is unhealthy."""
    for input in [1] * good + [0] * faults:
        dividing.predict(input)
    health = dividing.check_health()
    assert (health.status, health.recent_error_rate) == (status, pytest.approx(faults / (good + faults)))


def test_the_rule_looks_back_five_minutes(dividing: ModelServer, clock: ManualClock) -> None:
    """What failed more than five minutes ago counts no more."""
    dividing.predict(0)
    found = [dividing.check_health().status]
    clock.advance(timedelta(minutes=4, seconds=59))
    found.append(dividing.check_health().status)
    clock.advance(timedelta(seconds=1))
    found.append(dividing.check_health().status)
    assert found == [HealthState.UNHEALTHY, HealthState.UNHEALTHY, HealthState.HEALTHY]


@pytest.mark.parametrize(("input", "version"), [(None, None), (1, "no such version")], ids=["input", "version"])
def test_rubbish_from_callers_does_not_make_a_server_unhealthy(
    input: Any, version: str | None, dividing: ModelServer
) -> None:
    """Floods of invalid input or unknown versions leave the fault rate, and health, alone."""
    for _ in range(200):
        dividing.predict(input, version)
    dividing.predict(1)
    health = dividing.check_health()
    assert (health.status, health.recent_error_rate) == (HealthState.HEALTHY, 0.0)


def test_the_failures_of_all_versions_count(
    repository: InMemoryModelRepository, build: Build, clock: ManualClock
) -> None:
    """The rate is that of the server, not of the version that happens to be the latest."""
    repository.register(lambda x: 10 // x)
    repository.register(lambda x: 1, example=1)
    server = build(repository, InMemoryModelMonitor(clock=clock), clock=clock)
    server.predict(1)
    server.predict(0, "1")
    assert server.check_health().recent_error_rate == 0.5


@pytest.mark.parametrize(("limit", "status"), [(0.5, HealthState.UNHEALTHY), (0.51, HealthState.HEALTHY)])
def test_the_limit_is_the_policys(
    limit: float, status: HealthState, repository: InMemoryModelRepository, build: Build
) -> None:
    """``HealthPolicy(max_error_rate=)`` sets another limit."""
    repository.register(lambda x: 10 // x)
    server = build(repository, health=HealthPolicy(max_error_rate=limit))
    server.predict(0)
    server.predict(1)
    assert server.check_health().status is status


def test_the_window_is_the_policys(repository: InMemoryModelRepository, build: Build, clock: ManualClock) -> None:
    """``HealthPolicy(window=)`` looks back another while."""
    repository.register(lambda x: 10 // x)
    policy = HealthPolicy(window=timedelta(hours=1))
    server = build(repository, InMemoryModelMonitor(clock=clock), clock=clock, health=policy)
    server.predict(0)
    clock.advance(timedelta(minutes=59))
    assert server.check_health().status is HealthState.UNHEALTHY


# ------------------------------------------------------------------------------------------- the synthetic prediction


def test_the_synthetic_prediction_is_not_traffic(repository: InMemoryModelRepository, build: Build) -> None:
    """However often health is checked, monitor and counters see no request."""
    repository.register(Seen(), example=[1.0])
    monitor = InMemoryModelMonitor()
    server = build(repository, monitor)
    for _ in range(5):
        server.check_health()
    assert (server.get_model_metrics().request_count, monitor.statistics().recorded) == (0, 0)
    assert (server.statistics().accepted, server.statistics().answered) == (0, 0)


def test_a_synthetic_prediction_that_fails_is_not_traffic(serve: Build) -> None:
    """A failing check does not feed the fault rate that the next check reads."""

    def model(input: Any) -> None:
        raise ValueError

    server = serve(model, example=1)
    assert [server.check_health().recent_error_rate for _ in range(3)] == [None] * 3


def test_the_servers_synthetic_input_goes_first(serve: Build) -> None:
    """``synthetic_input=`` is tried instead of the version's example."""
    model = Seen()
    server = serve(model, example=[1.0, 2.0], server={"synthetic_input": [8.0, 9.0]})
    server.check_health()
    assert model.inputs[-1] == [[8.0, 9.0]]


def test_the_example_goes_before_the_schema(serve: Build) -> None:
    """The version's example is tried where it has one."""
    model = Seen()
    serve(model, example=[1.0, 2.0], schema=ArraySchema(shape=(2,))).check_health()
    assert model.inputs[-1] == [[1.0, 2.0]]


def test_a_schema_gives_an_example(serve: Build) -> None:
    """Without an example, one is made from the schema: the middle of the range seen."""
    model = Seen()
    serve(model, schema=ArraySchema.infer([[0.0, 10.0], [2.0, 30.0]])).check_health()
    assert model.inputs == [[[1.0, 20.0]]]


def test_the_width_of_a_model_gives_an_example(serve: Build) -> None:
    """Without a schema either, a model fitted on arrays is tried with 0.5 in each of its features."""

    class Fitted(Seen):
        n_features_in_ = 3

    model = Fitted()
    health = serve(model).check_health()
    assert (model.inputs, check(health, "prediction").status) == ([[[0.5, 0.5, 0.5]]], CheckStatus.PASS)


def test_a_raw_estimator_is_tried(serve: Build) -> None:
    """A scikit-learn estimator registered with nothing else is tried, and found healthy."""
    health = serve(LinearRegression().fit([[0.0, 1.0], [1.0, 0.0]], [0.0, 1.0])).check_health()
    assert (health.status, check(health, "prediction").status) == (HealthState.HEALTHY, CheckStatus.PASS)


def test_nothing_is_made_up_for_a_model_of_columns(serve: Build) -> None:
    """A sound model fitted on a frame with text is not called unhealthy over an input that nobody would send."""
    table = pandas.DataFrame({"colour": ["red", "blue"] * 3})
    model = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(table, [0, 1] * 3)
    health = serve(model).check_health()
    assert (health.status, check(health, "prediction").status) == (HealthState.HEALTHY, CheckStatus.SKIPPED)


def test_without_anything_to_try_the_prediction_is_skipped(serve: Build) -> None:
    """Where nothing tells what an input looks like, the check says so and how to mend it; health is not harmed."""
    health = serve(len).check_health()
    found = check(health, "prediction")
    assert (health.status, found.status, "example=" in found.detail) == (HealthState.HEALTHY, CheckStatus.SKIPPED, True)


def test_an_unvalidated_version_is_named_so(serve: Build) -> None:
    """Health says whether inputs are validated."""
    found = [check(serve(Seen(), **options).check_health(), "validation") for options in ({}, {"example": [1.0]})]
    assert [(each.status, "Unvalidated" in each.detail) for each in found] == [
        (CheckStatus.SKIPPED, True),
        (CheckStatus.PASS, False),
    ]


def test_a_validator_is_validation(serve: Build) -> None:
    """A server with ``validator=`` validates, whatever its versions have."""
    health = serve(Seen(), server={"validator": ArraySchema(shape=(1,))}).check_health()
    assert check(health, "validation").status is CheckStatus.PASS


def test_a_coroutine_model_is_tried(serve: Build) -> None:
    """The synthetic prediction awaits a model that is a coroutine."""
    asked: list[Any] = []

    async def model(input: Any) -> int:
        await asyncio.sleep(0)
        asked.append(input)
        return 1

    assert (serve(model, example="ping").check_health().status, asked) == (HealthState.HEALTHY, ["ping"])


# -------------------------------------------------------------------------------------------------- from many sides


def test_health_can_be_checked_from_many_threads(dividing: ModelServer) -> None:
    """Checks made at the same time, under traffic, all answer."""

    def ask(index: int) -> list[Any]:
        if index % 2:
            return [dividing.check_health().status for _ in range(20)]
        return [dividing.predict(5).value for _ in range(100)]

    found = all_at_once(4, ask)
    assert [set(each) for each in found] == [{2}, {HealthState.HEALTHY}] * 2


def test_a_request_in_its_model_does_not_hold_up_a_health_check(
    repository: InMemoryModelRepository, build: Build
) -> None:
    """Health answers while a model is busy."""
    gate = Gate()
    repository.register(lambda x: gate.pass_through() if x == "slow" else x, example="quick")
    server = build(repository)
    slow = InThread(server.predict, "slow")
    gate.wait_until_reached()
    status = server.check_health().status
    gate.open()
    slow.result()
    assert status is HealthState.HEALTHY


def test_health_can_be_awaited(dividing: ModelServer) -> None:
    """``acheck_health`` answers the same, off the event loop."""
    assert asyncio.run(dividing.acheck_health()).status is HealthState.HEALTHY


def test_health_is_readable(dividing: ModelServer) -> None:
    """The status shows every check as text and as HTML."""
    health = dividing.check_health()
    assert "HEALTHY" in repr(health)
    assert all(found.name in repr(health) and found.name in health._repr_html_() for found in health.checks)


def test_every_check_is_reported_where_nothing_is_loaded(build: Build, repository: InMemoryModelRepository) -> None:
    """Without a version the model fails, and there is nothing to predict with."""
    health = build(repository).check_health()
    found = [check(health, name).status for name in ("repository", "model", "prediction")]
    assert found == [CheckStatus.FAIL, CheckStatus.FAIL, CheckStatus.SKIPPED]


def test_a_monitor_that_cannot_be_written_is_a_warning(build: Build, repository: InMemoryModelRepository) -> None:
    """Records that were lost since the last check are told of, once; without new ones all is well again."""
    monitor = EightMethodMonitor()
    monitor.broken["record_prediction"] = OSError("full")
    repository.register(Answering(1))
    server = build(repository, monitor)
    server.check_health()
    server.predict(1)
    server.predict(2)
    found = [check(server.check_health(), "monitor") for _ in range(2)]
    assert [one.status for one in found] == [CheckStatus.WARN, CheckStatus.PASS]
    assert "2 times" in found[0].detail


def test_the_breakers_of_all_versions_are_seen(build: Build, repository: InMemoryModelRepository) -> None:
    """An open breaker of a version that is not the latest is a warning, and named."""
    repository.register(lambda x: 1 // 0)
    repository.register(Answering(2))
    server = build(repository, breaker=Breaker(min_calls=2))
    for _ in range(3):
        server.predict(1, "1")
    server.predict(1)
    found = check(server.check_health(), "breaker")
    assert (found.status, "version 1 is OPEN" in found.detail) == (CheckStatus.WARN, True)


# --------------------------------------------------------------------------------------------------- what takes long

BRIEF = HealthPolicy(timeout_ms=20.0)


class HangingRepository(FullRepository):
    """Waits when it is asked for its latest version, once it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.waits_at: Gate | None = None

    def get_latest_version(self) -> Any:
        if self.waits_at is not None:
            self.waits_at.pass_through()
        return super().get_latest_version()


class HangingMonitor(EightMethodMonitor):
    """Waits when it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()

    def get_recent_metrics(self, window: timedelta) -> ModelMetrics:
        self.gate.pass_through()
        return super().get_recent_metrics(window)


def told(health: HealthStatus, name: str) -> tuple[CheckStatus, bool]:
    found = check(health, name)
    return found.status, "longer than 20 ms" in found.detail


@pytest.mark.parametrize("is_asking", [True, False], ids=["asked", "loading"])
def test_a_latest_version_that_takes_long_is_a_warning(is_asking: bool, build: Build) -> None:
    """While the repository hangs, or a new version loads, the check says so in time of a server that goes on."""
    repository = HangingRepository()
    repository.register(Answering("old"), example=0)
    server = build(repository, health=BRIEF)
    server.predict(0)
    gate = Gate() if is_asking else repository.gate("2")
    repository.waits_at = gate if is_asking else None
    repository.register(Answering("new"), example=0)
    health = server.check_health()
    assert (health.current_version, told(health, "repository")) == ("1", (CheckStatus.WARN, True))
    gate.open()
    until(lambda: server.refresh().id == "2")


def test_a_first_version_that_takes_long_is_unhealthy(build: Build) -> None:
    """A server that has nothing to answer with yet is neither healthy nor ready while it loads, and says so in time."""
    repository = FullRepository()
    repository.register(Answering("old"), example=0)
    gate = repository.gate("1")
    server = build(repository, health=BRIEF)
    health, is_ready = server.check_health(), server.is_ready()
    gate.open()
    assert (health.status, told(health, "repository"), is_ready) == (
        HealthState.UNHEALTHY, (CheckStatus.FAIL, True), False
    )  # fmt: skip
    until(server.is_ready)


def test_a_model_that_hangs_is_unhealthy(build: Build) -> None:
    """A model that does not answer the synthetic input in time has failed, and is not ready."""
    gate = Gate()

    def model(input: Any) -> Any:
        if input == 7:
            gate.pass_through()
        return input

    repository = InMemoryModelRepository()
    repository.register(model)
    server = build(repository, health=BRIEF, synthetic_input=7)
    server.predict(0)
    health, is_ready = server.check_health(), server.is_ready()
    gate.open()
    assert (health.status, told(health, "prediction"), is_ready) == (
        HealthState.UNHEALTHY, (CheckStatus.FAIL, True), False
    )  # fmt: skip
    until(lambda: server.check_health().is_healthy)


def test_a_monitor_that_hangs_is_a_warning(build: Build) -> None:
    """A monitor that cannot be read in time is one that cannot be read."""
    monitor = HangingMonitor()
    repository = InMemoryModelRepository()
    repository.register(Answering(1), example=0)
    health = build(repository, monitor, health=BRIEF).check_health()
    monitor.gate.open()
    assert told(health, "monitor") == (CheckStatus.WARN, True)


def test_what_hangs_is_waited_for_again_and_not_begun_again(build: Build) -> None:
    """However often health is checked meanwhile, a repository that hangs takes one thread, and a server that goes on is
    ready; when it answers, the next check asks it anew.
    """
    repository, clock = HangingRepository(), ManualClock()
    repository.register(Answering("old"), example=0)
    server = build(repository, health=BRIEF, clock=clock)
    assert server.is_ready()
    repository.waits_at = gate = Gate()
    repository.register(Answering("new"), example=0)
    found = [(server.check_health().current_version, server.is_ready()) for _ in range(MOST_THREADS + 1)]
    assert (found, server._parts.health.pool._threads <= 3) == ([("1", True)] * (MOST_THREADS + 1), True)
    gate.open()
    until(lambda: server.check_health().current_version == "2")
    until(lambda: not server._parts.health._under_way)


@pytest.mark.parametrize("timeout_ms", [None, 1e6])
def test_a_models_own_timeout_is_its_failure(timeout_ms: float | None, build: Build) -> None:
    """A model that raises TimeoutError has failed, and took no longer than it may."""

    def model(input: Any) -> Any:
        raise TimeoutError("mine")

    repository = InMemoryModelRepository()
    repository.register(model)
    server = build(repository, health=HealthPolicy(timeout_ms=timeout_ms), synthetic_input=7)
    assert "TimeoutError: mine" in check(server.check_health(), "prediction").detail
