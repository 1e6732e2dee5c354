"""One monitor made of several: recorded in all, read from the first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, cast, final

import attrs
from typing_extensions import Self, override

from mlserve.clocks import Clock, SystemClock
from mlserve.errors import InvalidArgumentError
from mlserve.monitors._sinks import Isolated, MonitorSink, ReportsStatistics, as_event, tell_failure
from mlserve.protocols import (
    BaselineMonitor,
    CumulativeMonitor,
    DeferringMonitor,
    EventMonitor,
    LabelledMonitor,
    MergeableMonitor,
    ModelMonitor,
    PredictionMonitor,
    RelayingMonitor,
)
from mlserve.protocols._monitors import nobody_waits_for
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


@attrs.frozen
class SinkStatistics:
    """Counters of one sink of a ``FanoutMonitor``.

    Attributes:
        name: Name of its class; the second of a class ends in ``-2``, and so on.
        failures: Calls of it that raised.
    """

    name: str
    failures: int


@attrs.frozen
class FanoutStatistics:
    """Counters of a ``FanoutMonitor``.

    Attributes:
        primary: What the primary's own ``statistics()`` says; None where it has none.
        sinks: One for each sink, in their order.
    """

    primary: Any
    sinks: tuple[SinkStatistics, ...]


class _Fan:
    """What all parts of a fan-out stand on: the primary and the sinks."""

    _primary: ModelMonitor
    _sinks: tuple[Isolated, ...]
    _labelled_primary: LabelledMonitor | None
    _labelled_sinks: tuple[Isolated, ...]

    def _tell(self, tell: Callable[[Any], object], sinks: Iterable[Isolated]) -> None:
        for sink in sinks:
            try:
                tell(sink.what)
            except Exception as error:
                sink.failed(error)

    def _sinks_with(self, protocol: type[Any]) -> tuple[Isolated, ...]:
        return tuple(sink for sink in self._sinks if isinstance(sink.what, protocol))


class _LabelledFan(_Fan, LabelledMonitor):
    @override
    def record_outcome(self, prediction_id: str, actual: Any) -> None:
        try:
            if self._labelled_primary is not None:
                self._labelled_primary.record_outcome(prediction_id, actual)
        finally:
            self._tell(lambda sink: sink.record_outcome(prediction_id, actual), self._labelled_sinks)


class _BaselineFan(_Fan, BaselineMonitor):
    @override
    def set_baseline(
        self,
        version_id: str,
        *,
        metrics: ModelMetrics | None = None,
        inputs: Any = None,
        feature_names: Sequence[str] | None = None,
    ) -> None:
        def tell(monitor: BaselineMonitor) -> None:
            monitor.set_baseline(version_id, metrics=metrics, inputs=inputs, feature_names=feature_names)

        tell(cast(BaselineMonitor, self._primary))
        self._tell(tell, self._sinks_with(BaselineMonitor))

    @override
    def capture_baseline(self, version_id: str, window: timedelta) -> None:
        primary = self._primary
        cast(BaselineMonitor, primary).capture_baseline(version_id, window)
        # The sinks get the primary's: a window of their own may have seen other traffic.
        metrics, inputs = primary.get_baseline_metrics(version_id), primary.get_baseline_input_distribution(version_id)
        self._tell(
            lambda sink: sink.set_baseline(version_id, metrics=metrics, inputs=inputs),
            self._sinks_with(BaselineMonitor),
        )
        if isinstance(primary, PredictionMonitor):
            predictions = primary.get_baseline_predictions(version_id)
            self._tell(
                lambda sink: sink.set_baseline_predictions(version_id, predictions),
                self._sinks_with(PredictionMonitor) if predictions is not None else (),
            )


class _PredictionFan(_Fan, PredictionMonitor):
    @override
    def get_recent_predictions(self, version_id: str, window: timedelta) -> PredictionSample:
        return cast(PredictionMonitor, self._primary).get_recent_predictions(version_id, window)

    @override
    def get_baseline_predictions(self, version_id: str) -> PredictionSample | None:
        return cast(PredictionMonitor, self._primary).get_baseline_predictions(version_id)

    @override
    def set_baseline_predictions(self, version_id: str, predictions: PredictionSample) -> None:
        cast(PredictionMonitor, self._primary).set_baseline_predictions(version_id, predictions)
        self._tell(
            lambda sink: sink.set_baseline_predictions(version_id, predictions), self._sinks_with(PredictionMonitor)
        )


class _EventFan(_Fan, EventMonitor):
    @override
    def record_failure(self, event: FailureEvent) -> None:
        try:
            cast(EventMonitor, self._primary).record_failure(event)
        finally:
            self._tell(lambda sink: tell_failure(sink, event), self._sinks)

    @override
    def events(self, after: int = 0, limit: int | None = None) -> EventPage:
        return cast(EventMonitor, self._primary).events(after, limit)


class _CumulativeFan(_Fan, CumulativeMonitor):
    @override
    def cumulative_metrics(self) -> tuple[ModelMetrics, ...]:
        return cast(CumulativeMonitor, self._primary).cumulative_metrics()


class _MergeableFan(_Fan, MergeableMonitor):
    @override
    def snapshot(self, after: int = 0) -> MonitorSnapshot:
        return cast(MergeableMonitor, self._primary).snapshot(after)

    @override
    def merge(self, snapshot: MonitorSnapshot) -> None:
        cast(MergeableMonitor, self._primary).merge(snapshot)


_PARTS: tuple[tuple[type[Any], type[_Fan]], ...] = (
    (BaselineMonitor, _BaselineFan),
    (PredictionMonitor, _PredictionFan),
    (EventMonitor, _EventFan),
    (CumulativeMonitor, _CumulativeFan),
    (MergeableMonitor, _MergeableFan),
)
"""Promises that a fan-out keeps where its primary does. They are about reading, and reading is the primary's."""


@cache
def _composed(cls: type[Any], parts: tuple[type[_Fan], ...]) -> type[Any]:
    return type(cls.__name__, (cls, *parts), {"__module__": cls.__module__, "__doc__": cls.__doc__})


@final
class FanoutMonitor(_Fan, ModelMonitor, DeferringMonitor, RelayingMonitor):
    """Records in several monitors and reads from the first.

    The sinks are told after the primary, one after the other, on the caller's thread. One that raises is counted and
    logged at most once a minute; the prediction, the primary and the other sinks go on. What the primary raises is
    raised, after the sinks were told: the server counts it as it does for any monitor.

    A fan-out is an instance of exactly the protocols that it can keep, so that ``isinstance`` asks it what it would
    ask the primary: each further promise is a small class, and the object is built of those that hold.
    ``BaselineMonitor``, ``PredictionMonitor``, ``EventMonitor``, ``CumulativeMonitor`` and ``MergeableMonitor`` where
    the primary is one: they are read, or set what is read. ``LabelledMonitor`` where the primary or any sink is one: it
    is only written. ``DeferringMonitor`` always: for those that are none, one event is built, once. A sink that lacks a
    protocol is left out of what it is about; a whole failure reaches it by its kind. Other processes' snapshots are
    merged into the primary only: a sink hears of that traffic in its own process.

    *Thread safety*: yes, as far as its parts are. *Blocking*: a request waits for every sink; one that does I/O belongs
    behind a queue. *Ownership*: as the parts do it; the caller's input is theirs until they return.

    Args:
        primary: What is read; it has the say on what is refused.
        sinks: What is only written. A whole monitor, or anything with the three methods of ``MonitorSink``.
        clock: For the time between two log lines about a sink.

    Raises:
        InvalidArgumentError: The primary is no ``ModelMonitor``, a sink is no ``MonitorSink``, or one is named twice.

    Example:
        >>> from mlserve import InMemoryModelMonitor, InMemoryModelRepository, ModelServer
        >>> repository, primary, second = InMemoryModelRepository(), InMemoryModelMonitor(), InMemoryModelMonitor()
        >>> version = repository.register(sum)
        >>> monitor = FanoutMonitor(primary, second)
        >>> ModelServer(repository, monitor).predict([1, 2]).value
        3
        >>> [one.get_model_metrics("1", timedelta(minutes=5)).request_count for one in (monitor, second)]
        [1, 1]
        >>> monitor.statistics().sinks
        (SinkStatistics(name='InMemoryModelMonitor', failures=0),)
    """

    def __new__(cls, primary: ModelMonitor, *sinks: MonitorSink, **_: Any) -> Self:
        parts = [part for protocol, part in _PARTS if isinstance(primary, protocol)]
        if any(isinstance(one, LabelledMonitor) for one in (primary, *sinks)):
            parts.append(_LabelledFan)
        return cast(Self, super().__new__(_composed(cls, tuple(parts))))

    def __init__(self, primary: ModelMonitor, *sinks: MonitorSink, clock: Clock | None = None) -> None:
        if not isinstance(primary, ModelMonitor):
            raise InvalidArgumentError(
                "primary", primary, "a ModelMonitor", hint="A sink that is only written comes after it."
            )
        for sink in sinks:
            if not isinstance(sink, MonitorSink):
                raise InvalidArgumentError("sinks", sink, "monitors, or what has the methods of MonitorSink")
        if len({id(one) for one in (primary, *sinks)}) <= len(sinks):
            raise InvalidArgumentError("sinks", sinks, "each monitor once", hint="Twice would count everything twice.")
        clock = clock if clock is not None else SystemClock()
        self._primary = primary
        self._sinks = tuple(Isolated(sink, name, clock) for sink, name in zip(sinks, _names(sinks), strict=True))
        self._defer_to_primary = primary.defer_prediction if isinstance(primary, DeferringMonitor) else None
        self._labelled_primary = primary if isinstance(primary, LabelledMonitor) else None
        self._labelled_sinks = self._sinks_with(LabelledMonitor)
        deferring = self._sinks_with(DeferringMonitor)
        self._deferring = tuple((sink.what.defer_prediction, sink.failed) for sink in deferring)
        self._whole = tuple(sink for sink in self._sinks if sink not in deferring)
        self._always_defers = all(nobody_waits_for(one) for one in (primary, *sinks))

    @property
    @override
    def always_defers(self) -> bool:
        return self._always_defers

    @override
    def record_prediction(self, event: PredictionEvent) -> None:
        try:
            self._primary.record_prediction(event)
        finally:
            self._tell(lambda sink: sink.record_prediction(event), self._sinks)

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
        values = (prediction_id, model_version, input, output, processing_time_ms, timestamp, confidence, arm, key)
        event: PredictionEvent | None = None
        try:
            if self._defer_to_primary is not None:
                self._defer_to_primary(*values)
            else:
                event = as_event(*values)
                self._primary.record_prediction(event)
        finally:
            for defer, failed in self._deferring:
                try:
                    defer(*values)
                except Exception as error:
                    failed(error)
            if self._whole:
                self._tell_whole(event, values)

    def _tell_whole(self, event: PredictionEvent | None, values: tuple[Any, ...]) -> None:
        try:
            built = event if event is not None else as_event(*values)
        except Exception as error:  # a timestamp that is no time: these sinks cannot be told
            for sink in self._whole:
                sink.failed(error)
            return
        self._tell(lambda sink: sink.record_prediction(built), self._whole)

    @override
    def record_prediction_error(self, kind: str, version_id: str | None) -> None:
        try:
            self._primary.record_prediction_error(kind, version_id)
        finally:
            self._tell(lambda sink: sink.record_prediction_error(kind, version_id), self._sinks)

    @override
    def record_drift_event(self, event: DriftEvent) -> None:
        try:
            self._primary.record_drift_event(event)
        finally:
            self._tell(lambda sink: sink.record_drift_event(event), self._sinks)

    @override
    def get_recent_metrics(self, window: timedelta) -> ModelMetrics:
        return self._primary.get_recent_metrics(window)

    @override
    def get_model_metrics(self, version_id: str, window: timedelta) -> ModelMetrics:
        return self._primary.get_model_metrics(version_id, window)

    @override
    def get_baseline_metrics(self, version_id: str) -> ModelMetrics | None:
        return self._primary.get_baseline_metrics(version_id)

    @override
    def get_recent_input_distribution(self, version_id: str, window: timedelta) -> InputSample:
        return self._primary.get_recent_input_distribution(version_id, window)

    @override
    def get_baseline_input_distribution(self, version_id: str) -> InputSample | None:
        return self._primary.get_baseline_input_distribution(version_id)

    def statistics(self) -> FanoutStatistics:
        """Counters of the primary, and of each sink since the fan-out was built."""
        primary = self._primary.statistics() if isinstance(self._primary, ReportsStatistics) else None
        return FanoutStatistics(primary, tuple(SinkStatistics(sink.name, sink.failures) for sink in self._sinks))


def _names(sinks: Sequence[object]) -> list[str]:
    seen: Counter[str] = Counter()
    names = []
    for sink in sinks:
        name = type(sink).__name__
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return names
