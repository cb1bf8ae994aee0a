"""Reading the files of a store: The Well's HDF5 schema as `scifm.data.well_layout` writes it."""

from __future__ import annotations

import abc
import json
import os
import resource
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from scifm.data.declared import open_checked
from scifm.data.well_layout import SOLUTION_FRAME, require_finite
from scifm.errors import StoreError, cause_of
from scifm.fields.batch import Signature

__all__ = ["OpenFiles", "Reader", "WellReader", "open_file", "read_provenance"]

_MOST_OPEN_FILES = 64


class Reader(abc.ABC):
    """Where the numbers of one split lie, read by position and never whole.

    A trajectory is one drawn problem; of a steady one only the solution is a frame.
    """

    @property
    @abc.abstractmethod
    def num_trajectories(self) -> int:
        """How many there are."""

    @abc.abstractmethod
    def read(self, name: str, rows: slice, frames: slice | None) -> np.ndarray:
        """Return a block of one coefficient or field.

        Args:
            name: of the coefficient or field.
            rows: trajectories, a contiguous range.
            frames: frames of a field that evolves, a contiguous range; None for everything else.

        Returns:
            ``(rows,)``, ``(rows, *space)`` or ``(rows, frames, *space)``.

        Raises:
            StoreError: if a file is missing, truncated or damaged.
            DataError: if a number is NaN or infinite.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Close what is open; reading again opens it again."""


def open_file(path: Path) -> h5py.File:
    """Open one file of a store for reading.

    Raises:
        StoreError: if it is missing, truncated, or not HDF5.
    """
    try:
        return open_checked(path)
    except StoreError:
        raise
    except FileNotFoundError as error:
        raise StoreError(
            f"The store lacks its file '{path}'. Run the command that made the store again to make it anew."
        ) from error
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> StoreError:
    cause = cause_of(error)
    if cause is not None:
        return StoreError(f"'{path}', a file of a store, cannot be read: {cause}")
    return StoreError(
        f"'{path}' is truncated, damaged or not a file of a store ({error}). Remove it and run 'scifm generate' or "
        "'scifm import' again with the same settings: only this file is made anew."
    )


def read_provenance(path: Path) -> dict[str, Any]:
    """Return what was told about the samples of one file when it was made.

    Raises:
        StoreError: if the file cannot be read or was not made by this library.
    """
    with open_file(path) as file:
        try:
            entries: dict[str, Any] = json.loads(file["provenance/json"][()])
        except (KeyError, TypeError, ValueError, OSError, RuntimeError) as error:
            raise StoreError(
                f"'{path}' was not made by SciFM or is damaged: its provenance cannot be read ({error}). Choose "
                "another folder for the store, or move this file away."
            ) from error
    return entries


class OpenFiles:
    """Files kept open between reads, by the process that reads: never carried over a fork or a pickle.

    Args:
        opener: opens one file, given by its path or by what else tells it; a function of a module, so that it can be
            sent to worker processes. What it returns has a method ``close``.
    """

    def __init__(self, opener: Callable[[Any], Any] = open_file) -> None:
        self._opener = opener
        self._owner = os.getpid()
        self._files: OrderedDict[Any, Any] = OrderedDict()

    def get(self, path: Any) -> Any:
        """Return the open file at `path`; those used longest ago are closed first when there are too many."""
        if self._owner != os.getpid():  # we are a forked worker: the parent's files are not ours to share
            self._owner, self._files = os.getpid(), OrderedDict()
        while path not in self._files and len(self._files) >= _most_open_files():
            self._files.popitem(last=False)[1].close()
        file = self._files.pop(path, None) or self._opener(path)
        self._files[path] = file
        return file

    def close(self) -> None:
        """Close all."""
        while self._files:
            self._files.popitem()[1].close()

    def __reduce__(self) -> tuple[type[OpenFiles], tuple[Callable[[Any], Any]]]:
        return OpenFiles, (self._opener,)


def _most_open_files() -> int:
    """Return how many files one of these may hold: a part of what the system lets a process open."""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _MOST_OPEN_FILES if allowed == resource.RLIM_INFINITY else max(1, min(_MOST_OPEN_FILES, allowed // 8))


class WellReader(Reader):
    """The files of one split of a store, told as one range of trajectories.

    Safe to hand to worker processes: each opens the files for itself. Threads need one each.

    Args:
        files: data files in order, each with the number of trajectories it holds.
        signature: names in the files.
    """

    def __init__(self, files: tuple[tuple[Path, int], ...], signature: Signature) -> None:
        self.files = files
        self.signature = signature
        self._ends = np.cumsum([count for _, count in files])
        self._open = OpenFiles()

    @property
    def num_trajectories(self) -> int:
        return int(self._ends[-1]) if len(self.files) else 0

    def read(self, name: str, rows: slice, frames: slice | None) -> np.ndarray:
        parts: list[np.ndarray] = []
        start = rows.start
        while start < rows.stop or not parts:
            place = min(int(np.searchsorted(self._ends, start, side="right")), len(self.files) - 1)
            first = int(self._ends[place]) - self.files[place][1]
            stop = min(rows.stop, int(self._ends[place]))
            parts.append(self._read_file(self.files[place][0], name, slice(start - first, stop - first), frames))
            start = stop
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _read_file(self, path: Path, name: str, rows: slice, frames: slice | None) -> np.ndarray:
        file = self._open.get(path)
        index: tuple[Any, ...] = (rows,)
        if frames is not None:
            index = (rows, frames)
        elif name in self.signature.outputs:
            index = (rows, SOLUTION_FRAME)
        try:
            group = "scalars" if name in self.signature.coefficients else "t0_fields"
            values: np.ndarray = file[group][name][index]
            if len(values) != rows.stop - rows.start:
                raise IndexError(f"{len(values)} samples where {rows.stop - rows.start} should be")
            if values.dtype.kind != "f":
                raise TypeError(f"'{name}' holds {values.dtype}")
        except (KeyError, OSError, RuntimeError, ValueError, TypeError, IndexError) as error:
            raise _damaged(path, error) from error
        require_finite(values, name, f"'{path}'", range(rows.start, rows.stop))
        return values

    def close(self) -> None:
        self._open.close()
