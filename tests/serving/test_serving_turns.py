"""Event loops and the threads that run long batches for them: each has its turn, and neither waits for ever."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from serving_doubles import PATIENCE, Gate, InThread, Tallied, TickingClock, in_lanes, until

from mlserve import ArraySchema, Batching, ErrorKind, InMemoryModelRepository
from mlserve.clocks import ManualClock
from mlserve.serving import _asked as asked_module
from mlserve.serving import _batches, _lanes

Host = Callable[..., Tallied]

LONG_MS = 10.0
"""A model whose calls take so long is never run on an event loop."""


class Watched:
    """Answers each row with its sum, and writes down when it does so."""

    is_pure = True

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.gate: Gate | None = None
        self.raised: BaseException | None = None
        self.hook: Callable[[], object] = int
        self.failed = False

    def predict(self, X: Any) -> Any:
        self.hook()
        if self.gate is not None:
            self.gate.pass_through()
        if self.raised is not None:
            raise self.raised
        self.log.append(("called", threading.current_thread().name, np.asarray(X)[:, 0].tolist()))
        return np.asarray(X).sum(axis=1)


def row(value: float) -> np.ndarray:
    return np.array([value, value])


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
def serving(watched: Watched, tallied: Host) -> Callable[..., Tallied]:
    """A server of ``watched``, whose calls it takes to be long, and which has answered."""

    def serve(clock: Any = None, concurrency: int | None = None, **batching: Any) -> Tallied:
        repository = InMemoryModelRepository[Any]()
        schema = ArraySchema.infer(np.array([[0.0, 0.0], [9.0, 9.0]]))
        repository.register(watched, task="regression", example=row(1.0), schema=schema)
        clock = clock if clock is not None else TickingClock(LONG_MS)
        server = tallied(repository, batching=Batching(**batching), clock=clock, concurrency=concurrency)
        server.predict(row(0.0))
        watched.log.clear()
        return server

    return serve


async def _asked(server: Tallied, log: list[Any], value: float) -> Any:
    result = await server.apredict(row(value))
    log.append(("went on", value))
    return result


def together(server: Tallied, log: list[Any], *values: float) -> list[Any]:
    async def ask() -> list[Any]:
        return await asyncio.gather(*(_asked(server, log, value) for value in values))

    return asyncio.run(ask())


def test_a_long_batch_is_run_on_a_thread(serving: Callable[..., Tallied], watched: Watched) -> None:
    """What coroutines ask of a long model within one turn is answered by one call, off their event loop."""
    results = together(serving(), [], 1.0, 2.0, 3.0)
    assert [result.value for result in results] == [2.0, 4.0, 6.0]
    assert watched.log == [("called", "mlserve-batcher", [1.0, 2.0, 3.0])]


def test_the_invalid_is_refused_before_it_waits(serving: Callable[..., Tallied], watched: Watched) -> None:
    """An input that is not valid fails while the model is still busy, and is never shown to it."""
    server = serving()
    watched.gate = gate = Gate()

    async def bad() -> Any:
        result = await server.apredict(row(float("nan")))
        gate.open()
        return result

    async def ask() -> list[Any]:
        return await asyncio.gather(server.apredict(row(1.0)), bad(), server.apredict(row(2.0)))

    first, invalid, second = asyncio.run(ask())
    assert (first.value, invalid.error.kind, second.value) == (2.0, ErrorKind.InvalidInput, 4.0)
    assert watched.log == [("called", "mlserve-batcher", [1.0, 2.0])]


def test_callers_go_on_before_the_next_batch(
    serving: Callable[..., Tallied], watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two batches of a long model the event loop has its turn: what was answered is seen to first."""
    monkeypatch.setattr(_batches, "TURN_SHARE", 1e9)
    together(serving(max_batch_size=1), watched.log, 1.0, 2.0, 3.0)
    assert [(entry[0], entry[-1]) for entry in watched.log] == [
        ("called", [1.0]),
        ("went on", 1.0),
        ("called", [2.0]),
        ("went on", 2.0),
        ("called", [3.0]),
        ("went on", 3.0),
    ]


@pytest.fixture
def steps(serving: Callable[..., Tallied], watched: Watched, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tallied]:
    """A server whose calls of the model take so long by its clock, which stands still else; it has answered a batch."""

    def serve(call_ms: float, concurrency: int | None = None) -> Tallied:
        monkeypatch.setattr(_batches, "TURN_SHARE", 1e9)
        clock = ManualClock()
        watched.hook = lambda: clock.advance(timedelta(milliseconds=call_ms))
        server = serving(clock=clock, max_batch_size=2, concurrency=concurrency)
        together(server, [], 0.0, 0.0)
        watched.log.clear()
        return server

    return serve


def went_on(log: list[Any]) -> list[list[int]]:
    """Who went on after the same calls of the model."""
    groups: list[list[int]] = [[]]
    for entry in log:
        if entry[0] == "went on":
            groups[-1].append(int(entry[1]))
        elif groups[-1]:
            groups.append([])
    return groups


@pytest.mark.parametrize(
    ("call_ms", "concurrency", "turns"),
    [
        (_lanes.GO_MS / 3, None, [[0, 1, 2, 3, 4, 5], [6]]),
        (_lanes.GO_MS / 2.5, None, [[0, 1, 2, 3], [4, 5], [6]]),
        (_lanes.GO_MS, None, [[0, 1], [2, 3], [4, 5], [6]]),
        (_lanes.GO_MS / 3, 1, [[0, 1], [2, 3], [4, 5], [6]]),
    ],
    ids=["three", "two", "long batches", "others take turns"],
)
def test_full_batches_are_run_in_one_go_while_that_is_short(
    call_ms: float, concurrency: int | None, turns: list[list[int]], steps: Callable[..., Tallied], watched: Watched
) -> None:
    """Callers go on after as many full batches as take no longer than ``GO_MS`` together, at least one; after one where
    others, too, wait for their turn at the model.
    """
    together(steps(call_ms, concurrency), watched.log, *map(float, range(7)))
    assert went_on(watched.log) == turns


def test_a_batch_that_takes_long_ends_the_go(steps: Callable[..., Tallied], watched: Watched) -> None:
    """When one batch of several takes longer than any before, those that were answered need not wait for more."""
    server = steps(1.0)
    short = watched.hook
    watched.hook = lambda: [short() for _ in range(20)] if len(watched.log) == 1 else short()
    together(server, watched.log, *map(float, range(8)))
    assert went_on(watched.log) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_what_was_not_begun_is_still_counted_as_waiting(steps: Callable[..., Tallied], watched: Watched) -> None:
    """Of several batches in one go only the one under way has left the queue."""
    server = steps(1.0)
    watched.gate = gate = Gate()
    asked = InThread(together, server, [], *map(float, range(6)))
    gate.wait_until_reached()
    waiting = in_lanes(server)
    gate.open()
    assert ([result.success for result in asked.result()], waiting) == ([True] * 6, 4)


@pytest.mark.parametrize("raised", [ValueError("no"), SystemExit(3)])
def test_a_batch_that_fails_harms_no_other_of_the_go(
    raised: BaseException, steps: Callable[..., Tallied], watched: Watched
) -> None:
    """Of several batches in one go one fails, and is called apart where it may be: each caller is told its own."""
    server, short = steps(1.0), watched.hook

    def hook() -> None:
        short()
        watched.raised = raised if len(watched.log) == 1 and not watched.failed else None
        watched.failed = watched.failed or watched.raised is not None

    watched.hook = hook
    values = [result.value for result in together(server, watched.log, *map(float, range(6)))]
    is_called_again = isinstance(raised, Exception)
    assert values == [0.0, 2.0, *([4.0, 6.0] if is_called_again else [None, None]), 8.0, 10.0]


def test_what_is_asked_in_that_turn_joins_the_next_batch(
    serving: Callable[..., Tallied], watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Callers who ask again as soon as they are answered are in the batch with those who still wait."""
    monkeypatch.setattr(_batches, "TURN_SHARE", 1e9)
    server = serving(max_batch_size=2)

    async def again() -> None:
        await server.apredict(row(1.0))
        await server.apredict(row(4.0))

    async def ask() -> None:
        await asyncio.gather(again(), server.apredict(row(2.0)), server.apredict(row(3.0)))

    asyncio.run(ask())
    assert [entry[-1] for entry in watched.log] == [[1.0, 2.0], [3.0, 4.0]]


def test_who_comes_meanwhile_does_not_cost_callers_their_turn(steps: Callable[..., Tallied], watched: Watched) -> None:
    """A thread that leaves an event loop its turn does so though it is rung for others who came."""
    server = steps(_lanes.GO_MS)
    lane = server._parts.cache.loaded[0].lane

    async def ring() -> int:
        while len(watched.log) < 1:
            await asyncio.sleep(0)
        # From here on the event loop stands still.
        for _ in range(2):
            until(lambda: lane.thread._bell._lock.locked() and lane.thread._lane is lane)
            lane.thread.wake(lane)
        until(lane.thread._bell._lock.locked)
        return len(watched.log)

    async def ask() -> int:
        asked = [asyncio.ensure_future(server.apredict(row(value))) for value in (0.0, 1.0, 2.0, 3.0)]
        called = await ring()
        await asyncio.gather(*asked)
        return called

    assert asyncio.run(ask()) == 1


def test_a_loop_that_stands_still_holds_nobody_up(serving: Callable[..., Tallied], watched: Watched) -> None:
    """A thread's request is answered though the event loop of the batch before it does not take its turn."""
    server, standing, go_on = serving(), threading.Event(), threading.Event()

    async def stand_still() -> Any:
        asked = asyncio.ensure_future(server.apredict(row(1.0)))
        while not watched.log:
            await asyncio.sleep(0)
        standing.set()
        go_on.wait(PATIENCE)
        return await asked

    still = InThread(lambda: asyncio.run(stand_still()))
    standing.wait(PATIENCE)
    results = [server.predict(row(value), timeout_ms=1e9) for value in (2.0, 3.0)]
    go_on.set()
    assert ([result.value for result in results], still.result().value) == ([4.0, 6.0], 2.0)


def test_a_loop_that_ended_holds_nobody_up(serving: Callable[..., Tallied], watched: Watched) -> None:
    """When the event loop of a batch was closed before the answers came, the next request is answered all the same."""
    server = serving()
    watched.gate = gate = Gate()

    async def leave() -> None:
        task = asyncio.ensure_future(server.apredict(row(1.0)))
        await asyncio.to_thread(gate.wait_until_reached)
        task.cancel()

    asyncio.run(leave())
    gate.open()
    assert server.predict(row(2.0), timeout_ms=1e9).value == 4.0
    until(lambda: len(watched.log) == 2)
    assert [entry[-1] for entry in watched.log] == [[1.0], [2.0]]


def test_limits_count_what_long_batches_hold(serving: Callable[..., Tallied]) -> None:
    """Requests that wait for a thread count towards ``max_queued`` as those that wait for the loop do."""
    results = together(serving(max_queued=2), [], 1.0, 2.0, 3.0)
    kinds = [None if result.error is None else result.error.kind for result in results]
    assert kinds == [None, None, ErrorKind.Overloaded]


@pytest.fixture
def busy(serving: Callable[..., Tallied], watched: Watched) -> Callable[..., tuple[Tallied, InThread]]:
    """A server whose model is busy with a thread's request until ``watched.gate`` opens, and that request."""

    def serve(**batching: Any) -> tuple[Tallied, InThread]:
        server = serving(**batching)
        watched.gate = gate = Gate()
        first = InThread(server.predict, row(0.0))
        gate.wait_until_reached()
        return server, first

    return serve


def tables(watched: Watched) -> list[list[float]]:
    return [entry[-1] for entry in watched.log]


@pytest.mark.parametrize(
    ("is_loop_first", "most", "batches"),
    [
        (True, 64, [[1.0, 2.0, 3.0]]),
        (False, 64, [[3.0, 1.0, 2.0]]),
        (True, 2, [[1.0, 2.0], [3.0]]),
        (False, 2, [[3.0, 1.0], [2.0]]),
        (False, 1, [[3.0], [1.0], [2.0]]),
    ],
)
def test_coroutines_and_threads_share_batches(
    is_loop_first: bool,
    most: int,
    batches: list[list[float]],
    busy: Callable[..., tuple[Tallied, InThread]],
    watched: Watched,
) -> None:
    """Those who wait on an event loop and those on threads are answered together, the one who came first before."""
    server, first = busy(max_batch_size=most)
    asking: list[InThread] = []
    for is_loop in (is_loop_first, not is_loop_first):
        call = (lambda: together(server, [], 1.0, 2.0)) if is_loop else (lambda: [server.predict(row(3.0))])
        asking.append(InThread(call))
        waiting = 3 if len(asking) == 2 else 2 if is_loop else 1
        until(lambda waiting=waiting: in_lanes(server) == waiting)  # type: ignore[misc]  # bound now
    assert watched.gate is not None
    watched.gate.open()
    answers = [[result.value for result in each.result()] for each in (asking if is_loop_first else asking[::-1])]
    assert (answers, first.result().value) == ([[2.0, 4.0], [6.0]], 0.0)
    assert tables(watched)[1:] == batches


def test_two_loops_share_a_batch(busy: Callable[..., tuple[Tallied, InThread]], watched: Watched) -> None:
    """Coroutines of two event loops that wait for a busy model are answered by one call, each on its own loop."""
    server, first = busy()
    asking = []
    for count, values in ((2, (1.0, 2.0)), (4, (3.0, 4.0))):
        asking.append(InThread(together, server, [], *values))
        until(lambda count=count: in_lanes(server) == count)  # type: ignore[misc]  # bound now
    assert watched.gate is not None
    watched.gate.open()
    assert [[result.value for result in each.result()] for each in asking] == [[2.0, 4.0], [6.0, 8.0]]
    assert sorted(tables(watched)[1]) == [1.0, 2.0, 3.0, 4.0]
    assert first.result().value == 0.0


async def _in_turns(server: Tallied, *turns: tuple[float, ...], timeout_ms: float | None = None) -> list[Any]:
    """Ask in several turns of the loop."""
    tasks: list[asyncio.Future[Any]] = []
    for values in turns:
        tasks += [asyncio.ensure_future(server.apredict(row(value), timeout_ms=timeout_ms)) for value in values]
        count = len(tasks)
        await asyncio.to_thread(until, lambda count=count: in_lanes(server) == count)  # type: ignore[misc]  # bound now
    return tasks


@pytest.mark.parametrize("joined_bytes", [0, 1 << 20], ids=["made anew", "joined"])
def test_what_waits_in_several_turns_is_one_batch(
    joined_bytes: int,
    busy: Callable[..., tuple[Tallied, InThread]],
    watched: Watched,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Coroutines that ask one turn after the other while the model is busy are answered by one call; who left, not."""
    monkeypatch.setattr(asked_module, "JOINED_BYTES", joined_bytes)
    server, first = busy()

    async def ask() -> list[Any]:
        tasks = await _in_turns(server, (1.0, 2.0), (3.0,), (4.0, 5.0))
        tasks[1].cancel()
        assert watched.gate is not None
        watched.gate.open()
        return await asyncio.gather(*tasks, return_exceptions=True)

    one, left, *others = asyncio.run(ask())
    assert (one.value, type(left), [result.value for result in others]) == (
        2.0,
        asyncio.CancelledError,
        [6.0, 8.0, 10.0],
    )
    assert (tables(watched)[1:], first.result().value) == ([[1.0, 3.0, 4.0, 5.0]], 0.0)


@pytest.mark.parametrize("timeout_ms", [None, 1e9], ids=["as a row", "with a deadline"])
def test_who_left_makes_room(
    timeout_ms: float | None, busy: Callable[..., tuple[Tallied, InThread]], watched: Watched
) -> None:
    """A caller who waited for a busy model and went away makes room for another."""
    server, first = busy(max_queued=2)

    async def ask() -> list[Any]:
        tasks = await _in_turns(server, (1.0, 2.0), timeout_ms=timeout_ms)
        tasks[0].cancel()
        tasks.append(asyncio.ensure_future(server.apredict(row(3.0))))
        await asyncio.sleep(0)
        assert watched.gate is not None
        watched.gate.open()
        return await asyncio.gather(*tasks, return_exceptions=True)

    left, *others = asyncio.run(ask())
    assert (type(left), [result.value for result in others]) == (asyncio.CancelledError, [4.0, 6.0])
    assert first.result().value == 0.0


def test_an_interrupt_on_its_thread_fails_a_long_batch(
    serving: Callable[..., Tallied], watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever ends the thread that runs a batch, those in it are told, and the next batch has a thread again."""
    server = serving()
    watched.raised = KeyboardInterrupt()
    results = together(server, [], 1.0, 2.0)
    watched.raised = None
    assert [result.error.kind for result in results] == [ErrorKind.PredictionException] * 2
    assert [result.value for result in together(server, [], 1.0, 2.0)] == [2.0, 4.0]
    assert "ended by an error" in caplog.text


class Waits:
    """Answers each input with itself after as long as ``took_ms`` says, which it does not compute; knows where."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.took_ms = 0.1
        self.threads: list[bool] = []

    def predict_batch(self, inputs: Sequence[Any]) -> list[Any]:
        self.clock.advance(timedelta(milliseconds=self.took_ms))
        self.threads.append(threading.current_thread() is threading.main_thread())
        return list(inputs)


def test_a_model_that_waits_leaves_the_loop(tallied: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches that hold the event loop longer than they may, though they compute little, go to a thread after the
    second in a row, and are tried again on the loop once in a while.
    """
    monkeypatch.setattr(_lanes, "OFF_LOOP_BATCHES", 3)
    clock = ManualClock()
    model = Waits(clock)
    repository = InMemoryModelRepository[Any]()
    repository.register(model)
    server = tallied(repository, batching=Batching(), clock=clock)
    server.predict(0)

    async def ask() -> list[list[Any]]:
        found = []
        for number in range(12):
            model.took_ms = 0.1 if number < 2 else 20.0
            results = await asyncio.gather(server.apredict(number), server.apredict(-number))
            found.append([result.value for result in results])
        return found

    model.threads.clear()
    assert asyncio.run(ask()) == [[number, -number] for number in range(12)]
    on_loop = [True, True, True, True, *[False] * 3, True, *[False] * 3, True]
    assert model.threads == on_loop


def test_where_no_thread_can_be_started_the_next_request_tries_again(
    serving: Callable[..., Tallied], watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that no thread could be started for waits; health says so, and the next request has it answered."""
    server = serving()

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def ask() -> list[Any]:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            first = asyncio.ensure_future(server.apredict(row(1.0)))
            while not in_lanes(server):
                await asyncio.sleep(0)
            assert server._parts.batcher.batches.threads._all()[0]._has_died
        second = await server.apredict(row(2.0))
        return [(await first).value, second.value]

    assert asyncio.run(ask()) == [2.0, 4.0]


def test_a_batch_of_several_kinds_is_told_before_full_ones_go_on(
    steps: Callable[..., Tallied], watched: Watched
) -> None:
    """Where one caller has a deadline and others do not, full batches behind a mixed one leave nobody unanswered."""
    server = steps(1.0)
    watched.gate = gate = Gate()
    first = InThread(server.predict, row(0.0))
    gate.wait_until_reached()

    async def ask() -> list[Any]:
        timed = asyncio.ensure_future(server.apredict(row(9.0), timeout_ms=1e9))
        await asyncio.sleep(0)
        watched.hook()  # time goes on: the one with a deadline is the oldest
        return await asyncio.gather(timed, *(server.apredict(row(value)) for value in map(float, range(6))))

    asked = InThread(lambda: asyncio.run(ask()))
    until(lambda: in_lanes(server) == 7)
    gate.open()
    assert [result.value for result in asked.result()] == [18.0, 0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    assert first.result().value == 0.0
