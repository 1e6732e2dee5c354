"""What one process writes to the database and reads from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TypeVar, final

import attrs

from mlserve._buckets import MICROSECOND, microseconds
from mlserve.clocks import Clock
from mlserve.errors import StoreSchemaError
from mlserve.integrations._sql_documents import to_document
from mlserve.integrations._sql_engine import Database
from mlserve.integrations._sql_outcomes import SharedOutcomes
from mlserve.integrations._sql_pieces import Pieces, Plan
from mlserve.integrations._sql_reading import Complaints, OtherProcesses
from mlserve.integrations._sql_records import MOST_DRIFT_EVENTS, Baselines, DriftLog, StoredBaseline, moment_of
from mlserve.integrations._sql_schema import Tables, prepare
from mlserve.integrations._sql_store import Head, Store
from mlserve.integrations._sql_worker import Task
from mlserve.monitors import InMemoryModelMonitor
from mlserve.monitors._blocks import EPOCH
from mlserve.records import MonitorSnapshot

T = TypeVar("T")

HOUSEKEEPING_SECONDS = 60.0
"""Old rows are looked for this often by every process."""

LONGEST_DELAY_SECONDS = 30.0
"""A database that stays away is tried this often."""

SHORTEST_DELAY_SECONDS = 0.1
"""Where writing is asked for more often than this, a database that failed is left alone as long at least."""


@attrs.frozen(eq=False)
class Write:
    """One transaction of the log, as it will be known by.

    Attributes:
        head: How far the log goes with it.
        plan: Where its piece of the log begins; None where the traffic did not change.
        baselines: Those in it.
    """

    head: Head
    plan: Plan | None
    baselines: tuple[StoredBaseline, ...]


@final
class Synchroniser:
    """The two ways between the monitor of one process and the database.

    *Thread safety*: ``perform`` from one thread at a time; what it counts may be read from any.

    Args:
        database: Where to write.
        tables: Under which names.
        monitor: The monitor of this process.
        source: Its name.
        baselines: What versions are compared with.
        drift: Drift events.
        outcomes: Outcomes that are joined in the database; None where they are not.
        clock: For the time of day and for pauses.
        retention: How far back anything is kept.
        flush_seconds: The shortest pause between two writes.
        most_predictions: Predictions that wait in the database, at most.
    """

    def __init__(
        self,
        database: Database,
        tables: Tables,
        monitor: InMemoryModelMonitor,
        *,
        source: str,
        baselines: Baselines,
        drift: DriftLog,
        outcomes: SharedOutcomes | None,
        clock: Clock,
        retention: timedelta,
        flush_seconds: float,
        most_predictions: int,
    ) -> None:
        self._database = database
        self._tables = tables
        self._store = Store(tables)
        self._complaints = Complaints(database.name, clock)
        self._others = OtherProcesses(self._store, monitor, source, baselines, drift, self._complaints)
        self._monitor = monitor
        self._source = source
        self._baselines = baselines
        self._drift = drift
        self._outcomes = outcomes
        self._clock = clock
        self._retention = microseconds(retention)
        self._flush_seconds = flush_seconds
        self._most_predictions = most_predictions
        self._is_prepared = False
        self._pieces = Pieces()
        self._batch = 0
        self._doubt: Write | None = None
        self._next_housekeeping = clock.monotonic() + HOUSEKEEPING_SECONDS
        self._read_failures = self._write_failures = 0
        self._read_again_at = float("-inf")
        self.flushes = self.flush_errors = 0
        self.reads = self.read_errors = 0
        self.unstorable = 0
        self.last_flush: float | None = None
        """By the clock's ``monotonic``."""

    def open(self) -> None:
        """Read what others wrote, for the first time.

        Raises:
            StoreSchemaError: The tables are of a newer version. A database that cannot be reached is no error.
        """
        self._attempt_read(is_first=True)

    @property
    def unreadable(self) -> int:
        """Rows that were left out because they could not be read."""
        shared = 0 if self._outcomes is None else self._outcomes.unreadable
        return self._others.unreadable + shared

    def perform(self, tasks: frozenset[Task]) -> float:
        """Do some tasks; a failure is counted, and logged at most once a minute.

        Returns:
            Seconds after which to write the next time.
        """
        if tasks & {Task.WRITE, Task.CLOSE}:
            self._attempt_write(is_last=Task.CLOSE in tasks)
        is_resting = self._clock.monotonic() < self._read_again_at
        if Task.READ in tasks or (Task.READ_UNLESS_RESTING in tasks and not is_resting):
            self._attempt_read()
        return self._pause(self._write_failures)

    def _attempt_write(self, *, is_last: bool) -> None:
        try:
            self._write(is_last=is_last)
        except Exception as error:
            self._is_prepared = False
            self.flush_errors += 1
            self._write_failures += 1
            self._complaints.about("write to", error, self.flush_errors)
        else:
            self.flushes += 1
            self._write_failures = 0
            self.last_flush = self._clock.monotonic()

    def _attempt_read(self, *, is_first: bool = False) -> None:
        try:
            self._prepare()
            with self._database.reading() as connection:
                self._others.read(connection, self._now() - self._retention)
        except Exception as error:
            if is_first and isinstance(error, StoreSchemaError):
                raise
            self._is_prepared = False
            self.read_errors += 1
            self._read_failures += 1
            self._read_again_at = self._clock.monotonic() + self._pause(self._read_failures)
            self._complaints.about("read from", error, self.read_errors)
        else:
            self.reads += 1
            self._read_failures = 0
            self._read_again_at = float("-inf")

    def _pause(self, failures: int) -> float:
        if not failures:
            return self._flush_seconds
        shortest = max(self._flush_seconds, SHORTEST_DELAY_SECONDS)
        # 2 to the power of a few hundred failures is no float any more.
        return float(max(self._flush_seconds, min(shortest * 2 ** min(failures - 1, 32), LONGEST_DELAY_SECONDS)))

    def _prepare(self) -> None:
        if self._database.reopen_if_moved() or not self._is_prepared:
            prepare(self._database, self._tables)
            self._is_prepared = True

    # -------------------------------------------------------------------------------------------------- writing

    def _write(self, *, is_last: bool) -> None:
        if self._outcomes is not None:
            self._join_here(self._outcomes)
        self._prepare()
        with self._database.reading() as connection:
            stored = self._store.head(connection, self._source)
        self._reconcile(0 if stored is None else stored.batch)
        if self._outcomes is not None and self._outcomes.is_undecided:
            self._join_stored(self._outcomes)
        self._write_changes(is_last=is_last)
        if self._clock.monotonic() >= self._next_housekeeping:
            self._keep_house()

    def _reconcile(self, stored_batch: int) -> None:
        """Find out what became of the last transaction, and whether the database still has what was written."""
        if self._doubt is not None:
            if stored_batch == self._doubt.head.batch:
                self._committed(self._doubt)
            elif self._outcomes is not None:
                self._outcomes.resolve(was_committed=False)
            self._doubt = None
        if stored_batch != self._batch:
            # It was removed, or an older state of it came back: all that is held here is written again.
            self._pieces.lost()
            self._baselines.lost()
            self._drift.lost()

    def _join_here(self, outcomes: SharedOutcomes) -> None:
        self._monitor.events(limit=0)  # folds what was recorded
        joined = outcomes.joined_here()
        if joined:
            self._monitor.record_joined_outcomes(joined)

    def _join_stored(self, outcomes: SharedOutcomes) -> None:
        with self._database.writing() as connection:
            decision = outcomes.take_stored(connection, self._store)
        # Counted after the commit: a process that is killed between the two loses these outcomes, and nobody counts
        # one twice.
        outcomes.settle_stored(decision)
        if decision.joined:
            self._monitor.record_joined_outcomes(decision.joined)

    def _write_changes(self, *, is_last: bool) -> None:
        predictions = [] if self._outcomes is None else self._outcomes.rows()
        plan, snapshot = self._next_piece(is_last=is_last)
        set_here, found_here = self._baselines.unsaved(), self._drift.unsaved()
        baselines = self._encoded(set_here, StoredBaseline.to_bytes)
        drift = self._encoded(found_here, lambda numbered: to_document(numbered[1]))
        if snapshot is None and not predictions and not set_here and not found_here:
            return
        head = Head(
            self._source,
            self._batch + 1,
            self._pieces.last if snapshot is None else snapshot.sequence,
            found_here[-1][0] if found_here else self._drift.stored_until,
        )
        piece = None if snapshot is None else snapshot.to_bytes()
        write = Write(head, plan, tuple(set_here))
        with self._database.writing() as connection:
            if piece is not None and plan is not None:
                self._store.write_snapshot(connection, self._source, plan.after, head.sequence, piece)
            self._store.write_predictions(connection, predictions)
            for baseline, payload in baselines:
                self._store.write_baseline(connection, baseline.head, payload)
            self._store.write_drift_events(
                connection, self._source, [(number, moment_of(event), payload) for (number, event), payload in drift]
            )
            self._store.write_head(connection, head, self._now())
            # From here on nobody knows until the commit has answered.
            self._doubt = write
            if self._outcomes is not None:
                self._outcomes.doubt()
        self._committed(write)
        self._doubt = None

    def _next_piece(self, *, is_last: bool) -> tuple[Plan | None, MonitorSnapshot | None]:
        snapshot = self._monitor.snapshot(self._pieces.last)
        is_new = snapshot.sequence > self._pieces.last
        if is_last and (is_new or len(self._pieces) > 1):
            plan = self._pieces.whole()
        elif is_new:
            plan = self._pieces.plan()
        else:
            return None, None
        return plan, snapshot if plan.after == snapshot.after else self._monitor.snapshot(plan.after)

    def _committed(self, write: Write) -> None:
        self._batch = write.head.batch
        if write.plan is not None:
            self._pieces.written(write.plan, write.head.sequence)
        self._baselines.saved(write.baselines)
        self._drift.saved(write.head.drift_number)
        if self._outcomes is not None:
            self._outcomes.resolve(was_committed=True)

    def _encoded(self, records: Iterable[T], encode: Callable[[T], bytes]) -> list[tuple[T, bytes]]:
        """Records with their bytes; those that have none are counted and left out."""
        encoded = []
        for record in records:
            try:
                encoded.append((record, encode(record)))
            except Exception as error:  # a baseline may hold anything
                self.unstorable += 1
                self._complaints.about("store a record in", error, self.unstorable)
        return encoded

    def _keep_house(self) -> None:
        self._next_housekeeping = self._clock.monotonic() + HOUSEKEEPING_SECONDS
        since = self._now() - self._retention
        with self._database.writing() as connection:
            self._store.trim(connection, self._most_predictions, MOST_DRIFT_EVENTS, since)
            self._store.forget_sources(connection, since)

    def _now(self) -> int:
        return (self._clock.now() - EPOCH) // MICROSECOND
