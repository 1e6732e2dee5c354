"""Models to store, and repositories to store them in."""

from __future__ import annotations

from pathlib import Path

import attrs
import numpy as np

from mlserve import ArraySchema
from mlserve.clocks import ManualClock
from mlserve.repositories import DirectoryModelRepository, HmacSigner, HmacVerifier, NumpyFormat
from mlserve.repositories._documents import sealed, unsealed

KEY = bytes(range(32))
OTHER_KEY = bytes(range(1, 33))
SIGNER = HmacSigner("first", KEY)
VERIFIER = HmacVerifier({"first": KEY})


@attrs.frozen
class Constant:
    """A regressor made of one array: always the same answer."""

    value: float = 0.0

    def predict(self, X):
        return np.full(len(np.asarray(X)), self.value)

    def to_arrays(self):
        return {"value": np.array(self.value)}

    @classmethod
    def from_arrays(cls, arrays):
        return cls(float(arrays["value"]))


def opened(path, clock=None, **options) -> DirectoryModelRepository:
    """A repository for ``Constant``, arrays and mappings of arrays."""
    options.setdefault("formats", [NumpyFormat(Constant)])
    options.setdefault("actor", "test")
    return DirectoryModelRepository(path, clock=clock if clock is not None else ManualClock(), **options)


def described(repository: DirectoryModelRepository, value: float = 1.0, **options):
    """Register a model with all that a version can carry."""
    options.setdefault("example", [1.0, 2.0])
    options.setdefault("schema", ArraySchema(shape=(2,), names=("a", "b")))
    options.setdefault("baseline", np.array([[1.0, 2.0], [3.0, 4.0]]))
    options.setdefault("tags", {"commit": "abc"})
    options.setdefault("lineage", {"parent": "0"})
    return repository.register(Constant(value), **options)


def files_of(directory: Path) -> list[Path]:
    return sorted(file for file in directory.rglob("*") if file.is_file())


def load(path: Path, **options) -> object:
    """Everything of version 1, read by a new object."""
    repository = opened(path, **options)
    version = repository.get_latest_version()
    return repository.load_model(version), list(repository.describe(version).example)


def rewritten(path: Path, change) -> None:
    """Change the manifest of version 1 and seal it again, as somebody who means harm would."""
    file = path / "versions/1/manifest.json"
    body = unsealed("manifest", file.read_bytes(), "manifest")
    change(body)
    file.write_bytes(sealed("manifest", body))
