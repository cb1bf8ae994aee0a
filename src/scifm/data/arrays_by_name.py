"""`NamedArrays`: the arrays that somebody asks for by name, from a file of any kind, with what it says of axes and box.

A store needs to know what is given and what is asked for; here only names count, so a file of inputs alone will do.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from scifm.data.card import CARD_NAME
from scifm.data.formats.axes import are_even, axis_length
from scifm.data.formats.format import Contents, read_whole, reading
from scifm.data.formats.proposal import Proposal
from scifm.data.formats.reader import labels_along
from scifm.data.importing import find_format
from scifm.data.labels import Labels
from scifm.data.store import Store
from scifm.errors import DataError, SignatureError, suggest
from scifm.fields.grid import Boundary
from scifm.wording import plural

__all__ = ["NamedArrays", "is_store", "names_in", "read_named"]

_SPACE = ("z", "y", "x")


@dataclass(frozen=True)
class NamedArrays:
    """Arrays by name.

    Args:
        fields: ``([trajectory,] [time,] *space)`` each, x last.
        numbers: ``(trajectory,)`` or ``()``.
        evolving: names of the fields that have an axis of time.
        coordinates: positions along the axes of space, and ``time``, where they are told.
        units: of all these by name, where they are told.
        labels: what else a file says of them.
    """

    fields: Mapping[str, np.ndarray]
    numbers: Mapping[str, np.ndarray]
    evolving: frozenset[str] = frozenset()
    coordinates: Mapping[str, np.ndarray] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    labels: Labels = field(default_factory=Labels)

    def extent(self, boundary: Sequence[Boundary]) -> tuple[float, ...] | None:
        """Return the lengths of the axes of space with these ends; None where the file does not tell all.

        Raises:
            DataError: if points are not evenly spaced.
        """
        lengths = []
        for axis, end in zip(_SPACE[-len(boundary) :], boundary, strict=True):
            points = self.coordinates.get(axis)
            if points is None:
                return None
            if not are_even(points):
                raise DataError(f"The points along {axis} are not equally spaced, and grids here are: resample them.")
            lengths.append(axis_length(points, len(points), points.dtype, wraps=end == "periodic"))
        return tuple(lengths)


def is_store(path: Path) -> bool:
    """Return whether a store of our own lies there."""
    return os.path.isfile(path / CARD_NAME)


def read_named(path: Path, fields: Iterable[str], numbers: Iterable[str], *, split: str = "test") -> NamedArrays:
    """Read arrays of a file of any kind that can be imported, or of a split of a store.

    Args:
        path: NetCDF, Zarr, NumPy, HDF5, MATLAB, or the folder of a store.
        fields: names of what lives in space.
        numbers: names of single numbers, or one a trajectory.
        split: of a store.

    Raises:
        ConfigError: if a store has no such split.
        DataError: if an array is too large a table.
        SignatureError: if a name is missing, or the axes of an array are not known.
        StoreError: if the file cannot be read.
    """
    if is_store(path):
        return _of_store(Store.open(path), fields, numbers, split)
    form = find_format(path)
    contents = form.read(path)
    try:
        return _of_contents(contents, Proposal(contents, form.name), fields, numbers)
    finally:
        contents.close()


def names_in(path: Path) -> frozenset[str]:
    """Return the names by which `read_named` finds arrays of a file or a store.

    Raises:
        StoreError: if the file cannot be read.
    """
    if is_store(path):
        return frozenset(Store.open(path).signature.names)
    form = find_format(path)
    contents = form.read(path)
    try:
        return frozenset(_by_name(contents, Proposal(contents, form.name)))
    finally:
        contents.close()


def _by_name(contents: Contents, proposal: Proposal) -> dict[str, str]:
    return {proposal.short(name): name for name in contents.arrays} | {name: name for name in contents.attributes}


def _of_store(store: Store, fields: Iterable[str], numbers: Iterable[str], split: str) -> NamedArrays:
    names = store.signature
    for name in (*fields, *numbers):
        if name not in names.names:
            raise SignatureError(f"The store '{store.path}': {suggest(name, names.names)}")
    with store.to_xarray(split) as view:
        evolving = frozenset(name for name in fields if "time" in view[name].dims)
        grid, times = store.grid, store.card.times
        lines = {axis: points.numpy() for axis, points in zip(grid.axis_names, grid.coordinates(), strict=True)}
        lines |= {} if times is None else {"time": np.asarray(times)}
        return NamedArrays(
            {name: view[name].values for name in fields},
            {name: view[name].values for name in numbers},
            evolving,
            lines,
            store.card.units,
            store.card.labels or Labels(),
        )


def _of_contents(contents: Contents, proposal: Proposal, fields: Iterable[str], numbers: Iterable[str]) -> NamedArrays:
    arrays, axes, units = contents.arrays, proposal.axes, dict[str, str]()
    by_name = _by_name(contents, proposal)

    def found(name: str) -> str:
        if name not in by_name:
            said = [remark for remark in contents.remarks if f"'{name}'" in remark]  # it is there, and of no use
            raise SignatureError(f"'{contents.path}': {' '.join(said) or suggest(name, by_name)}")
        if by_name[name] in contents.units:
            units[name] = contents.units[by_name[name]]
        return by_name[name]

    shaped, evolving, single = dict[str, np.ndarray](), set[str](), dict[str, np.ndarray]()
    for name in fields:
        own = found(name)
        if own in contents.attributes:
            shaped[name] = np.asarray(contents.attributes[own])
            continue
        shaped[name] = _ordered(contents.path, name, _read(contents, own), axes.get(own, ()))
        evolving |= {name} if "time" in axes[own] else set()
    for name in numbers:
        own = found(name)
        value = contents.attributes[own] if own in contents.attributes else read_whole(arrays[own]).squeeze()
        single[name] = np.asarray(value)
    lines = {}
    for axis, own in contents.coordinates.items():
        if own in arrays:
            lines[axis] = read_whole(arrays[own])
            units |= {axis: contents.units[own]} if own in contents.units else {}
    arrays_of = {name: by_name[name] for name in (*shaped, *single)}
    arrays_of |= {"time": contents.coordinates["time"]} if "time" in contents.coordinates else {}
    return NamedArrays(shaped, single, frozenset(evolving), lines, units, labels_along(contents, _SPACE, arrays_of))


def _read(contents: Contents, name: str) -> np.ndarray:
    array = contents.arrays[name]
    with reading(contents.path, name):
        return np.asarray(array[tuple(slice(0, length) for length in array.shape)])


def _ordered(path: Path, name: str, values: np.ndarray, axes: tuple[str, ...]) -> np.ndarray:
    """Bring axes into the order trajectory, time, z, y, x."""
    wanted = [axis for axis in ("trajectory", "time", *_SPACE) if axis in axes]
    known = len(axes) == values.ndim and bool(set(axes) & set(_SPACE)) and len(set(axes)) == len(axes)
    if not known or any(length > 1 for axis, length in zip(axes, values.shape, strict=True) if axis not in wanted):
        raise SignatureError(
            f"'{name}' of '{path}' has shape {values.shape} and its axes are not known"
            + (f" ({', '.join(axes)})" if axes else "")
            + f": call its {plural(values.ndim, 'dimension')} trajectory, time, z, y or x, or make a store of it with "
            "'scifm import'."
        )
    places = [axes.index(axis) for axis in wanted]
    rest = [place for place in range(values.ndim) if place not in places]
    return values.transpose([*rest, *places]).reshape([values.shape[place] for place in places])
