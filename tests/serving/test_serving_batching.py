"""Micro-batching: requests that are there together share a call of the model, and nobody suffers from that."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_doubles import (
    PATIENCE,
    Batched,
    Gate,
    InThread,
    MakingRepository,
    Tallied,
    TickingClock,
    all_at_once,
    held,
    in_lanes,
    nothing_logged,
    queued,
    until,
)
from test_serving_fork import in_child

from mlserve import (
    Batching,
    CachePolicy,
    ErrorKind,
    InMemoryModelMonitor,
    InMemoryModelRepository,
    Limits,
    ModelServer,
)
from mlserve.clocks import ManualClock
from mlserve.records import CheckStatus, ServingResult
from mlserve.serving import _batch_threads, _batching

Host = Callable[..., Tallied]

FOREVER_MS = 1e9
DEAR_MS = 0.1
"""A model whose calls take so long is worth a batch, and short enough to be run on an event loop."""

caller = contextvars.ContextVar("caller", default="nobody")


def busy(host: Host, count: int, **options: Any) -> tuple[Tallied, Batched, Gate, list[InThread]]:
    """A server whose model waits at its gate with input 0, while threads ask for 1, 2, ...; queued in that order."""
    gate = Gate()
    model = options.pop("model", None) or Batched(gate=gate, **options.pop("answering", {}))
    model.gate = gate
    server = host(model, batching=options.pop("batching", Batching()), **options)
    calls = [InThread(server.predict, 0)]
    gate.wait_until_reached()
    for input in range(1, count + 1):
        calls.append(InThread(server.predict, input))
        until(lambda input=input: queued(server) == input)
    return server, model, gate, calls


def values(calls: Sequence[InThread]) -> list[Any]:
    return [call.result().value for call in calls]


# ------------------------------------------------------------------------------------------------------ the batches


def test_what_waits_together_is_answered_by_one_call(host: Host) -> None:
    """Requests that came while the model was busy share its next call, in order; each gets its own answer."""
    server, model, gate, calls = busy(host, 5)
    gate.open()
    assert values(calls) == [0, 10, 20, 30, 40, 50]
    assert model.batches == [[0], [1, 2, 3, 4, 5]]
    assert (server.statistics().batches, server.statistics().batched) == (1, 5)


def test_a_batch_is_no_larger_than_said(host: Host) -> None:
    """No call gets more than ``max_batch_size`` requests; the oldest go first."""
    _, model, gate, calls = busy(host, 5, batching=Batching(max_batch_size=2))
    gate.open()
    assert values(calls) == [0, 10, 20, 30, 40, 50]
    assert model.batches == [[0], [1, 2], [3, 4], [5]]


def test_batches_are_recorded_as_the_requests_they_are(host: Host) -> None:
    """Each request of a batch is an event of its own, with its id, input, output and key."""
    monitor = InMemoryModelMonitor()
    _, _, gate, calls = busy(host, 3, monitor=monitor)
    gate.open()
    results = [call.result() for call in calls]
    events = monitor.events().events
    assert {event.prediction_id for event in events} == {result.prediction_id for result in results}
    assert sorted((event.input, event.output) for event in events) == [(0, 0), (1, 10), (2, 20), (3, 30)]
    assert monitor.get_model_metrics("1", timedelta(hours=1)).request_count == 4


@st.composite
def schedules(draw: st.DrawFn) -> tuple[Batching, list[list[int]], list[list[int]]]:
    """Sizes, and what each of some threads and each of some event loops asks for."""
    inputs = st.lists(st.integers(-1000, 1000), min_size=1, max_size=15)
    weight = draw(st.sampled_from([None, lambda input: 1 + abs(input) % 4]))
    batching = Batching(max_batch_size=draw(st.integers(1, 8)), max_queued=1000, weight=weight)
    return batching, draw(st.lists(inputs, max_size=3)), draw(st.lists(inputs, min_size=1, max_size=3))


@given(schedule=schedules(), step_ms=st.sampled_from([DEAR_MS, 10 * DEAR_MS]), is_pure=st.booleans())
@settings(deadline=None, max_examples=25)
def test_every_request_gets_its_own_answer(schedule: Any, step_ms: float, is_pure: bool) -> None:
    """Threads and event loops at once, whatever they ask for and however it is cut into batches: nothing is mixed up,
    and who asks for what fails does not fail others of a pure model.
    """
    batching, for_threads, for_loops = schedule
    repository = InMemoryModelRepository()
    repository.register(Batched(bad=(7, -7) if is_pure else (), is_pure=is_pure))
    server = Tallied(ModelServer(repository, InMemoryModelMonitor(), batching=batching, clock=TickingClock(step_ms)))
    asked = [*for_threads, *for_loops]

    async def ask(inputs: Sequence[int]) -> list[ServingResult[Any]]:
        return await asyncio.gather(*(server.apredict(input) for input in inputs))

    def run(index: int) -> list[ServingResult[Any]]:
        if index < len(for_threads):
            return [server.predict(input) for input in asked[index]]
        return asyncio.run(ask(asked[index]))

    found = all_at_once(len(asked), run)
    expected = [[None if is_pure and abs(input) == 7 else input * 10 for input in inputs] for inputs in asked]
    assert [[result.value for result in results] for results in found] == expected
    server.check_balance()
    server.close()


def test_threads_and_loops_share_batches(host: Host) -> None:
    """A thread, and the callers of two event loops, queue for one model and are answered by one call."""
    server, model, gate, calls = busy(host, 1, clock=TickingClock(10 * DEAR_MS))

    def run_loop(first: int) -> list[Any]:
        async def ask() -> list[Any]:
            results = await asyncio.gather(*(server.apredict(first + number) for number in range(3)))
            return [result.unwrap() for result in results]

        return asyncio.run(ask())

    loops = [InThread(run_loop, 100), InThread(run_loop, 200)]
    until(lambda: in_lanes(server) == 7)
    gate.open()
    assert [loop.result() for loop in loops] == [[1000, 1010, 1020], [2000, 2010, 2020]]
    assert values(calls) == [0, 10]
    assert sorted(model.batches[1]) == [1, 100, 101, 102, 200, 201, 202]


def test_it_belongs_to_no_loop(host: Host) -> None:
    """One loop after the other uses the same server, each gone before the next begins."""
    server = host(Batched(), batching=Batching(), clock=TickingClock(DEAR_MS))
    server.predict(0)  # who waits for a load goes on when it is there, not all in one turn of their loop

    async def ask() -> list[Any]:
        return [result.value for result in await asyncio.gather(*(server.apredict(number) for number in range(5)))]

    assert [asyncio.run(ask()) for _ in range(3)] == [[0, 10, 20, 30, 40]] * 3
    assert server.statistics().batches >= 3


def abandoned_loop(server: Tallied) -> asyncio.AbstractEventLoop:
    """A loop that was closed when its caller had just queued a request, which it did not cancel."""
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # the task that is destroyed unfinished is the point
    tasks = [loop.create_task(server.apredict("left behind"))]
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    tasks.clear()
    return loop


@pytest.mark.parametrize("step_ms", [DEAR_MS, 10 * DEAR_MS], ids=["on the loop", "on the thread"])
def test_a_loop_that_is_closed_meanwhile_harms_nobody(step_ms: float, host: Host) -> None:
    """Whoever shares a batch with a caller whose loop is gone, even on the same thread, is answered."""
    server = host(Batched(), batching=Batching(), clock=TickingClock(step_ms))
    server.predict(0)
    loop = abandoned_loop(server)
    assert queued(server) == 1

    async def ask() -> list[Any]:
        return [result.value for result in await asyncio.gather(server.apredict(1), server.apredict(2))]

    assert asyncio.run(asyncio.wait_for(ask(), PATIENCE)) == [10, 20]
    del loop
    until(lambda: (gc.collect(), held(server) == 0)[1])  # the abandoned coroutine ends when it is collected


def test_a_version_that_hangs_keeps_no_other_waiting(tallied: Host) -> None:
    """While a batch of one version hangs, requests of another that need the server's threads are answered."""
    repository = InMemoryModelRepository()
    gate = Gate()
    repository.register(Batched(gate=gate))
    repository.register(Batched())
    server = tallied(repository, batching=Batching(max_batch_size=1), clock=TickingClock(10 * DEAR_MS))
    ask = functools.partial(InThread, server.predict)
    stuck = [ask(0, "1", timeout_ms=FOREVER_MS)]
    gate.wait_until_reached()
    stuck.append(ask(1, "1", timeout_ms=FOREVER_MS))
    until(lambda: queued(server) == 1)
    other = [ask(number, "2", timeout_ms=FOREVER_MS).result().value for number in range(3)]
    gate.open()
    assert (other, values(stuck)) == ([0, 10, 20], [0, 10])


def test_a_request_waits_until_it_fits(host: Host) -> None:
    """With weights, a request that does not fit stays at the front, and none that came later goes before it."""
    weights = [1, 3, 3, 2, 5]
    _, model, gate, calls = busy(host, 4, batching=Batching(max_batch_size=5, weight=lambda input: weights[input]))
    gate.open()
    assert values(calls) == [0, 10, 20, 30, 40]
    assert model.batches == [[0], [1], [2, 3], [4]]


def test_what_is_heavier_than_a_batch_goes_alone(host: Host) -> None:
    """An input heavier than ``max_batch_size`` is not refused, and shares its call with nobody."""
    _, model, gate, calls = busy(
        host, 3, batching=Batching(max_batch_size=4, weight=lambda input: 9 if input == 2 else 1)
    )
    gate.open()
    assert values(calls) == [0, 10, 20, 30]
    assert model.batches == [[0], [1], [2], [3]]


@pytest.mark.parametrize("weight", [0, -1, 1.5, None, "2", [1]])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_nonsensical_weight_is_an_invalid_input(weight: Any, is_async: bool, host: Host) -> None:
    """What weighs nothing, or no whole number, is refused before the model and before the queue."""
    model = Batched()
    server = host(model, batching=Batching(weight=lambda input: weight))
    result = asyncio.run(server.apredict(1)) if is_async else server.predict(1)
    assert (result.error.kind, model.batches) == (ErrorKind.InvalidInput, [])


def test_a_weight_that_raises_is_an_invalid_input(host: Host) -> None:
    """The function's exception is kept; the model is not called."""
    model = Batched()
    server = host(model, batching=Batching(weight=lambda input: 1 // input))
    error = server.predict(0).error
    assert (error.kind, type(error.exception), model.batches) == (ErrorKind.InvalidInput, ZeroDivisionError, [])


def test_a_weight_may_be_numpys(host: Host) -> None:
    """A whole number of numpy's is a whole number."""
    assert host(Batched(), batching=Batching(weight=lambda input: np.int64(2))).predict(1).value == 10


# --------------------------------------------------------------------------------------------------------- waiting


def test_a_request_waits_for_others_as_long_as_it_may(host: Host) -> None:
    """With ``max_wait_ms`` the first request waits for others to join until then, and no longer."""
    clock = ManualClock()
    model = Batched()
    server = host(model, batching=Batching(max_wait_ms=20.0), clock=clock)
    calls = [InThread(server.predict, 1), InThread(server.predict, 2)]
    until(lambda: queued(server) == 2)
    clock.advance(timedelta(milliseconds=19))
    assert (queued(server), model.batches) == (2, [])
    clock.advance(timedelta(milliseconds=2))
    assert sorted(values(calls)) == [10, 20]
    assert [sorted(batch) for batch in model.batches] == [[1, 2]]


def test_a_full_batch_waits_no_longer(host: Host) -> None:
    """As soon as a batch is full it begins, however long it could have waited; coroutines wait like threads."""
    server = host(Batched(), batching=Batching(max_batch_size=3, max_wait_ms=FOREVER_MS), clock=ManualClock())

    async def ask() -> list[Any]:
        results = await asyncio.gather(*(server.apredict(number) for number in range(3)))
        return [result.value for result in results]

    assert asyncio.run(asyncio.wait_for(ask(), PATIENCE)) == [0, 10, 20]


def test_closing_answers_whatever_is_queued(host: Host) -> None:
    """A server that is closed answers at once those who still wait for others to join, and refuses those who come."""
    server = host(Batched(), batching=Batching(max_wait_ms=FOREVER_MS), clock=ManualClock())
    calls = [InThread(server.predict, number) for number in range(4)]
    until(lambda: queued(server) == 4)
    server.close(timeout=PATIENCE)
    assert sorted(values(calls)) == [0, 10, 20, 30]
    assert server.predict(5).error.kind is ErrorKind.ServerClosed


def test_no_more_are_queued_than_may_be(host: Host) -> None:
    """Above ``max_queued`` a request fails at once with Overloaded, is counted as shed, and the others are answered."""
    server, _, gate, calls = busy(host, 2, batching=Batching(max_queued=2))
    refused = server.predict(3)
    gate.open()
    assert (refused.error.kind, refused.error.version_id) == (ErrorKind.Overloaded, "1")
    assert server.statistics().shed == 1
    assert values(calls) == [0, 10, 20]


def test_a_caller_who_went_away_keeps_no_place(host: Host) -> None:
    """Where the queue is full of callers who went away, a new one is taken in their place."""
    server, model, gate, calls = busy(host, 0, batching=Batching(max_queued=2))

    async def leave() -> None:
        tasks = [asyncio.ensure_future(server.apredict(number)) for number in (1, 2)]
        await asyncio.to_thread(until, lambda: queued(server) == 2)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(leave())
    calls.append(InThread(server.predict, 3))
    until(lambda: queued(server) == 1)
    gate.open()
    assert (values(calls), model.batches) == ([0, 30], [[0], [3]])


# ------------------------------------------------------------------------------------------------------- going away


def test_who_is_cancelled_in_the_queue_harms_nobody(host: Host) -> None:
    """A caller cancelled before its batch begins is taken out of it; the model never sees the input."""
    server, model, gate, calls = busy(host, 1, clock=TickingClock(10 * DEAR_MS))

    async def ask() -> list[Any]:
        tasks = [asyncio.ensure_future(server.apredict(number)) for number in (2, 3, 4)]
        await asyncio.to_thread(until, lambda: queued(server) == 4)
        tasks[1].cancel()
        await asyncio.wait([tasks[1]])
        gate.open()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, second, third = asyncio.run(ask())
    assert (first.value, type(second), third.value) == (20, asyncio.CancelledError, 40)
    assert (values(calls), model.batches[1]) == ([0, 10], [1, 2, 4])
    assert server.statistics().cancelled == 1


@pytest.mark.parametrize("count", [1, 3], ids=["one", "all"])
def test_who_is_cancelled_in_a_batch_harms_nobody(count: int, host: Host) -> None:
    """A caller cancelled while its batch runs leaves the others their answers, and is not recorded."""
    monitor = InMemoryModelMonitor()
    gate = Gate()
    model = Batched()
    server = host(
        model, batching=Batching(max_batch_size=3, max_wait_ms=FOREVER_MS), monitor=monitor, clock=ManualClock()
    )
    model.gate = gate

    async def ask() -> list[Any]:
        tasks = [asyncio.ensure_future(server.apredict(number)) for number in (1, 2, 3)]
        await asyncio.to_thread(gate.wait_until_reached)
        for task in tasks[:count]:
            task.cancel()
        await asyncio.wait(tasks[:count])
        gate.open()
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(ask())
    assert [type(left) for left in results[:count]] == [asyncio.CancelledError] * count
    until(lambda: not held(server))
    assert [result.value for result in results[count:]] == [20, 30][: 3 - count]
    assert sorted(event.input for event in monitor.events().events) == [2, 3][: 3 - count]


def test_all_of_a_batch_may_go_away(host: Host) -> None:
    """When every caller of a batch is gone, the next request is answered as if nothing had been."""
    server, model, gate, calls = busy(host, 0)

    async def leave() -> None:
        task = asyncio.ensure_future(server.apredict(1))
        await asyncio.to_thread(until, lambda: queued(server) == 1)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(leave())
    gate.open()
    assert values(calls) == [0]
    assert (server.predict(2).value, model.batches) == (20, [[0], [2]])


def test_a_call_left_by_an_interrupt_is_not_answered_later(host: Host) -> None:
    """A KeyboardInterrupt out of the model leaves through its caller; those who queued meanwhile are still answered."""
    gate = Gate()

    class Interrupted(Batched):
        def predict_batch(self, inputs: Sequence[Any]) -> list[Any]:
            gate.pass_through()
            if 0 in inputs:
                raise KeyboardInterrupt
            return super().predict_batch(inputs)

    server, _, gate_of_model, calls = busy_with(host, Interrupted(), gate)
    gate_of_model.open()
    with pytest.raises(KeyboardInterrupt):
        calls[0].result()
    assert values(calls[1:]) == [10, 20]
    assert server.statistics().cancelled == 1


def busy_with(host: Host, model: Any, gate: Gate) -> tuple[Tallied, Any, Gate, list[InThread]]:
    server = host(model, batching=Batching())
    calls = [InThread(server.predict, 0)]
    gate.wait_until_reached()
    for input in (1, 2):
        calls.append(InThread(server.predict, input))
        until(lambda input=input: queued(server) == input)
    return server, model, gate, calls


# ------------------------------------------------------------------------------------------------------- bad items


def test_a_bad_item_fails_alone_in_a_pure_model(host: Host) -> None:
    """A batch of a pure model that fails is taken apart until the inputs at fault are found."""
    _, model, gate, calls = busy(host, 6, answering={"bad": (2, 5), "is_pure": True})
    gate.open()
    assert values(calls) == [0, 10, None, 30, 40, None, 60]
    assert [call.result().success for call in calls] == [True, True, False, True, True, False, True]
    assert all([input] in model.batches for input in (2, 5))


def test_a_batch_of_an_impure_model_is_not_tried_again(host: Host) -> None:
    """Where a call might do something twice, all requests of the batch fail, and the model is called once for them."""
    server, model, gate, calls = busy(host, 3, answering={"bad": (2,)})
    gate.open()
    assert [call.result().success for call in calls] == [True, False, False, False]
    assert model.batches == [[0], [1, 2, 3]]
    assert server.predict(9).value == 90


def test_every_caller_gets_an_exception_of_its_own(host: Host) -> None:
    """Callers of a batch that failed share no exception object: what one does with its own is not the others'."""
    _, _, gate, calls = busy(host, 3, answering={"bad": (2,)})
    gate.open()
    errors = [call.result().error for call in calls[1:]]
    assert len({id(error) for error in errors}) == 3
    assert [error.kind for error in errors] == [ErrorKind.PredictionException] * 3
    assert [error.__traceback__ for error in errors] == [None] * 3
    raised = []
    for call in calls[1:]:
        with pytest.raises(type(errors[0])) as caught:
            call.result().unwrap()
        raised.append(caught.value)
    assert len({id(error) for error in [*errors, *raised]}) == 6


@pytest.mark.parametrize("answer", [[1], [], [1, 2, 3, 4], 5, None])
@pytest.mark.parametrize("is_pure", [False, True])
def test_a_wrong_number_of_answers_is_an_error(answer: Any, is_pure: bool, host: Host) -> None:
    """A model that answers three inputs with anything but three items fails them, and mixes no answers up."""

    class Miscounting(Batched):
        def predict_batch(self, inputs: Sequence[Any]) -> Any:
            super().predict_batch(inputs)
            return answer if len(inputs) == 3 else [0 for _ in inputs] if 0 in inputs else answer or ()

    _, _, gate, calls = busy(host, 3, model=Miscounting(is_pure=is_pure))
    gate.open()
    results = [call.result() for call in calls[1:]]
    if is_pure and answer == [1]:
        assert [result.value for result in results].count(1) == 3  # one by one, each has its one answer
    else:
        assert [result.error.kind for result in results] == [ErrorKind.PredictionException] * 3


@pytest.mark.parametrize("raised", [StopIteration(), StopAsyncIteration(), TimeoutError("mine"), GeneratorExit()])
def test_whatever_a_batch_raises_reaches_its_callers(raised: BaseException, host: Host) -> None:
    """What a model raises in a batch fails the requests in it, whatever it is; nobody waits for ever."""

    class Raising(Batched):
        def predict_batch(self, inputs: Sequence[Any]) -> Any:
            super().predict_batch(inputs)
            if len(inputs) > 1:
                raise raised
            return inputs

    server, _, gate, calls = busy(host, 2, model=Raising())
    gate.open()
    assert [call.result().error.kind for call in calls[1:]] == [ErrorKind.PredictionException] * 2
    assert server.predict(5).value == 5


# -------------------------------------------------------------------------------------------------------- contexts


class Contextual(Batched):
    """Answers with whose context it is called in."""

    def predict_batch(self, inputs: Sequence[Any]) -> list[Any]:
        super().predict_batch(inputs)
        return [caller.get() for _ in inputs]


def ask_as(server: Tallied, name: str) -> Any:
    caller.set(name)
    return server.predict(name).value


async def aask_as(server: Tallied, name: str) -> Any:
    caller.set(name)
    return (await server.apredict(name)).value


def test_a_batch_of_several_runs_in_nobodys_context(host: Host) -> None:
    """What one caller has set is not the others': several are answered in an empty context."""
    model = Contextual()
    server, _, gate, calls = busy(host, 0, model=model)
    calls = [InThread(contextvars.copy_context().run, ask_as, server, name) for name in ("Ann", "Ben")]
    until(lambda: queued(server) == 2)
    gate.open()
    assert [call.result() for call in calls] == ["nobody", "nobody"]


@pytest.mark.parametrize("step_ms", [DEAR_MS, 10 * DEAR_MS], ids=["on the loop", "on the thread"])
def test_a_lone_request_runs_in_its_own_context(step_ms: float, host: Host) -> None:
    """Who shares a call with nobody is answered in the context it asked in, on whatever thread that is."""
    server = host(Contextual(), batching=Batching(), clock=TickingClock(step_ms))

    async def ask() -> Any:
        return await asyncio.create_task(aask_as(server, "Ben"))

    in_turn = [contextvars.copy_context().run(ask_as, server, "Ann"), asyncio.run(ask())]
    in_time = contextvars.copy_context().run(lambda: (caller.set("Cem"), server.predict(0, timeout_ms=FOREVER_MS))[1])
    assert [*in_turn, in_time.value] == ["Ann", "Ben", "Cem"]


# ------------------------------------------------------------------------------------------------------- the thread


class StumblingClock(TickingClock):
    """Raises once, when the batcher's own thread asks for the time after it was told to."""

    def __init__(self, step_ms: float) -> None:
        super().__init__(step_ms)
        self.is_armed = False

    def monotonic(self) -> float:
        if self.is_armed and threading.current_thread().name == "mlserve-batcher":
            self.is_armed = False
            raise RuntimeError("the clock stumbled")
        return super().monotonic()


def batcher_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "mlserve-batcher"]


def batcher_check(server: Tallied) -> Any:
    return next(check for check in server.check_health().checks if check.name == "batcher")


def test_a_thread_that_dies_with_work_is_started_again_at_once(host: Host) -> None:
    """A request that is queued when the batcher's thread dies is answered by the next one; health tells of it."""
    clock = StumblingClock(10 * DEAR_MS)
    server = host(Batched(), batching=Batching(), clock=clock, synthetic_input=1)
    assert batcher_check(server).status is CheckStatus.PASS
    clock.is_armed = True
    assert server.predict(1, timeout_ms=FOREVER_MS).value == 10
    assert (clock.is_armed, batcher_check(server).detail) == (False, "1 restarts")


def test_health_sees_a_thread_that_died_and_starts_it_again(host: Host) -> None:
    """A thread that dies when nothing is queued is found by the next check, which warns, and fine at the one after."""
    clock = StumblingClock(10 * DEAR_MS)
    server = host(Batched(), batching=Batching(), clock=clock, synthetic_input=1)
    server.predict(1, timeout_ms=FOREVER_MS)
    before = len(batcher_threads())
    clock.is_armed = True
    server._parts.batcher.batches.threads.stop()  # wakes it, and nothing else
    until(lambda: len(batcher_threads()) < before)
    found = [batcher_check(server).status, batcher_check(server).status]
    assert found == [CheckStatus.WARN, CheckStatus.PASS]
    assert server.predict(2, timeout_ms=FOREVER_MS).value == 20


def test_a_model_that_ends_the_thread_ends_nothing_else(host: Host) -> None:
    """SystemExit out of a model fails the requests of its batch; those after it are answered."""

    class Leaving(Batched):
        def predict_batch(self, inputs: Sequence[Any]) -> list[Any]:
            super().predict_batch(inputs)
            if 1 in inputs:
                raise SystemExit
            return list(inputs)

    server, _, gate, calls = busy(host, 0, model=Leaving(), batching=Batching(max_batch_size=1))
    calls += [InThread(server.predict, number, timeout_ms=FOREVER_MS) for number in (1,)]
    until(lambda: queued(server) == 1)
    calls.append(InThread(server.predict, 2, timeout_ms=FOREVER_MS))
    until(lambda: queued(server) == 2)
    gate.open()
    results = [call.result() for call in calls]
    assert [result.success for result in results] == [True, False, True]
    assert "interrupted" in results[1].error.message


def test_a_thread_without_work_ends(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is never closed keeps no thread: without work it ends, and a later request starts it again."""
    monkeypatch.setattr(_batch_threads, "IDLE_SECONDS", 0.001)
    server = host(Batched(), batching=Batching(), clock=TickingClock(10 * DEAR_MS))
    server.predict(1, timeout_ms=FOREVER_MS)
    own = server._parts.batcher.batches
    until(lambda: own.threads._all()[0]._thread is None)
    assert server.predict(2, timeout_ms=FOREVER_MS).value == 20
    assert own.threads.deaths == 0


def test_a_forked_child_goes_on_batching(host: Host) -> None:
    """A child forked while the parent's batch is running waits neither for that batch nor for the parent's thread."""
    server, model, gate, calls = busy(host, 2)

    def ask() -> list[Any]:
        model.gate = None
        return [server.predict(8).value, server.predict(9, timeout_ms=FOREVER_MS).value, held(server)]

    found = in_child(ask)
    gate.open()
    assert (found, values(calls)) == ([80, 90, 0], [0, 10, 20])


# ----------------------------------------------------------------------------------------------- cheap and one by one


def test_a_cheap_model_is_called_directly(host: Host) -> None:
    """A model whose call takes next to nothing, as measured, is called by each caller for itself."""
    model = Batched()
    server = host(model, batching=Batching(), clock=ManualClock())
    server.predict(0)

    async def ask() -> list[Any]:
        return [result.value for result in await asyncio.gather(*(server.apredict(number) for number in range(20)))]

    assert asyncio.run(ask()) == [number * 10 for number in range(20)]
    assert (server.statistics().batches, {len(batch) for batch in model.batches}) == (0, {1})


def test_a_model_that_answers_one_at_a_time_is_not_batched(host: Host) -> None:
    """A callable is called for each request as without batching."""
    server = host(lambda x: x + 1, batching=Batching(), clock=TickingClock(10 * DEAR_MS))
    assert [result.value for result in all_at_once(8, server.predict)] == list(range(1, 9))
    assert server.statistics().batches == 0


def test_a_lone_request_is_handed_to_nobody(host: Host) -> None:
    """A thread that finds nobody else about calls the model itself."""
    seen: list[int] = []

    class Noting(Batched):
        def predict_batch(self, inputs: Sequence[Any]) -> list[Any]:
            seen.append(threading.get_ident())
            return super().predict_batch(inputs)

    server = host(Noting(), batching=Batching(), clock=TickingClock(DEAR_MS))
    assert [server.predict(number).value for number in range(3)] == [0, 10, 20]
    assert set(seen) == {threading.get_ident()}


@pytest.mark.parametrize("step_ms", [DEAR_MS, 10 * DEAR_MS], ids=["short", "long"])
def test_a_long_batch_does_not_block_a_loop(step_ms: float, host: Host) -> None:
    """A batch is run on the event loop only where it is shorter than ``inline_below_ms``."""
    seen: set[bool] = set()

    class Noting(Batched):
        def predict_batch(self, inputs: Sequence[Any]) -> list[Any]:
            seen.add(threading.current_thread() is threading.main_thread())
            return super().predict_batch(inputs)

    server = host(Noting(), batching=Batching(), limits=Limits(inline_below_ms=0.5), clock=TickingClock(step_ms))
    server.predict(0)
    seen.clear()

    async def ask() -> None:
        await asyncio.gather(*(server.apredict(number) for number in range(5)))

    for _ in range(3):
        asyncio.run(ask())
    assert seen == {step_ms < 0.5}


def test_what_comes_while_a_loop_runs_a_batch_is_the_loops_next(host: Host) -> None:
    """More than a batch on one loop: it runs one after the other, with all its callers answered."""
    server = host(Batched(), batching=Batching(max_batch_size=4), clock=TickingClock(DEAR_MS))
    server.predict(0)

    async def ask() -> list[Any]:
        return [result.value for result in await asyncio.gather(*(server.apredict(number) for number in range(10)))]

    assert asyncio.run(ask()) == [number * 10 for number in range(10)]
    assert asyncio.run(ask()) == [number * 10 for number in range(10)]


# ------------------------------------------------------------------------------------------------------- concurrency


class Counting(Batched):
    """Notes how many of its calls ran at once."""

    def __init__(self) -> None:
        super().__init__(is_pure=True)
        self._lock = threading.Lock()
        self._running = 0
        self.most = 0

    def predict_batch(self, inputs: Sequence[Any]) -> list[Any]:
        with self._lock:
            self._running += 1
            self.most = max(self.most, self._running)
        threading.Event().wait(0.0005)  # not for time to pass, but to let others in
        with self._lock:
            self._running -= 1
        return [input * 10 for input in inputs]


def test_whatever_calls_a_model_takes_its_turn(host: Host) -> None:
    """A model that is not thread-safe is called by one batch, many inputs, timed call or health check at once."""
    model = Counting()
    server = host(model, batching=Batching(max_batch_size=3), concurrency=1, example=1)

    def ask(index: int) -> list[Any]:
        if index == 0:
            return [server.check_health().is_healthy for _ in range(15)]
        if index < 3:
            return [server.predict_many([index, number])[1].value == number * 10 for number in range(15)]
        if index < 5:
            return [server.predict(number, timeout_ms=FOREVER_MS).value == number * 10 for number in range(15)]
        return [server.predict(number).value == number * 10 for number in range(15)]

    found = all_at_once(8, ask)
    assert all(all(some) for some in found)
    assert model.most == 1


def test_several_batches_may_run_at_once(host: Host) -> None:
    """With ``concurrency`` 2, two batches of one version run at once and never three; every answer is right."""
    model = Counting()
    server = host(model, batching=Batching(max_batch_size=2), concurrency=2)
    found = all_at_once(8, lambda index: [server.predict(index * 100 + number).value for number in range(30)])
    assert found == [[(index * 100 + number) * 10 for number in range(30)] for index in range(8)]
    assert model.most <= 2


# ------------------------------------------------------------------------------------------------------- what it is of


def test_whom_a_batched_request_is_for_is_recorded(host: Host) -> None:
    """The key of an awaiting caller is recorded with its event, as without batching."""
    monitor = InMemoryModelMonitor()
    server = host(Batched(), monitor=monitor, batching=Batching(), clock=TickingClock(DEAR_MS))
    server.predict(0)
    assert asyncio.run(server.apredict(1, key="Ann")).value == 10
    assert [event.key for event in monitor.events().events] == [None, "Ann"]


def test_a_version_that_was_replaced_answers_those_in_its_queue(tallied: Host) -> None:
    """Requests queued for a version that is dropped meanwhile are answered by it, and then it is let go of."""
    repository = MakingRepository()
    gate = Gate()
    repository.register(lambda: Batched(gate=gate))
    server = tallied(
        repository,
        batching=Batching(),
        clock=TickingClock(10 * DEAR_MS),
        cache=CachePolicy(max_loaded=1, keep_active=1, refresh_seconds=1e9),
    )
    calls = [InThread(server.predict, 0)]
    gate.wait_until_reached()

    async def ask() -> Any:
        task = asyncio.ensure_future(server.apredict(1))
        await asyncio.to_thread(until, lambda: queued(server) == 1)
        repository.register(lambda: Batched())
        server.refresh()
        assert server.statistics().loaded_models == ("1", "2")
        gate.open()
        return await task

    with nothing_logged():
        result = asyncio.run(ask())
        assert (result.value, result.version.id, values(calls)) == (10, "1", [0])
        until(lambda: server.statistics().loaded_models == ("2",))


# --------------------------------------------------------------------------------------------------------- deadlines


def test_what_is_too_late_never_reaches_the_model(host: Host) -> None:
    """A queued request whose time is up is answered as DeadlineExceeded and taken out of the queue."""
    clock = ManualClock()
    server, model, gate, calls = busy(host, 1, clock=clock)
    late = InThread(server.predict, 2, timeout_ms=60_000)
    until(lambda: queued(server) == 2)

    async def ask() -> Any:
        task = asyncio.ensure_future(server.apredict(3, timeout_ms=60_000))
        await asyncio.to_thread(until, lambda: queued(server) == 3)
        clock.advance(timedelta(seconds=61))
        gate.open()
        return await task

    assert asyncio.run(ask()).error.kind is ErrorKind.DeadlineExceeded
    assert late.result().error.kind is ErrorKind.DeadlineExceeded
    assert (values(calls), model.batches) == ([0, 10], [[0], [1]])


@pytest.mark.parametrize("is_async", [False, True])
def test_who_waits_too_long_for_a_batch_goes_away(is_async: bool, host: Host) -> None:
    """A caller whose time is up while the model is busy is told at once; the model never sees its input."""
    server, model, gate, calls = busy(host, 0)
    result = asyncio.run(server.apredict(1, timeout_ms=20)) if is_async else server.predict(1, timeout_ms=20)
    gate.open()
    assert result.error.kind is ErrorKind.DeadlineExceeded
    assert (values(calls), server.predict(2).value, model.batches) == ([0], 20, [[0], [2]])


# ------------------------------------------------------------------------------------------------ threads that lead


def in_callers_hands(calls: Sequence[InThread]) -> list[Any]:
    """Of each call what came of it: a value, a kind of error, or the name of what it raised."""
    outcomes: list[Any] = []
    for call in calls:
        try:
            result = call.result()
            outcomes.append(result.value if result.success else result.error.kind)
        except BaseException as error:
            outcomes.append(type(error).__name__)
    return outcomes


def test_an_interrupt_hits_who_runs_the_batch_and_fails_the_others(host: Host) -> None:
    """KeyboardInterrupt out of a batch is raised where it ran; whoever waited for that batch fails, and is told."""

    class Interrupted(Batched):
        def predict_batch(self, inputs: Sequence[Any]) -> list[Any]:
            if len(inputs) > 1:
                raise KeyboardInterrupt
            return super().predict_batch(inputs)

    _, _, gate, calls = busy(host, 3, model=Interrupted())
    gate.open()
    outcomes = in_callers_hands(calls)
    assert outcomes[0] == 0
    assert sorted(map(str, outcomes[1:])) == ["KeyboardInterrupt", *[str(ErrorKind.PredictionException)] * 2]


def test_an_interrupt_spares_who_was_answered_before(host: Host) -> None:
    """Where a batch was taken apart, an interrupt in one part leaves the answers of the parts before it."""

    class Fragile(Batched):
        def predict_batch(self, inputs: Sequence[Any]) -> list[Any]:
            if len(inputs) > 1:
                raise ValueError("together")
            if inputs == [2]:
                raise KeyboardInterrupt
            return super().predict_batch(inputs)

    _, _, gate, calls = busy(host, 2, model=Fragile(is_pure=True))
    gate.open()
    outcomes = in_callers_hands(calls)
    assert outcomes[:2] in ([0, 10], [0, "KeyboardInterrupt"])
    assert outcomes[2] in (ErrorKind.PredictionException, "KeyboardInterrupt")


def test_few_callers_of_a_short_model_do_not_wait_for_each_other(host: Host) -> None:
    """Where a batch would spare less than waiting for each other costs, a second caller is answered at once."""
    gate = Gate()

    class Stuck(Batched):
        def predict_batch(self, inputs: Sequence[Any]) -> list[Any]:
            if 0 in inputs:
                gate.pass_through()
            return super().predict_batch(inputs)

    server = host(Stuck(), batching=Batching(), clock=TickingClock(DEAR_MS))
    server.predict(1)
    stuck = InThread(server.predict, 0)
    gate.wait_until_reached()
    second = server.predict(2).value
    gate.open()
    assert (second, stuck.result().value) == (20, 0)


def test_a_batch_stays_open_while_others_come(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that runs a batch lets others come first, for as long as one more does at every look."""
    late: list[InThread] = []

    def let_one_come() -> None:
        if len(late) < 2:
            late.append(InThread(server.predict, 8 + len(late)))
            count = 1 + len(late)
            until(lambda: queued(server) == count)

    server, model, gate, calls = busy(host, 1, clock=TickingClock(10 * DEAR_MS))
    monkeypatch.setattr(_batching, "GATHER_SECONDS", PATIENCE)
    monkeypatch.setattr(_batching, "give_way", let_one_come)
    gate.open()
    assert (values(calls), values(late)) == ([0, 10], [80, 90])
    assert model.batches == [[0], [1, 8, 9]]


def test_who_waits_for_others_is_not_forgotten_when_a_batch_is_full(host: Host) -> None:
    """With ``max_wait_ms``, what a full batch leaves in the queue is answered too."""
    _, model, gate, calls = busy(host, 3, batching=Batching(max_batch_size=2, max_wait_ms=1.0))
    gate.open()
    assert (sorted(values(calls)), sum(map(len, model.batches))) == ([0, 10, 20, 30], 4)
