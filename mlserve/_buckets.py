"""A ring of time buckets over any summary that adds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Generic, Protocol, TypeVar

import attrs
import numpy as np
import numpy.typing as npt

from mlserve.errors import InvalidArgumentError

__all__ = ["MICROSECOND", "Addable", "BucketRing", "Resolution", "microseconds"]

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
        self._levels: list[tuple[int, int, dict[int, T]]] = [
            (microseconds(resolution.width), microseconds(resolution.retention), {}) for resolution in resolutions
        ]

    def __len__(self) -> int:
        return sum(len(buckets) for _, _, buckets in self._levels)

    def add(self, moments: npt.NDArray[np.int64], summarise: Callable[[npt.NDArray[np.intp]], T], now: int) -> None:
        """Add what happened at some moments.

        Args:
            moments: Microseconds since 1970, shape ``(n,)``, in any order.
            summarise: Called with positions in ``moments`` that share a bucket; gives their summary.
            now: Microseconds since 1970: what lies before a resolution's retention is not added to it.
        """
        for width, retention, buckets in self._levels:
            kept = np.flatnonzero(moments > now - retention)
            if not kept.size:
                continue
            indices = -(-moments[kept] // width)
            if (np.diff(indices) < 0).any():
                order = np.argsort(indices, kind="stable")
                kept, indices = kept[order], indices[order]
            starts = np.flatnonzero(np.diff(indices, prepend=indices[0] - 1))
            for index, group in zip(indices[starts].tolist(), np.split(kept, starts[1:]), strict=True):
                summary = summarise(group)
                known = buckets.get(index)
                buckets[index] = summary if known is None else known + summary

    def expire(self, now: int) -> None:
        """Forget what lies before the retention. ``now``: microseconds since 1970."""
        for width, retention, buckets in self._levels:
            oldest = (now - retention) // width
            for index in [index for index in buckets if index < oldest]:
                del buckets[index]

    def since(self, start: int, now: int) -> list[T]:
        """The summaries of what happened after a moment, from the finest resolution that still reaches back to it.

        Args:
            start: Microseconds since 1970, rounded down to where a bucket begins.
            now: Microseconds since 1970.

        Returns:
            Summaries in no particular order.
        """
        reaching = (level for level in self._levels if start >= now - level[1])
        width, _, buckets = next(reaching, self._levels[-1])
        first, last = start // width + 1, -(-now // width)
        return [summary for index, summary in buckets.items() if first <= index <= last]
