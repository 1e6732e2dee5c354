"""Statistics that can be trusted: each with its formula, its source and its accuracy.

Needs numpy; scipy is imported by the first function that needs it.
"""

import typing

from mlserve import _importing

if typing.TYPE_CHECKING:
    from mlserve.numerics._count_tests import CountTestResult, chi_square_test, g_test
    from mlserve.numerics._distances import (
        hellinger_distance,
        jensen_shannon_distance,
        population_stability_index,
        psi_null_bias,
        psi_null_quantile,
        total_variation,
    )
    from mlserve.numerics._ks import KSResult, SortedReference, ks_2samp, ks_statistic
    from mlserve.numerics._ks_pvalues import ks_pvalue
    from mlserve.numerics._multiplicity import benjamini_hochberg, bonferroni, holm
    from mlserve.numerics._sequential import (
        alpha_spending,
        bernoulli_log_e_value,
        clopper_pearson_upper,
        e_benjamini_hochberg,
    )
    from mlserve.numerics._sketches import LatencyHistogram, Moments
    from mlserve.numerics._wasserstein import wasserstein_1

__all__ = [
    "CountTestResult",
    "KSResult",
    "LatencyHistogram",
    "Moments",
    "SortedReference",
    "alpha_spending",
    "benjamini_hochberg",
    "bernoulli_log_e_value",
    "bonferroni",
    "chi_square_test",
    "clopper_pearson_upper",
    "e_benjamini_hochberg",
    "g_test",
    "hellinger_distance",
    "holm",
    "jensen_shannon_distance",
    "ks_2samp",
    "ks_pvalue",
    "ks_statistic",
    "population_stability_index",
    "psi_null_bias",
    "psi_null_quantile",
    "total_variation",
    "wasserstein_1",
]

_ORIGINS = {
    "_count_tests": (
        "CountTestResult",
        "chi_square_test",
        "g_test",
    ),
    "_distances": (
        "hellinger_distance",
        "jensen_shannon_distance",
        "population_stability_index",
        "psi_null_bias",
        "psi_null_quantile",
        "total_variation",
    ),
    "_ks": (
        "KSResult",
        "SortedReference",
        "ks_2samp",
        "ks_statistic",
    ),
    "_ks_pvalues": ("ks_pvalue",),
    "_multiplicity": (
        "benjamini_hochberg",
        "bonferroni",
        "holm",
    ),
    "_sequential": (
        "alpha_spending",
        "bernoulli_log_e_value",
        "clopper_pearson_upper",
        "e_benjamini_hochberg",
    ),
    "_sketches": (
        "LatencyHistogram",
        "Moments",
    ),
    "_wasserstein": ("wasserstein_1",),
}

if not typing.TYPE_CHECKING:  # a type checker would take __getattr__ to give every name
    __getattr__, __dir__ = _importing.lazy_exports(
        __name__, {name: f"{__name__}.{module}" for module, names in _ORIGINS.items() for name in names}
    )
