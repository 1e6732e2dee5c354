"""Records of performance that was estimated without labels."""

from __future__ import annotations

from typing import TypeAlias, final

import attrs

Band: TypeAlias = tuple[float, float]


@final
@attrs.frozen(kw_only=True)
class PerformanceEstimate:
    """What a window's performance will turn out to be, if scores mean what they meant in the reference.

    Of each metric: the estimate; its sampling error, one standard deviation of (realised − estimated); and its band,
    three of them to both sides, clipped to [0, 1]. Precision, recall, F1 and ROC AUC are those of ``classes[1]`` of two
    classes. All three are None where the metric has no value (no row predicted positive, no positive expected, or more
    than two classes): absent evidence is None, never 0.

    Attributes:
        n_samples: Rows of the window, at least 1.
        accuracy: Share of right predictions, in [0, 1].
        accuracy_sampling_error: At least 0.
        accuracy_band: (low, high), in [0, 1].
        precision: Share of positives among the rows predicted positive, in [0, 1], or None.
        precision_sampling_error: At least 0, or None.
        precision_band: (low, high), or None.
        recall: Share of the positives that are predicted positive, in [0, 1], or None.
        recall_sampling_error: At least 0, or None.
        recall_band: (low, high), or None.
        f1: 2·precision·recall/(precision + recall), in [0, 1], or None.
        f1_sampling_error: At least 0, or None.
        f1_band: (low, high), or None.
        roc_auc: Probability that a positive scores above a negative, ties by half, in [0, 1], or None.
        roc_auc_sampling_error: At least 0, or None.
        roc_auc_band: (low, high), or None.
    """

    n_samples: int
    accuracy: float
    accuracy_sampling_error: float
    accuracy_band: Band
    precision: float | None = None
    precision_sampling_error: float | None = None
    precision_band: Band | None = None
    recall: float | None = None
    recall_sampling_error: float | None = None
    recall_band: Band | None = None
    f1: float | None = None
    f1_sampling_error: float | None = None
    f1_band: Band | None = None
    roc_auc: float | None = None
    roc_auc_sampling_error: float | None = None
    roc_auc_band: Band | None = None


@final
@attrs.frozen(kw_only=True)
class ErrorEstimate:
    """What a window's mean absolute error will turn out to be, if inputs mean what they meant in the reference.

    Attributes:
        n_samples: Rows of the window, at least 1.
        mean_absolute_error: In the unit of the target, at least 0.
        mean_absolute_error_sampling_error: One standard deviation of (realised − estimated), at least 0.
        mean_absolute_error_band: The estimate and three sampling errors to both sides, at least 0.
    """

    n_samples: int
    mean_absolute_error: float
    mean_absolute_error_sampling_error: float
    mean_absolute_error_band: tuple[float, float]
