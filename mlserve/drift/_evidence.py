"""What was found of one feature, as a record that is not judged yet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from mlserve.drift._categories import compare_categories, smallest_significant_variation, total_variation_radius
from mlserve.drift._columns import Column, Kind
from mlserve.drift._policy import DriftPolicy
from mlserve.records import FeatureDrift, FeatureStatus

MISSING_SHARE = 0.5
"""A feature moved in the direction "missing" when the change of its missing rate is at least this share of its
effect."""

SHOWN = np.linspace(0.0, 1.0, 21)
"""Levels at which a feature's distribution is kept for the picture of it; the middle one is the median."""


@attrs.frozen(eq=False)
class Comparison:
    """What was found of two samples.

    Attributes:
        names: Of the features, in the order of the data.
        reference_count: Rows of the baseline.
        current_count: Rows of the window.
        features: Every feature with its evidence, not judged yet; None where either sample is too small.
    """

    names: tuple[str, ...]
    reference_count: int
    current_count: int
    features: Sequence[FeatureDrift] | None


@attrs.frozen(eq=False)
class OrderedSample:
    """What is told of one sample of numbers or times.

    Attributes:
        size: Number of rows, at least 1.
        missing: Missing values among them.
        ends: The smallest and the largest value; empty where all are missing.
        quantiles: Values at the levels ``SHOWN``; empty where all are missing.
    """

    size: int
    missing: int
    ends: tuple[Any, ...]
    quantiles: tuple[float, ...]

    @property
    def missing_rate(self) -> float:
        """Share of missing values, in [0, 1]."""
        return self.missing / self.size

    @property
    def median(self) -> float | None:
        """The median; None where all values are missing."""
        return self.quantiles[len(self.quantiles) // 2] if self.quantiles else None


def ordered_sample(ordered: npt.NDArray[Any]) -> OrderedSample:
    """What is told of a sample that is sorted, missing values last, shape ``(n_samples,)``."""
    present = ordered[: count_present(ordered)]
    ends = (present[0], present[-1]) if present.size else ()
    return OrderedSample(ordered.size, ordered.size - present.size, ends, quantiles(present))


def count_present(ordered: npt.NDArray[Any]) -> int:
    """How many values of a sorted sample are not missing."""
    return int(ordered.searchsorted(np.nan)) if ordered.dtype.kind == "f" else ordered.size


def quantile_ranks(size: int) -> npt.NDArray[np.intp]:
    """Positions of the quantiles ``SHOWN`` among so many sorted values: at or just below each level."""
    return np.floor(SHOWN * (size - 1)).astype(np.intp)


def quantiles(present: npt.NDArray[Any]) -> tuple[float, ...]:
    """Values that occurred, of a sorted sample without missing ones: so that infinities do no harm."""
    return tuple(present[quantile_ranks(present.size)].astype(np.float64).tolist()) if present.size else ()


def ordered_feature(
    name: str,
    kind: Kind,
    before: OrderedSample,
    after: OrderedSample,
    *,
    distance: float,
    sign: int,
    p_value: float,
    method: str,
    ties: bool,
    policy: DriftPolicy,
) -> FeatureDrift:
    """A feature of numbers or times.

    Args:
        name: The feature's.
        kind: Numbers or times.
        before: The baseline.
        after: The window.
        distance: D, in [0, 1].
        sign: +1 where the baseline's distribution function is the larger one there.
        p_value: Of D.
        method: How that was computed.
        ties: Whether values repeat.
        policy: Thresholds.
    """
    n, m = before.size, after.size
    radius = distance_radius(n, policy.alpha) + distance_radius(m, policy.alpha)
    missing_before, missing_after = before.missing_rate, after.missing_rate
    return FeatureDrift(
        name=name,
        kind=kind.value,
        status=_ordered_status(before, after),
        statistic=distance,
        p_value=p_value,
        effect_size=distance,
        effect_interval=(max(0.0, distance - radius), min(1.0, distance + radius)),
        direction=_ordered_direction(distance, sign, missing_after - missing_before),
        method=f"Kolmogorov-Smirnov, {method}",
        ties=ties,
        minimum_detectable_effect=max(smallest_significant_distance(n, m, policy.alpha), policy.min_effect),
        reference_count=n,
        current_count=m,
        reference_missing_rate=missing_before,
        current_missing_rate=missing_after,
        missing_rate_p_value=_rates_p_value(missing_before, n, missing_after, m),
        reference_median=before.median,
        current_median=after.median,
        reference_quantiles=before.quantiles,
        current_quantiles=after.quantiles,
    )


def categorical_feature(name: str, before: Column, after: Column, policy: DriftPolicy) -> FeatureDrift:
    """A feature of categories or booleans, each sample of at least one row."""
    found = compare_categories(before, after)
    n, m = before.size, after.size
    effect, categories = found.total_variation, found.n_categories
    radius = sum(total_variation_radius(size, categories, policy.alpha / 2) for size in (n, m))
    is_boolean = before.kind is Kind.BOOLEAN and after.kind is Kind.BOOLEAN
    return FeatureDrift(
        name=name,
        kind=Kind.BOOLEAN.value if is_boolean else Kind.CATEGORICAL.value,
        status=_category_status(before, after, categories),
        statistic=found.statistic,
        p_value=found.p_value,
        effect_size=effect,
        effect_interval=(max(0.0, effect - radius), min(1.0, effect + radius)),
        direction=_category_direction(effect, found.missing_after - found.missing_before, before, after, is_boolean),
        method=f"chi-square, {found.method}",
        ties=True,
        minimum_detectable_effect=max(
            smallest_significant_variation(n, m, found.degrees_of_freedom, policy.alpha), policy.min_effect
        ),
        reference_count=n,
        current_count=m,
        reference_missing_rate=found.missing_before,
        current_missing_rate=found.missing_after,
        missing_rate_p_value=_rates_p_value(found.missing_before, n, found.missing_after, m),
        category_shares=found.shares,
        unseen_categories=found.unseen,
        unseen_count=found.unseen_count,
        unseen_p_value=found.unseen_p_value,
    )


def _ordered_status(before: OrderedSample, after: OrderedSample) -> FeatureStatus:
    if not before.ends or not after.ends:
        return FeatureStatus.EMPTY
    lowest, highest = before.ends
    return FeatureStatus.CONSTANT if after.ends == (lowest, lowest) and lowest == highest else FeatureStatus.OK


def _ordered_direction(distance: float, sign: int, missing_change: float) -> str:
    if distance == 0:
        return "none"
    if abs(missing_change) >= MISSING_SHARE * distance:
        return "missing"
    # Where the baseline's distribution function lies above, its values are the smaller ones.
    return "up" if sign > 0 else "down"


def _category_status(before: Column, after: Column, categories: int) -> FeatureStatus:
    if before.is_all_missing or after.is_all_missing:
        return FeatureStatus.EMPTY
    return FeatureStatus.CONSTANT if categories == 1 else FeatureStatus.OK


def _category_direction(effect: float, missing_change: float, before: Column, after: Column, is_boolean: bool) -> str:
    if effect == 0:
        return "none"
    if abs(missing_change) >= MISSING_SHARE * effect:
        return "missing"
    if not is_boolean:
        return "changed"
    shares = [one.category_counts()[True] / one.size for one in (before, after)]
    return "up" if shares[1] > shares[0] else "down"


def smallest_significant_distance(n: int, m: int, alpha: float) -> float:
    """The Kolmogorov-Smirnov distance at which the asymptotic p-value of samples of these sizes is alpha.

    From the leading term of the Kolmogorov distribution, p = 2·exp(−2·D²·nm/(n + m)): D = √(−ln(α/2)/2 · (n + m)/(nm)),
    which is right to 1 % for α ≤ 0.2. (Smirnov, "Table for estimating the goodness of fit of empirical distributions",
    Annals of Mathematical Statistics 19, 1948.)

    Args:
        n: Size of one sample, at least 1.
        m: Size of the other, at least 1.
        alpha: Level in [0, 1].

    Returns:
        In [0, 1]; 1 where no distance would be significant.
    """
    if alpha <= 0:
        return 1.0
    return min(1.0, math.sqrt(max(0.0, -math.log(alpha / 2)) / 2 * (n + m) / (n * m)))


def distance_radius(n: int, alpha: float) -> float:
    """How far the distribution function of a sample is from the true one, at most, with probability 1 − α/2.

    √(ln(4/α)/(2n)): the inequality of Dvoretzky, Kiefer and Wolfowitz with the constant of Massart ("The tight constant
    in the Dvoretzky-Kiefer-Wolfowitz inequality", Annals of Probability 18, 1990). D computed from two samples is then
    within the sum of both radii of the true D with probability 1 − α.

    Args:
        n: Size of the sample, at least 1.
        alpha: In [0, 1].
    """
    return math.sqrt(math.log(4 / alpha) / (2 * n)) if alpha > 0 else 1.0


def _rates_p_value(before: float, n: int, after: float, m: int) -> float:
    """Two-sided p-value of two missing rates: Pearson's chi-square with one degree of freedom; 1 where both are equal.

    p = erfc(√(χ²/2)), χ² = (p₁ − p₂)²/(p̄(1 − p̄)(1/n + 1/m)).
    """
    pooled = (before * n + after * m) / (n + m)
    if before == after or not 0 < pooled < 1:
        return 1.0
    return math.erfc(abs(before - after) / math.sqrt(2 * pooled * (1 - pooled) * (1 / n + 1 / m)))
