"""Answers against their baseline's, and performance estimated from them before the labels come."""

from __future__ import annotations

import contextlib
import math
from concurrent.futures import ThreadPoolExecutor

import attrs
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from mlserve import DriftPolicy
from mlserve.drift import DirectErrorEstimator, PerformanceEstimator, compare_predictions
from mlserve.drift._predictions import ESTIMATORS_KEPT, LabelFreeEstimates
from mlserve.errors import InvalidArgumentError
from mlserve.records import DriftStatus, ErrorEstimate, PredictionSample


def features(drift):
    return {feature.name: feature for feature in drift.features}


# -------------------------------------------------------------------------------------------------- prediction drift


def test_classes_are_compared_by_chi_square():
    """Classes are categories: Pearson's chi-square of the two counts, and the total variation as effect."""
    before, after = [0] * 600 + [1] * 300 + [2] * 100, [0] * 200 + [1] * 200 + [2] * 100
    expected = stats.chi2_contingency([[600, 300, 100], [200, 200, 100]], correction=False)
    output = features(compare_predictions(PredictionSample(before), PredictionSample(after)))["output"]
    assert (output.kind, output.statistic) == ("categorical", pytest.approx(expected.statistic, rel=1e-12))
    assert output.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert output.effect_size == pytest.approx((0.2 + 0.1 + 0.1) / 2)


def test_numbers_are_compared_by_kolmogorov_smirnov():
    """Numbers with fractions are compared by their distribution functions, with a direction."""
    rng = np.random.default_rng(1)
    before, after = rng.normal(size=500), rng.normal(0.5, size=400)
    expected = stats.ks_2samp(before, after)
    output = features(compare_predictions(PredictionSample(before), PredictionSample(after)))["output"]
    assert (output.kind, output.direction) == ("numeric", "up")
    assert output.statistic == pytest.approx(expected.statistic, rel=1e-12)
    assert output.p_value == pytest.approx(expected.pvalue, rel=0.05)


def test_a_class_never_answered_before_is_named():
    """A class that the baseline does not have is counted and named."""
    before, after = PredictionSample(["cat", "dog"] * 100), PredictionSample(["cat", "dog"] * 90 + ["cow"] * 20)
    output = features(compare_predictions(before, after))["output"]
    assert (output.unseen_categories, output.unseen_count) == (("cow",), 20)


def test_several_outputs_are_compared_one_by_one():
    """Of answers of several numbers each is a feature of its own."""
    rng = np.random.default_rng(2)
    before, after = rng.normal(size=(400, 3)), rng.normal(size=(300, 3)) + [0.0, 1.0, 0.0]
    drift = compare_predictions(PredictionSample(before), PredictionSample(after))
    assert list(features(drift)) == ["output[0]", "output[1]", "output[2]"]
    assert [feature.name for feature in drift.drifted_features] == ["output[1]"]


def test_several_outputs_of_text_are_compared_one_by_one():
    """Answers of several classes each are columns of categories."""
    before, after = ([["a", "x"], ["b", "x"]] * 50, [["a", "x"], ["b", "y"]] * 50)
    drift = compare_predictions(PredictionSample(before), PredictionSample(after))
    assert [feature.name for feature in drift.drifted_features] == ["output[1]"]


def test_confidences_are_compared():
    """Where both samples have confidences, they are a feature beside the answers."""
    rng = np.random.default_rng(3)
    before = PredictionSample([0, 1] * 200, confidences=rng.uniform(0.8, 1.0, 400))
    after = PredictionSample([0, 1] * 200, confidences=rng.uniform(0.6, 0.8, 400))
    found = features(compare_predictions(before, after))
    assert (found["output"].is_drift_detected, found["confidence"].is_drift_detected) == (False, True)
    assert (found["confidence"].effect_size, found["confidence"].direction) == (1.0, "down")


@pytest.mark.parametrize("absent", [None, np.full(100, np.nan)], ids=["none", "all missing"])
@pytest.mark.parametrize("side", [0, 1], ids=["baseline", "recent"])
def test_confidences_of_one_side_tell_nothing(absent, side):
    """Confidences that only one sample has are left out."""
    samples = [PredictionSample([0, 1] * 50, confidences=np.full(100, 0.9)) for _ in range(2)]
    samples[side] = PredictionSample([0, 1] * 50, confidences=absent)
    assert list(features(compare_predictions(*samples))) == ["output"]


def test_p_values_are_adjusted_over_answers_and_confidences():
    """The correction counts the answers and the confidences: with Bonferroni's each p-value is doubled."""
    rng = np.random.default_rng(4)
    before, after = (PredictionSample(rng.normal(size=200), confidences=rng.uniform(size=200)) for _ in range(2))
    for feature in compare_predictions(before, after, policy=DriftPolicy(correction="bonferroni")).features:
        assert feature.adjusted_p_value == pytest.approx(min(1.0, 2 * feature.p_value))


def test_the_policy_decides():
    """The thresholds are those of the policy: here no effect is large enough."""
    before, after = PredictionSample([0] * 400 + [1] * 100), PredictionSample([0] * 250 + [1] * 250)
    assert compare_predictions(before, after).status is DriftStatus.DRIFT
    assert compare_predictions(before, after, policy=DriftPolicy(min_effect=0.5)).status is DriftStatus.OK


@pytest.mark.parametrize(
    ("before", "after"),
    [((100, 2), (100, 3)), ((100, 3), (100, 2)), ((100,), (100, 1)), ((100, 1), (100,))],
    ids=lambda shape: "x".join(map(str, shape)),
)
def test_answers_of_another_width_are_refused(before, after):
    """Answers that have not the baseline's width cannot be compared, neither wider nor narrower ones."""
    with pytest.raises(InvalidArgumentError, match="width"):
        compare_predictions(PredictionSample(np.zeros(before)), PredictionSample(np.zeros(after)))


@pytest.mark.parametrize("odd", [{"a": 1}, [1, 2, [3]], {1, 2}], ids=["mapping", "nested list", "set"])
def test_answers_that_cannot_be_told_apart_are_refused(odd):
    """Answers without a hash cannot be counted: an error of ours says so."""
    with pytest.raises(InvalidArgumentError, match="told apart"):
        compare_predictions(PredictionSample([odd] * 40), PredictionSample([odd] * 40))


@pytest.mark.parametrize("counts", [(0, 100), (100, 0), (29, 100), (100, 29), (0, 0)], ids=str)
@pytest.mark.parametrize("width", [(), (3,)], ids=["numbers", "vectors"])
def test_too_few_answers_are_insufficient(counts, width):
    """Fewer answers than ``min_samples`` on either side, also none, say nothing: that is a status."""
    # A monitor that saw no answer does not know how wide they would have been.
    before, after = (PredictionSample(np.zeros((count, *width)) if count else []) for count in counts)
    assert compare_predictions(before, after).status is DriftStatus.INSUFFICIENT_DATA


# ------------------------------------------------------------------------------------- performance without labels


def estimate(baseline, recent, min_samples=30):
    return LabelFreeEstimates(min_samples).estimate("1", baseline, recent)


def binary_data(seed, n, shift=0.0):
    """Inputs of two features, and labels that are likelier where their sum is high."""
    rng = np.random.default_rng(seed)
    x = rng.normal(shift, size=(n, 2))
    return x, (rng.uniform(size=n) < 1 / (1 + np.exp(-2 * x.sum(axis=1)))).astype(int)


@pytest.fixture(scope="module")
def binary():
    """A classifier of two classes, rows with labels that it did not see, and rows of a window."""
    model = LogisticRegression().fit(*binary_data(1, 500))
    return model, *binary_data(2, 1500), binary_data(3, 800, shift=0.3)[0]


def answers(model, x, names=None, **values):
    """What a server and its monitor make of a model's answers: each with the probability that it had."""
    probabilities = model.predict_proba(x)
    outputs = model.predict(x)
    return PredictionSample(
        outputs if names is None else names[outputs], confidences=probabilities.max(axis=1), **values
    )


def flat(estimate):
    """Every number of an estimate by the name of its field."""
    values = {name: value for name, value in attrs.asdict(estimate).items() if value is not None}
    bands = {f"{name}[{end}]": values[name][end] for name in values if "_band" in name for end in (0, 1)}
    return {name: value for name, value in values.items() if "_band" not in name} | bands


def same(first, second):
    """Whether two estimates are equal in every field, but for rounding."""
    return flat(first) == pytest.approx(flat(second), rel=1e-9)


def test_two_classes_are_estimated_from_the_confidence_of_the_answer(binary):
    """The confidence of the answer tells as much as the column of probabilities: the estimate is the same."""
    model, x, y, window = binary
    direct = PerformanceEstimator.fit(model.predict_proba(x)[:, 1], model.predict(x), y)
    found, detail = estimate(answers(model, x, labels=y), answers(model, window))
    assert detail == ""
    assert same(found, direct.estimate(model.predict_proba(window)[:, 1], model.predict(window)))


@pytest.mark.parametrize("names", [["no", "yes"], [False, True], [-1.0, 1.0], [7, 9]], ids=str)
def test_labels_may_be_of_any_type(binary, names):
    """Text, bools and numbers as classes give the same estimate, in the order in which they sort."""
    model, x, y, window = binary
    called = np.array(names)
    found, _ = estimate(answers(model, x, called, labels=called[y]), answers(model, window, called))
    expected, _ = estimate(answers(model, x, labels=y), answers(model, window))
    assert found == expected


def test_more_classes_are_estimated_from_the_confidence_of_the_answer():
    """Of more than two classes the confidence of the answer is its score, as ``PerformanceEstimator`` takes it."""
    x, y = load_iris(return_X_y=True)
    names, order = np.array(["setosa", "versicolor", "virginica"]), np.random.default_rng(5).permutation(150)
    model = LogisticRegression(max_iter=1000).fit(x[order[:60]], y[order[:60]])
    rest = order[60:]
    direct = PerformanceEstimator.fit(model.predict_proba(x[rest]), model.predict(x[rest]), y[rest])
    window = x[rest] + [0.0, 0.0, 0.3, 0.1]
    found, _ = estimate(answers(model, x[rest], names, labels=names[y[rest]]), answers(model, window, names))
    assert same(found, direct.estimate(model.predict_proba(window), model.predict(window)))
    assert found.roc_auc is None


def test_answers_without_confidence_are_left_out(binary):
    """Rows whose confidence is NaN, in the baseline and in the window, change nothing."""
    model, x, y, window = binary
    baseline, recent = answers(model, x, labels=y), answers(model, window)

    def padded(sample, **values):
        """The same with answers of no confidence before, of which every one was wrong."""
        outputs = np.concatenate([np.zeros(50, int), sample.outputs])
        return PredictionSample(outputs, confidences=np.append(np.full(50, np.nan), sample.confidences), **values)

    found, _ = estimate(padded(baseline, labels=np.append(np.ones(50, int), y)), padded(recent))
    assert found == estimate(baseline, recent)[0]


def regression(seed, n, shift=0.0):
    rng = np.random.default_rng(seed)
    x = rng.uniform(shift, 1.0 + shift, size=(n, 2))
    return x, x.sum(axis=1) + rng.normal(size=n) * x[:, 0]


def regressor_answers(x, **values):
    return PredictionSample(x.sum(axis=1), inputs=x, **values)


def test_a_regressor_is_estimated_from_its_inputs():
    """Without confidences, numbers are estimated by ``DirectErrorEstimator`` from labels less answers."""
    x, y = regression(6, 900)
    window, _ = regression(7, 400, shift=0.5)
    direct = DirectErrorEstimator.fit(x, y - x.sum(axis=1))
    found, detail = estimate(regressor_answers(x, labels=y), regressor_answers(window))
    assert isinstance(found, ErrorEstimate)
    assert (found, detail) == (direct.estimate(window), "")


def test_whole_numbers_of_a_regressor_will_do():
    """One fraction among answers or labels tells a regressor, as it does in the monitor's metrics."""
    x, y = regression(8, 300)
    whole = PredictionSample(np.round(x.sum(axis=1)).astype(int), inputs=x, labels=y)
    assert isinstance(estimate(whole, whole)[0], ErrorEstimate)


X, Y = regression(9, 60)
CODES = (np.arange(60) % 2).tolist()
SURE = np.full(60, 0.9)
LABELLED = PredictionSample(CODES, confidences=SURE, labels=CODES)
NUMBERS = regressor_answers(X, labels=Y)
NO_ESTIMATE = {
    "no baseline": (None, LABELLED, "set_baseline_predictions"),
    "no labels": (PredictionSample(CODES, confidences=SURE), LABELLED, "set_baseline_predictions"),
    "too few": (LABELLED, PredictionSample(CODES[:29], confidences=SURE[:29]), "29 answers"),
    "none": (LABELLED, PredictionSample([]), "0 answers"),
    "classes without confidences": (PredictionSample(CODES, labels=CODES, inputs=X), LABELLED, "confidences"),
    "text without confidences": (PredictionSample(["a", "b"] * 30, labels=["a", "b"] * 30), LABELLED, "confidences"),
    "no recent confidences": (LABELLED, PredictionSample(CODES), "confidences"),
    "only missing recent confidences": (LABELLED, PredictionSample(CODES, confidences=[np.nan] * 60), "confidences"),
    "unseen class": (LABELLED, PredictionSample([0, 5] * 30, confidences=SURE), "classes"),
    "one class": (PredictionSample([1] * 60, confidences=SURE, labels=[1] * 60), LABELLED, "at least two"),
    "missing labels": (PredictionSample(CODES, confidences=SURE, labels=[0.0, np.nan] * 30), LABELLED, "missing"),
    "labels of another type": (PredictionSample(CODES, confidences=SURE, labels=["0", "1"] * 30), LABELLED, "one type"),
    "few labels": (PredictionSample([0, 1] * 5, confidences=[0.9] * 10, labels=[0, 1] * 5), LABELLED, "at least 30"),
    "no inputs": (PredictionSample(Y, labels=Y), NUMBERS, "with inputs"),
    "unusable inputs": (NUMBERS, PredictionSample(Y), "inputs"),
    "inputs of another width": (NUMBERS, PredictionSample(Y, inputs=X[:, :1]), "2 features"),
    "inputs of text": (PredictionSample(Y, labels=Y, inputs=[["a"]] * 60), NUMBERS, "numbers"),
    "several numbers": (PredictionSample(X, labels=Y, inputs=X), NUMBERS, "confidences"),
    "endless error": (PredictionSample(np.full(60, np.inf), labels=Y, inputs=X), NUMBERS, "finite"),
    "endless both": (PredictionSample(np.full(60, np.inf), labels=[np.inf] + [0.5] * 59, inputs=X), NUMBERS, "finite"),
    "overflow": (PredictionSample([1e308, 0.5] * 30, labels=[-1e308, 0.5] * 30, inputs=X), NUMBERS, "finite"),
}


@pytest.mark.parametrize(("baseline", "recent", "reason"), NO_ESTIMATE.values(), ids=NO_ESTIMATE)
def test_where_nothing_can_be_estimated_the_reason_is_told(baseline, recent, reason):
    """What cannot be estimated is None with a reason in words, never an exception."""
    found, detail = estimate(baseline, recent)
    assert found is None
    assert reason in detail


@pytest.mark.parametrize(
    "odd",
    [
        np.zeros((60, 1)), np.zeros((60, 2)), ["0", "1"] * 30, [None] * 60, [{}] * 60, [np.zeros(1), np.zeros(2)] * 30,
        [pd.NA] * 60, [pd.NA, 0] * 30, [0, "1"] * 30, [1j] * 60, [float("nan")] * 60, [object()] * 60,
    ],
    ids=["table of one", "table", "text", "None", "mappings", "ragged", "NA", "some NA", "mixed", "complex", "NaN",
         "objects"],
)  # fmt: skip
@pytest.mark.parametrize("classes", [[0, 1], [0, 1, 2], ["a", "b"]], ids=str)
def test_odd_answers_are_not_estimated(odd, classes):
    """Answers of whatever type and shape, none of them a class of the baseline, give a reason, never an exception."""
    baseline = PredictionSample(classes * 60, confidences=[0.9] * len(classes) * 60, labels=classes * 60)
    recent = PredictionSample(odd, confidences=SURE)
    assert estimate(baseline, recent)[0] is None
    assert estimate(attrs.evolve(recent, labels=CODES), baseline)[0] is None


ANSWER = st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=2) | st.lists(st.integers())
COLUMN = st.one_of(
    st.lists(ANSWER, max_size=8),
    st.lists(st.integers(0, 2), max_size=8),
    st.lists(st.sampled_from("ab"), max_size=8),
    st.lists(st.floats(-1e308, 1e308), max_size=8),
    st.integers(0, 8).map(lambda n: np.zeros((n, 2))),
)


@st.composite
def samples(draw):
    """Answers of any kind, repeated until there are enough of them, with or without what belongs to each."""
    outputs = draw(COLUMN)
    n = len(outputs)
    optional = {
        "confidences": st.lists(st.floats(0, 1) | st.just(float("nan")), min_size=n, max_size=n),
        "labels": st.lists(st.one_of(st.integers(0, 2), st.sampled_from("ab"), st.floats()), min_size=n, max_size=n),
        "inputs": st.lists(st.lists(st.floats(), min_size=2, max_size=2), min_size=n, max_size=n) if n else st.none(),
    }
    repeated = draw(st.sampled_from([1, 20]))
    beside = {name: draw(st.none() | values) for name, values in optional.items()}
    return PredictionSample(
        list(outputs) * repeated,
        **{name: None if values is None else values * repeated for name, values in beside.items()},
    )


@given(samples(), samples())
@settings(deadline=None, max_examples=60)
def test_no_answers_raise_anything_but_errors_of_ours(baseline, recent):
    """Any two samples are compared or refused by name, and estimated or told why not; never a warning, never NaN."""
    found, detail = estimate(baseline, recent, min_samples=5)
    assert (found is None) == bool(detail)
    assert found is None or not any(math.isnan(value) for value in flat(found).values())
    with contextlib.suppress(InvalidArgumentError):
        drift = compare_predictions(baseline, recent, policy=DriftPolicy(min_samples=5))
        assert all(feature.p_value is None or 0 <= feature.p_value <= 1 for feature in drift.features)


# -------------------------------------------------------------------------------------------- what is learned is kept


def test_an_estimator_is_fitted_once_for_a_baseline():
    """As long as a version has the same baseline, its estimator is the one that was fitted first."""
    estimates = LabelFreeEstimates(30)
    first = estimates._estimator("1", LABELLED)
    estimates.estimate("1", LABELLED, LABELLED)
    assert estimates._estimator("1", LABELLED) is first


def test_a_new_baseline_is_learned_from():
    """Another baseline of the same version gives the estimate that it would have given alone."""
    estimates = LabelFreeEstimates(30)
    worse = PredictionSample(CODES, confidences=SURE, labels=[0] * 60)
    found = [estimates.estimate("1", baseline, LABELLED)[0] for baseline in (LABELLED, worse, LABELLED)]
    assert found == [estimate(LABELLED, LABELLED)[0], estimate(worse, LABELLED)[0], estimate(LABELLED, LABELLED)[0]]
    assert found[0] != found[1]


def test_versions_do_not_share_what_was_learned():
    """Each version is estimated by its own baseline."""
    estimates = LabelFreeEstimates(30)
    estimates.estimate("1", LABELLED, LABELLED)
    found, _ = estimates.estimate("2", NUMBERS, NUMBERS)
    assert found == estimate(NUMBERS, NUMBERS)[0]


def test_only_the_last_versions_are_kept():
    """The estimators of the eight versions fitted last are kept; an earlier one is fitted again."""
    estimates = LabelFreeEstimates(30)
    fitted = {str(version): estimates._estimator(str(version), LABELLED) for version in range(ESTIMATORS_KEPT + 1)}
    # The oldest is asked for last, for it is fitted again and takes the place of another.
    kept = [estimates._estimator(version, LABELLED) is one for version, one in reversed(fitted.items())]
    assert kept == [True] * ESTIMATORS_KEPT + [False]


def test_a_version_that_was_fitted_again_is_a_young_one():
    """A version whose baseline changed counts as fitted last."""
    estimates = LabelFreeEstimates(30)
    for version in range(ESTIMATORS_KEPT):
        estimates._estimator(str(version), LABELLED)
    again = estimates._estimator("0", NUMBERS)
    estimates._estimator("new", LABELLED)
    assert estimates._estimator("0", NUMBERS) is again


def test_threads_may_estimate_at_once():
    """Estimates asked for by several threads, of more versions than are kept, are those of one thread."""
    estimates, expected = LabelFreeEstimates(30), [estimate(one, one) for one in (LABELLED, NUMBERS)]

    def ask(number):
        version = number % (ESTIMATORS_KEPT + 3)
        baseline = (LABELLED, NUMBERS)[version % 2]
        return version % 2, estimates.estimate(str(version), baseline, baseline)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(200)))
    assert all(answer == expected[kind] for kind, answer in found)
