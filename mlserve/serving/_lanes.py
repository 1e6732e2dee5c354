"""The queues of batching: one for each version."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, final

from mlserve.errors import OverloadedError
from mlserve.serving._bunches import Bunch
from mlserve.serving._loaded import LoadedVersion
from mlserve.serving._options import Batching
from mlserve.serving._requests import Request, complete, too_late

if TYPE_CHECKING:
    import asyncio


@final
class Lane:
    """The requests waiting for one version.

    *Thread safety*: yes.

    Args:
        loaded: The version.
        batching: The sizes.
    """

    def __init__(self, loaded: LoadedVersion, batching: Batching) -> None:
        self.loaded = loaded
        self.permit: threading.Semaphore | threading.Lock = loaded.gate if loaded.gate is not None else threading.Lock()
        """Taken for a batch. Where calls at once are limited it is the turn that every call takes."""
        self.is_busy: Callable[[], bool] = getattr(self.permit, "locked", _unknown)
        """Whether the permit is taken, as far as it can tell; a semaphore cannot."""
        self.flushing: set[Any] = set()
        """Event loops that will look after the queue when their callers have had their turn."""
        self.bunches: dict[asyncio.AbstractEventLoop, Bunch] = {}
        """What event loops will answer themselves when their callers have had their turn."""
        self.batch_ms: float | None = None
        """How long a thread computes for a batch, whatever its size; a moving average. Without what it waits: most of
        that is for the interpreter, which an event loop that runs the batch itself would not have to wait for."""
        self.last_size = 0
        """Requests in the last batch: more than one, and others are about."""
        self.rest_seconds = 0.0
        """How long its thread leaves an event loop the interpreter before it takes the next batch, at most; 0 when the
        callers of the loop have had their turn."""
        self._batching = batching
        self.queue: deque[Request] = deque()
        """Who waits on a thread, or in some way that a row does not tell."""
        self.rows: Bunch | None = None
        """Coroutines of one event loop whose inputs were found valid."""
        # Around the rows and the taking of a batch: with several permits there may be several takers.
        self._taking = threading.Lock()

    def __len__(self) -> int:
        rows = self.rows
        return len(self.queue) + (0 if rows is None else len(rows))

    def waiting(self) -> int:
        """Requests that wait for the version, in the queue and with event loops."""
        return len(self) + sum([len(bunch) for bunch in list(self.bunches.values())])

    @property
    def is_quiet(self) -> bool:
        """Whether nobody waits, and nobody came with the last request."""
        return self.last_size <= 1 and not len(self)

    def is_inline(self, below_ms: float) -> bool:
        """Whether an event loop may run a batch itself: it is known to be short."""
        # A model that waits for something else shows in its single calls.
        single_ms, batch_ms = self.loaded.average_ms, self.batch_ms
        return single_ms is not None and batch_ms is not None and single_ms <= below_ms and batch_ms <= below_ms

    def batches_within(self, ms: float) -> int:
        """How many batches take no longer than so many milliseconds, as far as is known; at least one."""
        longest = max(self.loaded.average_ms or 0.0, self.batch_ms or 0.0)
        return max(1, int(ms / longest)) if longest else 1

    def leader(self) -> Request | None:
        """The oldest request whose caller may run a batch, as it waits on a thread for as long as it takes."""
        for request in list(self.queue):
            if request.done is not None and request.deadline is None and not request.is_abandoned:
                return request
        return None

    def only_loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop of all who wait, where they have one and the same: it may be busy, or end with its callers."""
        loops, rows = {request.loop for request in list(self.queue)}, self.rows
        if rows is not None:
            loops.add(rows.loop)
        return loops.pop() if len(loops) == 1 else None

    def put(self, request: Request) -> None:
        """Queue a request.

        Raises:
            OverloadedError: Too many are queued.
        """
        # Where only threads ask, as quickly as can be: all of them do this, one at a time.
        waiting = len(self.queue) if self.rows is None and not self.bunches else self.waiting()
        if waiting >= self._batching.max_queued and not self.purge():
            raise self.refusal()
        self.queue.append(request)

    def put_all(self, requests: Sequence[Request]) -> None:
        """Queue requests that were queued elsewhere, whatever their number."""
        self.queue.extend(requests)

    def put_rows(self, rows: Bunch) -> None:
        """Queue requests that were found valid and queued elsewhere, whatever their number."""
        with self._taking:
            if self.rows is None:
                self.rows = rows
            elif self.rows.loop is rows.loop:
                self.rows.extend(rows)
            else:
                self.queue.extend(rows.requests(_as_it_came))

    def refusal(self) -> OverloadedError:
        """The error of a request that finds too many queued."""
        return OverloadedError(
            f"{self._batching.max_queued} requests already wait for version {self.loaded.id}.",
            hint="Retry later; Batching(max_queued=) is the limit.",
            version_id=self.loaded.id,
        )

    def new_bunch(self, loop: asyncio.AbstractEventLoop, id_prefix: str) -> Bunch:
        """An empty bunch for an event loop that has none, in place of those of closed ones."""
        for other in list(self.bunches):
            if other.is_closed():
                self.bunches.pop(other, None)
        bunch = self.bunches[loop] = Bunch(self.loaded, loop, id_prefix)
        return bunch

    def purge(self) -> bool:
        """Take out those nobody waits for any more; tells whether there were any."""
        with self._taking:
            gone = [request for request in list(self.queue) if request.is_gone]
            for request in gone:
                self.queue.remove(request)
            has_left = self.rows is not None and self.rows.purge()
        return bool(gone) or has_left

    def take(self, now: float) -> list[Request] | Bunch:
        """The next batch: the oldest requests that fit, less those nobody waits for any more."""
        queue, size = self.queue, self._batching.max_batch_size
        with self._taking:
            rows = self.rows
            if self._batching.weight is not None:
                taken = self._fitting(size)
            elif rows is None:
                taken = [queue.popleft() for _ in range(min(size, len(queue)))]
            elif not queue:
                return self._taken_rows(rows, size)
            else:
                taken = self._of_both(rows, size)
        odd = [
            request
            for request in taken
            if request.deadline is not None
            or request.is_abandoned
            or (request.future is not None and request.future.cancelled())  # is_gone, without its call
        ]
        if not odd:
            return taken
        late = [request for request in odd if request.deadline is not None and now >= request.deadline]
        for request in late:
            request.error = too_late(request)
        complete([request for request in late if not request.is_gone])
        return [request for request in taken if request.error is None and not request.is_gone]

    def _taken_rows(self, rows: Bunch, size: int) -> Bunch:
        taken = rows.take(size)
        if not len(rows):
            self.rows = None
        return taken

    def _of_both(self, rows: Bunch, size: int) -> list[Request]:
        """First of those among whom the oldest is, who wait as rows or do not, and of the others as many as fit."""
        queue = self.queue
        if rows.started < queue[0].started:
            taken = self._taken_rows(rows, size).requests(_as_it_came)
            return taken + [queue.popleft() for _ in range(min(size - len(taken), len(queue)))]
        taken = [queue.popleft() for _ in range(min(size, len(queue)))]
        if len(taken) < size:
            taken += self._taken_rows(rows, size - len(taken)).requests(_as_it_came)
        return taken

    def _fitting(self, room: int) -> list[Request]:
        taken: list[Request] = []
        queue = self.queue
        while queue:
            request = queue[0]
            if request.weight > room and taken:
                break  # it stays at the front, for the next batch
            room -= request.weight
            taken.append(queue.popleft())
        return taken

    def due(self, now: float) -> float:
        """When the next batch should begin: at once when it is full, else when its oldest request has waited enough."""
        if not self._batching.max_wait_ms:
            return now
        waiting = list(self.queue)
        if not waiting or sum(request.weight for request in waiting) >= self._batching.max_batch_size:
            return now
        return waiting[0].queued_at + self._batching.max_wait_ms / 1000.0


def _unknown() -> bool:
    return False


def _as_it_came(_: LoadedVersion, request: Request) -> None:
    request.checked = request.input
