"""Deadlines: a caller is told in time; what is under way goes on, and keeps its model until it ends."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from serving_doubles import (
    PATIENCE,
    Batched,
    ChoosingRouter,
    FullRepository,
    Gate,
    InThread,
    MakingRepository,
    Tallied,
    ThreeMethodRepository,
    background_ended,
    held,
    is_garbage,
    nothing_logged,
    too_late,
    until,
)

from mlserve import Batching, CachePolicy, ErrorKind, InMemoryModelRepository, Limits
from mlserve.clocks import ManualClock
from mlserve.errors import DeadlineExceededError
from mlserve.records import Route
from mlserve.serving import PreviousVersion, StaticAnswer, _pool

Host = Callable[..., Tallied]

SOON_MS = 20.0
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


def ask(server: Tallied, is_async: bool, *args: Any, **kwargs: Any) -> Any:
    if is_async:
        return asyncio.run(asyncio.wait_for(server.apredict(*args, **kwargs), PATIENCE))
    return server.predict(*args, **kwargs)


both = pytest.mark.parametrize("is_async", [False, True], ids=["waiting", "awaiting"])


@both
def test_a_caller_is_told_in_time(is_async: bool, host: Host) -> None:
    """A call that takes too long fails with DeadlineExceeded, which names version and limit and is a TimeoutError."""
    model = Waiting()
    server = host(model)
    limits: list[float] = []

    def with_limit(timeout_ms: float) -> Any:
        limits.append(timeout_ms)
        return ask(server, is_async, 0, timeout_ms=timeout_ms)

    result = too_late(with_limit, lambda _: bool(model.seen))
    model.gate.open()
    assert (result.error.kind, result.error.version_id) == (ErrorKind.DeadlineExceeded, "1")
    assert isinstance(result.error, TimeoutError)
    assert f"within {limits[-1]:g} ms" in result.error.message
    assert server.statistics().timed_out == len(limits)


@both
def test_what_is_answered_in_time_is_an_answer(is_async: bool, host: Host) -> None:
    """A time limit that is kept changes nothing."""
    server = host(lambda x: x + 1)
    assert [ask(server, is_async, number, timeout_ms=FOREVER_MS).value for number in range(3)] == [1, 2, 3]


@both
@pytest.mark.parametrize("timeout_ms", [0, -1, -1e300])
def test_a_time_limit_that_is_past_calls_nobody(timeout_ms: float, is_async: bool, tallied: Host) -> None:
    """A request whose time was up before it came is refused: neither the repository nor the model is asked."""
    repository = FullRepository()
    model = Waiting()
    repository.register(model)
    server = tallied(repository)
    result = ask(server, is_async, 0, timeout_ms=timeout_ms)
    assert (result.error.kind, model.seen, sum(repository.calls.values())) == (ErrorKind.DeadlineExceeded, [], 0)


@both
def test_every_call_may_have_a_time_limit(is_async: bool, host: Host) -> None:
    """``default_timeout_ms`` holds for a call that names none; one that is named replaces it."""
    model = Waiting()
    server = host(model, limits=Limits(default_timeout_ms=SOON_MS))
    assert ask(server, is_async, 0).error.kind is ErrorKind.DeadlineExceeded
    longer = InThread(ask, server, is_async, 1, timeout_ms=FOREVER_MS)
    until(lambda: 1 in model.seen)
    model.gate.open()
    assert longer.result().value == 2


@pytest.mark.parametrize("batching", [None, Batching()], ids=["alone", "batched"])
@both
def test_a_call_under_way_keeps_its_model(is_async: bool, batching: Any, tallied: Host) -> None:
    """A model whose caller was told is not dropped while it computes, and is when it ends."""
    gate = Gate()

    class Model:
        def predict(self, X: Any) -> list[int]:
            gate.pass_through()
            return [0 for _ in X]

    repository = MakingRepository()
    repository.register(Model)
    server = tallied(repository, batching=batching, cache=CachePolicy(max_loaded=1, keep_active=1, refresh_seconds=0))
    with nothing_logged():
        late = too_late(
            lambda timeout_ms: ask(server, is_async, [0.0], timeout_ms=timeout_ms), lambda _: gate.reached.is_set()
        )
        assert late.error.kind is ErrorKind.DeadlineExceeded
        repository.register(lambda: lambda x: x)
        assert server.predict(7).value == 7
        assert server.statistics().loaded_models == ("1", "2")
        gate.open()
        until(lambda: server.statistics().loaded_models == ("2",))
        until(lambda: is_garbage(repository.made["1"]))


@pytest.mark.parametrize("timeout_ms", [None, FOREVER_MS])
@pytest.mark.parametrize("kind", ["plain", "coroutine", "batched"])
@both
def test_a_models_own_timeout_is_its_exception(is_async: bool, kind: str, timeout_ms: Any, host: Host) -> None:
    """A model that raises TimeoutError has failed; no deadline was exceeded."""

    async def coroutine(input: Any) -> Any:
        raise TimeoutError("mine")

    class Table:
        def predict(self, X: Any) -> Any:
            raise TimeoutError("mine")

    def plain(input: Any) -> Any:
        raise TimeoutError("mine")

    model = {"plain": plain, "coroutine": coroutine, "batched": Table()}[kind]
    server = host(model, batching=Batching() if kind == "batched" else None)
    result = ask(server, is_async, [1.0], timeout_ms=timeout_ms)
    assert (result.error.kind, str(result.error.exception)) == (ErrorKind.PredictionException, "mine")
    assert server.statistics().timed_out == 0


def test_a_model_may_report_a_deadline_itself(host: Host) -> None:
    """A client of a remote model that raises DeadlineExceededError is reported as that kind."""

    def model(input: Any) -> Any:
        raise DeadlineExceededError("the remote model took too long.")

    assert host(model).predict(0).error.kind is ErrorKind.DeadlineExceeded


@both
def test_a_slow_load_keeps_nobody_beyond_its_deadline(is_async: bool, tallied: Host) -> None:
    """A request that waits for a load is told in time; the load goes on, once, and serves those who come later."""
    repository = FullRepository()
    repository.register(lambda x: x)
    gate = repository.gate("1")
    server = tallied(repository)
    result = ask(server, is_async, 0, timeout_ms=SOON_MS)
    assert (result.error.kind, result.version) == (ErrorKind.DeadlineExceeded, None)
    gate.open()
    assert (server.predict(5).value, repository.loads["1"]) == (5, 1)


@both
def test_what_is_late_after_its_check_does_not_reach_the_model(is_async: bool, host: Host) -> None:
    """A validator runs on the caller's thread and ends when it ends; the model is not called after the deadline."""
    clock = ManualClock()
    model = Waiting()
    server = host(model, validator=lambda input: clock.advance(timedelta(seconds=2)), clock=clock)
    result = ask(server, is_async, 0, timeout_ms=1000)
    assert (result.error.kind, model.seen) == (ErrorKind.DeadlineExceeded, [])


@both
def test_a_coroutine_that_is_too_late_is_cancelled(is_async: bool, host: Host) -> None:
    """A coroutine model is told, by cancellation, that nobody waits for it any more, and keeps no thread."""
    seen: list[str] = []

    async def model(input: Any) -> Any:
        seen.append("called")
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    server = host(model)
    result = too_late(lambda timeout_ms: ask(server, is_async, 0, timeout_ms=timeout_ms), lambda _: bool(seen))
    until(lambda: not held(server))
    assert (result.error.kind, seen.count("cancelled")) == (ErrorKind.DeadlineExceeded, seen.count("called"))


def test_a_function_that_returns_a_coroutine_is_in_time_on_a_loop(host: Host) -> None:
    """A callable that was short so far, and whose coroutine takes long, is too late and not waited for."""
    takes_long = False

    async def later(input: Any) -> Any:
        if takes_long:
            await asyncio.sleep(PATIENCE)
        return input

    server = host(lambda input: later(input))
    assert asyncio.run(server.apredict(1)).value == 1
    takes_long = True
    server._parts.cache.loaded[0].average_ms = 0.0
    result = asyncio.run(asyncio.wait_for(server.apredict(2, timeout_ms=SOON_MS), PATIENCE / 2))
    assert result.error.kind is ErrorKind.DeadlineExceeded


@pytest.mark.parametrize("batching", [None, Batching()], ids=["alone", "batched"])
@both
def test_a_call_that_goes_on_shows(is_async: bool, batching: Any, host: Host) -> None:
    """The calls of a model that hangs are counted as leases though their callers were told, until they end."""
    model = Batched(gate=Gate())
    server = host(model, batching=batching)
    for number in range(1, 3):
        too_late(
            lambda timeout_ms: ask(server, is_async, 0, timeout_ms=timeout_ms),
            lambda _, number=number: len(model.batches) >= (1 if batching else number),
        )
    until(lambda: dict(server.statistics().leases) == {"1": 1 if batching else len(model.batches)})
    in_flight = server.statistics().in_flight
    assert model.gate is not None
    model.gate.open()
    assert in_flight == 0
    until(lambda: dict(server.statistics().leases) == {"1": 0})


def test_a_coroutine_in_time_is_an_answer(host: Host) -> None:
    """A coroutine model that keeps the time limit answers, waited for or awaited."""

    async def model(input: Any) -> Any:
        await asyncio.sleep(0)
        return input + 1

    server = host(model)
    assert [ask(server, is_async, 1, timeout_ms=FOREVER_MS).value for is_async in (False, True)] == [2, 2]


def test_a_caller_who_is_cancelled_leaves_the_call_to_end(host: Host) -> None:
    """An awaiting caller with a deadline may be cancelled: it is counted, and the model is kept until its call ends."""
    model = Waiting()
    server = host(model)

    async def leave() -> None:
        task = asyncio.ensure_future(server.apredict(0, timeout_ms=FOREVER_MS))
        await asyncio.to_thread(model.gate.wait_until_reached)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    assert server.statistics().cancelled == 1
    model.gate.open()


def test_calls_that_wait_take_no_thread_from_those_they_wait_for(host: Host) -> None:
    """As many ``apredict_many`` with a time limit as there are threads, twice over: all are answered."""
    server = host(lambda x: x + 1)

    async def ask_all() -> list[Any]:
        calls = (server.apredict_many([number], timeout_ms=10_000) for number in range(2 * _pool.MOST_THREADS))
        return [results[0].value for results in await asyncio.gather(*calls)]

    assert asyncio.run(ask_all()) == [number + 1 for number in range(2 * _pool.MOST_THREADS)]


def test_a_request_that_never_had_its_thread_is_not_called(host: Host) -> None:
    """A call still waiting for a thread when its time is up is taken out: the model never sees it."""
    model = Waiting()
    server = host(model)
    server.check_health()
    calls = [InThread(server.predict, number, timeout_ms=FOREVER_MS) for number in range(_pool.MOST_THREADS)]
    until(lambda: len(model.seen) == _pool.MOST_THREADS)
    assert server.predict(99, timeout_ms=SOON_MS).error.kind is ErrorKind.DeadlineExceeded
    model.gate.open()
    assert all(call.result().success for call in calls)
    assert server.predict(1, timeout_ms=FOREVER_MS).success
    assert 99 not in model.seen


def test_many_inputs_have_one_deadline(host: Host) -> None:
    """What ``predict_many`` did not answer in time has failed for every input, each with an error of its own."""
    model = Waiting()
    server = host(model)
    results = server.predict_many([1, 2, 3], timeout_ms=SOON_MS)
    model.gate.open()
    assert [result.error.kind for result in results] == [ErrorKind.DeadlineExceeded] * 3
    assert len({id(result.error) for result in results}) == 3


def test_many_inputs_that_are_late_are_not_begun(host: Host) -> None:
    """A model that is called for each input is not called for those whose time is up."""
    clock = ManualClock()
    seen: list[Any] = []

    def model(input: Any) -> Any:
        seen.append(input)
        clock.advance(timedelta(milliseconds=400))
        return input

    server = host(model, clock=clock)
    results = server.predict_many([1, 2, 3, 4], timeout_ms=1000)
    assert [result.value for result in results] == [1, 2, 3, None]
    assert (results[3].error.kind, seen) == (ErrorKind.DeadlineExceeded, [1, 2, 3])


def test_a_batch_that_is_taken_apart_stops_at_its_deadline(host: Host) -> None:
    """A pure model whose call fails is not called again when the time is up."""
    clock = ManualClock()
    sizes: list[int] = []

    class Pure:
        is_pure = True

        def predict(self, X: Any) -> Any:
            sizes.append(len(X))
            clock.advance(timedelta(seconds=2))
            raise ValueError

    server = host(Pure(), clock=clock)
    results = server.predict_many([[1.0]] * 8, timeout_ms=1000)
    assert ({result.error.kind for result in results}, sizes) == ({ErrorKind.DeadlineExceeded}, [8])


def test_a_deadline_of_a_version_by_name(tallied: Host) -> None:
    """A version named by its id is loaded under the deadline as the latest is."""
    repository = InMemoryModelRepository()
    for number in (1, 2):
        repository.register(lambda x, number=number: number)
    server = tallied(repository)
    assert [server.predict(0, name, timeout_ms=FOREVER_MS).value for name in ("1", "2", None)] == [1, 2, 2]
    background_ended()


@both
def test_a_version_that_hangs_takes_no_thread_from_others(is_async: bool, tallied: Host) -> None:
    """Calls that hang in one version's model, however many, keep no timed request for another version waiting."""
    repository = InMemoryModelRepository()
    hanging = Waiting()
    repository.register(hanging)
    repository.register(lambda x: x)
    server = tallied(repository)
    stuck = [InThread(server.predict, 0, "1", timeout_ms=FOREVER_MS) for _ in range(2 * _pool.MOST_THREADS)]
    until(lambda: len(hanging.seen) == _pool.MOST_THREADS)
    result = ask(server, is_async, 5, "2", timeout_ms=FOREVER_MS)
    hanging.gate.open()
    assert (result.value, {call.result().value for call in stuck}) == (5, {1})
    background_ended()


@pytest.mark.parametrize("is_observable", [False, True])
@both
def test_a_load_that_hangs_takes_no_thread_from_others(is_async: bool, is_observable: bool, tallied: Host) -> None:
    """However many requests wait for one version's load, others are found and answered: loaded or not, and whether or
    not the repository has to be asked again.
    """
    repository = FullRepository() if is_observable else ThreeMethodRepository()
    for number in range(3):
        repository.register(lambda x, number=number: number + 1)
    clock = ManualClock()
    server = tallied(repository, clock=clock, router=ChoosingRouter(lambda key: Route(key, "arm")))
    assert server.predict(0, key="1").value == 1
    gate = repository.gate("2")
    stuck = [InThread(server.predict, 0, key="2", timeout_ms=FOREVER_MS) for _ in range(2 * _pool.MOST_THREADS)]
    assert ask(server, is_async, 0, key="2", timeout_ms=SOON_MS).error.kind is ErrorKind.DeadlineExceeded
    until(lambda: server.statistics().misses > 2 * _pool.MOST_THREADS)
    clock.advance(timedelta(seconds=2))
    repository.register(len)
    found = [ask(server, is_async, 0, key=key, timeout_ms=FOREVER_MS).value for key in ("1", "3", "1")]
    gate.open()
    assert (found, {call.result().value for call in stuck}) == ([1, 3, 1], {2})
    background_ended()


def test_a_load_is_awaited_by_several_loops(tallied: Host) -> None:
    """Callers on several event loops await one load; who leaves, and whose loop is closed, harms none of the others."""
    repository = FullRepository()
    repository.register(lambda x: x)
    repository.register(len)
    gate, server = repository.gate("1"), tallied(repository)

    async def both_stay() -> list[Any]:
        left = asyncio.ensure_future(server.apredict(0, "1"))
        await asyncio.sleep(0)
        calls = [asyncio.ensure_future(server.apredict(number, "1")) for number in (1, 2)]
        await asyncio.to_thread(until, lambda: server.statistics().misses >= 3)
        left.cancel()
        return [result.value for result in await asyncio.gather(*calls)]

    async def wait_for_load() -> Any:
        return await server.apredict(3, "1")

    closed = asyncio.new_event_loop()
    closed.set_exception_handler(lambda *_: None)  # the task that is destroyed unfinished is the point
    task = closed.create_task(server.server.apredict(9, "1"))
    closed.run_until_complete(asyncio.wait([task], timeout=0))
    until(lambda: repository.loads["1"] == 1)
    while not server._parts.cache._flights["1"]._awaiting:
        closed.run_until_complete(asyncio.sleep(0))
    closed.close()
    loops = [InThread(asyncio.run, both_stay()), InThread(asyncio.run, wait_for_load())]
    until(lambda: server.statistics().misses >= 5)
    gate.open()
    assert loops[0].result() == [1, 2]
    assert (loops[1].result().value, repository.loads["1"]) == (3, 1)
    del task
    gc.collect()
    server.forget(1)


@both
def test_a_previous_version_that_hangs_loading_keeps_no_helper(is_async: bool, tallied: Host) -> None:
    """A fallback to a version that is not loaded yet waits for it no longer than the request may."""
    repository = FullRepository()
    repository.register(lambda x: x)

    def failing(input: Any) -> Any:
        raise ValueError("no")

    repository.register(failing)
    gate = repository.gate("1")
    server = tallied(repository, fallbacks=[PreviousVersion(), StaticAnswer(7)])
    assert ask(server, is_async, 0, timeout_ms=SOON_MS).value == 7
    helping = server._parts.guarded.guards.threads.helping
    until(lambda: helping._idle == helping._threads)
    gate.open()
    background_ended()


@pytest.mark.parametrize("late", [False, True])
def test_a_short_model_that_takes_long_is_too_late(late: bool, host: Host) -> None:
    """A call that an event loop makes itself, as it was short so far, is no answer where it ends too late."""
    clock = ManualClock()
    took = timedelta(0)

    def model(input: Any) -> Any:
        clock.advance(took)
        return input

    server = host(model, clock=clock)
    server.predict(1)
    asyncio.run(server.apredict(1))
    took = timedelta(milliseconds=60 if late else 40)
    result = asyncio.run(server.apredict(2, timeout_ms=50))
    assert (result.value, result.error and result.error.kind) == (
        (None, ErrorKind.DeadlineExceeded) if late else (2, None)
    )
