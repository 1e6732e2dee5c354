"""Buckets of traffic as columns: what a snapshot carries, and what a merged monitor reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from mlserve.errors import SnapshotFormatError
from mlserve.monitors._keys import LAST_MICROSECOND, BucketKey
from mlserve.monitors._sparse import MOST_COUNTED, Columns, Counts, Integers, Mask, Sparse, checked_column, narrowed
from mlserve.monitors._windows import RIGHT, ClassRole, OutcomeSummary, TrafficSummary
from mlserve.numerics._sketches import LatencyHistogram, Moments

_FLOATS = ("latency_sum", "confidence_mean", "confidence_squares", "absolute_error", "squared_error", "actual_mean",
           "actual_squares")  # fmt: skip
_NEVER_NEGATIVE = [index for index, name in enumerate(_FLOATS) if not name.endswith("mean")]
_INTEGERS = ("confidence_count", "labelled", "correct", "continuous", "actual_count")
_VOCABULARIES: dict[str, tuple[type, ...]] = {
    "versions": (str, NoneType),
    "kinds": (str,),
    "classes": (str, int, bool),
}
_BINS = (-(2**15), 2**15)
"""Bins of a ``LatencyHistogram`` are int16."""


@attrs.frozen(eq=False)
class TrafficTable:
    """Buckets of traffic, a row each.

    *Thread safety*: immutable.

    Attributes:
        versions: Version ids that ``version`` refers to; None for requests without one.
        kinds: Kinds of failure that ``errors`` refers to.
        classes: Labels that ``roles`` refers to.
        version: Code of each bucket's version, shape ``(n,)``.
        width: Microseconds, int64.
        index: The bucket's number, int64.
        floats: Shape ``(n, 7)``.
        integers: Shape ``(n, 5)``.
        latency: Bins of latencies.
        delays: Bins of label delays.
        errors: Kinds of failures.
        roles: Classes, and what they were.
    """

    versions: tuple[Any, ...]
    kinds: tuple[Any, ...]
    classes: tuple[Any, ...]
    version: Integers
    width: npt.NDArray[np.int64]
    index: npt.NDArray[np.int64]
    floats: npt.NDArray[np.float64]
    integers: npt.NDArray[np.int64]
    latency: Sparse
    delays: Sparse
    errors: Sparse
    roles: Sparse

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
            errors=Sparse.of(
                [([kinds.code(kind) for kind in summary.errors], [*summary.errors.values()]) for summary in summaries],
                1,
            ),
            roles=Sparse.of(
                [
                    ([(classes.code(label), role) for label, role in one.classes], [*one.classes.values()])
                    for one in outcomes
                ],
                2,
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
        words = {name: _words(header, name) for name in _VOCABULARIES}
        version = checked_column(columns, "version", np.int32, (None,), (0, len(words["versions"])))
        n = version.size
        width = checked_column(columns, "width", np.int64, (n,), (0, LAST_MICROSECOND))
        index = checked_column(columns, "index", np.int64, (n,))
        if n and not np.abs(index.astype(np.float64) * width).max() < LAST_MICROSECOND:
            raise SnapshotFormatError("a bucket at no time that there is")
        floats = checked_column(columns, "floats", np.float64, (n, len(_FLOATS)))
        if (floats[:, _NEVER_NEGATIVE] < 0).any():
            raise SnapshotFormatError("negative sums")
        return cls(
            **words,
            version=version,
            width=width,
            index=index,
            floats=floats,
            integers=checked_column(columns, "integers", np.int64, (n, len(_INTEGERS)), (0, MOST_COUNTED)),
            latency=Sparse.from_columns("latency", columns, n, [_BINS]),
            delays=Sparse.from_columns("delays", columns, n, [_BINS]),
            errors=Sparse.from_columns("errors", columns, n, [(0, len(words["kinds"]))]),
            roles=Sparse.from_columns("roles", columns, n, [(0, len(words["classes"])), (0, RIGHT + 1)]),
        )

    def parts(self) -> tuple[dict[str, Any], Columns]:
        """Names and columns for a snapshot."""
        columns: Columns = {"version": self.version, "width": self.width, "index": self.index}
        columns |= {"floats": self.floats, "integers": self.integers}
        for name in ("latency", "delays", "errors", "roles"):
            columns |= getattr(self, name).columns(name)
        return {name: list(getattr(self, name)) for name in _VOCABULARIES}, columns

    def bucket_keys(self) -> list[BucketKey]:
        """The buckets' names."""
        columns = (self.version.tolist(), self.width.tolist(), self.index.tolist())
        return [BucketKey(self.versions[version], width, index) for version, width, index in zip(*columns, strict=True)]

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
            roles=self.roles.only(mask),
        )

    def of_version(self, version_id: str | None) -> TrafficTable:
        """The buckets of one version, or all where that is None."""
        if version_id is None or self.versions == (version_id,):
            return self
        code = self.versions.index(version_id) if version_id in self.versions else -1
        return self.only(self.version == code)

    def in_order(self) -> TrafficTable:
        """The same by width and number, so that a window is one slice, and in little memory: to be kept."""
        order = np.lexsort((self.index, self.width))
        numbers = np.empty_like(order)
        numbers[order] = np.arange(order.size)
        return attrs.evolve(
            self,
            version=narrowed(self.version[order]),
            width=self.width[order],
            index=self.index[order],
            floats=self.floats[order],
            integers=self.integers[order],
            latency=self.latency.renumbered(numbers),
            delays=self.delays.renumbered(numbers),
            errors=self.errors.renumbered(numbers),
            roles=self.roles.renumbered(numbers),
        )

    def window(self, width: int, first: int, last: int) -> TrafficTable:
        """The buckets of a width between two numbers, of a table in order; a view."""
        begin, end = self.width.searchsorted([width, width + 1]).tolist()
        numbers = self.index[begin:end]
        end = begin + int(numbers.searchsorted(last, "right"))
        begin += int(numbers.searchsorted(first))
        rows = slice(begin, max(begin, end))
        return attrs.evolve(
            self,
            version=self.version[rows],
            width=self.width[rows],
            index=self.index[rows],
            floats=self.floats[rows],
            integers=self.integers[rows],
            latency=self.latency.between(rows.start, rows.stop),
            delays=self.delays.between(rows.start, rows.stop),
            errors=self.errors.between(rows.start, rows.stop),
            roles=self.roles.between(rows.start, rows.stop),
        )

    @classmethod
    def joined(cls, tables: Sequence[TrafficTable]) -> TrafficTable:
        """Tables one below the other."""
        codes = {}
        vocabularies = {}
        for name in _VOCABULARIES:
            vocabulary = _Vocabulary()
            codes[name] = [
                np.array([vocabulary.code(word) for word in getattr(table, name)], np.intp) for table in tables
            ]
            vocabularies[name] = vocabulary.names
        sizes = [len(table) for table in tables]
        errors = [table.errors.recoded(code) for table, code in zip(tables, codes["kinds"], strict=True)]
        roles = [table.roles.recoded(code) for table, code in zip(tables, codes["classes"], strict=True)]
        return cls(
            **vocabularies,
            version=np.concatenate(
                [code[table.version] for table, code in zip(tables, codes["versions"], strict=True)]
            ),
            width=np.concatenate([table.width for table in tables]),
            index=np.concatenate([table.index for table in tables]),
            floats=np.concatenate([table.floats for table in tables]),
            integers=np.concatenate([table.integers for table in tables]),
            latency=Sparse.joined([table.latency for table in tables], sizes),
            delays=Sparse.joined([table.delays for table in tables], sizes),
            errors=Sparse.joined(errors, sizes),
            roles=Sparse.joined(roles, sizes),
        )

    @property
    def has_answers(self) -> bool:
        """Whether some bucket holds a prediction that was answered."""
        return self.latency.row.size > 0

    def total(self) -> TrafficSummary:
        """What all buckets add up to."""
        floats, integers = self.floats, self.integers
        sums = dict(zip(_FLOATS, floats.sum(axis=0).tolist(), strict=True))
        counts = dict(zip(_INTEGERS, integers.sum(axis=0).tolist(), strict=True))
        classes: Counter[ClassRole] = Counter()
        for (code, role), count in self.roles.total().items():
            classes[self.classes[code], role] += count  # True and 1 are two words, but one class
        return TrafficSummary(
            latency=self.latency.histogram(),
            latency_sum=sums["latency_sum"],
            confidence=_moments(integers[:, 0], floats[:, 1], floats[:, 2]),
            errors=Counter({self.kinds[kind]: count for (kind,), count in self.errors.total().items()}),
            outcomes=OutcomeSummary(
                labelled=counts["labelled"],
                correct=counts["correct"],
                continuous=counts["continuous"],
                absolute_error=sums["absolute_error"],
                squared_error=sums["squared_error"],
                actual=_moments(integers[:, 4], floats[:, 5], floats[:, 6]),
                delays=self.delays.histogram(),
                classes=classes,
            ),
        )


def _words(header: Mapping[str, Any], name: str) -> tuple[Any, ...]:
    words = header.get(name)
    if not isinstance(words, (list, tuple)) or any(type(word) not in _VOCABULARIES[name] for word in words):
        raise SnapshotFormatError(f"no {name}, or such of an unknown type")
    if len({(type(word), word) for word in words}) < len(words):
        raise SnapshotFormatError(f"{name} that are told twice")
    return tuple(words)


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


def _bins(histogram: LatencyHistogram) -> tuple[npt.NDArray[np.intp], Counts]:
    filled = np.flatnonzero(histogram.counts)
    return filled + histogram.first_bin, histogram.counts[filled]


def _moments(
    counts: npt.NDArray[np.int64], means: npt.NDArray[np.float64], squares: npt.NDArray[np.float64]
) -> Moments:
    """All together: Σ Mᵢ + Σ nᵢ·(x̄ᵢ − x̄)², the sum of squares within and between."""
    count = int(counts.sum())
    if not count:
        return Moments()
    with np.errstate(over="ignore", invalid="ignore"):  # what no float holds is infinite
        mean = float((counts * means).sum() / count)
        return Moments(count, mean, float(squares.sum() + (counts * (means - mean) ** 2).sum()))
