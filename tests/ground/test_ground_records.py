"""The values that mlserve answers with."""

from __future__ import annotations

import copy
import html
import inspect
import json
import math
import pickle
import re
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum

import attrs
import numpy as np
import pandas as pd
import pytest

import mlserve.records
from mlserve.errors import ErrorKind, InvalidArgumentError, PredictionExceptionError, VersionNotFoundError
from mlserve.numerics import LatencyHistogram
from mlserve.records import (
    Baseline,
    CheckStatus,
    ClassMetrics,
    ConceptDrift,
    DataDrift,
    DriftAnalysis,
    DriftDetectionResult,
    DriftEvent,
    DriftSeverity,
    DriftStatus,
    DriftType,
    ErrorEstimate,
    EventPage,
    FailureEvent,
    FeatureDrift,
    HealthCheck,
    HealthState,
    HealthStatus,
    HistoryEntry,
    InputSample,
    ModelMetrics,
    ModelVersion,
    MonitorSnapshot,
    MonitorStatistics,
    OutcomeEvent,
    PerformanceDrift,
    PerformanceEstimate,
    PredictionEvent,
    PredictionSample,
    QualityMetrics,
    Route,
    ServerStatistics,
    ServingResult,
    Stage,
    Task,
    VersionDescription,
)
from mlserve.records._monitoring import fault_count
from mlserve.records._serving import build_result
from mlserve.records._values import FrozenMapping

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
NAIVE = datetime(2026, 1, 1, 12)
SCRIPT = "<script>alert('x')</script>"


def analysis(**data) -> DriftAnalysis:
    return DriftAnalysis(
        performance_drift=PerformanceDrift(), data_drift=DataDrift(**data), concept_drift=ConceptDrift()
    )


def detection(**data) -> DriftDetectionResult:
    return DriftDetectionResult(
        model_version="1",
        time_window=timedelta(hours=1),
        is_drift_detected=True,
        status=DriftStatus.DRIFT,
        severity=DriftSeverity.HIGH,
        primary_type=DriftType.DATA,
        analysis=analysis(**data),
        recommended_action="Look at the data",
        detected_at=NOW,
    )


EXAMPLES = {
    Baseline: lambda: Baseline(metrics=ModelMetrics(accuracy=0.9)),
    ClassMetrics: lambda: ClassMetrics("cat", 0.5, 0.25, 1 / 3, 8, 4),
    ConceptDrift: ConceptDrift,
    DataDrift: lambda: DataDrift(features=(FeatureDrift(name="a"),)),
    DriftAnalysis: analysis,
    DriftDetectionResult: detection,
    DriftEvent: lambda: DriftEvent(
        model_version="1",
        drift_type=DriftType.DATA,
        severity=DriftSeverity.LOW,
        detected_at=NOW,
        analysis=analysis(),
    ),
    ErrorEstimate: lambda: ErrorEstimate(
        n_samples=100,
        mean_absolute_error=0.5,
        mean_absolute_error_sampling_error=0.05,
        mean_absolute_error_band=(0.35, 0.65),
    ),
    EventPage: lambda: EventPage((), 0, 0),
    FailureEvent: lambda: FailureEvent("f", None, None, "Overloaded", 1.0, NOW),
    FeatureDrift: lambda: FeatureDrift(name="a"),
    HealthCheck: lambda: HealthCheck("prediction", CheckStatus.PASS, "1.0 ms"),
    HealthStatus: lambda: HealthStatus(True, HealthState.HEALTHY, "1", ("1",), 0.0, 1.0, NOW),
    HistoryEntry: lambda: HistoryEntry(1, "register", "1", NOW),
    InputSample: lambda: InputSample(rows=np.zeros((2, 3))),
    ModelMetrics: lambda: ModelMetrics(request_count=3, latency_histogram=LatencyHistogram.from_values([1.0, 2.0])),
    ModelVersion: lambda: ModelVersion("1", NOW, tags={"a": "b"}),
    MonitorSnapshot: lambda: MonitorSnapshot(
        source="a", sequence=1, after=0, taken_at=NOW, header={"versions": ["1"]}, columns={"width": np.array([1])}
    ),
    MonitorStatistics: MonitorStatistics,
    OutcomeEvent: lambda: OutcomeEvent("o", "1", 0, 1, NOW, NOW),
    PerformanceDrift: PerformanceDrift,
    PerformanceEstimate: lambda: PerformanceEstimate(
        n_samples=100, accuracy=0.75, accuracy_sampling_error=0.02, accuracy_band=(0.69, 0.81)
    ),
    PredictionEvent: lambda: PredictionEvent("p", "1", [1.0], 0, 1.0, NOW),
    PredictionSample: lambda: PredictionSample([0, 1], confidences=[0.9, 0.8], labels=[0, 1], inputs=[[1.0], [2.0]]),
    QualityMetrics: lambda: QualityMetrics(prediction_count=8, labelled_count=4, label_coverage=0.5, accuracy=0.75),
    Route: lambda: Route("2", "canary"),
    ServerStatistics: lambda: ServerStatistics(
        accepted=5,
        answered=3,
        failed=1,
        degraded=1,
        shed=1,
        cancelled=1,
        timed_out=1,
        batches=1,
        batched=2,
        fallback_errors=1,
        router_errors=1,
        breakers={"1": "OPEN"},
        leases={"1": 0},
        loaded_models=("1",),
    ),
    ServingResult: lambda: ServingResult(True, 0, None, ModelVersion("1", NOW), 1.0, "p"),
    VersionDescription: lambda: VersionDescription(ModelVersion("1", NOW)),
}
"""One example of every record."""


# ----------------------------------------------------------------------------------------------------- every record


def test_the_tests_know_every_record():
    """No record is missing from these tests."""
    exported = {getattr(mlserve.records, name) for name in mlserve.records.__all__}
    assert {cls for cls in exported if not issubclass(cls, Enum)} == set(EXAMPLES)


@pytest.mark.parametrize("cls", EXAMPLES)
def test_a_record_is_frozen(cls):
    """No attribute of a record can be set, and none added."""
    record = EXAMPLES[cls]()
    for field in attrs.fields(cls):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(record, field.name, None)
    with pytest.raises((attrs.exceptions.FrozenInstanceError, AttributeError)):
        record.something_else = 1


@pytest.mark.parametrize("cls", EXAMPLES)
def test_every_field_is_documented(cls):
    """The docstring of a record tells what each field is."""
    section = inspect.getdoc(cls).partition("Attributes:")[2].partition("\n\n")[0]
    documented = set(re.findall(r"^ {4}(\w+): ", section, re.MULTILINE))
    assert documented == {field.name for field in attrs.fields(cls)}


@pytest.mark.parametrize("cls", EXAMPLES)
def test_a_record_survives_pickling(cls):
    """A pickled record comes back with the same values."""
    record = EXAMPLES[cls]()
    back = pickle.loads(pickle.dumps(record))
    assert type(back) is cls
    assert repr(back) == repr(record)


@pytest.mark.parametrize("cls", EXAMPLES)
def test_a_record_survives_copying(cls):
    """A deeply copied record has the same values."""
    record = EXAMPLES[cls]()
    assert repr(copy.deepcopy(record)) == repr(record)


@pytest.mark.parametrize(
    "cls",
    [
        ClassMetrics, ConceptDrift, DataDrift, DriftAnalysis, DriftDetectionResult, DriftEvent, ErrorEstimate,
        FeatureDrift, HealthCheck, HealthStatus, HistoryEntry, ModelMetrics, ModelVersion, MonitorStatistics,
        PerformanceDrift, PerformanceEstimate, QualityMetrics, Route, ServerStatistics, ServingResult,
    ],
)  # fmt: skip
def test_records_of_the_same_values_are_equal(cls):
    """Two records with the same values are equal."""
    assert EXAMPLES[cls]() == EXAMPLES[cls]()


@pytest.mark.parametrize(
    "cls",
    [
        EventPage,
        FailureEvent,
        InputSample,
        MonitorSnapshot,
        OutcomeEvent,
        PredictionEvent,
        PredictionSample,
        Baseline,
        VersionDescription,
    ],
)
def test_records_that_may_hold_arrays_are_equal_to_themselves_only(cls):
    """A record that may hold an array is compared by identity, so that comparing never fails."""
    record = EXAMPLES[cls]()
    assert record == record
    assert record != EXAMPLES[cls]()


TIMES = [
    (FailureEvent, "timestamp"),
    (DriftDetectionResult, "detected_at"),
    (DriftEvent, "detected_at"),
    (HealthStatus, "last_check"),
    (HistoryEntry, "at"),
    (ModelVersion, "created_at"),
    (MonitorSnapshot, "taken_at"),
    (OutcomeEvent, "predicted_at"),
    (OutcomeEvent, "timestamp"),
    (PredictionEvent, "timestamp"),
]


def test_the_tests_know_every_time():
    """No field that holds a time is missing from the tests below."""
    found = {
        (cls, field.name)
        for cls in EXAMPLES
        for field in attrs.fields(cls)
        if isinstance(getattr(EXAMPLES[cls](), field.name), datetime)
    }
    assert found == set(TIMES)


@pytest.mark.parametrize(("cls", "name"), TIMES)
@pytest.mark.parametrize("value", [NAIVE, "2026-01-01", 0.0, None])
def test_a_time_without_a_zone_is_refused(cls, name, value):
    """``InvalidArgumentError`` is raised for a naive time, naming the field."""
    with pytest.raises(InvalidArgumentError, match=name):
        attrs.evolve(EXAMPLES[cls](), **{name: value})


@pytest.mark.parametrize(("cls", "name"), TIMES)
def test_a_time_is_kept_in_utc(cls, name):
    """A time of another zone is kept as the same moment in UTC."""
    elsewhere = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    kept = getattr(attrs.evolve(EXAMPLES[cls](), **{name: elsewhere}), name)
    assert (kept, kept.tzinfo) == (NOW, UTC)


@pytest.mark.parametrize("cls", [cls for cls in EXAMPLES if hasattr(cls, "_repr_html_")], ids=lambda cls: cls.__name__)
def test_a_record_for_people_shows_in_a_notebook(cls):
    """A record that renders gives a table of HTML."""
    assert EXAMPLES[cls]()._repr_html_().startswith("<table")


@pytest.mark.parametrize(
    "record",
    [
        ServingResult(True, value=SCRIPT),
        ServingResult(False, error=PredictionExceptionError(SCRIPT)),
        ServingResult(True, version=ModelVersion(SCRIPT, NOW)),
        ServingResult(True, prediction_id=SCRIPT),
        ServingResult(True, arm=SCRIPT, degraded=SCRIPT),
        HealthStatus(False, HealthState.UNHEALTHY, SCRIPT, (SCRIPT,), None, None, NOW),
        HealthStatus(
            False, HealthState.UNHEALTHY, "1", (), None, None, NOW, checks=(HealthCheck("a", CheckStatus.FAIL, SCRIPT),)
        ),
        ModelMetrics(model_version=SCRIPT),
        ModelMetrics(errors_by_kind={SCRIPT: 1}),
        DataDrift(features=(FeatureDrift(name=SCRIPT),)),
        attrs.evolve(detection(), model_version=SCRIPT),
        attrs.evolve(detection(), recommended_action=SCRIPT),
        detection(features=(FeatureDrift(name=SCRIPT),)),
    ],
    ids=lambda record: type(record).__name__,
)
def test_what_a_notebook_shows_is_escaped(record):
    """Text of callers, models and features is escaped in HTML."""
    html = record._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;" in html


# ---------------------------------------------------------------------------------------------------- FrozenMapping


def test_a_frozen_mapping_equals_a_dict():
    """It compares equal to any mapping with the same items."""
    assert FrozenMapping({"a": 1}) == {"a": 1}
    assert FrozenMapping({"a": 1}) != {"a": 2}


def test_a_frozen_mapping_reads_like_a_dict():
    """It has length, order, membership and items of what it was made of."""
    mapping = FrozenMapping({"b": 1, "a": 2})
    assert (len(mapping), list(mapping), "a" in mapping, mapping.get("c"), dict(mapping)) == (
        2, ["b", "a"], True, None, {"b": 1, "a": 2},
    )  # fmt: skip


def test_a_frozen_mapping_cannot_be_changed():
    """Neither setting nor deleting an item is possible."""
    mapping = FrozenMapping({"a": 1})
    with pytest.raises(TypeError):
        mapping["a"] = 2
    with pytest.raises(TypeError):
        del mapping["a"]


def test_a_frozen_mapping_is_a_copy():
    """Changing the dict it was made of does not change it."""
    items = {"a": 1}
    mapping = FrozenMapping(items)
    items["a"] = 2
    assert mapping["a"] == 1


def test_a_frozen_mapping_of_nothing_is_empty():
    """None makes an empty one."""
    assert FrozenMapping(None) == FrozenMapping() == {}


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_a_frozen_mapping_can_be_copied_and_pickled(way):
    """Copies, deep copies and pickles are equal."""
    assert way(FrozenMapping({"a": [1]})) == {"a": [1]}


def test_a_frozen_mapping_shows_its_items():
    """Its representation is that of a dict."""
    assert repr(FrozenMapping({"a": 1})) == "{'a': 1}"


# ------------------------------------------------------------------------------------------------------------ enums


def test_severities_are_ordered():
    """NONE < LOW < MEDIUM < HIGH, not by spelling."""
    assert sorted([DriftSeverity.HIGH, DriftSeverity.NONE, DriftSeverity.MEDIUM, DriftSeverity.LOW]) == [
        DriftSeverity.NONE, DriftSeverity.LOW, DriftSeverity.MEDIUM, DriftSeverity.HIGH,
    ]  # fmt: skip


@pytest.mark.parametrize("first", DriftSeverity)
@pytest.mark.parametrize("second", DriftSeverity)
def test_comparisons_of_severities_agree(first, second):
    """All four comparisons follow the order of definition."""
    ranks = list(DriftSeverity).index(first), list(DriftSeverity).index(second)
    assert (first < second, first <= second, first > second, first >= second) == (
        ranks[0] < ranks[1], ranks[0] <= ranks[1], ranks[0] > ranks[1], ranks[0] >= ranks[1],
    )  # fmt: skip


def test_a_severity_compares_with_its_spelling():
    """A severity compares with the text of another, for policies that come from a file."""
    assert DriftSeverity.HIGH > "LOW"
    assert DriftSeverity.NONE <= "NONE"


def test_a_severity_does_not_compare_with_other_text():
    """A comparison with what is no severity is an error, not an order by spelling."""
    with pytest.raises((TypeError, ValueError)):
        assert DriftSeverity.HIGH > "SOMETHING"


@pytest.mark.parametrize("word", ["classification", "classifier", Task.CLASSIFICATION])
def test_a_task_understands_two_vocabularies(word):
    """scikit-learn's words name a task too."""
    assert Task(word) is Task.CLASSIFICATION


@pytest.mark.parametrize("word", ["clustering", "", 5, None])
def test_a_task_that_does_not_exist_is_an_error(word):
    """Any other word names no task."""
    with pytest.raises(ValueError, match="Task"):
        Task(word)


@pytest.mark.parametrize("enum", [Stage, DriftSeverity, DriftType, DriftStatus, HealthState, CheckStatus])
def test_members_are_spelled_as_they_are_named(enum):
    """A member's value is its name, so that code, logs and files share one spelling."""
    assert [member.value for member in enum] == [member.name for member in enum]


# ----------------------------------------------------------------------------------------------------- ModelVersion


def test_versions_are_equal_by_id():
    """Two versions are equal, and hash alike, when their ids are, whatever else they carry."""
    first = ModelVersion("1", NOW, digest="a", tags={"a": "b"})
    second = ModelVersion("1", NOW + timedelta(days=1), digest="c")
    assert (first, hash(first)) == (second, hash(second))
    assert first != ModelVersion("2", NOW, digest="a", tags={"a": "b"})


def test_a_version_can_be_a_key():
    """A version can be looked up in a dict by another of the same id."""
    assert {ModelVersion("1", NOW): "first"}[ModelVersion("1", NOW + timedelta(days=1))] == "first"


def test_the_text_of_a_version_is_its_id():
    """``str(version)`` is its id."""
    assert f"{ModelVersion('7', NOW)}" == "7"


@pytest.mark.parametrize("version_id", ["", None, 1, b"1"])
def test_an_id_is_text(version_id):
    """``InvalidArgumentError`` is raised for an id that is no text, or empty."""
    with pytest.raises(InvalidArgumentError):
        ModelVersion(version_id, NOW)


@pytest.mark.parametrize("tags", [{"a": 1}, {1: "a"}, {"a": None}, "text", 5, ["a"]])
def test_tags_are_text(tags):
    """``InvalidArgumentError`` is raised for tags that are no mapping from text to text."""
    with pytest.raises(InvalidArgumentError):
        ModelVersion("1", NOW, tags=tags)


def test_tags_cannot_be_changed():
    """The tags of a version are immutable, and a copy of what was given."""
    given = {"a": "b"}
    version = ModelVersion("1", NOW, tags=given)
    given["a"] = "c"
    assert version.tags == {"a": "b"}
    with pytest.raises(TypeError):
        version.tags["a"] = "c"


# ---------------------------------------------------------------------------------------------------- ServingResult


@pytest.mark.parametrize("value", [0, None, "cat", (1, 2)])
def test_unwrapping_a_success_gives_the_value(value):
    """``unwrap`` gives the value, also one that is false or None."""
    assert ServingResult(True, value).unwrap() == value


def test_unwrapping_a_failure_raises_its_error():
    """``unwrap`` raises the error's class with its message and values, caused by the original exception."""
    inner = ZeroDivisionError("inner")
    error = PredictionExceptionError("it failed.", hint="Look.", exception=inner, version_id="3")
    with pytest.raises(PredictionExceptionError, match=r"it failed\. Look\.") as caught:
        ServingResult(False, error=error).unwrap()
    assert caught.value.__cause__ is inner
    assert (caught.value.exception, caught.value.version_id) == (inner, "3")


def test_each_unwrapping_raises_a_fresh_copy():
    """``unwrap`` never raises the kept error itself, which stays without a traceback."""
    error = VersionNotFoundError("no such version.", exception=KeyError("inner"))
    result = ServingResult(False, error=error)
    raised = []
    for _ in range(2):
        with pytest.raises(VersionNotFoundError) as caught:
            result.unwrap()
        raised.append(caught.value)
    assert raised[0] is not raised[1]
    assert error not in raised
    assert (error.__traceback__, error.exception.__traceback__) == (None, None)


def test_the_cheap_way_builds_the_same_result():
    """``build_result`` gives what the constructor gives: class, values, equality, frozenness."""
    values = (True, 5, None, ModelVersion("1", NOW), 1.5, "p", "a", "b")
    cheap, dear = build_result(*values), ServingResult(*values)
    assert type(cheap) is ServingResult
    assert cheap == dear
    assert repr(cheap) == repr(dear)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        cheap.value = 6


def test_a_result_shows_what_matters():
    """The representation names the value, or kind and message of the error."""
    assert "value=5" in repr(ServingResult(True, 5))
    failed = repr(ServingResult(False, error=VersionNotFoundError("no such version.")))
    assert "VersionNotFound: no such version." in failed
    assert "value=" not in failed


def test_a_result_shows_arm_and_fallback_only_where_there_are():
    """Arm and fallback are shown where there are any."""
    assert "arm" not in repr(ServingResult(True, 5))
    assert "arm=b" in repr(ServingResult(True, 5, arm="b", degraded="previous version"))


# ----------------------------------------------------------------------------------------------- metrics and health


def test_metrics_show_absent_evidence_as_a_dash():
    """What has no evidence is shown as a dash, not as 0."""
    assert re.search(r"accuracy +-\n", repr(ModelMetrics()))


def test_metrics_of_a_regressor_show_its_error():
    """A regressor's metrics show error and R² in place of the accuracy."""
    shown = repr(ModelMetrics(mean_absolute_error=0.5, r2=0.75))
    assert "0.5" in shown
    assert "0.75" in shown
    assert "accuracy" not in shown


def test_metrics_name_version_and_window():
    """The title says which version and how long."""
    assert repr(ModelMetrics(model_version="3", window=timedelta(hours=1))).startswith("Metrics of version 3 over 1:00")
    assert repr(ModelMetrics()).startswith("Metrics of all versions")


def test_metrics_with_other_histograms_differ():
    """Metrics are compared with their histograms."""
    first, second = (ModelMetrics(latency_histogram=LatencyHistogram.from_values([ms])) for ms in (1.0, 9.0))
    assert first != second


def test_errors_by_kind_cannot_be_changed():
    """The counts by kind are immutable, and a copy of what was given."""
    given = {"Overloaded": 1}
    metrics = ModelMetrics(errors_by_kind=given)
    given["Overloaded"] = 2
    assert metrics.errors_by_kind == {"Overloaded": 1}


def test_faults_leave_out_what_callers_cause():
    """``fault_count`` counts every kind but the two that callers cause, also kinds that nobody knows."""
    counts = {kind.value: 1 for kind in ErrorKind} | {"Unheard": 5}
    assert fault_count(counts) == len(ErrorKind) - 2 + 5


def test_health_shows_every_check():
    """The representation lists state, version and every check with its finding."""
    checks = (HealthCheck("prediction", CheckStatus.FAIL, "it raised"), HealthCheck("errors", CheckStatus.PASS, "0 %"))
    shown = repr(HealthStatus(False, HealthState.UNHEALTHY, "1", ("1",), 0.0, 1.0, NOW, "it raised", checks))
    assert shown.startswith("Health: UNHEALTHY")
    assert re.search(r"prediction +FAIL: it raised", shown)
    assert re.search(r"errors +PASS: 0 %", shown)


# ------------------------------------------------------------------------------------------------------ InputSample


def test_a_sample_copies_its_rows():
    """The rows are a read-only copy; the caller may change its own."""
    rows = np.zeros((2, 2))
    sample = InputSample(rows=rows)
    rows.fill(9.0)
    assert sample.rows.tolist() == [[0.0, 0.0], [0.0, 0.0]]
    with pytest.raises(ValueError, match="read-only"):
        sample.rows[0, 0] = 1.0


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool", "float32", "float64"])
def test_numbers_become_float64(dtype):
    """Rows of numbers are float64."""
    assert InputSample(rows=np.ones((1, 1), dtype)).rows.dtype == np.float64


@pytest.mark.parametrize("rows", [[["a"]], [[1.0, "a"]], np.array([["a", None]], object), [[b"a"]]])
def test_other_values_become_objects(rows):
    """Rows with a feature that is not numeric are objects."""
    assert InputSample(rows=rows).rows.dtype == object


def test_a_sample_stands_for_itself_unless_told():
    """``count`` is the number of rows unless more is said."""
    assert InputSample(rows=np.zeros((4, 1))).count == 4
    assert InputSample(rows=np.zeros((4, 1)), count=100).count == 100


def test_a_sample_may_have_no_rows():
    """A sample without rows has a shape all the same."""
    assert InputSample(rows=np.empty((0, 3))).feature_names == ("x0", "x1", "x2")


@pytest.mark.parametrize("rows", [[1.0, 2.0], 5.0, [[[1.0]]], [[1.0], [2.0, 3.0]], "text", None])
def test_what_is_no_table_is_no_sample(rows):
    """``InvalidArgumentError`` is raised for what has not two dimensions."""
    with pytest.raises(InvalidArgumentError):
        InputSample(rows=rows)


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c"], ["a", "a"], ["a", 1]])
def test_names_of_features_fit(names):
    """``InvalidArgumentError`` is raised for names that are too few, too many, repeated or no text."""
    with pytest.raises(InvalidArgumentError):
        InputSample(rows=np.zeros((1, 2)), feature_names=names)


def test_a_sample_shows_its_size():
    """The representation tells rows, features, what they stand for and how they were drawn; not the rows."""
    shown = repr(InputSample(rows=np.zeros((4, 2)), count=100, method="reservoir"))
    assert shown == "InputSample(4 rows of 2 features, standing for 100, method='reservoir')"


# ------------------------------------------------------------------------------------------------- PredictionSample


def test_a_sample_of_answers_copies_what_it_is_given():
    """Every array is a read-only copy; the caller may change its own."""
    given = {name: np.zeros(2) for name in ("outputs", "confidences", "labels")} | {"inputs": np.zeros((2, 1))}
    sample = PredictionSample(**given)
    for name, array in given.items():
        array.fill(9.0)
        assert not getattr(sample, name).any()
        with pytest.raises(ValueError, match="read-only"):
            getattr(sample, name)[0] = 1.0


@pytest.mark.parametrize(
    ("outputs", "dtype"),
    [
        ([0, 1], "int64"), ([0.5, 1], "float64"), ([True, False], "bool"), (np.array([0, 1], np.uint8), "uint8"),
        (["a", "b"], "object"), ([b"a", b"b"], "object"), ([None, 1], "object"), (iter([0, 1]), "int64"),
        (pd.Series([0, 1]), "int64"), ([np.array(0), np.array(1)], "int64"), ([np.str_("a"), np.str_("b")], "object"),
        (np.array(["a", "b"]), "<U1"), ([2**70, 1], "object"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)  # fmt: skip
def test_answers_keep_their_type(outputs, dtype):
    """Answers of one type are an array of it; texts are objects, so that a long one takes no room of the others."""
    sample = PredictionSample(outputs)
    assert (sample.outputs.dtype, sample.outputs.shape) == (np.dtype(dtype), (2,))


@pytest.mark.parametrize(
    "outputs",
    [
        [1, "a"], ["5", 5], [b"a", "a"], [{"a": 1}, {"b": 2}], [{1}, {2}], [[1], [1, 2]], [["a"], ["a", "b"]],
        [1, [2]], [[1, [2]], [1, 2]], [None, [1]], [np.ones((2, 2)), np.zeros((2, 2))],
        [np.ones((2, 1)), np.ones((2, 2))],
    ],
)  # fmt: skip
def test_odd_answers_stay_as_they_are(outputs):
    """Answers without a common type or length are objects, one a row: nothing becomes text or is taken apart."""
    sample = PredictionSample(outputs)
    assert (sample.outputs.dtype, sample.outputs.shape) == (object, (len(outputs),))
    assert all(kept is given for kept, given in zip(sample.outputs, outputs, strict=True))


def test_an_answer_that_refuses_to_be_an_array_stays_as_it_is():
    """Whatever an answer of another library raises, it is kept as an object."""

    class Refusing:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("not here")

    answer = Refusing()
    assert PredictionSample([answer, answer]).outputs.tolist() == [answer, answer]


@pytest.mark.parametrize(
    ("outputs", "columns"),
    [
        ([1, 2], {"output": [1, 2]}),
        ([[1, 2], [3, 4]], {"output[0]": [1, 3], "output[1]": [2, 4]}),
        ([np.array([1.5]), np.array([2.5])], {"output[0]": [1.5, 2.5]}),
        ([("a", "b"), ("c", "d")], {"output[0]": ["a", "c"], "output[1]": ["b", "d"]}),
        (pd.DataFrame({"x": [1, 2], "y": [3, 4]}), {"output[0]": [1, 2], "output[1]": [3, 4]}),
        ([], {"output": []}),
    ],
    ids=["numbers", "rows", "arrays", "rows of text", "frame", "nothing"],
)
def test_answers_are_columns(outputs, columns):
    """Single answers are one column; answers of several values, of whatever type, are a column each."""
    assert {name: column.tolist() for name, column in PredictionSample(outputs).columns.items()} == columns


@pytest.mark.parametrize(
    ("confidences", "is_column"),
    [([0.5, 0.25], True), ([0.5, np.nan], True), ([np.nan, np.nan], False), (None, False)],
    ids=str,
)
def test_confidences_are_a_column_where_any_is_known(confidences, is_column):
    """Confidences are a column beside the answers unless none is known."""
    assert ("confidence" in PredictionSample([0, 1], confidences=confidences).columns) is is_column


@pytest.mark.parametrize("outputs", [5, None, "text", b"text", {"output": [1, 2]}, np.array(5), object()])
def test_what_is_no_list_of_answers_is_refused(outputs):
    """``InvalidArgumentError`` is raised for what holds not one answer for each row."""
    with pytest.raises(InvalidArgumentError, match="outputs"):
        PredictionSample(outputs)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("confidences", [0.5]), ("confidences", [0.5] * 3), ("confidences", [[0.5], [0.5]]), ("confidences", 0.5),
        ("confidences", ["a", "b"]), ("confidences", [{}, {}]), ("confidences", [[0.5], [0.5, 0.5]]),
        ("labels", [1]), ("labels", [1, 2, 3]), ("labels", [[1], [2]]), ("labels", 1), ("labels", [[1], [1, 2]]),
        ("inputs", [[1.0]]), ("inputs", [1.0, 2.0]), ("inputs", 1.0), ("inputs", [[1.0], [1.0, 2.0]]),
    ],
)  # fmt: skip
def test_what_belongs_to_answers_has_a_row_for_each(name, value):
    """``InvalidArgumentError`` names confidences, labels and inputs that are not one for each answer."""
    with pytest.raises(InvalidArgumentError, match=name):
        PredictionSample([0, 1], **{name: value})


def test_confidences_are_float64():
    """Confidences are float64 whatever was given."""
    assert PredictionSample([0], confidences=np.array([1], np.float32)).confidences.dtype == np.float64


def test_a_sample_of_answers_stands_for_itself_unless_told():
    """``count`` is the number of answers unless more is said."""
    assert [PredictionSample([0, 1]).count, PredictionSample([0, 1], count=100).count] == [2, 100]


def test_a_sample_of_answers_shows_what_it_holds():
    """The representation tells how many answers, what they stand for, and what is beside them; not the answers."""
    shown = repr(PredictionSample([7, 8], confidences=[0.5, 0.5], inputs=[[1.0], [2.0]], count=9, method="reservoir"))
    assert shown == "PredictionSample(2 answers, standing for 9, method='reservoir', with confidences, inputs)"
    assert repr(PredictionSample([7])) == "PredictionSample(1 answers, standing for 1, method='all')"


# ------------------------------------------------------------------------------------------------------------ drift


def with_every_float(value: float) -> DriftDetectionResult:
    """A result whose every number that may be a float is this one."""
    feature = FeatureDrift(
        name="a",
        statistic=value,
        p_value=value,
        adjusted_p_value=value,
        effect_size=value,
        effect_interval=(value, value),
        missing_rate_p_value=value,
        unseen_p_value=value,
        minimum_detectable_effect=value,
        reference_missing_rate=value,
        current_missing_rate=value,
        reference_median=value,
        current_median=value,
    )
    return attrs.evolve(
        detection(),
        analysis=DriftAnalysis(
            performance_drift=PerformanceDrift(
                accuracy_change=value,
                latency_change=value,
                realised_accuracy=value,
                realised_mean_absolute_error=value,
                label_coverage=value,
                estimate=PerformanceEstimate(
                    n_samples=100,
                    accuracy=value,
                    accuracy_sampling_error=value,
                    accuracy_band=(value, value),
                    roc_auc_band=(value, value),
                ),
            ),
            data_drift=DataDrift(features=(feature,), ks_statistic=value, p_value=value),
            concept_drift=ConceptDrift(confidence_drift=value, error_pattern_change=value),
            prediction_drift=DataDrift(features=(feature,), ks_statistic=value, p_value=value),
        ),
    )


def numbers_in(value: object) -> list[float]:
    if isinstance(value, dict):
        return [number for item in value.values() for number in numbers_in(item)]
    if isinstance(value, (list, tuple)):
        return [number for item in value for number in numbers_in(item)]
    return [value] if isinstance(value, float) else []


@pytest.mark.parametrize("value", [0.5, math.nan, math.inf, -math.inf, np.float64(0.5), np.float64("nan")])
def test_a_result_as_a_dict_is_json(value):
    """``to_dict`` holds only what strict JSON can, whatever the numbers were; what is no number is None."""
    plain = with_every_float(value).to_dict()
    read = json.loads(json.dumps(plain, allow_nan=False))
    assert all(math.isfinite(number) for number in numbers_in(plain))
    assert read["analysis"]["data_drift"]["p_value"] == (value if math.isfinite(value) else None)


def test_a_result_as_a_dict_is_spelled_out():
    """``to_dict`` gives enums by name, times in ISO 8601, spans in seconds."""
    plain = detection().to_dict()
    assert (plain["severity"], plain["detected_at"], plain["time_window"]) == (
        "HIGH",
        "2026-01-01T12:00:00+00:00",
        3600.0,
    )


def test_the_data_drift_as_a_dict_is_json():
    """``DataDrift.to_dict`` is strict JSON with every feature."""
    plain = DataDrift(features=(FeatureDrift(name="a"), FeatureDrift(name="b", p_value=math.nan))).to_dict()
    assert [feature["name"] for feature in json.loads(json.dumps(plain, allow_nan=False))["features"]] == ["a", "b"]


def test_drifted_features_come_largest_effect_first():
    """``drifted_features`` lists those that drifted, the largest effect first, and no other."""
    features = tuple(
        FeatureDrift(name=name, effect_size=effect, is_drift_detected=drifted)
        for name, effect, drifted in [("a", 0.2, True), ("b", 0.9, False), ("c", 0.5, True), ("d", None, True)]
    )
    assert [feature.name for feature in DataDrift(features=features).drifted_features] == ["c", "a", "d"]


def test_a_table_of_features_shows_the_drifted_first():
    """In text, features that drifted come first; what is absent is a dash."""
    features = (
        FeatureDrift(name="calm", effect_size=0.9),
        FeatureDrift(name="moved", effect_size=0.1, is_drift_detected=True, severity=DriftSeverity.HIGH),
    )
    lines = repr(DataDrift(features=features)).splitlines()
    assert [line.split()[0] for line in lines[3:5]] == ["moved", "calm"]


def shown_quality(**values) -> str:
    """What the text of a result says of the quality."""
    result = attrs.evolve(detection(), analysis=attrs.evolve(analysis(), performance_drift=PerformanceDrift(**values)))
    (line,) = (line for line in repr(result).splitlines() if line.startswith("  quality"))
    assert line.partition("quality")[2].strip() in html.unescape(result._repr_html_())
    return line.partition("quality")[2].strip()


def test_a_result_shows_estimated_beside_realised_accuracy():
    """Text and HTML show the estimate with its band, what labels say, and how many labels that are."""
    shown = shown_quality(
        estimate=EXAMPLES[PerformanceEstimate](),
        realised_accuracy=0.625,
        label_coverage=0.25,
    )
    assert shown == "accuracy: estimated 0.75 (0.69 to 0.81), realised 0.625 from 25.0 % of labels"


def test_a_result_shows_estimated_beside_realised_error():
    """Of a regressor it is the mean absolute error, and an accuracy would be none of it."""
    shown = shown_quality(
        estimate=EXAMPLES[ErrorEstimate](),
        realised_mean_absolute_error=0.625,
        realised_accuracy=0.1,
        label_coverage=0.25,
    )
    assert shown == "mean absolute error: estimated 0.5 (0.35 to 0.65), realised 0.625 from 25.0 % of labels"


def test_an_estimate_before_any_label_shows_a_dash():
    """Before the first label the realised value is a dash, not 0."""
    shown = shown_quality(estimate=EXAMPLES[PerformanceEstimate](), label_coverage=0.0)
    assert shown == "accuracy: estimated 0.75 (0.69 to 0.81), realised - from 0.0 % of labels"


@pytest.mark.parametrize(
    ("realised", "name"),
    [({"realised_accuracy": 0.5}, "accuracy"), ({"realised_mean_absolute_error": 0.5}, "mean absolute error")],
    ids=["classifier", "regressor"],
)
def test_a_result_without_an_estimate_says_so(realised, name):
    """Without an estimate the realised quality stands alone."""
    shown = shown_quality(label_coverage=1.0, **realised)
    assert shown == f"{name}: realised 0.5 from 100.0 % of labels, no estimate"


def test_a_result_as_a_dict_has_the_estimate():
    """``to_dict`` holds the estimate, the realised values, the share of labels and the drift of predictions."""
    performance = PerformanceDrift(estimate=EXAMPLES[PerformanceEstimate](), realised_accuracy=0.5, label_coverage=0.25)
    whole = attrs.evolve(analysis(), performance_drift=performance)
    plain = json.loads(json.dumps(attrs.evolve(detection(), analysis=whole).to_dict(), allow_nan=False))["analysis"]
    shown = plain["performance_drift"]
    assert (shown["realised_accuracy"], shown["label_coverage"]) == (0.5, 0.25)
    assert (shown["estimate"]["accuracy"], shown["estimate"]["accuracy_band"]) == (0.75, [0.69, 0.81])
    assert plain["prediction_drift"]["status"] == "NO_BASELINE"


@pytest.mark.parametrize(
    ("drift", "words"),
    [
        (
            DataDrift(features=(FeatureDrift(name="output", direction="up", effect_size=0.25, adjusted_p_value=0.5),)),
            "OK: output up, effect 0.25, adjusted p 0.5",
        ),
        (DataDrift(status=DriftStatus.NO_BASELINE, detail="set one"), "NO_BASELINE: set one"),
        (DataDrift(status=DriftStatus.INSUFFICIENT_DATA), "INSUFFICIENT_DATA: nothing to compare"),
    ],
    ids=["moved", "detail", "nothing"],
)
def test_a_result_shows_the_drift_of_predictions(drift, words):
    """Text and HTML show how answers and confidences moved, or why they were not compared."""
    result = attrs.evolve(detection(), analysis=attrs.evolve(analysis(), prediction_drift=drift))
    (line,) = (line for line in repr(result).splitlines() if line.startswith("  predictions"))
    assert line.partition("predictions")[2].strip() == words
    assert words in html.unescape(result._repr_html_())


def test_a_result_shows_type_severity_and_action():
    """The representation tells the primary type, the severity and what to do."""
    shown = repr(detection())
    assert re.search(r"primary type +DATA", shown)
    assert re.search(r"severity +HIGH", shown)
    assert "Look at the data" in shown
