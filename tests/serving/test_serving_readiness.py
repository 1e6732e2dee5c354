"""Liveness and readiness; warm-up before traffic; how much memory the models may take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from serving_doubles import Answering, FullRepository, InThread, MakingRepository, Tallied, background_ended

from mlserve import CachePolicy, ErrorKind, InMemoryModelMonitor, InMemoryModelRepository, ModelServer
from mlserve.clocks import ManualClock
from mlserve.errors import InvalidArgumentError
from mlserve.records import Baseline, PredictionSample
from mlserve.serving._sizes import size_of

Host = Callable[..., Tallied]


# ------------------------------------------------------------------------------------------------------------ probes


def test_a_server_lives_until_it_is_closed(tallied: Host) -> None:
    """Whatever else is wrong, an open server is live; a closed one is neither live nor ready."""
    repository = FullRepository()
    repository.broken["get_latest_version"] = OSError("down")
    server = tallied(repository)
    assert (server.is_live(), sum(repository.calls.values())) == (True, 0)
    server.close()
    assert (server.is_live(), server.is_ready()) == (False, False)


def test_empty_is_not_ready(tallied: Host) -> None:
    """A server with nothing registered is not ready, and is as soon as there is a version that answers."""
    repository = InMemoryModelRepository()
    server = tallied(repository)
    assert not server.is_ready()
    repository.register(lambda x: x, example=1)
    assert server.is_ready()


def test_ready_is_loaded_and_predicted(host: Host) -> None:
    """A version is ready once it has answered its example; after that it is not asked again."""
    seen: list[Any] = []

    def model(input: Any) -> Any:
        seen.append(input)
        return input

    server = host(model, example=3)
    assert [server.is_ready() for _ in range(5)] == [True] * 5
    assert seen == [3]


def test_what_fails_its_example_is_not_ready(host: Host) -> None:
    """A version that cannot answer is tried at each probe, until it can."""
    answers = iter([ValueError("cold"), ValueError("cold"), 1])

    def model(input: Any) -> Any:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    server = host(model, synthetic_input=0)
    assert [server.is_ready() for _ in range(4)] == [False, False, True, True]


def test_a_version_without_anything_to_try_is_believed(host: Host) -> None:
    """With neither an example nor an input made from a schema, being loaded is all that can be asked."""
    assert host(lambda x: x).is_ready()


@pytest.mark.parametrize("where", ["get_latest_version", "describe"])
def test_a_repository_that_is_down_is_not_ready(where: str, tallied: Host) -> None:
    """What cannot be loaded is not ready; the probe does not raise."""
    repository = FullRepository()
    repository.register(lambda x: x, example=1)
    repository.broken[where] = OSError("down")
    server = tallied(repository)
    assert not server.is_ready()
    del repository.broken[where]
    assert server.is_ready()


def test_a_probe_is_no_traffic(host: Host) -> None:
    """Probes are not counted as requests."""
    server = host(lambda x: x, example=1)
    server.is_ready()
    assert server.statistics().accepted == 0


def test_ready_during_a_swap(tallied: Host) -> None:
    """A server that answers with the old version while the new one loads is ready."""
    repository = FullRepository()
    repository.register(lambda x: x, example=1)
    server = tallied(repository, cache=CachePolicy(swap_wait_ms=0))
    assert server.is_ready()
    gate = repository.gate("2")
    repository.register(lambda x: -x, example=1)
    assert server.is_ready()
    gate.wait_until_reached()
    assert (server.predict(5).value, server.is_ready()) == (5, True)
    gate.open()
    background_ended()
    assert (server.predict(5).value, server.is_ready()) == (-5, True)


# ----------------------------------------------------------------------------------------------------------- warm-up


class WarmingUp:
    """Notes what is done with it; its warm-up raises what it is given."""

    def __init__(self, raised: Exception | None = None) -> None:
        self.raised = raised
        self.done: list[str] = []

    def warm_up(self) -> None:
        self.done.append("warmed up")
        if self.raised is not None:
            raise self.raised

    def __call__(self, input: Any) -> Any:
        self.done.append("called")
        return input


def test_a_model_is_warmed_up_before_its_first_request(host: Host) -> None:
    """``warm_up`` is called once, before anything else."""
    model = WarmingUp()
    server = host(model)
    assert [server.predict(number).value for number in range(2)] == [0, 1]
    assert model.done == ["warmed up", "called", "called"]


def test_a_model_that_cannot_warm_up_is_not_served(host: Host) -> None:
    """A failing ``warm_up`` fails the load, which is tried again; the message says so."""
    model = WarmingUp(ValueError("too cold"))
    server = host(model)
    error = server.predict(0).error
    assert (error.kind, type(error.exception)) == (ErrorKind.ModelLoadFailed, ValueError)
    assert "warm up" in error.message
    model.raised = None
    assert server.predict(1).value == 1


def test_a_new_version_that_cannot_warm_up_is_not_noticed(tallied: Host) -> None:
    """The version before goes on answering, and health says why."""
    repository = InMemoryModelRepository()
    repository.register(Answering("old"))
    server = tallied(repository)
    server.predict(0)
    repository.register(WarmingUp(ValueError("too cold")))
    assert [server.predict(0).value for _ in range(10)] == ["old"] * 10
    background_ended()
    status = server.check_health()
    assert (status.is_healthy, status.current_version, "too cold" in (status.error or "")) == (True, "1", True)


def test_a_versions_own_answers_reach_the_monitor() -> None:
    """Baseline answers that a version was registered with are the monitor's before its first request, unless that has
    some already.
    """
    monitor = InMemoryModelMonitor()
    monitor.set_baseline_predictions("2", PredictionSample([7]))
    repository = InMemoryModelRepository()
    for _ in range(2):
        repository.register(lambda x: x, baseline=Baseline(predictions=PredictionSample([0, 1, 1])))
    with ModelServer(repository, monitor) as server:
        assert [server.predict(0, name).success for name in ("1", "2")] == [True, True]
    kept = [monitor.get_baseline_predictions(name) for name in ("1", "2")]
    assert [None if sample is None else sample.outputs.tolist() for sample in kept] == [[0, 1, 1], [7]]


# ------------------------------------------------------------------------------------------------------------ memory


class Heavy:
    """A model of some kilobytes."""

    def __init__(self, kilobytes: int) -> None:
        self.weights = np.zeros(kilobytes * 1024, dtype=np.uint8)

    def __call__(self, input: Any) -> Any:
        return input


def test_models_beyond_the_memory_budget_are_dropped(tallied: Host) -> None:
    """When the models together are larger than ``max_bytes`` those that need not stay are dropped."""
    repository = InMemoryModelRepository()
    for _ in range(3):
        repository.register(Heavy(100))
    server = tallied(repository, cache=CachePolicy(max_loaded=10, keep_active=1, max_bytes=250 * 1024))
    loaded = []
    for name in ("1", "2", "3"):
        server.predict(0, name)
        loaded.append(server.statistics().loaded_models)
    assert loaded == [("1",), ("1", "2"), ("3",)]


def test_a_budget_that_is_kept_drops_nothing(tallied: Host) -> None:
    """Below ``max_bytes`` models stay as the count allows."""
    repository = MakingRepository()
    for _ in range(3):
        repository.register(lambda: Heavy(10))
    server = tallied(repository, cache=CachePolicy(max_loaded=3, keep_active=1, max_bytes=250 * 1024))
    for name in ("1", "2", "3"):
        server.predict(0, name)
    assert server.statistics().loaded_models == ("1", "2", "3")


def test_sizes_may_be_measured_otherwise(tallied: Host) -> None:
    """``size_of`` says how large a model is; one that it cannot tell of counts as nothing."""
    repository = InMemoryModelRepository()
    sizes: dict[str, Any] = {"a": 10, "b": 10, "c": "unknown"}
    for name in sizes:
        repository.register(Answering(name))
    policy = CachePolicy(max_loaded=10, keep_active=1, max_bytes=20, size_of=lambda model: sizes[model.answer])
    server = tallied(repository, cache=policy)
    for name in ("1", "2", "3"):
        server.predict(0, name)
    assert server.statistics().loaded_models == ("1", "2", "3")


def test_the_size_of_a_model_is_near_that_of_its_arrays() -> None:
    """Measured by its pickle, a model of arrays takes what these take; what cannot be pickled takes nothing."""
    assert size_of(Heavy(1000), None) == pytest.approx(1000 * 1024, rel=0.01)
    assert size_of(lambda x: x, None) == 0
    assert size_of(None, lambda model: 7.9) == 7


@pytest.mark.parametrize("limit", [0, -1, 1.5, "1"])
def test_a_budget_is_a_whole_number_of_bytes(limit: Any) -> None:
    """Bytes are counted."""
    with pytest.raises(InvalidArgumentError, match="max_bytes"):
        CachePolicy(max_bytes=limit)


def test_a_probe_of_a_hanging_load_can_wait(tallied: Host) -> None:
    """A readiness probe waits for the first load, and is right when that ends."""
    repository = FullRepository()
    repository.register(lambda x: x, example=1)
    gate = repository.gate("1")
    server = tallied(repository, clock=ManualClock())
    probe = InThread(server.is_ready)
    gate.wait_until_reached()
    assert server.is_live()
    gate.open()
    assert probe.result() is True
