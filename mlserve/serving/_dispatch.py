"""From a model of whatever kind to one call: decided once, when a version is loaded."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import numpy as np

from mlserve.errors import InvalidInputError, PredictionExceptionError, UnsupportedModelError
from mlserve.protocols import BatchPredictor, Classifier, Regressor
from mlserve.records import Task, VersionDescription
from mlserve.serving._adapters import Adapter
from mlserve.serving._answers import Answers
from mlserve.serving._doors import adapted_by_one, adapted_by_session, has_spaces_replaced, respelt, with_face
from mlserve.serving._tables import (
    RecordRows,
    amany_by_predict,
    answers_of_each,
    by_position,
    is_frame,
    many_by_argmax,
    many_by_both,
    many_by_clear_argmax,
    many_by_predict,
    refuse_unordered,
)

ARGMAX_IS_PREDICT = frozenset(
    {
        "BernoulliNB",
        "CategoricalNB",
        "ComplementNB",
        "GaussianNB",
        "HistGradientBoostingClassifier",
        "LogisticRegression",
        "LogisticRegressionCV",
        "MultinomialNB",
    }
)
"""scikit-learn classifiers whose ``predict`` is the argmax of ``predict_proba`` but for rounding, as their sources
show: one call gives both the label and its probability."""

PREDICT_TAKES_ARGMAX = frozenset(
    {"DecisionTreeClassifier", "ExtraTreeClassifier", "ExtraTreesClassifier", "RandomForestClassifier"}
)
"""Those whose ``predict`` takes the argmax of the very numbers that ``predict_proba`` answers: of classes that are
equally probable, as a few trees often have them, the first."""

CLEAR_MARGIN = 1e-9
"""Below this distance between the two most probable classes rounding could order them otherwise than ``predict``
does, which is then asked."""


@final
class SingleRow:
    """Wraps a model whose ``predict`` takes one input as it comes and answers it, not a batch.

    Args:
        model: Anything with ``predict(input)``.

    Raises:
        UnsupportedModelError: It has no ``predict``.
    """

    def __init__(self, model: Any) -> None:
        if not callable(getattr(model, "predict", None)):
            raise UnsupportedModelError(f"{_name(model)} has no predict method.", hint="Pass a callable as it is.")
        self.model = model

    @property
    def __call__(self) -> Callable[[Any], Any]:
        return self.model.predict  # type: ignore[no-any-return]  # the wrapped model is anything


def adapt(model: Any, description: VersionDescription | None, predictor: Callable[[Any, Any], Any] | None) -> Adapter:
    """Decide how a model is called.

    The order: the server's ``predictor``, the task it was registered with, scikit-learn's tags, the protocols
    ``Classifier`` and ``Regressor``, a callable, ``predict_one``. An ONNX Runtime session is known by its class, before
    the protocols.

    Args:
        model: What the repository loaded.
        description: What the repository says of it, where it can.
        predictor: Called as ``predictor(model, input)``, or None.

    Raises:
        UnsupportedModelError: None of these fits.
    """
    if predictor is not None:
        return Adapter(lambda input: predictor(model, input), "predictor", is_async=is_async_function(predictor))
    if isinstance(model, type):
        raise UnsupportedModelError(
            f"{model.__name__} is a class, not a trained model.",
            hint=f"Register an instance: {model.__name__}().fit(…).",
        )
    if isinstance(model, BatchPredictor):
        return _adapt_batches(model)
    task = None if description is None else description.task
    by_session = adapted_by_session(model, task)
    if by_session is not None:
        return by_session
    if isinstance(model, Regressor) and callable(model.predict):
        return _adapt_rows(with_face(model), description)
    if callable(model):
        called = model.__call__ if isinstance(model, SingleRow) else model
        return Adapter(
            called, "callable", is_async=is_async_function(called), is_pure=bool(getattr(model, "is_pure", False))
        )
    by_one = adapted_by_one(model, task)
    if by_one is not None:
        return by_one
    raise UnsupportedModelError(
        f"{_name(model)} has no predict method and is not callable.",
        hint="Register a Classifier, a Regressor or a callable, or give the server predictor=.",
    )


def _adapt_batches(model: BatchPredictor[Any, Any]) -> Adapter:
    if is_async_function(model.predict_batch):
        return _adapt_awaited_batches(model)

    def call_many(inputs: Sequence[Any]) -> Answers:
        return Answers(answers_of_each(model.predict_batch(inputs), len(inputs)))

    def call(input: Any) -> Any:
        return call_many([input]).values[0]

    return Adapter(call, "batch predictor", call_many=call_many, is_pure=_is_pure(model))


def _adapt_awaited_batches(model: Any) -> Adapter:
    async def acall_many(inputs: Sequence[Any]) -> list[Any]:
        return answers_of_each(await model.predict_batch(inputs), len(inputs))

    async def call(input: Any) -> Any:
        return (await acall_many([input]))[0]

    return Adapter(call, "batch predictor", is_async=True, acall_many=acall_many, is_pure=_is_pure(model))


def _is_pure(model: Any) -> bool:
    return bool(getattr(model, "is_pure", hasattr(model, "__sklearn_tags__")))


def _adapt_rows(model: Any, description: VersionDescription | None) -> Adapter:
    task = None if description is None else description.task
    kind = task if task is not None else _tagged_task(model)
    is_classifier = kind is Task.CLASSIFICATION or (kind is None and isinstance(model, Classifier))
    name = "classifier" if is_classifier else "regressor"
    to_rows = _table_maker(model, None if description is None else description.schema)
    takes_frames = getattr(model, "feature_names_in_", None) is not None
    predict = model.predict
    if is_async_function(predict):
        return Adapter(
            _async_rows(predict, to_rows),
            name,
            takes_rows=True,
            is_async=True,
            acall_many=amany_by_predict(model, to_rows),
            is_pure=_is_pure(model),
            takes_frames=takes_frames,
        )
    # With several outputs there are several probabilities, and no one confidence.
    has_outputs = isinstance(getattr(model, "classes_", None), list)
    shared: dict[str, Any] = {"kind": name, "takes_rows": True, "is_pure": _is_pure(model)}
    shared["takes_frames"] = takes_frames
    shared["takes_arrays"] = _goes_by_position(model)
    if not is_classifier or has_outputs or not callable(getattr(model, "predict_proba", None)):
        return Adapter(
            lambda input: _only(predict(to_rows(input))), call_many=many_by_predict(model, to_rows), **shared
        )
    shared["has_confidence"] = True
    if _is_one_of(PREDICT_TAKES_ARGMAX, model):
        return Adapter(_by_argmax(model, to_rows), call_many=many_by_argmax(model, to_rows), **shared)
    if _is_one_of(ARGMAX_IS_PREDICT, model):
        return Adapter(
            _by_clear_argmax(model, to_rows), call_many=many_by_clear_argmax(model, to_rows, CLEAR_MARGIN), **shared
        )
    return Adapter(_by_both(model, to_rows), call_many=many_by_both(model, to_rows), **shared)


def _async_rows(predict: Callable[[Any], Any], to_rows: Callable[[Any], Any]) -> Callable[[Any], Any]:
    async def call(input: Any) -> Any:
        return _only(await predict(to_rows(input)))

    return call


def _by_both(model: Any, to_rows: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, float]]:
    predict, predict_proba = model.predict, model.predict_proba

    def call(input: Any) -> tuple[Any, float]:
        rows = to_rows(input)
        return _only(predict(rows)), float(np.max(_only(predict_proba(rows))))

    return call


def _by_argmax(model: Any, to_rows: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, float]]:
    predict_proba, classes = model.predict_proba, model.classes_

    def call(input: Any) -> tuple[Any, float]:
        probabilities = _only(predict_proba(to_rows(input)))
        best = probabilities.argmax()
        return classes[best], float(probabilities[best])

    return call


def _by_clear_argmax(model: Any, to_rows: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, float]]:
    predict, predict_proba, classes = model.predict, model.predict_proba, model.classes_

    def call(input: Any) -> tuple[Any, float]:
        rows = to_rows(input)
        probabilities = _only(predict_proba(rows)).tolist()
        confidence = max(probabilities)
        if sum(probability > confidence - CLEAR_MARGIN for probability in probabilities) != 1:  # none where it is NaN
            return _only(predict(rows)), confidence
        return classes[probabilities.index(confidence)], confidence

    return call


def _is_one_of(names: frozenset[str], model: Any) -> bool:
    last = model.steps[-1][1] if type(model).__module__ == "sklearn.pipeline" else model
    return (
        type(last).__module__.startswith("sklearn.")
        and type(last).__name__ in names
        and isinstance(getattr(model, "classes_", None), np.ndarray)
    )


def _tagged_task(model: Any) -> Task | None:
    tags = getattr(model, "__sklearn_tags__", None)
    estimator_type = tags().estimator_type if callable(tags) else getattr(model, "_estimator_type", None)
    return {"classifier": Task.CLASSIFICATION, "regressor": Task.REGRESSION}.get(str(estimator_type))


def _table_maker(model: Any, schema: Any) -> Callable[[Any], Any]:
    """From one input to the table of one row that the model takes."""
    names = getattr(model, "feature_names_in_", None)
    if names is not None:
        make = _frame_maker(list(names), schema)
        return (lambda input: make(respelt(input))) if has_spaces_replaced(model) else make

    goes_by_position = _goes_by_position(model)

    def to_rows(input: Any) -> Any:
        if type(input) is np.ndarray:
            return input[np.newaxis]
        if hasattr(input, "tocsr"):  # a row of a sparse matrix is a table already; one of a sparse array is flat
            return input if input.ndim == 2 else input.reshape((1, -1))
        if is_frame(input):
            return by_position(input) if goes_by_position else input
        return np.asarray(input)[np.newaxis]

    return to_rows


def _goes_by_position(model: Any) -> bool:
    """Whether it is an estimator of scikit-learn's kind that was fitted on an array."""
    return (
        hasattr(model, "__sklearn_tags__")
        and getattr(model, "n_features_in_", None) is not None
        and getattr(model, "feature_names_in_", None) is None
    )


def _frame_maker(names: list[str], schema: Any) -> Callable[[Any], Any]:
    # An estimator fitted on a frame selects columns by name and warns at anything else.
    import pandas

    known = frozenset(names)
    columns = None
    from mlserve.schemas import RecordSchema  # only models fitted on frames pay for it

    if isinstance(schema, RecordSchema) and known.issubset(schema.names):
        fields = {field.name: field for field in schema.fields}
        columns = RecordSchema([fields[name] for name in names])

    def to_rows(input: Any) -> Any:
        if is_frame(input):
            given = list(input.columns)
            if given == names or not all(isinstance(name, str) for name in given):
                return input
            if not known.issubset(given):
                raise _without_features([name for name in names if name not in given])
            return input[names]  # not every library looks at the names, and none would tell
        if isinstance(input, pandas.Series) and known.issubset(input.index):
            input = input.to_dict()
        if isinstance(input, Mapping) and not known.issubset(input):
            raise _without_features([name for name in names if name not in input])
        if columns is not None and isinstance(input, Mapping):
            # It knows the dtypes: a missing text in a frame of one row would become a float.
            return columns.to_frame([input])
        if isinstance(input, (Mapping, list, tuple)):
            # Column by column: as one array, numbers beside text would become text.
            return pandas.DataFrame([input], columns=names)
        return pandas.DataFrame(np.asarray(input)[np.newaxis], columns=names)

    def plain(records: Sequence[Mapping[str, Any]]) -> Any:
        # Only columns whose rows are alike: what is missing, or beside values of another type, is of a type alone that
        # it is not among others.
        kinds = [{type(record[name]) for record in records} for name in names]
        if not all(len(found) == 1 or found <= {float, int} for found in kinds):
            return None
        frame = pandas.DataFrame(records, columns=names)
        if any(
            found <= {float, int} and frame[name].dtype.kind not in "if"
            for name, found in zip(names, kinds, strict=True)
        ):
            return None  # an integer that is too large
        others = frame.select_dtypes(exclude=["float", "integer", "bool"])
        return None if others.isna().any(axis=None) else frame

    return RecordRows(to_rows, plain if columns is None else columns.to_frame, known)


def _without_features(missing: list[str]) -> InvalidInputError:
    # Left to pandas, a name that is misspelt would become a missing value, which many models answer.
    return InvalidInputError(
        f"the input has no feature {', '.join(missing)}; expected every feature by name.",
        field=missing[0],
        hint="Pass float('nan') or None for a value that is not known.",
    )


def _only(answers: Any) -> Any:
    if type(answers) is not np.ndarray:
        refuse_unordered(answers)
    try:
        count = len(answers)
    except TypeError:
        raise PredictionExceptionError(
            f"the model answered a table of one row with a single {_name(answers)}; expected one item for each row.",
            hint="Wrap a model that answers one input at a time in SingleRow(model).",
        ) from None
    if count != 1:
        raise PredictionExceptionError(
            f"the model answered a table of one row with {count} items; expected one item for each row.",
            hint="Wrap a model that answers one input at a time in SingleRow(model).",
        )
    return answers.iloc[0] if hasattr(answers, "iloc") else answers[0]


def is_async_function(function: Any) -> bool:
    """Whether calling something gives what is to be awaited, as far as can be told without calling it."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004  # asks what calling it gives, not whether it can be called


def _name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
