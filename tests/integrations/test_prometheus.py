"""The Prometheus door: what a scrape says is what happened, in a form that Prometheus takes."""

from __future__ import annotations

import logging
import math
import re
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, generate_latest, make_wsgi_app, start_http_server
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from mlserve import ErrorKind, InMemoryModelMonitor, InMemoryModelRepository, ModelMetrics, ModelServer
from mlserve.clocks import ManualClock
from mlserve.errors import InvalidArgumentError, MissingCapabilityError
from mlserve.integrations.prometheus import DEFAULT_BUCKETS, MonitorCollector, ServerCollector
from mlserve.monitors import FanoutMonitor
from mlserve.records import FailureEvent, InputSample, PredictionEvent

HOUR = timedelta(hours=1)
KINDS = {kind.value for kind in ErrorKind}


class Scripted:
    """A monitor whose counts since the beginning are what a test says."""

    def __init__(self, *cumulative: ModelMetrics) -> None:
        self.cumulative: Any = cumulative

    def cumulative_metrics(self) -> tuple[ModelMetrics, ...]:
        if isinstance(self.cumulative, Exception):
            raise self.cumulative
        return tuple(self.cumulative)

    def record_prediction(self, event: PredictionEvent) -> None: ...

    def record_prediction_error(self, kind: str, version_id: str | None) -> None: ...

    def record_drift_event(self, event: Any) -> None: ...

    def get_recent_metrics(self, window: timedelta) -> ModelMetrics:
        return ModelMetrics(window=window)

    def get_model_metrics(self, version_id: str, window: timedelta) -> ModelMetrics:
        return ModelMetrics(model_version=version_id, window=window)

    def get_baseline_metrics(self, version_id: str) -> ModelMetrics | None:
        return None

    def get_recent_input_distribution(self, version_id: str, window: timedelta) -> InputSample:
        return InputSample(np.zeros((0, 1)))

    def get_baseline_input_distribution(self, version_id: str) -> InputSample | None:
        return None


def counted(version: str | None, requests: int, **values: Any) -> ModelMetrics:
    return ModelMetrics(model_version=version, request_count=requests, **values)


class Traffic:
    """A monitor in memory, a clock, and requests to record."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.monitor = InMemoryModelMonitor(clock=self.clock)
        self.number = 0

    def predict(
        self, version: str = "1", *, ms: float = 2.0, output: Any = 1, actual: Any = None, **values: Any
    ) -> None:
        self.number += 1
        event = PredictionEvent(f"p{self.number}", version, [1.0], output, ms, self.clock.now(), **values)
        self.monitor.record_prediction(event)
        if actual is not None:
            self.monitor.record_outcome(event.prediction_id, actual)

    def fail(self, kind: str = "Overloaded", version: str | None = "1") -> None:
        self.number += 1
        event = FailureEvent(f"p{self.number}", version, [1.0], kind, 1.0, self.clock.now())
        self.monitor.record_failure(event)


@pytest.fixture
def traffic() -> Traffic:
    return Traffic()


def registered(collector: MonitorCollector) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=True)
    registry.register(collector)
    return registry


def scrape(registry: CollectorRegistry) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of a scrape, as the strict parser of OpenMetrics reads it."""
    samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in parse_openmetrics(generate_openmetrics(registry).decode()):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in samples, "a series is there once"
            samples[key] = sample.value
    return samples


def values(registry: CollectorRegistry, name: str, label: str = "version") -> dict[str, float]:
    """The values of a metric with the label ``model`` and one other."""
    found = ((dict(labels), value) for (sample, labels), value in scrape(registry).items() if sample == name)
    return {labels[label]: value for labels, value in found}


# ------------------------------------------------------------------------------------------------------------ counters


def test_requests_are_counted_by_version(traffic: Traffic) -> None:
    """``mlserve_requests_total`` counts requests, failures included, by version; those without one are ``none``."""
    for version in ("1", "2", "2"):
        traffic.predict(version)
    traffic.fail(version="2")
    traffic.fail("VersionNotFound", None)
    registry = registered(MonitorCollector(traffic.monitor))
    assert values(registry, "mlserve_requests_total") == {"1": 1, "2": 3, "none": 1}


def test_failures_are_counted_by_kind(traffic: Traffic) -> None:
    """``mlserve_errors_total`` counts failures by kind; every known kind is there from the beginning, at 0."""
    for kind in ("Overloaded", "Overloaded", "InvalidInput", "OurOwn"):
        traffic.fail(kind)
    found = values(registered(MonitorCollector(traffic.monitor)), "mlserve_errors_total", "kind")
    # Of the two series of a kind, that of version 1 is read last.
    samples = scrape(registered(MonitorCollector(traffic.monitor)))
    of_version = {
        dict(labels)["kind"]: value
        for (name, labels), value in samples.items()
        if name == "mlserve_errors_total" and ("version", "1") in labels
    }
    assert of_version.keys() == found.keys() == KINDS | {"OurOwn"}
    assert +Counter(of_version) == {"Overloaded": 2, "InvalidInput": 1, "OurOwn": 1}


def test_outcomes_are_counted_by_result(traffic: Traffic) -> None:
    """``mlserve_outcomes_total`` counts right and wrong predictions, and those of a regressor apart."""
    for output, actual in ((1, 1), (1, 1), (1, 0), (0, None)):
        traffic.predict(output=output, actual=actual)
    for output, actual in ((1.5, 1.25), (2.0, 2.0)):
        traffic.predict("2", output=output, actual=actual)
    samples = scrape(registered(MonitorCollector(traffic.monitor)))
    found = {
        (dict(labels)["version"], dict(labels)["result"]): value
        for (name, labels), value in samples.items()
        if name == "mlserve_outcomes_total"
    }
    assert found == {("1", "correct"): 2, ("1", "wrong"): 1, ("2", "numeric"): 2}


def test_outcomes_stay_counted_when_a_regressor_shows_itself() -> None:
    """Outcomes that were counted as right or wrong are not counted again once the version is told for a regressor."""
    monitor = Scripted(counted("1", 9, labelled_count=4, accuracy=0.5))
    registry = registered(MonitorCollector(monitor))
    before = values(registry, "mlserve_outcomes_total", "result")
    monitor.cumulative = [counted("1", 9, labelled_count=7, accuracy=None)]
    after = values(registry, "mlserve_outcomes_total", "result")
    assert (before, after) == ({"correct": 2, "wrong": 2}, {"correct": 2, "wrong": 2, "numeric": 3})


@pytest.mark.parametrize("version", ['a"b', "a\\b", "a\nb", "ü", "\ud800"])
def test_any_text_is_a_version(version: str) -> None:
    """A version id of any text gives a scrape that can be read."""
    found = values(registered(MonitorCollector(Scripted(counted(version, 3)))), "mlserve_requests_total")
    assert found == {version.encode("utf-8", "backslashreplace").decode(): 3, "none": 0}


def test_several_models_share_a_collector(traffic: Traffic) -> None:
    """``add`` shows another model beside the first, with its own label ``model``."""
    traffic.predict()
    collector = MonitorCollector(traffic.monitor, name="wine")
    collector.add(Scripted(counted("1", 5)), name="flights")
    registry = registered(collector)
    found = [
        registry.get_sample_value("mlserve_requests_total", {"model": name, "version": "1"})
        for name in ("wine", "flights")
    ]
    assert found == [1, 5]


# ----------------------------------------------------------------------------------------------------------- histogram


def buckets(registry: CollectorRegistry, version: str = "1") -> dict[float, float]:
    samples = scrape(registry)
    return {
        float(dict(labels)["le"]): value
        for (name, labels), value in samples.items()
        if name == "mlserve_prediction_duration_seconds_bucket" and ("version", version) in labels
    }


def test_each_bucket_counts_exactly_what_its_bound_says(traffic: Traffic) -> None:
    """A bucket holds the predictions that took no longer than its ``le``, to the last one."""
    latencies = np.random.default_rng(0).lognormal(0.0, 4.0, 3_000)
    for ms in latencies:
        traffic.predict(ms=float(ms))
    found = buckets(registered(MonitorCollector(traffic.monitor)))
    assert found == {le: (latencies / 1000 <= le).sum() for le in found}


def test_the_histogram_adds_up(traffic: Traffic) -> None:
    """Buckets rise, the one up to +Inf and the count are all successful predictions, the sum is their time."""
    latencies = [0.5, 3.0, 70.0, 20_000.0]
    for ms in latencies:
        traffic.predict(ms=ms)
    traffic.fail()
    registry = registered(MonitorCollector(traffic.monitor))
    found = buckets(registry)
    assert list(found.values()) == sorted(found.values())
    whole = values(registry, "mlserve_prediction_duration_seconds_count")["1"]
    assert (found[math.inf], whole) == (4, 4)
    assert values(registry, "mlserve_prediction_duration_seconds_sum")["1"] == pytest.approx(20.0735)


def test_bounds_are_near_those_asked_for() -> None:
    """Each bound is within 1.01 % of what was asked, and the scrape has exactly the bounds that ``buckets`` says."""
    asked = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
    collector = MonitorCollector(Scripted(counted("1", 1)), buckets=asked)
    assert np.abs(np.log(np.array(collector.buckets) / asked)).max() < 0.0101
    assert tuple(buckets(registered(collector))) == (*collector.buckets, math.inf)


def test_the_default_ladder_has_three_steps_a_decade() -> None:
    """Default bounds go from 10 µs to 10 s by 1, 2.5 and 5."""
    assert (len(DEFAULT_BUCKETS), DEFAULT_BUCKETS[:4], DEFAULT_BUCKETS[-1]) == (19, (1e-5, 2.5e-5, 5e-5, 1e-4), 10.0)


def test_what_found_no_version_has_no_durations(traffic: Traffic) -> None:
    """Requests without a version are never answered, so that there is no histogram of them."""
    traffic.fail("VersionNotFound", None)
    assert buckets(registered(MonitorCollector(traffic.monitor)), "none") == {}


@pytest.mark.parametrize(
    "bounds", [[], [0.0], [-1.0], [math.nan], [math.inf], [0.1, 0.05], [0.1, 0.1], [0.1, 0.1001]], ids=str
)
def test_bounds_that_are_none_are_refused(bounds: list[float]) -> None:
    """Buckets must rise, be positive and finite, and not share a bin."""
    with pytest.raises(InvalidArgumentError, match="buckets"):
        MonitorCollector(Scripted(), buckets=bounds)


# -------------------------------------------------------------------------------------------------------------- gauges


def test_gauges_are_of_the_window(traffic: Traffic) -> None:
    """Gauges say what the window of the given length says, and not what was before."""
    traffic.predict(output=1, actual=0, confidence=0.1)
    traffic.clock.advance(HOUR)
    for output, actual in ((1, 1), (1, 1), (1, 1), (0, 1), (0, None)):
        traffic.predict(output=output, actual=actual, confidence=0.75)
    registry = registered(MonitorCollector(traffic.monitor, window=timedelta(minutes=10)))
    assert values(registry, "mlserve_window_accuracy_ratio") == {"1": 0.75}
    assert values(registry, "mlserve_window_label_coverage_ratio") == {"1": 0.8}
    assert values(registry, "mlserve_window_confidence_ratio") == {"1": 0.75}
    assert registry.get_sample_value("mlserve_window_seconds", {"model": "model"}) == 600


def test_a_regressor_has_its_own_gauges(traffic: Traffic) -> None:
    """A regressor's error and R² are shown, and no accuracy."""
    for output, actual in ((1.5, 1.0), (2.0, 4.0), (3.25, 3.5)):
        traffic.predict(output=output, actual=actual)
    registry = registered(MonitorCollector(traffic.monitor))
    actual, predicted = np.array([1.0, 4.0, 3.5]), np.array([1.5, 2.0, 3.25])
    r2 = 1 - ((actual - predicted) ** 2).sum() / ((actual - actual.mean()) ** 2).sum()
    assert values(registry, "mlserve_window_mean_absolute_error")["1"] == pytest.approx(2.75 / 3)
    assert values(registry, "mlserve_window_r2")["1"] == pytest.approx(r2)
    assert values(registry, "mlserve_window_accuracy_ratio") == {}


def test_what_has_no_evidence_is_absent(traffic: Traffic) -> None:
    """Without outcomes and confidences their gauges are absent, neither 0 nor NaN."""
    traffic.predict()
    samples = scrape(registered(MonitorCollector(traffic.monitor)))
    assert {name for name, _ in samples if name.startswith("mlserve_window_")} == {
        "mlserve_window_seconds",
        "mlserve_window_label_coverage_ratio",
    }


def test_the_monitors_own_counters_are_shown(traffic: Traffic) -> None:
    """What waits, what was discarded and why, and drifts are those of the monitor's statistics."""
    traffic.predict(actual="text")  # cannot be compared
    traffic.predict(actual=1)
    traffic.monitor.record_outcome("p2", 1)
    traffic.monitor.record_outcome("never", 1)
    traffic.predict(ms=math.nan)
    registry = registered(MonitorCollector(traffic.monitor))
    said = traffic.monitor.statistics()
    discarded = values(registry, "mlserve_monitor_discarded_total", "reason")
    assert discarded == {
        "dropped": 1,
        "uncopied": 0,
        "unknown_outcomes": 1,
        "duplicate_outcomes": 1,
        "mismatched_outcomes": 1,
        "pending_evicted": 0,
    }
    assert registry.get_sample_value("mlserve_pending_outcomes", {"model": "model"}) == said.pending
    assert registry.get_sample_value("mlserve_drift_events_total", {"model": "model"}) == 0


def test_failures_of_sinks_are_shown(traffic: Traffic) -> None:
    """Of fan-outs, also one within another, the failures of each sink are shown, and the counters of the primary."""
    inner: Any = FanoutMonitor(traffic.monitor, Failing(), clock=traffic.clock)
    outer: Any = FanoutMonitor(inner, Failing(), Scripted(), clock=traffic.clock)
    outer.record_prediction_error("Overloaded", "1")
    registry = registered(MonitorCollector(outer))
    assert values(registry, "mlserve_monitor_sink_failures_total", "sink") == {"Failing": 2, "Scripted": 0}
    assert registry.get_sample_value("mlserve_pending_outcomes", {"model": "model"}) == 0


class Failing:
    """A sink that raises each time."""

    def record_prediction(self, event: Any) -> None:
        raise OSError("down")

    def record_prediction_error(self, kind: str, version_id: str | None) -> None:
        raise OSError("down")

    def record_drift_event(self, event: Any) -> None:
        raise OSError("down")


# ----------------------------------------------------------------------------------------------------- bounded labels


def test_only_the_most_recently_active_versions_have_a_label() -> None:
    """Of more versions than the limit, those active in the most recent scrape keep their label, others are one."""
    monitor = Scripted(counted("1", 10), counted("2", 20), counted("3", 30))
    registry = registered(MonitorCollector(monitor, max_versions=2))
    first = values(registry, "mlserve_requests_total")
    monitor.cumulative = [counted("1", 15), counted("2", 20), counted("3", 30)]
    second = values(registry, "mlserve_requests_total")
    assert first == {"2": 20, "3": 30, "other": 10, "none": 0}  # all alike: the newest
    assert second == {"1": 5, "3": 30, "other": 10, "none": 0}


def test_a_version_that_moves_brings_no_burst() -> None:
    """``other`` grows by what a version counts after it lost its label, not by its past."""
    monitor = Scripted(counted("1", 1_000))
    registry = registered(MonitorCollector(monitor, max_versions=1))
    seen = [values(registry, "mlserve_requests_total")]
    for first, second in ((1_000, 5), (1_000, 9), (1_007, 12)):
        monitor.cumulative = [counted("1", first), counted("2", second)]
        seen.append(values(registry, "mlserve_requests_total"))
    assert [one.get("1") for one in seen] == [1_000, None, None, None]
    assert [one.get("2") for one in seen] == [None, 5, 9, 12]
    assert [one.get("other") for one in seen] == [None, 0, 0, 7]


def test_a_version_that_comes_back_goes_on_where_it_stopped() -> None:
    """A version that gets its label back has what it had, and what it counted since; not what ``other`` counted."""
    monitor = Scripted(counted("1", 100))
    registry = registered(MonitorCollector(monitor, max_versions=1))
    values(registry, "mlserve_requests_total")
    for cumulative in ([("1", 100), ("2", 1)], [("1", 103), ("2", 2)], [("1", 108), ("2", 2)]):
        monitor.cumulative = [counted(version, requests) for version, requests in cumulative]
        found = values(registry, "mlserve_requests_total")
    assert found == {"1": 105, "other": 3, "none": 0}


def test_versions_that_are_all_active_keep_their_labels() -> None:
    """Where more versions are active than have labels, those that have one keep it from scrape to scrape."""
    monitor = Scripted(counted("1", 1), counted("2", 1))
    registry = registered(MonitorCollector(monitor, max_versions=2))
    seen = [frozenset(values(registry, "mlserve_requests_total"))]
    for requests in range(2, 6):
        monitor.cumulative = [counted(version, requests) for version in "1234"]
        seen.append(frozenset(values(registry, "mlserve_requests_total")))
    assert seen == [frozenset({"1", "2", "none"})] + 4 * [frozenset({"1", "2", "other", "none"})]


def test_kinds_without_end_share_a_label() -> None:
    """Kinds that mlserve does not know have a label each up to twenty, and share one beyond."""
    invented = {f"kind {number:02}": 1 for number in range(50)}
    monitor = Scripted(counted("1", 53, error_count=53, errors_by_kind={**invented, "Overloaded": 3}))
    found = values(registered(MonitorCollector(monitor)), "mlserve_errors_total", "kind")
    assert found.keys() == KINDS | {f"kind {number:02}" for number in range(20)} | {"other"}


ACTIONS = st.lists(
    st.one_of(st.tuples(st.sampled_from("12345"), st.integers(1, 9)), st.just("scrape")), min_size=1, max_size=60
)


@settings(deadline=None, max_examples=100)
@given(actions=ACTIONS, max_versions=st.integers(1, 4))
def test_no_series_falls_and_no_request_is_lost(actions: list[Any], max_versions: int) -> None:
    """Whatever versions come and go, every series only rises, and the last values of all are all requests."""
    counts: Counter[str] = Counter()
    monitor = Scripted()
    registry = registered(MonitorCollector(monitor, max_versions=max_versions))
    last: dict[str, float] = {}
    for action in [*actions, "scrape"]:
        if action != "scrape":
            counts[action[0]] += action[1]
            continue
        monitor.cumulative = [counted(version, requests) for version, requests in counts.items()]
        # Not through the text of a scrape, which the other tests read: there are thousands of these.
        found = {
            sample.labels["version"]: sample.value
            for family in registry.collect()
            for sample in family.samples
            if sample.name == "mlserve_requests_total"
        }
        assert all(value >= last.get(label, 0) for label, value in found.items())
        assert len(found.keys() - {"none", "other"}) <= max_versions
        last.update(found)
    assert sum(last.values()) == counts.total()


def test_a_version_named_other_is_counted_with_the_others() -> None:
    """A version whose id is the label of the others shares its series, and the scrape can be read."""
    monitor = Scripted(counted("1", 4), counted("other", 2), counted("3", 1))
    found = values(registered(MonitorCollector(monitor, max_versions=2)), "mlserve_requests_total")
    assert found == {"3": 1, "other": 6, "none": 0}


def test_counts_that_fall_are_a_new_beginning() -> None:
    """Where a monitor's own counts fall, as they should not, the series stays, and goes on with what comes."""
    monitor = Scripted(counted("1", 100, error_count=5, errors_by_kind={"Overloaded": 5}))
    registry = registered(MonitorCollector(monitor))
    seen = []
    for requests in (100, 40, 45):
        monitor.cumulative = [counted("1", requests)]
        seen.append(values(registry, "mlserve_requests_total")["1"])
    assert seen == [100, 100, 105]


# -------------------------------------------------------------------------------------------------------------- format


def test_an_empty_monitor_gives_a_scrape(traffic: Traffic) -> None:
    """Before the first request a scrape is valid, says that the monitor is up, and has no series of a version."""
    registry = registered(MonitorCollector(traffic.monitor))
    assert registry.get_sample_value("mlserve_up", {"model": "model"}) == 1
    assert values(registry, "mlserve_requests_total") == {"none": 0}


def test_both_formats_say_the_same(traffic: Traffic) -> None:
    """The text format and OpenMetrics have the same samples."""
    traffic.predict(actual=1)
    traffic.fail()
    registry = registered(MonitorCollector(traffic.monitor))
    text = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse_text(generate_latest(registry).decode())
        for sample in family.samples
    }
    assert text == scrape(registry)


def test_every_metric_has_help_and_a_conventional_name(traffic: Traffic) -> None:
    """Every metric is in snake case, begins with ``mlserve_``, and says what it is."""
    families = list(parse_openmetrics(generate_openmetrics(registered(MonitorCollector(traffic.monitor))).decode()))
    assert len(families) == 16
    assert all(re.fullmatch(r"mlserve(_[a-z0-9]+)+", family.name) for family in families)
    assert all(family.documentation.endswith(".") for family in families)


def _server_collector() -> ServerCollector:
    return ServerCollector(ModelServer(InMemoryModelRepository(), InMemoryModelMonitor()))


def test_the_documented_metrics_are_those_of_a_scrape(traffic: Traffic) -> None:
    """The table in the module's docstring names every metric with its type and its labels, and no other."""
    import mlserve.integrations.prometheus as module

    listed = re.findall(r"^``(mlserve_\w+)``\s+(\w+)\s*(.*)$", module.__doc__ or "", re.MULTILINE)
    described = {
        metric.name + ("_total" if metric.type == "counter" else ""): metric
        for metric in [*MonitorCollector(traffic.monitor).describe(), *_server_collector().describe()]
    }
    assert {name: kind for name, kind, _ in listed} == {name: metric.type for name, metric in described.items()}
    for name, _, rest in listed:
        labels: Any = described[name]
        further = labels._labelnames[1:]
        assert rest.startswith(", ".join(further))


def test_registering_reads_no_monitor() -> None:
    """``describe`` says the names, so that registering a collector over a monitor that is down succeeds."""
    monitor = Scripted()
    monitor.cumulative = OSError("down")
    collector = MonitorCollector(monitor)
    registry = registered(collector)
    assert collector._readers["model"].failures == 0
    assert registry.get_sample_value("mlserve_scrape_errors_total", {"model": "model"}) == 1


def test_two_collectors_in_a_registry_are_refused(traffic: Traffic) -> None:
    """A second collector would give every metric twice: the registry refuses it."""
    registry = registered(MonitorCollector(traffic.monitor, name="a"))
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(MonitorCollector(traffic.monitor, name="b"))


def test_one_metric_can_be_asked_for(traffic: Traffic) -> None:
    """A scrape may be restricted to some metrics by name."""
    traffic.predict()
    registry = registered(MonitorCollector(traffic.monitor))
    restricted = registry.restricted_registry(["mlserve_up"])
    assert [sample.name for family in restricted.collect() for sample in family.samples] == ["mlserve_up"]


# ------------------------------------------------------------------------------------------------------------ failures


def test_a_monitor_that_raises_harms_no_other_metric(traffic: Traffic) -> None:
    """A monitor that cannot be read is down and counted; other models and other metrics of the process are there."""
    broken = Scripted()
    broken.cumulative = OSError("down")
    traffic.predict()
    collector = MonitorCollector(broken, name="broken")
    collector.add(traffic.monitor, name="whole")
    registry = registered(collector)
    Gauge("temperature", "Of the room.", registry=registry).set(21)
    scrape(registry)
    samples = scrape(registry)
    up = {dict(labels)["model"]: value for (name, labels), value in samples.items() if name == "mlserve_up"}
    assert up == {"broken": 0, "whole": 1}
    assert samples["mlserve_scrape_errors_total", frozenset({("model", "broken")})] == 2
    assert {name for name, labels in samples if ("model", "broken") in labels} == {
        "mlserve_up",
        "mlserve_scrape_errors_total",
    }
    assert samples["temperature", frozenset()] == 21


def test_a_monitor_that_recovers_has_lost_nothing() -> None:
    """After failed scrapes the counters go on, with what was counted meanwhile."""
    monitor = Scripted(counted("1", 5))
    registry = registered(MonitorCollector(monitor))
    values(registry, "mlserve_requests_total")
    monitor.cumulative = OSError("down")
    scrape(registry)
    monitor.cumulative = [counted("1", 9)]
    assert values(registry, "mlserve_requests_total")["1"] == 9


def test_a_monitor_that_raises_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """However often it is scraped, a monitor that raises is logged once a minute, with the exception."""
    caplog.set_level(logging.WARNING, "mlserve")
    clock, monitor = ManualClock(), Scripted()
    monitor.cumulative = OSError("down")
    registry = registered(MonitorCollector(monitor, name="wine", clock=clock))
    for _ in range(5):
        scrape(registry)
        clock.advance(timedelta(seconds=20))
    assert len(caplog.records) == 2
    assert "wine" in caplog.records[0].getMessage()
    assert caplog.records[0].exc_info is not None


def test_a_monitor_must_count_from_the_beginning() -> None:
    """A monitor without ``cumulative_metrics`` is refused: a window's counts fall."""

    class Windows(Scripted):
        cumulative_metrics = None  # type: ignore[assignment]  # as if it had none

    with pytest.raises(MissingCapabilityError, match="CumulativeMonitor"):
        MonitorCollector(Windows())


@pytest.mark.parametrize(
    ("parameter", "arguments"),
    [
        ("window", {"window": timedelta(0)}),
        ("window", {"window": 300}),
        ("max_versions", {"max_versions": 0}),
        ("name", {"name": ""}),
        ("name", {"name": 5}),
    ],
)
def test_what_cannot_be_is_refused(parameter: str, arguments: dict[str, Any]) -> None:
    """A window that is not positive, no versions and a name that is no text are refused by name."""
    with pytest.raises(InvalidArgumentError) as refused:
        MonitorCollector(Scripted(), **arguments)
    assert refused.value.parameter == parameter


def test_a_name_is_given_once() -> None:
    """Two models of one name would give every series twice: the second is refused."""
    collector = MonitorCollector(Scripted(), name="wine")
    with pytest.raises(InvalidArgumentError, match="no other model"):
        collector.add(Scripted(), name="wine")


WITHOUT_IT = """
import sys
sys.modules["prometheus_client"] = None
sys.path.insert(0, sys.argv[1])
import mlserve.integrations
print(*[name for name in sys.modules if name.startswith("mlserve.integrations.")])
try:
    import mlserve.integrations.prometheus
except ImportError as error:
    print(type(error).__name__, error)
"""


def test_without_the_package_the_extra_is_named(pytestconfig: pytest.Config) -> None:
    """Importing the doors opens none; without ``prometheus_client`` this one names the extra that installs it."""
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_IT, str(pytestconfig.rootpath)], capture_output=True, text=True, check=True
    )
    opened, said = ran.stdout.splitlines()
    assert opened == ""
    assert said.startswith("MissingExtraError mlserve.integrations.prometheus needs prometheus_client.")
    assert "mlserve[prometheus]" in said


# ---------------------------------------------------------------------------------------------------------------- HTTP


@contextmanager
def serving(registry: CollectorRegistry) -> Iterator[str]:
    """The registry's own server on a port of the loopback interface, stopped at the end. Gives its address."""
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    try:
        yield f"http://127.0.0.1:{server.server_port}/metrics"
    finally:
        server.shutdown()
        thread.join(60)
        server.server_close()


def fetched(address: str, accept: str) -> str:
    request = urllib.request.Request(address, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=60) as response:
        assert response.status == 200
        text: str = response.read().decode()
    return text


def test_a_served_model_can_be_scraped() -> None:
    """Over HTTP, in both formats, a scrape of a server's monitor says what was served."""
    repository, monitor = InMemoryModelRepository(), InMemoryModelMonitor()
    repository.register(sum)
    with ModelServer(repository, monitor) as server, serving(registered(MonitorCollector(monitor))) as address:
        for _ in range(7):
            server.predict([1, 2])
        server.predict(None)
        openmetrics = list(parse_openmetrics(fetched(address, "application/openmetrics-text; version=1.0.0")))
        text = list(parse_text(fetched(address, "text/plain")))
    for families in (openmetrics, text):
        samples = {
            (sample.name, sample.labels.get("version"), sample.labels.get("kind")): sample.value
            for family in families
            for sample in family.samples
        }
        assert samples["mlserve_requests_total", "1", None] == 8
        assert samples["mlserve_errors_total", "1", "InvalidInput"] == 1
        assert samples["mlserve_prediction_duration_seconds_count", "1", None] == 7


def test_scrapes_during_traffic_agree_with_themselves(traffic: Traffic) -> None:
    """While requests are recorded, each of two overlapping scrapers sees counters that rise and histograms that fit."""
    registry = registered(MonitorCollector(traffic.monitor))
    traffic.predict()
    one = frozenset({("model", "model"), ("version", "1")})

    def look() -> list[tuple[float, ...]]:
        seen = []
        for _ in range(10):
            samples = scrape(registry)
            seen.append(
                (
                    samples["mlserve_requests_total", one],
                    samples["mlserve_prediction_duration_seconds_count", one],
                    samples.get(("mlserve_errors_total", one | {("kind", "Overloaded")}), 0),
                )
            )
        return seen

    def work() -> list[tuple[float, ...]]:
        for _ in range(1_500):
            traffic.predict()
            traffic.fail()
        return []

    with ThreadPoolExecutor(3) as pool:
        looks = [future.result(60) for future in [pool.submit(work), pool.submit(look), pool.submit(look)]]
    assert all(requests == answered + failed for seen in looks for requests, answered, failed in seen)
    assert all(seen == sorted(seen) for seen in looks)
    assert scrape(registry)["mlserve_requests_total", one] == 3_001


def test_it_can_be_mounted_in_an_application(traffic: Traffic) -> None:
    """``make_wsgi_app`` of a registry with the collector answers a request with the scrape."""
    traffic.predict()
    said: list[str] = []
    app = make_wsgi_app(registered(MonitorCollector(traffic.monitor)))
    body = b"".join(
        app(
            {"PATH_INFO": "/metrics", "QUERY_STRING": "", "REQUEST_METHOD": "GET"},
            lambda status, _: said.append(status),
        )
    )
    assert said == ["200 OK"]
    assert b'mlserve_requests_total{model="model",version="1"} 1.0' in body
