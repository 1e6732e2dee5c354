"""What micro-batching gives: rows a second of many callers, what a lone caller pays, and what a hot swap costs.

    python tests/benchmarks/bench_batching.py [--quick] [--json FILE]

Every contender validates ten floats and records in memory; direct batches are calls of the bare model on 64 rows. All
take turns, and the median of the ratios within a turn counts. Needs the extra ``test`` (scikit-learn).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from mlserve import ArraySchema, Batching, InMemoryModelMonitor, InMemoryModelRepository, ModelServer

BATCH = 64
CALLERS = 256
THREADS = 64
SECONDS = 0.5
"""How long threads ask in one turn."""
RNG = np.random.default_rng(0)
X = RNG.normal(size=(4_000, 10))
Y = (X[:, 0] + X[:, 1] > 0).astype(int)
SCHEMA = ArraySchema.infer(X)
ROWS = list(X[:CALLERS])


class LinearModel:
    """A model of one matrix product, which costs next to nothing."""

    is_pure = True

    def __init__(self) -> None:
        self.weights = RNG.normal(size=10)

    def predict(self, X: np.ndarray) -> np.ndarray:
        return X @ self.weights


def served(model: Any, **options: Any) -> ModelServer[Any, Any, Any]:
    repository = InMemoryModelRepository[Any]()
    repository.register(model, schema=SCHEMA, example=X[0])
    server = ModelServer[Any, Any, Any](repository, InMemoryModelMonitor(), **options)
    server.predict(X[0])
    return server


def direct(model: Any, batches: int) -> float:
    """Rows a second of the bare model in batches of 64, made of the rows that the callers ask for."""
    call = getattr(model, "predict_proba", model.predict)
    tables = [X[start : start + BATCH].copy() for start in range(0, CALLERS, BATCH)]
    begun = time.perf_counter()
    for number in range(batches):
        call(tables[number % len(tables)])
    return batches * BATCH / (time.perf_counter() - begun)


async def _awaited(server: ModelServer[Any, Any, Any], each: int) -> float:
    async def one(row: np.ndarray) -> None:
        for _ in range(each):
            if not (await server.apredict(row)).success:
                raise AssertionError

    begun = time.perf_counter()
    await asyncio.gather(*(one(row) for row in ROWS))
    return CALLERS * each / (time.perf_counter() - begun)


def awaited(server: ModelServer[Any, Any, Any], each: int) -> float:
    """Rows a second of 256 coroutines on one event loop."""
    return asyncio.run(_awaited(server, each))


def awaited_by_uvloop(server: ModelServer[Any, Any, Any], each: int) -> float:
    """The same on uvloop's event loop."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return float(runner.run(_awaited(server, each)))


def threaded(server: ModelServer[Any, Any, Any], seconds: float, count: int = THREADS) -> float:
    """Rows a second of so many threads that ask again and again, from when all of them have been started."""
    begin = threading.Barrier(count + 1)
    stop = threading.Event()
    answered = [0] * count

    def one(number: int, row: np.ndarray) -> None:
        begin.wait()
        while not stop.is_set():
            if not server.predict(row).success:
                raise AssertionError
            answered[number] += 1

    threads = [threading.Thread(target=one, args=(number, row)) for number, row in enumerate(ROWS[:count])]
    for thread in threads:
        thread.start()
    begin.wait()
    begun = time.perf_counter()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    return sum(answered) / (time.perf_counter() - begun)


def turns(contenders: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each came to in every turn; the first turn warms up."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds + 1):
        for name, run in contenders.items():
            found[name].append(run())
    return {name: values[1:] for name, values in found.items()}


def ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """The median over turns."""
    return statistics.median(one / other for one, other in zip(over, under, strict=True))


def throughput(rounds: int, scale: float) -> list[dict[str, Any]]:
    """Logistic regression, a forest and a linear model: batched beside unbatched and direct."""
    logistic = LogisticRegression().fit(X, Y)
    forest = RandomForestClassifier(100, random_state=0).fit(X, Y)
    linear = LinearModel()
    found: list[dict[str, Any]] = []
    seconds = max(0.05, scale * SECONDS)

    def compare(name: str, contenders: dict[str, Callable[[], float]], pairs: Sequence[tuple[str, str]]) -> None:
        took = turns(contenders, rounds)
        for over, under in pairs:
            found.append(
                {
                    "what": name,
                    "contender": over,
                    "rows_per_second": statistics.median(took[over]),
                    "beside": under,
                    "ratio": ratio(took[over], took[under]),
                }
            )

    def many(batched: ModelServer[Any, Any, Any], plain: ModelServer[Any, Any, Any], model: Any, size: float) -> None:
        each, few = max(1, round(size * scale)), max(1, round(size * scale / 8))
        compare(
            f"{type(model).__name__}, {CALLERS} coroutines",
            {
                "direct batches of 64": lambda: direct(model, max(2, 4 * each)),
                "batched": lambda: awaited(batched, each),
                "batched, uvloop": lambda: awaited_by_uvloop(batched, each),
                "unbatched": lambda: awaited(plain, few),
            },
            [
                ("batched", "direct batches of 64"),
                ("batched, uvloop", "direct batches of 64"),
                ("batched", "unbatched"),
            ],
        )
        compare(
            f"{type(model).__name__}, {THREADS} threads",
            {
                "direct batches of 64": lambda: direct(model, max(2, 4 * each)),
                "batched": lambda: threaded(batched, seconds),
                "unbatched": lambda: threaded(plain, seconds),
            },
            [("batched", "direct batches of 64"), ("batched", "unbatched")],
        )

    for model, size in ((logistic, 200.0), (forest, 32.0), (linear, 100.0)):
        many(served(model, batching=Batching()), served(model), model, size)
    batched, plain = served(logistic, batching=Batching()), served(logistic)
    for count in (1, 2, 4, 8, 16, 32, 64):
        compare(
            f"LogisticRegression, {count} threads",
            {
                "batched": lambda count=count: threaded(batched, seconds, count),  # type: ignore[misc]  # bound now
                "unbatched": lambda count=count: threaded(plain, seconds, count),  # type: ignore[misc]  # bound now
            },
            [("batched", "unbatched")],
        )
    return found


def alone(rounds: int, calls: int) -> dict[str, float]:
    """Microseconds that batching adds to a lone caller's median and 99th percentile."""
    logistic = LogisticRegression().fit(X, Y)
    servers = {"batched": served(logistic, batching=Batching()), "unbatched": served(logistic)}

    def threads_time(server: ModelServer[Any, Any, Any]) -> list[float]:
        times = []
        for _ in range(calls):
            begun = time.perf_counter()
            server.predict(ROWS[0])
            times.append((time.perf_counter() - begun) * 1e6)
        return times

    async def loops_time(server: ModelServer[Any, Any, Any]) -> list[float]:
        times = []
        for _ in range(calls):
            begun = time.perf_counter()
            await server.apredict(ROWS[0])
            times.append((time.perf_counter() - begun) * 1e6)
        return times

    found: dict[str, float] = {}
    for name, run in (("thread", threads_time), ("coroutine", lambda server: asyncio.run(loops_time(server)))):
        added: dict[float, list[float]] = {50.0: [], 99.0: []}
        for _ in range(rounds + 1):
            with_batching, without = (run(servers[which]) for which in ("batched", "unbatched"))
            for percent, values in added.items():
                values.append(float(np.percentile(with_batching, percent) - np.percentile(without, percent)))
        found |= {f"{name}, p{percent:.0f}": statistics.median(values[1:]) for percent, values in added.items()}
    return found


def swapped(options: dict[str, Any]) -> float:
    """The 99th percentile of the second around a hot swap over that of the second before, under 64 threads."""
    repository = InMemoryModelRepository[Any]()
    repository.register(LogisticRegression().fit(X, Y), schema=SCHEMA, example=X[0])
    server = ModelServer[Any, Any, Any](repository, InMemoryModelMonitor(), **options)
    server.predict(X[0])
    stop = threading.Event()
    times: list[tuple[float, float]] = []

    def one(row: np.ndarray) -> None:
        while not stop.is_set():
            begun = time.perf_counter()
            result = server.predict(row)
            times.append((begun, time.perf_counter() - begun))
            if not result.success:
                raise AssertionError

    threads = [threading.Thread(target=one, args=(row,)) for row in ROWS[:THREADS]]
    for thread in threads:
        thread.start()
    successor = LogisticRegression(C=0.5).fit(X, Y)
    time.sleep(2.0)
    at = time.perf_counter()
    repository.register(successor, schema=SCHEMA, example=X[0])
    time.sleep(1.0)
    stop.set()
    for thread in threads:
        thread.join()
    before = [took for begun, took in times if at - 1.5 <= begun < at - 0.5]
    around = [took for begun, took in times if at - 0.5 <= begun < at + 0.5]
    return float(np.percentile(around, 99) / np.percentile(before, 99))


def swap(rounds: int) -> dict[str, float]:
    """A hot swap under 64 threads, unbatched and batched; medians."""
    options: dict[str, dict[str, Any]] = {"unbatched": {}, "batched": {"batching": Batching()}}
    return {name: statistics.median(swapped(given) for _ in range(rounds)) for name, given in options.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=argparse.FileType("w"))
    options = parser.parse_args()
    rounds, scale = (2, 0.2) if options.quick else (7, 1.0)
    report: dict[str, Any] = {"throughput": throughput(rounds, scale)}
    for row in report["throughput"]:
        print(
            f"{row['what']:<42} {row['contender']:<16} {row['rows_per_second']:>10,.0f} rows/s"
            f"   {row['ratio']:>6.2f} x {row['beside']}"
        )
    report["alone"] = alone(rounds, 400 if options.quick else 3_000)
    for name, added in report["alone"].items():
        print(f"a lone caller, {name}: batching adds {added:.1f} us")
    report["swap"] = swap(1 if options.quick else 7)
    for name, times in report["swap"].items():
        print(f"a hot swap under {THREADS} threads, {name}: p99 {times:.2f} x the second before")
    if options.json:
        json.dump(report, options.json, indent=2)


if __name__ == "__main__":
    main()
