"""`Piece`: what one file, or one group in a file, holds, before those that belong together are joined."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from scifm.data.formats.contents import LazyArray, read_whole
from scifm.data.formats.format import reading
from scifm.data.formats.kinds import natural
from scifm.data.formats.mapping import AXES
from scifm.data.formats.members import split_words
from scifm.data.formats.views import OneEntry

__all__ = ["Piece", "by_group", "shared_out"]

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
        origins: what has to be added to an array of times to compare it with those of other pieces.
    """

    place: Path
    arrays: Mapping[str, LazyArray]
    axes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    coordinates: Mapping[str, str] = field(default_factory=dict)
    periodic: Mapping[str, bool] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    meshes: Mapping[tuple[int, ...], tuple[str, ...]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    origins: Mapping[str, float] = field(default_factory=dict)

    @property
    def content(self) -> frozenset[str]:
        """Names of the arrays that are no coordinates."""
        return frozenset(self.arrays) - frozenset(self.coordinates.values())

    @property
    def times(self) -> np.ndarray | None:
        """Times of its frames, comparable with those of other pieces; None where there are none."""
        name = self.coordinates.get("time")
        if name is None:
            return None
        with reading(self.place, name):
            return read_whole(self.arrays[name]) + self.origin

    @property
    def origin(self) -> float:
        """What has to be added to the times of its frames to compare them with those of other pieces."""
        return self.origins.get(self.coordinates.get("time", ""), 0.0)

    def with_axes_of_meshes(self) -> Piece:
        """Return the piece with the axes told that coordinates of every grid point tell."""
        axes = dict(self.axes)
        for name in sorted(self.content):
            known = axes.get(name, ())
            told = _axes_by_mesh(self, tuple(self.arrays[name].shape)) if set(known) - set(AXES) or not known else None
            if told is not None and all(
                own in (axis, "") or own not in AXES for own, axis in zip(known, told, strict=False)
            ):
                axes[name] = told
        return replace(self, axes=axes)


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
    held: dict[str, set[str]] = {}
    for name, inside in groups.items():
        splits = split_words(name)[0]
        if splits or re.search(r"\d", name):
            clusters.setdefault("split" if splits else _template(name), []).append(name)
            held[name] = set(map(_template, inside)) if splits else inside  # splits hold other simulations each
    alike = [names for names in clusters.values() if len(names) > 1 and set.intersection(*(held[n] for n in names))]
    return sorted(alike[0], key=natural) if len(alike) == 1 else []


def by_group(piece: Piece) -> list[Piece]:
    """Return one piece for each simulation where the groups of a file are such, else the piece.

    Groups are simulations where they hold the same arrays and their names differ in a number only; groups called
    train, valid, test are splits, and may hold simulations themselves. What lies beside the groups belongs to all.
    """
    groups = _groups(piece.arrays)
    chosen = _simulations(groups)
    if not chosen and len(groups) == 1 and _simulations(_groups(next(iter(groups.values())))):
        chosen = list(groups)  # all simulations lie in it
    if not chosen:
        return [piece]
    inside = {name: _Inside() for name in chosen}
    for kind in ("arrays", "axes", "numbers", "origins"):
        for name, value in getattr(piece, kind).items():
            group, _, rest = name.partition("/")
            if group in inside:
                getattr(inside[group], kind)[rest or _SAMPLE] = value
    beside = shared_out(_beside(piece, inside), len(chosen)) if len(chosen) > 1 else [_beside(piece, inside)]
    rows = zip(inside.items(), beside, strict=True)
    return [inner for (name, own), row in rows for inner in by_group(_inner(piece, name, own, row))]


@dataclass
class _Inside:
    """What lies in a group, by the names there."""

    arrays: dict[str, LazyArray] = field(default_factory=dict)
    axes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)
    origins: dict[str, float] = field(default_factory=dict)


def _beside(piece: Piece, groups: Collection[str]) -> Piece:
    """Return what lies beside some groups."""
    arrays = {name: array for name, array in piece.arrays.items() if name.partition("/")[0] not in groups}
    return replace(
        piece,
        arrays=arrays,
        axes={name: axes for name, axes in piece.axes.items() if name in arrays},
        coordinates={axis: name for axis, name in piece.coordinates.items() if name in arrays},
        numbers={name: value for name, value in piece.numbers.items() if name.partition("/")[0] not in groups},
    )


def _inner(piece: Piece, group: str, inside: _Inside, beside: Piece) -> Piece:
    """Return what lies in a group, and what is given of what lies beside it."""
    arrays = {**beside.arrays, **inside.arrays}
    local = {axis: name.partition("/")[2] for axis, name in piece.coordinates.items()}
    coordinates = {axis: name if name in arrays else piece.coordinates[axis] for axis, name in local.items()}
    return replace(
        piece,
        place=piece.place / group,
        arrays=arrays,
        axes={**beside.axes, **inside.axes},
        coordinates={axis: name for axis, name in coordinates.items() if name in arrays},
        numbers={**beside.numbers, **inside.numbers},
        origins={**beside.origins, **inside.origins},
    )


def shared_out(piece: Piece, count: int) -> list[Piece]:
    """Return what each of `count` trajectories gets of arrays told for all: its row of a table, else the whole.

    Args:
        piece: what is told for all.
        count: how many trajectories there are, in their natural order.
    """
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


def first_to_last(pieces: Sequence[Piece]) -> str:
    """Return from which piece to which these go, in words."""
    first, last = ("/".join(piece.place.parts[-2:]) for piece in (pieces[0], pieces[-1]))
    return f"from '{first}' to '{last}'"
