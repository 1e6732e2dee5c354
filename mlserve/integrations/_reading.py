"""What a door shows of a monitor: counters that only rise, of a bounded number of versions, and recent windows."""

from __future__ import annotations

import threading
from collections.abc import Container, Mapping, Sequence
from datetime import timedelta
from typing import Any, final

import attrs
import numpy as np
import numpy.typing as npt

from mlserve._forking import renew_after_fork
from mlserve.clocks import Clock, SystemClock
from mlserve.errors import ErrorKind, InvalidArgumentError, MissingCapabilityError
from mlserve.monitors._fanout import FanoutStatistics
from mlserve.monitors._sinks import Isolated, ReportsStatistics
from mlserve.protocols import CumulativeMonitor, ModelMonitor
from mlserve.records import ModelMetrics, MonitorStatistics
from mlserve.records._values import FrozenMapping

OTHER = "other"
"""The label of the versions, and of the kinds of failure, that have none of their own."""

NO_VERSION = "none"
"""The label of requests for which no version was resolved."""

MAX_OWN_KINDS = 20
"""Kinds of failure that ``ErrorKind`` does not know and that have a label of their own: an adapter may invent kinds
without end, and every one would be a time series for each version."""

DISCARDED = (
    "dropped",
    "uncopied",
    "unknown_outcomes",
    "duplicate_outcomes",
    "mismatched_outcomes",
    "pending_evicted",
)
"""Fields of ``MonitorStatistics`` that say what could not be used, which are the reasons."""

LADDER_SECONDS = (*(float(f"{step}e{decade}") for decade in range(-5, 1) for step in ("1", "2.5", "5")), 10.0)
"""1, 2.5 and 5 of every decade from 10 µs to 10 s: a model in the same process may answer in microseconds, which the
usual ladder, from 5 ms on, would all put into its first bucket."""

_KNOWN_KINDS = frozenset(kind.value for kind in ErrorKind)
_NOTHING = ModelMetrics()


@attrs.frozen(eq=False)
class Series:
    """Counters of one label, which only rise.

    Attributes:
        requests: Requests answered, failures included.
        errors: Failures by kind.
        seconds: Processing times of the successful predictions, added up.
        buckets: Successful predictions by processing time, int64, one item for each edge and one for all above the
            last; not cumulative.
        outcomes: Predictions whose outcome arrived: ``correct``, ``wrong``, or ``numeric`` for those of a regressor.
    """

    requests: int
    errors: Mapping[str, int]
    seconds: float
    buckets: npt.NDArray[np.int64]
    outcomes: Mapping[str, int]

    @property
    def predictions(self) -> int:
        """Successful predictions."""
        return int(self.buckets.sum())


@attrs.frozen(eq=False)
class Reading:
    """What one look at a monitor found.

    Attributes:
        series: By label: a version's id, ``NO_VERSION`` or ``OTHER``. All of one moment.
        recent: What the window says of each version that has a label of its own.
        statistics: The monitor's own counters; None where it has none of the known form.
        sinks: Failures of the sinks of a fan-out, by name.
    """

    series: Mapping[str, Series]
    recent: Mapping[str, ModelMetrics]
    statistics: MonitorStatistics | None
    sinks: Mapping[str, int]


@final
class MonitorReader:
    """Reads one monitor again and again.

    Counters are told by what they grew since the look before: what a version's counts grew by is added to the series
    of the label that the version has now. A version that loses its label leaves its series as it is, no longer shown,
    and from then on adds to ``OTHER``; one that gets it back goes on where its series stopped. So no series ever
    falls, and no request is in two of them. Counts of a monitor that fall themselves are taken for a new beginning.

    The labels are those of the ``max_versions`` versions that were active in the most recent look; among equals, of
    those that have one already, then of the newest.

    *Thread safety*: yes.

    Args:
        monitor: What is read.
        name: What it is called in logs.
        window: Length of the recent window.
        max_versions: Versions with a label of their own, at most.
        edges: Bins of ``LatencyHistogram``, rising: the last bin of each bucket.
        clock: For the time between two log lines.

    Attributes:
        failures: Looks that raised.

    Raises:
        MissingCapabilityError: The monitor is no ``CumulativeMonitor``.
        InvalidArgumentError: A window that is not positive, or no version at all.
    """

    def __init__(
        self,
        monitor: ModelMonitor,
        name: str,
        *,
        window: timedelta,
        max_versions: int,
        edges: Sequence[int] = (),
        clock: Clock | None = None,
    ) -> None:
        if not isinstance(monitor, CumulativeMonitor):
            raise MissingCapabilityError(monitor, "CumulativeMonitor", "exporting counters that only rise")
        if not isinstance(window, timedelta) or window <= timedelta(0):
            raise InvalidArgumentError(
                "window", window, "a positive timedelta", hint="For example timedelta(minutes=5)."
            )
        if max_versions < 1:
            raise InvalidArgumentError("max_versions", max_versions, "at least 1")
        self._monitor = monitor
        self._cumulative: CumulativeMonitor = monitor
        self._window = window
        self._max_versions = max_versions
        self._edges = np.array(edges, np.int64)
        self._isolated = Isolated(
            monitor, f"reading the monitor of {name!r}", clock if clock is not None else SystemClock()
        )
        self._nothing = Series(0, FrozenMapping(), 0.0, np.zeros(self._edges.size + 1, np.int64), FrozenMapping())
        self._series: dict[str, Series] = {}
        self._seen: dict[str | None, ModelMetrics] = {}
        self._last_active: dict[str, int] = {}
        self._labelled: frozenset[str] = frozenset()
        self._own_kinds: set[str] = set()
        self._looks = 0
        self._after_fork()
        renew_after_fork(self)

    @property
    def failures(self) -> int:
        return self._isolated.failures

    def read(self) -> Reading | None:
        """Look at the monitor. None if it raised: that is counted, and logged at most once a minute."""
        try:
            with self._lock:
                series = self._grow(self._cumulative.cumulative_metrics())
                labelled = self._labelled
            recent = {label_of(one): self._monitor.get_model_metrics(one, self._window) for one in labelled}
            statistics, sinks = _statistics(self._monitor)
        except Exception as error:
            self._isolated.failed(error)
            return None
        return Reading(series, recent, statistics, sinks)

    def _grow(self, cumulative: Sequence[ModelMetrics]) -> dict[str, Series]:
        self._looks += 1
        for now in cumulative:
            version_id = now.model_version
            grew = now.request_count > self._seen.get(version_id, _NOTHING).request_count
            if version_id is not None and (grew or version_id not in self._last_active):
                self._last_active[version_id] = self._looks
        self._labelled = self._chosen()
        for now in cumulative:
            before = self._seen.get(now.model_version, _NOTHING)
            label = self._label(now.model_version)
            self._series[label] = self._grown(self._series.get(label, self._nothing), before, now)
            self._seen[now.model_version] = now
        self._series.setdefault(NO_VERSION, self._nothing)
        shown = {*map(label_of, self._labelled), NO_VERSION, OTHER}
        return {label: series for label, series in self._series.items() if label in shown}

    def _chosen(self) -> frozenset[str]:
        # The dictionary is in order of first appearance: the newest is last.
        order = {version_id: number for number, version_id in enumerate(self._last_active)}
        ranked = sorted(
            self._last_active,
            key=lambda version_id: (self._last_active[version_id], version_id in self._labelled, order[version_id]),
        )
        return frozenset(ranked[-self._max_versions :])

    def _label(self, version_id: str | None) -> str:
        if version_id is None:
            return NO_VERSION
        return label_of(version_id) if version_id in self._labelled else OTHER

    def _kind(self, kind: str) -> str:
        if kind in _KNOWN_KINDS or kind in self._own_kinds:
            return label_of(kind)
        if len(self._own_kinds) == MAX_OWN_KINDS:
            return OTHER
        self._own_kinds.add(kind)
        return label_of(kind)

    def _grown(self, series: Series, before: ModelMetrics, now: ModelMetrics) -> Series:
        errors = dict(series.errors)
        for kind, count in now.errors_by_kind.items():
            label = self._kind(kind)
            errors[label] = errors.get(label, 0) + max(count - before.errors_by_kind.get(kind, 0), 0)
        outcomes = dict(series.outcomes)
        for result, count in _outcomes(before, now).items():
            outcomes[result] = outcomes.get(result, 0) + count
        return Series(
            requests=series.requests + max(now.request_count - before.request_count, 0),
            errors=FrozenMapping(errors),
            seconds=series.seconds + max(_seconds(now) - _seconds(before), 0.0),
            buckets=series.buckets + np.maximum(self._buckets(now) - self._buckets(before), 0),
            outcomes=FrozenMapping(outcomes),
        )

    def _buckets(self, metrics: ModelMetrics) -> npt.NDArray[np.int64]:
        histogram, counts = metrics.latency_histogram, np.zeros(self._edges.size + 1, np.int64)
        if histogram is not None:
            bins = histogram.first_bin + np.arange(histogram.counts.size)
            np.add.at(counts, np.searchsorted(self._edges, bins), histogram.counts)
        return counts

    def _after_fork(self) -> None:
        self._lock = threading.Lock()


def checked_name(name: str, taken: Container[str] = ()) -> str:
    """The name of a model.

    Raises:
        InvalidArgumentError: It is no text, empty, or taken.
    """
    if not isinstance(name, str) or not name:
        raise InvalidArgumentError("name", name, "a non-empty string")
    if name in taken:
        raise InvalidArgumentError("name", name, "one that no other model has", hint="Name each model once.")
    return name


def label_of(text: str) -> str:
    """The text as a label that can be sent: one that is no Unicode would fail the whole answer."""
    return text.encode("utf-8", "backslashreplace").decode()


def _seconds(metrics: ModelMetrics) -> float:
    successes = metrics.request_count - metrics.error_count
    return (metrics.average_latency_ms or 0.0) * successes / 1000.0


def _outcomes(before: ModelMetrics, now: ModelMetrics) -> dict[str, int]:
    labelled = max(now.labelled_count - before.labelled_count, 0)
    if now.accuracy is None:
        return {"numeric": labelled} if labelled else {}
    correct = round(now.accuracy * now.labelled_count) - round((before.accuracy or 0.0) * before.labelled_count)
    correct = min(max(correct, 0), labelled)
    return {"correct": correct, "wrong": labelled - correct}


def _statistics(monitor: ModelMonitor) -> tuple[MonitorStatistics | None, dict[str, int]]:
    said: Any = monitor.statistics() if isinstance(monitor, ReportsStatistics) else None
    sinks: dict[str, int] = {}
    while isinstance(said, FanoutStatistics):  # a fan-out may be the primary of another
        for sink in said.sinks:
            sinks[sink.name] = sinks.get(sink.name, 0) + sink.failures
        said = said.primary
    return (said if isinstance(said, MonitorStatistics) else None), sinks
