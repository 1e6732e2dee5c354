"""The largest differences of two empirical distribution functions, without looking at most of the values.

Both samples are sorted. The reference is cut at about ``2 * k**(2/3)`` of its values, ``k`` the smaller sample size:
the *probes*. Ranking the probes in the current sample gives the difference there exactly and, both functions being
monotone, a bound on it between two probes. Only blocks whose bound reaches the best probe are looked at value by value.
The difference behaves like a Brownian bridge, which spends little time close to its maximum, so that the blocks that
are left hold about as many values as there are probes.

Differences are the integers ``n*m*(F_reference - F_current)``: nothing is rounded before the one division at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import attrs
import numpy as np
from numpy.typing import NDArray

__all__ = ["Probes", "Supremum", "find_supremum", "has_repeats", "probe_step", "take_probes"]

Values: TypeAlias = NDArray[Any]
Integers: TypeAlias = NDArray[np.int64]
Booleans: TypeAlias = NDArray[np.bool_]

# Probes per k**(2/3). Too few leave much to look at, too many cost their own search; the sum of both was measured to be
# smallest between 1.7 and 2.3 at sizes from 10 000 x 1 000 to 1 000 000 x 100 000.
_PROBE_DENSITY = 2.0
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
    """Reference values between two probes: a power of the root of two, so that windows of like size share probes."""
    wanted = max(n / (_PROBE_DENSITY * min(n, m) ** (2 / 3)), 1.0)
    return round(math.exp2(round(2.0 * math.log2(wanted)) / 2.0))


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
    return np.asarray(np.any(rows[:, 1:] == rows[:, :-1], axis=1) | (rows[:, -2] != rows[:, -2]))


def find_supremum(
    reference: Values, current: Values, probes: Probes, *, greater: bool, less: bool, look_for_shared: bool = False
) -> Supremum:
    """The supremum of the difference between two sorted samples of one dtype.

    Args:
        reference: Sorted rows, shape ``(n_features, n)``.
        current: Sorted rows, shape ``(n_features, m)``.
        probes: Of these rows of the reference.
        greater: Whether F_reference - F_current counts.
        less: Whether F_current - F_reference counts.
        look_for_shared: Whether to look for the probes among the current values.
    """
    (n_features, n), m = reference.shape, current.shape[1]
    counts = np.empty(probes.values.shape, dtype=np.int64)
    for feature in range(n_features):
        counts[feature] = current[feature].searchsorted(probes.values[feature], "right")
    heights, depths = probes.ranks * m, counts * n
    difference = heights - depths
    # A direction that does not count is given a height below any that does.
    plus = np.maximum(difference.max(axis=1), 0) if greater else np.full(n_features, -1)
    minus = np.maximum(-difference.min(axis=1), 0) if less else np.full(n_features, -1)
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
    place = _place_of_probe(reference, current, probes.ranks, counts, difference, is_plus)
    location = _smallest_place(place, search, height, is_plus)
    zeros = height == 0
    if zeros.any():
        location[zeros] = _larger(reference[zeros, -1], current[zeros, -1])
    shared = search.shared
    if look_for_shared:
        shared = shared | _shares_probes(current, probes, counts)
    return Supremum(height, is_plus, location, shared)


def _shares_probes(current: Values, probes: Probes, counts: Integers) -> Booleans:
    rows = np.arange(current.shape[0])[:, None]
    # The first probe lies below every reference value.
    return np.asarray(np.any(_same(current[rows, np.maximum(counts - 1, 0)], probes.values)[:, 1:], axis=1))


@attrs.frozen(eq=False)
class _Place:
    """The best difference found in one way, and the smallest place of it, for each feature."""

    height: Integers
    location: Values


def _place_of_probe(
    reference: Values, current: Values, ranks: Integers, counts: Integers, difference: Integers, is_plus: Booleans
) -> _Place:
    oriented = np.where(is_plus[:, None], difference, -difference)
    rows = np.arange(ranks.shape[0])
    best = oriented.argmax(axis=1)
    # The difference has not changed since the last data value at or below the probe.
    rank, count = ranks[rows, best], counts[rows, best]
    from_reference = reference[rows, np.maximum(rank - 1, 0)]
    from_current = current[rows, np.maximum(count - 1, 0)]
    use_reference = (count == 0) | ((rank > 0) & ~_above(from_current, from_reference))
    return _Place(oriented[rows, best], np.where(use_reference, from_reference, from_current))


def _smallest_place(probe: _Place, search: _Search, height: Integers, is_plus: Booleans) -> Values:
    found = np.where(is_plus, search.plus, search.minus)
    if not (found == height).any():
        return probe.location
    location = np.where(is_plus, search.plus_location, search.minus_location)
    take_probe = (probe.height == height) & ((found < height) | _above(location, probe.location))
    return np.where(take_probe, probe.location, location)


class _Search:
    """What was found by looking at single values. Lives for one call of ``find_supremum``."""

    def __init__(self, reference: Values, current: Values) -> None:
        n_features = reference.shape[0]
        self.reference = reference
        self.current = current
        self.plus = np.full(n_features, -1)
        self.minus = np.full(n_features, -1)
        self.plus_location = np.zeros(n_features, dtype=reference.dtype)
        self.minus_location = np.zeros(n_features, dtype=reference.dtype)
        self.shared = np.zeros(n_features, dtype=np.bool_)

    def look_at_blocks(self, features: Integers, blocks: Integers, counts: Integers, ranks: Integers) -> None:
        """Look at the values after the given probes, up to the next one.

        Either sample's values will do, the fewer are taken: an extremum is at a jump of one and just before a jump of
        the other.
        """
        starts = [edges[features, blocks] for edges in (counts, ranks)]
        sizes = [edges[features, blocks + 1] - start for edges, start in zip((counts, ranks), starts, strict=True)]
        in_reference = bool(sizes[0].sum() > sizes[1].sum())
        start, size = starts[in_reference], sizes[in_reference]
        stops = np.cumsum(size)
        offsets = start - (stops - size)
        for first in range(0, int(stops[-1]), _VALUES_PER_CHUNK):
            numbers = np.arange(first, min(first + _VALUES_PER_CHUNK, int(stops[-1])))
            owners = stops.searchsorted(numbers, "right")
            self._look_at(features[owners], numbers + offsets[owners], in_reference=in_reference)

    def _look_at(self, features: Integers, positions: Integers, *, in_reference: bool) -> None:
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

        def at_value(index: Integers) -> Values:
            found: Values = values[index]
            return found

        def before_value(index: Integers) -> Values:
            found: Values = other[features[index], np.maximum(left[index] - 1, 0)]
            return found

        plus, minus = (above, below) if in_reference else (below, above)
        plus_place, minus_place = (at_value, before_value) if in_reference else (before_value, at_value)
        _improve(self.plus, self.plus_location, present, bounds[present], plus, plus_place)
        _improve(self.minus, self.minus_location, present, bounds[present], minus, minus_place)

    def _left_ranks(
        self, other: Values, values: Values, features: Integers, right: Integers, present: Integers, bounds: Integers
    ) -> Integers:
        """Left ranks, which differ from right ones only where the other sample holds the very value."""
        same = _same(other[features, np.maximum(right - 1, 0)], values)
        same &= right > 0
        if not same.any():
            return right
        left = right.copy()
        tied = present[np.logical_or.reduceat(same, bounds[present])]
        for feature in tied.tolist():
            piece = slice(bounds[feature], bounds[feature + 1])
            left[piece] = other[feature].searchsorted(values[piece], "left")
        self.shared[tied] = True
        return left


def _improve(
    best: Integers,
    location: Values,
    present: Integers,
    pieces: Integers,
    heights: Integers,
    place: Callable[[Integers], Values],
) -> None:
    """Take over the largest height of each piece, and its first place, where that is better than what is known."""
    found = np.maximum.reduceat(heights, pieces)
    # Equal heights in a later chunk lie at larger values.
    better = found > best[present]
    rows, found = present[better], np.where(better, found, np.iinfo(np.int64).max)
    hits = np.flatnonzero(heights == np.repeat(found, np.diff(pieces, append=heights.size)))
    best[rows] = found[better]
    location[rows] = place(hits[hits.searchsorted(pieces[better])])


def _same(left: Values, right: Values) -> Booleans:
    """Whether left == right, NaN being equal to NaN."""
    if left.dtype.kind != "f":
        return np.asarray(left == right)
    return np.asarray((left == right) | ((left != left) & (right != right)))


def _larger(left: Values, right: Values) -> Values:
    return np.where(_above(left, right), left, right)


def _above(left: Values, right: Values) -> Booleans:
    """Whether left > right in the order in which NaN is above everything."""
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
