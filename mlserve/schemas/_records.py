"""What inputs that are records must look like."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, final

import attrs

from mlserve.errors import InvalidArgumentError, InvalidInputError
from mlserve.schemas._coercions import FieldKind
from mlserve.schemas._documents import document, fields_of, no_schema, parsed, text_of
from mlserve.schemas._fields import Field, document_of, example_of
from mlserve.schemas._frames import frame_of
from mlserve.schemas._learning import columns_of, learned
from mlserve.schemas._record_checks import RecordCheck
from mlserve.schemas._results import Enforcement, ValidationResult, WarningLog, listed, to_ranges, to_unknown_categories

KIND = "record"
"""How the JSON form says what it is."""

EXTRA = ("refuse", "ignore")


def _fields(value: Iterable[Field]) -> tuple[Field, ...]:
    fields = tuple(value)
    if not fields or not all(isinstance(field, Field) for field in fields):
        raise InvalidArgumentError("fields", fields, "one Field or more")
    names = [field.name for field in fields]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InvalidArgumentError("fields", repeated, "fields with distinct names")
    return fields


def _extra(_instance: object, _attribute: object, value: Any) -> None:
    if value not in EXTRA:
        raise InvalidArgumentError("extra", value, "'refuse' or 'ignore'")


@final
@attrs.frozen
class RecordSchema:
    """Inputs that are records: a value for each of some named fields, of whatever kind.

    An input may be a mapping, a pandas series indexed by names, a pandas or polars frame of one row, or a record of a
    structured array. The model is given a dict in the schema's order of fields, with values coerced where nothing is
    lost: see ``Field``. A dict that is so already is given to the model as it is, not copied.

    *Thread safety*: immutable.

    Attributes:
        fields: What each value must be, in the order in which the model is given them; names are distinct.
        extra: What is done about names that no field has: ``"refuse"``, or ``"ignore"``: they are left out.
        ranges: What is done about values outside ``minimum`` and ``maximum`` of their field: an ``Enforcement`` or its
            word.
        unknown_categories: The same of texts or numbers that are none of the categories of their field.

    Raises:
        InvalidArgumentError: No field, repeated names, or a word that is none of these.

    Example:
        >>> schema = RecordSchema.infer([{"age": 31, "city": "Bern"}, {"age": 62, "city": "Rome"}])
        >>> schema.validate({"city": "Oslo", "age": 40.0}).value
        {'age': 40, 'city': 'Oslo'}
        >>> print(schema.validate({"age": "forty", "city": "Oslo"}).message)
        age is 'forty' of type str; expected an integer of 64 bits.
        >>> by_hand = RecordSchema([Field("age", "integer", minimum=0, maximum=130)], ranges="refuse")
        >>> print(by_hand.validate({"age": 400}).message)
        age is 400; expected between 0 and 130.
    """

    fields: tuple[Field, ...] = attrs.field(converter=_fields)
    extra: str = attrs.field(default="refuse", kw_only=True, validator=_extra)
    ranges: Enforcement = attrs.field(default=Enforcement.OFF, kw_only=True, converter=to_ranges)
    unknown_categories: Enforcement = attrs.field(
        default=Enforcement.REFUSE, kw_only=True, converter=to_unknown_categories
    )

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the fields, in order."""
        return tuple(field.name for field in self.fields)

    @property
    def required(self) -> tuple[str, ...]:
        """The names of the fields that a record may not leave out, in order."""
        return tuple(field.name for field in self.fields if not field.optional)

    @classmethod
    def infer(
        cls,
        rows: Any,
        *,
        kinds: Mapping[str, FieldKind | str] | None = None,
        extra: str = "refuse",
        ranges: Enforcement | str = Enforcement.OFF,
        unknown_categories: Enforcement | str = Enforcement.REFUSE,
    ) -> RecordSchema:
        """Learn a schema from data.

        Of each field it learns the kind; whether values may be missing, infinite, or left out; the smallest and the
        largest value; categories, where the column of a frame declares them, or where a text field has at most 50
        distinct values that come back ten times on average. Text is never taken for times unless ``kinds`` says so.
        Of other text the first value is kept, cut to 200 characters, for ``example``.

        Args:
            rows: Mappings, a pandas or polars frame, or a structured array; at least one row.
            kinds: The kind of some fields, where it is not to be found out: ``{"shop": "categorical"}`` for numbers
                that are codes, ``{"note": "text"}`` for text whose values happen to be few, ``{"born": "datetime"}``
                for times written as text, ``{"price": "float"}`` where all prices seen are whole.
            extra: See ``RecordSchema``.
            ranges: See ``RecordSchema``.
            unknown_categories: See ``RecordSchema``.

        Returns:
            A schema that accepts each of the rows.

        Raises:
            InvalidArgumentError: No rows, names that are no distinct text, a field without any value, or with values of
                several kinds or of none that there is, or ``kinds`` of fields that do not exist.
        """
        columns = columns_of(rows)
        declared = dict(kinds or {})
        unknown = declared.keys() - {column.name for column in columns}
        if unknown:
            expected = f"kinds of fields that the data has: {listed([column.name for column in columns])}"
            raise InvalidArgumentError("kinds", sorted(unknown, key=str), expected)
        return cls(
            [learned(column, declared.get(column.name)) for column in columns],
            extra=extra,
            ranges=ranges,
            unknown_categories=unknown_categories,
        )

    def validate(self, input: Any) -> ValidationResult:
        """Check one input.

        Args:
            input: Anything.

        Returns:
            The dict for the model and what is unusual about it, or what was wrong. Never raises.
        """
        warnings: list[str] = []
        try:
            return ValidationResult(True, RecordCheck(self).check(input, warnings), warnings=tuple(warnings))
        except InvalidInputError as error:
            return ValidationResult(False, error=error.forget_traceback())

    def example(self) -> dict[str, Any]:
        """A record that fits: of a range its middle, of categories one, of other text what was seen."""
        return {field.name: example_of(field) for field in self.fields}

    def to_frame(self, records: Sequence[Mapping[str, Any]]) -> Any:
        """Valid records as a pandas frame with the columns that the schema was learned from.

        Args:
            records: What ``validate`` or ``checker`` gave.

        Returns:
            A frame with a column for each field, in order, of the dtype that the data had, and a row for each record. A
            category that is not known is missing in a column of pandas categories. Of categories that are neither texts
            nor whole numbers the values come back, as a plain column; a missing value of a dtype of numpy's that has no
            room for one makes a column of objects.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        return frame_of(self.fields, records)

    def to_dict(self) -> dict[str, Any]:
        """The schema as a dict of JSON values, for storing beside a version."""
        return document(
            KIND,
            {
                "fields": [document_of(field) for field in self.fields],
                "extra": self.extra,
                "ranges": str(self.ranges),
                "unknown_categories": str(self.unknown_categories),
            },
        )

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> RecordSchema:
        """The schema that ``to_dict`` wrote.

        Raises:
            InvalidArgumentError: Not a record schema, or written by a newer mlserve.
        """
        try:
            values = fields_of(document, KIND)
            return cls([Field(**field) for field in values.pop("fields")], **values)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise no_schema(document, "a record", error) from error

    def to_json(self) -> str:
        """The schema as JSON text: what ``to_dict`` gives."""
        return text_of(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> RecordSchema:
        """The schema that ``to_json`` wrote.

        Raises:
            InvalidArgumentError: Not JSON, not a record schema, or written by a newer mlserve.
        """
        return cls.from_dict(parsed(text))

    def checker(self) -> Callable[[Any], dict[str, Any]]:
        """A function from an input to the dict for the model, which raises ``InvalidInputError``.

        Built once for a version, it takes the common case, a dict in the order of fields that needs no coercion, by the
        shortest way. What is unusual about an input is logged, the first time and whenever the number of such inputs
        has doubled.

        *Thread safety*: the function may be called from several threads at once.
        """
        closely, log = RecordCheck(self), WarningLog()
        is_good = closely.quick()

        def check(input: Any) -> dict[str, Any]:
            if type(input) is dict:
                try:
                    if is_good(input):
                        return input
                except Exception:  # a key or a value that cannot even be compared is looked at more closely
                    pass
            warnings: list[str] = []
            record = closely.check(input, warnings)
            if warnings:
                log.note(warnings)
            return record

        return check
