"""Laws of record schemas, against a verdict that is reached by other means."""

from __future__ import annotations

import datetime as dt
import json
import re
from decimal import Decimal
from fractions import Fraction

import attrs
import hypothesis.extra.numpy as npst
import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings

from mlserve import RecordSchema
from mlserve.errors import InvalidInputError
from mlserve.schemas import Enforcement, Field

NAN, INF = float("nan"), float("inf")


class Shy:
    """Cannot even be shown, compared or hashed."""

    def __repr__(self) -> str:
        raise RuntimeError("no representation")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no equality")

    def __hash__(self) -> int:
        raise RuntimeError("no hash")


class Rebel(str):
    """A text that refuses everything."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no equality")

    __hash__ = str.__hash__


# ------------------------------------------------------------------------------------------------------------- values


OFFSETS = st.integers(-1439, 1439).map(lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)))
NAIVE = st.datetimes()
AWARE = st.datetimes(dt.datetime(2, 1, 1), dt.datetime(9998, 1, 1), timezones=OFFSETS)
STAMPS = st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1)).map(pd.Timestamp)

NUMBERS = st.one_of(
    st.integers(-5, 5),
    st.integers(),
    st.sampled_from([2**53, 2**53 + 1, -(2**53) - 1, 2**63, -(2**63), -(2**63) - 1, 2**64 - 1, 2**64, 10**400]),
    st.integers(-5, 5).map(float),
    st.floats(),
    st.sampled_from([2.0**53, 2.0**53 + 2, -(2.0**53), 1e300, -0.0]),
    st.booleans(),
    st.decimals(allow_nan=True, allow_infinity=True),
    st.integers(-5, 5).map(Decimal),
    npst.arrays(npst.scalar_dtypes(), ()).map(lambda array: array[()]),
    npst.arrays(st.sampled_from(["i1", "u8", "f2", "f4", "?"]), ()).map(lambda array: array[()]),
)
TIMES = st.one_of(
    NAIVE,
    AWARE,
    STAMPS,
    st.dates(),
    NAIVE.map(dt.datetime.isoformat),
    AWARE.map(dt.datetime.isoformat),
    st.dates().map(dt.date.isoformat),
    NAIVE.map(lambda time: time.isoformat() + ".123456789"),
    NAIVE.map(np.datetime64),
)
OTHERS = st.one_of(
    st.none(),
    st.sampled_from([pd.NA, pd.NaT, np.datetime64("NaT")]),
    st.sampled_from(["a", "b", "", "1"]),
    st.text(max_size=5),
    st.binary(max_size=3),
    st.complex_numbers(),
    st.fractions(),
    st.timedeltas(),
    st.times(),
    st.builds(object),
    st.builds(Shy),
    st.builds(Rebel),
    st.lists(st.integers(), max_size=12),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
    npst.arrays(npst.scalar_dtypes(), npst.array_shapes(max_dims=2, max_side=3)),
)
VALUES = st.one_of(NUMBERS, TIMES, OTHERS)


# ------------------------------------------------------------------------------------------------------------- fields


def bounded(draw: st.DrawFn, values: st.SearchStrategy) -> dict[str, object]:
    low, high = sorted(draw(st.tuples(values, values)))
    return {key: bound for key, bound in (("minimum", low), ("maximum", high)) if draw(st.booleans())}


@st.composite
def fields(draw: st.DrawFn, name: str = "x") -> Field:
    kind = draw(st.sampled_from(["boolean", "integer", "float", "text", "datetime", "categorical"]))
    options: dict[str, object] = {"allow_missing": draw(st.booleans()), "optional": draw(st.booleans())}
    if kind == "integer":
        options |= bounded(draw, st.integers(-4, 4))
    elif kind == "float":
        options |= bounded(draw, st.floats(-4, 4)) | {"allow_infinite": draw(st.booleans())}
    elif kind == "datetime":
        has_offset = draw(st.booleans())
        options |= bounded(draw, AWARE if has_offset else NAIVE) | {"has_offset": has_offset}
    elif kind == "categorical":
        options["categories"] = draw(st.sampled_from([["a", "b"], ["1", ""], [1, 2, 3], [0]]))
    elif kind == "text":
        options["sample"] = draw(st.one_of(st.none(), st.text(max_size=3)))
    options["dtype"] = draw(st.sampled_from([None, "object", "float32"]))
    return Field(name, kind, **options)


POLICIES = st.sampled_from(list(Enforcement))
NAMES = ["x", "y", "z"]


@st.composite
def schemas(draw: st.DrawFn) -> RecordSchema:
    names = draw(st.permutations(NAMES))[: draw(st.integers(1, 3))]
    return RecordSchema(
        [draw(fields(name)) for name in names],
        extra=draw(st.sampled_from(["refuse", "ignore"])),
        ranges=draw(POLICIES),
        unknown_categories=draw(POLICIES),
    )


# ------------------------------------------------------------------------------------------------------------- oracle


MICROSECONDS = re.compile(r"[.,](\d{6})(\d*)")


def exact(value: object) -> Fraction | None:
    """A finite number as a fraction, or None for anything else."""
    if isinstance(value, (bool, np.bool_, np.timedelta64)):  # numpy calls a span of time an integer
        return None
    if isinstance(value, np.floating) and not isinstance(value, float):
        return Fraction(*value.as_integer_ratio()) if np.isfinite(value) else None
    if isinstance(value, (int, np.integer)):
        return Fraction(int(value))
    if isinstance(value, float):
        return Fraction(value) if abs(value) < INF else None
    return Fraction(value) if isinstance(value, Decimal) and value.is_finite() else None


def is_infinite(value: object) -> bool:
    return isinstance(value, (float, np.floating, Decimal)) and not isinstance(value, bool) and abs(value) == INF


def moment(value: object) -> dt.datetime | None:
    """A time, or None."""
    if isinstance(value, str):
        digits = MICROSECONDS.search(value)
        if digits is not None and set(digits[2]) - {"0"}:
            return None
        try:
            return dt.datetime.fromisoformat(str.__str__(value))
        except ValueError:
            return None
    if isinstance(value, np.datetime64):
        try:
            time = pd.Timestamp(value)
            return None if time.nanosecond else time.to_pydatetime()
        except (ValueError, OverflowError):  # beyond the years of a datetime
            return None
    if isinstance(value, dt.datetime):
        return value
    return dt.datetime.combine(value, dt.time()) if isinstance(value, dt.date) else None


MISSING, UNFIT = "missing", "unfit"


def meant(field: Field, value: object) -> object:
    """What a value means in a field: a fraction, an infinity, text, a time, a boolean; that it is missing, or unfit."""
    if value is None or value is pd.NA or value is pd.NaT:
        return MISSING
    if isinstance(value, (float, np.floating, np.datetime64)) and str(value).lower() in ("nan", "nat"):
        return MISSING
    if isinstance(value, Decimal) and value.is_nan():
        return MISSING
    number = exact(value)
    if field.kind == "boolean":
        return bool(value) if isinstance(value, (bool, np.bool_)) else UNFIT
    if field.kind == "text" or (field.kind == "categorical" and isinstance(field.categories[0], str)):
        return str.__str__(value) if isinstance(value, str) else UNFIT
    if field.kind == "datetime":
        time = moment(value)
        return UNFIT if time is None or (time.utcoffset() is not None) is not field.has_offset else time
    if field.kind == "float":
        if is_infinite(value):
            return float(value) if field.allow_infinite else UNFIT
        if number is None:
            return UNFIT
        if isinstance(value, Decimal):
            return Fraction(float(value)) if abs(float(value)) < INF else UNFIT
        return number if abs(number) < 2**1024 and Fraction(float(number)) == number else UNFIT
    is_whole = number is not None and number.denominator == 1 and -(2**63) <= number < 2**64
    if is_whole and isinstance(value, (float, np.floating)):
        is_whole = abs(number) <= 2**53
    return number if is_whole else UNFIT


def naive_verdict(schema: RecordSchema, field: Field, value: object) -> tuple[bool, bool]:
    """Whether a value is valid in a field, and whether it is unusual but let pass with a warning."""
    found = meant(field, value)
    if found is UNFIT or found is MISSING:
        return found is MISSING and field.allow_missing, False
    is_odd, policy = False, schema.ranges
    if field.categories is not None:
        is_odd, policy = found not in field.categories, schema.unknown_categories
    elif field.kind in ("integer", "float", "datetime") and not (isinstance(found, float)):
        low, high = field.minimum, field.maximum
        is_odd = (low is not None and found < low) or (high is not None and found > high)
    return not is_odd or policy is not Enforcement.REFUSE, is_odd and policy is Enforcement.WARN


def checked(schema: RecordSchema, input: object) -> object:
    """What the checker makes of an input, or None."""
    try:
        return schema.checker()(input)
    except InvalidInputError:
        return None


def same(first: object, second: object) -> bool:
    """Whether two records hold the same values of the same types in the same order."""
    return [(name, type(value), repr(value)) for name, value in first.items()] == [
        (name, type(value), repr(value)) for name, value in second.items()
    ]


# --------------------------------------------------------------------------------------------------------------- laws


def check_verdict(field: Field, value: object, ranges: Enforcement, unknown: Enforcement) -> None:
    schema = RecordSchema([field], ranges=ranges, unknown_categories=unknown)
    is_valid, is_warned = naive_verdict(schema, field, value)
    result = schema.validate({"x": value})
    assert (result.is_valid, checked(schema, {"x": value}) is not None) == (is_valid, is_valid), result.message
    assert bool(result.warnings) is (is_valid and is_warned)


@settings(deadline=None, max_examples=300)
@given(field=fields(), value=VALUES, ranges=POLICIES, unknown=POLICIES)
def test_the_verdict_is_that_of_a_naive_look(field, value, ranges, unknown):
    """``validate`` and the checker accept, and warn of, what a look with exact fractions accepts and warns of."""
    check_verdict(field, value, ranges, unknown)


@pytest.mark.slow
@settings(deadline=None, max_examples=20_000)
@given(field=fields(), value=VALUES, ranges=POLICIES, unknown=POLICIES)
def test_the_verdict_is_that_of_a_naive_look_at_length(field, value, ranges, unknown):
    """The same for many more fields and values."""
    check_verdict(field, value, ranges, unknown)


@settings(deadline=None, max_examples=100)
@given(field=fields(), value=VALUES)
def test_nothing_is_lost(field, value):
    """What the model is given means exactly what the caller sent; only decimals are rounded to the nearest float."""
    result = RecordSchema([field]).validate({"x": value})
    if result.is_valid:
        before, after = meant(field, value), meant(field, result.value["x"])
        assert before == after


@settings(deadline=None, max_examples=100)
@given(schema=schemas(), input=st.dictionaries(st.sampled_from([*NAMES, "more"]), VALUES, max_size=4))
def test_what_is_valid_is_valid_again_unchanged(schema, input):
    """What a schema made of a record it takes a second time as it is: coercing is idempotent."""
    first = schema.validate(input)
    if first.is_valid:
        assert list(first.value) == list(schema.names)
        assert same(schema.validate(first.value).value, first.value)
        assert same(checked(schema, first.value), first.value)


@settings(deadline=None, max_examples=100)
@given(schema=schemas(), input=st.dictionaries(st.sampled_from([*NAMES, "more"]), VALUES, max_size=4))
def test_the_checker_agrees_with_validate(schema, input):
    """The shortest way comes to the same record as the long one, or to a refusal where that does."""
    result, found = schema.validate(input), checked(schema, input)
    assert result.is_valid is (found is not None)
    if result.is_valid:
        assert same(found, result.value)
    else:
        assert (result.value, bool(result.message)) == (None, True)


ANYTHING = st.one_of(
    VALUES,
    st.lists(VALUES, max_size=3),
    st.dictionaries(st.one_of(st.sampled_from(NAMES), st.integers()), VALUES, max_size=4),
    st.builds(lambda value, more: {Rebel("x"): value} | more, VALUES, st.dictionaries(st.just("y"), VALUES)),
    st.dictionaries(st.sampled_from(NAMES), st.integers(), max_size=3).map(pd.Series),
    st.dictionaries(st.sampled_from(NAMES), st.integers(), max_size=3).map(lambda row: pd.DataFrame([row])),
    npst.arrays(npst.array_dtypes(min_size=1, max_size=3), ()).map(lambda array: array[()]),
)


@settings(deadline=None, max_examples=100)
@given(schema=schemas(), input=ANYTHING)
def test_validating_never_raises(schema, input):
    """Whatever comes in, ``validate`` answers: a record of the schema's fields, or an error that says why."""
    result = schema.validate(input)
    assert result.is_valid is (result.error is None)
    if result.is_valid:
        assert list(result.value) == list(schema.names)
    else:
        assert (result.value, bool(result.message)) == (None, True)


@settings(deadline=None, max_examples=100)
@given(schema=schemas())
def test_a_schema_survives_its_json_form(schema):
    """``from_dict`` of what ``to_dict`` gave, through JSON and back, is the schema."""
    read = RecordSchema.from_dict(json.loads(json.dumps(schema.to_dict(), allow_nan=False)))
    assert (read, hash(read)) == (schema, hash(schema))


@settings(deadline=None, max_examples=100)
@given(schema=schemas())
def test_an_example_is_valid(schema):
    """``example`` is valid, whatever is enforced."""
    strict = attrs.evolve(schema, ranges="refuse", unknown_categories="refuse")
    result = strict.validate(strict.example())
    assert (result.message, result.value) == ("", strict.example())


LEARNABLE = {
    "boolean": st.booleans(),
    "integer": st.integers(-(2**63), 2**64 - 1),
    "float": st.one_of(st.floats(allow_nan=False), st.integers(-(2**53), 2**53)),
    "text": st.text(max_size=3),
    "few texts": st.sampled_from(["a", "b"]),
    "naive": st.one_of(NAIVE, st.dates(), STAMPS),
    "aware": AWARE,
}


@st.composite
def tables(draw: st.DrawFn) -> list[dict[str, object]]:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
    kinds = {name: LEARNABLE[draw(st.sampled_from(sorted(LEARNABLE)))] for name in names}
    rows = [
        {name: draw(st.one_of(values, values, values, st.none())) for name, values in kinds.items()}
        for _ in range(draw(st.integers(1, 25)))
    ]
    return [{name: draw(values) for name, values in kinds.items()}, *rows]  # one row with a value of each


@settings(deadline=None, max_examples=60)
@given(rows=tables())
def test_a_schema_accepts_the_rows_it_was_learned_from(rows):
    """Every row of the data is valid, also where ranges and unknown categories are refused."""
    schema = RecordSchema.infer(rows, ranges="refuse", unknown_categories="refuse")
    assert [schema.validate(row).message for row in rows] == [""] * len(rows)
    assert None not in [checked(schema, row) for row in rows]
