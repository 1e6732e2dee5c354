"""The tree of exceptions."""

from __future__ import annotations

import builtins
import copy
import pickle
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from mlserve import errors
from mlserve.errors import (
    BrokenHistoryError,
    CircuitOpenError,
    DeadlineExceededError,
    DecompressionBombError,
    DigestMismatchError,
    ErrorKind,
    FileSizeError,
    IntegrityError,
    InvalidArgumentError,
    InvalidInputError,
    MalformedDocumentError,
    MissingCapabilityError,
    MissingExtraError,
    MissingFileError,
    MlserveError,
    ModelLoadFailedError,
    NewerFormatError,
    OverloadedError,
    PredictionExceptionError,
    RepositoryError,
    RepositoryUnavailableError,
    RepositoryWriteError,
    SerializationError,
    ServerClosedError,
    ServingError,
    SignatureError,
    SnapshotFormatError,
    StoreSchemaError,
    SymbolicLinkError,
    UnexpectedFileError,
    UnknownKeyError,
    UnsafePathError,
    UnsignedVersionError,
    UnsupportedFormatError,
    UnsupportedModelError,
    UntrustedModelError,
    VersionNotFoundError,
)

BUILTINS = {
    InvalidArgumentError: ValueError,
    MissingExtraError: ImportError,
    MissingCapabilityError: TypeError,
    SnapshotFormatError: ValueError,
    StoreSchemaError: ValueError,
    RepositoryError: Exception,
    RepositoryWriteError: OSError,
    NewerFormatError: ValueError,
    UnsupportedFormatError: TypeError,
    SerializationError: ValueError,
    UntrustedModelError: PermissionError,
    SignatureError: PermissionError,
    UnsignedVersionError: PermissionError,
    UnknownKeyError: LookupError,
    IntegrityError: ValueError,
    DigestMismatchError: ValueError,
    FileSizeError: ValueError,
    MissingFileError: ValueError,
    UnexpectedFileError: ValueError,
    UnsafePathError: ValueError,
    SymbolicLinkError: ValueError,
    MalformedDocumentError: ValueError,
    BrokenHistoryError: ValueError,
    DecompressionBombError: ValueError,
    InvalidInputError: ValueError,
    VersionNotFoundError: LookupError,
    ModelLoadFailedError: RuntimeError,
    UnsupportedModelError: TypeError,
    PredictionExceptionError: RuntimeError,
    DeadlineExceededError: TimeoutError,
    OverloadedError: RuntimeError,
    CircuitOpenError: RuntimeError,
    RepositoryUnavailableError: ConnectionError,
    ServerClosedError: RuntimeError,
}

SERVING = [cls for cls in BUILTINS if issubclass(cls, ServingError)]


def example(cls: type[MlserveError]) -> MlserveError:
    """An error of a class with every value set."""
    if cls is InvalidArgumentError:
        return InvalidArgumentError("limit", -1, "at least 0", hint="Leave it out for all.")
    if cls is MissingExtraError:
        return MissingExtraError("matplotlib", "plot", "Drawing")
    if cls is MissingCapabilityError:
        return MissingCapabilityError(object(), "WritableModelRepository", "A rollout")
    if cls is SnapshotFormatError:
        return SnapshotFormatError("damaged")
    if cls is StoreSchemaError:
        return StoreSchemaError("sqlite:///metrics.db", 7, 1)
    if cls is InvalidInputError:
        return InvalidInputError(
            "it is nan.",
            field="feature 1",
            expected="a number",
            hint="Fill it.",
            exception=ValueError("inner"),
            version_id="3",
        )
    if issubclass(cls, RepositoryError):
        return cls("it failed.", hint="Try again.", path="versions/3", exception=KeyError("inner"))
    if issubclass(cls, ServingError):
        return cls("it failed.", hint="Try again.", exception=KeyError("inner"), version_id="3")
    return cls("it failed.", hint="Try again.")


ALL = [MlserveError, *BUILTINS]


# --------------------------------------------------------------------------------------------------------- the tree


@pytest.mark.parametrize("cls", BUILTINS)
def test_an_error_is_also_the_builtin_a_caller_would_catch(cls):
    """Each class inherits the builtin named in the module's tree."""
    with pytest.raises(BUILTINS[cls]):
        raise example(cls)


@pytest.mark.parametrize("cls", ALL)
def test_every_error_is_caught_by_the_root(cls):
    """``except MlserveError`` catches every error."""
    with pytest.raises(MlserveError):
        raise example(cls)


def test_the_tree_in_the_docstring_is_the_tree():
    """The docstring draws every exception of the module with its builtin, and no other."""
    drawn = {name: getattr(builtins, base) for name, base in re.findall(r"── (\w+Error)\s+\((\w+)\)", errors.__doc__)}
    assert drawn == {cls.__name__: base for cls, base in BUILTINS.items()}


def test_the_tests_know_every_exception():
    """No exception of the module is missing from these tests."""
    defined = {getattr(errors, name) for name in errors.__all__} - {ErrorKind, ServingError, MlserveError}
    assert defined == set(BUILTINS)


# ------------------------------------------------------------------------------------------------------------ kinds


def test_each_kind_has_one_error():
    """There is one subclass of ``ServingError`` for each kind."""
    assert sorted(cls.kind for cls in SERVING) == sorted(ErrorKind)


@pytest.mark.parametrize("cls", SERVING)
def test_an_error_is_named_after_its_kind(cls):
    """A class is named as its kind, with Error behind."""
    assert cls.__name__ == f"{cls.kind}Error"


@pytest.mark.parametrize("kind", ErrorKind)
def test_a_kind_is_spelled_as_it_is_named(kind):
    """A member's name is its value and its text."""
    assert kind.name == kind.value == str(kind) == f"{kind}"


def test_callers_cause_two_kinds():
    """An invalid input and an unknown version are the caller's fault, nothing else is."""
    assert {kind for kind in ErrorKind if kind.is_caller_fault} == {ErrorKind.InvalidInput, ErrorKind.VersionNotFound}


# --------------------------------------------------------------------------------------------------------- messages


@pytest.mark.parametrize("cls", ALL)
def test_a_message_ends_in_its_hint(cls):
    """The hint stands at the end of the message."""
    error = example(cls)
    assert error.hint
    assert error.message.endswith(f" {error.hint}")


@pytest.mark.parametrize("cls", ALL)
def test_the_text_of_an_error_is_its_message(cls):
    """``str(error)`` is ``error.message``."""
    error = example(cls)
    assert str(error) == error.message


def test_a_message_without_a_hint_has_no_blank_behind():
    """Without a hint the message stays as it was given."""
    assert MlserveError("it failed.").message == "it failed."


def test_an_invalid_argument_says_what_was_expected_and_got():
    """The message names parameter, expectation and value; all three are attributes."""
    error = InvalidArgumentError("limit", -1, "at least 0")
    assert str(error) == "limit must be at least 0, got -1."
    assert (error.parameter, error.value, error.expected) == ("limit", -1, "at least 0")


def test_a_long_value_is_shortened_in_the_message():
    """A long value is cut in the message and whole in the attribute."""
    value = list(range(1000))
    error = InvalidArgumentError("names", value, "short")
    assert len(str(error)) < 150
    assert error.value is value


def test_a_value_that_cannot_be_shown_is_no_error():
    """A value whose own representation fails does not hide the error."""

    class Shy:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    assert "Shy" in str(InvalidArgumentError("input", Shy(), "a number"))


def test_a_missing_extra_names_the_command():
    """The message says what to install and how."""
    error = MissingExtraError("matplotlib", "plot", "Drawing")
    assert str(error) == "Drawing needs matplotlib. Install it with: pip install 'mlserve[plot]'."
    assert (error.package, error.extra) == ("matplotlib", "plot")


def test_a_missing_capability_names_store_and_protocol():
    """The message names the class of the store and the protocol to implement."""

    class Shelf: ...

    error = MissingCapabilityError(Shelf(), "WritableModelRepository", "A rollout")
    assert (error.store, error.protocol) == ("Shelf", "WritableModelRepository")
    assert "Shelf" in str(error)
    assert "mlserve.protocols.WritableModelRepository" in str(error)


def test_an_invalid_input_says_where():
    """Field and expectation are attributes, absent where the input as a whole is meant."""
    error = example(InvalidInputError)
    assert (error.field, error.expected) == ("feature 1", "a number")
    assert (InvalidInputError("no.").field, InvalidInputError("no.").expected) == (None, None)


# --------------------------------------------------------------------------------------------------- pickle and copy


def state(error: MlserveError) -> dict:
    """An error's values; an inner exception as type and arguments, since exceptions compare by identity."""
    return {
        name: (type(value), value.args) if isinstance(value, BaseException) else value
        for name, value in vars(error).items()
    }


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_pickling(cls, protocol):
    """A pickled error comes back with its class, message and values."""
    error = example(cls)
    back = pickle.loads(pickle.dumps(error, protocol))
    assert (type(back), str(back), back.args, state(back)) == (cls, str(error), error.args, state(error))


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy])
def test_an_error_survives_copying(cls, copier):
    """A copied error has the same class, message and values."""
    error = example(cls)
    back = copier(error)
    assert back is not error
    assert (type(back), str(back), state(back)) == (cls, str(error), state(error))


def test_an_error_of_a_user_survives_pickling():
    """A subclass with arguments of its own pickles too."""
    back = pickle.loads(pickle.dumps(TeapotError(7)))
    assert (type(back), back.cups, str(back)) == (TeapotError, 7, "7 cups. Use a kettle.")


class TeapotError(MlserveError):
    def __init__(self, cups: int) -> None:
        self.cups = cups
        super().__init__(f"{cups} cups.", hint="Use a kettle.")


@pytest.mark.parametrize("cls", SERVING)
def test_a_copy_is_fresh(cls):
    """``copy`` gives an error without the traceback, the cause and the context of the first."""
    error = raised(example(cls))
    error.__cause__ = error.__context__ = KeyError("before")
    fresh = error.copy()
    assert error.__traceback__ is not None
    assert (fresh.__traceback__, fresh.__cause__, fresh.__context__) == (None, None, None)
    assert (type(fresh), str(fresh), state(fresh)) == (cls, str(error), state(error))


def test_copies_can_be_raised_by_many_threads():
    """Raising copies leaves the first without a traceback, whatever other threads do."""
    error = example(OverloadedError)

    def raise_a_copy(_: int) -> bool:
        try:
            raise error.copy()
        except OverloadedError as raised:
            return raised.__traceback__ is not None

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(raise_a_copy, range(200)))
    assert error.__traceback__ is None


# ------------------------------------------------------------------------------------------------------- tracebacks


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_forgetting_drops_its_own_traceback():
    """``forget_traceback`` drops the traceback of the error and returns the error."""
    error = raised(example(OverloadedError))
    assert error.__traceback__ is not None
    assert error.forget_traceback() is error
    assert error.__traceback__ is None


@pytest.mark.parametrize("link", ["exception", "__cause__", "__context__"])
def test_forgetting_follows_every_link(link):
    """``forget_traceback`` drops the tracebacks of the translated exception, of causes and of contexts."""
    error = example(OverloadedError)
    inner, innermost = raised(ValueError("inner")), raised(KeyError("innermost"))
    setattr(error, link, inner)
    inner.__cause__ = innermost
    error.forget_traceback()
    assert (inner.__traceback__, innermost.__traceback__) == (None, None)


def test_forgetting_follows_contexts_of_the_translated_exception():
    """A context below the translated exception is reached."""
    try:
        try:
            raise KeyError("before")
        except KeyError:
            raise ValueError("after")  # noqa: B904  # the implicit context is what is tested
    except ValueError as caught:
        after = caught
    error = PredictionExceptionError("it failed.", exception=after)
    error.forget_traceback()
    assert (after.__traceback__, after.__context__.__traceback__) == (None, None)


def test_forgetting_reaches_into_groups():
    """``forget_traceback`` drops the tracebacks of every exception in a group, and in groups within."""
    leaves = [raised(ValueError(str(number))) for number in range(3)]
    group = raised(ExceptionGroup("outer", [leaves[0], ExceptionGroup("inner", leaves[1:])]))
    PredictionExceptionError("it failed.", exception=group).forget_traceback()
    assert [leaf.__traceback__ for leaf in (group, *leaves)] == [None] * 4


def test_forgetting_lets_go_of_the_object_that_lacked_an_attribute():
    """``forget_traceback`` drops the object that an ``AttributeError`` holds: it is often the model itself."""
    model = object()
    with pytest.raises(AttributeError) as caught:
        model.predict()  # type: ignore[attr-defined]  # that it is not there is what is tested
    assert caught.value.obj is model
    PredictionExceptionError("it failed.", exception=caught.value).forget_traceback()
    assert caught.value.obj is None


def test_forgetting_ends_in_a_circle():
    """Exceptions that name each other as cause are no trap."""
    first, second = raised(ValueError("first")), raised(KeyError("second"))
    first.__cause__, second.__cause__ = second, first
    PredictionExceptionError("it failed.", exception=first).forget_traceback()
    assert (first.__traceback__, second.__traceback__) == (None, None)


@dataclass(frozen=True)
class FrozenError(Exception):
    """An exception that refuses that its attributes are set."""

    code: int


@dataclass(frozen=True)
class FrozenAttributeError(AttributeError):
    """The same, that may hold the object that lacked an attribute."""

    code: int


@pytest.mark.parametrize("kind", [FrozenError, FrozenAttributeError])
def test_forgetting_asks_no_exception_for_leave(kind):
    """What an exception that cannot be changed holds on to is dropped all the same."""
    inner = raised(kind(3))
    PredictionExceptionError("it failed.", exception=inner).forget_traceback()
    assert (inner.__traceback__, inner.code) == (None, 3)
