"""Answers of the monitor in memory: what a sample of them holds, and the baseline they are compared with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy.stats import chisquare
from traffic import HOUR, MICROSECOND, MINUTE, SECOND, predict, small_monitor

from mlserve import InMemoryModelMonitor, InMemoryModelRepository, ModelMetrics, ModelServer
from mlserve.clocks import ManualClock
from mlserve.errors import InvalidArgumentError
from mlserve.protocols import ModelMonitor, PredictionMonitor
from mlserve.records import Baseline, InputSample, PredictionSample

START = datetime(2026, 1, 1, tzinfo=UTC)

LEAST_P = 1e-3
"""Seeds are fixed: a uniform sampler either passes for good or was unlucky once in a thousand when they were chosen."""


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def monitor(clock) -> InMemoryModelMonitor:
    return InMemoryModelMonitor(clock=clock)


def recent(monitor, version_id: str = "1", window=HOUR) -> PredictionSample:
    return monitor.get_recent_predictions(version_id, window)


# ----------------------------------------------------------------------------------------------------- recent answers


def test_a_version_never_seen_has_no_answers(monitor):
    """A version never seen has a sample without rows, which is all there is."""
    sample = recent(monitor, "77")
    assert (sample.outputs.shape, sample.count, sample.method) == ((0,), 0, "all")


def test_answers_stand_beside_inputs_and_confidences(monitor, clock):
    """A row of the sample is one prediction: its answer, its confidence and its input."""
    for number in range(50):
        predict(monitor, number, clock.now(), output=number % 7, confidence=number / 64, input=[number, -number])
    sample = recent(monitor)
    assert sample.outputs.tolist() == [number % 7 for number in range(50)]
    assert sample.confidences.tolist() == [number / 64 for number in range(50)]
    assert sample.inputs.tolist() == [[number, -number] for number in range(50)]


def test_answers_stand_beside_their_own_after_forgetting(clock):
    """Rows stay together when most of the older ones have been forgotten."""
    monitor = small_monitor(clock, sample_size=50)
    for number in range(3000):
        at = clock.now() - number * SECOND
        predict(monitor, number, at, output=number, confidence=number / 4096, input=[number / 2])
    sample = recent(monitor)
    assert len(sample.outputs) == 50
    assert sample.confidences.tolist() == (sample.outputs / 4096).tolist()
    assert sample.inputs[:, 0].tolist() == (sample.outputs / 2).tolist()


def fast_monitor(seed: int, seconds: np.ndarray, size: int = 40) -> InMemoryModelMonitor:
    """A monitor that answered 0, 1, 2, … at some seconds after the start; now is the last of them."""
    clock = ManualClock(START)
    monitor = InMemoryModelMonitor(clock=clock, sample_size=size, seed=seed)
    for number, second in enumerate(seconds.tolist()):
        at = START.timestamp() + second
        monitor.defer_prediction(str(number), "1", [number / 2], number, 1.0, at, number / 65536, None, None)
    clock.advance(timedelta(seconds=float(seconds[-1])))
    return monitor


STEADY = np.arange(1, 8193) / 4096
SLOW_FAST_SLOW = np.concatenate(
    [np.arange(1, 1001) * 1.0, 1000 + np.arange(1, 3001) / 8000, 1000.5 + np.arange(1, 501) * 1.0]
)


@pytest.mark.parametrize(
    ("seconds", "window"),
    [(STEADY, 2.0), (STEADY, 1.0), (SLOW_FAST_SLOW, 2000.0), (SLOW_FAST_SLOW, 600.0)],
    ids=["steady", "half of steady", "slow, fast, slow", "fast, slow"],
)
def test_answers_of_thinned_traffic_are_drawn_evenly(seconds, window):
    """When most inputs are not even copied, each answer of a window is still drawn with the same probability."""
    first = int(np.searchsorted(seconds, seconds[-1] - window, side="right"))
    span = timedelta(seconds=window)
    drawn = np.concatenate([recent(fast_monitor(seed, seconds), window=span).outputs for seed in range(12)])
    assert drawn.min() >= first
    counts = np.bincount((drawn - first) * 8 // (seconds.size - first), minlength=8)
    assert chisquare(counts).pvalue > LEAST_P


def test_answers_of_thinned_traffic_stand_beside_their_own():
    """Where most inputs are not even copied, an answer still stands beside its own input and confidence."""
    sample = recent(fast_monitor(0, STEADY), window=2 * SECOND)
    assert (sample.method, sample.count) == ("reservoir", STEADY.size)
    assert 0 < len(sample.outputs) <= 40
    assert sample.inputs[:, 0].tolist() == (sample.outputs / 2).tolist()
    assert sample.confidences.tolist() == (sample.outputs / 65536).tolist()


@pytest.mark.parametrize("count", [99, 100, 101], ids=str)
def test_a_sample_of_answers_says_whether_it_is_all(clock, count):
    """``method`` is "all" exactly while every answer of the window is in the sample; ``count`` counts all."""
    monitor = small_monitor(clock, sample_size=100)
    for number in range(count):
        predict(monitor, number, clock.now() - number * SECOND)
    sample = recent(monitor)
    assert (sample.count, len(sample.outputs)) == (count, min(count, 100))
    assert sample.method == ("all" if count <= 100 else "reservoir")


def test_a_window_of_answers_is_open_at_its_far_end(monitor, clock):
    """A window is (now − w, now] to the microsecond: what was answered exactly w ago is outside."""
    edge = clock.now() - MINUTE
    for number, at in enumerate([edge - MICROSECOND, edge, edge + MICROSECOND, clock.now(), clock.now() + MICROSECOND]):
        predict(monitor, number, at, output=number)
    assert recent(monitor, window=MINUTE).outputs.tolist() == [2, 3]


def test_a_window_of_answers_is_no_longer_than_the_retention(monitor):
    """``InvalidArgumentError`` is raised for a window that reaches further back than the monitor remembers."""
    with pytest.raises(InvalidArgumentError, match="retention"):
        recent(monitor, window=timedelta(days=400))


@pytest.mark.parametrize("odd", ["text", None, [1.0, 2.0]], ids=["text", "None", "wide"])
def test_inputs_that_are_no_table_are_not_shown(monitor, clock, odd):
    """One input that is no row of the others' width: then no inputs are shown, for rows would shift."""
    for number, input in enumerate([[1.0], odd, [2.0]]):
        predict(monitor, number, clock.now(), output=number, input=input)
    sample = recent(monitor)
    assert (sample.outputs.tolist(), sample.inputs) == ([0, 1, 2], None)


def test_records_are_rows_beside_their_answers(monitor, clock):
    """Inputs that are mappings with the same names are rows, whatever the order of their fields."""
    for number in range(4):
        record = {"a": number, "b": 0.5} if number % 2 else {"b": 0.5, "a": number}
        predict(monitor, number, clock.now(), output=number, input=record)
    sample = recent(monitor)
    assert sorted(sample.inputs[2].tolist()) == [0.5, 2.0]
    column = sample.inputs[:, 0] if sample.inputs[0, 0] == 0.0 else sample.inputs[:, 1]
    assert column.tolist() == sample.outputs.tolist()


def test_answers_of_several_values_are_copied_through(monitor, clock):
    """A nested answer may be changed by the caller as soon as it was recorded."""
    output = [{"box": [1, 2]}]
    predict(monitor, 0, clock.now(), output=output)
    output[0]["box"].append(3)
    assert recent(monitor).outputs.tolist() == [[{"box": [1, 2]}]]


def test_answers_cannot_be_changed(monitor, clock):
    """What a sample holds is read-only."""
    predict(monitor, 0, clock.now())
    with pytest.raises(ValueError, match="read-only"):
        recent(monitor).outputs[0] = 1


# ----------------------------------------------------------------------------------------------------------- baselines


ANSWERS = PredictionSample([0, 1, 1], confidences=[0.9, 0.8, 0.7], labels=[0, 1, 0])


def test_the_baseline_of_answers_is_the_object_that_was_set(monitor):
    """A detector knows by the object that nothing changed."""
    monitor.set_baseline_predictions("1", ANSWERS)
    assert monitor.get_baseline_predictions("1") is ANSWERS


def test_the_parts_of_a_baseline_are_set_apart(monitor):
    """Answers leave metrics and inputs as they were, and the other way round."""
    monitor.set_baseline_predictions("1", ANSWERS)
    monitor.set_baseline("1", metrics=ModelMetrics(accuracy=0.5), inputs=[[1.0]])
    monitor.set_baseline_predictions("1", ANSWERS)
    assert monitor.get_baseline_predictions("1") is ANSWERS
    assert monitor.get_baseline_metrics("1").accuracy == 0.5
    assert monitor.get_baseline_input_distribution("1").rows.tolist() == [[1.0]]


def test_capturing_keeps_the_answers(monitor, clock):
    """``capture_baseline`` takes the answers of the window, too, with their confidences and inputs."""
    for number in range(3):
        predict(monitor, number, clock.now(), output=number, confidence=0.5)
    monitor.capture_baseline("1", HOUR)
    kept = monitor.get_baseline_predictions("1")
    assert (kept.outputs.tolist(), kept.confidences.tolist()) == ([0, 1, 2], [0.5] * 3)
    assert (kept.inputs.tolist(), kept.labels, kept.count) == ([[0.0], [1.0], [2.0]], None, 3)


def test_captured_answers_are_of_their_window(monitor, clock):
    """What was answered before or after the window is not in the baseline."""
    for number, minutes_ago in enumerate([90, 30, 5]):
        predict(monitor, number, clock.now() - minutes_ago * MINUTE, output=number)
    monitor.capture_baseline("1", HOUR)
    predict(monitor, 3, clock.now(), output=3)
    assert monitor.get_baseline_predictions("1").outputs.tolist() == [1, 2]


def test_capturing_replaces_answers_that_were_set(monitor, clock):
    """A captured baseline takes the place of the answers that were set before, and has no labels."""
    monitor.set_baseline_predictions("1", ANSWERS)
    predict(monitor, 0, clock.now(), output=7)
    monitor.capture_baseline("1", HOUR)
    kept = monitor.get_baseline_predictions("1")
    assert (kept.outputs.tolist(), kept.labels) == ([7], None)


def test_nothing_to_capture_leaves_the_answers(monitor, clock):
    """A window without predictions is refused, and the answers that were set stay."""
    monitor.set_baseline_predictions("1", ANSWERS)
    with pytest.raises(InvalidArgumentError):
        monitor.capture_baseline("1", HOUR)
    assert monitor.get_baseline_predictions("1") is ANSWERS


# ------------------------------------------------------------------- the baseline that is registered with a version


class OnlyPredictionMonitor(ModelMonitor, PredictionMonitor):
    """A monitor with the eight methods and those of ``PredictionMonitor``, but not those of ``BaselineMonitor``."""

    def __init__(self):
        self._inner = InMemoryModelMonitor()
        self.sets = 0

    def record_prediction(self, event):
        self._inner.record_prediction(event)

    def record_prediction_error(self, kind, version_id):
        self._inner.record_prediction_error(kind, version_id)

    def get_recent_metrics(self, window):
        return self._inner.get_recent_metrics(window)

    def get_model_metrics(self, version_id, window):
        return self._inner.get_model_metrics(version_id, window)

    def get_baseline_metrics(self, version_id):
        return None

    def get_recent_input_distribution(self, version_id, window):
        return self._inner.get_recent_input_distribution(version_id, window)

    def get_baseline_input_distribution(self, version_id):
        return None

    def record_drift_event(self, event):
        self._inner.record_drift_event(event)

    def get_recent_predictions(self, version_id, window):
        return self._inner.get_recent_predictions(version_id, window)

    def get_baseline_predictions(self, version_id):
        return self._inner.get_baseline_predictions(version_id)

    def set_baseline_predictions(self, version_id, predictions):
        self.sets += 1
        self._inner.set_baseline_predictions(version_id, predictions)


class RefusingMonitor(OnlyPredictionMonitor):
    def set_baseline_predictions(self, version_id, predictions):
        raise OSError("disk full")


def served(monitor, baseline: Baseline, times: int = 1) -> ModelServer:
    """A server that has answered with a version that was registered with a baseline."""
    repository = InMemoryModelRepository()
    repository.register(len, baseline=baseline)
    server = ModelServer(repository, monitor)
    for _ in range(times):
        assert server.predict([1.0]).success
    return server


def test_answers_registered_with_a_version_reach_the_monitor(monitor):
    """The answers of a version's baseline are in the monitor once the version is loaded, beside metrics and inputs."""
    metrics, inputs = ModelMetrics(accuracy=0.5), InputSample(rows=np.ones((2, 1)))
    served(monitor, Baseline(metrics=metrics, inputs=inputs, predictions=ANSWERS))
    assert monitor.get_baseline_predictions("1") is ANSWERS
    assert (monitor.get_baseline_metrics("1"), monitor.get_baseline_input_distribution("1")) == (metrics, inputs)


def test_answers_that_the_monitor_has_are_not_overwritten(monitor):
    """What somebody set in the monitor before is better known than what was registered."""
    mine = PredictionSample([5])
    monitor.set_baseline_predictions("1", mine)
    served(monitor, Baseline(predictions=ANSWERS))
    assert monitor.get_baseline_predictions("1") is mine


def test_answers_that_the_monitor_lacks_are_added(monitor):
    """Metrics and inputs set before stay; answers, which the monitor had not, come from the version."""
    monitor.set_baseline("1", metrics=ModelMetrics(accuracy=0.75), inputs=[[9.0]])
    served(monitor, Baseline(metrics=ModelMetrics(accuracy=0.5), inputs=InputSample([[1.0]]), predictions=ANSWERS))
    assert monitor.get_baseline_predictions("1") is ANSWERS
    assert monitor.get_baseline_metrics("1").accuracy == 0.75
    assert monitor.get_baseline_input_distribution("1").rows.tolist() == [[9.0]]


def test_a_baseline_without_answers_sets_none(monitor):
    """A version that was registered with inputs only leaves the monitor without a baseline of answers."""
    served(monitor, Baseline(inputs=InputSample(rows=np.ones((2, 1)))))
    assert monitor.get_baseline_predictions("1") is None


def test_answers_reach_a_monitor_that_keeps_no_other_baseline():
    """``PredictionMonitor`` is a protocol of its own: it needs no ``BaselineMonitor``; and is told once."""
    monitor = OnlyPredictionMonitor()
    served(monitor, Baseline(metrics=ModelMetrics(accuracy=0.5), predictions=ANSWERS), times=3)
    assert (monitor.get_baseline_predictions("1"), monitor.sets) == (ANSWERS, 1)


def test_a_monitor_that_takes_no_answers_breaks_nothing(caplog):
    """A monitor that fails to keep the answers is counted and logged; predictions go on."""
    server = served(RefusingMonitor(), Baseline(predictions=ANSWERS), times=3)
    assert server.statistics().monitor_errors == 1
    assert "disk full" in caplog.text
