"""Watching rows one by one against a reference: ranks that are exactly uniform, and bets that they are not.

A conformal test martingale in three parts, each of many features at once.

*Ranks.* ``ReferenceCuts`` sorts a reference once and keeps the ⌊k(m + 1)/64⌋-th order statistics; ``ConformalEvidence``
ranks each new row among the reference and the rows before it, with the gap counts of a Pólya urn. While the rows are
exchangeable with the reference, the ranks are independent and uniform: exactly, for every distribution, with ties and
missing values too, since each value carries a uniform number of its own that breaks ties. Ranking against the reference
alone is not exact: 92 % of streams of 20 000 rows in which nothing changes would alarm.

*Bets.* Each rank multiplies a fortune by a density on [0, 1] that was chosen before it was seen: ten fixed ones, for
shifts and changes of scale, and a histogram of the recent ranks, for everything else. Under uniform ranks each fortune
is a martingale.

*Starts.* A prior over the row at which the change begins makes a late change as visible as an early one:
A_k = e_k·(A_{k−1} + w_k), and Σ A + unspent prior is a martingale that starts at 1. With w_k = 1 instead it is the
Shiryaev–Roberts statistic, whose excess over the number of rows is a martingale.

Sources: Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005, chapter 8; Vovk and others, "Retrain
or not retrain: conformal test martingales for change-point detection", PMLR 152, 2021; Pollak, "Average run lengths of
an optimal method of detecting a change in distribution", Annals of Statistics 15, 1987.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any, Self

import attrs
import numpy as np
import numpy.typing as npt

from mlserve.errors import InvalidArgumentError
from mlserve.numerics._sequential import START_SCALE, start_mass, unspent_mass

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

BINS = 64
"""Bins of the reference. 32 and 100 detect as fast."""

CELLS = 40
"""Cells of [0, 1] on which the bets are constant."""

SHIFTS = (0.25, -0.25, 0.5, -0.5, 1.0, -1.0)
"""In standard deviations of a normal feature: the alternatives that the first six bets are best against."""

SCALES = (0.5, 0.7, 1.4, 2.0)
"""Ratios of standard deviations of a normal feature: those of the next four."""

BET_SHARE = 0.98
"""Of each fixed bet this share is staked, so that one unlikely rank never costs all."""

HISTOGRAM_BINS = 10
HISTOGRAM_SHARE = 0.5
"""Of the adaptive bet this share is staked."""

HISTOGRAM_DECAY = 0.995
"""A row that is so many rows old counts for this to that power: the histogram remembers about 200 rows. Without
forgetting, a late change takes six times as long."""

HISTOGRAM_TOLL = math.exp(-(min(SHIFTS, key=abs) ** 2) / 2)
"""A row, once a change was found: what the weakest fixed bet loses on average when nothing changes."""

BLOCK = 10
"""The histogram that is bet on changes every so many rows: known before them, it keeps the bet fair."""

SATURATION = 1e100
"""A fortune is cut down to this, far above any threshold: a smaller one is as fair, and a float ends at 1e308."""

BETS = len(SHIFTS) + len(SCALES) + 1

HISTOGRAM_STAKE = 0.5
"""Of the evidence this share is the fortune of the histogram; the fixed bets have equal parts of the rest."""

_BETS_PER_SLICE = 120_000
"""Bets held at once, about a megabyte: rows are taken in slices of so many that the working set stays in the cache."""


@cache
def bet_table() -> FloatArray:
    """The fixed bets: densities of the rank u of one new value, were it shifted or scaled.

    Of x ~ N(δ, 1) against N(0, 1), the share in cell k of J = 40 is Φ(z_{k+1} − δ) − Φ(z_k − δ) with z_k = Φ⁻¹(k/J); of
    x ~ N(0, σ²), Φ(z_{k+1}/σ) − Φ(z_k/σ). A bet is 0.98·J·share + 0.02.

    Returns:
        Float64, shape ``(40, 11)``, read-only; the last column, 1, is the histogram's place. The mean of each column is
        1: a fair bet.

    Example:
        >>> bool(np.allclose(bet_table().mean(axis=0), 1.0))
        True
    """
    from scipy.special import ndtr, ndtri

    edges = ndtri(np.arange(CELLS + 1) / CELLS)
    shares = [np.diff(ndtr(edges - shift)) for shift in SHIFTS] + [np.diff(ndtr(edges / scale)) for scale in SCALES]
    table = np.ones((CELLS, BETS))
    table[:, :-1] = (BET_SHARE * CELLS * np.array(shares) + (1 - BET_SHARE)).T
    table.flags.writeable = False
    return table


@attrs.frozen(eq=False)
class ReferenceCuts:
    """Order statistics of a reference, each with the number that breaks ties at it.

    Attributes:
        values: Shape ``(n_features, n_bins − 1)``, complex128: the value and, as imaginary part, its tie-break. numpy
            orders complex numbers by the first, then by the second, and NaN last: a missing value is an atom.
        gaps: Shape ``(n_bins,)``, int64: how many of the m + 1 places for a new value among the m of the reference lie
            in each bin; the same for all features.
    """

    values: npt.NDArray[np.complex128]
    gaps: IntArray

    @classmethod
    def of(cls, reference: FloatArray, generator: np.random.Generator) -> ReferenceCuts:
        """The cuts of a reference.

        Args:
            reference: Shape ``(n_samples, n_features)``, at least one row; NaN is missing, infinities sort.
            generator: Draws the tie-breaks, feature by feature.

        Returns:
            64 bins; fewer where the reference has fewer than 63 rows.
        """
        rows, features = reference.shape
        ranks = np.arange(1, min(BINS, rows + 1)) * (rows + 1) // min(BINS, rows + 1)
        values = np.empty((features, ranks.size), dtype=np.complex128)
        points = np.empty(rows, dtype=np.complex128)
        for feature in range(features):
            points.real, points.imag = reference[:, feature], generator.random(rows)
            values[feature] = np.partition(points, ranks - 1)[ranks - 1]
        return cls(values, np.diff(ranks, prepend=0, append=rows + 1).astype(np.int64))

    def bins(self, rows: FloatArray, tie_breaks: FloatArray) -> IntArray:
        """The bin of each value.

        Args:
            rows: Shape ``(n_samples, n_features)``.
            tie_breaks: The same shape, uniform on [0, 1).

        Returns:
            Int64, the same shape.
        """
        points = np.empty(rows.shape[::-1], dtype=np.complex128)
        points.real, points.imag = rows.T, tie_breaks.T
        found = np.empty(rows.shape, dtype=np.int64)
        for feature, cuts in enumerate(self.values):
            found[:, feature] = cuts.searchsorted(points[feature], "right")
        return found


class ConformalEvidence:
    """Evidence, feature by feature, that rows have ceased to be exchangeable with a reference.

    After k rows the evidence of a feature is M = ½·mean of A over the ten fixed bets + ½·A of the histogram
    + 200/(k + 200). While nothing changes, P(M ever ≥ 1/α) ≤ α. With ``shiryaev_roberts`` it is R, the same without the
    last summand and with a start at every row: E[R] = k, so that P(R ≥ c within n rows) ≤ n/c, and the mean number of
    rows until R ≥ c is at least c.

    Rows are taken one after the other, with the same rounding however they are grouped. Memory: about 120 numbers a
    feature, whatever the number of rows. Thread safety: none.

    Args:
        gaps: Of the reference, shape ``(n_bins,)``.
        n_features: Number of features.
        shiryaev_roberts: See above.

    Attributes:
        count: Rows seen.
        peak: The largest evidence so far, shape ``(n_features,)``; at first 1, or 0 for Shiryaev–Roberts.
        current: The evidence after the last row; likewise.
    """

    _ARRAYS = ("_gaps", "_fortunes", "_best", "_starts", "_histogram", "_odds", "peak", "current")

    def __init__(self, gaps: IntArray, n_features: int, *, shiryaev_roberts: bool = False) -> None:
        bet_table()  # so that the import it needs is paid for here and not by the first row
        self.count = 0
        # None: the prior of start_mass; else so much at each row.
        self._mass = 1.0 if shiryaev_roberts else None
        self._ceiling = SATURATION
        self._learns = True
        self._gaps: IntArray = np.repeat(gaps[np.newaxis], n_features, axis=0)
        self._fortunes: FloatArray = np.zeros((n_features, BETS))
        # The largest summand of each fortune, and the row at which it started: the likeliest start of a change.
        self._best: FloatArray = np.zeros((n_features, BETS))
        self._starts: IntArray = np.zeros((n_features, BETS), dtype=np.int64)
        self._histogram: FloatArray = np.zeros((n_features, HISTOGRAM_BINS))
        self._odds: FloatArray = np.ones((n_features, HISTOGRAM_BINS))
        self.peak: FloatArray = np.full(n_features, 0.0 if shiryaev_roberts else 1.0)
        self.current: FloatArray = self.peak.copy()

    def update(self, bins: IntArray, draws: FloatArray, rows: IntArray) -> FloatArray:
        """Take rows in.

        Args:
            bins: Of each value, shape ``(n_samples, n_features)``.
            draws: Uniform on [0, 1), the same shape: where in its bin a value lies.
            rows: The caller's number of each row, shape ``(n_samples,)``: what ``likeliest_start`` answers with.

        Returns:
            The evidence after each row, shape ``(n_samples, n_features)``.
        """
        evidence = np.empty(bins.shape)
        size = max(BLOCK, _BETS_PER_SLICE // (bins.shape[1] * BETS))
        for first in range(0, len(bins), size):
            part = slice(first, first + size)
            evidence[part] = self._bet(self._cells(bins[part], draws[part]), rows[part])
        if len(bins):
            self.current = evidence[-1].copy()
            self.peak = np.maximum(self.peak, evidence.max(axis=0))
        return evidence

    def _cells(self, bins: IntArray, draws: FloatArray) -> IntArray:
        """The cell of the rank of each value; the urn takes the values in."""
        ranks = np.empty(bins.shape)
        places = bins + np.arange(bins.shape[1]) * self._gaps.shape[1]
        gaps = self._gaps.ravel()  # a view
        total = int(self._gaps[0].sum())
        for first in range(0, len(bins), BLOCK):
            block = slice(first, first + BLOCK)
            here, there = bins[block], places[block]
            below = (np.cumsum(self._gaps, axis=1) - self._gaps).ravel()[there]
            inside = gaps[there]
            sizes = np.full((len(here), 1), total)
            if self._learns:
                earlier = _EARLIER[: len(here), : len(here), np.newaxis]
                below += ((here < here[:, np.newaxis]) & earlier).sum(axis=1)
                inside += ((here == here[:, np.newaxis]) & earlier).sum(axis=1)
                np.add.at(gaps, there.ravel(), 1)
                sizes += np.arange(len(here))[:, np.newaxis]
                total += len(here)
            ranks[block] = (below + draws[block] * inside) / sizes
        # A rank a rounding error below 1 may have become 1.
        return np.minimum((ranks * CELLS).astype(np.int64), CELLS - 1)

    def _bet(self, cells: IntArray, rows: IntArray) -> FloatArray:
        """Every bet on every rank; returns the evidence after each row."""
        features = cells.shape[1]
        fortunes = bet_table().take(cells, axis=0)
        coarse = cells // (CELLS // HISTOGRAM_BINS) + np.arange(features) * HISTOGRAM_BINS
        times = np.arange(self.count + 1, self.count + 1 + len(cells))
        masses = start_mass(times).tolist() if self._mass is None else [self._mass] * len(cells)
        numbers = rows.tolist()
        histogram, current, best, later = self._histogram.ravel(), self._fortunes, self._best, np.empty_like(self._best)
        fresh = np.empty(best.shape, dtype=np.bool_)
        first = 0
        while first < len(cells):
            done = self.count % BLOCK
            if not done:
                current, best = self._begin_block(current, best)
                histogram = self._histogram.ravel()
            block = slice(first, min(first + BLOCK - done, len(cells)))
            fortunes[block, :, -1] = self._odds.ravel()[coarse[block]]
            growth = _GROWTH[done : done + block.stop - first]
            np.add.at(histogram, coarse[block].ravel(), np.repeat(growth, features))
            for row in range(first, block.stop):
                mass, bets = masses[row], fortunes[row]
                np.less(best, mass, out=fresh)
                np.copyto(self._starts, numbers[row], where=fresh)
                np.maximum(best, mass, out=best)
                np.multiply(best, bets, out=best)
                np.add(current, mass, out=later)
                current = np.multiply(later, bets, out=bets)
            self.count += block.stop - first
            first = block.stop
        self._fortunes, self._best = current.copy(), best
        evidence = _staked(fortunes)
        return evidence + unspent_mass(times)[:, np.newaxis] if self._mass is None else evidence

    def _begin_block(self, fortunes: FloatArray, best: FloatArray) -> tuple[FloatArray, FloatArray]:
        if self.count:
            self._histogram *= HISTOGRAM_DECAY**BLOCK
            counts = self._histogram + 1.0
            density = HISTOGRAM_BINS * counts / counts.sum(axis=1, keepdims=True)
            self._odds = (1 - HISTOGRAM_SHARE) + HISTOGRAM_SHARE * density
            if not self._learns:
                self._odds *= HISTOGRAM_TOLL
        if fortunes.max() > self._ceiling:
            return np.minimum(fortunes, self._ceiling), np.minimum(best, self._ceiling)
        return fortunes, best

    def likeliest_start(self, feature: int) -> int:
        """The row, as the caller numbers it, at which the change of a feature most likely began.

        The start whose bet has grown most, over all eleven bets: with the prior over starts it is the most likely one.
        """
        return int(self._starts[feature, int(np.argmax(self._best[feature]))])

    def lasting(self, gaps: IntArray, feature: int, ceiling: float) -> ConformalEvidence:
        """Evidence that a change, just found in a feature, still lasts.

        The urn learns from what it ranks, so that what lasts becomes the rule. Here the reference alone is the rule,
        fortunes are held below a ceiling, so that they come down soon, and the histogram pays a toll, since it would
        else live on the difference between a reference and what it was drawn from. There is no guarantee of false
        alarms: it is for ending alarms.

        Args:
            gaps: Of the reference.
            feature: Its largest fortune starts at the ceiling; the other features are where they were.
            ceiling: Of each fortune.

        Returns:
            A new object, independent of this one.
        """
        other = self.copy()
        other._gaps = np.repeat(gaps[np.newaxis], len(self._gaps), axis=0)
        other._learns, other._ceiling, other._mass = False, ceiling, 1.0 / START_SCALE
        other._fortunes[feature] *= ceiling / other._fortunes[feature].max()
        return other

    def copy(self) -> ConformalEvidence:
        """An equal one that shares nothing with this one."""
        other = object.__new__(ConformalEvidence)
        other.__dict__.update(self.__dict__)
        for name in self._ARRAYS:
            setattr(other, name, getattr(self, name).copy())
        return other

    def to_state(self) -> dict[str, Any]:
        """As numbers and lists of numbers."""
        state: dict[str, Any] = {name.strip("_"): getattr(self, name).tolist() for name in self._ARRAYS}
        return state | {"count": self.count, "mass": self._mass, "ceiling": self._ceiling, "learns": self._learns}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], gaps: IntArray, n_features: int) -> Self:
        """The one whose ``to_state`` gave this.

        Raises:
            InvalidArgumentError: Arrays of other shapes, or numbers that no stream leads to.
        """
        made = cls(gaps, n_features)
        for name in cls._ARRAYS:
            empty = getattr(made, name)
            array = np.array(state[name.strip("_")], dtype=empty.dtype)
            if array.shape != empty.shape or not (np.isfinite(array) & (array >= 0)).all():
                expected = f"{name.strip('_')} of shape {empty.shape}, finite and not negative"
                raise InvalidArgumentError("state", array.shape, expected)
            setattr(made, name, array)
        made.count, made._learns = int(state["count"]), bool(state["learns"])
        made._mass = None if state["mass"] is None else float(state["mass"])
        made._ceiling = float(state["ceiling"])
        if (made._gaps.sum(axis=1) != int(gaps.sum()) + made.count * made._learns).any():
            raise InvalidArgumentError("state", made.count, "a count of rows that its gaps have taken in")
        return made


def _staked(fortunes: FloatArray) -> FloatArray:
    """The weighted sum over the last axis, added up in one order whatever the shape: numpy's own order varies."""
    total = fortunes[..., 0].copy()
    for bet in range(1, BETS - 1):
        total += fortunes[..., bet]
    return np.asarray(total * ((1 - HISTOGRAM_STAKE) / (BETS - 1)) + fortunes[..., -1] * HISTOGRAM_STAKE)


# A later row of a block counts for more; scaling all by one factor at its end is the decay of each row. Computed once:
# a power may round differently in a shorter array.
_GROWTH = HISTOGRAM_DECAY ** -np.arange(1.0, BLOCK + 1.0)
_GROWTH.flags.writeable = False

# [t, s]: whether row s of a block comes before row t.
_EARLIER = np.tri(BLOCK, BLOCK, -1, dtype=np.bool_)
_EARLIER.flags.writeable = False
