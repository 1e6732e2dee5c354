"""The dashboard: what it asks for is what a scrape has."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from itertools import combinations
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from mlserve import InMemoryModelMonitor
from mlserve.clocks import ManualClock
from mlserve.integrations.grafana import dashboard
from mlserve.integrations.prometheus import MonitorCollector
from mlserve.monitors import FanoutMonitor
from mlserve.records import PredictionEvent

BOARD = dashboard()
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
VARIABLES = {variable["name"]: variable for variable in BOARD["templating"]["list"]}

SELECTOR = re.compile(r"(mlserve_\w+)\{([^}]*)\}")
MATCHER = re.compile(r'(\w+)(?:=~|!~|!=|=)"([^"]*)"')


class Sink:
    """A sink that takes everything."""

    def record_prediction(self, event: Any) -> None: ...

    def record_prediction_error(self, kind: str, version_id: str | None) -> None: ...

    def record_drift_event(self, event: Any) -> None: ...


@pytest.fixture(scope="module")
def scraped() -> dict[str, list[dict[str, str]]]:
    """The labels of every series of a scrape after traffic of a classifier and a regressor, by metric."""
    clock = ManualClock()
    monitor: Any = FanoutMonitor(InMemoryModelMonitor(clock=clock), Sink(), clock=clock)
    for number, (version, output, actual) in enumerate([("1", 1, 1), ("1", 1, 0), ("2", 1.5, 1.0), ("2", 2.0, 2.5)]):
        event = PredictionEvent(f"p{number}", version, [1.0], output, 2.0, clock.now(), confidence=0.5)
        monitor.record_prediction(event)
        monitor.record_outcome(event.prediction_id, actual)
    monitor.record_prediction_error("Overloaded", "1")
    registry = CollectorRegistry()
    registry.register(MonitorCollector(monitor, window=timedelta(minutes=5)))
    found: dict[str, list[dict[str, str]]] = {}
    for family in registry.collect():
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS, ids=lambda value: value[:60])
def test_a_query_asks_for_metrics_and_labels_that_exist(
    title: str, expression: str, scraped: dict[str, list[dict[str, str]]]
) -> None:
    """Every metric of a query is in a scrape, with every label that it is matched or grouped by."""
    selectors = SELECTOR.findall(expression)
    assert {name for name, _ in selectors} == set(re.findall(r"mlserve_\w+", expression)) != set()
    grouped = {label.strip() for group in re.findall(r"\bby \(([^)]*)\)", expression) for label in group.split(",")}
    for name, matchers in selectors:
        labels = {label for label, _ in MATCHER.findall(matchers)} | grouped
        assert name in scraped
        assert all(labels <= series.keys() for series in scraped[name])


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS, ids=lambda value: value[:60])
def test_a_query_matches_something(title: str, expression: str, scraped: dict[str, list[dict[str, str]]]) -> None:
    """With all models and versions chosen, every selector of a query matches a series of a scrape."""
    for name, matchers in SELECTOR.findall(expression):
        positive = re.findall(r'(\w+)=~?"([^"]*)"', matchers)
        chosen = [(label, ".*" if value.startswith("$") else value) for label, value in positive]
        assert any(all(re.fullmatch(value, series[label]) for label, value in chosen) for series in scraped[name])


def test_every_metric_of_a_scrape_is_shown(scraped: dict[str, list[dict[str, str]]]) -> None:
    """Every metric of a scrape is in some panel but the length of the window."""
    shown = {name for _, expression in EXPRESSIONS for name, _ in SELECTOR.findall(expression)}
    assert scraped.keys() - shown == {"mlserve_window_seconds"}


def test_variables_are_those_that_queries_use() -> None:
    """Every ``$variable`` of a query is defined by the dashboard or by Grafana, and every variable is used."""
    used = {name for _, expression in EXPRESSIONS for name in re.findall(r"\$(\w+)", expression)}
    assert used - {"__rate_interval"} == {"model", "version"} == VARIABLES.keys() - {"datasource"}


@pytest.mark.parametrize("name", ["model", "version"])
def test_a_variable_lists_labels_that_exist(name: str, scraped: dict[str, list[dict[str, str]]]) -> None:
    """The values to choose from are those of a label that the metric of the variable has."""
    found = re.fullmatch(r"label_values\((\w+)(?:\{.*\})?, (\w+)\)", VARIABLES[name]["query"]["query"])
    assert found is not None
    assert found[2] == name
    assert all(name in series for series in scraped[found[1]])


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every object within a value of JSON."""
    if isinstance(value, dict):
        yield value
        for one in value.values():
            yield from objects(one)
    elif isinstance(value, list):
        for one in value:
            yield from objects(one)


def test_everything_asks_the_chosen_data_source() -> None:
    """Panels, queries and variables name the data source variable, never one of somebody's own."""
    asked = [one["datasource"] for one in objects({**BOARD, "annotations": None}) if "datasource" in one]
    assert VARIABLES["datasource"]["type"] == "datasource"
    assert VARIABLES["datasource"]["query"] == "prometheus"
    assert len(asked) > len(PANELS)
    assert all(one == {"type": "prometheus", "uid": "${datasource}"} for one in asked)


def test_it_has_what_an_import_needs() -> None:
    """Title, uid, schema version and panels are there; the id is Grafana's to give."""
    assert (BOARD["title"], BOARD["uid"], BOARD["schemaVersion"], BOARD["id"]) == ("mlserve", "mlserve", 39, None)


def test_panels_have_numbers_of_their_own() -> None:
    """No two panels have the same id, and every query of a panel has a letter of its own."""
    ids = [panel["id"] for panel in BOARD["panels"]]
    letters = [[target["refId"] for target in panel["targets"]] for panel in PANELS]
    assert len(set(ids)) == len(ids)
    assert all(len(set(one)) == len(one) for one in letters)


def test_panels_do_not_overlap() -> None:
    """Panels lie within the 24 columns and beside each other."""
    cells = [
        {
            (column, line)
            for column in range(place["x"], place["x"] + place["w"])
            for line in range(place["y"], place["y"] + place["h"])
        }
        for place in (panel["gridPos"] for panel in BOARD["panels"])
    ]
    assert all(column < 24 for one in cells for column, _ in one)
    assert not any(first & second for first, second in combinations(cells, 2))


def test_every_panel_says_what_it_shows() -> None:
    """Every panel has a title, a description and a unit or a format."""
    assert all(panel["title"] and panel["description"].endswith(".") for panel in PANELS)
    assert all("unit" in panel["fieldConfig"]["defaults"] or panel["type"] == "heatmap" for panel in PANELS)


def test_the_dashboard_is_a_copy() -> None:
    """Changing what ``dashboard`` gave changes no other."""
    dashboard()["title"] = "ours"
    assert dashboard()["title"] == "mlserve"


def test_it_can_be_written_from_the_shell(pytestconfig: pytest.Config) -> None:
    """``python -m mlserve.integrations.grafana`` writes the dashboard as JSON."""
    ran = subprocess.run(
        [sys.executable, "-m", "mlserve.integrations.grafana"],
        cwd=pytestconfig.rootpath,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(ran.stdout) == BOARD
