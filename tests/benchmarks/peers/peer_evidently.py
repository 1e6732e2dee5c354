"""Evidently, by its present interface, whose ``run`` draws every chart, and by its older one, which does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.legacy.metric_preset import DataDriftPreset as OlderPreset
from evidently.legacy.pipeline.column_mapping import ColumnMapping
from evidently.legacy.report import Report as OlderReport
from evidently.presets import DataDriftPreset
from measuring import Contender, Evidence
from tables import Mixed

MOST_COLUMNS = 50
"""More are not drawn: the cost of these is scaled."""


def report(table: Mixed) -> list[Contender]:
    reference, current = pd.DataFrame(table.reference), pd.DataFrame(table.current)
    return [
        present("default tests", reference, current, table.numeric, table.categorical, {}),
        present(
            "ks, chisquare",
            reference,
            current,
            table.numeric,
            table.categorical,
            {"num_method": "ks", "cat_method": "chisquare"},
        ),
        older("default tests", reference, current, table.numeric, table.categorical, {}),
        older(
            "ks, chisquare",
            reference,
            current,
            table.numeric,
            table.categorical,
            {"num_stattest": "ks", "cat_stattest": "chisquare"},
        ),
    ]


def numeric(reference: np.ndarray[Any, Any], current: np.ndarray[Any, Any], names: list[str]) -> list[Contender]:
    taken = names[:MOST_COLUMNS]
    before, after = (pd.DataFrame(side[:, : len(taken)], columns=taken) for side in (reference, current))
    scale = len(names) / len(taken)
    return [
        present("ks", before, after, taken, [], {"num_method": "ks"}, scale),
        older("ks", before, after, taken, [], {"num_stattest": "ks"}, scale),
    ]


def present(
    title: str,
    reference: pd.DataFrame,
    current: pd.DataFrame,
    numeric_names: list[str],
    categorical_names: list[str],
    methods: dict[str, str],
    scale: float = 1.0,
) -> Contender:
    definition = DataDefinition(numerical_columns=numeric_names, categorical_columns=categorical_names)
    preset = Report([DataDriftPreset(**methods)])
    return Contender(
        f"Evidently DataDriftPreset, {title}",
        lambda: Dataset.from_pandas(reference, data_definition=definition),
        lambda prepared: preset.run(Dataset.from_pandas(current, data_definition=definition), prepared),
        (lambda result: p_values(result.dict()["metrics"], numeric_names)) if methods else None,
        Evidence.SCIPY_P if methods else None,
        scale,
    )


def p_values(metrics: list[dict[str, Any]], numeric_names: list[str]) -> dict[str, float]:
    found = {metric["config"].get("column"): metric["value"] for metric in metrics}
    return {name: float(found[name]) for name in numeric_names}


def older(
    title: str,
    reference: pd.DataFrame,
    current: pd.DataFrame,
    numeric_names: list[str],
    categorical_names: list[str],
    methods: dict[str, str],
    scale: float = 1.0,
) -> Contender:
    mapping = ColumnMapping(numerical_features=numeric_names, categorical_features=categorical_names)

    def run(_: object) -> dict[str, Any]:
        preset = OlderReport([OlderPreset(**methods)])
        preset.run(reference_data=reference, current_data=current, column_mapping=mapping)
        found: dict[str, Any] = preset.as_dict()["metrics"][1]["result"]["drift_by_columns"]
        return found

    return Contender(
        f"Evidently legacy DataDriftPreset, no charts, {title}",
        lambda: None,
        run,
        (lambda found: {name: float(found[name]["drift_score"]) for name in numeric_names}) if methods else None,
        Evidence.SCIPY_P if methods else None,
        scale,
    )
