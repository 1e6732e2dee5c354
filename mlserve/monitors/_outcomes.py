"""Predictions that wait for their true value."""

from __future__ import annotations

from collections import deque
from itertools import islice
from numbers import Real
from typing import Any

import numpy as np

from mlserve.monitors._blocks import RequestBlock
from mlserve.monitors._windows import OutcomeSummary
from mlserve.numerics._sketches import Moments


class PendingOutcomes:
    """A bounded map from prediction id to the prediction.

    Blocks of predictions are kept as they come and indexed when the first outcome asks: a service whose labels never
    arrive does not pay for a dictionary.

    *Thread safety*: none; the owner locks.

    Args:
        capacity: Predictions to hold; beyond it the oldest are given up.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        # A block, and how many of its first rows have been given up.
        self._blocks: deque[tuple[RequestBlock, int]] = deque()
        self._block_rows = 0
        self._waiting: dict[str, tuple[RequestBlock, int]] = {}
        self._labelled: dict[str, None] = {}
        self.evicted = 0

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

    def pop(self, prediction_id: str) -> tuple[RequestBlock, int] | None:
        """The prediction, as a row of a block; it waits no longer. None when it is not known."""
        if self._blocks:
            for block, first in self._blocks:
                rows = range(first, len(block))
                self._waiting.update(zip(block.ids[first:], ((block, row) for row in rows), strict=True))
            self._blocks.clear()
            self._block_rows = 0
        found = self._waiting.pop(prediction_id, None)
        if found is not None:
            self._labelled[prediction_id] = None
            if len(self._labelled) > self._capacity:
                del self._labelled[next(iter(self._labelled))]
        return found

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


def pair_up(output: Any, actual: Any) -> tuple[OutcomeSummary, float, float] | None:
    """What one prediction and its true value add up to.

    Args:
        output: What the model answered.
        actual: What was true.

    Returns:
        The summary of one pair, and both as numbers (NaN where they are none); None where the two cannot be
        compared, as text with a number.
    """
    if isinstance(output, str) != isinstance(actual, str):
        return None
    first, second = _number(output), _number(actual)
    if np.isnan(first) or np.isnan(second):
        correct = _equal(output, actual)
        return None if correct is None else (OutcomeSummary(labelled=1, correct=correct), np.nan, np.nan)
    error = abs(first - second)
    continuous = not (first.is_integer() and second.is_integer())
    correct = int(bool(output == actual))
    return OutcomeSummary(1, correct, int(continuous), error, error * error, Moments(1, second)), first, second


def _equal(output: Any, actual: Any) -> int | None:
    try:
        with np.errstate(all="ignore"):
            return int(bool(np.array_equal(output, actual)))
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
