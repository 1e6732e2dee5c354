"""Two samples in memory, compared in blocks of a few features, so that what is needed beside them stays small."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from mlserve._progress import progressed
from mlserve.drift._columns import Column, Kind, matched
from mlserve.drift._evidence import categorical_feature, ordered_feature, ordered_sample
from mlserve.drift._policy import DriftPolicy
from mlserve.drift._references import OrderedBlock, PreparedTable, SortedColumn
from mlserve.drift._tables import Table
from mlserve.numerics._ks import sort_and_test
from mlserve.numerics._ks_pvalues import EXACT_TIES_LIMIT
from mlserve.records import FeatureDrift

BLOCK_BYTES = 2**22
"""Memory for the ordered features that are tested together, in which one of them always finds room. More of it is
slower: what was just written is then not in the cache any more."""

VALUE_BYTES = 8
"""Of a number that is sorted; as much again where it was put beside those of other features before."""

SMALL_WIDTH = BLOCK_BYTES // (2 * VALUE_BYTES * EXACT_TIES_LIMIT)
"""Features that are tested together where p-values are exact. It is one number for all sizes, because the last bits of
an exact p-value depend on what else is computed with it: a baseline shall give the same prepared or not."""


@attrs.frozen(eq=False)
class _Window:
    """An ordered feature that waits for its test; ``values`` are those of the window."""

    index: int
    name: str
    kind: Kind
    values: npt.NDArray[Any]


@attrs.frozen(eq=False)
class _Pair(_Window):
    """One of which the baseline's values wait, too."""

    reference: npt.NDArray[Any]


@attrs.frozen(eq=False)
class _Run:
    """Features that wait for their test, and stand side by side in a prepared block from ``first`` on."""

    block: OrderedBlock
    dtype: np.dtype[Any]
    first: int
    windows: list[_Window]


def compare_tables(
    before: Table, after: Table, declared: Collection[str], policy: DriftPolicy, progress: bool | None
) -> list[FeatureDrift]:
    """Every feature with its evidence, not judged yet, in the order of the data.

    Args:
        before: The baseline, of at least one row.
        after: The window, of at least one row and as many features.
        declared: Names of the features that are categories whatever they look like.
        policy: Thresholds.
        progress: As in ``compare_inputs``.
    """
    found: dict[int, FeatureDrift] = {}
    waiting = _Waiting(before, after, policy, found)
    for index in progressed(range(before.n_features), label="features", show=progress):
        name = before.names[index]
        first, second = matched(
            waiting.baseline_column(index),
            after.column(index),
            is_declared=name in declared,
            max_categories=policy.max_categories,
        )
        if first.values is None or second.values is None:
            found[index] = categorical_feature(name, first, second, policy)
        elif isinstance(first, SortedColumn) and first.suits(second.values):
            waiting.add_window(first, _Window(index, name, first.kind, second.values))
        else:
            values = first.restored().values if isinstance(first, SortedColumn) else first.values
            assert values is not None
            waiting.add_pair(_Pair(index, name, first.kind, second.values, values))
    waiting.test_all()
    return [found[index] for index in range(before.n_features)]


class _Waiting:
    """Ordered features of the same types, which share a vectorised test.

    Args:
        before: The baseline.
        after: The window.
        policy: Thresholds.
        found: Where the features go.
    """

    def __init__(self, before: Table, after: Table, policy: DriftPolicy, found: dict[int, FeatureDrift]) -> None:
        self._before = before
        self._matrices = before.matrix, after.matrix
        self._policy = policy
        self._found = found
        n_rows = before.n_rows + after.n_rows
        copies = 1 if before.matrix is not None and before.matrix.dtype.kind == "f" else 2
        # The exact p-values of small samples cost much more than a sort.
        self._is_small = n_rows <= EXACT_TIES_LIMIT
        self._width = SMALL_WIDTH if self._is_small else max(1, BLOCK_BYTES // (VALUE_BYTES * copies * n_rows))
        self._run_width = max(1, BLOCK_BYTES // (VALUE_BYTES * 2 * after.n_rows))
        self._pairs: dict[tuple[str, str], list[_Pair]] = {}
        self._runs: dict[tuple[int, str], _Run] = {}

    def baseline_column(self, index: int) -> Column:
        """A feature of the baseline, sorted where it is prepared and that is of use."""
        if self._is_small or not isinstance(self._before, PreparedTable):
            return self._before.column(index)
        return self._before.columns[index]

    def add_pair(self, pair: _Pair) -> None:
        types = pair.reference.dtype.str, pair.values.dtype.str
        group = self._pairs.setdefault(types, [])
        group.append(pair)
        if len(group) == self._width:
            self._test_pairs(self._pairs.pop(types))

    def add_window(self, column: SortedColumn, window: _Window) -> None:
        key = id(column.block), window.values.dtype.str
        run = self._runs.get(key)
        if run is not None and run.first + len(run.windows) != column.position:
            self._test_run(self._runs.pop(key))
            run = None
        if run is None:
            run = self._runs[key] = _Run(column.block, column.dtype, column.position, [])
        run.windows.append(window)
        if len(run.windows) == self._run_width:
            self._test_run(self._runs.pop(key))

    def test_all(self) -> None:
        for pairs in self._pairs.values():
            self._test_pairs(pairs)
        for run in self._runs.values():
            self._test_run(run)

    def _test_pairs(self, pairs: list[_Pair]) -> None:
        before = self._matrices[0]
        dtype = _common_dtype(pairs[0].reference.dtype, pairs[0].values)
        reference = _side([pair.index for pair in pairs], [pair.reference for pair in pairs], before, dtype)
        self._test(OrderedBlock.fit(reference), 0, pairs, dtype)

    def _test_run(self, run: _Run) -> None:
        self._test(run.block, run.first, run.windows, _common_dtype(run.dtype, run.windows[0].values))

    def _test(
        self, block: OrderedBlock, first: int, windows: Sequence[_Window], dtype: type[np.float64] | None
    ) -> None:
        indices = [window.index for window in windows]
        current = _side(indices, [window.values for window in windows], self._matrices[1], dtype)
        result: Any
        result, rows = sort_and_test(block.reference, current, slice(first, first + len(windows)))
        for position, window in enumerate(windows):
            self._found[window.index] = ordered_feature(
                window.name,
                window.kind,
                block.samples[first + position],
                ordered_sample(rows[position]),
                distance=float(result.statistic[position]),
                sign=int(result.statistic_sign[position]),
                p_value=float(result.pvalue[position]),
                method=str(result.method[position]),
                ties=bool(result.ties[position]),
                policy=self._policy,
            )


def _common_dtype(reference: np.dtype[Any], values: npt.NDArray[Any]) -> type[np.float64] | None:
    # Integers against floats: equal as far as a float can tell.
    return np.float64 if reference.kind != values.dtype.kind else None


def _side(
    indices: list[int],
    columns: list[npt.NDArray[Any]],
    matrix: npt.NDArray[Any] | None,
    dtype: type[np.float64] | None,
) -> npt.NDArray[Any]:
    """The values of one side, shape ``(n_samples, n_features)``: a view of what the caller gave where that is one."""
    if len(columns) == 1:
        values = columns[0][:, np.newaxis]
    elif matrix is not None and indices[-1] - indices[0] == len(indices) - 1:
        values = matrix[:, indices[0] : indices[-1] + 1]
    else:
        # Feature by feature in memory, as the test wants them.
        return np.stack(columns, dtype=dtype).T
    return values if dtype is None else values.astype(dtype)
