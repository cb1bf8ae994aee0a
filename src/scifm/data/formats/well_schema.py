"""What one foreign file in The Well's HDF5 schema tells, with no field read.

Reference: https://polymathic-ai.org/the_well/data_format/.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from scifm.data.formats.axis_points import same_points
from scifm.data.formats.contents import MOST_NUMBERS, NUMBERS, LazyArray
from scifm.data.formats.format import opening
from scifm.data.formats.hdf5 import Hdf5Array, coding_of, open_hdf5
from scifm.data.formats.views import OneEntry
from scifm.data.well import OpenFiles
from scifm.errors import StoreError

__all__ = ["GROUPS", "WellField", "WellFile", "read_well_file"]

GROUPS = ("t0_fields", "t1_fields", "t2_fields")
_TITLE = "The Well's HDF5"


@dataclass(frozen=True)
class WellField:
    """One field, or one component of a tensor field.

    Args:
        array: the numbers, axes as in the file.
        sample_varying: whether it has an axis of trajectories.
        time_varying: whether it has an axis of time.
        dim_varying: which axes of space it has.
        num_components: length of its last axis for vectors; 0 for scalars.
    """

    array: LazyArray
    sample_varying: bool
    time_varying: bool
    dim_varying: tuple[bool, ...]
    num_components: int = 0

    @property
    def form(self) -> tuple[Any, ...]:
        """What files that belong together must agree in."""
        return self.time_varying, self.dim_varying, self.num_components


@dataclass(frozen=True)
class WellFile:
    """What one file tells.

    Args:
        path: the file.
        ours: whether this library wrote it.
        grid_type: ``cartesian``, ``spherical``, …
        num_trajectories: how many it holds.
        dims: names of the axes of space, in array order.
        coordinates: of each axis, as the file holds them.
        times: ``(frames,)`` or ``(trajectories, frames)``.
        boundaries: kinds of boundary by axis.
        fields: by ``group/name``, or ``t2_fields/name/component``.
        scalars: the coefficients, ``(trajectories,)``.
        left_out: what cannot be used, with the reason.
    """

    path: Path
    ours: bool
    grid_type: str
    num_trajectories: int
    dims: tuple[str, ...]
    coordinates: Mapping[str, np.ndarray]
    times: np.ndarray
    boundaries: Mapping[str, frozenset[str]]
    fields: Mapping[str, WellField]
    scalars: Mapping[str, np.ndarray]
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def num_frames(self) -> int:
        return int(self.times.shape[-1])


def read_well_file(path: Path, pool: OpenFiles) -> WellFile:
    """Read everything but the fields.

    Args:
        path: the file.
        pool: keeps files open; the fields are read through it later.

    Raises:
        StoreError: if it cannot be read, or does not follow the schema; says in what.
    """
    with opening(path, _TITLE), open_hdf5(path) as file:
        return _Schema(path, file, pool).read()


def _texts(value: Any) -> tuple[str, ...]:
    entries = np.atleast_1d(np.asarray(value, dtype=object)).ravel().tolist()
    return tuple(entry.decode() if isinstance(entry, bytes) else str(entry) for entry in entries)


class _Schema:
    """One open file."""

    def __init__(self, path: Path, file: h5py.File, pool: OpenFiles) -> None:
        self.path, self.file, self.pool = path, file, pool
        self.left_out: dict[str, str] = {}
        self.dims = _texts(file["dimensions"].attrs["spatial_dims"])
        self.times = self._floats(file["dimensions/time"])
        self.num_trajectories = int(self._attribute(file, "n_trajectories"))
        if not 1 <= self.num_trajectories <= MOST_NUMBERS:
            raise self._wrong(f"it tells n_trajectories = {self.num_trajectories}")

    def read(self) -> WellFile:
        if not 1 <= len(self.dims) <= 3:
            raise self._wrong(f"it has the axes of space {', '.join(self.dims)}; 1 to 3 can be used")
        coordinates = {dim: self._coordinate(dim) for dim in self.dims}
        self.num_points = {dim: len(points) for dim, points in coordinates.items()}
        if self.times.ndim not in (1, 2) or not self.times.size:
            raise self._wrong(f"dimensions/time has shape {self.times.shape}, not (frames,) or (trajectories, frames)")
        return WellFile(
            path=self.path,
            ours="provenance/json" in self.file,
            grid_type=_texts(self.file.attrs.get("grid_type", "cartesian"))[0],
            num_trajectories=self.num_trajectories,
            dims=self.dims,
            coordinates=coordinates,
            times=self.times,
            boundaries=self._boundaries(),
            fields=self._fields(),
            scalars=self._scalars(),
            left_out=self.left_out,
        )

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

    def _coordinate(self, dim: str) -> np.ndarray:
        data = self.file["dimensions"][dim]
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

    def _boundaries(self) -> dict[str, frozenset[str]]:
        kinds: dict[str, set[str]] = {dim: set() for dim in self.dims}
        for node in self.file.get("boundary_conditions", {}).values():
            kind = _texts(self._attribute(node, "bc_type"))[0].upper()
            dims = _texts(self._attribute(node, "associated_dims"))
            if len(dims) > 1:
                self.left_out[node.name.lstrip("/")] = f"{kind} inside the box, which a grid cannot tell"
                continue
            for dim in dims:
                if dim not in kinds:
                    raise self._wrong(f"'{node.name}' is of the axis '{dim}', which is none of {', '.join(self.dims)}")
                kinds[dim].add(kind)
        return {dim: frozenset(found) for dim, found in kinds.items()}

    def _members(self, group: str) -> dict[str, h5py.Dataset]:
        if group not in self.file:
            return {}
        node = self.file[group]
        names = _texts(node.attrs["field_names"]) if "field_names" in node.attrs else tuple(node)
        missing = [name for name in names if name not in node]
        if missing:
            raise self._wrong(f"{group} lists {', '.join(missing)} and does not hold it")
        return {name: node[name] for name in names}

    def _fields(self) -> dict[str, WellField]:
        fields: dict[str, WellField] = {}
        for order, group in enumerate(GROUPS):
            for name, data in self._members(group).items():
                if data.dtype.kind not in NUMBERS:
                    self.left_out[f"{group}/{name}"] = f"its numbers are of type {data.dtype}"
                    continue
                fields |= self._field(f"{group}/{name}", data, order)
        return fields

    def _field(self, key: str, data: h5py.Dataset, order: int) -> dict[str, WellField]:
        sample, time = (bool(self._attribute(data, f"{what}_varying")) for what in ("sample", "time"))
        varying = tuple(bool(entry) for entry in np.atleast_1d(self._attribute(data, "dim_varying")))
        expected = [self.num_trajectories] * sample + [self.times.shape[-1]] * time
        expected += [self.num_points[dim] for dim, varies in zip(self.dims, varying, strict=True) if varies]
        shape, num_dims = tuple(data.shape), len(self.dims)
        rest = shape[len(expected) :]
        flat = order == 2 and rest == (num_dims**2,)
        if shape[: len(expected)] != tuple(expected) or (len(rest) != order and not flat):
            told = [*expected, *["components"] * order]
            raise self._wrong(f"'{key}' has shape {shape}; by its attributes and dimensions it should be {told}")
        array = Hdf5Array.of(self.pool, self.path, data)
        if order == 0:
            return {key: WellField(array, sample, time, varying)}
        if order == 1:
            return {key: WellField(array, sample, time, varying, rest[0])}
        if rest != (num_dims, num_dims) and not flat:
            raise self._wrong(f"the tensor '{key}' has {rest} components on {num_dims} axes")
        return {
            f"{key}/{self.dims[row]}{self.dims[column]}": WellField(
                self._component(array, row, column, flat), sample, time, varying
            )
            for row, column in self._independent(key, data)
        }

    def _component(self, array: LazyArray, row: int, column: int, flat: bool) -> LazyArray:
        last = len(array.shape) - 1
        if flat:
            return OneEntry(array, last, row * len(self.dims) + column)
        return OneEntry(OneEntry(array, last, column), last - 1, row)

    def _independent(self, key: str, data: h5py.Dataset) -> list[tuple[int, int]]:
        """Return the components of a tensor that do not follow from others."""
        places = range(len(self.dims))
        for word, first in (("antisymmetric", 1), ("symmetric", 0)):
            if bool(data.attrs.get(word, False)):
                self.left_out[f"{key}, below its diagonal"] = f"it is {word}: these components say nothing new"
                return [(row, column) for row in places for column in places if column >= row + first]
        return [(row, column) for row in places for column in places]

    def _scalars(self) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for name, data in self._members("scalars").items():
            if data.dtype.kind not in NUMBERS:
                self.left_out[f"scalars/{name}"] = f"it is of type {data.dtype}"
            elif bool(self._attribute(data, "time_varying")):
                self.left_out[f"scalars/{name}"] = "it changes in time, and a coefficient is one number a trajectory"
            else:
                found[name] = self._one_each(name, self._floats(data))
        for name in _texts(self.file.attrs.get("simulation_parameters", ())):
            value = np.asarray(self.file.attrs.get(name, math.nan))
            if name not in found and f"scalars/{name}" not in self.left_out and value.size == 1:
                if value.dtype.kind in NUMBERS and math.isfinite(value.item()):
                    found[name] = self._one_each(name, value.astype(np.float64).reshape(()))
                else:
                    self.left_out[name] = "it is not a number"
        return found

    def _one_each(self, name: str, values: np.ndarray) -> np.ndarray:
        if values.shape not in ((), (self.num_trajectories,)):
            raise self._wrong(
                f"'scalars/{name}' has shape {values.shape}; a number that does not change in time has () or "
                f"({self.num_trajectories},), one a trajectory"
            )
        return np.broadcast_to(values, (self.num_trajectories,))
