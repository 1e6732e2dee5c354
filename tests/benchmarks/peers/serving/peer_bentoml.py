"""BentoML: a service called in process, and the same one served. This module is what it serves."""

from __future__ import annotations

import atexit
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import bentoml
import numpy as np
from bentoml.validators import DType, Shape
from peer_case import CONSTANT, FEATURES, Call, Door, Row, Server, logistic, second

BATCH = 64
NAMES = [f"feature_{number}" for number in range(FEATURES)]

Table = Annotated[np.ndarray, DType("float64"), Shape((1, FEATURES))]
Tables = Annotated[np.ndarray, DType("float64")]


@bentoml.service
class Constant:
    @bentoml.api
    def predict(self, x: Table) -> float:
        return CONSTANT


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Logistic:
    def __init__(self) -> None:
        self.model = logistic()

    @bentoml.api
    def predict(self, x: Table) -> np.ndarray:
        return self.model.predict_proba(x)

    @bentoml.api(batchable=True, max_batch_size=BATCH)
    def batched(self, x: Tables) -> np.ndarray:
        return self.model.predict_proba(x)


def calls(model: str) -> list[Call]:
    service = Constant if model == "constant" else Logistic
    read = float if model == "constant" else second
    predict = service().predict
    taken = service.apis["predict"].input_spec

    def validated(x: Any) -> Any:
        return predict(taken(x=x).x)

    options = {"log_path": tempfile.mkdtemp(prefix="bentoml-monitoring-")}
    atexit.register(shutil.rmtree, options["log_path"], ignore_errors=True)

    def recorded(x: Any) -> Any:
        table = taken(x=x).x
        with bentoml.monitor(model, monitor_options=options) as record:
            for name, value in zip(NAMES, x[0], strict=True):
                record.log(value, name, role="feature", data_type="numerical")
            answer = predict(table)
            record.log(read(answer), "prediction", role="prediction", data_type="numerical")
        return answer

    return [
        Call("BentoML, a list validated, recorded by its monitor", lambda row: [row.tolist()], recorded, read),
        Call("BentoML, bound method, nothing validated", lambda row: row[None], predict, read),
        Call("BentoML, a list validated by its input model", lambda row: [row.tolist()], validated, read),
        Call("BentoML, an array through its input model", lambda row: row[None], validated, read),
    ]


def servers() -> list[Server]:
    def command(port: int, directory: Path) -> list[str]:
        here = str(Path(__file__).parent)
        tool = str(Path(sys.executable).parent / "bentoml")
        address = ["--host", "127.0.0.1", "--port", str(port), "--working-dir", here]
        return [tool, "serve", "peer_bentoml:Logistic", *address]

    def body(row: Row) -> Any:
        return {"x": [row.tolist()]}

    served = Server(
        command,
        [
            Door("BentoML, batched", "/batched", body, second),
            Door("BentoML, not batched", "/predict", body, second),
        ],
    )
    return [served]
