"""Samples that come in chunks give what the same samples give in memory."""

from __future__ import annotations

import math
import tracemalloc
import weakref
from collections.abc import Iterator
from datetime import UTC, datetime

import attrs
import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlserve.drift import DriftPolicy, compare_inputs
from mlserve.drift._chunks import MOST_CATEGORIES, ROWS_SAMPLED
from mlserve.drift._grids import LARGEST_PRODUCT, ValueGrid
from mlserve.errors import InvalidArgumentError
from mlserve.records import DataDrift, DriftStatus, FeatureStatus

RNG = np.random.default_rng(17)
BEFORE = RNG.normal(size=(600, 3))
AFTER = RNG.normal(size=(500, 3)) + [0.0, 0.5, 0.0]
SIDES = ["baseline", "recent"]
ANY_SIZE = DriftPolicy(min_samples=1)
LARGE = 2**60
SECOND = np.datetime64("2026-01-01", "s")

# What a test of all values and one of their counts must both give; of p-values, those without ties.
SAME = [
    field.name
    for field in attrs.fields(type(compare_inputs(BEFORE, AFTER).features[0]))
    if field.name not in {"p_value", "adjusted_p_value", "is_drift_detected", "severity", "method", "ties"}
]


def cut(table, edges):
    """A mapping from names to columns, or an array, as slices of its rows."""
    for first, stop in zip([None, *edges], [*edges, None], strict=True):
        rows = slice(first, stop)
        yield {name: values[rows] for name, values in table.items()} if isinstance(table, dict) else table[rows]


def in_chunks(side, before, after, edges, **options) -> DataDrift:
    """The comparison with one side cut at the edges."""
    if side == "baseline":
        return compare_inputs(cut(before, edges), after, **options)
    return compare_inputs(before, cut(after, edges), **options)


def assert_same(chunked: DataDrift, whole: DataDrift) -> None:
    """Everything that was found but what only a sample in memory can tell: how ties change a p-value."""
    insufficient = DriftStatus.INSUFFICIENT_DATA
    assert (chunked.status == insufficient) == (whole.status == insufficient)
    for ours, theirs in zip(chunked.features, whole.features, strict=True):
        for name in SAME:
            assert getattr(ours, name) == getattr(theirs, name), name
        if theirs.method.endswith("exact-ties"):
            assert ours.p_value >= theirs.p_value * (1 - 1e-9)
        else:
            assert ours.p_value == pytest.approx(theirs.p_value, rel=1e-9)
        assert theirs.ties or not ours.ties


NUMBERS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 2.0, 2.5, -1.0]), st.floats(width=32), st.sampled_from([np.nan, np.inf, -np.inf])
)


def arrays(elements, dtype):
    """Columns of given elements, of whatever length is asked for."""
    return lambda size: st.lists(elements, min_size=size, max_size=size).map(lambda values: np.array(values, dtype))


COLUMNS = {
    "floats": arrays(NUMBERS, np.float64),
    "singles": arrays(NUMBERS, np.float32),
    "few integers": arrays(st.integers(0, 3), np.int64),
    "integers": arrays(st.integers(-128, 127), np.int8),
    "large integers": arrays(st.integers(LARGE, LARGE + 3), np.int64),
    "larger integers": arrays(st.integers(2**64 - 4, 2**64 - 1), np.uint64),
    "booleans": arrays(st.booleans(), np.bool_),
    "booleans or none": arrays(st.sampled_from([True, False, None]), object),
    "texts": arrays(st.sampled_from(["a", "b", "nan"]), np.str_),
    "texts or none": arrays(st.sampled_from(["a", "b", None, math.nan]), object),
    "numbers or none": arrays(st.sampled_from([1, 2.5, None]), object),
    "times": arrays(st.sampled_from([SECOND, SECOND + 1, np.datetime64("NaT")]), "datetime64[s]"),
    "zoned times": arrays(st.sampled_from([datetime(2026, 1, 1, tzinfo=UTC), None]), object),
    "nothing": arrays(st.none(), object),
}


@st.composite
def tables(draw):
    """Two samples of the same columns, of any sizes, and edges at which one of them is cut, perhaps into nothing."""
    names = draw(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, max_size=3, unique=True))
    sizes = [draw(st.integers(1, 40)) for _ in range(2)]
    before, after = ({name: draw(COLUMNS[name](size)) for name in names} for size in sizes)
    side = draw(st.sampled_from(SIDES))
    size = sizes[SIDES.index(side)]
    return side, before, after, sorted(draw(st.lists(st.integers(0, size), max_size=4)))


@settings(deadline=None, max_examples=300)
@given(tables())
def test_a_table_in_chunks_is_the_same_table(drawn):
    """However either side is cut into chunks, the report is that of both sides in memory."""
    side, before, after, edges = drawn
    assert_same(in_chunks(side, before, after, edges, policy=ANY_SIZE), compare_inputs(before, after, policy=ANY_SIZE))


ANY_COLUMN = st.tuples(st.sampled_from(sorted(COLUMNS)), st.integers(0, 12)).flatmap(
    lambda one: COLUMNS[one[0]](one[1])
)


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(SIDES), ANY_COLUMN, st.lists(ANY_COLUMN, max_size=4))
def test_no_chunks_give_nan_or_a_foreign_exception(side, held, chunks):
    """Chunks of whatever types, alike or not, give a report whose numbers are numbers, or an error of ours."""
    pair = ({"a": chunk} for chunk in chunks), {"a": held}
    said = "no error in 'a'"
    features = ()
    try:
        features = compare_inputs(*(pair if side == "baseline" else pair[::-1]), policy=ANY_SIZE).features
    except InvalidArgumentError as error:
        said = str(error)
    assert "'a'" in said
    assert all(one.p_value is None or 0 <= one.p_value <= 1 for one in features)


@pytest.mark.parametrize("side", SIDES)
def test_large_samples_are_judged_alike(side):
    """Of samples too large for p-values that allow for ties, p-values and verdicts are those in memory, too."""
    rng = np.random.default_rng(3)
    before = {"tied": rng.integers(0, 50, 4000), "shifted": rng.normal(size=4000), "kind": rng.choice(3, 4000)}
    after = {
        "tied": rng.integers(0, 50, 3000),
        "shifted": rng.normal(0.2, size=3000),
        "kind": rng.choice([*"ab"], 3000),
    }
    chunked, whole = in_chunks(side, before, after, [100, 2500]), compare_inputs(before, after)
    assert_same(chunked, whole)
    assert [one.name for one in whole.drifted_features] == ["kind", "shifted"]
    for ours, theirs in zip(chunked.features, whole.features, strict=True):
        assert ours.adjusted_p_value == pytest.approx(theirs.adjusted_p_value, rel=1e-9)
        assert (ours.is_drift_detected, ours.severity) == (theirs.is_drift_detected, theirs.severity)


def test_the_method_says_that_ties_do_not_show():
    """The p-value of chunks is that of samples without ties, and the method says so."""
    feature = compare_inputs(BEFORE, iter([AFTER])).features[0]
    assert (feature.method, feature.ties) == ("Kolmogorov-Smirnov, as if without ties", False)


@pytest.mark.parametrize("side", SIDES)
def test_arrays_in_chunks(side):
    """Chunks that are arrays bring no names, and take those of ``feature_names``."""
    options = {"feature_names": ["a", "b", "c"]}
    chunked, whole = in_chunks(side, BEFORE, AFTER, [0, 7, 200], **options), compare_inputs(BEFORE, AFTER, **options)
    assert_same(chunked, whole)
    assert [one.name for one in chunked.features] == ["a", "b", "c"]


@pytest.mark.parametrize("side", SIDES)
def test_frames_in_chunks(tmp_path, side):
    """What pandas reads of a file in chunks, and polars slices of a frame, give the report of the whole frames."""
    columns = [
        {
            "size": [round(value * 64) / 64 if value < 1 else None for value in rows[:, 0].tolist()],
            "shop": ["east" if value > 0 else None for value in rows[:, 1].tolist()],
            "rating": (rows[:, 2] > 0).astype(int).tolist(),
        }
        for rows in (BEFORE, AFTER)
    ]
    frames = [pd.DataFrame(one) for one in columns]
    whole = compare_inputs(*frames)
    for frame, name in zip(frames, SIDES, strict=True):
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    of_pandas, of_polars = list(frames), list(frames)
    chunked = SIDES.index(side)
    of_polars[chunked] = pl.DataFrame(columns[chunked]).iter_slices(64)
    assert_same(compare_inputs(*of_polars), whole)
    with pd.read_csv(tmp_path / f"{side}.csv", chunksize=64) as reader:
        of_pandas[chunked] = reader
        assert_same(compare_inputs(*of_pandas), whole)
    assert [one.kind for one in whole.features] == ["numeric", "categorical", "categorical"]


@pytest.mark.parametrize("side", SIDES)
def test_columns_of_named_chunks_can_be_chosen(side):
    """With named columns in chunks, ``feature_names`` chooses and orders them; others are not even looked at."""
    before, after = ({"a": rows[:, 0], "b": rows[:, 1], "id": [{1}] * len(rows)} for rows in (BEFORE, AFTER))
    drift = in_chunks(side, before, after, [50], feature_names=["b", "a"])
    assert [one.name for one in drift.features] == ["b", "a"]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ([np.arange(40), np.arange(40) / 2], "numeric"),
        ([np.array([1, 2] * 20), np.array([1.0, np.nan] * 20)], "numeric"),
        ([np.full(40, np.nan), np.array(["a", "b"] * 20)], "categorical"),
        ([np.array(["a", "b"] * 20), np.full(40, np.nan)], "categorical"),
        ([np.array([None] * 40), np.array([True, False] * 20)], "boolean"),
        ([np.array([None] * 40), np.array([SECOND, SECOND + 1] * 20)], "datetime"),
        ([np.full(40, "NaT", "datetime64[s]"), np.array([1.5, 2.5] * 20)], "numeric"),
        ([np.array([1, 2] * 20), np.full(40, np.nan)], "numeric"),
    ],
    ids=[
        "integers, floats", "integers, missing", "nothing, text", "text, nothing", "nothing, booleans",
        "nothing, times", "no times, numbers", "integers, nothing",
    ],
)  # fmt: skip
def test_chunks_that_go_together(side, parts, whole):
    """Integers go with floats, and a chunk without values with any kind, as if the chunks had come as one column."""
    values = [None if value != value else value for part in parts for value in part.tolist()]
    if whole == "numeric":
        values = np.array(values, np.float64)
    elif whole == "datetime":
        values = np.array(values, "datetime64[s]")
    else:
        values = np.array(values, object)
    other = values[30:70]
    chunks = ({"a": part} for part in parts)
    pair = (chunks, {"a": other}) if side == "baseline" else ({"a": other}, chunks)
    expected = ({"a": values}, {"a": other}) if side == "baseline" else ({"a": other}, {"a": values})
    drift = compare_inputs(*pair)
    assert_same(drift, compare_inputs(*expected))
    assert drift.features[0].kind == whole


@pytest.mark.parametrize("side", SIDES)
def test_declared_categories_in_chunks(side):
    """Numbers that are declared to be codes are categories, also if some chunks hold them as floats with gaps."""
    held = {"code": np.array([1.0, 2.0, 3.0, np.nan] * 20)}
    chunks = iter([{"code": np.array([1, 2] * 20)}, {"code": np.array([2.0, np.nan] * 20)}, {"code": [np.nan] * 5}])
    whole = {"code": np.array([1.0, 2.0] * 20 + [2.0, np.nan] * 20 + [np.nan] * 5)}
    pairs = [(chunks, held), (whole, held)] if side == "baseline" else [(held, chunks), (held, whole)]
    chunked, expected = (compare_inputs(*pair, categorical=["code"]) for pair in pairs)
    assert_same(chunked, expected)
    assert chunked.features[0].category_shares[0][0] == "2.0"


@pytest.mark.parametrize("side", SIDES)
def test_a_column_whose_type_changed_is_compared_by_its_text_in_chunks(side):
    """Numbers in chunks against text in memory are compared as text, integers among floats as floats."""
    held = {"a": np.array(["1.0", "2.5", "n/a", "n/a"] * 20)}
    chunks = iter([{"a": np.array([1, 1] * 20)}, {"a": np.array([2.5, 1.0] * 20)}])
    whole = {"a": np.array([1.0, 1.0] * 20 + [2.5, 1.0] * 20)}
    pairs = [(chunks, held), (whole, held)] if side == "baseline" else [(held, chunks), (held, whole)]
    chunked, expected = (compare_inputs(*pair) for pair in pairs)
    assert_same(chunked, expected)
    assert chunked.features[0].effect_size == pytest.approx(0.5)


@pytest.mark.parametrize(("side", "kind"), [("baseline", "numeric"), ("recent", "categorical")])
def test_integers_are_categories_if_the_baseline_has_few(side, kind):
    """As in memory, integers of eleven values in the baseline are numbers, and of three are categories."""
    few, many = {"a": np.array([0, 1, 2] * 20)}, {"a": np.arange(66) % 11}
    before, after = (many, few) if side == "baseline" else (few, many)
    drift = in_chunks(side, before, after, [5, 40])
    assert_same(drift, compare_inputs(before, after))
    assert drift.features[0].kind == kind


def test_integers_of_few_values_in_every_chunk_may_be_many():
    """Integers of a baseline whose chunks have six values each, but eleven in all, are numbers."""
    chunks = [{"a": np.arange(60) % 6}, {"a": 5 + np.arange(60) % 6}]
    assert compare_inputs(iter(chunks), {"a": np.arange(60) % 6}).features[0].kind == "numeric"


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("chunks", [[], [[]], [np.empty((0, 3)), pd.DataFrame(), {}]], ids=["none", "empty", "several"])
def test_no_rows_in_chunks(side, chunks):
    """No chunk, and chunks without rows, are too little evidence, told with the names of the other side."""
    held = dict(zip("abc", BEFORE.T, strict=True))
    drift = compare_inputs(iter(chunks), held) if side == "baseline" else compare_inputs(held, iter(chunks))
    assert drift.status == DriftStatus.INSUFFICIENT_DATA
    assert [(one.name, one.status) for one in drift.features] == [(name, FeatureStatus.INSUFFICIENT) for name in "abc"]
    counts = {(one.reference_count, one.current_count) for one in drift.features}
    assert counts == {(0, 600) if side == "baseline" else (600, 0)}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("n", "m"), [(29, 500), (500, 29), (1, 1)])
def test_too_few_rows_in_chunks(side, n, m):
    """Fewer rows than ``min_samples`` on either side are insufficient, however many chunks they came in."""
    drift = in_chunks(side, np.ones((n, 2)), np.ones((m, 2)), [1])
    assert drift.status == DriftStatus.INSUFFICIENT_DATA
    assert (drift.features[0].reference_count, drift.features[0].current_count) == (n, m)


@pytest.mark.parametrize("side", SIDES)
def test_a_table_in_memory_that_is_too_small_is_checked_all_the_same(side):
    """Values that cannot be told apart are refused in a sample in memory, though it has too few rows to be compared."""
    held, chunks = {"a": [{1}, {2}]}, iter([{"a": [None] * 40}])
    with pytest.raises(InvalidArgumentError, match="'a' holds set"):
        compare_inputs(*((chunks, held) if side == "baseline" else (held, chunks)))


@pytest.mark.parametrize("side", SIDES)
def test_all_missing_on_both_sides(side):
    """A feature that has no value anywhere is empty and has not drifted."""
    nothing = {"a": np.full(40, np.nan), "b": np.array([None] * 40)}
    drift = in_chunks(side, nothing, nothing, [10])
    assert_same(drift, compare_inputs(nothing, nothing))
    assert [one.status for one in drift.features] == [FeatureStatus.EMPTY] * 2


def test_two_iterators_are_refused():
    """Of two samples in chunks there is none to look the other up in, and the error says what to do."""
    with pytest.raises(InvalidArgumentError, match=r"recent must be in memory.*pandas\.concat"):
        compare_inputs(iter([BEFORE]), iter([AFTER]))


class LostConnectionError(Exception):
    """What a reader may raise."""


@pytest.mark.parametrize("progress", [None, True])
@pytest.mark.parametrize("side", SIDES)
def test_what_the_iterator_raises_is_passed_on(side, progress):
    """An exception of the caller's iterator comes out as it is."""
    error = LostConnectionError()

    def broken():
        yield BEFORE
        raise error

    pair = (broken(), AFTER) if side == "baseline" else (BEFORE, broken())
    with pytest.raises(LostConnectionError) as caught:
        compare_inputs(*pair, progress=progress)
    assert caught.value is error


ZONED = [datetime(2026, 1, 1, tzinfo=UTC)] * 20
NAIVE = [datetime(2026, 1, 1)] * 20


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ({"a": np.arange(9.0)}, {"a": ["x"] * 9}, "categorical values in column 'a'"),
        ({"a": ["x"] * 9}, {"a": np.arange(9.0)}, "numeric values in column 'a'"),
        ({"a": [True] * 9}, {"a": np.arange(9)}, "numeric values in column 'a'"),
        ({"a": np.arange(9)}, {"b": np.arange(9)}, "columns named a"),
        ({"a": np.arange(9)}, np.ones((9, 2)), "1 features, as the"),
        ({"a": np.arange(9)}, {"a": [{1}] * 9}, "'a' holds set"),
        ({"a": np.arange(9)}, {"a": np.ones((9, 2))}, "one value a row in column 'a'"),
        ({"a": np.arange(9)}, 5, "n_samples"),
        ({"a": np.arange(9)}, {"a": 5}, "one value a row in column 'a'"),
        ({"a": np.arange(9)}, pd.DataFrame(np.ones((9, 2)), columns=["a", "a"]), "distinct"),
        ({"a": ZONED}, {"a": NAIVE}, "a zone"),
        ({"a": NAIVE}, {"a": pd.Series(ZONED)}, "a zone"),
        ({"a": NAIVE}, {"a": pl.Series(ZONED)}, "a zone"),
        ({"a": ZONED}, {"a": np.array([*ZONED, *NAIVE], object)}, "a zone"),
        ({"a": np.arange(9)}, {"a": [10**400] * 9}, "float64"),
    ],
)
def test_a_chunk_unlike_the_first_is_refused(side, first, second, said):
    """A chunk that does not go with the first is refused with its number, its side and its column."""
    chunks = iter([first, [], second])
    pair = (chunks, first) if side == "baseline" else (first, chunks)
    with pytest.raises(InvalidArgumentError, match=f"chunk 3 of {side} must be .*{said}"):
        compare_inputs(*pair)


@pytest.mark.parametrize("side", SIDES)
def test_unknown_categories_in_chunks(side):
    """A feature that is declared and does not exist is refused by name."""
    with pytest.raises(InvalidArgumentError, match="categorical"):
        in_chunks(side, BEFORE, AFTER, [9], categorical=["no such"])


@pytest.mark.parametrize("side", SIDES)
def test_sides_of_other_width(side):
    """Samples of unequal width are refused."""
    with pytest.raises(InvalidArgumentError, match="3 features"):
        in_chunks(side, BEFORE, AFTER[:, :2], [9])


@pytest.mark.parametrize("side", SIDES)
def test_integers_too_large_for_floats_in_every_chunk(side):
    """Integers beyond 2**53 are compared as floats if they are floats on a side, but not if some chunks are of each."""
    large, floats = {"a": np.full(40, LARGE + 1)}, {"a": np.full(40, float(LARGE))}
    assert in_chunks(side, large, floats, [9]).features[0].effect_size == 0.0
    assert in_chunks(side, floats, large, [9]).features[0].effect_size == 0.0
    chunks = iter([large, floats])
    with pytest.raises(InvalidArgumentError, match=f"chunk 2 of {side} must be integers in column 'a'"):
        compare_inputs(*((chunks, large) if side == "baseline" else (large, chunks)))


@pytest.mark.parametrize("side", SIDES)
def test_categories_that_are_too_many(side):
    """More categories than memory should hold are refused: their counts are all that grows with the rows."""
    numbers = np.arange(2**18)
    chunks = ({"id": first * numbers.size + numbers} for first in range(MOST_CATEGORIES // numbers.size + 1))
    held = {"id": [1, 2] * 20}
    pair = (chunks, held) if side == "baseline" else (held, chunks)
    with pytest.raises(InvalidArgumentError, match=f"chunk 5 of {side} .*at most {MOST_CATEGORIES} categories"):
        compare_inputs(*pair, categorical=["id"])


@pytest.mark.parametrize("progress", [None, True])
@pytest.mark.parametrize("side", SIDES)
def test_a_chunk_is_forgotten_before_the_next_is_read(side, progress):
    """When a chunk is asked for, none of those before is alive any more."""
    alive = []

    def read() -> Iterator[np.ndarray]:
        chunks: list[weakref.ref[np.ndarray]] = []
        for _ in range(5):
            alive.append(sum(chunk() is not None for chunk in chunks))
            chunk = RNG.normal(size=(50, 3))
            chunks.append(weakref.ref(chunk))
            yield chunk
            del chunk

    compare_inputs(*((read(), AFTER) if side == "baseline" else (BEFORE, read())), progress=progress)
    assert alive == [0] * 5


@pytest.mark.parametrize("side", SIDES)
def test_memory_does_not_grow_with_the_chunks(side):
    """Twenty megabytes in chunks are compared with half of one in less than four."""
    held = RNG.normal(size=(10_000, 5))
    in_chunks(side, BEFORE, AFTER, [9])  # what is imported on first use counts for nobody
    chunks = (np.random.default_rng(seed).normal(size=(10_000, 5)) for seed in range(50))
    tracemalloc.start()
    try:
        compare_inputs(*((chunks, held) if side == "baseline" else (held, chunks)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4e6


def test_quantiles_of_many_rows_are_close():
    """Quantiles of 200 000 rows in chunks are off by no more rows than there are between two values in memory."""
    rng = np.random.default_rng(5)
    held, values = rng.normal(size=(1000, 1)), rng.normal(size=(200_000, 1))
    feature = compare_inputs(held, cut(values, range(10_000, 200_000, 10_000))).features[0]
    shown = np.array(feature.current_quantiles)
    ordered = np.sort(values[:, 0])
    assert (shown[0], shown[-1]) == (ordered[0], ordered[-1])
    ranks = ordered.searchsorted(shown) / ordered.size
    gaps = np.diff(ordered.searchsorted(np.sort(held[:, 0])), prepend=0, append=ordered.size) / ordered.size
    assert np.abs(ranks - np.linspace(0, 1, 21)).max() <= gaps.max()


def test_quantiles_away_from_the_other_sample_are_close():
    """Where no value in memory is near, quantiles of 100 000 rows keep to the bound of the 4096 that were sampled."""
    values = np.random.default_rng(6).normal(100.0, size=(100_000, 1))
    feature = compare_inputs(BEFORE[:, :1], cut(values, range(7_000, 100_000, 7_000))).features[0]
    ranks = np.sort(values[:, 0]).searchsorted(feature.current_quantiles) / len(values)
    # Dvoretzky, Kiefer, Wolfowitz and Massart at one in a thousand, and one step of the sample.
    bound = math.sqrt(math.log(2 / 0.001) / (2 * ROWS_SAMPLED)) + 1 / ROWS_SAMPLED
    assert 0 < np.abs(ranks - np.linspace(0, 1, 21)).max() <= bound


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 9000), max_size=5))
def test_the_picture_does_not_depend_on_the_cuts(edges):
    """Also the quantiles of more rows than are sampled are the same however these are cut into chunks."""
    values = np.random.default_rng(7).normal(5.0, size=(9000, 1))
    values[::7] = np.nan
    one, other = (compare_inputs(BEFORE[:, :1], cut(values, cuts)) for cuts in (sorted(edges), [4500]))
    assert one == other


def test_quantiles_of_rare_values():
    """A feature whose few values all escaped the sample shows the values in memory just below them."""
    values = np.full((20_000, 1), np.nan)
    values[-1] = 2.5
    feature = compare_inputs(np.arange(60.0)[:, np.newaxis] % 20, cut(values, [15_000])).features[0]
    assert set(feature.current_quantiles) == {2.5}


def test_products_too_large_for_64_bits():
    """The distance of samples whose sizes multiply to more than 2**62 is right to the last bits of a float."""
    grid = ValueGrid(np.array([1.0, 2.0, 2.0, 3.0]))
    grid.add(np.array([2.0, 2.5]))
    grid.missing = LARGEST_PRODUCT
    assert grid.supremum() == pytest.approx((1.0, 0.0))
