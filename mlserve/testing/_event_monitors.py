"""What monitors keep to that take in events one by one and give them back."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from mlserve.clocks import ManualClock
from mlserve.errors import ErrorKind, InvalidArgumentError
from mlserve.protocols import DeferringMonitor, EventMonitor, LabelledMonitor
from mlserve.records import FailureEvent, OutcomeEvent, PredictionEvent
from mlserve.testing._monitor_contract import HOUR, MINUTE, MonitorContract, prediction


class EventMonitorContract(MonitorContract):
    """The methods of ``EventMonitor``: whole failures, and events that can be read one by one."""

    def _failure(self, number: int, clock: ManualClock, version_id: str | None = "1") -> FailureEvent:
        return FailureEvent(
            f"p{number}", version_id, [1.0], ErrorKind.PredictionException, 3.0, clock.now(), arm="b", key="k"
        )

    def _ids(self, monitor: Any, after: int = 0, limit: int | None = None) -> list[str]:
        return [event.prediction_id for event in monitor.events(after, limit).events]

    def test_it_is_an_event_monitor(self, monitor: Any) -> None:
        """It has the methods of ``EventMonitor``."""
        assert isinstance(monitor, EventMonitor)

    def test_a_whole_failure_counts_like_any_other(self, monitor: Any, clock: ManualClock) -> None:
        """``record_failure`` counts in metrics as ``record_prediction_error`` does."""
        monitor.record_failure(self._failure(0, clock))
        monitor.record_prediction_error(ErrorKind.PredictionException, "1")
        metrics = self.metrics(monitor)
        assert (metrics.request_count, dict(metrics.errors_by_kind)) == (2, {"PredictionException": 2})

    def test_a_whole_failure_counts_at_its_own_time(self, monitor: Any, clock: ManualClock) -> None:
        """``record_failure`` counts when the failure happened."""
        failure = self._failure(0, clock)
        clock.advance(30 * MINUTE)
        monitor.record_failure(failure)
        assert [self.metrics(monitor, window=w * MINUTE).error_count for w in (10, 40)] == [0, 1]

    def test_failures_are_no_inputs_that_were_answered(self, monitor: Any, clock: ManualClock) -> None:
        """The input of a failure is not in the sample of inputs, nor its latency among the latencies."""
        monitor.record_failure(self._failure(0, clock))
        assert self.sampled(monitor) == []
        assert self.metrics(monitor).average_latency_ms is None

    def test_without_events_the_page_is_empty(self, monitor: Any) -> None:
        """``events`` of a new monitor is an empty page."""
        page = monitor.events()
        assert (page.events, page.missed) == ((), 0)

    def test_a_prediction_comes_back_whole(self, monitor: Any, clock: ManualClock) -> None:
        """``events`` gives a prediction with all that was recorded of it."""
        monitor.record_prediction(prediction(0, clock.now(), output="cat", confidence=0.75, arm="a", key="k"))
        self.settle(monitor)
        (event,) = monitor.events().events
        assert isinstance(event, PredictionEvent)
        assert (event.prediction_id, event.model_version, list(event.input), event.output) == ("p0", "1", [0.0], "cat")
        assert (event.processing_time_ms, event.timestamp) == (10.0, clock.now())
        assert (event.confidence, event.arm, event.key) == (0.75, "a", "k")

    @pytest.mark.parametrize("version_id", ["1", None])
    def test_a_failure_comes_back_whole(self, monitor: Any, clock: ManualClock, version_id: str | None) -> None:
        """``events`` gives a failure with all that was recorded of it."""
        monitor.record_failure(self._failure(0, clock, version_id))
        self.settle(monitor)
        (event,) = monitor.events().events
        assert isinstance(event, FailureEvent)
        assert (event.prediction_id, event.model_version, list(event.input)) == ("p0", version_id, [1.0])
        assert (event.kind, event.processing_time_ms, event.timestamp) == ("PredictionException", 3.0, clock.now())
        assert (event.arm, event.key) == ("b", "k")

    def test_events_come_in_the_order_of_recording(self, monitor: Any, clock: ManualClock) -> None:
        """``events`` gives predictions and failures in the order in which they were recorded, not of their times."""
        monitor.record_prediction(prediction(0, clock.now()))
        monitor.record_failure(self._failure(1, clock))
        monitor.record_prediction(prediction(2, clock.now() - MINUTE, "2"))
        self.settle(monitor)
        assert self._ids(monitor) == ["p0", "p1", "p2"]

    @pytest.mark.parametrize("limit", [1, 2, 3, 7, 50])
    def test_pages_follow_each_other(self, monitor: Any, clock: ManualClock, limit: int) -> None:
        """Reading on from each page's cursor gives every event once, in order."""
        for number in range(20):
            monitor.record_prediction(prediction(number, clock.now()))
        self.settle(monitor)
        seen: list[str] = []
        page = monitor.events(limit=limit)
        while page.events:
            assert len(page.events) <= limit
            assert page.missed == 0
            seen += [event.prediction_id for event in page.events]
            page = monitor.events(page.cursor, limit)
        assert seen == [f"p{number}" for number in range(20)]

    def test_a_cursor_shows_what_came_since(self, monitor: Any, clock: ManualClock) -> None:
        """``events(cursor)`` gives what was recorded after the page that gave the cursor."""
        monitor.record_prediction(prediction(0, clock.now()))
        self.settle(monitor)
        cursor = monitor.events().cursor
        assert self._ids(monitor, cursor) == []
        monitor.record_prediction(prediction(1, clock.now()))
        self.settle(monitor)
        assert self._ids(monitor, cursor) == ["p1"]

    def test_a_limit_of_zero_reads_nothing(self, monitor: Any, clock: ManualClock) -> None:
        """``events(limit=0)`` gives no event and passes none over."""
        monitor.record_prediction(prediction(0, clock.now()))
        self.settle(monitor)
        page = monitor.events(limit=0)
        assert page.events == ()
        assert self._ids(monitor, page.cursor) == ["p0"]

    @pytest.mark.parametrize("arguments", [{"after": -1}, {"limit": -1}])
    def test_negative_arguments_are_refused(self, monitor: Any, arguments: dict[str, int]) -> None:
        """``events`` raises ``InvalidArgumentError`` for a negative cursor or limit."""
        with pytest.raises(InvalidArgumentError):
            monitor.events(**arguments)

    def test_an_outcome_comes_back_whole(self, monitor: Any, clock: ManualClock) -> None:
        """``events`` of a labelled monitor gives an outcome joined with its prediction."""
        self._needs_outcomes(monitor)
        monitor.record_prediction(prediction(0, clock.now(), output="cat", arm="a", key="k"))
        clock.advance(MINUTE)
        monitor.record_outcome("p0", "dog")
        self.settle(monitor)
        event = monitor.events().events[-1]
        assert isinstance(event, OutcomeEvent)
        assert (event.prediction_id, event.model_version, event.output, event.actual) == ("p0", "1", "cat", "dog")
        assert (event.predicted_at, event.timestamp) == (clock.now() - MINUTE, clock.now())
        assert (event.arm, event.key) == ("a", "k")

    def test_an_outcome_comes_after_its_prediction(self, monitor: Any, clock: ManualClock) -> None:
        """``events`` of a labelled monitor never shows an outcome before its prediction."""
        self._needs_outcomes(monitor)
        for number in range(5):
            monitor.record_prediction(prediction(number, clock.now()))
            monitor.record_outcome(f"p{number}", 0)
        self.settle(monitor)
        events = monitor.events().events
        place = {(type(event), event.prediction_id): index for index, event in enumerate(events)}
        assert all(place[PredictionEvent, f"p{n}"] < place[OutcomeEvent, f"p{n}"] for n in range(5))

    def _needs_outcomes(self, monitor: Any) -> None:
        if not isinstance(monitor, LabelledMonitor):  # pragma: no cover  # ours do
            pytest.skip("the monitor takes no outcomes")


class DeferringMonitorContract(MonitorContract):
    """The method of ``DeferringMonitor``: bare values come to the same as an event."""

    def _defer(self, monitor: Any, event: PredictionEvent) -> None:
        monitor.defer_prediction(
            event.prediction_id,
            event.model_version,
            event.input,
            event.output,
            event.processing_time_ms,
            event.timestamp.timestamp(),
            event.confidence,
            event.arm,
            event.key,
        )

    def test_it_is_a_deferring_monitor(self, monitor: Any) -> None:
        """It has the method of ``DeferringMonitor``."""
        assert isinstance(monitor, DeferringMonitor)

    @pytest.mark.parametrize("window", [MINUTE, 2 * MINUTE, HOUR], ids=str)
    def test_bare_values_count_like_an_event(self, clock: ManualClock, window: timedelta) -> None:
        """``defer_prediction`` gives the same metrics and inputs as ``record_prediction``, to the microsecond."""
        events = [
            prediction(
                number,
                clock.now() - number * timedelta(seconds=7, microseconds=1),
                str(number % 2),
                processing_time_ms=0.5 * number,
                confidence=None if number % 3 else number / 100,
            )
            for number in range(60)
        ]
        deferring, recording = self.new_monitor(clock), self.new_monitor(clock)
        for event in events:
            self._defer(deferring, event)
            recording.record_prediction(event)
        assert self.metrics(deferring, "1", window) == self.metrics(recording, "1", window)
        assert self.sampled(deferring, "1", window) == self.sampled(recording, "1", window)

    @pytest.mark.parametrize(
        ("input", "change"),
        [(np.array([1.0, 2.0]), lambda array: array.fill(9.0)), ([1.0, 2.0], list.clear)],
        ids=["array", "list"],
    )
    def test_bare_inputs_are_copied(
        self, monitor: Any, clock: ManualClock, input: Any, change: Callable[[Any], None]
    ) -> None:
        """The caller may change its input as soon as ``defer_prediction`` returns."""
        input = copy.deepcopy(input)  # the parameters are shared with other suites
        self._defer(monitor, prediction(0, clock.now(), input=input))
        change(input)
        assert self.sampled(monitor) == [[1.0, 2.0]]
