"""The manifest of a version: every file with its size and hash, and all that the version carries."""

from __future__ import annotations

import platform
import sys
import warnings
from collections.abc import Mapping
from typing import Any, final

import attrs

from mlserve.errors import UnsafePathError, UnsupportedFormatError
from mlserve.records import ModelVersion, Task, VersionDescription
from mlserve.records._values import FrozenMapping
from mlserve.repositories._archives import read_npz, write_npz
from mlserve.repositories._changes import version_body, version_of
from mlserve.repositories._describing import Carried
from mlserve.repositories._documents import canonical, checked_path, digest_of, malformed, sealed, unsealed
from mlserve.repositories._encoding import Arrays, decoded, encoded
from mlserve.repositories._formats import ModelFormat

MODEL_DIRECTORY = "model/"
ARRAYS = "arrays.npz"
"""The arrays of the example and the baseline."""

_PYTHON = "python"


@final
class LibraryMismatchWarning(UserWarning):
    """A model was saved with other versions of the libraries it is made of than are there now."""


@attrs.frozen
class StoredFile:
    """One file of a version.

    Attributes:
        path: Below the version's directory, with slashes.
        size: In bytes.
        sha256: Of its bytes, hexadecimal.
    """

    path: str
    size: int
    sha256: str


@attrs.frozen(eq=False)
class Manifest:
    """What a version consists of.

    Attributes:
        version: The version, with its number.
        files: Every file but the manifest and its signature, sorted by path.
        format: Name of the model's format.
        libraries: Versions of the modules the model is made of, and of Python, when it was saved.
        carried: Task, example, baseline and so on as JSON; see ``encoded``.
        actor: Who published it.
    """

    version: ModelVersion
    files: tuple[StoredFile, ...]
    format: str
    libraries: Mapping[str, str]
    carried: Mapping[str, Any]
    actor: str

    def to_bytes(self) -> bytes:
        """The document."""
        body = {
            "actor": self.actor,
            "carried": dict(self.carried),
            "files": [attrs.asdict(file) for file in self.files],
            "libraries": dict(self.libraries),
            "model_format": self.format,
            "version": version_body(self.version),
        }
        return sealed("manifest", body)

    @classmethod
    def from_bytes(cls, data: bytes, path: str) -> Manifest:
        """The manifest that ``to_bytes`` wrote.

        Raises:
            IntegrityError: It is damaged, or names files that lie elsewhere.
            NewerFormatError: Written by a newer mlserve.
        """
        body = unsealed("manifest", data, path)
        try:
            files = tuple(StoredFile(**file) for file in body["files"])
            manifest = cls(
                version=version_of(body["version"]),
                files=files,
                format=body["model_format"],
                libraries=body["libraries"],
                carried=body["carried"],
                actor=body["actor"],
            )
            if [file.path for file in files] != sorted({checked_path(file.path, path) for file in files}):
                raise ValueError("its files are not sorted")
            if any(type(file.size) is not int or file.size < 0 for file in files):
                raise ValueError("a size is no number of bytes")
            if manifest.version.digest != model_digest(files):
                raise ValueError("its digest is not that of its files")
        except UnsafePathError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise malformed("manifest", path, error) from error
        return manifest

    @property
    def model_files(self) -> tuple[StoredFile, ...]:
        """The files of the model."""
        return tuple(file for file in self.files if file.path.startswith(MODEL_DIRECTORY))

    @property
    def array_files(self) -> tuple[StoredFile, ...]:
        """The file of the arrays that the version carries, where it has one."""
        return tuple(file for file in self.files if file.path == ARRAYS)

    def description(self, contents: Mapping[str, bytes], where: str) -> VersionDescription:
        """What the version carries.

        Args:
            contents: The bytes of ``array_files`` by path.
            where: The version's directory, for messages.

        Raises:
            IntegrityError: It is not what ``carried_files`` wrote.
        """
        arrays = read_npz(contents[ARRAYS], f"{where}/{ARRAYS}") if ARRAYS in contents else {}
        try:
            carried = {name: decoded(value, arrays) for name, value in self.carried.items()}
            task = carried.pop("task")
            return VersionDescription(
                version=self.version,
                task=None if task is None else Task(task),
                example=carried["example"],
                schema=carried["schema"],
                baseline=carried["baseline"],
                lineage=FrozenMapping(carried["lineage"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
            raise malformed("manifest", where, error) from error


def model_digest(files: tuple[StoredFile, ...]) -> str:
    """The digest of a version: that of the model's file, or of the list of names and hashes where there are several."""
    model = [file for file in files if file.path.startswith(MODEL_DIRECTORY)]
    if len(model) == 1:
        return f"sha256:{model[0].sha256}"
    return f"sha256:{digest_of(canonical([[file.path, file.sha256] for file in model]))}"


def carried_files(carried: Carried) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What a version carries as JSON, and the file of arrays that it speaks of.

    Raises:
        SerializationError: The example or the baseline holds what cannot be stored safely.
    """
    arrays: Arrays = {}
    body = {
        "task": None if carried.task is None else carried.task.value,
        "example": encoded(carried.example, arrays, "the example"),
        "schema": encoded(carried.schema, arrays, "the schema"),
        "baseline": encoded(carried.baseline, arrays, "the baseline"),
        "lineage": dict(carried.lineage),
    }
    return body, {ARRAYS: write_npz(arrays)} if arrays else {}


def libraries_of(model: Any, chosen: ModelFormat) -> dict[str, str]:
    """Versions of the modules by which a model means what it means: those of its format and those of its classes."""
    names = set(chosen.packages)
    if chosen.runs_code or chosen.packages:
        names |= {cls.__module__.partition(".")[0] for cls in type(model).__mro__}
    libraries = {name: version for name in names if (version := _version_of(name)) is not None}
    if chosen.runs_code:
        libraries[_PYTHON] = _python()
    return libraries


def _version_of(module: str) -> str | None:
    version = getattr(sys.modules.get(module), "__version__", None)
    return version if isinstance(version, str) else None


def _python() -> str:
    return ".".join(platform.python_version_tuple()[:2])


def warn_of_other_libraries(manifest: Manifest) -> None:
    """Warn where a model was saved with other versions than those that have just loaded it."""
    now = {name: _python() if name == _PYTHON else _version_of(name) for name in manifest.libraries}
    other = [
        f"{name} {saved} (now {now[name]})"
        for name, saved in sorted(manifest.libraries.items())
        if now[name] not in (None, saved)
    ]
    if other:
        warnings.warn(
            f"version {manifest.version.id} was saved with {', '.join(other)}. It may answer otherwise than when it "
            "was registered: compare its answers with those of its baseline, or train and register it again.",
            LibraryMismatchWarning,
            stacklevel=3,
        )


def format_of(manifest: Manifest, formats: tuple[ModelFormat, ...]) -> ModelFormat:
    """The format in which a version was saved.

    Raises:
        UnsupportedFormatError: The repository was not opened with it.
    """
    for one in formats:
        if one.name == manifest.format:
            return one
    raise UnsupportedFormatError(
        f"version {manifest.version.id} was saved as {manifest.format!r}, and the repository knows "
        f"{[one.name for one in formats]}.",
        hint="Open the repository with formats=[...] that hold it.",
    )
