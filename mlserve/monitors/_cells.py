"""Counts of inputs in cells as columns: what a snapshot carries of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from mlserve.errors import SnapshotFormatError
from mlserve.monitors._inputs import CellCounts
from mlserve.monitors._keys import LAST_MICROSECOND, BucketKey
from mlserve.monitors._sparse import MOST_COUNTED, Columns, Mask, Sparse, checked_column, summed

MOST_CELLS = 2**31
"""Cells are int32."""


@attrs.frozen(eq=False)
class CellTable:
    """Buckets of counted inputs, a row each.

    *Thread safety*: immutable.

    Attributes:
        digests: Of each version, which bins its cells belong to.
        complete_since: Of each version, from when on all its inputs were counted, microseconds since 1970.
        keys: The buckets' names.
        rows: Inputs counted, int64, shape ``(n,)``.
        squares: Σw² over them, int64.
        unusable: Inputs that are no row, int64.
        cells: Counts by cell.
    """

    digests: Mapping[str, str]
    complete_since: Mapping[str, int]
    keys: tuple[BucketKey, ...]
    rows: npt.NDArray[np.int64]
    squares: npt.NDArray[np.int64]
    unusable: npt.NDArray[np.int64]
    cells: Sparse

    @classmethod
    def of(
        cls,
        digests: Mapping[str, str],
        complete_since: Mapping[str, int],
        buckets: Sequence[tuple[BucketKey, CellCounts]],
    ) -> CellTable:
        """Buckets as a table."""
        return cls(
            digests,
            complete_since,
            tuple(key for key, _ in buckets),
            np.array([counts.rows for _, counts in buckets], np.int64),
            np.array([counts.squares for _, counts in buckets], np.int64),
            np.array([counts.unusable for _, counts in buckets], np.int64),
            Sparse.of([(np.flatnonzero(one.cells), one.cells[one.cells > 0]) for _, one in buckets], 1),
        )

    @classmethod
    def from_parts(cls, header: Mapping[str, Any], columns: Mapping[str, npt.NDArray[Any]]) -> CellTable:
        """From what ``parts`` made.

        Raises:
            SnapshotFormatError: The columns do not fit each other.
        """
        digests = _by_version(header, "input_digests", str)
        complete_since = _by_version(header, "input_complete_since", int)
        keys = _keys(header, digests)
        n = len(keys)
        if digests.keys() != complete_since.keys():
            raise SnapshotFormatError("inputs of versions that were counted since no time")
        rows, squares, unusable = (
            checked_column(columns, f"input_{name}", np.int64, (n,), (0, MOST_COUNTED))
            for name in ("rows", "squares", "unusable")
        )
        if (squares < rows).any():
            raise SnapshotFormatError("inputs that stand for less than one")
        cells = Sparse.from_columns("cells", columns, n, [(0, MOST_CELLS)])
        return cls(digests, complete_since, keys, rows, squares, unusable, cells)

    def parts(self) -> tuple[dict[str, Any], Columns]:
        """Names and columns for a snapshot."""
        header = {
            "input_buckets": [list(key) for key in self.keys],
            "input_digests": dict(self.digests),
            "input_complete_since": dict(self.complete_since),
        }
        columns = {"input_rows": self.rows, "input_squares": self.squares, "input_unusable": self.unusable}
        return header, {**columns, **self.cells.columns("cells")}

    def only(self, mask: Mask) -> CellTable:
        """Some of the buckets."""
        return attrs.evolve(
            self,
            keys=tuple(key for key, kept in zip(self.keys, mask.tolist(), strict=True) if kept),
            rows=self.rows[mask],
            squares=self.squares[mask],
            unusable=self.unusable[mask],
            cells=self.cells.only(mask),
        )

    @classmethod
    def joined(cls, older: CellTable, newer: CellTable) -> CellTable:
        """Two tables one below the other; where they differ in their bins, the newer ones count."""
        return cls(
            {**older.digests, **newer.digests},
            {**older.complete_since, **newer.complete_since},
            (*older.keys, *newer.keys),
            np.concatenate([older.rows, newer.rows]),
            np.concatenate([older.squares, newer.squares]),
            np.concatenate([older.unusable, newer.unusable]),
            Sparse.joined([older.cells, newer.cells], [len(older.keys), len(newer.keys)]),
        )

    def narrowed(self) -> CellTable:
        """The same in little memory: to be kept. Copied, as a view would hold all bytes of its snapshot."""
        return attrs.evolve(
            self,
            rows=self.rows.copy(),
            squares=self.squares.copy(),
            unusable=self.unusable.copy(),
            cells=self.cells.renumbered(np.arange(len(self.keys))),
        )

    def total(self, mask: Mask, size: int) -> CellCounts | None:
        """What some of the buckets add up to, of bins with so many cells; None where they are of other bins."""
        kept = mask[self.cells.row]
        numbers = self.cells.keys[kept, 0]
        if numbers.size and numbers.max() >= size:
            return None
        cells = summed(numbers, self.cells.count[kept], size)
        rows, squares, unusable = (int(column[mask].sum()) for column in (self.rows, self.squares, self.unusable))
        return CellCounts(cells, rows, squares, unusable)


def _by_version(header: Mapping[str, Any], name: str, kind: type) -> dict[str, Any]:
    found = header.get(name)
    if not isinstance(found, Mapping) or any(
        type(version) is not str or type(value) is not kind for version, value in found.items()
    ):
        raise SnapshotFormatError(f"no {name}, or such of an unknown type")
    return dict(found)


def _keys(header: Mapping[str, Any], digests: Mapping[str, str]) -> tuple[BucketKey, ...]:
    listed = header.get("input_buckets")
    try:
        keys = tuple(BucketKey(*key) for key in listed or ())
        if listed is None or any(
            type(width) is not int
            or type(number) is not int
            or not 0 < width < LAST_MICROSECOND
            or abs(width * number) >= LAST_MICROSECOND
            or version_id not in digests
            for version_id, width, number in keys
        ):
            raise SnapshotFormatError("no buckets of inputs, or at no time that there is")
    except TypeError as error:
        raise SnapshotFormatError(f"buckets of inputs without a name ({error!r})") from error
    return keys
