"""Inputs against their baseline, feature by feature."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from mlserve.drift._categories import (
    compare_categories,
    smallest_significant_variation,
    total_variation_radius,
)
from mlserve.drift._columns import Column, Kind, Table, table
from mlserve.drift._policy import DriftPolicy
from mlserve.errors import InvalidArgumentError
from mlserve.numerics import SortedReference, benjamini_hochberg, bonferroni
from mlserve.records import DataDrift, DriftSeverity, DriftStatus, FeatureDrift, FeatureStatus

MISSING_SHARE = 0.5
"""A feature moved in the direction "missing" when the change of its missing rate is at least this share of its
effect."""

MEDIAN = np.array([0.5])
SHOWN = np.linspace(0.0, 1.0, 21)
"""Levels at which a feature's distribution is kept for the picture of it."""


def compare_inputs(
    baseline: Any,
    recent: Any,
    *,
    feature_names: Sequence[str] | None = None,
    categorical: Sequence[str] = (),
    policy: DriftPolicy | None = None,
) -> DataDrift:
    """Compare two samples of inputs, feature by feature; no monitor is needed.

    Numbers and times get a two-sample Kolmogorov-Smirnov test, whose distance D is their effect; categories and
    booleans get Pearson's chi-square test of homogeneity, with the total variation ½·Σ|p − q| as effect. A missing
    value is a value of its own in either, so that a change of the missing rate counts. P-values are adjusted over
    features; a feature has drifted when its adjusted p-value is below ``policy.alpha`` and its effect is at least
    ``policy.min_effect``.

    A caveat: a test made again and again raises false alarms again and again. At level 0.05, half of all features of
    which nothing changed are significant at least once in 14 looks (1 − 0.95¹⁴ = 51 %).

    Args:
        baseline: Shape ``(n_samples, n_features)`` or ``(n_samples,)``: an array, a structured array, a mapping from
            names to columns, or a pandas or polars frame.
        recent: As many features; any number of rows.
        feature_names: One name a feature, where the samples bring none; else the columns to compare.
        categorical: Names of the features whose numbers are codes. Text, booleans, and integers of at most
            ``policy.max_categories`` values are taken as categories without being named.
        policy: Thresholds.

    Returns:
        Every feature with its evidence. Fewer than ``policy.min_samples`` rows on either side give the status
        ``INSUFFICIENT_DATA``. A column whose type changed is compared by the text of its values.

    Raises:
        InvalidArgumentError: Not a table, tables of different width, names that do not fit, values that cannot be told
            apart, times of which some have a zone and some have none.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(2)
        >>> before, after = rng.normal(size=(500, 2)), rng.normal(size=(400, 2)) + [0.0, 1.0]
        >>> drift = compare_inputs(before, after, feature_names=["calm", "moved"])
        >>> [(feature.name, feature.direction) for feature in drift.drifted_features]
        [('moved', 'up')]
    """
    policy = policy if policy is not None else DriftPolicy()
    before = table("baseline", baseline, feature_names)
    # An array brings no names: its columns are the baseline's, if there are as many.
    after = table("recent", recent, before.names if _brings_names(recent) else None)
    if before.n_features != after.n_features and after.n_rows:
        raise InvalidArgumentError(
            "recent", f"{after.n_features} features", f"{before.n_features} features, as the baseline has",
            hint="Pass the same columns in the same order.",
        )  # fmt: skip
    unknown = sorted(set(categorical) - set(before.names))
    if unknown:
        raise InvalidArgumentError("categorical", unknown, f"names of features: {', '.join(before.names[:8])}")
    if min(before.n_rows, after.n_rows) < policy.min_samples:
        return _insufficient(before, after, policy)
    found = _compared(before, after, frozenset(categorical), policy)
    return _summarised(_judged(found, policy), policy)


def _brings_names(value: Any) -> bool:
    is_structured = isinstance(value, np.ndarray) and value.dtype.names is not None
    return hasattr(value, "keys") or hasattr(value, "columns") or is_structured


def _compared(before: Table, after: Table, declared: frozenset[str], policy: DriftPolicy) -> list[FeatureDrift]:
    """Every feature with its evidence, not judged yet, in the order of the data."""
    found: dict[int, FeatureDrift] = {}
    # Ordered features of the same types share one vectorised test.
    groups: dict[tuple[str, ...], list[int]] = {}
    pairs: dict[int, tuple[Column, Column]] = {}
    for index, name in enumerate(before.names):
        first, second = _matched(before.column(index), after.column(index), name in declared, policy)
        if first.kind.is_ordered:
            pairs[index] = first, second
            groups.setdefault((_dtype(first), _dtype(second)), []).append(index)
        else:
            found[index] = _categorical(name, first, second, policy)
    for indices in groups.values():
        if before.matrix is not None and after.matrix is not None and len(indices) == before.n_features:
            reference, current = before.matrix, after.matrix
        else:
            reference, current = (_stacked([pairs[index][side] for index in indices]) for side in (0, 1))
        if reference.dtype.kind != current.dtype.kind:
            # Integers against floats: equal as far as a float can tell.
            reference, current = reference.astype(np.float64), current.astype(np.float64)
        names = [before.names[index] for index in indices]
        kinds = [pairs[index][0].kind for index in indices]
        found.update(zip(indices, _ordered(names, kinds, reference, current, policy), strict=True))
    return [found[index] for index in range(before.n_features)]


def _matched(first: Column, second: Column, is_declared: bool, policy: DriftPolicy) -> tuple[Column, Column]:
    """Both columns as one kind."""
    if is_declared:
        return first.as_categories(), second.as_categories()
    if first.kind is second.kind:
        if first.is_integral and second.is_integral and _has_few_values(first, policy):
            return first.as_categories(), second.as_categories()
        return first, second
    # A column without values has no kind of its own.
    if first.is_all_missing:
        return second.emptied(first.size), second
    if second.is_all_missing:
        return first, first.emptied(second.size)
    if {first.kind, second.kind} == {Kind.BOOLEAN, Kind.NUMERIC}:
        return first.as_numbers(), second.as_numbers()
    return first.as_text(), second.as_text()


def _stacked(columns: Sequence[Column]) -> npt.NDArray[Any]:
    # Feature by feature in memory, as the test wants them.
    return np.stack([column.values for column in columns if column.values is not None]).T


def _dtype(column: Column) -> str:
    return "" if column.values is None else column.values.dtype.str


def _has_few_values(column: Column, policy: DriftPolicy) -> bool:
    # Most columns show in their first rows that they have many values.
    limit, values = policy.max_categories, column.values
    return values is not None and len(set(values[: 4 * limit].tolist())) <= limit and np.unique(values).size <= limit


def _ordered(
    names: Sequence[str],
    kinds: Sequence[Kind],
    reference: npt.NDArray[Any],
    current: npt.NDArray[Any],
    policy: DriftPolicy,
) -> list[FeatureDrift]:
    result: Any = SortedReference(reference).ks_2samp(current)
    n, m = len(reference), len(current)
    detectable = max(smallest_significant_distance(n, m, policy.alpha), policy.min_effect)
    radius = distance_radius(n, policy.alpha) + distance_radius(m, policy.alpha)
    features = []
    for index, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        before, missing_before = _present(reference[:, index])
        after, missing_after = _present(current[:, index])
        distance = float(result.statistic[index])
        features.append(
            FeatureDrift(
                name=name,
                kind=kind.value,
                status=_status(before, after),
                statistic=distance,
                p_value=float(result.pvalue[index]),
                effect_size=distance,
                effect_interval=(max(0.0, distance - radius), min(1.0, distance + radius)),
                direction=_direction(distance, int(result.statistic_sign[index]), missing_after - missing_before),
                method=f"Kolmogorov-Smirnov, {result.method[index]}",
                ties=bool(result.ties[index]),
                minimum_detectable_effect=detectable,
                reference_count=n,
                current_count=m,
                reference_missing_rate=missing_before,
                current_missing_rate=missing_after,
                missing_rate_p_value=_rates_p_value(missing_before, n, missing_after, m),
                reference_median=_quantiles(before, MEDIAN)[0] if before.size else None,
                current_median=_quantiles(after, MEDIAN)[0] if after.size else None,
                reference_quantiles=_quantiles(before, SHOWN),
                current_quantiles=_quantiles(after, SHOWN),
            )
        )
    return features


def _categorical(name: str, before: Column, after: Column, policy: DriftPolicy) -> FeatureDrift:
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


def _present(values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], float]:
    """The values that are not missing, in order, and the share of those that are missing."""
    ordered = np.sort(values)
    missing = int(np.isnan(ordered).sum()) if ordered.dtype.kind == "f" else 0
    return ordered[: ordered.size - missing], missing / ordered.size


def _status(before: npt.NDArray[Any], after: npt.NDArray[Any]) -> FeatureStatus:
    if not before.size or not after.size:
        return FeatureStatus.EMPTY
    if before[0] == before[-1] == after[0] == after[-1]:
        return FeatureStatus.CONSTANT
    return FeatureStatus.OK


def _direction(distance: float, sign: int, missing_change: float) -> str:
    if distance == 0:
        return "none"
    if abs(missing_change) >= MISSING_SHARE * distance:
        return "missing"
    # Where the baseline's distribution function lies above, its values are the smaller ones.
    return "up" if sign > 0 else "down"


def _quantiles(ordered: npt.NDArray[Any], levels: npt.NDArray[np.float64]) -> tuple[float, ...]:
    """Values that occurred, at or just below each level: so that infinities do no harm."""
    if not ordered.size:
        return ()
    return tuple(ordered[np.floor(levels * (ordered.size - 1)).astype(np.intp)].astype(np.float64).tolist())


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


def _judged(features: list[FeatureDrift], policy: DriftPolicy) -> tuple[FeatureDrift, ...]:
    """The features with adjusted p-values, verdicts and severities."""
    p_values = np.array([feature.p_value for feature in features], np.float64)
    adjusted = _ADJUST[policy.correction](p_values)
    judged = []
    for feature, p_value in zip(features, adjusted.tolist(), strict=True):
        effect = feature.effect_size or 0.0
        drifted = p_value < policy.alpha and effect >= policy.min_effect
        high = drifted and p_value < policy.high_severity_alpha
        severity = DriftSeverity.HIGH if high else DriftSeverity.MEDIUM if drifted else DriftSeverity.NONE
        # What was never seen before is an alarm of its own, at a level shared by all features.
        alarm = feature.unseen_p_value is not None and feature.unseen_p_value < policy.alpha / len(features)
        judged.append(
            attrs.evolve(
                feature,
                adjusted_p_value=p_value,
                is_drift_detected=drifted,
                severity=severity,
                is_unseen_alarm=alarm,
            )
        )
    return tuple(judged)


def _summarised(features: tuple[FeatureDrift, ...], policy: DriftPolicy) -> DataDrift:
    drifted = [feature for feature in features if feature.is_drift_detected]
    is_drift = len(drifted) >= max(1, math.ceil(policy.min_drifted_share * len(features)))
    # The smallest p; of several that are 0, the largest effect.
    leading = min(drifted or features, key=lambda f: (f.adjusted_p_value, -(f.effect_size or 0.0)), default=None)
    severity = max((feature.severity for feature in features), default=DriftSeverity.NONE)
    return DataDrift(
        status=DriftStatus.DRIFT if is_drift else DriftStatus.OK,
        features=features,
        ks_statistic=None if leading is None else leading.effect_size,
        p_value=None if leading is None else leading.adjusted_p_value,
        is_drift_detected=is_drift,
        severity=severity if is_drift else DriftSeverity.NONE,
    )


def _insufficient(before: Table, after: Table, policy: DriftPolicy) -> DataDrift:
    n, m = before.n_rows, after.n_rows
    features = tuple(
        FeatureDrift(name=name, status=FeatureStatus.INSUFFICIENT, reference_count=n, current_count=m)
        for name in before.names
    )
    detail = f"{n} baseline rows and {m} recent rows; at least {policy.min_samples} of each are needed"
    return DataDrift(status=DriftStatus.INSUFFICIENT_DATA, features=features, detail=detail)


def _unadjusted(p_values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return p_values


_ADJUST: dict[str, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]] = {
    "benjamini-hochberg": benjamini_hochberg,
    "bonferroni": bonferroni,
    "none": _unadjusted,
}
