"""Statistics that can be trusted: each with its formula, its source and its accuracy.

Needs numpy; scipy is imported by the first function that needs it.
"""

import typing

from mlserve import _importing

if typing.TYPE_CHECKING:
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

_ORIGINS = {
    "_ks": ("KSResult", "SortedReference", "ks_2samp", "ks_statistic"),
    "_ks_pvalues": ("ks_pvalue",),
    "_multiplicity": ("benjamini_hochberg", "bonferroni", "holm"),
    "_sketches": ("LatencyHistogram", "Moments"),
}

if not typing.TYPE_CHECKING:  # a type checker would take __getattr__ to give every name
    __getattr__, __dir__ = _importing.lazy_exports(
        __name__, {name: f"{__name__}.{module}" for module, names in _ORIGINS.items() for name in names}
    )
