"""The server: one ``predict`` over versioned models."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from types import CoroutineType
from typing import Any, Generic, final

from typing_extensions import Self, TypeVar, override

from mlserve._counting import Tally
from mlserve._forking import renew_after_fork
from mlserve.clocks import Clock, SystemClock, timestamps
from mlserve.errors import InvalidArgumentError, ServerClosedError
from mlserve.protocols import ModelMonitor, ModelRepository, PredictionService
from mlserve.records import HealthStatus, ModelMetrics, ModelVersion, ServerStatistics, ServingResult
from mlserve.records._serving import DraftResult, build_result
from mlserve.records._values import FrozenMapping
from mlserve.serving._cache import VersionCache
from mlserve.serving._calling import Caller
from mlserve.serving._health import HealthExaminer, closed_health
from mlserve.serving._loaded import LoadedVersion
from mlserve.serving._loading import Loader
from mlserve.serving._loops import to_thread
from mlserve.serving._names import known_id
from mlserve.serving._policy import CachePolicy, HealthPolicy, Limits
from mlserve.serving._recording import Recorder
from mlserve.serving._validation import check_by, checked, no_input, translated

TModel = TypeVar("TModel", default=Any)
TIn = TypeVar("TIn", default=Any)
TOut = TypeVar("TOut", default=Any)

_log = logging.getLogger(__name__)

_blank = object.__new__

CLOSE_POLL_SECONDS = 0.005
"""How often ``close`` looks whether the last request has ended."""


@final
class ModelServer(PredictionService[TIn, TOut], Generic[TModel, TIn, TOut]):
    """Answers inputs with the latest version of a model, and records what happened.

    A prediction that fails is a failed ``ServingResult``, never an exception. A server may be built before anything
    is registered. Nothing is loaded, and no thread is started, before the first request.

    *Thread safety*: yes, from threads and any number of event loops at once; models are called from several threads
    at once. *Fork*: a forked child goes on with new ids. *Blocking*: a request does I/O only when it is the first for
    its version; it takes no lock around the model.

    Args:
        repository: Where versions come from.
        monitor: Where predictions are recorded. One that raises is counted and breaks nothing.
        predictor: Called as ``predictor(model, input)`` with the input as it came, for models that mlserve does not
            know. May be a coroutine function.
        validator: Checks inputs instead of the version's own schema: an ``ArraySchema``, anything with
            ``validate(input) -> ValidationResult``, or a callable that raises when the input is not valid.
        limits: What a request may cost others.
        cache: Which models stay in memory, and how the latest version is followed.
        health: When the server is healthy.
        synthetic_input: What ``check_health`` predicts, instead of the version's own example.
        name: Begins every prediction id.
        clock: Where time comes from.

    Raises:
        InvalidArgumentError: A name that is no text, or a validator of none of these kinds.

    Example:
        >>> from mlserve import InMemoryModelMonitor, InMemoryModelRepository
        >>> repository = InMemoryModelRepository()
        >>> version = repository.register(sum, example=[1.0, 2.0])
        >>> with ModelServer(repository, InMemoryModelMonitor()) as server:
        ...     result = server.predict([1.0, 2.5])
        >>> result.success, result.value, result.version.id
        (True, 3.5, '1')
    """

    def __init__(
        self,
        repository: ModelRepository[TModel],
        monitor: ModelMonitor,
        *,
        predictor: Callable[[TModel, TIn], Any] | None = None,
        validator: Any = None,
        limits: Limits | None = None,
        cache: CachePolicy | None = None,
        health: HealthPolicy | None = None,
        synthetic_input: TIn | None = None,
        name: str = "model",
        clock: Clock | None = None,
    ) -> None:
        if not isinstance(name, str) or not name:
            raise InvalidArgumentError("name", name, "a non-empty string")
        clock = clock if clock is not None else SystemClock()
        self._clock = clock
        self._repository = repository
        self._monitor = monitor
        self._name = name
        self._monotonic = clock.monotonic
        self._timestamp = timestamps(clock)
        self._recorder = Recorder(monitor, clock)
        self._caller = Caller((limits if limits is not None else Limits()).inline_below_ms, clock.monotonic)
        self._record = self._recorder.prediction
        check = None if validator is None else check_by(validator)
        loader = Loader(repository, predictor, check, self._recorder, self._caller.call)
        self._cache = VersionCache(repository, cache if cache is not None else CachePolicy(), loader.load, clock)
        self._observed = self._cache.observed
        self._health = HealthExaminer(
            self._cache,
            monitor,
            self._recorder,
            health if health is not None else HealthPolicy(),
            clock,
            synthetic_input,
            self._caller.call,
        )
        self._closed = False
        self._begin_counting()
        renew_after_fork(self)

    def _begin_counting(self) -> None:
        self._id_prefix = f"{self._name}-{os.urandom(6).hex()}-"
        self._accepted_calls, self._failed_calls, self._cancelled_calls = Tally(), Tally(), Tally()
        self._next_number = self._accepted_calls.next
        self._arriving: list[str] = []

    @override
    def predict(
        self, input: TIn, version: ModelVersion | str | None = None, *, key: str | None = None
    ) -> ServingResult[TOut]:
        """Answer one input.

        Args:
            input: One input in the form the model takes: for a scikit-learn estimator one row ``(n_features,)``.
                The caller may change it as soon as the call returns.
            version: A version, its id or an alias; None for the latest.
            key: Whom the request is for; recorded with the event.

        Returns:
            The answer, or why there is none. Never raises for a failed prediction.
        """
        started = self._monotonic()
        prediction_id = f"{self._id_prefix}{self._next_number()}"
        current = self._cache.current
        if (
            version is None
            and current is not None
            and self._observed.generation == current.generation
            and started < current.expires
        ):
            loaded = current.loaded
        else:
            arriving = self._arriving
            arriving.append(prediction_id)
            try:
                loaded = self._acquire(version)
            except Exception as error:
                return self._fail(error, None, input, started, prediction_id, key)
            except BaseException:
                self._cancelled_calls.next()
                raise
            finally:
                arriving.pop()
        leases = loaded.leases
        leases.append(prediction_id)
        finished = False
        try:
            check = loaded.check
            if check is not None:
                value = loaded.call(check(input))
            elif input is not None:
                value = loaded.call(input)
            else:
                raise no_input()
            if loaded.is_async or type(value) is CoroutineType:
                value = self._caller.loop.run(value)
            elapsed_ms = (self._monotonic() - started) * 1000.0
            confidence = None
            if loaded.has_confidence:
                value, confidence = value
            finished = True
        except Exception as error:
            finished = True
            return self._fail(error, loaded, input, started, prediction_id, key)
        finally:
            leases.pop()
            if loaded.evicting:
                self._cache.sweep()
            if not finished:
                self._cancelled_calls.next()
        try:
            self._record(prediction_id, loaded.id, input, value, elapsed_ms, self._timestamp(), confidence, None, key)
        except Exception as error:
            self._recorder.failed(error)
        # What build_result does, without its call: a twentieth of all that a request costs.
        result: Any = _blank(DraftResult)
        result.success, result.value, result.error = True, value, None
        result.version, result.processing_time_ms, result.prediction_id = loaded.version, elapsed_ms, prediction_id
        result.arm = result.degraded = None
        result.__class__ = ServingResult
        return result  # type: ignore[no-any-return]  # it is a ServingResult[TOut] now

    async def apredict(
        self, input: TIn, version: ModelVersion | str | None = None, *, key: str | None = None
    ) -> ServingResult[TOut]:
        """The same as ``predict``, awaitable.

        Loads happen off the event loop; so do calls of a model whose calls take longer than
        ``limits.inline_below_ms`` on average. Coroutine models are awaited on the caller's loop.

        Args and Returns: see ``predict``.
        """
        started = self._monotonic()
        prediction_id = f"{self._id_prefix}{self._next_number()}"
        loaded: LoadedVersion | None = None
        finished = False
        try:
            current = self._cache.current
            if (
                version is None
                and current is not None
                and self._observed.generation == current.generation
                and started < current.expires
            ):
                loaded = current.loaded
            else:
                arriving = self._arriving
                arriving.append(prediction_id)
                try:
                    loaded = await to_thread(self._acquire, version)
                finally:
                    arriving.pop()
            leases = loaded.leases
            leases.append(prediction_id)
            try:
                value = await self._caller.acall(loaded, checked(loaded.check, input))
            finally:
                leases.pop()
                if loaded.evicting:
                    self._cache.sweep()
            elapsed_ms = (self._monotonic() - started) * 1000.0
            finished = True
        except Exception as error:
            finished = True
            return self._fail(error, loaded, input, started, prediction_id, key)
        finally:
            if not finished:
                self._cancelled_calls.next()
        confidence = None
        if loaded.has_confidence:
            value, confidence = value
        try:
            self._record(prediction_id, loaded.id, input, value, elapsed_ms, self._timestamp(), confidence, None, key)
        except Exception as error:
            self._recorder.failed(error)
        return build_result(True, value, None, loaded.version, elapsed_ms, prediction_id, None, None)

    def record_outcome(self, prediction_id: str, actual: Any) -> None:
        """Tell the true value of an earlier prediction, whenever it is known.

        Args:
            prediction_id: ``ServingResult.prediction_id``.
            actual: What was true.

        Raises:
            ServerClosedError: The server was closed.
            MissingCapabilityError: The monitor takes no outcomes.
        """
        self._refuse_if_closed()
        self._recorder.outcome(prediction_id, actual)

    @override
    def check_health(self) -> HealthStatus:
        """Ask the repository, load the latest version, predict a synthetic input, read the recent fault rate.

        The synthetic prediction is not recorded as traffic.

        Returns:
            What was found. Never raises; a closed server is unhealthy.
        """
        if self._closed:
            return closed_health(self._clock.now())
        return self._health.examine()

    async def acheck_health(self) -> HealthStatus:
        """The same as ``check_health``, off the event loop."""
        status: HealthStatus = await to_thread(self.check_health)
        return status

    @override
    def get_model_metrics(
        self, version: ModelVersion | str | None = None, window: timedelta = timedelta(hours=1)
    ) -> ModelMetrics:
        """What a window of a version saw.

        Args:
            version: A version, its id or an alias; None for the latest.
            window: Length of the window that ends now; positive.

        Returns:
            Metrics; without requests where there were none.

        Raises:
            InvalidArgumentError: The window is not positive, or longer than the monitor remembers.
            VersionNotFoundError: No such version was ever registered or seen.
            RepositoryUnavailableError: The repository could not say which version is the latest.
            ServerClosedError: The server was closed.
        """
        self._refuse_if_closed()
        return self._monitor.get_model_metrics(known_id(self._repository, version), window)

    def refresh(self) -> ModelVersion:
        """Ask the repository now, wait for the latest version to be loaded, and serve it.

        Returns:
            The version that answers from now on: the latest, or the one before if the latest cannot be loaded.

        Raises:
            ServingError: There is none that could answer.
            ServerClosedError: The server was closed.
        """
        self._refuse_if_closed()
        return self._cache.refresh().version

    def statistics(self) -> ServerStatistics:
        """Counters since the server was built. Exact at rest; under traffic each by itself, not all at one moment."""
        loaded = self._cache.loaded
        leases = {version.id: len(version.leases) for version in loaded}
        accepted, failed, cancelled = (
            tally.value for tally in (self._accepted_calls, self._failed_calls, self._cancelled_calls)
        )
        in_flight = sum(leases.values()) + len(self._arriving)
        return ServerStatistics(
            accepted=accepted,
            answered=accepted - cancelled - in_flight,
            failed=failed,
            cancelled=cancelled,
            in_flight=in_flight,
            leases=FrozenMapping(leases),
            monitor_errors=self._recorder.errors,
            loaded_models=tuple(leases),
            **self._cache.counts,
        )

    def close(self, timeout: float = 30.0) -> None:
        """Refuse new requests, wait for those under way, and let go of the models. Closing twice does nothing.

        Args:
            timeout: Seconds to wait at most; at least 0. Requests still running then end with the model they hold.

        Raises:
            InvalidArgumentError: ``timeout`` is negative.
        """
        if timeout < 0:
            raise InvalidArgumentError("timeout", timeout, "seconds, at least 0")
        self._closed = True
        self._cache.close()
        ended = threading.Event()
        give_up = time.monotonic() + timeout
        while self._is_busy() and time.monotonic() < give_up:
            ended.wait(CLOSE_POLL_SECONDS)
        self._cache.forget_all()
        self._caller.loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _is_busy(self) -> bool:
        return bool(self._arriving) or any(version.leases for version in self._cache.loaded)

    def _acquire(self, version: ModelVersion | str | None) -> LoadedVersion:
        self._refuse_if_closed()
        return self._cache.latest() if version is None else self._cache.named(version)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise ServerClosedError("the server was closed.", hint="Build a new ModelServer.")

    def _fail(
        self,
        exception: Exception,
        loaded: LoadedVersion | None,
        input: TIn,
        started: float,
        prediction_id: str,
        key: str | None,
    ) -> ServingResult[TOut]:
        elapsed_ms = (self._monotonic() - started) * 1000.0
        version_id = None if loaded is None else loaded.id
        error = translated(exception, version_id)
        if error.kind.is_caller_fault:
            _log.info("prediction %s failed: %s", prediction_id, error.message)
        else:
            _log.error("prediction %s failed: %s", prediction_id, error.message, exc_info=exception)
        error.forget_traceback()
        self._failed_calls.next()
        self._recorder.failure(prediction_id, version_id or error.version_id, input, error.kind.value, elapsed_ms, key)
        version = loaded.version if loaded is not None else self._cache.failed_version(error.version_id)
        return build_result(False, None, error, version, elapsed_ms, prediction_id, None, None)

    def _after_fork(self) -> None:  # pragma: no cover  # runs in the forked child, where nothing measures
        self._begin_counting()
        self._cache.renew()
        self._recorder.renew()
        self._caller.renew()
