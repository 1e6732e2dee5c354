"""Inputs counted in the cells of a baseline: exact for any traffic, the same size for any traffic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from mlserve._buckets import BucketRing, Resolution
from mlserve.monitors._sampling import Dropped, SampledRequests, Thinned
from mlserve.numerics._binning import ReferenceBins
from mlserve.records import InputSample
from mlserve.schemas import feature_row, feature_rows

FINEST = (Resolution(timedelta(minutes=1), timedelta(hours=1)), Resolution(timedelta(hours=1), timedelta(hours=48)))
DAY = timedelta(days=1)

FOREVER_AGO = -(2**62)


def input_resolutions(retention: timedelta) -> tuple[Resolution, ...]:
    """How finely inputs are counted: coarser than requests, for a bucket has two hundred cells a feature."""
    finer = tuple(one for one in FINEST if one.retention < retention)
    width = min(DAY, retention) if len(finer) == len(FINEST) else min(FINEST[len(finer)].width, retention)
    return (*finer, Resolution(width, retention))


@attrs.frozen(eq=False)
class CellCounts:
    """How many inputs fell in each cell; two add.

    Attributes:
        cells: Int64, shape ``(n_cells,)``: each input by the number of inputs it stands for.
        rows: Inputs counted.
        unusable: Inputs that are no row of the baseline's features.
    """

    cells: npt.NDArray[np.int64]
    rows: int = 0
    unusable: int = 0

    def __add__(self, other: CellCounts) -> CellCounts:
        return CellCounts(self.cells + other.cells, self.rows + other.rows, self.unusable + other.unusable)


class InputCounter:
    """The inputs of one version, counted by time in the cells of its baseline.

    Where inputs were thinned before they came here, each that is left counts for as many as it stands for (cuts come in
    halves, so that this is a whole number): the counts stay without bias.

    *Thread safety*: none; the owner locks.

    Args:
        bins: The baseline's cells.
        resolutions: How finely, how long.
        complete_since: From when on all inputs come here, microseconds since 1970.
    """

    def __init__(self, bins: ReferenceBins, resolutions: Sequence[Resolution], complete_since: int) -> None:
        self.bins = bins
        self.complete_since = complete_since
        self.ring: BucketRing[CellCounts] = BucketRing(resolutions)

    def add(self, times: npt.NDArray[np.int64], inputs: Sequence[Any], now: int, change: int) -> None:
        """Count inputs, at least one, with their moments, microseconds since 1970."""
        kept = [row for row, value in enumerate(inputs) if type(value) is not Dropped]
        if not kept:
            return
        if len(kept) < len(inputs):
            times, inputs = times[kept], [inputs[row] for row in kept]
        weights = np.array([_weight(value) for value in inputs], np.int64)
        rows, usable = self._rows([value.input if type(value) is Thinned else value for value in inputs])
        cells = np.cumsum(usable) - 1  # where a usable input stands among the rows

        def counted(positions: npt.NDArray[np.intp]) -> CellCounts:
            chosen = positions[usable[positions]]
            counts = self.bins.count(rows[cells[chosen]], weights[chosen])
            return CellCounts(counts, chosen.size, positions.size - chosen.size)

        self.ring.expire(now)
        self.ring.add(times, counted, now)
        self.ring.touch(times, change)

    def between(self, start: int, now: int) -> CellCounts | None:
        """Counts of (start, now], rounded outward to whole buckets; None where not all inputs came here."""
        if start < self.complete_since:
            return None
        return sum(self.ring.since(start, now), CellCounts(np.zeros(self.bins.size, np.int64)))

    def _rows(self, inputs: list[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """The inputs that are rows of the baseline's features, and which these are."""
        names = self.bins.feature_names
        rows, own, unusable = feature_rows(inputs)
        usable = np.ones(len(inputs), bool)
        if unusable or rows.shape[1] != len(names):
            usable = np.array([_fits(value, names) for value in inputs])
            rows, own, _ = feature_rows([value for value, fits in zip(inputs, usable, strict=True) if fits])
        if not len(rows):
            return np.empty((0, len(names))), usable
        if own and own != names and set(own) == set(names):
            rows = rows[:, [own.index(name) for name in names]]
        return rows, usable


def as_drawn(
    sampled: SampledRequests,
    counted: tuple[ReferenceBins, CellCounts] | None,
    answered: int,
    names: tuple[str, ...],
) -> InputSample:
    """The public record of a window's inputs.

    Args:
        sampled: Some of them, or all.
        counted: All of them, where they were counted.
        answered: How many there were.
        names: The baseline's names, for inputs that bring none.
    """
    rows, own_names, unusable = feature_rows(sampled.inputs)
    feature_names = own_names or (names if len(names) == rows.shape[1] else ())
    count = max(answered, len(sampled.inputs))
    if counted is None or not counted[1].rows:
        return InputSample(
            rows=rows,
            feature_names=feature_names,
            count=count,
            method="all" if sampled.is_all else "reservoir",
            statistic_error_bound=0.0 if sampled.is_all or not len(rows) else sample_error(len(rows)),
            unusable_count=unusable,
        )
    bins, counts = counted
    return InputSample(
        rows=rows,
        feature_names=feature_names,
        count=count,
        method="binned",
        statistic_error_bound=1 / bins.n_bins,
        unusable_count=counts.unusable,
        bins=bins,
        cell_counts=counts.cells,
        counted_rows=counts.rows,
    )


def sample_error(n: int) -> float:
    """How far the distribution function of a sample of n is from that of all, at most, with a probability of 95 %.

    √(ln(2/0.05)/(2n)): the inequality of Dvoretzky, Kiefer and Wolfowitz with the constant of Massart ("The tight
    constant in the Dvoretzky-Kiefer-Wolfowitz inequality", Annals of Probability 18, 1990).
    """
    return min(1.0, math.sqrt(math.log(2 / 0.05) / (2 * n)))


def _weight(value: Any) -> int:
    return round(1 / (1 - value.cut)) if type(value) is Thinned else 1


def _fits(value: Any, names: tuple[str, ...]) -> bool:
    if isinstance(value, Mapping):
        return {str(name) for name in value} == set(names)
    row = feature_row(value)
    return row is not None and row.size == len(names)
