"""What PDEBench's HDF5 files hold: which of five layouts, which arrays, which constants; many files told as one."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from scifm.data.formats.contents import WHOLE, Contents, LazyArray, Stacked, single_numbers
from scifm.data.formats.hdf5 import Hdf5Array, holds_numbers, open_hdf5
from scifm.data.formats.kinds import natural
from scifm.data.formats.members import group_by_split, join_arrays, same_lines
from scifm.data.well import OpenFiles
from scifm.errors import DataError, StoreError

__all__ = ["ARRAYS", "COORDINATES", "join_files", "layout_of", "layout_of_file"]

ARRAYS: Mapping[str, tuple[str, ...]] = {
    "incompressible": ("velocity", "particles", "force"),
    "compressible": ("density", "pressure", "Vx", "Vy", "Vz"),
    "darcy": ("nu", "tensor"),
    "scalar": ("tensor",),
    "groups": ("data",),
}
"""Arrays with axes of space, by layout; the first is there for certain."""

COORDINATES: Mapping[str, tuple[str, ...]] = {
    "x": ("x-coordinate", "x"),
    "y": ("y-coordinate", "y"),
    "z": ("z-coordinate", "z"),
    "time": ("t-coordinate", "t"),
}
"""Names that an axis' coordinates have."""

_SPACE = ("x", "y", "z")
_NO_CONSTANTS = ("latestIndex",)
_TOLD_IN_CONFIG = "NU|Du|Dv|k|D|por|rho_s|k_f|n_f|sol|gravity|dam_radius|inner_height"
_CONFIG_LINE = re.compile(rf"^\s*({_TOLD_IN_CONFIG}):\s*['\"]?([-+.\deE]+)['\"]?\s*(?:#.*)?$", re.MULTILINE)
_CONFIG_WALLS = re.compile(r"^\s*velocity_extrapolation:\s*['\"]?(\w+)", re.MULTILINE)
_WALLS_IN_NAME = ("trans", "reflect")


def layout_of(names: set[str]) -> str | None:
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


def _is_seed(file: h5py.File, name: str) -> bool:
    return name.isdecimal() and all(holds_numbers(file.get(f"{name}/{part}")) for part in ("data", "grid/t"))


def layout_of_file(file: h5py.File) -> str | None:
    """Return the layout of an open file, or None."""
    layout = layout_of({str(name) for name in file if holds_numbers(file.get(name))})
    if layout not in (None, "groups"):
        return layout
    return "groups" if any(_is_seed(file, str(name)) for name in file) else None


@dataclass(frozen=True)
class _Piece:
    """One file.

    Args:
        layout: which of the five.
        arrays: by name.
        constants: numbers of the equation by name, one a trajectory.
        axes: names of the axes of each array.
        walls: False if the file says that all axes wrap around, True if none does, None if it does not say.
    """

    layout: str
    arrays: dict[str, LazyArray]
    constants: dict[str, np.ndarray]
    axes: dict[str, tuple[str, ...]]
    walls: bool | None


def _config(node: h5py.File | h5py.Group) -> str:
    text = node.attrs.get("config", "")
    return text.decode(errors="replace") if isinstance(text, bytes) else str(text)


def _told(config: str) -> dict[str, float]:
    """Return the constants of the equation that a text of settings tells."""
    found = {}
    for name, text in _CONFIG_LINE.findall(config):
        try:
            value = float(text)
        except ValueError:  # a word such as 'e': not a number, so nothing is told
            continue
        if math.isfinite(value):
            found[name] = value
    return found


def _read_flat(file: h5py.File, path: Path, opened: OpenFiles, layout: str) -> _Piece:
    """Read a file that holds all trajectories in arrays of its root."""
    wanted = (*ARRAYS[layout], *(name for names in COORDINATES.values() for name in names))
    arrays: dict[str, LazyArray] = {
        name: Hdf5Array.of(opened, path, file[name]) for name in wanted if holds_numbers(file.get(name))
    }
    count = int(arrays[ARRAYS[layout][0]].shape[0])
    told = {name: value for name, value in single_numbers(file.attrs).items() if name not in _NO_CONSTANTS}
    told |= _told(_config(file))
    constants = {name: np.full(count, value) for name, value in told.items()}
    axes = {name: _flat_axes(layout, name, len(arrays[name].shape)) for name in ARRAYS[layout] if name in arrays}
    return _Piece(layout, arrays, constants, axes, _walls(layout, path, _config(file)))


def _flat_axes(layout: str, name: str, num_axes: int) -> tuple[str, ...]:
    """Return the axes of an array; x comes first in space. Too few or too many axes are for `propose` to refuse."""
    if layout == "darcy":
        return ("trajectory", *(("-",) if name == "tensor" and num_axes > 3 else ()), "x", "y")
    leading = ("trajectory",) if name == "force" else ("trajectory", "time")
    last = ("channel",) if layout == "incompressible" else ()
    num_space = min(max(num_axes - len(leading) - len(last), 1), len(_SPACE))
    return (*leading, *_SPACE[:num_space], *last)


def _walls(layout: str, path: Path, config: str) -> bool | None:
    if layout == "darcy":
        return True
    if layout == "incompressible":
        told = _CONFIG_WALLS.search(config)
        return None if told is None else told.group(1).upper() != "PERIODIC"
    words = re.split(r"[^A-Za-z0-9]+", path.stem)
    if layout == "compressible" and "periodic" in words:
        return False
    return True if layout == "compressible" and set(words) & set(_WALLS_IN_NAME) else None


def _read_seeds(file: h5py.File, path: Path, opened: OpenFiles) -> _Piece:
    """Read a file with one group a trajectory."""
    seeds = sorted((str(name) for name in file if _is_seed(file, str(name))), key=natural)
    data = [Hdf5Array.of(opened, path, file[f"{seed}/data"]) for seed in seeds]
    times = [Hdf5Array.of(opened, path, file[f"{seed}/grid/t"]) for seed in seeds]
    for own in (data, times):
        odd = next((array for array in own if array.shape != own[0].shape), None)
        if odd is not None:
            raise DataError(
                f"In '{path}' the array '{odd.name}' has shape {odd.shape} and '{own[0].name}' {own[0].shape}; all "
                "trajectories need the same shape. Put those of one shape into a file of their own."
            )
    first = file[f"{seeds[0]}/grid"]
    arrays: dict[str, LazyArray] = {"data": Stacked(data), "t": Stacked(times)}
    arrays |= {axis: Hdf5Array.of(opened, path, first[axis]) for axis in _SPACE if holds_numbers(first.get(axis))}
    told = [_told(_config(file[seed])) for seed in seeds]
    names = [name for name in told[0] if all(name in own for own in told)]
    constants = {name: np.array([own[name] for own in told]) for name in names}
    return _Piece("groups", arrays, constants, {"data": _seed_axes(arrays, told[0])}, walls=True)


def _seed_axes(arrays: Mapping[str, LazyArray], told: Mapping[str, float]) -> tuple[str, ...]:
    """Return the axes of ``data``. The diffusion–reaction generator stores y before x, the others x before y."""
    shape = arrays["data"].shape
    num_space = min(max(len(shape) - 3, 1), len(_SPACE))
    space = _SPACE[:num_space]
    if num_space == 2 and "x" in arrays and "y" in arrays:
        num_x, num_y = arrays["x"].shape[0], arrays["y"].shape[0]
        y_first = "Du" in told if num_x == num_y else shape[2:4] == (num_y, num_x)
        space = space[::-1] if y_first else space
    return ("trajectory", "time", *space, "channel")


def join_files(path: Path, files: tuple[Path, ...]) -> Contents:
    """Return the arrays of one or many files of one layout.

    Constants that are alike everywhere become attributes, others arrays with one number a trajectory.

    Raises:
        StoreError: if a file is damaged or of no layout.
        DataError: if the files do not belong together.
    """
    opened = OpenFiles(open_hdf5)
    pieces = {file: _read_file(file, opened) for file in files}
    first = pieces[files[0]]
    _refuse_strangers(files, pieces)
    groups = group_by_split(path, files)
    if set(groups) == {"train"}:  # the published files are all called so
        groups = {WHOLE: groups["train"]}
    names = [name for name in first.constants if all(name in piece.constants for piece in pieces.values())]
    values = {name: np.concatenate([piece.constants[name] for piece in pieces.values()]) for name in names}
    alike = {name for name, all_values in values.items() if len(all_values) and (all_values == all_values[0]).all()}
    parts = {part: _joined(own, [pieces[file] for file in own], set(names) - alike) for part, own in groups.items()}
    told = {piece.walls for piece in pieces.values()}
    space = [axis for axis in _SPACE if axis in next(iter(first.axes.values()))]
    return Contents(
        path=path,
        files=files,
        parts=parts,
        attributes={name: float(values[name][0]) for name in names if name in alike},
        axes=first.axes,
        coordinates=_told_coordinates(first),
        periodic=dict.fromkeys(space, not first.walls) if len(told) == 1 and first.walls is not None else {},
        close=opened.close,
    )


def _read_file(path: Path, opened: OpenFiles) -> _Piece:
    with open_hdf5(path) as file:
        layout = layout_of_file(file)
        if layout is None:
            held = ", ".join(sorted(map(str, file))[:8]) or "nothing"
            raise StoreError(
                f"'{path}' has none of PDEBench's five layouts; it holds {held}. "
                "Leave out format to have it looked up, or look with 'scifm inspect'."
            )
        return _read_seeds(file, path, opened) if layout == "groups" else _read_flat(file, path, opened, layout)


def _refuse_strangers(files: Sequence[Path], pieces: Mapping[Path, _Piece]) -> None:
    """Raise DataError unless all files have one layout, one set of arrays and the same coordinates."""
    first = pieces[files[0]]
    for file in files[1:]:
        own = pieces[file]
        if (own.layout, set(own.arrays), own.axes) != (first.layout, set(first.arrays), first.axes):
            raise DataError(
                f"'{files[0]}' is of layout {first.layout} with {', '.join(sorted(first.arrays))} and '{file}' of "
                f"{own.layout} with {', '.join(sorted(own.arrays))}. Import each kind from a folder of its own."
            )
        for name in _coordinates_in(first):
            if not same_lines(first.arrays[name], own.arrays[name]):
                raise DataError(
                    f"'{name}' differs between '{files[0]}' and '{file}'. Only files with the same points and times "
                    "belong together."
                )


def _coordinates_in(piece: _Piece) -> list[str]:
    """Return the coordinates that are told once a file; times told by trajectory are compared when they are used."""
    names = [name for names in COORDINATES.values() for name in names]
    return [name for name in names if name in piece.arrays and len(piece.arrays[name].shape) == 1]


def _told_coordinates(piece: _Piece) -> dict[str, str]:
    """Return the coordinates by axis; times told by trajectory have two axes and are not among them."""
    once = _coordinates_in(piece)
    found = {axis: [name for name in names if name in once] for axis, names in COORDINATES.items()}
    return {axis: names[0] for axis, names in found.items() if names}


def _joined(files: Sequence[Path], pieces: Sequence[_Piece], varying: set[str]) -> dict[str, LazyArray]:
    once = set(_coordinates_in(pieces[0]))
    own = [{name: array for name, array in piece.arrays.items() if name not in once} for piece in pieces]
    arrays = join_arrays(files, own, along_first=frozenset(own[0]))
    arrays |= {name: pieces[0].arrays[name] for name in sorted(once)}
    constants = {name: np.concatenate([piece.constants[name] for piece in pieces]) for name in sorted(varying)}
    return {**arrays, **constants}
