"""Requests as columns: taken in the order in which they came, whole or in parts, and nobody who went away."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlserve.clocks import ManualClock
from mlserve.records import ModelVersion
from mlserve.serving._adapters import Adapter
from mlserve.serving._asked import Asked, Columns, Parked
from mlserve.serving._loaded import LoadedVersion
from mlserve.serving._waiters import Waiter

LOADED = LoadedVersion(
    ModelVersion("1", ManualClock().now()), Adapter(float, "callable"), None, validated=False, example=None
)


def asked(numbers: list[int], *, as_table: bool = True) -> Asked:
    """Requests whose inputs, ids and times tell which they are."""
    inputs = [np.array([float(number)]) for number in numbers]
    columns = Columns(
        inputs,
        [str(number) for number in numbers],
        np.array(numbers, np.float64),
        [None] * len(numbers),
        [Waiter() for _ in numbers],
        [None] * len(numbers),
    )
    return Asked(LOADED, None, columns, np.concatenate(inputs)[:, np.newaxis] if as_table else list(inputs))


def told(found: Asked) -> list[int]:
    """Which requests these are, as every column has it."""
    numbers = [int(name) for name in found.columns.ids]
    assert found.columns.started.tolist() == [float(number) for number in numbers]
    assert [row.tolist() for row in found.columns.inputs] == [[float(number)] for number in numbers]
    if found.together is not None:
        assert np.asarray(found.together).tolist() == [[float(number)] for number in numbers]
    return numbers


@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=6),
    takes=st.lists(st.integers(1, 8), max_size=12),
    gone=st.sets(st.integers(0, 35)),
)
def test_they_are_taken_in_order(sizes: list[int], takes: list[int], gone: set[int]) -> None:
    """However many come and are taken at a time, the order is that in which they came, and those who left are not among
    them; the count is always what waits.
    """
    parked, waiting = Parked(), list(range(sum(sizes)))
    first = 0
    for size in sizes:
        part = asked(waiting[first : first + size])
        for number, waiter in zip(waiting[first : first + size], part.columns.futures, strict=True):
            if number in gone:
                waiter.cancel()  # type: ignore[union-attr]  # it is a waiter
        parked.put(part)
        first += size
    for most in takes:
        if not waiting:
            break
        assert parked.started == waiting[0]
        taken, waiting = waiting[:most], waiting[most:]
        assert told(parked.take(most)) == [number for number in taken if number not in gone]
        assert parked.count == len(waiting)


@given(sizes=st.lists(st.integers(1, 4), max_size=5), gone=st.sets(st.integers(0, 19)))
def test_those_who_left_make_room(sizes: list[int], gone: set[int]) -> None:
    """A purge takes out whoever went away, and tells whether anybody had."""
    parked, everybody, first = Parked(), list(range(sum(sizes))), 0
    for size in sizes:
        part = asked(everybody[first : first + size])
        for place in range(size):
            if first + place in gone:
                part.columns.futures[place].cancel()
        parked.put(part)
        first += size
    stayed = [number for number in everybody if number not in gone]
    assert (parked.purge(), parked.count) == (len(stayed) < len(everybody), len(stayed))
    assert (told(parked.take(100)) if stayed else []) == stayed


@pytest.mark.parametrize("as_table", [True, False])
def test_what_the_model_is_given_is_joined_where_it_is_a_table(as_table: bool) -> None:
    """Tables of several parts are one table; anything else is made anew when it is needed."""
    joined = Asked.joined([asked([1, 2], as_table=as_table), asked([3], as_table=as_table)])
    expected: Any = [[1.0], [2.0], [3.0]] if as_table else None
    assert (None if joined.together is None else joined.together.tolist()) == expected
    assert told(joined) == [1, 2, 3]


def test_as_requests_they_are_what_they_were() -> None:
    """Each request has its input, id and time, its caller's future, and what was done with it."""
    found = asked([4, 5])
    seen: list[Any] = []
    requests = found.requests(seen.append)
    assert seen == requests
    assert [(one.prediction_id, one.started, one.input.tolist(), one.loaded is LOADED) for one in requests] == [
        ("4", 4.0, [4.0], True),
        ("5", 5.0, [5.0], True),
    ]
    assert [one.future for one in requests] == list(found.columns.futures)
