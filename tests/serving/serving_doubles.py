"""Hand-written doubles of the protocols, and the waiting that tests of threads share."""

from __future__ import annotations

import contextvars
import gc
import itertools
import logging
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from mlserve import BaselineMonitor, ErrorKind, ModelMonitor, ModelRepository, ModelServer, VersionDescriber
from mlserve.protocols import BatchPredictor, Router
from mlserve.records import (
    Baseline,
    DriftEvent,
    InputSample,
    ModelMetrics,
    ModelVersion,
    PredictionEvent,
    Route,
    ServingResult,
    Stage,
    VersionDescription,
)
from mlserve.repositories import InMemoryModelRepository

PATIENCE = 30.0
"""Seconds that a test waits for another thread before it fails: generous, since a passing test never waits so long."""


STEP_MS = 0.1
"""A model whose calls take so long is worth a batch, and short enough for an event loop."""

caller = contextvars.ContextVar("caller", default="nobody")
"""Who asks, as far as the model can see."""

MOST_IDS = 100_000
"""Prediction ids that a tally compares."""


class Gate:
    """A place where a thread waits until the test opens it."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._opened = threading.Event()

    def pass_through(self) -> None:
        """Wait for the gate to open; called by the code under test."""
        self.reached.set()
        assert self._opened.wait(PATIENCE), "nobody opened the gate"

    def wait_until_reached(self) -> None:
        assert self.reached.wait(PATIENCE), "nobody came to the gate"

    def open(self) -> None:
        self._opened.set()


class InThread:
    """A call in a thread of its own, whose result or exception the test fetches."""

    def __init__(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._value: Any = None
        self._error: BaseException | None = None

        def run() -> None:
            try:
                self._value = call(*args, **kwargs)
            except BaseException as error:
                self._error = error

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def result(self) -> Any:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the call did not end"
        if self._error is not None:
            raise self._error
        return self._value


def all_at_once(count: int, call: Callable[[int], Any]) -> list[Any]:
    """What ``call(index)`` gives in ``count`` threads that start together."""
    barrier = threading.Barrier(count)

    def run(index: int) -> Any:
        barrier.wait(PATIENCE)
        return call(index)

    calls = [InThread(run, index) for index in range(count)]
    return [started.result() for started in calls]


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do, where it has no event to wait for."""
    never = threading.Event()
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        never.wait(0.001)


def too_late(ask: Callable[[float], Any], is_there: Callable[[Any], bool]) -> Any:
    """What a request came to whose time was up where that is to be.

    Args:
        ask: Asks with a time limit in milliseconds. A machine may be so busy that the time is up before: then it is
            asked again, with more time.
        is_there: Told what came of it, whether the request got as far as it should.
    """
    for timeout_ms in (20.0, 200.0, 2_000.0, 20_000.0):
        result = ask(timeout_ms)
        if is_there(result):
            return result
    raise AssertionError("it did not get there")


def background_ended() -> None:
    """Wait until the server's loads and refreshes under way have ended, and those that they started."""
    # Not by joining them: of those there are some may be about to start.
    names = ("mlserve-load", "mlserve-refresh")
    until(lambda: not any(thread.name.startswith(names) for thread in threading.enumerate()))


@contextmanager
def nothing_logged() -> Iterator[None]:
    """No log record is made: a handler that keeps records keeps their tracebacks, and with these all locals."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def is_garbage(reference: Callable[[], Any]) -> bool:
    """Whether a weakly referenced object is gone once the garbage is collected."""
    gc.collect()
    return reference() is None


class Answering:
    """A callable model that answers with what it was built with; unlike a number it can be weakly referenced."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __call__(self, input: Any) -> Any:
        return self.answer


class ThreeMethodRepository(ModelRepository[Any]):
    """The least that a repository must have, over one in memory; any method can be made to raise, any load to wait."""

    def __init__(self) -> None:
        self.inner = InMemoryModelRepository()
        self.calls: Counter[str] = Counter()
        self.broken: dict[str, BaseException] = {}
        self.broken_loads: dict[str, BaseException] = {}
        self.loads: Counter[str] = Counter()
        self.gates: dict[str, Gate] = {}
        self.register = self.inner.register
        self.activate = self.inner.activate
        self.retire = self.inner.retire
        self.rollback = self.inner.rollback

    def gate(self, version_id: str) -> Gate:
        """The load of this version waits here from now on."""
        return self.gates.setdefault(version_id, Gate())

    def _called(self, method: str) -> None:
        self.calls[method] += 1
        if method in self.broken:
            raise self.broken[method]

    def get_latest_version(self) -> ModelVersion:
        self._called("get_latest_version")
        return self.inner.get_latest_version()

    def get_active_versions(self, limit: int | None = None) -> Sequence[ModelVersion]:
        self._called("get_active_versions")
        return self.inner.get_active_versions(limit)

    def load_model(self, version: ModelVersion) -> Any:
        self._called("load_model")
        self.loads[version.id] += 1
        if version.id in self.gates:
            self.gates[version.id].pass_through()
        if version.id in self.broken_loads:
            raise self.broken_loads[version.id]
        return self.inner.load_model(version)


class MakingRepository(ThreeMethodRepository):
    """Registers what makes a model, makes one at each load, keeps none and can tell whether the last one is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[str, weakref.ref[Any]] = {}

    def load_model(self, version: ModelVersion) -> Any:
        model = super().load_model(version)()
        self.made[version.id] = weakref.ref(model)
        return model


class FullRepository(ThreeMethodRepository, VersionDescriber):
    """The same with a generation, descriptions, stages and aliases."""

    def __init__(self) -> None:
        super().__init__()
        self.set_alias = self.inner.set_alias

    @property
    def generation(self) -> int:
        if "generation" in self.broken:
            raise self.broken["generation"]
        return self.inner.generation

    def describe(self, version: ModelVersion | str) -> VersionDescription:
        self._called("describe")
        return self.inner.describe(version)

    def stage(self, version: ModelVersion | str) -> Stage:
        self._called("stage")
        return self.inner.stage(version)

    def resolve_alias(self, alias: str) -> ModelVersion:
        self._called("resolve_alias")
        return self.inner.resolve_alias(alias)

    def get_version(self, version_id: str) -> ModelVersion:
        self._called("get_version")
        return self.inner.get_version(version_id)


class EightMethodMonitor(ModelMonitor):
    """The least that a monitor must have: it keeps what it is told; any method can be made to raise."""

    def __init__(self) -> None:
        self.predictions: list[PredictionEvent] = []
        self.errors: list[tuple[str, str | None]] = []
        self.metrics = ModelMetrics()
        self.baselines: dict[str, Baseline] = {}
        self.broken: dict[str, BaseException] = {}

    def _called(self, method: str) -> None:
        error = self.broken.get(method, self.broken.get("*"))
        if error is not None:
            raise error

    def record_prediction(self, event: PredictionEvent) -> None:
        self._called("record_prediction")
        self.predictions.append(event)

    def record_prediction_error(self, kind: str, version_id: str | None) -> None:
        self._called("record_prediction_error")
        self.errors.append((kind, version_id))

    def get_recent_metrics(self, window: timedelta) -> ModelMetrics:
        self._called("get_recent_metrics")
        return self.metrics

    def get_model_metrics(self, version_id: str, window: timedelta) -> ModelMetrics:
        self._called("get_model_metrics")
        return ModelMetrics(model_version=version_id, window=window)

    def get_baseline_metrics(self, version_id: str) -> ModelMetrics | None:
        self._called("get_baseline_metrics")
        return self.baselines.get(version_id, Baseline()).metrics

    def get_recent_input_distribution(self, version_id: str, window: timedelta) -> InputSample:
        self._called("get_recent_input_distribution")
        raise NotImplementedError

    def get_baseline_input_distribution(self, version_id: str) -> InputSample | None:
        self._called("get_baseline_input_distribution")
        return self.baselines.get(version_id, Baseline()).inputs

    def record_drift_event(self, event: DriftEvent) -> None:
        self._called("record_drift_event")


class BaselineKeepingMonitor(EightMethodMonitor, BaselineMonitor):
    """The same, with baselines that can be set; counts how often they were."""

    def __init__(self) -> None:
        super().__init__()
        self.times_set: Counter[str] = Counter()

    def set_baseline(
        self,
        version_id: str,
        *,
        metrics: ModelMetrics | None = None,
        inputs: Any = None,
        feature_names: Sequence[str] | None = None,
    ) -> None:
        self._called("set_baseline")
        self.times_set[version_id] += 1
        known = self.baselines.get(version_id, Baseline())
        self.baselines[version_id] = Baseline(
            metrics=known.metrics if metrics is None else metrics, inputs=known.inputs if inputs is None else inputs
        )

    def capture_baseline(self, version_id: str, window: timedelta) -> None:
        raise NotImplementedError


class UnprintableError(Exception):
    """An exception whose text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Batched(BatchPredictor[Any, Any]):
    """Answers each input ten times over; keeps what it was called with, and waits at its gate where it has one."""

    def __init__(self, *, gate: Gate | None = None, bad: Sequence[Any] = (), is_pure: bool = False) -> None:
        self.gate = gate
        self.bad = bad
        self.is_pure = is_pure
        self.batches: list[list[Any]] = []

    def predict_batch(self, inputs: Sequence[Any]) -> list[Any]:
        self.batches.append(list(inputs))
        if self.gate is not None:
            self.gate.pass_through()
        if any(input in self.bad for input in inputs):
            raise ValueError("there is a bad one")
        return [input * 10 for input in inputs]


class Sums:
    """Answers each row with its sum; keeps the tables it was shown since ``forget``."""

    is_pure = True

    def __init__(self) -> None:
        self.tables: list[list[list[float]]] = []
        self.callers: list[str] = []
        self.gate: Gate | None = None
        self.raised: BaseException | None = None
        self.hook: Callable[[], object] = int

    def forget(self) -> None:
        self.tables, self.callers = [], []

    def predict(self, X: Any) -> Any:
        self.tables.append(np.asarray(X).tolist())
        self.callers.append(caller.get())
        if self.gate is not None:
            self.gate.pass_through()
        self.hook()
        if self.raised is not None and [13.0, 13.0] in self.tables[-1]:
            raise self.raised
        return np.asarray(X).sum(axis=1)


def row(value: float) -> np.ndarray:
    return np.array([value, value])


class TickingClock:
    """A clock that goes on by one step whenever its monotonic time is read: calls take as long as a test says."""

    def __init__(self, step_ms: float) -> None:
        self._step = step_ms / 1000.0
        self._ticks = itertools.count()

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return next(self._ticks) * self._step


class ChoosingRouter(Router):
    """Chooses what it is told to; raises it where it is an exception."""

    def __init__(self, choice: Any, pinned: Any = frozenset()) -> None:
        self.choice = choice
        self.pinned = pinned
        self.keys: list[str | None] = []

    def route(self, key: str | None) -> Route | None:
        self.keys.append(key)
        if isinstance(self.choice, BaseException):
            raise self.choice
        return self.choice(key) if callable(self.choice) else self.choice

    def routed_versions(self) -> frozenset[str]:
        if isinstance(self.pinned, BaseException):
            raise self.pinned
        return self.pinned


def queued(server: Any) -> int:
    """Requests that wait for a batch. A server does not tell, since they are as well in flight."""
    lanes = [version.lane for version in server._parts.cache.loaded if version.lane is not None]
    return sum(len(lane) + sum(map(len, lane.bunches.copy().values())) for lane in lanes)


def in_lanes(server: Any) -> int:
    """Of these, who can be taken into the next batch: not those whose event loop has not finished its turn."""
    return sum(len(version.lane) for version in server._parts.cache.loaded)


def held(server: Any) -> int:
    """Leases and holds on models: what keeps them from being dropped."""
    return sum(len(version.leases) + len(version.holds) for version in server._parts.cache.loaded)


class Tallied:
    """A server whose results are counted by who gets them: what its own counters are compared with.

    It keeps no results, only the ids of the first: a long proof has millions.
    """

    def __init__(self, server: ModelServer) -> None:
        self.server = server
        # A coroutine that is collected may be counted while its thread is counting.
        self._lock = threading.RLock()
        self._kinds: Counter[ErrorKind | None] = Counter()
        self._degraded = 0
        self._left = 0
        self._ids: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.server, name)

    def _told(self, results: Sequence[ServingResult[Any]]) -> None:
        with self._lock:
            self._kinds.update(None if result.error is None else result.error.kind for result in results)
            self._degraded += sum(result.degraded is not None for result in results)
            if len(self._ids) < MOST_IDS:
                self._ids += [result.prediction_id for result in results]

    def forget(self, cancelled: int) -> None:
        """Of requests that were made past this tally, so many were cancelled."""
        with self._lock:
            self._left += cancelled

    def predict(self, *args: Any, **kwargs: Any) -> ServingResult[Any]:
        try:
            result = self.server.predict(*args, **kwargs)
        except BaseException:
            self.forget(1)
            raise
        self._told([result])
        return result

    async def apredict(self, *args: Any, **kwargs: Any) -> ServingResult[Any]:
        try:
            result = await self.server.apredict(*args, **kwargs)
        except BaseException:
            self.forget(1)
            raise
        self._told([result])
        return result

    def predict_many(self, *args: Any, **kwargs: Any) -> list[ServingResult[Any]]:
        results = self.server.predict_many(*args, **kwargs)
        self._told(results)
        return results

    async def apredict_many(self, *args: Any, **kwargs: Any) -> list[ServingResult[Any]]:
        results = await self.server.apredict_many(*args, **kwargs)
        self._told(results)
        return results

    def check_balance(self) -> None:
        """Whatever was taken in was answered, shed or cancelled, as its callers saw it, and nothing is held."""
        until(lambda: not held(self.server) and not queued(self.server))
        found, results = self.server.statistics(), self._kinds.total()
        shed = self._kinds[ErrorKind.Overloaded]
        counted = {
            "accepted": found.accepted,
            "answered": found.answered,
            "failed": found.failed,
            "shed": found.shed,
            "cancelled": found.cancelled,
            "degraded": found.degraded,
            "timed out": found.timed_out,
            "in flight": found.in_flight,
            "leases": sum(found.leases.values()),
            "queued": queued(self.server),
        }
        seen = {
            "accepted": results + self._left,
            "answered": results - shed,
            "failed": results - self._kinds[None] - shed,
            "shed": shed,
            "cancelled": self._left,
            "degraded": self._degraded,
            "timed out": self._kinds[ErrorKind.DeadlineExceeded],
            "in flight": 0,
            "leases": 0,
            "queued": 0,
        }
        assert counted == seen, f"the server counted {counted}, its callers {seen}"
        assert len(set(self._ids)) == len(self._ids)
