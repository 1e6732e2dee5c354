"""Inputs that were counted in the cells of their baseline are judged as the inputs themselves would be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from mlserve import DriftDetector, DriftPolicy, InMemoryModelMonitor, ModelMetrics
from mlserve.clocks import ManualClock
from mlserve.drift import compare_inputs
from mlserve.drift._binned import NEW, RARER, compare_counts
from mlserve.drift._features import concluded
from mlserve.numerics import ks_pvalue
from mlserve.numerics._binning import ReferenceBins
from mlserve.protocols import ModelMonitor
from mlserve.records import DataDrift, DriftStatus, FeatureStatus, InputSample, PredictionEvent, QualityMetrics

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
NAN = float("nan")
POLICY = DriftPolicy()
NAMES = ("a", "b", "c")


def counted(
    baseline: Any, recent: Any, *, n_bins: int = 100, weights: Any = None, rows: int | None = None, **policy: Any
) -> DataDrift:
    """The verdict on counts of recent rows in the cells of a baseline."""
    before, after = np.asarray(baseline), np.asarray(recent)
    names = [f"x{index}" for index in range(before.shape[1])]
    bins = ReferenceBins.from_rows(before, names, n_bins)
    chosen = DriftPolicy(**policy)
    rows = len(after) if rows is None else rows
    return concluded(compare_counts(bins, bins.count(after, weights), rows, chosen), chosen)


def column(values: Any, dtype: Any = np.float64) -> np.ndarray:
    rows = np.empty((len(values), 1), dtype)
    rows[:, 0] = values
    return rows


# ------------------------------------------------------------------------------------------------------------- numbers


@settings(deadline=None, max_examples=80)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_bins=st.integers(1, 200),
    shift=st.floats(-2, 2),
    digits=st.integers(0, 4),
    missing=st.sampled_from([0.0, 0.1, 1.0]),
)
def test_numbers_are_judged_within_the_bound(seed, n_bins, shift, digits, missing):
    """D lies in (exact − 1/B, exact], p is that of this D and no smaller than the exact one's; missing rates agree."""
    rng = np.random.default_rng(seed)
    before, after = rng.normal(size=(200, 1)).round(digits), (rng.normal(size=(150, 1)) + shift).round(digits)
    after[rng.random(150) < missing] = NAN
    found, exact = counted(before, after, n_bins=n_bins).features[0], compare_inputs(before, after).features[0]
    assert exact.statistic - 1 / n_bins < found.statistic <= exact.statistic + 1e-12
    assert found.p_value == float(ks_pvalue(found.statistic, 200, 150))
    assert found.p_value >= float(ks_pvalue(exact.statistic, 200, 150)) - 1e-12
    lower, upper = found.effect_interval
    assert lower <= exact.statistic <= upper
    assert upper >= min(1.0, exact.effect_interval[1] - 1e-12)
    same = ("name", "kind", "status", "reference_count", "current_count", "reference_missing_rate",
            "current_missing_rate", "missing_rate_p_value", "minimum_detectable_effect")  # fmt: skip
    assert [getattr(found, name) for name in same] == pytest.approx([getattr(exact, name) for name in same])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shift", [0.0, 0.5, 3.0])
def test_tables_are_judged_alike(seed, shift):
    """The verdict on counts of several features, one of which moved, is that on the rows."""
    rng = np.random.default_rng(seed)
    before, after = rng.normal(size=(1000, 3)), rng.normal(size=(800, 3)) + [0.0, shift, 0.0]
    found, exact = counted(before, after), compare_inputs(before, after, feature_names=["x0", "x1", "x2"])
    assert (found.status, found.severity) == (exact.status, exact.severity)
    assert [one.name for one in found.drifted_features] == [one.name for one in exact.drifted_features]
    assert [one.direction for one in found.drifted_features] == [one.direction for one in exact.drifted_features]


@pytest.mark.parametrize(
    ("after", "direction"),
    [(np.arange(100.0), "none"), (np.arange(100.0) + 30, "up"), (np.arange(100.0) - 30, "down"),
     (np.where(np.arange(100) < 30, NAN, np.arange(100.0)), "missing")],
    ids=["none", "up", "down", "missing"],
)  # fmt: skip
def test_the_direction_is_told(after, direction):
    """A feature moved up, down, to missing values, or not at all, as the rows would say."""
    before = column(np.arange(100.0))
    found = counted(before, column(after)).features[0]
    assert (found.direction, compare_inputs(before, column(after)).features[0].direction) == (direction, direction)


@pytest.mark.parametrize(
    ("before", "after", "status"),
    [
        ([1.0, 2.0], [1.0, 2.0], FeatureStatus.OK),
        ([5.0, 5.0], [5.0, 5.0], FeatureStatus.CONSTANT),
        ([5.0, 5.0], [6.0, 6.0], FeatureStatus.OK),
        ([5.0, NAN], [5.0, NAN], FeatureStatus.CONSTANT),
        ([NAN, NAN], [NAN, NAN], FeatureStatus.EMPTY),
        ([1.0, 2.0], [NAN, NAN], FeatureStatus.EMPTY),
        ([NAN, NAN], [1.0, 2.0], FeatureStatus.EMPTY),
    ],
    ids=str,
)
def test_the_status_is_that_of_the_rows(before, after, status):
    """A feature that is constant or empty on a side is called so, as the rows would say."""
    before, after = column(before * 50), column(after * 50)
    found, exact = counted(before, after).features[0], compare_inputs(before, after).features[0]
    assert (found.status, exact.status) == (status, status)
    assert (found.is_drift_detected, found.statistic) == (exact.is_drift_detected, pytest.approx(exact.statistic))


def test_a_baseline_without_values_shows_no_quantiles():
    """Where the baseline has no value there is no cell to tell quantiles from, and none are claimed."""
    found = counted(column([NAN] * 50), column([1.0] * 50)).features[0]
    assert (found.reference_median, found.current_median, found.current_quantiles) == (None, None, ())


@pytest.mark.parametrize("n_bins", [10, 100])
def test_quantiles_shown_are_those_of_the_rows_but_for_a_cell(n_bins):
    """A quantile shown is a border of the cell in which that of the rows lies."""
    rng = np.random.default_rng(1)
    before, after = rng.normal(size=(1000, 1)), rng.normal(0.2, 1.0, (1500, 1))
    found = counted(before, after, n_bins=n_bins).features[0]
    edges = ReferenceBins.from_rows(before, ["x"], n_bins).features[0].edges
    for values, shown in ((before, found.reference_quantiles), (after, found.current_quantiles)):
        levels = np.linspace(0, 1, 21)
        exact = np.quantile(values, levels, method="inverted_cdf")
        place = np.minimum(np.searchsorted(edges, exact), len(edges) - 1)
        assert shown == tuple(edges[place].tolist())
    assert found.current_median == found.current_quantiles[10]


@pytest.mark.parametrize(
    ("before", "after", "ties"),
    [(np.arange(100.0), np.arange(100.0), False), (np.arange(100.0) // 2, np.arange(100.0) + 0.5, True),
     (np.arange(100.0), np.arange(100.0) // 2, True)],
    ids=["none", "before", "after"],
)  # fmt: skip
def test_ties_are_flagged(before, after, ties):
    """Values that repeat are flagged."""
    assert counted(column(before), column(after)).features[0].ties is ties


def test_how_it_was_compared_is_told():
    """The method says that the test is one on bins, and how far off D may be."""
    assert counted(column(np.arange(50.0)), column(np.arange(50.0)), n_bins=20).features[0].method == (
        "Kolmogorov-Smirnov, binned, within 0.05"
    )


@pytest.mark.parametrize(("n", "m"), [(29, 100), (100, 29), (0, 100), (100, 0)])
def test_few_rows_are_insufficient(n, m):
    """Fewer rows than ``min_samples`` on a side are too few, and no feature is judged."""
    drift = counted(np.zeros((n, 1)), np.zeros((m, 1)))
    assert drift.status is DriftStatus.INSUFFICIENT_DATA
    assert [(one.status, one.reference_count, one.current_count) for one in drift.features] == [
        (FeatureStatus.INSUFFICIENT, n, m)
    ]
    assert f"{n} baseline rows and {m} recent rows" in drift.detail


def test_a_table_without_features_is_insufficient():
    """Counts of no features tell nothing."""
    assert counted(np.empty((50, 0)), np.empty((50, 0))).status is DriftStatus.INSUFFICIENT_DATA


def test_thinned_counts_are_worth_the_rows_looked_at():
    """Counts in which each row stands for eight give the D of the rows, and the p-value of as many as were seen."""
    rng = np.random.default_rng(2)
    before, after = rng.normal(size=(500, 1)), rng.normal(0.2, 1.0, (200, 1))
    plain = counted(before, after).features[0]
    thinned = counted(before, after, weights=np.full(200, 8)).features[0]
    skip = {"current_quantiles", "ties"}
    for field in attrs.fields(type(plain)):
        if field.name not in skip:
            assert getattr(thinned, field.name) == getattr(plain, field.name), field.name


# ---------------------------------------------------------------------------------------------------------- categories


def categories(seed: int, count: int, weights: list[float], names: str = "abcdefgh") -> np.ndarray:
    rng = np.random.default_rng(seed)
    shares = np.array(weights) / sum(weights)
    return column([names[place] for place in rng.choice(len(weights), count, p=shares)], object)


CATEGORICAL = ("kind", "status", "statistic", "p_value", "effect_size", "effect_interval", "direction", "method",
               "reference_missing_rate", "current_missing_rate", "missing_rate_p_value", "category_shares",
               "minimum_detectable_effect", "unseen_count", "unseen_p_value", "is_drift_detected", "is_unseen_alarm",
               "severity", "reference_count", "current_count")  # fmt: skip


@pytest.mark.parametrize("after", [[5, 3, 2], [3, 4, 3], [1, 1, 1], [1, 0, 0]], ids=str)
@pytest.mark.parametrize("missing", [0, 20])
def test_few_categories_are_judged_exactly(after, missing):
    """Where each category has a cell of its own, all that is found of it is what the rows would say."""
    before, recent = categories(1, 400, [5, 3, 2]), categories(2, 300, after)
    recent[:missing] = None
    found, exact = counted(before, recent).features[0], compare_inputs(before, recent).features[0]
    assert {name: getattr(found, name) for name in CATEGORICAL} == {name: getattr(exact, name) for name in CATEGORICAL}


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_booleans_are_booleans(share):
    """A feature of booleans is compared as one, and moves up or down."""
    rng = np.random.default_rng(3)
    before, after = (column((rng.random(300) < one).tolist(), object) for one in (0.5, share))
    found, exact = counted(before, after).features[0], compare_inputs(before, after).features[0]
    assert {name: getattr(found, name) for name in CATEGORICAL} == {name: getattr(exact, name) for name in CATEGORICAL}
    assert found.kind == "boolean"


def test_a_category_among_booleans_makes_categories():
    """Where something else comes among booleans the feature is one of categories, and what came is new."""
    before, after = column([True, False] * 50, object), column([True, False, "maybe", True] * 25, object)
    found = counted(before, after).features[0]
    assert (found.kind, found.unseen_categories, found.unseen_count) == ("categorical", ("(new categories)",), 25)


def test_new_categories_raise_their_own_alarm():
    """Categories that the baseline does not have are counted together, and are an alarm of their own."""
    before, after = categories(1, 1000, [5, 3]), categories(2, 1000, [5, 3])
    after[:6] = [["x"], ["y"], ["z"], ["x"], ["v"], ["w"]]
    found, exact = counted(before, after).features[0], compare_inputs(before, after).features[0]
    assert (found.unseen_categories, found.unseen_count) == (("(new categories)",), 6)
    assert found.unseen_p_value == exact.unseen_p_value
    assert (found.is_unseen_alarm, exact.is_unseen_alarm) == (True, True)


def test_rarer_categories_are_compared_as_one():
    """Beyond B categories the rarer ones are one category: the effect is at most the exact one."""
    before, after = categories(1, 2000, [8, 4, 2, 1, 1]), categories(2, 2000, [8, 4, 1, 2, 1])
    found, exact = counted(before, after, n_bins=2).features[0], compare_inputs(before, after).features[0]
    shares = {name: (first, second) for name, first, second in found.category_shares}
    lumped = [sum((rows == name).mean() for name in "cde") for rows in (before, after)]
    assert shares["(rarer categories)"] == pytest.approx(tuple(lumped))
    assert found.effect_size < exact.effect_size
    assert found.unseen_count == 0


@pytest.mark.parametrize("cell", [RARER, NEW])
def test_a_category_may_have_the_name_of_a_cell(cell):
    """A category that is called like a cell that is none is another one."""
    before = column([str(cell), "other"] * 50, object)
    after = column([str(cell), "other", "new", "other"] * 25, object)
    found = counted(before, after).features[0]
    shares = sorted(share for name, _, share in found.category_shares if name == str(cell))
    assert shares == ([0.25] if cell is RARER else [0.25, 0.25])
    assert (str(cell) == cell, found.unseen_count) == (False, 25)


def test_thinned_categories_are_worth_the_rows_looked_at():
    """Counts of categories in which each row stands for four are judged as the rows that were looked at."""
    before, after = categories(1, 400, [5, 3, 2]), categories(2, 300, [4, 4, 2])
    plain = counted(before, after).features[0]
    assert counted(before, after, weights=np.full(300, 4)).features[0] == plain


# --------------------------------------------------------------------------------------------------------------- times

MOMENT = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize("shift", [0.0, 40.0])
def test_times_are_compared_by_their_distribution(shift):
    """Times are judged as times, within the bound, and not as categories that are all new."""
    rng = np.random.default_rng(4)
    before, after = (
        column([MOMENT + timedelta(days=day) for day in days.tolist()], object)
        for days in (rng.normal(0, 30, 400), rng.normal(shift, 30, 300))
    )
    found, exact = counted(before, after).features[0], compare_inputs(before, after).features[0]
    assert (found.kind, exact.kind) == ("datetime", "datetime")
    assert exact.statistic - 0.01 < found.statistic <= exact.statistic + 1e-12
    assert found.is_drift_detected is exact.is_drift_detected is (shift > 0)


# ------------------------------------------------------------------------------------------------- through the detector


def serve(monitor: InMemoryModelMonitor, clock: ManualClock, inputs: Any, every: timedelta = SECOND) -> None:
    for number, input in enumerate(inputs):
        at = clock.now() - number * every
        monitor.record_prediction(PredictionEvent(f"p{number}", "1", input, 0, 1.0, at))


def detected(monitor: ModelMonitor, window: timedelta = HOUR) -> DataDrift:
    return DriftDetector(monitor, clock=ManualClock()).detect_drift("1", window).analysis.data_drift


@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_a_detector_judges_all_inputs_though_few_are_kept(shift):
    """With a sample of 20 the detector judges the counts of all: its verdict is that on all rows, within the bound."""
    rng = np.random.default_rng(5)
    clock, before = ManualClock(), rng.normal(size=(1000, 3))
    after = rng.normal(size=(2500, 3)) + [0.0, shift, 0.0]
    monitor = InMemoryModelMonitor(clock=clock, sample_size=20)
    monitor.set_baseline("1", inputs=before, feature_names=NAMES)
    serve(monitor, clock, after)
    found, exact = detected(monitor), compare_inputs(before, after, feature_names=NAMES)
    assert (found.status, found.severity) == (exact.status, exact.severity)
    for one, other in zip(found.features, exact.features, strict=True):
        assert (one.name, one.current_count, one.is_drift_detected) == (other.name, 2500, other.is_drift_detected)
        assert other.statistic - 1 / 100 < one.statistic <= other.statistic + 1e-12


def test_a_detector_takes_all_rows_where_it_has_them():
    """Where the sample is all inputs, rows are compared, and D is exact."""
    rng = np.random.default_rng(6)
    clock, before, after = ManualClock(), rng.normal(size=(300, 3)), rng.normal(size=(200, 3))
    monitor = InMemoryModelMonitor(clock=clock)
    monitor.set_baseline("1", inputs=before, feature_names=NAMES)
    serve(monitor, clock, after)
    found = detected(monitor)
    assert found == compare_inputs(before, after, feature_names=NAMES)
    assert not any("binned" in one.method for one in found.features)


def test_a_detector_takes_the_sample_where_nothing_was_counted():
    """For a window that reaches back before the baseline, the rows of the sample are compared."""
    rng = np.random.default_rng(7)
    clock = ManualClock()
    monitor = InMemoryModelMonitor(clock=clock, sample_size=50)
    serve(monitor, clock, rng.normal(size=(500, 3)))
    monitor.set_baseline("1", inputs=rng.normal(size=(500, 3)))
    found = detected(monitor)
    assert [(one.current_count, "binned" in one.method) for one in found.features] == [(50, False)] * 3


def test_records_with_categories_are_judged_by_their_counts():
    """Mappings with text, booleans, numbers and missing values are judged by counts as their rows would be."""
    rng = np.random.default_rng(8)

    def inputs(count: int, shares: list[float], mean: float) -> list[dict[str, Any]]:
        return [
            {
                "country": str(rng.choice(["de", "fr", "it"], p=shares)),
                "premium": bool(rng.random() < 0.5),
                "age": None if rng.random() < 0.1 else float(rng.normal(mean, 10)),
            }
            for _ in range(count)
        ]

    clock, before, after = ManualClock(), inputs(600, [0.5, 0.3, 0.2], 40), inputs(900, [0.2, 0.3, 0.5], 46)
    rows, recent = (np.array([[*one.values()] for one in part], object) for part in (before, after))
    monitor = InMemoryModelMonitor(clock=clock, sample_size=10)
    monitor.set_baseline("1", inputs=rows, feature_names=list(before[0]))
    serve(monitor, clock, after)
    found, exact = detected(monitor), compare_inputs(rows, recent, feature_names=list(before[0]))
    assert [one.kind for one in found.features] == ["categorical", "boolean", "numeric"]
    drifted = [[one.is_drift_detected for one in part.features] for part in (found, exact)]
    assert drifted == [[True, False, True]] * 2
    for one, other in zip(found.features[:2], exact.features[:2], strict=True):
        assert one.p_value == other.p_value


@pytest.mark.parametrize("seed", range(3))
def test_thinned_traffic_is_judged_by_what_was_looked_at(seed):
    """In a burst of which most inputs were thinned, no drift is found where there is none, with honest sizes."""
    clock = ManualClock()
    rng = np.random.default_rng(seed)
    monitor = InMemoryModelMonitor(clock=clock, sample_size=100, seed=seed)
    monitor.set_baseline("1", inputs=rng.normal(size=(2000, 3)))
    serve(monitor, clock, rng.normal(size=(8000, 3)), timedelta(microseconds=200))
    sample, found = monitor.get_recent_input_distribution("1", HOUR), detected(monitor)
    assert 100 < sample.effective_rows <= sample.counted_rows < sample.count == 8000
    assert [one.current_count for one in found.features] == [sample.effective_rows] * 3
    assert not found.is_drift_detected


class CountingMonitor(ModelMonitor):
    """A platform's own monitor that gives metrics and counts, and nothing else."""

    def __init__(self, sample: InputSample, metrics: ModelMetrics, usual: ModelMetrics | None, inputs: Any) -> None:
        self._sample, self._metrics, self._usual = sample, metrics, usual
        self._inputs = None if inputs is None else InputSample(rows=inputs)

    def record_prediction(self, event):
        raise AssertionError("a detector records no predictions")

    def record_prediction_error(self, kind, version_id):
        raise AssertionError("a detector records no errors")

    def get_recent_metrics(self, window):
        return self._metrics

    def get_model_metrics(self, version_id, window):
        return self._metrics

    def get_baseline_metrics(self, version_id):
        return self._usual

    def get_recent_input_distribution(self, version_id, window):
        return self._sample

    def get_baseline_input_distribution(self, version_id):
        return self._inputs

    def record_drift_event(self, event):
        return None


def counts_only(rows: np.ndarray, recent: np.ndarray, **values: Any) -> InputSample:
    bins = ReferenceBins.from_rows(rows, ["x0"])
    told = {"count": len(recent), "counted_rows": len(recent), "cell_counts": bins.count(recent), **values}
    return InputSample(rows=np.empty((0, 0)), method="binned", bins=bins, **told)


def test_counts_without_rows_are_enough():
    """A sample without a row but with counts is judged, as that of a monitor which only merges."""
    rows, recent = column(np.arange(200.0)), column(np.arange(200.0) + 50)
    monitor = CountingMonitor(counts_only(rows, recent), ModelMetrics(), None, rows)
    assert detected(monitor).features[0].statistic == pytest.approx(0.25)


def test_counts_are_worth_their_effective_rows():
    """Where a sample says how many rows its counts are worth, p-values go by these, else by those looked at."""
    rows, recent = column(np.arange(200.0)), column(np.arange(200.0) + 50)
    sizes = []
    for values in ({}, {"effective_rows": 64}):
        monitor = CountingMonitor(counts_only(rows, recent, **values), ModelMetrics(), None, rows)
        sizes.append(detected(monitor).features[0].current_count)
    assert sizes == [200, 64]


def test_without_a_baseline_counts_are_not_compared():
    """Where the monitor gives no baseline of inputs there is nothing to compare with, whatever it counted."""
    rows = column(np.arange(200.0))
    monitor = CountingMonitor(counts_only(rows, rows), ModelMetrics(), None, None)
    assert detected(monitor).status is DriftStatus.NO_BASELINE


# ------------------------------------------------------------------------------------------------------- mature labels


def performance(metrics: ModelMetrics, usual: ModelMetrics) -> Any:
    rows = column(np.arange(50.0))
    monitor = CountingMonitor(counts_only(rows, rows), metrics, usual, None)
    return DriftDetector(monitor, clock=ManualClock()).detect_drift("1", HOUR).analysis.performance_drift


def labelled(coverage: float | None, mature: QualityMetrics | None, **values: Any) -> ModelMetrics:
    told = {"request_count": 1000, "labelled_count": 500, "accuracy": 0.95, **values}
    return ModelMetrics(label_coverage=coverage, mature=mature, **told)


USUAL = ModelMetrics(accuracy=0.9, r2=0.9)


@pytest.mark.parametrize(
    ("coverage", "mature_count", "change"),
    [(0.5, 300, -0.1), (0.5, 30, -0.1), (0.5, 29, 0.05), (0.5, 0, 0.05), (1.0, 300, 0.05)],
    ids=["incomplete", "just enough", "too few", "none", "complete"],
)
def test_incomplete_labels_are_judged_where_they_are_mature(coverage, mature_count, change):
    """Where labels are still out and enough are mature, the mature accuracy is judged; else that of all."""
    mature = QualityMetrics(labelled_count=mature_count, accuracy=0.8)
    found = performance(labelled(coverage, mature), USUAL)
    assert found.accuracy_change == pytest.approx(change)


def test_without_mature_labels_all_are_judged():
    """A monitor that says nothing of maturity is judged by all its labels."""
    assert performance(labelled(0.5, None), USUAL).accuracy_change == pytest.approx(0.05)


def test_mature_regressors_are_judged_by_r2():
    """Of a regressor the mature R² is judged."""
    mature = QualityMetrics(labelled_count=100, r2=0.6)
    found = performance(labelled(0.5, mature, accuracy=None, r2=0.95), ModelMetrics(r2=0.9))
    assert found.accuracy_change == pytest.approx(-0.3)


def test_early_labels_raise_no_false_alarm():
    """A service whose wrong answers are labelled later than its right ones does not look better than it is."""
    clock = ManualClock()
    monitor = InMemoryModelMonitor(clock=clock, label_maturity=timedelta(minutes=20))
    monitor.set_baseline("1", metrics=ModelMetrics(accuracy=0.5))
    slow: list[tuple[datetime, int]] = []
    for number in range(360):
        at = clock.now()
        monitor.record_prediction(PredictionEvent(f"p{number}", "1", [0.0], number % 2, 1.0, at))
        if number % 2:
            slow.append((at + timedelta(minutes=15), number))
        else:
            monitor.record_outcome(f"p{number}", 0)
        while slow and slow[0][0] <= at:
            monitor.record_outcome(f"p{slow.pop(0)[1]}", 0)
        clock.advance(10 * SECOND)
    found = DriftDetector(monitor, clock=clock).detect_drift("1", HOUR).analysis.performance_drift
    assert monitor.get_model_metrics("1", HOUR).accuracy > 0.56
    assert found.accuracy_change == pytest.approx(0.0, abs=0.01)
    assert not found.accuracy_drift
