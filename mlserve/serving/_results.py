"""What requests came to: counted, recorded, and handed to the caller."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Any, final

import numpy as np
import numpy.typing as npt

from mlserve._counting import Tally
from mlserve._logs import LazyLogger
from mlserve.errors import ErrorKind, OverloadedError, ServingError
from mlserve.records import ModelVersion, ServingResult
from mlserve.records._serving import DraftResult, build_result
from mlserve.serving._answers import Answers
from mlserve.serving._loaded import LoadedVersion
from mlserve.serving._recording import Recorder
from mlserve.serving._validation import translated

if TYPE_CHECKING:
    from concurrent.futures import Future

    from mlserve.serving._pool import ServerThreads
    from mlserve.serving._requests import Request

_log = LazyLogger(__name__)

_blank = object.__new__

InTime = Callable[[Callable[[], None]], None]
"""Tells the monitor something without waiting for it longer than a request may."""

LEFT_SHARE = 0.5
"""Of the time that a request with a deadline has left, what it waits for a monitor, at most."""

GRACE_SECONDS = 0.05
"""How long a request that is late waits for a monitor: long enough for any that does not hang, so that a caller who
looks finds what was recorded."""

EXPECTED = frozenset({ErrorKind.Overloaded, ErrorKind.CircuitOpen})
"""Refusals under load or in an outage: to log each as an error, with its traceback, would cost more than answering."""


@final
class Results:
    """Makes the results of one server.

    *Thread safety*: yes.

    Args:
        name: Begins every prediction id.
        recorder: Where predictions and failures are recorded.
        failed_version: The version of an id whose model could not be loaded, if there is one.
        monotonic: Tells seconds.
        timestamp: Tells seconds since 1970.
        threads: Where a monitor is told that may not be waited for.

    Attributes:
        monitor_pace: How long the monitor takes; None where nobody has to wait for it.
    """

    def __init__(
        self,
        name: str,
        recorder: Recorder,
        failed_version: Callable[[str | None], ModelVersion | None],
        monotonic: Callable[[], float],
        timestamp: Callable[[], float],
        threads: ServerThreads,
    ) -> None:
        self._threads = threads
        # What a request stopped waiting for: while the monitor has not done it, nobody else waits for the monitor.
        self._behind: Future[None] | None = None
        self._name = name
        self._recorder = recorder
        self.monitor_pace = recorder.pace
        self._failed_version = failed_version
        self._monotonic = monotonic
        self._timestamp = timestamp
        self.begin()

    def begin(self) -> None:
        """Count from nothing, with ids that no other process gives."""
        self.id_prefix = f"{self._name}-{os.urandom(6).hex()}-"
        self.accepted, self.failed, self.cancelled = Tally(), Tally(), Tally()
        self.shed, self.degraded, self.timed_out = Tally(), Tally(), Tally()

    def new_id(self) -> str:
        """The id of a request, which is counted as accepted."""
        return self.id_of(self.accepted.next())

    def id_of(self, number: int) -> str:
        """The id of the request that was counted as this one."""
        return f"{self.id_prefix}{number}"

    def succeeded(
        self,
        loaded: LoadedVersion,
        input: Any,
        value: Any,
        started: float,
        prediction_id: str,
        key: str | None,
        arm: str | None = None,
        degraded: str | None = None,
        in_time: InTime | None = None,
    ) -> ServingResult[Any]:
        """Record an answer as the model gave it; with ``in_time`` as that does it."""
        elapsed_ms = (self._monotonic() - started) * 1000.0
        confidence = None
        if loaded.has_confidence:
            value, confidence = value
        told = (prediction_id, loaded.id, input, value, elapsed_ms, self._timestamp(), confidence, arm, key)
        self._tell(self._recorder.prediction, told, in_time)
        return build_result(True, value, None, loaded.version, elapsed_ms, prediction_id, arm, degraded)

    def succeeded_many(
        self, loaded: LoadedVersion, requests: Sequence[Request], answers: Answers, on_loop: bool = False
    ) -> list[ServingResult[Any]]:
        """Record answers that one version gave together; on an event loop, where the monitor is known to be quick."""
        results = list(
            self.answered(
                loaded,
                [request.prediction_id for request in requests],
                [request.input for request in requests],
                np.array([request.started for request in requests]),
                answers,
                [request.arm for request in requests],
                [request.key for request in requests],
                None if on_loop else self.in_time(requests),
            )
        )
        for request, result in zip(requests, results, strict=True):
            request.result = result
        return results

    def answered(
        self,
        loaded: LoadedVersion,
        ids: Sequence[str],
        inputs: Sequence[Any],
        started: npt.NDArray[np.float64],
        answers: Answers,
        arms: Sequence[str | None] | None = None,
        keys: Sequence[str | None] | None = None,
        in_time: InTime | None = None,
    ) -> Iterable[ServingResult[Any]]:
        """The same of requests that come as columns. Each result is made as it is asked for, where its caller is.

        Args:
            loaded: The version.
            ids: Of the predictions.
            inputs: What was asked; an array is nobody else's.
            started: When they came, monotonic seconds.
            answers: What was answered; nobody else's.
            arms: The arms they fall in; None for none.
            keys: What they were routed by; None for nothing.
            in_time: As in ``succeeded``.
        """
        elapsed_ms, values = (self._monotonic() - started) * 1000.0, answers.values
        for column in (inputs, values, elapsed_ms, answers.confidences):
            if isinstance(column, np.ndarray):
                column.setflags(write=False)  # a monitor may keep it as it is
        told = (loaded.id, ids, inputs, values, elapsed_ms, self._timestamp(), answers.confidences, arms, keys)
        self._tell(self._recorder.block, told, in_time)
        return _successes(loaded.version, values, ids, elapsed_ms.tolist(), repeat(None) if arms is None else arms)

    def in_time(self, requests: Sequence[Request]) -> InTime | None:
        """How the monitor is told of requests, where some have a deadline and it might be waited for; else None."""
        if self.monitor_pace is None:
            return None
        if any(request.is_unheard for request in requests):
            return _not_recorded
        deadlines = [request.deadline for request in requests if request.deadline is not None]
        return partial(self._record_in_time, min(deadlines)) if deadlines else None

    def _record_in_time(self, deadline: float, record: Callable[[], None]) -> None:
        future = self._threads.recording.submit(record)
        behind, left = self._behind, deadline - self._monotonic()
        try:
            if behind is None or behind.done():
                future.result(left * LEFT_SHARE if left > 0 else GRACE_SECONDS)
                return
        except TimeoutError:
            if future.done():
                raise  # the monitor's own
            self._behind = future
        finally:
            del future, behind  # an exception's traceback would keep them, and they it
        raise TimeoutError("the monitor takes longer than the requests may; it goes on")

    def _tell(self, tell: Callable[..., None], told: tuple[Any, ...], in_time: InTime | None) -> None:
        try:
            if in_time is None:
                tell(*told)
            else:
                in_time(lambda: tell(*told))
        except Exception as error:
            self._recorder.failed(error)

    def failure(
        self,
        exception: Exception,
        loaded: LoadedVersion | None,
        input: Any,
        started: float,
        prediction_id: str,
        key: str | None,
        arm: str | None = None,
        in_time: InTime | None = None,
    ) -> ServingError:
        """Log and record why a request failed; with ``in_time`` as that does it."""
        elapsed_ms = (self._monotonic() - started) * 1000.0
        version_id = None if loaded is None else loaded.id
        error = translated(exception, version_id)
        if error.kind.is_caller_fault or error.kind in EXPECTED:
            _log.info("prediction %s failed: %s", prediction_id, error.message)
        elif error.kind is ErrorKind.DeadlineExceeded:
            # Where in our own code it was noticed tells nothing, and many may be late at once.
            _log.warning("prediction %s failed: %s", prediction_id, error.message)
        else:
            _log.error("prediction %s failed: %s", prediction_id, error.message, exc_info=exception)
        error.forget_traceback()
        told = (prediction_id, version_id or error.version_id, input, error.kind.value, elapsed_ms, key, arm)
        self._tell(self._recorder.failure, told, in_time)
        return error

    def fail(
        self,
        exception: Exception,
        loaded: LoadedVersion | None,
        input: Any,
        started: float,
        prediction_id: str,
        key: str | None,
        arm: str | None = None,
        in_time: InTime | None = None,
    ) -> ServingResult[Any]:
        """Log, record and count why a request failed."""
        error = self.failure(exception, loaded, input, started, prediction_id, key, arm, in_time)
        return self.failed_result(error, loaded, started, prediction_id, arm)

    def failed_result(
        self,
        error: ServingError,
        loaded: LoadedVersion | None,
        started: float,
        prediction_id: str,
        arm: str | None = None,
    ) -> ServingResult[Any]:
        """A failed result, counted."""
        if error.kind is ErrorKind.Overloaded:
            self.shed.next()
        else:
            self.failed.next()
        if error.kind is ErrorKind.DeadlineExceeded:
            self.timed_out.next()
        elapsed_ms = (self._monotonic() - started) * 1000.0
        version = loaded.version if loaded is not None else self._failed_version(error.version_id)
        return build_result(False, None, error, version, elapsed_ms, prediction_id, arm, None)


def _not_recorded(_record: Callable[[], None]) -> None:
    raise OverloadedError("too much waits for the monitor: this was not recorded.", hint="See why it takes so long.")


def _successes(
    version: ModelVersion,
    values: Sequence[Any],
    ids: Sequence[str],
    took_ms: Sequence[float],
    arms: Iterable[str | None],
) -> Iterator[Any]:
    for value, prediction_id, elapsed_ms, arm in zip(values, ids, took_ms, arms, strict=False):
        # As in ``ModelServer.predict``: what build_result does, without its call.
        result: Any = _blank(DraftResult)
        # One by one: more than three at once are packed into a tuple first, which takes an eighth longer.
        result.success = True
        result.value = value
        result.error = result.degraded = None
        result.version = version
        result.processing_time_ms = elapsed_ms
        result.prediction_id = prediction_id
        result.arm = arm
        result.__class__ = ServingResult
        yield result
