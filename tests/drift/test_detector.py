"""The detector: thresholds, severities, statuses, events and actions."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import attrs
import numpy as np
import pandas as pd
import pytest

from mlserve import DriftDetector, DriftPolicy, DriftSeverity, DriftType, InMemoryModelMonitor, ModelMetrics
from mlserve.clocks import ManualClock
from mlserve.drift import PerformanceEstimator, Thresholds, compare_predictions
from mlserve.errors import InvalidArgumentError
from mlserve.numerics._binning import ReferenceBins
from mlserve.protocols import ModelMonitor, PredictionMonitor
from mlserve.records import DriftEvent, DriftStatus, InputSample, PredictionEvent, PredictionSample, QualityMetrics

HOUR = timedelta(hours=1)
NORMAL = np.random.default_rng(1).normal(size=(400, 3))


class FixedMonitor(ModelMonitor):
    """Answers with given metrics and inputs: a platform's own monitor with the eight methods and no more."""

    def __init__(
        self,
        recent: ModelMetrics | None = None,
        baseline: ModelMetrics | None = None,
        recent_inputs: Any = None,
        baseline_inputs: Any = None,
    ) -> None:
        self.recent = recent if recent is not None else ModelMetrics()
        self.baseline = baseline
        self.recent_inputs = InputSample(rows=np.empty((0, 0)) if recent_inputs is None else recent_inputs)
        self.baseline_inputs = None if baseline_inputs is None else InputSample(rows=baseline_inputs)
        self.drift_events: list[DriftEvent] = []

    def record_prediction(self, event):
        raise AssertionError("a detector records no predictions")

    def record_prediction_error(self, kind, version_id):
        raise AssertionError("a detector records no errors")

    def get_recent_metrics(self, window):
        return self.recent

    def get_model_metrics(self, version_id, window):
        return self.recent

    def get_baseline_metrics(self, version_id):
        return self.baseline

    def get_recent_input_distribution(self, version_id, window):
        return self.recent_inputs

    def get_baseline_input_distribution(self, version_id):
        return self.baseline_inputs

    def record_drift_event(self, event):
        self.drift_events.append(event)


def metrics(**values: Any) -> ModelMetrics:
    return ModelMetrics(**{"request_count": 1000, "labelled_count": 1000, **values})


def detect(
    recent: ModelMetrics, baseline: ModelMetrics | None, policy: DriftPolicy | None = None, **inputs: Any
) -> Any:
    return DriftDetector(FixedMonitor(recent, baseline, **inputs), policy).detect_drift("1", HOUR)


@pytest.mark.parametrize(
    ("recent", "severity"),
    [(0.90, "NONE"), (0.86, "NONE"), (0.85, "NONE"), (0.84, "LOW"), (0.80, "LOW"), (0.79, "MEDIUM"), (0.75, "MEDIUM"),
     (0.74, "HIGH"), (0.96, "LOW"), (1.00, "LOW")],
)  # fmt: skip
def test_accuracy_thresholds(recent, severity):
    """A change of accuracy of more than 5, 10 and 15 points, in either direction, is LOW, MEDIUM and HIGH."""
    drift = detect(metrics(accuracy=recent), metrics(accuracy=0.90)).analysis.performance_drift
    assert (drift.severity, drift.accuracy_drift) == (severity, severity != "NONE")


@pytest.mark.parametrize(
    ("recent", "severity"),
    [(10.0, "NONE"), (12.0, "NONE"), (12.1, "LOW"), (13.0, "LOW"), (13.1, "MEDIUM"), (15.0, "MEDIUM"), (15.1, "HIGH"),
     (7.9, "LOW"), (4.0, "HIGH")],
)  # fmt: skip
def test_latency_thresholds(recent, severity):
    """A relative change of mean latency of more than 20, 30 and 50 percent is LOW, MEDIUM and HIGH."""
    drift = detect(metrics(average_latency_ms=recent), metrics(average_latency_ms=10.0)).analysis.performance_drift
    assert (drift.severity, drift.latency_drift) == (severity, severity != "NONE")


@pytest.mark.parametrize(
    ("recent", "severity"),
    [(0.8, "NONE"), (0.7, "NONE"), (0.69, "LOW"), (0.65, "LOW"), (0.64, "MEDIUM"), (0.6, "MEDIUM"), (0.59, "HIGH"),
     (0.91, "LOW")],
)  # fmt: skip
def test_confidence_thresholds(recent, severity):
    """A change of mean confidence of more than 0.1, 0.15 and 0.2 is LOW, MEDIUM and HIGH."""
    drift = detect(metrics(average_confidence=recent), metrics(average_confidence=0.8)).analysis.concept_drift
    assert drift.severity == severity


@pytest.mark.parametrize(
    ("recent", "severity"),
    [(0.01, "NONE"), (0.06, "NONE"), (0.07, "LOW"), (0.085, "LOW"), (0.09, "MEDIUM"), (0.11, "MEDIUM"), (0.12, "HIGH")],
)
def test_error_rate_thresholds(recent, severity):
    """A change of the error rate of more than 5, 7.5 and 10 points is LOW, MEDIUM and HIGH."""
    drift = detect(metrics(error_rate=recent), metrics(error_rate=0.01)).analysis.concept_drift
    assert drift.severity == severity


def test_regressors_are_judged_by_r2():
    """Where both sides have R² and no accuracy, R² is the quality."""
    drift = detect(metrics(r2=0.5), metrics(r2=0.8)).analysis.performance_drift
    assert (drift.accuracy_change, drift.severity) == (pytest.approx(-0.3), "HIGH")


def test_accuracy_is_not_compared_with_r2():
    """An accuracy and an R² are different things: nothing can be compared."""
    drift = detect(metrics(accuracy=0.5), metrics(r2=0.8)).analysis.performance_drift
    assert drift.accuracy_change is None
    assert not drift.is_drift_detected


def test_changes_are_signed():
    """Accuracy and latency changes say in which direction."""
    recent = metrics(accuracy=0.7, average_latency_ms=5.0)
    drift = detect(recent, metrics(accuracy=0.9, average_latency_ms=10.0)).analysis.performance_drift
    assert (drift.accuracy_change, drift.latency_change) == (pytest.approx(-0.2), pytest.approx(-0.5))


def test_only_worse_ignores_improvements():
    """With direction="worse", more accuracy, less latency, more confidence and fewer errors are no drift."""
    recent = metrics(accuracy=0.95, average_latency_ms=2.0, average_confidence=0.99, error_rate=0.0)
    usual = metrics(accuracy=0.7, average_latency_ms=10.0, average_confidence=0.6, error_rate=0.3)
    assert detect(recent, usual, DriftPolicy(direction="worse")).status == DriftStatus.OK


def test_only_worse_still_sees_what_is_worse():
    """With direction="worse", the opposite changes are drift of both kinds."""
    usual = metrics(accuracy=0.95, average_latency_ms=2.0, average_confidence=0.99, error_rate=0.0)
    recent = metrics(accuracy=0.7, average_latency_ms=10.0, average_confidence=0.6, error_rate=0.3)
    analysis = detect(recent, usual, DriftPolicy(direction="worse")).analysis
    assert analysis.performance_drift.is_drift_detected
    assert analysis.concept_drift.is_drift_detected


def test_baseline_latency_of_zero_is_no_baseline():
    """A relative change from 0 does not exist: it is None, not infinite."""
    drift = detect(metrics(average_latency_ms=3.0), metrics(average_latency_ms=0.0)).analysis.performance_drift
    assert (drift.latency_change, drift.status) == (None, DriftStatus.NO_BASELINE)


def test_too_few_labels_are_insufficient():
    """Fewer labels than min_samples say nothing about accuracy, and that is not "no drift"."""
    recent = ModelMetrics(request_count=1000, labelled_count=29, accuracy=0.1)
    drift = detect(recent, metrics(accuracy=0.9)).analysis.performance_drift
    assert (drift.status, drift.accuracy_change) == (DriftStatus.INSUFFICIENT_DATA, None)


def test_without_any_baseline():
    """No baseline of any kind is a status of its own, for each kind and for the whole."""
    result = detect(metrics(accuracy=0.9), None, recent_inputs=NORMAL)
    assert result.status == DriftStatus.NO_BASELINE
    assert (result.primary_type, result.recommended_action) == (DriftType.NONE, "No action")


def test_insufficient_data_wins_over_a_missing_baseline():
    """With one baseline and too little data for it the whole is INSUFFICIENT_DATA."""
    result = detect(ModelMetrics(), None, baseline_inputs=NORMAL, recent_inputs=NORMAL[:5])
    assert result.status == DriftStatus.INSUFFICIENT_DATA


def test_ok_when_one_kind_had_enough():
    """One kind that could be judged and has not drifted makes the whole OK."""
    result = detect(ModelMetrics(), None, baseline_inputs=NORMAL[:200], recent_inputs=NORMAL[200:])
    assert (result.status, result.severity) == (DriftStatus.OK, DriftSeverity.NONE)


def drifted(*kinds: str) -> Any:
    """A result in which the given kinds have drifted to HIGH."""
    recent = metrics(
        accuracy=0.5 if "performance" in kinds else 0.9, average_confidence=0.4 if "concept" in kinds else 0.8
    )
    shifted = NORMAL + (3.0 if "data" in kinds else 0.0)
    usual = metrics(accuracy=0.9, average_confidence=0.8)
    return detect(recent, usual, baseline_inputs=NORMAL, recent_inputs=shifted)


@pytest.mark.parametrize(
    ("kinds", "primary", "action"),
    [
        (("performance", "data", "concept"), "PERFORMANCE", "Immediate model retraining recommended"),
        (("data", "concept"), "DATA", "Data pipeline investigation and model retraining required"),
        (("concept",), "CONCEPT", "Concept drift detected - review target variable and retrain model"),
        ((), "NONE", "No action"),
    ],
)
def test_primary_type_and_action(kinds, primary, action):
    """The primary type is performance, then data, then concept; the action follows the first kind that is HIGH."""
    result = drifted(*kinds)
    assert (result.primary_type, result.recommended_action) == (primary, action)


def test_mild_drift_asks_to_keep_watching():
    """Drift of which no kind is HIGH asks to go on watching."""
    result = detect(metrics(accuracy=0.83), metrics(accuracy=0.90))
    assert result.recommended_action == "Continue monitoring - consider retraining if drift persists"


def test_action_follows_the_kind_that_is_high():
    """A mild performance drift beside a HIGH data drift gives the action for data, with performance as primary type."""
    result = detect(metrics(accuracy=0.83), metrics(accuracy=0.9), baseline_inputs=NORMAL, recent_inputs=NORMAL + 3)
    assert result.primary_type == DriftType.PERFORMANCE
    assert result.recommended_action == "Data pipeline investigation and model retraining required"


def test_overall_severity_is_the_largest():
    """The severity of the whole is that of its worst kind."""
    result = detect(metrics(accuracy=0.83, average_confidence=0.4), metrics(accuracy=0.9, average_confidence=0.8))
    assert (result.analysis.performance_drift.severity, result.severity) == (DriftSeverity.LOW, DriftSeverity.HIGH)


def test_a_drift_is_recorded_once():
    """A detection with drift records one event with the primary type, the severity and the evidence."""
    monitor = FixedMonitor(metrics(accuracy=0.5), metrics(accuracy=0.9))
    clock = ManualClock()
    result = DriftDetector(monitor, clock=clock).detect_drift("1", HOUR)
    (event,) = monitor.drift_events
    assert (event.model_version, event.drift_type, event.severity) == ("1", DriftType.PERFORMANCE, DriftSeverity.HIGH)
    assert (event.detected_at, event.analysis) == (clock.now(), result.analysis)


def test_no_drift_records_nothing():
    """A detection without drift records no event."""
    monitor = FixedMonitor(metrics(accuracy=0.9), metrics(accuracy=0.9))
    DriftDetector(monitor).detect_drift("1", HOUR)
    assert monitor.drift_events == []


class RefusingMonitor(FixedMonitor):
    def record_drift_event(self, event):
        raise OSError("disk full")


def test_a_monitor_that_takes_no_event_loses_no_result(caplog):
    """What was found is returned although the monitor did not keep it; the failure is counted and logged."""
    detector = DriftDetector(RefusingMonitor(metrics(accuracy=0.5), metrics(accuracy=0.9)))
    assert detector.detect_drift("1", HOUR).is_drift_detected
    assert detector.statistics().event_errors == 1
    assert "disk full" in caplog.text


def test_the_result_can_be_drawn():
    """The picture of a detection is that of its data drift."""
    result = detect(ModelMetrics(), None, baseline_inputs=NORMAL, recent_inputs=NORMAL + 3)
    assert "3 of 3 features" in result.plot().get_suptitle()


def test_statistics_count_detections():
    """Detections and drifts are counted apart."""
    monitor = FixedMonitor(metrics(accuracy=0.5), metrics(accuracy=0.9))
    detector = DriftDetector(monitor)
    detector.detect_drift("1", HOUR)
    monitor.recent = metrics(accuracy=0.9)
    detector.detect_drift("1", HOUR)
    statistics = detector.statistics()
    assert (statistics.detections, statistics.drifts, statistics.event_errors) == (2, 1, 0)


@pytest.mark.parametrize("window", [timedelta(0), timedelta(seconds=-1), 60, None])
def test_a_window_that_is_not_positive_is_refused(window):
    """A window must be a positive timedelta, whatever the monitor."""
    with pytest.raises(InvalidArgumentError, match="window"):
        DriftDetector(FixedMonitor()).detect_drift("1", window)


def test_inputs_of_another_width_do_not_hide_the_rest():
    """Inputs that cannot be compared are a status with a reason; performance is judged all the same."""
    result = detect(metrics(accuracy=0.5), metrics(accuracy=0.9), baseline_inputs=NORMAL, recent_inputs=NORMAL[:, :2])
    assert result.analysis.data_drift.status == DriftStatus.INSUFFICIENT_DATA
    assert "3 features" in result.analysis.data_drift.detail
    assert result.primary_type == DriftType.PERFORMANCE


def test_inputs_that_were_counted_are_compared_by_their_counts():
    """Where a monitor counted the inputs of the window in the cells of the baseline, the counts decide."""
    names = ("a", "b", "c")
    bins = ReferenceBins.from_rows(NORMAL, names, 20)
    recent = NORMAL[:100] + [0.0, 2.0, 0.0]
    monitor = FixedMonitor(baseline_inputs=NORMAL)
    monitor.recent_inputs = InputSample(
        NORMAL[:5], names, count=100, method="binned", bins=bins, cell_counts=bins.count(recent), counted_rows=100
    )
    drift = DriftDetector(monitor).detect_drift("1", HOUR).analysis.data_drift
    assert [(feature.name, feature.current_count) for feature in drift.drifted_features] == [("b", 100)]


@pytest.mark.parametrize(("coverage", "change"), [(0.4, -0.15), (1.0, -0.05)])
def test_accuracy_of_mature_predictions_is_judged_while_labels_are_out(coverage, change):
    """While labels are still out, predictions whose labels have had their time are judged; else all are."""
    mature = QualityMetrics(labelled_count=200, accuracy=0.8)
    recent = metrics(accuracy=0.9, label_coverage=coverage, mature=mature)
    performance = detect(recent, metrics(accuracy=0.95)).analysis.performance_drift
    assert performance.accuracy_change == pytest.approx(change)


def test_a_version_never_seen_has_no_baseline():
    """An id the monitor does not know is no error."""
    assert DriftDetector(InMemoryModelMonitor()).detect_drift("77", HOUR).status == DriftStatus.NO_BASELINE


def test_with_the_monitor_in_memory():
    """From events to verdict with real components: accuracy and inputs that moved are found."""
    clock = ManualClock()
    monitor = InMemoryModelMonitor(clock=clock)
    monitor.set_baseline("1", metrics=metrics(accuracy=0.95, average_latency_ms=2.0), inputs=NORMAL)
    for index, row in enumerate(NORMAL + [0.0, 0.0, 1.0]):
        monitor.record_prediction(PredictionEvent(str(index), "1", row, 1, 2.0, clock.now()))
        monitor.record_outcome(str(index), index % 2)
    result = DriftDetector(monitor, clock=clock).detect_drift("1", HOUR)
    assert result.analysis.performance_drift.accuracy_change == pytest.approx(-0.45)
    assert [feature.name for feature in result.analysis.data_drift.drifted_features] == ["x2"]
    assert monitor.drift_events("1")[0].drift_type == DriftType.PERFORMANCE


def test_records_are_compared_by_name():
    """Inputs that are mappings, with text in them, are compared with a frame by the names of their fields."""
    clock = ManualClock()
    monitor = InMemoryModelMonitor(clock=clock)
    rng = np.random.default_rng(2)
    monitor.set_baseline("1", inputs=pd.DataFrame({"size": rng.normal(size=300), "shop": rng.choice(["a", "b"], 300)}))
    for index in range(200):
        record = {"shop": "b", "size": float(rng.normal())}
        monitor.record_prediction(PredictionEvent(str(index), "1", record, 1, 2.0, clock.now()))
    drift = DriftDetector(monitor, clock=clock).detect_drift("1", HOUR).analysis.data_drift
    assert [(feature.name, feature.kind) for feature in drift.drifted_features] == [("shop", "categorical")]


# ------------------------------------------------------------------------- answers, and performance without labels


class AnsweringMonitor(FixedMonitor, PredictionMonitor):
    """A monitor that shows its answers, too."""

    answers = PredictionSample([])
    usual_answers: PredictionSample | None = None

    def get_recent_predictions(self, version_id, window):
        return self.answers

    def get_baseline_predictions(self, version_id):
        return self.usual_answers

    def set_baseline_predictions(self, version_id, predictions):
        self.usual_answers = predictions


SCORES = np.random.default_rng(5).uniform(size=1000)
CLASSES = (SCORES > 0.5).astype(int)
SURE = np.maximum(SCORES, 1 - SCORES)
TRUTH = (np.random.default_rng(6).uniform(size=1000) < SCORES).astype(int)
LABELLED = PredictionSample(CLASSES, confidences=SURE, labels=TRUTH)
MOVED = PredictionSample(np.ones(400, int), confidences=np.full(400, 0.75))


def detect_answers(
    recent: ModelMetrics, usual: PredictionSample | None, answers: PredictionSample, **options: Any
) -> Any:
    monitor = AnsweringMonitor(recent, metrics(accuracy=0.75))
    monitor.usual_answers, monitor.answers = usual, answers
    return DriftDetector(monitor, **options).detect_drift("1", HOUR)


def test_estimated_performance_stands_beside_realised():
    """The performance of the window is estimated from its answers; what labels say so far stands beside it."""
    drift = detect_answers(metrics(accuracy=0.625, label_coverage=0.25), LABELLED, MOVED).analysis.performance_drift
    estimator = PerformanceEstimator.fit(SCORES, CLASSES, TRUTH)
    assert drift.estimate == estimator.estimate(np.full(400, 0.75), np.ones(400, int))
    assert (drift.realised_accuracy, drift.label_coverage, drift.estimate_detail) == (0.625, 0.25, "")


def test_a_regressors_error_stands_beside_realised():
    """Of a regressor it is the mean absolute error that is estimated and realised."""
    rng = np.random.default_rng(7)
    usual = PredictionSample(NORMAL[:, 0], labels=NORMAL[:, 0] + rng.normal(size=400), inputs=NORMAL)
    recent = PredictionSample(NORMAL[:, 0], inputs=NORMAL)
    drift = detect_answers(metrics(mean_absolute_error=0.5, r2=0.75), usual, recent).analysis.performance_drift
    low, high = drift.estimate.mean_absolute_error_band
    assert low < np.sqrt(2 / np.pi) < high
    assert (drift.realised_mean_absolute_error, drift.realised_accuracy) == (0.5, None)


def test_no_estimate_says_why():
    """Where there is nothing to learn from, there is no estimate, and the reason is told in words."""
    drift = detect_answers(metrics(accuracy=0.75), attrs.evolve(LABELLED, labels=None), MOVED).analysis
    assert drift.performance_drift.estimate is None
    assert "set_baseline_predictions" in drift.performance_drift.estimate_detail


def test_too_few_answers_are_not_estimated():
    """Fewer answers than the policy's ``min_samples`` are not estimated."""
    policy = DriftPolicy(min_samples=500)
    drift = detect_answers(metrics(accuracy=0.75), LABELLED, MOVED, policy=policy).analysis.performance_drift
    assert (drift.estimate, drift.estimate_detail) == (None, "400 answers; at least 500 are needed")


def test_drift_of_answers_is_part_of_the_evidence():
    """Answers and confidences are compared with the baseline's by the detector's own policy."""
    policy = DriftPolicy(correction="bonferroni")
    drift = detect_answers(metrics(accuracy=0.75), LABELLED, MOVED, policy=policy).analysis.prediction_drift
    assert drift == compare_predictions(LABELLED, MOVED, policy=policy)
    assert {feature.name for feature in drift.drifted_features} == {"output", "confidence"}


def test_answers_inform_but_do_not_vote():
    """Answers that moved and an estimate that fell change neither the verdict nor the action, and record no event."""
    monitor = AnsweringMonitor(metrics(accuracy=0.75), metrics(accuracy=0.75))
    monitor.usual_answers, monitor.answers = LABELLED, PredictionSample(CLASSES[:400], confidences=np.full(400, 0.5))
    result = DriftDetector(monitor).detect_drift("1", HOUR)
    assert result.analysis.prediction_drift.severity == DriftSeverity.HIGH
    assert result.analysis.performance_drift.estimate.accuracy < 0.6
    assert (result.status, result.severity, result.primary_type) == (DriftStatus.OK, "NONE", "NONE")
    assert (result.recommended_action, monitor.drift_events) == ("No action", [])


@pytest.mark.parametrize("recent", [metrics(accuracy=0.5), metrics(accuracy=0.75), ModelMetrics()], ids=range(3))
def test_the_verdict_is_that_of_a_monitor_without_answers(recent):
    """With and without answers every part of the result but those that show them is the same."""
    clock = ManualClock()
    shown = detect_answers(recent, LABELLED, MOVED, clock=clock)
    plain = DriftDetector(FixedMonitor(recent, metrics(accuracy=0.75)), clock=clock).detect_drift("1", HOUR)
    performance = attrs.evolve(
        shown.analysis.performance_drift,
        estimate=None,
        estimate_detail=plain.analysis.performance_drift.estimate_detail,
    )
    analysis = attrs.evolve(
        shown.analysis, performance_drift=performance, prediction_drift=plain.analysis.prediction_drift
    )
    assert attrs.evolve(shown, analysis=analysis) == plain


def test_a_monitor_of_eight_methods_shows_no_answers():
    """Without ``PredictionMonitor`` there is no prediction drift and no estimate, and how to have them is told."""
    analysis = detect(metrics(accuracy=0.5, label_coverage=0.5), metrics(accuracy=0.75)).analysis
    assert analysis.prediction_drift.status == DriftStatus.NO_BASELINE
    assert "set_baseline_predictions" in analysis.prediction_drift.detail
    performance = analysis.performance_drift
    assert (performance.estimate, performance.realised_accuracy, performance.label_coverage) == (None, 0.5, 0.5)


def test_answers_without_a_baseline_are_not_compared():
    """A monitor that has answers but no baseline of them gives NO_BASELINE."""
    analysis = detect_answers(metrics(accuracy=0.75), None, MOVED).analysis
    assert (analysis.prediction_drift.status, analysis.prediction_drift.features) == (DriftStatus.NO_BASELINE, ())


@pytest.mark.parametrize(
    "answers", [PredictionSample([]), PredictionSample([1] * 29, confidences=[0.9] * 29)], ids=["none", "few"]
)
def test_too_few_answers_are_insufficient(answers):
    """Answers fewer than ``min_samples`` are INSUFFICIENT_DATA, which is not the same as no drift."""
    drift = detect_answers(metrics(accuracy=0.75), LABELLED, answers).analysis.prediction_drift
    assert drift.status == DriftStatus.INSUFFICIENT_DATA


@pytest.mark.parametrize(
    ("answers", "detail"),
    [(np.zeros((400, 2)), "width"), ([{"class": 1}] * 400, "told apart")],
    ids=["another width", "mappings"],
)
def test_answers_that_cannot_be_compared_do_not_hide_the_rest(answers, detail):
    """Answers that cannot be compared are a status with a reason; performance is judged all the same."""
    usual = PredictionSample(answers if detail == "told apart" else CLASSES)
    result = detect_answers(metrics(accuracy=0.5), usual, PredictionSample(answers))
    assert result.analysis.prediction_drift.status == DriftStatus.INSUFFICIENT_DATA
    assert detail in result.analysis.prediction_drift.detail
    assert result.primary_type == DriftType.PERFORMANCE


def test_answers_of_the_monitor_in_memory():
    """From events to evidence with real components: answers that moved, and an accuracy estimated before labels."""
    clock = ManualClock()
    monitor = InMemoryModelMonitor(clock=clock)
    monitor.set_baseline_predictions("1", LABELLED)
    for index, (score, truth) in enumerate(zip(SCORES**0.25, TRUTH, strict=True)):
        confidence = float(max(score, 1 - score))
        event = PredictionEvent(str(index), "1", [float(score)], int(score > 0.5), 2.0, clock.now(), confidence)
        monitor.record_prediction(event)
        if index % 4 == 0:
            monitor.record_outcome(str(index), int(truth))
    analysis = DriftDetector(monitor, clock=clock).detect_drift("1", HOUR).analysis
    assert {feature.name for feature in analysis.prediction_drift.drifted_features} == {"output", "confidence"}
    low, high = analysis.performance_drift.estimate.accuracy_band
    # Scores mean what they say, so that the truth is known without labels.
    assert low < np.maximum(SCORES**0.25, 1 - SCORES**0.25).mean() < high
    assert analysis.performance_drift.label_coverage == 0.25


@pytest.mark.parametrize(
    "wrong",
    [
        {"alpha": -0.1}, {"alpha": 1.5}, {"min_effect": 2}, {"min_samples": 0}, {"min_samples": 2.5},
        {"correction": "hope"}, {"direction": "sideways"}, {"alpha": 0.005}, {"high_severity_alpha": float("nan")},
    ],
)  # fmt: skip
def test_policies_that_mean_nothing_are_refused(wrong):
    """A threshold outside its range is refused by name when the policy is made."""
    with pytest.raises(InvalidArgumentError, match=next(iter(wrong)) + "|alpha"):
        DriftPolicy(**wrong)


@pytest.mark.parametrize("wrong", [(0.2, 0.1, 0.3), (-0.1, 0.1, 0.2), (0.1, 0.2, float("nan"))])
def test_thresholds_must_be_in_order(wrong):
    """Thresholds rise from drift to high and are not negative."""
    with pytest.raises(InvalidArgumentError):
        Thresholds(*wrong)
