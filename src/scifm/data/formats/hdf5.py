"""Foreign HDF5 files: opened when they are read, by the process that reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

from scifm.data.declared import open_checked
from scifm.data.formats.coding import Coding
from scifm.data.formats.contents import NUMBERS
from scifm.data.formats.format import unreadable
from scifm.data.formats.scout import require_sound
from scifm.data.well import OpenFiles
from scifm.errors import StoreError

__all__ = [
    "NETCDF_ENDINGS",
    "Hdf5Array",
    "coding_of",
    "holds_numbers",
    "is_netcdf4",
    "open_hdf5",
    "sniff_hdf5",
    "unwritten",
]

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
        coding: how its numbers are written.
    """

    files: OpenFiles
    path: Path
    name: str
    shape: tuple[int, ...]
    coding: Coding

    @property
    def dtype(self) -> np.dtype:
        """Type of the numbers."""
        return self.coding.dtype

    def __getitem__(self, index: Any) -> np.ndarray:
        data = self.files.get(self.path)[self.name]
        try:
            written = data[index]
        except OSError as error:
            filters = missing_filters(data)
            if not filters:
                raise
            raise StoreError(
                f"'{self.name}' of '{self.path}' is compressed with {', '.join(filters)}, which HDF5 cannot read here. "
                "pip install hdf5plugin brings the usual filters; or write the file anew with gzip: h5repack -f GZIP=4."
            ) from error
        return self.coding.decode(written)

    @classmethod
    def of(cls, files: OpenFiles, path: Path, data: h5py.Dataset) -> Hdf5Array:
        """Return the array of an open data set."""
        return cls(files, path, str(data.name), tuple(data.shape), coding_of(data))


def coding_of(data: h5py.Dataset) -> Coding:
    """Return how the numbers of an open data set are written."""
    plan = data.id.get_create_plist()
    declared = data.dtype.itemsize > 1 and plan.fill_value_defined() == h5py.h5d.FILL_VALUE_USER_DEFINED
    return Coding.of(data.dtype, data.attrs, declared=data.fillvalue.item() if declared else None)


def missing_filters(data: h5py.Dataset) -> list[str]:
    """Return the filters an open data set is compressed with that are not installed, by name and number."""
    plan = data.id.get_create_plist()
    filters = [plan.get_filter(place) for place in range(plan.get_nfilters())]
    return [
        f"the filter {name.decode(errors='replace') or 'without a name'} ({code})"
        for code, _, _, name in filters
        if not h5py.h5z.filter_avail(code)
    ]


def unwritten(data: h5py.Dataset) -> str | None:
    """Return how much of an open data set was never written, and what is read there; None where all of it was."""
    if not data.size or data.id.get_space_status() == h5py.h5d.SPACE_STATUS_ALLOCATED:
        return None
    meant = coding_of(data).decode(np.asarray(data.fillvalue))
    if data.chunks is None or not data.id.get_storage_size():
        return f"was never written; it reads as {meant}"
    count = math.prod(-(-length // chunk) for length, chunk in zip(data.shape, data.chunks, strict=True))
    absent = count - data.id.get_num_chunks()
    return f"lacks {absent} of its {count} chunks, which were never written and read as {meant}" if absent else None


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
