"""Records of drift: what moved, how far, how sure, and what to do."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import attrs
from typing_extensions import override

from mlserve._plotting import plot_data_drift, ranked_features
from mlserve._rendering import html_grid, html_table, number, percent, text_grid, text_table
from mlserve.records._estimates import ErrorEstimate, PerformanceEstimate
from mlserve.records._values import OrderedStrEnum, aware, to_utc


class DriftSeverity(OrderedStrEnum):
    """How bad; ``NONE < LOW < MEDIUM < HIGH``. A kind that has not drifted has severity NONE."""

    NONE = "NONE"
    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"


class DriftType(OrderedStrEnum):
    """What drifted."""

    NONE = "NONE"
    PERFORMANCE = "PERFORMANCE"
    DATA = "DATA"
    CONCEPT = "CONCEPT"


class DriftStatus(StrEnum):
    """What a comparison could say."""

    OK = "OK"
    """There was enough evidence and no drift in it."""
    DRIFT = "DRIFT"
    INSUFFICIENT_DATA = "INSUFFICIENT_DATA"
    """Too little evidence, which is not the same as no drift."""
    NO_BASELINE = "NO_BASELINE"
    """Nothing to compare with."""


class FeatureStatus(StrEnum):
    """What the data of one feature allowed."""

    OK = "ok"
    CONSTANT = "constant"
    """One and the same value in both samples."""
    EMPTY = "empty"
    """No value at all, only missing ones, in a sample."""
    INSUFFICIENT = "insufficient"
    """Fewer rows than ``min_samples``."""


@attrs.frozen(kw_only=True)
class PerformanceDrift:
    """Quality and latency against the baseline.

    Attributes:
        status: What could be said.
        accuracy_drift: Whether the quality changed by more than the threshold.
        latency_drift: Whether the mean latency changed by more than the threshold.
        accuracy_change: Recent less baseline accuracy (R² for a regressor), in [−1, 1]; None when either is absent.
        latency_change: (recent − baseline)/baseline mean latency; None when either is absent or the baseline is 0.
        is_drift_detected: Either of the two.
        severity: NONE when not detected.
        realised_accuracy: Share of right answers among the labelled ones of the window; None without labels.
        realised_mean_absolute_error: The same of a regressor, in the target's unit.
        label_coverage: Share of the window's answers whose label has arrived, in [0, 1]; None without answers.
        estimate: The performance of all the window's answers, estimated without labels: ``PerformanceEstimate`` of a
            classifier, ``ErrorEstimate`` of a regressor; None where there was nothing to learn it from.
        estimate_detail: In words, why there is no estimate.
    """

    status: DriftStatus = DriftStatus.OK
    accuracy_drift: bool = False
    latency_drift: bool = False
    accuracy_change: float | None = None
    latency_change: float | None = None
    is_drift_detected: bool = False
    severity: DriftSeverity = DriftSeverity.NONE
    realised_accuracy: float | None = None
    realised_mean_absolute_error: float | None = None
    label_coverage: float | None = None
    estimate: PerformanceEstimate | ErrorEstimate | None = None
    estimate_detail: str = ""

    def _quality(self) -> str:
        """Estimated beside realised, in words."""
        estimate = self.estimate
        if isinstance(estimate, ErrorEstimate):
            name, realised = "mean absolute error", self.realised_mean_absolute_error
            value, band = estimate.mean_absolute_error, estimate.mean_absolute_error_band
        elif estimate is not None:
            name, realised, value, band = "accuracy", self.realised_accuracy, estimate.accuracy, estimate.accuracy_band
        else:
            is_error = self.realised_mean_absolute_error is not None
            name = "mean absolute error" if is_error else "accuracy"
            realised = self.realised_mean_absolute_error if is_error else self.realised_accuracy
            return f"{name}: realised {number(realised)} from {percent(self.label_coverage)} of labels, no estimate"
        return (
            f"{name}: estimated {number(value)} ({number(band[0])} to {number(band[1])}), "
            f"realised {number(realised)} from {percent(self.label_coverage)} of labels"
        )


@attrs.frozen(kw_only=True)
class FeatureDrift:
    """One feature against its baseline.

    Attributes:
        name: The feature's.
        kind: ``"numeric"``, ``"datetime"``, ``"categorical"`` or ``"boolean"``.
        status: What its data allowed.
        statistic: The test statistic: D, the Kolmogorov-Smirnov distance, or Pearson's χ² for categories; None without
            data.
        p_value: Of this feature alone, in [0, 1]; None without data.
        adjusted_p_value: After the correction over all features; None without data.
        effect_size: How far it moved, in [0, 1], comparable over kinds: D, or the total variation of categories.
        effect_interval: Where the true effect lies, with a confidence of at least 1 − alpha; None without data.
        direction: ``"up"``, ``"down"``, ``"changed"`` (categories have no direction), ``"none"``, or ``"missing"``
            where the change of the missing rate makes up at least half of the effect.
        is_drift_detected: Significant after correction and at least ``min_effect``.
        severity: NONE when not detected.
        method: How the p-value was computed.
        ties: Whether values repeat, so that the p-value is conservative unless the method says it allows for ties.
        minimum_detectable_effect: The smallest effect this window could have called drift; None without data.
        reference_count: Rows of the baseline.
        current_count: Rows of the window.
        reference_missing_rate: Share of missing values in the baseline, in [0, 1].
        current_missing_rate: Share of missing values in the window, in [0, 1].
        missing_rate_p_value: Of the two missing rates alone; None without data.
        reference_median: Median of the baseline's values; None without values.
        current_median: Median of the window's values; None without values.
        reference_quantiles: The baseline's values at 0, 5, …, 100 %; empty for categories and without values.
        current_quantiles: The window's, alike.
        category_shares: The commonest categories with their shares in baseline and window; empty for ordered features.
        unseen_categories: The commonest categories that the baseline does not have.
        unseen_count: Rows of the window in such categories.
        unseen_p_value: The chance of so many if nothing had changed; None for ordered features.
        is_unseen_alarm: Whether that is below alpha, shared over features.
    """

    name: str
    kind: str = "numeric"
    status: FeatureStatus = FeatureStatus.OK
    statistic: float | None = None
    p_value: float | None = None
    adjusted_p_value: float | None = None
    effect_size: float | None = None
    effect_interval: tuple[float, float] | None = None
    direction: str = "none"
    is_drift_detected: bool = False
    severity: DriftSeverity = DriftSeverity.NONE
    method: str = ""
    ties: bool = False
    minimum_detectable_effect: float | None = None
    reference_count: int = 0
    current_count: int = 0
    reference_missing_rate: float | None = None
    current_missing_rate: float | None = None
    missing_rate_p_value: float | None = None
    reference_median: float | None = None
    current_median: float | None = None
    reference_quantiles: tuple[float, ...] = ()
    current_quantiles: tuple[float, ...] = ()
    category_shares: tuple[tuple[str, float, float], ...] = ()
    unseen_categories: tuple[str, ...] = ()
    unseen_count: int = 0
    unseen_p_value: float | None = None
    is_unseen_alarm: bool = False


_FEATURE_HEADER = ("feature", "drift", "direction", "effect", "p", "adjusted p", "median before", "after", "status")
_FEATURES_SHOWN = 30


@attrs.frozen(kw_only=True, repr=False)
class DataDrift:
    """Inputs against the baseline, feature by feature.

    Attributes:
        status: What could be said.
        features: Every feature, in the order of the data.
        ks_statistic: Effect (D, for numbers) of the drifted feature with the smallest p-value; of the smallest p-value
            where none drifted; None without data.
        p_value: The adjusted p-value of that feature; None without data.
        is_drift_detected: Whether enough features drifted: by default, any.
        severity: NONE when not detected.
        detail: In words, where something kept the comparison from being made.
    """

    status: DriftStatus = DriftStatus.OK
    features: tuple[FeatureDrift, ...] = ()
    ks_statistic: float | None = None
    p_value: float | None = None
    is_drift_detected: bool = False
    severity: DriftSeverity = DriftSeverity.NONE
    detail: str = ""

    @property
    def drifted_features(self) -> tuple[FeatureDrift, ...]:
        """Those that drifted, the largest effect first."""
        drifted = (feature for feature in self.features if feature.is_drift_detected)
        return tuple(sorted(drifted, key=lambda feature: -(feature.effect_size or 0.0)))

    def _title(self) -> str:
        drifted = len(self.drifted_features)
        return f"Data drift: {self.status}, severity {self.severity}, {drifted} of {len(self.features)} features"

    def _in_words(self) -> str:
        moved = [
            f"{feature.name} {feature.direction}, effect {number(feature.effect_size)}, "
            f"adjusted p {number(feature.adjusted_p_value)}"
            for feature in self.features
            if feature.adjusted_p_value is not None
        ]
        return f"{self.status}: " + ("; ".join(moved) or self.detail or "nothing to compare")

    def _rows(self) -> list[tuple[str, ...]]:
        ranked = ranked_features(self.features)
        return [
            (
                feature.name,
                str(feature.severity) if feature.is_drift_detected else "no",
                feature.direction,
                number(feature.effect_size),
                number(feature.p_value),
                number(feature.adjusted_p_value),
                number(feature.reference_median),
                number(feature.current_median),
                str(feature.status),
            )
            for feature in ranked[:_FEATURES_SHOWN]
        ]

    @override
    def __repr__(self) -> str:
        return "\n".join([self._title(), text_grid(_FEATURE_HEADER, self._rows())] + [self.detail] * bool(self.detail))

    def _repr_html_(self) -> str:
        return html_grid(self._title(), _FEATURE_HEADER, self._rows())

    def to_dict(self) -> dict[str, Any]:
        """As plain values that JSON can hold."""
        return plain(self)

    def plot(self) -> Any:
        """Features ranked by effect, and the first ones before and after, as a matplotlib ``Figure``.

        Raises:
            MissingExtraError: matplotlib is not installed; it comes with the extra ``plot``.
        """
        return plot_data_drift(self)


@attrs.frozen(kw_only=True)
class ConceptDrift:
    """Confidence and errors against the baseline.

    Attributes:
        status: What could be said.
        confidence_drift: |recent − baseline| mean confidence, in [0, 1]; None when either is absent.
        error_pattern_change: |recent − baseline| error rate, in [0, 1]; None when either is absent.
        is_drift_detected: Whether either exceeds its threshold.
        severity: NONE when not detected.
    """

    status: DriftStatus = DriftStatus.OK
    confidence_drift: float | None = None
    error_pattern_change: float | None = None
    is_drift_detected: bool = False
    severity: DriftSeverity = DriftSeverity.NONE


@attrs.frozen(kw_only=True)
class DriftAnalysis:
    """The three kinds of drift of one version over one window.

    Attributes:
        performance_drift: Quality and latency.
        data_drift: Inputs, feature by feature.
        concept_drift: Confidence and errors.
        prediction_drift: Answers and their confidences, by the tests of ``data_drift``; part of the evidence, not of
            the verdict.
    """

    performance_drift: PerformanceDrift
    data_drift: DataDrift
    concept_drift: ConceptDrift
    prediction_drift: DataDrift = DataDrift(status=DriftStatus.NO_BASELINE)


@attrs.frozen(kw_only=True)
class DriftEvent:
    """A drift that was found, as recorded by the monitor.

    Attributes:
        model_version: Id of the version.
        drift_type: The primary type.
        severity: The largest of the three kinds.
        detected_at: When; UTC.
        analysis: The evidence.
    """

    model_version: str
    drift_type: DriftType
    severity: DriftSeverity
    detected_at: datetime = attrs.field(converter=to_utc, validator=aware)
    analysis: DriftAnalysis


@attrs.frozen(kw_only=True, repr=False)
class DriftDetectionResult:
    """What ``DriftDetector.detect_drift`` found.

    Attributes:
        model_version: Id of the version.
        time_window: Length of the window.
        is_drift_detected: Whether any kind drifted.
        status: DRIFT if any kind drifted; else NO_BASELINE if no kind has one; else INSUFFICIENT_DATA if no kind
            had enough; else OK.
        severity: The largest of the three kinds.
        primary_type: Performance, then data, then concept: the first that drifted.
        analysis: The evidence.
        recommended_action: What to do, in words.
        detected_at: When; UTC.
    """

    model_version: str
    time_window: timedelta
    is_drift_detected: bool
    status: DriftStatus
    severity: DriftSeverity
    primary_type: DriftType
    analysis: DriftAnalysis
    recommended_action: str
    detected_at: datetime = attrs.field(converter=to_utc, validator=aware)

    def _title(self) -> str:
        return f"Drift of version {self.model_version} over {self.time_window}: {self.status}"

    def _summary(self) -> list[tuple[str, str]]:
        performance, concept = self.analysis.performance_drift, self.analysis.concept_drift
        since = self.detected_at - self.time_window
        return [
            ("window", f"since {since:%Y-%m-%d %H:%M:%S}, until {self.detected_at:%Y-%m-%d %H:%M:%S} UTC"),
            ("primary type", str(self.primary_type)),
            ("severity", str(self.severity)),
            ("recommended action", self.recommended_action),
            (
                "performance",
                f"{performance.status}: accuracy change {number(performance.accuracy_change)}, "
                f"latency change {number(performance.latency_change)}",
            ),
            ("quality", performance._quality()),
            (
                "concept",
                f"{concept.status}: confidence change {number(concept.confidence_drift)}, "
                f"error rate change {number(concept.error_pattern_change)}",
            ),
            ("predictions", self.analysis.prediction_drift._in_words()),
        ]

    @override
    def __repr__(self) -> str:
        return f"{text_table(self._title(), self._summary())}\n{self.analysis.data_drift!r}"

    def _repr_html_(self) -> str:
        return html_table(self._title(), self._summary()) + self.analysis.data_drift._repr_html_()

    def to_dict(self) -> dict[str, Any]:
        """As plain values that JSON can hold."""
        return plain(self)

    def plot(self) -> Any:
        """``analysis.data_drift.plot()``."""
        return self.analysis.data_drift.plot()


def plain(record: Any) -> dict[str, Any]:
    """An attrs record as a dict of plain values: enums as text, times as ISO 8601, spans as seconds, no NaN."""
    return attrs.asdict(record, value_serializer=lambda _record, _attribute, value: _plain_value(value))


def _plain_value(value: Any) -> Any:
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value
