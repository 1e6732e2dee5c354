"""Many inputs for a model that is awaited: asked together, not one after the other."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, final

from mlserve.serving._calling import Caller
from mlserve.serving._guards import Guards
from mlserve.serving._loaded import LoadedVersion
from mlserve.serving._requests import Request
from mlserve.serving._tables import NoTableError
from mlserve.serving._validation import translated

if TYPE_CHECKING:
    import asyncio

AT_ONCE = 100
"""Calls of one ``predict_many`` under way together, at most: more than clients of remote models open connections by
default."""

POLL_SECONDS = 0.5
"""How often a thread looks whether the loop it waits for was closed, which nobody would tell it."""


@final
class Home:
    """The event loop of whoever awaits a ``predict_many``, where its coroutines run: a client that was made on that
    loop works on no other.

    *Thread safety*: yes.

    Args:
        loop: It.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self.is_left = False
        """Whether the caller was cancelled."""
        self.whole: Request | None = None
        """What the caller asks."""
        self._under_way: concurrent.futures.Future[Any] | None = None

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Wait, on another thread, for a coroutine and return what it gives.

        Raises:
            asyncio.CancelledError: The caller was cancelled, or its loop is closed.
        """
        import asyncio

        with self._lock:
            if self.is_left:
                coroutine.close()
                raise asyncio.CancelledError
            try:
                future = self._under_way = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
            except RuntimeError:  # closed
                coroutine.close()
                raise asyncio.CancelledError from None
        while not concurrent.futures.wait([future], POLL_SECONDS).done:
            if self._loop.is_closed():
                raise asyncio.CancelledError
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise asyncio.CancelledError from None

    def leave(self) -> None:
        """The caller was cancelled: so is what runs for it, and what would."""
        with self._lock:
            self.is_left = True
            if self.whole is not None:  # pragma: no branch  # else no thread has begun with it
                self.whole.is_left = True
            if self._under_way is not None:
                self._under_way.cancel()


@final
class Gathering:
    """Awaits a model for many inputs.

    *Thread safety*: yes; called on threads that may wait.

    Args:
        guards: What stands between a request and its model: turns and deadlines hold for each call.
        caller: Has the loop for callers who have none.
        concurrency: Calls of one model at once, or None.
    """

    def __init__(self, guards: Guards, caller: Caller, concurrency: int | None) -> None:
        self._guards = guards
        self._caller = caller
        self._at_once = AT_ONCE if concurrency is None else min(concurrency, AT_ONCE)

    def outcomes(self, loaded: LoadedVersion, whole: Request, inputs: Sequence[Any]) -> list[Any]:
        """Answers or exceptions: by one call of a model that takes a table, else by as many as there are inputs."""
        holds = loaded.holds
        holds.append(whole)
        try:
            return self._outcomes(loaded, whole, inputs)
        finally:
            holds.remove(whole)

    def _outcomes(self, loaded: LoadedVersion, whole: Request, inputs: Sequence[Any]) -> list[Any]:
        adapter, count = loaded.adapter, len(inputs)
        if adapter.acall_many is None or count == 1:
            return self._gathered(loaded, whole, inputs, adapter.call)
        (outcome,) = self._gathered(loaded, whole, [inputs], adapter.acall_many)
        if not isinstance(outcome, Exception):
            return list(outcome)
        # A table that cannot even be made was never shown to the model.
        if not adapter.is_pure and not isinstance(outcome, NoTableError):
            return [translated(outcome, loaded.id).copy() for _ in range(count)]
        middle = count // 2
        return self._outcomes(loaded, whole, inputs[:middle]) + self._outcomes(loaded, whole, inputs[middle:])

    def _gathered(
        self, loaded: LoadedVersion, whole: Request, inputs: Sequence[Any], call: Callable[[Any], Awaitable[Any]]
    ) -> list[Any]:
        requests = [Request(input, whole.prediction_id, whole.started) for input in inputs]
        for request in requests:
            request.loaded, request.checked, request.deadline = loaded, request.input, whole.deadline
        home = whole.home
        run = self._caller.loop.run if home is None else home.run
        outcomes: list[Any] = run(
            _together(lambda request: self._guards.acoroutine(loaded, request, call), requests, self._at_once)
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, Exception):
                raise outcome
        return outcomes


async def _together(
    call: Callable[[Request], Awaitable[Any]], requests: Sequence[Request], at_once: int
) -> list[Any | BaseException]:
    """For each request what its call gave or raised; no more calls at once than that."""
    import asyncio

    turns = asyncio.Semaphore(at_once)

    async def outcome(request: Request) -> Any:
        try:
            async with turns:
                return await call(request)
        except asyncio.CancelledError:
            raise  # the caller's
        except BaseException as error:  # SystemExit would end the loop
            return error

    return list(await asyncio.gather(*map(outcome, requests)))
