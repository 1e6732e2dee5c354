"""What was recorded, added up: recent requests whole, older ones in buckets, inputs sampled, outcomes joined."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from mlserve._buckets import BucketRing, Level, Resolution, microseconds
from mlserve.monitors._blocks import NOTHING_RARE, EventRing, RequestBlock, packed, to_datetime
from mlserve.monitors._cells import CellTable
from mlserve.monitors._codes import Codes
from mlserve.monitors._fleet import MergedSnapshots
from mlserve.monitors._inputs import FOREVER_AGO, CellCounts, InputCounter, input_resolutions
from mlserve.monitors._outcomes import Pair, PendingOutcomes, pair_up
from mlserve.monitors._recent import NO_CLASS, OTHER_CLASS, SUCCESS, RecentRequests
from mlserve.monitors._sampling import NO_REQUESTS, THINNED_FOR, Dropped, SampledRequests, WindowSample
from mlserve.monitors._tables import FOREVER, BucketKey
from mlserve.monitors._windows import Label, OutcomeSummary, TrafficSummary
from mlserve.numerics._binning import ReferenceBins
from mlserve.records import ModelMetrics, QualityMetrics

ROW = 7
"""Values of a request as it waits to be counted: id, version, input, output, milliseconds, seconds since 1970, and
what is rare. They stand one after the other in one flat list, which takes a row at a time without a lock and gives
whole columns as slices."""

END_OF_TIME = 2.0**62
"""In microseconds since 1970, far beyond any date and within int64."""

MOST_VERSIONS, MOST_KINDS, MOST_CLASSES = 10_000, 256, 256
"""What is told apart; no caller can make a monitor grow by inventing names."""

OTHERS = "(others)"
"""The version id and the kind under which all further ones are counted."""

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
        self.retention = self._resolutions[-1].retention
        self._input_resolutions = input_resolutions(self.retention)
        self._label_maturity = label_maturity
        self._now = now
        self._recent = RecentRequests(recent_requests, self._hand_on)
        self._versions: Codes[str | None] = Codes(MOST_VERSIONS, OTHERS)
        self._kinds: Codes[str | None] = Codes(MOST_KINDS, OTHERS, [None])
        self._classes: Codes[Label | None] = Codes(MOST_CLASSES, None, [None])
        self._rings: dict[int, BucketRing[TrafficSummary]] = {}
        self._totals: dict[int, TrafficSummary] = {}
        self._samples: dict[int, WindowSample] = {}
        self._counters: dict[str, InputCounter] = {}
        self._sample_size = sample_size
        self._rng = np.random.default_rng(seed)
        self.thinning: dict[str, Dropped] = {}
        """Versions whose inputs are thinned, with what stands for an input that is not kept."""
        self.pending = PendingOutcomes(pending_outcomes)
        self.events = EventRing(recent_events)
        self.counts: Counter[str] = Counter()
        self.merged = MergedSnapshots()
        self._joined_until = FOREVER_AGO
        self.change = 0
        """Number of the latest change."""

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
        sample = self._samples.get(self._versions.get(version_id))
        sampled = NO_REQUESTS if sample is None else sample.between(start, now)
        # What others saw is counted, but not in the sample.
        return attrs.evolve(sampled, is_all=False) if self.merged.summaries(version_id, start, now) else sampled

    def counted(self, version_id: str, start: int, now: int) -> tuple[ReferenceBins, CellCounts] | None:
        """The inputs of a version in (start, now] in the cells of its baseline; None where not all were counted."""
        counter = self._counters.get(version_id)
        counts = None if counter is None else counter.between(start, now)
        if counter is None or counts is None:
            return None
        others = self.merged.cells(version_id, counter.bins, start, now)
        return None if others is None else (counter.bins, sum(others, counts))

    def set_bins(self, version_id: str, bins: ReferenceBins) -> None:
        """Count the inputs of a version in the cells of its baseline from now on."""
        known = self._counters.get(version_id)
        if known is not None and known.bins.digest == bins.digest:
            return
        is_new = self._versions.get(version_id) not in self._samples
        since = FOREVER_AGO if is_new else self._now()
        self._counters[version_id] = InputCounter(bins, self._input_resolutions, since)

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
        names = {key.version_id for key, _ in found}
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

    def changed_inputs(self, after: int) -> CellTable:
        """Every bucket of counted inputs that changed after the given change."""
        buckets = [
            (BucketKey(version_id, level.width, number), level.buckets[number])
            for version_id, counter in self._counters.items()
            for level in counter.ring.levels
            for number, change in sorted(level.changed.items())
            if change > after and number in level.buckets
        ]
        digests = {version_id: counter.bins.digest for version_id, counter in self._counters.items()}
        since = {version_id: counter.complete_since for version_id, counter in self._counters.items()}
        return CellTable.of(digests, since, buckets)

    @property
    def levels(self) -> list[tuple[int, int]]:
        """Width and retention of each resolution, microseconds."""
        return [(microseconds(one.width), microseconds(one.retention)) for one in self._resolutions]

    @property
    def input_levels(self) -> list[tuple[int, int]]:
        """The same of counted inputs."""
        return [(microseconds(one.width), microseconds(one.retention)) for one in self._input_resolutions]

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

    # --------------------------------------------------------------------------------------------------- folding

    def fold_requests(self, flat: list[Any]) -> None:
        """Count requests: the values of one after the other, ``ROW`` of each. At most half of ``recent_requests``."""
        ids, versions, inputs, outputs, latencies, seconds, rare = (flat[column::ROW] for column in range(ROW))
        try:
            columns = self._columns(ids, versions, latencies, seconds, rare)
        except (TypeError, ValueError, OverflowError):
            # Some value is nothing of its kind. Alone it is dropped; the others are counted.
            self._drop_or_split(flat)
            return
        latency, times, codes, kind, confidence, packed_ids = columns
        self.change += 1
        self.counts["recorded"] += len(times)
        # No window reaches them; they can still be read as events.
        self.counts["dropped"] += int((times <= self._now() - microseconds(self.retention)).sum())
        sequence = self._recent.append(times, codes, kind, latency, confidence)
        block = RequestBlock(packed_ids, sequence, versions, inputs, outputs, latency, times, rare)
        self.events.append(block)
        for code, chosen in _by_code(codes):
            self._ring(code).touch(times if chosen.size == times.size else times[chosen], self.change)
        if kind.any():
            answered = np.flatnonzero(kind == SUCCESS)
            block, codes, confidence = block.only(answered.tolist()), codes[answered], confidence[answered]
        if len(block):
            self._sample(codes, block, confidence)
            # Without the inputs: one prediction that waits would keep those of the whole block.
            self.pending.extend(attrs.evolve(block, inputs=()))

    def _columns(
        self, ids: list[Any], versions: list[Any], latencies: list[Any], seconds: list[Any], rare: list[Any]
    ) -> tuple[Any, ...]:
        latency = np.array(latencies, np.float64)
        with np.errstate(over="ignore"):
            microseconds = np.rint(np.array(seconds, np.float64) * 1e6)
        if not (np.isfinite(latency) & (latency >= 0) & (np.abs(microseconds) < END_OF_TIME)).all():
            raise ValueError("a latency or a time that is none")
        kind, confidence = self._rare_columns(rare)
        codes = self._versions.all_of(versions).astype(np.int32)
        return latency, microseconds.astype(np.int64), codes, kind, confidence, packed(ids)

    def _drop_or_split(self, flat: list[Any]) -> None:
        if len(flat) == ROW:
            self.counts["recorded"] += 1
            self.counts["dropped"] += 1
            return
        for start in range(0, len(flat), ROW):
            self.fold_requests(flat[start : start + ROW])

    def _rare_columns(
        self, rare: Sequence[tuple[Any, ...] | None]
    ) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.float64]]:
        if not any(rare):
            return np.zeros(len(rare), np.int16), np.full(len(rare), np.nan)
        confidences, _, _, kinds = zip(*(NOTHING_RARE if row is None else row for row in rare), strict=True)
        confidence = np.array(confidences, np.float64)
        confidence[np.isinf(confidence)] = np.nan
        return self._kinds.all_of(kinds).astype(np.int16), confidence

    def _sample(self, codes: npt.NDArray[np.int32], block: RequestBlock, confidence: npt.NDArray[np.float64]) -> None:
        for code, chosen in _by_code(codes):
            if code not in self._samples:
                self._samples[code] = WindowSample(self._sample_size, self._rng)
            sample = self._samples[code]
            times, inputs, outputs = block.times[chosen], block.inputs, block.outputs
            if chosen.size < len(block):
                inputs, outputs = ([column[i] for i in chosen.tolist()] for column in (inputs, outputs))
            sample.extend(times, inputs, outputs, confidence[chosen])
            version_id = str(self._versions.names[code])
            if version_id in self._counters:
                self._counters[version_id].add(times, inputs, self._now(), self.change)
            if sample.cut:
                self.thinning[version_id] = Dropped(sample.cut, (int(times.max()) + THINNED_FOR) / 1e6)
            else:
                self.thinning.pop(version_id, None)

    def fold_outcomes(self, outcomes: list[tuple[str, Any, float]]) -> None:
        """Join outcomes: prediction id, true value, seconds since 1970 at which it came."""
        self.change += 1
        late: dict[int, list[tuple[int, OutcomeSummary]]] = {}
        times: dict[int, list[int]] = {}
        for prediction_id, actual, timestamp in outcomes:
            waiting = self.pending.find(prediction_id)
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
                late.setdefault(code, []).append((waiting.time, pair.summary(delay)))
            self.events.append((waiting.outcome(prediction_id, actual, timestamp),))
        for code, moments in times.items():
            self._ring(code).touch(np.array(moments, np.int64), self.change)
        for code, pairs in late.items():
            self._add_late(code, pairs)

    def fold_pair(self, version_id: str, time: int, output: Any, actual: Any, delay: float) -> bool:
        """Count a labelled prediction that was joined elsewhere; False when the two cannot be compared."""
        pair = pair_up(output, actual)
        self.counts["mismatched_outcomes" if pair is None else "outcomes"] += 1
        if pair is None:
            return False
        self.change += 1
        code = self._versions.of(version_id)
        self._ring(code).touch(np.array([time], np.int64), self.change)
        self._add_late(code, [(time, pair.summary(delay))])
        self._joined_until = max(self._joined_until, time)
        return True

    @property
    def _in_buckets_until(self) -> int:
        """Of what happened after this moment, nothing is in the buckets yet."""
        return max(self._recent.forgotten_until, self._joined_until)

    def _class_codes(self, pair: Pair) -> tuple[int, int]:
        if pair.actual_class is None:
            return NO_CLASS, NO_CLASS
        output = OTHER_CLASS if pair.output_class is None else self._classes.of(pair.output_class)
        return output, self._classes.of(pair.actual_class)

    def _add_late(self, code: int, pairs: list[tuple[int, OutcomeSummary]]) -> None:
        def total(positions: npt.NDArray[np.intp]) -> TrafficSummary:
            return TrafficSummary(outcomes=OutcomeSummary.total(pairs[i][1] for i in positions.tolist()))

        times = np.array([time for time, _ in pairs], np.int64)
        self._ring(code).add(times, total, self._now())
        self._totals[code] = self._totals.get(code, TrafficSummary()) + total(np.arange(len(pairs)))

    def _hand_on(self, rows: int) -> None:
        """Put the rows that are about to be forgotten into buckets."""
        now = self._now()
        for code, positions in _by_code(self._recent.version[:rows]):
            ring = self._ring(code)
            ring.expire(now)
            ring.add(self._recent.time[positions], self._summariser(positions), now)
            self._totals[code] = self._totals.get(code, TrafficSummary()) + self._summarised(positions)
            if code in self._samples:
                self._samples[code].forget_before(now - microseconds(self.retention))

    def _summariser(self, positions: npt.NDArray[np.intp]) -> Callable[[npt.NDArray[np.intp]], TrafficSummary]:
        return lambda group: self._summarised(positions[group])

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
