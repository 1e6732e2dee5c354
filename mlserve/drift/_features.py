"""Inputs against their baseline, feature by feature."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from mlserve.drift._blocks import compare_tables
from mlserve.drift._chunks import compare_chunks, is_chunked
from mlserve.drift._evidence import Comparison
from mlserve.drift._policy import DriftPolicy
from mlserve.drift._references import InputReference
from mlserve.drift._tables import check_declared, check_width, table, table_like
from mlserve.numerics import benjamini_hochberg, bonferroni
from mlserve.records import DataDrift, DriftSeverity, DriftStatus, FeatureDrift, FeatureStatus


def compare_inputs(
    baseline: Any,
    recent: Any,
    *,
    feature_names: Sequence[str] | None = None,
    categorical: Sequence[str] = (),
    policy: DriftPolicy | None = None,
    progress: bool | None = None,
) -> DataDrift:
    """Compare two samples of inputs, feature by feature; no monitor is needed.

    Numbers and times get a two-sample Kolmogorov-Smirnov test, whose distance D is their effect; categories and
    booleans get Pearson's chi-square test of homogeneity, with the total variation ½·Σ|p − q| as effect. A missing
    value is a value of its own in either, so that a change of the missing rate counts. P-values are adjusted over
    features; a feature has drifted when its adjusted p-value is below ``policy.alpha`` and its effect is at least
    ``policy.min_effect``.

    A caveat: a test made again and again raises false alarms again and again. At level 0.05, half of all features of
    which nothing changed are significant at least once in 14 looks (1 − 0.95¹⁴ = 51 %).

    Big tables: beside the samples about four megabytes are needed, or one sorted column of each where that is more. A
    sample that does not fit in memory is given as an iterator of tables, its chunks, of which none is kept; the other
    sample must fit, and takes three to four times its size. D, categories and missing rates are exact all the same.
    P-values of numbers in chunks are those of samples without ties, upper bounds where values repeat. Quantiles of the
    chunks are those of 4096 rows taken at random, moved to where exact counts at the other sample's values show them to
    be: with a probability of 95 % all of them are within 2.2 % of the rows (Dvoretzky, Kiefer, Wolfowitz and Massart;
    more where many are missing), and in any case within the share of rows between two neighbouring values of the other
    sample.

    Args:
        baseline: Shape ``(n_samples, n_features)`` or ``(n_samples,)``: an array, a structured array, a mapping from
            names to columns, or a pandas or polars frame; or an iterator of such tables. To compare many windows with
            one baseline, an ``InputReference`` of it, which is read and sorted only once.
        recent: As many features; any number of rows. An iterator of tables only where ``baseline`` is none.
        feature_names: One name a feature, where the samples bring none; else the columns to compare. A prepared
            baseline has its own, as it has its categories.
        categorical: Names of the features whose numbers are codes. Text, booleans, and integers of at most
            ``policy.max_categories`` values are taken as categories without being named.
        policy: Thresholds; if None, those of a prepared baseline, or the defaults.
        progress: True shows a progress bar on standard error if it takes seconds, False does not, None does where tqdm
            is installed and standard error is a terminal.

    Returns:
        Every feature with its evidence. Fewer than ``policy.min_samples`` rows on either side give the status
        ``INSUFFICIENT_DATA``. A column whose type changed is compared by the text of its values.

    Raises:
        InvalidArgumentError: Not a table, tables of different width, names that do not fit, values that cannot be told
            apart, times of which some have a zone and some have none; two iterators, or chunks that are unlike each
            other; names other than those of a prepared baseline. What an iterator itself raises is passed on.
        MissingExtraError: ``progress`` is True and tqdm is not installed; it comes with the extra ``progress``.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(2)
        >>> before, after = rng.normal(size=(500, 2)), rng.normal(size=(400, 2)) + [0.0, 1.0]
        >>> drift = compare_inputs(before, after, feature_names=["calm", "moved"])
        >>> [(feature.name, feature.direction) for feature in drift.drifted_features]
        [('moved', 'up')]
        >>> chunked = compare_inputs(iter([before[:300], before[300:]]), after, feature_names=["calm", "moved"])
        >>> chunked.ks_statistic == drift.ks_statistic
        True
    """
    if isinstance(baseline, InputReference):
        policy = policy if policy is not None else baseline.policy
        baseline, categorical = baseline.table(feature_names, categorical), tuple(baseline.categorical)
    policy = policy if policy is not None else DriftPolicy()
    if is_chunked(baseline) or is_chunked(recent):
        found = compare_chunks(
            baseline, recent, feature_names=feature_names, categorical=categorical, policy=policy, progress=progress
        )
    else:
        found = _in_memory(baseline, recent, feature_names, categorical, policy, progress)
    return concluded(found, policy)


def concluded(found: Comparison, policy: DriftPolicy) -> DataDrift:
    """The verdict on what was found."""
    if found.features is None:
        return _insufficient(found, policy)
    return _summarised(_judged(found.features, policy), policy)


def _in_memory(
    baseline: Any,
    recent: Any,
    feature_names: Sequence[str] | None,
    categorical: Sequence[str],
    policy: DriftPolicy,
    progress: bool | None,
) -> Comparison:
    before = table("baseline", baseline, feature_names)
    after = table_like(before.names, "recent", recent)
    check_width(before.n_features, "the baseline", after)
    check_declared(categorical, before.names)
    if min(before.n_rows, after.n_rows) < policy.min_samples:
        before.check_columns()
        after.check_columns()
        return Comparison(before.names, before.n_rows, after.n_rows, None)
    features = compare_tables(before, after, frozenset(categorical), policy, progress)
    return Comparison(before.names, before.n_rows, after.n_rows, features)


def _judged(features: Sequence[FeatureDrift], policy: DriftPolicy) -> tuple[FeatureDrift, ...]:
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


def _insufficient(found: Comparison, policy: DriftPolicy) -> DataDrift:
    n, m = found.reference_count, found.current_count
    features = tuple(
        FeatureDrift(name=name, status=FeatureStatus.INSUFFICIENT, reference_count=n, current_count=m)
        for name in found.names
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
