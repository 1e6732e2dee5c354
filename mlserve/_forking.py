"""Locks do not survive a fork: a child whose parent's other threads held one would wait for it for ever."""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["renew_after_fork"]


class _Renewable(Protocol):
    def _after_fork(self) -> None:
        """Make new locks, and forget the threads of the parent. Called in the child, where no other thread runs."""
        ...


_renewables: weakref.WeakSet[_Renewable] = weakref.WeakSet()


def renew_after_fork(owner: _Renewable) -> None:
    """Have ``owner._after_fork()`` called in every forked child for as long as the owner lives."""
    _renewables.add(owner)


def _renew_all() -> None:  # pragma: no cover  # runs in the forked child, where nothing measures; tested there
    for owner in list(_renewables):
        owner._after_fork()


if hasattr(os, "register_at_fork"):  # pragma: no branch  # elsewhere nothing forks
    os.register_at_fork(after_in_child=_renew_all)
