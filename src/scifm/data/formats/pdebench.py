"""PDEBench's HDF5 files, all five layouts.

Layouts (N trajectories, T frames; x comes first among the axes of space and is brought to the end by the reader)
    scalar           ``tensor`` (N, T, X), ``x-coordinate``, ``t-coordinate``; more axes of space likewise
    Darcy            ``nu`` (N, X, Y) given, ``tensor`` (N, 1, X, Y) asked for: steady
    compressible     ``density``, ``pressure``, ``Vx``, ``Vy``, ``Vz`` (N, T, X[, Y[, Z]])
    groups by seed   ``0000/data`` (T, X[, Y], C), ``0000/grid/{x,y,t}``; diffusion–reaction, whose settings tell
                     ``Du``, is stored (T, Y, X, C) by its generator; lengths of the coordinates decide where they can
    incompressible   ``velocity`` (N, T, X, Y, 2), ``particles`` (N, T, X, Y, 1), ``force`` (N, X, Y, 2), ``t`` (N, T)

Many files in one folder are joined, if they have one layout and the same coordinates. Files with the words train,
valid, test in their names become those splits; where all are called train (the published ones are), or none says
anything, trajectories are dealt out by the seed of the mapping. That is neither of PDEBench's two own splits (its
loaders take the first or the last tenth for testing).

Names. Scalars and single channels are called ``solution``, further channels ``channel_0``, ``channel_1``, …,
Darcy's ``nu`` ``diffusivity``. Attributes that are finite numbers (beta, Nu, rho, eta, zeta, M) and constants of the
equation in a ``config`` (Du, dam_radius, …) become coefficients of that name; ones that differ between files or groups
are told by trajectory.

The box. Its length follows from the coordinates. With walls, points are mostly centres of cells: then the walls lie
half a cell beyond the first and the last point, and the extent here runs from point to point. Incompressible files
tell no coordinates; in their solver a cell has length 1, whatever ``domain_size`` in their settings says. Whether axes
wrap around is taken from the layout, the settings or the published file name (``periodic``, ``trans``), and otherwise
guessed from samples; the card quotes the guess. ``t-coordinate`` often tells one time more than there are frames; the
last is left out.

References:
    Takamoto et al., "PDEBench: An Extensive Benchmark for Scientific Machine Learning", NeurIPS 2022,
    arXiv:2210.07182; code pdebench/PDEBench.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from scifm.data.formats.axes import are_even, axis_length
from scifm.data.formats.format import (
    Concatenated,
    Contents,
    Format,
    LazyArray,
    Repeated,
    opening,
    read_whole,
    single_numbers,
)
from scifm.data.formats.guess import Guess
from scifm.data.formats.hdf5 import Hdf5Array, holds_numbers, open_hdf5, sniff_hdf5
from scifm.data.formats.joining import join_pieces
from scifm.data.formats.kinds import WHOLE, data_sets_under, natural, required
from scifm.data.formats.mapping import DataMapping
from scifm.data.formats.pieces import Piece
from scifm.data.formats.proposal import Proposal
from scifm.data.well import OpenFiles
from scifm.errors import ConfigError, DataError, StoreError
from scifm.fields.grid import Boundary

__all__ = ["PDEBenchFormat"]

_ARRAYS: Mapping[str, tuple[str, ...]] = {  # with axes of space, by layout; the first is there for certain
    "incompressible": ("velocity", "particles", "force"),
    "compressible": ("density", "pressure", "Vx", "Vy", "Vz"),
    "darcy": ("nu", "tensor"),
    "scalar": ("tensor",),
    "groups": ("data",),
}
_COORDINATES: Mapping[str, tuple[str, ...]] = {
    "x": ("x-coordinate", "x"),
    "y": ("y-coordinate", "y"),
    "z": ("z-coordinate", "z"),
    "time": ("t-coordinate", "t"),
}
_LINES = tuple(name for names in _COORDINATES.values() for name in names)
_SPACE = ("x", "y", "z")
_NO_CONSTANTS = ("latestIndex",)
_TOLD_IN_CONFIG = "NU|Du|Dv|k|D|por|rho_s|k_f|n_f|sol|gravity|dam_radius|inner_height"
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_CONFIG_LINE = re.compile(rf"^\s*({_TOLD_IN_CONFIG}):\s*['\"]?({_NUMBER})['\"]?\s*(?:#.*)?$", re.MULTILINE)
_CONFIG_ENDS = re.compile(r"^\s*velocity_extrapolation:\s*['\"]?(\w+)", re.MULTILINE)
_ENDS_IN_CONFIG: dict[str, Boundary] = {"PERIODIC": "periodic", "ZERO": "wall", "BOUNDARY": "open"}  # of the velocity
_ENDS_IN_NAME: dict[str, Boundary] = {"periodic": "periodic", "trans": "open", "reflect": "wall"}
_NAMES = {"Vx": "velocity_x", "Vy": "velocity_y", "Vz": "velocity_z", "nu": "diffusivity", "tensor": "solution"}
_VECTORS = ("velocity", "force")


class PDEBenchFormat(Format):
    """HDF5 files as PDEBench publishes them."""

    name = "pdebench"
    title = "PDEBench HDF5"

    def sniff(self, path: Path) -> str | None:
        layouts = sniff_hdf5(data_sets_under(path, ("hdf5",)), _layout_of_file)
        return f"its layout {', '.join(sorted(layouts))}" if layouts else None

    def read(self, path: Path) -> Contents:
        files, pool = required(path, ("hdf5",), "HDF5"), OpenFiles(open_hdf5)
        with opening(path, self.title):
            pieces = [_piece(file, pool) for file in files]
            first = pieces[0]
            for piece in pieces:
                if (piece.arrays.keys(), piece.axes) != (first.arrays.keys(), first.axes):
                    raise DataError(
                        f"'{first.place}' holds {', '.join(sorted(first.arrays))} and '{piece.place}' "
                        f"{', '.join(sorted(piece.arrays))}, or with other axes. Import each kind from a folder of its "
                        "own."
                    )
            contents = join_pieces(path, files, pieces, close=pool.close)
        if any(piece.boundary != first.boundary for piece in pieces):
            contents = replace(contents, boundary={})
        if set(contents.parts) == {"train"}:  # the published files are all called so
            contents = replace(contents, parts={WHOLE: contents.arrays})
        return contents

    def propose(self, contents: Contents) -> DataMapping:
        return _Proposal(contents).complete()


# --- what a file holds ------------------------------------------------------------------------------------------------


def _layout_of(names: set[str]) -> str | None:
    """Return the layout whose arrays are among `names`, or None; groups by seed are told by ``data`` and ``t``."""
    if {"velocity", "particles", "t"} <= names:
        return "incompressible"
    if {"density", "pressure", "Vx"} <= names:
        return "compressible"
    if {"tensor", "nu"} <= names:
        return "darcy"
    if {"tensor", "x-coordinate"} <= names:
        return "scalar"
    return "groups" if {"data", "t"} <= names else None


def _layout_of_file(file: h5py.File) -> str | None:
    layout = _layout_of({str(name) for name in file if holds_numbers(file.get(name))})
    if layout not in (None, "groups"):
        return layout
    return "groups" if any(_is_seed(file, str(name)) for name in file) else None


def _is_seed(file: h5py.File, name: str) -> bool:
    return name.isdecimal() and all(holds_numbers(file.get(f"{name}/{part}")) for part in ("data", "grid/t"))


def _piece(path: Path, pool: OpenFiles) -> Piece:
    """Return what one file holds, constants of the equation as numbers; StoreError if it is of no layout."""
    with open_hdf5(path) as file:
        layout = _layout_of_file(file)
        if layout is None:
            held = ", ".join(sorted(map(str, file))[:8]) or "nothing"
            raise StoreError(
                f"'{path}' has none of PDEBench's five layouts; it holds {held}. "
                "Leave out format to have it looked up, or look with 'scifm inspect'."
            )
        piece = _seeds(file, path, pool) if layout == "groups" else _flat(file, path, pool, layout)
    for axis, names in _COORDINATES.items():
        lines = [name for name in names if name in piece.arrays and len(piece.arrays[name].shape) == 1]
        piece.coordinates.update({axis: lines[0]} if lines else {})
        if axis == "time":  # told by trajectory: compared when they are used
            piece.axes.update({n: ("trajectory", axis) for n in names if n in piece.arrays and n not in lines})
    return piece


def _flat(file: h5py.File, path: Path, pool: OpenFiles, layout: str) -> Piece:
    """Return what a file holds with all trajectories in arrays of its root."""
    arrays: dict[str, LazyArray] = {
        name: Hdf5Array.of(pool, path, file[name])
        for name in (*_ARRAYS[layout], *_LINES)
        if holds_numbers(file.get(name))
    }
    config = _config(file)
    numbers = {name: value for name, value in single_numbers(file.attrs).items() if name not in _NO_CONSTANTS}
    axes = {name: _flat_axes(layout, name, len(arrays[name].shape)) for name in _ARRAYS[layout] if name in arrays}
    ends = _ends(layout, path, config)
    space = [axis for axis in _SPACE if axis in next(iter(axes.values()))]
    boundary = {} if ends is None else dict.fromkeys(space, ends)
    return Piece(path, arrays, axes, boundary=boundary, numbers=numbers | _constants(config))


def _flat_axes(layout: str, name: str, num_axes: int) -> tuple[str, ...]:
    """Return the axes of an array; x comes first in space. Too few or too many axes are for `propose` to refuse."""
    if layout == "darcy":
        return ("trajectory", *(("-",) if name == "tensor" and num_axes > 3 else ()), "x", "y")
    leading = ("trajectory",) if name == "force" else ("trajectory", "time")
    last = ("channel",) if layout == "incompressible" else ()
    num_space = min(max(num_axes - len(leading) - len(last), 1), len(_SPACE))
    return (*leading, *_SPACE[:num_space], *last)


def _ends(layout: str, path: Path, config: str) -> Boundary | None:
    """Return what the file says of the ends of all axes, None if it does not say."""
    if layout == "darcy":
        return "bounded"
    if layout == "incompressible":
        setting = _CONFIG_ENDS.search(config)
        return None if setting is None else _ENDS_IN_CONFIG.get(setting.group(1).upper(), "bounded")
    words = set(re.split(r"[^A-Za-z0-9]+", path.stem)) if layout == "compressible" else set()
    return next((ends for word, ends in _ENDS_IN_NAME.items() if word in words), None)


def _seeds(file: h5py.File, path: Path, pool: OpenFiles) -> Piece:
    """Return what a file holds with one group a trajectory."""
    seeds = sorted((str(name) for name in file if _is_seed(file, str(name))), key=natural)
    arrays: dict[str, LazyArray] = {}
    for name, inner in (("data", "data"), ("t", "grid/t")):
        own = [Hdf5Array.of(pool, path, file[f"{seed}/{inner}"]) for seed in seeds]
        odd = next((array for array in own if array.shape != own[0].shape), None)
        if odd is not None:
            raise DataError(
                f"In '{path}' the array '{odd.name}' has shape {odd.shape} and '{own[0].name}' {own[0].shape}; all "
                "trajectories need the same shape. Put those of one shape into a file of their own."
            )
        arrays[name] = Concatenated([Repeated(array, 0, 1) for array in own])
    first = file[f"{seeds[0]}/grid"]
    arrays |= {axis: Hdf5Array.of(pool, path, first[axis]) for axis in _SPACE if holds_numbers(first.get(axis))}
    constants = [_constants(_config(file[seed])) for seed in seeds]
    axes = {"data": _seed_axes(arrays, constants[0])}
    piece = Piece(path, arrays, axes, boundary={axis: "bounded" for axis in axes["data"] if axis in _SPACE})
    for name in constants[0]:
        if all(name in own for own in constants):
            values = np.array([own[name] for own in constants])
            if (values == values[0]).all():
                piece.numbers[name] = float(values[0])
            else:
                piece.arrays[name], piece.axes[name] = values, ("trajectory",)
    return piece


def _seed_axes(arrays: Mapping[str, LazyArray], constants: Mapping[str, float]) -> tuple[str, ...]:
    """Return the axes of ``data``. The diffusion–reaction generator stores y before x, the others x before y."""
    shape = arrays["data"].shape
    num_space = min(max(len(shape) - 3, 1), len(_SPACE))
    space = _SPACE[:num_space]
    if num_space == 2 and "x" in arrays and "y" in arrays:
        num_x, num_y = arrays["x"].shape[0], arrays["y"].shape[0]
        y_first = "Du" in constants if num_x == num_y else shape[2:4] == (num_y, num_x)
        space = space[::-1] if y_first else space
    return ("trajectory", "time", *space, "channel")


def _config(node: h5py.File | h5py.Group) -> str:
    text = node.attrs.get("config", "")
    return text.decode(errors="replace") if isinstance(text, bytes) else str(text)


def _constants(config: str) -> dict[str, float]:
    """Return the constants of the equation that a text of settings tells."""
    numbers = {name: float(text) for name, text in _CONFIG_LINE.findall(config)}
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


# --- what is proposed -------------------------------------------------------------------------------------------------


class _Proposal(Proposal):
    """A proposal that knows PDEBench's names, roles, cells and constants."""

    def __init__(self, contents: Contents) -> None:
        self.layout = str(_layout_of(set(contents.arrays)))
        self._check_axes(contents)
        super().__init__(contents, PDEBenchFormat.name)
        needed = [f"V{axis}" for axis in _SPACE if self.layout == "compressible" and axis in self.axes["density"]]
        missing = [name for name in needed if name not in self.arrays]
        if missing:
            self.missing.append(f"A compressible flow lacks {', '.join(missing)}: map the arrays that are to be used.")

    def _check_axes(self, contents: Contents) -> None:
        for name, axes in contents.axes.items():
            shape = tuple(contents.arrays[name].shape)
            if len(shape) != len(axes):
                raise ConfigError(
                    f"'{name}' of '{contents.path}' has shape {shape}, and {len(axes)} axes are usual: "
                    f"({', '.join(axes)}). Give a mapping that names its axes, in array order."
                )
            for axis, length in zip(axes, shape, strict=True):
                if not length:
                    raise DataError(f"'{name}' of '{contents.path}' is empty: its shape is {shape}.")
                line = _line_of(axis, contents)
                known = contents.arrays[line].shape[-1] if line is not None else length
                if known not in (length, length + 1):
                    raise ConfigError(
                        f"'{name}' of '{contents.path}' has shape {shape}, usually ({', '.join(axes)}), but '{line}' "
                        f"has {known} entries and the {axis} axis {length}. If its axes are in another order, give a "
                        "mapping that names them."
                    )

    def _names(self, array: str) -> list[tuple[str, dict[str, int]]]:
        axes = self.axes[array]
        if "channel" not in axes:
            return [(_NAMES.get(array, array), {})]
        space, count = [axis for axis in axes if axis in _SPACE], self._length(array, "channel")
        if array in _VECTORS and count == len(space):
            return [(f"{array}_{axis}", {"channel": channel}) for channel, axis in enumerate(space)]
        single, stem = ("solution", "channel") if array == "data" else (array, array)
        several = [(f"{stem}_{channel}", {"channel": channel}) for channel in range(count)]
        return [(single, {"channel": 0})] if count == 1 else several

    def _ask_roles(self, fields: dict[str, dict[str, Any]]) -> None:
        if self.layout == "darcy":  # the only steady one
            fields[_NAMES["nu"]]["role"] = "input"
        else:
            super()._ask_roles(fields)

    def _time(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        name = _line_of("time", self.contents)
        if self.layout == "darcy":
            return {}
        if name is None:
            self.missing.append(
                "It tells no times, without a 't-coordinate': write time = { start = …, interval = … }."
            )
        return {"time": name}

    def _precision(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        return {}  # float32, as it is published

    def _coefficients(self) -> dict[str, Any]:
        return {name: name for name in self.contents.attributes} | super()._coefficients()

    def _extent(self, axis: str, guess: Guess) -> float:
        main = _ARRAYS[self.layout][0]
        num_points, wraps = self._length(main, axis), guess.periodic and not guess.repeated_end
        if axis not in self.contents.boundary:
            self._defects.append(f"Whether {axis} wraps around is a guess from samples: {guess.reason}.")
        name = _line_of(axis, self.contents)
        if name is None and self.layout == "incompressible":
            self._defects.append(f"The length of {axis} is not in the file; a cell of its solver has length 1.")
            self._tell_centers(axis, not guess.periodic)
            return float(num_points if wraps else max(num_points - 1, 1))
        if name is None:
            self.missing.append(
                f"It does not tell the length of {axis} by a '{_COORDINATES[axis][0]}': write it under extent."
            )
            return 1.0
        points, precision = read_whole(self.arrays[name]), self.arrays[name].dtype
        if not are_even(points, precision) or points[-1] < points[0]:
            self.missing.append(
                f"The points of '{name}' are not equally spaced and increasing, and grids here are: resample the data, "
                "or give a mapping to take the points as equally spaced."
            )
            return 1.0
        spacing = float(points[-1] - points[0]) / (len(points) - 1)
        off_node = abs((points[0] / spacing) % 1 - 0.5) < 0.05
        self._tell_centers(axis, not guess.periodic and (off_node or len(points) > num_points))
        return axis_length(points, num_points, precision, wraps=wraps)

    def _tell_centers(self, axis: str, are_centers: bool) -> None:
        if are_centers:
            self._defects.append(
                f"Points along {axis} are centers of cells: the walls lie half a cell beyond the first and the last "
                "point, and the extent runs from point to point."
            )


def _line_of(axis: str, contents: Contents) -> str | None:
    return next((name for name in _COORDINATES.get(axis, ()) if name in contents.arrays), None)
