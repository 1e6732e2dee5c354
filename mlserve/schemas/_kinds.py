"""Schemas of whatever kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from mlserve.errors import InvalidArgumentError
from mlserve.schemas._arrays import KIND as ARRAY
from mlserve.schemas._arrays import ArraySchema
from mlserve.schemas._documents import parsed
from mlserve.schemas._records import KIND as RECORD
from mlserve.schemas._records import RecordSchema

Schema: TypeAlias = ArraySchema | RecordSchema
"""What a version may carry."""


def schema_from_json(text: str) -> Schema:
    """The schema that ``to_json`` of one of them wrote.

    Raises:
        InvalidArgumentError: Not JSON, not a schema, or written by a newer mlserve.

    Example:
        >>> schema_from_json(ArraySchema(shape=(2,)).to_json()).shape
        (2,)
    """
    document = parsed(text)
    kind = document.get("kind") if isinstance(document, Mapping) else None
    if kind == ARRAY:
        return ArraySchema.from_dict(document)
    if kind == RECORD:
        return RecordSchema.from_dict(document)
    raise InvalidArgumentError("text", text, f"a schema in JSON, of the kind {ARRAY!r} or {RECORD!r}")
