"""Inputs against their baseline, feature by feature."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mlserve.drift._policy import DriftPolicy
from mlserve.errors import InvalidArgumentError
from mlserve.numerics import KSResult, SortedReference, benjamini_hochberg, bonferroni
from mlserve.records import DataDrift, DriftSeverity, DriftStatus, FeatureDrift, FeatureStatus
from mlserve.records._monitoring import checked_feature_names

MISSING_SHARE = 0.5
"""A feature moved in the direction "missing" when the change of its missing rate is at least this share of D."""

FloatTable = npt.NDArray[np.float64]


def compare_inputs(
    baseline: Any,
    recent: Any,
    *,
    feature_names: Sequence[str] | None = None,
    policy: DriftPolicy | None = None,
) -> DataDrift:
    """Compare two samples of inputs, feature by feature; no monitor is needed.

    Each feature gets a two-sample Kolmogorov–Smirnov test, in which missing values (NaN) are a value of their own, so
    that a change of the missing rate counts; p-values are adjusted over features; a feature has drifted when its
    adjusted p-value is below ``policy.alpha`` and its distance D is at least ``policy.min_effect``.

    A caveat: a test made again and again raises false alarms again and again. At level 0.05, half of all features
    whose nothing changed are called drifted at least once in 14 looks (1 − 0.95¹⁴ = 51 %) without ``min_effect``.

    Args:
        baseline: Numbers, shape ``(n_samples, n_features)`` or ``(n_samples,)``; a pandas or polars frame brings its
            column names.
        recent: As many features; any number of rows.
        feature_names: One name a feature.
        policy: Thresholds.

    Returns:
        Every feature with its evidence. Fewer than ``policy.min_samples`` rows on either side give the status
        ``INSUFFICIENT_DATA``.

    Raises:
        InvalidArgumentError: Not a table of numbers, tables of different width, or names that do not fit.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> before, after = rng.normal(size=(500, 2)), rng.normal(size=(400, 2)) + [0.0, 1.0]
        >>> drift = compare_inputs(before, after, feature_names=["calm", "moved"])
        >>> [(feature.name, feature.direction) for feature in drift.drifted_features]
        [('moved', 'up')]
    """
    policy = policy if policy is not None else DriftPolicy()
    if feature_names is None:
        columns = getattr(baseline, "columns", None)
        feature_names = None if columns is None else [str(column) for column in columns]
    reference, current = _table("baseline", baseline, feature_names), _table("recent", recent, feature_names)
    if reference.shape[1] != current.shape[1] and len(current):
        raise InvalidArgumentError(
            "recent", current.shape, f"{reference.shape[1]} features, as the baseline has",
            hint="Pass the same columns in the same order.",
        )  # fmt: skip
    n_features = reference.shape[1]
    names = checked_feature_names(feature_names or [f"x{index}" for index in range(n_features)], n_features)
    if len(reference) < policy.min_samples or len(current) < policy.min_samples:
        return _insufficient(names, len(reference), len(current), policy)
    return _summarised(_test_features(reference, current, names, policy))


def _test_features(
    reference: FloatTable, current: FloatTable, names: Sequence[str], policy: DriftPolicy
) -> tuple[FeatureDrift, ...]:
    result = SortedReference(reference).ks_2samp(current)
    adjusted = _ADJUST[policy.correction](np.asarray(result.pvalue))
    detectable = smallest_significant_distance(len(reference), len(current), policy.alpha)
    missing = [np.isnan(table) for table in (reference, current)]
    return tuple(
        _feature(index, name, (reference[:, index], current[:, index]), (missing[0][:, index], missing[1][:, index]),
                 result, float(adjusted[index]), max(detectable, policy.min_effect), policy)
        for index, name in enumerate(names)
    )  # fmt: skip


def _feature(
    index: int,
    name: str,
    columns: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
    missing: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]],
    result: KSResult,
    adjusted: float,
    detectable: float,
    policy: DriftPolicy,
) -> FeatureDrift:
    before, after = (column[~gone] for column, gone in zip(columns, missing, strict=True))
    found: Any = result  # of tables: every field is an array
    distance = float(found.statistic[index])
    drifted = adjusted < policy.alpha and distance >= policy.min_effect
    severity = DriftSeverity.NONE
    if drifted:
        severity = DriftSeverity.HIGH if adjusted < policy.high_severity_alpha else DriftSeverity.MEDIUM
    return FeatureDrift(
        name=name,
        status=_status(before, after),
        statistic=distance,
        p_value=float(found.pvalue[index]),
        adjusted_p_value=adjusted,
        effect_size=distance,
        direction=_direction(
            distance, int(found.statistic_sign[index]), float(missing[1].mean() - missing[0].mean())
        ),
        is_drift_detected=drifted,
        severity=severity,
        method=str(found.method[index]),
        ties=bool(found.ties[index]),
        minimum_detectable_effect=detectable,
        reference_count=columns[0].size,
        current_count=columns[1].size,
        reference_missing_rate=float(missing[0].mean()),
        current_missing_rate=float(missing[1].mean()),
        reference_median=_median(before),
        current_median=_median(after),
    )


def _status(before: npt.NDArray[np.float64], after: npt.NDArray[np.float64]) -> FeatureStatus:
    if not before.size or not after.size:
        return FeatureStatus.EMPTY
    if before.min() == before.max() == after.min() == after.max():
        return FeatureStatus.CONSTANT
    return FeatureStatus.OK


def _direction(distance: float, sign: int, missing_change: float) -> str:
    if distance == 0:
        return "none"
    if abs(missing_change) >= MISSING_SHARE * distance:
        return "missing"
    # Where the baseline's distribution function lies above, its values are the smaller ones.
    return "up" if sign > 0 else "down"


def _median(values: npt.NDArray[np.float64]) -> float | None:
    if not values.size:
        return None
    # The lower median: a value that occurred, also where the upper one is infinite.
    return float(np.partition(values, (values.size - 1) // 2)[(values.size - 1) // 2])


def smallest_significant_distance(n: int, m: int, alpha: float) -> float:
    """The Kolmogorov–Smirnov distance at which the asymptotic p-value of samples of these sizes is alpha.

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


def _summarised(features: tuple[FeatureDrift, ...]) -> DataDrift:
    drifted = [feature for feature in features if feature.is_drift_detected]
    # The smallest p; of several that are 0, the largest effect.
    leading = min(drifted or features, key=lambda f: (f.adjusted_p_value, -(f.effect_size or 0.0)), default=None)
    return DataDrift(
        status=DriftStatus.DRIFT if drifted else DriftStatus.OK,
        features=features,
        ks_statistic=None if leading is None else leading.statistic,
        p_value=None if leading is None else leading.adjusted_p_value,
        is_drift_detected=bool(drifted),
        severity=max((feature.severity for feature in features), default=DriftSeverity.NONE),
    )


def _insufficient(names: Sequence[str], n: int, m: int, policy: DriftPolicy) -> DataDrift:
    features = tuple(
        FeatureDrift(name=name, status=FeatureStatus.INSUFFICIENT, reference_count=n, current_count=m) for name in names
    )
    detail = f"{n} baseline rows and {m} recent rows; at least {policy.min_samples} of each are needed"
    return DataDrift(status=DriftStatus.INSUFFICIENT_DATA, features=features, detail=detail)


def _table(parameter: str, value: Any, names: Sequence[str] | None) -> FloatTable:
    try:
        array = np.asarray(value)
    except ValueError as error:  # rows of different lengths
        raise InvalidArgumentError(parameter, value, f"a table of numbers ({error})") from error
    if array.ndim == 1 and array.dtype.kind in "biufO":
        array = array[:, np.newaxis]
    if array.ndim != 2:
        raise InvalidArgumentError(
            parameter, array.shape, "an array of shape (n_samples, n_features)", hint="Reshape one row to (1, n)."
        )
    if array.dtype.kind in "biuf":
        return array.astype(np.float64, copy=False)
    for index in range(array.shape[1]):
        column = array[:, index]
        wrong = next((item for item in column if not isinstance(item, (bool, int, float, np.number, np.bool_))), None)
        if wrong is not None or array.dtype.kind != "O":
            name = names[index] if names is not None and index < len(names) else f"x{index}"
            raise InvalidArgumentError(
                parameter, wrong, f"numbers in every column; column {name!r} holds {type(wrong).__name__}",
                hint="Encode text and categories as numbers, and missing values as NaN.",
            )  # fmt: skip
    return array.astype(np.float64)


def _unadjusted(p_values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return p_values


_ADJUST: dict[str, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]] = {
    "benjamini-hochberg": benjamini_hochberg,
    "bonferroni": bonferroni,
    "none": _unadjusted,
}
