"""P-values of the two-sample Kolmogorov-Smirnov test, and the rule that says which computation is good enough."""

from __future__ import annotations

import math
import operator
from typing import Any, Literal, TypeAlias, get_args, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlserve.errors import InvalidArgumentError
from mlserve.numerics import _ks_lattice as lattice

__all__ = [
    "EXACT_TIES_LIMIT",
    "Alternative",
    "Method",
    "check_choice",
    "conditional_pvalues",
    "ks_pvalue",
    "unconditional_pvalues",
    "window_pvalues",
]

Alternative: TypeAlias = Literal["two-sided", "less", "greater"]
Method: TypeAlias = Literal["auto", "exact", "asymptotic"]
Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Booleans: TypeAlias = NDArray[np.bool_]

EXACT_TIES_LIMIT = 4000
"""Pooled sample size up to which ``auto`` counts lattice paths, and looks for every tie; beyond, it costs too much."""

# The rest of auto's rule. The closed form is off by up to 5 % for samples smaller than this, ...
_SMALL_SAMPLE = 150
# ... and by about 1.4/(a*sqrt(n)) where m/n is next to a simple ratio a/b, since the attainable values of D then lie
# almost on one lattice: exact for a up to 3 while n*a**2 < 1600, which keeps the error below 4 %.
_SIMPLE_RATIO = 3
_SIMPLE_RATIO_SIZE = 1600
# Below this size, beside a sample too large to count paths, the smaller one's own one-sample distribution is used.
_ONE_SAMPLE_SIZE = 100
_SMALLEST_FLOAT = 5e-324
# C(n+m, n) >= 2**n, and 2**-1075 is no float: from here on the smallest p-value is 0.
_SEPARATION_SIZE = 1075
# Newton steps from a start that is at most a few per cent off; the convergence is quadratic.
_NEWTON_STEPS = 12
# Differences of two distribution functions carry about two roundings; a statistic this close to a lattice point is one.
_STATISTIC_ROUNDING = 1e-15
# Larger samples than anyone has, still far from where a float overflows.
_LARGEST_SIZE = 10**30
# Beyond this the integers i*N - s*n could overflow.
_LARGEST_LATTICE = 2**60


@overload
def ks_pvalue(statistic: float, n: int, m: int, *, alternative: Alternative = ..., method: Method = ...) -> float: ...
@overload
def ks_pvalue(
    statistic: ArrayLike, n: int, m: int, *, alternative: Alternative = ..., method: Method = ...
) -> float | Floats: ...
def ks_pvalue(
    statistic: ArrayLike, n: int, m: int, *, alternative: Alternative = "two-sided", method: Method = "auto"
) -> float | Floats:
    r"""The probability, without drift and without ties, of a two-sample KS statistic at least this large.

    - **exact**: lattice paths are counted (Hodges 1958, in the stable form of Viehmann 2021); for ``n == m`` in closed
      form, :math:`p = 2\sum_{k\ge1}(-1)^{k-1}\binom{2n}{n+kc}/\binom{2n}{n}`, :math:`c = nD` (Gnedenko and Korolyuk
      1951). Relative error about 1e-12, also of tiny values. Time grows as n*m*D two-sided, as n*m one-sided.
    - **asymptotic**: with :math:`n \le m`, :math:`N = n + m`, :math:`n_e = nm/N`, :math:`L = \mathrm{lcm}(n, m)`,

      .. math::

          l = \sqrt{n_e}\,(D - \tfrac{1}{2L}), \quad s = \frac{m + 2n}{6\sqrt{mnN}}, \quad
          \lambda^2 = l^2 + 2ls + \tfrac29(\tfrac1{n_e} - \tfrac1N)\,l^4 - (\tfrac{2}{9n_e} + \tfrac{1}{9N})\,l^2

      and p = K(λ), Kolmogorov's distribution, two-sided; exp(-2λ²) one-sided. The term s is Hodges' (1958), 1/(2L)
      centres the lattice of attainable values, the rest is second order, from Stirling's and Lauwerier's terms. For
      n < 100 beside N > 4000, exp(-2λ²) is replaced by the smaller sample's exact one-sample distribution (Birnbaum and
      Tingey 1951), at the point where that has the same expansion. Converges to K(sqrt(n_e)*D).
    - **auto**: exact where that is cheap and needed: N <= 4000 and (n == m, or n < 150, or m/n is next to a simple
      ratio: :math:`|bm - an| = \gcd(n, m)` for some :math:`b \le a \le 3` with :math:`na^2 < 1600`); asymptotic
      otherwise. For n, m >= 5 the result is within 5 % of the exact one wherever that is between 0.001 and 0.5.
      Further out the error grows slowly: a factor of 2 or 3 by 1e-33.

    With ties the p-value depends on which values are tied and is at most the one given here: see ``ks_2samp``.

    A p-value bounds false alarms of *one* test planned beforehand. Testing window after window at p <= 0.05 raises a
    false alarm sooner or later with certainty: for that use a sequential test.

    Args:
        statistic: D, in [0, 1]; any shape. Between two attainable values it stands for the larger one.
        n: Size of one sample, at least 1.
        m: Size of the other sample, at least 1. The p-value is the same for (m, n).
        alternative: ``"two-sided"`` for D, ``"less"`` or ``"greater"`` for one of the one-sided statistics.
        method: ``"auto"``, ``"exact"`` or ``"asymptotic"``.

    Returns:
        The p-value, a float for a scalar statistic, else an array of its shape (which may be empty). Never NaN, always
        in [0, 1]; 0.0 only where the value is below what a float can hold.

    Raises:
        InvalidArgumentError: A statistic that is NaN, outside [0, 1] or not a number; a sample size that is not a
            positive integer; an unknown alternative or method; ``"exact"`` for sizes whose lattice overflows 64 bits.

    Example:
        >>> round(ks_pvalue(0.5, 10, 10), 6)
        0.167821
        >>> ks_pvalue([0.0, 0.2, 1.0], 5, 7).round(4).tolist()
        [1.0, 0.9975, 0.0025]
    """
    check_choice("alternative", alternative, Alternative)
    check_choice("method", method, Method)
    sizes = _checked_size("n", n), _checked_size("m", m)
    statistics = _checked_statistics(statistic)
    smaller, larger = min(sizes), max(sizes)
    pvalues, _ = _dispatch(
        statistics.ravel(), None, smaller, larger, two_sided=alternative == "two-sided", method=method
    )
    return float(pvalues[0]) if statistics.ndim == 0 else pvalues.reshape(statistics.shape)


def window_pvalues(
    thresholds: Integers,
    ends: Booleans | None,
    tied: Booleans,
    n: int,
    m: int,
    *,
    alternative: Alternative,
    method: Method,
) -> tuple[Floats, NDArray[np.str_]]:
    """P-values of the features of a window, given their ties where these count, and how each was computed.

    Args:
        thresholds: Statistics as integers h = D*n*m, shape ``(n_features,)``.
        ends: As in ``conditional_pvalues``; None where ties do not count.
        tied: Whether a feature has ties, shape ``(n_features,)``.
        n: Size of the reference.
        m: Size of the current sample.
        alternative: Two-sided, or the sign of F_reference - F_current that counts.
        method: Of features without ties.
    """
    two_sided = alternative == "two-sided"
    if ends is None or not tied.any():
        result, name = unconditional_pvalues(thresholds, n, m, two_sided=two_sided, method=method)
        return result, np.full(thresholds.size, name)
    result = np.empty(thresholds.size)
    methods = np.full(thresholds.size, "exact-ties")
    if not tied.all():
        result[~tied], methods[~tied] = unconditional_pvalues(
            thresholds[~tied], n, m, two_sided=two_sided, method=method
        )
    result[tied] = conditional_pvalues(thresholds[tied], ends[tied], n, m, alternative=alternative)
    return result, methods


def unconditional_pvalues(
    thresholds: Integers, n: int, m: int, *, two_sided: bool, method: Method
) -> tuple[Floats, Literal["exact", "asymptotic"]]:
    """P-values without ties for statistics given as integers h = D*n*m, and how they were computed."""
    smaller, larger = min(n, m), max(n, m)
    return _dispatch(
        thresholds / (float(n) * float(m)), thresholds, smaller, larger, two_sided=two_sided, method=method
    )


def conditional_pvalues(thresholds: Integers, ends: Booleans, n: int, m: int, *, alternative: Alternative) -> Floats:
    """Exact p-values given which pooled values are tied.

    Args:
        thresholds: Statistics as integers h = D*n*m, shape ``(n_features,)``.
        ends: Which of the N sorted pooled values end a tie group, shape ``(n_features, N)``.
        n: Size of the reference.
        m: Size of the current sample.
        alternative: Two-sided, or the sign of F_reference - F_current that counts.
    """
    _check_lattice(n, m)
    if alternative == "two-sided":
        upper = lower = True
    else:
        # The paths count the smaller sample, so that the reference being the larger one turns the sides round.
        upper = (alternative == "greater") == (n <= m)
        lower = not upper
    with np.errstate(under="ignore"):
        return lattice.tied_pvalues(thresholds, ends, min(n, m), max(n, m), upper=upper, lower=lower)


def check_choice(parameter: str, value: object, choices: Any) -> None:
    """Refuse what is not one of the strings of a Literal type."""
    allowed = get_args(choices)
    if not isinstance(value, str) or value not in allowed:
        raise InvalidArgumentError(
            parameter,
            value,
            f"one of {', '.join(map(repr, allowed))}",
            hint=f"Leave it out for {allowed[0]!r}.",
        )


def _checked_size(parameter: str, value: object) -> int:
    try:
        size = operator.index(value)  # type: ignore[arg-type]  # what is no index raises TypeError
    except TypeError:
        size = 0
    if not 1 <= size <= _LARGEST_SIZE or isinstance(value, (bool, np.bool_)):
        raise InvalidArgumentError(
            parameter,
            value,
            "a positive integer, at most 10**30",
            hint="It is the number of values in a sample: pass len(sample).",
        )
    return size


def _checked_statistics(statistic: ArrayLike) -> Floats:
    try:
        array = np.asarray(statistic)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(
            "statistic", statistic, "a number or an array of numbers", hint="Pass what ks_statistic returns."
        ) from error
    if array.dtype.kind not in "biuf" or not bool(np.all((array >= 0) & (array <= 1))):
        raise InvalidArgumentError(
            "statistic",
            statistic,
            "in [0, 1] everywhere and not NaN",
            hint="Pass D itself: not sqrt(n)*D, and without the sign.",
        )
    return array.astype(np.float64)


def _check_lattice(n: int, m: int) -> None:
    if m * (n + m) > _LARGEST_LATTICE:
        raise InvalidArgumentError(
            "method", "exact", f"'auto' or 'asymptotic' for samples of {n} and {m}", hint="The lattice overflows."
        )


def _dispatch(
    statistics: Floats, thresholds: Integers | None, n: int, m: int, *, two_sided: bool, method: Method
) -> tuple[Floats, Literal["exact", "asymptotic"]]:
    # A caller may have told numpy to raise where a weight underflows, which is what far tails do.
    with np.errstate(under="ignore"):
        if method == "exact" or (method == "auto" and _needs_exact(n, m)):
            _check_lattice(n, m)
            if thresholds is None:
                thresholds = _lattice_steps(statistics, n, m).astype(np.int64) * math.gcd(n, m)
            if n == m:
                return lattice.equal_sizes_pvalues(thresholds, n, two_sided=two_sided), "exact"
            count = lattice.two_sided_pvalues if two_sided else lattice.one_sided_pvalues
            return count(thresholds, n, m), "exact"
        if thresholds is None:
            statistics = _lattice_steps(statistics, n, m) / math.lcm(n, m)
        return _asymptotic(statistics, n, m, two_sided=two_sided), "asymptotic"


def _needs_exact(n: int, m: int) -> bool:
    if n + m > EXACT_TIES_LIMIT:
        return False
    if n == m or n < _SMALL_SAMPLE:
        return True
    return any(
        abs(b * m - a * n) == math.gcd(n, m) and n * a * a < _SIMPLE_RATIO_SIZE
        for a in range(1, _SIMPLE_RATIO + 1)
        for b in range(1, a + 1)
    )


def _lattice_steps(statistics: Floats, n: int, m: int) -> Floats:
    """The smallest attainable value at or above each statistic, in units of 1/lcm(n, m)."""
    steps = float(math.lcm(n, m))
    scaled = statistics * steps
    nearest = np.rint(scaled)
    return np.where(np.abs(scaled - nearest) <= _STATISTIC_ROUNDING * steps, nearest, np.ceil(scaled))


def _asymptotic(statistics: Floats, n: int, m: int, *, two_sided: bool) -> Floats:
    from scipy import special

    total = float(n + m)
    # Products as floats: sizes are Python integers, which may be larger than a 64-bit one.
    effective = n / total * m
    shift = (m + 2.0 * n) / (6.0 * math.sqrt(effective) * total)
    fourth = (2.0 / 9.0) * (1.0 / effective - 1.0 / total)
    second = 1.0 - 2.0 / (9.0 * effective) - 1.0 / (9.0 * total)
    distance = np.maximum((statistics - 0.5 / math.lcm(n, m)) * math.sqrt(effective), 0.0)
    squared = distance * (distance * (distance * distance * fourth + second) + 2.0 * shift)
    if n < _ONE_SAMPLE_SIZE and n + m > EXACT_TIES_LIMIT:
        one_sided = np.maximum(special.smirnov(n, _one_sample_statistic(squared, n)), _SMALLEST_FLOAT)
        squared = np.maximum(np.log(one_sided) / -2.0, 0.0)
        # The smaller sample's function jumps by 1/n while the other's is still, so that |D| is at least half of it.
        squared = np.where(statistics * 2 * n <= 1.0, 0.0, squared) if two_sided else squared
    pvalues: Floats = np.asarray(special.kolmogorov(np.sqrt(squared)) if two_sided else np.exp(-2.0 * squared))
    if n < _SEPARATION_SIZE:
        # No attainable statistic is rarer than the orders that separate the samples altogether: one, or one a side.
        separated = math.exp(min(0.0, math.log1p(total) + float(special.betaln(n + 1.0, m + 1.0))))
        pvalues = np.maximum(pvalues, min(2.0 * separated, 1.0) if two_sided else separated)
    return pvalues


def _one_sample_statistic(squared: Floats, n: int) -> Floats:
    """The d at which a one-sample test of size n has the expansion λ²: n*d² + d/3 + (2/9)*n*d⁴ - (2/9)*d² = λ²."""
    statistic = np.minimum(np.sqrt(squared / n), 1.0)
    for _ in range(_NEWTON_STEPS):
        value = n * statistic**2 + statistic / 3.0 + (2.0 / 9.0) * (n * statistic**4 - statistic**2) - squared
        slope = 2.0 * n * statistic + 1.0 / 3.0 + (8.0 / 9.0) * n * statistic**3 - (4.0 / 9.0) * statistic
        statistic = np.clip(statistic - value / slope, 0.0, 1.0)
    return statistic
