"""How long a version's calls take, as far as is known: what decides who runs them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlserve import InMemoryModelRepository
from mlserve.serving._dispatch import adapt
from mlserve.serving._loaded import LEAST_MS, OUTLIER, LoadedVersion
from mlserve.serving._pace import AVERAGE_WEIGHT

times = st.floats(0.0, 1e6)


def learned(took_ms: Sequence[float]) -> LoadedVersion:
    loaded = LoadedVersion(InMemoryModelRepository[object]().register(sum), adapt(sum, None, None), None, False, None)
    for each in took_ms:
        loaded.learn(each)
    return loaded


def typical(took_ms: Sequence[float]) -> float:
    found = learned(took_ms).typical_ms
    assert found is not None
    return found


def test_the_first_call_is_typical() -> None:
    """Nothing else is known then."""
    assert typical([5.0]) == 5.0


def test_a_call_that_was_held_up_says_little() -> None:
    """One call of 5 ms among many of 0.1 ms, as where the interpreter was another thread's, changes it by a tenth."""
    assert typical([0.1] * 20 + [5.0]) == pytest.approx(0.1 * (1 + AVERAGE_WEIGHT * (OUTLIER - 1)))


def test_a_long_call_is_known_at_once() -> None:
    """The average that tells whether an event loop may wait for a call rises with the first long one."""
    assert learned([0.1] * 20 + [20.0]).average_ms == pytest.approx(0.1 + AVERAGE_WEIGHT * 19.9)


def test_calls_that_have_become_longer_are_followed() -> None:
    """From 0.1 to 10 ms what is typical is more than half the way after fifty calls."""
    assert typical([0.1] * 20 + [10.0] * 50) > 5.0


def test_it_leaves_nothing() -> None:
    """Where calls took no time at all, as a clock that stands tells, those that do are still followed."""
    assert typical([0.0] * 20 + [10.0] * 100) > 5.0


@given(st.lists(times, min_size=1, max_size=50))
def test_it_lies_between_the_shortest_and_the_longest(took_ms: list[float]) -> None:
    """What is typical is no less than the shortest call and no more than the longest."""
    assert min(took_ms) <= typical(took_ms) * (1 + 1e-9)
    assert typical(took_ms) <= max(took_ms) * (1 + 1e-9)


@given(st.floats(LEAST_MS, 1e3), st.floats(0.0, 1.0))
def test_shorter_calls_count_in_full(before: float, share: float) -> None:
    """A call shorter than what is typical pulls that down with all its weight."""
    assert typical([before, share * before]) == pytest.approx(before * (1 - AVERAGE_WEIGHT * (1 - share)))
