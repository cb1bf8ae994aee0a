"""Plain arrays: NumPy's ``.npy`` and ``.npz``, HDF5 of any layout (MATLAB 7.3 is such), Zarr without names of axes.

They seldom say which axis is what. Where the arrays include coordinates (``t``, ``x``, …) of different lengths, or an
HDF5 file labels its dimensions or attaches scales to them, axes follow from these; otherwise a mapping has to be
written.

In a folder every file is one trajectory, in natural order. Names of ``.npy`` files tell arrays and trajectories:
``u_000.npy``, ``u_001.npy`` are two trajectories of ``u``; ``train_u.npy`` is the array ``u`` of the training split.

What lies uncompressed in files of NumPy is mapped into memory. A compressed member of an ``.npz`` is unpacked once,
when it is first read, into an unnamed temporary file that is mapped: memory stays small, and the disk of temporary
files (``TMPDIR``) needs room for it. Headers are not trusted: what they declare must be what the file has.
"""

from __future__ import annotations

import math
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from scifm.data.formats.axes import axis_of_name
from scifm.data.formats.coding import Coding
from scifm.data.formats.format import NUMBERS, Contents, Format, LazyArray, StoredArray, opening, single_numbers
from scifm.data.formats.hdf5 import hdf5_piece, open_hdf5
from scifm.data.formats.joining import join_pieces
from scifm.data.formats.kinds import data_sets_under, kind_of, required, split_words
from scifm.data.formats.mapping import DataMapping
from scifm.data.formats.pieces import Piece
from scifm.data.formats.proposal import Proposal
from scifm.data.formats.zarr_files import OpenZarr, zarr_piece
from scifm.data.well import OpenFiles
from scifm.errors import StoreError

__all__ = ["Arrays"]

_MAX_RATIO = 1040  # the most that the deflate method can save; a header that declares more lies
_LOCAL_HEADER = 30
_STEP = 4 * 1024 * 1024
_TITLES = {"npy": "a NumPy array", "npz": "a NumPy archive", "hdf5": "HDF5", "zarr": "Zarr"}


class Arrays(Format):
    """NumPy files, plain HDF5 and plain Zarr."""

    name = "arrays"
    title = "NumPy arrays (.npy, .npz), plain HDF5 (.h5, .hdf5, MATLAB 7.3) or plain Zarr"
    needs_map = True

    def sniff(self, path: Path) -> str | None:
        files = data_sets_under(path, _TITLES)
        if not files:
            return None
        kinds = sorted({str(kind_of(file)) for file in files})
        return f"{len(files)} file{'s' * (len(files) > 1)} of plain arrays ({', '.join(kinds)})"

    def read(self, path: Path) -> Contents:
        files = required(path, _TITLES, "NumPy, HDF5 or Zarr")
        kinds = {str(kind_of(file)) for file in files}
        if len(kinds) > 1:
            raise StoreError(
                f"'{path}' holds files of several kinds ({', '.join(sorted(kinds))}); give the folder or file of one."
            )
        kind = kinds.pop()
        openers: dict[str, Callable[[Any], Any]] = {
            "hdf5": partial(open_hdf5, linked=False),
            "npz": _Unpacked,
            "zarr": OpenZarr,
        }
        pool = OpenFiles(openers[kind]) if kind in openers else OpenFiles()
        pieces = [_piece(file, kind, pool, alone=len(files) == 1) for file in files]
        return join_pieces(path, files, pieces, close=pool.close)

    def propose(self, contents: Contents) -> DataMapping:
        return Proposal(contents, self.name).complete()


def _piece(path: Path, kind: str, pool: OpenFiles, *, alone: bool) -> Piece:
    """Return what one file holds.

    Raises:
        StoreError: if it is truncated, damaged, or holds no numbers.
    """
    with opening(path, _TITLES[kind]):
        if kind == "npy":
            name = path.stem if alone else _name_of_npy(path)
            piece = Piece(path, {name: _open_npy(path, name)})
        elif kind == "npz":
            arrays, remarks = _open_npz(path, pool)
            numbers = single_numbers({name: array[()] for name, array in arrays.items() if array.shape == ()})
            arrays = {name: array for name, array in arrays.items() if name not in numbers}
            piece = Piece(path, arrays, numbers=numbers, remarks=remarks)
        else:
            piece = hdf5_piece(path, pool) if kind == "hdf5" else zarr_piece(path, pool)
    if not piece.arrays and not piece.numbers:
        raise StoreError(" ".join([f"'{path}' holds no arrays of numbers.", *piece.remarks]))
    lines = {axis_of_name(name): name for name, array in piece.arrays.items() if len(array.shape) == 1}
    named = {axis: name for axis, name in lines.items() if axis not in (None, "trajectory", "channel")}
    return replace(piece, coordinates={**{str(axis): name for axis, name in named.items()}, **piece.coordinates})


def _name_of_npy(path: Path) -> str:
    """Return what the array in an ``.npy`` file is called: its name or else its folder's, without number and split."""
    for text in (path.stem, path.parent.name):
        name = re.sub(r"[_\-.]?\d+$", "", split_words(text)[1])
        if name:
            return name
    return "data"


# --- NumPy ------------------------------------------------------------------------------------------------------------


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


class _MappedArray:
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


class _Unpacked:
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
            self.array: np.ndarray | None = header.map(handle, header.num_bytes)

    def close(self) -> None:
        """Let the file go."""
        self.array = None


class _PackedArray(StoredArray):
    """A compressed member of an ``.npz`` file, unpacked when it is first read."""

    def written(self, index: Any) -> np.ndarray:
        return np.array(self.files.get(self.source).array[index])


def _open_npy(path: Path, name: str) -> _MappedArray:
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
    return _MappedArray(path, header, header.num_bytes)


def _open_npz(path: Path, pool: OpenFiles) -> tuple[dict[str, LazyArray], list[str]]:
    """Return the arrays of an ``.npz`` file, and why others are left out; nothing of them is read yet.

    Args:
        path: of the file.
        pool: keeps what is unpacked of it, and not too much at once; ``OpenFiles(_Unpacked)``.

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
                arrays[name] = _MappedArray(path, header, _offset(path, member) + header.num_bytes)
            else:
                packed = _PackedMember(path, member.filename, header)
                arrays[name] = _PackedArray(pool, packed, name, header.shape, Coding(header.dtype))
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
