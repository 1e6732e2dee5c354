"""What the peers' numbers must be equal to, by mlserve."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from measuring import Evidence
from scipy import stats
from tables import Mixed

from mlserve.drift import compare_inputs
from mlserve.numerics import chi_square_test, ks_2samp

SCIPY_EXACT = 10_000
"""Up to so many rows of the larger sample scipy's p-value is exact."""


def expected(evidence: Evidence, table: Mixed) -> dict[str, float]:
    if evidence is Evidence.MISSING_ABOVE:
        features = compare_inputs(table.reference, table.current).features
        return {feature.name: float(feature.statistic) for feature in features}
    found: dict[str, float] = {}
    for name in table.numeric:
        first, second = (side[name][~np.isnan(side[name])] for side in (table.reference, table.current))
        found[name] = (
            _scipy_p(first, second) if evidence is Evidence.SCIPY_P else float(ks_2samp(first, second).statistic)
        )
    if evidence is Evidence.PRESENT:
        for name in table.categorical:
            first, second = (Counter(side[name].tolist()) for side in (table.reference, table.current))
            names = [one for one in first | second if one is not None]
            found[name] = float(chi_square_test(*([side[one] for one in names] for side in (first, second))).statistic)
    return found


def _scipy_p(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> float:
    n, m = first.size, second.size
    if max(n, m) <= SCIPY_EXACT:
        return float(ks_2samp(first, second, method="exact").pvalue)
    return float(stats.kstwo.sf(ks_2samp(first, second).statistic, np.round(n * m / (n + m))))


def largest_difference(
    numbers: Mapping[str, float], wanted: Mapping[str, float], columns: list[str], *, relative: bool
) -> float | None:
    """Of those columns that both have."""
    found = [
        abs(numbers[name] - wanted[name]) / (abs(wanted[name]) if relative else 1.0)
        for name in columns
        if name in numbers and name in wanted
    ]
    return max(found, default=None)
