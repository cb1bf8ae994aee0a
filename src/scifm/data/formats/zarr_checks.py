"""What Zarr does not say about a store by itself: chunks that are not there, and chunks that were cut off.

A chunk that is not there reads as the fill value. A chunk that Blosc packed and that was cut off may unpack to whatever
lies behind it in memory, without an error, so its length is compared with what its own header says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scifm.data.declared import require_held, size_of
from scifm.data.formats.coding import Coding, netcdf_fill
from scifm.data.formats.contents import NUMBERS
from scifm.data.formats.kinds import natural

__all__ = [
    "arrays_in",
    "check_chunks",
    "check_sizes",
    "coding_of_zarr",
    "names_axes",
    "open_zarr",
    "walk_zarr",
    "writes_fill_as_attribute",
]

_BLOSC_HEADER = 16


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


def arrays_in(path: Path) -> dict[str, Any]:
    """Return the arrays of a store by name, groups included; an array that is a store itself is called ``data``."""
    return {name or "data": node for name, node in walk_zarr(open_zarr(path)) if not hasattr(node, "arrays")}


def names_axes(path: Path) -> bool:
    """Return whether the axes of all arrays of a store have names, as xarray needs them."""
    return all(_named(array) for array in arrays_in(path).values())


def _named(array: Any) -> bool:
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    return names is not None and len(names) == len(array.shape) and None not in names


def writes_fill_as_attribute(path: Path) -> bool:
    """Return whether a store tells in attributes what stands for no number (Zarr 3), not by the arrays' fill value."""
    return bool(open_zarr(path).metadata.zarr_format > 2)


def check_sizes(path: Path) -> None:
    """Check that neither an array nor one of its chunks declares more than the store holds.

    Args:
        path: of the store, a folder or a zip file.

    Raises:
        StoreError: if one does.
    """
    held = size_of(path)
    for name, array in arrays_in(path).items():
        for what, shape in ((name, array.shape), (f"one chunk of {name}", array.chunks)):
            require_held(path, what, shape, array.dtype.itemsize, held)


def check_chunks(path: Path, names: Iterable[str]) -> list[str]:
    """Return a remark for each array that lacks chunks which would read as a number.

    Args:
        path: of the store, a folder or a zip file.
        names: of the arrays looked at.

    Raises:
        ValueError: if a chunk has not the length it should have.
    """
    arrays = arrays_in(path)
    remarks = []
    for name in names:
        array = arrays[name]
        absent = array.nchunks - array.nchunks_initialized
        meant = _meant_by_fill(array)
        if absent and not np.isnan(meant):
            remarks.append(
                f"{absent} of {array.nchunks} chunks of '{name}' are not in '{path.name}' and read as {meant}."
            )
        if path.is_dir() and _ends_in_blosc(array):
            _check_lengths(path / array.path)
    return remarks


def coding_of_zarr(array: Any) -> Coding:
    """Return how the numbers of an array of zarr are written."""
    dtype, own = np.dtype(array.dtype), array.metadata.zarr_format == 2
    declared = array.fill_value if own else None
    return Coding.of(dtype, dict(array.attrs), declared=declared, default=netcdf_fill(dtype))


def _meant_by_fill(array: Any) -> float:
    """Return the number as which a chunk that is not there is read, NaN if that stands for none."""
    fill, dtype = array.fill_value, np.dtype(array.dtype)
    if fill is None or dtype.kind not in NUMBERS:
        return float("nan")
    return float(coding_of_zarr(array).decode(np.asarray(fill, dtype=dtype)))


def _ends_in_blosc(array: Any) -> bool:
    compressors = getattr(array, "compressors", None) or (getattr(array, "compressor", None),)
    return "blosc" in type(compressors[-1]).__name__.lower() and getattr(array, "shards", None) is None


def _check_lengths(folder: Path) -> None:
    for file in folder.rglob("*"):
        if file.name.startswith(".") or file.name == "zarr.json" or not file.is_file():
            continue
        with file.open("rb") as handle:
            header = handle.read(_BLOSC_HEADER)
        size, declared = file.stat().st_size, max(_BLOSC_HEADER, int.from_bytes(header[12:16], "little"))
        if size != declared:
            raise ValueError(f"its chunk '{file}' has {size} bytes and should have {declared}")
