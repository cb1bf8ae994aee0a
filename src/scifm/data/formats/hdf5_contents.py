"""What a plain HDF5 file holds: arrays, numbers, and what labels and scales of dimensions tell about axes.

MATLAB's files of version 7.3 are HDF5 with the axes in reverse: they are told here in MATLAB's own order, its vectors
(1, n) and numbers (1, 1) as what they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from scifm.data.declared import walk_hdf5
from scifm.data.formats.axis_names import axis_of_name
from scifm.data.formats.coding import text_of
from scifm.data.formats.contents import NUMBERS, LazyArray, read_whole, single_numbers
from scifm.data.formats.dates import origin_of, seconds_of
from scifm.data.formats.hdf5 import Hdf5Array, coding_of, open_hdf5, unwritten
from scifm.data.formats.kinds import MATLAB_MARK, natural
from scifm.data.formats.mapping import SPACE
from scifm.data.formats.pieces import Piece
from scifm.data.formats.views import OneEntry, Reversed
from scifm.data.well import OpenFiles

__all__ = ["hdf5_piece"]

_NO_NUMBERS = (b"char", b"cell", b"struct", b"function_handle")  # MATLAB's classes


def hdf5_piece(path: Path, pool: OpenFiles) -> Piece:
    """Return what an HDF5 file holds; nothing of its arrays is read yet.

    Raises:
        StoreError: if it is truncated, damaged, or leads to another file.
    """
    with path.open("rb") as handle:
        matlab = handle.read(len(MATLAB_MARK)) == MATLAB_MARK
    with open_hdf5(path, linked=False) as file:
        return _Listing(path, file, pool, matlab).piece()


class _Listing:
    """One file while it is listed."""

    def __init__(self, path: Path, file: h5py.File, pool: OpenFiles, matlab: bool) -> None:
        self.path, self.file, self.pool, self.matlab = path, file, pool, matlab
        self.arrays: dict[str, LazyArray] = {}
        self.numbers: dict[str, float] = {}
        self.axes: dict[str, tuple[str, ...]] = {}
        self.coordinates: dict[str, str] = {}
        self.origins: dict[str, float] = {}
        self.remarks: list[str] = []
        self.scales: set[str] = set()  # names of arrays that are the points along an axis of others

    def piece(self) -> Piece:
        self.numbers |= single_numbers(self.file.attrs)
        nodes = {}
        for name, node in walk_hdf5(self.path, self.file):
            if isinstance(name, bytes):  # what h5py gives where it cannot decode a name
                told = f"A data set of '{self.path.name}' has no readable name, {name!r}; it is left out."
                self.remarks += [told] if isinstance(node, h5py.Dataset) else []
            elif not (self.matlab and name.startswith("#")):  # where MATLAB puts what lies in cells
                nodes[name] = node
        for name in sorted(nodes, key=natural):
            self._list(name, nodes[name])
        by_place = {h5py.h5o.get_info(node.id).addr: name for name, node in nodes.items()}
        for name in list(self.arrays):
            self._read_dimensions(name, nodes[name], by_place)
        for name in self.scales - set(self.coordinates.values()):
            del self.arrays[name]
        if self.matlab:
            self.remarks.append("MATLAB writes its axes in reverse; they are told in MATLAB's order.")
        return Piece(
            self.path,
            self.arrays,
            self.axes,
            self.coordinates,
            numbers=self.numbers,
            origins=self.origins,
            remarks=tuple(self.remarks),
        )

    def _list(self, name: str, node: h5py.Group | h5py.Dataset) -> None:
        where = f"'{name}' of '{self.path.name}'"
        if isinstance(node, h5py.Group) or name.rpartition("/")[2].isdecimal():  # a simulation, told by a number
            self.numbers |= {f"{name}/{key}": value for key, value in single_numbers(node.attrs).items()}
        if not isinstance(node, h5py.Dataset):
            return
        foreign = self.matlab and (node.attrs.get("MATLAB_class") in _NO_NUMBERS or "MATLAB_empty" in node.attrs)
        if foreign or node.dtype.kind not in NUMBERS or node.shape is None:
            self.remarks.append(f"{where} holds {node.dtype}, not real numbers; it is left out.")
        elif node.external is not None or node.is_virtual:
            self.remarks.append(f"{where} lies in other files, which are not read; it is left out.")
        elif node.shape == () or (self.matlab and math.prod(node.shape) == 1):
            self.numbers |= single_numbers({name: coding_of(node).decode(node[()])})
        else:
            self.arrays[name] = self._array(name, node)
            gap = unwritten(node)
            self.remarks += [f"{where} {gap}."] if gap is not None else []

    def _array(self, name: str, node: h5py.Dataset) -> LazyArray:
        array: LazyArray = Hdf5Array.of(self.pool, self.path, node)
        if axis_of_name(name.rpartition("/")[2]) == "time" and len(array.shape) == 1 and "units" in node.attrs:
            return self._times(name, read_whole(array), node.attrs)
        if not self.matlab:
            return array
        if len(array.shape) == 2 and 1 in array.shape:
            return OneEntry(array, array.shape.index(1), 0)
        return Reversed(array)

    def _times(self, name: str, values: np.ndarray, attributes: Mapping[str, Any]) -> np.ndarray:
        """Return times in seconds where their unit is told."""
        units, calendar = text_of(attributes["units"]), text_of(attributes.get("calendar")) or "standard"
        self.origins[name] = origin_of(values, units, calendar)
        seconds, told = seconds_of(values, units)
        self.remarks += [told] if told and told not in self.remarks else []
        return seconds

    def _read_dimensions(self, name: str, node: h5py.Dataset, by_place: dict[Any, str]) -> None:
        """Take the axes of an array from labels and scales of its dimensions, and the points along them."""
        if len(self.arrays[name].shape) != len(node.dims) or self.matlab:
            return
        told = [self._dimension(dimension, by_place) for dimension in node.dims]
        axes = []
        for (words, scales), length in zip(told, node.shape, strict=True):
            axis = next((axis for axis in map(axis_of_name, words) if axis is not None), None)
            axes.append(axis or ("-" if length == 1 else next(iter(words), "")))
            lines = [scale for scale in scales if self.arrays[scale].shape == (length,)]
            if axis in (*SPACE, "time") and axis not in self.coordinates and lines:
                self.coordinates[axis] = lines[0]
            if axis in (*SPACE, "time"):
                self.scales |= set(lines)
        if all(axes) and any(words for words, _ in told):
            self.axes[name] = tuple(axes)

    def _dimension(self, dimension: Any, by_place: dict[Any, str]) -> tuple[list[str], list[str]]:
        """Return what a dimension is called, by its label and its scales, and which arrays these scales are."""
        places = [by_place.get(h5py.h5o.get_info(scale.id).addr) for scale in dimension.values()]
        scales = [name for name in places if name is not None and name in self.arrays]
        words = [dimension.label, *(name.rpartition("/")[2] for name in scales), *map(str, dimension.keys())]
        return [word for word in words if word], scales
