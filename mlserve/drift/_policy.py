"""Every threshold of drift detection, by name."""

from __future__ import annotations

import math
from typing import Any

import attrs

from mlserve.errors import InvalidArgumentError
from mlserve.records import DriftSeverity


def _share(_instance: object, attribute: Any, value: Any) -> None:
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise InvalidArgumentError(attribute.name, value, "a share in [0, 1]", hint="5 % is 0.05.")


def _not_negative(_instance: object, attribute: Any, value: Any) -> None:
    if not isinstance(value, (int, float)) or math.isnan(value) or value < 0:
        raise InvalidArgumentError(attribute.name, value, "a number, at least 0")


def _at_least_one(_instance: object, attribute: Any, value: Any) -> None:
    if not isinstance(value, int) or value < 1:
        raise InvalidArgumentError(attribute.name, value, "a whole number, at least 1")


ROUNDING_DIGITS = 12
"""0.90 − 0.85 is a little more than 0.05 in binary: a change at a threshold must not be one above it."""


@attrs.frozen
class Thresholds:
    """From the size of a change to its severity.

    Attributes:
        drift: A larger change is drift, and at least LOW.
        medium: A larger one is MEDIUM.
        high: A larger one is HIGH.
    """

    drift: float = attrs.field(validator=_not_negative)
    medium: float = attrs.field(validator=_not_negative)
    high: float = attrs.field(validator=_not_negative)

    def __attrs_post_init__(self) -> None:
        if not self.drift <= self.medium <= self.high:
            raise InvalidArgumentError("thresholds", self, "in order: drift <= medium <= high")

    def severity(self, change: float) -> DriftSeverity:
        """NONE for a change that is no drift."""
        change = round(change, ROUNDING_DIGITS)
        if change > self.high:
            return DriftSeverity.HIGH
        if change > self.medium:
            return DriftSeverity.MEDIUM
        return DriftSeverity.LOW if change > self.drift else DriftSeverity.NONE


@attrs.frozen(kw_only=True)
class DriftPolicy:
    """When a change counts as drift, and how bad it is.

    Attributes:
        alpha: Level of the tests of inputs: data drift needs an adjusted p-value below it, in [0, 1].
        high_severity_alpha: Data drift with an adjusted p-value below it is HIGH; else MEDIUM.
        correction: How p-values are adjusted over features: ``"benjamini-hochberg"`` (the share of false features
            among those named is at most ``alpha``), ``"bonferroni"`` or ``"none"``.
        min_effect: A feature that moved less than this, as D or as total variation, has not drifted however
            small its p-value: with a million rows everything is significant. 0 gives the plain test.
        min_samples: Fewer rows, labels or requests than this in a window are too few to say anything.
        max_categories: Integers of at most so many distinct values are compared as categories.
        min_drifted_share: The table as a whole has drifted when at least this share of its features has, and at least
            one.
        accuracy: Thresholds for the change of accuracy, or of R² for a regressor.
        latency: Thresholds for the relative change of mean latency.
        confidence: Thresholds for the change of mean confidence.
        error_rate: Thresholds for the change of the error rate.
        direction: ``"both"``: any change of performance, confidence and error rate counts. ``"worse"``: only less
            accuracy, more latency, less confidence, more errors.
    """

    alpha: float = attrs.field(default=0.05, validator=_share)
    high_severity_alpha: float = attrs.field(default=0.01, validator=_share)
    correction: str = attrs.field(default="benjamini-hochberg")
    min_effect: float = attrs.field(default=0.05, validator=_share)
    min_samples: int = attrs.field(default=30, validator=_at_least_one)
    max_categories: int = attrs.field(default=10, validator=_at_least_one)
    min_drifted_share: float = attrs.field(default=0.0, validator=_share)
    accuracy: Thresholds = Thresholds(0.05, 0.1, 0.15)
    latency: Thresholds = Thresholds(0.2, 0.3, 0.5)
    confidence: Thresholds = Thresholds(0.1, 0.15, 0.2)
    error_rate: Thresholds = Thresholds(0.05, 0.075, 0.1)
    direction: str = attrs.field(default="both")

    def __attrs_post_init__(self) -> None:
        if self.correction not in CORRECTIONS:
            raise InvalidArgumentError("correction", self.correction, f"one of {', '.join(CORRECTIONS)}")
        if self.direction not in DIRECTIONS:
            raise InvalidArgumentError("direction", self.direction, f"one of {', '.join(DIRECTIONS)}")
        if self.high_severity_alpha > self.alpha:
            raise InvalidArgumentError("high_severity_alpha", self.high_severity_alpha, f"at most alpha, {self.alpha}")


CORRECTIONS = ("benjamini-hochberg", "bonferroni", "none")
DIRECTIONS = ("both", "worse")
