"""Arrays in ``.npy`` and ``.npz`` files, read block by block.

What lies there uncompressed is mapped into memory. A compressed member of an ``.npz`` is unpacked once, when it is
first read, into an unnamed temporary file that is mapped: memory stays small, and the disk of temporary files
(``TMPDIR``) needs room for it. Headers are not trusted: what they declare must be what the file has.
"""

from __future__ import annotations

import math
import mmap
import os
import shutil
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from scifm.data.formats.contents import NUMBERS, LazyArray
from scifm.data.well import OpenFiles
from scifm.errors import StoreError

__all__ = ["MappedArray", "PackedArray", "PackedMember", "open_npy", "open_npz", "unpack"]

_MAX_RATIO = 1040  # the most that the deflate method can save; a header that declares more lies
_LOCAL_HEADER = 30
_STEP = 4 * 1024 * 1024


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    num_bytes: int  # of the header itself

    @property
    def data_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize  # Python integers: no overflow


def _read_header(handle: Any) -> _Header:
    version = np.lib.format.read_magic(handle)
    if version[0] == 1:
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(handle)
    else:
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(handle)
    if any(length < 0 for length in shape):
        raise ValueError(f"a negative length in the shape {shape}")
    return _Header(tuple(shape), dtype, fortran, handle.tell())


def _map(handle: BinaryIO, header: _Header, offset: int) -> np.ndarray:
    if not header.data_bytes:
        return np.empty(header.shape, header.dtype)
    start = offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    length = offset - start + header.data_bytes
    view = mmap.mmap(handle.fileno(), length, access=mmap.ACCESS_READ, offset=start)
    order: Any = "F" if header.fortran else "C"
    return np.ndarray(header.shape, header.dtype, buffer=view, offset=offset - start, order=order)


class MappedArray:
    """An array that lies uncompressed in a file; mapped anew by each process that reads it.

    Args:
        path: of the file.
        header: what the array is.
        offset: where its numbers begin.
    """

    def __init__(self, path: Path, header: _Header, offset: int) -> None:
        self.path, self.header, self.offset = path, header, offset
        self.shape, self.dtype = header.shape, header.dtype

    def __getitem__(self, index: Any) -> np.ndarray:
        with self.path.open("rb") as handle:
            if os.fstat(handle.fileno()).st_size < self.offset + self.header.data_bytes:
                raise OSError("the file became shorter since it was opened")
            return np.array(_map(handle, self.header, self.offset)[index])


class PackedMember(NamedTuple):
    """A compressed member of an ``.npz`` file.

    Args:
        path: of the file.
        name: in the archive.
        header: what the array is.
    """

    path: Path
    name: str
    header: _Header


class _Unpacked:
    """The numbers of a compressed member in an unnamed temporary file, which goes when it is closed."""

    def __init__(self, array: np.ndarray) -> None:
        self.array: np.ndarray | None = array

    def close(self) -> None:
        self.array = None


class PackedArray:
    """A compressed member of an ``.npz`` file, unpacked to a temporary file when it is first read.

    Args:
        unpacked: keeps what was unpacked, and not too many at once; made by ``OpenFiles(unpack)``.
        member: what is unpacked.
    """

    def __init__(self, unpacked: OpenFiles, member: PackedMember) -> None:
        self.unpacked, self.member = unpacked, member
        self.shape, self.dtype = member.header.shape, member.header.dtype

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.array(self.unpacked.get(self.member).array[index])


def unpack(member: PackedMember) -> _Unpacked:
    """Unpack one member of an archive to a temporary file.

    Raises:
        StoreError: if there is no room for it.
        OSError: if it is damaged.
    """
    folder, header = tempfile.gettempdir(), member.header
    if header.data_bytes > shutil.disk_usage(folder).free:
        raise StoreError(
            f"Unpacking '{member.name}' of '{member.path}' needs {header.data_bytes / 1e9:.2f} GB in "
            f"'{folder}'. Free some space there, set TMPDIR to another folder, or save the arrays with numpy.savez."
        )
    with (
        zipfile.ZipFile(member.path) as archive,
        archive.open(member.name) as packed,
        tempfile.TemporaryFile() as handle,
    ):
        try:
            shutil.copyfileobj(packed, handle, _STEP)  # the archive's checksum is compared at its end
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise OSError(str(error)) from error
        handle.flush()
        return _Unpacked(_map(handle, header, header.num_bytes))


def _refused(path: Path, name: str, header: _Header) -> str | None:
    """Return why an array is not read, or None."""
    if header.dtype.hasobject:
        return f"'{name}' of '{path.name}' holds pickled Python objects, which are never loaded; save it as numbers."
    if header.dtype.kind not in NUMBERS:
        return f"'{name}' of '{path.name}' holds {header.dtype}, not real numbers; it is left out."
    return None


def open_npy(path: Path, name: str) -> MappedArray:
    """Return the array of an ``.npy`` file; nothing of it is read yet.

    Args:
        path: of the file.
        name: of the array, for messages.

    Raises:
        StoreError: if it holds something else than numbers.
        OSError, ValueError, EOFError: if it is truncated or no such file.
    """
    with path.open("rb") as handle:
        header = _read_header(handle)
    reason = _refused(path, name, header)
    if reason is not None:
        raise StoreError(reason)
    size = path.stat().st_size
    if size < header.num_bytes + header.data_bytes:
        raise ValueError(
            f"{size} bytes are there; an array of shape {header.shape} and type {header.dtype} needs "
            f"{header.num_bytes + header.data_bytes}"
        )
    return MappedArray(path, header, header.num_bytes)


def open_npz(path: Path, unpacked: OpenFiles) -> tuple[dict[str, LazyArray], list[str]]:
    """Return the arrays of an ``.npz`` file, and why others are left out; nothing of them is read yet.

    Args:
        path: of the file.
        unpacked: keeps what is unpacked of it; ``OpenFiles(unpack)``.

    Raises:
        OSError, ValueError, EOFError, zipfile.BadZipFile: if it is truncated or no such file.
    """
    arrays: dict[str, LazyArray] = {}
    remarks: list[str] = []
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if not member.filename.endswith(".npy"):
                remarks.append(f"'{member.filename}' of '{path.name}' is no array; it is left out.")
                continue
            with archive.open(member) as handle:
                header = _read_header(handle)
            reason = _refused(path, name, header)
            if reason is not None:
                remarks.append(reason)
                continue
            _check_member(member, header)
            if member.compress_type == zipfile.ZIP_STORED:
                arrays[name] = MappedArray(path, header, _offset(path, member) + header.num_bytes)
            else:
                arrays[name] = PackedArray(unpacked, PackedMember(path, member.filename, header))
    return arrays, remarks


def _check_member(member: zipfile.ZipInfo, header: _Header) -> None:
    declared = header.num_bytes + header.data_bytes
    stored = member.compress_type == zipfile.ZIP_STORED
    most = member.compress_size if stored else member.compress_size * _MAX_RATIO
    if declared != member.file_size or (declared > most and member.compress_type in (0, zipfile.ZIP_DEFLATED)):
        raise ValueError(
            f"'{member.filename}' declares shape {header.shape} and type {header.dtype}, {declared} bytes; the archive "
            f"holds {member.file_size} of it in {member.compress_size}"
        )


def _offset(path: Path, member: zipfile.ZipInfo) -> int:
    """Return where the bytes of an uncompressed member begin."""
    with path.open("rb") as handle:
        handle.seek(member.header_offset)
        local = handle.read(_LOCAL_HEADER)
        lengths = int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
        offset = member.header_offset + _LOCAL_HEADER + lengths
        if offset + member.file_size > path.stat().st_size:
            raise ValueError(f"'{member.filename}' runs over the end of the file")
    return offset
