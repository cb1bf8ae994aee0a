"""Foreign HDF5: opened when it is read; and what a plain file holds: arrays, numbers, what labels and scales tell.

MATLAB's files of version 7.3 are HDF5 with the axes in reverse: they are told here in MATLAB's own order, its vectors
(1, n) and numbers (1, 1) as what they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

from scifm.data.declared import open_checked, walk_hdf5
from scifm.data.formats.axes import axis_of_name, seconds_of
from scifm.data.formats.coding import Coding, text_of
from scifm.data.formats.format import (
    NUMBERS,
    LazyArray,
    OneEntry,
    Reversed,
    StoredArray,
    opening,
    read_whole,
    single_numbers,
)
from scifm.data.formats.kinds import MATLAB_MARK, natural
from scifm.data.formats.mapping import SPACE
from scifm.data.formats.pieces import Piece
from scifm.data.formats.probe import require_sound
from scifm.data.well import OpenFiles
from scifm.errors import StoreError

__all__ = [
    "NETCDF_ENDINGS",
    "Hdf5Array",
    "coding_of",
    "hdf5_piece",
    "holds_numbers",
    "is_netcdf4",
    "open_hdf5",
    "sniff_hdf5",
    "unwritten",
]

NETCDF_ENDINGS = (".nc", ".nc4", ".cdf", ".netcdf")
"""How names of NetCDF files end."""

_NO_NUMBERS = (b"char", b"cell", b"struct", b"function_handle")  # MATLAB's classes

Answer = TypeVar("Answer")


class Hdf5Array(StoredArray):
    """A data set of an HDF5 file."""

    @classmethod
    def of(cls, files: OpenFiles, path: Path, data: h5py.Dataset) -> Hdf5Array:
        """Return the array of an open data set."""
        return cls(files, path, str(data.name).lstrip("/"), tuple(data.shape), coding_of(data))

    def written(self, index: Any) -> Any:
        data = self.files.get(self.source)[self.name]
        try:
            return data[index]
        except OSError as error:
            plan = data.id.get_create_plist()
            filters = [plan.get_filter(place) for place in range(plan.get_nfilters())]
            missing = [
                f"the filter {name.decode(errors='replace') or 'without a name'} ({code})"
                for code, _, _, name in filters
                if not h5py.h5z.filter_avail(code)
            ]
            if not missing:
                raise
            raise StoreError(
                f"'{self.name}' of '{self.path}' is compressed with {', '.join(missing)}, which HDF5 cannot read here. "
                "pip install hdf5plugin brings the usual filters; or write the file anew with gzip: h5repack -f GZIP=4."
            ) from error


def coding_of(data: h5py.Dataset) -> Coding:
    """Return how the numbers of an open data set are written."""
    plan = data.id.get_create_plist()
    declared = data.dtype.itemsize > 1 and plan.fill_value_defined() == h5py.h5d.FILL_VALUE_USER_DEFINED
    return Coding.of(data.dtype, data.attrs, declared=data.fillvalue.item() if declared else None)


def unwritten(data: h5py.Dataset) -> str | None:
    """Return how much of an open data set was never written, and what is read there; None where all of it was."""
    if not data.size or data.id.get_space_status() == h5py.h5d.SPACE_STATUS_ALLOCATED:
        return None
    meant = coding_of(data).decode(np.asarray(data.fillvalue))
    if data.chunks is None or not data.id.get_storage_size():
        return f"was never written; it reads as {meant}"
    count = math.prod(-(-length // chunk) for length, chunk in zip(data.shape, data.chunks, strict=True))
    absent = count - data.id.get_num_chunks()
    return f"lacks {absent} of its {count} chunks, which were never written and read as {meant}" if absent else None


def holds_numbers(node: object) -> bool:
    """Return whether something in an HDF5 file is an array of real numbers with at least one axis."""
    return isinstance(node, h5py.Dataset) and bool(node.shape) and node.dtype.kind in NUMBERS


def open_hdf5(path: Path, *, linked: bool = True) -> h5py.File:
    """Open a foreign HDF5 file for reading.

    Where arrays are not `linked`, the caller leaves out those whose numbers lie in other files; else they are refused.

    Raises:
        StoreError: if it is missing, truncated, not HDF5, leads to other files, or declares more than it holds.
    """
    with opening(path, "HDF5"):
        require_sound(path)
        return open_checked(path, linked=linked)


def is_netcdf4(path: Path, file: h5py.File) -> bool:
    """Return whether an HDF5 file is NetCDF 4: it says so, or is called so and has its dimensions."""
    if "_NCProperties" in file.attrs:
        return True
    nodes = (file.get(name) for name in file) if path.suffix.lower() in NETCDF_ENDINGS else ()
    return any(isinstance(node, h5py.Dataset) and node.is_scale for node in nodes)


def sniff_hdf5(files: Iterable[Path], look: Callable[[h5py.File], Answer | None]) -> set[Answer] | None:
    """Return what `look` says of all files; None if it says None of one, one is no sound HDF5, or there are none.

    NetCDF 4 is not shown to it: that is HDF5 underneath, and may use any names.
    """
    answers: set[Answer] = set()
    for path in files:
        try:
            require_sound(path)
            with h5py.File(path, "r") as file:
                answer = None if is_netcdf4(path, file) else look(file)
        except (OSError, RuntimeError, KeyError, ValueError):  # truncated or not HDF5: not for us to say
            return None
        if answer is None:
            return None
        answers.add(answer)
    return answers or None


# --- plain HDF5 -------------------------------------------------------------------------------------------------------


def hdf5_piece(path: Path, pool: OpenFiles) -> Piece:
    """Return what an HDF5 file holds; nothing of its arrays is read yet.

    Raises:
        StoreError: if it is truncated, damaged, or leads to another file.
    """
    with path.open("rb") as handle:
        matlab = handle.read(len(MATLAB_MARK)) == MATLAB_MARK
    with open_hdf5(path, linked=False) as file:
        return _Listing(path, pool, matlab).of(file)


class _Listing:
    """One file while it is listed."""

    def __init__(self, path: Path, pool: OpenFiles, matlab: bool) -> None:
        self.path, self.pool, self.matlab = path, pool, matlab
        self.piece = Piece(path)
        self.scales: set[str] = set()  # names of arrays that are the points along an axis of others

    def of(self, file: h5py.File) -> Piece:
        piece = self.piece
        nodes: dict[str, Any] = {}
        piece.numbers.update(single_numbers(file.attrs))
        for name, node in walk_hdf5(self.path, file):
            if not isinstance(name, bytes):
                if not (self.matlab and name.startswith("#")):  # where MATLAB puts what lies in cells
                    nodes[name] = node
            elif isinstance(node, h5py.Dataset):  # bytes: what h5py gives where it cannot decode a name
                remark = f"A data set of '{self.path.name}' has no readable name, {name!r}; it is left out."
                piece.remarks.append(remark)
        for name in sorted(nodes, key=natural):
            self._list(name, nodes[name])
        by_place = {h5py.h5o.get_info(node.id).addr: name for name, node in nodes.items()}
        for name in list(piece.arrays) if not self.matlab else ():
            self._read_dimensions(name, nodes[name], by_place)
        for name in self.scales - set(piece.coordinates.values()):
            del piece.arrays[name]
        matlab = ["MATLAB writes its axes in reverse; they are told in MATLAB's order."] if self.matlab else []
        return replace(piece, remarks=list(dict.fromkeys([*piece.remarks, *matlab])))

    def _list(self, name: str, node: h5py.Group | h5py.Dataset) -> None:
        piece, where = self.piece, f"'{name}' of '{self.path.name}'"
        if isinstance(node, h5py.Group) or name.rpartition("/")[2].isdecimal():  # a simulation, told by a number
            piece.numbers.update({f"{name}/{key}": value for key, value in single_numbers(node.attrs).items()})
        if not isinstance(node, h5py.Dataset):
            return
        foreign = self.matlab and (node.attrs.get("MATLAB_class") in _NO_NUMBERS or "MATLAB_empty" in node.attrs)
        if foreign or node.dtype.kind not in NUMBERS or node.shape is None:
            piece.remarks.append(f"{where} holds {node.dtype}, not real numbers; it is left out.")
        elif node.external is not None or node.is_virtual:
            piece.remarks.append(f"{where} lies in other files, which are not read; it is left out.")
        elif node.shape == () or (self.matlab and math.prod(node.shape) == 1):
            piece.numbers.update(single_numbers({name: coding_of(node).decode(node[()])}))
        else:
            piece.arrays[name] = self._array(name, node)
            gap = unwritten(node)
            piece.remarks.extend([f"{where} {gap}."] if gap is not None else [])

    def _array(self, name: str, node: h5py.Dataset) -> LazyArray:
        array: LazyArray = Hdf5Array.of(self.pool, self.path, node)
        if axis_of_name(name) == "time" and len(array.shape) == 1 and "units" in node.attrs:
            calendar = text_of(node.attrs.get("calendar")) or "standard"
            times, self.piece.origins[name], remark = seconds_of(
                read_whole(array), text_of(node.attrs["units"]), calendar
            )
            self.piece.remarks.extend([remark] if remark is not None else [])
            return times
        if not self.matlab:
            return array
        if len(array.shape) == 2 and 1 in array.shape:
            return OneEntry(array, array.shape.index(1), 0)
        return Reversed(array)

    def _read_dimensions(self, name: str, node: h5py.Dataset, by_place: dict[Any, str]) -> None:
        """Take the axes of an array from labels and scales of its dimensions, and the points along them."""
        piece = self.piece
        if len(piece.arrays[name].shape) != len(node.dims):
            return
        dimensions = [self._dimension(dimension, by_place) for dimension in node.dims]
        axes = []
        for (words, scales), length in zip(dimensions, node.shape, strict=True):
            axis = next((axis for axis in map(axis_of_name, words) if axis is not None), None)
            axes.append(axis or ("-" if length == 1 else next(iter(words), "")))
            if axis in (*SPACE, "time"):
                lines = [scale for scale in scales if piece.arrays[scale].shape == (length,)]
                self.scales |= set(lines)
                if lines:
                    piece.coordinates.setdefault(axis, lines[0])
        if all(axes) and any(words for words, _ in dimensions):
            piece.axes[name] = tuple(axes)

    def _dimension(self, dimension: Any, by_place: dict[Any, str]) -> tuple[list[str], list[str]]:
        """Return what a dimension is called, by its label and its scales, and which arrays these scales are."""
        places = [by_place.get(h5py.h5o.get_info(scale.id).addr) for scale in dimension.values()]
        scales = [name for name in places if name is not None and name in self.piece.arrays]
        words = [dimension.label, *(name.rpartition("/")[2] for name in scales), *map(str, dimension.keys())]
        return [word for word in words if word], scales
