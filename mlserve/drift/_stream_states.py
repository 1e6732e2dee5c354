"""What the streams share: the status they answer with, rows as numbers, and states as plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
from typing_extensions import override

from mlserve._rendering import html_table, number, text_table
from mlserve.errors import InvalidArgumentError
from mlserve.records._drift import plain

FloatTable = npt.NDArray[np.float64]

CLEAR_SHARE = 0.5
"""An alarm ends when the log evidence is down to this share of the one that raises it."""

CLEAR_ODDS = 1e6
"""How much evidence that all is well again it takes to end an alarm.

Against a change that lasts, evidence falls by this factor about once in a million excursions: alarms do not flicker.
"""


@attrs.frozen(kw_only=True, repr=False)
class DriftStreamStatus:
    """What a stream says after the rows seen so far.

    Attributes:
        alarm: Whether an alarm is on: it was raised, has not ended because the change is over, and nobody re-armed the
            stream since.
        evidence: The natural logarithm of the evidence after the last row, of the feature where it is largest; 0 before
            the first row. In an alarm it may fall below ``threshold`` while the change lasts, as the new values become
            the rule.
        threshold: The log evidence at which an alarm is raised.
        features: Names of the features that changed, the strongest evidence first: those that Holm's method rejects on
            1/(largest evidence since the stream was armed). Empty without alarm; during one, it may grow.
        since: The row at which the change most likely began, counted from 0, the first row ever seen; fixed when the
            alarm is raised. None without alarm.
        n: Rows seen: for ``ErrorRateStream``, labels.
        raised: Whether an alarm was raised during the call that gave this status: notify once, on this.
        raised_at: The row at which the alarm that is on was raised, counted from 0; None without alarm.
        alarm_count: Alarms raised so far: it tells of one that came and went within a call.
    """

    alarm: bool
    evidence: float
    threshold: float
    features: tuple[str, ...] = ()
    since: int | None = None
    n: int = 0
    raised: bool = False
    raised_at: int | None = None
    alarm_count: int = 0

    def _title(self) -> str:
        return f"{'ALARM' if self.alarm else 'No alarm'} after {self.n} rows"

    def _summary(self) -> list[tuple[str, str]]:
        rows = [("log evidence", f"{number(self.evidence)}, an alarm at {number(self.threshold)}")]
        if self.alarm:
            rows += [
                ("features", ", ".join(self.features)),
                ("since", f"row {self.since}"),
                ("raised at", f"row {self.raised_at}"),
            ]
        return [*rows, ("alarms so far", str(self.alarm_count))]

    @override
    def __repr__(self) -> str:
        return text_table(self._title(), self._summary())

    def _repr_html_(self) -> str:
        return html_table(self._title(), self._summary())

    def to_dict(self) -> dict[str, Any]:
        """As plain values that JSON can hold."""
        return plain(self)


def lasting_levels(threshold: float) -> tuple[float, float]:
    """The log evidence at which an alarm ends, and the ceiling that log evidence is held to until then."""
    clear = CLEAR_SHARE * threshold
    return clear, clear + math.log(CLEAR_ODDS)


def number_table(parameter: str, value: Any, names: Sequence[str] | None, n_features: int | None = None) -> FloatTable:
    """Numbers as a table of float64; None, NaN, pandas.NA and what is masked are missing.

    Args:
        parameter: Its name, for the message.
        value: Shape ``(n_samples, n_features)``; of one feature also ``(n_samples,)``; with ``n_features`` above 1 also
            one row, ``(n_features,)``.
        names: Of the columns, for the message.
        n_features: The width it must have; None accepts any but 0.

    Raises:
        InvalidArgumentError: Another shape, or something that is no number.
    """
    try:
        array = _unmasked(value) if np.ma.isMaskedArray(value) else np.asarray(value)
    except (TypeError, ValueError) as error:  # rows of different lengths
        raise InvalidArgumentError(parameter, value, f"a table of numbers ({error})") from error
    if array.ndim <= 1 and n_features in (None, 1):
        array = array.reshape(-1, 1)
    elif array.ndim == 1:
        array = array.reshape((1, -1) if array.size else (0, n_features or 0))
    width = "n_features" if n_features is None else n_features
    if array.ndim != 2 or array.shape[1] != (n_features or array.shape[1]) or not array.shape[1]:
        raise InvalidArgumentError(
            parameter, array.shape, f"an array of shape (n_samples, {width})",
            hint="Pass the same columns in the same order; one feature may be of shape (n_samples,).",
        )  # fmt: skip
    if not array.size:
        return np.empty(array.shape)
    if array.dtype.kind not in "biuf":
        for index in range(array.shape[1]):
            wrong = next((item for item in array[:, index] if not (_is_missing(item) or _is_number(item))), None)
            if wrong is not None:
                name = names[index] if names is not None and index < len(names) else f"x{index}"
                raise InvalidArgumentError(
                    parameter, wrong, f"numbers in every column; column {name!r} holds {type(wrong).__name__}",
                    hint="Code each category, or time, as a number of its own, and missing values as NaN.",
                )  # fmt: skip
        array = np.array([[math.nan if _is_missing(item) else item for item in row] for row in array], dtype=object)
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            return array.astype(np.float64, copy=False)
    except OverflowError as error:
        raise InvalidArgumentError(parameter, value, f"numbers that a float can hold ({error})") from error


def _unmasked(value: np.ma.MaskedArray[Any, Any]) -> npt.NDArray[Any]:
    """What is masked is missing."""
    if value.dtype.kind not in "biufO":
        return np.asarray(value.data)
    objects = np.asarray(value.data).astype(object)
    objects[np.ma.getmaskarray(value)] = None
    return objects


def _is_missing(item: object) -> bool:
    return item is None or type(item).__name__ == "NAType"  # pandas.NA, which is not imported for it


def _is_number(item: object) -> bool:
    return isinstance(item, (bool, int, float, np.bool_, np.integer, np.floating))


def checked_state(state: Any, kind: str, version: int) -> Mapping[str, Any]:
    """The state, if it is one of this kind and format.

    Raises:
        InvalidArgumentError: It is not.
    """
    if not isinstance(state, Mapping) or (state.get("kind"), state.get("format")) != (kind, version):
        found = (state.get("kind"), state.get("format")) if isinstance(state, Mapping) else state
        raise InvalidArgumentError(
            "state", found, f"the state of a {kind} in format {version}", hint="Pass what its to_state() gave."
        )
    return state


def broken_state(state: object, error: Exception) -> InvalidArgumentError:
    """The error for a state that looked right and was not."""
    return InvalidArgumentError("state", state, f"what to_state() gave, unchanged ({type(error).__name__}: {error})")


def plain_floats(values: FloatTable) -> list[Any]:
    """As nested lists of what strict JSON can hold: None for NaN, text for infinities."""
    if values.ndim > 1:
        return [plain_floats(row) for row in values]
    return [item if math.isfinite(item) else None if math.isnan(item) else str(item) for item in values.tolist()]


def floats(values: Sequence[Any]) -> FloatTable:
    """The array whose ``plain_floats`` these are."""
    if values and isinstance(values[0], (list, tuple)):
        return np.array([floats(row) for row in values])
    return np.array([math.nan if item is None else float(item) for item in values])
