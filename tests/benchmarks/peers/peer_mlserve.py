from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from measuring import Contender
from tables import Mixed

from mlserve.drift import InputReference, PerformanceEstimator, compare_inputs
from mlserve.numerics import SortedReference

NAME = "mlserve"


def report(table: Mixed) -> list[Contender]:
    reference, current = pd.DataFrame(table.reference), pd.DataFrame(table.current)

    def prepared() -> InputReference:
        return InputReference.fit(reference)

    def compared(baseline: Any) -> Any:
        return compare_inputs(baseline, current)

    return [
        Contender(NAME, prepared, compared),
        Contender("mlserve, with its page", prepared, lambda baseline: compared(baseline)._repr_html_()),
        Contender("mlserve, reference not prepared", lambda: reference, compared),
        Contender(
            "mlserve, texts as objects", lambda: InputReference.fit(table.reference),
            lambda baseline: compare_inputs(baseline, table.current),
        ),
    ]  # fmt: skip


def numeric(reference: np.ndarray[Any, Any], current: np.ndarray[Any, Any], _: list[str]) -> list[Contender]:
    return [Contender(NAME, lambda: SortedReference(reference), lambda prepared: prepared.ks_2samp(current))]


class Estimator:
    def __init__(self, scores: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> None:
        self._estimator = PerformanceEstimator.fit(scores, scores > 0.5, labels)

    def estimate(self, scores: np.ndarray[Any, Any]) -> dict[str, float]:
        found: Any = self._estimator.estimate(scores, scores > 0.5)
        return {name: getattr(found, name) for name in ("accuracy", "f1", "roc_auc")}
