"""What monitors keep to that show a sample of their answers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from mlserve.clocks import ManualClock
from mlserve.errors import ErrorKind, InvalidArgumentError
from mlserve.protocols import PredictionMonitor
from mlserve.records import PredictionSample
from mlserve.testing._monitor_contract import HOUR, MINUTE, MonitorContract, prediction


class PredictionMonitorContract(MonitorContract):
    """The methods of ``PredictionMonitor``: recent answers with what belongs to each, and those of a baseline."""

    def _answers(self, monitor: Any, version_id: str = "1", window: timedelta = HOUR) -> list[Any]:
        self.settle(monitor)
        outputs: list[Any] = monitor.get_recent_predictions(version_id, window).outputs.tolist()
        return outputs

    def test_it_is_a_prediction_monitor(self, monitor: Any) -> None:
        """It has the methods of ``PredictionMonitor``."""
        assert isinstance(monitor, PredictionMonitor)

    def test_a_version_never_seen_has_no_answers(self, monitor: Any) -> None:
        """``get_recent_predictions`` of a version never seen is a sample without rows."""
        sample = monitor.get_recent_predictions("1", HOUR)
        assert (len(sample.outputs), sample.count) == (0, 0)

    @pytest.mark.parametrize("outputs", [[3, 1, 2], [0.5, -1.25, 7.0], ["cat", "dog", "cat"], [True, False, True]])
    def test_few_answers_are_all_in_the_sample(self, monitor: Any, clock: ManualClock, outputs: list[Any]) -> None:
        """The sample of a window with few answers is all of them, whatever they are."""
        for number, output in enumerate(outputs):
            monitor.record_prediction(prediction(number, clock.now(), output=output))
        assert sorted(self._answers(monitor)) == sorted(outputs)
        assert monitor.get_recent_predictions("1", HOUR).count == 3

    def test_answers_of_several_numbers_are_rows(self, monitor: Any, clock: ManualClock) -> None:
        """Answers that are arrays of one length are the rows of a table."""
        for number in range(3):
            monitor.record_prediction(prediction(number, clock.now(), output=np.array([number, 2.5])))
        assert sorted(self._answers(monitor)) == [[0.0, 2.5], [1.0, 2.5], [2.0, 2.5]]

    def test_each_answer_stands_beside_its_own(self, monitor: Any, clock: ManualClock) -> None:
        """Confidence and input of a row, where they are kept, are those of the prediction that gave the answer."""
        for number in range(3_000):
            confidence = number / 3_000
            monitor.record_prediction(prediction(number, clock.now(), output=number, confidence=confidence))
        self.settle(monitor)
        sample = monitor.get_recent_predictions("1", HOUR)
        assert sample.confidences.tolist() == [output / 3_000 for output in sample.outputs.tolist()]
        assert sample.inputs is None or sample.inputs[:, 0].tolist() == sample.outputs.tolist()

    def test_answers_are_drawn_from_what_was_given(self, monitor: Any, clock: ManualClock) -> None:
        """However many answers there are, the sample holds some of them, each at most once, and says for how many."""
        for number in range(3_000):
            monitor.record_prediction(prediction(number, clock.now(), output=number))
        drawn = self._answers(monitor)
        assert len(set(drawn)) == len(drawn) > 0
        assert set(drawn) <= set(range(3_000))
        assert monitor.get_recent_predictions("1", HOUR).count == 3_000

    def test_an_answer_without_confidence_has_none(self, monitor: Any, clock: ManualClock) -> None:
        """The confidence of an answer that has none is NaN beside others that have one."""
        for number, confidence in enumerate([0.75, None, 0.5]):
            monitor.record_prediction(prediction(number, clock.now(), output=number, confidence=confidence))
        self.settle(monitor)
        sample = monitor.get_recent_predictions("1", HOUR)
        known = dict(zip(sample.outputs.tolist(), sample.confidences.tolist(), strict=True))
        assert (known[0], np.isnan(known[1]), known[2]) == (0.75, True, 0.5)

    def test_answers_without_any_confidence_have_none(self, monitor: Any, clock: ManualClock) -> None:
        """Where no answer has a confidence, there is no column of confidences to compare."""
        monitor.record_prediction(prediction(0, clock.now()))
        self.settle(monitor)
        assert list(monitor.get_recent_predictions("1", HOUR).columns) == ["output"]

    def test_failures_are_no_answers(self, monitor: Any, clock: ManualClock) -> None:
        """A failure has no answer: it is not in the sample and does not count there."""
        monitor.record_prediction(prediction(0, clock.now()))
        monitor.record_prediction_error(ErrorKind.Overloaded, "1")
        assert self._answers(monitor) == [0]
        assert monitor.get_recent_predictions("1", HOUR).count == 1

    def test_answers_are_of_one_version(self, monitor: Any, clock: ManualClock) -> None:
        """``get_recent_predictions`` holds the answers of the version and no others."""
        for number, version_id in enumerate(["1", "2", "1"]):
            monitor.record_prediction(prediction(number, clock.now(), version_id, output=number))
        assert (sorted(self._answers(monitor, "1")), self._answers(monitor, "2")) == ([0, 2], [1])

    def test_answers_are_of_one_window(self, monitor: Any, clock: ManualClock) -> None:
        """``get_recent_predictions`` holds the answers of (now − w, now] and no others."""
        for number, minutes_ago in enumerate([0, 30, 5, -5]):
            monitor.record_prediction(prediction(number, clock.now() - minutes_ago * MINUTE, output=number))
        assert sorted(self._answers(monitor, window=10 * MINUTE)) == [0, 2]

    @pytest.mark.parametrize("window", [timedelta(0), timedelta(microseconds=-1), -HOUR], ids=str)
    def test_a_window_of_answers_must_be_positive(self, monitor: Any, window: timedelta) -> None:
        """``get_recent_predictions`` raises ``InvalidArgumentError`` for a window that is not positive."""
        with pytest.raises(InvalidArgumentError):
            monitor.get_recent_predictions("1", window)

    @pytest.mark.parametrize(
        "odd", [None, "text", {"a": 1}, [1.0, 2.0], object()], ids=["None", "text", "mapping", "list", "any"]
    )
    def test_an_odd_answer_harms_no_other(self, monitor: Any, clock: ManualClock, odd: Any) -> None:
        """Answers of several kinds are a sample of one row each; a number among them stays a number."""
        for number, output in enumerate([5, odd, 7]):
            monitor.record_prediction(prediction(number, clock.now(), output=output))
        answers = self._answers(monitor)
        assert (len(answers), answers.count(5), answers.count(7)) == (3, 1, 1)

    def test_an_input_that_is_no_row_takes_no_answer_away(self, monitor: Any, clock: ManualClock) -> None:
        """An answer to an input that is no row of the others' width is in the sample like any other."""
        for number, input in enumerate([[1.0], "text", [2.0]]):
            monitor.record_prediction(prediction(number, clock.now(), input=input, output=number))
        assert sorted(self._answers(monitor)) == [0, 1, 2]

    def test_sampled_answers_are_copied(self, monitor: Any, clock: ManualClock) -> None:
        """The caller may change its output as soon as ``record_prediction`` returns."""
        output = np.array([1, 2])
        monitor.record_prediction(prediction(0, clock.now(), output=output))
        output.fill(9)
        assert self._answers(monitor) == [[1, 2]]

    # -------------------------------------------------------------------------------------------------- baselines

    def test_a_version_never_seen_has_no_baseline_of_answers(self, monitor: Any) -> None:
        """``get_baseline_predictions`` is None where nothing was set."""
        assert monitor.get_baseline_predictions("1") is None

    def test_baseline_answers_come_back(self, monitor: Any) -> None:
        """``get_baseline_predictions`` gives the answers that were set, with all that belongs to them."""
        given = PredictionSample(
            [0, 1, 1], confidences=[0.9, 0.8, 0.7], labels=[0, 1, 0], inputs=[[1.0], [2.0], [3.0]], count=50
        )
        monitor.set_baseline_predictions("1", given)
        kept = monitor.get_baseline_predictions("1")
        names = ("outputs", "confidences", "labels", "inputs")
        assert [getattr(kept, name).tolist() for name in names] == [getattr(given, name).tolist() for name in names]
        assert kept.count == 50

    def test_what_a_baseline_of_answers_lacks_stays_absent(self, monitor: Any) -> None:
        """A baseline without confidences, labels and inputs comes back without them."""
        monitor.set_baseline_predictions("1", PredictionSample(["cat", "dog"]))
        kept = monitor.get_baseline_predictions("1")
        assert (kept.outputs.tolist(), kept.confidences, kept.labels, kept.inputs) == (["cat", "dog"], None, None, None)

    def test_the_last_baseline_of_answers_counts(self, monitor: Any) -> None:
        """Setting a baseline of answers again replaces the earlier one as a whole."""
        monitor.set_baseline_predictions("1", PredictionSample([0, 1], labels=[0, 1]))
        monitor.set_baseline_predictions("1", PredictionSample([1]))
        kept = monitor.get_baseline_predictions("1")
        assert (kept.outputs.tolist(), kept.labels) == ([1], None)

    def test_baselines_of_answers_are_of_one_version(self, monitor: Any) -> None:
        """A baseline of answers belongs to the version for which it was set."""
        monitor.set_baseline_predictions("1", PredictionSample([0, 1]))
        assert monitor.get_baseline_predictions("2") is None

    @pytest.mark.parametrize("predictions", [[0, 1], np.array([0, 1]), "text", None])
    def test_other_answers_are_no_baseline(self, monitor: Any, predictions: Any) -> None:
        """``InvalidArgumentError`` is raised for what is no ``PredictionSample``; the earlier baseline stays."""
        monitor.set_baseline_predictions("1", PredictionSample([5]))
        with pytest.raises(InvalidArgumentError):
            monitor.set_baseline_predictions("1", predictions)
        assert monitor.get_baseline_predictions("1").outputs.tolist() == [5]
