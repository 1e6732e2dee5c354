"""MLflow: a model with a signature, loaded in process."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec
from peer_case import CONSTANT, FEATURES, Call, logistic, second

NAMES = [f"x{index}" for index in range(FEATURES)]
TENSOR = ModelSignature(Schema([TensorSpec(np.dtype(float), (-1, FEATURES))]))
COLUMNS = ModelSignature(Schema([ColSpec("double", name) for name in NAMES]))


class Constant(mlflow.pyfunc.PythonModel):
    def predict(self, context: Any, model_input: Any, params: Any = None) -> float:
        return CONSTANT


def loaded(model: str, signature: ModelSignature, directory: Path) -> Any:
    if model == "constant":
        mlflow.pyfunc.save_model(directory, python_model=Constant(), signature=signature)
    else:
        mlflow.sklearn.save_model(
            logistic(),
            directory,
            signature=signature,
            pyfunc_predict_fn="predict_proba",
            serialization_format=mlflow.sklearn.SERIALIZATION_FORMAT_CLOUDPICKLE,
        )
    return mlflow.pyfunc.load_model(str(directory))


def calls(model: str) -> list[Call]:
    read = float if model == "constant" else second
    with tempfile.TemporaryDirectory() as directory:
        tensor = loaded(model, TENSOR, Path(directory) / "tensor")
        columns = loaded(model, COLUMNS, Path(directory) / "columns")
    return [
        Call("MLflow pyfunc, array, tensor signature", lambda row: row[None], tensor.predict, read),
        Call(
            "MLflow pyfunc, frame, column signature",
            lambda row: pd.DataFrame(row[None], columns=NAMES),
            columns.predict,
            read,
        ),
    ]
