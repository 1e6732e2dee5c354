"""Evidence that one may look at whenever one likes: e-values, and p-value levels that add up.

An e-process is a running number that starts at 1 and, while nothing has changed, is at most 1 on average at any moment
one chooses to stop. By Ville's inequality it ever reaches 1/α with probability at most α, however often one looks
(Ville, "Étude critique de la notion de collectif", 1939; Ramdas, Grünwald, Vovk, Shafer, "Game-theoretic statistics
and safe anytime-valid inference", Statistical Science 38, 2023). An ordinary p-value has no such protection: at level
0.05, 94 % of streams in which nothing changes are called drifted at least once within 50 windows.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from mlserve.errors import InvalidArgumentError

START_SCALE = 200.0
"""Rows by which half of the prior over the start of a change has been spent.

A change may come late: with the prior of ``start_mass`` the price of one at row t is log(t²/200), not a share of t.
"""


def start_mass(row: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The prior probability that a change starts at a row: w_t = 200/((t + 199)(t + 200)), which sums to 1.

    Heavy-tailed, so that the price of a late change grows with the logarithm of its time only.

    Args:
        row: t, counted from 1, any shape.

    Returns:
        Float64, the same shape.

    Example:
        >>> float(start_mass(1).round(6)), float(start_mass(range(1, 201)).sum().round(6))
        (0.004975, 0.5)
    """
    t = np.asarray(row, dtype=np.float64)
    return START_SCALE / ((t + (START_SCALE - 1)) * (t + START_SCALE))


def unspent_mass(row: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """What the prior of ``start_mass`` leaves to the rows after t: 200/(t + 200).

    Args:
        row: t, counted from 1; 0 gives 1. Any shape.

    Returns:
        Float64, the same shape.

    Example:
        >>> unspent_mass([0, 200]).tolist()
        [1.0, 0.5]
    """
    return START_SCALE / (np.asarray(row, dtype=np.float64) + START_SCALE)


def bernoulli_log_e_value(errors: npt.ArrayLike, count: npt.ArrayLike, rate: npt.ArrayLike) -> Any:
    """Evidence that events are more frequent than a rate, from their count alone, at any time one likes.

    The likelihood ratio of S events among t against the rate q, averaged over every higher rate:

        E = 1/(1 − q) · ∫ from q to 1 of (θ/q)^S ((1 − θ)/(1 − q))^(t − S) dθ
        log E = betaln(S + 1, t − S + 1) + log betaincc(S + 1, t − S + 1, q) − log1p(−q) − S·log q − (t − S)·log1p(−q)

    For each θ > q the ratio is a supermartingale as long as the chance of an event, given the past, is at most q; so is
    their average: P(ever log E ≥ log 1/α) ≤ α (method of mixtures: Robbins, "Statistical methods related to the law
    of the iterated logarithm", Annals of Mathematical Statistics 41, 1970). Only S and t enter, so that events may be
    counted in any order and by several processes, and labels may come late if the delay does not depend on them.
    Measured at q = 0.1: 0.5 % of streams ever reach 1/0.01, and 2.9 % reach 1/0.05.

    Args:
        errors: S, whole numbers in [0, count].
        count: t, whole numbers, at least 0.
        rate: q in (0, 1). The three broadcast.

    Returns:
        log E, a float for three numbers, else float64 of the broadcast shape. 0 where ``count`` is 0. −inf where there
        is so little to be said for a higher rate that the integral underflows: no evidence.

    Raises:
        InvalidArgumentError: A value outside its range, or shapes that do not broadcast.

    Example:
        >>> round(bernoulli_log_e_value(30, 100, 0.1), 3)
        13.301
    """
    from scipy.special import betaincc, betaln

    try:
        s, t, q = np.broadcast_arrays(*(np.asarray(value, dtype=np.float64) for value in (errors, count, rate)))
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError("errors", errors, f"numbers that broadcast with count and rate ({error})") from error
    if not ((s >= 0) & (s <= t) & np.isfinite(t) & (s == np.floor(s)) & (t == np.floor(t))).all():
        raise InvalidArgumentError("errors", errors, "whole numbers with 0 <= errors <= count")
    if not ((q > 0) & (q < 1)).all():
        raise InvalidArgumentError("rate", rate, "a rate in (0, 1)", hint="10 % is 0.1.")
    with np.errstate(divide="ignore"):
        above = np.log(betaincc(s + 1, t - s + 1, q))
    log_e = betaln(s + 1, t - s + 1) + above - np.log1p(-q) - s * np.log(q) - (t - s) * np.log1p(-q)
    log_e = np.where(t == 0, 0.0, log_e)  # not a rounding error away from it
    return float(log_e) if log_e.ndim == 0 else log_e


def clopper_pearson_upper(errors: int, count: int, alpha: float) -> float:
    """The upper bound of a rate that holds with probability at least 1 − α, whatever the rate.

    The (1 − α) quantile of Beta(S + 1, n − S); 1 where all n were events (Clopper and Pearson, "The use of confidence
    or fiducial limits illustrated in the case of the binomial", Biometrika 26, 1934).

    Args:
        errors: S, in [0, count].
        count: n, at least 1.
        alpha: In (0, 1).

    Returns:
        In (0, 1].

    Raises:
        InvalidArgumentError: A value outside its range.

    Example:
        >>> round(clopper_pearson_upper(0, 299, 0.05), 4)
        0.01
    """
    from scipy.special import betaincinv

    check_probability("alpha", alpha)
    if count < 1 or not 0 <= errors <= count:
        raise InvalidArgumentError("errors", (errors, count), "0 <= errors <= count with a count of at least 1")
    return 1.0 if errors == count else float(betaincinv(errors + 1, count - errors, 1 - alpha))


def alpha_spending(alpha: float, window: int) -> float:
    """The level of the w-th of a series of tests without end: α/(w(w + 1)).

    The levels sum to α, so that by the union bound the chance that any of the tests ever rejects falsely is at most α,
    whatever their dependence (after Lan and DeMets, "Discrete sequential boundaries for clinical trials", Biometrika
    70, 1983). The levels shrink: for evidence row by row, an e-process is the stronger tool.

    Args:
        alpha: In (0, 1).
        window: w, counted from 1.

    Returns:
        The level: reject when the p-value of this window is at most that.

    Raises:
        InvalidArgumentError: A value outside its range.

    Example:
        >>> [round(alpha_spending(0.05, window), 4) for window in (1, 2, 3)]
        [0.025, 0.0083, 0.0042]
    """
    check_probability("alpha", alpha)
    if window < 1:
        raise InvalidArgumentError("window", window, "a window's number, counted from 1")
    return alpha / (window * (window + 1))


def e_benjamini_hochberg(e_values: npt.ArrayLike, alpha: float) -> npt.NDArray[np.bool_]:
    """Which of many e-values to reject so that the expected share of false rejections is at most α.

    With e₍₁₎ ≥ … ≥ e₍d₎: reject the k* largest, k* = max{k : k·e₍ₖ₎ ≥ d/α}. Valid under any dependence, unlike
    Benjamini–Hochberg on p-values (Wang and Ramdas, "False discovery rate control with e-values", JRSS B 84, 2022).

    A caveat: an e-process is an e-value at a moment chosen by its own stream's past. At a moment chosen by looking at
    all of them its running maximum is none; use ``holm`` on 1/max there, as ``DriftStream`` does.

    Args:
        e_values: At least 0, infinity allowed, shape ``(d,)``; none may be NaN.
        alpha: In (0, 1).

    Returns:
        Bool, shape ``(d,)``: True is rejected; equal e-values are rejected together. Of no e-values, an empty array.

    Raises:
        InvalidArgumentError: Not one-dimensional, a value that is negative or NaN, or alpha out of range.

    Example:
        >>> e_benjamini_hochberg([50.0, 3.0, 45.0, 0.1], alpha=0.05).tolist()
        [True, False, True, False]
    """
    check_probability("alpha", alpha)
    try:
        e = np.asarray(e_values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError("e_values", e_values, f"numbers ({error})") from error
    if e.ndim != 1 or not (e >= 0).all():
        raise InvalidArgumentError("e_values", e_values, "a one-dimensional array of numbers >= 0, without NaN")
    descending = np.sort(e)[::-1]
    enough = np.flatnonzero(descending * np.arange(1, e.size + 1) >= e.size / alpha)
    if not enough.size:
        return np.zeros(e.size, dtype=np.bool_)
    return np.asarray(e >= descending[enough[-1]])


def check_probability(parameter: str, value: float) -> None:
    """Refuse what is no number strictly between 0 and 1.

    Raises:
        InvalidArgumentError: It is none.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise InvalidArgumentError(parameter, value, "a number in (0, 1)", hint="1 % is 0.01.")
    if not 0 < value < 1 or math.isnan(value):
        raise InvalidArgumentError(parameter, value, "a number in (0, 1)", hint="1 % is 0.01.")
