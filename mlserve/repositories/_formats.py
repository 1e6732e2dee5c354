"""In which form the bytes of a model are kept: safe forms first, those that can run code only by trust."""

from __future__ import annotations

import io
import json
import sys
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, final, runtime_checkable

import numpy as np
import numpy.typing as npt
from typing_extensions import Self, override

from mlserve.errors import (
    InvalidArgumentError,
    MalformedDocumentError,
    MissingExtraError,
    MlserveError,
    SerializationError,
    UnsupportedFormatError,
    UntrustedModelError,
)
from mlserve.repositories._archives import checked_archive, read_npz, write_npz
from mlserve.repositories._documents import canonical


@runtime_checkable
class ModelFormat(Protocol):
    """One form in which models are kept. Subclass it for a form of your own and pass it in ``formats=``.

    *Thread safety*: required.

    Attributes:
        name: What a version says its form is; never change it.
        runs_code: Whether loading runs whatever code the files hold. Such a format is used only by trust.
        packages: Names of the modules without which its files mean something else in another version.
    """

    name: str
    runs_code: bool = True
    packages: Sequence[str] = ()

    @abstractmethod
    def accepts(self, model: Any) -> bool:
        """Whether ``save`` takes the model. Imports no optional package that is not loaded yet."""
        ...

    @abstractmethod
    def save(self, model: Any) -> Mapping[str, bytes]:
        """The files of a model, by a plain relative name.

        Raises:
            Exception: It cannot be written; the repository translates what is not an ``MlserveError``.
        """
        ...

    @abstractmethod
    def load(self, files: Mapping[str, bytes], *, trusted: bool) -> Any:
        """The model of some files.

        Args:
            files: What ``save`` made.
            trusted: Whether whoever published it may run code here.

        Raises:
            UntrustedModelError: It could run code, and is not trusted.
            Exception: It cannot be read; the repository translates what is not an ``MlserveError``.
        """
        ...


@runtime_checkable
class ArrayModel(Protocol):
    """A model that is nothing but arrays, so that it can be kept without pickle. See ``NumpyFormat``."""

    @abstractmethod
    def to_arrays(self) -> Mapping[str, npt.NDArray[Any]]:
        """What the model is made of, by name."""
        ...

    @classmethod
    @abstractmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """The model made of these arrays."""
        ...


@final
class NumpyFormat(ModelFormat):
    """Arrays in a ``.npz`` archive: an array, a mapping of names to arrays, or a class of yours made of arrays.

    Only the classes that are given here are ever made again: what a file names is looked up among them, not imported.

    Args:
        classes: Classes with ``to_arrays()`` and ``from_arrays(arrays)``, as in ``ArrayModel``, of distinct names.

    Example:
        >>> saved = NumpyFormat().save({"weights": np.array([1.0, 2.0])})
        >>> NumpyFormat().load(saved, trusted=False)
        {'weights': array([1., 2.])}
    """

    name = "npz"
    runs_code = False

    def __init__(self, *classes: type[ArrayModel]) -> None:
        self._classes: dict[str, type[ArrayModel]] = {}
        for cls in classes:
            is_array_model = isinstance(cls, type) and issubclass(cls, ArrayModel)
            if not is_array_model or self._classes.setdefault(cls.__name__, cls) is not cls:
                raise InvalidArgumentError(
                    "classes", cls, "classes of distinct names with to_arrays and from_arrays", hint="See ArrayModel."
                )

    @override
    def accepts(self, model: Any) -> bool:
        if type(model) is np.ndarray:
            return not model.dtype.hasobject
        if type(model) is dict:
            return bool(model) and all(
                type(name) is str and type(array) is np.ndarray and not array.dtype.hasobject
                for name, array in model.items()
            )
        return self._classes.get(type(model).__name__) is type(model)

    @override
    def save(self, model: Any) -> Mapping[str, bytes]:
        kind, arrays = type(model).__name__, model
        if type(model) is np.ndarray:
            arrays = {"array": model}
        elif type(model) is not dict:
            arrays = {name: np.asarray(array) for name, array in model.to_arrays().items()}
        return {"arrays.npz": write_npz(arrays), "model.json": canonical({"made": kind})}

    @override
    def load(self, files: Mapping[str, bytes], *, trusted: bool) -> Any:
        made = json.loads(files["model.json"])["made"]
        arrays = read_npz(files["arrays.npz"], "arrays.npz")
        if made == "ndarray":
            return arrays["array"]
        if made == "dict":
            return arrays
        if made not in self._classes:
            raise UnsupportedFormatError(
                f"the model is a {made!r} made of arrays, and known are {sorted(self._classes)}.",
                hint=f"Open the repository with formats=[NumpyFormat({made}), ...].",
            )
        return self._classes[made].from_arrays(arrays)


@final
class SkopsFormat(ModelFormat):
    """Estimators of scikit-learn by skops, which makes again only what is known to be harmless.

    Types that skops does not know, such as classes of your own in a pipeline, are made only by trust or where they are
    named here. Needs the extra ``skops``.

    Args:
        types: Full names of further types that may be made, such as ``"our_package.Scaler"``.
    """

    name = "skops"
    runs_code = False
    packages: Sequence[str] = ("sklearn", "skops")

    def __init__(self, types: Sequence[str] = ()) -> None:
        self._types = frozenset(types)

    @override
    def accepts(self, model: Any) -> bool:
        # Whatever an estimator is made of was imported when it was trained.
        base = getattr(sys.modules.get("sklearn.base"), "BaseEstimator", None)
        return base is not None and isinstance(model, base)

    @override
    def save(self, model: Any) -> Mapping[str, bytes]:
        return {"model.skops": _skops().dumps(model)}

    @override
    def load(self, files: Mapping[str, bytes], *, trusted: bool) -> Any:
        io_module, data = _skops(), files["model.skops"]
        checked_archive(data, "model.skops").close()
        unknown = set(io_module.get_untrusted_types(data=data))
        refused = sorted(unknown - self._types)
        if refused and not trusted:
            raise UntrustedModelError(
                f"the model holds types that skops does not know to be harmless: {', '.join(refused)}.",
                hint="Name them in SkopsFormat(types=[...]), or open the repository with trust=True.",
            )
        return io_module.loads(data, trusted=sorted(unknown))


def _skops() -> Any:
    try:
        import skops.io as skops_io
    except ImportError as error:
        raise MissingExtraError("skops", "skops", "Keeping a scikit-learn estimator without pickle") from error
    return skops_io


class _PickleLike(ModelFormat):
    """What the formats share that keep anything, and run whatever code the bytes hold."""

    runs_code = True
    FILE: ClassVar[str]

    @override
    def accepts(self, model: Any) -> bool:
        return True

    @abstractmethod
    def _dumps(self, model: Any) -> bytes: ...

    @abstractmethod
    def _loads(self, data: bytes) -> Any: ...

    @override
    def save(self, model: Any) -> Mapping[str, bytes]:
        return {self.FILE: self._dumps(model)}

    @override
    def load(self, files: Mapping[str, bytes], *, trusted: bool) -> Any:
        if not trusted:
            raise UntrustedModelError(
                f"loading a model in the format {self.name!r} runs whatever code its bytes hold.",
                hint="Open the repository with trust=True, or with a verifier and sign what you publish.",
            )
        return self._loads(files[self.FILE])


@final
class PickleFormat(_PickleLike):
    """Anything that pickles. Loading runs code from the file: only by ``trust=True`` or a verified signature."""

    name = "pickle"
    FILE: ClassVar[str] = "model.pickle"

    @override
    def _dumps(self, model: Any) -> bytes:
        import pickle

        return pickle.dumps(model, protocol=pickle.HIGHEST_PROTOCOL)

    @override
    def _loads(self, data: bytes) -> Any:
        import pickle

        return pickle.loads(data)


@final
class JoblibFormat(_PickleLike):
    """Anything that joblib dumps, large arrays faster than pickle. By trust only. Needs the extra ``joblib``."""

    name = "joblib"
    packages: Sequence[str] = ("joblib",)
    FILE: ClassVar[str] = "model.joblib"

    @override
    def _dumps(self, model: Any) -> bytes:
        buffer = io.BytesIO()
        _joblib().dump(model, buffer)
        return buffer.getvalue()

    @override
    def _loads(self, data: bytes) -> Any:
        return _joblib().load(io.BytesIO(data))


def _joblib() -> Any:
    try:
        import joblib
    except ImportError as error:
        raise MissingExtraError("joblib", "joblib", "The format 'joblib'") from error
    return joblib


@final
class CloudpickleFormat(_PickleLike):
    """Functions and classes of a notebook as well. By trust only. Needs the extra ``cloudpickle``."""

    name = "cloudpickle"
    packages: Sequence[str] = ("cloudpickle",)
    FILE: ClassVar[str] = "model.pickle"

    @override
    def _dumps(self, model: Any) -> bytes:
        data: bytes = _cloudpickle().dumps(model)
        return data

    @override
    def _loads(self, data: bytes) -> Any:
        return _cloudpickle().loads(data)


def _cloudpickle() -> Any:
    try:
        import cloudpickle
    except ImportError as error:
        raise MissingExtraError("cloudpickle", "cloudpickle", "The format 'cloudpickle'") from error
    return cloudpickle


def checked_formats(formats: Sequence[ModelFormat]) -> tuple[ModelFormat, ...]:
    """The formats of a repository.

    Raises:
        InvalidArgumentError: Something that is no format, or two of one name.
    """
    listed = tuple(formats)
    names = [getattr(one, "name", None) for one in listed]
    if not all(isinstance(one, ModelFormat) for one in listed) or len(set(names)) < len(names) or not listed:
        raise InvalidArgumentError("formats", formats, "formats of distinct names, at least one")
    return listed


def format_for(model: Any, formats: Sequence[ModelFormat], trusted: bool) -> ModelFormat:
    """The first format that takes a model.

    Raises:
        UnsupportedFormatError: None does, or only such as run code, and nobody said that they may.
    """
    accepting = [one for one in formats if one.accepts(model)]
    chosen = next((one for one in accepting if trusted or not one.runs_code), None)
    if chosen is not None:
        return chosen
    names = [one.name for one in formats if not one.runs_code]
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    raise UnsupportedFormatError(
        f"a {kind} cannot be kept in a safe format; there are {names}.",
        hint=(
            "Give it to_arrays and from_arrays and pass formats=[NumpyFormat(ItsClass), ...]; or export it to ONNX; or "
            "open the repository with trust=True, which allows pickle and so lets whoever can write to it run code."
            if accepting
            else "Pass a ModelFormat of yours in formats=."
        ),
    )


def saved(model: Any, chosen: ModelFormat) -> Mapping[str, bytes]:
    """The files of a model; whatever goes wrong is a ``SerializationError``.

    Raises:
        SerializationError: The model cannot be written.
        MissingExtraError: A package is not installed.
    """
    try:
        files = dict(chosen.save(model))
    except MlserveError:
        raise
    except Exception as error:
        raise SerializationError(
            f"the model cannot be written as {chosen.name!r}: {type(error).__name__}: {error}.",
            hint="What it holds must be data: no open file, lock, lambda or class of a notebook.",
            exception=error,
        ) from error
    if not files or not all(isinstance(data, bytes) for data in files.values()):
        raise SerializationError(f"the format {chosen.name!r} gave no files of bytes.", hint="See ModelFormat.save.")
    return files


def restored(files: Mapping[str, bytes], chosen: ModelFormat, where: str, trusted: bool) -> Any:
    """The model of some files; whatever the bytes make a library raise is a ``MalformedDocumentError``."""
    try:
        return chosen.load(files, trusted=trusted)
    except MlserveError:
        raise
    except Exception as error:
        raise MalformedDocumentError(
            f"the model of {where} cannot be read as {chosen.name!r}: {type(error).__name__}: {error}.",
            hint="Was it registered with other versions of the libraries it needs?",
            path=where,
            exception=error,
        ) from error
