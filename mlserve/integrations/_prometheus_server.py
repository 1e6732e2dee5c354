"""What a server does with requests and models, for Prometheus."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, final

from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from mlserve._forking import renew_after_fork
from mlserve.integrations._prometheus_families import counter, gauge
from mlserve.integrations._reading import checked_name, label_of
from mlserve.records import ServerStatistics
from mlserve.serving import ModelServer
from mlserve.serving._breaker import BreakerState

PARTS = {
    "fallback": "fallback_errors",
    "monitor": "monitor_errors",
    "repository": "repository_errors",
    "router": "router_errors",
}
"""What a server is given, and the counter of how often it failed."""


@final
class ServerCollector(Collector):
    """Shows what servers count of themselves to Prometheus: requests by what became of them, models, breakers.

    Register it once for a process; further servers are added to it. A request costs nothing more than without it.

    *Counters never fall*, though a server's counters are read one after the other while there is traffic: each shows
    the highest value that was read.

    *Thread safety*: yes; scrapes may overlap. *Fork*: each process has servers of its own, and is scraped by itself.

    Args:
        server: What is read.
        name: The label ``model``.

    Raises:
        InvalidArgumentError: The name is no text.

    Example:
        >>> from prometheus_client import CollectorRegistry
        >>> from mlserve import InMemoryModelMonitor, InMemoryModelRepository, ModelServer
        >>> repository = InMemoryModelRepository()
        >>> version = repository.register(sum)
        >>> server = ModelServer(repository, InMemoryModelMonitor())
        >>> result = server.predict([1, 2])
        >>> registry = CollectorRegistry()
        >>> registry.register(ServerCollector(server, name="adder"))
        >>> labels = {"model": "adder", "result": "succeeded"}
        >>> registry.get_sample_value("mlserve_server_requests_total", labels)
        1.0
    """

    def __init__(self, server: ModelServer[Any, Any, Any], *, name: str = "model") -> None:
        self._after_fork()
        renew_after_fork(self)
        self._servers: dict[str, ModelServer[Any, Any, Any]] = {}
        self._highest: dict[tuple[str, ...], float] = {}
        self.add(server, name=name)

    def add(self, server: ModelServer[Any, Any, Any], *, name: str) -> None:
        """Show another server too.

        Args:
            server: What is read.
            name: The label ``model``.

        Raises:
            InvalidArgumentError: The name is no text, or taken.
        """
        with self._lock:
            self._servers[checked_name(name, self._servers)] = server

    def _after_fork(self) -> None:
        self._lock = threading.Lock()

    def describe(self) -> list[Metric]:
        """The metrics without values: registering reads no server."""
        return list(_Families())

    @override
    def collect(self) -> list[Metric]:
        """Read the servers. Called by the registry for each scrape."""
        families = _Families()
        with self._lock:
            for name, server in self._servers.items():
                self._show(families, name, server.statistics())
        return list(families)

    def _show(self, families: _Families, name: str, found: ServerStatistics) -> None:
        by_result = {
            "succeeded": found.answered - found.failed - found.degraded,
            "degraded": found.degraded,
            "failed": found.failed - found.timed_out,
            "timed_out": found.timed_out,
            "shed": found.shed,
            "cancelled": found.cancelled,
        }
        counters: list[tuple[CounterMetricFamily, tuple[str, ...], float]] = [
            *((families.requests, (result,), count) for result, count in by_result.items()),
            *((families.errors, (part,), getattr(found, field)) for part, field in PARTS.items()),
            (families.loads, ("loaded",), found.loads),
            (families.loads, ("failed",), found.load_failures),
            (families.misses, (), found.misses),
            (families.swaps, (), found.swaps),
            (families.evictions, (), found.evictions),
            (families.batches, (), found.batches),
            (families.batched, (), found.batched),
        ]
        for family, labels, value in counters:
            family.add_metric([name, *labels], self._rising((name, family.name, *labels), value))
        families.in_flight.add_metric([name], found.in_flight)
        families.loaded.add_metric([name], len(found.loaded_models))
        for version, leases in found.leases.items():
            families.leases.add_metric([name, label_of(version)], leases)
        for version, current in found.breakers.items():
            for state in BreakerState:
                families.breakers.add_metric([name, label_of(version), state.lower()], float(current == state))

    def _rising(self, series: tuple[str, ...], value: float) -> float:
        highest = self._highest[series] = max(float(value), self._highest.get(series, 0.0))
        return highest


class _Families:
    """The metrics of one scrape."""

    def __init__(self) -> None:
        self.requests = counter("server_requests", "Requests by what became of them.", "result")
        self.in_flight = gauge("server_in_flight_requests", "Requests not answered yet.")
        self.loaded = gauge("server_loaded_models", "Models in memory.")
        self.leases = gauge("server_leases", "Calls that hold a model.", "version")
        self.breakers = gauge("server_breaker_state", "1 for the state of a circuit breaker.", "version", "state")
        self.loads = counter("server_model_loads", "Loads of models.", "result")
        self.misses = counter("server_cache_misses", "Times that a model was waited for.")
        self.swaps = counter("server_swaps", "Times that traffic moved to another version.")
        self.evictions = counter("server_evictions", "Models dropped from memory.")
        self.batches = counter("server_batches", "Calls of models that answered several requests.")
        self.batched = counter("server_batched_requests", "Requests answered by them.")
        self.errors = counter("server_errors", "Failures of what the server was given, passed over.", "part")

    def __iter__(self) -> Iterator[Metric]:
        return iter(vars(self).values())
