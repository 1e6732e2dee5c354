"""Production model serving inside your own process: versioned, monitored, watched for drift.

>>> from mlserve import InMemoryModelMonitor, InMemoryModelRepository, ModelServer
>>> repository = InMemoryModelRepository()
>>> version = repository.register(sum, example=[1.0, 2.0])
>>> server = ModelServer(repository, InMemoryModelMonitor())
>>> server.predict([1.0, 2.5]).value
3.5

Importing it starts nothing, configures no logging and imports no optional package.
"""

import typing

from mlserve import _importing
from mlserve.errors import ErrorKind, MlserveError, ServingError
from mlserve.monitors import InMemoryModelMonitor
from mlserve.protocols import (
    AsyncPredictor,
    BaselineMonitor,
    BatchPredictor,
    BlockMonitor,
    Classifier,
    Clock,
    CumulativeMonitor,
    DeferringMonitor,
    EventMonitor,
    LabelledMonitor,
    MergeableMonitor,
    ModelMonitor,
    ModelRepository,
    ObservableRepository,
    PredictionMonitor,
    PredictionService,
    Regressor,
    Router,
    SupportsWarmUp,
    VersionDescriber,
    WritableModelRepository,
)
from mlserve.records import (
    HealthStatus,
    ModelMetrics,
    ModelVersion,
    PredictionEvent,
    ServingResult,
)
from mlserve.repositories import InMemoryModelRepository
from mlserve.serving import CachePolicy, HealthPolicy, Limits, ModelServer

if typing.TYPE_CHECKING:
    from mlserve.drift import DriftDetector, DriftPolicy, DriftStream
    from mlserve.records import DriftDetectionResult, DriftSeverity, DriftType
    from mlserve.repositories import DirectoryModelRepository
    from mlserve.schemas import ArraySchema, RecordSchema
    from mlserve.serving import Batching

__all__ = [
    "ArraySchema",
    "AsyncPredictor",
    "BaselineMonitor",
    "BatchPredictor",
    "Batching",
    "BlockMonitor",
    "CachePolicy",
    "Classifier",
    "Clock",
    "CumulativeMonitor",
    "DeferringMonitor",
    "DirectoryModelRepository",
    "DriftDetectionResult",
    "DriftDetector",
    "DriftPolicy",
    "DriftSeverity",
    "DriftStream",
    "DriftType",
    "ErrorKind",
    "EventMonitor",
    "HealthPolicy",
    "HealthStatus",
    "InMemoryModelMonitor",
    "InMemoryModelRepository",
    "LabelledMonitor",
    "Limits",
    "MergeableMonitor",
    "MlserveError",
    "ModelMetrics",
    "ModelMonitor",
    "ModelRepository",
    "ModelServer",
    "ModelVersion",
    "ObservableRepository",
    "PredictionEvent",
    "PredictionMonitor",
    "PredictionService",
    "RecordSchema",
    "Regressor",
    "Router",
    "ServingError",
    "ServingResult",
    "SupportsWarmUp",
    "VersionDescriber",
    "WritableModelRepository",
]

# What not every service uses is loaded when it is first used: the control plane, schemas, batches.
_LATER = {
    "mlserve.drift": ("DriftDetector", "DriftPolicy", "DriftStream"),
    "mlserve.records": ("DriftDetectionResult", "DriftSeverity", "DriftType"),
    "mlserve.repositories": ("DirectoryModelRepository",),
    "mlserve.schemas": ("ArraySchema", "RecordSchema"),
    "mlserve.serving": ("Batching",),
}

if not typing.TYPE_CHECKING:  # a type checker would take __getattr__ to give every name
    __getattr__, __dir__ = _importing.lazy_exports(
        __name__, {name: module for module, names in _LATER.items() for name in names}
    )
