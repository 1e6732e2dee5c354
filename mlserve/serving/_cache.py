"""Loaded models: one load a version, availability before freshness, eviction only of what nobody uses."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, final

import attrs

from mlserve._logs import LazyLogger
from mlserve._rendering import described
from mlserve.clocks import Clock
from mlserve.errors import RepositoryUnavailableError, ServingError, VersionNotFoundError
from mlserve.protocols import ModelRepository
from mlserve.records import ModelVersion
from mlserve.serving._flights import Failure, Flight
from mlserve.serving._loaded import Current, LoadedVersion
from mlserve.serving._names import NeverChanges, VersionNames, observed
from mlserve.serving._policy import CachePolicy

_log = LazyLogger(__name__)


@final
class VersionCache:
    """The models in memory.

    *Thread safety*: yes. The lock is held around dictionaries only, never around a call of the repository or a model.

    Args:
        repository: Where versions come from.
        policy: What stays, and how the latest is followed.
        load: From a version, and whether it is to replace one that answers, to all that a request needs; may be slow
            and may raise anything.
        clock: For times of refresh and retry.
        pinned: Ids of versions that stay, because a router may choose them.
    """

    def __init__(
        self,
        repository: ModelRepository[Any],
        policy: CachePolicy,
        load: Callable[[ModelVersion, bool], LoadedVersion],
        clock: Clock,
        pinned: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        self._repository = repository
        self._policy = policy
        self._load = load
        self._pinned = pinned
        self._monotonic = clock.monotonic
        self.observed: Any = observed(repository)
        self._interval = policy.refresh_seconds if isinstance(self.observed, NeverChanges) else float("inf")
        self._names = VersionNames(
            repository, self.observed, self._interval, clock.monotonic, self._count_error, _started
        )
        self._closed = False
        self.current: Current | None = None
        self.trouble: ServingError | None = None
        """Why the latest version could not be followed the last time; None when it could."""
        self.counts: Counter[str] = Counter()
        self._target: str | None = None
        self._target_generation: float = -1
        self._keep: frozenset[str] = frozenset()
        self._loaded: dict[str, LoadedVersion] = {}
        self._failures: dict[str, Failure] = {}
        self.renew()

    def renew(self) -> None:
        """New locks, no flights and no leases: in a forked child the threads of the parent do not exist."""
        for loaded in self._loaded.values():  # pragma: no cover  # only in the forked child, where nothing measures
            loaded.renew()
        self._names.renew()
        self._lock = threading.Lock()
        self._following = threading.Lock()
        self._is_refreshing = False
        self._flights: dict[str, Flight] = {}

    # ------------------------------------------------------------------------------------------------ the latest

    def latest(self) -> LoadedVersion:
        """The latest version, loaded. Called when ``current`` is absent or out of date.

        Raises:
            ServingError: There is none, or it cannot be loaded and no earlier one can answer.
        """
        current = self.current
        if current is None:
            return self._follow()
        stale = self.observed.generation != current.generation
        if not stale and self._interval:
            if self._monotonic() >= current.expires:  # else another request has seen to it meanwhile
                self._refresh_later(current)
            return current.loaded
        # One request follows; the others go on with what they have.
        if not self._following.acquire(blocking=False):
            return current.loaded
        try:
            return self._follow()
        finally:
            self._following.release()

    def fresh(self, now: float) -> LoadedVersion | None:
        """The version that answers when none is named, if that need not be asked again."""
        current = self.current
        if current is None or self.observed.generation != current.generation or now >= current.expires:
            return None
        return current.loaded

    def at_hand(self, version: ModelVersion | str) -> LoadedVersion | Flight | None:
        """The same as ``named``, where the repository need not be asked; else None."""
        known = None if self._closed else self._names.known(version)
        return None if known is None else self._boarded(known)

    def refresh(self) -> LoadedVersion:
        """The same as ``follow``, and ask what names mean when they are next used."""
        self._names.forget()
        return self.follow()

    def follow(self) -> LoadedVersion:
        """Ask the repository now and wait for the latest version to be loaded, however long it takes."""
        return self._follow(wait_seconds=None)

    def _refresh_later(self, current: Current) -> None:
        with self._lock:
            if self.current is not current:
                return
            self.current = attrs.evolve(current, expires=self._monotonic() + (self._policy.refresh_seconds or 1.0))
            if self._is_refreshing:
                return  # a repository that hangs is not asked by one thread more each time
            self._is_refreshing = True
        self._start("refresh", self._follow_quietly)

    def _follow_quietly(self) -> None:
        try:
            self._follow()
        except ServingError as error:
            _log.warning("following the latest version failed: %s", error)
        finally:
            self._is_refreshing = False

    def _follow(self, wait_seconds: float | None = -1.0) -> LoadedVersion:
        generation = self.observed.generation
        current = self.current
        try:
            latest = self._repository.get_latest_version()
            latest_id = latest.id
        except VersionNotFoundError as error:
            # Nothing is to be served any more, which is what was asked for.
            self.current, self._target = None, None
            self.trouble = error.copy()
            raise
        except Exception as exception:
            return self._without_repository(exception, current, generation)
        with self._lock:
            if self._target_generation > generation and self.current is not None:
                return self.current.loaded  # a later answer of the repository was faster
            is_news = self._target != latest_id
            # Before anything else: a version that was rolled back while it was loading must not be swapped in.
            if not self._target_generation > generation:
                self._target, self._target_generation = latest_id, generation
        if current is not None and current.loaded.id == latest_id:
            self._settle(current.loaded, generation)
            return current.loaded
        with self._lock:
            loaded = self._loaded.get(latest_id)
        if loaded is None:
            if current is not None:
                # Before waiting, so that the other requests see nothing new and go on.
                with self._lock:
                    if self.current is current:
                        self.current = Current(current.loaded, generation, self._monotonic() + self._interval)
            flight = self._board(latest)
            if current is None or wait_seconds is None:
                self._count_miss()
                flight.done.wait()
            elif not flight.done.wait(self._swap_wait_seconds() if is_news else 0.0):
                return current.loaded
            if flight.error is not None:
                return self._without_new(flight.error, current, latest.id)
            assert flight.loaded is not None
            loaded = flight.loaded
        self._settle(loaded, generation)
        return loaded

    def _swap_wait_seconds(self) -> float:
        return min(self._policy.swap_wait_ms / 1000, threading.TIMEOUT_MAX)

    def _settle(self, loaded: LoadedVersion, generation: float) -> None:
        """Traffic goes to this version from now on."""
        with self._lock:
            if self._closed:
                return
            if self.current is not None and self.current.generation > generation:
                return  # a later answer of the repository was faster
            if self.current is not None and self.current.loaded is not loaded:
                self.counts["swaps"] += 1
                _log.info("version %s answers instead of %s", loaded.id, self.current.loaded.id)
            self.current = Current(loaded, generation, self._monotonic() + self._interval)
            self.trouble = None

    def _without_repository(self, exception: Exception, current: Current | None, generation: float) -> LoadedVersion:
        with self._lock:
            self.counts["repository_errors"] += 1
        error = RepositoryUnavailableError(
            f"the repository could not be asked for its latest version: {described(exception)}.",
            hint="A version named by its id may still be loaded.",
            exception=exception,
        )
        _log.warning("%s", error.message, exc_info=exception)
        self.trouble = error.forget_traceback()
        if current is None:
            raise error.copy()
        # It is taken for unchanged until then, lest each request wait for a repository that is down.
        self._retry_after(attrs.evolve(current, generation=generation), self._policy.refresh_seconds or 1.0)
        return current.loaded

    def _without_new(self, error: ServingError, current: Current | None, version_id: str) -> LoadedVersion:
        with self._lock:
            if self._target == version_id:
                self.trouble = error
            failure = self._failures.get(version_id)
        if current is None:
            raise error.copy()
        pause = max(0.0, failure.retry_at - self._monotonic()) if failure is not None else 0.0
        self._retry_after(current, pause)
        return current.loaded

    def _retry_after(self, current: Current, pause: float) -> None:
        with self._lock:
            # Unless traffic moved on meanwhile.
            if self.current is not None and self.current.loaded is current.loaded:
                generation = max(self.current.generation, current.generation)
                self.current = Current(current.loaded, generation, self._monotonic() + pause)

    # ------------------------------------------------------------------------------------------------- by name

    def named(self, version: ModelVersion | str) -> LoadedVersion | Flight:
        """A version by its id, its alias or itself: loaded, or its load, which is not waited for.

        Raises:
            ServingError: It may not be served.
        """
        return self._boarded(self._names.known(version) or self._names.resolve(version))

    def _boarded(self, version: ModelVersion) -> LoadedVersion | Flight:
        loaded = self._loaded.get(version.id)
        if loaded is not None:
            return loaded
        flight = self._board(version)
        self._count_miss()
        return flight

    def _count_miss(self) -> None:
        with self._lock:
            self.counts["misses"] += 1

    def _count_error(self) -> None:
        with self._lock:
            self.counts["repository_errors"] += 1

    def failed_version(self, version_id: str | None) -> ModelVersion | None:
        """The version of this id, if its model could not be loaded the last time."""
        failure = self._failures.get(version_id) if version_id is not None else None
        return None if failure is None else failure.version

    # -------------------------------------------------------------------------------------------------- loading

    def _board(self, version: ModelVersion) -> Flight:
        """The flight of a version: the one under way, or a new one."""
        with self._lock:
            flight = self._flights.get(version.id)
            if flight is not None:
                return flight
            flight = self._flights[version.id] = Flight()
            loaded, failure = self._loaded.get(version.id), self._failures.get(version.id)
            if loaded is not None:  # pragma: no cover  # it landed since the caller looked, two lines ago
                flight.loaded = loaded
            elif failure is not None and self._monotonic() < failure.retry_at:
                flight.error = failure.error
            if flight.loaded is not None or flight.error is not None:
                del self._flights[version.id]
                flight.land()
                return flight
        self._start(f"load-{version.id}", lambda: self._fly(version, flight))
        return flight

    def _fly(self, version: ModelVersion, flight: Flight) -> None:
        flight.fly(lambda: self._load(version, self.current is not None and self._target == version.id), version)
        try:
            if flight.loaded is not None:
                self._publish(flight.loaded)
            else:
                self._remember_failure(version, flight)
        finally:
            with self._lock:
                self._flights.pop(version.id, None)
            flight.land()

    def _publish(self, loaded: LoadedVersion) -> None:
        with self._lock:
            self._failures.pop(loaded.id, None)
            self.counts["loads"] += 1
            if self._closed:
                return  # those who wait for it still get it, and nobody else
            self._loaded[loaded.id] = loaded
            current, crowded = self.current, self._is_crowded()
        _log.info("version %s is loaded", loaded.id)
        if current is not None and self._target == loaded.id:
            self._settle(loaded, current.generation)
        if crowded:
            self._choose_what_stays()
            self.sweep(arriving=loaded)

    def _remember_failure(self, version: ModelVersion, flight: Flight) -> None:
        assert flight.error is not None
        version_id = version.id
        _log.error("%s", flight.error.message, exc_info=flight.error.exception)
        flight.error.forget_traceback()
        with self._lock:
            self.counts["load_failures"] += 1
            known = self._failures.get(version_id)
            attempts = 1 if known is None else known.attempts + 1
            pause = min(self._policy.retry_seconds * 2 ** min(attempts - 2, 60), self._policy.max_retry_seconds)
            retry_at = self._monotonic() + (pause if attempts > 1 else 0.0)
            self._failures[version_id] = Failure(version, flight.error, attempts, retry_at)
            current = self.current
        if self._target == version_id and current is not None:
            self._without_new(flight.error, current, version_id)

    def _start(self, name: str, target: Callable[[], None]) -> None:
        if not _started(name, target):
            _log.warning("no thread could be started, so the caller does the work itself")
            target()

    # ------------------------------------------------------------------------------------------------- evicting

    def _choose_what_stays(self) -> None:
        try:
            pinned = frozenset(self._pinned())
        except Exception:
            with self._lock:
                self.counts["router_errors"] += 1
            _log.exception("the router failed to tell which versions it may choose")
            pinned = frozenset()
        try:
            active = self._repository.get_active_versions(self._policy.keep_active)
            self._keep = frozenset(version.id for version in active) | pinned
        except Exception:
            # The choice made before still holds; the next load asks again.
            with self._lock:
                self.counts["repository_errors"] += 1
            _log.warning("the repository could not be asked which versions are active", exc_info=True)

    def _is_crowded(self) -> bool:
        limit = self._policy.max_bytes
        too_large = limit is not None and sum(loaded.size_bytes for loaded in self._loaded.values()) > limit
        return too_large or len(self._loaded) > self._policy.max_loaded

    def sweep(self, arriving: LoadedVersion | None = None) -> None:
        """Drop the models that need not stay, except those in use: they go when their last request ends.

        Args:
            arriving: A model just loaded, whose callers have not taken their leases yet.
        """
        with self._lock:
            crowded = self._is_crowded()
            current = self.current
            serving = current.loaded if current is not None else None
            for loaded in list(self._loaded.values()):
                if loaded.id in self._keep or loaded is serving or not (crowded or loaded.evicting):
                    loaded.evicting = False
                    continue
                # Marked first and looked at then: a request that ends in between sees the mark, or is seen to end.
                loaded.evicting = True
                if not loaded.leases and not loaded.holds and loaded is not arriving:
                    del self._loaded[loaded.id]
                    loaded.lane = None  # it knows the version: both would stay until garbage is collected
                    self.counts["evictions"] += 1
                    _log.info("version %s is evicted", loaded.id)

    def close(self) -> None:
        """Hand out no model any more but to those who wait for one."""
        with self._lock:
            self._closed = True
            self.current = None

    def forget_all(self) -> None:
        """Drop every model."""
        with self._lock:
            self._loaded.clear()

    @property
    def loaded(self) -> tuple[LoadedVersion, ...]:
        """The models in memory, oldest first."""
        with self._lock:
            return tuple(self._loaded.values())


def _started(name: str, target: Callable[[], None]) -> bool:
    """Whether a thread could be started for something."""
    try:
        threading.Thread(target=target, name=f"mlserve-{name}", daemon=True).start()
    except RuntimeError:
        return False
    return True
