"""Snapshots of other monitors, merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import attrs
import numpy as np

from mlserve.errors import SnapshotFormatError
from mlserve.monitors._cells import CellTable
from mlserve.monitors._inputs import CellCounts
from mlserve.monitors._keys import FOREVER, LAST_MICROSECOND, BucketKey
from mlserve.monitors._tables import TrafficTable
from mlserve.monitors._windows import TrafficSummary
from mlserve.numerics._binning import ReferenceBins
from mlserve.records import MonitorSnapshot

Levels = Sequence[tuple[int, int]]
"""Width and retention of each resolution, microseconds, the finest first."""

MOST_FORMER = 1000
"""Sources out of reach that are told apart: one that comes back after a month goes on where it was."""


@attrs.frozen(eq=False)
class _Source:
    sequence: int
    levels: Levels
    input_levels: Levels
    traffic: TrafficTable
    inputs: CellTable

    def totals(self) -> list[tuple[str | None, TrafficSummary]]:
        """All that it ever recorded, by version."""
        traffic = self.traffic.window(FOREVER, 0, 0)
        return [
            (traffic.versions[code], traffic.only(traffic.version == code).total())
            for code in np.unique(traffic.version).tolist()
        ]

    def is_within_reach(self, now: int) -> bool:
        """Whether some window still reaches back to something that it recorded."""
        reach = max(retention for _, retention in self.levels)
        buckets = self.traffic.width != FOREVER
        return bool((self.traffic.index[buckets] * self.traffic.width[buckets] > now - reach).any())

    def window(self, version_id: str | None, start: int, now: int, until: int | None = None) -> TrafficTable:
        """Its buckets in a span, of one version or of all."""
        return self.traffic.window(*_reach(self.levels, start, now, until)).of_version(version_id)

    def without_buckets(self) -> _Source:
        """Its totals only."""
        nothing = np.zeros(len(self.inputs.keys), bool)
        return attrs.evolve(
            self, traffic=self.traffic.only(self.traffic.width == FOREVER).in_order(), inputs=self.inputs.only(nothing)
        )


class MergedSnapshots:
    """What other monitors counted, the newest of each.

    *Thread safety*: none; the owner locks.
    """

    def __init__(self) -> None:
        self._sources: dict[str, _Source] = {}
        # Of those that no window reaches any more the totals stay, so that these never fall.
        self._former: dict[str, _Source] = {}
        self._gone: dict[str | None, TrafficSummary] = {}
        self.gaps: int = 0
        """Snapshots of changes that left out changes since the last one that came."""

    def __len__(self) -> int:
        return len(self._sources)

    def merge(self, snapshot: MonitorSnapshot, now: int) -> bool:
        """Take in a snapshot.

        Returns:
            False when it is no newer than the last one from the same source; nothing changes then.

        Raises:
            SnapshotFormatError: Its columns do not fit each other; nothing changes then.
        """
        name = snapshot.source
        known = self._sources.get(name) or self._former.get(name)
        if known is not None and snapshot.sequence <= known.sequence:
            return False
        levels, input_levels = (_levels(snapshot.header, name) for name in ("levels", "input_levels"))
        traffic = TrafficTable.from_parts(snapshot.header, snapshot.columns).in_order()
        inputs = CellTable.from_parts(snapshot.header, snapshot.columns).narrowed()
        source = _Source(snapshot.sequence, levels, input_levels, traffic, inputs)
        if snapshot.after:
            self.gaps += known is None or snapshot.after > known.sequence
            source = source if known is None else _updated(known, source, now)
        self._former.pop(name, None)
        self._sources[name] = source
        self.forget_old(now)
        return True

    def summaries(self, version_id: str | None, start: int, now: int, until: int | None = None) -> list[TrafficSummary]:
        """What happened in a span, of each source; as ``BucketRing.since``."""
        windows = [source.window(version_id, start, now, until) for source in self._sources.values()]
        return [window.total() for window in windows if len(window)]

    def has_answers(self, version_id: str, start: int, now: int) -> bool:
        """Whether some source answered something in a span."""
        return any(source.window(version_id, start, now).has_answers for source in self._sources.values())

    def totals(self) -> list[tuple[str | None, TrafficSummary]]:
        """All that each source ever recorded, by version."""
        sources = chain(self._sources.values(), self._former.values())
        return [*self._gone.items(), *chain.from_iterable(source.totals() for source in sources)]

    def cells(self, version_id: str, bins: ReferenceBins, start: int, now: int) -> list[CellCounts] | None:
        """Inputs of a version in a span, counted in the cells of these bins; None where some source counted otherwise.

        A source that answered nothing has nothing to count.
        """
        found = []
        for source in self._sources.values():
            inputs = source.inputs
            width, first, last = _reach(source.input_levels, start, now, None)
            counts = None
            if inputs.digests.get(version_id) == bins.digest and start >= inputs.complete_since[version_id]:
                mask = [
                    key.version_id == version_id and key.width == width and first <= key.number <= last
                    for key in inputs.keys
                ]
                counts = inputs.total(np.array(mask, bool), bins.size)
            if counts is not None:
                found.append(counts)
            elif source.window(version_id, start, now).has_answers:
                return None
        return found

    def forget_old(self, now: int) -> None:
        """Let go of the buckets of sources of which nothing is within reach any more."""
        for name, source in list(self._sources.items()):
            if not source.is_within_reach(now):
                self._former[name] = self._sources.pop(name).without_buckets()
        for name in list(self._former)[:-MOST_FORMER]:
            for version_id, summary in self._former.pop(name).totals():
                self._gone[version_id] = self._gone.get(version_id, TrafficSummary()) + summary


def _levels(header: Mapping[str, object], name: str) -> Levels:
    """Resolutions that someone else wrote, checked."""
    listed = header.get(name)
    try:
        levels = [(width, retention) for width, retention in listed]  # type: ignore[attr-defined]  # checked by trying
    except (TypeError, ValueError) as error:
        raise SnapshotFormatError(f"no {name}, or such that are no pairs ({error!r})") from error
    numbers = list(chain.from_iterable(levels))
    if not levels or any(type(number) is not int or not 0 < number < LAST_MICROSECOND for number in numbers):
        raise SnapshotFormatError(f"{name} that are no spans of time")
    return levels


def _reach(levels: Levels, start: int, now: int, until: int | None) -> tuple[int, int, int]:
    """The finest width that reaches back to a moment, and its first and last bucket."""
    width = next((width for width, retention in levels if start >= now - retention), levels[-1][0])
    return width, start // width + 1, -(-now // width) if until is None else until // width


def _updated(known: _Source, changes: _Source, now: int) -> _Source:
    """The known buckets less those that are replaced or out of reach, and the new ones."""

    def lives(key: BucketKey, replaced: set[BucketKey], reach: Mapping[int, int]) -> bool:
        return key not in replaced and (key.width == FOREVER or key.number * key.width > now - reach.get(key.width, 0))

    replaced, replaced_inputs = set(changes.traffic.bucket_keys()), set(changes.inputs.keys)
    reach, input_reach = dict(changes.levels), dict(changes.input_levels)
    digests = known.inputs.digests
    moved = {version for version, digest in changes.inputs.digests.items() if digests.get(version) != digest}
    kept = [lives(key, replaced, reach) for key in known.traffic.bucket_keys()]
    kept_inputs = [
        lives(key, replaced_inputs, input_reach) and key.version_id not in moved for key in known.inputs.keys
    ]
    return attrs.evolve(
        changes,
        traffic=TrafficTable.joined([known.traffic.only(np.array(kept, bool)), changes.traffic]).in_order(),
        inputs=CellTable.joined(known.inputs.only(np.array(kept_inputs, bool)), changes.inputs).narrowed(),
    )
