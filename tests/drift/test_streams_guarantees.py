"""What the streams promise, by simulation: rare false alarms, early true ones.

``pytest -m slow --log-cli-level=INFO`` shows the figures.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from mlserve.drift._streams import DriftStream

Floats = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]

LOGGER = logging.getLogger(__name__)

REFERENCE_ROWS = 1500
CHUNK = 2000


def normal(rng: np.random.Generator, rows: int) -> Floats:
    return rng.normal(size=(rows, 1))


def tied(rng: np.random.Generator, rows: int) -> Floats:
    """Counts, half of which are 0."""
    return rng.poisson(0.7, size=(rows, 1)).astype(float)


def categorical(rng: np.random.Generator, rows: int) -> Floats:
    """Two features of few categories, one of them rare."""
    colours = rng.choice([0.0, 1.0, 2.0, 3.0], p=[0.6, 0.3, 0.095, 0.005], size=rows)
    return np.column_stack([colours, rng.random(rows) < 0.02])


def missing(rng: np.random.Generator, rows: int) -> Floats:
    """Two features that are missing together in 40 % of the rows."""
    values = rng.normal(size=(rows, 2))
    values[rng.random(rows) < 0.4] = np.nan
    return values


def correlated(rng: np.random.Generator, rows: int) -> Floats:
    """Twenty features with a correlation of 0.8."""
    return math.sqrt(0.8) * rng.normal(size=(rows, 1)) + math.sqrt(0.2) * rng.normal(size=(rows, 20))


KINDS: list[Draw] = [normal, tied, categorical, missing, correlated]


def false_alarms(draw: Draw, runs: int, rows: int, mean_time: float | None = None) -> float:
    """The share of streams that ever alarm though nothing changes."""
    alarmed = 0
    for seed in range(runs):
        rng = np.random.default_rng([seed, 2024])
        stream = DriftStream(draw(rng, REFERENCE_ROWS), alpha=0.01, mean_time_to_false_alarm=mean_time, seed=seed)
        for first in range(0, rows, CHUNK):
            if stream.update(draw(rng, min(CHUNK, rows - first))).alarm_count:
                alarmed += 1
                break
    return alarmed / runs


def allowed(chance: float, runs: int) -> float:
    """The chance and three binomial standard errors."""
    return chance + 3 * math.sqrt(chance * (1 - chance) / runs)


@pytest.mark.parametrize("draw", KINDS)
def test_false_alarms_are_as_rare_as_promised(draw: Draw) -> None:
    """Of 60 streams of 1 000 rows, no more than alpha ever alarm, up to three standard errors."""
    assert false_alarms(draw, 60, 1000) <= allowed(0.01, 60)


@pytest.mark.slow
@pytest.mark.parametrize("draw", KINDS)
def test_false_alarms_are_as_rare_as_promised_in_long_streams(draw: Draw) -> None:
    """Of 400 streams of 20 000 rows, no more than alpha ever alarm, up to three standard errors."""
    share = false_alarms(draw, 400, 20_000)
    LOGGER.info("%s: a share of %.4f alarmed", draw.__name__, share)
    assert share <= allowed(0.01, 400)


def test_alarms_within_a_time_are_as_rare_as_promised() -> None:
    """With a mean time of 10 000 rows, of 60 streams no more than a tenth alarm within 1 000, up to three errors."""
    assert false_alarms(missing, 60, 1000, mean_time=10_000) <= allowed(0.1, 60)


@pytest.mark.slow
@pytest.mark.parametrize("draw", KINDS)
def test_alarms_within_a_time_are_as_rare_as_promised_in_long_streams(draw: Draw) -> None:
    """With a mean time of 200 000 rows, of 400 streams no more than a tenth alarm within 20 000, up to three errors."""
    share = false_alarms(draw, 400, 20_000, mean_time=200_000)
    LOGGER.info("%s: a share of %.4f alarmed in a tenth of the mean time", draw.__name__, share)
    assert share <= allowed(0.1, 400)


def times_to_false_alarm(draw: Draw, runs: int, mean_time: float) -> Floats:
    """Rows until each of many streams alarms though nothing changes."""
    times = []
    for seed in range(runs):
        rng = np.random.default_rng([seed, 77])
        stream = DriftStream(draw(rng, REFERENCE_ROWS), mean_time_to_false_alarm=mean_time, seed=seed)
        while (status := stream.update(draw(rng, 200))).raised_at is None:
            pass
        times.append(status.raised_at + 1)
    return np.array(times, dtype=float)


def test_the_mean_time_to_a_false_alarm_is_as_long_as_promised() -> None:
    """The mean over 40 streams is at least the promised 300 rows, up to three standard errors."""
    times = times_to_false_alarm(missing, 40, 300)
    assert times.mean() >= 300 - 3 * times.std() / math.sqrt(40)


@pytest.mark.slow
@pytest.mark.parametrize("draw", KINDS)
def test_the_mean_time_to_a_false_alarm_is_as_long_as_promised_over_many_streams(draw: Draw) -> None:
    """The mean over 300 streams is at least the promised 3 000 rows, up to three standard errors."""
    times = times_to_false_alarm(draw, 300, 3000)
    LOGGER.info("%s: %.0f rows to a false alarm on average", draw.__name__, times.mean())
    assert times.mean() >= 3000 - 3 * times.std() / math.sqrt(300)


def delays(shift: float, calm: int, runs: int) -> list[float]:
    """Rows from a shift of one of four features to the alarm; an alarm before it counts as never."""
    found = []
    for seed in range(runs):
        rng = np.random.default_rng([seed, 5])
        stream = DriftStream(rng.normal(size=(REFERENCE_ROWS, 4)), alpha=0.01, seed=seed)
        early = stream.update(rng.normal(size=(calm, 4))).alarm_count
        status = stream.update(rng.normal(size=(1000, 4)) + np.array([shift, 0.0, 0.0, 0.0]))
        found.append(math.inf if early or status.raised_at is None else status.raised_at - calm + 1)
    return found


@pytest.mark.parametrize("calm", [0, 1500])
def test_half_a_standard_deviation_in_one_of_four_features_is_seen_soon(calm: int) -> None:
    """The median delay of 25 streams is at most 300 rows, at once and after 1 500 calm rows."""
    assert np.median(delays(0.5, calm, 25)) <= 300


def test_a_change_is_placed_where_it_began() -> None:
    """Of 30 shifts of one standard deviation at row 1 000, the median error of ``since`` is at most 10 rows."""
    errors = []
    for seed in range(30):
        rng = np.random.default_rng([seed, 6])
        stream = DriftStream(rng.normal(size=(REFERENCE_ROWS, 2)), seed=seed)
        stream.update(rng.normal(size=(1000, 2)))
        since = stream.update(rng.normal(size=(300, 2)) + np.array([1.0, 0.0])).since
        assert since is not None
        errors.append(abs(since - 1000))
    assert np.median(errors) <= 10
