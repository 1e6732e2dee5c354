"""A monitor that survives a restart and is shared by processes: counts in a SQLite or PostgreSQL database."""

from __future__ import annotations

import threading
import uuid
import weakref
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypedDict, final

import attrs
from typing_extensions import Self, Unpack, override

from mlserve._buckets import MICROSECOND, Resolution
from mlserve._forking import renew_after_fork
from mlserve.clocks import Clock, SystemClock, timestamps
from mlserve.errors import InvalidArgumentError, MissingExtraError
from mlserve.monitors import InMemoryModelMonitor
from mlserve.monitors._baselines import as_input_sample, checked_predictions
from mlserve.monitors._blocks import EPOCH
from mlserve.monitors._copying import Copier
from mlserve.monitors._memory import DEFAULT_RESOLUTIONS
from mlserve.protocols import BaselineMonitor, CumulativeMonitor, LabelledMonitor
from mlserve.records import ModelMetrics, PredictionSample

try:
    import sqlalchemy as sa
except ModuleNotFoundError as _error:  # pragma: no cover  # tested in an interpreter of its own
    raise MissingExtraError("sqlalchemy", "sql", "SqlModelMonitor") from _error

from mlserve.integrations._sql_documents import plain_sample
from mlserve.integrations._sql_engine import Database
from mlserve.integrations._sql_front import MemoryFront, SqlMonitorStatistics
from mlserve.integrations._sql_outcomes import SharedOutcomes
from mlserve.integrations._sql_records import Baselines, DriftLog
from mlserve.integrations._sql_schema import Tables
from mlserve.integrations._sql_sync import Synchroniser
from mlserve.integrations._sql_worker import InlineWorker, Task, ThreadWorker, Worker

if TYPE_CHECKING:
    from mlserve.records import DriftEvent

__all__ = ["MemoryOptions", "SqlModelMonitor", "SqlMonitorStatistics"]

READ_PATIENCE_SECONDS = 0.2
"""How long a read waits for what other processes wrote. After it the read answers from what is known."""

EXIT_PATIENCE_SECONDS = 5.0
"""How long the end of the process waits for the last write."""


class MemoryOptions(TypedDict, total=False):
    """What ``SqlModelMonitor`` hands on to the ``InMemoryModelMonitor`` in it; see there."""

    resolutions: Sequence[Resolution]
    recent_requests: int
    sample_size: int
    pending_outcomes: int
    recent_events: int
    label_maturity: timedelta | None
    input_bins: int
    seed: int


@attrs.frozen(eq=False)
class _Life:
    """All that belongs to one process; a forked child begins another."""

    source: str
    baselines: Baselines
    drift: DriftLog
    outcomes: SharedOutcomes | None
    sync: Synchroniser


@final
class SqlModelMonitor(MemoryFront, LabelledMonitor, BaselineMonitor, CumulativeMonitor):
    """Counts in memory as ``InMemoryModelMonitor`` does, and shares them through a SQLite or PostgreSQL database.

    Recording never speaks to the database. A daemon thread writes what changed every ``flush_seconds``, as one row of
    counts whatever the traffic, and reads what other processes wrote when somebody reads here. Metrics, counted inputs,
    baselines and drift events then are those of all processes, the earlier lives of this one among them. What is kept
    raw stays with its process: samples of inputs and answers, and the ring of events.

    *Durability*: a process that is killed loses what it recorded since its last write: at most the last
    ``flush_seconds``, while the database keeps up. ``close`` and the ordinary end of the process write the rest.
    *Failure*: a database that is down, slow, locked or full costs no prediction anything; the thread tries again, later
    each time up to half a minute, and then writes all that is missing. A read waits for the database a fifth of a
    second at most and then answers from what is known. ``statistics`` tells of both.

    *Outcomes*: with ``share_outcomes`` a prediction also is a row until its true value comes, so that
    ``record_outcome`` may be called in any process and any later life; exactly one process counts each outcome, at its
    next write, or none if it is killed at that moment. An outcome whose prediction cannot be found at five writes
    counts as unknown, also when another process has counted it. Without ``share_outcomes`` an outcome must be told to
    the process that made the prediction, and a restart forgets what waits; single predictions are not written then.

    *Thread safety*: yes. *Ownership*: as ``InMemoryModelMonitor``. *Fork*: a child begins with no counts of its own,
    under a name of its own, and keeps the baselines. *Trust*: nothing that is read can run code; who may write to the
    tables can make counts wrong.

    Args:
        engine_or_url: An ``Engine`` of SQLAlchemy, which is used as it is and stays open, or the URL of a database:
            ``"sqlite:///metrics.db"``, ``"postgresql+psycopg://user@host/name"``. ``"sqlite://"`` is a database in
            memory, for tests.
        table_prefix: The names of the tables begin with it. They are made, and made newer, where needed.
        flush_seconds: The pause between two writes; None to write and read on the thread that calls ``flush``,
            ``close`` or a reading method only.
        refresh_seconds: What others wrote is read at most this often.
        share_outcomes: Whether outcomes are joined with their predictions in the database.
        max_queued: Predictions, and outcomes, that wait for the next write, at most.
        max_stored_predictions: Predictions of all processes that wait for their outcome in the database; beyond it the
            oldest are given up, about once a minute.
        clock: Where "now" comes from.
        **memory: What the monitor in memory takes, see ``InMemoryModelMonitor``; among it ``resolutions``, the last of
            which says how long anything is kept.

    Raises:
        InvalidArgumentError: No such database is supported, or a size or pause that is not positive.
        MissingExtraError: The database's driver is not installed.
        StoreSchemaError: A newer mlserve made the tables. A database that cannot be reached is no error.

    Example:
        >>> from mlserve.clocks import ManualClock
        >>> from mlserve.records import PredictionEvent
        >>> clock = ManualClock()
        >>> monitor = SqlModelMonitor("sqlite://", clock=clock)
        >>> monitor.record_prediction(PredictionEvent("a", "1", [1.0], 0, 2.0, clock.now()))
        >>> monitor.record_outcome("a", 1)
        >>> monitor.flush().flushes > 0
        True
        >>> metrics = monitor.get_model_metrics("1", timedelta(minutes=5))
        >>> metrics.request_count, metrics.accuracy
        (1, 0.0)
        >>> monitor.close()
    """

    def __init__(
        self,
        engine_or_url: sa.Engine | sa.URL | str,
        *,
        table_prefix: str = "mlserve_",
        flush_seconds: float | None = 1.0,
        refresh_seconds: float = 1.0,
        share_outcomes: bool = True,
        max_queued: int = 100_000,
        max_stored_predictions: int = 1_000_000,
        clock: Clock | None = None,
        **memory: Unpack[MemoryOptions],
    ) -> None:
        for name, seconds in (("flush_seconds", flush_seconds), ("refresh_seconds", refresh_seconds)):
            if seconds is not None and not 0 < seconds < float("inf"):
                raise InvalidArgumentError(name, seconds, "a positive number of seconds")
        for name, size in (("max_queued", max_queued), ("max_stored_predictions", max_stored_predictions)):
            if size < 1:
                raise InvalidArgumentError(name, size, "at least 1")
        self._clock: Clock = clock if clock is not None else SystemClock()
        self._timestamp = timestamps(self._clock)
        self._memory_options = memory
        self._flush_seconds = flush_seconds
        self._refresh_seconds = refresh_seconds
        self._max_queued = max_queued if share_outcomes else None
        self._max_stored_predictions = max_stored_predictions
        self._tables = Tables.named(table_prefix)
        self._database = Database(engine_or_url)
        self._is_closed = False
        self._begin()
        self._life.sync.open()
        self._start()
        renew_after_fork(self)

    def _begin(self) -> None:
        source = uuid.uuid4().hex
        memory = InMemoryModelMonitor(source=source, clock=self._clock, **self._memory_options)
        baselines, drift = Baselines(memory, source), DriftLog()
        outcomes = None if self._max_queued is None else SharedOutcomes(self._max_queued)
        if outcomes is not None:
            memory.forward_answers(outcomes.answered)
        sync = Synchroniser(
            self._database,
            self._tables,
            memory,
            source=source,
            baselines=baselines,
            drift=drift,
            outcomes=outcomes,
            clock=self._clock,
            retention=tuple(self._memory_options.get("resolutions", DEFAULT_RESOLUTIONS))[-1].retention,
            flush_seconds=self._flush_seconds or 0.0,
            most_predictions=self._max_stored_predictions,
        )
        self._memory = memory
        self._copier = Copier()
        self._life = _Life(source, baselines, drift, outcomes, sync)
        self._next_read = self._clock.monotonic() + self._refresh_seconds
        self._asked = threading.Event()
        self._asked.set()

    def _start(self) -> None:
        sync = self._life.sync
        self._worker: Worker = (
            InlineWorker(sync.perform)
            if self._flush_seconds is None
            else ThreadWorker(sync.perform, f"mlserve-sql-{self._life.source[:8]}")
        )
        self._finish = weakref.finalize(self, _finish, self._worker, self._database)

    def _after_fork(self) -> None:  # pragma: no cover  # runs in the forked child, where nothing measures; tested there
        self._finish.detach()
        self._database.after_fork()
        if not self._is_closed:
            parent = self._life
            self._begin()
            parent.baselines.hand_on(self._life.baselines)
            self._next_read = float("-inf")
            self._start()

    # ------------------------------------------------------------------------------------------------- recording

    @override
    def record_outcome(self, prediction_id: str, actual: Any) -> None:
        outcomes = self._life.outcomes
        if outcomes is None:
            self._memory.record_outcome(prediction_id, actual)
        else:
            outcomes.record(prediction_id, self._copier.copy(actual), self._timestamp())

    @override
    def record_drift_event(self, event: DriftEvent) -> None:
        self._memory.record_drift_event(event)
        self._life.drift.record(event)

    # --------------------------------------------------------------------------------------------------- reading

    @override
    def cumulative_metrics(self) -> tuple[ModelMetrics, ...]:
        """All that this process ever recorded, one ``ModelMetrics`` for each version, with ``window`` None.

        What other processes recorded is theirs to tell: whoever collects counters collects them from each.
        """
        return self._memory.cumulative_metrics(with_merged=False)

    @override
    def set_baseline(
        self,
        version_id: str,
        *,
        metrics: ModelMetrics | None = None,
        inputs: Any = None,
        feature_names: Sequence[str] | None = None,
    ) -> None:
        sample = as_input_sample(inputs, feature_names)
        if metrics is not None:
            self._life.baselines.set(version_id, "metrics", metrics, self._now())
        if sample is not None:
            self._life.baselines.set(version_id, "inputs", plain_sample(sample), self._now())

    @override
    def set_baseline_predictions(self, version_id: str, predictions: PredictionSample) -> None:
        self._life.baselines.set(version_id, "predictions", checked_predictions(predictions), self._now())

    @override
    def capture_baseline(self, version_id: str, window: timedelta) -> None:
        memory = self._fresh()
        inputs_before = memory.get_baseline_input_distribution(version_id)
        memory.capture_baseline(version_id, window)
        inputs, predictions = (
            memory.get_baseline_input_distribution(version_id),
            memory.get_baseline_predictions(version_id),
        )
        captured = inputs if inputs is not inputs_before else None
        self.set_baseline(version_id, metrics=memory.get_baseline_metrics(version_id), inputs=captured)
        if predictions is not None:
            self.set_baseline_predictions(version_id, predictions)

    def drift_events(self, version_id: str | None = None) -> Sequence[DriftEvent]:
        """Drift events of all processes, oldest first; of one version, or of all."""
        self._fresh()
        return self._life.drift.events(version_id)

    def statistics(self) -> SqlMonitorStatistics:
        """Counters since the monitor was built, or since the process was forked. Does not ask the database."""
        life, sync, outcomes = self._life, self._life.sync, self._life.outcomes
        own = attrs.asdict(self._memory.statistics())
        queued = queue_dropped = unstorable = 0
        if outcomes is not None:
            own["unknown_outcomes"] += outcomes.unknown
            own["duplicate_outcomes"] += outcomes.duplicates
            own["mismatched_outcomes"] += outcomes.mismatched
            own["uncopied"] += self._copier.uncopied.value
            queued, queue_dropped, unstorable = outcomes.queued, outcomes.dropped, outcomes.unstorable
        last = sync.last_flush
        return SqlMonitorStatistics(
            **own,
            source=life.source,
            flushes=sync.flushes,
            flush_errors=sync.flush_errors,
            last_flush_age_seconds=None if last is None else self._clock.monotonic() - last,
            reads=sync.reads,
            read_errors=sync.read_errors,
            unreadable=sync.unreadable,
            unstorable=unstorable + sync.unstorable,
            queued=queued,
            queue_dropped=queue_dropped + life.drift.dropped,
        )

    # ------------------------------------------------------------------------------------------- writing, closing

    def flush(self, timeout: float | None = None) -> SqlMonitorStatistics:
        """Write what is new, and read what others wrote, now.

        Args:
            timeout: Seconds to wait; None for as long as it takes, which for a database that does not answer can be a
                minute.

        Returns:
            The counters after it: ``flushes`` has risen if all was written, ``flush_errors`` if it could not be.
        """
        self._worker.ask(Task.WRITE, Task.READ).wait(timeout)
        return self.statistics()

    def close(self, timeout: float = EXIT_PATIENCE_SECONDS) -> None:
        """Write what is new and stop writing. What is recorded later counts in this process only.

        Args:
            timeout: Seconds to wait for the database.
        """
        self._is_closed = True
        self._finish.detach()
        _finish(self._worker, self._database, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @override
    def _fresh(self) -> InMemoryModelMonitor:
        """The monitor in memory, with what others wrote if that was read long enough ago."""
        # While an earlier reader's wish is not fulfilled, others do not wait for theirs.
        if self._clock.monotonic() >= self._next_read and self._asked.is_set():
            self._next_read = self._clock.monotonic() + self._refresh_seconds
            self._asked = self._worker.ask(Task.READ_UNLESS_RESTING)
            self._asked.wait(READ_PATIENCE_SECONDS)
        return self._memory

    def _now(self) -> int:
        return (self._clock.now() - EPOCH) // MICROSECOND


def _finish(worker: Worker, database: Database, patience: float = EXIT_PATIENCE_SECONDS) -> None:
    if worker.close(patience):
        database.close()
