"""The promises between the parts, and to what users plug in.

A class keeps a promise by having the methods; subclassing the protocol explicitly is better, because a forgotten
method then fails when the class is used, not later with a silent None. Each docstring is a specification.
"""

from mlserve.clocks import Clock
from mlserve.protocols._models import AsyncPredictor, BatchPredictor, Classifier, Regressor, SupportsWarmUp
from mlserve.protocols._monitors import (
    BaselineMonitor,
    BlockMonitor,
    CumulativeMonitor,
    DeferringMonitor,
    EventMonitor,
    LabelledMonitor,
    MergeableMonitor,
    ModelMonitor,
    PredictionMonitor,
    RelayingMonitor,
)
from mlserve.protocols._repositories import (
    ModelRepository,
    ObservableRepository,
    VersionDescriber,
    WritableModelRepository,
)
from mlserve.protocols._routing import Router
from mlserve.protocols._service import PredictionService

__all__ = [
    "AsyncPredictor",
    "BaselineMonitor",
    "BatchPredictor",
    "BlockMonitor",
    "Classifier",
    "Clock",
    "CumulativeMonitor",
    "DeferringMonitor",
    "EventMonitor",
    "LabelledMonitor",
    "MergeableMonitor",
    "ModelMonitor",
    "ModelRepository",
    "ObservableRepository",
    "PredictionMonitor",
    "PredictionService",
    "Regressor",
    "RelayingMonitor",
    "Router",
    "SupportsWarmUp",
    "VersionDescriber",
    "WritableModelRepository",
]
