"""Columns of a snapshot, and counts of which only those are kept that are not 0."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from mlserve.errors import SnapshotFormatError
from mlserve.numerics._sketches import LatencyHistogram

Mask = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]
Integers = npt.NDArray[np.integer[Any]]
Columns = dict[str, npt.NDArray[Any]]

MOST_COUNTED = 2**53
"""No count of a snapshot reaches it; a thousand of them still add up within int64."""


def checked_column(
    columns: Mapping[str, npt.NDArray[Any]],
    name: str,
    dtype: type[np.generic],
    shape: tuple[int | None, ...],
    within: tuple[int, int] | None = None,
) -> npt.NDArray[Any]:
    """A column of a snapshot that someone else wrote.

    Args:
        columns: All of them.
        name: Which one.
        dtype: What it must hold.
        shape: What it must have; None for any size.
        within: The smallest value that it may hold, and the first that is too large; None for any.

    Raises:
        SnapshotFormatError: It is missing, or another.
    """
    found = columns.get(name)
    if not isinstance(found, np.ndarray) or found.dtype != dtype or found.ndim != len(shape):
        raise SnapshotFormatError(f"no column {name!r} of {dtype.__name__} with {len(shape)} dimensions")
    if any(size not in (None, actual) for size, actual in zip(shape, found.shape, strict=True)):
        raise SnapshotFormatError(f"column {name!r} of shape {found.shape} where {shape} was expected")
    if within is not None and found.size and not within[0] <= found.min() <= found.max() < within[1]:
        raise SnapshotFormatError(f"values in column {name!r} outside {list(within)}")
    return found


def summed(positions: Integers, counts: Integers, size: int = 0) -> Counts:
    """Counts added up by position, at least ``size`` of them. In float64, which is exact up to ``MOST_COUNTED``."""
    return np.rint(np.bincount(positions, counts, size)).astype(np.int64)


@attrs.frozen(eq=False)
class Sparse:
    """Counts of things within buckets: of each bucket only what occurred. The buckets are in ascending order.

    Attributes:
        row: The bucket, shape ``(n,)``.
        keys: What was counted, one or two columns of codes, shape ``(n, n_keys)``.
        count: How often.
    """

    row: Integers
    keys: Integers
    count: Integers

    @classmethod
    def of(cls, rows: Sequence[tuple[npt.ArrayLike, Sequence[int] | Counts]], n_keys: int) -> Sparse:
        """From the codes and the counts of each bucket."""
        keys = [np.asarray(codes, np.int32).reshape(-1, n_keys) for codes, _ in rows]
        return cls(
            np.repeat(np.arange(len(rows), dtype=np.int32), [len(counts) for _, counts in rows]),
            np.concatenate([np.empty((0, n_keys), np.int32), *keys]),
            np.concatenate([np.empty(0, np.int64), *(np.asarray(counts, np.int64) for _, counts in rows)]),
        )

    @classmethod
    def from_columns(
        cls, name: str, columns: Mapping[str, npt.NDArray[Any]], n_rows: int, keys: Sequence[tuple[int, int]]
    ) -> Sparse:
        """From the columns of a snapshot, checked; ``keys`` says within what each column of codes must lie."""
        row = checked_column(columns, f"{name}_row", np.int32, (None,), (0, n_rows))
        codes = checked_column(columns, f"{name}_keys", np.int32, (row.size, len(keys)))
        count = checked_column(columns, f"{name}_count", np.int64, (row.size,), (0, MOST_COUNTED))
        if (row[1:] < row[:-1]).any():
            raise SnapshotFormatError(f"rows of {name} out of order")
        for column, (lowest, end) in zip(codes.T, keys, strict=True):
            if row.size and not lowest <= column.min() <= column.max() < end:
                raise SnapshotFormatError(f"codes of {name} outside [{lowest}, {end})")
        return cls(row, codes, count)

    def columns(self, name: str) -> Columns:
        """As columns of a snapshot."""
        return {f"{name}_row": self.row, f"{name}_keys": self.keys, f"{name}_count": self.count}

    def only(self, mask: Mask) -> Sparse:
        """Of some buckets, which are renumbered."""
        kept = mask[self.row]
        return Sparse((np.cumsum(mask) - 1)[self.row[kept]], self.keys[kept], self.count[kept])

    def between(self, first: int, end: int) -> Sparse:
        """Of the buckets [first, end), which are renumbered; a view."""
        low, high = self.row.searchsorted([first, end])
        return Sparse(self.row[low:high] - first, self.keys[low:high], self.count[low:high])

    def renumbered(self, numbers: npt.NDArray[np.intp]) -> Sparse:
        """With other numbers for the buckets, as little memory as they need, and in their order."""
        row = numbers[self.row]
        order = np.argsort(row, kind="stable")
        return Sparse(*(narrowed(column[order]) for column in (row, self.keys, self.count)))

    def recoded(self, codes: npt.NDArray[np.intp]) -> Sparse:
        """With other codes for the first key."""
        keys = self.keys.astype(np.int32)
        keys[:, 0] = codes[keys[:, 0]]
        return attrs.evolve(self, keys=keys)

    @classmethod
    def joined(cls, parts: Sequence[Sparse], sizes: Sequence[int]) -> Sparse:
        """Of tables one below the other, with so many buckets each."""
        offsets = np.cumsum([0, *sizes[:-1]])
        return cls(
            np.concatenate([part.row.astype(np.intp) + offset for part, offset in zip(parts, offsets, strict=True)]),
            np.concatenate([part.keys for part in parts]),
            np.concatenate([part.count for part in parts]),
        )

    def histogram(self) -> LatencyHistogram:
        """The sum over all buckets, where the keys are bins."""
        if not self.row.size:
            return LatencyHistogram()
        bins = self.keys[:, 0].astype(np.intp)
        first = int(bins.min())
        return LatencyHistogram(first, summed(bins - first, self.count))

    def total(self) -> Counter[tuple[int, ...]]:
        """The sum over all buckets by codes."""
        keys = self.keys.astype(np.int64)
        # One number for all keys of an entry: to sort whole rows would take ten times as long.
        last = keys[:, -1]
        numbers = keys[:, 0] * (last.max(initial=0) + 1) + last
        distinct, first, place = np.unique(numbers, return_index=True, return_inverse=True)
        counts = summed(place, self.count, distinct.size)
        return Counter(dict(zip(map(tuple, keys[first].tolist()), counts.tolist(), strict=True)))


def narrowed(values: Integers) -> Integers:
    """The same integers in as few bytes as hold them all: a view of a fleet has very many of them."""
    lowest, highest = values.min(initial=0), values.max(initial=0)
    for dtype in (np.int16, np.int32):
        limits = np.iinfo(dtype)
        if limits.min <= lowest and highest <= limits.max:
            return values.astype(dtype)
    return values
