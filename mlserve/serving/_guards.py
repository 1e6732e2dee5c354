"""What may stand between a request and its model: limits, deadlines, turns, batches, breakers."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import Any, TypeVar, final

from mlserve.errors import ErrorKind, InvalidArgumentError, OverloadedError, ServingError
from mlserve.protocols import Router
from mlserve.serving._batching import Batcher
from mlserve.serving._breaker import CircuitBreaker, Permit
from mlserve.serving._cache import VersionCache
from mlserve.serving._calling import Caller
from mlserve.serving._finding import Acquire, Finding
from mlserve.serving._loaded import LoadedVersion
from mlserve.serving._options import Breaker
from mlserve.serving._pace import Pace
from mlserve.serving._policy import Limits, is_number
from mlserve.serving._pool import ServerThreads, WorkerPool
from mlserve.serving._requests import Request, too_late
from mlserve.serving._routes import Routes
from mlserve.serving._validation import checked

T = TypeVar("T")

MOST_BREAKERS = 1000
"""Breakers that are kept, those of versions that are not loaded among them; the one loaded last is the last."""

LONGEST_MS = 1e12
"""Thirty years: a time limit beyond it is none, and clocks could not count so far."""


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
        threads: Where calls are made that a caller cannot wait for.
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
        threads: ServerThreads,
    ) -> None:
        self._cache = cache
        self._caller = caller
        self._limits = limits
        self._batcher = batcher
        self._breaker = breaker
        self._concurrency = concurrency
        self._is_routed = router is not None
        self._monotonic = monotonic
        self.threads = threads
        routes = None if router is None else Routes(router, self.count, Pace(limits.inline_below_ms, monotonic))
        self.finding = Finding(cache, routes, self.threads, monotonic)
        self.counts: Counter[str] = Counter()
        self.under_way: dict[int, Request] = {}
        """Requests not answered yet, by identity."""
        self.renew()

    @property
    def is_bare(self) -> bool:
        """Whether nothing but a batch stands between a request without a time limit and its model."""
        limits = self._limits
        return (
            self._breaker is None
            and self._concurrency is None
            and not self._is_routed
            and limits.max_in_flight is None
            and limits.default_timeout_ms is None
        )

    def renew(self) -> None:
        """New locks and threads, as a forked child needs them."""
        self._lock = threading.Lock()
        self._waiting: list[Request] = []
        self._in_flight = 0
        self._breakers: dict[str, CircuitBreaker] = {}
        self.under_way = {}
        self.threads.renew()
        if self._batcher is not None:
            self._batcher.batches.renew()

    # ------------------------------------------------------------------------------------------------- admission

    def admit(self, request: Request) -> None:
        """Take a request in; every admitted one is let go.

        Raises:
            OverloadedError: Too many are under way.
        """
        limit = self._limits.max_in_flight
        if limit is not None:
            with self._lock:
                if self._in_flight + request.count > limit:
                    raise OverloadedError(
                        f"{self._in_flight} requests are under way, and {request.count} came in.",
                        hint=f"Retry later; Limits(max_in_flight={limit}) is the limit.",
                    )
                self._in_flight += request.count
        self.under_way[id(request)] = request

    def let_go(self, request: Request) -> None:
        """An admitted request has ended."""
        # A thread that forked within a request finds in its child that nothing is under way.
        if self.under_way.pop(id(request), None) is not None and self._limits.max_in_flight is not None:
            with self._lock:
                self._in_flight -= request.count

    def deadline(self, started: float, timeout_ms: float | None) -> float | None:
        """When a request that began then must be answered, in monotonic seconds.

        Raises:
            InvalidArgumentError: The time limit is no number.
        """
        limit = self._limits.default_timeout_ms if timeout_ms is None else timeout_ms
        if limit is None:
            return None
        if not is_number(limit) or limit != limit:  # as NaN is
            raise InvalidArgumentError("timeout_ms", limit, "a number of milliseconds, or None")
        return started + float(max(-LONGEST_MS, min(limit, LONGEST_MS))) / 1000.0

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
                # A version that was evicted while it was given a rest goes on with it when it is loaded again.
                breaker = self._breakers.pop(loaded.id, None)
                if breaker is None:
                    breaker = CircuitBreaker(loaded.id, self._breaker, self._monotonic)
                    if len(self._breakers) >= MOST_BREAKERS:
                        del self._breakers[next(iter(self._breakers))]
                self._breakers[loaded.id] = loaded.breaker = breaker
        permit: Permit = breaker.enter()
        return permit

    def leave(self, loaded: LoadedVersion, permit: Permit | None, begun: float, error: BaseException | None) -> None:
        """A request that was let through has ended."""
        if permit is None:
            return
        breaker: CircuitBreaker | None = loaded.breaker
        if breaker is None:
            return  # pragma: no cover  # only in the child of a request that forked, where nothing measures
        kind = getattr(error, "kind", None) if isinstance(error, ServingError) else None
        # A request that went away, or never got as far as the model, tells nothing about it.
        if kind is ErrorKind.Overloaded or not (error is None or isinstance(error, Exception)):
            breaker.abandon(permit)
            return
        failed = error is not None and not (isinstance(kind, ErrorKind) and kind.is_caller_fault)
        breaker.leave(permit, failed=failed, elapsed_ms=(self._monotonic() - begun) * 1000.0)

    # --------------------------------------------------------------------------------------------------- calling

    def answer(self, request: Request, acquire: Acquire) -> Any:
        """The model's answer to an admitted request, on a thread that may wait.

        Raises:
            Exception: Why there is none.
        """
        loaded = request.loaded = self.finding.found(request, acquire)
        holds = loaded.holds
        holds.append(request)
        try:
            request.checked = self.check(loaded, request, lambda: checked(loaded.check, request.input))
            self.finding.refuse_if_late(request)
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
            holds.remove(request)
            self.sweep_if_evicting(loaded)

    def check(self, loaded: LoadedVersion, request: Request, check: Callable[[], T]) -> T:
        """Check what is asked on this thread, or on another where a validator of the user's own has a deadline."""
        is_ours = loaded.check_pace is None
        return check() if is_ours else self.finding.in_time(request, check, self.threads.checking)

    def in_time(self, request: Request, call: Callable[[], T], loaded: LoadedVersion) -> T:
        """Make a call of a version on this thread, or where there is a deadline on one of the version's."""
        return call() if request.deadline is None else self.finding.in_time(request, call, self.threads.of(loaded))

    def _called(self, loaded: LoadedVersion, request: Request) -> Any:
        if self._batcher is not None and self._batcher.is_worth_it(loaded):
            return self._batcher.call(loaded, request)
        return self.in_time(request, lambda: self.call_held(loaded, request.checked, request), loaded)

    def call_held(
        self, loaded: LoadedVersion, input: Any, request: Request, call: Callable[[Any], Any] | None = None
    ) -> Any:
        """Call a model with a checked input, on this thread, in its turn; the model stays until the call ends.

        Args:
            loaded: The version.
            input: What it is given.
            request: The request, whose turn must come in time.
            call: How it is called; None as its adapter says.
        """
        holds = loaded.holds
        holds.append(request)
        gate: threading.Semaphore | None = loaded.gate
        try:
            if gate is None:
                return self._answered(loaded, input, request) if call is None else call(input)
            self._wait_for(gate, request)
            try:
                if request.is_left:
                    raise CancelledError  # the model is not called for nobody
                return self._answered(loaded, input, request) if call is None else call(input)
            finally:
                self._hand_on(loaded, gate)
        finally:
            holds.remove(request)
            self.sweep_if_evicting(loaded)

    def _answered(self, loaded: LoadedVersion, input: Any, request: Request) -> Any:
        if loaded.is_async:  # its coroutine ends in time, and keeps no thread
            return self._caller.loop.run(self.finding.awaited_in_time(request, loaded.call, input))
        return self._caller.call_checked(loaded, input)

    def try_out(self, loaded: LoadedVersion, input: Any) -> Any:
        """Check an input and answer it, in its turn, for nobody's request: whatever is queued, it is not refused."""
        gate: threading.Semaphore | None = loaded.gate
        if gate is None:
            return self._caller.call(loaded, input)
        with gate:
            value = self._caller.call(loaded, input)
        if self._batcher is not None:
            self._batcher.batches.go_on(loaded)
        return value

    def _hand_on(self, loaded: LoadedVersion, gate: threading.Semaphore) -> None:
        """Give a turn back; a batch may be waiting for it."""
        gate.release()
        if self._batcher is not None:
            self._batcher.batches.go_on(loaded)

    def sweep_if_evicting(self, loaded: LoadedVersion) -> None:
        """Drop a model that was kept for a request that has ended."""
        if loaded.evicting:
            self._cache.sweep()

    def _wait_for(self, gate: threading.Semaphore, request: Request) -> None:
        if gate.acquire(blocking=False):
            return
        limit = self._limits.max_queued
        with self._lock:
            if limit is not None and sum(not waiting.is_left for waiting in self._waiting) >= limit:
                raise OverloadedError(
                    f"{limit} requests already wait for their turn.",
                    hint="Retry later; Limits(max_queued=) is the limit.",
                )
            self._waiting.append(request)
        deadline = request.deadline
        try:
            if not gate.acquire(timeout=None if deadline is None else max(0.0, deadline - self._monotonic())):
                raise too_late(request)
        finally:
            with self._lock:
                self._waiting.remove(request)

    # -------------------------------------------------------------------------------------------------- awaiting

    async def aanswer(self, request: Request, acquire: Acquire) -> Any:
        """The same as ``answer``, without blocking the caller's event loop for long."""
        loaded = request.loaded = await self.finding.afound(request, acquire)
        holds = loaded.holds
        holds.append(request)
        try:
            pace = loaded.check_pace
            if pace is None:
                request.checked = checked(loaded.check, request.input)
            else:
                check = partial(checked, loaded.check, request.input)
                request.checked = await self.finding.aguest(request, check, self.threads.checking, pace)
            self.finding.refuse_if_late(request)
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
            holds.remove(request)
            self.sweep_if_evicting(loaded)

    async def _acalled(self, loaded: LoadedVersion, request: Request) -> Any:
        if self._batcher is not None and self._batcher.is_worth_it(loaded):
            return await self._batcher.turns.acall(loaded, request)
        if loaded.is_async:
            return await self.acoroutine(loaded, request, loaded.call)
        average = loaded.average_ms
        if self._concurrency is None and average is not None and average <= self._limits.inline_below_ms:
            value = await self.finding.awaited_in_time(request, partial(self._caller.acall, loaded), request.checked)
            self.finding.refuse_if_late(request)
            return value
        return await self.finding.ain_time(request, lambda: self._timed(loaded, request), self.threads.of(loaded))

    async def off_loop(self, call: Callable[[], T], pool: WorkerPool) -> T:
        """Make a call that may wait for others on a thread of a pool and await it.

        Raises:
            OverloadedError: Too many wait for a thread; the call is not made.
        """
        import asyncio

        return await asyncio.wrap_future(pool.submit(call))

    def _timed(self, loaded: LoadedVersion, request: Request) -> Any:
        return self._caller.timed(loaded, lambda: self.call_held(loaded, request.checked, request))

    async def acoroutine(self, loaded: LoadedVersion, request: Request, call: Callable[[Any], Awaitable[Any]]) -> Any:
        """Await a coroutine model's answer to a checked request, in its turn and in time."""
        import asyncio

        self.finding.refuse_if_late(request)
        gate: threading.Semaphore | None = loaded.gate
        if gate is not None and not gate.acquire(blocking=False):
            taken = self.threads.turns.submit(lambda: self._wait_for(gate, request))
            try:
                await asyncio.wrap_future(taken)
            except BaseException as error:
                request.is_left = not isinstance(error, Exception)  # one that is late or refused may still be helped
                # The turn may still come: nobody would hand it on.
                taken.add_done_callback(lambda ended: _release(gate, ended))
                raise
        try:
            return await self.finding.awaited_in_time(request, call, request.checked)
        finally:
            if gate is not None:
                gate.release()


def _release(gate: threading.Semaphore, ended: Future[Any]) -> None:
    if not ended.cancelled() and ended.exception() is None:
        gate.release()
