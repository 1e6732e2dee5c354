"""P-values of the two-sample Kolmogorov-Smirnov test against published tables, exact counts and scipy."""

from __future__ import annotations

import json
import math
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from test_ks_oracles import ALTERNATIVES, counted_pvalue, float_pvalues, within

from mlserve.numerics import ks_2samp, ks_pvalue

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "ks"
LAW = settings(deadline=None, max_examples=60)
SIZES = st.integers(1, 60)
HUGE = 10**24


def data_file(name: str) -> str:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"no reference data: {name}")
    return path.read_text(encoding="utf-8")


def test_exact_values_are_the_published_ones() -> None:
    """Every exact p-value of Apache Commons Math's table, two-sided and one-sided, at and above each D."""
    rows = [line.split() for line in data_file("ks.twosample.small.txt").splitlines() if line and line[0] != "#"]
    assert len(rows) > 200
    for row in rows:
        n, m, height = (int(cell) for cell in row[:3])
        at_least, above, at_least_one_sided, above_one_sided = (float(cell) for cell in row[3:])
        for alternative, inclusive, exclusive in (
            ("two-sided", at_least, above),
            ("greater", at_least_one_sided, above_one_sided),
            ("less", at_least_one_sided, above_one_sided),
        ):
            found = ks_pvalue(height / (n * m), n, m, alternative=alternative, method="exact")
            assert found == within(1e-12, inclusive)
            if height < n * m:
                # Between two attainable values a statistic stands for the larger one.
                found = ks_pvalue((height + 0.5) / (n * m), n, m, alternative=alternative, method="exact")
                assert found == within(1e-12, exclusive)


def test_the_asymptotic_form_tends_to_kolmogorovs_distribution() -> None:
    """For samples beyond any real size the two-sided p-value is Kolmogorov's, to 1e-10 of the tables."""
    table = json.loads(data_file("kolmogorov_tables.json"))["kolmogorov_distribution"]
    scale = math.sqrt(HUGE / 2)
    for x, expected in zip(table["x"], table["sf"], strict=True):
        assert ks_pvalue(x / scale, HUGE, HUGE, method="asymptotic") == within(1e-10, expected)
    for quantiles in (table["isf"], table["isf_tail"]):
        for x, p in zip(quantiles["x"], quantiles["p"], strict=True):
            assert ks_pvalue(x / scale, HUGE, HUGE, method="asymptotic") == within(1e-10, p)


def test_the_one_sided_asymptotic_form_tends_to_one_term() -> None:
    """For samples beyond any real size twice the one-sided p-value is the level of the one-term critical values."""
    table = json.loads(data_file("kolmogorov_tables.json"))["asymptotic_critical_c_alpha"]
    scale = math.sqrt(HUGE / 2)
    for c, alpha in zip(table["c_one_term"], table["alpha"], strict=True):
        found = ks_pvalue(c / scale, HUGE, HUGE, alternative="greater", method="asymptotic")
        assert 2 * found == within(1e-10, alpha)


def test_published_critical_values_have_their_level() -> None:
    """The level of a published critical value lies between those of its two roundings."""
    table = json.loads(data_file("kolmogorov_tables.json"))["asymptotic_critical_c_alpha"]
    scale = math.sqrt(HUGE / 2)
    for c, alpha in zip(table["c_published_2dp"], table["alpha"], strict=True):
        low, high = (ks_pvalue((c + half) / scale, HUGE, HUGE, method="asymptotic") for half in (0.005, -0.005))
        assert low <= alpha <= high


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@given(n=SIZES, m=SIZES, share=st.floats(0.0, 1.0))
@LAW
def test_exact_values_are_the_counted_ones(alternative: Any, n: int, m: int, share: float) -> None:
    """The exact method has a relative error below 1e-12 at any size and statistic, however small the p-value."""
    step = math.gcd(n, m)
    height = round(share * n * m / step) * step
    expected = float(counted_pvalue(height, n, m, alternative))
    found = ks_pvalue(height / (n * m), n, m, alternative=alternative, method="exact")
    assert found == within(1e-12, expected)


@pytest.mark.parametrize(("n", "m"), [(200, 200), (150, 280), (13, 500), (1, 300), (250, 251)])
def test_tiny_exact_values_keep_their_digits(n: int, m: int) -> None:
    """Down to the rarest order, whose p-value is 2/C(N, n), no digit is lost to cancellation."""
    rarest = Fraction(2, math.comb(n + m, n))
    assert ks_pvalue(1.0, n, m, method="exact") == within(1e-12, float(rarest))
    assert ks_pvalue(1.0, n, m, alternative="less", method="exact") == within(1e-12, float(rarest / 2))
    for share in (0.3, 0.6, 0.9):
        height = round(share * n * m)
        expected = float(counted_pvalue(height, n, m))
        assert ks_pvalue(height / (n * m), n, m, method="exact") == within(1e-12, expected)


def test_many_statistics_at_once_are_each_exact() -> None:
    """Counting many thresholds together gives what each gives alone, in any order, repeated or not."""
    generator = np.random.default_rng(0)
    for n, m in ((61, 73), (300, 457), (90, 90), (20, 1500)):
        statistics = generator.integers(0, n * m + 1, 80) / (n * m)
        statistics[20:40] = statistics[:20]
        for alternative in ALTERNATIVES:
            together = ks_pvalue(statistics, n, m, alternative=alternative, method="exact")
            alone = [ks_pvalue(one, n, m, alternative=alternative, method="exact") for one in statistics]
            np.testing.assert_allclose(together, alone, rtol=1e-12)


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@given(n=st.integers(1, 90), m=st.integers(1, 90), seed=st.integers(0, 999))
@LAW
def test_exact_values_are_scipys(alternative: Any, n: int, m: int, seed: int) -> None:
    """Where scipy counts too, the p-values of untied samples agree to 1e-9."""
    generator = np.random.default_rng(seed)
    reference, current = generator.normal(size=n), generator.normal(generator.uniform(0, 2), size=m)
    ours = ks_2samp(reference, current, alternative=alternative, method="exact")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        theirs = stats.ks_2samp(reference, current, alternative=alternative, method="exact")
    assume(not warned)  # scipy gave up counting, as it says, by a rounding of its own
    assert ours.method == "exact"
    assert ours.pvalue == within(1e-9, theirs.pvalue)


@pytest.mark.parametrize("shift", [0.0, 0.26])
def test_large_exact_values_are_scipys(shift: float) -> None:
    """10 000 against 9 999, with and without drift: the same value to 1e-9, down to 1e-47."""
    generator = np.random.default_rng(0)
    reference, current = generator.normal(size=10_000), generator.normal(shift, size=9_999)
    theirs = stats.ks_2samp(reference, current, method="exact")
    assert ks_2samp(reference, current, method="exact").pvalue == within(1e-9, theirs.pvalue)


def closest_sizes() -> list[tuple[int, int]]:
    """Pairs at which the rule of ``auto`` is worst or changes: near simple ratios, at its limits, very unequal."""
    return [
        *[
            (5, 5),
            (5, 6),
            (5, 3995),
            (5, 3996),
            (6, 5000),
            (20, 4001),
            (99, 3901),
            (99, 3902),
            (100, 3900),
            (100, 3901),
        ],
        *[(149, 150), (149, 3851), (149, 3852), (150, 151), (150, 153), (151, 153), (150, 301), (150, 452), (151, 227)],
        *[(209, 313), (217, 325), (189, 568), (399, 401), (400, 601), (401, 601), (413, 827), (1599, 1600)],
        *[(1601, 1602), (1999, 2001), (2000, 2000), (2000, 2001), (2001, 2001)],
    ]


def worst_ratios(sizes: list[tuple[int, int]], heights_per_pair: int) -> list[tuple[float, int, int, str]]:
    """How far ``auto`` is from the oracle, as a factor, over heights whose exact p-value is in [0.001, 0.5]."""
    worst = []
    for n, m in sizes:
        step, root = math.gcd(n, m), math.sqrt(n * m / (n + m))
        for alternative, low, high in (("two-sided", 0.75, 2.0), ("greater", 0.5, 1.95)):
            first, last = (
                max(1, int(low / root * n * m / step)),
                min(n * m // step, int(high / root * n * m / step) + 1),
            )
            heights = [step * int(k) for k in np.unique(np.linspace(first, last, heights_per_pair).astype(int))]
            exact = float_pvalues(heights, n, m, alternative)
            judged = (exact >= 0.001) & (exact <= 0.5)
            found = ks_pvalue(np.array(heights) / (n * m), n, m, alternative=alternative)
            ratios = found[judged] / exact[judged]
            if ratios.size:
                worst.append((float(np.maximum(ratios, 1 / ratios).max()), n, m, alternative))
    return sorted(worst, reverse=True)


def test_auto_keeps_its_promise_at_its_limits() -> None:
    """For n, m >= 5 auto is within 5 % of an independent exact count wherever that is between 0.001 and 0.5."""
    worst = worst_ratios([pair for pair in closest_sizes() if pair[0] * pair[1] < 700_000], heights_per_pair=7)
    assert len(worst) > 40
    assert worst[0][0] <= 1.05, worst[:5]


@pytest.mark.slow
def test_auto_keeps_its_promise_everywhere() -> None:
    """The same over many thresholds, at the rule's limits and at hundreds of pairs of sizes near and off ratios."""
    generator = np.random.default_rng(11)
    pairs = dict.fromkeys(closest_sizes())
    while len(pairs) < 700:
        n = int(np.exp(generator.uniform(math.log(5), math.log(1500))))
        a, b = sorted(generator.integers(1, 8, 2).tolist(), reverse=True)
        near = round(a * n / b) + int(generator.integers(-4, 5))
        m = near if generator.random() < 0.7 else int(generator.integers(5, 6000))
        if m >= 5 and n * m < 4_000_000:
            pairs[min(n, m), max(n, m)] = None
    worst = worst_ratios(list(pairs), heights_per_pair=24)
    assert worst[0][0] <= 1.05, worst[:5]


@given(n=st.integers(1, 300), m=st.integers(1, 6000), method=st.sampled_from(["auto", "asymptotic", "exact"]))
@settings(deadline=None, max_examples=40)
def test_pvalues_are_probabilities_that_fall_with_the_statistic(n: int, m: int, method: Any) -> None:
    """Whatever the sizes: never NaN, never outside [0, 1], 1 at D = 0, and not rising with D."""
    m = m if method != "exact" else min(m, 300)
    statistics = np.linspace(0.0, 1.0, 41)
    for alternative in ALTERNATIVES:
        found = ks_pvalue(statistics, n, m, alternative=alternative, method=method)
        assert np.all((found >= 0.0) & (found <= 1.0))
        assert found[0] == 1.0
        assert np.all(np.diff(found) <= 1e-12 * found[:-1])


@given(n=SIZES, m=SIZES, statistic=st.floats(0.0, 1.0), method=st.sampled_from(["auto", "asymptotic", "exact"]))
@LAW
def test_exchanging_the_sizes_changes_nothing(n: int, m: int, statistic: float, method: Any) -> None:
    """P-values depend on the pair of sizes, not on its order, and the two one-sided ones are equal."""
    for alternative in ALTERNATIVES:
        found = ks_pvalue(statistic, n, m, alternative=alternative, method=method)
        assert found == ks_pvalue(statistic, m, n, alternative=alternative, method=method)
    one, other = (ks_pvalue(statistic, n, m, alternative=name, method=method) for name in ("less", "greater"))
    assert one == other


@given(n=SIZES, m=SIZES, statistic=st.floats(0.0, 1.0))
@LAW
def test_two_sided_values_lie_between_one_and_two_one_sided_ones(n: int, m: int, statistic: float) -> None:
    """P(D >= d) is at least P(D+ >= d), and at most twice it, by exclusion and symmetry."""
    two_sided, one_sided = (
        ks_pvalue(statistic, n, m, alternative=name, method="exact") for name in ("two-sided", "less")
    )
    assert one_sided * (1 - 1e-12) <= two_sided <= 2 * one_sided * (1 + 1e-12)


def test_a_rounded_statistic_is_the_attainable_one() -> None:
    """A D that floating point moved by a bit or two counts as the lattice point it came from."""
    for n, m in ((7, 11), (49, 100), (1000, 999), (3, 3)):
        for height in range(math.gcd(n, m), n * m, max(1, n * m // 50 // math.gcd(n, m)) * math.gcd(n, m)):
            exact = ks_pvalue(height / (n * m), n, m, method="exact")
            for moved in (np.nextafter(height / (n * m), 0.0), np.nextafter(height / (n * m), 1.0)):
                assert ks_pvalue(moved, n, m, method="exact") == exact


def test_what_no_float_can_hold_is_zero() -> None:
    """Huge statistics of large samples give 0.0 by every method, but no p-value that a float can hold is lost."""
    for method in ("auto", "exact", "asymptotic"):
        assert ks_pvalue(1.0, 5000, 5001, method=method) == 0.0
        assert ks_pvalue(0.99, 10**6, 10**6, method=method) == 0.0
    smallest = float(Fraction(2, math.comb(1000, 500)))
    assert ks_pvalue(1.0, 500, 500) == within(1e-12, smallest)
    for n in (1, 3, 98, 120):
        assert ks_pvalue(1.0, n, 9000) >= 2 / math.comb(9000 + n, n) * (1 - 1e-9) > 0.0


def test_equal_sizes_need_no_counting() -> None:
    """A million against a million is exact in closed form, and where both are large the limit is close."""
    statistic = 1.5 / math.sqrt(500_000)
    exact = ks_pvalue(statistic, 10**6, 10**6, method="exact")
    assert exact == within(1e-3, ks_pvalue(statistic, 10**6, 10**6, method="asymptotic"))


def test_shapes_are_kept() -> None:
    """A scalar gives a float, an array an array of its shape, an empty one an empty one."""
    assert type(ks_pvalue(0.3, 5, 6)) is float
    assert type(ks_pvalue(np.float32(0.5), 5, 6)) is float
    for n in (5, 200):
        for method in ("auto", "exact", "asymptotic"):
            assert ks_pvalue(np.full((2, 3), 0.3), n, 230, method=method).shape == (2, 3)
            assert ks_pvalue([], n, 230, method=method).shape == (0,)


@pytest.mark.parametrize("method", ["auto", "exact", "asymptotic"])
@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_nothing_is_raised_where_numpy_is_told_to_raise(method: Any, alternative: Any) -> None:
    """Underflow on the way to far tails is no error, even for callers who made numpy raise on it."""
    generator = np.random.default_rng(0)
    with np.errstate(all="raise"):
        for n, m in ((1, 1), (5, 5), (5, 4001), (99, 4000), (300, 1700), (600, 601)):
            found = ks_pvalue([0.0, 1e-300, 0.1, 0.5, 0.97, 1.0], n, m, alternative=alternative, method=method)
            assert np.all(np.isfinite(found))
            reference, current = np.round(generator.normal(size=n), 1), np.round(generator.normal(3.0, size=m), 1)
            reference[0], current[0] = 5e-324, np.nan
            assert 0.0 <= ks_2samp(reference, current, alternative=alternative, method=method).pvalue <= 1.0


def test_methods_are_named() -> None:
    """Untied samples say exact or asymptotic, by sizes under auto and as asked otherwise."""
    generator = np.random.default_rng(0)
    for n, m, expected in (
        (100, 900, "exact"),
        (149, 3851, "exact"),
        (149, 3852, "asymptotic"),
        (150, 500, "exact"),
        (150, 520, "asymptotic"),
        (150, 151, "exact"),
        (700, 700, "exact"),
        (2001, 2001, "asymptotic"),
    ):
        reference, current = generator.normal(size=n), generator.normal(size=m)
        assert ks_2samp(reference, current).method == expected
        assert ks_2samp(reference, current, method="asymptotic").method == "asymptotic"
    assert ks_2samp(generator.normal(size=2001), generator.normal(size=2001), method="exact").method == "exact"


@pytest.mark.parametrize(("n", "m"), [(40, 60), (700, 700), (500, 4000)])
def test_the_function_of_samples_and_that_of_statistics_agree(n: int, m: int) -> None:
    """``ks_2samp`` of untied samples reports the p-value of its statistic."""
    generator = np.random.default_rng(4)
    reference, current = generator.normal(size=(n, 9)), generator.normal(0.1, size=(m, 9))
    for alternative in ALTERNATIVES:
        for method in ("auto", "exact", "asymptotic"):
            result = ks_2samp(reference, current, alternative=alternative, method=method)
            again = ks_pvalue(result.statistic, n, m, alternative=alternative, method=method)
            np.testing.assert_allclose(result.pvalue, again, rtol=1e-12)


def test_false_alarms_are_as_frequent_as_announced() -> None:
    """Without drift, P(p <= level) is at most the level, and not much below it, over 8 000 null tests."""
    generator = np.random.default_rng(1)
    for n, m in ((60, 45), (200, 3000)):
        found = ks_2samp(generator.normal(size=(n, 8_000)), generator.normal(size=(m, 8_000))).pvalue
        for level in (0.01, 0.05, 0.2):
            spread = 4 * math.sqrt(level * (1 - level) / 8_000)
            assert level * 0.8 - spread <= np.mean(found <= level) <= level * 1.05 + spread
