"""NumPy's ``.npy`` and ``.npz``: mapped into memory, or unpacked; headers are not trusted.

What lies uncompressed is mapped. A compressed member of an ``.npz`` is unpacked once, when it is first read, into an
unnamed temporary file that is mapped: memory stays small, and the disk of temporary files (``TMPDIR``) needs room for
it. What a header declares must be what the file has.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from scifm.data.formats.coding import Coding
from scifm.data.formats.format import MappedArray
from scifm.data.formats.listing import Node
from scifm.data.well import OpenFiles
from scifm.errors import StoreError

__all__ = ["Unpacked", "npy_node", "npz_nodes"]

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

    def map(self, file: Path | BinaryIO, offset: int) -> np.ndarray:
        """Return the array whose numbers begin at `offset`; ValueError where the file is too short for it."""
        if not self.data_bytes:
            return np.empty(self.shape, self.dtype)
        return np.memmap(file, self.dtype, "r", offset, self.shape, "F" if self.fortran else "C")

    def node(self, name: str, path: Path, array: Any) -> Node:
        """Return the array as a node, or why it is none."""
        if not self.dtype.hasobject:
            return Node(name, array)
        remark = f"'{name}' of '{path.name}' holds pickled Python objects, which are never loaded; save it as numbers."
        return Node(name, remarks=(remark,))


class _PlainArray:
    """An array that lies uncompressed from `offset` on; mapped anew each time, lest the file became shorter."""

    def __init__(self, path: Path, header: _Header, offset: int) -> None:
        self.path, self.header, self.offset = path, header, offset
        self.shape, self.dtype = header.shape, header.dtype

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.array(self.header.map(self.path, self.offset)[index])


class _PackedMember(NamedTuple):
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

    def __init__(self, member: _PackedMember) -> None:
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
            self.arrays = {member.name.removesuffix(".npy"): header.map(handle, header.num_bytes)}

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def close(self) -> None:
        """Let the file go."""
        self.arrays.clear()


def npy_node(path: Path, name: str) -> Node:
    """Return the array of an ``.npy`` file, called `name`; nothing of it is read yet.

    Raises:
        OSError, ValueError, EOFError: if it is truncated or no such file.
    """
    with path.open("rb") as handle:
        header = _Header.read(handle)
    size, needed = path.stat().st_size, header.num_bytes + header.data_bytes
    if size < needed and not header.dtype.hasobject:
        raise ValueError(
            f"{size} bytes are there; an array of shape {header.shape} and type {header.dtype} needs {needed}"
        )
    return header.node(name, path, _PlainArray(path, header, header.num_bytes))


def npz_nodes(path: Path, pool: OpenFiles) -> Iterator[Node]:
    """Yield the arrays of an ``.npz`` file, nothing of them read yet; `pool` opens what is packed as `Unpacked`.

    Raises:
        OSError, ValueError, EOFError, zipfile.BadZipFile: if it is truncated or no such file.
    """
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if not member.filename.endswith(".npy"):
                remark = f"'{member.filename}' of '{path.name}' is no array; it is left out."
                yield Node(member.filename, remarks=(remark,))
                continue
            with archive.open(member) as handle:
                header = _Header.read(handle)
            array: Any = None
            if not header.dtype.hasobject:
                _check_member(member, header)
                if member.compress_type == zipfile.ZIP_STORED:
                    array = _PlainArray(path, header, _offset(path, member) + header.num_bytes)
                else:
                    packed = _PackedMember(path, member.filename, header)
                    array = MappedArray(pool, packed, name, header.shape, Coding(header.dtype))
            yield header.node(name, path, array)


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
