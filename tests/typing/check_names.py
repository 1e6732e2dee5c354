"""Names that do not exist are errors, although some that do are loaded late. Read by mypy, never run."""

import mlserve
import mlserve.numerics
import mlserve.records
from mlserve import DriftStream  # type: ignore[attr-defined]  # not part of the top level
from mlserve.numerics import ks_3samp  # type: ignore[attr-defined]  # there is no such test
from mlserve.records import DriftFeature  # type: ignore[attr-defined]  # it is called FeatureDrift

detector = mlserve.DriftDetector
statistic = mlserve.numerics.ks_statistic
feature = mlserve.records.FeatureDrift
misspelt = mlserve.DriftDetectr  # type: ignore[attr-defined]  # misspelt
