"""The largest difference of two empirical distribution functions of integers in a small range: counted, not sorted.

Counting ratings, codes, ages, flags or pixels takes one pass over the window, where sorting takes several; and with a
count for every value the difference is known everywhere.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import attrs
import numpy as np
from numpy.typing import NDArray

from mlserve.numerics._ks_suprema import Supremum

__all__ = ["CountedReference", "count_reference"]

Values: TypeAlias = NDArray[Any]
Integers: TypeAlias = NDArray[np.int64]

# A table of this width costs less than the sort of a window as large; both stay in the first- and second-level cache.
_LARGEST_RANGE = 2**13


@attrs.frozen(eq=False)
class CountedReference:
    """How many reference values lie at or below each integer, feature by feature.

    Attributes:
        lowest: The smallest reference value, shape ``(n_features,)``.
        ranks: Number of values at or below ``lowest - 1 + column``, shape ``(n_features, width)``. The first column
            stands for everything below, the last for everything above.
        n: Number of values.
    """

    lowest: Integers
    ranks: Integers
    n: int

    def suits(self, values: Values) -> bool:
        """Whether counting a window is possible and cheaper than sorting it. Its values must be within 2**53."""
        return values.dtype.kind in "biu" and self.ranks.shape[1] <= 2 * values.shape[0]

    def find_supremum(
        self, values: Values, features: slice, *, greater: bool, less: bool, look_for_ties: bool
    ) -> Supremum:
        """The supremum of the difference.

        Args:
            values: The whole current sample, shape ``(m, n_features)``, not sorted.
            features: Those to look at.
            greater: Whether F_reference - F_current counts.
            less: Whether F_current - F_reference counts.
            look_for_ties: Whether ``shared`` shall say if any current value is held twice, or by the reference too.
        """
        lowest, ranks = self.lowest[features], self.ranks[features]
        m, (n_features, width) = values.shape[0], ranks.shape
        columns = values[:, features].astype(np.int64)
        columns -= lowest - 1
        # Two plain operations cost less than clip, which first looks up the limits of the type.
        np.maximum(columns, 0, out=columns)
        np.minimum(columns, width - 1, out=columns)
        if n_features > 1:
            columns += np.arange(n_features) * width
        counts = np.bincount(columns.ravel(), minlength=n_features * width).reshape(n_features, width)
        difference = ranks * m
        difference -= counts.cumsum(axis=1) * self.n
        # The first column where the difference attains the supremum is one where it jumps: a data value.
        rows = np.arange(n_features)
        up, down = difference.argmax(axis=1), difference.argmin(axis=1)
        plus, minus = difference[rows, up], -difference[rows, down]
        if greater and less:
            is_plus = plus >= minus
            height, column = np.where(is_plus, plus, minus), np.where(is_plus, up, down)
        else:
            is_plus = np.full(n_features, greater)
            height, column = (plus, up) if greater else (minus, down)
        location = lowest - 1 + column
        # The first and the last column stand for many values, of which the largest is the place.
        for feature in ((column == 0) | (height == 0)).nonzero()[0].tolist():
            own = values[:, features][:, feature].astype(np.int64)
            if height[feature] == 0:
                top = lowest[feature] - 1 + int(ranks[feature].searchsorted(self.n))
                location[feature] = max(int(top), int(own.max()))
            else:
                location[feature] = own[own < lowest[feature]].max()
        ties = np.zeros(n_features, dtype=np.bool_)
        if look_for_ties:
            held = np.diff(ranks, axis=1, prepend=0) > 0
            ties = np.any((counts > np.where(held, 0, 1))[:, 1:-1], axis=1)
            for feature in (~ties).nonzero()[0].tolist():
                own = np.sort(values[:, features][:, feature])
                ties[feature] = bool((own[1:] == own[:-1]).any())
        return Supremum(height, is_plus, location, ties)


def count_reference(values: Values, rows: Values) -> CountedReference | None:
    """Count a reference of integers within 2**53, or None where the range is too wide or the dtype is not integer.

    Args:
        values: The reference as it came, for its dtype.
        rows: The same sorted, shape ``(n_features, n)``, as float64.
    """
    if values.dtype.kind not in "biu" or rows.dtype.kind != "f":
        return None
    widest = float((rows[:, -1] - rows[:, 0]).max())
    if widest >= _LARGEST_RANGE:
        return None
    lowest = rows[:, 0].astype(np.int64)
    grid = np.arange(-1, int(widest) + 2)
    ranks = np.stack([row.searchsorted(grid + low, "right") for row, low in zip(rows, lowest, strict=True)])
    for array in (lowest, ranks):
        array.flags.writeable = False
    return CountedReference(lowest, ranks, rows.shape[1])
