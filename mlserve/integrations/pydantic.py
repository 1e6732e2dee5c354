"""pydantic: a model of theirs as the validator of a server.

Needs the extra ``pydantic``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

from mlserve._rendering import described
from mlserve.errors import InvalidArgumentError, InvalidInputError, MissingExtraError
from mlserve.schemas import ValidationResult
from mlserve.schemas._named import labelled
from mlserve.schemas._results import FAULTS_NAMED, shown

try:
    from pydantic import BaseModel, PydanticUserError, TypeAdapter, ValidationError
except ModuleNotFoundError as _error:  # pragma: no cover  # tested in an interpreter of its own
    if (_error.name or "").partition(".")[0] != "pydantic":
        raise
    raise MissingExtraError("pydantic", "pydantic", "mlserve.integrations.pydantic") from _error

__all__ = ["PydanticValidator"]

GIVES = ("record", "instance")

_WHOLE_INPUT = "the input"

_SHOULD = "Input should "
"""How pydantic begins to say what it expected."""


@final
class PydanticValidator:
    """Checks inputs by a pydantic model, or by any other type that pydantic validates.

    An input may be an instance of the model, a mapping, a pandas series indexed by names, or a pandas or polars frame
    of one row. What pydantic coerces and what it refuses is told by the model's own configuration. An error names the
    path of each field, as ``address.lines[0].city``, its value and what pydantic expected of it.

    *Thread safety*: yes.

    Args:
        model: A subclass of ``pydantic.BaseModel``, a dataclass, a ``TypedDict``, or a type such as ``list[float]``.
        gives: What the server's model is given: the ``"record"``, a dict (for a type that is no record, the plain
            value) as ``model_dump`` makes it; or the ``"instance"`` itself.
        strict: Whether pydantic may convert values, for example text to numbers; None for what the model says.

    Raises:
        InvalidArgumentError: pydantic cannot validate such a type, or ``gives`` is another word.

    Example:
        >>> from pydantic import BaseModel, Field
        >>> class Passenger(BaseModel):
        ...     age: int = Field(ge=0)
        ...     city: str
        >>> validator = PydanticValidator(Passenger)
        >>> validator.validate({"age": "31", "city": "Bern"}).value
        {'age': 31, 'city': 'Bern'}
        >>> print(validator.validate({"age": -1, "city": "Bern"}).message)
        age is -1, which should be greater than or equal to 0.
    """

    def __init__(self, model: Any, *, gives: str = "record", strict: bool | None = None) -> None:
        if gives not in GIVES:
            raise InvalidArgumentError("gives", gives, "'record' or 'instance'")
        try:
            self._adapter: TypeAdapter[Any] = TypeAdapter(model)
            _check_finished(self._adapter)
        except Exception as error:  # pydantic's own, or a NameError of an annotation
            hint = described(error).split("\n")[0]
            raise InvalidArgumentError("model", model, "a type that pydantic can validate", hint=hint) from error
        self._dumps = gives == "record"
        self._strict = strict

    def validate(self, input: Any) -> ValidationResult:
        """Check one input.

        Args:
            input: Anything.

        Returns:
            What the model is given, or what was wrong. Never raises.
        """
        try:
            value = self._adapter.validate_python(_readable(input), strict=self._strict)
            return ValidationResult(True, self._adapter.dump_python(value) if self._dumps else value)
        except InvalidInputError as error:
            return ValidationResult(False, error=error.forget_traceback())
        except ValidationError as error:
            return ValidationResult(False, error=_translated(error))
        except Exception as exception:  # of a validator that a user wrote, or of a foreign object that was read
            refused = InvalidInputError(
                f"the validator refused the input: {described(exception)}.",
                hint="See error.exception.",
                exception=exception,
            )
            return ValidationResult(False, error=refused.forget_traceback())


def _check_finished(adapter: TypeAdapter[Any]) -> None:
    # A type whose annotations are not all defined tells so only when it is used.
    try:
        adapter.validate_python(None)
    except PydanticUserError:
        raise
    except Exception:  # that None is not valid, or what a user's own validator does about it
        return


def _readable(input: Any) -> Any:
    """An input with names as a dict, which pydantic can read; any other as it is."""
    if isinstance(input, (dict, BaseModel)):
        return input
    record = labelled(input)
    return input if record is None else record


def _translated(error: ValidationError) -> InvalidInputError:
    # Without what it was given as context, which may be an exception with a traceback.
    found = error.errors(include_url=False, include_context=False)
    more = len(found) - FAULTS_NAMED
    told = [_clause(each) for each in found[:FAULTS_NAMED]] + ([f"and {more} more"] if more > 0 else [])
    first = found[0]
    return InvalidInputError(f"{'; '.join(told)}.", field=_path(first["loc"]), expected=_expected(first["msg"]))


def _clause(error: Mapping[str, Any]) -> str:
    path, message = _path(error["loc"]), error["msg"]
    if error["type"] == "missing":
        return f"the input has no {path}"
    given = f"{path} is {shown(error['input'])}"
    if message.startswith(_SHOULD):
        return f"{given}, which should {message.removeprefix(_SHOULD)}"
    return f"{given}: {_expected(message)}"


def _expected(message: str) -> str:
    for beginning in (f"{_SHOULD}be ", _SHOULD, "Value error, ", "Assertion failed, "):
        message = message.removeprefix(beginning)
    return message.partition("\n")[0].strip()


def _path(location: Sequence[str | int]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or _WHOLE_INPUT
