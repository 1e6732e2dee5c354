"""A baseline that is prepared once, so that many windows are compared with it without sorting it again."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator, Sequence
from typing import Any, final

import attrs
import numpy as np
import numpy.typing as npt
from typing_extensions import override

from mlserve.drift._columns import Column, Kind
from mlserve.drift._evidence import OrderedSample, count_present, ordered_sample
from mlserve.drift._policy import DriftPolicy
from mlserve.drift._tables import Table, check_declared, table
from mlserve.errors import InvalidArgumentError
from mlserve.numerics import SortedReference
from mlserve.records import InputSample

REFERENCES_KEPT = 8
"""Versions whose prepared baselines are kept: more than are ever watched at once, few enough to forget old ones."""

MOST_TOGETHER = 32
"""Ordered features that are sorted, and later tested, together: enough that calls cost little beside the work."""

FIT_BYTES = 2**25
"""Memory for the values that are put side by side to be sorted, in which one feature always finds room."""


@attrs.frozen(eq=False)
class OrderedBlock:
    """Ordered features of a baseline.

    Attributes:
        reference: Their values, sorted.
        samples: What is told of each.
    """

    reference: SortedReference
    samples: tuple[OrderedSample, ...]

    @classmethod
    def fit(cls, values: npt.NDArray[Any]) -> OrderedBlock:
        """Sort values of shape ``(n_samples, n_features)``; both numbers are at least 1."""
        reference = SortedReference(values)
        return cls(reference, tuple(ordered_sample(row) for row in reference.sorted_values))


@final
@attrs.frozen(eq=False)
class SortedColumn(Column):
    """An ordered feature of a prepared baseline: ``values`` are a sorted row of its block.

    Attributes:
        block: Where it is tested.
        position: Its place there.
        dtype: Of the values it was made of.
        n_distinct: How many distinct values it has, a missing one among them.
    """

    block: OrderedBlock = attrs.field(kw_only=True)
    position: int = attrs.field(kw_only=True)
    dtype: np.dtype[Any] = attrs.field(kw_only=True)
    n_distinct: int = attrs.field(kw_only=True)
    # Filled when it is first compared as categories. Two threads may do the same work, and either result will do.
    _tally: list[Counter[Any]] = attrs.field(factory=list, init=False)

    @override
    def category_counts(self) -> Counter[Any]:
        if not self._tally:
            self._tally.append(self.restored().category_counts())
        return self._tally[0]

    @override
    def has_few_values(self, limit: int) -> bool:
        return self.n_distinct <= limit

    def restored(self) -> Column:
        """The column it was made of, but for the order of its rows."""
        values = self.block.reference.sorted_values[self.position].astype(self.dtype, copy=False)
        return Column.ordered(values, self.kind, self.is_zoned)

    def suits(self, values: npt.NDArray[Any]) -> bool:
        """Whether values can be tested against the block: what has integers beyond 2**53 takes none of other kinds."""
        return self.block.reference.sorted_values.dtype.kind == "f" or values.dtype.kind == self.dtype.kind


@final
@attrs.frozen(eq=False)
class PreparedTable(Table):
    """A baseline whose features were read and sorted; ``columns`` holds them."""

    columns: tuple[Column, ...] = ()

    @override
    def column(self, index: int) -> Column:
        found = self.columns[index]
        return found.restored() if isinstance(found, SortedColumn) else found

    @override
    def check_columns(self) -> None:
        """Nothing: all were read."""


@final
@attrs.frozen(eq=False, repr=False)
class InputReference:
    """A baseline of inputs that was read, counted and sorted once, to compare many windows with ``compare_inputs``.

    What is found is equal, bit for bit, to what ``compare_inputs`` finds with the baseline itself. Of numbers and times
    it keeps a sorted copy, eight bytes a value, and a few thousand cuts of it for each size of window; of categories
    how often each occurs. The baseline itself is not kept.

    *Thread safety*: immutable; any number of threads may compare with it at once.

    Attributes:
        feature_names: Names of the features.
        categorical: Names of those that were declared to be categories.
        policy: Thresholds where a comparison is given none.
        n_samples: Rows of the baseline.

    Example:
        >>> import numpy as np
        >>> from mlserve.drift import compare_inputs
        >>> rng = np.random.default_rng(3)
        >>> before = rng.normal(size=(5000, 2))
        >>> reference = InputReference.fit(before, feature_names=["calm", "moved"])
        >>> for shift in (0.0, 0.5):
        ...     after = rng.normal(size=(1000, 2)) + [0.0, shift]
        ...     print([feature.name for feature in compare_inputs(reference, after).drifted_features])
        []
        ['moved']
    """

    feature_names: tuple[str, ...]
    categorical: frozenset[str]
    policy: DriftPolicy
    n_samples: int
    _table: PreparedTable

    @classmethod
    def fit(
        cls,
        baseline: Any,
        *,
        feature_names: Sequence[str] | None = None,
        categorical: Sequence[str] = (),
        policy: DriftPolicy | None = None,
    ) -> InputReference:
        """Prepare a baseline.

        Args:
            baseline: As in ``compare_inputs``, but in memory. Not changed.
            feature_names: As in ``compare_inputs``.
            categorical: As in ``compare_inputs``.
            policy: Thresholds where a comparison is given none.

        Raises:
            InvalidArgumentError: As in ``compare_inputs``; an iterator of tables.
        """
        if isinstance(baseline, Iterator):
            raise InvalidArgumentError(
                "baseline", baseline, "a table in memory",
                hint="What comes in chunks is compared without being prepared: compare_inputs(chunks, recent).",
            )  # fmt: skip
        found = table("baseline", baseline, feature_names)
        check_declared(categorical, found.names)
        declared = frozenset(categorical)
        prepared = PreparedTable(found.parameter, found.names, found.n_rows, None, columns=_prepared(found, declared))
        return cls(found.names, declared, policy if policy is not None else DriftPolicy(), found.n_rows, prepared)

    @override
    def __repr__(self) -> str:
        return f"InputReference(n_samples={self.n_samples}, n_features={len(self.feature_names)})"

    def table(self, feature_names: Sequence[str] | None, categorical: Sequence[str]) -> PreparedTable:
        """The baseline as a table.

        Raises:
            InvalidArgumentError: Names are given that are not those it was prepared with.
        """
        if feature_names is not None and tuple(feature_names) != self.feature_names:
            raise InvalidArgumentError(
                "feature_names", list(feature_names)[:8],
                f"the names the reference was fitted with: {', '.join(self.feature_names[:8])}",
                hint="Leave them out, or fit a reference of these features.",
            )  # fmt: skip
        if categorical and frozenset(categorical) != self.categorical:
            raise InvalidArgumentError(
                "categorical", list(categorical)[:8],
                f"the names the reference was fitted with: {', '.join(sorted(self.categorical)[:8]) or 'none'}",
                hint="Leave them out, or fit a reference with these.",
            )  # fmt: skip
        return self._table


@final
class KeptReferences:
    """Prepares the baseline of each version once; the newest few are kept.

    *Thread safety*: yes. Two threads that ask for the same one at once may prepare it twice.

    Args:
        policy: Thresholds.
    """

    def __init__(self, policy: DriftPolicy) -> None:
        self._policy = policy
        self._lock = threading.Lock()
        self._fitted: OrderedDict[str, tuple[InputSample, InputReference]] = OrderedDict()

    def reference(self, version_id: str, baseline: InputSample) -> InputReference:
        """The baseline of a version, prepared.

        Raises:
            InvalidArgumentError: As ``InputReference.fit``.
        """
        with self._lock:
            known = self._fitted.get(version_id)
            if known is not None and known[0] is baseline:
                self._fitted.move_to_end(version_id)
                return known[1]
        fitted = InputReference.fit(baseline.rows, feature_names=baseline.feature_names, policy=self._policy)
        with self._lock:
            self._fitted[version_id] = baseline, fitted
            self._fitted.move_to_end(version_id)
            if len(self._fitted) > REFERENCES_KEPT:
                self._fitted.popitem(last=False)
        return fitted


def _prepared(found: Table, declared: Collection[str]) -> tuple[Column, ...]:
    """The columns of a table, the ordered ones sorted."""
    columns: dict[int, Column] = {}
    width = min(MOST_TOGETHER, max(1, FIT_BYTES // (8 * max(1, found.n_rows))))
    waiting: dict[str, dict[int, Column]] = {}
    for index, name in enumerate(found.names):
        column = found.column(index)
        if name in declared:
            column = column.as_kind(Kind.CATEGORICAL)
        if column.values is None or not column.size:
            columns[index] = column
            continue
        dtype = column.values.dtype.str
        group = waiting.setdefault(dtype, {})
        group[index] = column
        if len(group) == width:
            columns.update(_sorted(waiting.pop(dtype)))
    for group in waiting.values():
        columns.update(_sorted(group))
    return tuple(columns[index] for index in range(found.n_features))


def _sorted(group: dict[int, Column]) -> Iterator[tuple[int, SortedColumn]]:
    values = [column.values for column in group.values() if column.values is not None]
    # Feature by feature in memory, as the sort wants them.
    block = OrderedBlock.fit(np.stack(values).T)
    for position, (index, column) in enumerate(group.items()):
        row = block.reference.sorted_values[position]
        yield index, SortedColumn(
            column.kind, column.size, row, is_integral=column.is_integral, is_zoned=column.is_zoned,
            block=block, position=position, dtype=values[position].dtype, n_distinct=_count_distinct(row),
        )  # fmt: skip


def _count_distinct(ordered: npt.NDArray[Any]) -> int:
    present = ordered[: count_present(ordered)]
    changes = int(np.count_nonzero(present[1:] != present[:-1]))
    return changes + (present.size > 0) + (present.size < ordered.size)
