"""Snapshots of other monitors, merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import numpy as np

from mlserve.monitors._cells import CellTable
from mlserve.monitors._inputs import CellCounts
from mlserve.monitors._tables import FOREVER, BucketKey, TrafficTable
from mlserve.monitors._windows import TrafficSummary
from mlserve.numerics._binning import ReferenceBins
from mlserve.records import MonitorSnapshot

Levels = Sequence[tuple[int, int]]
"""Width and retention of each resolution, microseconds, the finest first."""


@attrs.define(eq=False)
class _Source:
    sequence: int
    levels: Levels
    input_levels: Levels
    traffic: TrafficTable
    inputs: CellTable


class MergedSnapshots:
    """What other monitors counted, the newest of each.

    *Thread safety*: none; the owner locks.
    """

    def __init__(self) -> None:
        self._sources: dict[str, _Source] = {}
        self.gaps = 0
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
        known = self._sources.get(snapshot.source)
        if known is not None and snapshot.sequence <= known.sequence:
            return False
        traffic = TrafficTable.from_parts(snapshot.header, snapshot.columns)
        inputs = CellTable.from_parts(snapshot.header, snapshot.columns)
        levels = [(width, retention) for width, retention in snapshot.header["levels"]]
        input_levels = [(width, retention) for width, retention in snapshot.header["input_levels"]]
        if snapshot.after:
            self.gaps += known is None or snapshot.after > known.sequence
        if known is not None and snapshot.after:
            traffic, inputs = _updated(known, traffic, inputs, dict(levels), dict(input_levels), now)
        self._sources[snapshot.source] = _Source(snapshot.sequence, levels, input_levels, traffic, inputs)
        self._forget_old(now)
        return True

    def summaries(self, version_id: str | None, start: int, now: int, until: int | None = None) -> list[TrafficSummary]:
        """What happened in a span, of each source; as ``BucketRing.since``."""
        found = []
        for source in self._sources.values():
            width, first, last = _reach(source.levels, start, now, until)
            mask = source.traffic.chosen(version_id, width, first, last)
            if mask.any():
                found.append(source.traffic.total(mask))
        return found

    def totals(self) -> list[tuple[str | None, TrafficSummary]]:
        """All that each source ever recorded, by version."""
        return [
            (
                version_id,
                source.traffic.total(source.traffic.chosen(None, FOREVER, 0, 0) & (source.traffic.version == code)),
            )
            for source in self._sources.values()
            for code, version_id in enumerate(source.traffic.versions)
        ]

    def cells(self, version_id: str, bins: ReferenceBins, start: int, now: int) -> list[CellCounts] | None:
        """Inputs of a version in a span, counted in the cells of these bins; None where some source counted otherwise.

        A source without traffic of the version has nothing to count.
        """
        found = []
        for source in self._sources.values():
            inputs = source.inputs
            if version_id not in source.traffic.versions:
                continue
            if inputs.digests.get(version_id) != bins.digest or start < inputs.complete_since[version_id]:
                return None
            width, first, last = _reach(source.input_levels, start, now, None)
            mask = np.array(
                [
                    key.version_id == version_id and key.width == width and first <= key.number <= last
                    for key in inputs.keys
                ],
                bool,
            )
            found.append(inputs.total(mask, bins.size))
        return found

    def _forget_old(self, now: int) -> None:
        """Let go of sources of which nothing is within reach any more."""
        for name, source in list(self._sources.items()):
            table, reach = source.traffic, max(retention for _, retention in source.levels)
            buckets = table.width != FOREVER
            if not (table.index[buckets] * table.width[buckets] > now - reach).any():
                del self._sources[name]


def _reach(levels: Levels, start: int, now: int, until: int | None) -> tuple[int, int, int]:
    """The finest width that reaches back to a moment, and its first and last bucket."""
    width = next((width for width, retention in levels if start >= now - retention), levels[-1][0])
    return width, start // width + 1, -(-now // width) if until is None else until // width


def _updated(
    known: _Source,
    traffic: TrafficTable,
    inputs: CellTable,
    levels: Mapping[int, int],
    input_levels: Mapping[int, int],
    now: int,
) -> tuple[TrafficTable, CellTable]:
    """The known buckets less those that are replaced or out of reach, and the new ones."""

    def lives(key: BucketKey, replaced: set[BucketKey], reach: Mapping[int, int]) -> bool:
        return key not in replaced and (key.width == FOREVER or key.number * key.width > now - reach.get(key.width, 0))

    replaced = set(traffic.bucket_keys())
    kept = np.array([lives(key, replaced, levels) for key in known.traffic.bucket_keys()], bool)
    replaced_inputs = set(inputs.keys)
    moved = {version for version, digest in inputs.digests.items() if known.inputs.digests.get(version) != digest}
    kept_inputs = np.array(
        [lives(key, replaced_inputs, input_levels) and key.version_id not in moved for key in known.inputs.keys], bool
    )
    return (
        TrafficTable.joined([known.traffic.only(kept), traffic]),
        CellTable.joined(known.inputs.only(kept_inputs), inputs),
    )
