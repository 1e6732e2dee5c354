"""What every contract of a monitor begins with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime, timedelta
from typing import Any, ClassVar

import pytest

from mlserve.clocks import Clock, ManualClock
from mlserve.records import (
    ConceptDrift,
    DataDrift,
    DriftAnalysis,
    DriftEvent,
    DriftSeverity,
    DriftType,
    ModelMetrics,
    PerformanceDrift,
    PredictionEvent,
)

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


class MonitorContract(ABC):
    """What all suites of monitors share: how a monitor is made, and events to record.

    Attributes:
        window_resolution: Events nearer than this to the far edge of a window may be counted either way.
    """

    window_resolution: ClassVar[timedelta] = timedelta(microseconds=1)

    @abstractmethod
    def new_monitor(self, clock: Clock) -> Any:
        """A new monitor that shares nothing with those made before. Called many times in a test.

        Args:
            clock: What it must take for now.
        """

    def settle(self, monitor: Any) -> None:  # noqa: B027  # most monitors show at once what they were told
        """Called before a monitor is read: make it show all that was recorded, where it writes later by itself."""

    @pytest.fixture
    def clock(self) -> ManualClock:
        """The clock of the test."""
        return ManualClock()

    @pytest.fixture
    def monitor(self, clock: ManualClock) -> Any:
        """A new monitor."""
        return self.new_monitor(clock)

    def metrics(self, monitor: Any, version_id: str | None = "1", window: timedelta = HOUR) -> ModelMetrics:
        """Metrics of one version, or of all together, after ``settle``."""
        self.settle(monitor)
        metrics: ModelMetrics = (
            monitor.get_recent_metrics(window) if version_id is None else monitor.get_model_metrics(version_id, window)
        )
        return metrics

    def sampled(self, monitor: Any, version_id: str = "1", window: timedelta = HOUR) -> list[list[float]]:
        """Rows of the sample of inputs, sorted, after ``settle``."""
        self.settle(monitor)
        rows: list[list[float]] = monitor.get_recent_input_distribution(version_id, window).rows.tolist()
        return sorted(rows)


def prediction(number: int, at: datetime, version_id: str = "1", **values: Any) -> PredictionEvent:
    """The event of a prediction: row ``[number]`` in, class 0 out, 10 ms, unless told otherwise."""
    told = {"input": [float(number)], "output": 0, "processing_time_ms": 10.0, **values}
    return PredictionEvent(prediction_id=f"p{number}", model_version=version_id, timestamp=at, **told)


def drift_event(at: datetime, version_id: str = "1") -> DriftEvent:
    """A drift that was found."""
    return DriftEvent(
        model_version=version_id,
        drift_type=DriftType.DATA,
        severity=DriftSeverity.HIGH,
        detected_at=at,
        analysis=DriftAnalysis(
            performance_drift=PerformanceDrift(), data_drift=DataDrift(), concept_drift=ConceptDrift()
        ),
    )
