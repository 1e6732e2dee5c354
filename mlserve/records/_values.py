"""What the records share: an immutable mapping, an ordered enum, and the check that a time has a zone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

from typing_extensions import override

from mlserve.errors import InvalidArgumentError

K = TypeVar("K")
V_co = TypeVar("V_co", covariant=True)


class FrozenMapping(Mapping[K, V_co]):
    """A mapping that cannot change, compares equal to any mapping with the same items, and pickles.

    ``types.MappingProxyType`` would do, but it cannot be pickled and shows changes of the dict below it.
    """

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[K, V_co] | None = None) -> None:
        self._items = dict(items) if items is not None else {}

    @override
    def __getitem__(self, key: K) -> V_co:
        return self._items[key]

    @override
    def __iter__(self) -> Iterator[K]:
        return iter(self._items)

    @override
    def __len__(self) -> int:
        return len(self._items)

    @override
    def __repr__(self) -> str:
        return repr(self._items)


class OrderedStrEnum(StrEnum):
    """A ``StrEnum`` whose members are ordered as they are defined, not by spelling."""

    def _rank(self, other: str) -> tuple[int, int]:
        members = list(type(self))
        return members.index(self), members.index(type(self)(other))

    @override
    def __lt__(self, other: str) -> bool:
        mine, theirs = self._rank(other)
        return mine < theirs

    @override
    def __le__(self, other: str) -> bool:
        mine, theirs = self._rank(other)
        return mine <= theirs

    @override
    def __gt__(self, other: str) -> bool:
        mine, theirs = self._rank(other)
        return mine > theirs

    @override
    def __ge__(self, other: str) -> bool:
        mine, theirs = self._rank(other)
        return mine >= theirs


def aware(_instance: object, attribute: Any, value: Any) -> None:
    """An attrs validator: the time must know its zone."""
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise InvalidArgumentError(
            attribute.name, value, "a timezone-aware datetime", hint="Use datetime.now(timezone.utc)."
        )


def to_utc(value: datetime) -> datetime:
    """An attrs converter: the same instant in UTC; whatever is not an aware datetime passes on to the validator."""
    return value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo is not None else value
