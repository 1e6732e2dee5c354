"""A share of the traffic, for a sink that cannot take all of it."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any, cast, final
from zlib import crc32

import attrs
from typing_extensions import Self, override

from mlserve._counting import Tally
from mlserve.errors import InvalidArgumentError
from mlserve.monitors._sinks import MonitorSink, as_event, tell_failure
from mlserve.protocols import DeferringMonitor, LabelledMonitor, RelayingMonitor
from mlserve.protocols._monitors import nobody_waits_for
from mlserve.records import FailureEvent, PredictionEvent

if TYPE_CHECKING:
    from mlserve.records import DriftEvent

_SPREAD = 0x9E3779B97F4A7C15
"""2^64 divided by the golden ratio, odd: multiplying by it modulo 2^64 carries every bit of a hash to the top (Knuth,
"The Art of Computer Programming" 3, section 6.4)."""

_RANGE = 1 << 64
_MODULO = _RANGE - 1


@attrs.frozen
class SampledStatistics:
    """Counters of a ``SampledMonitor`` since it was built. Of what was passed on, the sink was told.

    Attributes:
        passed: Predictions passed on.
        skipped: Predictions not passed on.
        failures_passed: Failures passed on.
        failures_skipped: Failures not passed on.
        outcomes_passed: Outcomes passed on.
        outcomes_skipped: Outcomes not passed on, since their predictions were not.
    """

    passed: int
    skipped: int
    failures_passed: int
    failures_skipped: int
    outcomes_passed: int
    outcomes_skipped: int


class _Share:
    """A share of all ids, always the same ids, and how many were asked for.

    Attributes:
        holds: Whether an id is in it.
        ask: To be called before ``take`` is, once for each id.
        take: To be called for an id that it holds.
    """

    def __init__(self, rate: float, seed: int) -> None:
        # An integer, since every id must be below it at rate 1.
        below = int(rate * _RANGE)
        self._asked, self._taken = Tally(), Tally()
        self.ask, self.take = self._asked.next, self._taken.next

        def holds(prediction_id: str) -> bool:
            # The checksum alone is linear: consecutive ids would fall together. The product is not.
            return (crc32(prediction_id.encode("utf-8", "surrogatepass"), seed) * _SPREAD & _MODULO) < below

        self.holds = holds

    def takes(self, prediction_id: str) -> bool:
        """All three at once."""
        self.ask()
        if self.holds(prediction_id):
            self.take()
            return True
        return False

    @property
    def counts(self) -> tuple[int, int]:
        """How many it held, and how many not."""
        taken = self._taken.value  # first: every one of them was asked for before
        return taken, self._asked.value - taken


class _Labelled(LabelledMonitor):
    _sink: Any
    _outcomes: _Share

    @override
    def record_outcome(self, prediction_id: str, actual: Any) -> None:
        if self._outcomes.takes(prediction_id):
            self._sink.record_outcome(prediction_id, actual)


@final
class SampledMonitor(MonitorSink, DeferringMonitor, RelayingMonitor):
    """Passes a uniform share of the predictions on to a sink that is too expensive for all of them.

    Whether a prediction is passed on depends on a hash of its id only: its outcome follows it, every process and every
    ``SampledMonitor`` with the same ``seed`` decides alike, and a larger rate takes the same ids and more. Outcomes of
    predictions that were not passed on are held back, so that the sink does not see them as unknown.

    It is a sink, for a ``FanoutMonitor``, and no ``ModelMonitor``: it has no methods to read metrics with, since a
    ``ModelMetrics`` cannot say that it is of a sample. Read counts from a monitor that sees everything. What the sink
    itself shows is of the sample:

    - distributions and ratios over successful predictions (inputs, outputs, latencies, confidence, accuracy, label
      coverage) estimate those of all traffic without bias;
    - counts of predictions are ``rate`` times those of all traffic, on average; ``statistics()`` has the exact ones;
    - error rates are too high, about ``failure_rate / rate`` times, as long as failures are few. All failures are
      passed on, since they are rare and what one looks for; with ``failure_rate=rate`` the sink's error rates are
      those of all traffic, too.

    Drift events are all passed on. It takes outcomes (is a ``LabelledMonitor``) if the sink does. Baselines are not
    passed on: set them on the sink.

    *Thread safety*: yes, as far as the sink is. *Failure*: what the sink raises is raised; ``FanoutMonitor`` counts it.

    Args:
        sink: Where the share goes.
        rate: The share of successful predictions, in [0, 1].
        failure_rate: The share of failures, in [0, 1].
        seed: Another one takes other ids: two samplers of different seeds are independent.

    Attributes:
        rate: See above.
        failure_rate: See above.

    Raises:
        InvalidArgumentError: A rate outside [0, 1], a seed that is no integer of 32 bits, or a sink that is none.

    Example:
        >>> from mlserve import InMemoryModelMonitor
        >>> from mlserve.clocks import ManualClock
        >>> clock = ManualClock()
        >>> sampled = SampledMonitor(InMemoryModelMonitor(clock=clock), rate=0.1)
        >>> for number in range(1000):
        ...     sampled.record_prediction(PredictionEvent(f"p{number}", "1", [0.0], 1, 2.0, clock.now()))
        >>> sampled.statistics().passed, sampled.statistics().skipped
        (84, 916)
    """

    def __new__(cls, sink: MonitorSink, *_: Any, **__: Any) -> Self:
        return cast(Self, super().__new__(_SampledLabelled if isinstance(sink, LabelledMonitor) else cls))

    def __init__(self, sink: MonitorSink, rate: float, *, failure_rate: float = 1.0, seed: int = 0) -> None:
        if not isinstance(sink, MonitorSink):
            raise InvalidArgumentError("sink", sink, "a monitor, or what has the methods of MonitorSink")
        for name, share in (("rate", rate), ("failure_rate", failure_rate)):
            if not 0 <= share <= 1:
                raise InvalidArgumentError(name, share, "a share in [0, 1]", hint="One in a hundred is 0.01.")
        if not isinstance(seed, int) or not 0 <= seed < 1 << 32:
            raise InvalidArgumentError("seed", seed, "an integer in [0, 2**32)")
        self.rate = rate
        self.failure_rate = failure_rate
        self._sink = sink
        self._defer = sink.defer_prediction if isinstance(sink, DeferringMonitor) else self._whole_prediction
        self._predictions, self._outcomes = _Share(rate, seed), _Share(rate, seed)
        self._failures = _Share(failure_rate, seed)
        self._next_nameless = count().__next__

    @property
    @override
    def always_defers(self) -> bool:
        return nobody_waits_for(self._sink)

    def is_sampled(self, prediction_id: str) -> bool:
        """Whether a successful prediction of this id is, or would be, passed on."""
        return self._predictions.holds(prediction_id)

    @override
    def record_prediction(self, event: PredictionEvent) -> None:
        if self._predictions.takes(event.prediction_id):
            self._sink.record_prediction(event)

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
        share = self._predictions
        share.ask()
        if share.holds(prediction_id):
            share.take()
            self._defer(
                prediction_id, model_version, input, output, processing_time_ms, timestamp, confidence, arm, key
            )

    def _whole_prediction(self, *values: Any) -> None:
        self._sink.record_prediction(as_event(*values))

    @override
    def record_prediction_error(self, kind: str, version_id: str | None) -> None:
        # It has no id; of numbers in a row the hash takes a uniform share, too.
        if self._failures.takes(str(self._next_nameless())):
            self._sink.record_prediction_error(kind, version_id)

    def record_failure(self, event: FailureEvent) -> None:
        """Take in a prediction that failed; a sink that takes no whole failures is told its kind."""
        if self._failures.takes(event.prediction_id):
            tell_failure(self._sink, event)

    @override
    def record_drift_event(self, event: DriftEvent) -> None:
        self._sink.record_drift_event(event)

    def statistics(self) -> SampledStatistics:
        """Counters since it was built."""
        return SampledStatistics(*self._predictions.counts, *self._failures.counts, *self._outcomes.counts)


_SampledLabelled = type("SampledMonitor", (SampledMonitor, _Labelled), {"__module__": __name__})
