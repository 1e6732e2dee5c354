"""The tables of a monitor in a database: what they hold, and how older ones become the present ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs
import sqlalchemy as sa

from mlserve.errors import InvalidArgumentError, StoreSchemaError
from mlserve.integrations._sql_engine import Database

LONGEST_PREFIX = 32
"""PostgreSQL cuts names off at 63 characters, those of indexes included."""

_PREFIX = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@attrs.frozen(eq=False)
class Tables:
    """The tables. Times are microseconds since 1970; whatever a caller can name stands within a payload or a key.

    Attributes:
        schema: One row: the version of the tables.
        sources: One row for each process that wrote: how far its log goes.
        snapshots: The log of each process: counts that changed between two of its changes.
        baselines: What versions are compared with, one row for each part.
        drift_events: Drifts that were found.
        predictions: Predictions that wait for their true value.
    """

    metadata: sa.MetaData
    schema: sa.Table
    sources: sa.Table
    snapshots: sa.Table
    baselines: sa.Table
    drift_events: sa.Table
    predictions: sa.Table

    @classmethod
    def named(cls, prefix: str) -> Tables:
        """The tables whose names begin with a prefix.

        Raises:
            InvalidArgumentError: It is no plain name, or too long.
        """
        if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix) or len(prefix) > LONGEST_PREFIX:
            raise InvalidArgumentError(
                "table_prefix", prefix, f"letters, digits and underscores, {LONGEST_PREFIX} at most",
                hint="For example 'fraud_'.",
            )  # fmt: skip
        metadata = sa.MetaData()

        def table(name: str, *columns: sa.Column[Any]) -> sa.Table:
            return sa.Table(f"{prefix}{name}", metadata, *columns)

        def whole(name: str, *, is_key: bool = False, index: bool | None = None) -> sa.Column[int]:
            return sa.Column(name, sa.BigInteger, primary_key=is_key, index=index, nullable=False, autoincrement=False)

        def text(name: str, *, is_key: bool = False) -> sa.Column[str]:
            return sa.Column(name, sa.Text, primary_key=is_key, nullable=False)

        def payload() -> sa.Column[bytes]:
            return sa.Column("payload", sa.LargeBinary, nullable=False)

        return cls(
            metadata,
            schema=table("schema", whole("id", is_key=True), whole("version")),
            sources=table(
                "sources", text("source", is_key=True), whole("batch"), whole("sequence"), whole("drift_number"),
                whole("written_at"),
            ),
            snapshots=table(
                "snapshots", text("source", is_key=True), whole("sequence", is_key=True), payload()
            ),
            baselines=table(
                "baselines", text("version_key", is_key=True), text("part", is_key=True), whole("set_at"),
                text("source"), payload(),
            ),
            drift_events=table(
                "drift_events", text("source", is_key=True), whole("number", is_key=True),
                whole("detected_at", index=True), payload(),
            ),
            predictions=table(
                "predictions", text("prediction_key", is_key=True), whole("predicted_at", index=True),
                text("payload"),
            ),
        )  # fmt: skip


def _create(connection: sa.Connection, tables: Tables) -> None:
    # When a second step comes, this one must go on making the tables as they are now.
    tables.metadata.create_all(connection, checkfirst=True)


STEPS: Final[Sequence[Callable[[sa.Connection, Tables], None]]] = (_create,)
"""What makes tables of version n into those of version n + 1; a database without any is of version 0."""

VERSION: Final = len(STEPS)

_ONE = 1
"""The id of the one row of the schema table."""


def prepare(database: Database, tables: Tables) -> None:
    """See to it that the tables are there and of the present version.

    Several processes may do so at once. A database that is ready is only read.

    Raises:
        StoreSchemaError: A newer mlserve made them; nothing was changed.
    """
    with database.reading() as connection:
        is_ready = _version(connection, tables, database) == VERSION and _all_there(connection, tables)
    if is_ready:
        return
    with database.writing() as connection:
        # Two that create the same table at once would both find that it is not there.
        database.lock(connection, tables.schema.name)
        found = _version(connection, tables, database)
        for step in STEPS[found:]:
            step(connection, tables)
        # What somebody dropped is made anew.
        tables.metadata.create_all(connection, checkfirst=True)
        connection.execute(sa.delete(tables.schema))
        connection.execute(sa.insert(tables.schema).values(id=_ONE, version=VERSION))


def _version(connection: sa.Connection, tables: Tables, database: Database) -> int:
    if not sa.inspect(connection).has_table(tables.schema.name):
        return 0
    found = connection.execute(sa.select(sa.func.max(tables.schema.c.version))).scalar() or 0
    if found > VERSION:
        raise StoreSchemaError(f"{database.name}, table {tables.schema.name},", found, VERSION)
    return int(found)


def _all_there(connection: sa.Connection, tables: Tables) -> bool:
    inspector = sa.inspect(connection)
    return all(inspector.has_table(name) for name in tables.metadata.tables)
