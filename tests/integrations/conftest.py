"""What the tests of the monitor on a database share. Imports only what a fixture needs: other doors need none of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import sqlalchemy as sa
    from postgres_server import PostgresServer
    from sql_doubles import OpenMonitor

    from mlserve.clocks import ManualClock
    from mlserve.integrations.sql import SqlModelMonitor

REQUIRED = "MLSERVE_REQUIRE_POSTGRES"
"""In the environment, it turns the skip of what needs a PostgreSQL server into a failure."""


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running PostgreSQL server. A test that stops it starts it again."""
    from postgres_server import PostgresServer, find_programs

    programs = find_programs()
    if programs is None:
        message = "PostgreSQL is not installed: initdb and pg_ctl were not found"
        if os.environ.get(REQUIRED):
            pytest.fail(message)
        pytest.skip(message)
    server = PostgresServer(programs)
    server.start()
    yield server
    server.close()


@pytest.fixture
def sql_clock() -> ManualClock:
    """The clock of the monitors on a database."""
    from mlserve.clocks import ManualClock

    return ManualClock()


@pytest.fixture
def engine() -> Iterator[sa.Engine]:
    """An engine on a new database in memory."""
    from sql_doubles import memory_engine

    engine = memory_engine()
    yield engine
    engine.dispose()


@pytest.fixture
def open_monitor(engine: sa.Engine, sql_clock: ManualClock) -> Iterator[OpenMonitor]:
    """Makes monitors, by default on ``engine`` and without a thread, and closes them."""
    from mlserve.integrations.sql import SqlModelMonitor

    opened: list[SqlModelMonitor] = []

    def open_one(database: Any = None, **options: Any) -> SqlModelMonitor:
        options = {"clock": sql_clock, "flush_seconds": None, **options}
        opened.append(SqlModelMonitor(engine if database is None else database, **options))
        return opened[-1]

    yield open_one
    for monitor in opened:
        monitor.close()
