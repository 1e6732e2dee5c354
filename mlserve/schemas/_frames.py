"""Records as a table of the columns that a model was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlserve.errors import MissingExtraError
from mlserve.schemas._coercions import FieldKind
from mlserve.schemas._fields import Field

_CATEGORY = "category"
_NAN = float("nan")

_WITH_ROOM = frozenset({"boolean", "string", "str"})
"""Dtypes of pandas' own for what is None where it is missing: numpy's have no room for it."""

_PLAIN: Mapping[FieldKind, tuple[type, str]] = {
    FieldKind.BOOLEAN: (bool, "bool"),
    FieldKind.INTEGER: (int, "int64"),
    FieldKind.FLOAT: (float, "float64"),
}
"""Types, and the dtypes that hold whatever is of them but unsigned integers."""


def frame_of(fields: Sequence[Field], records: Sequence[Mapping[str, Any]]) -> Any:
    """A pandas frame with a column for each field and a row for each record.

    Raises:
        MissingExtraError: pandas is not installed.
    """
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise MissingExtraError("pandas", "pandas", "RecordSchema.to_frame") from error
    columns = {field.name: _column(pandas, field, [record[field.name] for record in records]) for field in fields}
    return pandas.DataFrame(columns, index=range(len(records)))


def _column(pandas: Any, field: Field, values: list[Any]) -> Any:
    if field.dtype == _CATEGORY:
        known = [value if value in field.categories else None for value in values] if field.categories else values
        return pandas.Series(pandas.Categorical(known, categories=field.categories, ordered=field.ordered))
    kind, dtype = _PLAIN.get(field.kind, (None, None))
    if kind is not None and field.dtype in (None, dtype) and set(map(type, values)) <= {kind}:
        # A series costs thirty times as much, and requests come one by one.
        try:
            return np.array(values, dtype)
        except OverflowError:  # an unsigned integer
            return pandas.Series(values)
    if field.kind is FieldKind.DATETIME:
        values = [pandas.NaT if value is None else value for value in values]
    elif None in values:
        if field.dtype in _WITH_ROOM:
            return pandas.Series(values, dtype=field.dtype)
        # Left to itself, pandas makes a column of floats of a missing text, and False of a missing boolean.
        marker = None if field.dtype is None else _NAN
        return pandas.Series([marker if value is None else value for value in values], dtype=object)
    try:
        return pandas.Series(values, dtype=field.dtype)
    except (ValueError, TypeError, OverflowError):  # what the data did not have: a missing or a wider integer
        return pandas.Series(values)
