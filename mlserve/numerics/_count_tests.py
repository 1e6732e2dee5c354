"""Whether two samples of counts come from one distribution: chi-square and G tests, safe for rare categories."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, final, get_args

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlserve.errors import InvalidArgumentError
from mlserve.numerics._counts import checked_counts

__all__ = ["CountTestMethod", "CountTestResult", "chi_square_test", "g_test"]

CountTestMethod: TypeAlias = Literal["auto", "asymptotic"]
Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Booleans: TypeAlias = NDArray[np.bool_]

# W. Cochran, "Some methods for strengthening the common chi-square tests", Biometrics 10, 1954: the chi-square
# distribution fits where every category expects at least five values.
_SMALLEST_EXPECTED = 5.0
# Probabilities that differ by less than this are taken for equal: rounding must not split what is tied.
_TIE_TOLERANCE = 1e-9
# A category tested exactly expects fewer than five values; 60 or more have a probability below 1e-40, and from there on
# each further value is at least ten times rarer: twenty more terms are all that float64 can see.
_LONG_TAIL = 60
_TERMS_BEYOND = 20
# Terms of exact probabilities computed at once: eight megabytes.
_TERMS_PER_BLOCK = 2**20


def _equal(left: Any, right: Any) -> bool:
    return bool(np.array_equal(left, right))


_EQUALITY = attrs.cmp_using(eq=_equal)


@final
@attrs.frozen
class CountTestResult:
    """What a test of two samples of counts found.

    Counts of one dimension give scalars, counts of shape ``(n_features, n_bins)`` arrays of shape ``(n_features,)``.

    Attributes:
        statistic: Chi-square or G of the whole table, at least 0; float64.
        pvalue: The probability of a difference at least as large if both samples had one distribution, in [0, 1]; an
            upper bound of it where ``method`` says so. Never NaN.
        degrees_of_freedom: Categories that either sample holds, less one.
        smallest_expected_count: The smallest count that any category expects in either sample.
        method: ``"asymptotic"`` (the chi-square distribution), ``"exact"`` (Fisher's, two categories of which one is
            rare) or ``"bonferroni"`` (rare categories tested exactly, each on its own, the others together; the
            p-value allows for the number of tests).
    """

    statistic: float | Floats = attrs.field(eq=_EQUALITY)
    pvalue: float | Floats = attrs.field(eq=_EQUALITY)
    degrees_of_freedom: int | Integers = attrs.field(eq=_EQUALITY)
    smallest_expected_count: float | Floats = attrs.field(eq=_EQUALITY)
    method: str | NDArray[np.str_] = attrs.field(eq=_EQUALITY)


def chi_square_test(
    reference_counts: ArrayLike, current_counts: ArrayLike, *, method: CountTestMethod = "auto"
) -> CountTestResult:
    """Pearson's chi-square test of two samples of counts, feature by feature.

    X² = Σᵢ (m·aᵢ − n·bᵢ)²/(n·m·(aᵢ + bᵢ)), n = Σa, m = Σb, with B − 1 degrees of freedom for the B categories that
    either sample holds (K. Pearson, "On the probability that two independent distributions of frequency are really
    samples from the same population", Biometrika 8, 1911). A category that only one sample holds, one never seen
    before, is a bin like any other, with a 0 on the other side; categories that neither holds are dropped.

    **Rare categories.** The chi-square distribution fits where every category expects at least five values in the
    smaller sample (Cochran, Biometrics 10, 1954); otherwise its p-values may be far too small. Then ``method="auto"``
    gives an upper bound instead, from the margins and exact probabilities, without drawing random numbers:

    - the categories that expect five or more are tested together, with all the rare ones as one further category if
      that expects five or more;
    - each rare category is tested against all the rest by Fisher's exact test (two-sided, summing what is no likelier
      than what was seen; R. A. Fisher, "Statistical Methods for Research Workers", 1934), as are all of them together
      where that makes no category above;
    - p = 2·min(p of the first, r·min p of the r exact ones) by Bonferroni, without the 2 where one kind is absent.

    Which categories are rare depends on the pooled counts only, so that the bound is valid given those; it is
    conservative, the more so the more rare categories there are: join them before, by meaning, where that hurts.

    A p-value bounds false alarms of *one* comparison. Over d features correct for d tests; over repeated windows no
    fixed level holds: at p <= 0.05 some 1 − 0.95⁵⁰ = 92 % of runs of 50 windows without any drift raise an alarm. And
    with many rows everything is significant: look at ``total_variation`` too.

    Args:
        reference_counts: Whole numbers, shape ``(n_categories,)`` or ``(n_features, n_categories)``; any real dtype.
            Features with fewer categories than others are padded with 0.
        current_counts: Likewise, in the same categories.
        method: ``"auto"``, or ``"asymptotic"`` for the chi-square distribution whatever the counts.

    Returns:
        The result: scalars for one dimension, arrays of shape ``(n_features,)`` otherwise. A single category gives a
        statistic of 0 and a p-value of 1.

    Raises:
        InvalidArgumentError: Not whole numbers, NaN, negative, no values in a feature, unequal shapes, or an unknown
            method.

    Example:
        >>> result = chi_square_test([30, 50, 20], [45, 35, 20])
        >>> round(result.statistic, 4), round(result.pvalue, 4), result.degrees_of_freedom, result.method
        (5.6471, 0.0594, 2, 'asymptotic')
        >>> rare = chi_square_test([990, 10, 0], [95, 2, 3])
        >>> round(rare.pvalue, 6), round(rare.smallest_expected_count, 4), rare.method
        (0.002193, 0.2727, 'bonferroni')
    """
    return _tested(reference_counts, current_counts, _pearson, method)


def g_test(
    reference_counts: ArrayLike, current_counts: ArrayLike, *, method: CountTestMethod = "auto"
) -> CountTestResult:
    """The likelihood-ratio (G) test of two samples of counts, feature by feature.

    G = 2·Σ observed·ln(observed/expected) over both samples, with B − 1 degrees of freedom for the B categories that
    either sample holds (S. Wilks, "The likelihood test of independence in contingency tables", Annals of Mathematical
    Statistics 6, 1935). Rare and unseen categories, the caveat, arguments and errors are as in ``chi_square_test``;
    where categories expect few values the G test strays further from the chi-square distribution than Pearson's, so
    that this one is rather for adding up information than for small counts.

    Args:
        reference_counts: Whole numbers, shape ``(n_categories,)`` or ``(n_features, n_categories)``; any real dtype.
        current_counts: Likewise, in the same categories.
        method: ``"auto"`` or ``"asymptotic"``.

    Returns:
        The result, as that of ``chi_square_test``.

    Raises:
        InvalidArgumentError: As in ``chi_square_test``.

    Example:
        >>> result = g_test([30, 50, 20], [45, 35, 20])
        >>> round(result.statistic, 4), round(result.pvalue, 4), result.degrees_of_freedom
        (5.6813, 0.0584, 2)
    """
    return _tested(reference_counts, current_counts, _likelihood_ratio, method)


def _pearson(a: Floats, b: Floats) -> Floats:
    n, m, pooled = a.sum(axis=1, keepdims=True), b.sum(axis=1, keepdims=True), a + b
    difference = m * a - n * b
    weight = n * m * pooled
    terms = np.divide(difference * difference, weight, out=np.zeros_like(a), where=weight > 0)
    return np.asarray(terms.sum(axis=1))


def _likelihood_ratio(a: Floats, b: Floats) -> Floats:
    from scipy import special

    n, m, pooled = a.sum(axis=1, keepdims=True), b.sum(axis=1, keepdims=True), a + b
    total: Floats = np.zeros(len(a))
    for observed, size, other in ((a, n, b), (b, m, a)):
        expected = pooled * (size / np.maximum(n + m, 1.0))
        # (observed - expected)/expected without the rounding of the expected count.
        excess = np.divide(
            (n + m - size) * observed - size * other, size * pooled, out=np.zeros_like(a), where=size * pooled > 0
        )
        # Σ(observed - expected) = 0: taking it away makes every term at least 0, and small ones accurate.
        terms = expected * (special.xlog1py(1.0 + excess, np.maximum(excess, -1.0)) - excess)
        total += 2.0 * np.maximum(terms, 0.0).sum(axis=1)
    return total


def _tested(
    reference_counts: ArrayLike, current_counts: ArrayLike, find: Callable[[Floats, Floats], Floats], method: str
) -> CountTestResult:
    if method not in get_args(CountTestMethod):
        raise InvalidArgumentError("method", method, f"one of {', '.join(get_args(CountTestMethod))}")
    counts = checked_counts(reference_counts, current_counts, whole=True)
    a, b = counts.reference, counts.current
    pooled = a + b
    smaller = np.minimum(a.sum(axis=1), b.sum(axis=1))
    expected = pooled * (smaller / pooled.sum(axis=1))[:, np.newaxis]
    categories = (pooled > 0).sum(axis=1)
    smallest = np.min(expected, axis=1, where=pooled > 0, initial=np.inf)
    statistic = find(a, b)
    pvalue = _chi_square_tail(statistic, categories - 1)
    methods = np.full(len(a), "asymptotic")
    # A single category leaves nothing to test.
    rare = np.flatnonzero((smallest < _SMALLEST_EXPECTED) & (categories > 1))
    if method == "auto" and rare.size:
        pvalue[rare] = _bounded(a[rare], b[rare], expected[rare], categories[rare], find)
        methods[rare] = np.where(categories[rare] == 2, "exact", "bonferroni")
    if counts.is_single:
        return CountTestResult(
            float(statistic[0]), float(pvalue[0]), int(categories[0]) - 1, float(smallest[0]), str(methods[0])
        )
    return CountTestResult(statistic, pvalue, categories - 1, smallest, methods)


def _chi_square_tail(statistic: Floats, degrees: Integers) -> Floats:
    from scipy import special

    tail = special.gammaincc(np.maximum(degrees, 1) / 2.0, statistic / 2.0)
    return np.where(degrees > 0, tail, 1.0)


def _bounded(
    a: Floats, b: Floats, expected: Floats, categories: Integers, find: Callable[[Floats, Floats], Floats]
) -> Floats:
    """The upper bound of ``chi_square_test`` for features of two or more categories, some of them rare."""
    pooled = a + b
    n, m = a.sum(axis=1), b.sum(axis=1)
    rare = (pooled > 0) & (expected < _SMALLEST_EXPECTED)
    n_rare = rare.sum(axis=1)
    joined = np.stack([np.where(rare, counts, 0.0).sum(axis=1) for counts in (a, b)])
    is_common = joined.sum(axis=0) * np.minimum(n, m) / (n + m) >= _SMALLEST_EXPECTED

    table = [
        np.column_stack([np.where(rare, 0.0, counts), np.where(is_common, of_rare, 0.0)])
        for counts, of_rare in zip((a, b), joined, strict=True)
    ]
    degrees = np.maximum((table[0] + table[1] > 0).sum(axis=1) - 1, 0)
    together = _chi_square_tail(find(*table), degrees)

    # The rare categories joined are a test of their own if they are several, and not all there is.
    is_tested = ~is_common & (n_rare > 1) & (n_rare < categories)
    feature, category = np.nonzero(rare)
    tested = np.concatenate([feature, np.flatnonzero(is_tested)])
    held = np.concatenate([pooled[feature, category], joined.sum(axis=0)[is_tested]])
    in_smaller = np.where(
        m[tested] <= n[tested],
        np.concatenate([b[feature, category], joined[1, is_tested]]),
        np.concatenate([a[feature, category], joined[0, is_tested]]),
    )
    each = _fisher(in_smaller, held, np.minimum(n, m)[tested], np.maximum(n, m)[tested])
    exact = np.ones(len(a))
    np.minimum.at(exact, tested, each)
    # Of two categories, each against the rest is one and the same test.
    exact *= np.where(categories == 2, 1, n_rare + is_tested)
    return np.minimum(np.where(degrees > 0, 2.0 * np.minimum(together, exact), exact), 1.0)


def _fisher(seen: Floats, held: Floats, smaller: Floats, larger: Floats) -> Floats:
    """Two-sided exact p-values of 2 × 2 tables with a rare category.

    Args:
        seen: Values of the category in the smaller sample, shape ``(n_tests,)``.
        held: Its values in both samples.
        smaller: Size of the smaller sample.
        larger: Size of the other.
    """
    # Rare categories repeat the same few counts: each table is summed once.
    tables, which = np.unique(np.stack([held, seen, smaller, larger]), axis=1, return_inverse=True)
    held, seen, smaller, larger = tables
    lowest = np.maximum(held - larger, 0.0)
    highest = np.minimum(np.minimum(held, smaller), np.maximum(np.maximum(seen, lowest), _LONG_TAIL) + _TERMS_BEYOND)
    pvalues = np.empty(len(seen))
    order = np.argsort(highest - lowest, kind="stable")
    while order.size:
        terms = int((highest - lowest)[order[-1]]) + 1
        block, order = np.split(order[::-1], [max(1, _TERMS_PER_BLOCK // terms)])
        order = order[::-1]
        columns = np.stack([seen, held, smaller, larger, lowest, highest])[:, block, np.newaxis]
        pvalues[block] = _summed(columns, terms)
    answers: Floats = pvalues[which.ravel()]
    return answers


def _summed(columns: Floats, terms: int) -> Floats:
    """Hypergeometric probabilities by the ratios of neighbours: accurate however large the samples are."""
    seen, held, smaller, larger, lowest, highest = columns
    value = lowest + np.arange(terms - 1)
    up = np.maximum((held - value) * (smaller - value), 1.0)
    down = np.maximum((value + 1.0) * (larger - held + value + 1.0), 1.0)
    steps = np.where(value < highest, np.log(up) - np.log(down), -np.inf)
    logarithms = np.concatenate([np.zeros_like(seen), np.cumsum(steps, axis=1)], axis=1)
    with np.errstate(under="ignore"):
        weights = np.exp(logarithms - logarithms.max(axis=1, keepdims=True))
        of_seen = np.take_along_axis(weights, (seen - lowest).astype(np.intp), axis=1)
        as_rare = np.where(weights <= of_seen * (1.0 + _TIE_TOLERANCE), weights, 0.0)
        return np.asarray(as_rare.sum(axis=1) / weights.sum(axis=1))
