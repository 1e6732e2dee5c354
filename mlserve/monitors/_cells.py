"""Counts of inputs in cells as columns: what a snapshot carries of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from mlserve.errors import SnapshotFormatError
from mlserve.monitors._inputs import CellCounts
from mlserve.monitors._tables import BucketKey, Columns, Mask, Sparse


@attrs.frozen(eq=False)
class CellTable:
    """Buckets of counted inputs, a row each.

    *Thread safety*: immutable.

    Attributes:
        digests: Of each version, which bins its cells belong to.
        complete_since: Of each version, from when on all its inputs were counted, microseconds since 1970.
        keys: The buckets' names.
        rows: Inputs counted, int64, shape ``(n,)``.
        unusable: Inputs that are no row, int64.
        cells: Counts by cell.
    """

    digests: Mapping[str, str]
    complete_since: Mapping[str, int]
    keys: tuple[BucketKey, ...]
    rows: npt.NDArray[np.int64]
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
            np.array([counts.unusable for _, counts in buckets], np.int64),
            Sparse.of([_filled(counts.cells) for _, counts in buckets], 1),
        )

    @classmethod
    def from_parts(cls, header: Mapping[str, Any], columns: Mapping[str, npt.NDArray[Any]]) -> CellTable:
        """From what ``parts`` made.

        Raises:
            SnapshotFormatError: The columns do not fit each other.
        """
        try:
            keys = tuple(BucketKey(*key) for key in header["input_buckets"])
            rows, unusable = columns["input_rows"], columns["input_unusable"]
            table = cls(
                header["input_digests"],
                header["input_complete_since"],
                keys,
                rows,
                unusable,
                Sparse.from_columns("cells", columns, len(keys), 1),
            )
        except (KeyError, TypeError) as error:
            raise SnapshotFormatError(f"a column of inputs is missing ({error!r})") from error
        if rows.shape != (len(keys),) or unusable.shape != rows.shape:
            raise SnapshotFormatError("columns of inputs of different length")
        return table

    def parts(self) -> tuple[dict[str, Any], Columns]:
        """Names and columns for a snapshot."""
        header = {
            "input_buckets": [list(key) for key in self.keys],
            "input_digests": dict(self.digests),
            "input_complete_since": dict(self.complete_since),
        }
        return header, {"input_rows": self.rows, "input_unusable": self.unusable, **self.cells.columns("cells")}

    def only(self, mask: Mask) -> CellTable:
        """Some of the buckets."""
        keys = tuple(key for key, kept in zip(self.keys, mask.tolist(), strict=True) if kept)
        return attrs.evolve(
            self, keys=keys, rows=self.rows[mask], unusable=self.unusable[mask], cells=self.cells.only(mask)
        )

    @classmethod
    def joined(cls, older: CellTable, newer: CellTable) -> CellTable:
        """Two tables one below the other; where they differ in their bins, the newer ones count."""
        return cls(
            {**older.digests, **newer.digests},
            {**older.complete_since, **newer.complete_since},
            (*older.keys, *newer.keys),
            np.concatenate([older.rows, newer.rows]),
            np.concatenate([older.unusable, newer.unusable]),
            Sparse.joined([older.cells, newer.cells], [len(older.keys), len(newer.keys)]),
        )

    def total(self, mask: Mask, size: int) -> CellCounts:
        """What some of the buckets add up to, of bins with so many cells.

        Raises:
            SnapshotFormatError: A cell that these bins do not have.
        """
        cells = np.zeros(size, np.int64)
        kept = mask[self.cells.row]
        numbers = self.cells.keys[kept, 0]
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < size:
            raise SnapshotFormatError("cells that the baseline's bins do not have")
        np.add.at(cells, numbers, self.cells.count[kept])
        return CellCounts(cells, int(self.rows[mask].sum()), int(self.unusable[mask].sum()))


def _filled(cells: npt.NDArray[np.int64]) -> list[tuple[tuple[int], int]]:
    filled = np.flatnonzero(cells)
    return [((code,), count) for code, count in zip(filled.tolist(), cells[filled].tolist(), strict=True)]
