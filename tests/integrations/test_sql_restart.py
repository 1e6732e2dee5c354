"""What is written by one process is what another one, or a later life, answers from."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import attrs
import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from sql_doubles import DAY, HOUR, MINUTE, OpenMonitor, drift_event, prediction, requests

from mlserve import DriftDetector
from mlserve.clocks import ManualClock
from mlserve.errors import InvalidArgumentError
from mlserve.integrations._sql_pieces import FAN, Pieces
from mlserve.integrations.sql import SqlModelMonitor
from mlserve.monitors import Resolution
from mlserve.records import InputSample, ModelMetrics, PredictionEvent, PredictionSample

EXACT = (
    "request_count", "error_count", "errors_by_kind", "p50_latency_ms", "p95_latency_ms", "p99_latency_ms",
    "latency_histogram", "accuracy", "labelled_count", "label_coverage", "label_delay_p50_seconds",
    "label_delay_p95_seconds", "fault_rate",
)  # fmt: skip
ROUNDED = ("average_latency_ms", "average_confidence", "mean_absolute_error", "r2", "root_mean_squared_error")


def same_metrics(one: ModelMetrics, other: ModelMetrics) -> bool:
    """Whether two metrics say the same, counts exactly and sums as far as floats add."""
    sums = [[getattr(metrics, name) or 0.0 for name in ROUNDED] for metrics in (one, other)]
    return all(getattr(one, name) == getattr(other, name) for name in EXACT) and sums[0] == pytest.approx(sums[1])


def serve(monitor: SqlModelMonitor, clock: ManualClock, count: int, step: timedelta, seed: int = 0) -> None:
    """Predictions with confidences, one a step; some fail, and every third is labelled a step later."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        clock.advance(step)
        if number % 10 == 9:
            monitor.record_prediction_error("PredictionException", "1")
        values = {"processing_time_ms": rng.gamma(2.0), "confidence": rng.random(), "input": rng.normal(1.0, size=2)}
        monitor.record_prediction(prediction(seed * count + number, clock.now(), output=int(number % 2), **values))
        if number % 3 == 2:
            monitor.record_outcome(f"p{seed * count + number - 1}", int(number % 4 == 0))


# ------------------------------------------------------------------------------------------------------- metrics


@pytest.mark.parametrize("window", [MINUTE, 10 * MINUTE, HOUR, DAY, 20 * DAY], ids=str)
def test_a_restart_answers_as_before(open_monitor: OpenMonitor, sql_clock: ManualClock, window: timedelta) -> None:
    """Metrics of any window that begins with a bucket are the same after a restart."""
    monitor = open_monitor()
    for step in (6 * HOUR, 10 * MINUTE, timedelta(seconds=1)):
        serve(monitor, sql_clock, 60, step, seed=step.seconds)
    monitor.flush()
    before = monitor.get_model_metrics("1", window)
    monitor.close()
    after = open_monitor().get_model_metrics("1", window)
    assert before.request_count > 0
    assert same_metrics(before, after)


def test_processes_add_up(open_monitor: OpenMonitor, sql_clock: ManualClock) -> None:
    """Every process answers for all of them."""
    monitors = [open_monitor() for _ in range(3)]
    for number, monitor in enumerate(monitors):
        serve(monitor, sql_clock, 20 * (number + 1), MINUTE, seed=number)
    for monitor in (*monitors, *monitors):
        monitor.flush()
    answers = [monitor.get_model_metrics("1", 3 * HOUR) for monitor in monitors]
    assert [one.request_count for one in answers] == [20 + 2 + 40 + 4 + 60 + 6] * 3
    assert all(same_metrics(one, answers[0]) for one in answers)


def test_counters_are_of_this_process(open_monitor: OpenMonitor, sql_clock: ManualClock) -> None:
    """``cumulative_metrics`` and ``snapshot`` leave out what other processes counted."""
    first, second = open_monitor(), open_monitor()
    for number, monitor in enumerate([first, second, second]):
        monitor.record_prediction(prediction(number, sql_clock.now()))
    first.flush()
    second.flush()
    assert requests(second) == 3
    assert [one.request_count for one in second.cumulative_metrics()] == [2]
    assert second.snapshot().source == second.statistics().source


def test_snapshots_from_elsewhere_can_be_merged(open_monitor: OpenMonitor, sql_clock: ManualClock) -> None:
    """``merge`` takes snapshots that came another way; one that was also read from the database counts once."""
    first, second = open_monitor(), open_monitor()
    first.record_prediction(prediction(0, sql_clock.now()))
    second.merge(first.snapshot())
    first.flush()
    second.flush()
    assert requests(second) == 1


def test_nothing_is_written_when_nothing_changed(
    open_monitor: OpenMonitor, sql_clock: ManualClock, engine: Any
) -> None:
    """A flush without anything new changes no row."""
    monitor = open_monitor()
    monitor.record_prediction(prediction(0, sql_clock.now()))
    monitor.flush()
    written: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *said: written.append(said[2].split()[0]))
    monitor.flush()
    assert set(written) == {"SELECT"}


def test_a_read_asks_at_most_every_refresh(open_monitor: OpenMonitor, sql_clock: ManualClock) -> None:
    """A read looks for what others wrote when ``refresh_seconds`` have passed since the last look, and not before."""
    reader, writer = open_monitor(refresh_seconds=5.0), open_monitor()
    writer.record_prediction(prediction(0, sql_clock.now()))
    writer.flush()
    before = requests(reader)
    sql_clock.advance(timedelta(seconds=5))
    assert (before, requests(reader)) == (0, 1)


def test_what_lies_beyond_the_retention_is_removed(
    open_monitor: OpenMonitor, sql_clock: ManualClock, engine: sa.Engine
) -> None:
    """A process that wrote nothing within the retention leaves no row."""
    kept = (Resolution(timedelta(seconds=1), HOUR),)
    gone, alive = open_monitor(resolutions=kept), open_monitor(resolutions=kept)
    gone.record_prediction(prediction(0, sql_clock.now()))
    gone.record_drift_event(drift_event(sql_clock.now()))
    gone.flush()
    sql_clock.advance(2 * HOUR)
    alive.record_prediction(prediction(1, sql_clock.now()))
    alive.flush()
    with engine.connect() as connection:
        left = [
            connection.exec_driver_sql(f"SELECT count(*) FROM mlserve_{name}").scalar()
            for name in ("sources", "snapshots", "drift_events", "predictions")
        ]
    assert left == [1, 1, 0, 1]


def test_a_process_that_was_long_idle_is_whole_again(open_monitor: OpenMonitor, sql_clock: ManualClock) -> None:
    """A process whose rows were removed while it recorded nothing writes all it still holds when it goes on."""
    kept = (Resolution(timedelta(seconds=1), HOUR),)
    idle, busy = open_monitor(resolutions=kept), open_monitor(resolutions=kept)
    idle.record_prediction(prediction(0, sql_clock.now()))
    idle.flush()
    busy.flush()
    sql_clock.advance(2 * HOUR)
    busy.flush()  # removes them
    busy.flush()
    idle.record_prediction(prediction(1, sql_clock.now()))
    idle.flush()
    reader = open_monitor(resolutions=kept)
    assert (requests(reader), reader.statistics().snapshot_gaps) == (1, 0)


# ------------------------------------------------------------------------------------------------------ the log


def test_the_log_stays_short(open_monitor: OpenMonitor, sql_clock: ManualClock, engine: sa.Engine) -> None:
    """However often a process flushes, its log is a few pieces, from which another reads all; one after ``close``."""
    monitor, flushes = open_monitor(share_outcomes=False), FAN * FAN + 5
    for number in range(flushes):
        sql_clock.advance(timedelta(seconds=1))
        monitor.record_prediction(prediction(number, sql_clock.now()))
        monitor.flush()

    def pieces() -> int:
        with engine.connect() as connection:
            return int(connection.exec_driver_sql("SELECT count(*) FROM mlserve_snapshots").scalar() or 0)

    reader = open_monitor()
    assert (requests(reader), reader.statistics().snapshot_gaps) == (flushes, 0)
    assert pieces() == 1 + 0 + 5
    monitor.close()
    assert pieces() == 1
    assert requests(open_monitor()) == flushes


def test_a_reader_that_follows_misses_nothing(open_monitor: OpenMonitor, sql_clock: ManualClock) -> None:
    """A reader that looks now and then finds every count, whichever pieces were replaced between two looks."""
    monitor, reader = open_monitor(share_outcomes=False), open_monitor()
    seen = []
    for number in range(3 * FAN + 3):
        sql_clock.advance(timedelta(seconds=1))
        monitor.record_prediction(prediction(number, sql_clock.now()))
        monitor.flush()
        if number % 7 == 0:
            seen.append((requests(reader), number + 1))
    assert [count for count, _ in seen] == [expected for _, expected in seen]
    assert reader.statistics().snapshot_gaps == 0


@pytest.mark.parametrize("flushes", [1, FAN - 1, FAN, FAN * FAN, 1000, 5000])
def test_pieces_are_few_and_join(flushes: int) -> None:
    """After n flushes there are as many pieces as the digits of n to the base 16 add up to, one following the other."""
    pieces = Pieces()
    for sequence in range(1, flushes + 1):
        pieces.written(pieces.plan(), sequence)
    digits, rest = 0, flushes
    while rest:
        rest, digit = divmod(rest, FAN)
        digits += digit
    assert (len(pieces), pieces.last) == (digits, flushes)
    assert pieces.whole().after == 0


# ----------------------------------------------------------------------------------------------------- baselines


@pytest.mark.parametrize(
    "inputs",
    [
        np.array([[1.0, 2.0], [3.0, np.nan]]),
        [["a", 1], ["b", None]],
        [[np.str_("a"), np.int64(3), None], ["b", True, np.float32(0.5)]],
        [[datetime(2026, 1, 1, tzinfo=UTC), date(2026, 1, 1)], [datetime(2026, 1, 2), date(2026, 1, 2)]],
        [[pd.Timestamp("2026-01-01", tz="UTC"), 1.5], [pd.Timestamp("2026-01-02"), None]],
        pd.DataFrame({"when": pd.to_datetime(["2026-01-01", "2026-01-02"]), "what": ["x", "y"]}),
    ],
    ids=["numbers", "text", "numpy", "times", "timestamps", "frame"],
)
def test_baseline_inputs_are_read_by_others(open_monitor: OpenMonitor, inputs: Any) -> None:
    """Baseline inputs set in one process are those of every other and of a later life, with the same cells."""
    first = open_monitor()
    first.set_baseline("1", inputs=inputs)
    assert first.flush().unstorable == 0
    mine = first.get_baseline_input_distribution("1")
    theirs = open_monitor().get_baseline_input_distribution("1")
    assert mine is not None
    assert theirs is not None
    assert (theirs.feature_names, theirs.count) == (mine.feature_names, mine.count)
    np.testing.assert_array_equal(theirs.rows, mine.rows)


def test_baseline_metrics_and_answers_are_read_by_others(open_monitor: OpenMonitor, sql_clock: ManualClock) -> None:
    """All that belongs to baseline metrics and to baseline answers comes back in a later life."""
    first = open_monitor()
    serve(first, sql_clock, 30, timedelta(seconds=1))
    first.flush()
    metrics = first.get_model_metrics("1", HOUR)
    answers = PredictionSample(["a", "b"], confidences=[0.5, 0.75], labels=["a", "a"], inputs=[[1.0], [2.0]], count=9)
    first.set_baseline("1", metrics=metrics)
    first.set_baseline_predictions("1", answers)
    first.flush()
    second = open_monitor()
    assert second.get_baseline_metrics("1") == metrics
    kept = second.get_baseline_predictions("1")
    assert kept is not None
    assert (kept.outputs.tolist(), kept.count, kept.method) == (["a", "b"], 9, "all")
    assert kept.labels is not None
    assert kept.labels.tolist() == ["a", "a"]


def test_the_newest_baseline_wins(open_monitor: OpenMonitor, sql_clock: ManualClock) -> None:
    """Of baselines set in several processes all use the one that was set last."""
    first, second = open_monitor(), open_monitor()
    second.set_baseline("1", metrics=ModelMetrics(accuracy=0.5))
    sql_clock.advance(MINUTE)
    first.set_baseline("1", metrics=ModelMetrics(accuracy=0.75))
    for monitor in (first, second, first, second):
        monitor.flush()
    assert [one.get_baseline_metrics("1").accuracy for one in (first, second, open_monitor())] == [0.75] * 3  # type: ignore[union-attr]  # None fails here


def test_what_is_set_after_reading_wins_over_a_clock_that_is_ahead(open_monitor: OpenMonitor) -> None:
    """A baseline set where an earlier one is known replaces it, also if that one's clock was ahead."""
    ahead = ManualClock(datetime(2030, 1, 1, tzinfo=UTC))
    first = open_monitor(clock=ahead)
    first.set_baseline("1", metrics=ModelMetrics(accuracy=0.5))
    first.flush()
    second = open_monitor()
    second.set_baseline("1", metrics=ModelMetrics(accuracy=0.75))
    second.flush()
    first.flush()
    assert first.get_baseline_metrics("1") == ModelMetrics(accuracy=0.75)


def when_said(engine: sa.Engine, beginning: str, call: Callable[[], object]) -> None:
    """Call something, once, just before a statement is executed."""
    called = []

    def listen(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith(beginning) and not called:
            called.append(beginning)
            call()

    sa.event.listen(engine, "before_cursor_execute", listen)


def test_a_baseline_set_while_one_is_written_is_written_next(open_monitor: OpenMonitor, engine: sa.Engine) -> None:
    """A baseline that is replaced in the middle of a write is written at the next one."""
    monitor = open_monitor()
    monitor.set_baseline("1", metrics=ModelMetrics(accuracy=0.5))
    newer = ModelMetrics(accuracy=0.75)
    when_said(engine, "INSERT INTO mlserve_baselines", lambda: monitor.set_baseline("1", metrics=newer))
    monitor.flush()
    assert monitor.flush().flush_errors == 0
    assert (monitor.get_baseline_metrics("1"), open_monitor().get_baseline_metrics("1")) == (newer, newer)


def test_a_baseline_set_while_one_is_read_stays(
    open_monitor: OpenMonitor, sql_clock: ManualClock, engine: sa.Engine
) -> None:
    """A baseline that is set here while an older one of another process is read is not replaced by that."""
    first, second = open_monitor(), open_monitor()
    first.set_baseline("1", metrics=ModelMetrics(accuracy=0.5))
    first.flush()
    sql_clock.advance(MINUTE)
    newer = ModelMetrics(accuracy=0.75)
    when_said(engine, "SELECT mlserve_baselines.payload", lambda: second.set_baseline("1", metrics=newer))
    assert second.flush().read_errors == 0
    assert second.get_baseline_metrics("1") == newer


def test_a_baseline_that_cannot_be_stored_is_kept_here(open_monitor: OpenMonitor) -> None:
    """A baseline with something that has no safe form serves its own process, and is counted once."""
    monitor = open_monitor()
    monitor.set_baseline("1", inputs=[[object()], [object()]])
    monitor.flush()
    assert monitor.flush().unstorable == 1
    assert monitor.get_baseline_input_distribution("1") is not None
    assert open_monitor().get_baseline_input_distribution("1") is None


def test_a_baseline_that_is_too_large_is_kept_here(open_monitor: OpenMonitor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A baseline of more bytes than a row should hold is counted and not stored."""
    monkeypatch.setattr("mlserve.integrations._sql_documents.LARGEST_DOCUMENT", 1000)
    monitor = open_monitor()
    monitor.set_baseline("1", inputs=np.zeros((1000, 1)))
    assert monitor.flush().unstorable == 1


def test_a_refused_baseline_is_not_written(open_monitor: OpenMonitor) -> None:
    """What ``set_baseline`` refuses reaches no other process."""
    monitor = open_monitor()
    with pytest.raises(InvalidArgumentError):
        monitor.set_baseline("1", metrics=0.9)  # type: ignore[arg-type]  # what is tried here
    monitor.flush()
    assert open_monitor().get_baseline_metrics("1") is None


@pytest.mark.parametrize("version_id", ["", "é" * 300, "nul\x00", "\ud800", "#1", "1'; DROP TABLE mlserve_sources"])
def test_any_version_id_can_be_stored(open_monitor: OpenMonitor, sql_clock: ManualClock, version_id: str) -> None:
    """Whatever a version is called, its counts, baselines, drifts and outcomes are read by others."""
    first = open_monitor()
    event = PredictionEvent(version_id + "p", version_id, [1.0], "a", 1.0, sql_clock.now(), None, version_id)
    first.record_prediction(event)
    first.set_baseline(version_id, metrics=ModelMetrics(accuracy=0.5))
    first.record_drift_event(drift_event(sql_clock.now(), version_id))
    first.flush()
    second = open_monitor()
    second.record_outcome(version_id + "p", "a")
    second.flush()
    assert second.get_model_metrics(version_id, HOUR).accuracy == 1.0
    assert second.get_baseline_metrics(version_id) == ModelMetrics(accuracy=0.5)
    assert len(second.drift_events(version_id)) == 1


# --------------------------------------------------------------------------------------------------------- drift


def test_data_drift_is_found_after_a_restart(open_monitor: OpenMonitor, sql_clock: ManualClock) -> None:
    """Inputs that another life counted in the cells of its baseline are compared with it in this one."""
    rng = np.random.default_rng(5)
    first = open_monitor(input_bins=50)
    first.set_baseline("1", inputs=rng.normal(size=(1000, 2)), feature_names=["a", "b"])
    for number, row in enumerate(rng.normal([0.0, 1.0], size=(500, 2))):
        first.record_prediction(prediction(number, sql_clock.now(), input=row))
    before = first.get_recent_input_distribution("1", HOUR)
    first.close()
    second = open_monitor(input_bins=50)
    after = second.get_recent_input_distribution("1", HOUR)
    assert before.rows.shape == (500, 2)
    assert (after.method, after.counted_rows, after.bins.feature_names) == ("binned", 500, ("a", "b"))  # type: ignore[union-attr]  # None fails here
    drift = DriftDetector(second, clock=sql_clock).detect_drift("1", HOUR).analysis.data_drift
    assert [feature.name for feature in drift.drifted_features] == ["b"]


def test_a_sample_stays_with_its_process(open_monitor: OpenMonitor, sql_clock: ManualClock) -> None:
    """Raw inputs and answers are not written: of others' traffic there are counts."""
    first = open_monitor()
    first.record_prediction(prediction(0, sql_clock.now()))
    first.flush()
    second = open_monitor()
    sample = second.get_recent_input_distribution("1", HOUR)
    assert (sample.rows.size, sample.count) == (0, 1)
    assert second.get_recent_predictions("1", HOUR).count == 1


def test_drift_events_are_those_of_all(open_monitor: OpenMonitor, sql_clock: ManualClock) -> None:
    """``drift_events`` gives what every process found, oldest first, of one version or of all, once each."""
    first, second = open_monitor(), open_monitor()
    events = []
    for number, monitor in enumerate([first, second, first, second]):
        events.append(drift_event(sql_clock.now(), str(number % 3)))
        monitor.record_drift_event(events[-1])
        sql_clock.advance(MINUTE)
        monitor.flush()
    third = open_monitor()
    for monitor in (first, second, third):
        monitor.flush()
        assert list(monitor.drift_events()) == events
    assert list(third.drift_events("0")) == [events[0], events[3]]


def test_a_drift_event_that_cannot_be_stored_is_kept_here(open_monitor: OpenMonitor, sql_clock: ManualClock) -> None:
    """A drift event that holds something without a safe form is counted, and the others are stored."""
    monitor = open_monitor()
    odd = attrs.evolve(drift_event(sql_clock.now()), analysis=object())
    for event in (odd, drift_event(sql_clock.now())):
        monitor.record_drift_event(event)
    assert monitor.flush().unstorable == 1
    assert (len(monitor.drift_events()), len(open_monitor().drift_events())) == (2, 1)


def test_drift_events_that_wait_too_long_are_dropped(
    open_monitor: OpenMonitor, sql_clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More drift events than are kept push the oldest out; those that were not stored yet are counted."""
    monkeypatch.setattr("mlserve.integrations._sql_records.MOST_DRIFT_EVENTS", 5)
    monitor = open_monitor()
    for number in range(5):
        monitor.record_drift_event(drift_event(sql_clock.now(), str(number)))
    monitor.flush()
    for number in range(5, 12):
        monitor.record_drift_event(drift_event(sql_clock.now(), str(number)))
    assert monitor.statistics().queue_dropped == 2
    monitor.flush()
    assert [event.model_version for event in monitor.drift_events()] == ["7", "8", "9", "10", "11"]


# ----------------------------------------------------------------------------------------------------- capturing


def test_a_captured_baseline_is_read_by_others(open_monitor: OpenMonitor, sql_clock: ManualClock) -> None:
    """``capture_baseline`` gives metrics, inputs and answers to every process."""
    first = open_monitor()
    serve(first, sql_clock, 30, timedelta(seconds=1))
    first.flush()
    first.capture_baseline("1", HOUR)
    first.flush()
    second = open_monitor()
    assert second.get_baseline_metrics("1").request_count == 33  # type: ignore[union-attr]  # None fails here
    assert second.get_baseline_input_distribution("1").rows.shape == (30, 2)  # type: ignore[union-attr]  # None fails here
    assert len(second.get_baseline_predictions("1").outputs) == 30  # type: ignore[union-attr]  # None fails here


def test_capturing_counted_inputs_keeps_their_rows(open_monitor: OpenMonitor, sql_clock: ManualClock) -> None:
    """A window whose inputs were counted in cells is captured as the rows that were sampled of it."""
    monitor = open_monitor(sample_size=20)
    monitor.set_baseline("1", inputs=np.zeros((50, 2)))
    serve(monitor, sql_clock, 200, timedelta(seconds=1))
    monitor.flush()
    monitor.capture_baseline("1", HOUR)
    captured = monitor.get_baseline_input_distribution("1")
    assert isinstance(captured, InputSample)
    assert (captured.method, len(captured.rows), captured.count, captured.bins) == ("reservoir", 20, 200, None)


def test_capturing_others_traffic_takes_its_metrics_only(open_monitor: OpenMonitor, sql_clock: ManualClock) -> None:
    """In a process that saw no input itself, ``capture_baseline`` leaves the inputs and answers as they were."""
    first = open_monitor()
    serve(first, sql_clock, 30, timedelta(seconds=1))
    first.flush()
    second = open_monitor()
    second.capture_baseline("1", HOUR)
    assert second.get_baseline_metrics("1").request_count == 33  # type: ignore[union-attr]  # None fails here
    assert second.get_baseline_input_distribution("1") is None
    assert second.get_baseline_predictions("1") is None
