"""What must hold whatever goes wrong: the documented answer, counters that balance, nothing held, nobody hurt."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving_doubles import (
    PATIENCE,
    Batched,
    ChoosingRouter,
    EightMethodMonitor,
    FullRepository,
    Gate,
    InThread,
    MakingRepository,
    Tallied,
    all_at_once,
    background_ended,
    held,
    is_garbage,
    nothing_logged,
    until,
)
from sklearn.datasets import load_iris
from sklearn.naive_bayes import GaussianNB
from test_serving_fuzz import ANYTHING, VERSIONS

from mlserve import (
    ArraySchema,
    Batching,
    CachePolicy,
    ErrorKind,
    InMemoryModelMonitor,
    InMemoryModelRepository,
    Limits,
    ModelServer,
)
from mlserve.records import HealthState, Route
from mlserve.serving import Breaker, CallableFallback, StaticAnswer

Host = Callable[..., Tallied]
FOREVER_MS = 1e9

# --------------------------------------------------------------------------------------------------- the fault matrix

FAULTS = [
    # what is at fault, how, and the documented answer: a kind, or None where it is answered all the same
    ("get_latest_version", "raises", ErrorKind.RepositoryUnavailable),
    ("get_latest_version", "nonsense", ErrorKind.RepositoryUnavailable),
    ("describe", "raises", ErrorKind.ModelLoadFailed),
    ("load_model", "raises", ErrorKind.ModelLoadFailed),
    ("load_model", "nonsense", ErrorKind.UnsupportedModel),
    ("warm_up", "raises", ErrorKind.ModelLoadFailed),
    ("model", "raises", ErrorKind.PredictionException),
    ("validator", "raises", ErrorKind.InvalidInput),
    ("validator", "nonsense", ErrorKind.PredictionException),
    ("router", "raises", None),
    ("router", "nonsense", None),
    ("record_prediction", "raises", None),
    ("get_active_versions", "raises", None),
]


class FaultyRepository(FullRepository):
    """Answers with nonsense where it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.nonsense: dict[str, Any] = {}

    def get_latest_version(self) -> Any:
        return self.nonsense.get("get_latest_version", None) or super().get_latest_version()

    def load_model(self, version: Any) -> Any:
        loaded = super().load_model(version)
        return self.nonsense.get("load_model", loaded)


class Unwarmable(Batched):
    def warm_up(self) -> None:
        raise ValueError("cold")


class RaisingModel(Batched):
    def predict_batch(self, inputs: Sequence[Any]) -> Any:
        raise ValueError("no")


class NonsensicalValidator:
    def validate(self, input: Any) -> Any:
        return 7


def refuse(input: Any) -> None:
    raise ValueError("no")


def faulty(tallied: Host, fault: str, how: str, **options: Any) -> Tallied:
    """A server of which one part is at fault."""
    repository, monitor = FaultyRepository(), EightMethodMonitor()
    repository.register({"warm_up": Unwarmable, "model": RaisingModel}.get(fault, Batched)())
    error = ValueError("no")
    if fault in ("get_latest_version", "describe", "get_active_versions") and how == "raises":
        repository.broken[fault] = error
    elif fault == "load_model" and how == "raises":
        repository.broken_loads["1"] = error
    elif fault in ("get_latest_version", "load_model"):
        repository.nonsense[fault] = 7
    elif fault == "record_prediction":
        monitor.broken["*"] = error
    elif fault == "router":
        options["router"] = ChoosingRouter(error if how == "raises" else 7, error if how == "raises" else 7)
    elif fault == "validator":
        options["validator"] = refuse if how == "raises" else NonsensicalValidator()
    return tallied(repository, monitor, **options)


CALLS: dict[str, Callable[[Tallied], list[Any]]] = {
    "predict": lambda server: [server.predict(1)],
    "predict in time": lambda server: [server.predict(1, timeout_ms=FOREVER_MS)],
    "apredict": lambda server: [asyncio.run(server.apredict(1))],
    "apredict in time": lambda server: [asyncio.run(server.apredict(1, timeout_ms=FOREVER_MS))],
    "predict_many": lambda server: server.predict_many([1, 2, 3]),
    "apredict_many": lambda server: asyncio.run(server.apredict_many([1, 2, 3])),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "bare": {},
    "batching": {"batching": Batching()},
    "everything": {
        "batching": Batching(),
        "breaker": Breaker(min_calls=1000),
        "concurrency": 1,
        "limits": Limits(max_in_flight=100, max_queued=100),
    },
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("fault", "how", "kind"), FAULTS, ids=lambda value: str(value))
def test_a_fault_has_its_documented_answer(
    fault: str, how: str, kind: ErrorKind | None, call: str, options: str, tallied: Host
) -> None:
    """Whatever part raises or answers nonsense, and however it is called: the documented kind, again and again."""
    server = faulty(tallied, fault, how, **OPTIONS[options])
    found = [CALLS[call](server) for _ in range(3)]
    assert {result.error and result.error.kind for results in found for result in results} == {kind}
    assert not held(server)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("fault", "how", "kind"), [row for row in FAULTS if row[2] not in (None, ErrorKind.InvalidInput)], ids=str
)
def test_a_static_answer_stands_in_for_any_fault(
    fault: str, how: str, kind: ErrorKind, call: str, tallied: Host
) -> None:
    """With a static answer at the end of the chain whatever is no caller's fault is answered, and says why."""
    chain = [CallableFallback(refuse), StaticAnswer(0)]
    results = CALLS[call](faulty(tallied, fault, how, fallbacks=chain))
    assert {(result.value, f"because of {kind}" in result.degraded) for result in results} == {(0, True)}


@pytest.mark.parametrize("is_async", [False, True], ids=["waiting", "awaiting"])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("where", ["get_latest_version", "load_model", "warm_up", "model"])
def test_what_hangs_keeps_nobody_beyond_the_deadline(where: str, options: str, is_async: bool, tallied: Host) -> None:
    """Repository, load, warm-up or model hanging: the caller is told in time, and when it ends nothing is held."""
    gate = Gate()

    class Hanging(Batched):
        def warm_up(self) -> None:
            if where == "warm_up":
                gate.pass_through()

        def predict_batch(self, inputs: Sequence[Any]) -> list[Any]:
            if where == "model":
                gate.pass_through()
            return super().predict_batch(inputs)

    class HangingRepository(FullRepository):
        def get_latest_version(self) -> Any:
            if where == "get_latest_version":
                gate.pass_through()
            return super().get_latest_version()

    repository = HangingRepository()
    repository.register(Hanging())
    if where == "load_model":
        repository.gates["1"] = gate
    server = tallied(repository, **OPTIONS[options])
    ask = (
        (lambda: asyncio.run(server.apredict(1, timeout_ms=20)))
        if is_async
        else (lambda: server.predict(1, timeout_ms=20))
    )
    assert ask().error.kind is ErrorKind.DeadlineExceeded
    gate.open()
    background_ended()
    assert server.predict(2).value == 20


# ---------------------------------------------------------------------------------------------- cold, and a new version


@pytest.mark.parametrize("options", [{}, {"batching": Batching()}], ids=["alone", "batched"])
def test_a_cold_version_is_loaded_once(options: dict[str, Any], tallied: Host) -> None:
    """64 threads and the callers of 4 event loops ask for a version that nobody has loaded: there is one load."""
    repository = FullRepository()
    repository.register(Batched())
    gate = repository.gate("1")
    server = tallied(repository, **options)

    def ask(index: int) -> list[Any]:
        if index < 64:
            return [server.predict(index).value]

        async def ask_all() -> list[Any]:
            return [result.value for result in await asyncio.gather(*(server.apredict(number) for number in range(16)))]

        return asyncio.run(ask_all())

    calls = [InThread(ask, index) for index in range(68)]
    until(lambda: server.statistics().in_flight == 64 + 4 * 16)
    gate.open()
    found = [call.result() for call in calls]
    assert found[:64] == [[number * 10] for number in range(64)]
    assert found[64:] == [[number * 10 for number in range(16)]] * 4
    assert repository.loads["1"] == server.statistics().loads == 1


class Garbage:
    """A model that cannot answer its own example with one item."""

    def predict(self, X: Any) -> Any:
        return "garbage"


def failing(input: Any) -> Any:
    """A model that cannot answer anything."""
    raise ValueError("no")


@pytest.mark.parametrize("wrong", ["load", "warm up", "garbage", "a function", "long"])
@pytest.mark.parametrize("options", [{}, {"batching": Batching()}], ids=["alone", "batched"])
def test_callers_never_notice_a_bad_new_version(wrong: str, options: dict[str, Any], tallied: Host) -> None:
    """A new version that fails to load, to warm up, to answer its example, or takes long: the old one answers every
    request under traffic, and health says that something asks for attention where it does.
    """
    repository = FullRepository()
    repository.register(lambda x: "old", example=[1.0])
    server = tallied(repository, cache=CachePolicy(swap_wait_ms=0), **options)
    assert server.predict([1.0]).value == "old"
    stop = threading.Event()

    def ask(index: int) -> set[Any]:
        found = set()
        while not stop.is_set():
            found.add(server.predict([1.0]).value)
        return found

    calls = [InThread(ask, index) for index in range(3)]
    gate = repository.gate("2") if wrong == "long" else None
    if wrong == "load":
        repository.broken_loads["2"] = OSError("no")
    repository.register(
        {"warm up": Unwarmable(), "garbage": Garbage(), "a function": failing}.get(wrong, lambda x: "new"),
        example=[1.0],
    )
    until(lambda: repository.loads["2"] > 0)
    if gate is None:
        until(lambda: server.statistics().load_failures > 0)
        assert server.check_health().status is HealthState.DEGRADED
    stop.set()
    assert [call.result() for call in calls] == [{"old"}] * 3
    if gate is not None:
        gate.open()
        background_ended()
        assert server.predict([1.0]).value == "new"


# ------------------------------------------------------------------------------------------------------------ swaps


BURST = 16
PAUSE_SECONDS = 0.02
"""After so many requests a caller lets the others on: 68 that never do would leave the swaps no turn at the
interpreter."""


class Numbered(Batched):
    """Answers with its own number and the input."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def predict_batch(self, inputs: Sequence[Any]) -> list[Any]:
        return [(self.number, input) for input in inputs]


def swap_under_load(tallied: Host, swaps: int, threads: int, loops: int, **options: Any) -> None:
    """Hot swaps under load: no request fails or is answered by another version than its result says; models and holds
    are let go of.
    """
    repository = MakingRepository()
    repository.register(functools.partial(Numbered, 1))
    server = tallied(repository, cache=CachePolicy(max_loaded=3, keep_active=2, refresh_seconds=0), **options)
    stop = threading.Event()
    wrong: list[Any] = []

    def look(result: Any, input: Any) -> None:
        if not result.success or result.value != (int(result.version.id), input):
            wrong.append(result)

    def ask(index: int) -> int:
        asked = 0
        while not stop.is_set():
            look(server.predict((index, asked)), (index, asked))
            asked += 1
            if not asked % BURST:
                stop.wait(PAUSE_SECONDS)
        return asked

    async def aask(index: int) -> int:
        asked = 0
        while not stop.is_set():
            inputs = [(index, asked, number) for number in range(4)]
            for result, input in zip(
                await asyncio.gather(*(server.apredict(input) for input in inputs)), inputs, strict=True
            ):
                look(result, input)
            asked += 4
            if not asked % BURST:
                await asyncio.sleep(PAUSE_SECONDS)
        return asked

    calls = [InThread(ask, index) for index in range(threads)]
    calls += [InThread(lambda index=index: asyncio.run(aask(-index))) for index in range(1, loops + 1)]
    with nothing_logged():
        for number in range(2, swaps + 2):
            repository.register(functools.partial(Numbered, number))
            until(lambda number=number: server.predict(0).value[0] == number)
        stop.set()
        assert all(call.result() for call in calls)
        background_ended()
        until(lambda: (server.server._parts.cache.sweep(), len(server.statistics().loaded_models) <= 3)[1])
        assert not wrong
        gone = [name for name in repository.made if name not in server.statistics().loaded_models]
        assert len(gone) >= swaps - 2
        until(lambda: all(is_garbage(repository.made[name]) for name in gone[:3] + gone[-3:]))


@pytest.mark.parametrize("options", [{}, {"batching": Batching()}], ids=["alone", "batched"])
def test_twenty_hot_swaps_under_load(options: dict[str, Any], tallied: Host) -> None:
    """Twenty swaps while threads and loops ask: nothing fails, nothing is mixed up, what is replaced is let go of."""
    swap_under_load(tallied, 20, threads=3, loops=1, **options)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"batching": Batching()}], ids=["alone", "batched"])
def test_a_thousand_hot_swaps_under_load(options: dict[str, Any], tallied: Host) -> None:
    """The same a thousand times, under 64 threads and 4 event loops."""
    swap_under_load(tallied, 1000, threads=64, loops=4, **options)


# ------------------------------------------------------------------------------------------------------------- fuzz


@functools.cache
def fuzzed() -> dict[str, Tallied]:
    X, y = load_iris(return_X_y=True)
    models: dict[str, dict[str, Any]] = {
        "callable": {"model": lambda x: sum(x) / len(x)},
        "batches": {"model": Batched()},
        "naive Bayes": {"model": GaussianNB().fit(X, y), "example": X[0]},
        "with a schema": {"model": GaussianNB().fit(X, y), "schema": ArraySchema.infer(X)},
    }
    found = {}
    for name, registered in models.items():
        repository = InMemoryModelRepository()
        repository.register(**registered)
        options = {"batching": Batching(), "breaker": Breaker(min_calls=10**6), "limits": Limits(max_in_flight=100)}
        found[name] = Tallied(ModelServer(repository, InMemoryModelMonitor(), **options))
    return found


ALLOWED = {ErrorKind.InvalidInput, ErrorKind.PredictionException}


def look(results: Sequence[Any], kinds: set[ErrorKind] = ALLOWED) -> None:
    for result in results:
        assert result.success if result.error is None else result.error.kind in kinds


@pytest.mark.parametrize("name", fuzzed())
@given(input=ANYTHING, others=st.lists(ANYTHING, max_size=4))
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
def test_no_input_makes_any_call_raise(name: str, input: Any, others: list[Any]) -> None:
    """Whatever the input, alone or among others, waited for or awaited: a success, or a documented failure."""
    server = fuzzed()[name]
    with np.errstate(all="ignore"), nothing_logged():
        look([server.predict(input), server.predict(input, timeout_ms=FOREVER_MS)])
        look(server.predict_many([input, *others]))

        async def ask() -> list[Any]:
            return await asyncio.gather(*(server.apredict(one) for one in [input, *others]))

        look(asyncio.run(asyncio.wait_for(ask(), PATIENCE)))
        look(asyncio.run(server.apredict_many([input, *others])))
    server.check_balance()


@given(version=VERSIONS, key=st.none() | st.text(max_size=3))
@settings(deadline=None, max_examples=30)
def test_no_version_makes_any_call_raise(version: Any, key: Any) -> None:
    """Whatever is named as the version, guarded calls succeed, or fail with VersionNotFound."""
    server = fuzzed()["batches"]
    with nothing_logged():
        results = [server.predict(1, version, key=key), *server.predict_many([1, 2], version, key=key)]
        look(results, {ErrorKind.VersionNotFound})


@given(choice=ANYTHING)
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
def test_no_choice_of_a_router_makes_a_call_fail(choice: Any) -> None:
    """Whatever a router answers, or names in a route, the latest version answers."""
    repository = InMemoryModelRepository()
    repository.register(lambda x: x)
    repository.register(lambda x: -x)
    with nothing_logged():
        for chosen in (choice, Route(choice)):
            router = ChoosingRouter(lambda key, chosen=chosen: chosen)
            server = Tallied(ModelServer(repository, InMemoryModelMonitor(), router=router))
            expected = 5 if isinstance(chosen, Route) and isinstance(choice, str) and choice == "1" else -5
            assert server.predict(5).value == expected
            server.check_balance()


def test_everything_at_once(tallied: Host) -> None:
    """Threads that wait, await, ask for many, name versions and time limits, of a server with all guards: every answer
    is right, and the counters balance.
    """
    repository = InMemoryModelRepository()
    for _ in range(3):
        repository.register(Batched(bad=[13], is_pure=True))
    server = tallied(
        repository,
        batching=Batching(max_batch_size=4),
        breaker=Breaker(min_calls=10**6),
        concurrency=2,
        router=ChoosingRouter(lambda key: Route("2", "arm") if key else None),
        fallbacks=[StaticAnswer("static")],
        limits=Limits(max_in_flight=1000, max_queued=1000),
    )

    def right(result: Any, input: int) -> bool:
        return result.value == ("static" if input == 13 else input * 10)

    def ask(index: int) -> bool:
        ways: list[Callable[[int], list[Any]]] = [
            lambda number: [server.predict(number)],
            lambda number: [server.predict(number, "1")],
            lambda number: [server.predict(number, key="Ann", timeout_ms=FOREVER_MS)],
            lambda number: [asyncio.run(server.apredict(number))],
            lambda number: server.predict_many([number]),
            lambda number: asyncio.run(server.apredict_many([number], timeout_ms=FOREVER_MS)),
        ]
        return all(right(ways[index % len(ways)](number)[0], number) for number in range(25))

    assert all(all_at_once(12, ask))
    assert server.statistics().degraded == 12
