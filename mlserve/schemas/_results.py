"""What validating comes to: a value, warnings, or one error for several faults."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum
from itertools import count
from typing import Any

import attrs

from mlserve._logs import LazyLogger
from mlserve.errors import InvalidArgumentError, InvalidInputError

_log = LazyLogger(__name__)

FAULTS_NAMED = 3
"""Faults that one message tells, at most; the others are counted."""

_LISTED = 8
"""Names or categories that a message lists, at most."""

_SHOWN_CHARACTERS = 60
"""Of a value, at most."""

_SHOWN_ITEMS = 8
"""A container of more items is told by its size: showing all of a large one would take long."""


class Enforcement(StrEnum):
    """What is done about an input that a schema finds unusual."""

    OFF = "off"
    """Nothing; it is not looked at."""
    WARN = "warn"
    """It is accepted; ``ValidationResult.warnings`` says what was unusual, and a server logs it now and then."""
    REFUSE = "refuse"
    """It is not valid."""


def to_ranges(value: Any) -> Enforcement:
    """An attrs converter for the parameter ``ranges``."""
    return _enforcement("ranges", value)


def to_unknown_categories(value: Any) -> Enforcement:
    """An attrs converter for the parameter ``unknown_categories``."""
    return _enforcement("unknown_categories", value)


def _enforcement(parameter: str, value: Any) -> Enforcement:
    try:
        return Enforcement(value)
    except ValueError:
        raise InvalidArgumentError(parameter, value, "'off', 'warn' or 'refuse'") from None


@attrs.frozen(eq=False)
class ValidationResult:
    """What validating one input came to.

    Attributes:
        is_valid: Whether the model may see it.
        value: The input in the form that the schema promises the model: for an ``ArraySchema`` an array of its dtype
            and shape, for a ``RecordSchema`` a dict in its order of fields; None when it is not valid.
        error: What was wrong, where, and what was expected; None when it is valid.
        warnings: What is unusual about a valid input, where the schema was told to warn of it.
    """

    is_valid: bool
    value: Any = None
    error: InvalidInputError | None = None
    warnings: tuple[str, ...] = ()

    @property
    def message(self) -> str:
        """The error's message, or the empty string."""
        return "" if self.error is None else self.error.message


@attrs.frozen(eq=False)
class Fault:
    """One thing that is wrong with an input.

    Attributes:
        field: Where.
        wrong: What is there.
        expected: What would have been accepted.
        hint: How to mend it.
    """

    field: str
    wrong: str
    expected: str
    hint: str = ""

    @property
    def text(self) -> str:
        """The fault as one clause."""
        return f"{self.wrong}, expected {self.expected}"


def refusal(faults: Sequence[Fault]) -> InvalidInputError:
    """One error for all faults of an input; its values are those of the first one."""
    first = faults[0]
    if len(faults) == 1:
        message = f"{first.wrong}; expected {first.expected}."
    else:
        more = len(faults) - FAULTS_NAMED
        told = [fault.text for fault in faults[:FAULTS_NAMED]] + ([f"and {more} more"] if more > 0 else [])
        message = f"{'; '.join(told)}."
    return InvalidInputError(message, field=first.field, expected=first.expected, hint=first.hint)


def listed(items: Collection[Any]) -> str:
    """The items one after the other, the first few of many."""
    shown = ", ".join(str(item) for item, _ in zip(items, range(_LISTED), strict=False))
    return shown + (f" and {len(items) - _LISTED} more" if len(items) > _LISTED else "")


def shown(value: Any) -> str:
    """A value as a message may show it: short, and never raising, whatever the value is."""
    try:
        if isinstance(value, (str, bytes)):
            value = value[: _SHOWN_CHARACTERS + 1]
        elif isinstance(value, (list, tuple, dict, set, frozenset)) and len(value) > _SHOWN_ITEMS:
            return f"a {type(value).__name__} of {len(value)} items"
        return f"{value!r:.{_SHOWN_CHARACTERS}}"
    except Exception:  # an item whose own __repr__ fails must not hide what is wrong with it
        return "an object"


class WarningLog:
    """Logs what ``checker`` has no other way to tell: the first time, and whenever the number has doubled.

    So the lines are few however long it goes on, and the number of inputs is told within a factor of two.

    *Thread safety*: yes.
    """

    def __init__(self) -> None:
        self._next = count(1).__next__

    def note(self, warnings: Sequence[str]) -> None:
        """Count an input, and perhaps log what is unusual about it."""
        number = self._next()
        if not number & (number - 1):
            _log.warning("%d unusual inputs so far, at last: %s", number, "; ".join(warnings))
