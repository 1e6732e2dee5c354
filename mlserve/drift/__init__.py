"""Whether the world still looks like the one the model was trained on."""

from mlserve.drift._detector import DriftDetector, DriftDetectorStatistics
from mlserve.drift._error_estimation import DirectErrorEstimator
from mlserve.drift._error_streams import ErrorRateStream
from mlserve.drift._estimation import PerformanceEstimator
from mlserve.drift._features import compare_inputs
from mlserve.drift._policy import DriftPolicy, Thresholds
from mlserve.drift._predictions import compare_predictions
from mlserve.drift._references import InputReference
from mlserve.drift._seasonal import SeasonalDriftStream, hour_of_week
from mlserve.drift._spending import AlphaSpending, AlphaSpendingStatus
from mlserve.drift._stream_states import DriftStreamStatus
from mlserve.drift._streams import DriftStream
from mlserve.records import ErrorEstimate, PerformanceEstimate

__all__ = [
    "AlphaSpending",
    "AlphaSpendingStatus",
    "DirectErrorEstimator",
    "DriftDetector",
    "DriftDetectorStatistics",
    "DriftPolicy",
    "DriftStream",
    "DriftStreamStatus",
    "ErrorEstimate",
    "ErrorRateStream",
    "InputReference",
    "PerformanceEstimate",
    "PerformanceEstimator",
    "SeasonalDriftStream",
    "Thresholds",
    "compare_inputs",
    "compare_predictions",
    "hour_of_week",
]
