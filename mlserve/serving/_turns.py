"""Coroutines that ask within one turn of their event loop: gathered, and answered together."""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, final

from mlserve.records import ServingResult
from mlserve.serving._answering import interrupt, valid_together
from mlserve.serving._batches import Batches
from mlserve.serving._bunches import Bunch
from mlserve.serving._lanes import Lane
from mlserve.serving._loaded import LoadedVersion
from mlserve.serving._requests import Request, Told, complete, tell, told, too_late
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
        self._batches = batches
        self._monotonic = monotonic
        self._results = results
        self._is_worth_it = is_worth_it
        batching = batches.batching
        self._max_queued, self._max_batch_size = batching.max_queued, batching.max_batch_size

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
            raise too_late(request) from None
        except BaseException:
            future.cancel()  # not yet, where the coroutine was closed
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
        if bunch is None:
            if not self._is_worth_it(loaded):
                return None
            if not lane.takes_rows:
                # What a user's own validator checks goes the long way, on which the event loop need not wait for it.
                return self._enlist_alone(loaded, input, key, started) if loaded.check_pace is None else None
            bunch = lane.new_bunch(loop)
            # In the context of this caller, who may turn out to be alone.
            loop.call_soon(self._see_to, lane, loop, bunch)
        rows = bunch.rows
        # As quickly as can be where one loop asks: all its callers do this, one after the other.
        waiting = (
            len(rows) + len(lane.queue) + len(lane.callers.rows) + lane.parked.count
            if len(bunches) == 1
            else lane.waiting()
        )
        # Those who went away make room.
        if waiting >= self._max_queued and not (bunch.purge() or lane.purge()):
            return _given(self._request(loaded, input, key, started, lane.refusal()))
        future: Awaitable[Any] = bunch.new_future()
        rows.append((input, self._results.accepted.next(), started, key, future, None))
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
        bunch.keep_context()
        if len(lane) or not lane.is_inline or not lane.permit.acquire(blocking=False):
            del lane.bunches[loop]
            self._queue_all(lane, loop, bunch)
            batches.go_on(lane.loaded)
            return
        # Several batches in one go, for as long as the event loop may be held: what surrounds them is done once.
        asked = bunch.take(self._max_batch_size * lane.batches_within_turn())
        all_told: list[Told] = []
        try:
            lane.last_size = len(asked)
            if len(asked):
                batches.answers.answer_rows(lane, asked, loop, self._max_batch_size, all_told)
        except BaseException:
            all_told.append(told(asked.requests(interrupt)))
            raise
        finally:
            tell(all_told, loop, loop)
            lane.permit.release()
            if len(bunch):
                loop.call_soon(self._see_to, lane, loop, bunch, context=contextvars.Context())
            else:
                del lane.bunches[loop]
            batches.go_on(lane.loaded)

    def _queue_all(self, lane: Lane, loop: asyncio.AbstractEventLoop, bunch: Bunch) -> None:
        """Queue what came within a turn; what is not valid fails now."""
        asked = bunch.take(len(bunch))
        asked.together = valid_together(lane.loaded, asked.columns.inputs) if len(asked) else None
        if asked.together is not None:
            lane.park(asked)
            return
        requests = asked.requests(Request.check)
        complete([request for request in requests if request.error is not None], loop)
        lane.put_all([request for request in requests if request.error is None])

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


async def _given(request: Request) -> Request:
    return request
