"""From an input to the array that a schema promises, and the message where there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

import attrs
import numpy as np
import numpy.typing as npt

from mlserve._rendering import described
from mlserve.errors import InvalidInputError
from mlserve.schemas._coercions import EXACT_INTEGER, is_missing
from mlserve.schemas._limits import SHORT_ROW, Limits, range_text
from mlserve.schemas._named import labelled, misnamed
from mlserve.schemas._results import FAULTS_NAMED, Enforcement, Fault, listed, refusal, shown
from mlserve.schemas._rows import numeric_array

if TYPE_CHECKING:
    from mlserve.schemas._arrays import ArraySchema


@final
@attrs.frozen(eq=False)
class ArrayCheck:
    """Looks at inputs as closely as it takes.

    *Thread safety*: immutable.

    Attributes:
        schema: What inputs must look like.
        limits: What there is to compare beside finiteness, or None.
    """

    schema: ArraySchema
    limits: Limits | None

    def quick(self) -> Callable[[npt.NDArray[Any]], Any]:
        """From an array of the dtype and shape to a number; where that is finite, all elements are certainly valid."""
        schema = self.schema
        is_floating = np.dtype(schema.dtype).kind == "f"
        if self.limits is not None:
            return self.limits.quick(is_floating)
        if not is_floating or (schema.allow_missing and schema.allow_infinite):
            return _nothing
        return _list_sum if len(schema.shape) == 1 and schema.shape[0] <= SHORT_ROW else _all_finite

    def quick_table(self) -> Callable[[npt.NDArray[Any]], float] | None:
        """The same of a table of inputs ``(n, n_features)``; None where only ``quick`` tells, input by input."""
        schema, limits = self.schema, self.limits
        if len(schema.shape) != 1 or not schema.shape[0] or (limits is not None and limits.codes):
            return None
        if limits is not None:
            return limits.within_by_numpy
        is_floating = np.dtype(schema.dtype).kind == "f"
        return _all_finite if is_floating and not (schema.allow_missing and schema.allow_infinite) else _nothing

    def check(self, input: Any, warnings: list[str]) -> npt.NDArray[Any]:
        """The array for the model; adds to ``warnings`` what is unusual about it.

        Raises:
            InvalidInputError: The input does not fit.
        """
        schema = self.schema
        if input is None:
            raise _invalid("the input is None", f"an array of shape {schema.shape}", "Pass one row.")
        array = self._numbers(self._in_order(input))
        if array.shape != schema.shape:
            raise self._misshapen(array)
        dtype = np.dtype(schema.dtype)
        # Python's integers have no width, and no sign to lose.
        is_plain = dtype.kind == "u" and array.dtype.kind == "i" and not hasattr(input, "dtype")
        if not is_plain and not np.can_cast(array.dtype, dtype, "same_kind"):
            hint = "Cast the input, or infer the schema from data of this dtype."
            raise _invalid(f"the input has dtype {array.dtype.name}", dtype.name, hint)
        with np.errstate(over="ignore", invalid="ignore"):
            cast = array.astype(dtype, copy=False)
        if dtype.kind in "iu" and not np.array_equal(cast, array):
            raise _invalid("the input holds integers out of range", dtype.name, "Infer the schema from such data.")
        if dtype.kind == "f":
            self._check_finite(array, cast)
            if dtype.itemsize == 8 and array.dtype.kind in "iu":
                self._check_exact(array, cast)
        if self.limits is not None:
            self._check_limits(cast.reshape(-1), self.limits, warnings)
        return cast

    def _in_order(self, input: Any) -> Any:
        """The values of an input with names in the order of the schema; any other input as it is."""
        names = self.schema.names
        if isinstance(input, (list, tuple)):
            return input
        try:
            if names is None:
                is_row = hasattr(input, "columns") and len(input) == 1 and len(self.schema.shape) == 1
                return input.to_numpy()[0].tolist() if is_row else input
            record = labelled(input)
            if record is None:
                return input
            fault = misnamed(record, names, names, "feature", ignore_extra=False)
            if fault is None:
                return [record[name] for name in names]
        except InvalidInputError:
            raise
        except Exception as exception:  # a foreign object may raise anything when it is read
            expected = f"numbers of shape {self.schema.shape}"
            raise _invalid(f"the input cannot be read ({described(exception)})", expected, "") from exception
        raise refusal([fault])

    def _numbers(self, input: Any) -> npt.NDArray[Any]:
        array = numeric_array(input)
        if array is None and self.schema.allow_missing and isinstance(input, (list, tuple)):
            array = numeric_array([np.nan if is_missing(item) else item for item in input])
        if array is None:
            raise self._not_numeric(input)
        return array

    def _check_finite(self, given: npt.NDArray[Any], cast: npt.NDArray[Any]) -> None:
        schema = self.schema
        missing, infinite = np.isnan(cast), np.isinf(cast)
        refused = (missing & (not schema.allow_missing)) | (infinite & (not schema.allow_infinite))
        if not refused.any():
            return
        flat = np.flatnonzero(refused)
        named = ", ".join(f"{self._place(index)} is {given.flat[index]}" for index in flat[:FAULTS_NAMED])
        more = f" and {flat.size - FAULTS_NAMED} more" if flat.size > FAULTS_NAMED else ""
        hint = (
            "Fill missing values before the call, or infer the schema from data that has them."
            if missing.flat[flat[0]]
            else f"Clip it to the range of {schema.dtype}, or infer the schema from data with infinities."
        )
        raise _invalid(f"{named}{more}", f"a finite {schema.dtype}", hint, self._place(int(flat[0])))

    def _check_exact(self, given: npt.NDArray[Any], cast: npt.NDArray[Any]) -> None:
        for index in np.flatnonzero(np.abs(cast) >= EXACT_INTEGER):
            # As Python's integers: a cast back may overflow.
            if int(cast.flat[index]) != int(given.flat[index]):
                place = self._place(int(index))
                hint = "Beyond 2**53 floats leave integers out: pass a float, if it need not be exact."
                wrong = f"{place} is {given.flat[index]}"
                raise _invalid(wrong, f"an integer that {self.schema.dtype} holds exactly", hint, place)

    def _check_limits(self, flat: npt.NDArray[Any], limits: Limits, warnings: list[str]) -> None:
        faults = [
            self._fault(flat, index, f"one of {listed(sorted(limits.codes[index]))}") for index in limits.uncoded(flat)
        ]
        outside = [
            self._fault(flat, index, range_text(float(limits.low[index]), float(limits.high[index])))
            for index in limits.outside(flat)
        ]
        if self.schema.ranges is Enforcement.REFUSE:
            faults += outside
        if faults:
            raise refusal(faults)
        warnings += [fault.text for fault in outside[:FAULTS_NAMED]]

    def _fault(self, flat: npt.NDArray[Any], index: int, expected: str) -> Fault:
        place = self._place(index)
        return Fault(place, f"{place} is {flat[index]}", expected)

    def _misshapen(self, array: npt.NDArray[Any]) -> InvalidInputError:
        schema, hint = self.schema, ""
        if array.shape[1:] == schema.shape and array.ndim == len(schema.shape) + 1:
            hint = "One row is expected, not a batch: pass X[0], or a batch to predict_many."
        elif schema.names is not None:
            hint = f"The features are {listed(schema.names)}."
        return _invalid(f"the input has shape {array.shape}", f"shape {schema.shape}", hint)

    def _not_numeric(self, input: Any) -> InvalidInputError:
        kind, shape = type(input).__name__, self.schema.shape
        if isinstance(input, (list, tuple)):
            for index, item in enumerate(input):
                if not isinstance(item, (bool, int, float, np.number, np.bool_, list, tuple, np.ndarray)):
                    place = self._place(index) if len(shape) == 1 else f"item {index}"
                    wrong = f"{place} is {shown(item)} of type {type(item).__name__}"
                    return _invalid(wrong, "a number", "Encode it first.", place)
        if isinstance(input, np.ndarray):
            kind = f"an array of dtype {input.dtype}"
        return _invalid(f"the input is {kind}", f"numbers of shape {shape}", "Pass an array or a list.")

    def _place(self, index: int) -> str:
        shape, names = self.schema.shape, self.schema.names
        if len(shape) == 1:
            return f"feature {index}" + (f" ({names[index]})" if names and index < len(names) else "")
        return f"element {tuple(int(i) for i in np.unravel_index(index, shape))}"


def _invalid(wrong: str, expected: str, hint: str, field: str | None = None) -> InvalidInputError:
    return InvalidInputError(f"{wrong}; expected {expected}.", field=field, expected=expected, hint=hint)


def _nothing(_input: Any) -> float:
    return 0.0


def _list_sum(input: npt.NDArray[Any]) -> Any:
    return sum(input.tolist())


def _all_finite(input: npt.NDArray[Any]) -> float:
    return 0.0 if np.isfinite(input).all() else float("nan")
