"""The empirical distribution of many features as counts in cells that a reference laid out: mergeable by addition."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from numbers import Real
from typing import Any, Literal, TypeAlias

import attrs
import numpy as np
import numpy.typing as npt

from mlserve.errors import InvalidArgumentError

Counts: TypeAlias = npt.NDArray[np.int64]

DEFAULT_BINS = 100
"""D is then within 0.01 of exact, a fifth of the smallest effect that is called drift by default."""

_SIDES: tuple[Literal["left"], Literal["right"]] = ("left", "right")

FURTHER_CELLS = 3
"""Cells of a categorical feature beside its categories: rarer known ones, new ones, missing."""

TIMES = (date, np.datetime64)
"""Types of times; ``datetime`` and what pandas makes of it are dates, too."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


@attrs.frozen(eq=False)
class FeatureBins:
    """The cells of one feature.

    Attributes:
        edges: Of a feature of numbers, distinct ascending values of the reference, float64, shape ``(k,)``. Its cells
            are the open intervals below, between and above them and the edges themselves, in order, 2k + 1 in all, and
            last the missing values. None for categories.
        categories: Of a feature of categories, the commonest ones of the reference, each a cell; then one for other
            categories that the reference has, one for categories it does not have, one for missing values. None for
            numbers.
        rarer: Categories of the reference that have no cell of their own.
        is_time: Whether the edges are moments, in seconds since 1970; one without a zone is taken for UTC.
    """

    edges: npt.NDArray[np.float64] | None = None
    categories: tuple[Any, ...] | None = None
    rarer: frozenset[Any] = frozenset()
    is_time: bool = False
    # What follows as many edges; nothing follows the last.
    _ends: npt.NDArray[np.float64] = attrs.field(init=False)

    @_ends.default
    def _default_ends(self) -> npt.NDArray[np.float64]:
        return np.append(() if self.edges is None else self.edges, np.nan)

    @property
    def size(self) -> int:
        """Number of cells."""
        if self.edges is not None:
            return 2 * self.edges.size + 2
        assert self.categories is not None
        return len(self.categories) + FURTHER_CELLS

    def cells(self, values: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
        """The cell of each value, shape ``(n,)``.

        Among numbers True is 1, and what is no number counts as missing; likewise among times. Among categories what
        Python takes for equal is one, as are 1, 1.0 and True; what cannot be told apart counts as new.
        """
        if self.edges is not None:
            numbers = _as_times(values) if self.is_time else _as_numbers(values)
            below = self.edges.searchsorted(numbers)
            # Twice the edges below it, and one more where it is an edge itself.
            found: npt.NDArray[np.intp] = 2 * below + (self._ends[below] == numbers)
            found[np.isnan(numbers)] = self.size - 1
            return found
        assert self.categories is not None
        known = {category: index for index, category in enumerate(self.categories)}
        return np.fromiter((_category(value, known, self.rarer) for value in values.tolist()), np.intp, values.size)


@attrs.frozen(eq=False, repr=False)
class ReferenceBins:
    """Cells for each feature, laid at the quantiles of a reference.

    Edges of a feature of numbers are its order statistics of rank ⌈i·n/B⌉, i = 0 … B, so that less than n/B reference
    values lie strictly between two of them. Between two neighbouring edges e < x < e′ both distribution functions are
    monotone, F(e) ≤ F(x) ≤ F(e′−), and F moves by less than 1/B there: hence D from the cell counts is at most the
    exact D and more than D − 1/B. Values that are edges are counted apart, so that ties cost nothing.

    Counts of several processes add if their bins have the same ``digest``.

    *Thread safety*: immutable.

    Attributes:
        feature_names: One a feature.
        features: Their cells.
        n_bins: B.
        digest: Tells these bins from any others.
        reference_counts: How many rows of the reference fall in each cell, int64, shape ``(size,)``.
        starts: Where each feature's cells begin among all, shape ``(n_features + 1,)``; last, where they end.

    Example:
        >>> import numpy as np
        >>> bins = ReferenceBins.from_rows(np.array([[1.0], [2.0], [3.0], [4.0]]), ["x"], n_bins=2)
        >>> bins.features[0].edges
        array([1., 2., 4.])
        >>> bins.count(np.array([[0.0], [2.0], [2.5], [np.nan]]))
        array([1, 0, 0, 1, 1, 0, 0, 1])
    """

    feature_names: tuple[str, ...]
    features: tuple[FeatureBins, ...]
    n_bins: int
    digest: str
    reference_counts: Counts
    starts: npt.NDArray[np.intp] = attrs.field(init=False)

    @starts.default
    def _default_starts(self) -> npt.NDArray[np.intp]:
        return np.concatenate([[0], np.cumsum([feature.size for feature in self.features], dtype=np.intp)])

    @classmethod
    def from_rows(
        cls, rows: npt.NDArray[Any], feature_names: Sequence[str], n_bins: int = DEFAULT_BINS
    ) -> ReferenceBins:
        """Lay out cells.

        Args:
            rows: The reference, shape ``(n_samples, n_features)``, float64 or object.
            feature_names: One a feature.
            n_bins: B, at least 1. Categorical features get at most so many categories of their own.

        Raises:
            InvalidArgumentError: ``n_bins`` is less than 1, or not one name a feature.
        """
        if n_bins < 1:
            raise InvalidArgumentError("n_bins", n_bins, "at least 1")
        if rows.ndim != 2 or rows.shape[1] != len(feature_names):
            raise InvalidArgumentError("rows", rows.shape, f"(n_samples, {len(feature_names)}), one column a name")
        laid_out = [_laid_out(rows[:, index], n_bins) for index in range(rows.shape[1])]
        features = tuple(feature for feature, _ in laid_out)
        counts = np.concatenate([np.empty(0, np.int64), *(counts for _, counts in laid_out)])
        return cls(tuple(feature_names), features, n_bins, _digest(feature_names, features), counts)

    @property
    def size(self) -> int:
        """Number of cells of all features together."""
        return int(self.starts[-1])

    def count(self, rows: npt.NDArray[Any], weights: npt.NDArray[np.int64] | None = None) -> Counts:
        """How many rows fall in each cell.

        Args:
            rows: Shape ``(n_samples, n_features)``.
            weights: How many rows each stands for, shape ``(n_samples,)``; None for one each.

        Returns:
            Int64, shape ``(size,)``; a feature's counts add up to the number of rows.

        Raises:
            InvalidArgumentError: Rows of another width.
        """
        if rows.ndim != 2 or rows.shape[1] != len(self.features):
            raise InvalidArgumentError("rows", rows.shape, f"(n_samples, {len(self.features)})")
        cells = np.empty((len(self.features), len(rows)), np.intp)
        columns = np.ascontiguousarray(rows.T)
        for feature, start, column, found in zip(self.features, self.starts.tolist(), columns, cells, strict=False):
            np.add(feature.cells(column), start, out=found)
        if weights is None:
            return np.bincount(cells.ravel(), minlength=self.size)
        # Sums of float64 are exact up to 2⁵³.
        return np.rint(np.bincount(cells.ravel(), np.tile(weights, len(cells)), self.size)).astype(np.int64)

    def of(self, index: int, counts: Counts) -> Counts:
        """The part of ``counts`` that belongs to one feature."""
        return counts[self.starts[index] : self.starts[index + 1]]


def binned_ks_statistic(reference_counts: npt.ArrayLike, current_counts: npt.ArrayLike) -> tuple[float, int]:
    """The largest distance of two distribution functions at the borders of cells.

    D = max |Σ_{j≤i} r_j/n − Σ_{j≤i} c_j/m| over cells i in order. At most the exact D; by how much less, see
    ``ReferenceBins``.

    Args:
        reference_counts: Counts in the cells of one feature in order, shape ``(k,)``, at least one of them positive.
        current_counts: Likewise.

    Returns:
        D in [0, 1], and the sign of (reference − current) where it is reached; 0 where D is 0.

    Raises:
        InvalidArgumentError: Different shapes, or a sample without counts.
    """
    reference, current = np.asarray(reference_counts, np.float64), np.asarray(current_counts, np.float64)
    if reference.shape != current.shape or reference.ndim != 1:
        raise InvalidArgumentError("current_counts", current.shape, f"counts of shape {reference.shape}")
    n, m = reference.sum(), current.sum()
    if not n > 0 or not m > 0:
        raise InvalidArgumentError("current_counts", current_counts, "counts of at least one value on both sides")
    difference = np.cumsum(reference) / n - np.cumsum(current) / m
    widest = int(np.argmax(np.abs(difference)))
    return min(1.0, float(abs(difference[widest]))), int(np.sign(difference[widest]))


def _laid_out(values: npt.NDArray[Any], n_bins: int) -> tuple[FeatureBins, Counts]:
    """The cells of one feature, and how many reference values fall in each."""
    present = [value for value in values.tolist() if not _is_missing(value)] if values.dtype.kind == "O" else None
    is_time = bool(present) and all(isinstance(value, TIMES) for value in present or ())
    if present is not None and not is_time and not _are_numbers(present):
        common = Counter(value for value in present if _is_hashable(value))
        # Equally common ones in an order that does not depend on that of the rows.
        names = sorted(common, key=lambda value: (-common[value], type(value).__name__, repr(value)))
        bins = FeatureBins(categories=tuple(names[:n_bins]), rarer=frozenset(names[n_bins:]))
        return bins, np.bincount(bins.cells(values), minlength=bins.size)
    numbers = np.sort(_as_times(values) if is_time else _as_numbers(values))
    numbers = numbers[: numbers.size - int(np.isnan(numbers).sum())]
    ranks = [max(0, math.ceil(i * numbers.size / n_bins) - 1) for i in range(n_bins + 1)]
    # One zero only: that of a negative sign is equal, but its bytes are not.
    edges = np.unique(numbers[ranks]) + 0.0 if numbers.size else np.empty(0)
    bins = FeatureBins(edges=edges, is_time=is_time)
    counts = np.zeros(bins.size, np.int64)
    # The values are sorted already: what each edge cuts off tells all counts.
    below, upto = (np.searchsorted(numbers, edges, side) for side in _SIDES)
    counts[1:-1:2] = upto - below
    counts[:-1:2] = np.append(below, numbers.size) - np.insert(upto, 0, 0)
    counts[-1] = values.size - numbers.size
    return bins, counts


def _digest(names: Sequence[str], features: Sequence[FeatureBins]) -> str:
    hashed = hashlib.blake2b(digest_size=16)
    for name, feature in zip(names, features, strict=True):
        # The size says where the edges of one feature end and the next feature begins.
        hashed.update(repr((name, feature.is_time, feature.size)).encode())
        if feature.edges is not None:
            hashed.update(feature.edges.astype("<f8").tobytes())
        else:
            hashed.update(repr((feature.categories, sorted(map(repr, feature.rarer)))).encode())
    return hashed.hexdigest()


def _category(value: Any, known: dict[Any, int], rarer: frozenset[Any]) -> int:
    """The cell of a value: after the known ones there are cells for rarer, new and missing ones."""
    if _is_missing(value):
        return len(known) + 2
    try:
        return known[value] if value in known else len(known) + int(value not in rarer)
    except Exception:  # what has no hash, or cannot be compared, is nothing that the reference has
        return len(known) + 1


def _as_numbers(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    if values.dtype.kind != "O":
        return values.astype(np.float64, copy=False)
    return np.array([_number(value) for value in values.tolist()], np.float64)


def _as_times(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.array([_seconds(value) for value in values.tolist()], np.float64)


def _are_numbers(values: Sequence[Any]) -> bool:
    """Whether these are numbers, not all of them booleans."""
    return (
        all(isinstance(value, Real) and not math.isnan(_number(value)) for value in values)
        and not all(isinstance(value, bool) for value in values)
    )  # fmt: skip


def _number(value: Any) -> float:
    """NaN for what is no number."""
    try:
        return float(value) if isinstance(value, (Real, np.bool_)) else math.nan
    except Exception:  # too large, or whatever else a class of the caller's raises
        return math.nan


def _seconds(value: Any) -> float:
    """Since 1970; NaN for what is no time."""
    if isinstance(value, np.datetime64):
        value = value.astype("datetime64[us]").item()
    if not isinstance(value, date):
        return math.nan
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    try:
        return float(((value if value.tzinfo is not None else value.replace(tzinfo=UTC)) - _EPOCH) / _SECOND)
    except Exception:  # a zone of the caller's, or pandas.NaT, which calls itself a datetime
        return math.nan


def _is_missing(value: Any) -> bool:
    if value is None:
        return True
    try:
        return bool(value != value)
    except Exception:  # pandas.NA refuses to be true or false; what else refuses is a value, if a strange one
        return type(value).__name__ == "NAType"


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except Exception:  # nearly always a TypeError
        return False
    return True
