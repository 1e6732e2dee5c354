"""Predictions that wait for their true value."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from itertools import islice
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np

from mlserve.monitors._blocks import RequestBlock, Waiting
from mlserve.monitors._windows import ClassRole, Label, OutcomeSummary
from mlserve.numerics._sketches import LatencyHistogram, Moments


class PendingOutcomes:
    """A bounded map from prediction id to the prediction.

    Blocks of predictions are kept as they come and taken apart when the first outcome asks: a service whose labels
    never arrive does not pay for a dictionary.

    *Thread safety*: none; the owner locks.

    Args:
        capacity: Predictions to hold; beyond it the oldest are given up.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        # A block, and how many of its first rows have been given up.
        self._blocks: deque[tuple[RequestBlock, int]] = deque()
        self._block_rows = 0
        self._waiting: dict[str, Waiting] = {}
        self._labelled: dict[str, None] = {}
        self.evicted: int = 0

    def __len__(self) -> int:
        return self._block_rows + len(self._waiting)

    def extend(self, block: RequestBlock) -> None:
        """Take in successful predictions, oldest first."""
        self._blocks.append((block, 0))
        self._block_rows += len(block)
        surplus = len(self) - self._capacity
        if surplus > 0:
            self.evicted += surplus
            self._give_up(surplus)

    def find(self, prediction_id: str) -> Waiting | None:
        """The prediction, which goes on waiting. None when it is not known."""
        if self._blocks:
            for block, first in self._blocks:
                self._waiting.update(zip(block.ids[first:], block.waiting(first), strict=True))
            self._blocks.clear()
            self._block_rows = 0
        return self._waiting.get(prediction_id)

    def settle(self, prediction_id: str) -> None:
        """A prediction has its true value and waits no longer, if it did."""
        self._waiting.pop(prediction_id, None)
        self._labelled[prediction_id] = None
        if len(self._labelled) > self._capacity:
            del self._labelled[next(iter(self._labelled))]

    def was_labelled(self, prediction_id: str) -> bool:
        """Whether the prediction already had its outcome, as far as is remembered."""
        return prediction_id in self._labelled

    def _give_up(self, surplus: int) -> None:
        oldest = list(islice(self._waiting, surplus))
        for prediction_id in oldest:
            del self._waiting[prediction_id]
        surplus -= len(oldest)
        while surplus > 0:
            block, first = self._blocks.popleft()
            rows = min(surplus, len(block) - first)
            if first + rows < len(block):
                self._blocks.appendleft((block, first + rows))
            self._block_rows -= rows
            surplus -= rows


class Pair(NamedTuple):
    """A prediction with its true value.

    Attributes:
        is_right: Whether both are equal.
        output: The answer as a number, NaN where it is none.
        actual: The true value, likewise.
        output_class: The answer as a class, None where it is none, such as a number with a fraction.
        actual_class: The true value, likewise.
    """

    is_right: bool
    output: float
    actual: float
    output_class: Label | None
    actual_class: Label | None

    def summary(self, delay: float, classes: Mapping[ClassRole, int]) -> OutcomeSummary:
        """What the pair alone adds up to; the delay in seconds, and the classes as far as they are told apart."""
        delays = LatencyHistogram.from_values([delay])
        if np.isnan(self.output) or np.isnan(self.actual):
            return OutcomeSummary(1, int(self.is_right), delays=delays, classes=classes)
        error = abs(self.output - self.actual)
        continuous = not (self.output.is_integer() and self.actual.is_integer())
        moments = Moments(1, self.actual)
        return OutcomeSummary(1, int(self.is_right), int(continuous), error, error * error, moments, delays, classes)


def pair_up(output: Any, actual: Any) -> Pair | None:
    """One prediction and its true value.

    Args:
        output: What the model answered.
        actual: What was true.

    Returns:
        None where the two cannot be compared, as text with a number, or where the true value is missing.
    """
    is_missing = actual is None or (isinstance(actual, (float, np.floating)) and bool(np.isnan(actual)))
    if is_missing or isinstance(output, str) != isinstance(actual, str):
        return None
    first, second = _number(output), _number(actual)
    if np.isnan(first) or np.isnan(second):
        is_right = _equal(output, actual)
        return None if is_right is None else Pair(is_right, np.nan, np.nan, _class(output), _class(actual))
    return Pair(bool(output == actual), first, second, _class(output), _class(actual))


def _class(value: Any) -> Label | None:
    """A label as plain text, number or bool; None for what is no label."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    number = _number(value)
    if not number.is_integer():
        return None
    return int(value) if isinstance(value, Integral) else int(number)  # a float cannot tell 2⁵³ from 2⁵³ + 1


def _equal(output: Any, actual: Any) -> bool | None:
    try:
        with np.errstate(all="ignore"):
            return bool(np.array_equal(output, actual))
    except Exception:  # whatever comparing the two raises means that they cannot be compared
        return None


def _number(value: Any) -> float:
    if isinstance(value, (Real, np.bool_)) or (isinstance(value, np.ndarray) and value.ndim == 0):
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            return float("nan")
        return number if np.isfinite(number) else float("nan")
    return float("nan")
