"""Whether a server can answer, found by trying."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import numpy as np

from mlserve._rendering import described, number
from mlserve.clocks import Clock
from mlserve.errors import ServingError
from mlserve.protocols import ModelMonitor
from mlserve.records import CheckStatus, HealthCheck, HealthState, HealthStatus, ModelMetrics
from mlserve.serving._cache import VersionCache
from mlserve.serving._loaded import LoadedVersion
from mlserve.serving._policy import HealthPolicy
from mlserve.serving._recording import Recorder

if TYPE_CHECKING:
    from mlserve.serving._batching import Batcher
    from mlserve.serving._pool import WorkerPool

T = TypeVar("T")

UNKNOWN_FEATURE = 0.5
"""What each feature of a synthetic input is when neither an example nor a schema tells."""


@attrs.frozen(eq=False, repr=False)
class HealthExaminer:
    """Makes the checks of one server.

    Attributes:
        cache: Its models.
        monitor: Where its metrics are read.
        recorder: Where failures of the monitor are counted.
        policy: What counts as healthy.
        clock: For the time of the check.
        synthetic_input: What to predict, or None for the version's own example.
        predict_once: Calls a loaded version with an input, unrecorded; raises what goes wrong.
        pool: Where it is waited for what may hang.
        batcher: The server's batcher, or None.
    """

    cache: VersionCache
    monitor: ModelMonitor
    recorder: Recorder
    policy: HealthPolicy
    clock: Clock
    synthetic_input: Any
    predict_once: Callable[[LoadedVersion, Any], object]
    pool: WorkerPool
    batcher: Batcher | None = None
    _seen: Counter[str] = attrs.field(factory=Counter, init=False)
    """Errors of the monitor that an earlier check has told of."""
    _under_way: dict[str, Future[Any]] = attrs.field(factory=dict, init=False)
    """Calls that have not ended: one that hangs is waited for again, not made once more."""

    def renew(self) -> None:  # pragma: no cover  # runs in the forked child, where nothing measures
        """No call is under way, as in a forked child."""
        self._under_way.clear()

    def examine(self) -> HealthStatus:
        """All checks, one after the other. Never raises."""
        checks: list[HealthCheck] = []
        loaded = self._check_versions(checks)
        if loaded is not None:
            checks.append(self._check_prediction(loaded))
            checks.append(_check_validation(loaded))
        checks += _check_breakers(self.cache.loaded)
        checks.append(_check_batcher(self.batcher))
        metrics = self._check_monitor(checks)
        checks.append(self._check_error_rate(metrics))
        checks.append(_check_latency(metrics))
        self.cache.sweep()
        failed = [check for check in checks if check.status is CheckStatus.FAIL]
        warned = [check for check in checks if check.status is CheckStatus.WARN]
        state = HealthState.UNHEALTHY if failed else HealthState.DEGRADED if warned else HealthState.HEALTHY
        return HealthStatus(
            is_healthy=not failed,
            status=state,
            current_version=None if loaded is None else loaded.id,
            loaded_models=tuple(version.id for version in self.cache.loaded),
            recent_error_rate=None if metrics is None else metrics.fault_rate,
            average_latency_ms=None if metrics is None else metrics.average_latency_ms,
            last_check=self.clock.now(),
            error="; ".join(check.detail for check in [*failed, *warned]) or None,
            checks=tuple(checks),
        )

    def is_ready(self) -> bool:
        """Whether the version that answers has predicted once."""
        loaded = self.cache.fresh(self.clock.monotonic())
        try:
            if loaded is None:
                loaded = self._in_time("latest", self.cache.latest)
        except ServingError:
            return False
        except TimeoutError:
            current = self.cache.current
            if current is None:
                return False
            loaded = current.loaded
        if not loaded.is_proven:
            check = self._check_prediction(loaded)
            # A version that nothing is known to try with is believed.
            loaded.is_proven = check.status is not CheckStatus.FAIL
        return loaded.is_proven

    def _in_time(self, what: str, call: Callable[[], T]) -> T:
        """Make a call, on another thread where it may not be waited for for ever.

        Raises:
            TimeoutError: It takes longer; it goes on.
        """
        limit = self.policy.timeout_ms
        if limit is None:
            return call()
        future: Future[T] | None = self._under_way.get(what)
        if future is None or future.done():
            future = self._under_way[what] = self.pool.submit(call)
            future.add_done_callback(partial(self._ended, what))
        try:
            return future.result(limit / 1000.0)
        except TimeoutError:
            if future.done():
                return future.result()  # it ended at that very moment, or the error is its own
            raise TimeoutError(f"it takes longer than {limit:g} ms, and goes on") from None
        finally:
            del future  # an exception's traceback would keep it, and it the exception

    def _ended(self, what: str, future: Future[Any]) -> None:
        if self._under_way.get(what) is future:  # pragma: no branch  # else the next check was faster
            del self._under_way[what]  # it holds what the call gave

    def _check_versions(self, checks: list[HealthCheck]) -> LoadedVersion | None:
        try:
            loaded = self._in_time("follow", self.cache.follow)
        except TimeoutError as error:
            current = self.cache.current
            wrong = f"the repository was asked and its latest version loaded, but {error}"
            if current is not None:
                checks.append(HealthCheck("repository", CheckStatus.WARN, wrong))
                checks.append(_check_model(current.loaded))
                return current.loaded
            checks += _without_model(wrong)
            return None
        except ServingError as error:
            checks += _without_model(error.message)
            return None
        trouble = self.cache.trouble
        if trouble is None:
            checks.append(HealthCheck("repository", CheckStatus.PASS, f"the latest version is {loaded.id}"))
        else:
            detail = f"version {loaded.id} goes on answering, because {trouble.message}"
            checks.append(HealthCheck("repository", CheckStatus.WARN, detail))
        checks.append(_check_model(loaded))
        return loaded

    def _check_prediction(self, loaded: LoadedVersion) -> HealthCheck:
        input = self.synthetic_input if self.synthetic_input is not None else loaded.example
        if input is None:
            detail = "no input to try: register the version with example=, or give the server synthetic_input="
            return HealthCheck("prediction", CheckStatus.SKIPPED, detail)
        try:
            self._in_time(f"predict {loaded.id}", lambda: self.predict_once(loaded, input))
        except Exception as error:
            detail = f"version {loaded.id} failed on the synthetic input: {described(error)}"
            return HealthCheck("prediction", CheckStatus.FAIL, detail)
        return HealthCheck("prediction", CheckStatus.PASS, "the synthetic input was answered")

    def _check_monitor(self, checks: list[HealthCheck]) -> ModelMetrics | None:
        try:
            metrics = self._in_time("monitor", lambda: self.monitor.get_recent_metrics(self.policy.window))
        except Exception as error:
            self.recorder.failed(error)
            checks.append(HealthCheck("monitor", CheckStatus.WARN, f"the monitor cannot be read: {described(error)}"))
            return None
        errors = self.recorder.errors
        new, self._seen["monitor"] = errors - self._seen["monitor"], errors
        if new:
            detail = f"the monitor can be read, and raised {new} times when it was written, since it was last looked at"
            checks.append(HealthCheck("monitor", CheckStatus.WARN, detail))
        else:
            checks.append(HealthCheck("monitor", CheckStatus.PASS, "the monitor can be read"))
        return metrics

    def _check_error_rate(self, metrics: ModelMetrics | None) -> HealthCheck:
        limit = self.policy.max_error_rate
        if metrics is None or metrics.fault_rate is None:
            return HealthCheck("error_rate", CheckStatus.PASS, "no traffic")
        found = f"{metrics.fault_rate:.2%} of {metrics.request_count} requests failed in the last {self.policy.window}"
        if metrics.fault_rate < limit:
            return HealthCheck("error_rate", CheckStatus.PASS, found)
        return HealthCheck("error_rate", CheckStatus.FAIL, f"{found}; expected less than {limit:.0%}")


def _check_model(loaded: LoadedVersion) -> HealthCheck:
    return HealthCheck("model", CheckStatus.PASS, f"version {loaded.id} is a {loaded.adapter.kind}")


def _without_model(wrong: str) -> list[HealthCheck]:
    return [
        HealthCheck("repository", CheckStatus.FAIL, wrong),
        HealthCheck("model", CheckStatus.FAIL, "no version is loaded that could answer"),
        HealthCheck("prediction", CheckStatus.SKIPPED, "there is no model to try"),
    ]


def _check_validation(loaded: LoadedVersion) -> HealthCheck:
    if loaded.validated:
        return HealthCheck("validation", CheckStatus.PASS, "inputs are validated")
    return HealthCheck("validation", CheckStatus.SKIPPED, "Unvalidated: register the version with schema= or example=")


def _check_breakers(versions: Sequence[LoadedVersion]) -> list[HealthCheck]:
    states = {version.id: version.breaker.state for version in versions if version.breaker is not None}
    if not states:
        return []
    from mlserve.serving._breaker import BreakerState  # loaded, since there is one

    is_closed = all(state is BreakerState.CLOSED for state in states.values())
    detail = "; ".join(f"the circuit breaker of version {name} is {state}" for name, state in states.items())
    return [HealthCheck("breaker", CheckStatus.PASS if is_closed else CheckStatus.WARN, detail)]


def _check_batcher(batcher: Batcher | None) -> HealthCheck:
    if batcher is None:
        return HealthCheck("batcher", CheckStatus.SKIPPED, "requests are not batched")
    threads = batcher.batches.threads
    if threads.ensure_alive():
        return HealthCheck("batcher", CheckStatus.PASS, f"{threads.deaths} restarts")
    return HealthCheck(
        "batcher", CheckStatus.WARN, f"a batcher's thread had died and was started again ({threads.deaths})"
    )


def _check_latency(metrics: ModelMetrics | None) -> HealthCheck:
    if metrics is None or metrics.average_latency_ms is None:
        return HealthCheck("latency", CheckStatus.PASS, "no traffic")
    detail = f"mean {number(metrics.average_latency_ms)} ms, p99 {number(metrics.p99_latency_ms)} ms"
    return HealthCheck("latency", CheckStatus.PASS, detail)


def synthetic_example(example: Any, schema: Any, model: Any) -> Any:
    """What to try a version with: its example, else one that fits its schema, else, for a model fitted on an array, one
    of its width.

    Returns:
        An input, or None where nothing tells what one looks like.
    """
    if example is not None:
        return example
    if schema is not None:
        return schema.example()
    if getattr(model, "feature_names_in_", None) is not None:
        return None  # the columns of a frame need not be numbers: an input made up here would blame a sound model
    width = getattr(model, "n_features_in_", None)
    return None if width is None else np.full(int(width), UNKNOWN_FEATURE)


def closed_health(now: datetime) -> HealthStatus:
    """The health of a server that was closed."""
    detail = "the server was closed"
    return HealthStatus(
        is_healthy=False,
        status=HealthState.UNHEALTHY,
        current_version=None,
        loaded_models=(),
        recent_error_rate=None,
        average_latency_ms=None,
        last_check=now,
        error=detail,
        checks=(HealthCheck("server", CheckStatus.FAIL, detail),),
    )
