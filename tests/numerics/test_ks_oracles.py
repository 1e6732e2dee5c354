"""Slow, plain computations of the Kolmogorov-Smirnov test that share nothing with the library, and proofs of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

Key = tuple[int, Any]

ALTERNATIVES = ("two-sided", "greater", "less")


def sort_key(value: Any) -> Key:
    """NaN as a value of its own above all others; Python numbers compare exactly, whatever their types."""
    return (1, 0) if value != value else (0, value)


def within(relative: float, expected: Any) -> Any:
    """Equal up to a relative error alone: pytest's absolute tolerance of 1e-12 would let any tiny p-value pass."""
    return pytest.approx(expected, rel=relative, abs=0.0)


def differences(reference: Iterable[Any], current: Iterable[Any]) -> list[tuple[Any, int]]:
    """Every distinct pooled value, ascending, with n*m*(F_reference - F_current) there."""
    first, second = [sort_key(value) for value in reference], [sort_key(value) for value in current]
    n, m = len(first), len(second)
    return [
        (key, m * sum(other <= key for other in first) - n * sum(other <= key for other in second))
        for key in sorted(set(first) | set(second))
    ]


def oriented(height: int, alternative: str) -> int:
    return abs(height) if alternative == "two-sided" else height if alternative == "greater" else -height


def threshold(reference: Sequence[Any], current: Sequence[Any], alternative: str) -> int:
    """n*m*D."""
    return max(0, max(oriented(height, alternative) for _, height in differences(reference, current)))


def enumerated_pvalue(reference: Sequence[Any], current: Sequence[Any], alternative: str) -> Fraction:
    """The share of all splits of the pooled sample whose statistic is at least the observed one."""
    pooled = sorted([*reference, *current], key=sort_key)
    n = len(reference)
    observed = threshold(reference, current, alternative)
    hits = total = 0
    for chosen in itertools.combinations(range(len(pooled)), n):
        first = [pooled[index] for index in chosen]
        second = [pooled[index] for index in set(range(len(pooled))) - set(chosen)]
        hits += threshold(first, second, alternative) >= observed
        total += 1
    return Fraction(hits, total)


def counted_pvalue(
    height: int, n: int, m: int, alternative: str = "two-sided", group_sizes: Sequence[int] | None = None
) -> Fraction:
    """The p-value by counting the lattice paths that stay inside, in whole numbers, row by row.

    The path is at ``(i, j)`` once it has taken i values of the sample of size n and j of the other. Given the sizes of
    the tie groups, only points between groups count.
    """
    checked = set(itertools.accumulate(group_sizes)) if group_sizes is not None else set(range(n + m + 1))
    inside = [0] * (m + 1)
    for i in range(n + 1):
        for j in range(m + 1):
            paths = (1 if j == 0 else inside[j - 1]) if i == 0 else inside[j] + (inside[j - 1] if j else 0)
            is_outside = i + j in checked and oriented(i * m - j * n, alternative) >= height
            inside[j] = 0 if is_outside else paths
    total = math.comb(n + m, n)
    return Fraction(total - inside[m], total)


def float_pvalues(heights: Sequence[int], n: int, m: int, alternative: str) -> np.ndarray[Any, Any]:
    """``counted_pvalue`` for several heights at once, without ties, in floats: good to about 1e-11 absolutely.

    A row of the lattice is the running sum of the row before, cut where it is outside.
    """
    column, j = np.asarray(heights, dtype=np.int64)[:, None], np.arange(m + 1, dtype=np.int64)
    inside = np.zeros((column.size, m + 1))
    inside[:, 0] = 1.0
    log_scale = np.zeros((column.size, 1))
    for i in range(n + 1):
        difference = i * m - j * n
        measured = {"two-sided": abs(difference), "greater": difference, "less": -difference}[alternative]
        allowed = measured[None, :] < column
        # What is outside on one side of a row must not be carried on through the cut.
        inside = np.where(allowed, inside, 0.0)
        start = np.cumsum(inside, axis=1)
        cut = np.where(allowed, 0.0, start)
        inside = np.where(allowed, start - np.maximum.accumulate(cut, axis=1), 0.0)
        peak = np.maximum(inside.max(axis=1, keepdims=True), 1e-300)
        inside /= peak
        log_scale += np.log(peak)
    log_total = math.lgamma(n + m + 1) - math.lgamma(n + 1) - math.lgamma(m + 1)
    stayed = inside[:, -1] * np.exp(np.minimum(log_scale[:, 0] - log_total, 1.0))
    result: np.ndarray[Any, Any] = 1.0 - stayed
    return result


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_counting_agrees_with_enumeration_without_ties(alternative: str) -> None:
    """Counted and enumerated p-values of the same untied samples are the same fraction."""
    for n, m in ((1, 1), (2, 3), (4, 4), (3, 5)):
        for chosen in itertools.combinations(range(n + m), n):
            reference, current = list(chosen), sorted(set(range(n + m)) - set(chosen))
            height = threshold(reference, current, alternative)
            assert counted_pvalue(height, n, m, alternative) == enumerated_pvalue(reference, current, alternative)


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_counting_agrees_with_enumeration_with_ties(alternative: str) -> None:
    """The same with tied samples, given the sizes of the groups."""
    for reference, current in (([0, 0, 1], [0, 1, 1, 2]), ([1, 1, 1], [1, 1]), ([0, 1, 2, 2], [2, 3, 3])):
        pooled = sorted([*reference, *current])
        sizes = [pooled.count(value) for value in sorted(set(pooled))]
        height = threshold(reference, current, alternative)
        counted = counted_pvalue(height, len(reference), len(current), alternative, sizes)
        assert counted == enumerated_pvalue(reference, current, alternative)


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_counting_in_floats_agrees_with_counting_in_whole_numbers(alternative: str) -> None:
    """The float oracle is within 1e-11 of the exact one at every attainable height."""
    for n, m in ((1, 4), (5, 5), (7, 12), (30, 41)):
        step = math.gcd(n, m)
        heights = list(range(step, n * m + 1, max(step, n * m // 40 // step * step)))
        exact = [float(counted_pvalue(height, n, m, alternative)) for height in heights]
        np.testing.assert_allclose(float_pvalues(heights, n, m, alternative), exact, rtol=0, atol=1e-11)
