"""The one rule from an input to a row of features."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mlserve.schemas import feature_row, feature_rows

NAN = float("nan")


@pytest.mark.parametrize(
    ("input", "row"),
    [
        ([1.0, 2.0], [1.0, 2.0]),
        ((1, 2), [1.0, 2.0]),
        (np.array([1.0, 2.0], np.float32), [1.0, 2.0]),
        (np.array([[1, 2], [3, 4]]), [1.0, 2.0, 3.0, 4.0]),
        (5, [5.0]),
        (2.5, [2.5]),
        (True, [1.0]),
        (np.float64(3.0), [3.0]),
        ({"a": 1.0, "b": 2}, [1.0, 2.0]),
        (pd.Series([1.0, 2.0]), [1.0, 2.0]),
        (pd.DataFrame({"a": [1.0], "b": [2.0]}), [1.0, 2.0]),
        ([1.0, NAN], [1.0, NAN]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_input_is_a_row_of_its_numbers(input, row):
    """A number, an array, a sequence or a mapping of numbers is a row of float64, flattened in C order."""
    found = feature_row(input)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, row)


@pytest.mark.parametrize(
    "input",
    [None, "text", b"text", [], {}, np.empty(0), ["a"], {"a": "b"}, {"a": None}, object(), [[1.0], [1.0, 2.0]], 2j],
)
def test_what_holds_no_numbers_is_no_row(input):
    """Text, nothing, ragged lists and other objects are no row."""
    assert feature_row(input) is None


def test_rows_are_a_table():
    """Inputs of one width are a table of float64."""
    rows, names, unusable = feature_rows([[1, 2], np.array([3.0, 4.0]), (5, 6)])
    assert (rows.dtype, rows.tolist(), names, unusable) == (np.float64, [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], (), 0)


def test_rows_of_another_width_are_left_out():
    """Of inputs of several widths the commonest is kept and the others are counted."""
    rows, _, unusable = feature_rows([[1.0], [1.0, 2.0], [3.0, 4.0], "text", None])
    assert (rows.tolist(), unusable) == ([[1.0, 2.0], [3.0, 4.0]], 3)


def test_single_numbers_are_rows_of_one():
    """Inputs that are numbers are rows of one feature."""
    assert feature_rows([1, 2.5, True])[0].tolist() == [[1.0], [2.5], [1.0]]


def test_tables_are_flattened():
    """Inputs of several dimensions are flattened in C order."""
    assert feature_rows([np.array([[1, 2], [3, 4]])] * 2)[0].tolist() == [[1.0, 2.0, 3.0, 4.0]] * 2


@pytest.mark.parametrize("inputs", [[], ["text"], [None, object()], [[], []]])
def test_no_rows_are_an_empty_table(inputs):
    """Without a usable input the table is empty and all are counted."""
    rows, names, unusable = feature_rows(inputs)
    assert (rows.shape, names, unusable) == ((0, 0), (), len(inputs))


def test_mappings_bring_their_names():
    """Mappings with the same names are a table with names, whatever their order."""
    rows, names, unusable = feature_rows([{"a": 1.0, "b": 2}, {"b": 4, "a": 3.0}])
    assert (rows.tolist(), names, unusable) == ([[1.0, 2.0], [3.0, 4.0]], ("a", "b"), 0)


def test_mappings_with_other_names_are_left_out():
    """Of mappings with several sets of names the commonest is kept and the others are counted."""
    rows, names, unusable = feature_rows([{"a": 1.0}, {"a": 2.0}, {"a": 3.0, "b": 4.0}, [5.0]])
    assert (rows.tolist(), names, unusable) == ([[1.0], [2.0]], ("a",), 2)


def test_mappings_may_hold_other_things_than_numbers():
    """A mapping with text or nothing in it is a row of objects."""
    rows, names, unusable = feature_rows([{"a": 1.0, "b": "x"}, {"a": None, "b": "y"}])
    assert (rows.dtype, rows.tolist(), names, unusable) == (object, [[1.0, "x"], [None, "y"]], ("a", "b"), 0)


def test_names_that_read_the_same_are_no_names():
    """Names that differ but read the same, such as 1 and "1", name nothing: the rows are kept without names."""
    rows, names, unusable = feature_rows([{1: 1.0, "1": 2.0}])
    assert (rows.tolist(), names, unusable) == ([[1.0, 2.0]], (), 0)
