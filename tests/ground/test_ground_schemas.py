"""What inputs must look like: learned from data, checked without ever raising, stored as JSON."""

from __future__ import annotations

import datetime
import json
import math
import pickle
from collections.abc import Iterator, Mapping

import hypothesis.extra.numpy as npst
import hypothesis.strategies as st
import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings

from mlserve import ArraySchema, RecordSchema
from mlserve.errors import InvalidArgumentError, InvalidInputError
from mlserve.schemas import Field, schema_from_json

NAN, INF = float("nan"), float("inf")

SCHEMA = ArraySchema(shape=(2,), names=("length", "width"))


class Shy:
    """Cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no representation")


class Broken:
    """Claims to be an array and is none."""

    def __array__(self, *arguments: object, **options: object) -> np.ndarray:
        raise RuntimeError("no array")


class Endless(list):
    """A list that cannot be read."""

    def __len__(self) -> int:
        raise RuntimeError("no length")


# --------------------------------------------------------------------------------------------------------- accepted


@pytest.mark.parametrize(
    "input",
    [
        [1.0, 2.0],
        (1.0, 2.0),
        [1, 2],
        [True, 2.5],
        np.array([1.0, 2.0]),
        np.array([1, 2]),
        np.array([1.0, 2.0], np.float32),
        np.array([1.0, 2.0], ">f8"),
        np.array([True, False]),
        np.array([1.0, 9.0, 2.0])[::2],
        pd.Series([1.0, 2.0]),
        pd.DataFrame({"length": [1.0], "width": [2.0]}).iloc[0],
        [np.float32(1.0), np.int64(2)],
        [np.array(1.0), np.array(2.0)],
    ],
    ids=lambda value: f"{type(value).__name__} of {getattr(value, 'dtype', 'numbers')}",
)
def test_numbers_of_the_right_shape_are_accepted(input):
    """Arrays and sequences of numbers of the shape are accepted and given to the model in the schema's dtype."""
    result = SCHEMA.validate(input)
    assert (result.is_valid, result.error, result.message) == (True, None, "")
    assert (result.value.dtype, result.value.shape) == (np.float64, (2,))
    np.testing.assert_array_equal(result.value, np.asarray(input, np.float64))


def test_an_array_that_fits_is_not_copied():
    """An array of the very dtype and shape is given to the model as it is."""
    input = np.array([1.0, 2.0])
    assert SCHEMA.validate(input).value is input


@pytest.mark.parametrize(("allow_missing", "allow_infinite"), [(a, b) for a in (False, True) for b in (False, True)])
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble"])
@pytest.mark.parametrize("size", [2, 200])
def test_missing_and_infinite_values_are_accepted_where_said(allow_missing, allow_infinite, bad, dtype, size):
    """NaN is accepted only with ``allow_missing``, infinities only with ``allow_infinite``, in rows of any width."""
    schema = ArraySchema(shape=(size,), dtype=dtype, allow_missing=allow_missing, allow_infinite=allow_infinite)
    input = np.ones(size, dtype)
    input[1] = bad
    assert schema.validate(input).is_valid is (allow_missing if math.isnan(bad) else allow_infinite)


@pytest.mark.parametrize("pair", [(INF, -INF), (1e308, 1e308), (-1e308, -1e308), (NAN, INF)])
def test_values_that_cancel_or_add_up_to_infinity_are_told_apart(pair):
    """Large finite values are accepted though their sum is infinite; infinities are not though their sum is NaN."""
    assert SCHEMA.validate(np.array(pair)).is_valid is all(map(math.isfinite, pair))


def test_an_input_of_no_dimension_can_be_asked_for():
    """A schema may ask for a single number."""
    assert ArraySchema(shape=()).validate(5).value == 5.0


def test_an_input_of_two_dimensions_can_be_asked_for():
    """A schema may ask for a table or an image."""
    schema = ArraySchema(shape=(2, 3), dtype="float32")
    assert schema.validate(np.zeros((2, 3))).value.dtype == np.float32
    assert not schema.validate(np.zeros((3, 2))).is_valid


# ----------------------------------------------------------------------------------------------------------- by name


class Records(Mapping):
    """A mapping that is no dict."""

    def __init__(self, **values: object) -> None:
        self.values_by_name = values

    def __getitem__(self, name: str) -> object:
        return self.values_by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_by_name)

    def __len__(self) -> int:
        return len(self.values_by_name)


FRAME = pd.DataFrame({"width": [2.0], "length": [1]})


@pytest.mark.parametrize(
    "input",
    [
        {"length": 1.0, "width": 2.0},
        {"width": 2.0, "length": 1.0},
        {"width": 2, "length": True},
        Records(width=np.float32(2.0), length=1),
        pd.Series({"width": 2.0, "length": 1.0}),
        FRAME,
        FRAME.iloc[0],
        pd.DataFrame({"width": [9.0, 2.0], "length": [9, 1]}, index=["a", "b"]).loc[["b"]],
        pl.DataFrame({"width": [2.0], "length": [1]}),
        np.array([(2.0, 1)], dtype=[("width", "f8"), ("length", "i4")])[0],
        np.array((2.0, 1), dtype=[("width", "f8"), ("length", "i4")]),
    ],
    ids=lambda value: f"{type(value).__module__}.{type(value).__name__}",
)
def test_an_input_with_names_is_put_in_order(input):
    """Mappings, series, frames of one row and records of structured arrays are read by name, in whatever order."""
    result = SCHEMA.validate(input)
    assert (result.message, result.value.tolist(), result.value.dtype) == ("", [1.0, 2.0], np.float64)


def test_the_checker_puts_names_in_order_too():
    """What ``checker`` gives is in the order of the schema."""
    assert SCHEMA.checker()({"width": 2.0, "length": 1.0}).tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("input", "words"),
    [
        ({"length": 1.0}, "the input has no width; expected the features length, width."),
        ({}, "the input has no length, width; expected"),
        (
            {"length": 1.0, "widht": 2.0},
            "the input has no width and has widht, which is no feature of the schema; expected the features length, "
            "width. Is a name misspelt?",
        ),
        ({"length": 1.0, "width": 2.0, "height": 3.0}, "the input has height, which is no feature of the schema;"),
        ({"length": 1.0, "width": 2.0, 7: 3.0}, "the input has 7, which is no feature"),
        (pd.Series({"length": 1.0, "height": 2.0}), "has no width and has height"),
        (pd.DataFrame({"length": [1.0]}), "has no width"),
        (pd.DataFrame([[1.0, 2.0]]), "has no length, width and has 0, 1"),
        (pd.DataFrame([[1.0, 2.0]], columns=["length", "length"]), "the input has length twice; expected distinct"),
        (pd.Series([1.0, 2.0], index=["length", "length"]), "the input has length twice"),
        (FRAME.iloc[[0, 0]], "shape (2, 2); expected shape (2,). One row is expected, not a batch"),
        ({"length": 1.0, "width": "2.0"}, "feature 1 (width) is '2.0' of type str"),
        ({"length": 1.0, "width": None}, "feature 1 (width) is None"),
        ({"length": 1.0, "width": NAN}, "feature 1 (width) is nan"),
        ({"length": 1.0, "width": [2.0]}, "the input is list"),
    ],
    ids=lambda value: value[:50] if isinstance(value, str) else type(value).__name__,
)
def test_names_that_do_not_fit_are_told(input, words):
    """What is missing, what is unknown and what is there twice is named."""
    result = SCHEMA.validate(input)
    assert (result.is_valid, words in result.message) == (False, True), result.message


def test_the_first_name_at_fault_is_the_field():
    """The error's field is the first missing name, or else the first unknown one."""
    fields = [SCHEMA.validate(input).error.field for input in ({"x": 1}, {"length": 1.0, "width": 2.0, "x": 3.0})]
    assert fields == ["length", "x"]


def test_many_names_at_fault_are_counted():
    """Of many names the message lists the first eight."""
    message = ArraySchema(shape=(20,), names=[f"f{index}" for index in range(20)]).validate({}).message
    assert message.startswith("the input has no f0, f1, f2, f3, f4, f5, f6, f7 and 12 more; expected the features f0,")


def test_a_numbered_series_is_read_by_position():
    """A series whose index holds no names is a row like an array."""
    assert SCHEMA.validate(pd.Series([1.0, 2.0], index=[5, 6])).value.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    "frame", [pd.DataFrame({"b": [1], "a": [2.5]}), pl.DataFrame({"b": [1.0], "a": [2.5]})], ids=type
)
def test_without_names_a_frame_of_one_row_is_read_by_position(frame):
    """What has no names to ask for takes the values of a frame in the order of its columns."""
    assert ArraySchema.infer([[0.0, 0.0]]).validate(frame).value.tolist() == [1.0, 2.5]


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_what_is_masked_is_missing(dtype):
    """What lies behind a mask is no value: it is refused, or NaN where values may be missing, as masked data teach."""
    input = np.ma.masked_array(np.array([1, 999], dtype), [0, 1])
    assert "feature 1 is nan" in ArraySchema.infer(np.ones((2, 2))).validate(input).message
    schema = ArraySchema.infer(np.ma.masked_array(np.ones((2, 2)), [[0, 1], [0, 0]]))
    np.testing.assert_array_equal(schema.validate(input).value, [1.0, NAN])
    assert schema.validate(np.ma.masked_array([1.0, 2.0])).value.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("values", [["1.5", "2"], np.array(["2026-01-01", "2026-01-02"], "M8[D]"), [1j, 2.0]])
def test_a_mask_makes_no_number_of_what_is_none(values):
    """Texts, times and complex numbers are no numbers, masked or not."""
    schema = ArraySchema(shape=(2,), allow_missing=True)
    assert not schema.validate(np.ma.masked_array(values, [0, 1])).is_valid


@pytest.mark.parametrize(
    "input", [[1, pd.NA], {"b": pd.NaT, "a": 1}, pd.DataFrame({"a": [1.0], "b": pd.array([None], "Float64")})], ids=type
)
def test_what_pandas_calls_missing_is(input):
    """``pandas.NA`` and NaT are missing values as None is."""
    schema = ArraySchema(shape=(2,), names=("a", "b"), allow_missing=True)
    np.testing.assert_array_equal(schema.validate(input).value, [1.0, NAN])


def test_without_names_a_mapping_is_no_row():
    """A schema without names cannot tell the order of a mapping."""
    assert "the input is dict" in ArraySchema(shape=(2,)).validate({"length": 1.0, "width": 2.0}).message


def test_numbered_columns_are_names_too():
    """A frame whose columns are numbers is read by their text, which the schema learned."""
    frame = pd.DataFrame([[1.0, 2.0]])
    assert ArraySchema.infer(frame).validate(frame[[1, 0]]).value.tolist() == [1.0, 2.0]


class Unreadable(Records):
    """A mapping that cannot be read."""

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("no names")


def test_a_mapping_that_cannot_be_read_is_refused():
    """An exception that an input raises when it is read is a refusal."""
    assert "the input cannot be read (RuntimeError: no names)" in SCHEMA.validate(Unreadable()).message


@pytest.mark.parametrize("input", [[1.0, None], (1.0, None), {"width": None, "length": 1.0}])
def test_none_is_a_missing_value_where_there_may_be_some(input):
    """None in a sequence or by name is NaN for a schema that allows missing values."""
    value = ArraySchema(shape=(2,), names=("length", "width"), allow_missing=True).validate(input).value
    np.testing.assert_array_equal(value, [1.0, NAN])


@pytest.mark.parametrize("dtype", ["int64", "bool"])
def test_none_is_no_whole_number(dtype):
    """Integers and booleans have no missing values."""
    assert not ArraySchema(shape=(2,), dtype=dtype, allow_missing=True).validate([1, None]).is_valid


# ---------------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("input", "words"),
    [
        (None, "the input is None; expected an array of shape (2,)"),
        ([1.0], "shape (1,); expected shape (2,). The features are length, width."),
        ([1.0, 2.0, 3.0], "shape (3,); expected shape (2,)"),
        ([], "shape (0,); expected shape (2,)"),
        (5.0, "shape (); expected shape (2,)"),
        ([[1.0, 2.0]], "One row is expected, not a batch: pass X[0], or a batch to predict_many."),
        (np.zeros((3, 2)), "shape (3, 2); expected shape (2,). One row is expected"),
        ([1.0, NAN], "feature 1 (width) is nan; expected a finite float64. Fill missing values"),
        ([INF, 1.0], "feature 0 (length) is inf; expected a finite float64. Clip it"),
        ([1.0, -INF], "feature 1 (width) is -inf"),
        ([1.0, 2j], "complex"),
        (np.array([1.0, 2.0], complex), "an array of dtype complex128"),
        (np.array([1.0, "a"], object), "an array of dtype object"),
        (np.array([1.0, 2.0], object), "an array of dtype object"),
        (np.array(["a", "b"]), "an array of dtype <U1"),
        (np.array(["2026-01-01", "2026-01-02"], "M8[D]"), "datetime64"),
        ("text", "the input is str; expected numbers of shape (2,)"),
        (b"text", "the input is bytes"),
        ([1.0, "2.0"], "feature 1 (width) is '2.0' of type str; expected a number. Encode it first."),
        ([1.0, None], "feature 1 (width) is None of type NoneType"),
        ([1.0, pd.NA], "feature 1 (width) is <NA>"),
        ([[1.0], [2.0, 3.0]], "the input is list"),
        ({1.0: "length", 2.0: "width"}, "the input has no length, width and has 1.0, 2.0, which is no feature"),
        ({1.0, 2.0}, "the input is set"),
        (iter([1.0, 2.0]), "the input is list_iterator"),
        (object(), "the input is object"),
        (Broken(), "the input is Broken"),
        (Endless([1.0, 2.0]), "the input is Endless"),
        ([1.0, Shy()], "feature 1 (width) is an object of type Shy"),
        ([1.0, 2**70], "the input is list"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else type(value).__name__,
)
def test_what_does_not_fit_is_refused_with_the_reason(input, words):
    """An input that does not fit has a message that says what was wrong, where, and what was expected."""
    result = SCHEMA.validate(input)
    assert (result.is_valid, result.value) == (False, None)
    assert isinstance(result.error, InvalidInputError)
    assert words in result.message


def test_every_bad_feature_is_counted():
    """The first three bad values are named and the others counted."""
    message = ArraySchema(shape=(6,)).validate([NAN, 1.0, NAN, NAN, NAN, NAN]).message
    assert message.startswith("feature 0 is nan, feature 2 is nan, feature 3 is nan and 2 more; expected")


def test_the_error_names_the_field():
    """The error carries the first bad feature and the expectation as values."""
    error = SCHEMA.validate([1.0, NAN]).error
    assert (error.field, error.expected) == ("feature 1 (width)", "a finite float64")


def test_a_bad_element_of_a_table_is_named_by_its_place():
    """In an input of several dimensions a bad value is named by its indices."""
    input = np.zeros((2, 3))
    input[1, 2] = NAN
    assert ArraySchema(shape=(2, 3)).validate(input).error.field == "element (1, 2)"


@pytest.mark.parametrize("shape", [(), (1, 1), (2, 3), (0,), (1,)])
@pytest.mark.parametrize("input", [["a"], [1.0, "a"], [[1.0], "a"], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, "a"]])
def test_text_in_a_list_is_refused_whatever_the_shape(shape, input):
    """Text in a list is refused by a schema of any shape, also where the list is longer than the schema has places."""
    assert not ArraySchema(shape=shape).validate(input).is_valid


@pytest.mark.parametrize(
    ("dtype", "input", "is_valid"),
    [
        ("int64", [1.0, 2.0], False),
        ("int64", np.array([1, 2], np.int8), True),
        ("int8", np.array([1, 2], np.int64), True),
        ("int8", np.array([1, 300], np.int64), False),
        ("uint8", np.array([-1, 2]), False),
        ("uint8", np.array([1, 2]), False),
        ("uint8", [1, 255], True),
        ("uint8", [1, 256], False),
        ("uint8", (-1, 2), False),
        ("uint64", [0, 2**63 - 1], True),
        ("int64", np.array([2**63, 1], np.uint64), False),
        ("bool", [True, False], True),
        ("bool", [1, 0], False),
        ("float32", [1e300, 1.0], False),
        ("float16", np.array([70000, 1]), False),
        ("float32", np.array([1.0, 2.0]), True),
        ("int64", [True, False], True),
    ],
)
def test_dtypes_are_cast_by_kind(dtype, input, is_valid):
    """Integers are cast to floats and wider to narrower where the values fit, never floats to integers; Python's own
    have no width.
    """
    assert ArraySchema(shape=(2,), dtype=dtype).validate(input).is_valid is is_valid


def test_an_error_holds_no_traceback():
    """The error of a refused input pins no frame, and so no input."""
    assert SCHEMA.validate(None).error.__traceback__ is None


@pytest.mark.parametrize(
    "schema",
    [
        ArraySchema(shape=(2,), dtype="int64"),
        ArraySchema(shape=(2,), dtype="bool"),
        ArraySchema(shape=(2,), allow_missing=True, allow_infinite=True),
        ArraySchema(shape=(2,)),
        ArraySchema(shape=(200,)),
        ArraySchema(shape=(2, 2)),
    ],
    ids=str,
)
def test_a_checker_does_not_copy_what_fits(schema):
    """An array that fits is given to the model as it is, whatever the dtype, the width and the policy."""
    input = np.ones(schema.shape, schema.dtype)
    assert schema.checker()(input) is input


def test_a_checker_raises_what_validate_answers():
    """``checker`` gives a function that returns the array or raises the error."""
    check = SCHEMA.checker()
    assert check([1.0, 2.0]).tolist() == [1.0, 2.0]
    with pytest.raises(InvalidInputError, match="None"):
        check(None)


# ------------------------------------------------------------------------------------------------------------ infer


def test_a_schema_is_learned_from_rows():
    """Shape, dtype and range are those of the data."""
    schema = ArraySchema.infer([[1.0, -5.0], [3.0, 7.0]], names=["a", "b"])
    assert schema == ArraySchema(shape=(2,), dtype="float64", names=("a", "b"), minimum=(1.0, -5.0), maximum=(3.0, 7.0))


def test_one_row_teaches_a_schema():
    """A single input of one dimension is one row."""
    assert ArraySchema.infer([1.0, 2.0]).shape == (2,)


@pytest.mark.parametrize("shape", [(5, 3, 2), (1, 4, 4), (2, 0), (0, 3)])
def test_a_schema_has_the_shape_of_one_sample(shape):
    """The first dimension counts samples; the others are the shape."""
    assert ArraySchema.infer(np.zeros(shape)).shape == shape[1:]


def test_missing_and_infinite_values_are_learned():
    """What the data has is accepted later."""
    assert ArraySchema.infer([[1.0, NAN]]).allow_missing
    assert ArraySchema.infer([[1.0, INF]]).allow_infinite
    plain = ArraySchema.infer([[1.0, 2.0]])
    assert (plain.allow_missing, plain.allow_infinite) == (False, False)


def test_the_range_is_of_finite_values():
    """NaN and infinities have no part in the range."""
    schema = ArraySchema.infer([[1.0, NAN], [INF, 5.0], [-INF, 6.0]])
    assert (schema.minimum, schema.maximum) == ((1.0, 5.0), (1.0, 6.0))


def test_a_frame_brings_its_names():
    """A frame's columns name the features."""
    assert ArraySchema.infer(pd.DataFrame({"a": [1.0], "b": [2.0]})).names == ("a", "b")


def test_columns_that_are_no_text_are_named_by_it():
    """Columns that are numbers are named by their text."""
    assert ArraySchema.infer(pd.DataFrame([[1.0, 2.0]])).names == ("0", "1")


def test_said_names_win_over_columns():
    """Names that are said stand over those of a frame."""
    assert ArraySchema.infer(pd.DataFrame({"a": [1.0]}), names=["length"]).names == ("length",)


@pytest.mark.parametrize(
    "X",
    [
        None,
        5.0,
        "text",
        [["a", "b"]],
        [[1.0], [2.0, 3.0]],
        [{"a": 1.0}],
        {"a": [1.0]},
        np.array([[1j]]),
        np.array([["2026-01-01"]], "M8[D]"),
        np.array([[object()]]),
        pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]}),
        pd.DataFrame({"a": [1.0, "x"]}),
        pd.DataFrame([[1.0, 2.0]], columns=["a", "a"]),
        pd.DataFrame({"a": pd.Categorical(["x", "y"])}),
    ],
    ids=lambda value: f"{type(value).__name__} {str(value)[:20]!r}",
)
def test_what_teaches_no_schema_is_refused(X):
    """``infer`` raises ``InvalidArgumentError`` for what is no array of numbers, or has repeated columns."""
    with pytest.raises(InvalidArgumentError):
        ArraySchema.infer(X)


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c"], ["a", "a"], ["a", 1]])
def test_names_that_do_not_fit_are_refused(names):
    """``infer`` raises ``InvalidArgumentError`` for names that are too few, too many, repeated or no text."""
    with pytest.raises(InvalidArgumentError):
        ArraySchema.infer([[1.0, 2.0]], names=names)


@pytest.mark.parametrize(
    "values",
    [
        {"shape": (2,), "dtype": "complex128"},
        {"shape": (2,), "dtype": "object"},
        {"shape": (2,), "dtype": "str"},
        {"shape": (2,), "dtype": "nonsense"},
        {"shape": (2,), "dtype": "datetime64[s]"},
        {"shape": (-1,)},
        {"shape": (2,), "names": ("a",)},
        {"shape": (2, 2), "names": ("a", "b")},
        {"shape": (2,), "minimum": (1.0,), "maximum": (2.0,)},
        {"shape": (2,), "minimum": (1.0, 2.0), "maximum": (2.0,)},
    ],
)
def test_a_schema_that_means_nothing_is_refused(values):
    """``InvalidArgumentError`` is raised when a schema is built of what does not fit together."""
    with pytest.raises(InvalidArgumentError):
        ArraySchema(**values)


# ---------------------------------------------------------------------------------------------------------- example


def test_an_example_is_the_middle_of_the_range():
    """``example`` is the middle of the range seen."""
    assert ArraySchema.infer([[1.0, -4.0], [3.0, 8.0]]).example().tolist() == [2.0, 2.0]


@pytest.mark.parametrize(
    ("dtype", "value"), [("float64", 0.5), ("float32", 0.5), ("int64", 0), ("uint8", 0), ("bool", True)]
)
def test_an_example_of_an_unknown_range_is_a_half(dtype, value):
    """``example`` is 0.5 of each element, as the dtype has it, where no range was learned."""
    example = ArraySchema(shape=(2, 2), dtype=dtype).example()
    assert (example.dtype, example.tolist()) == (np.dtype(dtype), [[value, value], [value, value]])


@pytest.mark.parametrize(
    "rows",
    [
        np.array([[2**63 - 1], [2**63 - 1]]),
        np.array([[-(2**63)]]),
        np.array([[2**64 - 1]], np.uint64),
        np.array([[127, -128]], np.int8),
        np.array([[1.7e308], [1.7e308]]),
        np.array([[-1.7e308], [1.7e308]]),
        np.array([[65504.0]], np.float16),
        np.array([[NAN, INF]]),
        np.array([[True], [False]]),
    ],
    ids=str,
)
def test_an_example_at_the_edge_of_its_dtype_fits(rows):
    """``example`` fits the schema also where the range ends at the largest value of the dtype."""
    schema = ArraySchema.infer(rows)
    assert schema.validate(schema.example()).is_valid


def test_an_example_of_one_value_is_that_value():
    """``example`` of data that never changes is that value."""
    assert ArraySchema.infer(np.array([[127], [127]], np.int8)).example().tolist() == [127]


# ------------------------------------------------------------------------------------------------------------- JSON


SCHEMAS = [
    SCHEMA,
    ArraySchema(shape=()),
    ArraySchema(shape=(2, 3), dtype="uint8"),
    ArraySchema.infer([[1.0, NAN], [INF, 5.0]], names=["a", "ü"]),
    ArraySchema.infer(np.array([[2**63 - 1]])),
    ArraySchema.infer(np.empty((0, 3))),
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_a_schema_survives_json(schema):
    """``from_json`` gives the schema that ``to_json`` wrote."""
    assert ArraySchema.from_json(schema.to_json()) == schema


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_the_json_is_strict(schema):
    """``to_json`` writes JSON that any reader takes: no NaN, no infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert json.loads(schema.to_json(), parse_constant=refuse)["kind"] == "array"


def test_the_json_is_the_same_each_time():
    """The same schema writes the same text, so that it can be hashed."""
    assert SCHEMA.to_json() == ArraySchema(names=("length", "width"), shape=(2,)).to_json()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[]",
        "5",
        "null",
        '"text"',
        "{}",
        None,
        5,
        SCHEMA.to_json().replace('"format": 1', '"format": 2'),
        SCHEMA.to_json().replace('"array"', '"record"'),
        SCHEMA.to_json().replace("float64", "nonsense"),
        SCHEMA.to_json().replace("float64", "object"),
        SCHEMA.to_json().replace('"shape": [2]', '"shape": [3]'),
        SCHEMA.to_json().replace('"shape": [2]', '"shape": "text"'),
        SCHEMA.to_json().replace('"shape"', '"form"'),
        SCHEMA.to_json().replace('"minimum": null', '"minimum": [1.0]'),
        SCHEMA.to_json().replace("{", '{"more": 1, ', 1),
    ],
    ids=lambda value: str(value)[:60],
)
def test_other_text_is_no_schema(text):
    """``from_json`` raises ``InvalidArgumentError`` for what ``to_json`` did not write."""
    with pytest.raises(InvalidArgumentError):
        ArraySchema.from_json(text)


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_a_schema_survives_being_a_dict(schema):
    """``from_dict`` gives the schema that ``to_dict`` wrote, also after a way through JSON."""
    assert ArraySchema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema


@pytest.mark.parametrize(
    "schema", [SCHEMA, RecordSchema([Field("a", "float")])], ids=lambda schema: type(schema).__name__
)
def test_a_schema_of_any_kind_is_read(schema):
    """``schema_from_json`` gives the schema that ``to_json`` of any kind of schema wrote."""
    assert schema_from_json(schema.to_json()) == schema


@pytest.mark.parametrize("text", ["[]", "5", "{}", "nonsense", '{"format": 1, "kind": "other"}', None])
def test_what_is_no_schema_of_any_kind_is_refused(text):
    """``schema_from_json`` raises ``InvalidArgumentError`` for other text."""
    with pytest.raises(InvalidArgumentError):
        schema_from_json(text)


def test_a_schema_survives_pickling():
    """A pickled schema comes back equal."""
    assert pickle.loads(pickle.dumps(SCHEMA)) == SCHEMA


def test_equal_schemas_hash_alike():
    """Schemas are compared by value and can be keys."""
    assert {SCHEMA: 1}[ArraySchema(shape=[2], dtype=np.float64, names=["length", "width"])] == 1


# ------------------------------------------------------------------------------------------------------------- laws


DTYPES = st.sampled_from(
    ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"]
)
SHAPES = npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.datetimes(),
    st.decimals(),
    st.fractions(),
    st.builds(object),
    st.builds(Shy),
    st.builds(Broken),
    st.just(Endless([1.0])),
    st.just(pd.NA),
    st.just(pd.NaT),
    st.just(datetime.date(2026, 1, 1)),
    npst.arrays(npst.scalar_dtypes(), npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)),
    npst.arrays(DTYPES, SHAPES),
)

ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
        st.frozensets(st.integers(), max_size=3),
    ),
    max_leaves=8,
)

ANY_SCHEMA = st.builds(
    ArraySchema,
    shape=SHAPES,
    dtype=DTYPES,
    allow_missing=st.booleans(),
    allow_infinite=st.booleans(),
)


@settings(deadline=None, max_examples=400)
@given(schema=ANY_SCHEMA, input=ANYTHING)
def test_validating_never_raises(schema, input):
    """Whatever comes in, ``validate`` answers: a value that keeps to the schema, or an error that says why."""
    result = schema.validate(input)
    assert result.is_valid is (result.error is None)
    if result.is_valid:
        assert (result.value.dtype.name, result.value.shape) == (schema.dtype, schema.shape)
        if result.value.dtype.kind == "f":
            assert schema.allow_missing or not np.isnan(result.value).any()
            assert schema.allow_infinite or not np.isinf(result.value).any()
    else:
        assert result.value is None
        assert result.message


ROWS = DTYPES.flatmap(
    lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=5))
)


@settings(deadline=None, max_examples=200)
@given(rows=ROWS)
def test_a_schema_accepts_the_rows_it_was_learned_from(rows):
    """Every row of the data passes the schema learned from it, unchanged."""
    schema = ArraySchema.infer(rows)
    for row in rows:
        np.testing.assert_array_equal(schema.validate(row).value, row, strict=True)


@settings(deadline=None, max_examples=200)
@given(rows=ROWS)
def test_a_learned_schema_has_an_example_and_survives_json(rows):
    """A schema learned from any numbers has an example that fits and comes back from JSON."""
    schema = ArraySchema.infer(rows)
    assert schema.validate(schema.example()).is_valid
    assert ArraySchema.from_json(schema.to_json()) == schema


@settings(deadline=None, max_examples=100)
@given(rows=npst.arrays("float64", st.tuples(st.integers(1, 20), st.just(3)), elements=st.floats(-1e300, 1e300)))
def test_a_learned_range_is_that_of_the_data(rows):
    """The range is the smallest and the largest value of each feature, and the example lies between."""
    schema = ArraySchema.infer(rows)
    assert schema.minimum == tuple(rows.min(axis=0))
    assert schema.maximum == tuple(rows.max(axis=0))
    assert ((schema.example() >= rows.min(axis=0)) & (schema.example() <= rows.max(axis=0))).all()


def test_long_doubles_beyond_a_double_teach_a_schema():
    """Data wider than a double is learned without a warning, and its rows pass."""
    if np.finfo(np.longdouble).max == np.finfo(np.float64).max:
        pytest.skip("a long double is a double on this machine")
    rows = np.array([[np.longdouble("1e4000")], [np.longdouble("1")]])
    schema = ArraySchema.infer(rows)
    assert schema.validate(rows[0]).is_valid
    assert not schema.allow_infinite


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (2**53 + 1, list),
        (2**53 + 1, np.array),
        (-(2**53) - 1, np.array),
        (2**63 - 1, np.array),
        (2**64 - 1, np.uint64),
    ],
)
def test_an_integer_that_a_float_does_not_hold_is_refused(value, form):
    """A 64-bit integer that would reach the model as another number is named, and refused."""
    given = np.array([0, value], np.uint64) if form is np.uint64 else form([0, value])
    result = ArraySchema(shape=(2,)).validate(given)
    assert (result.is_valid, f"feature 1 is {value}" in (result.message or "")) == (False, True)


@pytest.mark.parametrize("value", [0, 2**53, -(2**53), 2**60, 2**63])
def test_an_integer_that_a_float_holds_is_valid(value):
    """Whatever its size, an integer that a float64 holds exactly is taken."""
    result = ArraySchema(shape=(2,)).validate(np.array([0, value]))
    assert (result.is_valid, int(result.value[1])) == (True, value)
