"""Models that take records: what a schema makes of an input before the model sees it."""

from __future__ import annotations

import functools
import json
import threading
import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from serving_doubles import EightMethodMonitor
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from mlserve import (
    Batching,
    DirectoryModelRepository,
    ErrorKind,
    InMemoryModelMonitor,
    InMemoryModelRepository,
    ModelServer,
    RecordSchema,
)
from mlserve.schemas import Field, ValidationResult

Build = Callable[..., ModelServer]


@functools.cache
def passengers() -> tuple[pd.DataFrame, np.ndarray[Any, Any]]:
    """A table of numbers, whole numbers, text, categories and booleans, in part missing; and who survived."""
    rng = np.random.default_rng(0)
    size = 400
    table = pd.DataFrame(
        {
            "age": np.where(rng.random(size) < 0.1, np.nan, rng.integers(1, 80, size)),
            "fare": rng.lognormal(3, 1, size).round(2),
            "siblings": rng.integers(0, 4, size),
            "port": rng.choice(["Bergen", "Cork", "Naples", None], size, p=[0.4, 0.3, 0.2, 0.1]),
            "deck": pd.Categorical(rng.choice(["A", "B", "C"], size)),
            "alone": rng.random(size) < 0.5,
        }
    )
    score = table.fare / 50 + (table.port == "Cork") - table.siblings / 2 + table.alone + rng.normal(size=size)
    return table, (score > score.median()).to_numpy()


@functools.cache
def pipeline() -> Pipeline:
    X, y = passengers()
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["age", "fare", "siblings"]),
            ("texts", OneHotEncoder(), ["port", "deck"]),
            ("rest", "passthrough", ["alone"]),
        ]
    )
    return make_pipeline(columns, LogisticRegression()).fit(X, y)


@functools.cache
def schema() -> RecordSchema:
    return RecordSchema.infer(passengers()[0])


FORMS: dict[str, Callable[[pd.DataFrame, int], Any]] = {
    "dict": lambda X, row: X.to_dict("records")[row],
    "dict in another order": lambda X, row: dict(reversed(X.to_dict("records")[row].items())),
    "JSON": lambda X, row: json.loads(X.iloc[[row]].to_json(orient="records"))[0],
    "series": lambda X, row: X.iloc[row],
    "frame of one row": lambda X, row: X.iloc[[row]],
    "polars frame of one row": lambda X, row: pl.DataFrame([FORMS["JSON"](X, row)]),
}
ROWS = [0, 1, 2, *range(3, 400, 37)]


@pytest.mark.parametrize("form", FORMS)
def test_a_pipeline_answers_records_as_it_answers_its_frame(form: str, serve: Build) -> None:
    """Whatever form a record comes in, a pipeline fitted on a frame answers as for that row of the frame."""
    X, _ = passengers()
    assert X.loc[ROWS, ["age", "port"]].isna().any().tolist() == [True, True]
    server = serve(pipeline(), schema=schema())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = [server.predict(FORMS[form](X, row)) for row in ROWS]
    assert [result.unwrap() for result in results] == pipeline().predict(X.iloc[ROWS]).tolist()


class Seeing:
    """A regressor fitted on a frame that keeps what it was given."""

    def __init__(self, *names: str) -> None:
        self.feature_names_in_ = np.array(names, dtype=object)
        self.seen: list[pd.DataFrame] = []

    def predict(self, X: pd.DataFrame) -> list[float]:
        self.seen.append(X)
        return [1.0] * len(X)


def test_an_estimator_is_given_the_columns_it_was_fitted_on(serve: Build) -> None:
    """The frame has the columns that the model selects, in its order, with the dtypes of the data."""
    X, _ = passengers()
    model = Seeing("port", "deck", "age")
    server = serve(model, schema=schema())
    for row in ROWS:
        assert server.predict(FORMS["JSON"](X, row)).success
    for seen, row in zip(model.seen, ROWS, strict=True):
        assert list(seen.columns) == ["port", "deck", "age"]
        assert (seen.deck.dtype, seen.age.dtype, seen.deck.iloc[0]) == (X.deck.dtype, X.age.dtype, X.deck.iloc[row])
        assert seen.port.isna().tolist() == [X.port.isna()[row]]


def test_categories_reach_a_model_that_knows_them_by_dtype(serve: Build) -> None:
    """A model that takes categories by the dtype of their column gets columns of that dtype."""
    X, y = passengers()
    model = HistGradientBoostingClassifier(max_iter=5, categorical_features="from_dtype").fit(X.drop(columns="port"), y)
    server = serve(model, schema=schema())
    found = [server.predict(FORMS["JSON"](X, row)).unwrap() for row in ROWS]
    assert found == model.predict(X.drop(columns="port").iloc[ROWS]).tolist()


@pytest.mark.parametrize("many", ["frame", "records", "reordered records"])
def test_many_records_are_answered_as_one_by_one(many: str, serve: Build) -> None:
    """``predict_many`` answers a frame, and records in any order, as ``predict`` does."""
    X, _ = passengers()
    part = X.iloc[ROWS]
    inputs = {
        "frame": part,
        "records": part.to_dict("records"),
        "reordered records": [dict(reversed(row.items())) for row in part.to_dict("records")],
    }[many]
    answers = [result.unwrap() for result in serve(pipeline(), schema=schema()).predict_many(inputs)]
    assert answers == pipeline().predict(part).tolist()


def test_one_bad_record_of_many_fails_alone(serve: Build) -> None:
    """A record that does not fit is refused by itself, with the name of its field."""
    X, _ = passengers()
    records = X.iloc[:5].to_dict("records")
    records[2] = records[2] | {"fare": "cheap"}
    results = serve(pipeline(), schema=schema()).predict_many(records)
    assert [result.success for result in results] == [True, True, False, True, True]
    assert (results[2].error.kind, results[2].error.field) == (ErrorKind.InvalidInput, "fare")


BAD = {
    "None": None,
    "a list": [31.0, 7.5, 0, "Cork", "A", True],
    "an array": np.zeros(6),
    "two rows": passengers()[0].iloc[:2],
    "a field missing": {"fare": None},
    "a field misspelt": {"far": 1.0, "fare": None},
    "a field too many": {"name": "Ann"},
    "text for a number": {"fare": "7.5"},
    "a boolean for a number": {"fare": True},
    "a fraction for a whole number": {"siblings": 0.5},
    "a number for text": {"port": 5},
    "missing where there was always a value": {"fare": float("nan")},
    "infinite": {"fare": float("inf")},
    "an unknown category": {"deck": "Z"},
    "a number for a boolean": {"alone": 1},
}


def record(name: str) -> Any:
    """A good record with what is bad in one of ``BAD``."""
    bad = BAD[name]
    if not isinstance(bad, dict):
        return bad
    good = FORMS["dict"](passengers()[0], 1)
    if name.startswith("a field mis"):
        good.pop("fare")
        bad = {key: value for key, value in bad.items() if value is not None}
    return good | bad


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_is_refused_before_the_model(name: str, repository: InMemoryModelRepository, build: Build) -> None:
    """A record that does not fit the schema is InvalidInput, recorded with the version; the model is not called."""
    model, monitor = Seeing("age", "fare"), EightMethodMonitor()
    repository.register(model, schema=schema())
    result = build(repository, monitor).predict(record(name))
    assert (result.success, result.error.kind) == (False, ErrorKind.InvalidInput)
    assert ("expected" in result.error.message, model.seen) == (True, [])
    assert (monitor.errors, monitor.predictions) == ([("InvalidInput", "1")], [])


def test_a_model_fitted_on_an_array_gets_a_row(serve: Build) -> None:
    """A record of numbers for a model that was fitted on an array is a row in the order of the schema."""
    X = np.array([[1.0, 10.0], [2.0, 30.0], [4.0, 20.0]])
    model = LinearRegression().fit(X, X @ [3.0, -1.0])
    numbers = RecordSchema([Field("a", "float"), Field("b", "float")])
    for options in ({"schema": numbers}, {"server": {"validator": numbers}}):
        server = serve(model, **options)
        assert server.predict({"b": 20, "a": 4}).unwrap() == pytest.approx(3 * 4 - 20)


def test_a_callable_gets_the_record_as_it_came(serve: Build) -> None:
    """A plain callable with a schema is protected by it, and is given the caller's own object."""
    seen: list[Any] = []
    server = serve(seen.append, schema=RecordSchema([Field("a", "float")]))
    input = {"a": 1}
    server.predict(input)
    refused = server.predict({"a": "one"})
    assert (seen, seen[0] is input, refused.error.field) == ([{"a": 1}], True, "a")


def test_a_schema_of_the_server_gives_the_coerced_record(serve: Build) -> None:
    """A ``RecordSchema`` as the server's validator gives any model what it made of the input."""
    server = serve(lambda record: record, server={"validator": RecordSchema([Field("a", "float"), Field("b", "text")])})
    assert list(server.predict({"b": "x", "a": 1}).unwrap().items()) == [("a", 1.0), ("b", "x")]


def test_a_frame_model_takes_a_record_of_the_servers_schema(serve: Build) -> None:
    """A model fitted on a frame takes the record that the server's own schema made."""
    X, _ = passengers()
    server = serve(pipeline(), server={"validator": schema()})
    complete = [row for row in ROWS if not X.iloc[row].isna().any()]
    found = [server.predict(FORMS["JSON"](X, row)).unwrap() for row in complete]
    assert found == pipeline().predict(X.iloc[complete]).tolist()


def test_health_tries_an_example_of_the_schema(serve: Build) -> None:
    """Without an example, health tries one made of what the schema knows, which a sound model answers."""
    health = serve(pipeline(), schema=schema()).check_health()
    found = {check.name: check.status.value for check in health.checks}
    assert (found["prediction"], found["validation"]) == ("PASS", "PASS")


def test_records_are_checked_in_batches(serve: Build) -> None:
    """With micro-batching each record is checked by itself, and the answers are the model's."""
    X, _ = passengers()
    server = serve(pipeline(), schema=schema(), server={"batching": Batching(max_batch_size=8)})
    expected = pipeline().predict(X.iloc[ROWS]).tolist()
    found: dict[int, Any] = {}

    def ask(index: int) -> None:
        found[index] = server.predict(FORMS["JSON"](X, ROWS[index])).unwrap()

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(len(ROWS))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [found[index] for index in range(len(ROWS))] == expected


def test_a_checker_may_be_called_from_many_threads() -> None:
    """Calls of one checker from several threads at once do not disturb each other."""
    check = RecordSchema([Field("a", "float", maximum=10.0), Field("b", "text")], ranges="refuse").checker()
    start, wrong = threading.Barrier(8), []

    def work(number: int) -> None:
        start.wait(60)
        found = [check({"b": str(number), "a": number}) for _ in range(500)]
        wrong.extend(record for record in found if record != {"a": float(number), "b": str(number)})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


def test_a_stored_schema_serves_as_it_was(tmp_path: Any, build: Build) -> None:
    """A repository on disk keeps the schema of records beside the version, for another process to serve by."""
    X, _ = passengers()
    DirectoryModelRepository(tmp_path, trust=True).register(pipeline(), schema=schema())
    opened = DirectoryModelRepository(tmp_path, trust=True)
    server = build(opened)
    found = [server.predict(input) for input in (FORMS["JSON"](X, 1), record("text for a number"))]
    assert opened.describe("1").schema == schema()
    assert [(result.success, result.value) for result in found] == [
        (True, pipeline().predict(X.iloc[[1]])[0]),
        (False, None),
    ]


# ------------------------------------------------------------------------------------------ learned when registering


@pytest.mark.parametrize("form", ["dict", "series", "frame of one row"])
def test_a_schema_is_learned_from_the_baseline(form: str, repository: InMemoryModelRepository) -> None:
    """A frame as baseline, beside an example with names, teaches the schema of a model that was fitted on a frame."""
    X, _ = passengers()
    version = repository.register(pipeline(), example=FORMS[form](X, 1), baseline=X.assign(more=1))
    learned = repository.describe(version).schema
    assert learned == RecordSchema.infer(X, extra="ignore", unknown_categories="warn")


def test_what_is_learned_unasked_lets_unknown_fields_and_categories_pass(serve: Build) -> None:
    """A schema that nobody asked for refuses no unknown category and no further field; kinds and names it holds."""
    X, _ = passengers()
    example = FORMS["dict"](X, 1)
    server = serve(Seeing(*X.columns), example=example, baseline=X)
    found = [
        server.predict(example | change).success
        for change in ({}, {"port": "Oslo"}, {"name": "Ann"}, {"fare": "cheap"}, {"alone": 1})
    ]
    assert found == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("model", "example", "baseline"),
    [
        (pipeline(), [31.0, 7.5, 0, "Cork", "A", True], passengers()[0]),
        (pipeline(), None, passengers()[0]),
        (pipeline(), FORMS["dict"](passengers()[0], 1), None),
        (pipeline(), FORMS["dict"](passengers()[0], 1), passengers()[0].drop(columns="age")),
        (pipeline(), FORMS["dict"](passengers()[0], 1) | {"fare": "cheap"}, passengers()[0]),
        (Seeing("a"), {"a": 1}, pd.DataFrame({"a": [1, "x"]})),
        (sum, FORMS["dict"](passengers()[0], 1), passengers()[0]),
    ],
    ids=["a list", "no example", "no baseline", "columns missing", "another example", "mixed columns", "a callable"],
)
def test_no_schema_is_learned_from_less(
    model: Any, example: Any, baseline: Any, repository: InMemoryModelRepository
) -> None:
    """Without names, without the columns, or where the example does not fit, nothing is learned and nothing fails."""
    assert repository.describe(repository.register(model, example=example, baseline=baseline)).schema is None


# ------------------------------------------------------------------------------------------------ warnings, logged


def test_warnings_of_a_validator_are_logged(serve: Build, caplog: pytest.LogCaptureFixture) -> None:
    """What a validator warns of is logged, since a result has no place for it."""

    class Wary:
        def validate(self, input: Any) -> ValidationResult:
            return ValidationResult(True, warnings=("x is large",))

    server = serve(lambda x: x, server={"validator": Wary()})
    with caplog.at_level("WARNING", logger="mlserve.schemas"):
        answers = [server.predict(5).unwrap() for _ in range(3)]
    assert (answers, len(caplog.records), "x is large" in caplog.text) == ([5, 5, 5], 2, True)


def test_a_monitor_sees_the_record_as_it_came(repository: InMemoryModelRepository, build: Build) -> None:
    """The monitor samples what callers sent, by name, whatever the schema makes of it."""
    repository.register(Seeing("a", "b"), schema=RecordSchema([Field("a", "float"), Field("b", "text")]))
    monitor = InMemoryModelMonitor()
    server = build(repository, monitor)
    server.predict({"b": "x", "a": 1})
    sample = monitor.get_recent_input_distribution("1", timedelta(hours=1))
    assert dict(zip(sample.feature_names, sample.rows[0].tolist(), strict=True)) == {"a": 1, "b": "x"}
