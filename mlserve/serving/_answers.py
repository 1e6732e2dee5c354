"""What a version answers to several inputs by one call: a column of answers, and one of confidences."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, final

import numpy as np


@final
class Answers:
    """Answers of one version, in order.

    *Thread safety*: none is needed; who has it does not change it.

    Args:
        values: The answers: a list, or an array ``(n,)``.
        confidences: As many, where the model tells them: floats or None, or an array; else None.

    Attributes:
        values: See above.
        confidences: See above.
    """

    __slots__ = ("confidences", "values")

    def __init__(self, values: Sequence[Any], confidences: Sequence[Any] | None = None) -> None:
        self.values = values
        self.confidences = confidences

    @classmethod
    def of(cls, each: Sequence[Any], has_confidence: bool) -> Answers:
        """Answers as ``each`` gives them."""
        return cls(*zip(*each, strict=True)) if has_confidence and each else cls(each)

    @classmethod
    def joined(cls, parts: Sequence[Answers]) -> Answers:
        """Several, at least one, one after the other."""
        if len(parts) == 1:
            return parts[0]
        confidences: list[Any] = [part.confidences for part in parts]
        return cls(_joined([part.values for part in parts]), None if confidences[0] is None else _joined(confidences))

    def __len__(self) -> int:
        return len(self.values)

    def each(self) -> list[Any]:
        """Every answer as a single call gives it: with its confidence as a pair, where there are confidences."""
        confidences: Any = self.confidences
        if confidences is None:
            return list(self.values)
        plain = confidences.tolist() if type(confidences) is np.ndarray else confidences
        return list(zip(self.values, plain, strict=True))

    def only(self, rows: Sequence[int]) -> Answers:
        """Some of them."""
        values, confidences = self.values, self.confidences
        return Answers(
            [values[row] for row in rows], None if confidences is None else [confidences[row] for row in rows]
        )


def _joined(columns: Sequence[Any]) -> Any:
    first = columns[0]
    if all(type(column) is np.ndarray and column.dtype == first.dtype for column in columns):
        return np.concatenate(columns)
    return list(chain.from_iterable(columns))
