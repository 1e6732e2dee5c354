"""Arrays in a ``.npz`` archive, written so that equal arrays have equal bytes, and read so that no bomb goes off."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping
from typing import IO, Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from mlserve.errors import (
    DecompressionBombError,
    IntegrityError,
    MalformedDocumentError,
    MlserveError,
    SerializationError,
    UntrustedModelError,
)
from mlserve.repositories._documents import checked_path

_ENCRYPTED = 0x1
_CHUNK_BYTES = 1 << 20
_NO_DATE = (1980, 1, 1, 0, 0, 0)
"""The first day of the zip format: a real date would give equal arrays different hashes."""


def write_npz(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """An archive of arrays by name, not compressed.

    Raises:
        SerializationError: An array holds Python objects.
        UnsafePathError: A name that is no plain one.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            if array.dtype.hasobject:
                raise SerializationError(
                    f"the array {name!r} has dtype {array.dtype}, and Python objects are not stored as arrays.",
                    hint="Convert it to numbers or to fixed-width text.",
                )
            entry = zipfile.ZipInfo(checked_path(f"{name}.npy", "an array"), _NO_DATE)
            with archive.open(entry, "w", force_zip64=True) as member:
                _write_array(member, array)
    return buffer.getvalue()


def _write_array(member: IO[bytes], array: npt.NDArray[Any]) -> None:
    flags = array.flags
    if not array.nbytes or array.dtype.fields is not None or not (flags.c_contiguous or flags.f_contiguous):
        np.lib.format.write_array(member, array, allow_pickle=False)
        return
    # The same bytes, without the copies that numpy makes of each piece for what is no real file.
    np.lib.format.write_array_header_1_0(member, np.lib.format.header_data_from_array_1_0(array))
    member.write((array if flags.c_contiguous else array.T).reshape(-1).view(np.uint8).data)


def read_npz(data: bytes, path: str) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an archive that ``write_npz`` made. No more memory is taken than the archive is long.

    Args:
        data: The archive.
        path: Where it was read, for messages.

    Raises:
        IntegrityError: See ``checked_archive``.
        UntrustedModelError: An array holds pickled objects.
    """
    arrays = {}
    with checked_archive(data, path) as archive:
        for entry in archive.infolist():
            name = entry.filename.removesuffix(".npy")
            if name == entry.filename:
                raise MalformedDocumentError(f"{path} holds {entry.filename!r}, which is no array.", path=path)
            with archive.open(entry) as member:
                arrays[name] = _array(cast(BinaryIO, member), entry, path)
    return arrays


def checked_archive(data: bytes, path: str) -> zipfile.ZipFile:
    """A zip archive whose members take no more memory than the archive itself, arrays among them.

    Repositories write archives without compression, so that the bound is exact: whatever is compressed, overlaps, or
    announces a larger array than follows, is refused before it is read.

    Args:
        data: The archive.
        path: Where it was read, for messages.

    Raises:
        DecompressionBombError: It would take more memory than its own length.
        MalformedDocumentError: It is no archive, is encrypted, or names a member twice.
        UnsafePathError: A member's name leads elsewhere.
        UntrustedModelError: An array holds pickled objects.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        entries = archive.infolist()
        names = [checked_path(entry.filename, path) for entry in entries]
        if len(set(names)) < len(names) or any(entry.flag_bits & _ENCRYPTED for entry in entries):
            raise _unreadable(path, "a member is named twice, or encrypted")
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
                raise _bomb(path, f"the member {entry.filename!r} is compressed")
        if sum(entry.file_size for entry in entries) > len(data):
            raise _bomb(path, "its members are longer than the archive")
        for entry in entries:
            if entry.filename.endswith(".npy"):
                with archive.open(entry) as member:
                    _header(cast(BinaryIO, member), entry, path)
    except MlserveError:
        raise
    except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError) as error:
        raise _unreadable(path, f"{type(error).__name__}: {error}") from error
    return archive


def _header(member: BinaryIO, entry: zipfile.ZipInfo, path: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(member)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, is_fortran, dtype = read(member)
    except (ValueError, KeyError) as error:
        raise _unreadable(path, f"{entry.filename!r} is no array: {error}") from error
    if dtype.hasobject:
        raise UntrustedModelError(
            f"{path} holds pickled objects in {entry.filename!r}; an archive of arrays holds numbers and text only.",
            path=path,
        )
    if any(size < 0 for size in shape) or math.prod(shape) * dtype.itemsize != entry.file_size - member.tell():
        raise _bomb(path, f"{entry.filename!r} announces {shape} of {dtype}, which is not what follows")
    return shape, is_fortran, dtype


def _array(member: BinaryIO, entry: zipfile.ZipInfo, path: str) -> npt.NDArray[Any]:
    shape, is_fortran, dtype = _header(member, entry, path)
    # Read into the array itself, piece by piece: a second copy of a large array is never held.
    array = np.empty(shape, dtype, order="F" if is_fortran else "C")
    flat = array.T if is_fortran else array
    target = flat.reshape(-1).view(np.uint8) if array.nbytes else np.empty(0, np.uint8)
    filled = 0
    try:
        # Past the end too: only there is the checksum of the member looked at.
        while piece := member.read(_CHUNK_BYTES):
            target[filled : filled + len(piece)] = np.frombuffer(piece, np.uint8)
            filled += len(piece)
    except zipfile.BadZipFile as error:
        raise _unreadable(path, str(error)) from error
    return array


def _bomb(path: str, why: str) -> IntegrityError:
    return DecompressionBombError(
        f"{path} would take more memory than its own length: {why}.",
        hint="Repositories write archives without compression; this one was made by something else.",
        path=path,
    )


def _unreadable(path: str, why: str) -> IntegrityError:
    return MalformedDocumentError(
        f"{path} is no archive as mlserve writes it ({why}).", hint="Register the model again.", path=path
    )
