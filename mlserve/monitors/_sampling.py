"""A uniform sample of any recent window, in bounded memory."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from mlserve.monitors._kept import KeptInputs, compacted

FOREVER_AGO = -(2**62)

ONE_SECOND = 1_000_000
"""In microseconds: the shortest window whose sample should be full however many requests there are."""

THINNED_FOR = 2 * ONE_SECOND
"""How long a cut is good for: after a burst, slow traffic is kept whole again, though few inputs come to say so."""

MOST_SAMPLED = 32
"""Versions whose inputs are sampled: a sample holds up to ten times its size, and versions come and go for ever."""

SETTLE_FACTOR = 4
"""Inputs are first pruned when this many samples' worth have come."""


@attrs.frozen(eq=False, repr=False)
class SampledRequests:
    """Requests drawn from a window, oldest block first.

    Attributes:
        inputs: What was asked.
        outputs: What was answered.
        confidence: Of the answers, float64, NaN where there was none.
        is_all: Whether these are all requests of the window.
        is_uniform: Whether each request of the window had the same chance to be drawn.
    """

    inputs: list[Any]
    outputs: list[Any]
    confidence: npt.NDArray[np.float64]
    is_all: bool
    is_uniform: bool = True


NO_REQUESTS = SampledRequests([], [], np.empty(0), True)


class WindowSample:
    """Inputs of one version with their answers, from which a uniform sample of any window that ends now can be drawn.

    Every input has an independent uniform priority. The ``size`` inputs of highest priority in a window are a uniform
    sample of it without replacement; an input can belong to one of these only while fewer than ``size`` later inputs
    have a higher priority, and all others are forgotten (priority sampling over moving windows: Babcock, Datar,
    Motwani, "Sampling from a moving window over streaming data", SODA 2002). One structure thus serves every window:
    expected memory is size·(1 + ln(n/size)) inputs after n.

    Above ``size`` inputs a second most would be forgotten at once, so that they need not be copied first: only those
    with a priority above ``cut`` are. A sample of a window in which that happened is drawn from the inputs above the
    highest cut of the window, and so remains uniform.

    *Thread safety*: none; the owner locks. ``cut`` may be read by anyone.

    Args:
        size: Inputs in a sample, at most.
        rng: Where priorities come from.
        forgotten_until: The latest moment of inputs that came before and are not held, microseconds since 1970.
    """

    def __init__(self, size: int, rng: np.random.Generator, forgotten_until: int = FOREVER_AGO) -> None:
        self._size = size
        self._rng = rng
        self._time = np.empty(0, np.int64)
        self._priority = np.empty(0)
        self._inputs: npt.NDArray[Any] = np.empty(0, object)
        self._outputs: npt.NDArray[Any] = np.empty(0, object)
        self._confidence = np.empty(0)
        self._fresh: list[tuple[Any, ...]] = []
        self._count = 0
        self._prune_at = SETTLE_FACTOR * size
        self._oldest = FOREVER_AGO
        # The latest input that was forgotten: of what came after it, nothing was.
        self._pruned_until = forgotten_until
        self.latest = forgotten_until
        """The latest moment of an input."""
        self.cut = 0.0
        """Priority below which an input need not be kept now; 0 to keep all."""
        # Until when, and at which cut, inputs were not kept.
        self._cuts: deque[tuple[int, float]] = deque()
        self._arrived = 0
        self._measured_at: int | None = None

    def __len__(self) -> int:
        return self._count

    def extend(
        self,
        times: npt.NDArray[np.int64],
        inputs: KeptInputs,
        outputs: npt.NDArray[Any],
        confidence: npt.NDArray[np.float64],
    ) -> None:
        """Take in inputs, at least one, each with its moment, microseconds since 1970, and its answer."""
        self._measure_rate(times)
        rows, cuts = inputs.rows, inputs.cuts
        if rows is not None and cuts is not None:
            # Until the last input that was dropped, or kept by a cut: what came later in the same block is all there.
            thinned = np.delete(times, rows[cuts == 0.0])
            if thinned.size:
                self._note_cut(int(thinned.max()), inputs.highest)
            times, outputs, confidence = times[rows], outputs[rows], confidence[rows]
        self._fresh.append((times, np.zeros(times.size) if cuts is None else cuts, confidence, inputs.values, outputs))
        self._count += times.size
        if self._count >= self._prune_at:
            self._settle()
            self._prune()
            self._prune_at = 2 * self._count + self._size

    def forget_before(self, oldest: int) -> None:
        """Let go of what happened before a moment, at the next occasion."""
        self._oldest = oldest

    def between(self, start: int, end: int) -> SampledRequests:
        """A uniform sample of the requests that came in (start, end], where end is now."""
        self._settle()
        cut = max((cut for until, cut in self._cuts if until > start), default=0.0)
        chosen = np.flatnonzero((self._time > start) & (self._time <= end) & (self._priority >= cut))
        is_all = not cut and start >= self._pruned_until
        if chosen.size > self._size:
            highest = np.argpartition(self._priority[chosen], -self._size)[-self._size :]
            chosen, is_all = np.sort(chosen[highest]), False
        return SampledRequests(
            list(self._inputs[chosen]), list(self._outputs[chosen]), self._confidence[chosen], is_all
        )

    def _measure_rate(self, times: npt.NDArray[np.int64]) -> None:
        newest = int(times.max())
        self.latest = max(self.latest, newest)
        if self._measured_at is None:
            self._measured_at = int(times.min())
        self._arrived += int((times > self._measured_at).sum())
        elapsed = newest - self._measured_at
        if elapsed >= ONE_SECOND:
            self.cut = self._cut_for(self._arrived / elapsed * ONE_SECOND)
            self._arrived, self._measured_at = 0, newest
        else:
            # A burst may end at any moment: count on what has come, not on what would come at this rate.
            self.cut = max(self.cut, self._cut_for(self._arrived))

    def _cut_for(self, inputs_a_second: float) -> float:
        """The cut that leaves at least a full sample of a second, in halves so that it is steady at a wavering rate."""
        surplus = inputs_a_second / self._size
        return 1.0 - 0.5 ** math.floor(math.log2(surplus)) if surplus > 1 else 0.0

    def _note_cut(self, until: int, cut: float) -> None:
        if self._cuts and self._cuts[-1][1] == cut:
            until = max(until, self._cuts.pop()[0])
        self._cuts.append((until, cut))
        while self._cuts and self._cuts[0][0] < self._oldest:
            self._cuts.popleft()

    def _settle(self) -> None:
        """Give the inputs that came since the last time their priorities."""
        if not self._fresh:
            return
        # An input carries the cut by which it was kept, which may be an older one than is in force now.
        times, cuts, confidences, inputs, outputs = zip(*self._fresh, strict=True)
        time = np.concatenate(times)
        floor = np.concatenate(cuts)
        self._fresh.clear()
        self._time = np.concatenate([self._time, time])
        self._priority = np.concatenate([self._priority, floor + (1 - floor) * self._rng.random(time.size)])
        self._confidence = np.concatenate([self._confidence, *confidences])
        self._inputs, self._outputs = compacted([self._inputs, *inputs]), compacted([self._outputs, *outputs])

    def _prune(self) -> None:
        order = np.argsort(self._time, kind="stable")[::-1]
        priority = self._priority[order]
        kept = np.zeros(order.size, bool)
        best = np.empty(0)
        # Block by block from the newest: whatever ranks below the best of the later blocks can never be drawn again.
        for start in range(0, order.size, self._size):
            block = priority[start : start + self._size]
            threshold = best.min() if best.size >= self._size else -1.0
            kept[start : start + self._size] = block > threshold
            best = np.concatenate([best, block])
            if best.size > self._size:
                best = np.partition(best, -self._size)[-self._size :]
        chosen = np.zeros(order.size, bool)
        chosen[order] = kept
        chosen &= self._time >= self._oldest
        self._pruned_until = max(self._pruned_until, int(self._time[~chosen].max(initial=self._pruned_until)))
        self._time, self._priority, self._inputs = self._time[chosen], self._priority[chosen], self._inputs[chosen]
        self._outputs, self._confidence = self._outputs[chosen], self._confidence[chosen]
        self._count = self._time.size


class WindowSamples:
    """The samples of versions; bounded, whatever the number of versions.

    *Thread safety*: none; the owner locks.

    Args:
        size: Inputs in a sample, at most.
        rng: Where priorities come from.
    """

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self._size = size
        self._rng = rng
        # The one that was fed last is the last.
        self._by_code: dict[int, WindowSample] = {}
        # Of versions whose sample was let go, the latest moment that was in it.
        self._gone: dict[int, int] = {}

    def fed(self, code: int) -> WindowSample:
        """The sample of a version that has traffic. Of too many, the one without traffic for longest is let go."""
        sample = self._by_code.pop(code, None)
        if sample is None:
            sample = WindowSample(self._size, self._rng, self._gone.pop(code, FOREVER_AGO))
            if len(self._by_code) >= MOST_SAMPLED:
                oldest = next(iter(self._by_code))
                self._gone[oldest] = self._by_code.pop(oldest).latest
        self._by_code[code] = sample
        return sample

    def has_seen(self, code: int) -> bool:
        """Whether a version ever had traffic."""
        return code in self._by_code or code in self._gone

    def between(self, code: int, start: int, end: int) -> SampledRequests:
        """As ``WindowSample.between``; nothing of a version whose sample was let go."""
        sample = self._by_code.get(code)
        if sample is not None:
            return sample.between(start, end)
        return attrs.evolve(NO_REQUESTS, is_all=start >= self._gone.get(code, FOREVER_AGO))

    def forget_before(self, code: int, oldest: int) -> None:
        """Let go of what happened before a moment, at the next occasion."""
        if code in self._by_code:
            self._by_code[code].forget_before(oldest)
