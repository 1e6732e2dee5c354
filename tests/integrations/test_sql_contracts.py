"""The monitor on a database keeps to every contract, also where another process reads what it wrote."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import hypothesis
import pytest
import sqlalchemy as sa
from hypothesis.stateful import run_state_machine_as_test
from postgres_server import PostgresServer
from sql_doubles import memory_engine
from typing_extensions import override

from mlserve.clocks import Clock, ManualClock
from mlserve.integrations.sql import SqlModelMonitor
from mlserve.monitors import Resolution
from mlserve.protocols import LabelledMonitor, ModelMonitor
from mlserve.records import DriftEvent, InputSample, ModelMetrics, PredictionEvent
from mlserve.testing import (
    BaselineMonitorContract,
    DeferringMonitorContract,
    EventMonitorContract,
    LabelledMonitorContract,
    ModelMonitorContract,
    MonitorMachine,
    PredictionMonitorContract,
)

EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")

COARSE = (
    Resolution(timedelta(seconds=10), timedelta(minutes=20)),
    Resolution(timedelta(minutes=5), timedelta(hours=3)),
    Resolution(timedelta(hours=1), timedelta(days=2)),
)

NUMBERS = count()

FEW_RUNS = hypothesis.settings(ModelMonitorContract.state_machine_settings, max_examples=4)


@pytest.fixture(scope="module")
def sqlite_database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a SQLite file."""
    return f"sqlite:///{tmp_path_factory.mktemp('contracts')}/metrics.db"


@pytest.fixture(scope="module")
def postgres_database(postgres: PostgresServer) -> str:
    """The URL of a database on a PostgreSQL server."""
    return postgres.new_database()


class SqlMonitorContract(
    ModelMonitorContract,
    LabelledMonitorContract,
    BaselineMonitorContract,
    PredictionMonitorContract,
    EventMonitorContract,
    DeferringMonitorContract,
):
    """Each monitor with tables of its own; it shows what it was told once it was flushed."""

    state_machine_settings = FEW_RUNS
    url: str

    @pytest.fixture(autouse=True)
    def _opened(self) -> Iterator[None]:
        self.opened: list[SqlModelMonitor] = []
        yield
        for monitor in self.opened:
            monitor.close()

    def new_monitor(self, clock: Clock) -> SqlModelMonitor:
        prefix = f"tables_{next(NUMBERS)}_"
        self.opened.append(SqlModelMonitor(self.url, clock=clock, flush_seconds=None, table_prefix=prefix))
        return self.opened[-1]

    def settle(self, monitor: SqlModelMonitor) -> None:
        monitor.flush()

    def kept_drift_events(self, monitor: SqlModelMonitor) -> Sequence[DriftEvent]:
        return monitor.drift_events()


class TestOnSqlite(SqlMonitorContract):
    """On a SQLite file."""

    @pytest.fixture(autouse=True)
    def _database(self, sqlite_database: str) -> None:
        self.url = sqlite_database


@pytest.mark.slow
class TestOnPostgres(SqlMonitorContract):
    """On a PostgreSQL server."""

    @pytest.fixture(autouse=True)
    def _database(self, postgres_database: str) -> None:
        self.url = postgres_database


class Restarting(ModelMonitor, LabelledMonitor):
    """Two processes that record in turn, and a third one that is started anew whenever somebody reads."""

    def __init__(self, engine: sa.Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._writers = [self._new(), self._new()]
        self._reader = self._new()
        self._calls = 0

    def _new(self) -> SqlModelMonitor:
        return SqlModelMonitor(
            self._engine, clock=self._clock, flush_seconds=None, resolutions=COARSE, recent_requests=1024
        )

    def _next(self) -> SqlModelMonitor:
        self._calls += 1
        return self._writers[self._calls % 2]

    def settle(self) -> None:
        """Write all, restart one of the writers and the reader."""
        for writer in self._writers:
            writer.flush()
        # An outcome that was told to the one that flushes first may find its prediction only now.
        for writer in self._writers:
            writer.flush()
        self._next().close()
        self._writers[self._calls % 2] = self._new()
        self._reader = self._new()

    @override
    def record_prediction(self, event: PredictionEvent) -> None:
        self._next().record_prediction(event)

    @override
    def record_prediction_error(self, kind: str, version_id: str | None) -> None:
        self._next().record_prediction_error(kind, version_id)

    @override
    def record_outcome(self, prediction_id: str, actual: Any) -> None:
        self._writers[0].record_outcome(prediction_id, actual)

    @override
    def get_recent_metrics(self, window: timedelta) -> ModelMetrics:
        return self._reader.get_recent_metrics(window)

    @override
    def get_model_metrics(self, version_id: str, window: timedelta) -> ModelMetrics:
        return self._reader.get_model_metrics(version_id, window)

    @override
    def get_baseline_metrics(self, version_id: str) -> ModelMetrics | None:
        return self._reader.get_baseline_metrics(version_id)

    @override
    def get_recent_input_distribution(self, version_id: str, window: timedelta) -> InputSample:
        return self._reader.get_recent_input_distribution(version_id, window)

    @override
    def get_baseline_input_distribution(self, version_id: str) -> InputSample | None:
        return self._reader.get_baseline_input_distribution(version_id)

    @override
    def record_drift_event(self, event: DriftEvent) -> None:
        self._next().record_drift_event(event)


def coarse_edge(start: datetime, now: datetime) -> datetime:
    """Where the bucket begins that a window's beginning lies in."""
    width = next((level.width for level in COARSE if start >= now - level.retention), COARSE[-1].width)
    return start - (start - EPOCH) % width


def restarting_machine() -> MonitorMachine:
    clock = ManualClock()
    return MonitorMachine(Restarting(memory_engine(), clock), clock, Restarting.settle, coarse_edge)


def test_a_restart_changes_no_answer() -> None:
    """Whatever two processes record, a third one that is started afterwards says what a list of the events would."""
    settings = hypothesis.settings(FEW_RUNS, max_examples=2, stateful_step_count=12)
    run_state_machine_as_test(restarting_machine, settings=settings)  # type: ignore[arg-type]  # "a class or a function"


@pytest.mark.slow
def test_a_restart_changes_no_answer_for_long() -> None:
    """The same in many longer runs."""
    settings = hypothesis.settings(FEW_RUNS, max_examples=20, stateful_step_count=30)
    run_state_machine_as_test(restarting_machine, settings=settings)  # type: ignore[arg-type]  # "a class or a function"
