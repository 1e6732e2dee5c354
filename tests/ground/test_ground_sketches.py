"""Summaries that add: moments and the histogram of latencies."""

from __future__ import annotations

import math
import pickle

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from mlserve.errors import InvalidArgumentError
from mlserve.numerics import LatencyHistogram, Moments
from mlserve.numerics._sketches import LARGEST_MS, RELATIVE_ERROR, SMALLEST_MS

ROUNDING = 1e-9

LATENCIES = st.lists(st.floats(SMALLEST_MS, LARGEST_MS), max_size=60)
NUMBERS = st.lists(st.floats(-1e6, 1e6), max_size=60)
SHARES = st.floats(0, 1)


def histogram(values: list[float]) -> LatencyHistogram:
    return LatencyHistogram.from_values(values)


# ---------------------------------------------------------------------------------------------------------- moments


@settings(deadline=None, max_examples=200)
@given(values=NUMBERS.filter(len))
def test_moments_are_those_of_the_values(values):
    """Count, mean and squared deviations are what their definitions say."""
    moments = Moments.of(values)
    mean = math.fsum(values) / len(values)
    assert moments.count == len(values)
    assert moments.mean == pytest.approx(mean, rel=1e-12, abs=1e-6)
    assert moments.sum_of_squares == pytest.approx(math.fsum((v - mean) ** 2 for v in values), rel=1e-9, abs=1e-6)


@settings(deadline=None, max_examples=200)
@given(first=NUMBERS, second=NUMBERS)
def test_moments_add(first, second):
    """The sum of two is what the moments of all values would be."""
    added, whole = Moments.of(first) + Moments.of(second), Moments.of(first + second)
    assert added.count == whole.count
    assert added.mean == pytest.approx(whole.mean, rel=1e-9, abs=1e-6)
    assert added.sum_of_squares == pytest.approx(whole.sum_of_squares, rel=1e-9, abs=1e-3)


@settings(deadline=None, max_examples=100)
@given(first=NUMBERS, second=NUMBERS)
def test_moments_add_in_any_order(first, second):
    """Which of two comes first makes no difference but rounding."""
    one, other = Moments.of(first) + Moments.of(second), Moments.of(second) + Moments.of(first)
    assert one.count == other.count
    assert (one.mean, one.sum_of_squares) == pytest.approx((other.mean, other.sum_of_squares), rel=1e-9, abs=1e-6)


@settings(deadline=None, max_examples=100)
@given(values=NUMBERS)
def test_nothing_adds_nothing_to_moments(values):
    """The moments of no values are neutral, on either side, exactly."""
    moments = Moments.of(values)
    assert moments + Moments() == Moments() + moments == moments


def test_moments_stay_accurate_far_from_zero():
    """Squared deviations of values near 10⁹ that differ by little keep their accuracy, however they were added."""
    values = 1e9 + np.random.default_rng(0).normal(size=10_000)
    added = sum((Moments.of(part) for part in np.split(values, 100)), Moments())
    assert added.sum_of_squares == pytest.approx(((values - values.mean()) ** 2).sum(), rel=1e-6)


def test_moments_take_any_shape():
    """An array of any shape is taken as its values."""
    assert Moments.of(np.ones((2, 3))).count == 6


# -------------------------------------------------------------------------------------------------------- histogram


@settings(deadline=None, max_examples=300)
@given(values=LATENCIES.filter(len), q=SHARES)
def test_a_quantile_is_within_one_percent(values, q):
    """A quantile is within 1 % of the order statistic of rank ⌈q·n⌉."""
    exact = sorted(values)[max(1, math.ceil(q * len(values))) - 1]
    assert histogram(values).quantile(q) == pytest.approx(exact, rel=RELATIVE_ERROR + ROUNDING)


@pytest.mark.parametrize("q", [0.0, 0.01, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0])
def test_quantiles_of_many_latencies_are_within_one_percent(q):
    """The bound holds for a hundred thousand latencies over nine orders of magnitude."""
    values = np.random.default_rng(1).lognormal(1.0, 3.0, 100_000)
    exact = np.sort(values)[max(1, math.ceil(q * values.size)) - 1]
    assert histogram(values).quantile(q) == pytest.approx(exact, rel=RELATIVE_ERROR + ROUNDING)


@settings(deadline=None, max_examples=100)
@given(values=LATENCIES.filter(len), first=SHARES, second=SHARES)
def test_quantiles_are_in_order(values, first, second):
    """A larger share has no smaller quantile."""
    low, high = sorted([first, second])
    assert histogram(values).quantile(low) <= histogram(values).quantile(high)


@settings(deadline=None, max_examples=200)
@given(first=LATENCIES, second=LATENCIES)
def test_histograms_add(first, second):
    """The sum of two is the histogram of all values, exactly."""
    assert histogram(first) + histogram(second) == histogram(first + second)


@settings(deadline=None, max_examples=100)
@given(first=LATENCIES, second=LATENCIES, third=LATENCIES)
def test_histograms_add_in_any_order_and_grouping(first, second, third):
    """Addition is commutative and associative, and ``merged`` is addition."""
    a, b, c = histogram(first), histogram(second), histogram(third)
    assert a + b == b + a
    assert (a + b) + c == a + (b + c) == LatencyHistogram.merged([c, a, b])


@settings(deadline=None, max_examples=50)
@given(values=LATENCIES)
def test_nothing_adds_nothing_to_a_histogram(values):
    """The empty histogram is neutral, on either side."""
    assert histogram(values) + LatencyHistogram() == LatencyHistogram() + histogram(values) == histogram(values)


@settings(deadline=None, max_examples=200)
@given(values=LATENCIES.filter(len), threshold=st.floats(SMALLEST_MS, LARGEST_MS))
def test_the_share_below_is_exact_but_near_the_threshold(values, threshold):
    """The share at or below a threshold is exact but for values within 2 % of it."""
    share = histogram(values).share_below(threshold)
    least = sum(value < threshold / (1.02 + 1e-3) for value in values) / len(values)
    most = sum(value <= threshold * (1 + ROUNDING) for value in values) / len(values)
    assert least <= share <= most


@settings(deadline=None, max_examples=100)
@given(values=LATENCIES.filter(len), first=st.floats(0, 1e10), second=st.floats(0, 1e10))
def test_shares_rise_with_the_threshold(values, first, second):
    """A larger threshold has no smaller share."""
    low, high = sorted([first, second])
    assert histogram(values).share_below(low) <= histogram(values).share_below(high)


def test_the_share_below_everything_is_all():
    """An infinite threshold is above all."""
    assert histogram([1.0, 1e9, 0.0]).share_below(math.inf) == 1.0


def test_the_share_below_nothing_is_none():
    """A threshold under the shortest time is below all values that are longer."""
    assert histogram([1.0, 2.0]).share_below(0.0) == 0.0


def test_an_empty_histogram_knows_nothing():
    """Without values there is no quantile and no share: None, not 0."""
    empty = LatencyHistogram()
    assert (empty.count, empty.quantile(0.5), empty.share_below(1.0)) == (0, None, None)
    assert histogram([]) == empty


def test_what_is_too_short_counts_as_the_shortest():
    """Durations under a nanosecond count as one."""
    assert histogram([0.0, 1e-12]).quantile(0.5) == pytest.approx(SMALLEST_MS, rel=RELATIVE_ERROR + ROUNDING)


def test_what_is_too_long_counts_as_the_longest():
    """Durations over eleven days count as that."""
    assert histogram([1e300]).quantile(0.5) == pytest.approx(LARGEST_MS, rel=RELATIVE_ERROR + ROUNDING)


def test_memory_is_bounded():
    """From the shortest to the longest time there are at most 1 728 bins."""
    assert histogram([SMALLEST_MS, LARGEST_MS]).counts.size <= 1_728


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -1e-9])
def test_what_is_no_duration_is_refused(bad):
    """``InvalidArgumentError`` is raised for a value that is NaN, infinite or negative."""
    with pytest.raises(InvalidArgumentError):
        histogram([1.0, bad])


@pytest.mark.parametrize("q", [-0.01, 1.01, math.nan, 99])
def test_a_share_is_between_zero_and_one(q):
    """``quantile`` raises ``InvalidArgumentError`` for a share outside [0, 1]."""
    with pytest.raises(InvalidArgumentError):
        histogram([1.0]).quantile(q)


@pytest.mark.parametrize("threshold", [-1.0, math.nan])
def test_a_threshold_is_a_duration(threshold):
    """``share_below`` raises ``InvalidArgumentError`` for a threshold that is negative or NaN."""
    with pytest.raises(InvalidArgumentError):
        histogram([1.0]).share_below(threshold)


def test_counts_cannot_be_changed():
    """The counts are read-only."""
    with pytest.raises(ValueError, match="read-only"):
        histogram([1.0]).counts[0] = 5


def test_counts_are_copied():
    """The caller may change the array it gave."""
    counts = np.array([1, 2])
    taken = LatencyHistogram(0, counts)
    counts[0] = 9
    assert taken.counts.tolist() == [1, 2]


def test_a_histogram_survives_pickling():
    """A pickled histogram comes back equal."""
    assert pickle.loads(pickle.dumps(histogram([1.0, 5.0]))) == histogram([1.0, 5.0])


def test_a_histogram_shows_its_quantiles():
    """The representation tells count and quantiles, not every bin."""
    assert repr(histogram([1.0] * 10)).startswith("LatencyHistogram(count=10, p50=")
    assert repr(LatencyHistogram()) == "LatencyHistogram(count=0)"
