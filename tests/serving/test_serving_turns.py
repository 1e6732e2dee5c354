"""Event loops and the threads that run long batches for them: each has its turn, and neither waits for ever."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from serving_doubles import PATIENCE, Gate, InThread, Tallied, TickingClock, until

from mlserve import ArraySchema, Batching, ErrorKind, InMemoryModelRepository
from mlserve.serving import _batches

Host = Callable[..., Tallied]

LONG_MS = 10.0
"""A model whose calls take so long is never run on an event loop."""


class Watched:
    """Answers each row with its sum, and writes down when it does so."""

    is_pure = True

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.gate: Gate | None = None

    def predict(self, X: Any) -> Any:
        if self.gate is not None:
            self.gate.pass_through()
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

    def serve(**batching: Any) -> Tallied:
        repository = InMemoryModelRepository[Any]()
        schema = ArraySchema.infer(np.array([[0.0, 0.0], [9.0, 9.0]]))
        repository.register(watched, task="regression", example=row(1.0), schema=schema)
        server = tallied(repository, batching=Batching(**batching), clock=TickingClock(LONG_MS))
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
