"""Documents of a repository: JSON in one canonical form, sealed with its hash, so that no byte can change unseen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from mlserve.errors import (
    IntegrityError,
    InvalidArgumentError,
    MalformedDocumentError,
    NewerFormatError,
    UnsafePathError,
)

FORMAT: Final = 1
"""Number of the form on disk. It rises when an older mlserve could not read what a newer one writes."""

MAX_DOCUMENT_BYTES: Final = 64 * 1024 * 1024
"""No manifest, log entry or checkpoint is longer; a longer one is refused before it is read."""

_SEAL = ',"sha256":"'


def canonical(value: Any) -> bytes:
    """JSON with sorted keys, no spaces and plain ASCII: equal values have equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def digest_of(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sealed(kind: str, body: Mapping[str, Any]) -> bytes:
    """A document: ``{"body": {...}, "sha256": "..."}`` in one line, its body with its kind and the form's number."""
    text = canonical({**body, "format": FORMAT, "kind": kind})
    return b'{"body":' + text + f'{_SEAL}{digest_of(text)}"}}\n'.encode()


def unsealed(kind: str, data: bytes, path: str) -> dict[str, Any]:
    """The body of a document.

    Args:
        kind: Which kind it must be.
        data: Its bytes.
        path: Where they were read, for messages.

    Raises:
        NewerFormatError: Written by a newer mlserve.
        MalformedDocumentError: Anything else than the very bytes that ``sealed`` made.
    """
    try:
        document = json.loads(data)
        body = document["body"]
        is_sealed = document["sha256"] == digest_of(canonical(body)) and body["kind"] == kind
        number = body["format"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _malformed(kind, path, f"{type(error).__name__}: {error}") from error
    if is_sealed and isinstance(number, int) and number > FORMAT:
        raise NewerFormatError(
            f"{path} is of form {number}, and this mlserve reads forms up to {FORMAT}.",
            hint="Upgrade mlserve.",
            path=path,
        )
    if not is_sealed or number != FORMAT or sealed(kind, body) != data:
        raise _malformed(kind, path, "its hash is another")
    return dict(body)


def _malformed(kind: str, path: str, why: str) -> IntegrityError:
    return MalformedDocumentError(
        f"{path} is no {kind} as mlserve writes it ({why}).",
        hint="It was changed or damaged; restore it from a backup.",
        path=path,
    )


def malformed(kind: str, path: str, error: Exception) -> IntegrityError:
    """The error about a document that is whole but does not say what it should."""
    return _malformed(kind, path, f"{type(error).__name__}: {error}")


def checked_path(name: Any, where: str) -> str:
    """The name of a file below a version's directory: relative, with ``/`` between plain names.

    Raises:
        UnsafePathError: It is absolute, leads out of the directory, or means something else on another system.
    """
    parts = name.split("/") if isinstance(name, str) else []
    unsafe = (
        not parts
        or any(part in {"", ".", ".."} for part in parts)
        or any(character in '\\:*?"<>|' or not character.isprintable() for character in str(name))
    )
    if unsafe:
        raise UnsafePathError(
            f"{where} names the file {name!r}, which is no plain relative path.",
            hint="Names are separated by '/', none is empty, '.' or '..', and none begins at the root.",
            path=str(name),
        )
    return str(name)


def checked_alias(alias: Any) -> str:
    """An alias that can be taken neither for an id nor for a path.

    Raises:
        InvalidArgumentError: It is no text, empty, a number, or has separators or characters that cannot be printed.
    """
    if not isinstance(alias, str) or not alias or alias.isdecimal():
        raise InvalidArgumentError("alias", alias, "a name that is no number", hint="For example 'champion'.")
    if not alias.isprintable() or any(character in "/\\" for character in alias) or alias.strip() != alias:
        raise InvalidArgumentError(
            "alias", alias, "a name without separators, control characters and blanks around it",
            hint="For example 'champion' or 'team-a.champion'.",
        )  # fmt: skip
    return alias


def moment(text: str) -> datetime:
    """A time that was written by ``isoformat``."""
    value = datetime.fromisoformat(text)
    if value.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return value
