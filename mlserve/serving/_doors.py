"""Models of libraries that do not speak scikit-learn: known by what they have, so that no library is imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import numpy as np

from mlserve.errors import PredictionExceptionError
from mlserve.records import Task
from mlserve.serving._adapters import Adapter
from mlserve.serving._answers import Answers
from mlserve.serving._tables import is_frame


def _session_of(model: Any) -> Callable[[], Any] | None:
    """What gives a model's session, now and after a fork; None where it has none."""
    if _is_session(model):
        return lambda: model
    if _is_session(getattr(model, "inference_session", None)):
        return lambda: model.inference_session
    return None


def _is_session(value: Any) -> bool:
    return any(
        kind.__name__ == "InferenceSession" and kind.__module__.partition(".")[0] == "onnxruntime"
        for kind in type(value).__mro__
    )


def adapted_by_session(model: Any, task: Task | None) -> Adapter | None:
    """How an ONNX Runtime session is called, or what holds one; None for anything else.

    Raises:
        UnsupportedModelError: Its graph takes or answers what is no table.
    """
    get_session = _session_of(model)
    if get_session is None:
        return None
    from mlserve.serving._sessions import Runner  # only a graph pays for it

    runner = Runner(get_session, getattr(model, "value", None), getattr(model, "probabilities", None))
    has_confidence = runner.probabilities is not None and task is not Task.REGRESSION

    def call_many(inputs: Sequence[Any]) -> Answers:
        answers, confidences = runner.answers(inputs, has_confidence)
        return Answers(answers, confidences if has_confidence else None)

    def call(input: Any) -> Any:
        return call_many([input]).each()[0]

    is_classifier = has_confidence or task is Task.CLASSIFICATION
    return Adapter(
        call,
        "classifier" if is_classifier else "regressor",
        takes_rows=True,
        has_confidence=has_confidence,
        call_many=call_many,
        is_pure=True,
        takes_frames=runner.takes_names,
        takes_arrays=runner.takes_tables,
    )


def adapted_by_one(model: Any, task: Task | None) -> Adapter | None:
    """How a model with ``predict_one``, such as river's, is called; None for anything else.

    The input goes to ``predict_one`` as it came, one at a time; ``learn_one`` is not called. The confidence is the
    largest of ``predict_proba_one``.
    """
    predict_one = getattr(model, "predict_one", None)
    if not callable(predict_one):
        return None
    predict_proba_one = getattr(model, "predict_proba_one", None)
    kind = {Task.CLASSIFICATION: "classifier", Task.REGRESSION: "regressor"}.get(task, "online model")  # type: ignore[arg-type]  # None is not among them
    is_pure = bool(getattr(model, "is_pure", False))
    if task is Task.REGRESSION or not callable(predict_proba_one):
        return Adapter(lambda input: _learnt(predict_one(input)), kind, is_pure=is_pure)

    def call(input: Any) -> tuple[Any, float | None]:
        return _learnt(predict_one(input)), _most_probable(predict_proba_one, input)

    return Adapter(call, kind, has_confidence=True, is_pure=is_pure)


def _learnt(answer: Any) -> Any:
    if answer is None:
        raise PredictionExceptionError(
            "predict_one answered None: the model has learned nothing that it could answer with.",
            hint="Call learn_one with examples before the model is registered.",
        )
    return answer


def _most_probable(predict_proba_one: Callable[[Any], Any], input: Any) -> float | None:
    try:
        probabilities = predict_proba_one(input)
    except (NotImplementedError, AttributeError):
        # A classifier without probabilities says the one, a pipeline that ends in a regressor the other.
        return None
    return float(max(probabilities.values())) if probabilities else None


def has_spaces_replaced(model: Any) -> bool:
    """Whether a model knows its features by names without spaces, whatever they were called when it was fitted."""
    return type(model).__module__.partition(".")[0] == "lightgbm"


def respelt(input: Any) -> Any:
    """An input with the names of its features as LightGBM keeps them."""
    if is_frame(input):
        new = {name: _spelt(name) for name in input.columns}
        return input.rename(columns=new) if hasattr(input, "iloc") else input.rename(new)
    if isinstance(input, Mapping):
        return {_spelt(name): value for name, value in input.items()}
    return input.rename(_spelt) if hasattr(input, "iloc") else input


def _spelt(name: Any) -> Any:
    return name.replace(" ", "_") if isinstance(name, str) else name


def with_face(model: Any) -> Any:
    """A model as scikit-learn's conventions have it: itself, unless it is known to differ."""
    if type(model).__module__.partition(".")[0] == "catboost":
        return CatBoostFace(model)
    return model


@final
class CatBoostFace:
    """A CatBoost model with what scikit-learn calls otherwise: the features' names, and labels ``(n_samples,)``.

    Args:
        model: A fitted CatBoost model.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        names = list(getattr(model, "feature_names_", None) or ())
        if names and names != [str(column) for column in range(len(names))]:  # so they are called after an array
            self.feature_names_in_ = names

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def predict(self, X: Any) -> Any:
        """One label or number for each row; of several outputs one row of them."""
        answers = np.asarray(self._model.predict(X))
        return answers[:, 0] if answers.ndim == 2 and answers.shape[1] == 1 else answers
