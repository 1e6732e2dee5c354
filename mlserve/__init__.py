"""Production model serving inside your own process: versioned, monitored, watched for drift.

>>> from mlserve import InMemoryModelMonitor, InMemoryModelRepository, ModelServer
>>> repository = InMemoryModelRepository()
>>> version = repository.register(sum, example=[1.0, 2.0])
>>> server = ModelServer(repository, InMemoryModelMonitor())
>>> server.predict([1.0, 2.5]).value
3.5

Importing it starts nothing, configures no logging and imports no optional package.
"""

from mlserve.drift import DriftDetector, DriftPolicy
from mlserve.errors import ErrorKind, MlserveError, ServingError
from mlserve.monitors import InMemoryModelMonitor
from mlserve.protocols import (
    BaselineMonitor,
    Classifier,
    Clock,
    DeferringMonitor,
    EventMonitor,
    LabelledMonitor,
    ModelMonitor,
    ModelRepository,
    ObservableRepository,
    PredictionService,
    Regressor,
    VersionDescriber,
    WritableModelRepository,
)
from mlserve.records import (
    DriftDetectionResult,
    DriftSeverity,
    DriftType,
    HealthStatus,
    ModelMetrics,
    ModelVersion,
    PredictionEvent,
    ServingResult,
)
from mlserve.repositories import InMemoryModelRepository
from mlserve.schemas import ArraySchema
from mlserve.serving import CachePolicy, HealthPolicy, Limits, ModelServer

__all__ = [
    "ArraySchema",
    "BaselineMonitor",
    "CachePolicy",
    "Classifier",
    "Clock",
    "DeferringMonitor",
    "DriftDetectionResult",
    "DriftDetector",
    "DriftPolicy",
    "DriftSeverity",
    "DriftType",
    "ErrorKind",
    "EventMonitor",
    "HealthPolicy",
    "HealthStatus",
    "InMemoryModelMonitor",
    "InMemoryModelRepository",
    "LabelledMonitor",
    "Limits",
    "MlserveError",
    "ModelMetrics",
    "ModelMonitor",
    "ModelRepository",
    "ModelServer",
    "ModelVersion",
    "ObservableRepository",
    "PredictionEvent",
    "PredictionService",
    "Regressor",
    "ServingError",
    "ServingResult",
    "VersionDescriber",
    "WritableModelRepository",
]
