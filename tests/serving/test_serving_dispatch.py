"""Dispatch: how a model of whatever kind is called, and what is refused by name."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas
import pytest
from scipy import sparse
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes, load_digits, load_iris, load_wine
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import BernoulliNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits

from mlserve import ErrorKind, InMemoryModelMonitor, InMemoryModelRepository, ModelServer
from mlserve.errors import UnsupportedModelError
from mlserve.serving import SingleRow

Build = Callable[..., ModelServer]
Floats = npt.NDArray[np.float64]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """A row needs no team of threads, and starting one for each of thousands of rows takes most of the time."""
    with threadpool_limits(1):
        yield


LOADERS = {"iris": load_iris, "wine": load_wine, "digits": load_digits}


@functools.cache
def data(name: str) -> tuple[Floats, npt.NDArray[Any], Floats]:
    """Training rows in [0, 1] and labels, and forty rows to ask about."""
    X, y = LOADERS[name](return_X_y=True)
    X = X / X.max(axis=0).clip(min=1.0)
    order = np.random.default_rng(0).permutation(len(X))
    X, y = X[order], y[order]
    return X[40:], y[40:], X[:40]


CLASSIFIERS: dict[str, Callable[[], Any]] = {
    "LogisticRegression": lambda: LogisticRegression(max_iter=1000),
    "RandomForest": lambda: RandomForestClassifier(20, random_state=0),
    "ExtraTrees": lambda: ExtraTreesClassifier(10, random_state=0),
    "HistGradientBoosting": lambda: HistGradientBoostingClassifier(max_iter=5, random_state=0),
    "RidgeClassifier": RidgeClassifier,
    "SVC": SVC,
    "KNN": KNeighborsClassifier,
    "Pipeline": lambda: make_pipeline(StandardScaler(), LogisticRegression()),
    "Pipeline of KNN": lambda: make_pipeline(StandardScaler(), KNeighborsClassifier()),
    "GridSearchCV": lambda: GridSearchCV(DecisionTreeClassifier(random_state=0), {"max_depth": [2, 3]}, cv=2),
    "DecisionTree": lambda: DecisionTreeClassifier(max_depth=3, random_state=0),
    "GaussianNB": lambda: GaussianNB(var_smoothing=1e-3),
    "BernoulliNB": lambda: BernoulliNB(binarize=0.4),
    "MultinomialNB": MultinomialNB,
}


@functools.cache
def fitted(model: str, dataset: str) -> Any:
    X, y, _ = data(dataset)
    return CLASSIFIERS[model]().fit(X, y)


def recorded_confidences(monitor: InMemoryModelMonitor) -> list[float | None]:
    return [event.confidence for event in monitor.events().events]


# ------------------------------------------------------------------------------------------------------ scikit-learn


@pytest.mark.parametrize("dataset", LOADERS)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_label_is_the_one_predict_gives_for_that_row(name: str, dataset: str, build: Build) -> None:
    """For each row the answer is the very label that ``predict`` gives for a table of that row."""
    model, (_, _, X) = fitted(name, dataset), data(dataset)
    repository = InMemoryModelRepository()
    repository.register(model)
    server = build(repository)
    found = [server.predict(row).unwrap() for row in X]
    expected = [model.predict(X[i : i + 1])[0] for i in range(len(X))]
    assert found == expected
    assert {type(label) for label in found} == {type(label) for label in expected}


@pytest.mark.slow
@pytest.mark.parametrize("dataset", LOADERS)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_row_of_the_data_gets_the_label_of_predict(name: str, dataset: str, build: Build) -> None:
    """The same for every row of the three data sets, training rows included."""
    model = fitted(name, dataset)
    X = np.concatenate([data(dataset)[0], data(dataset)[2]])
    repository = InMemoryModelRepository()
    repository.register(model)
    server = build(repository)
    found = [server.predict(row).unwrap() for row in X]
    assert found == [model.predict(X[i : i + 1])[0] for i in range(len(X))]


@pytest.mark.parametrize("dataset", LOADERS)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_confidence_is_the_largest_probability(name: str, dataset: str, build: Build) -> None:
    """The confidence recorded is the largest of ``predict_proba``; None for a classifier that has none."""
    model, (_, _, X) = fitted(name, dataset), data(dataset)
    repository, monitor = InMemoryModelRepository(), InMemoryModelMonitor()
    repository.register(model)
    server = build(repository, monitor)
    for row in X:
        server.predict(row)
    if hasattr(model, "predict_proba"):
        expected = [float(model.predict_proba(X[i : i + 1]).max()) for i in range(len(X))]
    else:
        expected = [None] * len(X)
    assert recorded_confidences(monitor) == expected


@pytest.mark.parametrize(
    "model", [LinearRegression(), RandomForestRegressor(5, random_state=0), HistGradientBoostingRegressor(max_iter=5)],
    ids=lambda model: type(model).__name__,
)  # fmt: skip
def test_a_regressor_answers_the_number_that_predict_gives(model: Any, build: Build) -> None:
    """For each row the answer is the number that ``predict`` gives for it, without confidence."""
    X, y = load_diabetes(return_X_y=True)
    model.fit(X[50:], y[50:])
    repository, monitor = InMemoryModelRepository(), InMemoryModelMonitor()
    repository.register(model)
    server = build(repository, monitor)
    found = [server.predict(row).unwrap() for row in X[:20]]
    assert found == [model.predict(X[i : i + 1])[0] for i in range(20)]
    assert recorded_confidences(monitor) == [None] * 20


@pytest.mark.parametrize("labels", [["no", "yes"], [False, True], [-1, 1], [1.0, 2.0]], ids=str)
@pytest.mark.parametrize("name", ["LogisticRegression", "DecisionTree", "KNN", "SVC"])
def test_labels_of_every_type_come_through(name: str, labels: list[Any], serve: Build) -> None:
    """Text, booleans, negative and floating labels are answered as they were trained on."""
    X, y, asked = data("iris")
    model = CLASSIFIERS[name]().fit(X, np.array(labels)[(y > 0).astype(int)])
    server = serve(model)
    assert [server.predict(row).unwrap() for row in asked] == model.predict(asked).tolist()


def test_a_tie_goes_where_predict_sends_it(serve: Build) -> None:
    """Where two classes are equally probable, the label is still the one of ``predict``."""
    X = np.array([[-1.0], [1.0]])
    model = LogisticRegression().fit(X, ["a", "b"])
    model.coef_[:] = 0.0
    model.intercept_[:] = 1e-17
    assert model.predict([[0.0]])[0] == serve(model).predict([0.0]).unwrap()


def test_probabilities_that_are_nan_leave_the_label_to_predict(serve: Build) -> None:
    """Where the probabilities overflow to NaN, the label is still the one of ``predict``."""
    X, y, _ = data("iris")
    model = LogisticRegression(max_iter=1000).fit(X[:, :2], y)
    model.coef_ = np.array([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]]) * 1e10
    x = np.array([1e300, 1e300])
    with np.errstate(all="ignore"):
        assert serve(model).predict(x).unwrap() == model.predict(x[np.newaxis])[0]


def test_a_classifier_of_several_outputs_answers_one_row_of_labels(serve: Build) -> None:
    """A model with a label for each of several outputs answers them all; it has no single confidence."""
    X, y, asked = data("iris")
    for model in (DecisionTreeClassifier(random_state=0), MultiOutputClassifier(KNeighborsClassifier())):
        model.fit(X, np.column_stack([y, y > 0]))
        assert serve(model).predict(asked[0]).unwrap().tolist() == model.predict(asked[:1])[0].tolist()


def test_one_call_gives_label_and_confidence_where_that_is_known(build: Build) -> None:
    """A classifier whose label is the argmax of its probabilities is not asked twice."""
    X, y, asked = data("iris")
    model = RandomForestClassifier(5, random_state=0).fit(X, y)
    model.predict = lambda X: pytest.fail("predict was called as well")
    repository = InMemoryModelRepository()
    repository.register(model)
    clear = asked[[int(np.argmax(model.predict_proba(asked).max(axis=1)))]][0]
    assert build(repository).predict(clear).success


def test_a_subclass_of_an_estimator_is_asked_itself(serve: Build) -> None:
    """A user's subclass may predict otherwise than by argmax, so its own ``predict`` decides."""

    class Contrary(LogisticRegression):
        def predict(self, X: Any) -> Any:
            return np.array(["contrary"] * len(X))

    X, y, asked = data("iris")
    assert serve(Contrary(max_iter=1000).fit(X, y)).predict(asked[0]).unwrap() == "contrary"


# ------------------------------------------------------------------------------------------------ fitted on a frame


@functools.cache
def frame() -> tuple[pandas.DataFrame, npt.NDArray[Any]]:
    X, y = load_iris(return_X_y=True, as_frame=True)
    return X, y.to_numpy()


@pytest.mark.parametrize("name", ["LogisticRegression", "RandomForest", "HistGradientBoosting", "Pipeline", "KNN"])
@pytest.mark.parametrize("form", ["array", "list", "dict", "reordered dict", "row of the frame"])
def test_a_model_fitted_on_a_frame_takes_rows_of_any_form(name: str, form: str, serve: Build) -> None:
    """An estimator fitted on a pandas frame takes an array, a list, a dict or a frame of one row, without a warning."""
    X, y = frame()
    model = CLASSIFIERS[name]().fit(X, y)
    server = serve(model)
    for index in range(0, 150, 30):
        row = X.iloc[index]
        input = {
            "array": row.to_numpy(),
            "list": row.tolist(),
            "dict": row.to_dict(),
            "reordered dict": dict(reversed(row.to_dict().items())),
            "row of the frame": X.iloc[[index]],
        }[form]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert server.predict(input).unwrap() == model.predict(X.iloc[[index]])[0]


def mixed_model() -> Any:
    table = pandas.DataFrame({"age": [20.0, 30.0, 60.0, 70.0], "zone": [1, 2, 1, 2], "colour": ["red", "blue"] * 2})
    encode = make_column_transformer((StandardScaler(), ["age"]), (OneHotEncoder(), ["zone", "colour"]))
    return make_pipeline(encode, LogisticRegression()).fit(table, ["young", "young", "old", "old"])


@pytest.mark.parametrize(
    "input", [[65.0, 2, "red"], (65.0, 2, "red"), {"colour": "red", "age": 65.0, "zone": 2}], ids=str
)
def test_numbers_beside_text_stay_numbers(input: Any, serve: Build) -> None:
    """A row that mixes numbers and text reaches the columns of the frame with each value as it is."""
    assert serve(mixed_model()).predict(input).unwrap() == "old"


def test_a_series_is_taken_by_its_names(serve: Build) -> None:
    """A pandas series whose index names the features is not read by position."""
    X, y = frame()
    model = fitted_on_frame()
    row = X.iloc[60]
    assert serve(model).predict(row[::-1]).unwrap() == model.predict(X.iloc[[60]])[0] == y[60]


def test_a_series_without_the_names_is_taken_by_position(serve: Build) -> None:
    """A series with any other index is a row like an array."""
    X, y = frame()
    row = pandas.Series(X.iloc[60].to_numpy())
    assert serve(fitted_on_frame()).predict(row).unwrap() == y[60]


@functools.cache
def fitted_on_frame() -> Any:
    return DecisionTreeClassifier(random_state=0).fit(*frame())


@pytest.mark.parametrize("named", [{}, {"sepal length (cm)": 5.0}, {"sepal_length": 5.0}], ids=str)
def test_a_dict_names_every_feature(named: dict[str, float], serve: Build) -> None:
    """A dictionary that lacks a feature is InvalidInput: what is misspelt must not become a missing value."""
    X, y = frame()
    model = HistGradientBoostingClassifier(max_iter=2).fit(X, y)
    error = serve(model).predict(named).error
    assert (error.kind, error.field in X.columns, error.field in error.message) == (ErrorKind.InvalidInput, True, True)


def test_a_dict_may_say_that_a_value_is_missing(serve: Build) -> None:
    """A feature given as NaN is passed on, for models that take missing values."""
    X, y = frame()
    model = HistGradientBoostingClassifier(max_iter=2).fit(X, y)
    row = X.iloc[0].to_dict() | {X.columns[0]: float("nan")}
    assert serve(model).predict(row).unwrap() == 0


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csr_array, sparse.coo_array, sparse.csc_matrix])
def test_a_sparse_row_is_a_row(kind: Any, serve: Build) -> None:
    """A row taken from a sparse table, as text models have them, is answered like any other."""
    X, y, asked = data("iris")
    model = LogisticRegression(max_iter=1000).fit(sparse.csr_matrix(X), y)
    server = serve(model)
    table = kind(asked)
    rows = [table[[index]] if hasattr(table, "__getitem__") else kind(asked[[index]]) for index in range(5)]
    rows += [sparse.csr_array(asked)[index] for index in range(5)]
    expected = model.predict(asked[:5]).tolist()
    assert [server.predict(row).unwrap() for row in rows] == expected * 2


# --------------------------------------------------------------------------------------------------- the protocols


class Threshold:
    """A regressor by its methods alone."""

    def predict(self, X: Floats) -> Floats:
        return X.sum(axis=1)


class Coin:
    """A classifier by its methods alone."""

    def predict(self, X: Floats) -> list[str]:
        return ["tails"] * len(X)

    def predict_proba(self, X: Floats) -> Floats:
        return np.array([[0.25, 0.75]] * len(X))


def test_a_regressor_is_any_object_with_predict(serve: Build) -> None:
    """``predict`` is given a table of one row, and its one item is the answer."""
    assert serve(Threshold()).predict([1.0, 2.0]).unwrap() == 3.0


def test_a_classifier_is_any_object_with_predict_and_predict_proba(build: Build) -> None:
    """The label comes from ``predict`` and the confidence from ``predict_proba``."""
    repository, monitor = InMemoryModelRepository(), InMemoryModelMonitor()
    repository.register(Coin())
    assert build(repository, monitor).predict([1.0]).unwrap() == "tails"
    assert recorded_confidences(monitor) == [0.75]


@pytest.mark.parametrize(("task", "confidence"), [("regression", None), ("classification", 0.75), (None, 0.75)])
def test_the_registered_task_overrides_what_the_methods_suggest(
    task: str | None, confidence: float | None, build: Build
) -> None:
    """A model registered as a regressor is one, though it has ``predict_proba``."""
    repository, monitor = InMemoryModelRepository(), InMemoryModelMonitor()
    repository.register(Coin(), task=task)
    build(repository, monitor).predict([1.0])
    assert recorded_confidences(monitor) == [confidence]


@pytest.mark.parametrize(
    ("model", "task", "kind"),
    [
        (Threshold(), None, "regressor"),
        (Threshold(), "classification", "classifier"),
        (Coin(), None, "classifier"),
        (Coin(), "regression", "regressor"),
        (fitted("RidgeClassifier", "iris"), None, "classifier"),
        (fitted("SVC", "iris"), None, "classifier"),
        (len, None, "callable"),
    ],
)
def test_health_says_what_a_model_was_taken_for(model: Any, task: str | None, kind: str, serve: Build) -> None:
    """The decision is shown: a task is never guessed from ``predict_proba`` where tags or registration tell."""
    checks = {check.name: check.detail for check in serve(model, task=task).check_health().checks}
    assert checks["model"] == f"version 1 is a {kind}"


@pytest.mark.parametrize(
    "answer", [np.array([7]), [7], (7,), pandas.Series([7], index=["row"])], ids=lambda a: type(a).__name__
)
def test_answers_of_every_kind_of_sequence_are_understood(answer: Any, serve: Build) -> None:
    """An array, a list, a tuple or a pandas series of one item is one answer."""

    class Model:
        def predict(self, X: Any) -> Any:
            return answer

    assert serve(Model()).predict([1.0]).unwrap() == 7


def test_a_model_may_have_an_attribute_called_steps(serve: Build) -> None:
    """Only scikit-learn's own pipelines are taken for pipelines."""

    class Diffusion(Coin):
        steps = 50

    assert serve(Diffusion()).predict([1.0]).unwrap() == "tails"


# ------------------------------------------------------------------------------------------------------- callables


def add(a: float, x: float) -> float:
    return a + x


def one_more(x: float) -> float:
    return x + 1.0


class Adder:
    def __init__(self, a: float) -> None:
        self.a = a

    def __call__(self, x: float) -> float:
        return self.a + x

    def plus(self, x: float) -> float:
        return self.a + x


async def slow_add(a: float, x: float) -> float:
    return a + x


class SlowAdder(Adder):
    async def __call__(self, x: float) -> float:  # type: ignore[override]  # a coroutine on purpose
        return self.a + x

    async def plus(self, x: float) -> float:  # type: ignore[override]  # a coroutine on purpose
        return self.a + x


CALLABLES = {
    "function": one_more,
    "lambda": lambda x: x + 1.0,
    "builtin": functools.partial(max, 3.0),
    "partial": functools.partial(add, 1.0),
    "object": Adder(1.0),
    "bound method": Adder(1.0).plus,
    "partial of an object": functools.partial(Adder(1.0)),
    "coroutine function": lambda x: slow_add(1.0, x),
    "partial of a coroutine function": functools.partial(slow_add, 1.0),
    "coroutine object": SlowAdder(1.0),
    "partial of a coroutine object": functools.partial(SlowAdder(1.0)),
    "bound coroutine method": SlowAdder(1.0).plus,
}


@pytest.mark.parametrize("name", CALLABLES)
def test_a_callable_is_called_with_the_input_as_it_came(name: str, serve: Build) -> None:
    """Every kind of callable is a model; what it returns, or what its coroutine gives, is the answer."""
    assert serve(CALLABLES[name]).predict(2.0).unwrap() == 3.0


@pytest.mark.parametrize("input", [[1, 2], {"a": 1}, "text", 5, np.array([1.0])], ids=str)
def test_a_callable_is_given_the_very_object(input: Any, serve: Build) -> None:
    """A callable gets the caller's own object, neither copied nor converted."""
    seen: list[Any] = []
    serve(seen.append).predict(input)
    assert seen[0] is input


def test_a_callable_keeps_its_input_although_it_has_an_example(serve: Build) -> None:
    """An example of a callable is tried by the health check and says nothing of other inputs."""
    server = serve(len, example=[1, 2])
    assert [server.predict("abc").unwrap(), server.predict([]).unwrap()] == [3, 0]


class AsyncRows:
    async def predict(self, X: Floats) -> Floats:
        return X.sum(axis=1)


def test_predict_may_be_a_coroutine(serve: Build) -> None:
    """A model whose ``predict`` is a coroutine is given a table of one row, and awaited."""
    assert serve(AsyncRows(), example=[0.0, 0.0]).predict([1.0, 2.0]).unwrap() == 3.0


# --------------------------------------------------------------------------------------------- predictor, SingleRow


class Foreign:
    """A model of a library that mlserve does not know."""

    def infer(self, input: float) -> float:
        return input * 2


async def await_foreign(model: Foreign, input: float) -> float:
    return model.infer(input)


class AwaitForeign:
    async def __call__(self, model: Foreign, input: float) -> float:
        return model.infer(input)


PREDICTORS = {
    "function": lambda model, x: model.infer(x),
    "method": Foreign.infer,
    "coroutine function": await_foreign,
    "lambda of a coroutine": lambda model, x: await_foreign(model, x),
    "partial of a coroutine": functools.partial(await_foreign),
    "coroutine object": AwaitForeign(),
}


@pytest.mark.parametrize("name", PREDICTORS)
def test_a_predictor_is_called_with_model_and_input(name: str, serve: Build) -> None:
    """``predictor=`` makes any object a model; it may be a coroutine function."""
    assert serve(Foreign(), server={"predictor": PREDICTORS[name]}).predict(3.0).unwrap() == 6.0


def test_a_predictor_goes_before_what_the_model_is(serve: Build) -> None:
    """With ``predictor=``, a classifier is not called as one, and gets the input as it came."""
    seen = []
    server = serve(Coin(), server={"predictor": lambda model, x: seen.append(x) or "mine"})
    assert server.predict("anything").unwrap() == "mine"
    assert seen == ["anything"]


class OneAtATime:
    def predict(self, input: dict[str, float]) -> float:
        return input["a"] * 2


class OneAtATimeAsync:
    async def predict(self, input: dict[str, float]) -> float:
        return input["a"] * 2


@pytest.mark.parametrize("model", [OneAtATime(), OneAtATimeAsync()], ids=lambda model: type(model).__name__)
def test_single_row_wraps_a_model_of_one_input_at_a_time(model: Any, serve: Build) -> None:
    """``SingleRow`` gives ``predict`` the input as it came, and takes what it returns for the answer."""
    assert serve(SingleRow(model)).predict({"a": 2.0}).unwrap() == 4.0


@pytest.mark.parametrize("model", [None, 5, len, Foreign()])
def test_single_row_refuses_what_has_no_predict(model: Any) -> None:
    """``SingleRow`` of an object without ``predict`` is refused when it is made."""
    with pytest.raises(UnsupportedModelError, match="no predict"):
        SingleRow(model)


# --------------------------------------------------------------------------------------------------- refused by name


class WithoutPredict:
    coefficients = (1.0, 2.0)


class PredictIsNoMethod:
    predict = 3


REFUSED = {
    "NoneType": None,
    "int": 5,
    "dict": {"weights": [1.0]},
    "ndarray": np.array([1.0]),
    "WithoutPredict": WithoutPredict(),
    "PredictIsNoMethod": PredictIsNoMethod(),
    "LogisticRegression": LogisticRegression,
    "Coin": Coin,
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_model_is_refused_by_name(name: str, serve: Build) -> None:
    """An object that neither predicts nor is callable, a class and None are UnsupportedModel, named in the message."""
    error = serve(REFUSED[name]).predict([1.0]).error
    assert (error.kind, name in error.message) == (ErrorKind.UnsupportedModel, True)


class WrongCount:
    """Answers a table of one row with something else than one item."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def predict(self, X: Any) -> Any:
        return self.answer


WRONG = {
    "a number": 0.5,
    "nothing": None,
    "no item": [],
    "two items": [1, 2],
    "an array of no dimension": np.array(1.0),
}


@pytest.mark.parametrize("answer", WRONG)
def test_an_answer_that_is_not_one_item_a_row_fails_at_load(answer: str, serve: Build) -> None:
    """With an example, a model that does not answer one item for each row is refused when it is loaded, by name."""
    error = serve(WrongCount(WRONG[answer]), example=[1.0]).predict([1.0]).error
    assert (error.kind, "SingleRow" in error.message) == (ErrorKind.UnsupportedModel, True)


@pytest.mark.parametrize("answer", WRONG)
def test_an_answer_that_is_not_one_item_a_row_fails_the_prediction(answer: str, serve: Build) -> None:
    """Without an example, it is the prediction that fails, with the same hint."""
    error = serve(WrongCount(WRONG[answer])).predict([1.0]).error
    assert (error.kind, "SingleRow" in error.message) == (ErrorKind.PredictionException, True)


@pytest.mark.parametrize("answer", [{"label": 1}, {1}], ids=str)
def test_an_answer_that_is_no_sequence_fails_the_prediction(answer: Any, serve: Build) -> None:
    """A dictionary or a set is no sequence of answers: the prediction fails."""
    assert serve(WrongCount(answer)).predict([1.0]).error.kind is ErrorKind.PredictionException


def test_a_model_that_fails_on_its_own_example_is_not_loaded(serve: Build) -> None:
    """An estimator that was never fitted is found out when it is loaded."""
    error = serve(LogisticRegression(), example=[1.0]).predict([1.0]).error
    assert (error.kind, "NotFittedError" in error.message) == (ErrorKind.ModelLoadFailed, True)


def test_an_unfitted_estimator_without_example_fails_the_prediction(serve: Build) -> None:
    """Without an example there is nothing to try it with: the prediction fails."""
    assert serve(LogisticRegression()).predict([1.0]).error.kind is ErrorKind.PredictionException
