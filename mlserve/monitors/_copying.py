"""Copies that the caller cannot change."""

from __future__ import annotations

import copy
from types import NoneType
from typing import Any

import numpy as np

from mlserve._counting import Tally

IMMUTABLE = frozenset({NoneType, bool, int, float, complex, str, bytes, np.float64, np.float32, np.int64, np.bool_})
"""Types whose values need no copy."""

_ndarray = np.ndarray


class Copier:
    """Copies values; what cannot be copied is counted and not kept.

    *Thread safety*: yes.
    """

    def __init__(self) -> None:
        self.uncopied = Tally()

    def copy(self, value: Any) -> Any:
        """A copy that the caller cannot change; None of a lock, a socket, a model."""
        kind = type(value)
        if kind in IMMUTABLE:
            return value
        if kind is _ndarray and not value.dtype.hasobject:
            return value.copy()
        if kind is list and set(map(type, value)) <= IMMUTABLE:
            return value.copy()
        if kind is dict and set(map(type, value.values())) <= IMMUTABLE:
            return value.copy()
        try:
            return copy.deepcopy(value)
        except Exception:  # whatever a class of the caller's raises
            self.uncopied.next()
            return None
