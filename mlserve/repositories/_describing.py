"""From what ``register`` was given to what a version carries beside its model: the same in every repository."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from mlserve.errors import InvalidArgumentError
from mlserve.records import Baseline, InputSample, ModelVersion, Task, VersionDescription
from mlserve.records._values import FrozenMapping

if TYPE_CHECKING:
    from mlserve.schemas import RecordSchema, Schema


@attrs.frozen(eq=False, repr=False)
class Carried:
    """What a version carries beside its model, before the version has a number.

    Attributes:
        task: See ``VersionDescription``; so are the rest.
        example: One input.
        schema: What inputs must look like.
        baseline: What later windows are compared with.
        lineage: Where the version came from.
    """

    task: Task | None
    example: Any
    schema: Schema | None
    baseline: Baseline | None
    lineage: Mapping[str, str] = attrs.field(factory=FrozenMapping)

    def of(self, version: ModelVersion) -> VersionDescription:
        """The description of a version that carries this."""
        return VersionDescription(version, self.task, self.example, self.schema, self.baseline, self.lineage)


def carried_with(
    model: Any,
    task: Task | str | None,
    example: Any,
    schema: Schema | None,
    baseline: Any,
    lineage: Mapping[str, str] | None = None,
) -> Carried:
    """Check what ``register`` was given, and learn the schema where none was.

    Raises:
        InvalidArgumentError: An unknown task, a baseline that is no table, an example that does not fit the schema, a
            lineage that is not text.
    """
    schema = _schema_of(model, example, baseline) if schema is None else schema
    if schema is not None and example is not None:
        checked = schema.validate(example)
        if checked.error is not None:
            raise InvalidArgumentError("example", example, "an input that fits the schema", hint=checked.message)
    return Carried(
        task=_task(task),
        example=example,
        schema=schema,
        baseline=_baseline(baseline, None if schema is None else schema.names),
        lineage=text_by_key("lineage", lineage),
    )


def text_by_key(parameter: str, value: Mapping[str, str] | None) -> FrozenMapping[str, str]:
    """A mapping of text to text, as it was given or empty.

    Raises:
        InvalidArgumentError: It is no mapping, or holds something else than text.
    """
    if value is not None and not isinstance(value, Mapping):
        raise InvalidArgumentError(parameter, value, "a mapping of str to str")
    for key, text in (value or {}).items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise InvalidArgumentError(parameter, {key: text}, "a mapping of str to str", hint="Use str(value).")
    return FrozenMapping(value)


def _task(task: Task | str | None) -> Task | None:
    try:
        return None if task is None else Task(task)
    except ValueError:
        raise InvalidArgumentError("task", task, "'classification', 'regression' or None") from None


def _schema_of(model: Any, example: Any, baseline: Any) -> Schema | None:
    # A plain callable takes what it likes: one example does not tell the shape of the next input.
    if not hasattr(model, "predict"):
        return None
    from mlserve.schemas import ArraySchema, feature_row  # a model that takes what it likes needs no schemas
    from mlserve.schemas._named import labelled

    names = getattr(model, "feature_names_in_", None)
    if names is not None and hasattr(baseline, "columns") and labelled(example) is not None:
        return _record_schema(list(names), example, baseline)
    if isinstance(example, Mapping) or feature_row(example) is None:
        return None
    schema = ArraySchema.infer([example])
    return ArraySchema(
        shape=schema.shape,
        dtype="float64" if schema.dtype != "float32" else "float32",
        allow_missing=schema.allow_missing,
        allow_infinite=schema.allow_infinite,
    )


def _record_schema(names: list[str], example: Any, baseline: Any) -> RecordSchema | None:
    """What the columns that a model selects were like; None where they tell nothing that fits the example."""
    from mlserve.schemas import RecordSchema  # only models fitted on frames pay for it

    if not set(names) <= {str(column) for column in baseline.columns}:
        return None
    try:
        # Lenient, since nobody asked for it: a model may well know what to do with a new category.
        schema = RecordSchema.infer(baseline[names], extra="ignore", unknown_categories="warn")
    except InvalidArgumentError:
        return None
    return schema if schema.validate(example).is_valid else None


def _baseline(baseline: Any, names: tuple[str, ...] | None) -> Baseline | None:
    if baseline is None or isinstance(baseline, Baseline):
        return baseline
    if isinstance(baseline, InputSample):
        return Baseline(inputs=baseline)
    columns = getattr(baseline, "columns", None)
    names = names if columns is None else tuple(str(column) for column in columns)
    return Baseline(inputs=InputSample(rows=baseline, feature_names=names))
