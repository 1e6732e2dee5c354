"""What ``predict`` adds to a model, against what users write by hand, in one run.

    python tests/benchmarks/bench_predict.py [--quick] [--json FILE]

The hand-written service looks up its model in a dictionary, reads ``perf_counter_ns`` twice, and records with
``prometheus_client``: once with ``labels()`` for each request, once with the children bound before. The model is as
cheap as a model can be, so that what is left after taking the bare call away is overhead. Rounds alternate between
the contenders; the median round counts, and each round is long enough to contain the folding of what was recorded.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Histogram

from mlserve import ArraySchema, InMemoryModelMonitor, InMemoryModelRepository, ModelServer


def model(x: Any) -> int:
    return 1


def labelled(x: np.ndarray[Any, Any]) -> Callable[[], object]:
    registry = CollectorRegistry()
    requests = Counter("requests", "Requests", ["model", "version"], registry=registry)
    seconds = Histogram("seconds", "Latency", ["model", "version"], registry=registry)
    models = {"1": model}

    def predict() -> object:
        called = models["1"]
        begun = time.perf_counter_ns()
        answer = called(x)
        took = time.perf_counter_ns() - begun
        requests.labels("model", "1").inc()
        seconds.labels("model", "1").observe(took * 1e-9)
        return answer

    return predict


def bound(x: np.ndarray[Any, Any]) -> Callable[[], object]:
    registry = CollectorRegistry()
    requests = Counter("requests", "Requests", ["model", "version"], registry=registry).labels("model", "1")
    seconds = Histogram("seconds", "Latency", ["model", "version"], registry=registry).labels("model", "1")
    models = {"1": model}

    def predict() -> object:
        called = models["1"]
        begun = time.perf_counter_ns()
        answer = called(x)
        took = time.perf_counter_ns() - begun
        requests.inc()
        seconds.observe(took * 1e-9)
        return answer

    return predict


def served(x: np.ndarray[Any, Any], *, schema: ArraySchema | None = None) -> Callable[[], object]:
    repository = InMemoryModelRepository()
    repository.register(model, schema=schema)
    server = ModelServer(repository, InMemoryModelMonitor())
    predict = server.predict
    result = predict(x)
    assert result.success, result
    return lambda: predict(x)


def nanoseconds(call: Callable[[], object], calls: int) -> float:
    repeat = range(calls)
    begun = time.perf_counter_ns()
    for _ in repeat:
        call()
    return (time.perf_counter_ns() - begun) / calls


def measure(calls: int, rounds: int) -> dict[str, float]:
    x = np.linspace(0.0, 1.0, 10)
    schema = ArraySchema(shape=(10,))
    contenders = {
        "bare model": lambda: model(x),
        "prometheus, labels() each time": labelled(x),
        "prometheus, bound before": bound(x),
        "mlserve": served(x),
        "mlserve, validating 10 floats": served(x, schema=schema),
    }
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            taken[name].append(nanoseconds(call, calls))
    return {name: statistics.median(rounds_taken) for name, rounds_taken in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the calls")
    parser.add_argument("--json", help="write the figures to this file")
    options = parser.parse_args()
    figures = measure(10_000 if options.quick else 100_000, 5 if options.quick else 9)
    bare = figures["bare model"]
    against = figures["prometheus, labels() each time"] - bare
    print(f"{'':34}{'ns a call':>10}{'added':>10}{'ratio to labels()':>20}")
    for name, value in figures.items():
        print(f"{name:34}{value:10.0f}{value - bare:10.0f}{(value - bare) / against:20.2f}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=2)


if __name__ == "__main__":
    main()
