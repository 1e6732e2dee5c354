"""Circuit breakers: a version that keeps failing is given a rest, and tried again, a little at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from serving_doubles import PATIENCE, Batched, ChoosingRouter, Gate, InThread, Tallied, all_at_once, queued, until

from mlserve import Batching, CachePolicy, ErrorKind, InMemoryModelRepository, Limits
from mlserve.clocks import ManualClock
from mlserve.errors import CircuitOpenError, InvalidArgumentError, InvalidInputError
from mlserve.records import CheckStatus, HealthState, Route
from mlserve.serving import Breaker, BreakerState, _guards
from mlserve.serving._breaker import CircuitBreaker

Host = Callable[..., Tallied]

POLICY = Breaker(min_calls=4, failure_rate=0.5, slow_call_ms=100.0, slow_call_rate=0.75, max_open_seconds=35.0)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def breaker(clock: ManualClock) -> CircuitBreaker:
    return CircuitBreaker("1", POLICY, clock.monotonic)


def call(breaker: CircuitBreaker, *, failed: bool = False, elapsed_ms: float = 1.0) -> None:
    breaker.leave(breaker.enter(), failed=failed, elapsed_ms=elapsed_ms)


def opened(breaker: CircuitBreaker) -> CircuitBreaker:
    for _ in range(4):
        call(breaker, failed=True)
    assert breaker.state is BreakerState.OPEN
    return breaker


def after(clock: ManualClock, seconds: float) -> None:
    clock.advance(timedelta(seconds=seconds))


# ------------------------------------------------------------------------------------------------- the state machine


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ([True] * 3, BreakerState.CLOSED),  # fewer than min_calls
        ([True] * 4, BreakerState.OPEN),
        ([False, False, True, True], BreakerState.OPEN),  # exactly the rate
        ([False, False, False, True], BreakerState.CLOSED),
        ([False, False, False, True, True], BreakerState.CLOSED),  # 2 of 5
        ([False, False, False, True, True, True], BreakerState.OPEN),  # 3 of 6
    ],
)
def test_it_opens_at_the_failure_rate(outcomes: list[bool], state: BreakerState, breaker: CircuitBreaker) -> None:
    """It opens when at least ``min_calls`` were made and their failure rate is reached; not before."""
    for failed in outcomes:
        call(breaker, failed=failed)
    assert breaker.state is state


@pytest.mark.parametrize(
    ("took_ms", "state"),
    [
        ([101.0] * 4, BreakerState.OPEN),
        ([100.0] * 4, BreakerState.CLOSED),  # as long as is allowed
        ([101.0, 101.0, 101.0, 1.0], BreakerState.OPEN),  # exactly the rate
        ([101.0, 101.0, 1.0, 1.0], BreakerState.CLOSED),
    ],
)
def test_it_opens_at_the_rate_of_slow_calls(took_ms: list[float], state: BreakerState, breaker: CircuitBreaker) -> None:
    """Calls longer than ``slow_call_ms`` are slow, failed or not."""
    for elapsed_ms in took_ms:
        call(breaker, elapsed_ms=elapsed_ms)
    assert breaker.state is state


def test_no_call_is_slow_unless_a_limit_is_given(clock: ManualClock) -> None:
    """Without ``slow_call_ms`` a call may take as long as it likes."""
    breaker = CircuitBreaker("1", Breaker(min_calls=1), clock.monotonic)
    for _ in range(50):
        call(breaker, elapsed_ms=1e9)
    assert breaker.state is BreakerState.CLOSED


def test_the_window_slides(breaker: CircuitBreaker, clock: ManualClock) -> None:
    """Calls older than the window count no longer, neither for the rate nor as calls."""
    for _ in range(3):
        call(breaker, failed=True)
    after(clock, 30)
    call(breaker, failed=True)
    assert breaker.state is BreakerState.CLOSED
    after(clock, 10)
    for _ in range(3):
        call(breaker, failed=True)
    assert breaker.state is BreakerState.OPEN


def test_the_window_moves_by_the_second(breaker: CircuitBreaker, clock: ManualClock) -> None:
    """Failures leave the window one second after the other, as they came."""
    for _ in range(3):
        call(breaker, failed=True)
        after(clock, 1.5)
    after(clock, 25.5)  # 30 s after the first
    call(breaker, failed=True)
    assert breaker.state is BreakerState.CLOSED
    call(breaker, failed=True)
    assert breaker.state is BreakerState.OPEN


def test_an_open_breaker_refuses(breaker: CircuitBreaker, clock: ManualClock) -> None:
    """While it is open every request is refused, counted, and told how long that will go on."""
    opened(breaker)
    after(clock, 4)
    with pytest.raises(CircuitOpenError, match=r"another 6\.0 s") as raised:
        breaker.enter()
    assert (raised.value.version_id, breaker.refused, breaker.opened) == ("1", 1, 1)


def test_what_ends_while_it_is_open_changes_nothing(breaker: CircuitBreaker) -> None:
    """Calls let through before it opened do not count any more when they end."""
    early = breaker.enter()
    opened(breaker)
    breaker.leave(early, failed=False, elapsed_ms=1.0)
    assert (breaker.state, breaker.opened) == (BreakerState.OPEN, 1)


def test_after_its_rest_so_many_are_let_through(breaker: CircuitBreaker, clock: ManualClock) -> None:
    """Half-open, it lets three probes through and refuses the rest until they have ended."""
    opened(breaker)
    after(clock, 10)
    assert breaker.state is BreakerState.HALF_OPEN
    for _ in range(3):
        breaker.enter()
    with pytest.raises(CircuitOpenError, match="being tried"):
        breaker.enter()


def test_when_all_probes_succeed_it_closes(breaker: CircuitBreaker, clock: ManualClock) -> None:
    """Three good probes close it, and it has forgotten what was."""
    opened(breaker)
    after(clock, 10)
    for state in (BreakerState.HALF_OPEN, BreakerState.HALF_OPEN, BreakerState.CLOSED):
        call(breaker)
        assert breaker.state is state
    for _ in range(3):
        call(breaker, failed=True)
    assert breaker.state is BreakerState.CLOSED


@pytest.mark.parametrize("bad", [{"failed": True}, {"elapsed_ms": 101.0}], ids=["failed", "slow"])
def test_one_bad_probe_opens_it_for_twice_as_long(bad: Any, breaker: CircuitBreaker, clock: ManualClock) -> None:
    """A probe that fails or is slow opens it again: for 10, 20, 35 (the most), 35 seconds."""
    opened(breaker)
    for seconds in (10, 20, 35, 35):
        after(clock, seconds - 0.5)
        assert breaker.state is BreakerState.OPEN
        after(clock, 0.5)
        assert breaker.state is BreakerState.HALF_OPEN
        call(breaker)
        call(breaker, **bad)
    assert breaker.opened == 5


def test_a_recovery_makes_the_next_rest_short_again(breaker: CircuitBreaker, clock: ManualClock) -> None:
    """Once it has closed, it opens for ``open_seconds`` as the first time."""
    opened(breaker)
    after(clock, 10)
    call(breaker, failed=True)
    after(clock, 20)
    for _ in range(3):
        call(breaker)
    opened(breaker)
    after(clock, 10)
    assert breaker.state is BreakerState.HALF_OPEN


def test_a_probe_that_never_answers_has_failed(breaker: CircuitBreaker, clock: ManualClock) -> None:
    """A probe without an answer after ``probe_seconds`` opens it again; what it answers later is of no account."""
    opened(breaker)
    after(clock, 10)
    probe = breaker.enter()
    after(clock, 29.5)
    assert breaker.state is BreakerState.HALF_OPEN
    after(clock, 0.5)
    assert breaker.state is BreakerState.OPEN
    after(clock, 20)
    assert breaker.state is BreakerState.HALF_OPEN
    breaker.leave(probe, failed=True, elapsed_ms=1.0)
    assert breaker.state is BreakerState.HALF_OPEN


def test_each_probe_has_its_own_time(breaker: CircuitBreaker, clock: ManualClock) -> None:
    """A later probe that answers leaves the earlier one no more time than it had."""
    opened(breaker)
    after(clock, 10)
    breaker.enter()
    after(clock, 20)
    call(breaker)
    after(clock, 10)
    assert breaker.state is BreakerState.OPEN


def test_a_probe_whose_caller_went_away_makes_room(breaker: CircuitBreaker, clock: ManualClock) -> None:
    """An abandoned probe tells nothing: another is let through in its place, and it counts as failed never."""
    opened(breaker)
    after(clock, 10)
    probes = [breaker.enter() for _ in range(3)]
    breaker.abandon(probes[0])
    after(clock, 29)
    last = breaker.enter()
    for probe in (*probes[1:], last):
        breaker.leave(probe, failed=False, elapsed_ms=1.0)
    assert breaker.state is BreakerState.CLOSED


def test_what_is_abandoned_otherwise_changes_nothing(breaker: CircuitBreaker, clock: ManualClock) -> None:
    """Going away from a closed breaker, or from a probe of an earlier period, has no effect."""
    ordinary = breaker.enter()
    breaker.abandon(ordinary)
    opened(breaker)
    after(clock, 10)
    stale = breaker.enter()
    call(breaker, failed=True)
    breaker.abandon(stale)
    after(clock, 20)
    for _ in range(3):
        breaker.enter()
    breaker.abandon(stale)
    with pytest.raises(CircuitOpenError):
        breaker.enter()


def test_threads_get_no_more_probes_than_there_are(breaker: CircuitBreaker, clock: ManualClock) -> None:
    """Of many threads at once exactly three are let through."""
    opened(breaker)
    after(clock, 10)

    def enter(_: int) -> bool:
        try:
            breaker.enter()
        except CircuitOpenError:
            return False
        return True

    assert sum(all_at_once(32, enter)) == 3


# ----------------------------------------------------------------------------------------------------- in a server


class Moody:
    """Fails while it is told to."""

    is_failing = True

    def __call__(self, input: Any) -> Any:
        if input == "invalid":
            raise InvalidInputError("that is no input.")
        if self.is_failing:
            raise ValueError("moody")
        return input


EAGER = Breaker(min_calls=2)


def ask(server: Tallied, is_async: bool, *args: Any) -> Any:
    return asyncio.run(server.apredict(*args)) if is_async else server.predict(*args)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_failing_version_is_given_a_rest(is_async: bool, host: Host, clock: ManualClock) -> None:
    """After its failures requests fail at once with CircuitOpen, until it has recovered."""
    model = Moody()
    server = host(model, breaker=EAGER, clock=clock)
    kinds = [ask(server, is_async, 1).error.kind for _ in range(4)]
    assert kinds == [ErrorKind.PredictionException] * 2 + [ErrorKind.CircuitOpen] * 2
    model.is_failing = False
    clock.advance(timedelta(seconds=10))
    assert [ask(server, is_async, number).value for number in range(5)] == list(range(5))
    assert dict(server.statistics().breakers) == {"1": "CLOSED"}


def test_a_rest_is_logged_once(host: Host, clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    """That a version is given a rest is one warning; the requests refused meanwhile are no errors in the log."""
    server = host(Moody(), breaker=EAGER, clock=clock)
    for _ in range(10):
        server.predict(1)
    levels = [record.levelname for record in caplog.records if "model raised" not in record.getMessage()]
    assert (levels.count("WARNING"), levels.count("ERROR")) == (1, 0)


def test_a_breaker_is_seen_in_health_and_statistics(host: Host, clock: ManualClock) -> None:
    """An open breaker warns in the check named breaker; statistics tell each loaded version's state."""
    server = host(Moody(), breaker=EAGER, clock=clock, synthetic_input="invalid")

    def check() -> tuple[CheckStatus, str]:
        found = next(check for check in server.check_health().checks if check.name == "breaker")
        return found.status, found.detail

    assert dict(server.statistics().breakers) == {}
    server.predict(1)
    assert check()[0] is CheckStatus.PASS
    server.predict(1)
    status, detail = check()
    assert (status, "OPEN" in detail) == (CheckStatus.WARN, True)
    assert dict(server.statistics().breakers) == {"1": "OPEN"}


def test_a_rested_version_degrades_health_that_is_else_good(host: Host, clock: ManualClock) -> None:
    """With every other check passing, an open breaker makes the server DEGRADED, which is healthy."""
    model = Moody()
    server = host(model, breaker=EAGER, clock=clock, synthetic_input=1)
    for _ in range(2):
        server.predict(1)
    model.is_failing = False
    clock.advance(timedelta(minutes=6))  # past the window of the error rate, and half-open
    status = server.check_health()
    assert (status.status, status.is_healthy) == (HealthState.DEGRADED, True)


def test_the_caller_opens_no_breaker(host: Host, clock: ManualClock) -> None:
    """Inputs that are invalid, whoever says so, do not count as failures."""
    model = Moody()
    model.is_failing = False
    server = host(model, breaker=EAGER, clock=clock)
    for input in ("invalid", None) * 10:
        assert server.predict(input).error.kind is ErrorKind.InvalidInput
    assert server.predict(1).value == 1


def test_an_error_without_a_kind_counts_as_a_failure(host: Host, clock: ManualClock) -> None:
    """A model that raises a ServingError of its own making, without a kind, has failed like any other."""
    from mlserve.errors import ServingError

    class OddError(ServingError):
        pass

    def model(input: Any) -> Any:
        raise OddError("odd.")

    server = host(model, breaker=EAGER, clock=clock)
    kinds = [server.predict(1).error.kind for _ in range(3)]
    assert kinds == [ErrorKind.PredictionException] * 2 + [ErrorKind.CircuitOpen]


def test_too_much_traffic_opens_no_breaker(host: Host) -> None:
    """A request that was shed before it reached the model says nothing about the version."""
    gate = Gate()
    model = Batched(gate=gate)
    server = host(model, breaker=EAGER, batching=Batching(max_queued=1))
    calls = [InThread(server.predict, 0)]
    gate.wait_until_reached()
    calls.append(InThread(server.predict, 1))
    until(lambda: queued(server) == 1)
    shed = [server.predict(number).error.kind for number in range(10)]
    gate.open()
    assert set(shed) == {ErrorKind.Overloaded}
    assert [call.result().value for call in calls] == [0, 10]
    assert dict(server.statistics().breakers) == {"1": "CLOSED"}


def test_a_cancelled_call_tells_nothing(host: Host, clock: ManualClock) -> None:
    """Callers who go away, even as probes, neither open a breaker nor keep it half-open."""
    model = Moody()
    entered: list[Any] = []

    async def awaited(input: Any) -> Any:
        entered.append(input)
        if input == "wait":
            await asyncio.sleep(PATIENCE)
        return model(input)

    server = host(awaited, breaker=EAGER, clock=clock)

    async def leave(count: int) -> None:
        tasks = [asyncio.ensure_future(server.apredict("wait")) for _ in range(count)]
        before = len(entered)
        await asyncio.to_thread(until, lambda: len(entered) == before + count)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(leave(5))
    assert dict(server.statistics().breakers) == {"1": "CLOSED"}
    for _ in range(2):
        server.predict(1)
    model.is_failing = False
    clock.advance(timedelta(seconds=10))
    asyncio.run(leave(3))
    assert [server.predict(number).value for number in range(3)] == [0, 1, 2]


def test_a_version_is_rested_by_itself(tallied: Host, clock: ManualClock) -> None:
    """The breaker of one version refuses nothing to another."""
    repository = InMemoryModelRepository()
    repository.register(Moody())
    repository.register(lambda x: x)
    server = tallied(repository, breaker=EAGER, clock=clock)
    kinds = [server.predict(1, "1").error.kind for _ in range(3)]
    assert (kinds[2], server.predict(1, "2").value) == (ErrorKind.CircuitOpen, 1)
    assert dict(server.statistics().breakers) == {"1": "OPEN", "2": "CLOSED"}


def test_a_rest_outlasts_an_eviction(tallied: Host, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that is dropped from memory while it rests is still resting when it is loaded again; of more versions
    than breakers are kept, the one loaded longest ago is forgotten.
    """
    repository = InMemoryModelRepository()
    repository.register(Moody())
    for _ in range(3):
        repository.register(lambda x: x)
    cache = CachePolicy(max_loaded=1, keep_active=1)
    server = tallied(repository, breaker=Breaker(min_calls=1), clock=clock, cache=cache)
    server.predict(1, "1")
    server.predict(1, "4")
    server.check_health()
    assert "1" not in server.statistics().loaded_models
    assert server.predict(1, "1").error.kind is ErrorKind.CircuitOpen
    monkeypatch.setattr(_guards, "MOST_BREAKERS", 2)
    for version in ("2", "3"):
        server.predict(1, version)
        server.check_health()
    assert server.predict(1, "1").error.kind is ErrorKind.PredictionException


def test_a_route_to_a_rested_version_is_refused(tallied: Host, clock: ManualClock) -> None:
    """A router's choice that is given a rest is not replaced by another: that would falsify the rollout."""
    repository = InMemoryModelRepository()
    repository.register(Moody())
    repository.register(lambda x: x)
    server = tallied(repository, breaker=EAGER, clock=clock, router=ChoosingRouter(Route("1", "canary")))
    results = [server.predict(1) for _ in range(3)]
    assert (results[2].error.kind, results[2].arm) == (ErrorKind.CircuitOpen, "canary")


def test_many_inputs_are_one_call(host: Host, clock: ManualClock) -> None:
    """For a breaker ``predict_many`` is one call, which failed if one of its inputs did; all are refused together."""
    server = host(lambda x: 1 / x, breaker=EAGER, clock=clock)
    assert [result.success for result in server.predict_many([1, 0, 2])] == [True, False, True]
    server.predict_many([0])
    refused = server.predict_many([1, 2])
    assert [result.error.kind for result in refused] == [ErrorKind.CircuitOpen] * 2


def test_an_interrupt_from_many_inputs_tells_nothing(host: Host, clock: ManualClock) -> None:
    """A KeyboardInterrupt out of ``predict_many`` is no failure for the breaker, and cancels each input."""

    def model(input: Any) -> Any:
        raise KeyboardInterrupt

    server = host(model, breaker=Breaker(min_calls=1), clock=clock, limits=Limits(max_in_flight=3))
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            server.server.predict_many([1, 2])
    found = server.server.statistics()
    assert (found.accepted, found.cancelled, found.in_flight, dict(found.breakers)) == (6, 6, 0, {"1": "CLOSED"})
    server.forget(6)


# -------------------------------------------------------------------------------------------------------- arguments


def test_the_defaults_are_those_of_the_design() -> None:
    """30 s, 20 calls, 50 % failed or 80 % slow; 10 s open, 5 min at most; 3 probes."""
    policy = Breaker()
    assert (policy.window_seconds, policy.min_calls, policy.failure_rate, policy.slow_call_rate) == (30, 20, 0.5, 0.8)
    assert (policy.open_seconds, policy.max_open_seconds, policy.half_open_probes) == (10, 300, 3)
    assert policy.slow_call_ms is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("window_seconds", 0),
        ("min_calls", 0),
        ("failure_rate", 0),
        ("failure_rate", 1.5),
        ("slow_call_rate", 0),
        ("slow_call_ms", 0),
        ("slow_call_ms", "1"),
        ("open_seconds", -1),
        ("max_open_seconds", 5),
        ("half_open_probes", 0),
        ("probe_seconds", -1),
    ],
)
def test_what_cannot_mean_anything_is_refused(name: str, value: Any) -> None:
    """A rate is a share above 0, a duration is not negative, and the longest rest no shorter than the first."""
    with pytest.raises(InvalidArgumentError) as raised:
        Breaker(**{name: value})
    assert raised.value.parameter == name
