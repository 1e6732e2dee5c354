"""From an input to the record that a schema promises, and the message where there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from math import isinf
from sys import float_info
from typing import TYPE_CHECKING, Any, final

import attrs

from mlserve._rendering import described
from mlserve.errors import InvalidInputError
from mlserve.schemas._coercions import EXACT_INTEGER, LARGEST_INTEGER, SMALLEST_INTEGER, UNFIT, FieldKind, is_missing
from mlserve.schemas._fields import Field, coerced, expected_of, missing_of, range_of
from mlserve.schemas._named import labelled, misnamed
from mlserve.schemas._results import FAULTS_NAMED, Enforcement, Fault, listed, refusal, shown

if TYPE_CHECKING:
    from mlserve.schemas._records import RecordSchema

_PLAIN_TYPES: Mapping[FieldKind, type[Any]] = {
    FieldKind.BOOLEAN: bool,
    FieldKind.INTEGER: int,
    FieldKind.FLOAT: float,
    FieldKind.TEXT: str,
    FieldKind.DATETIME: datetime,
}

_MISSING_HINT = "Fill missing values before the call, or infer the schema from data that has them."


@attrs.frozen(eq=False)
class Plain:
    """What a value of a field is when it is certainly valid as it is.

    Attributes:
        field: The field.
        kind: Its type.
        low: Smallest value; None where nothing is compared.
        high: Largest value, alike.
        known: What it is one of, or None.
    """

    field: Field
    kind: type
    low: Any = None
    high: Any = None
    known: frozenset[Any] | None = None


@final
class RecordCheck:
    """Looks at inputs as closely as it takes.

    *Thread safety*: yes; nothing is changed after it is built.

    Args:
        schema: What inputs must look like.
    """

    def __init__(self, schema: RecordSchema) -> None:
        self._schema = schema
        self._plain = [_plain(field, schema) for field in schema.fields]

    def quick(self) -> Callable[[dict[Any, Any]], bool]:
        """A function that tells whether a dict is certainly valid as it is, in its order and its types.

        It may raise anything where the dict is not.
        """
        names = self._schema.names
        # Apart, so that each value is asked no more than its kind needs.
        compared = [(each.field.name, each.kind, each.low, each.high) for each in self._plain if each.low is not None]
        known = [(each.field.name, each.kind, each.known) for each in self._plain if each.known is not None]
        typed = [(each.field.name, each.kind) for each in self._plain if each.low is None and each.known is None]

        def is_good(record: dict[Any, Any]) -> bool:
            if tuple(record) != names:
                return False
            for name, kind, low, high in compared:
                value = record[name]
                if type(value) is not kind or not low <= value <= high:
                    return False
            for name, kind in typed:
                if type(record[name]) is not kind:
                    return False
            for name, kind, allowed in known:
                value = record[name]
                if type(value) is not kind or value not in allowed:
                    return False
            return True

        return is_good

    def check(self, input: Any, warnings: list[str]) -> dict[str, Any]:
        """The record for the model; adds to ``warnings`` what is unusual about it.

        Raises:
            InvalidInputError: The input does not fit.
        """
        try:
            return self._checked(input, warnings)
        except InvalidInputError:
            raise
        except Exception as exception:  # a foreign object may raise anything when it is read
            raise self._no_record(f"cannot be read ({described(exception)})") from exception

    def _checked(self, input: Any, warnings: list[str]) -> dict[str, Any]:
        schema = self._schema
        record = labelled(input)
        if record is None:
            raise self._no_record("is None" if input is None else f"is {shown(input)} of type {type(input).__name__}")
        misfit = misnamed(record, schema.names, schema.required, "field", ignore_extra=schema.extra == "ignore")
        faults = [] if misfit is None else [misfit]
        found: dict[str, Any] = {}
        unusual: list[str] = []
        for plain in self._plain:
            name = plain.field.name
            value = self._judged(plain, record[name], unusual) if name in record else missing_of(plain.field)
            if isinstance(value, Fault):
                faults.append(value)
            found[name] = value
        if faults:
            raise refusal(faults)
        warnings += unusual[:FAULTS_NAMED]
        return found

    def _judged(self, plain: Plain, value: Any, unusual: list[str]) -> Any:
        """The value for the model, or a ``Fault``; adds to ``unusual`` what is to be warned of."""
        field = plain.field
        try:
            kind = type(value)
            if kind is int and plain.kind is float and -EXACT_INTEGER <= value <= EXACT_INTEGER:
                value, kind = float(value), float  # what JSON has most often
            if kind is plain.kind:
                if plain.low is not None:
                    if plain.low <= value <= plain.high:
                        return value
                elif plain.known is None or value in plain.known:
                    return value
            if is_missing(value):
                return missing_of(field) if field.allow_missing else _missing(field, value)
            found = coerced(field, value)
            if found is not UNFIT:
                odd = self._odd(field, found)
                if odd is None:
                    return found
                fault, enforcement = odd
                if enforcement is Enforcement.REFUSE:
                    return fault
                unusual.append(fault.text)
                return found
        except Exception:  # a foreign object may raise anything when it is looked at
            pass
        return Fault(field.name, f"{field.name} is {shown(value)} of type {type(value).__name__}", expected_of(field))

    def _odd(self, field: Field, value: Any) -> tuple[Fault, Enforcement] | None:
        """What is unusual about a value of the right kind, and what is done about it."""
        ranges, unknown = self._schema.ranges, self._schema.unknown_categories
        if field.categories is not None:
            if unknown is Enforcement.OFF or value in field.categories:
                return None
            return Fault(field.name, f"{field.name} is {shown(value)}", expected_of(field)), unknown
        if ranges is Enforcement.OFF or not _is_outside(field, value):
            return None
        return Fault(field.name, f"{field.name} is {_text(value)}", range_of(field)), ranges

    def _no_record(self, wrong: str) -> InvalidInputError:
        expected = f"a mapping with the fields {listed(self._schema.names)}"
        return InvalidInputError(f"the input {wrong}; expected {expected}.", expected=expected)


def _plain(field: Field, schema: RecordSchema) -> Plain:
    kind: type[Any] = _PLAIN_TYPES[field.kind] if field.categories is None else type(field.categories[0])
    if field.categories is not None and schema.unknown_categories is not Enforcement.OFF:
        return Plain(field, kind, known=frozenset(field.categories))
    if kind is int:
        bounds: tuple[Any, Any] = SMALLEST_INTEGER, LARGEST_INTEGER
    elif kind is float:
        bounds = -float_info.max, float_info.max  # NaN and infinities are not between these
    elif kind is datetime:
        # A time with an offset cannot be compared with one without, which raises.
        zone = UTC if field.has_offset else None
        bounds = datetime.min.replace(tzinfo=zone), datetime.max.replace(tzinfo=zone)
    else:
        return Plain(field, kind)
    if schema.ranges is Enforcement.OFF:
        return Plain(field, kind, *bounds)
    low = bounds[0] if field.minimum is None else field.minimum
    return Plain(field, kind, low, bounds[1] if field.maximum is None else field.maximum)


def _is_outside(field: Field, value: Any) -> bool:
    if field.kind is FieldKind.FLOAT and isinf(value):
        return False  # that is for allow_infinite to tell
    return (field.minimum is not None and value < field.minimum) or (
        field.maximum is not None and value > field.maximum
    )


def _missing(field: Field, value: Any) -> Fault:
    return Fault(field.name, f"{field.name} is {shown(value)}", f"{expected_of(field)}, not missing", _MISSING_HINT)


def _text(value: Any) -> str:
    return str(value.isoformat()) if isinstance(value, datetime) else shown(value)
