"""Answers of several inputs as columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlserve.serving._answers import Answers


@pytest.mark.parametrize(
    ("answers", "each"),
    [
        (Answers([]), []),
        (Answers(["a", None]), ["a", None]),
        (Answers(np.array([1.5, 2.5])), [1.5, 2.5]),
        (Answers(["a", "b"], [0.5, None]), [("a", 0.5), ("b", None)]),
        (Answers(np.array([1, 2]), np.array([0.5, 0.75])), [(1, 0.5), (2, 0.75)]),
        (Answers.of([("a", 0.5), ("b", None)], has_confidence=True), [("a", 0.5), ("b", None)]),
        (Answers.of([("a", 0.5), ("b", None)], has_confidence=False), [("a", 0.5), ("b", None)]),
        (Answers.of([], has_confidence=True), []),
    ],
)
def test_each_is_what_a_single_call_gives(answers: Answers, each: list[Any]) -> None:
    """An answer, with its confidence as a pair where the model tells one."""
    assert answers.each() == each
    assert len(answers) == len(each)


def test_each_keeps_the_types_that_single_calls_have() -> None:
    """Of an array, values stay NumPy's, as a model's own answers are, and confidences are plain floats."""
    ((value, confidence),) = Answers(np.array([1]), np.array([0.5])).each()
    assert (type(value), type(confidence)) == (np.int64, float)


@pytest.mark.parametrize(
    ("parts", "each"),
    [
        ([Answers([1]), Answers(np.array([2.5]))], [1, 2.5]),
        ([Answers(np.array([1, 2])), Answers(np.array([3]))], [1, 2, 3]),
        ([Answers(np.array(["a"])), Answers(np.array(["bcd"]))], ["a", "bcd"]),
        ([Answers(["a"], [None]), Answers(["b"], np.array([0.5]))], [("a", None), ("b", 0.5)]),
        ([Answers(["a"], np.array([0.25])), Answers(["b"], np.array([0.5]))], [("a", 0.25), ("b", 0.5)]),
        ([Answers(["a"], [0.5])], [("a", 0.5)]),
    ],
)
def test_joined_answers_follow_each_other(parts: list[Answers], each: list[Any]) -> None:
    """Parts of the same and of different kinds make one column, in order."""
    assert Answers.joined(parts).each() == each


def test_arrays_stay_arrays() -> None:
    """Arrays of one dtype are joined as one array, which a monitor keeps as it is."""
    joined = Answers.joined([Answers(np.array([1, 2]), np.array([0.5, 0.75]))] * 2)
    assert [type(joined.values), type(joined.confidences)] == [np.ndarray] * 2


@pytest.mark.parametrize("make", [list, np.array])
def test_only_some(make: Any) -> None:
    """Rows are picked from both columns."""
    assert Answers(make([1, 2, 3]), make([0.25, 0.5, 0.75])).only([0, 2]).each() == [(1, 0.25), (3, 0.75)]
    assert Answers(make([1, 2, 3])).only([1]).each() == [2]
