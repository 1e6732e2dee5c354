"""Baselines and drift events, of this process and of all others."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, final

import attrs

from mlserve._buckets import MICROSECOND
from mlserve.integrations._sql_documents import from_document, key_of, to_document
from mlserve.integrations._sql_store import BaselineHead
from mlserve.monitors import InMemoryModelMonitor
from mlserve.monitors._blocks import EPOCH
from mlserve.records import InputSample, ModelMetrics, PredictionSample

if TYPE_CHECKING:
    from mlserve.records import DriftEvent

MOST_DRIFT_EVENTS = 10_000
"""Drift events that are kept, of this process, of others, and in the database."""

PARTS = {"metrics": ModelMetrics, "inputs": InputSample, "predictions": PredictionSample}
"""What a baseline is made of, each set and stored alone."""


@attrs.frozen(eq=False)
class StoredBaseline:
    """One part of the baseline of one version.

    Attributes:
        head: What it is stored under.
        version_id: The version.
        value: A record of the type that belongs to the part.
    """

    head: BaselineHead
    version_id: str
    value: Any

    def to_bytes(self) -> bytes:
        """Its payload."""
        return to_document({"version": self.version_id, "value": self.value})

    @classmethod
    def from_bytes(cls, head: BaselineHead, payload: bytes) -> StoredBaseline:
        """From its payload.

        Raises:
            ValueError: It is none, or not of that part; so do other errors of decoding.
        """
        document = from_document(payload)
        version_id, value = document["version"], document["value"]
        if not isinstance(value, PARTS[head.part]) or key_of(version_id) != head.version_key:
            raise ValueError(f"no {head.part} of version {version_id!r}")
        return cls(head, version_id, value)

    def set_in(self, monitor: InMemoryModelMonitor) -> None:
        """Make it the baseline of a monitor."""
        if self.head.part == "metrics":
            monitor.set_baseline(self.version_id, metrics=self.value)
        elif self.head.part == "inputs":
            monitor.set_baseline(self.version_id, inputs=self.value)
        else:
            monitor.set_baseline_predictions(self.version_id, self.value)


@final
class Baselines:
    """The newest baseline of every version and part, whoever set it; those of a monitor are kept the same.

    *Thread safety*: yes.

    Args:
        monitor: The monitor.
        source: Who sets baselines here.
    """

    def __init__(self, monitor: InMemoryModelMonitor, source: str) -> None:
        self._monitor = monitor
        self._source = source
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], StoredBaseline] = {}
        self._unsaved: dict[tuple[str, str], StoredBaseline] = {}

    def set(self, version_id: str, part: str, value: Any, now: int) -> None:
        """A baseline was set here, now, in microseconds since 1970.

        Raises:
            InvalidArgumentError: It is nothing that can be a baseline.
        """
        place = key_of(str(version_id)), part
        with self._lock:
            known = self._known.get(place)
            # What is set here replaces what is known here, also where another machine's clock is ahead.
            set_at = now if known is None else max(now, known.head.set_at + 1)
            baseline = StoredBaseline(BaselineHead(*place, set_at, self._source), version_id, value)
            baseline.set_in(self._monitor)
            self._known[place] = self._unsaved[place] = baseline

    def learn(self, baseline: StoredBaseline) -> None:
        """A baseline was read; it counts if it is newer than what is known.

        Raises:
            InvalidArgumentError: It is nothing that can be a baseline.
        """
        place = baseline.head.version_key, baseline.head.part
        with self._lock:
            if self._is_news(baseline.head):
                baseline.set_in(self._monitor)
                self._known[place] = baseline
                self._unsaved.pop(place, None)

    def news(self, heads: Iterable[BaselineHead]) -> list[BaselineHead]:
        """Those of the stored baselines that are newer than what is known."""
        with self._lock:
            return [head for head in heads if self._is_news(head)]

    def unsaved(self) -> list[StoredBaseline]:
        """Those that are to be stored."""
        with self._lock:
            return list(self._unsaved.values())

    def saved(self, baselines: Iterable[StoredBaseline]) -> None:
        """These were stored, or never can be."""
        with self._lock:
            for baseline in baselines:
                place = baseline.head.version_key, baseline.head.part
                if self._unsaved.get(place) is baseline:
                    del self._unsaved[place]

    def lost(self) -> None:
        """The database may have forgotten all of them."""
        with self._lock:
            self._unsaved = dict(self._known)

    def hand_on(self, child: Baselines) -> None:  # pragma: no cover  # runs in the forked child; tested there
        """Make those known here known to a forked child."""
        # Without the lock: another thread may have held it at the fork, and would for ever.
        for baseline in self._known.values():
            child.learn(baseline)

    def _is_news(self, head: BaselineHead) -> bool:
        known = self._known.get((head.version_key, head.part))
        return known is None or head.age > known.head.age


@final
class DriftLog:
    """Drifts found here, numbered for the log, and drifts that others found.

    *Thread safety*: yes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._own: deque[tuple[int, DriftEvent]] = deque(maxlen=MOST_DRIFT_EVENTS)
        self._others: deque[DriftEvent] = deque(maxlen=MOST_DRIFT_EVENTS)
        self._stored_until = 0
        self._count = 0
        self.dropped = 0
        """Events that were given up before they were stored, because too many waited."""

    def record(self, event: DriftEvent) -> None:
        """A drift was found here."""
        with self._lock:
            self._count += 1
            if len(self._own) == self._own.maxlen and self._own[0][0] > self._stored_until:
                self.dropped += 1
            self._own.append((self._count, event))

    def learn(self, event: DriftEvent) -> None:
        """A drift of another process was read."""
        with self._lock:
            self._others.append(event)

    @property
    def stored_until(self) -> int:
        """Number of the last own event that is stored."""
        return self._stored_until

    def unsaved(self) -> list[tuple[int, DriftEvent]]:
        """Own events that are to be stored."""
        with self._lock:
            return [numbered for numbered in self._own if numbered[0] > self._stored_until]

    def saved(self, until: int) -> None:
        """Own events up to a number were stored, or never can be."""
        self._stored_until = until

    def lost(self) -> None:
        """The database may have forgotten all of them."""
        self._stored_until = 0

    def events(self, version_id: str | None) -> Sequence[DriftEvent]:
        """All events, oldest first; of one version, or of all."""
        with self._lock:
            events = [*self._others, *(event for _, event in self._own)]
        chosen = (event for event in events if version_id in (None, event.model_version))
        return sorted(chosen, key=lambda event: event.detected_at)


def moment_of(event: DriftEvent) -> int:
    """When it was found, microseconds since 1970."""
    return (event.detected_at - EPOCH) // MICROSECOND
