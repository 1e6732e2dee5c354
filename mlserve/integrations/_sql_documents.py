"""What a database keeps of baselines, drift events and answers: JSON and plain arrays, nothing that could run code."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from datetime import datetime
from hashlib import blake2b
from typing import Any
from zlib import crc32

import attrs
import numpy as np

from mlserve.monitors._blocks import NOT_HERE, Waiting
from mlserve.monitors._copying import IMMUTABLE
from mlserve.monitors._inputs import sample_error
from mlserve.records import InputSample
from mlserve.repositories._archives import read_npz, write_npz
from mlserve.repositories._encoding import Arrays, decoded, encoded

FORMAT = 1
"""Rises when older readers could not understand what is written."""

LARGEST_DOCUMENT = 2**28
"""Bytes of one baseline, at most: databases do not like larger values. A sample of the training data is far smaller."""

LONGEST_KEY = 64
"""Characters of a name that stands in a column as it is; an index cannot hold names of any length."""

_PREFIX = struct.Struct(">4sHII")
_MAGIC = b"MLDO"


def key_of(name: str) -> str:
    """A name as a key: itself where it is short and plain, else its hash. Databases refuse some characters."""
    if len(name) <= LONGEST_KEY and name.isascii() and name.isprintable() and not name.startswith("#"):
        return name
    return "#" + blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def to_document(value: Any) -> bytes:
    """A record as bytes: a format number, a checksum, JSON, and its arrays.

    Raises:
        ValueError: It holds something that cannot be stored safely, or is too large.
    """
    arrays: Arrays = {}
    text = json.dumps(encoded(value, arrays, "the record"), separators=(",", ":")).encode()
    packed = write_npz(arrays)
    if len(text) + len(packed) > LARGEST_DOCUMENT:
        raise ValueError(f"it takes {len(text) + len(packed)} bytes, and at most {LARGEST_DOCUMENT} are stored")
    return _PREFIX.pack(_MAGIC, FORMAT, len(text), crc32(text + packed)) + text + packed


def from_document(data: bytes) -> Any:
    """The record that ``to_document`` made.

    Raises:
        ValueError: These are no such bytes, they were damaged, or a newer mlserve wrote them; so do other errors of
            decoding where the checksum holds and the content does not.
    """
    if len(data) < _PREFIX.size or data[: len(_MAGIC)] != _MAGIC:
        raise ValueError("no document of a monitor")
    _, number, length, checksum = _PREFIX.unpack_from(data)
    body = data[_PREFIX.size :]
    if number > FORMAT or crc32(body) != checksum:
        raise ValueError(f"a document of format {number}, damaged or newer than {FORMAT}")
    return decoded(json.loads(body[:length]), read_npz(body[length:], "a document of a monitor"))


def plain_sample(sample: InputSample) -> InputSample:
    """A sample as every process will read it: so that all lay out the same cells, whoever set it.

    Counts in cells are left out; the rows stand for them.
    """
    rows = sample.rows
    if rows.dtype.kind == "O":
        plain = np.fromiter((_plain_cell(cell) for cell in rows.ravel().tolist()), object, rows.size)
        rows = plain.reshape(rows.shape)
    if sample.bins is None:
        return attrs.evolve(sample, rows=rows)
    return InputSample(
        rows, sample.feature_names, sample.count, "reservoir", sample_error(len(rows)), sample.unusable_count
    )


def _plain_cell(cell: Any) -> Any:
    if isinstance(cell, np.generic) and not isinstance(cell, (np.datetime64, np.timedelta64)):
        return cell.item()
    if isinstance(cell, datetime) and type(cell) is not datetime:
        return datetime.combine(cell.date(), cell.timetz())  # that of pandas, without its nanoseconds
    return cell


def to_answer(waiting: Waiting) -> str:
    """A prediction that waits for its true value, as JSON.

    Raises:
        TypeError: Its answer is nothing that JSON has a word for.
    """
    output = waiting.output if type(waiting.output) in _JSON else _plain_answer(waiting.output)
    return _ENCODE([waiting.version_id, output, waiting.arm, waiting.key])


def from_answer(text: str, time: int) -> Waiting:
    """What ``to_answer`` wrote; the time in microseconds since 1970.

    Raises:
        ValueError: It is nothing that ``to_answer`` writes.
    """
    version_id, output, arm, key = json.loads(text)
    return Waiting(NOT_HERE, str(version_id), output, time, arm, key)


_JSON = IMMUTABLE - {complex, bytes, np.float32, np.int64, np.bool_}
_TIMES = "mM"  # some of them would become plain numbers
_ENCODE = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def _plain_answer(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)) and value.dtype.kind not in _TIMES:
        value = value.tolist()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain_answer(item) for item in value]
    if isinstance(value, Mapping) and all(type(key) is str for key in value):
        return {key: _plain_answer(item) for key, item in value.items()}
    raise TypeError(f"an answer that holds a {type(value).__qualname__}")
