"""Micro-batching: requests that are there at the same time are answered by one call of the model.

Whoever finds the model free runs the next batch: a calling thread, for itself and those who wait, or an event loop when
all its callers have had their turn, where the batch is short; else a thread of the batcher's own. So a lone request is
handed to nobody, and a batch waits for no more requests than are there, unless ``max_wait_ms`` says so.
"""

from __future__ import annotations

import contextvars
import operator
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, final

from mlserve._rendering import described
from mlserve.errors import InvalidInputError
from mlserve.records import ServingResult
from mlserve.serving._answering import BatchAnswers, check, interrupt
from mlserve.serving._batch_threads import BatchThreads
from mlserve.serving._bunches import Bunch
from mlserve.serving._lanes import Lane
from mlserve.serving._loaded import LoadedVersion
from mlserve.serving._options import Batching
from mlserve.serving._requests import Request, complete, too_late
from mlserve.serving._results import Results
from mlserve.serving._validation import checked

if TYPE_CHECKING:
    import asyncio

PASS_BELOW_MS = 0.02
"""A model whose single call takes less is called directly: to hand a request to another thread or task and its answer
back takes about as long."""

HAND_OVER_MS = 0.3
"""What it costs threads to wait for each other, about: a batch that spares less than that is not worth it."""

GATHER_SECONDS = 0.003
"""A batch that a calling thread runs stays open for so long at most, while others keep coming."""

give_way = partial(time.sleep, 0)
"""Lets other threads have the interpreter."""


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

    Attributes:
        threads: Run the batches that callers should not.
        answers: Has the models answer.
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
        self._max_queued = batching.max_queued
        self._is_plain = not batching.max_wait_ms and batching.weight is None
        self._results = results
        self._sweep = sweep
        self.threads = BatchThreads(monotonic, self._run)
        self.answers = BatchAnswers(monotonic, results)
        self._lock = threading.Lock()

    def renew(self) -> None:
        """No thread and nothing queued, as in a forked child."""
        self._lock = threading.Lock()
        self.threads.renew()

    def is_worth_it(self, loaded: LoadedVersion) -> bool:
        """Whether a version's requests are better queued than answered one by one, as far as was measured."""
        average = loaded.average_ms
        return loaded.adapter.call_many is not None and (average is None or average > PASS_BELOW_MS)

    # -------------------------------------------------------------------------------------------------- threads

    def call(self, loaded: LoadedVersion, request: Request) -> Any:
        """Answer a checked request, on a thread that may wait. Its ``result`` is made, where others came with it.

        Raises:
            ServingError: It cannot be answered.
            Exception: What the model raised.
        """
        lane = loaded.lane
        if lane is None:
            lane = self._lane(loaded)
        if self._batching.weight is not None:
            request.weight = self._weight(request.checked)
        may_lead = request.deadline is None and not self._batching.max_wait_ms
        if may_lead:
            single_ms = loaded.average_ms
            pays = single_ms is None or (len(loaded.leases) - 1) * single_ms > HAND_OVER_MS
            has_permit = (lane.is_quiet or not pays) and lane.permit.acquire(blocking=False)
            if has_permit or not (pays or loaded.gate):
                return self._answer_alone(lane, request, has_permit)
        request.queued_at = self._monotonic()
        request.context = contextvars.copy_context()
        done = request.done = threading.Lock()
        done.acquire()
        lane.put(request)
        try:
            if not may_lead:
                self.threads.wake(lane)
            elif lane.permit.acquire(blocking=False):
                self._lead(lane)
            # Else whoever has the permit looks after the queue when the batch ends.
            while not request.is_over:
                seconds = -1.0 if request.deadline is None else max(0.0, request.deadline - self._monotonic())
                if not done.acquire(timeout=seconds):
                    raise too_late(request)
                # It was let go on to run the next batch, unless somebody else does.
                if not request.is_over and lane.permit.acquire(blocking=False):
                    self._lead(lane)
        except BaseException:
            request.is_abandoned = True
            self.go_on(loaded)  # it may have been its turn to see to the others
            raise
        finally:
            request.pass_on()
        return request.outcome()

    def _answer_alone(self, lane: Lane, request: Request, has_permit: bool) -> Any:
        """Answer on the caller's own thread, where nobody else is about, or too few to wait for each other.

        Whoever comes while the permit is taken waits for the next batch. The caller holds the model.
        """
        loaded = lane.loaded
        begun = self._monotonic()
        try:
            value = loaded.call(request.checked)
        finally:
            if has_permit:
                lane.last_size = 1
                lane.permit.release()
            self.go_on(loaded)
        took_ms = (self._monotonic() - begun) * 1000.0
        loaded.learn(took_ms)
        if lane.batch_ms is None:
            lane.batch_ms = took_ms
        return value

    def _lead(self, lane: Lane) -> None:
        """Run a batch on a caller's thread, for itself and others; the permit is taken.

        Threads that the last batch answered may be about to ask again, and wait for the interpreter, which this one
        has. While they keep coming the batch stays open; where nobody comes it does not wait.
        """
        until = self._monotonic() + GATHER_SECONDS
        while (size := len(lane)) < self._batching.max_batch_size and self._monotonic() < until:
            give_way()
            if len(lane) == size:
                break
        self._run(lane)

    # ----------------------------------------------------------------------------------------------- coroutines

    async def acall(self, loaded: LoadedVersion, request: Request) -> Any:
        """Answer a checked request for a coroutine; see ``call``."""
        import asyncio

        self._queue(loaded, request)
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

    def enlist(
        self, loaded: LoadedVersion, input: Any, key: str | None, started: float
    ) -> Awaitable[ServingResult[Any] | Request]:
        """Take in what a coroutine asks, where nothing but a batch stands before it.

        Where its event loop will run the batch itself, its input is checked just before, with those of the others.

        Returns:
            Gives the result, or the request where that was answered alone or failed.
        """
        prediction_id = self._results.new_id()
        lane = loaded.lane
        if lane is None:
            lane = self._lane(loaded)
        loop = self._running_loop()
        bunch = lane.bunches.get(loop)
        if bunch is None and self._is_plain and loaded.checks_many and lane.is_inline(self._inline_below_ms):
            bunch = lane.new_bunch(loop)
            # In the context of this caller, who may turn out to be alone.
            loop.call_soon(self._answer_bunch, lane, loop, bunch)
        if bunch is not None:
            if lane.waiting() >= self._max_queued and not bunch.purge():
                return _given(_request(loaded, input, prediction_id, started, key, lane.refusal()))
            future = loop.create_future()
            bunch.inputs.append(input)
            bunch.ids.append(prediction_id)
            bunch.started.append(started)
            bunch.keys.append(key)
            bunch.futures.append(future)
            return future
        request = _request(loaded, input, prediction_id, started, key)
        try:
            request.checked = checked(loaded.check, input)
            return self._queue(loaded, request)
        except Exception as error:
            request.error = error
            return _given(request)

    def _answer_bunch(self, lane: Lane, loop: asyncio.AbstractEventLoop, bunch: Bunch) -> None:
        """On an event loop, when all its callers have had their turn."""
        loaded = lane.loaded
        if len(lane) or not lane.is_inline(self._inline_below_ms) or not lane.permit.acquire(blocking=False):
            del lane.bunches[loop]
            requests = bunch.requests(loaded, check)
            for request in requests:
                request.context = contextvars.Context()  # it may be answered on somebody else's thread
            complete([request for request in requests if request.error is not None], loop)
            lane.put_all([request for request in requests if request.error is None])
            self.go_on(loaded)
            return
        chunk = bunch.take(self._batching.max_batch_size)
        try:
            lane.last_size = len(chunk)
            if len(chunk):
                self._answer_chunk(lane, loop, chunk)
        except BaseException:
            complete(chunk.requests(loaded, interrupt), loop)
            raise
        finally:
            lane.permit.release()
            if len(bunch):
                loop.call_soon(self._answer_bunch, lane, loop, bunch, context=contextvars.Context())
            else:
                del lane.bunches[loop]
            self.go_on(loaded)

    def _answer_chunk(self, lane: Lane, loop: asyncio.AbstractEventLoop, chunk: Bunch) -> None:
        loaded = lane.loaded
        together = _valid(loaded, chunk.inputs) if len(chunk) > 1 else None
        if together is None:
            requests = chunk.requests(loaded, check)
            valid = [request for request in requests if request.error is None]
            if valid:
                self.answers.answer(lane, valid)
            complete(requests, loop)
            return
        begun, computed = self._monotonic(), time.thread_time()
        try:
            values = self.answers.called(loaded, together)
        except KeyboardInterrupt:
            raise  # it is this thread's
        except BaseException as exception:
            requests = chunk.requests(loaded, check)
            self.answers.answer_apart(lane, requests, exception)
            complete(requests, loop)
            return
        self.answers.learn(lane, len(chunk), begun, computed)
        results = self._results.answered(loaded, chunk.ids, chunk.inputs, chunk.started, values, keys=chunk.keys)
        for future, result in zip(chunk.futures, results, strict=True):
            if not future.done():  # a model might have cancelled its caller
                future.set_result(result)

    def _queue(self, loaded: LoadedVersion, request: Request) -> asyncio.Future[Any]:
        """Queue a checked request of a coroutine, whose event loop looks after it; its ``future`` tells the end.

        Raises:
            ServingError: It cannot be queued.
        """
        lane = loaded.lane
        if lane is None:
            lane = self._lane(loaded)
        if self._batching.weight is not None:
            request.weight = self._weight(request.checked)
        request.context, request.queued_at = contextvars.copy_context(), self._monotonic()
        loop = request.loop = self._running_loop()
        future = request.future = loop.create_future()
        lane.put(request)
        if self._batching.max_wait_ms:
            self.threads.wake(lane)
        elif loop not in lane.flushing:
            lane.flushing.add(loop)
            loop.call_soon(self._flush, lane, loop, context=contextvars.Context())
        return future

    def _flush(self, lane: Lane, loop: asyncio.AbstractEventLoop) -> None:
        """On an event loop, when all its callers have had their turn."""
        lane.flushing.discard(loop)
        if not lane.is_inline(self._inline_below_ms):
            self.threads.wake(lane)
        elif lane.permit.acquire(blocking=False):
            self._run(lane, loop)

    # -------------------------------------------------------------------------------------------------- batches

    def _run(self, lane: Lane, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Run one batch, hand the permit back, and see that somebody looks after those who came meanwhile.

        Args:
            lane: The queue.
            loop: The event loop that runs it, or None on a thread.
        """
        loaded = lane.loaded
        # Whoever waits may go away; the model must stay until the call ends.
        holds = loaded.holds
        holds.append(self)
        requests: Sequence[Request] = ()
        is_over = False
        try:
            requests = lane.take(self._monotonic())
            lane.last_size = len(requests)
            if requests:
                self.answers.answer(lane, requests)
            is_over = True
        finally:
            holds.pop()
            lane.permit.release()
            if loaded.evicting:
                self._sweep()
            if not is_over:
                for request in requests:
                    interrupt(loaded, request)
            complete(requests, loop)
            self.go_on(loaded)

    def go_on(self, loaded: LoadedVersion) -> None:
        """See that somebody runs the next batch of a version for those who came while its permit was held."""
        lane = loaded.lane
        if lane is None or not len(lane):
            return
        if self._batching.max_wait_ms:
            self.threads.wake(lane)
            return
        if lane.is_busy():
            return  # again: whoever runs the next batch sees to them
        leader = lane.leader()
        loop = lane.only_loop() if lane.is_inline(self._inline_below_ms) else None
        if leader is not None:
            leader.let_go_on()
        elif loop is None:
            self.threads.wake(lane)
        else:
            try:
                loop.call_soon_threadsafe(self._flush, lane, loop, context=contextvars.Context())
            except RuntimeError:  # it was closed, and its callers with it
                self.threads.wake(lane)

    def _weight(self, input: Any) -> int:
        weigh = self._batching.weight
        assert weigh is not None  # else every request weighs 1
        try:
            weight = operator.index(weigh(input))
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
        with self._lock:
            if loaded.lane is None:  # pragma: no branch  # another thread may have been faster
                loaded.lane = Lane(loaded, self._batching)
        return loaded.lane  # type: ignore[no-any-return]  # the slot holds any batcher's lane


def _valid(loaded: LoadedVersion, inputs: list[Any]) -> Any:
    """What the model is given for several inputs, where a glance tells that all are valid; else None."""
    if loaded.check_table is not None:
        return loaded.check_table(inputs)
    return None if any(input is None for input in inputs) else inputs


def _request(
    loaded: LoadedVersion,
    input: Any,
    prediction_id: str,
    started: float,
    key: str | None,
    error: Exception | None = None,
) -> Request:
    request = Request(input, prediction_id, started)
    request.loaded, request.key, request.error = loaded, key, error
    return request


async def _given(request: Request) -> Request:
    return request
