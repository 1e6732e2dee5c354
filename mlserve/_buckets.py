"""A ring of time buckets over any summary that adds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, Generic, Protocol, TypeVar

import attrs
import numpy as np
import numpy.typing as npt

from mlserve.errors import InvalidArgumentError

__all__ = ["MICROSECOND", "Addable", "BucketRing", "Level", "Resolution", "microseconds"]

MICROSECOND = timedelta(microseconds=1)


def microseconds(span: timedelta) -> int:
    """A span as a whole number of microseconds, exactly."""
    return span // MICROSECOND


class Addable(Protocol):
    """A summary of which two can be added, in any order, without loss."""

    def __add__(self, other: Any, /) -> Any: ...


T = TypeVar("T", bound=Addable)


@attrs.frozen
class Resolution:
    """How finely the past is kept, and how long.

    Attributes:
        width: Length of one bucket; positive.
        retention: How far back this resolution reaches; at least one bucket.
    """

    width: timedelta
    retention: timedelta

    def __attrs_post_init__(self) -> None:
        if self.width <= timedelta(0):
            raise InvalidArgumentError("width", self.width, "a positive timedelta")
        if self.retention < self.width:
            raise InvalidArgumentError("retention", self.retention, f"at least the width, {self.width}")


class Level(Generic[T]):
    """The buckets of one resolution.

    Attributes:
        width: Microseconds.
        retention: Microseconds.
        buckets: Summaries by bucket: k holds the span (k·width − width, k·width].
        changed: For each bucket the number of the latest change of what belongs to it, also of what is kept elsewhere.
    """

    def __init__(self, resolution: Resolution) -> None:
        self.width = microseconds(resolution.width)
        self.retention = microseconds(resolution.retention)
        self.buckets: dict[int, T] = {}
        self.changed: dict[int, int] = {}

    def index(self, moment: int) -> int:
        """The bucket that a moment belongs to."""
        return -(-moment // self.width)

    def groups(self, moments: npt.NDArray[np.int64]) -> Iterator[tuple[int, npt.NDArray[np.intp]]]:
        """The buckets of some moments, at least one, with the positions of those that share it."""
        indices = -(-moments // self.width)
        order = np.arange(indices.size)
        if (np.diff(indices) < 0).any():
            order = np.argsort(indices, kind="stable")
            indices = indices[order]
        starts = np.flatnonzero(np.diff(indices, prepend=indices[0] - 1))
        yield from zip(indices[starts].tolist(), np.split(order, starts[1:]), strict=True)


class BucketRing(Generic[T]):
    """Summaries by time, at several resolutions at once.

    A bucket holds a span (k·width − width, k·width], open on the left like the windows that are asked for, so that
    a window that begins and ends with buckets is answered exactly. Memory is bounded by the number of buckets,
    whatever the traffic.

    *Thread safety*: none; the owner locks.

    Args:
        resolutions: From the finest to the coarsest, each reaching further back than the one before.

    Raises:
        InvalidArgumentError: None given, or not in that order.
    """

    def __init__(self, resolutions: Sequence[Resolution]) -> None:
        reaches = [resolution.retention for resolution in resolutions]
        if not reaches or reaches != sorted(set(reaches)):
            raise InvalidArgumentError(
                "resolutions", tuple(resolutions), "at least one, each reaching further back than the one before"
            )
        self.levels: tuple[Level[T], ...] = tuple(Level(resolution) for resolution in resolutions)

    def __len__(self) -> int:
        return sum(len(level.buckets) for level in self.levels)

    def add(self, moments: npt.NDArray[np.int64], summarise: Callable[[npt.NDArray[np.intp]], T], now: int) -> None:
        """Add what happened at some moments.

        Args:
            moments: Microseconds since 1970, shape ``(n,)``, in any order.
            summarise: Called with positions in ``moments`` that share a bucket; gives their summary.
            now: Microseconds since 1970: what lies before a resolution's retention is not added to it.
        """
        for level in self.levels:
            kept = np.flatnonzero(moments > now - level.retention)
            if not kept.size:
                continue
            for index, group in level.groups(moments[kept]):
                summary = summarise(kept[group])
                known = level.buckets.get(index)
                level.buckets[index] = summary if known is None else known + summary

    def touch(self, moments: npt.NDArray[np.int64], change: int) -> None:
        """Note that what happened at some moments, at least one, is new or changed; numbers of changes rise."""
        earliest, latest = int(moments.min()), int(moments.max())
        for level in self.levels:
            width, changed = level.width, level.changed
            first, last = -(-earliest // width), -(-latest // width)
            # Nearly always a block lies in one bucket, or in two.
            changed[first] = changed[last] = change
            if last - first > 1:
                changed.update(dict.fromkeys((-(-moments // width)).tolist(), change))

    def expire(self, now: int) -> None:
        """Forget what lies before the retention. ``now``: microseconds since 1970."""
        for level in self.levels:
            oldest = (now - level.retention) // level.width
            for known in (level.buckets, level.changed):
                for index in [index for index in known if index < oldest]:
                    del known[index]

    def reaching(self, start: int, now: int) -> Level[T]:
        """The finest resolution that still reaches back to a moment."""
        return next((level for level in self.levels if start >= now - level.retention), self.levels[-1])

    def since(self, start: int, now: int, until: int | None = None) -> list[T]:
        """The summaries of what happened in a span, from the finest resolution that still reaches back to it.

        Args:
            start: Microseconds since 1970, rounded down to where a bucket begins.
            now: Microseconds since 1970.
            until: None for all up to now; else the latest end of a bucket that is wanted.

        Returns:
            Summaries in no particular order.
        """
        level = self.reaching(start, now)
        first = start // level.width + 1
        last = level.index(now) if until is None else until // level.width
        return [summary for index, summary in level.buckets.items() if first <= index <= last]
