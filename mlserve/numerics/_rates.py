"""Evidence that events have become more frequent, whenever the rise began, from counts in batches of any size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mlserve.errors import InvalidArgumentError
from mlserve.numerics._sequential import START_SCALE, bernoulli_log_e_value, unspent_mass

FloatArray = npt.NDArray[np.float64]

ODDS_RATIOS = (1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0)
"""Alternatives to a rate q: odds so many times q/(1 − q), from one that takes long to see to one seen in a few events.
"""

MIXTURE_SHARE = 0.5
"""Of the evidence this share is that of a rise which was there from the start; the rest, of one that began later."""

LASTING_ODDS_RATIO = 2.0
"""Once a larger rise was found, one to less than this is over: weaker alternatives take thousands of events to lose."""


class RateEvidence:
    """Evidence that events are more frequent than a rate q.

    Half of it is ``bernoulli_log_e_value`` of all counts so far; it sees any lasting rise, however small. The other
    half finds one that begins after a long calm, by likelihood ratios against q with the prior of ``start_mass`` over
    the start: of S events among t in a batch, for each odds ratio r,

        A ← (A + W)·r^S·(1 + q(r − 1))^(−t),  W = the prior's mass on the batch's rows.

    E = ½·(mixture) + ½·(mean A + unspent prior) is an e-process at the ends of batches while the chance of an event,
    given the past, is at most q: P(ever E ≥ 1/α) ≤ α.

    In logarithms, since a batch may hold millions. Thread safety: none.

    Args:
        rate: q in (0, 1).

    Attributes:
        errors: Events so far.
        count: Of so many.
        log_evidence: The natural logarithm of E after the last batch; 0 before the first.
    """

    def __init__(self, rate: float) -> None:
        self.errors = 0
        self.count = 0
        self.log_evidence = 0.0
        self._rate = rate
        self._fortunes: FloatArray = np.full(len(ODDS_RATIOS), -np.inf)
        # The largest summand of each fortune, and the row at which it started.
        self._best: FloatArray = np.full(len(ODDS_RATIOS), -np.inf)
        self._starts: npt.NDArray[np.int64] = np.zeros(len(ODDS_RATIOS), dtype=np.int64)
        self._ceiling: float | None = None
        self._weakest = 0

    def update(self, errors: int, count: int, row: int) -> None:
        """Take a batch in.

        Args:
            errors: Events, in [0, count].
            count: Of so many, at least 1.
            row: The caller's number of the batch's first row: what ``likeliest_start`` answers with.
        """
        mass = count / START_SCALE
        if self._ceiling is None:
            mass = float(unspent_mass(self.count) - unspent_mass(self.count + count))
        self.errors += errors
        self.count += count
        ratios = np.array(ODDS_RATIOS)
        gain = errors * np.log(ratios) - count * np.log1p(self._rate * (ratios - 1))
        fresh = self._best < math.log(mass)
        self._starts[fresh] = row
        self._best = np.maximum(self._best, math.log(mass)) + gain
        self._fortunes = np.logaddexp(self._fortunes, math.log(mass)) + gain
        if self._ceiling is not None:
            self._fortunes = np.minimum(self._fortunes, self._ceiling)
        self.log_evidence = self._evidence()

    def _evidence(self) -> float:
        late = float(np.logaddexp.reduce(self._fortunes[self._weakest :])) - math.log(len(ODDS_RATIOS))
        if self._ceiling is not None:
            return late
        late = float(np.logaddexp(late, math.log(unspent_mass(self.count))))
        at_once = bernoulli_log_e_value(self.errors, self.count, self._rate)
        return float(np.logaddexp(at_once + math.log(MIXTURE_SHARE), late + math.log1p(-MIXTURE_SHARE)))

    @property
    def likeliest_start(self) -> int:
        """The first row, as the caller numbers it, of the batch in which the rise most likely began."""
        return int(self._starts[int(np.argmax(self._best))])

    def lasting(self, ceiling: float) -> RateEvidence:
        """Evidence that a rise, just found, still lasts.

        Its fortunes are held below a ceiling, so that they come down soon after the rise is over, and alternatives so
        weak that they would take long are left out. There is no guarantee of false alarms: it is for ending alarms.

        Args:
            ceiling: The log of the largest fortune; that of the leading alternative starts there.

        Returns:
            A new object, independent of this one.
        """
        other = RateEvidence(self._rate)
        leading = int(np.argmax(self._best))
        other._weakest = min(leading, ODDS_RATIOS.index(LASTING_ODDS_RATIO))
        other._ceiling = ceiling
        other._fortunes[leading] = ceiling
        other.log_evidence = other._evidence()
        return other

    def to_state(self) -> dict[str, Any]:
        """As numbers and lists of numbers; None for the logarithm of 0."""
        return {
            "errors": self.errors,
            "count": self.count,
            "fortunes": [None if item == -math.inf else item for item in self._fortunes.tolist()],
            "best": [None if item == -math.inf else item for item in self._best.tolist()],
            "starts": self._starts.tolist(),
            "ceiling": self._ceiling,
            "weakest": self._weakest,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], rate: float) -> RateEvidence:
        """The one whose ``to_state`` gave this.

        Raises:
            InvalidArgumentError: Numbers that no stream leads to.
        """
        made = cls(rate)
        made.errors, made.count = int(state["errors"]), int(state["count"])
        made._fortunes, made._best = (
            np.array([-math.inf if item is None else float(item) for item in state[name]])
            for name in ("fortunes", "best")
        )
        made._starts = np.array(state["starts"], dtype=np.int64)
        made._ceiling = None if state["ceiling"] is None else float(state["ceiling"])
        made._weakest = int(state["weakest"])
        shapes = {made._fortunes.shape, made._best.shape, made._starts.shape}
        if shapes != {(len(ODDS_RATIOS),)} or np.isnan(made._fortunes + made._best).any():
            raise InvalidArgumentError("state", shapes, f"fortunes, best and starts of {len(ODDS_RATIOS)} numbers each")
        if not 0 <= made.errors <= made.count or not 0 <= made._weakest < len(ODDS_RATIOS):
            raise InvalidArgumentError("state", (made.errors, made.count), "errors of at most count")
        if made.count or made._ceiling is not None:
            made.log_evidence = made._evidence()
        return made
