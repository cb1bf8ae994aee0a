"""Import route: data sets in The Well's HDF5 schema, made by others.

A data set is a folder with ``data/{train,valid,test}/*.hdf5``, a folder of split folders, a folder of files, or one
file. Files of one split are told as one. Vectors have a channel axis; each component of a tensor is an array.

Reference: https://polymathic-ai.org/the_well/data_format/.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from scifm.data.formats.axes import are_even, axis_length, same_points
from scifm.data.formats.format import (
    MOST_NUMBERS,
    NUMBERS,
    Clipped,
    Contents,
    Format,
    LazyArray,
    OneEntry,
    Repeated,
    opening,
)
from scifm.data.formats.hdf5 import Hdf5Array, coding_of, open_hdf5, sniff_hdf5
from scifm.data.formats.joining import join_pieces
from scifm.data.formats.kinds import data_sets_under, required
from scifm.data.formats.mapping import DataMapping
from scifm.data.formats.pieces import Piece
from scifm.data.well import OpenFiles
from scifm.errors import ConfigError, StoreError
from scifm.fields.grid import Boundary

__all__ = ["WellFormat"]

_TITLE = "HDF5 in The Well's schema"
_GROUPS = ("t0_fields", "t1_fields", "t2_fields")
_HOUSE_AXES = {1: ("x",), 2: ("y", "x"), 3: ("z", "y", "x")}
_DIMENSIONS = "dimensions/"
_TIME = "dimensions/time"


class WellFormat(Format):
    """Data sets in The Well's schema."""

    name = "well"
    title = _TITLE

    def sniff(self, path: Path) -> str | None:
        known = sniff_hdf5(
            data_sets_under(path, ("hdf5",))[:1],
            lambda file: ("spatial_dims" in file["dimensions"].attrs and "t0_fields" in file) or None,
        )
        return "groups dimensions and t0_fields of The Well's schema" if known else None

    def read(self, path: Path) -> Contents:
        paths, pool = required(path, ("hdf5",), "HDF5"), OpenFiles(open_hdf5)
        whole = _DataSet([_WellFile(file, pool) for file in paths])
        contents = join_pieces(
            path, paths, [whole.piece(file) for file in whole.files], close=pool.close, by_schema=True
        )
        return replace(contents, remarks=(*whole.remarks, *contents.remarks))

    def propose(self, contents: Contents) -> DataMapping:
        arrays, axes = contents.arrays, contents.axes
        lines = {axis: name for axis, name in contents.coordinates.items() if axis != "time"}
        dims = [name.removeprefix(_DIMENSIONS) for name in lines.values()]
        fields: dict[str, dict[str, Any]] = {}
        for key in (key for key in arrays if key.startswith(_GROUPS)):
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
        scalars = {key.removeprefix("scalars/"): key for key in arrays if key.startswith("scalars/")}
        precise = any(arrays[entry["array"]].dtype == np.float64 for entry in fields.values())
        return DataMapping.model_validate(
            {
                "format": self.name,
                "fields": fields,
                "coefficients": {n if n not in fields else f"{n}_scalar": key for n, key in scalars.items()},
                "time": _TIME if evolves else None,
                "extent": {axis: _extent(axis, name, contents) for axis, name in lines.items()},
                "boundary": dict(contents.boundary),
                "dtype": "float64" if precise else "float32",
            }
        )


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


def _extent(axis: str, name: str, contents: Contents) -> float:
    """Return the length of an axis; on a periodic one from the first point to where it comes again."""
    points = np.asarray(contents.arrays[name])
    if len(points) < 2:
        return 0.0  # refused when the grid is made
    return axis_length(points, len(points), points.dtype, wraps=contents.boundary[axis] == "periodic")


# --- one file ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Field:
    """One field, or one component of a tensor field, axes as in the file."""

    array: LazyArray
    sample_varying: bool
    time_varying: bool
    dim_varying: tuple[bool, ...]
    num_components: int = 0  # length of the last axis of a vector

    @property
    def form(self) -> tuple[Any, ...]:
        """What files that belong together must agree in."""
        return self.time_varying, self.dim_varying, self.num_components


class _WellFile:
    """What one file tells, everything read but the fields; StoreError says in what it does not follow the schema."""

    def __init__(self, path: Path, pool: OpenFiles) -> None:
        self.path, self.pool = path, pool
        self.left_out: dict[str, str] = {}  # what cannot be used, with the reason
        with opening(path, _TITLE), open_hdf5(path) as file:
            self.ours = "provenance/json" in file
            self.grid_type = _texts(file.attrs.get("grid_type", "cartesian"))[0]
            self.dims = _texts(file["dimensions"].attrs["spatial_dims"])  # in array order
            self.times = self._floats(file["dimensions/time"])  # (frames,) or (trajectories, frames)
            self.num_trajectories = int(self._attribute(file, "n_trajectories"))
            if not 1 <= self.num_trajectories <= MOST_NUMBERS:
                raise self._wrong(f"it tells n_trajectories = {self.num_trajectories}")
            if not 1 <= len(self.dims) <= 3:
                raise self._wrong(f"it has the axes of space {', '.join(self.dims)}; 1 to 3 can be used")
            self.coordinates = {dim: self._coordinate(dim, file["dimensions"][dim]) for dim in self.dims}
            if self.times.ndim not in (1, 2) or not self.times.size:
                raise self._wrong(
                    f"dimensions/time has shape {self.times.shape}, not (frames,) or (trajectories, frames)"
                )
            self.num_frames = int(self.times.shape[-1])
            self.boundaries = self._boundaries(file)
            self.fields = self._fields(file)  # by group/name, or t2_fields/name/component
            self.scalars = self._scalars(file)  # (trajectories,) each

    def _wrong(self, what: str) -> StoreError:
        return StoreError(
            f"'{self.path}' does not follow The Well's schema: {what}. Mend the file, or import it as 'arrays' with a "
            "mapping of your own."
        )

    def _attribute(self, node: Any, name: str) -> Any:
        if name not in node.attrs:
            raise self._wrong(f"'{node.name}' lacks the attribute '{name}'")
        return node.attrs[name]

    def _floats(self, data: h5py.Dataset) -> np.ndarray:
        if math.prod(data.shape or ()) > MOST_NUMBERS:
            raise self._wrong(f"'{data.name}' has shape {data.shape}, and a line of numbers was expected")
        return np.asarray(coding_of(data).decode(data[()]), dtype=np.float64)

    def _coordinate(self, dim: str, data: h5py.Dataset) -> np.ndarray:
        points = coding_of(data).decode(data[()])
        points = points if points.dtype.kind == "f" else points.astype(np.float64)
        rows = points.reshape(-1, points.shape[-1]) if points.ndim else points
        if points.ndim not in (1, 2) or not all(same_points(rows[0], row, points.dtype) for row in rows):
            raise self._wrong(
                f"dimensions/{dim} has shape {points.shape}; one line of points is needed, the same for all "
                "trajectories and times"
            )
        first: np.ndarray = rows[0]
        return first

    def _boundaries(self, file: h5py.File) -> dict[str, frozenset[str]]:
        kinds: dict[str, set[str]] = {dim: set() for dim in self.dims}
        for node in file.get("boundary_conditions", {}).values():
            kind = _texts(self._attribute(node, "bc_type"))[0].upper()
            dims = _texts(self._attribute(node, "associated_dims"))
            if len(dims) > 1:
                self.left_out[node.name.lstrip("/")] = f"{kind} inside the box, which a grid cannot tell"
                continue
            for dim in dims:
                if dim not in kinds:
                    raise self._wrong(f"'{node.name}' is of the axis '{dim}', which is none of {', '.join(self.dims)}")
                kinds[dim].add(kind)
        return {dim: frozenset(own) for dim, own in kinds.items()}

    def _members(self, file: h5py.File, group: str) -> dict[str, h5py.Dataset]:
        if group not in file:
            return {}
        node = file[group]
        names = _texts(node.attrs["field_names"]) if "field_names" in node.attrs else tuple(node)
        missing = [name for name in names if name not in node]
        if missing:
            raise self._wrong(f"{group} lists {', '.join(missing)} and does not hold it")
        return {name: node[name] for name in names}

    def _fields(self, file: h5py.File) -> dict[str, _Field]:
        fields: dict[str, _Field] = {}
        for order, group in enumerate(_GROUPS):
            for name, data in self._members(file, group).items():
                if data.dtype.kind not in NUMBERS:
                    self.left_out[f"{group}/{name}"] = f"its numbers are of type {data.dtype}"
                    continue
                fields |= self._field(f"{group}/{name}", data, order)
        return fields

    def _field(self, key: str, data: h5py.Dataset, order: int) -> dict[str, _Field]:
        sample, time = (bool(self._attribute(data, f"{what}_varying")) for what in ("sample", "time"))
        varying = tuple(bool(entry) for entry in np.atleast_1d(self._attribute(data, "dim_varying")))
        expected = [self.num_trajectories] * sample + [self.num_frames] * time
        expected += [len(self.coordinates[dim]) for dim, varies in zip(self.dims, varying, strict=True) if varies]
        shape, num_dims = tuple(data.shape), len(self.dims)
        rest = shape[len(expected) :]
        flat = order == 2 and rest == (num_dims**2,)
        if shape[: len(expected)] != tuple(expected) or (len(rest) != order and not flat):
            meant = [*expected, *["components"] * order]
            raise self._wrong(f"'{key}' has shape {shape}; by its attributes and dimensions it should be {meant}")
        array = Hdf5Array.of(self.pool, self.path, data)
        if order == 0:
            return {key: _Field(array, sample, time, varying)}
        if order == 1:
            return {key: _Field(array, sample, time, varying, rest[0])}
        if rest != (num_dims, num_dims) and not flat:
            raise self._wrong(f"the tensor '{key}' has {rest} components on {num_dims} axes")
        components: dict[str, _Field] = {}
        last = len(array.shape) - 1
        for row, column in self._independent(key, data):
            if flat:
                component = OneEntry(array, last, row * num_dims + column)
            else:
                component = OneEntry(OneEntry(array, last, column), last - 1, row)
            components[f"{key}/{self.dims[row]}{self.dims[column]}"] = _Field(component, sample, time, varying)
        return components

    def _independent(self, key: str, data: h5py.Dataset) -> list[tuple[int, int]]:
        """Return the components of a tensor that do not follow from others."""
        places = range(len(self.dims))
        for word, first in (("antisymmetric", 1), ("symmetric", 0)):
            if bool(data.attrs.get(word, False)):
                self.left_out[f"{key}, below its diagonal"] = f"it is {word}: these components say nothing new"
                return [(row, column) for row in places for column in places if column >= row + first]
        return [(row, column) for row in places for column in places]

    def _scalars(self, file: h5py.File) -> dict[str, np.ndarray]:
        scalars: dict[str, np.ndarray] = {}
        for name, data in self._members(file, "scalars").items():
            if data.dtype.kind not in NUMBERS:
                self.left_out[f"scalars/{name}"] = f"it is of type {data.dtype}"
            elif bool(self._attribute(data, "time_varying")):
                self.left_out[f"scalars/{name}"] = "it changes in time, and a coefficient is one number a trajectory"
            else:
                scalars[name] = self._one_each(name, self._floats(data))
        for name in _texts(file.attrs.get("simulation_parameters", ())):
            value = np.asarray(file.attrs.get(name, math.nan))
            if name not in scalars and f"scalars/{name}" not in self.left_out and value.size == 1:
                if value.dtype.kind in NUMBERS and math.isfinite(value.item()):
                    scalars[name] = self._one_each(name, value.astype(np.float64).reshape(()))
                else:
                    self.left_out[name] = "it is not a number"
        return scalars

    def _one_each(self, name: str, values: np.ndarray) -> np.ndarray:
        if values.shape not in ((), (self.num_trajectories,)):
            raise self._wrong(
                f"'scalars/{name}' has shape {values.shape}; a number that does not change in time has () or "
                f"({self.num_trajectories},), one a trajectory"
            )
        return np.broadcast_to(values, (self.num_trajectories,))


def _boundary(kinds: Set[str]) -> Boundary:
    """Return what stands at the ends of an axis of which a file tells these kinds."""
    if "PERIODIC" in kinds:
        return "periodic"
    known: dict[Set[str], Boundary] = {frozenset({"WALL"}): "wall", frozenset({"OPEN"}): "open"}
    return known.get(frozenset(kinds), "bounded")


def _texts(value: Any) -> tuple[str, ...]:
    entries = np.atleast_1d(np.asarray(value, dtype=object)).ravel().tolist()
    return tuple(entry.decode() if isinstance(entry, bytes) else str(entry) for entry in entries)


# --- all files --------------------------------------------------------------------------------------------------------


class _DataSet:
    """All files of a data set, held against each other."""

    def __init__(self, files: Sequence[_WellFile]) -> None:
        self.files, self.first = files, files[0]
        if self.first.ours:
            raise StoreError(
                f"'{self.first.path}' is a file of a store made by SciFM, which needs no import: give the store's "
                "folder wherever a store is asked for, for example as data.store."
            )
        for other in files[1:]:
            self._compare(other)
        dims = self.first.dims  # called here as there where these are x, y, z, else in array order
        self.axis_of = dict(zip(dims, dims if set(dims) <= {"x", "y", "z"} else _HOUSE_AXES[len(dims)], strict=True))
        self.scalars = [name for name in self.first.scalars if all(name in file.scalars for file in files)]
        self.remarks: list[str] = []
        self.num_frames = self._common_frames()
        self.solution = self._solution_frame()
        self._remark()

    def piece(self, file: _WellFile) -> Piece:
        """Return what one file holds, with every axis of space, and the frames that all files have."""
        arrays: dict[str, LazyArray] = {key: self._seen(file, file.fields[key]) for key in self.first.fields}
        arrays |= {f"scalars/{name}": file.scalars[name] for name in self.scalars}
        axes = {key: self._axes(field) for key, field in self.first.fields.items()}
        axes |= {f"scalars/{name}": ("trajectory",) for name in self.scalars}
        lines = {axis: _DIMENSIONS + dim for dim, axis in self.axis_of.items()}
        arrays |= {lines[axis]: file.coordinates[dim] for dim, axis in self.axis_of.items()}
        if self.solution is None:
            rows = [own.times.reshape(-1, own.num_frames)[:, : self.num_frames] for own in (file, *self.files)]
            if all((own == own[0]).all() for own in rows):
                arrays[_TIME], lines["time"] = rows[0][0], _TIME
            else:  # told by trajectory: compared when they are used
                arrays[_TIME] = np.broadcast_to(rows[0], (file.num_trajectories, self.num_frames))
                axes[_TIME] = ("trajectory", "time")
        boundary = {axis: _boundary(self.first.boundaries[dim]) for dim, axis in self.axis_of.items()}
        return Piece(file.path, arrays, axes, lines, boundary)

    def _compare(self, other: _WellFile) -> None:
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
            kinds = (f"{dim}: {' and '.join(sorted(own)) or 'none told'}" for dim, own in other.boundaries.items())
            problem = f"other boundaries ({', '.join(kinds)})"
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
            with opening(self.first.path, _TITLE):
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
            points, kinds = first.coordinates[dim], sorted(first.boundaries[dim])
            if not kinds:
                remarks.append(f"Nothing is told about the boundaries in {dim}, which counts as bounded.")
            elif len(kinds) > 1:
                treated = _boundary(first.boundaries[dim])
                remarks.append(f"The boundaries in {dim} are {' and '.join(kinds)}; it counts as {treated}.")
            if len(points) > 1 and not are_even(points):
                remarks.append(f"Points on the axis {dim} are not evenly spaced; they are treated as if they were.")
        frames = sorted({file.num_frames for file in self.files})
        if len(frames) > 1:
            remarks.append(f"Files hold {frames[0]} to {frames[-1]} frames; the first {frames[0]} of each are read.")
        for name, reason in {n: r for file in self.files for n, r in file.left_out.items()}.items():
            remarks.append(f"{name} is left out: {reason}.")
        partly = {n for file in self.files for n in file.scalars} - set(self.scalars)
        for name in sorted(partly):
            remarks.append(f"scalars/{name} is left out: not every file has it.")

    def _axes(self, field: _Field) -> tuple[str, ...]:
        """Return the names of the axes an array has here, after `_seen`."""
        rows = ("trajectory",) if field.sample_varying or len(self.files) > 1 else ()
        frames = () if not field.time_varying else ("time",) if self.solution is None else ("-",)
        return (*rows, *frames, *self.axis_of.values(), *(["channel"] if field.num_components else []))

    def _seen(self, file: _WellFile, field: _Field) -> LazyArray:
        """Return an array as `piece` has it."""
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
