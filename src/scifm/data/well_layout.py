"""Writing The Well's HDF5 schema: one file holds the trajectories of one chunk.

How problems are told in a schema made for trajectories. Fields that evolve vary in time; inputs that do not are
constant in time; coefficients are scalars that vary by trajectory. A **steady** problem has solutions of two frames:
frame 0 is the blank state before anything is known and frame 1 is the solution, so The Well's own reader finds one
input step and one output step. The blank frames are never allocated: they read as the fill value 0 and take no room.

Every chunk of numbers is one frame of one field and carries a Fletcher-32 checksum, so damage is noticed when it is
read. What The Well has no place for lies in the extra group ``provenance``, which its reader ignores.

Reference: the schema's description, https://polymathic-ai.org/the_well/data_format/.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from scifm.errors import DataError, SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.wording import plural

__all__ = ["SOLUTION_FRAME", "Layout", "describe_folder", "encode_file", "require_finite", "require_steady"]

_STEADY_FRAMES = 2
_LOST_OF_TIME = 1e-3  # of an interval that may be lost to rounding before times are written in float64
SOLUTION_FRAME = 1
_MEMORY_STEP = 4 * 1024 * 1024  # how much the file image grows at a time, bytes


def _numpy(tensor: Any) -> np.ndarray:
    array: np.ndarray = tensor.detach().cpu().numpy()
    return array


def _names(names: Sequence[str]) -> np.ndarray:
    return np.array(list(names), dtype=h5py.string_dtype())


def _vary(node: Any, *, sample: bool, time: bool) -> None:
    node.attrs["sample_varying"] = sample
    node.attrs["time_varying"] = time


def _boundary_type(periodic: bool) -> str:
    return "PERIODIC" if periodic else "OPEN"  # a grid does not say more, and The Well reads OPEN where nothing is said


def require_steady(signature: Signature) -> None:
    """Raise SignatureError unless the signature is of a steady problem."""
    if signature.evolves:
        raise SignatureError(
            f"Only steady problems are generated into stores; {signature.outputs} evolve in time. Use a stream, which "
            "stores nothing, or import trajectories."
        )


def require_finite(values: np.ndarray, name: str, place: str, rows: Sequence[int] | np.ndarray | None = None) -> None:
    """Raise DataError if `values`, ``(n, …)`` of the samples `rows`, hold NaN or infinity; says where."""
    good = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if good.all():
        return
    first = int(np.argmin(good))
    sample = first if rows is None else int(rows[first])
    more = int((~good).sum()) - 1
    others = f", and in {plural(more, 'other')} of those read with it" if more else ""
    raise DataError(
        f"'{name}' holds NaN or infinity in sample {sample} of {place}{others}. Only finite numbers are allowed, and "
        "what a file masks, declares invalid or never wrote is none: make the data again, or leave such samples out."
    )


@dataclass(frozen=True)
class Layout:
    """What one file holds.

    Args:
        name: name of the data set.
        signature: the names.
        grid: where the fields live.
        num_trajectories: in this file.
        dtype: of every number.
        times: physical times of the frames; None for steady problems.
    """

    name: str
    signature: Signature
    grid: Grid
    num_trajectories: int
    dtype: np.dtype
    times: tuple[float, ...] | None = None

    @property
    def num_frames(self) -> int:
        return _STEADY_FRAMES if self.times is None else len(self.times)

    def create(self, file: h5py.File, provenance: Mapping[str, Any]) -> None:
        """Make every group and data set, empty; `fill` them.

        Args:
            file: a new file.
            provenance: JSON-ready values: where these samples came from.
        """
        file.attrs["dataset_name"] = self.name
        file.attrs["grid_type"] = "cartesian"
        file.attrs["n_spatial_dims"] = self.grid.num_spatial_dims
        file.attrs["n_trajectories"] = self.num_trajectories
        # Parameters here would be one number a file; ours differ from sample to sample and stand in /scalars.
        file.attrs["simulation_parameters"] = _names([])
        self._write_dimensions(file)
        self._write_boundaries(file)
        self._create_scalars(file)
        self._create_fields(file)
        text = json.dumps(provenance, sort_keys=True, allow_nan=False)
        file.create_group("provenance").create_dataset("json", data=np.bytes_(text.encode()))

    def fill(self, file: h5py.File, name: str, values: np.ndarray, *, first: int = 0, frame: int = 0) -> None:
        """Write a block of one coefficient or field.

        Args:
            file: what `create` made.
            name: of the coefficient or field.
            values: ``(n,)``, ``(n, *space)``, or ``(n, frames, *space)`` for a field that evolves.
            first: trajectory the block begins with.
            frame: frame it begins with.

        Raises:
            DataError: if a number is NaN or infinite.
        """
        rows = range(first, first + len(values))
        require_finite(values, name, "the batch to store", rows)
        where = slice(first, first + len(values))
        if name in self.signature.coefficients:
            file["scalars"][name][where] = values
        elif name not in self.signature.outputs:
            file["t0_fields"][name][where] = values
        elif self.times is None:
            file["t0_fields"][name][where, SOLUTION_FRAME] = values
        else:
            file["t0_fields"][name][where, frame : frame + values.shape[1]] = values

    def _write_dimensions(self, file: h5py.File) -> None:
        group = file.create_group("dimensions")
        group.attrs["spatial_dims"] = _names(self.grid.axis_names)
        times = np.arange(_STEADY_FRAMES) if self.times is None else np.asarray(self.times)
        rounded = times.astype(self.dtype)
        far = not np.allclose(np.diff(rounded), np.diff(times), rtol=_LOST_OF_TIME)  # such as seconds since 1970
        _vary(group.create_dataset("time", data=times if far else rounded), sample=False, time=True)
        for axis, points in zip(self.grid.axis_names, self.grid.coordinates(), strict=True):
            data = group.create_dataset(axis, data=_numpy(points).astype(self.dtype))
            _vary(data, sample=False, time=False)

    def _write_boundaries(self, file: h5py.File) -> None:
        grid, group = self.grid, file.create_group("boundary_conditions")
        for axis, num_points, periodic in zip(grid.axis_names, grid.num_points, grid.periodic, strict=True):
            kind = _boundary_type(periodic)
            boundary = group.create_group(f"{axis}_{kind.lower()}")
            boundary.attrs["associated_dims"] = _names([axis])
            boundary.attrs["associated_fields"] = _names([])
            boundary.attrs["bc_type"] = kind
            _vary(boundary, sample=False, time=False)
            mask = np.zeros(num_points, dtype=bool)
            mask[[0, -1]] = True  # the reader looks at the two ends; all false would silently mean OPEN
            boundary.create_dataset("mask", data=mask)

    def _create_scalars(self, file: h5py.File) -> None:
        group = file.create_group("scalars")
        group.attrs["field_names"] = _names(self.signature.coefficients)
        for name in self.signature.coefficients:
            data = group.create_dataset(name, shape=(self.num_trajectories,), dtype=self.dtype)
            _vary(data, sample=True, time=False)

    def _create_fields(self, file: h5py.File) -> None:
        group = file.create_group("t0_fields")
        names, space = self.signature, self.grid.num_points
        group.attrs["field_names"] = _names(names.fields)
        for name in names.fields:
            evolves = name in names.outputs
            frames = (self.num_frames,) if evolves else ()
            data = group.create_dataset(
                name,
                shape=(self.num_trajectories, *frames, *space),
                dtype=self.dtype,
                chunks=(1, *(1 for _ in frames), *space),
                fillvalue=0,
                fletcher32=True,
            )
            data.attrs["dim_varying"] = np.ones(len(space), dtype=bool)
            _vary(data, sample=True, time=evolves)
        for order in ("t1_fields", "t2_fields"):
            file.create_group(order).attrs["field_names"] = _names([])


def encode_file(batch: Batch, *, name: str, provenance: Mapping[str, Any]) -> bytes:
    """Return the bytes of one HDF5 file that holds `batch`; the same batch always gives the same bytes.

    The file is built in memory, so that writing it is one plain write which succeeds or fails as a whole.

    Args:
        batch: steady problems with targets.
        name: name of the data set.
        provenance: JSON-ready values: where these samples came from.

    Raises:
        SignatureError: if the problems evolve in time, or have no targets.
        DataError: if a number is NaN or infinite.
    """
    require_steady(batch.signature)
    batch.require_targets()
    names = batch.signature
    layout = Layout(name, names, batch.grid, batch.num_samples, _numpy(batch.inputs).dtype)
    with h5py.File(
        f"image-{threading.get_ident()}", "w", driver="core", backing_store=False, block_size=_MEMORY_STEP
    ) as file:
        layout.create(file, provenance)
        for coefficient in names.coefficients:
            layout.fill(file, coefficient, _numpy(batch.coefficient(coefficient)))
        for field in names.fields:
            layout.fill(file, field, _numpy(batch.field(field)[:, 0]))
        file.flush()
        image: bytes = file.id.get_file_image()
    return image


def describe_folder(
    name: str, signature: Signature, grid: Grid, num_trajectories: Sequence[int], num_frames: int | None = None
) -> dict[str, Any]:
    """Return the entries of The Well's ``<name>.yaml``, which describes a data set to its tools.

    Args:
        name: name of the data set.
        signature: the names.
        grid: where the fields live.
        num_trajectories: for each file.
        num_frames: of every trajectory; None for steady problems.
    """
    constant = [field for field in signature.inputs if field not in signature.outputs]
    return {
        "dataset_name": name,
        "n_spatial_dims": grid.num_spatial_dims,
        "spatial_resolution": list(grid.num_points),
        "scalar_names": [],
        "constant_scalar_names": list(signature.coefficients),
        "field_names": {0: list(signature.outputs), 1: [], 2: []},
        "constant_field_names": {0: constant, 1: [], 2: []},
        "boundary_condition_types": sorted({_boundary_type(p) for p in grid.periodic}),
        "n_files": len(num_trajectories),
        "n_trajectories_per_file": list(num_trajectories),
        "n_steps_per_trajectory": [num_frames or _STEADY_FRAMES] * len(num_trajectories),
        "grid_type": "cartesian",
    }
