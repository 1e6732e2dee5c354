"""Categories against their baseline: counts, a test of homogeneity, and what was never seen before."""

from __future__ import annotations

import heapq
import math
from typing import Any, cast

import attrs
import numpy as np

from mlserve.drift._columns import Column
from mlserve.numerics import chi_square_test, total_variation

SHARES_KEPT = 10
"""Categories whose shares are told, at most."""

UNSEEN_NAMED = 5
"""Categories never seen before that are named, at most."""


@attrs.frozen
class CategoryComparison:
    """Two samples of categories; a missing value is a category of its own.

    Attributes:
        statistic: Pearson's χ².
        p_value: Safe where categories are rare; 1 where there is nothing to tell apart.
        degrees_of_freedom: Categories less one.
        method: How ``p_value`` was computed, see ``mlserve.numerics.chi_square_test``.
        total_variation: ½·Σ|p − q|, in [0, 1].
        n_categories: Categories in either sample.
        shares: The commonest categories of both, with their share in each.
        unseen: The commonest categories of the second sample that the first does not have.
        unseen_count: Rows of the second sample in such categories.
        unseen_p_value: The chance that none of these rows fell in the first sample if both had one distribution:
            C(m, k)/C(n + m, k). 1 where there are none.
        missing_before: Share of missing values in the first sample.
        missing_after: Share of missing values in the second sample.
    """

    statistic: float
    p_value: float
    degrees_of_freedom: int
    method: str
    total_variation: float
    n_categories: int
    shares: tuple[tuple[str, float, float], ...]
    unseen: tuple[str, ...]
    unseen_count: int
    unseen_p_value: float
    missing_before: float
    missing_after: float


def compare_categories(before: Column, after: Column) -> CategoryComparison:
    """Compare two samples of categories, each of at least one row."""
    first, second = before.category_counts(), after.category_counts()
    n, m = before.size, after.size
    pooled = {name: (first.get(name, 0), second.get(name, 0)) for name in {**first, **second}}
    # Sorted, so that sums are rounded alike in whatever order the categories were met.
    counts = np.array(sorted(pair for pair in pooled.values() if any(pair)), np.int64).T
    test: Any = chi_square_test(counts[0], counts[1])
    unseen = {name: pair[1] for name, pair in pooled.items() if not pair[0] and name is not None}
    unseen_count = sum(unseen.values())
    return CategoryComparison(
        statistic=float(test.statistic),
        p_value=float(test.pvalue),
        degrees_of_freedom=int(test.degrees_of_freedom),
        method=str(test.method),
        total_variation=float(cast(float, total_variation(counts[0], counts[1]))),
        n_categories=counts.shape[1],
        shares=tuple(
            ("(missing)" if name is None else str(name), pooled[name][0] / n, pooled[name][1] / m)
            for name in _commonest({name: sum(pair) for name, pair in pooled.items()}, SHARES_KEPT)
        ),
        unseen=tuple(str(name) for name in _commonest(unseen, UNSEEN_NAMED)),
        unseen_count=unseen_count,
        unseen_p_value=all_in_second(unseen_count, n, m),
        missing_before=first[None] / n,
        missing_after=second[None] / m,
    )


def _commonest(counts: dict[Any, int], limit: int) -> list[Any]:
    """The names of the largest counts; of equal ones, in the order of the alphabet."""
    found = [name for name, count in counts.items() if count]
    return heapq.nsmallest(limit, found, key=lambda name: (-counts[name], str(name), type(name).__name__))


def all_in_second(k: int, n: int, m: int) -> float:
    """The chance that k given rows out of n + m all fall among the m: C(m, k)/C(n + m, k).

    Args:
        k: Rows, at most m.
        n: Size of the first sample.
        m: Size of the second.
    """
    return math.exp(
        math.lgamma(m + 1) - math.lgamma(m - k + 1) - math.lgamma(n + m + 1) + math.lgamma(n + m - k + 1)
    ) if k else 1.0  # fmt: skip


def total_variation_radius(n: int, n_categories: int, alpha: float) -> float:
    """How far the total variation of a sample is from that of its distribution, at most, with probability 1 − α.

    ½·√(2·ln((2^K − 2)/α)/n), from P(‖p̂ − p‖₁ ≥ ε) ≤ (2^K − 2)·exp(−n·ε²/2) (Weissman, Ordentlich, Seroussi, Verdú,
    Weinberger, "Inequalities for the L1 deviation of the empirical distribution", HP Labs, 2003).

    Args:
        n: Size of the sample, at least 1.
        n_categories: K.
        alpha: In [0, 1].
    """
    if n_categories < 2:
        return 0.0
    if alpha <= 0:
        return 1.0
    log_count = n_categories * math.log(2) + math.log1p(-(2.0 ** (1 - n_categories)))
    return 0.5 * math.sqrt(2 * (log_count - math.log(alpha)) / n)


def smallest_significant_variation(n: int, m: int, degrees_of_freedom: int, alpha: float) -> float:
    """A total variation that is always significant: ½·√(χ²_α·(1/n + 1/m)).

    By Cauchy and Schwarz, χ² ≥ 4·TV²·nm/(n + m), with equality when every category moved in proportion to its share.

    Args:
        n: Size of one sample.
        m: Size of the other.
        degrees_of_freedom: Of the test.
        alpha: Its level.
    """
    from scipy.special import chdtri

    if degrees_of_freedom < 1 or alpha <= 0:
        return 1.0
    return min(1.0, 0.5 * math.sqrt(float(chdtri(degrees_of_freedom, alpha)) * (1 / n + 1 / m)))
