"""The values that mlserve answers with: frozen, compared by value, safe to share between threads.

Absent evidence is ``None``, never 0. Durations carry their unit in the name or are ``timedelta``; times are
timezone-aware ``datetime`` values in UTC.
"""

import typing

from mlserve import _importing
from mlserve.records._monitoring import (
    Baseline,
    EventPage,
    FailureEvent,
    InputSample,
    ModelMetrics,
    OutcomeEvent,
    PredictionEvent,
)
from mlserve.records._predictions import PredictionSample
from mlserve.records._quality import ClassMetrics, QualityMetrics
from mlserve.records._serving import (
    CheckStatus,
    HealthCheck,
    HealthState,
    HealthStatus,
    Route,
    ServingResult,
)
from mlserve.records._versions import HistoryEntry, ModelVersion, Stage, Task, VersionDescription

if typing.TYPE_CHECKING:
    from mlserve.records._drift import (
        ConceptDrift,
        DataDrift,
        DriftAnalysis,
        DriftDetectionResult,
        DriftEvent,
        DriftSeverity,
        DriftStatus,
        DriftType,
        FeatureDrift,
        FeatureStatus,
        PerformanceDrift,
    )
    from mlserve.records._estimates import ErrorEstimate, PerformanceEstimate
    from mlserve.records._snapshots import MonitorSnapshot
    from mlserve.records._statistics import MonitorStatistics, ServerStatistics

__all__ = [
    "Baseline",
    "CheckStatus",
    "ClassMetrics",
    "ConceptDrift",
    "DataDrift",
    "DriftAnalysis",
    "DriftDetectionResult",
    "DriftEvent",
    "DriftSeverity",
    "DriftStatus",
    "DriftType",
    "ErrorEstimate",
    "EventPage",
    "FailureEvent",
    "FeatureDrift",
    "FeatureStatus",
    "HealthCheck",
    "HealthState",
    "HealthStatus",
    "HistoryEntry",
    "InputSample",
    "ModelMetrics",
    "ModelVersion",
    "MonitorSnapshot",
    "MonitorStatistics",
    "OutcomeEvent",
    "PerformanceDrift",
    "PerformanceEstimate",
    "PredictionEvent",
    "PredictionSample",
    "QualityMetrics",
    "Route",
    "ServerStatistics",
    "ServingResult",
    "Stage",
    "Task",
    "VersionDescription",
]

# What a service that only predicts does not need: the records of drift are the control plane's.
_DRIFT = (
    "ConceptDrift",
    "DataDrift",
    "DriftAnalysis",
    "DriftDetectionResult",
    "DriftEvent",
    "DriftSeverity",
    "DriftStatus",
    "DriftType",
    "FeatureDrift",
    "FeatureStatus",
    "PerformanceDrift",
)
_ESTIMATES = ("ErrorEstimate", "PerformanceEstimate")
_STATISTICS = ("MonitorStatistics", "ServerStatistics")

if not typing.TYPE_CHECKING:  # a type checker would take __getattr__ to give every name
    __getattr__, __dir__ = _importing.lazy_exports(
        __name__,
        dict.fromkeys(_DRIFT, f"{__name__}._drift")
        | dict.fromkeys(_ESTIMATES, f"{__name__}._estimates")
        | dict.fromkeys(_STATISTICS, f"{__name__}._statistics")
        | {"MonitorSnapshot": f"{__name__}._snapshots"},
    )
