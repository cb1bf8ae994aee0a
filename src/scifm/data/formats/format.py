"""`Format`: what every import route offers; and what it gives: `Contents`, arrays by name, nothing of them read yet.

Arrays are lazy: they have a shape and a dtype and give a block when they are sliced. What lies in many files or groups
is told as one array, what a file leaves out is added, what it holds too much of is left out: by views, which read no
more than was asked for.
"""

from __future__ import annotations

import abc
import math
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from scifm.data.formats.coding import Coding
from scifm.data.formats.mapping import DataMapping
from scifm.data.labels import Dates
from scifm.data.ranges import overlaps
from scifm.data.well import OpenFiles
from scifm.errors import DataError, SciFMError, StoreError, cause_of
from scifm.fields.grid import Boundary

__all__ = [
    "MOST_NUMBERS",
    "NUMBERS",
    "Clipped",
    "Concatenated",
    "Contents",
    "Format",
    "LazyArray",
    "MappedArray",
    "OneEntry",
    "Repeated",
    "Reversed",
    "StoredArray",
    "opening",
    "read_whole",
    "reading",
    "single_numbers",
]

NUMBERS = "fiub"
"""Kinds of NumPy types that are read as numbers."""

MOST_NUMBERS = 2**24
"""Of a line of coordinates, of times, of one number a trajectory: what is read whole before anything else."""

_FOREIGN_ERRORS = (  # what the packages that read files raise when a file is damaged
    OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError,
    MemoryError, EOFError, SystemError, struct.error,
    zipfile.BadZipFile, zlib.error, tokenize.TokenError, SyntaxError,
)  # fmt: skip
_SIZES_IN_HDF5 = re.compile(r"truncated file: eof = (\d+),.* stored_eof = (\d+)")

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


@dataclass(frozen=True)
class Contents:
    """The arrays of a file or folder.

    Args:
        path: what was opened.
        files: every file that was found, in order.
        parts: arrays by name, by part: ``train``, ``valid``, ``test``, or `kinds.WHOLE` where the file is not split.
        attributes: single numbers by name, such as a viscosity told once for the whole file.
        axes: names of an array's axes where the file tells them; the file's own name for an axis of unknown meaning.
        coordinates: name of the array that holds the positions along an axis, or the times, where the file tells it.
        boundary: what stands at the ends of an axis, where the file tells it.
        units: of an array or a number, by name, where the file tells it.
        texts: what attributes of an array say in words, by name; those of the file under an empty one.
        dates: how the file tells times that are given in seconds here, by name of their array.
        remarks: what a user should know about this file.
        close: closes what is open.
    """

    path: Path
    files: tuple[Path, ...]
    parts: Mapping[str, Mapping[str, LazyArray]]
    attributes: Mapping[str, float] = field(default_factory=dict)
    axes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    coordinates: Mapping[str, str] = field(default_factory=dict)
    boundary: Mapping[str, Boundary] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    dates: Mapping[str, Dates] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    close: Callable[[], None] = OpenFiles().close

    @property
    def arrays(self) -> Mapping[str, LazyArray]:
        """The arrays of the first part; the other parts have the same names."""
        return next(iter(self.parts.values()))


class Format(abc.ABC):
    """One kind of file that can be imported. Adding an instance to ``FORMATS`` buys the contract tests.

    Class variables:
        name: key in ``FORMATS``.
        title: what it is, in a few words.
    """

    name: str
    title: str

    @abc.abstractmethod
    def sniff(self, path: Path) -> str | None:
        """Return why `path` looks like one of ours, in a few words, or None. Never raises; reads names and shapes."""

    @abc.abstractmethod
    def read(self, path: Path) -> Contents:
        """Return the arrays of `path`, nothing of them read yet.

        Raises:
            StoreError: if the file is truncated, damaged or of another kind; says which and what to do.
        """

    @abc.abstractmethod
    def propose(self, contents: Contents) -> DataMapping:
        """Return the mapping that would be used if nobody gave another.

        Raises:
            ConfigError: if the contents do not say enough; says what has to be told.
        """


# --- what goes wrong --------------------------------------------------------------------------------------------------


@contextmanager
def reading(path: Path, name: str) -> Iterator[None]:
    """Turn what goes wrong while the array `name` is read into StoreError, which says so in one line."""
    try:
        yield
    except SciFMError:
        raise
    except _FOREIGN_ERRORS as error:
        cause = cause_of(error) or f"it is truncated or damaged ({error}). Copy the file again."
        raise StoreError(f"'{name}' of '{path}' cannot be read: {cause}") from error


@contextmanager
def opening(path: Path, title: str) -> Iterator[None]:
    """Turn what goes wrong while a file is opened as what it seems to be into StoreError, which says so in one line."""
    try:
        yield
    except SciFMError:
        raise
    except _FOREIGN_ERRORS as error:
        raise StoreError(f"'{path}' cannot be read as {title}: {cause_of(error) or _damage(error)}") from error


def _damage(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    sizes = _SIZES_IN_HDF5.search(text)
    reason = "it has {} of {} bytes".format(*sizes.groups()) if sizes else text
    return (
        f"it is truncated, damaged or of another kind ({reason}). Copy it again, or see whether it is what its name "
        "says."
    )


# --- numbers ----------------------------------------------------------------------------------------------------------


def single_numbers(attributes: Mapping[str, Any]) -> dict[str, float]:
    """Return the attributes that are one finite real number each."""
    values = {str(name): np.asarray(value) for name, value in attributes.items()}
    single = {name: value for name, value in values.items() if value.size == 1 and value.dtype.kind in "fiu"}
    return {name: float(value.item()) for name, value in single.items() if np.isfinite(value.item())}


def read_whole(array: LazyArray, *, exact: bool = False) -> np.ndarray:
    """Return a small array, such as coordinates or a table, in float64.

    With `exact` whole numbers stay such, in int64: nanoseconds since 1970 are more than float64 tells apart.

    Raises:
        DataError: if it is too long for one of these.
    """
    if math.prod(array.shape) > MOST_NUMBERS:
        raise DataError(
            f"An array of shape {tuple(array.shape)} is no line of coordinates or times and no table of coefficients: "
            f"these hold at most {MOST_NUMBERS} numbers."
        )
    values = np.asarray(array[tuple(slice(0, length) for length in array.shape)])
    return values.astype(np.int64 if exact and values.dtype.kind in "iu" else np.float64)


@dataclass(frozen=True)
class StoredArray:
    """An array of a file, opened when it is read, by the process that reads. Safe to hand to worker processes.

    Args:
        files: keeps files open between reads.
        source: what `files` opens: a path, or something that has one.
        name: of the array in what is opened then.
        shape, coding: of the array, and how its numbers are written.
    """

    files: OpenFiles
    source: Any
    name: str
    shape: tuple[int, ...]
    coding: Coding

    @property
    def dtype(self) -> np.dtype:
        """Type of the numbers."""
        return self.coding.dtype

    @property
    def path(self) -> Path:
        """The file."""
        path: Path = getattr(self.source, "path", self.source)
        return path

    def __getitem__(self, index: Any) -> np.ndarray:
        with reading(self.path, self.name):
            return self.coding.decode(np.asarray(self.written(index)))

    def written(self, index: Any) -> Any:
        """Return the numbers of a block as they are written."""
        return self.files.get(self.source)[self.name][index]


class MappedArray(StoredArray):
    """One in memory that the file lends: copied, for that goes when the file is closed."""

    def written(self, index: Any) -> Any:
        return np.array(super().written(index))


# --- views ------------------------------------------------------------------------------------------------------------


class Concatenated:
    """Arrays, alike in all other axes, joined along an axis."""

    def __init__(self, parts: Sequence[LazyArray], axis: int = 0) -> None:
        self.parts, self.axis = list(parts), axis
        self.dtype = np.result_type(*(part.dtype for part in self.parts))
        self.ends = np.cumsum([part.shape[axis] for part in self.parts])
        first = self.parts[0].shape
        self.shape = (*first[:axis], int(self.ends[-1]), *first[axis + 1 :])

    def __getitem__(self, index: Index) -> np.ndarray:
        before, wanted, after = index[: self.axis], index[self.axis], index[self.axis + 1 :]
        touched = overlaps(wanted, self.ends)
        blocks = [np.asarray(self.parts[place][(*before, where, *after)]) for place, where in touched]
        return np.concatenate(blocks, self.axis) if len(blocks) != 1 else blocks[0]


class Clipped:
    """An array of which `length` entries along one axis are seen, from the entry `start` on."""

    def __init__(self, array: LazyArray, axis: int, start: int, length: int) -> None:
        self.array, self.axis, self.start, self.dtype = array, axis, start, array.dtype
        self.shape = (*array.shape[:axis], length, *array.shape[axis + 1 :])

    def __getitem__(self, index: Index) -> np.ndarray:
        first, stop, _ = index[self.axis].indices(self.shape[self.axis])
        seen = slice(first + self.start, stop + self.start)
        return np.asarray(self.array[(*index[: self.axis], seen, *index[self.axis + 1 :])])


class Repeated:
    """An array with a new axis of some length, which gets the place `axis`, and along which it does not change."""

    def __init__(self, array: LazyArray, axis: int, length: int) -> None:
        self.array, self.axis, self.dtype = array, axis, array.dtype
        self.shape = (*array.shape[:axis], length, *array.shape[axis:])

    def __getitem__(self, index: Index) -> np.ndarray:
        axis = self.axis
        values = np.asarray(self.array[(*index[:axis], *index[axis + 1 :])])
        count = len(range(*index[axis].indices(self.shape[axis])))
        return np.broadcast_to(np.expand_dims(values, axis), (*values.shape[:axis], count, *values.shape[axis:]))


class OneEntry:
    """The entry in some place along an axis, the axis left out."""

    def __init__(self, array: LazyArray, axis: int, place: int) -> None:
        self.array, self.axis, self.place, self.dtype = array, axis, place, array.dtype
        self.shape = (*array.shape[:axis], *array.shape[axis + 1 :])

    def __getitem__(self, index: Index) -> np.ndarray:
        axis = self.axis
        entry = slice(self.place, self.place + 1)
        return np.asarray(self.array[(*index[:axis], entry, *index[axis:])]).squeeze(axis)


class Reversed:
    """An array with its axes in reverse order."""

    def __init__(self, array: LazyArray) -> None:
        self.array, self.dtype, self.shape = array, array.dtype, tuple(array.shape)[::-1]

    def __getitem__(self, index: Index) -> np.ndarray:
        return np.asarray(self.array[index[::-1]]).T
