"""Files in The Well's schema as others write them: h5py alone, nothing of ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

__all__ = ["write_well_file"]


def _vary(node: h5py.Dataset | h5py.Group, sample: bool, time: bool) -> None:
    node.attrs["sample_varying"], node.attrs["time_varying"] = sample, time


def write_well_file(
    path: Path,
    *,
    dims: Mapping[str, np.ndarray],
    times: np.ndarray,
    num_trajectories: int,
    fields: Mapping[str, tuple[int, np.ndarray, str]],
    scalars: Mapping[str, tuple[Any, str]] | None = None,
    boundaries: Mapping[str, str] | None = None,
    grid_type: str = "cartesian",
    attributes: Mapping[str, Any] | None = None,
    symmetric: tuple[str, ...] = (),
) -> Path:
    """Write one file.

    Args:
        fields: by name: tensor order, numbers, and the leading axes they have, of ``s`` (sample) and ``t`` (time);
            further letters are dims that are missing.
        scalars: by name: numbers, and the same letters.
        boundaries: kind by dim.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.attrs.update({"dataset_name": "foreign", "grid_type": grid_type, "n_spatial_dims": len(dims)})
        file.attrs["n_trajectories"] = num_trajectories
        file.attrs["simulation_parameters"] = list(attributes or {})
        file.attrs.update(attributes or {})
        group = file.create_group("dimensions")
        group.attrs["spatial_dims"] = list(dims)
        for name, points in {"time": times, **dims}.items():
            _vary(group.create_dataset(name, data=points), points.ndim > 1, name == "time")
        for order in range(3):
            file.create_group(f"t{order}_fields").attrs["field_names"] = [n for n, f in fields.items() if f[0] == order]
        for name, (order, values, letters) in fields.items():
            data = file[f"t{order}_fields"].create_dataset(name, data=values)
            data.attrs["dim_varying"] = [dim not in letters[letters.count("s") + letters.count("t") :] for dim in dims]
            if order == 2:
                data.attrs["symmetric"], data.attrs["antisymmetric"] = name in symmetric, False
            _vary(data, "s" in letters, "t" in letters)
        group = file.create_group("scalars")
        group.attrs["field_names"] = list(scalars or {})
        for name, (values, letters) in (scalars or {}).items():
            _vary(group.create_dataset(name, data=values), "s" in letters, "t" in letters)
        group = file.create_group("boundary_conditions")
        for dim, kind in (boundaries or {}).items():
            boundary = group.create_group(f"{dim}_{kind.lower()}")
            boundary.attrs.update({"bc_type": kind, "associated_dims": [dim], "associated_fields": []})
            _vary(boundary, False, False)
            boundary.create_dataset("mask", data=np.ones(len(dims[dim]), bool))
    return path
