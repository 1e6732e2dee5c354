"""The server's own threads."""

from __future__ import annotations

import contextvars
import functools
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar, final

from mlserve.errors import OverloadedError

T = TypeVar("T")

IDLE_SECONDS = 10.0
"""A thread without work for so long ends."""

MOST_THREADS = min(32, (os.cpu_count() or 1) + 4)
"""As ``concurrent.futures`` and ``asyncio.to_thread`` have it."""


@final
class WorkerPool:
    """Runs calls on daemon threads, which start when there is work: a call that hangs keeps no process from ending.

    *Thread safety*: yes.

    Args:
        max_queued: Calls that wait for a thread, at most; None for no limit.
        max_threads: Threads, at most.
    """

    def __init__(self, max_queued: int | None, max_threads: int = MOST_THREADS) -> None:
        self._max_queued = max_queued
        self._max_threads = max_threads
        self.renew()

    def renew(self) -> None:
        """No threads and no calls, as in a forked child."""
        self._work: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._changed = threading.Condition(threading.Lock())
        self._threads = 0
        self._idle = 0

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Have a call made, in a copy of the caller's context.

        Returns:
            Its outcome. A future that is cancelled before its call begins is not called.

        Raises:
            OverloadedError: Too many calls wait.
        """
        future: Future[T] = Future()
        with self._changed:
            waiting = len(self._work) - self._idle
            if self._max_queued is not None and self._threads >= self._max_threads and waiting >= self._max_queued:
                raise OverloadedError(
                    f"{self._max_queued} requests already wait for a thread.",
                    hint="Retry later; Limits(max_queued=) is the limit.",
                )
            self._work.append((future, functools.partial(contextvars.copy_context().run, call)))
            if self._idle >= len(self._work):
                self._changed.notify()
            elif self._threads < self._max_threads:
                self._start()
        return future

    def _start(self) -> None:
        self._threads += 1
        try:
            threading.Thread(target=self._serve, name="mlserve-worker", daemon=True).start()
        except RuntimeError:
            self._threads -= 1
            if not self._threads:
                self._work.pop()
                raise OverloadedError("no thread could be started.", hint="The process has too many threads.") from None

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._work:
                    self._idle += 1
                    is_called = self._changed.wait(IDLE_SECONDS)
                    self._idle -= 1
                    if not is_called and not self._work:
                        self._threads -= 1
                        return
                future, call = self._work.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                value = call()
            except StopIteration as error:  # an event loop's future cannot carry it: the caller would wait for ever
                raised = RuntimeError("the call raised StopIteration")
                raised.__cause__ = error
                future.set_exception(raised)
                del raised, error
            except BaseException as error:  # also SystemExit from a model's code: the caller must not wait for ever
                future.set_exception(error)
                del error
            else:
                future.set_result(value)
                del value
            # A thread that waits must not keep the last request's input alive.
            del future, call
