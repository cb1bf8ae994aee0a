"""What a file declares against what it holds: checked before memory is taken or another file is opened.

A few bytes can declare petabytes, and a link in a file can lead to any other file. Neither is believed: an array may be
larger than its file only by as much as compression can save, and what lies in other files is not read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py

from scifm.errors import StoreError

__all__ = ["check_hdf5", "open_checked", "require_held", "size_of", "walk_hdf5"]

_MOST_SAVED = 2000  # deflate saves at most a factor 1032; other methods save more on constant arrays only
_CHUNK_COSTS = 4096  # bytes of memory that HDF5 takes for each chunk it looks for, measured
_MANY, _SMALL = 100_000, 1024  # chunks, bytes
_FREE = 16 * 2**20  # bytes that may be declared without holding any


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files under a folder."""
    files: Iterable[Path] = [path] if path.is_file() else (file for file in path.rglob("*") if file.is_file())
    return sum(file.stat().st_size for file in files)


def require_held(path: Path, name: str, shape: tuple[int, ...], itemsize: int, held: int) -> None:
    """Raise StoreError if an array declares more bytes than those that are `held`, compressed, can tell."""
    declared = math.prod(int(length) for length in shape) * itemsize  # Python integers: no overflow
    if declared > _FREE + _MOST_SAVED * held:
        raise StoreError(
            f"'{name}' of '{path}' declares the shape {tuple(shape)}, {declared:.3g} bytes, and only {held} are stored:"
            " it was never written, is damaged, or was made to fill the memory. Copy the file again, or write it whole."
        )


def open_checked(path: Path, *, linked: bool = True) -> h5py.File:
    """Open an HDF5 file for reading and check it, see `check_hdf5`; closed again when it is refused.

    Raises:
        StoreError: as `check_hdf5` does.
        OSError, RuntimeError, KeyError, ValueError, TypeError: if h5py cannot read it.
    """
    _use_installed_filters()
    file = h5py.File(path, "r")
    try:
        check_hdf5(path, file, linked=linked)
    except BaseException:
        file.close()
        raise
    return file


def _use_installed_filters() -> None:
    """Let HDF5 look for filters where installed packages keep theirs, without importing these."""
    known = {h5py.h5pl.get(place) for place in range(h5py.h5pl.size())}
    for package in ("hdf5plugin", "netCDF4"):
        spec = find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec is not None else []:
            folder = Path(place, "plugins")
            if folder.is_dir() and bytes(folder) not in known:
                h5py.h5pl.append(bytes(folder))


def check_hdf5(path: Path, file: h5py.File, *, linked: bool = True) -> None:
    """Check an HDF5 file, just opened, before its arrays are looked at.

    Where arrays are not `linked`, the caller leaves out those whose numbers lie in other files; else they are refused.

    Raises:
        StoreError: if something lies in another file, or an array declares more than is stored.
    """
    for key, node in walk_hdf5(path, file):
        if not isinstance(node, h5py.Dataset) or node.shape is None:
            continue
        name = str(key)
        if node.is_virtual or node.external:
            if linked:
                raise _elsewhere(path, name, "other files")
            continue
        held = node.id.get_storage_size()
        require_held(path, name, node.shape, node.id.get_type().get_size(), held)  # also of types NumPy has not
        if node.chunks is not None:
            _check_chunks(path, name, node, held)


def _check_chunks(path: Path, name: str, array: h5py.Dataset, held: int) -> None:
    """Refuse chunks that are too large to be there, and so many small ones that HDF5 needs gigabytes to keep track."""
    itemsize = array.id.get_type().get_size()
    chunk_bytes = math.prod(array.chunks) * itemsize
    count = math.prod(-(-length // chunk) for length, chunk in zip(array.shape, array.chunks, strict=True))
    require_held(path, f"one chunk of {name}", array.chunks, itemsize, held)
    absent = count * _CHUNK_COSTS > _FREE + _MOST_SAVED * held  # almost none of them was ever written
    if absent or (count > _MANY and chunk_bytes < _SMALL):
        raise StoreError(
            f"'{name}' of '{path}' is cut into {count} chunks of {chunk_bytes} bytes, {held} bytes in all: HDF5 needs "
            f"far more time and memory for them than for the numbers. Write it anew, with h5repack -l {name}:CHUNK=…"
        )


def walk_hdf5(path: Path, file: h5py.File) -> Iterator[tuple[str | bytes, Any]]:
    """Yield name and node of every group and array, each once; a name that is no text comes as bytes.

    h5py's own ``visititems`` ends in a SystemError where a file is damaged, and passes over links to other files.

    Raises:
        StoreError: if a link leads to another file.
    """
    pending, seen = [file], set()
    while pending:
        group = pending.pop()
        for key in group:
            link = group.get(key, getlink=True)
            name = key if isinstance(key, bytes) else f"{group.name}/{key}".lstrip("/")
            if isinstance(link, h5py.ExternalLink):
                raise _elsewhere(path, str(name), link.filename)
            if not isinstance(link, h5py.HardLink):
                continue
            node = group[key]
            place = h5py.h5o.get_info(node.id).addr
            if place in seen:
                continue
            seen.add(place)
            yield name, node
            if isinstance(node, h5py.Group):
                pending.append(node)


def _elsewhere(path: Path, name: str, where: str) -> StoreError:
    return StoreError(
        f"'{name}' of '{path}' lies in another file ({where}), which is not read: copy all into one file, for example "
        "with h5repack."
    )
