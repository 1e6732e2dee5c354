"""What the coroutines of one event loop ask within one turn of it: a request is a row of a list."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

from mlserve.serving._loaded import LoadedVersion
from mlserve.serving._requests import Request

if TYPE_CHECKING:
    import asyncio

Row = tuple[Any, int, float, "str | None", "asyncio.Future[Any]"]
"""The input as it came, the number of the prediction, when it came in monotonic seconds, what the caller gave to be
routed by or None, and what is done when the caller may go on."""


@final
class Bunch:
    """Requests that an event loop will see to when all its callers have had their turn, not checked yet.

    *Thread safety*: none; only its event loop's thread touches it.

    Args:
        loaded: The version that is asked.
        loop: The event loop.
        id_prefix: Begins the ids of the predictions.
        rows: The requests.

    Attributes:
        rows: The requests.
        new_future: Makes a future of the loop.
        is_alone: Whether there is one request only, in whose context this is seen to.
    """

    __slots__ = ("_id_prefix", "_loaded", "_loop", "is_alone", "new_future", "rows")

    def __init__(
        self, loaded: LoadedVersion, loop: asyncio.AbstractEventLoop, id_prefix: str, rows: list[Row] | None = None
    ) -> None:
        self._loaded = loaded
        self._loop = loop
        self._id_prefix = id_prefix
        self.rows: list[Row] = [] if rows is None else rows
        self.new_future: Callable[[], asyncio.Future[Any]] = loop.create_future
        self.is_alone = False

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, size: int) -> Bunch:
        """The oldest requests, at most so many, less those whose callers went away."""
        rows = self.rows
        taken = self._with([row for row in rows[:size] if not row[4].cancelled()])
        taken.is_alone = len(rows) == 1
        del rows[:size]
        return taken

    def between(self, start: int, stop: int) -> Bunch:
        """Some of the requests; all, where that is one."""
        part = self._with(self.rows[start:stop])
        part.is_alone = self.is_alone
        return part

    def purge(self) -> bool:
        """Take out those whose callers went away; tells whether there were any."""
        count = len(self.rows)
        self.rows[:] = self.take(count).rows
        return len(self.rows) < count

    def columns(
        self,
    ) -> tuple[tuple[Any, ...], list[str], tuple[float, ...], tuple[str | None, ...], tuple[asyncio.Future[Any], ...]]:
        """At least one request, as inputs, ids, starts, keys and futures."""
        inputs, numbers, started, keys, futures = zip(*self.rows, strict=True)
        prefix = self._id_prefix
        return inputs, [f"{prefix}{number}" for number in numbers], started, keys, futures

    def requests(self, with_each: Callable[[LoadedVersion, Request], None] | None = None) -> list[Request]:
        """The same as requests, with each of which something is done."""
        found: list[Request] = []
        for input, number, started, key, future in self.rows:
            request = Request(input, f"{self._id_prefix}{number}", started)
            request.loaded, request.key, request.future, request.loop = self._loaded, key, future, self._loop
            if self.is_alone:
                request.context = contextvars.copy_context()
            if with_each is not None:
                with_each(self._loaded, request)
            found.append(request)
        return found

    def _with(self, rows: list[Row]) -> Bunch:
        return Bunch(self._loaded, self._loop, self._id_prefix, rows)
