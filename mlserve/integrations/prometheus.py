"""Prometheus: collectors that read a monitor and a server when they are scraped, and cost a request nothing.

Needs the extra ``prometheus``. The metrics, all with the label ``model``:

============================================  =========  ==================  ==========================================
metric                                        type       further labels      what
============================================  =========  ==================  ==========================================
``mlserve_requests_total``                    counter    version             requests answered, failures included
``mlserve_errors_total``                      counter    version, kind       failures
``mlserve_prediction_duration_seconds``       histogram  version             processing time of successful predictions
``mlserve_outcomes_total``                    counter    version, result     ``correct``, ``wrong`` or ``numeric``
``mlserve_window_accuracy_ratio``             gauge      version             of the window, as all ``mlserve_window_``
``mlserve_window_label_coverage_ratio``       gauge      version             labelled over successful predictions
``mlserve_window_confidence_ratio``           gauge      version             mean confidence
``mlserve_window_mean_absolute_error``        gauge      version             of a regressor, in the target's unit
``mlserve_window_r2``                         gauge      version             of a regressor
``mlserve_window_seconds``                    gauge                          length of the window
``mlserve_pending_outcomes``                  gauge                          predictions that wait for their outcome
``mlserve_drift_events_total``                counter                        drifts recorded
``mlserve_monitor_discarded_total``           counter    reason              what the monitor could not use
``mlserve_monitor_sink_failures_total``       counter    sink                of a ``FanoutMonitor``
``mlserve_up``                                gauge                          1 if the monitor could be read, else 0
``mlserve_scrape_errors_total``               counter                        times that it could not
``mlserve_server_requests_total``             counter    result              ``succeeded``, ``degraded``, ``failed``,
                                                                             ``timed_out``, ``shed``, ``cancelled``
``mlserve_server_in_flight_requests``         gauge                          requests not answered yet
``mlserve_server_loaded_models``              gauge                          models in memory
``mlserve_server_leases``                     gauge      version             calls that hold a model
``mlserve_server_breaker_state``              gauge      version, state      1 for the state that a breaker is in
``mlserve_server_model_loads_total``          counter    result              ``loaded`` or ``failed``
``mlserve_server_cache_misses_total``         counter                        times that a model was waited for
``mlserve_server_swaps_total``                counter                        times that traffic moved to another version
``mlserve_server_evictions_total``            counter                        models dropped from memory
``mlserve_server_batches_total``              counter                        calls that answered several requests
``mlserve_server_batched_requests_total``     counter                        requests answered by them
``mlserve_server_errors_total``               counter    part                failures of repository, monitor, router,
                                                                             fallbacks that were passed over
============================================  =========  ==================  ==========================================
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import accumulate
from typing import final

from typing_extensions import override

from mlserve.clocks import Clock
from mlserve.errors import ErrorKind, InvalidArgumentError, MissingExtraError
from mlserve.integrations._reading import (
    DISCARDED,
    LADDER_SECONDS,
    NO_VERSION,
    MonitorReader,
    Reading,
    Series,
    checked_name,
)
from mlserve.numerics._sketches import LARGEST_MS, RELATIVE_ERROR, SMALLEST_MS
from mlserve.protocols import ModelMonitor

try:
    from prometheus_client.metrics_core import HistogramMetricFamily, Metric
    from prometheus_client.registry import Collector
    from prometheus_client.utils import floatToGoString
except ModuleNotFoundError as _error:  # pragma: no cover  # tested in an interpreter of its own
    if (_error.name or "").partition(".")[0] != "prometheus_client":
        raise
    raise MissingExtraError("prometheus_client", "prometheus", "mlserve.integrations.prometheus") from _error

from mlserve.integrations._prometheus_families import counter, gauge
from mlserve.integrations._prometheus_server import ServerCollector

__all__ = ["DEFAULT_BUCKETS", "MonitorCollector", "ServerCollector"]

DEFAULT_BUCKETS = LADDER_SECONDS
"""1, 2.5 and 5 of every decade from 10 µs to 10 s, in seconds."""

LOG_GAMMA = math.log((1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR))
"""The logarithm of the width of a bin of ``LatencyHistogram``."""

_MS = 1000.0
_NO_ERRORS = {kind.value: 0 for kind in ErrorKind}
"""A counter that first appears at 1 has not risen, and ``rate`` would miss the first failure of a kind."""


@final
class MonitorCollector(Collector):
    """Shows what monitors counted to Prometheus.

    Register it once for a process; further models are added to it, since Prometheus takes each metric from one
    collector. Nothing happens until a scrape, which reads each monitor: its counters in one consistent look, then the
    recent window of each version.

    *Counters never fall.* They count from when the monitor was built, as those of any process do; Prometheus takes a
    restart for what it is. The ``max_versions`` versions that were active most recently have a series of their own,
    all others share ``version="other"``, and requests that found no version are ``version="none"``. When a version
    moves to ``other``, its own series ends and ``other`` grows by what the version counts from then on; were its past
    added, ``rate`` would see a burst of requests that never came. If it comes back, its series goes on where it
    stopped. So ``rate`` and ``increase`` are right for every series and for sums over versions; the sum of the bare
    counters is not the number of requests, and need not be. Kinds of failure are bounded alike.

    *Buckets coincide with bins.* ``LatencyHistogram`` counts in bins 2 % wide; a bucket that ended inside a bin would
    have to guess. Each of ``buckets`` is therefore moved to the nearest edge of a bin, by 1.01 % at most, and ``le`` is
    that edge in full: every count is exact. A query needs the edge as it is: see the attribute ``buckets``.

    *A monitor that raises* does not fail the scrape, which would hide every other metric of the process: its
    ``mlserve_up`` is 0, ``mlserve_scrape_errors_total`` rises, its other metrics are absent until it can be read, and
    it is logged at most once a minute.

    *Thread safety*: yes; scrapes may overlap, and several Prometheus servers may scrape. *Fork*: each process has
    counts of its own, and is scraped by itself: the multiprocess mode of ``prometheus_client`` knows no collectors.

    Args:
        monitor: What is read; a ``CumulativeMonitor``.
        name: The label ``model``.
        window: Length of the window of the gauges that begin with ``mlserve_window_``.
        max_versions: Versions with series of their own, at most.
        buckets: Upper bounds of the histogram's buckets in seconds, rising; +Inf is added.
        clock: For the time between two log lines.

    Attributes:
        buckets: The upper bounds that are used, in seconds.

    Raises:
        MissingCapabilityError: The monitor is no ``CumulativeMonitor``.
        InvalidArgumentError: A window that is not positive, no version, or buckets that are none.

    Example:
        >>> from prometheus_client import CollectorRegistry, generate_latest
        >>> from mlserve import InMemoryModelMonitor, InMemoryModelRepository, ModelServer
        >>> repository, monitor = InMemoryModelRepository(), InMemoryModelMonitor()
        >>> version = repository.register(sum)
        >>> result = ModelServer(repository, monitor).predict([1, 2])
        >>> registry = CollectorRegistry()
        >>> registry.register(MonitorCollector(monitor, name="adder"))
        >>> registry.get_sample_value("mlserve_requests_total", {"model": "adder", "version": "1"})
        1
    """

    def __init__(
        self,
        monitor: ModelMonitor,
        *,
        name: str = "model",
        window: timedelta = timedelta(minutes=5),
        max_versions: int = 10,
        buckets: Sequence[float] = DEFAULT_BUCKETS,
        clock: Clock | None = None,
    ) -> None:
        self._edges = _bins(buckets)
        self.buckets: tuple[float, ...] = tuple(math.exp(edge * LOG_GAMMA) / _MS for edge in self._edges)
        self._le = (*map(floatToGoString, self.buckets), "+Inf")
        self._window = window
        self._max_versions = max_versions
        self._clock = clock
        self._readers: dict[str, MonitorReader] = {}
        self.add(monitor, name=name)

    def add(self, monitor: ModelMonitor, *, name: str) -> None:
        """Show another model's monitor too, with the same settings.

        Args:
            monitor: What is read; a ``CumulativeMonitor``.
            name: The label ``model``.

        Raises:
            MissingCapabilityError: The monitor is no ``CumulativeMonitor``.
            InvalidArgumentError: The name is no text, or taken.
        """
        reader = MonitorReader(
            monitor,
            checked_name(name, self._readers),
            window=self._window,
            max_versions=self._max_versions,
            edges=self._edges,
            clock=self._clock,
        )
        self._readers = {**self._readers, name: reader}  # a scrape may be reading the other one

    def describe(self) -> list[Metric]:
        """The metrics without values: registering reads no monitor."""
        return list(_Families())

    @override
    def collect(self) -> list[Metric]:
        """Read the monitors. Called by the registry for each scrape."""
        families = _Families()
        for name, reader in self._readers.items():
            reading = reader.read()
            families.up.add_metric([name], float(reading is not None))
            families.scrape_errors.add_metric([name], reader.failures)
            if reading is not None:
                self._show(families, name, reading)
        return list(families)

    def _show(self, families: _Families, name: str, reading: Reading) -> None:
        families.window_seconds.add_metric([name], self._window.total_seconds())
        for version, series in reading.series.items():
            self._show_series(families, [name, version], series)
        for version, recent in reading.recent.items():
            for family, value in (
                (families.accuracy, recent.accuracy),
                (families.label_coverage, recent.label_coverage),
                (families.confidence, recent.average_confidence),
                (families.mean_absolute_error, recent.mean_absolute_error),
                (families.r2, recent.r2),
            ):
                if value is not None:
                    family.add_metric([name, version], value)
        if reading.statistics is not None:
            families.pending.add_metric([name], reading.statistics.pending)
            families.drift_events.add_metric([name], reading.statistics.drift_events)
            for reason in DISCARDED:
                families.discarded.add_metric([name, reason], getattr(reading.statistics, reason))
        for sink, failures in reading.sinks.items():
            families.sink_failures.add_metric([name, sink], failures)

    def _show_series(self, families: _Families, labels: list[str], series: Series) -> None:
        families.requests.add_metric(labels, series.requests)
        for kind, count in {**_NO_ERRORS, **series.errors}.items():
            families.errors.add_metric([*labels, kind], count)
        if series.predictions or labels[-1] != NO_VERSION:  # what finds no version is never answered
            cumulative = map(float, accumulate(series.buckets.tolist()))
            families.duration.add_metric(labels, list(zip(self._le, cumulative, strict=True)), series.seconds)
        for result, count in series.outcomes.items():
            families.outcomes.add_metric([*labels, result], count)


def _bins(buckets: Sequence[float]) -> list[int]:
    """The bin of ``LatencyHistogram`` whose upper edge is nearest to each bound.

    Raises:
        InvalidArgumentError: Bounds that do not rise, lie outside what is counted, or share a bin.
    """
    seconds = list(buckets)
    low, high = SMALLEST_MS / _MS, LARGEST_MS / _MS
    if not seconds or not all(low <= bound <= high for bound in seconds):
        raise InvalidArgumentError(
            "buckets", buckets, f"seconds in [{low:g}, {high:g}]", hint="The bucket up to +Inf is added by itself."
        )
    bins = [round(math.log(bound * _MS) / LOG_GAMMA) for bound in seconds]
    if bins != sorted(set(bins)):
        raise InvalidArgumentError("buckets", buckets, "rising, each at least 3 % above the one before")
    return bins


class _Families:
    """The metrics of one scrape."""

    def __init__(self) -> None:
        self.requests = counter("requests", "Requests answered, failures included.", "version")
        self.errors = counter("errors", "Failures by kind.", "version", "kind")
        self.duration = HistogramMetricFamily(
            "mlserve_prediction_duration",
            "Processing time of the successful predictions.",
            labels=("model", "version"),
            unit="seconds",
        )
        self.outcomes = counter("outcomes", "Predictions whose outcome arrived.", "version", "result")
        self.accuracy = gauge("window_accuracy", "Labelled predictions that were right.", "version", unit="ratio")
        self.label_coverage = gauge(
            "window_label_coverage", "Predictions whose outcome arrived.", "version", unit="ratio"
        )
        self.confidence = gauge("window_confidence", "Mean confidence of the predictions.", "version", unit="ratio")
        self.mean_absolute_error = gauge(
            "window_mean_absolute_error", "Mean of |output - actual|, in the target's unit.", "version"
        )
        self.r2 = gauge("window_r2", "Coefficient of determination.", "version")
        self.window_seconds = gauge("window", "Length of the window of the gauges.", unit="seconds")
        self.pending = gauge("pending_outcomes", "Predictions that wait for their outcome.")
        self.drift_events = counter("drift_events", "Drifts recorded.")
        self.discarded = counter("monitor_discarded", "What the monitor could not use.", "reason")
        self.sink_failures = counter("monitor_sink_failures", "Calls of a sink that raised.", "sink")
        self.up = gauge("up", "1 if the monitor could be read, else 0.")
        self.scrape_errors = counter("scrape_errors", "Times that the monitor could not be read.")

    def __iter__(self) -> Iterator[Metric]:
        return iter(vars(self).values())
