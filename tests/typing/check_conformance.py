"""Shipped classes keep the promises they name. Read by mypy, never run: an assignment that fails is the failure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from mlserve import (
    BaselineMonitor,
    Batching,
    Clock,
    CumulativeMonitor,
    DeferringMonitor,
    EventMonitor,
    InMemoryModelMonitor,
    InMemoryModelRepository,
    LabelledMonitor,
    Limits,
    MergeableMonitor,
    ModelMetrics,
    ModelMonitor,
    ModelRepository,
    ModelServer,
    ModelVersion,
    ObservableRepository,
    PredictionEvent,
    PredictionMonitor,
    PredictionService,
    ServingResult,
    VersionDescriber,
    WritableModelRepository,
)
from mlserve.clocks import ManualClock, SystemClock
from mlserve.integrations.sql import SqlModelMonitor
from mlserve.protocols import BatchPredictor, Router, SupportsWarmUp
from mlserve.records import DriftEvent, HealthStatus, InputSample, Route
from mlserve.repositories import (
    DirectoryModelRepository,
    HmacSigner,
    HmacVerifier,
    ModelSigningSigner,
    ModelSigningVerifier,
    Signer,
    Verifier,
)
from mlserve.serving import Breaker, CallableFallback, PreviousVersion, StaticAnswer


class Model:
    """Any model."""


def use(*values: object) -> None:
    """Take what was assigned, so that it is not unused."""


def repository_in_memory(repository: InMemoryModelRepository[Model]) -> None:
    """The repository in memory is readable, writable, describes its versions and can be observed."""
    readable: ModelRepository[Model] = repository
    writable: WritableModelRepository[Model] = repository
    describer: VersionDescriber = repository
    observable: ObservableRepository = repository
    use(readable, writable, describer, observable)


def repository_in_a_directory(repository: DirectoryModelRepository[Model]) -> None:
    """The repository in a directory keeps the same promises."""
    readable: ModelRepository[Model] = repository
    writable: WritableModelRepository[Model] = repository
    describer: VersionDescriber = repository
    observable: ObservableRepository = repository
    use(readable, writable, describer, observable)


def signatures(
    shared: HmacSigner, checking: HmacVerifier, private: ModelSigningSigner, public: ModelSigningVerifier
) -> None:
    """Both ways of signing keep the protocols of signers and verifiers."""
    signers: list[Signer] = [shared, private]
    verifiers: list[Verifier] = [checking, public]
    use(signers, verifiers)


def monitor_on_a_database(monitor: SqlModelMonitor) -> None:
    """The monitor on a database keeps every promise of monitors."""
    counting: ModelMonitor = monitor
    labelled: LabelledMonitor = monitor
    baselines: BaselineMonitor = monitor
    predictions: PredictionMonitor = monitor
    cumulative: CumulativeMonitor = monitor
    mergeable: MergeableMonitor = monitor
    events: EventMonitor = monitor
    deferring: DeferringMonitor = monitor
    use(counting, labelled, baselines, predictions, cumulative, mergeable, events, deferring)


def monitor_in_memory(monitor: InMemoryModelMonitor) -> None:
    """The monitor in memory keeps all six promises of monitors."""
    counting: ModelMonitor = monitor
    labelled: LabelledMonitor = monitor
    baselines: BaselineMonitor = monitor
    answers: PredictionMonitor = monitor
    events: EventMonitor = monitor
    deferring: DeferringMonitor = monitor
    use(counting, labelled, baselines, answers, events, deferring)


def server(server: ModelServer[Model, str, float]) -> None:
    """A server is a prediction service of its own types."""
    service: PredictionService[str, float] = server
    use(service)


def clocks(system: SystemClock, manual: ManualClock) -> None:
    """Both clocks are clocks."""
    both: tuple[Clock, Clock] = (system, manual)
    use(both)


class FirstLetter:
    """A user's router, without subclassing."""

    def route(self, key: str | None) -> Route | None:
        return Route("1", key[0]) if key else None

    def routed_versions(self) -> frozenset[str]:
        return frozenset({"1"})


class Lengths:
    """A user's model of batches, without subclassing, that warms up."""

    def predict_batch(self, inputs: Sequence[str]) -> list[int]:
        return [len(text) for text in inputs]

    def warm_up(self) -> None: ...


def guarded(repository: InMemoryModelRepository[Model], monitor: InMemoryModelMonitor) -> None:
    """What a server may put between a request and its model is taken as it is written."""
    router: Router = FirstLetter()
    batches: BatchPredictor[str, int] = Lengths()
    warming: SupportsWarmUp = Lengths()
    server: ModelServer[Model, Any, Any] = ModelServer(
        repository,
        monitor,
        router=router,
        fallbacks=[PreviousVersion(), StaticAnswer(0), CallableFallback(lambda input: 0)],
        breaker=Breaker(min_calls=5),
        batching=Batching(weight=len),
        concurrency=2,
        limits=Limits(max_in_flight=8, max_queued=8, default_timeout_ms=100.0),
    )
    use(server, batches, warming)


class ThreeMethods:
    """The least that a user's repository needs, without subclassing."""

    def get_latest_version(self) -> ModelVersion:
        return self.get_active_versions()[0]

    def get_active_versions(self, limit: int | None = None) -> list[ModelVersion]:
        return [ModelVersion("1", datetime.fromtimestamp(0))][:limit]

    def load_model(self, version: ModelVersion) -> Model:
        return Model()


class EightMethods:
    """The least that a user's monitor needs, without subclassing."""

    def record_prediction(self, event: PredictionEvent) -> None: ...

    def record_prediction_error(self, kind: str, version_id: str | None) -> None: ...

    def get_recent_metrics(self, window: timedelta) -> ModelMetrics:
        return ModelMetrics(window=window)

    def get_model_metrics(self, version_id: str, window: timedelta) -> ModelMetrics:
        return ModelMetrics(model_version=version_id, window=window)

    def get_baseline_metrics(self, version_id: str) -> ModelMetrics | None:
        return None

    def get_recent_input_distribution(self, version_id: str, window: timedelta) -> InputSample:
        return InputSample(np.zeros((1, 1)))

    def get_baseline_input_distribution(self, version_id: str) -> InputSample | None:
        return None

    def record_drift_event(self, event: DriftEvent) -> None: ...


def users_own(repository: ThreeMethods, monitor: EightMethods) -> ModelServer[Model, Any, Any]:
    """A user's three and eight methods are enough for a server, which knows the model's type from them."""
    return ModelServer(repository, monitor)


class FakeService:
    """What a test of a user's own code puts in place of a server."""

    def predict(self, input: str, version: ModelVersion | str | None = None) -> ServingResult[int]:
        return ServingResult(True, len(input))

    def check_health(self) -> HealthStatus:
        raise NotImplementedError

    def get_model_metrics(
        self, version: ModelVersion | str | None = None, window: timedelta = timedelta(hours=1)
    ) -> ModelMetrics:
        return ModelMetrics()


fake: PredictionService[str, int] = FakeService()
