"""What a window of traffic adds up to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TypeAlias

import attrs

from mlserve.numerics._sketches import LatencyHistogram, Moments
from mlserve.records import ClassMetrics, ModelMetrics, QualityMetrics
from mlserve.records._monitoring import fault_count

Label: TypeAlias = str | int | bool
ClassRole: TypeAlias = tuple[Label, int]
"""A class, and what it was: ``ANSWERED``, ``TRUE``, or both at once, ``RIGHT``."""

ANSWERED, TRUE, RIGHT = range(3)


@attrs.frozen(eq=False, repr=False)
class OutcomeSummary:
    """Predictions joined with their true values.

    Attributes:
        labelled: Pairs.
        correct: Of these, the ones in which both are equal.
        continuous: Of these, the ones in which either is a number with a fraction: what tells a regressor.
        absolute_error: Σ|output − actual| over pairs of numbers.
        squared_error: Σ(output − actual)² over pairs of numbers.
        actual: Moments of the true values over pairs of numbers.
        delays: From prediction to outcome, counted in seconds.
        classes: How often each class was answered, was true, and both. Not which class was taken for which: of 256
            classes a bucket could hold 65 536 such pairs.
    """

    labelled: int = 0
    correct: int = 0
    continuous: int = 0
    absolute_error: float = 0.0
    squared_error: float = 0.0
    actual: Moments = Moments()
    delays: LatencyHistogram = LatencyHistogram()
    classes: Mapping[ClassRole, int] = attrs.field(factory=dict)

    @classmethod
    def total(cls, summaries: Iterable[OutcomeSummary]) -> OutcomeSummary:
        """The sum of any number."""
        listed = [summary for summary in summaries if summary.labelled]
        if len(listed) < 2:
            return listed[0] if listed else NO_OUTCOMES
        classes: Counter[ClassRole] = Counter()
        for summary in listed:
            classes.update(summary.classes)
        return cls(
            sum(summary.labelled for summary in listed),
            sum(summary.correct for summary in listed),
            sum(summary.continuous for summary in listed),
            sum(summary.absolute_error for summary in listed),
            sum(summary.squared_error for summary in listed),
            sum((summary.actual for summary in listed), Moments()),
            LatencyHistogram.merged(summary.delays for summary in listed),
            classes,
        )

    @property
    def is_regression(self) -> bool:
        return self.continuous > 0

    @property
    def class_metrics(self) -> tuple[ClassMetrics, ...]:
        """By class, the commonest first; nothing for a regressor."""
        if self.is_regression:
            return ()
        counts = Counter(self.classes)
        # A snapshot that came damaged may name a class of which it counts nothing.
        seen = {label for label, _ in counts if counts[label, ANSWERED] + counts[label, TRUE] > 0}
        labels = sorted(seen, key=lambda label: (-counts[label, TRUE], str(label)))
        return tuple(
            _class_metrics(label, counts[label, RIGHT], counts[label, ANSWERED], counts[label, TRUE])
            for label in labels
        )

    def quality(self, predictions: int) -> QualityMetrics:
        """The public record of these pairs among so many successful predictions."""
        is_regression, numbers = self.is_regression, self.actual.count
        has_errors = is_regression and numbers > 0
        spread = self.actual.sum_of_squares
        unexplained = self.squared_error / spread if is_regression and spread > 0 else math.nan
        return QualityMetrics(
            prediction_count=predictions,
            labelled_count=self.labelled,
            label_coverage=self.labelled / predictions if predictions else None,
            accuracy=self.correct / self.labelled if self.labelled and not is_regression else None,
            mean_absolute_error=self.absolute_error / numbers if has_errors else None,
            root_mean_squared_error=math.sqrt(self.squared_error / numbers) if has_errors else None,
            r2=1 - unexplained if math.isfinite(unexplained) else None,
            classes=self.class_metrics,
        )


NO_OUTCOMES = OutcomeSummary()


def class_counts(output: Label | None, actual: Label | None) -> dict[ClassRole, int]:
    """What one labelled prediction adds to ``OutcomeSummary.classes``; None for a class that is not told apart."""
    counts: dict[ClassRole, int] = {}
    if output is not None:
        counts[output, ANSWERED] = 1
    if actual is not None:
        counts[actual, TRUE] = 1
        if output == actual:
            counts[actual, RIGHT] = 1
    return counts


def _class_metrics(label: Label, right: int, answered: int, true: int) -> ClassMetrics:
    return ClassMetrics(
        label=label,
        precision=right / answered if answered else None,
        recall=right / true if true else None,
        f1=2 * right / (answered + true),
        support=true,
        predicted=answered,
    )


@attrs.frozen(eq=False, repr=False)
class TrafficSummary:
    """Requests of one version in one span of time; two add, in any order.

    Attributes:
        latency: Processing times of the successful predictions, milliseconds.
        latency_sum: Their sum.
        confidence: Moments of the confidences given.
        errors: Failures by kind.
        outcomes: Labelled predictions, by the time of the prediction.
    """

    latency: LatencyHistogram = LatencyHistogram()
    latency_sum: float = 0.0
    confidence: Moments = Moments()
    errors: Counter[str] = attrs.field(factory=Counter)
    outcomes: OutcomeSummary = NO_OUTCOMES

    def __add__(self, other: TrafficSummary) -> TrafficSummary:
        return TrafficSummary.total((self, other))

    @classmethod
    def total(cls, summaries: Iterable[TrafficSummary]) -> TrafficSummary:
        """The sum of any number."""
        listed = list(summaries)
        if len(listed) == 1:
            return listed[0]
        errors: Counter[str] = Counter()
        for summary in listed:
            errors.update(summary.errors)
        return cls(
            LatencyHistogram.merged(summary.latency for summary in listed),
            sum(summary.latency_sum for summary in listed),
            sum((summary.confidence for summary in listed), Moments()),
            errors,
            OutcomeSummary.total(summary.outcomes for summary in listed),
        )

    def metrics(
        self,
        version_id: str | None,
        window: timedelta | None,
        *,
        watermark: datetime | None = None,
        mature: QualityMetrics | None = None,
    ) -> ModelMetrics:
        """The public record."""
        successes, errors = self.latency.count, sum(self.errors.values())
        requests = successes + errors
        quality = self.outcomes.quality(successes)
        return ModelMetrics(
            model_version=version_id,
            window=window,
            request_count=requests,
            error_count=errors,
            error_rate=errors / requests if requests else None,
            fault_rate=fault_count(self.errors) / requests if requests else None,
            errors_by_kind=dict(self.errors),
            average_latency_ms=self.latency_sum / successes if successes else None,
            p50_latency_ms=self.latency.quantile(0.50),
            p95_latency_ms=self.latency.quantile(0.95),
            p99_latency_ms=self.latency.quantile(0.99),
            latency_histogram=self.latency if successes else None,
            throughput_per_second=None if window is None else requests / window.total_seconds(),
            average_confidence=self.confidence.mean if self.confidence.count else None,
            accuracy=quality.accuracy,
            mean_absolute_error=quality.mean_absolute_error,
            root_mean_squared_error=quality.root_mean_squared_error,
            r2=quality.r2,
            classes=quality.classes,
            labelled_count=quality.labelled_count,
            label_coverage=quality.label_coverage,
            label_delay_p50_seconds=self.outcomes.delays.quantile(0.50),
            label_delay_p95_seconds=self.outcomes.delays.quantile(0.95),
            label_watermark=watermark,
            mature=mature,
        )
