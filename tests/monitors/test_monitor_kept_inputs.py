"""Inputs of a block, of which some were kept: told row by row they are what came."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlserve.monitors._kept import MOST_BYTES, Dropped, KeptInputs, Thinned, compact, compacted

VALUES = (
    st.integers(-9, 9)
    | st.none()
    | st.text(max_size=2)
    | st.lists(st.floats(allow_nan=False), max_size=2)
    | st.lists(st.floats(-9, 9), min_size=0, max_size=3).map(np.array)
    | st.lists(st.integers(-9, 9), min_size=2, max_size=2).map(lambda row: np.array(row, np.int64))
)
ROWS = st.lists(st.floats(-9, 9), min_size=2, max_size=2).map(np.array)
CUTS = st.sampled_from([0.5, 0.75, 0.875])


def blocks(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """Inputs as they wait."""
    return st.lists(values | st.builds(Thinned, CUTS, values) | st.builds(Dropped, CUTS), min_size=1, max_size=9)


def shown(value: Any) -> Any:
    """What an event shows of an input that waits, in a form that compares."""
    value = value.input if isinstance(value, Thinned) else None if isinstance(value, Dropped) else value
    return (value.dtype.str, value.tolist()) if isinstance(value, np.ndarray) else value


def told(kept: KeptInputs) -> list[Any]:
    return [shown(kept.get(row)) for row in range(len(kept))]


def cut_of(value: Any) -> float | None:
    """The cut by which an input was kept; None of one that was not."""
    return None if isinstance(value, Dropped) else value.cut if isinstance(value, Thinned) else 0.0


def cuts(kept: KeptInputs) -> list[float | None]:
    if kept.rows is None or kept.cuts is None:
        return [0.0] * len(kept)
    known = dict(zip(kept.rows.tolist(), kept.cuts.tolist(), strict=True))
    return [known.get(row) for row in range(len(kept))]


@given(inputs=blocks(VALUES) | blocks(ROWS))
def test_every_input_is_told_as_it_came(inputs: list[Any]) -> None:
    """Inputs of any kind are given back one by one, with the cut by which each was kept; None where it was not."""
    kept = KeptInputs.of(inputs)
    assert told(kept) == [shown(value) for value in inputs]
    assert cuts(kept) == [cut_of(value) for value in inputs]
    assert kept.highest == max((value.cut for value in inputs if isinstance(value, (Thinned, Dropped))), default=0.0)


@given(parts=st.lists(blocks(VALUES) | blocks(ROWS), min_size=1, max_size=4))
def test_joined_inputs_follow_each_other(parts: list[list[Any]]) -> None:
    """Joining blocks gives what their inputs would have given as one block."""
    joined = KeptInputs.joined([KeptInputs.of(part) for part in parts])
    whole = KeptInputs.of([value for part in parts for value in part])
    assert (told(joined), cuts(joined), joined.highest) == (told(whole), cuts(whole), whole.highest)


@given(inputs=blocks(VALUES) | blocks(ROWS), data=st.data())
def test_only_some_are_told_as_before(inputs: list[Any], data: st.DataObject) -> None:
    """Rows that are picked keep their inputs and their cuts."""
    rows = sorted(data.draw(st.sets(st.integers(0, len(inputs) - 1))))
    kept = KeptInputs.of(inputs).only(rows)
    assert told(kept) == [shown(inputs[row]) for row in rows]
    assert cuts(kept) == [cut_of(inputs[row]) for row in rows]


@pytest.mark.parametrize(
    ("values", "shape"),
    [
        ([np.zeros(2), np.ones(2)], (2, 2)),
        ([np.zeros(2, bool), np.ones(2, bool)], (2, 2)),
        ([np.zeros(2), np.ones(3)], (2,)),
        ([np.zeros(2), np.ones(2, np.float32)], (2,)),
        ([np.zeros(2), [1.0, 1.0]], (2,)),
        ([np.zeros((1, 2)), np.zeros((1, 2))], (2,)),
        ([np.zeros(2), np.zeros((1, 2))], (2,)),
        ([np.array(1.0), np.array(2.0)], (2,)),
        ([np.zeros(0), np.zeros(0)], (2,)),
        ([np.array(["a"]), np.array(["b"])], (2,)),
        ([np.array([None]), np.array([None])], (2,)),
        ([np.zeros(MOST_BYTES // 8), np.zeros(MOST_BYTES // 8)], (2, MOST_BYTES // 8)),
        ([np.zeros(MOST_BYTES // 8 + 1)] * 2, (2,)),
        ([], (0,)),
    ],
)
def test_rows_of_numbers_alike_are_a_table(values: list[Any], shape: tuple[int, ...]) -> None:
    """Short rows of one length and one dtype of numbers make a table; anything else is kept one by one."""
    assert compact(values).shape == shape


@pytest.mark.parametrize(
    ("table", "shape"),
    [
        (np.arange(6.0).reshape(3, 2), (3, 2)),
        (np.arange(6).reshape(3, 2) > 2, (3, 2)),
        (np.zeros((2, MOST_BYTES // 8 + 1)), (2,)),
        (np.array([["a"], ["b"]]), (2,)),
        (np.zeros((2, 0)), (2,)),
        (np.zeros((2, 2, 2)), (2,)),
        (np.zeros(2), (2,)),
    ],
)
def test_a_table_is_copied(table: np.ndarray, shape: tuple[int, ...]) -> None:
    """A table of short rows of numbers is copied as a whole; any other array is taken row by row."""
    taken = compact(table)
    assert (taken.shape, [np.asarray(row).tolist() for row in taken]) == (shape, table.tolist())
    assert taken.ndim == 1 or not np.shares_memory(taken, table)


def test_a_table_is_not_held_by_a_row_of_it() -> None:
    """Where a table and other values are joined its rows are copied: one that stays does not keep all."""
    joined = compacted([np.arange(6.0).reshape(3, 2), compact(["text"])])
    assert [value.tolist() if isinstance(value, np.ndarray) else value for value in joined] == [
        [0.0, 1.0], [2.0, 3.0], [4.0, 5.0], "text",
    ]  # fmt: skip
    assert all(value.base is None for value in joined[:3])


def test_nothing_joined_is_nothing() -> None:
    """Parts of which none holds a value give no value."""
    assert compacted([np.empty(0, object), np.empty((0, 2))]).tolist() == []
