"""The recording half of a monitor in memory: requests wait in a buffer, and are folded together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from mlserve._forking import renew_after_fork
from mlserve.errors import InvalidArgumentError
from mlserve.monitors._columns import Rare, Repeated, RequestColumns, is_given_away
from mlserve.monitors._copying import IMMUTABLE, Copier
from mlserve.monitors._kept import Dropped, KeptInputs, Thinned, compact, is_table
from mlserve.monitors._ledger import Ledger
from mlserve.protocols import BlockMonitor, DeferringMonitor, LabelledMonitor
from mlserve.records import FailureEvent, PredictionEvent

ROW = 8
"""Values of a request as it waits to be counted: id, version, input, output, milliseconds, seconds since 1970, the
confidence or None, and what is rare."""

FOLD_EVERY = 1024
"""Requests that wait to be counted, at most; few enough that folding them takes less than a millisecond."""

NOT_THINNED = Dropped(0.0, float("-inf"))
"""Stands for a version all of whose inputs are kept."""

COLUMNS_FROM = 32
"""Requests that come together, from which on they are kept as columns; fewer are cheaper one by one."""

BLOCK_COLUMNS = ("inputs", "outputs", "processing_times_ms", "confidences", "arms", "keys")
"""Arguments of ``record_block`` that have one value for each prediction."""

_FOLD_AT = FOLD_EVERY * ROW
_WAIT_AT = 8 * _FOLD_AT
"""From here on a request waits for whoever folds: many threads append faster than one of them can fold, without end;
the later they wait, the longer."""
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
        # Of those in the buffer that are columns; nearly, for no lock is taken to count them.
        self._rows_in_columns = 0
        self._outcome_buffer: list[tuple[str, Any, float]] = []
        self._copier = Copier()
        self._kept = self._copier.copy
        import random  # hashes and all: a monitor's own, and nobody else's who imports this

        self._random = random.Random(seed).random
        self._seed = seed
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
        given = (inputs, outputs, processing_times_ms, confidences, arms, keys)
        for name, values in zip(BLOCK_COLUMNS, given, strict=True):
            if values is not None and len(values) != count:
                raise InvalidArgumentError(name, f"{len(values)} values", f"{count}, one for each prediction")
        if count <= self._block:
            self._take_in(model_version, timestamp, prediction_ids, *given)
            return
        for start in range(0, count, self._block):
            part = slice(start, start + self._block)
            columns = (None if column is None else column[part] for column in given)
            self._take_in(model_version, timestamp, prediction_ids[part], *columns)

    def _take_in(self, model_version: str, timestamp: float, ids: Sequence[str], *columns: Any) -> None:
        count = len(ids)
        if count >= COLUMNS_FROM:
            try:
                together = self._together(model_version, timestamp, ids, *columns)
            except (TypeError, ValueError, OverflowError):
                pass  # the row at fault is found, and counted, when they are folded one by one
            else:
                self._rows_in_columns += count
                self._buffer.extend((together, None, None, None, None, None, None, None))
                if self._rows_in_columns >= FOLD_EVERY or len(self._buffer) >= _FOLD_AT:
                    self._fold_unless_busy()
                return
        nothing = [None] * count
        rows = zip(ids, *(nothing if column is None else column for column in columns), strict=True)
        for prediction_id, input, output, latency, confidence, arm, key in rows:
            self.defer_prediction(prediction_id, model_version, input, output, latency, timestamp, confidence, arm, key)

    def _together(
        self,
        model_version: str,
        timestamp: float,
        ids: Sequence[str],
        inputs: Any,
        outputs: Any,
        latencies: Any,
        confidences: Any,
        arms: Any,
        keys: Any,
    ) -> RequestColumns:
        count = len(ids)
        nothing: Repeated[None] = Repeated(None, count)
        rare: Sequence[tuple[Any, ...] | None] = nothing
        if arms is not None or keys is not None:
            pairs = zip(nothing if arms is None else arms, nothing if keys is None else keys, strict=True)
            rare = [None if arm is None and key is None else (arm, key, None) for arm, key in pairs]
        return RequestColumns.of(
            ids,
            Repeated(model_version, count),
            self._kept_inputs(model_version, inputs, timestamp),
            self._kept_outputs(outputs),
            latencies,
            Repeated(float(timestamp), count),
            nothing if confidences is None else confidences,
            rare,
        )

    def _kept_inputs(self, model_version: str, inputs: Any, timestamp: float) -> KeptInputs:
        count = len(inputs)
        if is_table(inputs) and is_given_away(inputs):
            return KeptInputs(count, inputs)  # it costs nothing to keep all until they are folded
        thinning = self._thinning.get(model_version) if self._thinning else None
        if thinning is None or timestamp >= thinning.until:
            return KeptInputs(count, self._compact(inputs))
        cut = thinning.cut
        rows = np.flatnonzero(self._rng.random(count) >= cut)
        kept = self._compact(inputs[rows] if isinstance(inputs, _ndarray) else [inputs[row] for row in rows.tolist()])
        return KeptInputs(count, kept, rows, np.full(rows.size, cut), cut)

    def _compact(self, inputs: Any) -> npt.NDArray[Any]:
        values = compact(inputs)
        # A table is a copy already.
        return values if values.ndim > 1 else np.fromiter(map(self._kept, inputs), object, len(inputs))

    def _kept_outputs(self, outputs: Any) -> Any:
        if type(outputs) is _ndarray and outputs.ndim == 1 and not outputs.dtype.hasobject:
            return outputs if is_given_away(outputs) else outputs.copy()
        return list(outputs if IMMUTABLE.issuperset(map(type, outputs)) else map(self._kept, outputs))

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
        is_behind = len(self._buffer) >= _WAIT_AT or self._rows_in_columns >= _WAIT_AT // ROW
        if self._lock.acquire(blocking=is_behind):
            try:
                self._fold()
            finally:
                self._lock.release()

    def _fold(self) -> None:
        # Outcomes are taken out first: each one's prediction was appended before it, so it is in the buffer below.
        outcomes = _drained(self._outcome_buffer)
        self._rows_in_columns = 0
        for columns in _grouped(self._parts(_drained(self._buffer)), self._block):
            self._ledger.fold_requests(columns)
        if outcomes:
            self._ledger.fold_outcomes(outcomes)

    def _thinned(self, block: RequestColumns) -> RequestColumns:
        """A block of predictions without most of its inputs, where it came in a burst and all were kept until now."""
        inputs = block.inputs
        if self._thinning and inputs.rows is None:
            thinning = self._thinning.get(str(block.version_ids[0]), NOT_THINNED)
            if block.seconds[0] < thinning.until:
                rows = np.flatnonzero(self._rng.random(len(inputs)) >= thinning.cut)
                block.inputs = inputs.thinned(rows, thinning.cut)
        return block

    def _parts(self, flat: list[Any]) -> Iterator[RequestColumns]:
        """What waits as columns, in the order in which it came, none longer than a block."""
        firsts = flat[::ROW]
        begin = 0
        if RequestColumns in set(map(type, firsts)):
            for place, first in enumerate(firsts):
                if type(first) is RequestColumns:
                    yield from self._columns_of(flat[begin * ROW : place * ROW])
                    yield self._thinned(first)
                    begin = place + 1
        yield from self._columns_of(flat[begin * ROW :])

    def _columns_of(self, flat: list[Any]) -> Iterator[RequestColumns]:
        """Requests that came one by one."""
        step = self._block * ROW
        for start in range(0, len(flat), step):
            try:
                yield RequestColumns.of(*(flat[start + column : start + step : ROW] for column in range(ROW)))
            except (TypeError, ValueError, OverflowError):
                # Some value is nothing of its kind. Alone it is dropped; the others are counted.
                if len(flat) == ROW:
                    self._ledger.drop(1)
                    return
                for row in range(start, min(start + step, len(flat)), ROW):
                    yield from self._columns_of(flat[row : row + ROW])

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        # It has a lock of its own.
        self._rng = np.random.default_rng([self._seed, 1])  # not the numbers that the ledger draws


def _grouped(parts: Iterable[RequestColumns], most: int) -> Iterator[RequestColumns]:
    """The same joined, as far as no more rows come together."""
    group: list[RequestColumns] = []
    count = 0
    for part in parts:
        if count + len(part) > most and group:
            yield RequestColumns.joined(group)
            group, count = [], 0
        group.append(part)
        count += len(part)
    if group:
        yield RequestColumns.joined(group)


def _drained(buffer: list[Any]) -> list[Any]:
    # As many as there were when it began: others go on appending.
    taken = buffer[:]
    del buffer[: len(taken)]
    return taken
