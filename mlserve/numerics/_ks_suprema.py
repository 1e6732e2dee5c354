"""The largest differences of two empirical distribution functions, without looking at most of the values.

Both samples are sorted. The reference is cut at about ``k**(2/3)`` of its values, ``k`` the smaller sample size: the
*probes*. Ranking the probes in the current sample gives the difference there exactly and, both functions being monotone,
a bound on it between two probes. Only blocks whose bound reaches the best probe are looked at value by value. Near its
maximum the difference behaves like a Brownian bridge, which spends little time close to it, so that the blocks that are
left hold about as many values as there are probes.

Differences are the integers ``n*m*(F_reference - F_current)``: nothing is rounded before the one division at the end.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import attrs
import numpy as np
from numpy.typing import NDArray

__all__ = ["Probes", "Suprema", "find_suprema", "has_repeats", "probe_step", "take_probes"]

Values: TypeAlias = NDArray[Any]
Integers: TypeAlias = NDArray[np.int64]
Booleans: TypeAlias = NDArray[np.bool_]

# Probes per k**(2/3). Too few leave much to look at, too many cost their own search; measured flat from 1.5 to 4 at
# sizes from 10 000 x 1 000 to 1 000 000 x 100 000.
_PROBE_DENSITY = 8 / 3
# Values looked at in one go, which bounds the memory where nothing can be pruned (two samples that agree everywhere).
_VALUES_PER_CHUNK = 2**16


@attrs.frozen(eq=False)
class Probes:
    """Cuts of a sorted reference, shape ``(n_features, n_probes)``; short rows repeat their last probe.

    A value that is repeated often gets a second probe just below it: a block then never mixes the jump at such a value
    with what happens before it, and few-valued data need no look at single values at all.

    Attributes:
        values: The probes, ascending.
        ranks: Number of reference values at or below each probe.
        is_open: Whether there may be values strictly between a probe and the next, ``(n_features, n_probes - 1)``.
    """

    values: Values
    ranks: Integers
    is_open: Booleans

    def rows(self, features: slice) -> Probes:
        """The probes of some features."""
        return Probes(self.values[features], self.ranks[features], self.is_open[features])


@attrs.frozen(eq=False)
class Supremum:
    """The supremum of each feature, shape ``(n_features,)`` each.

    Attributes:
        height: n*m*D in the direction asked for, at least 0.
        is_plus: Whether it is one of F_reference - F_current; where both directions tie, it is.
        location: The smallest data value where it is attained; the largest of all where it is 0.
        shared: Whether some value was seen in both samples; not every value is looked at.
    """

    height: Integers
    is_plus: Booleans
    location: Values
    shared: Booleans


def probe_step(n: int, m: int) -> int:
    """Reference values between two probes: a power of two, so that windows of like size share their probes."""
    wanted = n / (_PROBE_DENSITY * min(n, m) ** (2 / 3))
    return 1 << max(0, round(float(np.log2(max(wanted, 1.0)))))


def take_probes(reference: Values, step: int) -> Probes:
    """Cut each feature of a sorted reference, shape ``(n_features, n)``, at every ``step``-th value."""
    n_features, n = reference.shape
    positions = np.unique(np.concatenate(([0], np.arange(step - 1, n, step), [n - 1])))
    cuts = reference[:, positions]
    tied = has_repeats(cuts)
    tied |= (reference[:, np.minimum(positions + 1, n - 1)] == cuts)[:, :-1].any(axis=1)
    tied |= (reference[:, np.maximum(positions - 1, 0)] == cuts)[:, 1:].any(axis=1)
    rows = [
        _tied_cuts(row, row_cuts, step) if is_tied else _distinct_cuts(row_cuts, positions)
        for row, row_cuts, is_tied in zip(reference, cuts, tied.tolist(), strict=True)
    ]
    width = max(row_values.size for row_values, _, _ in rows)
    values = np.empty((n_features, width), dtype=reference.dtype)
    ranks = np.empty((n_features, width), dtype=np.int64)
    is_open = np.zeros((n_features, width - 1), dtype=np.bool_)
    for feature, (row_values, row_ranks, row_open) in enumerate(rows):
        size = row_values.size
        values[feature, :size], values[feature, size:] = row_values, row_values[-1]
        ranks[feature, :size], ranks[feature, size:] = row_ranks, row_ranks[-1]
        is_open[feature, : size - 1] = row_open
    for array in (values, ranks, is_open):
        array.flags.writeable = False
    return Probes(values, ranks, is_open)


def has_repeats(rows: Values) -> Booleans:
    """Whether a sorted row holds a value twice, NaN counting as one value; shape ``(n_rows,)``."""
    if rows.shape[1] < 2:
        return np.zeros(rows.shape[0], dtype=np.bool_)
    repeats: Booleans = (rows[:, 1:] == rows[:, :-1]).any(axis=1)
    return repeats | (rows[:, -2] != rows[:, -2])


def find_supremum(reference: Values, current: Values, probes: Probes, *, greater: bool, less: bool) -> Supremum:
    """The supremum of the difference between two sorted samples of one dtype.

    Args:
        reference: Sorted rows, shape ``(n_features, n)``.
        current: Sorted rows, shape ``(n_features, m)``.
        probes: Of these rows of the reference.
        greater: Whether F_reference - F_current counts.
        less: Whether F_current - F_reference counts.
    """
    (n_features, n), m = reference.shape, current.shape[1]
    counts = np.empty(probes.values.shape, dtype=np.int64)
    for feature in range(n_features):
        counts[feature] = current[feature].searchsorted(probes.values[feature], "right")
    heights, depths = probes.ranks * m, counts * n
    difference = heights - depths
    # A direction that does not count is given a height below any that does.
    plus = difference.max(axis=1) if greater else np.full(n_features, -1)
    minus = -difference.min(axis=1) if less else np.full(n_features, -1)
    # A difference of 0 needs no search: it is found at the largest value.
    threshold = np.maximum(np.maximum(plus, minus), 1)[:, None]
    candidates = np.zeros(probes.is_open.shape, dtype=np.bool_)
    if greater:
        candidates |= heights[:, 1:] - depths[:, :-1] >= threshold
    if less:
        candidates |= depths[:, 1:] - heights[:, :-1] >= threshold
    candidates &= probes.is_open
    features, blocks = np.nonzero(candidates)
    search = _Search(reference, current)
    if features.size:
        search.look_at_blocks(features, blocks, counts, probes.ranks)
        plus = np.maximum(plus, search.plus) if greater else plus
        minus = np.maximum(minus, search.minus) if less else minus
    is_plus = plus >= minus
    height = np.maximum(np.where(is_plus, plus, minus), 0)
    location = _locate_at_probes(reference, current, probes.ranks, counts, np.where(is_plus[:, None], difference, -difference), height)
    location = _lower(location, height, search)
    return Supremum(height, is_plus, location, search.shared)


    def look_at(self, features: Integers, starts: Integers, sizes: Integers, *, in_reference: bool) -> None:
        """Take in the values of one sample at the positions ``starts .. starts + sizes`` of the given features."""
        stops = np.cumsum(sizes)
        total = int(stops[-1]) if stops.size else 0
        offsets = starts - (stops - sizes)
        for first in range(0, total, _VALUES_PER_CHUNK):
            stop = min(first + _VALUES_PER_CHUNK, total)
            numbers = np.arange(first, stop)
            blocks = stops.searchsorted(numbers, "right")
            self._take(features[blocks], numbers + offsets[blocks], in_reference=in_reference)

    def _take(self, features: Integers, positions: Integers, *, in_reference: bool) -> None:
        own, other = (self.reference, self.current) if in_reference else (self.current, self.reference)
        # A jump of one sample is worth the size of the other.
        own_jump, other_jump = other.shape[1], own.shape[1]
        values = own[features, positions]
        bounds = features.searchsorted(np.arange(own.shape[0] + 1))
        present = np.flatnonzero(bounds[:-1] < bounds[1:])
        right = np.empty(values.size, dtype=np.int64)
        for feature in present.tolist():
            piece = slice(bounds[feature], bounds[feature + 1])
            right[piece] = other[feature].searchsorted(values[piece], "right")
        left = self._left_ranks(other, values, features, right, present, bounds)
        # Within a tie group positions understate both differences but for its last and its first member.
        above = (positions + 1) * own_jump - right * other_jump
        below = left * other_jump - positions * own_jump
        pieces = bounds[present]
        tallest, deepest = np.maximum.reduceat(above, pieces), np.maximum.reduceat(below, pieces)

        def at_value(index: Integers) -> Values:
            found: Values = values[index]
            return found

        def before_value(index: Integers) -> Values:
            found: Values = other[features[index], np.maximum(left[index] - 1, 0)]
            return found

        best, location = (self.plus, self.plus_location) if in_reference else (self.minus, self.minus_location)
        self._improve(best, location, present, pieces, tallest, above, at_value)
        best, location = (self.minus, self.minus_location) if in_reference else (self.plus, self.plus_location)
        self._improve(best, location, present, pieces, deepest, below, before_value)

    def _left_ranks(
        self, other: Values, values: Values, features: Integers, right: Integers, present: Integers, bounds: Integers
    ) -> Integers:
        """Left ranks, which differ from right ones only where the other sample holds the very value."""
        neighbours = other[features, np.maximum(right - 1, 0)]
        same = neighbours == values
        if values.dtype.kind == "f":
            same |= (neighbours != neighbours) & (values != values)
        same &= right > 0
        if not same.any():
            return right
        left = right.copy()
        tied = np.logical_or.reduceat(same, bounds[present])
        for feature in present[tied].tolist():
            piece = slice(bounds[feature], bounds[feature + 1])
            left[piece] = other[feature].searchsorted(values[piece], "left")
        self.shared[present[tied]] = True
        return left

    def _improve(
        self,
        best: Integers,
        location: Values,
        present: Integers,
        pieces: Integers,
        found: Integers,
        candidates: Integers,
        locate: Any,
    ) -> None:
        relevant = (found >= best[present]) & (found > 0)
        if not relevant.any():
            return
        lengths = np.diff(pieces, append=candidates.size)
        hits = np.flatnonzero(candidates == np.repeat(np.where(relevant, found, np.iinfo(np.int64).min), lengths))
        # The first hit of each piece: values ascend, so that it is the smallest place.
        hits = hits[hits.searchsorted(pieces[relevant])]
        rows = present[relevant]
        places = locate(hits)
        better = (found[relevant] > best[rows]) | _above(location[rows], places)
        best[rows[better]] = found[relevant][better]
        location[rows[better]] = places[better]

    def place_zeros(self) -> None:
        """A supremum of 0 is attained at the largest value of all, where both functions are 1."""
        tops = (self.reference[:, -1], self.current[:, -1])
        largest = np.where(_above(tops[1], tops[0]), tops[1], tops[0])
        for best, location in ((self.plus, self.plus_location), (self.minus, self.minus_location)):
            location[best == 0] = largest[best == 0]


def _above(left: Values, right: Values) -> Booleans:
    """left > right in the order in which NaN is above everything."""
    if left.dtype.kind != "f":
        return np.asarray(left > right)
    return np.asarray((left > right) | ((left != left) & (right == right)))


def _distinct_cuts(cuts: Values, positions: Integers) -> tuple[Values, Integers, Booleans]:
    """The probes of a feature in which no cut is repeated."""
    below = _just_below(cuts[:1])
    lowest = below[below < cuts[:1]] if cuts[0] == cuts[0] else below
    values = np.concatenate((lowest, cuts))
    ranks = np.concatenate((np.zeros(lowest.size, dtype=np.int64), positions + 1))
    is_open = np.ones(values.size - 1, dtype=np.bool_)
    # Nothing lies between the smallest value and its neighbour below.
    is_open[: lowest.size] = False
    return values, ranks, is_open


def _tied_cuts(row: Values, cuts: Values, step: int) -> tuple[Values, Integers, Booleans]:
    """The probes of a feature with repeated values: those as heavy as half a block get a probe below."""
    distinct = np.unique(cuts)
    right, left = row.searchsorted(distinct, "right"), row.searchsorted(distinct, "left")
    heavy = right - left >= max(2, step // 2)
    heavy[0] = True
    below = _just_below(distinct[heavy])
    exists = (below < distinct[heavy]) | (distinct[heavy] != distinct[heavy])
    below, below_ranks = below[exists], left[heavy][exists]
    values, ranks = np.concatenate((below, distinct)), np.concatenate((below_ranks, right))
    order = np.argsort(values, kind="stable")
    values, ranks, is_below = values[order], ranks[order], order < below.size
    # Where the value just below another is itself a cut, both have the same rank and one is enough.
    keep = np.concatenate(([True], values[1:] != values[:-1]))
    return values[keep], ranks[keep], ~is_below[keep][:-1]


def _just_below(values: Values) -> Values:
    """The next smaller number of the dtype: +inf below NaN, the value itself where there is none."""
    if values.dtype.kind == "f":
        with np.errstate(all="ignore"):
            neighbours: Values = np.nextafter(values, -np.inf)
        neighbours[values != values] = np.inf
        return neighbours
    return np.where(values > np.iinfo(values.dtype).min, values - values.dtype.type(1), values)
