"""The inputs of a block of requests, as far as they were kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import attrs
import numpy as np
import numpy.typing as npt

from mlserve._stacking import stacked

MOST_BYTES = 1024
"""Of a row in a table. Of longer ones the numbers take the memory, not that they are objects, and to join tables of
them would copy it."""

NUMBERS = frozenset("biuf")


class Thinned(NamedTuple):
    """An input that was kept while others were not.

    Attributes:
        cut: The share of inputs not kept at that time: those whose priority is below it.
        input: The input.
    """

    cut: float
    input: Any


@attrs.frozen(eq=False, repr=False)
class Dropped:
    """Stands for an input that was not kept.

    Attributes:
        cut: As in ``Thinned``.
        until: Seconds since 1970 after which this cut is out of date and every input is kept until the next one.
    """

    cut: float
    until: float = math.inf


@attrs.define(eq=False, repr=False)
class KeptInputs:
    """Inputs of requests; of those that came in a burst, the ones that were drawn.

    Tens of thousands of them stay: rows of ten numbers take a third of the memory in a table, and are taken in and let
    go together.

    Attributes:
        count: Requests.
        values: Inputs that were kept, as ``compact`` leaves them.
        rows: Whose they are, ascending; None where nothing was thinned.
        cuts: For each one kept the cut by which it was, 0 where it would have been kept anyway; None as ``rows``.
        highest: The highest cut by which a request was kept or dropped.
    """

    count: int
    values: npt.NDArray[Any]
    rows: npt.NDArray[np.intp] | None = None
    cuts: npt.NDArray[np.float64] | None = None
    highest: float = 0.0

    @classmethod
    def of(cls, inputs: Sequence[Any]) -> KeptInputs:
        """Inputs as they wait, ``Thinned`` and ``Dropped`` among them."""
        count, kinds = len(inputs), set(map(type, inputs))
        if Dropped not in kinds and Thinned not in kinds:
            return cls(count, compact(inputs))
        rows = [row for row, value in enumerate(inputs) if type(value) is not Dropped]
        kept = [inputs[row] for row in rows]
        cuts = np.array([value.cut if type(value) is Thinned else 0.0 for value in kept])
        dropped = {id(value): value.cut for value in inputs if type(value) is Dropped}  # few objects, many times
        return cls(
            count,
            compact([value.input if type(value) is Thinned else value for value in kept]),
            np.array(rows, np.intp),
            cuts,
            max(*dropped.values(), float(cuts.max(initial=0.0)), 0.0),
        )

    @classmethod
    def joined(cls, parts: Sequence[KeptInputs]) -> KeptInputs:
        """Several, one after the other."""
        count, values = sum(part.count for part in parts), compacted([part.values for part in parts])
        if all(part.rows is None for part in parts):
            return cls(count, values)
        first, rows, cuts = 0, [], []
        for part in parts:
            own = np.arange(part.count) if part.rows is None else part.rows
            rows.append(own + first)
            cuts.append(np.zeros(own.size) if part.cuts is None else part.cuts)
            first += part.count
        return cls(count, values, np.concatenate(rows), np.concatenate(cuts), max(part.highest for part in parts))

    def __len__(self) -> int:
        return self.count

    def thinned(self, rows: npt.NDArray[np.intp], cut: float) -> KeptInputs:
        """Some of the inputs, all of which were kept, as if the others had been dropped by a cut."""
        return KeptInputs(self.count, self.values[rows], rows, np.full(rows.size, cut), cut)

    def get(self, row: int) -> Any:
        """The input of a request; None where it was not kept."""
        if self.rows is None:
            return self.values[row]
        place = int(self.rows.searchsorted(row))
        return self.values[place] if place < self.rows.size and self.rows[place] == row else None

    def only(self, rows: Sequence[int]) -> KeptInputs:
        """The inputs of some requests, which ascend."""
        if self.rows is None or self.cuts is None:
            return KeptInputs(len(rows), self.values[rows])
        places = np.flatnonzero(np.isin(self.rows, rows))
        return KeptInputs(
            len(rows),
            self.values[places],
            np.searchsorted(rows, self.rows[places]),
            self.cuts[places],
            self.highest,
        )


NO_INPUTS = KeptInputs(0, np.empty(0, object))


def compact(values: Any) -> npt.NDArray[Any]:
    """Values as a new array with one item or row for each: rows of numbers as a table, anything else as objects."""
    if is_table(values):
        return values.copy()  # type: ignore[no-any-return]  # a table is an array
    first = values[0] if len(values) else None
    if type(first) is np.ndarray and first.ndim == 1 and _is_short(first[np.newaxis]):
        table = stacked(values, first.dtype, first.size)
        if table is not None:
            return table
    # One by one: an assignment of the whole would unpack arrays.
    return np.fromiter(values, object, len(values))


def is_table(values: Any) -> bool:
    """Whether values are an array of short rows of numbers."""
    return type(values) is np.ndarray and values.ndim == 2 and _is_short(values)


def _is_short(rows: npt.NDArray[Any]) -> bool:
    return rows.dtype.kind in NUMBERS and 0 < rows.nbytes <= MOST_BYTES * len(rows)


def compacted(parts: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Arrays of values, one after the other."""
    filled = [part for part in parts if len(part)]
    if not filled:
        return parts[0]
    first = filled[0]
    if all(part.dtype == first.dtype and part.shape[1:] == first.shape[1:] for part in filled):
        return np.concatenate(filled)
    return np.fromiter(chain.from_iterable(map(_items, filled)), object, sum(map(len, filled)))


def _items(part: npt.NDArray[Any]) -> list[Any]:
    # A view would keep its whole table.
    return [row.copy() for row in part] if part.ndim > 1 else list(part)
