"""Whatever holds a table, as columns."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import polars as pl
import pytest

from mlserve.drift import DriftPolicy, compare_inputs
from mlserve.drift._columns import Kind
from mlserve.drift._tables import table
from mlserve.errors import InvalidArgumentError
from mlserve.records import FeatureStatus

DAY = datetime(2026, 1, 1, tzinfo=UTC)
SECONDS = DAY.timestamp()


def only(values):
    """The one column of a table."""
    return table("values", {"a": values}, None).column(0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.5, 2.5], [1.5, 2.5]),
        ([1, None, 3], [1, np.nan, 3]),
        (np.array([1, 2], np.uint8), [1, 2]),
        (np.array([timedelta(seconds=1), None], "timedelta64[ms]"), [1, np.nan]),
        ([None, None], [np.nan, np.nan]),
        (pd.array([1, None, 3], "Int64"), [1, np.nan, 3]),
        ([np.float32(1), 2, True], [1, 2, 1]),
        (np.ma.array([1.0, 2.0], mask=[True, False]), [np.nan, 2]),
        (np.array([1.5, None] * 2, object), [1.5, np.nan] * 2),
        (np.array([*range(300), None], object), [*range(300), np.nan]),
        (np.array([*range(300), pd.NA], object), [*range(300), np.nan]),
        (pd.Series([1.5, None], dtype="Float64"), [1.5, np.nan]),
        (pl.Series([1, None]), [1, np.nan]),
    ],
    ids=[
        "floats",
        "none among integers",
        "bytes",
        "spans",
        "nothing",
        "pandas.NA",
        "mixed numbers",
        "masked",
        "shared objects",
        "many objects",
        "many objects and pandas.NA",
        "pandas",
        "polars",
    ],
)
def test_numbers(values, expected):
    """Numbers in whatever container are numbers, missing ones NaN; spans are seconds."""
    column = only(np.asarray(values, object) if isinstance(values, pd.api.extensions.ExtensionArray) else values)
    assert column.kind is Kind.NUMERIC
    np.testing.assert_array_equal(column.values.astype(float), expected)


@pytest.mark.parametrize(
    "values",
    [
        np.array(["2026-01-01", "NaT"], "datetime64[D]"),
        [DAY, None],
        [DAY.replace(tzinfo=None), None],
        [date(2026, 1, 1), None],
        np.array([pd.Timestamp(DAY), pd.NaT], object),
        np.array([np.datetime64("2026-01-01"), None], object),
        np.array([DAY.astimezone(), None], object),
        pd.Series([DAY, None]),
        pd.Series([DAY.replace(tzinfo=None), None]),
        pl.Series([DAY, None]),
        pl.Series([DAY.replace(tzinfo=None), None]),
    ],
    ids=[
        "numpy",
        "zoned",
        "naive",
        "dates",
        "pandas",
        "objects of numpy",
        "another zone",
        "pandas, zoned",
        "pandas, naive",
        "polars, zoned",
        "polars, naive",
    ],
)
def test_times(values):
    """Times of whatever type are seconds since 1970 in UTC, missing ones NaN."""
    column = only(values)
    assert column.kind is Kind.DATETIME
    np.testing.assert_array_equal(column.values, [SECONDS, np.nan])


@pytest.mark.parametrize(
    ("values", "kind", "counts"),
    [
        (["a", "b", "a"], Kind.CATEGORICAL, {"a": 2, "b": 1}),
        (np.array(["a", None, np.nan], object), Kind.CATEGORICAL, {"a": 1, None: 2}),
        ([b"a", b"b"], Kind.CATEGORICAL, {b"a": 1, b"b": 1}),
        ([True, False, True], Kind.BOOLEAN, {True: 2, False: 1}),
        ([True, None], Kind.BOOLEAN, {True: 1, None: 1}),
        (np.array(["a", 1], object), Kind.CATEGORICAL, {"a": 1, 1: 1}),
        (np.array(["a", pd.NA], object), Kind.CATEGORICAL, {"a": 1, None: 1}),
        (np.array(["ab", "c", "ab"]), Kind.CATEGORICAL, {"ab": 2, "c": 1}),
        (np.array(["abc", "c", "abc"]), Kind.CATEGORICAL, {"abc": 2, "c": 1}),
        (np.array([b"a", b"b", b"a"]), Kind.CATEGORICAL, {b"a": 2, b"b": 1}),
        (
            np.array(list(map(chr, range(200))) * 2),
            Kind.CATEGORICAL,
            dict.fromkeys(map(chr, range(1, 200)), 2) | {"": 2},
        ),
        (pd.Series(["a", None, "a"], dtype="str"), Kind.CATEGORICAL, {"a": 2, None: 1}),
        (pd.Series(["a", None, "a"], dtype="string"), Kind.CATEGORICAL, {"a": 2, None: 1}),
        (pd.Series(["a", None, "a"], dtype=object), Kind.CATEGORICAL, {"a": 2, None: 1}),
        (pd.Series(pd.Categorical(["a", None, "a"], ["b", "a"])), Kind.CATEGORICAL, {"a": 2, None: 1}),
        (pd.Series(pd.Categorical([1, 2, 1])), Kind.CATEGORICAL, {1: 2, 2: 1}),
        (pd.Series(pd.Categorical([True, None])), Kind.BOOLEAN, {True: 1, None: 1}),
        (pd.Series([None, None], dtype="string"), Kind.CATEGORICAL, {None: 2}),
        (pl.Series("count", ["a", None, "a"]), Kind.CATEGORICAL, {"a": 2, None: 1}),
        (pl.Series(["a", None, "a"], dtype=pl.Categorical), Kind.CATEGORICAL, {"a": 2, None: 1}),
        (pl.Series(["a", None, "a"], dtype=pl.Enum(["b", "a"])), Kind.CATEGORICAL, {"a": 2, None: 1}),
        (pl.Series([True, None]), Kind.BOOLEAN, {True: 1, None: 1}),
        (["a", "b", "a", None], Kind.CATEGORICAL, {"a": 2, "b": 1, None: 1}),
        (["a", 1], Kind.CATEGORICAL, {"a": 1, 1: 1}),
    ],
    ids=[
        "text",
        "missing text",
        "bytes",
        "booleans",
        "missing booleans",
        "mixed",
        "pandas.NA",
        "pairs of letters",
        "three letters",
        "short bytes",
        "many letters",
        "pandas str",
        "pandas string",
        "pandas objects",
        "pandas categories",
        "pandas numbers as categories",
        "pandas booleans as categories",
        "pandas nothing",
        "polars text",
        "polars categories",
        "polars enumeration",
        "polars booleans",
        "list",
        "mixed list",
    ],
)
def test_categories(values, kind, counts):
    """Text, booleans and mixtures are counted, missing ones under None."""
    column = only(values)
    assert column.kind is kind
    assert {value: count for value, count in column.category_counts().items() if count} == counts


def test_many_times():
    """Times of as many objects as rows are seconds since 1970, missing ones NaN."""
    column = only([*(DAY + timedelta(seconds=second) for second in range(300)), None])
    assert (column.kind, column.is_zoned) == (Kind.DATETIME, True)
    np.testing.assert_array_equal(column.values, [*(SECONDS + np.arange(300)), np.nan])


def test_categories_that_show_late():
    """Categories that come after many rows of one and the same are all counted."""
    values = ["same"] * 1000 + [f"shop {number}" for number in range(300)]
    assert only(values).category_counts() == {"same": 1000} | {f"shop {number}": 1 for number in range(300)}


@pytest.mark.parametrize("share", [True, False])
def test_objects_that_are_equal_are_counted_together(share):
    """Equal texts are one category, be they few objects again and again or as many objects as rows."""
    names = ["east side", "west side"]
    values = [name if share else "".join(name) for name in names * 100]
    distinct = [value if share else value[:4] + value[4:] for value in values]
    assert only(np.array(distinct, object)).category_counts() == {"east side": 100, "west side": 100}


def test_the_first_of_equal_objects_names_them():
    """Of true and 1, which are equal, the first names both, wherever in memory they lie."""
    for values in ([True, 1, 1.0], [1, True, 1.0]):
        (name,) = only(np.array([*values, "x"] * 3, object)).category_counts().keys() - {"x"}
        assert type(name) is type(values[0])


def test_a_masked_table_has_missing_values():
    """What a masked array hides is missing, not what lies under the mask."""
    hidden = np.ma.array(np.zeros((40, 2)), mask=[[True, False]] * 40)
    rates = [feature.current_missing_rate for feature in compare_inputs(np.zeros((40, 2)), hidden).features]
    assert rates == [1.0, 0.0]


class RefusingToCompare:
    """A value that raises when it is compared."""

    def __hash__(self):
        return 1

    def __eq__(self, other):
        return self is other

    def __ne__(self, other):
        raise RuntimeError("not comparable")


def test_a_value_that_refuses_to_be_compared_is_a_category():
    """What raises when compared with itself is no missing value."""
    value = RefusingToCompare()
    assert only(np.array([value], object)).category_counts() == {value: 1}


def test_polars_frames():
    """A polars frame gives the same report as a pandas frame, missing values and text among its columns."""
    data = {"size": [1.0, None, *range(60)], "shop": ["a", None, *("ab" * 30)], "open": [True, None, *[False] * 60]}
    polars, pandas = pl.DataFrame(data, strict=False), pd.DataFrame(data)
    assert compare_inputs(polars, polars).to_dict() == compare_inputs(pandas, pandas).to_dict()


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "boolean", "category", "string"])
def test_extension_types_of_pandas(dtype):
    """The extension types of pandas are compared like the plain ones."""
    values = {"boolean": [True, False] * 20, "category": list("ab") * 20, "string": list("ab") * 20}.get(
        dtype, range(40)
    )
    frame = pd.DataFrame({"a": pd.Series(values, dtype=dtype)})
    feature = compare_inputs(frame, frame).features[0]
    kinds = {"boolean": "boolean", "category": "categorical", "string": "categorical"}
    assert (feature.kind, feature.effect_size) == (kinds.get(dtype, "numeric"), 0.0)


def test_missing_values_of_extension_types_are_missing():
    """pandas.NA among integers is a missing value."""
    frame = pd.DataFrame({"a": pd.Series([None, *range(39)], dtype="Int64")})
    assert compare_inputs(frame, frame).features[0].current_missing_rate == pytest.approx(1 / 40)


class BrokenFrame:
    columns = ("a",)

    def __getitem__(self, name):
        raise RuntimeError("connection lost")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (BrokenFrame(), "connection lost"),
        ({"a": np.zeros((2, 2))}, "one value a row"),
        ({"a": np.zeros(2, complex)}, "complex128"),
        ({"a": np.array([1, {1}, {2}], object)}, "holds set"),
        ({"a": [10**400, 1]}, "float64"),
        ({"a": [[1], [2, 3]]}, "inhomogeneous|one value"),
        (np.array([("x", 1 + 2j)], [("a", "O"), ("b", "c16")]), "complex128"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "distinct"),
        ({1: [1], "1": [2]}, "distinct"),
        ({"a": 5}, "one value a row"),
        ({"a": "abc"}, "one value a row"),
        ({"a": pd.Series([[1], [2]])}, "holds list"),
    ],
    ids=[
        "broken frame",
        "matrix",
        "complex",
        "sets",
        "huge",
        "ragged",
        "complex field",
        "same name",
        "same name as text",
        "number",
        "text",
        "lists",
    ],
)
def test_what_is_no_column_is_refused(value, said):
    """What cannot be a column is refused with what was wrong."""
    with pytest.raises(InvalidArgumentError, match=said):
        compare_inputs(value, value)


def test_columns_to_compare_can_be_chosen():
    """With named columns, feature_names chooses and orders them; one that is not there is refused by name."""
    frame = pd.DataFrame({"a": range(40), "b": range(40)})
    assert [feature.name for feature in compare_inputs(frame, frame, feature_names=["b"]).features] == ["b"]
    with pytest.raises(InvalidArgumentError, match="'c'"):
        compare_inputs(frame, frame, feature_names=["c"])


def test_a_boolean_against_numbers_is_a_number():
    """A flag that became 0 and 1 has not changed its type."""
    feature = compare_inputs({"a": [True, False] * 30}, {"a": [1.0, 0.0] * 30}).features[0]
    assert (feature.kind, feature.effect_size) == ("numeric", 0.0)


def test_a_flag_that_may_be_missing_against_numbers():
    """A missing flag is a missing number."""
    feature = compare_inputs({"a": [True, None] * 30}, {"a": [1.0, np.nan] * 30}).features[0]
    assert (feature.kind, feature.effect_size) == ("numeric", 0.0)


def test_a_baseline_without_values_takes_the_kind_of_the_window():
    """A column that had no values and now has some is empty and drifted."""
    feature = compare_inputs({"a": [None] * 40}, {"a": ["x", "y"] * 20}).features[0]
    assert (feature.kind, feature.status, feature.direction) == ("categorical", FeatureStatus.EMPTY, "missing")


def test_large_integers_against_floats():
    """Integers beyond 2**53 against floats are compared as floats, not refused."""
    drift = compare_inputs(np.full((40, 1), 2**60 + 1), np.full((40, 1), 2.0**60))
    assert drift.features[0].effect_size == 0.0


def test_no_level_makes_nothing_significant():
    """At level 0 nothing can be detected, and that is said."""
    policy = DriftPolicy(alpha=0.0, high_severity_alpha=0.0)
    rows, colours = np.arange(80.0), list("ab") * 40
    drift = compare_inputs({"a": rows, "b": colours}, {"a": rows + 1000, "b": ["c"] * 80}, policy=policy)
    assert [feature.minimum_detectable_effect for feature in drift.features] == [1.0, 1.0]
    assert not drift.is_drift_detected
