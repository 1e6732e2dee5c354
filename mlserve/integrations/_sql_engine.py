"""A database that may go away: how it is opened, written in transactions, and let go of in a forked child."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, final

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import StaticPool

from mlserve.errors import InvalidArgumentError, MissingExtraError

SQLITE_BUSY_SECONDS = 5.0
"""How long a write to a SQLite file waits for that of another process. Only the flush thread waits."""

CONNECT_SECONDS = 10
"""How long an answer to a new connection is waited for. The system's own patience is minutes."""

STATEMENT_MS = 30_000
"""A statement that runs longer is given up, be it for a lock or for a server that has stopped to work."""

DIALECTS = ("sqlite", "postgresql")
"""Databases whose locks were tried: what is counted once hangs on them."""

_DRIVER, _DRIVER_EXTRA = "psycopg", "postgresql"


@final
class Database:
    """An engine, and what differs between the databases it may speak to.

    *Thread safety*: none but of ``after_fork``; one thread at a time writes and reads.

    Args:
        engine_or_url: An engine, which stays the caller's, or the URL of a database.

    Raises:
        InvalidArgumentError: No URL, or one of a database that is not supported.
        MissingExtraError: The driver is not installed.
    """

    def __init__(self, engine_or_url: sa.Engine | sa.URL | str) -> None:
        self._is_own = not isinstance(engine_or_url, sa.Engine)
        self._engine = engine_or_url if isinstance(engine_or_url, sa.Engine) else _engine(_url(engine_or_url))
        _check_dialect(self._engine.url)
        self._file = _file_of(self._engine.url)
        self._identity: tuple[int, int] | None = None
        self._left_behind: list[object] = []

    @property
    def name(self) -> str:
        """The URL without its password."""
        return self._engine.url.render_as_string(hide_password=True)

    @property
    def is_sqlite(self) -> bool:
        return self._engine.dialect.name == "sqlite"

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection to read with."""
        with self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A connection in a transaction, which is committed at the end, or rolled back after an exception."""
        self._reopen_if_moved()
        with self._engine.connect() as connection, connection.begin():
            driver: Any = connection.connection.driver_connection
            if self.is_sqlite and not driver.in_transaction:
                # The lock is taken at once. SQLite would else let two read and then refuse the second to write.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    def close(self) -> None:
        """Close the connections, unless the engine is the caller's."""
        if self._is_own:
            self._engine.dispose()

    def after_fork(self) -> None:
        """Leave the parent's connections to the parent."""
        # Held, for closing them would speak to the server on the parent's sockets.
        self._left_behind.append(self._engine.pool)
        self._engine.dispose(close=False)

    def _reopen_if_moved(self) -> None:
        """A file that was removed or replaced goes on existing for those who have it open; nobody else sees it."""
        if self._file is None:
            return
        try:
            found = os.stat(self._file)
            identity = (found.st_dev, found.st_ino)
        except FileNotFoundError:
            identity = None
        if self._identity is not None and identity != self._identity:
            self._engine.dispose()
        if identity != self._identity or identity is None:
            with self._engine.connect():
                pass
            found = os.stat(self._file)
            self._identity = (found.st_dev, found.st_ino)


def brief(error: BaseException) -> str:
    """What went wrong in one line, without statements and their values."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    lines = str(cause).strip().splitlines() or [""]
    return f"{type(cause).__name__}: {lines[0]}"


def _url(value: Any) -> sa.URL:
    try:
        return sa.make_url(value)
    except (ArgumentError, ValueError) as error:
        raise _no_database(value) from error


def _no_database(value: object) -> InvalidArgumentError:
    return InvalidArgumentError(
        "engine_or_url", value, "an Engine of SQLAlchemy, or the URL of a SQLite or PostgreSQL database",
        hint="For example 'sqlite:///metrics.db' or 'postgresql+psycopg://user@host/database'.",
    )  # fmt: skip


def _check_dialect(url: sa.URL) -> None:
    try:
        is_async = url.get_dialect().is_async
    except NoSuchModuleError as error:
        raise _no_database(url) from error
    if url.get_backend_name() not in DIALECTS or is_async:
        raise _no_database(url)


def _engine(url: sa.URL) -> sa.Engine:
    _check_dialect(url)
    try:
        if url.get_backend_name() == "sqlite":
            return _sqlite_engine(url)
        return sa.create_engine(url, pool_size=1, hide_parameters=True, connect_args=_patience(url))
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or _DRIVER, _DRIVER_EXTRA, f"A database at {url!r}") from error


def _patience(url: sa.URL) -> dict[str, Any]:
    if url.get_driver_name() != _DRIVER or "options" in url.query:
        return {}
    return {"connect_timeout": CONNECT_SECONDS, "options": f"-c statement_timeout={STATEMENT_MS}"}


def _sqlite_engine(url: sa.URL) -> sa.Engine:
    options: dict[str, Any] = {"check_same_thread": False}
    if "timeout" not in url.query:
        options["timeout"] = SQLITE_BUSY_SECONDS
    if _file_of(url) is None and not url.query:
        # In memory there is one database for each connection: all must share one.
        return sa.create_engine(url, poolclass=StaticPool, hide_parameters=True, connect_args=options)
    engine = sa.create_engine(url, pool_size=1, hide_parameters=True, connect_args=options)
    sa.event.listen(engine, "connect", _set_up_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _record: object) -> None:
    # Readers and the writer do not wait for each other then, and a commit does not wait for the disk. A database that
    # may not be written, or is locked at this moment, stays as it is.
    with suppress(connection.OperationalError):
        connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _file_of(url: sa.URL) -> str | None:
    """The path of a SQLite file, None where there is none or it is hidden in a URI."""
    path = url.database
    if url.get_backend_name() != "sqlite" or not path or path == ":memory:" or path.startswith("file:"):
        return None
    return path
