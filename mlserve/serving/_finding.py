"""Which version a request goes to, and waiting for it no longer than the request may."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar, final

from mlserve.errors import OverloadedError, VersionNotFoundError
from mlserve.records import ModelVersion, Route
from mlserve.serving._cache import VersionCache
from mlserve.serving._flights import Flight
from mlserve.serving._loaded import LoadedVersion
from mlserve.serving._pace import Pace
from mlserve.serving._pool import ServerThreads, WorkerPool
from mlserve.serving._requests import Request, too_late
from mlserve.serving._routes import Routes

T = TypeVar("T")

Acquire = Callable[[Any], LoadedVersion | Flight]
"""Gives a version, or the latest for None: loaded, or the load of one that was named."""


@final
class Finding:
    """Finds versions, and makes calls in time.

    *Thread safety*: yes.

    Args:
        cache: The models.
        routes: The router's choices, or None.
        threads: Where calls with a time limit are made, and those that an event loop must not wait for.
        monotonic: Tells seconds.
    """

    def __init__(
        self, cache: VersionCache, routes: Routes | None, threads: ServerThreads, monotonic: Callable[[], float]
    ) -> None:
        self._cache = cache
        self._routes = routes
        self._threads = threads
        self._monotonic = monotonic

    def found(self, request: Request, acquire: Acquire) -> LoadedVersion:
        """The version a request goes to, loaded."""
        routes = self._routes
        routed = None
        if routes is not None and request.version is None:
            routed = _routed(request, self.in_time(request, lambda: routes.chosen(request.key), self._threads.routing))
        if routed is not None:
            try:
                return self.acquired(request, routed, acquire)
            except VersionNotFoundError as error:
                self._routes.passed_over(request, error)  # type: ignore[union-attr]  # it chose
        return self.acquired(request, request.version, acquire)

    async def afound(self, request: Request, acquire: Acquire) -> LoadedVersion:
        """The same, without blocking the caller's event loop."""
        routes = self._routes
        routed = None
        if routes is not None and request.version is None:
            ask = partial(routes.chosen, request.key)
            routed = _routed(request, await self.aguest(request, ask, self._threads.routing, routes.pace))
        if routed is not None:
            try:
                return await self._aacquired(request, routed, acquire)
            except VersionNotFoundError as error:
                self._routes.passed_over(request, error)  # type: ignore[union-attr]  # it chose
        return await self._aacquired(request, request.version, acquire)

    def acquired(self, request: Request, version: ModelVersion | str | None, acquire: Acquire) -> LoadedVersion:
        """A version, or the latest for None, loaded. Its load is waited for on this thread, which no other misses."""
        found = self._at_hand(version)
        if found is None:
            found = self.in_time(request, partial(acquire, version), self._pool(version))
        if isinstance(found, LoadedVersion):
            return found
        deadline = request.deadline
        if not found.done.wait(None if deadline is None else max(0.0, deadline - self._monotonic())):
            raise too_late(request)
        return found.outcome()

    async def _aacquired(self, request: Request, version: Any, acquire: Acquire) -> LoadedVersion:
        found = self._at_hand(version)
        if found is None:
            found = await self.ain_time(request, partial(acquire, version), self._pool(version))
        if isinstance(found, LoadedVersion):
            return found
        deadline = request.deadline
        if not await found.awaited(None if deadline is None else max(0.0, deadline - self._monotonic())):
            raise too_late(request)
        return found.outcome()

    def _at_hand(self, version: ModelVersion | str | None) -> LoadedVersion | Flight | None:
        """The version, or the load of one that is named, where the repository need not be asked for it."""
        return self._cache.fresh(self._monotonic()) if version is None else self._cache.at_hand(version)

    def _pool(self, version: ModelVersion | str | None) -> WorkerPool:
        return self._threads.shared if version is None else self._threads.naming

    def in_time(self, request: Request, call: Callable[[], T], pool: WorkerPool) -> T:
        """Make a call on this thread, or where there is a deadline on one of a pool."""
        if request.deadline is None:
            return call()
        self.refuse_if_late(request)
        future = pool.submit(call)
        try:
            return future.result(max(0.0, request.deadline - self._monotonic()))
        except TimeoutError:
            if not future.cancel() and future.done():
                return future.result()  # it ended at that very moment, or the error is its own
            raise too_late(request) from None
        finally:
            del future  # an exception's traceback would keep it, and it the exception

    async def ain_time(self, request: Request, call: Callable[[], T], pool: WorkerPool) -> T:
        """Make a call on a thread of a pool; see ``in_time``."""
        import asyncio

        self.refuse_if_late(request)
        future = pool.submit(call)
        waiting = asyncio.wrap_future(future)
        try:
            if request.deadline is not None:
                # Not ``wait_for``: it would keep the future in the traceback of an exception, and with it the request.
                await asyncio.wait([waiting], timeout=max(0.0, request.deadline - self._monotonic()))
                if not waiting.done() and (future.cancel() or not future.done()):
                    waiting.cancel()
                    raise too_late(request)
            return await waiting
        except (asyncio.CancelledError, GeneratorExit):
            request.is_left = True
            waiting.cancel()  # and with it a call that no thread has begun
            raise
        finally:
            del future, waiting  # an exception's traceback would keep them, and they the exception

    async def aguest(self, request: Request, call: Callable[[], T], pool: WorkerPool, pace: Pace) -> T:
        """Call what a user gave: on the event loop where that is known to be quick, else on a thread.

        Where no thread is left and nothing is known of it yet, it is called on the event loop, too: it may be quick.
        """
        if pace.is_quick():
            return call()
        try:
            return await self.ain_time(request, call, pool)
        except OverloadedError:
            if pace.takes_ms() < math.inf:
                raise
        return call()

    async def awaited_in_time(self, request: Request, call: Callable[[Any], Awaitable[T]], input: Any) -> T:
        """Await what a coroutine function answers, and cancel it when it is too late.

        Raises:
            DeadlineExceededError: It was.
        """
        import asyncio

        self.refuse_if_late(request)
        limit = None
        try:
            if request.deadline is None:
                return await call(input)
            async with asyncio.timeout(max(0.0, request.deadline - self._monotonic())) as limit:
                return await call(input)
        except TimeoutError:
            if limit is None or not limit.expired():
                raise  # its own
            raise too_late(request) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise RuntimeError("it raised CancelledError, and nobody had cancelled it") from None

    def refuse_if_late(self, request: Request) -> None:
        """See that a request is still in time.

        Raises:
            DeadlineExceededError: It is not.
        """
        if request.deadline is not None and self._monotonic() >= request.deadline:
            raise too_late(request)


def _routed(request: Request, route: Route | None) -> str | None:
    """The version of a route, whose arm the request belongs to now: not before, lest a late route change it."""
    if route is None:
        return None
    request.arm = route.arm
    return route.version_id
