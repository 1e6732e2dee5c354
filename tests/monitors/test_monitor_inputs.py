"""Inputs of the monitor in memory: what is kept of them, how a sample says what it is, and baselines."""

from __future__ import annotations

import threading

import numpy as np
import pandas as pd
import pytest
from traffic import HOUR, MINUTE, SECOND, predict, small_monitor

from mlserve import InMemoryModelMonitor, ModelMetrics
from mlserve.clocks import ManualClock
from mlserve.errors import InvalidArgumentError


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def monitor(clock) -> InMemoryModelMonitor:
    return InMemoryModelMonitor(clock=clock)


def sample(monitor, version_id: str = "1", window=HOUR):
    return monitor.get_recent_input_distribution(version_id, window)


# ------------------------------------------------------------------------------------------------------ what is kept


def test_inputs_of_another_width_are_left_out(monitor, clock):
    """Inputs of another width than the commonest are left out and counted."""
    for number, width in enumerate([2, 2, 3, 2, 1]):
        predict(monitor, number, clock.now(), input=[1.0] * width)
    assert sample(monitor).rows.shape == (3, 2)
    assert (sample(monitor).unusable_count, sample(monitor).count) == (2, 5)


def test_an_input_that_cannot_be_copied_is_unusable(monitor, clock):
    """What cannot be copied is not kept but counted, as is the request."""
    predict(monitor, 0, clock.now(), input=threading.Lock())
    assert monitor.statistics().uncopied == 1
    assert (sample(monitor).unusable_count, sample(monitor).count) == (1, 1)


def test_an_object_array_is_copied_through(monitor, clock):
    """What an object array holds may be changed by the caller as well."""
    inner = [1.0]
    input = np.empty(1, object)
    input[0] = inner
    predict(monitor, 0, clock.now(), input=input)
    inner.append(2.0)
    assert monitor.events().events[0].input[0] == [1.0]


def test_missing_values_are_kept(monitor, clock):
    """NaN in an input stays NaN in the sample."""
    predict(monitor, 0, clock.now(), input=np.array([np.nan, 1.0]))
    np.testing.assert_array_equal(sample(monitor).rows, [[np.nan, 1.0]])


@pytest.mark.parametrize("dtype", ["int8", "float32", "bool", "float64"])
def test_rows_are_float64(monitor, clock, dtype):
    """Rows of numbers are float64 whatever dtype was sent."""
    predict(monitor, 0, clock.now(), input=np.array([0, 1], dtype))
    assert sample(monitor).rows.dtype == np.float64


def test_rows_cannot_be_changed(monitor, clock):
    """A sample's rows are read-only."""
    predict(monitor, 0, clock.now())
    with pytest.raises(ValueError, match="read-only"):
        sample(monitor).rows[0, 0] = 1.0


def test_mappings_give_their_values_in_order(monitor, clock):
    """A mapping is a row of its values in its own order."""
    predict(monitor, 0, clock.now(), input={"b": 2.0, "a": 1.0})
    assert sample(monitor).rows.tolist() == [[2.0, 1.0]]


# ------------------------------------------------------------------------------------------- what a sample says it is


def test_a_sample_that_is_all_says_so(clock):
    """``method`` is "all" while the sample holds every input of the window."""
    monitor = small_monitor(clock, sample_size=100)
    for number in range(99):
        predict(monitor, number, clock.now())
    assert (sample(monitor).method, sample(monitor).count, len(sample(monitor).rows)) == ("all", 99, 99)


def test_a_sample_of_exactly_all_says_so(clock):
    """``method`` is "all" as well when as many inputs came as the sample may hold."""
    monitor = small_monitor(clock, sample_size=100)
    for number in range(100):
        predict(monitor, number, clock.now())
    assert (sample(monitor).method, len(sample(monitor).rows)) == ("all", 100)


def test_a_sample_that_is_not_all_says_so(clock):
    """``method`` is "reservoir" when the window held more inputs than the sample."""
    monitor = small_monitor(clock, sample_size=100)
    for number in range(1000):
        predict(monitor, number, clock.now() - number * SECOND)
    assert (sample(monitor).method, sample(monitor).count, len(sample(monitor).rows)) == ("reservoir", 1000, 100)


def test_a_small_sample_of_thinned_inputs_is_not_all(clock):
    """``method`` is "reservoir" when inputs were not kept, however few of the sample's places they fill."""
    monitor = InMemoryModelMonitor(clock=clock, sample_size=20)
    start = clock.now().timestamp()
    for number in range(2048):
        monitor.defer_prediction(f"p{number}", "1", float(number), 0, 1.0, start + number / 1e4, None, None, None)
    for number in range(30):
        monitor.defer_prediction(f"q{number}", "1", float(number), 0, 1.0, start + 10 + number, None, None, None)
    clock.advance(MINUTE)
    slow = sample(monitor, window=55 * SECOND)
    assert slow.count == 30
    assert len(slow.rows) == 30 or slow.method == "reservoir"


def test_names_that_do_not_fit_are_not_taken(monitor, clock):
    """A recent sample of another width than the baseline has names of its own."""
    monitor.set_baseline("1", inputs=[[1.0, 2.0]], feature_names=["a", "b"])
    predict(monitor, 0, clock.now(), input=[1.0, 2.0, 3.0])
    assert sample(monitor).feature_names == ("x0", "x1", "x2")


# ----------------------------------------------------------------------------------------------------------- baselines


def test_a_frame_brings_the_names_of_its_features(monitor):
    """A frame given as baseline names its features."""
    monitor.set_baseline("1", inputs=pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]}))
    inputs = monitor.get_baseline_input_distribution("1")
    assert (inputs.feature_names, inputs.rows.tolist()) == (("a", "b"), [[1.0, 3.0], [2.0, 4.0]])


def test_said_names_win_over_those_of_a_frame(monitor):
    """Names that are said stand over the columns of a frame."""
    monitor.set_baseline("1", inputs=pd.DataFrame({"a": [1.0]}), feature_names=["length"])
    assert monitor.get_baseline_input_distribution("1").feature_names == ("length",)


def test_said_names_win_over_those_of_a_sample(monitor, clock):
    """Names that are said stand over those of a sample."""
    predict(monitor, 0, clock.now())
    monitor.set_baseline("1", inputs=sample(monitor), feature_names=["length"])
    assert monitor.get_baseline_input_distribution("1").feature_names == ("length",)


def test_a_frame_with_repeated_columns_is_refused(monitor):
    """``InvalidArgumentError`` is raised for columns that share a name."""
    with pytest.raises(InvalidArgumentError, match="distinct"):
        monitor.set_baseline("1", inputs=pd.DataFrame([[1.0, 2.0]], columns=["a", "a"]))


def test_baseline_rows_of_integers_are_float64(monitor):
    """Rows of numbers are float64 whatever dtype was given."""
    monitor.set_baseline("1", inputs=np.array([[1, 2]]))
    assert monitor.get_baseline_input_distribution("1").rows.dtype == np.float64


@pytest.mark.parametrize("metrics", [{"accuracy": 0.9}, 0.9, "good"])
def test_metrics_must_be_metrics(monitor, metrics):
    """``InvalidArgumentError`` is raised for metrics that are no ``ModelMetrics``."""
    with pytest.raises(InvalidArgumentError):
        monitor.set_baseline("1", metrics=metrics)


def test_a_baseline_of_inputs_that_are_no_rows_is_one_of_metrics(monitor, clock):
    """``capture_baseline`` of a version whose inputs are text keeps the metrics and no inputs."""
    predict(monitor, 0, clock.now(), input="text")
    monitor.capture_baseline("1", HOUR)
    assert monitor.get_baseline_metrics("1").request_count == 1
    assert monitor.get_baseline_input_distribution("1") is None


def test_capturing_replaces_what_was_set(monitor, clock):
    """``capture_baseline`` takes the place of a baseline that was set before."""
    monitor.set_baseline("1", metrics=ModelMetrics(accuracy=0.1), inputs=[[9.0]])
    predict(monitor, 0, clock.now())
    monitor.capture_baseline("1", HOUR)
    assert monitor.get_baseline_metrics("1").accuracy is None
    assert monitor.get_baseline_input_distribution("1").rows.tolist() == [[0.0]]
