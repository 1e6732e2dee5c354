"""What a store of events and metrics promises."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from mlserve.records import (
    EventPage,
    FailureEvent,
    InputSample,
    ModelMetrics,
    PredictionEvent,
    PredictionSample,
)

if TYPE_CHECKING:
    from mlserve.records import DriftEvent, MonitorSnapshot


@runtime_checkable
class ModelMonitor(Protocol):
    """Where predictions are counted: the eight methods that an adapter author must write.

    *Thread safety*: every method may be called from any thread at once. *Blocking*: the two ``record_prediction``
    methods are called on the request path and must not do I/O. *Ownership*: ``event.input`` and ``event.output``
    belong to the caller, who may change them as soon as the call returns: copy what is kept. *Windows*: a window is
    (now − w, now] by the monitor's clock. *Failure*: an exception is counted by the server and breaks nothing.
    """

    @abstractmethod
    def record_prediction(self, event: PredictionEvent) -> None:
        """Take in a prediction that was answered."""
        ...

    @abstractmethod
    def record_prediction_error(self, kind: str, version_id: str | None) -> None:
        """Take in a prediction that failed now.

        Args:
            kind: An ``ErrorKind`` value.
            version_id: The version asked, or None where none was resolved.
        """
        ...

    @abstractmethod
    def get_recent_metrics(self, window: timedelta) -> ModelMetrics:
        """Metrics of all versions together.

        Raises:
            InvalidArgumentError: The window is not positive.
        """
        ...

    @abstractmethod
    def get_model_metrics(self, version_id: str, window: timedelta) -> ModelMetrics:
        """Metrics of one version; of a version never seen, metrics without requests.

        Raises:
            InvalidArgumentError: The window is not positive.
        """
        ...

    @abstractmethod
    def get_baseline_metrics(self, version_id: str) -> ModelMetrics | None:
        """The metrics a version is compared with, or None."""
        ...

    @abstractmethod
    def get_recent_input_distribution(self, version_id: str, window: timedelta) -> InputSample:
        """Inputs that a version answered; of a version never seen, a sample without rows.

        Raises:
            InvalidArgumentError: The window is not positive.
        """
        ...

    @abstractmethod
    def get_baseline_input_distribution(self, version_id: str) -> InputSample | None:
        """The inputs a version is compared with, or None."""
        ...

    @abstractmethod
    def record_drift_event(self, event: DriftEvent) -> None:
        """Keep a drift that was found."""
        ...


@runtime_checkable
class LabelledMonitor(Protocol):
    """A monitor that takes true values when they arrive."""

    @abstractmethod
    def record_outcome(self, prediction_id: str, actual: Any) -> None:
        """Join a true value with its prediction. Late, repeated and unknown outcomes are counted, never an error."""
        ...


@runtime_checkable
class BaselineMonitor(Protocol):
    """A monitor whose baselines can be set."""

    @abstractmethod
    def set_baseline(
        self,
        version_id: str,
        *,
        metrics: ModelMetrics | None = None,
        inputs: Any = None,
        feature_names: Sequence[str] | None = None,
    ) -> None:
        """Set what a version is compared with. What is None stays as it was.

        Args:
            version_id: The version.
            metrics: Its metrics when all was well.
            inputs: Its inputs when all was well: an ``InputSample`` or an array ``(n_samples, n_features)``.
            feature_names: Names for an array's features.

        Raises:
            InvalidArgumentError: Not an array of rows, or names that do not fit it.
        """
        ...

    @abstractmethod
    def capture_baseline(self, version_id: str, window: timedelta) -> None:
        """Take a recent window of the version itself as its baseline.

        Raises:
            InvalidArgumentError: The window is not positive or holds no prediction of the version.
        """
        ...


@runtime_checkable
class PredictionMonitor(Protocol):
    """A monitor that can show a sample of answers, for prediction drift and for performance without labels."""

    @abstractmethod
    def get_recent_predictions(self, version_id: str, window: timedelta) -> PredictionSample:
        """Answers of a version; of a version never seen, a sample without rows.

        Raises:
            InvalidArgumentError: The window is not positive.
        """
        ...

    @abstractmethod
    def get_baseline_predictions(self, version_id: str) -> PredictionSample | None:
        """The answers a version is compared with, or None."""
        ...

    @abstractmethod
    def set_baseline_predictions(self, version_id: str, predictions: PredictionSample) -> None:
        """Set the answers a version is compared with.

        Args:
            version_id: The version.
            predictions: Its answers when all was well; with labels, performance can be estimated where labels are
                late. They should be of data that it was not trained on.

        Raises:
            InvalidArgumentError: Not a ``PredictionSample``.
        """
        ...


@runtime_checkable
class CumulativeMonitor(Protocol):
    """A monitor that can tell what it counted since it was built: for counters that only rise."""

    @abstractmethod
    def cumulative_metrics(self) -> tuple[ModelMetrics, ...]:
        """All that was ever recorded here, one ``ModelMetrics`` for each version, with ``window`` None.

        Requests for which no version was resolved are those of ``model_version`` None.
        """
        ...


@runtime_checkable
class MergeableMonitor(Protocol):
    """A monitor whose counts can travel and add up: one view of a fleet."""

    @abstractmethod
    def snapshot(self, after: int = 0) -> MonitorSnapshot:
        """What this monitor itself counted; what it merged from others is not in it.

        Args:
            after: The ``sequence`` of an earlier snapshot, for the buckets that changed since; 0 for all of them.

        Raises:
            InvalidArgumentError: ``after`` is negative.
        """
        ...

    @abstractmethod
    def merge(self, snapshot: MonitorSnapshot) -> None:
        """Add another monitor's counts to what this one answers from.

        The newest snapshot of a source replaces the ones before; an older one, the same one again, and one of this
        monitor itself change nothing and are counted. Counts then are those of one monitor that saw all traffic, in a
        window rounded outward to whole buckets; quantiles and D are within their stated error. What a snapshot says
        replaces nothing that this monitor recorded itself.

        Raises:
            InvalidArgumentError: It is no ``MonitorSnapshot``.
            SnapshotFormatError: Its columns do not fit each other; nothing was merged.
        """
        ...


@runtime_checkable
class EventMonitor(Protocol):
    """A monitor that keeps whole failures and a bounded ring of recent events to read one by one."""

    @abstractmethod
    def record_failure(self, event: FailureEvent) -> None:
        """Take in a prediction that failed; the server calls it instead of ``record_prediction_error``."""
        ...

    @abstractmethod
    def events(self, after: int = 0, limit: int | None = None) -> EventPage:
        """Recent predictions and failures in the order in which they were recorded, and outcomes.

        An outcome comes after its prediction; requests that were recorded later than the outcome may stand before it.

        Args:
            after: The cursor of an earlier page; 0 to begin with the oldest that is kept.
            limit: At most so many; None for all that are kept.

        Raises:
            InvalidArgumentError: ``after`` or ``limit`` is negative.
        """
        ...


@runtime_checkable
class BlockMonitor(Protocol):
    """A monitor that can take many predictions at once."""

    @abstractmethod
    def record_block(
        self,
        model_version: str,
        prediction_ids: Sequence[str],
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        processing_times_ms: Sequence[float],
        timestamp: float,
        confidences: Sequence[float | None] | None = None,
        arms: Sequence[str | None] | None = None,
        keys: Sequence[str | None] | None = None,
    ) -> None:
        """The same as ``record_prediction`` of as many events, made together by one version.

        All sequences have one item for each prediction, in the same order. Any but the ids may be a NumPy array: it has
        a length, items and slices, but ``if outputs:`` raises. An array that is read-only and owns its memory may be
        kept as it is: whoever gives it away does not write to it again.

        Args:
            model_version: Id of the version.
            prediction_ids: Their ids.
            inputs: What was asked; inputs that are rows of numbers may come as one table ``(n, n_features)``. They
                belong to the caller: copy what is kept.
            outputs: What was answered; likewise.
            processing_times_ms: Milliseconds.
            timestamp: Seconds since 1970-01-01 UTC, of all.
            confidences: In [0, 1] or None; None altogether where no answer has one.
            arms: Arms of a rollout or None; None altogether where no request has one.
            keys: Whom the requests were for or None; None altogether where no request has one.

        Raises:
            InvalidArgumentError: The sequences are not of one length; nothing is recorded then.
        """
        ...


@runtime_checkable
class RelayingMonitor(Protocol):
    """A monitor that passes what it is told on to others, and so keeps people waiting if one of these does."""

    @property
    @abstractmethod
    def always_defers(self) -> bool:
        """Whether all others defer what they are told, as ``DeferringMonitor`` promises."""
        ...


@runtime_checkable
class DeferringMonitor(Protocol):
    """A monitor that can take a prediction as bare values and make an event of it later.

    Building a ``PredictionEvent`` costs more than all the rest of a request; a monitor with this method spares it. It
    promises that none of its methods that record makes anybody wait: they are called on event loops, and by requests
    with a time limit.
    """

    @abstractmethod
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
        """The same as ``record_prediction`` of an event with these values.

        Args:
            prediction_id: As in ``PredictionEvent``; so are the others but the next.
            model_version: Id of the version.
            input: What the caller sent: copy what is kept.
            output: What the model answered: copy what is kept.
            processing_time_ms: Milliseconds.
            timestamp: Seconds since 1970-01-01 UTC, as ``datetime.timestamp()`` gives them.
            confidence: In [0, 1] or None.
            arm: Arm of a rollout or None.
            key: The caller's routing key or None.
        """
        ...


def nobody_waits_for(monitor: object) -> bool:
    """Whether a monitor defers what it is told, and so do all whom it passes that on to."""
    if not isinstance(monitor, DeferringMonitor):
        return False
    return not isinstance(monitor, RelayingMonitor) or monitor.always_defers
