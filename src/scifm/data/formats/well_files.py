"""Import route: data sets in The Well's HDF5 schema, made by others.

A data set is a folder with ``data/{train,valid,test}/*.hdf5``, a folder of split folders, a folder of files, or one
file. Files of one split are told as one. Vectors have a channel axis; each component of a tensor is an array.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from scifm.data.formats.axis_points import are_even, axis_length
from scifm.data.formats.contents import Concatenated, Contents, LazyArray
from scifm.data.formats.format import Format, opening
from scifm.data.formats.hdf5 import open_hdf5, sniff_hdf5
from scifm.data.formats.kinds import data_sets_under, required
from scifm.data.formats.mapping import DataMapping
from scifm.data.formats.members import group_by_split, same_lines
from scifm.data.formats.views import Clipped, Repeated
from scifm.data.formats.well_schema import GROUPS, WellField, WellFile, read_well_file
from scifm.data.well import OpenFiles
from scifm.errors import ConfigError, StoreError

__all__ = ["WellFormat"]

_HOUSE_AXES = {1: ("x",), 2: ("y", "x"), 3: ("z", "y", "x")}
_DIMENSIONS = "dimensions/"
_TIME = "dimensions/time"


def _is_ours(file: h5py.File) -> bool | None:
    """Return True for a file of the schema, else None."""
    return ("spatial_dims" in file["dimensions"].attrs and "t0_fields" in file) or None


class WellFormat(Format):
    """Data sets in The Well's schema."""

    name = "well"
    title = "HDF5 in The Well's schema"

    def sniff(self, path: Path) -> str | None:
        known = sniff_hdf5(data_sets_under(path, ("hdf5",))[:1], _is_ours)
        return "groups dimensions and t0_fields of The Well's schema" if known else None

    def read(self, path: Path) -> Contents:
        paths, pool = group_by_split(path, required(path, ("hdf5",), "HDF5")), OpenFiles(open_hdf5)
        parts = {part: [read_well_file(file, pool) for file in files] for part, files in paths.items()}
        return _Joined(path, parts).contents(pool)

    def propose(self, contents: Contents) -> DataMapping:
        arrays, axes = contents.arrays, contents.axes
        dims = [name.removeprefix(_DIMENSIONS) for name in axes if name.startswith(_DIMENSIONS) and name != _TIME]
        fields: dict[str, dict[str, Any]] = {}
        for key in (key for key in arrays if key.startswith(GROUPS)):
            role = "state" if "time" in axes[key] else "output" if "-" in axes[key] else "input"
            for name, channel in _components(key, arrays[key], axes[key], dims):
                place = name if name not in fields else f"{key.partition('_')[0]}_{name}"
                fields[place] = {"array": key, "axes": axes[key], "role": role, "channel": channel}
        evolves = any(entry["role"] == "state" for entry in fields.values())
        if not evolves and len({entry["role"] for entry in fields.values()}) != 2:
            raise ConfigError(
                f"'{contents.path}' holds no fields that change in time, or none that are given, so what is asked for "
                f"is not clear. Write a mapping with roles; there are {', '.join(fields) or 'no fields'}."
            )
        coefficients = [key for key in arrays if key.startswith("scalars/")]
        precise = any(arrays[entry["array"]].dtype == np.float64 for entry in fields.values())
        return DataMapping.model_validate(
            {
                "format": self.name,
                "fields": fields,
                "coefficients": {_free_name(key.removeprefix("scalars/"), fields): key for key in coefficients},
                "time": _TIME if evolves else None,
                "extent": {axes[key][0]: _extent(key, contents) for key in (_DIMENSIONS + dim for dim in dims)},
                "periodic": dict(contents.periodic),
                "dtype": "float64" if precise else "float32",
            }
        )


def _free_name(name: str, fields: Mapping[str, Any]) -> str:
    return name if name not in fields else f"{name}_scalar"


def _components(
    key: str, array: LazyArray, axes: Sequence[str], dims: Sequence[str]
) -> Iterator[tuple[str, int | None]]:
    """Yield the name and the channel of each field an array holds."""
    name = "_".join(key.split("/")[1:])
    if "channel" not in axes:
        yield name, None
        return
    length = array.shape[axes.index("channel")]
    endings = dims if length == len(dims) else [str(place) for place in range(length)]
    for place, ending in enumerate(endings):
        yield f"{name}_{ending}", place


def _extent(key: str, contents: Contents) -> float:
    """Return the length of an axis; on a periodic one from the first point to where it comes again."""
    points = np.asarray(contents.arrays[key])
    if len(points) < 2:
        return 0.0  # refused when the grid is made
    return axis_length(points, len(points), points.dtype, wraps=contents.periodic[contents.axes[key][0]])


class _Joined:
    """All files of a data set, held against each other."""

    def __init__(self, path: Path, parts: Mapping[str, Sequence[WellFile]]) -> None:
        self.path, self.parts = path, parts
        self.files = [file for files in parts.values() for file in files]
        self.first = self.files[0]
        self.axis_of = _house_axes(self.first.dims)
        self.remarks: list[str] = []

    def contents(self, pool: OpenFiles) -> Contents:
        self._refuse_ours()
        for other in self.files[1:]:
            self._compare(other)
        self.num_frames = self._common_frames()
        self.solution = self._solution_frame()
        self._remark()
        fields = {key: self._axes(field) for key, field in self.first.fields.items()}
        dimensions = {_DIMENSIONS + dim: (axis,) for dim, axis in self.axis_of.items()}
        return Contents(
            path=self.path,
            files=tuple(file.path for file in self.files),
            parts={part: self._arrays(files) for part, files in self.parts.items()},
            axes={**fields, **dimensions},
            coordinates=self._coordinates(),
            periodic={axis: "PERIODIC" in self.first.boundaries[dim] for dim, axis in self.axis_of.items()},
            remarks=tuple(self.remarks),
            close=pool.close,
        )

    def _refuse_ours(self) -> None:
        if self.first.ours:
            raise StoreError(
                f"'{self.first.path}' is a file of a store made by SciFM, which needs no import: give the store's "
                "folder wherever a store is asked for, for example as data.store."
            )

    def _compare(self, other: WellFile) -> None:
        """Raise StoreError where a file does not go with the first one."""
        first = self.first
        theirs, ours = ({key: field.form for key, field in file.fields.items()} for file in (other, first))
        differing = sorted(key for key in {*theirs, *ours} if theirs.get(key) != ours.get(key))
        problem = ""
        if other.dims != first.dims:
            problem = f"axes {', '.join(other.dims)} instead of {', '.join(first.dims)}"
        elif differing:
            problem = f"other fields, or fields of another form: {', '.join(differing)}"
        elif other.boundaries != first.boundaries:
            told = (f"{dim}: {' and '.join(sorted(kinds)) or 'none told'}" for dim, kinds in other.boundaries.items())
            problem = f"other boundaries ({', '.join(told)})"
        for dim in first.dims if not problem else ():
            own, points = first.coordinates[dim], other.coordinates[dim]
            if not same_lines(own, points):
                problem = f"other points on the axis {dim} ({len(points)} there, {len(own)} here)"
        if problem:
            raise StoreError(
                f"'{other.path}' does not go with '{first.path}': it has {problem}. Import such files one by one."
            )

    def _common_frames(self) -> int:
        counts = {file.num_frames: file.path for file in self.files}
        fewest = min(counts)
        if fewest == 1 < max(counts):
            raise StoreError(
                f"'{counts[1]}' holds one frame and '{counts[max(counts)]}' holds {max(counts)}: steady problems and "
                "trajectories do not go together. Import them one by one."
            )
        return fewest

    def _solution_frame(self) -> int | None:
        """Return which frame is the solution of a steady problem; None if frames follow each other in time."""
        moving = [field for field in self.first.fields.values() if field.time_varying]
        if self.num_frames == 1:
            return 0
        if self.num_frames > 2 or not moving or len(moving) == len(self.first.fields):
            return None
        for field in moving:  # two frames, the first blank: how steady problems are told in a schema of trajectories
            time = int(field.sample_varying)
            first = [slice(0, 1)] * (time + 1) + [slice(0, n) for n in field.array.shape[time + 1 :]]
            with opening(self.first.path, WellFormat.title):
                blank = not np.any(field.array[tuple(first)])
            if not blank:
                return None
        self.remarks.append(
            "Two frames, the first of them blank, are read as a steady problem: the second is asked for."
        )
        return 1

    def _remark(self) -> None:
        first, remarks = self.first, self.remarks
        renamed = {dim: axis for dim, axis in self.axis_of.items() if dim != axis}
        if renamed:
            remarks.append("Axes are renamed: " + ", ".join(f"{dim} is {axis} here" for dim, axis in renamed.items()))
        if first.grid_type != "cartesian":
            remarks.append(f"The grid is {first.grid_type}; it is treated as a box of its coordinates.")
        for dim in first.dims:
            self._remark_axis(dim)
        frames = sorted({file.num_frames for file in self.files})
        if len(frames) > 1:
            remarks.append(f"Files hold {frames[0]} to {frames[-1]} frames; the first {frames[0]} of each are read.")
        for name, reason in {n: r for file in self.files for n, r in file.left_out.items()}.items():
            remarks.append(f"{name} is left out: {reason}.")
        partly = {n for file in self.files for n in file.scalars} - set(self._common_scalars())
        for name in sorted(partly):
            remarks.append(f"scalars/{name} is left out: not every file has it.")

    def _remark_axis(self, dim: str) -> None:
        points, kinds = self.first.coordinates[dim], sorted(self.first.boundaries[dim])
        if not kinds:
            self.remarks.append(f"Nothing is told about the boundaries in {dim}; they are treated as walls.")
        elif kinds != ["PERIODIC"]:
            treated = "periodic" if "PERIODIC" in kinds else "walls"
            self.remarks.append(f"The boundaries in {dim} are {' and '.join(kinds)}; they are treated as {treated}.")
        if len(points) > 1 and not are_even(points):
            self.remarks.append(f"Points on the axis {dim} are not evenly spaced; they are treated as if they were.")

    def _common_scalars(self) -> list[str]:
        return [name for name in self.first.scalars if all(name in file.scalars for file in self.files)]

    def _axes(self, field: WellField) -> tuple[str, ...]:
        """Return the names of the axes an array has here, after `_seen`."""
        rows = ("trajectory",) if field.sample_varying or len(self.files) > 1 else ()
        frames = () if not field.time_varying else ("time",) if self.solution is None else ("-",)
        return (*rows, *frames, *self.axis_of.values(), *(["channel"] if field.num_components else []))

    def _seen(self, file: WellFile, field: WellField) -> LazyArray:
        """Return an array with every axis of space, trajectories where needed, and the frames that all files have."""
        array, axis = field.array, int(field.sample_varying)
        if field.time_varying:
            start, length = (0, self.num_frames) if self.solution is None else (self.solution, 1)
            array = Clipped(array, axis, start, length)
            axis += 1
        for dim, varies in zip(file.dims, field.dim_varying, strict=True):
            if not varies:
                array = Repeated(array, axis, len(file.coordinates[dim]))
            axis += 1
        if len(self.files) > 1 and not field.sample_varying:
            array = Repeated(array, 0, file.num_trajectories)
        return array

    def _arrays(self, files: Sequence[WellFile]) -> dict[str, LazyArray]:
        """Return the arrays of one part."""
        arrays: dict[str, LazyArray] = {}
        for key in self.first.fields:
            seen = [self._seen(file, file.fields[key]) for file in files]
            arrays[key] = seen[0] if len(seen) == 1 else Concatenated(seen)
        for name in self._common_scalars():
            arrays[f"scalars/{name}"] = np.concatenate([file.scalars[name] for file in files])
        for dim, points in self.first.coordinates.items():
            arrays[_DIMENSIONS + dim] = points
        if self.solution is None:
            arrays[_TIME] = self._times()
        return arrays

    def _coordinates(self) -> dict[str, str]:
        """Return which array holds the points of which axis, and the times where these are one line."""
        told = {axis: _DIMENSIONS + dim for dim, axis in self.axis_of.items()}
        return told | ({"time": _TIME} if self.solution is None and self._times().ndim == 1 else {})

    def _times(self) -> np.ndarray:
        """Return the times of all files: one line where all agree, else one for each that was told."""
        lines = [file.times.reshape(-1, file.num_frames)[:, : self.num_frames] for file in self.files]
        times = np.unique(np.concatenate(lines), axis=0)
        return times[0] if len(times) == 1 else times


def _house_axes(dims: Sequence[str]) -> dict[str, str]:
    """Return what the axes of a file are called here: as there where these are x, y, z, else in array order."""
    if set(dims) <= {"x", "y", "z"}:
        return {dim: dim for dim in dims}
    return dict(zip(dims, _HOUSE_AXES[len(dims)], strict=True))
