"""Buckets of traffic as columns: what a snapshot carries, and what a merged monitor reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import attrs
import numpy as np
import numpy.typing as npt

from mlserve.errors import SnapshotFormatError
from mlserve.monitors._windows import ClassPair, OutcomeSummary, TrafficSummary
from mlserve.numerics._sketches import LatencyHistogram, Moments

Mask = npt.NDArray[np.bool_]
Columns = dict[str, npt.NDArray[Any]]

FOREVER = 0
"""The width of the one bucket that holds all that was ever recorded of a version."""


class BucketKey(NamedTuple):
    """Names one bucket: version, width in microseconds, number."""

    version_id: str | None
    width: int
    number: int


@attrs.frozen(eq=False)
class Sparse:
    """Counts of things within buckets: of each bucket only what occurred.

    Attributes:
        row: The bucket, int32, shape ``(n,)``.
        keys: What was counted, one or two columns of codes, shape ``(n, n_keys)``, int32.
        count: How often, int64.
    """

    row: npt.NDArray[np.int32]
    keys: npt.NDArray[np.int32]
    count: npt.NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[Iterable[tuple[tuple[int, ...], int]]], n_keys: int) -> Sparse:
        """From (codes, count) of each bucket."""
        listed = [(row, codes, count) for row, counted in enumerate(rows) for codes, count in counted]
        return cls(
            np.array([row for row, _, _ in listed], np.int32),
            np.array([codes for _, codes, _ in listed], np.int32).reshape(-1, n_keys),
            np.array([count for _, _, count in listed], np.int64),
        )

    @classmethod
    def from_columns(cls, name: str, columns: Mapping[str, npt.NDArray[Any]], n_rows: int, n_keys: int) -> Sparse:
        """From the columns of a snapshot, checked."""
        row, keys, count = (columns[f"{name}_{part}"] for part in ("row", "keys", "count"))
        n = len(row)
        if keys.shape != (n, n_keys) or count.shape != (n,) or (n and not 0 <= row.min() <= row.max() < n_rows):
            raise SnapshotFormatError(f"columns of {name} that do not fit each other")
        return cls(row, keys, count)

    def columns(self, name: str) -> Columns:
        """As columns of a snapshot."""
        return {f"{name}_row": self.row, f"{name}_keys": self.keys, f"{name}_count": self.count}

    def only(self, mask: Mask) -> Sparse:
        """Of some buckets, which are renumbered."""
        kept = mask[self.row]
        numbers = np.cumsum(mask, dtype=np.int32) - 1
        return Sparse(numbers[self.row[kept]].astype(np.int32), self.keys[kept], self.count[kept])

    def recoded(self, codes: Sequence[npt.NDArray[np.int32]]) -> Sparse:
        """With other codes, one mapping a key."""
        keys = [mapping[self.keys[:, index]] for index, mapping in enumerate(codes)]
        return attrs.evolve(self, keys=np.stack(keys, axis=1) if self.row.size else self.keys)

    @classmethod
    def joined(cls, parts: Sequence[Sparse], sizes: Sequence[int]) -> Sparse:
        """Of tables one below the other, with so many buckets each."""
        offsets = np.cumsum([0, *sizes[:-1]])
        return cls(
            np.concatenate([part.row + np.int32(offset) for part, offset in zip(parts, offsets, strict=True)]),
            np.concatenate([part.keys for part in parts]),
            np.concatenate([part.count for part in parts]),
        )

    def histogram(self, mask: Mask) -> LatencyHistogram:
        """The sum over some buckets, where the keys are bins."""
        kept = mask[self.row]
        bins = self.keys[kept, 0]
        if not bins.size:
            return LatencyHistogram()
        counts = np.zeros(int(bins.max()) - int(bins.min()) + 1, np.int64)
        np.add.at(counts, bins - bins.min(), self.count[kept])
        return LatencyHistogram(int(bins.min()), counts)

    def total(self, mask: Mask) -> Counter[tuple[int, ...]]:
        """The sum over some buckets by codes."""
        kept = mask[self.row]
        total: Counter[tuple[int, ...]] = Counter()
        for codes, count in zip(self.keys[kept].tolist(), self.count[kept].tolist(), strict=True):
            total[tuple(codes)] += count
        return total


_FLOATS = ("latency_sum", "confidence_mean", "confidence_squares", "absolute_error", "squared_error", "actual_mean",
           "actual_squares")  # fmt: skip
_INTEGERS = ("confidence_count", "labelled", "correct", "continuous", "actual_count")
_VOCABULARIES = ("versions", "kinds", "classes")


@attrs.frozen(eq=False)
class TrafficTable:
    """Buckets of traffic, a row each.

    *Thread safety*: immutable.

    Attributes:
        versions: Version ids that ``version`` refers to; None for requests without one.
        kinds: Kinds of failure that ``errors`` refers to.
        classes: Labels that ``pairs`` refers to; None for a class that is not told apart.
        version: Code of each bucket's version, int32, shape ``(n,)``.
        width: Microseconds, int64.
        index: The bucket's number, int64.
        floats: Shape ``(n, 7)``.
        integers: Shape ``(n, 5)``.
        latency: Bins of latencies.
        delays: Bins of label delays.
        errors: Kinds of failures.
        pairs: Answered and true classes.
    """

    versions: tuple[Any, ...]
    kinds: tuple[Any, ...]
    classes: tuple[Any, ...]
    version: npt.NDArray[np.int32]
    width: npt.NDArray[np.int64]
    index: npt.NDArray[np.int64]
    floats: npt.NDArray[np.float64]
    integers: npt.NDArray[np.int64]
    latency: Sparse
    delays: Sparse
    errors: Sparse
    pairs: Sparse

    def __len__(self) -> int:
        return self.version.size

    @classmethod
    def of(cls, buckets: Sequence[tuple[BucketKey, TrafficSummary]]) -> TrafficTable:
        """Buckets as a table."""
        keys = [key for key, _ in buckets]
        summaries = [summary for _, summary in buckets]
        outcomes = [summary.outcomes for summary in summaries]
        versions = _Vocabulary()
        kinds = _Vocabulary()
        classes = _Vocabulary()
        return cls(
            version=np.array([versions.code(key.version_id) for key in keys], np.int32),
            width=np.array([key.width for key in keys], np.int64),
            index=np.array([key.number for key in keys], np.int64),
            floats=np.array([_floats(summary) for summary in summaries], np.float64).reshape(-1, len(_FLOATS)),
            integers=np.array([_integers(summary) for summary in summaries], np.int64).reshape(-1, len(_INTEGERS)),
            latency=Sparse.of([_bins(summary.latency) for summary in summaries], 1),
            delays=Sparse.of([_bins(outcome.delays) for outcome in outcomes], 1),
            errors=Sparse.of([[((kinds.code(k),), n) for k, n in summary.errors.items()] for summary in summaries], 1),
            pairs=Sparse.of(
                [[((classes.code(o), classes.code(a)), n) for (o, a), n in one.classes.items()] for one in outcomes], 2
            ),
            versions=versions.names,
            kinds=kinds.names,
            classes=classes.names,
        )

    @classmethod
    def from_parts(cls, header: Mapping[str, Any], columns: Mapping[str, npt.NDArray[Any]]) -> TrafficTable:
        """From what ``parts`` made.

        Raises:
            SnapshotFormatError: The columns do not fit each other.
        """
        try:
            vocabularies = {name: tuple(header[name]) for name in _VOCABULARIES}
            version, width, index = (columns[name] for name in ("version", "width", "index"))
            n = len(version)
            table = cls(
                **vocabularies,
                version=version,
                width=width,
                index=index,
                floats=columns["floats"],
                integers=columns["integers"],
                latency=Sparse.from_columns("latency", columns, n, 1),
                delays=Sparse.from_columns("delays", columns, n, 1),
                errors=Sparse.from_columns("errors", columns, n, 1),
                pairs=Sparse.from_columns("pairs", columns, n, 2),
            )
        except (KeyError, TypeError) as error:
            raise SnapshotFormatError(f"a column is missing ({error!r})") from error
        shapes = (width.shape, index.shape, table.floats.shape, table.integers.shape)
        if shapes != ((n,), (n,), (n, len(_FLOATS)), (n, len(_INTEGERS))):
            raise SnapshotFormatError("columns of different length")
        for codes, names in ((version, "versions"), (table.errors.keys, "kinds"), (table.pairs.keys, "classes")):
            if codes.size and not 0 <= codes.min() <= codes.max() < len(vocabularies[names]):
                raise SnapshotFormatError(f"codes that {names} does not have")
        return table

    def parts(self) -> tuple[dict[str, Any], Columns]:
        """Names and columns for a snapshot."""
        columns: Columns = {"version": self.version, "width": self.width, "index": self.index}
        columns |= {"floats": self.floats, "integers": self.integers}
        for name in ("latency", "delays", "errors", "pairs"):
            columns |= getattr(self, name).columns(name)
        return {name: list(getattr(self, name)) for name in _VOCABULARIES}, columns

    def bucket_keys(self) -> list[BucketKey]:
        """The buckets' names."""
        columns = (self.version.tolist(), self.width.tolist(), self.index.tolist())
        return [BucketKey(self.versions[version], width, index) for version, width, index in zip(*columns, strict=True)]

    def chosen(self, version_id: str | None, width: int, first: int, last: int) -> Mask:
        """Which buckets of a width lie between two numbers; of one version, or of all where that is None."""
        mask: Mask = (self.width == width) & (self.index >= first) & (self.index <= last)
        if version_id is not None:
            mask &= self.version == (self.versions.index(version_id) if version_id in self.versions else -1)
        return mask

    def only(self, mask: Mask) -> TrafficTable:
        """Some of the buckets."""
        return attrs.evolve(
            self,
            version=self.version[mask],
            width=self.width[mask],
            index=self.index[mask],
            floats=self.floats[mask],
            integers=self.integers[mask],
            latency=self.latency.only(mask),
            delays=self.delays.only(mask),
            errors=self.errors.only(mask),
            pairs=self.pairs.only(mask),
        )

    @classmethod
    def joined(cls, tables: Sequence[TrafficTable]) -> TrafficTable:
        """Tables one below the other."""
        codes = {}
        vocabularies = {}
        for name in _VOCABULARIES:
            vocabulary = _Vocabulary()
            codes[name] = [
                np.array([vocabulary.code(word) for word in getattr(table, name)], np.int32) for table in tables
            ]
            vocabularies[name] = vocabulary.names
        sizes = [len(table) for table in tables]
        kinds = [table.errors.recoded([mapping]) for table, mapping in zip(tables, codes["kinds"], strict=True)]
        pairs = [table.pairs.recoded([code, code]) for table, code in zip(tables, codes["classes"], strict=True)]
        return cls(
            **vocabularies,
            version=np.concatenate(
                [code[table.version] for table, code in zip(tables, codes["versions"], strict=True)], dtype=np.int32
            ),
            width=np.concatenate([table.width for table in tables]),
            index=np.concatenate([table.index for table in tables]),
            floats=np.concatenate([table.floats for table in tables]),
            integers=np.concatenate([table.integers for table in tables]),
            latency=Sparse.joined([table.latency for table in tables], sizes),
            delays=Sparse.joined([table.delays for table in tables], sizes),
            errors=Sparse.joined(kinds, sizes),
            pairs=Sparse.joined(pairs, sizes),
        )

    def total(self, mask: Mask) -> TrafficSummary:
        """What some of the buckets add up to."""
        if not mask.any():
            return TrafficSummary()
        floats, integers = self.floats[mask], self.integers[mask]
        sums = dict(zip(_FLOATS, floats.sum(axis=0).tolist(), strict=True))
        counts = dict(zip(_INTEGERS, integers.sum(axis=0).tolist(), strict=True))
        classes: dict[ClassPair, int] = {
            (self.classes[output], self.classes[actual]): count
            for (output, actual), count in self.pairs.total(mask).items()
        }
        return TrafficSummary(
            latency=self.latency.histogram(mask),
            latency_sum=sums["latency_sum"],
            confidence=_moments(integers[:, 0], floats[:, 1], floats[:, 2]),
            errors=Counter({self.kinds[kind]: count for (kind,), count in self.errors.total(mask).items()}),
            outcomes=OutcomeSummary(
                labelled=counts["labelled"],
                correct=counts["correct"],
                continuous=counts["continuous"],
                absolute_error=sums["absolute_error"],
                squared_error=sums["squared_error"],
                actual=_moments(integers[:, 4], floats[:, 5], floats[:, 6]),
                delays=self.delays.histogram(mask),
                classes=classes,
            ),
        )


class _Vocabulary:
    """Words by code, in order of appearance; True is not 1, and 1 is not "1"."""

    def __init__(self) -> None:
        self._codes: dict[tuple[type, Any], int] = {}

    def code(self, word: Any) -> int:
        return self._codes.setdefault((type(word), word), len(self._codes))

    @property
    def names(self) -> tuple[Any, ...]:
        return tuple(word for _, word in self._codes)


def _floats(summary: TrafficSummary) -> tuple[float, ...]:
    outcomes, confidence = summary.outcomes, summary.confidence
    actual = outcomes.actual
    errors = outcomes.absolute_error, outcomes.squared_error
    return (
        summary.latency_sum,
        confidence.mean,
        confidence.sum_of_squares,
        *errors,
        actual.mean,
        actual.sum_of_squares,
    )


def _integers(summary: TrafficSummary) -> tuple[int, ...]:
    outcomes = summary.outcomes
    return summary.confidence.count, outcomes.labelled, outcomes.correct, outcomes.continuous, outcomes.actual.count


def _bins(histogram: LatencyHistogram) -> Iterable[tuple[tuple[int], int]]:
    filled = np.flatnonzero(histogram.counts)
    counts = histogram.counts[filled].tolist()
    return zip(((code,) for code in (filled + histogram.first_bin).tolist()), counts, strict=True)


def _moments(
    counts: npt.NDArray[np.int64], means: npt.NDArray[np.float64], squares: npt.NDArray[np.float64]
) -> Moments:
    """All together: Σ Mᵢ + Σ nᵢ·(x̄ᵢ − x̄)², the sum of squares within and between."""
    count = int(counts.sum())
    if not count:
        return Moments()
    mean = float((counts * means).sum() / count)
    return Moments(count, mean, float(squares.sum() + (counts * (means - mean) ** 2).sum()))
