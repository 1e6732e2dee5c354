"""Evidence from counts that a rate has risen, whenever the rise began."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mlserve.errors import InvalidArgumentError
from mlserve.numerics._rates import ODDS_RATIOS, RateEvidence
from mlserve.numerics._sequential import bernoulli_log_e_value

Batches = list[tuple[int, int]]


def evidence_of(batches: Batches, rate: float) -> RateEvidence:
    evidence = RateEvidence(rate)
    for errors, count in batches:
        evidence.update(errors, count, evidence.count)
    return evidence


def by_definition(batches: Batches, rate: float) -> float:
    """Half the mixture of all counts, half the sum over starts and alternatives of likelihood ratios."""
    counts = [count for _, count in batches]
    begins = np.concatenate([[0], np.cumsum(counts)])
    late = 200 / (begins[-1] + 200)
    for ratio in ODDS_RATIOS:
        odds = ratio * rate / (1 - rate)
        theta = odds / (1 + odds)
        for start in range(len(batches)):
            mass = sum(200 / ((t + 199) * (t + 200)) for t in range(begins[start] + 1, begins[start + 1] + 1))
            likelihoods = [
                stats.binom.pmf(errors, count, theta) / stats.binom.pmf(errors, count, rate)
                for errors, count in batches[start:]
            ]
            late += mass * math.prod(likelihoods) / len(ODDS_RATIOS)
    errors = sum(errors for errors, _ in batches)
    return 0.5 * math.exp(bernoulli_log_e_value(errors, int(begins[-1]), rate)) + 0.5 * late


@given(
    batches=st.lists(st.integers(1, 12).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), max_size=8),
    rate=st.sampled_from([0.01, 0.1, 0.4, 0.9]),
)
@settings(deadline=None, max_examples=80)
def test_evidence_is_what_its_definition_says(batches: Batches, rate: float) -> None:
    """A plain sum over starts and alternatives gives the same number; of no batches, 1."""
    assert math.exp(evidence_of(batches, rate).log_evidence) == pytest.approx(by_definition(batches, rate), rel=1e-8)


@pytest.mark.parametrize("truth", [0.1, 0.2])
def test_evidence_is_at_most_one_on_average(truth: float) -> None:
    """Over all outcomes of batches of 3, 1 and 4 labels its mean is 1 at the rate itself and less below it."""
    rate, sizes = 0.2, (3, 1, 4)
    mean = 0.0
    for errors in itertools.product(*(range(size + 1) for size in sizes)):
        chance = math.prod(stats.binom.pmf(e, n, truth) for e, n in zip(errors, sizes, strict=True))
        mean += chance * math.exp(evidence_of(list(zip(errors, sizes, strict=True)), rate).log_evidence)
    assert mean == pytest.approx(1.0, rel=1e-9) if truth == rate else mean < 1


def test_millions_of_labels_in_a_batch_do_not_overflow() -> None:
    """Batches of any size give finite evidence, for and against a rise."""
    assert math.isfinite(evidence_of([(900_000, 1_000_000)] * 3, 0.1).log_evidence)
    assert math.isfinite(evidence_of([(0, 10_000_000)] * 3, 0.5).log_evidence)


def test_a_late_rise_is_seen_soon() -> None:
    """After 50 000 labels at the rate, ones that are all errors make log evidence of 10 within 15 labels."""
    evidence = evidence_of([(10, 100)] * 500, 0.11)
    for _ in range(15):
        evidence.update(1, 1, evidence.count)
    assert evidence.log_evidence > 10
    assert evidence.likeliest_start >= 49_900


def test_evidence_that_a_rise_lasts_stays_below_its_ceiling_and_falls_afterwards() -> None:
    """It begins at the ceiling but for the share of its alternative, and 1 000 labels at the old rate end it."""
    evidence = evidence_of([(10, 100)] * 5 + [(40, 100)] * 3, 0.11).lasting(15.0)
    assert evidence.log_evidence == pytest.approx(15.0 - math.log(len(ODDS_RATIOS)))
    for _ in range(20):
        evidence.update(45, 100, 0)
        assert 12 < evidence.log_evidence <= 15
    for _ in range(10):
        evidence.update(10, 100, 0)
    assert evidence.log_evidence < 1


def test_evidence_survives_its_state() -> None:
    """What was saved goes on with the same numbers."""
    evidence = evidence_of([(1, 10), (5, 9)], 0.1)
    for one in (evidence, evidence.lasting(12.0)):
        other = RateEvidence.from_state(one.to_state(), 0.1)
        for each in (one, other):
            each.update(3, 7, 19)
        assert one.log_evidence == other.log_evidence
        assert one.likeliest_start == other.likeliest_start


@pytest.mark.parametrize("change", [{"fortunes": [0.0]}, {"best": [math.nan] * 9}, {"errors": 99}, {"weakest": 9}])
def test_a_state_that_no_stream_leads_to_is_refused(change: dict[str, object]) -> None:
    """Other shapes, NaN, more errors than labels and alternatives that do not exist are refused."""
    with pytest.raises(InvalidArgumentError):
        RateEvidence.from_state(evidence_of([(1, 10)], 0.1).to_state() | change, 0.1)
