"""A baseline that was prepared gives what the baseline itself gives."""

from __future__ import annotations

import gc
import math
import threading
import weakref
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlserve.clocks import ManualClock
from mlserve.drift import DriftDetector, DriftPolicy, InputReference, compare_inputs
from mlserve.drift._blocks import SMALL_WIDTH
from mlserve.drift._references import MOST_TOGETHER, REFERENCES_KEPT, KeptReferences
from mlserve.errors import InvalidArgumentError
from mlserve.monitors import InMemoryModelMonitor
from mlserve.records import DriftStatus, InputSample, PredictionEvent

RNG = np.random.default_rng(23)
ANY_SIZE = DriftPolicy(min_samples=1)
NUMBERS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 2.0, 2.5, -1.0]), st.floats(width=32), st.sampled_from([np.nan, np.inf, -np.inf])
)
DAY = np.datetime64("2026-01-01", "s")
LARGE = 2**60


def arrays(elements, dtype):
    """Columns of given elements, of whatever length is asked for."""
    return lambda size: st.lists(elements, min_size=size, max_size=size).map(lambda values: np.array(values, dtype))


COLUMNS = {
    "floats": arrays(NUMBERS, np.float64),
    "singles": arrays(NUMBERS, np.float32),
    "swapped floats": arrays(NUMBERS, ">f8"),
    "few integers": arrays(st.integers(0, 3), np.int64),
    "integers": arrays(st.integers(-128, 127), np.int8),
    "unsigned integers": arrays(st.integers(0, 255), np.uint16),
    "large integers": arrays(st.integers(LARGE, LARGE + 3), np.int64),
    "larger integers": arrays(st.integers(2**64 - 4, 2**64 - 1), np.uint64),
    "booleans": arrays(st.booleans(), np.bool_),
    "booleans or none": arrays(st.sampled_from([True, False, None]), object),
    "texts": arrays(st.sampled_from(["a", "1", "nan"]), np.str_),
    "texts or none": arrays(st.sampled_from(["a", "0.0", None, math.nan]), object),
    "numbers or none": arrays(st.sampled_from([1, 2.5, None]), object),
    "times": arrays(st.sampled_from([DAY, DAY + 1, np.datetime64("NaT")]), "datetime64[s]"),
    "zoned times": arrays(st.sampled_from([datetime(2026, 1, 1, tzinfo=UTC), None]), object),
    "nothing": arrays(st.none(), object),
}
REPEATS = 120
"""So many copies of forty rows each are beyond what has exact p-values."""


@st.composite
def tables(draw):
    """Two samples of a few columns, each of any kind on either side, and which of them are declared categories."""
    kinds = st.sampled_from(sorted(COLUMNS))
    pairs = draw(st.lists(st.tuples(kinds, kinds) | kinds.map(lambda kind: (kind, kind)), min_size=1, max_size=5))
    sizes = [draw(st.integers(1, 40)) for _ in range(2)]
    before, after = (
        {f"{index}": draw(COLUMNS[pair[side]](sizes[side])) for index, pair in enumerate(pairs)} for side in (0, 1)
    )
    return before, after, draw(st.lists(st.sampled_from(sorted(before)), unique=True))


def outcome(baseline, recent, **options):
    """What a comparison finds, or the error it raises."""
    try:
        return compare_inputs(baseline, recent, **options)
    except InvalidArgumentError as error:
        return type(error), error.parameter


def many_rows(table):
    """The same values again and again, beyond exact p-values, and one feature without ties."""
    found = {name: np.tile(values, REPEATS) for name, values in table.items()}
    size = len(found["0"])
    return found | {"untied": np.random.default_rng(size).normal(size=size)}


@settings(deadline=None, max_examples=60)
@given(tables())
def test_a_prepared_baseline_is_the_baseline(drawn):
    """Small samples of any kinds give one and the same result, bit for bit, whether or not the baseline is prepared."""
    before, after, declared = drawn
    reference = InputReference.fit(before, categorical=declared)
    plain = outcome(before, after, categorical=declared, policy=ANY_SIZE)
    assert outcome(reference, after, policy=ANY_SIZE) == plain


@settings(deadline=None, max_examples=50)
@given(tables())
def test_a_prepared_baseline_of_many_rows_is_the_baseline(drawn):
    """So do large samples, whose features share tests in other groups when the baseline is prepared."""
    before, after, declared = drawn
    before, after = many_rows(before), many_rows(after)
    reference = InputReference.fit(before, categorical=declared)
    plain = outcome(before, after, categorical=declared, policy=ANY_SIZE)
    assert outcome(reference, after, policy=ANY_SIZE) == plain


@settings(deadline=None, max_examples=50)
@given(tables(), st.integers(1, 39))
def test_a_prepared_baseline_against_chunks(drawn, edge):
    """So do recent samples that come in chunks."""
    before, after, declared = drawn
    reference = InputReference.fit(before, categorical=declared)

    def chunks():
        for rows in (slice(edge), slice(edge, None)):
            yield {name: values[rows] for name, values in after.items()}

    plain = outcome(before, chunks(), categorical=declared, policy=ANY_SIZE)
    assert outcome(reference, chunks(), policy=ANY_SIZE) == plain


@pytest.mark.parametrize("made", [np.asarray, np.asfortranarray, pd.DataFrame, pl.DataFrame], ids=lambda f: f.__name__)
@pytest.mark.parametrize("size", [3_000, 300], ids=["asymptotic", "exact"])
def test_whatever_holds_the_samples(made, size):
    """Matrices and frames of more features than one test takes are compared alike, with ties across the samples."""
    before = RNG.normal(size=(3_000, max(MOST_TOGETHER, SMALL_WIDTH) + 3))
    after = RNG.normal(0.05, size=(size, before.shape[1]))
    after[:5] = before[:5]
    before[::50, 3] = np.nan
    before, after = made(before), made(after)
    assert compare_inputs(InputReference.fit(before), after) == compare_inputs(before, after)


def test_integers_in_a_matrix():
    """Integers, of which some features have few values, are compared alike; with floats in the window, too."""
    before, after = RNG.integers(0, 5000, size=(5000, 6)), RNG.integers(0, 5000, size=(1000, 6))
    before[:, [1, 4]] %= 3
    reference = InputReference.fit(before)
    for window in (after, after.astype(np.float64), after % 3):
        assert compare_inputs(reference, window) == compare_inputs(before, window)


def test_a_feature_that_changed_its_type_between_others():
    """A feature that cannot be tested as a number any more leaves the others as they are."""
    before = {f"f{index}": RNG.normal(size=6000) for index in range(7)}
    after = {name: values[:1000] + 0.1 for name, values in before.items()}
    after["f2"], after["f5"] = np.full(1000, "?"), after["f5"].astype(np.float32)
    assert compare_inputs(InputReference.fit(before), after) == compare_inputs(before, after)


def test_a_window_too_wide_for_one_test():
    """A window of more rows than the baseline is tested a few features at a time, with the same result."""
    before, after = RNG.normal(size=(500, 12)), RNG.normal(size=(60_000, 12))
    assert compare_inputs(InputReference.fit(before), after) == compare_inputs(before, after)


def test_a_baseline_of_many_rows_is_sorted_feature_by_feature(monkeypatch):
    """Features that have no room side by side are prepared alike."""
    monkeypatch.setattr("mlserve.drift._references.FIT_BYTES", 1)
    before, after = RNG.normal(size=(5000, 3)), RNG.normal(size=(1000, 3))
    assert compare_inputs(InputReference.fit(before), after) == compare_inputs(before, after)


@pytest.mark.parametrize("rows", [0, 5])
def test_too_few_rows(rows):
    """A baseline with too few rows can be prepared; comparing with it is refused by a status."""
    before, after = RNG.normal(size=(rows, 2)), RNG.normal(size=(100, 2))
    drift = compare_inputs(InputReference.fit(before), after)
    assert drift.status is DriftStatus.INSUFFICIENT_DATA
    assert drift == compare_inputs(before, after)


def test_zeros_of_both_signs_have_one_name():
    """Where numbers are compared by their text, 0.0 and -0.0 are one category, whatever the order of the rows."""
    texts = {"x": np.full(50, "0.0")}
    drift = compare_inputs({"x": np.array([-0.0, 0.0] * 50)}, texts)
    assert drift.features[0].category_shares == (("0.0", 1.0, 1.0),)


def test_the_policy_of_the_reference_is_the_default():
    """A comparison takes the thresholds that the reference was fitted with, unless it is given others."""
    before, after = RNG.normal(size=(500, 1)), RNG.normal(0.3, size=(400, 1))
    strict = DriftPolicy(min_effect=0.9)
    reference = InputReference.fit(before, policy=strict)
    assert not compare_inputs(reference, after).is_drift_detected
    assert compare_inputs(reference, after, policy=DriftPolicy()) == compare_inputs(before, after)


def test_what_a_reference_tells():
    """A reference tells the size and the names of its baseline."""
    reference = InputReference.fit(np.zeros((40, 2)), feature_names=["a", "b"], categorical=["b"])
    assert (reference.n_samples, reference.feature_names) == (40, ("a", "b"))
    assert reference.categorical == {"b"}
    assert repr(reference) == "InputReference(n_samples=40, n_features=2)"


def test_names_given_again():
    """The names that a reference was fitted with may be given again."""
    before, after = RNG.integers(0, 90, size=(100, 2)), RNG.integers(0, 90, size=(80, 2))
    names = {"feature_names": ["a", "b"], "categorical": ["b"]}
    assert compare_inputs(InputReference.fit(before, **names), after, **names) == compare_inputs(before, after, **names)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"feature_names": ["b", "a"]}, "feature_names must be the names the reference was fitted with: a, b"),
        ({"categorical": ["a"]}, "categorical must be the names the reference was fitted with: b"),
    ],
)
def test_other_names_are_refused(options, said):
    """Names other than those that a reference was fitted with are refused."""
    reference = InputReference.fit(np.zeros((40, 2)), feature_names=["a", "b"], categorical=["b"])
    with pytest.raises(InvalidArgumentError, match=said):
        compare_inputs(reference, np.zeros((40, 2)), **options)


def test_other_categories_than_none_are_refused():
    """A reference without declared categories says so where some are given."""
    with pytest.raises(InvalidArgumentError, match="fitted with: none"):
        compare_inputs(InputReference.fit(np.zeros((40, 1))), np.zeros((40, 1)), categorical=["x0"])


@pytest.mark.parametrize(
    ("baseline", "options", "said"),
    [
        (iter([np.zeros((40, 1))]), {}, "a table in memory"),
        (np.zeros((40, 1)), {"categorical": ["y"]}, "names of features: x0"),
        ({"a": [{}, 1]}, {}, "column 'a' holds dict"),
        (np.zeros((4, 4, 4)), {}, "an array of shape"),
    ],
)
def test_what_is_no_baseline_is_refused(baseline, options, said):
    """What cannot be compared as a baseline cannot be prepared as one."""
    with pytest.raises(InvalidArgumentError, match=said):
        InputReference.fit(baseline, **options)


def test_a_window_of_another_width_is_refused():
    """A window must have the features of the reference."""
    with pytest.raises(InvalidArgumentError, match="2 features, as the baseline has"):
        compare_inputs(InputReference.fit(np.zeros((40, 2))), np.zeros((40, 3)))


def test_a_reference_is_no_window():
    """A prepared baseline in the place of the window is refused."""
    reference = InputReference.fit(np.zeros((40, 2)))
    with pytest.raises(InvalidArgumentError, match="recent"):
        compare_inputs(np.zeros((40, 2)), reference)


def test_the_baseline_is_not_kept():
    """A reference holds nothing of the arrays it was made of: they may change, or be freed."""
    column = RNG.normal(size=5000)
    before, after = {"x": column.copy()}, {"x": RNG.normal(size=500)}
    reference = InputReference.fit(before)
    held = weakref.ref(before["x"])
    del before
    gc.collect()
    assert held() is None
    assert compare_inputs(reference, after) == compare_inputs({"x": column}, after)


def test_threads_share_a_reference():
    """Windows compared by several threads at once are found as one after the other."""
    before = {"number": RNG.integers(0, 9, size=6000), "text": RNG.choice(["a", "b"], size=6000)}
    windows = [{name: values[start : start + 800] for name, values in before.items()} for start in range(0, 4800, 800)]
    reference, found = InputReference.fit(before), {}
    barrier = threading.Barrier(len(windows))

    def compare(index):
        barrier.wait(timeout=60)
        found[index] = compare_inputs(reference, windows[index])

    threads = [threading.Thread(target=compare, args=(index,)) for index in range(len(windows))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert [found[index] for index in range(len(windows))] == [compare_inputs(before, window) for window in windows]


def test_a_detector_prepares_a_baseline_once():
    """Detections of one version share its prepared baseline, until it gets another one."""
    clock = ManualClock()
    monitor = InMemoryModelMonitor(clock=clock)
    detector = DriftDetector(monitor, clock=clock)
    references = []
    for size in (5000, None, 6000):
        if size is not None:
            monitor.set_baseline("1", inputs=RNG.normal(size=(size, 2)))
        for row in RNG.normal(size=(40, 2)):
            monitor.record_prediction(PredictionEvent(f"{len(references)} {row}", "1", row, 1, 2.0, clock.now()))
        drift = detector.detect_drift("1", timedelta(hours=1)).analysis.data_drift
        baseline = monitor.get_baseline_input_distribution("1")
        recent = monitor.get_recent_input_distribution("1", timedelta(hours=1))
        assert drift == compare_inputs(baseline.rows, recent.rows)
        references.append(detector._references.reference("1", baseline))
    assert [references[0] is references[1], references[1] is references[2]] == [True, False]


def test_references_are_kept_while_their_baseline_stays():
    """The reference of a version is the same object until its baseline is another one."""
    kept = KeptReferences(DriftPolicy())
    sample, other = (InputSample(RNG.normal(size=(100, 2))) for _ in range(2))
    first = kept.reference("v", sample)
    assert kept.reference("v", sample) is first
    assert kept.reference("v", other) is not first


def test_few_references_are_kept():
    """Of more versions than are kept the one that was used longest ago is forgotten."""
    kept = KeptReferences(DriftPolicy())
    samples = {f"v{index}": InputSample(RNG.normal(size=(40, 1))) for index in range(REFERENCES_KEPT + 1)}
    names = list(samples)
    fitted = {name: kept.reference(name, samples[name]) for name in names[:-1]}
    kept.reference(names[0], samples[names[0]])
    kept.reference(names[-1], samples[names[-1]])
    assert kept.reference(names[0], samples[names[0]]) is fitted[names[0]]
    assert kept.reference(names[1], samples[names[1]]) is not fitted[names[1]]


def test_the_detector_passes_its_arguments_on():
    """``DriftDetector.compare_inputs`` takes what ``compare_inputs`` takes, with the detector's thresholds."""
    before, after = RNG.integers(0, 90, size=(100, 2)), RNG.integers(0, 90, size=(80, 2))
    policy = DriftPolicy(alpha=0.2)
    options = {"feature_names": ["a", "b"], "categorical": ["b"], "progress": False}
    found = DriftDetector(InMemoryModelMonitor(), policy).compare_inputs(before, after, **options)
    assert found == compare_inputs(before, after, policy=policy, **options)
    assert [feature.kind for feature in found.features] == ["numeric", "categorical"]
