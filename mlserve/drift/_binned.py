"""Inputs that were counted in the cells of their baseline, against that baseline."""

from __future__ import annotations

from collections import Counter
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
from typing_extensions import override

from mlserve.drift._columns import Column, Kind
from mlserve.drift._evidence import (
    SHOWN,
    Comparison,
    OrderedSample,
    categorical_feature,
    ordered_feature,
)
from mlserve.drift._policy import DriftPolicy
from mlserve.numerics import ks_pvalue
from mlserve.numerics._binning import FeatureBins, ReferenceBins, binned_ks_statistic
from mlserve.records import FeatureDrift

Counts = npt.NDArray[np.int64]


@attrs.frozen
class _Named:
    """A cell that is no category of its own; never equal to a category of this name."""

    name: str

    @override
    def __str__(self) -> str:
        return self.name


RARER, NEW = _Named("(rarer categories)"), _Named("(new categories)")


def compare_counts(bins: ReferenceBins, counts: Counts, rows: int, policy: DriftPolicy) -> Comparison:
    """Compare what was counted with the reference that laid out the cells.

    D of a feature of numbers is at most the exact one and within 1/B of it, so that its p-value is on the safe side;
    medians and quantiles shown are the nearest edges of cells. Categories that have no cell of their own are compared
    as one.

    Args:
        bins: The cells.
        counts: How many inputs fell in each, shape ``(bins.size,)``; estimates where inputs were thinned.
        rows: How many inputs were looked at, drawn evenly: what p-values go by.
        policy: Thresholds.

    Returns:
        Every feature with its evidence, not judged yet; without features where either sample is too small.
    """
    n = int(bins.of(0, bins.reference_counts).sum()) if bins.features else 0
    if min(n, rows) < policy.min_samples:
        return Comparison(bins.feature_names, n, rows, None)
    features = [
        _feature(
            name, feature, bins.of(index, bins.reference_counts), bins.of(index, counts), rows, bins.n_bins, policy
        )
        for index, (name, feature) in enumerate(zip(bins.feature_names, bins.features, strict=True))
    ]
    return Comparison(bins.feature_names, n, rows, features)


def _feature(
    name: str, bins: FeatureBins, before: Counts, after: Counts, rows: int, n_bins: int, policy: DriftPolicy
) -> FeatureDrift:
    if bins.edges is None:
        return categorical_feature(name, _categories(bins, before), _categories(bins, _scaled(after, rows)), policy)
    distance, sign = binned_ks_statistic(before, after)
    n = int(before.sum())
    feature = ordered_feature(
        name,
        Kind.DATETIME if bins.is_time else Kind.NUMERIC,
        _ordered(bins.edges, before, n),
        _ordered(bins.edges, after, rows),
        distance=distance,
        sign=sign,
        p_value=float(ks_pvalue(distance, n, rows)),
        method=f"binned, within {1 / n_bins:g}",
        ties=bool((before[1:-1:2] > 1).any() or (after[1:-1:2] > 1).any()),
        policy=policy,
    )
    assert feature.effect_interval is not None
    lower, upper = feature.effect_interval
    # The exact D may be larger by almost 1/B.
    return attrs.evolve(feature, effect_interval=(lower, min(1.0, upper + 1 / n_bins)))


def _scaled(counts: Counts, rows: int) -> Counts:
    """Counts of as many rows as were looked at."""
    total = int(counts.sum())
    return counts if total == rows else np.rint(counts * (rows / total)).astype(np.int64)


def _ordered(edges: npt.NDArray[np.float64], counts: Counts, size: int) -> OrderedSample:
    """What the cells tell of a sample of so many rows."""
    present, missing = counts[:-1], int(counts[-1])
    share_missing = missing / counts.sum()
    if not present.any():
        return OrderedSample(size, size, (), ())
    if not edges.size:
        return OrderedSample(size, round(share_missing * size), (-np.inf, np.inf), ())
    # The upper border of each cell; what lies above all edges is shown as the last.
    borders = np.append(np.repeat(edges, 2), edges[-1])
    reached = np.cumsum(present)
    wanted = np.searchsorted(reached, np.maximum(1, np.ceil(SHOWN * reached[-1])))
    filled = np.flatnonzero(present)
    in_one_point = filled.size == 1 and filled[0] % 2 == 1
    ends = (borders[filled[0]],) * 2 if in_one_point else (-np.inf, np.inf)
    return OrderedSample(size, round(share_missing * size), ends, tuple(borders[wanted].tolist()))


def _categories(bins: FeatureBins, counts: Counts) -> Column:
    assert bins.categories is not None
    cells: tuple[Any, ...] = (*bins.categories, RARER, NEW, None)
    counted = Counter({cell: int(count) for cell, count in zip(cells, counts, strict=True) if count})
    are_booleans = bool(bins.categories) and all(isinstance(one, (bool, np.bool_)) for one in bins.categories)
    return Column.counted(counted, Kind.BOOLEAN if are_booleans and not counted[NEW] else Kind.CATEGORICAL)
