"""pydantic models as validators: what they make of inputs, and how their errors are told."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import polars as pl
import pydantic
import pytest
from hypothesis import given, settings
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from typing_extensions import TypedDict

from mlserve import ErrorKind, InMemoryModelMonitor, InMemoryModelRepository, ModelServer
from mlserve.errors import InvalidArgumentError
from mlserve.integrations.pydantic import PydanticValidator


class Address(pydantic.BaseModel):
    street: str
    floor: int = 0


class Passenger(pydantic.BaseModel):
    age: int = pydantic.Field(ge=0)
    city: Literal["Bern", "Rome"]
    addresses: list[Address] = []

    @pydantic.field_validator("age")
    @classmethod
    def not_thirteen(cls, value: int) -> int:
        if value == 13:
            raise ValueError("must not be 13")
        assert value != 14, "nor 14"
        if value == 15:
            raise RuntimeError("the table of ages is away")
        return value


class Strict(Passenger):
    model_config = pydantic.ConfigDict(extra="forbid")


class Unfinished(pydantic.BaseModel):
    part: Nonexistent  # noqa: F821  # an annotation that nothing defines


@dataclasses.dataclass
class Point:
    x: float
    y: float


class Pair(TypedDict):
    x: float
    y: float


GOOD = {"age": 31, "city": "Bern"}
VALIDATOR = PydanticValidator(Passenger)


class Records(Mapping):
    """A mapping that is no dict."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self.by_name = values

    def __getitem__(self, name: str) -> object:
        return self.by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_name)

    def __len__(self) -> int:
        return len(self.by_name)


class Unreadable(Records):
    """A mapping that cannot be read."""

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("no names")


# ------------------------------------------------------------------------------------------------------------- accepted


@pytest.mark.parametrize(
    "input",
    [
        GOOD,
        {"city": "Bern", "age": "31"},
        Records(GOOD),
        Passenger(**GOOD),
        pd.Series(GOOD),
        pd.DataFrame([GOOD]),
        pl.DataFrame([GOOD]),
        np.array([(31, "Bern")], dtype=[("age", "i4"), ("city", "U9")])[0],
    ],
    ids=lambda value: f"{type(value).__module__}.{type(value).__name__}",
)
def test_a_valid_input_is_given_as_a_record(input: Any) -> None:
    """Mappings, instances, series and frames of one row become the dict that the pydantic model makes of them."""
    result = VALIDATOR.validate(input)
    assert (result.message, result.value) == ("", {"age": 31, "city": "Bern", "addresses": []})


def test_the_instance_can_be_given_instead() -> None:
    """With ``gives="instance"`` the model is given an instance of the pydantic model."""
    value = PydanticValidator(Passenger, gives="instance").validate(GOOD).value
    assert (type(value), value.age) == (Passenger, 31)


def test_it_can_be_strict() -> None:
    """With ``strict=True`` pydantic converts no text to numbers."""
    found = [PydanticValidator(Passenger, strict=strict).validate(GOOD | {"age": "31"}) for strict in (None, True)]
    assert [result.is_valid for result in found] == [True, False]


@pytest.mark.parametrize(
    ("model", "input", "value"),
    [
        (Point, {"x": 1, "y": "2"}, {"x": 1.0, "y": 2.0}),
        (Pair, {"x": 1, "y": 2.5}, {"x": 1.0, "y": 2.5}),
        (list[float], ["1", 2], [1.0, 2.0]),
        (int, "5", 5),
    ],
    ids=["dataclass", "TypedDict", "list", "int"],
)
def test_any_type_that_pydantic_validates_will_do(model: Any, input: Any, value: Any) -> None:
    """Dataclasses, typed dicts and plain types are validators too."""
    assert PydanticValidator(model).validate(input).value == value


# -------------------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("model", "input", "message", "field"),
    [
        (Passenger, GOOD | {"age": -1}, "age is -1, which should be greater than or equal to 0.", "age"),
        (Passenger, GOOD | {"city": "Oslo"}, "city is 'Oslo', which should be 'Bern' or 'Rome'.", "city"),
        (Passenger, {"city": "Bern"}, "the input has no age.", "age"),
        (Passenger, GOOD | {"age": 13}, "age is 13: must not be 13.", "age"),
        (Passenger, GOOD | {"age": 14}, "age is 14: nor 14.", "age"),
        (Strict, GOOD | {"more": 1}, "more is 1: Extra inputs are not permitted.", "more"),
        (
            Passenger,
            GOOD | {"addresses": [{"street": "A"}, {"street": "B", "floor": "top"}]},
            "addresses[1].floor is 'top', which should be a valid integer, unable to parse string as an integer.",
            "addresses[1].floor",
        ),
        (Passenger, GOOD | {"addresses": [{}]}, "the input has no addresses[0].street.", "addresses[0].street"),
        (list[list[int]], [[1], [2, "x"]], "[1][1] is 'x', which should be a valid integer", "[1][1]"),
        (
            Passenger,
            None,
            "the input is None, which should be a valid dictionary or instance of Passenger.",
            "the input",
        ),
        (Passenger, [31], "the input is [31], which should be a valid dictionary", "the input"),
        (Passenger, pd.DataFrame([GOOD, GOOD]), "which should be a valid dictionary or instance", "the input"),
        (list[int], "text", "the input is 'text', which should be a valid list.", "the input"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_fault_is_told_with_its_path(model: Any, input: Any, message: str, field: str) -> None:
    """The message names the path of the field, its value, and what pydantic expected of it."""
    result = PydanticValidator(model).validate(input)
    assert (result.is_valid, result.value, result.error.field) == (False, None, field)
    assert message in result.message


def test_what_was_expected_is_a_value_of_the_error() -> None:
    """``error.expected`` is pydantic's expectation, without its opening words."""
    found = [VALIDATOR.validate(GOOD | change).error.expected for change in ({"age": -1}, {"age": 13}, {"city": 5})]
    assert found == ["greater than or equal to 0", "must not be 13", "'Bern' or 'Rome'"]


def test_several_faults_are_told_together() -> None:
    """One message tells the first three faults and counts the others."""
    message = PydanticValidator(list[int]).validate(["a", "b", "c", "d", "e"]).message
    assert (message.count("which should be"), message.endswith("; and 2 more.")) == (3, True)
    assert message.startswith("[0] is 'a', which should be")


def test_a_message_stays_short() -> None:
    """A large value is cut short."""
    assert len(VALIDATOR.validate(GOOD | {"city": "x" * 100_000}).message) < 200


def test_an_exception_of_a_validator_is_a_refusal() -> None:
    """An exception of another kind in a user's own validator refuses the input, and is kept."""
    error = VALIDATOR.validate(GOOD | {"age": 15}).error
    assert (type(error.exception), error.exception.__traceback__) == (RuntimeError, None)
    assert "the validator refused the input: RuntimeError: the table of ages is away." in error.message


def test_an_input_that_cannot_be_read_is_refused() -> None:
    """An exception that an input raises when it is read is a refusal."""
    assert "RuntimeError: no names" in VALIDATOR.validate(Unreadable(GOOD)).message


def test_a_name_that_is_there_twice_is_refused() -> None:
    """A frame with a column twice is refused, as by any schema."""
    assert "age twice" in VALIDATOR.validate(pd.DataFrame([[1, 2]], columns=["age", "age"])).message


def test_an_error_holds_no_traceback() -> None:
    """The error of a refused input pins no frame, and so no input."""
    for input in (None, GOOD | {"age": 15}, Unreadable(GOOD)):
        error = VALIDATOR.validate(input).error
        assert (error.__traceback__, error.__context__) == (None, None)


@pytest.mark.parametrize("arguments", [{"gives": "model"}, {"gives": None}], ids=str)
def test_another_word_is_refused(arguments: dict[str, Any]) -> None:
    """``gives`` is one of two words."""
    with pytest.raises(InvalidArgumentError, match="'record' or 'instance'"):
        PydanticValidator(Passenger, **arguments)


@pytest.mark.parametrize(
    "model", [5, object(), "Nonexistent", Unfinished], ids=["5", "object", "an undefined name", "an undefined field"]
)
def test_what_pydantic_cannot_validate_is_refused(model: Any) -> None:
    """Something that is no type for pydantic is refused when the validator is built."""
    with pytest.raises(InvalidArgumentError, match="a type that pydantic can validate"):
        PydanticValidator(model)


class Unwrapping(pydantic.BaseModel):
    x: int

    @pydantic.model_validator(mode="before")
    @classmethod
    def unwrapped(cls, value: Any) -> Any:
        return value["inner"]


def test_a_model_may_expect_the_inside_of_an_input() -> None:
    """A model whose own validator reads the input before pydantic does is a validator like any other."""
    validator = PydanticValidator(Unwrapping)
    assert validator.validate({"inner": {"x": 1}}).value == {"x": 1}
    assert "TypeError" in validator.validate(5).message


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["age", "city", "addresses", "street", "floor"]), inner, max_size=4),
    ),
    max_leaves=10,
)


@settings(deadline=None, max_examples=200)
@given(input=st.one_of(JSON, JSON.map(lambda value: GOOD | {"addresses": value})))
def test_the_verdict_is_that_of_pydantic(input: Any) -> None:
    """An input is valid exactly where pydantic itself says so, and what is given is what it dumps."""
    result = VALIDATOR.validate(input)
    try:
        expected = Passenger.model_validate(input).model_dump()
    except (pydantic.ValidationError, RuntimeError):
        assert (result.is_valid, bool(result.message)) == (False, True)
    else:
        assert result.value == expected


# -------------------------------------------------------------------------------------------------------------- serving


def served(model: Any, **options: Any) -> ModelServer:
    repository = InMemoryModelRepository()
    repository.register(model)
    return ModelServer(repository, InMemoryModelMonitor(), **options)


def test_a_server_gives_its_model_the_record() -> None:
    """With the validator a server gives a callable the validated record, and refuses what pydantic refuses."""
    with served(lambda record: record["age"] + 1, validator=VALIDATOR) as server:
        good, bad = server.predict({"age": "31", "city": "Bern"}), server.predict({"age": "x", "city": "Bern"})
    assert (good.unwrap(), bad.error.kind, bad.error.field) == (32, ErrorKind.InvalidInput, "age")


def test_a_pipeline_on_frames_takes_the_record() -> None:
    """A pipeline fitted on a frame is given the validated record by name."""
    X = pd.DataFrame({"city": ["Bern", "Rome"] * 5, "age": range(10)})
    model = make_pipeline(make_column_transformer((OneHotEncoder(), ["city"])), LogisticRegression())
    model.fit(X, X.city)
    with served(model, validator=VALIDATOR) as server:
        assert server.predict({"age": 3, "city": "Rome"}).unwrap() == "Rome"


WITHOUT_IT = """
import sys
sys.modules["pydantic"] = None
sys.path.insert(0, sys.argv[1])
import mlserve.integrations
try:
    import mlserve.integrations.pydantic
except ImportError as error:
    print(type(error).__name__, error)
"""


def test_without_the_package_the_extra_is_named(pytestconfig: pytest.Config) -> None:
    """Without ``pydantic`` the door names the extra that installs it."""
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_IT, str(pytestconfig.rootpath)], capture_output=True, text=True, check=True
    )
    assert ran.stdout.startswith("MissingExtraError mlserve.integrations.pydantic needs pydantic.")
    assert "mlserve[pydantic]" in ran.stdout
