"""``get_model_metrics``: of which version, over which window."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from serving_doubles import Answering, EightMethodMonitor, FullRepository, ThreeMethodRepository, UnprintableError

from mlserve import InMemoryModelMonitor, InMemoryModelRepository, ModelServer
from mlserve.clocks import ManualClock
from mlserve.errors import InvalidArgumentError, RepositoryUnavailableError, VersionNotFoundError

Build = Callable[..., ModelServer]


@pytest.fixture
def server(repository: InMemoryModelRepository, build: Build) -> ModelServer:
    """Two versions, with one request to the first and two to the second, which is the latest."""
    repository.register(Answering(1))
    repository.register(Answering(2))
    repository.set_alias("champion", "1")
    server = build(repository)
    for name in ("1", "2", "2"):
        server.predict(0, name)
    return server


def test_metrics_are_of_the_latest_version_by_default(server: ModelServer) -> None:
    """Without a version named, the metrics are those of the latest one over the last hour."""
    metrics = server.get_model_metrics()
    assert (metrics.model_version, metrics.request_count, metrics.window) == ("2", 2, timedelta(hours=1))


@pytest.mark.parametrize("name", ["1", "champion", "version"])
def test_metrics_of_a_named_version(name: str, server: ModelServer, repository: InMemoryModelRepository) -> None:
    """A version is named by id, by alias or by itself."""
    metrics = server.get_model_metrics(repository.get_version("1") if name == "version" else name)
    assert (metrics.model_version, metrics.request_count) == ("1", 1)


def test_metrics_of_a_retired_version(server: ModelServer, repository: InMemoryModelRepository) -> None:
    """A version that may not be served any more can still be looked at."""
    repository.retire("1")
    assert server.get_model_metrics("1").request_count == 1


def test_metrics_of_a_version_without_traffic(server: ModelServer, repository: InMemoryModelRepository) -> None:
    """Absent evidence is None, not 0."""
    repository.register(Answering(3), activate=False)
    metrics = server.get_model_metrics("3")
    assert (metrics.request_count, metrics.error_rate, metrics.average_latency_ms) == (0, None, None)


@pytest.mark.parametrize("name", ["9", "nobody", "", 1, 1.5, b"1"])
def test_metrics_of_an_unknown_version(name: Any, server: ModelServer) -> None:
    """A version that was never registered, or is named by no text, raises VersionNotFoundError."""
    with pytest.raises(VersionNotFoundError):
        server.get_model_metrics(name)


def test_metrics_when_nothing_is_registered(repository: InMemoryModelRepository, build: Build) -> None:
    """Without any version there is no latest one."""
    with pytest.raises(VersionNotFoundError):
        build(repository).get_model_metrics()


@pytest.mark.parametrize("window", [timedelta(0), timedelta(seconds=-1), timedelta(days=-30), 60, None])
def test_a_window_is_positive(window: Any, server: ModelServer) -> None:
    """A window that is negative, zero or no timedelta raises InvalidArgumentError."""
    with pytest.raises(InvalidArgumentError, match="window"):
        server.get_model_metrics("1", window)


def test_a_window_ends_now(repository: InMemoryModelRepository, build: Build) -> None:
    """Only what lies within the window counts."""
    clock = ManualClock()
    repository.register(Answering(1))
    server = build(repository, InMemoryModelMonitor(clock=clock), clock=clock)
    server.predict(0)
    clock.advance(timedelta(minutes=10))
    server.predict(0)
    found = [server.get_model_metrics(window=timedelta(minutes=minutes)).request_count for minutes in (5, 30)]
    assert found == [1, 2]


@pytest.mark.parametrize(
    ("method", "name"), [("get_latest_version", None), ("get_version", "1"), ("resolve_alias", "x")]
)
@pytest.mark.parametrize("error", [OSError("down"), UnprintableError()], ids=["OSError", "unprintable"])
def test_a_repository_that_is_down(method: str, name: str | None, error: Exception, build: Build) -> None:
    """A repository that cannot say which version is meant gives RepositoryUnavailableError."""
    repository = FullRepository()
    repository.register(Answering(1))
    repository.broken[method] = error
    with pytest.raises(RepositoryUnavailableError) as raised:
        build(repository).get_model_metrics(name)
    assert raised.value.exception is error


def test_a_repository_of_three_methods_is_believed(build: Build) -> None:
    """A repository that cannot list retired versions is not asked: the monitor is."""
    repository = ThreeMethodRepository()
    repository.register(Answering(1))
    server = build(repository, EightMethodMonitor())
    assert [server.get_model_metrics(name).model_version for name in (None, "1", "7")] == ["1", "1", "7"]


def test_asking_for_metrics_loads_nothing(build: Build) -> None:
    """Metrics need no model."""
    repository = FullRepository()
    repository.register(Answering(1))
    build(repository).get_model_metrics()
    assert repository.loads.total() == 0
