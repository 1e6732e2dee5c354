"""Inputs whose values have names, in whatever form they come."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from mlserve.errors import InvalidInputError
from mlserve.schemas._results import Fault, listed, shown


def labelled(input: Any) -> Mapping[Any, Any] | None:
    """The values of one input by their names.

    Args:
        input: A mapping; a pandas series whose index holds names; a pandas or polars frame of one row; a record of a
            structured array.

    Returns:
        None where the input is nothing of the kind.

    Raises:
        InvalidInputError: A name is there twice.
        Exception: Whatever a foreign object raises when it is read.
    """
    if type(input) is dict:
        return input
    if isinstance(input, Mapping):
        return dict(input)
    if hasattr(input, "columns") and hasattr(input, "dtypes"):
        return _of_frame(input)
    if hasattr(input, "iloc"):
        return _of_series(input)
    if isinstance(input, np.ndarray) and input.ndim == 0:
        input = input[()]
    if isinstance(input, np.void) and input.dtype.names is not None:
        return {name: input[name] for name in input.dtype.names}
    return None


def _of_frame(frame: Any) -> Mapping[Any, Any] | None:
    if len(frame) != 1:
        return None
    # As text, as the names of a schema that was learned from a frame are.
    labels = [str(column) for column in frame.columns]
    _check_unrepeated(labels)
    # Column by column, since a row of pandas would have one dtype for all of them.
    values = [column.iloc[0] for _, column in frame.items()] if hasattr(frame, "iloc") else frame.row(0)
    return dict(zip(labels, values, strict=True))


def _of_series(series: Any) -> Mapping[Any, Any] | None:
    labels = list(series.index)
    if not any(isinstance(label, str) for label in labels):
        return None  # numbered, not named
    _check_unrepeated(labels)
    return dict(zip(labels, series.tolist(), strict=True))


def _check_unrepeated(labels: list[Any]) -> None:
    if len(set(labels)) < len(labels):
        repeated = next(label for label in labels if labels.count(label) > 1)
        raise InvalidInputError(
            f"the input has {name_text(repeated)} twice; expected distinct names.",
            field=name_text(repeated),
            expected="distinct names",
        )


def misnamed(
    record: Mapping[Any, Any], names: Collection[str], required: Collection[str], noun: str, *, ignore_extra: bool
) -> Fault | None:
    """What is wrong with the names of a record, as one fault; None where they are right.

    Args:
        record: The values by name.
        names: The names that there may be, in order.
        required: Those of them that there must be.
        noun: What a name is a name of, ``"feature"`` or ``"field"``.
        ignore_extra: Whether other names are no fault.
    """
    missing = [name for name in required if name not in record]
    if not missing and (ignore_extra or len(record) == len(names) == len(required)):
        return None
    known = frozenset(names)
    extra = [] if ignore_extra else [name_text(name) for name in record if name not in known]
    if not missing and not extra:
        return None
    without = f"has no {listed(missing)}" if missing else ""
    beside = f"has {listed(extra)}, which is no {noun} of the schema" if extra else ""
    return Fault(
        [*missing, *extra][0],
        f"the input {' and '.join(filter(None, (without, beside)))}",
        f"the {noun}s {listed(names)}",
        "Is a name misspelt?" if missing and extra else "",
    )


def name_text(name: Any) -> str:
    """A name as a message shows it."""
    text = shown(name)
    return text[1:-1] if isinstance(name, str) else text
