"""What the streams take, and what they refuse with an error of ours."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlserve.drift._error_streams import ErrorRateStream
from mlserve.drift._seasonal import SeasonalDriftStream
from mlserve.drift._spending import AlphaSpending
from mlserve.drift._streams import DriftStream
from mlserve.errors import InvalidArgumentError
from mlserve.records import InputSample

REFERENCE = np.random.default_rng(0).normal(size=(100, 2))
FRAME = pd.DataFrame(REFERENCE, columns=["age", "income"])


@pytest.mark.parametrize("alpha", [0, 1, -0.1, 1.5, math.nan, math.inf, "0.01", None, True])
def test_alpha_lies_strictly_between_0_and_1(alpha: Any) -> None:
    """No other alpha is taken, by any stream."""
    for build in (
        lambda: DriftStream(REFERENCE, alpha=alpha),
        lambda: ErrorRateStream(1, 10, alpha=alpha),
        lambda: SeasonalDriftStream(REFERENCE, np.zeros(100, int), alpha=alpha),
        lambda: AlphaSpending(alpha),
    ):
        with pytest.raises(InvalidArgumentError) as caught:
            build()
        assert caught.value.parameter == "alpha"


@pytest.mark.parametrize("value", [0, 0.5, -3, math.nan, math.inf, "1000", True])
def test_a_mean_time_is_a_number_of_rows(value: Any) -> None:
    """Less than one row, infinity and what is no number are refused."""
    with pytest.raises(InvalidArgumentError) as caught:
        DriftStream(REFERENCE, mean_time_to_false_alarm=value)
    assert caught.value.parameter == "mean_time_to_false_alarm"


@pytest.mark.parametrize("seed", [-1, 1.5, "0", None, True])
def test_a_seed_is_a_whole_number(seed: Any) -> None:
    """Negative and other seeds are refused."""
    with pytest.raises(InvalidArgumentError) as caught:
        DriftStream(REFERENCE, seed=seed)
    assert caught.value.parameter == "seed"


@pytest.mark.parametrize(
    "reference",
    [
        pytest.param(np.empty((0, 2)), id="no rows"),
        pytest.param([], id="nothing"),
        pytest.param(None, id="None"),
        pytest.param(5.0, id="a number"),
        pytest.param([[1.0, 2.0]], id="one row"),
        pytest.param(np.empty((5, 0)), id="no columns"),
        pytest.param(np.zeros((3, 2, 2)), id="three axes"),
        pytest.param([[1.0, 2.0], [3.0]], id="ragged"),
        pytest.param([["a"], ["b"]], id="text"),
        pytest.param(np.array([["a", 1.0], ["b", 2.0]], dtype=object), id="object column"),
        pytest.param(np.array([[1 + 2j], [2.0]]), id="complex"),
        pytest.param(np.ma.masked_invalid(np.array([[1 + 2j], [2.0]])), id="masked complex"),
        pytest.param(np.array(["2024-01-01", "2024-01-02"], dtype="datetime64[D]"), id="times"),
        pytest.param([[10**400], [1]], id="too large for a float"),
        pytest.param({"a": [1.0, 2.0]}, id="dict"),
        pytest.param(np.zeros(4, dtype=[("a", float), ("b", float)]), id="structured"),
        pytest.param(pd.DataFrame({"a": ["x", "y"], "b": [1.0, 2.0]}), id="frame with text"),
    ],
)
def test_a_reference_is_a_table_of_at_least_two_rows_of_numbers(reference: Any) -> None:
    """Everything else is refused, by name."""
    with pytest.raises(InvalidArgumentError) as caught:
        DriftStream(reference)
    assert caught.value.parameter == "reference"


def test_the_column_that_is_no_number_is_named() -> None:
    """The message says which column it is and what it holds."""
    with pytest.raises(InvalidArgumentError, match="column 'city' holds str"):
        DriftStream(pd.DataFrame({"age": [1.0, 2.0], "city": ["x", "y"]}))


@pytest.mark.parametrize(
    "names",
    [["a", "a"], ["a"], ["a", "b", "c"], [1, 2], "ab", []],
    ids=["twice", "few", "many", "ints", "text", "none"],
)
def test_names_are_distinct_strings_one_a_feature(names: Any) -> None:
    """Repeated, missing and other names are refused."""
    with pytest.raises(InvalidArgumentError) as caught:
        DriftStream(REFERENCE, feature_names=names)
    assert caught.value.parameter == "feature_names"


def test_a_frame_whose_columns_repeat_is_refused() -> None:
    """Its names are no names."""
    with pytest.raises(InvalidArgumentError):
        DriftStream(pd.DataFrame(REFERENCE, columns=["a", "a"]))


@pytest.mark.parametrize(
    "rows",
    [np.zeros((5, 3)), np.zeros((5, 1)), np.zeros(3), np.zeros((1, 2, 2)), 5.0, None, [["a", 1.0]], [[1.0], [2.0, 3.0]],
     "ab", {"x0": 1.0}, np.zeros((0, 3))],
)  # fmt: skip
def test_rows_have_the_width_of_the_reference(rows: Any) -> None:
    """Rows of another width, or of no numbers, are refused, and nothing is taken in."""
    stream = DriftStream(REFERENCE)
    state = stream.to_state()
    with pytest.raises(InvalidArgumentError):
        stream.update(rows)
    assert stream.to_state() == state


@pytest.mark.parametrize("nothing", [np.empty((0, 2)), [], np.empty(0)])
def test_no_rows_change_nothing(nothing: Any) -> None:
    """An empty chunk gives the status there was."""
    stream = DriftStream(REFERENCE)
    status = stream.update(REFERENCE[:20])
    assert stream.update(nothing) == status


def test_one_row_and_one_feature_need_no_second_axis() -> None:
    """(d,) is one row; of a single feature (n,) is n values and a number is one."""
    wide, narrow = DriftStream(REFERENCE), DriftStream(REFERENCE[:, 0])
    assert wide.update(REFERENCE[0]) == DriftStream(REFERENCE).update(REFERENCE[:1])
    assert narrow.update(REFERENCE[:5, 0]).n == 5
    assert narrow.update(1.5).n == 6


@pytest.mark.parametrize(
    "convert",
    [
        pytest.param(lambda values: values.astype(object), id="objects"),
        pytest.param(lambda values: values.tolist(), id="lists"),
        pytest.param(lambda values: np.where(np.isnan(values), None, values), id="None"),
        pytest.param(lambda values: np.ma.masked_invalid(values), id="masked"),
        pytest.param(lambda values: np.ma.masked_invalid(values).astype(object), id="masked objects"),
        pytest.param(lambda values: pd.DataFrame(values), id="frame"),
        pytest.param(lambda values: pd.DataFrame(values).convert_dtypes(), id="frame with pandas.NA"),
        pytest.param(lambda values: InputSample(values), id="sample"),
    ],
)
def test_numbers_are_taken_in_any_wrapping(convert: Callable[[Any], Any]) -> None:
    """Objects, lists, None for missing, masked arrays, frames and samples give what plain arrays give."""
    values = np.round(REFERENCE, 1)
    values[::7, 1] = np.nan
    stream = DriftStream(convert(values))
    rows = convert(values[:30])
    rows = rows.rows if isinstance(rows, InputSample) else rows
    assert stream.update(rows).evidence == DriftStream(values).update(values[:30]).evidence


def test_a_frame_brings_its_names() -> None:
    """Columns are the feature names, unless others are given; a sample brings its own."""
    assert DriftStream(FRAME).feature_names == ("age", "income")
    assert DriftStream(FRAME, feature_names=["a", "b"]).feature_names == ("a", "b")
    assert DriftStream(InputSample(REFERENCE, ("p", "q"))).feature_names == ("p", "q")


@pytest.mark.parametrize("columns", [["income", "age"], ["age", "wage"]])
def test_a_frame_with_other_columns_is_refused(columns: list[str]) -> None:
    """Columns in another order, or of other names, are refused; arrays and the same columns are taken."""
    stream = DriftStream(FRAME)
    with pytest.raises(InvalidArgumentError, match="in this order"):
        stream.update(pd.DataFrame(REFERENCE, columns=columns))
    assert stream.update(FRAME).n == 100
    assert stream.update(REFERENCE).n == 200


def test_names_alone_protect_against_swapped_columns() -> None:
    """With names given to an array, a frame with the same names in another order is refused."""
    stream = DriftStream(REFERENCE, feature_names=["age", "income"])
    with pytest.raises(InvalidArgumentError, match="in this order"):
        stream.update(FRAME[["income", "age"]])
    assert stream.update(FRAME).n == 100


@given(
    data=st.data(),
    dtype=st.sampled_from(["f2", "f4", "f8", "i1", "i8", "u8", "?", "longdouble", "c8", "U3", "O", "M8[s]", "m8[s]"]),
)
@settings(deadline=None, max_examples=100)
def test_no_table_breaks_a_stream(data: st.DataObject, dtype: str) -> None:
    """Arrays of any dtype and shape, as reference and as rows: an error of ours, or a status without NaN."""
    shape = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6)
    objects = st.one_of(st.none(), st.floats(), st.integers(), st.booleans(), st.text(max_size=2))
    elements = objects if dtype == "O" else None
    reference = data.draw(hnp.arrays(dtype, shape, elements=elements))
    rows = data.draw(hnp.arrays(dtype, shape, elements=elements))
    try:
        stream = DriftStream(reference)
        status = stream.update(rows)
    except InvalidArgumentError:
        return
    assert math.isfinite(status.evidence)
    assert DriftStream.from_state(stream.to_state()).status == status


GOOD: dict[str, Callable[[], Any]] = {
    "DriftStream": lambda: DriftStream(REFERENCE),
    "ErrorRateStream": lambda: ErrorRateStream(3, 100),
    "SeasonalDriftStream": lambda: SeasonalDriftStream(REFERENCE, np.arange(100) % 2, n_buckets=2),
    "AlphaSpending": AlphaSpending,
}


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("state", [None, [], {}, {"kind": "other", "format": 1}, "text"])
def test_what_is_no_state_is_refused(kind: str, state: Any) -> None:
    """Anything but the state of the same kind is refused."""
    with pytest.raises(InvalidArgumentError) as caught:
        type(GOOD[kind]()).from_state(state)
    assert caught.value.parameter == "state"


@pytest.mark.parametrize("kind", GOOD)
def test_a_state_of_another_format_is_refused(kind: str) -> None:
    """A format number that this version does not write is refused."""
    state = GOOD[kind]().to_state() | {"format": 99}
    with pytest.raises(InvalidArgumentError, match="format"):
        type(GOOD[kind]()).from_state(state)


@pytest.mark.parametrize("kind", GOOD)
def test_a_state_that_lacks_a_part_is_refused(kind: str) -> None:
    """Whichever part is taken away, at the top or one level below, the rest is refused."""
    whole = GOOD[kind]().to_state()
    paths = [(key,) for key in whole] + [
        (key, inner) for key, part in whole.items() if isinstance(part, dict) for inner in part
    ]
    for path in paths:
        if kind == "SeasonalDriftStream" and path[0] == "streams" and len(path) == 2:
            continue  # a state with fewer buckets is one
        state = copy.deepcopy(whole)
        part = state
        for key in path[:-1]:
            part = part[key]
        del part[path[-1]]
        with pytest.raises(InvalidArgumentError):
            type(GOOD[kind]()).from_state(state)


def test_a_state_whose_arrays_do_not_fit_is_refused() -> None:
    """Numbers that no stream leads to are refused: gaps that do not count the rows, other shapes, negative fortunes."""
    stream = DriftStream(REFERENCE)
    stream.update(REFERENCE[:10])
    for path, value in [
        (("gaps",), [1, 2]), (("cuts",), [[1.0]]), (("watch", "count"), 11), (("watch", "peak"), [-1.0, 1.0]),
        (("watch", "fortunes"), [[1.0]]), (("alpha",), 2.0), (("feature_names",), ["a", "a"]),
    ]:  # fmt: skip
        state = stream.to_state()
        part: Any = state
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = value
        with pytest.raises(InvalidArgumentError):
            DriftStream.from_state(state)
