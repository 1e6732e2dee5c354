"""Where the time comes from. Servers, monitors and detectors take ``clock=``, so that a test or a replay owns time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol, final, runtime_checkable

from mlserve.errors import InvalidArgumentError

__all__ = ["Clock", "ManualClock", "SystemClock", "timestamps"]


@runtime_checkable
class Clock(Protocol):
    """Tells the time.

    *Thread safety*: both methods may be called from any thread at once.
    """

    def now(self) -> datetime:
        """The time of day: a timezone-aware datetime in UTC. May jump."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment. Never goes back; only differences mean anything."""
        ...


@final
class SystemClock:
    """The clock of the machine."""

    # The highest resolution there is; a builtin called without a frame of Python between.
    monotonic: staticmethod[[], float] = staticmethod(time.perf_counter)

    def now(self) -> datetime:
        """The time of day in UTC."""
        return datetime.now(UTC)


def timestamps(clock: Clock) -> Callable[[], float]:
    """The cheapest way to read a clock's time of day as seconds since 1970-01-01 UTC.

    Args:
        clock: For the system's clock this is the builtin itself; a datetime would cost five times as much.
    """
    if isinstance(clock, SystemClock):
        return time.time
    return lambda: clock.now().timestamp()


@final
class ManualClock:
    """A clock that stands still until it is told to move.

    *Thread safety*: yes; a reader sees the time before or after a move, never half of one.

    Args:
        start: Where it begins; timezone-aware. Default: 2026-01-01 00:00 UTC.

    Raises:
        InvalidArgumentError: ``start`` has no time zone.

    Example:
        >>> clock = ManualClock()
        >>> clock.advance(timedelta(minutes=5))
        >>> clock.now().isoformat()
        '2026-01-01T00:05:00+00:00'
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        if not isinstance(start, datetime) or start.tzinfo is None:
            raise InvalidArgumentError("start", start, "a timezone-aware datetime", hint="Add tzinfo=timezone.utc.")
        self._lock = threading.Lock()
        self._start = start.astimezone(UTC)
        self._elapsed = timedelta(0)

    def now(self) -> datetime:
        """The start plus every advance, in UTC."""
        return self._start + self._elapsed

    def monotonic(self) -> float:
        """Seconds advanced since the start."""
        return self._elapsed.total_seconds()

    def advance(self, by: timedelta) -> None:
        """Move forward.

        Args:
            by: How far; not negative.

        Raises:
            InvalidArgumentError: ``by`` is negative or no timedelta.
        """
        if not isinstance(by, timedelta) or by < timedelta(0):
            raise InvalidArgumentError("by", by, "a timedelta of at least 0", hint="A clock cannot be turned back.")
        with self._lock:
            self._elapsed += by

    def advance_to(self, moment: datetime) -> None:
        """Move forward to a moment; one that has passed already changes nothing.

        Args:
            moment: Timezone-aware.

        Raises:
            InvalidArgumentError: ``moment`` has no time zone.
        """
        if not isinstance(moment, datetime) or moment.tzinfo is None:
            raise InvalidArgumentError("moment", moment, "a timezone-aware datetime", hint="Add tzinfo=timezone.utc.")
        with self._lock:
            self._elapsed = max(self._elapsed, moment - self._start)
