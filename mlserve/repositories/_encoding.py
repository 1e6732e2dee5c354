"""Examples, baselines and what else a version carries, as JSON and arrays: nothing that could run code when read."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from mlserve import records
from mlserve.errors import SerializationError
from mlserve.numerics._binning import FeatureBins, ReferenceBins
from mlserve.numerics._sketches import LatencyHistogram
from mlserve.records._values import FrozenMapping
from mlserve.repositories._documents import moment
from mlserve.schemas import ArraySchema, RecordSchema, schema_from_json

_MARK = "$"
"""Begins the key of an object that stands for something JSON has no word for."""

_MAX_DEPTH = 64

Arrays = dict[str, npt.NDArray[Any]]


@cache
def _types() -> Mapping[str, type[Any]]:
    """The records and enums that may be stored, by name. What a document names is looked up here and nowhere else."""
    shown = [*(getattr(records, name) for name in records.__all__), LatencyHistogram, FeatureBins, ReferenceBins]
    return {cls.__name__: cls for cls in shown if attrs.has(cls) or issubclass(cls, StrEnum)}


def encoded(value: Any, arrays: Arrays, where: str, depth: int = 0) -> Any:
    """A value as JSON.

    Args:
        value: None, numbers, text, bytes, times, arrays and records of mlserve, and lists, tuples and mappings of
            these.
        arrays: Takes the arrays, by the name under which the JSON speaks of them.
        where: What the value is, for messages.
        depth: How deep in the whole it lies.

    Raises:
        SerializationError: It is or holds something else, or is nested too deeply.
    """
    if depth > _MAX_DEPTH:
        raise SerializationError(f"{where} is nested more than {_MAX_DEPTH} deep.", hint="Does it contain itself?")

    def inner(item: Any) -> Any:
        return encoded(item, arrays, where, depth + 1)

    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if kind is list:
        return [inner(item) for item in value]
    if kind is tuple:
        return {"$tuple": [inner(item) for item in value]}
    if kind is dict and all(type(key) is str and not key.startswith(_MARK) for key in value):
        return {key: inner(item) for key, item in value.items()}
    if kind in (dict, FrozenMapping):
        return {f"${kind.__name__}": [[inner(key), inner(item)] for key, item in value.items()]}
    if kind is bytes:
        return {"$bytes": base64.b64encode(value).decode()}
    if kind is datetime and value.tzinfo is not None:
        return {"$datetime": value.isoformat()}
    if kind in (date, datetime):
        return {"$date" if kind is date else "$local": value.isoformat()}
    if kind is timedelta:
        return {"$timedelta": [value.days, value.seconds, value.microseconds]}
    if kind in (ArraySchema, RecordSchema):
        return {"$schema": value.to_json()}
    if isinstance(value, (np.ndarray, np.generic)):
        return _encoded_array(value, arrays, inner)
    if kind is frozenset:
        return {"$frozenset": [inner(item) for item in sorted(value, key=repr)]}
    if kind is _types().get(kind.__name__):
        if issubclass(kind, StrEnum):
            return {"$enum": kind.__name__, "value": value.value}
        fields = [field.name for field in attrs.fields(kind) if field.init]
        return {"$record": kind.__name__, "fields": {name: inner(getattr(value, name)) for name in fields}}
    raise SerializationError(
        f"{where} holds a {kind.__module__}.{kind.__qualname__}, which cannot be stored safely.",
        hint="Use numbers, text, lists, dicts and arrays: of a frame one row is row.to_dict() or row.to_numpy().",
    )


def _encoded_array(value: Any, arrays: Arrays, inner: Callable[[Any], Any]) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.hasobject:
        return {"$objects": [inner(item) for item in value.ravel().tolist()], "shape": list(value.shape)}
    name = f"array-{len(arrays)}"
    arrays[name] = np.asarray(value)
    return {("$array" if isinstance(value, np.ndarray) else "$scalar"): name}


def decoded(value: Any, arrays: Mapping[str, npt.NDArray[Any]]) -> Any:
    """The value that ``encoded`` turned into JSON.

    Raises:
        ValueError: It is nothing that ``encoded`` writes; so do ``TypeError``, ``KeyError`` and other errors of
            ``mlserve`` itself where a record refuses its fields.
    """
    if isinstance(value, list):
        return [decoded(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    mark = next((key for key in value if key.startswith(_MARK)), None)
    if mark is None:
        return {key: decoded(item, arrays) for key, item in value.items()}
    content = value[mark]
    if mark == "$enum":
        return _types()[content](value["value"])
    if mark == "$record":
        return _decoded_record(content, decoded(value["fields"], arrays))
    if mark == "$objects":
        items = np.empty(len(content), object)
        items[:] = [decoded(item, arrays) for item in content]
        return items.reshape(value["shape"])
    if mark in ("$array", "$scalar"):
        return arrays[content] if mark == "$array" else arrays[content][()]
    return _DECODERS[mark](decoded(content, arrays))


def _decoded_record(name: str, fields: Mapping[str, Any]) -> Any:
    cls = _types()[name]
    known = {field.name for field in attrs.fields(cls)}
    # A later mlserve may know more of a record; what this one does not know it does not miss.
    return cls(**{name: value for name, value in fields.items() if name in known})


_DECODERS: Mapping[str, Callable[[Any], Any]] = {
    "$float": float,
    "$tuple": tuple,
    "$frozenset": frozenset,
    "$dict": lambda pairs: dict(map(tuple, pairs)),
    "$FrozenMapping": lambda pairs: FrozenMapping(dict(map(tuple, pairs))),
    "$bytes": lambda text: base64.b64decode(text, validate=True),
    "$datetime": moment,
    "$local": datetime.fromisoformat,
    "$date": date.fromisoformat,
    "$timedelta": lambda parts: timedelta(*parts),
    "$schema": schema_from_json,
}
