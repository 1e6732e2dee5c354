"""One field of a record: what its values must be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from math import isfinite
from typing import Any, final

import attrs

from mlserve.errors import InvalidArgumentError
from mlserve.schemas._coercions import COERCIONS, UNFIT, FieldKind, bound_of, is_aware, is_missing, to_integer, to_text
from mlserve.schemas._results import listed

UNKNOWN_NUMBER = 0.5
"""A number of which nothing is known, in an example."""

UNKNOWN_TEXT = "text"
UNKNOWN_TIME = datetime(2000, 1, 1)

RANGED = frozenset({FieldKind.INTEGER, FieldKind.FLOAT, FieldKind.DATETIME})
"""Kinds that have a smallest and a largest value."""

_NUMERIC = frozenset({FieldKind.INTEGER, FieldKind.FLOAT})

_EXPECTED: Mapping[FieldKind, str] = {
    FieldKind.BOOLEAN: "True or False",
    FieldKind.INTEGER: "an integer of 64 bits",
    FieldKind.TEXT: "text",
}


def _kind(value: Any) -> FieldKind:
    try:
        return FieldKind(value)
    except ValueError:
        raise InvalidArgumentError("kind", value, f"one of {listed([repr(str(kind)) for kind in FieldKind])}") from None


def _name(_instance: object, _attribute: object, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise InvalidArgumentError("name", value, "a non-empty string")


def _categories(value: Iterable[Any] | None) -> tuple[str, ...] | tuple[int, ...] | None:
    if value is None:
        return None
    given = [None] if isinstance(value, str) else list(value)
    for coerce in (to_text, to_integer):
        found = tuple(coerce(category) for category in given)
        if found and UNFIT not in found and len(set(found)) == len(found):
            return found
    raise InvalidArgumentError("categories", value, "distinct texts, or distinct whole numbers, at least one")


@final
@attrs.frozen
class Field:
    """What the values of one field must be.

    Values are coerced where nothing is lost: whole numbers to floats that hold them exactly, floats that are whole to
    integers, dates and ISO 8601 text to times. A boolean is no number, and a number is no text.

    *Thread safety*: immutable.

    Attributes:
        name: Its key in a record.
        kind: What its values are: a ``FieldKind`` or its word.
        allow_missing: Whether None, NaN, NaT and ``pandas.NA`` are accepted. The model is then given NaN for a number
            and None for anything else.
        optional: Whether a record may leave it out, which means a missing value; implies ``allow_missing``.
        allow_infinite: Whether infinities are accepted; for floats only.
        has_offset: Whether times have an offset from UTC. Those that differ from it are refused: to add an offset would
            be a guess, and to drop one a loss.
        minimum: Smallest number or earliest time, or None. ``RecordSchema.ranges`` says what it is good for.
        maximum: Largest number or latest time, or None.
        categories: The texts, or the whole numbers, of a categorical field; None for any other.
        ordered: Whether the categories are, from the first to the last, as those of a pandas column may be.
        dtype: The dtype of its column in a pandas frame, as pandas names it; None for what pandas chooses. Learned from
            a frame, so that ``RecordSchema.to_frame`` gives a model such columns as it was trained on.
        sample: A text for ``RecordSchema.example``, since one made up may be none that the model was trained on; only
            for fields of text.

    Raises:
        InvalidArgumentError: Values that do not fit together.

    Example:
        >>> Field("age", "integer", minimum=0).kind
        <FieldKind.INTEGER: 'integer'>
    """

    name: str = attrs.field(validator=_name)
    kind: FieldKind = attrs.field(converter=_kind)
    allow_missing: bool = attrs.field(default=False, kw_only=True)
    optional: bool = attrs.field(default=False, kw_only=True)
    allow_infinite: bool = attrs.field(default=False, kw_only=True)
    has_offset: bool = attrs.field(default=False, kw_only=True)
    minimum: Any = attrs.field(default=None, kw_only=True)
    maximum: Any = attrs.field(default=None, kw_only=True)
    categories: tuple[str, ...] | tuple[int, ...] | None = attrs.field(
        default=None, kw_only=True, converter=_categories
    )
    ordered: bool = attrs.field(default=False, kw_only=True)
    dtype: str | None = attrs.field(default=None, kw_only=True)
    sample: str | None = attrs.field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if self.optional:
            object.__setattr__(self, "allow_missing", True)
        if (self.kind is FieldKind.CATEGORICAL) is not (self.categories is not None):
            raise InvalidArgumentError("categories", self.categories, "those of a categorical field, None of any other")
        for parameter, kind in (
            ("allow_infinite", FieldKind.FLOAT),
            ("has_offset", FieldKind.DATETIME),
            ("sample", FieldKind.TEXT),
            ("ordered", FieldKind.CATEGORICAL),
        ):
            if getattr(self, parameter) and self.kind is not kind:
                raise InvalidArgumentError(parameter, getattr(self, parameter), f"left out: {self.name} is no {kind}")
        for parameter in ("dtype", "sample"):
            if not isinstance(getattr(self, parameter), str | None):
                raise InvalidArgumentError(parameter, getattr(self, parameter), "a string, or None")
        for parameter in ("minimum", "maximum"):
            object.__setattr__(self, parameter, self._bound(parameter))
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise InvalidArgumentError("minimum", self.minimum, f"at most the maximum, {self.maximum}")

    def _bound(self, parameter: str) -> Any:
        given = getattr(self, parameter)
        if given is None:
            return None
        if self.kind not in RANGED:
            raise InvalidArgumentError(parameter, given, f"None for {self.name}, which is {self.kind}")
        value: Any = UNFIT if is_missing(given) else coerced(self, given)
        if value is UNFIT or (self.kind is FieldKind.FLOAT and not isfinite(value)):
            raise InvalidArgumentError(parameter, given, f"{expected_of(self)}; None for no bound")
        return bound_of(value, is_upper=parameter == "maximum") if self.kind is FieldKind.DATETIME else value


def coerced(field: Field, value: Any) -> Any:
    """A value that is not missing as the kind of its field, or ``UNFIT``. Categories need not be known ones."""
    if field.categories is not None:
        return (to_text if isinstance(field.categories[0], str) else to_integer)(value)
    found = COERCIONS[field.kind](value)
    if found is UNFIT:
        return UNFIT
    if field.kind is FieldKind.FLOAT and not field.allow_infinite and not isfinite(found):
        return UNFIT
    if field.kind is FieldKind.DATETIME and is_aware(found) is not field.has_offset:
        return UNFIT
    return found


def missing_of(field: Field) -> Any:
    """What the model is given for a missing value."""
    return float("nan") if field.kind in _NUMERIC else None


def expected_of(field: Field) -> str:
    """What a field accepts, in words."""
    if field.categories is not None:
        return f"one of {listed([repr(category) for category in field.categories])}"
    if field.kind is FieldKind.FLOAT:
        return f"a {'' if field.allow_infinite else 'finite '}number that a float64 holds exactly"
    if field.kind is FieldKind.DATETIME:
        return f"a time {'with' if field.has_offset else 'without'} an offset from UTC, or ISO 8601 text of one"
    return _EXPECTED[field.kind]


def range_of(field: Field) -> str:
    """The range of a field, in words."""
    low, high = (
        None if bound is None else bound.isoformat() if isinstance(bound, datetime) else f"{bound}"
        for bound in (field.minimum, field.maximum)
    )
    if high is None:
        return f"at least {low}"
    return f"at most {high}" if low is None else f"between {low} and {high}"


def example_of(field: Field) -> Any:
    """A value that fits: of a range its middle."""
    if field.categories is not None:
        return field.categories[len(field.categories) // 2]
    if field.kind is FieldKind.TEXT:
        return UNKNOWN_TEXT if field.sample is None else field.sample
    if field.kind is FieldKind.BOOLEAN:
        return False
    low, high = field.minimum, field.maximum
    if field.kind is FieldKind.DATETIME:
        unknown: Any = UNKNOWN_TIME.replace(tzinfo=UTC if field.has_offset else None)
        middle = None if low is None or high is None else low + (high - low) / 2
    elif field.kind is FieldKind.INTEGER:
        unknown, middle = 0, None if low is None or high is None else (low + high) // 2
    else:
        # Halving first, as the sum of two large bounds could overflow.
        unknown, middle = UNKNOWN_NUMBER, None if low is None or high is None else low / 2 + high / 2
    middle = unknown if middle is None else middle
    above = middle if low is None else max(middle, low)
    return above if high is None else min(above, high)


def document_of(field: Field) -> dict[str, Any]:
    """A field as a dict of JSON values, without what is as by default."""
    found: dict[str, Any] = {}
    for attribute in attrs.fields(Field):
        value = getattr(field, attribute.name)
        if attribute.default is attrs.NOTHING or value != attribute.default:
            found[attribute.name] = value.isoformat() if isinstance(value, datetime) else value
    found["kind"] = str(field.kind)
    if field.categories is not None:
        found["categories"] = list(field.categories)
    return found
