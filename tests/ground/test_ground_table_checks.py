"""Checking many rows at a glance: never another verdict than checking each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlserve import ArraySchema
from mlserve.errors import InvalidInputError

N_FEATURES = 3
DTYPES = ("float64", "float32", "int64", "int32", "bool")


def checked(schema: ArraySchema, input: Any) -> Any:
    try:
        return schema.checker()(input)
    except InvalidInputError:
        return None


@st.composite
def schemas(draw: st.DrawFn) -> ArraySchema:
    dtype = draw(st.sampled_from(DTYPES))
    options: dict[str, Any] = {"allow_missing": draw(st.booleans()), "allow_infinite": draw(st.booleans())}
    ranges = draw(st.sampled_from(["off", "refuse"]))
    if ranges != "off":
        options |= {"ranges": ranges, "minimum": [-5.0, None, 0.0], "maximum": [5.0, 2.0, None]}
    return ArraySchema(shape=(N_FEATURES,), dtype=dtype, **options)


ROWS = st.one_of(
    st.lists(
        st.one_of(st.integers(-9, 9), st.floats(-9, 9), st.sampled_from([np.nan, np.inf, 1e308])),
        min_size=3,
        max_size=3,
    ).map(np.array),
    st.lists(st.integers(-9, 9), min_size=3, max_size=3).map(lambda row: np.array(row, np.int64)),
    st.lists(st.floats(-9, 9, width=32), min_size=3, max_size=3).map(lambda row: np.array(row, np.float32)),
    st.sampled_from([np.zeros(2), np.zeros((1, 3)), np.zeros(()), [1.0, 2.0, 3.0], None, "text", np.array(["a"] * 3)]),
)


@given(schema=schemas(), inputs=st.lists(ROWS, min_size=1, max_size=6))
@settings(deadline=None, max_examples=300)
def test_a_table_is_what_each_row_by_itself_comes_to(schema: ArraySchema, inputs: list[Any]) -> None:
    """Where many rows are accepted at a glance, each is accepted by itself, as the same values of the same dtype."""
    table = schema.table_checker()(inputs)
    if table is not None:
        rows = [checked(schema, input) for input in inputs]
        assert all(row is not None and row.dtype == table.dtype for row in rows)
        assert np.array_equal(table, np.stack(rows), equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_common_case_is_seen_at_a_glance(dtype: str) -> None:
    """Finite rows of the schema's own dtype and shape need no closer look."""
    rows = list(np.arange(12).reshape(4, N_FEATURES).astype(dtype))
    table = ArraySchema(shape=(N_FEATURES,), dtype=dtype).table_checker()(rows)
    assert table.tolist() == [row.tolist() for row in rows]


@pytest.mark.parametrize(
    "schema",
    [
        ArraySchema(shape=(2, 3)),
        ArraySchema(shape=(0,)),
        ArraySchema(shape=(2,), categories={0: [1, 2]}),
    ],
    ids=["two dimensions", "no feature", "categories"],
)
def test_some_schemas_look_at_each_input(schema: ArraySchema) -> None:
    """A schema of more dimensions, of none, or with categories has no check of whole tables."""
    assert schema.table_checker() is None


def test_the_rows_may_be_changed_afterwards() -> None:
    """The table shares no memory with the inputs."""
    row = np.ones(N_FEATURES)
    table = ArraySchema(shape=(N_FEATURES,)).table_checker()([row, row])
    row[:] = 9.0
    assert table.tolist() == [[1.0] * N_FEATURES] * 2


@pytest.mark.parametrize("dtype", [">f8", ">i4"])
def test_rows_of_another_byte_order_are_looked_at_one_by_one(dtype: str) -> None:
    """Rows that are not of the machine's byte order make no table at a glance; each by itself is what it is."""
    schema = ArraySchema(shape=(N_FEATURES,), dtype="float64")
    rows = [np.arange(N_FEATURES).astype(dtype) for _ in range(2)]
    check = schema.table_checker()
    assert check is not None
    assert (check(rows), checked(schema, rows[0]).tolist()) == (None, [0.0, 1.0, 2.0])
