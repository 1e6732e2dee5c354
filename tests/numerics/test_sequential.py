"""Evidence that one may look at whenever one likes: e-values of rates, bounds, spending, e-BH."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from mlserve.errors import InvalidArgumentError
from mlserve.numerics._sequential import (
    alpha_spending,
    bernoulli_log_e_value,
    clopper_pearson_upper,
    e_benjamini_hochberg,
    start_mass,
    unspent_mass,
)


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5, 0.9])
@pytest.mark.parametrize(("errors", "count"), [(0, 3), (1, 1), (3, 10), (12, 40), (40, 40)])
def test_the_rate_mixture_is_the_average_likelihood_ratio(errors: int, count: int, rate: float) -> None:
    """The e-value is the likelihood ratio against the rate, averaged over every higher rate, by quadrature."""

    def ratio(theta: float) -> float:
        return float(stats.binom.pmf(errors, count, theta) / stats.binom.pmf(errors, count, rate))

    average = integrate.quad(ratio, rate, 1.0, epsabs=0.0, epsrel=1e-10)[0] / (1 - rate)
    assert bernoulli_log_e_value(errors, count, rate) == pytest.approx(math.log(average), rel=1e-8)


@pytest.mark.parametrize("share", [0.2, 0.7, 1.0])
def test_the_rate_mixture_is_at_most_one_on_average(share: float) -> None:
    """Summed over all counts of 30 events, its mean is 1 where the rate is true and less where the truth is lower."""
    rate, count = 0.15, 30
    errors = np.arange(count + 1)
    chances = stats.binom.pmf(errors, count, share * rate)
    mean = float((chances * np.exp(bernoulli_log_e_value(errors, count, rate))).sum())
    assert mean == pytest.approx(1.0, rel=1e-9) if share == 1 else mean < 1


def test_the_rate_mixture_is_fair_at_each_step() -> None:
    """From any count the mean of the next e-value at the true rate is the present one: looking early costs nothing."""
    rate, count = 0.3, 12
    for errors in range(count + 1):
        now, right, wrong = (
            math.exp(bernoulli_log_e_value(*seen, rate))
            for seen in ((errors, count), (errors, count + 1), (errors + 1, count + 1))
        )
        assert (1 - rate) * right + rate * wrong == pytest.approx(now, rel=1e-9)


def test_the_rate_mixture_of_nothing_is_one() -> None:
    """Without labels there is no evidence: log E is 0."""
    assert bernoulli_log_e_value(0, 0, 0.1) == 0.0


def test_an_integral_that_underflows_is_no_evidence() -> None:
    """A rate far below q gives minus infinity, silently, and never NaN."""
    found = bernoulli_log_e_value([0, 10], [100_000, 1_000_000], 0.5)
    assert np.array_equal(found, [-np.inf, -np.inf])


def test_the_rate_mixture_broadcasts() -> None:
    """Counts and rates of different shapes broadcast; three numbers give a float."""
    assert bernoulli_log_e_value([[1], [2]], 10, [0.1, 0.2, 0.3]).shape == (2, 3)
    assert isinstance(bernoulli_log_e_value(1, 10, 0.1), float)


@pytest.mark.parametrize(
    "arguments",
    [(-1, 5, 0.1), (6, 5, 0.1), (1.5, 5, 0.1), (1, np.nan, 0.1), (1, np.inf, 0.1), (1, 5, 0.0), (1, 5, 1.0),
     (1, 5, np.nan), ("x", 5, 0.1), ([1, 2], [5, 5, 5], 0.1)],
)  # fmt: skip
def test_the_rate_mixture_refuses_what_means_nothing(arguments: tuple[object, object, object]) -> None:
    """Counts that are no counts, rates outside (0, 1) and shapes that do not broadcast are refused."""
    with pytest.raises(InvalidArgumentError):
        bernoulli_log_e_value(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(("errors", "count"), [(0, 1), (0, 20), (3, 20), (19, 20), (20, 20), (117, 1000)])
def test_the_upper_bound_is_clopper_and_pearsons(errors: int, count: int) -> None:
    """The bound is that of ``scipy.stats.binomtest`` with the exact method."""
    interval = stats.binomtest(errors, count, alternative="less").proportion_ci(0.995, method="exact")
    assert clopper_pearson_upper(errors, count, 0.005) == pytest.approx(interval.high, rel=1e-9)


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.37, 0.8])
def test_the_upper_bound_covers(rate: float) -> None:
    """Summed over all counts of 50, the chance that the bound lies below the truth is at most alpha."""
    too_low = [errors for errors in range(51) if clopper_pearson_upper(errors, 50, 0.1) < rate]
    assert stats.binom.pmf(too_low, 50, rate).sum() <= 0.1


@pytest.mark.parametrize("arguments", [(1, 0, 0.1), (-1, 5, 0.1), (6, 5, 0.1), (1, 5, 0.0), (1, 5, 1.0), (1, 5, True)])
def test_the_upper_bound_refuses_what_means_nothing(arguments: tuple[int, int, float]) -> None:
    """No rows, counts that are no counts and levels outside (0, 1) are refused."""
    with pytest.raises(InvalidArgumentError):
        clopper_pearson_upper(*arguments)


def test_spent_levels_add_up_to_alpha() -> None:
    """The first w levels sum to alpha·(1 − 1/(w + 1)): never more than alpha."""
    assert sum(alpha_spending(0.05, window) for window in range(1, 1001)) == pytest.approx(0.05 * (1 - 1 / 1001))


@pytest.mark.parametrize(("alpha", "window"), [(0.0, 1), (1.0, 1), (math.nan, 1), ("0.1", 1), (0.05, 0)])
def test_spending_refuses_what_means_nothing(alpha: float, window: int) -> None:
    """Levels outside (0, 1) and windows before the first are refused."""
    with pytest.raises(InvalidArgumentError):
        alpha_spending(alpha, window)


def test_the_prior_over_starts_is_spent_as_it_says() -> None:
    """What is spent on the first t rows and what is left make 1, and half is spent after 200 rows."""
    spent = np.cumsum(start_mass(np.arange(1, 5001)))
    np.testing.assert_allclose(spent + unspent_mass(np.arange(1, 5001)), 1.0, rtol=1e-12)
    assert spent[199] == pytest.approx(0.5)


@given(
    e_values=st.lists(st.one_of(st.floats(0, 200), st.sampled_from([0.0, 20.0, 40.0, math.inf])), max_size=7),
    alpha=st.sampled_from([0.01, 0.05, 0.2, 0.5]),
)
@settings(deadline=None, max_examples=200)
def test_e_benjamini_hochberg_rejects_the_largest_self_consistent_set(e_values: list[float], alpha: float) -> None:
    """The rejected set is the largest of all subsets in which each e-value is at least d/(alpha·size)."""
    d = len(e_values)
    consistent = [
        set(subset)
        for size in range(1, d + 1)
        for subset in itertools.combinations(range(d), size)
        if all(e_values[index] * size >= d / alpha for index in subset)
    ]
    largest = max(consistent, key=len, default=set())
    assert set(np.flatnonzero(e_benjamini_hochberg(e_values, alpha)).tolist()) == largest


def test_e_benjamini_hochberg_controls_false_rejections_without_averaging_luck() -> None:
    """With all hypotheses true and e-values that are d/alpha with chance alpha/d, together, at most alpha reject."""
    rng = np.random.default_rng(0)
    d, alpha = 10, 0.1
    lucky = rng.random(20_000) < alpha / d
    rejected = sum(e_benjamini_hochberg(np.full(d, luck * d / alpha), alpha).any() for luck in lucky)
    assert rejected / len(lucky) <= alpha / d + 3 * math.sqrt(alpha / d / len(lucky))


@pytest.mark.parametrize(
    ("e_values", "alpha"), [([-1.0], 0.1), ([math.nan], 0.1), ([[1.0]], 0.1), (["x"], 0.1), ([1.0], 0.0), ([1.0], 2.0)]
)
def test_e_benjamini_hochberg_refuses_what_means_nothing(e_values: list[float], alpha: float) -> None:
    """Negative or missing e-values, tables, text and levels outside (0, 1) are refused."""
    with pytest.raises(InvalidArgumentError):
        e_benjamini_hochberg(e_values, alpha)
