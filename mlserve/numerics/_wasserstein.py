"""How far the values of one sample must travel to become another: Wasserstein-1, feature by feature."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlserve.errors import InvalidArgumentError
from mlserve.numerics._ks_samples import checked_sample, sorted_rows

__all__ = ["wasserstein_1"]

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Coupling: TypeAlias = tuple[Integers, Integers, Floats]

# Features are sorted in blocks of about two megabytes, so that memory does not grow with the number of features.
_VALUES_PER_BLOCK = 2**18
# Magnitudes between 2**-500 and 2**500 can be squared and summed in float64, whose exponents reach 2**1023.
_SAFE_EXPONENT = 500


def wasserstein_1(reference: ArrayLike, current: ArrayLike, *, standardized: bool = False) -> float | Floats:
    """The Wasserstein-1 (earth mover's) distance of two samples: the mean distance their values must travel.

    W₁ = ∫₀¹ |F⁻¹(u) − G⁻¹(u)| du = ∫ |F(x) − G(x)| dx (S. Vallender, "Calculation of the Wasserstein distance between
    probability distributions on the line", Theory of Probability and its Applications 18, 1974). Between two neighbours
    among the levels i/n and j/m both quantile functions are constant; which values meet depends on n and m alone, so
    that a feature costs two sorts and one pass.

    An effect size in the unit of the feature, or in deviations of the reference; not a test. Of two samples of one
    distribution it is of the order of their deviation times √(1/n + 1/m), not 0. It is not
    robust: one far value moves it.

    NaN has no place on the line: missing values are left out, and a change of the missing rate does not show here.
    Infinite values that meet an equal one travel nothing; where infinite mass moves, the distance is ``inf``. Integers
    beyond 2**53 are rounded to float64.

    Args:
        reference: Shape ``(n,)`` or ``(n, n_features)``, bool, integer or float. Not changed.
        current: Shape ``(m,)`` or ``(m, n_features)``; as many dimensions and features as the reference.
        standardized: Divide by the standard deviation (with divisor n) of the reference's finite values. Where that is
            0, the answer is 0 if nothing moved and ``inf`` otherwise.

    Returns:
        At least 0, never NaN: a float for one-dimensional samples, else float64 of shape ``(n_features,)``.

    Raises:
        InvalidArgumentError: A sample that is empty, of missing values only in some feature, not numbers, masked, or
            zero- or three-dimensional; samples whose features differ.

    Example:
        >>> wasserstein_1([0.0, 1.0, 3.0], [5.0, 6.0, 8.0])
        5.0
        >>> wasserstein_1([[1, 0], [3, 0]], [[5, 0], [7, 1]], standardized=True).tolist()
        [4.0, inf]
    """
    before, after = checked_sample("reference", reference), checked_sample("current", current)
    n_features = before.values.shape[1]
    if before.is_single != after.is_single or after.values.shape[1] != n_features:
        raise InvalidArgumentError(
            "current",
            np.shape(current),
            f"an array of shape {'(m,)' if before.is_single else f'(m, {n_features})'}, like the reference",
            hint="Pass the features the reference has, in its order.",
        )
    n, m = before.values.shape[0], after.values.shape[0]
    couplings: dict[tuple[int, int], Coupling] = {}
    distances = np.empty(n_features, dtype=np.float64)
    width = max(1, _VALUES_PER_BLOCK // (n + m))
    for first in range(0, n_features, width):
        stop = min(first + width, n_features)
        left = sorted_rows(before.values, first, stop, np.dtype(np.float64))
        right = sorted_rows(after.values, first, stop, np.dtype(np.float64))
        for feature in range(first, stop):
            x, y = _present(left[feature - first]), _present(right[feature - first])
            for parameter, values in (("reference", x), ("current", y)):
                if not values.size:
                    raise InvalidArgumentError(
                        parameter, f"missing values only in feature {feature}", "at least one value in every feature",
                        hint="Leave the feature out, and compare missing rates instead.",
                    )  # fmt: skip
            coupling = couplings.get((x.size, y.size))
            if coupling is None:
                # Features with missing values seldom share their sizes: keep one, not all.
                couplings.clear()
                coupling = couplings[x.size, y.size] = _coupling(x.size, y.size)
            distance, exponent = _distance(x, y, coupling)
            if standardized:
                deviation, other = _deviation(_finite(x))
                if deviation == 0.0:
                    distance = 0.0 if distance == 0.0 else math.inf
                else:
                    distance, exponent = distance / deviation, exponent - other
            with np.errstate(over="ignore", under="ignore"):
                distances[feature] = np.ldexp(distance, exponent)
    return float(distances[0]) if before.is_single else distances


def _coupling(n: int, m: int) -> Coupling:
    """Which order statistics meet, and in what share of the mass."""
    if n == m:
        each = np.arange(n)
        return each, each, np.full(n, 1.0 / n)
    # Levels in units of 1/(n*m), as integers: equal levels are equal, and are kept once.
    own, other = np.arange(1, n + 1) * m, np.arange(1, m + 1) * n
    levels = np.concatenate([own, other[other % m > 0]])
    # Two ascending runs: a stable sort merges them in one pass.
    levels.sort(kind="stable")
    shares = np.diff(levels, prepend=0) / (n * m)
    return (levels - 1) // m, (levels - 1) // n, shares


def _distance(x: Floats, y: Floats, coupling: Coupling) -> tuple[float, int]:
    """The distance of two sorted samples, as a number and a power of two to multiply it by."""
    inner_x, inner_y = _finite(x), _finite(y)
    exponent = _exponent(inner_x, inner_y)
    of_x, of_y, shares = coupling
    met_x, met_y = _scaled(x, -exponent)[of_x], _scaled(y, -exponent)[of_y]
    with np.errstate(invalid="ignore", under="ignore"):
        travelled = np.abs(met_x - met_y)
        if inner_x.size < x.size or inner_y.size < y.size:
            travelled[met_x == met_y] = 0.0
        return float(np.dot(travelled, shares)), exponent


def _deviation(finite: Floats) -> tuple[float, int]:
    """The standard deviation of sorted finite values, as a number and a power of two to multiply it by."""
    # The mean of equal values may differ from them by a rounding error, and their deviation from 0.
    if not finite.size or finite[0] == finite[-1]:
        return 0.0, 0
    exponent = _exponent(finite, finite)
    with np.errstate(under="ignore"):
        return float(_scaled(finite, -exponent).std()), exponent


def _exponent(x: Floats, y: Floats) -> int:
    """The power of two that brings sorted finite values near 1; 0 where they are near enough."""
    largest = max((abs(float(row[end])) for row in (x, y) if row.size for end in (0, -1)), default=0.0)
    exponent = math.frexp(largest)[1]
    return exponent if abs(exponent) > _SAFE_EXPONENT else 0


def _scaled(values: Floats, exponent: int) -> Floats:
    if not exponent:
        return values
    # Rounds nothing but what is negligible beside the largest value.
    with np.errstate(under="ignore"):
        return np.ldexp(values, exponent)


def _present(row: Floats) -> Floats:
    """A sorted row without its missing values, which sort last."""
    return row if not math.isnan(row[-1]) else row[: np.searchsorted(row, np.nan)]


def _finite(row: Floats) -> Floats:
    """The finite part of a sorted row."""
    if math.isfinite(row[0]) and math.isfinite(row[-1]):
        return row
    return row[np.searchsorted(row, -math.inf, "right") : np.searchsorted(row, math.inf, "left")]
