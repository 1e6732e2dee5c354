"""How a loaded model is called."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs

from mlserve.serving._answers import Answers


@attrs.frozen(eq=False, repr=False)
class Adapter:
    """How a loaded model is called.

    Attributes:
        call: From one input to its answer; to (answer, confidence) where ``has_confidence``; to an awaitable of it
            where ``is_async``.
        kind: ``"predictor"``, ``"batch predictor"``, ``"classifier"``, ``"regressor"``, ``"online model"`` or
            ``"callable"``.
        takes_rows: Whether it goes through rows of a table; else the input is passed as it came.
        has_confidence: See ``call``.
        is_async: See ``call``.
        call_many: From several inputs to as many answers by one call of the model; None where the model answers one
            at a time, or is awaited.
        acall_many: The same of a model that is awaited, each answer as ``call`` gives it.
        is_pure: Whether a call may be made again without doing anything twice: declared by the model's ``is_pure``, or
            by being an estimator of scikit-learn's kind or a graph.
        takes_frames: Whether the model selects columns by name, as one that was fitted on a frame.
        takes_arrays: Whether the model goes by the position of a column, whatever it is called.
    """

    call: Callable[[Any], Any]
    kind: str
    takes_rows: bool = False
    has_confidence: bool = False
    is_async: bool = False
    call_many: Callable[[Sequence[Any]], Answers] | None = None
    acall_many: Callable[[Sequence[Any]], Awaitable[list[Any]]] | None = None
    is_pure: bool = False
    takes_frames: bool = False
    takes_arrays: bool = False
