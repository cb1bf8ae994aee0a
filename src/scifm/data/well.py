"""Files in The Well's HDF5 schema: one file holds the samples of one chunk.

How a steady problem is told in a schema made for trajectories: inputs are fields constant in time, coefficients are
scalars that vary by sample, and solutions are time-varying fields of two frames. Frame 0 is the blank state before
anything is known and frame 1 is the solution, so The Well's own reader finds one input step and one output step. The
blank frames are never allocated: they read as the fill value 0 and take no room on disk.

Every chunk of numbers is one sample's field and carries a Fletcher-32 checksum, so damage is noticed when it is read.
What The Well has no place for lies in the extra group ``provenance``, which its reader ignores.

Reference: the schema's description, https://polymathic-ai.org/the_well/data_format/.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from scifm.errors import DataError, SignatureError, StoreError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid

__all__ = ["describe_folder", "encode_file", "open_file", "read_provenance", "read_samples", "require_steady"]

_NUM_FRAMES = 2
_SOLUTION_FRAME = 1
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
            f"A store holds steady problems; {signature.outputs} evolve in time. Use a stream, which stores nothing."
        )


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
    with h5py.File("image", "w", driver="core", backing_store=False, block_size=_MEMORY_STEP) as file:
        file.attrs["dataset_name"] = name
        file.attrs["grid_type"] = "cartesian"
        file.attrs["n_spatial_dims"] = batch.grid.num_spatial_dims
        file.attrs["n_trajectories"] = batch.num_samples
        # Parameters here would be one number a file; ours differ from sample to sample and stand in /scalars.
        file.attrs["simulation_parameters"] = _names([])
        _write_dimensions(file, batch.grid, _numpy(batch.inputs).dtype)
        _write_boundaries(file, batch.grid)
        _write_scalars(file, batch)
        _write_fields(file, batch)
        text = json.dumps(provenance, sort_keys=True, allow_nan=False)
        file.create_group("provenance").create_dataset("json", data=np.bytes_(text.encode()))
        file.flush()
        image: bytes = file.id.get_file_image()
    return image


def _write_dimensions(file: h5py.File, grid: Grid, dtype: np.dtype) -> None:
    group = file.create_group("dimensions")
    group.attrs["spatial_dims"] = _names(grid.axis_names)
    time = group.create_dataset("time", data=np.arange(_NUM_FRAMES, dtype=dtype))
    _vary(time, sample=False, time=True)
    for axis, points in zip(grid.axis_names, grid.coordinates(), strict=True):
        _vary(group.create_dataset(axis, data=_numpy(points).astype(dtype)), sample=False, time=False)


def _write_boundaries(file: h5py.File, grid: Grid) -> None:
    group = file.create_group("boundary_conditions")
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


def _write_scalars(file: h5py.File, batch: Batch) -> None:
    names = batch.signature.coefficients
    group = file.create_group("scalars")
    group.attrs["field_names"] = _names(names)
    for name in names:
        values = _numpy(batch.coefficient(name))
        _require_finite(values, name, "the batch to store")
        _vary(group.create_dataset(name, data=values), sample=True, time=False)


def _write_fields(file: h5py.File, batch: Batch) -> None:
    batch.require_targets()
    group = file.create_group("t0_fields")
    group.attrs["field_names"] = _names([*batch.signature.inputs, *batch.signature.outputs])
    space = batch.grid.num_points
    for name in (*batch.signature.inputs, *batch.signature.outputs):
        values = _numpy(batch.field(name)[:, 0])
        _require_finite(values, name, "the batch to store")
        evolves = name in batch.signature.outputs
        frames = (_NUM_FRAMES,) if evolves else ()
        data = group.create_dataset(
            name,
            shape=(batch.num_samples, *frames, *space),
            dtype=values.dtype,
            chunks=(1, *(1 for _ in frames), *space),
            fillvalue=0,
            fletcher32=True,
        )
        if evolves:
            data[:, _SOLUTION_FRAME] = values
        else:
            data[...] = values
        data.attrs["dim_varying"] = np.ones(len(space), dtype=bool)
        _vary(data, sample=True, time=evolves)
    for order in ("t1_fields", "t2_fields"):
        file.create_group(order).attrs["field_names"] = _names([])


def _require_finite(values: np.ndarray, name: str, place: str, rows: Sequence[int] | np.ndarray | None = None) -> None:
    good = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if good.all():
        return
    first = int(np.argmin(good))
    sample = first if rows is None else int(rows[first])
    raise DataError(
        f"'{name}' holds NaN or infinity in {int((~good).sum())} of {len(values)} samples of {place}, the first is "
        f"sample {sample}. Only finite numbers are allowed: make the data again, or leave those samples out."
    )


def open_file(path: Path) -> h5py.File:
    """Open one file of a store for reading.

    Raises:
        StoreError: if it is missing, truncated, or not HDF5.
    """
    try:
        return h5py.File(path, "r")
    except FileNotFoundError as error:
        raise StoreError(f"The store lacks its file '{path}'. Run 'scifm generate' again to make it anew.") from error
    except (OSError, RuntimeError, KeyError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> StoreError:
    return StoreError(
        f"'{path}' is truncated, damaged or not a file of a store ({error}). Remove it and run 'scifm generate' again "
        "with the same settings: only this file is made anew."
    )


def read_provenance(path: Path) -> dict[str, Any]:
    """Return what `encode_file` was told about the samples of one file.

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


def _read_rows(data: h5py.Dataset, rows: np.ndarray, frame: int | None, out: np.ndarray) -> None:
    """Fill `out` with the samples `rows` (increasing) of `data`."""
    last = () if frame is None else (frame,)
    if len(rows) and rows[-1] - rows[0] + 1 == len(rows):
        out[...] = data[(slice(int(rows[0]), int(rows[-1]) + 1), *last)]
        return
    for place, row in enumerate(rows.tolist()):  # one by one is 30 times faster than HDF5's own list of points
        out[place] = data[(row, *last)]


def read_samples(
    file: h5py.File, signature: Signature, rows: np.ndarray, out: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    """Read some samples of one open file into arrays given by the caller.

    Args:
        file: what `open_file` returned.
        signature: the names to read.
        rows: ``(n,)`` positions in this file, increasing, each once.
        out: inputs ``(n, input, *space)``, coefficients ``(n, coefficient)``, targets ``(n, output, *space)``.

    Raises:
        StoreError: if the file does not hold these names or shapes, or its checksums do not fit.
        DataError: if a number is NaN or infinite; says the field and the sample.
    """
    inputs, coefficients, targets = out
    parts: list[tuple[str, str, int | None, np.ndarray]] = [
        *(("t0_fields", name, None, inputs[:, i]) for i, name in enumerate(signature.inputs)),
        *(("scalars", name, None, coefficients[:, i]) for i, name in enumerate(signature.coefficients)),
        *(("t0_fields", name, _SOLUTION_FRAME, targets[:, i]) for i, name in enumerate(signature.outputs)),
    ]
    for group, name, frame, place in parts:
        try:
            _read_rows(file[group][name], rows, frame, place)
        except (KeyError, OSError, RuntimeError, ValueError, TypeError, IndexError) as error:
            raise _damaged(Path(file.filename), error) from error
        _require_finite(place, name, f"'{file.filename}'", rows)


def describe_folder(name: str, signature: Signature, grid: Grid, num_samples_per_file: Sequence[int]) -> dict[str, Any]:
    """Return the entries of The Well's ``<name>.yaml``, which describes a data set to its tools."""
    return {
        "dataset_name": name,
        "n_spatial_dims": grid.num_spatial_dims,
        "spatial_resolution": list(grid.num_points),
        "scalar_names": [],
        "constant_scalar_names": list(signature.coefficients),
        "field_names": {0: list(signature.outputs), 1: [], 2: []},
        "constant_field_names": {0: list(signature.inputs), 1: [], 2: []},
        "boundary_condition_types": sorted({_boundary_type(p) for p in grid.periodic}),
        "n_files": len(num_samples_per_file),
        "n_trajectories_per_file": list(num_samples_per_file),
        "n_steps_per_trajectory": [_NUM_FRAMES] * len(num_samples_per_file),
        "grid_type": "cartesian",
    }
