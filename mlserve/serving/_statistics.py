"""The counters of a server, put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlserve.records import ServerStatistics
from mlserve.records._values import FrozenMapping
from mlserve.serving._assembly import Parts
from mlserve.serving._loaded import LoadedVersion
from mlserve.serving._requests import Request


def _holding(version: LoadedVersion, under_way: Sequence[Request]) -> int:
    """Calls that use a version, those among them whose callers were told that they are late."""
    held = [hold for hold in list(version.holds) if isinstance(hold, Request)]
    requests = {id(one): one.count for one in [*held, *under_way] if one.loaded is version}
    # Of those in a batch that goes on without them none is left: the batch counts as one.
    return len(version.leases) + sum(requests.values()) or int(bool(version.holds))


def counted(parts: Parts) -> ServerStatistics:
    """What the parts of a server have counted."""
    cache, results, guards, batcher = parts.cache, parts.results, parts.guarded.guards, parts.batcher
    loaded = cache.loaded
    under_way = list(guards.under_way.values())
    leases = {version.id: _holding(version, under_way) for version in loaded}
    in_flight = (
        sum(len(version.leases) for version in loaded) + len(parts.arriving) + sum(one.count for one in under_way)
    )
    accepted, cancelled, shed = results.accepted.value, results.cancelled.value, results.shed.value
    breakers = {version.id: str(version.breaker.state) for version in loaded if version.breaker is not None}
    counts: dict[str, Any] = cache.counts + guards.counts
    misses = counts.get("misses", 0)
    return ServerStatistics(
        accepted=accepted,
        answered=accepted - cancelled - shed - in_flight,
        failed=results.failed.value,
        degraded=results.degraded.value,
        shed=shed,
        cancelled=cancelled,
        timed_out=results.timed_out.value,
        in_flight=in_flight,
        leases=FrozenMapping(leases),
        batches=0 if batcher is None else batcher.batches.answers.batches,
        batched=0 if batcher is None else batcher.batches.answers.batched,
        breakers=FrozenMapping(breakers),
        monitor_errors=parts.recorder.errors,
        loaded_models=tuple(leases),
        hits=max(0, accepted - shed - misses),
        **counts,
    )
