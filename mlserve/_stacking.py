"""Rows of numbers that come one by one, as one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_ndarray = np.ndarray


def stacked(rows: Sequence[Any], dtype: np.dtype[Any], width: int) -> npt.NDArray[Any] | None:
    """A new table ``(n, width)`` of arrays ``(width,)`` of one native dtype, at least one; None where one is not."""
    count = len(rows)
    # By functions that loop themselves: what is asked of each row is asked of every request.
    if set(map(type, rows)) != {_ndarray} or not dtype.isnative:
        return None
    try:
        flat = np.concatenate(rows, dtype=dtype, casting="no")
        if flat.ndim != 1 or list(map(len, rows)).count(width) != count:
            return None
    except (TypeError, ValueError):
        return None  # arrays of different dimensions, of none, or of another dtype
    return flat.reshape(count, width)
