"""The files behind a version of an MLflow registry: as mlserve writes them, or in one of MLflow's flavors."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from mlserve.errors import (
    DigestMismatchError,
    MalformedDocumentError,
    MissingExtraError,
    MissingFileError,
    MlserveError,
    RepositoryUnavailableError,
    UnexpectedFileError,
    UnsupportedFormatError,
    UntrustedModelError,
)
from mlserve.repositories._documents import MAX_DOCUMENT_BYTES, digest_of
from mlserve.repositories._filesystem import Filesystem
from mlserve.repositories._formats import ModelFormat, SkopsFormat, restored
from mlserve.repositories._layout import MANIFEST
from mlserve.repositories._manifests import (
    MODEL_DIRECTORY,
    Manifest,
    StoredFile,
    format_of,
    warn_of_other_libraries,
)
from mlserve.repositories._onnx import OnnxModel

FLAVOR_FILE: Final = "MLmodel"

FlavorLoader = Callable[[str], Any]
"""From the directory of a model of MLflow, with its ``MLmodel`` file, to something that mlserve serves."""


def published(directory: Path) -> Manifest | None:
    """The manifest where mlserve published what lies in a directory; None where something else did.

    Raises:
        IntegrityError: It is damaged.
    """
    try:
        data = Filesystem().read(str(directory / MANIFEST), MAX_DOCUMENT_BYTES)
    except FileNotFoundError:
        return None
    return Manifest.from_bytes(data, MANIFEST)


def contents(directory: Path, manifest: Manifest, files: tuple[StoredFile, ...]) -> dict[str, bytes]:
    """The bytes of some files that mlserve published, each read once and hashed as read.

    Raises:
        IntegrityError: They are not as they were published, or other files lie beside them.
    """
    names = {path.relative_to(directory).as_posix() for path in directory.rglob("*") if not path.is_dir()}
    for name in sorted(names - {MANIFEST, *(file.path for file in manifest.files)}):
        raise UnexpectedFileError(f"{name} was not published.", hint="Remove it.", path=name)
    found = {}
    for file in files:
        if file.path not in names:
            raise MissingFileError(f"{file.path} is not there.", hint="Register the model again.", path=file.path)
        found[file.path] = Filesystem().read(str(directory / file.path), file.size)
        if digest_of(found[file.path]) != file.sha256:
            raise DigestMismatchError(
                f"the bytes of {file.path} are not those that were published.",
                hint="Register the model again.",
                path=file.path,
            )
    return found


def load_published(
    directory: Path, manifest: Manifest, formats: tuple[ModelFormat, ...], trust: bool, where: str
) -> Any:
    """The model that mlserve published."""
    chosen = format_of(manifest, formats)
    files = contents(directory, manifest, manifest.model_files)
    model = restored({path.removeprefix(MODEL_DIRECTORY): data for path, data in files.items()}, chosen, where, trust)
    warn_of_other_libraries(manifest)
    return model


def load_flavor(directory: str, flavors: Mapping[str, FlavorLoader], trust: bool, where: str) -> Any:
    """The model that MLflow logged, by the first flavor that can be loaded.

    Args:
        directory: What ``MLmodel`` lies in.
        flavors: Loaders of the user's by flavor; they come first.
        trust: Whether flavors may be loaded that run code from the files.
        where: The version, for messages.

    Raises:
        UntrustedModelError: All its flavors could run code, and nobody said that they may.
        UnsupportedFormatError: There is no ``MLmodel`` file, or no flavor that can be loaded.
        MalformedDocumentError: The loader could not read the files.
    """
    import mlflow.models

    if not os.path.isfile(os.path.join(directory, FLAVOR_FILE)):
        raise UnsupportedFormatError(
            f"{where} was published neither by mlserve nor as a model of MLflow: there is no {FLAVOR_FILE} file.",
            hint="Its source must be the directory that log_model made.",
        )
    found = mlflow.models.Model.load(directory).flavors
    known: dict[str, FlavorLoader] = {**flavors, **safe_loaders(found)}
    if trust:
        known = {**known, **{name: load for name, load in _CODE_LOADERS.items() if name not in known}}
    name = next((name for name in known if name in found), None)
    if name is None and any(one in found for one in _CODE_LOADERS):
        raise UntrustedModelError(
            f"loading {where} by the flavors {sorted(found)} runs whatever code its files hold.",
            hint="Open the repository with trust=True; or log the model as ONNX, or as sklearn in the format 'skops'.",
        )
    if name is None:
        raise UnsupportedFormatError(
            f"{where} has the flavors {sorted(found)}, and there are loaders for {sorted({**known, **_CODE_LOADERS})}.",
            hint="Pass flavors={'its flavor': load}, where load takes the directory.",
        )
    try:
        return known[name](directory)
    except MlserveError:
        raise
    except ImportError as error:
        raise MissingExtraError(error.name or name, name, f"The flavor {name!r}") from error
    except Exception as error:
        raise MalformedDocumentError(
            f"{where} cannot be read as {name!r}: {type(error).__name__}: {error}.",
            hint="Was it logged with other versions of the libraries it needs?",
            exception=error,
        ) from error


def safe_loaders(found: Mapping[str, Mapping[str, Any]]) -> dict[str, FlavorLoader]:
    """Loaders of the flavors that run no code, for a model of these flavors."""
    loaders: dict[str, FlavorLoader] = {}
    if "data" in found.get("onnx", {}):
        loaders["onnx"] = lambda directory: OnnxModel(_file(directory, found["onnx"]["data"]))
    if found.get("sklearn", {}).get("serialization_format") == "skops":
        loaders["sklearn"] = lambda directory: SkopsFormat().load(
            {"model.skops": _file(directory, found["sklearn"]["pickled_model"])}, trusted=False
        )
    return loaders


def _file(directory: str, name: str) -> bytes:
    return Path(directory, name).read_bytes()


def _sklearn(directory: str) -> Any:
    import mlflow.sklearn

    return mlflow.sklearn.load_model(directory)


def _pyfunc(directory: str) -> Any:
    import mlflow.pyfunc

    return mlflow.pyfunc.load_model(directory)


_CODE_LOADERS: Final[Mapping[str, FlavorLoader]] = {"sklearn": _sklearn, "python_function": _pyfunc}


class Download:
    """The files behind a version, in a directory of their own for as long as somebody needs them.

    Args:
        uri: Where they are.
        tracking_uri: Which MLflow knows the place.
        where: The version, for messages.
    """

    def __init__(self, uri: str, tracking_uri: str | None, where: str) -> None:
        import mlflow.artifacts

        self._temporary = tempfile.TemporaryDirectory(prefix="mlserve-mlflow-")
        try:
            self.directory = Path(
                mlflow.artifacts.download_artifacts(
                    artifact_uri=uri, dst_path=self._temporary.name, tracking_uri=tracking_uri
                )
            )
        except Exception as error:
            self.close()
            raise RepositoryUnavailableError(
                f"the files of {where} cannot be read: {type(error).__name__}: {error}.",
                hint="Is the artifact store there, and may this process read it?",
                exception=error,
            ) from error

    def close(self) -> None:
        """Remove the directory."""
        self._temporary.cleanup()

    def keep_for(self, model: Any) -> None:
        """Keep the directory for as long as a model lives, which may read from it when it predicts."""
        try:
            weakref.finalize(model, self.close)
        except TypeError:  # a list, a dict: nothing that reads
            self.close()
