"""Servers that are closed when their test ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mlserve import InMemoryModelMonitor, InMemoryModelRepository, ModelServer


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
