from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from measuring import Contender
from tables import Mixed

from mlserve.drift import PerformanceEstimator, compare_inputs
from mlserve.numerics import SortedReference

NAME = "mlserve"


def report(table: Mixed) -> list[Contender]:
    reference, current = pd.DataFrame(table.reference), pd.DataFrame(table.current)

    def compared(_: object) -> Any:
        return compare_inputs(reference, current)

    return [
        Contender(NAME, lambda: None, compared),
        Contender("mlserve, with its page", lambda: None, lambda prepared: compared(prepared)._repr_html_()),
    ]


def numeric(reference: np.ndarray[Any, Any], current: np.ndarray[Any, Any], _: list[str]) -> list[Contender]:
    return [Contender(NAME, lambda: SortedReference(reference), lambda prepared: prepared.ks_2samp(current))]


class Estimator:
    def __init__(self, scores: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> None:
        self._estimator = PerformanceEstimator.fit(scores, scores > 0.5, labels)

    def estimate(self, scores: np.ndarray[Any, Any]) -> dict[str, float]:
        found: Any = self._estimator.estimate(scores, scores > 0.5)
        return {name: getattr(found, name) for name in ("accuracy", "f1", "roc_auc")}
