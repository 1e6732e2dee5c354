"""Records of monitoring: events, metrics of a window, samples of inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import numpy.typing as npt
from typing_extensions import override

from mlserve._rendering import html_table, number, percent, text_table
from mlserve.errors import ErrorKind, InvalidArgumentError
from mlserve.numerics._sketches import LatencyHistogram
from mlserve.records._predictions import PredictionSample
from mlserve.records._quality import ClassMetrics, QualityMetrics
from mlserve.records._values import FrozenMapping, aware, to_utc

if TYPE_CHECKING:
    from mlserve.numerics._binning import ReferenceBins


@attrs.frozen(eq=False)
class PredictionEvent:
    """One prediction that was answered. Compared by identity, since inputs may be arrays.

    Attributes:
        prediction_id: Unique over processes.
        model_version: Id of the version that answered.
        input: What the caller sent. A monitor copies what it keeps; None where it kept only the counts.
        output: What the model answered.
        processing_time_ms: Milliseconds, >= 0.
        timestamp: When it was answered; UTC.
        confidence: The classifier's probability of its answer, in [0, 1], or None.
        arm: Arm of a rollout, or None.
        key: The key that the caller gave for routing, or None.
    """

    prediction_id: str
    model_version: str
    input: Any
    output: Any
    processing_time_ms: float
    timestamp: datetime = attrs.field(converter=to_utc, validator=aware)
    confidence: float | None = None
    arm: str | None = None
    key: str | None = None


@attrs.frozen(eq=False)
class FailureEvent:
    """One prediction that failed. Compared by identity, since inputs may be arrays.

    Attributes:
        prediction_id: Unique over processes.
        model_version: Id of the version asked, or None where none was resolved.
        input: What the caller sent, or None where only the counts were kept.
        kind: Why it failed.
        processing_time_ms: Milliseconds, >= 0.
        timestamp: When it failed; UTC.
        arm: Arm of a rollout, or None.
        key: The key that the caller gave for routing, or None.
    """

    prediction_id: str
    model_version: str | None
    input: Any
    kind: str
    processing_time_ms: float
    timestamp: datetime = attrs.field(converter=to_utc, validator=aware)
    arm: str | None = None
    key: str | None = None


@attrs.frozen(eq=False)
class OutcomeEvent:
    """The true value of an earlier prediction, joined with it.

    Attributes:
        prediction_id: The prediction it belongs to.
        model_version: Id of the version that answered.
        output: What the model answered.
        actual: What was true.
        predicted_at: When the prediction was made; UTC.
        timestamp: When the outcome arrived; UTC.
        arm: Arm of a rollout, or None.
        key: The key that the caller gave for routing, or None.
    """

    prediction_id: str
    model_version: str
    output: Any
    actual: Any
    predicted_at: datetime = attrs.field(converter=to_utc, validator=aware)
    timestamp: datetime = attrs.field(converter=to_utc, validator=aware)
    arm: str | None = None
    key: str | None = None


@attrs.frozen(eq=False)
class EventPage:
    """A page of recent events.

    Attributes:
        events: Oldest first.
        cursor: Pass it as ``after`` to read on from here.
        missed: How many events after the given cursor had already left the ring.
    """

    events: tuple[PredictionEvent | FailureEvent | OutcomeEvent, ...]
    cursor: int
    missed: int


def _counts(value: Mapping[str, int]) -> FrozenMapping[str, int]:
    return FrozenMapping(value)


_CLASSES_SHOWN = 5


@attrs.frozen(kw_only=True, repr=False)
class ModelMetrics:
    """What a window (now − w, now] saw. Rates are ratios of sums; what has no evidence is None, never 0.

    Attributes:
        model_version: Id of the version, or None for all versions together.
        window: Its length.
        request_count: Requests answered, failures included.
        error_count: Of these, all failures.
        error_rate: ``error_count / request_count``, in [0, 1].
        fault_rate: The same without failures that the caller caused (``InvalidInput``, ``VersionNotFound``).
        errors_by_kind: Failures by ``ErrorKind`` value; immutable.
        average_latency_ms: Mean processing time of the successful predictions, milliseconds.
        p50_latency_ms: Median, within 1 %; p95 and p99 alike.
        p95_latency_ms: See ``p50_latency_ms``.
        p99_latency_ms: See ``p50_latency_ms``.
        latency_histogram: The distribution, so that "the share under 200 ms" can be asked.
        throughput_per_second: ``request_count`` over the window's length.
        average_confidence: Mean of the confidences given, in [0, 1].
        accuracy: Share of labelled predictions that were right, in [0, 1]; None for regressors.
        mean_absolute_error: Mean of |output − actual|, in the target's unit; None for classifiers.
        root_mean_squared_error: √ of the mean of (output − actual)², in the target's unit; None for classifiers.
        r2: Coefficient of determination 1 − Σ(y − ŷ)²/Σ(y − ȳ)²; None for classifiers or a constant target.
        classes: Precision and recall by class, the commonest class first; empty for regressors.
        labelled_count: Successful predictions of this window whose outcome has arrived.
        label_coverage: ``labelled_count`` over the successful predictions, in [0, 1].
        label_delay_p50_seconds: Median time from prediction to outcome, of the outcomes that have arrived, within 1 %.
        label_delay_p95_seconds: The same of the 95th percentile. Outcomes still to come are slower than these tell.
        label_watermark: Predictions made until then have had time for their label; None without outcomes.
        mature: The quality of the predictions of the window up to the watermark: the others have only their fastest
            labels so far, which need not be like the rest. None without a watermark.
    """

    model_version: str | None = None
    window: timedelta | None = None
    request_count: int = 0
    error_count: int = 0
    error_rate: float | None = None
    fault_rate: float | None = None
    errors_by_kind: Mapping[str, int] = attrs.field(factory=FrozenMapping, converter=_counts)
    average_latency_ms: float | None = None
    p50_latency_ms: float | None = None
    p95_latency_ms: float | None = None
    p99_latency_ms: float | None = None
    latency_histogram: LatencyHistogram | None = None
    throughput_per_second: float | None = None
    average_confidence: float | None = None
    accuracy: float | None = None
    mean_absolute_error: float | None = None
    root_mean_squared_error: float | None = None
    r2: float | None = None
    classes: tuple[ClassMetrics, ...] = ()
    labelled_count: int = 0
    label_coverage: float | None = None
    label_delay_p50_seconds: float | None = None
    label_delay_p95_seconds: float | None = None
    label_watermark: datetime | None = None
    mature: QualityMetrics | None = None

    def _summary(self) -> list[tuple[str, str]]:
        errors = ", ".join(f"{kind} {count}" for kind, count in sorted(self.errors_by_kind.items()))
        rows = [
            ("requests", f"{self.request_count} ({number(self.throughput_per_second)} a second)"),
            ("errors", f"{percent(self.error_rate)}{f': {errors}' if errors else ''}"),
            ("faults", percent(self.fault_rate)),
            (
                "latency, ms",
                f"mean {number(self.average_latency_ms)}, p50 {number(self.p50_latency_ms)}, "
                f"p95 {number(self.p95_latency_ms)}, p99 {number(self.p99_latency_ms)}",
            ),
            ("confidence", number(self.average_confidence)),
        ]
        if self.mean_absolute_error is not None:
            rows += [("mean absolute error", number(self.mean_absolute_error)), ("R²", number(self.r2))]
        else:
            rows += [("accuracy", percent(self.accuracy))]
        rows += [
            (f"class {one.label}", f"precision {percent(one.precision)}, recall {percent(one.recall)} of {one.support}")
            for one in self.classes[:_CLASSES_SHOWN]
        ]
        rows += [("labelled", f"{self.labelled_count} ({percent(self.label_coverage)})")]
        if self.label_delay_p95_seconds is not None:
            delays = f"p50 {number(self.label_delay_p50_seconds)}, p95 {number(self.label_delay_p95_seconds)}"
            rows += [("label delay, s", delays)]
        return rows

    def _title(self) -> str:
        of = "all versions" if self.model_version is None else f"version {self.model_version}"
        return f"Metrics of {of}" + (f" over {self.window}" if self.window is not None else "")

    @override
    def __repr__(self) -> str:
        return text_table(self._title(), self._summary())

    def _repr_html_(self) -> str:
        return html_table(self._title(), self._summary())


def fault_count(errors_by_kind: Mapping[str, int]) -> int:
    """Failures less those that the caller caused; a kind that ``ErrorKind`` does not know is a fault."""
    callers = {kind.value for kind in ErrorKind if kind.is_caller_fault}
    return sum(count for kind, count in errors_by_kind.items() if kind not in callers)


def _names(value: Sequence[str] | None) -> tuple[str, ...]:
    return () if value is None else tuple(value)


@attrs.frozen(eq=False, repr=False)
class InputSample:
    """Inputs of a window or of a baseline, one row each.

    Attributes:
        rows: Shape ``(n_samples, n_features)``; float64, or object where a feature is not numeric. Read-only.
        feature_names: One name a feature, unique; ``x0, x1, …`` where none were given.
        count: Number of inputs the sample stands for; at least ``n_samples``.
        method: How it was drawn: ``"all"``; ``"reservoir"`` (uniform, without replacement); or ``"binned"``: besides a
            reservoir in ``rows``, the counts of all in ``cell_counts``.
        statistic_error_bound: By how much a KS statistic computed from it may differ from that of all inputs of the
            window: 0 where these are all; 1/B where they are binned; for a reservoir of n, √(ln(40)/(2n)), which holds
            with a probability of 95 %; both together where inputs were thinned before they were binned, n being
            ``effective_rows``; 1 where nothing is known.
        unusable_count: Inputs left out because they are no row of this width.
        bins: The cells in which the inputs were counted; None where they were not.
        cell_counts: How many inputs fell in each cell of ``bins``, int64; None without bins. Of the window, rounded
            outward to whole buckets: minutes within the last hour, hours within 48, days beyond. Where inputs were
            thinned before they were counted, an estimate without bias.
        counted_rows: Inputs that were looked at to count so.
        effective_rows: As many inputs drawn evenly would tell as much: ``counted_rows``, or fewer where some stand for
            more inputs than others.
    """

    rows: npt.NDArray[Any]
    feature_names: tuple[str, ...] = attrs.field(default=(), converter=_names)
    count: int = -1
    method: str = "all"
    statistic_error_bound: float = 0.0
    unusable_count: int = 0
    bins: ReferenceBins | None = None
    cell_counts: npt.NDArray[np.int64] | None = None
    counted_rows: int = 0
    effective_rows: int = 0

    def __attrs_post_init__(self) -> None:
        try:
            rows = np.array(self.rows)
        except ValueError as error:
            raise InvalidArgumentError(
                "rows", self.rows, "an array of shape (n_samples, n_features)", hint="Give every row the same length."
            ) from error
        if rows.ndim != 2:
            raise InvalidArgumentError(
                "rows", rows.shape, "an array of shape (n_samples, n_features)", hint="Reshape one feature to (n, 1)."
            )
        rows = rows.astype(np.float64 if rows.dtype.kind in "biuf" else object, copy=False)
        rows.flags.writeable = False
        names = self.feature_names or tuple(f"x{index}" for index in range(rows.shape[1]))
        object.__setattr__(self, "rows", rows)
        object.__setattr__(self, "feature_names", checked_feature_names(names, rows.shape[1]))
        if self.count < 0:
            object.__setattr__(self, "count", len(rows))

    @override
    def __repr__(self) -> str:
        return (
            f"InputSample({self.rows.shape[0]} rows of {self.rows.shape[1]} features, standing for {self.count}, "
            f"method={self.method!r})"
        )


def checked_feature_names(names: Sequence[str], n_features: int) -> tuple[str, ...]:
    """The names as a tuple of distinct strings, one a feature.

    Raises:
        InvalidArgumentError: Too few, too many, repeated, or not strings.
    """
    listed = tuple(names)
    if any(not isinstance(name, str) for name in listed):
        raise InvalidArgumentError("feature_names", listed, "strings", hint="Use [str(name) for name in names].")
    if len(listed) != n_features:
        raise InvalidArgumentError("feature_names", listed, f"{n_features} names, one for each feature")
    repeated = sorted({name for name in listed if listed.count(name) > 1})
    if repeated:
        raise InvalidArgumentError("feature_names", repeated, "distinct names", hint="Rename the repeated columns.")
    return listed


@attrs.frozen(eq=False)
class Baseline:
    """What a version is compared with.

    Attributes:
        metrics: Its metrics when all was well, or None.
        inputs: Its inputs when all was well, for example the training data, or None.
        predictions: Its answers when all was well, best with their labels and of data it was not trained on, or None.
    """

    metrics: ModelMetrics | None = None
    inputs: InputSample | None = None
    predictions: PredictionSample | None = None
