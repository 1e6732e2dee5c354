"""Limits and turns: who is too many is told at once, and a model is called by no more at once than it stands."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

import numpy as np
import pytest
from serving_doubles import PATIENCE, Batched, Gate, InThread, Tallied, all_at_once, held, until
from test_serving_fork import in_child

from mlserve import Batching, ErrorKind, InMemoryModelMonitor, InMemoryModelRepository, Limits, ModelServer
from mlserve.errors import InvalidArgumentError, OverloadedError
from mlserve.records import HealthState
from mlserve.serving import PreviousVersion, StaticAnswer, _pool
from mlserve.serving._guards import _release

Host = Callable[..., Tallied]
FOREVER_MS = 1e9


class Waiting:
    """Answers one more than its input, when its gate is open; keeps what it was asked."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.seen: list[Any] = []

    def __call__(self, input: Any) -> Any:
        self.seen.append(input)
        self.gate.pass_through()
        return input + 1


class AwaitingModel:
    """The same, awaited: its gate belongs to one event loop."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.seen: list[Any] = []

    async def __call__(self, input: Any) -> Any:
        self.seen.append(input)
        await asyncio.wait_for(self.gate.wait(), PATIENCE)
        return input + 1


def waiting_turns(server: Tallied) -> int:
    """Requests that wait for their turn, which a server does not tell apart from others in flight."""
    return sum(not request.is_left for request in server._parts.guarded.guards._waiting)


async def eventually(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(until, condition)


# ------------------------------------------------------------------------------------------------------- in flight


def test_no_more_are_under_way_than_may_be(host: Host) -> None:
    """Of many callers at once exactly ``max_in_flight`` are let in; the others fail at once with Overloaded."""
    model = Waiting()
    server = host(model, limits=Limits(max_in_flight=3))
    calls = [InThread(server.predict, number) for number in range(8)]
    until(lambda: sum(not call.is_running for call in calls) == 5)
    assert server.statistics().in_flight == 3
    model.gate.open()
    kinds = [result.error and result.error.kind for result in (call.result() for call in calls)]
    assert (kinds.count(None), kinds.count(ErrorKind.Overloaded)) == (3, 5)
    assert server.statistics().shed == 5


def test_a_place_is_free_again_when_its_request_ends(host: Host) -> None:
    """However a request ends, the next one has its place."""

    def model(input: Any) -> Any:
        if input == "leave":
            raise KeyboardInterrupt
        return 1 / input

    server = host(model, limits=Limits(max_in_flight=1))
    for _ in range(3):
        assert server.predict(0).error.kind is ErrorKind.PredictionException
        with pytest.raises(KeyboardInterrupt):
            server.predict("leave")
    assert server.predict(2).value == 0.5


def test_awaiting_callers_are_counted_as_well(host: Host) -> None:
    """Coroutines and threads share one limit."""
    model = Waiting()
    server = host(model, limits=Limits(max_in_flight=2))

    async def ask() -> list[Any]:
        tasks = [asyncio.ensure_future(server.apredict(number)) for number in range(2)]
        await eventually(lambda: len(model.seen) == 2)
        refused = [await server.apredict(2), server.predict(3)]
        model.gate.open()
        return [*refused, *await asyncio.gather(*tasks)]

    results = asyncio.run(ask())
    assert [result.error and result.error.kind for result in results] == [ErrorKind.Overloaded] * 2 + [None] * 2


def test_each_of_many_inputs_counts(host: Host) -> None:
    """``predict_many`` takes as many places as it has inputs, and is refused whole where there are fewer."""
    server = host(lambda x: x, limits=Limits(max_in_flight=3))
    assert [result.value for result in server.predict_many([1, 2, 3])] == [1, 2, 3]
    refused = server.predict_many([1, 2, 3, 4])
    assert [result.error.kind for result in refused] == [ErrorKind.Overloaded] * 4
    assert len({id(result.error) for result in refused}) == 4


def test_who_is_under_way_is_told(host: Host) -> None:
    """Statistics count each input of ``predict_many`` as in flight, and as a lease of its version."""
    model = Batched(gate=Gate())
    server = host(model)
    call = InThread(server.predict_many, [1, 2, 3])
    model.gate.wait_until_reached()
    found = server.statistics()
    model.gate.open()
    assert (found.in_flight, dict(found.leases)) == (3, {"1": 3})
    assert len(call.result()) == 3


# ---------------------------------------------------------------------------------------------------------- threads


@pytest.mark.parametrize("is_async", [False, True])
def test_no_more_wait_for_a_thread_than_may(is_async: bool, host: Host) -> None:
    """With every thread of the pool busy and ``max_queued`` waiting, a further call fails at once with Overloaded."""
    model = Waiting()
    server = host(model, limits=Limits(max_queued=2), example=None)
    server.check_health()  # loads it
    calls = [InThread(server.predict, number, timeout_ms=FOREVER_MS) for number in range(_pool.MOST_THREADS)]
    until(lambda: len(model.seen) == _pool.MOST_THREADS)
    # Each of these waits for a thread with its acquisition of the version.
    calls += [InThread(server.predict, 100 + number, timeout_ms=FOREVER_MS) for number in range(2)]
    until(lambda: len(server._parts.cache.loaded[0].pool._work) == 2)
    refused = asyncio.run(server.apredict(200, "1")) if is_async else server.predict(200, timeout_ms=FOREVER_MS)
    model.gate.open()
    assert refused.error.kind is ErrorKind.Overloaded
    assert all(call.result().success for call in calls)


def test_many_inputs_are_refused_like_others(host: Host) -> None:
    """Where no thread is left for ``apredict_many``, each of its inputs is a failed result; it raises nothing."""
    model = Waiting()
    server = host(model, limits=Limits(max_queued=1))

    async def ask() -> list[Any]:
        tasks = [asyncio.ensure_future(server.apredict_many([number])) for number in range(_pool.MOST_THREADS)]
        await eventually(lambda: len(model.seen) == _pool.MOST_THREADS)
        tasks.append(asyncio.ensure_future(server.apredict_many([50])))
        await eventually(lambda: len(server._parts.guarded.guards.threads.waiting._work) == 1)
        refused = await server.apredict_many([100, 101])
        model.gate.open()
        return [refused, *await asyncio.gather(*tasks)]

    refused, *others = asyncio.run(ask())
    assert [result.error.kind for result in refused] == [ErrorKind.Overloaded] * 2
    assert all(results[0].success for results in others)


# ------------------------------------------------------------------------------------------------------------ turns


def test_a_model_is_called_by_so_many_at_once(host: Host) -> None:
    """With ``concurrency`` 2 a third caller waits until one of two has its answer."""
    model = Waiting()
    server = host(model, concurrency=2)
    calls = [InThread(server.predict, number) for number in range(3)]
    until(lambda: waiting_turns(server) == 1)
    assert len(model.seen) == 2
    model.gate.open()
    assert [call.result().value for call in calls] == [1, 2, 3]


def test_turns_belong_to_a_version(tallied: Host) -> None:
    """A version that is busy keeps no request for another waiting."""
    repository = InMemoryModelRepository()
    slow = Waiting()
    repository.register(slow)
    repository.register(lambda x: x)
    server = tallied(repository, concurrency=1)
    call = InThread(server.predict, 0, "1")
    slow.gate.wait_until_reached()
    assert server.predict(5).value == 5
    slow.gate.open()
    assert call.result().value == 1


def test_no_more_wait_for_their_turn_than_may(host: Host) -> None:
    """With ``max_queued`` waiting for their turn, a further request fails at once with Overloaded."""
    model = Waiting()
    server = host(model, concurrency=1, limits=Limits(max_queued=1))
    calls = [InThread(server.predict, 0)]
    model.gate.wait_until_reached()
    calls.append(InThread(server.predict, 1))
    until(lambda: waiting_turns(server) == 1)
    refused = server.predict(2)
    model.gate.open()
    assert refused.error.kind is ErrorKind.Overloaded
    assert [call.result().value for call in calls] == [1, 2]


def test_health_is_not_refused_its_turn(host: Host) -> None:
    """A queue that is full says nothing against a model: the check waits for its turn, and the server is healthy."""
    model = Waiting()
    server = host(model, concurrency=1, limits=Limits(max_queued=1), synthetic_input=7)
    calls = [InThread(server.predict, 0)]
    model.gate.wait_until_reached()
    calls.append(InThread(server.predict, 1))
    until(lambda: waiting_turns(server) == 1)
    check = InThread(server.check_health)
    model.gate.open()
    assert check.result().status is HealthState.HEALTHY
    assert (sorted(model.seen), [call.result().value for call in calls]) == ([0, 1, 7], [1, 2])


def test_coroutines_take_turns_without_blocking_their_loop(host: Host) -> None:
    """With ``concurrency`` 1 a coroutine model is awaited by one request after the other, while the loop goes on."""

    async def ask() -> tuple[list[Any], list[Any]]:
        model = AwaitingModel()
        server = host(model, concurrency=1)
        tasks = [asyncio.ensure_future(server.apredict(number)) for number in range(3)]
        await eventually(lambda: waiting_turns(server) == 2)
        seen = list(model.seen)
        model.gate.set()
        return seen, [result.value for result in await asyncio.gather(*tasks)]

    seen, answers = asyncio.run(ask())
    assert (len(seen), answers) == (1, [1, 2, 3])


def test_a_coroutine_whose_turn_comes_too_late_is_told_in_time(host: Host) -> None:
    """A request that waits for its turn at a coroutine model is answered at its deadline; the turn is not lost."""

    async def ask() -> list[Any]:
        model = AwaitingModel()
        server = host(model, concurrency=1)
        first = asyncio.ensure_future(server.apredict(0))
        await eventually(lambda: len(model.seen) == 1)
        late = await asyncio.wait_for(server.apredict(1, timeout_ms=20), PATIENCE)
        model.gate.set()
        return [(await first).value, late.error.kind, (await server.apredict(2)).value, model.seen]

    assert asyncio.run(ask()) == [1, ErrorKind.DeadlineExceeded, 3, [0, 2]]


def test_a_coroutine_that_is_cancelled_waiting_hands_its_turn_on(host: Host) -> None:
    """A request cancelled while it waits for its turn keeps nobody else from having theirs."""

    async def ask() -> list[Any]:
        model = AwaitingModel()
        server = host(model, concurrency=1)
        tasks = [asyncio.ensure_future(server.apredict(number)) for number in range(3)]
        await eventually(lambda: waiting_turns(server) == 2)
        tasks[1].cancel()
        await asyncio.wait([tasks[1]])
        model.gate.set()
        answers = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), PATIENCE)
        return [answers[0].value, type(answers[1]), answers[2].value, (await server.apredict(9)).value]

    assert asyncio.run(ask()) == [1, asyncio.CancelledError, 3, 10]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_turn_that_comes_too_late_is_not_taken(is_async: bool, host: Host) -> None:
    """A request whose time is up while it waits for its turn never reaches the model."""
    model = Waiting()
    server = host(model, concurrency=1)
    first = InThread(server.predict, 0)
    model.gate.wait_until_reached()
    late = asyncio.run(server.apredict(1, timeout_ms=20)) if is_async else server.predict(1, timeout_ms=20)
    until(lambda: waiting_turns(server) == 0)
    model.gate.open()
    assert (late.error.kind, first.result().value) == (ErrorKind.DeadlineExceeded, 1)
    assert (server.predict(2).value, model.seen) == (3, [0, 2])


@pytest.mark.parametrize("is_coroutine", [False, True])
def test_who_left_takes_neither_a_place_nor_a_turn(is_coroutine: bool, host: Host) -> None:
    """A caller who was cancelled while it waited for its turn makes room for another, and never reaches the model."""

    async def ask() -> list[Any]:
        model: Any = AwaitingModel() if is_coroutine else Waiting()
        server = host(model, concurrency=1, limits=Limits(max_queued=2))
        first = asyncio.ensure_future(server.apredict(0))
        await eventually(lambda: model.seen == [0])
        left = [asyncio.ensure_future(server.apredict(number)) for number in (1, 2)]
        await eventually(lambda: waiting_turns(server) == 2)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        second = asyncio.ensure_future(server.apredict(3))
        await eventually(lambda: waiting_turns(server) == 1)
        model.gate.set() if is_coroutine else model.gate.open()
        return [[(await task).value for task in (first, second)], model.seen]

    assert asyncio.run(ask()) == [[1, 4], [0, 3]]


def test_a_call_that_waits_for_a_thread_goes_with_its_caller() -> None:
    """A call that is cancelled while it waits for a thread leaves its place, and what it was to be told with it."""

    class Input:
        pass

    pool, gate = _pool.WorkerPool(1, max_threads=1), Gate()
    stuck = pool.submit(gate.pass_through)
    gate.wait_until_reached()
    input = Input()
    alive = weakref.ref(input)
    waiting = pool.submit(partial(str, input))
    with pytest.raises(OverloadedError):
        pool.submit(int)
    del input
    assert (waiting.cancel(), waiting.cancel(), alive()) == (True, True, None)
    another = pool.submit(int)
    gate.open()
    assert (another.result(PATIENCE), stuck.result(PATIENCE), waiting.cancelled(), stuck.cancel()) == (
        0, None, True, False
    )  # fmt: skip


@pytest.mark.parametrize("is_async", [False, True])
def test_a_fallback_whose_turn_comes_too_late_does_not_take_it(is_async: bool, tallied: Host) -> None:
    """A previous version that is asked for help and busy is not waited for beyond the deadline, by no thread either."""
    model, repository = Waiting(), InMemoryModelRepository()
    repository.register(model)
    repository.register(Batched(bad=[1]))
    server = tallied(repository, concurrency=1, fallbacks=[PreviousVersion(), StaticAnswer(7)])
    first = InThread(server.predict, 0, "1")
    model.gate.wait_until_reached()
    helped = asyncio.run(server.apredict(1, timeout_ms=20)) if is_async else server.predict(1, timeout_ms=20)
    helping = server._parts.guarded.guards.threads.helping
    until(lambda: not helping._work and helping._idle == helping._threads)
    model.gate.open()
    assert (helped.value, first.result().value, model.seen) == (7, 1, [0])


def test_a_forked_child_finds_every_turn_free(host: Host) -> None:
    """A child forked while a request of the parent is at the model neither waits for it nor counts it."""
    model = Waiting()
    server = host(model, concurrency=1, limits=Limits(max_in_flight=1))
    call = InThread(server.predict, 0)
    model.gate.wait_until_reached()

    def ask() -> list[Any]:
        model.gate = Gate()
        model.gate.open()
        found = [server.predict(5).value, server.predict(6).value, held(server)]
        server.close(timeout=PATIENCE)
        return found

    found = in_child(ask)
    model.gate.open()
    assert (found, call.result().value) == ([6, 7, 0], 1)


@pytest.mark.parametrize("options", [{"concurrency": 1}, {"batching": Batching()}, {"limits": Limits(max_in_flight=9)}])
def test_a_model_that_forks_answers_in_both(options: dict[str, Any], host: Host) -> None:
    """A request out of whose model the process forks ends in the child as in the parent."""
    here: list[int] = []

    class Forking(Batched):
        def predict_batch(self, inputs: Any) -> list[Any]:
            if not here:
                here.append(1)
                here.append(in_child(lambda: [0]) == [0])
            return super().predict_batch(inputs)

    server = host(Forking(), **options)
    assert (server.predict(1).value, here) == (10, [1, True])


# -------------------------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize("timeout_ms", ["1", b"1", [1], {}, object(), float("nan"), 1j])
def test_a_time_limit_is_a_number(timeout_ms: Any, host: Host) -> None:
    """What is no number of milliseconds is a mistake in the code that calls: it is raised, and no request counts."""
    server = host(lambda x: x)
    with pytest.raises(InvalidArgumentError, match="timeout_ms"):
        server.server.predict(1, timeout_ms=timeout_ms)
    with pytest.raises(InvalidArgumentError, match="timeout_ms"):
        asyncio.run(server.server.apredict(1, timeout_ms=timeout_ms))
    with pytest.raises(InvalidArgumentError, match="timeout_ms"):
        server.server.predict_many([1], timeout_ms=timeout_ms)
    assert server.statistics().accepted == 0


@pytest.mark.parametrize("timeout_ms", [float("inf"), 10**400, 1e300, np.float32(1e6), np.int64(10**6), 10_000])
def test_any_number_is_a_time_limit(timeout_ms: Any, host: Host) -> None:
    """A time limit may be as long as it likes, and of numpy's kinds."""
    server = host(lambda x: x)
    found = [server.predict(1, timeout_ms=timeout_ms), asyncio.run(server.apredict(1, timeout_ms=timeout_ms))]
    assert [result.value for result in found] == [1, 1]


@pytest.mark.parametrize("concurrency", [0, -1, 1.5, "1", float("inf")])
def test_concurrency_is_a_whole_number(concurrency: Any) -> None:
    """A model is called by one, two, three, ... at once."""
    with pytest.raises(InvalidArgumentError, match="concurrency"):
        ModelServer(InMemoryModelRepository(), InMemoryModelMonitor(), concurrency=concurrency)


@pytest.mark.parametrize("name", ["", None, 3, b"model"])
def test_a_name_is_a_text(name: Any) -> None:
    """Prediction ids begin with a name."""
    with pytest.raises(InvalidArgumentError, match="name"):
        ModelServer(InMemoryModelRepository(), InMemoryModelMonitor(), name=name)


def test_turns_under_load(host: Host) -> None:
    """Threads with and without time limits, for single and many inputs: every answer is right, no turn is lost."""
    server = host(lambda x: x + 1, concurrency=2, limits=Limits(max_in_flight=1000, default_timeout_ms=FOREVER_MS))

    def ask(index: int) -> bool:
        return all(
            server.predict(number, timeout_ms=FOREVER_MS if index % 2 else None).value == number + 1
            and [result.value for result in server.predict_many([index, number])] == [index + 1, number + 1]
            for number in range(10)
        )

    assert all(all_at_once(8, ask))


@pytest.mark.parametrize("ended", ["taken", "refused", "never asked"])
def test_a_turn_that_nobody_waits_for_any_more_is_handed_on(ended: str) -> None:
    """A turn that comes after its caller went away is handed on, and one that never came is not made up."""
    gate, future = threading.Semaphore(0), Future[None]()
    if ended == "taken":
        future.set_result(None)
    elif ended == "refused":
        future.set_exception(RuntimeError("too many wait"))
    else:
        future.cancel()
    _release(gate, future)
    assert gate.acquire(blocking=False) is (ended == "taken")
