"""The recording half of a monitor in memory: requests wait in a buffer, and are folded together."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from typing_extensions import override

from mlserve._forking import renew_after_fork
from mlserve.errors import InvalidArgumentError
from mlserve.monitors._blocks import Rare
from mlserve.monitors._copying import IMMUTABLE, Copier
from mlserve.monitors._ledger import ROW, Ledger
from mlserve.monitors._sampling import Thinned
from mlserve.protocols import BlockMonitor, DeferringMonitor, LabelledMonitor
from mlserve.records import FailureEvent, PredictionEvent

FOLD_EVERY = 1024
"""Requests that wait to be counted, at most; few enough that folding them takes less than a millisecond."""

_FOLD_AT = FOLD_EVERY * ROW
_WAIT_AT = 64 * _FOLD_AT
"""From here on a request waits for whoever folds: many threads append faster than one of them can fold, without end."""
_ndarray = np.ndarray


class _Block(NamedTuple):
    """Stands in the buffer for requests that came together.

    Attributes:
        columns: Their values, ``ROW`` lists of one length.
    """

    columns: tuple[list[Any], ...]


class RequestBuffer(LabelledMonitor, BlockMonitor, DeferringMonitor):
    """Takes requests and outcomes without a lock, and folds them into a ledger by the hundred.

    *Thread safety*: yes; whoever reads the ledger holds ``_lock`` and calls ``_fold`` first.

    Args:
        ledger: Where requests are folded.
        timestamp: Seconds since 1970.
        block: Requests folded at once, at most.
        seed: For the thinning of inputs.
    """

    def __init__(self, ledger: Ledger, timestamp: Callable[[], float], block: int, seed: int) -> None:
        self._ledger = ledger
        self._thinning = ledger.thinning
        self._timestamp = timestamp
        self._block = block
        self._buffer: list[Any] = []
        # Of those in the buffer that came in blocks; nearly, for no lock is taken to count them.
        self._rows_in_blocks = 0
        self._outcome_buffer: list[tuple[str, Any, float]] = []
        self._copier = Copier()
        self._kept = self._copier.copy
        self._random = random.Random(seed).random
        self._after_fork()
        renew_after_fork(self)

    def record_prediction(self, event: PredictionEvent) -> None:
        self.defer_prediction(
            event.prediction_id,
            event.model_version,
            event.input,
            event.output,
            event.processing_time_ms,
            event.timestamp.timestamp(),
            event.confidence,
            event.arm,
            event.key,
        )

    @override
    def defer_prediction(
        self,
        prediction_id: str,
        model_version: str,
        input: Any,
        output: Any,
        processing_time_ms: float,
        timestamp: float,
        confidence: float | None,
        arm: str | None,
        key: str | None,
    ) -> None:
        buffer = self._buffer
        thinning = self._thinning.get(model_version) if self._thinning else None
        if thinning is not None and timestamp < thinning.until:
            # So many inputs come that most would not stay in the sample: those need not even be copied.
            kept_input: Any = thinning if self._random() < thinning.cut else Thinned(thinning.cut, self._kept(input))
        elif type(input) is _ndarray and not input.dtype.hasobject:
            kept_input = input.copy()
        else:
            kept_input = self._kept(input)
        kept_output = output if type(output) in IMMUTABLE else self._kept(output)
        rare = None if arm is None and key is None else (arm, key, None)
        buffer.extend(
            (prediction_id, model_version, kept_input, kept_output, processing_time_ms, timestamp, confidence, rare)
        )
        if len(buffer) >= _FOLD_AT:
            self._fold_unless_busy()

    @override
    def record_block(
        self,
        model_version: str,
        prediction_ids: Sequence[str],
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        processing_times_ms: Sequence[float],
        timestamp: float,
        confidences: Sequence[float | None] | None = None,
        arms: Sequence[str | None] | None = None,
        keys: Sequence[str | None] | None = None,
    ) -> None:
        count = len(prediction_ids)
        for name, values in (
            ("inputs", inputs),
            ("outputs", outputs),
            ("processing_times_ms", processing_times_ms),
            ("confidences", confidences),
            ("arms", arms),
            ("keys", keys),
        ):
            if values is not None and len(values) != count:
                raise InvalidArgumentError(name, f"{len(values)} values", f"{count}, one for each prediction")
        if not count:
            return
        nothing = [None] * count
        rare: list[Any] = nothing
        if arms is not None or keys is not None:
            pairs = zip(nothing if arms is None else arms, nothing if keys is None else keys, strict=True)
            rare = [None if arm is None and key is None else (arm, key, None) for arm, key in pairs]
        block = _Block(
            (
                list(prediction_ids),
                [model_version] * count,
                self._kept_inputs(model_version, inputs, timestamp),
                list(outputs if IMMUTABLE.issuperset(map(type, outputs)) else map(self._kept, outputs)),
                list(processing_times_ms),
                [timestamp] * count,
                nothing if confidences is None else list(confidences),
                rare,
            )
        )
        self._rows_in_blocks += count
        self._buffer.extend((block, None, None, None, None, None, None, None))
        if len(self._buffer) >= _FOLD_AT or self._rows_in_blocks >= FOLD_EVERY:
            self._fold_unless_busy()

    def _kept_inputs(self, model_version: str, inputs: Sequence[Any], timestamp: float) -> list[Any]:
        kept = self._kept
        thinning = self._thinning.get(model_version) if self._thinning else None
        if thinning is None or timestamp >= thinning.until:
            return [row.copy() if type(row) is _ndarray and not row.dtype.hasobject else kept(row) for row in inputs]
        chance, cut = self._random, thinning.cut
        return [thinning if chance() < cut else Thinned(cut, kept(row)) for row in inputs]

    def record_failure(self, event: FailureEvent) -> None:
        rare = Rare(event.arm, event.key, str(event.kind))
        seconds = event.timestamp.timestamp()
        self._append_failure(
            (
                event.prediction_id,
                event.model_version,
                self._kept(event.input),
                None,
                event.processing_time_ms,
                seconds,
                None,
                rare,
            )
        )

    def record_prediction_error(self, kind: str, version_id: str | None) -> None:
        self._append_failure(("", version_id, None, None, 0.0, self._timestamp(), None, Rare(kind=str(kind))))

    def _append_failure(self, row: tuple[Any, ...]) -> None:
        self._buffer.extend(row)
        if len(self._buffer) >= _FOLD_AT:
            self._fold_unless_busy()

    @override
    def record_outcome(self, prediction_id: str, actual: Any) -> None:
        self._outcome_buffer.append((prediction_id, self._kept(actual), self._timestamp()))
        if len(self._outcome_buffer) >= FOLD_EVERY:
            self._fold_unless_busy()

    def _fold_unless_busy(self) -> None:
        # A reader that holds the lock folds the next time; the request does not wait for it.
        is_behind = len(self._buffer) >= _WAIT_AT or self._rows_in_blocks >= _WAIT_AT // ROW
        if self._lock.acquire(blocking=is_behind):
            try:
                self._fold()
            finally:
                self._lock.release()

    def _fold(self) -> None:
        # Outcomes are taken out first: each one's prediction was appended before it, so it is in the buffer below.
        outcomes = _drained(self._outcome_buffer)
        self._rows_in_blocks = 0
        columns = _columns_of(_drained(self._buffer))
        for start in range(0, len(columns[0]), self._block):
            self._ledger.fold_requests([column[start : start + self._block] for column in columns])
        if outcomes:
            self._ledger.fold_outcomes(outcomes)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()


def _columns_of(flat: list[Any]) -> list[list[Any]]:
    """The columns of what waits, in the order in which it came."""
    firsts = flat[::ROW]
    if _Block not in set(map(type, firsts)):
        return [flat[column::ROW] for column in range(ROW)]
    columns: list[list[Any]] = [[] for _ in range(ROW)]
    begin = 0
    for place, first in enumerate(firsts):
        if type(first) is _Block:
            for number, (column, values) in enumerate(zip(columns, first.columns, strict=True)):
                column += flat[begin * ROW + number : place * ROW : ROW]
                column += values
            begin = place + 1
    for number, column in enumerate(columns):
        column += flat[begin * ROW + number :: ROW]
    return columns


def _drained(buffer: list[Any]) -> list[Any]:
    # As many as there were when it began: others go on appending.
    taken = buffer[:]
    del buffer[: len(taken)]
    return taken
