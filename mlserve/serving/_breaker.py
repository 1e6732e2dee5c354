"""Circuit breakers: a version that keeps failing is given a rest, and tried again."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import final

import attrs

from mlserve.errors import CircuitOpenError
from mlserve.serving._options import Breaker

_log = logging.getLogger(__name__)

BUCKET_SECONDS = 1.0
"""How finely the window moves."""


class BreakerState(StrEnum):
    """What a breaker does with requests."""

    CLOSED = "CLOSED"
    """It lets them through."""
    OPEN = "OPEN"
    """It refuses them."""
    HALF_OPEN = "HALF_OPEN"
    """It lets a few through, to see."""


@attrs.define
class _Bucket:
    begun: float
    calls: int = 0
    failed: int = 0
    slow: int = 0


@attrs.frozen
class Permit:
    """What a request that was let through hands back.

    Attributes:
        round: Of a probe, the half-open period it belongs to; 0 for others.
        given_up_at: Of a probe, when it counts as failed, in monotonic seconds.
    """

    round: int = 0
    given_up_at: float = 0.0


NO_PROBE = Permit()


@final
class CircuitBreaker:
    """The breaker of one version.

    *Thread safety*: yes. The lock is held around state only, never around a call of the model.

    Args:
        version_id: The version.
        policy: When it opens.
        monotonic: Tells seconds.
    """

    def __init__(self, version_id: str, policy: Breaker, monotonic: Callable[[], float]) -> None:
        self._version_id = version_id
        self._policy = policy
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._buckets: deque[_Bucket] = deque()
        self._state = BreakerState.CLOSED
        self._open_until = 0.0
        self._open_for = policy.open_seconds
        self._round = 0
        # When each probe under way is given up, the oldest first.
        self._probes: list[float] = []
        self._admitted = 0
        self._succeeded = 0
        self.opened = 0
        """How often it opened."""
        self.refused = 0
        """Requests refused."""

    @property
    def state(self) -> BreakerState:
        """What it does with the next request."""
        with self._lock:
            self._look(self._monotonic())
            return self._state

    def enter(self) -> Permit:
        """Let a request through.

        Raises:
            CircuitOpenError: It is not let through.
        """
        with self._lock:
            now = self._monotonic()
            self._look(now)
            if self._state is BreakerState.CLOSED:
                return NO_PROBE
            if self._state is BreakerState.HALF_OPEN and self._admitted < self._policy.half_open_probes:
                self._admitted += 1
                self._probes.append(now + self._policy.probe_seconds)
                return Permit(self._round, self._probes[-1])
            self.refused += 1
            wait = max(0.0, self._open_until - now) if self._state is BreakerState.OPEN else 0.0
        raise CircuitOpenError(
            f"version {self._version_id} failed too often lately and is given a rest"
            + (f" for another {wait:.1f} s." if wait else "; it is being tried by other requests."),
            hint="Retry later, or give the server fallbacks=.",
            version_id=self._version_id,
        )

    def leave(self, permit: Permit, *, failed: bool, elapsed_ms: float) -> None:
        """A request that was let through has ended."""
        limit = self._policy.slow_call_ms
        slow = limit is not None and elapsed_ms > limit
        with self._lock:
            now = self._monotonic()
            self._look(now)
            if permit.round:
                if self._is_awaited(permit):
                    self._probe_ended(now, permit, good=not failed and not slow)
                return
            if self._state is not BreakerState.CLOSED:
                return  # it was let through before the breaker opened
            bucket = self._bucket(now)
            bucket.calls += 1
            bucket.failed += failed
            bucket.slow += slow
            if not self._is_bad(now):
                return
            self._open(now)
        _log.warning("version %s failed too often and is given a rest of %g s", self._version_id, self._open_for)

    def abandon(self, permit: Permit) -> None:
        """A request that was let through ended without telling anything, as when its caller went away."""
        with self._lock:
            if self._is_awaited(permit):
                self._probes.remove(permit.given_up_at)
                self._admitted -= 1

    def _is_awaited(self, permit: Permit) -> bool:
        """Whether it is a probe of the half-open period that goes on."""
        return self._state is BreakerState.HALF_OPEN and permit.round == self._round

    def _look(self, now: float) -> None:
        """What time alone has changed."""
        if self._state is BreakerState.OPEN and now >= self._open_until:
            self._state = BreakerState.HALF_OPEN
            self._round += 1
            self._probes, self._admitted, self._succeeded = [], 0, 0
        if self._state is BreakerState.HALF_OPEN and self._probes and now >= self._probes[0]:
            self._reopen(now)

    def _probe_ended(self, now: float, permit: Permit, *, good: bool) -> None:
        if not good:
            self._reopen(now)
            return
        self._probes.remove(permit.given_up_at)
        self._succeeded += 1
        if self._succeeded >= self._policy.half_open_probes:
            self._state = BreakerState.CLOSED
            self._open_for = self._policy.open_seconds
            self._buckets.clear()
            self._round += 1

    def _reopen(self, now: float) -> None:
        self._open_for = min(2 * self._open_for, self._policy.max_open_seconds)
        self._open(now)

    def _open(self, now: float) -> None:
        self._state = BreakerState.OPEN
        self._open_until = now + self._open_for
        self._buckets.clear()
        self.opened += 1

    def _bucket(self, now: float) -> _Bucket:
        if not self._buckets or now >= self._buckets[-1].begun + BUCKET_SECONDS:
            self._buckets.append(_Bucket(now))
        return self._buckets[-1]

    def _is_bad(self, now: float) -> bool:
        while self._buckets and self._buckets[0].begun <= now - self._policy.window_seconds:
            self._buckets.popleft()
        calls = sum(bucket.calls for bucket in self._buckets)
        if calls < self._policy.min_calls:
            return False
        failed = sum(bucket.failed for bucket in self._buckets)
        slow = sum(bucket.slow for bucket in self._buckets)
        return failed >= self._policy.failure_rate * calls or (
            self._policy.slow_call_ms is not None and slow >= self._policy.slow_call_rate * calls
        )
