"""What the coroutines of one event loop ask within one turn of it, or threads: a request is a row of a list."""

from __future__ import annotations

import contextvars
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, final

import numpy as np

from mlserve.serving._loaded import LoadedVersion
from mlserve.serving._requests import Request
from mlserve.serving._waiters import Waiter

if TYPE_CHECKING:
    import asyncio

Row = tuple[Any, int, float, "str | None", "asyncio.Future[Any] | Waiter", "contextvars.Context | None"]
"""The input as it came, the number of the prediction, when it came in monotonic seconds, what the caller gave to be
routed by or None, what the caller waits on, and the context of a caller who may be answered alone, else None."""

JOINED_BYTES = 1 << 20
"""Of a table that is joined to another. A larger one is made anew when it is needed: copies cost more."""


class BunchColumns(NamedTuple):
    """Requests as columns: what was asked, the ids, when they came, what they are routed by, and their futures."""

    inputs: Sequence[Any]
    ids: Sequence[str]
    started: Sequence[float]
    keys: Sequence[str | None]
    futures: Sequence[asyncio.Future[Any] | Waiter]

    def only(self, places: Sequence[int]) -> BunchColumns:
        """Some of the requests."""
        chosen: Any = ([column[place] for place in places] for column in self)
        return BunchColumns(*chosen)


@final
class Bunch:
    """Requests of one event loop, or of threads, of which each is no more than a row.

    *Thread safety*: none of an event loop's: its thread has it, and then whoever takes it out of the queue. To one of
    threads any thread may append a row while another, one at a time, takes out the oldest.

    Args:
        loaded: The version that is asked.
        loop: The event loop, or None.
        id_prefix: Begins the ids of the predictions.
        rows: The requests.

    Attributes:
        loaded: The version that is asked.
        loop: The event loop, or None.
        rows: The requests.
        new_future: Makes what a caller waits on.
        together: What the model is given for all of them, once they were found valid; else None.
    """

    __slots__ = ("_id_prefix", "loaded", "loop", "new_future", "rows", "together")

    def __init__(
        self,
        loaded: LoadedVersion,
        loop: asyncio.AbstractEventLoop | None,
        id_prefix: str,
        rows: list[Row] | None = None,
    ) -> None:
        self.loaded = loaded
        self.loop = loop
        self._id_prefix = id_prefix
        self.rows: list[Row] = [] if rows is None else rows
        self.new_future: Callable[[], Any] = Waiter if loop is None else loop.create_future
        self.together: Any = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def started(self) -> float:
        """When the oldest came, monotonic seconds; at no time where there is none."""
        return self.rows[0][2] if self.rows else math.inf

    def take(self, size: int) -> Bunch:
        """The oldest requests, at most so many, less those whose callers went away."""
        rows = self.rows
        first = rows[:size]
        taken = self._with([row for row in first if not row[4].cancelled()])
        del rows[: len(first)]
        together = self.together
        if together is not None:
            taken.together = together[:size] if len(taken) == len(first) else None
            self.together = together[size:] if rows else None
        return taken

    def extend(self, other: Bunch) -> None:
        """Take in what came later on the same event loop."""
        self.rows += other.rows
        mine, others = self.together, other.together
        is_small = isinstance(mine, np.ndarray) and isinstance(others, np.ndarray) and mine.nbytes <= JOINED_BYTES
        self.together = np.concatenate([mine, others]) if is_small else None

    def between(self, start: int, stop: int) -> Bunch:
        """Some of the requests."""
        return self._with(self.rows[start:stop])

    def inputs(self) -> list[Any]:
        """What was asked."""
        return [row[0] for row in self.rows]

    def keep_context(self) -> None:
        """Where there is one request only, in whose caller's context this is called: that is where it is answered."""
        if len(self.rows) == 1:
            self.rows[0] = (*self.rows[0][:-1], contextvars.copy_context())

    def purge(self) -> bool:
        """Take out those whose callers went away; tells whether there were any."""
        count = len(self.rows)
        self.rows[:0] = self.take(count).rows
        return len(self.rows) < count

    def columns(self) -> BunchColumns:
        """At least one request, as columns."""
        inputs, numbers, started, keys, futures, _ = zip(*self.rows, strict=True)
        prefix = self._id_prefix
        return BunchColumns(inputs, [f"{prefix}{number}" for number in numbers], started, keys, futures)

    def requests(self, with_each: Callable[[Request], None]) -> list[Request]:
        """The same as requests, with each of which something is done."""
        found: list[Request] = []
        for input, number, started, key, future, context in self.rows:
            request = Request(input, f"{self._id_prefix}{number}", started)
            request.loaded, request.key, request.future, request.loop = self.loaded, key, future, self.loop
            request.context = context
            with_each(request)
            found.append(request)
        return found

    def _with(self, rows: list[Row]) -> Bunch:
        return Bunch(self.loaded, self.loop, self._id_prefix, rows)
