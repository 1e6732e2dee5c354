"""A registry of MLflow in a SQLite file, with its artifacts beside it."""

from __future__ import annotations

import functools
import itertools
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

# Nothing is sent anywhere from a test; MLflow asks this when it is imported.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what MLflow calls in newer versions of its own dependencies
    import mlflow
    import mlflow.onnx
    import mlflow.pyfunc
    import mlflow.sklearn
    from mlflow import MlflowClient

from mlserve.clocks import ManualClock
from mlserve.integrations.mlflow import MlflowModelRepository


@attrs.frozen
class LocalRegistry:
    """A registry, and where it is.

    Attributes:
        uri: Of its database.
        directory: Where its artifacts are.
        client: MLflow's own way in.
    """

    uri: str
    directory: Path
    client: MlflowClient
    numbers: Iterator[int] = attrs.field(factory=itertools.count)

    def new_name(self) -> str:
        """The name of a registered model that is not there yet, whose artifacts have a place."""
        name = f"model-{next(self.numbers)}"
        self.client.create_experiment(name, artifact_location=(self.directory / name).as_uri())
        return name

    def opened(self, name: str, clock=None, **options) -> MlflowModelRepository:
        """A repository on a registered model."""
        options = {"actor": "test", "clock": clock if clock is not None else ManualClock(), **options}
        return MlflowModelRepository(name, tracking_uri=self.uri, **options)


@functools.cache
def _tables() -> bytes:
    """A database with MLflow's tables, which take some seconds to make."""
    with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(directory, "registry.db")
        MlflowClient(tracking_uri=f"sqlite:///{path}").search_registered_models()
        return path.read_bytes()


@contextmanager
def local_registry(directory: Path) -> Iterator[LocalRegistry]:
    """A new registry."""
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    uri = f"sqlite:///{directory / 'registry.db'}"
    (directory / "registry.db").write_bytes(_tables())
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = MlflowClient(tracking_uri=uri)
    yield LocalRegistry(uri, directory, client)
    mlflow.set_tracking_uri(before)
