"""The queues of batching: one for each version."""

from __future__ import annotations

import math
import operator
import threading
from collections import deque
from collections.abc import Callable, Sequence, Set
from typing import TYPE_CHECKING, Any, final

from mlserve.errors import OverloadedError
from mlserve.serving._asked import Asked, Parked
from mlserve.serving._bunches import Bunch, Row
from mlserve.serving._loaded import LoadedVersion
from mlserve.serving._options import Batching
from mlserve.serving._pace import Pace, averaged
from mlserve.serving._requests import Request, complete, too_late
from mlserve.serving._waiters import Waiter

if TYPE_CHECKING:
    import asyncio


OFF_LOOP_BATCHES = 1000
"""Batches that run on a thread after two in a row have held an event loop longer than they may; then one more is tried
there."""

GO_MS = 10.0
"""A thread that runs full batches for an event loop runs as many in one go as take no longer than this together: to
hand answers over and to have the callers ask again takes some tenths of a millisecond each time."""


@final
class Lane:
    """The requests waiting for one version.

    *Thread safety*: yes.

    Args:
        loaded: The version.
        batching: The sizes.
        id_prefix: Begins the ids of the predictions.
        inline_below_ms: See ``Limits``.
        monitor_pace: How long the monitor takes; None where nobody has to wait for it.
    """

    def __init__(
        self,
        loaded: LoadedVersion,
        batching: Batching,
        id_prefix: str,
        inline_below_ms: float,
        monitor_pace: Pace | None = None,
    ) -> None:
        self.loaded = loaded
        self._monitor_pace = monitor_pace
        self._inline_below_ms = inline_below_ms
        self._overruns = 0
        self._banned = 0
        self._id_prefix = id_prefix
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
        self._full_ms: float | None = None
        """How long a full batch takes by the clock; a moving average."""
        self.last_size = 0
        """Requests in the last batch: more than one, and others are about."""
        self.rest_seconds = 0.0
        """How long its thread leaves an event loop the interpreter before it takes the next batch, at most; 0 when the
        callers of the loop have had their turn."""
        self._batching = batching
        self.takes_rows = not batching.max_wait_ms and batching.weight is None and loaded.checks_many
        """Whether a request may wait as a row, which is checked with its batch."""
        self.queue: deque[Request] = deque()
        """Who waits in some way that a row does not tell."""
        self.callers = Bunch(loaded, None, id_prefix)
        """Who waits on a thread; what they ask was not checked yet."""
        self.parked = Parked()
        """Coroutines of one event loop whose inputs were found valid."""
        self.thread: Any = None
        """Runs its batches where no caller should; made when it is first needed."""
        # Around the rows and the taking of a batch: with several permits there may be several takers.
        self._taking = threading.Lock()

    def __len__(self) -> int:
        return len(self.queue) + len(self.callers.rows) + self.parked.count

    def waiting(self) -> int:
        """Requests that wait for the version, in the queue and with event loops."""
        return len(self) + sum([len(bunch) for bunch in list(self.bunches.values())])

    @property
    def is_quiet(self) -> bool:
        """Whether nobody waits, and nobody came with the last request."""
        return self.last_size <= 1 and not len(self)

    @property
    def is_inline(self) -> bool:
        """Whether an event loop may run a batch itself: it is known to be short."""
        single_ms, batch_ms, limit = self.loaded.average_ms, self.batch_ms, self._inline_below_ms
        is_short = single_ms is not None and batch_ms is not None and single_ms <= limit and batch_ms <= limit
        return is_short and not self._banned and self._recording_ms() <= limit

    def batches_within_turn(self) -> int:
        """How many batches an event loop may run at once, as far as is known; at least one."""
        longest = max(self.loaded.average_ms or 0.0, self.batch_ms or 0.0) + self._recording_ms()
        return max(1, int(self._inline_below_ms / longest)) if longest else 1

    def _recording_ms(self) -> float:
        pace = self._monitor_pace
        return 0.0 if pace is None else pace.takes_ms(self._batching.max_batch_size)

    def learn(self, size: int, took_ms: float, computed_ms: float, on_loop: bool) -> None:
        """A batch took so long by the clock, and its thread computed for so long.

        Args:
            size: Requests in it.
            took_ms: By the clock.
            computed_ms: What its thread computed.
            on_loop: Whether an event loop ran it.
        """
        loaded = self.loaded
        self.batch_ms = averaged(self.batch_ms, computed_ms)
        if size >= self._batching.max_batch_size:
            self._full_ms = averaged(self._full_ms, took_ms)
        # A single call takes no longer than a batch.
        if loaded.average_ms is None or size == 1 or took_ms < loaded.average_ms:
            loaded.learn(took_ms)
        if not on_loop:
            self._banned = max(0, self._banned - 1)
        elif took_ms <= self._inline_below_ms:
            self._overruns = 0
        else:
            # One may have been held up by a collection of garbage. A model that waits shows in every batch, and only
            # here: on a thread it computes little, and what it waits for might be the interpreter.
            self._overruns += 1
            if self._overruns > 1:
                self._overruns, self._banned = 1, OFF_LOOP_BATCHES

    def leader(self) -> Waiter | None:
        """Somebody who may run a batch, as it waits on a thread for as long as it takes."""
        if not self.callers.rows and not self.queue:
            return None
        waiting = [row[4] for row in list(self.callers.rows)] + [request.future for request in list(self.queue)]
        for waiter in waiting:
            if isinstance(waiter, Waiter) and waiter.is_patient and not waiter.cancelled():
                return waiter
        return None

    def only_loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop of all who wait, where they have one and the same: it may be busy, or end with its callers."""
        loops = {request.loop for request in list(self.queue)}
        loops |= ({self.parked.loop} if self.parked.count else set()) | ({None} if self.callers.rows else set())
        return loops.pop() if len(loops) == 1 else None

    def put(self, request: Request) -> None:
        """Queue a request.

        Raises:
            OverloadedError: Too many are queued.
        """
        self.make_room()
        self.queue.append(request)

    def put_caller(self, row: Row) -> None:
        """Queue what a caller on a thread asks.

        Raises:
            OverloadedError: Too many are queued.
        """
        rows = self.callers.rows
        # As quickly as can be where only threads ask: all of them do this, one at a time.
        if self.parked.count or self.bunches or len(rows) + len(self.queue) >= self._batching.max_queued:
            self.make_room()
        rows.append(row)

    def make_room(self) -> None:
        """See that one more may be queued: those who went away make room.

        Raises:
            OverloadedError: Too many are queued.
        """
        if self.waiting() >= self._batching.max_queued and not self.purge():
            raise self.refusal()

    def put_all(self, requests: Sequence[Request]) -> None:
        """Queue requests that were queued elsewhere, whatever their number."""
        self.queue.extend(requests)

    def park(self, asked: Asked) -> None:
        """Queue requests that were found valid and queued elsewhere, whatever their number."""
        with self._taking:
            if not self.parked.count or self.parked.loop is asked.loop:
                self.parked.put(asked)
            else:
                self.queue.extend(asked.requests(_as_it_came))

    def refusal(self) -> OverloadedError:
        """The error of a request that finds too many queued."""
        return OverloadedError(
            f"{self._batching.max_queued} requests already wait for version {self.loaded.id}.",
            hint="Retry later; Batching(max_queued=) is the limit.",
            version_id=self.loaded.id,
        )

    def new_bunch(self, loop: asyncio.AbstractEventLoop) -> Bunch:
        """An empty bunch for an event loop that has none, in place of those of closed ones."""
        for other in list(self.bunches):
            if other.is_closed():
                self.bunches.pop(other, None)
        bunch = self.bunches[loop] = Bunch(self.loaded, loop, self._id_prefix)
        return bunch

    def purge(self) -> bool:
        """Take out those nobody waits for any more; tells whether there were any."""
        with self._taking:
            gone = [request for request in list(self.queue) if request.is_gone]
            for request in gone:
                self.queue.remove(request)
            has_left = [waiting.purge() for waiting in (self.parked, self.callers)]
        return bool(gone) or any(has_left)

    def take(self, now: float) -> list[Request] | Asked:
        """The next batch: the oldest requests that fit, less those nobody waits for any more."""
        queue, parked, size = self.queue, self.parked, self._batching.max_batch_size
        with self._taking:
            if not queue and (not parked.count or not self.callers.rows):
                return parked.take(size) if parked.count else self.callers.take(size)
            taken = self._mixed(size) if self._batching.weight is None else self._fitting(size)
        for request in taken:
            if request.deadline is not None and now >= request.deadline:
                request.error = too_late(request)
        complete([request for request in taken if request.error is not None and not request.is_gone])
        return [request for request in taken if request.error is None and not request.is_gone]

    def goes_on(self, loops: Set[Any], spent_ms: float) -> bool:
        """Whether a thread runs one more batch before it hands answers over.

        Args:
            loops: Whose requests it has answered, None for threads'.
            spent_ms: How long it took.
        """
        parked = self.parked
        return (
            parked.count >= self._batching.max_batch_size
            and loops == {parked.loop}
            and not self.queue
            and not self.callers.rows
            and self._full_ms is not None
            and spent_ms + self._full_ms <= GO_MS
            # Where calls at once are limited others wait for their turn.
            and self.loaded.gate is None
        )

    def _mixed(self, size: int) -> list[Request]:
        """First of those among whom the oldest is, of each kind of waiting, and of the others as many as fit."""
        queue, parked, callers = self.queue, self.parked, self.callers
        kinds: list[tuple[float, Callable[[int], list[Request]]]] = [
            (callers.started, lambda room: callers.take(room).requests(Request.check)),
            (parked.started, lambda room: parked.take(room).requests(_as_it_came) if parked.count and room else []),
            (queue[0].started if queue else math.inf, lambda room: _popped(queue, room)),
        ]
        taken: list[Request] = []
        for _, take in sorted(kinds, key=operator.itemgetter(0)):
            taken += take(size - len(taken))
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


def _as_it_came(request: Request) -> None:
    request.checked = request.input


def _popped(queue: deque[Request], count: int) -> list[Request]:
    return [queue.popleft() for _ in range(min(count, len(queue)))]
