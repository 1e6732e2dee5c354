"""ONNX Runtime sessions: rows in, labels or numbers out. The package itself is never imported here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import attrs
import numpy as np
import numpy.typing as npt

from mlserve.errors import InvalidInputError, UnsupportedModelError
from mlserve.serving._tables import answers_of_each, is_frame

Array = npt.NDArray[Any]

DTYPES: Mapping[str, npt.DTypeLike] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int16)": np.int16,
    "tensor(int8)": np.int8,
    "tensor(uint64)": np.uint64,
    "tensor(uint32)": np.uint32,
    "tensor(uint16)": np.uint16,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.object_,
}
"""What an input of each declared type is cast to."""

LABEL_TYPES = frozenset({"tensor(int64)", "tensor(int32)", "tensor(string)"})
PROBABILITY_TYPES = frozenset({"tensor(float)", "tensor(double)"})
MAP_PREFIX = "seq(map("
"""Begins the type of what ZipMap makes: a dictionary from each class to its probability for each row."""

NUMBERS = "biufO"
"""Kinds of arrays that are cast to numbers; objects are looked at one by one."""

SUM_TOLERANCE = 1e-3
"""Probabilities in single precision add up to 1 within this; what does not is scores, and no confidence."""


@attrs.frozen
class Taken:
    """An input of a graph.

    Attributes:
        name: Its name.
        dtype: What it is cast to.
        row_shape: The shape of one row of it, None for a dimension of any length; None where nothing is declared.
    """

    name: str
    dtype: np.dtype[Any]
    row_shape: tuple[int | None, ...] | None

    def row(self, value: Any) -> Array:
        """One row, from what a caller gave for it.

        Raises:
            InvalidInputError: It is of another shape or cannot be cast without loss.
        """
        array = self._cast(value)
        expected = self.row_shape
        if expected is None or self._is_of(array.shape, expected):
            return array
        if array.size == 1 and all(length == 1 for length in expected):  # a number for a column
            return array.reshape([1] * len(expected))
        raise InvalidInputError(
            f"the input for {self.name} has the shape {array.shape}; expected {_shown(expected)} for one row.",
            field=self.name,
        )

    def table(self, rows: Array) -> Array | None:
        """All rows at once, where they are a table of this input's shape; else None."""
        if self.row_shape is None or rows.ndim != len(self.row_shape) + 1:
            return None
        return self._cast(rows) if self._is_of(rows.shape[1:], self.row_shape) else None

    @staticmethod
    def _is_of(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
        return len(shape) == len(expected) and all(
            length is None or length == given for given, length in zip(shape, expected, strict=True)
        )

    def _cast(self, value: Any) -> Array:
        try:
            given = np.asarray(value)
            if given.dtype == self.dtype and given.dtype.kind != "O":
                return given
            if self.dtype.kind == "O":
                return self._text(given)
            if given.dtype.kind not in NUMBERS:
                raise TypeError(f"it is {given.dtype}")
            with np.errstate(all="ignore"):  # what is lost is looked for, below
                cast = given.astype(self.dtype)
                is_lost = (cast != given).any() if self.dtype.kind in "iub" else self._is_out_of_range(given, cast)
        except (TypeError, ValueError) as error:
            raise self._refusal(value, str(error)) from error
        if is_lost:
            raise self._refusal(value, "it would be changed")
        return cast

    @staticmethod
    def _is_out_of_range(given: Array, cast: Array) -> bool:
        is_infinite = np.isinf(cast)
        return bool(is_infinite.any()) and not np.isinf(given.astype(np.float64)[is_infinite]).all()

    def _text(self, given: Array) -> Array:
        found = given.astype(np.object_)
        if not all(isinstance(item, str) for item in found.flat):
            raise TypeError("expected text")
        return found

    def _refusal(self, value: Any, why: str) -> InvalidInputError:
        expected = "text" if self.dtype.kind == "O" else self.dtype.name
        return InvalidInputError(
            f"the input for {self.name} is a {type(value).__name__} that is no {expected} ({why}).", field=self.name
        )


@final
class Runner:
    """Asks a session for rows, and finds answers and confidences among its outputs.

    *Thread safety*: yes, as a session has it.

    Args:
        get_session: Gives the session.
        value: The output with the answers; None for the first.
        probabilities: The output with the probabilities of the classes; None for the one beside the label, where a
            converted classifier has one.

    Attributes:
        probabilities: The name of that output, or None.
        takes_tables: Whether the graph's only input is a table.
        takes_names: Whether it has several inputs, given by name.

    Raises:
        UnsupportedModelError: The graph takes or answers what is no table, or has no such output.
    """

    def __init__(self, get_session: Callable[[], Any], value: str | None, probabilities: str | None) -> None:
        self._get_session = get_session
        session = get_session()
        declared = {output.name: output for output in session.get_outputs()}
        for named in (value, probabilities):
            if named is not None and named not in declared:
                raise UnsupportedModelError(
                    f"the graph has no output {named!r}; it has {', '.join(declared)}.",
                    hint="Name one of these, or none.",
                )
        self._value = next(iter(declared)) if value is None else value
        self.probabilities = _beside(declared, self._value) if probabilities is None else probabilities
        self._taken = tuple(_taken(input) for input in session.get_inputs())
        self._size = _batch_size(session.get_inputs())
        (first, *others) = self._taken
        self.takes_names = bool(others)
        self.takes_tables = not others and first.row_shape is not None and len(first.row_shape) == 1

    def answers(self, inputs: Sequence[Any], with_confidences: bool) -> tuple[list[Any], list[float | None]]:
        """An answer for each input and, where asked for, its confidence.

        Raises:
            InvalidInputError: An input is not what the graph takes.
            PredictionExceptionError: There is not one answer for each.
        """
        count, names = len(inputs), [self._value]
        if with_confidences and self.probabilities is not None:
            names.append(self.probabilities)
        tables = self._tables(inputs)
        answers: list[Any] = []
        confidences: list[float | None] = []
        size = self._size or count
        for begin in range(0, count, size):
            held = min(size, count - begin)
            found = self._get_session().run(names, {name: _piece(table, begin, size) for name, table in tables.items()})
            answers += answers_of_each(_flat(found[0]), size)[:held]
            if len(names) > 1:
                confidences += [_confidence(row) for row in answers_of_each(found[1], size)[:held]]
        return answers, confidences

    def _tables(self, inputs: Any) -> dict[str, Array]:
        (first, *others) = self._taken
        if is_frame(inputs):
            inputs = inputs.to_dict("records") if others else inputs.to_numpy()
        if isinstance(inputs, np.ndarray) and not others:
            table = first.table(inputs)
            if table is not None:
                return {first.name: table}
        rows = [self._row(input) for input in inputs]
        try:
            return {taken.name: np.stack([row[taken.name] for row in rows]) for taken in self._taken}
        except ValueError as error:
            raise InvalidInputError(
                f"the inputs are not alike and make no table ({error}).", hint="Give every input the same shape."
            ) from error

    def _row(self, input: Any) -> dict[str, Array]:
        (first, *others) = self._taken
        if not isinstance(input, Mapping):
            if not others:
                return {first.name: first.row(_without_frame(input))}
            if not hasattr(input, "to_dict") or is_frame(input):
                raise self._by_name()
            input = input.to_dict()  # a series
        for taken in self._taken:
            if taken.name not in input:
                raise self._by_name(taken.name)
        return {taken.name: taken.row(input[taken.name]) for taken in self._taken}

    def _by_name(self, missing: str | None = None) -> InvalidInputError:
        names = ", ".join(taken.name for taken in self._taken)
        given = "is no mapping" if missing is None else f"has no {missing}"
        return InvalidInputError(f"the input {given}; expected a value by name for {names}.", field=missing)


def _taken(declared: Any) -> Taken:
    if declared.type not in DTYPES:
        raise UnsupportedModelError(
            f"the graph's input {declared.name} is a {declared.type}; expected one of {', '.join(DTYPES)}.",
            hint="Give the server predictor=, which may call the session as it likes.",
        )
    row_shape = tuple(length if isinstance(length, int) else None for length in declared.shape[1:])
    return Taken(declared.name, np.dtype(DTYPES[declared.type]), row_shape if declared.shape else None)


def _batch_size(declared: Sequence[Any]) -> int | None:
    """How many rows the graph takes at once; None for any number."""
    sizes = {input.shape[0] for input in declared if input.shape and isinstance(input.shape[0], int)}
    if len(sizes) > 1:
        raise UnsupportedModelError(
            f"the graph's inputs have {' and '.join(map(str, sorted(sizes)))} rows; expected as many of each.",
            hint="Give the server predictor=, which may call the session as it likes.",
        )
    return sizes.pop() if sizes else None


def _beside(declared: Mapping[str, Any], value: str) -> str | None:
    """The output with the probabilities, as converters of classifiers place it: after the label."""
    if declared[value].type not in LABEL_TYPES:
        return None
    for name, output in declared.items():
        if output.type.startswith(MAP_PREFIX):
            return name
        if output.type in PROBABILITY_TYPES and len(output.shape) == 2 and "prob" in name.lower():
            return name
    return None


def _piece(table: Array, begin: int, size: int) -> Array:
    """So many rows of a table; its last row again, where there are too few."""
    piece = table[begin : begin + size]
    missing = size - len(piece)
    return np.concatenate([piece, np.repeat(piece[-1:], missing, axis=0)]) if missing else piece


def _flat(answers: Any) -> Any:
    return answers[:, 0] if isinstance(answers, np.ndarray) and answers.ndim == 2 and answers.shape[1] == 1 else answers


def _confidence(row: Any) -> float | None:
    probabilities = np.array(list(row.values()) if isinstance(row, Mapping) else row, np.float64)
    largest = float(probabilities.max(initial=-np.inf))
    return largest if abs(float(probabilities.sum()) - 1.0) <= SUM_TOLERANCE and probabilities.min() >= 0.0 else None


def _without_frame(input: Any) -> Any:
    if not is_frame(input):
        return input
    rows = input.to_numpy()
    if len(rows) != 1:
        raise InvalidInputError(f"the input is a frame of {len(rows)} rows; expected one row.")
    return rows[0]


def _shown(shape: tuple[int | None, ...]) -> str:
    return f"({', '.join('any' if length is None else str(length) for length in shape)}{',' * (len(shape) == 1)})"
