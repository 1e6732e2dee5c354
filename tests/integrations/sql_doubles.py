"""What the tests of the monitor on a database are made of."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from mlserve.integrations.sql import SqlModelMonitor
from mlserve.records import (
    ConceptDrift,
    DataDrift,
    DriftAnalysis,
    DriftEvent,
    DriftSeverity,
    DriftType,
    PerformanceDrift,
    PredictionEvent,
)

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

PATIENCE = 30.0
"""Seconds to wait for a thread or a process before a test fails; no test is faster or slower for it."""

OpenMonitor = Callable[..., SqlModelMonitor]


def prediction(number: int, at: datetime, version_id: str = "1", **values: Any) -> PredictionEvent:
    """The event of a prediction: row ``[number]`` in, class 0 out, 10 ms, unless told otherwise."""
    told = {"input": [float(number)], "output": 0, "processing_time_ms": 10.0, **values}
    return PredictionEvent(prediction_id=f"p{number}", model_version=version_id, timestamp=at, **told)


def drift_event(at: datetime, version_id: str = "1") -> DriftEvent:
    """A drift that was found."""
    return DriftEvent(
        model_version=version_id,
        drift_type=DriftType.DATA,
        severity=DriftSeverity.HIGH,
        detected_at=at,
        analysis=DriftAnalysis(
            performance_drift=PerformanceDrift(), data_drift=DataDrift(), concept_drift=ConceptDrift()
        ),
    )


def requests(monitor: SqlModelMonitor, window: timedelta = HOUR) -> int:
    """Requests of all versions in a window."""
    return monitor.get_recent_metrics(window).request_count


def memory_engine() -> sa.Engine:
    """An engine on a database in memory, which all that use the engine share."""
    return sa.create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})


class Trouble:
    """What a database does to those who use an engine: nothing, until it is told otherwise.

    Attributes:
        is_down: Whether every statement fails.
        fails_at_commit: ``"before"`` to fail instead of committing, ``"after"`` to commit and then say that it failed.
        gate: Statements wait here while it is not set.
        waits: Set when a statement waits at the gate.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self.is_down = False
        self.fails_at_commit = ""
        self.gate = threading.Event()
        self.gate.set()
        self.waits = threading.Event()
        sa.event.listen(engine, "before_cursor_execute", self._statement)
        sa.event.listen(engine, "commit", self._commit)

    def _statement(self, *_: object) -> None:
        if self.is_down:
            raise sqlite3.OperationalError("the server has gone away")
        if not self.gate.is_set():
            self.waits.set()
            assert self.gate.wait(PATIENCE)

    def _commit(self, connection: sa.Connection) -> None:
        if self.fails_at_commit:
            if self.fails_at_commit == "after":
                connection.connection.commit()
            raise sqlite3.OperationalError("the connection was lost at the commit")
