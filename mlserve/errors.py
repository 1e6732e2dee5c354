"""Every exception mlserve raises.

::

    MlserveError
    ├── InvalidArgumentError            (ValueError)    a parameter that cannot mean anything
    ├── MissingExtraError               (ImportError)   an optional package that is not installed
    ├── MissingCapabilityError          (TypeError)     a store that lacks a protocol the call needs
    ├── SnapshotFormatError             (ValueError)    bytes that are no snapshot of a monitor, or a damaged one
    ├── StoreSchemaError                (ValueError)    tables in a database that a newer mlserve made
    ├── RepositoryError                 (Exception)     a repository that cannot do what was asked; carries a path
    │   ├── RepositoryWriteError        (OSError)       the disk refused
    │   ├── NewerFormatError            (ValueError)    written by a newer mlserve
    │   ├── UnsupportedFormatError      (TypeError)     no format for this model, or none of this name
    │   ├── SerializationError          (ValueError)    a model or an example that cannot be stored
    │   ├── UntrustedModelError         (PermissionError)  loading could run code, and nobody said that it may
    │   ├── SignatureError              (PermissionError)  who published it cannot be proven
    │   │   ├── UnsignedVersionError    (PermissionError)
    │   │   └── UnknownKeyError         (LookupError)
    │   └── IntegrityError              (ValueError)    what is stored is not what was published
    │       ├── DigestMismatchError     (ValueError)
    │       ├── FileSizeError           (ValueError)
    │       ├── MissingFileError        (ValueError)
    │       ├── UnexpectedFileError     (ValueError)
    │       ├── UnsafePathError         (ValueError)
    │       ├── SymbolicLinkError       (ValueError)
    │       ├── MalformedDocumentError  (ValueError)
    │       ├── BrokenHistoryError      (ValueError)
    │       └── DecompressionBombError  (ValueError)
    └── ServingError                                    why one prediction failed; carries an ErrorKind
        ├── InvalidInputError           (ValueError)
        ├── VersionNotFoundError        (LookupError)
        ├── ModelLoadFailedError        (RuntimeError)
        ├── UnsupportedModelError       (TypeError)
        ├── PredictionExceptionError    (RuntimeError)
        ├── DeadlineExceededError       (TimeoutError)
        ├── OverloadedError             (RuntimeError)
        ├── CircuitOpenError            (RuntimeError)
        ├── RepositoryUnavailableError  (ConnectionError)
        └── ServerClosedError           (RuntimeError)

Each class also inherits the builtin a caller would already catch. A message says what was wrong, where, and what was
expected, and ends in a hint; the values it speaks of are attributes. Exceptions of other libraries are translated
where they enter and kept as ``exception``.
"""

from __future__ import annotations

from enum import StrEnum, unique
from typing import Any, ClassVar, cast

from typing_extensions import Self, override

__all__ = [
    "BrokenHistoryError", "CircuitOpenError", "DeadlineExceededError", "DecompressionBombError", "DigestMismatchError",
    "ErrorKind", "FileSizeError", "IntegrityError", "InvalidArgumentError", "InvalidInputError",
    "MalformedDocumentError", "MissingCapabilityError", "MissingExtraError", "MissingFileError", "MlserveError",
    "ModelLoadFailedError", "NewerFormatError", "OverloadedError", "PredictionExceptionError", "RepositoryError",
    "RepositoryUnavailableError", "RepositoryWriteError", "SerializationError", "ServerClosedError", "ServingError",
    "SignatureError", "SnapshotFormatError", "StoreSchemaError", "SymbolicLinkError", "UnexpectedFileError",
    "UnknownKeyError", "UnsafePathError", "UnsignedVersionError", "UnsupportedFormatError", "UnsupportedModelError",
    "UntrustedModelError", "VersionNotFoundError",
]  # fmt: skip


@unique
class ErrorKind(StrEnum):
    """Why a prediction failed.

    A member's name is its value, so that code, records, logs, metrics and dashboards share one spelling.
    """

    InvalidInput = "InvalidInput"
    VersionNotFound = "VersionNotFound"
    ModelLoadFailed = "ModelLoadFailed"
    UnsupportedModel = "UnsupportedModel"
    PredictionException = "PredictionException"
    DeadlineExceeded = "DeadlineExceeded"
    Overloaded = "Overloaded"
    CircuitOpen = "CircuitOpen"
    RepositoryUnavailable = "RepositoryUnavailable"
    ServerClosed = "ServerClosed"

    @property
    def is_caller_fault(self) -> bool:
        """Whether the caller caused it. Such errors count in an error rate, not in a fault rate."""
        return self in _CALLER_FAULTS


_CALLER_FAULTS = frozenset({ErrorKind.InvalidInput, ErrorKind.VersionNotFound})


def _restore(cls: type[MlserveError], args: tuple[Any, ...], state: dict[str, Any]) -> MlserveError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class MlserveError(Exception):
    """The root of the tree: ``except MlserveError`` catches whatever mlserve raises on purpose.

    Args:
        message: What was wrong, where, and what was expected.
        hint: How to mend it; appended to the message.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.hint = hint
        self.message: str = f"{message} {hint}".strip()
        super().__init__(self.message)

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        # BaseException would call cls(*args) and lose the keyword-only values.
        return _restore, (type(self), self.args, dict(self.__dict__))


class InvalidArgumentError(MlserveError, ValueError):
    """A parameter was given a value that cannot mean anything.

    Attributes:
        parameter: Name of the parameter.
        value: What was given.
    """

    def __init__(self, parameter: str, value: object, expected: str, *, hint: str = "") -> None:
        self.parameter = parameter
        self.value = value
        self.expected = expected
        super().__init__(f"{parameter} must be {expected}, got {_shorten(value)}.", hint=hint)


class MissingExtraError(MlserveError, ImportError):
    """An optional package is needed for this call and is not installed.

    Attributes:
        package: The package that could not be imported.
        extra: The extra of mlserve that installs it.
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        self.package = package
        self.extra = extra
        super().__init__(f"{purpose} needs {package}.", hint=f"Install it with: pip install 'mlserve[{extra}]'.")


class MissingCapabilityError(MlserveError, TypeError):
    """A store lacks an optional protocol that the call needs.

    Attributes:
        store: Class name of the store.
        protocol: Name of the protocol in ``mlserve.protocols`` to implement.
    """

    def __init__(self, store: object, protocol: str, purpose: str) -> None:
        self.store: str = type(store).__name__
        self.protocol = protocol
        super().__init__(
            f"{purpose} needs the protocol {protocol}, which {self.store} does not implement.",
            hint=f"Implement mlserve.protocols.{protocol}, or use a store that has it.",
        )


class SnapshotFormatError(MlserveError, ValueError):
    """Bytes that should be a ``MonitorSnapshot`` and are not.

    Attributes:
        problem: What is wrong with them.
    """

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(
            f"cannot read a snapshot of a monitor: {problem}.",
            hint="Take a new one from its source; its counts are cumulative, nothing is lost.",
        )


class StoreSchemaError(MlserveError, ValueError):
    """The tables in ``store`` are of a version, ``found``, above ``supported``: a newer mlserve made them."""

    def __init__(self, store: str, found: int, supported: int) -> None:
        self.store = store
        self.found = found
        self.supported = supported
        super().__init__(
            f"{store} holds tables of version {found}, and this mlserve knows versions up to {supported}.",
            hint="Upgrade mlserve, or give it tables of its own with table_prefix=.",
        )


_OBJECT: Any = AttributeError.__dict__["obj"]


class ServingError(MlserveError):
    """Why one prediction failed. ``ServingResult.error`` holds one; ``ServingResult.unwrap`` raises a copy of it.

    Args:
        message: What was wrong, where, and what was expected.
        hint: How to mend it; appended to the message.
        exception: The exception this one translates. It is kept without its traceback, whose frames would keep the
            model alive after its version was evicted; the server logs it in full first.
        version_id: The version that was asked, where one was resolved.

    Attributes:
        kind: The ``ErrorKind``, one for each subclass.
        message: The message, hint included.
        exception: See above, or None.
        version_id: See above, or None.
    """

    kind: ClassVar[ErrorKind]

    def __init__(
        self, message: str, *, hint: str = "", exception: BaseException | None = None, version_id: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.exception = exception
        self.version_id = version_id

    def copy(self) -> Self:
        """A new, equal exception without traceback or context, safe to raise in another thread or task."""
        return cast(Self, _restore(type(self), self.args, dict(self.__dict__)))

    def forget_traceback(self) -> Self:
        """Drop what holds on to models from this error and from every exception it stands for. Returns itself."""
        seen: set[int] = set()
        pending: list[BaseException | None] = [self, self.exception]
        while pending:
            error = pending.pop()
            if error is None or id(error) in seen:
                continue
            seen.add(id(error))
            # As a foreign exception may refuse that its attributes are set, as a frozen one does.
            BaseException.with_traceback(error, None)
            if isinstance(error, AttributeError):
                _OBJECT.__set__(error, None)  # the object that lacks the attribute: often the model itself
            pending += [error.__cause__, error.__context__]
            if isinstance(error, BaseExceptionGroup):
                pending += error.exceptions
        return self


class InvalidInputError(ServingError, ValueError):
    """The input does not fit what the model takes; the model was not called.

    Attributes:
        field: Which part of the input, for example ``"feature 2 (petal_length)"``; None when it is the whole input.
        expected: What would have been accepted.
    """

    kind = ErrorKind.InvalidInput

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        expected: str | None = None,
        hint: str = "",
        exception: BaseException | None = None,
        version_id: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, exception=exception, version_id=version_id)
        self.field = field
        self.expected = expected


class VersionNotFoundError(ServingError, LookupError):
    """No such version may be served: unknown, retired, still a candidate, or nothing is registered at all."""

    kind = ErrorKind.VersionNotFound


class ModelLoadFailedError(ServingError, RuntimeError):
    """The repository names the version but its model could not be loaded."""

    kind = ErrorKind.ModelLoadFailed


class UnsupportedModelError(ServingError, TypeError):
    """The model is neither a classifier, a regressor nor callable, or does not answer as it promises."""

    kind = ErrorKind.UnsupportedModel


class PredictionExceptionError(ServingError, RuntimeError):
    """The model raised, or answered with something that is no answer to one input."""

    kind = ErrorKind.PredictionException


class DeadlineExceededError(ServingError, TimeoutError):
    """The answer was not there at the deadline."""

    kind = ErrorKind.DeadlineExceeded


class OverloadedError(ServingError, RuntimeError):
    """More requests than the limits allow; this one was shed at once."""

    kind = ErrorKind.Overloaded


class CircuitOpenError(ServingError, RuntimeError):
    """The version failed too often lately and is being rested."""

    kind = ErrorKind.CircuitOpen


class RepositoryUnavailableError(ServingError, ConnectionError):
    """The repository could not be asked and nothing is loaded that could answer."""

    kind = ErrorKind.RepositoryUnavailable


class ServerClosedError(ServingError, RuntimeError):
    """The server was closed."""

    kind = ErrorKind.ServerClosed


class RepositoryError(MlserveError):
    """A stored repository cannot do what was asked.

    Attributes:
        path: The file or directory that it is about, below the repository's own where it lies there; or None.
        exception: The exception this one translates, or None.
    """

    def __init__(
        self, message: str, *, hint: str = "", path: str | None = None, exception: BaseException | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.path = path
        self.exception = exception


class RepositoryWriteError(RepositoryError, OSError):
    """The disk refused: full, read-only, broken, or without what the repository needs of it."""


class NewerFormatError(RepositoryError, ValueError):
    """Written by a newer mlserve, in a form that this one does not know."""


class UnsupportedFormatError(RepositoryError, TypeError):
    """No format of the repository takes the model, or the repository has no format of the name that is stored."""


class SerializationError(RepositoryError, ValueError):
    """A model, an example or a baseline cannot be written in the form in which it would have to be stored."""


class UntrustedModelError(RepositoryError, PermissionError):
    """Loading the model could run code from its files, and neither ``trust=`` nor a signature says that it may."""


class SignatureError(RepositoryError, PermissionError):
    """The signature of a version is not that of a known key over what is stored."""


class UnsignedVersionError(SignatureError):
    """The repository serves only what is signed, and the version is not."""


class UnknownKeyError(SignatureError, LookupError):
    """The version was signed with a key, or by a method, that the verifier does not know."""


class IntegrityError(RepositoryError, ValueError):
    """What is stored is not what was published."""


class DigestMismatchError(IntegrityError):
    """The bytes of a file have another hash than when they were published."""


class FileSizeError(IntegrityError):
    """A file is shorter or longer than when it was published."""


class MissingFileError(IntegrityError):
    """A file that was published is not there."""


class UnexpectedFileError(IntegrityError):
    """A file is there that was not published."""


class UnsafePathError(IntegrityError):
    """A name that is absolute, or leads out of its directory."""


class SymbolicLinkError(IntegrityError):
    """A symbolic link, or another thing that is neither file nor directory, where a file was published."""


class MalformedDocumentError(IntegrityError):
    """A document of the repository's own is not as mlserve writes it."""


class BrokenHistoryError(IntegrityError):
    """An entry of the log does not follow from the one before it."""


class DecompressionBombError(IntegrityError):
    """An archive that says it holds more than its bytes can."""


def _shorten(value: object, limit: int = 80) -> str:
    try:
        text = repr(value)
    except Exception:  # a value whose own __repr__ fails must not hide what is wrong with it
        text = f"<{type(value).__name__} without a representation>"
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
