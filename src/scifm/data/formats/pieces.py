"""`Piece`: what one file, or one group in a file, holds, before those that belong together are joined."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from scifm.data.formats.axes import same_points
from scifm.data.formats.format import MOST_NUMBERS, Concatenated, LazyArray, OneEntry, Repeated, read_whole, reading
from scifm.data.formats.kinds import natural, split_words
from scifm.data.formats.mapping import AXES, SPACE
from scifm.data.labels import Dates
from scifm.errors import DataError
from scifm.fields.axis_names import axis_of_name
from scifm.fields.grid import Boundary

__all__ = ["Piece", "by_group", "join_arrays", "lines_of_meshes", "require_same", "same_lines", "shared_out"]

Value = TypeVar("Value")
Arrays = dict[str, LazyArray]

_SAMPLE = "data"  # what the array is called of a sample that is an array and no group
_SAME = 1e-6  # of the range: entries of a mesh that are one


@dataclass(frozen=True)
class Piece:
    """What one file or group holds.

    Args:
        place: the file, and the group in it; for messages and for order.
        arrays: by name; what lies in groups as ``group/name``.
        axes: names of an array's axes where the file tells them.
        coordinates: name of the array that holds the points along an axis.
        boundary: what stands at the ends of an axis, where the file tells it.
        numbers: single numbers by name.
        meshes: names of the axes of an array of this shape, where coordinates of every grid point tell it.
        origins: what has to be added to an array of times to compare it with those of other pieces.
        units: of an array or a number, by name, where the file tells it.
        texts: what attributes of an array say in words, by name; those of the file under an empty one.
        dates: how the file tells times that are given in seconds here, by name of their array.
        remarks: what a user should know.
    """

    place: Path
    arrays: dict[str, LazyArray] = field(default_factory=dict)
    axes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    coordinates: dict[str, str] = field(default_factory=dict)
    boundary: dict[str, Boundary] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)
    meshes: dict[tuple[int, ...], tuple[str, ...]] = field(default_factory=dict)
    origins: dict[str, float] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    texts: dict[str, dict[str, str]] = field(default_factory=dict)
    dates: dict[str, Dates] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @property
    def content(self) -> frozenset[str]:
        """Names of the arrays that are no coordinates."""
        return frozenset(self.arrays) - frozenset(self.coordinates.values())

    @property
    def times(self) -> np.ndarray:
        """Times of its frames, comparable with those of other pieces, where the coordinates name some."""
        name = self.coordinates["time"]
        with reading(self.place, name):
            return read_whole(self.arrays[name]) + self.origin

    @property
    def origin(self) -> float:
        """What has to be added to the times of its frames to compare them with those of other pieces."""
        return self.origins.get(self.coordinates.get("time", ""), 0.0)

    def chosen(self, names: Mapping[str, str]) -> Piece:
        """Return the piece with some of its arrays and numbers alone, under the names that are given for theirs."""

        def take(entries: Mapping[str, Value]) -> dict[str, Value]:
            return {new: entries[old] for old, new in names.items() if old in entries}

        return replace(
            self,
            arrays=take(self.arrays),
            axes=take(self.axes),
            coordinates={axis: names[name] for axis, name in self.coordinates.items() if name in names},
            numbers=take(self.numbers),
            origins=take(self.origins),
            units=take(self.units),
            texts={name: own for name, own in self.texts.items() if not name} | take(self.texts),
            dates=take(self.dates),
        )

    def __or__(self, other: Piece) -> Piece:
        """Return what both hold; where both say something, what this one says."""
        pairs = {own.name: (getattr(self, own.name), getattr(other, own.name)) for own in fields(self)}
        both: dict[str, Any] = {
            name: {**ours, **theirs, **ours} for name, (ours, theirs) in pairs.items() if isinstance(ours, dict)
        }
        return replace(self, **both, remarks=list(dict.fromkeys((*self.remarks, *other.remarks))))

    def with_lines_of_meshes(self) -> Piece:
        """Return the piece with lines in place of ``X, Y = meshgrid(x, y)``, if the grid is rectangular.

        They then also tell the order of the axes of arrays of their shape.

        Raises:
            StoreError: if such a coordinate cannot be read.
        """
        lines = lines_of_meshes(self)
        if not lines:
            return self
        rest = self.chosen({name: name for name in (*self.arrays, *self.numbers) if name not in lines})
        along: dict[tuple[int, ...], dict[int, str]] = {}
        for name, (axis, place, line) in lines.items():
            along.setdefault(tuple(self.arrays[name].shape), {})[place] = axis
            if axis not in rest.coordinates:
                rest.arrays[name], rest.coordinates[axis] = line, name
        whole = {shape: tuple(own[i] for i in sorted(own)) for shape, own in along.items() if len(own) == len(shape)}
        meshes = {shape: names for shape, names in whole.items() if len(set(names)) == len(names)}
        remark = f"{', '.join(lines)} tell every grid point of a rectangular grid; its lines are used."
        return replace(rest, meshes={**self.meshes, **meshes}, remarks=[*self.remarks, remark])

    def with_axes_of_meshes(self) -> Piece:
        """Return the piece with the axes told that coordinates of every grid point tell."""
        axes = dict(self.axes)
        for name in sorted(self.content):
            known = axes.get(name, ())
            meant = _axes_by_mesh(self, tuple(self.arrays[name].shape)) if set(known) - set(AXES) or not known else None
            if meant is not None and all(
                own in (axis, "") or own not in AXES for own, axis in zip(known, meant, strict=False)
            ):
                axes[name] = meant
        return replace(self, axes=axes)


# --- coordinates of every grid point ----------------------------------------------------------------------------------


def lines_of_meshes(piece: Piece) -> dict[str, tuple[str, int, np.ndarray]]:
    """Return axis of space or time, axis of the array, and line, by name of the mesh."""
    lines = {}
    for name, array in piece.arrays.items():
        axis = axis_of_name(name) if "trajectory" not in piece.axes.get(name, ()) else None
        if axis not in (*SPACE, "time") or not 2 <= len(array.shape) <= 4 or math.prod(array.shape) > MOST_NUMBERS:
            continue
        with reading(piece.place, name):
            line = _line(read_whole(array))
        if line is not None:
            lines[name] = (axis, *line)
    return lines


def _line(values: np.ndarray) -> tuple[int, np.ndarray] | None:
    """Return along which axis a mesh runs, and its line; None unless it runs along one, upward or downward."""
    spread = float(np.ptp(values)) if values.size and np.isfinite(values).all() else 0.0
    longer = [axis for axis, length in enumerate(values.shape) if length > 1]
    varies = [axis for axis in longer if float(np.ptp(values, axis=axis).max()) > _SAME * spread]
    if not spread or len(varies) != 1:
        return None
    line = np.moveaxis(values, varies[0], 0).reshape(values.shape[varies[0]], -1)[:, 0]
    steps = np.diff(line)
    return (varies[0], line) if (steps > 0).all() or (steps < 0).all() else None


def _axes_by_mesh(piece: Piece, shape: tuple[int, ...]) -> tuple[str, ...] | None:
    """Return the axes of an array in which the shape of a mesh lies; the others follow from lengths of coordinates."""
    for mesh, names in piece.meshes.items():
        places = [i for i in range(len(shape) - len(mesh) + 1) if shape[i : i + len(mesh)] == mesh]
        if len(places) != 1:
            continue
        before, after = shape[: places[0]], shape[places[0] + len(mesh) :]
        lengths = {axis: piece.arrays[own].shape[0] for axis, own in piece.coordinates.items() if axis not in names}
        around = [[axis for axis, length in lengths.items() if length == n] for n in (*before, *after)]
        rest = [own[0] if len(own) == 1 else "" if own else "trajectory" for own in around]
        if "" not in rest and len(set(rest)) == len(rest):
            return (*rest[: len(before)], *names, *rest[len(before) :])
    return None


# --- simulations in one file ------------------------------------------------------------------------------------------


def _groups(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the names in each group at the top by their full ones; an array called by a number is a group of one."""
    groups: dict[str, dict[str, str]] = {}
    for name in names:
        group, _, rest = name.partition("/")
        if rest or group.isdecimal():
            groups.setdefault(group, {})[name] = rest or _SAMPLE
    return groups


def _simulations(groups: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return the groups that hold the same arrays and differ in a number, or are called as splits are."""
    clusters: dict[str, list[str]] = {}
    held: dict[str, set[str]] = {}
    for name, inside in groups.items():
        splits, names = split_words(name)[0], set(inside.values())
        if splits or re.search(r"\d", name):
            clusters.setdefault("split" if splits else _template(name), []).append(name)
            held[name] = set(map(_template, names)) if splits else names  # splits hold other simulations each
    alike = [names for names in clusters.values() if len(names) > 1 and set.intersection(*(held[n] for n in names))]
    return sorted(alike[0], key=natural) if len(alike) == 1 else []


def _template(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def by_group(piece: Piece) -> list[Piece]:
    """Return one piece for each simulation where the groups of a file are such, else the piece.

    Groups are simulations where they hold the same arrays and their names differ in a number only; groups called
    train, valid, test are splits, and may hold simulations themselves. What lies beside the groups belongs to all.
    """
    groups = _groups(piece.arrays)
    chosen = _simulations(groups)
    if not chosen and len(groups) == 1 and _simulations(_groups(next(iter(groups.values())).values())):
        chosen = list(groups)  # all simulations lie in it
    if not chosen:
        return [piece]
    names, taken = (*piece.arrays, *piece.numbers), set(chosen)
    inside, beside = _groups(names), piece.chosen({n: n for n in names if n.partition("/")[0] not in taken})
    shares = shared_out(beside, len(chosen)) if len(chosen) > 1 else [beside]
    local = {axis: name.partition("/")[2] for axis, name in piece.coordinates.items()}
    pieces = []
    for name, share in zip(chosen, shares, strict=True):
        own = piece.chosen(inside[name]) | share
        lines = {axis: line for axis, line in local.items() if line in own.arrays}
        pieces += by_group(replace(own, place=piece.place / name, coordinates={**own.coordinates, **lines}))
    return pieces


def shared_out(piece: Piece, count: int) -> list[Piece]:
    """Return what each of `count` trajectories gets of arrays told for all: its row of a table, else the whole."""
    lines = set(piece.coordinates.values())
    tables = {
        name
        for name, array in piece.arrays.items()
        if array.shape[:1] == (count,)
        and piece.axes.get(name, ("trajectory",))[:1] == ("trajectory",)
        and name not in lines
    }
    axes = {name: own[1:] if name in tables else own for name, own in piece.axes.items()}

    def row_of(place: int) -> dict[str, LazyArray]:
        return {n: OneEntry(a, 0, place) if n in tables else a for n, a in piece.arrays.items()}

    return [replace(piece, arrays=row_of(place), axes=axes) for place in range(count)]


# --- one array out of many --------------------------------------------------------------------------------------------


def join_arrays(pieces: Sequence[Piece], names: Iterable[str], *, along_first: Collection[str] = ()) -> Arrays:
    """Return the arrays called `names` of several pieces as one array a name, each piece a trajectory.

    Args:
        pieces: alike in what they hold.
        names: of the arrays.
        along_first: names whose first axis already counts trajectories; these are joined along it.

    Raises:
        DataError: if a name is missing in a piece, or shapes differ.
    """
    joined: Arrays = {}
    for name in names:
        counted = int(name in along_first)
        arrays = [_own(name, piece, pieces[0]) for piece in pieces]
        shape = tuple(arrays[0].shape)
        for piece, array in zip(pieces, arrays, strict=True):
            if tuple(array.shape)[counted:] != shape[counted:]:
                raise DataError(
                    f"'{name}' has shape {shape} in '{pieces[0].place}', {tuple(array.shape)} in '{piece.place}'. "
                    "Each is one trajectory, so shapes agree: cut or resample them. Pieces of one trajectory are "
                    "joined where each tells its times and these follow each other, files of many trajectories where "
                    "their axes have names."
                )
        joined[name] = Concatenated(arrays if counted else [Repeated(array, 0, 1) for array in arrays])
    return joined


def require_same(pieces: Sequence[Piece], names: Iterable[str]) -> None:
    """Raise DataError unless arrays called `names`, such as coordinates, hold the same in all pieces."""
    first = pieces[0]
    for name in names:
        for piece in pieces[1:]:
            array = _own(name, piece, first)
            if first.arrays[name] is not array and not same_lines(first.arrays[name], array):
                raise DataError(
                    f"The coordinate '{name}' differs between '{first.place}' ({math.prod(first.arrays[name].shape)} "
                    f"points) and '{piece.place}' ({math.prod(array.shape)}). All trajectories need the same grid and "
                    "the same times: cut or resample them to common ones."
                )


def _own(name: str, piece: Piece, first: Piece) -> LazyArray:
    if name not in piece.arrays:
        raise DataError(f"'{name}' is in '{first.place}' and not in '{piece.place}'. They must be alike.")
    return piece.arrays[name]


def same_lines(ours: LazyArray, theirs: LazyArray) -> bool:
    """Return whether two arrays of coordinates or times hold the same points."""
    coarser = max((ours.dtype, theirs.dtype), key=lambda own: np.finfo(own).eps if own.kind == "f" else 0.0)
    return same_points(read_whole(ours), read_whole(theirs), coarser)
