"""What monitoring costs: recording one prediction and many, memory, reading a window; against hand-written metrics.

    python tests/benchmarks/bench_monitors.py [--quick] [--json FILE]

Needs the extra ``test`` (prometheus-client, opentelemetry-sdk). Contenders take turns and the median round counts.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
import tracemalloc
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry, Counter, Histogram

from mlserve import InMemoryModelMonitor
from mlserve.clocks import ManualClock
from mlserve.records import PredictionEvent

N_FEATURES = 10
HOUR = timedelta(hours=1)


def nanoseconds(contenders: dict[str, Callable[[int], None]], calls: int, rounds: int) -> dict[str, float]:
    """Median time of one call, the rounds of all interleaved."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds + 1):
        for name, run in contenders.items():
            gc.collect()
            begun = time.perf_counter_ns()
            run(calls)
            taken[name].append((time.perf_counter_ns() - begun) / calls)
    return {name: statistics.median(times[1:]) for name, times in taken.items()}


def recording(calls: int, rounds: int) -> dict[str, float]:
    """One prediction with everything about it, against what users write by hand for its count and its latency."""
    row = np.random.default_rng(0).normal(size=N_FEATURES)
    clock = ManualClock()
    registry = CollectorRegistry()
    counter = Counter("requests", "n", ["model", "version"], registry=registry)
    histogram = Histogram("latency", "s", ["model", "version"], registry=registry)
    bound_counter, bound_histogram = counter.labels("m", "1"), histogram.labels("m", "1")
    meter = MeterProvider([InMemoryMetricReader()]).get_meter("bench")
    otel = meter.create_histogram("latency")
    attributes = {"model": "m", "version": "1"}
    plain = InMemoryModelMonitor(clock=clock)
    watched = InMemoryModelMonitor(clock=clock)
    watched.set_baseline("1", inputs=np.random.default_rng(1).normal(size=(10_000, N_FEATURES)))
    now = clock.now().timestamp()
    ids = [f"p{number}" for number in range(calls)]
    events = [PredictionEvent(name, "1", row, 1, 0.5, clock.now(), 0.9) for name in ids]
    inputs, outputs, took_ms, sure = [row] * 512, [1] * 512, [0.5] * 512, [0.9] * 512

    def deferred(monitor: InMemoryModelMonitor) -> Callable[[int], None]:
        def run(n: int) -> None:
            record = monitor.defer_prediction
            for name in ids[:n]:
                record(name, "1", row, 1, 0.5, now, 0.9, None, None)

        return run

    def whole(n: int) -> None:
        record = plain.record_prediction
        for event in events[:n]:
            record(event)

    def blocks(n: int) -> None:
        for start in range(0, n, 512):
            size = min(512, n - start)
            plain.record_block(
                "1", ids[start : start + size], inputs[:size], outputs[:size], took_ms[:size], now, sure[:size]
            )

    def labelled(n: int) -> None:
        for _ in range(n):
            counter.labels("m", "1").inc()
            histogram.labels("m", "1").observe(0.0005)

    def bound(n: int) -> None:
        for _ in range(n):
            bound_counter.inc()
            bound_histogram.observe(0.0005)

    def opentelemetry(n: int) -> None:
        for _ in range(n):
            otel.record(0.0005, attributes)

    return nanoseconds(
        {
            "defer_prediction": deferred(plain),
            "defer_prediction, inputs counted": deferred(watched),
            "record_prediction": whole,
            "record_block of 512": blocks,
            "prometheus, labels() each time": labelled,
            "prometheus, bound": bound,
            "opentelemetry histogram": opentelemetry,
        },
        calls,
        rounds,
    )


def memory(features: int, versions: int) -> dict[str, float]:
    """Bytes that a monitor holds after a million seconds' worth of sparse traffic, a version and a feature."""
    clock = ManualClock()
    rng = np.random.default_rng(0)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    monitor = InMemoryModelMonitor(clock=clock)
    for version in range(versions):
        monitor.set_baseline(str(version), inputs=rng.normal(size=(1_000, features)))
    for number in range(20_000):
        clock.advance(timedelta(seconds=60))
        for version in range(versions):
            now = clock.now().timestamp()
            monitor.defer_prediction(
                f"{number}-{version}", str(version), rng.normal(size=features), 1, 0.5, now, 0.9, None, None
            )
    monitor.get_recent_metrics(HOUR)
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return {"features": features, "versions": versions, "MiB": held / 2**20}


def reading(rate: int, rounds: int) -> dict[str, float]:
    """Milliseconds to read an hour's window when so many requests came in each of its seconds."""
    clock = ManualClock()
    monitor = InMemoryModelMonitor(clock=clock)
    rng = np.random.default_rng(0)
    row = rng.normal(size=N_FEATURES)
    latencies = rng.exponential(2.0, size=1024).tolist()
    inputs, outputs = [row] * 1024, [1] * 1024
    for second in range(3600):
        clock.advance(timedelta(seconds=1))
        now = clock.now().timestamp()
        for start in range(0, rate, 1024):
            size = min(1024, rate - start)
            ids = [f"{second}-{start + number}" for number in range(size)]
            monitor.record_block("1", ids, inputs[:size], outputs[:size], latencies[:size], now)
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        metrics = monitor.get_model_metrics("1", HOUR)
        times.append((time.perf_counter() - begun) * 1e3)
    return {"rate": rate, "recorded": metrics.request_count, "ms": statistics.median(times)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=argparse.FileType("w"))
    options = parser.parse_args()
    calls, rounds = (20_000, 3) if options.quick else (100_000, 9)
    report: dict[str, Any] = {"nanoseconds": recording(calls, rounds)}
    pair = report["nanoseconds"]["prometheus, labels() each time"]
    for name, taken in report["nanoseconds"].items():
        print(
            f"{name:<36} {taken:>8.0f} ns   {taken / pair:>5.2f} x the labelled prometheus pair"
            f"   {1e9 / taken:>12,.0f} a second"
        )
    report["memory"] = [memory(*shape) for shape in ([(10, 1)] if options.quick else [(10, 1), (10, 4), (40, 1)])]
    for held in report["memory"]:
        print(f"memory: {held['versions']} versions of {held['features']} features hold {held['MiB']:.1f} MiB")
    report["reading"] = [reading(rate, rounds) for rate in ((10, 1_000) if options.quick else (10, 1_000, 100_000))]
    for read in report["reading"]:
        print(f"an hour's window at {read['rate']:>7,} a second ({read['recorded']:,} recorded): {read['ms']:.2f} ms")
    if options.json:
        json.dump(report, options.json, indent=1)


if __name__ == "__main__":
    main()
