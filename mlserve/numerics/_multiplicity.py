"""Many tests at once: p-values adjusted so that looking at many features does not manufacture drift."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mlserve.errors import InvalidArgumentError


def bonferroni(p_values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Adjusted p-values that control the chance of any false rejection, under any dependence.

    p̃ᵢ = min(1, d·pᵢ) (Dunn, "Multiple comparisons among means", JASA 56, 1961).

    Args:
        p_values: In [0, 1], shape ``(d,)``; none may be NaN.

    Returns:
        Float64, shape ``(d,)``: reject what is below the level. Of no p-values, an empty array.

    Raises:
        InvalidArgumentError: Not one-dimensional, or a value outside [0, 1].

    Example:
        >>> bonferroni([0.01, 0.04]).tolist()
        [0.02, 0.08]
    """
    p = _checked(p_values)
    return np.minimum(p * p.size, 1.0)


def holm(p_values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Adjusted p-values that control the chance of any false rejection, under any dependence; never above Bonferroni's.

    With p₍₁₎ ≤ … ≤ p₍d₎: p̃₍ᵢ₎ = max over j ≤ i of min(1, (d − j + 1)·p₍ⱼ₎) (Holm, "A simple sequentially rejective
    multiple test procedure", Scandinavian Journal of Statistics 6, 1979).

    Args:
        p_values: In [0, 1], shape ``(d,)``; none may be NaN.

    Returns:
        Float64, shape ``(d,)``: reject what is below the level. Of no p-values, an empty array.

    Raises:
        InvalidArgumentError: Not one-dimensional, or a value outside [0, 1].

    Example:
        >>> holm([0.04, 0.01]).tolist()
        [0.04, 0.02]
    """
    p = _checked(p_values)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)), 1.0)
    return adjusted


def benjamini_hochberg(p_values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Adjusted p-values that control the expected share of false rejections among all rejections.

    With p₍₁₎ ≤ … ≤ p₍d₎: p̃₍ᵢ₎ = min over j ≥ i of min(1, p₍ⱼ₎·d/j). Valid for independent p-values and for positive
    regression dependence (Benjamini and Hochberg, "Controlling the false discovery rate", JRSS B 57, 1995).

    Args:
        p_values: In [0, 1], shape ``(d,)``; none may be NaN.

    Returns:
        Float64, shape ``(d,)``: reject what is below the level. Of no p-values, an empty array.

    Raises:
        InvalidArgumentError: Not one-dimensional, or a value outside [0, 1].

    Example:
        >>> benjamini_hochberg([0.04, 0.01, 0.5]).tolist()
        [0.06, 0.03, 0.5]
    """
    p = _checked(p_values)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * (p.size / np.arange(1, p.size + 1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted


def _checked(p_values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    try:
        p = np.asarray(p_values, dtype=np.float64)
    except (TypeError, ValueError):
        p = np.array(np.nan)  # refused below, with everything else that is no p-value
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise InvalidArgumentError("p_values", p_values, "a one-dimensional array of numbers in [0, 1], without NaN")
    return p
