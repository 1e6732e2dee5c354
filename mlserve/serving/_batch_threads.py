"""The batcher's own thread: it runs the batches that no caller's thread and no event loop should."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import final

from mlserve.serving._lanes import Lane

_log = logging.getLogger(__name__)

IDLE_SECONDS = 10.0
"""A thread without work for so long ends; the next request that needs it starts it again."""


@final
class BatchThread:
    """Runs batches of the queues that it is told of, in turn.

    *Thread safety*: yes.

    Args:
        monotonic: Tells seconds.
        run: Runs one batch of a queue whose permit was taken.

    Attributes:
        deaths: How often the thread ended by an error of its own and was started again.
    """

    def __init__(self, monotonic: Callable[[], float], run: Callable[[Lane], None]) -> None:
        self._monotonic = monotonic
        self._run = run
        self.deaths = 0
        self.renew()

    def renew(self) -> None:
        """No thread and nothing queued, as in a forked child."""
        self._changed = threading.Condition(threading.Lock())
        self._ready: deque[Lane] = deque()
        self._thread: threading.Thread | None = None
        self._has_died = False
        self._stopped = False

    def wake(self, lane: Lane) -> None:
        """Have a queue looked after."""
        with self._changed:
            if lane not in self._ready:
                self._ready.append(lane)
            if self._thread is None:
                self._start()
            self._changed.notify()

    def ensure_alive(self) -> bool:
        """Whether the thread is alive or was never needed; one that died is started again."""
        with self._changed:
            is_dead = self._has_died
            if is_dead:
                self._start()
            return not is_dead

    def stop(self) -> None:
        """Let the thread end when nothing is queued any more; a later request starts it again."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _start(self) -> None:
        self._stopped = self._has_died = False
        self._thread = threading.Thread(target=self._serve, name="mlserve-batcher", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        try:
            while self._serve_next():
                pass
        except BaseException:
            _log.exception("the batcher's thread ended by an error; it is started again when it is needed")
            with self._changed:
                self._thread, self._has_died = None, True
                self.deaths += 1
                if self._ready:
                    self._start()

    def _serve_next(self) -> bool:
        """Run the next batch of the queue that has waited longest; false when the thread should end."""
        with self._changed:
            while True:
                now = self._monotonic()
                lane, pause = self._next_lane(now)
                if lane is not None:
                    break
                is_idle = not self._ready
                if (is_idle and self._stopped) or not (self._changed.wait(pause) or self._ready):
                    # From now on nobody may believe that it serves them.
                    self._thread = None
                    return False
        self._run(lane)
        return True

    def _next_lane(self, now: float) -> tuple[Lane | None, float]:
        """A queue whose batch is due, its permit taken; else how long none will be."""
        pause = IDLE_SECONDS
        for lane in list(self._ready):
            due = lane.due(now)
            if due > now and not self._stopped:
                pause = min(pause, due - now)
                continue
            # To the end of the line, if it comes back: no version keeps the others waiting.
            self._ready.remove(lane)
            # Where a batch is running, whoever runs it looks after the queue when it ends.
            if len(lane) and lane.permit.acquire(blocking=False):
                return lane, 0.0
        return None, pause
