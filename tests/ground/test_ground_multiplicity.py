"""P-values adjusted for many tests at once."""

from __future__ import annotations

import hypothesis.extra.numpy as npst
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.stats import false_discovery_control

from mlserve.errors import InvalidArgumentError
from mlserve.numerics import benjamini_hochberg, bonferroni, holm

ADJUSTMENTS = [bonferroni, holm, benjamini_hochberg]

P_VALUES = npst.arrays("float64", st.integers(1, 30), elements=st.floats(0, 1))

# --------------------------------------------------------------------------------------------------------- oracles


@settings(deadline=None, max_examples=300)
@given(p=P_VALUES)
def test_benjamini_hochberg_is_that_of_scipy(p):
    """The adjusted values are those of ``scipy.stats.false_discovery_control``."""
    np.testing.assert_allclose(benjamini_hochberg(p), false_discovery_control(p, method="bh"), rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [
        # By hand: the smallest times d, the next times d − 1, …, never falling, never above 1.
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.01, 0.02, 0.03, 0.04], [0.04, 0.06, 0.06, 0.06]),
        ([0.005, 0.5, 0.02], [0.015, 0.5, 0.04]),
        ([0.4, 0.6], [0.8, 0.8]),
        ([0.6, 0.9], [1.0, 1.0]),
        ([0.2, 0.2, 0.2], [0.6, 0.6, 0.6]),
        ([0.7], [0.7]),
    ],
    ids=str,
)
def test_holm_is_what_was_computed_by_hand(p, adjusted):
    """The adjusted values are those of Holm's definition, worked out by hand."""
    assert holm(p).tolist() == pytest.approx(adjusted)


@pytest.mark.parametrize(
    ("p", "adjusted"), [([0.01, 0.04], [0.02, 0.08]), ([0.6, 0.1], [1.0, 0.2]), ([0.3], [0.3])], ids=str
)
def test_bonferroni_is_what_was_computed_by_hand(p, adjusted):
    """The adjusted values are d times the values, at most 1."""
    assert bonferroni(p).tolist() == pytest.approx(adjusted)


@settings(deadline=None, max_examples=200)
@given(p=P_VALUES, level=st.floats(0.001, 0.5))
def test_holm_rejects_what_the_step_down_procedure_rejects(p, level):
    """An adjusted value is at or below the level exactly when Holm's procedure, step by step, rejects."""
    rejected = np.zeros(p.size, bool)
    for step, index in enumerate(np.argsort(p, kind="stable")):
        if p[index] * (p.size - step) > level:
            break
        rejected[index] = True
    np.testing.assert_array_equal(holm(p) <= level, rejected)


# ------------------------------------------------------------------------------------------------------------- laws


@pytest.mark.parametrize("adjust", ADJUSTMENTS)
@settings(deadline=None, max_examples=100)
@given(p=P_VALUES)
def test_an_adjusted_value_is_no_smaller_and_at_most_one(adjust, p):
    """Looking at more tests never makes one more significant, and a probability stays one."""
    adjusted = adjust(p)
    assert (adjusted >= p).all()
    assert (adjusted <= 1).all()


@pytest.mark.parametrize("adjust", ADJUSTMENTS)
@settings(deadline=None, max_examples=100)
@given(p=P_VALUES)
def test_adjusting_keeps_the_order(adjust, p):
    """A smaller value has no larger adjusted value."""
    assert (np.diff(adjust(p)[np.argsort(p, kind="stable")]) >= 0).all()


@pytest.mark.parametrize("adjust", ADJUSTMENTS)
@settings(deadline=None, max_examples=100)
@given(p=P_VALUES, seed=st.integers(0, 2**32 - 1))
def test_the_order_of_the_tests_does_not_matter(adjust, p, seed):
    """Adjusting values in another order gives the same values in that order."""
    order = np.random.default_rng(seed).permutation(p.size)
    np.testing.assert_array_equal(adjust(p[order]), adjust(p)[order])


@settings(deadline=None, max_examples=100)
@given(p=P_VALUES)
def test_the_three_are_ordered_by_what_they_control(p):
    """Benjamini–Hochberg is never above Holm, and Holm never above Bonferroni."""
    assert (benjamini_hochberg(p) <= holm(p) * (1 + 1e-12)).all()
    assert (holm(p) <= bonferroni(p)).all()


@pytest.mark.parametrize("adjust", ADJUSTMENTS)
@pytest.mark.parametrize("p", [0.0, 1e-300, 0.05, 1.0])
def test_one_test_needs_no_adjustment(adjust, p):
    """A single value stays as it is."""
    assert adjust([p]).tolist() == [p]


@pytest.mark.parametrize("adjust", ADJUSTMENTS)
def test_no_tests_give_no_values(adjust):
    """Of no values there are no adjusted ones."""
    assert adjust([]).shape == (0,)


@pytest.mark.parametrize("adjust", ADJUSTMENTS)
def test_the_values_given_are_not_changed(adjust):
    """The caller's array stays as it was."""
    p = np.array([0.04, 0.01, 0.5])
    adjust(p)
    assert p.tolist() == [0.04, 0.01, 0.5]


@pytest.mark.parametrize("adjust", ADJUSTMENTS)
@pytest.mark.parametrize(
    "p", [[-0.1], [1.1], [float("nan")], [0.5, float("nan")], [float("inf")], [[0.1, 0.2]], 0.5], ids=str
)
def test_what_is_no_p_value_is_refused(adjust, p):
    """``InvalidArgumentError`` is raised for values outside [0, 1], NaN, or another shape."""
    with pytest.raises(InvalidArgumentError):
        adjust(p)


@pytest.mark.parametrize("adjust", ADJUSTMENTS)
@pytest.mark.parametrize("p", [["a"], None, [None]], ids=str)
def test_what_is_no_number_is_refused(adjust, p):
    """``InvalidArgumentError`` is raised for what is no array of numbers."""
    with pytest.raises(InvalidArgumentError):
        adjust(p)


# -------------------------------------------------------------------------------------------------------- guarantees


def test_benjamini_hochberg_keeps_its_promise():
    """Among 40 tests of which 30 are null, the mean share of false among all rejections is at most α·30/40."""
    rng, level, nulls, trials = np.random.default_rng(5), 0.1, 30, 4000
    p = rng.random((trials, 40))
    p[:, nulls:] = p[:, nulls:] ** 6
    shares = []
    for row in p:
        rejected = benjamini_hochberg(row) <= level
        shares.append(rejected[:nulls].sum() / max(rejected.sum(), 1))
    bound = level * nulls / 40
    assert np.mean(shares) <= bound + 4 * np.std(shares) / np.sqrt(trials)
    assert np.mean(shares) >= bound - 4 * np.std(shares) / np.sqrt(trials)


@pytest.mark.parametrize("adjust", [bonferroni, holm])
def test_the_chance_of_any_false_rejection_is_bounded(adjust):
    """Among 20 null tests the chance that any is rejected at level 0.1 is at most 0.1."""
    p = np.random.default_rng(6).random((4000, 20))
    any_rejected = np.mean([(adjust(row) <= 0.1).any() for row in p])
    assert any_rejected <= 0.1 + 4 * np.sqrt(0.1 * 0.9 / 4000)
