"""Requests of which nobody looks at one alone: columns, from who asks to who answers."""

from __future__ import annotations

import contextvars
from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, final

import numpy as np
import numpy.typing as npt

from mlserve.serving._loaded import LoadedVersion
from mlserve.serving._requests import Request
from mlserve.serving._waiters import Waiter

if TYPE_CHECKING:
    import asyncio

JOINED_BYTES = 1 << 20
"""Of a table that is joined to another. A larger one is made anew when it is needed: copies cost more."""


class Columns(NamedTuple):
    """Requests as columns of one length.

    Attributes:
        inputs: As they came.
        ids: Of the predictions.
        started: When they came, monotonic seconds, float64.
        keys: What the callers gave to be routed by, or None.
        futures: What the callers wait on.
        contexts: Of callers who may be answered alone; else None.
    """

    inputs: Sequence[Any]
    ids: Sequence[str]
    started: npt.NDArray[np.float64]
    keys: Sequence[str | None]
    futures: Sequence[asyncio.Future[Any] | Waiter]
    contexts: Sequence[contextvars.Context | None]

    def between(self, start: int, stop: int) -> Columns:
        """Some of the requests, in a row."""
        chosen: Any = (column[start:stop] for column in self)
        return Columns(*chosen)

    def only(self, places: Sequence[int]) -> Columns:
        """Some of the requests."""
        chosen: Any = (
            column[places] if isinstance(column, np.ndarray) else [column[place] for place in places] for column in self
        )
        return Columns(*chosen)


NOBODY = Columns((), (), np.empty(0), (), (), ())


@final
class Asked:
    """What callers of one event loop, or threads, ask of a version.

    *Thread safety*: none; one thread at a time has it.

    Args:
        loaded: The version.
        loop: The event loop, or None.
        columns: The requests.
        together: What the model is given for all of them, once they were found valid; else None.

    Attributes:
        loaded: See above.
        loop: See above.
        columns: See above.
        together: See above.
    """

    __slots__ = ("columns", "loaded", "loop", "together")

    def __init__(
        self, loaded: LoadedVersion, loop: asyncio.AbstractEventLoop | None, columns: Columns, together: Any = None
    ) -> None:
        self.loaded = loaded
        self.loop = loop
        self.columns = columns
        self.together = together

    @classmethod
    def joined(cls, parts: Sequence[Asked]) -> Asked:
        """Several of one event loop, at least one, the oldest first."""
        first = parts[0]
        if len(parts) == 1:
            return first
        columns: Any = (
            np.concatenate(each) if isinstance(each[0], np.ndarray) else list(chain.from_iterable(each))
            for each in zip(*(part.columns for part in parts), strict=True)
        )
        tables = [part.together for part in parts]
        are_small = all(isinstance(table, np.ndarray) and table.nbytes <= JOINED_BYTES for table in tables)
        return cls(first.loaded, first.loop, Columns(*columns), np.concatenate(tables) if are_small else None)

    def __len__(self) -> int:
        return len(self.columns.ids)

    def between(self, start: int, stop: int) -> Asked:
        """Some of the requests, in a row."""
        together = None if self.together is None else self.together[start:stop]
        return Asked(self.loaded, self.loop, self.columns.between(start, stop), together)

    def without_leavers(self) -> Asked:
        """The same without those whose callers went away."""
        gone = [future.cancelled() for future in self.columns.futures]
        if True not in gone:
            return self
        stayed = [place for place, is_gone in enumerate(gone) if not is_gone]
        table = self.together
        together = table[stayed] if isinstance(table, np.ndarray) else None
        return Asked(self.loaded, self.loop, self.columns.only(stayed), together)

    def requests(self, with_each: Callable[[Request], None]) -> list[Request]:
        """The same as requests, with each of which something is done."""
        found: list[Request] = []
        inputs, ids, started, keys, futures, contexts = self.columns
        for input, prediction_id, began, key, future, context in zip(
            inputs, ids, started.tolist(), keys, futures, contexts, strict=True
        ):
            request = Request(input, prediction_id, began)
            request.loaded, request.key, request.future, request.loop = self.loaded, key, future, self.loop
            request.context = context
            with_each(request)
            found.append(request)
        return found


@final
class Parked:
    """Coroutines of one event loop that wait for a batch, their inputs found valid.

    In parts, as they came: those that one batch has answered ask again together. So a thread can mostly take a part as
    it is, and need not look up each of its requests, which lie in the caches of the event loop's processor.

    *Thread safety*: none; the owner locks. ``count`` may be read by anyone.

    Attributes:
        count: Requests.
    """

    def __init__(self) -> None:
        self._parts: deque[Asked] = deque()
        self.count = 0

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop of those that wait."""
        return self._parts[0].loop if self._parts else None

    @property
    def started(self) -> float:
        """When the oldest came, monotonic seconds; at no time where there is none."""
        return float(self._parts[0].columns.started[0]) if self._parts else np.inf

    def put(self, asked: Asked) -> None:
        """Take in what came later on the same event loop."""
        self._parts.append(asked)
        self.count += len(asked)

    def take(self, size: int) -> Asked:
        """The oldest requests, at least one and at most so many, less those whose callers went away."""
        parts = self._parts
        taken = [parts.popleft()]
        room = size - len(taken[0])
        while parts and room > 0:
            taken.append(parts.popleft())
            room -= len(taken[-1])
        if room < 0:
            last = taken.pop()
            kept = len(last) + room
            parts.appendleft(last.between(kept, len(last)))
            taken.append(last.between(0, kept))
        found = Asked.joined(taken)
        self.count -= len(found)
        return found.without_leavers()

    def purge(self) -> bool:
        """Take out those whose callers went away; tells whether there were any."""
        count = self.count
        stayed = [part.without_leavers() for part in self._parts]
        self._parts = deque(part for part in stayed if len(part))
        self.count = sum(map(len, self._parts))
        return self.count < count
