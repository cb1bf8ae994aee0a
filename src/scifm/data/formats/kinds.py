"""What a file is, by its first bytes; which files lie in a folder, in their natural order, and in which split each is.

The name decides only where the bytes say nothing known: a file that was cut off or overwritten is then read as what it
is called, and reading it says what is wrong.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path

from scifm.errors import DataError, StoreError

__all__ = [
    "MATLAB_MARK",
    "WHOLE",
    "data_sets_under",
    "group_by_split",
    "kind_of",
    "natural",
    "refuse_foreign",
    "required",
    "split_words",
]

MATLAB_MARK = b"MATLAB 7.3 MAT-file"
"""How an HDF5 file begins that MATLAB wrote, before the HDF5 in it."""

WHOLE = "all"
"""Name of the only part of contents that are not split into training, validation and test data."""

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
_TABLE = (
    "a table, which does not say what its rows and columns are. Read it, with numpy.loadtxt or pandas for example, and "
    "save its numbers with numpy.save, an array of shape (time, x) or (time, y, x) for each trajectory"
)
_TABLES = (".csv", ".tsv", ".dat", ".xls", ".xlsx", ".parquet")
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "val", "validation"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def natural(path: Path | str) -> tuple[tuple[int, int, str], ...]:
    """Return the key that sorts names as people number them: 2 before 10, and both before letters."""
    parts = re.findall(r"\d+|\D+", str(path))
    return tuple((0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts)


# --- one file ---------------------------------------------------------------------------------------------------------


def _is_hdf5(path: Path) -> bool:
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
    known = next((kind for beginning, kind in _BEGINNINGS.items() if start.startswith(beginning)), None)
    if known is not None or not start.startswith(b"PK"):
        return known or ("hdf5" if _is_hdf5(path) else None)
    members = _members(path)
    if any(name.endswith(".npy") for name in members):
        return "npz"
    return "zarr" if set(members) & set(_ZARR_MARKS) else None


def _kind_of_name(path: Path) -> str | None:
    return "zarr" if path.name.lower().endswith(".zarr.zip") else _ENDINGS.get(path.suffix.lower())


def _start(path: Path) -> bytes:
    with path.open("rb") as handle:
        return handle.read(16)


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):  # cut off: the name says what it was
        return []


def _foreign(path: Path) -> str | None:
    """Return what a file is that is known and not read here, and how to convert it; None for every other file."""
    start = _start(path)
    if start.startswith(b"PK"):
        return _TORCH if any(name.endswith("data.pkl") for name in _members(path)) else None
    return next((remedy for beginning, remedy in _FOREIGN.items() if start.startswith(beginning)), None)


def refuse_foreign(path: Path) -> None:
    """Raise StoreError if a file, or one in a folder, is of a kind that is known and not read here; says what to do."""
    files = [path] if path.is_file() else sorted(filter(Path.is_file, path.iterdir()), key=natural)
    for file in files:
        remedy = _foreign(file) or (_TABLE if file.suffix.lower() in _TABLES else None)
        if remedy is not None:
            raise StoreError(f"'{file}' is {remedy}.")


# --- many files -------------------------------------------------------------------------------------------------------


def data_sets_under(path: Path, kinds: Collection[str]) -> tuple[Path, ...]:
    """Return the data sets of these kinds at or under a path, in natural order; what is hidden is passed over.

    A Zarr store is one data set, whatever lies in it.

    Raises:
        StoreError: if a link that is called like one leads nowhere: a trajectory less is no matter of taste.
    """
    kind = kind_of(path)
    if kind is not None or not path.is_dir():
        return (path,) if kind in kinds else ()
    inner = (child for child in path.iterdir() if not child.name.startswith("."))
    chosen = sorted((child for child in inner if not (child.is_symlink() and child.is_dir())), key=natural)
    lost = next((child for child in chosen if not child.exists() and _kind_of_name(child) in kinds), None)
    if lost is not None:
        raise StoreError(f"'{lost}' is a link to '{os.readlink(lost)}', where nothing is. Mend the link, or remove it.")
    members = tuple(member for child in chosen for member in data_sets_under(child, kinds))
    odd = next((member for member in members if member.name != member.name.encode(errors="replace").decode()), None)
    if odd is not None:
        told = os.fsencode(odd).decode(errors="backslashreplace")
        raise StoreError(f"The name '{told}' is not UTF-8, and the card of a store must tell it: rename it with 'mv'.")
    return members


def required(path: Path, kinds: Collection[str], title: str) -> tuple[Path, ...]:
    """Return what `data_sets_under` finds; raise StoreError, which says what was looked for, if that is nothing."""
    files = data_sets_under(path, kinds)
    if not files:
        raise StoreError(f"'{path}' is or holds no {title}. Leave out format to have it looked up.")
    return files


def split_words(text: str) -> tuple[set[str], str]:
    """Return which splits a name tells, and the name without these words: ``train_u`` tells train, and is ``u``."""
    words = [word for word in re.split(r"[^A-Za-z0-9]+", text) if word]
    splits = {_SPLITS[word.lower()] for word in words if word.lower() in _SPLITS}
    return splits, "_".join(word for word in words if word.lower() not in _SPLITS) if splits else text


def group_by_split(path: Path, places: Sequence[Path]) -> dict[str, list[Path]]:
    """Return the places of each split; all under `WHOLE` where names of files and folders tell no split.

    Args:
        path: folder they were found in, or the only file.
        places: what was found, in order.

    Raises:
        DataError: if some are in a split and some are not, in two, or none is in train.
    """
    splits = {}
    for place in places:
        inner = place.relative_to(path) if place != path else Path(place.name)
        splits[place] = set().union(*(split_words(part.partition(".")[0])[0] for part in inner.parts))
    if len(places) == 1 or not any(splits.values()):
        return {WHOLE: list(places)}
    odd = next((place for place, own in splits.items() if len(own) != 1), None)
    if odd is not None:
        raise DataError(
            f"'{odd}' belongs to no split or to several, while other files of '{path}' tell theirs by a folder or a "
            "word in the name (train, valid or val, test). Name all so, or none; move away what does not belong."
        )
    groups = {split: [place for place in places if split in splits[place]] for split in ("train", "valid", "test")}
    if not groups["train"]:
        raise DataError(f"No file of '{path}' is for training: none has 'train' in its name or its folder.")
    return {split: own for split, own in groups.items() if own}
