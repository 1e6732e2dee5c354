"""P-values given the ties: the permutation distribution of the pooled sample, by enumeration."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_ks_oracles import ALTERNATIVES, counted_pvalue, enumerated_pvalue, sort_key, threshold, within

from mlserve.numerics import SortedReference, ks_2samp, ks_pvalue

LAW = settings(deadline=None, max_examples=60)
TIED = st.lists(st.sampled_from([0.0, 1.0, 2.0, 5.0, np.inf, np.nan]), min_size=1, max_size=24)


def group_sizes(pooled: list[Any]) -> list[int]:
    keys = sorted(sort_key(value) for value in pooled)
    return [len(list(group)) for _, group in itertools.groupby(keys)]


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 1), (2, 3), (3, 3), (4, 3), (3, 5)])
def test_every_small_tied_sample_is_enumerated(alternative: Any, n: int, m: int) -> None:
    """For all samples of up to three distinct values the p-value is the share of splits at least as extreme."""
    for reference in itertools.combinations_with_replacement(range(3), n):
        for current in itertools.combinations_with_replacement(range(3), m):
            result = ks_2samp(reference, current, alternative=alternative)
            expected = enumerated_pvalue(reference, current, alternative)
            tied = len({*reference, *current}) < n + m
            assert result.pvalue == within(1e-13, float(expected))
            assert result.ties is tied
            assert result.method == ("exact-ties" if tied else "exact")


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@given(reference=TIED, current=TIED)
@LAW
def test_tied_samples_are_counted(alternative: Any, reference: list[float], current: list[float]) -> None:
    """The p-value is the one counted in whole numbers at the ends of tie groups, NaN being a group of its own."""
    result = ks_2samp(reference, current, alternative=alternative)
    height = threshold(reference, current, alternative)
    n, m = len(reference), len(current)
    expected = counted_pvalue(height, n, m, alternative, group_sizes([*reference, *current]))
    assert result.pvalue == within(1e-12, float(expected))


@pytest.mark.parametrize(("n", "m"), [(60, 75), (20, 150), (90, 90), (150, 21)])
@pytest.mark.parametrize("decimals", [0, 1, 2])
def test_many_tied_features_at_once_are_each_counted(n: int, m: int, decimals: int) -> None:
    """Features of any mixture of drift and ties, counted together, are each the one counted in whole numbers."""
    generator = np.random.default_rng(decimals)
    reference = np.round(generator.normal(size=(n, 6)), decimals)
    current = np.round(generator.normal(np.linspace(0.0, 3.0, 6), size=(m, 6)), decimals)
    for alternative in ALTERNATIVES:
        result = SortedReference(reference).ks_2samp(current, alternative=alternative)
        for j in range(6):
            pooled = [*reference[:, j].tolist(), *current[:, j].tolist()]
            height = threshold(reference[:, j].tolist(), current[:, j].tolist(), alternative)
            expected = counted_pvalue(height, n, m, alternative, group_sizes(pooled))
            assert result.pvalue[j] == within(1e-11, float(expected))


@given(reference=TIED, current=TIED)
@LAW
def test_ties_never_raise_the_pvalue(reference: list[float], current: list[float]) -> None:
    """The untied p-value of the same statistic is an upper bound, as the documentation says of large samples."""
    for alternative in ALTERNATIVES:
        result = ks_2samp(reference, current, alternative=alternative)
        untied = ks_pvalue(result.statistic, len(reference), len(current), alternative=alternative, method="exact")
        assert result.pvalue <= untied * (1 + 1e-12)


def test_a_tie_free_pattern_gives_the_untied_pvalue() -> None:
    """Counting with ties tends to counting without: one tied pair far from the supremum changes little."""
    reference, current = np.arange(0.0, 200.0, 2.0), np.arange(1.0, 301.0, 2.0)
    untied = ks_2samp(reference, current)
    tied = ks_2samp(reference, np.append(current[:-1], current[-2]))
    assert (untied.method, tied.method) == ("exact", "exact-ties")
    assert tied.pvalue == within(0.05, untied.pvalue)


def test_constant_samples_have_one_order() -> None:
    """Where all values are equal every split is the same, and p is 1."""
    for size in (1, 30, 1500):
        result = ks_2samp(np.full(size, 7), np.full(size + 1, 7))
        assert (result.statistic, result.pvalue) == (0.0, 1.0)


def test_two_values_are_fishers_exact_test() -> None:
    """One-sided on flags, D is a difference of shares and p Fisher's exact p-value, also where it is tiny."""
    from scipy import stats

    for n, ones, m, others in ((30, 5, 40, 20), (500, 3, 700, 90), (1500, 20, 2400, 2300), (9, 0, 9, 9)):
        reference, current = np.arange(n) < ones, np.arange(m) < others
        result = ks_2samp(reference, current, alternative="greater")
        table = [[ones, n - ones], [others, m - others]]
        assert result.method == "exact-ties"
        assert result.pvalue == within(1e-8, stats.fisher_exact(table, alternative="less").pvalue)


def test_large_tied_samples_are_conservative_unless_exact_is_asked_for() -> None:
    """Beyond N = 4000 auto gives the untied, larger p-value and says so; exact still counts the ties."""
    generator = np.random.default_rng(0)
    reference, current = generator.integers(0, 4, 3000), generator.integers(0, 4, 1001)
    auto, exact = ks_2samp(reference, current), ks_2samp(reference, current, method="exact")
    assert (auto.method, exact.method) == ("asymptotic", "exact-ties")
    assert auto.ties is exact.ties is True
    assert auto.pvalue > exact.pvalue
    at_the_limit = ks_2samp(reference, current[:1000])
    assert at_the_limit.method == "exact-ties"


def test_tied_and_untied_features_stand_side_by_side() -> None:
    """Each feature of a table is computed as its own ties demand, and says how."""
    generator = np.random.default_rng(0)
    reference, current = generator.normal(size=(50, 3)), generator.normal(size=(60, 3))
    reference[:, 1], current[:, 1] = np.round(reference[:, 1]), np.round(current[:, 1])
    current[0, 2] = reference[0, 2]
    result = ks_2samp(reference, current)
    assert result.method.tolist() == ["exact", "exact-ties", "exact-ties"]
    assert result.ties.tolist() == [False, True, True]


def test_false_alarms_with_ties_never_exceed_the_level() -> None:
    """Without drift on few-valued data P(p <= level) is at most the level, in 4 000 null tests."""
    generator = np.random.default_rng(2)
    found = ks_2samp(generator.integers(0, 6, (50, 4000)), generator.integers(0, 6, (70, 4000))).pvalue
    for level in (0.01, 0.05, 0.2):
        assert np.mean(found <= level) <= level + 4 * np.sqrt(level * (1 - level) / 4000)
