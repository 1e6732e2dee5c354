"""What versions are compared with."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from mlserve._forking import renew_after_fork
from mlserve.errors import InvalidArgumentError
from mlserve.records import Baseline, InputSample, ModelMetrics, PredictionSample

NO_BASELINE = Baseline()


class BaselineStore:
    """The baselines of a monitor by version.

    *Thread safety*: yes.
    """

    def __init__(self) -> None:
        self._by_version: dict[str, Baseline] = {}
        self._after_fork()
        renew_after_fork(self)

    def get(self, version_id: str) -> Baseline:
        """The baseline of a version; one without anything where none was set."""
        return self._by_version.get(version_id, NO_BASELINE)

    def set(
        self,
        version_id: str,
        *,
        metrics: ModelMetrics | None = None,
        inputs: InputSample | None = None,
        predictions: PredictionSample | None = None,
    ) -> None:
        """Set what a version is compared with. What is None stays as it was.

        Raises:
            InvalidArgumentError: Metrics of another type.
        """
        if metrics is not None and not isinstance(metrics, ModelMetrics):
            raise InvalidArgumentError("metrics", metrics, "a ModelMetrics", hint="Use ModelMetrics(accuracy=0.9).")
        with self._lock:
            known = self.get(version_id)
            self._by_version[version_id] = Baseline(
                known.metrics if metrics is None else metrics,
                known.inputs if inputs is None else inputs,
                known.predictions if predictions is None else predictions,
            )

    def _after_fork(self) -> None:
        self._lock = threading.Lock()


def as_input_sample(inputs: Any, feature_names: Sequence[str] | None) -> InputSample | None:
    """Inputs in whatever form ``set_baseline`` takes as a sample.

    Raises:
        InvalidArgumentError: Not an array of rows, or names that do not fit it.
    """
    if inputs is None or (feature_names is None and isinstance(inputs, InputSample)):
        return inputs
    rows = inputs.rows if isinstance(inputs, InputSample) else inputs
    columns = getattr(rows, "columns", None)
    if feature_names is None and columns is not None:
        feature_names = [str(column) for column in columns]
    return InputSample(rows=rows, feature_names=feature_names)


def checked_predictions(predictions: PredictionSample) -> PredictionSample:
    """Answers that can be a baseline.

    Raises:
        InvalidArgumentError: Not a ``PredictionSample``.
    """
    if not isinstance(predictions, PredictionSample):
        raise InvalidArgumentError(
            "predictions", predictions, "a PredictionSample",
            hint="Use PredictionSample(model.predict(X), confidences=proba.max(axis=1), labels=y).",
        )  # fmt: skip
    return predictions
