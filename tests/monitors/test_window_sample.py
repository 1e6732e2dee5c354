"""Samples of windows are uniform and, for a second or more of enough traffic, full."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy.stats import chi2, chisquare, kstest

from mlserve import InMemoryModelMonitor
from mlserve.clocks import ManualClock
from mlserve.monitors._kept import Dropped, KeptInputs, Thinned
from mlserve.monitors._sampling import WindowSample

SECOND = 1_000_000
"""In microseconds, as ``WindowSample`` counts time."""

START = datetime(2026, 1, 1, tzinfo=UTC)

LEAST_P = 1e-3
"""Seeds are fixed: a uniform sampler either passes for good or was unlucky once in a thousand when they were chosen."""

FAR = 2**60


def extend(sample: WindowSample, times: np.ndarray, inputs: list) -> None:
    """Inputs with themselves as answers and their time in seconds as confidence."""
    sample.extend(times, KeptInputs.of(inputs), np.fromiter(inputs, object, len(inputs)), times / SECOND)


def p_of_equal_inclusion(times_drawn: np.ndarray, draws_each: int, trials: int) -> float:
    """The chance of counts at least this uneven when each draw takes ``draws_each`` of all without replacement.

    The counts of one draw have variance k/n·(1 − k/n) and sum to k, so that Σ(c − Tk/n)²/(T·k/n·(1 − k/n)) scaled by
    (n − 1)/n is chi-square with n − 1 degrees of freedom for many trials.
    """
    n = times_drawn.size
    share = draws_each / n
    statistic = ((times_drawn - trials * share) ** 2).sum() / (trials * share * (1 - share)) * (n - 1) / n
    return float(chi2.sf(statistic, n - 1))


# -------------------------------------------------------------------------------------------------- without thinning


@pytest.mark.parametrize("window", [300, 150, 60, 30])
@pytest.mark.parametrize("shuffled", [False, True], ids=["in order", "out of order"])
def test_every_input_of_a_window_is_drawn_as_often(window, shuffled):
    """Each input of a window is in its sample with the same probability, after older ones have been forgotten."""
    n, size, trials = 300, 20, 400
    drawn = np.zeros(n, int)
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        sample = WindowSample(size, rng)
        order = rng.permutation(n) if shuffled else np.arange(n)
        for block in np.split(order, 10):
            extend(sample, (block + 1) * SECOND, block.tolist())
        chosen = sample.between((n - window) * SECOND, FAR).inputs
        assert len(chosen) == size
        drawn[chosen] += 1
    assert drawn[: n - window].sum() == 0
    assert p_of_equal_inclusion(drawn[n - window :], size, trials) > LEAST_P


def test_a_sample_is_uniform_within_each_half():
    """Two inputs are drawn together as often as chance has it: how many come from either half is hypergeometric."""
    n, size, trials = 200, 20, 500
    of_first_half = []
    for trial in range(trials):
        sample = WindowSample(size, np.random.default_rng(trial))
        for block in np.split(np.arange(n), 10):
            extend(sample, (block + 1) * SECOND, block.tolist())
        of_first_half.append(sum(number < n // 2 for number in sample.between(0, FAR).inputs))
    exact_variance = size * 0.25 * (n - size) / (n - 1)
    assert np.mean(of_first_half) == pytest.approx(size / 2, abs=4 * np.sqrt(exact_variance / trials))
    assert np.var(of_first_half) == pytest.approx(exact_variance, rel=0.3)


@pytest.mark.parametrize("count", [1, 19, 20])
def test_few_inputs_are_all_drawn(count):
    """While a window holds no more inputs than the sample, the sample is all of them, in order."""
    sample = WindowSample(20, np.random.default_rng(0))
    for number in range(count):
        extend(sample, np.array([(number + 1) * SECOND]), [number])
    drawn = sample.between(0, FAR)
    assert (drawn.inputs, drawn.is_all) == (list(range(count)), True)


@pytest.mark.parametrize("count", [21, 79, 200, 1000])
@pytest.mark.parametrize("window", [5, 20, 21, 1000])
def test_a_sample_knows_whether_it_is_all(count, window):
    """A sample says that it is all of its window exactly when it is, also after older inputs have been forgotten."""
    sample = WindowSample(20, np.random.default_rng(count))
    for number in range(count):
        extend(sample, np.array([number * SECOND]), [number])
    drawn = sample.between((count - 1 - window) * SECOND, FAR)
    chosen, is_all = drawn.inputs, drawn.is_all
    assert len(chosen) == min(window, 20, count)
    assert is_all is (window <= 20)


def test_memory_grows_with_the_logarithm():
    """After n inputs about size·(1 + ln(n/size)) are kept, at most some four times as many between two prunings."""
    n, size = 100_000, 50
    sample, most = WindowSample(size, np.random.default_rng(0)), 0
    for block in np.split(np.arange(n), 200):
        extend(sample, (block + 1) * SECOND, block.tolist())
        most = max(most, len(sample))
    assert most <= 4 * size * (1 + np.log(n / size)) + 500
    assert len(sample.between(0, FAR).inputs) == size


def test_what_is_out_of_reach_is_forgotten():
    """After ``forget_before`` nothing older is kept, at the latest when the next inputs have been pruned."""
    sample = WindowSample(10, np.random.default_rng(0))
    extend(sample, np.arange(1, 31) * SECOND, list(range(30)))
    sample.forget_before(1000 * SECOND)
    for block in np.split(np.arange(1000, 1200), 10):
        extend(sample, block * SECOND, block.tolist())
    assert all(number >= 1000 for number in sample.between(0, FAR).inputs)


# ----------------------------------------------------------------------------------------------------- with thinning


def thinned_monitor(seed: int, size: int, seconds: np.ndarray) -> InMemoryModelMonitor:
    """A monitor that took the numbers 0, 1, 2, … as inputs at some seconds after the start; now is the last of them."""
    clock = ManualClock(START)
    monitor = InMemoryModelMonitor(clock=clock, sample_size=size, seed=seed)
    start = START.timestamp()
    for number, second in enumerate(seconds.tolist()):
        monitor.defer_prediction(str(number), "1", float(number), 0, 1.0, start + second, None, None, None)
    clock.advance(timedelta(seconds=float(seconds[-1])))
    return monitor


def drawn_numbers(monitor: InMemoryModelMonitor, window_seconds: float) -> np.ndarray:
    sample = monitor.get_recent_input_distribution("1", timedelta(seconds=window_seconds))
    return np.sort(sample.rows.ravel()).astype(int)


STEADY = np.arange(1, 8193) / 4096
"""Two seconds of 4 096 inputs each."""

SLOW_FAST_SLOW = np.concatenate(
    [np.arange(1, 1501) * 1.0, 1500 + np.arange(1, 4001) / 8000, 1500.5 + np.arange(1, 701) * 1.0]
)
"""A quarter of an hour and more of one a second, half a second of 8 000 a second, and again one a second."""

FAST_SLOW_FAST = np.concatenate(
    [np.arange(1, 4001) / 8000, 0.5 + np.arange(1, 1501) * 1.0, 1500.5 + np.arange(1, 4001) / 8000]
)


@pytest.mark.parametrize(
    ("seconds", "window"),
    [
        (STEADY, 2.0),
        (STEADY, 1.0),
        (STEADY, 0.5),
        (SLOW_FAST_SLOW, 3000.0),
        (SLOW_FAST_SLOW, 1500.0),
        (SLOW_FAST_SLOW, 700.3),
        (SLOW_FAST_SLOW, 300.0),
        (FAST_SLOW_FAST, 3000.0),
        (FAST_SLOW_FAST, 800.0),
        (FAST_SLOW_FAST, 0.5),
    ],
    ids=lambda value: f"{value}" if isinstance(value, float) else f"{value.size} inputs until {value[-1]}",
)
def test_a_thinned_sample_is_uniform(seconds, window):
    """When most inputs are not even copied, each input of any window is still drawn with the same probability."""
    first = int(np.searchsorted(seconds, seconds[-1] - window, side="right"))
    draws = np.concatenate([drawn_numbers(thinned_monitor(seed, 40, seconds), window) for seed in range(20)])
    assert draws.min() >= first
    inside = seconds.size - first
    # Eight spans of the same number of inputs, whatever time they took: slow and fast periods weigh what they should.
    counts = np.bincount((draws - first) * 8 // inside, minlength=8)
    assert chisquare(counts).pvalue > LEAST_P
    assert kstest((draws - first + 0.5) / inside, "uniform").pvalue > LEAST_P


@pytest.mark.parametrize("kind", ["inputs", "a table", "a table given away"])
def test_a_thinned_sample_of_blocks_is_uniform(kind):
    """When inputs come in blocks and most are not kept, each is still drawn with the same probability."""
    draws = []
    for seed in range(20):
        clock = ManualClock(START)
        monitor = InMemoryModelMonitor(clock=clock, sample_size=40, seed=seed)
        for first in range(0, 8192, 64):
            clock.advance(timedelta(seconds=64 / 4096))
            ids = [str(number) for number in range(first, first + 64)]
            inputs = [float(number) for number in range(first, first + 64)]
            if kind != "inputs":
                inputs = np.array(inputs)[:, np.newaxis].copy()
                inputs.setflags(write=kind == "a table")
            monitor.record_block("1", ids, inputs, [0] * 64, [1.0] * 64, clock.now().timestamp())
        assert monitor._ledger.thinning
        draws.append(drawn_numbers(monitor, 2.0))
    numbers = np.concatenate(draws)
    assert chisquare(np.bincount(numbers * 8 // 8192, minlength=8)).pvalue > LEAST_P
    assert kstest((numbers + 0.5) / 8192, "uniform").pvalue > LEAST_P


@pytest.mark.parametrize(
    ("seconds", "window"),
    [
        (STEADY, 2.0),
        (STEADY, 1.0),
        (SLOW_FAST_SLOW, 3000.0),
        (SLOW_FAST_SLOW, 800.0),
        (SLOW_FAST_SLOW, 100.0),
        (FAST_SLOW_FAST, 3000.0),
        (np.arange(1, 5121) / 500_000, 60.0),
        (np.concatenate([np.arange(1, 5121) / 500_000, [59.0]]), 60.0),
    ],
    ids=lambda value: f"{value}" if isinstance(value, float) else f"{value.size} inputs until {value[-1]}",
)
def test_a_second_or_more_of_enough_traffic_gives_a_full_sample(seconds, window):
    """A window of a second or more that held far more inputs than the sample's size gives a full sample.

    How many are above the cut is chance, with a mean of at least the size; so a sample may be short by some.
    """
    sizes = [drawn_numbers(thinned_monitor(seed, 40, seconds), window).size for seed in range(5)]
    assert min(sizes) >= 40 - 4 * np.sqrt(40)


ROOMY = 200
"""A size above what the tests below leave: every input above the cut is drawn, so that a forgotten cut would show."""


def after_a_burst(rng: np.random.Generator) -> WindowSample:
    """A sample whose cut a burst has raised and slow traffic has lowered again, all before second 1 000."""
    sample = WindowSample(ROOMY, rng)
    extend(sample, SECOND + np.arange(1000), ["burst"] * 1000)
    assert sample.cut > 0.0
    extend(sample, np.arange(10, 20) * SECOND, ["slow"] * 10)
    assert sample.cut == 0.0
    return sample


def thinned(rng: np.random.Generator, cut: float, values: list) -> list:
    """Inputs as they wait when a cut is in force."""
    return [Thinned(cut, value) if rng.random() >= cut else Dropped(cut) for value in values]


def shares_drawn(fill, trials: int = 300) -> tuple[float, int]:
    """The share of "a" among all that is drawn after second 1 000 over many trials, and how many are drawn."""
    drawn: list[str] = []
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        sample = after_a_burst(rng)
        fill(sample, rng)
        drawn += sample.between(1000 * SECOND, FAR).inputs
    return drawn.count("a") / len(drawn), len(drawn)


def chance(share: float, drawn: int) -> float:
    """Four standard deviations of a share."""
    return float(4 * np.sqrt(share * (1 - share) / drawn))


def test_inputs_that_were_thinned_by_an_older_cut_stay_uniform():
    """Inputs that waited while the cut was lowered, and were thinned by the old one, are drawn like the others."""

    def fill(sample: WindowSample, rng: np.random.Generator) -> None:
        extend(sample, np.arange(1001, 1101) * SECOND, ["a"] * 100)
        extend(sample, np.arange(1101, 1401) * SECOND, thinned(rng, 0.75, ["b"] * 300))

    share, drawn = shares_drawn(fill)
    assert share == pytest.approx(0.25, abs=chance(0.25, drawn))


def test_inputs_that_were_thinned_by_several_cuts_stay_uniform():
    """Of inputs that come together but were thinned by different cuts, each is drawn with the same probability."""

    def fill(sample: WindowSample, rng: np.random.Generator) -> None:
        mixed = [value for pair in zip(["a"] * 150, ["b"] * 150, strict=True) for value in pair]
        marked = [thinned(rng, 0.5 if value == "a" else 0.875, [value])[0] for value in mixed]
        extend(sample, np.arange(1001, 1301) * SECOND, marked)

    share, drawn = shares_drawn(fill)
    assert share == pytest.approx(0.5, abs=chance(0.5, drawn))


def test_a_late_block_does_not_hide_that_inputs_were_thinned():
    """A cut stays known for the newest inputs it thinned when thinned inputs of an earlier time come after them."""

    def fill(sample: WindowSample, rng: np.random.Generator) -> None:
        extend(sample, np.arange(1001, 1401) * SECOND, thinned(rng, 0.75, ["a"] * 400))
        extend(sample, np.arange(500, 510) * SECOND, thinned(rng, 0.75, ["late"] * 10))
        extend(sample, np.arange(1401, 1501) * SECOND, ["b"] * 100)

    share, drawn = shares_drawn(fill)
    assert share == pytest.approx(0.8, abs=chance(0.8, drawn))


def test_a_window_after_the_thinning_is_drawn_from_all():
    """A window in which nothing was thinned gives all its inputs, whatever was thinned before."""
    rng = np.random.default_rng(0)
    sample = after_a_burst(rng)
    extend(sample, np.arange(1001, 1101) * SECOND, thinned(rng, 0.75, ["a"] * 100))
    extend(sample, np.arange(1101, 1201) * SECOND, ["b"] * 100)
    drawn = sample.between(1100 * SECOND, FAR)
    assert (drawn.inputs, drawn.is_all) == (["b"] * 100, True)


@pytest.mark.parametrize("burst", [False, True], ids=["pruned", "thinned"])
def test_answers_stay_beside_their_inputs(burst):
    """Whatever is drawn stands beside its own answer and confidence, after pruning and after thinning."""
    rng = np.random.default_rng(0)
    sample = WindowSample(20, rng)
    for block in np.split(np.arange(1, 1001), 10):
        times = SECOND + block if burst else block * SECOND
        marked = thinned(rng, sample.cut, block.tolist()) if sample.cut else block.tolist()
        answers = np.array([f"answer {number}" for number in block.tolist()])
        sample.extend(times, KeptInputs.of(marked), answers, block / 1000)
    drawn = sample.between(0, FAR)
    assert bool(sample.cut) is burst
    assert drawn.outputs == [f"answer {number}" for number in drawn.inputs]
    assert drawn.confidence.tolist() == [number / 1000 for number in drawn.inputs]


def test_inputs_from_before_all_reach_are_no_error():
    """A block that is older than what can be asked for is taken in and forgotten, also when it was thinned."""
    sample = WindowSample(10, np.random.default_rng(0))
    extend(sample, 1000 * SECOND + np.arange(100), list(range(100)))
    assert sample.cut > 0.0
    sample.forget_before(2000 * SECOND)
    extend(sample, np.array([1, 2]) * SECOND, [Thinned(sample.cut, 1), Dropped(sample.cut)])
    extend(sample, np.array([3000]) * SECOND, [2])
    assert sample.between(2000 * SECOND, FAR).inputs == [2]


def test_a_cut_is_noted_for_those_it_thinned_only():
    """Of a block with thinned inputs, those that were all kept can be taken in alone, and no cut is noted for them."""
    sample = WindowSample(10, np.random.default_rng(0))
    extend(sample, np.arange(1, 13) * SECOND, list(range(12)))
    block = KeptInputs.of([Dropped(0.5), "kept", Thinned(0.5, "drawn")])
    sample.extend(np.array([20 * SECOND]), block.only([1]), np.array(["answer"], object), np.array([1.0]))
    assert sample.between(19 * SECOND, FAR).inputs == ["kept"]
    assert sample.between(19 * SECOND, FAR).is_all


def test_the_thinning_ends_with_the_traffic():
    """When traffic becomes slow again, every input is kept again, though it takes long until so many have come."""
    seconds = np.concatenate([np.arange(1, 8193) / 4096, 10 + np.arange(1, 301)])
    monitor = thinned_monitor(0, 40, seconds)
    shown = [event.input for event in monitor.events().events]
    assert None in shown
    assert shown[-300:] == list(range(seconds.size - 300, seconds.size))
