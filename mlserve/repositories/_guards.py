"""Where errors of the system become errors of mlserve, and arguments are looked at."""

from __future__ import annotations

import contextlib
import getpass
import os
import platform
from collections.abc import Iterator, Mapping
from typing import Any

from mlserve.errors import InvalidArgumentError, MlserveError, RepositoryUnavailableError, RepositoryWriteError
from mlserve.repositories._documents import canonical


@contextlib.contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn what the system raises while something is read into ``RepositoryUnavailableError``."""
    try:
        yield
    except MlserveError:
        raise
    except OSError as error:
        raise RepositoryUnavailableError(
            f"{what} cannot be read: {type(error).__name__}: {error}.",
            hint="Is the storage there, and may this process read it?",
            exception=error,
        ) from error


@contextlib.contextmanager
def writing(what: str) -> Iterator[None]:
    """Turn what the system raises while something is written into ``RepositoryWriteError``."""
    try:
        yield
    except MlserveError:
        raise
    except OSError as error:
        raise RepositoryWriteError(
            f"{what} failed: {type(error).__name__}: {error}.",
            hint="Nothing is half-written; history() tells whether the change was made before it failed.",
            path=error.filename if isinstance(error.filename, str) else None,
            exception=error,
        ) from error


def checked_root(path: Any) -> str:
    """The absolute path of a repository.

    Raises:
        InvalidArgumentError: It is no path.
    """
    try:
        text = os.fspath(path)
    except TypeError:
        text = None
    if not isinstance(text, str) or not text or "\0" in text:
        raise InvalidArgumentError("path", path, "a path", hint="For example 'models' or Path('models').")
    return os.path.realpath(text)


def checked_actor(actor: str | None) -> str:
    """Who makes changes.

    Raises:
        InvalidArgumentError: It is no text, or empty.
    """
    if actor is None:
        try:
            user = getpass.getuser()
        except (OSError, KeyError, ImportError):  # a container without an entry for its user
            user = "unknown"
        return f"{user}@{platform.node()}"
    if not isinstance(actor, str) or not actor:
        raise InvalidArgumentError("actor", actor, "a non-empty string", hint="For example 'training job 17'.")
    return actor


def checked_evidence(reason: Any, evidence: Mapping[str, Any] | None) -> None:
    """Refuse what cannot be kept in the log.

    Raises:
        InvalidArgumentError: A reason that is no text, or evidence that is no JSON.
    """
    if not isinstance(reason, str):
        raise InvalidArgumentError("reason", reason, "text")
    try:
        is_mapping = evidence is None or isinstance(evidence, Mapping)
        canonical(dict(evidence or {}) if is_mapping else None)
    except (TypeError, ValueError):
        is_mapping = False
    if not is_mapping or not all(isinstance(key, str) for key in evidence or {}):
        raise InvalidArgumentError(
            "evidence", evidence, "a mapping of names to JSON values", hint="For example {'accuracy': 0.93}."
        )


def checked_count(parameter: str, value: Any) -> int:
    """A whole number that is not negative.

    Raises:
        InvalidArgumentError: It is none.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidArgumentError(parameter, value, "a whole number, at least 0")
    return value
