"""Where versions live."""

import typing

from mlserve import _importing
from mlserve.repositories._memory import InMemoryModelRepository

if typing.TYPE_CHECKING:
    from mlserve.repositories._directory import DirectoryModelRepository
    from mlserve.repositories._filesystem import Filesystem, Kind
    from mlserve.repositories._formats import (
        ArrayModel,
        CloudpickleFormat,
        JoblibFormat,
        ModelFormat,
        NumpyFormat,
        PickleFormat,
        SkopsFormat,
    )
    from mlserve.repositories._manifests import LibraryMismatchWarning
    from mlserve.repositories._onnx import OnnxFormat, OnnxModel
    from mlserve.repositories._reports import Collection, Repair, RepositoryStatistics, Verification
    from mlserve.repositories._signing import (
        HmacSigner,
        HmacVerifier,
        ModelSigningSigner,
        ModelSigningVerifier,
        Signature,
        Signer,
        Verifier,
    )

__all__ = [
    "ArrayModel",
    "CloudpickleFormat",
    "Collection",
    "DirectoryModelRepository",
    "Filesystem",
    "HmacSigner",
    "HmacVerifier",
    "InMemoryModelRepository",
    "JoblibFormat",
    "Kind",
    "LibraryMismatchWarning",
    "ModelFormat",
    "ModelSigningSigner",
    "ModelSigningVerifier",
    "NumpyFormat",
    "OnnxFormat",
    "OnnxModel",
    "PickleFormat",
    "Repair",
    "RepositoryStatistics",
    "Signature",
    "Signer",
    "SkopsFormat",
    "Verification",
    "Verifier",
]

# What keeps models on disk is loaded when it is first used: a service with its models in memory does not pay for it.
_ON_DISK = {
    "_directory": ("DirectoryModelRepository",),
    "_filesystem": ("Filesystem", "Kind"),
    "_formats": (
        "ArrayModel",
        "CloudpickleFormat",
        "JoblibFormat",
        "ModelFormat",
        "NumpyFormat",
        "PickleFormat",
        "SkopsFormat",
    ),
    "_manifests": ("LibraryMismatchWarning",),
    "_onnx": ("OnnxFormat", "OnnxModel"),
    "_reports": ("Collection", "Repair", "RepositoryStatistics", "Verification"),
    "_signing": (
        "HmacSigner",
        "HmacVerifier",
        "ModelSigningSigner",
        "ModelSigningVerifier",
        "Signature",
        "Signer",
        "Verifier",
    ),
}

if not typing.TYPE_CHECKING:  # a type checker would take __getattr__ to give every name
    __getattr__, __dir__ = _importing.lazy_exports(
        __name__, {name: f"{__name__}.{module}" for module, names in _ON_DISK.items() for name in names}
    )
