"""Many inputs as one table, and one answer for each of its rows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from typing import Any, final

import attrs
import numpy as np

from mlserve._rendering import described
from mlserve._stacking import stacked
from mlserve.errors import InvalidInputError, PredictionExceptionError
from mlserve.serving._answers import Answers

NUMBERS = frozenset("biuf")
"""Kinds of dtypes that make one table of numbers: booleans, whole numbers and floats."""

ToRows = Callable[[Any], Any]
"""From one input to a table of one row."""

CallMany = Callable[[Sequence[Any]], Answers]

AwaitMany = Callable[[Sequence[Any]], Awaitable[list[Any]]]


@final
@attrs.frozen(eq=False, repr=False)
class RecordRows:
    """From inputs to frames, for a model fitted on one, where it is known what its columns are.

    Attributes:
        one: From one input to a frame of one row.
        together: From records with all that the model needs to a frame, the same as their own ones after each other;
            None where it would not be.
        known: What the model needs.
    """

    one: ToRows
    together: Callable[[Sequence[Mapping[str, Any]]], Any]
    known: frozenset[str]

    def __call__(self, input: Any) -> Any:
        return self.one(input)

    def frame_of(self, inputs: Sequence[Any]) -> Any:
        """The frame of all inputs; None where they are not all complete records, or one of them is no such thing."""
        if not all(isinstance(input, Mapping) and self.known.issubset(input) for input in inputs):
            return None
        try:
            return self.together(inputs)
        except Exception:  # the one at fault is found, and said what is wrong with it, when they are looked at apart
            return None


@final
class NoTableError(InvalidInputError):
    """Inputs that make no table together: the model was not shown any of them."""


def is_frame(value: Any) -> bool:
    """Whether a value is a data frame, of whatever library."""
    return hasattr(value, "columns") and hasattr(value, "dtypes")


def by_position(frame: Any) -> Any:
    """A frame without its names, for a model that knows none and would warn of them; a frame without names as it is."""
    return frame.to_numpy() if all(isinstance(name, str) for name in frame.columns) else frame


def amany_by_predict(model: Any, to_rows: ToRows) -> AwaitMany:
    """One call of a ``predict`` that is awaited."""
    predict = model.predict

    async def acall_many(inputs: Sequence[Any]) -> list[Any]:
        return answers_of_each(await predict(_stacked(inputs, to_rows)), len(inputs))

    return acall_many


def many_by_predict(model: Any, to_rows: ToRows) -> CallMany:
    """One call of ``predict``."""
    predict = model.predict

    def call_many(inputs: Sequence[Any]) -> Answers:
        return Answers(_column(predict(_stacked(inputs, to_rows)), len(inputs)))

    return call_many


def many_by_both(model: Any, to_rows: ToRows) -> CallMany:
    """One call of ``predict`` for the labels and one of ``predict_proba`` for the confidences."""
    predict, predict_proba = model.predict, model.predict_proba

    def call_many(inputs: Sequence[Any]) -> Answers:
        table = _stacked(inputs, to_rows)
        labels = _column(predict(table), len(inputs))
        return Answers(labels, np.max(_probabilities(predict_proba(table), len(inputs)), axis=1))

    return call_many


def many_by_argmax(model: Any, to_rows: ToRows) -> CallMany:
    """One call of ``predict_proba``; the most probable class is the label."""
    predict_proba, classes = model.predict_proba, model.classes_

    def call_many(inputs: Sequence[Any]) -> Answers:
        probabilities = _probabilities(predict_proba(_stacked(inputs, to_rows)), len(inputs))
        return Answers(classes[probabilities.argmax(axis=1)], probabilities.max(axis=1))

    return call_many


def many_by_clear_argmax(model: Any, to_rows: ToRows, clear_margin: float) -> CallMany:
    """One call of ``predict_proba``; of ``predict`` for the rows whose two most probable classes are too close."""
    predict, predict_proba, classes = model.predict, model.predict_proba, model.classes_

    def call_many(inputs: Sequence[Any]) -> Answers:
        table = _stacked(inputs, to_rows)
        count = len(inputs)
        probabilities = _probabilities(predict_proba(table), count)
        best = probabilities.argmax(axis=1)
        confidences = probabilities[np.arange(count), best]
        # Where a probability is NaN nothing is below the margin, and the model is asked.
        is_below = probabilities <= (confidences - clear_margin)[:, np.newaxis]
        labels = classes[best]
        others = probabilities.shape[1] - 1
        if np.count_nonzero(is_below) != count * others:
            unclear = np.flatnonzero(is_below.sum(axis=1) != others)
            rows = table.iloc[unclear] if hasattr(table, "iloc") else table[unclear]
            for row, label in zip(unclear.tolist(), answers_of_each(predict(rows), unclear.size), strict=True):
                labels[row] = label
        return Answers(labels, confidences)

    return call_many


def _column(answers: Any, count: int) -> Sequence[Any]:
    """The same as ``answers_of_each``; one array, where it can be."""
    if type(answers) is np.ndarray and answers.shape == (count,):
        return answers.copy()  # type: ignore[return-value]  # a sequence in all that is asked of it; the model may use its own again
    return answers_of_each(answers, count)


def answers_of_each(answers: Any, count: int) -> list[Any]:
    """Answers, one for each of so many inputs.

    Raises:
        PredictionExceptionError: There are more or fewer.
    """
    refuse_unordered(answers)
    try:
        found = len(answers)
    except TypeError:
        found = None
    if found != count:
        given = "a single value" if found is None else f"{found} items"
        raise PredictionExceptionError(
            f"the model answered {count} inputs with {given}; expected one item for each.",
            hint="Wrap a model that answers one input at a time in SingleRow(model).",
        )
    if hasattr(answers, "iloc"):
        return [answers.iloc[row] for row in range(count)]
    if isinstance(answers, np.ndarray) and answers.ndim > 1:
        # A view would keep the answers of the whole batch for as long as one of them is kept.
        return [row.copy() for row in answers]
    listed = list(answers)
    if len(listed) != count:
        raise PredictionExceptionError(
            f"the model answered {count} inputs with a {type(answers).__name__} of that length, which gives "
            f"{len(listed)} items; expected one for each."
        )
    return listed


def refuse_unordered(answers: Any) -> None:
    """See that answers may be one for each input, in order: of a mapping, a set or a text the items are something else.

    Raises:
        PredictionExceptionError: They are not.
    """
    if isinstance(answers, (Mapping, Set, str, bytes)):
        raise PredictionExceptionError(
            f"the model answered with a {type(answers).__name__}; expected one item for each input, in their order.",
            hint="Wrap a model that answers one input at a time in SingleRow(model).",
        )


def _probabilities(answers: Any, count: int) -> np.ndarray[Any, Any]:
    probabilities = np.asarray(answers)
    if probabilities.ndim != 2 or len(probabilities) != count:
        raise PredictionExceptionError(
            f"predict_proba answered {count} inputs with an array of shape {probabilities.shape}; "
            f"expected ({count}, n_classes)."
        )
    return probabilities


def _stacked(inputs: Sequence[Any], to_rows: ToRows) -> Any:
    """The table of all inputs; a table is one already."""
    table: Any = inputs
    if is_frame(table):
        return to_rows(table)
    if isinstance(table, np.ndarray) and table.ndim > 1:
        return table
    frame = to_rows.frame_of(inputs) if isinstance(to_rows, RecordRows) else None
    if frame is not None:
        return frame
    first = inputs[0]
    if type(first) is np.ndarray and first.ndim == 1:
        table = to_rows(first)
        if type(table) is np.ndarray:
            together = stacked(inputs, first.dtype, first.size)
            if together is not None:
                return together
    if len(inputs) == 1:
        return to_rows(first)
    try:
        rows = [to_rows(input) for input in inputs]
        _check_alike(rows)
        if is_frame(rows[0]):
            import pandas

            return pandas.concat(rows, ignore_index=True)
        if hasattr(rows[0], "tocsr"):
            from scipy import sparse

            return sparse.vstack(rows, format="csr")
        return np.concatenate(rows)
    except Exception as error:
        raise NoTableError(
            f"the inputs are not alike and make no table ({described(error)}).",
            hint="Give every input the same features.",
        ) from error


def _check_alike(rows: Sequence[Any]) -> None:
    """Refuse tables of which one would change what the model sees of the others: text among numbers makes all text."""
    if any(row.shape[0] != 1 for row in rows):
        raise ValueError("an input of several rows")
    if all(type(row) is np.ndarray for row in rows):
        kinds = {row.dtype.kind for row in rows}
        if len(kinds) > 1 and not kinds <= NUMBERS:
            raise ValueError("values of different kinds")
    elif len({type(row) for row in rows}) > 1:
        raise ValueError("inputs of different kinds")
