"""How far apart two samples counted in the same bins are: effect sizes, not tests.

Each takes counts of shape ``(n_bins,)`` and answers with a float, or ``(n_features, n_bins)`` and answers with an array
of shape ``(n_features,)``.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlserve.errors import InvalidArgumentError
from mlserve.numerics._counts import checked_counts

__all__ = [
    "hellinger_distance",
    "jensen_shannon_distance",
    "population_stability_index",
    "psi_null_bias",
    "psi_null_quantile",
    "total_variation",
]

Floats: TypeAlias = NDArray[np.float64]

# Jeffreys' prior of a multinomial share (H. Jeffreys, "An invariant form for the prior probability in estimation
# problems", Proc. Royal Society A 186, 1946): half a value in every bin, so that no empty bin needs an epsilon.
_SMOOTHING = 0.5


def population_stability_index(reference_counts: ArrayLike, current_counts: ArrayLike) -> float | Floats:
    """The population stability index: the symmetrised Kullback-Leibler divergence of two binned samples.

    PSI = Σ (pᵢ − qᵢ)·ln(pᵢ/qᵢ) (Jeffreys' divergence; S. Kullback and R. Leibler, "On information and sufficiency",
    Annals of Mathematical Statistics 22, 1951), with smoothed shares pᵢ = (aᵢ + ½)/(n + B/2), qᵢ = (bᵢ + ½)/(m + B/2),
    where n = Σa, m = Σb and B is the number of bins that either sample fills. Bins that both leave empty do not count.
    The half counts are what decides a PSI where one sample leaves a bin empty, and they say so: a small epsilon in
    their place would decide it alone.

    Two samples of *one* distribution have a PSI of about (B − 1)(1/n + 1/m), not 0: the usual limits of 0.1 and 0.25
    mean nothing for small samples. Compare with ``psi_null_quantile`` of these n, m and B. And one comparison is one
    comparison: over d features or repeated windows that quantile is exceeded again and again.

    Args:
        reference_counts: Whole numbers, shape ``(n_bins,)`` or ``(n_features, n_bins)``; any real dtype.
        current_counts: Likewise, in the same bins.

    Returns:
        At least 0, in nats; a float for one dimension, else float64 of shape ``(n_features,)``. Symmetric in its
        arguments. 0 for equal counts and where there is one bin only; with unequal n and m equal shares give a little
        more than 0, since half counts weigh more in the smaller sample. Never NaN, never infinite.

    Raises:
        InvalidArgumentError: Not whole numbers, NaN, negative, no values in a feature, or unequal shapes.

    Example:
        >>> round(population_stability_index([50, 30, 20, 0], [20, 30, 50, 0]), 4)
        0.5329
        >>> population_stability_index([[50, 50], [100, 0]], [[50, 50], [0, 100]]).round(3).tolist()
        [0.0, 10.502]
    """
    counts = checked_counts(reference_counts, current_counts, whole=True)
    filled = counts.reference + counts.current > 0
    half_of_bins = _SMOOTHING * filled.sum(axis=1, keepdims=True)
    p, q = (
        (sample + _SMOOTHING) / (sample.sum(axis=1, keepdims=True) + half_of_bins)
        for sample in (counts.reference, counts.current)
    )
    return counts.answer(np.where(filled, (p - q) * (np.log(p) - np.log(q)), 0.0).sum(axis=1))


def psi_null_bias(n: int, m: int, n_bins: int) -> float:
    """The mean of the population stability index of two samples of one distribution: (B − 1)(1/n + 1/m).

    To first order PSI = Σ (pᵢ − qᵢ)²/πᵢ, whose mean under one common distribution π is the sum of (1 − πᵢ)(1/n + 1/m)
    (B. Yurdakul and J. Naranjo, "Statistical properties of the population stability index", Journal of Risk Model
    Validation 14(4), 2020). The next order is about B/n relative to it; where bins expect fewer than about five values,
    half counts keep the PSI below it.

    Args:
        n: Size of one sample, at least 1.
        m: Size of the other, at least 1.
        n_bins: Number B of bins that either sample fills, at least 1.

    Returns:
        In nats; 0 for one bin.

    Raises:
        InvalidArgumentError: A number below 1, or NaN.

    Example:
        >>> round(psi_null_bias(100, 100, 10), 4)
        0.18
    """
    for name, value in (("n", n), ("m", m), ("n_bins", n_bins)):
        if not 1 <= value < math.inf:
            raise InvalidArgumentError(name, value, "a whole number, at least 1")
    return (n_bins - 1) * (1 / n + 1 / m)


def psi_null_quantile(n: int, m: int, n_bins: int, q: float) -> float:
    """What the population stability index of two samples of one distribution stays below with probability q.

    To first order PSI/(1/n + 1/m) has a chi-square distribution with B − 1 degrees of freedom (Yurdakul and Naranjo;
    see ``psi_null_bias``, also for how accurate that is). The probability is that of *one* comparison.

    Args:
        n: Size of one sample, at least 1.
        m: Size of the other, at least 1.
        n_bins: Number B of bins that either sample fills, at least 1.
        q: Probability, in [0, 1).

    Returns:
        In nats; 0 for one bin.

    Raises:
        InvalidArgumentError: A size below 1 or NaN, or ``q`` outside [0, 1).

    Example:
        >>> round(psi_null_quantile(100, 100, 10, 0.95), 4)
        0.3384
    """
    from scipy import special

    psi_null_bias(n, m, n_bins)
    if not 0 <= q < 1:
        raise InvalidArgumentError("q", q, "a probability in [0, 1)", hint="The 95th percentile is 0.95.")
    if n_bins == 1:
        return 0.0
    return (1 / n + 1 / m) * 2.0 * float(special.gammaincinv((n_bins - 1) / 2, q))


def jensen_shannon_distance(
    reference_counts: ArrayLike, current_counts: ArrayLike, *, base: float | None = None
) -> float | Floats:
    """The Jensen-Shannon distance, a metric: the *square root* of the Jensen-Shannon divergence.

    √(½·Σ pᵢ ln(pᵢ/μᵢ) + ½·Σ qᵢ ln(qᵢ/μᵢ)) with μ = (p + q)/2 (D. Endres and J. Schindelin, "A new metric for
    probability distributions", IEEE Transactions on Information Theory 49, 2003), by default with natural logarithms:
    the convention of ``scipy.spatial.distance.jensenshannon``. Computed without cancellation: with
    t = (pᵢ − qᵢ)/(pᵢ + qᵢ) each term is ½·μᵢ·(2t·artanh t + ln(1 − t²)), which is never negative.

    An effect size, not a test: of two samples of one distribution it is about √((B − 1)(1/n + 1/m)/8), not 0.

    Args:
        reference_counts: Counts, or shares of any sum, shape ``(n_bins,)`` or ``(n_features, n_bins)``; any real dtype.
        current_counts: Likewise, in the same bins.
        base: Base of the logarithm, above 1; None for e.

    Returns:
        In [0, √(ln 2)] = [0, 0.8326]; with ``base=2`` in [0, 1]. A float for one dimension, else float64 of shape
        ``(n_features,)``. 0 for equal shares, the largest value where no bin is shared. Never NaN.

    Raises:
        InvalidArgumentError: NaN, negative or infinite counts, none in a feature, unequal shapes, or a base that is not
            above 1.

    Example:
        >>> round(jensen_shannon_distance([50, 50, 0], [0, 50, 50], base=2), 4)
        0.7071
        >>> jensen_shannon_distance([[1, 0], [3, 1]], [[0, 1], [6, 2]]).round(4).tolist()
        [0.8326, 0.0]
    """
    if base is not None and not 1 < base < math.inf:
        raise InvalidArgumentError("base", base, "a number above 1, or None for natural logarithms")
    counts = checked_counts(reference_counts, current_counts, whole=False)
    p, q = _shares(counts.reference), _shares(counts.current)
    both = p + q
    t = np.divide(p - q, both, out=np.zeros_like(p), where=both > 0)
    apart = np.abs(t) == 1.0
    inner = np.where(apart, 0.0, t)
    # log1p(t) - log1p(-t) is 2*artanh(t).
    overlapping = inner * (np.log1p(inner) - np.log1p(-inner)) + np.log1p(-inner * inner)
    terms = np.where(apart, 2.0 * math.log(2.0), overlapping)
    divergence = np.clip((both * terms).sum(axis=1) / 4.0, 0.0, math.log(2.0))
    return counts.answer(np.sqrt(divergence / (1.0 if base is None else math.log(base))))


def hellinger_distance(reference_counts: ArrayLike, current_counts: ArrayLike) -> float | Floats:
    """The Hellinger distance, a metric: √(½·Σ (√pᵢ − √qᵢ)²).

    With total variation T and Hellinger H: H² ≤ T ≤ H·√(2 − H²) (L. Le Cam, "Asymptotic Methods in Statistical Decision
    Theory", 1986). An effect size, not a test: of two samples of one distribution it is about √((B − 1)(1/n + 1/m)/8).

    Args:
        reference_counts: Counts, or shares of any sum, shape ``(n_bins,)`` or ``(n_features, n_bins)``; any real dtype.
        current_counts: Likewise, in the same bins.

    Returns:
        In [0, 1]: a float for one dimension, else float64 of shape ``(n_features,)``. 0 for equal shares, 1 where no
        bin is shared. Never NaN.

    Raises:
        InvalidArgumentError: NaN, negative or infinite counts, none in a feature, or unequal shapes.

    Example:
        >>> round(hellinger_distance([50, 50, 0], [0, 50, 50]), 4)
        0.7071
    """
    counts = checked_counts(reference_counts, current_counts, whole=False)
    difference = np.sqrt(_shares(counts.reference)) - np.sqrt(_shares(counts.current))
    return counts.answer(np.minimum(np.sqrt((difference * difference).sum(axis=1) / 2.0), 1.0))


def total_variation(reference_counts: ArrayLike, current_counts: ArrayLike) -> float | Floats:
    """Total variation: ½·Σ |pᵢ − qᵢ|, the share of values that would have to change bins.

    The largest difference of the probabilities of any set of bins; for categories what the Kolmogorov-Smirnov distance
    is for numbers. An effect size, not a test: of two samples of one distribution it is about
    Σ √(pᵢ(1 − pᵢ)(1/n + 1/m)/(2π)), which grows with the number of bins.

    Args:
        reference_counts: Counts, or shares of any sum, shape ``(n_bins,)`` or ``(n_features, n_bins)``; any real dtype.
        current_counts: Likewise, in the same bins.

    Returns:
        In [0, 1]: a float for one dimension, else float64 of shape ``(n_features,)``. 0 for equal shares, 1 where no
        bin is shared. Never NaN.

    Raises:
        InvalidArgumentError: NaN, negative or infinite counts, none in a feature, or unequal shapes.

    Example:
        >>> total_variation([50, 50, 0], [0, 50, 50])
        0.5
    """
    counts = checked_counts(reference_counts, current_counts, whole=False)
    difference = np.abs(_shares(counts.reference) - _shares(counts.current))
    return counts.answer(np.minimum(difference.sum(axis=1) / 2.0, 1.0))


def _shares(counts: Floats) -> Floats:
    shares: Floats = counts / counts.sum(axis=1, keepdims=True)
    return shares
