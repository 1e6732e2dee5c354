"""Whether the world still looks like the one the model was trained on."""

from mlserve.drift._detector import DriftDetector, DriftDetectorStatistics
from mlserve.drift._features import compare_inputs
from mlserve.drift._policy import DriftPolicy, Thresholds

__all__ = ["DriftDetector", "DriftDetectorStatistics", "DriftPolicy", "Thresholds", "compare_inputs"]
