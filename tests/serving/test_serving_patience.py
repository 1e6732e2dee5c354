"""What users give may take long or hang: callers with a deadline are told in time, and no event loop waits for it."""

from __future__ import annotations

import asyncio
import gc
import math
import threading
import weakref
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
import pytest
from serving_doubles import (
    PATIENCE,
    Batched,
    ChoosingRouter,
    EightMethodMonitor,
    Gate,
    InThread,
    Tallied,
    TickingClock,
    nothing_logged,
    too_late,
    until,
)

from mlserve import ArraySchema, Batching, ErrorKind, InMemoryModelMonitor, InMemoryModelRepository, Limits
from mlserve.errors import PredictionExceptionError
from mlserve.monitors import FanoutMonitor, SampledMonitor
from mlserve.protocols import BlockMonitor
from mlserve.records import PredictionEvent, Route
from mlserve.serving import Breaker, CallableFallback, PreviousVersion, StaticAnswer, _results
from mlserve.serving._pace import AVERAGE_WEIGHT, Pace
from mlserve.serving._pool import WorkerPool
from mlserve.serving._requests import Request

Host = Callable[..., Tallied]

SOON_MS = 40.0
FOREVER_MS = 1e9

both = pytest.mark.parametrize("is_async", [False, True], ids=["waiting", "awaiting"])

OPTIONS: dict[str, dict[str, Any]] = {
    "alone": {},
    "batched": {"batching": Batching()},
    "everything": {
        "batching": Batching(),
        "breaker": Breaker(min_calls=1000),
        "concurrency": 1,
        "limits": Limits(max_in_flight=100, max_queued=100),
    },
}
guarded = pytest.mark.parametrize("options", OPTIONS)


class Hanging:
    """Passes its gate each time it is called once it is told to, and answers as it is told to."""

    def __init__(self, answer: Any = None) -> None:
        self.gate = Gate()
        self.answer = answer
        self.is_hanging = False
        self.threads: list[threading.Thread] = []

    def __call__(self, *args: Any) -> Any:
        self.threads.append(threading.current_thread())
        if self.is_hanging:
            self.gate.pass_through()
        return self.answer(*args) if callable(self.answer) else self.answer


class HangingMonitor(EightMethodMonitor):
    """Keeps what it is told, when it gets to it."""

    def __init__(self, hanging: Hanging) -> None:
        super().__init__()
        self.hanging = hanging

    def record_prediction(self, event: PredictionEvent) -> None:
        self.hanging()
        super().record_prediction(event)

    def record_prediction_error(self, kind: str, version_id: str | None) -> None:
        self.hanging()
        super().record_prediction_error(kind, version_id)


async def left_while_recorded(hanging: Hanging, call: Coroutine[Any, Any, Any]) -> None:
    """Cancel a call when the monitor is being told of it."""
    task = asyncio.ensure_future(call)
    await asyncio.to_thread(hanging.gate.wait_until_reached)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def with_hanging_monitor(tallied: Host, **options: Any) -> tuple[Tallied, HangingMonitor, Hanging]:
    """A server that answers each input ten times over, its monitor, and what that waits for once it is told to hang."""
    hanging = Hanging()
    monitor = HangingMonitor(hanging)
    repository = InMemoryModelRepository()
    repository.register(Batched())
    return tallied(repository, monitor, **options), monitor, hanging


def failing(input: Any) -> Any:
    raise ValueError("no")


def ask(server: Tallied, is_async: bool, *args: Any, **kwargs: Any) -> Any:
    if is_async:
        return asyncio.run(asyncio.wait_for(server.apredict(*args, **kwargs), PATIENCE))
    return server.predict(*args, **kwargs)


# --------------------------------------------------------------------------------------------------- before the model


@both
@guarded
@pytest.mark.parametrize("where", ["validator", "router"])
def test_what_hangs_before_the_model_keeps_nobody_beyond_the_deadline(
    where: str, options: str, is_async: bool, host: Host
) -> None:
    """A validator or router that hangs: the caller is told in time, the model is not called, and others go on when it
    does.
    """
    hanging, model = Hanging(), Batched()
    given: Any = {"validator": hanging, "router": ChoosingRouter(hanging)}[where]
    server = host(model, **{where: given}, **OPTIONS[options])
    assert ask(server, is_async, 1).value == 10
    hanging.is_hanging, seen = True, len(model.batches)
    forget_pace(server, where)
    assert ask(server, is_async, 2, timeout_ms=SOON_MS).error.kind is ErrorKind.DeadlineExceeded
    hanging.is_hanging = False
    hanging.gate.open()
    assert ask(server, is_async, 3, timeout_ms=FOREVER_MS).value == 30
    assert [input for batch in model.batches[seen:] for input in batch] == [3]


def forget_pace(server: Tallied, where: str) -> None:
    """What was quick so far is called on the event loop, which a call that hangs for once would hold."""
    finding, loaded = server._parts.guarded.guards.finding, server._parts.cache.loaded[0]
    (finding._routes.pace if where == "router" else loaded.check_pace)._average_ms = None


@both
def test_many_inputs_wait_for_a_validator_no_longer_than_they_may(is_async: bool, host: Host) -> None:
    """All inputs of a ``predict_many`` are late where their validator hangs, each with an error of its own."""
    hanging = Hanging()
    hanging.is_hanging = True
    server = host(Batched(), validator=hanging)
    results = (
        asyncio.run(server.apredict_many([1, 2], timeout_ms=SOON_MS))
        if is_async
        else server.predict_many([1, 2], timeout_ms=SOON_MS)
    )
    hanging.gate.open()
    assert [result.error.kind for result in results] == [ErrorKind.DeadlineExceeded] * 2
    assert results[0].error is not results[1].error


def test_a_validator_sees_its_callers_context_on_another_thread(host: Host) -> None:
    """What a caller has set in a context variable is seen by a validator that is called off its thread."""
    from serving_doubles import caller

    seen: list[str] = []
    server = host(Batched(), validator=lambda input: seen.append(caller.get()))
    caller.set("Ann")
    assert server.predict(1, timeout_ms=FOREVER_MS).value == 10
    assert seen == ["Ann"]


# --------------------------------------------------------------------------------------------------------- the monitor


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ``FOREVER_MS`` a monitor has ``SOON_MS``: the model may be as slow as the machine is."""
    monkeypatch.setattr(_results, "LEFT_SHARE", SOON_MS / FOREVER_MS)


@pytest.mark.usefixtures("brief")
@both
@guarded
def test_a_monitor_that_hangs_holds_no_answer_up(options: str, is_async: bool, tallied: Host) -> None:
    """The caller has its answer in time; the monitor is counted as failed, and takes the prediction when it can."""
    server, monitor, hanging = with_hanging_monitor(tallied, **OPTIONS[options])
    hanging.is_hanging = True
    result = ask(server, is_async, 1, timeout_ms=FOREVER_MS)
    assert (result.value, server.statistics().monitor_errors, monitor.predictions) == (10, 1, [])
    hanging.gate.open()
    until(lambda: [event.output for event in monitor.predictions] == [10])


@pytest.mark.usefixtures("brief")
@both
@pytest.mark.parametrize("timeout_ms", [0.0, FOREVER_MS], ids=["late", "in time"])
def test_a_monitor_that_hangs_holds_no_failure_up(timeout_ms: float, is_async: bool, tallied: Host) -> None:
    """A request that failed, or that was late from the start, is told so though the monitor hangs."""
    hanging = Hanging()
    repository = InMemoryModelRepository()
    repository.register(failing)
    monitor = HangingMonitor(hanging)
    server = tallied(repository, monitor)
    hanging.is_hanging = True
    kind = ask(server, is_async, 1, timeout_ms=timeout_ms).error.kind
    assert kind is (ErrorKind.PredictionException if timeout_ms else ErrorKind.DeadlineExceeded)
    hanging.gate.open()
    until(lambda: [name for name, _ in monitor.errors] == [str(kind)])


@pytest.mark.usefixtures("brief")
def test_many_answers_are_not_held_up_by_a_monitor_that_hangs(tallied: Host) -> None:
    """``predict_many`` with a deadline waits for a monitor no longer than that."""
    server, monitor, hanging = with_hanging_monitor(tallied)
    hanging.is_hanging = True
    assert [result.value for result in server.predict_many([1, 2], timeout_ms=FOREVER_MS)] == [10, 20]
    hanging.gate.open()
    until(lambda: len(monitor.predictions) == 2)


@pytest.mark.parametrize("raised", [TimeoutError("mine"), ValueError("no")])
def test_what_a_monitor_raises_on_another_thread_is_counted(raised: Exception, tallied: Host) -> None:
    """A monitor that raises, be it TimeoutError, is a failed monitor, and the answer is an answer."""
    monitor = EightMethodMonitor()
    monitor.broken["*"] = raised
    repository = InMemoryModelRepository()
    repository.register(Batched())
    server = tallied(repository, monitor)
    assert (server.predict(1, timeout_ms=FOREVER_MS).value, server.statistics().monitor_errors) == (10, 1)


@pytest.mark.usefixtures("brief")
@both
def test_what_too_much_waits_for_is_not_recorded(is_async: bool, tallied: Host) -> None:
    """Behind a monitor that hangs no more waits than a bound; what is above it counts as the monitor's failure."""
    server, monitor, hanging = with_hanging_monitor(tallied)
    hanging.is_hanging = True
    server._parts.guarded.guards.threads.recording = WorkerPool(0, max_threads=1)
    results = [ask(server, is_async, number, timeout_ms=FOREVER_MS) for number in range(3)]
    assert [result.value for result in results] == [0, 10, 20]
    assert server.statistics().monitor_errors == 3
    hanging.gate.open()
    until(lambda: [event.output for event in monitor.predictions] == [0])


def test_where_no_thread_is_left_an_answer_is_not_recorded(tallied: Host) -> None:
    """An awaiting caller has its answer where too much waits for its monitor already; that counts as its failure."""
    server, _, hanging = with_hanging_monitor(tallied)
    server._parts.guarded.guards.threads.recording = pool = WorkerPool(0, max_threads=1)
    gate = Gate()
    stuck = pool.submit(gate.pass_through)
    gate.wait_until_reached()
    assert asyncio.run(server.apredict(1)).value == 10
    gate.open()
    assert (stuck.result(PATIENCE), hanging.threads, server.statistics().monitor_errors) == (None, [], 1)


# ----------------------------------------------------------------------------------------------------------- fallbacks


@both
@pytest.mark.parametrize("model", [failing, "hanging"])
def test_a_fallback_that_hangs_is_passed_over_in_time(model: Any, is_async: bool, host: Host) -> None:
    """Whether the model failed or used up its time: a fallback that hangs is counted as failed, once, and the next one
    answers; what the hanging one says later is nobody's.
    """
    hanging, slow = Hanging(), Hanging(5)
    hanging.is_hanging = slow.is_hanging = True
    server = host(slow if model == "hanging" else model, fallbacks=[CallableFallback(hanging), StaticAnswer(0)])
    kind = ErrorKind.DeadlineExceeded if model == "hanging" else ErrorKind.PredictionException
    because = f"because of {kind}"
    result = too_late(
        lambda timeout_ms: ask(server, is_async, 1, timeout_ms=timeout_ms), lambda result: because in result.degraded
    )
    assert (result.value, result.degraded.split(":")[0]) == (0, f"StaticAnswer answered, {because}")
    slow.gate.open()
    hanging.gate.open()
    until(lambda: not server._parts.guarded.guards.threads.helping._work)
    found = server.statistics()
    assert found.degraded == found.fallback_errors == found.accepted


@both
def test_the_previous_version_has_as_long_again(is_async: bool, tallied: Host) -> None:
    """Where a model has used up the time of its request, the previous version still answers."""
    slow = Hanging()
    slow.is_hanging = True
    repository = InMemoryModelRepository()
    repository.register(lambda input: input + 1)
    repository.register(slow)
    server = tallied(repository, fallbacks=[PreviousVersion()])
    assert server.predict(0, "1").value == 1
    result = too_late(lambda timeout_ms: ask(server, is_async, 1, timeout_ms=timeout_ms), lambda result: result.success)
    slow.gate.open()
    assert (result.value, result.version.id, "DeadlineExceeded" in result.degraded) == (2, "1", True)


def test_many_inputs_wait_for_fallbacks_together(host: Host) -> None:
    """However many inputs failed, a fallback that hangs is waited for once: by then all their time is over."""
    hanging = Hanging()
    hanging.is_hanging = True
    server = host(failing, fallbacks=[CallableFallback(hanging)])
    failed = [ErrorKind.PredictionException] * 4

    def ask_many(timeout_ms: float) -> list[Any]:
        hanging.threads.clear()
        return [result.error.kind for result in server.predict_many([1, 2, 3, 4], timeout_ms=timeout_ms)]

    assert too_late(ask_many, lambda kinds: kinds == failed) == failed
    assert len(hanging.threads) == 1
    hanging.gate.open()


@pytest.mark.parametrize("answer", ["late", "in time", "its own timeout"])
def test_a_coroutine_fallback_has_its_time(answer: str, host: Host) -> None:
    """A coroutine function that takes too long is cancelled and passed over; in time, it answers."""
    seen: list[str] = []

    async def fallback(input: Any) -> Any:
        if answer == "its own timeout":
            raise TimeoutError
        if answer == "late":
            seen.append("called")
            try:
                await asyncio.sleep(PATIENCE)
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise
        return input + 1

    server = host(failing, fallbacks=[CallableFallback(fallback), StaticAnswer("static")])
    result = too_late(
        lambda timeout_ms: asyncio.run(server.apredict(1, timeout_ms=timeout_ms if answer == "late" else FOREVER_MS)),
        lambda _: bool(seen) or answer != "late",
    )
    assert (result.value, seen.count("cancelled")) == (2 if answer == "in time" else "static", seen.count("called"))


@pytest.mark.parametrize("is_late", [False, True])
def test_a_coroutine_fallback_helps_many(is_late: bool, host: Host) -> None:
    """A fallback that is a coroutine function is awaited for ``apredict_many`` as it is for ``apredict``, on its
    caller's loop and within its time.
    """
    loops: list[Any] = []

    async def fallback(input: Any) -> Any:
        loops.append(asyncio.get_running_loop())
        if is_late:
            await asyncio.sleep(PATIENCE)
        return input + 1

    server = host(failing, fallbacks=[CallableFallback(fallback), StaticAnswer("static")])

    async def ask_many(timeout_ms: float) -> list[Any]:
        results = await server.apredict_many([1, 2], timeout_ms=timeout_ms if is_late else FOREVER_MS)
        assert {*loops} <= {asyncio.get_running_loop()}
        return [result.value for result in results]

    answers = too_late(lambda timeout_ms: asyncio.run(ask_many(timeout_ms)), lambda _: bool(loops) or not is_late)
    assert answers == (["static", "static"] if is_late else [2, 3])


def test_who_leaves_while_many_are_answered_is_cancelled(tallied: Host) -> None:
    """Inputs of an ``apredict_many`` whose caller went away count as cancelled, and the monitor hears of none."""
    hanging, monitor = Hanging(), EightMethodMonitor()
    repository = InMemoryModelRepository()
    repository.register(hanging)
    server = tallied(repository, monitor)
    hanging.is_hanging = True
    asyncio.run(left_while_recorded(hanging, server.server.apredict_many([1, 2])))
    hanging.gate.open()
    until(lambda: server.statistics().in_flight == 0)
    server.forget(2)
    found = server.statistics()
    assert (found.accepted, found.cancelled, found.answered, monitor.predictions) == (2, 2, 0, [])


# ------------------------------------------------------------------------------------------------------- event loops


PARTS: Sequence[str] = ("validator", "router", "monitor", "monitor of failures", "fallback")


@guarded
@pytest.mark.parametrize("timeout_ms", [None, FOREVER_MS])
@pytest.mark.parametrize("part", PARTS)
def test_an_event_loop_goes_on_meanwhile(part: str, timeout_ms: Any, options: str, tallied: Host) -> None:
    """While a user's part makes a request wait, its event loop goes on with others: here with what lets the part go
    on.
    """
    hanging = Hanging()
    hanging.is_hanging = True
    repository = InMemoryModelRepository()
    fails = part in ("monitor of failures", "fallback")
    repository.register(Batched(bad=[1] if fails else []), example=2)
    given: dict[str, Any] = {
        "validator": {"validator": hanging},
        "router": {"router": ChoosingRouter(hanging)},
        "fallback": {"fallbacks": [CallableFallback(hanging)]},
    }.get(part, {})
    monitor = HangingMonitor(hanging) if part.startswith("monitor") else None
    server = tallied(repository, monitor, **given, **OPTIONS[options])

    async def go_on() -> None:
        while not hanging.gate.reached.is_set():
            await asyncio.sleep(0)
        hanging.gate.open()

    async def both() -> Any:
        async with asyncio.timeout(PATIENCE):
            return (await asyncio.gather(server.apredict(1, timeout_ms=timeout_ms), go_on()))[0]

    result = asyncio.run(both())
    assert result.success is (part != "monitor of failures")
    assert threading.main_thread() not in hanging.threads


def test_rows_answered_together_are_not_recorded_on_the_loop_by_a_slow_monitor(tallied: Host) -> None:
    """A batch that an event loop could run itself is run by a thread where its monitor may take long."""
    hanging = Hanging()
    repository = InMemoryModelRepository[Any]()
    rows = np.array([[0.0, 0.0], [9.0, 9.0]])

    class Model:
        is_pure = True

        def predict(self, X: Any) -> Any:
            return np.asarray(X).sum(axis=1)

    repository.register(Model(), task="regression", example=rows[0], schema=ArraySchema.infer(rows))
    monitor = HangingMonitor(hanging)
    server = tallied(repository, monitor, batching=Batching(), clock=TickingClock(0.1))

    async def ask_all() -> list[Any]:
        return [result.value for result in await asyncio.gather(*(server.apredict(row) for row in rows))]

    server.predict(rows[0])
    hanging.threads.clear()
    assert asyncio.run(ask_all()) == asyncio.run(ask_all()) == [0.0, 18.0]
    assert (threading.main_thread() in hanging.threads, len(monitor.predictions)) == (False, 5)


@pytest.mark.parametrize("part", ["validator", "router", "monitor"])
def test_what_is_known_to_be_quick_is_called_on_the_loop(part: str, tallied: Host) -> None:
    """Once it is known that a user's part takes no time, an event loop calls it itself."""
    hanging = Hanging(None if part != "router" else Route("1", "arm"))
    repository = InMemoryModelRepository()
    repository.register(Batched())
    given: Any = {"validator": {"validator": hanging}, "router": {"router": ChoosingRouter(hanging)}}.get(part, {})
    monitor = HangingMonitor(hanging) if part == "monitor" else None
    server = tallied(repository, monitor, limits=Limits(inline_below_ms=1e6), **given)

    async def ask_twice() -> None:
        for number in range(2):
            await server.apredict(number)

    asyncio.run(ask_twice())
    assert [thread is threading.main_thread() for thread in hanging.threads] == [False, True]


def test_a_pace_is_an_average_that_forgets() -> None:
    """A part is quick as long as its calls take no longer than the limit, on a moving average; a call that stands for
    several counts as so many.
    """
    clock = TickingClock(1.0)
    pace = Pace(2.5, clock.monotonic)
    assert (pace.is_quick(), pace.takes_ms()) == (False, math.inf)
    assert (pace.measured(lambda: "answer")(), pace.is_quick(), pace.takes_ms(3)) == ("answer", True, 3.0)
    pace.measured(lambda rows: None, len)([1, 2])
    assert pace.takes_ms() == pytest.approx(1.0 - AVERAGE_WEIGHT * 0.5)
    slow = Pace(0.5, clock.monotonic)
    assert (slow.measured(int)(), slow.is_quick()) == (0, False)


def test_a_pace_counts_calls_that_raise() -> None:
    """A call that raises has taken its time as well, and its exception is the caller's."""
    pace = Pace(2.5, TickingClock(1.0).monotonic)
    with pytest.raises(PredictionExceptionError):
        pace.measured(_raise)()
    assert pace.is_quick()


def _raise() -> None:
    raise PredictionExceptionError("no")


def test_threads_that_hang_in_a_validator_take_none_from_models(host: Host) -> None:
    """However many requests hang in a validator, those of a model that needs none are answered in time."""
    hanging = Hanging()
    server = host(Batched(), validator=lambda input: hanging() if input == "hang" else None)
    hanging.is_hanging = True
    stuck = [InThread(server.predict, "hang", timeout_ms=FOREVER_MS) for _ in range(3)]
    until(lambda: len(hanging.threads) == 3)
    assert server.predict_many([1, 2], timeout_ms=FOREVER_MS)[1].value == 20
    hanging.gate.open()
    assert all(call.result().success for call in stuck)


class BlockKeeping(EightMethodMonitor, BlockMonitor):
    """Takes many predictions at once, and keeps on which thread it did."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[tuple[int, bool]] = []

    def record_block(self, model_version: str, prediction_ids: Sequence[str], *columns: Any) -> None:
        self.blocks.append((len(prediction_ids), threading.current_thread() is threading.main_thread()))


def test_blocks_of_a_monitor_that_defers_nothing_are_timed_too(tallied: Host) -> None:
    """A monitor that takes blocks, but may take long over them, is waited for no longer than a deadline allows."""
    repository = InMemoryModelRepository()
    repository.register(Batched())
    monitor = BlockKeeping()
    server = tallied(repository, monitor)
    assert [result.value for result in server.predict_many([1, 2], timeout_ms=FOREVER_MS)] == [10, 20]
    server.predict_many([1, 2, 3])
    assert monitor.blocks == [(2, False), (3, True)]


@pytest.mark.parametrize("options", [{}, {"batching": Batching()}, {"fallbacks": [PreviousVersion()]}], ids=str)
def test_who_leaves_while_the_monitor_is_told_is_cancelled_and_nothing_else(options: Any, tallied: Host) -> None:
    """A caller who goes away while its failure or its helped answer is being recorded counts once, as cancelled."""
    hanging = Hanging()
    hanging.is_hanging = True
    repository = InMemoryModelRepository()
    repository.register(Batched())
    repository.register(Batched(bad=[1]), example=2)
    monitor = HangingMonitor(hanging)
    server = tallied(repository, monitor, **options)

    asyncio.run(left_while_recorded(hanging, server.apredict(1)))
    hanging.gate.open()
    found = server.statistics()
    assert (found.cancelled, found.failed, found.degraded) == (1, 0, 0)


@both
@pytest.mark.parametrize("many", [False, True])
def test_a_monitor_that_hangs_is_waited_for_once(
    many: bool, is_async: bool, tallied: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a monitor has not done what one request stopped waiting for, no other request with a deadline waits for it,
    be its own deadline years away.
    """
    hanging = Hanging()
    hanging.is_hanging = True
    monitor = HangingMonitor(hanging)
    repository = InMemoryModelRepository()
    repository.register(Batched(bad=[2]))
    server = tallied(repository, monitor)
    with monkeypatch.context() as brief:
        brief.setattr(_results, "LEFT_SHARE", SOON_MS / FOREVER_MS)
        assert server.predict(1, timeout_ms=FOREVER_MS).value == 10
    if many:
        call = InThread(server.predict_many, [2, 2, 2], timeout_ms=FOREVER_MS)
    else:
        call = InThread(lambda: [ask(server, is_async, 2, timeout_ms=FOREVER_MS)])
    kinds = {result.error.kind for result in call.result()}
    hanging.gate.open()
    assert kinds == {ErrorKind.PredictionException}
    until(lambda: len(monitor.errors) == (3 if many else 1))
    until(server._parts.guarded._results._behind.done)
    hanging.is_hanging = False
    assert server.predict(3, timeout_ms=FOREVER_MS).value == 30
    assert monitor.predictions[-1].output == 30


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("wrapped", ["sink", "primary", "sampled"])
def test_a_monitor_behind_another_is_not_waited_for_either(wrapped: str, tallied: Host) -> None:
    """A fan-out keeps nobody waiting beyond a deadline, whichever of its monitors hangs."""
    hanging = Hanging()
    inner = HangingMonitor(hanging)
    memory = InMemoryModelMonitor()
    monitor = {
        "sink": lambda: FanoutMonitor(memory, inner),
        "primary": lambda: FanoutMonitor(inner, memory),
        "sampled": lambda: FanoutMonitor(memory, SampledMonitor(inner, 1.0)),
    }[wrapped]()
    repository = InMemoryModelRepository()
    repository.register(Batched())
    server = tallied(repository, monitor)
    hanging.is_hanging = True
    assert server.predict(1, timeout_ms=FOREVER_MS).value == 10
    hanging.gate.open()
    until(lambda: len(inner.predictions) == 1)
    assert (FanoutMonitor(memory).always_defers, monitor.always_defers) == (True, False)


def test_many_that_are_awaited_have_a_deadline_before_they_have_a_thread(host: Host) -> None:
    """``apredict_many`` that waits for a thread when its time is up is late, and never begun."""
    model = Batched()
    server = host(model)
    server._parts.guarded.guards.threads.waiting = pool = WorkerPool(None, max_threads=1)
    gate = Gate()
    pool.submit(gate.pass_through)
    gate.wait_until_reached()
    results = asyncio.run(asyncio.wait_for(server.apredict_many([1, 2], timeout_ms=SOON_MS), PATIENCE))
    gate.open()
    until(lambda: not pool._work)
    assert ([result.error.kind for result in results], model.batches) == ([ErrorKind.DeadlineExceeded] * 2, [])


def test_what_a_batch_has_recorded_is_recorded_once(host: Host) -> None:
    """A request that its batch has answered, though its caller was told to be late, is what the batch made of it."""
    server = host(Batched())
    guarded_path = server._parts.guarded
    request = Request(1, "id", 0.0)
    request.result = answer = server.predict(1)
    late = PredictionExceptionError("late")
    assert guarded_path.instead(request, late) is answer
    assert asyncio.run(guarded_path._ainstead(request, late)) is answer
    assert server.get_model_metrics().error_count == 0


@pytest.mark.parametrize("timeout_ms", [None, FOREVER_MS])
@both
def test_a_fallback_that_raises_keeps_no_input_alive(is_async: bool, timeout_ms: Any, tallied: Host) -> None:
    """What was asked is let go of when it is answered, without help of the garbage collector."""

    class Input:
        pass

    repository = InMemoryModelRepository()
    repository.register(failing)
    server = tallied(repository, EightMethodMonitor(), fallbacks=[CallableFallback(failing), StaticAnswer(0)])
    ask(server, is_async, 0, timeout_ms=timeout_ms)
    gc.collect()
    gc.disable()
    try:
        with nothing_logged():
            input = Input()
            alive = weakref.ref(input)
            assert ask(server, is_async, input, timeout_ms=timeout_ms).value == 0
            del input
            until(lambda: alive() is None)
    finally:
        gc.enable()


@pytest.mark.parametrize("is_known", [False, True])
def test_what_is_not_known_is_called_in_place_where_no_thread_is_left(is_known: bool, host: Host) -> None:
    """A cold burst is not refused for a router that may be quick; one known to be slow is a reason to refuse."""
    router = ChoosingRouter(None)
    server = host(Batched(), router=router)
    server.predict(0)
    server._parts.guarded.guards.threads.routing = pool = WorkerPool(0, max_threads=1)
    gate = Gate()
    pool.submit(gate.pass_through)
    gate.wait_until_reached()
    server._parts.guarded.guards.finding._routes.pace._average_ms = 1e6 if is_known else None
    result = asyncio.run(server.apredict(1))
    gate.open()
    assert (result.value, result.error and result.error.kind) == (
        (None, ErrorKind.Overloaded) if is_known else (10, None)
    )


@pytest.mark.parametrize("timeout_ms", [None, FOREVER_MS])
def test_a_cancelled_error_of_a_users_is_an_error(timeout_ms: Any, host: Host) -> None:
    """``concurrent.futures.CancelledError`` out of a model or a fallback cancels nobody."""

    def cancelled(input: Any) -> Any:
        raise CancelledError

    server = host(cancelled, fallbacks=[CallableFallback(cancelled), StaticAnswer(0)])
    assert [ask(server, is_async, 1, timeout_ms=timeout_ms).value for is_async in (False, True)] == [0, 0]
    assert server.statistics().cancelled == 0


def test_a_route_that_comes_too_late_leaves_no_arm(host: Host) -> None:
    """A router that answers after the deadline has assigned nobody to an arm."""
    hanging = Hanging(Route("1", "arm"))
    hanging.is_hanging = True
    server = host(Batched(), router=ChoosingRouter(hanging), fallbacks=[StaticAnswer(0)])
    result = server.predict(1, timeout_ms=SOON_MS)
    hanging.gate.open()
    assert (result.value, result.arm) == (0, None)


def test_who_leaves_while_many_are_refused_is_cancelled(tallied: Host) -> None:
    """A caller of ``apredict_many`` that goes away while a slow monitor hears of its refusal counts as cancelled."""
    hanging = Hanging()
    hanging.is_hanging = True
    repository = InMemoryModelRepository()
    repository.register(Batched())
    server = tallied(repository, HangingMonitor(hanging))
    server._parts.guarded.guards.threads.waiting = WorkerPool(0, max_threads=0)

    asyncio.run(left_while_recorded(hanging, server.server.apredict_many([1, 2])))
    hanging.gate.open()
    server.forget(1)
    found = server.statistics()
    assert (found.accepted, found.cancelled, found.shed) == (1, 1, 0)
