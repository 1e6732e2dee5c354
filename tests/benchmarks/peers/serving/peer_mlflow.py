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
from peer_case import CONSTANT, FEATURES, Call, Row, logistic, second, table
from sklearn.linear_model import LogisticRegression

NAMES = [f"x{index}" for index in range(FEATURES)]
TENSOR = ModelSignature(Schema([TensorSpec(np.dtype(float), (-1, FEATURES))]))
COLUMNS = ModelSignature(Schema([ColSpec("double", name) for name in NAMES]))


class Constant(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):  # MLflow would read type hints as a signature
        return CONSTANT


def frame(X: Row) -> pd.DataFrame:
    return pd.DataFrame(X, columns=NAMES)


def loaded(model: str, directory: Path, fitted: LogisticRegression, signature: ModelSignature) -> Any:
    if model == "constant":
        mlflow.pyfunc.save_model(directory, python_model=Constant(), signature=signature)
    else:
        mlflow.sklearn.save_model(
            fitted,
            directory,
            signature=signature,
            pyfunc_predict_fn="predict_proba",
            serialization_format=mlflow.sklearn.SERIALIZATION_FORMAT_CLOUDPICKLE,
        )
    return mlflow.pyfunc.load_model(str(directory))


def given_frame(row: Row) -> pd.DataFrame:
    return frame(row[None])


def calls(model: str) -> list[Call]:
    read = float if model == "constant" else second
    X, y = table()
    by_name = LogisticRegression().fit(frame(X), y)
    with tempfile.TemporaryDirectory() as directory:
        tensor = loaded(model, Path(directory) / "tensor", logistic(), TENSOR)
        columns = loaded(model, Path(directory) / "columns", by_name, COLUMNS)
    direct = [Call("scikit-learn's predict_proba of a frame", given_frame, by_name.predict_proba, second)]
    return [
        *(direct if model == "logistic" else []),
        Call("MLflow pyfunc, array, tensor signature", lambda row: row[None], tensor.predict, read),
        Call("MLflow pyfunc, frame, column signature", given_frame, columns.predict, read),
    ]
