"""ONNX Runtime sessions as models: one row and batches, names, casts, fixed batches, labels with their confidence."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from mlserve import (
    ArraySchema,
    DirectoryModelRepository,
    ErrorKind,
    InMemoryModelMonitor,
    InMemoryModelRepository,
    ModelServer,
    RecordSchema,
)
from mlserve.errors import InvalidArgumentError, MissingExtraError
from mlserve.integrations.onnx import SessionModel, open_session
from mlserve.repositories import OnnxModel

DATA = Path(__file__).parent / "data" / "onnx"
EXPECTED = json.loads((DATA / "expected_ort_1.23.2.json").read_text(encoding="utf-8"))["cases"]
FLOAT, DOUBLE, INT64, TEXT = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.STRING

Serve = Callable[..., ModelServer]


@pytest.fixture
def monitor() -> InMemoryModelMonitor:
    return InMemoryModelMonitor()


@pytest.fixture
def serve(monitor: InMemoryModelMonitor) -> Iterator[Serve]:
    servers: list[ModelServer] = []

    def serve_model(model: Any, **described: Any) -> ModelServer:
        repository = InMemoryModelRepository()
        repository.register(model, **described)
        servers.append(ModelServer(repository, monitor))
        return servers[-1]

    yield serve_model
    for server in servers:
        server.close(timeout=0)


def confidences(monitor: InMemoryModelMonitor) -> list[float | None]:
    return [event.confidence for event in monitor.events().events]


def known(name: str) -> Any:
    return open_session(DATA / f"{name}.onnx")


def values(results: Any) -> list[Any]:
    return [result.unwrap() for result in results]


# ------------------------------------------------------------------------------------------------- graphs of our own


def graph(nodes: Any, inputs: Any, outputs: Any, constants: Any = ()) -> Any:
    """A session for a graph; inputs and outputs are (name, type, shape)."""
    made = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [one if not isinstance(one, tuple) else helper.make_tensor_value_info(*one) for one in outputs],
        constants,
    )
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 3)]
    model: ModelProto = helper.make_model(made, opset_imports=opsets, ir_version=8)
    return open_session(model.SerializeToString())


def cast(taken: int, given: int = DOUBLE, shape: Any = ("n", 2)) -> Any:
    """A graph that answers its input as another type."""
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=given)]
    return graph(nodes, [("x", taken, shape)], [("y", given, shape)])


def iris(names: Any = None) -> tuple[Any, Any, LogisticRegression]:
    X, y = load_iris(return_X_y=True)
    X = X.astype(np.float32)
    return X, y, LogisticRegression(max_iter=1000).fit(X, y if names is None else np.array(names)[y])


def classifier(
    model: LogisticRegression,
    *,
    zipped: bool,
    rows: Any = "n",
    named: str = "probabilities",
    scores: str = "SOFTMAX",
    column: bool = False,
) -> Any:
    """A logistic regression as converters write it: a label, and a tensor or dictionaries of probabilities."""
    is_text = model.classes_.dtype.kind in "US"
    classes = {f"classlabels_{'strings' if is_text else 'ints'}": model.classes_.tolist()}
    nodes = [
        helper.make_node(
            "LinearClassifier",
            ["X"],
            ["label", "raw"],
            domain="ai.onnx.ml",
            coefficients=model.coef_.ravel().tolist(),
            intercepts=model.intercept_.tolist(),
            post_transform=scores,
            **classes,
        )
    ]
    kind = TEXT if is_text else INT64
    if zipped:
        labels = {"classlabels_strings" if is_text else "classlabels_int64s": model.classes_.tolist()}
        nodes.append(helper.make_node("ZipMap", ["raw"], [named], domain="ai.onnx.ml", **labels))
        maps = helper.make_map_type_proto(kind, helper.make_tensor_type_proto(FLOAT, None))
        output: Any = helper.make_value_info(named, helper.make_sequence_type_proto(maps))
    else:
        nodes.append(helper.make_node("Identity", ["raw"], [named]))
        output = (named, FLOAT, [rows, 3])
    label, shape = "label", [rows]
    if column:
        nodes.append(helper.make_node("Unsqueeze", ["label", "axis"], ["upright"]))
        label, shape = "upright", [rows, 1]
    axis = [numpy_helper.from_array(np.array([1], np.int64), "axis")] if column else []
    return graph(nodes, [("X", FLOAT, [rows, 4])], [(label, kind, shape), output], axis)


def sum_of_columns() -> Any:
    """Three inputs by name: a double column, a whole one and two floats."""
    nodes = [
        helper.make_node("Cast", ["age"], ["a"], to=FLOAT),
        helper.make_node("Cast", ["rooms"], ["r"], to=FLOAT),
        helper.make_node("Concat", ["a", "r", "place"], ["all"], axis=1),
        helper.make_node("ReduceSum", ["all", "axis"], ["sum"], keepdims=1),
    ]
    axis = [numpy_helper.from_array(np.array([1], np.int64), "axis")]
    inputs = [("age", DOUBLE, ["n", 1]), ("rooms", INT64, ["n", 1]), ("place", FLOAT, ["n", 2])]
    return graph(nodes, inputs, [("sum", FLOAT, ["n", 1])], axis)


# --------------------------------------------------------------------------------------------- graphs of ONNX Runtime


def test_the_known_classifier_gives_its_labels_and_confidences(serve: Serve, monitor: InMemoryModelMonitor) -> None:
    """ONNX Runtime's own iris model, three rows at once: its published labels, and the largest probability of each."""
    case = EXPECTED["logreg_iris"]
    labels, probabilities = case["y"]
    assert values(serve(known("logreg_iris")).predict_many(np.array(case["x"]))) == labels
    assert confidences(monitor) == pytest.approx([max(row.values()) for row in probabilities], rel=1e-6)


def test_a_row_goes_through_a_graph_of_three_rows(serve: Serve, monitor: InMemoryModelMonitor) -> None:
    """A graph that declares three rows answers one: the row is repeated, and the surplus answers are dropped."""
    case = EXPECTED["logreg_iris"]
    server = serve(known("logreg_iris"))
    assert [server.predict(row).unwrap() for row in case["x"]] == case["y"][0]
    assert confidences(monitor) == pytest.approx([max(row.values()) for row in case["y"][1]], rel=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_any_number_of_rows_goes_through_a_graph_of_three(count: int, serve: Serve) -> None:
    """Batches that are no multiple of the declared size are answered, each row with its own answer."""
    case = EXPECTED["sigmoid"]
    rows = np.array([case["x"][row % 3] for row in range(count)], np.float32)
    found = values(serve(known("sigmoid")).predict_many(rows))
    expected = np.array([case["y"][0][row % 3] for row in range(count)])
    assert np.array(found) == pytest.approx(expected, rel=1e-6)


def test_a_graph_of_several_dimensions_answers_an_array_a_row(serve: Serve) -> None:
    """One row of shape (4, 5) in, one array of shape (4, 5) out."""
    case = EXPECTED["sigmoid"]
    found = serve(known("sigmoid")).predict(case["x"][1]).unwrap()
    assert (found.shape, found) == ((4, 5), pytest.approx(np.array(case["y"][0][1]), rel=1e-6))


def test_a_whole_batch_is_given_as_it_is(serve: Serve) -> None:
    """A table of just as many rows as declared goes through unchanged, row by row in its place."""
    case = EXPECTED["mul_1"]
    found = values(serve(known("mul_1")).predict_many(np.array(case["x"])))
    assert np.array(found) == pytest.approx(np.array(case["y"][0]), rel=1e-6)


# ------------------------------------------------------------------------------------------------------- classifiers


@pytest.mark.parametrize("rows", ["n", 1, 2])
@pytest.mark.parametrize("names", [None, ["setosa", "versicolor", "virginica"]], ids=["numbers", "text"])
@pytest.mark.parametrize("zipped", [True, False], ids=["dictionaries", "tensor"])
def test_a_converted_classifier_answers_as_the_original(
    zipped: bool, names: Any, rows: Any, serve: Serve, monitor: InMemoryModelMonitor
) -> None:
    """Labels are those of scikit-learn's ``predict``, confidences the largest of its ``predict_proba``."""
    X, _, model = iris(names)
    server, asked = serve(classifier(model, zipped=zipped, rows=rows)), X[::15]
    one_by_one = [server.predict(row).unwrap() for row in asked]
    together = values(server.predict_many(asked))
    assert one_by_one == together == model.predict(asked).tolist()
    assert confidences(monitor) == pytest.approx([*model.predict_proba(asked).max(axis=1)] * 2, abs=1e-5)


def test_a_label_in_a_column_is_a_label(serve: Serve) -> None:
    """An output of one column is one answer a row, not an array of one."""
    X, _, model = iris()
    assert serve(classifier(model, zipped=False, column=True)).predict(X[0]).unwrap() == 0


def test_text_labels_are_text(serve: Serve) -> None:
    """A label of text is a ``str``, as it went in."""
    X, _, model = iris(["a", "b", "c"])
    assert type(serve(classifier(model, zipped=True)).predict(X[0]).unwrap()) is str


def test_scores_are_no_confidences(serve: Serve, monitor: InMemoryModelMonitor) -> None:
    """What is called probabilities and does not add up to 1, as of a converted linear SVC, is no confidence."""
    X, _, model = iris()
    serve(classifier(model, zipped=False, scores="NONE")).predict(X[0]).unwrap()
    assert confidences(monitor) == [None]


def test_a_table_beside_the_label_is_taken_for_probabilities_by_its_name_only(
    serve: Serve, monitor: InMemoryModelMonitor
) -> None:
    """A float table called otherwise, such as boxes beside classes, is no confidence."""
    X, _, model = iris()
    serve(classifier(model, zipped=False, named="boxes")).predict(X[0]).unwrap()
    assert confidences(monitor) == [None]


def test_a_session_registered_for_regression_has_no_confidence(serve: Serve, monitor: InMemoryModelMonitor) -> None:
    """The registered task goes before what the outputs suggest."""
    X, _, model = iris()
    serve(classifier(model, zipped=True), task="regression").predict(X[0]).unwrap()
    assert confidences(monitor) == [None]


@pytest.mark.parametrize(
    ("make", "task", "kind"),
    [
        (lambda: classifier(iris()[2], zipped=True), None, "classifier"),
        (lambda: cast(FLOAT), None, "regressor"),
        (lambda: cast(FLOAT), "classification", "classifier"),
    ],
    ids=["label and probabilities", "numbers", "registered"],
)
def test_health_says_what_a_session_was_taken_for(make: Any, task: Any, kind: str, serve: Serve) -> None:
    """A label with probabilities beside it is a classifier's; else the registered task tells."""
    checks = {check.name: check.detail for check in serve(make(), task=task).check_health().checks}
    assert checks["model"] == f"version 1 is a {kind}"


def test_outputs_may_be_named(serve: Serve, monitor: InMemoryModelMonitor) -> None:
    """``SessionModel`` says which output is the answer, and which the probabilities."""
    X, _, model = iris()
    session = classifier(model, zipped=False, named="boxes")
    serve(SessionModel(session, probabilities="boxes")).predict(X[0]).unwrap()
    assert confidences(monitor) == pytest.approx([model.predict_proba(X[:1]).max()], abs=1e-5)
    found = serve(SessionModel(session, value="boxes")).predict(X[0]).unwrap()
    assert found == pytest.approx(model.predict_proba(X[:1])[0], abs=1e-5)


@pytest.mark.parametrize("parameter", ["value", "probabilities"])
def test_an_output_that_is_not_there_is_refused(parameter: str) -> None:
    """``SessionModel`` names the outputs that there are."""
    with pytest.raises(InvalidArgumentError, match="y") as caught:
        SessionModel(cast(FLOAT), **{parameter: "z"})
    assert caught.value.parameter == parameter


def test_an_output_that_goes_missing_is_refused_at_load(serve: Serve) -> None:
    """An object with a session and a name that is no output is UnsupportedModel."""

    class Holder:
        inference_session = cast(FLOAT)
        value = "z"

    error = serve(Holder()).predict([1.0, 2.0]).error
    assert (error.kind, "'z'; it has y" in error.message) == (ErrorKind.UnsupportedModel, True)


# ---------------------------------------------------------------------------------------------------------- inputs


@pytest.mark.parametrize(
    "input",
    [
        {"age": 30, "rooms": 2, "place": [0.5, 0.25]},
        {"place": (0.5, 0.25), "rooms": np.int8(2), "age": [30.0], "more": "ignored"},
        {"age": np.array([30.0], np.float32), "rooms": 2.0, "place": np.array([0.5, 0.25])},
        pandas.Series({"age": 30, "rooms": 2, "place": [0.5, 0.25]}),
    ],
    ids=["numbers", "columns", "arrays", "series"],
)
def test_several_inputs_are_given_by_name(input: Any, serve: Serve) -> None:
    """Each input takes its own value of a mapping or a series, cast to what it declares."""
    assert serve(sum_of_columns()).predict(input).unwrap() == 32.75


def test_records_are_checked_before_the_session(serve: Serve) -> None:
    """With a schema of records, values still reach their inputs by name."""
    nodes = [helper.make_node("Sub", ["a", "b"], ["y"])]
    session = graph(nodes, [(name, FLOAT, ["n", 1]) for name in "ab"], [("y", FLOAT, ["n", 1])])
    records = [{"a": 5.0, "b": 1.0}, {"a": 7.5, "b": 2.0}]
    server = serve(session, schema=RecordSchema.infer(records), example=records[0])
    assert server.predict({"b": 1.0, "a": 4.0}).unwrap() == 3.0
    assert values(server.predict_many(pandas.DataFrame(records))) == [4.0, 5.5]
    assert server.predict({"a": 4.0}).error.kind is ErrorKind.InvalidInput


def test_many_records_are_one_batch(serve: Serve) -> None:
    """Records and the rows of a frame are answered together."""
    records = [{"age": age, "rooms": 1, "place": [0.0, 0.5]} for age in range(5)]
    server = serve(sum_of_columns())
    assert values(server.predict_many(records)) == values(server.predict_many(pandas.DataFrame(records)))
    assert values(server.predict_many(records)) == [1.5, 2.5, 3.5, 4.5, 5.5]


@pytest.mark.parametrize(
    ("input", "field"),
    [
        ([30.0, 2, 0.5, 0.25], None),
        (np.zeros(4), None),
        (pandas.DataFrame({"age": [1.0]}), None),
        ({"age": 30.0, "rooms": 2}, "place"),
        ({}, "age"),
    ],
    ids=["list", "array", "frame", "one missing", "empty"],
)
def test_several_inputs_must_all_be_named(input: Any, field: str | None, serve: Serve) -> None:
    """What does not name every input is InvalidInput, and the message lists their names."""
    error = serve(sum_of_columns()).predict(input).error
    assert (error.kind, error.field) == (ErrorKind.InvalidInput, field)
    assert "age, rooms, place" in error.message


def test_an_array_of_rows_cannot_feed_several_inputs(serve: Serve) -> None:
    """Rows without names are refused one by one."""
    results = serve(sum_of_columns()).predict_many(np.zeros((2, 4)))
    assert [result.error.kind for result in results] == [ErrorKind.InvalidInput] * 2


@pytest.mark.parametrize(
    ("declared", "given"),
    [
        (FLOAT, [1.0, 2.0]),
        (DOUBLE, [1, 2]),
        (INT64, [1.0, 2.0]),
        (INT64, np.array([1, 2], np.uint8)),
        (TensorProto.INT32, [1, 2]),
        (TensorProto.INT8, [1, 2]),
        (TensorProto.UINT8, [1, 2.0]),
        (TensorProto.FLOAT16, [1, 2]),
        (FLOAT, np.array([1.0, 2.0], dtype=object)),
        (FLOAT, np.array([1.0, 2.0], dtype=np.float32)),
    ],
    ids=str,
)
def test_an_input_is_cast_to_the_declared_type(declared: int, given: Any, serve: Serve) -> None:
    """Numbers of any type reach a graph of any other, where they keep their value."""
    server = serve(cast(declared))
    assert server.predict(given).unwrap().tolist() == [1.0, 2.0]
    assert [found.tolist() for found in values(server.predict_many([given, given]))] == [[1.0, 2.0]] * 2


def test_booleans_reach_a_graph_of_booleans(serve: Serve) -> None:
    """0 and 1 are booleans where the graph asks for them."""
    assert serve(cast(TensorProto.BOOL, INT64)).predict([0, 1]).unwrap().tolist() == [0, 1]


def test_text_reaches_a_graph_of_text(serve: Serve) -> None:
    """Text is given as text, from lists as from arrays."""
    server = serve(cast(TEXT, FLOAT))
    assert server.predict(["1.5", "2"]).unwrap().tolist() == [1.5, 2.0]
    assert [row.tolist() for row in values(server.predict_many(np.array([["1", "2"], ["3", "4"]])))] == [
        [1.0, 2.0],
        [3.0, 4.0],
    ]


@pytest.mark.parametrize(
    ("declared", "given"),
    [
        (INT64, [1.5, 2.0]),
        (INT64, [float("nan"), 2.0]),
        (TensorProto.UINT8, [300, 1]),
        (TensorProto.UINT8, [-1, 1]),
        (TensorProto.BOOL, [2, 1]),
        (FLOAT, [1e300, 1.0]),
        (FLOAT, ["1.0", "2.0"]),
        (FLOAT, ["a", 2.0]),
        (FLOAT, [[1.0], [2.0, 3.0]]),
        (FLOAT, np.array(["2020-01-01", "2020-01-02"], "datetime64[D]")),
        (FLOAT, [object(), 1.0]),
        (TEXT, [1, 2]),
        (TEXT, ["a", None]),
    ],
    ids=lambda value: str(value).split(" at 0x")[0],
)
def test_a_value_that_a_cast_would_change_is_refused(declared: int, given: Any, serve: Serve) -> None:
    """Nothing is rounded, wrapped, overflown or read out of text in silence: it is InvalidInput, by name."""
    error = serve(cast(declared)).predict(given).error
    assert (error.kind, error.field) == (ErrorKind.InvalidInput, "x")


def test_infinity_may_be_given(serve: Serve) -> None:
    """A value that was infinite before the cast is no overflow."""
    assert serve(cast(FLOAT)).predict([float("inf"), 1e30]).unwrap().tolist() == pytest.approx([np.inf, 1e30])


@pytest.mark.parametrize("given", [[1.0], [1.0, 2.0, 3.0], 1.0, [[1.0, 2.0]]], ids=str)
def test_a_row_of_another_shape_is_refused(given: Any, serve: Serve) -> None:
    """The message says the shape that a row must have."""
    error = serve(cast(FLOAT)).predict(given).error
    assert (error.kind, "expected (2,) for one row" in error.message) == (ErrorKind.InvalidInput, True)


def test_a_row_may_be_of_any_length_where_the_graph_says_so(serve: Serve) -> None:
    """A dimension without a number takes any length, but one batch has one length."""
    server = serve(cast(FLOAT, shape=("n", "m")))
    assert server.predict([1.0, 2.0, 3.0]).unwrap().tolist() == [1.0, 2.0, 3.0]
    results = server.predict_many([[1.0, 4.0], [2.0, 3.0, 5.0]])
    assert [result.unwrap().tolist() for result in results] == [[1.0, 4.0], [2.0, 3.0, 5.0]]
    message = server.predict([[1.0]]).error.message
    assert "expected (any,) for one row" in message


def test_a_graph_of_a_number_a_row_takes_numbers(serve: Serve) -> None:
    """An input with one dimension takes a number, or an array of one, for a row."""
    server = serve(cast(FLOAT, shape=("n",)))
    assert [server.predict(given).unwrap() for given in (1.5, [1.5], np.array(1.5))] == [1.5] * 3


def test_a_graph_that_declares_no_shape_is_given_what_comes(serve: Serve) -> None:
    """Without a declared shape nothing is known to be wrong."""
    server = serve(cast(FLOAT, shape=None))
    assert server.predict([1.0, 2.0]).unwrap().tolist() == [1.0, 2.0]
    assert [row.tolist() for row in values(server.predict_many(np.ones((2, 3))))] == [[1.0] * 3] * 2


def test_a_row_at_fault_fails_alone(serve: Serve) -> None:
    """A graph has no memory, so that a batch is taken apart until the row at fault is found."""
    results = serve(cast(FLOAT)).predict_many([[1.0, 2.0], [1.0], [3.0, 4.0]])
    assert [result.success for result in results] == [True, False, True]


@pytest.mark.parametrize("table", [np.ones((2, 3)), np.ones((2, 2, 2))], ids=lambda table: str(table.shape))
def test_a_table_of_another_shape_is_refused_row_by_row(table: Any, serve: Serve) -> None:
    """Each row of it fails, with a message about rows."""
    results = serve(cast(FLOAT)).predict_many(table)
    assert ["for one row" in result.error.message for result in results] == [True, True]


def test_frames_are_read_by_position(serve: Serve) -> None:
    """The columns of a frame feed a table in their order: a graph of one table knows no names."""
    frame = pandas.DataFrame({"a": [1.0, 3.0], "b": [2.0, 4.0]})
    server = serve(cast(FLOAT))
    assert [row.tolist() for row in values(server.predict_many(frame))] == [[1.0, 2.0], [3.0, 4.0]]
    numbered = frame.rename(columns={"a": 1, "b": 0})
    assert [row.tolist() for row in values(server.predict_many(numbered))] == [[1.0, 2.0], [3.0, 4.0]]
    assert server.predict(frame[:1]).unwrap().tolist() == [1.0, 2.0]
    assert server.predict(frame).error.kind is ErrorKind.InvalidInput


def test_a_table_may_be_named(serve: Serve) -> None:
    """A graph of one input takes a mapping from its name, too; features by other names are refused."""
    server = serve(cast(FLOAT))
    assert server.predict({"x": [1.0, 2.0]}).unwrap().tolist() == [1.0, 2.0]
    assert server.predict({"a": 1.0, "b": 2.0}).error.field == "x"


def test_a_schema_checks_before_the_session(serve: Serve) -> None:
    """Inputs are validated like any other model's."""
    X, _, model = iris()
    server = serve(classifier(model, zipped=True), schema=ArraySchema.infer(X), example=X[0])
    assert server.predict(X[0]).unwrap() == 0
    assert server.predict([1.0]).error.kind is ErrorKind.InvalidInput


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: cast(TensorProto.BFLOAT16, FLOAT), "tensor(bfloat16)"),
        (
            lambda: graph(
                [helper.make_node("Concat", ["a", "b"], ["y"], axis=0)],
                [("a", FLOAT, [2, 1]), ("b", FLOAT, [3, 1])],
                [("y", FLOAT, [5, 1])],
            ),
            "2 and 3 rows",
        ),
    ],
    ids=["type", "rows"],
)
def test_a_graph_that_takes_no_rows_is_refused_by_name(make: Any, says: str, serve: Serve) -> None:
    """What cannot be fed row by row is UnsupportedModel, with ``predictor=`` as the way out."""
    error = serve(make()).predict([1.0]).error
    assert (error.kind, says in error.message, "predictor=" in error.message) == (
        ErrorKind.UnsupportedModel, True, True,
    )  # fmt: skip


def test_an_answer_that_is_not_one_a_row_fails(serve: Serve) -> None:
    """A graph that answers the whole table with one number does not answer rows."""
    total = graph(
        [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)], [("x", FLOAT, ["n", 2])], [("y", FLOAT, [])]
    )
    assert serve(total).predict([1.0, 2.0]).error.kind is ErrorKind.PredictionException


# ------------------------------------------------------------------------------------------------- where it comes from


def test_a_graph_from_disk_has_its_confidence(tmp_path: Path, monitor: InMemoryModelMonitor) -> None:
    """What the directory repository gives is served through the same door as a session."""
    case = EXPECTED["logreg_iris"]
    repository: Any = DirectoryModelRepository(tmp_path / "models")
    repository.register(OnnxModel((DATA / "logreg_iris.onnx").read_bytes()), example=case["x"][0])
    with ModelServer(repository, monitor) as server:
        assert values(server.predict_many(case["x"])) == case["y"][0]
    assert confidences(monitor) == pytest.approx([max(row.values()) for row in case["y"][1]], rel=1e-6)


def test_a_subclass_of_a_session_is_a_session(serve: Serve) -> None:
    """A user's own subclass goes through the same door."""
    import onnxruntime

    class Mine(onnxruntime.InferenceSession):
        pass

    session = Mine(DATA / "sigmoid.onnx", providers=["CPUExecutionProvider"])
    assert serve(session).predict(np.zeros((4, 5))).unwrap().tolist() == [[0.5] * 5] * 4


def test_a_session_computes_on_as_many_threads_as_it_is_told() -> None:
    """One thread unless more are asked for."""
    data = (DATA / "sigmoid.onnx").read_bytes()
    found = [
        session.get_session_options().intra_op_num_threads
        for session in (open_session(data), open_session(data, threads=2))
    ]
    assert found == [1, 2]


def test_a_session_needs_a_thread() -> None:
    """No threads, which ONNX Runtime would take for all of them, is refused."""
    with pytest.raises(InvalidArgumentError, match="threads"):
        open_session(b"", threads=0)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ONNX Runtime the error says which extra installs it."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"mlserve\[onnx\]"):
        open_session(b"")


def test_serving_imports_no_runtime() -> None:
    """A server of another model, and this door's own module, leave ONNX Runtime alone."""
    code = (
        "import sys, mlserve.integrations.onnx\n"
        "from mlserve import InMemoryModelMonitor, InMemoryModelRepository, ModelServer\n"
        "repository = InMemoryModelRepository()\n"
        "repository.register(sum)\n"
        "assert ModelServer(repository, InMemoryModelMonitor()).predict([1, 2]).unwrap() == 3\n"
        "print({'onnxruntime', 'onnx', 'river', 'catboost', 'lightgbm', 'asyncio'} & set(sys.modules))\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "set()"
