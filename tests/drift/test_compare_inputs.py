"""Two samples of inputs, feature by feature."""

from __future__ import annotations

import json
import sys
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from mlserve.drift import DriftDetector, DriftPolicy, compare_inputs
from mlserve.errors import InvalidArgumentError, MissingExtraError
from mlserve.monitors import InMemoryModelMonitor
from mlserve.records import DriftSeverity, DriftStatus, FeatureStatus

RNG = np.random.default_rng(7)
BEFORE = RNG.normal(size=(600, 4))
AFTER = RNG.normal(size=(500, 4))
PLAIN = DriftPolicy(correction="none", min_effect=0.0)


def test_statistic_and_p_value_are_those_of_scipy():
    """Each feature's D and p are those of scipy's exact test."""
    drift = compare_inputs(BEFORE, AFTER, policy=PLAIN)
    for index, feature in enumerate(drift.features):
        expected = stats.ks_2samp(BEFORE[:, index], AFTER[:, index], method="exact")
        assert feature.statistic == pytest.approx(expected.statistic, rel=1e-12)
        assert feature.p_value == pytest.approx(expected.pvalue, rel=0.05)


def test_p_values_are_adjusted_by_benjamini_hochberg():
    """The adjusted p-values are those of scipy's false discovery control."""
    drift = compare_inputs(BEFORE, AFTER + [0, 0.1, 0.2, 0.5])
    expected = stats.false_discovery_control([feature.p_value for feature in drift.features])
    assert [feature.adjusted_p_value for feature in drift.features] == pytest.approx(expected.tolist())


@pytest.mark.parametrize(("shift", "direction"), [(1.0, "up"), (-1.0, "down")])
def test_direction(shift, direction):
    """A feature whose values grew moved up, one whose values shrank moved down."""
    drift = compare_inputs(BEFORE, AFTER + [0, shift, 0, 0])
    assert [(f.name, f.direction) for f in drift.drifted_features] == [("x1", direction)]


def test_summary_is_the_drifted_feature_with_the_smallest_p():
    """The table's statistic and p-value are those of the drifted feature with the smallest p-value."""
    drift = compare_inputs(BEFORE, AFTER + [0, 0.5, 2.0, 0])
    worst = drift.features[2]
    assert (drift.ks_statistic, drift.p_value) == (worst.statistic, worst.adjusted_p_value)


def test_severity_follows_the_adjusted_p_value():
    """Below 0.01 a drifted feature is HIGH, else MEDIUM."""
    policy = DriftPolicy(correction="none", min_effect=0.0, high_severity_alpha=1e-9)
    drift = compare_inputs(BEFORE, AFTER + [0, 0, 0.3, 3.0], policy=policy)
    assert [drift.features[index].severity for index in (2, 3)] == [DriftSeverity.MEDIUM, DriftSeverity.HIGH]


def test_significant_but_tiny_is_no_drift():
    """With many rows a shift of 0.02 is significant but below min_effect, and no drift; min_effect=0 reports it."""
    rng = np.random.default_rng(3)
    before, after = rng.normal(size=(200_000, 1)), rng.normal(size=(200_000, 1)) + 0.02
    feature = compare_inputs(before, after).features[0]
    assert feature.adjusted_p_value < 0.01
    assert not feature.is_drift_detected
    assert compare_inputs(before, after, policy=DriftPolicy(min_effect=0.0)).is_drift_detected


def test_null_windows_rarely_alarm():
    """Of 400 windows without drift over 10 features the plain corrected test calls at most its level, plus noise."""
    rng = np.random.default_rng(11)
    policy = DriftPolicy(min_effect=0.0)
    reference = rng.normal(size=(2000, 10))
    alarms = sum(
        compare_inputs(reference, rng.normal(size=(300, 10)), policy=policy).is_drift_detected for _ in range(400)
    )
    # The reference is the same each time, so the alarms are not independent; four standard errors allow for it.
    assert alarms / 400 <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 400)


def test_missing_values_are_a_value_of_their_own():
    """A change of the missing rate alone is drift in the direction "missing", and both rates are told."""
    after = AFTER.copy()
    after[:250, 0] = np.nan
    feature = compare_inputs(BEFORE, after).features[0]
    assert (feature.is_drift_detected, feature.direction) == (True, "missing")
    assert (feature.reference_missing_rate, feature.current_missing_rate) == (0.0, 0.5)


def test_equal_missing_rates_are_no_drift():
    """Missing values on both sides alike do not hide that nothing moved."""
    before, after = BEFORE.copy(), AFTER.copy()
    before[:300, 0], after[:250, 0] = np.nan, np.nan
    assert not compare_inputs(before, after).is_drift_detected


@pytest.mark.parametrize(
    ("before", "after", "status", "drifted"),
    [
        (3.0, 3.0, FeatureStatus.CONSTANT, False),
        (3.0, 4.0, FeatureStatus.OK, True),
        (np.nan, np.nan, FeatureStatus.EMPTY, False),
        (3.0, np.nan, FeatureStatus.EMPTY, True),
        (np.inf, np.inf, FeatureStatus.CONSTANT, False),
    ],
)
def test_constant_and_empty_features(before, after, status, drifted):
    """Constant and empty features have a status of their own, a p-value that is a number, and no exception."""
    feature = compare_inputs(np.full((50, 1), before), np.full((40, 1), after)).features[0]
    assert (feature.status, feature.is_drift_detected) == (status, drifted)
    assert 0 <= feature.p_value <= 1


@pytest.mark.parametrize(("n", "m"), [(29, 500), (500, 29), (500, 0), (1, 1)])
def test_too_few_rows(n, m):
    """Fewer rows than min_samples on either side are insufficient, never "no drift"."""
    drift = compare_inputs(np.ones((n, 2)), np.ones((m, 2)))
    assert drift.status == DriftStatus.INSUFFICIENT_DATA
    assert [feature.status for feature in drift.features] == [FeatureStatus.INSUFFICIENT] * 2


def test_a_sample_of_one_feature_may_be_flat():
    """A one-dimensional array is one feature."""
    assert len(compare_inputs(BEFORE[:, 0], AFTER[:, 0]).features) == 1


def test_frames_bring_their_names():
    """The columns of a pandas frame name the features."""
    names = ["a", "b", "c", "d"]
    drift = compare_inputs(pd.DataFrame(BEFORE, columns=names), pd.DataFrame(AFTER, columns=names))
    assert [feature.name for feature in drift.features] == names


@pytest.mark.parametrize(
    ("before", "after", "names", "said"),
    [
        (BEFORE, AFTER[:, :3], None, "4 features"),
        (BEFORE, AFTER, ["a", "b", "a", "c"], "distinct"),
        (BEFORE, AFTER, ["a", "b"], "4 names"),
        (BEFORE, AFTER, [1, 2, 3, 4], "strings"),
        (np.array([[{1}, 1]] * 40, object), AFTER[:, :2], None, "'x0' holds set"),
        ({"a": [1, 2], "b": [1]}, AFTER, None, "one length"),
        ({"a": [1, 2]}, {"b": [1, 2]}, None, "named a"),
        (BEFORE, np.zeros((3, 3, 3)), None, "n_samples"),
        (BEFORE, [[1, 2], [3]], None, "table"),
        (BEFORE, AFTER.astype(complex), None, "complex"),
        ("abc", AFTER, None, "n_samples"),
    ],
)
def test_bad_tables_are_refused_by_name(before, after, names, said):
    """What is no table of numbers is refused with what was wrong and where."""
    with pytest.raises(InvalidArgumentError, match=said):
        compare_inputs(before, after, feature_names=names)


@pytest.mark.parametrize("rows", [3, 40])
def test_bad_columns_are_refused_in_any_sample(rows):
    """What cannot be compared is refused also where a sample is too small to be compared at all."""
    with pytest.raises(InvalidArgumentError, match="'a' holds set"):
        compare_inputs({"a": np.arange(500.0)}, {"a": [{1}] * rows})


def test_object_columns_of_numbers_are_numbers():
    """An object array that holds nothing but numbers is a table."""
    assert compare_inputs(BEFORE, AFTER.astype(object)).status == DriftStatus.OK


def test_the_detector_compares_with_its_own_policy():
    """DriftDetector.compare_inputs is the same function with the detector's thresholds."""
    strict = DriftDetector(InMemoryModelMonitor(), DriftPolicy(min_samples=601))
    assert strict.compare_inputs(BEFORE, AFTER).status == DriftStatus.INSUFFICIENT_DATA


def test_the_report_names_the_feature_that_moved():
    """As text and as HTML the feature that moved furthest comes first, with direction and effect."""
    drift = compare_inputs(BEFORE, AFTER + [0, 0, 2, 0], feature_names=["a", "b", "<c>", "d"])
    assert repr(drift).splitlines()[3].split()[:3] == ["<c>", "HIGH", "up"]
    assert "&lt;c&gt;" in drift._repr_html_()


def test_the_picture_shows_what_moved():
    """The picture ranks the features, the one that moved furthest first, and shows the first three before and after."""
    drift = compare_inputs(mixed(500, 1), mixed(400, 2, share=0.9))
    ranking, *close = drift.plot().axes
    assert ranking.get_yticklabels()[0].get_text() == "flag"
    assert close[0].get_title() == "flag"
    assert len(close) == 3


def test_a_picture_needs_matplotlib(monkeypatch):
    """Without matplotlib the error names the extra that brings it."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"mlserve\[plot\]"):
        compare_inputs(BEFORE, AFTER).plot()


def test_the_picture_of_an_empty_feature():
    """A feature without values in the window is drawn with the baseline alone."""
    drift = compare_inputs(BEFORE[:, :1], np.full((40, 1), np.nan))
    assert [line.get_label() for line in drift.plot().axes[1].lines] == ["baseline"]


def test_the_picture_of_nothing():
    """A comparison without data can be drawn too."""
    assert len(compare_inputs(np.ones((3, 2)), np.ones((3, 2))).plot().axes) == 1


def test_quantiles_tell_the_distribution():
    """The quantiles kept of a feature are values that occurred, from the smallest to the largest."""
    feature = compare_inputs(BEFORE, AFTER).features[0]
    kept = np.array(feature.reference_quantiles)
    assert np.isin(kept, BEFORE[:, 0]).all()
    assert (kept[0], kept[-1]) == (BEFORE[:, 0].min(), BEFORE[:, 0].max())
    assert feature.reference_median == pytest.approx(np.quantile(BEFORE[:, 0], 0.5, method="lower"))


def test_the_report_is_json():
    """to_dict holds nothing that JSON cannot hold, also for empty features."""
    drift = compare_inputs(np.full((40, 2), np.nan), np.full((40, 2), np.inf))
    assert json.loads(json.dumps(drift.to_dict(), allow_nan=False))["status"] == "DRIFT"


def mixed(rows, seed, *, share=0.5, late=0.0, colours=("red", "green", "blue")):
    """A frame with every kind of column."""
    rng = np.random.default_rng(seed)
    start = pd.Timestamp("2026-01-01", tz="UTC")
    return pd.DataFrame(
        {
            "amount": rng.normal(size=rows),
            "colour": rng.choice(colours, size=rows),
            "flag": rng.random(rows) < share,
            "rating": rng.integers(1, 6, size=rows),
            "when": start + pd.to_timedelta(rng.random(rows) * 86_400 + late, unit="s"),
        }
    )


def test_every_kind_is_recognised():
    """Numbers, text, booleans, few integers and times are each compared as what they are."""
    drift = compare_inputs(mixed(500, 1), mixed(400, 2))
    kinds = {feature.name: feature.kind for feature in drift.features}
    assert kinds == {
        "amount": "numeric", "colour": "categorical", "flag": "boolean", "rating": "categorical", "when": "datetime"
    }  # fmt: skip
    assert not drift.is_drift_detected


def test_categories_are_tested_by_chi_square():
    """The statistic and p-value of categories are those of scipy's contingency test, the effect is total variation."""
    before, after = mixed(500, 1), mixed(400, 2, colours=("red", "green"))
    feature = compare_inputs(before, after, policy=PLAIN).features[1]
    counts = np.array(
        [one["colour"].value_counts().reindex(["red", "green", "blue"], fill_value=0) for one in (before, after)]
    )
    expected = stats.chi2_contingency(counts, correction=False)
    assert (feature.statistic, feature.p_value) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue))
    shares = counts / counts.sum(axis=1, keepdims=True)
    assert feature.effect_size == pytest.approx(np.abs(shares[0] - shares[1]).sum() / 2)
    assert (feature.direction, feature.is_drift_detected) == ("changed", True)


def test_unseen_categories_are_an_alarm_of_their_own():
    """Three rows of a colour never seen are too few to move the feature but are named and alarm."""
    after = mixed(3000, 2)
    before = mixed(30_000, 1)
    after.loc[:2, "colour"] = "ultraviolet"
    feature = compare_inputs(before, after).features[1]
    assert (feature.unseen_categories, feature.unseen_count) == (("ultraviolet",), 3)
    assert (feature.is_drift_detected, feature.is_unseen_alarm) == (False, True)


def test_nothing_unseen_is_no_alarm():
    """Categories that the baseline has never alarm as unseen."""
    feature = compare_inputs(mixed(500, 1), mixed(400, 2)).features[1]
    assert (feature.unseen_p_value, feature.is_unseen_alarm) == (1.0, False)


@pytest.mark.parametrize(("share", "direction"), [(0.8, "up"), (0.2, "down")])
def test_booleans_have_a_direction(share, direction):
    """A boolean moved up when more of its values are true."""
    feature = compare_inputs(mixed(500, 1), mixed(400, 2, share=share)).features[2]
    assert (feature.is_drift_detected, feature.direction) == (True, direction)


def test_times_move():
    """A time that is later by a day is drift upward."""
    feature = compare_inputs(mixed(500, 1), mixed(400, 2, late=86_400)).features[4]
    assert (feature.is_drift_detected, feature.direction) == (True, "up")


def test_declared_categories():
    """Numbers that are codes are categories when named, whatever their type."""
    drift = compare_inputs(mixed(500, 1), mixed(400, 2), categorical=["amount"])
    assert drift.features[0].kind == "categorical"
    with pytest.raises(InvalidArgumentError, match="categorical"):
        compare_inputs(BEFORE, AFTER, categorical=["no such"])


def test_a_column_whose_type_changed_has_drifted():
    """Numbers that became text are compared as text: the column has drifted as far as can be, the others are judged."""
    after = mixed(400, 2)
    after["amount"] = ["n/a"] * 400
    drift = compare_inputs(mixed(500, 1), after)
    assert [feature.name for feature in drift.drifted_features] == ["amount"]
    assert drift.features[0].effect_size == pytest.approx(1.0)


def test_a_column_without_values_takes_the_kind_of_the_other():
    """A column that lost all its values is empty and drifted, of whatever kind it was."""
    after = mixed(400, 2).astype(object)
    after[:] = None
    drift = compare_inputs(mixed(500, 1), after)
    assert [feature.status for feature in drift.features] == [FeatureStatus.EMPTY] * 5
    assert [feature.direction for feature in drift.features] == ["missing"] * 5


def test_missing_rates_have_a_test_of_their_own():
    """The p-value of the missing rates alone is that of scipy's chi-square test of the two by two table."""
    before, after = BEFORE.copy(), AFTER.copy()
    before[:60, 0], after[:80, 0] = np.nan, np.nan
    feature = compare_inputs(before, after).features[0]
    expected = stats.chi2_contingency([[60, 540], [80, 420]], correction=False).pvalue
    assert feature.missing_rate_p_value == pytest.approx(expected)


def test_mixed_time_zones_are_refused():
    """Times of which some have a zone and some have none cannot be compared."""
    stamps = [pd.Timestamp("2026-01-01", tz="UTC"), pd.Timestamp("2026-01-01")] * 20
    with pytest.raises(InvalidArgumentError, match="zone"):
        compare_inputs({"t": np.array(stamps, object)}, {"t": np.array(stamps, object)})


def test_the_table_drifts_with_enough_features():
    """With min_drifted_share the table has drifted only when that share of its features has."""
    after = AFTER + [0, 2, 0, 0]
    assert compare_inputs(BEFORE, after, policy=DriftPolicy(min_drifted_share=0.25)).is_drift_detected
    calm = compare_inputs(BEFORE, after, policy=DriftPolicy(min_drifted_share=0.5))
    assert (calm.is_drift_detected, calm.severity) == (False, DriftSeverity.NONE)
    assert len(calm.drifted_features) == 1


def test_effect_intervals_cover_the_truth():
    """Over 300 pairs of windows the interval for D misses the true distance at most as often as its level allows."""
    rng = np.random.default_rng(5)
    truth = 2 * stats.norm.cdf(0.25) - 1  # of two normal distributions half a standard deviation apart
    before, after = rng.normal(size=(400, 300)), rng.normal(size=(300, 300)) + 0.5
    features = compare_inputs(before, after).features
    misses = sum(not feature.effect_interval[0] <= truth <= feature.effect_interval[1] for feature in features)
    assert misses <= stats.binom.ppf(0.999, 300, 0.05)


def test_category_intervals_cover_the_truth():
    """Over 200 pairs of windows the interval for total variation misses the truth at most as often as allowed."""
    rng = np.random.default_rng(6)
    p, q = [0.5, 0.3, 0.2], [0.4, 0.3, 0.3]
    misses = 0
    for _ in range(200):
        before, after = rng.choice(3, size=300, p=p), rng.choice(3, size=300, p=q)
        low, high = compare_inputs(before, after).features[0].effect_interval
        misses += not low <= 0.1 <= high
    assert misses <= stats.binom.ppf(0.999, 200, 0.05)


def test_null_categories_rarely_alarm():
    """Over 500 null windows the chi-square test of categories with rare ones rejects about as often as its level."""
    rng = np.random.default_rng(8)
    p = [0.4, 0.3, 0.2, 0.05, 0.02, 0.01, 0.01, 0.01]
    rejected = sum(
        compare_inputs(
            rng.choice(list("abcdefgh"), size=(500, 1), p=p),
            rng.choice(list("abcdefgh"), size=(200, 1), p=p),
            policy=PLAIN,
        ).is_drift_detected
        for _ in range(500)
    )
    assert rejected <= stats.binom.ppf(0.999, 500, 0.05)


def test_structured_arrays_and_mappings_are_tables():
    """The same data as a structured array, a mapping and a frame give the same report."""
    before, after = mixed(500, 1)[["amount", "rating"]], mixed(400, 2)[["amount", "rating"]]
    frames = compare_inputs(before, after)
    records = compare_inputs(before.to_records(index=False), after.to_records(index=False))
    mappings = compare_inputs(before.to_dict("list"), {"rating": after["rating"], "amount": after["amount"]})
    assert frames.to_dict() == records.to_dict() == mappings.to_dict()


@pytest.mark.parametrize("kind", ["matrix", "integers against floats", "mapping", "frame"])
def test_peak_memory_is_at_most_twice_the_window(kind):
    """Beside 100 000 x 10 000 rows of 50 features, no more is needed than twice the window."""
    rng = np.random.default_rng(9)
    before, after = rng.normal(size=(100_000, 50)), rng.normal(size=(10_000, 50))
    if kind == "integers against floats":
        before = (before * 1e6).astype(np.int64)
    elif kind != "matrix":
        before, after = (
            {f"x{index}": np.ascontiguousarray(rows[:, index]) for index in range(50)} for rows in (before, after)
        )
    if kind == "frame":
        before, after = pd.DataFrame(before), pd.DataFrame(after)
    compare_inputs(RNG.normal(size=(9000, 1)), AFTER[:, :1])  # what is imported on first use counts for nobody
    tracemalloc.start()
    try:
        compare_inputs(before, after)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= 2 * 10_000 * 50 * 8


def test_features_are_compared_alike_in_whatever_blocks():
    """Features that are too many, or of types too different, for one block are found as when each stands alone."""
    rng = np.random.default_rng(10)
    before = {f"f{index}": rng.normal(size=60_000).astype(("f4", "f8")[index % 3 == 0]) for index in range(9)}
    after = {name: values[:40_000] + 0.1 for name, values in before.items()}
    after["f4"] = (after["f4"] * 100).astype(np.int16)
    together = compare_inputs(before, after, policy=PLAIN).features
    alone = [compare_inputs({n: before[n]}, {n: after[n]}, policy=PLAIN).features[0] for n in before]
    assert list(together) == alone


def test_a_part_of_a_matrix_of_integers():
    """Columns of a matrix that are numbers are found as such between columns that are categories."""
    rng = np.random.default_rng(12)
    before, after = rng.integers(0, 1000, size=(80, 5)), rng.integers(0, 1000, size=(60, 5))
    before[:, [1, 4]] %= 3
    features = compare_inputs(before, after, policy=PLAIN).features
    assert [feature.kind for feature in features] == ["numeric", "categorical", "numeric", "numeric", "categorical"]
    for index in (0, 2, 3):
        expected = stats.ks_2samp(before[:, index], after[:, index]).statistic
        assert features[index].statistic == pytest.approx(expected, rel=1e-12)


def test_a_progress_bar_needs_tqdm(monkeypatch):
    """Without tqdm a bar that is asked for is refused with the extra that brings it."""
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(MissingExtraError, match=r"mlserve\[progress\]"):
        compare_inputs(BEFORE, AFTER, progress=True)


def test_a_progress_bar_counts_features(monkeypatch, capsys):
    """A bar that is asked for counts the features."""
    monkeypatch.setattr("mlserve._progress.DELAY", 0.0)
    compare_inputs(BEFORE, AFTER, progress=True)
    assert "features" in capsys.readouterr().err


TABLES = hnp.arrays(
    dtype=st.sampled_from([np.float64, np.float32, np.int64, np.int8, np.bool_, np.uint16]),
    shape=st.tuples(st.integers(0, 60), st.just(3)),
)


@settings(deadline=None, max_examples=150)
@given(TABLES, TABLES)
def test_no_table_gives_nan_or_an_exception(before, after):
    """Any two tables of numbers give a report whose numbers are numbers."""
    drift = compare_inputs(before, after, policy=DriftPolicy(min_samples=1))
    for feature in drift.features:
        for value in (feature.p_value, feature.adjusted_p_value, feature.effect_size):
            assert value is None or 0 <= value <= 1
        assert feature.statistic is None or 0 <= feature.statistic < np.inf


@settings(deadline=None, max_examples=50)
@given(st.permutations(range(40)), st.permutations(range(4)))
def test_order_of_rows_and_columns_does_not_matter(rows, columns):
    """Permuting rows changes nothing; permuting columns permutes the features."""
    before, after = BEFORE[:40], AFTER[:40]
    plain = compare_inputs(before, after)
    moved = compare_inputs(before[list(rows)][:, list(columns)], after[:, list(columns)])
    assert [feature.p_value for feature in moved.features] == [plain.features[c].p_value for c in columns]
