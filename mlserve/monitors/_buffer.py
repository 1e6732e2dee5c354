"""The recording half of a monitor in memory: requests wait in a buffer, and are folded together."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from itertools import chain, repeat
from typing import Any

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

FOLD_EVERY = 512
"""Requests that wait to be counted, at most; few enough that folding them takes a fraction of a millisecond."""

_FOLD_AT = FOLD_EVERY * ROW
_WAIT_AT = 64 * _FOLD_AT
"""From here on a request waits for whoever folds: many threads append faster than one of them can fold, without end."""
_ndarray = np.ndarray


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
        rows: Sequence[tuple[str, Any, Any, float, str | None, str | None]],
        timestamp: float,
        confidences: Sequence[float | None] | None,
    ) -> None:
        if not rows:
            return
        told = [None] * len(rows) if confidences is None else confidences
        if len(told) != len(rows):
            raise InvalidArgumentError("confidences", f"{len(told)} values", f"{len(rows)}, one for each row, or None")
        if self._thinning:
            for (prediction_id, input, output, took_ms, arm, key), confidence in zip(rows, told, strict=True):
                self.defer_prediction(
                    prediction_id, model_version, input, output, took_ms, timestamp, confidence, arm, key
                )
            return
        ids, inputs, outputs, latencies, arms, keys = zip(*rows, strict=True)
        kept = self._kept
        columns = (
            ids,
            repeat(model_version),
            [row.copy() if type(row) is _ndarray and not row.dtype.hasobject else kept(row) for row in inputs],
            outputs if IMMUTABLE.issuperset(map(type, outputs)) else list(map(kept, outputs)),
            latencies,
            repeat(timestamp),
            told,
            [None if arm is None and key is None else (arm, key, None) for arm, key in zip(arms, keys, strict=True)],
        )
        # Built first: only a list is taken in at once, whatever other threads append meanwhile.
        self._buffer.extend(list(chain.from_iterable(zip(*columns, strict=False))))
        if len(self._buffer) >= _FOLD_AT:
            self._fold_unless_busy()

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
        if self._lock.acquire(blocking=len(self._buffer) >= _WAIT_AT):
            try:
                self._fold()
            finally:
                self._lock.release()

    def _fold(self) -> None:
        # Outcomes are taken out first: each one's prediction was appended before it, so it is in the buffer below.
        outcomes = _drained(self._outcome_buffer)
        rows = _drained(self._buffer)
        for start in range(0, len(rows), self._block * ROW):
            self._ledger.fold_requests(rows[start : start + self._block * ROW])
        if outcomes:
            self._ledger.fold_outcomes(outcomes)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()


def _drained(buffer: list[Any]) -> list[Any]:
    # As many as there were when it began: others go on appending.
    taken = buffer[:]
    del buffer[: len(taken)]
    return taken
