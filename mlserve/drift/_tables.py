"""Whatever holds a table, as columns that are read one at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from mlserve.drift._columns import Column, boolean_column, column, unmasked
from mlserve.errors import InvalidArgumentError
from mlserve.records._monitoring import checked_feature_names


@attrs.frozen(eq=False)
class Table:
    """One sample. Its columns are read when they are asked for, so that what is made of them need not be kept.

    Attributes:
        parameter: What it is, for errors.
        names: Of the features, unique.
        n_rows: Number of rows.
        matrix: All features as float64 or integers, shape ``(n_rows, n_features)``, when the sample came as one
            array of numbers; else None.
        sources: What holds each feature, otherwise.
    """

    parameter: str
    names: tuple[str, ...]
    n_rows: int
    matrix: npt.NDArray[Any] | None
    sources: tuple[Any, ...] = ()

    @property
    def n_features(self) -> int:
        """Number of features."""
        return len(self.names)

    def column(self, index: int) -> Column:
        """A feature by its position.

        Raises:
            InvalidArgumentError: It is no column, or holds what cannot be compared.
        """
        if self.matrix is None:
            return column(self.parameter, self.names[index], self.sources[index])
        values = self.matrix[:, index]
        if values.dtype.kind == "f":
            return Column.ordered(values)
        # Integers are looked at more than once, which is faster side by side.
        values = np.ascontiguousarray(values)
        return boolean_column(values) if values.dtype.kind == "b" else Column.ordered(values)

    def check_columns(self) -> None:
        """Read every column once.

        Raises:
            InvalidArgumentError: As ``column``.
        """
        for index in range(self.n_features):
            self.column(index)


def table(parameter: str, value: Any, names: Sequence[str] | None) -> Table:
    """A sample as a table.

    Args:
        parameter: What it is, for errors.
        value: An array ``(n_samples, n_features)`` or ``(n_samples,)``, a structured array, a mapping from names to
            columns, or a pandas or polars frame; or a table, which is returned.
        names: Names of the features, where the value brings none; with names of its own, the ones to take, in order.

    Raises:
        InvalidArgumentError: It is none of these, or its names do not fit.
    """
    if isinstance(value, Table):
        return value
    found = _named_sources(parameter, value)
    if found is None:
        return _array_table(parameter, value, names)
    own = tuple(found)
    chosen = own if names is None else tuple(names)
    absent = [name for name in chosen if name not in found]
    if absent:
        raise InvalidArgumentError(
            parameter, absent, f"columns named {', '.join(chosen[:8])}", hint=f"It has {', '.join(own[:8])}."
        )
    checked_feature_names(chosen, len(chosen))
    sizes = {_length(parameter, name, found[name]) for name in chosen}
    if len(sizes) > 1:
        raise InvalidArgumentError(parameter, sorted(sizes), "columns of one length")
    return Table(parameter, chosen, sizes.pop() if sizes else 0, None, tuple(found[name] for name in chosen))


def brings_names(value: Any) -> bool:
    """Whether a sample names its features itself."""
    is_structured = isinstance(value, np.ndarray) and value.dtype.names is not None
    return hasattr(value, "keys") or hasattr(value, "columns") or is_structured


def table_like(names: Sequence[str], parameter: str, value: Any) -> Table:
    """A sample as a table of the features named; an array brings no names, and is taken as it is."""
    return table(parameter, value, names if brings_names(value) else None)


def check_width(n_features: int, whose: str, found: Table) -> None:
    """See that a table has as many features as another.

    Raises:
        InvalidArgumentError: It has not, though it has rows.
    """
    if found.n_features != n_features and found.n_rows:
        raise InvalidArgumentError(
            found.parameter, f"{found.n_features} features", f"{n_features} features, as {whose} has",
            hint="Pass the same columns in the same order.",
        )  # fmt: skip


def check_declared(categorical: Sequence[str], names: Sequence[str]) -> None:
    """See that the features that are declared to be categories exist.

    Raises:
        InvalidArgumentError: One does not.
    """
    unknown = sorted(set(categorical) - set(names))
    if unknown:
        raise InvalidArgumentError("categorical", unknown, f"names of features: {', '.join(names[:8])}")


def _named_sources(parameter: str, value: Any) -> dict[str, Any] | None:
    if isinstance(value, Mapping):
        columns = list(value)
    elif isinstance(value, np.ndarray) and value.dtype.names is not None:
        columns = list(value.dtype.names)
    elif getattr(value, "columns", None) is not None:
        columns = list(value.columns)
    else:
        return None
    names = [str(name) for name in columns]
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise InvalidArgumentError(
            parameter, repeated, "a table whose columns have distinct names", hint="Rename the repeated columns."
        )
    try:
        return {name: value[column] for name, column in zip(names, columns, strict=True)}
    except Exception as error:  # whatever a frame of another library raises
        raise InvalidArgumentError(parameter, type(value).__name__, f"a frame of columns ({error!r})") from error


def _length(parameter: str, name: str, source: Any) -> int:
    try:
        return len(source)
    except TypeError as error:
        raise InvalidArgumentError(parameter, source, f"one value a row in column {name!r}") from error


def _array_table(parameter: str, value: Any, names: Sequence[str] | None) -> Table:
    try:
        array = unmasked(value) if isinstance(value, np.ma.MaskedArray) else np.asarray(value)
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
        return Table(parameter, checked, n_rows, array)
    return Table(parameter, checked, n_rows, None, tuple(array[:, index] for index in range(n_features)))
