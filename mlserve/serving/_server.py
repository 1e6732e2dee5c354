"""The server: one ``predict`` over versioned models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Generic, final

from typing_extensions import Self, TypeVar, override

from mlserve._forking import renew_after_fork
from mlserve.clocks import Clock, SystemClock, timestamps
from mlserve.errors import InvalidArgumentError, ServerClosedError
from mlserve.protocols import ModelMonitor, ModelRepository, PredictionService, Router
from mlserve.records import HealthStatus, ModelMetrics, ModelVersion, ServingResult
from mlserve.records._serving import DraftResult
from mlserve.serving._assembly import assembled
from mlserve.serving._flights import Flight, landed
from mlserve.serving._health import closed_health
from mlserve.serving._loaded import LoadedVersion
from mlserve.serving._loops import to_thread
from mlserve.serving._names import known_id
from mlserve.serving._policy import CachePolicy, HealthPolicy, Limits
from mlserve.serving._validation import no_input

if TYPE_CHECKING:
    from mlserve.records import ServerStatistics
    from mlserve.serving._fallbacks import Fallback
    from mlserve.serving._options import Batching, Breaker

TModel = TypeVar("TModel", default=Any)
TIn = TypeVar("TIn", default=Any)
TOut = TypeVar("TOut", default=Any)

_blank = object.__new__


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
        validator: Checks inputs instead of the version's own schema: a schema of ``mlserve.schemas``, anything with
            ``validate(input) -> ValidationResult``, or a callable that raises when the input is not valid.
        router: Chooses a version for each request that names none; None for the latest.
        fallbacks: What answers when a model cannot, in order. Requests that the caller is to blame for are not helped.
        breaker: When a version that keeps failing is given a rest; None for never.
        batching: How requests that are there at the same time share a call of the model; None for not at all.
        concurrency: Calls of one version at once, with ``batching`` batches; None for as many as there are callers. 1
            for a model that is not thread-safe.
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
        router: Router | None = None,
        fallbacks: Sequence[Fallback] = (),
        breaker: Breaker | None = None,
        batching: Batching | None = None,
        concurrency: int | None = None,
        limits: Limits | None = None,
        cache: CachePolicy | None = None,
        health: HealthPolicy | None = None,
        synthetic_input: TIn | None = None,
        name: str = "model",
        clock: Clock | None = None,
    ) -> None:
        clock = clock if clock is not None else SystemClock()
        parts = assembled(
            repository,
            monitor,
            self._acquire,
            predictor=predictor,
            validator=validator,
            router=router,
            fallbacks=fallbacks,
            breaker=breaker,
            batching=batching,
            concurrency=concurrency,
            limits=limits if limits is not None else Limits(),
            cache=cache if cache is not None else CachePolicy(),
            health=health if health is not None else HealthPolicy(),
            synthetic_input=synthetic_input,
            name=name,
            clock=clock,
        )
        self._clock, self._repository, self._monitor = clock, repository, monitor
        self._parts = parts
        # Looked up once: what a request needs of them is a call each.
        self._monotonic = clock.monotonic
        self._timestamp = timestamps(clock)
        self._cache = parts.cache
        self._record = parts.recorder.prediction
        self._results = parts.results
        self._guarded, self._is_guarded = parts.guarded, parts.is_guarded
        express = parts.express
        self._predict_guarded: Any = parts.guarded.predict if express is None else express.predict
        self._enlist = None if express is None else express.enlist
        self._observed = parts.cache.observed
        self._closed = False
        self._begin_counting()
        renew_after_fork(self)

    def _begin_counting(self) -> None:
        self._id_prefix = self._results.id_prefix
        self._next_number = self._results.accepted.next
        self._arriving = self._parts.arriving = []

    @override
    def predict(
        self,
        input: TIn,
        version: ModelVersion | str | None = None,
        *,
        key: str | None = None,
        timeout_ms: float | None = None,
    ) -> ServingResult[TOut]:
        """Answer one input.

        Args:
            input: One input in the form the model takes: for a scikit-learn estimator one row ``(n_features,)``.
                The caller may change it as soon as the call returns.
            version: A version, its id or an alias; None for the latest.
            key: Whom the request is for: what a router assigns it by; recorded with the event.
            timeout_ms: How long to wait for the answer; None for ``Limits.default_timeout_ms``. A call with a time
                limit runs on one of the server's threads. What is not answered in time fails with
                ``DeadlineExceeded``; the call of the model goes on.

        Returns:
            The answer, or why there is none. Never raises but for a ``timeout_ms`` that is no number.
        """
        if self._is_guarded or timeout_ms is not None:
            found: ServingResult[TOut] | None = self._predict_guarded(input, version, key, timeout_ms)
            if found is not None:
                return found
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
                loaded = landed(self._acquire(version))
            except Exception as error:
                return self._results.fail(error, None, input, started, prediction_id, key)
            except BaseException:
                self._results.cancelled.next()
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
                value = self._parts.caller.loop.run(value)
            elapsed_ms = (self._monotonic() - started) * 1000.0
            confidence = None
            if loaded.has_confidence:
                value, confidence = value
            finished = True
        except Exception as error:
            finished = True
            return self._results.fail(error, loaded, input, started, prediction_id, key)
        finally:
            leases.pop()
            if loaded.evicting:
                self._cache.sweep()
            if not finished:
                self._results.cancelled.next()
        try:
            self._record(prediction_id, loaded.id, input, value, elapsed_ms, self._timestamp(), confidence, None, key)
        except Exception as error:
            self._parts.recorder.failed(error)
        # What build_result does, without its call: a twentieth of all that a request costs.
        result: Any = _blank(DraftResult)
        result.success, result.value, result.error = True, value, None
        result.version, result.processing_time_ms, result.prediction_id = loaded.version, elapsed_ms, prediction_id
        result.arm = result.degraded = None
        result.__class__ = ServingResult
        return result  # type: ignore[no-any-return]  # it is a ServingResult[TOut] now

    async def apredict(
        self,
        input: TIn,
        version: ModelVersion | str | None = None,
        *,
        key: str | None = None,
        timeout_ms: float | None = None,
    ) -> ServingResult[TOut]:
        """The same as ``predict``, awaitable.

        Loads happen off the event loop; so do calls of a model whose calls take longer than
        ``limits.inline_below_ms`` on average. Coroutine models are awaited on the caller's loop.
        """
        enlist = self._enlist
        if enlist is not None and version is None and timeout_ms is None:
            started = self._monotonic()
            current = self._cache.current
            if current is not None and self._observed.generation == current.generation and started < current.expires:
                loaded, leases = current.loaded, current.loaded.leases
                leases.append("batched")
                try:
                    found: Any = enlist(loaded, input, key, started)
                    if found is not None:
                        found = await found
                        return found if type(found) is ServingResult else await self._guarded.asettled(found)
                except BaseException:
                    self._results.cancelled.next()
                    raise
                finally:
                    leases.pop()
                    if loaded.evicting:
                        self._cache.sweep()
        return await self._guarded.apredict(input, version, key, timeout_ms)

    def predict_many(
        self,
        inputs: Iterable[TIn] | Any,
        version: ModelVersion | str | None = None,
        *,
        key: str | None = None,
        timeout_ms: float | None = None,
    ) -> list[ServingResult[TOut]]:
        """Answer many inputs by one call of the model.

        Each input is checked by itself, and one at fault fails alone: where the model is known to be pure (an estimator
        of scikit-learn's kind, or ``is_pure = True``) a call that fails is taken apart until the inputs at fault are
        found; of any other model all inputs of that call fail. A model that answers one input at a time is called for
        each, a coroutine for up to a hundred together. ``processing_time_ms`` of each result is that of all together.

        Args:
            inputs: An array whose first axis counts inputs, a frame with an input a row, or a sequence of inputs.
            version: As in ``predict``; one version answers all.
            key: As in ``predict``.
            timeout_ms: As in ``predict``, for all together.

        Returns:
            One result for each input, in order.

        Raises:
            InvalidArgumentError: ``inputs`` is none of these.
        """
        return self._parts.many.predict_many(inputs, version, key, timeout_ms)

    async def apredict_many(
        self,
        inputs: Iterable[TIn] | Any,
        version: ModelVersion | str | None = None,
        *,
        key: str | None = None,
        timeout_ms: float | None = None,
    ) -> list[ServingResult[TOut]]:
        """The same as ``predict_many``, awaitable; the model is called off the event loop, a coroutine model on it."""
        return await self._parts.many.apredict_many(inputs, version, key, timeout_ms)

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
        self._parts.recorder.outcome(prediction_id, actual)

    @override
    def check_health(self) -> HealthStatus:
        """Ask the repository, load the latest version, predict a synthetic input, read the recent fault rate.

        The synthetic prediction is not recorded as traffic.

        Returns:
            What was found. Never raises; a closed server is unhealthy.
        """
        if self._closed:
            return closed_health(self._clock.now())
        return self._parts.health.examine()

    def is_live(self) -> bool:
        """Whether the process can answer at all: until the server is closed. Asks nobody; for a liveness probe."""
        return not self._closed

    def is_ready(self) -> bool:
        """Whether requests can be sent here: the latest version is loaded and has predicted; for a readiness probe.

        Loads the latest version if need be, and tries it until it has answered once. Never raises.
        """
        return not self._closed and self._parts.health.is_ready()

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
        from mlserve.serving._statistics import counted

        return counted(self._parts)

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
        self._parts.close(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _acquire(self, version: ModelVersion | str | None) -> LoadedVersion | Flight:
        self._refuse_if_closed()
        return self._cache.latest() if version is None else self._cache.named(version)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise ServerClosedError("the server was closed.", hint="Build a new ModelServer.")

    def _after_fork(self) -> None:  # pragma: no cover  # runs in the forked child, where nothing measures
        self._parts.renew()
        self._begin_counting()
