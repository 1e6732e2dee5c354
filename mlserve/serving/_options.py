"""What a server does only when it is asked to: batches, and rests for versions that fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from mlserve.errors import InvalidArgumentError
from mlserve.serving._policy import at_least, positive_or_none, share, whole


def _callable_or_none(_instance: object, attribute: Any, value: Any) -> None:
    if value is not None and not callable(value):
        raise InvalidArgumentError(attribute.name, value, "a function of an input, or None")


@attrs.frozen(kw_only=True)
class Batching:
    """How requests that are there at the same time are answered by one call of the model.

    A model whose single call takes less than handing a request over does is called directly all the same.

    Attributes:
        max_batch_size: Requests in one call, at most; with ``weight``, their weights together.
        max_wait_ms: How long a request may wait for others to join; 0 takes those that are there, and adds no latency.
        max_queued: Requests waiting for a version, at most; further ones fail at once with ``Overloaded``.
        weight: How much of a batch an input takes, at least 1, for inputs of different size; None for 1 each. An input
            heavier than ``max_batch_size`` goes alone.
    """

    max_batch_size: int = attrs.field(default=64, validator=whole)
    max_wait_ms: float = attrs.field(default=0.0, validator=at_least(0))
    max_queued: int = attrs.field(default=1024, validator=whole)
    weight: Callable[[Any], int] | None = attrs.field(default=None, validator=_callable_or_none)


@attrs.frozen(kw_only=True)
class Breaker:
    """When a version is given a rest.

    The state machine is that of resilience4j: closed, open, half-open. Failures that the caller caused do not count.

    Attributes:
        window_seconds: Over how long rates are taken.
        min_calls: Fewer calls than this in the window open nothing.
        failure_rate: The breaker opens when this share of the calls failed, in (0, 1].
        slow_call_rate: It also opens when this share of the calls was slow, in (0, 1].
        slow_call_ms: A call that takes longer is slow; None where no call is.
        open_seconds: How long requests are refused the first time; it doubles each time a probe fails.
        max_open_seconds: The longest such time.
        half_open_probes: Requests let through to try whether the version has recovered; when all of them succeed, it
            has. A ``predict_many`` counts as one, here and towards ``min_calls``.
        probe_seconds: A probe that has not answered by then counts as failed.
    """

    window_seconds: float = attrs.field(default=30.0, validator=at_least(1))
    min_calls: int = attrs.field(default=20, validator=whole)
    failure_rate: float = attrs.field(default=0.5, validator=share)
    slow_call_rate: float = attrs.field(default=0.8, validator=share)
    slow_call_ms: float | None = attrs.field(default=None, validator=positive_or_none)
    open_seconds: float = attrs.field(default=10.0, validator=at_least(0))
    max_open_seconds: float = attrs.field(default=300.0, validator=at_least(0))
    half_open_probes: int = attrs.field(default=3, validator=whole)
    probe_seconds: float = attrs.field(default=30.0, validator=at_least(0))

    def __attrs_post_init__(self) -> None:
        if self.max_open_seconds < self.open_seconds:
            raise InvalidArgumentError(
                "max_open_seconds", self.max_open_seconds, f"at least open_seconds, {self.open_seconds}"
            )
        for name in ("failure_rate", "slow_call_rate"):
            if not getattr(self, name) > 0:
                raise InvalidArgumentError(name, getattr(self, name), "a share above 0", hint="0 would refuse all.")
