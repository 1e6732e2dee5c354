"""MLServer: its scikit-learn runtime in process, and its server."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from mlserver import MLModel, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.handlers import DataPlane
from mlserver.registry import MultiModelRegistry
from mlserver.settings import ModelParameters
from mlserver.types import InferenceRequest, InferenceResponse, RequestInput
from mlserver_sklearn import SKLearnModel
from peer_case import CONSTANT, FEATURES, Call, Door, Row, Server, logistic

BATCH = 64
BATCH_SECONDS = 0.001
PROBABILITIES = {"predict_fn": "predict_proba"}


class Constant(MLModel):
    """Takes the array out of the request and answers a number."""

    async def load(self) -> bool:
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        self.decode(payload.inputs[0], default_codec=NumpyCodec)
        answer = NumpyCodec.encode_output("y", np.array([CONSTANT]))
        return InferenceResponse(model_name=self.name, outputs=[answer])


def request(row: Row) -> InferenceRequest:
    return InferenceRequest(
        inputs=[RequestInput(name="x", shape=[1, FEATURES], datatype="FP64", data=row.tolist())],
    )


def calls(model: str) -> list[Call]:
    return asyncio.run(_calls(model))


async def _calls(model: str) -> list[Call]:
    with tempfile.TemporaryDirectory() as directory:
        uri = str(Path(directory) / "model.joblib")
        joblib.dump(logistic(), uri)
        kind = Constant if model == "constant" else SKLearnModel
        parameters = ModelParameters(uri=uri, extra=PROBABILITIES)
        settings = ModelSettings(name=model, implementation=kind, parameters=parameters)
        registry = MultiModelRegistry()
        runtime = await registry.load(settings)
    plane = None if model == "constant" else DataPlane(Settings(), registry)

    def read(response: Any) -> float:
        return float(np.ravel(NumpyCodec.decode_output(response.outputs[0]))[-1])

    found = [
        Call("MLServer model, request made before", request, runtime.predict, read, awaited=True),
        Call(
            "MLServer model, request made for each row",
            lambda row: row,
            lambda row: runtime.predict(request(row)),
            read,
            awaited=True,
        ),
    ]
    if plane is not None:  # its counters can be made once in a process
        found.append(
            Call(
                "MLServer data plane, counted, request made before",
                request,
                lambda made: plane.infer(made, model),
                read,
                awaited=True,
            )
        )
    return found


def settings_written(port: int, directory: Path) -> list[str]:
    common = {"host": "127.0.0.1", "http_port": port, "grpc_port": port + 1, "metrics_port": port + 2}
    server = {**common, "debug": False, "parallel_workers": 0, "metrics_dir": str(directory)}
    (directory / "settings.json").write_text(json.dumps(server))
    joblib.dump(logistic(), directory / "model.joblib")
    batching = {"max_batch_size": BATCH, "max_batch_time": BATCH_SECONDS}
    for name, options in (("batched", batching), ("plain", {})):
        one = directory / name
        one.mkdir()
        parameters = {"uri": str(directory / "model.joblib"), "extra": PROBABILITIES}
        implementation = "mlserver_sklearn.SKLearnModel"
        settings = {"name": name, "implementation": implementation, "parameters": parameters, **options}
        (one / "model-settings.json").write_text(json.dumps(settings))
    return [str(Path(sys.executable).parent / "mlserver"), "start", str(directory)]


def servers() -> list[Server]:
    def body(row: Row) -> Any:
        return {"inputs": [{"name": "x", "shape": [1, FEATURES], "datatype": "FP64", "data": row.tolist()}]}

    served = Server(
        settings_written,
        [
            Door(f"MLServer, {title}", f"/v2/models/{name}/infer", body, lambda found: found["outputs"][0]["data"][-1])
            for name, title in (("batched", "batched"), ("plain", "not batched"))
        ],
    )
    return [served]
