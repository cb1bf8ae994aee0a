"""Foreign HDF5 files: opened when they are read, by the process that reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

from scifm.data.declared import open_checked
from scifm.data.formats.contents import NUMBERS
from scifm.data.formats.format import unreadable
from scifm.data.formats.scout import require_sound
from scifm.data.well import OpenFiles
from scifm.errors import StoreError

__all__ = ["NETCDF_ENDINGS", "Hdf5Array", "holds_numbers", "is_netcdf4", "open_hdf5", "sniff_hdf5"]

NETCDF_ENDINGS = (".nc", ".nc4", ".cdf", ".netcdf")
"""How names of NetCDF files end."""

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Hdf5Array:
    """A data set of an HDF5 file. Safe to hand to worker processes.

    Args:
        files: keeps files open between reads.
        path: the file.
        name: of the data set inside the file.
        shape: length of each axis.
        dtype: type of the numbers.
    """

    files: OpenFiles
    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    def __getitem__(self, index: Any) -> np.ndarray:
        values: np.ndarray = self.files.get(self.path)[self.name][index]
        return values

    @classmethod
    def of(cls, files: OpenFiles, path: Path, data: h5py.Dataset) -> Hdf5Array:
        """Return the array of an open data set."""
        return cls(files, path, str(data.name), tuple(data.shape), data.dtype)


def holds_numbers(node: object) -> bool:
    """Return whether something in an HDF5 file is an array of real numbers with at least one axis."""
    return isinstance(node, h5py.Dataset) and bool(node.shape) and node.dtype.kind in NUMBERS


def open_hdf5(path: Path, *, linked: bool = True) -> h5py.File:
    """Open a foreign HDF5 file for reading.

    Args:
        path: of the file.
        linked: whether arrays whose numbers lie in other files are refused; else the caller leaves them out.

    Raises:
        StoreError: if it is missing, truncated, not HDF5, leads to other files, or declares more than it holds.
    """
    try:
        require_sound(path)
        return open_checked(path, linked=linked)
    except StoreError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise unreadable(path, "HDF5", error) from error


def is_netcdf4(path: Path, file: h5py.File) -> bool:
    """Return whether an HDF5 file is NetCDF 4: it says so, or is called so and has its dimensions."""
    if "_NCProperties" in file.attrs:
        return True
    nodes = (file.get(name) for name in file) if path.suffix.lower() in NETCDF_ENDINGS else ()
    return any(isinstance(node, h5py.Dataset) and node.is_scale for node in nodes)


def sniff_hdf5(files: Iterable[Path], look: Callable[[h5py.File], Answer | None]) -> set[Answer] | None:
    """Return what `look` says of all files; None if it says None of one, one is no sound HDF5, or there are none.

    NetCDF 4 is not shown to it: that is HDF5 underneath, and may use any names.
    """
    told: set[Answer] = set()
    for path in files:
        try:
            require_sound(path)
            with h5py.File(path, "r") as file:
                answer = None if is_netcdf4(path, file) else look(file)
        except (OSError, RuntimeError, KeyError, ValueError):  # truncated or not HDF5: not for us to say
            return None
        if answer is None:
            return None
        told.add(answer)
    return told or None
