"""What records must look like: names, kinds, missing values, categories, ranges; coerced without loss."""

from __future__ import annotations

import datetime as dt
import logging
import math
import sys
from collections.abc import Iterator, Mapping
from decimal import Decimal
from enum import IntEnum, StrEnum
from fractions import Fraction

import numpy as np
import pandas as pd
import polars as pl
import pytest

from mlserve import RecordSchema
from mlserve.errors import InvalidArgumentError, InvalidInputError
from mlserve.schemas import Field

NAN, INF = float("nan"), float("inf")
UTC = dt.UTC
NOON = dt.datetime(2026, 3, 1, 12)

PERSON = RecordSchema([Field("age", "integer"), Field("city", "text"), Field("height", "float", allow_missing=True)])
RECORD = {"age": 31, "city": "Bern", "height": 1.8}


class Shy:
    """Cannot even be shown, or compared."""

    def __repr__(self) -> str:
        raise RuntimeError("no representation")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no equality")

    __hash__ = object.__hash__


class Lying(float):
    """A float that claims to be all there is."""

    def __ne__(self, other: object) -> bool:
        return True

    def __abs__(self) -> float:
        return 0.0

    def __float__(self) -> float:
        return 0.0


class Records(Mapping):
    """A mapping that is no dict."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self.by_name = values

    def __getitem__(self, name: str) -> object:
        return self.by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_name)

    def __len__(self) -> int:
        return len(self.by_name)


class Unreadable(Records):
    """A mapping that cannot be read."""

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("no names")


class Nowhere(dt.tzinfo):
    """A time zone that does not know itself."""

    def utcoffset(self, when: dt.datetime | None) -> dt.timedelta:
        raise RuntimeError("no offset")


def labelled_by_type(value: object) -> str:
    try:
        return f"{type(value).__name__} {str(value)[:40]}"
    except RuntimeError:
        return type(value).__name__


def read(kind: str, value: object, **options: object) -> object:
    """What a field of a kind makes of a value."""
    result = RecordSchema([Field("x", kind, **options)]).validate({"x": value})
    assert result.is_valid, result.message
    return result.value["x"]


def message(kind: str, value: object, **options: object) -> str:
    """Why a field of a kind refuses a value."""
    result = RecordSchema([Field("x", kind, **options)]).validate({"x": value})
    assert (result.is_valid, result.value) == (False, None)
    return result.message


# ------------------------------------------------------------------------------------------------------------ records


@pytest.mark.parametrize(
    "input",
    [
        RECORD,
        {"height": 1.8, "city": "Bern", "age": 31},
        Records(RECORD),
        pd.Series(RECORD),
        pd.DataFrame([RECORD]),
        pd.DataFrame([RECORD])[["height", "age", "city"]],
        pl.DataFrame([RECORD]),
        np.array([(1.8, "Bern", 31)], dtype=[("height", "f8"), ("city", "U9"), ("age", "i2")])[0],
        np.array((1.8, "Bern", 31), dtype=[("height", "f8"), ("city", "U9"), ("age", "i2")]),
    ],
    ids=lambda value: f"{type(value).__module__}.{type(value).__name__}",
)
def test_a_record_is_given_as_a_dict_in_the_order_of_fields(input):
    """Whatever form a record comes in, the model is given a dict of plain values in the order of the schema."""
    value = PERSON.validate(input).value
    assert list(value.items()) == [("age", 31), ("city", "Bern"), ("height", 1.8)]
    assert [type(each) for each in value.values()] == [int, str, float]


def test_a_record_that_fits_is_not_copied():
    """A dict in the order of the fields that needs no coercion is given to the model as it is."""
    input = dict(RECORD)
    assert PERSON.checker()(input) is input


@pytest.mark.parametrize(
    "input", [{"city": "Bern", "age": 31, "height": 1.8}, {"age": 31, "city": "Bern", "height": 2}], ids=str
)
def test_the_input_is_never_changed(input):
    """A record that must be put in order or coerced is a new dict; the caller's stays as it was."""
    before = list(input.items())
    assert PERSON.checker()(input) is not input
    assert list(input.items()) == before


@pytest.mark.parametrize(
    ("input", "words"),
    [
        (None, "the input is None; expected a mapping with the fields age, city, height."),
        ([31, "Bern", 1.8], "the input is [31, 'Bern', 1.8] of type list; expected a mapping"),
        (np.array([1.0, 2.0]), "of type ndarray"),
        (pd.Series([31, 1.8]), "of type Series"),
        (pd.DataFrame([RECORD, RECORD]), "of type DataFrame"),
        ("text", "the input is 'text' of type str"),
        (5, "the input is 5 of type int"),
        ({}, "the input has no age, city, height; expected the fields age, city, height."),
        ({"age": 31, "city": "Bern"}, "the input has no height; expected"),
        (RECORD | {"name": "x"}, "the input has name, which is no field of the schema"),
        (RECORD | {7: "x"}, "the input has 7, which is no field"),
        ({"age": 31, "city": "Bern", "heigth": 1.8}, "has no height and has heigth, which is no field"),
        (pd.DataFrame([[1, 2]], columns=["age", "age"]), "the input has age twice; expected distinct names."),
        (Unreadable(RECORD), "the input cannot be read (RuntimeError: no names); expected a mapping"),
        (RECORD | {Shy(): 1}, "the input has an object, which is no field"),
    ],
    ids=lambda value: value[:50] if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_such_record_is_refused(input, words):
    """An input without names, or with other names, has a message that says which."""
    result = PERSON.validate(input)
    assert (result.is_valid, words in result.message) == (False, True), result.message


def test_a_refused_value_is_named():
    """The message names the field, the value with its type, and the expectation; the error carries them."""
    error = PERSON.validate(RECORD | {"age": "thirty"}).error
    assert error.message == "age is 'thirty' of type str; expected an integer of 64 bits."
    assert (error.field, error.expected) == ("age", "an integer of 64 bits")


def test_several_faults_are_told_together():
    """One message tells the first three faults, the names first, and counts the others."""
    result = PERSON.validate({"age": True, "city": 5, "height": "tall", "more": 1})
    assert result.message == (
        "the input has more, which is no field of the schema, expected the fields age, city, height; "
        "age is True of type bool, expected an integer of 64 bits; city is 5 of type int, expected text; and 1 more."
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x" * 10_000, f"'{'x' * 59} of type str"),
        (list(range(10_000)), "a list of 10000 items of type list"),
        ([1, 2], "[1, 2] of type list"),
        (Shy(), "an object of type Shy"),
    ],
    ids=["text", "list", "short list", "object that cannot be shown"],
)
def test_a_message_stays_short(value, text):
    """However large a value is, and whatever showing it does, the message is a line."""
    assert message("integer", value).startswith(f"x is {text}; expected")


def test_unknown_fields_can_be_ignored():
    """With ``extra="ignore"`` names that no field has are left out."""
    schema = RecordSchema(PERSON.fields, extra="ignore")
    assert [schema.validate(RECORD | more).value for more in ({}, {"name": "x"})] == [RECORD, RECORD]
    assert "has no age" in schema.validate({"city": "Bern", "height": 1.8, "name": "x"}).message


def test_a_field_may_be_left_out():
    """An optional field that is left out is missing: the model is given NaN for a number, else None."""
    schema = RecordSchema([Field("x", "float", optional=True), Field("y", "text", optional=True), Field("z", "text")])
    value = schema.validate({"z": "here"}).value
    assert (list(value), math.isnan(value["x"]), value["y"], value["z"]) == (["x", "y", "z"], True, None, "here")
    assert (schema.required, schema.fields[0].allow_missing) == (("z",), True)


def test_the_checker_takes_records_of_any_form():
    """The function that a server calls reads a series as ``validate`` does."""
    assert PERSON.checker()(pd.Series(RECORD)) == RECORD


@pytest.mark.parametrize(
    "input",
    [RECORD | {"age": dt.datetime(2026, 3, 1, tzinfo=UTC)}, {Shy(): 1, "city": "Bern", "height": 1.8}],
    ids=["a time with an offset", "a name that cannot be compared"],
)
def test_the_checker_refuses_what_cannot_be_compared(input):
    """A value or a name that raises when it is compared is refused by the function that a server calls."""
    schema = RecordSchema([Field("age", "datetime"), *PERSON.fields[1:]])
    assert not accepted(schema, input)


def test_an_error_holds_no_traceback():
    """The error of a refused input pins no frame, and so no input."""
    assert PERSON.validate(None).error.__traceback__ is None


def test_a_checker_raises_what_validate_answers():
    """``checker`` gives a function that returns the record or raises the error."""
    with pytest.raises(InvalidInputError, match="has no age"):
        PERSON.checker()({})


# ---------------------------------------------------------------------------------------------------- missing values


MISSING = [None, NAN, np.float32("nan"), np.float64("nan"), np.datetime64("NaT"), pd.NaT, pd.NA, Decimal("NaN")]
KINDS = {
    "boolean": {},
    "integer": {},
    "float": {},
    "text": {},
    "datetime": {},
    "categorical": {"categories": ["a", "b"]},
}


@pytest.mark.parametrize("value", [*MISSING, Decimal("sNaN")], ids=lambda value: f"{type(value).__name__} {value}")
@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_value_is_accepted_where_there_may_be_some(kind, value):
    """None, NaN, NaT and pandas.NA are missing values: NaN for numbers, None for others, or refused."""
    found = read(kind, value, allow_missing=True, **KINDS[kind])
    assert math.isnan(found) if kind in ("integer", "float") else found is None
    assert "not missing. Fill missing values before the call" in message(kind, value, **KINDS[kind])


def test_a_class_that_is_only_called_so_is_not_missing():
    """A foreign class with the name of a missing value of pandas is no missing value."""
    impostor = type("NAType", (), {})()
    assert "of type NAType; expected text" in message("text", impostor, allow_missing=True)


# --------------------------------------------------------------------------------------------------------- coercions


class Level(IntEnum):
    HIGH = 3


class Word(StrEnum):
    YES = "yes"


@pytest.mark.parametrize(
    ("kind", "value", "found"),
    [
        ("boolean", True, True),
        ("boolean", np.bool_(False), False),
        ("integer", 7, 7),
        ("integer", np.int8(7), 7),
        ("integer", np.uint64(2**64 - 1), 2**64 - 1),
        ("integer", -(2**63), -(2**63)),
        ("integer", 7.0, 7),
        ("integer", np.float32(7.0), 7),
        ("integer", 2.0**53, 2**53),
        ("integer", -0.0, 0),
        ("integer", Decimal("7"), 7),
        ("integer", Decimal("7.00"), 7),
        ("integer", Decimal("1E+3"), 1000),
        ("integer", Level.HIGH, 3),
        ("float", 7.5, 7.5),
        ("float", 7, 7.0),
        ("float", np.int64(7), 7.0),
        ("float", 2**53, 2.0**53),
        ("float", 2**60, 2.0**60),
        ("float", np.float16(0.5), 0.5),
        ("float", np.float32(0.1), float(np.float32(0.1))),
        ("float", np.float64(0.1), 0.1),
        ("float", np.longdouble(0.5), 0.5),
        ("float", Decimal("0.1"), 0.1),
        ("float", Level.HIGH, 3.0),
        ("float", Lying(7.5), 7.5),
        ("text", "a", "a"),
        ("text", np.str_("a"), "a"),
        ("text", Word.YES, "yes"),
        ("text", "", ""),
        ("datetime", NOON, NOON),
        ("datetime", dt.date(2026, 3, 1), dt.datetime(2026, 3, 1)),
        ("datetime", "2026-03-01T12:00:00", NOON),
        ("datetime", "2026-03-01 12:00", NOON),
        ("datetime", "2026-03-01", dt.datetime(2026, 3, 1)),
        ("datetime", "2026-03-01T12:00:00.000000000", NOON),
        ("datetime", np.datetime64("2026-03-01T12"), NOON),
        ("datetime", np.datetime64("2026-03-01T12:00:00.000000000", "ns"), NOON),
        ("datetime", pd.Timestamp(NOON), NOON),
    ],
    ids=labelled_by_type,
)
def test_values_are_coerced_where_nothing_is_lost(kind, value, found):
    """A value that another type holds exactly is given to the model in the type of its field."""
    coerced = read(kind, value)
    assert coerced == found
    assert type(coerced) is type(found) or isinstance(value, pd.Timestamp)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("boolean", 1),
        ("boolean", 0.0),
        ("boolean", "true"),
        ("integer", True),
        ("integer", np.bool_(True)),
        ("integer", 7.5),
        ("integer", INF),
        ("integer", 2.0**53 + 2),
        ("integer", np.longdouble(1) + np.finfo(np.longdouble).eps),
        ("integer", 2**64),
        ("integer", -(2**63) - 1),
        ("integer", "7"),
        ("integer", Decimal("7.5")),
        ("integer", Decimal("1E+999999")),
        ("integer", Decimal("Infinity")),
        ("integer", Fraction(7)),
        ("integer", Lying(7.5)),
        ("integer", np.timedelta64(7, "D")),
        ("float", True),
        ("float", np.bool_(True)),
        ("float", 2**53 + 1),
        ("float", np.int64(2**53 + 1)),
        ("float", 10**400),
        ("float", INF),
        ("float", -INF),
        ("float", np.longdouble(1) + np.finfo(np.longdouble).eps),
        ("float", Decimal("1E+999")),
        ("float", "7.5"),
        ("float", 7j),
        ("float", [7.5]),
        ("float", np.array([7.5])),
        ("float", np.timedelta64(7, "D")),
        ("text", 7),
        ("text", b"a"),
        ("text", True),
        ("datetime", 0),
        ("datetime", "yesterday"),
        ("datetime", ""),
        ("datetime", "2026-03-01T12:00:00Z"),
        ("datetime", "2026-03-01T12:00:00.123456789"),
        ("datetime", dt.datetime(2026, 3, 1, tzinfo=UTC)),
        ("datetime", dt.datetime(2026, 3, 1, tzinfo=Nowhere())),
        ("datetime", dt.time(12)),
        ("datetime", np.datetime64("2026-03-01T12:00:00.123456789", "ns")),
        ("datetime", np.datetime64(20_000, "Y")),
        ("datetime", dt.timedelta(1)),
    ],
    ids=labelled_by_type,
)
def test_what_would_be_lost_or_guessed_is_refused(kind, value):
    """Nothing is rounded, cut off, parsed as a number, taken for a boolean, or given an offset."""
    assert "; expected " in message(kind, value)


def test_infinities_are_accepted_where_said():
    """A float field may allow infinities, however they come."""
    found = [
        read("float", value, allow_infinite=True) for value in (INF, -INF, np.float32("inf"), Decimal("-Infinity"))
    ]
    assert found == [INF, -INF, INF, -INF]
    assert message("float", INF) == "x is inf of type float; expected a finite number that a float64 holds exactly."


@pytest.mark.parametrize(
    ("value", "is_valid"),
    [
        (dt.datetime(2026, 3, 1, 12, tzinfo=UTC), True),
        ("2026-03-01T12:00:00Z", True),
        ("2026-03-01T14:00:00+02:00", True),
        (pd.Timestamp("2026-03-01 12:00", tz="Europe/Berlin"), True),
        (NOON, False),
        ("2026-03-01T12:00:00", False),
        (dt.date(2026, 3, 1), False),
        (dt.datetime(2026, 3, 1, tzinfo=Nowhere()), False),
    ],
    ids=labelled_by_type,
)
def test_times_with_an_offset_stay_apart_from_those_without(value, is_valid):
    """A field of times with an offset takes no other, since adding one would be a guess."""
    schema = RecordSchema([Field("x", "datetime", has_offset=True)])
    assert schema.validate({"x": value}).is_valid is is_valid


def test_a_decimal_is_known_without_being_imported():
    """Looking for decimals does not import their module: whoever passes one has imported it."""
    kept = sys.modules.pop("decimal")
    try:
        assert "of type Decimal; expected" in message("float", Decimal("0.5"))
    finally:
        sys.modules["decimal"] = kept


# -------------------------------------------------------------------------------------------------------- categories


@pytest.mark.parametrize(
    ("categories", "value", "found"),
    [
        (["red", "blue"], "red", "red"),
        (["red", "blue"], np.str_("blue"), "blue"),
        ([1, 2], 1, 1),
        ([1, 2], 2.0, 2),
        ([1, 2], np.int8(2), 2),
        ([1.0, Decimal(2)], 1, 1),
    ],
    ids=str,
)
def test_a_known_category_is_accepted(categories, value, found):
    """A category is text or a whole number, coerced like any other."""
    coerced = read("categorical", value, categories=categories)
    assert (coerced, type(coerced)) == (found, type(found))


@pytest.mark.parametrize(
    ("categories", "value", "words"),
    [
        (["red", "blue"], "green", "x is 'green'; expected one of 'red', 'blue'."),
        (["red", "blue"], 1, "x is 1 of type int; expected one of 'red', 'blue'."),
        ([1, 2], True, "x is True of type bool; expected one of 1, 2."),
        ([1, 2], 3, "x is 3; expected one of 1, 2."),
        ([1, 2], 1.5, "x is 1.5 of type float"),
        ([1, 2], "1", "x is '1' of type str"),
        (list(range(20)), 99, "expected one of 0, 1, 2, 3, 4, 5, 6, 7 and 12 more."),
    ],
    ids=str,
)
def test_any_other_category_is_refused(categories, value, words):
    """What is no category has a message that lists those that there are."""
    assert words in message("categorical", value, categories=categories)


@pytest.mark.parametrize(
    ("enforcement", "is_valid", "warned"), [("off", True, 0), ("warn", True, 1), ("refuse", False, 0)]
)
@pytest.mark.parametrize(("categories", "value"), [(["a", "b"], "c"), ([1, 2], 3)], ids=str)
def test_unknown_categories_can_be_let_pass(categories, value, enforcement, is_valid, warned):
    """An unknown category is refused, warned of or let pass, as the schema says; ``validate`` and checker agree."""
    schema = RecordSchema([Field("x", "categorical", categories=categories)], unknown_categories=enforcement)
    result = schema.validate({"x": value})
    assert (result.is_valid, len(result.warnings)) == (is_valid, warned)
    assert accepted(schema, {"x": value}) is is_valid


def test_a_category_of_another_type_is_refused_whatever_is_said_of_unknown_ones():
    """A value that could be no category at all is not an unknown category."""
    schema = RecordSchema([Field("x", "categorical", categories=["a"])], unknown_categories="off")
    assert "of type int" in schema.validate({"x": 5}).message


# -------------------------------------------------------------------------------------------------------------- ranges


RANGED = [
    Field("x", "integer", minimum=0, maximum=10),
    Field("x", "float", minimum=0.0, maximum=10.0, allow_missing=True, allow_infinite=True),
    Field("x", "datetime", minimum=NOON, maximum=NOON + dt.timedelta(days=1)),
    Field("x", "datetime", minimum="2026-03-01T12:00Z", maximum="2026-03-02T12:00+00:00", has_offset=True),
]
OUTSIDE = [(-1, 11), (-0.5, 10.5), (NOON.replace(hour=11), NOON.replace(year=2027))]
OUTSIDE.append(tuple(time.replace(tzinfo=UTC) for time in OUTSIDE[2]))


def accepted(schema: RecordSchema, input: object) -> bool:
    """Whether the checker lets an input pass."""
    try:
        schema.checker()(input)
    except InvalidInputError:
        return False
    return True


@pytest.mark.parametrize(
    ("enforcement", "is_valid", "warned"), [("off", True, 0), ("warn", True, 1), ("refuse", False, 0)]
)
@pytest.mark.parametrize(("field", "outside"), [*zip(RANGED, OUTSIDE, strict=True)], ids=lambda value: str(value)[:40])
def test_values_outside_the_range_are_judged_as_the_schema_says(field, outside, enforcement, is_valid, warned):
    """Numbers and times below the smallest or above the largest are refused, warned of or let pass."""
    schema = RecordSchema([field], ranges=enforcement)
    for value in outside:
        result = schema.validate({"x": value})
        assert (result.is_valid, len(result.warnings), accepted(schema, {"x": value})) == (is_valid, warned, is_valid)
    for bound in (field.minimum, field.maximum):
        assert (schema.validate({"x": bound}).warnings, accepted(schema, {"x": bound})) == ((), True)


@pytest.mark.parametrize("value", [INF, -INF, NAN, None], ids=str)
def test_missing_and_infinite_values_are_not_for_the_range_to_judge(value):
    """A missing value and an infinity that are allowed lie outside no range."""
    assert RecordSchema([RANGED[1]], ranges="refuse").validate({"x": value}).is_valid


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        (RANGED[0], 11, "x is 11; expected between 0 and 10."),
        (RANGED[1], 10.5, "x is 10.5; expected between 0.0 and 10.0."),
        (RANGED[2], NOON.replace(hour=11), "x is 2026-03-01T11:00:00; expected between 2026-03-01T12:00:00 and"),
        (Field("x", "integer", minimum=0), -1, "x is -1; expected at least 0."),
        (Field("x", "float", maximum=1), 2, "x is 2.0; expected at most 1.0."),
        (Field("x", "integer", minimum=2**63), 5, f"expected at least {2**63}."),
    ],
    ids=str,
)
def test_a_value_outside_is_told_with_its_range(field, value, words):
    """The message names the value and the range, one end of which may be open."""
    assert words in RecordSchema([field], ranges="refuse").validate({"x": value}).message


def test_the_checker_logs_warnings_ever_more_seldom(caplog):
    """Of a hundred unusual records the first, second, fourth … are logged, with their number."""
    check = RecordSchema([RANGED[0]], ranges="warn").checker()
    with caplog.at_level(logging.WARNING, logger="mlserve.schemas"):
        for _ in range(100):
            assert check({"x": 11}) == {"x": 11}
    assert [record.args[0] for record in caplog.records] == [1, 2, 4, 8, 16, 32, 64]
    assert "x is 11, expected between 0 and 10" in caplog.messages[0]


# ------------------------------------------------------------------------------------------------------- by hand, wrong


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": ""},
        {"name": 5},
        {"kind": "number"},
        {"kind": None},
        {"kind": "categorical"},
        {"categories": ["a"]},
        {"kind": "categorical", "categories": []},
        {"kind": "categorical", "categories": ["a", 1]},
        {"kind": "categorical", "categories": ["a", "a"]},
        {"kind": "categorical", "categories": [1.5]},
        {"kind": "categorical", "categories": [True]},
        {"kind": "categorical", "categories": [None]},
        {"kind": "categorical", "categories": "ab"},
        {"kind": "integer", "allow_infinite": True},
        {"kind": "text", "has_offset": True},
        {"kind": "float", "sample": "x"},
        {"kind": "text", "sample": 5},
        {"kind": "text", "dtype": np.dtype("f8")},
        {"kind": "text", "minimum": "a"},
        {"kind": "boolean", "maximum": True},
        {"kind": "categorical", "categories": ["a"], "minimum": 0},
        {"kind": "integer", "minimum": 0.5},
        {"kind": "float", "minimum": "0"},
        {"kind": "float", "minimum": NAN},
        {"kind": "float", "allow_infinite": True, "maximum": INF},
        {"kind": "integer", "minimum": 2, "maximum": 1},
        {"kind": "datetime", "minimum": "2026-03-01Z"},
        {"kind": "datetime", "minimum": dt.datetime(2026, 3, 1, tzinfo=UTC)},
        {"kind": "datetime", "has_offset": True, "minimum": NOON},
    ],
    ids=str,
)
def test_a_field_that_means_nothing_is_refused(arguments):
    """``InvalidArgumentError`` is raised for a field whose values do not fit together."""
    with pytest.raises(InvalidArgumentError):
        Field(**{"name": "x", "kind": "text", **arguments})


@pytest.mark.parametrize(
    "arguments",
    [
        {"fields": []},
        {"fields": ["age"]},
        {"fields": [Field("a", "text"), Field("a", "float")]},
        {"extra": "drop"},
        {"ranges": "sometimes"},
        {"unknown_categories": True},
    ],
    ids=str,
)
def test_a_schema_that_means_nothing_is_refused(arguments):
    """``InvalidArgumentError`` is raised for no fields, repeated names, and words that are none."""
    with pytest.raises(InvalidArgumentError):
        RecordSchema(**{"fields": [Field("a", "text")], **arguments})


def test_bounds_are_coerced_like_values():
    """A bound may be given in any form that its field takes."""
    field = Field("x", "float", minimum=1, maximum=np.float32(2.5))
    assert [(type(bound), bound) for bound in (field.minimum, field.maximum)] == [(float, 1.0), (float, 2.5)]
    assert Field("x", "datetime", minimum="2026-03-01T12:00").minimum == NOON


def test_a_bound_finer_than_a_microsecond_is_rounded_outward():
    """Bounds of nanoseconds are kept as microseconds that leave nothing out."""
    time = pd.Timestamp("2026-03-01T12:00:00.000000500")
    field = Field("x", "datetime", minimum=time, maximum=time)
    assert (field.minimum, field.maximum) == (NOON, NOON.replace(microsecond=1))
