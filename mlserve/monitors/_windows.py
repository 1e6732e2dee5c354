"""What a window of traffic adds up to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import timedelta

import attrs

from mlserve.numerics._sketches import LatencyHistogram, Moments
from mlserve.records import ModelMetrics
from mlserve.records._monitoring import fault_count


@attrs.frozen
class OutcomeSummary:
    """Predictions joined with their true values.

    Attributes:
        labelled: Pairs.
        correct: Of these, the ones in which both are equal.
        continuous: Of these, the ones in which either is a number with a fraction: what tells a regressor.
        absolute_error: Σ|output − actual| over pairs of numbers.
        squared_error: Σ(output − actual)² over pairs of numbers.
        actual: Moments of the true values over pairs of numbers.
    """

    labelled: int = 0
    correct: int = 0
    continuous: int = 0
    absolute_error: float = 0.0
    squared_error: float = 0.0
    actual: Moments = Moments()

    def __add__(self, other: OutcomeSummary) -> OutcomeSummary:
        return OutcomeSummary(
            self.labelled + other.labelled,
            self.correct + other.correct,
            self.continuous + other.continuous,
            self.absolute_error + other.absolute_error,
            self.squared_error + other.squared_error,
            self.actual + other.actual,
        )

    @property
    def is_regression(self) -> bool:
        return self.continuous > 0

    @property
    def accuracy(self) -> float | None:
        return self.correct / self.labelled if self.labelled and not self.is_regression else None

    @property
    def mean_absolute_error(self) -> float | None:
        return self.absolute_error / self.actual.count if self.is_regression and self.actual.count else None

    @property
    def r2(self) -> float | None:
        if not self.is_regression or not self.actual.sum_of_squares > 0:
            return None
        return 1 - self.squared_error / self.actual.sum_of_squares


@attrs.frozen
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
    outcomes: OutcomeSummary = OutcomeSummary()

    def __add__(self, other: TrafficSummary) -> TrafficSummary:
        return TrafficSummary.total((self, other))

    @classmethod
    def total(cls, summaries: Iterable[TrafficSummary]) -> TrafficSummary:
        """The sum of any number."""
        listed = list(summaries)
        if len(listed) == 1:
            return listed[0]
        return cls(
            LatencyHistogram.merged(summary.latency for summary in listed),
            sum(summary.latency_sum for summary in listed),
            sum((summary.confidence for summary in listed), Moments()),
            sum((summary.errors for summary in listed), Counter[str]()),
            sum((summary.outcomes for summary in listed), OutcomeSummary()),
        )

    def metrics(self, version_id: str | None, window: timedelta) -> ModelMetrics:
        """The public record."""
        successes, errors = self.latency.count, sum(self.errors.values())
        requests = successes + errors
        labelled = self.outcomes.labelled
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
            throughput_per_second=requests / window.total_seconds(),
            average_confidence=self.confidence.mean if self.confidence.count else None,
            accuracy=self.outcomes.accuracy,
            mean_absolute_error=self.outcomes.mean_absolute_error,
            r2=self.outcomes.r2,
            labelled_count=labelled,
            label_coverage=labelled / successes if successes else None,
        )
