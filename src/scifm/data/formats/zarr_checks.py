"""What Zarr does not say about a store by itself: chunks that are not there, and chunks that were cut off.

A chunk that is not there reads as the fill value. A chunk that Blosc packed and that was cut off may unpack to whatever
lies behind it in memory, without an error, so its length is compared with what its own header says.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from scifm.data.declared import require_held, size_of
from scifm.data.formats.coding import Coding, netcdf_fill
from scifm.data.formats.contents import NUMBERS

__all__ = ["check_chunks", "check_sizes", "writes_fill_as_attribute"]

_BLOSC_HEADER = 16


def _group(path: Path) -> Any:
    import zarr

    store = zarr.storage.ZipStore(path, mode="r") if path.is_file() else str(path)
    return zarr.open_group(store, mode="r")


def writes_fill_as_attribute(path: Path) -> bool:
    """Return whether a store tells in attributes what stands for no number (Zarr 3), not by the arrays' fill value."""
    return bool(_group(path).metadata.zarr_format > 2)


def check_sizes(path: Path) -> None:
    """Check that neither an array nor one of its chunks declares more than the store holds.

    Args:
        path: of the store, a folder or a zip file.

    Raises:
        StoreError: if one does.
    """
    held = size_of(path)
    for name, array in _group(path).arrays():
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
    group = _group(path)
    remarks = []
    for name in names:
        array: Any = group[name]
        absent = array.nchunks - array.nchunks_initialized
        meant = _meant_by_fill(array)
        if absent and not np.isnan(meant):
            remarks.append(
                f"{absent} of {array.nchunks} chunks of '{name}' are not in '{path.name}' and read as {meant}."
            )
        if path.is_dir() and _ends_in_blosc(array):
            _check_lengths(path / name)
    return remarks


def _meant_by_fill(array: Any) -> float:
    """Return the number as which a chunk that is not there is read, NaN if that stands for none."""
    fill, own = array.fill_value, array.metadata.zarr_format == 2
    dtype = np.dtype(array.dtype)
    if fill is None or dtype.kind not in NUMBERS:
        return float("nan")
    coding = Coding.of(dtype, dict(array.attrs), declared=fill if own else None, default=netcdf_fill(dtype))
    return float(coding.decode(np.asarray(fill, dtype=dtype)))


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
