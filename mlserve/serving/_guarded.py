"""The request path of a server that limits, times, batches, breaks, routes or falls back."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar, final

from mlserve._rendering import described
from mlserve.errors import OverloadedError, PredictionExceptionError, ServingError
from mlserve.protocols import ModelRepository
from mlserve.records import ModelVersion, ServingResult
from mlserve.records._serving import build_result
from mlserve.serving._dispatch import is_async_function
from mlserve.serving._fallbacks import CallableFallback, Fallback, StaticAnswer
from mlserve.serving._finding import Acquire
from mlserve.serving._guards import Guards
from mlserve.serving._loaded import LoadedVersion
from mlserve.serving._requests import Request
from mlserve.serving._results import Results
from mlserve.serving._validation import checked

_log = logging.getLogger(__name__)

T = TypeVar("T")


@final
class GuardedPath:
    """Answers requests through the guards, and by fallbacks where the model cannot.

    *Thread safety*: yes.

    Args:
        repository: Where versions come from.
        acquire: Gives a version, loaded.
        guards: What stands between a request and its model.
        results: What requests came to.
        fallbacks: What answers when a model cannot, in order.
        monotonic: Tells seconds.
    """

    def __init__(
        self,
        repository: ModelRepository[Any],
        acquire: Acquire,
        guards: Guards,
        results: Results,
        fallbacks: Sequence[Fallback],
        monotonic: Callable[[], float],
    ) -> None:
        self._repository = repository
        self._acquire = acquire
        self.guards = guards
        self._results = results
        self._fallbacks = fallbacks
        self._monotonic = monotonic

    def predict(
        self,
        input: Any,
        version: ModelVersion | str | None,
        key: str | None,
        timeout_ms: float | None,
    ) -> ServingResult[Any]:
        """As ``ModelServer.predict``."""
        request = self._request(input, version, key, timeout_ms)
        try:
            self.guards.admit(request)
        except Exception as error:
            return self.failed(request, error)
        try:
            try:
                value = self.guards.answer(request, self._acquire)
            except Exception as error:
                return self.instead(request, error)
            return self.succeeded(request, value)
        except BaseException:
            self._results.cancelled.next()
            raise
        finally:
            self.guards.let_go(request)

    async def apredict(
        self, input: Any, version: ModelVersion | str | None, key: str | None, timeout_ms: float | None
    ) -> ServingResult[Any]:
        """As ``ModelServer.apredict``."""
        request = self._request(input, version, key, timeout_ms)
        try:
            try:
                self.guards.admit(request)
            except Exception as error:
                return await self.afailed(request, error)
            try:
                value = await self.guards.aanswer(request, self._acquire)
            except Exception as error:
                return await self._ainstead(request, error)
            return await self._told(request, lambda: self.succeeded(request, value))
        except BaseException:
            self._results.cancelled.next()
            raise
        finally:
            self.guards.let_go(request)

    def settled(self, request: Request) -> ServingResult[Any]:
        """The result of a request that a batch has answered alone, or failed."""
        try:
            return self.succeeded(request, request.outcome())
        except Exception as error:
            return self.failed(request, error)

    async def asettled(self, request: Request) -> ServingResult[Any]:
        """The same, without blocking the caller's event loop."""
        try:
            value = request.outcome()
        except Exception as error:
            return await self.afailed(request, error)
        return await self._told(request, lambda: self.succeeded(request, value))

    async def afailed(self, request: Request, exception: Exception) -> ServingResult[Any]:
        """The same as ``failed``, without blocking the caller's event loop."""
        error = await self._told(request, lambda: self._recorded(request, exception))
        # Counted now that it is told: its caller may have gone away meanwhile, and is then counted as cancelled.
        return self._results.failed_result(error, request.loaded, request.started, request.prediction_id, request.arm)

    async def _told(self, request: Request, tell: Callable[[], T]) -> T:
        """Tell the monitor something on the caller's event loop, or on a thread where that may take long."""
        pace, threads = self._results.monitor_pace, self.guards.threads
        may_wait = pace is not None and (request.deadline is not None or not pace.is_quick())
        if may_wait and request.result is None:
            try:
                # With a deadline this ends in time, and is not kept waiting by those that hang.
                return await self.guards.off_loop(
                    tell, threads.recording if request.deadline is None else threads.settling
                )
            except OverloadedError:
                request.is_unheard = True
        return tell()

    def _request(
        self,
        input: Any,
        version: ModelVersion | str | None,
        key: str | None,
        timeout_ms: float | None,
    ) -> Request:
        started = self._monotonic()
        deadline = self.guards.deadline(started, timeout_ms)  # before it counts, since it may refuse
        request = Request(input, self._results.new_id(), started)
        request.version, request.key, request.deadline = version, key, deadline
        return request

    def succeeded(self, request: Request, value: Any) -> ServingResult[Any]:
        """The result of a request that was answered so; recorded, where that was not done with its batch."""
        if request.result is not None:
            return request.result
        assert request.loaded is not None
        return self._results.succeeded(
            request.loaded, request.input, value, request.started, request.prediction_id, request.key, request.arm,
            in_time=self._results.in_time([request]),
        )  # fmt: skip

    def failed(self, request: Request, error: Exception) -> ServingResult[Any]:
        """The result of a request that failed, and that no fallback may help."""
        return self._results.fail(
            error, request.loaded, request.input, request.started, request.prediction_id, request.key, request.arm,
            in_time=self._results.in_time([request]),
        )  # fmt: skip

    def _recorded(self, request: Request, error: Exception) -> ServingError:
        return self._results.failure(
            error, request.loaded, request.input, request.started, request.prediction_id, request.key, request.arm,
            in_time=self._results.in_time([request]),
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------------- fallbacks

    def instead(self, request: Request, exception: Exception) -> ServingResult[Any]:
        """What the caller gets when the model did not answer."""
        if request.result is not None:
            return request.result  # a batch did, and recorded it, when it was too late to wait for it
        error = self._recorded(request, exception)
        if not error.kind.is_caller_fault:
            _grant_as_long_again(request)
            for fallback in self._fallbacks:
                try:
                    if isinstance(fallback, StaticAnswer):
                        return self._degraded(request, fallback.value, fallback, error)
                    call = partial(self._answer_of, fallback, request, error)
                    loaded, value = self.guards.finding.in_time(request, call, self.guards.threads.helping)
                    if loaded is None:
                        return self._degraded(request, value, fallback, error)
                    self._results.degraded.next()
                    return self._answered_by(loaded, request, value, fallback, error)
                except Exception as failure:
                    self._passed_over(fallback, failure)
        return self._results.failed_result(error, request.loaded, request.started, request.prediction_id, request.arm)

    async def _ainstead(self, request: Request, exception: Exception) -> ServingResult[Any]:
        if request.result is not None:
            return request.result
        error = await self._told(request, lambda: self._recorded(request, exception))
        if not error.kind.is_caller_fault:
            _grant_as_long_again(request)
            for fallback in self._fallbacks:
                try:
                    if isinstance(fallback, StaticAnswer):
                        return self._degraded(request, fallback.value, fallback, error)
                    if isinstance(fallback, CallableFallback) and is_async_function(fallback.function):
                        value = await self.guards.finding.awaited_in_time(request, fallback.function, request.input)
                        return self._degraded(request, value, fallback, error)
                    call = partial(self._answer_of, fallback, request, error)
                    loaded, value = await self.guards.finding.ain_time(request, call, self.guards.threads.helping)
                    if loaded is None:
                        return self._degraded(request, value, fallback, error)
                    tell = partial(self._answered_by, loaded, request, value, fallback, error)
                    result = await self._told(request, tell)
                    self._results.degraded.next()
                    return result
                except Exception as failure:
                    self._passed_over(fallback, failure)
        return self._results.failed_result(error, request.loaded, request.started, request.prediction_id, request.arm)

    def _answer_of(self, fallback: Fallback, request: Request, error: ServingError) -> tuple[LoadedVersion | None, Any]:
        """What a fallback answers, and the version that did; nothing is counted or recorded yet."""
        if not isinstance(fallback, CallableFallback):
            return self._answer_of_previous(request, error)
        if request.home is not None and is_async_function(fallback.function):
            call = self.guards.finding.awaited_in_time(request, fallback.function, request.input)
            return None, request.home.run(call)
        value = fallback.function(request.input)
        if inspect.isawaitable(value):
            if inspect.iscoroutine(value):
                value.close()
            raise PredictionExceptionError(
                "a fallback that is a coroutine function was called by a caller who does not await.",
                hint="Use apredict, or a plain function.",
            )
        return None, value

    def _answer_of_previous(self, request: Request, error: ServingError) -> tuple[LoadedVersion, Any]:
        failed = request.loaded.id if request.loaded is not None else error.version_id
        others = [version for version in self._repository.get_active_versions(2) if version.id != failed]
        if not others:
            raise PredictionExceptionError("there is no other active version.")
        loaded = self.guards.finding.acquired(request, others[0], self._acquire)
        permit, begun = self.guards.enter(loaded), self._monotonic()
        problem: BaseException | None = None
        try:
            return loaded, self.guards.call_held(loaded, checked(loaded.check, request.input), request)
        except BaseException as raised:
            problem = raised
            raise
        finally:
            self.guards.leave(loaded, permit, begun, problem)
            problem = None

    def _answered_by(
        self, loaded: LoadedVersion, request: Request, value: Any, fallback: Fallback, error: ServingError
    ) -> ServingResult[Any]:
        # No arm: an answer that a fallback gave is no evidence for either.
        return self._results.succeeded(
            loaded, request.input, value, request.started, request.prediction_id, request.key,
            degraded=_because(fallback, error), in_time=self._results.in_time([request]),
        )  # fmt: skip

    def _degraded(self, request: Request, value: Any, fallback: Fallback, error: ServingError) -> ServingResult[Any]:
        self._results.degraded.next()
        elapsed_ms = (self._monotonic() - request.started) * 1000.0
        version = None if request.loaded is None else request.loaded.version
        return build_result(
            True, value, None, version, elapsed_ms, request.prediction_id, request.arm, _because(fallback, error)
        )

    def _passed_over(self, fallback: Fallback, failure: Exception) -> None:
        _log.warning("the fallback %s could not answer: %s", type(fallback).__name__, described(failure))
        self.guards.count("fallback_errors")


def _grant_as_long_again(request: Request) -> None:
    """Fallbacks end, all together, by twice the time limit: when the model has used up its time they need some."""
    if request.deadline is not None:
        request.deadline += request.deadline - request.started


def _because(fallback: Fallback, error: ServingError) -> str:
    return f"{type(fallback).__name__} answered, because of {error.kind}: {error.message}"
