"""Validation: what the model must not see, it does not see, and the result says why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from serving_doubles import EightMethodMonitor, UnprintableError

from mlserve import ArraySchema, ErrorKind, InMemoryModelRepository, ModelServer
from mlserve.errors import InvalidArgumentError, InvalidInputError
from mlserve.schemas import ValidationResult

Build = Callable[..., ModelServer]

NAMES = ("length", "width")
SCHEMA = ArraySchema.infer(np.array([[1.0, 2.0], [3.0, 4.0]]), names=NAMES)


class Counting:
    """A regressor that counts its calls and keeps what it was given."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def predict(self, X: Any) -> list[float]:
        self.seen.append(X)
        return [1.0] * len(X)


class HostileArray:
    """An array-like whose conversion raises."""

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no array today")


BAD = {
    "None": None,
    "too short": [1.0],
    "too long": [1.0, 2.0, 3.0],
    "empty": [],
    "a batch": [[1.0, 2.0], [3.0, 4.0]],
    "a batch of one": np.array([[1.0, 2.0]]),
    "a number": 1.0,
    "NaN": [1.0, float("nan")],
    "NaN in an array": np.array([1.0, np.nan]),
    "infinite": [1.0, float("inf")],
    "minus infinite, in an array": np.array([-np.inf, 1.0]),
    "an object array": np.array([1.0, None], dtype=object),
    "an object array of numbers": np.array([1.0, 2.0], dtype=object),
    "complex": np.array([1j, 2.0]),
    "complex numbers": [1j, 2.0],
    "text": "1.0, 2.0",
    "text of the right length": "ab",
    "bytes": b"ab",
    "an array of text": np.array(["1.0", "2.0"]),
    "a list of text": ["1.0", "2.0"],
    "a number and text": [1.0, "2.0"],
    "a number and None": [1.0, None],
    "dates": np.array(["2026-01-01", "2026-01-02"], dtype="datetime64[D]"),
    "a dict of other names": {"length": 1.0, "breadth": 2.0},
    "a set": {1.0, 2.0},
    "a generator": (value for value in (1.0, 2.0)),
    "a structured array": np.array([(1.0, 2.0)], dtype=[("length", "f8"), ("width", "f8")]),
    "ragged": [[1.0], [2.0, 3.0]],
    "a class": float,
    "an object": object(),
    "an array-like that raises": HostileArray(),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_before_the_model(name: str, repository: InMemoryModelRepository, build: Build) -> None:
    """Input that does not fit the schema is InvalidInput, recorded with the version; the model is not called."""
    model, monitor = Counting(), EightMethodMonitor()
    repository.register(model, schema=SCHEMA)
    result = build(repository, monitor).predict(BAD[name])
    assert (result.success, result.error.kind, result.value) == (False, ErrorKind.InvalidInput, None)
    assert result.version.id == "1"
    assert (model.seen, monitor.errors, monitor.predictions) == ([], [("InvalidInput", "1")], [])


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_explained(name: str, serve: Build) -> None:
    """The message says what was expected."""
    assert "expected" in serve(Counting(), schema=SCHEMA).predict(BAD[name]).error.message


def test_the_error_names_the_feature(serve: Build) -> None:
    """The error says which feature was wrong, as text and as an attribute."""
    error = serve(Counting(), schema=SCHEMA).predict([1.0, float("nan")]).error
    assert (error.field, "width" in error.message, "nan" in error.message) == ("feature 1 (width)", True, True)


def test_integers_where_floats_are_expected_are_converted(serve: Build) -> None:
    """Integers are valid where floats are expected, and the model is given floats."""
    model = Counting()
    assert serve(model, schema=SCHEMA).predict([1, 2]).success
    assert (model.seen[0].dtype, model.seen[0].tolist()) == (np.float64, [[1.0, 2.0]])


def test_floats_where_integers_are_expected_are_refused(serve: Build) -> None:
    """Floats are not valid where integers are expected: nothing is rounded behind the caller's back."""
    server = serve(Counting(), schema=ArraySchema(shape=(2,), dtype="int64"))
    assert server.predict([1.0, 2.0]).error.kind is ErrorKind.InvalidInput


def test_missing_values_are_accepted_where_the_data_had_them(serve: Build) -> None:
    """A schema learned from data with NaN accepts NaN."""
    schema = ArraySchema.infer(np.array([[1.0, np.nan], [2.0, 3.0]]))
    assert serve(Counting(), schema=schema).predict([np.nan, 1.0]).success


def test_an_example_is_schema_enough(serve: Build) -> None:
    """A model that predicts rows, registered with an example, is protected by what the example shows."""
    server = serve(Counting(), example=[1.0, 2.0])
    found = [server.predict(input).success for input in ([3.0, 4.0], [1.0], [1.0, np.nan], "text", None)]
    assert found == [True, False, False, False, False]


def test_a_schema_checks_the_input_of_a_callable_which_gets_it_as_it_came(serve: Build) -> None:
    """A plain callable with a schema is protected by it, but is given the caller's own object."""
    seen: list[Any] = []
    server = serve(seen.append, schema=SCHEMA)
    input = [1, 2]
    server.predict(input)
    refused = server.predict([1])
    assert (seen, seen[0] is input, refused.error.kind) == ([input], True, ErrorKind.InvalidInput)


@pytest.mark.parametrize("model", [Counting(), lambda x: 1], ids=["rows", "callable"])
def test_none_is_never_an_input(model: Any, serve: Build) -> None:
    """Without any schema the input must still not be None."""
    assert serve(model).predict(None).error.kind is ErrorKind.InvalidInput


def test_without_a_schema_anything_else_reaches_the_model(serve: Build) -> None:
    """Nobody said what inputs look like: the model decides."""
    assert [serve(lambda x: "seen").predict(input).value for input in ("", 0, [], {})] == ["seen"] * 4


def test_without_a_schema_many_inputs_reach_the_model_but_none(serve: Build) -> None:
    """Of many inputs, those that are None are refused, each by itself, and any others reach the model."""
    results = serve(lambda x: "seen").predict_many(["", None, 0])
    assert [result.success for result in results] == [True, False, True]


# ------------------------------------------------------------------------------------------------------ validator=


def positive(input: Any) -> None:
    """A validator that raises."""
    if not input > 0:
        raise ValueError("must be positive")


def positive_by_assertion(input: Any) -> None:
    assert input > 0


class Positive:
    """A validator that answers."""

    def validate(self, input: Any) -> ValidationResult:
        if isinstance(input, int) and input > 0:
            return ValidationResult(True, float(input))
        return ValidationResult(False, error=InvalidInputError("must be positive", field="x"))


class Parsing:
    """A validator that raises from ``validate``."""

    def validate(self, input: Any) -> ValidationResult:
        return ValidationResult(True, int(input))


@pytest.mark.parametrize(
    ("validator", "good", "bad"),
    [
        (SCHEMA, [1.0, 2.0], [1.0]),
        (Positive(), 1, -1),
        (Parsing(), "12", "twelve"),
        (positive, 1, -1),
        (positive_by_assertion, 1, -1),
        (lambda x: x["a"], {"a": 1}, {"b": 1}),
    ],
    ids=["ArraySchema", "validate()", "validate() that raises", "callable", "assertion", "lambda"],
)
def test_a_validator_decides_what_the_model_sees(validator: Any, good: Any, bad: Any, serve: Build) -> None:
    """Whatever kind of validator is given, what it refuses is InvalidInput and does not reach the model."""
    calls: list[Any] = []
    server = serve(lambda x: calls.append(x), server={"validator": validator})
    results = [server.predict(good), server.predict(bad)]
    assert ([result.success for result in results], results[1].error.kind) == ([True, False], ErrorKind.InvalidInput)
    assert len(calls) == 1


def test_a_validator_goes_before_the_versions_own_schema(serve: Build) -> None:
    """With ``validator=`` the version's schema is not asked."""
    server = serve(Counting(), schema=SCHEMA, server={"validator": lambda x: None})
    assert server.predict([1.0, 2.0, 3.0]).success


def test_what_a_validator_makes_of_the_input_reaches_the_model(serve: Build) -> None:
    """The value of a ValidationResult is what the model is given; the event keeps the input as it came."""
    server = serve(lambda x: x * 2, server={"validator": Parsing()})
    assert server.predict("12").unwrap() == 24


def test_a_result_without_a_value_leaves_the_input_as_it_came(serve: Build) -> None:
    """A validator may answer only that the input is valid."""

    class Yes:
        def validate(self, input: Any) -> ValidationResult:
            return ValidationResult(True)

    assert serve(lambda x: x, server={"validator": Yes()}).predict("as it came").unwrap() == "as it came"


def test_the_error_of_a_validator_is_kept(serve: Build) -> None:
    """An InvalidInputError of a validator reaches the caller with its own message and field."""
    error = serve(len, server={"validator": Positive()}).predict(-1).error
    assert (error.message, error.field) == ("must be positive", "x")


def test_the_exception_of_a_validator_is_kept(serve: Build) -> None:
    """What a validator raised is in the message and is kept as ``exception``."""
    error = serve(len, server={"validator": positive}).predict(-1).error
    assert isinstance(error.exception, ValueError)
    assert "must be positive" in error.message


def test_a_validator_may_raise_an_error_with_a_kind(serve: Build) -> None:
    """An InvalidInputError that a validator raises is passed on as it is."""

    def refuse(input: Any) -> None:
        raise InvalidInputError("too tall", field="height")

    error = serve(len, server={"validator": refuse}).predict([1]).error
    assert (error.message, error.field, error.exception) == ("too tall", "height", None)


def test_a_validator_that_raises_nonsense_refuses_the_input(serve: Build) -> None:
    """An exception without readable text is still a refusal."""

    def nonsense(input: Any) -> None:
        raise UnprintableError

    error = serve(len, server={"validator": nonsense}).predict([1]).error
    assert error.kind is ErrorKind.InvalidInput


@pytest.mark.parametrize("answer", [None, True, "valid", 1, {}])
def test_a_validator_that_answers_nonsense_is_blamed_itself(answer: Any, serve: Build) -> None:
    """An answer of ``validate`` that is no ValidationResult fails the prediction; the message names the validator."""
    calls: list[Any] = []

    class Nonsense:
        def validate(self, input: Any) -> Any:
            return answer

    error = serve(calls.append, server={"validator": Nonsense()}).predict(1).error
    assert (error.kind, "the validator answered" in error.message, calls) == (ErrorKind.PredictionException, True, [])


def test_a_refusal_without_error_is_a_refusal(serve: Build) -> None:
    """A ValidationResult that is not valid and says no more is InvalidInput all the same."""

    class No:
        def validate(self, input: Any) -> ValidationResult:
            return ValidationResult(False)

    assert serve(len, server={"validator": No()}).predict([1]).error.kind is ErrorKind.InvalidInput


@pytest.mark.parametrize("validator", [5, "schema", [SCHEMA], object()])
def test_a_validator_of_no_known_kind_is_refused(validator: Any, serve: Build) -> None:
    """A validator that can neither be called nor asked is refused when the server is built."""
    with pytest.raises(InvalidArgumentError, match="validator"):
        serve(len, server={"validator": validator})


def test_a_validator_is_asked_once_for_each_request(serve: Build) -> None:
    """The check is not made twice for one input."""
    asked: list[Any] = []
    serve(len, server={"validator": asked.append}).predict([1, 2])
    assert asked == [[1, 2]]
