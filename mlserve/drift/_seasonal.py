"""Watching inputs that have a rhythm: each hour of the week against the same hour of the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from threading import Lock
from typing import Any, final

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from mlserve.drift._stream_states import DriftStreamStatus, broken_state, checked_state
from mlserve.drift._streams import MINIMUM_REFERENCE_ROWS, DriftStream, named_table
from mlserve.errors import InvalidArgumentError

STATE_FORMAT = 1

HOURS_A_WEEK = 168

_EPOCH_HOUR = 72
"""The hour of the week at which 1970 began, a Thursday."""


def hour_of_week(times: Any) -> npt.NDArray[np.int64]:
    """The hour of the week of each time: 0 is Monday from 00:00 to 01:00, 167 the last of Sunday.

    Args:
        times: A datetime, a sequence of them, or a datetime64 array. The hour is the one the time itself shows, in its
            own zone: rhythms follow the clock on the wall.

    Returns:
        Int64, the shape of ``times``.

    Raises:
        InvalidArgumentError: Something that is no time, or NaT.

    Example:
        >>> from datetime import datetime
        >>> hour_of_week([datetime(2024, 1, 1, 9, 30), datetime(2024, 1, 7, 23)]).tolist()
        [9, 167]
    """
    array = np.asarray(times)
    if array.dtype.kind == "M":
        if np.isnat(array).any():
            raise InvalidArgumentError("times", times, "times without NaT")
        hours = array.astype("datetime64[h]").astype(np.int64)
        return np.asarray((hours + _EPOCH_HOUR) % HOURS_A_WEEK, dtype=np.int64)
    found = np.empty(array.shape, dtype=np.int64)
    for index, value in np.ndenumerate(array):
        if not isinstance(value, datetime) or value != value:  # NaT differs from itself
            raise InvalidArgumentError("times", value, "datetimes", hint="Use datetime or datetime64 values.")
        found[index] = 24 * value.weekday() + value.hour
    return found


@final
class SeasonalDriftStream:
    """A ``DriftStream`` for each bucket of time, such as the hour of the week.

    Traffic with a rhythm is no sample of one distribution: against a reference of all hours, each night is a drift.
    Here each row is compared with the reference rows of its own bucket.

    *The guarantee.* While the rows of each bucket are exchangeable with its reference, the chance of ever raising an
    alarm is at most ``alpha``: each of the watched buckets has an equal share of it. With ``mean_time_to_false_alarm``
    nothing is shared: each bucket's expected Shiryaev–Roberts statistic is its number of rows, and these add up to the
    rows of all, so that every bucket may have the threshold of one.

    A bucket with fewer than two reference rows is not watched; its rows are counted and otherwise let pass
    (``watched_buckets`` tells). Bucket by bucket it takes as many rows to see a change as one stream does in all: use
    few buckets (the hour of the day: 24) where the rhythm allows.

    Thread safety: a lock around the state. Memory: that of a ``DriftStream`` for each bucket.

    Args:
        reference: As for ``DriftStream``.
        reference_buckets: The bucket of each reference row, whole numbers in [0, n_buckets), shape ``(n_samples,)``.
        n_buckets: Number of buckets; by default the hours of a week, see ``hour_of_week``.
        alpha: As for ``DriftStream``, of all buckets together.
        mean_time_to_false_alarm: As for ``DriftStream``, in rows of all buckets together.
        feature_names: As for ``DriftStream``.
        seed: As for ``DriftStream``.

    Raises:
        InvalidArgumentError: As for ``DriftStream``; buckets that do not fit; no bucket with enough rows.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> hours = np.arange(4800) % 24
        >>> stream = SeasonalDriftStream(rng.normal(size=4800) + hours, hours, n_buckets=24)
        >>> stream.update(rng.normal(size=2400) + hours[:2400], hours[:2400]).alarm
        False
    """

    def __init__(
        self,
        reference: Any,
        reference_buckets: Any,
        *,
        n_buckets: int = HOURS_A_WEEK,
        alpha: float = 0.01,
        mean_time_to_false_alarm: float | None = None,
        feature_names: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        if isinstance(n_buckets, bool) or not isinstance(n_buckets, (int, np.integer)) or n_buckets < 1:
            raise InvalidArgumentError("n_buckets", n_buckets, "a whole number, at least 1")
        table, names, columns = named_table(reference, feature_names)
        self._n_buckets = int(n_buckets)
        buckets = self._checked_buckets("reference_buckets", reference_buckets, len(table))
        counts = np.bincount(buckets, minlength=self._n_buckets)
        watched = np.flatnonzero(counts >= MINIMUM_REFERENCE_ROWS)
        # Built here even if no bucket can be watched, so that what is wrong with the arguments is told first.
        whole = DriftStream(
            table, alpha=alpha, mean_time_to_false_alarm=mean_time_to_false_alarm, feature_names=names, seed=seed
        )
        if not watched.size:
            raise InvalidArgumentError(
                "reference_buckets", counts.max(), f"some bucket with at least {MINIMUM_REFERENCE_ROWS} rows"
            )
        self._names = whole.feature_names
        self._streams: dict[int, DriftStream] = {}
        for bucket in watched.tolist():
            self._streams[bucket] = DriftStream(
                table[buckets == bucket],
                alpha=alpha / len(watched),
                mean_time_to_false_alarm=mean_time_to_false_alarm,
                feature_names=names,
                seed=int(np.random.SeedSequence([int(seed), bucket]).generate_state(1)[0]),
            )
            self._streams[bucket]._columns = columns
        self._n = 0
        self._lock = Lock()

    @property
    def feature_names(self) -> tuple[str, ...]:
        """One name a feature."""
        return self._names

    @property
    def watched_buckets(self) -> tuple[int, ...]:
        """The buckets that had enough reference rows."""
        return tuple(self._streams)

    @property
    def statuses(self) -> dict[int, DriftStreamStatus]:
        """The status of each watched bucket; ``n`` counts its own rows, ``since`` and ``raised_at`` number all rows."""
        with self._lock:
            return {bucket: stream.status for bucket, stream in self._streams.items()}

    @property
    def status(self) -> DriftStreamStatus:
        """What there is to say without new rows."""
        with self._lock:
            return self._status(raised=False)

    def update(self, rows: Any, buckets: Any) -> DriftStreamStatus:
        """Take rows in.

        Args:
            rows: As for ``DriftStream``.
            buckets: The bucket of each row, shape ``(n_samples,)``; or one for all.

        Returns:
            The status over all buckets: the alarm of any, the largest evidence, the features of all alarms, and of
            ``since`` and ``raised_at`` the earliest.

        Raises:
            InvalidArgumentError: As for ``DriftStream``, or buckets that do not fit; nothing was taken in.
        """
        table = next(iter(self._streams.values()))._checked(rows)
        places = self._checked_buckets("buckets", buckets, len(table))
        with self._lock:
            raised = False
            for bucket in np.unique(places).tolist():
                if bucket in self._streams:
                    mine = np.flatnonzero(places == bucket)
                    raised |= self._streams[bucket]._update(table[mine], mine + self._n).raised
            self._n += len(table)
            return self._status(raised=raised)

    def rearm(self) -> None:
        """End all alarms, forget the evidence and watch anew; rows are counted on."""
        with self._lock:
            for stream in self._streams.values():
                stream.rearm()

    def reset(self) -> None:
        """Be as if newly built: no rows seen, no alarm raised."""
        with self._lock:
            self._n = 0
            for stream in self._streams.values():
                stream.reset()

    def to_state(self) -> dict[str, Any]:
        """All of it as plain values that JSON can hold, for ``from_state``."""
        with self._lock:
            return {
                "kind": "SeasonalDriftStream",
                "format": STATE_FORMAT,
                "n_buckets": self._n_buckets,
                "n": self._n,
                "streams": {str(bucket): stream.to_state() for bucket, stream in self._streams.items()},
            }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> SeasonalDriftStream:
        """A stream that goes on where ``to_state`` was called, in this process or another.

        Raises:
            InvalidArgumentError: Not the state of a ``SeasonalDriftStream``, or of another format.
        """
        state = checked_state(state, "SeasonalDriftStream", STATE_FORMAT)
        made = object.__new__(cls)
        try:
            made._n_buckets, made._n = int(state["n_buckets"]), int(state["n"])
            made._streams = {int(bucket): DriftStream.from_state(inner) for bucket, inner in state["streams"].items()}
            made._names = next(iter(made._streams.values())).feature_names
        except (AttributeError, KeyError, StopIteration, TypeError, ValueError) as error:
            raise broken_state(state, error) from error
        made._lock = Lock()
        return made

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        return SeasonalDriftStream.from_state, (self.to_state(),)

    @override
    def __repr__(self) -> str:
        watched = f"{len(self._streams)} of {self._n_buckets} buckets"
        return f"SeasonalDriftStream({len(self._names)} features, {watched}, n={self._n})"

    def _checked_buckets(self, parameter: str, value: Any, rows: int) -> npt.NDArray[np.int64]:
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise InvalidArgumentError(parameter, value, f"whole numbers ({error})") from error
        if array.ndim == 0 and array.dtype.kind in "iu":
            array = np.broadcast_to(array, (rows,))
        if array.shape != (rows,) or (array.size and array.dtype.kind not in "iu"):
            raise InvalidArgumentError(
                parameter, value, f"{rows} whole numbers, one for each row", hint="Use hour_of_week(times)."
            )
        if array.size and not (array.min() >= 0 and array.max() < self._n_buckets):
            raise InvalidArgumentError(parameter, value, f"buckets in [0, {self._n_buckets})")
        return array.astype(np.int64)

    def _status(self, *, raised: bool) -> DriftStreamStatus:
        every = [stream.status for stream in self._streams.values()]
        alarms = sorted((status for status in every if status.alarm), key=lambda status: -status.evidence)
        return DriftStreamStatus(
            alarm=bool(alarms),
            evidence=max(status.evidence for status in every),
            threshold=every[0].threshold,
            features=tuple(dict.fromkeys(name for status in alarms for name in status.features)),
            since=min((status.since for status in alarms if status.since is not None), default=None),
            n=self._n,
            raised=raised,
            raised_at=min((status.raised_at for status in alarms if status.raised_at is not None), default=None),
            alarm_count=sum(status.alarm_count for status in every),
        )
