"""A stream whose labels reverse every 20 000 rows while its inputs never change: pure concept drift."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.tree import DecisionTreeClassifier

from mlserve.drift._error_streams import ErrorRateStream
from mlserve.drift._streams import DriftStream

SINE = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "streams" / "sine1_w_50_n_0.1_101.arff.gz"

pytestmark = pytest.mark.skipif(not SINE.exists(), reason="the sine1 stream is not there (../shared/data/streams)")

BLOCK = 20_000
TRAINED = 10_000
BASELINE = 9000
"""The model is trained on half of the first block; nearly all of the rest is its baseline, and then it serves."""

SERVED = TRAINED + BASELINE
REVERSALS = (BLOCK, 2 * BLOCK, 3 * BLOCK, 4 * BLOCK)
SOON = 300


@pytest.fixture(scope="module")
def inputs() -> npt.NDArray[np.float64]:
    """The inputs, shape (100 000, 2)."""
    return np.array([[float(x), float(y)] for x, y, _ in read()])


@pytest.fixture(scope="module")
def errors(inputs: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """1 where a tree trained on the first rows answers wrongly."""
    labels = np.array([label for *_, label in read()])
    tree = DecisionTreeClassifier(max_depth=8, random_state=0).fit(inputs[:TRAINED], labels[:TRAINED])
    return np.asarray(tree.predict(inputs) != labels, dtype=np.int64)


def read() -> list[list[str]]:
    lines = gzip.decompress(SINE.read_bytes()).decode().splitlines()
    return [line.split(",") for line in lines[lines.index("@data") + 1 :] if line]


def test_the_error_alarms_soon_after_each_reversal(errors: npt.NDArray[np.int64]) -> None:
    """Watched both ways in batches of 25 labels and re-armed with 1 000 labels of the new normal each time, the error
    alarms within 300 rows after each of the four reversals and never else.
    """
    stream = ErrorRateStream(int(errors[TRAINED:SERVED].sum()), BASELINE, direction="both")
    raised: list[int] = []
    rearm_at = -1
    for first in range(SERVED, len(errors), 25):
        if first == rearm_at:
            stream.rearm(int(errors[first - 1000 : first].sum()), 1000)
        batch = errors[first : first + 25]
        status = stream.update(int(batch.sum()), len(batch))
        if status.raised and status.raised_at is not None:
            raised.append(SERVED + status.raised_at)
            rearm_at = first + 25 * 60  # a thousand labels from after the transition
    assert len(raised) == len(REVERSALS)
    assert all(0 <= row - reversal <= SOON for row, reversal in zip(raised, REVERSALS, strict=True))


@pytest.mark.parametrize("size", [pytest.param(1, marks=pytest.mark.slow), 20])
def test_the_alarm_follows_a_model_that_is_right_again(errors: npt.NDArray[np.int64], size: int) -> None:
    """Watched for the worse from before the first reversal, the error alarms within 300 rows after the two reversals
    that make the model wrong, and the alarm ends by itself within 2 000 after the two that make it right.
    """
    stream = ErrorRateStream(int(errors[TRAINED:SERVED].sum()), BASELINE)
    turns: list[tuple[bool, int]] = []
    on = False
    for row in range(SERVED, len(errors), size):
        alarm = stream.update(int(errors[row : row + size].sum()), size).alarm
        if alarm != on:
            turns.append((alarm, row))
            on = alarm
    assert [alarm for alarm, _ in turns] == [True, False, True, False]
    after = [row - reversal for (_, row), reversal in zip(turns, REVERSALS, strict=True)]
    assert all(0 <= delay <= (SOON if alarm else 2000) for delay, (alarm, _) in zip(after, turns, strict=True))


def test_the_inputs_stay_silent(inputs: npt.NDArray[np.float64]) -> None:
    """Over all 90 000 rows after the reference no alarm is raised, under either rule."""
    for mean_time in (None, 1e7):
        stream = DriftStream(inputs[:TRAINED], mean_time_to_false_alarm=mean_time)
        assert stream.update(inputs[TRAINED:]).alarm_count == 0
