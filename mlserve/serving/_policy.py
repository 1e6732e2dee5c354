"""What a server may keep, wait for and call healthy: every threshold of serving, by name."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import attrs

from mlserve.errors import InvalidArgumentError


def is_number(value: Any) -> bool:
    """Whether something is a real number, of Python's kinds or of numpy's; a boolean is none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def at_least(minimum: float) -> Any:
    """An attrs validator: a number that is not smaller."""

    def check(_instance: object, attribute: Any, value: Any) -> None:
        if not isinstance(value, (int, float)) or math.isnan(value) or value < minimum:
            raise InvalidArgumentError(attribute.name, value, f"a number, at least {minimum}")

    return check


def whole(_instance: object, attribute: Any, value: int) -> None:
    """An attrs validator: a whole number, at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidArgumentError(attribute.name, value, "a whole number, at least 1")


def whole_or_none(instance: object, attribute: Any, value: int | None) -> None:
    """An attrs validator: a whole number, at least 1, or None."""
    if value is not None:
        whole(instance, attribute, value)


def share(_instance: object, attribute: Any, value: Any) -> None:
    """An attrs validator: a number in [0, 1]."""
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise InvalidArgumentError(attribute.name, value, "a share in [0, 1]", hint="5 % is 0.05.")


@attrs.frozen(kw_only=True)
class CachePolicy:
    """Which models stay in memory, and how the latest version is followed.

    Attributes:
        max_loaded: When more models than this are loaded, the cache is swept; at least 1.
        keep_active: A sweep keeps this many of the most recently activated versions, and whatever is in use; at
            least 1, at most ``max_loaded``.
        refresh_seconds: How often a repository that cannot be observed is asked for its latest version, off the
            request path; 0 asks it inline for each request.
        max_bytes: When the models loaded are larger than this together, the cache is swept as by ``max_loaded``; None
            for no limit. What a sweep keeps may still be larger.
        size_of: How large a model is, in bytes; None for the size of its pickle, which is near what it takes in memory
            for a model of arrays. Called when a version is loaded, if ``max_bytes`` is given.
        swap_wait_ms: How long the request that finds a new latest version waits for it to load before the old one
            answers.
        retry_seconds: Pause before the third attempt at a load that failed twice; it doubles with each failure. The
            second attempt is made at the next request.
        max_retry_seconds: The longest such pause.
    """

    max_loaded: int = attrs.field(default=3, validator=whole)
    keep_active: int = attrs.field(default=2, validator=whole)
    refresh_seconds: float = attrs.field(default=1.0, validator=at_least(0))
    max_bytes: int | None = attrs.field(default=None, validator=whole_or_none)
    size_of: Callable[[Any], int] | None = None
    swap_wait_ms: float = attrs.field(default=50.0, validator=at_least(0))
    retry_seconds: float = attrs.field(default=0.1, validator=at_least(0))
    max_retry_seconds: float = attrs.field(default=30.0, validator=at_least(0))

    def __attrs_post_init__(self) -> None:
        if self.keep_active > self.max_loaded:
            raise InvalidArgumentError("keep_active", self.keep_active, f"at most max_loaded, {self.max_loaded}")


def positive_or_none(_instance: object, attribute: Any, value: Any) -> None:
    """An attrs validator: a positive number, or None."""
    if value is not None and (not isinstance(value, (int, float)) or not 0 < value < math.inf):
        raise InvalidArgumentError(attribute.name, value, "a positive number, or None")


@attrs.frozen(kw_only=True)
class HealthPolicy:
    """When a server is healthy.

    Attributes:
        max_error_rate: The fault rate must stay below it, in [0, 1].
        window: Over how long it is taken; positive.
        timeout_ms: How long a check waits each for the latest version and its load, for the model, and for the monitor;
            None for as long as they take. What takes longer goes on, and the check says so.
    """

    max_error_rate: float = attrs.field(default=0.05, validator=share)
    window: timedelta = timedelta(minutes=5)
    timeout_ms: float | None = attrs.field(default=30_000.0, validator=positive_or_none)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.window, timedelta) or self.window <= timedelta(0):
            raise InvalidArgumentError("window", self.window, "a positive timedelta")


@attrs.frozen(kw_only=True)
class Limits:
    """What a request may cost others.

    Attributes:
        max_in_flight: Requests under way at once; further ones fail at once with ``Overloaded``. None for no limit.
        max_queued: Requests that wait for a thread or for their turn at the model; further ones fail at once with
            ``Overloaded``. None for no limit.
        default_timeout_ms: The time limit of a call that names none; None for no limit. A call with a time limit runs
            on the server's own threads.
        inline_below_ms: A model whose calls take longer than this, on a moving average, is called on a worker thread
            when the caller awaits; below it, on the event loop, since going to a thread costs more than it saves.
    """

    max_in_flight: int | None = attrs.field(default=None, validator=whole_or_none)
    max_queued: int | None = attrs.field(default=None, validator=whole_or_none)
    default_timeout_ms: float | None = attrs.field(default=None, validator=positive_or_none)
    inline_below_ms: float = attrs.field(default=0.5, validator=at_least(0))
