"""Whether the world still looks like the one the model was trained on."""

from mlserve.drift._detector import DriftDetector, DriftDetectorStatistics
from mlserve.drift._error_estimation import DirectErrorEstimator, ErrorEstimate
from mlserve.drift._error_streams import ErrorRateStream
from mlserve.drift._estimation import PerformanceEstimate, PerformanceEstimator
from mlserve.drift._features import compare_inputs
from mlserve.drift._policy import DriftPolicy, Thresholds
from mlserve.drift._seasonal import SeasonalDriftStream, hour_of_week
from mlserve.drift._spending import AlphaSpending, AlphaSpendingStatus
from mlserve.drift._stream_states import DriftStreamStatus
from mlserve.drift._streams import DriftStream

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
    "PerformanceEstimate",
    "PerformanceEstimator",
    "SeasonalDriftStream",
    "Thresholds",
    "compare_inputs",
    "hour_of_week",
]
