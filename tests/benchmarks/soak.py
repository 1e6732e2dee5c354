"""Many predictions across threads, with swaps: neither memory nor counters may drift.

    python tests/benchmarks/soak.py [--predictions N] [--threads N] [--seconds-between-swaps S] [--batching] [--quick]

Threads predict in every way there is (one input, a time limit, many inputs, an event loop) while one version after the
other is activated, so that models are loaded, swapped and dropped all the time. A monitor keeps what it knows of each
version for as long as its windows reach back, so the versions are the same few, the windows short and the samples
small: what it keeps has its full size soon. After a tenth of the predictions, and not before these windows are full,
the resident memory is noted; at the end it may be ``MOST_GROWTH_MB`` larger and no more. The counters must say what
the callers saw. Exits with 1 on growth, on a wrong answer, or on counters that do not balance. 20 million predictions
by default; ``--quick`` is an eighth of that.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from mlserve import (  # noqa: E402  # the project's own root first
    Batching,
    CachePolicy,
    InMemoryModelMonitor,
    InMemoryModelRepository,
    Limits,
    ModelServer,
)
from mlserve.monitors import Resolution  # noqa: E402  # as above

DEFAULT_PREDICTIONS = 20_000_000
QUICK_SHARE = 8
MOST_GROWTH_MB = 24.0
"""Above what an allocator and a ring of recent events vary by, far below a hundred bytes for each prediction."""
MANY = 256
"""Inputs of one predict_many."""
AWAITED = 32
"""Requests awaited together."""
LONG_MS = 60_000.0
VERSIONS = 8
"""Versions that take turns: more than stay loaded."""
POLL_SECONDS = 0.01
WINDOWS = (
    Resolution(timedelta(seconds=1), timedelta(seconds=2)),
    Resolution(timedelta(seconds=5), timedelta(seconds=10)),
)
NOTED_AFTER_SECONDS = 15.0
"""All versions have had their turn, and the windows are full."""


class Model:
    """Answers with its number and the input."""

    is_pure = True

    def __init__(self, number: int) -> None:
        self.number = number
        self.weights = bytes(100_000)

    def predict_batch(self, inputs: Any) -> list[Any]:
        return [(self.number, input) for input in inputs]


def resident_mb() -> float:
    """Resident memory of this process in megabytes, once the garbage is collected."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 1e6


class Soak:
    """One run.

    Args:
        server: Asked by all threads.
        predictions: How many, at least.
    """

    def __init__(self, server: ModelServer, predictions: int) -> None:
        self.server = server
        self.predictions = predictions
        self.asked: list[int] = []
        self.wrong: list[Any] = []

    def look(self, result: Any, input: Any) -> None:
        if not result.success or result.value != (int(result.version.id), input):
            self.wrong.append(result)

    def one_by_one(self, mine: int) -> int:
        for _ in range(MANY):
            self.look(self.server.predict(mine), mine)
        return MANY

    def in_time(self, mine: int) -> int:
        for _ in range(8):
            self.look(self.server.predict(mine, timeout_ms=LONG_MS), mine)
        return 8

    def many(self, mine: int) -> int:
        for result in self.server.predict_many([mine] * MANY):
            self.look(result, mine)
        return MANY

    def awaited(self, mine: int) -> int:
        async def ask() -> None:
            for _ in range(8):
                for result in await asyncio.gather(*(self.server.apredict(mine) for _ in range(AWAITED))):
                    self.look(result, mine)

        asyncio.run(ask())
        return 8 * AWAITED

    def run(self, mine: int) -> None:
        """One thread's share: each way in turn, until all together have asked enough."""
        ways = [self.one_by_one, self.many, self.awaited, self.in_time]
        turn = mine
        while sum(self.asked) < self.predictions and not self.wrong:
            self.asked[mine] += ways[turn % len(ways)](mine)
            turn += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predictions", type=int, default=DEFAULT_PREDICTIONS)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--seconds-between-swaps", type=float, default=0.25)
    parser.add_argument("--batching", action="store_true")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    predictions = arguments.predictions // (QUICK_SHARE if arguments.quick else 1)
    logging.disable(logging.CRITICAL)

    repository = InMemoryModelRepository()
    for number in range(1, VERSIONS + 1):
        repository.register(Model(number))
    monitor = InMemoryModelMonitor(
        resolutions=WINDOWS, recent_requests=4096, sample_size=500, pending_outcomes=10_000, recent_events=1000
    )
    server = ModelServer(
        repository,
        monitor,
        batching=Batching() if arguments.batching else None,
        cache=CachePolicy(max_loaded=3, keep_active=2),
        limits=Limits(max_queued=100_000),
    )
    soak = Soak(server, predictions)
    soak.asked = [0] * arguments.threads
    threads = [threading.Thread(target=soak.run, args=(mine,), daemon=True) for mine in range(arguments.threads)]
    begun, before, swaps, pause = time.monotonic(), None, 0, threading.Event()
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        pause.wait(POLL_SECONDS)
        if time.monotonic() - begun >= (swaps + 1) * arguments.seconds_between_swaps:
            swaps += 1
            repository.activate(str(1 + swaps % VERSIONS))
        asked = sum(soak.asked)
        is_settled = time.monotonic() - begun >= NOTED_AFTER_SECONDS and asked >= predictions // 10
        if before is None and is_settled and swaps > VERSIONS:
            before = resident_mb()
            print(f"{asked:>12,} predictions  {before:8.1f} MB  {len(server.statistics().loaded_models)} models loaded")
    took = time.monotonic() - begun
    asked, after, found = sum(soak.asked), resident_mb(), server.statistics()
    if before is None:
        parser.error("too few predictions to tell anything")
    growth = after - before
    print(f"{asked:>12,} predictions  {after:8.1f} MB  {len(found.loaded_models)} models loaded")
    print(f"{asked / took:,.0f} predictions/s, {swaps} swaps in {took:.1f} s")
    print(found)
    problems = {
        "wrong answers": len(soak.wrong),
        "accepted but not asked for": found.accepted - asked,
        "not answered": found.accepted - found.answered - found.shed - found.cancelled,
        "failed, shed, cancelled or timed out": found.failed + found.shed + found.cancelled + found.timed_out,
        "in flight": found.in_flight,
        "leases": sum(found.leases.values()),
        "models loaded above three": max(0, len(found.loaded_models) - 3),
        "errors of the monitor": found.monitor_errors,
        f"megabytes grown above {MOST_GROWTH_MB:g}": max(0.0, round(growth - MOST_GROWTH_MB, 1)),
    }
    server.close()
    bad = {name: count for name, count in problems.items() if count}
    print("balanced, and no growth" if not bad else f"PROBLEMS: {bad}")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
