"""Small integers for names that come back again and again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")


class Codes(Generic[T]):
    """The names seen, numbered in order of appearance; bounded, whatever a caller invents.

    *Thread safety*: none; the owner locks.

    Args:
        limit: Names told apart, at most; further ones get the code of ``other``.
        other: The name for all further ones.
        first: Names that have the first codes.
    """

    def __init__(self, limit: int, other: T, first: Sequence[T] = ()) -> None:
        self._limit = limit
        self._other = other
        self.names: list[T] = list(first)
        self._codes: dict[T, int] = {name: code for code, name in enumerate(first)}

    def get(self, name: T) -> int:
        """The code of a name; −1 of one never seen."""
        return self._codes.get(name, -1)

    def of(self, name: T) -> int:
        """The code of a name; one seen for the first time gets a new one."""
        code = self._codes.get(name)
        if code is None:
            if len(self.names) >= self._limit and name != self._other:
                return self.of(self._other)
            code = self._codes[name] = len(self.names)
            self.names.append(name)
        return code

    def all_of(self, names: Sequence[T]) -> npt.NDArray[np.int64]:
        """The code of each name."""
        distinct = dict.fromkeys(names)  # in order, unlike a set: which names are told apart is no matter of chance
        if len(distinct) == 1:
            return np.full(len(names), self.of(names[0]))
        codes = {name: self.of(name) for name in distinct}
        return np.fromiter(map(codes.__getitem__, names), np.int64, len(names))
