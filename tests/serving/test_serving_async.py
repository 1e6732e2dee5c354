"""``apredict`` and coroutine models: on any event loop, never blocking it, with cancellation that harms nobody."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from serving_doubles import (
    PATIENCE,
    Answering,
    FullRepository,
    Gate,
    InThread,
    all_at_once,
    background_ended,
    until,
)

from mlserve import (
    ArraySchema,
    CachePolicy,
    ErrorKind,
    InMemoryModelMonitor,
    InMemoryModelRepository,
    Limits,
    ModelServer,
)
from mlserve.clocks import ManualClock
from mlserve.records import HealthState

Build = Callable[..., ModelServer]


async def reached(gate: Gate) -> None:
    """Wait for the gate without blocking the loop."""
    await asyncio.to_thread(gate.wait_until_reached)


async def eventually(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(until, condition)


# ------------------------------------------------------------------------------------------------------ the answer


async def coroutine_model(input: float) -> float:
    await asyncio.sleep(0)
    return input + 1


@pytest.mark.parametrize(
    "model",
    [lambda x: x + 1, coroutine_model, lambda x: coroutine_model(x)],
    ids=["plain", "coroutine", "plain that returns a coroutine"],
)
def test_apredict_answers_as_predict_does(model: Any, serve: Build) -> None:
    """Plain and coroutine models give the same answer awaited as not, again and again."""
    server = serve(model)

    async def ask() -> list[Any]:
        return [(await server.apredict(number)).unwrap() for number in range(5)]

    assert asyncio.run(ask()) == [server.predict(number).unwrap() for number in range(5)] == [1, 2, 3, 4, 5]


def test_apredict_takes_a_version(repository: InMemoryModelRepository, build: Build) -> None:
    """A version can be named as in ``predict``; an unknown one is a failed result."""
    repository.register(Answering("one"))
    repository.register(Answering("two"))
    server = build(repository)

    async def ask() -> list[Any]:
        results = [await server.apredict(0, name) for name in ("1", None, "nobody")]
        return [(result.value, None if result.error is None else result.error.kind) for result in results]

    assert asyncio.run(ask()) == [("one", None), ("two", None), (None, ErrorKind.VersionNotFound)]


@pytest.mark.parametrize(
    "raised", [ValueError("no"), StopIteration(), StopAsyncIteration()], ids=lambda e: type(e).__name__
)
@pytest.mark.parametrize("calls", [1, 3])
def test_whatever_a_model_raises_becomes_a_failed_result(raised: Exception, calls: int, serve: Build) -> None:
    """An awaited prediction that fails is a failed result, on a worker thread as on the loop; it never hangs."""

    def model(input: Any) -> None:
        if input == "bad":
            raise raised

    server = serve(model)

    async def ask() -> Any:
        for _ in range(calls):
            await server.apredict("good")
        return await asyncio.wait_for(server.apredict("bad"), PATIENCE)

    assert asyncio.run(ask()).error.kind is ErrorKind.PredictionException


def test_a_first_call_that_raises_stop_iteration_does_not_hang(serve: Build) -> None:
    """StopIteration, which no future can carry, comes back from the worker thread of the very first call."""
    server = serve(lambda x: next(iter(())))

    async def ask() -> Any:
        return await asyncio.wait_for(server.apredict(0), PATIENCE)

    assert asyncio.run(ask()).error.kind is ErrorKind.PredictionException


def test_a_coroutine_that_raises_becomes_a_failed_result(serve: Build) -> None:
    """The exception of a coroutine model is kept like any other, awaited or not."""

    async def model(input: Any) -> None:
        raise ValueError("no")

    server = serve(model)
    found = [asyncio.run(server.apredict(0)), server.predict(0)]
    assert [type(result.error.exception) for result in found] == [ValueError, ValueError]


def test_invalid_input_is_refused_before_a_coroutine_model(serve: Build) -> None:
    """Validation stands before an awaited model as well."""
    calls: list[Any] = []

    class Model:
        async def predict(self, X: Any) -> Any:
            calls.append(X)
            return [1]

    server = serve(Model(), schema=ArraySchema(shape=(1,)))
    result = asyncio.run(server.apredict([1.0, 2.0]))
    assert (result.error.kind, calls) == (ErrorKind.InvalidInput, [])


def test_awaiting_a_classifier_gives_its_label(repository: InMemoryModelRepository, build: Build) -> None:
    """An awaited classifier answers its label; the confidence is recorded, not returned."""

    class Sure:
        def predict(self, X: Any) -> list[str]:
            return ["yes"]

        def predict_proba(self, X: Any) -> list[list[float]]:
            return [[0.125, 0.875]]

    monitor = InMemoryModelMonitor()
    repository.register(Sure(), schema=ArraySchema(shape=(1,)))
    result = asyncio.run(build(repository, monitor).apredict([1.0]))
    assert (result.unwrap(), monitor.events().events[0].confidence) == ("yes", 0.875)


def test_none_is_no_input_when_awaited_either(serve: Build) -> None:
    """Without a schema, None is refused before an awaited model."""
    assert asyncio.run(serve(coroutine_model).apredict(None)).error.kind is ErrorKind.InvalidInput


# -------------------------------------------------------------------------------------------------------- the loops


def test_one_server_serves_several_loops_at_once(serve: Build) -> None:
    """Loops in several threads use one server at the same time, plain and coroutine requests mixed."""
    server = serve(coroutine_model)

    def run_loop(index: int) -> list[float]:
        async def ask() -> list[float]:
            results = await asyncio.gather(*(server.apredict(index * 100 + number) for number in range(50)))
            return [result.unwrap() for result in results]

        return asyncio.run(ask())

    found = all_at_once(4, run_loop)
    assert found == [[index * 100 + number + 1 for number in range(50)] for index in range(4)]
    assert (server.statistics().answered, server.statistics().in_flight) == (200, 0)


def test_a_coroutine_model_runs_on_the_callers_loop(serve: Build) -> None:
    """What is awaited by ``apredict`` runs on the loop that awaits it, where its clients and locks live."""

    async def model(input: Any) -> Any:
        return id(asyncio.get_running_loop())

    server = serve(model)

    async def ask() -> bool:
        return (await server.apredict(0)).value == id(asyncio.get_running_loop())

    assert [asyncio.run(ask()), asyncio.run(ask())] == [True, True]


def test_requests_to_a_coroutine_model_run_at_the_same_time(serve: Build) -> None:
    """A hundred requests wait inside one coroutine model together, without a thread each."""
    waiting, everybody = 0, asyncio.Event()

    async def model(input: int) -> int:
        nonlocal waiting
        waiting += 1
        if waiting == 100:
            everybody.set()
        await everybody.wait()
        return waiting

    server = serve(model)

    async def ask() -> list[Any]:
        async with asyncio.timeout(PATIENCE):
            return await asyncio.gather(*(server.apredict(number) for number in range(100)))

    assert {result.unwrap() for result in asyncio.run(ask())} == {100}


def test_the_first_call_of_a_model_is_off_the_loop(serve: Build) -> None:
    """Nothing is known of a model before its first call: it does not block the loop."""
    gate = Gate()
    server = serve(lambda x: gate.pass_through() or "done")

    async def ask() -> Any:
        asked = asyncio.create_task(server.apredict(0))
        await reached(gate)
        gate.open()
        return (await asked).unwrap()

    assert asyncio.run(ask()) == "done"


def slow_server(build: Build, gate: Gate, milliseconds: float, **options: Any) -> ModelServer:
    """A server whose model takes so long by its clock, and waits at the gate when it is asked to."""
    clock, repository = ManualClock(), InMemoryModelRepository()

    def model(input: Any) -> int:
        clock.advance(timedelta(milliseconds=milliseconds))
        if input == "wait":
            gate.pass_through()
        return threading.get_ident()

    repository.register(model)
    return build(repository, InMemoryModelMonitor(clock=clock), clock=clock, **options)


def test_a_slow_model_stays_off_the_loop(build: Build) -> None:
    """A model whose calls take longer than ``inline_below_ms`` is called on a worker thread."""
    gate = Gate()
    server = slow_server(build, gate, milliseconds=1.0)

    async def ask() -> Any:
        for _ in range(3):
            await server.apredict("quick")
        asked = asyncio.create_task(server.apredict("wait"))
        await reached(gate)
        gate.open()
        return (await asked).unwrap()

    assert asyncio.run(ask()) != threading.get_ident()


@pytest.mark.parametrize(("milliseconds", "limit", "inline"), [(0.1, 0.5, True), (1.0, 0.5, False), (1.0, 5.0, True)])
def test_a_quick_model_is_called_on_the_loop(milliseconds: float, limit: float, inline: bool, build: Build) -> None:
    """Below ``inline_below_ms`` going to a thread would cost more than it saves."""
    server = slow_server(build, Gate(), milliseconds, limits=Limits(inline_below_ms=limit))

    async def ask() -> Any:
        await server.apredict("quick")
        return (await server.apredict("quick")).unwrap()

    assert (asyncio.run(ask()) == threading.get_ident()) == inline


def test_a_load_does_not_block_the_loop(build: Build) -> None:
    """While a model loads, the loop of the caller goes on."""
    repository = FullRepository()
    repository.register(Answering("loaded"))
    gate, server = repository.gate("1"), build(repository)

    async def ask() -> Any:
        asked = asyncio.create_task(server.apredict(0))
        await reached(gate)
        gate.open()
        return (await asked).unwrap()

    assert asyncio.run(ask()) == "loaded"


def test_a_health_check_does_not_block_the_loop(build: Build) -> None:
    """``acheck_health`` loads and tries the model off the loop."""
    repository = FullRepository()
    repository.register(Answering("loaded"))
    gate, server = repository.gate("1"), build(repository)

    async def ask() -> Any:
        asked = asyncio.create_task(server.acheck_health())
        await reached(gate)
        gate.open()
        return (await asked).status

    assert asyncio.run(ask()) is HealthState.HEALTHY


request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="none")


async def coroutine_context(input: Any) -> str:
    return request_id.get()


@pytest.mark.parametrize("model", [lambda x: request_id.get(), coroutine_context], ids=["plain", "coroutine"])
@pytest.mark.parametrize("awaited", [True, False])
def test_a_model_sees_the_context_of_its_caller(model: Any, awaited: bool, serve: Build) -> None:
    """Context variables reach the model on whatever thread or loop it runs."""
    server = serve(model)

    async def ask() -> list[Any]:
        request_id.set("request 7")
        if awaited:
            return [(await server.apredict(0)).unwrap() for _ in range(3)]
        return [server.predict(0).unwrap() for _ in range(3)]

    assert asyncio.run(ask()) == ["request 7"] * 3


# --------------------------------------------------------------------------------------------- predict of coroutines


def test_predict_waits_for_a_coroutine_model(serve: Build) -> None:
    """A caller without a loop gets the answer of a coroutine model, from any thread."""
    server = serve(coroutine_model)
    assert all_at_once(8, lambda i: server.predict(i).unwrap()) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_predict_of_a_coroutine_model_inside_a_running_loop(serve: Build) -> None:
    """``predict`` on a thread whose loop is running answers too: the coroutine does not run on that loop."""
    server = serve(coroutine_model)

    async def ask() -> Any:
        return server.predict(1).unwrap()

    assert asyncio.run(ask()) == 2


def test_callers_of_a_coroutine_model_wait_at_the_same_time(serve: Build) -> None:
    """Two threads that call ``predict`` are inside the coroutine model together."""
    arrived = 0
    together = None

    async def model(input: Any) -> str:
        nonlocal arrived, together
        together = together or asyncio.Event()
        arrived += 1
        if arrived == 2:
            together.set()
        async with asyncio.timeout(PATIENCE):
            await together.wait()
        return "together"

    server = serve(model)
    assert all_at_once(2, lambda i: server.predict(i).unwrap()) == ["together"] * 2


@pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt])
def test_a_coroutine_that_would_end_its_loop_ends_one_call(raised: type[BaseException], serve: Build) -> None:
    """SystemExit inside a coroutine model reaches its caller; the next request is answered."""

    async def model(input: str) -> str:
        if input == "exit":
            raise raised
        return input

    server = serve(model)
    with pytest.raises(raised):
        InThread(server.predict, "exit").result()
    assert InThread(server.predict, "next").result().unwrap() == "next"
    assert (server.statistics().cancelled, server.statistics().in_flight) == (1, 0)


def test_a_coroutine_cancelled_from_within_is_a_failed_result(serve: Build) -> None:
    """A coroutine model that is cancelled by its own code fails one prediction of a caller without a loop."""

    async def model(input: Any) -> None:
        raise asyncio.CancelledError

    assert serve(model).predict(0).error.kind is ErrorKind.PredictionException


# ----------------------------------------------------------------------------------------------------- cancellation


def cancelled(server: ModelServer, input: Any, ready: Callable[[], Any], version: str | None = None) -> None:
    """Ask, wait until ready, cancel, and see the cancellation arrive."""

    async def ask() -> None:
        asked = asyncio.create_task(server.apredict(input, version))
        await asyncio.to_thread(ready)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked

    asyncio.run(ask())


def test_a_cancelled_coroutine_model_gives_its_lease_back(serve: Build) -> None:
    """Cancelling a caller ends the coroutine, releases the model and counts as cancelled, not as failed."""

    async def forever(input: Any) -> None:
        await asyncio.Event().wait()

    server = serve(forever)
    cancelled(server, 0, lambda: until(lambda: server.statistics().leases.get("1") == 1))
    found = server.statistics()
    assert (found.accepted, found.answered, found.cancelled, found.failed, found.in_flight) == (1, 0, 1, 0, 0)


def test_a_cancelled_call_on_a_worker_thread_gives_its_lease_back(build: Build) -> None:
    """A caller that goes away while its model runs on a thread is counted; the thread harms nobody."""
    gate, repository = Gate(), InMemoryModelRepository()
    repository.register(lambda x: gate.pass_through())
    server = build(repository)

    async def ask() -> Any:
        asked = asyncio.create_task(server.apredict(0))
        await reached(gate)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        found = server.statistics()
        gate.open()
        return found

    found = asyncio.run(ask())
    assert (found.cancelled, found.in_flight, found.failed) == (1, 0, 0)


def test_a_caller_cancelled_while_loading_harms_nobody(build: Build) -> None:
    """The load goes on for whoever asks next, and the lost caller holds nothing."""
    repository = FullRepository()
    repository.register(Answering("loaded"))
    gate, server = repository.gate("1"), build(repository)

    async def ask() -> tuple[Any, Any]:
        lost = asyncio.create_task(server.apredict(0))
        await reached(gate)
        other = asyncio.create_task(server.apredict(0))
        await eventually(lambda: server.statistics().in_flight == 2)
        lost.cancel()
        with pytest.raises(asyncio.CancelledError):
            await lost
        during = server.statistics()
        gate.open()
        return during, await other

    during, result = asyncio.run(ask())
    assert (during.cancelled, during.in_flight) == (1, 1)
    assert (result.unwrap(), repository.loads["1"], server.statistics().in_flight) == ("loaded", 1, 0)


def test_an_evicted_version_goes_when_its_last_caller_is_cancelled(build: Build) -> None:
    """A version kept only for a request in flight leaves when that request is cancelled."""
    repository = InMemoryModelRepository()

    async def forever(input: Any) -> None:
        await asyncio.Event().wait()

    repository.register(forever)
    server = build(repository)

    def ready() -> None:
        until(lambda: server.statistics().leases.get("1") == 1)
        for number in (2, 3, 4):
            repository.register(Answering(number))
            server.predict(0)

    cancelled(server, 0, ready)
    assert server.statistics().loaded_models == ("3", "4")


def test_a_version_loaded_for_a_lost_caller_goes_at_the_next_health_check(build: Build) -> None:
    """What was loaded by id for a caller that was cancelled meanwhile does not stay for ever."""
    repository = FullRepository()
    for number in (1, 2):
        repository.register(Answering(number))
    server = build(repository, cache=CachePolicy(max_loaded=1, keep_active=1))
    server.predict(0)
    gate = repository.gate("1")

    async def ask() -> None:
        lost = asyncio.create_task(server.apredict(0, "1"))
        await reached(gate)
        lost.cancel()
        with pytest.raises(asyncio.CancelledError):
            await lost
        gate.open()

    asyncio.run(ask())
    background_ended()
    server.check_health()
    assert server.statistics().loaded_models == ("2",)


def test_the_counters_balance_after_cancellations(serve: Build) -> None:
    """Of many requests, some cancelled, accepted == answered + cancelled."""

    async def model(input: int) -> int:
        if input % 3 == 0:
            await asyncio.Event().wait()
        if input % 3 == 1:
            raise ValueError
        return input

    server = serve(model)

    async def ask() -> None:
        tasks = [asyncio.create_task(server.apredict(number)) for number in range(90)]
        await eventually(lambda: (server.statistics().accepted, server.statistics().in_flight) == (90, 30))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(ask())
    found = server.statistics()
    assert (found.accepted, found.answered, found.failed, found.cancelled, found.in_flight) == (90, 60, 30, 30, 0)
