"""One batch through the model: answered together, and apart where that fails."""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, final

import numpy as np

from mlserve._rendering import described
from mlserve.serving._answers import Answers
from mlserve.serving._asked import Asked, Columns
from mlserve.serving._lanes import Lane
from mlserve.serving._loaded import LoadedVersion
from mlserve.serving._requests import Request, Told, told
from mlserve.serving._results import Results
from mlserve.serving._tables import NoTableError
from mlserve.serving._validation import translated

if TYPE_CHECKING:
    import asyncio

SHORT_BYTES = 1024
"""Of a row that is copied whether or not a monitor keeps it."""


@final
class BatchAnswers:
    """Has models answer batches, and learns how long they take.

    *Thread safety*: yes, but that concurrent batches may be missed in the counts.

    Args:
        monotonic: Tells seconds.
        results: Records the answers of a batch together.

    Attributes:
        batches: Calls of models with more than one request.
        batched: Requests in them.
    """

    def __init__(self, monotonic: Callable[[], float], results: Results) -> None:
        self._monotonic = monotonic
        self._results = results
        self.batches = 0
        self.batched = 0

    def answer(self, lane: Lane, requests: Sequence[Request], on_loop: bool) -> None:
        """Answer checked requests, on an event loop or on a thread."""
        loaded = lane.loaded
        begun, computed = self._monotonic(), time.thread_time()
        try:
            if len(requests) == 1:
                (alone,) = requests
                alone.value = _in_context(alone, loaded.call, alone.checked)
                alone.is_answered = True
                self.learn(lane, 1, begun, computed, on_loop)
                return
            answers = self.called(loaded, [request.checked for request in requests])
        except KeyboardInterrupt:
            raise  # meant for the thread that runs the batch
        except BaseException as exception:  # SystemExit too: the thread that runs the batch may be anybody's
            self.answer_apart(lane, requests, exception, on_loop)
            return
        self.learn(lane, len(requests), begun, computed, on_loop)
        # Recorded together; a caller who went away meanwhile is not recorded.
        if any(request.is_gone for request in requests):
            kept = [row for row, request in enumerate(requests) if not request.is_gone]
            requests, answers = [requests[row] for row in kept], answers.only(kept)
        if requests:
            self._results.succeeded_many(loaded, requests, answers, on_loop)

    def answer_rows(
        self, lane: Lane, asked: Asked, here: asyncio.AbstractEventLoop | None, most: int, all_told: list[Told]
    ) -> None:
        """Answer at least one request, by as many calls of the model as they are batches.

        Args:
            lane: Their queue.
            asked: The requests, not checked yet, or long ago.
            here: The event loop that runs this, or None on a thread.
            most: Requests in a batch, at most.
            all_told: Takes what the callers are told as it becomes known, also where this raises.
        """
        rest: Asked | None = asked
        while rest is not None:
            rest = self._answer_until_one_fails(lane, rest, here, most, all_told)

    def _answer_until_one_fails(
        self, lane: Lane, asked: Asked, here: asyncio.AbstractEventLoop | None, most: int, all_told: list[Told]
    ) -> Asked | None:
        """Answer batches until one of them fails, and that; what is left of the requests, or None."""
        loaded, columns = lane.loaded, asked.columns
        together = None
        if len(asked) > 1:  # one alone is answered in its caller's context
            together = valid_together(loaded, columns.inputs) if asked.together is None else asked.together
        if together is None and len(asked) <= most:
            requests = asked.requests(Request.check)
            valid = [request for request in requests if request.error is None]
            if valid:
                self.answer(lane, valid, here is not None)
            all_told.append(told(requests))
            return None
        if together is None:  # the others are checked one by one only where a batch is theirs and that input's
            for start in range(0, len(asked), most):
                self.answer_rows(lane, asked.between(start, start + most), here, most, all_told)
            return None
        kept = _copied(together)
        parts: list[Answers] = []
        failed: BaseException | None = None
        for start in range(0, len(asked), most):
            begun, computed = self._monotonic(), time.thread_time()
            try:
                parts.append(self.called(loaded, together[start : start + most]))
            except BaseException as exception:
                failed = exception
                break
            self.learn(lane, min(most, len(asked) - start), begun, computed, here is not None)
        count = min(len(parts) * most, len(asked))
        if count:
            answered = columns
            if count < len(asked):
                answered, kept = columns.between(0, count), None if kept is None else kept[:count]
            answers = Answers.joined(parts)
            if asked.loop is None or asked.loop is not here:
                answered, kept, answers = _still_there(answered, kept, answers)
            if len(answers):
                results = self._recorded(loaded, answered, kept, answers)
                # What threads are told is made before they are woken: nothing may go wrong in between.
                all_told.append((answered.futures, list(results) if asked.loop is None else results))
        if failed is None:
            return None
        if isinstance(failed, KeyboardInterrupt):
            raise failed  # meant for the thread that runs the batch
        requests = asked.between(count, count + most).requests(Request.check)
        self.answer_apart(lane, requests, failed, here is not None)
        all_told.append(told(requests))
        return asked.between(count + most, len(asked)) if count + most < len(asked) else None

    def _recorded(self, loaded: LoadedVersion, columns: Columns, kept: Any, answers: Answers) -> Iterable[Any]:
        inputs = columns.inputs if kept is None else kept
        return self._results.answered(loaded, columns.ids, inputs, columns.started, answers, keys=columns.keys)

    def called(self, loaded: LoadedVersion, inputs: Any) -> Answers:
        """What one call of the model answers to several inputs, or to their table."""
        self.batches += 1
        self.batched += len(inputs)
        call_many = loaded.adapter.call_many
        assert call_many is not None  # else nothing is queued
        # In no caller's context: what one of them has set is not the others'.
        return contextvars.Context().run(call_many, inputs)

    def answer_apart(self, lane: Lane, requests: Sequence[Request], exception: BaseException, on_loop: bool) -> None:
        """A batch failed: find the input at fault, where the model may be called again; else all of it fails."""
        loaded = lane.loaded
        if not isinstance(exception, Exception):
            for request in requests:
                interrupt(request, exception)
            return
        if len(requests) > 1 and (loaded.adapter.is_pure or isinstance(exception, NoTableError)):
            middle = len(requests) // 2
            self.answer(lane, requests[:middle], on_loop)
            self.answer(lane, requests[middle:], on_loop)
            return
        for request in requests:
            error = translated(exception, loaded.id)
            request.error = error if len(requests) == 1 else error.copy()
            request.is_answered = True

    def learn(self, lane: Lane, size: int, begun: float, computed: float, on_loop: bool) -> None:
        """How long a call of the model took that began then, by the clock and by what its thread had computed."""
        took_ms, computed_ms = (self._monotonic() - begun) * 1000.0, (time.thread_time() - computed) * 1000.0
        lane.learn(size, took_ms, computed_ms, on_loop)


def _copied(table: Any) -> Any:
    """A copy of a table of short rows, which is recorded sooner than its rows are; None of anything else."""
    return table.copy() if isinstance(table, np.ndarray) and table.nbytes <= SHORT_BYTES * len(table) else None


def _still_there(columns: Columns, kept: Any, answers: Answers) -> tuple[Columns, Any, Answers]:
    """The same without callers who went away while the model was called on another thread: they are not recorded."""
    gone = [future.cancelled() for future in columns.futures]
    if True not in gone:
        return columns, kept, answers
    stayed = [place for place, is_gone in enumerate(gone) if not is_gone]
    return columns.only(stayed), None if kept is None else kept[stayed], answers.only(stayed)


def valid_together(loaded: LoadedVersion, inputs: Sequence[Any]) -> Any:
    """What the model is given for several inputs, where a glance tells that all are valid; else None."""
    if loaded.check_table is not None:
        return loaded.check_table(inputs)
    return None if any(input is None for input in inputs) else list(inputs)


def _in_context(request: Request, call: Callable[[Any], Any], input: Any) -> Any:
    """Call in the caller's context, not in that of whoever runs the batch."""
    context = contextvars.Context() if request.context is None else request.context
    return context.run(call, input)


def interrupt(request: Request, exception: BaseException | None = None) -> None:
    """Fail a request whose batch was left by an exception that is no error: its caller must not wait for ever."""
    loaded = request.loaded
    if not request.is_answered and loaded is not None:
        by = "" if exception is None else f" by {described(exception)}"
        request.error, request.is_answered = translated(RuntimeError(f"the batch was interrupted{by}"), loaded.id), True
