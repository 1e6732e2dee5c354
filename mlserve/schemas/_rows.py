"""The one rule from an input to a row of features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

NUMERIC_KINDS = "biuf"
"""Kinds of numpy's dtypes that count as numbers."""

_NUMBERS = frozenset({bool, int, float, np.float64, np.float32, np.int64, np.int32, np.bool_})


def numeric_array(value: Any) -> npt.NDArray[Any] | None:
    """The value as an array of numbers, or None where it is not one: text, objects, complex numbers, ragged lists."""
    if isinstance(value, (str, bytes, Mapping)):
        return None
    try:
        # Of a masked array what lies behind the mask is no value.
        masked = isinstance(value, np.ma.MaskedArray) and value.dtype.kind in NUMERIC_KINDS and np.ma.is_masked(value)
        array = _unmasked(value) if masked else np.asarray(value)
    except Exception:  # whatever an array-like's __array__ raises means that it is no array
        return None
    return array if array.dtype.kind in NUMERIC_KINDS else None


def _unmasked(array: np.ma.MaskedArray[Any, Any]) -> npt.NDArray[Any]:
    """An array with NaN in place of what is masked."""
    floats: npt.NDArray[Any] = np.ma.filled(array if array.dtype.kind == "f" else array.astype(np.float64), np.nan)
    return floats


def feature_row(input: Any) -> npt.NDArray[np.float64] | None:
    """The one rule from an input to a row of features, for drift and for samples.

    Args:
        input: A number is a row of one feature; an array or sequence of numbers is flattened in C order; a mapping
            whose values are all numbers gives these in its order.

    Returns:
        Float64, shape ``(n_features,)``, possibly the input itself; None where it is nothing of the kind.
    """
    if isinstance(input, Mapping):
        input = list(input.values())
    array = numeric_array(input)
    if array is None or not array.size:
        return None
    return array.astype(np.float64, copy=False).reshape(-1)


def feature_rows(inputs: Any) -> tuple[npt.NDArray[Any], tuple[str, ...], int]:
    """Many inputs as one table.

    Args:
        inputs: A sequence of inputs in the form in which callers sent them, or a table of them: rows by the rule of
            ``feature_row``, or mappings from feature names to values of any kind.

    Returns:
        The rows ``(n_rows, n_features)`` of the commonest width, or of the commonest names: float64, object where a
        mapping holds other things than numbers. The names; empty where the inputs bring none. How many inputs were
        left out because they are no row or another one.
    """
    records = [] if isinstance(inputs, np.ndarray) else [input for input in inputs if isinstance(input, Mapping)]
    if 2 * len(records) > len(inputs):
        return _record_rows(records, len(inputs))
    table = numeric_array(inputs)
    if table is not None and table.ndim == 2 and table.size:
        return table.astype(np.float64, copy=False), (), 0
    rows = [row for row in map(feature_row, inputs) if row is not None]
    if not rows:
        return np.empty((0, 0)), (), len(inputs)
    width = Counter(row.size for row in rows).most_common(1)[0][0]
    kept = [row for row in rows if row.size == width]
    return np.array(kept), (), len(inputs) - len(kept)


def _record_rows(records: Sequence[Mapping[Any, Any]], count: int) -> tuple[npt.NDArray[Any], tuple[str, ...], int]:
    commonest = Counter(frozenset(record) for record in records).most_common(1)[0][0]
    kept = [record for record in records if frozenset(record) == commonest]
    names = list(kept[0])
    rows = np.empty((len(kept), len(names)), object)
    for index, record in enumerate(kept):
        rows[index] = [record[name] for name in names]
    is_numeric = all(type(value) in _NUMBERS for value in rows.flat)
    labels = tuple(str(name) for name in names)
    if len(set(labels)) < len(labels):  # 1 and "1"
        labels = ()
    return (rows.astype(np.float64) if is_numeric else rows), labels, count - len(kept)
