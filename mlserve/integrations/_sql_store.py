"""What is said to the database: one function for each thing that is written or read, within the caller's connection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from mlserve.integrations._sql_schema import Tables

KEYS_AT_ONCE = 500
"""Values of one ``IN``; SQLite takes no more than 999 in older versions."""


class Head(NamedTuple):
    """How far the log of a process goes.

    Attributes:
        source: The process.
        batch: Number of its last write.
        sequence: The last change of its monitor that is in the log.
        drift_number: Number of its last drift event.
    """

    source: str
    batch: int
    sequence: int
    drift_number: int


class BaselineHead(NamedTuple):
    """Which baseline is stored.

    Attributes:
        version_key: The key of its version.
        part: Metrics, inputs or predictions.
        set_at: When it was set; the newest wins.
        source: Who set it; between two set at the same moment the larger name wins.
    """

    version_key: str
    part: str
    set_at: int
    source: str

    @property
    def age(self) -> tuple[int, str]:
        """What two of the same version and part are ordered by."""
        return self.set_at, self.source


@final
class Store:
    """The statements of one set of tables.

    *Thread safety*: yes; all that changes is in the database.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    # -------------------------------------------------------------------------------------------------- sources

    def head(self, connection: sa.Connection, source: str) -> Head | None:
        """How far the log of a process goes; None where nothing is known of it."""
        table = self._tables.sources
        row = connection.execute(_heads(table).where(table.c.source == source)).one_or_none()
        return None if row is None else Head(*row)

    def other_heads(self, connection: sa.Connection, source: str, since: int) -> list[Head]:
        """The same of all other processes that wrote since a moment."""
        table = self._tables.sources
        chosen = _heads(table).where(table.c.source != source, table.c.written_at > since)
        return [Head(*row) for row in connection.execute(chosen)]

    def write_head(self, connection: sa.Connection, head: Head, now: int) -> None:
        """Say how far the own log goes."""
        values = {**head._asdict(), "written_at": now}
        connection.execute(_upsert(connection, self._tables.sources, ["source"]), values)

    def forget_sources(self, connection: sa.Connection, since: int) -> None:
        """Let go of the logs of processes that wrote nothing since a moment."""
        sources, snapshots = self._tables.sources, self._tables.snapshots
        connection.execute(sa.delete(sources).where(sources.c.written_at <= since))
        connection.execute(sa.delete(snapshots).where(snapshots.c.source.not_in(sa.select(sources.c.source))))

    # ------------------------------------------------------------------------------------------------ snapshots

    def write_snapshot(self, connection: sa.Connection, source: str, after: int, sequence: int, payload: bytes) -> None:
        """Add a piece to the log of a process, in place of all pieces that lie after the change it begins with."""
        table = self._tables.snapshots
        connection.execute(sa.delete(table).where(table.c.source == source, table.c.sequence > after))
        connection.execute(sa.insert(table), {"source": source, "sequence": sequence, "payload": payload})

    def snapshots(self, connection: sa.Connection, source: str, after: int) -> Iterator[tuple[int, bytes]]:
        """The pieces of a process's log after a change, in order: the number of the last change in it, and its bytes.

        A piece that replaced others begins before that change and goes beyond it; it is one of these.
        """
        table = self._tables.snapshots
        chosen = (
            sa.select(table.c.sequence, table.c.payload)
            .where(table.c.source == source, table.c.sequence > after)
            .order_by(table.c.sequence)
        )
        for sequence, payload in connection.execute(chosen):
            yield int(sequence), bytes(payload)

    # ------------------------------------------------------------------------------------ baselines, drift events

    def write_baseline(self, connection: sa.Connection, head: BaselineHead, payload: bytes) -> None:
        """Store a baseline, unless a newer one of its kind is there."""
        table = self._tables.baselines
        statement = _insert(connection, table)
        statement = statement.on_conflict_do_update(
            index_elements=["version_key", "part"],
            set_={name: statement.excluded[name] for name in ("set_at", "source", "payload")},
            where=sa.or_(
                table.c.set_at < statement.excluded.set_at,
                sa.and_(table.c.set_at == statement.excluded.set_at, table.c.source < statement.excluded.source),
            ),
        )
        connection.execute(statement, {**head._asdict(), "payload": payload})

    def baseline_heads(self, connection: sa.Connection) -> list[BaselineHead]:
        """Which baselines are stored."""
        columns = self._tables.baselines.c
        chosen = sa.select(columns.version_key, columns.part, columns.set_at, columns.source)
        return [BaselineHead(*row) for row in connection.execute(chosen)]

    def baseline(self, connection: sa.Connection, head: BaselineHead) -> bytes | None:
        """A stored baseline; None where another one has replaced it."""
        columns = self._tables.baselines.c
        chosen = sa.select(columns.payload).where(
            columns.version_key == head.version_key,
            columns.part == head.part,
            columns.set_at == head.set_at,
            columns.source == head.source,
        )
        payload = connection.execute(chosen).scalar_one_or_none()
        return None if payload is None else bytes(payload)

    def write_drift_events(
        self, connection: sa.Connection, source: str, events: Iterable[tuple[int, int, bytes]]
    ) -> None:
        """Store drifts: number, moment, bytes of each."""
        rows = [
            {"source": source, "number": number, "detected_at": at, "payload": payload}
            for number, at, payload in events
        ]
        if rows:
            connection.execute(_insert(connection, self._tables.drift_events).on_conflict_do_nothing(), rows)

    def drift_events(self, connection: sa.Connection, source: str, after: int) -> Iterator[tuple[int, bytes]]:
        """The drifts that a process stored after one of them, in order: number and bytes of each."""
        table = self._tables.drift_events
        chosen = (
            sa.select(table.c.number, table.c.payload)
            .where(table.c.source == source, table.c.number > after)
            .order_by(table.c.number)
        )
        for number, payload in connection.execute(chosen):
            yield int(number), bytes(payload)

    # ---------------------------------------------------------------------------------------------- predictions

    def write_predictions(self, connection: sa.Connection, rows: Sequence[tuple[str, int, str]]) -> None:
        """Store predictions that wait: key, moment, answer. One whose key is known already changes nothing."""
        if not rows:
            return
        table = self._tables.predictions
        if connection.dialect.name == "sqlite":
            # By hand: making a dictionary of each row, and a row again of that, would cost as much as all the rest.
            connection.exec_driver_sql(
                f'INSERT OR IGNORE INTO "{table.name}" (prediction_key, predicted_at, payload) VALUES (?, ?, ?)', rows
            )
        else:
            keys, times, answers = (list(column) for column in zip(*rows, strict=True))
            connection.execute(_insert_columns(table), {"keys": keys, "times": times, "answers": answers})

    def locked_predictions(self, connection: sa.Connection, keys: Sequence[str]) -> dict[str, tuple[int, str]]:
        """Predictions that wait, by key: moment and answer. Until the transaction ends nobody else can take them.

        Of several processes that ask for the same one, the second waits for the first and then does not find what
        that took.
        """
        columns = self._tables.predictions.c
        found: dict[str, tuple[int, str]] = {}
        for some in _chunks(sorted(keys)):  # in one order, so that two never wait for each other
            chosen = (
                sa.select(columns.prediction_key, columns.predicted_at, columns.payload)
                .where(columns.prediction_key.in_(some))
                .order_by(columns.prediction_key)
                .with_for_update()
            )
            found |= {str(key): (int(time), str(answer)) for key, time, answer in connection.execute(chosen)}
        return found

    def forget_predictions(self, connection: sa.Connection, keys: Sequence[str]) -> None:
        """Let go of predictions that have their true value."""
        table = self._tables.predictions
        for some in _chunks(keys):
            connection.execute(sa.delete(table).where(table.c.prediction_key.in_(some)))

    # ----------------------------------------------------------------------------------------------- old things

    def trim(self, connection: sa.Connection, most_predictions: int, most_drift_events: int, since: int) -> None:
        """Let go of what happened before a moment, and of the oldest where there is too much."""
        predictions, drift_events = self._tables.predictions, self._tables.drift_events
        for table, time, most in (
            (predictions, predictions.c.predicted_at, most_predictions),
            (drift_events, drift_events.c.detected_at, most_drift_events),
        ):
            oldest_to_keep = sa.select(time).order_by(time.desc()).offset(most - 1).limit(1)
            oldest = connection.execute(oldest_to_keep).scalar()
            is_old = time <= since if oldest is None else sa.or_(time <= since, time < oldest)
            connection.execute(sa.delete(table).where(is_old))


def _heads(table: sa.Table) -> sa.Select[Any]:
    return sa.select(table.c.source, table.c.batch, table.c.sequence, table.c.drift_number)


def _insert(connection: sa.Connection, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def _upsert(connection: sa.Connection, table: sa.Table, keys: Sequence[str]) -> sqlite.Insert | postgresql.Insert:
    statement = _insert(connection, table)
    others = [column.name for column in table.columns if column.name not in keys]
    return statement.on_conflict_do_update(
        index_elements=keys, set_={name: statement.excluded[name] for name in others}
    )


def _insert_columns(table: sa.Table) -> postgresql.Insert:
    """Many rows as three arrays: a statement for each row would take ten times as long."""
    columns = (
        sa.func.unnest(
            sa.bindparam("keys", type_=postgresql.ARRAY(sa.Text)),
            sa.bindparam("times", type_=postgresql.ARRAY(sa.BigInteger)),
            sa.bindparam("answers", type_=postgresql.ARRAY(sa.Text)),
        )
        .table_valued("prediction_key", "predicted_at", "payload")
        .render_derived()
    )
    names = ["prediction_key", "predicted_at", "payload"]
    return postgresql.insert(table).from_select(names, sa.select(columns)).on_conflict_do_nothing()


def _chunks(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), KEYS_AT_ONCE):
        yield keys[start : start + KEYS_AT_ONCE]
