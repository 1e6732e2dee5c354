"""Spans around predictions."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Generic, final

from opentelemetry import context, trace
from opentelemetry.trace import Span, StatusCode, Tracer
from typing_extensions import TypeVar, override

from mlserve.integrations._otel_names import ERROR_TYPE, MODEL_NAME, MODEL_VERSION, SCOPE
from mlserve.integrations._reading import checked_name
from mlserve.protocols import PredictionService
from mlserve.records import HealthStatus, ModelMetrics, ModelVersion, ServingResult
from mlserve.serving import ModelServer

TIn = TypeVar("TIn", default=Any)
TOut = TypeVar("TOut", default=Any)


@final
class TracedServer(PredictionService[TIn, TOut], Generic[TIn, TOut]):
    """A server with a span around each prediction.

    The span is called ``predict`` and the model's name. Its attributes: ``mlserve.model.name``,
    ``mlserve.model.version`` (the one that answered or was asked), ``mlserve.prediction.id``, by which the log and the
    monitor's events know it, ``mlserve.prediction.success``, ``mlserve.rollout.arm`` and
    ``mlserve.prediction.degraded`` where there is one, and of a failure ``error.type``, its ``ErrorKind``. The status
    is an error for faults; a failure that the caller caused leaves it unset, as the conventions have it for HTTP.
    Inputs, outputs and messages, which may quote inputs, are not in it.

    *Thread safety*: yes, as the server.

    Args:
        server: What answers. Its further methods are called on itself: ``traced.server.close()``.
        name: The name of the model.
        tracer: Where spans are made; by default that of the global provider.

    Attributes:
        server: See above.

    Raises:
        InvalidArgumentError: A name that is no text.

    Example:
        >>> from mlserve import InMemoryModelMonitor, InMemoryModelRepository, ModelServer
        >>> repository = InMemoryModelRepository()
        >>> version = repository.register(sum)
        >>> traced = TracedServer(ModelServer(repository, InMemoryModelMonitor()), name="adder")
        >>> traced.predict([1, 2]).value
        3
    """

    def __init__(
        self, server: ModelServer[Any, TIn, TOut], *, name: str = "model", tracer: Tracer | None = None
    ) -> None:
        self.server = server
        self._tracer = tracer if tracer is not None else trace.get_tracer(SCOPE)
        self._span_name = f"predict {checked_name(name)}"
        self._attributes = {MODEL_NAME: name}

    @override
    def predict(self, input: TIn, version: ModelVersion | str | None = None, **options: Any) -> ServingResult[TOut]:
        """Answer one input, within a span.

        Args:
            input: As ``ModelServer.predict``.
            version: As ``ModelServer.predict``.
            **options: Whatever else ``ModelServer.predict`` takes, such as ``key``.

        Returns:
            What the server answers.
        """
        with _Current(self._tracer.start_span(self._span_name, attributes=self._attributes)) as span:
            result = self.server.predict(input, version, **options)
            _describe(span, result)
        return result

    async def apredict(
        self, input: TIn, version: ModelVersion | str | None = None, **options: Any
    ) -> ServingResult[TOut]:
        """The same as ``predict``, awaitable. Args and Returns: see there."""
        with _Current(self._tracer.start_span(self._span_name, attributes=self._attributes)) as span:
            result = await self.server.apredict(input, version, **options)
            _describe(span, result)
        return result

    def record_outcome(self, prediction_id: str, actual: Any) -> None:
        """As ``ModelServer.record_outcome``, without a span."""
        self.server.record_outcome(prediction_id, actual)

    @override
    def check_health(self) -> HealthStatus:
        return self.server.check_health()

    async def acheck_health(self) -> HealthStatus:
        """As ``ModelServer.acheck_health``, without a span."""
        return await self.server.acheck_health()

    @override
    def get_model_metrics(
        self, version: ModelVersion | str | None = None, window: timedelta = timedelta(hours=1)
    ) -> ModelMetrics:
        return self.server.get_model_metrics(version, window)


class _Current:
    """Makes a span the current one for a while; ``start_as_current_span`` costs a request four times as much."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: Span) -> None:
        self._span = span

    def __enter__(self) -> Span:
        self._token = context.attach(trace.set_span_in_context(self._span))
        return self._span

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        context.detach(self._token)
        if isinstance(error, Exception):
            self._span.record_exception(error)
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


def _describe(span: Span, result: ServingResult[Any]) -> None:
    if not span.is_recording():
        return
    span.set_attribute("mlserve.prediction.id", result.prediction_id)
    span.set_attribute("mlserve.prediction.success", result.success)
    for attribute, value in (
        (MODEL_VERSION, None if result.version is None else result.version.id),
        ("mlserve.rollout.arm", result.arm),
        ("mlserve.prediction.degraded", result.degraded),
    ):
        if value is not None:
            span.set_attribute(attribute, value)
    if result.error is not None:
        span.set_attribute(ERROR_TYPE, result.error.kind.value)
        if not result.error.kind.is_caller_fault:
            span.set_status(StatusCode.ERROR)
