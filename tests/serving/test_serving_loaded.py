"""How long a version's calls take, as far as is known: what decides who runs them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlserve import InMemoryModelRepository
from mlserve.serving._dispatch import adapt
from mlserve.serving._loaded import AVERAGE_WEIGHT, LEAST_MS, OUTLIER, LoadedVersion

times = st.floats(0.0, 1e6)


def learned(took_ms: Sequence[float]) -> LoadedVersion:
    loaded = LoadedVersion(InMemoryModelRepository[object]().register(sum), adapt(sum, None, None), None, False, None)
    for each in took_ms:
        loaded.learn(each)
    return loaded


def average(took_ms: Sequence[float]) -> float:
    found = learned(took_ms).average_ms
    assert found is not None
    return found


def test_the_first_call_is_the_average() -> None:
    """Nothing else is known then."""
    assert average([5.0]) == 5.0


def test_a_call_that_was_held_up_says_little() -> None:
    """One call of 5 ms among many of 0.1 ms, as where the interpreter was another thread's, changes it by a tenth."""
    assert average([0.1] * 20 + [5.0]) == pytest.approx(0.1 * (1 + AVERAGE_WEIGHT * (OUTLIER - 1)))


def test_calls_that_have_become_longer_are_followed() -> None:
    """From 0.1 to 10 ms the average is more than half the way after fifty calls."""
    assert average([0.1] * 20 + [10.0] * 50) > 5.0


def test_it_leaves_nothing() -> None:
    """Where calls took no time at all, as a clock that stands tells, the average still follows those that do."""
    assert average([0.0] * 20 + [10.0] * 100) > 5.0


@given(st.lists(times, min_size=1, max_size=50))
def test_it_lies_between_the_shortest_and_the_longest(took_ms: list[float]) -> None:
    """An average is no less than the shortest and no more than the longest."""
    assert min(took_ms) <= average(took_ms) * (1 + 1e-9)
    assert average(took_ms) <= max(took_ms) * (1 + 1e-9)


@given(st.floats(LEAST_MS, 1e3), st.floats(0.0, 1.0))
def test_shorter_calls_count_in_full(before: float, share: float) -> None:
    """A call shorter than the average pulls it down with all its weight."""
    assert average([before, share * before]) == pytest.approx(before * (1 - AVERAGE_WEIGHT * (1 - share)))
