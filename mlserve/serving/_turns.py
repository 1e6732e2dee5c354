"""Coroutines that ask within one turn of their event loop: gathered, and answered together."""

from __future__ import annotations

import contextvars
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, final

from mlserve.records import ServingResult
from mlserve.serving._answering import check, interrupt
from mlserve.serving._answers import Answers
from mlserve.serving._batches import Batches
from mlserve.serving._bunches import Bunch
from mlserve.serving._lanes import Lane
from mlserve.serving._loaded import LoadedVersion
from mlserve.serving._requests import Request, complete, too_late
from mlserve.serving._results import Results
from mlserve.serving._validation import checked

if TYPE_CHECKING:
    import asyncio


@final
class Turns:
    """The requests of coroutines: nothing is done for one of them before all have had their turn.

    *Thread safety*: yes, from any number of event loops at once; it belongs to none of them.

    Args:
        batches: Run what is not answered within a turn.
        monotonic: Tells seconds.
        results: Records the answers of a batch together.
        is_worth_it: Whether a version's requests are better batched.
    """

    def __init__(
        self,
        batches: Batches,
        monotonic: Callable[[], float],
        results: Results,
        is_worth_it: Callable[[LoadedVersion], bool],
    ) -> None:
        import asyncio  # not before somebody batches: it doubles the time of an import

        self._running_loop = asyncio.get_running_loop
        self._wait_for = asyncio.wait_for
        self._invalid_state = asyncio.InvalidStateError
        self._batches = batches
        self._monotonic = monotonic
        self._results = results
        self._is_worth_it = is_worth_it
        batching = batches.batching
        self._max_queued, self._max_batch_size = batching.max_queued, batching.max_batch_size
        self._is_plain = not batching.max_wait_ms and batching.weight is None

    async def acall(self, loaded: LoadedVersion, request: Request) -> Any:
        """Answer a checked request; its ``result`` is made, where others came with it.

        Raises:
            ServingError: It cannot be answered.
            Exception: What the model raised.
        """
        future = self._queue(loaded, request)
        try:
            if request.deadline is None:
                await future
            else:
                await self._wait_for(future, max(0.0, request.deadline - self._monotonic()))
        except TimeoutError:
            request.is_abandoned = True
            raise too_late(request) from None
        except BaseException:
            request.is_abandoned = True
            raise
        return request.outcome()

    def enlist(
        self, loaded: LoadedVersion, input: Any, key: str | None, started: float
    ) -> Awaitable[ServingResult[Any] | Request] | None:
        """Take in what a coroutine asks, where nothing but a batch stands before it.

        Inputs are checked at the end of the loop's turn, all together.

        Returns:
            Gives the result, or the request where that was answered alone or failed; None where the version's requests
            are better not batched.
        """
        lane = loaded.lane
        if lane is None:
            lane = self._batches.lane(loaded)
        bunches = lane.bunches
        loop = self._running_loop()
        bunch = bunches.get(loop)
        if bunch is not None:
            pass
        elif not self._is_worth_it(loaded):
            return None
        elif self._is_plain and loaded.checks_many:
            bunch = lane.new_bunch(loop, self._results.id_prefix)
            # In the context of this caller, who may turn out to be alone.
            loop.call_soon(self._see_to, lane, loop, bunch)
        else:
            return self._enlist_alone(loaded, input, key, started)
        rows = bunch.rows
        waiting = len(rows) + len(lane) if len(bunches) == 1 else lane.waiting()
        # Those who went away make room.
        if waiting >= self._max_queued and not (bunch.purge() or lane.purge()):
            return _given(self._request(loaded, input, key, started, lane.refusal()))
        future: Awaitable[Any] = bunch.new_future()
        rows.append((input, self._results.accepted.next(), started, key, future))
        return future

    def _enlist_alone(
        self, loaded: LoadedVersion, input: Any, key: str | None, started: float
    ) -> Awaitable[ServingResult[Any] | Request]:
        request = self._request(loaded, input, key, started)
        try:
            request.checked = checked(loaded.check, input)
            return self._queue(loaded, request)
        except Exception as error:
            request.error = error
            return _given(request)

    def _see_to(self, lane: Lane, loop: asyncio.AbstractEventLoop, bunch: Bunch) -> None:
        """At the end of the turn: answer on the event loop what is soon answered, and queue the rest."""
        batches = self._batches
        if len(lane) or not lane.is_inline(batches.inline_below_ms) or not lane.permit.acquire(blocking=False):
            del lane.bunches[loop]
            self._queue_all(lane, loop, bunch.take(len(bunch)))
            batches.go_on(lane.loaded)
            return
        # Several batches in one go, for as long as the event loop may be held: what surrounds them is done once.
        chunk = bunch.take(self._max_batch_size * lane.batches_within(batches.inline_below_ms))
        try:
            lane.last_size = len(chunk)
            if len(chunk):
                self._answer(lane, loop, chunk)
        except BaseException:
            complete(chunk.requests(interrupt), loop)
            raise
        finally:
            lane.permit.release()
            if len(bunch):
                loop.call_soon(self._see_to, lane, loop, bunch, context=contextvars.Context())
            else:
                del lane.bunches[loop]
            batches.go_on(lane.loaded)

    def _answer(self, lane: Lane, loop: asyncio.AbstractEventLoop, chunk: Bunch) -> None:
        loaded, answers, size = lane.loaded, self._batches.answers, self._max_batch_size
        inputs, ids, started, keys, futures = chunk.columns()
        together = _valid(loaded, inputs) if len(chunk) > 1 else None
        if together is None and len(chunk) <= size:
            self._answer_checked(lane, loop, chunk)
            return
        if together is None:  # the others are checked one by one only where a batch is theirs and that input's
            for start in range(0, len(chunk), size):
                self._answer(lane, loop, chunk.between(start, start + size))
            return
        parts: list[Answers] = []
        failed: BaseException | None = None
        for start in range(0, len(chunk), size):
            begun, computed = self._monotonic(), time.thread_time()
            try:
                parts.append(answers.called(loaded, together[start : start + size]))
            except BaseException as exception:
                failed = exception
                break
            answers.learn(lane, min(size, len(chunk) - start), begun, computed)
        count = min(len(parts) * size, len(chunk))
        if count:
            results = self._results.answered(
                loaded, ids[:count], inputs[:count], started[:count], Answers.joined(parts), keys=keys[:count]
            )
            for future, result in zip(futures, results, strict=False):
                try:
                    future.set_result(result)
                except self._invalid_state:  # a model might have cancelled its caller
                    continue
        if isinstance(failed, KeyboardInterrupt):
            raise failed  # it is this thread's
        if failed is not None:
            requests = chunk.between(count, count + size).requests(check)
            answers.answer_apart(lane, requests, failed)
            complete(requests, loop)
            if count + size < len(chunk):
                self._answer(lane, loop, chunk.between(count + size, len(chunk)))

    def _answer_checked(self, lane: Lane, loop: asyncio.AbstractEventLoop, chunk: Bunch) -> None:
        """Answer a batch of requests of which each must be checked by itself."""
        requests = chunk.requests(check)
        valid = [request for request in requests if request.error is None]
        if valid:
            self._batches.answers.answer(lane, valid)
        complete(requests, loop)

    def _queue_all(self, lane: Lane, loop: asyncio.AbstractEventLoop, bunch: Bunch) -> None:
        """Queue what came within a turn; what is not valid fails now."""
        together = _valid(lane.loaded, [row[0] for row in bunch.rows]) if len(bunch) > 1 else None
        requests = bunch.requests(check if together is None else None)
        if together is None:
            complete([request for request in requests if request.error is not None], loop)
            requests = [request for request in requests if request.error is None]
        else:
            for request, row in zip(requests, together, strict=True):
                request.checked = row
        lane.put_all(requests)

    def _request(
        self, loaded: LoadedVersion, input: Any, key: str | None, started: float, error: Exception | None = None
    ) -> Request:
        request = Request(input, self._results.new_id(), started)
        request.loaded, request.key, request.error = loaded, key, error
        return request

    def _queue(self, loaded: LoadedVersion, request: Request) -> asyncio.Future[Any]:
        """Queue a checked request, whose event loop looks after it; its ``future`` tells the end.

        Raises:
            ServingError: It cannot be queued.
        """
        batches = self._batches
        lane = batches.lane(loaded)
        batches.weigh(request)
        request.context, request.queued_at = contextvars.copy_context(), self._monotonic()
        loop = request.loop = self._running_loop()
        future = request.future = loop.create_future()
        lane.put(request)
        if batches.batching.max_wait_ms:
            batches.threads.wake(lane)
        elif loop not in lane.flushing:
            lane.flushing.add(loop)
            loop.call_soon(batches.flush, lane, loop, context=contextvars.Context())
        return future


def _valid(loaded: LoadedVersion, inputs: Sequence[Any]) -> Any:
    """What the model is given for several inputs, where a glance tells that all are valid; else None."""
    if loaded.check_table is not None:
        return loaded.check_table(inputs)
    return None if any(input is None for input in inputs) else list(inputs)


async def _given(request: Request) -> Request:
    return request
