"""Watching inputs row by row, for as long as one likes, with a guarantee about false alarms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any, final

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from mlserve.drift._stream_states import (
    DriftStreamStatus,
    FloatTable,
    broken_state,
    checked_state,
    floats,
    lasting_levels,
    number_table,
    plain_floats,
)
from mlserve.errors import InvalidArgumentError
from mlserve.numerics._conformal import ConformalEvidence, ReferenceCuts
from mlserve.numerics._multiplicity import holm
from mlserve.numerics._sequential import check_probability
from mlserve.records import InputSample
from mlserve.records._monitoring import checked_feature_names

STATE_FORMAT = 1

MINIMUM_REFERENCE_ROWS = 2
"""One row is a mistake of shape rather than a reference. From two rows on the guarantee holds; a useful reference has
hundreds: the change that can be seen soon is the one that stands out from it."""

_ROWS_A_STEP = 1000
"""Rows between two looks at whether the alarm goes on or off; when it does, at most so many are taken again."""


@final
class DriftStream:
    """Watches the inputs of a model, row by row or in chunks of any size, and alarms when they have changed.

    Each feature has a conformal test martingale: each new value is ranked among the reference and the rows before it,
    and evidence grows as the ranks cease to be uniform (``mlserve.numerics._conformal`` tells how, with sources). An
    alarm is raised when the evidence of one of d features reaches d/α.

    *The guarantee.* While the rows are exchangeable with the reference (for example all independent draws from one
    distribution), the chance that an alarm is *ever* raised, however long one watches and however often one looks, is
    at most ``alpha``: exactly, for every distribution, with ties and missing values, whatever the dependence between
    features. With ``mean_time_to_false_alarm=A`` in place of ``alpha`` it is Shiryaev–Roberts' rule with threshold d·A:
    the mean number of rows until a false alarm is at least A, and the chance of one within n rows at most n/A. That
    rule is for streams that run for years: it costs no more to see a change late. The guarantee is about the rows since
    the stream was armed. It does not cover rows that depend on one another over time, such as traffic with a daily
    rhythm: see ``SeasonalDriftStream``.

    *What it sees.* Shifts, changes of spread and of shape, missing values and new categories. Half a standard deviation
    in one of four features takes about 120 rows at alpha 0.01 with 1 500 reference rows. A change of dependence
    between features is not seen.

    *The alarm* is raised once. It ends by itself when the inputs look like the reference again, with hysteresis, and
    the stream is armed anew, against the reference alone; ``rearm`` does so at once. Each time the guarantee starts
    anew, as that of a new stream with this reference. An alarm over a change so small that it took thousands of rows to
    see may end while it lasts; with a reference of few hundred rows one may outlast its change. After an alarm over a
    lasting change, build a new stream with recent rows as its reference.

    Rows are numbers; code each category as a number of its own. Missing values (NaN, None) are a value of their own,
    above all others. The result does not depend on how rows are grouped into calls.

    Two streams cannot be merged: the ranks of each rest on the order of its rows.

    Thread safety: a lock around the state; calls from several threads are taken one after the other. Memory: about 400
    numbers a feature, however long the reference and the stream; the reference is not kept.

    Args:
        reference: Rows from when all was well, shape ``(n_samples, n_features)`` or ``(n_samples,)``, at least two:
            numbers, a frame (it brings its column names) or an ``InputSample``.
        alpha: The chance of ever raising a false alarm, in (0, 1); without meaning when the next is given.
        mean_time_to_false_alarm: A, in rows, at least 1.
        feature_names: One name a feature; by default the reference's own, or ``x0, x1, …``.
        seed: Of the random numbers that break ties, at least 0.

    Raises:
        InvalidArgumentError: A value outside its range, a reference with fewer than two rows, columns that are not
            numbers, or names that do not fit.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> stream = DriftStream(rng.normal(size=(1000, 2)), feature_names=["calm", "moved"])
        >>> stream.update(rng.normal(size=(2000, 2))).alarm
        False
        >>> status = stream.update(rng.normal(size=(300, 2)) + [0.0, 0.5])
        >>> status.alarm, status.features, abs(status.since - 2000) < 100
        (True, ('moved',), True)
    """

    _names: tuple[str, ...]
    _columns: tuple[str, ...] | None
    _watch: ConformalEvidence
    _lasting: ConformalEvidence | None
    _n: int
    _alarm_count: int
    _raised_at: int | None
    _since: int | None

    def __init__(
        self,
        reference: Any,
        *,
        alpha: float = 0.01,
        mean_time_to_false_alarm: float | None = None,
        feature_names: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        check_probability("alpha", alpha)
        if mean_time_to_false_alarm is not None:
            _check_mean_time(mean_time_to_false_alarm)
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
            raise InvalidArgumentError("seed", seed, "a whole number, at least 0")
        table, names, self._columns = named_table(reference, feature_names)
        if len(table) < MINIMUM_REFERENCE_ROWS:
            raise InvalidArgumentError(
                "reference", table.shape, f"at least {MINIMUM_REFERENCE_ROWS} rows",
                hint="One feature is of shape (n_samples,) or (n_samples, 1).",
            )  # fmt: skip
        self._names = names
        self._alpha = float(alpha)
        self._mean_time = None if mean_time_to_false_alarm is None else float(mean_time_to_false_alarm)
        self._generator = np.random.Generator(np.random.PCG64(int(seed)))
        self._cuts = ReferenceCuts.of(table, self._generator)
        self._initial_draws = _draws_state(self._generator)
        self._lock = Lock()
        self._clear()

    @property
    def feature_names(self) -> tuple[str, ...]:
        """One name a feature."""
        return self._names

    @property
    def status(self) -> DriftStreamStatus:
        """What there is to say without new rows."""
        with self._lock:
            return self._status(raised=False)

    def update(self, rows: Any) -> DriftStreamStatus:
        """Take rows in.

        Args:
            rows: Shape ``(n_samples, n_features)``, any number of rows, none included; one row as ``(n_features,)``; of
                a single feature, values as ``(n_samples,)``. A frame must have the reference's columns in its order.

        Returns:
            The status after the last of them.

        Raises:
            InvalidArgumentError: Another width, other columns, or something that is no number; nothing was taken in.
        """
        table = self._checked(rows)
        with self._lock:
            return self._update(table, np.arange(self._n, self._n + len(table)))

    def rearm(self) -> None:
        """End the alarm, forget the evidence and watch anew against the reference; rows are counted on."""
        with self._lock:
            self._arm()

    def reset(self) -> None:
        """Be as if newly built: no rows seen, no alarm raised."""
        with self._lock:
            self._generator.bit_generator.state = _draws_from(self._initial_draws)
            self._clear()

    def to_state(self) -> dict[str, Any]:
        """All of it as plain values that JSON can hold, for ``from_state``."""
        with self._lock:
            return {
                "kind": "DriftStream",
                "format": STATE_FORMAT,
                "feature_names": list(self._names),
                "columns": None if self._columns is None else list(self._columns),
                "alpha": self._alpha,
                "mean_time_to_false_alarm": self._mean_time,
                "cuts": plain_floats(self._cuts.values.real),
                "cut_tie_breaks": self._cuts.values.imag.tolist(),
                "gaps": self._cuts.gaps.tolist(),
                "initial_draws": dict(self._initial_draws),
                "draws": _draws_state(self._generator),
                "n": self._n,
                "alarm_count": self._alarm_count,
                "raised_at": self._raised_at,
                "since": self._since,
                "watch": self._watch.to_state(),
                "lasting": None if self._lasting is None else self._lasting.to_state(),
            }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> DriftStream:
        """A stream that goes on where ``to_state`` was called, in this process or another.

        Raises:
            InvalidArgumentError: Not the state of a ``DriftStream``, or of another format.
        """
        state = checked_state(state, "DriftStream", STATE_FORMAT)
        stream = object.__new__(cls)
        try:
            stream._restore(state)
        except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise broken_state(state, error) from error
        return stream

    def _restore(self, state: Mapping[str, Any]) -> None:
        real, imaginary = floats(state["cuts"]), np.array(state["cut_tie_breaks"], dtype=np.float64)
        gaps = np.array(state["gaps"], dtype=np.int64)
        wanted = [len(state["feature_names"]), len(gaps) - 1]
        if list(real.shape) != wanted or list(imaginary.shape) != wanted or (gaps < 1).any():
            raise ValueError("the cuts do not fit the feature names or the gaps")
        values = np.empty(real.shape, dtype=np.complex128)
        values.real, values.imag = real, imaginary
        self._cuts = ReferenceCuts(values, gaps)
        self._names = checked_feature_names(state["feature_names"], len(values))
        columns = state["columns"]
        self._columns = None if columns is None else tuple(columns)
        check_probability("alpha", state["alpha"])
        self._alpha, self._mean_time = state["alpha"], state["mean_time_to_false_alarm"]
        if self._mean_time is not None:
            _check_mean_time(self._mean_time)
        self._initial_draws = dict(state["initial_draws"])
        self._generator = np.random.Generator(np.random.PCG64(0))
        for draws in (self._initial_draws, state["draws"]):  # the first only to see that it is one
            self._generator.bit_generator.state = _draws_from(draws)
        self._n, self._alarm_count = int(state["n"]), int(state["alarm_count"])
        self._raised_at, self._since = state["raised_at"], state["since"]
        lasting = state["lasting"]
        self._watch = ConformalEvidence.from_state(state["watch"], gaps, len(values))
        self._lasting = None if lasting is None else ConformalEvidence.from_state(lasting, gaps, len(values))
        self._lock = Lock()

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        return DriftStream.from_state, (self.to_state(),)

    @override
    def __repr__(self) -> str:
        rule = f"alpha={self._alpha}" if self._mean_time is None else f"mean_time_to_false_alarm={self._mean_time:g}"
        return f"DriftStream({len(self._names)} features, {rule}, n={self._n}, alarm={self._lasting is not None})"

    @property
    def _level(self) -> float:
        """What a single feature's evidence must reach the inverse of."""
        return self._alpha if self._mean_time is None else 1.0 / self._mean_time

    @property
    def _threshold(self) -> float:
        return len(self._names) / self._level

    def _checked(self, rows: Any) -> FloatTable:
        columns = getattr(rows, "columns", None)
        if columns is not None:
            found = tuple(str(column) for column in columns)
            moved = sorted(found) == sorted(self._names) and found != self._names
            if moved or (self._columns is not None and found != self._columns):
                raise InvalidArgumentError(
                    "rows", found, f"the columns {self._columns or self._names}, in this order",
                    hint="Pass frame[list(stream.feature_names)].",
                )  # fmt: skip
        return number_table("rows", rows, self._names, len(self._names))

    def _clear(self) -> None:
        self._n = self._alarm_count = 0
        self._arm()

    def _arm(self) -> None:
        self._watch = ConformalEvidence(self._cuts.gaps, len(self._names), shiryaev_roberts=self._mean_time is not None)
        self._lasting = None
        self._raised_at = self._since = None

    def _update(self, table: FloatTable, numbers: npt.NDArray[np.int64]) -> DriftStreamStatus:
        """Take rows in, under these numbers."""
        alarms = self._alarm_count
        for first in range(0, len(table), _ROWS_A_STEP):
            part = table[first : first + _ROWS_A_STEP]
            # Drawn row by row, so that each row has the same numbers however rows are grouped.
            draws = self._generator.random((len(part), 2, part.shape[1]))
            bins, done = self._cuts.bins(part, draws[:, 0]), 0
            while done < len(part):
                rest = slice(first + done, first + len(part))
                done += self._step(bins[done:], draws[done:, 1], numbers[rest])
        self._n += len(table)
        return self._status(raised=self._alarm_count > alarms)

    def _step(self, bins: npt.NDArray[np.int64], draws: FloatTable, numbers: npt.NDArray[np.int64]) -> int:
        """Take rows in up to the one at which the alarm goes on or off; return how many."""
        watch, lasting = self._watch.copy(), self._lasting and self._lasting.copy()
        evidence = self._watch.update(bins, draws, numbers)
        if self._lasting is None:
            turns = evidence.max(axis=1) >= self._threshold
        else:
            clear, _ = lasting_levels(math.log(self._threshold))
            # Of the features that changed only: the others are not held to the reference by a guarantee.
            changed = np.maximum(np.maximum.accumulate(evidence, axis=0), watch.peak) >= self._threshold
            over = self._lasting.update(bins, draws, numbers) <= math.exp(clear)
            turns = (over | ~changed).all(axis=1)
        taken = int(np.argmax(turns)) + 1
        if not turns[taken - 1]:
            return len(bins)
        if taken < len(bins):
            self._watch, self._lasting = watch, lasting
            for moving in (watch, lasting):
                if moving is not None:
                    moving.update(bins[:taken], draws[:taken], numbers[:taken])
        if self._lasting is not None:
            self._arm()
        else:
            self._raise(int(numbers[taken - 1]))
        return taken

    def _raise(self, row: int) -> None:
        leading = int(np.argmax(self._watch.current))
        _, ceiling = lasting_levels(math.log(self._threshold))
        self._since, self._raised_at = self._watch.likeliest_start(leading), row
        self._lasting = self._watch.lasting(self._cuts.gaps, leading, math.exp(ceiling))
        self._alarm_count += 1

    def _status(self, *, raised: bool) -> DriftStreamStatus:
        alarm, strongest = self._lasting is not None, float(self._watch.current.max())
        return DriftStreamStatus(
            alarm=alarm,
            evidence=math.log(strongest) if strongest > 0 else 0.0,
            threshold=math.log(self._threshold),
            features=self._changed() if alarm else (),
            since=self._since,
            n=self._n,
            raised=raised,
            raised_at=self._raised_at,
            alarm_count=self._alarm_count,
        )

    def _changed(self) -> tuple[str, ...]:
        peak = self._watch.peak
        adjusted = holm(1.0 / np.maximum(peak, 1.0))
        return tuple(self._names[index] for index in np.argsort(-peak, kind="stable") if adjusted[index] <= self._level)


def named_table(
    reference: Any, feature_names: Sequence[str] | None
) -> tuple[FloatTable, tuple[str, ...], tuple[str, ...] | None]:
    """A reference as numbers, the names of its features, and the columns that frames must have from now on.

    Raises:
        InvalidArgumentError: Not a table of numbers, or names that do not fit.
    """
    columns = getattr(reference, "columns", None)
    found = None if columns is None else tuple(str(column) for column in columns)
    if isinstance(reference, InputSample):
        reference, found = reference.rows, reference.feature_names
        columns = None
    if isinstance(feature_names, str):
        raise InvalidArgumentError("feature_names", feature_names, "a sequence of names, one for each feature")
    table = number_table("reference", reference, feature_names or found)
    names = feature_names if feature_names is not None else found or [f"x{index}" for index in range(table.shape[1])]
    return table, checked_feature_names(names, table.shape[1]), None if columns is None else found


def _check_mean_time(value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise InvalidArgumentError("mean_time_to_false_alarm", value, "a number of rows, at least 1")
    if not 1 <= value < math.inf:
        raise InvalidArgumentError("mean_time_to_false_alarm", value, "a finite number of rows, at least 1")


def _draws_state(generator: np.random.Generator) -> dict[str, str]:
    """The state of PCG64; as text, since its integers are larger than most readers of JSON can hold."""
    state = generator.bit_generator.state["state"]
    return {"state": str(state["state"]), "increment": str(state["inc"])}


def _draws_from(state: Mapping[str, str]) -> dict[str, Any]:
    inner = {"state": int(state["state"]), "inc": int(state["increment"])}
    return {"bit_generator": "PCG64", "state": inner, "has_uint32": 0, "uinteger": 0}
