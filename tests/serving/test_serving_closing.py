"""``close``: refuse, wait for those under way, let go; and what every call answers afterwards."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from serving_doubles import (
    PATIENCE,
    Answering,
    EightMethodMonitor,
    FullRepository,
    Gate,
    InThread,
    MakingRepository,
    ThreeMethodRepository,
    all_at_once,
    background_ended,
    is_garbage,
    until,
)

from mlserve import CachePolicy, ErrorKind, InMemoryModelMonitor, InMemoryModelRepository, ModelServer
from mlserve.clocks import ManualClock
from mlserve.errors import InvalidArgumentError, ServerClosedError
from mlserve.records import HealthState

Build = Callable[..., ModelServer]


def loop_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "mlserve-loop"]


def is_closed(server: ModelServer) -> bool:
    try:
        server.get_model_metrics("1")
    except ServerClosedError:
        return True
    return False


# ---------------------------------------------------------------------------------------------------------- waiting


def test_close_waits_for_requests_under_way(repository: InMemoryModelRepository, build: Build) -> None:
    """A request that was accepted is answered, and ``close`` returns only then."""
    gate = Gate()
    repository.register(lambda x: gate.pass_through() or "answered")
    server = build(repository)
    request = InThread(server.predict, 0)
    gate.wait_until_reached()
    closing = InThread(server.close, PATIENCE)
    until(lambda: is_closed(server))
    still_closing = closing.is_running
    gate.open()
    closing.result()
    assert (still_closing, request.result().value) == (True, "answered")


def test_close_waits_for_a_request_that_waits_for_its_model(build: Build) -> None:
    """A request accepted before ``close`` is under way also while its version loads."""
    repository = FullRepository()
    repository.register(Answering("answered"))
    gate, server = repository.gate("1"), build(repository)
    request = InThread(server.predict, 0)
    gate.wait_until_reached()
    closing = InThread(server.close, PATIENCE)
    until(lambda: is_closed(server))
    still_closing = closing.is_running
    gate.open()
    closing.result()
    assert (still_closing, request.result().value) == (True, "answered")


def test_close_waits_no_longer_than_told(repository: InMemoryModelRepository, build: Build) -> None:
    """After ``timeout`` seconds ``close`` returns; the request ends later, with the model it holds."""
    gate = Gate()
    repository.register(lambda x: gate.pass_through() or "answered")
    server = build(repository)
    request = InThread(server.predict, 0)
    gate.wait_until_reached()
    InThread(server.close, 0).result()
    was_running = request.is_running
    gate.open()
    assert (was_running, request.result().value) == (True, "answered")


def test_a_coroutine_model_ends_after_close(repository: InMemoryModelRepository, build: Build) -> None:
    """A caller that waits for a coroutine model when the server is closed still gets its answer."""
    gate = Gate()

    async def model(input: Any) -> str:
        await asyncio.to_thread(gate.pass_through)
        return "answered"

    repository.register(model)
    server = build(repository)
    request = InThread(server.predict, 0)
    gate.wait_until_reached()
    InThread(server.close, 0).result()
    gate.open()
    assert request.result().value == "answered"


def test_the_loop_of_coroutine_models_ends_with_the_server(serve: Build) -> None:
    """After ``close`` the thread that ran coroutine models for callers without a loop is gone."""

    async def model(input: Any) -> int:
        return 1

    before = set(loop_threads())
    server = serve(model)
    server.predict(0)
    (thread,) = set(loop_threads()) - before
    server.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_quiet_server_closes_at_once(serve: Build) -> None:
    """With nothing under way ``close`` does not wait, however long it might."""
    server = serve(Answering(1))
    server.predict(0)
    InThread(server.close, 10**9).result()
    assert server.predict(0).error.kind is ErrorKind.ServerClosed


def test_a_server_that_was_never_used_can_be_closed(repository: InMemoryModelRepository, build: Build) -> None:
    """Closing needs nothing to have happened before."""
    server = build(repository)
    server.close()
    assert server.predict(0).error.kind is ErrorKind.ServerClosed


def test_closing_twice_does_nothing(serve: Build) -> None:
    """A second ``close``, also at the same time from other threads, returns like the first."""
    server = serve(Answering(1))
    server.predict(0)
    all_at_once(4, lambda i: server.close())
    server.close()
    assert server.predict(0).error.kind is ErrorKind.ServerClosed


def test_a_with_statement_closes(repository: InMemoryModelRepository) -> None:
    """Leaving a ``with`` block closes the server."""
    repository.register(Answering(1))
    with ModelServer(repository, InMemoryModelMonitor()) as server:
        inside = server.predict(0)
    assert (inside.success, server.predict(0).error.kind) == (True, ErrorKind.ServerClosed)


def test_a_with_statement_left_by_an_exception_closes(repository: InMemoryModelRepository) -> None:
    """An exception in the block closes the server, and goes on."""
    repository.register(Answering(1))
    with pytest.raises(KeyError), ModelServer(repository, InMemoryModelMonitor()) as server:
        raise KeyError
    assert server.predict(0).error.kind is ErrorKind.ServerClosed


@pytest.mark.parametrize("timeout", [-1, -0.001, float("-inf")])
def test_a_negative_timeout_is_refused(timeout: float, serve: Build) -> None:
    """A negative timeout is an error, and leaves the server open."""
    server = serve(Answering(1))
    with pytest.raises(InvalidArgumentError, match="timeout"):
        server.close(timeout)
    assert server.predict(0).success


# --------------------------------------------------------------------------------------------- any call after close


@pytest.fixture
def closed(repository: InMemoryModelRepository, build: Build) -> ModelServer:
    repository.register(Answering(1), example=0)
    server = build(repository)
    server.predict(0)
    server.close()
    return server


@pytest.mark.parametrize("version", [None, "1", "nobody", 5])
def test_predict_after_close_is_a_failed_result(version: Any, closed: ModelServer) -> None:
    """Predictions are refused with kind ServerClosed, whatever version is named; nothing is raised."""
    result = closed.predict(0, version)
    assert (result.success, result.error.kind, result.version) == (False, ErrorKind.ServerClosed, None)


def test_apredict_after_close_is_a_failed_result(closed: ModelServer) -> None:
    """The same holds for awaited predictions."""
    assert asyncio.run(closed.apredict(0)).error.kind is ErrorKind.ServerClosed


def test_a_refused_prediction_is_recorded(build: Build) -> None:
    """A request that came too late is a failure that the monitor sees."""
    repository, monitor = FullRepository(), EightMethodMonitor()
    repository.register(Answering(1))
    server = build(repository, monitor)
    server.close()
    server.predict(0)
    assert monitor.errors == [("ServerClosed", None)]


CALLS: dict[str, Callable[[ModelServer], Any]] = {
    "record_outcome": lambda server: server.record_outcome("id", 1),
    "refresh": lambda server: server.refresh(),
    "get_model_metrics": lambda server: server.get_model_metrics(),
    "get_model_metrics of a version": lambda server: server.get_model_metrics("1", timedelta(minutes=1)),
}


@pytest.mark.parametrize("call", CALLS)
def test_calls_that_need_an_open_server_raise(call: str, closed: ModelServer) -> None:
    """What is no prediction raises ServerClosedError."""
    with pytest.raises(ServerClosedError):
        CALLS[call](closed)


def test_health_after_close(closed: ModelServer) -> None:
    """``check_health`` and ``acheck_health`` answer UNHEALTHY, and load nothing."""
    found = [closed.check_health(), asyncio.run(closed.acheck_health())]
    assert [(health.status, health.loaded_models) for health in found] == [(HealthState.UNHEALTHY, ())] * 2


def test_statistics_after_close(closed: ModelServer) -> None:
    """The counters can still be read, and balance; no model is loaded."""
    closed.predict(0)
    found = closed.statistics()
    assert (found.accepted, found.answered, found.failed, found.in_flight, found.loaded_models) == (2, 2, 1, 0, ())


# ------------------------------------------------------------------------------------------- what comes in too late


def test_a_load_that_ends_after_close_opens_nothing(build: Build) -> None:
    """When a version is loaded after the server was closed, the server stays closed."""
    repository = FullRepository()
    repository.register(Answering("late"))
    gate, server = repository.gate("1"), build(repository)
    waiting = InThread(server.predict, 0)
    gate.wait_until_reached()
    server.close(timeout=0)
    gate.open()
    waiting.result()
    assert server.predict(0).error.kind is ErrorKind.ServerClosed


def test_a_load_that_ends_after_close_is_not_kept(build: Build) -> None:
    """A model that was loaded too late is garbage once those who waited for it are answered."""
    repository = MakingRepository()
    repository.register(lambda: Answering("late"))
    gate, server = repository.gate("1"), build(repository)
    waiting = InThread(server.predict, 0)
    gate.wait_until_reached()
    server.close(timeout=0)
    gate.open()
    waiting.result()
    background_ended()
    assert (server.statistics().loaded_models, is_garbage(repository.made["1"])) == ((), True)


def test_a_refresh_that_ends_after_close_opens_nothing(build: Build) -> None:
    """A new version found in the background before ``close`` and loaded after it does not serve."""
    repository, clock = ThreeMethodRepository(), ManualClock()
    repository.register(Answering("old"))
    server = build(repository, clock=clock, cache=CachePolicy(swap_wait_ms=0))
    server.predict(0)
    gate = repository.gate("2")
    repository.register(Answering("new"))
    clock.advance(timedelta(seconds=1))
    server.predict(0)
    gate.wait_until_reached()
    server.close()
    gate.open()
    background_ended()
    assert (server.predict(0).error.kind, server.statistics().loaded_models) == (ErrorKind.ServerClosed, ())


def test_a_health_check_that_ends_after_close_loads_nothing(build: Build) -> None:
    """A check under way when the server is closed leaves no model behind."""
    repository = FullRepository()
    repository.register(Answering(1))
    gate, server = repository.gate("1"), build(repository)
    checking = InThread(server.check_health)
    gate.wait_until_reached()
    server.close()
    gate.open()
    checking.result()
    assert (server.predict(0).error.kind, server.statistics().loaded_models) == (ErrorKind.ServerClosed, ())


def test_closing_under_traffic_answers_every_request(serve: Build) -> None:
    """Each request of several threads either succeeds or is refused as ServerClosed, and the counters balance."""
    server = serve(Answering("answer"))
    server.predict(0)

    def ask(index: int) -> list[Any]:
        if index == 0:
            until(lambda: server.statistics().accepted > 50)
            server.close()
            return []
        return [server.predict(0) for _ in range(300)]

    results = [result for some in all_at_once(4, ask) for result in some]
    assert {None if result.success else result.error.kind for result in results} <= {None, ErrorKind.ServerClosed}
    found = server.statistics()
    assert (found.accepted, found.answered, found.in_flight) == (901, 901, 0)
