"""What a foreign file holds, before anything is read: named arrays, numbers, and who made the file.

Arrays are lazy: they have a shape and a dtype and give a block when they are sliced. What lies in many files or groups
is told as one array with a trajectory axis in front.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from scifm.errors import DataError

__all__ = [
    "MOST_NUMBERS",
    "NUMBERS",
    "WHOLE",
    "Concatenated",
    "Contents",
    "LazyArray",
    "Stacked",
    "nothing_to_close",
    "read_whole",
    "single_numbers",
]

NUMBERS = "fiub"
"""Kinds of NumPy types that are read as numbers."""

WHOLE = "all"
"""Name of the only part of contents that are not split into training, validation and test data."""

MOST_NUMBERS = 2**24
"""Of a line of coordinates, of times, of one number a trajectory: what is read whole before anything else."""

Index = tuple[slice, ...]


class LazyArray(Protocol):
    """An array on disk. HDF5 data sets, memory maps and plain arrays are such; formats wrap what is not."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """Type of the numbers."""
        ...

    def __getitem__(self, index: Any) -> Any:
        """Return the block of a tuple of slices with step 1, one an axis, as a NumPy array."""
        ...


def single_numbers(attributes: Mapping[str, Any]) -> dict[str, float]:
    """Return the attributes that are one finite real number each."""
    values = {str(name): np.asarray(value) for name, value in attributes.items()}
    single = {name: value for name, value in values.items() if value.size == 1 and value.dtype.kind in "fiu"}
    return {name: float(value.item()) for name, value in single.items() if np.isfinite(value.item())}


def read_whole(array: LazyArray) -> np.ndarray:
    """Return a small array, such as coordinates or a table, in float64.

    Raises:
        DataError: if it is too long for one of these.
    """
    if math.prod(array.shape) > MOST_NUMBERS:
        raise DataError(
            f"An array of shape {tuple(array.shape)} is no line of coordinates or times and no table of coefficients: "
            f"these hold at most {MOST_NUMBERS} numbers."
        )
    return np.asarray(array[tuple(slice(0, length) for length in array.shape)], dtype=np.float64)


def _overlaps(wanted: slice, lengths: Sequence[int]) -> list[tuple[int, slice]]:
    """Return which members of a row of parts a range touches, and where in each."""
    pieces, first = [], 0
    for place, length in enumerate(lengths):
        start, stop = max(wanted.start, first), min(wanted.stop, first + length)
        if start < stop:
            pieces.append((place, slice(start - first, stop - first)))
        first += length
    return pieces


class Concatenated:
    """Arrays joined along an axis, the first if none is told.

    Args:
        parts: arrays alike in all other axes.
        axis: along which they are joined.
    """

    def __init__(self, parts: Sequence[LazyArray], axis: int = 0) -> None:
        self.parts, self.axis = list(parts), axis
        self.dtype = np.result_type(*(part.dtype for part in self.parts))
        length = sum(part.shape[axis] for part in self.parts)
        self.shape = (*self.parts[0].shape[:axis], length, *self.parts[0].shape[axis + 1 :])

    def __getitem__(self, index: Index) -> np.ndarray:
        before, wanted, after = index[: self.axis], index[self.axis], index[self.axis + 1 :]
        pieces = _overlaps(wanted, [part.shape[self.axis] for part in self.parts]) or [(0, slice(0, 0))]
        blocks = [np.asarray(self.parts[place][(*before, where, *after)]) for place, where in pieces]
        return np.concatenate(blocks, self.axis) if len(blocks) != 1 else blocks[0]


class Stacked:
    """Arrays of one shape told as one, with a new axis in front.

    Args:
        parts: arrays alike in all axes.
    """

    def __init__(self, parts: Sequence[LazyArray]) -> None:
        self.parts = list(parts)
        self.dtype = np.result_type(*(part.dtype for part in self.parts))
        self.shape = (len(self.parts), *self.parts[0].shape)

    def __getitem__(self, index: Index) -> np.ndarray:
        chosen = self.parts[index[0]]
        if not chosen:
            return np.asarray(self.parts[0][index[1:]])[None][:0]
        return np.stack([np.asarray(part[index[1:]]) for part in chosen])


def nothing_to_close() -> None:
    """Close contents that hold nothing open."""


@dataclass(frozen=True)
class Contents:
    """The arrays of a file or folder.

    Args:
        path: what was opened.
        files: every file that was found, in order.
        parts: arrays by name, by part: ``train``, ``valid``, ``test``, or `WHOLE` where the file is not split.
        attributes: single numbers by name, such as a viscosity told once for the whole file.
        axes: names of an array's axes where the file tells them; the file's own name for an axis of unknown meaning.
        coordinates: name of the array that holds the positions along an axis, or the times, where the file tells it.
        periodic: whether an axis wraps around, where the file tells it.
        remarks: what a user should know about this file.
        close: closes what is open.
    """

    path: Path
    files: tuple[Path, ...]
    parts: Mapping[str, Mapping[str, LazyArray]]
    attributes: Mapping[str, float] = field(default_factory=dict)
    axes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    coordinates: Mapping[str, str] = field(default_factory=dict)
    periodic: Mapping[str, bool] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    close: Callable[[], None] = nothing_to_close

    @property
    def arrays(self) -> Mapping[str, LazyArray]:
        """The arrays of the first part; the other parts have the same names."""
        return next(iter(self.parts.values()))
