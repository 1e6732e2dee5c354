"""``predict_many``: many inputs by one call of the model, checked one by one, at fault alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from serving_doubles import Answering, Batched, EightMethodMonitor, Tallied
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression

from mlserve import ArraySchema, ErrorKind, InMemoryModelMonitor, InMemoryModelRepository, ModelServer
from mlserve.errors import InvalidArgumentError, InvalidInputError
from mlserve.serving import CallableFallback, PreviousVersion, SingleRow, StaticAnswer

Host = Callable[..., Tallied]

X = np.arange(12, dtype=float).reshape(4, 3)


class Summing:
    """Answers the sum of each row; keeps the tables it was given."""

    def __init__(self, *, is_pure: bool = False) -> None:
        self.is_pure = is_pure
        self.tables: list[Any] = []

    def predict(self, X: Any) -> Any:
        self.tables.append(X)
        return np.asarray(X, dtype=float).sum(axis=1)


def generated() -> Iterator[Any]:
    yield from X


class Columns:
    """A model fitted on a frame, which selects columns by name."""

    feature_names_in_ = np.array(["a", "b", "c"], dtype=object)

    def __init__(self) -> None:
        self.tables: list[Any] = []

    def predict(self, X: Any) -> Any:
        self.tables.append(X)
        return (X["a"] + X["b"] + X["c"]).to_numpy()


# ------------------------------------------------------------------------------------------------------------ inputs


@pytest.mark.parametrize(
    "inputs",
    [X, X.tolist(), list(X), tuple(X), np.asfortranarray(X), generated(), [tuple(row) for row in X.tolist()]],
    ids=["array", "lists", "list of arrays", "tuple", "fortran", "generator", "list of tuples"],
)
def test_rows_come_in_many_forms(inputs: Any, host: Host) -> None:
    """An array, a sequence or an iterable of rows is answered row by row, by one call of the model."""
    model = Summing()
    server = host(model)
    assert [result.value for result in server.predict_many(inputs)] == [3.0, 12.0, 21.0, 30.0]
    assert [table.shape for table in model.tables] == [(4, 3)]


@pytest.mark.parametrize(
    "frame", [pd.DataFrame(X, columns=list("abc")), pl.DataFrame(X, schema=list("abc"))], ids=["pandas", "polars"]
)
@pytest.mark.parametrize("columns", ["abc", "cab"])
def test_frames_are_answered_row_by_row(frame: Any, columns: str, host: Host) -> None:
    """Each row of a frame is an input, whatever the order of its columns; a model fitted on a frame gets a frame."""
    model = Columns()
    server = host(model)
    assert [result.value for result in server.predict_many(frame[list(columns)])] == [3.0, 12.0, 21.0, 30.0]
    assert [type(table) for table in model.tables] == [pd.DataFrame]


class SumOfRows:
    """A model of rows that is nothing of scikit-learn's."""

    is_pure = True

    def predict(self, X: Any) -> Any:
        return np.asarray(X, float).sum(axis=1)


@pytest.mark.parametrize(
    "known", [{}, {"example": X[0]}, {"schema": ArraySchema.infer(X)}], ids=lambda known: str([*known])
)
@pytest.mark.parametrize("model", [SumOfRows(), LinearRegression().fit(X, X.sum(axis=1))], ids=type)
@pytest.mark.parametrize(
    "frame", [pd.DataFrame(X, columns=list("abc")), pl.DataFrame(X, schema=list("abc"))], ids=["pandas", "polars"]
)
def test_a_frame_goes_by_position_where_nothing_knows_names(
    frame: Any, model: Any, known: dict[str, Any], host: Host
) -> None:
    """Neither a model fitted on an array nor a schema without names asks what a column is called."""
    results = host(model, task="regression", **known).predict_many(frame)
    assert [result.success and result.value for result in results] == pytest.approx([3.0, 12.0, 21.0, 30.0])


class NoArray(pd.DataFrame):  # type: ignore[misc]  # pandas' frames are of no type that is known
    """A frame of a library that makes no array of it unasked."""

    def to_numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("say so, if it is to leave the device")


def test_a_frame_that_is_no_array_is_answered_by_records(host: Host) -> None:
    """Rows of a frame that cannot be had by position are mappings."""

    class Names:
        def predict(self, X: Any) -> list[Any]:
            return [sorted(record) for record in X]

    results = host(Names(), task="regression").predict_many(NoArray({"a": [1.0, 2.0], "b": [3.0, 4.0]}))
    assert [result.value for result in results] == [["a", "b"], ["a", "b"]]


def test_records_are_answered_by_a_model_fitted_on_a_frame(host: Host) -> None:
    """Mappings with the features by name make a frame; one without a feature fails alone."""
    model = Columns()
    rows: list[Any] = [{"a": 1.0, "b": 2.0, "c": 3.0}, {"a": 1.0, "b": 2.0}, {"c": 0.0, "b": 5.0, "a": 1.0}]
    results = host(model).predict_many(rows)
    assert [result.value for result in results] == [6.0, None, 6.0]
    assert (results[1].error.kind, results[1].error.field) == (ErrorKind.InvalidInput, "c")


def test_sparse_rows_are_stacked(host: Host) -> None:
    """The rows of a sparse matrix make one again."""
    iris = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=500).fit(sparse.csr_matrix(iris[0]), iris[1])
    server = host(model)
    found = [result.value for result in server.predict_many(sparse.csr_matrix(iris[0][::10]))]
    assert found == model.predict(iris[0][::10]).tolist()


@pytest.mark.parametrize("inputs", [[], (), np.empty((0, 3)), pd.DataFrame(), iter(())], ids=lambda x: type(x).__name__)
def test_nothing_is_answered_by_nothing(inputs: Any, host: Host) -> None:
    """No inputs give no results; the model is not called."""
    model = Summing()
    assert (host(model).predict_many(inputs), model.tables) == ([], [])


@pytest.mark.parametrize(
    "inputs", ["text", b"bytes", 5, None, {"a": 1}, np.array(3.0), list, object()], ids=lambda x: repr(x)[:12]
)
def test_what_is_no_collection_is_a_mistake(inputs: Any, host: Host) -> None:
    """What is one input, or none, is raised as InvalidArgumentError, waited for or awaited; nothing is counted."""
    server = host(Summing())
    with pytest.raises(InvalidArgumentError, match="predict"):
        server.server.predict_many(inputs)
    with pytest.raises(InvalidArgumentError, match="predict"):
        asyncio.run(server.server.apredict_many(inputs))
    assert server.statistics().accepted == 0


def test_what_a_generator_raises_is_its_callers(host: Host) -> None:
    """An exception of the caller's own iterable goes back to the caller; nothing is counted."""

    def broken() -> Iterator[Any]:
        yield [1.0]
        raise LookupError("mine")

    server = host(Summing())
    with pytest.raises(LookupError, match="mine"):
        server.server.predict_many(broken())
    assert server.statistics().accepted == 0


def test_thousands_of_inputs_are_one_call(host: Host) -> None:
    """However many rows there are, the model is called once, and ids are given once."""
    model = Summing()
    rows = np.arange(15_000, dtype=float).reshape(5_000, 3)
    results = host(model).predict_many(rows)
    assert [result.value for result in results] == rows.sum(axis=1).tolist()
    assert (len(model.tables), len({result.prediction_id for result in results})) == (1, 5_000)


@pytest.mark.parametrize("model", [lambda x: x + 1, SingleRow(type("One", (), {"predict": lambda self, x: x + 1})())])
def test_a_model_that_answers_one_at_a_time_is_called_for_each(model: Any, host: Host) -> None:
    """Callables, and models wrapped in SingleRow, answer each input by itself."""
    assert [result.value for result in host(model).predict_many([1, 2, 3])] == [2, 3, 4]


def test_a_coroutine_model_answers_many(host: Host) -> None:
    """Coroutine models answer each input, for callers who wait and for those who await."""

    async def model(input: Any) -> Any:
        await asyncio.sleep(0)
        if input == 2:
            raise ValueError("two")
        return input + 1

    server = host(model)
    found = [server.predict_many([1, 2, 3]), asyncio.run(server.apredict_many([1, 2, 3]))]
    assert [[result.value for result in results] for results in found] == [[2, None, 4]] * 2


def test_awaiting_many_does_not_block_the_loop(host: Host) -> None:
    """The model of ``apredict_many`` is called on another thread."""
    seen: list[bool] = []

    def model(input: Any) -> Any:
        seen.append(threading.current_thread() is threading.main_thread())
        return input

    assert [result.value for result in asyncio.run(host(model).apredict_many([1, 2]))] == [1, 2]
    assert seen == [False, False]


def test_a_version_answers_all(tallied: Host) -> None:
    """A version can be named, by id or alias; one that does not exist fails every input by itself."""
    repository = InMemoryModelRepository()
    for name in ("one", "two"):
        repository.register(Answering(name))
    repository.set_alias("champion", "1")
    server = tallied(repository)
    for version, answer in (("1", "one"), ("champion", "one"), (None, "two")):
        assert [result.value for result in server.predict_many([0, 0], version)] == [answer] * 2
    failed = server.predict_many([0, 0], "99")
    assert [result.error.kind for result in failed] == [ErrorKind.VersionNotFound] * 2
    assert failed[0].error is not failed[1].error


# ------------------------------------------------------------------------------------------------------------ faults


def test_each_input_is_checked_by_itself(host: Host) -> None:
    """Inputs that do not fit the schema fail alone, and the model is called once for the others."""
    model = Summing()
    server = host(model, schema=ArraySchema(shape=(3,)))
    rows: list[Any] = [[1.0, 2.0, 3.0], [1.0], None, "no", [np.nan] * 3, [4.0, 5.0, 6.0]]
    results = server.predict_many(rows)
    assert [result.value for result in results] == [6.0, None, None, None, None, 15.0]
    assert {result.error.kind for result in results[1:5]} == {ErrorKind.InvalidInput}
    assert [table.tolist() for table in model.tables] == [[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]


def test_nothing_valid_calls_nobody(host: Host) -> None:
    """When no input passes its check the model is not called."""
    model = Summing()
    results = host(model).predict_many([None, None])
    assert ([result.error.kind for result in results], model.tables) == ([ErrorKind.InvalidInput] * 2, [])


@given(bad=st.sets(st.integers(0, 19), max_size=20))
@settings(deadline=None, max_examples=40)
def test_whatever_is_bad_fails_alone_in_a_pure_model(bad: set[int]) -> None:
    """Whichever inputs make a pure model raise, exactly these fail, by no more than two calls a level for each."""
    model = Batched(bad=sorted(bad), is_pure=True)
    repository = InMemoryModelRepository()
    repository.register(model)
    server = Tallied(ModelServer(repository, InMemoryModelMonitor()))
    results = server.predict_many(range(20))
    assert [result.value for result in results] == [None if input in bad else input * 10 for input in range(20)]
    assert len(model.batches) <= 1 + 2 * 5 * len(bad)
    server.check_balance()


def test_a_call_of_an_impure_model_is_not_made_again(host: Host) -> None:
    """Where a call might do something twice every input fails, each with an error of its own, after one call."""
    model = Batched(bad=[2])
    results = host(model).predict_many([1, 2, 3])
    assert (model.batches, [result.error.kind for result in results]) == (
        [[1, 2, 3]],
        [ErrorKind.PredictionException] * 3,
    )
    assert len({id(result.error) for result in results}) == 3


def test_an_impure_models_own_refusal_is_not_tried_again_either(host: Host) -> None:
    """A model that raises InvalidInputError was called, and may have done something."""
    calls: list[Any] = []

    class Refusing(Batched):
        def predict_batch(self, inputs: Sequence[Any]) -> list[Any]:
            calls.append(list(inputs))
            raise InvalidInputError("not that.")

    assert [r.error.kind for r in host(Refusing()).predict_many([1, 2])] == [ErrorKind.InvalidInput] * 2
    assert calls == [[1, 2]]


@pytest.mark.parametrize(
    "odd",
    [[1.0, 2.0], ["a", "b", "c"], [1j, 2j, 3j], [[1.0], [2.0, 3.0], 4.0], [None, 1.0, 2.0], X, pd.DataFrame(X)],
    ids=["short", "text", "complex", "ragged", "objects", "table", "frame"],
)
def test_inputs_that_make_no_table_fail_alone(odd: Any, host: Host) -> None:
    """Rows that are not alike were never shown to the model together: also of an impure model only the odd one fails,
    and the others reach the model as the numbers they are.
    """
    model = Summing()
    results = host(model).predict_many([[1.0, 2.0, 3.0], odd, [4, 5, 6], np.array([7.0, 8.0, 9.0])])
    assert [results[row].value for row in (0, 2, 3)] == [6.0, 15.0, 24.0]
    assert all(table.dtype.kind in "fi" for table in model.tables if isinstance(table, np.ndarray) and len(table) > 1)


def test_arrays_of_different_kinds_are_not_mixed(host: Host) -> None:
    """An array of text among arrays of numbers does not make them text."""
    model = Summing()
    rows = [np.array([1.0, 2.0, 3.0]), np.array(["x", "y", "z"]), np.array([1, 2, 3])]
    assert [result.value for result in host(model).predict_many(rows)] == [6.0, None, 6.0]


@pytest.mark.parametrize("answer", [[1.0], 5.0, None, [1.0] * 9])
def test_a_wrong_number_of_answers_fails_all(answer: Any, host: Host) -> None:
    """A model that does not answer item by item fails the inputs, and mixes no answers up."""

    class Miscounting:
        def predict(self, X: Any) -> Any:
            return answer

    results = host(Miscounting()).predict_many(X)
    assert [result.error.kind for result in results] == [ErrorKind.PredictionException] * 4


def test_fallbacks_answer_what_failed(tallied: Host) -> None:
    """Each input that failed, and was not the caller's fault, is answered by the chain; the others are as they were."""
    repository = InMemoryModelRepository()
    repository.register(lambda x: -x)
    repository.register(lambda x: 6 / x)

    def rescue(input: Any) -> Any:
        raise LookupError

    server = tallied(repository, fallbacks=[CallableFallback(rescue), PreviousVersion(), StaticAnswer("static")])
    results = server.predict_many([1, 0, None, 3])
    assert [result.value for result in results] == [6.0, 0, None, 2.0]
    assert [result.version.id for result in results] == ["2", "1", "2", "2"]
    assert results[1].degraded.startswith("PreviousVersion answered")


def test_an_error_of_the_repository_fails_each(tallied: Host) -> None:
    """With nothing registered every input fails by itself."""
    results = tallied(InMemoryModelRepository()).predict_many([1, 2])
    assert [result.error.kind for result in results] == [ErrorKind.VersionNotFound] * 2
    assert results[0].error is not results[1].error


# ----------------------------------------------------------------------------------------------------------- records


def test_many_are_recorded_as_one_block(host: Host) -> None:
    """The monitor hears of every input as of a prediction of its own: ids, inputs, outputs, keys, confidences."""
    iris = load_iris(return_X_y=True)
    monitor = InMemoryModelMonitor()
    model = LogisticRegression(max_iter=500).fit(*iris)
    results = host(model, monitor=monitor).predict_many(iris[0][::25], key="Ann")
    events = monitor.events().events
    assert [event.prediction_id for event in events] == [result.prediction_id for result in results]
    assert (
        [event.output for event in events]
        == [result.value for result in results]
        == model.predict(iris[0][::25]).tolist()
    )
    assert [event.confidence for event in events] == pytest.approx(model.predict_proba(iris[0][::25]).max(axis=1))
    assert {event.key for event in events} == {"Ann"}
    metrics = monitor.get_model_metrics("1", timedelta(hours=1))
    assert (metrics.request_count, metrics.error_count, metrics.throughput_per_second) == (6, 0, 6 / 3600)


def test_a_monitor_that_takes_no_blocks_hears_of_each(host: Host) -> None:
    """A monitor with the least that it must have gets an event for each input, and failures as failures."""
    monitor = EightMethodMonitor()
    iris = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=500).fit(*iris)
    results = host(model, monitor=monitor).predict_many([*iris[0][:3], None])
    assert [event.prediction_id for event in monitor.predictions] == [result.prediction_id for result in results[:3]]
    assert all(event.confidence > 0.9 for event in monitor.predictions)
    assert monitor.errors == [("InvalidInput", "1")]


@pytest.mark.parametrize("method", ["record_prediction", "record_prediction_error"])
def test_a_broken_monitor_breaks_nothing(method: str, host: Host) -> None:
    """Predictions are answered though they cannot be recorded, and that is counted."""
    monitor = EightMethodMonitor()
    monitor.broken[method] = OSError("full")
    server = host(lambda x: 1 / x, monitor=monitor)
    assert [result.value for result in server.predict_many([1, 0, 2])] == [1.0, None, 0.5]
    assert server.statistics().monitor_errors == 1


def test_outcomes_meet_their_predictions(host: Host) -> None:
    """The ids of ``predict_many`` take outcomes like those of ``predict``."""
    monitor = InMemoryModelMonitor()
    model = LinearRegression().fit(X, X.sum(axis=1))
    server = host(model, monitor=monitor)
    for result in server.predict_many(X):
        server.record_outcome(result.prediction_id, result.value)
    assert monitor.get_model_metrics("1", timedelta(hours=1)).labelled_count == 4


def test_the_time_is_that_of_all(host: Host) -> None:
    """Each result has taken as long as all of them together."""
    results = host(Summing()).predict_many(X)
    assert len({result.processing_time_ms for result in results}) == 1


def test_a_closed_server_refuses_each(host: Host) -> None:
    """After ``close`` every input is a failed result."""
    server = host(Summing())
    server.close()
    assert [result.error.kind for result in server.predict_many(X)] == [ErrorKind.ServerClosed] * 4
