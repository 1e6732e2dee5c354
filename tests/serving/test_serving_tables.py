"""Batched answers are those that the model gives one by one: estimators, frames, sparse rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier, ExtraTreeClassifier

from mlserve import RecordSchema
from mlserve.clocks import ManualClock
from mlserve.errors import InvalidInputError, PredictionExceptionError
from mlserve.records import ModelVersion, VersionDescription
from mlserve.serving._dispatch import adapt
from mlserve.serving._tables import NoTableError, answers_of_each

X, Y = load_iris(return_X_y=True)
ROWS = X[::7]
NAMES = np.array(["setosa", "versicolor", "virginica"])

MODELS: dict[str, Callable[[], Any]] = {
    "logistic regression": lambda: LogisticRegression(max_iter=500).fit(X, Y),
    "named classes": lambda: LogisticRegression(max_iter=500).fit(X, NAMES[Y]),
    "tree with ties": lambda: DecisionTreeClassifier(max_depth=1, random_state=0).fit(X, Y),
    "forest": lambda: RandomForestClassifier(10, random_state=0).fit(X, Y),
    "neighbours": lambda: KNeighborsClassifier().fit(X, Y),
    "ridge, without probabilities": lambda: RidgeClassifier().fit(X, Y),
    "support vectors": lambda: SVC().fit(X, Y),
    "pipeline": lambda: make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y),
    "regression": lambda: LinearRegression().fit(X, Y),
    "several outputs": lambda: LinearRegression().fit(X, X[:, :2]),
    "several outputs of a classifier": lambda: DecisionTreeClassifier(random_state=0).fit(X, np.c_[Y, Y % 2]),
}


def alike(first: Any, second: Any) -> bool:
    """Whether two answers are the same, confidence included, within rounding."""
    if isinstance(first, tuple):
        return bool(first[0] == second[0]) and first[1] == pytest.approx(second[1], abs=1e-12)
    return bool(np.all(first == second)) or bool(np.allclose(first, second, rtol=0, atol=1e-10))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("as_rows", [list, np.ndarray.tolist, lambda rows: rows], ids=["arrays", "lists", "table"])
def test_together_they_are_answered_as_alone(name: str, as_rows: Any) -> None:
    """Answers and confidences of a batch are those of single calls, warnings included: there are none."""
    adapter = adapt(MODELS[name](), None, None)
    rows = as_rows(ROWS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        together = adapter.call_many(rows).each()
        alone = [adapter.call(row) for row in rows]
    assert len(together) == len(alone) == len(ROWS)
    assert all(alike(first, second) for first, second in zip(together, alone, strict=True))


def test_rows_with_a_tie_are_asked_of_predict() -> None:
    """Where two classes are equally probable the label is what ``predict`` says, for these rows only."""

    class Tied:
        classes_ = np.array([0, 1])
        steps: tuple[Any, ...] = ()
        asked: list[int] = []  # of this one model

        def predict(self, X: Any) -> Any:
            self.asked.append(len(X))
            return np.ones(len(X), int)

        def predict_proba(self, X: Any) -> Any:
            return np.where(X[:, :1] > 0, [[0.9, 0.1]], [[0.5, 0.5]])

    Tied.__module__, Tied.__name__ = "sklearn.naive_bayes", "GaussianNB"
    model = Tied()
    adapter = adapt(model, None, None)
    assert adapter.call_many(np.array([[1.0], [-1.0], [2.0]])).each() == [(0, 0.9), (1, 0.5), (0, 0.9)]
    assert model.asked == [1]


@pytest.mark.parametrize(
    "model",
    [
        DecisionTreeClassifier(random_state=0),
        ExtraTreeClassifier(random_state=0),
        ExtraTreesClassifier(3, random_state=0),
        RandomForestClassifier(3, bootstrap=False, random_state=0),
    ],
    ids=lambda model: type(model).__name__,
)
def test_trees_are_asked_once_whatever_the_ties(model: Any) -> None:
    """Of equally probable classes trees answer the one that their own ``predict`` does, and that is not called."""
    contradictory, labels = np.array([[0.0], [0.0], [1.0], [2.0], [2.0]]), ["b", "a", "a", "c", "b"]
    model.fit(contradictory, labels)
    asked = np.array([[0.0], [1.0], [2.0]])
    expected = list(zip(model.predict(asked).tolist(), [0.5, 1.0, 0.5], strict=True))
    model.predict = lambda X: pytest.fail("predict was called as well")
    adapter = adapt(model, None, None)
    assert adapter.call_many(asked).each() == [adapter.call(row) for row in asked] == expected


FRAME = pd.DataFrame({"size": [1.0, 2.0, 3.0, 4.0] * 5, "kind": ["a", "b", "b", "c"] * 5})
TARGET = np.array([0, 1, 1, 0] * 5)


@pytest.fixture(scope="module")
def fitted_on_a_frame() -> Any:
    columns = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["kind"]), remainder="passthrough")
    return make_pipeline(columns, LogisticRegression()).fit(FRAME, TARGET)


@pytest.mark.parametrize("form", ["frame", "records", "lists", "series", "one-row frames"])
def test_a_pipeline_fitted_on_a_frame(form: str, fitted_on_a_frame: Any) -> None:
    """Text beside numbers, in whatever form it comes, is answered as the frame is."""
    inputs: Any = {
        "frame": FRAME,
        "records": FRAME.to_dict("records"),
        "lists": FRAME.to_numpy(dtype=object).tolist(),
        "series": [row for _, row in FRAME.iterrows()],
        "one-row frames": [FRAME.iloc[row : row + 1] for row in range(len(FRAME))],
    }[form]
    adapter = adapt(fitted_on_a_frame, None, None)
    assert adapter.takes_frames
    assert [label for label, _ in adapter.call_many(inputs).each()] == fitted_on_a_frame.predict(FRAME).tolist()


def test_ties_in_a_frame_are_asked_of_predict_as_a_frame() -> None:
    """The rows in doubt keep their column names."""
    X = pd.DataFrame({"a": [-1.0, 0.0, 1.0], "b": [1.0, 1.0, 1.0]})
    model = LogisticRegression().fit(X.iloc[[0, 2]], [0, 1])
    adapter = adapt(model, None, None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [label for label, _ in adapter.call_many(X).each()] == model.predict(X).tolist()


def test_sparse_rows_make_a_sparse_table() -> None:
    """Sparse matrices and sparse arrays are stacked without becoming dense."""
    model = LogisticRegression(max_iter=500).fit(sparse.csr_matrix(X), Y)
    adapter = adapt(model, None, None)
    for rows in ([sparse.csr_matrix(row) for row in ROWS], [sparse.coo_array(row) for row in ROWS]):
        assert [label for label, _ in adapter.call_many(rows).each()] == model.predict(ROWS).tolist()


class Seeing:
    """Answers with nothing, and keeps the table."""

    def predict(self, X: Any) -> list[int]:
        self.table = X
        return [0] * len(X)


@pytest.mark.parametrize(
    ("inputs", "kind"),
    [
        ([[1, 2], [3, 4]], "i"),
        ([[1, 2], [3.5, 4.5]], "f"),
        ([[True, False], [1.5, 2.5]], "f"),
        ([["a", "b"], ["ccc", "d"]], "U"),
        ([np.array([1, 2]), np.array([1.5, 2.5])], "f"),
        ([np.array([1, 2], object), np.array([None, "x"], object)], "O"),
    ],
)
def test_rows_of_one_kind_make_a_table(inputs: Any, kind: str) -> None:
    """Numbers of whatever kind, texts of whatever length, and objects, each make a table of theirs."""
    model = Seeing()
    assert adapt(model, None, None).call_many(inputs).each() == [0, 0]
    assert (model.table.dtype.kind, model.table.shape) == (kind, (2, 2))


@pytest.mark.parametrize(
    "inputs",
    [
        [[1.0, 2.0], [1.0]],
        [[1.0, 2.0], ["a", "b"]],
        [[1.0, 2.0], [1.0, None]],
        [np.array([1.0]), np.array([1.0, 2.0])],
        [np.array([1.0]), np.array(["a"])],
        [[1.0], pd.DataFrame({"a": [1.0]})],
        [pd.DataFrame({"a": [1.0, 2.0]}), pd.DataFrame({"a": [1.0]})],
        [sparse.csr_matrix([[1.0]]), [1.0]],
        [pl.DataFrame({"a": [1.0]}), pl.DataFrame({"a": [2.0]})],
        [[[1.0], [2.0, 3.0]], [1.0]],
    ],
    ids=["short", "text", "none", "shapes", "kinds", "frame", "rows", "sparse", "polars", "ragged"],
)
def test_rows_that_are_not_alike_make_none(inputs: Any) -> None:
    """What would change how the model sees the others is refused before the model is called."""
    model = Seeing()
    with pytest.raises(NoTableError) as raised:
        adapt(model, None, None).call_many(inputs).each()
    assert isinstance(raised.value, InvalidInputError)
    assert not hasattr(model, "table")


@pytest.mark.parametrize("answers", [[1], [1, 2, 3], 5, None, np.zeros((1, 2)), np.float64(1)])
def test_answers_are_counted(answers: Any) -> None:
    """Anything but an item for each input is refused; the message says how many there were."""
    with pytest.raises(PredictionExceptionError, match="answered 2 inputs with"):
        answers_of_each(answers, 2)


@pytest.mark.parametrize(
    "answers", [{"a": 1, "b": 2}, {1, 2}, frozenset("ab"), "ab", b"ab"], ids=["dict", "set", "frozen", "text", "bytes"]
)
def test_answers_have_an_order(answers: Any) -> None:
    """A mapping, a set or a text of as many items as there are inputs, or of one, is no answer to each."""
    with pytest.raises(PredictionExceptionError, match=f"answered with a {type(answers).__name__}"):
        answers_of_each(answers, 2)
    model = Seeing()
    model.predict = lambda X: type(answers)(list(answers)[:1]) if isinstance(answers, (set, frozenset)) else "a"  # type: ignore[method-assign]  # what it answers is what is tested
    with pytest.raises(PredictionExceptionError, match="answered with a"):
        adapt(model, None, None).call([1.0])


def test_answers_come_in_many_forms() -> None:
    """Lists, arrays, series and frames are taken apart; a row of an array does not keep the others."""
    table = np.arange(4.0).reshape(2, 2)
    rows = answers_of_each(table, 2)
    assert ([row.tolist() for row in rows], [row.base for row in rows]) == ([[0.0, 1.0], [2.0, 3.0]], [None, None])
    assert answers_of_each(pd.Series([5, 6], index=[8, 9]), 2) == [5, 6]
    assert answers_of_each((5, 6), 2) == [5, 6]


@pytest.mark.parametrize("answer", [[0.5, 0.5], np.zeros((3, 2)), np.zeros(4), 1.0])
def test_probabilities_are_a_table(answer: Any) -> None:
    """Probabilities that are no table of a row for each input are refused."""

    class Odd:
        def predict(self, X: Any) -> Any:
            return [0] * len(X)

        def predict_proba(self, X: Any) -> Any:
            return answer

    with pytest.raises(PredictionExceptionError, match="n_classes"):
        adapt(Odd(), None, None).call_many([[1.0], [2.0]]).each()


def test_naive_bayes_with_missing_values_is_asked_one_way() -> None:
    """Rows whose probabilities are NaN have no clear label: ``predict`` is asked, in a batch as alone."""
    model = GaussianNB().fit(X, Y)

    class Holey(type(model)):  # type: ignore[misc]  # a class of scikit-learn's
        def predict_proba(self, X: Any) -> Any:
            return np.full((len(X), 3), np.nan)

    Holey.__module__, Holey.__name__ = "sklearn.naive_bayes", "GaussianNB"
    model.__class__ = Holey
    adapter = adapt(model, None, None)
    assert [label for label, _ in adapter.call_many(ROWS).each()] == model.predict(ROWS).tolist()


def test_purity_is_declared_or_known() -> None:
    """An estimator of scikit-learn's kind is pure, a model that says so is, and no other."""

    class Declared(Seeing):
        is_pure = True

    found = [adapt(model, None, None).is_pure for model in (MODELS["regression"](), Declared(), Seeing())]
    assert found == [True, True, False]


def test_a_large_batch_of_a_real_model() -> None:
    """A regression of real data answers hundreds of rows as scikit-learn does."""
    rows, target = load_diabetes(return_X_y=True)
    model = LinearRegression().fit(rows, target)
    assert adapt(model, None, None).call_many(list(rows)).each() == pytest.approx(model.predict(rows))


@pytest.mark.parametrize("row", [[1.0, 2.0], np.array([1, 2]), ["a", "b"]])
def test_one_input_is_a_table_of_one_row(row: Any) -> None:
    """A batch of a single input is what a single call makes of it."""
    model = Seeing()
    assert adapt(model, None, None).call_many([row]).each() == [0]
    assert model.table.shape == (1, 2)


MIXED = pd.DataFrame(
    {
        "size": [1.0, np.nan, 3.0, 4.5] * 3,
        "count": [1, 2, 3, 4] * 3,
        "kind": ["a", "b", None, "c"] * 3,
        "grade": pd.Categorical(["low", "high", "low", "high"] * 3),
        "is_new": [True, False, True, True] * 3,
        "when": pd.date_range("2026-01-01", periods=12),
    }
)


def described() -> VersionDescription:
    version = ModelVersion("1", ManualClock().now())
    return VersionDescription(version, schema=RecordSchema.infer(MIXED))


class Looking:
    """A model fitted on ``MIXED`` that keeps the frame it is shown."""

    feature_names_in_ = np.array(list(MIXED.columns), object)
    frame: Any = None

    def predict(self, X: Any) -> Any:
        self.frame = X
        return np.zeros(len(X))


def frames_alone(adapter: Any, model: Looking, records: list[dict[str, Any]]) -> list[Any]:
    """The frame of one row that each record makes."""
    frames = []
    for record in records:
        adapter.call(record)
        frames.append(model.frame)
    return frames


@pytest.mark.parametrize("has_missing", [False, True])
@pytest.mark.parametrize("has_schema", [False, True])
def test_records_make_the_frame_that_they_make_one_by_one(has_schema: bool, has_missing: bool) -> None:
    """Complete records become one frame, of the values that they have alone, and with a schema of its dtypes."""
    model = Looking()
    adapter = adapt(model, described() if has_schema else None, None)
    records = MIXED.to_dict("records")
    if not has_missing:
        records = [record for record in records if isinstance(record["kind"], str)]
    alone = frames_alone(adapter, model, records)
    adapter.call_many(records)
    pd.testing.assert_frame_equal(model.frame, pd.concat(alone, ignore_index=True))
    assert not has_schema or model.frame.dtypes.tolist() == alone[0].dtypes.tolist()


@pytest.mark.parametrize("odd", [{"size": 1.0}, MIXED.iloc[0], MIXED.iloc[0].tolist()], ids=["short", "row", "list"])
def test_what_is_no_complete_record_is_looked_at_by_itself(odd: Any) -> None:
    """Among records, one that lacks a feature is refused by its name, and a row of another form is taken as ever."""
    model = Looking()
    adapter = adapt(model, described(), None)
    inputs = [*MIXED.to_dict("records")[:2], odd]
    if isinstance(odd, dict):
        with pytest.raises(InvalidInputError, match="count"):
            adapter.call_many(inputs)
    else:
        adapter.call_many(inputs)
        assert model.frame["count"].tolist() == [1, 2, 1]


@pytest.mark.parametrize("values", [[True, 1.5], [2**63, -1], [2**63, 0.5], [1, 0.5], [True, False], [1, 2]], ids=str)
def test_numbers_of_several_types_are_what_they_are_alone(values: list[Any]) -> None:
    """Without a schema a column has the dtype together that the rows' own frames have after each other."""
    model = Looking()
    adapter = adapt(model, None, None)
    records = [record | {"size": value} for record, value in zip(MIXED.to_dict("records"), values, strict=False)]
    alone = frames_alone(adapter, model, records)
    adapter.call_many(records)
    pd.testing.assert_frame_equal(model.frame, pd.concat(alone, ignore_index=True))


def test_a_number_that_is_none_is_what_it_is_alone() -> None:
    """Without a schema a record that lacks a number makes the same column together as alone: one of objects."""
    model = Looking()
    adapter = adapt(model, None, None)
    records = MIXED.to_dict("records")[:2]
    adapter.call_many([records[0] | {"size": None}, records[1]])
    assert model.frame["size"].dtype == object


class Unreadable(dict[str, Any]):
    """A record that cannot be read."""

    def __getitem__(self, name: str) -> Any:
        raise OSError("gone")


def test_a_record_that_makes_no_frame_is_said_to_make_none() -> None:
    """A record that cannot be read makes no table with the others, which is no fault of the model's."""
    records = MIXED.to_dict("records")
    with pytest.raises(NoTableError, match="gone"):
        adapt(Looking(), described(), None).call_many([records[1], Unreadable(records[0])])


class Miscounted(list[Any]):
    """Says that it has more items than it gives."""

    def __len__(self) -> int:
        return 2


def test_answers_that_are_miscounted_are_refused() -> None:
    """A model whose answers have another length than they give fails, and leaves no caller waiting."""
    with pytest.raises(PredictionExceptionError, match="gives 1"):
        answers_of_each(Miscounted([1]), 2)
