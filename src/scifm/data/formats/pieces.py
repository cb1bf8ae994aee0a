"""`Piece`: what one file, or one group in a file, holds, before those that belong together are joined."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from scifm.data.formats.contents import LazyArray, read_whole
from scifm.data.formats.kinds import natural
from scifm.data.formats.members import split_words
from scifm.data.formats.views import OneEntry

__all__ = ["Piece", "by_group", "shared_out"]

Value = TypeVar("Value")

_SAMPLE = "data"  # what the array is called of a sample that is an array and no group


@dataclass(frozen=True)
class Piece:
    """What one file or group holds.

    Args:
        place: the file, and the group in it; for messages and for order.
        arrays: by name; what lies in groups as ``group/name``.
        axes: names of an array's axes where the file tells them.
        coordinates: name of the array that holds the points along an axis.
        periodic: whether an axis wraps around, where the file tells it.
        numbers: single numbers by name.
        meshes: names of the axes of an array of this shape, where coordinates of every grid point tell it.
        remarks: what a user should know.
        origin: what has to be added to its times to compare them with those of other pieces.
    """

    place: Path
    arrays: Mapping[str, LazyArray]
    axes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    coordinates: Mapping[str, str] = field(default_factory=dict)
    periodic: Mapping[str, bool] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    meshes: Mapping[tuple[int, ...], tuple[str, ...]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    origin: float = 0.0

    @property
    def content(self) -> frozenset[str]:
        """Names of the arrays that are no coordinates."""
        return frozenset(self.arrays) - frozenset(self.coordinates.values())

    @property
    def times(self) -> np.ndarray | None:
        """Times of its frames, comparable with those of other pieces; None where there are none."""
        name = self.coordinates.get("time")
        return None if name is None else read_whole(self.arrays[name]) + self.origin

    def with_axes_of_meshes(self) -> Piece:
        """Return the piece with the axes told that coordinates of every grid point tell."""
        told = {name: _axes_by_mesh(self, tuple(self.arrays[name].shape)) for name in self.content - self.axes.keys()}
        return replace(self, axes={**self.axes, **{name: axes for name, axes in told.items() if axes is not None}})


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


def _template(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def _groups(names: Iterable[str]) -> dict[str, set[str]]:
    """Return the names in each group at the top; an array called by a number alone is a group of one."""
    found: dict[str, set[str]] = {}
    for name in names:
        group, _, rest = name.partition("/")
        if rest or group.isdecimal():
            found.setdefault(group, set()).add(rest or _SAMPLE)
    return found


def _simulations(groups: Mapping[str, set[str]]) -> list[str]:
    """Return the groups that hold the same arrays and differ in a number, or are called as splits are."""
    clusters: dict[str, list[str]] = {}
    for name in groups:
        splits = split_words(name)[0]
        if splits or re.search(r"\d", name):
            clusters.setdefault("split" if splits else _template(name), []).append(name)
    alike = [names for names in clusters.values() if len(names) > 1 and set.intersection(*(groups[n] for n in names))]
    return sorted(alike[0], key=natural) if len(alike) == 1 else []


def by_group(piece: Piece) -> list[Piece]:
    """Return one piece for each simulation where the groups of a file are such, else the piece.

    Groups are simulations where they hold the same arrays and their names differ in a number only; groups called
    train, valid, test are splits, and may hold simulations themselves. What lies beside the groups belongs to all.
    """
    groups = _groups(piece.arrays)
    chosen = _simulations(groups)
    if not chosen:
        only = next(iter(groups), None)
        nested = {name.removeprefix(f"{only}/") for name in piece.arrays}
        if len(groups) == 1 and only is not None and piece.content and _simulations(_groups(nested)):
            beside = {name: array for name, array in piece.arrays.items() if not name.startswith(f"{only}/")}
            return by_group(_inner(piece, only, beside))
        return [piece]
    inside = tuple(f"{name}/" for name in chosen)
    outside = {n: a for n, a in piece.arrays.items() if not n.startswith(inside) and n not in chosen}
    rows = shared_out(outside, piece, len(chosen))
    return [own for name, row in zip(chosen, rows, strict=True) for own in by_group(_inner(piece, name, row))]


def _inner(piece: Piece, group: str, beside: Mapping[str, LazyArray]) -> Piece:
    """Return what lies in a group, and what is given of what lies beside it."""

    def within(entries: Mapping[str, Value]) -> dict[str, Value]:
        inside = {n.removeprefix(f"{group}/"): value for n, value in entries.items() if n.startswith(f"{group}/")}
        return inside | ({_SAMPLE: entries[group]} if group in entries else {})

    def local(name: str) -> str:
        rest = name.partition("/")[2]
        return rest if rest in arrays else name

    arrays = {**beside, **within(piece.arrays)}
    numbers = {name: value for name, value in piece.numbers.items() if "/" not in name} | within(piece.numbers)
    axes = {name: own for name, own in piece.axes.items() if name in beside} | within(piece.axes)
    coordinates = {axis: local(name) for axis, name in piece.coordinates.items()}
    return replace(
        piece,
        place=piece.place / group,
        arrays=arrays,
        axes={name: own for name, own in axes.items() if len(own) == len(arrays[name].shape)},
        coordinates={axis: name for axis, name in coordinates.items() if name in arrays},
        numbers=numbers,
    )


def shared_out(arrays: Mapping[str, LazyArray], told: Piece, count: int) -> Sequence[dict[str, LazyArray]]:
    """Return what each of `count` trajectories gets of arrays told for all: its row of a table, else the whole.

    Args:
        arrays: by name.
        told: the piece they are of, which tells their axes and which are coordinates.
        count: how many trajectories there are, in their natural order.
    """
    rows: list[dict[str, LazyArray]] = [{} for _ in range(count)]
    for name, array in arrays.items():
        first = told.axes.get(name, ("trajectory",))[:1]
        table = array.shape[:1] == (count,) and first == ("trajectory",) and name not in told.coordinates.values()
        for place, row in enumerate(rows):
            row[name] = OneEntry(array, 0, place) if table else array
    return rows
