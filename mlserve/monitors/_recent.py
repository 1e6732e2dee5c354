"""Recent requests, whole, as columns: what makes short windows exact, and what older buckets are made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from mlserve.monitors._outcomes import Pair
from mlserve.monitors._windows import (
    ANSWERED,
    NO_OUTCOMES,
    RIGHT,
    TRUE,
    ClassRole,
    Label,
    OutcomeSummary,
    TrafficSummary,
)
from mlserve.numerics._sketches import LatencyHistogram, Moments

SUCCESS = 0
"""The kind code of a request that was answered."""

NO_CLASS, OTHER_CLASS = -1, 0
"""Class codes of what is no class, and of a class that is not told apart from others."""

_UNLABELLED, _WRONG, _RIGHT = -1, 0, 1


class RecentRequests:
    """The last requests of all versions.

    When full, the older half is handed on and forgotten; a row is named by its sequence number, which never changes.

    *Thread safety*: none; the owner locks.

    Args:
        capacity: Rows to hold; 55 bytes each.
        hand_on: Called with the positions ``[0, n)`` that are about to be forgotten.
    """

    def __init__(self, capacity: int, hand_on: Callable[[int], None]) -> None:
        self._capacity = capacity
        self._hand_on = hand_on
        self.count = 0
        self.first_sequence = 0
        self.forgotten_until = -(2**62)
        """The latest moment among the rows forgotten: what happened after it is all here."""
        self.time = np.zeros(capacity, np.int64)
        self.version = np.zeros(capacity, np.int32)
        self._kind = np.zeros(capacity, np.int16)
        self._latency = np.zeros(capacity)
        self._latency_bin = np.zeros(capacity, np.int16)
        self._confidence = np.zeros(capacity)
        self._label = np.full(capacity, _UNLABELLED, np.int8)
        self._output = np.zeros(capacity)
        self._actual = np.zeros(capacity)
        self._delay_bin = np.zeros(capacity, np.int16)
        self._output_class = np.zeros(capacity, np.int16)
        self._actual_class = np.zeros(capacity, np.int16)

    def append(
        self,
        time: npt.NDArray[np.int64],
        version: npt.NDArray[np.int32],
        kind: npt.NDArray[np.int16],
        latency: npt.NDArray[np.float64],
        confidence: npt.NDArray[np.float64],
    ) -> int:
        """Take in rows, not more than half the capacity at once. Returns the sequence number of the first."""
        if self.count + time.size > self._capacity:
            self._forget(self._capacity // 2)
        rows = slice(self.count, self.count + time.size)
        self.time[rows], self.version[rows], self._kind[rows] = time, version, kind
        self._latency[rows], self._latency_bin[rows] = latency, LatencyHistogram.bins(latency)
        self._confidence[rows], self._label[rows] = confidence, _UNLABELLED
        self.count += time.size
        return self.first_sequence + rows.start

    def label(self, sequence: int, pair: Pair, classes: tuple[int, int], delay: float) -> bool:
        """Set the true value of a row.

        Args:
            sequence: The row's number.
            pair: Its answer and its true value.
            classes: The codes of both; ``NO_CLASS`` for what is none.
            delay: Seconds between the two.

        Returns:
            False when the row has been forgotten.
        """
        position = sequence - self.first_sequence
        if position < 0:
            return False
        self._label[position] = _RIGHT if pair.is_right else _WRONG
        self._output[position], self._actual[position] = pair.output, pair.actual
        self._output_class[position], self._actual_class[position] = classes
        self._delay_bin[position] = LatencyHistogram.bins(delay)[0]
        return True

    def between(self, start: int, end: int, version: int | None) -> npt.NDArray[np.intp]:
        """Positions of what happened in (start, end], of one version or of all."""
        time = self.time[: self.count]
        chosen = (time > start) & (time <= end)
        if version is not None:
            chosen &= self.version[: self.count] == version
        return np.flatnonzero(chosen)

    def summarise(
        self, positions: npt.NDArray[np.intp], kind_names: Sequence[str | None], class_names: Sequence[Label | None]
    ) -> TrafficSummary:
        """What some rows add up to."""
        kinds = self._kind[positions]
        answered, errors = positions, Counter[str]()
        if kinds.any():
            answered = positions[kinds == SUCCESS]
            counted = np.bincount(kinds)
            errors.update(
                {str(kind_names[kind]): int(counted[kind]) for kind in np.flatnonzero(counted).tolist() if kind}
            )
        confidence = self._confidence[answered]
        return TrafficSummary(
            latency=LatencyHistogram.from_bins(self._latency_bin[answered]),
            latency_sum=float(self._latency[answered].sum()),
            confidence=Moments.of(confidence[~np.isnan(confidence)]),
            errors=errors,
            outcomes=self.outcomes(answered, class_names),
        )

    def answered(self, positions: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """Those of some rows that were answered."""
        answered: npt.NDArray[np.intp] = positions[self._kind[positions] == SUCCESS]
        return answered

    def outcomes(self, answered: npt.NDArray[np.intp], class_names: Sequence[Label | None]) -> OutcomeSummary:
        """What the labelled ones of some answered rows add up to."""
        labelled = answered[self._label[answered] != _UNLABELLED]
        if not labelled.size:
            return NO_OUTCOMES
        output, actual = self._output[labelled], self._actual[labelled]
        numeric = ~(np.isnan(output) | np.isnan(actual))
        output, actual = output[numeric], actual[numeric]
        with np.errstate(over="ignore", invalid="ignore"):  # numbers whose squares no float holds have infinite ones
            error = output - actual
            return OutcomeSummary(
                labelled=labelled.size,
                correct=int((self._label[labelled] == _RIGHT).sum()),
                continuous=int(((output != np.floor(output)) | (actual != np.floor(actual))).sum()),
                absolute_error=float(np.abs(error).sum()),
                squared_error=float((error * error).sum()),
                actual=Moments.of(actual),
                delays=LatencyHistogram.from_bins(self._delay_bin[labelled]),
                classes=self._classes(labelled, class_names),
            )

    def _classes(self, labelled: npt.NDArray[np.intp], names: Sequence[Label | None]) -> Counter[ClassRole]:
        output, actual = self._output_class[labelled], self._actual_class[labelled]
        known = actual != NO_CLASS
        output, actual = output[known], actual[known]
        classes: Counter[ClassRole] = Counter()
        for role, codes in ((ANSWERED, output), (TRUE, actual), (RIGHT, actual[output == actual])):
            counts = np.bincount(codes, minlength=len(names))
            for code in np.flatnonzero(counts).tolist():
                name = names[code]
                if name is not None:
                    classes[name, role] = int(counts[code])
        return classes

    def _forget(self, rows: int) -> None:
        rows = min(rows, self.count)
        self._hand_on(rows)
        self.forgotten_until = max(self.forgotten_until, int(self.time[:rows].max(initial=self.forgotten_until)))
        columns = (
            self.time, self.version, self._kind, self._latency, self._latency_bin, self._confidence,
            self._label, self._output, self._actual, self._delay_bin, self._output_class, self._actual_class,
        )  # fmt: skip
        for column in columns:
            column[: self.count - rows] = column[rows : self.count].copy()
        self.count -= rows
        self.first_sequence += rows
