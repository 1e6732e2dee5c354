"""What may stand between a request and its model: limits, deadlines, turns, batches, breakers."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, TypeVar, final

from mlserve.errors import OverloadedError, ServingError, VersionNotFoundError
from mlserve.protocols import Router
from mlserve.records import Route
from mlserve.serving._batching import Batcher
from mlserve.serving._breaker import CircuitBreaker, Permit
from mlserve.serving._cache import VersionCache
from mlserve.serving._calling import Caller
from mlserve.serving._loaded import LoadedVersion
from mlserve.serving._policy import Breaker, Limits
from mlserve.serving._pool import WorkerPool
from mlserve.serving._requests import Request, too_late
from mlserve.serving._validation import checked

T = TypeVar("T")

_log = logging.getLogger(__name__)


@final
class Guards:
    """Takes a request to its model and back.

    *Thread safety*: yes. No lock is held around the model, but for the turns that ``concurrency`` asks for.

    Args:
        cache: The models.
        caller: Calls them.
        limits: What a request may cost others.
        batcher: Batches requests, or None.
        breaker: When a version is given a rest, or None.
        concurrency: Calls of one model at once, or None for no limit.
        router: Chooses versions, or None.
        monotonic: Tells seconds.
    """

    def __init__(
        self,
        cache: VersionCache,
        caller: Caller,
        *,
        limits: Limits,
        batcher: Batcher | None,
        breaker: Breaker | None,
        concurrency: int | None,
        router: Router | None,
        monotonic: Callable[[], float],
    ) -> None:
        self._cache = cache
        self._caller = caller
        self._limits = limits
        self._batcher = batcher
        self._breaker = breaker
        self._concurrency = concurrency
        self._router = router
        self._monotonic = monotonic
        self.pool = WorkerPool(limits.max_queued)
        self.counts: Counter[str] = Counter()
        self.under_way: dict[int, Request] = {}
        """Requests not answered yet, by identity."""
        self.renew()

    @property
    def is_idle(self) -> bool:
        """Whether nothing stands between a request without a time limit and its model."""
        return self._batcher is None and self._is_bare

    @property
    def only_batcher(self) -> Batcher | None:
        """The batcher, where nothing else does."""
        return self._batcher if self._is_bare else None

    @property
    def _is_bare(self) -> bool:
        limits = self._limits
        return (
            self._breaker is None
            and self._concurrency is None
            and self._router is None
            and limits.max_in_flight is None
            and limits.default_timeout_ms is None
        )

    def renew(self) -> None:
        """New locks and threads, as a forked child needs them."""
        self._lock = threading.Lock()
        self._waiting = 0
        self.under_way = {}
        self.pool.renew()
        if self._batcher is not None:
            self._batcher.renew()

    # ------------------------------------------------------------------------------------------------- admission

    def admit(self, request: Request) -> None:
        """Take a request in; every admitted one is let go.

        Raises:
            OverloadedError: Too many are under way.
        """
        self.under_way[id(request)] = request
        limit = self._limits.max_in_flight
        if limit is not None and sum(one.count for one in list(self.under_way.values())) > limit:
            del self.under_way[id(request)]
            raise OverloadedError(
                f"{limit} requests are already under way.", hint="Retry later; Limits(max_in_flight=) is the limit."
            )

    def let_go(self, request: Request) -> None:
        """An admitted request has ended."""
        del self.under_way[id(request)]

    def deadline(self, started: float, timeout_ms: float | None) -> float | None:
        """When a request that began then must be answered, in monotonic seconds."""
        limit = self._limits.default_timeout_ms if timeout_ms is None else timeout_ms
        return None if limit is None else started + limit / 1000.0

    def _routed(self, request: Request) -> str | None:
        """The router's choice for a request that names no version; None for the latest."""
        if request.version is not None or self._router is None:
            return None
        try:
            route: Any = self._router.route(request.key)
        except Exception:
            _log.exception("the router failed; the latest version answers")
            self.count("router_errors")
            return None
        if isinstance(route, Route):
            request.arm = route.arm
            return route.version_id
        if route is not None:
            _log.error("the router chose a %s; expected a Route or None", type(route).__name__)
            self.count("router_errors")
        return None

    def _without_route(self, request: Request, error: ServingError) -> None:
        """The router chose what cannot be served: the caller did not, and gets the latest version."""
        _log.error("the router chose a version that cannot be served: %s", error.message)
        self.count("router_errors")
        request.arm = None

    def count(self, name: str) -> None:
        """Count something that went wrong and was passed over."""
        with self._lock:
            self.counts[name] += 1

    # -------------------------------------------------------------------------------------------------- breakers

    def enter(self, loaded: LoadedVersion) -> Permit | None:
        """Let a request through to a version.

        Raises:
            CircuitOpenError: The version is given a rest.
        """
        if self._breaker is None:
            return None
        breaker = loaded.breaker
        if breaker is None:
            with self._lock:
                breaker = loaded.breaker
                if breaker is None:
                    breaker = loaded.breaker = CircuitBreaker(loaded.id, self._breaker, self._monotonic)
        permit: Permit = breaker.enter()
        return permit

    def leave(self, loaded: LoadedVersion, permit: Permit | None, begun: float, error: BaseException | None) -> None:
        """A request that was let through has ended."""
        if permit is None:
            return
        if error is not None and not isinstance(error, Exception):
            loaded.breaker.abandon(permit)
            return
        failed = error is not None and not (isinstance(error, ServingError) and error.kind.is_caller_fault)
        loaded.breaker.leave(permit, failed=failed, elapsed_ms=(self._monotonic() - begun) * 1000.0)

    # --------------------------------------------------------------------------------------------------- calling

    def answer(self, request: Request, acquire: Callable[[Any], LoadedVersion]) -> Any:
        """The model's answer to an admitted request, on a thread that may wait.

        Raises:
            Exception: Why there is none.
        """
        loaded = request.loaded = self.found(request, acquire)
        loaded.holds.append(request)
        try:
            request.checked = checked(loaded.check, request.input)
            self._refuse_if_late(request)
            permit, begun = self.enter(loaded), self._monotonic()
            error: BaseException | None = None
            try:
                return self._called(loaded, request)
            except BaseException as exception:
                error = exception
                raise
            finally:
                self.leave(loaded, permit, begun, error)
                error = None
        finally:
            loaded.holds.pop()
            self.sweep_if_evicting(loaded)

    def found(self, request: Request, acquire: Callable[[Any], LoadedVersion]) -> LoadedVersion:
        """The version a request goes to, loaded."""
        routed = self._routed(request)
        if routed is not None:
            try:
                return self.in_time(request, lambda: acquire(routed))
            except VersionNotFoundError as error:
                self._without_route(request, error)
        return self.in_time(request, lambda: acquire(request.version))

    def in_time(self, request: Request, call: Callable[[], T]) -> T:
        """Make a call on this thread, or on one of the pool's where there is a deadline."""
        if request.deadline is None:
            return call()
        self._refuse_if_late(request)
        future = self.pool.submit(call)
        try:
            return future.result(max(0.0, request.deadline - self._monotonic()))
        except TimeoutError:
            if not future.cancel() and future.done():
                return future.result()  # it ended at that very moment, or the error is its own
            raise too_late(request) from None

    def _called(self, loaded: LoadedVersion, request: Request) -> Any:
        if self._batcher is not None and self._batcher.is_worth_it(loaded):
            return self._batcher.call(loaded, request)
        return self.in_time(request, lambda: self.call_held(loaded, request.checked))

    def call_held(self, loaded: LoadedVersion, input: Any, call: Callable[[Any], Any] | None = None) -> Any:
        """Call a model with a checked input, on this thread, in its turn; the model stays until the call ends.

        Args:
            loaded: The version.
            input: What it is given.
            call: How it is called; None as its adapter says.
        """
        loaded.holds.append(self)
        gate = self._gate(loaded)
        try:
            if gate is not None:
                self._wait_for(gate)
            try:
                return self._caller.call_checked(loaded, input) if call is None else call(input)
            finally:
                if gate is not None:
                    gate.release()
        finally:
            loaded.holds.pop()
            self.sweep_if_evicting(loaded)

    def sweep_if_evicting(self, loaded: LoadedVersion) -> None:
        """Drop a model that was kept for a request that has ended."""
        if loaded.evicting:
            self._cache.sweep()

    def _gate(self, loaded: LoadedVersion) -> threading.Semaphore | None:
        if self._concurrency is None:
            return None
        gate: threading.Semaphore | None = loaded.gate
        if gate is None:
            with self._lock:
                gate = loaded.gate
                if gate is None:
                    gate = loaded.gate = threading.Semaphore(self._concurrency)
        return gate

    def _wait_for(self, gate: threading.Semaphore) -> None:
        if gate.acquire(blocking=False):
            return
        limit = self._limits.max_queued
        with self._lock:
            if limit is not None and self._waiting >= limit:
                raise OverloadedError(
                    f"{limit} requests already wait for their turn.",
                    hint="Retry later; Limits(max_queued=) is the limit.",
                )
            self._waiting += 1
        try:
            gate.acquire()
        finally:
            with self._lock:
                self._waiting -= 1

    def _refuse_if_late(self, request: Request) -> None:
        if request.deadline is not None and self._monotonic() >= request.deadline:
            raise too_late(request)

    # -------------------------------------------------------------------------------------------------- awaiting

    async def aanswer(self, request: Request, acquire: Callable[[Any], LoadedVersion]) -> Any:
        """The same as ``answer``, without blocking the caller's event loop for long."""
        loaded = request.loaded = await self._afound(request, acquire)
        loaded.holds.append(request)
        try:
            request.checked = checked(loaded.check, request.input)
            self._refuse_if_late(request)
            permit, begun = self.enter(loaded), self._monotonic()
            error: BaseException | None = None
            try:
                return await self._acalled(loaded, request)
            except BaseException as exception:
                error = exception
                raise
            finally:
                self.leave(loaded, permit, begun, error)
                error = None
        finally:
            loaded.holds.pop()
            self.sweep_if_evicting(loaded)

    async def _afound(self, request: Request, acquire: Callable[[Any], LoadedVersion]) -> LoadedVersion:
        routed = self._routed(request)
        if routed is not None:
            try:
                return await self._ain_time(request, lambda: acquire(routed))
            except VersionNotFoundError as error:
                self._without_route(request, error)
        current = self._cache.fresh(self._monotonic()) if request.version is None else None
        return current if current is not None else await self._ain_time(request, lambda: acquire(request.version))

    async def _ain_time(self, request: Request, call: Callable[[], T]) -> T:
        """Make a call on one of the pool's threads."""
        import asyncio

        self._refuse_if_late(request)
        future = self.pool.submit(call)
        waiting = asyncio.wrap_future(future)
        if request.deadline is None:
            return await waiting
        try:
            return await asyncio.wait_for(waiting, max(0.0, request.deadline - self._monotonic()))
        except TimeoutError:
            if future.done() and not future.cancelled():
                return future.result()  # it ended at that very moment, or the error is its own
            raise too_late(request) from None

    async def _acalled(self, loaded: LoadedVersion, request: Request) -> Any:
        if self._batcher is not None and self._batcher.is_worth_it(loaded):
            return await self._batcher.acall(loaded, request)
        if loaded.is_async:
            return await self.acoroutine(loaded, request, loaded.call)
        average = loaded.average_ms
        if self._concurrency is None and average is not None and average <= self._limits.inline_below_ms:
            return await self._caller.acall(loaded, request.checked)
        return await self._ain_time(request, lambda: self._timed(loaded, request))

    async def off_loop(self, call: Callable[[], T]) -> T:
        """Make a call on one of the pool's threads and await it."""
        import asyncio

        return await asyncio.wrap_future(self.pool.submit(call))

    def _timed(self, loaded: LoadedVersion, request: Request) -> Any:
        return self._caller.timed(loaded, lambda: self.call_held(loaded, request.checked))

    async def acoroutine(self, loaded: LoadedVersion, request: Request, call: Callable[[Any], Awaitable[Any]]) -> Any:
        """Await a coroutine model's answer to a checked request, in its turn and in time."""
        import asyncio

        self._refuse_if_late(request)
        gate = self._gate(loaded)
        if gate is not None:
            taken = self.pool.submit(lambda: self._wait_for(gate))
            try:
                await asyncio.wrap_future(taken)
            except asyncio.CancelledError:
                # The turn may still come: nobody would hand it on.
                taken.add_done_callback(lambda ended: _release(gate, ended))
                raise
        try:
            if request.deadline is None:
                return await call(request.checked)
            try:
                async with asyncio.timeout(max(0.0, request.deadline - self._monotonic())) as limit:
                    return await call(request.checked)
            except TimeoutError:
                if not limit.expired():
                    raise  # the model's own
                raise too_late(request) from None
        finally:
            if gate is not None:
                gate.release()


def _release(gate: threading.Semaphore, ended: Future[Any]) -> None:
    if not ended.cancelled() and ended.exception() is None:
        gate.release()
