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
from typing import Any, TypeAlias

import attrs
import numpy as np
from numpy.typing import NDArray

__all__ = ["Probes", "Supremum", "find_supremum", "group_ends", "has_repeats", "probe_step", "take_probes"]

Values: TypeAlias = NDArray[Any]
Integers: TypeAlias = NDArray[np.int64]
Booleans: TypeAlias = NDArray[np.bool_]

# Probes per k**(2/3). Too few leave much to look at, too many cost their own search; the sum of both was measured to be
# smallest between 1.7 and 2.3 at sizes from 10 000 x 1 000 to 1 000 000 x 100 000.
_PROBE_DENSITY = 2.0
# So few values are all looked at in the time it takes to find out which of them to look at.
_VALUES_NOT_WORTH_PRUNING = 2**11
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


def group_ends(pooled: Values) -> Booleans:
    """Whether each pooled value, in ascending order, is the last of its tie group. Sorts its argument."""
    pooled.sort(axis=1)
    ends = np.ones(pooled.shape, dtype=np.bool_)
    np.not_equal(pooled[:, 1:], pooled[:, :-1], out=ends[:, :-1])
    if pooled.dtype.kind == "f":
        ends[:, :-1] &= ~((pooled[:, 1:] != pooled[:, 1:]) & (pooled[:, :-1] != pooled[:, :-1]))
    return ends


def find_supremum(
    reference: Values,
    current: Values,
    probes: Probes,
    *,
    greater: bool,
    less: bool,
    look_for_shared: bool = False,
    always_prune: bool = False,
) -> Supremum:
    """The supremum of the difference between two sorted samples of one dtype.

    Args:
        reference: Sorted rows, shape ``(n_features, n)``.
        current: Sorted rows, shape ``(n_features, m)``.
        probes: Of these rows of the reference.
        greater: Whether F_reference - F_current counts.
        less: Whether F_current - F_reference counts.
        look_for_shared: Whether to look for the probes among the current values.
        always_prune: Not to look at all values where that is faster: values of all features together count there,
            and the more are looked at, the more may be seen to be shared.
    """
    (n_features, n), m = reference.shape, current.shape[1]
    samples = _Samples(reference, current, (1, -1) if greater and less else (1,) if greater else (-1,))
    shared = np.zeros(n_features, dtype=np.bool_)
    k = min(n, m)
    if not always_prune and n_features * k <= _VALUES_NOT_WORTH_PRUNING:
        features, positions = np.arange(n_features).repeat(k), np.arange(n_features * k)
        if n_features > 1:
            positions -= features * k
        _, extremes = _look_at(samples, features, positions, n < m, shared)
    else:
        extremes = _prune(samples, probes, shared, look_for_shared)
    height, rank, count = extremes.height[0], extremes.rank[0], extremes.count[0]
    is_plus = np.full(n_features, greater)
    if len(samples.signs) == 2:
        is_plus = height >= extremes.height[1]
        height, rank, count = (np.where(is_plus, *pair) for pair in (extremes.height, extremes.rank, extremes.count))
    # A supremum of 0 is placed at the end, where both functions are 1.
    at_end = height <= 0
    height, rank, count = np.maximum(height, 0), np.where(at_end, n, rank), np.where(at_end, m, count)
    # The difference has not changed since the last data value that both ranks count.
    rows = np.arange(n_features)
    from_reference, from_current = reference[rows, np.maximum(rank - 1, 0)], current[rows, np.maximum(count - 1, 0)]
    use_reference = (count == 0) | ((rank > 0) & ~_above(from_current, from_reference))
    return Supremum(height, is_plus, np.where(use_reference, from_reference, from_current), shared)


@attrs.frozen(eq=False)
class _Samples:
    """The sorted samples, and the signs of the differences F_reference - F_current that count."""

    reference: Values
    current: Values
    signs: tuple[int, ...]


@attrs.frozen(eq=False)
class _Extremes:
    """The largest signed difference, and how many values of each sample lie at its first place or below.

    All of shape ``(n_signs, n_features)``. Of two places with one difference the first is the one with fewer values.
    """

    height: Integers
    rank: Integers
    count: Integers

    def improve(self, features: Integers, found: _Extremes) -> None:
        """Take over what was found of some features where it is larger, or as large and earlier."""
        height, rank, count = self.height[:, features], self.rank[:, features], self.count[:, features]
        earlier = found.rank + found.count < rank + count
        better = (found.height > height) | ((found.height == height) & earlier)
        self.height[:, features] = np.where(better, found.height, height)
        self.rank[:, features] = np.where(better, found.rank, rank)
        self.count[:, features] = np.where(better, found.count, count)


def _prune(samples: _Samples, probes: Probes, shared: Booleans, look_for_shared: bool) -> _Extremes:
    """The extremes, from the probes and from the values of those blocks that can reach them."""
    n, (n_features, m) = samples.reference.shape[1], samples.current.shape
    counts = np.empty(probes.values.shape, dtype=np.int64)
    for feature in range(n_features):
        counts[feature] = samples.current[feature].searchsorted(probes.values[feature], "right")
    heights, depths = probes.ranks * m, counts * n
    difference = heights - depths
    best = [difference.argmax(axis=1) if sign > 0 else difference.argmin(axis=1) for sign in samples.signs]
    flat = np.array(best) + np.arange(0, difference.size, difference.shape[1])
    signed = difference.reshape(-1)[flat] * np.array(samples.signs)[:, None]
    extremes = _Extremes(signed, probes.ranks.reshape(-1)[flat], counts.reshape(-1)[flat])
    # A difference of 0 needs no search: it is found at the largest value.
    threshold = np.maximum(signed.max(axis=0), 1)[:, None]
    candidates: Booleans = np.zeros_like(probes.is_open)
    for sign in samples.signs:
        bound = heights[:, 1:] - depths[:, :-1] if sign > 0 else depths[:, 1:] - heights[:, :-1]
        candidates |= bound >= threshold
    candidates &= probes.is_open
    if look_for_shared:
        shared |= _shares_probes(samples.current, probes, counts)
    blocks = candidates.reshape(-1).nonzero()[0]
    if blocks.size:
        features = blocks // candidates.shape[1]
        # A row of the table has one probe more than blocks.
        _look_at_blocks(samples, features, blocks + features, counts, probes.ranks, extremes, shared)
    return extremes


def _shares_probes(current: Values, probes: Probes, counts: Integers) -> Booleans:
    rows = np.arange(current.shape[0])[:, None]
    # The first probe lies below every reference value.
    return np.asarray(_same(current[rows, np.maximum(counts - 1, 0)], probes.values)[:, 1:].any(axis=1))


def _look_at_blocks(
    samples: _Samples,
    features: Integers,
    starts: Integers,
    counts: Integers,
    ranks: Integers,
    extremes: _Extremes,
    shared: Booleans,
) -> None:
    """Look at the values after the given probes, up to the next one; ``starts`` are their flat indices.

    Either sample's values will do, the fewer are taken: an extremum is at a jump of one and just before a jump of the
    other.
    """
    sides = []
    for edges in (counts.reshape(-1), ranks.reshape(-1)):
        first = edges[starts]
        sides.append((first, edges[starts + 1] - first))
    in_reference = bool(sides[0][1].sum() > sides[1][1].sum())
    first, sizes = sides[in_reference]
    stops = sizes.cumsum()
    offsets = first - (stops - sizes)
    total = int(stops[-1])
    for begin in range(0, total, _VALUES_PER_CHUNK):
        numbers = np.arange(begin, min(begin + _VALUES_PER_CHUNK, total))
        if total <= _VALUES_PER_CHUNK:
            owners, positions = features.repeat(sizes), numbers + offsets.repeat(sizes)
        else:
            block = stops.searchsorted(numbers, "right")
            owners, positions = features[block], numbers + offsets[block]
        extremes.improve(*_look_at(samples, owners, positions, in_reference, shared))


def _look_at(
    samples: _Samples, features: Integers, positions: Integers, in_reference: bool, shared: Booleans
) -> tuple[Integers, _Extremes]:
    """The extremes at, and just before, some values of one sample, and the features that these are of."""
    own, other = (samples.reference, samples.current) if in_reference else (samples.current, samples.reference)
    # A jump of one sample is worth the size of the other.
    own_jump, other_jump = other.shape[1], own.shape[1]
    values = own[features, positions]
    bounds = features.searchsorted(np.arange(own.shape[0] + 1))
    present = (bounds[:-1] < bounds[1:]).nonzero()[0]
    pieces, edges = bounds[present], bounds.tolist()
    right = np.empty(values.size, dtype=np.int64)
    for feature in present.tolist():
        piece = slice(edges[feature], edges[feature + 1])
        right[piece] = other[feature].searchsorted(values[piece], "right")
    # Left ranks differ from right ones only where the other sample holds the very value.
    left = right
    same = _same(other[features, np.maximum(right - 1, 0)], values) & (right > 0)
    if same.any():
        left = right.copy()
        tied = present[np.logical_or.reduceat(same, pieces)]
        for feature in tied.tolist():
            piece = slice(edges[feature], edges[feature + 1])
            left[piece] = other[feature].searchsorted(values[piece], "left")
        shared[tied] = True
    found = []
    for sign in samples.signs:
        # At a value both samples count it, before it neither does. Within a tie group positions understate the
        # difference, but for that of its last and its first member.
        at_value = (sign > 0) == in_reference
        own_ranks, other_ranks = (positions + 1, right) if at_value else (positions, left)
        heights = own_ranks * own_jump - other_ranks * other_jump
        heights = heights if at_value else -heights
        first = _first_maxima(heights, pieces)
        both = own_ranks[first], other_ranks[first]
        found.append((heights[first], *(both if in_reference else both[::-1])))
    height, rank, count = (np.array(arrays) for arrays in zip(*found, strict=True))
    return present, _Extremes(height, rank, count)


def _first_maxima(heights: Integers, pieces: Integers) -> Integers:
    """Index of the first of the largest heights in each piece, given where the pieces start."""
    if pieces.size == 1:
        return np.array([heights.argmax()])
    largest = np.maximum.reduceat(heights, pieces)
    lengths = np.append(pieces[1:], heights.size) - pieces
    hits = (heights == largest.repeat(lengths)).nonzero()[0]
    first: Integers = hits[hits.searchsorted(pieces)]
    return first


def _same(left: Values, right: Values) -> Booleans:
    """Whether left == right, NaN being equal to NaN."""
    same: Booleans = left == right
    if left.dtype.kind == "f":
        same |= (left != left) & (right != right)
    return same


def _above(left: Values, right: Values) -> Booleans:
    """Whether left > right in the order in which NaN is above everything."""
    above: Booleans = left > right
    if left.dtype.kind == "f":
        above |= (left != left) & (right == right)
    return above


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
