"""What monitors keep to that promise more than the eight methods."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import pytest
from typing_extensions import override

from mlserve.clocks import ManualClock
from mlserve.errors import ErrorKind, InvalidArgumentError
from mlserve.protocols import BaselineMonitor, LabelledMonitor
from mlserve.records import InputSample, ModelMetrics
from mlserve.testing._monitor_contract import HOUR, MINUTE, MonitorContract, prediction
from mlserve.testing._threads import THREADS, at_once


class _Incomparable:
    """A true value of which nobody can say whether it is right, such as pandas' NA."""

    @override
    def __eq__(self, other: object) -> Any:
        raise TypeError("cannot be compared")

    __hash__ = object.__hash__


class LabelledMonitorContract(MonitorContract):
    """The method of ``LabelledMonitor``: true values that arrive late, in any order, twice, or for nothing known."""

    def _label(self, monitor: Any, clock: ManualClock, pairs: list[tuple[Any, Any]], version_id: str = "1") -> None:
        for number, (output, _) in enumerate(pairs):
            monitor.record_prediction(prediction(number, clock.now(), version_id, output=output))
        for number, (_, actual) in enumerate(pairs):
            monitor.record_outcome(f"p{number}", actual)

    def test_it_is_a_labelled_monitor(self, monitor: Any) -> None:
        """It has the method of ``LabelledMonitor``."""
        assert isinstance(monitor, LabelledMonitor)

    @pytest.mark.parametrize("version_id", [None, "1"])
    def test_accuracy_is_the_share_that_was_right(
        self, monitor: Any, clock: ManualClock, version_id: str | None
    ) -> None:
        """``accuracy`` is the share of labelled predictions that were right."""
        self._label(monitor, clock, [(0, 0), (1, 1), (1, 0), (0, 0)])
        assert self.metrics(monitor, version_id).accuracy == 0.75

    @pytest.mark.parametrize(
        ("output", "actual"),
        [("cat", "cat"), (True, True), (1, 1.0), (np.int64(3), 3), (np.str_("cat"), "cat"), (np.array([1, 2]), [1, 2])],
    )
    def test_equal_values_of_any_kind_are_right(
        self, monitor: Any, clock: ManualClock, output: Any, actual: Any
    ) -> None:
        """An answer is right when it is equal to the true value, of whatever kind the two are."""
        self._label(monitor, clock, [(output, actual)])
        assert self.metrics(monitor).accuracy == 1.0

    def test_coverage_is_the_share_that_was_labelled(self, monitor: Any, clock: ManualClock) -> None:
        """``label_coverage`` is the labelled predictions over those that were answered; failures do not count."""
        self._label(monitor, clock, [(0, 0)])
        for number in range(1, 4):
            monitor.record_prediction(prediction(number, clock.now()))
        monitor.record_prediction_error(ErrorKind.Overloaded, "1")
        metrics = self.metrics(monitor)
        assert (metrics.labelled_count, metrics.label_coverage) == (1, 0.25)

    def test_without_outcomes_there_is_no_accuracy(self, monitor: Any, clock: ManualClock) -> None:
        """``accuracy`` is None, not 0, until an outcome has arrived; ``label_coverage`` is 0."""
        monitor.record_prediction(prediction(0, clock.now()))
        metrics = self.metrics(monitor)
        assert (metrics.accuracy, metrics.labelled_count, metrics.label_coverage) == (None, 0, 0.0)

    def test_an_outcome_counts_when_its_prediction_was_made(self, monitor: Any, clock: ManualClock) -> None:
        """A late outcome belongs to the window of its prediction, not to that in which it arrived."""
        monitor.record_prediction(prediction(0, clock.now()))
        clock.advance(30 * MINUTE)
        monitor.record_outcome("p0", 0)
        counts = [self.metrics(monitor, window=minutes * MINUTE).labelled_count for minutes in (10, 40)]
        assert counts == [0, 1]

    def test_outcomes_come_in_any_order(self, monitor: Any, clock: ManualClock) -> None:
        """Each outcome is joined with its own prediction, in whatever order they arrive."""
        for number in range(10):
            monitor.record_prediction(prediction(number, clock.now(), output=number))
        for number in reversed(range(10)):
            monitor.record_outcome(f"p{number}", number)
        metrics = self.metrics(monitor)
        assert (metrics.labelled_count, metrics.accuracy) == (10, 1.0)

    def test_an_outcome_belongs_to_one_version(self, monitor: Any, clock: ManualClock) -> None:
        """An outcome counts for the version that answered."""
        self._label(monitor, clock, [(0, 0)], version_id="2")
        assert [self.metrics(monitor, version_id).labelled_count for version_id in ("1", "2", None)] == [0, 1, 1]

    def test_the_first_outcome_stays(self, monitor: Any, clock: ManualClock) -> None:
        """A second outcome of a prediction changes nothing and is no error."""
        self._label(monitor, clock, [(0, 0)])
        monitor.record_outcome("p0", 1)
        metrics = self.metrics(monitor)
        assert (metrics.labelled_count, metrics.accuracy) == (1, 1.0)

    def test_an_unknown_outcome_is_no_error(self, monitor: Any, clock: ManualClock) -> None:
        """An outcome of a prediction that is not known counts in no window and is no error."""
        self._label(monitor, clock, [(0, 0)])
        monitor.record_outcome("never recorded", 0)
        assert self.metrics(monitor).labelled_count == 1

    @pytest.mark.parametrize(
        "actual",
        ["text", None, float("nan"), [1.0, 2.0], object(), _Incomparable()],
        ids=lambda value: type(value).__name__,
    )
    def test_an_odd_outcome_harms_no_other(self, monitor: Any, clock: ManualClock, actual: Any) -> None:
        """An outcome that cannot be compared with its prediction is no error, and the others are joined."""
        self._label(monitor, clock, [(0, actual), (0, 0), (1, 1)])
        metrics = self.metrics(monitor)
        assert metrics.labelled_count in (2, 3)
        assert metrics.accuracy == 2 / metrics.labelled_count

    def test_outputs_are_copied(self, monitor: Any, clock: ManualClock) -> None:
        """The caller may change the output as soon as ``record_prediction`` returns."""
        output = np.array([1, 2])
        monitor.record_prediction(prediction(0, clock.now(), output=output))
        output.fill(9)
        monitor.record_outcome("p0", [1, 2])
        assert self.metrics(monitor).accuracy == 1.0

    def test_a_regressor_has_an_error(self, monitor: Any, clock: ManualClock) -> None:
        """``mean_absolute_error`` is the mean of |output − actual|, and there is no accuracy."""
        self._label(monitor, clock, [(1.5, 1.0), (2.0, 4.0), (3.25, 3.25)])
        metrics = self.metrics(monitor)
        assert metrics.mean_absolute_error == pytest.approx(2.5 / 3)
        assert metrics.accuracy is None

    def test_a_regressor_has_a_mean_squared_error(self, monitor: Any, clock: ManualClock) -> None:
        """``root_mean_squared_error`` is √ of the mean of (output − actual)²; a classifier has none."""
        self._label(monitor, clock, [(1.5, 1.0), (2.0, 4.0), (3.25, 3.25)])
        assert self.metrics(monitor).root_mean_squared_error == pytest.approx((4.25 / 3) ** 0.5)

    def test_a_regressor_has_a_coefficient_of_determination(self, monitor: Any, clock: ManualClock) -> None:
        """``r2`` is 1 − Σ(y − ŷ)²/Σ(y − ȳ)²."""
        self._label(monitor, clock, [(1.5, 1.0), (2.0, 4.0), (3.25, 3.5)])
        actual, predicted = np.array([1.0, 4.0, 3.5]), np.array([1.5, 2.0, 3.25])
        expected = 1 - ((actual - predicted) ** 2).sum() / ((actual - actual.mean()) ** 2).sum()
        assert self.metrics(monitor).r2 == pytest.approx(expected)

    def test_a_constant_target_has_no_r2(self, monitor: Any, clock: ManualClock) -> None:
        """``r2`` is None where the true values are all the same."""
        self._label(monitor, clock, [(1.5, 1.0), (2.0, 1.0)])
        assert self.metrics(monitor).r2 is None

    def test_each_class_has_its_precision_and_recall(self, monitor: Any, clock: ManualClock) -> None:
        """``classes`` counts for each class the answers, the truths and those that were both, the commonest first."""
        self._label(monitor, clock, [("a", "a"), ("a", "b"), ("b", "b"), ("c", "b"), ("a", "a")])
        found = [
            (one.label, one.support, one.predicted, one.precision, one.recall, one.f1)
            for one in self.metrics(monitor).classes
        ]
        expected = [
            ("b", 3, 1, 1.0, pytest.approx(1 / 3), 0.5),
            ("a", 2, 3, pytest.approx(2 / 3), 1.0, pytest.approx(0.8)),
            ("c", 0, 1, 0.0, None, 0.0),
        ]
        assert found == expected

    def test_a_regressor_has_no_classes(self, monitor: Any, clock: ManualClock) -> None:
        """``classes`` is empty for numbers with a fraction."""
        self._label(monitor, clock, [(1.5, 1.0), (2.0, 4.0)])
        assert self.metrics(monitor).classes == ()

    def test_a_classifier_has_no_regression_metrics(self, monitor: Any, clock: ManualClock) -> None:
        """``mean_absolute_error``, ``root_mean_squared_error`` and ``r2`` are None for class labels."""
        self._label(monitor, clock, [(0, 1), (1, 1)])
        metrics = self.metrics(monitor)
        assert (metrics.mean_absolute_error, metrics.root_mean_squared_error, metrics.r2) == (None, None, None)

    def test_no_outcome_is_lost_between_threads(self, clock: ManualClock) -> None:
        """Outcomes that several threads record, each after its prediction, are all joined."""
        monitor, each = self.new_monitor(clock), 700

        def serve(first: int) -> None:
            for number in range(first, first + each):
                monitor.record_prediction(prediction(number, clock.now(), output=number % 2))
                monitor.record_outcome(f"p{number}", 1)

        at_once([partial(serve, thread * each) for thread in range(THREADS)])
        metrics = self.metrics(monitor)
        assert (metrics.labelled_count, metrics.accuracy) == (THREADS * each, 0.5)


class BaselineMonitorContract(MonitorContract):
    """The methods of ``BaselineMonitor``: what was set or captured is what the eight methods give back."""

    def _baseline_rows(self, monitor: Any, version_id: str = "1") -> list[list[float]]:
        inputs: InputSample = monitor.get_baseline_input_distribution(version_id)
        rows: list[list[float]] = inputs.rows.tolist()
        return rows

    def test_it_is_a_baseline_monitor(self, monitor: Any) -> None:
        """It has the methods of ``BaselineMonitor``."""
        assert isinstance(monitor, BaselineMonitor)

    def test_metrics_come_back(self, monitor: Any) -> None:
        """``get_baseline_metrics`` gives the metrics that were set."""
        metrics = ModelMetrics(accuracy=0.9, average_latency_ms=2.0, error_rate=0.01)
        monitor.set_baseline("1", metrics=metrics)
        assert monitor.get_baseline_metrics("1") == metrics

    def test_inputs_come_back(self, monitor: Any) -> None:
        """``get_baseline_input_distribution`` gives the rows that were set, with names for their features."""
        monitor.set_baseline("1", inputs=[[1.0, 2.0], [3.0, 4.0]], feature_names=["a", "b"])
        inputs = monitor.get_baseline_input_distribution("1")
        assert (inputs.rows.tolist(), inputs.feature_names, inputs.count) == ([[1.0, 2.0], [3.0, 4.0]], ("a", "b"), 2)

    def test_a_sample_comes_back_with_its_names(self, monitor: Any) -> None:
        """An ``InputSample`` can be set as it is."""
        monitor.set_baseline("1", inputs=InputSample(rows=np.array([[1.0], [2.0]]), feature_names=("a",), count=50))
        inputs = monitor.get_baseline_input_distribution("1")
        assert (inputs.rows.tolist(), inputs.feature_names, inputs.count) == ([[1.0], [2.0]], ("a",), 50)

    def test_recent_inputs_take_the_names_of_the_baseline(self, monitor: Any, clock: ManualClock) -> None:
        """A recent sample of the same width names its features as the baseline does."""
        monitor.set_baseline("1", inputs=[[1.0, 2.0]], feature_names=["a", "b"])
        monitor.record_prediction(prediction(0, clock.now(), input=[3.0, 4.0]))
        self.settle(monitor)
        assert monitor.get_recent_input_distribution("1", HOUR).feature_names == ("a", "b")

    def test_what_is_none_stays(self, monitor: Any) -> None:
        """Setting the metrics leaves the inputs as they were, and the other way round."""
        monitor.set_baseline("1", inputs=[[1.0]])
        monitor.set_baseline("1", metrics=ModelMetrics(accuracy=0.5))
        monitor.set_baseline("1", inputs=[[2.0]])
        assert self._baseline_rows(monitor) == [[2.0]]
        assert monitor.get_baseline_metrics("1").accuracy == 0.5

    def test_baselines_are_of_one_version(self, monitor: Any) -> None:
        """A baseline belongs to the version for which it was set."""
        monitor.set_baseline("1", metrics=ModelMetrics(accuracy=0.5), inputs=[[1.0]])
        assert monitor.get_baseline_metrics("2") is None
        assert monitor.get_baseline_input_distribution("2") is None

    def test_baseline_inputs_are_copied(self, monitor: Any) -> None:
        """The caller may change its array after it was set."""
        rows = np.array([[1.0], [2.0]])
        monitor.set_baseline("1", inputs=rows)
        rows.fill(9.0)
        assert self._baseline_rows(monitor) == [[1.0], [2.0]]

    @pytest.mark.parametrize(
        ("inputs", "feature_names"),
        [
            ([1.0, 2.0], None),
            (5.0, None),
            ("text", None),
            ([[1.0, 2.0], [3.0]], None),
            ([[1.0, 2.0]], ["a"]),
            ([[1.0, 2.0]], ["a", "b", "c"]),
            ([[1.0, 2.0]], ["a", "a"]),
            ([[1.0, 2.0]], ["a", 2]),
        ],
        ids=["one row", "a number", "text", "ragged", "few names", "many names", "repeated names", "names no text"],
    )
    def test_what_is_no_table_is_refused(self, monitor: Any, inputs: Any, feature_names: Any) -> None:
        """``set_baseline`` raises ``InvalidArgumentError`` for what is no array of rows, or names that do not fit."""
        with pytest.raises(InvalidArgumentError):
            monitor.set_baseline("1", inputs=inputs, feature_names=feature_names)
        assert monitor.get_baseline_input_distribution("1") is None

    def test_a_window_can_be_captured(self, monitor: Any, clock: ManualClock) -> None:
        """``capture_baseline`` takes metrics and inputs of a recent window of the version."""
        for number in range(4):
            monitor.record_prediction(
                prediction(number, clock.now() - number * MINUTE, processing_time_ms=1.0 + number)
            )
        monitor.record_prediction(prediction(4, clock.now(), "2"))
        self.settle(monitor)
        monitor.capture_baseline("1", 3 * MINUTE)
        metrics = monitor.get_baseline_metrics("1")
        assert (metrics.request_count, metrics.average_latency_ms) == (3, pytest.approx(2.0))
        assert sorted(self._baseline_rows(monitor)) == [[0.0], [1.0], [2.0]]

    def test_a_captured_baseline_stays(self, monitor: Any, clock: ManualClock) -> None:
        """Later traffic does not change a baseline that was captured."""
        monitor.record_prediction(prediction(0, clock.now()))
        self.settle(monitor)
        monitor.capture_baseline("1", HOUR)
        monitor.record_prediction(prediction(1, clock.now()))
        self.settle(monitor)
        assert monitor.get_baseline_metrics("1").request_count == 1
        assert self._baseline_rows(monitor) == [[0.0]]

    @pytest.mark.parametrize("window", [timedelta(0), -HOUR, MINUTE], ids=["zero", "negative", "without traffic"])
    def test_nothing_to_capture_is_refused(self, monitor: Any, clock: ManualClock, window: timedelta) -> None:
        """``capture_baseline`` raises ``InvalidArgumentError`` without a prediction, or for a window not positive."""
        monitor.record_prediction(prediction(0, clock.now()))
        clock.advance(30 * MINUTE)
        monitor.record_prediction_error(ErrorKind.Overloaded, "1")
        self.settle(monitor)
        with pytest.raises(InvalidArgumentError):
            monitor.capture_baseline("1", window)
        assert monitor.get_baseline_metrics("1") is None
