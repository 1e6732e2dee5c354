"""What a call of mlserve adds to a model, against those serving libraries that are installed, in one run.

    python tests/benchmarks/peers/serving/bench_serving_peers.py [--quick] [--only NAME ...] [--json FILE]

Each peer needs an environment of its own; README.md beside this file tells how to make them. ``calls`` times one call
in process, ``loopback`` asks the peers' own servers on 127.0.0.1, beside mlserve, which is asked in process: one goes
over a socket, the other does not. All answers are compared before time is taken. Contenders take turns; medians count.
Nothing is sent to anybody: usage reports are switched off before a peer is imported.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import logging
import os
import platform
import signal
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import attrs
import numpy as np
import peer_ours
from peer_case import CONSTANT, Call, Door, Row, logistic, rows, second
from peer_load import Ask, Load, answered, load, loaded, running, socket_only
from peer_ours import BATCHED as OURS

os.environ.update(
    DO_NOT_TRACK="1",
    BENTOML_DO_NOT_TRACK="True",
    MLFLOW_DISABLE_TELEMETRY="true",
    RAY_USAGE_STATS_ENABLED="0",
    RAY_worker_niceness="0",
    RAY_SERVE_LOG_TO_STDERR="0",
)
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

PEERS = {
    "bentoml": "peer_bentoml",
    "litserve": "peer_litserve",
    "mlflow-skinny": "peer_mlflow",
    "mlserver": "peer_mlserver",
    "ray": "peer_ray",
}
PACKAGES = ("mlserve", "numpy", "scikit-learn", "pandas", "pydantic", "uvicorn", "uvloop", *PEERS)
CLIENTS = (1, 64)
TURN_SECONDS = 0.15
FIRST_CALLS = 50
CLOSE = 1e-12
WIDTH = 52
WORK = ("calls", "loopback")


def installed() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def peers(present: dict[str, str], part: str) -> list[Any]:
    modules = [importlib.import_module(module) for name, module in PEERS.items() if name in present]
    return [module for module in modules if hasattr(module, part)]


def allowed(present: dict[str, str], part: str) -> list[Any]:
    """Those of the peers that may start servers here."""
    found = []
    for module in peers(present, part):
        reason = module.refused() if hasattr(module, "refused") else None
        if reason is None:
            found.append(module)
        else:
            print(f"\n{part} left out: {reason}")
    return found


def bare(model: str) -> Call:
    if model == "constant":
        return Call("bare model", lambda row: row[None], peer_ours.constant, float)
    return Call("bare model", lambda row: row[None], logistic().predict_proba, second)


def same(name: str, found: Sequence[float], wanted: Sequence[float], answers_label: bool) -> None:
    right = [float(probability > 0.5) for probability in wanted] if answers_label else wanted
    if not np.allclose(found, right, rtol=0, atol=CLOSE):
        raise AssertionError(f"{name} answers {found[:3]}, not {right[:3]}")


async def awaited(call: Callable[[Any], Any], given: Sequence[Any]) -> list[Any]:
    return [await call(each) for each in given]


def answers(one: Call) -> list[float]:
    given = [one.given(row) for row in rows()]
    found = asyncio.run(awaited(one.call, given)) if one.awaited else map(one.call, given)
    return [one.read(answer) for answer in found]


async def awaited_turn(call: Callable[[Any], Any], given: Any, calls: int) -> float:
    """The event loop runs before time is taken."""
    repeat = range(calls)
    begun = time.perf_counter_ns()
    for _ in repeat:
        await call(given)
    return (time.perf_counter_ns() - begun) / calls


def turn(one: Call, given: Any, calls: int) -> float:
    """Nanoseconds a call."""
    call, repeat = one.call, range(calls)
    if one.awaited:
        return asyncio.run(awaited_turn(call, given, calls))
    begun = time.perf_counter_ns()
    for _ in repeat:
        call(given)
    return (time.perf_counter_ns() - begun) / calls


def timed(contenders: Sequence[Call], rounds: int) -> dict[str, list[float]]:
    """What each took in every turn. Turns are equally long, by what the call took at first; every other round goes
    backwards."""
    row = rows()[0]
    given = {one.name: one.given(row) for one in contenders}
    often = {}
    for one in contenders:
        turn(one, given[one.name], FIRST_CALLS)
        often[one.name] = max(FIRST_CALLS, int(TURN_SECONDS * 1e9 / turn(one, given[one.name], FIRST_CALLS)))
    taken: dict[str, list[float]] = {one.name: [] for one in contenders}
    for index in range(rounds):
        for one in contenders if index % 2 == 0 else reversed(contenders):
            taken[one.name].append(turn(one, given[one.name], often[one.name]))
    return taken


def compared(title: str, model: str, others: Sequence[Call], rounds: int) -> dict[str, Any]:
    direct = bare(model)
    contenders = [direct, *peer_ours.calls(model), *others]
    wanted = [CONSTANT] * len(rows()) if model == "constant" else answers(direct)
    for one in contenders:
        same(one.name, answers(one), wanted, one.answers_label)
    taken = timed(contenders, rounds)
    added = {
        name: statistics.median(each - under for each, under in zip(values, taken[direct.name], strict=True))
        for name, values in taken.items()
    }
    print(f"\n{title}\n{'':{WIDTH}}{'ns a call':>12}{'ns added':>12}{'times mlserve':>15}")
    figures = {}
    for name, values in taken.items():
        figures[name] = {
            "ns": statistics.median(values),
            "added_ns": added[name],
            "times_ours": added[name] / added["mlserve"],
        }
        print(f"{name:{WIDTH}}{figures[name]['ns']:12.0f}{added[name]:12.0f}{figures[name]['times_ours']:15.2f}")
    return figures


def measure_calls(present: dict[str, str], quick: bool) -> dict[str, Any]:
    rounds = 5 if quick else 21
    figures = {}
    for model in ("constant", "logistic"):
        others = [call for module in peers(present, "calls") for call in module.calls(model)]
        figures[model] = compared(f"one call in process, {model} model", model, others, rounds)
    for module in allowed(present, "remote_calls"):
        try:
            for model in ("constant", "logistic"):
                title = f"one call, replica in another process, {model} model"
                figures[f"{model}, remote"] = compared(title, model, module.remote_calls(model), rounds)
        finally:
            module.stopped()
    return figures


def in_process(name: str, server: Any, clients: int, seconds: float) -> Load:
    ask = asked_in_batches if name == OURS else asked_in_turn

    async def run() -> Load:
        asks = [ask(server, row) for row in rows()[:clients]]
        await load(asks, seconds / 4)
        return await load(asks, seconds)

    return asyncio.run(run())


def asked_in_batches(server: Any, row: Row) -> Ask:
    async def ask() -> None:
        if not (await server.apredict(row)).success:
            raise AssertionError

    return ask


def asked_in_turn(server: Any, row: Row) -> Ask:
    """Without batches a call never leaves the event loop: the others are let in before each, as a socket would."""

    async def ask() -> None:
        await asyncio.sleep(0)
        if not (await server.apredict(row)).success:
            raise AssertionError

    return ask


def over_socket(port: int, door: Door, clients: int, seconds: float) -> Load:
    requests = [door.request(row) for row in rows()[:clients]]
    return asyncio.run(loaded(port, requests, seconds / 4, seconds))


async def all_at_once(server: Any) -> list[float]:
    return [float(one.unwrap()) for one in await asyncio.gather(*(server.apredict(row) for row in rows()))]


def measure_loopback(present: dict[str, str], quick: bool) -> dict[str, Any] | None:
    modules = allowed(present, "servers")
    if not modules:
        return None
    table = rows()
    wanted = [second(logistic().predict_proba(row[None])) for row in table]
    rounds, seconds = (2, 0.5) if quick else (7, 1.0)
    contenders: dict[str, Callable[[int], Load]] = {}

    def ours(name: str, server: Any) -> Callable[[int], Load]:
        return lambda clients: in_process(name, server, clients, seconds)

    def theirs(port: int, door: Door) -> Callable[[int], Load]:
        return lambda clients: over_socket(port, door, clients, seconds)

    for name, server in peer_ours.asked().items():
        same(name, asyncio.run(all_at_once(server)), wanted, answers_label=True)
        contenders[name] = ours(name, server)
    figures = {}
    for server in [server for module in modules for server in module.servers()]:
        with ExitStack() as stack:
            beside = dict(contenders)
            for one in (socket_only(), server):
                port = stack.enter_context(running(one, table[0]))
                for door in one.doors:
                    if one is server:
                        same(door.name, asyncio.run(answered(port, door, table)), wanted, answers_label=False)
                    beside[door.name] = theirs(port, door)
            for clients in CLIENTS:
                figures[f"{server.doors[0].name}, {clients} clients"] = turns(clients, beside, rounds)
    return figures


def turns(clients: int, contenders: dict[str, Callable[[int], Load]], rounds: int) -> dict[str, Any]:
    taken: dict[str, list[Load]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            taken[name].append(run(clients))
    first = taken[OURS]
    print(
        f"\n{clients} asking at a time: mlserve in this process, the others over HTTP on 127.0.0.1\n"
        f"{'':{WIDTH}}{'requests/s':>12}{'p50 ms':>10}{'p99 ms':>10}{'mlserve is times':>18}"
    )
    figures: dict[str, Any] = {}
    for name, found in taken.items():
        ahead = statistics.median(one.per_second / other.per_second for one, other in zip(first, found, strict=True))
        medians = {key: statistics.median(getattr(one, key) for one in found) for key in attrs.fields_dict(Load)}
        figures[name] = {**medians, "ours_times": ahead}
        cells = f"{medians['per_second']:12,.0f}{medians['p50_ms']:10.3f}{medians['p99_ms']:10.3f}{ahead:18.2f}"
        print(f"{name:{WIDTH}}{cells}", flush=True)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few and short rounds: a look, not a measurement")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    parser.add_argument("--only", nargs="+", choices=(*WORK, *PEERS), default=[], help="some of the work, or peers")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # the peers'
    logging.getLogger().setLevel(logging.ERROR)  # not disabled: BentoML records by logging
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that servers are stopped
    figures: dict[str, Any] = {"versions": installed()}
    print(", ".join(f"{name} {number}" for name, number in figures["versions"].items()))
    wanted = {name for name in arguments.only if name in PEERS} or set(PEERS)
    present = {name: number for name, number in figures["versions"].items() if name in wanted}
    work = [name for name in WORK if name in arguments.only] or WORK
    if "calls" in work:
        figures["calls"] = measure_calls(present, arguments.quick)
    if "loopback" in work:
        figures["loopback"] = measure_loopback(present, arguments.quick)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=2)


if __name__ == "__main__":
    main()
