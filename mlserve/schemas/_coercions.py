"""From a value to the kind that a field has, without losing anything."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta, timezone
from enum import StrEnum
from math import isfinite
from typing import Any, Final

import numpy as np


class FieldKind(StrEnum):
    """What the values of a field are."""

    BOOLEAN = "boolean"
    """True or False; no number is one."""
    INTEGER = "integer"
    """Whole numbers of 64 bits."""
    FLOAT = "float"
    """Numbers of double precision."""
    TEXT = "text"
    """Text of any kind."""
    DATETIME = "datetime"
    """Points in time, all with an offset from UTC or all without."""
    CATEGORICAL = "categorical"
    """One of a few texts or whole numbers."""


UNFIT: Final = object()
"""What a coercion answers to a value that is not of its kind."""

SMALLEST_INTEGER: Final = -(2**63)
LARGEST_INTEGER: Final = 2**64 - 1
"""Of the 64 bits of a signed or of an unsigned number: wider ones fit into no column."""

EXACT_INTEGER: Final = 2**53
"""Up to it a float tells every whole number from its neighbours."""

_MICROSECOND_DIGITS = 6
_LONGEST_EXACT_TIME = 26
"""Characters of ``2026-01-01T00:00:00.000000``: only longer text can have a finer fraction."""

_NUMPY_INTEGERS = (*(np.dtype(code).type for code in "bhilqBHILQ"),)
"""Not ``np.integer``, which a span of time is too."""

_PANDAS_MISSING = frozenset({"NAType", "NaTType"})


def is_missing(value: Any) -> bool:
    """Whether a value stands for one that is not there: None, NaN, NaT, ``pandas.NA``."""
    if value is None:
        return True
    if isinstance(value, float):
        return float.__ne__(value, value)
    if isinstance(value, np.floating):
        return bool(np.isnan(value))
    if isinstance(value, np.datetime64):
        return bool(np.isnat(value))
    kind = type(value)
    if kind.__name__ in _PANDAS_MISSING:
        return kind.__module__.startswith("pandas.")
    return _is_decimal(value) and value.is_nan()


def _is_decimal(value: Any) -> bool:
    # A value can only be one if somebody has imported the module.
    module = sys.modules.get("decimal")
    return module is not None and isinstance(value, module.Decimal)


def to_boolean(value: Any) -> Any:
    """Booleans as they are."""
    if value is True or value is False:
        return value
    return bool(value) if isinstance(value, np.bool_) else UNFIT


def to_integer(value: Any) -> Any:
    """Whole numbers of any width; floats and decimals that are whole and exact; no booleans."""
    if isinstance(value, bool):
        return UNFIT
    if isinstance(value, int):
        whole = int.__int__(value)  # a subclass may say what it likes
    elif isinstance(value, _NUMPY_INTEGERS):
        whole = int(value)
    elif isinstance(value, (float, np.floating)):
        double = to_float(value)
        if double is UNFIT or not abs(double) <= EXACT_INTEGER or not double.is_integer():
            return UNFIT
        whole = int(double)
    elif _is_decimal(value):
        # Asked for its size first: 1E+999999999 has as many digits.
        if not value.is_finite() or value.adjusted() > len(str(LARGEST_INTEGER)) or value != int(value):
            return UNFIT
        whole = int(value)
    else:
        return UNFIT
    return whole if SMALLEST_INTEGER <= whole <= LARGEST_INTEGER else UNFIT


def to_float(value: Any) -> Any:
    """Floats of any width and whole numbers, where a double holds them exactly; decimals rounded; no booleans."""
    if isinstance(value, bool):
        return UNFIT
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, int):
        return _exactly(int.__int__(value))
    if isinstance(value, _NUMPY_INTEGERS):
        return _exactly(int(value))
    if isinstance(value, np.floating):
        with np.errstate(over="ignore"):
            double = float(value)
        return double if double == value else UNFIT
    if _is_decimal(value):
        double = float(value)
        return double if isfinite(double) or not value.is_finite() else UNFIT
    return UNFIT


def _exactly(whole: int) -> Any:
    try:
        double = float(whole)
    except OverflowError:
        return UNFIT
    return double if int(double) == whole else UNFIT


def to_text(value: Any) -> Any:
    """Text as it is, without what a subclass adds; nothing else is turned into text."""
    return str.__str__(value) if isinstance(value, str) else UNFIT


def to_datetime(value: Any) -> Any:
    """Times and dates; ISO 8601 text of either; numpy's times where microseconds hold them exactly."""
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    if isinstance(value, np.datetime64):
        return _from_numpy(value)
    return _from_text(str.__str__(value)) if isinstance(value, str) else UNFIT


def _from_numpy(value: np.datetime64) -> Any:
    whole = value.astype("M8[us]")
    time = whole.item()
    # Years beyond 9999 come back as a number; a finer unit than a microsecond need not survive.
    return time if isinstance(time, datetime) and whole == value else UNFIT


def _from_text(text: str) -> Any:
    if len(text) > _LONGEST_EXACT_TIME:
        fraction = text.replace(",", ".").partition(".")[2]
        digits = fraction[: len(fraction) - len(fraction.lstrip("0123456789"))]
        if digits[_MICROSECOND_DIGITS:].strip("0"):
            return UNFIT  # fromisoformat would cut it off
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return UNFIT


def is_aware(time: datetime) -> bool:
    """Whether a time has an offset from UTC."""
    return time.utcoffset() is not None


def bound_of(time: datetime, *, is_upper: bool) -> datetime:
    """A time as a bound: a plain ``datetime`` of microseconds, rounded outward, its offset fixed where it has one."""
    offset = time.utcoffset()
    zone = None if offset is None else timezone(offset)
    bound = datetime(time.year, time.month, time.day, time.hour, time.minute, time.second, time.microsecond, zone)
    if is_upper and getattr(time, "nanosecond", 0) > 0:
        bound += timedelta(microseconds=1)
    return bound


COERCIONS: Mapping[FieldKind, Callable[[Any], Any]] = {
    FieldKind.BOOLEAN: to_boolean,
    FieldKind.INTEGER: to_integer,
    FieldKind.FLOAT: to_float,
    FieldKind.TEXT: to_text,
    FieldKind.DATETIME: to_datetime,
}
"""From a kind to its coercion; a category has that of its categories."""


def family_of(kind: type) -> FieldKind | None:
    """The kind to which the values of a Python or numpy type belong, or None."""
    for family, kinds in _FAMILIES.items():
        if issubclass(kind, kinds):
            return family
    module = sys.modules.get("decimal")
    return FieldKind.FLOAT if module is not None and issubclass(kind, module.Decimal) else None


# In this order, since a boolean is an integer to Python.
_FAMILIES: Mapping[FieldKind, tuple[type, ...]] = {
    FieldKind.BOOLEAN: (bool, np.bool_),
    FieldKind.INTEGER: (int, *_NUMPY_INTEGERS),
    FieldKind.FLOAT: (float, np.floating),
    FieldKind.TEXT: (str,),
    FieldKind.DATETIME: (date, np.datetime64),
}
