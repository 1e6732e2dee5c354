"""True values told to any process, for predictions made in any other."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from sql_doubles import DAY, HOUR, MINUTE, OpenMonitor, Trouble, prediction

from mlserve.clocks import ManualClock
from mlserve.integrations._sql_documents import key_of
from mlserve.integrations._sql_outcomes import MOST_LOOKS
from mlserve.integrations.sql import SqlModelMonitor
from mlserve.records import OutcomeEvent


def labelled(monitor: SqlModelMonitor, window: timedelta = HOUR) -> int:
    """Labelled predictions in a window."""
    return monitor.get_recent_metrics(window).labelled_count


def waiting_rows(engine: sa.Engine) -> int:
    """Predictions that wait in the database."""
    with engine.connect() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM mlserve_predictions").scalar() or 0)


def test_an_outcome_may_be_told_to_another_process(open_monitor: OpenMonitor, sql_clock: ManualClock) -> None:
    """An outcome told to one process is joined with a prediction of another, and all count it once."""
    first, second, third = (open_monitor() for _ in range(3))
    first.record_prediction(prediction(0, sql_clock.now(), output="cat"))
    first.flush()
    second.record_outcome("p0", "cat")
    for monitor in (second, first, third):
        monitor.flush()
    answers = [monitor.get_model_metrics("1", HOUR) for monitor in (first, second, third)]
    assert [(one.request_count, one.labelled_count, one.accuracy) for one in answers] == [(1, 1, 1.0)] * 3


def test_an_outcome_may_come_in_a_later_life(open_monitor: OpenMonitor, sql_clock: ManualClock) -> None:
    """An outcome of a prediction of an earlier life counts in the window of the prediction, with its delay."""
    first = open_monitor()
    first.record_prediction(prediction(0, sql_clock.now()))
    first.close()
    sql_clock.advance(2 * HOUR)
    second = open_monitor()
    second.record_outcome("p0", 1)
    second.flush()
    assert [labelled(second, window) for window in (HOUR, 3 * HOUR)] == [0, 1]
    delay = second.get_model_metrics("1", 3 * HOUR).label_delay_p50_seconds
    assert delay == pytest.approx(7200, rel=0.01)


@pytest.mark.parametrize("tellers", [2, 5])
def test_one_of_several_processes_counts_an_outcome(
    open_monitor: OpenMonitor, sql_clock: ManualClock, tellers: int
) -> None:
    """An outcome that several processes were told is counted by one of them."""
    monitors = [open_monitor() for _ in range(tellers)]
    for number in range(20):
        monitors[number % tellers].record_prediction(prediction(number, sql_clock.now()))
    for monitor in monitors:
        monitor.flush()
    for monitor in monitors:
        for number in range(20):
            monitor.record_outcome(f"p{number}", 0)
    for monitor in (*monitors, *monitors):
        monitor.flush()
    assert [labelled(monitor) for monitor in monitors] == [20] * tellers
    assert sum(monitor.statistics().outcomes for monitor in monitors) == 20


def test_an_outcome_within_the_same_interval_needs_no_row(
    open_monitor: OpenMonitor, sql_clock: ManualClock, engine: sa.Engine
) -> None:
    """A prediction whose outcome came before it was ever written is joined here and leaves no row."""
    monitor = open_monitor()
    for number in range(3):
        monitor.record_prediction(prediction(number, sql_clock.now()))
    monitor.record_outcome("p1", 0)
    monitor.flush()
    assert (labelled(monitor), waiting_rows(engine)) == (1, 2)


def test_a_joined_prediction_waits_no_longer(
    open_monitor: OpenMonitor, sql_clock: ManualClock, engine: sa.Engine
) -> None:
    """The row of a prediction goes when its outcome was taken, and only then."""
    monitor = open_monitor()
    monitor.record_prediction(prediction(0, sql_clock.now()))
    monitor.flush()
    before = waiting_rows(engine)
    monitor.record_outcome("p0", 0)
    monitor.flush()
    assert (before, waiting_rows(engine)) == (1, 0)


def test_an_outcome_before_its_prediction_is_written_waits(open_monitor: OpenMonitor, sql_clock: ManualClock) -> None:
    """An outcome told to another process before the prediction is in the database finds it a little later."""
    first, second = open_monitor(), open_monitor()
    first.record_prediction(prediction(0, sql_clock.now()))
    second.record_outcome("p0", 0)
    second.flush()
    first.flush()
    assert labelled(second) == 0
    second.flush()
    assert labelled(second) == 1


def test_an_outcome_that_finds_nothing_is_unknown(open_monitor: OpenMonitor, sql_clock: ManualClock) -> None:
    """An outcome whose prediction was not found at so many flushes counts as unknown, and is looked for no more."""
    monitor = open_monitor()
    monitor.record_outcome("never recorded", 0)
    seen = [(monitor.flush().unknown_outcomes, monitor.statistics().queued) for _ in range(MOST_LOOKS + 1)]
    assert seen == [(0, 1)] * (MOST_LOOKS - 1) + [(1, 0)] * 2


@pytest.mark.parametrize("flush_between", [True, False])
def test_a_second_outcome_is_a_duplicate(
    open_monitor: OpenMonitor, sql_clock: ManualClock, *, flush_between: bool
) -> None:
    """The second outcome of a prediction changes nothing and is counted, wherever the prediction lies."""
    monitor = open_monitor()
    monitor.record_prediction(prediction(0, sql_clock.now()))
    monitor.flush()
    for actual in (0, 1):
        monitor.record_outcome("p0", actual)
        if flush_between:
            monitor.flush()
    statistics = monitor.flush()
    assert (statistics.outcomes, statistics.duplicate_outcomes) == (1, 1)
    assert monitor.get_model_metrics("1", HOUR).accuracy == 1.0


@pytest.mark.parametrize("is_written", [True, False])
def test_a_mismatched_outcome_leaves_its_prediction_waiting(
    open_monitor: OpenMonitor, sql_clock: ManualClock, *, is_written: bool
) -> None:
    """An outcome that cannot be compared is counted, and a later one still finds the prediction."""
    monitor = open_monitor()
    monitor.record_prediction(prediction(0, sql_clock.now()))
    if is_written:
        monitor.flush()
    monitor.record_outcome("p0", "text")
    statistics = monitor.flush()
    assert (statistics.mismatched_outcomes, statistics.outcomes) == (1, 0)
    monitor.record_outcome("p0", 0)
    assert (monitor.flush().outcomes, labelled(monitor)) == (1, 1)


def test_the_event_is_shown_where_the_outcome_was_taken(open_monitor: OpenMonitor, sql_clock: ManualClock) -> None:
    """``events`` of the process that counted an outcome shows it whole, arm and key included."""
    first, second = open_monitor(), open_monitor()
    first.record_prediction(prediction(0, sql_clock.now(), output="cat", arm="b", key="k"))
    first.flush()
    sql_clock.advance(MINUTE)
    second.record_outcome("p0", "dog")
    second.flush()
    (event,) = second.events().events
    assert isinstance(event, OutcomeEvent)
    assert (event.prediction_id, event.model_version, event.output, event.actual) == ("p0", "1", "cat", "dog")
    assert (event.predicted_at, event.timestamp) == (sql_clock.now() - MINUTE, sql_clock.now())
    assert (event.arm, event.key) == ("b", "k")


@pytest.mark.parametrize(
    ("output", "actual"),
    [
        ("cat", "cat"),
        (True, True),
        (3, 3.0),
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("cat"), "cat"),
        (np.array([1, 2]), [1, 2]),
        (np.array(["a", "b"]), ["a", "b"]),
        (((1, 2), (3, 4)), [[1, 2], [3, 4]]),
        ({"a": [1]}, {"a": [1]}),
        (10**30, 10**30),
        ("nul\x00 and \ud800", "nul\x00 and \ud800"),
    ],
)
def test_answers_of_any_plain_kind_are_stored(
    open_monitor: OpenMonitor, sql_clock: ManualClock, output: Any, actual: Any
) -> None:
    """An answer made of numbers, text, lists and mappings is right in another process if it is equal."""
    first, second = open_monitor(), open_monitor()
    first.record_prediction(prediction(0, sql_clock.now(), output=output))
    first.flush()
    second.record_outcome("p0", actual)
    statistics = second.flush()
    assert (statistics.outcomes, statistics.mismatched_outcomes) == (1, 0)
    assert second.get_model_metrics("1", HOUR).accuracy == 1.0 or isinstance(output, float | np.floating)


@pytest.mark.parametrize(
    "output",
    [b"bytes", {1: 2}, {1, 2}, 1j, np.datetime64("2026-01-01"), np.array([np.timedelta64(1, "s")])],
    ids=["bytes", "keys", "set", "complex", "time", "spans"],
)
def test_an_answer_that_cannot_be_stored_is_joined_here(
    open_monitor: OpenMonitor, sql_clock: ManualClock, output: Any, engine: sa.Engine
) -> None:
    """An answer without a plain form is counted and not written; its outcome must be told to its own process."""
    monitor = open_monitor()
    monitor.record_prediction(prediction(0, sql_clock.now(), output=output))
    monitor.record_prediction(prediction(1, sql_clock.now()))
    statistics = monitor.flush()
    assert (statistics.unstorable, statistics.queued, waiting_rows(engine)) == (1, 0, 1)
    monitor.record_outcome("p0", output)
    assert monitor.flush().outcomes + monitor.statistics().mismatched_outcomes == 1


@pytest.mark.parametrize("prediction_id", ["", "é", "x" * 5000, "nul\x00", "\ud800", "#0", "a'b\"c"])
def test_any_prediction_id_can_be_stored(open_monitor: OpenMonitor, sql_clock: ManualClock, prediction_id: str) -> None:
    """Whatever a prediction is called, its outcome finds it in another process."""
    first, second = open_monitor(), open_monitor()
    first.defer_prediction(prediction_id, "1", [1.0], 0, 1.0, sql_clock.now().timestamp(), None, None, None)
    first.flush()
    second.record_outcome(prediction_id, 0)
    assert second.flush().outcomes == 1


def test_no_name_is_the_key_of_another() -> None:
    """A long or odd name is stored under its hash, and a name that looks like one is not taken for it."""
    names = ["plain", "x" * 5000, key_of("x" * 5000), "é", key_of("é")]
    assert len({key_of(name) for name in names}) == len(names)


@pytest.mark.parametrize("prediction_id", [None, 5, [], object()])
def test_what_is_no_id_is_unknown(open_monitor: OpenMonitor, prediction_id: Any) -> None:
    """An outcome of what cannot be the id of a prediction counts as unknown at once and harms no other."""
    monitor = open_monitor()
    monitor.record_outcome(prediction_id, 0)
    assert (monitor.statistics().unknown_outcomes, monitor.flush().flush_errors) == (1, 0)


def test_actual_values_are_copied(open_monitor: OpenMonitor, sql_clock: ManualClock) -> None:
    """The caller may change the true value as soon as ``record_outcome`` returns."""
    monitor, actual = open_monitor(), np.array([1, 2])
    monitor.record_prediction(prediction(0, sql_clock.now(), output=[1, 2]))
    monitor.record_outcome("p0", actual)
    actual.fill(9)
    monitor.flush()
    assert monitor.get_model_metrics("1", HOUR).accuracy == 1.0


def test_failures_wait_for_no_outcome(open_monitor: OpenMonitor, sql_clock: ManualClock, engine: sa.Engine) -> None:
    """A failure has no row."""
    monitor = open_monitor()
    monitor.record_prediction_error("Overloaded", "1")
    monitor.flush()
    assert waiting_rows(engine) == 0


# -------------------------------------------------------------------------------------------------------- bounds


def test_predictions_that_wait_too_long_here_are_dropped(
    open_monitor: OpenMonitor, sql_clock: ManualClock, engine: sa.Engine
) -> None:
    """While nothing is written, the newest ``max_queued`` predictions wait; the others are counted, and count."""
    monitor = open_monitor(max_queued=1000)
    for number in range(3000):
        monitor.record_prediction(prediction(number, sql_clock.now()))
    statistics = monitor.flush()
    assert (statistics.queue_dropped, waiting_rows(engine)) == (2000, 1000)
    assert monitor.get_model_metrics("1", HOUR).request_count == 3000
    with engine.connect() as connection:
        keys = connection.exec_driver_sql("SELECT prediction_key FROM mlserve_predictions").scalars()
        assert set(keys) == {f"p{number}" for number in range(2000, 3000)}


def test_predictions_that_cannot_be_written_are_bounded(
    open_monitor: OpenMonitor, sql_clock: ManualClock, engine: sa.Engine
) -> None:
    """However long a database is away, at most ``max_queued`` predictions wait to be written."""
    trouble, monitor = Trouble(engine), open_monitor(max_queued=100)
    trouble.is_down = True
    for number in range(1000):
        monitor.record_prediction(prediction(number, sql_clock.now()))
        if number % 50 == 49:
            monitor.flush()
    statistics = monitor.statistics()
    assert (statistics.queued, statistics.queue_dropped) == (100, 900)
    trouble.is_down = False
    monitor.flush()
    assert (waiting_rows(engine), monitor.get_model_metrics("1", HOUR).request_count) == (100, 1000)


def test_outcomes_that_wait_too_long_are_dropped(open_monitor: OpenMonitor, sql_clock: ManualClock) -> None:
    """While nothing is written, the oldest ``max_queued`` outcomes wait; the others are counted."""
    monitor = open_monitor(max_queued=10)
    for number in range(25):
        monitor.record_outcome(f"p{number}", 0)
    assert (monitor.statistics().queued, monitor.statistics().queue_dropped) == (10, 15)


def test_the_newest_predictions_wait_in_the_database(
    open_monitor: OpenMonitor, sql_clock: ManualClock, engine: sa.Engine
) -> None:
    """Of more than ``max_stored_predictions`` the oldest are given up, about once a minute."""
    monitor = open_monitor(max_stored_predictions=10)
    for number in range(30):
        sql_clock.advance(timedelta(seconds=3))
        monitor.record_prediction(prediction(number, sql_clock.now()))
    monitor.flush()
    with engine.connect() as connection:
        keys = connection.exec_driver_sql("SELECT prediction_key FROM mlserve_predictions").scalars()
        assert set(keys) == {f"p{number}" for number in range(20, 30)}


def test_predictions_beyond_the_retention_are_given_up(
    open_monitor: OpenMonitor, sql_clock: ManualClock, engine: sa.Engine
) -> None:
    """A prediction that no window reaches any more waits no longer."""
    monitor = open_monitor()
    monitor.record_prediction(prediction(0, sql_clock.now() - 29 * DAY))
    monitor.record_prediction(prediction(1, sql_clock.now()))
    monitor.flush()
    sql_clock.advance(2 * DAY)
    monitor.flush()
    assert waiting_rows(engine) == 1


def test_what_was_labelled_is_forgotten_at_last(open_monitor: OpenMonitor, sql_clock: ManualClock) -> None:
    """Only the last ``max_queued`` labelled predictions are remembered; a second outcome of others is unknown."""
    monitor = open_monitor(max_queued=2)
    for number in range(3):
        monitor.record_prediction(prediction(number, sql_clock.now()))
        monitor.record_outcome(f"p{number}", 0)
        monitor.flush()
    for number in (0, 2):
        monitor.record_outcome(f"p{number}", 0)
    for _ in range(MOST_LOOKS):
        statistics = monitor.flush()
    assert (statistics.unknown_outcomes, statistics.duplicate_outcomes) == (1, 1)


# --------------------------------------------------------------------------------------- transactions that fail


def tell_first(monitor: SqlModelMonitor, clock: ManualClock) -> None:
    """A prediction in the database, and its outcome not yet."""
    monitor.record_prediction(prediction(0, clock.now()))
    monitor.flush()
    monitor.record_outcome("p0", 0)


def test_an_outcome_that_could_not_be_taken_is_taken_later(
    open_monitor: OpenMonitor, sql_clock: ManualClock, engine: sa.Engine
) -> None:
    """Where taking a prediction out of the database fails, nothing is counted, and the next flush does it."""
    trouble, monitor = Trouble(engine), open_monitor()
    tell_first(monitor, sql_clock)
    trouble.fails_at_commit = "before"
    failed = monitor.flush()
    trouble.fails_at_commit = ""
    mended = monitor.flush()
    assert (failed.outcomes, failed.flush_errors, mended.outcomes, labelled(monitor)) == (0, 1, 1, 1)


def test_an_outcome_is_rather_lost_than_counted_twice(
    open_monitor: OpenMonitor, sql_clock: ManualClock, engine: sa.Engine
) -> None:
    """Where nobody knows whether the prediction was taken, and it was, nobody counts it."""
    trouble, monitor = Trouble(engine), open_monitor()
    tell_first(monitor, sql_clock)
    trouble.fails_at_commit = "after"
    monitor.flush()
    trouble.fails_at_commit = ""
    other = open_monitor()
    other.record_outcome("p0", 0)
    for _ in range(MOST_LOOKS):
        monitor.flush()
        other.flush()
    assert (labelled(monitor), labelled(other)) == (0, 0)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_commit_in_doubt_counts_nothing_twice(
    open_monitor: OpenMonitor, sql_clock: ManualClock, engine: sa.Engine, when: str
) -> None:
    """Where nobody knows whether a write was committed, counts, drifts and waiting predictions are there once."""
    trouble, monitor, other = Trouble(engine), open_monitor(), open_monitor()
    monitor.record_prediction(prediction(0, sql_clock.now()))
    trouble.fails_at_commit = when
    failed = monitor.flush()
    trouble.fails_at_commit = ""
    # Both are told; only who finds it in the database may count it.
    monitor.record_outcome("p0", 0)
    other.record_outcome("p0", 0)
    other.flush()
    for _ in range(MOST_LOOKS + 1):
        monitor.flush()
        other.flush()
    assert failed.flush_errors == 1
    answers = [one.get_recent_metrics(HOUR) for one in (monitor, other, open_monitor())]
    assert [(one.request_count, one.labelled_count) for one in answers] == [(1, 1)] * 3
    assert waiting_rows(engine) == 0


def test_a_commit_in_doubt_without_sharing(
    unshared: Callable[[], SqlModelMonitor], sql_clock: ManualClock, engine: sa.Engine
) -> None:
    """Counts are there once after a commit that failed, also where no predictions are written."""
    trouble, monitor = Trouble(engine), unshared()
    monitor.record_prediction(prediction(0, sql_clock.now()))
    trouble.fails_at_commit = "before"
    monitor.flush()
    trouble.fails_at_commit = ""
    monitor.flush()
    assert unshared().get_recent_metrics(HOUR).request_count == 1


@pytest.mark.parametrize("payload", ["", "{", "5", "[1]", '["1", 0, null]', '{"a": 1, "b": 2}'])
def test_a_damaged_prediction_is_left_out(
    open_monitor: OpenMonitor, sql_clock: ManualClock, engine: sa.Engine, payload: str
) -> None:
    """A waiting prediction that cannot be read is counted, and the others are joined."""
    monitor = open_monitor()
    for number in range(2):
        monitor.record_prediction(prediction(number, sql_clock.now()))
    monitor.flush()
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE mlserve_predictions SET payload = ? WHERE prediction_key = 'p0'", (payload,))
    for number in range(2):
        monitor.record_outcome(f"p{number}", 0)
    statistics = monitor.flush()
    assert (statistics.outcomes, statistics.unreadable) == (1, 1)


# ------------------------------------------------------------------------------------------------- not shared


@pytest.fixture
def unshared(open_monitor: OpenMonitor) -> Callable[[], SqlModelMonitor]:
    """Makes monitors that join outcomes in memory."""
    return lambda: open_monitor(share_outcomes=False)


def test_without_sharing_there_are_no_rows(
    unshared: Callable[[], SqlModelMonitor], sql_clock: ManualClock, engine: sa.Engine
) -> None:
    """With ``share_outcomes=False`` no single prediction is written, and labels count at once."""
    monitor = unshared()
    monitor.record_prediction(prediction(0, sql_clock.now()))
    monitor.record_prediction(prediction(1, sql_clock.now()))
    monitor.record_outcome("p0", 0)
    assert labelled(monitor) == 1
    monitor.flush()
    assert (waiting_rows(engine), monitor.statistics().queued) == (0, 0)


def test_without_sharing_labels_are_counts_of_all(
    unshared: Callable[[], SqlModelMonitor], sql_clock: ManualClock
) -> None:
    """With ``share_outcomes=False`` the labels that a process joined still count in every other."""
    first, second = unshared(), unshared()
    first.record_prediction(prediction(0, sql_clock.now()))
    first.record_outcome("p0", 0)
    second.record_outcome("p0", 0)
    first.flush()
    second.flush()
    assert (labelled(second), second.statistics().unknown_outcomes) == (1, 1)
