"""What stands between an input and the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mlserve._rendering import described
from mlserve.errors import ErrorKind, InvalidArgumentError, InvalidInputError, PredictionExceptionError, ServingError
from mlserve.schemas import ArraySchema

Check = Callable[[Any], Any]
"""From an input to what the model is given; raises ``InvalidInputError``."""


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


def check_by(validator: Any) -> Check:
    """The check that a user's validator makes.

    Raises:
        InvalidArgumentError: It is none of the kinds that ``ModelServer`` takes.
    """
    if isinstance(validator, ArraySchema):
        return validator.checker()
    validate = getattr(validator, "validate", None)
    if callable(validate):
        return lambda input: _checked_by_result(validate, input)
    if callable(validator):
        return lambda input: _checked_by_call(validator, input)
    raise InvalidArgumentError(
        "validator", validator, "an ArraySchema, an object with validate(input), or a callable that raises"
    )


def _checked_by_result(validate: Callable[[Any], Any], input: Any) -> Any:
    result = _refusing(validate, input)
    if not hasattr(result, "is_valid"):
        raise PredictionExceptionError(
            f"the validator answered with a {type(result).__name__}; expected a ValidationResult.",
            hint="A function that raises when the input is not valid is passed as it is.",
        )
    if result.is_valid:
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
