"""Observable instruments: a monitor that is read whenever metrics are collected."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any, final

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Meter, Observation

from mlserve._forking import renew_after_fork
from mlserve.clocks import Clock, SystemClock
from mlserve.integrations._otel_names import ERROR_TYPE, MODEL_NAME, MODEL_VERSION, SCOPE
from mlserve.integrations._reading import DISCARDED, MonitorReader, Reading, checked_name
from mlserve.protocols import ModelMonitor
from mlserve.records import ModelMetrics

SAME_LOOK_SECONDS = 1.0
"""Instruments are asked one after the other; those asked within this time, each once, are told of one look."""


@final
class MonitorInstruments:
    """Observable instruments over the monitors of one or several models.

    The instruments of one collection are told of one look at each monitor, so that what they say belongs together.
    Counters only rise; versions and kinds of failure beyond a number share a value, as ``MonitorCollector`` of
    ``mlserve.integrations.prometheus`` explains. There is no observable histogram in OpenTelemetry: of latencies there
    are quantiles of a recent window, and count and sum since the beginning. For histograms see ``OpenTelemetrySink``.

    A monitor that raises is counted in ``mlserve.monitor.read_errors`` and logged at most once a minute; nothing else
    is told of it until it can be read.

    *Thread safety*: yes. *Lifetime*: instruments cannot be taken back; they read the monitors as long as the meter's
    provider lives. One object for a meter: the SDK ignores a second set of the same names, so ``add`` further models.

    Args:
        meter: Where the instruments are made; by default that of the global provider.
        window: Length of the recent window.
        max_versions: Versions with a value of their own, at most.
        clock: For the time between two looks, and between two log lines.
    """

    def __init__(
        self,
        meter: Meter | None = None,
        *,
        window: timedelta = timedelta(minutes=5),
        max_versions: int = 10,
        clock: Clock | None = None,
    ) -> None:
        self._clock: Clock = clock if clock is not None else SystemClock()
        self._window = window
        self._max_versions = max_versions
        self._looks: dict[str, _Look] = {}
        self._make(meter if meter is not None else metrics.get_meter(SCOPE))

    def add(self, monitor: ModelMonitor, *, name: str) -> None:
        """Observe a model's monitor.

        Args:
            monitor: What is read; a ``CumulativeMonitor``.
            name: The attribute ``mlserve.model.name``.

        Raises:
            MissingCapabilityError: The monitor is no ``CumulativeMonitor``.
            InvalidArgumentError: The name is no text, or taken.
        """
        reader = MonitorReader(
            monitor,
            checked_name(name, self._looks),
            window=self._window,
            max_versions=self._max_versions,
            clock=self._clock,
        )
        self._looks = {**self._looks, name: _Look(reader, self._clock)}  # a collection may be reading the other one

    def _make(self, meter: Meter) -> None:
        def instrument(
            create: Callable[..., object], name: str, unit: str, what: str, observe: Callable[[Reading], _Found]
        ) -> None:
            def callback(_options: CallbackOptions) -> Iterator[Observation]:
                for model, look in self._looks.items():
                    reading = look.told_to(name)
                    if reading is not None:
                        yield from (Observation(value, {MODEL_NAME: model, **of}) for value, of in observe(reading))

            create(f"{SCOPE}.{name}", callbacks=[callback], unit=unit, description=what)

        counter, gauge = meter.create_observable_counter, meter.create_observable_gauge
        for name, unit, what, observe in _COUNTERS:
            instrument(counter, name, unit, what, observe)
        for name, unit, what, observe in _GAUGES:
            instrument(gauge, name, unit, what, observe)
        instrument(
            meter.create_observable_up_down_counter, "outcomes.pending", "{prediction}",
            "Predictions that wait for their outcome.",
            lambda reading: [] if reading.statistics is None else [(reading.statistics.pending, {})],
        )  # fmt: skip
        meter.create_observable_counter(
            f"{SCOPE}.monitor.read_errors",
            callbacks=[self._read_errors],
            unit="{error}",
            description="Times that a monitor could not be read.",
        )

    def _read_errors(self, _options: CallbackOptions) -> Iterator[Observation]:
        for model, look in self._looks.items():
            yield Observation(look.failures, {MODEL_NAME: model})


def instrument_monitor(
    monitor: ModelMonitor,
    meter: Meter | None = None,
    *,
    name: str = "model",
    window: timedelta = timedelta(minutes=5),
    max_versions: int = 10,
    clock: Clock | None = None,
) -> MonitorInstruments:
    """Have a monitor read whenever metrics are collected.

    Args:
        monitor: What is read; a ``CumulativeMonitor``.
        meter: Where the instruments are made; by default that of the global provider.
        name: The attribute ``mlserve.model.name``.
        window: Length of the recent window of the gauges.
        max_versions: Versions with a value of their own, at most.
        clock: For the time between two looks, and between two log lines.

    Returns:
        The instruments, to which further models can be added.

    Raises:
        MissingCapabilityError: The monitor is no ``CumulativeMonitor``.
        InvalidArgumentError: A window that is not positive, or no version at all.

    Example:
        >>> from mlserve import InMemoryModelMonitor
        >>> instruments = instrument_monitor(InMemoryModelMonitor(), name="wine")
        >>> instruments.add(InMemoryModelMonitor(), name="flights")
    """
    instruments = MonitorInstruments(meter, window=window, max_versions=max_versions, clock=clock)
    instruments.add(monitor, name=name)
    return instruments


@final
class _Look:
    """One look at a monitor, told to each instrument once.

    An instrument that asks again begins a new collection, and so does one that comes late: a reader of the SDK need
    not ask all of them.
    """

    def __init__(self, reader: MonitorReader, clock: Clock) -> None:
        self._reader = reader
        self._monotonic = clock.monotonic
        self._told: set[str] = set()
        self._until = float("-inf")
        self._reading: Reading | None = None
        self._after_fork()
        renew_after_fork(self)

    @property
    def failures(self) -> int:
        return self._reader.failures

    def told_to(self, instrument: str) -> Reading | None:
        with self._lock:
            now = self._monotonic()
            if instrument in self._told or now >= self._until:
                self._reading = self._reader.read()
                self._told.clear()
                self._until = now + SAME_LOOK_SECONDS
            self._told.add(instrument)
            return self._reading

    def _after_fork(self) -> None:
        self._lock = threading.Lock()


_Found = Iterable[tuple[float, dict[str, Any]]]
_Instrument = tuple[str, str, str, Callable[[Reading], _Found]]


def _by_version(value: Callable[[Any], float]) -> Callable[[Reading], _Found]:
    return lambda reading: [(value(series), {MODEL_VERSION: version}) for version, series in reading.series.items()]


def _errors(reading: Reading) -> _Found:
    for version, series in reading.series.items():
        for kind, count in series.errors.items():
            yield count, {MODEL_VERSION: version, ERROR_TYPE: kind}


def _outcomes(reading: Reading) -> _Found:
    for version, series in reading.series.items():
        for result, count in series.outcomes.items():
            yield count, {MODEL_VERSION: version, "mlserve.outcome.result": result}


def _drift_events(reading: Reading) -> _Found:
    return [] if reading.statistics is None else [(reading.statistics.drift_events, {})]


def _discarded(reading: Reading) -> _Found:
    if reading.statistics is not None:
        for reason in DISCARDED:
            yield getattr(reading.statistics, reason), {"mlserve.discard.reason": reason}


def _sink_failures(reading: Reading) -> _Found:
    return [(failures, {"mlserve.sink.name": name}) for name, failures in reading.sinks.items()]


def _recent(value: Callable[[ModelMetrics], float | None]) -> Callable[[Reading], _Found]:
    def observe(reading: Reading) -> _Found:
        for version, recent in reading.recent.items():
            found = value(recent)
            if found is not None:
                yield found, {MODEL_VERSION: version}

    return observe


def _durations(reading: Reading) -> _Found:
    for version, recent in reading.recent.items():
        for quantile, milliseconds in (
            (0.5, recent.p50_latency_ms),
            (0.95, recent.p95_latency_ms),
            (0.99, recent.p99_latency_ms),
        ):
            if milliseconds is not None:
                yield milliseconds / 1000.0, {MODEL_VERSION: version, "mlserve.quantile": quantile}


_COUNTERS: tuple[_Instrument, ...] = (
    ("requests", "{request}", "Requests answered, failures included.", _by_version(lambda series: series.requests)),
    ("errors", "{error}", "Failures by kind.", _errors),
    ("predictions", "{prediction}", "Successful predictions.", _by_version(lambda series: series.predictions)),
    ("prediction.time", "s", "Time of the successful predictions.", _by_version(lambda series: series.seconds)),
    ("outcomes", "{outcome}", "Predictions whose outcome arrived.", _outcomes),
    ("drift.events", "{event}", "Drifts recorded.", _drift_events),
    ("monitor.discarded", "{event}", "What the monitor could not use.", _discarded),
    ("monitor.sink.failures", "{call}", "Calls of a sink that raised.", _sink_failures),
)
_GAUGES: tuple[_Instrument, ...] = (
    ("window.prediction.duration", "s", "Quantiles of the time of a prediction.", _durations),
    ("window.accuracy", "1", "Labelled predictions that were right.", _recent(lambda recent: recent.accuracy)),
    ("window.label_coverage", "1", "Predictions that are labelled.", _recent(lambda recent: recent.label_coverage)),
    ("window.confidence", "1", "Mean confidence.", _recent(lambda recent: recent.average_confidence)),
    ("window.mean_absolute_error", "", "Of a regressor.", _recent(lambda recent: recent.mean_absolute_error)),
    ("window.r2", "1", "Of a regressor.", _recent(lambda recent: recent.r2)),
)
