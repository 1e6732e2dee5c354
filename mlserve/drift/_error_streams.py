"""Watching an error rate as labels arrive, with a guarantee about false alarms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from threading import Lock
from typing import Any, final

import numpy as np
from typing_extensions import override

from mlserve.drift._policy import DIRECTIONS
from mlserve.drift._stream_states import DriftStreamStatus, broken_state, checked_state, lasting_levels
from mlserve.errors import InvalidArgumentError
from mlserve.numerics._rates import RateEvidence
from mlserve.numerics._sequential import check_probability, clopper_pearson_upper

STATE_FORMAT = 1

BASELINE_SHARE = 0.5
"""Of alpha this share is spent on the chance that the baseline's bound is too low, the rest on watching."""

FEATURE = "error_rate"
"""What ``DriftStreamStatus.features`` calls it."""


@final
class ErrorRateStream:
    """Watches a rate of errors as labels arrive, and alarms when it has risen above the baseline.

    Evidence is an e-process against every error rate up to q, where q is the upper Clopper–Pearson bound of the
    baseline plus ``tolerance`` (``mlserve.numerics._rates`` gives formulas and sources).

    *The guarantee.* While the chance of an error, given the past, is at most the baseline's true rate plus
    ``tolerance``, the chance that an alarm is *ever* raised is at most ``alpha``, however often one looks: half of
    alpha is spent on the bound of the baseline, half on the evidence. The guarantee is about the labels since the
    stream was armed.

    Labels may come late and in any order if how late does not depend on whether the answer was right. They may come one
    by one or in batches; the evidence of a rise that begins later depends on the batches, since it is looked for from
    the start of each.

    *The alarm* is raised once, ends by itself when the rate is back, with hysteresis, and then the stream is armed
    anew; ``rearm`` does so at once, and with a new baseline accepts the new rate as the normal one.

    Thread safety: a lock around the state. Memory: about 70 numbers.

    Args:
        baseline_errors: Errors among the labelled rows of when all was well, not those the model was trained on.
        baseline_count: Number of these rows, at least 1.
        tolerance: A rise that is none, added to the bound: 0.02 lets a rate of 0.1 rise to 0.12.
        alpha: The chance of ever raising a false alarm, in (0, 1).
        direction: ``"worse"``: more errors alarm; ``"both"``: fewer errors too, each with half of alpha.

    Raises:
        InvalidArgumentError: A value outside its range, or a baseline so bad or so small that nothing would be worse.

    Example:
        >>> stream = ErrorRateStream(100, 1000)
        >>> stream.update(95, 1000).alarm
        False
        >>> status = stream.update(60, 200)
        >>> status.alarm, status.since
        (True, 1000)
    """

    _watches: list[RateEvidence]
    _lasting: RateEvidence | None
    _n: int
    _alarm_count: int
    _raised_at: int | None
    _since: int | None

    def __init__(
        self,
        baseline_errors: int,
        baseline_count: int,
        *,
        tolerance: float = 0.0,
        alpha: float = 0.01,
        direction: str = "worse",
    ) -> None:
        check_probability("alpha", alpha)
        real = isinstance(tolerance, (int, float, np.floating)) and not isinstance(tolerance, bool)
        if not real or not 0 <= tolerance < 1:
            raise InvalidArgumentError("tolerance", tolerance, "a rate in [0, 1)", hint="2 % is 0.02.")
        if direction not in DIRECTIONS:
            raise InvalidArgumentError("direction", direction, f"one of {', '.join(DIRECTIONS)}")
        self._alpha, self._tolerance, self._direction = float(alpha), float(tolerance), direction
        self._set_baseline(baseline_errors, baseline_count)
        self._initial = self._baseline
        self._lock = Lock()
        self._clear()

    @property
    def rates(self) -> tuple[float, ...]:
        """q: the error rate above which evidence grows; with ``direction="both"`` also the one below which it does."""
        return tuple(rate if side == 0 else 1 - rate for side, rate in enumerate(self._rates))

    @property
    def status(self) -> DriftStreamStatus:
        """What there is to say without new labels."""
        with self._lock:
            return self._status(raised=False)

    def update(self, errors: int, count: int) -> DriftStreamStatus:
        """Take labels in.

        Args:
            errors: How many of the newly labelled rows were answered wrongly.
            count: How many there are; 0 changes nothing.

        Returns:
            The status after them; ``features`` is ``("error_rate",)`` in an alarm, and rows are labels, counted in the
            order in which they arrived.

        Raises:
            InvalidArgumentError: Not whole numbers with 0 <= errors <= count; nothing was taken in.
        """
        errors, count = _counts("errors", errors, "count", count)
        with self._lock:
            raised = False
            if count:
                raised = self._update(errors, count)
                self._n += count
            return self._status(raised=raised)

    def rearm(self, baseline_errors: int | None = None, baseline_count: int | None = None) -> None:
        """End the alarm, forget the evidence and watch anew; labels are counted on.

        Args:
            baseline_errors: With ``baseline_count``, the new baseline; by default it stays.
            baseline_count: See ``baseline_errors``.

        Raises:
            InvalidArgumentError: As the constructor does; nothing was changed.
        """
        with self._lock:
            if baseline_errors is not None or baseline_count is not None:
                self._set_baseline(baseline_errors, baseline_count)
            self._arm()

    def reset(self) -> None:
        """Be as if newly built: no labels seen, no alarm raised, the first baseline."""
        with self._lock:
            self._set_baseline(*self._initial)
            self._clear()

    def to_state(self) -> dict[str, Any]:
        """All of it as plain values that JSON can hold, for ``from_state``."""
        with self._lock:
            return {
                "kind": "ErrorRateStream",
                "format": STATE_FORMAT,
                "alpha": self._alpha,
                "tolerance": self._tolerance,
                "direction": self._direction,
                "initial_baseline": list(self._initial),
                "baseline": list(self._baseline),
                "n": self._n,
                "alarm_count": self._alarm_count,
                "raised_at": self._raised_at,
                "since": self._since,
                "watches": [watch.to_state() for watch in self._watches],
                "lasting": None if self._lasting is None else self._lasting.to_state(),
                "lasting_side": self._side,
            }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> ErrorRateStream:
        """A stream that goes on where ``to_state`` was called, in this process or another.

        Raises:
            InvalidArgumentError: Not the state of an ``ErrorRateStream``, or of another format.
        """
        state = checked_state(state, "ErrorRateStream", STATE_FORMAT)
        try:
            stream = cls(
                *state["initial_baseline"],
                tolerance=state["tolerance"],
                alpha=state["alpha"],
                direction=state["direction"],
            )
            stream._set_baseline(*state["baseline"])
            stream._n, stream._alarm_count = int(state["n"]), int(state["alarm_count"])
            stream._raised_at, stream._since = state["raised_at"], state["since"]
            pairs = zip(state["watches"], stream._rates, strict=True)
            stream._watches = [RateEvidence.from_state(watch, rate) for watch, rate in pairs]
            stream._side = int(state["lasting_side"])
            if state["lasting"] is not None:
                stream._lasting = RateEvidence.from_state(state["lasting"], stream._rates[stream._side])
        except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise broken_state(state, error) from error
        return stream

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        return ErrorRateStream.from_state, (self.to_state(),)

    @override
    def __repr__(self) -> str:
        rates = " or ".join(f"{sign} {rate:.4g}" for sign, rate in zip("><", self.rates, strict=False))
        return f"ErrorRateStream(rate {rates}, alpha={self._alpha}, n={self._n}, alarm={self._lasting is not None})"

    @property
    def _sides(self) -> int:
        return 2 if self._direction == "both" else 1

    @property
    def _threshold(self) -> float:
        return -math.log(self._alpha * (1 - BASELINE_SHARE) / self._sides)

    def _set_baseline(self, errors: Any, count: Any) -> None:
        errors, count = _counts("baseline_errors", errors, "baseline_count", count)
        if not count:
            raise InvalidArgumentError("baseline_count", count, "a number of labelled rows, at least 1")
        level = self._alpha * BASELINE_SHARE / self._sides
        events = (errors, count - errors)[: self._sides]
        rates = [clopper_pearson_upper(event, count, level) + self._tolerance for event in events]
        if max(rates) >= 1:
            expected = f"a baseline that a rate can be worse than; its bound is {max(rates)}"
            raise InvalidArgumentError(
                "baseline_errors", (errors, count), expected, hint="Give more baseline rows, or less tolerance."
            )
        self._baseline, self._rates = (errors, count), rates

    def _clear(self) -> None:
        self._n = self._alarm_count = 0
        self._arm()

    def _arm(self) -> None:
        self._watches = [RateEvidence(rate) for rate in self._rates]
        self._lasting = None
        self._side = 0
        self._raised_at = self._since = None

    def _update(self, errors: int, count: int) -> bool:
        """Take labels in; whether an alarm was raised."""
        clear, ceiling = lasting_levels(self._threshold)
        events = (errors, count - errors)
        for event, watch in zip(events, self._watches, strict=False):
            watch.update(event, count, self._n)
        if self._lasting is not None:
            self._lasting.update(events[self._side], count, self._n)
            if self._lasting.log_evidence <= clear:
                self._arm()
            return False
        evidence = [watch.log_evidence for watch in self._watches]
        self._side = int(np.argmax(evidence))
        if evidence[self._side] < self._threshold:
            return False
        leading = self._watches[self._side]
        self._lasting = leading.lasting(ceiling)
        self._since, self._raised_at = leading.likeliest_start, self._n + count - 1
        self._alarm_count += 1
        return True

    def _status(self, *, raised: bool) -> DriftStreamStatus:
        return DriftStreamStatus(
            alarm=self._lasting is not None,
            evidence=max(watch.log_evidence for watch in self._watches),
            threshold=self._threshold,
            features=() if self._lasting is None else (FEATURE,),
            since=self._since,
            n=self._n,
            raised=raised,
            raised_at=self._raised_at,
            alarm_count=self._alarm_count,
        )


def _counts(errors_name: str, errors: Any, count_name: str, count: Any) -> tuple[int, int]:
    for name, value in ((errors_name, errors), (count_name, count)):
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not (whole or (isinstance(value, (float, np.floating)) and float(value).is_integer())) or value < 0:
            raise InvalidArgumentError(name, value, "a whole number, at least 0")
    if errors > count:
        raise InvalidArgumentError(errors_name, errors, f"at most {count_name}, {count}")
    return int(errors), int(count)
