"""The ring of recent events of the monitor in memory."""

from __future__ import annotations

import pytest
from traffic import MINUTE, predict, small_monitor

from mlserve import InMemoryModelMonitor
from mlserve.clocks import ManualClock
from mlserve.records import FailureEvent


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def ids(page) -> list[str]:
    return [event.prediction_id for event in page.events]


def test_a_reader_that_fell_behind_is_told_how_much_it_missed(clock):
    """``missed`` counts the events after the cursor that have left the ring; reading goes on with the oldest kept."""
    monitor = small_monitor(clock, recent_events=10)
    for number in range(5):
        predict(monitor, number, clock.now())
    cursor = monitor.events().cursor
    for number in range(5, 100):
        predict(monitor, number, clock.now())
    page = monitor.events(cursor)
    assert (ids(page), page.missed) == ([f"p{number}" for number in range(90, 100)], 85)


def test_a_reader_that_keeps_up_misses_nothing(clock):
    """A reader that reads often enough sees every event once, though far more come than the ring holds."""
    monitor, cursor, seen = small_monitor(clock, recent_events=50), 0, []
    for number in range(3000):
        predict(monitor, number, clock.now())
        if number % 40 == 0:
            page = monitor.events(cursor)
            assert page.missed == 0
            cursor, seen = page.cursor, seen + ids(page)
    assert seen + ids(monitor.events(cursor)) == [f"p{number}" for number in range(3000)]


@pytest.mark.parametrize("limit", [1, 7, 600])
def test_pages_that_begin_late_lead_to_the_end(clock, limit):
    """Pages read from 0 give all that is kept, across the blocks in which events are folded."""
    monitor = small_monitor(clock, recent_events=1300)
    for number in range(3000):
        predict(monitor, number, clock.now())
    page, seen = monitor.events(0, limit), []
    assert page.missed == 1700
    while page.events:
        seen += ids(page)
        page = monitor.events(page.cursor, limit)
    assert seen == [f"p{number}" for number in range(1700, 3000)]


def test_a_page_that_reads_nothing_passes_nothing_over(clock):
    """A limit of 0 answers how many were missed and leaves the rest to be read."""
    monitor = small_monitor(clock, recent_events=10)
    for number in range(30):
        predict(monitor, number, clock.now())
    page = monitor.events(0, 0)
    assert (page.events, page.missed) == ((), 20)
    assert len(monitor.events(page.cursor).events) == 10


def test_failures_and_outcomes_take_their_place_in_the_ring(clock):
    """Every event of whatever kind takes one place of the ring."""
    monitor = small_monitor(clock, recent_events=3)
    predict(monitor, 0, clock.now())
    monitor.record_failure(FailureEvent("p1", None, "odd", "InvalidInput", 1.0, clock.now()))
    predict(monitor, 2, clock.now())
    monitor.record_outcome("p2", 0)
    page = monitor.events()
    assert [type(event).__name__ for event in page.events] == ["FailureEvent", "PredictionEvent", "OutcomeEvent"]
    assert page.missed == 1


def test_an_error_without_an_event_is_an_event_without_an_id(clock):
    """``record_prediction_error`` shows as a failure with its kind, its version and no id."""
    monitor = small_monitor(clock)
    monitor.record_prediction_error("Overloaded", "1")
    (event,) = monitor.events().events
    assert (event.prediction_id, event.kind, event.model_version, event.input) == ("", "Overloaded", "1", None)
    assert event.timestamp == clock.now()


@pytest.mark.parametrize("separator", ["\x1f", "", " ", "\n"])
def test_any_text_may_be_an_id(clock, separator):
    """A prediction id may hold any character, and outcomes still find it."""
    monitor = small_monitor(clock)
    for number in range(5):
        predict(monitor, number, clock.now())
    odd = f"a{separator}b"
    monitor.defer_prediction(odd, "1", [1.0], 0, 1.0, clock.now().timestamp(), None, None, None)
    monitor.record_outcome(odd, 0)
    monitor.record_outcome("p4", 0)
    page = monitor.events()
    assert ids(page)[:6] == [*(f"p{number}" for number in range(5)), odd]
    assert monitor.statistics().outcomes == 2


def test_times_are_kept_to_the_microsecond(clock):
    """An event comes back with the very time with which it was recorded."""
    monitor = small_monitor(clock)
    moments = [clock.now() + number * MINUTE / 7 for number in range(50)]
    for number, at in enumerate(moments):
        predict(monitor, number, at)
    assert [event.timestamp for event in monitor.events().events] == moments


def test_a_thinned_input_comes_back_plain_or_not_at_all(clock):
    """When inputs come too fast to be all kept, an event shows the input that was sent, or None."""
    monitor = InMemoryModelMonitor(clock=clock, sample_size=5)
    start = clock.now().timestamp()
    for number in range(4000):
        monitor.defer_prediction(f"p{number}", "1", float(number), 0, 1.0, start + number / 1e4, None, None, None)
    clock.advance(MINUTE)
    shown = [event.input for event in monitor.events().events]
    assert all(input is None or input == number for number, input in enumerate(shown))
    assert None in shown
    assert shown[:512] == list(range(512))
