"""Exact null distributions of the two-sample Kolmogorov-Smirnov statistic, by counting lattice paths.

Write the pooled, sorted sample as a path: at step ``s`` it has taken ``i`` values of the smaller sample (size ``n``)
and ``s - i`` of the larger one (size ``m``). Under the null hypothesis every path from ``(0, 0)`` to ``(N, n)``,
``N = n + m``, is equally likely, and the difference of the two empirical distribution functions at step ``s`` is
``(i*N - s*n) / (n*m)``. With the statistic as the integer ``h = D*n*m``, the p-value is the share of the paths that
reach ``|i*N - s*n| >= h`` (one-sided: one of the two barriers) at a step that ends a group of tied values.

The functions here carry the weight of the paths that are *already outside*, which is a sum of positive terms: a tiny
p-value keeps its relative accuracy, where one minus the share that stayed inside would have none left.

References:
    Hodges, J. L. (1958). The significance probability of the Smirnov two-sample test. Arkiv för Matematik 3, 469-486.
    Schröer, G. and Trenkler, D. (1995). Exact and randomization distributions of Kolmogorov-Smirnov tests two or three
    samples. Computational Statistics & Data Analysis 20, 185-202 (ties: only ends of tie groups count).
    Viehmann, T. (2021). Numerically more stable computation of the p-values for the two-sample Kolmogorov-Smirnov
    test. arXiv:2102.08037 (count outside, not inside).
    Loader, C. (2000). Fast and accurate computation of binomial probabilities (the saddle-point form used here).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["equal_sizes_pvalues", "one_sided_pvalues", "tied_pvalues", "two_sided_pvalues"]

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Booleans: TypeAlias = NDArray[np.bool_]

# Paths are weighted by a coin, renewed every so many steps: the sums of 128 unscaled steps grow by 2**128 at most,
# far from overflow, and renewing every step would double the work.
_STEPS_PER_SCALING = 128
# Weights below this are dropped when the scale is renewed. They cannot reach a p-value that a float can hold (the
# weights that matter are no smaller than about its square root), and denormal numbers would cost 100 times the time.
_NEGLIGIBLE_WEIGHT = 1e-260
# A fair coin saves one of two operations a step. It stays usable while the drift between its mean and the true one
# costs less than this many units of log weight over the whole path.
_FAIR_COIN_LOG_LOSS = 50.0
# Rows handled at once keep their state within about half a megabyte, which stays in a second-level cache.
_CELLS_PER_BATCH = 2**15
# Each threshold in a batch pays for the band of the largest. They differ by at most this factor, except in batches so
# small that a step costs the interpreter more than the memory.
_BAND_RATIO_PER_BATCH = 1.5
_CELLS_FOR_FREE = 2**13
# p < 2 exp(-2 D**2 nm/N), and beyond this exponent that bound is below the smallest positive float, 4.9e-324.
_UNDERFLOW_EXPONENT = 760.0
# Stirling's series for log k! has an error below 1e-16 from here on with the terms used.
_STIRLING_FROM = 16
_SMALL_STIRLING_ERRORS = np.array(
    [math.lgamma(k + 1) - (k + 0.5) * math.log(k or 1) + k - 0.5 * math.log(2 * math.pi) for k in range(_STIRLING_FROM)]
)


def two_sided_pvalues(thresholds: Integers, n: int, m: int) -> Floats:
    """P(D >= h/(n*m)) without ties, for each ``h``.

    Both halves of a path look alike when it is turned by 180 degrees, so that half the steps are enough:
    ``p = sum_i hyp(i) * (O_f(i) + O_b(i) * (1 - O_f(i)))``.

    Args:
        thresholds: The values of h, shape ``(n_statistics,)``.
        n: Size of the smaller sample.
        m: Size of the larger sample.

    Returns:
        The p-values, shape ``(n_statistics,)``.
    """
    distinct, inverse = np.unique(thresholds, return_inverse=True)
    pvalues = _trivial_pvalues(distinct, n, m)
    for chosen in _batches(distinct, pvalues, n, m, longest=1):
        pvalues[chosen] = _two_sided_batch(distinct[chosen], n, m)
    return _bounded(pvalues)[inverse]


def one_sided_pvalues(thresholds: Integers, n: int, m: int) -> Floats:
    """P(D+ >= h/(n*m)) without ties, for each ``h``; the same for D- and for exchanged sample sizes.

    Args:
        thresholds: The values of h, shape ``(n_statistics,)``.
        n: Size of the smaller sample.
        m: Size of the larger sample.

    Returns:
        The p-values, shape ``(n_statistics,)``.
    """
    distinct, inverse = np.unique(thresholds, return_inverse=True)
    pvalues = _trivial_pvalues(distinct, n, m)
    for chosen in _batches(distinct, pvalues, n, m, longest=n + m):
        pvalues[chosen] = _whole_path(distinct[chosen], n, m, upper=True, lower=False, ends=None, longest=1)
    return _bounded(pvalues)[inverse]


def tied_pvalues(thresholds: Integers, ends: Booleans, n: int, m: int, *, upper: bool, lower: bool) -> Floats:
    """P(statistic >= h/(n*m) | which values of the pooled sample are tied), for each ``h`` and its pattern of ties.

    No barrier stands where the last tie group ends, at the end of all paths: they are counted up to where it begins,
    and weighted with the chance to come there. Often it is by far the largest group, that of missing values.

    Args:
        thresholds: The values of h, shape ``(n_statistics,)``.
        ends: Whether the s-th smallest pooled value, ``s = 1 .. N``, is the last of its tie group; shape
            ``(n_statistics, N)``.
        n: Size of the smaller sample, the one that i counts.
        m: Size of the larger sample.
        upper: Whether the smaller sample's distribution function above the other's counts.
        lower: Whether the smaller sample's distribution function below the other's counts.

    Returns:
        The p-values, shape ``(n_statistics,)``.
    """
    pvalues = _trivial_pvalues(thresholds, n, m)
    ends = ends[:, :-1]
    longest = _longest_group(ends)
    for chosen in _batches(thresholds, pvalues, n, m, longest):
        pvalues[chosen] = _whole_path(
            thresholds[chosen], n, m, upper=upper, lower=lower, ends=ends[chosen], longest=longest
        )
    return _bounded(pvalues)


def equal_sizes_pvalues(thresholds: Integers, n: int, *, two_sided: bool) -> Floats:
    """P(D >= h/n**2) for two samples of n each, without ties, in closed form (Gnedenko and Korolyuk 1951).

    ``p = 2 * sum_{k>=1} (-1)**(k-1) * C(2n, n + k*c) / C(2n, n)`` with ``c = h/n`` by reflection; one-sided its first
    term alone, without the factor 2.

    Args:
        thresholds: The values of h, shape ``(n_statistics,)``.
        n: Size of either sample.
        two_sided: Whether both barriers count.

    Returns:
        The p-values, shape ``(n_statistics,)``.
    """
    distinct, inverse = np.unique(thresholds, return_inverse=True)
    pvalues = _trivial_pvalues(distinct, n, n)
    for index in np.flatnonzero(np.isnan(pvalues)).tolist():
        # The statistic moves in steps of 1/n, so that a threshold between two of them acts as the next one.
        step = -(-int(distinct[index]) // n)
        multiples = np.arange(step, n + 1, step) if two_sided else np.array([step])
        terms = _central_binomial_ratio(n, multiples)
        terms[1::2] *= -1.0
        pvalues[index] = terms.sum() * (2.0 if two_sided else 1.0)
    return _bounded(pvalues)[inverse]


def _trivial_pvalues(thresholds: Integers, n: int, m: int) -> Floats:
    """1 where every path is outside, 0 where no float can hold the p-value, NaN where there is something to count."""
    exponent = 2.0 * thresholds.astype(np.float64) ** 2 / (float(n) * float(m) * float(n + m))
    return np.where(thresholds <= 0, 1.0, np.where(exponent > _UNDERFLOW_EXPONENT, 0.0, np.nan))


def _batches(thresholds: Integers, pvalues: Floats, n: int, m: int, longest: int) -> Iterator[Integers]:
    """Indices of what is left to count, the largest thresholds first, in batches of like bands that fit a cache."""
    todo = np.flatnonzero(np.isnan(pvalues))
    todo = todo[np.argsort(-thresholds[todo], kind="stable")]
    while todo.size:
        largest = int(thresholds[todo[0]])
        band = min(n + 1, 2 * largest // (n + m) + longest) + 2
        alike = int(np.count_nonzero(thresholds[todo] * _BAND_RATIO_PER_BATCH >= largest))
        size = max(1, min(_CELLS_PER_BATCH // band, max(alike, _CELLS_FOR_FREE // band)))
        yield todo[:size]
        todo = todo[size:]


def _bounded(pvalues: Floats) -> Floats:
    return np.clip(pvalues, 0.0, 1.0)


def _two_sided_batch(thresholds: Integers, n: int, m: int) -> Floats:
    """The half-path recursion for thresholds in descending order; the first one's band holds those of the others."""
    total = n + m
    half = (total + 1) // 2
    success = _coin(n, m, half)
    steps = np.arange(half + 1, dtype=np.int64)[:, None]
    first = np.maximum((steps * n - thresholds) // total + 1, 0)
    last = np.minimum(-((-steps * n - thresholds) // total) - 1, np.minimum(steps, n))
    # Just outside the band every path is outside: its weight there is the coin's own probability.
    scale = (1.0 - success) ** -(steps % _STEPS_PER_SCALING).astype(np.float64)
    below = _binomial(first - 1, steps, success) * scale
    above = _binomial(last + 1, steps, success) * scale
    final, before_final = _sweep_band(first, last, below, above, success, n)

    def already_outside(weights: Floats, step: int) -> Floats:
        cells = np.arange(n + 1, dtype=np.int64)[:, None]
        unrestricted = _binomial(cells, np.int64(step), success) * scale[step, 0]
        inside = (cells >= first[step]) & (cells <= last[step]) & (unrestricted > 0.0)
        share: Floats = np.ones((n + 1, thresholds.size))
        np.divide(weights[1 : n + 2], unrestricted, out=share, where=inside)
        return share

    lowest, hypergeometric = _hypergeometric(half, n, m)
    cells = slice(lowest, lowest + hypergeometric.size)
    forward = already_outside(final, half)
    # The second part of the path, turned round, is a path of total - half steps that has taken n - i values.
    backward = (forward if total - half == half else already_outside(before_final, half - 1))[::-1]
    forward, backward = forward[cells], backward[cells]
    outside: Floats = hypergeometric @ (forward + backward * (1.0 - forward))
    return outside


def _sweep_band(
    first: Integers, last: Integers, below: Floats, above: Floats, success: float, n: int
) -> tuple[Floats, Floats]:
    """Weights of the paths outside at the last step and at the one before.

    The state has a row for each cell, ``i`` in row ``i + 1``, and a column for each threshold: the cells of a band are
    then one contiguous piece of memory.
    """
    steps, count = first.shape
    odds, shrink = success / (1.0 - success), (1.0 - success) ** _STEPS_PER_SCALING
    previous, current = np.zeros((n + 3, count)), np.zeros((n + 3, count))
    before_final = previous.copy()
    reached = np.flatnonzero((below > 0.0).any(axis=1) | (above > 0.0).any(axis=1))
    start = int(reached[0]) if reached.size else steps
    lows, highs = first[:, 0].tolist(), last[:, 0].tolist()
    columns = np.arange(count)
    edges = np.concatenate((first * count + columns, (last + 2) * count + columns), axis=1)
    weights = np.concatenate((below, above), axis=1)
    # The interpreter is the cost of a single threshold: plain floats set its two edges faster than an array.
    low_weights, high_weights = (below[:, 0].tolist(), above[:, 0].tolist()) if count == 1 else ([], [])
    for step in range(start, steps):
        if step == steps - 1:
            before_final = previous.copy()
        if step % _STEPS_PER_SCALING == 0:
            _rescale(previous, shrink)
        low, high = lows[step], highs[step]
        _advance(previous, current, low, high, odds)
        if count == 1:
            current[low, 0] = low_weights[step]
            current[high + 2, 0] = high_weights[step]
        else:
            # The first threshold's band is the widest, and its edges are outside for all. What was made of the
            # others' cells outside is overwritten where the next step reads it.
            current[low], current[high + 2] = below[step, 0], above[step, 0]
            current.reshape(-1)[edges[step]] = weights[step]
        previous, current = current, previous
    return previous, before_final


def _advance(previous: Floats, current: Floats, low: int, high: int, odds: float) -> None:
    """One step of Pascal's rule for the cells ``low .. high``, which are in the rows one further on."""
    target = current[low + 1 : high + 2]
    if odds == 1.0:
        np.add(previous[low : high + 1], previous[low + 1 : high + 2], out=target)
    else:
        np.multiply(previous[low : high + 1], odds, out=target)
        target += previous[low + 1 : high + 2]


def _rescale(weights: Floats, shrink: float) -> None:
    weights *= shrink
    weights[weights < _NEGLIGIBLE_WEIGHT] = 0.0


def _whole_path(
    thresholds: Integers, n: int, m: int, *, upper: bool, lower: bool, ends: Booleans | None, longest: int
) -> Floats:
    """The recursion over all N steps, with ties or with one barrier, where turning the path round does not help.

    The state is that of ``_sweep_band`` with one more column, the weight of all paths: a cell that is outside at the
    end of a tie group takes its value.
    """
    total, count = n + m, thresholds.size
    success = _coin(n, m, total)
    odds, shrink = success / (1.0 - success), (1.0 - success) ** _STEPS_PER_SCALING
    finals = np.full(count, total) if ends is None else _last_ends(ends)
    last = int(finals.max())
    share = np.zeros(count)
    leaving: dict[int, list[int]] = {}
    for column, final in enumerate(finals.tolist()):
        leaving.setdefault(final, []).append(column)
    steps = np.arange(1, last + 1, dtype=np.int64)
    scale = (1.0 - success) ** -(steps % _STEPS_PER_SCALING).astype(np.float64)
    lows, highs = np.maximum(steps - m, 0), np.minimum(steps, n)
    # A cell this far out can only have come from cells outside at the end of the last tie group.
    widest = int(thresholds.max())
    cut_above = np.minimum(-((-steps * n - widest - longest * m) // total), n + 1)
    cut_below = np.maximum((steps * n - widest - longest * n) // total, -1)
    edges = []
    if upper:
        highs = np.minimum(highs, cut_above - 1)
        edges.append(((cut_above + 1).tolist(), (_binomial(cut_above, steps, success) * scale).tolist()))
    if lower:
        lows = np.maximum(lows, cut_below + 1)
        edges.append(((cut_below + 1).tolist(), (_binomial(cut_below, steps, success) * scale).tolist()))
    barriers = _barriers(thresholds, steps, None if ends is None else ends[:, :last], n, m, upper=upper, lower=lower)
    cells = np.arange(n + 1, dtype=np.int64)[:, None]
    previous, current = np.zeros((n + 3, count + 1)), np.zeros((n + 3, count + 1))
    previous[1, -1] = 1.0
    for step, (low, high) in enumerate(zip(lows.tolist(), highs.tolist(), strict=True)):
        if (step + 1) % _STEPS_PER_SCALING == 0:
            _rescale(previous, shrink)
        _advance(previous, current, low, high, odds)
        for rows, weights in edges:
            current[rows[step]] = weights[step]
        for is_above, nearest, limits in barriers:
            first, stop = (max(low, nearest[step]), high + 1) if is_above else (low, min(high, nearest[step]) + 1)
            if first >= stop:
                continue
            # A single threshold is the nearest one itself.
            outside: Any = True
            if count > 1:
                outside = cells[first:stop] >= limits[step] if is_above else cells[first:stop] <= limits[step]
            span = slice(first + 1, stop + 1)
            np.copyto(current[span, :-1], current[span, -1:], where=outside)
        for column in leaving.get(step + 1, ()):
            share[column] = _share_outside(current[low + 1 : high + 2, (column, -1)], low, step + 1, n, m)
        previous, current = current, previous
    return share


def _share_outside(weights: Floats, low: int, step: int, n: int, m: int) -> float:
    """The share of paths that were outside by a step: of the cells from ``low`` on by their weights, and all beyond."""
    lowest, probabilities = _hypergeometric(step, n, m)
    outside, of_all = np.ones(probabilities.size), weights[:, 1]
    first = low - lowest
    np.divide(weights[:, 0], of_all, out=outside[first : first + of_all.size], where=of_all > 0.0)
    return float(probabilities @ outside)


def _barriers(
    thresholds: Integers, steps: Integers, ends: Booleans | None, n: int, m: int, *, upper: bool, lower: bool
) -> list[tuple[bool, list[int], Integers]]:
    """For each barrier: whether it is the upper one, the nearest cell outside at each step, and that of each threshold.

    At steps that end no tie group a barrier is out of reach.
    """
    columns = steps[:, None]
    never = n + 2
    barriers = []
    if upper:
        limits = -((-columns * n - thresholds) // (n + m))
        limits = limits if ends is None else np.where(ends.T, limits, never)
        barriers.append((True, limits.min(axis=1).tolist(), limits))
    if lower:
        limits = (columns * n - thresholds) // (n + m)
        limits = limits if ends is None else np.where(ends.T, limits, -never)
        barriers.append((False, limits.max(axis=1).tolist(), limits))
    return barriers


def _longest_group(ends: Booleans) -> int:
    """Size of the largest tie group of any row that ends in it; 1 where none does."""
    rows, positions = np.nonzero(ends)
    before = np.concatenate(([-1], positions[:-1]))
    before[np.concatenate(([True], rows[1:] != rows[:-1]))] = -1
    return int((positions - before).max(initial=1))


def _last_ends(ends: Booleans) -> Integers:
    """The step at which the last tie group of each row ends that does; 0 where none does."""
    last = ends.shape[1] - ends[:, ::-1].argmax(axis=1)
    return np.where(ends.any(axis=1), last, 0)


def _coin(n: int, m: int, steps: int) -> float:
    """The probability with which the coin that weighs the paths takes a value of the smaller sample."""
    share = n / (n + m)
    return 0.5 if 2.0 * steps * (0.5 - share) ** 2 < _FAIR_COIN_LOG_LOSS else share


def _hypergeometric(draws: int, n: int, m: int) -> tuple[int, Floats]:
    """The smallest possible number of the n among the first ``draws`` of n + m, and the probabilities from it on.

    Products of ratios outwards from the mode, then normalised: the error grows with the root of their number.
    """
    lowest, highest = max(0, draws - m), min(draws, n)
    taken = np.arange(lowest, highest, dtype=np.float64)
    ratios = (n - taken) * (draws - taken) / ((taken + 1.0) * (m - draws + taken + 1.0))
    mode = min(max((draws + 1) * (n + 1) // (n + m + 2), lowest), highest) - lowest
    rising = np.cumprod(ratios[mode:])
    falling = np.cumprod(1.0 / ratios[:mode][::-1])[::-1]
    weights = np.concatenate((falling, [1.0], rising))
    return lowest, weights / weights.sum()


def _stirling_error(k: Floats) -> Floats:
    """What Stirling's main term leaves of log k!, for integers k >= 1."""
    inverse = 1.0 / k
    square = inverse * inverse
    error: Floats = inverse * (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square * (1 / 1680 - square / 1188))))
    small = k < _STIRLING_FROM
    error[small] = _SMALL_STIRLING_ERRORS[k[small].astype(np.intp)]
    return error


def _deviance(observed: Floats, expected: Floats | float) -> Floats:
    relative = (observed - expected) / expected
    deviance: Floats = expected * ((1.0 + relative) * np.log1p(relative) - relative)
    return deviance


def _binomial(taken: Integers, steps: Integers | np.int64, success: float) -> Floats:
    """Binomial probabilities by Loader's saddle-point form; 0 for impossible counts. Arguments broadcast."""
    taken, steps = np.broadcast_arrays(taken, steps)
    possible = (taken >= 0) & (taken <= steps)
    hits = np.where(possible, taken, 0)
    misses = steps - hits
    middle = (hits > 0) & (misses > 0)
    result = np.where(misses == 0, np.exp(steps * math.log(success)), np.exp(steps * math.log1p(-success)))
    x, y = hits[middle].astype(np.float64), misses[middle].astype(np.float64)
    s = x + y
    exponent = _stirling_error(s) - _stirling_error(x) - _stirling_error(y)
    exponent -= _deviance(x, s * success) + _deviance(y, s * (1.0 - success))
    result[middle] = np.exp(exponent) * np.sqrt(s / (2.0 * math.pi * x * y))
    return np.where(possible, result, 0.0)


def _central_binomial_ratio(n: int, offsets: Integers) -> Floats:
    """C(2n, n + c) / C(2n, n) for each offset c."""
    central = float(_binomial(np.array([n]), np.int64(2 * n), 0.5)[0])
    return _binomial(n + offsets, np.int64(2 * n), 0.5) / central
