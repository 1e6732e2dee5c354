"""Distances of binned samples, tests of counts, and Wasserstein-1."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from scipy.spatial import distance as scipy_distance

from mlserve.errors import InvalidArgumentError
from mlserve.numerics._count_tests import chi_square_test, g_test
from mlserve.numerics._distances import (
    hellinger_distance,
    jensen_shannon_distance,
    population_stability_index,
    psi_null_bias,
    psi_null_quantile,
    total_variation,
)
from mlserve.numerics._wasserstein import wasserstein_1

ROOT = Path(__file__).resolve().parents[2]
BOUNDED = [total_variation, hellinger_distance, jensen_shannon_distance]
DISTANCES = [*BOUNDED, population_stability_index]
TESTS = [chi_square_test, g_test]


@st.composite
def pairs(draw, n=2, largest=200):
    """Several samples counted in the same bins, none empty."""
    bins = draw(st.integers(1, 8))
    sample = hnp.arrays(np.int64, bins, elements=st.integers(0, largest)).filter(lambda array: array.sum() > 0)
    return tuple(draw(sample) for _ in range(n))


values = st.floats(-1e6, 1e6, width=32)
samples = hnp.arrays(np.float64, st.integers(1, 40), elements=values)


# Population stability index.


def test_psi_is_the_sum_of_its_definition():
    """PSI is the sum over bins of (p - q) ln(p/q) with half a count added to every filled bin."""
    a, b = [50, 30, 20, 0], [10, 0, 60, 3]
    expected = 0.0
    for x, y in zip(a, b, strict=True):
        p, q = (x + 0.5) / (100 + 2), (y + 0.5) / (73 + 2)
        expected += (p - q) * math.log(p / q)
    assert population_stability_index(a, b) == pytest.approx(expected, rel=1e-14)


def test_psi_of_a_shift_into_empty_bins_stays_near_the_truth():
    """Half counts give normal data that moved by one sigma a PSI near the true 1.0, not one of an epsilon."""
    edges = np.linspace(-3, 3, 21)
    rng = np.random.default_rng(3)
    a, b = (
        np.bincount(np.digitize(sample, edges), minlength=22)
        for sample in (rng.normal(size=2000), rng.normal(1.0, size=2000))
    )
    assert 0.8 < population_stability_index(a, b) < 1.3


def test_psi_ignores_bins_that_both_leave_empty():
    """Empty bins on both sides change nothing."""
    assert population_stability_index([3, 0, 5, 0], [4, 0, 1, 0]) == population_stability_index([3, 5], [4, 1])


@pytest.mark.parametrize("n_bins", [2, 10, 20])
def test_psi_has_the_null_mean_it_states(n_bins):
    """Without drift the mean PSI is (B - 1)(1/n + 1/m), up to the simulation's error and the next order, B/n of it."""
    n, m, runs = 4000, 2000, 4000
    rng = np.random.default_rng(11)
    shares = np.full(n_bins, 1 / n_bins)
    found = population_stability_index(rng.multinomial(n, shares, size=runs), rng.multinomial(m, shares, size=runs))
    bias = psi_null_bias(n, m, n_bins)
    simulation_error = math.sqrt(2 / (n_bins - 1)) * bias / math.sqrt(runs)
    assert abs(found.mean() - bias) < 4 * simulation_error + bias * n_bins / m


def test_psi_exceeds_its_null_quantile_as_often_as_it_should():
    """Without drift 5 % of PSI values exceed the 95 % quantile, up to four binomial errors and the next order."""
    n, m, n_bins, runs = 4000, 2000, 10, 8000
    rng = np.random.default_rng(12)
    shares = np.full(n_bins, 1 / n_bins)
    found = population_stability_index(rng.multinomial(n, shares, size=runs), rng.multinomial(m, shares, size=runs))
    rate = (found > psi_null_quantile(n, m, n_bins, 0.95)).mean()
    assert abs(rate - 0.05) < 4 * math.sqrt(0.05 * 0.95 / runs) + 0.05 * n_bins / m


def test_psi_limits_of_the_trade_alarm_on_nothing():
    """At 100 against 100 rows in ten bins most PSI values exceed 0.1 without any drift."""
    rng = np.random.default_rng(13)
    shares = np.full(10, 0.1)
    found = population_stability_index(rng.multinomial(100, shares, size=2000), rng.multinomial(100, shares, size=2000))
    assert (found >= 0.1).mean() > 0.75


@pytest.mark.parametrize("q", [0.0, 1e-9, 0.5, 0.95, 0.999999])
def test_psi_null_quantile_is_a_scaled_chi_square(q):
    """The quantile is (1/n + 1/m) times that of chi-square with B - 1 degrees of freedom."""
    expected = (1 / 300 + 1 / 70) * stats.chi2.ppf(q, 11)
    assert psi_null_quantile(300, 70, 12, q) == pytest.approx(expected, rel=1e-12)


def test_one_bin_has_no_psi():
    """With one bin bias, quantile and index are 0."""
    found = psi_null_bias(5, 7, 1), psi_null_quantile(5, 7, 1, 0.99), population_stability_index([5], [7])
    assert found == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("arguments", [(0, 5, 3), (5, 0, 3), (5, 5, 0), (math.nan, 5, 3), (5, math.inf, 3)])
def test_psi_null_refuses_sizes_that_cannot_be(arguments):
    """Sizes and bins below 1, NaN or infinite are errors of ours."""
    with pytest.raises(InvalidArgumentError):
        psi_null_bias(*arguments)
    with pytest.raises(InvalidArgumentError):
        psi_null_quantile(*arguments, 0.5)


@pytest.mark.parametrize("q", [-0.1, 1.0, math.nan])
def test_psi_null_quantile_refuses_what_is_no_probability(q):
    """The probability lies in [0, 1)."""
    with pytest.raises(InvalidArgumentError):
        psi_null_quantile(10, 10, 3, q)


# Bounded distances.


@given(pairs(), st.sampled_from([None, 2, 10]))
@settings(deadline=None, max_examples=100)
def test_jensen_shannon_is_that_of_scipy(pair, base):
    """The distance and its base are those of scipy.spatial.distance, to the root of its rounding error."""
    assert jensen_shannon_distance(*pair, base=base) == pytest.approx(
        scipy_distance.jensenshannon(*pair, base=base), abs=3e-8
    )


def test_jensen_shannon_is_accurate_where_shares_are_nearly_equal():
    """Of shares that differ by 1e-7 the distance has seven digits, where the textbook sum has none."""
    assert jensen_shannon_distance([0.5 + 1e-7, 0.5 - 1e-7], [0.5, 0.5]) == pytest.approx(1e-7 / math.sqrt(2), rel=1e-6)


def test_hand_enumerated_distances():
    """Of two samples that share half their mass T = 1/2, and H² and the divergence in bits are 1/2 too."""
    a, b = [50, 50, 0], [0, 50, 50]
    assert total_variation(a, b) == 0.5
    assert hellinger_distance(a, b) == pytest.approx(math.sqrt(1 - 0.5), rel=1e-15)
    assert jensen_shannon_distance(a, b, base=2) == pytest.approx(math.sqrt(0.5), rel=1e-15)


@pytest.mark.parametrize(("distance", "largest"), [*zip(BOUNDED, [1.0, 1.0, math.sqrt(math.log(2))], strict=True)])
def test_disjoint_samples_are_as_far_apart_as_can_be(distance, largest):
    """Samples that share no bin have the largest distance."""
    assert distance([3, 0, 7], [0, 5, 0]) == pytest.approx(largest, rel=1e-15)


@given(pairs())
@settings(deadline=None, max_examples=100)
def test_distances_are_bounded_and_symmetric(pair):
    """Every distance lies within its bounds, whichever sample comes first, and equal samples have distance 0."""
    for distance, largest in zip(DISTANCES, [1, 1, math.sqrt(math.log(2)), math.inf], strict=True):
        found = distance(*pair)
        assert 0 <= found <= largest
        assert found == distance(*pair[::-1])
        assert distance(pair[0], pair[0]) == 0


@given(pairs(n=3))
@settings(deadline=None, max_examples=100)
def test_metrics_satisfy_the_triangle_inequality(three):
    """Total variation, Hellinger and Jensen-Shannon are metrics."""
    a, b, c = three
    for distance in BOUNDED:
        assert distance(a, c) <= distance(a, b) + distance(b, c) + 1e-12


@given(pairs())
@settings(deadline=None, max_examples=100)
def test_hellinger_and_total_variation_bound_each_other(pair):
    """H² <= T <= H·√(2 - H²)."""
    h, t = hellinger_distance(*pair), total_variation(*pair)
    assert h * h <= t + 1e-12
    assert t <= h * math.sqrt(2 - h * h) + 1e-12


@given(pairs(), st.integers(1, 1000), st.integers(1, 1000))
@settings(deadline=None, max_examples=100)
def test_distances_of_shares_do_not_depend_on_how_many_were_counted(pair, times, other_times):
    """Counts times a constant are the same shares."""
    a, b = pair
    for distance in BOUNDED:
        assert distance(a * times, b * other_times) == pytest.approx(distance(a, b), rel=1e-9, abs=1e-15)


@given(pairs(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=100)
def test_order_of_bins_and_empty_bins_do_not_matter(pair, random):
    """Bins may come in any order, and bins that both leave empty may be added, in distances and in tests."""
    order = list(range(pair[0].size + 2))
    random.shuffle(order)
    moved = [np.append(sample, [0, 0])[order] for sample in pair]
    for distance in DISTANCES:
        assert distance(*moved) == pytest.approx(distance(*pair), rel=1e-12, abs=1e-15)
    for test in TESTS:
        before, after = test(*pair), test(*moved)
        assert after.pvalue == pytest.approx(before.pvalue, rel=1e-9)
        assert after.statistic == pytest.approx(before.statistic, rel=1e-9, abs=1e-12)
        assert (after.degrees_of_freedom, after.method) == (before.degrees_of_freedom, before.method)


@given(pairs())
@settings(deadline=None, max_examples=100)
def test_merging_bins_never_brings_samples_further_apart(pair):
    """Joining two bins loses information: no bounded distance and no statistic grows."""
    assume(pair[0].size > 1)
    merged = [np.append(sample[2:], sample[:2].sum()) for sample in pair]
    for distance in BOUNDED:
        assert distance(*merged) <= distance(*pair) + 1e-12
    for test in TESTS:
        assert test(*merged).statistic <= test(*pair).statistic * (1 + 1e-9) + 1e-9


@given(st.lists(pairs(), min_size=1, max_size=5))
@settings(deadline=None, max_examples=60)
def test_features_are_independent_of_each_other(features):
    """A table of features gives for each what the feature alone gives."""
    width = max(pair[0].size for pair in features)
    tables = [np.stack([np.pad(pair[side], (0, width - pair[side].size)) for pair in features]) for side in (0, 1)]
    for distance in DISTANCES:
        expected = [distance(*pair) for pair in features]
        assert distance(*tables).tolist() == pytest.approx(expected, rel=1e-12, abs=1e-15)
    for test in TESTS:
        found = test(*tables)
        each = [test(*pair) for pair in features]
        assert found.pvalue.tolist() == pytest.approx([result.pvalue for result in each], rel=1e-9)
        assert found.method.tolist() == [result.method for result in each]
        assert found.degrees_of_freedom.tolist() == [result.degrees_of_freedom for result in each]


@pytest.mark.parametrize("base", [1, 0.5, 0, -2, math.nan, math.inf])
def test_base_of_logarithms_is_above_one(base):
    """Other bases are refused."""
    with pytest.raises(InvalidArgumentError):
        jensen_shannon_distance([1, 2], [2, 1], base=base)


# Tests of counts.


@given(pairs())
@settings(deadline=None, max_examples=100)
def test_asymptotic_tests_are_those_of_scipy(pair):
    """Statistic, p-value and degrees of freedom are those of scipy's contingency tests without correction."""
    table = np.stack(pair)
    table = table[:, table.sum(axis=0) > 0]
    assume(table.shape[1] > 1)
    for test, name in ((chi_square_test, "pearson"), (g_test, "log-likelihood")):
        found = test(*pair, method="asymptotic")
        expected = stats.chi2_contingency(table, correction=False, lambda_=name)
        assert found.statistic == pytest.approx(expected.statistic, rel=1e-9, abs=1e-9)
        assert found.pvalue == pytest.approx(expected.pvalue, rel=1e-7)
        assert found.degrees_of_freedom == expected.dof
        assert found.smallest_expected_count == pytest.approx(expected.expected_freq.min(), rel=1e-12)
        assert found.method == "asymptotic"


@pytest.mark.parametrize("test", TESTS)
def test_auto_is_asymptotic_where_all_categories_expect_five(test):
    """Without rare categories the safe answer is the chi-square one."""
    a, b = [30, 50, 20], [45, 35, 20]
    assert test(a, b) == test(a, b, method="asymptotic")


@given(st.integers(1, 60), st.integers(1, 2000), st.data())
@settings(deadline=None, max_examples=200)
def test_two_categories_of_which_one_is_rare_are_fishers_exact_test(n, m, data):
    """With two categories the safe p-value is that of scipy's fisher_exact."""
    held = data.draw(st.integers(1, n + m - 1))
    seen = data.draw(st.integers(max(0, held - m), min(held, n)))
    table = [[seen, n - seen], [held - seen, m - held + seen]]
    found = chi_square_test(*table)
    assume(found.method == "exact")
    assert found.pvalue == pytest.approx(stats.fisher_exact(table).pvalue, rel=1e-9)


def test_all_small_tables_of_two_categories():
    """Every two by two table of samples up to six is Fisher's exact test, whichever category is the rarer."""
    tables = [
        [[a, n - a], [b, m - b]]
        for n, m in itertools.product(range(1, 7), repeat=2)
        for a, b in itertools.product(range(n + 1), range(m + 1))
        if 0 < a + b < n + m
    ]
    found = chi_square_test(*np.moveaxis(np.array(tables), 1, 0))
    assert set(found.method.tolist()) == {"exact"}
    assert found.pvalue == pytest.approx([stats.fisher_exact(table).pvalue for table in tables], rel=1e-9)


@pytest.mark.parametrize("test", TESTS)
def test_where_all_categories_are_rare_each_is_tested_exactly(test):
    """Of three rare categories, one held by most of both samples, p is three times the smallest exact one."""
    margins, m = (8, 1, 1), 4
    splits = itertools.product(*(range(held + 1) for held in margins))
    current = np.array([split for split in splits if sum(split) == m])
    reference = np.array(margins) - current
    expected = [
        min(1.0, 3 * min(stats.fisher_exact([[a, 6 - a], [b, m - b]]).pvalue for a, b in zip(*pair, strict=True)))
        for pair in zip(reference, current, strict=True)
    ]
    assert test(reference, current).pvalue == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("current", "decided_by"), [([40, 55, 2, 3], "common"), ([49, 46, 1, 4], "rare"), ([48, 44, 4, 4], "joined")]
)
def test_the_bound_is_what_it_says(current, decided_by):
    """Twice the smaller of the common categories' p and of three times the smallest of three exact ones, by scipy."""
    reference = [600, 390, 5, 5]
    common = stats.chi2_contingency([reference[:2], current[:2]], correction=False).pvalue
    each = [
        stats.fisher_exact([[of, 1000 - of], [now, 100 - now]]).pvalue
        for of, now in ((reference[2], current[2]), (reference[3], current[3]), (10, current[2] + current[3]))
    ]
    found = chi_square_test(reference, current)
    assert found.method == "bonferroni"
    assert found.pvalue == pytest.approx(2 * min(common, 3 * min(each)), rel=1e-9)
    assert decided_by == ("common" if common < 3 * min(each) else "joined" if min(each) == each[2] else "rare")


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize(
    ("margins", "m"), [((3, 2, 2, 1), 4), ((4, 4), 4), ((6, 3, 3), 5), ((1,) * 7, 3), ((8, 1, 1), 4)]
)
def test_the_bound_holds_exactly(test, margins, m):
    """Enumerated over all tables of given margins, P(p <= level) <= level at every level where all tests are exact."""
    total = math.comb(sum(margins), m)
    tables = [split for split in itertools.product(*(range(held + 1) for held in margins)) if sum(split) == m]
    current = np.array(tables)
    found = test(np.array(margins) - current, current)
    probabilities = np.array(
        [math.prod(math.comb(held, k) for held, k in zip(margins, split, strict=True)) / total for split in tables]
    )
    assert set(found.method.tolist()) <= {"exact", "bonferroni"}
    for level in found.pvalue:
        assert probabilities[found.pvalue <= level * (1 + 1e-12)].sum() <= level * (1 + 1e-9)


SPARSE = {
    "one large category": (np.array([0.97, 0.01, 0.01, 0.01]), 1000, 100),
    "all rare": (np.full(30, 1 / 30), 1000, 40),
    "many rare": (np.r_[0.5, 0.4, np.full(100, 0.001)], 10000, 300),
    "Zipf": (1 / np.arange(1, 51) / (1 / np.arange(1, 51)).sum(), 500, 100),
}


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("name", SPARSE)
def test_rare_categories_raise_no_false_alarms(test, name):
    """Without drift P(p <= level) is at most the level plus three binomial errors, where chi-square fits badly."""
    shares, n, m = SPARSE[name]
    runs = 1000
    rng = np.random.default_rng(21)
    found = test(rng.multinomial(n, shares, size=runs), rng.multinomial(m, shares, size=runs))
    for level in (0.05, 0.01, 0.001):
        assert (found.pvalue <= level).mean() <= level + 3 * math.sqrt(level * (1 - level) / runs)


def test_the_chi_square_distribution_alone_raises_false_alarms():
    """Why there is a safe answer: with many rare categories over 3 % of the plain p-values are below 0.01."""
    shares, n, m = SPARSE["many rare"]
    rng = np.random.default_rng(22)
    tables = rng.multinomial(n, shares, size=1000), rng.multinomial(m, shares, size=1000)
    assert (chi_square_test(*tables, method="asymptotic").pvalue <= 0.01).mean() > 0.03


@pytest.mark.parametrize("test", TESTS)
def test_an_unseen_category_is_seen(test):
    """Ten of a hundred values in a category that the reference never held are significant, however they are spread."""
    for spread in ([10], [1] * 10):
        a = [500, 500] + [0] * len(spread)
        found = test(a, [45, 45, *spread])
        assert found.pvalue < 1e-4
        assert found.degrees_of_freedom == 1 + len(spread)


@pytest.mark.parametrize("test", TESTS)
def test_rare_flags_that_become_common_are_seen(test):
    """A flag of 1 % that rises to 20 % is significant although it expects less than five."""
    found = test([990, 10], [80, 20])
    assert (found.method, found.pvalue < 1e-9) == ("exact", True)


@pytest.mark.parametrize("test", TESTS)
def test_a_current_sample_of_new_categories_only(test):
    """Nothing in common: a p-value near 0, no error."""
    found = test([50, 50, 0, 0], [0, 0, 20, 20])
    assert found.pvalue < 1e-9


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("sample", [[7], [0, 7, 0], [1]])
def test_one_category_leaves_nothing_to_test(test, sample):
    """A single filled bin: statistic 0, no degrees of freedom, p = 1."""
    found = test(sample, sample)
    assert (found.statistic, found.pvalue, found.degrees_of_freedom) == (0.0, 1.0, 0)


@given(pairs())
@settings(deadline=None, max_examples=100)
def test_tests_are_symmetric(pair):
    """Which sample is the reference does not matter to p, and equal samples have statistic 0."""
    for test in TESTS:
        found, turned = test(*pair), test(*pair[::-1])
        assert found.pvalue == pytest.approx(turned.pvalue, rel=1e-9)
        assert found.statistic == pytest.approx(turned.statistic, rel=1e-9, abs=1e-12)
        assert test(pair[0], pair[0]).statistic == 0
        assert test(pair[0], pair[0]).pvalue == 1


@pytest.mark.parametrize("test", TESTS)
def test_an_unknown_method_is_refused(test):
    """Methods are auto and asymptotic."""
    with pytest.raises(InvalidArgumentError):
        test([1, 2], [2, 1], method="exactly")


# What counts may be.


@given(
    st.integers(1, 5).flatmap(
        lambda bins: st.tuples(
            *[
                hnp.arrays(
                    np.float64, bins, elements=st.sampled_from([0.0, 1.0, 4.0, 5.0, 1e3, 2.0**40, 2.0**50])
                ).filter(lambda array: array.sum() > 0)
            ]
            * 2
        )
    )
)
@settings(deadline=None, max_examples=150)
def test_no_counts_give_nan_or_a_warning(pair):
    """From single values to 2**50, every answer is a finite number and every p-value lies in [0, 1]."""
    for distance in DISTANCES:
        assert math.isfinite(distance(*pair))
    for test in TESTS:
        found = test(*pair)
        assert math.isfinite(found.statistic)
        assert 0 <= found.pvalue <= 1


@given(hnp.arrays(np.float64, (2, 4), elements=st.sampled_from([5e-324, 1e-320, 1e-300, 1e-9, 1.0])))
@settings(deadline=None, max_examples=60)
def test_tiny_shares_give_no_nan(pair):
    """Shares of any sum will do, down to the smallest floats."""
    for distance in BOUNDED:
        assert math.isfinite(distance(*pair))


WRONG = {
    "NaN": [1.0, math.nan],
    "infinite": [1.0, math.inf],
    "negative": [1, -1],
    "empty": [0, 0],
    "no bins": [],
    "no dimension": 3,
    "three dimensions": [[[1, 2]]],
    "text": ["1", "2"],
    "complex": [1j, 2],
    "object": [None, 2],
    "ragged": [[1], [1, 2]],
    "masked": np.ma.MaskedArray([1, 2], [True, False]),
    "times": np.array([1, 2], dtype="M8[s]"),
    "too many": [2**53, 2**53],
    "other shape": [1, 2, 3],
    "other dimensions": [[1, 2]],
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("function", [*DISTANCES, *TESTS])
def test_what_cannot_be_counts_is_refused(function, name):
    """Whatever is no sample of counts in the same bins is an error of ours, on either side."""
    with pytest.raises(InvalidArgumentError):
        function([1, 2], WRONG[name])
    with pytest.raises(InvalidArgumentError):
        function(WRONG[name], [1, 2])


def test_an_empty_feature_is_named():
    """The error says which feature counted nothing."""
    with pytest.raises(InvalidArgumentError, match="feature 1"):
        total_variation([[1, 2], [0, 0]], [[1, 2], [3, 4]])


@pytest.mark.parametrize("function", [population_stability_index, *TESTS])
def test_shares_are_no_counts(function):
    """Where the number of values matters, shares are refused."""
    with pytest.raises(InvalidArgumentError, match="whole"):
        function([0.5, 0.5], [0.25, 0.75])


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "float16", "longdouble"])
def test_counts_of_any_real_dtype(dtype):
    """The dtype of counts does not matter."""
    for function in (*DISTANCES, *TESTS):
        assert function(np.array([1, 1, 0], dtype), np.array([0, 1, 1], dtype)) == function([1, 1, 0], [0, 1, 1])


def test_no_features_give_no_answers():
    """A table of no features gives an empty array."""
    none = np.zeros((0, 3))
    assert all(distance(none, none).shape == (0,) for distance in DISTANCES)
    assert all(test(none, none).pvalue.shape == (0,) for test in TESTS)


# Wasserstein-1.


@given(samples, samples)
@settings(deadline=None, max_examples=150)
def test_wasserstein_is_that_of_scipy(a, b):
    """The distance is scipy's, for samples of any two sizes, with ties."""
    assert wasserstein_1(a, b) == pytest.approx(stats.wasserstein_distance(a, b), rel=1e-9, abs=1e-6)


@given(samples, samples, samples)
@settings(deadline=None, max_examples=100)
def test_wasserstein_is_a_metric(a, b, c):
    """Symmetric, 0 of equal samples, and never longer by a detour."""
    assert wasserstein_1(a, b) == pytest.approx(wasserstein_1(b, a), rel=1e-12, abs=1e-9)
    assert wasserstein_1(a, a) == 0
    assert wasserstein_1(a, c) <= wasserstein_1(a, b) + wasserstein_1(b, c) + 1e-6


@given(samples, samples, st.integers(1, 4), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_wasserstein_depends_on_neither_order_nor_repetition(a, b, times, random):
    """Rows in any order, each any number of times, are the same distribution."""
    repeated = np.repeat(a, times).tolist()
    random.shuffle(repeated)
    assert wasserstein_1(repeated, b) == pytest.approx(wasserstein_1(a, b), rel=1e-9, abs=1e-6)


@given(samples, samples, st.sampled_from([2.0**-700, 0.125, 4.0, 2.0**700]))
@settings(deadline=None, max_examples=60)
def test_wasserstein_scales(a, b, factor):
    """Values times a power of two: the raw distance scales with it, the standardized one does not change."""
    a, b = np.round(a), np.round(b)
    assert wasserstein_1(a * factor, b * factor) == pytest.approx(wasserstein_1(a, b) * factor, rel=1e-12)
    assert wasserstein_1(a * factor, b * factor, standardized=True) == pytest.approx(
        wasserstein_1(a, b, standardized=True), rel=1e-9
    )


def test_wasserstein_of_a_shift_is_the_shift():
    """A sample moved by c is c away, and c deviations of the reference in its unit."""
    x = np.random.default_rng(1).normal(size=(500, 2)) * [1.0, 10.0]
    moved = x + np.array([3.0, -5.0])
    assert wasserstein_1(x, moved) == pytest.approx([3.0, 5.0])
    assert wasserstein_1(x, moved, standardized=True) == pytest.approx([3.0, 5.0] / x.std(axis=0))


def test_wasserstein_by_hand():
    """Of (0, 1) and (0, 0, 3): levels 0, 1/3, 1/2, 2/3, 1 with distances 0, 0, 1, 2 travel 1/6 + 2/3."""
    assert wasserstein_1([0, 1], [0, 0, 3]) == pytest.approx(1 / 6 + 2 / 3, rel=1e-15)


@pytest.mark.parametrize("shape", [(900, 700), (64, 128), (50, 50), (1, 300), (300, 1)])
def test_wasserstein_of_many_features_is_that_of_each(shape):
    """A table gives for each feature what scipy gives, with missing values left out feature by feature."""
    n, m = shape
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(n, 7)), rng.gamma(2.0, size=(m, 7))
    a[: n // 3, 2] = np.nan
    b[: m // 4, 2:4] = np.nan
    expected = [stats.wasserstein_distance(x[~np.isnan(x)], y[~np.isnan(y)]) for x, y in zip(a.T, b.T, strict=True)]
    assert wasserstein_1(a, b) == pytest.approx(expected, rel=1e-9)


def test_wasserstein_of_more_features_than_a_block_holds():
    """Blocks of features leave no seam."""
    rng = np.random.default_rng(6)
    a, b = rng.normal(size=(9000, 40)), rng.normal(size=(6000, 40))
    expected = [wasserstein_1(a[:, feature], b[:, feature]) for feature in range(40)]
    assert wasserstein_1(a, b).tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("a", "b", "raw", "standardized"),
    [
        ([5.0, 5.0], [5.0], 0.0, 0.0),
        ([5.0, 5.0], [6.0], 1.0, math.inf),
        ([0.1] * 3, [0.1] * 7, 0.0, 0.0),
        ([math.inf, 0.0, 2.0], [math.inf, 1.0, 3.0], 2 / 3, 2 / 3),
        ([-math.inf, math.inf], [-math.inf, math.inf], 0.0, 0.0),
        ([-math.inf, 1.0], [1.0, math.inf], math.inf, math.inf),
        ([math.inf], [-math.inf], math.inf, math.inf),
        ([1e308, -1e308], [-1e308, -1e308], 1e308, 1.0),
        ([1.5e308], [-1.5e308], math.inf, math.inf),
        ([0.0, 5e-324], [0.0, 0.0], 0.0, 1.0),
        ([True, False], [True, True], 0.5, 1.0),
        ([math.nan, 1.0, 3.0], [4.0, math.nan], 2.0, 2.0),
    ],
)
def test_wasserstein_at_the_edges(a, b, raw, standardized):
    """Constants, infinities, overflow, underflow, flags and missing values have the defined answers."""
    assert wasserstein_1(a, b) == pytest.approx(raw)
    assert wasserstein_1(a, b, standardized=True) == pytest.approx(standardized)


@given(
    hnp.arrays(np.float64, st.integers(1, 12), elements=st.floats(allow_nan=True, allow_infinity=True)),
    hnp.arrays(np.float64, st.integers(1, 12), elements=st.floats(allow_nan=True, allow_infinity=True)),
    st.booleans(),
)
@settings(deadline=None, max_examples=200)
def test_wasserstein_is_never_nan(a, b, standardized):
    """Of any floats, at least 0 and never NaN."""
    assume(not np.isnan(a).all() and not np.isnan(b).all())
    assert wasserstein_1(a, b, standardized=standardized) >= 0


def test_wasserstein_changes_nothing_of_its_arguments():
    """Neither sample is sorted in place."""
    a, b = np.array([3.0, 1.0, 2.0]), np.array([9.0, 7.0])
    wasserstein_1(a, b)
    assert (a.tolist(), b.tolist()) == ([3.0, 1.0, 2.0], [9.0, 7.0])


@pytest.mark.parametrize(
    "wrong",
    [[], [math.nan], 3.0, ["a"], [1j], [None], [[[1.0]]], [[1.0, 2.0]], np.ma.MaskedArray([1.0], [True])],
    ids=str,
)
def test_wasserstein_refuses_what_is_no_sample(wrong):
    """Empty, all missing, not numbers, masked, or other dimensions: an error of ours, on either side."""
    with pytest.raises(InvalidArgumentError):
        wasserstein_1([1.0, 2.0], wrong)
    with pytest.raises(InvalidArgumentError):
        wasserstein_1(wrong, [1.0, 2.0])


SCIPY_STATS = """
import sys
sys.path.insert(0, sys.argv[1])
from mlserve.numerics import _count_tests, _distances, _wasserstein
assert not [name for name in sys.modules if name.startswith("scipy")]
_count_tests.chi_square_test([5, 900], [7, 80]), _count_tests.g_test([5, 9], [7, 8])
_distances.psi_null_quantile(10, 10, 3, 0.5), _wasserstein.wasserstein_1([1, 2], [3])
print(*[name for name in sys.modules if name.startswith("scipy.stats")])
"""


def test_scipy_is_imported_late_and_its_statistics_never():
    """Importing the modules imports no scipy, and using them no scipy.stats."""
    ran = subprocess.run([sys.executable, "-c", SCIPY_STATS, str(ROOT)], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []
