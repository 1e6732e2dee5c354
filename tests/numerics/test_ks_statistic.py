"""The two-sample Kolmogorov-Smirnov statistic: its value, its place, its direction, and the laws they obey."""

from __future__ import annotations

import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from test_ks_oracles import ALTERNATIVES, differences, oriented, sort_key, threshold, within

import mlserve.numerics._ks as ks_module
import mlserve.numerics._ks_suprema as suprema_module
from mlserve.errors import InvalidArgumentError
from mlserve.numerics import KSResult, SortedReference, ks_2samp, ks_statistic

LAW = settings(deadline=None, max_examples=60)
FEW_VALUES = st.sampled_from([-np.inf, -1.5, -0.0, 0.0, 1e-300, 1.0, 2.0, np.inf, np.nan])
ANY_VALUES = st.floats(allow_nan=True, allow_infinity=True, width=64)


def samples(values: st.SearchStrategy[float] = FEW_VALUES | ANY_VALUES) -> st.SearchStrategy[Any]:
    return hnp.arrays(np.float64, st.integers(1, 40), elements=values)


def numbers_from_seed(kind: str, seed: int, size: int, shift: float) -> np.ndarray[Any, Any]:
    generator = np.random.default_rng(seed)
    values = generator.normal(shift, 1.0, size)
    if kind == "rounded":
        return np.round(values, 1)
    if kind == "integers":
        return np.rint(values * 50).astype(np.int64)
    if kind == "flags":
        return values > 0.3
    if kind == "inflated":
        return np.where(generator.random(size) < 0.4, 0.0, values)
    if kind == "missing":
        values[generator.random(size) < 0.2] = np.nan
        values[generator.random(size) < 0.1] = np.inf
        values[generator.random(size) < 0.1] = -np.inf
    return values


KINDS = ("continuous", "rounded", "integers", "flags", "inflated", "missing")
SIZES = ((1, 1), (1, 400), (400, 1), (37, 2500), (2500, 37), (1700, 1700), (3001, 1700))


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@given(reference=samples(), current=samples())
@LAW
def test_the_statistic_is_the_supremum(alternative: Any, reference: Any, current: Any) -> None:
    """D, its sign and its place are those found by counting at every pooled value."""
    result = ks_2samp(reference, current, alternative=alternative, method="asymptotic")
    n, m = len(reference), len(current)
    height = threshold(reference, current, alternative)
    assert result.statistic == float(Fraction(height, n * m))
    everywhere = differences(reference, current)
    if alternative == "two-sided":
        highest, lowest = max(d for _, d in everywhere), min(d for _, d in everywhere)
        assert result.statistic_sign == (1 if highest >= -lowest else -1)
    else:
        assert result.statistic_sign == (1 if alternative == "greater" else -1)
    attained = [key for key, difference in everywhere if difference * result.statistic_sign == height]
    place = attained[0] if height else everywhere[-1][0]
    assert sort_key(result.statistic_location) == place


def vectorised_threshold(reference: np.ndarray[Any, Any], current: np.ndarray[Any, Any], alternative: str) -> int:
    """n*m*D from NumPy's ranks of every pooled value."""
    pooled = np.concatenate((reference, current)).astype(np.float64)
    ranks = [np.sort(sample.astype(np.float64)).searchsorted(pooled, "right") for sample in (reference, current)]
    height = len(current) * ranks[0] - len(reference) * ranks[1]
    return max(0, int(max(oriented(int(extreme), alternative) for extreme in (height.max(), height.min()))))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "m"), SIZES)
def test_pruning_loses_nothing(kind: str, n: int, m: int) -> None:
    """In samples large enough to be pruned D is the supremum, drifted or not, and its place attains it."""
    for seed, shift in enumerate((0.0, 0.02, 0.3, 50.0)):
        reference, current = numbers_from_seed(kind, seed, n, 0.0), numbers_from_seed(kind, seed + 99, m, shift)
        for alternative in ALTERNATIVES:
            result = ks_2samp(reference, current, alternative=alternative, method="asymptotic")
            height = vectorised_threshold(reference, current, alternative)
            assert result.statistic == height / (n * m)
            place = np.array([result.statistic_location])
            there = [np.sort(sample.astype(float)).searchsorted(place, "right")[0] for sample in (reference, current)]
            assert (m * there[0] - n * there[1]) * result.statistic_sign == height
            pooled = np.concatenate((reference, current)).astype(float)
            assert np.any((pooled == place) | (np.isnan(pooled) & np.isnan(place)))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "missing"])
@pytest.mark.parametrize(("n", "m"), SIZES)
def test_the_statistic_is_scipys(kind: str, n: int, m: int) -> None:
    """D is scipy's to the last bit or two, ties and constants included, and so are sign and place where unique."""
    for seed, shift in enumerate((0.0, 0.2)):
        reference, current = numbers_from_seed(kind, seed, n, 0.0), numbers_from_seed(kind, seed + 7, m, shift)
        for alternative in ALTERNATIVES:
            ours = ks_2samp(reference, current, alternative=alternative, method="asymptotic")
            with warnings.catch_warnings():
                # scipy divides by zero on the way to a p-value of single values; only its statistic counts here.
                warnings.simplefilter("ignore")
                theirs = stats.ks_2samp(
                    reference.astype(float), current.astype(float), alternative=alternative, method="asymp"
                )
            assert abs(ours.statistic - theirs.statistic) <= 2e-16
            attained = [d for _, d in differences(reference, current)] if n + m < 500 else []
            if ours.statistic > 0 and attained.count(round(ours.statistic * ours.statistic_sign * n * m)) == 1:
                assert ours.statistic_sign == theirs.statistic_sign
                assert ours.statistic_location == theirs.statistic_location


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_sign_and_place_are_scipys(shift: float) -> None:
    """Where one value attains the supremum, sign and location are the ones scipy reports, in either order."""
    generator = np.random.default_rng(3)
    reference, current = generator.normal(0.0, 1.0, 101), generator.normal(shift, 1.0, 211)
    for first, second in ((reference, current), (current, reference)):
        ours, theirs = ks_2samp(first, second), stats.ks_2samp(first, second)
        assert (ours.statistic_sign, ours.statistic_location) == (theirs.statistic_sign, theirs.statistic_location)


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_many_values_are_looked_at_in_pieces(alternative: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many values are looked at in one go changes nothing, be it one at a time."""
    reference, current = np.random.default_rng(0).normal(size=(2, 700, 3))
    whole = ks_2samp(reference, current, alternative=alternative)
    monkeypatch.setattr(suprema_module, "_VALUES_PER_CHUNK", 1)
    assert ks_2samp(reference, current, alternative=alternative) == whole


def test_features_are_independent_of_their_neighbours() -> None:
    """A feature of a table gives what it gives alone, however it is laid out and whatever stands beside it."""
    sizes = (2400, 1900)
    tables = [
        np.column_stack([numbers_from_seed(kind, seed, size, 0.05 * seed).astype(float) for kind in KINDS])
        for seed, size in enumerate(sizes)
    ]
    alone = [ks_2samp(tables[0][:, j], tables[1][:, j]) for j in range(len(KINDS))]
    for layout in (np.ascontiguousarray, np.asfortranarray, lambda table: np.repeat(table, 2, axis=1)[:, ::2]):
        together = ks_2samp(layout(tables[0]), layout(tables[1]))
        for j, single in enumerate(alone):
            assert together.statistic[j] == single.statistic
            assert together.pvalue[j] == single.pvalue
            assert sort_key(together.statistic_location[j]) == sort_key(single.statistic_location)
            assert together.statistic_sign[j] == single.statistic_sign
            assert together.method[j] == single.method
            assert together.ties[j] == single.ties


def test_blocks_of_features_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The size of the blocks in which features are worked through does not show in the result."""
    reference, current = np.random.default_rng(1).normal(size=(2, 500, 7))
    whole = ks_2samp(reference, current)
    monkeypatch.setattr(ks_module, "_VALUES_PER_BLOCK", 1)
    assert ks_2samp(reference, current) == whole


@given(reference=samples(), current=samples(), seed=st.integers(0, 9))
@LAW
def test_the_order_of_the_values_does_not_matter(reference: Any, current: Any, seed: int) -> None:
    """Permuting either sample changes nothing."""
    generator = np.random.default_rng(seed)
    assert ks_2samp(generator.permutation(reference), generator.permutation(current)) == ks_2samp(reference, current)


@given(reference=samples(st.integers(-40, 40).map(float)), current=samples(st.integers(-40, 40).map(float)))
@LAW
def test_a_strictly_increasing_transformation_does_not_matter(reference: Any, current: Any) -> None:
    """Transforming both samples alike moves the place with them and nothing else."""
    before, after = ks_2samp(reference, current), ks_2samp(np.exp(reference), np.exp(current))
    assert (before.statistic, before.pvalue, before.statistic_sign, before.method, before.ties) == (
        after.statistic,
        after.pvalue,
        after.statistic_sign,
        after.method,
        after.ties,
    )
    assert np.exp(before.statistic_location) == after.statistic_location


@given(reference=samples(), current=samples())
@LAW
def test_exchanging_the_samples_exchanges_less_and_greater(reference: Any, current: Any) -> None:
    """ks(x, y, greater) is ks(y, x, less) with the other sign; two-sided values are the same."""
    one, other = (
        ks_2samp(reference, current, alternative="greater"),
        ks_2samp(current, reference, alternative="less"),
    )
    assert (one.statistic, one.statistic_sign, one.method) == (other.statistic, -other.statistic_sign, other.method)
    assert sort_key(one.statistic_location) == sort_key(other.statistic_location)
    assert one.pvalue == within(1e-12, other.pvalue)
    one, other = ks_2samp(reference, current), ks_2samp(current, reference)
    assert one.statistic == other.statistic
    assert one.pvalue == within(1e-12, other.pvalue)


@given(reference=samples(st.integers(-9, 9).map(float)), current=samples(st.integers(-9, 9).map(float)))
@LAW
def test_turning_the_axis_round_exchanges_less_and_greater(reference: Any, current: Any) -> None:
    """ks(x, y, greater) and ks(-x, -y, less) have one statistic and one p-value."""
    one = ks_2samp(reference, current, alternative="greater")
    other = ks_2samp(-reference, -current, alternative="less")
    assert one.statistic == other.statistic
    assert one.pvalue == within(1e-12, other.pvalue)


@given(reference=samples(), current=samples(), times=st.integers(2, 3))
@LAW
def test_repeating_both_samples_keeps_the_statistic(reference: Any, current: Any, times: int) -> None:
    """The empirical distribution functions, and so D, do not change when every value is repeated."""
    repeated = ks_statistic(np.repeat(reference, times), np.tile(current, times))
    assert repeated == ks_statistic(reference, current)


@given(reference=samples(), current=samples())
@LAW
def test_the_statistic_is_bounded_and_on_its_lattice(reference: Any, current: Any) -> None:
    """D is in [0, 1], a multiple of 1/(n*m), and the larger one of the two one-sided ones."""
    n, m = len(reference), len(current)
    two_sided, greater, less = (ks_statistic(reference, current, alternative=name) for name in ALTERNATIVES)
    assert 0.0 <= two_sided <= 1.0
    assert two_sided == max(greater, less)
    assert two_sided == round(two_sided * n * m) / (n * m)


@given(reference=samples(), current=samples())
@LAW
def test_a_sorted_reference_gives_what_the_function_gives(reference: Any, current: Any) -> None:
    """The class, the function and ``ks_statistic`` agree, also when the reference has been used before."""
    sorted_reference = SortedReference(reference)
    sorted_reference.ks_2samp(current[:1])
    for alternative in ALTERNATIVES:
        result = ks_2samp(reference, current, alternative=alternative)
        assert sorted_reference.ks_2samp(current, alternative=alternative) == result
        assert ks_statistic(reference, current, alternative=alternative) == result.statistic


@pytest.mark.parametrize(
    "dtype", ["bool", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", ">f8", ">i4", "g"]
)
@pytest.mark.parametrize("other", ["bool", "i8", "u8", "f4", "f8"])
def test_every_number_type_is_compared_by_value(dtype: str, other: str) -> None:
    """Small whole numbers give the same result in whatever types they come."""
    generator = np.random.default_rng(8)
    for high, size in ((2, 30), (2, 4500), (100, 4500)):
        reference, current = generator.integers(0, high, size), generator.integers(0, high, size + 1)
        if "bool" in (dtype, other) and high > 2:
            continue
        expected = ks_2samp(reference.astype(float), current.astype(float))
        assert ks_2samp(reference.astype(dtype), current.astype(other)) == expected


def test_a_float32_window_is_not_rounded_to_meet_the_reference() -> None:
    """0.1 in float32 lies above 0.1 in float64, and is found there."""
    result = ks_2samp(np.array([0.1]), np.array([0.1], dtype=np.float32))
    assert (result.statistic, result.statistic_sign, result.ties) == (1.0, 1, False)


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_large_integers_are_not_rounded(dtype: Any) -> None:
    """Neighbours beyond 2**53, one number as floats, are told apart."""
    reference = np.array([2**53, 2**62], dtype=dtype)
    current = np.array([2**53 + 1, 2**62 + 1], dtype=dtype)
    assert ks_statistic(reference, current) == 0.5
    assert ks_statistic(reference, reference) == 0.0
    assert ks_statistic(reference.astype(float), current.astype(float)) == 0.0


def test_ties_of_large_integers_are_counted() -> None:
    """Tied samples beyond 2**53 have the p-value of the same samples moved to small numbers."""
    reference, current = np.array([1, 1, 2, 5, 9]), np.array([2, 2, 7, 9, 9, 9])
    small, large = ks_2samp(reference, current), ks_2samp(reference + 2**60, current + 2**60)
    assert (large.pvalue, large.method, large.ties) == (small.pvalue, "exact-ties", True)


@given(
    reference=hnp.arrays(np.int64, st.integers(1, 30), elements=st.integers(2**53 - 3, 2**53 + 3)),
    current=hnp.arrays(np.int64, st.integers(1, 30), elements=st.integers(2**53 - 3, 2**53 + 3)),
)
@LAW
def test_integers_around_the_limit_of_floats_are_exact(reference: Any, current: Any) -> None:
    """Whatever side of 2**53 either sample lies on, D is right or refused."""
    expected = float(
        Fraction(threshold(reference.tolist(), current.tolist(), "two-sided"), reference.size * current.size)
    )
    if reference.max() == 2**53 < current.max():
        # The reference is held in floats, where its largest value and the rounded current one would meet.
        with pytest.raises(InvalidArgumentError, match=r"2\*\*53"):
            ks_statistic(reference, current)
    else:
        assert ks_statistic(reference, current) == expected


@pytest.mark.parametrize(
    ("reference", "current", "expected"),
    [
        ([0.5, 2.0, 3.0], np.array([2**60, 2**61 + 1]), 1.0),
        ([0.5, np.inf, np.nan], np.array([-(2**60), 2**61 + 1]), 2 / 3),
        (np.array([2**60, 2**60 + 1]), [False, True], 1.0),
        (np.array([2**63, 2**64 - 1], dtype=np.uint64), np.array([1, 2], dtype=np.int8), 1.0),
        (np.array([-(2**60), 2**60]), np.array([2**60 + 1], dtype=np.uint64), 1.0),
        (np.array([-(2**63), 2**63 - 1]), np.array([-(2**63), 2**63 - 1]), 0.0),
        (np.array([0, 2**64 - 1], dtype=np.uint64), np.array([0, 2**64 - 1], dtype=np.uint64), 0.0),
    ],
)
def test_mixed_large_integers_are_compared_where_that_is_exact(reference: Any, current: Any, expected: float) -> None:
    """Types that differ are accepted where no comparison needs a rounded number."""
    assert ks_statistic(reference, current) == expected


def test_the_extremes_of_integers_have_no_neighbour_below() -> None:
    """Many smallest and largest 64-bit integers, which no smaller or larger one can bracket."""
    for dtype in (np.int64, np.uint64):
        limits = np.iinfo(dtype)
        reference = np.repeat(np.array([limits.min, limits.max], dtype=dtype), [700, 300])
        current = np.repeat(np.array([limits.min, limits.max], dtype=dtype), [300, 700])
        assert ks_statistic(reference, current) == 0.4


def test_a_change_of_the_missing_rate_shows() -> None:
    """NaN is the largest value of both samples: half missing against none is a D of one half."""
    generator = np.random.default_rng(5)
    reference, current = generator.normal(size=(2, 1000))
    current[:500] = np.nan
    result = ks_2samp(reference, current)
    assert result.statistic > 0.45
    assert result.statistic_sign == 1
    assert result.pvalue < 1e-20
    assert ks_statistic(reference, np.full(1000, np.nan)) == 1.0


@pytest.mark.parametrize(
    ("reference", "current", "statistic", "place", "ties"),
    [
        ([1.0], [1.0], 0.0, 1.0, True),
        ([1.0], [2.0], 1.0, 1.0, False),
        ([3.0] * 5, [3.0] * 7, 0.0, 3.0, True),
        ([3.0] * 5, [4.0] * 7, 1.0, 3.0, True),
        ([np.nan] * 3, [np.nan] * 2, 0.0, np.nan, True),
        ([np.nan] * 3, [np.inf] * 2, 1.0, np.inf, True),
        ([-np.inf, np.inf], [-np.inf, np.inf], 0.0, np.inf, True),
        ([-np.inf], [np.inf], 1.0, -np.inf, False),
        ([0.0], [-0.0], 0.0, 0.0, True),
        ([np.nan], [np.nan, 1.0], 0.5, 1.0, True),
    ],
)
def test_degenerate_samples(reference: Any, current: Any, statistic: float, place: float, ties: bool) -> None:
    """Constants, single values, NaN and infinities have a D, a place and a p-value."""
    result = ks_2samp(reference, current)
    assert result.statistic == statistic
    assert sort_key(result.statistic_location) == sort_key(place)
    assert result.ties is ties
    assert 0.0 <= result.pvalue <= 1.0
    assert ks_2samp(reference, current, method="asymptotic").pvalue <= 1.0


def test_scalars_for_one_dimension_and_arrays_for_two() -> None:
    """One-dimensional samples give Python scalars, tables arrays with one entry for each feature."""
    single = ks_2samp([1, 2, 3], [2, 3, 4])
    assert [type(value) for value in (single.statistic, single.pvalue, single.statistic_location)] == [float] * 3
    assert type(single.statistic_sign) is int
    assert type(single.method) is str
    assert type(single.ties) is bool
    table = ks_2samp([[1, 2.5], [3, 1]], [[1, 2], [4, 4], [3, 8]])
    fields = (table.statistic, table.pvalue, table.statistic_location, table.statistic_sign, table.method, table.ties)
    assert [array.shape for array in fields] == [(2,)] * 6
    assert [array.dtype.kind for array in fields] == ["f", "f", "f", "i", "U", "b"]
    assert ks_statistic([[1], [2]], [[3]]).shape == (1,)


def test_results_are_frozen_and_compare_by_value() -> None:
    """A result cannot be changed, its arrays neither, and equals another with the same values, NaN included."""
    first, second = (ks_2samp([[np.nan], [np.nan]], [[np.nan]]) for _ in range(2))
    assert first == second
    assert first != ks_2samp([[1.0], [2.0]], [[3.0]])
    assert ks_2samp([1], [2]) == ks_2samp([1], [2])
    with pytest.raises(AttributeError):
        first.pvalue = 0.0  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        first.pvalue[0] = 0.0
    assert isinstance(first, KSResult)


def test_a_reference_is_immutable() -> None:
    """Neither its attributes nor the array it was made of can change it."""
    values = np.arange(10.0)
    reference = SortedReference(values)
    before = reference.ks_2samp([3.5, 4.5])
    values[:] = 0.0
    assert reference.ks_2samp([3.5, 4.5]) == before
    with pytest.raises(AttributeError):
        reference.n = 3  # type: ignore[misc]
    assert (reference.n, reference.n_features) == (10, 1)
    assert repr(reference) == "SortedReference(n=10, n_features=1)"


def test_the_sorted_copy_can_be_read() -> None:
    """A reference shows its features in rows, each sorted with NaN last, and lets nobody write to them."""
    reference = SortedReference([[2.0, 1.0], [np.nan, 3.0], [1.0, 2.0]])
    np.testing.assert_array_equal(reference.sorted_values, [[1.0, 2.0, np.nan], [1.0, 2.0, 3.0]])
    with pytest.raises(ValueError, match="read-only"):
        reference.sorted_values[0, 0] = 0.0


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_samples_are_not_changed(order: Any) -> None:
    """Sorting works on copies, whatever the layout of the caller's arrays."""
    generator = np.random.default_rng(0)
    for shape in ((300,), (300, 1), (1, 300), (300, 4)):
        reference, current = (np.asarray(generator.normal(size=shape), order=order) for _ in range(2))
        kept = reference.copy(), current.copy()
        ks_2samp(reference, current)
        np.testing.assert_array_equal(reference, kept[0])
        np.testing.assert_array_equal(current, kept[1])


def test_a_reference_can_be_pickled() -> None:
    """A reference that went to another process gives the same results."""
    generator = np.random.default_rng(0)
    for shape in ((40,), (40, 3)):
        reference, current = generator.normal(size=shape), generator.normal(size=shape)
        sorted_reference = SortedReference(reference)
        copied = pickle.loads(pickle.dumps(sorted_reference))
        assert copied.ks_2samp(current) == sorted_reference.ks_2samp(current)


def test_threads_may_share_a_reference() -> None:
    """Windows of many sizes tested at once from several threads give what they give one after the other."""
    generator = np.random.default_rng(0)
    values = generator.normal(size=(5000, 3))
    windows = [generator.normal(size=(size, 3)) for size in (1, 5, 50, 500, 5000, 700, 70, 7) for _ in range(4)]
    expected = [ks_2samp(values, window) for window in windows]
    reference = SortedReference(values)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(reference.ks_2samp, windows)) == expected


@pytest.mark.parametrize("high", [30, 100_000])
def test_integers_counted_or_sorted_give_the_same(high: int) -> None:
    """Windows with values below and above the reference's, of narrow and wide ranges, agree with their float twins."""
    generator = np.random.default_rng(2)
    reference = generator.integers(0, high, (3000, 3))
    for low, top, size in (
        (-9, high + 9, 2500),
        (0, high, 2500),
        (-90, -50, 4000),
        (high, high + 50, 4000),
        (0, 2, 9000),
    ):
        current = generator.integers(low, top, (size, 3))
        for alternative in ALTERNATIVES:
            counted = ks_2samp(reference, current, alternative=alternative)
            assert counted == ks_2samp(reference.astype(float), current.astype(float), alternative=alternative)


def test_ties_of_integers_without_repeats_in_the_reference() -> None:
    """A window of integers is tied if it repeats a value, inside or outside the reference's range, or shares one."""
    reference = np.arange(0, 8000, 2)
    odd = np.arange(1, 8001, 2)
    for current, ties in (
        (odd, False),
        (odd + 20_000, False),
        (np.append(odd, 4), True),
        (np.append(odd, 7), True),
        (np.append(odd, [-5, -5]), True),
        (np.append(odd, [9001, 9001]), True),
        (np.append(odd, [-5, -6, 9001, 9003]), False),
    ):
        assert ks_2samp(reference, current).ties is ties


def test_shared_values_of_large_samples_are_noticed() -> None:
    """A window drawn from the reference's own rows is tied with it, though neither repeats a value."""
    generator = np.random.default_rng(0)
    reference = generator.normal(size=20_000)
    assert ks_2samp(reference, generator.permutation(reference)[:2000]).ties is True
    assert ks_2samp(reference, generator.normal(size=2000)).ties is False
    holes = np.append(reference, np.nan)
    assert ks_2samp(holes, np.append(generator.normal(size=2000), np.nan)).ties is True
