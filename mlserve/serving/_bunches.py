"""What the coroutines of one event loop ask within one turn of it, as columns: a request is a few appends."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

from mlserve.serving._loaded import LoadedVersion
from mlserve.serving._requests import Request

if TYPE_CHECKING:
    import asyncio


@final
class Bunch:
    """Requests that the event loop of their callers will answer itself, not checked yet.

    *Thread safety*: none; only its event loop's thread touches it.

    Attributes:
        inputs: As they came.
        ids: Of the predictions.
        started: Monotonic seconds.
        keys: What the callers gave to be routed by, or None.
        futures: Done when the callers may go on.
    """

    __slots__ = ("futures", "ids", "inputs", "keys", "started")

    def __init__(self) -> None:
        self.inputs: list[Any] = []
        self.ids: list[str] = []
        self.started: list[float] = []
        self.keys: list[str | None] = []
        self.futures: list[asyncio.Future[Any]] = []

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, size: int) -> Bunch:
        """The oldest requests, at most so many, less those whose callers went away."""
        taken = Bunch()
        for name in self.__slots__:
            column = getattr(self, name)
            setattr(taken, name, column[:size])
            del column[:size]
        taken.purge()
        return taken

    def purge(self) -> bool:
        """Take out those whose callers went away; tells whether there were any."""
        gone = [future.cancelled() for future in self.futures]
        if True not in gone:
            return False
        kept = [row for row, is_gone in enumerate(gone) if not is_gone]
        for name in self.__slots__:
            column = getattr(self, name)
            column[:] = [column[row] for row in kept]
        return True

    def requests(self, loaded: LoadedVersion, check: Callable[[LoadedVersion, Request], None]) -> list[Request]:
        """The same as requests, each checked by itself."""
        found: list[Request] = []
        for input, prediction_id, started, key, future in zip(
            self.inputs, self.ids, self.started, self.keys, self.futures, strict=True
        ):
            request = Request(input, prediction_id, started)
            request.loaded, request.key = loaded, key
            request.future, request.loop = future, future.get_loop()
            check(loaded, request)
            found.append(request)
        return found
