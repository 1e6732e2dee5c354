"""What was recorded, added up: recent requests whole, older ones in buckets, inputs sampled, outcomes joined."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import numpy.typing as npt

from mlserve._buckets import BucketRing, Level, Resolution, microseconds
from mlserve.monitors._blocks import (
    FIRST_MOMENT,
    LAST_MOMENT,
    EventRing,
    RequestBlock,
    Waiting,
    to_datetime,
)
from mlserve.monitors._codes import Codes
from mlserve.monitors._columns import Repeated, RequestColumns
from mlserve.monitors._inputs import FOREVER_AGO, CellCounts, InputCounters
from mlserve.monitors._kept import Dropped
from mlserve.monitors._keys import FOREVER, BucketKey
from mlserve.monitors._merging import NOTHING_MERGED, NothingMerged
from mlserve.monitors._outcomes import Pair, PendingOutcomes, pair_up
from mlserve.monitors._recent import NO_CLASS, OTHER_CLASS, SUCCESS, RecentRequests
from mlserve.monitors._sampling import THINNED_FOR, SampledRequests, WindowSamples
from mlserve.monitors._windows import Label, OutcomeSummary, TrafficSummary, class_counts
from mlserve.records import ModelMetrics, QualityMetrics

if TYPE_CHECKING:
    from mlserve.monitors._fleet import MergedSnapshots
    from mlserve.numerics._binning import ReferenceBins
    from mlserve.records import MonitorSnapshot

MOST_VERSIONS, MOST_KINDS, MOST_CLASSES = 10_000, 256, 256
"""What is told apart; no caller can make a monitor grow by inventing names."""

OTHERS = "(others)"
"""The version id and the kind under which all further ones are counted."""

NOTHING_ELSEWHERE: Mapping[str, Waiting] = {}

MATURE_SHARE = 0.95
"""Labels are taken to be complete after the delay within which this share of those that arrived did."""


class Ledger:
    """The state of a monitor.

    *Thread safety*: none; the owner locks. ``thinning`` may be read by anyone.

    Args:
        resolutions: How finely the past is kept.
        recent_requests: Requests to keep whole.
        sample_size: Inputs in a sample, at most.
        pending_outcomes: Predictions that wait for their outcome, at most.
        recent_events: Events that can still be read.
        label_maturity: How long after a prediction its label is due; None to learn it from the labels that arrive.
        now: Tells microseconds since 1970.
        seed: For the sampling.
    """

    def __init__(
        self,
        *,
        resolutions: Sequence[Resolution],
        recent_requests: int,
        sample_size: int,
        pending_outcomes: int,
        recent_events: int,
        label_maturity: timedelta | None,
        now: Callable[[], int],
        seed: int,
    ) -> None:
        self._resolutions = tuple(resolutions)
        self._new_ring()  # refuses resolutions that are out of order now, not in the middle of the night
        self.retention: timedelta = self._resolutions[-1].retention
        self._label_maturity = label_maturity
        self._now = now
        self._recent = RecentRequests(recent_requests, self._hand_on)
        self._versions: Codes[str | None] = Codes(MOST_VERSIONS, OTHERS)
        self._kinds: Codes[str | None] = Codes(MOST_KINDS, OTHERS, [None])
        self._classes: Codes[Label | None] = Codes(MOST_CLASSES, None, [None])
        self._rings: dict[int, BucketRing[TrafficSummary]] = {}
        self._totals: dict[int, TrafficSummary] = {}
        self.inputs: InputCounters = InputCounters(self.retention)
        self._samples = WindowSamples(sample_size, np.random.default_rng(seed))
        self.thinning: dict[str, Dropped] = {}
        """Versions whose inputs are thinned, with what stands for an input that is not kept."""
        self.pending: PendingOutcomes = PendingOutcomes(pending_outcomes)
        self.events: EventRing = EventRing(recent_events)
        self.counts: Counter[str] = Counter()
        self.merged: MergedSnapshots | NothingMerged = NOTHING_MERGED
        self._late_until = FOREVER_AGO
        self.change: int = 0
        """Number of the latest change."""
        self._changed: dict[int, int] = {}
        self.answered: Callable[[RequestBlock], None] | None = None
        """Told of successful predictions, without their inputs, as they are folded."""

    # --------------------------------------------------------------------------------------------------- reading

    def metrics(self, version_id: str | None, window: timedelta, start: int, now: int) -> ModelMetrics:
        """What happened in (start, now], of one version or of all; microseconds since 1970."""
        summary = self.summary(version_id, start, now)
        watermark = self._watermark(summary.outcomes, now)
        if watermark is None:
            return summary.metrics(version_id, window)
        mature = self._quality(version_id, start, now, watermark) if watermark < now else None
        return summary.metrics(
            version_id,
            window,
            watermark=to_datetime(watermark),
            mature=summary.outcomes.quality(summary.latency.count) if mature is None else mature,
        )

    def summary(self, version_id: str | None, start: int, now: int) -> TrafficSummary:
        """What happened in (start, now], of one version or of all; microseconds since 1970."""
        code = None if version_id is None else self._versions.get(version_id)
        parts = [self._summarised(self._recent.between(start, now, code))]
        if start < self._in_buckets_until:
            parts += [summary for ring in self._rings_of(code) for summary in ring.since(start, now)]
        parts += self.merged.summaries(version_id, start, now)
        return TrafficSummary.total(parts)

    def totals(
        self, others: Iterable[tuple[str | None, TrafficSummary]] = ()
    ) -> list[tuple[str | None, TrafficSummary]]:
        """All that was ever recorded here, by version, and what others recorded."""
        everything = np.arange(self._recent.count)
        recent = dict(_by_code(self._recent.version[everything])) if everything.size else {}
        totals: dict[str | None, list[TrafficSummary]] = {}
        for code in sorted(self._totals.keys() | recent.keys()):
            own = [self._totals[code]] if code in self._totals else []
            own += [self._summarised(recent[code])] if code in recent else []
            totals[self._versions.names[code]] = own
        for version_id, summary in others:
            totals.setdefault(version_id, []).append(summary)
        return [(version_id, TrafficSummary.total(summaries)) for version_id, summaries in totals.items()]

    def sampled(self, version_id: str, start: int, now: int) -> SampledRequests:
        """A uniform sample of the requests that a version answered in (start, now]."""
        sampled = self._samples.between(self._versions.get(version_id), start, now)
        # What others saw is counted, but not in the sample.
        has_others = self.merged.has_answers(version_id, start, now)
        return attrs.evolve(sampled, is_all=False, is_uniform=False) if has_others else sampled

    def counted(self, version_id: str, start: int, now: int) -> tuple[ReferenceBins, CellCounts] | None:
        """The inputs of a version in (start, now] in the cells of its baseline; None where not all were counted."""
        own = self.inputs.between(version_id, start, now)
        others = None if own is None else self.merged.cells(version_id, own[0], start, now)
        return None if own is None or others is None else (own[0], sum(others, own[1]))

    def set_bins(self, version_id: str, bins: ReferenceBins) -> None:
        """Count the inputs of a version in the cells of its baseline from now on."""
        if self.inputs.digests.get(version_id) == bins.digest:
            return
        self.change += 1
        is_new = not self._samples.has_seen(self._versions.get(version_id))
        self.inputs.set_bins(version_id, bins, FOREVER_AGO if is_new else self._now())

    def changed_traffic(self, after: int) -> list[tuple[BucketKey, TrafficSummary]]:
        """Every bucket that holds something, as far as it changed after the given change; and the totals."""
        now = self._now()
        found: list[tuple[BucketKey, TrafficSummary]] = []
        for code, ring in self._rings.items():
            ring.expire(now)
            name = self._versions.names[code]
            rows = np.flatnonzero(self._recent.version[: self._recent.count] == code)
            for level in ring.levels:
                changed = {number for number, change in level.changed.items() if change > after}
                recent = self._recent_buckets(level, rows, changed, now)
                for number in sorted(changed & (level.buckets.keys() | recent.keys())):
                    parts = [buckets[number] for buckets in (level.buckets, recent) if number in buckets]
                    found.append((BucketKey(name, level.width, number), TrafficSummary.total(parts)))
        # What lies before the retention is in no bucket, but in the totals.
        names = {self._versions.names[code] for code, change in self._changed.items() if change > after}
        found += [(BucketKey(name, FOREVER, 0), summary) for name, summary in self.totals() if name in names]
        return found

    def _recent_buckets(
        self, level: Level[TrafficSummary], rows: npt.NDArray[np.intp], wanted: set[int], now: int
    ) -> dict[int, TrafficSummary]:
        """What the recent rows of a version add to some buckets of a level."""
        times = self._recent.time[rows]
        rows = rows[(times > now - level.retention) & np.isin(-(-times // level.width), list(wanted))]
        if not rows.size:
            return {}
        groups = level.groups(self._recent.time[rows])
        return {number: self._summarised(rows[positions]) for number, positions in groups}

    @property
    def levels(self) -> list[tuple[int, int]]:
        """Width and retention of each resolution, microseconds."""
        return [(microseconds(one.width), microseconds(one.retention)) for one in self._resolutions]

    def _watermark(self, outcomes: OutcomeSummary, now: int) -> int | None:
        if not outcomes.labelled:
            return None
        if self._label_maturity is not None:
            return now - microseconds(self._label_maturity)
        return now - round((outcomes.delays.quantile(MATURE_SHARE) or 0.0) * 1e6)

    def _quality(self, version_id: str | None, start: int, now: int, until: int) -> QualityMetrics:
        """Labelled predictions made in (start, until], of buckets those that end by then."""
        code = None if version_id is None else self._versions.get(version_id)
        answered = self._recent.answered(self._recent.between(start, until, code))
        outcomes, count = [self._recent.outcomes(answered, self._classes.names)], answered.size
        older: list[TrafficSummary] = []
        if start < self._in_buckets_until:
            older += [summary for ring in self._rings_of(code) for summary in ring.since(start, now, until)]
        older += self.merged.summaries(version_id, start, now, until)
        outcomes += [summary.outcomes for summary in older]
        count += sum(summary.latency.count for summary in older)
        return OutcomeSummary.total(outcomes).quality(count)

    def _rings_of(self, code: int | None) -> list[BucketRing[TrafficSummary]]:
        return [ring for of, ring in self._rings.items() if code is None or of == code]

    def _summarised(self, positions: npt.NDArray[np.intp]) -> TrafficSummary:
        return self._recent.summarise(positions, self._kinds.names, self._classes.names)

    def merge(self, snapshot: MonitorSnapshot) -> bool:
        """Take in what another monitor counted; false when it is nothing new."""
        if isinstance(self.merged, NothingMerged):
            from mlserve.monitors._fleet import MergedSnapshots

            self.merged = MergedSnapshots()
        return self.merged.merge(snapshot, self._now())

    # --------------------------------------------------------------------------------------------------- folding

    def fold_requests(self, columns: RequestColumns) -> None:
        """Count requests. At most half of ``recent_requests``."""
        latency = columns.latency
        with np.errstate(over="ignore"):
            moments = np.rint(columns.seconds * 1e6)
        is_sound = np.isfinite(latency) & (latency >= 0) & (moments >= FIRST_MOMENT) & (moments <= LAST_MOMENT)
        if not is_sound.all():
            # A latency or a time that is none: such a row is dropped, the others are counted.
            sound = np.flatnonzero(is_sound).tolist()
            self.drop(len(columns) - len(sound))
            if sound:
                self.fold_requests(columns.only(sound))
            return
        times, kind, codes = moments.astype(np.int64), self._kinds_of(columns.rare), self._codes_of(columns.version_ids)
        self.change += 1
        self.counts["recorded"] += times.size
        # No window reaches them; they can still be read as events.
        self.counts["dropped"] += int((times <= self._now() - microseconds(self.retention)).sum())
        sequence = self._recent.append(times, codes, kind, latency, columns.confidence)
        block = RequestBlock(columns, sequence, times)
        self.events.append(block)
        for code, chosen in _by_code(codes):
            self._touch(code, times if chosen.size == times.size else times[chosen])
        if kind.any():
            answered = np.flatnonzero(kind == SUCCESS)
            block, codes = block.only(answered.tolist()), codes[answered]
        if len(block):
            self._sample(codes, block)
            # Without the inputs: one prediction that waits would keep those of the whole block.
            block = block.without_inputs()
            self.pending.extend(block)
            if self.answered is not None:
                self.answered(block)

    def drop(self, rows: int) -> None:
        """Count requests of which some value is nothing of its kind."""
        self.counts["recorded"] += rows
        self.counts["dropped"] += rows

    def _codes_of(self, version_ids: Sequence[str | None]) -> npt.NDArray[np.int32]:
        if isinstance(version_ids, Repeated):
            return np.full(len(version_ids), self._versions.of(version_ids.value), np.int32)
        return self._versions.all_of(version_ids).astype(np.int32)

    def _kinds_of(self, rare: Sequence[tuple[Any, ...] | None]) -> npt.NDArray[np.int16]:
        if isinstance(rare, Repeated):
            return np.zeros(len(rare), np.int16)
        return self._kinds.all_of([None if row is None else row[-1] for row in rare]).astype(np.int16)

    def _sample(self, codes: npt.NDArray[np.int32], block: RequestBlock) -> None:
        for code, chosen in _by_code(codes):
            sample = self._samples.fed(code)
            times, inputs, outputs = block.times[chosen], block.columns.inputs, block.columns.outputs
            if chosen.size < len(block):
                inputs, outputs = inputs.only(chosen.tolist()), outputs[chosen]
            sample.extend(times, inputs, outputs, block.columns.confidence[chosen])
            version_id = str(self._versions.names[code])
            self.inputs.add(version_id, times, inputs, self._now(), self.change)
            if sample.cut:
                self.thinning[version_id] = Dropped(sample.cut, (int(times.max()) + THINNED_FOR) / 1e6)
            else:
                self.thinning.pop(version_id, None)

    def fold_outcomes(
        self, outcomes: Sequence[tuple[str, Any, float]], elsewhere: Mapping[str, Waiting] = NOTHING_ELSEWHERE
    ) -> None:
        """Join outcomes.

        Args:
            outcomes: Prediction id, true value, seconds since 1970 at which it came.
            elsewhere: What is known of predictions that were counted by another monitor, by their ids.
        """
        self.change += 1
        late: dict[int, list[tuple[int, OutcomeSummary]]] = {}
        times: dict[int, list[int]] = {}
        for prediction_id, actual, timestamp in outcomes:
            waiting = self.pending.find(prediction_id) or elsewhere.get(prediction_id)
            if waiting is None:
                known = self.pending.was_labelled(prediction_id)
                self.counts["duplicate_outcomes" if known else "unknown_outcomes"] += 1
                continue
            pair = pair_up(waiting.output, actual)
            if pair is None:
                self.counts["mismatched_outcomes"] += 1
                continue
            self.pending.settle(prediction_id)
            self.counts["outcomes"] += 1
            code = self._versions.of(waiting.version_id)
            delay = max(0.0, timestamp - waiting.time / 1e6)
            times.setdefault(code, []).append(waiting.time)
            if not self._recent.label(waiting.sequence, pair, self._class_codes(pair), delay):
                late.setdefault(code, []).append((waiting.time, self._summary_of(pair, delay)))
                self._late_until = max(self._late_until, waiting.time)
            self.events.append((waiting.outcome(prediction_id, actual, timestamp),))
        for code, moments in times.items():
            self._touch(code, np.array(moments, np.int64))
        for code, pairs in late.items():
            self._add_late(code, pairs)

    @property
    def _in_buckets_until(self) -> int:
        """Of what happened after this moment, nothing is in the buckets yet."""
        return max(self._recent.forgotten_until, self._late_until)

    def _class_codes(self, pair: Pair) -> tuple[int, int]:
        if pair.actual_class is None:
            return NO_CLASS, NO_CLASS
        output = OTHER_CLASS if pair.output_class is None else self._classes.of(pair.output_class)
        return output, self._classes.of(pair.actual_class)

    def _summary_of(self, pair: Pair, delay: float) -> OutcomeSummary:
        known = [self._classes.names[code] if code > OTHER_CLASS else None for code in self._class_codes(pair)]
        return pair.summary(delay, class_counts(*known))

    def _touch(self, code: int, times: npt.NDArray[np.int64]) -> None:
        self._ring(code).touch(times, self.change)
        self._changed[code] = self.change

    def _add_late(self, code: int, pairs: list[tuple[int, OutcomeSummary]]) -> None:
        def total(positions: npt.NDArray[np.intp]) -> TrafficSummary:
            return TrafficSummary(outcomes=OutcomeSummary.total(pairs[i][1] for i in positions.tolist()))

        times, ring, now = np.array([time for time, _ in pairs], np.int64), self._ring(code), self._now()
        ring.expire(now)
        ring.add(times, total, now)
        self._totals[code] = self._totals.get(code, TrafficSummary()) + total(np.arange(len(pairs)))

    def _hand_on(self, rows: int) -> None:
        """Put the rows that are about to be forgotten into buckets."""
        now = self._now()
        for code, positions in _by_code(self._recent.version[:rows]):
            ring, summarise = self._ring(code), self._summariser(positions)
            ring.expire(now)
            ring.add(self._recent.time[positions], summarise, now)
            self._totals[code] = self._totals.get(code, TrafficSummary()) + summarise(np.arange(positions.size))
            self._samples.forget_before(code, now - microseconds(self.retention))

    def _summariser(self, positions: npt.NDArray[np.intp]) -> Callable[[npt.NDArray[np.intp]], TrafficSummary]:
        whole = cache(lambda: self._summarised(positions))  # nearly always all lie in one bucket of each level
        return lambda group: whole() if group.size == positions.size else self._summarised(positions[group])

    def _ring(self, code: int) -> BucketRing[TrafficSummary]:
        ring = self._rings.get(code)
        if ring is None:
            ring = self._rings[code] = self._new_ring()
        return ring

    def _new_ring(self) -> BucketRing[TrafficSummary]:
        return BucketRing(self._resolutions)


def _by_code(codes: npt.NDArray[np.int32]) -> list[tuple[int, npt.NDArray[np.intp]]]:
    """The positions of each code."""
    if (codes == codes[0]).all():  # by far the commonest case, and the cheapest to see
        return [(int(codes[0]), np.arange(codes.size))]
    return [(code, np.flatnonzero(codes == code)) for code in np.unique(codes).tolist()]
