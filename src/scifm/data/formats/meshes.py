"""Coordinates of every grid point (``X, Y = meshgrid(x, y)``): told as the lines they are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from scifm.data.formats.axis_names import axis_of_name
from scifm.data.formats.contents import MOST_NUMBERS, LazyArray, read_whole
from scifm.data.formats.format import reading
from scifm.data.formats.mapping import SPACE
from scifm.data.formats.pieces import Piece

__all__ = ["with_lines_of_meshes"]

_SAME = 1e-6  # of the range: entries that are one


def _line(values: np.ndarray) -> tuple[int, np.ndarray] | None:
    """Return along which axis a mesh runs, and its line; None unless it runs along one, upward or downward."""
    spread = float(np.ptp(values)) if values.size and np.isfinite(values).all() else 0.0
    varies = [axis for axis, length in enumerate(values.shape) if length > 1 and _spread(values, axis) > _SAME * spread]
    if not spread or len(varies) != 1:
        return None
    line = np.moveaxis(values, varies[0], 0).reshape(values.shape[varies[0]], -1)[:, 0]
    steps = np.diff(line)
    return (varies[0], line) if (steps > 0).all() or (steps < 0).all() else None


def _spread(values: np.ndarray, axis: int) -> float:
    return float(np.ptp(values, axis=axis).max())


def _lines(piece: Piece) -> dict[str, tuple[str, int, np.ndarray]]:
    """Return axis of space or time, axis of the array, and line, by name of the mesh."""
    found = {}
    for name, array in piece.arrays.items():
        axis = axis_of_name(name.rpartition("/")[2])
        if axis not in (*SPACE, "time") or not 2 <= len(array.shape) <= 4 or math.prod(array.shape) > MOST_NUMBERS:
            continue
        with reading(piece.place, name):
            line = _line(read_whole(array))
        if line is not None:
            found[name] = (axis, *line)
    return found


def with_lines_of_meshes(piece: Piece) -> Piece:
    """Return a piece in which coordinates of every grid point are lines, if the grid is rectangular.

    They then also tell the order of the axes of arrays of their shape.

    Raises:
        StoreError: if such a coordinate cannot be read.
    """
    found = _lines(piece)
    if not found:
        return piece
    arrays: dict[str, LazyArray] = {name: array for name, array in piece.arrays.items() if name not in found}
    coordinates = dict(piece.coordinates)
    along: dict[tuple[int, ...], dict[int, str]] = {}
    for name, (axis, place, line) in found.items():
        along.setdefault(tuple(piece.arrays[name].shape), {})[place] = axis
        if axis not in coordinates:
            arrays[name], coordinates[axis] = line, name
    return replace(
        piece,
        arrays=arrays,
        axes={name: axes for name, axes in piece.axes.items() if name not in found},
        coordinates=coordinates,
        meshes={**piece.meshes, **_complete(along)},
        remarks=(
            *piece.remarks,
            f"{', '.join(found)} tell every grid point of a rectangular grid; its lines are used.",
        ),
    )


def _complete(along: Mapping[tuple[int, ...], Mapping[int, str]]) -> dict[tuple[int, ...], tuple[str, ...]]:
    """Return the names of the axes of each shape of which all are told."""
    named = {shape: tuple(own[i] for i in sorted(own)) for shape, own in along.items() if len(own) == len(shape)}
    return {shape: names for shape, names in named.items() if len(set(names)) == len(names)}
