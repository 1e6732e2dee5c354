"""Micro-batching: requests that are there at the same time are answered by one call of the model.

Whoever finds the model free runs the next batch: a calling thread, for itself and those who wait, or an event loop when
all its callers have had their turn, where the batch is short; else a thread of the batcher's own. So a lone request is
handed to nobody, and a batch waits for no more requests than are there, unless ``max_wait_ms`` says so.
"""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable
from functools import partial
from typing import Any, final

from mlserve.serving._batches import Batches
from mlserve.serving._lanes import Lane
from mlserve.serving._loaded import LoadedVersion
from mlserve.serving._requests import Request, too_late
from mlserve.serving._results import Results
from mlserve.serving._turns import Turns
from mlserve.serving._waiters import Waiter

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
        batches: Those of all versions.
        monotonic: Tells seconds.
        results: Records the answers of a batch together.

    Attributes:
        batches: Those of all versions.
        turns: The requests of coroutines.
    """

    def __init__(self, batches: Batches, monotonic: Callable[[], float], results: Results) -> None:
        self.batches = batches
        self._batching = batches.batching
        self._monotonic = monotonic
        self.turns = Turns(batches, monotonic, results, self.is_worth_it)

    def is_worth_it(self, loaded: LoadedVersion) -> bool:
        """Whether a version's requests are better queued than answered one by one, as far as was measured."""
        typical = loaded.typical_ms
        return loaded.adapter.call_many is not None and (typical is None or typical > PASS_BELOW_MS)

    def call(self, loaded: LoadedVersion, request: Request) -> Any:
        """Answer a checked request on a thread that may wait. Its ``result`` is made, where others came with it.

        Raises:
            ServingError: It cannot be answered.
            Exception: What the model raised.
        """
        batches = self.batches
        lane = batches.lane(loaded)
        batches.weigh(request)
        may_lead = request.deadline is None and not self._batching.max_wait_ms
        if may_lead:
            pays = self.pays(loaded)
            has_permit = (lane.is_quiet or not pays) and lane.permit.acquire(blocking=False)
            if has_permit or not (pays or loaded.gate):
                return self._answer_alone(lane, request, has_permit)
        request.queued_at = self._monotonic()
        request.context = contextvars.copy_context()
        waiter = request.future = Waiter(is_patient=request.deadline is None)
        lane.put(request)
        self.wait(lane, waiter, None if may_lead else request)
        return request.outcome()

    def pays(self, loaded: LoadedVersion) -> bool:
        """Whether it spares more to share a batch with the others who are about than it costs to wait for them."""
        typical = loaded.typical_ms
        return typical is None or (len(loaded.leases) - 1) * typical > HAND_OVER_MS

    def wait(self, lane: Lane, waiter: Waiter, request: Request | None = None) -> Any:
        """Wait for what a queued caller is told, and run batches meanwhile when it is its turn.

        Args:
            lane: The queue.
            waiter: What the caller waits on.
            request: What was queued, where its caller may not run the next batch at once.

        Raises:
            DeadlineExceededError: It is too late.
        """
        permit = lane.permit
        deadline = None if request is None else request.deadline
        try:
            if request is not None:
                self.batches.threads.wake(lane)
            elif permit.acquire(blocking=False):
                self._lead(lane)
            # Else whoever has the permit looks after the queue when the batch ends.
            while waiter.outcome is None:
                if deadline is None:
                    waiter.wait()
                elif not waiter.wait(timeout=max(0.0, deadline - self._monotonic())) and waiter.outcome is None:
                    assert request is not None  # it has the deadline
                    raise too_late(request)
                # It was let go on to run the next batch, unless somebody else does.
                if waiter.outcome is None and permit.acquire(blocking=False):
                    self._lead(lane)
        except BaseException:
            waiter.cancel()
            self.batches.go_on(lane.loaded)  # it may have been its turn to see to the others
            raise
        finally:
            waiter.pass_on()
        return waiter.outcome

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
            self.batches.go_on(loaded)
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
        self.batches.run(lane)
