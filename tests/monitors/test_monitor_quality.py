"""How good predictions were: by class, in the target's unit, and of those whose labels have had time to come."""

from __future__ import annotations

import gc
import math
import weakref
from datetime import UTC, datetime, timedelta

import attrs
import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    mean_absolute_error,
    precision_recall_fscore_support,
    r2_score,
    root_mean_squared_error,
)
from traffic import HOUR, MICROSECOND, MINUTE, SECOND, predict, small_monitor

from mlserve import InMemoryModelMonitor
from mlserve.clocks import ManualClock
from mlserve.errors import InvalidArgumentError
from mlserve.monitors._windows import ANSWERED, RIGHT, TRUE, OutcomeSummary
from mlserve.records import OutcomeEvent, QualityMetrics

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
"""On the edge of a bucket of every resolution of ``small_monitor``."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture
def monitor(clock) -> InMemoryModelMonitor:
    return InMemoryModelMonitor(clock=clock)


@attrs.frozen
class Answer:
    """A prediction of the list that a monitor is compared with; ``actual`` is None where no label came."""

    at: datetime
    output: object
    actual: object
    delay: timedelta = timedelta(0)
    version_id: str = "1"


def tell(monitor, clock, answers: list[Answer]) -> None:
    """Record answers in order of time up to now, and each label when it came."""
    happened = [(answer.at, 0, number) for number, answer in enumerate(answers)]
    happened += [(a.at + a.delay, 1, number) for number, a in enumerate(answers) if a.actual is not None]
    for at, is_label, number in sorted(happened):
        answer = answers[number]
        clock.advance_to(at)
        if is_label:
            monitor.record_outcome(f"p{number}", answer.actual)
        else:
            predict(monitor, number, answer.at, answer.version_id, output=answer.output)


def labelled(answers: list[Answer], start: datetime, end: datetime, version_id: str | None = None) -> list[Answer]:
    """The labelled ones made in (start, end]."""
    return [
        answer
        for answer in answers
        if start < answer.at <= end and version_id in (None, answer.version_id) and answer.actual is not None
    ]


def classes_by_scikit_learn(pairs: list[Answer]) -> dict:
    actual, output = [answer.actual for answer in pairs], [answer.output for answer in pairs]
    labels = sorted({*actual, *output}, key=str)
    columns = precision_recall_fscore_support(actual, output, labels=labels, zero_division=np.nan)
    found = {}
    for label, precision, recall, f1, support in zip(labels, *columns, strict=True):
        told = tuple(None if math.isnan(value) else pytest.approx(value) for value in (precision, recall))
        found[label] = (*told, pytest.approx(0.0 if math.isnan(f1) else f1), support)
    return found


def classes_of(metrics) -> dict:
    return {one.label: (one.precision, one.recall, one.f1, one.support) for one in metrics.classes}


def random_classes(count: int, reach: timedelta, seed: int) -> list[Answer]:
    """Answers of two versions in the time before noon, six in ten labelled at once or much later."""
    rng = np.random.default_rng(seed)
    answers = []
    for ago in np.sort(rng.integers(0, reach // MICROSECOND, count))[::-1].tolist():
        actual = "abcd"[int(rng.choice(4, p=[0.6, 0.25, 0.1, 0.05]))]
        output = actual if rng.random() < 0.7 else str(rng.choice(["a", "b", "e"]))
        at = NOON - ago * MICROSECOND
        delay = min(NOON - at, timedelta(seconds=float(rng.exponential(600.0))))
        version_id = str(rng.integers(1, 3))
        answers.append(Answer(at, output, actual if rng.random() < 0.6 else None, delay, version_id))
    return answers


# ---------------------------------------------------------------------------------------------------------- classifiers


@pytest.mark.parametrize("count", [10, 900, 5000])
@pytest.mark.parametrize("version_id", [None, "1"])
def test_classes_equal_those_of_scikit_learn(count, version_id):
    """Precision, recall, F1 and support of each class are scikit-learn's, held whole, from buckets, and from both."""
    answers = random_classes(count, 3 * HOUR, seed=count)
    clock = ManualClock(NOON - 3 * HOUR)
    monitor = small_monitor(clock)
    tell(monitor, clock, answers)
    clock.advance_to(NOON)
    for window in (10 * MINUTE, 3 * HOUR):
        metrics = monitor.get_recent_metrics(window) if version_id is None else monitor.get_model_metrics("1", window)
        pairs = labelled(answers, NOON - window, NOON, version_id)
        assert metrics.labelled_count == len(pairs)
        assert classes_of(metrics) == (classes_by_scikit_learn(pairs) if pairs else {})
        expected = accuracy_score([a.actual for a in pairs], [a.output for a in pairs]) if pairs else None
        assert metrics.accuracy == (None if expected is None else pytest.approx(expected))


def test_the_commonest_class_comes_first(monitor, clock):
    """Classes come by the number of predictions that truly were of them, then by name."""
    tell(monitor, clock, [Answer(NOON, "x", actual) for actual in ["b", "a", "c", "c", "a", "d"]])
    assert [one.label for one in monitor.get_recent_metrics(HOUR).classes] == ["a", "c", "b", "d", "x"]


def test_a_class_that_was_only_answered_has_no_recall(monitor, clock):
    """Of a class that was never true the recall is None and F1 is 0; of one never answered the precision is None."""
    tell(monitor, clock, [Answer(NOON, "x", "a")])
    assert classes_of(monitor.get_recent_metrics(HOUR)) == {"a": (None, 0.0, 0.0, 1), "x": (0.0, None, 0.0, 0)}


# ----------------------------------------------------------------------------------------------------------- regressors


@pytest.mark.parametrize("count", [10, 900, 5000])
def test_errors_equal_those_of_scikit_learn(count):
    """MAE, RMSE and R² are scikit-learn's, held whole, from buckets, and from both, in every aligned window."""
    rng = np.random.default_rng(count)
    actual = rng.normal(1e4, 3.0, count)
    output = actual + rng.normal(0.5, 1.0, count)
    clock = ManualClock(NOON - 4 * HOUR)
    monitor = small_monitor(clock)
    ages = np.linspace(3 * 3600 - 1, 0, count)
    answers = [
        Answer(NOON - timedelta(seconds=age), output[i], actual[i], timedelta(seconds=age / 2))
        for i, age in enumerate(ages.tolist())
    ]
    tell(monitor, clock, answers)
    clock.advance_to(NOON)
    for window in (10 * MINUTE, 3 * HOUR):
        metrics, pairs = monitor.get_recent_metrics(window), labelled(answers, NOON - window, NOON)
        true, answered = [a.actual for a in pairs], [a.output for a in pairs]
        assert metrics.mean_absolute_error == pytest.approx(mean_absolute_error(true, answered), rel=1e-9)
        assert metrics.root_mean_squared_error == pytest.approx(root_mean_squared_error(true, answered), rel=1e-9)
        has_spread = len(pairs) > 1
        assert metrics.r2 == (pytest.approx(r2_score(true, answered), rel=1e-7) if has_spread else None)


def test_errors_that_no_float_holds_are_infinite(monitor, clock):
    """An error whose square no float holds makes RMSE infinite and leaves no R²; nothing warns."""
    tell(monitor, clock, [Answer(NOON, 1e200, 0.5), Answer(NOON, 1.5, -1e200), Answer(NOON, 1.0, 1.5)])
    metrics = monitor.get_recent_metrics(HOUR)
    assert (metrics.root_mean_squared_error, metrics.r2, metrics.labelled_count) == (math.inf, None, 3)


def test_such_errors_are_infinite_in_buckets_too(clock):
    """The same holds where the predictions lie in buckets when their labels come."""
    monitor = small_monitor(clock)
    for number in range(3000):
        predict(monitor, number, NOON, output=1e200)
    for number in range(5):
        monitor.record_outcome(f"p{number}", -1e200 * number or 0.5)
    metrics = monitor.get_recent_metrics(HOUR)
    assert (metrics.root_mean_squared_error, metrics.r2, metrics.labelled_count) == (math.inf, None, 5)


# --------------------------------------------------------------------------------------------------------- label delays


@pytest.mark.parametrize("count", [1, 20, 900, 5000])
def test_delays_are_within_one_percent(count):
    """The percentiles of the time from prediction to label are within 1 % of the exact ones."""
    rng = np.random.default_rng(count)
    clock = ManualClock(NOON - 4 * HOUR)
    monitor = small_monitor(clock)
    delays = np.minimum(rng.lognormal(3.0, 2.0, count), 3600.0).round(6)
    begin = NOON - 3 * HOUR
    answers = [
        Answer(begin + number * 7200 / count * SECOND, 0, 0, timedelta(seconds=delay))
        for number, delay in enumerate(delays.tolist())
    ]
    tell(monitor, clock, answers)
    clock.advance_to(NOON)
    metrics = monitor.get_recent_metrics(4 * HOUR)
    ordered = np.sort(delays)
    for q, found in ((0.5, metrics.label_delay_p50_seconds), (0.95, metrics.label_delay_p95_seconds)):
        assert found == pytest.approx(ordered[math.ceil(q * count) - 1], rel=0.01 + 1e-6)


def test_a_label_that_comes_at_once_has_no_delay(monitor, clock):
    """A label that comes with its prediction, or before it by the clock, has a delay of 0 but for a microsecond."""
    predict(monitor, 0, NOON)
    predict(monitor, 1, NOON + MINUTE)
    for number in range(2):
        monitor.record_outcome(f"p{number}", 0)
    clock.advance(MINUTE)
    metrics = monitor.get_recent_metrics(HOUR)
    assert metrics.label_delay_p95_seconds == pytest.approx(0.0, abs=2e-6)


def test_without_labels_there_are_no_delays(monitor, clock):
    """Without an outcome there are no delays, no watermark and no mature quality."""
    predict(monitor, 0, NOON)
    metrics = monitor.get_recent_metrics(HOUR)
    found = (metrics.label_delay_p50_seconds, metrics.label_delay_p95_seconds, metrics.label_watermark, metrics.mature)
    assert found == (None, None, None, None)


# ------------------------------------------------------------------------------------------------------- mature labels


def expected_quality(answers: list[Answer]) -> QualityMetrics:
    """Quality of answers that are classes, by hand."""
    pairs = [answer for answer in answers if answer.actual is not None]
    return QualityMetrics(
        prediction_count=len(answers),
        labelled_count=len(pairs),
        label_coverage=len(pairs) / len(answers) if answers else None,
        accuracy=sum(answer.output == answer.actual for answer in pairs) / len(pairs) if pairs else None,
    )


def without_classes(quality: QualityMetrics | None) -> QualityMetrics | None:
    return None if quality is None else attrs.evolve(quality, classes=())


@pytest.mark.parametrize("maturity", [MICROSECOND, 7 * MINUTE, 45 * MINUTE + 3 * SECOND, 3 * HOUR])
def test_mature_are_the_predictions_until_the_watermark(maturity):
    """``mature`` is the quality of the predictions made until now − ``label_maturity``, to the microsecond."""
    answers = random_classes(900, HOUR, seed=1)
    clock = ManualClock(NOON - HOUR)
    monitor = InMemoryModelMonitor(clock=clock, label_maturity=maturity)
    tell(monitor, clock, answers)
    clock.advance_to(NOON)
    metrics = monitor.get_recent_metrics(HOUR)
    assert metrics.label_watermark == NOON - maturity
    expected = expected_quality([answer for answer in answers if answer.at <= NOON - maturity])
    assert without_classes(metrics.mature) == expected


def test_mature_classes_are_those_of_scikit_learn():
    """``mature.classes`` are precision and recall of the mature predictions only."""
    answers = random_classes(900, HOUR, seed=2)
    clock = ManualClock(NOON - HOUR)
    monitor = InMemoryModelMonitor(clock=clock, label_maturity=20 * MINUTE)
    tell(monitor, clock, answers)
    clock.advance_to(NOON)
    for version_id in ("1", "2"):
        mature = monitor.get_model_metrics(version_id, HOUR).mature
        assert classes_of(mature) == classes_by_scikit_learn(
            labelled(answers, NOON - HOUR, NOON - 20 * MINUTE, version_id)
        )


@pytest.mark.parametrize("maturity", [40 * MINUTE, 44 * MINUTE + 59 * SECOND, 90 * MINUTE])
@pytest.mark.parametrize("version_id", [None, "2"])
def test_of_buckets_only_whole_ones_are_mature(maturity, version_id):
    """Of predictions in buckets those are mature whose bucket ends by the watermark; of those held whole, each."""
    answers = random_classes(4000, 3 * HOUR, seed=3)
    clock = ManualClock(NOON - 3 * HOUR)
    monitor = small_monitor(clock, label_maturity=maturity)
    tell(monitor, clock, answers)
    clock.advance_to(NOON)
    metrics = monitor.get_recent_metrics(3 * HOUR) if version_id is None else monitor.get_model_metrics("2", 3 * HOUR)
    in_buckets = monitor._ledger._recent.first_sequence
    assert 0 < in_buckets < 4000
    watermark, width = NOON - maturity, 5 * MINUTE
    last_edge = watermark - (watermark - EPOCH) % width
    mature = [
        answer
        for number, answer in enumerate(answers)
        if answer.at <= (last_edge if number < in_buckets else watermark) and version_id in (None, answer.version_id)
    ]
    assert without_classes(metrics.mature) == expected_quality(mature)


def test_maturity_is_learned_from_the_labels():
    """Without ``label_maturity`` the watermark lies where 95 % of the labels that came had come."""
    rng = np.random.default_rng(4)
    clock = ManualClock(NOON - 2 * HOUR)
    monitor = InMemoryModelMonitor(clock=clock)
    delays = rng.exponential(300.0, 1000).clip(max=3600).round(6)
    answers = [
        Answer(NOON - HOUR - number * SECOND, 0, 0, timedelta(seconds=delay))
        for number, delay in enumerate(delays.tolist())
    ]
    tell(monitor, clock, answers)
    clock.advance_to(NOON)
    metrics = monitor.get_recent_metrics(2 * HOUR)
    assert metrics.label_watermark is not None
    learned = (NOON - metrics.label_watermark).total_seconds()
    assert learned == pytest.approx(np.sort(delays)[949], rel=0.01 + 1e-6)
    assert learned == pytest.approx(metrics.label_delay_p95_seconds, abs=1e-6)


def test_fast_labels_do_not_judge_recent_predictions():
    """Where wrong answers are labelled later than right ones, the mature accuracy is the true one."""
    clock = ManualClock(NOON - HOUR)
    monitor = InMemoryModelMonitor(clock=clock, label_maturity=20 * MINUTE)
    # Every other answer is wrong, and its label comes a quarter of an hour later.
    answers = [
        Answer(NOON - HOUR + number * 10 * SECOND, number % 2, 0, number % 2 * 15 * MINUTE) for number in range(360)
    ]
    tell(monitor, clock, [answer for answer in answers if answer.at + answer.delay <= NOON])
    tell_late = [answer for answer in answers if answer.at + answer.delay > NOON]
    for number, answer in enumerate(tell_late, 1000):
        predict(monitor, number, answer.at, output=answer.output)
    metrics = monitor.get_recent_metrics(HOUR)
    assert metrics.accuracy > 0.55
    assert (metrics.mature.accuracy, metrics.mature.label_coverage) == (0.5, 1.0)


def test_without_maturity_all_labels_are_mature(clock):
    """With a ``label_maturity`` of 0 every prediction is mature as soon as it is made."""
    monitor = InMemoryModelMonitor(clock=clock, label_maturity=timedelta(0))
    tell(monitor, clock, [Answer(NOON, "a", "a"), Answer(NOON, "a", "b"), Answer(NOON, "a", None)])
    metrics = monitor.get_recent_metrics(HOUR)
    assert metrics.label_watermark == NOON
    assert without_classes(metrics.mature) == expected_quality(
        [Answer(NOON, "a", "a"), Answer(NOON, "a", "b"), Answer(NOON, "a", None)]
    )


def test_a_window_of_young_predictions_has_no_mature_quality(clock):
    """Where the watermark lies before the window, no prediction of it is mature, and nothing is claimed of them."""
    monitor = InMemoryModelMonitor(clock=clock, label_maturity=2 * HOUR)
    tell(monitor, clock, [Answer(NOON, "a", "a")])
    assert monitor.get_recent_metrics(HOUR).mature == QualityMetrics()


def test_the_quality_of_a_regressor_matures_as_well(clock):
    """``mature`` has the errors of a regressor, of the predictions until the watermark."""
    monitor = InMemoryModelMonitor(clock=clock, label_maturity=10 * MINUTE)
    predict(monitor, 0, NOON - 20 * MINUTE, output=1.5)
    predict(monitor, 1, NOON - 15 * MINUTE, output=2.5)
    predict(monitor, 2, NOON, output=9.5)
    for number, actual in enumerate([1.0, 4.0, 0.0]):
        monitor.record_outcome(f"p{number}", actual)
    mature = monitor.get_recent_metrics(HOUR).mature
    assert (mature.mean_absolute_error, mature.root_mean_squared_error) == (1.0, pytest.approx(1.25**0.5))
    assert mature.r2 == pytest.approx(1 - 2.5 / 4.5)


@pytest.mark.parametrize("maturity", [-MICROSECOND, -HOUR])
def test_maturity_is_not_negative(maturity):
    """``InvalidArgumentError`` is raised for a negative ``label_maturity``."""
    with pytest.raises(InvalidArgumentError, match="label_maturity"):
        InMemoryModelMonitor(label_maturity=maturity)


# ------------------------------------------------------------------------------------------------- waiting predictions


@pytest.mark.parametrize("odd", [None, float("nan"), np.float32("nan"), "text", object()])
def test_a_prediction_waits_for_an_outcome_that_fits(monitor, clock, odd):
    """An outcome that is missing or of another kind leaves the prediction waiting for the right one."""

    class Incomparable:
        __hash__ = None

        def __eq__(self, other: object) -> bool:
            raise TypeError("cannot be compared")

    predict(monitor, 0, NOON)
    monitor.record_outcome("p0", Incomparable() if type(odd) is object else odd)
    assert (monitor.statistics().mismatched_outcomes, monitor.statistics().pending) == (1, 1)
    monitor.record_outcome("p0", 0)
    statistics = monitor.statistics()
    assert (statistics.outcomes, statistics.pending, statistics.duplicate_outcomes) == (1, 0, 0)
    assert monitor.get_recent_metrics(HOUR).accuracy == 1.0


class Kept:
    """An answer of which every copy that is alive is known."""

    alive: weakref.WeakSet[Kept] = weakref.WeakSet()

    def __deepcopy__(self, memo) -> Kept:
        kept = Kept()
        Kept.alive.add(kept)
        return kept

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return id(self)


def test_a_prediction_that_waits_keeps_no_other_answer_alive(clock):
    """When nearly all outcomes arrive, the few predictions that still wait hold their own answer and no other."""
    monitor = small_monitor(clock, recent_events=1, sample_size=1)
    Kept.alive.clear()
    for number in range(20_480):
        predict(monitor, number, NOON, output=Kept())
        if number % 512:
            monitor.record_outcome(f"p{number}", Kept())
    assert monitor.statistics().pending == 40
    gc.collect()
    # Those that wait, the event ring with its last block, and what the sample of one has not pruned yet.
    assert len(Kept.alive) < 40 + 2 * 512 + 512


def test_what_waits_is_told_apart_by_arm_and_key(monitor, clock):
    """What a prediction that waits is known by comes back with its outcome."""
    predict(monitor, 0, NOON, arm="b", key="k", output=3)
    predict(monitor, 1, NOON)
    for number in range(2):
        monitor.record_outcome(f"p{number}", 5)
    joined = [(e.prediction_id, e.output, e.actual, e.arm, e.key) for e in monitor.events().events[2:]]
    assert joined == [("p0", 3, 5, "b", "k"), ("p1", 0, 5, None, None)]


# ----------------------------------------------------------------------------------------------------- joined elsewhere


def joined(number: int, output: object, actual: object, ago: timedelta, delay: timedelta = MINUTE) -> OutcomeEvent:
    at = NOON - ago
    return OutcomeEvent(f"elsewhere {number}", "1", output, actual, at, at + delay)


def test_outcomes_joined_elsewhere_count_at_their_prediction(monitor, clock):
    """An outcome whose prediction another monitor counted counts in the windows that hold the prediction."""
    monitor.record_joined_outcomes(
        joined(number, "a", actual, ago)
        for number, (actual, ago) in enumerate([("a", 5 * MINUTE), ("b", 5 * MINUTE), ("a", 30 * MINUTE)])
    )
    short, long = (monitor.get_recent_metrics(minutes * MINUTE) for minutes in (10, 60))
    assert [(one.labelled_count, one.request_count) for one in (short, long)] == [(2, 0), (3, 0)]
    assert (short.accuracy, long.accuracy) == (0.5, pytest.approx(2 / 3))
    assert classes_of(long) == {"a": (pytest.approx(2 / 3), 1.0, pytest.approx(0.8), 2), "b": (None, 0.0, 0.0, 1)}
    assert long.label_delay_p50_seconds == pytest.approx(60.0, rel=0.01)


def test_outcomes_joined_elsewhere_settle_what_waits_here(monitor, clock):
    """Of a prediction that was made here and waits, an outcome joined elsewhere is the outcome."""
    predict(monitor, 0, NOON - 5 * MINUTE, output="a")
    monitor.record_joined_outcomes([attrs.evolve(joined(0, "a", "a", 5 * MINUTE), prediction_id="p0")])
    metrics = monitor.get_recent_metrics(10 * MINUTE)
    assert (metrics.request_count, metrics.labelled_count, metrics.label_coverage) == (1, 1, 1.0)
    assert monitor.statistics().pending == 0


def test_outcomes_joined_elsewhere_may_not_fit(monitor, clock):
    """An outcome joined elsewhere that cannot be compared with its prediction is counted as mismatched."""
    monitor.record_joined_outcomes([joined(0, "a", 5, MINUTE), joined(1, "a", None, MINUTE), joined(2, 1, 1, MINUTE)])
    statistics = monitor.statistics()
    assert (statistics.mismatched_outcomes, statistics.outcomes) == (2, 1)


def test_outcomes_joined_elsewhere_do_not_pile_up(clock):
    """A monitor that is told of nothing but outcomes lets go of buckets that no window reaches."""
    monitor = small_monitor(clock)
    for number in range(300):
        monitor.record_joined_outcomes([attrs.evolve(joined(number, 1, 1, MINUTE), predicted_at=clock.now())])
        clock.advance(HOUR)
    ring = monitor._ledger._rings[0]
    assert len(ring) <= 2 + 4 + 50
    assert sum(len(level.changed) for level in ring.levels) <= 2 + 4 + 50


def test_answers_are_handed_on_without_their_inputs(monitor, clock):
    """What was answered is handed on as it is folded, oldest first, without inputs and without failures."""
    blocks = []
    monitor.forward_answers(blocks.append)
    for number in range(3):
        predict(monitor, number, NOON, output=number)
        monitor.record_prediction_error("OurOwn", "1")
    monitor.statistics()
    handed = [(prediction_id, output) for block in blocks for prediction_id, output in
              zip(block.ids, block.columns.outputs, strict=True)]  # fmt: skip
    assert handed == [("p0", 0), ("p1", 1), ("p2", 2)]
    assert [len(block.columns.inputs) for block in blocks] == [0] * len(blocks)


@pytest.mark.parametrize("counts", [{("a", TRUE): 0}, {("a", ANSWERED): 0, ("a", TRUE): 0}, {("a", RIGHT): 1}])
def test_a_class_of_which_nothing_is_counted_has_no_metrics(counts):
    """Counts that a damaged snapshot brought name no class that was neither answered nor true."""
    shown = OutcomeSummary(1, 1, classes=counts | {("b", TRUE): 1}).class_metrics
    assert [metrics.label for metrics in shown] == ["b"]
