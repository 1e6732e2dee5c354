"""What stands between an input and the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mlserve._rendering import described
from mlserve.errors import ErrorKind, InvalidArgumentError, InvalidInputError, PredictionExceptionError, ServingError
from mlserve.serving._adapters import Adapter

if TYPE_CHECKING:
    from mlserve.schemas import Schema
    from mlserve.schemas._results import WarningLog

Check = Callable[[Any], Any]
"""From an input to what the model is given; raises ``InvalidInputError``."""


TableCheck = Callable[[Sequence[Any]], Any]
"""From many inputs to the table that the model is given; None where each must be checked by itself."""


def checked(check: Check | None, input: Any) -> Any:
    """What the model is given: the input as its check leaves it; without a check, anything but None."""
    if check is not None:
        return check(input)
    if input is None:
        raise no_input()
    return input


def no_input() -> InvalidInputError:
    """The error for None, which no model takes."""
    return InvalidInputError("the input is None; expected an input.", hint="Pass what the model takes.")


def checked_as_it_came(check: Check) -> Check:
    """A check after which the model is given the input as it came, for models that take what they like."""

    def checked(input: Any) -> Any:
        check(input)
        return input

    return checked


def checked_as_row(check: Check) -> Check:
    """A check after which a record is a row of its values, for models that were fitted on arrays."""

    def checked(input: Any) -> Any:
        value = check(input)
        return list(value.values()) if type(value) is dict else value

    return checked


def check_of_version(own: Check | None, schema: Schema | None, adapter: Adapter) -> Check | None:
    """The check of a loaded version, in the form that its model takes.

    Args:
        own: The check of the server's validator, which goes before the version's schema; or None.
        schema: What the version says of its inputs, or None.
        adapter: How the model is called.
    """
    if own is not None:
        check = own
    elif schema is not None:
        check = schema.checker()
    else:
        return None
    if not adapter.takes_rows:
        return checked_as_it_came(check) if own is None else check
    from mlserve.schemas import ArraySchema  # not before there is a schema

    if adapter.takes_frames or (own is None and isinstance(schema, ArraySchema)):
        return check
    return checked_as_row(check)


def table_check_of(validator: Any, schema: Schema | None, adapter: Adapter) -> TableCheck | None:
    """The check of many inputs at once that agrees with ``check_of_version``, where there is one.

    Args:
        validator: The server's, which goes before the version's schema; or None.
        schema: What the version says of its inputs, or None.
        adapter: How the model is called.
    """
    by = schema if validator is None else validator
    if by is None:
        return None
    from mlserve.schemas import ArraySchema

    if adapter.takes_rows and not adapter.takes_frames and isinstance(by, ArraySchema):
        return by.table_checker()
    return None


def takes_positions(validator: Any, schema: Schema | None, adapter: Adapter) -> bool:
    """Whether the rows of a frame lose their names, as neither model nor check knows any; see ``table_check_of``."""
    if not adapter.takes_rows or adapter.takes_frames:
        return False
    by = schema if validator is None else validator
    if by is None:
        return True
    from mlserve.schemas import ArraySchema

    return isinstance(by, ArraySchema) and by.names is None


def is_schema(validator: Any) -> bool:
    """Whether a validator is one of mlserve's schemas, for which nobody need wait."""
    from mlserve.schemas import ArraySchema, RecordSchema  # only who gives a validator pays for it

    return isinstance(validator, (ArraySchema, RecordSchema))


def check_by(validator: Any) -> Check:
    """The check that a user's validator makes.

    Raises:
        InvalidArgumentError: It is none of the kinds that ``ModelServer`` takes.
    """
    if is_schema(validator):
        check: Check = validator.checker()
        return check
    validate = getattr(validator, "validate", None)
    if callable(validate):
        from mlserve.schemas._results import WarningLog

        log = WarningLog()
        return lambda input: _checked_by_result(validate, input, log)
    if callable(validator):
        return lambda input: _checked_by_call(validator, input)
    raise InvalidArgumentError(
        "validator", validator, "a schema, an object with validate(input), or a callable that raises"
    )


def _checked_by_result(validate: Callable[[Any], Any], input: Any, log: WarningLog) -> Any:
    result = _refusing(validate, input)
    if not hasattr(result, "is_valid"):
        raise PredictionExceptionError(
            f"the validator answered with a {type(result).__name__}; expected a ValidationResult.",
            hint="A function that raises when the input is not valid is passed as it is.",
        )
    if result.is_valid:
        if getattr(result, "warnings", ()):
            log.note(result.warnings)
        return input if result.value is None else result.value
    raise result.error if isinstance(result.error, InvalidInputError) else InvalidInputError(str(result.message))


def _checked_by_call(validator: Callable[[Any], Any], input: Any) -> Any:
    _refusing(validator, input)
    return input


def _refusing(validate: Callable[[Any], Any], input: Any) -> Any:
    try:
        return validate(input)
    except ServingError:
        raise
    except Exception as exception:
        raise InvalidInputError(
            f"the validator refused the input: {described(exception)}.",
            hint="See error.exception.",
            exception=exception,
        ) from exception


def translated(exception: Exception, version_id: str | None) -> ServingError:
    """What went wrong as an error with a kind: the one place where foreign exceptions are translated."""
    # One of a class of the caller's own need not have a kind.
    if isinstance(exception, ServingError) and isinstance(getattr(exception, "kind", None), ErrorKind):
        if exception.version_id is None:
            exception.version_id = version_id
        return exception
    return PredictionExceptionError(
        f"the model raised {described(exception)}",
        hint="The exception is kept as error.exception and logged in full.",
        exception=exception,
        version_id=version_id,
    )
