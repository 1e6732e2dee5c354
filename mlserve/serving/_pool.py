"""The server's own threads."""

from __future__ import annotations

import contextvars
import functools
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar, final

from typing_extensions import override

from mlserve.errors import OverloadedError
from mlserve.serving._loaded import LoadedVersion

T = TypeVar("T")

IDLE_SECONDS = 10.0
"""A thread without work for so long ends."""

MOST_THREADS = min(32, (os.cpu_count() or 1) + 4)
"""As ``concurrent.futures`` and ``asyncio.to_thread`` have it."""

RECORDS_QUEUED = 1024
"""What waits for a monitor that hangs, at most; more is not recorded, and counted as the monitor's failure."""


class _Call(Future[Any]):
    """A call that waits for a thread; cancelled, it goes, and what it was to be told with it."""

    def __init__(self, call: Callable[[], Any], forget: Callable[[_Call], None]) -> None:
        super().__init__()
        self.call: Callable[[], Any] | None = call
        self._forget = forget

    @override
    def cancel(self) -> bool:
        if not super().cancel():
            return False
        self._forget(self)
        return True


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
        self._work: deque[_Call] = deque()
        self._changed = threading.Condition(threading.Lock())
        self._threads = 0
        # Of them, those that make no call: they wait for one, or are about to look.
        self._idle = 0

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Have a call made, in a copy of the caller's context.

        Returns:
            Its outcome. A future that is cancelled before its call begins is not called.

        Raises:
            OverloadedError: Too many calls wait.
        """
        future = _Call(functools.partial(contextvars.copy_context().run, call), self._forget)
        with self._changed:
            waiting = len(self._work) - self._idle
            if self._max_queued is not None and self._threads >= self._max_threads and waiting >= self._max_queued:
                raise OverloadedError(
                    f"{self._max_queued} requests already wait for a thread.",
                    hint="Retry later; Limits(max_queued=) is the limit.",
                )
            self._work.append(future)
            if self._idle >= len(self._work):
                self._changed.notify()
            elif self._threads < self._max_threads:
                self._start()
        return future

    def _forget(self, future: _Call) -> None:
        with self._changed:
            future.call = None
            try:
                self._work.remove(future)
            except ValueError:
                return  # a thread was about to begin with it

    def _start(self) -> None:
        self._threads += 1
        self._idle += 1
        try:
            threading.Thread(target=self._serve, name="mlserve-worker", daemon=True).start()
        except RuntimeError:
            self._threads -= 1
            self._idle -= 1
            if not self._threads:
                self._work.pop()
                raise OverloadedError("no thread could be started.", hint="The process has too many threads.") from None

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._work:
                    if not self._changed.wait(IDLE_SECONDS) and not self._work:
                        self._threads -= 1
                        self._idle -= 1
                        return
                future = self._work.popleft()
                self._idle -= 1
            is_wanted = future.set_running_or_notify_cancel()
            call, future.call = future.call, None
            value, error = _outcome(call) if is_wanted and call is not None else (None, None)
            with self._changed:
                self._idle += 1  # before whoever waits goes on, since that may ask for a thread again
            if error is not None:
                future.set_exception(error)
            elif is_wanted:  # pragma: no branch  # else it was cancelled at that very moment
                future.set_result(value)
            # A thread that waits must not keep the last request's input alive.
            del future, call, value, error


@final
class ServerThreads:
    """The pools of one server.

    *Thread safety*: yes.

    Args:
        max_queued: Calls that wait for a thread of each, at most; None for no limit.

    Attributes:
        shared: For what is no model's: asking the repository for its latest version, and waiting for that.
        naming: For asking the repository what a version's name means.
        waiting: For calls that may wait for some of the others.
        turns: For waiting for a turn: in one pool with those whose turn it is they could take all threads, for ever.
        routing: For a router that takes long.
        checking: For a validator that takes long.
        helping: For fallbacks.
        recording: For a monitor that takes long.
        examining: For checks of health.
        settling: For those who wait for the monitor no longer than they may.
    """

    def __init__(self, max_queued: int | None) -> None:
        self._max_queued = max_queued
        self.shared = WorkerPool(max_queued)
        self.naming = WorkerPool(max_queued)
        self.waiting = WorkerPool(max_queued)
        self.turns = WorkerPool(max_queued)
        # Each of what a user gave has its own, so that one that hangs is missed by nobody but those who need it.
        self.routing = WorkerPool(max_queued)
        self.checking = WorkerPool(max_queued)
        self.helping = WorkerPool(max_queued)
        self.recording = WorkerPool(RECORDS_QUEUED)
        self.settling = WorkerPool(max_queued)
        self.examining = WorkerPool(None)
        self._lock = threading.Lock()

    def renew(self) -> None:
        """No threads and no calls, as in a forked child; versions have none of their own any more by then."""
        self._lock = threading.Lock()
        for pool in (
            self.shared, self.naming, self.waiting, self.turns,
            self.routing, self.checking, self.helping, self.recording, self.settling, self.examining,
        ):  # fmt: skip
            pool.renew()

    def of(self, loaded: LoadedVersion) -> WorkerPool:
        """A version's own threads, so that those that hang in its model are not missed by the others."""
        if loaded.pool is None:
            with self._lock:
                if loaded.pool is None:  # pragma: no branch  # another thread may have been faster
                    loaded.pool = WorkerPool(self._max_queued)
        return loaded.pool  # type: ignore[no-any-return]  # the slot holds any server's pool


def _outcome(call: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """What a call gives, or raises."""
    try:
        return call(), None
    except (StopIteration, CancelledError) as raised:
        # An event loop's future cannot carry the one, so that the caller would wait for ever, and takes the other for a
        # cancellation.
        error = RuntimeError(f"the call raised {type(raised).__name__}")
        error.__cause__ = raised
        return None, error
    except BaseException as raised:  # also SystemExit from a model's code: the caller must not wait for ever
        return None, raised
