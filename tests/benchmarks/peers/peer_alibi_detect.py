"""alibi-detect takes a matrix of floats without missing values, so texts and missing values are made numbers for it.

A missing number becomes one above all others, a missing text a category: the question that mlserve's report answers.
Its matrices lie column by column in memory, which suits its loop over columns best.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from alibi_detect.cd import KSDrift, TabularDrift
from measuring import Contender, Evidence
from tables import Mixed

ABOVE_ALL = 1e9


def report(table: Mixed) -> list[Contender]:
    reference, current = pd.DataFrame(table.reference), pd.DataFrame(table.current)
    known = {name: pd.concat([reference[name], current[name]]).dropna().unique() for name in table.categorical}
    codes: dict[int, None] = dict.fromkeys(range(len(table.numeric), reference.shape[1]))

    def matrix(frame: pd.DataFrame) -> np.ndarray[Any, Any]:
        columns = [frame[name].fillna(ABOVE_ALL).to_numpy() for name in table.numeric]
        columns += [pd.Categorical(frame[name], categories=known[name]).codes for name in table.categorical]
        return np.array(columns, dtype=np.float64).T

    def detector(x_ref: np.ndarray[Any, Any]) -> TabularDrift:
        return TabularDrift(x_ref, categories_per_feature=codes)

    before, after = matrix(reference), matrix(current)
    names = [*table.numeric, *table.categorical]
    return [
        Contender(
            "alibi-detect TabularDrift, matrices made before",
            lambda: detector(before),
            lambda prepared: prepared.predict(after),
            lambda result: distances(result, names),
            Evidence.MISSING_ABOVE,
        ),
        Contender(
            "alibi-detect TabularDrift, from the frame",
            lambda: detector(matrix(reference)),
            lambda prepared: prepared.predict(matrix(current)),
            lambda result: distances(result, names),
            Evidence.MISSING_ABOVE,
        ),
    ]


def numeric(reference: np.ndarray[Any, Any], current: np.ndarray[Any, Any], names: list[str]) -> list[Contender]:
    before, after = np.asfortranarray(reference), np.asfortranarray(current)
    return [
        Contender(
            "alibi-detect KSDrift",
            lambda: KSDrift(before),
            lambda prepared: prepared.predict(after),
            lambda result: distances(result, names),
            Evidence.PRESENT,
        )
    ]


def distances(result: Any, names: list[str]) -> dict[str, float]:
    return dict(zip(names, result["data"]["distance"].tolist(), strict=True))
