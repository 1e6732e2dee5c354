"""Doors: scikit-learn's further shapes, gradient boosting, river, coroutine clients; each without a warning."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas
import polars
import pytest
from scipy import sparse
from serving_doubles import PATIENCE, InThread, until
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from mlserve import BatchPredictor, ErrorKind, InMemoryModelMonitor, ModelServer
from mlserve.serving import Batching, Limits, SingleRow
from mlserve.serving._dispatch import adapt

Build = Callable[..., ModelServer]
Rows = npt.NDArray[np.float64]

NAMES = ["sepal length", "sepal width", "petal length", "petal width"]
SPECIES = np.array(["setosa", "versicolor", "virginica"])


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    with threadpool_limits(1):
        yield


def iris() -> tuple[Rows, npt.NDArray[Any], pandas.DataFrame]:
    X, y = load_iris(return_X_y=True)
    return X, SPECIES[y], pandas.DataFrame(X, columns=NAMES)


def values(results: Any) -> list[Any]:
    return [result.unwrap() for result in results]


def listed(answers: Any) -> list[Any]:
    return [np.asarray(answer).tolist() for answer in answers]


def confidences(monitor: InMemoryModelMonitor) -> list[float | None]:
    return [event.confidence for event in monitor.events().events]


def forms_of_many(frame: pandas.DataFrame, names: bool) -> dict[str, Any]:
    """The same rows as every kind of thing that holds many."""
    forms = {
        "array": frame.to_numpy(),
        "lists": frame.to_numpy().tolist(),
        "arrays": list(frame.to_numpy()),
        "frame": frame,
    }
    if names:
        forms |= {
            "dicts": frame.to_dict("records"),
            "series": [row for _, row in frame.iterrows()],
            "frames": [frame.iloc[[row]] for row in range(len(frame))],
            "reordered frame": frame[frame.columns[::-1]],
        }
    return forms


# ------------------------------------------------------------------------------------------------------ scikit-learn


@pytest.mark.parametrize("form", forms_of_many(pandas.DataFrame({"a": [1.0]}), names=True))
def test_many_rows_of_any_form_reach_a_model_fitted_on_a_frame(form: str, serve: Build) -> None:
    """Arrays, lists, dicts, series and frames are one batch to an estimator fitted on a frame, without a warning."""
    _, y, frame = iris()
    model = LogisticRegression(max_iter=1000).fit(frame, y)
    asked = frame[::30]
    assert values(serve(model).predict_many(forms_of_many(asked, names=True)[form])) == model.predict(asked).tolist()


@pytest.mark.parametrize("form", ["array", "lists", "arrays", "frame"])
def test_many_rows_of_any_form_reach_a_model_fitted_on_an_array(form: str, serve: Build) -> None:
    """The names of a frame's columns are left out for an estimator that knows none and would warn of them."""
    X, y, frame = iris()
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    assert values(serve(model).predict_many(forms_of_many(frame[::30], names=False)[form])) == [*model.predict(X[::30])]


def test_one_row_of_a_frame_reaches_a_model_fitted_on_an_array(serve: Build) -> None:
    """A frame of one row is read by position, without a warning."""
    X, y, frame = iris()
    model = KNeighborsClassifier().fit(X, y)
    assert serve(model).predict(frame[60:61]).unwrap() == model.predict(X[60:61])[0]


@pytest.mark.parametrize("many", [False, True])
def test_the_columns_of_a_frame_are_found_by_name(many: bool, serve: Build) -> None:
    """Columns in another order, and more of them, reach the features by name, also of models that do not look."""

    class ByPosition:
        feature_names_in_ = np.array(["a", "b"])

        def predict(self, X: Any) -> Any:
            return X.to_numpy()[:, 0]

    server, given = serve(ByPosition()), pandas.DataFrame({"more": ["x"] * 2, "b": [2.0, 3.0], "a": [1.0, 5.0]})
    assert (values(server.predict_many(given)) if many else [server.predict(given[:1]).unwrap(), 5.0]) == [1.0, 5.0]


@pytest.mark.parametrize("many", [False, True])
def test_a_frame_without_a_feature_is_refused(many: bool, serve: Build) -> None:
    """A frame that lacks a feature is InvalidInput that names it, like a dictionary."""
    _, y, frame = iris()
    server, given = serve(LogisticRegression(max_iter=1000).fit(frame, y)), frame.drop(columns="petal width")[:2]
    results = server.predict_many(given) if many else [server.predict(given[:1])]
    assert {(result.error.kind, result.error.field) for result in results} == {(ErrorKind.InvalidInput, "petal width")}


def test_a_frame_without_names_stays_a_frame(serve: Build) -> None:
    """Columns that are numbered raise no warning: the frame goes to the estimator as it is."""

    class Seeing(LinearRegression):
        seen: tuple[Any, ...] = ()

        def predict(self, X: Any) -> Any:
            self.seen = (*self.seen, type(X))
            return super().predict(X)

    model = Seeing().fit(pandas.DataFrame([[1.0, 2.0], [3.0, 5.0]]), [1.0, 2.0])
    server = serve(model)
    assert server.predict(pandas.DataFrame([[3.0, 5.0]])).unwrap() == pytest.approx(2.0)
    assert values(server.predict_many(pandas.DataFrame([[3.0, 5.0], [1.0, 2.0]]))) == pytest.approx([2.0, 1.0])
    assert model.seen == (pandas.DataFrame, pandas.DataFrame)


def test_a_model_that_is_no_estimator_is_given_the_frame(serve: Build) -> None:
    """Of an object that only has ``predict`` nothing is known: it may select columns by name."""

    class ByName:
        def predict(self, X: pandas.DataFrame) -> Any:
            return X["b"].to_numpy()

    assert serve(ByName()).predict(pandas.DataFrame({"a": [1.0], "b": [2.0]})).unwrap() == 2.0


def mixed() -> tuple[pandas.DataFrame, list[str], Any]:
    table = pandas.DataFrame({"age": [20.0, 30.0, 60.0, 70.0], "zone": [1, 2, 1, 2], "colour": ["red", "blue"] * 2})
    columns = ColumnTransformer([("age", StandardScaler(), ["age"]), ("rest", OneHotEncoder(), ["zone", "colour"])])
    labels = ["young", "young", "old", "old"]
    return table, labels, make_pipeline(columns, LogisticRegression()).fit(table, labels)


@pytest.mark.parametrize("form", ["frame", "dicts", "series", "frames", "reordered frame", "tuples"])
def test_many_mixed_rows_reach_a_column_transformer(form: str, serve: Build) -> None:
    """Numbers beside text keep their types in every form of a batch."""
    table, labels, model = mixed()
    forms = forms_of_many(table, names=True) | {"tuples": list(table.itertuples(index=False, name=None))}
    assert values(serve(model).predict_many(forms[form])) == labels


def test_a_pipeline_that_gives_frames_inside_is_served(serve: Build) -> None:
    """``set_output(transform="pandas")`` changes nothing for callers."""
    _, y, frame = iris()
    model = make_pipeline(StandardScaler(), LogisticRegression()).set_output(transform="pandas").fit(frame, y)
    server = serve(model)
    assert server.predict(frame.iloc[60].to_dict()).unwrap() == model.predict(frame[60:61])[0]
    assert values(server.predict_many(frame[::50].to_numpy())) == model.predict(frame[::50]).tolist()


def test_many_sparse_rows_are_one_batch(serve: Build) -> None:
    """Sparse rows, as text models have them, are answered together as one by one."""
    X, y, _ = iris()
    model = LogisticRegression(max_iter=1000).fit(sparse.csr_matrix(X), y)
    rows = [sparse.csr_matrix(X[row : row + 1]) for row in range(0, 150, 30)]
    server = serve(model)
    assert (
        values(server.predict_many(rows)) == [server.predict(row).unwrap() for row in rows] == [*model.predict(X[::30])]
    )


def test_a_pipeline_of_texts_takes_texts(serve: Build) -> None:
    """A text is one input, and a list of texts is many."""
    texts = ["good film", "bad film", "good book", "bad book"]
    model = make_pipeline(CountVectorizer(), LogisticRegression()).fit(texts, ["+", "-", "+", "-"])
    server = serve(model)
    assert [server.predict("good").unwrap(), *values(server.predict_many(["bad", "good film"]))] == ["+", "-", "+"]


def test_a_pipeline_of_dicts_takes_dicts(serve: Build) -> None:
    """A pipeline that begins with ``DictVectorizer`` is given the dictionaries themselves."""
    rows = [{"a": 1.0}, {"b": 1.0}, {"a": 2.0}, {"b": 2.0}]
    model = make_pipeline(DictVectorizer(), LogisticRegression()).fit(rows, [0, 1, 0, 1])
    server = serve(model)
    assert [server.predict({"b": 3.0}).unwrap(), *values(server.predict_many(rows[:2]))] == [1, 0, 1]


@pytest.mark.parametrize(
    "model",
    [
        MultiOutputClassifier(KNeighborsClassifier()),
        RandomForestClassifier(5, random_state=0),
        MultiOutputRegressor(LinearRegression()),
        LinearRegression(),
    ],
    ids=lambda model: type(model).__name__,
)
def test_many_rows_of_several_outputs(model: Any, serve: Build) -> None:
    """A model with several outputs answers a row of them for each input."""
    X, y = load_iris(return_X_y=True)
    model.fit(X, np.column_stack([y, y > 0]))
    assert listed(values(serve(model).predict_many(X[::30]))) == listed(model.predict(X[::30]))


def test_a_transformed_target_is_served(serve: Build) -> None:
    """A regressor that transforms its target answers on the original scale."""
    X, y = load_iris(return_X_y=True)
    model = TransformedTargetRegressor(LinearRegression(), func=np.log1p, inverse_func=np.expm1).fit(X, y)
    assert values(serve(model).predict_many(X[::50])) == pytest.approx(model.predict(X[::50]), rel=1e-12)


# ----------------------------------------------------------------------------------------------------------- purity


class Plain:
    def predict(self, X: Any) -> Any:
        return np.zeros(len(X))


class SaysPure(Plain):
    is_pure = True


class ImpureEstimator(BaseEstimator):
    is_pure = False

    def predict(self, X: Any) -> Any:
        return np.zeros(len(X))


class PureCallable:
    is_pure = True

    def __call__(self, input: Any) -> Any:
        return input


@pytest.mark.parametrize(
    ("model", "is_pure"),
    [
        (LinearRegression(), True),
        (make_pipeline(StandardScaler(), LogisticRegression()), True),
        (ImpureEstimator(), False),
        (Plain(), False),
        (SaysPure(), True),
        (sum, False),
        (PureCallable(), True),
        (SingleRow(Plain()), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_taken_for_pure(model: Any, is_pure: bool) -> None:
    """An estimator of scikit-learn's kind is pure; anything else when it says so, and its word goes before its kind."""
    assert adapt(model, None, None).is_pure is is_pure


# ------------------------------------------------------------------------------------------------ gradient boosting


def lightgbm_models() -> tuple[Any, Any]:
    lightgbm = pytest.importorskip("lightgbm", reason="LightGBM is not installed")
    few = {"n_estimators": 5, "n_jobs": 1, "verbose": -1}
    return lightgbm.LGBMClassifier(**few), lightgbm.LGBMRegressor(**few)


def xgboost_models() -> tuple[Any, Any]:
    xgboost = pytest.importorskip("xgboost", reason="XGBoost is not installed")
    few = {"n_estimators": 5, "n_jobs": 1}
    return xgboost.XGBClassifier(**few), xgboost.XGBRegressor(**few)


def catboost_models() -> tuple[Any, Any]:
    catboost = pytest.importorskip("catboost", reason="CatBoost is not installed: its wheel has nearly 100 MB")
    few = {"iterations": 5, "thread_count": 1, "verbose": 0, "allow_writing_files": False}
    return catboost.CatBoostClassifier(**few), catboost.CatBoostRegressor(**few)


BOOSTING = {"LightGBM": lightgbm_models, "XGBoost": xgboost_models, "CatBoost": catboost_models}


@pytest.mark.parametrize("name", BOOSTING)
@pytest.mark.parametrize("classes", [2, 3])
def test_a_boosted_classifier_answers_its_labels_with_confidence(
    name: str, classes: int, serve: Build, monitor: InMemoryModelMonitor
) -> None:
    """Labels are scalars of ``predict``, confidences the largest of ``predict_proba``, alone as together."""
    X, y = load_iris(return_X_y=True)
    X, y = X[y < classes], y[y < classes]
    model = BOOSTING[name]()[0].fit(X, y)
    server, asked = serve(model, server={"monitor": monitor}), X[::20]
    found = [server.predict(row).unwrap() for row in asked] + values(server.predict_many(asked))
    assert found == [*np.ravel(model.predict(asked)).tolist()] * 2
    assert {np.ndim(label) for label in found} == {0}
    assert confidences(monitor) == pytest.approx([*model.predict_proba(asked).max(axis=1)] * 2, rel=1e-6)


@pytest.mark.parametrize("name", BOOSTING)
@pytest.mark.parametrize("form", ["array", "list", "dict", "reordered dict", "series", "frame"])
def test_a_boosted_model_fitted_on_a_frame_takes_rows_of_any_form(name: str, form: str, serve: Build) -> None:
    """Rows reach the features by name, without a warning."""
    X, y = load_iris(return_X_y=True)
    frame = pandas.DataFrame(X, columns=["a", "b", "c", "d"])
    model = BOOSTING[name]()[1].fit(frame, y)
    row = frame.iloc[70]
    input = {
        "array": row.to_numpy(),
        "list": row.tolist(),
        "dict": row.to_dict(),
        "reordered dict": dict(reversed(row.to_dict().items())),
        "series": row[::-1],
        "frame": frame[70:71],
    }[form]
    assert serve(model).predict(input).unwrap() == pytest.approx(model.predict(frame[70:71])[0], rel=1e-6)


@pytest.mark.parametrize("name", BOOSTING)
@pytest.mark.parametrize("fitted_on", ["array", "frame"])
def test_many_rows_reach_a_boosted_model(name: str, fitted_on: str, serve: Build) -> None:
    """Arrays, lists and frames are one batch to a model fitted on either, without a warning."""
    X, y = load_iris(return_X_y=True)
    frame = pandas.DataFrame(X, columns=["a", "b", "c", "d"])
    model = BOOSTING[name]()[1].fit(X if fitted_on == "array" else frame, y)
    server = serve(model)
    for given in forms_of_many(frame[::30], names=fitted_on == "frame").values():
        assert values(server.predict_many(given)) == pytest.approx([*model.predict(frame[::30])], rel=1e-6)


class LightGBMLike:
    """A double of a LightGBM model, which is told by its module, and replaces spaces in the names of its features."""

    feature_names_in_ = np.array(["a_1", "b_2"])

    def predict(self, X: Any) -> Any:
        return X.to_numpy()[:, 0]


LightGBMLike.__module__ = "lightgbm.sklearn"


@pytest.mark.parametrize(
    "input",
    [
        [1.0, 2.0],
        np.array([1.0, 2.0]),
        {"b 2": 2.0, "a 1": 1.0},
        {"b_2": 2.0, "a_1": 1.0},
        pandas.Series({"b 2": 2.0, "a 1": 1.0}),
        pandas.DataFrame({"b 2": [2.0], "a 1": [1.0]}),
        pandas.DataFrame([[1.0, 2.0]]),
        polars.DataFrame({"b 2": [2.0], "a 1": [1.0]}),
    ],
    ids=["list", "array", "dict", "spelt dict", "series", "frame", "frame without names", "polars"],
)
def test_names_with_spaces_are_found(input: Any, serve: Build) -> None:
    """Features called by names with spaces, which LightGBM replaces, are found by the names they were fitted with."""
    assert serve(LightGBMLike()).predict(input).unwrap() == 1.0


@pytest.mark.parametrize("name", ["LightGBM", "XGBoost", "CatBoost"])
def test_a_boosted_model_knows_names_with_spaces(name: str, serve: Build) -> None:
    """The real libraries: a frame, its columns turned round, and its records give the same answers."""
    _, _, frame = iris()
    target = load_iris(return_X_y=True)[1]
    model = BOOSTING[name]()[1].fit(frame, target)
    server, asked = serve(model), frame[::30]
    expected = pytest.approx([*model.predict(asked)], rel=1e-6)
    for given in (asked, asked[asked.columns[::-1]], asked.to_dict("records"), [row for _, row in asked.iterrows()]):
        assert values(server.predict_many(given)) == expected


class CatBoostLike:
    """A double of a CatBoost model, which is told by its module: labels in a column, names under a name of its own."""

    classes_ = np.array([0, 1])

    def __init__(self, names: list[str] | None) -> None:
        if names is not None:
            self.feature_names_ = names
        self.seen: list[Any] = []

    def predict(self, X: Any) -> Any:
        self.seen.append(X)
        return np.ones((len(X), 1), np.int64)

    def predict_proba(self, X: Any) -> Any:
        return np.full((len(X), 2), 0.5)


CatBoostLike.__module__ = "catboost.core"


@pytest.mark.parametrize("names", [["a", "b"], ["0", "1"], None], ids=str)
def test_labels_in_a_column_are_made_flat(names: Any, serve: Build) -> None:
    """A CatBoost classifier's label is one label, and names that are numbers are no names."""
    model = CatBoostLike(names)
    server = serve(model)
    assert [server.predict([1.0, 2.0]).unwrap(), *values(server.predict_many([[1.0, 2.0]] * 2))] == [1, 1, 1]
    assert {isinstance(X, pandas.DataFrame) for X in model.seen} == {names == ["a", "b"]}


# ------------------------------------------------------------------------------------------------------------ river


class OneAtATime:
    """What river's models have, by hand."""

    def __init__(self, answer: Any, probabilities: Any) -> None:
        self.answer = answer
        self.probabilities = probabilities
        self.asked: list[Any] = []

    def learn_one(self, x: Any, y: Any) -> None:
        raise AssertionError("a server does not teach")

    def predict_one(self, x: Any) -> Any:
        self.asked.append(x)
        return self.answer

    def predict_proba_one(self, x: Any) -> Any:
        if isinstance(self.probabilities, Exception):
            raise self.probabilities
        return self.probabilities


class RegressorOfOne:
    def predict_one(self, x: Any) -> float:
        return sum(x.values()) * 2.0


def test_predict_one_is_given_the_input_as_it_came(serve: Build) -> None:
    """The very mapping goes to ``predict_one``, and ``learn_one`` is not called."""
    model, x = OneAtATime("yes", {"yes": 0.75, "no": 0.25}), {"a": 1.0}
    assert serve(model).predict(x).unwrap() == "yes"
    assert (len(model.asked), model.asked[0] is x) == (1, True)


def test_the_confidence_of_one_is_its_largest_probability(serve: Build, monitor: InMemoryModelMonitor) -> None:
    """``predict_proba_one`` tells how sure the model is."""
    serve(OneAtATime("yes", {"yes": 0.75, "no": 0.25}), server={"monitor": monitor}).predict({"a": 1.0})
    assert confidences(monitor) == [0.75]


@pytest.mark.parametrize("without", [NotImplementedError(), AttributeError(), {}])
def test_a_model_of_one_without_probabilities_has_no_confidence(
    without: Any, serve: Build, monitor: InMemoryModelMonitor
) -> None:
    """A classifier that knows no probabilities, and a pipeline of a regressor, answer without confidence."""
    assert serve(OneAtATime(1.5, without), server={"monitor": monitor}).predict({"a": 1.0}).unwrap() == 1.5
    assert confidences(monitor) == [None]


def test_a_model_of_one_registered_for_regression_is_not_asked_for_probabilities(serve: Build) -> None:
    """The registered task goes before what the methods suggest."""
    model = OneAtATime(1.5, AssertionError("asked"))
    assert serve(model, task="regression").predict({"a": 1.0}).unwrap() == 1.5


def test_what_its_probabilities_raise_fails_the_prediction(serve: Build) -> None:
    """Any other exception of ``predict_proba_one`` is the model's failure."""
    error = serve(OneAtATime(1, ZeroDivisionError())).predict({"a": 1.0}).error
    assert error.kind is ErrorKind.PredictionException


@pytest.mark.parametrize("probabilities", [{}, {"yes": 1.0}], ids=str)
def test_a_model_that_learned_nothing_is_a_clear_error(probabilities: Any, serve: Build) -> None:
    """None, which an untrained model answers, is a failed prediction that says so."""
    error = serve(OneAtATime(None, probabilities)).predict({"a": 1.0}).error
    assert (error.kind, "learn_one" in error.message) == (ErrorKind.PredictionException, True)


def test_many_are_asked_one_at_a_time(serve: Build) -> None:
    """Records and the rows of a frame go to ``predict_one`` in order; one at fault fails alone."""
    server, frame = serve(RegressorOfOne()), pandas.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    assert values(server.predict_many(frame)) == [8.0, 12.0]
    results = server.predict_many([{"a": 1.0}, {"a": "x"}, {"a": 3.0}])
    assert [result.value for result in results] == [2.0, None, 6.0]


@pytest.mark.parametrize(
    ("task", "kind"), [(None, "online model"), ("classification", "classifier"), ("regression", "regressor")]
)
def test_health_says_that_a_model_answers_one(task: Any, kind: str, serve: Build) -> None:
    """The registered task is shown; without one, that it is a model of one input at a time."""
    checks = {check.name: check.detail for check in serve(RegressorOfOne(), task=task).check_health().checks}
    assert checks["model"].endswith(f" {kind}")


def test_a_trained_river_classifier_is_served(serve: Build, monitor: InMemoryModelMonitor) -> None:
    """A pipeline of river answers with its label and the probability of it."""
    compose = pytest.importorskip("river.compose", reason="river is not installed")
    from river import linear_model, preprocessing

    model = compose.Pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression())
    rows = [{"a": float(a), "b": float(a % 3)} for a in range(20)]
    for row in rows:
        model.learn_one(row, row["a"] > 9)
    server = serve(model, server={"monitor": monitor})
    assert values(server.predict_many(rows)) == [model.predict_one(row) for row in rows]
    assert confidences(monitor) == [max(model.predict_proba_one(row).values()) for row in rows]


def test_a_trained_river_regressor_is_served(serve: Build, monitor: InMemoryModelMonitor) -> None:
    """A pipeline that ends in a regressor has no confidence, though every pipeline has the method."""
    compose = pytest.importorskip("river.compose", reason="river is not installed")
    from river import linear_model, preprocessing

    model = compose.Pipeline(preprocessing.StandardScaler(), linear_model.LinearRegression())
    for a in range(20):
        model.learn_one({"a": float(a)}, a * 2.0)
    before = dict(model["LinearRegression"].weights)
    assert serve(model, server={"monitor": monitor}).predict({"a": 3.0}).unwrap() == model.predict_one({"a": 3.0})
    assert (confidences(monitor), dict(model["LinearRegression"].weights)) == ([None], before)


def test_an_untrained_river_tree_is_a_clear_error(serve: Build) -> None:
    """A tree of river that is untrained answers None, which is said."""
    tree = pytest.importorskip("river.tree", reason="river is not installed")
    assert "learn_one" in serve(tree.HoeffdingTreeClassifier()).predict({"a": 1.0}).error.message


# ------------------------------------------------------------------------------------------------ coroutine clients


class Meeting:
    """A coroutine model whose calls go on only when so many of them are inside together."""

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.inside = 0
        self.most = 0
        self.loops: set[Any] = set()

    async def __call__(self, input: Any) -> Any:
        self.loops.add(asyncio.get_running_loop())
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            async with asyncio.timeout(PATIENCE):
                while self.most < self.expected:
                    await asyncio.sleep(0)
            await asyncio.sleep(0)
            return input * 2
        finally:
            self.inside -= 1


class RemoteRows:
    """A client whose remote model takes a table."""

    def __init__(self) -> None:
        self.tables: list[Any] = []

    async def predict(self, X: Rows) -> Rows:
        self.tables.append(X)
        await asyncio.sleep(0)
        if (X < 0).any():
            raise ValueError("negative")
        return X.sum(axis=1)


class PureRemoteRows(RemoteRows):
    is_pure = True


class RemoteBatches(BatchPredictor[Any, Any]):
    """A client whose remote model takes a list of whatever."""

    def __init__(self) -> None:
        self.batches: list[Any] = []

    async def predict_batch(self, inputs: Any) -> Any:  # type: ignore[override]  # a coroutine on purpose
        self.batches.append(list(inputs))
        await asyncio.sleep(0)
        return [input.upper() for input in inputs]


def run(make: Callable[[], Coroutine[Any, Any, Any]], loop_factory: Any = None) -> Any:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(make())


def test_many_calls_of_a_coroutine_are_under_way_together(serve: Build) -> None:
    """``predict_many`` of a coroutine function does not await one input after the other."""
    model = Meeting(8)
    assert values(serve(model).predict_many(list(range(8)))) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert model.most == 8


def test_awaited_many_run_on_the_loop_of_the_caller(serve: Build) -> None:
    """``apredict_many`` runs coroutines where its caller is, as clients that belong to a loop need it."""
    model = Meeting(5)
    server = serve(model)

    async def ask() -> tuple[list[Any], Any]:
        return values(await server.apredict_many([1, 2, 3, 4, 5])), asyncio.get_running_loop()

    found, loop = run(ask)
    assert (found, model.loops) == ([2, 4, 6, 8, 10], {loop})


def test_awaited_many_of_one_run_on_the_loop_of_the_caller(serve: Build) -> None:
    """One input among many is no exception."""
    model = Meeting(1)
    server = serve(model)

    async def ask() -> tuple[list[Any], Any]:
        return values(await server.apredict_many([1])), asyncio.get_running_loop()

    found, loop = run(ask)
    assert (found, model.loops) == ([2], {loop})


def test_no_more_than_a_hundred_are_under_way_together(serve: Build) -> None:
    """A client of a remote model is not flooded by a long list."""
    model = Meeting(100)
    assert values(serve(model).predict_many(list(range(250)))) == [2 * number for number in range(250)]
    assert model.most == 100


@pytest.mark.parametrize("concurrency", [1, 3])
def test_concurrency_holds_for_coroutines(concurrency: int, serve: Build) -> None:
    """``concurrency=`` is kept among the inputs of one ``predict_many``."""
    model = Meeting(concurrency)
    server = serve(model, server={"concurrency": concurrency})
    assert values(server.predict_many(list(range(10)))) == [2 * number for number in range(10)]
    assert model.most == concurrency


def test_a_coroutine_at_fault_fails_alone(serve: Build) -> None:
    """What one call raises is its own input's failure, whatever it raises or cancels."""

    async def model(input: Any) -> Any:
        await asyncio.sleep(0)
        if isinstance(input, type):
            raise input
        return input

    results = serve(model).predict_many([1, ValueError, asyncio.CancelledError, 2, TimeoutError])
    kinds = [None if result.success else result.error.kind for result in results]
    assert kinds == [None, *[ErrorKind.PredictionException] * 2, None, ErrorKind.PredictionException]


@pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt])
def test_a_coroutine_that_would_end_its_loop_ends_one_call_of_many(raised: Any, serve: Build) -> None:
    """SystemExit from one of many reaches the caller, all of them count as cancelled, and the loop goes on."""

    async def model(input: Any) -> Any:
        if input == "exit":
            raise raised
        return input

    server = serve(model)
    with pytest.raises(raised):
        InThread(server.predict_many, ["a", "exit"]).result()
    assert values(InThread(server.predict_many, ["b", "c"]).result()) == ["b", "c"]
    found = server.statistics()
    assert (found.accepted, found.answered, found.cancelled, found.in_flight) == (4, 2, 2, 0)


def test_a_remote_table_is_one_call(serve: Build) -> None:
    """A coroutine ``predict`` of rows is given all rows by one call."""
    model = RemoteRows()
    server = serve(model)
    assert values(server.predict_many([[1.0, 2.0], [3.0, 4.0]])) == [3.0, 7.0]
    assert [table.shape for table in model.tables] == [(2, 2)]


@pytest.mark.parametrize("make", [lambda: pandas.DataFrame({"a": [1.0, 3.0], "b": [2.0, 4.0]}), lambda: np.eye(2)])
def test_a_remote_table_on_the_loop_of_the_caller(make: Any, serve: Build) -> None:
    """Awaited, the same call is made on the caller's loop; arrays come as they are."""
    model = RemoteRows()
    server, given = serve(model), np.asarray(make())

    async def ask() -> list[Any]:
        return values(await server.apredict_many(given))

    assert run(ask) == given.sum(axis=1).tolist()
    assert len(model.tables) == 1


def test_a_pure_remote_table_is_taken_apart(serve: Build) -> None:
    """Where the client says that it is pure, the row at fault fails alone."""
    results = serve(PureRemoteRows()).predict_many([[1.0], [-1.0], [3.0], [4.0]])
    assert [result.value for result in results] == [1.0, None, 3.0, 4.0]


def test_a_remote_table_that_is_not_known_to_be_pure_fails_as_one(serve: Build) -> None:
    """A call that may have done something is not made again."""
    model = RemoteRows()
    results = serve(model).predict_many([[1.0], [-1.0], [3.0]])
    assert ([result.success for result in results], len(model.tables)) == ([False] * 3, 1)
    assert len({id(result.error) for result in results}) == 3


def test_rows_that_make_no_table_were_never_sent(serve: Build) -> None:
    """Inputs that are not alike are answered one by one: no call was made that could be repeated."""
    model = RemoteRows()
    assert values(serve(model).predict_many([[1.0], [1.0, 2.0]])) == [1.0, 3.0]
    assert [table.shape for table in model.tables] == [(1, 1), (1, 2)]


def test_remote_batches_are_one_call(serve: Build) -> None:
    """A coroutine ``predict_batch`` is awaited: for one input, and once for many."""
    model = RemoteBatches()
    server = serve(model)
    assert [server.predict("a").unwrap(), *values(server.predict_many(["b", "c"]))] == ["A", "B", "C"]
    assert model.batches == [["a"], ["b", "c"]]


def test_an_async_predictor_is_gathered(serve: Build) -> None:
    """``predictor=`` that is a coroutine function is asked for many inputs together."""
    meeting = Meeting(4)

    async def predictor(model: Any, input: Any) -> Any:
        return await meeting(input)

    server = serve(object(), server={"predictor": predictor})
    assert values(server.predict_many([1, 2, 3, 4])) == [2, 4, 6, 8]
    assert meeting.most == 4


def test_batching_leaves_coroutines_alone(serve: Build) -> None:
    """A server that batches awaits a coroutine model as before."""
    server = serve(RemoteRows(), server={"batching": Batching()})

    async def ask() -> list[Any]:
        return [result.unwrap() for result in await asyncio.gather(*(server.apredict([float(n)]) for n in range(5)))]

    assert run(ask) == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert values(server.predict_many([[1.0], [2.0]])) == [1.0, 2.0]


def test_coroutines_see_the_context_of_their_caller(serve: Build) -> None:
    """What a caller has set in its context is there in every coroutine of a ``predict_many``."""
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who")

    async def model(input: Any) -> str:
        return who.get()

    server = serve(model)

    async def ask() -> list[Any]:
        who.set("awaiting")
        return values(await server.apredict_many([1, 2]))

    def plain() -> list[Any]:
        who.set("waiting")
        return values(server.predict_many([1, 2]))

    assert [*run(ask), *contextvars.copy_context().run(plain)] == ["awaiting"] * 2 + ["waiting"] * 2


def test_a_deadline_reaches_every_coroutine(serve: Build) -> None:
    """Coroutines that are not done in time are cancelled, and their requests fail as too late."""
    ended = threading.Semaphore(0)

    async def model(input: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.release()

    results = serve(model).predict_many([1, 2, 3], timeout_ms=500.0)
    assert [result.error.kind for result in results] == [ErrorKind.DeadlineExceeded] * 3
    assert [ended.acquire(timeout=PATIENCE) for _ in range(3)] == [True] * 3


def test_cancelling_many_reaches_every_coroutine(serve: Build) -> None:
    """A cancelled ``apredict_many`` cancels what runs for it, counts as cancelled and gives the model back."""
    begun, ended = threading.Semaphore(0), threading.Semaphore(0)

    async def model(input: Any) -> None:
        begun.release()
        try:
            await asyncio.Event().wait()
        finally:
            ended.release()

    server = serve(model)

    async def ask() -> list[bool]:
        asked = asyncio.create_task(server.apredict_many([1, 2, 3]))
        for _ in range(3):
            assert await asyncio.to_thread(begun.acquire, timeout=PATIENCE)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        return [await asyncio.to_thread(ended.acquire, timeout=PATIENCE) for _ in range(3)]

    assert run(ask) == [True] * 3
    until(lambda: server.statistics().in_flight == 0)
    found = server.statistics()
    assert (found.accepted, found.answered, found.cancelled, found.leases) == (3, 0, 3, {"1": 0})


def test_a_caller_cancelled_before_its_coroutines_begin_starts_none(serve: Build) -> None:
    """What is cancelled while its inputs are still being checked never reaches the model."""
    checking, go_on, called = threading.Event(), threading.Event(), []

    def validator(input: Any) -> None:
        checking.set()
        assert go_on.wait(PATIENCE)

    async def model(input: Any) -> None:
        called.append(input)

    server = serve(model, server={"validator": validator})

    async def ask() -> None:
        asked = asyncio.create_task(server.apredict_many([1, 2]))
        assert await asyncio.to_thread(checking.wait, PATIENCE)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        go_on.set()
        await asyncio.to_thread(until, lambda: server.statistics().in_flight == 0)

    run(ask)
    assert (called, server.statistics().cancelled) == ([], 2)


def test_a_loop_that_is_closed_keeps_no_model(serve: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller whose loop ends without cancelling it is given up, so that its lease ends."""
    monkeypatch.setattr("mlserve.serving._gathering.POLL_SECONDS", 0.001)
    begun = threading.Event()

    async def model(input: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    class Loop(asyncio.SelectorEventLoop):
        looked_at = threading.Event()

        def is_closed(self) -> bool:
            if threading.current_thread().name.startswith("mlserve"):  # asyncio itself asks, too
                self.looked_at.set()
            return super().is_closed()

    server, loop = serve(model), Loop()

    async def ask() -> Any:
        asked = asyncio.ensure_future(server.apredict_many([1, 2]))
        await asyncio.to_thread(begun.wait, PATIENCE)
        await asyncio.to_thread(loop.looked_at.wait, PATIENCE)
        return asked

    asked = loop.run_until_complete(ask())
    pending = asyncio.all_tasks(loop)
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    until(lambda: server.statistics().in_flight == 0)
    assert (server.statistics().cancelled, asked.done()) == (2, False)
    for task in pending:
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # left behind on purpose


def test_a_loop_closed_before_the_coroutines_begin(serve: Build) -> None:
    """A caller whose loop is gone when its coroutines should begin counts as cancelled."""
    checking, go_on = threading.Event(), threading.Event()

    def validator(input: Any) -> None:
        checking.set()
        assert go_on.wait(PATIENCE)

    async def model(input: Any) -> Any:
        return input

    server = serve(model, server={"validator": validator})
    loop = asyncio.new_event_loop()

    async def ask() -> Any:
        asked = asyncio.ensure_future(server.apredict_many([1]))
        await asyncio.to_thread(checking.wait, PATIENCE)
        return asked

    loop.run_until_complete(ask())
    pending = asyncio.all_tasks(loop)
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    go_on.set()
    until(lambda: server.statistics().in_flight == 0)
    assert server.statistics().cancelled == 1
    for task in pending:
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # left behind on purpose


def loops() -> list[Any]:
    return [pytest.param(None, id="asyncio"), pytest.param("uvloop", id="uvloop")]


def factory_of(name: str | None) -> Any:
    if name is None:
        return None
    return pytest.importorskip(name, reason=f"{name} is not installed").new_event_loop


@pytest.mark.parametrize("name", loops())
def test_coroutine_clients_work_on_any_loop(name: str | None, serve: Build) -> None:
    """Single and many inputs of coroutine models are awaited on the caller's loop, whatever made it."""
    model, factory = Meeting(6), factory_of(name)
    server, rows = serve(model), serve(RemoteRows())

    async def ask() -> tuple[Any, ...]:
        together = await asyncio.gather(*(server.apredict(number) for number in range(6)))
        many = await server.apredict_many(list(range(6)))
        tables = await rows.apredict_many(np.eye(3))
        return values(together), values(many), values(tables), type(asyncio.get_running_loop()).__module__

    doubled = [0, 2, 4, 6, 8, 10]
    assert run(ask, factory) == (doubled, doubled, [1.0] * 3, "asyncio.unix_events" if name is None else "uvloop")
    assert len(model.loops) == 1


@pytest.mark.parametrize("name", loops())
def test_plain_models_work_on_any_loop(name: str | None, serve: Build) -> None:
    """Batches, worker threads and deadlines answer callers of any loop."""
    X, y, _ = iris()
    model = LogisticRegression(max_iter=1000).fit(X, y)
    batching = serve(model, server={"batching": Batching()})
    limited = serve(model, server={"concurrency": 1, "limits": Limits(default_timeout_ms=PATIENCE * 1000.0)})

    async def ask() -> list[Any]:
        answers = []
        for server in (batching, limited):
            answers.append(values(await asyncio.gather(*(server.apredict(row) for row in X[::15]))))
            answers.append(values(await server.apredict_many(X[::15])))
        return answers

    assert run(ask, factory_of(name)) == [model.predict(X[::15]).tolist()] * 4


@pytest.mark.parametrize("name", loops())
def test_cancellation_reaches_the_coroutine_on_any_loop(name: str | None, serve: Build) -> None:
    """A single awaited request that is cancelled cancels the model's coroutine."""
    seen = []

    async def model(input: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append(input)
            raise

    server = serve(model)

    async def ask() -> None:
        asked = asyncio.create_task(server.apredict("asked"))
        await asyncio.to_thread(until, lambda: server.statistics().leases.get("1") == 1)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked

    run(ask, factory_of(name))
    assert (seen, server.statistics().cancelled) == (["asked"], 1)


def test_several_loops_share_a_coroutine_model(serve: Build) -> None:
    """Callers on three loops at once are each answered on their own."""
    loops_of: dict[int, set[Any]] = {}

    async def model(input: int) -> int:
        loops_of.setdefault(input // 10, set()).add(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return input

    server = serve(model)

    async def ask(which: int) -> list[Any]:
        return values(await server.apredict_many([which * 10 + number for number in range(10)]))

    asked = [InThread(run, lambda which=which: ask(which)) for which in range(3)]
    assert [one.result() for one in asked] == [[which * 10 + number for number in range(10)] for which in range(3)]
    assert [len(found) for found in loops_of.values()] == [1, 1, 1]
    assert len(set.union(*loops_of.values())) == 3


# ------------------------------------------------------------------------------------------- what falls out by itself


class Tensor:
    """As much of a tensor as a server sees."""

    def __init__(self, numbers: Any) -> None:
        self.numbers = numbers

    def tolist(self) -> Any:
        return self.numbers


def test_a_module_that_returns_tensors_is_a_callable(serve: Build) -> None:
    """What a callable returns is the answer, as it is."""

    class Module:
        def __call__(self, x: Any) -> Tensor:
            return Tensor([2 * number for number in x])

    assert serve(Module()).predict([1.0, 2.0]).unwrap().tolist() == [2.0, 4.0]


def test_a_predict_with_more_parameters_is_called_with_rows_alone(serve: Build) -> None:
    """A ``predict`` that has further parameters with defaults, as Keras models have, answers rows."""

    class Network:
        def predict(self, x: Any, batch_size: int | None = None, verbose: str = "auto") -> Any:
            return x * 2

    server = serve(Network())
    assert server.predict([1.0, 2.0]).unwrap().tolist() == [2.0, 4.0]
    assert listed(values(server.predict_many(np.eye(2)))) == [[2.0, 0.0], [0.0, 2.0]]
