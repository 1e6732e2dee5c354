"""What inputs that are arrays must look like."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isfinite, prod
from typing import Any, final

import attrs
import numpy as np
import numpy.typing as npt

from mlserve._stacking import stacked
from mlserve.errors import InvalidArgumentError, InvalidInputError
from mlserve.records._monitoring import checked_feature_names
from mlserve.schemas._array_checks import ArrayCheck
from mlserve.schemas._documents import document, fields_of, no_schema, parsed, text_of
from mlserve.schemas._limits import (
    Bounds,
    Codes,
    Limits,
    check_bounds,
    checked_codes,
    learned_codes,
    to_bounds,
    to_codes,
)
from mlserve.schemas._results import Enforcement, ValidationResult, WarningLog, to_ranges
from mlserve.schemas._rows import NUMERIC_KINDS, numeric_array

KIND = "array"
"""How the JSON form says what it is."""


def _shape(value: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(size) for size in value)


def _dtype(value: Any) -> str:
    try:
        return str(np.dtype(value).name)
    except TypeError as error:
        raise InvalidArgumentError("dtype", value, "a dtype of numpy", hint="For example 'float64'.") from error


@final
@attrs.frozen
class ArraySchema:
    """Inputs that are arrays of numbers: one dtype, one shape, named features.

    An input is accepted when it is an array, or a (nested) sequence of numbers, of this shape whose dtype casts to
    the schema's by numpy's ``same_kind`` rule: integers to floats and wider to narrower, never floats to integers,
    never text. NaN is accepted only where the data the schema was learned from had missing values, infinities only
    where it had those.

    Where features have names, an input may bring them: a mapping, a pandas series indexed by names, a pandas or polars
    frame of one row. It must have exactly the names of the schema, and is put in its order.

    *Thread safety*: immutable.

    Attributes:
        shape: Of one input, for example ``(n_features,)``.
        dtype: Name of the numpy dtype the model is given.
        names: One name a feature, or None; only for one-dimensional inputs.
        allow_missing: Whether NaN is accepted, and None in a list or by name.
        allow_infinite: Whether infinities are accepted.
        minimum: Smallest finite value seen of each element, in C order; None for an element of which nothing is known,
            and None altogether when not learned.
        maximum: Largest finite value seen of each element, alike.
        ranges: What is done about finite values outside ``minimum`` and ``maximum``: an ``Enforcement`` or its word.
        categories: For each feature the whole numbers that it may have, or None where it is no category. May be given
            as a mapping from names or indices. Other values are refused; such a feature has no range.

    Raises:
        InvalidArgumentError: Values that do not fit together.

    Example:
        >>> schema = ArraySchema.infer([[5.1, 3.5], [4.9, 3.0]], names=["sepal_length", "sepal_width"])
        >>> schema.validate([5.0, 3.3]).is_valid
        True
        >>> schema.validate({"sepal_width": 3.3, "sepal_length": 5.0}).value
        array([5. , 3.3])
        >>> print(schema.validate([5.0, float("nan")]).message)
        feature 1 (sepal_width) is nan; expected a finite float64. Fill missing values before the call, or infer the \
schema from data that has them.
    """

    shape: tuple[int, ...] = attrs.field(converter=_shape)
    dtype: str = attrs.field(default="float64", converter=_dtype)
    names: tuple[str, ...] | None = attrs.field(default=None)
    allow_missing: bool = False
    allow_infinite: bool = False
    minimum: Bounds | None = attrs.field(default=None, converter=to_bounds)
    maximum: Bounds | None = attrs.field(default=None, converter=to_bounds)
    ranges: Enforcement = attrs.field(default=Enforcement.OFF, converter=to_ranges)
    categories: Codes | None = attrs.field(default=None, converter=to_codes)

    def __attrs_post_init__(self) -> None:
        if np.dtype(self.dtype).kind not in NUMERIC_KINDS:
            raise InvalidArgumentError("dtype", self.dtype, "a boolean, integer or floating dtype")
        if any(size < 0 for size in self.shape):
            raise InvalidArgumentError("shape", self.shape, "sizes of at least 0")
        check_bounds("minimum", self.minimum, prod(self.shape))
        check_bounds("maximum", self.maximum, prod(self.shape))
        if self.names is not None:
            if len(self.shape) != 1:
                raise InvalidArgumentError("names", self.names, "None for inputs that are not one-dimensional")
            object.__setattr__(self, "names", checked_feature_names(self.names, self.shape[0]))
        object.__setattr__(self, "categories", checked_codes(self.categories, self.shape, self.names))
        self._check_bounds()

    def _check_bounds(self) -> None:
        unknown = (None,) * prod(self.shape)
        low, high = self.minimum or unknown, self.maximum or unknown
        if any(least is not None and most is not None and least > most for least, most in zip(low, high, strict=True)):
            raise InvalidArgumentError("minimum", self.minimum, f"at most the maximum, {self.maximum}")
        if self.ranges is not Enforcement.OFF and self.minimum is None and self.maximum is None:
            raise InvalidArgumentError("ranges", str(self.ranges), "'off' for a schema without minimum and maximum")
        for index, codes in enumerate(self.categories or ()):
            if codes is not None and (low[index] is not None or high[index] is not None):
                raise InvalidArgumentError("categories", codes, f"None for feature {index}, which has a range")

    @classmethod
    def infer(
        cls,
        X: npt.ArrayLike,
        *,
        names: Sequence[str] | None = None,
        ranges: Enforcement | str = Enforcement.OFF,
        categories: Sequence[str | int] | Mapping[Any, Sequence[int]] | None = None,
    ) -> ArraySchema:
        """Learn a schema from data.

        Args:
            X: Samples ``(n_samples, ...)`` with at least two dimensions, or one input of one dimension. A pandas or
                polars frame brings its column names.
            names: One name a feature.
            ranges: What is done about later values outside those seen.
            categories: The features that are codes of categories, by name or index: their codes are those seen. Or a
                mapping from such features to all the codes that there are.

        Returns:
            Its dtype and shape, whether values may be missing or infinite, and the range seen.

        Raises:
            InvalidArgumentError: Not numeric, no dimension, names that do not fit, or codes that are not declared.
        """
        columns = getattr(X, "columns", None)
        if names is None and columns is not None:
            names = [str(column) for column in columns]
        array = numeric_array(X)
        if array is None or array.ndim == 0:
            raise InvalidArgumentError(
                "X", X, "an array of numbers with shape (n_samples, n_features) or (n_features,)",
                hint="Encode text and categories first, or use RecordSchema.",
            )  # fmt: skip
        samples = array if array.ndim > 1 else array[np.newaxis]
        flat = samples.reshape(len(samples), prod(samples.shape[1:]))
        features = None if names is None else checked_feature_names(names, flat.shape[1])
        codes = learned_codes(flat, samples.shape[1:], features, categories)
        with np.errstate(over="ignore"):  # long doubles beyond the range of a double
            filled = flat.astype(np.float64)
        finite = np.isfinite(filled)
        low = np.where(finite, filled, np.inf).min(axis=0, initial=np.inf)
        high = np.where(finite, filled, -np.inf).max(axis=0, initial=-np.inf)
        known = (low <= high) & np.array([codes is None or codes[index] is None for index in range(low.size)], bool)
        return cls(
            shape=samples.shape[1:],
            dtype=array.dtype.name,
            names=features,
            allow_missing=bool(np.isnan(filled).any()),
            allow_infinite=bool(np.isinf(flat).any()),
            minimum=[value if is_known else None for value, is_known in zip(low.tolist(), known, strict=True)],
            maximum=[value if is_known else None for value, is_known in zip(high.tolist(), known, strict=True)],
            ranges=ranges,
            categories=codes,
        )

    def validate(self, input: Any) -> ValidationResult:
        """Check one input.

        Args:
            input: Anything.

        Returns:
            The array for the model and what is unusual about it, or what was wrong. Never raises.
        """
        warnings: list[str] = []
        try:
            value = self._closely().check(input, warnings)
            return ValidationResult(True, value, warnings=tuple(warnings))
        except InvalidInputError as error:
            return ValidationResult(False, error=error.forget_traceback())

    def example(self) -> npt.NDArray[Any]:
        """An input that fits: the middle of the range seen; 0.5 of each element (rounded to the dtype) if unknown."""
        dtype = np.dtype(self.dtype)
        size = prod(self.shape)
        # None becomes NaN, which fmax and fmin pass over.
        low, high = (np.array(bounds or [None] * size, np.float64) for bounds in (self.minimum, self.maximum))
        # Halving first, as the sum of two large bounds could overflow; clipping, as half of the smallest number is 0.
        middle = low / 2 + high / 2
        middle = np.fmin(np.fmax(np.where(np.isnan(middle), 0.5, middle), low), high)
        for index, codes in enumerate(self.categories or ()):
            if codes is not None:
                middle[index] = codes[len(codes) // 2]
        if dtype.kind in "iu":
            # The largest 64-bit integers are no float64; the next one up would not fit.
            limits = np.iinfo(dtype)
            middle = np.clip(middle, limits.min, np.nextafter(float(limits.max) + 1.0, 0.0))
        return middle.reshape(self.shape).astype(dtype)

    def to_dict(self) -> dict[str, Any]:
        """The schema as a dict of JSON values, for storing beside a version."""
        fields = attrs.asdict(self)
        fields["ranges"] = str(self.ranges)
        return document(KIND, fields)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> ArraySchema:
        """The schema that ``to_dict`` wrote.

        Raises:
            InvalidArgumentError: Not an array schema, or written by a newer mlserve.
        """
        try:
            return cls(**fields_of(document, KIND))
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise no_schema(document, "an array", error) from error

    def to_json(self) -> str:
        """The schema as JSON text: what ``to_dict`` gives."""
        return text_of(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> ArraySchema:
        """The schema that ``to_json`` wrote.

        Raises:
            InvalidArgumentError: Not JSON, not an array schema, or written by a newer mlserve.
        """
        return cls.from_dict(parsed(text))

    def checker(self) -> Callable[[Any], npt.NDArray[Any]]:
        """A function from an input to the array for the model, which raises ``InvalidInputError``.

        Built once for a version, it takes the common case, an array of the right dtype and shape, by the shortest way.
        What is unusual about an input is logged, the first time and whenever the number of such inputs has doubled.

        *Thread safety*: the function may be called from several threads at once.
        """
        dtype, shape, ndarray = np.dtype(self.dtype), self.shape, np.ndarray
        closely, log = self._closely(), WarningLog()
        total = closely.quick()

        def slow(input: Any) -> npt.NDArray[Any]:
            warnings: list[str] = []
            array = closely.check(input, warnings)
            if warnings:
                log.note(warnings)
            return array

        def check(input: Any) -> npt.NDArray[Any]:
            # A total is finite only if every term is; one that merely overflows is looked at more closely.
            if type(input) is ndarray and input.dtype is dtype and input.shape == shape and isfinite(total(input)):
                return input
            return slow(input)

        return check

    def table_checker(self) -> Callable[[Sequence[Any]], npt.NDArray[Any] | None] | None:
        """A function from many inputs to the table of all ``(n, n_features)``, where a glance tells that all are valid.

        It answers None where one of them must be looked at by ``checker``. None instead of a function for a schema
        whose inputs are not one-dimensional or have categories.

        *Thread safety*: the function may be called from several threads at once.
        """
        dtype = np.dtype(self.dtype)
        total = self._closely().quick_table()
        if total is None:
            return None
        (width,) = self.shape

        def check(inputs: Sequence[Any]) -> npt.NDArray[Any] | None:
            table = stacked(inputs, dtype, width)
            return table if table is not None and isfinite(total(table)) else None

        return check

    def _closely(self) -> ArrayCheck:
        if self.ranges is Enforcement.OFF and self.categories is None:
            return ArrayCheck(self, None)
        unknown = [None] * prod(self.shape)
        bounds = (None, None) if self.ranges is Enforcement.OFF else (self.minimum, self.maximum)
        low, high = (np.array(unknown if each is None else each, np.float64) for each in bounds)
        codes = {index: frozenset(each) for index, each in enumerate(self.categories or ()) if each is not None}
        return ArrayCheck(self, Limits(low, high, codes, self.allow_missing, self.allow_infinite))
