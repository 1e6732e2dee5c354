"""The queues of batching: one for each version."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, final

from mlserve.errors import OverloadedError
from mlserve.serving._loaded import LoadedVersion
from mlserve.serving._policy import Batching
from mlserve.serving._requests import Request, complete, too_late


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
        self.permit: threading.Semaphore = loaded.gate if loaded.gate is not None else threading.Semaphore(1)
        """Taken for a batch. Where calls at once are limited it is the turn that every call takes."""
        self.flushing: set[Any] = set()
        """Event loops that will look after the queue when their callers have had their turn."""
        self.batch_ms: float | None = None
        """How long a thread computes for a batch, whatever its size; a moving average. Without what it waits: most of
        that is for the interpreter, which an event loop that runs the batch itself would not have to wait for."""
        self.last_size = 0
        """Requests in the last batch: more than one, and others are about."""
        self._batching = batching
        self._queue: deque[Request] = deque()
        # Around the taking of a batch: with several permits there may be several takers.
        self._taking = threading.Lock()

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, request: Request) -> None:
        """Queue a request.

        Raises:
            OverloadedError: Too many are queued.
        """
        if len(self._queue) >= self._batching.max_queued and not self._purge():
            raise OverloadedError(
                f"{self._batching.max_queued} requests already wait for version {self.loaded.id}.",
                hint="Retry later; Batching(max_queued=) is the limit.",
                version_id=self.loaded.id,
            )
        self._queue.append(request)

    def _purge(self) -> int:
        """Take out those nobody waits for any more; tells how many."""
        with self._taking:
            gone = [request for request in list(self._queue) if request.is_abandoned]
            for request in gone:
                self._queue.remove(request)
        return len(gone)

    def take(self, now: float) -> list[Request]:
        """The next batch: the oldest requests that fit, less those nobody waits for any more."""
        taken: list[Request] = []
        room = self._batching.max_batch_size
        late: list[Request] = []
        queue = self._queue
        with self._taking:
            while queue:
                request = queue[0]
                if request.is_abandoned:
                    queue.popleft()
                elif request.deadline is not None and now >= request.deadline:
                    late.append(queue.popleft())
                    request.error = too_late(request)
                elif request.weight <= room or not taken:
                    room -= request.weight
                    taken.append(queue.popleft())
                else:
                    break  # it stays at the front, for the next batch
        if late:
            complete(late)
        return taken

    def due(self, now: float) -> float:
        """When the next batch should begin: at once when it is full, else when its oldest request has waited enough."""
        if not self._batching.max_wait_ms:
            return now
        waiting = list(self._queue)
        if not waiting or sum(request.weight for request in waiting) >= self._batching.max_batch_size:
            return now
        return waiting[0].queued_at + self._batching.max_wait_ms / 1000.0
