"""What the elements of an array may be, beside numbers: ranges and codes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf, isfinite
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from mlserve.errors import InvalidArgumentError

NAN = float("nan")

SHORT_ROW = 48
"""Up to so many elements Python adds them up, or compares them, faster than numpy looks at them."""

_LARGEST = float(np.finfo(np.float64).max)

Bounds = tuple[float | None, ...]
"""For each element a bound, or None where there is none."""

Codes = tuple[tuple[int, ...] | None, ...]
"""For each feature the codes it may have, or None where it is no category."""


@attrs.frozen(eq=False)
class Limits:
    """Ranges and codes in the form in which they are compared.

    Attributes:
        low: Smallest value of each element, NaN where there is none.
        high: Largest value, alike.
        codes: The codes of the elements that have some, by index.
        allow_missing: Whether NaN is accepted.
        allow_infinite: Whether infinities are accepted.
    """

    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    codes: Mapping[int, frozenset[int]]
    allow_missing: bool
    allow_infinite: bool

    def uncoded(self, flat: npt.NDArray[Any]) -> list[int]:
        """Indices of elements that are none of their codes. A missing value is ``allow_missing``'s to tell."""
        values = ((index, flat[index].item()) for index in self.codes)
        return [index for index, value in values if value == value and value not in self.codes[index]]

    def outside(self, flat: npt.NDArray[Any]) -> list[int]:
        """Indices of finite elements below the smallest or above the largest value."""
        with np.errstate(over="ignore"):  # long doubles beyond the range of a double
            values = flat.astype(np.float64, copy=False)
        beyond = ((values < self.low) | (values > self.high)) & np.isfinite(values)
        found: list[int] = np.flatnonzero(beyond).tolist()
        return found

    def quick(self, is_floating: bool) -> Callable[[npt.NDArray[Any]], float]:
        """A function that answers 0 where all elements are certainly within, else NaN: then one must look closer."""
        if self.low.size > SHORT_ROW:
            return self.within_by_numpy
        largest = _LARGEST if is_floating and not self.allow_infinite else inf
        lows = np.where(np.isnan(self.low), -largest, self.low).tolist()
        highs = np.where(np.isnan(self.high), largest, self.high).tolist()
        refuses_missing, codes = not self.allow_missing, tuple(self.codes.items())

        def within(input: npt.NDArray[Any]) -> float:
            values = input.ravel().tolist()
            for value, low, high in zip(values, lows, highs, strict=True):
                if not low <= value <= high and (refuses_missing or value == value):
                    return NAN
            for index, allowed in codes:
                if values[index] not in allowed:
                    return NAN
            return 0.0

        return within

    def within_by_numpy(self, input: npt.NDArray[Any]) -> float:
        """0 where all elements are certainly within, else NaN; without codes also of a table, an input a row."""
        if not (self.allow_missing and self.allow_infinite) and not np.isfinite(input).all():
            return NAN
        return NAN if self.outside(input.reshape(-1, self.low.size)) or self.uncoded(input.ravel()) else 0.0


def to_bounds(value: Sequence[float | None] | None) -> Bounds | None:
    """An attrs converter: bounds as a tuple."""
    return None if value is None else tuple(None if bound is None else float(bound) for bound in value)


def check_bounds(parameter: str, bounds: Bounds | None, size: int) -> None:
    """Check that there is a finite bound, or None, for each of so many elements.

    Raises:
        InvalidArgumentError: Too few, too many, or not finite.
    """
    if bounds is not None and len(bounds) != size:
        raise InvalidArgumentError(parameter, bounds, f"one bound for each of {size} elements")
    if not all(bound is None or isfinite(bound) for bound in bounds or ()):
        raise InvalidArgumentError(parameter, bounds, "finite numbers", hint="None stands for no bound.")


def to_codes(value: Any) -> Any:
    """An attrs converter that leaves everything to ``checked_codes``, which must know shape and names."""
    return value


def checked_codes(value: Any, shape: tuple[int, ...], names: tuple[str, ...] | None) -> Codes | None:
    """The codes of each feature.

    Args:
        value: Codes by the name or the index of their feature; or for each feature codes or None; or None.
        shape: Of one input.
        names: Of the features, or None.

    Raises:
        InvalidArgumentError: Inputs of another dimension than one, features that do not exist, codes that are no whole
            numbers.
    """
    if value is None:
        return None
    if len(shape) != 1:
        raise InvalidArgumentError("categories", value, "None for inputs that are not one-dimensional")
    if isinstance(value, Mapping):
        codes: Any = [None] * shape[0]
        for feature, allowed in value.items():
            codes[feature_index(feature, shape[0], names)] = allowed
    else:
        codes = value
    if not isinstance(codes, (list, tuple)) or len(codes) != shape[0]:
        raise InvalidArgumentError("categories", value, f"codes or None for each of {shape[0]} features")
    return tuple(None if allowed is None else whole_numbers(allowed) for allowed in codes)


def feature_index(feature: Any, size: int, names: tuple[str, ...] | None) -> int:
    """Where a feature stands that is named, or told by its index."""
    if names is not None and feature in names:
        return names.index(feature)
    if type(feature) is int and 0 <= feature < size:
        return feature
    known = "an index" if names is None else f"one of {', '.join(names)}, or an index"
    raise InvalidArgumentError("categories", feature, f"{known} below {size}")


def whole_numbers(values: Iterable[Any]) -> tuple[int, ...]:
    """Codes, sorted.

    Raises:
        InvalidArgumentError: None at all, or something else than whole numbers.
    """
    codes: list[int] = []
    try:
        listed = list(values)
        codes = sorted({int(code) for code in listed})
        is_whole = bool(codes) and all(int(code) == code for code in listed)
    except (TypeError, ValueError, OverflowError):
        is_whole = False
    if not is_whole:
        raise InvalidArgumentError("categories", values, "whole numbers, at least one", hint="Codes are integers.")
    return tuple(codes)


def range_text(low: float, high: float) -> str:
    """The range between two bounds in words; NaN is no bound."""
    if high != high:
        return f"at least {low:.12g}"
    return f"at most {high:.12g}" if low != low else f"between {low:.12g} and {high:.12g}"


def learned_codes(
    flat: npt.NDArray[Any], shape: tuple[int, ...], names: tuple[str, ...] | None, categories: Any
) -> Codes | None:
    """The codes of the features that are categories: those declared, or those that the data has.

    Args:
        flat: The data, shape ``(n_samples, n_features)``.
        shape: Of one input.
        names: Of the features, or None.
        categories: See ``ArraySchema.infer``.

    Raises:
        InvalidArgumentError: The data has others than were declared, or see ``checked_codes``.
    """
    if categories is None or isinstance(categories, Mapping):
        codes = checked_codes(categories, shape, names)
    else:
        found: list[Any] = [None] * flat.shape[1]
        for feature in categories:
            index = feature_index(feature, flat.shape[1], names)
            column = flat[:, index]
            found[index] = whole_numbers(np.unique(column[~np.isnan(column)]).tolist())
        codes = checked_codes(found, shape, names)
    for index, allowed in enumerate(codes or ()):
        values = flat[:, index]
        if allowed is not None and not np.isin(values[~np.isnan(values)], allowed).all():
            raise InvalidArgumentError("categories", allowed, f"all codes of feature {index} that the data has")
    return codes
