"""Answers of a window or of a baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
from typing_extensions import override

from mlserve.errors import InvalidArgumentError


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    array.flags.writeable = False
    return array


def _answers(value: Any) -> npt.NDArray[Any]:
    """Answers as an array with a row for each; objects where they have no common shape or type."""
    try:
        given: Any = np.array(value) if hasattr(value, "__array__") else list(value)
        n = len(given)
    except TypeError:
        n = -1
    if n < 0 or isinstance(value, (str, bytes, Mapping)):
        raise InvalidArgumentError("outputs", value, "one answer for each row", hint="Pass a list of one answer.")
    array = given
    try:
        if isinstance(given, list):
            # As text, numpy would give every answer the room of the longest, and make text of the numbers beside it.
            is_text = any(issubclass(kind, (str, bytes)) for kind in set(map(type, given)))
            array = np.array(given, object if is_text else None)
            if array.dtype.kind in "US":
                array = np.array(given, object)
    except Exception:  # answers of different lengths, or of another library
        array = np.empty(0, object)
    if len(array) != n or array.ndim > 2:
        array = np.fromiter(given, object, n)
    return _read_only(array)


def _array(name: str, value: Any, dtype: type | None = None) -> npt.NDArray[Any] | None:
    try:
        return None if value is None else _read_only(np.array(value, dtype))
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(name, value, "an array with a row for each answer") from error


def _confidences(value: npt.ArrayLike | None) -> npt.NDArray[np.float64] | None:
    return _array("confidences", value, np.float64)


def _labels(value: npt.ArrayLike | None) -> npt.NDArray[Any] | None:
    return _array("labels", value)


def _inputs(value: npt.ArrayLike | None) -> npt.NDArray[Any] | None:
    return _array("inputs", value)


@attrs.frozen(eq=False, repr=False)
class PredictionSample:
    """Answers of a window or of a baseline, with what belongs to each.

    Attributes:
        outputs: What the model answered, shape ``(n_samples,)``, or ``(n_samples, n_outputs)``. Read-only.
        confidences: The probability of each answer, float64, shape ``(n_samples,)``, NaN where there was none; None
            where there are none at all. Of ``predict_proba`` it is the largest value of each row.
        labels: What was true, shape ``(n_samples,)``; None where it is not known.
        inputs: What was asked, shape ``(n_samples, n_features)``; None where that was not kept or is no table.
        count: Number of predictions the sample stands for; at least ``n_samples``, which it is if not given.
        method: How it was drawn: ``"all"`` or ``"reservoir"`` (uniform, without replacement).

    Raises:
        InvalidArgumentError: Outputs that are no list or array; confidences, labels or inputs that are not one for
            each answer.

    Example:
        >>> PredictionSample([0, 1, 1], confidences=[0.9, 0.8, 0.7], labels=[0, 1, 0])
        PredictionSample(3 answers, standing for 3, method='all', with confidences, labels)
    """

    outputs: npt.NDArray[Any] = attrs.field(converter=_answers)
    confidences: npt.NDArray[np.float64] | None = attrs.field(default=None, converter=_confidences, kw_only=True)
    labels: npt.NDArray[Any] | None = attrs.field(default=None, converter=_labels, kw_only=True)
    inputs: npt.NDArray[Any] | None = attrs.field(default=None, converter=_inputs, kw_only=True)
    count: int = attrs.field(default=-1, kw_only=True)
    method: str = attrs.field(default="all", kw_only=True)

    def __attrs_post_init__(self) -> None:
        n = len(self.outputs)
        for name, dimensions in (("confidences", 1), ("labels", 1), ("inputs", 2)):
            value = getattr(self, name)
            if value is not None and (value.ndim != dimensions or len(value) != n):
                raise InvalidArgumentError(
                    name, value.shape, f"one row for each of {n} answers",
                    hint="Pass what belongs to the same rows in the same order.",
                )  # fmt: skip
        if self.count < 0:
            object.__setattr__(self, "count", n)

    @property
    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """By name: ``output``, or ``output[0]``, ``output[1]``, …, and ``confidence`` where any answer has one."""
        outputs = self.outputs
        columns = (
            {f"output[{index}]": outputs[:, index] for index in range(outputs.shape[1])}
            if outputs.ndim == 2
            else {"output": outputs}
        )
        if self.confidences is not None and not np.isnan(self.confidences).all():
            columns["confidence"] = self.confidences
        return columns

    @override
    def __repr__(self) -> str:
        parts = [name for name in ("confidences", "labels", "inputs") if getattr(self, name) is not None]
        beside = f", with {', '.join(parts)}" if parts else ""
        drawn = f"standing for {self.count}, method={self.method!r}"
        return f"PredictionSample({len(self.outputs)} answers, {drawn}{beside})"
