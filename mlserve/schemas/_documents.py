"""Schemas as JSON: what every kind of schema has in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlserve.errors import InvalidArgumentError, MlserveError

FORMAT = 1
"""Version of the JSON form."""


def document(kind: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a schema, with what tells a reader what they are."""
    return {"format": FORMAT, "kind": kind, **fields}


def fields_of(document: Any, kind: str) -> dict[str, Any]:
    """The fields that ``document`` was given.

    Raises:
        ValueError: Another format or kind; so do ``TypeError`` and ``KeyError`` where it is no document at all.
    """
    fields = dict(document)
    found = fields.pop("format"), fields.pop("kind")
    if found != (FORMAT, kind):
        raise ValueError(f"found format {found[0]!r} and kind {found[1]!r}")
    return fields


def text_of(document: Mapping[str, Any]) -> str:
    """The document as JSON, the same text for the same schema."""
    import json

    return json.dumps(document, sort_keys=True, allow_nan=False)


def parsed(text: str) -> Any:
    """What a text of JSON holds.

    Raises:
        InvalidArgumentError: Not JSON.
    """
    import json

    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidArgumentError("text", text, f"JSON ({error})", hint="Use to_json() of a schema.") from error


def no_schema(document: Any, kind: str, error: Exception) -> InvalidArgumentError:
    """The error for a document that is no schema of a kind."""
    reason = error.message if isinstance(error, MlserveError) else f"{type(error).__name__}: {error}"
    return InvalidArgumentError(
        "document", document, f"{kind} schema, format {FORMAT} ({reason})", hint="Use to_dict() or to_json() of one."
    )
