"""Requests that were folded together, as columns, and the ring of recent ones."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import attrs
import numpy as np
import numpy.typing as npt

from mlserve._buckets import MICROSECOND
from mlserve.monitors._columns import NOTHING_RARE, RequestColumns
from mlserve.monitors._kept import NO_INPUTS
from mlserve.records import EventPage, FailureEvent, OutcomeEvent, PredictionEvent

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_MOMENT, LAST_MOMENT = (
    (moment.replace(tzinfo=UTC) - EPOCH) // MICROSECOND for moment in (datetime.min, datetime.max)
)
"""What a datetime can tell, in microseconds since 1970."""

NOT_HERE = -1
"""The sequence number of a prediction that another monitor counted."""


class Waiting(NamedTuple):
    """What is kept of a prediction until its true value comes; nothing of the others it was folded with."""

    sequence: int
    version_id: str
    output: Any
    time: int
    arm: str | None
    key: str | None

    def outcome(self, prediction_id: str, actual: Any, seconds: float) -> OutcomeEvent:
        """The event of its true value, which came at so many seconds since 1970."""
        return OutcomeEvent(
            prediction_id,
            self.version_id,
            self.output,
            actual,
            to_datetime(self.time),
            to_datetime(round(seconds * 1e6)),
            self.arm,
            self.key,
        )


@attrs.frozen(eq=False, repr=False)
class RequestBlock:
    """Requests that were folded together. No object is kept for a row but its input and, mostly, its output.

    Attributes:
        columns: The requests.
        first_sequence: Sequence number of the first row among the recent requests.
        times: When, microseconds since 1970.
        sequences: Sequence number of each row, where they do not simply follow the first.
    """

    columns: RequestColumns
    first_sequence: int
    times: npt.NDArray[np.int64]
    sequences: Sequence[int] | None = None

    def __len__(self) -> int:
        return self.times.size

    @property
    def ids(self) -> Sequence[str]:
        """Prediction ids."""
        return self.columns.ids

    def sequence(self, row: int) -> int:
        """Sequence number of a row."""
        return self.first_sequence + row if self.sequences is None else self.sequences[row]

    def only(self, rows: Sequence[int]) -> RequestBlock:
        """Some of the rows."""
        sequences = [self.sequence(row) for row in rows]
        return RequestBlock(self.columns.only(rows), self.first_sequence, self.times[rows], sequences)

    def without_inputs(self) -> RequestBlock:
        """The same, but that it keeps no inputs in memory."""
        return attrs.evolve(self, columns=attrs.evolve(self.columns, inputs=NO_INPUTS))

    def events(self, first: int, stop: int) -> list[PredictionEvent | FailureEvent]:
        """Rows as events."""
        ids = self.ids[first:stop]
        return [self._event(prediction_id, row) for row, prediction_id in enumerate(ids, first)]

    def _event(self, prediction_id: str, row: int) -> PredictionEvent | FailureEvent:
        columns = self.columns
        rare = columns.rare[row]
        arm, key, kind = NOTHING_RARE if rare is None else rare
        confidence = float(columns.confidence[row])
        version_id, latency_ms = columns.version_ids[row], float(columns.latency[row])
        input = columns.inputs.get(row)
        timestamp = to_datetime(self.times[row])
        if kind is not None:
            return FailureEvent(prediction_id, version_id, input, kind, latency_ms, timestamp, arm, key)
        return PredictionEvent(
            prediction_id,
            str(version_id),
            input,
            columns.outputs[row],
            latency_ms,
            timestamp,
            None if math.isnan(confidence) else confidence,
            arm,
            key,
        )

    def waiting(self, first: int) -> Iterator[Waiting]:
        """What is to be kept of each row from the first given one on, until its true value comes."""
        columns = self.columns
        for row, (version_id, output, time, rare) in enumerate(
            zip(
                columns.version_ids[first:],
                columns.outputs[first:],
                self.times[first:].tolist(),
                columns.rare[first:],
                strict=True,
            ),
            first,
        ):
            arm, key, _ = rare or NOTHING_RARE
            yield Waiting(self.sequence(row), str(version_id), output, time, arm, key)


class EventRing:
    """The last requests and outcomes, in the order in which they were folded.

    *Thread safety*: none; the owner locks.

    Args:
        capacity: Events that can still be read, at most.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: deque[RequestBlock | tuple[OutcomeEvent]] = deque()
        self._held = 0
        self.count: int = 0
        """Events ever taken in."""

    def append(self, item: RequestBlock | tuple[OutcomeEvent]) -> None:
        """Take in a block, or an outcome alone in a tuple."""
        self._items.append(item)
        self.count += len(item)
        self._held += len(item)
        while self._held - len(self._items[0]) >= self._capacity:
            self._held -= len(self._items.popleft())

    @property
    def first(self) -> int:
        """Number of the oldest event that can still be read."""
        return max(self.count - self._held, self.count - self._capacity)

    def page(self, after: int, limit: int | None) -> EventPage:
        """The events that follow those a reader has seen."""
        first = max(self.first, min(after, self.count))
        stop = self.count if limit is None else min(first + limit, self.count)
        return EventPage(
            events=tuple(self.between(first, stop)), cursor=max(after, stop), missed=max(0, self.first - after)
        )

    def between(self, first: int, stop: int) -> list[PredictionEvent | FailureEvent | OutcomeEvent]:
        """Events by number."""
        events: list[PredictionEvent | FailureEvent | OutcomeEvent] = []
        number = self.count - self._held
        for item in self._items:
            begin, end = max(first - number, 0), min(stop - number, len(item))
            if begin < end:
                events += item.events(begin, end) if isinstance(item, RequestBlock) else item
            number += len(item)
        return events


def to_datetime(microseconds: int | np.int64) -> datetime:
    """A moment as the API gives it."""
    return EPOCH + timedelta(microseconds=int(microseconds))
