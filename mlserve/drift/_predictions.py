"""A version's answers against its baseline's, and what they say of its performance before the labels come."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any, final

import attrs
import numpy as np
import numpy.typing as npt

from mlserve.drift._error_estimation import DirectErrorEstimator
from mlserve.drift._estimation import PerformanceEstimator
from mlserve.drift._features import compare_inputs
from mlserve.drift._policy import DriftPolicy
from mlserve.errors import InvalidArgumentError
from mlserve.records import DataDrift, DriftStatus, ErrorEstimate, PerformanceEstimate, PredictionSample

ESTIMATORS_KEPT = 8
"""Versions whose fitted estimators are kept: more than are ever watched at once, few enough to forget old ones."""

_NOTHING: npt.NDArray[Any] = np.empty(0)


def compare_predictions(
    baseline: PredictionSample, recent: PredictionSample, *, policy: DriftPolicy | None = None
) -> DataDrift:
    """Compare two samples of answers and of their confidences by the tests of ``compare_inputs``.

    Args:
        baseline: Answers when all was well.
        recent: Answers of a window.
        policy: Thresholds.

    Returns:
        One feature ``"output"`` (of several outputs ``"output[0]"`` and so on), and ``"confidence"`` where both samples
        have one; p-values are adjusted over them. The status is ``INSUFFICIENT_DATA`` where either sample is too small.

    Raises:
        InvalidArgumentError: Answers of another width, or that cannot be told apart.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> before, after = (PredictionSample(rng.normal(mean, size=500)) for mean in (0.0, 0.5))
        >>> compare_predictions(before, after).drifted_features[0].direction
        'up'
    """
    before, after = baseline.columns, recent.columns
    if not ("confidence" in before and "confidence" in after):
        # On one side only it tells nothing.
        before, after = ({name: one[name] for name in one if name != "confidence"} for one in (before, after))
    # A sample without answers has no width of its own.
    if not len(baseline.outputs):
        before = dict.fromkeys(after, _NOTHING)
    if not len(recent.outputs):
        after = dict.fromkeys(before, _NOTHING)
    if before.keys() != after.keys():
        raise InvalidArgumentError(
            "recent", ", ".join(after), f"answers of the baseline's width: {', '.join(before)}",
            hint="Compare answers of the same shape.",
        )  # fmt: skip
    return compare_inputs(before, after, policy=policy)


@final
class LabelFreeEstimates:
    """Estimates performance without labels from the answers of a window; what it learned from a baseline is kept.

    *Thread safety*: yes.

    Args:
        min_samples: Answers that a window needs.
    """

    def __init__(self, min_samples: int) -> None:
        self._min_samples = min_samples
        self._lock = threading.Lock()
        self._fitted: OrderedDict[str, tuple[PredictionSample, _Estimator]] = OrderedDict()

    def estimate(
        self, version_id: str, baseline: PredictionSample | None, recent: PredictionSample
    ) -> tuple[PerformanceEstimate | ErrorEstimate | None, str]:
        """The estimate, or None and why there is none."""
        if baseline is None or baseline.labels is None:
            return None, "no labelled baseline of predictions: call set_baseline_predictions"
        if len(recent.outputs) < self._min_samples:
            return None, f"{len(recent.outputs)} answers; at least {self._min_samples} are needed"
        try:
            return self._estimator(version_id, baseline).estimate(recent), ""
        except InvalidArgumentError as error:
            return None, error.message

    def _estimator(self, version_id: str, baseline: PredictionSample) -> _Estimator:
        with self._lock:
            known = self._fitted.get(version_id)
        if known is not None and known[0] is baseline:
            return known[1]
        fitted = _fitted(baseline)
        with self._lock:
            self._fitted[version_id] = baseline, fitted
            self._fitted.move_to_end(version_id)
            if len(self._fitted) > ESTIMATORS_KEPT:
                self._fitted.popitem(last=False)
        return fitted


def _fitted(baseline: PredictionSample) -> _Estimator:
    outputs, labels = baseline.outputs, baseline.labels
    assert labels is not None  # the caller looked
    if baseline.confidences is not None and not np.isnan(baseline.confidences).all():
        known = ~np.isnan(baseline.confidences)
        classes = _classes(outputs, labels)
        scores = _scores(outputs[known], baseline.confidences[known], classes)
        return _ClassifierEstimator(classes, PerformanceEstimator.fit(scores, outputs[known], labels[known]))
    if outputs.dtype.kind in "biuf" and labels.dtype.kind in "biuf" and outputs.ndim == 1 and _has_fractions(baseline):
        if baseline.inputs is None:
            raise InvalidArgumentError(
                "predictions", baseline, "a baseline with inputs, where the model gives no confidence",
                hint="Pass PredictionSample(outputs, labels=y, inputs=X).",
            )  # fmt: skip
        with np.errstate(over="ignore", invalid="ignore"):  # refused below
            errors = labels.astype(np.float64) - outputs.astype(np.float64)
        return _RegressorEstimator(DirectErrorEstimator.fit(baseline.inputs, errors))
    raise InvalidArgumentError(
        "predictions", baseline, "a baseline with confidences, or one of a regressor: numbers, some with a fraction"
    )


def _has_fractions(baseline: PredictionSample) -> bool:
    """Whether any answer or label has one: what tells a regressor from a classifier, as it does for metrics."""
    return any(
        values is not None and values.dtype.kind == "f" and bool((values != np.floor(values)).any())
        for values in (baseline.outputs, baseline.labels)
    )


@attrs.frozen
class _ClassifierEstimator:
    classes: tuple[Any, ...]
    estimator: PerformanceEstimator

    def estimate(self, recent: PredictionSample) -> PerformanceEstimate:
        confidences = recent.confidences
        if confidences is None or np.isnan(confidences).all():
            raise InvalidArgumentError("predictions", recent, "answers with their confidences, as the baseline has")
        known = ~np.isnan(confidences)
        outputs = recent.outputs[known]
        return self.estimator.estimate(_scores(outputs, confidences[known], self.classes), outputs)


@attrs.frozen
class _RegressorEstimator:
    estimator: DirectErrorEstimator

    def estimate(self, recent: PredictionSample) -> ErrorEstimate:
        if recent.inputs is None:
            raise InvalidArgumentError("predictions", recent, "answers with their inputs as rows, as the baseline has")
        return self.estimator.estimate(recent.inputs)


_Estimator = _ClassifierEstimator | _RegressorEstimator


def _classes(outputs: npt.NDArray[Any], labels: npt.NDArray[Any]) -> tuple[Any, ...]:
    try:
        return tuple(sorted({*outputs.tolist(), *labels.tolist()}))
    except TypeError as error:
        raise _of_no_class(outputs) from error


def _scores(
    outputs: npt.NDArray[Any], confidences: npt.NDArray[np.float64], classes: tuple[Any, ...]
) -> npt.NDArray[np.float64]:
    """Of two classes the probability of the second, of more that of the answer."""
    if len(classes) != 2 or outputs.ndim != 1:
        return confidences
    try:
        return np.where(outputs == classes[1], confidences, 1.0 - confidences)
    except (TypeError, ValueError) as error:  # answers that are arrays themselves, or pandas.NA
        raise _of_no_class(outputs) from error


def _of_no_class(outputs: npt.NDArray[Any]) -> InvalidArgumentError:
    return InvalidArgumentError(
        "predictions", outputs, "answers and labels of one type that can be sorted", hint="Give labels as answers."
    )


def no_baseline() -> DataDrift:
    """Answers that cannot be compared because there is nothing to compare them with."""
    return DataDrift(status=DriftStatus.NO_BASELINE, detail="no baseline of predictions: call set_baseline_predictions")
