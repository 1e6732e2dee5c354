"""Servers that are closed when their test ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from serving_doubles import STEP_MS, Sums, Tallied, TickingClock, row

from mlserve import ArraySchema, Batching, InMemoryModelMonitor, InMemoryModelRepository, ModelServer


@pytest.fixture
def repository() -> InMemoryModelRepository:
    return InMemoryModelRepository()


@pytest.fixture
def monitor() -> InMemoryModelMonitor:
    return InMemoryModelMonitor()


@pytest.fixture
def build() -> Iterator[Callable[..., ModelServer]]:
    """Builds servers as ``ModelServer`` does, with a monitor in memory by default."""
    servers: list[ModelServer] = []

    def build_server(repository: Any, monitor: Any = None, **options: Any) -> ModelServer:
        server = ModelServer(repository, InMemoryModelMonitor() if monitor is None else monitor, **options)
        servers.append(server)
        return server

    yield build_server
    for server in servers:
        server.close(timeout=0)


@pytest.fixture
def serve(build: Callable[..., ModelServer]) -> Callable[..., ModelServer]:
    """A server of one model: ``serve(model, server={...}, **register)``."""

    def serve_model(model: Any, *, server: dict[str, Any] | None = None, **described: Any) -> ModelServer:
        repository = InMemoryModelRepository()
        repository.register(model, **described)
        return build(repository, **(server or {}))

    return serve_model


@pytest.fixture
def tallied() -> Iterator[Callable[..., Tallied]]:
    """Builds servers whose counters must balance when the test ends, with nothing held, and that are closed then."""
    servers: list[Tallied] = []

    def build_server(repository: Any, monitor: Any = None, **options: Any) -> Tallied:
        server = Tallied(ModelServer(repository, InMemoryModelMonitor() if monitor is None else monitor, **options))
        servers.append(server)
        return server

    yield build_server
    for server in servers:
        server.check_balance()
        server.close(timeout=0)


@pytest.fixture
def host(tallied: Callable[..., Tallied]) -> Callable[..., Tallied]:
    """A server of one model whose counters must balance: ``host(model, batching=..., example=...)``."""
    registered = ("example", "schema", "task", "baseline")

    def host_model(model: Any, **options: Any) -> Tallied:
        repository = InMemoryModelRepository()
        repository.register(model, **{name: options.pop(name) for name in registered if name in options})
        return tallied(repository, **options)

    return host_model


@pytest.fixture
def sums() -> Sums:
    return Sums()


@pytest.fixture
def serving(sums: Sums, tallied: Callable[..., Tallied]) -> Callable[..., Tallied]:
    """A server of ``sums``, which checks rows of two finite floats and has answered one."""

    def serve(**options: Any) -> Tallied:
        repository = InMemoryModelRepository[Any]()
        schema = ArraySchema.infer(np.array([[0.0, 0.0], [9.0, 9.0]]))
        repository.register(sums, task="regression", example=row(1.0), schema=schema)
        options = {"batching": Batching(), "clock": TickingClock(STEP_MS)} | options
        server = tallied(repository, **options)
        server.predict(row(0.0))
        sums.forget()
        return server

    return serve
