"""Arrays beyond their dtype and shape: ranges that are warned of or refused, and codes of categories."""

from __future__ import annotations

import json
import logging
import math

import attrs
import hypothesis.extra.numpy as npst
import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings

from mlserve import ArraySchema
from mlserve.errors import InvalidArgumentError, InvalidInputError
from mlserve.schemas import Enforcement

NAN, INF = float("nan"), float("inf")

ROWS = np.array([[1.0, -5.0], [3.0, 7.0]])

OFF, WARN, REFUSE = (ArraySchema.infer(ROWS, names=["a", "b"], ranges=ranges) for ranges in ("off", "warn", "refuse"))


# ----------------------------------------------------------------------------------------------------------- ranges


@pytest.mark.parametrize("row", [[1.0, -5.0], [3.0, 7.0], [2, 0], np.array([1.0, 7.0])], ids=str)
@pytest.mark.parametrize("schema", [OFF, WARN, REFUSE], ids=lambda schema: str(schema.ranges))
def test_what_is_within_the_range_is_valid(schema, row):
    """Values from the smallest to the largest seen are valid without a warning, whatever is done about others."""
    result = schema.validate(row)
    assert (result.is_valid, result.warnings) == (True, ())


@pytest.mark.parametrize("row", [[0.9, 0.0], [2.0, 7.1], np.array([4.0, -6.0])], ids=str)
def test_ranges_are_off_by_default(row):
    """Nothing is said of values outside the range unless that was asked for."""
    result = ArraySchema.infer(ROWS).validate(row)
    assert (result.is_valid, result.warnings) == (True, ())


def test_a_value_outside_is_warned_of():
    """With ``warn`` the input is valid, and the warning names the feature, the value and the range."""
    result = WARN.validate([4.0, 0.0])
    assert (result.is_valid, result.value.tolist(), result.error) == (True, [4.0, 0.0], None)
    assert result.warnings == ("feature 0 (a) is 4.0, expected between 1 and 3",)


def test_a_value_outside_is_refused():
    """With ``refuse`` the input is not valid, and the message names the feature, the value and the range."""
    result = REFUSE.validate([4.0, 0.0])
    assert (result.is_valid, result.value, result.warnings) == (False, None, ())
    assert result.message == "feature 0 (a) is 4.0; expected between 1 and 3."
    assert (result.error.field, result.error.expected) == ("feature 0 (a)", "between 1 and 3")


def test_several_values_outside_are_told_together():
    """One message tells the first three faults and counts the others."""
    schema = ArraySchema(shape=(5,), minimum=[0.0] * 5, maximum=[1.0] * 5, ranges="refuse")
    assert schema.validate([2.0, 0.5, 3.0, 4.0, 5.0]).message == (
        "feature 0 is 2.0, expected between 0 and 1; feature 2 is 3.0, expected between 0 and 1; "
        "feature 3 is 4.0, expected between 0 and 1; and 1 more."
    )


def test_many_warnings_are_cut_short():
    """At most three warnings are given for one input."""
    schema = ArraySchema(shape=(5,), maximum=[1.0] * 5, ranges="warn")
    assert len(schema.validate([2.0] * 5).warnings) == 3


@pytest.mark.parametrize(
    ("minimum", "maximum", "expected"),
    [((0.0,), None, "at least 0"), (None, (1.5,), "at most 1.5"), ((None,), (1.5,), "at most 1.5")],
)
def test_a_range_may_have_one_end(minimum, maximum, expected):
    """A bound that is not known bounds nothing, and the message speaks of the other."""
    schema = ArraySchema(shape=(1,), minimum=minimum, maximum=maximum, ranges="refuse")
    assert [schema.validate([value]).is_valid for value in (1.0, expected == "at least 0")] == [True, True]
    assert schema.validate([-1e9 if minimum == (0.0,) else 1e9]).error.expected == expected


def test_a_feature_that_was_always_missing_has_no_range():
    """A feature of which nothing finite was seen may be anything."""
    schema = ArraySchema.infer([[1.0, NAN], [2.0, NAN]], ranges="refuse")
    assert (schema.minimum, schema.maximum) == ((1.0, None), (2.0, None))
    assert schema.validate([1.5, 1e9]).is_valid


@pytest.mark.parametrize("size", [2, 200])
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize(("allow_missing", "allow_infinite"), [(a, b) for a in (False, True) for b in (False, True)])
def test_missing_and_infinite_values_are_not_for_the_range_to_judge(allow_missing, allow_infinite, bad, size):
    """NaN and infinities are accepted where they are allowed, however narrow the range is."""
    schema = ArraySchema(
        shape=(size,),
        allow_missing=allow_missing,
        allow_infinite=allow_infinite,
        minimum=[0.0] * size,
        maximum=[1.0] * size,
        ranges="refuse",
    )
    input = np.full(size, 0.5)
    input[1] = bad
    allowed = allow_missing if math.isnan(bad) else allow_infinite
    assert (schema.validate(input).is_valid, fits(schema, input)) == (allowed, allowed)


def test_ranges_hold_in_tables():
    """In an input of several dimensions a value outside is named by its indices."""
    schema = ArraySchema.infer(np.zeros((4, 2, 3)), ranges="refuse")
    input = np.zeros((2, 3))
    input[1, 2] = 1.0
    assert schema.validate(input).error.field == "element (1, 2)"


def test_integers_too_large_for_a_float_are_within_their_own_range():
    """Integers that no float64 holds exactly pass the range that was learned from them."""
    rows = np.array([[2**53 + 1, -(2**63)], [2**62 + 1, 2**63 - 1]])
    schema = ArraySchema.infer(rows, ranges="refuse")
    assert [schema.validate(row).message for row in rows] == ["", ""]


def test_a_range_can_be_enforced_later():
    """A schema that was learned can be told to refuse without being learned anew."""
    assert not attrs.evolve(OFF, ranges="refuse").validate([4.0, 0.0]).is_valid


# ------------------------------------------------------------------------------------------------------- the checker


def fits(schema: ArraySchema, input: object) -> bool:
    """Whether the checker lets an input pass."""
    try:
        schema.checker()(input)
    except InvalidInputError:
        return False
    return True


@pytest.mark.parametrize("size", [2, 200])
@pytest.mark.parametrize("ranges", list(Enforcement))
@pytest.mark.parametrize(("value", "is_within"), [(0.0, True), (1.0, True), (-0.1, False), (1.1, False)])
def test_the_checker_refuses_what_is_outside(size, ranges, value, is_within):
    """The function that a server calls refuses the same as ``validate`` does, in rows of any width."""
    schema = ArraySchema(shape=(size,), minimum=[0.0] * size, maximum=[1.0] * size, ranges=ranges)
    input = np.full(size, 0.5)
    input[-1] = value
    assert fits(schema, input) is (is_within or ranges is not Enforcement.REFUSE)


@pytest.mark.parametrize("size", [2, 200])
def test_what_is_within_is_not_copied(size):
    """An array that is within its range is given to the model as it is."""
    input = np.full(size, 0.5)
    schema = ArraySchema(shape=(size,), minimum=[0.0] * size, maximum=[1.0] * size, ranges="refuse")
    assert schema.checker()(input) is input


def test_the_checker_logs_warnings_ever_more_seldom(caplog):
    """Of a thousand unusual inputs the first, second, fourth … are logged, with their number."""
    check = WARN.checker()
    with caplog.at_level(logging.WARNING, logger="mlserve.schemas"):
        for _ in range(1000):
            check(np.array([4.0, 0.0]))
    numbers = [record.args[0] for record in caplog.records]
    assert numbers == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    assert caplog.messages[0] == "1 unusual inputs so far, at last: feature 0 (a) is 4.0, expected between 1 and 3"


def test_the_checker_logs_nothing_of_usual_inputs(caplog):
    """What is within its range is not logged."""
    check = WARN.checker()
    with caplog.at_level(logging.DEBUG, logger="mlserve.schemas"):
        check([2.0, 0.0])
    assert caplog.records == []


# -------------------------------------------------------------------------------------------------------- categories


CODED = ArraySchema.infer([[1.0, 5.0], [3.0, 7.0]], names=["colour", "size"], categories=["colour"], ranges="refuse")


def test_the_codes_of_a_declared_feature_are_learned():
    """A feature that is declared to be a category may have the codes that the data has, and has no range."""
    assert (CODED.categories, CODED.minimum, CODED.maximum) == (((1, 3), None), (None, 5.0), (None, 7.0))


@pytest.mark.parametrize("categories", [["colour"], [0], {"colour": [3, 1]}, {0: (1.0, 3.0)}], ids=str)
def test_a_category_is_declared_by_name_or_index(categories):
    """Categories are named by their feature's name or index, with or without their codes."""
    assert ArraySchema.infer([[1, 5], [3, 7]], names=["colour", "size"], categories=categories).categories == (
        (1, 3),
        None,
    )


@pytest.mark.parametrize("size", [2, 200])
@pytest.mark.parametrize(("code", "is_known"), [(1.0, True), (3.0, True), (2.0, False), (1.5, False), (NAN, False)])
def test_only_known_codes_are_valid(code, is_known, size):
    """A value that is none of the codes of its feature is refused."""
    schema = ArraySchema(shape=(size,), categories={0: [1, 3]})
    input = np.full(size, 100.0)
    input[0] = code
    assert (schema.validate(input).is_valid, fits(schema, input)) == (is_known, is_known)


def test_an_unknown_code_is_told():
    """The message names the feature, the value and the codes."""
    assert CODED.validate([2.0, 6.0]).message == "feature 0 (colour) is 2.0; expected one of 1, 3."


def test_many_codes_are_not_all_told():
    """Of many codes the message lists the first eight."""
    message = ArraySchema(shape=(1,), categories=[tuple(range(20))]).validate([99.0]).message
    assert message == "feature 0 is 99.0; expected one of 0, 1, 2, 3, 4, 5, 6, 7 and 12 more."


def test_codes_and_ranges_are_told_together():
    """An unknown code and a value outside its range are faults of one message."""
    assert CODED.validate([2.0, 9.0]).message == (
        "feature 0 (colour) is 2.0, expected one of 1, 3; feature 1 (size) is 9.0, expected between 5 and 7."
    )


@pytest.mark.parametrize("size", [2, 200])
def test_a_missing_code_is_for_the_missing_policy_to_judge(size):
    """NaN is accepted in a category where missing values are allowed."""
    schema = ArraySchema(shape=(size,), allow_missing=True, categories={0: [1, 3]})
    input = np.full(size, NAN)
    assert (schema.validate(input).is_valid, fits(schema, input)) == (True, True)


def test_codes_of_data_with_missing_values_are_learned():
    """NaN is no code."""
    assert ArraySchema.infer([[1.0], [NAN], [3.0]], categories=[0]).categories == ((1, 3),)


@pytest.mark.parametrize("dtype", ["int8", "uint64", "float32", "bool"])
def test_codes_hold_in_every_dtype(dtype):
    """Codes are compared as numbers, whatever the dtype is."""
    schema = ArraySchema(shape=(2,), dtype=dtype, categories=[(1,), None])
    found = [fits(schema, np.array(row, dtype)) for row in ([1, 0], [0, 0])]
    assert found == [True, False]


def test_an_example_has_a_known_code():
    """``example`` of a category is one of its codes, in the middle."""
    schema = ArraySchema.infer([[1, 10.0], [2, 20.0], [9, 60.0]], categories=[0], ranges="refuse")
    assert schema.example().tolist() == [2.0, 35.0]
    assert schema.validate(schema.example()).is_valid


@pytest.mark.parametrize(("minimum", "maximum", "value"), [(2.0, None, 2.0), (None, -1.0, -1.0), (None, None, 0.5)])
def test_an_example_of_half_a_range_is_within(minimum, maximum, value):
    """``example`` of a range with one end is a half, or that end where a half is outside."""
    assert ArraySchema(shape=(1,), minimum=[minimum], maximum=[maximum]).example().tolist() == [value]


# ---------------------------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    "values",
    [
        {"ranges": "sometimes"},
        {"ranges": None},
        {"ranges": "warn"},
        {"minimum": (2.0, 0.0), "maximum": (1.0, 0.0)},
        {"minimum": (NAN, 0.0)},
        {"maximum": (INF, 0.0)},
        {"maximum": (1.0,)},
        {"categories": (1, 2)},
        {"categories": 5},
        {"categories": ((1,),)},
        {"categories": ((), None)},
        {"categories": ((1.5,), None)},
        {"categories": (("a",), None)},
        {"categories": ((INF,), None)},
        {"categories": {"a": [1]}},
        {"categories": {2: [1]}},
        {"categories": {True: [1]}},
        {"names": ("a", "b"), "categories": {"c": [1]}},
        {"categories": {0: [1]}, "minimum": (0.0, 0.0)},
        {"categories": {1: [1]}, "maximum": (None, 0.0)},
        {"shape": (2, 2), "categories": ((1,), None)},
    ],
)
def test_a_schema_that_means_nothing_is_refused(values):
    """``InvalidArgumentError`` is raised for ranges and categories that fit neither the shape nor one another."""
    with pytest.raises(InvalidArgumentError):
        ArraySchema(**{"shape": (2,), **values})


@pytest.mark.parametrize(
    "arguments",
    [
        {"categories": ["c"]},
        {"categories": [2]},
        {"categories": ["b"]},
        {"categories": {"a": [1]}},
        {"ranges": "perhaps"},
    ],
)
def test_data_that_does_not_fit_what_is_declared_is_refused(arguments):
    """``infer`` raises for features that do not exist, codes that are no whole numbers, and codes not declared."""
    with pytest.raises(InvalidArgumentError):
        ArraySchema.infer([[1.0, 0.5], [2.0, 1.5]], names=["a", "b"], **arguments)


def test_images_have_no_categories():
    """``infer`` raises for categories of inputs of several dimensions."""
    with pytest.raises(InvalidArgumentError, match="one-dimensional"):
        ArraySchema.infer(np.zeros((2, 3, 3)), categories=[0])


@pytest.mark.parametrize("schema", [WARN, REFUSE, CODED, ArraySchema(shape=(2,), maximum=(None, 1.0))], ids=str)
def test_ranges_and_codes_survive_json(schema):
    """``from_json`` gives the schema that ``to_json`` wrote, enforcement and codes included."""
    read = ArraySchema.from_json(schema.to_json())
    assert (read, read.ranges, hash(read)) == (schema, schema.ranges, hash(schema))


def test_json_from_before_there_were_ranges_is_read():
    """A schema that was stored without the newer fields is read as one that does not use them."""
    stored = {key: value for key, value in OFF.to_dict().items() if key not in ("ranges", "categories")}
    assert ArraySchema.from_json(json.dumps(stored)) == OFF


# --------------------------------------------------------------------------------------------------------------- laws


NUMBERS = st.one_of(st.floats(width=32), st.integers(-4, 4).map(float))


@st.composite
def judged(draw):
    """A schema, and an array that may or may not fit it."""
    size = draw(st.sampled_from([1, 2, 3, 60]))
    dtype = draw(st.sampled_from(["float64", "float32", "int16", "bool"]))
    codes = draw(st.lists(st.sampled_from([None, None, (0, 1), (-2, 3)]), min_size=size, max_size=size))
    pairs = [sorted(draw(st.tuples(st.floats(-5, 5), st.floats(-5, 5)))) for _ in range(size)]
    low = [None if code or draw(st.booleans()) else pair[0] for code, pair in zip(codes, pairs, strict=True)]
    high = [None if code or draw(st.booleans()) else pair[1] for code, pair in zip(codes, pairs, strict=True)]
    schema = ArraySchema(
        shape=(size,),
        dtype=dtype,
        allow_missing=draw(st.booleans()),
        allow_infinite=draw(st.booleans()),
        minimum=low,
        maximum=high,
        ranges=draw(st.sampled_from(list(Enforcement))),
        categories=draw(st.sampled_from([None, codes])) if any(codes) else None,
    )
    elements = {"bool": st.booleans(), "int16": st.integers(-6, 6)}.get(
        dtype, st.one_of(st.integers(-6, 6).map(float), st.sampled_from([NAN, INF, -INF]), st.floats(-6, 6, width=32))
    )
    return schema, draw(npst.arrays(dtype, size, elements=elements))


def naive_verdict(schema: ArraySchema, array: np.ndarray) -> tuple[bool, bool]:
    """Whether an array is valid, and whether something is unusual about it, value by value."""
    is_valid, is_unusual = True, False
    for index, value in enumerate(array.tolist()):
        codes = None if schema.categories is None else schema.categories[index]
        low, high = schema.minimum[index], schema.maximum[index]
        if math.isnan(value):
            is_valid &= schema.allow_missing
        elif math.isinf(value) and not schema.allow_infinite:
            is_valid = False
        elif codes is not None:
            is_valid &= value in codes
        elif not math.isinf(value) and ((low is not None and value < low) or (high is not None and value > high)):
            is_unusual |= schema.ranges is Enforcement.WARN
            is_valid &= schema.ranges is not Enforcement.REFUSE
    return is_valid, is_unusual


@settings(deadline=None, max_examples=150)
@given(case=judged())
def test_the_verdict_is_that_of_a_naive_look(case):
    """``validate`` and ``checker`` accept what a look at each value by itself accepts, and warn of the same."""
    schema, array = case
    is_valid, is_unusual = naive_verdict(schema, array)
    result = schema.validate(array)
    assert (result.is_valid, fits(schema, array)) == (is_valid, is_valid)
    assert bool(result.warnings) is (is_valid and is_unusual)


@settings(deadline=None, max_examples=75)
@given(case=judged())
def test_what_is_valid_is_valid_again(case):
    """What a schema made of an input it takes a second time, unchanged."""
    schema, array = case
    first = schema.validate(array.tolist() if schema.dtype != "int16" else array)
    if first.is_valid:
        again = schema.validate(first.value)
        np.testing.assert_array_equal(again.value, first.value, strict=True)


@settings(deadline=None, max_examples=150)
@given(
    rows=st.sampled_from(["int8", "int64", "uint64", "float16", "float32", "float64", "bool"]).flatmap(
        lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=5))
    )
)
def test_a_schema_that_refuses_accepts_the_rows_it_was_learned_from(rows):
    """Every row of the data lies within the ranges learned from it, for ``validate`` and for the checker."""
    schema = ArraySchema.infer(rows, ranges="refuse")
    assert [(schema.validate(row).message, fits(schema, row)) for row in rows] == [("", True)] * len(rows)


@settings(deadline=None, max_examples=50)
@given(order=st.permutations(range(4)), values=st.lists(NUMBERS, min_size=4, max_size=4))
def test_names_say_the_same_in_any_order(order, values):
    """A mapping, a series and a frame with the names in any order have the verdict and the value of the row."""
    names = ["a", "b", "c", "d"]
    schema = ArraySchema(shape=(4,), names=names, minimum=[-2.0] * 4, ranges="refuse")
    shuffled = {names[index]: values[index] for index in order}
    row = schema.validate(values)
    for input in (shuffled, pd.Series(shuffled), pd.DataFrame([shuffled])):
        result = schema.validate(input)
        assert result.is_valid is row.is_valid
        np.testing.assert_array_equal(np.asarray(result.value, object), np.asarray(row.value, object))
