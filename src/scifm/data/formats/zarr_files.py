"""Zarr: what a store holds, and what zarr does not say by itself: chunks that are not there, or were cut off.

A chunk that is not there reads as the fill value. A chunk that Blosc packed and that was cut off may unpack to whatever
lies behind it in memory, without an error, so its length is compared with what its own header says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from scifm.data.declared import require_held, size_of
from scifm.data.formats.coding import Coding, netcdf_fill
from scifm.data.formats.format import NUMBERS, StoredArray, single_numbers
from scifm.data.formats.kinds import natural
from scifm.data.formats.pieces import Piece
from scifm.data.well import OpenFiles
from scifm.errors import ConfigError

__all__ = [
    "OpenZarr",
    "check_chunks",
    "check_sizes",
    "names_axes",
    "open_zarr",
    "walk_zarr",
    "writes_fill_as_attribute",
    "zarr_piece",
]

_BLOSC_HEADER = 16


class OpenZarr:
    """A store that is open: its arrays by name, and itself where it is an array."""

    def __init__(self, path: Path) -> None:
        self.root = open_zarr(path)

    def __getitem__(self, name: str) -> Any:
        return self.root[name] if name else self.root

    def close(self) -> None:
        """Close it."""
        self.root.store.close()


def zarr_piece(path: Path, pool: OpenFiles) -> Piece:
    """Return what a Zarr store holds; nothing of its arrays is read yet. `pool` is ``OpenFiles(OpenZarr)``.

    Raises:
        StoreError: if it declares more than it holds.
        ConfigError: if the package that reads it is missing.
    """
    if find_spec("zarr") is None:
        raise ConfigError(f"'{path}' is Zarr, which needs the package zarr: pip install 'scifm[formats]'.")
    check_sizes(path)
    piece = Piece(path)
    for name, node in walk_zarr(open_zarr(path)):
        if hasattr(node, "arrays"):
            numbers = single_numbers(dict(node.attrs))
            piece.numbers.update({f"{name}/{key}".lstrip("/"): value for key, value in numbers.items()})
        elif np.dtype(node.dtype).kind not in NUMBERS:
            remark = f"'{name}' of '{path.name}' holds {node.dtype}, not real numbers; it is left out."
            piece.remarks.append(remark)
        elif node.shape == ():
            piece.numbers.update(single_numbers({name: _coding(node).decode(np.asarray(node[()]))}))
        else:
            piece.arrays[name or "data"] = StoredArray(pool, path, name, tuple(node.shape), _coding(node))
    piece.remarks.extend(check_chunks(path, piece.arrays))
    return piece


def open_zarr(path: Path) -> Any:
    """Return the root of a store, a folder or a zip file: a group or an array of zarr."""
    import zarr

    return zarr.open(zarr.storage.ZipStore(path, mode="r") if path.is_file() else str(path), mode="r")


def walk_zarr(node: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield name and node of a group and of all groups and arrays in it, in natural order; the root's name is empty."""
    yield name, node
    if hasattr(node, "arrays"):
        inner = sorted([*node.arrays(), *node.groups()], key=lambda item: natural(item[0]))
        for key, child in inner:
            yield from walk_zarr(child, f"{name}/{key}".lstrip("/"))


def _arrays_in(path: Path) -> dict[str, Any]:
    """Return the arrays of a store by name, groups included; an array that is a store itself is called ``data``."""
    return {name or "data": node for name, node in walk_zarr(open_zarr(path)) if not hasattr(node, "arrays")}


def names_axes(path: Path) -> bool:
    """Return whether the axes of all arrays of a store have names, as xarray needs them."""
    for array in _arrays_in(path).values():
        names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
        if names is None or len(names) != len(array.shape) or None in names:
            return False
    return True


def writes_fill_as_attribute(path: Path) -> bool:
    """Return whether a store tells in attributes what stands for no number (Zarr 3), not by the arrays' fill value."""
    return bool(open_zarr(path).metadata.zarr_format > 2)


def _coding(array: Any) -> Coding:
    dtype = np.dtype(array.dtype)
    declared = array.fill_value if array.metadata.zarr_format == 2 else None
    return Coding.of(dtype, dict(array.attrs), declared=declared, default=netcdf_fill(dtype))


def check_sizes(path: Path) -> None:
    """Raise StoreError if an array or one of its chunks declares more than the store, a folder or zip, holds."""
    held = size_of(path)
    for name, array in _arrays_in(path).items():
        for what, shape in ((name, array.shape), (f"one chunk of {name}", array.chunks)):
            require_held(path, what, shape, array.dtype.itemsize, held)


def check_chunks(path: Path, names: Iterable[str]) -> list[str]:
    """Return a remark for each of the arrays called `names` that lacks chunks which would read as a number.

    Raises:
        ValueError: if a chunk has not the length it should have.
    """
    arrays = _arrays_in(path)
    remarks = []
    for name in names:
        array = arrays[name]
        absent = array.nchunks - array.nchunks_initialized
        meant = _meant_by_fill(array)
        if absent and not np.isnan(meant):
            remarks.append(
                f"{absent} of {array.nchunks} chunks of '{name}' are not in '{path.name}' and read as {meant}."
            )
        compressors = getattr(array, "compressors", None) or (getattr(array, "compressor", None),)
        ends_in_blosc = "blosc" in type(compressors[-1]).__name__.lower() and getattr(array, "shards", None) is None
        if path.is_dir() and ends_in_blosc:
            _check_lengths(path / array.path)
    return remarks


def _meant_by_fill(array: Any) -> float:
    """Return the number as which a chunk that is not there is read, NaN if that stands for none."""
    fill, dtype = array.fill_value, np.dtype(array.dtype)
    if fill is None or dtype.kind not in NUMBERS:
        return float("nan")
    return float(_coding(array).decode(np.asarray(fill, dtype=dtype)))


def _check_lengths(folder: Path) -> None:
    for file in folder.rglob("*"):
        if file.name.startswith(".") or file.name == "zarr.json" or not file.is_file():
            continue
        with file.open("rb") as handle:
            header = handle.read(_BLOSC_HEADER)
        size, declared = file.stat().st_size, max(_BLOSC_HEADER, int.from_bytes(header[12:16], "little"))
        if size != declared:
            raise ValueError(f"its chunk '{file}' has {size} bytes and should have {declared}")
