"""Micro-batching: requests that are there at the same time are answered by one call of the model.

Whoever finds the model free runs the next batch: a calling thread that has nobody to wait for, an event loop when all
its callers have had their turn and the batch is short, else the batcher's own thread. A lone request is thus handed to
nobody, and a batch never waits for more requests than are there, unless ``max_wait_ms`` says so.
"""

from __future__ import annotations

import contextvars
import logging
import operator
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, final

from mlserve._rendering import described
from mlserve.errors import InvalidInputError
from mlserve.serving._calling import AVERAGE_WEIGHT
from mlserve.serving._lanes import Lane
from mlserve.serving._loaded import LoadedVersion
from mlserve.serving._policy import Batching
from mlserve.serving._requests import Request, complete, too_late
from mlserve.serving._results import Results
from mlserve.serving._tables import NoTableError
from mlserve.serving._validation import translated

if TYPE_CHECKING:
    import asyncio

_log = logging.getLogger(__name__)
_get_ident = threading.get_ident

PASS_BELOW_MS = 0.02
"""A model whose single call takes less is called directly: to hand a request to another thread or task and its answer
back takes about as long."""

IDLE_SECONDS = 10.0
"""A thread without work for so long ends; the next request that needs it starts it again."""


@final
class Batcher:
    """Batches the requests of a server.

    *Thread safety*: yes, from threads and any number of event loops at once; it belongs to none of them.

    Args:
        batching: The sizes.
        inline_below_ms: See ``Limits``.
        monotonic: Tells seconds.
        results: Records the answers of a batch together.
        sweep: Called when a batch ends whose model is to be dropped.
    """

    def __init__(
        self,
        batching: Batching,
        inline_below_ms: float,
        monotonic: Callable[[], float],
        results: Results,
        sweep: Callable[[], None],
    ) -> None:
        self._batching = batching
        self._inline_below_ms = inline_below_ms
        self._monotonic = monotonic
        import asyncio  # not before somebody batches: it doubles the time of an import

        self._running_loop = asyncio.get_running_loop
        self._results = results
        self._sweep = sweep
        self.batches = 0
        """Calls of models with more than one request."""
        self.batched = 0
        """Requests in them."""
        self.deaths = 0
        """How often the thread ended by an error of its own and was started again."""
        self.renew()

    def renew(self) -> None:
        """No thread and nothing queued, as in a forked child."""
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._ready: deque[Lane] = deque()
        self._thread: threading.Thread | None = None
        self._has_died = False
        self._stopped = False

    # ------------------------------------------------------------------------------------------------- requests

    def is_worth_it(self, loaded: LoadedVersion) -> bool:
        """Whether a version's requests are better queued than answered one by one, as far as was measured."""
        average = loaded.average_ms
        return loaded.adapter.call_many is not None and (average is None or average > PASS_BELOW_MS)

    def call(self, loaded: LoadedVersion, request: Request) -> Any:
        """Answer a checked request, on a thread that may wait. Its ``result`` is made, where others came with it.

        Raises:
            ServingError: It cannot be answered.
            Exception: What the model raised.
        """
        lane = loaded.lane or self._lane(loaded)
        request.weight, request.queued_at = self._weight(request.checked), self._monotonic()
        request.context = contextvars.copy_context()
        request.done = threading.Lock()
        request.done.acquire()
        is_quiet = lane.last_size <= 1 and not len(lane)
        lane.put(request)
        # Nobody else is about: this thread serves itself, and whoever comes in the meantime waits for the next batch.
        try:
            if is_quiet and request.deadline is None and not self._batching.max_wait_ms and lane.permit.acquire(False):
                self._run(lane)
            else:
                self._wake(lane)
            seconds = -1.0 if request.deadline is None else max(0.0, request.deadline - self._monotonic())
            if not request.done.acquire(timeout=seconds):
                raise too_late(request)
        except BaseException:
            request.is_abandoned = True
            raise
        return request.outcome()

    async def acall(self, loaded: LoadedVersion, request: Request) -> Any:
        """Answer a checked request for a coroutine; see ``call``."""
        import asyncio

        self.queue(loaded, request)
        assert request.future is not None
        try:
            if request.deadline is None:
                await request.future
            else:
                await asyncio.wait_for(request.future, max(0.0, request.deadline - self._monotonic()))
        except TimeoutError:
            request.is_abandoned = True
            raise too_late(request) from None
        except BaseException:
            request.is_abandoned = True
            raise
        return request.outcome()

    def queue(self, loaded: LoadedVersion, request: Request) -> None:
        """Queue a checked request of a coroutine, whose event loop looks after it; its ``future`` tells the end.

        Raises:
            ServingError: It cannot be queued.
        """
        lane = loaded.lane or self._lane(loaded)
        if self._batching.weight is not None:
            request.weight = self._weight(request.checked)
        if self._batching.max_wait_ms:
            request.queued_at = self._monotonic()
        loop = self._running_loop()
        request.future, request.thread = loop.create_future(), _get_ident()
        request.context = contextvars.copy_context()
        lane.put(request)
        if self._batching.max_wait_ms:
            self._wake(lane)
        elif loop not in lane.flushing:
            lane.flushing.add(loop)
            loop.call_soon(self._flush, lane, loop, context=contextvars.Context())

    def _weight(self, input: Any) -> int:
        if self._batching.weight is None:
            return 1
        try:
            weight = operator.index(self._batching.weight(input))
        except Exception as exception:
            raise InvalidInputError(
                f"the input cannot be weighed: {described(exception)}.",
                hint="See Batching(weight=).",
                exception=exception,
            ) from exception
        if weight >= 1:
            return weight
        raise InvalidInputError(f"the input weighs {weight}; expected a whole number, at least 1.")

    def _lane(self, loaded: LoadedVersion) -> Lane:
        lane = loaded.lane
        if lane is None:
            with self._lock:
                lane = loaded.lane
                if lane is None:  # pragma: no branch  # another thread may have been faster
                    lane = loaded.lane = Lane(loaded, self._batching)
        return lane  # type: ignore[no-any-return]  # the slot holds any batcher's lane

    # -------------------------------------------------------------------------------------------------- batches

    def _flush(self, lane: Lane, loop: asyncio.AbstractEventLoop) -> None:
        """On an event loop, when all its callers have had their turn."""
        lane.flushing.discard(loop)
        # A model that waits for something else shows in its single calls.
        single_ms, batch_ms = lane.loaded.average_ms, lane.batch_ms
        costs = None if single_ms is None or batch_ms is None else max(single_ms, batch_ms)
        if costs is None or costs > self._inline_below_ms or not lane.permit.acquire(blocking=False):
            self._wake(lane)
            return
        self._run(lane, loop)

    def _run(self, lane: Lane, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Run one batch, hand the permit back, and see to those who came meanwhile: on the loop, or on the thread."""
        loaded = lane.loaded
        # Whoever waits may go away; the model must stay until the call ends.
        holds = loaded.holds
        holds.append(self)
        requests: list[Request] = []
        try:
            begun, computed = self._monotonic(), time.thread_time()
            requests = lane.take(begun)
            lane.last_size = len(requests)
            if requests:
                self._answer(loaded, requests)
                took_ms = (self._monotonic() - begun) * 1000.0
                self._learn(lane, len(requests), took_ms, (time.thread_time() - computed) * 1000.0)
        finally:
            holds.pop()
            lane.permit.release()
            if loaded.evicting:
                self._sweep()
            for request in requests:
                if not request.is_answered:  # what went wrong is no fault of theirs, but they must not wait for ever
                    request.error = translated(RuntimeError("the batch was interrupted"), loaded.id)
            complete(requests)
            if loop is None:
                self.go_on(loaded)
            elif len(lane):
                lane.flushing.add(loop)
                loop.call_soon(self._flush, lane, loop, context=contextvars.Context())

    def _answer(self, loaded: LoadedVersion, requests: Sequence[Request]) -> None:
        try:
            if len(requests) == 1:
                alone = requests[0]
                assert alone.context is not None  # since it was queued
                alone.value = alone.context.run(loaded.call, alone.checked)
                alone.is_answered = True
                return
            self.batches += 1
            self.batched += len(requests)
            call_many = loaded.adapter.call_many
            assert call_many is not None  # else nothing is queued
            # In no caller's context: what one of them has set is not the others'.
            values = contextvars.Context().run(call_many, [request.checked for request in requests])
        except Exception as exception:
            if len(requests) > 1 and (loaded.adapter.is_pure or isinstance(exception, NoTableError)):
                middle = len(requests) // 2
                self._answer(loaded, requests[:middle])
                self._answer(loaded, requests[middle:])
                return
            for request in requests:
                error = translated(exception, loaded.id)
                request.error = error if len(requests) == 1 else error.copy()
                request.is_answered = True
            return
        # Recorded together; a caller who went away meanwhile is not recorded.
        if any(request.is_abandoned for request in requests):
            kept = [row for row, request in enumerate(requests) if not request.is_abandoned]
            requests, values = [requests[row] for row in kept], [values[row] for row in kept]
        self._results.succeeded_many(requests, values)
        for request in requests:
            request.is_answered = True

    def _learn(self, lane: Lane, size: int, took_ms: float, computed_ms: float) -> None:
        known, loaded = lane.batch_ms, lane.loaded
        lane.batch_ms = computed_ms if known is None else known + AVERAGE_WEIGHT * (computed_ms - known)
        average = loaded.average_ms
        # A single call takes no longer than a batch.
        if average is None or size == 1 or took_ms < average:
            loaded.average_ms = took_ms if average is None else average + AVERAGE_WEIGHT * (took_ms - average)

    def go_on(self, loaded: LoadedVersion) -> None:
        """Whoever came while a version's permit was held waits for somebody to run the next batch."""
        lane = loaded.lane
        if lane is not None and len(lane):
            self._wake(lane)

    # ---------------------------------------------------------------------------------------------- own thread

    def _wake(self, lane: Lane) -> None:
        with self._changed:
            if lane not in self._ready:
                self._ready.append(lane)
            if self._thread is None:
                self._start()
            self._changed.notify()

    def _start(self) -> None:
        self._stopped = self._has_died = False
        self._thread = threading.Thread(target=self._serve, name="mlserve-batcher", daemon=True)
        self._thread.start()

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
        """Run the next batch of the lane that has waited longest; false when the thread should end."""
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
        """A lane whose batch is due, its permit taken; else how long none will be."""
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
