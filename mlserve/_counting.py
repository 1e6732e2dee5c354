"""Counting on the request path."""

from __future__ import annotations

import threading
from itertools import count
from typing import final

__all__ = ["Tally"]


@final
class Tally:
    """Counts without a lock: ``next`` is one call into C. Reading it takes a number too, which is remembered."""

    def __init__(self) -> None:
        numbers = count()
        self.next = numbers.__next__
        self._lock = threading.Lock()
        self._reads = 0

    @property
    def value(self) -> int:
        """How often ``next`` was called by others."""
        with self._lock:
            counted = self.next() - self._reads
            self._reads += 1
            return counted
