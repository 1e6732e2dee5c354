"""The batcher's own threads: they run the batches that no caller's thread and no event loop should."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from typing import final

from mlserve.serving._lanes import Lane
from mlserve.serving._waiters import Bell

_log = logging.getLogger(__name__)

IDLE_SECONDS = 10.0
"""A thread without work for so long ends; the next request that needs it starts it again."""


@final
class BatchThreads:
    """A thread for each queue that needs one: a version whose model hangs keeps no other waiting.

    *Thread safety*: yes.

    Args:
        monotonic: Tells seconds.
        run: Runs one batch of a queue whose permit was taken.

    Attributes:
        deaths: How often a thread ended by an error of its own and was started again.
    """

    def __init__(self, monotonic: Callable[[], float], run: Callable[[Lane], None]) -> None:
        self._monotonic = monotonic
        self._run = run
        self.deaths = 0
        self.renew()

    def renew(self) -> None:
        """No threads and nothing queued, as in a forked child."""
        self._lock = threading.Lock()
        self._threads: weakref.WeakSet[BatchThread] = weakref.WeakSet()

    def wake(self, lane: Lane) -> None:
        """Have a queue looked after."""
        thread: BatchThread | None = lane.thread
        if thread is None:
            with self._lock:
                thread = lane.thread
                if thread is None:  # pragma: no branch  # another thread may have been faster
                    thread = lane.thread = BatchThread(self._monotonic, self._run, self._count_death)
                    self._threads.add(thread)
        thread.wake(lane)

    def ensure_alive(self) -> bool:
        """Whether all threads are alive or were never needed; those that died are started again."""
        return all([thread.ensure_alive() for thread in self._all()])  # noqa: C419  # every one is to be asked

    def stop(self) -> None:
        """Let threads end when nothing is queued any more; a later request starts them again."""
        for thread in self._all():
            thread.stop()

    def _all(self) -> list[BatchThread]:
        with self._lock:
            return list(self._threads)

    def _count_death(self) -> None:
        with self._lock:
            self.deaths += 1


@final
class BatchThread:
    """Runs the batches of one queue.

    *Thread safety*: yes.

    Args:
        monotonic: Tells seconds.
        run: Runs one batch of a queue whose permit was taken.
        died: Called when the thread has ended by an error of its own.
    """

    def __init__(self, monotonic: Callable[[], float], run: Callable[[Lane], None], died: Callable[[], None]) -> None:
        self._monotonic = monotonic
        self._run = run
        self._died = died
        self._lock = threading.Lock()
        self._bell = Bell()
        # While there is work: an idle thread keeps no version in memory.
        self._lane: Lane | None = None
        self._thread: threading.Thread | None = None
        self._has_died = False
        self._stopped = False

    def wake(self, lane: Lane) -> None:
        """Have the queue looked after."""
        with self._lock:
            self._lane = lane
            if self._thread is None:
                self._start()
        self._bell.ring()

    def ensure_alive(self) -> bool:
        """Whether the thread is alive or was never needed; one that died is started again."""
        with self._lock:
            is_dead = self._has_died
            if is_dead:
                self._start()
            return not is_dead

    def stop(self) -> None:
        """Let the thread end when nothing is queued any more; a later request starts it again."""
        self._stopped = True
        self._bell.ring()

    def _start(self) -> None:
        self._stopped = self._has_died = False
        self._thread = threading.Thread(target=self._serve, name="mlserve-batcher", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._thread, self._has_died = None, True  # health sees it, and the next request tries again
            _log.exception("no thread could be started for a batcher")

    def _serve(self) -> None:
        try:
            while True:
                lane = self._next()
                if lane is None:
                    return
                self._run(lane)
                del lane
        except BaseException:
            _log.exception("a batcher's thread ended by an error; it is started again when it is needed")
            self._died()
            with self._lock:
                self._thread, self._has_died = None, True
                if self._lane is not None:
                    self._start()

    def _next(self) -> Lane | None:
        """The queue when its next batch is due, its permit taken; None when the thread should end."""
        bell = self._bell
        while True:
            lane, pause, now = self._lane, IDLE_SECONDS, self._monotonic()
            if lane is not None:
                if lane.rest_seconds:
                    self._rest(lane)
                due = lane.due(now)
                if due <= now or self._stopped:
                    # Before the look at the queue: what is queued after it sets the queue again.
                    self._lane = None
                    # Where a batch is running, whoever runs it looks after the queue when it ends.
                    if len(lane) and lane.permit.acquire(blocking=False):
                        return lane
                    continue
                pause = min(pause, due - now)
            if (lane is None and self._stopped) or not bell.wait(timeout=pause):
                with self._lock:
                    if self._lane is None:  # pragma: no branch  # else it was woken at that very moment
                        # From now on nobody may believe that it serves them.
                        self._thread = None
                        return None

    def _rest(self, lane: Lane) -> None:
        """Leave an event loop the interpreter, until its callers have had their turn or the rest has taken enough."""
        bell, until = self._bell, self._monotonic() + lane.rest_seconds
        bell.hush()
        # Rung for somebody who came meanwhile, it rests on: whoever ends the rest says so before it rings.
        while lane.rest_seconds and not self._stopped:
            left = until - self._monotonic()
            if left <= 0 or not bell.wait(timeout=left):
                break
        lane.rest_seconds = 0.0
