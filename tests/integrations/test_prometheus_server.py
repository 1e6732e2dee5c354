"""What a scrape says of a server is what became of its requests and of its models."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from mlserve import Batching, InMemoryModelMonitor, InMemoryModelRepository, Limits, ModelServer
from mlserve.clocks import ManualClock
from mlserve.errors import InvalidArgumentError
from mlserve.integrations.prometheus import MonitorCollector, ServerCollector
from mlserve.serving import Breaker, CallableFallback, StaticAnswer


def failing(input: Any) -> Any:
    raise ValueError("no")


def server_of(model: Any, **options: Any) -> ModelServer:
    repository = InMemoryModelRepository()
    repository.register(model)
    return ModelServer(repository, InMemoryModelMonitor(), **options)


def scraped(collector: ServerCollector, metric: str) -> dict[tuple[str, ...], float]:
    """The samples of a metric by their labels but ``model``, sorted by name, as the strict parser of OpenMetrics has
    them.
    """
    registry = CollectorRegistry()
    registry.register(collector)
    return {
        tuple(value for label, value in sorted(sample.labels.items()) if label != "model"): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
        if sample.name == f"mlserve_server_{metric}"
    }


def test_every_request_is_in_one_result() -> None:
    """Requests are counted by what became of them, each once."""
    server = server_of(lambda x: x if x else failing(x), limits=Limits(max_in_flight=2))
    server.predict(1)
    server.predict(0)
    server.predict(1, timeout_ms=0)
    server.predict_many([1, 2, 3])
    found = scraped(ServerCollector(server), "requests_total")
    assert found == {
        ("succeeded",): 1, ("degraded",): 0, ("failed",): 1, ("timed_out",): 1, ("shed",): 3, ("cancelled",): 0,
    }  # fmt: skip


def test_degraded_answers_are_no_successes() -> None:
    """What a fallback answered is told apart, and so is what stood in the way."""
    server = server_of(failing, fallbacks=[CallableFallback(failing), StaticAnswer(0)])
    server.predict(1)
    collector = ServerCollector(server)
    assert scraped(collector, "requests_total")["degraded",] == 1
    assert scraped(collector, "errors_total") == {
        ("fallback",): 1, ("monitor",): 0, ("repository",): 0, ("router",): 0,
    }  # fmt: skip


def test_a_breaker_is_in_one_state() -> None:
    """The state of each loaded version's breaker is 1, and the others are 0."""
    clock = ManualClock()
    server = server_of(failing, breaker=Breaker(min_calls=1), clock=clock)
    server.predict(1)
    found = scraped(ServerCollector(server), "breaker_state")
    assert found == {("closed", "1"): 0, ("open", "1"): 1, ("half_open", "1"): 0}


def test_models_and_what_holds_them() -> None:
    """Loads, models in memory, and calls that hold one, by version."""
    server = server_of(lambda x: x)
    server.predict(1)
    collector = ServerCollector(server)
    assert scraped(collector, "loaded_models") == {(): 1}
    assert scraped(collector, "leases") == {("1",): 0}
    assert scraped(collector, "model_loads_total") == {("loaded",): 1, ("failed",): 0}
    assert scraped(collector, "cache_misses_total") == {(): 1}
    assert scraped(collector, "in_flight_requests") == {(): 0}


def test_batches_are_counted() -> None:
    """Calls of a model for several requests, and the requests in them."""

    class Model:
        def predict_batch(self, inputs: Any) -> Any:
            return list(inputs)

    server = server_of(Model(), batching=Batching())

    async def ask() -> None:
        await asyncio.gather(*(server.apredict(number) for number in range(4)))

    server.predict(1)
    asyncio.run(ask())
    collector = ServerCollector(server)
    counted = server.statistics()
    assert scraped(collector, "batched_requests_total") == {(): counted.batched}
    assert scraped(collector, "batches_total") == {(): counted.batches}


def test_a_counter_never_falls() -> None:
    """A value that is read lower than before, as under traffic it may be, is shown as it was."""
    collector = ServerCollector(server_of(lambda x: x))
    assert [collector._rising(("series",), value) for value in (3, 2, 5)] == [3, 3, 5]


def test_several_servers_share_a_collector() -> None:
    """Each server has its own label; a name that is taken, or none, is refused."""
    collector = ServerCollector(server_of(lambda x: x), name="a")
    collector.add(server_of(lambda x: x), name="b")
    registry = CollectorRegistry()
    registry.register(collector)
    models = {sample.labels["model"] for family in registry.collect() for sample in family.samples}
    assert models == {"a", "b"}
    for name in ("a", ""):
        with pytest.raises(InvalidArgumentError):
            collector.add(server_of(lambda x: x), name=name)


def test_it_shares_a_registry_with_the_monitors() -> None:
    """Both collectors can be scraped together, and every metric is named and described alike."""
    registry = CollectorRegistry(auto_describe=True)
    registry.register(MonitorCollector(InMemoryModelMonitor()))
    registry.register(ServerCollector(server_of(lambda x: x)))
    families = list(text_string_to_metric_families(generate_latest(registry).decode()))
    assert all(re.fullmatch(r"mlserve(_[a-z0-9]+)+", family.name) for family in families)
    assert all(family.documentation.endswith(".") for family in families)
