"""How much memory a model takes."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, final

from mlserve._logs import LazyLogger

_log = LazyLogger(__name__)


@final
class _Counting:
    """A file that keeps nothing of what is written but its size."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, data: Any) -> int:
        written = memoryview(data).nbytes
        self.size += written
        return written


def size_of(model: Any, measure: Callable[[Any], int] | None) -> int:
    """The size of a model in bytes.

    Args:
        model: What the repository loaded.
        measure: The user's own measure; None for the size of the model's pickle, which is made but not kept.

    Returns:
        0, with a line in the log, of a model that cannot be measured.
    """
    try:
        if measure is not None:
            return int(measure(model))
        counting = _Counting()
        pickle.Pickler(counting, protocol=pickle.HIGHEST_PROTOCOL).dump(model)
        return counting.size
    except Exception:
        _log.warning("the size of a %s cannot be told; it counts as nothing", type(model).__name__, exc_info=True)
        return 0
