"""How many values of a sample too big for memory fall at, and between, the values of another one: counts that add."""

from __future__ import annotations

from collections import Counter
from typing import Any, final

import numpy as np
import numpy.typing as npt

from mlserve.drift._evidence import OrderedSample, count_present, ordered_sample, quantile_ranks

EXACT_INTEGER_LIMIT = 2**53
"""Smaller integers are exact in float64, and compared with any other number exactly (IEEE 754: 53 bits)."""

LARGEST_PRODUCT = 2**62
"""Sums and differences of products up to here fit 64 bits."""


@final
class ValueGrid:
    """The distinct values of a sample that is held, and how many values given in chunks fall at and between them.

    Between two neighbouring values the held sample's distribution function is constant and the other one's does not
    fall, so that their largest difference is found at, or just below, a held value: these counts give the Kolmogorov-
    Smirnov distance exactly, however many values there are. A missing value lies above every other.

    Memory is three times that of the held values as 64-bit numbers, four times where many of them are tied; reading a
    result takes five times that for the moment.

    Not thread-safe.

    Args:
        held: The sample that is held, shape ``(n,)``, NaN where missing. Kept as float64 where that is exact.

    Attributes:
        held: What is told of that sample.
        missing: Missing values in chunks.
        dtype: Of the numbers that are compared: float64, or integers where held ones are beyond 2**53.
    """

    def __init__(self, held: npt.NDArray[Any]) -> None:
        ordered = np.sort(held if _needs_integers(held) else held.astype(np.float64, copy=False))
        self.held: OrderedSample = ordered_sample(ordered)
        self.missing = 0
        present = ordered[: count_present(ordered)]
        is_last = np.concatenate((present[1:] != present[:-1], np.ones(min(1, present.size), np.bool_)))
        self._has_ties = not bool(is_last.all())
        self._values = present[is_last] if self._has_ties else present
        # How many held values lie at or below each; their own number where none are tied.
        self._ranks = np.flatnonzero(is_last) + 1 if self._has_ties else None
        # Below the first, at it, between it and the second, at that one, ...
        self._counts = np.zeros(2 * self._values.size + 1, np.int64)
        self._ends: tuple[Any, ...] = ()

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._values.dtype

    @property
    def present(self) -> int:
        """Values in chunks that are not missing."""
        return int(self._counts.sum())

    @property
    def has_ties(self) -> bool:
        """Whether a value was seen twice: among the held ones, in one chunk, or in both samples."""
        return self._has_ties or self.held.missing + self.missing > 1 or bool(self._counts[1::2].any())

    def held_counts(self) -> Counter[Any]:
        """How often each held value occurs; for integers, without missing ones."""
        counts = np.ones(self._values.size, np.int64) if self._ranks is None else np.diff(self._ranks, prepend=0)
        return Counter({int(value): count for value, count in zip(self._values.tolist(), counts.tolist(), strict=True)})

    def add(self, values: npt.NDArray[Any]) -> None:
        """Count the values of a chunk, shape ``(m,)``, of a dtype that ``dtype`` can hold, not all of them missing."""
        ordered = np.sort(values).astype(self.dtype, copy=False)
        present = ordered[: count_present(ordered)]
        self.missing += ordered.size - present.size
        self._ends = _outermost(self._ends, present)
        self._has_ties = self._has_ties or bool((present[1:] == present[:-1]).any())
        values = self._values
        if present.size < values.size:
            below = values.searchsorted(present)
            places = 2 * below + (values[np.minimum(below, values.size - 1)] == present)
            starts = np.flatnonzero(np.concatenate(([True], places[1:] != places[:-1])))
            self._counts[places[starts]] += np.diff(starts, append=places.size)
            return
        below = present.searchsorted(values)
        at = np.flatnonzero(present[np.minimum(below, present.size - 1)] == values)
        edges = np.zeros(self._counts.size + 1, np.int64)
        edges[1:-1:2] = edges[2:-1:2] = below
        edges[2 * at + 2] = present.searchsorted(values[at], "right")
        edges[-1] = present.size
        self._counts += np.diff(edges)

    def supremum(self) -> tuple[float, float]:
        """The largest values of F_held - F_chunks and of F_chunks - F_held, each at least 0; both samples have rows."""
        held_present, chunks_present = self.held.size - self.held.missing, self.present
        n, m = self.held.size, chunks_present + self.missing
        ranks = np.arange(self._values.size + 1) if self._ranks is None else np.concatenate(([0], self._ranks))
        counts = self._counts.cumsum()
        # Exact where the products fit 64 bits, else to the last bits of a float64.
        wide = np.int64 if n * m <= LARGEST_PRODUCT else np.float64
        # Just below the missing values, just below every held one, and at it.
        heights = [held_present * m - chunks_present * n]
        for held, chunks in ((ranks[:-1], counts[:-1:2]), (ranks[1:], counts[1::2])):
            difference: npt.NDArray[Any] = held.astype(wide) * wide(m)
            difference -= chunks.astype(wide) * wide(n)
            heights += [difference.max(initial=0).item(), difference.min(initial=0).item()]
        return max(0, *heights) / (n * m), max(0, -min(heights)) / (n * m)

    def chunks(self, sample: npt.NDArray[np.float64]) -> OrderedSample:
        """What is told of the values in chunks.

        Args:
            sample: A uniform sample of them, NaN where missing: a guess at each quantile, which the counts correct.
        """
        present = self.present
        if not present:
            return OrderedSample(self.missing, self.missing, (), ())
        lowest, highest = (float(end) for end in self._ends)
        places = self._counts.cumsum().searchsorted(quantile_ranks(present), "right")
        bounds = np.concatenate(([lowest], self._values, [highest])).astype(np.float64)
        lower, upper = (np.clip(bounds[at], lowest, highest) for at in ((places + 1) // 2, places // 2 + 1))
        ordered = np.sort(sample)
        ordered = ordered[: count_present(ordered)]
        # Though some values are not missing, those of the sample may be.
        shown = np.clip(ordered[quantile_ranks(ordered.size)], lower, upper) if ordered.size else lower
        shown[0], shown[-1] = lowest, highest
        return OrderedSample(present + self.missing, self.missing, self._ends, tuple(shown.tolist()))


def _needs_integers(values: npt.NDArray[Any]) -> bool:
    return (
        values.dtype.kind in "iu"
        and values.size > 0
        and not -EXACT_INTEGER_LIMIT < int(values.min()) <= int(values.max()) < EXACT_INTEGER_LIMIT
    )


def _outermost(ends: tuple[Any, ...], present: npt.NDArray[Any]) -> tuple[Any, ...]:
    return (min((present[0], *ends[:1])), max((present[-1], *ends[1:])))
