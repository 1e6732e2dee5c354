"""The examples do what they say."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


@pytest.fixture
def examples_on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setenv("MPLBACKEND", "Agg")


def test_flights_drift_with_the_seasons(examples_on_path, tmp_path, capsys):
    """By August every flight leaves in warmer air than in winter: the detector says so, names it, and draws it."""
    import flights

    picture = tmp_path / "drift.png"
    found = flights.run(last_month=8, every=20, path=picture)
    august = found[-1].analysis.data_drift
    assert [len(found), august.drifted_features[0].name] == [6, "temperature_f"]
    assert august.drifted_features[0].direction == "up"
    assert august.drifted_features[0].effect_size > 0.95
    assert picture.stat().st_size > 10_000
    assert "Aug" in capsys.readouterr().out


def test_flights_tell_the_months_apart(examples_on_path, tmp_path):
    """Each month is judged by its own flights: temperature rises from March to July."""
    import flights

    found = flights.run(last_month=7, every=20, path=tmp_path / "drift.png")
    moved = [
        next(feature.effect_size for feature in month.analysis.data_drift.features if feature.name == "temperature_f")
        for month in found
    ]
    assert moved == sorted(moved)


def test_flights_estimate_before_the_landings(examples_on_path, tmp_path, capsys):
    """March is as accurate as its confidences say, April is not; the table marks April, and tells why."""
    import flights

    march, april = flights.run(last_month=4, every=20, path=tmp_path / "drift.png")
    assert [flights.is_outside_band(month) for month in (march, april)] == [False, True]
    assert april.analysis.performance_drift.realised_accuracy < april.analysis.performance_drift.estimate.accuracy
    shown = capsys.readouterr().out
    lines = [line for line in shown.splitlines() if line.startswith(("Mar", "Apr"))]
    assert [("±" in line, "!" in line) for line in lines] == [(True, False), (True, True)]
    assert "In 1 of 2 months" in shown


def test_notebook_runs(monkeypatch):
    """Every cell of the notebook runs, and the last one is the drift of the petals."""
    notebook = json.loads((EXAMPLES / "notebook.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    namespace: dict[str, object] = {}
    for cell in cells[:-1]:
        exec(compile(cell, "notebook", "exec"), namespace)
    drift = eval(cells[-1], namespace)
    assert [feature.name for feature in drift.analysis.data_drift.drifted_features] == ["petal length (cm)"]


def test_notebook_was_saved_with_its_outputs():
    """The notebook shows its records as tables to whoever opens it without running it."""
    notebook = json.loads((EXAMPLES / "notebook.ipynb").read_text(encoding="utf-8"))
    shown = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    assert sum("text/html" in output.get("data", {}) for output in shown) == 5


WINE = (13.2, 1.8, 2.1, 11.2, 100, 2.6, 2.7, 0.3, 1.3, 4.4, 1.05, 3.4, 1050)


@pytest.fixture
def service(examples_on_path):
    """Runs calls against the application between its startup and its shutdown."""
    import fastapi_service

    def run(calls):
        async def session():
            transport = httpx.ASGITransport(app=fastapi_service.app)
            async with (
                fastapi_service.lifespan(fastapi_service.app),
                httpx.AsyncClient(transport=transport, base_url="http://service") as client,
            ):
                return await calls(client)

        return asyncio.run(session())

    return run


class TestFastApiService:
    """mlserve inside an application that somebody else owns."""

    def test_answers(self, service):
        """A wine is answered with its cultivar, the version and an id."""

        async def calls(client):
            return await client.post("/wines", json={"features": WINE})

        answer = service(calls).json()
        assert (answer["cultivar"], answer["version"]) == ("class_0", "1")

    def test_bad_input_is_422(self, service):
        """An input that does not fit the schema is the caller's fault, and says which part."""

        async def calls(client):
            return await client.post("/wines", json={"features": WINE[:5]})

        response = service(calls)
        assert response.status_code == 422
        assert "shape (5,)" in response.json()["detail"]

    def test_health(self, service):
        """The health route is 200 while the server serves."""

        async def calls(client):
            return await client.get("/health")

        response = service(calls)
        assert (response.status_code, response.json()["status"]) == (200, "HEALTHY")

    def test_metrics_count_the_requests(self, service):
        """The metrics route counts what was asked, failures included."""

        async def calls(client):
            await client.post("/wines", json={"features": WINE})
            await client.post("/wines", json={"features": []})
            return await client.get("/metrics")

        assert service(calls).json()["requests"] == 2

    def test_outcomes_are_taken(self, service):
        """What a wine really was can be told later, and counts in the accuracy."""

        async def calls(client):
            answer = (await client.post("/wines", json={"features": WINE})).json()
            outcome = {"prediction_id": answer["prediction_id"], "cultivar": "class_0"}
            response = await client.post("/outcomes", json=outcome)
            return response.status_code, client._transport.app.state.server.get_model_metrics().accuracy

        assert service(calls) == (202, 1.0)
