"""The detector: performance, data and concept drift of a version over a window, and what to do about it."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, final

import attrs

from mlserve.clocks import Clock, SystemClock
from mlserve.drift._binned import compare_counts
from mlserve.drift._features import compare_inputs, concluded
from mlserve.drift._policy import DriftPolicy, Thresholds
from mlserve.drift._predictions import LabelFreeEstimates, compare_predictions, no_baseline
from mlserve.drift._references import KeptReferences
from mlserve.errors import InvalidArgumentError
from mlserve.protocols import ModelMonitor, PredictionMonitor
from mlserve.records import (
    ConceptDrift,
    DataDrift,
    DriftAnalysis,
    DriftDetectionResult,
    DriftEvent,
    DriftSeverity,
    DriftStatus,
    DriftType,
    InputSample,
    ModelMetrics,
    ModelVersion,
    PerformanceDrift,
    PredictionSample,
    QualityMetrics,
)

_log = logging.getLogger(__name__)

RETRAIN_NOW = "Immediate model retraining recommended"
INVESTIGATE_DATA = "Data pipeline investigation and model retraining required"
REVIEW_TARGET = "Concept drift detected - review target variable and retrain model"
KEEP_WATCHING = "Continue monitoring - consider retraining if drift persists"
NO_ACTION = "No action"


@attrs.frozen
class DriftDetectorStatistics:
    """Counters of one detector since it was built.

    Attributes:
        detections: Calls of ``detect_drift`` that came to a result.
        drifts: Of these, the ones that found drift.
        event_errors: Drift events that the monitor did not take; the results were returned all the same.
    """

    detections: int = 0
    drifts: int = 0
    event_errors: int = 0


@final
class DriftDetector:
    """Compares a window of a version with its baseline.

    Three kinds of drift make the verdict: of performance, of data, of concept. Beside them stands what else a monitor
    with ``PredictionMonitor`` can show: drift of the answers and their confidences, and the performance estimated
    without labels, next to the realised one and the share of labels that arrived. These two inform, they do not vote:
    answers move whenever inputs do, and an estimate trusts the model.

    A baseline of inputs is prepared when it is first compared with, and kept until the monitor gives another one: of
    the eight versions looked at last, a sorted copy of each.

    *Thread safety*: yes, as far as the monitor is.

    Args:
        monitor: Where windows and baselines are read and drift events are recorded.
        policy: Every threshold.
        clock: For the time of a detection.

    Example:
        >>> import numpy as np
        >>> from mlserve import InMemoryModelMonitor, InMemoryModelRepository, ModelServer
        >>> rng = np.random.default_rng(0)
        >>> repository, monitor = InMemoryModelRepository(), InMemoryModelMonitor()
        >>> version = repository.register(lambda row: 0, baseline=rng.normal(size=(500, 2)))
        >>> server = ModelServer(repository, monitor)
        >>> results = [server.predict(row) for row in rng.normal(size=(300, 2)) + [0.0, 1.0]]
        >>> drift = DriftDetector(monitor).detect_drift(version, timedelta(hours=1))
        >>> drift.primary_type.value, drift.severity.value, drift.recommended_action
        ('DATA', 'HIGH', 'Data pipeline investigation and model retraining required')
    """

    def __init__(self, monitor: ModelMonitor, policy: DriftPolicy | None = None, *, clock: Clock | None = None) -> None:
        self._monitor = monitor
        self._policy = policy if policy is not None else DriftPolicy()
        self._clock: Clock = clock if clock is not None else SystemClock()
        self._estimates = LabelFreeEstimates(self._policy.min_samples)
        self._references = KeptReferences(self._policy)
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def detect_drift(self, version_id: str | ModelVersion, window: timedelta) -> DriftDetectionResult:
        """Compare the window that ends now with the baseline, and record a drift event if there is drift.

        Args:
            version_id: A version or its id.
            window: Length of the window; positive.

        Returns:
            The verdict of each kind, with its evidence, and the recommended action. Too few samples and the lack of
            a baseline are statuses, not errors.

        Raises:
            InvalidArgumentError: The window is not positive.
        """
        if not isinstance(window, timedelta) or window <= timedelta(0):
            raise InvalidArgumentError("window", window, "a positive timedelta", hint="For example timedelta(hours=1).")
        name = version_id.id if isinstance(version_id, ModelVersion) else version_id
        metrics = self._monitor.get_model_metrics(name, window)
        baseline = self._monitor.get_baseline_metrics(name)
        usual_answers, answers = self._answers(name, window)
        estimate, detail = self._estimates.estimate(name, usual_answers, answers)
        analysis = DriftAnalysis(
            performance_drift=attrs.evolve(
                self._performance(metrics, baseline),
                realised_accuracy=metrics.accuracy,
                realised_mean_absolute_error=metrics.mean_absolute_error,
                label_coverage=metrics.label_coverage,
                estimate=estimate,
                estimate_detail=detail,
            ),
            data_drift=self._data(
                name,
                self._monitor.get_baseline_input_distribution(name),
                self._monitor.get_recent_input_distribution(name, window),
            ),
            concept_drift=self._concept(metrics, baseline),
            prediction_drift=self._predictions(usual_answers, answers),
        )
        result = self._concluded(name, window, analysis)
        self._count("detections")
        if result.is_drift_detected:
            self._count("drifts")
            self._record(result)
        return result

    def compare_inputs(
        self,
        baseline: Any,
        recent: Any,
        *,
        feature_names: Sequence[str] | None = None,
        categorical: Sequence[str] = (),
        progress: bool | None = None,
    ) -> DataDrift:
        """``mlserve.drift.compare_inputs`` with this detector's policy."""
        return compare_inputs(
            baseline,
            recent,
            feature_names=feature_names,
            categorical=categorical,
            policy=self._policy,
            progress=progress,
        )

    def statistics(self) -> DriftDetectorStatistics:
        """Counters since the detector was built."""
        with self._lock:
            return DriftDetectorStatistics(**self._counts)

    def _performance(self, metrics: ModelMetrics, baseline: ModelMetrics | None) -> PerformanceDrift:
        policy = self._policy
        quality, expected, labelled = _quality(metrics, baseline, policy)
        latency = metrics.average_latency_ms
        usual = None if baseline is None else baseline.average_latency_ms or None  # a baseline of 0 tells nothing
        answered = metrics.request_count - metrics.error_count
        accuracy_change = _change(quality, expected, labelled, policy)
        slower_by = _change(latency, usual, answered, policy)
        latency_change = slower_by / usual if slower_by is not None and usual is not None else None
        accuracy_severity = _graded(accuracy_change, policy.accuracy, policy, worse=-1)
        latency_severity = _graded(latency_change, policy.latency, policy, worse=1)
        severity = max(accuracy_severity, latency_severity)
        return PerformanceDrift(
            status=_status(severity, [accuracy_change, latency_change], [expected, usual]),
            accuracy_drift=accuracy_severity is not DriftSeverity.NONE,
            latency_drift=latency_severity is not DriftSeverity.NONE,
            accuracy_change=accuracy_change,
            latency_change=latency_change,
            is_drift_detected=severity is not DriftSeverity.NONE,
            severity=severity,
        )

    def _concept(self, metrics: ModelMetrics, baseline: ModelMetrics | None) -> ConceptDrift:
        policy = self._policy
        confidence, usual = metrics.average_confidence, None if baseline is None else baseline.average_confidence
        errors, expected = metrics.error_rate, None if baseline is None else baseline.error_rate
        requests = metrics.request_count
        confidence_change = _change(confidence, usual, requests, policy)
        error_change = _change(errors, expected, requests, policy)
        severity = max(
            _graded(confidence_change, policy.confidence, policy, worse=-1),
            _graded(error_change, policy.error_rate, policy, worse=1),
        )
        return ConceptDrift(
            status=_status(severity, [confidence_change, error_change], [usual, expected]),
            confidence_drift=None if confidence_change is None else abs(confidence_change),
            error_pattern_change=None if error_change is None else abs(error_change),
            is_drift_detected=severity is not DriftSeverity.NONE,
            severity=severity,
        )

    def _data(self, name: str, baseline: InputSample | None, recent: InputSample) -> DataDrift:
        if baseline is None:
            return DataDrift(status=DriftStatus.NO_BASELINE, detail="no baseline of inputs: call set_baseline(inputs=)")
        if recent.bins is not None and recent.cell_counts is not None:
            rows = recent.effective_rows or recent.counted_rows
            found = compare_counts(recent.bins, recent.cell_counts, rows, self._policy)
            return concluded(found, self._policy)
        try:
            reference = self._references.reference(name, baseline)
            return self.compare_inputs(reference, _aligned(recent, baseline), progress=False)
        except InvalidArgumentError as error:
            # The inputs cannot be compared; performance and concept still can.
            return DataDrift(status=DriftStatus.INSUFFICIENT_DATA, detail=error.message)

    def _answers(self, name: str, window: timedelta) -> tuple[PredictionSample | None, PredictionSample]:
        monitor = self._monitor
        if not isinstance(monitor, PredictionMonitor):
            return None, PredictionSample([])
        baseline = monitor.get_baseline_predictions(name)
        return baseline, PredictionSample([]) if baseline is None else monitor.get_recent_predictions(name, window)

    def _predictions(self, baseline: PredictionSample | None, recent: PredictionSample) -> DataDrift:
        if baseline is None:
            return no_baseline()
        try:
            return compare_predictions(baseline, recent, policy=self._policy)
        except InvalidArgumentError as error:
            return DataDrift(status=DriftStatus.INSUFFICIENT_DATA, detail=error.message)

    def _concluded(self, name: str, window: timedelta, analysis: DriftAnalysis) -> DriftDetectionResult:
        kinds: dict[DriftType, PerformanceDrift | DataDrift | ConceptDrift] = {
            DriftType.PERFORMANCE: analysis.performance_drift,
            DriftType.DATA: analysis.data_drift,
            DriftType.CONCEPT: analysis.concept_drift,
        }
        drifted = [kind for kind, drift in kinds.items() if drift.is_drift_detected]
        return DriftDetectionResult(
            model_version=name,
            time_window=window,
            is_drift_detected=bool(drifted),
            status=_overall([drift.status for drift in kinds.values()]),
            severity=max(drift.severity for drift in kinds.values()),
            primary_type=drifted[0] if drifted else DriftType.NONE,
            analysis=analysis,
            recommended_action=_action(analysis, bool(drifted)),
            detected_at=self._clock.now(),
        )

    def _record(self, result: DriftDetectionResult) -> None:
        event = DriftEvent(
            model_version=result.model_version,
            drift_type=result.primary_type,
            severity=result.severity,
            detected_at=result.detected_at,
            analysis=result.analysis,
        )
        try:
            self._monitor.record_drift_event(event)
        except Exception:
            # What was found matters more than where it is kept.
            self._count("event_errors")
            _log.exception("the monitor did not take the drift event of version %s", result.model_version)

    def _count(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1


def _aligned(recent: InputSample, baseline: InputSample) -> Any:
    """The recent rows with their features in the baseline's order, where they bring the same names in another."""
    names, wanted = recent.feature_names, baseline.feature_names
    if names == wanted or set(names) != set(wanted):
        return recent.rows
    return recent.rows[:, [names.index(name) for name in wanted]]


def _quality(
    metrics: ModelMetrics, baseline: ModelMetrics | None, policy: DriftPolicy
) -> tuple[float | None, float | None, int]:
    """Accuracy of both, or R² of both: never one of each; and how many labels the recent one is of."""
    recent: ModelMetrics | QualityMetrics = metrics
    if metrics.mature is not None and metrics.mature.labelled_count >= policy.min_samples:
        # Where some labels are still out, those of the newest predictions are only the fastest ones.
        recent = metrics.mature if metrics.label_coverage != 1 else metrics
    # A monitor that gives an accuracy but counts no labels is believed for all its requests.
    labelled = recent.labelled_count or metrics.request_count
    if baseline is None:
        return recent.accuracy, None, labelled
    if recent.accuracy is None and recent.r2 is not None:
        return recent.r2, baseline.r2, labelled
    if recent.accuracy is None and baseline.accuracy is None:
        return None, baseline.r2, labelled
    return recent.accuracy, baseline.accuracy, labelled


def _change(value: float | None, usual: float | None, count: int, policy: DriftPolicy) -> float | None:
    """The value less the usual one; None where either is absent or too little was seen."""
    return value - usual if value is not None and usual is not None and count >= policy.min_samples else None


def _graded(change: float | None, thresholds: Thresholds, policy: DriftPolicy, *, worse: int) -> DriftSeverity:
    if change is None:
        return DriftSeverity.NONE
    return thresholds.severity(abs(change) if policy.direction == "both" else worse * change)


def _status(severity: DriftSeverity, changes: list[float | None], baselines: list[float | None]) -> DriftStatus:
    if severity is not DriftSeverity.NONE:
        return DriftStatus.DRIFT
    if all(value is None for value in baselines):
        return DriftStatus.NO_BASELINE
    return DriftStatus.INSUFFICIENT_DATA if all(change is None for change in changes) else DriftStatus.OK


def _overall(statuses: list[DriftStatus]) -> DriftStatus:
    if DriftStatus.DRIFT in statuses:
        return DriftStatus.DRIFT
    if all(status is DriftStatus.NO_BASELINE for status in statuses):
        return DriftStatus.NO_BASELINE
    return DriftStatus.OK if DriftStatus.OK in statuses else DriftStatus.INSUFFICIENT_DATA


def _action(analysis: DriftAnalysis, is_drift_detected: bool) -> str:
    if analysis.performance_drift.severity is DriftSeverity.HIGH:
        return RETRAIN_NOW
    if analysis.data_drift.severity is DriftSeverity.HIGH:
        return INVESTIGATE_DATA
    if analysis.concept_drift.severity is DriftSeverity.HIGH:
        return REVIEW_TARGET
    return KEEP_WATCHING if is_drift_detected else NO_ACTION
