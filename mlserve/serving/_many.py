"""Many inputs by one call: checked one by one, answered together, at fault alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any, final

import numpy as np

from mlserve.errors import InvalidArgumentError, OverloadedError
from mlserve.records import ModelVersion, ServingResult
from mlserve.serving._answers import Answers
from mlserve.serving._finding import Acquire
from mlserve.serving._gathering import Gathering, Home
from mlserve.serving._guarded import GuardedPath
from mlserve.serving._guards import Guards
from mlserve.serving._loaded import LoadedVersion
from mlserve.serving._requests import Request, too_late
from mlserve.serving._results import Results
from mlserve.serving._tables import NoTableError, by_position, is_frame
from mlserve.serving._validation import checked, translated


@final
class ManyPath:
    """Answers many inputs for one caller.

    *Thread safety*: yes.

    Args:
        guarded: The path of single requests, whose guards and fallbacks hold here too.
        acquire: Gives a version, loaded.
        results: What requests came to.
        monotonic: Tells seconds.
        gathering: Awaits coroutine models.
    """

    def __init__(
        self,
        guarded: GuardedPath,
        acquire: Acquire,
        results: Results,
        monotonic: Callable[[], float],
        gathering: Gathering,
    ) -> None:
        self._guarded = guarded
        self._guards: Guards = guarded.guards
        self._acquire = acquire
        self._results = results
        self._monotonic = monotonic
        self._gathering = gathering

    def predict_many(
        self,
        inputs: Any,
        version: ModelVersion | str | None,
        key: str | None,
        timeout_ms: float | None,
        home: Home | None = None,
        started: float | None = None,
    ) -> list[ServingResult[Any]]:
        """As ``ModelServer.predict_many``; coroutine models run at a home, and time counts from when it was asked for,
        where these are given.
        """
        items = items_of(inputs)
        if not items:
            return []
        started = self._monotonic() if started is None else started
        deadline = self._guards.deadline(started, timeout_ms)
        requests = [Request(item, self._results.new_id(), started) for item in items]
        whole = Request(inputs, requests[0].prediction_id, started)
        whole.count = len(items)
        if home is not None:
            home.whole = whole
        for request in (whole, *requests):
            request.version, request.key, request.deadline, request.home = version, key, deadline, home
        try:
            self._guards.admit(whole)
        except Exception as error:
            return self._refused(requests, error)
        finished: list[ServingResult[Any]] = []
        try:
            outcomes = self._outcomes(whole, requests)
            if home is not None and home.is_left:
                raise CancelledError
            return self._told(requests, outcomes, finished)
        except BaseException:
            for _ in requests[len(finished) :]:
                self._results.cancelled.next()
            raise
        finally:
            self._guards.let_go(whole)

    async def apredict_many(
        self, inputs: Any, version: ModelVersion | str | None, key: str | None, timeout_ms: float | None
    ) -> list[ServingResult[Any]]:
        """As ``ModelServer.apredict_many``."""
        import asyncio

        home, started = Home(asyncio.get_running_loop()), self._monotonic()
        deadline = self._guards.deadline(started, timeout_ms)
        try:
            future = self._guards.threads.waiting.submit(
                lambda: self.predict_many(inputs, version, key, timeout_ms, home, started)
            )
        except OverloadedError as error:
            return await self._arefused(inputs, started, deadline, key, error)
        waiting = asyncio.wrap_future(future)
        try:
            if deadline is not None:
                await asyncio.wait([waiting], timeout=max(0.0, deadline - self._monotonic()))
                if future.cancel():  # no thread has begun with it; one that has keeps the time limit itself
                    whole = Request(inputs, "", started)
                    whole.deadline = deadline
                    return await self._arefused(inputs, started, deadline, key, too_late(whole))
            return await waiting
        except asyncio.CancelledError:
            home.leave()
            waiting.cancel()
            raise

    async def _arefused(
        self, inputs: Any, started: float, deadline: float | None, key: str | None, error: Exception
    ) -> list[ServingResult[Any]]:
        refused = []
        for item in items_of(inputs):
            request = Request(item, self._results.new_id(), started)
            request.deadline, request.key = deadline, key
            try:
                refused.append(await self._guarded.afailed(request, translated(error, None).copy()))
            except BaseException:
                self._results.cancelled.next()
                raise
        return refused

    def _refused(self, requests: Sequence[Request], error: Exception) -> list[ServingResult[Any]]:
        return [self._guarded.failed(request, translated(error, None).copy()) for request in requests]

    def _outcomes(self, whole: Request, requests: Sequence[Request]) -> list[Any]:
        """For each request its answer, or the exception that stands for it."""
        try:
            loaded = self._guards.finding.found(whole, self._acquire)
        except Exception as error:
            return [translated(error, None).copy() for _ in requests]
        whole.loaded, holds = loaded, loaded.holds
        holds.append(whole)
        try:
            for request in requests:
                request.loaded, request.arm = loaded, whole.arm
            if loaded.takes_positions and is_frame(whole.input):
                _go_by_position(whole.input, requests)
            try:
                faults = self._guards.check(loaded, whole, lambda: _checked_each(loaded, requests))
            except Exception as error:  # the validator, or a thread for it, is too late
                return [translated(error, loaded.id).copy() for _ in requests]
            good = [row for row, fault in enumerate(faults) if fault is None]
            outcomes = list(faults)
            if good:
                answers = self._answers(loaded, whole, [requests[row] for row in good], len(good) == len(requests))
                for row, answer in zip(good, answers, strict=True):
                    outcomes[row] = answer
        finally:
            holds.remove(whole)
            self._guards.sweep_if_evicting(loaded)
        return outcomes

    def _answers(self, loaded: LoadedVersion, whole: Request, requests: Sequence[Request], is_all: bool) -> list[Any]:
        inputs: Any = [request.checked for request in requests]
        if is_all and all(request.checked is request.input for request in requests):
            inputs = _as_table(whole.input, loaded, inputs)
        try:
            permit, begun = self._guards.enter(loaded), self._monotonic()
        except Exception as error:
            return [translated(error, loaded.id).copy() for _ in requests]
        problem: BaseException | None = None
        try:
            answers = self._guards.in_time(whole, lambda: self._called(loaded, whole, inputs), loaded)
            problem = next((answer for answer in answers if isinstance(answer, Exception)), None)
            return answers
        except Exception as error:
            problem = error
            return [translated(error, loaded.id).copy() for _ in requests]
        except BaseException as error:
            problem = error
            raise
        finally:
            self._guards.leave(loaded, permit, begun, problem)
            problem = None

    def _called(self, loaded: LoadedVersion, whole: Request, inputs: Any) -> list[Any]:
        """Answers or exceptions, by as few calls of the model as faults allow."""
        count, adapter = len(inputs), loaded.adapter
        if whole.deadline is not None and self._monotonic() >= whole.deadline:
            return [too_late(whole) for _ in range(count)]
        if loaded.is_async:
            return self._gathering.outcomes(loaded, whole, _each(inputs))
        if adapter.call_many is None or count == 1:
            return [self._one(loaded, whole, input) for input in _each(inputs)]
        try:
            answers: Answers = self._guards.call_held(loaded, inputs, whole, adapter.call_many)
            return answers.each()
        except Exception as error:
            # A table that cannot even be made was never shown to the model.
            if not adapter.is_pure and not isinstance(error, NoTableError):
                return [translated(error, loaded.id).copy() for _ in range(count)]
        middle = count // 2
        listed = _each(inputs)
        return self._called(loaded, whole, listed[:middle]) + self._called(loaded, whole, listed[middle:])

    def _one(self, loaded: LoadedVersion, whole: Request, input: Any) -> Any:
        try:
            if whole.deadline is not None and self._monotonic() >= whole.deadline:
                return too_late(whole)
            return self._guards.call_held(loaded, input, whole)
        except Exception as error:
            return error

    def _told(
        self, requests: Sequence[Request], outcomes: Sequence[Any], finished: list[ServingResult[Any]]
    ) -> list[ServingResult[Any]]:
        """The results, in order; ``finished`` has them as they are counted."""
        answered = [row for row, outcome in enumerate(outcomes) if not isinstance(outcome, Exception)]
        found: dict[int, ServingResult[Any]] = {}
        if answered:
            loaded = requests[answered[0]].loaded
            assert loaded is not None  # it has answered
            answers = Answers.of([outcomes[row] for row in answered], loaded.has_confidence)
            results = self._results.succeeded_many(loaded, [requests[row] for row in answered], answers)
            found.update(zip(answered, results, strict=True))
            finished += results
        for row, request in enumerate(requests):
            if row not in found:
                found[row] = self._guarded.instead(request, outcomes[row])
                finished.append(found[row])
        return [found[row] for row in range(len(requests))]


def _go_by_position(frame: Any, requests: Sequence[Request]) -> None:
    """Have the rows of a frame lose their names."""
    try:
        rows = list(frame.to_numpy())
    except Exception:  # of a library whose frames keep their numbers: the records will do
        return
    for request, row in zip(requests, rows, strict=True):
        request.input = row


def _checked_each(loaded: LoadedVersion, requests: Sequence[Request]) -> list[Exception | None]:
    """Check requests one by one; what was wrong with each, or None."""
    faults: list[Exception | None] = []
    for request in requests:
        try:
            request.checked = checked(loaded.check, request.input)
            faults.append(None)
        except Exception as error:
            faults.append(error)
    return faults


def items_of(inputs: Any) -> Sequence[Any]:
    """The inputs one by one: rows of an array, records of a frame, items of a sequence or an iterable.

    Raises:
        InvalidArgumentError: Nothing of the kind.
    """
    if isinstance(inputs, np.ndarray) and inputs.ndim:
        return list(inputs)
    if is_frame(inputs):
        records = inputs.to_dict("records") if hasattr(inputs, "iloc") else inputs.to_dicts()
        return list(records)
    try:
        iterator = None if isinstance(inputs, (str, bytes, Mapping)) else iter(inputs)
    except TypeError:
        iterator = None
    if iterator is None:
        raise InvalidArgumentError(
            "inputs", inputs, "an array of rows, a frame or a sequence of inputs", hint="One input goes to predict."
        )
    return list(iterator)


def _as_table(given: Any, loaded: LoadedVersion, inputs: list[Any]) -> Any:
    """What the caller gave, where the model takes it as it is; else the inputs one by one."""
    adapter = loaded.adapter
    if not adapter.takes_rows:
        return inputs
    if is_frame(given):
        if adapter.takes_arrays:
            return by_position(given)
        return given if adapter.takes_frames and hasattr(given, "iloc") else inputs
    return given if isinstance(given, np.ndarray) and given.ndim > 1 and not adapter.takes_frames else inputs


def _each(inputs: Any) -> list[Any]:
    """A table as a list of its rows, in the form in which single inputs come."""
    return inputs.to_dict("records") if is_frame(inputs) else list(inputs)
