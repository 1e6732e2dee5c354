"""Ranks that are exactly uniform, the bets on them, and the evidence they add up to."""

from __future__ import annotations

import itertools
import math
from bisect import insort

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mlserve.numerics._conformal import (
    BETS,
    BINS,
    BLOCK,
    CELLS,
    HISTOGRAM_DECAY,
    SCALES,
    SHIFTS,
    ConformalEvidence,
    ReferenceCuts,
    bet_table,
)

Floats = npt.NDArray[np.float64]


def watched(reference: Floats, rows: Floats, seed: int = 0, *, shiryaev_roberts: bool = False) -> tuple[Floats, Floats]:
    """The evidence after each row, and the numbers that were drawn for the rows."""
    generator = np.random.default_rng(seed)
    cuts = ReferenceCuts.of(reference, generator)
    draws = generator.random((len(rows), 2, rows.shape[1]))
    evidence = ConformalEvidence(cuts.gaps, rows.shape[1], shiryaev_roberts=shiryaev_roberts)
    return evidence.update(cuts.bins(rows, draws[:, 0]), draws[:, 1], np.arange(len(rows))), draws


def order(value: float, tie_break: float) -> tuple[bool, float, float]:
    """A key that sorts like the urn: by value, missing last, then by tie-break."""
    return math.isnan(value), 0.0 if math.isnan(value) else value, tie_break


def test_each_fixed_bet_is_fair() -> None:
    """Under uniform ranks each bet returns its stake on average, and never costs all of it."""
    table = bet_table()
    np.testing.assert_allclose(table.mean(axis=0), 1.0, rtol=1e-12)
    assert table.shape == (CELLS, BETS)
    assert table.min() >= 0.02


@pytest.mark.parametrize("cell", [0, 7, 20, 39])
def test_a_fixed_bet_is_the_density_of_its_alternative(cell: int) -> None:
    """Its return in a cell is 0.98 times the chance of the cell under the alternative, over 1/40, plus 0.02."""
    low, high = stats.norm.ppf(cell / CELLS), stats.norm.ppf((cell + 1) / CELLS)
    alternatives = [stats.norm(loc=shift) for shift in SHIFTS] + [stats.norm(scale=scale) for scale in SCALES]
    expected = [0.98 * CELLS * (other.cdf(high) - other.cdf(low)) + 0.02 for other in alternatives]
    np.testing.assert_allclose(bet_table()[cell, :-1], expected, rtol=1e-9)


@given(
    rows=st.integers(2, 150),
    values=st.lists(st.sampled_from([-math.inf, -1.0, -0.0, 0.0, 2.5, math.inf, math.nan]), min_size=5, max_size=20),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=60)
def test_a_value_falls_into_the_bin_between_its_neighbouring_cuts(rows: int, values: list[float], seed: int) -> None:
    """With ties, infinities and missing values: its bin is the number of order statistics ⌊k(m + 1)/B⌋ before it."""
    rng = np.random.default_rng(seed)
    reference = rng.choice(values, size=(rows, 1))
    points = rng.choice(values, size=(30, 1))
    cuts = ReferenceCuts.of(reference, np.random.default_rng(seed))
    ties = np.random.default_rng(seed).random(rows)  # what the cuts drew
    ranked = sorted(order(*pair) for pair in zip(reference[:, 0].tolist(), ties.tolist(), strict=True))
    bins = min(BINS, rows + 1)
    ranks = [k * (rows + 1) // bins for k in range(1, bins)]
    assert cuts.gaps.tolist() == np.diff([0, *ranks, rows + 1]).tolist()
    tie_breaks = rng.random((30, 1))
    keys = [order(*pair) for pair in zip(points[:, 0].tolist(), tie_breaks[:, 0].tolist(), strict=True)]
    expected = [sum(ranked[rank - 1] <= key for rank in ranks) for key in keys]
    assert cuts.bins(points, tie_breaks)[:, 0].tolist() == expected


def test_ranks_are_independent_and_uniform_over_all_orders() -> None:
    """Over all 120 orders of three reference values and two rows, and a grid of draws fine enough to be exact, each
    pair of cells is met equally often.
    """
    # Urns of 4, then 5 places with at most 2 in a bin: cells end at multiples of 1/80 of a draw.
    grid = (np.arange(80) + 0.5) / 80
    orders = np.array(list(itertools.permutations(range(5))))
    bins = np.array([[sum(row[:3] < row[3]), sum(row[:3] < row[4])] for row in orders])
    first, second = np.meshgrid(grid, grid, indexing="ij")
    draws = np.stack([np.tile(first.ravel(), len(orders)), np.tile(second.ravel(), len(orders))])
    evidence = ConformalEvidence(np.ones(4, dtype=np.int64), draws.shape[1])
    cells = evidence._cells(np.repeat(bins.T, grid.size**2, axis=1), draws)
    pairs = np.bincount(cells[0] * CELLS + cells[1], minlength=CELLS**2)
    assert set(pairs.tolist()) == {len(orders) * grid.size**2 // CELLS**2}


@pytest.mark.parametrize("kind", ["tied", "missing", "constant"])
def test_ranks_of_tied_and_missing_values_are_uniform(kind: str) -> None:
    """Ranks of 200 streams of 500 rows, in which one value is most of all, pass a chi-square test at 0.001, and so do
    pairs of consecutive ones.
    """
    rng = np.random.default_rng(5)

    def draw(rows: int) -> Floats:
        values = rng.poisson(0.3, size=(rows, 200)).astype(float)
        values[rng.random(values.shape) < 0.4] = np.nan if kind == "missing" else 0.0
        return np.zeros_like(values) if kind == "constant" else values

    generator = np.random.default_rng(6)
    cuts = ReferenceCuts.of(draw(100), generator)
    rows, draws = draw(500), generator.random((500, 2, 200))
    cells = ConformalEvidence(cuts.gaps, 200)._cells(cuts.bins(rows, draws[:, 0]), draws[:, 1])
    assert stats.chisquare(np.bincount(cells.ravel(), minlength=CELLS)).pvalue > 0.001
    coarse = cells // 4
    pairs = np.bincount((coarse[:-1] * 10 + coarse[1:]).ravel(), minlength=100)
    assert stats.chisquare(pairs).pvalue > 0.001


def brute_force(reference: list[float], rows: list[float], draws: Floats, seed: int, *, restart: bool) -> list[float]:
    """The evidence of one feature by its definition: a sorted list for the urn, and a sum over all starts."""
    m = len(reference)
    seen = sorted(order(*pair) for pair in zip(reference, np.random.default_rng(seed).random(m).tolist(), strict=True))
    bins = min(BINS, m + 1)
    cuts = [seen[k * (m + 1) // bins - 1] for k in range(1, bins)]
    returns: list[list[float]] = []
    coarse: list[int] = []
    evidence = []
    for k, value in enumerate(rows):
        point = order(value, float(draws[k, 0, 0]))
        place = sum(cut <= point for cut in cuts)
        ends = [0] + [sum(other <= cut for other in seen) for cut in cuts] + [len(seen) + 1]
        rank = (ends[place] + float(draws[k, 1, 0]) * (ends[place + 1] - ends[place])) / (len(seen) + 1)
        insort(seen, point)
        cell = int(rank * CELLS)
        block = k - k % BLOCK
        weights = [HISTOGRAM_DECAY ** (block - 1 - row) for row in range(block)]  # by age: the last row counts whole
        counts = [1 + sum(w for w, c in zip(weights, coarse, strict=False) if c == number) for number in range(10)]
        histogram = 0.5 + 0.5 * 10 * counts[cell // 4] / sum(counts)
        returns.append([*bet_table()[cell, :-1].tolist(), histogram if block else 1.0])
        coarse.append(cell // 4)
        mass = [1.0 if restart else 200 / ((t + 199) * (t + 200)) for t in range(1, k + 2)]
        late = [sum(mass[t] * math.prod(row[bet] for row in returns[t:]) for t in range(k + 1)) for bet in range(BETS)]
        unspent = 0.0 if restart else 200 / (k + 1 + 200)
        evidence.append(0.5 * sum(late[:-1]) / (BETS - 1) + 0.5 * late[-1] + unspent)
    return evidence


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("m", [2, 20, 150])
def test_evidence_is_what_its_definition_says(m: int, restart: bool) -> None:
    """A plain sum over all starts of a change, with ranks from a sorted list, gives the same numbers."""
    rng = np.random.default_rng(m)
    reference = rng.choice([0.0, 1.0, 2.0, math.nan, *rng.normal(size=4)], size=m)
    rows = np.concatenate([rng.choice(reference, size=25), rng.normal(1.0, 1.0, size=30)])
    found, draws = watched(reference[:, np.newaxis], rows[:, np.newaxis], seed=m, shiryaev_roberts=restart)
    expected = brute_force(reference.tolist(), rows.tolist(), draws, m, restart=restart)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-9)


def test_the_likeliest_start_is_that_of_the_largest_summand() -> None:
    """Of the start times of the leading bet, the one whose product with its prior is largest is answered."""
    rng = np.random.default_rng(3)
    generator = np.random.default_rng(0)
    cuts = ReferenceCuts.of(rng.normal(size=(500, 1)), generator)
    evidence = ConformalEvidence(cuts.gaps, 1)
    rows = np.concatenate([rng.normal(size=(150, 1)), rng.normal(1.0, size=(60, 1))])
    draws = generator.random((len(rows), 2, 1))
    other = ConformalEvidence(cuts.gaps, 1)
    cells = other._cells(cuts.bins(rows, draws[:, 0]), draws[:, 1])[:, 0]
    evidence.update(cuts.bins(rows, draws[:, 0]), draws[:, 1], np.arange(1000, 1000 + len(rows)))
    t = np.arange(1, len(rows) + 1)
    logs = np.log(bet_table()[cells, :-1])
    summands = np.log(200 / ((t + 199) * (t + 200)))[:, np.newaxis] + np.cumsum(logs[::-1], axis=0)[::-1]
    start, _ = np.unravel_index(int(np.argmax(summands)), summands.shape)
    assert evidence.likeliest_start(0) == 1000 + start
    assert abs(int(start) - 150) < 20


def test_the_histogram_pays_the_same_however_rows_are_grouped() -> None:
    """Evidence row by row and in groups of 7 is the same to the last bit."""
    rng = np.random.default_rng(8)
    generator = np.random.default_rng(0)
    cuts = ReferenceCuts.of(rng.normal(size=(300, 3)), generator)
    rows, draws = rng.normal(0.2, 1.3, size=(95, 3)), generator.random((95, 2, 3))
    bins, numbers = cuts.bins(rows, draws[:, 0]), np.arange(95)
    whole = ConformalEvidence(cuts.gaps, 3).update(bins, draws[:, 1], numbers)
    for size in (1, 7):
        grouped = ConformalEvidence(cuts.gaps, 3)
        parts = [slice(first, first + size) for first in range(0, 95, size)]
        found = np.concatenate([grouped.update(bins[part], draws[part, 1], numbers[part]) for part in parts])
        assert np.array_equal(found, whole)


def test_no_rows_change_nothing() -> None:
    """An empty chunk leaves count and evidence as they were."""
    evidence = ConformalEvidence(np.ones(4, dtype=np.int64), 2)
    assert evidence.update(np.zeros((0, 2), np.int64), np.zeros((0, 2)), np.zeros(0, np.int64)).shape == (0, 2)
    assert (evidence.count, evidence.current.tolist(), evidence.peak.tolist()) == (0, [1.0, 1.0], [1.0, 1.0])


def test_evidence_saturates_and_stays_finite() -> None:
    """A change that lasts for ever never overflows."""
    rng = np.random.default_rng(1)
    found, _ = watched(rng.normal(size=(5000, 1)), np.full((4000, 1), 50.0))
    assert np.isfinite(found).all()
    assert found.max() > 1e90


@pytest.mark.parametrize("kind", ["normal", "tied", "missing"])
def test_false_alarms_are_as_rare_as_promised(kind: str) -> None:
    """Of 400 streams of 2 000 rows in which nothing changes, no more than alpha reach 1/alpha, up to three standard
    errors, for alpha 0.01 and 0.1.
    """
    rng = np.random.default_rng(17)

    def draw(rows: int) -> Floats:
        values = rng.normal(size=(rows, 400))
        if kind == "tied":
            values = np.round(values)
        if kind == "missing":
            values[rng.random(values.shape) < 0.3] = np.nan
        return values

    generator = np.random.default_rng(18)
    cuts = ReferenceCuts.of(draw(500), generator)
    evidence = ConformalEvidence(cuts.gaps, 400)
    for first in range(0, 2000, 500):
        rows, draws = draw(500), generator.random((500, 2, 400))
        evidence.update(cuts.bins(rows, draws[:, 0]), draws[:, 1], np.arange(first, first + 500))
    for alpha in (0.01, 0.1):
        share = float((evidence.peak >= 1 / alpha).mean())
        assert share <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / 400)


def test_the_mean_of_shiryaev_roberts_is_the_number_of_rows() -> None:
    """Averaged over 20 000 streams, R after 20 rows is 20, up to four standard errors."""
    rng = np.random.default_rng(23)
    found, _ = watched(rng.normal(size=(100, 20_000)), rng.normal(size=(20, 20_000)), shiryaev_roberts=True)
    assert abs(found[-1].mean() - 20) < 4 * found[-1].std() / math.sqrt(20_000)
