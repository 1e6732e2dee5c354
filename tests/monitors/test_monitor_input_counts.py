"""Inputs counted in the cells of their baseline: all of them, however few are kept."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy.stats import ks_2samp
from traffic import HOUR, MINUTE, RESOLUTIONS, SECOND, predict, small_monitor

from mlserve import InMemoryModelMonitor
from mlserve.clocks import ManualClock
from mlserve.errors import InvalidArgumentError
from mlserve.monitors import Resolution
from mlserve.monitors._inputs import FOREVER_AGO, CellCounts, InputCounter, InputRows, input_resolutions
from mlserve.monitors._kept import Dropped, KeptInputs, Thinned
from mlserve.numerics._binning import ReferenceBins, binned_ks_statistic
from mlserve.records import FailureEvent

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
"""On the edge of a minute and of an hour."""

DAY = timedelta(days=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BASELINE = np.random.default_rng(0).normal(size=(500, 2))
MONTH = (*RESOLUTIONS, Resolution(DAY, 30 * DAY))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


def counting(clock: ManualClock, baseline: Any = BASELINE, **options) -> InMemoryModelMonitor:
    """A monitor that keeps few inputs and counts them all."""
    monitor = small_monitor(clock, **{"sample_size": 20, "resolutions": MONTH, **options})
    monitor.set_baseline("1", inputs=baseline)
    return monitor


def serve(monitor, rows: Any, moments: Any, version_id: str = "1", first: int = 0) -> None:
    for number, (row, at) in enumerate(zip(rows, moments, strict=True), first):
        predict(monitor, number, at, version_id, input=row)


def every_second(count: int, until: datetime = NOON) -> list[datetime]:
    """Slow enough that no input is thinned, in ascending order, the last one now."""
    return [until - age * SECOND for age in reversed(range(count))]


def expected(baseline: Any, rows: Any, n_bins: int = 100) -> list[int]:
    names = [f"x{index}" for index in range(np.shape(baseline)[1])]
    return ReferenceBins.from_rows(np.asarray(baseline), names, n_bins).count(np.asarray(rows)).tolist()


# -------------------------------------------------------------------------------------------------------- all of them


@pytest.mark.parametrize("sample_size", [1, 20, 500])
def test_all_inputs_are_counted_however_few_are_kept(clock, sample_size):
    """The counts are whole numbers of all inputs of the window, whatever ``sample_size`` is."""
    rows = np.random.default_rng(1).normal(0.5, 2.0, (3000, 2))
    monitor = counting(clock, sample_size=sample_size)
    serve(monitor, rows, every_second(3000))
    sample = monitor.get_recent_input_distribution("1", HOUR)
    assert (sample.method, len(sample.rows), sample.count, sample.counted_rows) == ("binned", sample_size, 3000, 3000)
    assert sample.cell_counts.tolist() == expected(BASELINE, rows)
    assert sample.bins.reference_counts.tolist() == expected(BASELINE, BASELINE)


def test_the_error_is_that_of_the_cells(clock):
    """The bound of D is 1/B where all inputs were counted, B being ``input_bins``; the exact D keeps to it."""
    rows = np.random.default_rng(2).normal(0.3, 1.0, (2000, 2))
    monitor = counting(clock, input_bins=25)
    serve(monitor, rows, every_second(2000))
    sample = monitor.get_recent_input_distribution("1", HOUR)
    assert (sample.statistic_error_bound, sample.effective_rows) == (1 / 25, 2000)
    for index in range(2):
        counts = (sample.bins.of(index, each) for each in (sample.bins.reference_counts, sample.cell_counts))
        exact = ks_2samp(BASELINE[:, index], rows[:, index]).statistic
        assert exact - 1 / 25 < binned_ks_statistic(*counts)[0] <= exact + 1e-12


def test_where_all_inputs_are_kept_they_are_shown(clock):
    """Where the sample is all inputs of the window it says so, and brings no counts."""
    rows = BASELINE[:15]
    monitor = counting(clock)
    serve(monitor, rows, every_second(15))
    sample = monitor.get_recent_input_distribution("1", HOUR)
    assert (sample.method, sample.statistic_error_bound, sample.bins, sample.cell_counts) == ("all", 0.0, None, None)
    assert (sample.counted_rows, sample.effective_rows) == (0, 0)


def test_without_a_baseline_nothing_is_counted(clock):
    """Without a baseline the inputs are a sample, and its bound is that of a sample of this size."""
    monitor = small_monitor(clock, sample_size=20)
    serve(monitor, BASELINE, every_second(500))
    sample = monitor.get_recent_input_distribution("1", HOUR)
    assert (sample.method, sample.bins, sample.count) == ("reservoir", None, 500)
    assert sample.statistic_error_bound == pytest.approx(math.sqrt(math.log(40) / 40))


def test_each_version_is_counted_by_its_own_baseline(clock):
    """The inputs of a version are counted in the cells of its own baseline, and no others with them."""
    monitor = counting(clock)
    other = BASELINE + 5.0
    monitor.set_baseline("2", inputs=other)
    rows = np.random.default_rng(3).normal(size=(900, 2))
    serve(monitor, rows[:600], every_second(600))
    serve(monitor, rows[600:], every_second(300), "2", first=600)
    serve(monitor, rows[:100], every_second(100), "3", first=900)
    samples = [monitor.get_recent_input_distribution(version_id, HOUR) for version_id in ("1", "2", "3")]
    assert samples[0].cell_counts.tolist() == expected(BASELINE, rows[:600])
    assert samples[1].cell_counts.tolist() == expected(other, rows[600:])
    assert samples[2].cell_counts is None


def test_failures_are_not_counted(clock):
    """The input of a request that failed is not counted."""
    monitor = counting(clock)
    serve(monitor, BASELINE[:100], every_second(100))
    for number in range(100):
        monitor.record_failure(FailureEvent(f"f{number}", "1", [0.0, 0.0], "OurOwn", 1.0, NOON))
    assert monitor.get_recent_input_distribution("1", HOUR).cell_counts.tolist() == expected(BASELINE, BASELINE[:100])


def test_a_captured_window_is_a_baseline_to_count_by(clock):
    """After ``capture_baseline`` what comes is counted in cells at the quantiles of what was captured."""
    monitor = small_monitor(clock, sample_size=200)
    serve(monitor, BASELINE[:200], every_second(200))
    monitor.capture_baseline("1", HOUR)
    clock.advance(HOUR)
    rows = np.random.default_rng(4).normal(size=(600, 2))
    serve(monitor, rows, every_second(600, clock.now()))
    sample = monitor.get_recent_input_distribution("1", HOUR)
    assert sample.cell_counts.tolist() == expected(BASELINE[:200], rows)


# ------------------------------------------------------------------------------------------------------------ windows


@pytest.mark.parametrize(
    ("window", "width"),
    [
        (MINUTE, MINUTE),
        (90 * SECOND, MINUTE),
        (HOUR, MINUTE),
        (HOUR + SECOND, HOUR),
        (47 * HOUR, HOUR),
        (48 * HOUR, HOUR),
        (49 * HOUR, DAY),
        (30 * DAY, DAY),
    ],
    ids=str,
)
@pytest.mark.parametrize("beside", [timedelta(0), 17 * SECOND])
def test_a_window_is_rounded_outward_to_whole_buckets(window, width, beside):
    """A window holds all inputs from the edge of the bucket in which it begins: a minute, an hour or a day."""
    clock = ManualClock(NOON)
    monitor = counting(clock)
    rng = np.random.default_rng(5)
    spread = [rng.integers(0, span, 300) for span in (180, 7200, 7200, 50 * 3600, 31 * 86400)]
    ages = np.sort(np.concatenate(spread))[::-1]
    rows = rng.normal(size=(ages.size, 2))
    moments = [NOON - timedelta(seconds=age) for age in ages.tolist()]
    serve(monitor, rows, moments)
    clock.advance(beside)
    sample = monitor.get_recent_input_distribution("1", window)
    start = clock.now() - window
    edge = start - (start - EPOCH) % width
    # What was older than every window when it was recorded is not counted.
    inside = np.array([at > max(edge, NOON - 30 * DAY) for at in moments])
    assert sample.cell_counts.tolist() == expected(BASELINE, rows[inside])
    assert sample.counted_rows == inside.sum()


def test_late_inputs_count_at_their_own_time(clock):
    """An input that is recorded late is counted when it was answered."""
    monitor = counting(clock)
    serve(monitor, BASELINE[:60], every_second(60, NOON - 30 * MINUTE))
    serve(monitor, BASELINE[60:100], every_second(40), first=60)
    counts = [monitor.get_recent_input_distribution("1", minutes * MINUTE).counted_rows for minutes in (10, 40)]
    assert counts == [40, 100]


def test_what_is_older_than_every_window_is_not_counted(clock):
    """An input from before the retention is counted in no window."""
    monitor = counting(clock)
    serve(monitor, BASELINE[:50], every_second(50, NOON - 31 * DAY))
    serve(monitor, BASELINE[50:100], every_second(50), first=50)
    assert monitor.get_recent_input_distribution("1", 30 * DAY).counted_rows == 50


@pytest.mark.parametrize(
    ("retention", "levels"),
    [
        (30 * DAY, [(MINUTE, HOUR), (HOUR, 48 * HOUR), (DAY, 30 * DAY)]),
        (49 * HOUR, [(MINUTE, HOUR), (HOUR, 48 * HOUR), (DAY, 49 * HOUR)]),
        (48 * HOUR, [(MINUTE, HOUR), (HOUR, 48 * HOUR)]),
        (90 * MINUTE, [(MINUTE, HOUR), (HOUR, 90 * MINUTE)]),
        (HOUR, [(MINUTE, HOUR)]),
        (10 * SECOND, [(10 * SECOND, 10 * SECOND)]),
    ],
    ids=str,
)
def test_inputs_are_counted_as_far_back_as_windows_reach(retention, levels):
    """Inputs are counted by the minute, the hour and the day, as far as the retention reaches and no further."""
    assert [(level.width, level.retention) for level in input_resolutions(retention)] == levels


def test_memory_is_bounded_whatever_the_traffic(clock):
    """However long traffic goes on, the buckets of counted inputs are those of one retention."""
    monitor = counting(clock)
    for _ in range(70):
        clock.advance(19 * HOUR)
        serve(monitor, BASELINE[:30], every_second(30, clock.now()))
        monitor.statistics()
    for _ in range(60):
        clock.advance(MINUTE)
        serve(monitor, BASELINE[:5], every_second(5, clock.now()))
    monitor.statistics()
    ring = monitor._ledger.inputs._counters["1"].ring
    assert len(ring) <= (60 + 2) + (48 + 2) + (30 + 2)
    assert sum(len(level.changed) for level in ring.levels) <= (60 + 2) + (48 + 2) + (30 + 2)


# ---------------------------------------------------------------------------------------------------------- baselines


def test_a_baseline_before_all_traffic_answers_any_window(clock):
    """Where the baseline was there first, windows that reach back before it are counted as well."""
    monitor = counting(clock)
    serve(monitor, BASELINE[:100], every_second(100))
    assert monitor.get_recent_input_distribution("1", 30 * DAY).method == "binned"


def test_a_baseline_in_the_middle_of_traffic_leaves_older_windows_to_the_sample(clock):
    """A window that reaches back before the baseline is answered from the sample; one since then is counted."""
    monitor = small_monitor(clock, sample_size=20)
    serve(monitor, BASELINE[:200], every_second(200))
    monitor.set_baseline("1", inputs=BASELINE)
    clock.advance(10 * MINUTE)
    later = np.random.default_rng(6).normal(size=(300, 2))
    serve(monitor, later, every_second(300, clock.now()), first=200)
    older, since = (monitor.get_recent_input_distribution("1", minutes * MINUTE) for minutes in (11, 10))
    assert (older.method, older.cell_counts, older.count) == ("reservoir", None, 60 + 300)
    assert (since.method, since.cell_counts.tolist()) == ("binned", expected(BASELINE, later))


def test_a_new_baseline_begins_anew(clock):
    """Another baseline counts in its own cells from then on; the same one again changes nothing."""
    monitor = counting(clock)
    serve(monitor, BASELINE[:100], every_second(100))
    monitor.set_baseline("1", inputs=BASELINE.copy())
    assert monitor.get_recent_input_distribution("1", HOUR).counted_rows == 100
    monitor.set_baseline("1", inputs=BASELINE + 1.0)
    assert monitor.get_recent_input_distribution("1", HOUR).method == "reservoir"
    clock.advance(2 * HOUR)
    serve(monitor, BASELINE[:50], every_second(50, clock.now()), first=100)
    sample = monitor.get_recent_input_distribution("1", HOUR)
    assert sample.cell_counts.tolist() == expected(BASELINE + 1.0, BASELINE[:50])


@pytest.mark.parametrize("inputs", [np.empty((0, 2)), np.empty((5, 0))], ids=["no rows", "no features"])
def test_an_empty_baseline_counts_nothing(clock, inputs):
    """A baseline without rows or without features is kept, and leaves the inputs to the sample."""
    monitor = counting(clock, inputs)
    serve(monitor, BASELINE[:50], every_second(50))
    assert monitor.get_recent_input_distribution("1", HOUR).method == "reservoir"


@pytest.mark.parametrize("input_bins", [0, -5])
def test_there_is_at_least_one_bin(input_bins):
    """``InvalidArgumentError`` is raised for less than one bin."""
    with pytest.raises(InvalidArgumentError, match="input_bins"):
        InMemoryModelMonitor(input_bins=input_bins)


# ----------------------------------------------------------------------------------------------------- forms of inputs

NAMES = ("age", "income")


def named(clock, inputs: list[Any], **options) -> Any:
    """The sample of a window after these inputs, one a second, for a baseline with names."""
    monitor = small_monitor(clock, **{"sample_size": 1, **options})
    monitor.set_baseline("1", inputs=BASELINE, feature_names=NAMES)
    serve(monitor, inputs, every_second(len(inputs)))
    return monitor.get_recent_input_distribution("1", HOUR)


ROWS = np.random.default_rng(7).normal(size=(40, 2))


@pytest.mark.parametrize(
    "shape",
    [
        lambda a, b: {"age": a, "income": b},
        lambda a, b: {"income": b, "age": a},
        lambda a, b: [a, b],
        lambda a, b: (a, b),
        lambda a, b: np.array([a, b]),
        lambda a, b: np.array([[a], [b]]),
        # Names that are not the baseline's: by position, as an array.
        lambda a, b: {"first": a, "second": b},
        lambda a, b: {0: a, 1: b},
    ],
    ids=["mapping", "another order", "list", "tuple", "array", "column", "other names", "numbers as names"],
)
@pytest.mark.parametrize("odd", [[], [None, "text"]], ids=["alone", "beside what is no row"])
def test_inputs_of_any_form_are_counted_alike(clock, shape, odd):
    """An input is counted by the names of the baseline where it has them, else by position, whatever else comes."""
    sample = named(clock, [shape(a, b) for a, b in ROWS.tolist()] + odd)
    assert sample.cell_counts.tolist() == expected(BASELINE, ROWS)
    assert (sample.counted_rows, sample.unusable_count) == (40, len(odd))


def test_mappings_among_arrays_are_counted_by_name(clock):
    """Mappings in any order of their names and arrays in one block are each counted as what they are."""
    inputs = [
        {"income": b, "age": a} if number % 3 == 0 else {"age": a, "income": b} if number % 3 == 1 else [a, b]
        for number, (a, b) in enumerate(ROWS.tolist())
    ]
    assert named(clock, inputs).cell_counts.tolist() == expected(BASELINE, ROWS)


def test_other_names_keep_the_order_of_the_first(clock):
    """Mappings with names that are not the baseline's are taken in the order of the first of them, in any block."""
    monitor = small_monitor(clock, sample_size=1)
    monitor.set_baseline("1", inputs=BASELINE)
    for number, (a, b) in enumerate(ROWS.tolist()):
        predict(monitor, number, NOON - number * SECOND, input={"p": a, "q": b} if number < 20 else {"q": b, "p": a})
        if number in (0, 10, 30):
            monitor.statistics()
    sample = monitor.get_recent_input_distribution("1", HOUR)
    assert sample.cell_counts.tolist() == expected(BASELINE, ROWS)


@pytest.mark.parametrize(
    "unusable",
    [
        None, "text", object(), 5.0, [1.0], [1.0, 2.0, 3.0], ["a", "b"], {"age": 1.0}, {},
        {"age": 1.0, "income": 2.0, "more": 3.0}, {1: 1.0, "1": 2.0}, np.array(["a", "b"], object),
    ],
)  # fmt: skip
@pytest.mark.parametrize("order", [1, -1], ids=["before", "after"])
def test_an_input_that_is_no_row_is_counted_apart(clock, unusable, order):
    """An input that is no row of the baseline's features is counted as unusable, and harms no other."""
    inputs = [unusable, *ROWS.tolist()][::order]
    sample = named(clock, inputs)
    assert (sample.counted_rows, sample.unusable_count, sample.count) == (40, 1, 41)
    assert sample.cell_counts.tolist() == expected(BASELINE, ROWS)


def test_mappings_of_several_names_are_counted_or_unusable(clock):
    """Beside mappings with other names than the baseline's, a further set of names is unusable."""
    monitor = counting(clock, sample_size=1)
    inputs = [{"p": a, "q": b} for a, b in ROWS.tolist()] + [{"r": 1.0, "s": 2.0}, {"q": 0.5, "r": 0.5}]
    serve(monitor, inputs, every_second(42))
    sample = monitor.get_recent_input_distribution("1", HOUR)
    assert (sample.counted_rows, sample.unusable_count) == (40, 2)


def test_only_unusable_inputs_are_a_sample(clock):
    """Where no input is a row of the baseline's features there are no counts to compare."""
    sample = named(clock, ["text"] * 10)
    assert (sample.method, sample.cell_counts, sample.count) == ("reservoir", None, 10)


CATEGORIES = [{"country": "de", "premium": True, "age": 30.0}, {"country": "fr", "premium": False, "age": 40.0},
              {"country": "de", "premium": True, "age": 50.0}]  # fmt: skip


def test_categories_are_counted_by_name(clock):
    """Text and booleans of mappings are counted as categories; new ones and missing ones have their cells."""
    monitor = small_monitor(clock, sample_size=1)
    rows = np.array([list(row.values()) for row in CATEGORIES], object)
    monitor.set_baseline("1", inputs=rows, feature_names=list(CATEGORIES[0]))
    inputs = [*CATEGORIES, {"age": None, "premium": None, "country": "it"}, {**CATEGORIES[0], "country": float("nan")}]
    serve(monitor, inputs, every_second(5))
    sample = monitor.get_recent_input_distribution("1", HOUR)
    counts = [sample.bins.of(index, sample.cell_counts).tolist() for index in range(3)]
    assert counts == [[2, 1, 0, 1, 1], [3, 1, 0, 0, 1], [0, 2, 0, 1, 0, 1, 0, 1]]


@pytest.mark.parametrize("beside", [0.5, None], ids=["a number", "a missing value"])
def test_what_stands_beside_a_boolean_does_not_matter(clock, beside):
    """A boolean among numbers is 0 or 1, whether or not something else of its block is missing."""
    monitor = small_monitor(clock, sample_size=1)
    monitor.set_baseline("1", inputs=[[0.0, 0.0], [1.0, 1.0]], feature_names=["flag", "other"])
    serve(monitor, [{"flag": True, "other": beside}, {"flag": False, "other": 1.0}], every_second(2))
    sample = monitor.get_recent_input_distribution("1", HOUR)
    assert sample.bins.of(0, sample.cell_counts).tolist() == [0, 1, 0, 1, 0, 0]


def test_rows_are_taken_as_they_are_where_all_fit():
    """Rows of one block that all fit come back as one array of floats, in order."""
    rows, usable = InputRows(("a", "b")).of([[1.0, 2.0], [3.0, 4.0]])
    assert (rows.tolist(), rows.dtype, usable.tolist()) == ([[1.0, 2.0], [3.0, 4.0]], np.float64, [True, True])


# --------------------------------------------------------------------------------------------------- thinned traffic


@cache
def burst(seed: int, count: int = 4000, sample_size: int = 100) -> tuple[Any, np.ndarray]:
    """What is counted of many inputs within two seconds, and all of them."""
    clock = ManualClock(NOON)
    rows = np.random.default_rng(100).normal(0.4, 1.0, (count, 2))
    monitor = counting(clock, sample_size=sample_size, seed=seed, input_bins=10)
    serve(monitor, rows, [NOON - 2 * SECOND + number * 2 * SECOND / count for number in range(1, count + 1)])
    return monitor.get_recent_input_distribution("1", HOUR), rows


def test_thinned_inputs_are_counted_without_bias():
    """Where inputs were thinned the counts are estimates whose mean over many draws is the exact count."""
    counts = np.array([burst(seed)[0].cell_counts for seed in range(40)], np.float64)
    exact = np.array(expected(BASELINE, burst(0)[1], 10))
    spread = counts.std(axis=0, ddof=1) / math.sqrt(len(counts))
    # Of 44 cells none should be further off than 4 standard errors (P < 0.3 %).
    assert (np.abs(counts.mean(axis=0) - exact) <= 4 * spread + 1e-9).all()
    assert spread.max() > 0


def test_the_fraction_that_was_looked_at_is_told():
    """Of thinned traffic ``counted_rows`` says how many inputs were looked at, ``count`` how many there were."""
    sample, _ = burst(1)
    assert sample.count == 4000
    assert 100 <= sample.counted_rows < 2500
    assert sample.effective_rows <= sample.counted_rows


def test_the_error_of_thinned_counts_is_told():
    """The bound of D is that of the cells and of a sample of ``effective_rows`` together; most draws keep to it."""
    kept = 0
    for seed in range(40):
        sample, rows = burst(seed)
        bound = sample.statistic_error_bound
        assert bound == pytest.approx(0.1 + math.sqrt(math.log(40) / (2 * sample.effective_rows)))
        counts = (sample.bins.of(0, each) for each in (sample.bins.reference_counts, sample.cell_counts))
        exact = ks_2samp(BASELINE[:, 0], rows[:, 0]).statistic
        kept += abs(binned_ks_statistic(*counts)[0] - exact) <= bound
    assert kept >= 0.95 * 40


def counter(n_bins: int = 4) -> InputCounter:
    bins = ReferenceBins.from_rows(np.arange(8.0).reshape(-1, 1), ["x"], n_bins)
    return InputCounter(bins, [Resolution(MINUTE, HOUR)], FOREVER_AGO)


NOW = 10**15


def test_an_input_stands_for_those_that_were_not_kept():
    """An input kept at a cut c counts 1/(1 − c) times; one that was dropped is not counted."""
    one = counter()
    inputs = [Thinned(0.75, [0.0]), Dropped(0.75), [0.0], Thinned(0.5, [7.0]), Dropped(0.5), Thinned(0.5, "text")]
    one.add(np.full(6, NOW), KeptInputs.of(inputs), NOW, 1)
    counts = one.between(NOW - 10**6, NOW)
    assert one.bins.of(0, counts.cells)[[1, -3]].tolist() == [5, 2]
    assert (counts.rows, counts.squares, counts.unusable) == (3, 16 + 1 + 4, 1)


def test_weights_stay_with_their_inputs_over_buckets():
    """Inputs of one block that lie in several buckets are counted with their own weights there."""
    one = counter()
    times = np.array([NOW - 120 * 10**6, NOW, NOW - 120 * 10**6])
    one.add(times, KeptInputs.of([Thinned(0.5, [0.0]), Thinned(0.875, [7.0]), "text"]), NOW, 1)
    recent, both = one.between(NOW - 10**6, NOW), one.between(NOW - 300 * 10**6, NOW)
    assert (int(recent.cells.sum()), recent.rows, recent.unusable) == (8, 1, 0)
    assert (int(both.cells.sum()), both.rows, both.unusable) == (10, 2, 1)


def test_a_block_of_which_nothing_was_kept_is_not_counted():
    """A block of dropped inputs alone leaves no bucket and no change."""
    one = counter()
    one.add(np.full(2, NOW), KeptInputs.of([Dropped(0.5), Dropped(0.5)]), NOW, 1)
    assert (len(one.ring), one.ring.levels[0].changed) == (0, {})


@pytest.mark.parametrize(
    ("cells", "rows", "squares", "effective"),
    [([3, 2, 5], 10, 10, 10), ([8, 8], 4, 64, 4), ([1] * 4 + [12], 5, 148, 1), ([1, 1000], 2, 1_000_001, 1)],
    ids=["each for itself", "each for four", "one for twelve", "one for a thousand"],
)
def test_effective_rows_by_hand(cells, rows, squares, effective):
    """``effective_rows`` is (Σw)²/Σw², rounded down: all rows where each stands for as many."""
    bins = ReferenceBins.from_rows(np.empty((0, 1)), ["x"])
    padded = np.zeros(bins.size, np.int64)
    padded[0] = sum(cells)
    assert CellCounts(padded, rows, squares).effective_rows(bins) == effective
