"""The data of the benchmarks of whole tables: the same for everybody who is compared."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

NUMERIC_SHARE = 0.8
MISSING = 0.02
SHIFT = 0.1
SHIFTED_EVERY = 4
FEWEST_CATEGORIES = 3


@attrs.frozen
class Mixed:
    """A reference and a window of numbers and texts, as mappings from names to columns; missing are NaN and None."""

    reference: dict[str, np.ndarray[Any, Any]]
    current: dict[str, np.ndarray[Any, Any]]
    numeric: list[str]
    categorical: list[str]


def mixed(n: int, m: int, n_features: int) -> Mixed:
    """Four in five columns are normal numbers, of which every fourth moved; the others have 3, 5, … categories."""
    n_numeric = round(n_features * NUMERIC_SHARE)
    numeric = [f"number_{index}" for index in range(n_numeric)]
    categorical = [f"text_{index}" for index in range(n_features - n_numeric)]
    generator = np.random.default_rng(0)

    def columns(rows: int, shift: float) -> dict[str, np.ndarray[Any, Any]]:
        found: dict[str, np.ndarray[Any, Any]] = {}
        for index, name in enumerate(numeric):
            values = generator.normal(0.0 if index % SHIFTED_EVERY else shift, size=rows)
            values[generator.random(rows) < MISSING] = np.nan
            found[name] = values
        for index, name in enumerate(categorical):
            labels = np.array([f"label {code}" for code in range(FEWEST_CATEGORIES + 2 * index)], dtype=object)
            texts = labels[generator.integers(0, labels.size, rows)]
            texts[generator.random(rows) < MISSING] = None
            found[name] = texts
        return found

    return Mixed(columns(n, 0.0), columns(m, SHIFT), numeric, categorical)


def numbers(n: int, m: int, n_features: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Normal numbers, none missing, a little apart."""
    generator = np.random.default_rng(0)
    return generator.normal(size=(n, n_features)), generator.normal(SHIFT / 5, size=(m, n_features))
