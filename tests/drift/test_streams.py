"""Watching inputs row by row: the alarm, what it tells, and that grouping, saving and threads change nothing."""

from __future__ import annotations

import copy
import json
import math
import pickle
from concurrent.futures import ThreadPoolExecutor

import attrs
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlserve.drift._stream_states import DriftStreamStatus
from mlserve.drift._streams import DriftStream
from mlserve.numerics import holm

Floats = npt.NDArray[np.float64]

REFERENCE = np.random.default_rng(0).normal(size=(1000, 3))


def rows(count: int, seed: int, shift: float = 0.0) -> Floats:
    """Rows like the reference, the second feature shifted."""
    return np.random.default_rng(seed).normal(size=(count, 3)) + np.array([0.0, shift, 0.0])


def without_raised(status: DriftStreamStatus) -> DriftStreamStatus:
    """What does not depend on how rows were grouped."""
    return attrs.evolve(status, raised=False)


def drifting(*, seed: int = 0, **arguments: object) -> DriftStream:
    """A stream with an alarm over the second feature, which changed at row 400."""
    stream = DriftStream(REFERENCE, **arguments)  # type: ignore[arg-type]
    stream.update(rows(400, 10 + seed))
    assert stream.update(rows(300, 20 + seed, shift=1.0)).alarm
    return stream


def test_before_the_first_row_there_is_no_evidence() -> None:
    """A new stream has seen nothing: no alarm, log evidence 0."""
    status = DriftStream(REFERENCE).status
    assert status == DriftStreamStatus(alarm=False, evidence=0.0, threshold=math.log(3 / 0.01))


def test_the_threshold_is_that_of_the_rule() -> None:
    """The log evidence to reach is log(d/alpha), or log(d·A) for a mean time A to a false alarm."""
    assert DriftStream(REFERENCE, alpha=0.05).status.threshold == pytest.approx(math.log(3 / 0.05))
    assert DriftStream(REFERENCE, mean_time_to_false_alarm=1e5).status.threshold == pytest.approx(math.log(3e5))


def test_an_alarm_tells_what_changed_and_since_when() -> None:
    """The feature that moved is named alone, and the change is placed within 30 rows of where it was."""
    status = drifting().status
    assert status.features == ("x1",)
    assert status.since is not None
    assert abs(status.since - 400) <= 30
    assert status.raised_at is not None
    assert 400 <= status.raised_at < 500
    assert status.evidence > status.threshold
    assert status.n == 700


def test_an_alarm_is_raised_when_evidence_reaches_the_threshold() -> None:
    """Row by row, the alarm begins with the first row after which the evidence is at least the threshold."""
    stream = DriftStream(REFERENCE)
    for row in rows(200, 3, shift=1.0):
        status = stream.update(row)
        assert status.alarm == (status.evidence >= status.threshold)
        if status.alarm:
            break
    assert (status.raised, status.raised_at, status.n) == (True, status.n - 1, status.n)


def test_an_alarm_is_raised_once() -> None:
    """While a change lasts, one call raises the alarm, and every later one finds it on."""
    stream = DriftStream(REFERENCE)
    statuses = [stream.update(chunk) for chunk in np.array_split(rows(10_000, 4, shift=0.5), 100)]
    assert sum(status.raised for status in statuses) == 1
    first = next(index for index, status in enumerate(statuses) if status.raised)
    assert [status.alarm for status in statuses] == [False] * first + [True] * (100 - first)
    assert {status.alarm_count for status in statuses[first:]} == {1}
    assert len({(status.since, status.raised_at) for status in statuses[first:]}) == 1


def test_an_alarm_ends_when_the_change_is_over_and_the_next_is_raised() -> None:
    """After 2 000 rows like the reference the alarm is off and the stream armed anew: a second change alarms again."""
    stream = drifting()
    status = stream.update(rows(2000, 5))
    assert (status.alarm, status.features, status.since, status.raised_at) == (False, (), None, None)
    assert status.alarm_count == 1
    status = stream.update(rows(200, 6, shift=-1.0))
    assert (status.alarm, status.raised, status.alarm_count) == (True, True, 2)
    assert status.since is not None
    assert abs(status.since - 2700) <= 30


def test_an_alarm_does_not_flicker() -> None:
    """A hundred rows like the reference amid a change do not end its alarm: that takes more than raising it did."""
    stream = drifting()
    assert stream.update(rows(100, 7)).alarm
    status = stream.update(rows(1000, 8, shift=1.0))
    assert (status.alarm, status.alarm_count) == (True, 1)


def test_an_alarm_that_came_and_went_within_a_call_is_counted() -> None:
    """The call says that an alarm was raised, though none is on any more."""
    stream = DriftStream(REFERENCE)
    status = stream.update(np.concatenate([rows(300, 1), rows(200, 2, shift=1.5), rows(3000, 3)]))
    assert (status.alarm, status.raised, status.alarm_count) == (False, True, 1)


def test_rearming_ends_the_alarm_and_counts_on() -> None:
    """A re-armed stream has no alarm and no evidence, counts rows on, and raises anew over a change that lasts."""
    stream = drifting()
    stream.rearm()
    status = stream.status
    assert (status.alarm, status.evidence, status.features, status.since) == (False, 0.0, (), None)
    assert (status.n, status.alarm_count) == (700, 1)
    status = stream.update(rows(200, 9, shift=1.0))
    assert (status.alarm, status.alarm_count) == (True, 2)
    assert status.since is not None
    assert 700 <= status.since < 750


def test_a_reset_stream_is_as_new() -> None:
    """After a reset the same rows give the same statuses as they gave a new stream, to the last bit."""
    stream, fresh = drifting(), DriftStream(REFERENCE)
    stream.reset()
    assert stream.status == fresh.status
    for chunk in (rows(100, 1), rows(150, 2, shift=0.7)):
        assert stream.update(chunk) == fresh.update(chunk)


def test_features_are_named_by_holms_method_on_the_peaks_of_their_evidence() -> None:
    """Of twelve features those are named whose adjusted 1/peak is at most alpha, the strongest first."""
    rng = np.random.default_rng(12)
    stream = DriftStream(rng.normal(size=(1000, 12)))
    shifts = np.array([0.0] * 6 + [0.3, 0.35, 0.4, 0.5, 0.8, 1.0])
    counts = set()
    for _ in range(40):
        status = stream.update(rng.normal(size=(25, 12)) + shifts)
        peaks = stream._watch.peak
        if not status.alarm:
            assert not (peaks >= 12 / 0.01).any()
            continue
        adjusted = holm(np.minimum(1.0, 1 / peaks))
        expected = sorted(np.flatnonzero(adjusted <= 0.01), key=lambda index: -peaks[index])
        assert status.features == tuple(f"x{index}" for index in expected)
        counts.add(len(status.features))
    assert counts >= {4, 5, 6}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(lambda rng, n: rng.normal(size=n), lambda rng, n: rng.normal(0.0, 2.0, size=n), id="spread"),
        pytest.param(lambda rng, n: rng.normal(size=n), lambda rng, n: rng.choice([-1.0, 1.0], size=n), id="shape"),
        pytest.param(
            lambda rng, n: rng.normal(size=n),
            lambda rng, n: np.where(rng.random(n) < 0.3, np.nan, rng.normal(size=n)),
            id="missing",
        ),
        pytest.param(
            lambda rng, n: rng.choice([0.0, 1.0, 2.0], p=[0.5, 0.3, 0.2], size=n),
            lambda rng, n: rng.choice([0.0, 1.0, 2.0, 7.0], p=[0.4, 0.25, 0.15, 0.2], size=n),
            id="new category",
        ),
        pytest.param(lambda rng, n: np.zeros(n), lambda rng, n: np.where(rng.random(n) < 0.2, 1.0, 0.0), id="constant"),
        pytest.param(lambda rng, n: np.full(n, np.nan), lambda rng, n: rng.normal(size=n), id="first values"),
    ],
)
def test_changes_of_many_kinds_are_seen(before, after) -> None:  # type: ignore[no-untyped-def]
    """Spread, shape, missing values, a new category, a constant that varies: each alarms within 400 rows."""
    rng = np.random.default_rng(31)
    stream = DriftStream(before(rng, 1000))
    assert not stream.update(before(rng, 1000)).alarm
    assert stream.update(after(rng, 400)).alarm


def test_monotone_transforms_change_nothing() -> None:
    """Evidence rests on order alone: a feature on another scale gives the same statuses to the last bit."""
    plain, bent = DriftStream(REFERENCE), DriftStream(np.exp(REFERENCE) * 1e6 - 5)
    for chunk in (rows(300, 1), rows(300, 2, shift=0.8)):
        assert plain.update(chunk) == bent.update(np.exp(chunk) * 1e6 - 5)


def test_the_order_of_the_reference_does_not_matter() -> None:
    """Without ties the reference in another order gives the same statuses to the last bit."""
    plain, turned = DriftStream(REFERENCE), DriftStream(REFERENCE[::-1])
    for chunk in (rows(300, 1), rows(300, 2, shift=0.8)):
        assert plain.update(chunk) == turned.update(chunk)


@given(cuts=st.lists(st.integers(0, 900), max_size=12), features=st.sampled_from([1, 2, 5]), seed=st.integers(0, 50))
@settings(deadline=None, max_examples=40)
def test_results_do_not_depend_on_how_rows_are_grouped(cuts: list[int], features: int, seed: int) -> None:
    """Through calm, an alarm, its end and calm again, groups of any size give the same status to the last bit."""
    rng = np.random.default_rng(seed)
    reference = np.round(rng.normal(size=(200, features)), 1)
    stream = np.round(rng.normal(size=(900, features)), 1)
    stream[100:250] += 1.5
    whole, grouped = DriftStream(reference, seed=seed), DriftStream(reference, seed=seed)
    ends = sorted({*cuts, 900})
    statuses = [grouped.update(stream[first:last]) for first, last in zip([0, *ends[:-1]], ends, strict=True)]
    status = whole.update(stream)
    assert without_raised(statuses[-1]) == without_raised(status)
    assert any(one.raised for one in statuses) == status.raised == (status.alarm_count > 0)


def test_single_rows_give_what_a_chunk_gives() -> None:
    """Row by row, also over the step of 1 000 rows, the final status is that of one call."""
    table = np.concatenate([rows(1100, 1), rows(100, 2, shift=1.0)])
    whole, single = DriftStream(REFERENCE), DriftStream(REFERENCE)
    for row in table:
        last = single.update(row)
    assert without_raised(last) == without_raised(whole.update(table))


@pytest.mark.parametrize("rule", [{}, {"mean_time_to_false_alarm": 1e4}])
@pytest.mark.parametrize("taken", [0, 3, 150, 260, 700])
def test_a_stream_goes_on_from_its_state(taken: int, rule: dict[str, float]) -> None:
    """Saved as strict JSON before, amid and after an alarm, and read back, it gives the same statuses."""
    reference = REFERENCE.copy()
    reference[:50, 0], reference[50:60, 0], reference[60:70, 0] = np.nan, np.inf, -np.inf
    table = np.concatenate([rows(200, 1), rows(100, 2, shift=1.5), rows(1500, 3)])
    stream = DriftStream(reference, feature_names=["a", "b", "c"], seed=4, **rule)
    stream.update(table[:taken])
    restored = DriftStream.from_state(json.loads(json.dumps(stream.to_state(), allow_nan=False)))
    assert restored.feature_names == ("a", "b", "c")
    assert restored.status == stream.status
    for chunk in np.array_split(table[taken:], 7):
        assert restored.update(chunk) == stream.update(chunk)
    assert restored.to_state() == stream.to_state()
    restored.reset()
    stream.reset()
    assert restored.update(table[:50]) == stream.update(table[:50])


def test_the_state_does_not_grow() -> None:
    """After 20 000 rows the state holds as many numbers as before the first, whatever the reference's length."""

    def size(value: object) -> int:
        if isinstance(value, dict):
            return sum(size(item) for item in value.values())
        return sum(size(item) for item in value) if isinstance(value, list) else 1

    stream = DriftStream(REFERENCE)
    fresh = size(stream.to_state())
    stream.update(rows(20_000, 1))
    assert size(stream.to_state()) == fresh == size(DriftStream(np.tile(REFERENCE, (5, 1))).to_state())
    assert fresh < 600 * 3


def test_copies_and_pickles_are_independent() -> None:
    """A deep copy and a pickle go on as the stream does, and neither touches the other."""
    stream = drifting()
    others = [copy.deepcopy(stream), pickle.loads(pickle.dumps(stream))]
    expected = stream.update(rows(50, 1))
    assert [other.update(rows(50, 1)) for other in others] == [expected, expected]


def test_threads_take_turns() -> None:
    """Rows from eight threads are all counted, and the evidence stays that of a calm stream."""
    stream = DriftStream(REFERENCE)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(stream.update, [rows(20, seed) for seed in range(100)]))
    status = stream.status
    assert (status.n, status.alarm) == (2000, False)
    assert math.isfinite(status.evidence)


def test_another_seed_gives_other_numbers_and_the_same_one_the_same() -> None:
    """The random numbers come from the seed alone."""
    table = rows(200, 1)
    found = [DriftStream(REFERENCE, seed=seed).update(table).evidence for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]


def test_a_status_can_be_read_by_people_and_machines() -> None:
    """Text and HTML tell the alarm, the features and since when; the dict is strict JSON; features are escaped."""
    stream = drifting(feature_names=["a", "<b>", "c"])
    status = stream.status
    assert f"since          row {status.since}" in repr(status)
    assert "ALARM after 700 rows" in repr(status)
    assert "&lt;b&gt;" in status._repr_html_()
    assert json.loads(json.dumps(status.to_dict(), allow_nan=False))["features"] == ["<b>"]
    assert "No alarm" in repr(DriftStream(REFERENCE).status)
    assert repr(stream) == "DriftStream(3 features, alpha=0.01, n=700, alarm=True)"
    assert "mean_time_to_false_alarm=1000" in repr(DriftStream(REFERENCE, mean_time_to_false_alarm=1000))
