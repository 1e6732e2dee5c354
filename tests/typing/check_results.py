"""What type checkers infer for users. Read by mypy, never run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, assert_type

import numpy as np

from mlserve import (
    ArraySchema,
    Classifier,
    DriftDetectionResult,
    DriftDetector,
    DriftSeverity,
    DriftType,
    ErrorKind,
    HealthStatus,
    InMemoryModelMonitor,
    InMemoryModelRepository,
    ModelMetrics,
    ModelRepository,
    ModelServer,
    ModelVersion,
    PredictionEvent,
    PredictionMonitor,
    PredictionService,
    Regressor,
    ServingError,
    ServingResult,
)
from mlserve.drift import compare_inputs, compare_predictions
from mlserve.records import (
    DataDrift,
    ErrorEstimate,
    FailureEvent,
    HistoryEntry,
    OutcomeEvent,
    PerformanceEstimate,
    PredictionSample,
    Stage,
    VersionDescription,
)


def use(*values: object) -> None:
    """Take what was assigned, so that it is not unused."""


class Animal:
    """Something general."""


class Cat(Animal):
    """Something special."""


def predictions(server: ModelServer[Any, Any, float]) -> None:
    """The answer's type is the server's third parameter, from ``predict`` to ``unwrap``."""
    result = server.predict([1.0])
    assert_type(result, ServingResult[float])
    assert_type(result.unwrap(), float)
    assert_type(result.value, float | None)
    assert_type(result.error, ServingError | None)
    assert_type(result.version, ModelVersion | None)
    if result.error is not None:
        assert_type(result.error.kind, ErrorKind)


async def awaited_predictions(server: ModelServer[Any, Any, float]) -> None:
    """Awaiting gives the same type."""
    assert_type(await server.apredict([1.0]), ServingResult[float])
    assert_type(await server.apredict([1.0], timeout_ms=5.0), ServingResult[float])
    assert_type(await server.apredict_many([[1.0]]), list[ServingResult[float]])
    assert_type(await server.acheck_health(), HealthStatus)


def server_methods(server: ModelServer[Any, Any, float], version: ModelVersion) -> None:
    """The other methods of a server."""
    assert_type(server.predict_many([[1.0]], version, key="Ann", timeout_ms=5.0), list[ServingResult[float]])
    assert_type(server.predict_many(np.zeros((2, 1))), list[ServingResult[float]])
    assert_type(server.is_live(), bool)
    assert_type(server.is_ready(), bool)
    assert_type(server.statistics().breakers, Mapping[str, str])
    assert_type(server.check_health(), HealthStatus)
    assert_type(server.get_model_metrics(), ModelMetrics)
    assert_type(server.get_model_metrics(version, timedelta(minutes=5)), ModelMetrics)
    assert_type(server.get_model_metrics("1"), ModelMetrics)
    assert_type(server.refresh(), ModelVersion)
    with server as entered:
        assert_type(entered, ModelServer[Any, Any, float])


def bare(repository: InMemoryModelRepository, server: ModelServer, result: ServingResult) -> None:
    """Without parameters every type variable is Any."""
    assert_type(repository, InMemoryModelRepository[Any])
    assert_type(server, ModelServer[Any, Any, Any])
    assert_type(result, ServingResult[Any])
    assert_type(server.predict(object()).unwrap(), Any)


def bare_protocols(repository: ModelRepository, service: PredictionService, model: Classifier) -> None:
    """The same holds for protocols."""
    assert_type(repository, ModelRepository[Any])
    assert_type(service, PredictionService[Any, Any])
    assert_type(model, Classifier[Any, Any])


def built_without_parameters() -> None:
    """The twelve lines of the README need no annotation to pass a strict type checker."""
    repository: InMemoryModelRepository = InMemoryModelRepository()
    version = repository.register(len, example="four")
    server: ModelServer = ModelServer(repository, InMemoryModelMonitor())
    assert_type(version, ModelVersion)
    assert_type(server.predict("four").unwrap(), Any)


def repository_methods(repository: InMemoryModelRepository[Cat]) -> None:
    """A repository gives out the models it takes in."""
    version = repository.register(Cat(), task="regression", tags={"trained": "today"})
    assert_type(repository.load_model(version), Cat)
    assert_type(repository.get_active_versions(), tuple[ModelVersion, ...])
    assert_type(repository.history(), tuple[HistoryEntry, ...])
    assert_type(repository.stage("1"), Stage)
    assert_type(repository.describe(version), VersionDescription)
    assert_type(repository.rollback(), ModelVersion)


def repository_is_covariant(cats: ModelRepository[Cat]) -> ModelRepository[Animal]:
    """Who asks for animals may be given a repository of cats."""
    assert_type(cats.load_model(ModelVersion("1", datetime.fromtimestamp(0))), Cat)
    assert_type(cats.get_active_versions(), Sequence[ModelVersion])
    return cats


def classifier_is_contravariant_in_and_covariant_out(model: Classifier[Animal, Cat]) -> Classifier[Cat, Animal]:
    """A model that takes any animal and answers cats will do where cats come in and animals are expected."""
    assert_type(model.predict(Animal()), Cat)
    return model


def regressor_is_contravariant_in_and_covariant_out(model: Regressor[Animal, Cat]) -> Regressor[Cat, Animal]:
    """The same for regressors."""
    assert_type(model.predict(Cat()), Cat)
    return model


def classifier_is_a_regressor(model: Classifier[Animal, Cat]) -> Regressor[Animal, Cat]:
    """What has ``predict_proba`` beside ``predict`` has ``predict``."""
    return model


def service_is_contravariant_in_and_covariant_out(
    service: PredictionService[Animal, Cat],
) -> PredictionService[Cat, Animal]:
    """A service that takes any animal and answers cats will do where cats come in and animals are expected."""
    return service


def refused_variance(
    classifier: Classifier[Cat, Animal], repository: InMemoryModelRepository[Cat], animals: ModelRepository[Animal]
) -> None:
    """What would be unsound is refused: mypy reports an ignore comment that is not needed."""
    narrower_input: Classifier[Animal, Animal] = classifier  # type: ignore[assignment]  # it takes cats only
    narrower_output: Classifier[Cat, Cat] = classifier  # type: ignore[assignment]  # it answers any animal
    invariant: InMemoryModelRepository[Animal] = repository  # type: ignore[assignment]  # a dog could be registered
    narrower_model: ModelRepository[Cat] = animals  # type: ignore[assignment]  # it may load a dog
    use(narrower_input, narrower_output, invariant, narrower_model)


def refused_arguments(server: ModelServer[Any, str, float]) -> None:
    """A wrong input, a wrong window and a version that is a number are refused."""
    server.predict(1)  # type: ignore[arg-type]  # the server takes text
    server.predict("a", 1)  # type: ignore[arg-type]  # versions are named by text
    server.get_model_metrics(window=5)  # type: ignore[arg-type]  # five of what?


def events(monitor: InMemoryModelMonitor) -> None:
    """A page of events holds predictions, failures and outcomes."""
    assert_type(monitor.events().events, tuple[PredictionEvent | FailureEvent | OutcomeEvent, ...])


def drift(detector: DriftDetector, version: ModelVersion, schema: ArraySchema) -> None:
    """Drift detection answers with records."""
    result = detector.detect_drift(version, timedelta(hours=1))
    assert_type(result, DriftDetectionResult)
    assert_type(result.severity, DriftSeverity)
    assert_type(result.primary_type, DriftType)
    assert_type(result.severity >= DriftSeverity.MEDIUM, bool)
    assert_type(compare_inputs([[1.0]], [[2.0]]), DataDrift)
    assert_type(schema.validate([1.0]).is_valid, bool)


def answers(detector: DriftDetector, monitor: PredictionMonitor, sample: PredictionSample) -> None:
    """Answers are compared like inputs; an estimate is that of a classifier, of a regressor, or none."""
    assert_type(monitor.get_recent_predictions("1", timedelta(hours=1)), PredictionSample)
    assert_type(monitor.get_baseline_predictions("1"), PredictionSample | None)
    assert_type(compare_predictions(sample, sample), DataDrift)
    analysis = detector.detect_drift("1", timedelta(hours=1)).analysis
    assert_type(analysis.prediction_drift, DataDrift)
    estimate = analysis.performance_drift.estimate
    assert_type(estimate, PerformanceEstimate | ErrorEstimate | None)
    if isinstance(estimate, PerformanceEstimate):
        assert_type(estimate.accuracy_band, tuple[float, float])
        assert_type(estimate.roc_auc, float | None)
    monitor.set_baseline_predictions("1", [0, 1])  # type: ignore[arg-type]  # answers without what belongs to them
