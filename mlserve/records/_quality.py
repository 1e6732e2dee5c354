"""How good predictions were, once the true values are known."""

from __future__ import annotations

import attrs


@attrs.frozen
class ClassMetrics:
    """One class of a classifier.

    Attributes:
        label: The class: text, int or bool.
        precision: Share of the answers with this label that were right, in [0, 1]; None without such answers.
        recall: Share of what truly was this class that was answered so, in [0, 1]; None without any.
        f1: 2·precision·recall/(precision + recall); None where neither can be told, 0 where both are 0.
        support: Labelled predictions that truly were of this class.
        predicted: Labelled predictions that were answered so.
    """

    label: str | int | bool
    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    predicted: int


@attrs.frozen(kw_only=True)
class QualityMetrics:
    """Labelled predictions of a span of time. What has no evidence is None, never 0.

    Attributes:
        prediction_count: Successful predictions, labelled or not.
        labelled_count: Of these, the ones whose outcome has arrived.
        label_coverage: ``labelled_count / prediction_count``, in [0, 1].
        accuracy: Share of right answers among the labelled, in [0, 1]; None for regressors.
        mean_absolute_error: Mean of |output − actual|, in the target's unit; None for classifiers.
        root_mean_squared_error: √ of the mean of (output − actual)², in the target's unit; None for classifiers.
        r2: Coefficient of determination 1 − Σ(y − ŷ)²/Σ(y − ȳ)²; None for classifiers or a constant target.
        classes: Precision and recall by class, the commonest class first; empty for regressors. At most 256 classes are
            told apart; the others count among the answers and truths of none.
    """

    prediction_count: int = 0
    labelled_count: int = 0
    label_coverage: float | None = None
    accuracy: float | None = None
    mean_absolute_error: float | None = None
    root_mean_squared_error: float | None = None
    r2: float | None = None
    classes: tuple[ClassMetrics, ...] = ()
