"""mlserve inside an existing FastAPI service.

    uvicorn examples.fastapi_service:app --host 127.0.0.1

The service owns its routes, its errors and its life cycle; mlserve answers inside it. Try::

    curl -X POST http://127.0.0.1:8000/wines -H 'content-type: application/json' \\
         -d '{"features": [13.2, 1.8, 2.1, 11.2, 100, 2.6, 2.7, 0.3, 1.3, 4.4, 1.05, 3.4, 1050]}'
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from fastapi import FastAPI, HTTPException, Response
from pydantic import BaseModel
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlserve import ArraySchema, ErrorKind, InMemoryModelMonitor, InMemoryModelRepository, ModelServer

HTTP_STATUS = {
    ErrorKind.InvalidInput: 422,
    ErrorKind.VersionNotFound: 404,
    ErrorKind.ModelLoadFailed: 503,
    ErrorKind.UnsupportedModel: 500,
    ErrorKind.PredictionException: 500,
    ErrorKind.DeadlineExceeded: 504,
    ErrorKind.Overloaded: 429,
    ErrorKind.CircuitOpen: 503,
    ErrorKind.RepositoryUnavailable: 503,
    ErrorKind.ServerClosed: 503,
}


class Wine(BaseModel):
    features: list[float]


class Answer(BaseModel):
    cultivar: str
    version: str
    prediction_id: str


class Outcome(BaseModel):
    prediction_id: str
    cultivar: str


def build_server() -> ModelServer:
    """Train, register, and hand the server over: in a real service the repository already holds the versions."""
    wine = load_wine()
    cultivars = wine.target_names[wine.target]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(wine.data, cultivars)
    repository = InMemoryModelRepository()
    repository.register(
        model,
        example=wine.data[0],
        schema=ArraySchema.infer(wine.data, names=wine.feature_names),
        baseline=wine.data,
    )
    return ModelServer(repository, InMemoryModelMonitor(), name="wine")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.server = build_server()
    await app.state.server.acheck_health()  # loads and tries the model before the first request
    yield
    app.state.server.close(timeout=10)


app = FastAPI(title="Wine", lifespan=lifespan)


@app.post("/wines")
async def classify(wine: Wine) -> Answer:
    result = await app.state.server.apredict(wine.features)
    if result.error is not None:
        raise HTTPException(HTTP_STATUS[result.error.kind], result.error.message)
    return Answer(cultivar=str(result.value), version=result.version.id, prediction_id=result.prediction_id)


@app.post("/outcomes", status_code=202)
async def learn(outcome: Outcome) -> None:
    app.state.server.record_outcome(outcome.prediction_id, outcome.cultivar)


@app.get("/health")
async def health(response: Response) -> dict[str, object]:
    status = await app.state.server.acheck_health()
    response.status_code = 200 if status.is_healthy else 503
    return {"status": status.status, "version": status.current_version, "error": status.error}


@app.get("/metrics")
def metrics() -> dict[str, object]:
    seen = app.state.server.get_model_metrics(window=timedelta(minutes=5))
    return {"requests": seen.request_count, "error_rate": seen.error_rate, "p95_ms": seen.p95_latency_ms}
