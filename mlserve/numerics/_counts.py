"""What the functions of counts accept: two samples counted in the same bins."""

from __future__ import annotations

from typing import Any, TypeAlias

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlserve.errors import InvalidArgumentError

__all__ = ["Counts", "checked_counts"]

Floats: TypeAlias = NDArray[np.float64]

# IEEE 754: float64 holds every integer up to here, so that counts up to here add without rounding.
_LARGEST_TOTAL = 2**53


@attrs.frozen(eq=False)
class Counts:
    """Two samples counted in the same bins, checked.

    Attributes:
        reference: Shape ``(n_features, n_bins)``, finite, not negative, each row with a positive sum.
        current: Likewise.
        is_single: Whether the caller gave one dimension.
    """

    reference: Floats
    current: Floats
    is_single: bool

    def answer(self, values: Floats) -> float | Floats:
        """One value a feature, as the caller's shape asks for it."""
        return float(values[0]) if self.is_single else values


def checked_counts(reference: ArrayLike, current: ArrayLike, *, whole: bool) -> Counts:
    """Both samples as tables of one shape.

    Args:
        reference: Shape ``(n_bins,)`` or ``(n_features, n_bins)``.
        current: The same shape.
        whole: Whether only whole numbers will do: where an answer depends on how many values were counted, shares
            would give a wrong one.

    Raises:
        InvalidArgumentError: Not numbers, NaN, infinite, negative, not whole where it must be, more than 2**53 values,
            no dimension or more than two, no bins, a feature that counted nothing, or two shapes.
    """
    before, after = _checked("reference_counts", reference, whole), _checked("current_counts", current, whole)
    if before.shape != after.shape:
        raise InvalidArgumentError(
            "current_counts",
            after.shape,
            f"an array of shape {before.shape}, like reference_counts",
            hint="Count both samples in the same bins, and give what only one of them holds a bin of its own.",
        )
    return Counts(np.atleast_2d(before), np.atleast_2d(after), before.ndim == 1)


def _checked(parameter: str, counts: ArrayLike, whole: bool) -> Floats:
    if isinstance(counts, np.ma.MaskedArray):
        raise InvalidArgumentError(parameter, type(counts), "a plain array", hint="A bin without values counts 0.")
    try:
        given: NDArray[Any] = np.asarray(counts)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(
            parameter, counts, "an array of counts", hint="Every feature needs the same number of bins; pad with 0."
        ) from error
    if given.dtype.kind not in "biuf":
        raise InvalidArgumentError(
            parameter, given.dtype, "an array of bool, integer or float dtype", hint="Count the values first."
        )
    if given.ndim not in (1, 2) or given.shape[-1] == 0:
        raise InvalidArgumentError(
            parameter, given.shape, "an array of shape (n_bins,) or (n_features, n_bins) with at least one bin"
        )
    with np.errstate(all="ignore"):
        array = given.astype(np.float64)
        totals = array.sum(axis=-1)
    # NaN and infinity fail the comparisons.
    if not ((array >= 0) & (array <= _LARGEST_TOTAL)).all() or not (totals <= _LARGEST_TOTAL).all():
        raise InvalidArgumentError(
            parameter, counts, "finite and not negative, with sums of at most 2**53",
            hint="Give missing values a bin of their own.",
        )  # fmt: skip
    if whole and not (array == np.floor(array)).all():
        raise InvalidArgumentError(
            parameter, counts, "whole numbers", hint="Pass counts, not shares: how many values there were matters."
        )
    if not (totals > 0).all():
        empty = "" if array.ndim == 1 else f" (feature {int(np.argmin(totals))} has none)"
        raise InvalidArgumentError(
            parameter, counts, f"counts of at least one value in every feature{empty}",
            hint="An empty sample has no distribution to compare; skip the feature until there is data.",
        )  # fmt: skip
    return array
