"""How often each value of a column occurs, in as few passes as what holds the values allows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

MOST_SHARED = 64
"""Up to so many different keys, one pass for each costs less than looking every value up in a dictionary."""

KEY_SIZES = (1, 2, 4, 8)
"""Bytes of texts that can be looked at as integers."""


def tally_series(series: Any) -> Counter[Any] | None:
    """Counts of a frame's column of texts or categories, which the frame counts faster than it hands them out.

    Args:
        series: A column of a pandas or polars frame, or anything else.

    Returns:
        The counts, missing values under whatever the frame calls them; None where the values are needed.
    """
    dtype = str(getattr(series, "dtype", ""))
    # pandas says "str" or "string[pyarrow]", polars "Enum(categories=[...])".
    name = dtype.partition("[")[0].partition("(")[0]
    if name == "category":
        counts = np.bincount(series.cat.codes.to_numpy().astype(np.intp) + 1, minlength=len(series.cat.categories) + 1)
        return _counter(zip([None, *series.cat.categories.tolist()], counts.tolist(), strict=True))
    if name in ("str", "string"):
        return _counter(series.value_counts(dropna=False, sort=False).items())
    if name in ("String", "Categorical", "Enum"):
        # The counts become a column "count", which must not be the name of the values.
        return _counter(series.alias("value").value_counts().rows())
    return None


def _counter(pairs: Iterable[tuple[Any, int]]) -> Counter[Any]:
    return Counter({value: int(count) for value, count in pairs if count})


def tally_numbers(values: npt.NDArray[Any]) -> Counter[Any]:
    """Counts of an array of numbers; NaN is one value."""
    if values.dtype.kind in "iu" and values.size:
        # In 64 bits the difference cannot overflow where it is small enough to be counted.
        wide = values.astype(np.uint64 if values.dtype.kind == "u" else np.int64, copy=False)
        lowest = wide.min()
        if int(wide.max()) - int(lowest) < values.size:
            counts = np.bincount((wide - lowest).astype(np.intp, copy=False))
            return _counter(enumerate(counts.tolist(), int(lowest)))
    # Of 0.0 and -0.0, which are equal, the sum is 0.0: their name shall not depend on the order of the rows.
    distinct, counts = np.unique(values + 0.0 if values.dtype.kind == "f" else values, return_counts=True)
    return _counter(zip(distinct.tolist(), counts.tolist(), strict=True))


def tally_objects(values: npt.NDArray[Any]) -> Counter[Any] | None:
    """Counts of an array of objects that holds a few objects again and again, as files and lookups give them.

    Returns:
        The counts; None where the objects are too many.

    Raises:
        TypeError: An object cannot be hashed.
    """
    # The bytes of an array of objects are their addresses, and what has one address is one object.
    return _tally_keys(np.frombuffer(values.tobytes(), np.intp), values)


def tally_texts(values: npt.NDArray[Any]) -> Counter[Any]:
    """Counts of an array of texts or bytes of fixed width."""
    counts = None
    if values.dtype.itemsize in KEY_SIZES:
        counts = _tally_keys(np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}"), values)
    return Counter(values.tolist()) if counts is None else counts


def _tally_keys(keys: npt.NDArray[Any], values: npt.NDArray[Any]) -> Counter[Any] | None:
    """Counts of values that are the same where their keys are; None where the keys are more than ``MOST_SHARED``."""
    if np.unique(keys[: 4 * MOST_SHARED]).size > MOST_SHARED:
        return None
    ordered = np.sort(keys)
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))[: keys.size]
    if starts.size > MOST_SHARED:
        return None
    first = [int((keys == key).argmax()) for key in ordered[starts]]
    counts: Counter[Any] = Counter()
    # In the order of the rows: of two objects that are equal the first names both, and their counts add.
    for position, count in sorted(zip(first, np.diff(starts, append=keys.size).tolist(), strict=True)):
        counts[values[position : position + 1].tolist()[0]] += count
    return counts
