"""The batches of all versions: who runs the next one, and what becomes of those who wait."""

from __future__ import annotations

import contextvars
import operator
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, final

from mlserve._rendering import described
from mlserve.errors import InvalidInputError
from mlserve.serving._answering import BatchAnswers, interrupt
from mlserve.serving._asked import Asked
from mlserve.serving._batch_threads import BatchThreads
from mlserve.serving._lanes import Lane
from mlserve.serving._loaded import LoadedVersion
from mlserve.serving._options import Batching
from mlserve.serving._requests import Request, Told, complete, tell, told
from mlserve.serving._results import Results

if TYPE_CHECKING:
    import asyncio

TURN_SHARE = 0.25
"""The share of a batch's time that a thread leaves the event loop it has answered, at most, before it runs the next
batch: model and event loop would slow each other by more than that in wanting the interpreter at the same time."""


@final
class Batches:
    """Runs batches, one after another for each version.

    *Thread safety*: yes, from threads and any number of event loops at once; it belongs to none of them.

    Args:
        batching: The sizes.
        inline_below_ms: See ``Limits``.
        monotonic: Tells seconds.
        results: Records the answers of a batch together.
        sweep: Called when a batch ends whose model is to be dropped.

    Attributes:
        batching: The sizes.
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
        self.batching = batching
        self._inline_below_ms = inline_below_ms
        self._monotonic = monotonic
        self._results = results
        self._sweep = sweep
        self.threads = BatchThreads(monotonic, self.run)
        self.answers = BatchAnswers(monotonic, results)
        self._lock = threading.Lock()

    def renew(self) -> None:
        """No thread and nothing queued, as in a forked child."""
        self._lock = threading.Lock()
        self.threads.renew()

    def lane(self, loaded: LoadedVersion) -> Lane:
        """The queue of a version; a new one where it has none yet."""
        if loaded.lane is None:
            with self._lock:
                if loaded.lane is None:  # pragma: no branch  # another thread may have been faster
                    loaded.lane = Lane(
                        loaded,
                        self.batching,
                        self._results.id_prefix,
                        self._inline_below_ms,
                        self._results.monitor_pace,
                    )
        return loaded.lane  # type: ignore[no-any-return]  # the slot holds any batcher's lane

    def weigh(self, request: Request) -> None:
        """Find how much of a batch a checked request takes.

        Raises:
            InvalidInputError: It cannot be weighed.
        """
        weigh = self.batching.weight
        if weigh is None:
            return
        try:
            weight = operator.index(weigh(request.checked))
        except Exception as exception:
            raise InvalidInputError(
                f"the input cannot be weighed: {described(exception)}.",
                hint="See Batching(weight=).",
                exception=exception,
            ) from exception
        if weight < 1:
            raise InvalidInputError(f"the input weighs {weight}; expected a whole number, at least 1.")
        request.weight = weight

    def run(self, lane: Lane, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Run a batch, on a thread several in one go, hand the permit back, and see that somebody looks after those who
        came meanwhile.

        Args:
            lane: The queue, its permit taken.
            loop: The event loop that runs it, or None on a thread.
        """
        loaded, begun = lane.loaded, self._monotonic()
        # Whoever waits may go away; the model must stay until the call ends.
        holds = loaded.holds
        holds.append(self)
        taken: Sequence[Request] | Asked = ()
        # By event loop: between two batches of a go whatever else may come.
        all_told: dict[Any, list[Told]] = {}
        is_over, count = False, 0
        try:
            while True:
                is_over, taken = False, ()
                taken = lane.take(self._monotonic())
                lane.last_size = len(taken)
                count += 1
                if isinstance(taken, Asked):
                    told_now = all_told.setdefault(taken.loop, [])
                    if len(taken):
                        self.answers.answer_rows(lane, taken, loop, self.batching.max_batch_size, told_now)
                elif taken:
                    self.answers.answer(lane, taken, loop is not None)
                is_over = True
                may_go_on = loop is None and isinstance(taken, Asked)
                if not (may_go_on and lane.goes_on(all_told.keys(), (self._monotonic() - begun) * 1000.0)):
                    break
        finally:
            holds.remove(self)
            lane.permit.release()
            if loaded.evicting:
                self._sweep()
            loops = set(all_told)
            if isinstance(taken, Asked):
                if not is_over:
                    all_told.setdefault(taken.loop, []).append(told(taken.requests(interrupt)))
            else:
                loops |= {request.loop for request in taken}
                if not is_over:
                    for request in taken:
                        interrupt(request)
            turned = None
            if loop is None and lane.batch_ms and len(loops) == 1 and None not in loops:
                lane.rest_seconds = TURN_SHARE * count * lane.batch_ms / 1000.0
                turned = partial(self._turned, lane)
            for their_loop, told_now in all_told.items():
                tell(told_now, their_loop, loop, turned)
            if not isinstance(taken, Asked):
                complete(taken, loop, turned)
            if turned is None:
                self.go_on(loaded)
            else:
                self.threads.wake(lane)

    def _turned(self, lane: Lane) -> None:
        """On an event loop, when the callers that a batch has answered have had their turn."""
        lane.rest_seconds = 0.0
        self.go_on(lane.loaded)

    def go_on(self, loaded: LoadedVersion) -> None:
        """See that somebody runs the next batch of a version for those who came while its permit was held."""
        lane = loaded.lane
        if lane is None or not len(lane) or lane.rest_seconds:
            return
        if self.batching.max_wait_ms:
            self.threads.wake(lane)
            return
        if lane.is_busy():
            return  # again: whoever runs the next batch sees to them
        leader = lane.leader()
        loop = lane.only_loop() if lane.is_inline else None
        if leader is not None:
            leader.ring()
        elif loop is None:
            self.threads.wake(lane)
        else:
            try:
                loop.call_soon_threadsafe(self.flush, lane, loop, context=contextvars.Context())
            except RuntimeError:  # it was closed, and its callers with it
                self.threads.wake(lane)

    def flush(self, lane: Lane, loop: asyncio.AbstractEventLoop) -> None:
        """On an event loop, when all its callers have had their turn: run a batch there, or have one run."""
        lane.flushing.discard(loop)
        if not lane.is_inline:
            self.threads.wake(lane)
        elif lane.permit.acquire(blocking=False):
            self.run(lane, loop)
