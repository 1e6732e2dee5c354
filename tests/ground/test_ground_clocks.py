"""Where the time comes from."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone

import pytest

from mlserve.clocks import Clock, ManualClock, SystemClock, timestamps
from mlserve.errors import InvalidArgumentError
from mlserve.testing._threads import at_once


@pytest.mark.parametrize("clock", [SystemClock(), ManualClock()], ids=["system", "manual"])
def test_it_is_a_clock(clock):
    """Both clocks keep the protocol's promise."""
    assert isinstance(clock, Clock)


@pytest.mark.parametrize("clock", [SystemClock(), ManualClock()], ids=["system", "manual"])
def test_now_is_in_utc(clock):
    """``now`` gives an aware time in UTC."""
    assert clock.now().tzinfo is UTC


def test_the_system_clock_tells_the_time_of_the_machine():
    """``SystemClock.now`` lies between two readings of the machine's own clock."""
    before = time.time()
    now = SystemClock().now().timestamp()
    assert before - 1e-5 <= now <= time.time() + 1e-5


def test_the_monotonic_clock_never_goes_back():
    """``SystemClock.monotonic`` rises or stays."""
    clock = SystemClock()
    readings = [clock.monotonic() for _ in range(1000)]
    assert readings == sorted(readings)


def test_a_manual_clock_stands_still():
    """``ManualClock`` tells the same time until it is moved."""
    clock = ManualClock()
    assert (clock.now(), clock.monotonic()) == (clock.now(), clock.monotonic())


def test_a_manual_clock_begins_where_it_is_told():
    """``ManualClock(start)`` begins at the start, told in UTC, and at 0 seconds."""
    clock = ManualClock(datetime(2026, 7, 1, 14, tzinfo=timezone(timedelta(hours=2))))
    assert clock.now() == datetime(2026, 7, 1, 12, tzinfo=UTC)
    assert clock.now().tzinfo is UTC
    assert clock.monotonic() == 0.0


def test_advancing_moves_both_readings():
    """``advance`` moves the time of day and the monotonic seconds by the same span."""
    clock = ManualClock()
    start = clock.now()
    clock.advance(timedelta(seconds=90, microseconds=1))
    assert (clock.now() - start, clock.monotonic()) == (timedelta(seconds=90, microseconds=1), 90.000001)


def test_advancing_by_nothing_is_allowed():
    """``advance`` by 0 changes nothing."""
    clock = ManualClock()
    clock.advance(timedelta(0))
    assert clock.monotonic() == 0.0


@pytest.mark.parametrize("by", [timedelta(microseconds=-1), -timedelta(days=1), 5, "an hour", None])
def test_a_clock_cannot_be_turned_back(by):
    """``advance`` raises ``InvalidArgumentError`` for a negative span, or what is no span."""
    with pytest.raises(InvalidArgumentError):
        ManualClock().advance(by)


def test_advancing_to_a_moment():
    """``advance_to`` moves to the moment."""
    clock = ManualClock()
    moment = clock.now() + timedelta(days=3)
    clock.advance_to(moment)
    assert (clock.now(), clock.monotonic()) == (moment, 3 * 86400.0)


def test_advancing_to_the_past_changes_nothing():
    """``advance_to`` a moment that has passed leaves the clock where it is."""
    clock = ManualClock()
    clock.advance(timedelta(days=1))
    now = clock.now()
    clock.advance_to(now - timedelta(hours=1))
    assert clock.now() == now


@pytest.mark.parametrize("moment", [datetime(2026, 1, 1), "2026-01-01", 0.0, None])
def test_a_start_without_a_zone_is_refused(moment):
    """``ManualClock`` raises ``InvalidArgumentError`` for a naive start, or what is no time."""
    with pytest.raises(InvalidArgumentError):
        ManualClock(moment)


@pytest.mark.parametrize("moment", [datetime(2027, 1, 1), "2027-01-01", 0.0, None])
def test_a_moment_without_a_zone_is_refused(moment):
    """``advance_to`` raises ``InvalidArgumentError`` for a naive moment, or what is no time."""
    with pytest.raises(InvalidArgumentError):
        ManualClock().advance_to(moment)


def test_no_move_is_lost_between_threads():
    """Advances from many threads add up."""
    clock = ManualClock()

    def move() -> None:
        for _ in range(500):
            clock.advance(timedelta(microseconds=1))

    at_once([move] * 8)
    assert clock.monotonic() == pytest.approx(4000e-6)


def test_timestamps_of_the_system_clock_are_the_builtin():
    """The quick way to the time of the system clock has no frame of Python in between."""
    assert timestamps(SystemClock()) is time.time


@pytest.mark.parametrize("microseconds", [0, 1, 123_456, 999_999])
def test_timestamps_of_a_manual_clock_are_exact(microseconds):
    """The seconds of any other clock are those of its ``now``, to the microsecond."""
    clock = ManualClock()
    clock.advance(timedelta(microseconds=microseconds))
    read = timestamps(clock)
    assert datetime.fromtimestamp(read(), UTC) == clock.now()
