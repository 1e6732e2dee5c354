"""What the Kolmogorov-Smirnov functions accept, and the one number type in which two samples are compared exactly."""

from __future__ import annotations

from typing import Any, TypeAlias

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlserve.errors import InvalidArgumentError

__all__ = ["EXACT_INTEGER_LIMIT", "Sample", "checked_sample", "comparable", "sorted_rows"]

# Arrays of any accepted dtype; which one is decided at run time.
Values: TypeAlias = NDArray[Any]

EXACT_INTEGER_LIMIT = 2**53
"""Integers up to here in magnitude are exact in float64 (IEEE 754: 53 bits of significand)."""

_FLOAT = np.dtype(np.float64)
_HINTS = {
    "O": 'Convert it to one number type first, for example .to_numpy(dtype=float, na_value=float("nan")).',
    "M": 'Convert times to numbers, for example .astype("datetime64[us]").astype("int64").',
    "m": 'Convert durations to numbers, for example .astype("timedelta64[us]").astype("int64").',
    "c": "Test the real and the imaginary part, or the modulus, as features of their own.",
    "U": "Categories have no order to test: compare their counts, with a chi-square test for example.",
    "S": "Categories have no order to test: compare their counts, with a chi-square test for example.",
    "V": "Pass the fields as columns of one array of numbers.",
}


@attrs.frozen(eq=False)
class Sample:
    """A sample that was checked.

    Attributes:
        values: Shape ``(n_samples, n_features)``, bool, integer or float of at most 64 bits.
        dtype: float64 where that holds every value exactly; else int64 or uint64.
        is_single: Whether the caller gave one dimension.
    """

    values: Values
    dtype: np.dtype[Any]
    is_single: bool


def checked_sample(parameter: str, sample: ArrayLike) -> Sample:
    """The sample as a two-dimensional array.

    Raises:
        InvalidArgumentError: Not numbers, no dimension or more than two, empty, masked, or floats of more than 64
            bits that float64 cannot hold.
    """
    if isinstance(sample, np.ma.MaskedArray):
        raise InvalidArgumentError(
            parameter, type(sample), "a plain array", hint="Use .filled(numpy.nan): NaN counts as a value of its own."
        )
    try:
        array: Values = np.asarray(sample)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(
            parameter, sample, "an array of numbers", hint="Every row needs the same number of columns."
        ) from error
    if array.dtype.kind not in "biuf":
        raise InvalidArgumentError(
            parameter,
            array.dtype,
            "an array of bool, integer or float dtype",
            hint=_HINTS.get(array.dtype.kind, "Convert it to numbers first."),
        )
    if array.ndim not in (1, 2):
        raise InvalidArgumentError(
            parameter,
            array.shape,
            "an array of shape (n_samples,) or (n_samples, n_features)",
            hint="Wrap a single value in a list." if array.ndim == 0 else "Reshape it to two dimensions.",
        )
    if array.size == 0:
        raise InvalidArgumentError(
            parameter,
            array.shape,
            "an array with at least one sample and one feature",
            hint="An empty sample has no distribution to compare; skip the test until there is data.",
        )
    values = array[:, None] if array.ndim == 1 else array
    if values.dtype.kind == "f" and values.dtype.itemsize > _FLOAT.itemsize:
        values = _narrowed(parameter, values)
    return Sample(values, _exact_dtype(values), array.ndim == 1)


def comparable(sample: Sample, dtype: np.dtype[Any], float_limit: float) -> bool:
    """Whether casting the sample to the reference's dtype keeps every comparison with the reference exact.

    Args:
        sample: The current sample.
        dtype: The reference's dtype.
        float_limit: The largest finite magnitude in the reference.
    """
    if dtype == _FLOAT:
        # Rounding is monotone, and what it moves stays at or beyond 2**53, on its own side of every reference value.
        return sample.dtype == _FLOAT or float_limit < EXACT_INTEGER_LIMIT
    kind = sample.values.dtype.kind
    if kind == "f":
        return False
    if dtype.kind == "u":
        return kind in "bu" or int(sample.values.min()) >= 0
    return sample.dtype.kind != "u" or int(sample.values.max()) <= np.iinfo(np.int64).max


def sorted_rows(values: Values, first: int, stop: int, dtype: np.dtype[Any]) -> Values:
    """Some features of a sample, each sorted in a contiguous row: shape ``(n_features, n_samples)``; NaN sorts last."""
    rows = np.array(values[:, first:stop].T, dtype=values.dtype.newbyteorder("="), order="C", copy=True)
    # Sorting before the cast moves half the bytes when the window is float32, and the cast keeps the order.
    rows.sort(axis=1)
    return rows.astype(dtype, copy=False)


def _exact_dtype(values: Values) -> np.dtype[Any]:
    if values.dtype.kind not in "iu" or values.dtype.itemsize < _FLOAT.itemsize:
        return _FLOAT
    if int(values.max()) <= EXACT_INTEGER_LIMIT and int(values.min()) >= -EXACT_INTEGER_LIMIT:
        return _FLOAT
    return np.dtype(np.int64 if values.dtype.kind == "i" else np.uint64)


def _narrowed(parameter: str, values: Values) -> Values:
    with np.errstate(all="ignore"):
        narrow: Values = values.astype(_FLOAT)
    if not bool(np.all((narrow == values) | np.isnan(values))):
        raise InvalidArgumentError(
            parameter,
            values.dtype,
            "an array that float64 holds exactly",
            hint="Use .astype(numpy.float64) if rounding to 53 bits is acceptable.",
        )
    return narrow
