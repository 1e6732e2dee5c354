"""What threads ask while others are about: rows, checked, answered and recorded together, harmed alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_doubles import (
    PATIENCE,
    STEP_MS,
    Gate,
    InThread,
    Sums,
    Tallied,
    TickingClock,
    all_at_once,
    caller,
    queued,
    row,
    until,
)

from mlserve import (
    ArraySchema,
    Batching,
    CachePolicy,
    ErrorKind,
    InMemoryModelMonitor,
    InMemoryModelRepository,
    ModelServer,
)
from mlserve.clocks import SystemClock
from mlserve.serving._lanes import Lane
from mlserve.serving._requests import Request
from mlserve.serving._waiters import Waiter

Serving = Callable[..., Tallied]


class Crowd:
    """A server whose last batch had two requests, and whose model waits at its gate with another: who asks now does
    so while others are about.
    """

    def __init__(self, serving: Serving, sums: Sums, **options: Any) -> None:
        self.server = serving(**({"clock": TickingClock(10 * STEP_MS)} | options))
        self.sums = sums
        self.calls: list[InThread] = []
        self._hold(row(0.0))
        self.ask(row(1.0), row(1.0))
        self.answered()
        self._hold(row(0.0))
        sums.forget()

    def _hold(self, input: Any) -> None:
        gate = self.sums.gate = Gate()
        self.calls.append(InThread(self.server.predict, input))
        gate.wait_until_reached()

    def ask(self, *inputs: Any, call: Callable[..., Any] | None = None, **options: Any) -> None:
        """Each in a thread of its own, queued in that order."""
        for input in inputs:
            waiting = queued(self.server)
            self.calls.append(InThread(call or self.server.predict, input, **options))
            until(lambda waiting=waiting: queued(self.server) == waiting + 1)

    @property
    def rows(self) -> int:
        """Requests that wait as rows."""
        (version,) = self.server._parts.cache.loaded
        return len(version.lane.callers)

    def answered(self) -> list[Any]:
        """Opens the gate; what came of those who asked: a value, or a kind of error, or an exception's name."""
        gate, self.sums.gate = self.sums.gate, None
        assert gate is not None
        gate.open()
        outcomes: list[Any] = []
        for call in self.calls[1:]:
            try:
                result = call.result()
                outcomes.append(result.value if result.success else result.error.kind)
            except BaseException as error:
                outcomes.append(type(error).__name__)
        self.calls = []
        return outcomes


@pytest.fixture
def crowd(serving: Serving, sums: Sums) -> Crowd:
    return Crowd(serving, sums)


def test_rows_share_one_call(crowd: Crowd) -> None:
    """What threads ask while others are about waits as rows, and is answered by one call, each with its own answer."""
    crowd.ask(row(1.0), row(2.0), row(3.0))
    assert crowd.rows == 3
    assert crowd.answered() == [2.0, 4.0, 6.0]
    assert crowd.sums.tables == [[[1, 1], [2, 2], [3, 3]]]


def test_they_are_recorded_as_the_requests_they_are(serving: Serving, sums: Sums) -> None:
    """Each is an event of its own, with its id, input, output and key."""
    repository, monitor = InMemoryModelRepository[Any](), InMemoryModelMonitor()
    repository.register(sums, task="regression", schema=ArraySchema.infer(np.array([row(0.0), row(9.0)])))
    server = Tallied(ModelServer(repository, monitor, batching=Batching(), clock=TickingClock(10 * STEP_MS)))
    crowd = Crowd(lambda **_: server, sums)
    crowd.ask(row(1.0), key="one")
    crowd.ask(row(2.0))
    asked = crowd.calls[1:]
    crowd.answered()
    events = {event.prediction_id: event for event in monitor.events().events}
    recorded = [events[call.result().prediction_id] for call in asked]
    assert [(event.input.tolist(), event.output, event.key) for event in recorded] == [
        ([1.0, 1.0], 2.0, "one"),
        ([2.0, 2.0], 4.0, None),
    ]
    server.check_balance()
    server.close()


@pytest.mark.parametrize("bad", [row(float("nan")), np.zeros(3), "text", None], ids=["nan", "wide", "text", "none"])
def test_an_invalid_input_fails_alone(bad: Any, crowd: Crowd) -> None:
    """An input that is not valid is refused and never shown to the model; the others are answered by one call."""
    crowd.ask(row(1.0), bad, row(3.0))
    assert crowd.answered() == [2.0, ErrorKind.InvalidInput, 6.0]
    assert crowd.sums.tables == [[[1, 1], [3, 3]]]


def test_a_row_that_breaks_the_model_fails_alone(crowd: Crowd) -> None:
    """Of a model that may be called again, only the row at fault fails."""
    crowd.sums.raised = ValueError("thirteen")
    crowd.ask(row(1.0), row(2.0), row(13.0), row(3.0))
    assert crowd.answered() == [2.0, 4.0, ErrorKind.PredictionException, 6.0]


def test_an_interrupt_hits_who_runs_the_batch_and_fails_the_others(crowd: Crowd) -> None:
    """KeyboardInterrupt out of a batch is raised where it ran; whoever waited for that batch fails, and is told."""
    crowd.sums.raised = KeyboardInterrupt()
    crowd.ask(row(1.0), row(13.0), row(3.0))
    assert sorted(map(str, crowd.answered())) == ["KeyboardInterrupt", *[str(ErrorKind.PredictionException)] * 2]


def test_no_batch_is_larger_than_the_most(serving: Serving, sums: Sums) -> None:
    """More rows than ``max_batch_size`` are answered in several calls, the oldest first, whoever runs them."""
    crowd = Crowd(serving, sums, batching=Batching(max_batch_size=2))
    crowd.ask(*[row(float(number)) for number in range(5)])
    assert crowd.answered() == [0.0, 2.0, 4.0, 6.0, 8.0]
    assert crowd.sums.tables == [[[0, 0], [1, 1]], [[2, 2], [3, 3]], [[4, 4]]]


def test_too_many_are_refused(serving: Serving, sums: Sums) -> None:
    """Above ``max_queued`` a request fails at once with Overloaded and is counted as shed; the others are answered."""
    crowd = Crowd(serving, sums, batching=Batching(max_queued=2))
    crowd.ask(row(1.0), row(2.0))
    refused = crowd.server.predict(row(3.0))
    assert (refused.error.kind, refused.error.version_id) == (ErrorKind.Overloaded, "1")
    assert (crowd.answered(), crowd.server.statistics().shed) == ([2.0, 4.0], 1)


def test_one_alone_is_answered_in_its_context(crowd: Crowd) -> None:
    """The model sees the context of a caller whom nobody joined, and nobody's in a batch of several."""

    def ask(input: Any) -> Any:
        caller.set("somebody")
        return crowd.server.predict(input)

    crowd.ask(row(1.0), call=ask)
    assert (crowd.answered(), crowd.sums.callers) == ([2.0], ["somebody"])


def test_nobodys_context_is_a_batchs(crowd: Crowd) -> None:
    """A batch of several runs in no caller's context, though one of them runs it."""

    def ask(input: Any) -> Any:
        caller.set("somebody")
        return crowd.server.predict(input)

    crowd.ask(row(1.0), row(2.0), call=ask)
    assert (crowd.answered(), crowd.sums.callers) == ([2.0, 4.0], ["nobody"])


def test_all_who_wait_share_batches(crowd: Crowd) -> None:
    """Threads with and without a time limit and coroutines share one call, the oldest of a kind before its younger."""
    crowd.ask(row(1.0))
    crowd.ask(row(2.0), timeout_ms=1e9)

    async def ask() -> list[float]:
        found = await asyncio.gather(*(crowd.server.apredict(row(value)) for value in (3.0, 4.0)))
        return [result.unwrap() for result in found]

    loop = InThread(asyncio.run, ask())
    until(lambda: queued(crowd.server) == 4)
    crowd.ask(row(5.0))
    assert crowd.rows == 2
    assert (crowd.answered(), loop.result()) == ([2.0, 4.0, 10.0], [6.0, 8.0])
    assert crowd.sums.tables == [[[1, 1], [5, 5], [2, 2], [3, 3], [4, 4]]]


def test_an_invalid_input_fails_alone_among_others_who_wait(crowd: Crowd) -> None:
    """Beside requests that were checked before, a row that is not valid is refused, and the others are answered."""
    crowd.ask(row(1.0), timeout_ms=1e9)
    crowd.ask(row(float("nan")), row(3.0))
    assert crowd.answered() == [2.0, ErrorKind.InvalidInput, 6.0]
    assert crowd.sums.tables == [[[1, 1], [3, 3]]]


def test_a_version_that_was_replaced_answers_its_rows(serving: Serving, sums: Sums) -> None:
    """Rows wait for the version that was the latest when they came; it is kept until they are answered, no longer."""
    repository = InMemoryModelRepository[Any]()
    repository.register(sums, task="regression", schema=ArraySchema.infer(np.array([row(0.0), row(9.0)])))
    server = Tallied(
        ModelServer(
            repository,
            InMemoryModelMonitor(),
            batching=Batching(),
            clock=TickingClock(10 * STEP_MS),
            cache=CachePolicy(max_loaded=1, keep_active=1, refresh_seconds=1e9),
        )
    )
    crowd = Crowd(lambda **_: server, sums)
    crowd.ask(row(1.0), row(2.0))
    asked = crowd.calls[1:]
    repository.register(lambda input: "new")
    assert (server.refresh().id, server.statistics().loaded_models) == ("2", ("1", "2"))
    crowd.answered()
    assert [call.result().version.id for call in asked] == ["1", "1"]
    until(lambda: server.statistics().loaded_models == ("2",))
    assert server.predict(row(1.0)).value == "new"
    server.check_balance()
    server.close()


@given(
    asked=st.lists(st.lists(st.integers(-20, 20), min_size=1, max_size=30), min_size=2, max_size=6),
    size=st.integers(1, 8),
)
@settings(deadline=None, max_examples=25)
def test_every_thread_gets_its_own_answers(asked: list[list[int]], size: int) -> None:
    """Many threads, whatever they ask for and however it is cut into batches: nothing is mixed up, and who asks for
    what is not valid, or breaks the model, does not fail others.
    """
    sums = Sums()
    sums.raised = ValueError("thirteen")
    repository = InMemoryModelRepository[Any]()
    repository.register(sums, task="regression", schema=ArraySchema.infer(np.array([row(0.0), row(9.0)])))
    batching = Batching(max_batch_size=size)
    server = Tallied(ModelServer(repository, InMemoryModelMonitor(), batching=batching, clock=TickingClock(1.0)))

    def run(index: int) -> list[Any]:
        return [server.predict(row(np.nan if value < -15 else float(value))).value for value in asked[index]]

    expected = [[None if value == 13 or value < -15 else 2.0 * value for value in values] for values in asked]
    assert all_at_once(len(asked), run) == expected
    server.check_balance()
    server.close()


# ---------------------------------------------------------------------------------------------------------- the queue


def lane(sums: Sums, serving: Serving, **batching: Any) -> Lane:
    (version,) = serving()._parts.cache.loaded
    return Lane(version, Batching(**batching), "id-", 0.5)


def placed(lane: Lane, values: Sequence[float]) -> list[Waiter]:
    """Queues rows that came one second after the other."""
    waiters = [Waiter() for _ in values]
    for number, (value, waiter) in enumerate(zip(values, waiters, strict=True)):
        lane.put_caller((row(value), number, float(number), None, waiter, None))
    return waiters


def test_who_went_away_makes_room(sums: Sums, serving: Serving) -> None:
    """In a full queue a caller who went away leaves its place to the next, and the others keep their order."""
    queue = lane(sums, serving, max_queued=3)
    waiters = placed(queue, [1.0, 2.0, 3.0])
    waiters[1].cancel()
    placed(queue, [4.0])
    assert [input.tolist() for input in queue.take(0.0).columns.inputs] == [[1, 1], [3, 3], [4, 4]]


def test_who_went_away_is_asked_to_run_nothing(sums: Sums, serving: Serving) -> None:
    """The next batch is the business of the first caller who is still there, if there is one."""
    queue = lane(sums, serving)
    waiters = placed(queue, [1.0, 2.0])
    waiters[0].cancel()
    first = queue.leader()
    waiters[1].cancel()
    assert (first, queue.leader()) == (waiters[1], None)


@pytest.mark.parametrize(("queued_at", "expected"), [(-1.0, [9.0, 1.0, 2.0]), (0.5, [1.0, 2.0, 9.0])])
def test_those_among_whom_the_oldest_is_go_first(
    queued_at: float, expected: list[float], sums: Sums, serving: Serving
) -> None:
    """Of two kinds of waiting, the one with the oldest request goes first."""
    queue = lane(sums, serving)
    placed(queue, [1.0, 2.0])
    request = Request(row(9.0), "id", queued_at)
    request.loaded, request.checked, request.future = queue.loaded, request.input, Waiter()
    queue.put(request)
    assert [request.input[0] for request in queue.take(0.0)] == expected


def test_rows_may_come_while_a_batch_is_taken(sums: Sums, serving: Serving) -> None:
    """Whatever threads append while others take, every row is taken once and none is lost."""
    queue = lane(sums, serving, max_queued=10**6)
    count, threads = 500, 4
    begin = threading.Barrier(threads + 1)

    def put(_: int) -> None:
        begin.wait(PATIENCE)
        placed(queue, [1.0] * count)

    putting = [InThread(put, index) for index in range(threads)]
    begin.wait(PATIENCE)
    taken = 0
    deadline = SystemClock().monotonic() + PATIENCE
    while taken < count * threads and SystemClock().monotonic() < deadline:
        taken += len(queue.take(0.0))
        queue.purge()
    for call in putting:
        call.result()
    assert (taken, len(queue)) == (count * threads, 0)
