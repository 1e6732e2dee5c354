"""Requests as columns, on their way from the buffer to the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from typing import Any, NamedTuple, TypeVar, final, overload

import attrs
import numpy as np
import numpy.typing as npt
from typing_extensions import Self, override

from mlserve.monitors._kept import KeptInputs, compacted

T = TypeVar("T")

SEPARATOR = "\x1f"
"""Between the ids of a block; an id that holds one makes its block keep a tuple."""


@final
class Repeated(Sequence[T]):
    """One value many times.

    Args:
        value: The value.
        count: How often.
    """

    __slots__ = ("_count", "value")

    def __init__(self, value: T, count: int) -> None:
        self.value = value
        self._count = count

    @override
    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> Repeated[T]: ...

    @override
    def __getitem__(self, index: int | slice) -> T | Repeated[T]:
        found = range(self._count)[index]
        return Repeated(self.value, len(found)) if isinstance(found, range) else self.value

    @override
    def __iter__(self) -> Iterator[T]:
        return repeat(self.value, self._count)


class Rare(NamedTuple):
    """What most requests do not have: one value of a row, so that the others cost nothing to leave it out."""

    arm: str | None = None
    key: str | None = None
    kind: str | None = None


NOTHING_RARE = Rare()


def packed(ids: Sequence[str]) -> str | tuple[str, ...]:
    """Ids as one string: a hundred thousand small objects cost more to let go of than all else about them."""
    joined = SEPARATOR.join(ids)
    return joined if joined.count(SEPARATOR) == len(ids) - 1 else tuple(ids)


@attrs.define(eq=False, repr=False)
class RequestColumns:
    """Requests, at least one, as columns of one length.

    Attributes:
        packed_ids: Prediction ids, see ``packed``.
        version_ids: Who was asked.
        inputs: Copies of what was sent, as far as they were kept.
        outputs: Copies of what was answered: one array, of objects where they are nothing else.
        latency: Milliseconds, float64.
        seconds: When, since 1970, float64; of what was recorded together a ``Repeated``, until it is ``joined``.
        confidence: Of the answers, float64, NaN where there was none; infinite ones are none once it is ``joined``.
        rare: A ``Rare``, or its values, for the rows that have one.
    """

    packed_ids: str | tuple[str, ...]
    version_ids: Sequence[str | None]
    inputs: KeptInputs
    outputs: npt.NDArray[Any]
    latency: npt.NDArray[np.float64]
    seconds: Any
    confidence: npt.NDArray[np.float64]
    rare: Sequence[tuple[Any, ...] | None]

    @classmethod
    def of(
        cls,
        ids: Sequence[str],
        version_ids: Sequence[str | None],
        inputs: Sequence[Any] | KeptInputs,
        outputs: Any,
        latencies: Sequence[float],
        seconds: Sequence[float],
        confidences: Sequence[float | None],
        rare: Sequence[tuple[Any, ...] | None],
    ) -> Self:
        """Columns of values as they were recorded.

        Raises:
            TypeError, ValueError, OverflowError: Some value is nothing of its kind.
        """
        count = len(ids)
        # What cannot be hashed raises.
        if type(version_ids) is Repeated:
            hash(version_ids.value)
        elif len({*version_ids}) == 1:
            version_ids = Repeated(version_ids[0], count)
        if type(rare) is not Repeated and not any(rare):
            rare = Repeated(None, count)
        return cls(
            packed(ids),
            version_ids,
            inputs if isinstance(inputs, KeptInputs) else KeptInputs.of(inputs),
            outputs if isinstance(outputs, np.ndarray) else np.fromiter(outputs, object, count),
            _numbers(latencies),
            seconds if type(seconds) is Repeated else _numbers(seconds),
            _numbers(confidences),
            rare,
        )

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """One or several as one, ready to be counted. What need not be done for each of them is done here."""
        if len(parts) == 1:
            (alone,) = parts
            alone.seconds = _numbers(alone.seconds)
            alone.confidence = _sure(alone.confidence if alone.confidence.flags.writeable else alone.confidence.copy())
            return alone
        strings = [part.packed_ids for part in parts if isinstance(part.packed_ids, str)]
        is_packed = len(strings) == len(parts)
        return cls(
            SEPARATOR.join(strings) if is_packed else tuple(chain.from_iterable([part.ids for part in parts])),
            _joined([part.version_ids for part in parts]),
            KeptInputs.joined([part.inputs for part in parts]),
            compacted([part.outputs for part in parts]),
            np.concatenate([part.latency for part in parts]),
            _moments([part.seconds for part in parts]),
            _sure(np.concatenate([part.confidence for part in parts])),
            _joined([part.rare for part in parts]),
        )

    def __len__(self) -> int:
        return self.latency.size

    @property
    def ids(self) -> Sequence[str]:
        """Prediction ids."""
        return self.packed_ids.split(SEPARATOR) if isinstance(self.packed_ids, str) else self.packed_ids

    def only(self, rows: Sequence[int]) -> RequestColumns:
        """Some of the rows."""
        ids = self.ids
        return RequestColumns(
            packed([ids[row] for row in rows]),
            [self.version_ids[row] for row in rows],
            self.inputs.only(rows),
            self.outputs[rows],
            self.latency[rows],
            self.seconds[rows],
            self.confidence[rows],
            [self.rare[row] for row in rows],
        )


def is_given_away(array: npt.NDArray[Any]) -> bool:
    """Whether nobody writes to an array any more, so that it may be kept as it is."""
    return not array.flags.writeable and array.base is None


def _numbers(values: Any) -> npt.NDArray[np.float64]:
    """Numbers, NaN for None."""
    if type(values) is np.ndarray and values.dtype == np.float64 and values.ndim == 1 and is_given_away(values):
        return values
    if type(values) is Repeated:
        return np.full(len(values), values.value, np.float64)
    found = np.array(values, np.float64)
    if found.ndim != 1:
        raise ValueError("a list among numbers")
    return found


def _sure(confidences: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The same, changed in place: what is infinite is none."""
    confidences[np.isinf(confidences)] = np.nan
    return confidences


def _moments(parts: Sequence[Any]) -> npt.NDArray[np.float64]:
    if all(type(part) is Repeated for part in parts):
        return np.repeat(np.array([part.value for part in parts], np.float64), list(map(len, parts)))
    return np.concatenate([_numbers(part) for part in parts])


def _joined(parts: Sequence[Any]) -> Any:
    """Columns one after the other, in the shortest form that holds them."""
    first = parts[0]
    if type(first) is Repeated and all(type(part) is Repeated and part.value == first.value for part in parts):
        return Repeated(first.value, sum(map(len, parts)))
    return list(chain.from_iterable(parts))
