"""A sink that records into instruments of the user's own pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from opentelemetry import metrics
from opentelemetry.metrics import Meter
from typing_extensions import override

from mlserve.errors import InvalidArgumentError
from mlserve.integrations._otel_names import ERROR_TYPE, MODEL_NAME, MODEL_VERSION, SCOPE
from mlserve.integrations._reading import LADDER_SECONDS, OTHER, checked_name, label_of
from mlserve.monitors._sinks import MonitorSink
from mlserve.protocols import DeferringMonitor
from mlserve.records import FailureEvent, PredictionEvent

if TYPE_CHECKING:
    from mlserve.records import DriftEvent


@final
class OpenTelemetrySink(MonitorSink, DeferringMonitor):
    """Records every prediction into instruments of your own pipeline, for its histograms, views and exemplars.

    It is a sink for a ``FanoutMonitor``, beside a monitor that is read. Each prediction costs the request what a
    histogram's ``record`` costs, several times all the rest of a request: without need for it take
    ``instrument_monitor``. The two may be used together.

    ==================================  =========  =============  ==================================================
    instrument                          kind       unit           attributes beside model name and version
    ==================================  =========  =============  ==================================================
    ``mlserve.prediction.duration``     histogram  ``s``          successful predictions only
    ``mlserve.prediction.failures``     counter    ``{failure}``  ``error.type``
    ``mlserve.drift.detections``        counter    ``{drift}``    ``mlserve.drift.type``, ``mlserve.drift.severity``
    ==================================  =========  =============  ==================================================

    OpenTelemetry takes the time of the call for the time of the event. Series of a push pipeline cannot be given up,
    so that the first ``max_versions`` versions have a value of their own, and all later ones share ``other``.

    *Thread safety*: yes. *Blocking*: as the SDK does; its readers export on threads of their own.

    Args:
        meter: Where the instruments are made; by default that of the global provider.
        name: The attribute ``mlserve.model.name``.
        max_versions: Versions with a value of their own, at most.

    Raises:
        InvalidArgumentError: A name that is no text, or no version at all.
    """

    def __init__(self, meter: Meter | None = None, *, name: str = "model", max_versions: int = 100) -> None:
        if max_versions < 1:
            raise InvalidArgumentError("max_versions", max_versions, "at least 1")
        meter = meter if meter is not None else metrics.get_meter(SCOPE)
        self._name = checked_name(name)
        self._max_versions = max_versions
        self._attributes: dict[str | None, dict[str, str]] = {}
        self._others = {MODEL_NAME: name, MODEL_VERSION: OTHER}
        self._duration = meter.create_histogram(
            f"{SCOPE}.prediction.duration",
            unit="s",
            description="Processing time of the successful predictions.",
            explicit_bucket_boundaries_advisory=LADDER_SECONDS,
        )
        self._failures = meter.create_counter(
            f"{SCOPE}.prediction.failures", unit="{failure}", description="Failures by kind."
        )
        self._drifts = meter.create_counter(
            f"{SCOPE}.drift.detections", unit="{drift}", description="Drifts that were found."
        )

    @override
    def record_prediction(self, event: PredictionEvent) -> None:
        self._record(event.model_version, event.processing_time_ms)

    @override
    def defer_prediction(
        self,
        prediction_id: str,
        model_version: str,
        input: Any,
        output: Any,
        processing_time_ms: float,
        timestamp: float,
        confidence: float | None,
        arm: str | None,
        key: str | None,
    ) -> None:
        self._record(model_version, processing_time_ms)

    @override
    def record_prediction_error(self, kind: str, version_id: str | None) -> None:
        self._failures.add(1, {**self._of(version_id), ERROR_TYPE: label_of(kind)})

    def record_failure(self, event: FailureEvent) -> None:
        """Take in a prediction that failed."""
        self.record_prediction_error(event.kind, event.model_version)

    @override
    def record_drift_event(self, event: DriftEvent) -> None:
        found = {"mlserve.drift.type": event.drift_type.value, "mlserve.drift.severity": event.severity.value}
        self._drifts.add(1, {**self._of(event.model_version), **found})

    def _record(self, version_id: str, milliseconds: float) -> None:
        if not 0 <= milliseconds < float("inf"):  # one NaN would spoil the sum for ever
            raise InvalidArgumentError("processing_time_ms", milliseconds, "finite milliseconds, at least 0")
        self._duration.record(milliseconds / 1000.0, self._of(version_id))

    def _of(self, version_id: str | None) -> dict[str, str]:
        known = self._attributes.get(version_id)
        if known is not None:
            return known
        if len(self._attributes) >= self._max_versions:
            return self._others
        # Two threads may both come here: at most a few versions more, with equal attributes.
        version = {} if version_id is None else {MODEL_VERSION: label_of(version_id)}
        return self._attributes.setdefault(version_id, {MODEL_NAME: self._name, **version})
