"""What was recorded, added up: recent requests whole, older ones in buckets, inputs sampled, outcomes joined."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from mlserve._buckets import BucketRing, Resolution, microseconds
from mlserve.monitors._blocks import NOTHING_RARE, EventRing, RequestBlock, packed
from mlserve.monitors._outcomes import PendingOutcomes, pair_up
from mlserve.monitors._recent import SUCCESS, RecentRequests
from mlserve.monitors._sampling import NO_REQUESTS, THINNED_FOR, Dropped, SampledRequests, WindowSample
from mlserve.monitors._windows import OutcomeSummary, TrafficSummary

ROW = 7
"""Values of a request as it waits to be counted: id, version, input, output, milliseconds, seconds since 1970, and
what is rare. They stand one after the other in one flat list, which takes a row at a time without a lock and gives
whole columns as slices."""

END_OF_TIME = 2.0**62
"""In microseconds since 1970, far beyond any date and within int64."""


class Ledger:
    """The state of a monitor.

    *Thread safety*: none; the owner locks. ``thinning`` may be read by anyone.

    Args:
        resolutions: How finely the past is kept.
        recent_requests: Requests to keep whole.
        sample_size: Inputs in a sample, at most.
        pending_outcomes: Predictions that wait for their outcome, at most.
        recent_events: Events that can still be read.
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
        now: Callable[[], int],
        seed: int,
    ) -> None:
        self._resolutions = tuple(resolutions)
        self._new_ring()  # refuses resolutions that are out of order now, not in the middle of the night
        self.retention = self._resolutions[-1].retention
        self._now = now
        self._recent = RecentRequests(recent_requests, self._hand_on)
        self._version_ids: list[str | None] = []
        self._version_codes: dict[str | None, int] = {}
        self._kind_names = [""]
        self._kind_codes: dict[str | None, int] = {None: SUCCESS}
        self._rings: dict[int, BucketRing[TrafficSummary]] = {}
        self._samples: dict[int, WindowSample] = {}
        self._sample_size = sample_size
        self._rng = np.random.default_rng(seed)
        self.thinning: dict[str, Dropped] = {}
        """Versions whose inputs are thinned, with what stands for an input that is not kept."""
        self.pending = PendingOutcomes(pending_outcomes)
        self.events = EventRing(recent_events)
        self.counts: Counter[str] = Counter()

    def summary(self, version_id: str | None, start: int, now: int) -> TrafficSummary:
        """What happened in (start, now], of one version or of all; microseconds since 1970."""
        code = None if version_id is None else self._version_codes.get(version_id, -1)
        parts = [self._recent.summarise(self._recent.between(start, now, code), self._kind_names)]
        if start < self._recent.forgotten_until:
            rings = [ring for of, ring in self._rings.items() if code is None or of == code]
            parts += [summary for ring in rings for summary in ring.since(start, now)]
        return TrafficSummary.total(parts)

    def sampled(self, version_id: str, start: int, now: int) -> SampledRequests:
        """A uniform sample of the requests that a version answered in (start, now]."""
        sample = self._samples.get(self._version_codes.get(version_id, -1))
        return NO_REQUESTS if sample is None else sample.between(start, now)

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
        self.counts["recorded"] += len(times)
        # No window reaches them; they can still be read as events.
        self.counts["dropped"] += int((times <= self._now() - microseconds(self.retention)).sum())
        sequence = self._recent.append(times, codes, kind, latency, confidence)
        block = RequestBlock(packed_ids, sequence, versions, inputs, outputs, latency, times, rare)
        self.events.append(block)
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
        codes = _coded(versions, self._version_codes, self._new_version).astype(np.int32)
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
        return _coded(kinds, self._kind_codes, self._new_kind).astype(np.int16), confidence

    def _sample(self, codes: npt.NDArray[np.int32], block: RequestBlock, confidence: npt.NDArray[np.float64]) -> None:
        for code, chosen in _by_code(codes):
            if code not in self._samples:
                self._samples[code] = WindowSample(self._sample_size, self._rng)
            sample = self._samples[code]
            times, inputs, outputs = block.times[chosen], block.inputs, block.outputs
            if chosen.size < len(block):
                inputs, outputs = ([column[i] for i in chosen.tolist()] for column in (inputs, outputs))
            sample.extend(times, inputs, outputs, confidence[chosen])
            version_id = str(self._version_ids[code])
            if sample.cut:
                self.thinning[version_id] = Dropped(sample.cut, (int(times.max()) + THINNED_FOR) / 1e6)
            else:
                self.thinning.pop(version_id, None)

    def fold_outcomes(self, outcomes: list[tuple[str, Any, float]]) -> None:
        """Join outcomes: prediction id, true value, seconds since 1970 at which it came."""
        late: dict[int, list[tuple[int, OutcomeSummary]]] = {}
        for prediction_id, actual, timestamp in outcomes:
            found = self.pending.pop(prediction_id)
            if found is None:
                known = self.pending.was_labelled(prediction_id)
                self.counts["duplicate_outcomes" if known else "unknown_outcomes"] += 1
                continue
            block, row = found
            pair = pair_up(block.outputs[row], actual)
            if pair is None:
                self.counts["mismatched_outcomes"] += 1
                continue
            self.counts["outcomes"] += 1
            if not self._recent.label(block.sequence(row), *pair):
                code = self._version_codes[block.version_ids[row]]
                late.setdefault(code, []).append((int(block.times[row]), pair[0]))
            self.events.append((block.outcome(prediction_id, row, actual, timestamp),))
        for code, pairs in late.items():
            self._add_late(code, pairs)

    def _add_late(self, code: int, pairs: list[tuple[int, OutcomeSummary]]) -> None:
        def total(positions: npt.NDArray[np.intp]) -> TrafficSummary:
            return TrafficSummary(outcomes=sum((pairs[i][1] for i in positions.tolist()), OutcomeSummary()))

        times = np.array([time for time, _ in pairs], np.int64)
        self._rings[code].add(times, total, self._now())

    def _hand_on(self, rows: int) -> None:
        """Put the rows that are about to be forgotten into buckets."""
        now = self._now()
        for code, positions in _by_code(self._recent.version[:rows]):
            ring = self._rings.setdefault(code, self._new_ring())
            ring.expire(now)
            ring.add(self._recent.time[positions], self._summariser(positions), now)
            if code in self._samples:
                self._samples[code].forget_before(now - microseconds(self.retention))

    def _summariser(self, positions: npt.NDArray[np.intp]) -> Callable[[npt.NDArray[np.intp]], TrafficSummary]:
        return lambda group: self._recent.summarise(positions[group], self._kind_names)

    def _new_ring(self) -> BucketRing[TrafficSummary]:
        return BucketRing(self._resolutions)

    def _new_version(self, version_id: str | None) -> int:
        self._version_ids.append(version_id)
        return len(self._version_ids) - 1

    def _new_kind(self, kind: str | None) -> int:
        self._kind_names.append(str(kind))
        return len(self._kind_names) - 1


def _by_code(codes: npt.NDArray[np.int32]) -> list[tuple[int, npt.NDArray[np.intp]]]:
    """The positions of each code."""
    if (codes == codes[0]).all():  # by far the commonest case, and the cheapest to see
        return [(int(codes[0]), np.arange(codes.size))]
    return [(code, np.flatnonzero(codes == code)) for code in np.unique(codes).tolist()]


def _coded(
    values: Sequence[str | None], codes: dict[str | None, int], new: Callable[[str | None], int]
) -> npt.NDArray[np.int64]:
    """Each value's code; a value seen for the first time gets a new one."""
    distinct = set(values)
    for value in distinct - codes.keys():
        codes[value] = new(value)
    if len(distinct) == 1:
        return np.full(len(values), codes[values[0]])
    return np.fromiter(map(codes.__getitem__, values), np.int64, len(values))
