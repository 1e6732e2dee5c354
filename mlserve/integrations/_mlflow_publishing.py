"""Writing a model where MLflow keeps files, and its number into the registry."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, final

from mlflow.exceptions import MlflowException

from mlserve.integrations._mlflow_registry import CREATED, DIGEST, Registry
from mlserve.records import ModelVersion
from mlserve.repositories._describing import Carried
from mlserve.repositories._documents import checked_path, digest_of
from mlserve.repositories._formats import ModelFormat, saved
from mlserve.repositories._layout import MANIFEST
from mlserve.repositories._manifests import (
    MODEL_DIRECTORY,
    Manifest,
    StoredFile,
    carried_files,
    libraries_of,
    model_digest,
)

ARTIFACTS: Final = "mlserve"
"""The folder of a run in which a version's files lie."""


@final
class Publisher:
    """Registers models: the files into a run, whole, and only then a version that names them.

    *Thread safety*: that of ``MlflowClient``.

    Args:
        registry: The registered model.
        experiment: In which experiment the runs are made.
    """

    def __init__(self, registry: Registry, experiment: str) -> None:
        self._registry = registry
        self._experiment = experiment

    def publish(
        self,
        model: Any,
        chosen: ModelFormat,
        carried: Carried,
        labels: Mapping[str, str],
        created_at: datetime,
        actor: str,
    ) -> ModelVersion:
        """Write a model with all that it carries; gives the version, which does not serve yet.

        Raises:
            SerializationError: The model, or what it carries, cannot be written.
        """
        files = {f"{MODEL_DIRECTORY}{name}": data for name, data in saved(model, chosen).items()}
        body, arrays = carried_files(carried)
        files.update(arrays)
        stored = tuple(
            StoredFile(checked_path(path, "the format"), len(data), digest_of(data))
            for path, data in sorted(files.items())
        )
        digest, client = model_digest(stored), self._registry.client
        self._make_model()
        run = client.create_run(self._experiment_id(), run_name=f"mlserve {self._registry.name}")
        # MLflow gives the number last; in the manifest the run stands for it.
        version = ModelVersion(run.info.run_id, created_at, digest, labels)
        manifest = Manifest(version, stored, chosen.name, libraries_of(model, chosen), body, actor)
        self._upload(run.info.run_id, {**files, MANIFEST: manifest.to_bytes()})
        found = client.create_model_version(
            self._registry.name,
            f"{run.info.artifact_uri}/{ARTIFACTS}",
            run_id=run.info.run_id,
            tags={**labels, CREATED: created_at.isoformat(), DIGEST: digest},
        )
        client.set_terminated(run.info.run_id)
        return ModelVersion(str(found.version), created_at, digest, labels)

    def _make_model(self) -> None:
        try:
            self._registry.client.create_registered_model(self._registry.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _experiment_id(self) -> str:
        client = self._registry.client
        found = client.get_experiment_by_name(self._experiment)
        return str(found.experiment_id if found is not None else client.create_experiment(self._experiment))

    def _upload(self, run_id: str, files: Mapping[str, bytes]) -> None:
        with tempfile.TemporaryDirectory(prefix="mlserve-mlflow-") as directory:
            for path, data in files.items():
                target = Path(directory, path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
            self._registry.client.log_artifacts(run_id, directory, ARTIFACTS)
