"""What the coroutines of one event loop ask within one turn of it, or threads: a request is a row of a list."""

from __future__ import annotations

import contextvars
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

import numpy as np

from mlserve.serving._asked import NOBODY, Asked, Columns
from mlserve.serving._loaded import LoadedVersion
from mlserve.serving._waiters import Waiter

if TYPE_CHECKING:
    import asyncio

Row = tuple[Any, int, float, "str | None", "asyncio.Future[Any] | Waiter", "contextvars.Context | None"]
"""The input as it came, the number of the prediction, when it came in monotonic seconds, what the caller gave to be
routed by or None, what the caller waits on, and the context of a caller who may be answered alone, else None."""


@final
class Bunch:
    """Requests of one event loop, or of threads, of which each is no more than a row.

    *Thread safety*: none of an event loop's. To one of threads any thread may append a row while another, one at a
    time, takes out the oldest.

    Args:
        loaded: The version that is asked.
        loop: The event loop, or None.
        id_prefix: Begins the ids of the predictions.

    Attributes:
        rows: The requests.
        new_future: Makes what a caller waits on.
    """

    __slots__ = ("_id_prefix", "_loaded", "_loop", "new_future", "rows")

    def __init__(self, loaded: LoadedVersion, loop: asyncio.AbstractEventLoop | None, id_prefix: str) -> None:
        self._loaded = loaded
        self._loop = loop
        self._id_prefix = id_prefix
        self.rows: list[Row] = []
        self.new_future: Callable[[], Any] = Waiter if loop is None else loop.create_future

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def started(self) -> float:
        """When the oldest came, monotonic seconds; at no time where there is none."""
        return self.rows[0][2] if self.rows else math.inf

    def take(self, size: int) -> Asked:
        """The oldest requests, at most so many, less those whose callers went away."""
        first = self.rows[:size]
        del self.rows[: len(first)]
        return Asked(self._loaded, self._loop, self._columns([row for row in first if not row[4].cancelled()]))

    def keep_context(self) -> None:
        """Where there is one request only, in whose caller's context this is called: that is where it is answered."""
        if len(self.rows) == 1:
            self.rows[0] = (*self.rows[0][:-1], contextvars.copy_context())

    def purge(self) -> bool:
        """Take out those whose callers went away; tells whether there were any."""
        first = self.rows[:]
        stayed = [row for row in first if not row[4].cancelled()]
        self.rows[: len(first)] = stayed
        return len(stayed) < len(first)

    def _columns(self, rows: list[Row]) -> Columns:
        if not rows:
            return NOBODY
        inputs, numbers, started, keys, futures, contexts = zip(*rows, strict=True)
        prefix = self._id_prefix
        ids = [f"{prefix}{number}" for number in numbers]
        return Columns(inputs, ids, np.array(started, np.float64), keys, futures, contexts)
