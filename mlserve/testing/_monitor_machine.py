"""A monitor beside a list of all that was recorded."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import attrs
import hypothesis.strategies as st
import numpy as np
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mlserve.clocks import ManualClock
from mlserve.errors import ErrorKind
from mlserve.protocols import EventMonitor, LabelledMonitor, ModelMonitor
from mlserve.records import FailureEvent, ModelMetrics, PredictionEvent
from mlserve.records._monitoring import fault_count

PERCENTILE_ERROR = 0.01
"""What ``ModelMetrics`` promises of its percentiles."""

ROUNDING = 1e-9
"""Relative; sums may be taken in any order."""

_VERSIONS = st.sampled_from(["1", "2"])
_KINDS = st.sampled_from([*ErrorKind, "SomethingElse"])
_LONGEST_WINDOW = timedelta(hours=6)
_SPANS = st.integers(1, 3 * 3_600_000_000).map(lambda microseconds: timedelta(microseconds=microseconds))
_AGES = st.one_of(st.just(timedelta(0)), _SPANS)
_LATENCIES = st.floats(0.001, 1e6)
_CONFIDENCES = st.one_of(st.none(), st.floats(0, 1))
_LABELS = st.integers(0, 1)

REGRESSOR = "2"
"""The version whose answers are numbers with a fraction; those of all others are classes."""


@attrs.define(eq=False)
class Recorded:
    """One request as the list keeps it; ``kind`` is None for a prediction that was answered."""

    version_id: str | None
    at: datetime
    kind: str | None = None
    latency_ms: float = 0.0
    confidence: float | None = None
    input: float = 0.0
    output: float = 0
    actual: int | None = None

    @property
    def is_regression(self) -> bool:
        """Whether its answer is one of a regressor."""
        return not float(self.output).is_integer()


class MonitorMachine(RuleBasedStateMachine):
    """Records the same in a ``ModelMonitor`` and in a list, and compares what any window says.

    ``ModelMonitorContract`` runs it, with outcomes for a ``LabelledMonitor`` and whole failures for an
    ``EventMonitor``.

    Args:
        monitor: A new one.
        clock: The clock that it was given.
        settle: Called with the monitor before it is read.
        reaches_back_to: From the beginning of a window and now to the moment, not later than that beginning, after
            which the monitor may count already. Where nothing happened between the two, its answer must be exact.
    """

    def __init__(
        self,
        monitor: ModelMonitor,
        clock: ManualClock,
        settle: Callable[[Any], None],
        reaches_back_to: Callable[[datetime, datetime], datetime],
    ) -> None:
        super().__init__()
        self._monitor = monitor
        self._clock = clock
        self._settle = settle
        self._reaches_back_to = reaches_back_to
        self._requests: list[Recorded] = []
        self._predictions: list[Recorded] = []

    @initialize(predictions=st.lists(st.tuples(_VERSIONS, _AGES, _LATENCIES, _CONFIDENCES, _LABELS), max_size=10))
    def begin(self, predictions: list[tuple[str, timedelta, float, float | None, int]]) -> None:
        """Some predictions to begin with: most rules mean little without."""
        for prediction in predictions:
            self.predict(*prediction)

    @rule(by=_SPANS)
    def advance(self, by: timedelta) -> None:
        """Time passes."""
        self._clock.advance(by)

    @rule(version_id=_VERSIONS, age=_AGES, latency_ms=_LATENCIES, confidence=_CONFIDENCES, output=_LABELS)
    def predict(
        self, version_id: str, age: timedelta, latency_ms: float, confidence: float | None, output: int
    ) -> None:
        """A prediction, at any time in the past."""
        self._predict(Recorded(version_id, self._clock.now() - age, None, latency_ms, confidence, output=output))

    @rule(version_id=_VERSIONS, count=st.integers(1, 700), age=_AGES, step=st.integers(0, 10_000_000))
    def predict_many(self, version_id: str, count: int, age: timedelta, step: int) -> None:
        """Many predictions, one every so many microseconds from some time on, none in the future."""
        now = self._clock.now()
        for number in range(count):
            at = min(now, now - age + number * timedelta(microseconds=step))
            self._predict(Recorded(version_id, at, None, 1.0 + number, output=number % 2))

    def _predict(self, request: Recorded) -> None:
        number = len(self._predictions)
        request.input = float(number)
        if request.version_id == REGRESSOR:
            request.output += 0.25
        self._requests.append(request)
        self._predictions.append(request)
        self._monitor.record_prediction(
            PredictionEvent(
                prediction_id=str(number),
                model_version=str(request.version_id),
                input=[request.input],
                output=request.output,
                processing_time_ms=request.latency_ms,
                timestamp=request.at,
                confidence=request.confidence,
            )
        )

    @rule(version_id=st.one_of(st.none(), _VERSIONS), kind=_KINDS)
    def fail(self, version_id: str | None, kind: str) -> None:
        """A failure, now."""
        self._monitor.record_prediction_error(kind, version_id)
        self._requests.append(Recorded(version_id, self._clock.now(), str(kind)))

    @precondition(lambda self: isinstance(self._monitor, EventMonitor))
    @rule(version_id=st.one_of(st.none(), _VERSIONS), kind=_KINDS, age=_AGES)
    def fail_whole(self, version_id: str | None, kind: str, age: timedelta) -> None:
        """A failure with its event, at any time in the past."""
        assert isinstance(self._monitor, EventMonitor)
        at = self._clock.now() - age
        self._monitor.record_failure(FailureEvent(f"failed {len(self._requests)}", version_id, [0.0], kind, 1.0, at))
        self._requests.append(Recorded(version_id, at, str(kind)))

    @precondition(lambda self: self._predictions and isinstance(self._monitor, LabelledMonitor))
    @rule(back=st.one_of(st.integers(0, 2), st.integers(0, 10_000)), actuals=st.lists(_LABELS, min_size=1, max_size=2))
    def outcome(self, back: int, actuals: list[int]) -> None:
        """The true value of any prediction, once or twice; only the first one counts."""
        assert isinstance(self._monitor, LabelledMonitor)
        number = len(self._predictions) - 1 - back % len(self._predictions)
        for actual in actuals:
            self._monitor.record_outcome(str(number), actual)
        if self._predictions[number].actual is None:
            self._predictions[number].actual = actuals[0]

    @invariant()
    def compare_the_last_hours(self) -> None:
        """What happened in the last hours is what the list says, after every step."""
        for version_id in (None, "1"):
            self._compare(version_id, _LONGEST_WINDOW)

    @rule(version_id=st.one_of(st.none(), _VERSIONS), window=_SPANS)
    def compare_a_window(self, version_id: str | None, window: timedelta) -> None:
        """A window says what the list says."""
        self._compare(version_id, window)

    @precondition(lambda self: self._requests)
    @rule(version_id=_VERSIONS, which=st.integers(0, 10_000), beside=st.integers(-1, 1))
    def compare_at_an_edge(self, version_id: str, which: int, beside: int) -> None:
        """A window that begins at an event, or a microsecond beside it, says what the list says."""
        now = self._clock.now()
        window = now - self._requests[which % len(self._requests)].at + timedelta(microseconds=beside)
        if timedelta(0) < window <= _LONGEST_WINDOW:
            self._compare(version_id, window)

    def _compare(self, version_id: str | None, window: timedelta) -> None:
        self._settle(self._monitor)
        now = self._clock.now()
        start = now - window
        expected = self._between(version_id, start, now)
        possible = self._between(version_id, self._reaches_back_to(start, now), now)
        if version_id is None:
            metrics = self._monitor.get_recent_metrics(window)
        else:
            metrics = self._monitor.get_model_metrics(version_id, window)
            self._compare_inputs(version_id, window, expected, possible)
        assert len(expected) <= metrics.request_count <= len(possible)
        if len(expected) == len(possible):
            _compare_metrics(metrics, expected, window)

    def _between(self, version_id: str | None, start: datetime, now: datetime) -> list[Recorded]:
        return [
            request
            for request in self._requests
            if start < request.at <= now and version_id in (None, request.version_id)
        ]

    def _compare_inputs(
        self, version_id: str, window: timedelta, expected: list[Recorded], possible: list[Recorded]
    ) -> None:
        sample = self._monitor.get_recent_input_distribution(version_id, window)
        drawn = sample.rows.ravel().tolist()
        assert len(set(drawn)) == len(drawn), "an input is drawn once at most"
        assert set(drawn) <= {request.input for request in possible if request.kind is None}
        assert len(drawn) <= sample.count
        assert sample.count >= sum(request.kind is None for request in expected)


def _compare_metrics(metrics: ModelMetrics, requests: Sequence[Recorded], window: timedelta) -> None:
    answered = [request for request in requests if request.kind is None]
    errors = Counter(request.kind for request in requests if request.kind is not None)
    count, failed = len(requests), sum(errors.values())
    assert (metrics.request_count, metrics.error_count) == (count, failed)
    assert dict(metrics.errors_by_kind) == dict(errors)
    assert same(metrics.error_rate, failed / count if count else None)
    assert same(metrics.fault_rate, fault_count(errors) / count if count else None)
    assert same(metrics.throughput_per_second, count / window.total_seconds())
    assert same(metrics.average_latency_ms, _mean([request.latency_ms for request in answered]))
    assert same(
        metrics.average_confidence,
        _mean([request.confidence for request in answered if request.confidence is not None]),
    )
    latencies = [request.latency_ms for request in answered]
    for q, value in (
        (0.50, metrics.p50_latency_ms),
        (0.95, metrics.p95_latency_ms),
        (0.99, metrics.p99_latency_ms),
    ):
        assert is_quantile(value, latencies, q)
    labelled = [request for request in answered if request.actual is not None]
    assert metrics.labelled_count == len(labelled)
    assert same(metrics.label_coverage, len(labelled) / len(answered) if answered else None)
    regressions = sum(request.is_regression for request in labelled)
    # What the quality of a classifier and a regressor together would be, nobody has said.
    if not regressions:
        _compare_classes(metrics, labelled)
    elif regressions == len(labelled):
        _compare_errors(metrics, labelled)


def _compare_classes(metrics: ModelMetrics, labelled: Sequence[Recorded]) -> None:
    assert same(metrics.accuracy, _mean([float(request.output == request.actual) for request in labelled]))
    absent = [metrics.mean_absolute_error, metrics.root_mean_squared_error, metrics.r2]
    assert absent == [None, None, None]
    answered: Counter[Any] = Counter(request.output for request in labelled)
    true: Counter[Any] = Counter(request.actual for request in labelled)
    right: Counter[Any] = Counter(request.actual for request in labelled if request.output == request.actual)
    assert {one.label for one in metrics.classes} == answered.keys() | true.keys()
    supports = [one.support for one in metrics.classes]
    assert supports == sorted(supports, reverse=True), "the commonest class first"
    for one in metrics.classes:
        hits, claimed, actual = right[one.label], answered[one.label], true[one.label]
        assert (one.support, one.predicted) == (actual, claimed)
        assert same(one.precision, hits / claimed if claimed else None)
        assert same(one.recall, hits / actual if actual else None)
        assert same(one.f1, 2 * hits / (claimed + actual))


def _compare_errors(metrics: ModelMetrics, labelled: Sequence[Recorded]) -> None:
    assert (metrics.accuracy, metrics.classes) == (None, ())
    actual = [float(request.actual or 0) for request in labelled]
    errors = [request.output - value for request, value in zip(labelled, actual, strict=True)]
    squared, centre = math.fsum(error * error for error in errors), math.fsum(actual) / len(actual)
    spread = math.fsum((value - centre) ** 2 for value in actual)
    assert same(metrics.mean_absolute_error, _mean([abs(error) for error in errors]))
    assert same(metrics.root_mean_squared_error, math.sqrt(squared / len(errors)))
    assert same(metrics.r2, 1 - squared / spread if len(set(actual)) > 1 else None)


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def same(value: float | None, expected: float | None) -> bool:
    """Whether two numbers are equal but for rounding, or both absent."""
    if value is None or expected is None:
        return value is expected
    return math.isclose(value, expected, rel_tol=ROUNDING, abs_tol=1e-12)


def is_quantile(value: float | None, values: Sequence[float], q: float) -> bool:
    """Whether a number is within 1 % of a ``q``-quantile, by any definition that stays between two neighbours.

    Args:
        value: What is claimed; None must mean that there are no values.
        values: All the values.
        q: In [0, 1].
    """
    if value is None or not values:
        return value is None and not values
    lower, higher = (float(np.quantile(values, q, method=method)) for method in ("lower", "higher"))
    return lower * (1 - PERCENTILE_ERROR) - ROUNDING <= value <= higher * (1 + PERCENTILE_ERROR) + ROUNDING
