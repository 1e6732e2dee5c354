"""Inputs counted in the cells of a baseline: exact for any traffic, the same size for any traffic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import numpy.typing as npt

from mlserve._buckets import BucketRing, Resolution, microseconds
from mlserve.monitors._kept import KeptInputs
from mlserve.monitors._keys import BucketKey
from mlserve.monitors._sampling import SampledRequests
from mlserve.records import InputSample
from mlserve.schemas import feature_row, feature_rows

if TYPE_CHECKING:
    from mlserve.numerics._binning import ReferenceBins

FINEST = (Resolution(timedelta(minutes=1), timedelta(hours=1)), Resolution(timedelta(hours=1), timedelta(hours=48)))
DAY = timedelta(days=1)

FOREVER_AGO = -(2**62)

DEFAULT_BINS = 100
"""D is then within 0.01 of exact, a fifth of the smallest effect that is called drift by default."""


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
        squares: Σw² over the inputs counted, w being the number that each stands for.
        unusable: Inputs that are no row of the baseline's features.
    """

    cells: npt.NDArray[np.int64]
    rows: int = 0
    squares: int = 0
    unusable: int = 0

    def __add__(self, other: CellCounts) -> CellCounts:
        return CellCounts(
            self.cells + other.cells,
            self.rows + other.rows,
            self.squares + other.squares,
            self.unusable + other.unusable,
        )

    def effective_rows(self, bins: ReferenceBins) -> int:
        """How many inputs drawn evenly would tell as much, (Σw)²/Σw² (Kish, "Survey Sampling", 1965); at least 1."""
        total = int(bins.of(0, self.cells).sum())
        return max(1, total * total // self.squares)


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
        self._rows = InputRows(bins.feature_names)

    def add(self, times: npt.NDArray[np.int64], inputs: KeptInputs, now: int, change: int) -> None:
        """Count inputs, at least one, with their moments, microseconds since 1970."""
        if inputs.rows is not None:
            if not inputs.rows.size:
                return
            times = times[inputs.rows]
        weights = None if inputs.cuts is None else np.rint(1 / (1 - inputs.cuts)).astype(np.int64)
        rows, usable = self._rows.of(inputs.values if inputs.values.ndim > 1 else list(inputs.values))
        places = np.cumsum(usable) - 1  # where a usable input stands among the rows

        def counted(positions: npt.NDArray[np.intp]) -> CellCounts:
            chosen = positions[usable[positions]]
            own = None if weights is None else weights[chosen]
            counts = self.bins.count(rows[places[chosen]], own)
            squares = chosen.size if own is None else int((own * own).sum())
            return CellCounts(counts, chosen.size, squares, positions.size - chosen.size)

        # Nearly always the whole block lies in one bucket of each level.
        whole = cache(lambda: counted(np.arange(times.size)))
        self.ring.expire(now)
        self.ring.add(times, lambda group: whole() if group.size == times.size else counted(group), now)
        self.ring.touch(times, change)

    def between(self, start: int, now: int) -> CellCounts | None:
        """Counts of (start, now], rounded outward to whole buckets; None where not all inputs came here."""
        if start < self.complete_since:
            return None
        return sum(self.ring.since(start, now), CellCounts(np.zeros(self.bins.size, np.int64)))


class InputCounters:
    """The counted inputs of all versions that have a baseline.

    *Thread safety*: none; the owner locks.

    Args:
        retention: How far back any window reaches.
    """

    def __init__(self, retention: timedelta) -> None:
        self._resolutions = input_resolutions(retention)
        self._counters: dict[str, InputCounter] = {}

    def set_bins(self, version_id: str, bins: ReferenceBins, since: int) -> None:
        """Count the inputs of a version in other cells from a moment on; what was counted before is let go."""
        self._counters[version_id] = InputCounter(bins, self._resolutions, since)

    def add(self, version_id: str, times: npt.NDArray[np.int64], inputs: KeptInputs, now: int, change: int) -> None:
        """Count inputs of a version, if it has a baseline."""
        if version_id in self._counters:
            self._counters[version_id].add(times, inputs, now, change)

    def between(self, version_id: str, start: int, now: int) -> tuple[ReferenceBins, CellCounts] | None:
        """Cells and counts of a version in (start, now]; None where not all its inputs were counted."""
        counter = self._counters.get(version_id)
        counts = None if counter is None else counter.between(start, now)
        return None if counter is None or counts is None else (counter.bins, counts)

    def changed(self, after: int) -> list[tuple[BucketKey, CellCounts]]:
        """Every bucket that changed after the given change."""
        return [
            (BucketKey(version_id, level.width, number), level.buckets[number])
            for version_id, counter in self._counters.items()
            for level in counter.ring.levels
            for number, change in sorted(level.changed.items())
            if change > after and number in level.buckets
        ]

    @property
    def digests(self) -> dict[str, str]:
        """Of each version, which cells its inputs are counted in."""
        return {version_id: counter.bins.digest for version_id, counter in self._counters.items()}

    @property
    def complete_since(self) -> dict[str, int]:
        """Of each version, from when on all its inputs were counted, microseconds since 1970."""
        return {version_id: counter.complete_since for version_id, counter in self._counters.items()}

    @property
    def levels(self) -> list[tuple[int, int]]:
        """Width and retention of each resolution, microseconds."""
        return [(microseconds(one.width), microseconds(one.retention)) for one in self._resolutions]


class InputRows:
    """Turns inputs into rows of a baseline's features.

    Mappings with the baseline's names are taken by name. Other mappings are taken in the order of the first such one,
    as arrays are, for a baseline of an array has no names to go by.

    *Thread safety*: none; the owner locks.

    Args:
        names: The baseline's.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._wanted = frozenset(names)
        self._foreign: tuple[str, ...] | None = None

    def of(self, inputs: Any) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """The inputs of a sequence or a table that are rows of the baseline's features, and which these are."""
        usable = np.ones(len(inputs), bool)
        rows, own, unusable = feature_rows(inputs)
        if not unusable and rows.shape[1] == len(self._names):
            order = self._order(own) if own else ()
            if order:
                return rows[:, [own.index(name) for name in order]], usable
            if isinstance(inputs, np.ndarray) or not any(isinstance(value, Mapping) for value in inputs):
                return rows, usable
        # Some are none, or mappings among arrays, or with several sets of names: one by one.
        found = [self._row(value) for value in inputs]
        usable = np.array([row is not None for row in found])
        rows = np.empty((int(usable.sum()), len(self._names)), object)
        for place, row in enumerate(row for row in found if row is not None):
            rows[place] = row
        return rows, usable

    def _row(self, value: Any) -> list[Any] | None:
        if not isinstance(value, Mapping):
            row = feature_row(value)
            return row.tolist() if row is not None and row.size == len(self._names) else None
        named = {str(name): item for name, item in value.items()}
        if len(named) != len(self._names) or len(value) != len(named):
            return None
        order = self._order(tuple(named))
        return None if order is None else [named[name] for name in order]

    def _order(self, own: tuple[str, ...]) -> tuple[str, ...] | None:
        """The order in which so many values of these names are taken; None where they are not taken."""
        if self._wanted.issuperset(own):
            return self._names
        if self._foreign is None:
            self._foreign = own
        return self._foreign if set(self._foreign) == set(own) else None


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
            statistic_error_bound=0.0 if sampled.is_all else _sample_bound(sampled, len(rows)),
            unusable_count=unusable,
        )
    bins, counts = counted
    effective_rows = counts.effective_rows(bins)
    # Where each input stands for itself none was thinned.
    sampling_error = sample_error(effective_rows) if counts.squares > counts.rows else 0.0
    return InputSample(
        rows=rows,
        feature_names=feature_names,
        count=count,
        method="binned",
        statistic_error_bound=min(1.0, 1 / bins.n_bins + sampling_error),
        unusable_count=counts.unusable,
        bins=bins,
        cell_counts=counts.cells,
        counted_rows=counts.rows,
        effective_rows=effective_rows,
    )


def _sample_bound(sampled: SampledRequests, n: int) -> float:
    return sample_error(n) if sampled.is_uniform and n else 1.0


def sample_error(n: int) -> float:
    """How far the distribution function of a sample of n is from that of all, at most, with a probability of 95 %.

    √(ln(2/0.05)/(2n)): the inequality of Dvoretzky, Kiefer and Wolfowitz with the constant of Massart ("The tight
    constant in the Dvoretzky-Kiefer-Wolfowitz inequality", Annals of Probability 18, 1990).
    """
    return min(1.0, math.sqrt(math.log(2 / 0.05) / (2 * n)))
