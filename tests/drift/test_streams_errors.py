"""Watching an error rate as labels arrive, and tests repeated without end."""

from __future__ import annotations

import copy
import json
import logging
import math
import pickle
from typing import Any

import numpy as np
import pytest
from scipy import stats

from mlserve.drift._error_streams import ErrorRateStream
from mlserve.drift._spending import AlphaSpending, AlphaSpendingStatus
from mlserve.drift._stream_states import DriftStreamStatus
from mlserve.errors import InvalidArgumentError
from mlserve.numerics._sequential import clopper_pearson_upper


def feed(stream: ErrorRateStream, rate: float, labels: int, size: int = 50, seed: int = 0) -> list[DriftStreamStatus]:
    """Batches of labels with errors at a rate."""
    rng = np.random.default_rng(seed)
    return [stream.update(int(rng.binomial(size, rate)), size) for _ in range(labels // size)]


def test_before_the_first_label_there_is_no_evidence() -> None:
    """A new stream has seen nothing: no alarm, log evidence 0, the threshold that of half of alpha."""
    status = ErrorRateStream(10, 100, alpha=0.02).status
    assert status == DriftStreamStatus(alarm=False, evidence=0.0, threshold=status.threshold)
    assert status.threshold == pytest.approx(math.log(100))


def test_the_rate_is_the_upper_bound_of_the_baseline_and_the_tolerance() -> None:
    """Evidence counts above the Clopper-Pearson bound at half of alpha, plus the tolerance; for both directions each
    side has a quarter.
    """
    assert ErrorRateStream(10, 100, tolerance=0.03).rates == (clopper_pearson_upper(10, 100, 0.005) + 0.03,)
    up, down = ErrorRateStream(10, 100, tolerance=0.03, direction="both").rates
    assert up == clopper_pearson_upper(10, 100, 0.0025) + 0.03
    assert down == pytest.approx(1 - clopper_pearson_upper(90, 100, 0.0025) - 0.03)


def test_a_rise_alarms_and_tells_since_when() -> None:
    """After a long calm a rise alarms once, and is placed within three batches of where it was."""
    stream = ErrorRateStream(100, 1000)
    assert not any(status.alarm for status in feed(stream, 0.1, 20_000))
    statuses = feed(stream, 0.3, 1000, seed=1)
    assert sum(status.raised for status in statuses) == 1
    last = statuses[-1]
    assert (last.alarm, last.features, last.n, last.alarm_count) == (True, ("error_rate",), 21_000, 1)
    assert last.since is not None
    assert abs(last.since - 20_000) <= 150
    assert last.raised_at is not None
    assert 20_000 < last.raised_at < 20_400


def test_a_rise_within_the_tolerance_is_none() -> None:
    """A rate of 0.12 is no rise over 0.1 with a tolerance of 0.03, however long it lasts."""
    assert not any(status.alarm for status in feed(ErrorRateStream(1000, 10_000, tolerance=0.03), 0.12, 50_000))


def test_fewer_errors_are_no_alarm_unless_asked_for() -> None:
    """A fall alarms with ``direction="both"`` only."""
    assert not any(status.alarm for status in feed(ErrorRateStream(300, 1000), 0.1, 3000))
    assert feed(ErrorRateStream(300, 1000, direction="both"), 0.1, 3000)[-1].alarm


def test_an_alarm_ends_when_the_rate_is_back_and_the_next_is_raised() -> None:
    """It lasts as long as the rise, ends within 2 000 labels afterwards, and a second rise alarms again."""
    stream = ErrorRateStream(100, 1000)
    assert feed(stream, 0.3, 1000)[-1].alarm
    assert all(status.alarm for status in feed(stream, 0.3, 20_000, seed=1))
    status = feed(stream, 0.1, 2000, seed=2)[-1]
    assert (status.alarm, status.features, status.since, status.raised_at) == (False, (), None, None)
    status = feed(stream, 0.3, 1000, seed=3)[-1]
    assert (status.alarm, status.alarm_count) == (True, 2)


def test_rearming_accepts_a_new_rate() -> None:
    """Re-armed as it was, a lasting rise alarms again; re-armed with a new baseline it is the normal rate."""
    stream = ErrorRateStream(100, 1000)
    feed(stream, 0.3, 500)
    stream.rearm()
    assert (stream.status.alarm, stream.status.n, stream.status.evidence) == (False, 500, 0.0)
    assert feed(stream, 0.3, 1000, seed=1)[-1].alarm
    stream.rearm(600, 2000)
    assert not any(status.alarm for status in feed(stream, 0.3, 5000, seed=2))


def test_a_reset_stream_is_as_new() -> None:
    """Labels, alarms and new baselines are forgotten."""
    stream = ErrorRateStream(100, 1000)
    feed(stream, 0.5, 500)
    stream.rearm(500, 1000)
    stream.reset()
    assert stream.to_state() == ErrorRateStream(100, 1000).to_state()


def test_a_refused_baseline_changes_nothing() -> None:
    """Re-arming with a baseline that means nothing leaves alarm and evidence as they were."""
    stream = ErrorRateStream(100, 1000)
    feed(stream, 0.3, 500)
    state = stream.to_state()
    for arguments in ((5, 3), (5, 5), (None, 10), (10, None)):
        with pytest.raises(InvalidArgumentError):
            stream.rearm(*arguments)
    assert stream.to_state() == state


@pytest.mark.parametrize("labels", [0, 100, 600, 3000])
@pytest.mark.parametrize("direction", ["worse", "both"])
def test_a_stream_goes_on_from_its_state(labels: int, direction: str) -> None:
    """Saved as strict JSON before, amid and after an alarm, and read back, it gives the same statuses; so do copies."""
    stream = ErrorRateStream(100, 1000, direction=direction)
    feed(stream, 0.1, min(labels, 100))
    feed(stream, 0.4, min(max(labels - 100, 0), 500))
    feed(stream, 0.1, max(labels - 600, 0))
    restored = ErrorRateStream.from_state(json.loads(json.dumps(stream.to_state(), allow_nan=False)))
    others = [restored, copy.deepcopy(stream), pickle.loads(pickle.dumps(stream))]
    for other in others:
        assert other.status == stream.status
        assert other.rates == stream.rates
    for errors in (3, 30, 10, 0):
        expected = stream.update(errors, 50)
        assert all(other.update(errors, 50) == expected for other in others)


def test_the_mixture_does_not_depend_on_how_labels_arrive() -> None:
    """The same counts in any batches give the same log evidence but for what looks for a later start, within log 2."""
    one, many = ErrorRateStream(100, 1000), ErrorRateStream(100, 1000)
    whole = one.update(45, 300).evidence
    for errors in (10, 20, 15):
        status = many.update(errors, 100)
    assert abs(status.evidence - whole) < math.log(2) + 0.5
    assert status.n == 300


def test_no_labels_change_nothing() -> None:
    """A batch of none gives the status there was."""
    stream = ErrorRateStream(100, 1000)
    status = stream.update(10, 100)
    assert stream.update(0, 0) == status
    assert stream.update(0.0, 0) == status  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "counts", [(-1, 5), (6, 5), (1.5, 5), (1, 2.5), (math.nan, 5), (1, math.inf), ("1", 5), (None, 5), (True, 5)]
)
def test_counts_are_whole_numbers(counts: tuple[Any, Any]) -> None:
    """Anything else is refused, and nothing is taken in."""
    stream = ErrorRateStream(1, 10)
    with pytest.raises(InvalidArgumentError):
        stream.update(*counts)
    assert stream.status.n == 0


@pytest.mark.parametrize(
    ("baseline", "options"),
    [
        ((0, 0), {}),
        ((5, 4), {}),
        ((10, 10), {}),
        ((1, 10), {"tolerance": -0.1}),
        ((1, 10), {"tolerance": 1.0}),
        ((1, 10), {"tolerance": math.nan}),
        ((1, 10), {"tolerance": True}),
        ((50, 100), {"tolerance": 0.5}),
        ((0, 10), {"direction": "both"}),
        ((1, 10), {"direction": "sideways"}),
    ],
)
def test_a_baseline_that_cannot_get_worse_is_refused(baseline: tuple[int, int], options: dict[str, Any]) -> None:
    """No rows, a bound of 1, tolerances and directions that mean nothing are refused when configured."""
    with pytest.raises(InvalidArgumentError):
        ErrorRateStream(*baseline, **options)


def test_a_stream_shows_what_it_watches() -> None:
    """Its repr tells the rates and the labels seen."""
    bound = stats.binomtest(100, 1000, alternative="less").proportion_ci(0.995, method="exact").high
    assert repr(ErrorRateStream(100, 1000)) == f"ErrorRateStream(rate > {bound:.4g}, alpha=0.01, n=0, alarm=False)"
    assert " < 0.0" in repr(ErrorRateStream(100, 1000, direction="both"))


def false_alarms(runs: int, labels: int, alpha: float, size: int = 20) -> float:
    """The share of streams that ever alarm, baseline drawn too, when nothing changes."""
    rng = np.random.default_rng(99)
    alarmed = 0
    for _ in range(runs):
        stream = ErrorRateStream(int(rng.binomial(1000, 0.1)), 1000, alpha=alpha)
        counts = rng.binomial(size, 0.1, size=labels // size)
        alarmed += any(stream.update(int(errors), size).alarm for errors in counts)
    return alarmed / runs


def test_false_alarms_are_as_rare_as_promised() -> None:
    """Of 60 streams with a baseline of their own, no more than alpha alarm, up to three standard errors."""
    alpha = 0.05
    assert false_alarms(60, 2000, alpha) <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / 60)


@pytest.mark.slow
def test_false_alarms_are_as_rare_as_promised_in_long_streams() -> None:
    """Of 400 streams of 20 000 labels, no more than alpha alarm, up to three standard errors."""
    alpha = 0.05
    share = false_alarms(400, 20_000, alpha)
    logging.getLogger(__name__).info("a share of %.4f alarmed at alpha %.2f", share, alpha)
    assert share <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / 400)


def test_repeated_tests_spend_alpha() -> None:
    """The w-th window is tested at alpha/(w(w + 1)), and the alarm stays on, raised once."""
    spending = AlphaSpending(0.06)
    assert spending.status == AlphaSpendingStatus()
    statuses = [spending.update(p) for p in (0.031, 0.01, 1.0, 0.0)]
    assert [status.level for status in statuses] == pytest.approx([0.03, 0.01, 0.005, 0.003])
    assert [(status.alarm, status.raised, status.since) for status in statuses] == [
        (False, False, None), (True, True, 1), (True, False, 1), (True, False, 1)
    ]  # fmt: skip
    assert (spending.status.n, spending.status.p_value) == (4, 0.0)
    spending.reset()
    assert spending.update(0.03).alarm


def test_spending_goes_on_from_its_state() -> None:
    """Saved as strict JSON and read back, or copied, it tests the next window at the same level."""
    spending = AlphaSpending(0.05)
    spending.update(0.5)
    for other in (
        AlphaSpending.from_state(json.loads(json.dumps(spending.to_state(), allow_nan=False))),
        copy.deepcopy(spending),
    ):
        assert other.status == spending.status
        assert other.update(0.008) == AlphaSpendingStatus(
            alarm=True, raised=True, level=0.05 / 6, p_value=0.008, since=1, n=2
        )


@pytest.mark.parametrize("p_value", [-0.1, 1.1, math.nan, None, "0.5", True])
def test_spending_takes_p_values_only(p_value: Any) -> None:
    """Anything else is refused, and no level is spent."""
    spending = AlphaSpending()
    with pytest.raises(InvalidArgumentError):
        spending.update(p_value)
    assert spending.status.n == 0


def test_repeated_tests_of_nothing_rarely_alarm() -> None:
    """Of 2 000 series of 50 uniform p-values, no more than alpha alarm, up to three standard errors."""
    rng = np.random.default_rng(1)
    alarmed = 0
    for series in rng.random((2000, 50)).tolist():
        spending = AlphaSpending(0.05)
        alarmed += [spending.update(p) for p in series][-1].alarm
    assert alarmed / 2000 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)
