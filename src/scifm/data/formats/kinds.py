"""What a file is, by its first bytes; and which files lie in a folder, in their natural order.

The name decides only where the bytes say nothing known: a file that was cut off or overwritten is then read as what it
is called, and reading it says what is wrong.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Collection
from pathlib import Path

from scifm.errors import StoreError

__all__ = ["MATLAB_MARK", "data_sets_under", "is_hdf5", "kind_of", "natural", "refuse_foreign", "required"]

MATLAB_MARK = b"MATLAB 7.3 MAT-file"
"""How an HDF5 file begins that MATLAB wrote, before the HDF5 in it."""

_HDF5_MARK = b"\x89HDF\r\n\x1a\n"
_LEAST_BLOCK = 512  # bytes that may stand before the HDF5 in a file; else a power of two times as many
_ZARR_MARKS = ("zarr.json", ".zmetadata", ".zgroup", ".zarray")
_BEGINNINGS = {b"\x93NUMPY": "npy", _HDF5_MARK: "hdf5", **dict.fromkeys((b"CDF\x01", b"CDF\x02", b"CDF\x05"), "netcdf")}
_ENDINGS = {
    **dict.fromkeys((".h5", ".hdf5", ".hdf", ".nc4", ".mat"), "hdf5"),
    **dict.fromkeys((".nc", ".cdf", ".netcdf"), "netcdf"),
    ".npy": "npy",
    ".npz": "npz",
}
_NEVER = "which is never loaded because it may run any program. Save its arrays with numpy.savez"
_FOREIGN = {
    b"MATLAB 5.0": "a MATLAB file of the older kind. In MATLAB save it with save('NAME.mat', '-v7.3'), or in Python "
    "with numpy.savez('NAME.npz', **scipy.io.loadmat('NAME.mat')), without the entries that begin with '__'",
    b"GRIB": "GRIB. Convert it, for example with 'cdo -f nc4 copy IN OUT.nc'",
    b"\x0e\x03\x13\x01": "HDF of version 4. Convert it with 'h4toh5 IN OUT.h5'",
    **dict.fromkeys((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"), "a Python pickle, " + _NEVER),
}
_TORCH = "a file of torch.save, " + _NEVER


def natural(path: Path | str) -> tuple[tuple[int, int, str], ...]:
    """Return the key that sorts names as people number them: 2 before 10, and both before letters."""
    parts = re.findall(r"\d+|\D+", str(path))
    return tuple((0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts)


def is_hdf5(path: Path) -> bool:
    """Return whether the bytes of a file are HDF5's, at its beginning or after a block of its writer."""
    size = path.stat().st_size
    with path.open("rb") as handle:
        place = 0
        while place < size:
            handle.seek(place)
            if handle.read(len(_HDF5_MARK)) == _HDF5_MARK:
                return True
            place = max(_LEAST_BLOCK, 2 * place)
    return False


def kind_of(path: Path) -> str | None:
    """Return what a file or folder is: ``hdf5``, ``netcdf`` (classic), ``npy``, ``npz``, ``zarr``, or None."""
    if path.is_dir():
        marked = path.suffix.lower() == ".zarr" or any((path / mark).is_file() for mark in _ZARR_MARKS)
        return "zarr" if marked else None
    if not path.is_file():
        return None
    try:
        return None if _foreign(path) is not None else _kind_of_bytes(path) or _kind_of_name(path)
    except OSError:  # told by who reads it
        return _kind_of_name(path)


def _kind_of_bytes(path: Path) -> str | None:
    start = _start(path)
    for beginning, kind in _BEGINNINGS.items():
        if start.startswith(beginning):
            return kind
    if start.startswith(b"PK"):
        return _kind_of_archive(path)
    return "hdf5" if is_hdf5(path) else None


def _start(path: Path) -> bytes:
    with path.open("rb") as handle:
        return handle.read(16)


def _kind_of_archive(path: Path) -> str | None:
    members = _members(path)
    if any(name.endswith(".npy") for name in members):
        return "npz"
    return "zarr" if set(members) & set(_ZARR_MARKS) else None


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):  # cut off: the name says what it was
        return []


def _kind_of_name(path: Path) -> str | None:
    if path.name.lower().endswith(".zarr.zip"):
        return "zarr"
    return _ENDINGS.get(path.suffix.lower())


def data_sets_under(path: Path, kinds: Collection[str]) -> tuple[Path, ...]:
    """Return the data sets of these kinds at or under a path, in natural order; what is hidden is passed over.

    A Zarr store is one data set, whatever lies in it.
    """
    kind = kind_of(path)
    if kind is not None or not path.is_dir():
        return (path,) if kind in kinds else ()
    inner = (child for child in path.iterdir() if not child.name.startswith("."))
    chosen = sorted((child for child in inner if not (child.is_symlink() and child.is_dir())), key=natural)
    return tuple(found for child in chosen for found in data_sets_under(child, kinds))


def required(path: Path, kinds: Collection[str], title: str) -> tuple[Path, ...]:
    """Return what `data_sets_under` finds.

    Raises:
        StoreError: if that is nothing; says what was looked for.
    """
    found = data_sets_under(path, kinds)
    if not found:
        raise StoreError(f"'{path}' is or holds no {title}. Leave out format to have it looked up.")
    return found


def _foreign(path: Path) -> str | None:
    """Return what a file is that is known and not read here, and how to convert it; None for every other file."""
    start = _start(path)
    if start.startswith(b"PK"):
        return _TORCH if any(name.endswith("data.pkl") for name in _members(path)) else None
    return next((told for beginning, told in _FOREIGN.items() if start.startswith(beginning)), None)


def refuse_foreign(path: Path) -> None:
    """Raise StoreError if a file, or one in a folder, is of a kind that is known and not read here; says what to do."""
    files = [path] if path.is_file() else sorted(filter(Path.is_file, path.iterdir()), key=natural)
    for file in files:
        told = _foreign(file)
        if told is not None:
            raise StoreError(f"'{file}' is {told}.")
