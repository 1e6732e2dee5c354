"""True values: late, repeated, unknown, of another kind, given up; and what they add up to."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import mean_absolute_error, r2_score
from traffic import HOUR, MINUTE, SECOND, predict, small_monitor

from mlserve import InMemoryModelMonitor
from mlserve.clocks import ManualClock
from mlserve.records import OutcomeEvent

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture
def monitor(clock) -> InMemoryModelMonitor:
    return InMemoryModelMonitor(clock=clock)


def test_a_joined_outcome_is_counted(monitor, clock):
    """An outcome that finds its prediction is counted, and the prediction waits no longer."""
    predict(monitor, 0, clock.now())
    predict(monitor, 1, clock.now())
    monitor.record_outcome("p0", 0)
    statistics = monitor.statistics()
    assert (statistics.outcomes, statistics.pending) == (1, 1)


def test_an_unknown_outcome_is_counted(monitor):
    """An outcome of a prediction that was never recorded is counted as unknown."""
    monitor.record_outcome("p0", 0)
    assert (monitor.statistics().unknown_outcomes, monitor.statistics().outcomes) == (1, 0)


def test_an_outcome_before_its_prediction_is_unknown(monitor, clock):
    """An outcome that was read before its prediction came is lost: it is counted as unknown."""
    monitor.record_outcome("p0", 0)
    monitor.statistics()
    predict(monitor, 0, clock.now())
    assert (monitor.statistics().unknown_outcomes, monitor.statistics().pending) == (1, 1)


def test_a_second_outcome_is_counted_as_duplicate(monitor, clock):
    """A second outcome of a prediction is counted as a duplicate."""
    predict(monitor, 0, clock.now())
    monitor.record_outcome("p0", 0)
    monitor.record_outcome("p0", 1)
    assert (monitor.statistics().duplicate_outcomes, monitor.statistics().outcomes) == (1, 1)


def test_a_failure_waits_for_no_outcome(monitor, clock):
    """An outcome of a request that failed is unknown."""
    monitor.record_prediction_error("Overloaded", "1")
    monitor.record_outcome("", 0)
    assert monitor.statistics().unknown_outcomes == 1


@pytest.mark.parametrize(("output", "actual"), [(0, "cat"), ("cat", 0), (0, pd.NA)])
def test_an_outcome_of_another_kind_is_counted(monitor, clock, output, actual):
    """An outcome that cannot be compared with its prediction is counted as mismatched and labels nothing."""
    predict(monitor, 0, clock.now(), output=output)
    monitor.record_outcome("p0", actual)
    assert (monitor.statistics().mismatched_outcomes, monitor.statistics().outcomes) == (1, 0)
    assert monitor.get_recent_metrics(HOUR).labelled_count == 0


def test_a_prediction_that_was_given_up_is_unknown(clock):
    """The oldest prediction is given up when too many wait; its outcome is then unknown."""
    monitor = small_monitor(clock, pending_outcomes=2)
    for number in range(3):
        predict(monitor, number, clock.now())
    for number in range(3):
        monitor.record_outcome(f"p{number}", 0)
    statistics = monitor.statistics()
    assert (statistics.unknown_outcomes, statistics.outcomes, statistics.pending_evicted) == (1, 2, 1)


@pytest.mark.parametrize("asked", [False, True], ids=["never asked before", "asked before"])
def test_the_oldest_are_given_up_first(clock, asked):
    """Whether outcomes have been asked for before or not, the oldest predictions are the ones given up."""
    monitor = small_monitor(clock, pending_outcomes=700)
    for number in range(1000):
        if asked and number % 100 == 0:
            monitor.record_outcome("unknown", 0)
            monitor.statistics()
        predict(monitor, number, clock.now())
    monitor.statistics()
    for number in range(1000):
        monitor.record_outcome(f"p{number}", 0)
    joined = [event.prediction_id for event in monitor.events().events if isinstance(event, OutcomeEvent)]
    assert joined == [f"p{number}" for number in range(300, 1000)]


def test_a_very_late_outcome_counts_in_the_bucket_of_its_prediction(clock):
    """An outcome whose prediction lies in a bucket already counts at the time of the prediction."""
    monitor = small_monitor(clock)
    for number in range(4000):
        predict(monitor, number, NOON, output=1)
    clock.advance(HOUR)
    for number in range(1000):
        monitor.record_outcome(f"p{number}", 1 if number < 750 else 0)
    assert monitor.get_recent_metrics(50 * MINUTE).labelled_count == 0
    metrics = monitor.get_recent_metrics(HOUR + 5 * MINUTE)
    assert (metrics.labelled_count, metrics.accuracy, metrics.label_coverage) == (1000, 0.75, 0.25)


def test_an_outcome_later_than_the_retention_counts_nowhere(clock):
    """An outcome of a prediction that no window reaches is joined, and changes no window."""
    monitor = small_monitor(clock)
    for number in range(4000):
        predict(monitor, number, NOON)
    clock.advance(60 * HOUR)
    monitor.record_outcome("p0", 0)
    assert monitor.statistics().outcomes == 1
    assert monitor.get_recent_metrics(48 * HOUR).labelled_count == 0


@pytest.mark.parametrize("count", [10, 900, 5000])
def test_regression_metrics_equal_those_of_scikit_learn(clock, count):
    """MAE and R² equal scikit-learn's, from requests held whole, from buckets, and from both."""
    rng = np.random.default_rng(count)
    actual = rng.normal(1e4, 3.0, count)
    predicted = actual + rng.normal(0.5, 1.0, count)
    monitor = small_monitor(clock)
    for number in range(count):
        predict(monitor, number, NOON - number * SECOND, output=predicted[number])
    for number in range(count):
        monitor.record_outcome(f"p{number}", actual[number])
    metrics = monitor.get_recent_metrics(3 * HOUR)
    assert metrics.labelled_count == count
    assert metrics.mean_absolute_error == pytest.approx(mean_absolute_error(actual, predicted), rel=1e-9)
    assert metrics.r2 == pytest.approx(r2_score(actual, predicted), rel=1e-9)


def test_regression_metrics_are_of_one_version(clock, monitor):
    """MAE is that of the version asked for."""
    for number, output in enumerate([1.5, 3.5, 9.5]):
        predict(monitor, number, clock.now(), str(number), output=output)
        monitor.record_outcome(f"p{number}", 1.0)
    errors = [monitor.get_model_metrics(str(number), HOUR).mean_absolute_error for number in range(3)]
    assert errors == [0.5, 2.5, 8.5]


def test_text_labels_have_an_accuracy(clock, monitor):
    """Labels that are text are compared as text."""
    for number, actual in enumerate(["cat", "dog", "cat", "cat"]):
        predict(monitor, number, clock.now(), output="cat")
        monitor.record_outcome(f"p{number}", actual)
    assert monitor.get_recent_metrics(HOUR).accuracy == 0.75


def test_whole_numbers_as_floats_are_labels(clock, monitor):
    """Classes that are floats without a fraction, as scikit-learn gives them for float targets, have an accuracy."""
    for number, actual in enumerate([0.0, 1.0]):
        predict(monitor, number, clock.now(), output=np.float64(0.0))
        monitor.record_outcome(f"p{number}", actual)
    metrics = monitor.get_recent_metrics(HOUR)
    assert (metrics.accuracy, metrics.mean_absolute_error) == (0.5, None)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_no_finite_number_is_left_out_of_the_error(clock, monitor, bad):
    """An answer of NaN or infinity counts as labelled and wrong, and leaves the error of the others finite."""
    for number, (output, actual) in enumerate([(1.5, 1.0), (bad, 2.0), (2.5, 3.0)]):
        predict(monitor, number, clock.now(), output=output)
        monitor.record_outcome(f"p{number}", actual)
    metrics = monitor.get_recent_metrics(HOUR)
    assert (metrics.labelled_count, metrics.mean_absolute_error) == (3, 0.5)


@pytest.mark.parametrize(("output", "right"), [(10**400, 1), (10**400 + 1, 0), (np.array("a"), 0)], ids=type)
def test_a_value_that_is_no_float_is_compared_as_it_is(clock, monitor, output, right):
    """A whole number beyond every float, or an array of text, is compared as it is and has no error to measure."""
    predict(monitor, 0, clock.now(), output=output)
    monitor.record_outcome("p0", 10**400)
    metrics = monitor.get_recent_metrics(HOUR)
    assert (metrics.labelled_count, metrics.accuracy, metrics.mean_absolute_error) == (1, float(right), None)


def test_a_caller_may_change_its_true_value(clock, monitor):
    """A true value that is an array may be changed as soon as ``record_outcome`` returns."""
    actual = np.array([1, 2])
    predict(monitor, 0, clock.now(), output=[1, 2])
    monitor.record_outcome("p0", actual)
    actual.fill(9)
    assert monitor.get_recent_metrics(HOUR).accuracy == 1.0


def test_outcomes_do_not_change_what_was_recorded(clock, monitor):
    """An outcome changes no count of requests."""
    predict(monitor, 0, clock.now())
    monitor.record_outcome("p0", 1)
    metrics = monitor.get_recent_metrics(HOUR)
    assert (metrics.request_count, metrics.error_count, monitor.statistics().recorded) == (1, 0, 1)
