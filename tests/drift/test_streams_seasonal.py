"""Watching inputs that have a rhythm."""

from __future__ import annotations

import copy
import json
import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from mlserve.drift._seasonal import SeasonalDriftStream, hour_of_week
from mlserve.drift._streams import DriftStream
from mlserve.errors import InvalidArgumentError

Ints = npt.NDArray[np.int64]


def traffic(rows: int, seed: int, buckets: int = 4) -> tuple[npt.NDArray[np.float64], Ints]:
    """Two features whose mean moves by three standard deviations from bucket to bucket."""
    rng = np.random.default_rng(seed)
    places = np.arange(rows) // 25 % buckets
    return rng.normal(size=(rows, 2)) + 3.0 * places[:, np.newaxis], places


def seasonal(**options: Any) -> SeasonalDriftStream:
    values, buckets = traffic(4000, 0)
    return SeasonalDriftStream(values, buckets, n_buckets=4, feature_names=["a", "b"], **options)


def test_a_rhythm_is_no_drift() -> None:
    """Traffic that repeats its rhythm alarms a plain stream, and not the one that knows the buckets."""
    values, buckets = traffic(4000, 1)
    assert not seasonal().update(values, buckets).alarm
    assert DriftStream(traffic(4000, 0)[0]).update(values).alarm_count > 0


def test_a_change_in_one_bucket_is_seen_there() -> None:
    """It alarms in its bucket only, names the feature, and numbers the rows over all buckets."""
    stream = seasonal()
    values, buckets = traffic(4000, 1)
    assert not stream.update(values, buckets).alarm
    values, buckets = traffic(2000, 2)
    values[buckets == 2, 1] += 1.5
    status = stream.update(values, buckets)
    assert (status.alarm, status.raised, status.features, status.n) == (True, True, ("b",), 6000)
    assert [bucket for bucket, one in stream.statuses.items() if one.alarm] == [2]
    assert status.since is not None
    assert status.raised_at is not None
    assert buckets[status.since - 4000] == buckets[status.raised_at - 4000] == 2
    assert abs(status.since - 4050) <= 100  # bucket 2 is first met at row 4050


def test_alpha_is_shared_and_a_mean_time_is_not() -> None:
    """Each of four buckets alarms at log(4·d/alpha); with a mean time A at log(d·A), as a single stream does."""
    assert seasonal().status.threshold == pytest.approx(math.log(4 * 2 / 0.01))
    assert seasonal(mean_time_to_false_alarm=1e4).status.threshold == pytest.approx(math.log(2e4))


def test_results_do_not_depend_on_how_rows_are_grouped() -> None:
    """One call or many give the same status, to the last bit."""
    values, buckets = traffic(3000, 3)
    values[1500:2000] += 1.0
    whole, grouped = seasonal(), seasonal()
    for part in np.array_split(np.arange(3000), 37):
        last = grouped.update(values[part], buckets[part])
    status = whole.update(values, buckets)
    assert last.to_dict() | {"raised": None} == status.to_dict() | {"raised": None}
    assert grouped.statuses.keys() == {0, 1, 2, 3}


def test_a_bucket_without_reference_rows_is_not_watched() -> None:
    """Its rows are counted and let pass; alpha is shared by the others."""
    values, buckets = traffic(400, 0)
    stream = SeasonalDriftStream(values, buckets, n_buckets=5)
    assert stream.watched_buckets == (0, 1, 2, 3)
    status = stream.update(np.full((500, 2), 1e9), 4)
    assert (status.alarm, status.n) == (False, 500)


def test_rearming_and_resetting_reach_every_bucket() -> None:
    """Re-armed, no alarm is on and rows are counted on; reset, it is as new."""
    stream = seasonal()
    values, buckets = traffic(400, 1)
    stream.update(values + 5.0, buckets)
    assert stream.status.alarm
    stream.rearm()
    assert (stream.status.alarm, stream.status.n) == (False, 400)
    stream.reset()
    assert stream.to_state() == seasonal().to_state()


def test_a_stream_goes_on_from_its_state() -> None:
    """Saved as strict JSON and read back, or copied, it gives the same statuses."""
    stream = seasonal()
    values, buckets = traffic(500, 1)
    stream.update(values, buckets)
    others = [SeasonalDriftStream.from_state(json.loads(json.dumps(stream.to_state(), allow_nan=False)))]
    others.append(copy.deepcopy(stream))
    expected = stream.update(values + 0.7, buckets)
    for other in others:
        assert other.feature_names == ("a", "b")
        assert other.update(values + 0.7, buckets) == expected
        assert repr(other) == repr(stream) == "SeasonalDriftStream(2 features, 4 of 4 buckets, n=1000)"


def test_a_frame_must_have_the_columns_of_the_reference() -> None:
    """Columns in another order are refused."""
    values, buckets = traffic(400, 0)
    frame = pd.DataFrame(values, columns=["a", "b"])
    stream = SeasonalDriftStream(frame, buckets, n_buckets=4)
    assert stream.update(frame, buckets).n == 400
    with pytest.raises(InvalidArgumentError, match="in this order"):
        stream.update(frame[["b", "a"]], buckets)


@pytest.mark.parametrize(
    "buckets", [[0], np.zeros(5), [0, 1, 2, 3, 4], [-1] * 5, ["a"] * 5, None, [[0] * 5], 1.5, [[0], 1]]
)
def test_buckets_are_whole_numbers_one_a_row(buckets: Any) -> None:
    """Too few, other numbers, and numbers out of range are refused, and nothing is taken in."""
    stream = seasonal()
    with pytest.raises(InvalidArgumentError):
        stream.update(np.zeros((5, 2)), buckets)
    assert stream.status.n == 0


@pytest.mark.parametrize("options", [{"n_buckets": 0}, {"n_buckets": 1.5}, {"n_buckets": True}, {"n_buckets": 100}])
def test_some_bucket_must_be_watched(options: dict[str, Any]) -> None:
    """Numbers of buckets that mean nothing, and references with a row a bucket, are refused."""
    with pytest.raises(InvalidArgumentError):
        SeasonalDriftStream(np.zeros((100, 1)), np.arange(100), **options)


def test_the_hour_of_the_week_begins_on_monday() -> None:
    """Datetimes, times with zones as their own clock shows them, and datetime64 arrays agree with the calendar."""
    hours = [datetime(2024, 1, 1) + timedelta(hours=hour) for hour in range(400)]  # a Monday
    expected = [hour % 168 for hour in range(400)]
    assert hour_of_week(hours).tolist() == expected
    assert hour_of_week(np.array(hours, dtype="datetime64[us]")).tolist() == expected
    assert hour_of_week(pd.DatetimeIndex(hours)).tolist() == expected
    assert hour_of_week(pd.DatetimeIndex(hours, tz="Asia/Tokyo")).tolist() == expected
    assert hour_of_week(np.array(["1960-02-29T13:00"], dtype="datetime64[m]")).tolist() == [13]  # a Monday
    mixed = [datetime(2024, 1, 1, 5, tzinfo=UTC), datetime(2024, 1, 2, 5, tzinfo=timezone(timedelta(hours=9)))]
    assert hour_of_week(mixed).tolist() == [5, 29]
    assert hour_of_week(datetime(2024, 1, 7, 23)) == 167


@pytest.mark.parametrize(
    "times", [["x"], 3, [None], np.array(["NaT"], dtype="datetime64[s]"), [pd.NaT], [datetime(2024, 1, 1), 5]]
)
def test_only_times_have_an_hour(times: Any) -> None:
    """Anything else is refused."""
    with pytest.raises(InvalidArgumentError):
        hour_of_week(times)
