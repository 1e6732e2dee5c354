"""The server's own threads: started when there is work, ended when there is none, never in the way of anybody."""

from __future__ import annotations

import contextvars
import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

import pytest
from serving_doubles import PATIENCE, Gate, all_at_once, until

from mlserve.errors import OverloadedError
from mlserve.serving import _pool
from mlserve.serving._pool import WorkerPool

who = contextvars.ContextVar("who", default="nobody")


def test_calls_are_made_elsewhere() -> None:
    """What a call gives is the future's result; it runs on a daemon thread, in a copy of its caller's context."""
    pool = WorkerPool(None)

    def ask() -> Any:
        who.set("Ann")
        future = pool.submit(lambda: (who.get(), threading.current_thread().daemon, threading.get_ident()))
        return future.result(PATIENCE)

    name, is_daemon, ident = contextvars.copy_context().run(ask)
    assert (name, is_daemon, ident == threading.get_ident()) == ("Ann", True, False)


@pytest.mark.parametrize("raised", [ValueError("no"), SystemExit(3), KeyboardInterrupt()])
def test_whatever_a_call_raises_is_its_outcome(raised: BaseException) -> None:
    """An exception of any kind reaches who waits, and the thread goes on."""
    pool = WorkerPool(None, max_threads=1)

    def call() -> None:
        raise raised

    with pytest.raises(type(raised)):
        pool.submit(call).result(PATIENCE)
    assert pool.submit(lambda: 1).result(PATIENCE) == 1


def test_stop_iteration_becomes_what_a_future_can_carry() -> None:
    """StopIteration, which an event loop's future refuses, comes as the cause of a RuntimeError."""
    with pytest.raises(RuntimeError, match="StopIteration") as raised:
        WorkerPool(None).submit(lambda: next(iter(()))).result(PATIENCE)
    assert isinstance(raised.value.__cause__, StopIteration)


def test_there_are_no_more_threads_than_may_be() -> None:
    """Calls beyond the number of threads wait; none is lost."""
    pool, gate = WorkerPool(None, max_threads=2), Gate()
    running: list[int] = []

    def call(number: int) -> int:
        running.append(number)
        gate.pass_through()
        return number

    futures = [pool.submit(lambda number=number: call(number)) for number in range(10)]
    until(lambda: len(running) == 2)
    gate.open()
    assert [future.result(PATIENCE) for future in futures] == list(range(10))
    assert pool._threads == 2


def test_a_thread_at_rest_is_used_again() -> None:
    """One call after the other needs one thread."""
    pool = WorkerPool(None)
    idents = set()
    for _ in range(5):
        idents.add(pool.submit(threading.get_ident).result(PATIENCE))
        until(lambda: pool._idle == 1)
    assert len(idents) == 1


def test_a_call_cancelled_in_time_is_not_made() -> None:
    """A future that is cancelled before its call begins never calls."""
    pool, gate, made = WorkerPool(None, max_threads=1), Gate(), []
    first = pool.submit(gate.pass_through)
    second = pool.submit(lambda: made.append(2))
    third = pool.submit(lambda: made.append(3))
    assert second.cancel()
    gate.open()
    first.result(PATIENCE)
    third.result(PATIENCE)
    assert made == [3]
    with pytest.raises(CancelledError):
        second.result()


def test_no_more_wait_than_may() -> None:
    """With all threads busy and ``max_queued`` waiting, a further call is refused at once."""
    pool, gate = WorkerPool(2, max_threads=1), Gate()
    futures = [pool.submit(gate.pass_through)]
    gate.wait_until_reached()
    futures += [pool.submit(lambda: None) for _ in range(2)]
    with pytest.raises(OverloadedError, match="2 requests already wait"):
        pool.submit(lambda: None)
    gate.open()
    assert [future.result(PATIENCE) for future in futures] == [None] * 3


def test_a_thread_that_has_answered_is_free() -> None:
    """Whoever has its answer finds that thread free again: asking one after the other is never refused."""
    pool = WorkerPool(1, max_threads=2)
    assert [pool.submit(lambda number=number: number).result(PATIENCE) for number in range(300)] == list(range(300))
    found = all_at_once(2, lambda index: [pool.submit(lambda: index).result(PATIENCE) for _ in range(300)])
    assert found == [[0] * 300, [1] * 300]


def test_a_thread_without_work_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads end when nothing came for a while, and are started again when something does."""
    monkeypatch.setattr(_pool, "IDLE_SECONDS", 0.001)
    pool = WorkerPool(None)
    pool.submit(lambda: None).result(PATIENCE)
    until(lambda: pool._threads == 0)
    assert pool.submit(lambda: 5).result(PATIENCE) == 5


def test_a_thread_at_rest_keeps_nothing() -> None:
    """Neither the last call's input nor its answer is kept alive by the thread that made it."""

    class Thing:
        pass

    pool = WorkerPool(None)
    given, made = Thing(), Thing()
    references = [weakref.ref(given), weakref.ref(made)]

    def call(given: Any, made: Any) -> Callable[[], Any]:
        return lambda: (given, made)[1]

    pool.submit(call(given, made)).result(PATIENCE)
    del given, made
    until(lambda: (gc.collect(), [reference() for reference in references] == [None, None])[1])
    assert pool._threads == 1


@pytest.mark.parametrize("threads_before", [0, 1])
def test_where_no_thread_can_be_started(threads_before: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process with too many threads refuses the call if nobody else could make it; else it waits for one of those."""
    pool, gate = WorkerPool(None), Gate()
    if threads_before:
        pool.submit(gate.pass_through)
        gate.wait_until_reached()

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        if not threads_before:
            with pytest.raises(OverloadedError, match="no thread"):
                pool.submit(lambda: 1)
            return
        waiting = pool.submit(lambda: 1)
    gate.open()
    assert waiting.result(PATIENCE) == 1


def test_many_callers_at_once() -> None:
    """Threads that submit at the same time each get their own answers."""
    pool = WorkerPool(None, max_threads=3)
    found = all_at_once(
        8, lambda index: [pool.submit(lambda number=number: number).result(PATIENCE) for number in range(index, 100)]
    )
    assert found == [list(range(index, 100)) for index in range(8)]
