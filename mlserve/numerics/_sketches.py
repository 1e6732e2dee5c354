"""Mergeable summaries of many values: counts that add, whatever the order and wherever they were taken."""

from __future__ import annotations

import math
from collections.abc import Iterable

import attrs
import numpy as np
import numpy.typing as npt
from typing_extensions import override

from mlserve.errors import InvalidArgumentError

RELATIVE_ERROR = 0.01
"""A quantile of a ``LatencyHistogram`` is within this share of the exact one."""

SMALLEST_MS = 1e-6
"""One nanosecond: what is shorter is counted as this; no clock of Python resolves it."""

LARGEST_MS = 1e9
"""Eleven days: what is longer is counted as this."""

_GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LOG_GAMMA = math.log(_GAMMA)


@attrs.frozen
class Moments:
    """Count, mean and sum of squared deviations of many values, which add without loss of accuracy.

    Two are merged by the pairwise update of Chan, Golub and LeVeque ("Algorithms for Computing the Sample Variance",
    The American Statistician 37(3), 1983): n = n₁ + n₂, δ = x̄₂ − x̄₁, x̄ = x̄₁ + δ·n₂/n, M = M₁ + M₂ + δ²·n₁n₂/n.

    Thread safety: immutable.

    Attributes:
        count: Number of values.
        mean: Their mean; 0 when there are none.
        sum_of_squares: Σ(x − x̄)².

    Example:
        >>> Moments.of([1.0, 2.0]) + Moments.of([6.0])
        Moments(count=3, mean=3.0, sum_of_squares=14.0)
    """

    count: int = 0
    mean: float = 0.0
    sum_of_squares: float = 0.0

    @classmethod
    def of(cls, values: npt.ArrayLike) -> Moments:
        """The moments of values of any shape. NaN and infinities are the caller's to keep out."""
        array = np.asarray(values, dtype=np.float64).ravel()
        if not array.size:
            return cls()
        mean = float(array.mean())
        return cls(array.size, mean, float(((array - mean) ** 2).sum()))

    def __add__(self, other: Moments) -> Moments:
        count = self.count + other.count
        if not self.count or not other.count:
            return self if self.count else other
        delta = other.mean - self.mean
        return Moments(
            count,
            self.mean + delta * other.count / count,
            self.sum_of_squares + other.sum_of_squares + delta * delta * self.count * other.count / count,
        )


def _frozen_counts(counts: npt.ArrayLike) -> npt.NDArray[np.int64]:
    array = np.array(counts, dtype=np.int64)
    array.flags.writeable = False
    return array


@attrs.frozen(repr=False)
class LatencyHistogram:
    """Counts of durations in bins whose width grows with the duration.

    Bin i holds the durations in (γ^(i−1), γ^i] milliseconds with γ = (1 + α)/(1 − α) and is represented by
    2γ^i/(γ + 1), so that every representative is within α = 1 % of each value in its bin: the mapping of DDSketch
    (Masson, Rim, Lee: "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees", PVLDB
    12(12), 2019). Two histograms add; the sum is what one histogram of all the values would be. Memory: 8 bytes a bin
    between the smallest and the largest value, at most 1 728 bins.

    Thread safety: immutable.

    Attributes:
        first_bin: Index of the bin that ``counts[0]`` counts.
        counts: Number of values in each bin, shape ``(n_bins,)``, int64, read-only.

    Example:
        >>> histogram = LatencyHistogram.from_values([1.0, 2.0, 3.0, 100.0])
        >>> histogram.count, round(histogram.quantile(0.5), 1), histogram.share_below(50.0)
        (4, 2.0, 0.75)
    """

    first_bin: int = 0
    counts: npt.NDArray[np.int64] = attrs.field(
        factory=lambda: np.zeros(0, np.int64), converter=_frozen_counts, eq=attrs.cmp_using(eq=np.array_equal)
    )

    @classmethod
    def from_values(cls, values_ms: npt.ArrayLike) -> LatencyHistogram:
        """A histogram of durations.

        Args:
            values_ms: Milliseconds, finite and not negative, any shape.

        Returns:
            Its histogram; of no values, the empty one.

        Raises:
            InvalidArgumentError: A value is NaN, infinite or negative.
        """
        return cls.from_bins(cls.bins(values_ms))

    @staticmethod
    def bins(values_ms: npt.ArrayLike) -> npt.NDArray[np.int16]:
        """The index of the bin of each duration, int16, shape ``(n,)``. Arguments and errors as ``from_values``."""
        values = np.asarray(values_ms, dtype=np.float64).ravel()
        if not (np.isfinite(values) & (values >= 0)).all():
            raise InvalidArgumentError("values_ms", values_ms, "finite milliseconds, at least 0")
        return np.ceil(np.log(np.clip(values, SMALLEST_MS, LARGEST_MS)) / _LOG_GAMMA).astype(np.int16)

    @classmethod
    def from_bins(cls, bins: npt.NDArray[np.int16]) -> LatencyHistogram:
        """A histogram of durations whose bins are known already, int16, shape ``(n,)``."""
        if not bins.size:
            return cls()
        first = bins.min()
        return cls(int(first), np.bincount(bins - first))

    @classmethod
    def merged(cls, histograms: Iterable[LatencyHistogram]) -> LatencyHistogram:
        """The histogram of all the values that the given ones counted."""
        filled = [histogram for histogram in histograms if histogram.counts.size]
        if len(filled) < 2:
            return filled[0] if filled else cls()
        first = min(histogram.first_bin for histogram in filled)
        last = max(histogram.first_bin + histogram.counts.size for histogram in filled)
        counts = np.zeros(last - first, dtype=np.int64)
        for histogram in filled:
            start = histogram.first_bin - first
            counts[start : start + histogram.counts.size] += histogram.counts
        return cls(first, counts)

    def __add__(self, other: LatencyHistogram) -> LatencyHistogram:
        return LatencyHistogram.merged((self, other))

    @property
    def count(self) -> int:
        """Number of values."""
        return int(self.counts.sum())

    def quantile(self, q: float) -> float | None:
        """The value below or at which a share ``q`` of the values lies: the order statistic of rank ⌈q·n⌉.

        Args:
            q: In [0, 1].

        Returns:
            Milliseconds within 1 % of the exact order statistic; None when nothing was counted.

        Raises:
            InvalidArgumentError: ``q`` is outside [0, 1].
        """
        if not 0 <= q <= 1:
            raise InvalidArgumentError("q", q, "a share in [0, 1]", hint="The 99th percentile is 0.99.")
        cumulative = np.cumsum(self.counts)
        if not cumulative.size:
            return None
        rank = max(1, math.ceil(q * int(cumulative[-1])))
        position = int(np.searchsorted(cumulative, rank))
        return 2 * math.exp((self.first_bin + position) * _LOG_GAMMA) / (_GAMMA + 1)

    def share_below(self, threshold_ms: float) -> float | None:
        """The share of values at or below a threshold.

        Args:
            threshold_ms: Milliseconds.

        Returns:
            The share in [0, 1], exact but for values within 2 % of the threshold; None when nothing was counted.

        Raises:
            InvalidArgumentError: The threshold is NaN or negative.
        """
        if not threshold_ms >= 0:
            raise InvalidArgumentError("threshold_ms", threshold_ms, "milliseconds, at least 0")
        total = self.count
        if not total:
            return None
        if threshold_ms >= LARGEST_MS:
            return 1.0
        position = math.log(max(threshold_ms, SMALLEST_MS)) / _LOG_GAMMA - self.first_bin
        whole = min(max(math.floor(position) + 1, 0), self.counts.size)
        return int(self.counts[:whole].sum()) / total

    @override
    def __repr__(self) -> str:
        return (
            f"LatencyHistogram(count={self.count}, p50={self.quantile(0.5)}, p99={self.quantile(0.99)})"
            if self.counts.size
            else "LatencyHistogram(count=0)"
        )
