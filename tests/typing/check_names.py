"""Names that do not exist are errors, although some that do are loaded late. Read by mypy, never run."""

from __future__ import annotations

import mlserve
import mlserve.numerics
import mlserve.records

detector = mlserve.DriftDetector
statistic = mlserve.numerics.ks_statistic
feature = mlserve.records.FeatureDrift
estimate = mlserve.records.PerformanceEstimate

misspelt_detector = mlserve.DriftDetectr  # type: ignore[attr-defined]  # there is no such name
misspelt_statistic = mlserve.numerics.ks_statistik  # type: ignore[attr-defined]  # there is no such name
misspelt_feature = mlserve.records.FeatureDrft  # type: ignore[attr-defined]  # there is no such name
misspelt_estimate = mlserve.records.PerformanceEstimat  # type: ignore[attr-defined]  # there is no such name
