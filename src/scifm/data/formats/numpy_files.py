"""Arrays in ``.npy`` and ``.npz`` files, read block by block.

What lies there uncompressed is mapped into memory. A compressed member of an ``.npz`` is unpacked once, when it is
first read, into an unnamed temporary file that is mapped: memory stays small, and the disk of temporary files
(``TMPDIR``) needs room for it. Headers are not trusted: what they declare must be what the file has.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from scifm.data.formats.coding import Coding
from scifm.data.formats.format import NUMBERS, LazyArray, StoredArray
from scifm.data.well import OpenFiles
from scifm.errors import StoreError

__all__ = ["MappedArray", "PackedArray", "PackedMember", "Unpacked", "open_npy", "open_npz"]

_MAX_RATIO = 1040  # the most that the deflate method can save; a header that declares more lies
_LOCAL_HEADER = 30
_STEP = 4 * 1024 * 1024


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    num_bytes: int  # of the header itself

    @classmethod
    def read(cls, handle: Any) -> _Header:
        first = np.lib.format.read_magic(handle)[0] == 1
        read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(handle)
        if any(length < 0 for length in shape):
            raise ValueError(f"a negative length in the shape {shape}")
        return cls(tuple(shape), dtype, fortran, handle.tell())

    @property
    def data_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize  # Python integers: no overflow

    def refused(self, path: Path, name: str) -> str | None:
        """Return why the array is not read, or None."""
        if self.dtype.hasobject:
            return (
                f"'{name}' of '{path.name}' holds pickled Python objects, which are never loaded; save it as numbers."
            )
        if self.dtype.kind not in NUMBERS:
            return f"'{name}' of '{path.name}' holds {self.dtype}, not real numbers; it is left out."
        return None

    def map(self, file: Path | BinaryIO, offset: int) -> np.ndarray:
        """Return the array whose numbers begin at `offset`; ValueError where the file is too short for it."""
        if not self.data_bytes:
            return np.empty(self.shape, self.dtype)
        return np.memmap(file, self.dtype, "r", offset, self.shape, "F" if self.fortran else "C")


class MappedArray:
    """An array that lies uncompressed from `offset` on; mapped anew each time, lest the file became shorter."""

    def __init__(self, path: Path, header: _Header, offset: int) -> None:
        self.path, self.header, self.offset = path, header, offset
        self.shape, self.dtype = header.shape, header.dtype

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.array(self.header.map(self.path, self.offset)[index])


class PackedMember(NamedTuple):
    """A compressed member of an ``.npz`` file, by its name in the archive."""

    path: Path
    name: str
    header: _Header


class Unpacked:
    """The numbers of a compressed member, in an unnamed temporary file which goes when this is closed.

    Raises:
        StoreError: if there is no room for it.
        OSError: if it is damaged.
    """

    def __init__(self, member: PackedMember) -> None:
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
            self.array: np.ndarray | None = header.map(handle, header.num_bytes)

    def close(self) -> None:
        """Let the file go."""
        self.array = None


class PackedArray(StoredArray):
    """A compressed member of an ``.npz`` file, unpacked when it is first read."""

    def written(self, index: Any) -> np.ndarray:
        return np.array(self.files.get(self.source).array[index])


def open_npy(path: Path, name: str) -> MappedArray:
    """Return the array of an ``.npy`` file, in messages called `name`; nothing of it is read yet.

    Raises:
        StoreError: if it holds something else than numbers.
        OSError, ValueError, EOFError: if it is truncated or no such file.
    """
    with path.open("rb") as handle:
        header = _Header.read(handle)
    reason = header.refused(path, name)
    if reason is not None:
        raise StoreError(reason)
    size, needed = path.stat().st_size, header.num_bytes + header.data_bytes
    if size < needed:
        raise ValueError(
            f"{size} bytes are there; an array of shape {header.shape} and type {header.dtype} needs {needed}"
        )
    return MappedArray(path, header, header.num_bytes)


def open_npz(path: Path, pool: OpenFiles) -> tuple[dict[str, LazyArray], list[str]]:
    """Return the arrays of an ``.npz`` file, and why others are left out; nothing of them is read yet.

    Args:
        path: of the file.
        pool: keeps what is unpacked of it, and not too much at once; ``OpenFiles(Unpacked)``.

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
                header = _Header.read(handle)
            reason = header.refused(path, name)
            if reason is not None:
                remarks.append(reason)
                continue
            _check_member(member, header)
            if member.compress_type == zipfile.ZIP_STORED:
                arrays[name] = MappedArray(path, header, _offset(path, member) + header.num_bytes)
            else:
                packed = PackedMember(path, member.filename, header)
                arrays[name] = PackedArray(pool, packed, name, header.shape, Coding(header.dtype))
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
