"""How a log of changes stays short: pieces of it are replaced by fewer and longer ones."""

from __future__ import annotations

from typing import NamedTuple, final

FAN = 16
"""So many pieces of one length are replaced by one. After n flushes there are at most 15 for each digit of n to the
base 16: few to read, and what is written again is seldom and mostly short."""


class Piece(NamedTuple):
    """One stored piece of the log.

    Attributes:
        after: The change after which it begins.
        sequence: The last change in it.
        level: How many times it was made of shorter ones.
    """

    after: int
    sequence: int
    level: int


class Plan(NamedTuple):
    """Where the next piece begins.

    Attributes:
        after: The change after which it begins; all pieces that lie after it are replaced.
        kept: The pieces before it.
        level: Its own level.
    """

    after: int
    kept: tuple[Piece, ...]
    level: int


@final
class Pieces:
    """Which pieces of its log a process has stored.

    *Thread safety*: none; one thread writes.
    """

    def __init__(self) -> None:
        self._pieces: tuple[Piece, ...] = ()

    def __len__(self) -> int:
        return len(self._pieces)

    @property
    def last(self) -> int:
        """The last change that is stored."""
        return self._pieces[-1].sequence if self._pieces else 0

    def plan(self) -> Plan:
        """Where the next piece begins so that the pieces stay few."""
        kept, after, level = list(self._pieces), self.last, 0
        while len(kept) >= FAN - 1 and all(piece.level == level for piece in kept[1 - FAN :]):
            after = kept[1 - FAN].after
            del kept[1 - FAN :]
            level += 1
        return Plan(after, tuple(kept), level)

    def whole(self) -> Plan:
        """One piece in place of all."""
        return Plan(0, (), max((piece.level for piece in self._pieces), default=0))

    def written(self, plan: Plan, sequence: int) -> None:
        """The next piece is stored."""
        self._pieces = (*plan.kept, Piece(plan.after, sequence, plan.level))

    def lost(self) -> None:
        """None of them is stored any more."""
        self._pieces = ()
