"""NannyML: univariate drift and confidence-based estimation, the window as one chunk."""

from __future__ import annotations

from typing import Any

import nannyml
import numpy as np
import pandas as pd
from measuring import Contender, Evidence
from tables import Mixed

EXACT = {"kolmogorov_smirnov": {}, "calculation_method": "exact"}
"""In 0.13.1 the documented place, inside the inner mapping, has no effect."""

MOST_EXACT = 50
"""Columns whose D is computed exactly: the cost of more is scaled."""

BINNED = "default: D from 10 000 bins"


def report(table: Mixed) -> list[Contender]:
    reference, current = pd.DataFrame(table.reference), pd.DataFrame(table.current)
    return [
        calculator(BINNED, reference, current, table.numeric, table.categorical),
        calculator("D exact", reference, current, table.numeric, table.categorical, EXACT),
    ]


def numeric(reference: np.ndarray[Any, Any], current: np.ndarray[Any, Any], names: list[str]) -> list[Contender]:
    before, after = (pd.DataFrame(side, columns=names) for side in (reference, current))
    some = names[:MOST_EXACT]
    scale = len(names) / len(some)
    return [
        calculator(BINNED, before, after, names, []),
        calculator("D exact", before[some], after[some], some, [], EXACT, scale),
    ]


def calculator(
    title: str,
    reference: pd.DataFrame,
    current: pd.DataFrame,
    numeric_names: list[str],
    categorical_names: list[str],
    parameters: dict[str, Any] | None = None,
    scale: float = 1.0,
) -> Contender:
    def prepared() -> Any:
        return nannyml.UnivariateDriftCalculator(
            column_names=[*numeric_names, *categorical_names],
            continuous_methods=["kolmogorov_smirnov"],
            categorical_methods=["chi2"],
            chunk_size=len(current),
            computation_params=parameters,
        ).fit(reference)

    def numbers(result: Any) -> dict[str, float]:
        values = result.filter(period="analysis").data.iloc[0]
        found = {name: float(values[name, "kolmogorov_smirnov", "value"]) for name in numeric_names}
        return found | {name: float(values[name, "chi2", "value"]) for name in categorical_names}

    return Contender(
        f"NannyML, {title}",
        prepared,
        lambda fitted: fitted.calculate(current),
        numbers,
        Evidence.PRESENT,
        scale,
    )


class Estimator:
    def __init__(self, scores: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], window: int) -> None:
        self._estimator = nannyml.CBPE(
            y_pred_proba="score",
            y_pred="prediction",
            y_true="label",
            problem_type="classification_binary",
            metrics=["accuracy", "f1", "roc_auc"],
            chunk_size=window,
        ).fit(_frame(scores).assign(label=labels.astype(int)))

    def estimate(self, scores: np.ndarray[Any, Any]) -> dict[str, float]:
        values = self._estimator.estimate(_frame(scores)).filter(period="analysis").data.iloc[0]
        return {name: float(values[name, "value"]) for name in ("accuracy", "f1", "roc_auc")}


def _frame(scores: np.ndarray[Any, Any]) -> pd.DataFrame:
    return pd.DataFrame({"score": scores, "prediction": (scores > 0.5).astype(int)})
