"""What a server promises, for fakes and wrappers."""

from __future__ import annotations

from abc import abstractmethod
from datetime import timedelta
from typing import Any, Protocol, runtime_checkable

from typing_extensions import TypeVar

from mlserve.records import HealthStatus, ModelMetrics, ModelVersion, ServingResult

TIn_contra = TypeVar("TIn_contra", contravariant=True, default=Any)
TOut_co = TypeVar("TOut_co", covariant=True, default=Any)


@runtime_checkable
class PredictionService(Protocol[TIn_contra, TOut_co]):
    """Predictions, health and metrics.

    *Thread safety*: every method may be called from any thread at once.
    """

    @abstractmethod
    def predict(self, input: TIn_contra, version: ModelVersion | str | None = None) -> ServingResult[TOut_co]:
        """Answer one input. A prediction that fails is a failed result, never an exception."""
        ...

    @abstractmethod
    def check_health(self) -> HealthStatus:
        """Whether the service can answer, found by trying."""
        ...

    @abstractmethod
    def get_model_metrics(
        self, version: ModelVersion | str | None = None, window: timedelta = timedelta(hours=1)
    ) -> ModelMetrics:
        """What a window of a version saw; of the latest version when none is named."""
        ...
