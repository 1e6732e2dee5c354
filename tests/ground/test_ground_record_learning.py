"""Schemas of records learned from rows and frames, shown by an example, stored as JSON, made into frames again."""

from __future__ import annotations

import datetime as dt
import json
import pickle
import sys
from collections.abc import Iterator
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from types import MappingProxyType

import numpy as np
import pandas as pd
import polars as pl
import pytest

import mlserve
from mlserve import RecordSchema
from mlserve.errors import InvalidArgumentError, MissingExtraError
from mlserve.schemas import Field, FieldKind


class Level(IntEnum):
    HIGH = 3


NAN, INF = float("nan"), float("inf")
UTC = dt.UTC
NOON = dt.datetime(2026, 3, 1, 12)

MISSING = [None, NAN, np.float32("nan"), np.datetime64("NaT"), pd.NaT, pd.NA, Decimal("NaN")]

PERSON = RecordSchema([Field("age", "integer"), Field("city", "text"), Field("height", "float", allow_missing=True)])
RECORD = {"age": 31, "city": "Bern", "height": 1.8}


# --------------------------------------------------------------------------------------------------------------- infer


def kinds(schema: RecordSchema) -> dict[str, str]:
    return {field.name: str(field.kind) for field in schema.fields}


ROWS = [
    {"age": 31, "price": 1.5, "ok": True, "name": "Ann", "born": NOON},
    {"age": 62, "price": 2, "ok": False, "name": "Ben", "born": dt.date(2026, 3, 9)},
]
FOUND = {"age": "integer", "price": "float", "ok": "boolean", "name": "text", "born": "datetime"}


@pytest.mark.parametrize(
    "rows",
    [
        ROWS,
        tuple(ROWS),
        iter(ROWS),
        [MappingProxyType(row) for row in ROWS],
        [pd.Series(row) for row in ROWS],
        pd.DataFrame(ROWS).astype({"born": "datetime64[ns]"}),
        pl.DataFrame([row | {"price": float(row["price"]), "born": NOON} for row in ROWS]),
        np.array(
            [(31, 1.5, True, "Ann", "2026-03-01T12"), (62, 2.0, False, "Ben", "2026-03-09")],
            dtype=[("age", "i4"), ("price", "f4"), ("ok", "?"), ("name", "U9"), ("born", "M8[h]")],
        ),
    ],
    ids=["list", "tuple", "iterator", "mappings", "series", "pandas", "polars", "structured array"],
)
def test_kinds_are_learned(rows):
    """Kind and order of the fields are learned from mappings, frames and structured arrays alike."""
    schema = RecordSchema.infer(rows)
    assert kinds(schema) == FOUND
    assert not any(field.allow_missing or field.optional for field in schema.fields)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([True, np.bool_(False)], "boolean"),
        ([1, np.int8(2), Level.HIGH], "integer"),
        ([1, np.float32(0.5), Decimal("0.25")], "float"),
        (["a", np.str_("b")], "text"),
        ([NOON, pd.Timestamp(NOON), np.datetime64("2026-03-01")], "datetime"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_values_of_one_kind_may_be_of_several_types(values, kind):
    """Types of Python and numpy that mean the same are one kind."""
    assert kinds(RecordSchema.infer([{"x": value} for value in values])) == {"x": kind}


def test_ranges_are_learned():
    """The smallest and the largest value of numbers and times are learned."""
    found = {field.name: (field.minimum, field.maximum) for field in RecordSchema.infer(ROWS).fields}
    assert found == {
        "age": (31, 62),
        "price": (1.5, 2.0),
        "ok": (None, None),
        "name": (None, None),
        "born": (NOON, dt.datetime(2026, 3, 9)),
    }


@pytest.mark.parametrize("value", MISSING, ids=lambda value: type(value).__name__)
def test_missing_values_are_learned(value):
    """A field with a missing value in the data may be missing later."""
    schema = RecordSchema.infer([{"x": "a", "y": 1.0}, {"x": value, "y": 2.0}])
    assert [field.allow_missing for field in schema.fields] == [True, False]


def test_fields_that_are_left_out_are_learned():
    """A field that a record of the data lacks is optional."""
    schema = RecordSchema.infer([{"a": 1}, {"a": 2, "b": 3}])
    assert [(field.name, field.optional) for field in schema.fields] == [("a", False), ("b", True)]


def test_infinities_are_learned():
    """A field with an infinity in the data may be infinite later; its range is of finite values."""
    field = RecordSchema.infer([{"x": INF}, {"x": 1.0}]).fields[0]
    assert (field.allow_infinite, field.minimum, field.maximum) == (True, 1.0, 1.0)


@pytest.mark.parametrize(("times", "has_offset"), [([NOON], False), ([NOON.replace(tzinfo=UTC)], True)])
def test_offsets_are_learned(times, has_offset):
    """Times with an offset are told from those without."""
    assert RecordSchema.infer([{"x": time} for time in times]).fields[0].has_offset is has_offset


def colours(distinct: int, times: int) -> list[dict[str, str]]:
    return [{"x": f"colour {index % distinct}"} for index in range(distinct * times)]


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        (colours(2, 10), "categorical"),
        (colours(50, 10), "categorical"),
        (colours(51, 10), "text"),
        (colours(2, 9), "text"),
        ([{"x": 1}, {"x": 2}] * 50, "integer"),
        ([{"x": True}, {"x": False}] * 50, "boolean"),
        ([{"x": "2026-03-01"}], "text"),
    ],
    ids=["two, ten times", "fifty", "fifty-one", "nine times", "numbers", "booleans", "time as text"],
)
def test_text_that_comes_back_is_taken_for_categories(rows, kind):
    """Text of at most 50 distinct values that come back ten times on average is categorical; nothing else is."""
    assert kinds(RecordSchema.infer(rows)) == {"x": kind}


def test_categories_are_learned():
    """The categories of a field are the texts seen, sorted; missing values are none."""
    field = RecordSchema.infer([{"x": text} for text in ("b", "a", None)] * 10).fields[0]
    assert (field.categories, field.allow_missing) == (("a", "b"), True)


@pytest.mark.parametrize(
    ("column", "categories"),
    [
        (pd.Series(["b", "a", None], dtype=pd.CategoricalDtype(["c", "b", "a"])), ("c", "b", "a")),
        (pd.Series([2, 1, 2], dtype="category"), (1, 2)),
        (pd.Series([2.0, 1.0, None], dtype="category"), (1, 2)),
        (pl.Series(["b", "a", None], dtype=pl.Enum(["c", "b", "a"])), ("c", "b", "a")),
    ],
    ids=["pandas text", "pandas integers", "pandas whole floats", "polars"],
)
def test_declared_categories_are_learned(column, categories):
    """Where a column of a frame declares its categories, these are the categories, in its order."""
    frame = pd.DataFrame({"x": column}) if isinstance(column, pd.Series) else pl.DataFrame({"x": column})
    assert RecordSchema.infer(frame).fields[0].categories == categories


def test_declared_categories_that_are_numbers_with_fractions_are_numbers():
    """Categories that are neither text nor whole numbers are values like any other."""
    frame = pd.DataFrame({"x": pd.Series([0.5, 1.5], dtype="category")})
    field = RecordSchema.infer(frame).fields[0]
    assert (field.kind, field.dtype) == (FieldKind.FLOAT, None)


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([1, 2], "float", (1.0, 2.0)),
        ([1.0, 2.0], "integer", (1, 2)),
        (["2026-03-01T12:00", "2026-03-09"], "datetime", (NOON, dt.datetime(2026, 3, 9))),
        (["2026-03-01T12:00Z"], "datetime", (NOON.replace(tzinfo=UTC),) * 2),
        (["a", "b"] * 10, "text", (None, None)),
        ([None, None], "float", (None, None)),
        ([None, None], "datetime", (None, None)),
        ([None, None], "text", (None, None)),
    ],
    ids=str,
)
def test_a_kind_can_be_declared(values, kind, expected):
    """A declared kind stands, and the values are read as that kind."""
    field = RecordSchema.infer([{"x": value} for value in values], kinds={"x": kind}).fields[0]
    assert (str(field.kind), (field.minimum, field.maximum)) == (kind, expected)


@pytest.mark.parametrize("values", [[7, 8, 7], [7.0, 8.0, NAN], [np.int8(8), Decimal(7)]], ids=str)
def test_codes_can_be_declared_categories(values):
    """Whole numbers that are declared to be categories have those that the data has."""
    schema = RecordSchema.infer([{"x": value} for value in values], kinds={"x": FieldKind.CATEGORICAL})
    assert schema.fields[0].categories == (7, 8)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [{}],
        {},
        {"a": [1, 2]},
        "text",
        b"text",
        5,
        None,
        [5],
        [[1, 2]],
        [{"a": 1}, None],
        [{1: "a"}],
        [{"": "a"}],
        np.array([[1.0, 2.0]]),
        pd.DataFrame(),
        pd.DataFrame({"a": []}),
        pd.DataFrame([[1, 2]], columns=["a", "a"]),
        pd.DataFrame([[1, 2]]),
        [{"a": None}],
        [{"a": NAN}, {"a": None}],
        [{"a": 1}, {"a": "x"}],
        [{"a": True}, {"a": 1}],
        [{"a": [1]}],
        [{"a": b"x"}],
        [{"a": dt.timedelta(1)}],
        [{"a": np.timedelta64(1, "D")}],
        [{"a": Fraction(1, 2)}],
        [{"a": 2**64}],
        [{"a": 2**53 + 1}, {"a": 0.5}],
        [{"a": NOON}, {"a": NOON.replace(tzinfo=UTC)}],
        pd.DataFrame({"a": pd.interval_range(0, 2)}),
    ],
    ids=lambda rows: str(rows)[:50],
)
def test_what_teaches_no_schema_is_refused(rows):
    """``infer`` raises for no rows, other things than records, and fields of no kind or of several."""
    with pytest.raises(InvalidArgumentError):
        RecordSchema.infer(rows)


@pytest.mark.parametrize(
    "declared",
    [
        {"y": "text"},
        {"x": "number"},
        {"x": "integer"},
        {"x": "datetime"},
        {"x": "boolean"},
        {"n": "categorical"},
        {"f": "categorical"},
        {"f": "integer"},
        {"f": "text"},
        {"f": "datetime"},
    ],
    ids=str,
)
def test_a_kind_that_does_not_fit_the_data_is_refused(declared):
    """``infer`` raises for kinds of unknown fields, unknown kinds, and kinds that the values do not have."""
    with pytest.raises(InvalidArgumentError):
        RecordSchema.infer([{"x": "a", "f": 0.5, "n": None}], kinds={"n": "text"} | declared)


def test_the_refusal_names_the_field():
    """What cannot be learned is told with the name of its field."""
    with pytest.raises(InvalidArgumentError, match="price holds integer and text"):
        RecordSchema.infer([{"price": 1}, {"price": "x"}])


def test_policies_are_passed_on():
    """``infer`` makes a schema with the policies that it was given."""
    schema = RecordSchema.infer(ROWS, extra="ignore", ranges="warn", unknown_categories="off")
    assert (schema.extra, schema.ranges, schema.unknown_categories) == ("ignore", "warn", "off")


@pytest.mark.parametrize("frame", ["pandas", "polars", "rows"])
def test_many_rows_teach_the_same_in_any_form(frame):
    """A table of numbers with missing values teaches the same range from a frame as from its rows."""
    rng = np.random.default_rng(0)
    values = np.where(rng.random(500) < 0.1, NAN, rng.normal(size=500))
    table = {"pandas": pd.DataFrame({"x": values}), "polars": pl.DataFrame({"x": values})}.get(
        frame, [{"x": value} for value in values]
    )
    field = RecordSchema.infer(table).fields[0]
    assert (field.kind, field.allow_missing) == (FieldKind.FLOAT, True)
    assert (field.minimum, field.maximum) == (np.nanmin(values), np.nanmax(values))


# ------------------------------------------------------------------------------------------------------------- example


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (Field("x", "boolean"), False),
        (Field("x", "integer"), 0),
        (Field("x", "integer", minimum=3), 3),
        (Field("x", "integer", maximum=-3), -3),
        (Field("x", "integer", minimum=1, maximum=4), 2),
        (Field("x", "float"), 0.5),
        (Field("x", "float", minimum=-1.7e308, maximum=1.7e308), 0.0),
        (Field("x", "float", minimum=5e-324, maximum=5e-324), 5e-324),
        (Field("x", "text"), "text"),
        (Field("x", "text", sample="Ann"), "Ann"),
        (Field("x", "text", sample=""), ""),
        (Field("x", "categorical", categories=["a", "b", "c"]), "b"),
        (Field("x", "datetime"), dt.datetime(2000, 1, 1)),
        (Field("x", "datetime", has_offset=True), dt.datetime(2000, 1, 1, tzinfo=UTC)),
        (Field("x", "datetime", minimum=NOON), NOON),
        (Field("x", "datetime", minimum=NOON, maximum=NOON + dt.timedelta(hours=2)), NOON.replace(hour=13)),
    ],
    ids=str,
)
def test_an_example_is_the_middle_of_what_is_known(field, value):
    """``example`` is the middle of a range, a category, the sample of a text, or something harmless, and is valid."""
    schema = RecordSchema([field], ranges="refuse")
    example = schema.example()
    assert (example, schema.validate(example).message) == ({"x": value}, "")


def test_a_learned_text_is_exemplified_by_one_that_was_seen():
    """Text that is no category is exemplified by the first one, cut to 200 characters."""
    assert RecordSchema.infer([{"x": "y" * 300}, {"x": "z"}]).example() == {"x": "y" * 200}


# ---------------------------------------------------------------------------------------------------------------- JSON


SCHEMAS = [
    PERSON,
    RecordSchema.infer(ROWS, extra="ignore", ranges="warn", unknown_categories="off"),
    RecordSchema([Field("x", "categorical", categories=["ü", "\ud800"]), Field("y", "categorical", categories=[1, 2])]),
    RecordSchema([Field("x", "integer", minimum=-(2**63), maximum=2**64 - 1)]),
    RecordSchema([Field("x", "float", minimum=-1.7e308, maximum=5e-324, allow_infinite=True, optional=True)]),
    RecordSchema([Field("x", "datetime", minimum=NOON, maximum=NOON + dt.timedelta(days=1))]),
    RecordSchema([Field("x", "datetime", has_offset=True, maximum="9999-12-31T23:59:59.999999-23:59")]),
    RecordSchema([Field("x", "text", dtype="object", sample="a")]),
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_a_schema_survives_being_a_dict_and_json(schema):
    """``from_dict`` and ``from_json`` give the schema that ``to_dict`` and ``to_json`` wrote."""
    assert RecordSchema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema
    assert RecordSchema.from_json(schema.to_json()) == schema


def test_the_form_says_what_it_is():
    """The dict names its format and its kind, and leaves out what is as by default."""
    assert RecordSchema([Field("x", "text")]).to_dict() == {
        "format": 1,
        "kind": "record",
        "fields": [{"name": "x", "kind": "text"}],
        "extra": "refuse",
        "ranges": "off",
        "unknown_categories": "refuse",
    }


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"kind": "array"},
        {"fields": None},
        {"fields": []},
        {"fields": [5]},
        {"fields": [{"name": "x"}]},
        {"fields": [{"name": "x", "kind": "text", "more": 1}]},
        {"fields": [{"name": "x", "kind": "float", "minimum": "a"}]},
        {"extra": "drop"},
        {"more": 1},
    ],
    ids=str,
)
def test_another_document_is_no_schema(change):
    """``from_dict`` raises ``InvalidArgumentError`` for what ``to_dict`` did not write."""
    with pytest.raises(InvalidArgumentError, match="a record schema, format 1"):
        RecordSchema.from_dict(PERSON.to_dict() | change)


@pytest.mark.parametrize("document", [None, 5, "text", [], {}, {"format": 1}])
def test_what_is_no_document_is_no_schema(document):
    """``from_dict`` raises ``InvalidArgumentError`` for other things than documents."""
    with pytest.raises(InvalidArgumentError):
        RecordSchema.from_dict(document)


@pytest.mark.parametrize("text", ["", "nonsense", "[" * 100_000, None, 5, "[]"], ids=lambda text: str(text)[:9])
def test_other_text_is_no_schema(text):
    """``from_json`` raises ``InvalidArgumentError`` for what is not even a document."""
    with pytest.raises(InvalidArgumentError):
        RecordSchema.from_json(text)


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_a_schema_is_a_value(schema):
    """A schema survives pickling, and equal ones hash alike."""
    copy = pickle.loads(pickle.dumps(schema))
    assert (copy, hash(copy)) == (schema, hash(schema))


def test_it_is_at_the_top_level():
    """``RecordSchema`` is importable from the package."""
    assert mlserve.RecordSchema is RecordSchema


# -------------------------------------------------------------------------------------------------------------- frames


def frames() -> Iterator[pd.DataFrame]:
    times = pd.Series(pd.to_datetime(["2026-03-01", "2026-03-02", None]))
    yield pd.DataFrame({"x": [1.5, NAN, 2.5]})
    yield pd.DataFrame({"x": np.array([1, 2, 3], "int8")})
    yield pd.DataFrame({"x": np.array([0.5, 0.25, 1], "float32")})
    yield pd.DataFrame({"x": [True, False, True]})
    yield pd.DataFrame({"x": ["a", "b", "c"]})
    yield pd.DataFrame({"x": pd.Series(["a", "b", "c"], dtype=object)})
    yield pd.DataFrame({"x": pd.Series(["a", None, "c"], dtype=object)})
    yield pd.DataFrame({"x": pd.Series(["a", NAN, "c"], dtype=object)})
    yield pd.DataFrame({"x": pd.Series([True, None, False], dtype=object)})
    yield pd.DataFrame({"x": pd.Series(["a", "b", None], dtype=pd.CategoricalDtype(["b", "a"]))})
    yield pd.DataFrame({"x": pd.Series([2, 1, None], dtype=pd.CategoricalDtype([2, 1]))})
    yield pd.DataFrame({"x": pd.Series(["a", "b", None], dtype=pd.CategoricalDtype(["b", "a"], ordered=True))})
    yield pd.DataFrame({"x": pd.array([1, None, 3], dtype="Int64")})
    yield pd.DataFrame({"x": pd.array([1.5, None, 3], dtype="Float64")})
    yield pd.DataFrame({"x": pd.array([True, None, False], dtype="boolean")})
    yield pd.DataFrame({"x": pd.array(["a", None, "a"], dtype="string")})
    yield pd.DataFrame({"x": times.astype("datetime64[ns]")})
    yield pd.DataFrame({"x": times.dt.tz_localize("UTC")})


@pytest.mark.parametrize("frame", [*frames()], ids=lambda frame: str(frame.x.tolist()))
def test_records_are_the_frame_they_were_learned_from(frame):
    """``to_frame`` of the records of a frame is that frame, dtypes and missing values included."""
    schema = RecordSchema.infer(frame)
    checked = [schema.checker()(record) for record in frame.to_dict("records")]
    pd.testing.assert_frame_equal(schema.to_frame(checked), frame)


@pytest.mark.parametrize("frame", [*frames()], ids=lambda frame: str(frame.x.tolist()))
def test_a_frame_of_one_row_is_like_the_whole(frame):
    """Each record by itself becomes a frame that holds what its row holds: no text becomes a number, no number text;
    and a dtype of pandas' own stays.
    """
    schema = RecordSchema.infer(frame)
    for index, record in enumerate(frame.to_dict("records")):
        column = schema.to_frame([schema.checker()(record)]).x
        row, expected = column.iloc[0], frame.x.iloc[index]
        if isinstance(frame.x.dtype, pd.api.extensions.ExtensionDtype):  # has room for whatever a row holds
            assert column.dtype == frame.x.dtype
        if pd.isna(expected):
            assert (pd.isna(row), row is None) == (True, expected is None)
        else:
            assert row == expected


def test_a_missing_text_is_what_pandas_has_for_one():
    """In a column of pandas' own text dtype a missing text is NaN, also alone."""
    schema = RecordSchema.infer(pd.DataFrame({"x": pd.Series(["a", None], dtype="str")}))
    assert schema.to_frame([{"x": None}]).x.tolist() == [pytest.approx(NAN, nan_ok=True)]


def test_a_frame_of_records_that_no_frame_taught_is_as_pandas_makes_it():
    """Without a frame to learn from, numbers, text and times have the dtypes that pandas gives them."""
    schema = RecordSchema.infer([row | {"born": NOON} for row in ROWS])
    frame = schema.to_frame([schema.checker()(row | {"born": NOON}) for row in ROWS])
    expected = pd.DataFrame({"age": [31, 62], "price": [1.5, 2.0], "ok": [True, False], "name": ["Ann", "Ben"]})
    pd.testing.assert_frame_equal(frame, expected.assign(born=[NOON, NOON]))


@pytest.mark.parametrize(
    ("field", "value", "dtype"),
    [
        (Field("x", "integer", optional=True), NAN, "float64"),
        (Field("x", "integer", optional=True, dtype="int8"), NAN, "float64"),
        (Field("x", "integer", dtype="int8"), 300, "int64"),
        (Field("x", "integer"), 2**63, "uint64"),
        (Field("x", "integer", dtype="int64"), 2**63, "uint64"),
        (Field("x", "boolean", optional=True, dtype="bool"), None, "object"),
        (Field("x", "text", optional=True), None, "object"),
        (Field("x", "float", optional=True), NAN, "float64"),
        (Field("x", "text", dtype="no such dtype"), "a", str(pd.Series(["a"]).dtype)),
    ],
    ids=str,
)
def test_a_value_that_the_dtype_cannot_hold_makes_a_wider_column(field, value, dtype):
    """A missing or a wider value than the data had is kept, in a column that can hold it."""
    column = RecordSchema([field]).to_frame([{"x": value}]).x
    assert (str(column.dtype), column.isna().tolist()) == (dtype, [value is None or value != value])


def test_a_missing_time_is_a_time():
    """A column of times that is missing altogether is one of times all the same."""
    assert RecordSchema([Field("x", "datetime", optional=True)]).to_frame([{"x": None}]).x.dtype.kind == "M"


def test_an_unknown_category_is_missing_among_declared_ones():
    """A category that the column does not have is missing in it, as it is in pandas."""
    schema = RecordSchema.infer(pd.DataFrame({"x": pd.Categorical(["a", "b"])}), unknown_categories="off")
    assert schema.to_frame([{"x": "c"}, {"x": "a"}]).x.isna().tolist() == [True, False]


def test_a_category_dtype_may_be_declared_for_text():
    """A field of text may have a column of pandas categories, made of what is there."""
    assert RecordSchema([Field("x", "text", dtype="category")]).to_frame([{"x": "a"}]).x.tolist() == ["a"]


def test_no_records_are_an_empty_frame():
    """A frame of no records has the columns and no rows."""
    frame = PERSON.to_frame([])
    assert (list(frame.columns), len(frame)) == (["age", "city", "height"], 0)


def test_without_pandas_the_extra_is_named(monkeypatch):
    """``to_frame`` names the extra that installs pandas where it is not there."""
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match=r"mlserve\[pandas\]"):
        PERSON.to_frame([RECORD])
