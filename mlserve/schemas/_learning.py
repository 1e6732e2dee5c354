"""Fields learned from data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import attrs
import numpy as np

from mlserve.errors import InvalidArgumentError
from mlserve.schemas._coercions import (
    UNFIT,
    FieldKind,
    family_of,
    is_aware,
    is_missing,
    to_datetime,
    to_integer,
    to_text,
)
from mlserve.schemas._fields import RANGED, Field, coerced, expected_of
from mlserve.schemas._named import labelled

MAX_CATEGORIES = 50
"""Text with more distinct values is not taken for categories."""

ROWS_PER_CATEGORY = 10
"""Text is taken for categories where its values come back so often on average. A value that is absent from n rows has a
share of less than 3/n with a confidence of 95 %: where categories come back so often, an unseen one is rare."""

LONGEST_SAMPLE = 200
"""Characters of a text that a schema keeps to show what one looks like."""

_TELLABLE = frozenset({type(None), bool, int, float, str})
"""Types of which a value is missing if it is None or differs from itself."""

_UNCHANGED: Mapping[FieldKind, type] = {FieldKind.BOOLEAN: bool, FieldKind.FLOAT: float, FieldKind.TEXT: str}
"""Types of which every value is its own coercion."""

_CATEGORY = "category"
_OBJECT = "object"


@attrs.frozen(eq=False)
class Column:
    """What the data says of one field.

    Attributes:
        name: Of the field.
        values: Those that are there, in order, as Python or numpy objects; missing ones among them.
        is_absent: Whether a record lacks the field.
        dtype: Of a pandas frame's column, else None.
        is_ordered: Whether the categories are.
        categories: Those that the column declares.
    """

    name: str
    values: list[Any]
    is_absent: bool = False
    dtype: str | None = None
    is_ordered: bool = False
    categories: Sequence[Any] = ()


def columns_of(rows: Any) -> list[Column]:
    """The columns of a frame, of a structured array, or of records.

    Raises:
        InvalidArgumentError: None of these, no row, or names that are no distinct text.
    """
    if hasattr(rows, "columns") and hasattr(rows, "dtypes"):
        found = [_of_frame(name, rows[name]) for name in _checked_names(list(rows.columns))]
    elif isinstance(rows, np.ndarray) and rows.dtype.names is not None:
        flat = rows.reshape(-1)
        found = [Column(name, _listed(flat[name])) for name in rows.dtype.names]
    else:
        found = _of_records(rows)
    if not found or not found[0].values:
        raise InvalidArgumentError("rows", rows, "at least one row with at least one field")
    return found


def _of_frame(name: str, column: Any) -> Column:
    if not hasattr(column, "iloc"):
        enum = getattr(column.dtype, "categories", None)
        return Column(name, column.to_list(), categories=enum.to_list() if enum is not None else ())
    dtype = str(column.dtype)
    if dtype != _CATEGORY:
        return Column(name, column.tolist(), dtype=dtype)
    categories = column.cat.categories.tolist()
    return Column(name, column.tolist(), dtype=dtype, categories=categories, is_ordered=bool(column.cat.ordered))


def _listed(column: np.ndarray[Any, Any]) -> list[Any]:
    # tolist() would make numbers of times.
    return list(column) if column.dtype.kind == "M" else column.tolist()


def _of_records(rows: Any) -> list[Column]:
    if isinstance(rows, (str, bytes, Mapping)) or not hasattr(rows, "__iter__"):
        expected = "a sequence of mappings, a frame or a structured array"
        raise InvalidArgumentError("rows", rows, expected, hint="One record is passed as [record].")
    values: dict[Any, list[Any]] = {}
    count = 0
    for row in rows:
        record = labelled(row)
        if record is None:
            raise InvalidArgumentError("rows", row, f"mappings from names to values, in row {count}")
        for name, value in record.items():
            values.setdefault(name, []).append(value)
        count += 1
    _checked_names(list(values))
    return [Column(name, found, is_absent=len(found) < count) for name, found in values.items()]


def _checked_names(names: list[Any]) -> list[str]:
    wrong = [name for name in names if not isinstance(name, str) or not name]
    if wrong:
        raise InvalidArgumentError("rows", wrong[0], "fields whose names are text", hint="Rename the columns.")
    if len(set(names)) < len(names):
        raise InvalidArgumentError("rows", names, "fields with distinct names", hint="Rename the repeated columns.")
    return names


def learned(column: Column, kind: FieldKind | str | None) -> Field:
    """The field that a column teaches.

    Args:
        column: What the data says.
        kind: The kind that was declared, or None to find it out.

    Raises:
        InvalidArgumentError: Values of several kinds, of none that there is, or not of the declared one; no value.
    """
    present = _present(column.values)
    declared = _coerced_categories(column.categories)
    if UNFIT in declared:
        declared = []  # intervals, or numbers that are not whole
    is_categorical = kind == FieldKind.CATEGORICAL or (kind is None and bool(declared))
    shared: dict[str, Any] = {
        "allow_missing": len(present) < len(column.values),
        "optional": column.is_absent,
        "dtype": _dtype_of(column, bool(declared)) if kind is None or is_categorical else None,
    }
    if is_categorical:
        categories = declared or sorted(set(_seen_categories(column.name, present)))
        shared["ordered"] = column.is_ordered and bool(declared)
        return Field(column.name, FieldKind.CATEGORICAL, categories=categories, **shared)
    field = Field(column.name, _kind_of(column.name, present) if kind is None else kind, **shared)
    if kind is None and field.kind is FieldKind.TEXT and _comes_back(present):
        return Field(column.name, FieldKind.CATEGORICAL, categories=sorted(set(map(to_text, present))), **shared)
    return _with_values(field, present)


def _present(values: list[Any]) -> list[Any]:
    if _TELLABLE.issuperset(map(type, values)):  # millions of them are looked at in a second
        return [value for value in values if value is not None and value == value]
    return [value for value in values if not is_missing(value)]


def _seen_categories(name: str, present: list[Any]) -> list[Any]:
    found = _coerced_categories(present)
    if UNFIT in found:
        wrong = present[found.index(UNFIT)]
        raise InvalidArgumentError("rows", wrong, f"texts alone, or whole numbers alone, in the categorical {name}")
    return found


def _coerced_categories(values: Sequence[Any]) -> list[Any]:
    coerce = to_text if values and isinstance(values[0], str) else to_integer
    return [coerce(value) for value in values]


def _comes_back(texts: list[Any]) -> bool:
    distinct = len(set(texts))
    return distinct <= MAX_CATEGORIES and len(texts) >= ROWS_PER_CATEGORY * distinct


def _kind_of(name: str, present: list[Any]) -> FieldKind:
    if not present:
        raise InvalidArgumentError("rows", None, f"a value of {name} in some row", hint="Or declare it with kinds=.")
    examples = {family_of(kind): value for kind, value in {type(value): value for value in present}.items()}
    if None in examples:
        expected = f"numbers, text, booleans and times; {name} holds a {type(examples[None]).__name__}"
        hint = "Leave the field out, or give the server a validator of your own."
        raise InvalidArgumentError("rows", examples[None], expected, hint=hint)
    kinds = [kind for kind in examples if kind is not None]
    if len(kinds) == 1:
        return kinds[0]
    if set(kinds) == {FieldKind.INTEGER, FieldKind.FLOAT}:
        return FieldKind.FLOAT
    found = " and ".join(sorted(str(kind) for kind in kinds))
    raise InvalidArgumentError("rows", [*examples.values()], f"values of one kind; {name} holds {found}")


def _with_values(field: Field, present: list[Any]) -> Field:
    """The field with what its values tell: range, infinities, offsets, what a text looks like."""
    if field.kind is FieldKind.DATETIME and present:
        first = to_datetime(present[0])
        field = attrs.evolve(field, has_offset=first is not UNFIT and is_aware(first))
    widest = attrs.evolve(field, allow_infinite=field.kind is FieldKind.FLOAT)
    is_plain = set(map(type, present)) <= {_UNCHANGED.get(field.kind)}
    values = present if is_plain else [coerced(widest, value) for value in present]
    if UNFIT in values:
        wrong = present[values.index(UNFIT)]
        raise InvalidArgumentError("rows", wrong, f"{expected_of(widest)} in each row of {field.name}")
    if field.kind is FieldKind.TEXT and values:
        return attrs.evolve(field, sample=values[0][:LONGEST_SAMPLE])
    if field.kind not in RANGED:
        return field
    finite = [value for value in values if isfinite(value)] if field.kind is FieldKind.FLOAT else values
    return attrs.evolve(
        field,
        allow_infinite=len(finite) < len(values),
        minimum=min(finite, default=None),
        maximum=max(finite, default=None),
    )


def _dtype_of(column: Column, is_declared: bool) -> str | None:
    if column.dtype == _CATEGORY:
        return column.dtype if is_declared else None
    # Objects may hold None or NaN for what is missing; pandas gives back None by itself.
    return None if column.dtype == _OBJECT and any(value is None for value in column.values) else column.dtype
