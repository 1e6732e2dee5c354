"""Policies: what they hold by default, and that a value which cannot mean anything is refused when given."""

from __future__ import annotations

import itertools
import math
from datetime import timedelta
from typing import Any

import attrs
import pytest

from mlserve import (
    Batching,
    CachePolicy,
    HealthPolicy,
    InMemoryModelMonitor,
    InMemoryModelRepository,
    Limits,
    ModelServer,
)
from mlserve.errors import InvalidArgumentError

NO_COUNTS = [0, -1, 1.5, 2.0, math.nan, math.inf, True, None, "3", [3]]
NO_DURATIONS = [-1, -0.001, math.nan, -math.inf, None, "1", timedelta(seconds=1)]
NO_SHARES = [-0.01, 1.01, 5, math.nan, math.inf, None, "0.05"]
NO_WINDOWS = [timedelta(0), timedelta(seconds=-1), 300, 300.0, None, "5 min"]

DURATIONS = ["refresh_seconds", "swap_wait_ms", "retry_seconds", "max_retry_seconds"]


def refused(policy: Any, name: str, value: Any) -> bool:
    with pytest.raises(InvalidArgumentError) as raised:
        policy(**{name: value})
    return raised.value.parameter == name and raised.value.value is value


@pytest.mark.parametrize("value", NO_COUNTS)
@pytest.mark.parametrize("name", ["max_loaded", "keep_active"])
def test_a_number_of_models_is_a_whole_number_of_at_least_one(name: str, value: Any) -> None:
    """A cache holds one, two, three, ... models."""
    assert refused(CachePolicy, name, value)


@pytest.mark.parametrize("value", NO_DURATIONS)
@pytest.mark.parametrize("name", DURATIONS)
def test_a_duration_of_the_cache_is_a_number_of_at_least_zero(name: str, value: Any) -> None:
    """Seconds and milliseconds are numbers, never negative, never NaN."""
    assert refused(CachePolicy, name, value)


@pytest.mark.parametrize("value", NO_DURATIONS)
def test_a_limit_is_a_number_of_at_least_zero(value: Any) -> None:
    """So is the time below which a model is called on the event loop."""
    assert refused(Limits, "inline_below_ms", value)


@pytest.mark.parametrize("value", NO_SHARES)
def test_an_error_rate_is_a_share(value: Any) -> None:
    """An error rate lies between 0 and 1; 5 % is 0.05."""
    assert refused(HealthPolicy, "max_error_rate", value)


@pytest.mark.parametrize("value", NO_WINDOWS)
def test_a_health_window_is_a_positive_timedelta(value: Any) -> None:
    """A window has a unit, and a length."""
    assert refused(HealthPolicy, "window", value)


@pytest.mark.parametrize(("max_loaded", "keep_active"), [(1, 2), (3, 4)])
def test_no_more_models_are_kept_than_may_be_loaded(max_loaded: int, keep_active: int) -> None:
    """A sweep cannot leave more models than start it."""
    with pytest.raises(InvalidArgumentError, match="keep_active"):
        CachePolicy(max_loaded=max_loaded, keep_active=keep_active)


def test_the_defaults_are_those_of_the_contract() -> None:
    """More than 3 loaded leave 2; 1 s between refreshes; 50 ms for a swap; 5 % over 5 minutes; 0.5 ms inline."""
    cache, health = CachePolicy(), HealthPolicy()
    assert (cache.max_loaded, cache.keep_active, cache.refresh_seconds, cache.swap_wait_ms) == (3, 2, 1.0, 50.0)
    assert (health.max_error_rate, health.window) == (0.05, timedelta(minutes=5))
    assert Limits().inline_below_ms == 0.5


@pytest.mark.parametrize("policy", [CachePolicy(), HealthPolicy(), Limits()], ids=lambda policy: type(policy).__name__)
def test_a_policy_cannot_be_changed(policy: Any) -> None:
    """A server can rely on the policy it was given."""
    field = attrs.fields(type(policy))[0].name
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(policy, field, getattr(policy, field))


@pytest.mark.parametrize("policy", [CachePolicy, HealthPolicy, Limits])
def test_a_policy_is_written_with_names(policy: Any) -> None:
    """Numbers without a name could mean anything: parameters are given by keyword."""
    with pytest.raises(TypeError):
        policy(3)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        *itertools.product(("limits", "cache", "health", "batching", "breaker"), (True, {})),
        ("batching", Batching),
        ("breaker", Limits()),
        ("concurrency", True),
    ],
    ids=str,
)
def test_an_option_of_another_kind_is_refused_by_name(parameter: str, value: Any) -> None:
    """An option that is no policy of its kind is refused when the server is built, not by a request."""
    options: Any = {parameter: value}
    with pytest.raises(InvalidArgumentError) as raised:
        ModelServer(InMemoryModelRepository(), InMemoryModelMonitor(), **options)
    assert (raised.value.parameter, raised.value.value is value) == (parameter, True)


@pytest.mark.parametrize("value", [5, "len", [len]])
def test_a_weight_is_a_function(value: Any) -> None:
    """What cannot weigh inputs is refused when it is given."""
    assert refused(Batching, "weight", value)


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "1", timedelta(seconds=1)])
def test_a_check_of_health_has_a_positive_time(value: Any) -> None:
    """A check waits for some time, or with None for as long as it takes."""
    assert refused(HealthPolicy, "timeout_ms", value)


@pytest.mark.parametrize("value", [True, False, "1", math.nan])
def test_a_time_limit_is_a_number(value: Any) -> None:
    """A time limit that is no number is a misuse, which raises."""
    server = ModelServer(InMemoryModelRepository(), InMemoryModelMonitor())
    with pytest.raises(InvalidArgumentError, match="timeout_ms"):
        server.predict(0, timeout_ms=value)
