"""The parts of a server, put together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from mlserve.clocks import Clock, timestamps
from mlserve.errors import InvalidArgumentError
from mlserve.protocols import ModelMonitor, ModelRepository, Router
from mlserve.serving._cache import VersionCache
from mlserve.serving._calling import Caller
from mlserve.serving._finding import Acquire
from mlserve.serving._health import HealthExaminer
from mlserve.serving._loading import Loader
from mlserve.serving._pace import Pace
from mlserve.serving._policy import CachePolicy, HealthPolicy, Limits
from mlserve.serving._recording import Recorder
from mlserve.serving._results import Results

if TYPE_CHECKING:
    from mlserve.serving._batching import Batcher
    from mlserve.serving._express import ExpressPath
    from mlserve.serving._fallbacks import Fallback
    from mlserve.serving._guarded import GuardedPath
    from mlserve.serving._many import ManyPath
    from mlserve.serving._options import Batching, Breaker

CLOSE_POLL_SECONDS = 0.005
"""How often closing looks whether the last request has ended."""


@attrs.define(eq=False, repr=False)
class Parts:
    """The parts of one server.

    Attributes:
        recorder: Records what happened.
        caller: Calls models.
        cache: The models.
        results: What requests came to.
        batcher: Batches requests, or None.
        guarded: The path through limits, deadlines, batches, breakers and fallbacks.
        express: The path through nothing but batches, or None.
        is_guarded: Whether every request goes that way.
        many: The path of many inputs at once.
        health: Makes the checks.
        arriving: Ids of the requests that wait for their version on the short path.
    """

    recorder: Recorder
    caller: Caller
    cache: VersionCache
    results: Results
    batcher: Batcher | None
    guarded: GuardedPath
    express: ExpressPath | None
    is_guarded: bool
    many: ManyPath
    health: HealthExaminer
    arriving: list[str]

    def close(self, timeout: float) -> None:
        """Hand out no model any more, wait for the requests under way, and let go of everything."""
        self.cache.close()
        if self.batcher is not None:
            self.batcher.batches.threads.stop()  # what is queued waits for nobody any more
        ended = threading.Event()
        give_up = time.monotonic() + timeout
        while self._is_busy() and time.monotonic() < give_up:
            ended.wait(CLOSE_POLL_SECONDS)
        self.cache.forget_all()
        if self.batcher is not None:
            self.batcher.batches.threads.stop()
        self.caller.loop.close()

    def renew(self) -> None:  # pragma: no cover  # runs in the forked child, where nothing measures
        """New locks, threads, counters and ids, as a forked child needs them."""
        self.results.begin()
        self.cache.renew()
        self.guarded.guards.renew()
        self.recorder.renew()
        self.caller.renew()
        self.health.renew()

    def _is_busy(self) -> bool:
        is_used = any(version.leases or version.holds for version in self.cache.loaded)
        return is_used or bool(self.arriving) or bool(self.guarded.guards.under_way)


def assembled(
    repository: ModelRepository[Any],
    monitor: ModelMonitor,
    acquire: Acquire,
    *,
    predictor: Callable[[Any, Any], Any] | None,
    validator: Any,
    router: Router | None,
    fallbacks: Sequence[Fallback],
    breaker: Breaker | None,
    batching: Batching | None,
    concurrency: int | None,
    limits: Limits,
    cache: CachePolicy,
    health: HealthPolicy,
    synthetic_input: Any,
    name: str,
    clock: Clock,
) -> Parts:
    """The parts of a server; ``acquire`` gives a version, loaded, and the rest is as ``ModelServer`` has it.

    Raises:
        InvalidArgumentError: See ``ModelServer``.
    """
    if not isinstance(name, str) or not name:
        raise InvalidArgumentError("name", name, "a non-empty string")
    if concurrency is not None and (
        not isinstance(concurrency, int) or isinstance(concurrency, bool) or concurrency < 1
    ):
        raise InvalidArgumentError("concurrency", concurrency, "a whole number, at least 1, or None")
    for parameter, value, kind in (
        ("limits", limits, Limits), ("cache", cache, CachePolicy), ("health", health, HealthPolicy)
    ):  # fmt: skip
        if not isinstance(value, kind):
            raise InvalidArgumentError(parameter, value, f"a {kind.__name__}, or None")
    if batching is not None or breaker is not None:
        _check_options(batching, breaker)
    monotonic = clock.monotonic
    new_pace = partial(Pace, limits.inline_below_ms, monotonic)
    recorder = Recorder(monitor, clock, new_pace())
    caller = Caller(monotonic)
    measure = None
    if cache.max_bytes is not None:
        from mlserve.serving._sizes import size_of

        measure = partial(size_of, measure=cache.size_of)
    loader = Loader(
        repository, predictor, validator, recorder, caller.call, monotonic, new_pace(), measure, concurrency
    )
    pinned = frozenset if router is None else router.routed_versions
    versions = VersionCache(repository, cache, loader.load, clock, pinned)
    # Imported with the first server: neither ``import mlserve`` nor a request waits for them.
    from mlserve.serving._pool import ServerThreads

    threads = ServerThreads(limits.max_queued)
    results = Results(name, recorder, versions.failed_version, monotonic, timestamps(clock), threads)
    from mlserve.serving._gathering import Gathering
    from mlserve.serving._guarded import GuardedPath
    from mlserve.serving._guards import Guards
    from mlserve.serving._many import ManyPath

    batcher = None
    if batching is not None:
        from mlserve.serving._batches import Batches
        from mlserve.serving._batching import Batcher

        batches = Batches(batching, limits.inline_below_ms, monotonic, results, versions.sweep)
        batcher = Batcher(batches, monotonic, results)
    chain: Sequence[Fallback] = ()
    if fallbacks:
        from mlserve.serving._fallbacks import checked_fallbacks

        chain = checked_fallbacks(fallbacks)
    guards = Guards(
        versions,
        caller,
        limits=limits,
        batcher=batcher,
        breaker=breaker,
        concurrency=concurrency,
        router=router,
        monotonic=monotonic,
        threads=threads,
    )
    guarded = GuardedPath(repository, acquire, guards, results, chain, monotonic)
    express = None
    if batcher is not None and guards.is_bare and not chain:
        from mlserve.serving._express import ExpressPath

        express = ExpressPath(guarded, batcher, versions, results, monotonic)
    many = ManyPath(guarded, acquire, results, monotonic, Gathering(guards, caller, concurrency))
    is_guarded = bool(chain or limits.max_in_flight is not None or limits.default_timeout_ms is not None) or any(
        part is not None for part in (router, breaker, batching, concurrency)
    )
    examiner = HealthExaminer(
        versions, monitor, recorder, health, clock, synthetic_input, guards.try_out, threads.examining, batcher
    )
    return Parts(recorder, caller, versions, results, batcher, guarded, express, is_guarded, many, examiner, [])


def _check_options(batching: Any, breaker: Any) -> None:
    from mlserve.serving._options import Batching, Breaker  # not before somebody asks for one

    for parameter, value, kind in (("batching", batching, Batching), ("breaker", breaker, Breaker)):
        if not isinstance(value, kind | None):
            raise InvalidArgumentError(
                parameter, value, f"a {kind.__name__}, or None", hint=f"{kind.__name__}() has the defaults."
            )
