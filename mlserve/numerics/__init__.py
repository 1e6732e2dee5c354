"""Statistics that can be trusted: each with its formula, its source and its accuracy.

Needs numpy; scipy is imported by the first function that needs it.
"""

from mlserve.numerics._ks import KSResult, SortedReference, ks_2samp, ks_statistic
from mlserve.numerics._ks_pvalues import ks_pvalue
from mlserve.numerics._multiplicity import benjamini_hochberg, bonferroni, holm
from mlserve.numerics._sketches import LatencyHistogram, Moments

__all__ = [
    "KSResult",
    "LatencyHistogram",
    "Moments",
    "SortedReference",
    "benjamini_hochberg",
    "bonferroni",
    "holm",
    "ks_2samp",
    "ks_pvalue",
    "ks_statistic",
]
