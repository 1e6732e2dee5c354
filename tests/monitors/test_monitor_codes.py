"""Names become small integers, and no caller can make a monitor grow by inventing names."""

from __future__ import annotations

from collections import Counter

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from traffic import HOUR, MINUTE, predict, small_monitor

from mlserve import InMemoryModelMonitor
from mlserve.clocks import ManualClock
from mlserve.monitors import _ledger
from mlserve.monitors._codes import Codes
from mlserve.monitors._ledger import MOST_CLASSES, MOST_KINDS, MOST_VERSIONS, OTHERS


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def monitor(clock) -> InMemoryModelMonitor:
    return InMemoryModelMonitor(clock=clock)


# --------------------------------------------------------------------------------------------------------------- codes


@settings(deadline=None, max_examples=100)
@given(batches=st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=10), max_size=10))
def test_a_name_keeps_its_code(batches):
    """Each name has one code, told one by one or together, that leads back to it."""
    codes: Codes[str] = Codes(100, "(others)")
    for names in batches:
        together = codes.all_of(names).tolist()
        assert together == [codes.of(name) for name in names] == [codes.get(name) for name in names]
        assert [codes.names[code] for code in together] == names


def test_a_name_never_seen_has_no_code():
    """``get`` gives −1 for a name never seen, and does not number it."""
    codes: Codes[str] = Codes(100, "(others)", ["first"])
    assert (codes.get("a"), codes.get("first"), codes.names) == (-1, 0, ["first"])


def test_beyond_the_limit_names_share_the_code_of_the_others():
    """Names beyond the limit get the code of ``other``; those before it keep their own."""
    codes: Codes[str] = Codes(3, "(others)")
    found = codes.all_of(["a"]).tolist() + [codes.of(name) for name in "bcdeca"]
    assert found == [0, 1, 2, 3, 3, 2, 0]
    assert codes.names == ["a", "b", "c", "(others)"]


def test_others_may_be_among_the_first():
    """Where ``other`` has a code from the beginning, the limit is that of all names together."""
    codes: Codes[str | None] = Codes(3, None, [None])
    assert [codes.of(name) for name in ["a", "b", "c", None]] == [1, 2, 0, 0]
    assert codes.names == [None, "a", "b"]


def test_a_thousand_names_at_once_stay_within_the_limit():
    """Many names told together are bounded like names told one by one, and each gets a code."""
    codes: Codes[str] = Codes(10, "(others)")
    found = codes.all_of([str(number) for number in range(1000)])
    assert (found.size, len(np.unique(found)), len(codes.names)) == (1000, 11, 11)


# ------------------------------------------------------------------------------------------------- names of a monitor


@pytest.mark.parametrize("limit", [300, pytest.param(MOST_VERSIONS, marks=pytest.mark.slow)])  # 10 000 take seconds
def test_more_versions_than_are_told_apart(clock, monkeypatch, limit):
    """Versions beyond 10 000 are counted together, nothing is lost and nothing is raised."""
    monkeypatch.setattr(_ledger, "MOST_VERSIONS", limit)
    monitor = small_monitor(clock, sample_size=1)
    monitor.set_baseline(f"v{limit}", inputs=[[0.0]])
    for number in range(limit + 500):
        predict(monitor, number, clock.now(), f"v{number}")
    assert monitor.get_recent_metrics(HOUR).request_count == limit + 500
    counted = {metrics.model_version: metrics.request_count for metrics in monitor.cumulative_metrics()}
    assert (len(counted), counted[OTHERS]) == (limit + 1, 500)
    assert monitor.get_model_metrics(OTHERS, HOUR).request_count == 500
    assert monitor.get_recent_input_distribution(f"v{limit}", HOUR).count == 0


def test_ten_thousand_versions_are_told_apart():
    """The limit is 10 000 versions."""
    assert MOST_VERSIONS == 10_000


def test_more_kinds_than_are_told_apart(monitor):
    """Kinds of failure beyond 256 are counted together, and all failures are counted."""
    for number in range(1000):
        monitor.record_prediction_error(f"kind {number}", "1")
    errors = monitor.get_recent_metrics(HOUR).errors_by_kind
    assert sum(errors.values()) == 1000
    # None, the kind of what was answered, is one of the 256.
    assert (len(errors), errors[OTHERS]) == (MOST_KINDS, 1000 - (MOST_KINDS - 1))


@pytest.mark.parametrize("late", [False, True], ids=["held whole", "in buckets"])
def test_more_classes_than_are_told_apart(clock, late):
    """Of more than 256 classes the first are told apart, exactly, and the accuracy is that of all."""
    monitor = small_monitor(clock)
    rng = np.random.default_rng(1)
    pairs = [(int(output), int(actual)) for output, actual in rng.integers(0, 400, (1500, 2))]
    pairs = [(actual, actual) if number % 3 == 0 else (output, actual) for number, (output, actual) in enumerate(pairs)]
    for number, (output, _) in enumerate(pairs):
        predict(monitor, number, clock.now(), output=output)
    if late:
        for number in range(1500, 4000):
            predict(monitor, number, clock.now())
    for number, (_, actual) in enumerate(pairs):
        monitor.record_outcome(f"p{number}", actual)
    metrics = monitor.get_recent_metrics(HOUR)
    assert metrics.accuracy == pytest.approx(np.mean([output == actual for output, actual in pairs]))
    true, answered = (Counter(column) for column in zip(*((a, o) for o, a in pairs), strict=True))
    right = Counter(actual for output, actual in pairs if output == actual)
    assert len(metrics.classes) == MOST_CLASSES - 1
    for one in metrics.classes:
        assert (one.support, one.predicted) == (true[one.label], answered[one.label])
        assert one.precision == (right[one.label] / answered[one.label] if answered[one.label] else None)


def test_buckets_do_not_grow_with_classes(clock):
    """However many labels outcomes invent after their predictions lie in buckets, few are kept."""
    monitor = small_monitor(clock)
    for number in range(6000):
        predict(monitor, number, clock.now(), output=f"answer {number}")
    for number in range(4000):
        monitor.record_outcome(f"p{number}", f"truth {number}")
    monitor.statistics()
    buckets = [summary for ring in monitor._ledger._rings.values() for level in ring.levels
               for summary in level.buckets.values()]  # fmt: skip
    labels = {label for summary in buckets for label, _ in summary.outcomes.classes}
    assert 0 < len(labels) < MOST_CLASSES
    assert monitor.get_recent_metrics(HOUR).labelled_count == 4000


def test_buckets_hold_no_table_of_confusions(clock):
    """What a bucket keeps of classes grows with their number, not with its square."""
    monitor = small_monitor(clock)
    n_classes = 60
    pairs = [(output, actual) for output in range(n_classes) for actual in range(n_classes)]
    for number, (output, actual) in enumerate(pairs):
        predict(monitor, number, clock.now(), output=output)
        monitor.record_outcome(f"p{number}", actual)
    for number in range(len(pairs), len(pairs) + 1024):
        predict(monitor, number, clock.now())
    metrics = monitor.get_recent_metrics(HOUR)
    assert [(one.support, one.predicted, one.recall) for one in metrics.classes] == [(60, 60, 1 / 60)] * n_classes
    ring = next(iter(monitor._ledger._rings.values()))
    assert all(len(s.outcomes.classes) <= 3 * n_classes for level in ring.levels for s in level.buckets.values())


# --------------------------------------------------------------------------------------------------- kinds of labels


def labels_of(monitor, clock, pairs, window=MINUTE):
    for number, (output, _) in enumerate(pairs):
        predict(monitor, number, clock.now(), output=output)
    for number, (_, actual) in enumerate(pairs):
        monitor.record_outcome(f"p{number}", actual)
    return {one.label: (one.support, one.predicted) for one in monitor.get_recent_metrics(window).classes}


def test_one_and_true_are_one_class(monitor, clock):
    """True, 1 and 1.0 are one class, as an answer of True is right where 1 is true; "1" is another."""
    labels = labels_of(monitor, clock, [(True, 1), (1.0, True), (np.int64(1), np.bool_(True)), ("1", "1")])
    assert labels == {1: (3, 3), "1": (1, 1)}
    assert monitor.get_recent_metrics(MINUTE).accuracy == 1.0


def test_text_labels_are_plain_text(monitor, clock):
    """A label of numpy is told as plain text, number or bool."""
    labels = labels_of(monitor, clock, [(np.str_("cat"), "cat"), (np.float64(3.0), 3), (np.bool_(False), False)])
    assert sorted(type(label).__name__ for label in labels) == ["bool", "int", "str"]


def test_large_whole_numbers_are_different_classes(monitor, clock):
    """Labels that no float tells apart, as ids beyond 2⁵³, are different classes."""
    labels = labels_of(monitor, clock, [(2**53, 2**53), (2**53 + 1, 2**53 + 1)])
    assert labels == {2**53: (1, 1), 2**53 + 1: (1, 1)}


@pytest.mark.parametrize(
    ("output", "actual", "labels"),
    [
        ([1, 2], [1, 2], {}),
        (np.array([1]), 1, {1: (1, 0)}),
        (10**400, 10**400, {}),
        (float("nan"), 1, {1: (1, 0)}),
        (float("inf"), 1, {1: (1, 0)}),
    ],
    ids=["lists", "an array", "a number that no float holds", "NaN", "infinite"],
)
def test_what_is_no_label_is_no_class(monitor, clock, output, actual, labels):
    """An answer that is neither text nor a whole number is of no class; the class that was true is counted."""
    assert labels_of(monitor, clock, [(output, actual)]) == labels
    assert monitor.get_recent_metrics(MINUTE).labelled_count == 1
