"""Fallbacks: what answers when a model cannot, in which order, and what is said of it."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from serving_doubles import PATIENCE, EightMethodMonitor, FullRepository, Gate, InThread, Tallied, until

from mlserve import Batching, ErrorKind, InMemoryModelMonitor, InMemoryModelRepository, Limits, ModelServer
from mlserve.clocks import ManualClock
from mlserve.errors import InvalidArgumentError
from mlserve.records import Route
from mlserve.serving import Breaker, CallableFallback, PreviousVersion, StaticAnswer

Host = Callable[..., Tallied]

both = pytest.mark.parametrize("is_async", [False, True], ids=["waiting", "awaiting"])


def failing(input: Any) -> Any:
    raise ValueError("no")


def ask(server: Tallied, is_async: bool, *args: Any, **kwargs: Any) -> Any:
    return asyncio.run(server.apredict(*args, **kwargs)) if is_async else server.predict(*args, **kwargs)


# --------------------------------------------------------------------------------------------------------- the chain


@both
def test_a_model_that_answers_needs_no_help(is_async: bool, host: Host) -> None:
    """Fallbacks are not asked when there is an answer; the result is not degraded."""
    server = host(lambda x: x, fallbacks=[CallableFallback(failing)])
    result = ask(server, is_async, 1)
    assert (result.value, result.degraded, server.statistics().fallback_errors) == (1, None, 0)


@both
def test_a_static_answer(is_async: bool, host: Host) -> None:
    """A static answer is given as it is, successful and degraded; the text says what answered, and why."""
    answer = object()
    server = host(failing, fallbacks=[StaticAnswer(answer)])
    result = ask(server, is_async, 1)
    assert (result.success, result.value is answer, result.error, result.version.id) == (True, True, None, "1")
    assert result.degraded.startswith("StaticAnswer answered, because of PredictionException: ")
    assert "ValueError: no" in result.degraded


@both
def test_a_function_is_called_with_the_input_as_it_came(is_async: bool, host: Host) -> None:
    """A function answers from the input that the caller gave."""
    server = host(failing, fallbacks=[CallableFallback(lambda input: input["x"] * 2)])
    result = ask(server, is_async, {"x": 4})
    assert (result.value, result.degraded[:16]) == (8, "CallableFallback")


@both
def test_they_are_asked_in_order(is_async: bool, host: Host) -> None:
    """The first that can answers; those that raise are passed over, counted; those behind are not asked."""
    order: list[str] = []

    def named(name: str, answer: Any = None) -> CallableFallback:
        def fallback(input: Any) -> Any:
            order.append(name)
            if answer is None:
                raise LookupError(name)
            return answer

        return CallableFallback(fallback)

    server = host(failing, fallbacks=[named("first"), PreviousVersion(), named("third", 3), named("fourth", 4)])
    assert ask(server, is_async, 1).value == 3
    assert (order, server.statistics().fallback_errors) == (["first", "third"], 2)


@both
@pytest.mark.parametrize("raised", [LookupError("no"), StopIteration(), TimeoutError()])
def test_when_none_can_the_first_error_stands(raised: Exception, is_async: bool, host: Host) -> None:
    """The result fails with the model's error, not with those of the fallbacks."""

    def fallback(input: Any) -> Any:
        raise raised

    server = host(failing, fallbacks=[CallableFallback(fallback)])
    result = ask(server, is_async, 1)
    assert (result.error.kind, type(result.error.exception)) == (ErrorKind.PredictionException, ValueError)
    assert (result.degraded, server.statistics().fallback_errors, server.statistics().degraded) == (None, 1, 0)


async def answering(input: Any) -> Any:
    await asyncio.sleep(0)
    return input + 1


class AnsweringObject:
    async def __call__(self, input: Any) -> Any:
        return await answering(input)


@pytest.mark.parametrize(
    "function", [answering, functools.partial(answering), AnsweringObject()], ids=["function", "partial", "object"]
)
def test_a_coroutine_function_helps_those_who_await(function: Any, host: Host) -> None:
    """A coroutine function is awaited on the caller's loop; to a caller who cannot await it is of no help."""
    server = host(failing, fallbacks=[CallableFallback(function)])
    assert asyncio.run(server.apredict(1)).value == 2
    assert server.predict(1).error.kind is ErrorKind.PredictionException
    assert server.statistics().fallback_errors == 1


def test_any_awaitable_is_refused_who_does_not_await(host: Host) -> None:
    """A function that answers with something awaitable is passed over; nothing is left unawaited."""

    class Awaitable:
        def __await__(self) -> Any:
            yield

    server = host(failing, fallbacks=[CallableFallback(lambda input: Awaitable()), StaticAnswer(0)])
    assert server.predict(1).value == 0


def test_a_slow_function_does_not_block_the_loop(host: Host) -> None:
    """A plain function is called off the caller's loop."""
    seen: list[bool] = []
    server = host(
        failing,
        fallbacks=[CallableFallback(lambda input: seen.append(threading.current_thread() is threading.main_thread()))],
    )
    asyncio.run(server.apredict(1))
    server.predict(1)
    assert seen == [False, True]


# ------------------------------------------------------------------------------------------------ what they help with


@both
def test_a_caller_at_fault_is_not_helped(is_async: bool, host: Host) -> None:
    """What is no input, or names no version, is the caller's to mend: no fallback answers it."""
    server = host(lambda x: x, fallbacks=[StaticAnswer(0)])
    kinds = [ask(server, is_async, None).error.kind, ask(server, is_async, 1, "99").error.kind]
    assert kinds == [ErrorKind.InvalidInput, ErrorKind.VersionNotFound]
    assert server.statistics().degraded == 0


@both
@pytest.mark.parametrize(
    "kind",
    [
        ErrorKind.ModelLoadFailed,
        ErrorKind.UnsupportedModel,
        ErrorKind.RepositoryUnavailable,
        ErrorKind.DeadlineExceeded,
    ],
)
def test_every_other_failure_is_helped(kind: ErrorKind, is_async: bool, tallied: Host) -> None:
    """Whatever keeps a version from answering, a fallback does."""
    repository = FullRepository()
    repository.register(3 if kind is ErrorKind.UnsupportedModel else lambda x: x)
    if kind is ErrorKind.ModelLoadFailed:
        repository.broken_loads["1"] = OSError("no")
    if kind is ErrorKind.RepositoryUnavailable:
        repository.broken["get_latest_version"] = OSError("no")
    server = tallied(repository, fallbacks=[StaticAnswer("instead")])
    result = ask(server, is_async, 1, timeout_ms=0 if kind is ErrorKind.DeadlineExceeded else None)
    assert (result.value, f"because of {kind}:" in result.degraded) == ("instead", True)


def test_a_rested_version_is_helped(host: Host) -> None:
    """While a breaker is open, fallbacks answer in its version's place."""
    server = host(failing, breaker=Breaker(min_calls=1), fallbacks=[StaticAnswer(0)], clock=ManualClock())
    found = [server.predict(1).degraded.split(":")[0] for _ in range(2)]
    assert found == [f"StaticAnswer answered, because of {kind}" for kind in ("PredictionException", "CircuitOpen")]


def test_who_is_shed_at_the_door_is_not_helped(host: Host) -> None:
    """Above ``max_in_flight`` nothing is done for a request, or the limit would be none; it is shed."""
    gate = Gate()

    def model(input: Any) -> Any:
        gate.pass_through()
        return input

    server = host(model, limits=Limits(max_in_flight=1), fallbacks=[StaticAnswer(0)])
    call = InThread(server.predict, 1)
    gate.wait_until_reached()
    refused = server.predict(2)
    gate.open()
    assert (refused.error.kind, call.result().value) == (ErrorKind.Overloaded, 1)


def test_a_closed_server_gives_static_answers(host: Host) -> None:
    """A server that was closed still has its static answer, and says why."""
    server = host(lambda x: x, fallbacks=[StaticAnswer(0)])
    server.close()
    assert server.predict(1).degraded.startswith("StaticAnswer answered, because of ServerClosed")


def test_what_leaves_a_fallback_by_an_interrupt_is_cancelled(host: Host) -> None:
    """A KeyboardInterrupt out of a fallback goes to the caller, and is counted."""

    def fallback(input: Any) -> Any:
        raise KeyboardInterrupt

    server = host(failing, fallbacks=[CallableFallback(fallback)])
    with pytest.raises(KeyboardInterrupt):
        server.predict(1)
    assert server.statistics().cancelled == 1


@pytest.mark.parametrize("timeout_ms", [None, 1e9])
def test_a_fallback_that_cancels_itself_has_failed(timeout_ms: Any, host: Host) -> None:
    """A coroutine function that raises CancelledError cancels nobody: the next fallback answers, one or many."""

    async def fallback(input: Any) -> Any:
        raise asyncio.CancelledError

    server = host(failing, fallbacks=[CallableFallback(fallback), StaticAnswer(0)])
    assert asyncio.run(server.apredict(1, timeout_ms=timeout_ms)).value == 0
    assert [each.value for each in asyncio.run(server.apredict_many([1, 2], timeout_ms=timeout_ms))] == [0, 0]
    assert (server.statistics().cancelled, server.statistics().fallback_errors) == (0, 3)


def test_who_leaves_while_others_of_it_were_told_is_counted_once(serve: Callable[..., ModelServer]) -> None:
    """Of an ``apredict_many`` that is cancelled while a fallback helps one input, those told before are not."""
    reached = threading.Event()

    async def fallback(input: Any) -> Any:
        if input == 1:
            raise ValueError("no")
        reached.set()
        await asyncio.Event().wait()

    server = serve(failing, server={"fallbacks": [CallableFallback(fallback)]})

    async def leave() -> None:
        task = asyncio.ensure_future(server.apredict_many([1, 2, 3]))
        await asyncio.to_thread(reached.wait, PATIENCE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    until(lambda: server.statistics().in_flight == 0)
    found = server.statistics()
    assert (found.accepted, found.answered, found.failed, found.cancelled) == (3, 1, 1, 2)


@pytest.mark.parametrize("why", ["late", "too many"])
def test_the_previous_version_helps_who_waited_in_vain(why: str, tallied: Host) -> None:
    """A request whose turn at a coroutine model came too late, or that was one too many to wait for it, is helped."""

    async def ask_all() -> list[Any]:
        gate = asyncio.Event()

        async def slow(input: Any) -> Any:
            await asyncio.wait_for(gate.wait(), PATIENCE)
            return "slow"

        repository = InMemoryModelRepository()
        repository.register(lambda input: "helped")
        repository.register(slow)
        server = tallied(repository, concurrency=1, fallbacks=[PreviousVersion()], limits=Limits(max_queued=1))
        await server.apredict(0, "1")
        first = asyncio.ensure_future(server.apredict(0))
        await asyncio.to_thread(until, lambda: dict(server.statistics().leases).get("2") == 1)
        waiting = asyncio.ensure_future(server.apredict(0, timeout_ms=200.0 if why == "late" else None))
        helped = waiting
        if why == "too many":
            await asyncio.to_thread(until, lambda: dict(server.statistics().leases).get("2") == 2)
            helped = asyncio.ensure_future(server.apredict(0))
        value = (await helped).value
        gate.set()
        return [value, (await first).value, (await waiting).value]

    assert asyncio.run(ask_all()) == ["helped", "slow", "helped" if why == "late" else "slow"]


# ------------------------------------------------------------------------------------------------ the previous version


def two_versions(tallied: Host, first: Any, second: Any, **options: Any) -> Tallied:
    repository = InMemoryModelRepository()
    repository.register(first)
    repository.register(second)
    return tallied(repository, fallbacks=[PreviousVersion()], **options)


@pytest.mark.parametrize("batching", [None, Batching()])
@both
def test_the_previous_version_answers(is_async: bool, batching: Any, tallied: Host) -> None:
    """The most recently activated other version answers, and the result says that it was that one."""
    server = two_versions(tallied, lambda x: x + 1, failing, batching=batching)
    result = ask(server, is_async, 1)
    assert (result.value, result.version.id) == (2, "1")
    assert result.degraded.startswith("PreviousVersion answered, because of PredictionException")


@both
def test_a_failure_by_name_is_helped_by_the_latest(is_async: bool, tallied: Host) -> None:
    """Of a version that was asked for by its id and fails, the latest is the other one."""
    server = two_versions(tallied, failing, lambda x: x + 1)
    assert (ask(server, is_async, 1, "1").value, ask(server, is_async, 1, "1").version.id) == (2, "2")


def test_it_is_recorded_under_the_version_that_answered(tallied: Host) -> None:
    """The failure is the one version's, the answer the other's; who asked is recorded with both, an arm with none."""
    monitor = InMemoryModelMonitor()
    server = two_versions(tallied, lambda x: x, failing, monitor=monitor)
    server.predict(1, key="Ann")
    hour = timedelta(hours=1)
    found = [monitor.get_model_metrics(version, hour) for version in ("1", "2")]
    assert [(metrics.request_count, metrics.error_count) for metrics in found] == [(1, 0), (1, 1)]
    assert [(event.model_version, event.key, event.arm) for event in monitor.events().events] == [
        ("2", "Ann", None),
        ("1", "Ann", None),
    ]


def test_an_answer_of_another_version_is_no_evidence(tallied: Host) -> None:
    """A request of an arm that another version answered belongs to no arm; its failure does."""
    from serving_doubles import ChoosingRouter

    monitor = InMemoryModelMonitor()
    server = two_versions(tallied, lambda x: x, failing, monitor=monitor, router=ChoosingRouter(Route("2", "canary")))
    result = server.predict(1)
    assert (result.value, result.arm) == (1, None)
    assert [event.arm for event in monitor.events().events] == ["canary", None]


def test_only_one_version_leaves_nothing_to_fall_back_on(host: Host) -> None:
    """Where no other version is active, the failure stands."""
    server = host(failing, fallbacks=[PreviousVersion()])
    assert server.predict(1).error.kind is ErrorKind.PredictionException
    assert server.statistics().fallback_errors == 1


def test_a_version_that_cannot_be_loaded_is_helped_by_the_one_before(tallied: Host) -> None:
    """A server whose first request meets a latest version that does not load answers with the one before."""
    repository = FullRepository()
    repository.register(lambda x: x)
    repository.register(lambda x: -x)
    repository.broken_loads["2"] = OSError("no")
    server = tallied(repository, fallbacks=[PreviousVersion()])
    result = server.predict(5)
    assert (result.value, result.version.id, "ModelLoadFailed" in result.degraded) == (5, "1", True)


def test_its_breaker_holds_for_the_previous_version_too(tallied: Host) -> None:
    """A version that is given a rest is not called as a fallback either; its failures as one count."""
    calls: list[Any] = []

    def first(input: Any) -> Any:
        calls.append(input)
        raise ValueError("neither")

    server = two_versions(tallied, first, failing, breaker=Breaker(min_calls=2), clock=ManualClock())
    for number in range(5):
        assert not server.predict(number).success
    assert (calls, dict(server.statistics().breakers)) == ([0, 1], {"2": "OPEN", "1": "OPEN"})


def test_a_previous_version_that_refuses_the_input_is_passed_over(tallied: Host) -> None:
    """The other version has its own schema; an input that does not fit it is not shown to it."""
    from mlserve import ArraySchema

    repository = InMemoryModelRepository()
    repository.register(lambda x: 0, schema=ArraySchema(shape=(2,)))
    repository.register(failing)
    server = tallied(repository, fallbacks=[PreviousVersion(), StaticAnswer("last")])
    assert server.predict([1.0]).value == "last"


def test_a_repository_that_cannot_be_asked_is_passed_over(tallied: Host) -> None:
    """Where the repository cannot tell which versions are active, the next fallback answers."""
    repository = FullRepository()
    repository.register(failing)
    repository.broken["get_active_versions"] = StopIteration()
    server = tallied(repository, fallbacks=[PreviousVersion(), StaticAnswer("last")])
    assert [ask(server, is_async, 1).value for is_async in (False, True)] == ["last", "last"]


# -------------------------------------------------------------------------------------------------------- the records


def test_degraded_answers_are_counted(host: Host) -> None:
    """Statistics count what fallbacks answered among the answered, and not among the failed."""
    server = host(failing, fallbacks=[StaticAnswer(0)])
    for _ in range(3):
        server.predict(1)
    found = server.statistics()
    assert (found.answered, found.failed, found.degraded) == (3, 0, 3)


def test_a_failure_that_was_helped_is_recorded_as_one(host: Host) -> None:
    """The monitor hears of the model's failure, though the caller has an answer; of the answer it does not."""
    monitor = EightMethodMonitor()
    server = host(failing, monitor=monitor, fallbacks=[StaticAnswer(0)])
    server.predict(1)
    assert (monitor.errors, monitor.predictions) == ([("PredictionException", "1")], [])


@pytest.mark.parametrize("fallback", [0, failing, PreviousVersion, "static"])
def test_what_is_no_fallback_is_refused(fallback: Any) -> None:
    """A function must be wrapped; the message says how."""
    with pytest.raises(InvalidArgumentError, match="CallableFallback"):
        ModelServer(InMemoryModelRepository(), InMemoryModelMonitor(), fallbacks=[fallback])
