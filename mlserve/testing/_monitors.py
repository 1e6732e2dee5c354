"""What every monitor keeps to: one class for each protocol, one method for each clause."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, ClassVar

import hypothesis
import numpy as np
import pytest
from hypothesis.stateful import run_state_machine_as_test

from mlserve.clocks import ManualClock
from mlserve.errors import ErrorKind, InvalidArgumentError
from mlserve.protocols import ModelMonitor
from mlserve.records import (
    DriftEvent,
)
from mlserve.testing._monitor_contract import HOUR, MINUTE, MonitorContract, drift_event, prediction
from mlserve.testing._monitor_machine import MonitorMachine, is_quantile
from mlserve.testing._threads import THREADS, at_once


class ModelMonitorContract(MonitorContract):
    """The eight methods of ``ModelMonitor``, and a state machine that runs them beside a list of events.

    Subclass it in a test module under a name that begins with ``Test`` and override the abstract methods. Fixtures
    work as in any test class.

    Attributes:
        state_machine_settings: How much the state machine tries. Lower it for a slow store.

    Example:
        >>> from mlserve import InMemoryModelMonitor
        >>> class TestOurMonitor(ModelMonitorContract):
        ...     def new_monitor(self, clock):
        ...         return InMemoryModelMonitor(clock=clock)
        ...
        ...     def kept_drift_events(self, monitor):
        ...         return monitor.drift_events()
    """

    state_machine_settings: ClassVar[hypothesis.settings] = hypothesis.settings(
        max_examples=50,
        stateful_step_count=30,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )

    @abstractmethod
    def kept_drift_events(self, monitor: Any) -> Sequence[DriftEvent]:
        """The drift events that a monitor keeps, oldest first: a back door, since the protocol only writes them."""

    def reaches_back_to(self, start: datetime, now: datetime) -> datetime:  # noqa: ARG002  # for those who override it
        """The moment after which a monitor may already count, for a window (start, now].

        Override it for a store that rounds windows outward, for example to whole minutes.
        """
        return start - self.window_resolution + timedelta(microseconds=1)

    def test_it_is_a_model_monitor(self, monitor: ModelMonitor) -> None:
        """It has the methods of ``ModelMonitor``."""
        assert isinstance(monitor, ModelMonitor)

    # -------------------------------------------------------------------------------------------------- counting

    @pytest.mark.parametrize("version_id", [None, "1"])
    def test_without_traffic_there_is_no_evidence(self, monitor: ModelMonitor, version_id: str | None) -> None:
        """Metrics without requests count 0 and hold None for whatever has no evidence."""
        metrics = self.metrics(monitor, version_id)
        assert (metrics.request_count, metrics.error_count, metrics.labelled_count) == (0, 0, 0)
        assert dict(metrics.errors_by_kind) == {}
        absent = [
            metrics.error_rate, metrics.fault_rate, metrics.average_latency_ms, metrics.p50_latency_ms,
            metrics.p95_latency_ms, metrics.p99_latency_ms, metrics.average_confidence, metrics.accuracy,
            metrics.mean_absolute_error, metrics.root_mean_squared_error, metrics.r2, metrics.label_coverage,
            metrics.label_delay_p50_seconds, metrics.label_delay_p95_seconds, metrics.label_watermark, metrics.mature,
        ]  # fmt: skip
        assert absent == [None] * len(absent)
        assert metrics.classes == ()

    @pytest.mark.parametrize("version_id", [None, "1"])
    def test_metrics_say_what_they_are_of(self, monitor: ModelMonitor, version_id: str | None) -> None:
        """Metrics name their version, None for all together, and their window."""
        metrics = self.metrics(monitor, version_id, MINUTE)
        assert (metrics.model_version, metrics.window) == (version_id, MINUTE)

    @pytest.mark.parametrize("version_id", [None, "1"])
    def test_every_prediction_counts(self, monitor: ModelMonitor, clock: ManualClock, version_id: str | None) -> None:
        """``request_count`` counts the predictions that were answered."""
        for number in range(25):
            monitor.record_prediction(prediction(number, clock.now()))
        metrics = self.metrics(monitor, version_id)
        assert (metrics.request_count, metrics.error_count, metrics.error_rate) == (25, 0, 0.0)

    @pytest.mark.parametrize("version_id", [None, "1"])
    def test_failures_are_requests(self, monitor: ModelMonitor, clock: ManualClock, version_id: str | None) -> None:
        """``error_rate`` is the failures over all requests, failures included."""
        for number in range(6):
            monitor.record_prediction(prediction(number, clock.now()))
        for _ in range(2):
            monitor.record_prediction_error(ErrorKind.PredictionException, "1")
        metrics = self.metrics(monitor, version_id)
        assert (metrics.request_count, metrics.error_count, metrics.error_rate) == (8, 2, 0.25)

    def test_failures_are_told_by_kind(self, monitor: ModelMonitor) -> None:
        """``errors_by_kind`` counts failures by the value of their kind."""
        for kind in (ErrorKind.InvalidInput, ErrorKind.InvalidInput, ErrorKind.Overloaded, "OurOwn"):
            monitor.record_prediction_error(kind, "1")
        assert dict(self.metrics(monitor).errors_by_kind) == {"InvalidInput": 2, "Overloaded": 1, "OurOwn": 1}

    @pytest.mark.parametrize("kind", [*ErrorKind, "OurOwn"])
    def test_what_callers_cause_is_no_fault(self, monitor: ModelMonitor, kind: str) -> None:
        """``fault_rate`` leaves out the failures that the caller caused, and only these."""
        monitor.record_prediction_error(kind, "1")
        metrics = self.metrics(monitor)
        caused_by_caller = kind in (ErrorKind.InvalidInput, ErrorKind.VersionNotFound)
        assert (metrics.error_rate, metrics.fault_rate) == (1.0, 0.0 if caused_by_caller else 1.0)

    def test_a_failure_without_a_version_counts_in_all(self, monitor: ModelMonitor) -> None:
        """A failure for which no version was resolved counts in the metrics of all versions together only."""
        monitor.record_prediction_error(ErrorKind.VersionNotFound, None)
        assert self.metrics(monitor, None).error_count == 1
        assert self.metrics(monitor, "1").error_count == 0

    def test_versions_are_kept_apart(self, monitor: ModelMonitor, clock: ManualClock) -> None:
        """``get_model_metrics`` is of one version, ``get_recent_metrics`` of all."""
        for number, version_id in enumerate(["1", "2", "2"]):
            monitor.record_prediction(prediction(number, clock.now(), version_id))
        monitor.record_prediction_error(ErrorKind.Overloaded, "2")
        counts = [self.metrics(monitor, version_id).request_count for version_id in ("1", "2", "3", None)]
        assert counts == [1, 3, 0, 4]

    def test_two_monitors_share_nothing(self, monitor: ModelMonitor, clock: ManualClock) -> None:
        """What one monitor was told another does not know."""
        monitor.record_prediction(prediction(0, clock.now()))
        assert self.metrics(self.new_monitor(clock)).request_count == 0

    def test_nothing_is_lost_between_threads(self, clock: ManualClock) -> None:
        """Whatever several threads record while others read is counted exactly."""
        monitor, each = self.new_monitor(clock), 700

        def record(first: int) -> int:
            for number in range(first, first + each):
                monitor.record_prediction(prediction(number, clock.now()))
                monitor.record_prediction_error(ErrorKind.Overloaded, "1")
            return 0

        def read() -> int:
            counts = [self.metrics(monitor).request_count for _ in range(20)]
            assert counts == sorted(counts)
            return counts[-1]

        recording: list[Callable[[], int]] = [partial(record, thread * each) for thread in range(THREADS - 2)]
        at_once([*recording, read, read])
        metrics = self.metrics(monitor)
        recorded = (THREADS - 2) * each
        assert (metrics.request_count, metrics.error_count) == (2 * recorded, recorded)

    # --------------------------------------------------------------------------------------------------- windows

    @pytest.mark.parametrize("version_id", [None, "1"])
    def test_a_window_begins_after_its_far_edge(
        self, monitor: ModelMonitor, clock: ManualClock, version_id: str | None
    ) -> None:
        """A window is (now − w, now]: what happened exactly w ago is outside, what happened later is inside."""
        edge = clock.now() - MINUTE
        # Alike at any resolution: the first lies outside, the second inside.
        monitor.record_prediction(prediction(0, edge - self.window_resolution + timedelta(microseconds=1)))
        monitor.record_prediction(prediction(1, edge + self.window_resolution))
        assert self.metrics(monitor, version_id, MINUTE).request_count == 1

    def test_now_is_inside_the_window(self, monitor: ModelMonitor, clock: ManualClock) -> None:
        """A window is (now − w, now]: what happens now is inside."""
        monitor.record_prediction(prediction(0, clock.now()))
        assert self.metrics(monitor, window=timedelta(microseconds=1)).request_count == 1

    def test_what_is_yet_to_come_is_outside_the_window(self, monitor: ModelMonitor, clock: ManualClock) -> None:
        """A window is (now − w, now]: an event of another machine whose clock is ahead counts when its time comes."""
        monitor.record_prediction(prediction(0, clock.now() + MINUTE))
        assert self.metrics(monitor).request_count == 0
        clock.advance(MINUTE)
        assert self.metrics(monitor).request_count == 1

    def test_events_leave_the_window_as_time_passes(self, monitor: ModelMonitor, clock: ManualClock) -> None:
        """The same window, asked again later, no longer holds what has become too old."""
        monitor.record_prediction(prediction(0, clock.now()))
        monitor.record_prediction_error(ErrorKind.Overloaded, "1")
        counts = []
        for _ in range(3):
            counts.append(self.metrics(monitor, window=2 * MINUTE).request_count)
            clock.advance(MINUTE)
        assert counts == [2, 2, 0]

    def test_late_events_count_at_their_own_time(self, monitor: ModelMonitor, clock: ManualClock) -> None:
        """Events that are recorded late or out of order count when they happened, not when they were recorded."""
        for number, minutes_ago in enumerate([1, 30, 5, 45, 15]):
            monitor.record_prediction(prediction(number, clock.now() - minutes_ago * MINUTE))
        counts = [self.metrics(monitor, window=minutes * MINUTE).request_count for minutes in (2, 10, 20, 40, 60)]
        assert counts == [1, 2, 3, 4, 5]

    def test_asking_twice_changes_nothing(self, monitor: ModelMonitor, clock: ManualClock) -> None:
        """The same question, asked twice, has the same answer."""
        for number in range(10):
            monitor.record_prediction(prediction(number, clock.now(), processing_time_ms=1.0 + number))
        assert self.metrics(monitor) == self.metrics(monitor)

    @pytest.mark.parametrize("window", [timedelta(0), timedelta(microseconds=-1), -HOUR])
    @pytest.mark.parametrize("method", ["get_recent_metrics", "get_model_metrics", "get_recent_input_distribution"])
    def test_a_window_must_be_positive(self, monitor: ModelMonitor, method: str, window: timedelta) -> None:
        """``InvalidArgumentError`` is raised for a window that is not positive."""
        arguments: tuple[Any, ...] = (window,) if method == "get_recent_metrics" else ("1", window)
        with pytest.raises(InvalidArgumentError):
            getattr(monitor, method)(*arguments)

    # ----------------------------------------------------------------------------------- latency and confidence

    def test_latency_is_averaged_over_successes(self, monitor: ModelMonitor, clock: ManualClock) -> None:
        """``average_latency_ms`` is the mean over the predictions that were answered."""
        for number, latency_ms in enumerate([1.0, 2.0, 6.0]):
            monitor.record_prediction(prediction(number, clock.now(), processing_time_ms=latency_ms))
        monitor.record_prediction_error(ErrorKind.DeadlineExceeded, "1")
        assert self.metrics(monitor).average_latency_ms == pytest.approx(3.0)

    @pytest.mark.parametrize("percentile", [50, 95, 99])
    @pytest.mark.parametrize("count", [1, 2, 100, 2_000])
    def test_percentiles_are_within_one_percent(
        self, monitor: ModelMonitor, clock: ManualClock, percentile: int, count: int
    ) -> None:
        """The percentiles of the latency lie within 1 % of the exact ones."""
        latencies = np.random.default_rng(count).lognormal(1.0, 2.0, count)
        for number, latency_ms in enumerate(latencies.tolist()):
            monitor.record_prediction(prediction(number, clock.now(), processing_time_ms=latency_ms))
        claimed = getattr(self.metrics(monitor), f"p{percentile}_latency_ms")
        assert is_quantile(claimed, latencies.tolist(), percentile / 100)

    def test_throughput_is_over_the_whole_window(self, monitor: ModelMonitor, clock: ManualClock) -> None:
        """``throughput_per_second`` is the requests over the length of the window."""
        for number in range(30):
            monitor.record_prediction(prediction(number, clock.now()))
        assert self.metrics(monitor, window=MINUTE).throughput_per_second == pytest.approx(0.5)

    def test_confidence_is_averaged_where_given(self, monitor: ModelMonitor, clock: ManualClock) -> None:
        """``average_confidence`` is the mean of the confidences that were given."""
        for number, confidence in enumerate([0.5, None, 1.0]):
            monitor.record_prediction(prediction(number, clock.now(), confidence=confidence))
        assert self.metrics(monitor).average_confidence == pytest.approx(0.75)

    # ---------------------------------------------------------------------------------------------------- inputs

    def test_a_version_never_seen_has_no_inputs(self, monitor: ModelMonitor) -> None:
        """``get_recent_input_distribution`` of a version never seen is a sample without rows."""
        sample = monitor.get_recent_input_distribution("1", HOUR)
        assert (len(sample.rows), sample.count) == (0, 0)

    @pytest.mark.parametrize(
        "form",
        [list, tuple, np.array, lambda row: {"a": row[0], "b": row[1]}, lambda row: np.array([row])],
        ids=["list", "tuple", "array", "mapping", "table of one row"],
    )
    def test_few_inputs_are_all_in_the_sample(
        self, monitor: ModelMonitor, clock: ManualClock, form: Callable[[list[float]], Any]
    ) -> None:
        """The sample of a window with few inputs is all of them, one row each, in whatever form they were sent."""
        rows = [[float(number), -2.5 * number] for number in range(10)]
        for number, row in enumerate(rows):
            monitor.record_prediction(prediction(number, clock.now(), input=form(row)))
        assert self.sampled(monitor) == rows

    def test_a_number_is_a_row_of_one_feature(self, monitor: ModelMonitor, clock: ManualClock) -> None:
        """An input that is a single number is a row of one feature."""
        for number in range(3):
            monitor.record_prediction(prediction(number, clock.now(), input=float(number)))
        assert self.sampled(monitor) == [[0.0], [1.0], [2.0]]

    def test_a_sample_is_drawn_from_what_was_sent(self, monitor: ModelMonitor, clock: ManualClock) -> None:
        """However many inputs there are, the sample holds some of them, each at most once, and says for how many."""
        for number in range(3_000):
            monitor.record_prediction(prediction(number, clock.now()))
        drawn = [row[0] for row in self.sampled(monitor)]
        assert len(set(drawn)) == len(drawn) > 0
        assert set(drawn) <= set(map(float, range(3_000)))
        assert monitor.get_recent_input_distribution("1", HOUR).count == 3_000

    def test_samples_are_of_one_version(self, monitor: ModelMonitor, clock: ManualClock) -> None:
        """``get_recent_input_distribution`` holds the inputs that the version answered and no others."""
        for number, version_id in enumerate(["1", "2", "1"]):
            monitor.record_prediction(prediction(number, clock.now(), version_id))
        assert (self.sampled(monitor, "1"), self.sampled(monitor, "2")) == ([[0.0], [2.0]], [[1.0]])

    def test_samples_are_of_one_window(self, monitor: ModelMonitor, clock: ManualClock) -> None:
        """``get_recent_input_distribution`` holds the inputs of (now − w, now] and no others."""
        for number, minutes_ago in enumerate([0, 30, 5, -5]):
            monitor.record_prediction(prediction(number, clock.now() - minutes_ago * MINUTE))
        assert self.sampled(monitor, window=10 * MINUTE) == [[0.0], [2.0]]

    def test_features_have_names(self, monitor: ModelMonitor, clock: ManualClock) -> None:
        """A sample names each feature, ``x0, x1, …`` where no names are known."""
        monitor.record_prediction(prediction(0, clock.now(), input=[1.0, 2.0]))
        self.settle(monitor)
        assert monitor.get_recent_input_distribution("1", HOUR).feature_names == ("x0", "x1")

    @pytest.mark.parametrize("unusable", [None, "text", [1.0, 2.0, 3.0], object()], ids=["None", "text", "wide", "any"])
    def test_an_input_that_is_no_row_is_left_out(
        self, monitor: ModelMonitor, clock: ManualClock, unusable: Any
    ) -> None:
        """An input that is no row of the others' width is left out of the sample and counted there."""
        for number, input in enumerate([[1.0], unusable, [2.0]]):
            monitor.record_prediction(prediction(number, clock.now(), input=input))
        assert self.sampled(monitor) == [[1.0], [2.0]]
        sample = monitor.get_recent_input_distribution("1", HOUR)
        assert (sample.unusable_count, sample.count) == (1, 3)

    @pytest.mark.parametrize(
        ("input", "change"),
        [
            (np.array([1.0, 2.0]), lambda array: array.fill(9.0)),
            ([1.0, 2.0], list.clear),
            ({"a": 1.0, "b": 2.0}, dict.clear),
            ([[1.0], [2.0]], lambda rows: rows[0].clear()),
        ],
        ids=["array", "list", "mapping", "nested list"],
    )
    def test_inputs_are_copied(
        self, monitor: ModelMonitor, clock: ManualClock, input: Any, change: Callable[[Any], None]
    ) -> None:
        """The caller may change its input as soon as ``record_prediction`` returns."""
        input = copy.deepcopy(input)  # the parameters are shared with other suites
        monitor.record_prediction(prediction(0, clock.now(), input=input))
        change(input)
        assert self.sampled(monitor) == [[1.0, 2.0]]

    # -------------------------------------------------------------------------------------- baselines and drift

    def test_a_version_never_seen_has_no_baseline(self, monitor: ModelMonitor) -> None:
        """``get_baseline_metrics`` and ``get_baseline_input_distribution`` are None where nothing was set."""
        assert monitor.get_baseline_metrics("1") is None
        assert monitor.get_baseline_input_distribution("1") is None

    def test_drift_events_are_kept(self, monitor: ModelMonitor, clock: ManualClock) -> None:
        """``record_drift_event`` keeps the drifts that were found."""
        events = [drift_event(clock.now() + number * MINUTE, version_id) for number, version_id in enumerate("12")]
        for event in events:
            monitor.record_drift_event(event)
        self.settle(monitor)
        assert list(self.kept_drift_events(monitor)) == events

    def test_it_behaves_like_a_list_of_events(self) -> None:
        """After anything recorded at any time, whatever any window says is what a list of the events would say."""

        def machine() -> MonitorMachine:
            clock = ManualClock()
            return MonitorMachine(self.new_monitor(clock), clock, self.settle, self.reaches_back_to)

        run_state_machine_as_test(machine, settings=self.state_machine_settings)  # type: ignore[arg-type]  # "it can be a class or a function", as its docstring has it
