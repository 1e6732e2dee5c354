"""Counters of a server and of a monitor, for whoever asks."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from mlserve.records._values import FrozenMapping


@attrs.frozen
class ServerStatistics:
    """Counters of one server since it was built. ``accepted == answered + shed + cancelled + in_flight`` at rest.

    Attributes:
        accepted: Requests taken in; each input of ``predict_many`` is one.
        answered: Requests answered, failures included.
        failed: Of the answered, those without success.
        degraded: Of the answered, those that a fallback answered.
        shed: Requests refused because too many were under way or waiting.
        cancelled: Awaiting callers that went away, and calls left by an exception that is no ``Exception``.
        in_flight: Requests not answered yet.
        timed_out: Of the failed, those that were not answered in time.
        batches: Calls of models that answered more than one request.
        batched: Requests answered by them.
        fallback_errors: Fallbacks that could not answer either.
        router_errors: Requests whose router raised or chose what is no version; the latest version answered.
        breakers: State of each loaded version's circuit breaker, where there are breakers, from its first request on.
        leases: Calls holding a model, by version id; also those that go on though their callers were told they are
            late, so that a model that hangs shows.
        hits: Requests that found their model in memory: those accepted, without those shed and the misses.
        misses: Times that a model was waited for; a ``predict_many`` waits once.
        loads: Models loaded.
        load_failures: Loads that failed.
        swaps: Times that traffic moved to another latest version.
        evictions: Models dropped from memory.
        monitor_errors: Calls of the monitor that raised; the prediction was not affected.
        repository_errors: Calls of the repository that raised, loading apart.
        loaded_models: Ids of the versions whose models are in memory, oldest first.
    """

    accepted: int = 0
    answered: int = 0
    failed: int = 0
    degraded: int = 0
    shed: int = 0
    cancelled: int = 0
    in_flight: int = 0
    timed_out: int = 0
    batches: int = 0
    batched: int = 0
    fallback_errors: int = 0
    router_errors: int = 0
    breakers: Mapping[str, str] = attrs.field(factory=FrozenMapping)
    leases: Mapping[str, int] = attrs.field(factory=FrozenMapping)
    hits: int = 0
    misses: int = 0
    loads: int = 0
    load_failures: int = 0
    swaps: int = 0
    evictions: int = 0
    monitor_errors: int = 0
    repository_errors: int = 0
    loaded_models: tuple[str, ...] = ()


@attrs.frozen
class MonitorStatistics:
    """Counters of one monitor since it was built.

    Attributes:
        recorded: Predictions and failures taken in.
        dropped: Of these, the ones that could not be counted (a latency that is NaN, a time outside the retention).
        uncopied: Inputs, outputs and outcomes that cannot be copied, and so were counted but not kept. (Inputs that are
            kept but are no row are counted by ``InputSample.unusable_count``.)
        outcomes: Outcomes joined with their prediction.
        unknown_outcomes: Outcomes whose prediction is not known, not any more or not yet.
        duplicate_outcomes: Outcomes of a prediction that already had one.
        mismatched_outcomes: Outcomes that are missing, or text where the prediction is not, or the other way round; the
            prediction goes on waiting.
        pending: Predictions waiting for their outcome.
        pending_evicted: Predictions that were given up because too many waited.
        drift_events: Drift events recorded.
        sources: Other monitors whose snapshots are merged and within reach.
        snapshots_merged: Snapshots merged.
        snapshots_ignored: Snapshots that were no newer than what was known, or the monitor's own.
        snapshot_gaps: Snapshots of changes after a moment that is newer than the last one merged: something between is
            missing until the next whole snapshot.
    """

    recorded: int = 0
    dropped: int = 0
    uncopied: int = 0
    outcomes: int = 0
    unknown_outcomes: int = 0
    duplicate_outcomes: int = 0
    mismatched_outcomes: int = 0
    pending: int = 0
    pending_evicted: int = 0
    drift_events: int = 0
    sources: int = 0
    snapshots_merged: int = 0
    snapshots_ignored: int = 0
    snapshot_gaps: int = 0
