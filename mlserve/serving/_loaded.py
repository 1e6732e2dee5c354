"""What a request needs of a version, found once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from mlserve.records import ModelVersion
from mlserve.serving._adapters import Adapter
from mlserve.serving._pace import Pace, averaged

OUTLIER = 2.0
"""A call counts as no longer than so many times what is typical: one that had to wait for the interpreter, or for
garbage to be collected, says little of the others. Where calls have become longer for good, what is typical follows, by
a tenth with each."""

LEAST_MS = 0.02
"""As long as this a call counts, whatever is typical."""


class LoadedVersion:
    """A version whose model is in memory, with all that a request needs, found once.

    A request that uses it appends to ``leases`` and pops when done: both are atomic, so no lock is taken.
    """

    __slots__ = (
        "adapter", "average_ms", "breaker", "call", "check", "check_pace", "check_table", "concurrency", "evicting",
        "example", "gate", "has_confidence", "holds", "id", "is_async", "is_proven", "lane", "leases", "pool",
        "size_bytes", "takes_positions", "typical_ms", "validated", "version",
    )  # fmt: skip

    def __init__(
        self, version: ModelVersion, adapter: Adapter, check: Callable[[Any], Any] | None, validated: bool, example: Any
    ) -> None:
        self.version = version
        self.id = version.id
        self.adapter = adapter
        self.call = adapter.call
        self.has_confidence = adapter.has_confidence
        self.is_async = adapter.is_async
        self.check = check
        self.check_pace: Pace | None = None
        """How long a user's own validator takes, where it is one that checks; None where nobody need wait for it."""
        self.check_table: Callable[[Sequence[Any]], Any] | None = None
        """From many inputs to the table that the model is given; answers None where ``check`` must look at each."""
        self.takes_positions = False
        """Whether neither its model nor its check knows names: rows of frames go by position."""
        self.validated = validated
        self.example = example
        self.leases: list[str] = []
        self.evicting = False
        self.average_ms: float | None = None
        """How long a single call takes; a moving average that one long call raises: an event loop may not be held."""
        self.typical_ms: float | None = None
        """The same without outliers: what others have to wait for."""
        self.is_proven = False
        """Whether it has answered an input."""
        self.size_bytes = 0
        """What its model takes in memory, where that is counted."""
        self.holds: list[Any] = []
        """What else uses the model, requests twice while they call it: a call goes on though its caller was told."""
        self.lane: Any = None
        """Its queue, where requests are batched."""
        self.gate: Any = None
        """Its semaphore, where calls at once are limited; batches take it too."""
        self.breaker: Any = None
        """Its circuit breaker, where there is one."""
        self.pool: Any = None
        """Threads for calls of its model that must end in time, or off an event loop."""
        self.concurrency: int | None = None
        """Calls of it at once; None for no limit."""

    def renew(self) -> None:  # pragma: no cover  # runs in the forked child, where nothing measures
        """Nobody uses it, waits for it or holds a lock of it, as in a forked child."""
        # Not cleared: the thread that forked may be in a request, and takes itself off what it was put on.
        self.leases, self.holds = [], []
        self.lane = self.breaker = self.pool = None
        self.limit(self.concurrency)

    @property
    def checks_many(self) -> bool:
        """Whether inputs may be checked together, in nobody's context: no code of a user's checks them."""
        return self.check is None or self.check_table is not None

    def learn(self, took_ms: float) -> None:
        """A single call took so long."""
        average, typical = self.average_ms, self.typical_ms
        if average is None or typical is None:
            self.average_ms = self.typical_ms = took_ms
        else:
            self.average_ms = averaged(average, took_ms)
            self.typical_ms = averaged(typical, min(took_ms, max(OUTLIER * typical, LEAST_MS)))

    def limit(self, concurrency: int | None) -> None:
        """Make so many calls at once the most."""
        self.concurrency = concurrency
        self.gate = None if concurrency is None else threading.Semaphore(concurrency)


@attrs.frozen(eq=False, repr=False)
class Current:
    """The version that answers when none is named, and until when that need not be asked again.

    Attributes:
        loaded: The version.
        generation: The repository's generation when it was found.
        expires: Monotonic seconds.
    """

    loaded: LoadedVersion
    generation: float
    expires: float
