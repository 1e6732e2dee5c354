"""Whatever holds a table, as columns of one kind each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from numbers import Real
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from mlserve.errors import InvalidArgumentError
from mlserve.records._monitoring import checked_feature_names

NUMBER_KINDS = "iufm"
"""Kinds of numpy dtypes that are numbers; durations are numbers of seconds."""


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
    """

    kind: Kind
    size: int
    values: npt.NDArray[Any] | None = None
    counts: Counter[Any] | None = None
    is_integral: bool = False

    @classmethod
    def ordered(cls, values: npt.NDArray[Any], kind: Kind = Kind.NUMERIC) -> Column:
        """A column of numbers or times."""
        return cls(kind, values.size, values, is_integral=values.dtype.kind in "iu")

    @classmethod
    def counted(cls, counts: Counter[Any], kind: Kind = Kind.CATEGORICAL) -> Column:
        """A column of categories."""
        return cls(kind, counts.total(), counts=counts)

    @property
    def is_all_missing(self) -> bool:
        """Whether it holds no value at all."""
        if self.values is not None:
            return self.values.dtype.kind == "f" and bool(np.isnan(self.values).all())
        return self.category_counts()[None] == self.size

    def category_counts(self) -> Counter[Any]:
        """How often each value occurs, None for missing ones."""
        if self.counts is not None:
            return self.counts
        assert self.values is not None
        values, counts = np.unique(self.values, return_counts=True)
        counted = Counter(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        return _with_none(counted)

    def as_categories(self) -> Column:
        """The same values as categories."""
        return Column.counted(self.category_counts())

    def as_text(self) -> Column:
        """The same values as categories named by their text: what is left to compare when the type changed."""
        counts: Counter[Any] = Counter()
        for value, count in self.category_counts().items():
            counts[None if value is None else str(value)] += count
        return Column.counted(counts)

    def as_numbers(self) -> Column:
        """Booleans as 0 and 1; their order is lost, which no test here looks at."""
        if self.counts is None:
            return self
        values = [np.nan if value is None else float(value) for value in self.counts.elements()]
        return Column.ordered(np.array(values, np.float64))

    def emptied(self, size: int) -> Column:
        """A column of this kind whose values are all missing."""
        if self.kind.is_ordered:
            return Column.ordered(np.full(size, np.nan), self.kind)
        return Column.counted(Counter({None: size}), self.kind)


@attrs.frozen(eq=False)
class Table:
    """One sample.

    Attributes:
        names: Of the features, unique.
        n_rows: Number of rows.
        matrix: All features as float64 or integers, shape ``(n_rows, n_features)``, when the sample came as one
            array of numbers; then there are no columns yet.
        columns: The features, otherwise.
    """

    names: tuple[str, ...]
    n_rows: int
    matrix: npt.NDArray[Any] | None
    columns: tuple[Column, ...] = ()

    @property
    def n_features(self) -> int:
        """Number of features."""
        return len(self.names)

    def column(self, index: int) -> Column:
        """A feature by its position."""
        if self.matrix is None:
            return self.columns[index]
        values = self.matrix[:, index]
        return _boolean(values) if values.dtype.kind == "b" else Column.ordered(values)


def table(parameter: str, value: Any, names: Sequence[str] | None) -> Table:
    """A sample as a table.

    Args:
        parameter: Its name, for errors.
        value: An array ``(n_samples, n_features)`` or ``(n_samples,)``, a structured array, a mapping from names to
            columns, or a pandas or polars frame.
        names: Names of the features, where the value brings none; with names of its own, the ones to take, in order.

    Raises:
        InvalidArgumentError: It is none of these, or its names do not fit.
    """
    found = _named_columns(parameter, value)
    if found is None:
        return _array_table(parameter, value, names)
    own = checked_feature_names(list(found), len(found))
    chosen = own if names is None else tuple(names)
    absent = [name for name in chosen if name not in found]
    if absent:
        raise InvalidArgumentError(
            parameter, absent, f"columns named {', '.join(chosen[:8])}", hint=f"It has {', '.join(own[:8])}."
        )
    checked_feature_names(chosen, len(chosen))
    columns = tuple(column(parameter, name, found[name]) for name in chosen)
    sizes = {one.size for one in columns}
    if len(sizes) > 1:
        raise InvalidArgumentError(parameter, sorted(sizes), "columns of one length")
    return Table(chosen, sizes.pop() if sizes else 0, None, columns)


def _named_columns(parameter: str, value: Any) -> dict[str, Any] | None:
    if isinstance(value, Mapping):
        return {str(name): values for name, values in value.items()}
    if isinstance(value, np.ndarray) and value.dtype.names is not None:
        return {name: value[name] for name in value.dtype.names}
    columns = getattr(value, "columns", None)
    if columns is None:
        return None
    names = [str(name) for name in columns]
    checked_feature_names(names, len(names))
    try:
        return {str(name): _series_values(value[name]) for name in columns}
    except Exception as error:  # whatever a frame of another library raises
        raise InvalidArgumentError(parameter, type(value).__name__, f"a frame of columns ({error!r})") from error


def _series_values(series: Any) -> Any:
    """A frame's column as an array; an extension type of pandas that hides numbers behind objects as numbers."""
    dtype: Any = getattr(series, "dtype", None)
    if isinstance(dtype, np.dtype) or getattr(dtype, "kind", "") not in tuple("iufb"):
        return series.to_numpy()
    if series.isna().any():
        return series.to_numpy(dtype=np.float64, na_value=np.nan)
    return series.to_numpy(dtype=dtype.numpy_dtype)


def _array_table(parameter: str, value: Any, names: Sequence[str] | None) -> Table:
    try:
        array = np.asarray(value)
    except ValueError as error:  # rows of different lengths
        raise InvalidArgumentError(parameter, value, f"a table ({error})") from error
    if array.ndim == 1:
        array = array[:, np.newaxis]
    if array.ndim != 2 or array.dtype.kind in "cV":
        raise InvalidArgumentError(
            parameter, f"{array.dtype} {array.shape}", "an array of shape (n_samples, n_features)",
            hint="Numbers, text, booleans or times; reshape one row to (1, n).",
        )  # fmt: skip
    n_rows, n_features = array.shape
    own = tuple(names) if names is not None else tuple(f"x{index}" for index in range(n_features))
    # An empty sample has no width of its own.
    checked = checked_feature_names(own, n_features) if n_rows or n_features else own
    if array.dtype.kind in "biuf":
        return Table(checked, n_rows, array)
    columns = tuple(column(parameter, name, array[:, index]) for index, name in enumerate(checked[:n_features]))
    return Table(checked, n_rows, None, columns)


def column(parameter: str, name: str, value: Any) -> Column:
    """Values as a column of the kind they show.

    Raises:
        InvalidArgumentError: They are no column, or hold what cannot be compared.
    """
    try:
        array = np.asarray(value)
    except ValueError as error:  # sequences of different lengths
        raise InvalidArgumentError(parameter, value, f"one value a row in column {name!r} ({error})") from error
    if array.ndim != 1:
        raise InvalidArgumentError(parameter, array.shape, f"one value a row in column {name!r}")
    kind = array.dtype.kind
    if kind == "b":
        return _boolean(array)
    if kind == "m":
        return Column.ordered(_seconds(array, np.timedelta64(1, "us")))
    if kind in NUMBER_KINDS:
        return Column.ordered(array)
    if kind == "M":
        return Column.ordered(_seconds(array - np.datetime64(0, "us"), np.timedelta64(1, "us")), Kind.DATETIME)
    if kind in "US":
        return Column.counted(Counter(array.tolist()))
    if kind == "O":
        return _object_column(parameter, name, array)
    raise InvalidArgumentError(parameter, array.dtype, f"numbers, text, booleans or times in column {name!r}")


def _boolean(array: npt.NDArray[Any]) -> Column:
    true = int(array.sum())
    return Column.counted(Counter({True: true, False: array.size - true}), Kind.BOOLEAN)


def _seconds(spans: npt.NDArray[Any], unit: np.timedelta64) -> npt.NDArray[np.float64]:
    # Division of NaT gives NaN.
    return np.asarray(spans / unit, np.float64) / 1e6


def _object_column(parameter: str, name: str, array: npt.NDArray[Any]) -> Column:
    values = array.tolist()
    try:
        # The distinct values tell all that must be known of them, and there are few.
        counts = _with_none(Counter(values))
    except TypeError as error:
        held = next(value for value in values if not _is_hashable(value))
        raise InvalidArgumentError(
            parameter, held, f"values that can be told apart; column {name!r} holds {type(held).__name__}",
            hint="Take it apart into columns of its own, or leave it out.",
        ) from error  # fmt: skip
    types = {type(value) for value in counts if value is not None}
    if types and all(issubclass(one, (bool, np.bool_)) for one in types):
        return Column.counted(counts, Kind.BOOLEAN)
    if all(issubclass(one, Real) for one in types):
        # Nothing but missing values is a column of missing numbers.
        return Column.ordered(_numbers(parameter, name, values))
    if all(issubclass(one, (date, np.datetime64)) for one in types):
        return Column.ordered(_times(parameter, name, values), Kind.DATETIME)
    return Column.counted(counts)


def _with_none(counts: Counter[Any]) -> Counter[Any]:
    """The same counts with every kind of missing value under None."""
    missing = [value for value in counts if value is not None and _is_missing(value)]
    for value in missing:
        counts[None] += counts.pop(value)
    return counts


def _numbers(parameter: str, name: str, values: list[Any]) -> npt.NDArray[np.float64]:
    try:
        return np.array([np.nan if _is_missing(value) else value for value in values], np.float64)
    except OverflowError as error:
        raise InvalidArgumentError(parameter, name, "numbers that fit a float64 in every column") from error


def _times(parameter: str, name: str, values: list[Any]) -> npt.NDArray[np.float64]:
    moments = [_moment(value) for value in values]
    zoned = {value.tzinfo is not None for value in moments if value is not None}
    if len(zoned) > 1:
        raise InvalidArgumentError(
            parameter, name, "times that all have a zone or all have none; the column mixes the two"
        )
    epoch = datetime(1970, 1, 1, tzinfo=UTC if zoned == {True} else None)
    second = timedelta(seconds=1)
    return np.array([np.nan if value is None else (value - epoch) / second for value in moments], np.float64)


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
