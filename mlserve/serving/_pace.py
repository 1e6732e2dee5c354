"""How long calls take: whether an event loop may wait for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, final

AVERAGE_WEIGHT = 0.1
"""Weight of the newest call in the moving averages."""


def averaged(known: float | None, newest: float) -> float:
    """A moving average with one call more; None where there was none yet."""
    return newest if known is None else known + AVERAGE_WEIGHT * (newest - known)


@final
class Pace:
    """The pace of what a user gave: a validator, a router, a monitor.

    *Thread safety*: yes; of calls that end at the same moment one may be missed.

    Args:
        limit_ms: What takes longer may hold no event loop.
        monotonic: Tells seconds.
    """

    def __init__(self, limit_ms: float, monotonic: Callable[[], float]) -> None:
        self._limit_ms = limit_ms
        self._monotonic = monotonic
        self._average_ms: float | None = None

    def is_quick(self) -> bool:
        """Whether an event loop may make the next call, as far as was measured."""
        return self.takes_ms() <= self._limit_ms

    def takes_ms(self, count: int = 1) -> float:
        """How long so many calls take; infinity where none was made yet."""
        average = self._average_ms
        return math.inf if average is None else average * count

    def measured(self, call: Callable[..., Any], calls_in: Callable[..., int] = lambda *_: 1) -> Callable[..., Any]:
        """The same function, and it is learned how long its calls take.

        Args:
            call: The function.
            calls_in: Told its arguments, for how many calls one stands.
        """

        def timed(*args: Any) -> Any:
            begun = self._monotonic()
            try:
                return call(*args)
            finally:
                took_ms = (self._monotonic() - begun) * 1000.0
                self._average_ms = averaged(self._average_ms, took_ms / max(1, calls_in(*args)))

        return timed
