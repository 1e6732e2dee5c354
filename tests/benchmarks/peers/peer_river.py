"""river's detectors take one value at a time: one detector a feature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from river.drift import ADWIN, KSWIN, PageHinkley


@attrs.frozen
class Detector:
    """How to make one, and how many rows it takes in one turn."""

    make: Callable[[int], Any]
    rows: int


def detectors(quick: bool) -> dict[str, Detector]:
    few, many = (10, 100) if quick else (40, 1000)
    return {
        "river KSWIN, defaults": Detector(lambda seed: KSWIN(seed=seed), few),
        "river KSWIN, alpha 0.0001 as documented": Detector(lambda seed: KSWIN(alpha=0.0001, seed=seed), few),
        "river ADWIN": Detector(lambda _: ADWIN(), many),
        "river PageHinkley": Detector(lambda _: PageHinkley(), many),
    }
