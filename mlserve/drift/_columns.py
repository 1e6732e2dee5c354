"""Columns of one kind each, from whatever holds the values of a feature."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from numbers import Real
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from mlserve.drift._tallies import tally_numbers, tally_objects, tally_series, tally_texts
from mlserve.errors import InvalidArgumentError

NUMBER_KINDS = "iuf"
"""Kinds of numpy dtypes that are numbers as they are; durations become numbers of seconds."""

TIMES = (date, np.datetime64)
"""Types of objects that are times; ``datetime`` and what pandas makes of it are dates, too."""


class Kind(StrEnum):
    """How a feature is compared."""

    NUMERIC = "numeric"
    CATEGORICAL = "categorical"
    BOOLEAN = "boolean"
    DATETIME = "datetime"

    @property
    def is_ordered(self) -> bool:
        """Whether its values are compared by their distribution function, not as categories."""
        return self in (Kind.NUMERIC, Kind.DATETIME)


@attrs.frozen(eq=False)
class Column:
    """One feature of one sample.

    Attributes:
        kind: How it is compared.
        size: Number of rows.
        values: For ordered kinds, numbers, shape ``(size,)``, NaN where missing, times in seconds; else None.
        counts: For the other kinds how often each category occurs, None for missing values; else None.
        is_integral: Whether it was given as integers.
        is_zoned: Whether its times have a zone; None where they are no times, or all missing.
    """

    kind: Kind
    size: int
    values: npt.NDArray[Any] | None = None
    counts: Counter[Any] | None = None
    is_integral: bool = False
    is_zoned: bool | None = None

    @classmethod
    def ordered(cls, values: npt.NDArray[Any], kind: Kind = Kind.NUMERIC, is_zoned: bool | None = None) -> Column:
        """A column of numbers or times."""
        return cls(kind, values.size, values, is_integral=values.dtype.kind in "iu", is_zoned=is_zoned)

    @classmethod
    def counted(cls, counts: Counter[Any], kind: Kind = Kind.CATEGORICAL) -> Column:
        """A column of categories."""
        return cls(kind, counts.total(), counts=counts)

    @classmethod
    def missing(cls, size: int, kind: Kind) -> Column:
        """A column of a kind whose values are all missing."""
        if kind.is_ordered:
            return cls.ordered(np.full(size, np.nan), kind)
        return cls.counted(Counter({None: size}), kind)

    @property
    def is_all_missing(self) -> bool:
        """Whether it holds no value at all."""
        if self.values is None:
            return self.category_counts()[None] == self.size
        if self.values.dtype.kind != "f":
            return False
        # The first value nearly always tells.
        return bool(np.isnan(self.values[:1]).all() and np.isnan(self.values).all())

    def category_counts(self) -> Counter[Any]:
        """How often each value occurs, None for missing ones."""
        if self.counts is not None:
            return self.counts
        assert self.values is not None
        return _none_counted(tally_numbers(self.values))

    def has_few_values(self, limit: int) -> bool:
        """Whether it is ordered and has at most so many distinct values."""
        # Most columns show in their first rows that they have many values.
        values = self.values
        return (
            values is not None
            and len(set(values[: 4 * limit].tolist())) <= limit
            and len(tally_numbers(values)) <= limit
        )

    def as_kind(self, kind: Kind | None) -> Column:
        """The same values as another kind, one that ``common_kind`` found; None for their text."""
        if kind is None:
            return self.as_text()
        if kind is self.kind:
            return self
        if self.is_all_missing:
            return Column.missing(self.size, kind)
        return Column.counted(self.category_counts()) if kind is Kind.CATEGORICAL else self.as_numbers()

    def as_text(self) -> Column:
        """The same values as categories named by their text: what is left to compare when the type changed."""
        counts: Counter[Any] = Counter()
        for value, count in self.category_counts().items():
            counts[None if value is None else str(value)] += count
        return Column.counted(counts)

    def as_numbers(self) -> Column:
        """Booleans as 0 and 1; their order is lost, which no test here looks at."""
        counts = self.category_counts()
        values = [np.nan if value is None else float(value) for value in counts]
        return Column.ordered(np.repeat(np.array(values, np.float64), list(counts.values())))


def common_kind(first: Column, second: Column, *, is_declared: bool) -> Kind | None:
    """The kind by which two columns are compared; None where their types differ so that only their text is left."""
    if is_declared:
        return Kind.CATEGORICAL
    # A column without values has no kind of its own.
    if first.kind is second.kind or first.is_all_missing:
        return second.kind
    if second.is_all_missing:
        return first.kind
    return Kind.NUMERIC if {first.kind, second.kind} == {Kind.BOOLEAN, Kind.NUMERIC} else None


def matched(first: Column, second: Column, *, is_declared: bool, max_categories: int) -> tuple[Column, Column]:
    """Both columns as one kind; integers of which the first has few distinct values are categories."""
    kind = common_kind(first, second, is_declared=is_declared)
    if kind is Kind.NUMERIC and first.is_integral and second.is_integral and first.has_few_values(max_categories):
        kind = Kind.CATEGORICAL
    return first.as_kind(kind), second.as_kind(kind)


def column(parameter: str, name: str, value: Any) -> Column:
    """Values as a column of the kind they show.

    Args:
        parameter: What they belong to, for errors.
        name: Of the feature.
        value: An array, a sequence, or a column of a pandas or polars frame.

    Raises:
        InvalidArgumentError: They are no column, or hold what cannot be compared.
    """
    try:
        counts = tally_series(value)
        array = None if counts is not None else _array(value)
    except Exception as error:  # sequences of different lengths, and whatever a frame of another library raises
        raise InvalidArgumentError(parameter, value, f"one value a row in column {name!r} ({error})") from error
    if array is None:
        assert counts is not None
        return _category_column(_none_counted(counts))
    if array.ndim != 1:
        raise InvalidArgumentError(parameter, array.shape, f"one value a row in column {name!r}")
    kind = array.dtype.kind
    if kind == "b":
        return boolean_column(array)
    if kind == "m":
        return Column.ordered(_seconds(array, np.timedelta64(1, "us")))
    if kind in NUMBER_KINDS:
        return Column.ordered(array)
    if kind == "M":
        seconds = _seconds(array - np.datetime64(0, "us"), np.timedelta64(1, "us"))
        return Column.ordered(seconds, Kind.DATETIME, _has_zone(getattr(value, "dtype", None)))
    if kind in "US":
        return Column.counted(tally_texts(array))
    if kind == "O":
        return _object_column(parameter, name, array)
    raise InvalidArgumentError(parameter, array.dtype, f"numbers, text, booleans or times in column {name!r}")


def unmasked(array: np.ma.MaskedArray[Any, Any]) -> npt.NDArray[Any]:
    """A masked array as one of objects, None where it is masked; as an array of numpy it would show what it hides."""
    objects = array.data.astype(object)
    objects[np.ma.getmaskarray(array)] = None
    return np.asarray(objects)


def boolean_column(array: npt.NDArray[Any]) -> Column:
    """An array of booleans as a column."""
    true = int(array.sum())
    return Column.counted(Counter({True: true, False: array.size - true}), Kind.BOOLEAN)


def _array(value: Any) -> npt.NDArray[Any]:
    if hasattr(value, "to_numpy"):
        return _series_values(value)
    if isinstance(value, np.ma.MaskedArray):
        return unmasked(value)
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], str):
        # Texts of fixed width would be made only to be taken apart again.
        return np.array(value, dtype=object)
    return np.asarray(value)


def _series_values(series: Any) -> npt.NDArray[Any]:
    """A frame's column as an array; an extension type of pandas that hides numbers or times behind objects as those."""
    dtype: Any = series.dtype
    kind = getattr(dtype, "kind", "")
    if not isinstance(dtype, np.dtype) and kind == "M":
        return np.asarray(series.to_numpy(dtype="datetime64[us]"))
    if isinstance(dtype, np.dtype) or kind not in tuple("iufb"):
        return np.asarray(series.to_numpy())
    if series.isna().any():
        return np.asarray(series.to_numpy(dtype=np.float64, na_value=np.nan))
    return np.asarray(series.to_numpy(dtype=dtype.numpy_dtype))


def _has_zone(dtype: Any) -> bool:
    # pandas calls it tz, polars time_zone; an array of numpy has none.
    return getattr(dtype, "tz", None) is not None or getattr(dtype, "time_zone", None) is not None


def _seconds(spans: npt.NDArray[Any], unit: np.timedelta64) -> npt.NDArray[np.float64]:
    # Division of NaT gives NaN.
    return np.asarray(spans / unit, np.float64) / 1e6


def _object_column(parameter: str, name: str, array: npt.NDArray[Any]) -> Column:
    try:
        # The distinct values tell all that must be known of them, and there are few.
        counts = tally_objects(array)
        if counts is None:
            values = array.tolist()
            types = set(map(type, values)) - {type(None)}
            if all(issubclass(one, Real) and not issubclass(one, bool) for one in types):
                return Column.ordered(_numbers(parameter, name, values))
            if all(issubclass(one, TIMES) for one in types):
                return _time_column(parameter, name, values)
            counts = Counter(values)
    except TypeError as error:
        held = next(value for value in array.tolist() if not _is_hashable(value))
        raise InvalidArgumentError(
            parameter, held, f"values that can be told apart; column {name!r} holds {type(held).__name__}",
            hint="Take it apart into columns of its own, or leave it out.",
        ) from error  # fmt: skip
    counts = _none_counted(counts)
    types = {type(value) for value in counts if value is not None}
    if not types:
        # Nothing but missing values is a column of missing numbers.
        return Column.missing(array.size, Kind.NUMERIC)
    if all(issubclass(one, Real) for one in types) and types != {bool}:
        return Column.ordered(_numbers(parameter, name, array.tolist()))
    if all(issubclass(one, TIMES) for one in types):
        return _time_column(parameter, name, array.tolist())
    return _category_column(counts)


def _category_column(counts: Counter[Any]) -> Column:
    known = [value for value in counts if value is not None]
    is_boolean = bool(known) and all(isinstance(value, (bool, np.bool_)) for value in known)
    return Column.counted(counts, Kind.BOOLEAN if is_boolean else Kind.CATEGORICAL)


def _none_counted(counts: Counter[Any]) -> Counter[Any]:
    """The same counts with every kind of missing value under None."""
    missing = [value for value in counts if value is not None and _is_missing(value)]
    for value in missing:
        counts[None] += counts.pop(value)
    return counts


def _numbers(parameter: str, name: str, values: list[Any]) -> npt.NDArray[np.float64]:
    try:
        try:
            return np.array(values, np.float64)  # None becomes NaN
        except TypeError:  # pandas.NA does not
            return np.array([np.nan if _is_missing(value) else value for value in values], np.float64)
    except OverflowError as error:
        raise InvalidArgumentError(parameter, name, "numbers that fit a float64 in every column") from error


def _time_column(parameter: str, name: str, values: list[Any]) -> Column:
    moments = [_moment(value) for value in values]
    zoned = {value.tzinfo is not None for value in moments if value is not None}
    if len(zoned) > 1:
        raise InvalidArgumentError(
            parameter, name, "times that all have a zone or all have none; the column mixes the two"
        )
    is_zoned = zoned == {True}
    epoch = datetime(1970, 1, 1, tzinfo=UTC if is_zoned else None)
    second = timedelta(seconds=1)
    seconds = np.array([np.nan if value is None else (value - epoch) / second for value in moments], np.float64)
    return Column.ordered(seconds, Kind.DATETIME, is_zoned)


def _moment(value: Any) -> datetime | None:
    if _is_missing(value):
        return None
    if isinstance(value, np.datetime64):
        value = value.astype("datetime64[us]").item()
    return datetime(value.year, value.month, value.day) if type(value) is date else value  # a day has no zone


def _is_missing(value: Any) -> bool:
    if value is None:
        return True
    try:
        return bool(value != value)  # NaN and NaT differ from themselves
    except Exception:  # pandas.NA refuses to be true or false; what else refuses is told apart by its hash
        return type(value).__name__ in ("NAType", "NaTType")


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
