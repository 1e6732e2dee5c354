"""Loading and evicting: one load a version, nothing evicted in use, nothing kept that was evicted."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from serving_doubles import (
    Answering,
    EightMethodMonitor,
    FullRepository,
    Gate,
    InThread,
    MakingRepository,
    ThreeMethodRepository,
    UnprintableError,
    all_at_once,
    background_ended,
    is_garbage,
    nothing_logged,
    until,
)

from mlserve import CachePolicy, ErrorKind, InMemoryModelRepository, ModelServer
from mlserve.clocks import ManualClock

Build = Callable[..., ModelServer]
ALWAYS_ASK = CachePolicy(refresh_seconds=0)


def load_each(server: ModelServer, repository: Any, count: int) -> None:
    """Register versions 1, 2, ..., each serving one request as the latest."""
    for number in range(1, count + 1):
        repository.register(Answering(number))
        assert server.predict(0).value == number


# ---------------------------------------------------------------------------------------------------------- loading


def test_a_version_is_loaded_once_however_many_threads_ask(build: Build) -> None:
    """64 threads that wait for the same version cause one load, and all are answered."""
    repository = FullRepository()
    repository.register(Answering("yes"))
    gate = repository.gate("1")
    server = build(repository)
    asking = InThread(all_at_once, 64, lambda i: server.predict(i).value)
    until(lambda: server.statistics().in_flight == 64)
    gate.open()
    assert (asking.result(), repository.loads["1"]) == (["yes"] * 64, 1)


def test_a_named_version_is_loaded_once_however_many_threads_ask(build: Build) -> None:
    """The same holds for a version asked for by id."""
    repository = FullRepository()
    repository.register(Answering("old"))
    repository.register(Answering("new"))
    gate = repository.gate("1")
    server = build(repository)
    asking = InThread(all_at_once, 16, lambda i: server.predict(i, "1").value)
    until(lambda: server.statistics().in_flight == 16)
    gate.open()
    assert (asking.result(), repository.loads["1"]) == (["old"] * 16, 1)


def test_different_versions_are_loaded_in_parallel(build: Build) -> None:
    """A load that is under way does not hold up the load of another version."""
    repository = FullRepository()
    for name in "ab":
        repository.register(Answering(name))
    gates = [repository.gate("1"), repository.gate("2")]
    server = build(repository)
    calls = [InThread(server.predict, 0, "1"), InThread(server.predict, 0, "2")]
    for gate in gates:
        gate.wait_until_reached()
    for gate in gates:
        gate.open()
    assert [call.result().value for call in calls] == ["a", "b"]


def test_a_slow_load_does_not_hold_up_other_versions(build: Build) -> None:
    """While one version loads, a loaded one answers requests that name it."""
    repository = FullRepository()
    repository.register(Answering("a"))
    repository.register(Answering("b"))
    server = build(repository)
    server.predict(0, "1")
    gate = repository.gate("2")
    waiting = InThread(server.predict, 0, "2")
    gate.wait_until_reached()
    assert server.predict(0, "1").value == "a"
    gate.open()
    waiting.result()


def test_a_loaded_version_is_not_loaded_again(build: Build) -> None:
    """Moving the latest back and forth between loaded versions loads nothing."""
    repository = FullRepository()
    server = build(repository)
    load_each(server, repository, 2)
    for version_id in "1212":
        repository.activate(version_id)
        server.predict(0)
    assert repository.loads == {"1": 1, "2": 1}


def test_a_caller_that_cannot_have_a_thread_loads_by_itself(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the process may start no more threads, the caller loads the model and is answered."""

    def refuse(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    repository = FullRepository()
    repository.register(Answering("yes"))
    server = build(repository)
    monkeypatch.setattr("threading.Thread.start", refuse)
    assert [server.predict(0).value for _ in range(2)] == ["yes", "yes"]


# --------------------------------------------------------------------------------------------------------- failures


RAISED = [OSError("disk"), MemoryError(), UnprintableError(), SystemExit(3), KeyboardInterrupt()]


@pytest.mark.parametrize("raised", RAISED, ids=lambda error: type(error).__name__)
def test_whatever_a_load_raises_fails_the_request(raised: BaseException, build: Build) -> None:
    """A load that raises anything, SystemExit included, gives a result of kind ModelLoadFailed and hangs nobody."""
    repository = FullRepository()
    repository.register(Answering("yes"))
    repository.broken_loads["1"] = raised
    result = InThread(build(repository).predict, 0).result()
    assert (result.error.kind, result.error.exception) == (ErrorKind.ModelLoadFailed, raised)


def test_a_failed_load_is_shared_by_those_who_wait(build: Build) -> None:
    """Sixteen callers of a load that fails all fail, after the two attempts that need no pause at most."""
    repository = FullRepository()
    repository.register(Answering("yes"))
    repository.broken_loads["1"] = OSError("disk")
    gate = repository.gate("1")
    server = build(repository, clock=ManualClock())
    asking = InThread(all_at_once, 16, lambda i: server.predict(i).error)
    until(lambda: server.statistics().in_flight == 16)
    gate.open()
    errors = asking.result()
    # A caller that was accepted but had not begun to wait when the load failed comes as the next request does.
    assert {error.kind for error in errors} == {ErrorKind.ModelLoadFailed}
    assert repository.loads["1"] in (1, 2)


def test_each_caller_gets_an_error_of_its_own(build: Build) -> None:
    """Callers that share a failure may raise it at the same time: no two hold the same exception object."""
    repository = FullRepository()
    repository.register(Answering("yes"))
    repository.broken_loads["1"] = OSError("disk")
    server = build(repository, clock=ManualClock())
    errors = [server.predict(0).error for _ in range(4)]
    assert len({id(error) for error in errors}) == 4


def test_a_failed_load_is_retried_at_the_next_request(build: Build) -> None:
    """The second attempt is made at once: the request after a failure may be answered."""
    repository = FullRepository()
    repository.register(Answering("yes"))
    repository.broken_loads["1"] = OSError("disk")
    server = build(repository, clock=ManualClock())
    before = server.predict(0)
    del repository.broken_loads["1"]
    assert (before.success, server.predict(0).value, repository.loads["1"]) == (False, "yes", 2)


def test_further_attempts_wait_twice_as_long_each_time(build: Build) -> None:
    """After the second failure a load is not tried again for retry_seconds, then twice that, up to the maximum."""
    clock, repository = ManualClock(), FullRepository()
    repository.register(Answering("yes"))
    repository.broken_loads["1"] = OSError("disk")
    policy = CachePolicy(retry_seconds=1.0, max_retry_seconds=4.0)
    server = build(repository, clock=clock, cache=policy)
    attempts_at = []
    for half_second in range(40):
        before = repository.loads["1"]
        server.predict(0)
        if repository.loads["1"] > before:
            attempts_at.append(half_second / 2)
        if half_second == 0:
            server.predict(0)  # the second attempt, at once
        clock.advance(timedelta(seconds=0.5))
    assert attempts_at == [0.0, 1.0, 3.0, 7.0, 11.0, 15.0, 19.0]


def test_a_failure_is_never_permanent(build: Build) -> None:
    """However often a load failed, it is tried again after the longest pause, and may then succeed."""
    clock, repository = ManualClock(), FullRepository()
    repository.register(Answering("yes"))
    repository.broken_loads["1"] = OSError("disk")
    server = build(repository, clock=clock)
    for _ in range(100):
        server.predict(0)
        clock.advance(CachePolicy().max_retry_seconds * timedelta(seconds=1))
    del repository.broken_loads["1"]
    assert server.predict(0).value == "yes"


def test_a_success_forgets_the_failures_before_it(build: Build) -> None:
    """A version that was loaded after failing, and evicted, starts again with an immediate second attempt."""
    clock, repository = ManualClock(), FullRepository()
    repository.register(Answering("yes"))
    repository.register(Answering("latest"))
    repository.broken_loads["1"] = OSError("disk")
    server = build(repository, clock=clock, cache=CachePolicy(max_loaded=1, keep_active=1))
    server.predict(0)
    server.predict(0, "1")
    server.predict(0, "1")
    del repository.broken_loads["1"]
    clock.advance(timedelta(minutes=1))
    assert server.predict(0, "1").success
    repository.broken_loads["1"] = OSError("disk again")
    attempts = repository.loads["1"]
    server.predict(0, "1")
    server.predict(0, "1")
    assert repository.loads["1"] == attempts + 2


# --------------------------------------------------------------------------------------------------------- evicting


def test_three_models_stay_loaded(build: Build, repository: InMemoryModelRepository) -> None:
    """Up to max_loaded models, nothing is evicted."""
    server = build(repository)
    load_each(server, repository, 3)
    assert (server.statistics().loaded_models, server.statistics().evictions) == (("1", "2", "3"), 0)


def test_the_fourth_model_leaves_the_two_most_recent_active(build: Build, repository: InMemoryModelRepository) -> None:
    """With more than three loaded, only the two most recently activated active versions stay."""
    server = build(repository)
    load_each(server, repository, 4)
    assert (server.statistics().loaded_models, server.statistics().evictions) == (("3", "4"), 2)


def test_recent_means_recently_activated(build: Build, repository: InMemoryModelRepository) -> None:
    """An old version that was activated again is among the most recent ones and stays."""
    server = build(repository)
    load_each(server, repository, 3)
    repository.activate("1")
    server.predict(0)
    repository.register(Answering(4))
    server.predict(0)
    assert server.statistics().loaded_models == ("1", "4")


def test_a_retired_version_does_not_stay(build: Build, repository: InMemoryModelRepository) -> None:
    """A version that was retired is not among the active ones, however recent it was."""
    server = build(repository)
    load_each(server, repository, 3)
    repository.retire("3")
    repository.register(Answering(4))
    server.predict(0)
    assert server.statistics().loaded_models == ("2", "4")


@pytest.mark.parametrize(
    ("max_loaded", "keep_active", "kept"), [(1, 1, "6"), (2, 1, "56"), (4, 3, "3456"), (5, 5, "23456")]
)
def test_the_numbers_are_the_policys(
    max_loaded: int, keep_active: int, kept: str, build: Build, repository: InMemoryModelRepository
) -> None:
    """``max_loaded`` decides when to sweep and ``keep_active`` how many stay."""
    server = build(repository, cache=CachePolicy(max_loaded=max_loaded, keep_active=keep_active))
    load_each(server, repository, 6)
    assert "".join(server.statistics().loaded_models) == kept


def test_a_version_in_use_stays_until_its_last_request_ends(build: Build, repository: InMemoryModelRepository) -> None:
    """A model with a request in flight is not evicted; it goes when that request ends, without a further one."""
    gate, server = Gate(), build(repository)

    def slow(input: Any) -> str:
        gate.pass_through()
        return "slow"

    repository.register(slow)
    slow_request = InThread(server.predict, 0)
    gate.wait_until_reached()
    for number in (2, 3, 4):
        repository.register(Answering(number))
        server.predict(0)
    while_in_use = server.statistics()
    gate.open()
    result = slow_request.result()
    assert (while_in_use.loaded_models, while_in_use.leases["1"]) == (("1", "3", "4"), 1)
    assert (result.value, server.statistics().loaded_models) == ("slow", ("3", "4"))


def test_a_version_in_use_twice_stays_for_the_second_request(build: Build, repository: InMemoryModelRepository) -> None:
    """The end of one of two requests does not evict the model of the other."""
    gates, server = {"a": Gate(), "b": Gate()}, build(repository)

    def slow(input: str) -> str:
        gates[input].pass_through()
        return input

    repository.register(slow)
    requests = {name: InThread(server.predict, name) for name in "ab"}
    for gate in gates.values():
        gate.wait_until_reached()
    for number in (2, 3, 4):
        repository.register(Answering(number))
        server.predict(0)
    gates["a"].open()
    requests["a"].result()
    after_one = server.statistics().loaded_models
    gates["b"].open()
    requests["b"].result()
    assert (after_one, server.statistics().loaded_models) == (("1", "3", "4"), ("3", "4"))


def test_requests_by_id_are_no_protection(build: Build, repository: InMemoryModelRepository) -> None:
    """A version that was asked for by id, however often and recently, is evicted like any other."""
    server = build(repository)
    load_each(server, repository, 3)
    for _ in range(20):
        server.predict(0, "1")
    repository.register(Answering(4))
    server.predict(0)
    assert server.statistics().loaded_models == ("3", "4")


def test_an_old_version_asked_for_by_id_goes_when_its_request_ends(
    build: Build, repository: InMemoryModelRepository
) -> None:
    """A version that is loaded only because it was named, with too many loaded, leaves after having answered."""
    server = build(repository, cache=CachePolicy(max_loaded=2, keep_active=2))
    load_each(server, repository, 4)
    answer = server.predict(0, "1").value
    assert (answer, server.statistics().loaded_models) == (1, ("3", "4"))


def test_the_version_that_serves_is_never_evicted(build: Build) -> None:
    """The version that answers now stays, also where newer active versions could not be loaded."""
    repository = FullRepository()
    server = build(repository, clock=ManualClock(), cache=CachePolicy(max_loaded=2, keep_active=1))
    load_each(server, repository, 1)
    for number in (2, 3, 4):
        repository.broken_loads[str(number)] = OSError("disk")
        repository.register(Answering(number))
        server.predict(0)
    background_ended()
    del repository.broken_loads["2"], repository.broken_loads["3"]
    answers = [server.predict(0, "2").value, server.predict(0, "3").value, server.predict(0).value]
    assert (answers, "1" in server.statistics().loaded_models) == ([2, 3, 1], True)


def test_evicting_survives_a_broken_repository(build: Build) -> None:
    """When the repository cannot say which versions are active, the request is answered all the same."""
    repository = FullRepository()
    server = build(repository)
    load_each(server, repository, 3)
    repository.broken["get_active_versions"] = OSError("down")
    repository.register(Answering(4))
    assert (server.predict(0).value, server.statistics().repository_errors) == (4, 1)


# ---------------------------------------------------------------------------------------------------------- garbage


class Failing:
    """A model that raises what looks at itself."""

    def __call__(self, input: Any) -> Any:
        return self.missing  # type: ignore[attr-defined]  # the AttributeError is the point


class FailingInside:
    """A model whose exception was caused by another."""

    def __call__(self, input: Any) -> Any:
        try:
            raise KeyError(input)
        except KeyError as error:
            raise ValueError("no") from error


class Suspended:
    """A coroutine model that fails."""

    async def __call__(self, input: Any) -> Any:
        raise ValueError("no")


@pytest.mark.parametrize("make", [lambda: Answering(1), Failing, FailingInside, Suspended])
def test_an_evicted_model_is_garbage(make: Callable[[], Any], build: Build) -> None:
    """Nothing holds on to an evicted model, not even the results, kept by the caller, of predictions that failed."""
    repository = MakingRepository()
    server = build(repository, cache=CachePolicy(refresh_seconds=0, max_loaded=1, keep_active=1))
    repository.register(make)
    with nothing_logged():
        results = [server.predict(0) for _ in range(3)]
        repository.register(lambda: Answering(2))
        results.append(server.predict(0))
    assert results[-1].value == 2
    assert is_garbage(repository.made["1"])


def test_a_model_of_a_named_version_is_garbage_after_eviction(build: Build) -> None:
    """The same holds for a version that was asked for by id."""
    repository = MakingRepository()
    server = build(repository, cache=CachePolicy(refresh_seconds=0, max_loaded=1, keep_active=1))
    repository.register(Failing)
    repository.register(lambda: Answering(2))
    with nothing_logged():
        results = [server.predict(0), server.predict(0, "1")]
    assert not results[1].success
    assert is_garbage(repository.made["1"])


def test_a_broken_monitor_does_not_keep_a_model(build: Build) -> None:
    """The exceptions of a monitor that fails do not hold on to the model that was being recorded."""

    class Chained(EightMethodMonitor):
        def record_prediction(self, event: Any) -> None:
            try:
                raise KeyError("inner")
            except KeyError as error:
                raise OSError("outer") from error

    repository = MakingRepository()
    server = build(repository, Chained(), cache=CachePolicy(refresh_seconds=0, max_loaded=1, keep_active=1))
    repository.register(lambda: Answering(1))
    with nothing_logged():
        server.predict(0)
        repository.register(lambda: Answering(2))
        server.predict(0)
    assert (server.statistics().monitor_errors, is_garbage(repository.made["1"])) == (2, True)


def test_a_model_that_fails_on_its_example_is_garbage(build: Build) -> None:
    """A model that was loaded but failed its first prediction is not kept with the failure that is remembered."""

    class Unfit:
        def predict(self, X: Any) -> Any:
            return self.coefficients  # type: ignore[attr-defined]  # the AttributeError is the point

    class Describing(FullRepository, MakingRepository):
        pass

    repository = Describing()
    repository.register(Unfit, example=[1.0])
    server = build(repository, clock=ManualClock())
    with nothing_logged():
        result = server.predict([1.0])
    assert result.error.kind is ErrorKind.ModelLoadFailed
    assert is_garbage(repository.made["1"])


def test_a_closed_server_keeps_no_model(build: Build) -> None:
    """After ``close`` the server holds no model, though it is still referenced."""
    repository = MakingRepository()
    repository.register(lambda: Answering(1))
    server = build(repository)
    server.predict(0)
    server.close()
    assert is_garbage(repository.made["1"])


# ------------------------------------------------------------------------------------------------------- statistics


def test_the_counters_balance_at_rest(build: Build) -> None:
    """After any mixture of requests accepted == answered + cancelled + in_flight, and failed counts the failures."""
    repository = FullRepository()

    def model(input: int) -> int:
        if input % 5 == 0:
            raise ValueError
        if input % 7 == 0:
            raise KeyboardInterrupt
        return input

    repository.register(model)
    server = build(repository)

    def ask(index: int) -> None:
        for number in range(1, 71):
            with suppress(KeyboardInterrupt):
                server.predict(number, "nobody" if number % 11 == 0 else None)

    all_at_once(8, ask)
    found = server.statistics()
    numbers = range(1, 71)
    unknown = {n for n in numbers if n % 11 == 0}
    failing = {n for n in numbers if n % 5 == 0} | unknown
    interrupted = {n for n in numbers if n % 7 == 0} - failing
    assert found.accepted == found.answered + found.cancelled + found.in_flight
    assert (found.accepted, found.failed, found.cancelled, found.in_flight) == (
        8 * 70, 8 * len(failing), 8 * len(interrupted), 0
    )  # fmt: skip


def test_a_request_that_waits_for_a_load_is_in_flight(build: Build) -> None:
    """A call that has not been answered counts as in flight, also before its model is loaded."""
    repository = FullRepository()
    repository.register(Answering(1))
    gate, server = repository.gate("1"), build(repository)
    waiting = InThread(server.predict, 0)
    gate.wait_until_reached()
    during = server.statistics()
    gate.open()
    waiting.result()
    assert (during.accepted, during.answered, during.in_flight) == (1, 0, 1)
    assert (server.statistics().answered, server.statistics().in_flight) == (1, 0)


def test_a_request_in_its_model_is_in_flight(build: Build, repository: InMemoryModelRepository) -> None:
    """A call that its model is working on is in flight and holds a lease of its version."""
    gate = Gate()
    repository.register(lambda x: gate.pass_through())
    server = build(repository)
    waiting = InThread(server.predict, 0)
    gate.wait_until_reached()
    during = server.statistics()
    gate.open()
    waiting.result()
    assert (during.answered, during.in_flight, dict(during.leases)) == (0, 1, {"1": 1})


def test_reading_the_statistics_changes_nothing(build: Build, repository: InMemoryModelRepository) -> None:
    """Counters read a hundred times are the counters read once."""
    repository.register(Answering(1))
    server = build(repository)
    server.predict(0)
    first = server.statistics()
    for _ in range(100):
        server.statistics()
    assert server.statistics() == first


def test_loads_swaps_and_evictions_are_counted(build: Build, repository: InMemoryModelRepository) -> None:
    """Each load, each change of the version that answers and each eviction counts once."""
    server = build(repository)
    load_each(server, repository, 5)
    found = server.statistics()
    assert (found.loads, found.swaps, found.evictions, found.load_failures) == (5, 4, 2, 0)


def test_failed_loads_are_counted(build: Build) -> None:
    """Each failed attempt counts once, however many callers shared it."""
    repository = ThreeMethodRepository()
    repository.register(Answering(1))
    repository.broken_loads["1"] = OSError("disk")
    server = build(repository, clock=ManualClock(), cache=ALWAYS_ASK)
    for _ in range(5):
        server.predict(0)
    assert (server.statistics().load_failures, server.statistics().failed) == (2, 5)
