"""What other processes wrote, and what goes wrong."""

from __future__ import annotations

import logging
from typing import final

import sqlalchemy as sa

from mlserve.clocks import Clock
from mlserve.integrations._sql_documents import from_document
from mlserve.integrations._sql_engine import brief
from mlserve.integrations._sql_records import Baselines, DriftLog, StoredBaseline
from mlserve.integrations._sql_store import BaselineHead, Head, Store
from mlserve.monitors import InMemoryModelMonitor
from mlserve.records import DriftEvent, MonitorSnapshot

_log = logging.getLogger(__name__)

LOG_EVERY_SECONDS = 60.0
"""What keeps failing is logged this often."""


@final
class Complaints:
    """Warnings in the log, of each kind at most one a minute.

    *Thread safety*: none is needed: two at once log twice.

    Args:
        database: What they are about.
        clock: Tells the minutes.
    """

    def __init__(self, database: str, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._next: dict[str, float] = {}

    def about(self, what: str, error: BaseException, times: int) -> None:
        """Something failed, so many times so far."""
        now = self._clock.monotonic()
        if now >= self._next.get(what, now):
            self._next[what] = now + LOG_EVERY_SECONDS
            _log.warning(
                "could not %s %s (%d times so far): %s; predictions go on", what, self._database, times, brief(error)
            )


@final
class OtherProcesses:
    """Brings what other processes wrote into the monitor of this one: counts, baselines, drift events.

    What cannot be read, because it was damaged or a newer mlserve wrote it, is left out and counted.

    *Thread safety*: one thread at a time.

    Args:
        store: What is said to the database.
        monitor: The monitor of this process.
        source: Its name.
        baselines: Takes baselines.
        drift: Takes drift events.
        complaints: Takes what could not be read.
    """

    def __init__(
        self,
        store: Store,
        monitor: InMemoryModelMonitor,
        source: str,
        baselines: Baselines,
        drift: DriftLog,
        complaints: Complaints,
    ) -> None:
        self._store = store
        self._monitor = monitor
        self._source = source
        self._baselines = baselines
        self._drift = drift
        self._complaints = complaints
        self._sequences: dict[str, int] = {}
        self._drift_numbers: dict[str, int] = {}
        self._unreadable_baselines: frozenset[BaselineHead] = frozenset()
        self.unreadable = 0

    def read(self, connection: sa.Connection, since: int) -> None:
        """Take in what is new, of processes that wrote something since a moment, microseconds since 1970."""
        # Baselines first: they lay out the cells in which the others counted their inputs.
        self._read_baselines(connection)
        heads = self._store.other_heads(connection, self._source, since)
        for head in heads:
            self._read_log(connection, head)
        sources = {head.source for head in heads}
        for known in (self._sequences, self._drift_numbers):
            for gone in known.keys() - sources:
                del known[gone]

    def _read_log(self, connection: sa.Connection, head: Head) -> None:
        known = self._sequences.get(head.source, 0)
        if head.sequence > known:
            for sequence, payload in self._store.snapshots(connection, head.source, known):
                try:
                    self._monitor.merge(MonitorSnapshot.from_bytes(payload))
                except Exception as error:
                    self._leave_out(error)
                self._sequences[head.source] = sequence
            # Also where rows are missing, so that they are not asked for again.
            self._sequences[head.source] = max(head.sequence, self._sequences.get(head.source, 0))
        known = self._drift_numbers.get(head.source, 0)
        if head.drift_number > known:
            for number, payload in self._store.drift_events(connection, head.source, known):
                try:
                    self._drift.learn(_drift_event(payload))
                except Exception as error:
                    self._leave_out(error)
                self._drift_numbers[head.source] = number
            self._drift_numbers[head.source] = max(head.drift_number, self._drift_numbers.get(head.source, 0))

    def _read_baselines(self, connection: sa.Connection) -> None:
        heads = self._store.baseline_heads(connection)
        unreadable = self._unreadable_baselines & set(heads)
        for head in self._baselines.news(heads):
            payload = None if head in unreadable else self._store.baseline(connection, head)
            if payload is None:
                continue
            try:
                self._baselines.learn(StoredBaseline.from_bytes(head, payload))
            except Exception as error:
                unreadable |= {head}
                self._leave_out(error)
        self._unreadable_baselines = frozenset(unreadable)

    def _leave_out(self, error: Exception) -> None:
        self.unreadable += 1
        self._complaints.about("read a row of", error, self.unreadable)


def _drift_event(payload: bytes) -> DriftEvent:
    event = from_document(payload)
    if not isinstance(event, DriftEvent):
        raise ValueError(f"a {type(event).__qualname__} instead of a drift event")
    return event
