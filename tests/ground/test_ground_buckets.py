"""A ring of time buckets against a list of all that happened."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import attrs
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from mlserve._buckets import BucketRing, Resolution, microseconds
from mlserve.errors import InvalidArgumentError

SECOND = 1_000_000
FINE = Resolution(timedelta(seconds=1), timedelta(seconds=10))
MIDDLE = Resolution(timedelta(seconds=5), timedelta(seconds=60))
COARSE = Resolution(timedelta(seconds=30), timedelta(seconds=600))
LEVELS = (FINE, MIDDLE, COARSE)

LONG_AFTER_1970 = 1_767_225_600 * SECOND
"""2026-01-01, on the edge of a bucket of every level."""


@attrs.frozen
class Seen:
    """A summary that forgets nothing: which things happened how often."""

    numbers: Counter[int]

    def __add__(self, other: Seen) -> Seen:
        return Seen(self.numbers + other.numbers)


def add(ring: BucketRing[Seen], moments: list[int], numbers: list[int], now: int) -> None:
    def summarise(positions: np.ndarray) -> Seen:
        return Seen(Counter(numbers[position] for position in positions.tolist()))

    ring.add(np.array(moments, np.int64), summarise, now)


def since(ring: BucketRing[Seen], start: int, now: int) -> Counter[int]:
    return sum((seen.numbers for seen in ring.since(start, now)), Counter())


# ------------------------------------------------------------------------------------------------------------- laws


BATCHES = st.lists(
    st.tuples(
        # How long after the batch before it comes, and how old the things in it are then.
        st.integers(0, 100 * SECOND),
        st.lists(st.one_of(st.integers(0, 700 * SECOND), st.integers(0, 700).map(lambda s: s * SECOND)), max_size=20),
    ),
    max_size=8,
)


@settings(deadline=None, max_examples=300)
@given(batches=BATCHES, later=st.integers(0, 100 * SECOND), window=st.integers(1, 600 * SECOND))
def test_a_window_holds_what_a_list_says(batches, later, window):
    """A window holds every thing that happened in it, and nothing from before the edge of its first bucket."""
    ring: BucketRing[Seen] = BucketRing(LEVELS)
    happened: list[tuple[int, int]] = []
    now = LONG_AFTER_1970
    for wait, ages in batches:
        now += wait
        moments = [now - age for age in ages]
        numbers = list(range(len(happened), len(happened) + len(ages)))
        happened += zip(moments, numbers, strict=True)
        add(ring, moments, numbers, now)
        ring.expire(now)
    now += later
    start = now - window
    found = since(ring, start, now)
    width = next(microseconds(level.width) for level in LEVELS if window <= microseconds(level.retention))
    least = Counter(number for moment, number in happened if start < moment)
    most = Counter(number for moment, number in happened if start // width * width < moment)
    assert least <= found <= most
    if start % width == 0:
        assert found == least


@settings(deadline=None, max_examples=100)
@given(
    ages=st.lists(st.integers(0, 599 * SECOND), min_size=1, max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=5),
    seed=st.integers(0, 2**32 - 1),
)
def test_how_things_are_batched_does_not_matter(ages, cuts, seed):
    """The same things, added in any order and in any batches, give the same windows."""
    whole: BucketRing[Seen] = BucketRing(LEVELS)
    parts: BucketRing[Seen] = BucketRing(LEVELS)
    now = LONG_AFTER_1970
    add(whole, [now - age for age in ages], list(range(len(ages))), now)
    order = np.random.default_rng(seed).permutation(len(ages)).tolist()
    for part in np.split(order, sorted(min(cut, len(order)) for cut in cuts)):
        numbers = part.astype(int).tolist()
        add(parts, [now - ages[number] for number in numbers], numbers, now)
    for window in (1, 10, 33, 60, 100, 600):
        assert since(whole, now - window * SECOND, now) == since(parts, now - window * SECOND, now)


@settings(deadline=None, max_examples=100)
@given(ages=st.lists(st.integers(0, 2000 * SECOND), max_size=60))
def test_memory_is_bounded_by_time_not_by_traffic(ages):
    """After ``expire`` there is at most one bucket for each width of each retention, and one at either end."""
    ring: BucketRing[Seen] = BucketRing(LEVELS)
    now = LONG_AFTER_1970
    for age in sorted(ages, reverse=True):
        add(ring, [now - age], [0], now - age)
        ring.expire(now - age)
    ring.expire(now)
    assert len(ring) <= sum(level.retention // level.width + 2 for level in LEVELS)


@settings(deadline=None, max_examples=200)
@given(
    ages=st.lists(st.integers(0, 599 * SECOND), max_size=40),
    window=st.integers(1, 600 * SECOND),
    before_now=st.integers(-SECOND, 600 * SECOND),
)
def test_until_takes_whole_buckets_that_end_by_then(ages, window, before_now):
    """With ``until`` a window holds only buckets that end by then, and all of these that begin in it."""
    ring: BucketRing[Seen] = BucketRing(LEVELS)
    now = LONG_AFTER_1970
    start, until = now - window, now - before_now
    add(ring, [now - age for age in ages], list(range(len(ages))), now)
    width = ring.reaching(start, now).width
    found = sum((seen.numbers for seen in ring.since(start, now, until)), Counter())
    first, last = start // width * width, until // width * width
    assert found == Counter(number for number, age in enumerate(ages) if first < now - age <= last)


@settings(deadline=None, max_examples=200)
@given(changes=st.lists(st.lists(st.integers(0, 700 * SECOND), min_size=1, max_size=10), max_size=6))
def test_each_bucket_knows_its_latest_change(changes):
    """``touch`` notes a change for the bucket of each moment, at every resolution, and for no other."""
    ring: BucketRing[Seen] = BucketRing(LEVELS)
    expected: list[dict[int, int]] = [{} for _ in LEVELS]
    for change, ages in enumerate(changes, 1):
        moments = [LONG_AFTER_1970 - age for age in ages]
        ring.touch(np.array(moments, np.int64), change)
        for noted, level in zip(expected, LEVELS, strict=True):
            width = microseconds(level.width)
            noted.update({-(-moment // width): change for moment in moments})
    assert [level.changed for level in ring.levels] == expected


@settings(deadline=None, max_examples=100)
@given(ages=st.lists(st.integers(0, 2000 * SECOND), min_size=1, max_size=60))
def test_changes_are_forgotten_with_their_buckets(ages):
    """After ``expire`` no change is known of what lies before the retention, and every other one is."""
    ring: BucketRing[Seen] = BucketRing(LEVELS)
    now = LONG_AFTER_1970
    moments = np.array([now - age for age in ages], np.int64)
    ring.touch(moments, 1)
    ring.expire(now)
    for level in ring.levels:
        numbers = {-(-moment // level.width) for moment in moments.tolist()}
        # A bucket is let go when the one after it ends where the retention begins.
        assert set(level.changed) == {n for n in numbers if (n + 1) * level.width > now - level.retention}


# ------------------------------------------------------------------------------------------------------------ edges


@pytest.mark.parametrize(
    ("window", "level"),
    [(1, FINE), (10, FINE), (10.000001, MIDDLE), (60, MIDDLE), (61, COARSE), (600, COARSE), (601, COARSE)],
)
def test_the_finest_level_that_reaches_is_found(window, level):
    """``reaching`` is the finest resolution that reaches back to a moment, or the coarsest where none does."""
    ring: BucketRing[Seen] = BucketRing(LEVELS)
    now = LONG_AFTER_1970
    assert ring.reaching(now - round(window * SECOND), now).width == microseconds(level.width)


def test_noting_a_change_takes_no_bucket():
    """``touch`` alone makes no summary: what changed may be kept elsewhere."""
    ring: BucketRing[Seen] = BucketRing(LEVELS)
    ring.touch(np.array([LONG_AFTER_1970]), 1)
    assert len(ring) == 0


def test_a_bucket_is_closed_on_the_right():
    """What happens exactly when a bucket ends belongs to it, and what happens a microsecond later to the next."""
    ring: BucketRing[Seen] = BucketRing([FINE])
    now = LONG_AFTER_1970
    add(ring, [now - SECOND, now - SECOND + 1], [1, 2], now)
    assert since(ring, now - SECOND, now) == Counter([2])
    assert since(ring, now - 2 * SECOND, now) == Counter([1, 2])


def test_what_is_yet_to_come_is_not_in_a_window():
    """A window ends with the bucket in which now lies."""
    ring: BucketRing[Seen] = BucketRing([FINE])
    now = LONG_AFTER_1970
    add(ring, [now + 1], [1], now)
    assert since(ring, now - 5 * SECOND, now) == Counter()
    assert since(ring, now - 5 * SECOND, now + SECOND) == Counter([1])


def test_each_window_is_answered_by_the_finest_level_that_reaches():
    """A window is answered in the finest buckets whose retention still reaches back to its start."""
    ring: BucketRing[Seen] = BucketRing(LEVELS)
    now = LONG_AFTER_1970 + 100 * SECOND
    add(ring, [now - 11 * SECOND, now - 8 * SECOND], [1, 2], now)
    assert since(ring, now - 9 * SECOND, now) == Counter([2])
    # Beyond ten seconds buckets of five answer: the one that begins 15 s ago holds what happened 11 s ago.
    assert since(ring, now - 10 * SECOND - 1, now) == Counter([1, 2])


def test_a_window_beyond_every_level_is_answered_by_the_coarsest():
    """A window longer than every retention gets what the coarsest level still has."""
    ring: BucketRing[Seen] = BucketRing(LEVELS)
    now = LONG_AFTER_1970
    add(ring, [now - 500 * SECOND], [1], now)
    assert since(ring, now - 10_000 * SECOND, now) == Counter([1])


def test_what_is_too_old_for_a_level_is_added_to_coarser_ones_only():
    """A thing older than a level's retention takes no bucket of it."""
    ring: BucketRing[Seen] = BucketRing(LEVELS)
    add(ring, [LONG_AFTER_1970 - 100 * SECOND], [1], LONG_AFTER_1970)
    assert len(ring) == 1


def test_what_is_too_old_for_all_is_not_kept():
    """A thing older than every retention takes no bucket."""
    ring: BucketRing[Seen] = BucketRing(LEVELS)
    add(ring, [LONG_AFTER_1970 - 600 * SECOND], [1], LONG_AFTER_1970)
    assert len(ring) == 0


def test_expiring_keeps_what_a_window_of_the_whole_retention_needs():
    """``expire`` forgets no bucket that the longest window still holds."""
    ring: BucketRing[Seen] = BucketRing([FINE])
    now = LONG_AFTER_1970
    add(ring, [now - 10 * SECOND + 1], [1], now)
    ring.expire(now)
    assert since(ring, now - 10 * SECOND, now) == Counter([1])
    ring.expire(now + 2 * SECOND)
    assert len(ring) == 0


def test_adding_nothing_changes_nothing():
    """An empty batch takes no bucket."""
    ring: BucketRing[Seen] = BucketRing(LEVELS)
    add(ring, [], [], LONG_AFTER_1970)
    assert len(ring) == 0


def test_each_bucket_is_summed_up_once():
    """Things that share a bucket are handed over together, in whatever order they came."""
    groups: list[list[int]] = []

    def summarise(positions: np.ndarray) -> Seen:
        groups.append(sorted(positions.tolist()))
        return Seen(Counter())

    now = LONG_AFTER_1970
    moments = np.array([now, now - 3 * SECOND, now - 1, now - 3 * SECOND + 1, now - 3 * SECOND - 1])
    BucketRing([FINE]).add(moments, summarise, now)
    assert sorted(groups) == [[0, 2], [1, 4], [3]]


# --------------------------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize("levels", [(), (MIDDLE, FINE), (FINE, FINE), LEVELS[::-1]], ids=len)
def test_levels_reach_further_and_further(levels):
    """``InvalidArgumentError`` is raised without a level, or where one reaches no further than the one before."""
    with pytest.raises(InvalidArgumentError):
        BucketRing(levels)


@settings(deadline=None)
@given(days=st.integers(0, 10_000), seconds=st.integers(0, 86_399), rest=st.integers(0, 999_999))
def test_spans_are_whole_microseconds(days, seconds, rest):
    """A span is a whole number of microseconds, exactly, however long it is."""
    span = timedelta(days=days, seconds=seconds, microseconds=rest)
    assert microseconds(span) == (days * 86_400 + seconds) * SECOND + rest


@pytest.mark.parametrize(
    ("width", "retention"),
    [(timedelta(0), timedelta(1)), (timedelta(-1), timedelta(1)), (timedelta(2), timedelta(1))],
    ids=["no width", "a negative width", "a retention below the width"],
)
def test_a_resolution_keeps_at_least_one_bucket(width, retention):
    """``InvalidArgumentError`` is raised for a width that is not positive, or a retention shorter than one bucket."""
    with pytest.raises(InvalidArgumentError):
        Resolution(width, retention)
