"""Several processes on one database, forked, killed, and servers that are stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from postgres_server import PostgresServer
from sql_doubles import HOUR, PATIENCE, OpenMonitor, prediction, requests

from mlserve.clocks import ManualClock
from mlserve.integrations._sql_engine import Database
from mlserve.integrations._sql_schema import Tables
from mlserve.integrations._sql_store import Store
from mlserve.integrations.sql import SqlModelMonitor
from mlserve.records import ModelMetrics

HERE = Path(__file__).parent


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A SQLite file that is not there yet."""
    return f"sqlite:///{tmp_path}/metrics.db"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, sqlite_url: str) -> str:
    """A new database of either kind."""
    if request.param == "sqlite":
        return sqlite_url
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()


def start(url: str, first: int, count: int, flush_every: int = 0, lag: int = 0) -> subprocess.Popen[str]:
    """A process that records, once it is told to; see there."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "sql_process.py"), url, *map(str, (first, count, flush_every, lag))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def counted(url: str) -> tuple[int, int]:
    """Requests and labels that a new process finds."""
    with SqlModelMonitor(url, flush_seconds=None) as monitor:
        metrics = monitor.get_recent_metrics(HOUR)
        return metrics.request_count, metrics.labelled_count


# --------------------------------------------------------------------------------------------- several processes


@pytest.mark.parametrize("processes", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_processes_at_once_lose_nothing(url: str, processes: int) -> None:
    """What several processes record at once is all there after they have ended, also if nobody closed a monitor."""
    each = 500
    running = [start(url, number * each, each) for number in range(processes)]
    for process in running:
        go(process)
    for process in running:
        said, _ = process.communicate(timeout=PATIENCE)
        assert (said, process.returncode) == ("done\n", 0)
    assert counted(url) == (each * processes, each * processes)


@pytest.mark.parametrize("lag", [0, 30], ids=["outcomes at once", "outcomes later"])
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 12))])
def test_a_killed_process_loses_the_last_interval_only(url: str, seed: int, lag: int) -> None:
    """Of a process that is killed at any moment, all is there that it recorded before its last flush, and once."""
    process = start(url, 0, 10**9, flush_every=20, lag=lag)
    go(process)
    assert process.stdout is not None
    for _ in range(int(np.random.default_rng(seed).integers(5, 40))):
        said = process.stdout.readline()
    process.kill()
    rest, _ = process.communicate(timeout=PATIENCE)
    flushed = int((said + rest).split()[-1])
    found, labels = counted(url)
    assert process.returncode == -signal.SIGKILL
    assert flushed <= found
    assert flushed - lag <= labels <= found - lag


def test_who_makes_the_tables_first_does_not_matter(url: str) -> None:
    """Several monitors that find no tables at the same moment all work."""
    barrier = threading.Barrier(6)
    monitors: list[SqlModelMonitor] = []

    def make() -> None:
        barrier.wait(PATIENCE)
        monitors.append(SqlModelMonitor(url, flush_seconds=None))

    threads = [threading.Thread(target=make) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    statistics = [monitor.flush() for monitor in monitors]
    for monitor in monitors:
        monitor.close()
    assert [(one.flush_errors, one.read_errors) for one in statistics] == [(0, 0)] * 6


def test_of_processes_at_once_one_counts_an_outcome(url: str, sql_clock: ManualClock) -> None:
    """Outcomes that several monitors are told at the same moment are each counted by one of them."""
    count, tellers = 300, 4
    monitors = [SqlModelMonitor(url, clock=sql_clock, flush_seconds=None) for _ in range(tellers)]
    for number in range(count):
        monitors[0].record_prediction(prediction(number, sql_clock.now()))
    monitors[0].flush()
    barrier = threading.Barrier(tellers)

    def tell(monitor: SqlModelMonitor, order: list[int]) -> None:
        for number in order:
            monitor.record_outcome(f"p{number}", 0)
        barrier.wait(PATIENCE)
        while monitor.flush().queued:
            pass

    rng = np.random.default_rng(3)
    threads = [threading.Thread(target=tell, args=(one, rng.permutation(count).tolist())) for one in monitors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    joined = [monitor.statistics().outcomes for monitor in monitors]
    for monitor in monitors:
        monitor.close()
    assert sum(joined) == count
    with SqlModelMonitor(url, clock=sql_clock, flush_seconds=None) as reader:
        assert reader.get_recent_metrics(HOUR).labelled_count == count


# --------------------------------------------------------------------------------------------------------- forks


def in_child(call: Callable[[], object]) -> None:
    """Run something in a forked child, which then ends without any clean-up of the parent's."""
    with warnings.catch_warnings():
        # Python 3.12 and newer warn of a fork while other threads run, which is what is tried here.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        signal.alarm(int(PATIENCE))  # a child that hangs must not outlive the test
        try:
            call()
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("flush_seconds", [None, 60.0])
def test_a_forked_child_counts_its_own(url: str, sql_clock: ManualClock, flush_seconds: float | None) -> None:
    """A forked child writes what it recorded itself, and none of what the parent had; both go on."""
    monitor = SqlModelMonitor(url, clock=sql_clock, flush_seconds=flush_seconds)
    monitor.set_baseline("1", metrics=ModelMetrics(accuracy=0.5))
    monitor.record_prediction(prediction(0, sql_clock.now()))
    monitor.flush()
    monitor.record_prediction(prediction(1, sql_clock.now()))
    monitor.record_outcome("p0", 0)
    monitor.set_baseline("2", metrics=ModelMetrics(accuracy=0.25))  # not written yet
    source = monitor.statistics().source
    record = monitor.record_prediction  # as a server holds it

    def child() -> None:
        statistics = monitor.statistics()
        assert (statistics.source != source, statistics.recorded, statistics.queued) == (True, 0, 0)
        baselines = [monitor.get_baseline_metrics(version_id) for version_id in "12"]
        assert baselines == [ModelMetrics(accuracy=0.5), ModelMetrics(accuracy=0.25)]
        record(prediction(2, sql_clock.now()))
        assert monitor.flush(PATIENCE).flush_errors == 0
        assert requests(monitor) == 2  # the parent's first one and its own
        in_child(grandchild)
        monitor.close(PATIENCE)

    def grandchild() -> None:
        record(prediction(3, sql_clock.now()))
        monitor.close(PATIENCE)

    in_child(child)
    monitor.record_prediction(prediction(4, sql_clock.now()))
    assert monitor.flush(PATIENCE).flush_errors == 0
    metrics = monitor.get_recent_metrics(HOUR)
    monitor.close(PATIENCE)
    assert (metrics.request_count, metrics.labelled_count) == (5, 1)
    in_child(partial(monitor.record_prediction, prediction(5, sql_clock.now())))


# --------------------------------------------------------------------------------------------------- PostgreSQL


def test_a_server_that_is_restarted_misses_nothing(
    postgres: PostgresServer, open_monitor: OpenMonitor, sql_clock: ManualClock
) -> None:
    """While the server is stopped predictions and reads go on; when it runs again all is written."""
    url = postgres.new_database()
    monitor = open_monitor(url)
    monitor.record_prediction(prediction(0, sql_clock.now()))
    monitor.flush()
    postgres.stop()
    try:
        for number in range(1, 4):
            monitor.record_prediction(prediction(number, sql_clock.now()))
            monitor.record_outcome(f"p{number - 1}", 0)
            stopped = monitor.flush()
        found = requests(monitor)
    finally:
        postgres.start()
    assert (stopped.flushes, stopped.flush_errors, stopped.read_errors, found) == (1, 3, 3, 4)
    assert monitor.flush().flush_errors == 3
    metrics = open_monitor(url).get_recent_metrics(HOUR)
    assert (metrics.request_count, metrics.labelled_count) == (4, 3)


def test_a_server_that_is_not_there_is_no_error(open_monitor: OpenMonitor, sql_clock: ManualClock) -> None:
    """A monitor can be made while nothing listens at the address of its database."""
    monitor = open_monitor("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    monitor.record_prediction(prediction(0, sql_clock.now()))
    assert (monitor.flush().flush_errors, requests(monitor)) == (1, 1)


def test_permissions_that_are_lacking_are_counted(
    postgres: PostgresServer, open_monitor: OpenMonitor, sql_clock: ManualClock
) -> None:
    """A user who may only read answers for all processes, and its own counts stay with it until it may write."""
    url = postgres.new_database()
    writer = open_monitor(url)
    writer.record_prediction(prediction(0, sql_clock.now()))
    writer.flush()
    name = url.rpartition("/")[2]
    owner = sa.create_engine(url, poolclass=sa.NullPool)
    with owner.begin() as connection:
        connection.exec_driver_sql(f"CREATE ROLE reader_of_{name} LOGIN")
        connection.exec_driver_sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader_of_{name}")
    reader = open_monitor(postgres.url(name, user=f"reader_of_{name}"))
    reader.record_prediction(prediction(1, sql_clock.now()))
    refused = reader.flush()
    assert (refused.flush_errors, refused.read_errors, requests(reader)) == (1, 0, 2)
    with owner.begin() as connection:
        connection.exec_driver_sql(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO reader_of_{name}")
    reader.flush()
    writer.flush()
    assert requests(writer) == 2


def test_a_user_who_may_not_make_tables_is_no_error(
    postgres: PostgresServer, open_monitor: OpenMonitor, sql_clock: ManualClock
) -> None:
    """Where the tables are not there and may not be made, the monitor counts in memory."""
    url = postgres.new_database()
    name = url.rpartition("/")[2]
    postgres.execute(f"CREATE ROLE guest_of_{name} LOGIN")
    monitor = open_monitor(postgres.url(name, user=f"guest_of_{name}"))
    monitor.record_prediction(prediction(0, sql_clock.now()))
    statistics = monitor.flush()
    assert (statistics.flush_errors, requests(monitor)) == (1, 1)
    assert statistics.read_errors > 0


def said_to_postgresql(call: Callable[[Any], object]) -> list[str]:
    """The statements that a call would execute on a connection to PostgreSQL."""
    said: list[str] = []
    engine = sa.create_mock_engine(
        "postgresql+psycopg://", lambda statement, *_: said.append(str(statement.compile(dialect=engine.dialect)))
    )
    call(engine)
    return said


def test_many_predictions_are_one_statement() -> None:
    """On PostgreSQL predictions are inserted as arrays, not row by row."""
    rows = [("a", 1, "[]"), ("b", 2, "[]")]
    (said,) = said_to_postgresql(lambda connection: Store(Tables.named("x_")).write_predictions(connection, rows))
    assert "unnest" in said
    assert "ON CONFLICT DO NOTHING" in said


def test_statements_are_limited_and_tables_are_made_by_one() -> None:
    """On PostgreSQL a statement that hangs is given up, and who makes the tables holds a lock."""
    database = Database("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    said = said_to_postgresql(lambda connection: (database.limit(connection), database.lock(connection, "x_schema")))
    assert said[0] == "SET LOCAL statement_timeout = 30000"
    assert "pg_advisory_xact_lock" in said[1]
