"""The OpenTelemetry doors, with the real SDK: what is collected is what happened."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import subprocess
import sys
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import DropAggregation, View
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode, get_current_span

from mlserve import ErrorKind, InMemoryModelMonitor, InMemoryModelRepository, ModelMetrics, ModelServer
from mlserve.clocks import ManualClock
from mlserve.errors import InvalidArgumentError, MissingCapabilityError
from mlserve.integrations import opentelemetry as door
from mlserve.integrations.opentelemetry import OpenTelemetrySink, TracedServer, instrument_monitor
from mlserve.monitors import FanoutMonitor
from mlserve.protocols import PredictionService
from mlserve.records import (
    ConceptDrift,
    DataDrift,
    DriftAnalysis,
    DriftEvent,
    DriftSeverity,
    DriftType,
    FailureEvent,
    InputSample,
    PerformanceDrift,
    PredictionEvent,
)

MODEL, VERSION = "mlserve.model.name", "mlserve.model.version"


class Collected:
    """A pipeline of the SDK that collects when it is asked."""

    def __init__(self, *views: View) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider(metric_readers=[self.reader], views=views, shutdown_on_exit=False)
        self.meter = self.provider.get_meter("test")

    def metrics(self) -> dict[str, Any]:
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def values(self, name: str, *attributes: str) -> dict[Any, float]:
        """The values of an instrument by one attribute, or by several."""
        found = self.metrics()
        points = found[name].data.data_points if name in found else []
        return {
            tuple(point.attributes.get(one) for one in attributes)
            if len(attributes) > 1
            else point.attributes.get(attributes[0]): point.value
            for point in points
        }


@pytest.fixture
def collected() -> Collected:
    return Collected()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def monitor(clock: ManualClock) -> InMemoryModelMonitor:
    return InMemoryModelMonitor(clock=clock)


class Scripted:
    """A monitor whose counts since the beginning are what a test says; counts how often it is asked."""

    def __init__(self, *cumulative: ModelMetrics) -> None:
        self.cumulative: Any = cumulative
        self.asked = 0

    def cumulative_metrics(self) -> tuple[ModelMetrics, ...]:
        self.asked += 1
        if isinstance(self.cumulative, Exception):
            raise self.cumulative
        return tuple(self.cumulative)

    def record_prediction(self, event: PredictionEvent) -> None: ...

    def record_prediction_error(self, kind: str, version_id: str | None) -> None: ...

    def record_drift_event(self, event: Any) -> None: ...

    def get_recent_metrics(self, window: timedelta) -> ModelMetrics:
        return ModelMetrics(window=window)

    def get_model_metrics(self, version_id: str, window: timedelta) -> ModelMetrics:
        return ModelMetrics(model_version=version_id, window=window)

    def get_baseline_metrics(self, version_id: str) -> ModelMetrics | None:
        return None

    def get_recent_input_distribution(self, version_id: str, window: timedelta) -> InputSample:
        return InputSample(np.zeros((0, 1)))

    def get_baseline_input_distribution(self, version_id: str) -> InputSample | None:
        return None


def predict(monitor: Any, number: int, clock: ManualClock, version: str = "1", **values: Any) -> None:
    told = {"input": [1.0], "output": 1, "processing_time_ms": 2.0, **values}
    monitor.record_prediction(PredictionEvent(f"p{number}", version, timestamp=clock.now(), **told))


def drift_event(clock: ManualClock) -> DriftEvent:
    analysis = DriftAnalysis(performance_drift=PerformanceDrift(), data_drift=DataDrift(), concept_drift=ConceptDrift())
    return DriftEvent(
        model_version="1",
        drift_type=DriftType.DATA,
        severity=DriftSeverity.HIGH,
        detected_at=clock.now(),
        analysis=analysis,
    )


# -------------------------------------------------------------------------------------------------- reading a monitor


def test_counts_are_those_of_the_monitor(
    collected: Collected, monitor: InMemoryModelMonitor, clock: ManualClock
) -> None:
    """Requests, predictions, failures by kind and time are counted by version since the beginning."""
    for number, version in enumerate(("1", "2", "2")):
        predict(monitor, number, clock, version, processing_time_ms=250.0)
    monitor.record_prediction_error("Overloaded", "2")
    monitor.record_prediction_error("VersionNotFound", None)
    instrument_monitor(monitor, collected.meter)
    assert collected.values("mlserve.requests", VERSION) == {"1": 1, "2": 3, "none": 1}
    assert collected.values("mlserve.predictions", VERSION) == {"1": 1, "2": 2, "none": 0}
    assert collected.values("mlserve.errors", VERSION, "error.type") == {
        ("2", "Overloaded"): 1,
        ("none", "VersionNotFound"): 1,
    }
    assert collected.values("mlserve.prediction.time", VERSION) == {"1": 0.25, "2": 0.5, "none": 0.0}


def test_outcomes_are_counted_by_result(
    collected: Collected, monitor: InMemoryModelMonitor, clock: ManualClock
) -> None:
    """Outcomes are counted as right or wrong; what waits for one is told, too."""
    for number, actual in enumerate((1, 1, 0, None)):
        predict(monitor, number, clock)
        if actual is not None:
            monitor.record_outcome(f"p{number}", actual)
    instrument_monitor(monitor, collected.meter, name="wine")
    assert collected.values("mlserve.outcomes", "mlserve.outcome.result") == {"correct": 2, "wrong": 1}
    assert collected.values("mlserve.outcomes.pending", MODEL) == {"wine": 1}


def test_gauges_are_of_the_window(collected: Collected, monitor: InMemoryModelMonitor, clock: ManualClock) -> None:
    """Accuracy, coverage and confidence are those of the recent window, and absent where there is no evidence."""
    predict(monitor, 0, clock, confidence=0.1)
    monitor.record_outcome("p0", 0)
    clock.advance(timedelta(hours=1))
    for number in (1, 2):
        predict(monitor, number, clock, confidence=0.75)
    monitor.record_outcome("p1", 1)
    instrument_monitor(monitor, collected.meter)
    assert collected.values("mlserve.window.accuracy", VERSION) == {"1": 1.0}
    assert collected.values("mlserve.window.label_coverage", VERSION) == {"1": 0.5}
    assert collected.values("mlserve.window.confidence", VERSION) == {"1": 0.75}
    assert collected.values("mlserve.window.r2", VERSION) == {}


def test_latencies_are_quantiles_in_seconds(
    collected: Collected, monitor: InMemoryModelMonitor, clock: ManualClock
) -> None:
    """The quantiles of the time of a prediction are in seconds, within 1 % of the exact ones."""
    for number in range(1, 101):
        predict(monitor, number, clock, processing_time_ms=float(number))
    instrument_monitor(monitor, collected.meter)
    found = collected.values("mlserve.window.prediction.duration", "mlserve.quantile")
    assert found == pytest.approx({0.5: 0.050, 0.95: 0.095, 0.99: 0.099}, rel=0.01)


def test_the_monitors_own_counters_are_told(collected: Collected, clock: ManualClock) -> None:
    """What was discarded and why, drifts, and failures of the sinks of a fan-out are told."""
    primary = InMemoryModelMonitor(clock=clock)
    fanout: Any = FanoutMonitor(primary, Broken(), clock=clock)
    fanout.record_outcome("never", 1)
    fanout.record_drift_event(drift_event(clock))
    instrument_monitor(fanout, collected.meter)
    discarded = collected.values("mlserve.monitor.discarded", "mlserve.discard.reason")
    assert (discarded["unknown_outcomes"], discarded["dropped"]) == (1, 0)
    assert collected.values("mlserve.drift.events", MODEL) == {"model": 1}
    assert collected.values("mlserve.monitor.sink.failures", "mlserve.sink.name") == {"Broken": 1}


class Broken:
    """A sink that raises each time."""

    def record_prediction(self, event: Any) -> None:
        raise OSError("down")

    def record_prediction_error(self, kind: str, version_id: str | None) -> None:
        raise OSError("down")

    def record_drift_event(self, event: Any) -> None:
        raise OSError("down")


def test_a_monitor_without_statistics_has_none(collected: Collected) -> None:
    """Of a monitor that counts nothing of itself, what waits, drifts and discards are absent."""
    instrument_monitor(Scripted(ModelMetrics(model_version="1", request_count=3)), collected.meter)
    found = collected.metrics()
    absent = {"mlserve.outcomes.pending", "mlserve.drift.events", "mlserve.monitor.discarded"}
    assert found.keys().isdisjoint(absent)
    assert collected.values("mlserve.requests", VERSION) == {"1": 3, "none": 0}


def test_several_models_share_the_instruments(collected: Collected) -> None:
    """``add`` observes another model beside the first, told apart by its name."""
    instruments = instrument_monitor(
        Scripted(ModelMetrics(model_version="1", request_count=3)), collected.meter, name="a"
    )
    instruments.add(Scripted(ModelMetrics(model_version="1", request_count=5)), name="b")
    found = collected.values("mlserve.requests", MODEL, VERSION)
    assert (found["a", "1"], found["b", "1"]) == (3, 5)


def test_versions_beyond_the_limit_share_a_value(collected: Collected) -> None:
    """Of more versions than the limit, the others are one, as for Prometheus."""
    versions = [ModelMetrics(model_version=version, request_count=1) for version in "1234"]
    instrument_monitor(Scripted(*versions), collected.meter, max_versions=2)
    assert collected.values("mlserve.requests", VERSION) == {"3": 1, "4": 1, "other": 2, "none": 0}


def test_a_collection_is_one_look(collected: Collected, clock: ManualClock) -> None:
    """All instruments of a collection are told of one look at the monitor; the next collection takes another."""
    scripted = Scripted(ModelMetrics(model_version="1", request_count=3))
    instrument_monitor(scripted, collected.meter, clock=clock)
    asked = []
    for _ in range(3):
        collected.metrics()
        asked.append(scripted.asked)
    assert asked == [1, 2, 3]


def test_a_late_instrument_is_told_of_a_new_look(clock: ManualClock) -> None:
    """An instrument that another reader asks much later is not told of the old look."""
    scripted = Scripted(ModelMetrics(model_version="1", request_count=3))
    partial = Collected(View(instrument_name="mlserve.re*", aggregation=DropAggregation()))
    instruments = instrument_monitor(scripted, partial.meter, clock=clock)
    look = instruments._looks["model"]
    first = look.told_to("errors")
    clock.advance(timedelta(seconds=2))
    scripted.cumulative = (ModelMetrics(model_version="1", request_count=9),)
    late = look.told_to("requests")
    assert first is not None
    assert late is not None
    assert (first.series["1"].requests, late.series["1"].requests) == (3, 9)


def test_a_monitor_that_raises_is_counted(
    collected: Collected, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """While a monitor cannot be read only that is told, and logged once a minute; then the counts go on."""
    caplog.set_level(logging.WARNING)
    scripted = Scripted()
    scripted.cumulative = OSError("down")
    instrument_monitor(scripted, collected.meter, clock=clock)
    collected.metrics()
    assert set(collected.metrics()) == {"mlserve.monitor.read_errors"}
    assert len(caplog.records) == 1
    scripted.cumulative = (ModelMetrics(model_version="1", request_count=9),)
    found = collected.values("mlserve.requests", VERSION)
    assert found["1"] == 9
    assert collected.values("mlserve.monitor.read_errors", MODEL) == {"model": 2}


def test_every_instrument_has_a_unit_and_a_description(
    collected: Collected, monitor: InMemoryModelMonitor, clock: ManualClock
) -> None:
    """Instruments have the units that the module's table says, seconds for times, and describe themselves."""
    listed = re.findall(
        r"^``(mlserve\.[\w.]+)``\s+(counter|gauge|up-down counter)\s+(``\S+``)?", door.__doc__ or "", re.M
    )
    fanout: Any = FanoutMonitor(monitor, Broken(), clock=clock)
    for number, (output, actual) in enumerate([(1.5, 1.0), (2.0, 2.5)]):
        predict(fanout, number, clock, "regressor", output=output, confidence=0.5)
        fanout.record_outcome(f"p{number}", actual)
    predict(fanout, 9, clock)
    fanout.record_outcome("p9", 1)
    fanout.record_prediction_error("Overloaded", "1")
    instrument_monitor(fanout, collected.meter)
    found = collected.metrics()
    assert {name: unit.strip("`") for name, _, unit in listed} == {name: one.unit for name, one in found.items()}
    assert all(metric.description.endswith(".") for metric in found.values())
    kinds = {"Gauge": "gauge", "Sum": "counter"}
    for name, kind, _ in listed:
        data = found[name].data
        is_up_down = type(data).__name__ == "Sum" and not data.is_monotonic
        assert kind == ("up-down counter" if is_up_down else kinds[type(data).__name__])


def test_the_global_provider_is_the_default(monitor: InMemoryModelMonitor) -> None:
    """Without a meter the instruments are those of the global provider, which does nothing until one is set."""
    assert instrument_monitor(monitor)._looks.keys() == {"model"}


def test_a_monitor_must_count_from_the_beginning(collected: Collected) -> None:
    """A monitor without ``cumulative_metrics`` is refused by the name of the protocol."""

    class Windows(Scripted):
        cumulative_metrics = None  # type: ignore[assignment]  # as if it had none

    with pytest.raises(MissingCapabilityError, match="CumulativeMonitor"):
        instrument_monitor(Windows(), collected.meter)


@pytest.mark.parametrize("name", ["", 5, "model"])
def test_a_model_has_one_name(name: Any, collected: Collected) -> None:
    """A name that is no text, or taken, is refused."""
    instruments = instrument_monitor(Scripted(), collected.meter)
    with pytest.raises(InvalidArgumentError) as refused:
        instruments.add(Scripted(), name=name)
    assert refused.value.parameter == "name"


# ----------------------------------------------------------------------------------------------------------- the sink


def test_every_prediction_is_recorded_in_a_histogram(collected: Collected, clock: ManualClock) -> None:
    """The sink records the time of each successful prediction in seconds, in buckets from 10 µs to 10 s."""
    sink = OpenTelemetrySink(collected.meter, name="wine")
    for number, ms in enumerate((0.02, 3.0, 40.0)):
        predict(sink, number, clock, processing_time_ms=ms)
    sink.defer_prediction("p9", "2", [1.0], 1, 500.0, 1.0, None, None, None)
    metric = collected.metrics()["mlserve.prediction.duration"]
    found = {point.attributes[VERSION]: point for point in metric.data.data_points}
    assert metric.unit == "s"
    assert all(point.attributes[MODEL] == "wine" for point in found.values())
    assert (found["1"].count, found["1"].sum) == (3, pytest.approx(0.04302))
    assert (found["2"].count, found["2"].sum) == (1, 0.5)
    bounds, counts = found["1"].explicit_bounds, found["1"].bucket_counts
    assert (bounds[0], bounds[-1]) == (1e-5, 10.0)
    assert [bounds[position] for position, count in enumerate(counts) if count] == [2.5e-5, 5e-3, 5e-2]


def test_failures_are_counted_by_kind(collected: Collected, clock: ManualClock) -> None:
    """The sink counts failures by kind, with their version where there is one, whole or not."""
    sink = OpenTelemetrySink(collected.meter)
    sink.record_failure(FailureEvent("p0", "1", None, "Overloaded", 1.0, clock.now()))
    sink.record_prediction_error(ErrorKind.Overloaded, "1")
    sink.record_prediction_error("VersionNotFound", None)
    found = collected.values("mlserve.prediction.failures", VERSION, "error.type")
    assert found == {("1", "Overloaded"): 2, (None, "VersionNotFound"): 1}


def test_drifts_are_counted(collected: Collected, clock: ManualClock) -> None:
    """The sink counts drifts by type and severity."""
    OpenTelemetrySink(collected.meter).record_drift_event(drift_event(clock))
    found = collected.values("mlserve.drift.detections", "mlserve.drift.type", "mlserve.drift.severity")
    assert found == {("DATA", "HIGH"): 1}


def test_the_first_versions_have_a_value_of_their_own(collected: Collected, clock: ManualClock) -> None:
    """Versions beyond the limit share ``other``; those that were first keep their own."""
    sink = OpenTelemetrySink(collected.meter, max_versions=2)
    for number, version in enumerate("1234123"):
        predict(sink, number, clock, version)
    metric = collected.metrics()["mlserve.prediction.duration"]
    found = {point.attributes[VERSION]: point.count for point in metric.data.data_points}
    assert found == {"1": 2, "2": 2, "other": 3}


@pytest.mark.parametrize("ms", [math.nan, math.inf, -1.0])
def test_a_time_that_is_none_is_refused(ms: float, collected: Collected, clock: ManualClock) -> None:
    """A time that would spoil the sum is refused, which a fan-out counts as a failure of the sink."""
    sink = OpenTelemetrySink(collected.meter)
    fanout = FanoutMonitor(InMemoryModelMonitor(clock=clock), sink)
    predict(fanout, 0, clock, processing_time_ms=ms)
    assert fanout.statistics().sinks[0].failures == 1
    assert "mlserve.prediction.duration" not in collected.metrics()


def test_the_sink_and_the_instruments_go_together(
    collected: Collected, monitor: InMemoryModelMonitor, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """In one meter the sink and the instruments of the primary have names of their own, and agree."""
    fanout = FanoutMonitor(monitor, OpenTelemetrySink(collected.meter))
    instrument_monitor(fanout, collected.meter)
    predict(fanout, 0, clock)
    (point,) = collected.metrics()["mlserve.prediction.duration"].data.data_points
    assert point.count == collected.values("mlserve.predictions", VERSION)["1"] == 1
    assert caplog.records == []


@pytest.mark.parametrize(("parameter", "arguments"), [("name", {"name": ""}), ("max_versions", {"max_versions": 0})])
def test_what_a_sink_cannot_be_is_refused(parameter: str, arguments: dict[str, Any], collected: Collected) -> None:
    """An empty name and no versions are refused by name."""
    with pytest.raises(InvalidArgumentError) as refused:
        OpenTelemetrySink(collected.meter, **arguments)
    assert refused.value.parameter == parameter


def test_a_sink_without_a_meter_does_nothing(clock: ManualClock) -> None:
    """Without a meter the sink records with the global provider, which does nothing until one is set."""
    fanout = FanoutMonitor(InMemoryModelMonitor(clock=clock), OpenTelemetrySink())
    predict(fanout, 0, clock)
    assert fanout.statistics().sinks[0].failures == 0


# ---------------------------------------------------------------------------------------------------------- the spans


class Traced:
    """A served model behind spans that are kept."""

    def __init__(self, model: Any, **options: Any) -> None:
        repository = InMemoryModelRepository()
        repository.register(model)
        self.spans = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False, **options)
        self.provider.add_span_processor(SimpleSpanProcessor(self.spans))
        self.monitor = InMemoryModelMonitor()
        server = ModelServer(repository, self.monitor, name="wine")
        self.server: TracedServer[Any, Any] = TracedServer(server, name="wine", tracer=self.provider.get_tracer("test"))

    @property
    def span(self) -> Any:
        (span,) = self.spans.get_finished_spans()
        return span


def test_a_prediction_has_a_span() -> None:
    """A prediction that succeeds has a span with model, version, id and success, and no error."""
    traced = Traced(sum)
    result = traced.server.predict([1, 2], "1", key="k")
    assert result.value == 3
    assert (traced.span.name, traced.span.kind, traced.span.status.status_code) == (
        "predict wine",
        SpanKind.INTERNAL,
        StatusCode.UNSET,
    )
    assert dict(traced.span.attributes) == {
        MODEL: "wine",
        VERSION: "1",
        "mlserve.prediction.id": result.prediction_id,
        "mlserve.prediction.success": True,
    }
    assert [event.key for event in traced.monitor.events().events] == ["k"]


def test_an_awaited_prediction_has_a_span() -> None:
    """``apredict`` has the same span."""
    traced = Traced(sum)
    result = asyncio.run(traced.server.apredict([1, 2]))
    assert result.value == 3
    assert traced.span.attributes["mlserve.prediction.id"] == result.prediction_id


def test_the_model_is_called_within_the_span() -> None:
    """Spans that a model makes are children of the span of its prediction."""
    tracers: list[Any] = []

    def model(row: Any) -> int:
        with tracers[0].start_as_current_span("inside"):
            return 1

    traced = Traced(model)
    tracers.append(traced.provider.get_tracer("model"))
    traced.server.predict([1])
    inside, outside = traced.spans.get_finished_spans()
    assert (inside.name, outside.name) == ("inside", "predict wine")
    assert inside.parent.span_id == outside.context.span_id


def test_a_fault_is_an_error() -> None:
    """A prediction that the model failed has the kind as ``error.type`` and the status of an error, without a text."""
    traced = Traced(lambda row: 1 / 0)
    traced.server.predict([1, 2])
    assert (traced.span.status.status_code, traced.span.status.description) == (StatusCode.ERROR, None)
    assert traced.span.attributes["error.type"] == "PredictionException"
    assert traced.span.attributes["mlserve.prediction.success"] is False
    assert traced.span.events == ()


def test_what_the_caller_caused_is_no_error_of_the_service() -> None:
    """An input that is refused has ``error.type`` and leaves the status unset; a version not found has none."""
    traced = Traced(sum)
    traced.server.predict(None)
    traced.server.predict([1], "99")
    invalid, unknown = traced.spans.get_finished_spans()
    assert [span.status.status_code for span in (invalid, unknown)] == [StatusCode.UNSET] * 2
    assert [span.attributes["error.type"] for span in (invalid, unknown)] == ["InvalidInput", "VersionNotFound"]
    assert (invalid.attributes.get(VERSION), unknown.attributes.get(VERSION)) == ("1", None)


@pytest.mark.parametrize("is_awaited", [False, True])
def test_a_call_that_cannot_be_is_an_error(is_awaited: bool) -> None:
    """What ``predict`` raises, as for an option that it does not have, is raised, and recorded in the span."""
    traced = Traced(sum)
    with pytest.raises(TypeError):
        if is_awaited:
            asyncio.run(traced.server.apredict([1, 2], nonsense=1))
        else:
            traced.server.predict([1, 2], nonsense=1)
    assert traced.span.status.status_code == StatusCode.ERROR
    assert [event.attributes["exception.type"] for event in traced.span.events] == ["TypeError"]
    assert not get_current_span().get_span_context().is_valid


def test_a_caller_that_goes_away_ends_the_span() -> None:
    """A cancelled ``apredict`` ends its span, without an error."""

    async def model(row: Any) -> int:
        started.set()
        await asyncio.Event().wait()
        return 1

    async def cancel() -> None:
        call = asyncio.create_task(traced.server.apredict([1]))
        await started.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    started, traced = asyncio.Event(), Traced(model)
    asyncio.run(cancel())
    assert (traced.span.status.status_code, traced.span.events) == (StatusCode.UNSET, ())


def test_a_span_that_is_not_sampled_costs_no_attributes() -> None:
    """Where the span is not recorded the prediction is answered all the same."""
    traced = Traced(sum, sampler=ALWAYS_OFF)
    assert traced.server.predict([1, 2]).value == 3
    assert traced.spans.get_finished_spans() == ()


def test_the_other_methods_are_the_servers() -> None:
    """Outcomes, health and metrics are passed on without a span, and ``server`` is the server itself."""
    traced = Traced(sum)
    result = traced.server.predict([1, 2])
    traced.server.record_outcome(result.prediction_id, 3)
    assert traced.server.get_model_metrics().accuracy == 1.0
    assert traced.server.check_health().status == asyncio.run(traced.server.acheck_health()).status
    assert traced.server.server.statistics().answered == 1
    assert isinstance(traced.server, PredictionService)
    assert traced.span.name == "predict wine"


def test_without_a_tracer_predictions_are_answered() -> None:
    """Without a tracer spans are those of the global provider, which does nothing until one is set."""
    repository = InMemoryModelRepository()
    repository.register(sum)
    traced: TracedServer[Any, Any] = TracedServer(ModelServer(repository, InMemoryModelMonitor()))
    assert traced.predict([1, 2]).value == 3


def test_a_traced_server_has_a_name() -> None:
    """A name that is no text is refused."""
    with pytest.raises(InvalidArgumentError, match="name"):
        TracedServer(ModelServer(InMemoryModelRepository(), InMemoryModelMonitor()), name="")


WITHOUT_IT = """
import sys
sys.modules["opentelemetry"] = None
sys.path.insert(0, sys.argv[1])
try:
    import mlserve.integrations.opentelemetry
except ImportError as error:
    print(type(error).__name__, error)
"""


def test_without_the_package_the_extra_is_named(pytestconfig: pytest.Config) -> None:
    """Without the API of OpenTelemetry importing the module names the extra that installs it."""
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_IT, str(pytestconfig.rootpath)], capture_output=True, text=True, check=True
    )
    assert ran.stdout.startswith("MissingExtraError mlserve.integrations.opentelemetry needs opentelemetry-api.")
    assert "mlserve[opentelemetry]" in ran.stdout
