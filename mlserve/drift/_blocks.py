"""Two samples in memory, compared in blocks of a few features, so that what is needed beside them stays small."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from mlserve._progress import progressed
from mlserve.drift._columns import Kind, matched
from mlserve.drift._evidence import categorical_feature, ordered_feature, ordered_sample
from mlserve.drift._policy import DriftPolicy
from mlserve.drift._tables import Table
from mlserve.numerics import SortedReference
from mlserve.records import FeatureDrift

BLOCK_BYTES = 2**22
"""Memory for the ordered features that are tested together, in which one of them always finds room. More of it is
slower: what was just written is then not in the cache any more."""

VALUE_BYTES = 8
"""Of a number that is sorted; as much again where it was put beside those of other features before."""


@attrs.frozen(eq=False)
class _Pair:
    """An ordered feature that waits for its test; ``values`` are those of the baseline and of the window."""

    index: int
    name: str
    kind: Kind
    values: tuple[npt.NDArray[Any], npt.NDArray[Any]]


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
    matrices = before.matrix, after.matrix
    copies = 1 if before.matrix is not None and before.matrix.dtype.kind == "f" else 2
    width = max(1, BLOCK_BYTES // (VALUE_BYTES * copies * (before.n_rows + after.n_rows)))
    # Ordered features of the same types share one vectorised test.
    waiting: dict[tuple[str, str], list[_Pair]] = {}
    for index in progressed(range(before.n_features), label="features", show=progress):
        name = before.names[index]
        first, second = matched(
            before.column(index),
            after.column(index),
            is_declared=name in declared,
            max_categories=policy.max_categories,
        )
        if first.values is None or second.values is None:
            found[index] = categorical_feature(name, first, second, policy)
            continue
        types = first.values.dtype.str, second.values.dtype.str
        group = waiting.setdefault(types, [])
        group.append(_Pair(index, name, first.kind, (first.values, second.values)))
        if len(group) == width:
            found.update(_tested(waiting.pop(types), matrices, policy))
    for group in waiting.values():
        found.update(_tested(group, matrices, policy))
    return [found[index] for index in range(before.n_features)]


def _tested(
    group: list[_Pair], matrices: tuple[npt.NDArray[Any] | None, npt.NDArray[Any] | None], policy: DriftPolicy
) -> dict[int, FeatureDrift]:
    kinds = {values.dtype.kind for values in group[0].values}
    # Integers against floats: equal as far as a float can tell.
    dtype = np.float64 if len(kinds) > 1 else None
    reference, current = (_side(group, side, matrices[side], dtype) for side in (0, 1))
    sorted_reference = SortedReference(reference)
    result: Any = sorted_reference.ks_2samp(current)
    window = np.array(current.T, order="C")
    window.sort(axis=1)
    return {
        pair.index: ordered_feature(
            pair.name,
            pair.kind,
            ordered_sample(sorted_reference.sorted_values[position]),
            ordered_sample(window[position]),
            distance=float(result.statistic[position]),
            sign=int(result.statistic_sign[position]),
            p_value=float(result.pvalue[position]),
            method=str(result.method[position]),
            ties=bool(result.ties[position]),
            policy=policy,
        )
        for position, pair in enumerate(group)
    }


def _side(
    group: list[_Pair], side: int, matrix: npt.NDArray[Any] | None, dtype: type[np.float64] | None
) -> npt.NDArray[Any]:
    """The values of one side, shape ``(n_samples, n_features)``: a view of what the caller gave where that is one."""
    first, last = group[0].index, group[-1].index
    if len(group) == 1:
        values = group[0].values[side][:, np.newaxis]
    elif matrix is not None and last - first == len(group) - 1:
        values = matrix[:, first : last + 1]
    else:
        # Feature by feature in memory, as the test wants them.
        return np.stack([pair.values[side] for pair in group], dtype=dtype).T
    return values if dtype is None else values.astype(dtype)
