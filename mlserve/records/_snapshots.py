"""What one monitor counted, in a form that travels."""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
from typing_extensions import override

from mlserve.errors import InvalidArgumentError, SnapshotFormatError
from mlserve.records._values import FrozenMapping, aware, to_utc

FORMAT = 1
"""Rises when older readers could not understand what is written."""

MAGIC = b"MLSVSNAP"
LARGEST = 2**30
"""Bytes of a snapshot when unpacked, at most: far more than any monitor holds, far less than an attacker could pack."""

_PREFIX = struct.Struct(">8sHI")
_LENGTH = struct.Struct(">I")
_DTYPES = frozenset({"<i2", "<i4", "<i8", "<f8"})


def _columns(value: Mapping[str, npt.NDArray[Any]]) -> FrozenMapping[str, npt.NDArray[Any]]:
    columns = {name: np.asarray(column).view() for name, column in value.items()}
    for column in columns.values():
        column.flags.writeable = False
    return FrozenMapping(columns)


def _header(value: Mapping[str, Any]) -> FrozenMapping[str, Any]:
    return FrozenMapping(value)


def _named(_instance: object, attribute: Any, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise InvalidArgumentError(attribute.name, value, "a non-empty string")


def _numbered(_instance: object, attribute: Any, value: Any) -> None:
    if type(value) is not int or value < 0:
        raise InvalidArgumentError(attribute.name, value, "a whole number, at least 0")


@attrs.frozen(eq=False, repr=False, kw_only=True)
class MonitorSnapshot:
    """The counts of one monitor, to be merged by another.

    A snapshot is cumulative: a bucket in it holds all that its source counted there so far. Merging the same one twice,
    or an older one after a newer one, changes nothing. It holds counts and sums only: no inputs, no outputs but the
    names of classes.

    *Thread safety*: immutable.

    Attributes:
        source: The monitor it comes from; unique over processes.
        sequence: Rises with every change of the source.
        after: 0 for all that the source holds; else only buckets that changed after this sequence.
        taken_at: When; UTC.
        header: Names that the columns refer to; plain JSON values.
        columns: The counts, by name; read-only.
    """

    source: str = attrs.field(validator=_named)
    sequence: int = attrs.field(validator=_numbered)
    after: int = attrs.field(validator=_numbered)
    taken_at: datetime = attrs.field(converter=to_utc, validator=aware)
    header: Mapping[str, Any] = attrs.field(converter=_header)
    columns: Mapping[str, npt.NDArray[Any]] = attrs.field(converter=_columns)

    def to_bytes(self) -> bytes:
        """The snapshot as compressed bytes: a format number, a checksum, JSON and little-endian arrays. No pickle."""
        arrays = {
            name: np.ascontiguousarray(value, value.dtype.newbyteorder("<")) for name, value in self.columns.items()
        }
        described = {
            "source": self.source,
            "sequence": self.sequence,
            "after": self.after,
            "taken_at": self.taken_at.isoformat(),
            "header": dict(self.header),
            "columns": [[name, array.dtype.str, array.shape] for name, array in arrays.items()],
        }
        text = json.dumps(described, separators=(",", ":")).encode()
        body = b"".join([_LENGTH.pack(len(text)), text, *(array.tobytes() for array in arrays.values())])
        packed = zlib.compress(body, 6)
        return _PREFIX.pack(MAGIC, FORMAT, zlib.crc32(packed)) + packed

    @classmethod
    def from_bytes(cls, data: bytes) -> MonitorSnapshot:
        """The snapshot that ``to_bytes`` made.

        Raises:
            SnapshotFormatError: These are no such bytes, they were damaged, or a newer mlserve wrote them.
        """
        if not isinstance(data, (bytes, bytearray)) or len(data) < _PREFIX.size or data[: len(MAGIC)] != MAGIC:
            raise SnapshotFormatError("bytes that MonitorSnapshot.to_bytes did not write")
        _, version, checksum = _PREFIX.unpack_from(data)
        if version > FORMAT:
            raise SnapshotFormatError(f"format {version} is newer than {FORMAT}, the newest this mlserve knows")
        if version < 1:
            raise SnapshotFormatError(f"there is no format {version}")
        packed = data[_PREFIX.size :]
        if zlib.crc32(packed) != checksum:
            raise SnapshotFormatError("damaged: the checksum differs")
        try:
            return cls._unpacked(packed)
        except (LookupError, ValueError, TypeError, ArithmeticError, RecursionError, struct.error, zlib.error) as error:
            raise SnapshotFormatError(f"not the structure of a snapshot ({error!r})") from error

    @classmethod
    def _unpacked(cls, packed: bytes) -> MonitorSnapshot:
        unpacker = zlib.decompressobj()
        body = unpacker.decompress(packed, LARGEST)
        if not unpacker.eof or unpacker.unused_data:
            raise ValueError(f"cut off, more than {LARGEST} bytes, or followed by others")
        (length,) = _LENGTH.unpack_from(body)
        position = _LENGTH.size + length
        described = json.loads(body[_LENGTH.size : position])
        columns = {}
        for name, dtype, shape in described["columns"]:
            if dtype not in _DTYPES:
                raise ValueError(f"a column of dtype {dtype}")
            if type(name) is not str or any(type(size) is not int or size < 0 for size in shape):
                raise ValueError(f"a column {name!r} of shape {shape!r}")
            count = math.prod(shape)
            # Of nothing there may be none left to read.
            flat = np.frombuffer(body, dtype, count, position) if count else np.empty(0, dtype)
            columns[name] = flat.reshape(shape)
            position += flat.nbytes
        if position != len(body):
            raise ValueError("more bytes than its columns have")
        return cls(
            source=described["source"],
            sequence=described["sequence"],
            after=described["after"],
            taken_at=datetime.fromisoformat(described["taken_at"]),
            header=described["header"],
            columns=columns,
        )

    @override
    def __repr__(self) -> str:
        since = f" changed after {self.after}" if self.after else ""
        buckets = len(self.columns.get("width", ()))
        return f"MonitorSnapshot({buckets} buckets of {self.source}{since}, sequence {self.sequence}, {self.taken_at})"
