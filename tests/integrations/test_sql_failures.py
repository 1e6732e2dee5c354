"""Databases that are down, slow, locked, gone, damaged, of another version, or no database at all."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sql_doubles import HOUR, MINUTE, PATIENCE, OpenMonitor, Trouble, drift_event, memory_engine, prediction, requests

from mlserve.clocks import ManualClock
from mlserve.errors import InvalidArgumentError, MissingExtraError, StoreSchemaError
from mlserve.integrations._sql_engine import brief
from mlserve.integrations._sql_sync import HOUSEKEEPING_SECONDS, LONGEST_DELAY_SECONDS
from mlserve.integrations._sql_worker import Task, ThreadWorker
from mlserve.integrations.sql import SqlModelMonitor
from mlserve.records import ModelMetrics, PredictionEvent

ROOT = Path(__file__).parents[2]


# ----------------------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    "database",
    ["", "nothing", "oracle://x", "mysql+pymysql://x", "nosuch://x", "sqlite+aiosqlite:///x.db", 5, None],
)
def test_what_is_no_database_is_refused(database: Any) -> None:
    """``InvalidArgumentError`` for what is no URL, or the URL of a database that is not supported."""
    with pytest.raises(InvalidArgumentError, match="engine_or_url"):
        SqlModelMonitor(database)


@pytest.mark.parametrize(
    "argument",
    [
        {"flush_seconds": 0.0},
        {"flush_seconds": -1.0},
        {"flush_seconds": float("nan")},
        {"refresh_seconds": 0.0},
        {"refresh_seconds": float("inf")},
        {"max_queued": 0},
        {"max_stored_predictions": -5},
        {"table_prefix": ""},
        {"table_prefix": "a b"},
        {"table_prefix": "1st"},
        {"table_prefix": 'x"; DROP TABLE y'},
        {"table_prefix": "x" * 33},
        {"table_prefix": None},
        {"sample_size": 0},
    ],
    ids=str,
)
def test_arguments_that_mean_nothing_are_refused(argument: dict[str, Any]) -> None:
    """``InvalidArgumentError`` names the parameter that cannot mean anything."""
    with pytest.raises(InvalidArgumentError, match=next(iter(argument))):
        SqlModelMonitor("sqlite://", **argument)


@pytest.mark.parametrize("window", [timedelta(0), timedelta(seconds=-1), timedelta(days=31)], ids=str)
def test_windows_are_refused_as_in_memory(open_monitor: OpenMonitor, window: timedelta) -> None:
    """A window that is not positive, or longer than the retention, is refused."""
    with pytest.raises(InvalidArgumentError, match="window"):
        open_monitor().get_recent_metrics(window)


def test_times_without_a_zone_are_refused() -> None:
    """A prediction at a time without a zone cannot be made, let alone recorded."""
    with pytest.raises(InvalidArgumentError, match="timestamp"):
        PredictionEvent("p", "1", [1.0], 0, 1.0, datetime(2026, 1, 1))  # what is tried here


def test_a_latency_that_is_none_is_dropped(open_monitor: OpenMonitor, sql_clock: ManualClock) -> None:
    """A prediction whose latency is NaN is counted as dropped, and the others are written."""
    monitor = open_monitor()
    monitor.record_prediction(prediction(0, sql_clock.now(), processing_time_ms=float("nan")))
    monitor.record_prediction(prediction(1, sql_clock.now()))
    assert (monitor.flush().dropped, requests(open_monitor())) == (1, 1)


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """``MissingExtraError`` names the driver and the extra that brings it."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtraError, match=r"mlserve\[postgresql\]") as caught:
        SqlModelMonitor("postgresql+psycopg://user:secret@host/name")
    assert "secret" not in str(caught.value)


def test_another_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that no extra brings is named, and the one that an extra brings."""
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    with pytest.raises(InvalidArgumentError, match=r"psycopg2.*postgresql\+psycopg://") as caught:
        SqlModelMonitor("postgresql+psycopg2://user:secret@host/name")
    assert "secret" not in str(caught.value)


def test_a_missing_sqlalchemy_is_named() -> None:
    """Importing the module without SQLAlchemy says which extra brings it."""
    code = "import sys; sys.modules['sqlalchemy'] = None\nimport mlserve.integrations.sql"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert "MissingExtraError" in ran.stderr
    assert "pip install 'mlserve[sql]'" in ran.stderr


def test_an_engine_stays_its_owners(open_monitor: OpenMonitor, sql_clock: ManualClock, engine: sa.Engine) -> None:
    """``close`` leaves an engine that was given open, and closes one of the monitor's own."""
    monitor = open_monitor()
    monitor.record_prediction(prediction(0, sql_clock.now()))
    monitor.close()
    with engine.connect() as connection:  # a database in memory would be gone with its connection
        assert connection.exec_driver_sql("SELECT count(*) FROM mlserve_snapshots").scalar() == 1


def test_an_engine_that_begins_transactions_itself_can_be_used(open_monitor: OpenMonitor) -> None:
    """An engine whose owner made it begin every transaction is used as it is."""
    engine = memory_engine()
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    assert open_monitor(engine).flush().flush_errors == 0
    engine.dispose()


def test_a_closed_monitor_goes_on_in_memory(open_monitor: OpenMonitor, sql_clock: ManualClock) -> None:
    """After ``close`` recording and reading go on, and nothing is written any more; closing twice is no error."""
    with open_monitor() as monitor:
        monitor.record_prediction(prediction(0, sql_clock.now()))
    monitor.close()
    monitor.record_prediction(prediction(1, sql_clock.now()))
    monitor.flush()
    assert (requests(monitor), requests(open_monitor())) == (2, 1)


# -------------------------------------------------------------------------------------------------- not reachable


def test_a_database_that_is_down_costs_nothing(
    open_monitor: OpenMonitor, sql_clock: ManualClock, engine: sa.Engine
) -> None:
    """While the database is down all is counted here; the failures are counted; afterwards nothing is missing."""
    trouble, monitor = Trouble(engine), open_monitor()
    monitor.record_prediction(prediction(0, sql_clock.now()))
    monitor.flush()
    trouble.is_down = True
    monitor.record_prediction(prediction(1, sql_clock.now()))
    monitor.record_outcome("p1", 0)
    monitor.set_baseline("1", metrics=ModelMetrics(accuracy=0.5))
    monitor.record_drift_event(drift_event(sql_clock.now()))
    down = monitor.flush()
    assert (down.flushes, down.flush_errors, down.read_errors) == (1, 1, 1)
    assert (requests(monitor), monitor.get_recent_metrics(HOUR).labelled_count) == (2, 1)
    assert (monitor.get_baseline_metrics("1"), len(monitor.drift_events())) == (ModelMetrics(accuracy=0.5), 1)
    trouble.is_down = False
    sql_clock.advance(MINUTE)
    assert monitor.flush().last_flush_age_seconds == 0.0
    other = open_monitor()
    assert (requests(other), other.get_recent_metrics(HOUR).labelled_count) == (2, 1)
    assert (other.get_baseline_metrics("1"), len(other.drift_events())) == (ModelMetrics(accuracy=0.5), 1)


def test_a_database_may_be_down_at_first(open_monitor: OpenMonitor, sql_clock: ManualClock, engine: sa.Engine) -> None:
    """A monitor can be made while its database is down; it makes its tables when that comes back."""
    trouble = Trouble(engine)
    trouble.is_down = True
    monitor = open_monitor()
    monitor.record_prediction(prediction(0, sql_clock.now()))
    assert (monitor.statistics().read_errors, requests(monitor)) == (1, 1)
    trouble.is_down = False
    monitor.flush()
    assert requests(open_monitor()) == 1


def test_reads_rest_after_a_failure(open_monitor: OpenMonitor, sql_clock: ManualClock, engine: sa.Engine) -> None:
    """After reading failed a few times it is tried less and less often, at last every half minute."""
    trouble, monitor = Trouble(engine), open_monitor(refresh_seconds=1.0)
    trouble.is_down = True
    failures = []
    for _ in range(300):
        sql_clock.advance(timedelta(seconds=1))
        requests(monitor)
        failures.append(monitor.statistics().read_errors)
    assert failures[0] == 1
    assert failures[-1] < 25
    assert failures[-1] - failures[-1 - int(LONGEST_DELAY_SECONDS) * 2] == 2
    trouble.is_down = False
    sql_clock.advance(timedelta(seconds=LONGEST_DELAY_SECONDS))
    requests(monitor)
    assert monitor.statistics().reads == 2


@pytest.mark.parametrize(
    ("flush_seconds", "expected"), [(1.0, [1, 2, 4, 8, 16, 30, 30]), (60.0, [60] * 7), (0.05, [0.1, 0.2, 0.4])]
)
def test_writes_rest_longer_after_every_failure(
    sql_clock: ManualClock, flush_seconds: float, expected: list[float]
) -> None:
    """The pause after a failed write doubles up to half a minute, and is the usual one after a success."""
    engine = memory_engine()
    trouble = Trouble(engine)
    monitor = SqlModelMonitor(engine, clock=sql_clock, flush_seconds=HOUR.total_seconds())
    monitor.close()
    sync = monitor._life.sync
    sync._flush_seconds = flush_seconds
    trouble.is_down = True
    write = frozenset({Task.WRITE})
    pauses = [sync.perform(write) for _ in expected]
    trouble.is_down = False
    assert pauses == pytest.approx(expected)
    assert sync.perform(write) == flush_seconds
    engine.dispose()


def test_failures_are_logged_once_a_minute(
    open_monitor: OpenMonitor, sql_clock: ManualClock, engine: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """What keeps failing is logged once a minute, in one line without the statement."""
    trouble, monitor = Trouble(engine), open_monitor()
    trouble.is_down = True
    with caplog.at_level(logging.WARNING, "mlserve"):
        for _ in range(8):
            monitor.flush()
            sql_clock.advance(timedelta(seconds=10))
    said = [record.getMessage() for record in caplog.records if "write" in record.getMessage()]
    assert said == [
        f"could not write to sqlite:// ({times} times so far): OperationalError: the server has gone away; "
        "predictions go on"
        for times in (1, 7)
    ]


def test_an_error_is_told_without_its_values() -> None:
    """What is logged of a database's error is its own first line, neither statement nor values."""
    with memory_engine().connect() as connection, pytest.raises(sa.exc.OperationalError) as caught:
        connection.exec_driver_sql("SELECT ? FROM absent", ("secret",))
    assert brief(caught.value) == "OperationalError: no such table: absent"
    assert brief(ValueError()) == "ValueError: "


# ------------------------------------------------------------------------------------------------- not answering


def test_a_database_that_does_not_answer_holds_up_nobody(sql_clock: ManualClock) -> None:
    """While a statement hangs, predictions are recorded, one read waits a moment, and all others not at all."""
    engine = memory_engine()
    trouble = Trouble(engine)
    monitor = SqlModelMonitor(engine, clock=sql_clock, flush_seconds=HOUR.total_seconds())
    monitor.flush(PATIENCE)
    trouble.gate.clear()
    counts, asked = [], []
    for number in range(5):
        monitor.record_prediction(prediction(number, sql_clock.now()))
        sql_clock.advance(timedelta(seconds=2))
        counts.append(requests(monitor))
        asked.append(monitor._asked)
    assert counts == [1, 2, 3, 4, 5]
    assert set(asked) == {asked[0]}
    assert trouble.waits.wait(PATIENCE)
    trouble.gate.set()
    statistics = monitor.flush(PATIENCE)
    assert (statistics.flush_errors, statistics.read_errors) == (0, 0)
    monitor.close()
    engine.dispose()


def test_a_worker_may_close_itself() -> None:
    """Whoever collects the garbage closes a monitor that was forgotten, be it its own thread."""
    workers: list[ThreadWorker] = []
    is_made, closed = threading.Event(), []

    def perform(_: frozenset[Task]) -> float:
        assert is_made.wait(PATIENCE)
        closed.append(workers[0].close(PATIENCE))
        return 1.0

    workers.append(ThreadWorker(perform, "itself"))
    is_made.set()
    workers[0]._thread.join(PATIENCE)
    assert closed == [False, False]
    assert workers[0].ask(Task.WRITE).is_set()


def test_a_forgotten_monitor_writes_and_ends(sql_clock: ManualClock) -> None:
    """A monitor that nobody holds any more writes what it has, and its thread ends."""
    engine = memory_engine()
    monitor = SqlModelMonitor(engine, clock=sql_clock, flush_seconds=HOUR.total_seconds())
    monitor.flush(PATIENCE)
    monitor.record_prediction(prediction(0, sql_clock.now()))
    thread = monitor._worker._thread  # type: ignore[attr-defined]  # that of a ThreadWorker
    del monitor
    gc.collect()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert requests(SqlModelMonitor(engine, clock=sql_clock, flush_seconds=None)) == 1
    engine.dispose()


def test_closing_does_not_wait_for_ever(sql_clock: ManualClock) -> None:
    """``close`` and ``flush`` give up after their timeout; what hangs may end later."""
    engine = memory_engine()
    trouble = Trouble(engine)
    monitor = SqlModelMonitor(engine, clock=sql_clock, flush_seconds=HOUR.total_seconds())
    monitor.flush(PATIENCE)
    trouble.gate.clear()
    before = monitor.statistics().flushes
    monitor.record_prediction(prediction(0, sql_clock.now()))
    assert monitor.flush(timeout=0.01).flushes == before
    monitor.close(timeout=0.01)
    thread = monitor._worker._thread  # type: ignore[attr-defined]  # that of a ThreadWorker
    assert thread.is_alive()
    trouble.gate.set()
    thread.join(PATIENCE)
    assert requests(SqlModelMonitor(engine, clock=sql_clock, flush_seconds=None)) == 1
    engine.dispose()


# -------------------------------------------------------------------------------------------------- SQLite files


def fill(monitor: SqlModelMonitor, clock: ManualClock, numbers: range) -> None:
    """Predictions, one a second."""
    for number in numbers:
        clock.advance(timedelta(seconds=1))
        monitor.record_prediction(prediction(number, clock.now()))


def remove(path: Path) -> None:
    """Remove a SQLite file with what belongs to it."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


@pytest.mark.parametrize("is_recorded_after", [True, False])
def test_a_removed_file_is_written_again(
    open_monitor: OpenMonitor, sql_clock: ManualClock, tmp_path: Path, *, is_recorded_after: bool
) -> None:
    """When its file is removed, the monitor makes it anew and writes all that it holds, baselines and drifts too."""
    path = tmp_path / "metrics.db"
    monitor = open_monitor(f"sqlite:///{path}")
    fill(monitor, sql_clock, range(5))
    monitor.set_baseline("1", metrics=ModelMetrics(accuracy=0.5))
    monitor.record_drift_event(drift_event(sql_clock.now()))
    monitor.flush()
    remove(path)
    if is_recorded_after:
        fill(monitor, sql_clock, range(5, 8))
    monitor.flush()
    monitor.flush()
    other = open_monitor(f"sqlite:///{path}")
    assert requests(other) == (8 if is_recorded_after else 5)
    assert (other.get_baseline_metrics("1"), len(other.drift_events())) == (ModelMetrics(accuracy=0.5), 1)


def test_a_file_that_was_put_back_is_brought_up_to_date(
    open_monitor: OpenMonitor, sql_clock: ManualClock, tmp_path: Path
) -> None:
    """When an older copy of the file is put in its place, what is missing in it is written again."""
    path, copy = tmp_path / "metrics.db", tmp_path / "copy.db"
    monitor = open_monitor(f"sqlite:///{path}")
    fill(monitor, sql_clock, range(5))
    monitor.flush()
    engine = sa.create_engine(f"sqlite:///{path}", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"VACUUM INTO '{copy}'")
    fill(monitor, sql_clock, range(5, 20))
    monitor.flush()
    remove(path)
    copy.rename(path)
    fill(monitor, sql_clock, range(20, 25))
    monitor.flush()
    monitor.flush()
    assert requests(open_monitor(f"sqlite:///{path}")) == 25


def test_a_relative_path_is_that_of_the_beginning(
    open_monitor: OpenMonitor, sql_clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file named by a relative path stays the same when the process changes its directory, and is missed there."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    monitor = open_monitor("sqlite:///metrics.db")
    fill(monitor, sql_clock, range(2))
    monitor.flush()
    monkeypatch.chdir(tmp_path / "elsewhere")
    fill(monitor, sql_clock, range(2, 3))
    monitor.flush()
    remove(tmp_path / "metrics.db")
    monitor.flush()
    monitor.flush()
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert requests(open_monitor(f"sqlite:///{tmp_path}/metrics.db")) == 3


def test_a_locked_file_is_written_later(open_monitor: OpenMonitor, sql_clock: ManualClock, tmp_path: Path) -> None:
    """While another connection holds the file, writing fails and is counted; predictions and reads go on."""
    url = f"sqlite:///{tmp_path}/metrics.db"
    monitor = open_monitor(f"{url}?timeout=0.01")
    fill(monitor, sql_clock, range(5))
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN EXCLUSIVE")
        locked = monitor.flush()
        assert (locked.flush_errors, locked.flushes, requests(monitor)) == (1, 0, 5)
        connection.rollback()
    assert (monitor.flush().flushes, requests(open_monitor(url))) == (1, 5)


def test_a_read_only_file_is_read(open_monitor: OpenMonitor, sql_clock: ManualClock, tmp_path: Path) -> None:
    """From a file that may not be written all is read; what is recorded counts here, and the failures are counted."""
    path = tmp_path / "metrics.db"
    writer = open_monitor(f"sqlite:///{path}")
    fill(writer, sql_clock, range(5))
    writer.set_baseline("1", metrics=ModelMetrics(accuracy=0.5))
    writer.flush()
    reader = open_monitor(f"sqlite:///file:{path}?mode=ro&uri=true")
    fill(reader, sql_clock, range(5, 8))
    statistics = reader.flush()
    assert (statistics.flush_errors, statistics.read_errors, statistics.queued) == (1, 0, 3)
    assert (requests(reader), reader.get_baseline_metrics("1")) == (8, ModelMetrics(accuracy=0.5))
    fill(writer, sql_clock, range(8, 10))
    writer.flush()
    sql_clock.advance(MINUTE)
    assert requests(reader) == 10


def test_a_directory_that_is_not_there_is_no_error(
    open_monitor: OpenMonitor, sql_clock: ManualClock, tmp_path: Path
) -> None:
    """A file in a directory that does not exist yet is made once the directory is there."""
    url = f"sqlite:///{tmp_path}/later/metrics.db"
    monitor = open_monitor(url)
    fill(monitor, sql_clock, range(2))
    assert monitor.flush().flush_errors == 1
    (tmp_path / "later").mkdir()
    monitor.flush()
    assert requests(open_monitor(url)) == 2


# ---------------------------------------------------------------------------------------------------- the schema


def set_version(engine: sa.Engine, version: int) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE mlserve_schema SET version = ?", (version,))


def test_a_newer_schema_is_refused(open_monitor: OpenMonitor, sql_clock: ManualClock, engine: sa.Engine) -> None:
    """``StoreSchemaError`` says which version was found and which is known; the tables stay as they are."""
    open_monitor().record_prediction(prediction(0, sql_clock.now()))
    set_version(engine, 7)
    with pytest.raises(StoreSchemaError, match=r"version 7.*up to 1") as caught:
        open_monitor()
    assert (caught.value.found, caught.value.supported) == (7, 1)
    set_version(engine, 1)
    assert open_monitor().flush().flush_errors == 0


def test_a_schema_that_becomes_newer_is_not_written(
    open_monitor: OpenMonitor, sql_clock: ManualClock, engine: sa.Engine
) -> None:
    """Where the tables are found to be newer after the database had been away, writing fails, and is counted."""
    trouble, monitor = Trouble(engine), open_monitor()
    trouble.is_down = True
    monitor.flush()
    trouble.is_down = False
    set_version(engine, 7)
    monitor.record_prediction(prediction(0, sql_clock.now()))
    statistics = monitor.flush()
    assert (statistics.flushes, statistics.flush_errors, requests(monitor)) == (0, 2, 1)


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE mlserve_schema (id BIGINT PRIMARY KEY, version BIGINT)"],
        [
            "CREATE TABLE mlserve_schema (id BIGINT PRIMARY KEY, version BIGINT)",
            "INSERT INTO mlserve_schema VALUES (1, 0)",
        ],
    ],
    ids=["empty", "version 0"],
)
def test_an_older_schema_is_made_newer(
    open_monitor: OpenMonitor, sql_clock: ManualClock, engine: sa.Engine, statements: list[str]
) -> None:
    """Tables of an older version, or half made, become those of the present one."""
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    monitor = open_monitor()
    monitor.record_prediction(prediction(0, sql_clock.now()))
    assert monitor.flush().flush_errors == 0
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT id, version FROM mlserve_schema").all() == [(1, 1)]


@pytest.mark.parametrize("table", ["sources", "snapshots", "baselines", "drift_events", "predictions", "schema"])
def test_a_dropped_table_is_made_anew(
    open_monitor: OpenMonitor, sql_clock: ManualClock, engine: sa.Engine, table: str
) -> None:
    """When somebody drops a table, it is made anew and what is held here is written again."""
    monitor = open_monitor()
    monitor.record_prediction(prediction(0, sql_clock.now()))
    monitor.flush()
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP TABLE mlserve_{table}")
    monitor.record_prediction(prediction(1, sql_clock.now()))
    for _ in range(3):
        monitor.flush()
    assert open_monitor().flush().flush_errors == 0
    with engine.connect() as connection:
        assert connection.exec_driver_sql(f"SELECT count(*) FROM mlserve_{table}").scalar() is not None


def test_monitors_with_other_prefixes_share_nothing(open_monitor: OpenMonitor, sql_clock: ManualClock) -> None:
    """Two models may use one database with tables of their own."""
    first, second = open_monitor(table_prefix="fraud_"), open_monitor(table_prefix="churn_")
    first.record_prediction(prediction(0, sql_clock.now()))
    first.flush()
    second.flush()
    assert requests(second) == 0


# -------------------------------------------------------------------------------------------------- damaged rows


def newer_format(payload: bytes) -> bytes:
    """A snapshot or a document as a later version might write it."""
    at = 8 if payload.startswith(b"MLSVSNAP") else 4
    return payload[:at] + b"\x7f\x00" + payload[at + 2 :]


def wrong_record(payload: bytes) -> bytes:
    """A document whose checksum holds and that says something else."""
    body = b'{"version":"1","value":3}PK\x05\x06' + bytes(18)
    return b"MLDO" + (1).to_bytes(2, "big") + (25).to_bytes(4, "big") + zlib.crc32(body).to_bytes(4, "big") + body


DAMAGES: list[Callable[[bytes], bytes]] = [
    lambda _: b"",
    lambda _: b"nothing of ours",
    lambda payload: payload[:-3],
    lambda payload: payload[:20] + b"\xff" + payload[21:],
    newer_format,
]
DAMAGE_NAMES = ["empty", "foreign", "cut off", "changed", "newer"]


def damage(engine: sa.Engine, table: str, change: Callable[[bytes], bytes]) -> None:
    with engine.begin() as connection:
        payload = connection.exec_driver_sql(f"SELECT payload FROM mlserve_{table}").scalar()
        connection.exec_driver_sql(f"UPDATE mlserve_{table} SET payload = ?", (change(bytes(payload)),))


@pytest.mark.parametrize("change", DAMAGES, ids=DAMAGE_NAMES)
def test_a_damaged_piece_is_left_out(
    open_monitor: OpenMonitor, sql_clock: ManualClock, engine: sa.Engine, change: Callable[[bytes], bytes]
) -> None:
    """Counts that cannot be read are left out and counted; those of other processes are read."""
    first, second = open_monitor(), open_monitor()
    first.record_prediction(prediction(0, sql_clock.now()))
    first.flush()
    damage(engine, "snapshots", change)
    second.record_prediction(prediction(1, sql_clock.now()))
    second.flush()
    reader = open_monitor()
    reader.flush()
    assert (requests(reader), reader.statistics().unreadable) == (1, 1)


@pytest.mark.parametrize("change", [*DAMAGES, wrong_record], ids=[*DAMAGE_NAMES, "another record"])
@pytest.mark.parametrize("table", ["baselines", "drift_events"])
def test_a_damaged_record_is_left_out(
    open_monitor: OpenMonitor, sql_clock: ManualClock, engine: sa.Engine, table: str, change: Callable[[bytes], bytes]
) -> None:
    """A baseline or a drift event that cannot be read is left out, and counted once however often it is met."""
    first = open_monitor()
    first.set_baseline("1", metrics=ModelMetrics(accuracy=0.5))
    first.record_drift_event(drift_event(sql_clock.now()))
    first.flush()
    damage(engine, table, change)
    reader = open_monitor()
    reader.flush()
    kept = (reader.get_baseline_metrics("1") is not None, len(reader.drift_events()))
    assert kept == ((False, 1) if table == "baselines" else (True, 0))
    assert reader.statistics().unreadable == 1


def test_a_record_under_another_name_is_left_out(
    open_monitor: OpenMonitor, sql_clock: ManualClock, engine: sa.Engine
) -> None:
    """A baseline that stands under another version's key is not that version's."""
    first = open_monitor()
    first.set_baseline("1", metrics=ModelMetrics(accuracy=0.5))
    first.flush()
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE mlserve_baselines SET version_key = '2'")
    reader = open_monitor()
    assert (reader.get_baseline_metrics("2"), reader.statistics().unreadable) == (None, 1)


def test_rows_that_vanish_while_they_are_read_are_no_error(
    open_monitor: OpenMonitor, sql_clock: ManualClock, engine: sa.Engine
) -> None:
    """A baseline that is replaced between two statements of a reader is read the next time."""
    first = open_monitor()
    first.set_baseline("1", metrics=ModelMetrics(accuracy=0.5))
    first.flush()

    def replace(connection: sa.Connection, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("SELECT mlserve_baselines.payload"):
            connection.connection.cursor().execute("UPDATE mlserve_baselines SET set_at = set_at + 1")

    sa.event.listen(engine, "before_cursor_execute", replace)
    reader = open_monitor()
    sa.event.remove(engine, "before_cursor_execute", replace)
    before = reader.get_baseline_metrics("1")
    reader.flush()
    assert (before, reader.get_baseline_metrics("1")) == (None, ModelMetrics(accuracy=0.5))


# --------------------------------------------------------------------------------------------------------- clocks


def test_a_clock_that_jumps_loses_nothing(open_monitor: OpenMonitor, sql_clock: ManualClock) -> None:
    """After a day asleep the monitor answers for what is still in the window, and its housekeeping goes on."""
    monitor, reader = open_monitor(), open_monitor()
    fill(monitor, sql_clock, range(5))
    monitor.flush()
    sql_clock.advance(timedelta(days=1))
    fill(monitor, sql_clock, range(5, 8))
    monitor.flush()
    assert [requests(reader, window) for window in (HOUR, timedelta(days=2))] == [3, 8]
    assert timedelta(days=1).total_seconds() > HOUSEKEEPING_SECONDS


def test_predictions_of_the_future_and_of_long_ago_do_no_harm(
    open_monitor: OpenMonitor, sql_clock: ManualClock
) -> None:
    """What lies outside every window is dropped or waits for its time, in every process."""
    monitor = open_monitor()
    for number, at in enumerate([timedelta(days=-400), timedelta(0), timedelta(hours=2)]):
        monitor.record_prediction(prediction(number, sql_clock.now() + at))
    monitor.flush()
    reader = open_monitor()
    before = requests(reader)
    sql_clock.advance(3 * HOUR)
    assert (before, requests(reader, 4 * HOUR)) == (1, 2)


def test_many_threads_write_and_read(sql_clock: ManualClock) -> None:
    """Threads that record, flush and read at once lose nothing and see no count too many."""
    engine = memory_engine()
    monitor = SqlModelMonitor(engine, clock=sql_clock, flush_seconds=0.001)
    each, threads, seen = 400, 6, []
    barrier = threading.Barrier(threads + 2)

    def record(first: int) -> None:
        barrier.wait(PATIENCE)
        for number in range(first, first + each):
            monitor.record_prediction(prediction(number, sql_clock.now()))
            monitor.record_outcome(f"p{number}", 0)

    def read() -> None:
        barrier.wait(PATIENCE)
        for _ in range(50):
            monitor.flush()
            seen.append(requests(monitor))

    workers = [threading.Thread(target=record, args=(number * each,)) for number in range(threads)]
    workers += [threading.Thread(target=read) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(PATIENCE)
    monitor.close(PATIENCE)
    metrics = SqlModelMonitor(engine, clock=sql_clock, flush_seconds=None).get_recent_metrics(HOUR)
    assert (metrics.request_count, metrics.labelled_count) == (each * threads, each * threads)
    assert max(seen) <= each * threads
    engine.dispose()
