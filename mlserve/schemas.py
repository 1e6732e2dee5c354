"""What inputs must look like, and the one rule from an input to a row of features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import isfinite, prod
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from mlserve.errors import InvalidArgumentError, InvalidInputError
from mlserve.records._monitoring import checked_feature_names

__all__ = ["ArraySchema", "ValidationResult", "feature_row", "feature_rows"]

FORMAT = 1
"""Version of the JSON form."""

_NUMERIC_KINDS = "biuf"
_NUMBERS = frozenset({bool, int, float, np.float64, np.float32, np.int64, np.int32, np.bool_})
_FAULTS_NAMED = 3

SHORT_ROW = 48
"""Up to so many elements Python adds them up faster than numpy looks at them."""


@attrs.frozen(eq=False)
class ValidationResult:
    """What validating one input came to.

    Attributes:
        is_valid: Whether the model may see it.
        value: The input as an array of the schema's dtype and shape; None when it is not valid.
        error: What was wrong, where, and what was expected; None when it is valid.
    """

    is_valid: bool
    value: Any = None
    error: InvalidInputError | None = None

    @property
    def message(self) -> str:
        """The error's message, or the empty string."""
        return "" if self.error is None else self.error.message


def _shape(value: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(size) for size in value)


def _dtype(value: Any) -> str:
    try:
        return str(np.dtype(value).name)
    except TypeError as error:
        raise InvalidArgumentError("dtype", value, "a dtype of numpy", hint="For example 'float64'.") from error


def _bounds(value: Sequence[float] | None) -> tuple[float, ...] | None:
    return None if value is None else tuple(float(bound) for bound in value)


@attrs.frozen
class ArraySchema:
    """Inputs that are arrays of numbers: one dtype, one shape, named features.

    An input is accepted when it is an array, or a (nested) sequence of numbers, of this shape whose dtype casts to
    the schema's by numpy's ``same_kind`` rule: integers to floats and wider to narrower, never floats to integers,
    never text. NaN is accepted only where the data the schema was learned from had missing values, infinities only
    where it had those.

    Thread safety: immutable.

    Attributes:
        shape: Of one input, for example ``(n_features,)``.
        dtype: Name of the numpy dtype the model is given.
        names: One name a feature, or None; only for one-dimensional inputs.
        allow_missing: Whether NaN is accepted.
        allow_infinite: Whether infinities are accepted.
        minimum: Smallest finite value seen of each element, in C order; None when not learned.
        maximum: Largest finite value seen of each element, in C order; None when not learned.

    Example:
        >>> schema = ArraySchema.infer([[5.1, 3.5], [4.9, 3.0]], names=["sepal_length", "sepal_width"])
        >>> schema.validate([5.0, 3.3]).is_valid
        True
        >>> print(schema.validate([5.0, float("nan")]).message)
        feature 1 (sepal_width) is nan; expected a finite float64. Fill missing values before the call, or infer the \
schema from data that has them.
    """

    shape: tuple[int, ...] = attrs.field(converter=_shape)
    dtype: str = attrs.field(default="float64", converter=_dtype)
    names: tuple[str, ...] | None = attrs.field(default=None)
    allow_missing: bool = False
    allow_infinite: bool = False
    minimum: tuple[float, ...] | None = attrs.field(default=None, converter=_bounds)
    maximum: tuple[float, ...] | None = attrs.field(default=None, converter=_bounds)

    def __attrs_post_init__(self) -> None:
        if np.dtype(self.dtype).kind not in _NUMERIC_KINDS:
            raise InvalidArgumentError("dtype", self.dtype, "a boolean, integer or floating dtype")
        if any(size < 0 for size in self.shape):
            raise InvalidArgumentError("shape", self.shape, "sizes of at least 0")
        for name, bounds in (("minimum", self.minimum), ("maximum", self.maximum)):
            if bounds is not None and len(bounds) != prod(self.shape):
                raise InvalidArgumentError(name, bounds, f"one bound for each of {prod(self.shape)} elements")
        if self.names is not None:
            if len(self.shape) != 1:
                raise InvalidArgumentError("names", self.names, "None for inputs that are not one-dimensional")
            object.__setattr__(self, "names", checked_feature_names(self.names, self.shape[0]))

    @classmethod
    def infer(cls, X: npt.ArrayLike, *, names: Sequence[str] | None = None) -> ArraySchema:
        """Learn a schema from data.

        Args:
            X: Samples ``(n_samples, ...)`` with at least two dimensions, or one input of one dimension. A pandas or
                polars frame brings its column names.
            names: One name a feature.

        Returns:
            Its dtype and shape, whether values may be missing or infinite, and the range seen.

        Raises:
            InvalidArgumentError: Not numeric, no dimension, or names that do not fit.
        """
        columns = getattr(X, "columns", None)
        if names is None and columns is not None:
            names = [str(column) for column in columns]
        array = _numeric_array(X)
        if array is None or array.ndim == 0:
            raise InvalidArgumentError(
                "X", X, "an array of numbers with shape (n_samples, n_features) or (n_features,)",
                hint="Encode text and categories first.",
            )  # fmt: skip
        samples = array if array.ndim > 1 else array[np.newaxis]
        flat = samples.reshape(len(samples), prod(samples.shape[1:]))
        with np.errstate(over="ignore"):  # long doubles beyond the range of a double
            filled = flat.astype(np.float64)
        finite = np.isfinite(filled)
        low = np.where(finite, filled, np.inf).min(axis=0, initial=np.inf)
        high = np.where(finite, filled, -np.inf).max(axis=0, initial=-np.inf)
        known = low <= high
        return cls(
            shape=samples.shape[1:],
            dtype=array.dtype.name,
            names=None if names is None else checked_feature_names(names, flat.shape[1]),
            allow_missing=bool(np.isnan(filled).any()),
            allow_infinite=bool(np.isinf(flat).any()),
            minimum=tuple(np.where(known, low, 0.0).tolist()),
            maximum=tuple(np.where(known, high, 0.0).tolist()),
        )

    def validate(self, input: Any) -> ValidationResult:
        """Check one input.

        Args:
            input: Anything.

        Returns:
            The array for the model, or what was wrong. Never raises.
        """
        try:
            return ValidationResult(True, self.checker()(input))
        except InvalidInputError as error:
            return ValidationResult(False, error=error.forget_traceback())

    def example(self) -> npt.NDArray[Any]:
        """An input that fits: the middle of the range seen; 0.5 of each element (rounded to the dtype) if unknown."""
        dtype = np.dtype(self.dtype)
        if self.minimum is None or self.maximum is None:
            return np.full(self.shape, 0.5).astype(dtype)
        # Halving first, as the sum of two large bounds could overflow; clipping, as half of the smallest number is 0.
        middle = np.clip(np.array(self.minimum) / 2 + np.array(self.maximum) / 2, self.minimum, self.maximum)
        if dtype.kind in "iu":
            # The largest 64-bit integers are no float64; the next one up would not fit.
            limits = np.iinfo(dtype)
            middle = np.clip(middle, limits.min, np.nextafter(float(limits.max) + 1.0, 0.0))
        return middle.reshape(self.shape).astype(dtype)

    def to_json(self) -> str:
        """The schema as JSON text, for storing beside a version."""
        import json

        return json.dumps({"format": FORMAT, "kind": "array", **attrs.asdict(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ArraySchema:
        """The schema that ``to_json`` wrote.

        Raises:
            InvalidArgumentError: Not JSON, not an array schema, or written by a newer mlserve.
        """
        import json

        try:
            fields = json.loads(text)
            if fields.pop("format") != FORMAT or fields.pop("kind") != "array":
                raise ValueError("another format or kind")
            fields["names"] = None if fields["names"] is None else tuple(fields["names"])
            return cls(**fields)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InvalidArgumentError(
                "text", text, f"an array schema in JSON, format {FORMAT} ({error})", hint="Use ArraySchema.to_json()."
            ) from error

    def checker(self) -> Callable[[Any], npt.NDArray[Any]]:
        """A function from an input to the array for the model, which raises ``InvalidInputError``.

        Built once for a version, it takes the common case, an array of the right dtype and shape, by the shortest way.
        """
        dtype, shape, ndarray, slow = np.dtype(self.dtype), self.shape, np.ndarray, self._check
        total: Callable[[Any], Any]
        if dtype.kind != "f" or (self.allow_missing and self.allow_infinite):
            total = _nothing
        elif len(shape) == 1 and shape[0] <= SHORT_ROW:
            total = _list_sum
        else:
            total = _all_finite

        def check(input: Any) -> npt.NDArray[Any]:
            # A total is finite only if every term is; one that merely overflows is looked at more closely.
            if type(input) is ndarray and input.dtype is dtype and input.shape == shape and isfinite(total(input)):
                return input
            return slow(input)

        return check

    def _check(self, input: Any) -> npt.NDArray[Any]:
        if input is None:
            raise self._invalid("the input is None", f"an array of shape {self.shape}", "Pass one row.")
        array = _numeric_array(input)
        if array is None:
            raise self._not_numeric(input)
        if array.shape != self.shape:
            raise self._misshapen(array)
        dtype = np.dtype(self.dtype)
        if not np.can_cast(array.dtype, dtype, "same_kind"):
            hint = "Cast the input, or infer the schema from data of this dtype."
            raise self._invalid(f"the input has dtype {array.dtype.name}", dtype.name, hint)
        with np.errstate(over="ignore", invalid="ignore"):
            cast = array.astype(dtype, copy=False)
        if dtype.kind in "iu" and not np.array_equal(cast, array):
            raise self._invalid("the input holds integers out of range", dtype.name, "Infer the schema from such data.")
        if dtype.kind == "f":
            self._check_finite(array, cast)
        return cast

    def _check_finite(self, given: npt.NDArray[Any], cast: npt.NDArray[Any]) -> None:
        missing, infinite = np.isnan(cast), np.isinf(cast)
        refused = (missing & (not self.allow_missing)) | (infinite & (not self.allow_infinite))
        if not refused.any():
            return
        flat = np.flatnonzero(refused)
        named = ", ".join(f"{self._place(index)} is {given.flat[index]}" for index in flat[:_FAULTS_NAMED])
        more = f" and {flat.size - _FAULTS_NAMED} more" if flat.size > _FAULTS_NAMED else ""
        hint = (
            "Fill missing values before the call, or infer the schema from data that has them."
            if missing.flat[flat[0]]
            else f"Clip it to the range of {self.dtype}, or infer the schema from data with infinities."
        )
        raise self._invalid(f"{named}{more}", f"a finite {self.dtype}", hint, self._place(int(flat[0])))

    def _misshapen(self, array: npt.NDArray[Any]) -> InvalidInputError:
        hint = ""
        if array.shape[1:] == self.shape and array.ndim == len(self.shape) + 1:
            hint = "One row is expected, not a batch: pass X[0], or a batch to predict_many."
        elif self.names is not None:
            hint = f"The features are {', '.join(self.names[:8])}{', …' if len(self.names) > 8 else ''}."
        return self._invalid(f"the input has shape {array.shape}", f"shape {self.shape}", hint)

    def _not_numeric(self, input: Any) -> InvalidInputError:
        kind = type(input).__name__
        if isinstance(input, (list, tuple)):
            for index, item in enumerate(input):
                if not isinstance(item, (bool, int, float, np.number, np.bool_, list, tuple, np.ndarray)):
                    place = self._place(index) if len(self.shape) == 1 else f"item {index}"
                    return self._invalid(
                        f"{place} is {_text(item)} of type {type(item).__name__}",
                        "a number",
                        "Encode it first.",
                        place,
                    )
        if isinstance(input, np.ndarray):
            kind = f"an array of dtype {input.dtype}"
        return self._invalid(f"the input is {kind}", f"numbers of shape {self.shape}", "Pass an array or a list.")

    def _place(self, index: int) -> str:
        if len(self.shape) == 1:
            return f"feature {index}" + (f" ({self.names[index]})" if self.names and index < len(self.names) else "")
        return f"element {tuple(int(i) for i in np.unravel_index(index, self.shape))}"

    def _invalid(self, wrong: str, expected: str, hint: str, field: str | None = None) -> InvalidInputError:
        return InvalidInputError(f"{wrong}; expected {expected}.", field=field, expected=expected, hint=hint)


def _text(item: Any) -> str:
    try:
        return f"{item!r:.60}"
    except Exception:  # an item whose own __repr__ fails must not hide what is wrong with it
        return "an object"


def _nothing(_input: Any) -> float:
    return 0.0


def _list_sum(input: npt.NDArray[Any]) -> float:
    return float(sum(input.tolist()))


def _all_finite(input: npt.NDArray[Any]) -> float:
    return 0.0 if np.isfinite(input).all() else float("nan")


def _numeric_array(value: Any) -> npt.NDArray[Any] | None:
    """The value as an array of numbers, or None where it is not one: text, objects, complex numbers, ragged lists."""
    if isinstance(value, (str, bytes, Mapping)):
        return None
    try:
        array = np.asarray(value)
    except Exception:  # whatever an array-like's __array__ raises means that it is no array
        return None
    return array if array.dtype.kind in _NUMERIC_KINDS else None


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
    array = _numeric_array(input)
    if array is None or not array.size:
        return None
    return array.astype(np.float64, copy=False).reshape(-1)


def feature_rows(inputs: Sequence[Any]) -> tuple[npt.NDArray[Any], tuple[str, ...], int]:
    """Many inputs as one table.

    Args:
        inputs: Inputs in the form in which callers sent them: rows by the rule of ``feature_row``, or mappings from
            feature names to values of any kind.

    Returns:
        The rows ``(n_rows, n_features)`` of the commonest width, or of the commonest names: float64, object where a
        mapping holds other things than numbers. The names; empty where the inputs bring none. How many inputs were
        left out because they are no row or another one.
    """
    records = [input for input in inputs if isinstance(input, Mapping)]
    if 2 * len(records) > len(inputs):
        return _record_rows(records, len(inputs))
    table = _numeric_array(inputs)
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
