"""The rules of The Well's schema that its own format check asks for, in our words.

That check (``scripts/check_thewell_formatting.py`` in its repository) is not part of the installed package.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

__all__ = ["broken_rules"]


def _is_flag(node: Any, name: str) -> bool:
    return isinstance(node.attrs.get(name), bool | np.bool_)


def _names(node: Any, name: str) -> list[str] | None:
    value = node.attrs.get(name)
    if not isinstance(value, np.ndarray | list) or not all(isinstance(entry, str) for entry in value):
        return None
    return list(value)


class _Rules:
    def __init__(self, file: h5py.File) -> None:
        self.file, self.broken = file, []

    def ask(self, holds: Any, rule: str) -> bool:
        if not holds:
            self.broken.append(rule)
        return bool(holds)

    def flags(self, node: Any) -> None:
        for name in ("sample_varying", "time_varying"):
            self.ask(_is_flag(node, name), f"{node.name}: {name} is a boolean attribute")

    def check(self) -> list[str]:
        attrs = self.file.attrs
        for name, kind in {"dataset_name": str, "grid_type": str, "n_trajectories": np.integer | int}.items():
            self.ask(isinstance(attrs.get(name), kind), f"/: {name} is a {kind}")
        for name in attrs.get("simulation_parameters", ["missing"]):
            self.ask(name in attrs, f"/: parameter {name} is an attribute")
        groups = {"dimensions", "scalars", "boundary_conditions", "t0_fields", "t1_fields", "t2_fields"}
        if not self.ask(groups <= set(self.file), f"/: holds {groups}"):
            return self.broken
        dims = self.file["dimensions"]
        self.dims = _names(dims, "spatial_dims") or []
        self.ask(len(self.dims) == attrs.get("n_spatial_dims") > 0, "dimensions: spatial_dims are n_spatial_dims names")
        if self.ask({"time", *self.dims} <= set(dims), "dimensions: time and every spatial dim are there"):
            for name in ("time", *self.dims):
                self.flags(dims[name])
            self.ask(dims["time"].attrs.get("time_varying"), "dimensions/time: varies in time")
            for order in range(3):
                self.fields(order)
            self.scalars()
            self.boundaries()
        return self.broken

    def fields(self, order: int) -> None:
        group, dims = self.file[f"t{order}_fields"], self.file["dimensions"]
        self.ask(_names(group, "field_names") is not None, f"{group.name}: field_names is a list of names")
        for name in group.attrs["field_names"]:
            if not self.ask(name in group, f"{group.name}: holds {name}"):
                continue
            data = group[name]
            self.flags(data)
            varying = data.attrs.get("dim_varying")
            self.ask(len(varying) == len(self.dims) and varying.dtype == bool, f"{data.name}: dim_varying is booleans")
            shape = [self.file.attrs["n_trajectories"]] * bool(data.attrs["sample_varying"])
            shape += [dims["time"].shape[-1]] * bool(data.attrs["time_varying"])
            shape += [dims[dim].shape[-1] for dim, varies in zip(self.dims, varying, strict=True) if varies]
            self.ask(data.shape == (*shape, *[len(self.dims)] * order), f"{data.name}: shape {shape}, got {data.shape}")

    def scalars(self) -> None:
        group = self.file["scalars"]
        self.ask(_names(group, "field_names") is not None, "scalars: field_names is a list of names")
        for name in group.attrs["field_names"]:
            if self.ask(name in group, f"scalars: holds {name}"):
                self.flags(group[name])
                count = int(group[name].attrs["sample_varying"]) + int(group[name].attrs["time_varying"])
                self.ask(group[name].ndim == count, f"scalars/{name}: {count} axes")

    def boundaries(self) -> None:
        for node in self.file["boundary_conditions"].values():
            self.flags(node)
            self.ask(node.attrs.get("bc_type") in ("PERIODIC", "WALL", "OPEN"), f"{node.name}: bc_type is known")
            self.ask("associated_fields" in node.attrs, f"{node.name}: names its fields")
            dims = _names(node, "associated_dims")
            if self.ask(dims and set(dims) <= set(self.dims), f"{node.name}: names its dims"):
                lengths = [self.file["dimensions"][dim].shape[-1] for dim in dims]
                self.ask("mask" in node and list(node["mask"].shape) == lengths, f"{node.name}: mask of {lengths}")


def broken_rules(path: Path) -> list[str]:
    """Return every rule that a file breaks."""
    with h5py.File(path, "r") as file:
        return _Rules(file).check()
