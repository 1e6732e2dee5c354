"""Cells laid at the quantiles of a reference: what counts in them tell of a distribution, and how counts add."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from fractions import Fraction
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from scipy.stats import ks_2samp

from mlserve.errors import InvalidArgumentError
from mlserve.numerics._binning import DEFAULT_BINS, FeatureBins, ReferenceBins, binned_ks_statistic

NAN, INF = float("nan"), float("inf")
ROUNDING = 1e-12


def column(values: Any, dtype: Any = np.float64) -> np.ndarray:
    """One feature as a table, each value as it is."""
    rows = np.empty((len(values), 1), dtype)
    rows[:, 0] = values
    return rows


def objects(values: list[Any]) -> np.ndarray:
    """The same of values of any kind, also of such that are sequences."""
    rows = np.empty((len(values), 1), object)
    for place, value in enumerate(values):
        rows[place, 0] = value
    return rows


def bins_of(values: Any, n_bins: int = DEFAULT_BINS) -> ReferenceBins:
    rows = objects(values) if isinstance(values, list) else column(values)
    return ReferenceBins.from_rows(rows, ["x"], n_bins)


def exact_distance(reference: np.ndarray, current: np.ndarray) -> float:
    """The two-sample distance by its definition; a missing value lies beyond all others."""
    points = np.unique(np.concatenate([reference, current]))
    points = points[~np.isnan(points)]
    differences = [(reference <= point).mean() - (current <= point).mean() for point in points]
    return max(map(abs, differences), default=0.0)


def binned_distance(reference: np.ndarray, current: np.ndarray, n_bins: int) -> float:
    bins = bins_of(reference, n_bins)
    return binned_ks_statistic(bins.reference_counts, bins.count(column(current)))[0]


# ----------------------------------------------------------------------------------------------- distance from counts

FEW_VALUES = st.sampled_from([-INF, -1.0, -0.0, 0.0, 1.0, 2.0, INF, NAN])
SAMPLES = st.one_of(
    st.lists(FEW_VALUES, min_size=1, max_size=60),
    st.lists(st.floats(width=32), min_size=1, max_size=60),
    st.lists(st.floats(-1, 1), min_size=1, max_size=60),
    st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=60),
).map(lambda values: np.array(values, np.float64))


@settings(deadline=None, max_examples=600)
@given(reference=SAMPLES, current=SAMPLES, n_bins=st.integers(1, 30))
@example(reference=np.array([NAN]), current=np.array([0.0]), n_bins=1)
@example(reference=np.array([0.0]), current=np.array([NAN]), n_bins=1)
@example(reference=np.full(20, 3.0), current=np.full(20, 3.0), n_bins=7)
@example(reference=np.arange(10.0), current=np.array([4.5]), n_bins=1)
def test_the_distance_is_at_most_the_exact_one_and_within_one_over_b(reference, current, n_bins):
    """D from the counts lies in (exact − 1/B, exact], whatever ties, infinities and missing values there are."""
    exact = exact_distance(reference, current)
    found = binned_distance(reference, current, n_bins)
    assert exact - 1 / n_bins < found + ROUNDING
    assert found <= exact + ROUNDING


@pytest.mark.parametrize("n_bins", [1, 3, 10, 100, 1000, 5000])
@pytest.mark.parametrize("seed", range(4))
def test_the_distance_is_within_one_over_b_of_that_of_scipy(n_bins, seed):
    """D from the counts lies in (exact − 1/B, exact] where the exact one is scipy's, at any number of bins."""
    rng = np.random.default_rng(seed)
    reference = rng.normal(size=1500)
    current = rng.normal(0.1 * seed, 1 + 0.2 * seed, 700).round(seed + 1)
    exact = ks_2samp(reference, current).statistic
    found = binned_distance(reference, current, n_bins)
    assert exact - 1 / n_bins < found <= exact + ROUNDING


@pytest.mark.parametrize("distinct", [1, 2, 10, 50])
def test_ties_of_the_reference_cost_nothing(distinct):
    """D from the counts is the exact one where every value of the reference is an edge of its own."""
    rng = np.random.default_rng(distinct)
    reference, current = rng.integers(0, distinct, (2, 400)).astype(float)
    found = binned_distance(reference, current, 400)
    assert found == pytest.approx(ks_2samp(reference, current).statistic, abs=ROUNDING)


@settings(deadline=None, max_examples=200)
@given(reference=SAMPLES, n_bins=st.integers(1, 30))
def test_less_than_a_bth_of_the_reference_lies_between_two_edges(reference, n_bins):
    """An open cell holds less than n/B values of the reference that are not missing."""
    bins = bins_of(reference, n_bins)
    present = int((~np.isnan(reference)).sum())
    between = bins.reference_counts[:-1:2]
    assert (between < max(present, 1) / n_bins).all()


def test_the_sign_tells_which_function_is_larger():
    """The sign is that of reference − current where the distance is reached, and 0 where there is none."""
    assert binned_ks_statistic([4, 0], [1, 3]) == (0.75, 1)
    assert binned_ks_statistic([1, 3], [4, 0]) == (0.75, -1)
    assert binned_ks_statistic([1, 3], [2, 6]) == (0.0, 0)


def test_the_distance_of_counts_by_hand():
    """D is the largest difference of the shares added up, in the order of the cells."""
    # Shares added up: 1/4, 2/4, 4/4 and 0/5, 4/5, 5/5.
    assert binned_ks_statistic([1, 1, 2], [0, 4, 1])[0] == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("reference", "current"),
    [([1, 2], [1, 2, 3]), ([[1, 2]], [[1, 2]]), ([0, 0], [1, 2]), ([1, 2], [0, 0]), ([], []), ([NAN], [1])],
    ids=["sizes", "two dimensions", "no reference", "no current", "nothing", "NaN"],
)
def test_counts_that_cannot_be_compared_are_refused(reference, current):
    """``InvalidArgumentError`` is raised for counts of different cells, or of no value at all."""
    with pytest.raises(InvalidArgumentError):
        binned_ks_statistic(reference, current)


# ----------------------------------------------------------------------------------------------------------- counting

MIXED_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([NAN, INF, 0.5, -0.0, 10**400]),
    st.sampled_from(["a", "b", "c", "1", ""]),
    st.sampled_from([(1,), ("a",)]),
    st.sampled_from([date(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC)]),
)
COLUMNS = st.one_of(
    st.lists(st.integers(0, 6).map("abcdefg".__getitem__), max_size=30),
    st.lists(st.one_of(st.none(), st.integers(-3, 3), st.floats()), max_size=30),
    st.lists(st.dates(date(2020, 1, 1), date(2020, 2, 1)), max_size=30),
    st.lists(MIXED_VALUES, max_size=30),
)


@settings(deadline=None, max_examples=300)
@given(values=COLUMNS, n_bins=st.integers(1, 8))
def test_the_reference_is_counted_like_any_other_rows(values, n_bins):
    """``reference_counts`` are what ``count`` gives for the reference, whatever kind of feature it is."""
    bins = bins_of(values, n_bins)
    assert bins.reference_counts.tolist() == bins.count(objects(values)).tolist()


def test_the_reference_of_floats_is_counted_like_any_other_rows():
    """``reference_counts`` are what ``count`` gives for the reference, also of several features with ties."""
    rng = np.random.default_rng(1)
    rows = np.column_stack([rng.normal(size=500), rng.integers(0, 4, 500), np.where(rng.random(500) < 0.2, NAN, 1.0)])
    bins = ReferenceBins.from_rows(rows, ["a", "b", "c"], 20)
    assert bins.reference_counts.tolist() == bins.count(rows).tolist()


@settings(deadline=None, max_examples=200)
@given(reference=COLUMNS, values=COLUMNS, cut=st.integers(0, 30), seed=st.integers(0, 2**32 - 1))
def test_counts_add_in_any_order(reference, values, cut, seed):
    """The counts of parts, taken in any order, add up to those of the whole."""
    bins = bins_of(reference, 4)
    order = np.random.default_rng(seed).permutation(len(values))
    shuffled = objects(values)[order]
    added = bins.count(shuffled[cut:]) + bins.count(shuffled[:cut])
    assert added.tolist() == bins.count(objects(values)).tolist()


@settings(deadline=None, max_examples=200)
@given(reference=COLUMNS, values=COLUMNS)
def test_every_row_is_counted_once(reference, values):
    """The counts of each feature add up to the number of rows, whatever the rows hold."""
    bins = bins_of(reference, 4)
    assert int(bins.count(objects(values)).sum()) == len(values)


@pytest.mark.parametrize("dtype", [np.float64, object])
def test_a_weight_counts_a_row_so_often(dtype):
    """A row of weight w counts like w such rows."""
    rng = np.random.default_rng(2)
    reference, rows = rng.normal(size=(100, 3)), rng.normal(size=(40, 3))
    weights = rng.integers(1, 2**30, 40)
    bins = ReferenceBins.from_rows(reference, ["a", "b", "c"], 10)
    each = np.array([bins.count(rows[place : place + 1].astype(dtype)) for place in range(40)])
    assert bins.count(rows.astype(dtype), weights).tolist() == (each * weights[:, np.newaxis]).sum(axis=0).tolist()


def test_counts_are_whole_numbers():
    """Counts are int64, with weights and without."""
    bins = bins_of(np.arange(5.0))
    rows = column([1.0, 2.0])
    assert (bins.count(rows).dtype, bins.count(rows, np.array([2, 3])).dtype) == (np.int64, np.int64)


def test_each_feature_has_cells_of_its_own():
    """``of`` gives the counts of one feature, and ``starts`` says where they are among all."""
    rows = np.array([[1.0, "a"], [2.0, "b"], [2.0, "b"]], object)
    bins = ReferenceBins.from_rows(rows, ["number", "text"])
    # Below 1, 1, between, 2, above, missing; then b, a, rarer, new, missing.
    assert (bins.starts.tolist(), bins.size) == ([0, 6, 11], 11)
    assert bins.of(0, bins.reference_counts).tolist() == [0, 1, 0, 2, 0, 0]
    assert bins.of(1, bins.reference_counts).tolist() == [2, 1, 0, 0, 0]


def test_values_fall_below_between_on_and_above_edges():
    """A value is counted below, on, between or above the edges, or as missing."""
    bins = bins_of(np.array([1.0, 2.0, 4.0]))
    counted = bins.count(column([-INF, 0.0, 1.0, 1.5, 2.0, 3.0, 3.9, 4.0, 5.0, INF, NAN]))
    assert counted.tolist() == [2, 1, 1, 1, 2, 1, 2, 1]


def test_infinities_of_the_reference_are_values():
    """An infinity that the reference has is an edge like any other value."""
    bins = bins_of(np.array([-INF, 0.0, INF]))
    assert bins.features[0].edges.tolist() == [-INF, 0.0, INF]
    assert bins.count(column([-INF, INF, INF, 1.0])).tolist() == [0, 1, 0, 0, 1, 2, 0, 0]


# ------------------------------------------------------------------------------------------------------------- kinds


def cell_names(bins: FeatureBins) -> list[Any]:
    return [*(bins.categories or ()), "rarer", "new", "missing"]


def counted(bins: ReferenceBins, values: list[Any]) -> dict[Any, int]:
    """Counts of one categorical feature by the name of the cell, without those that are 0."""
    counts = bins.count(objects(values)).tolist()
    return {name: count for name, count in zip(cell_names(bins.features[0]), counts, strict=True) if count}


def test_the_commonest_categories_have_cells_of_their_own():
    """With B bins the B commonest categories are told apart, and the others of the reference are counted as one."""
    values = [*"aaaabbbccd"]
    bins = bins_of(values, 2)
    assert (bins.features[0].categories, bins.features[0].rarer) == (("a", "b"), frozenset("cd"))
    assert counted(bins, [*"abcdd", "e"]) == {"a": 1, "b": 1, "rarer": 3, "new": 1}


def test_many_categories_are_counted_as_a_counter_says():
    """Counts of categories are those of a ``Counter``, the rarer ones and the new ones each summed up."""
    rng = np.random.default_rng(3)
    reference = [f"c{code}" for code in rng.zipf(1.5, 3000).clip(max=300)]
    values = [f"c{code}" for code in rng.zipf(1.5, 3000).clip(max=400)]
    bins = bins_of(reference, 50)
    own, known, occurring = bins.features[0].categories, set(reference), Counter(values)
    expected = [*(occurring[name] for name in own)]
    expected.append(sum(count for name, count in occurring.items() if name in known and name not in own))
    expected.append(sum(count for name, count in occurring.items() if name not in known))
    assert bins.count(objects(values)).tolist() == [*expected, 0]


@pytest.mark.parametrize("missing", [None, NAN, np.float64("nan"), pd.NA, pd.NaT, np.datetime64("NaT")])
@pytest.mark.parametrize("reference", [["a", "b"], [1.0, 2.0], [date(2026, 1, 1)]], ids=["text", "numbers", "times"])
def test_missing_values_have_the_last_cell(reference, missing):
    """Whatever stands for a missing value is counted as missing, of any kind of feature."""
    counts = bins_of(reference).count(objects([missing])).tolist()
    assert counts == [0] * (len(counts) - 1) + [1]


def test_missing_values_of_the_reference_are_no_categories():
    """Missing values of the reference are counted as missing and make no category."""
    bins = bins_of(["a", None, NAN, pd.NA])
    assert (bins.features[0].categories, bins.reference_counts.tolist()) == (("a",), [1, 0, 0, 3])


class Unequal:
    """A value that refuses to be compared."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("not to be compared")

    def __hash__(self) -> int:
        return hash("a")


class Unhashable:
    """A value that refuses to be hashed in its own way."""

    def __hash__(self) -> int:
        raise ValueError("not to be hashed")


@pytest.mark.parametrize("value", [[1], {}, np.array([1, 2]), Unequal(), Unhashable()], ids=lambda value: type(value))
def test_what_cannot_be_told_apart_is_new(value):
    """A value without a hash, or that cannot be compared, counts as a new category."""
    assert counted(bins_of(["a", "b"]), [value, "a"]) == {"a": 1, "new": 1}


def test_unhashable_values_of_the_reference_are_new_ones():
    """A reference may hold what has no hash: it counts as new there as well, so that D sees no change."""
    bins = bins_of(["a", [1], Unhashable()])
    assert (bins.features[0].categories, bins.reference_counts.tolist()) == (("a",), [1, 0, 2, 0])


def test_true_and_one_are_one_category():
    """True, 1 and 1.0 are one category, as Python has it; "1" is another."""
    bins = bins_of([True, False, True, "1"])
    assert counted(bins, [True, 1, 1.0, np.bool_(True), np.int64(1)]) == {True: 5}
    assert counted(bins, ["1", 0, False]) == {"1": 1, False: 2}


def test_strings_are_no_numbers():
    """Text that reads like a number is a category; among numbers it counts as missing."""
    assert bins_of(["1", "2"]).features[0].categories == ("1", "2")
    assert bins_of([1, 2]).count(objects(["1", 1])).tolist() == [0, 1, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("values", "edges"),
    [
        ([1, 2.5, np.float32(3)], [1.0, 2.5, 3.0]),
        ([Fraction(1, 2), 2], [0.5, 2.0]),
        ([True, 2], [1.0, 2.0]),
        ([None, 5, NAN], [5.0]),
    ],
    ids=["numbers", "fractions", "a boolean among numbers", "missing values"],
)
def test_numbers_of_any_type_are_numbers(values, edges):
    """A column of objects is one of numbers where all that is not missing are, and not all are booleans."""
    assert bins_of(values).features[0].edges.tolist() == edges


@pytest.mark.parametrize(
    "values",
    [[True, False], [1, "a"], [1, 10**400], [1, 2j], [1, date(2026, 1, 1)], [None], [None, NAN], []],
    ids=["booleans", "text", "too large", "complex", "a day", "None", "missing", "nothing"],
)
def test_other_columns_are_categories(values):
    """A column of objects is one of categories where something in it is no number, or where it holds nothing."""
    assert bins_of(values).features[0].edges is None


@pytest.mark.parametrize(("value", "cell"), [(True, 1), (np.bool_(False), 0), (Fraction(3, 2), 2), (10**400, 5)])
def test_odd_numbers_among_numbers(value, cell):
    """Among numbers a boolean is 0 or 1, and what no float holds is missing."""
    bins = bins_of([1, 2])
    assert np.flatnonzero(bins.count(objects([value]))).tolist() == [cell]


class Bad(Fraction):
    """A number that is none after all."""

    def __float__(self) -> float:
        raise ValueError("no float")


def test_a_number_that_gives_no_float_is_missing():
    """Among numbers one whose float cannot be had counts as missing, whatever it raises."""
    assert bins_of([1, 2]).count(objects([Bad(1)])).tolist() == [0, 0, 0, 0, 0, 1]


def test_other_dtypes_are_counted_as_floats():
    """Rows of integers or booleans are counted as the numbers they are."""
    bins = bins_of(np.array([0.0, 1.0]))
    assert bins.count(np.array([[0], [1], [2]])).tolist() == [0, 1, 0, 1, 1, 0]
    assert bins.count(np.array([[True], [False]])).tolist() == [0, 1, 0, 1, 0, 0]


# ------------------------------------------------------------------------------------------------------------- times

MOMENT = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "same",
    [
        MOMENT,
        MOMENT.replace(tzinfo=None),
        MOMENT.astimezone(timezone(timedelta(hours=5))),
        pd.Timestamp(MOMENT),
        np.datetime64("2026-03-01T12:00:00"),
    ],
    ids=["UTC", "without a zone", "another zone", "pandas", "numpy"],
)
def test_one_moment_has_one_cell(same):
    """The same moment is counted in the same cell in whatever type it comes; without a zone it is taken for UTC."""
    bins = bins_of([MOMENT - timedelta(hours=1), MOMENT, MOMENT + timedelta(hours=1)])
    assert bins.count(objects([same])).tolist() == [0, 0, 0, 1, 0, 0, 0, 0]


def test_a_day_begins_at_midnight():
    """A date is the moment at which it begins."""
    bins = bins_of([date(2026, 3, 1), date(2026, 3, 2)])
    assert bins.features[0].is_time
    midnight = datetime(2026, 3, 2, tzinfo=UTC)
    assert bins.count(objects([date(2026, 3, 2), midnight, midnight + timedelta(seconds=1)])).tolist()[3:5] == [2, 1]


def test_times_are_compared_by_their_distribution():
    """D of times lies within 1/B of that of their seconds."""
    rng = np.random.default_rng(4)
    before, after = rng.normal(0, 1e6, 400), rng.normal(3e5, 1e6, 300)
    times, later = ([MOMENT + timedelta(seconds=second) for second in part.tolist()] for part in (before, after))
    bins = bins_of(times, 25)
    found, _ = binned_ks_statistic(bins.reference_counts, bins.count(objects(later)))
    exact = ks_2samp(before, after).statistic
    assert exact - 1 / 25 < found <= exact + ROUNDING


class Nowhere(tzinfo):
    """A zone that does not know where it is."""

    def utcoffset(self, moment: Any) -> timedelta:
        raise ValueError("nowhere")


@pytest.mark.parametrize(
    "value",
    [5.0, "2026-03-01", np.datetime64("99999-01-01"), MOMENT.replace(tzinfo=Nowhere())],
    ids=["a number", "text", "too far", "a broken zone"],
)
def test_what_is_no_time_is_missing_among_times(value):
    """Among times whatever is none counts as missing."""
    assert bins_of([MOMENT, MOMENT + timedelta(1)]).count(objects([value])).tolist() == [0, 0, 0, 0, 0, 1]


def test_floats_are_no_times():
    """Rows of floats hold no times: of a feature of times they count as missing."""
    assert bins_of([MOMENT]).count(column([1.0, 2.0])).tolist() == [0, 0, 0, 2]


# ------------------------------------------------------------------------------------------------------------ digests

DIGESTED = {
    "numbers": [1.0, 2.0, 3.0, 4.0],
    "text": ["a", "b", "b", "c"],
    "times": [MOMENT, MOMENT + timedelta(1), MOMENT, MOMENT + timedelta(2)],
    "booleans": [True, False, True, True],
}


@pytest.mark.parametrize("kind", DIGESTED)
@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 0, 2], [2, 3, 1, 0]], ids=str)
def test_equal_references_have_one_digest(kind, order):
    """The digest of the same rows is the same, in whatever order they come."""
    values = DIGESTED[kind]
    assert bins_of([values[place] for place in order], 2).digest == bins_of(values, 2).digest


def test_the_digest_is_that_of_the_cells():
    """Counts of two references add where their cells are the same, also where the references are not."""
    assert bins_of(np.arange(100.0), 1).digest == bins_of(np.array([0.0, 99.0]), 1).digest


def test_the_sign_of_zero_makes_no_other_cells():
    """0.0 and −0.0 are one edge, and give one digest."""
    assert bins_of(np.array([-0.0, 1.0])).digest == bins_of(np.array([0.0, 1.0])).digest


def test_other_cells_have_another_digest():
    """The digest differs where a name, an edge, a category, its rank, the rarer ones, or the kind differ."""
    others = [
        ReferenceBins.from_rows(column([1.0, 2.0]), ["x"]),
        ReferenceBins.from_rows(column([1.0, 2.0]), ["y"]),
        ReferenceBins.from_rows(column([1.0, np.nextafter(2.0, 3.0)]), ["x"]),
        ReferenceBins.from_rows(np.array([[1.0, 2.0], [2.0, 1.0]]), ["x", "y"]),
        ReferenceBins.from_rows(np.array([[1.0, 2.0], [2.0, 1.0]]), ["y", "x"]),
        bins_of(["1.0", "2.0"]),
        bins_of(["1.0", "2.0", "2.0"]),
        bins_of(["1.0", "2.0"], 1),
        bins_of(["1.0", "3.0"], 1),
        bins_of([datetime.fromtimestamp(1.0, UTC), datetime.fromtimestamp(2.0, UTC)]),
        bins_of(np.array([NAN])),
        bins_of([]),
    ]
    assert len({bins.digest for bins in others}) == len(others)


# -------------------------------------------------------------------------------------------------------------- edges


def test_a_reference_without_rows_has_cells():
    """Of no rows there is a cell for whatever comes and one for missing values."""
    bins = ReferenceBins.from_rows(np.empty((0, 2)), ["a", "b"])
    assert bins.reference_counts.tolist() == [0, 0, 0, 0]
    assert bins.count(np.array([[1.0, NAN]])).tolist() == [1, 0, 0, 1]


def test_a_reference_that_is_missing_throughout():
    """Of a feature that is always missing there is a cell for whatever comes and one for missing values."""
    bins = bins_of(np.array([NAN, NAN]))
    assert (bins.reference_counts.tolist(), bins.count(column([1.0])).tolist()) == ([0, 2], [1, 0])


def test_no_rows_are_counted_as_none():
    """The counts of no rows are all 0."""
    bins = bins_of(np.arange(3.0))
    assert bins.count(np.empty((0, 1))).tolist() == [0] * 8
    assert bins.count(np.empty((0, 1), object), np.empty(0, np.int64)).tolist() == [0] * 8


def test_a_reference_without_features_has_no_cells():
    """A table without columns has no cells, and counts nothing."""
    bins = ReferenceBins.from_rows(np.empty((3, 0)), [])
    assert (bins.size, bins.count(np.empty((5, 0))).tolist()) == (0, [])


def test_a_constant_has_one_edge():
    """A constant feature has one edge, and cells below and above it."""
    bins = bins_of(np.full(50, 7.0))
    assert (bins.features[0].edges.tolist(), bins.reference_counts.tolist()) == ([7.0], [0, 50, 0, 0])


def test_few_values_have_few_cells():
    """There are no more edges than distinct values, however many bins were asked for."""
    assert bins_of(np.array([1.0, 2.0] * 100), 1000).features[0].edges.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("n_bins", [0, -1])
def test_bins_are_at_least_one(n_bins):
    """``InvalidArgumentError`` is raised for less than one bin."""
    with pytest.raises(InvalidArgumentError, match="n_bins"):
        bins_of(np.arange(3.0), n_bins)


@pytest.mark.parametrize(("shape", "names"), [((3,), ["a"]), ((3, 2), ["a"]), ((3, 1), ["a", "b"]), ((3, 1, 1), ["a"])])
def test_a_reference_has_one_name_a_column(shape, names):
    """``InvalidArgumentError`` is raised for what is no table with one name a column."""
    with pytest.raises(InvalidArgumentError, match="rows"):
        ReferenceBins.from_rows(np.zeros(shape), names)


@pytest.mark.parametrize("shape", [(1,), (3, 2), (3, 0), (3, 1, 1)], ids=str)
def test_rows_have_the_width_of_the_reference(shape):
    """``InvalidArgumentError`` is raised for rows of another width."""
    with pytest.raises(InvalidArgumentError, match="rows"):
        bins_of(np.arange(3.0)).count(np.zeros(shape))
