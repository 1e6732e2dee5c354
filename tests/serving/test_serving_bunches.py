"""What coroutines of one event loop ask at the same time: checked, answered and recorded together, harmed alone."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from serving_doubles import (
    PATIENCE,
    STEP_MS,
    Gate,
    InThread,
    Sums,
    Tallied,
    TickingClock,
    caller,
    in_lanes,
    queued,
    row,
    until,
)

from mlserve import Batching, ErrorKind, InMemoryModelMonitor, InMemoryModelRepository, Limits, RecordSchema

Host = Callable[..., Tallied]
FOREVER_MS = 1e9
LONG_MS = 10.0
"""A model whose calls take so long is never run on an event loop."""


def together(server: Tallied, inputs: list[Any], **options: Any) -> list[Any]:
    async def ask() -> list[Any]:
        return await asyncio.gather(*(server.apredict(input, **options) for input in inputs))

    return asyncio.run(ask())


def test_one_table_answers_all(serving: Callable[..., Tallied], sums: Sums) -> None:
    """Coroutines that ask within one turn of their loop share one call of the model, each with its own answer."""
    results = together(serving(), [row(1.0), row(2.0), row(3.0)])
    assert ([result.value for result in results], sums.tables) == ([2.0, 4.0, 6.0], [[[1, 1], [2, 2], [3, 3]]])


@pytest.mark.parametrize(
    "bad", [row(float("nan")), np.zeros(3), np.zeros((1, 2)), "text", None, np.array(["a", "b"]), [1.0]], ids=str
)
def test_an_invalid_input_fails_alone(bad: Any, serving: Callable[..., Tallied], sums: Sums) -> None:
    """An input that is not valid is refused and never shown to the model; the others are answered by one call."""
    results = together(serving(), [row(1.0), bad, row(3.0)])
    kinds = [None if result.error is None else result.error.kind for result in results]
    assert (kinds, sums.tables) == ([None, ErrorKind.InvalidInput, None], [[[1, 1], [3, 3]]])


@pytest.mark.parametrize("given", [[2, 2], (2.0, 2.0), np.array([2, 2]), np.array([2, 2], np.float32)], ids=repr)
def test_what_is_valid_in_another_form_is_answered(given: Any, serving: Callable[..., Tallied], sums: Sums) -> None:
    """A row of another type or dtype that the schema accepts is answered as if it were alone."""
    results = together(serving(), [row(1.0), given])
    assert ([result.value for result in results], sums.tables) == ([2.0, 4.0], [[[1, 1], [2, 2]]])


def test_no_batch_is_larger_than_the_most(serving: Callable[..., Tallied], sums: Sums) -> None:
    """More requests than ``max_batch_size`` are answered in several calls, the oldest first."""
    results = together(serving(batching=Batching(max_batch_size=2)), [row(float(number)) for number in range(5)])
    assert [result.value for result in results] == [0.0, 2.0, 4.0, 6.0, 8.0]
    assert [len(table) for table in sums.tables] == [2, 2, 1]


async def _logged(server: Tallied, log: list[Any], value: float) -> Any:
    result = await server.apredict(row(value))
    log.append(value)
    return result


@pytest.mark.parametrize(("inline_below_ms", "at_once"), [(99.0, 9), (29.0, 2), (19.0, 1)])
def test_as_many_batches_in_one_go_as_a_loop_may_be_held(
    inline_below_ms: float, at_once: int, serving: Callable[..., Tallied], sums: Sums
) -> None:
    """Callers go on after as many batches as take no longer together than ``inline_below_ms``, at least one."""
    limits = Limits(inline_below_ms=inline_below_ms)
    server = serving(batching=Batching(max_batch_size=2), limits=limits, clock=TickingClock(10.0))
    log: list[Any] = []
    sums.hook = lambda: log.append("called")

    async def ask() -> list[Any]:
        return await asyncio.gather(*(_logged(server, log, float(value)) for value in range(6)))

    assert [result.value for result in asyncio.run(ask())] == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    turns = [list(range(start, min(start + 2 * at_once, 6))) for start in range(0, 6, 2 * at_once)]
    assert log == [entry for turn in turns for entry in ["called"] * (len(turn) // 2) + turn]


class Counting(Sums):
    """The same, but that nobody may call it twice with the same input."""

    is_pure = False


@pytest.mark.parametrize("sums", [Counting(), Sums()], ids=["not to be called again", "pure"])
@pytest.mark.parametrize("raised", [ValueError, SystemExit])
def test_of_several_batches_one_fails(raised: Any, serving: Callable[..., Tallied], sums: Sums) -> None:
    """Where one of several batches fails, the others are answered, each input by one call of the model."""
    server = serving(batching=Batching(max_batch_size=2), limits=Limits(inline_below_ms=9.0))
    sums.raised = raised("thirteen")
    results = together(server, [row(float(value)) for value in (1, 2, 13, 3, 4, 5, 6)])
    is_apart = sums.is_pure and raised is ValueError
    assert [result.value for result in results] == [2.0, 4.0, None, 6.0 if is_apart else None, 8.0, 10.0, 12.0]
    again = [[[13, 13]], [[3, 3]]] if is_apart else []
    assert sums.tables == [[[1, 1], [2, 2]], [[13, 13], [3, 3]], *again, [[4, 4], [5, 5]], [[6, 6]]]
    sums.raised = None


def test_an_interrupt_leaves_what_was_answered_before(serving: Callable[..., Tallied], sums: Sums) -> None:
    """KeyboardInterrupt in the second of several batches fails those who were not answered yet."""
    server = serving(batching=Batching(max_batch_size=1), limits=Limits(inline_below_ms=9.0))
    sums.raised = KeyboardInterrupt()
    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(server.apredict(row(value))) for value in (1.0, 13.0, 3.0)]
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(asyncio.wait(tasks))
    loop.run_until_complete(asyncio.wait(tasks))
    loop.close()
    assert [task.result().value for task in tasks] == [2.0, None, None]


def test_an_invalid_input_fails_alone_among_several_batches(serving: Callable[..., Tallied], sums: Sums) -> None:
    """Of several batches only the one with an input that is not valid is shown to the model without it."""
    server = serving(batching=Batching(max_batch_size=2), limits=Limits(inline_below_ms=9.0))
    results = together(server, [row(1.0), row(2.0), row(float("nan")), row(3.0), row(4.0)])
    assert [result.value for result in results] == [2.0, 4.0, None, 6.0, 8.0]
    assert sums.tables == [[[1, 1], [2, 2]], [[3, 3]], [[4, 4]]]


def test_too_many_are_refused(serving: Callable[..., Tallied], sums: Sums) -> None:
    """Above ``max_queued`` a request fails at once with Overloaded; those before it are answered."""
    results = together(serving(batching=Batching(max_queued=2)), [row(float(number)) for number in range(4)])
    kinds = [None if result.error is None else result.error.kind for result in results]
    assert (kinds, len(sums.tables)) == ([None, None, ErrorKind.Overloaded, ErrorKind.Overloaded], 1)


async def _leave_one(server: Tallied) -> list[Any]:
    tasks = [asyncio.ensure_future(server.apredict(row(float(number)))) for number in range(2)]
    await asyncio.sleep(0)  # both have asked, and their batch comes at the end of the loop's next turn
    tasks[0].cancel()
    tasks.append(asyncio.ensure_future(server.apredict(row(2.0))))
    return await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("max_queued", [2, 1024])
def test_who_leaves_is_not_answered(max_queued: int, serving: Callable[..., Tallied], sums: Sums) -> None:
    """A cancelled caller makes room for another, and its input is not shown to the model."""
    left, *results = asyncio.run(_leave_one(serving(batching=Batching(max_queued=max_queued))))
    assert isinstance(left, asyncio.CancelledError)
    assert ([result.value for result in results], sums.tables) in [
        ([2.0, 4.0], [[[1, 1], [2, 2]]]),
        ([2.0, 4.0], [[[1, 1]], [[2, 2]]]),
    ]


def test_who_leaves_within_the_turn_makes_room(serving: Callable[..., Tallied], sums: Sums) -> None:
    """A caller that is cancelled before its loop has looked at the requests leaves its place to the next one."""
    server = serving(batching=Batching(max_queued=2))

    async def ask() -> list[Any]:
        tasks = [asyncio.ensure_future(server.apredict(row(value))) for value in (1.0, 2.0)]

        async def instead() -> Any:
            tasks[0].cancel()
            return await server.apredict(row(3.0))

        return await asyncio.gather(*tasks, instead(), return_exceptions=True)

    left, stayed, came = asyncio.run(ask())
    assert (type(left), stayed.value, came.value) == (asyncio.CancelledError, 4.0, 6.0)
    assert sums.tables == [[[2, 2], [3, 3]]]


def test_a_row_that_breaks_the_model_fails_alone(serving: Callable[..., Tallied], sums: Sums) -> None:
    """Of a model that may be called again, only the row at fault fails."""
    server, sums.raised = serving(), ValueError("thirteen")
    results = together(server, [row(1.0), row(2.0), row(13.0), row(3.0)])
    kinds = [None if result.error is None else result.error.kind for result in results]
    assert kinds == [None, None, ErrorKind.PredictionException, None]


def test_an_exit_out_of_the_model_fails_its_batch(serving: Callable[..., Tallied], sums: Sums) -> None:
    """SystemExit out of a batch fails those who asked; it does not end the event loop of whoever asked with them."""
    server, sums.raised = serving(), SystemExit(3)
    results = together(server, [row(1.0), row(13.0)])
    assert [result.error.kind for result in results] == [ErrorKind.PredictionException] * 2


def test_an_interrupt_leaves_the_loop_and_fails_its_batch(serving: Callable[..., Tallied], sums: Sums) -> None:
    """KeyboardInterrupt is for the thread that it hits; those in the batch it hit fail, and do not wait for ever."""
    server, sums.raised = serving(), KeyboardInterrupt()
    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(server.apredict(row(value))) for value in (1.0, 13.0)]
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(asyncio.wait(tasks))
    done, _ = loop.run_until_complete(asyncio.wait(tasks))
    loop.close()
    assert {task.result().error.kind for task in done} == {ErrorKind.PredictionException}


def test_a_caller_alone_is_answered_in_its_context(serving: Callable[..., Tallied], sums: Sums) -> None:
    """The model sees the context of a caller who asks alone, and nobody's in a batch."""
    server = serving()

    async def ask(name: str) -> Any:
        caller.set(name)
        return await server.apredict(row(1.0))

    async def both() -> None:
        await asyncio.gather(ask("one"), ask("other"))

    asyncio.run(ask("alone"))
    asyncio.run(both())
    assert sums.callers == ["alone", "nobody"]


def test_who_stays_of_two_sees_nobodys_context(serving: Callable[..., Tallied], sums: Sums) -> None:
    """A request that is answered alone because the other caller left does not see what that one has set."""
    server = serving()

    async def ask(name: str, value: float) -> Any:
        caller.set(name)
        return await server.apredict(row(value))

    async def leave() -> Any:
        tasks = [asyncio.ensure_future(ask("leaver", 1.0)), asyncio.ensure_future(ask("stayer", 2.0))]
        await asyncio.sleep(0)
        tasks[0].cancel()
        return await tasks[1]

    assert (asyncio.run(leave()).value, sums.callers) == (4.0, ["nobody"])


def test_keys_are_recorded(serving: Callable[..., Tallied]) -> None:
    """The key of each request stands in its event, where requests without one are in the same batch."""
    monitor = InMemoryModelMonitor()
    server = serving(monitor=monitor)

    async def ask() -> None:
        await asyncio.gather(server.apredict(row(1.0), key="a"), server.apredict(row(2.0)))

    asyncio.run(ask())
    told = [event.key for event in monitor.events().events]
    assert told[-2:] == ["a", None]


def test_while_the_model_is_busy_coroutines_queue_with_threads(serving: Callable[..., Tallied], sums: Sums) -> None:
    """What a loop cannot answer at once joins the queue, checked one by one; the invalid fails without waiting."""
    server = serving()
    sums.gate = Gate()
    busy = InThread(server.predict, row(5.0))
    sums.gate.wait_until_reached()
    refused = threading.Event()

    async def bad() -> Any:
        result = await server.apredict(row(float("nan")))
        refused.set()
        return result

    async def ask() -> list[Any]:
        return await asyncio.gather(server.apredict(row(1.0)), bad(), server.apredict(row(2.0)))

    asked = InThread(lambda: asyncio.run(ask()))
    until(refused.is_set)
    until(lambda: in_lanes(server) == 2)
    sums.gate.open()
    first, invalid, second = asked.result()
    assert (busy.result().value, first.value, second.value) == (10.0, 2.0, 4.0)
    assert (invalid.error.kind, sums.tables) == (ErrorKind.InvalidInput, [[[5, 5]], [[1, 1], [2, 2]]])


def test_what_a_monitor_knows_is_the_same_alone_or_together(serving: Callable[..., Tallied]) -> None:
    """A batch leaves the same inputs, outputs and counts with the monitor as its requests one by one."""
    told = []
    for ask in (
        lambda server: together(server, [row(1.0), row(2.0), row(3.0)]),
        lambda server: [server.predict(row(value)) for value in (1.0, 2.0, 3.0)],
    ):
        monitor = InMemoryModelMonitor()
        ask(serving(monitor=monitor))
        told.append([(event.input.tolist(), event.output) for event in monitor.events().events[1:]])
    assert told[0] == told[1] == [([1.0, 1.0], 2.0), ([2.0, 2.0], 4.0), ([3.0, 3.0], 6.0)]


def test_an_evicted_model_is_gone_at_once(tallied: Host) -> None:
    """A batched model that is evicted does not wait for the garbage collector."""
    alive: list[weakref.ref[Sums]] = []

    class Loading(InMemoryModelRepository[Any]):
        def load_model(self, version: Any) -> Any:
            model = Sums()
            alive.append(weakref.ref(model))
            return model

    repository = Loading()
    for _ in range(4):
        repository.register(Sums(), example=row(1.0))
    server = tallied(repository, batching=Batching(), clock=TickingClock(STEP_MS))
    gc.collect()
    gc.disable()
    try:
        for number in range(12):
            repository.activate(str(number % 4 + 1))
            together(server, [row(1.0), row(2.0)])
        server.predict(row(1.0))
        held = sum(model() is not None for model in alive)
    finally:
        gc.enable()
    assert (len(alive), held <= 3) == (12, True)


def test_all_may_be_invalid(serving: Callable[..., Tallied], sums: Sums) -> None:
    """When nobody's input is valid, the model is not called."""
    results = together(serving(), [row(float("nan")), row(float("inf"))])
    assert ([result.error.kind for result in results], sums.tables) == ([ErrorKind.InvalidInput] * 2, [])


def test_all_may_leave(serving: Callable[..., Tallied], sums: Sums) -> None:
    """When everybody has left before the batch closes, the model is not called, and later requests are answered."""
    server = serving()

    async def leave() -> Any:
        task = asyncio.ensure_future(server.apredict(row(1.0)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return await server.apredict(row(2.0))

    assert (asyncio.run(leave()).value, sums.tables) == (4.0, [[[2, 2]]])


@pytest.mark.parametrize("step_ms", [STEP_MS, LONG_MS], ids=["on the loop", "on a thread"])
@pytest.mark.parametrize("count", [1, 2], ids=["one of two", "both"])
def test_who_leaves_during_the_call_harms_nobody(
    step_ms: float, count: int, serving: Callable[..., Tallied], sums: Sums
) -> None:
    """Callers that are cancelled while their batch is answered count as such; the others get their answers."""
    server = serving(clock=TickingClock(step_ms))

    async def ask() -> list[Any]:
        loop, here = asyncio.get_running_loop(), threading.get_ident()
        tasks = [asyncio.ensure_future(server.apredict(row(value))) for value in (1.0, 2.0)]
        left = threading.Event()

        def leave() -> None:
            for task in tasks[:count]:
                task.cancel()
            left.set()

        def hook() -> None:
            if threading.get_ident() == here:
                leave()
            else:
                loop.call_soon_threadsafe(leave)
                assert left.wait(PATIENCE)

        sums.hook = hook
        await asyncio.wait(tasks)
        sums.hook = int
        return [None if task.cancelled() else task.result().value for task in tasks]

    assert asyncio.run(ask()) == [None, None if count == 2 else 4.0]
    assert server.statistics().cancelled == count


def test_each_loop_answers_its_own(serving: Callable[..., Tallied], sums: Sums) -> None:
    """A second event loop does not wait for a first one whose requests are not answered yet."""
    server = serving()

    async def ask() -> list[Any]:
        mine = asyncio.ensure_future(server.apredict(row(1.0)))
        await asyncio.sleep(0)  # asked, and not answered: this loop stands still until the other one has ended
        other = InThread(lambda: asyncio.run(server.apredict(row(2.0)))).result()
        return [other.value, (await mine).value]

    assert (asyncio.run(ask()), sums.tables) == ([4.0, 2.0], [[[2, 2]], [[1, 1]]])


def test_a_loop_that_ends_leaves_nothing_queued(serving: Callable[..., Tallied], sums: Sums) -> None:
    """A caller that gave up while the model was busy, and its loop with it, is cleared away when the model is free."""
    server = serving()
    sums.gate = Gate()
    busy = InThread(server.predict, row(5.0))
    sums.gate.wait_until_reached()

    async def give_up() -> None:
        task = asyncio.ensure_future(server.apredict(row(1.0)))
        while not queued(server) or server._parts.cache.loaded[0].lane.bunches:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(give_up())
    sums.gate.open()
    assert busy.result().value == 10.0
    until(lambda: not queued(server))
    assert sums.tables == [[[5, 5]]]


def test_a_loop_leaves_its_batch_to_whoever_is_busy(serving: Callable[..., Tallied], sums: Sums) -> None:
    """A request whose input a user's function checks is queued, and answered when the model is free again."""
    server = serving(validator=lambda input: None)
    sums.gate = Gate()
    busy = InThread(server.predict, row(5.0))
    sums.gate.wait_until_reached()
    asked = InThread(lambda: asyncio.run(server.apredict(row(1.0))))
    until(lambda: queued(server) == 1)
    until(lambda: not server._parts.cache.loaded[0].lane.flushing)  # the loop has looked, and found the model busy
    sums.gate.open()
    assert (busy.result().value, asked.result().value, len(sums.tables)) == (10.0, 2.0, 2)


def test_a_caller_who_had_to_wait_keeps_its_context(serving: Callable[..., Tallied], sums: Sums) -> None:
    """A request that is answered alone on somebody else's thread sees its own caller's context, not that one's."""
    server = serving()
    sums.gate = Gate()

    def named(name: str, call: Callable[[], Any]) -> Any:
        caller.set(name)
        return call()

    busy = InThread(named, "busy", lambda: server.predict(row(5.0)))
    sums.gate.wait_until_reached()
    asked = InThread(named, "asking", lambda: asyncio.run(server.apredict(row(1.0))))
    until(lambda: in_lanes(server) == 1)
    sums.gate.open()
    assert (busy.result().value, asked.result().value, sums.callers) == (10.0, 2.0, ["busy", "asking"])


def test_all_loops_and_threads_together_are_not_too_many(serving: Callable[..., Tallied], sums: Sums) -> None:
    """``max_queued`` is the most that wait for a version, whatever they wait with."""
    server = serving(batching=Batching(max_queued=2))
    sums.gate = Gate()
    busy = InThread(server.predict, row(5.0))
    sums.gate.wait_until_reached()
    queued_one = InThread(server.predict, row(1.0), timeout_ms=FOREVER_MS)
    until(lambda: queued(server) == 1)

    async def ask() -> Any:
        mine = asyncio.ensure_future(server.apredict(row(2.0)))
        await asyncio.sleep(0)  # asked, and not looked at yet: this loop stands still while others ask
        by_thread = InThread(server.predict, row(3.0), timeout_ms=FOREVER_MS).result()
        by_loop = InThread(lambda: asyncio.run(server.apredict(row(4.0)))).result()
        sums.gate.open()
        return [(await mine).value, by_thread.error.kind, by_loop.error.kind]

    assert asyncio.run(ask()) == [4.0, ErrorKind.Overloaded, ErrorKind.Overloaded]
    assert (busy.result().value, queued_one.result().value) == (10.0, 2.0)


def test_records_are_checked_as_they_come(tallied: Host) -> None:
    """An input that a schema of records refuses fails alone, before its batch; the others are answered."""

    class Sizes:
        is_pure = True

        def predict_batch(self, inputs: Any) -> list[float]:
            return [input["size"] for input in inputs]

    repository = InMemoryModelRepository[Any]()
    repository.register(Sizes(), example={"size": 1.0}, schema=RecordSchema.infer([{"size": 1.0}, {"size": 2.0}]))
    server = tallied(repository, batching=Batching(), clock=TickingClock(STEP_MS))
    server.predict({"size": 1.0})
    results = together(server, [{"size": 1.0}, {"size": "large"}, {"size": 3.0}])
    kinds = [None if result.error is None else result.error.kind for result in results]
    assert (kinds, results[2].value) == ([None, ErrorKind.InvalidInput, None], 3.0)
