"""Files of a store in The Well's HDF5 schema, written and read: one file holds the trajectories of one chunk.

How problems are told in a schema made for trajectories. Fields that evolve vary in time; inputs that do not are
constant in time; coefficients are scalars that vary by trajectory. A **steady** problem has solutions of two frames:
frame 0 is the blank state before anything is known and frame 1 is the solution, so The Well's own reader finds one
input step and one output step. The blank frames are never allocated: they read as the fill value 0 and take no room.

Every chunk of numbers is one frame of one field, or several where frames are small, and carries a Fletcher-32 checksum,
so damage is noticed when it is read. What The Well has no place for lies in the extra groups ``provenance`` and
``valid``, which its reader ignores.

Where points may be missing, ``valid/NAME`` says of every number of a field whether it is one; what stands at the others
is 0 in the file and NaN to who reads it here. As long as nothing is missing these masks take no room.

Reference: the schema's description, https://polymathic-ai.org/the_well/data_format/.
"""

from __future__ import annotations

import abc
import json
import math
import os
import resource
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from scifm.data.declared import open_checked
from scifm.data.missing import require_finite
from scifm.data.ranges import overlaps, runs
from scifm.errors import SignatureError, StoreError, cause_of
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Boundary, Grid

__all__ = [
    "JoinedRows",
    "Layout",
    "OpenFiles",
    "Reader",
    "WellReader",
    "describe_folder",
    "encode_file",
    "marked",
    "open_file",
    "read_provenance",
    "require_finite",
]

_SOLUTION_FRAME = 1
_MOST_OPEN_FILES = 64
_STEADY_FRAMES = 2
_LOST_OF_TIME = 1e-3  # of an interval that may be lost to rounding before times are written in float64
_SMALL_CHUNK = 16 * 1024  # bytes of a chunk that may hold several frames: each has a cost of its own in HDF5
_MEMORY_STEP = 4 * 1024 * 1024  # how much the file image grows at a time, bytes


def _numpy(tensor: Any) -> np.ndarray:
    array: np.ndarray = tensor.detach().cpu().numpy()
    return array


def _names(names: Sequence[str]) -> np.ndarray:
    return np.array(list(names), dtype=h5py.string_dtype())


def _vary(node: Any, *, sample: bool, time: bool) -> None:
    node.attrs["sample_varying"] = sample
    node.attrs["time_varying"] = time


_BOUNDARY_TYPES: dict[Boundary, str] = {
    "periodic": "PERIODIC",
    "wall": "WALL",
    "open": "OPEN",
    "bounded": "OPEN",  # as The Well reads it where nothing is said
}


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
        gaps: fields of which points may be missing.
    """

    name: str
    signature: Signature
    grid: Grid
    num_trajectories: int
    dtype: np.dtype
    times: tuple[float, ...] | None = None
    gaps: tuple[str, ...] = ()

    @property
    def num_frames(self) -> int:
        return _STEADY_FRAMES if self.times is None else len(self.times)

    def create(self, file: h5py.File, provenance: Mapping[str, Any]) -> None:
        """Make every group and data set, empty; `provenance` says, JSON-ready, where the samples came from."""
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
            values: ``(n,)``, ``(n, *space)``, or ``(n, frames, *space)`` for a field that evolves; NaN where a point
                is missing.
            first, frame: trajectory and frame the block begins with.

        Raises:
            DataError: if a number is infinite, or NaN in a field without gaps.
        """
        rows = range(first, first + len(values))
        evolves, gaps = self.times is not None and name in self.signature.outputs, name in self.gaps
        require_finite(values, name, "the batch to store", rows, frame if evolves else None, gaps=gaps)
        where = slice(first, first + len(values))
        if gaps and (missing := np.isnan(values)).any():
            index = (where, slice(frame, frame + values.shape[1])) if evolves else (where,)
            file["valid"][name][index] = ~missing
            values = np.where(missing, values.dtype.type(0), values)
        if name in self.signature.coefficients:
            file["scalars"][name][where] = values
        elif name not in self.signature.outputs:
            file["t0_fields"][name][where] = values
        elif self.times is None:
            file["t0_fields"][name][where, _SOLUTION_FRAME] = values
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
        for axis, num_points, ends in zip(grid.axis_names, grid.num_points, grid.boundary, strict=True):
            kind = _BOUNDARY_TYPES[ends]
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
                chunks=self._chunks(frames, np.dtype(self.dtype).itemsize),
                fillvalue=0,
                fletcher32=True,
            )
            data.attrs["dim_varying"] = np.ones(len(space), dtype=bool)
            _vary(data, sample=True, time=evolves)
        for order in ("t1_fields", "t2_fields"):
            file.create_group(order).attrs["field_names"] = _names([])
        for name in self.gaps:
            frames = (self.num_frames,) if self.times is not None and name in names.outputs else ()
            shape = (self.num_trajectories, *frames, *space)
            chunks = self._chunks(frames, 1)
            packed: dict[str, Any] = {"compression": "gzip", "compression_opts": 1, "fletcher32": True}
            file.create_dataset(f"valid/{name}", shape, bool, chunks=chunks, fillvalue=True, **packed)

    def _chunks(self, frames: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
        """Return how arrays are cut: a frame each, which is what is read; or several, where frames are small."""
        fitting = _SMALL_CHUNK // (itemsize * math.prod(self.grid.num_points))
        together = 1 if self.times is None else max(1, fitting)  # blank frames of what is steady take no room
        return 1, *(min(together, count) for count in frames), *self.grid.num_points


def encode_file(batch: Batch, *, name: str, provenance: Mapping[str, Any]) -> bytes:
    """Return the bytes of one HDF5 file that holds `batch`; the same batch always gives the same bytes.

    The file is built in memory, so that writing it is one plain write which succeeds or fails as a whole.

    Args:
        batch: problems with targets; of an evolving system whole trajectories, with the same times in all of them.
        name: of the data set.
        provenance: JSON-ready values: where these samples came from.

    Raises:
        SignatureError: if there are no targets; or trajectories have other times, no times, or a history.
        DataError: if a number is NaN or infinite.
    """
    names, targets = batch.signature, batch.require_targets()
    times = _times_of(batch) if names.evolves else None
    layout = Layout(name, names, batch.grid, batch.num_samples, _numpy(batch.inputs).dtype, times, batch.gaps)
    batch = marked(batch)
    with h5py.File(
        f"image-{threading.get_ident()}", "w", driver="core", backing_store=False, block_size=_MEMORY_STEP
    ) as file:
        layout.create(file, provenance)
        for coefficient in names.coefficients:
            layout.fill(file, coefficient, _numpy(batch.coefficient(coefficient)))
        for field in names.fields:
            first = batch.field(field)[:, 0]
            if field not in names.state:
                layout.fill(file, field, _numpy(first))
                continue
            layout.fill(file, field, _numpy(first[:, None]))
            layout.fill(file, field, _numpy(targets[:, :, names.outputs.index(field)]), frame=1)
        file.flush()
        image: bytes = file.id.get_file_image()
    return image


def marked(batch: Batch) -> Batch:
    """Return a batch with NaN at the points that are missing, and no masks: as readers give numbers."""
    pairs = {"inputs": batch.valid_inputs, "targets": batch.valid_targets}
    known = {role: valid for role, valid in pairs.items() if valid is not None}
    fields: dict[str, Any] = {
        role: torch.where(valid, getattr(batch, role), torch.nan) for role, valid in known.items()
    }
    return replace(batch, **fields, valid_inputs=None, valid_targets=None) if known else batch


def _times_of(batch: Batch) -> tuple[float, ...]:
    """Return the times of the frames of whole trajectories, the first at 0."""
    lead = batch.lead_time
    if batch.signature.state != batch.signature.outputs or lead is None or batch.inputs.shape[1] != 1:
        raise SignatureError(
            "A trajectory is stored as its first frame and all later ones with the lead_time of each, and every output "
            f"is a state. This batch has {batch.inputs.shape[1]} input frames, outputs {batch.signature.outputs}, of "
            f"which {batch.signature.state} are states, and {'no lead_time' if lead is None else 'a lead_time'}."
        )
    if not torch.equal(lead, lead[:1].expand_as(lead)):
        raise SignatureError("Trajectories of one file have the same times; these have others in some samples.")
    return (0.0, *lead[0].double().tolist())


def describe_folder(
    name: str, signature: Signature, grid: Grid, num_trajectories: Sequence[int], num_frames: int | None = None
) -> dict[str, Any]:
    """Return the entries of The Well's ``<name>.yaml``, which describes a data set to its tools.

    Args:
        name, signature, grid: of the data set.
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
        "boundary_condition_types": sorted({_BOUNDARY_TYPES[ends] for ends in grid.boundary}),
        "n_files": len(num_trajectories),
        "n_trajectories_per_file": list(num_trajectories),
        "n_steps_per_trajectory": [num_frames or _STEADY_FRAMES] * len(num_trajectories),
        "grid_type": "cartesian",
    }


# --- reading ----------------------------------------------------------------------------------------------------------


class Reader(abc.ABC):
    """Where the numbers of one split lie, read by position and never whole. A point of a field that is missing is NaN.

    A trajectory is one drawn problem; of a steady one only the solution is a frame.
    """

    @property
    @abc.abstractmethod
    def num_trajectories(self) -> int:
        """How many there are."""

    @abc.abstractmethod
    def read(self, name: str, rows: slice, frames: slice | None) -> np.ndarray:
        """Return a block of one coefficient or field: ``(rows,)``, ``(rows, *space)`` or ``(rows, frames, *space)``.

        Args:
            name: of the coefficient or field.
            rows: trajectories, a contiguous range.
            frames: frames of a field that evolves, a contiguous range; None for everything else.

        Raises:
            StoreError: if a file is missing, truncated or damaged.
            DataError: if a number is infinite, or NaN where no point may be missing.
        """

    def take(self, name: str, rows: np.ndarray, frames: slice | None) -> np.ndarray:
        """Return what `read` does of trajectories in any order; those that follow each other are read together."""
        blocks = [self.read(name, run, frames) for run in runs(rows)]
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)

    @abc.abstractmethod
    def close(self) -> None:
        """Close what is open; reading again opens it again."""


def open_file(path: Path) -> h5py.File:
    """Open one file of a store for reading.

    Raises:
        StoreError: if it is missing, truncated, or not HDF5.
    """
    try:
        return open_checked(path)
    except StoreError:
        raise
    except FileNotFoundError as error:
        raise StoreError(
            f"The store lacks its file '{path}'. Run the command that made the store again to make it anew."
        ) from error
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> StoreError:
    cause = cause_of(error)
    if cause is not None:
        return StoreError(f"'{path}', a file of a store, cannot be read: {cause}")
    return StoreError(
        f"'{path}' is truncated, damaged or not a file of a store ({error}). Remove it and run 'scifm generate' or "
        "'scifm import' again with the same settings: only this file is made anew."
    )


def read_provenance(path: Path) -> dict[str, Any]:
    """Return what was told about the samples of one file when it was made.

    Raises:
        StoreError: if the file cannot be read or was not made by this library.
    """
    with open_file(path) as file:
        try:
            entries: dict[str, Any] = json.loads(file["provenance/json"][()])
        except (KeyError, TypeError, ValueError, OSError, RuntimeError) as error:
            raise StoreError(
                f"'{path}' was not made by SciFM or is damaged: its provenance cannot be read ({error}). Choose "
                "another folder for the store, or move this file away."
            ) from error
    return entries


class OpenFiles:
    """Files kept open between reads, by the process that reads: never carried over a fork or a pickle.

    Args:
        opener: opens one, given by its path or by what else tells it; a function of a module, for worker processes need
            it. What it returns has a method ``close``.
    """

    def __init__(self, opener: Callable[[Any], Any] = open_file) -> None:
        self._opener = opener
        self._owner = os.getpid()
        self._files: OrderedDict[Any, Any] = OrderedDict()

    def get(self, path: Any) -> Any:
        """Return the open file at `path`; those used longest ago are closed first when there are too many."""
        if self._owner != os.getpid():  # we are a forked worker: the parent's files are not ours to share
            self._owner, self._files = os.getpid(), OrderedDict()
        while path not in self._files and len(self._files) >= _most_open_files():
            self._files.popitem(last=False)[1].close()
        file = self._files.pop(path, None) or self._opener(path)
        self._files[path] = file
        return file

    def close(self) -> None:
        """Close all."""
        while self._files:
            self._files.popitem()[1].close()

    def __reduce__(self) -> tuple[type[OpenFiles], tuple[Callable[[Any], Any]]]:
        return OpenFiles, (self._opener,)


def _most_open_files() -> int:
    """Return how many files one of these may hold: a part of what the system lets a process open."""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _MOST_OPEN_FILES if allowed == resource.RLIM_INFINITY else max(1, min(_MOST_OPEN_FILES, allowed // 8))


class JoinedRows(Reader):
    """The trajectories of several readers, one reader after the other."""

    def __init__(self, readers: Sequence[Reader]) -> None:
        self.readers = readers
        self._ends = np.cumsum([reader.num_trajectories for reader in readers])

    @property
    def num_trajectories(self) -> int:
        return int(self._ends[-1]) if len(self.readers) else 0

    def read(self, name: str, rows: slice, frames: slice | None) -> np.ndarray:
        touched = overlaps(rows, self._ends)
        parts = [self.readers[place].read(name, where, frames) for place, where in touched]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def close(self) -> None:
        for reader in self.readers:
            reader.close()


class WellReader(Reader):
    """One file of a store.

    Safe to hand to worker processes: each opens the file for itself. Threads need one each.
    """

    def __init__(self, path: Path, num_trajectories: int, signature: Signature, files: OpenFiles) -> None:
        self.path, self._count, self.signature, self._files = path, num_trajectories, signature, files

    @property
    def num_trajectories(self) -> int:
        return self._count

    def read(self, name: str, rows: slice, frames: slice | None) -> np.ndarray:
        path, file = self.path, self._files.get(self.path)
        index: tuple[Any, ...] = (rows,)
        if frames is not None:
            index = (rows, frames)
        elif name in self.signature.outputs:
            index = (rows, _SOLUTION_FRAME)
        try:
            group = "scalars" if name in self.signature.coefficients else "t0_fields"
            values: np.ndarray = file[group][name][index]
            if len(values) != rows.stop - rows.start:
                raise IndexError(f"{len(values)} samples where {rows.stop - rows.start} should be")
            if values.dtype.kind != "f":
                raise TypeError(f"'{name}' holds {values.dtype}")
            masks = file.get("valid")
            valid = masks[name][(rows,) if frames is None else (rows, frames)] if masks and name in masks else None
            if valid is not None and (valid.shape != values.shape or valid.dtype != np.bool_):
                raise TypeError(f"the mask of '{name}' is {valid.dtype} of shape {valid.shape}")
        except (KeyError, OSError, RuntimeError, ValueError, TypeError, IndexError) as error:
            raise _damaged(path, error) from error
        first = None if frames is None else frames.start
        require_finite(values, name, f"'{path}'", range(rows.start, rows.stop), first)
        return values if valid is None or valid.all() else np.where(valid, values, values.dtype.type(np.nan))

    def close(self) -> None:
        self._files.close()
