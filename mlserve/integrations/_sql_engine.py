"""A database that may go away: how it is opened, written in transactions, and let go of in a forked child."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, final
from zlib import crc32

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
            self.limit(connection)
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A connection in a transaction, which is committed at the end, or rolled back after an exception."""
        with self._engine.connect() as connection, connection.begin():
            driver: Any = connection.connection.driver_connection
            if self.is_sqlite and not driver.in_transaction:
                # The lock is taken at once. SQLite would else let two read and then refuse the second to write.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            self.limit(connection)
            yield connection

    def reopen_if_moved(self) -> bool:
        """Whether the file is another than before; it is opened anew then.

        One that was removed or replaced goes on existing for those who have it open, and nobody else sees it.
        """
        if self._file is None:
            return False
        known, self._identity = self._identity, _identity_of(self._file)
        if known in (None, self._identity):
            return False
        self._engine.dispose()
        return True

    def close(self) -> None:
        """Close the connections, unless the engine is the caller's."""
        if self._is_own:
            self._engine.dispose()

    def after_fork(self) -> None:  # pragma: no cover  # runs in the forked child, where nothing measures; tested there
        """Leave the parent's connections to the parent."""
        # Held, for closing them would speak to the server on the parent's sockets.
        self._left_behind.append(self._engine.pool)
        self._engine.dispose(close=False)

    def limit(self, connection: sa.Connection) -> None:
        """Give up statements of this transaction that take too long; a SQLite file has no server that could hang."""
        if self._is_own and not self.is_sqlite:
            connection.execute(sa.text(f"SET LOCAL statement_timeout = {STATEMENT_MS}"))

    def lock(self, connection: sa.Connection, name: str) -> None:
        """Wait until no other transaction holds a name. In SQLite there is no other transaction that writes."""
        if not self.is_sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(crc32(name.encode()))))


def _identity_of(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def brief(error: BaseException) -> str:
    """What went wrong in one line, without statements and their values."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    lines = str(cause).strip().splitlines() or [""]
    return f"{type(cause).__name__}: {lines[0]}"


def _url(value: Any) -> sa.URL:
    if not isinstance(value, (str, sa.URL)):
        raise _no_database(value)
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
        if url.get_driver_name() == _DRIVER:
            raise MissingExtraError(_DRIVER, _DRIVER_EXTRA, f"A database at {url!r}") from error
        raise InvalidArgumentError(
            "engine_or_url", url, "a database whose driver is installed",
            hint=f"Install {error.name}, or write 'postgresql+{_DRIVER}://' and install 'mlserve[{_DRIVER_EXTRA}]'.",
        ) from error  # fmt: skip


def _patience(url: sa.URL) -> dict[str, Any]:
    if url.get_driver_name() != _DRIVER:
        return {}
    limits = {"connect_timeout": CONNECT_SECONDS, "tcp_user_timeout": STATEMENT_MS}
    return {name: value for name, value in limits.items() if name not in url.query}


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
    """The path of a SQLite file, whatever directory is the current one later; None without one, or within a URI."""
    path = url.database
    if url.get_backend_name() != "sqlite" or not path or path == ":memory:" or path.startswith("file:"):
        return None
    return os.path.abspath(path)
