"""A sample that comes in chunks, and is never held whole, against one in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, final

import attrs
import numpy as np
import numpy.typing as npt

from mlserve._progress import progressed
from mlserve.drift._columns import Column, Kind, common_kind
from mlserve.drift._evidence import Comparison, OrderedSample, categorical_feature, ordered_feature
from mlserve.drift._grids import ValueGrid
from mlserve.drift._policy import DriftPolicy
from mlserve.drift._tables import Table, check_declared, check_width, table, table_like
from mlserve.errors import InvalidArgumentError
from mlserve.numerics import ks_pvalue
from mlserve.records import FeatureDrift

ROWS_SAMPLED = 4096
"""Rows of the chunks that are kept to show their quantiles. The distribution function of so many is within 0.022 of
that of all, with a probability of 95 %: √(ln(2/0.05)/(2·4096)) = 0.0212 (Massart, "The tight constant in the
Dvoretzky-Kiefer-Wolfowitz inequality", Annals of Probability 18, 1990)."""

SEED = 0
"""Of the choice of these rows. It touches no test, and one and the same table shall look the same each time."""

MOST_CATEGORIES = 2**20
"""Distinct values of a feature of categories, at most: they are what grows with the data."""

METHOD = "as if without ties"


def is_chunked(value: Any) -> bool:
    """Whether a sample is an iterator of tables."""
    return isinstance(value, Iterator)


def compare_chunks(
    baseline: Any,
    recent: Any,
    *,
    feature_names: Sequence[str] | None,
    categorical: Sequence[str],
    policy: DriftPolicy,
    progress: bool | None,
) -> Comparison:
    """Compare two samples of which one is an iterator of tables; arguments and errors as in ``compare_inputs``."""
    if is_chunked(baseline) and is_chunked(recent):
        raise InvalidArgumentError(
            "recent", recent, "in memory where the baseline comes in chunks",
            hint="Read the smaller of the two as one table, for example with pandas.concat, or take a sample of it.",
        )  # fmt: skip
    parameter, chunks, other = ("baseline", baseline, recent) if is_chunked(baseline) else ("recent", recent, baseline)
    gathering = _Gathering(parameter, other, feature_names, categorical, policy)
    for chunk in progressed(chunks, label=parameter, show=progress):
        gathering.take(chunk)
        # The next one may need its room.
        del chunk
    return gathering.finished()


def _is_empty(chunk: Any) -> bool:
    # A chunk without rows need not even have the columns of the others.
    try:
        return len(chunk) == 0
    except TypeError:  # what has no length is no table, which will be said
        return False


@final
class _Gathering:
    """What was gathered of all features.

    Args:
        parameter: What comes in chunks: ``"baseline"`` or ``"recent"``.
        other: The sample in memory.
        feature_names: As in ``compare_inputs``.
        categorical: As in ``compare_inputs``.
        policy: Thresholds.
    """

    def __init__(
        self,
        parameter: str,
        other: Any,
        feature_names: Sequence[str] | None,
        categorical: Sequence[str],
        policy: DriftPolicy,
    ) -> None:
        self._parameter = parameter
        self._is_reference = parameter == "baseline"
        self._other = other
        self._feature_names = feature_names
        self._categorical = categorical
        self._policy = policy
        self._n_chunks = 0
        self._n_rows = 0
        self._sample = _RowSample()
        # Known from the first chunk on where the baseline comes in chunks.
        self._held: Table | None = None
        self._names: tuple[str, ...] = ()
        self._features: list[_Feature] = []
        if not self._is_reference:
            held = table("baseline", other, feature_names)
            self._begin(held.names, held)

    def take(self, chunk: Any) -> None:
        """Take a chunk in, and forget it."""
        self._n_chunks += 1
        where = f"chunk {self._n_chunks} of {self._parameter}"
        if _is_empty(chunk):
            return
        if self._held is None:
            found = table(where, chunk, self._feature_names)
            if found.n_rows:
                self._begin(found.names, table_like(found.names, "recent", self._other))
        else:
            found = table_like(self._names, where, chunk)
        check_width(len(self._names), "the first chunk" if self._is_reference else "the baseline", found)
        if found.matrix is not None:
            # Feature by feature in memory: reading one of rows side by side reads them all.
            found = attrs.evolve(found, matrix=np.asfortranarray(found.matrix))
        picked = self._sample.pick(found.n_rows)
        for index, feature in enumerate(self._features if found.n_rows else ()):
            feature.add(where, found.column(index), picked)
        self._n_rows += found.n_rows

    def _begin(self, names: tuple[str, ...], held: Table) -> None:
        check_width(len(names), "the baseline", held)
        check_declared(self._categorical, names)
        self._names, self._held = names, held
        self._features = [
            _Feature(name, index, held, self._policy, name in self._categorical, self._is_reference)
            for index, name in enumerate(names)
        ]

    def finished(self) -> Comparison:
        """What was found, the chunks being all."""
        held, policy = self._held, self._policy
        if held is None:
            held = table("recent", self._other, self._feature_names)
            self._begin(held.names, held)
        sizes = (self._n_rows, held.n_rows) if self._is_reference else (held.n_rows, self._n_rows)
        if min(sizes) < policy.min_samples:
            held.check_columns()
            return Comparison(self._names, *sizes, None)
        compared = [feature.compared() for feature in self._features]
        distances = np.array([0.0 if isinstance(one, FeatureDrift) else one.distance for one in compared])
        p_values: Any = ks_pvalue(distances, *sizes)
        features = [
            one if isinstance(one, FeatureDrift) else one.record(p_value, policy)
            for one, p_value in zip(compared, p_values.tolist(), strict=True)
        ]
        return Comparison(self._names, *sizes, features)


@attrs.frozen(eq=False)
class _Picked:
    """Rows of a chunk that go into the sample, and the places they take there."""

    rows: npt.NDArray[np.intp]
    places: npt.NDArray[np.int64]


@final
class _RowSample:
    """Which rows of all that were seen are kept: each is with the same chance, however the rows are cut into chunks.

    Algorithm R of Vitter ("Random sampling with a reservoir", ACM Transactions on Mathematical Software 11, 1985), a
    chunk at a time.
    """

    def __init__(self) -> None:
        self._generator = np.random.default_rng(SEED)
        self._seen = 0

    def pick(self, n_rows: int) -> _Picked:
        """What the next rows change in the sample."""
        numbers = np.arange(self._seen, self._seen + n_rows)
        places = (self._generator.random(n_rows) * (numbers + 1)).astype(np.int64)
        places[numbers < ROWS_SAMPLED] = numbers[numbers < ROWS_SAMPLED]
        self._seen += n_rows
        # From the last: of several rows that fall on one place, that one stays.
        rows = np.flatnonzero(places < ROWS_SAMPLED)[::-1]
        taken, which = np.unique(places[rows], return_index=True)
        return _Picked(rows[which], taken)


@attrs.frozen(eq=False)
class _Ordered:
    """A feature of numbers or times that waits for its p-value."""

    name: str
    kind: Kind
    before: OrderedSample
    after: OrderedSample
    heights: tuple[float, float]
    ties: bool

    @property
    def distance(self) -> float:
        """D."""
        return max(self.heights)

    def record(self, p_value: float, policy: DriftPolicy) -> FeatureDrift:
        """The feature with its evidence."""
        return ordered_feature(
            self.name,
            self.kind,
            self.before,
            self.after,
            distance=self.distance,
            sign=1 if self.heights[0] >= self.heights[1] else -1,
            p_value=p_value,
            method=METHOD,
            ties=self.ties,
            policy=policy,
        )


@final
class _Feature:
    """What was gathered of one feature.

    Args:
        name: The feature's.
        index: Its place in the sample in memory.
        held: The sample in memory.
        policy: Thresholds.
        is_declared: Whether it is one of categories, whatever it looks like.
        is_reference: Whether the chunks are the baseline.
    """

    def __init__(
        self, name: str, index: int, held: Table, policy: DriftPolicy, is_declared: bool, is_reference: bool
    ) -> None:
        self._name = name
        self._index = index
        self._table = held
        self._limit = policy.max_categories
        self._policy = policy
        self._is_declared = is_declared
        self._is_reference = is_reference
        # Of the chunks: what they hold, and rows of those that hold no value.
        self._kind: Kind | None = None
        self._is_integral = True
        self._is_zoned: bool | None = None
        self._missing = 0
        # How they are compared, from the first value on: by a grid, or by counts beside those of the sample in memory.
        self._is_decided = False
        self._way: Kind | None = None
        self._grid: ValueGrid | None = None
        self._rows = np.empty(0)
        self._held: Column | None = None
        # Beside a grid: of integers that may turn out to be few enough to be categories.
        self._counts: Counter[Any] | None = None

    def add(self, where: str, column: Column, picked: _Picked) -> None:
        """Take in the feature's values in a chunk that has rows."""
        self._is_integral = self._is_integral and column.is_integral
        if column.is_all_missing:
            self._kind = self._kind or column.kind
            self._missing += column.size
            if self._grid is not None:
                self._rows[picked.places] = np.nan
            return
        if not self._is_decided:
            self._decide(column)
        self._check(where, column)
        if self._grid is None:
            assert self._counts is not None
            self._counts.update(column.category_counts())
        else:
            values = column.as_kind(self._way).values
            assert values is not None
            if self._grid.dtype.kind != "f" and values.dtype.kind != self._grid.dtype.kind:
                raise InvalidArgumentError(
                    where, values.dtype, f"integers in column {self._name!r}, as in the chunks before",
                    hint="Integers beyond 2**53 are not exact as floats: give the column one dtype in all chunks.",
                )  # fmt: skip
            self._grid.add(values)
            self._rows[picked.places] = values[picked.rows]
            self._tally(column)
        if self._counts is not None and len(self._counts) > MOST_CATEGORIES:
            raise InvalidArgumentError(
                where, self._name, f"columns of at most {MOST_CATEGORIES} categories",
                hint="Leave out what names single rows: pass feature_names without it.",
            )  # fmt: skip

    def _tally(self, column: Column) -> None:
        # Integers are categories if the baseline, be it in chunks or not, has few of them.
        if self._counts is None:
            return
        if not column.is_integral or (self._is_reference and not column.has_few_values(self._limit)):
            self._counts = None
            return
        self._counts.update(column.category_counts())
        if self._is_reference and len(self._counts) > self._limit:
            self._counts = None

    def _decide(self, column: Column) -> None:
        """Choose how the feature is compared, by the rules of tables in memory."""
        self._is_decided = True
        self._kind = column.kind
        held = self._table.column(self._index)
        pair = (column, held) if self._is_reference else (held, column)
        self._way = common_kind(*pair, is_declared=self._is_declared)
        values, first = held.as_kind(self._way).values, column.as_kind(self._way).values
        if values is None or first is None:
            self._held = held.as_kind(self._way)
            self._counts = Counter()
            return
        # Integers against floats: equal as far as a float can tell.
        self._grid = ValueGrid(values if values.dtype.kind == first.dtype.kind else values.astype(np.float64))
        self._rows = np.full(ROWS_SAMPLED, np.nan)
        if held.is_integral and column.is_integral and (self._is_reference or held.has_few_values(self._limit)):
            self._counts = Counter()

    def _check(self, where: str, column: Column) -> None:
        if column.kind is not self._kind:
            raise InvalidArgumentError(
                where, f"{column.kind} values in column {self._name!r}", f"{self._kind} there, as in the chunks before",
                hint="Give the column one type in all chunks; readers of files take one as an argument.",
            )  # fmt: skip
        if self._is_zoned is None:
            self._is_zoned = column.is_zoned
        elif column.is_zoned is not self._is_zoned:
            raise InvalidArgumentError(
                where, self._name, "times that all have a zone or all have none; the chunks before differ"
            )

    def compared(self) -> FeatureDrift | _Ordered:
        """What was found, the chunks being all."""
        if not self._is_decided:
            assert self._kind is not None
            self._decide(Column.missing(0, self._kind))
        if self._grid is None:
            assert self._held is not None
            return self._categories(self._held)
        if self._counts is not None and self._is_integral:
            return self._categories(Column.counted(self._grid.held_counts()))
        return self._ordered(self._grid)

    def _ordered(self, grid: ValueGrid) -> _Ordered:
        assert self._way is not None
        grid.missing += self._missing
        held_above, chunks_above = grid.supremum()
        samples, heights = (grid.held, grid.chunks(self._rows)), (held_above, chunks_above)
        if self._is_reference:
            samples, heights = samples[::-1], heights[::-1]
        return _Ordered(self._name, self._way, *samples, heights, grid.has_ties)

    def _categories(self, held: Column) -> FeatureDrift:
        counts = Counter(self._counts)
        missing = counts.pop(None, 0) + self._missing
        if self._kind is Kind.NUMERIC and not self._is_integral:
            # What came as integers in some chunks only.
            numbers, counts = counts, Counter()
            for value, count in numbers.items():
                counts[float(value)] += count
        if missing:
            counts[None] = missing
        chunks = Column.counted(counts, held.kind)
        if self._way is None:
            chunks = chunks.as_text()
        pair = (chunks, held) if self._is_reference else (held, chunks)
        return categorical_feature(self._name, *pair, self._policy)
