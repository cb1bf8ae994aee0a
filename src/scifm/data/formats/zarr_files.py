"""Zarr: what a store holds, and what zarr does not say by itself: chunks that are not there, or were cut off.

A chunk that is not there reads as the fill value. A chunk that Blosc packed and that was cut off may unpack to whatever
lies behind it in memory, without an error, so its length is compared with what its own header says.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from scifm.data.declared import require_held, size_of
from scifm.data.formats.coding import Coding, netcdf_fill
from scifm.data.formats.format import NUMBERS, LazyArray, StoredArray
from scifm.data.formats.kinds import natural
from scifm.data.formats.listing import Dimension, Node, texts_of
from scifm.data.well import OpenFiles
from scifm.errors import ConfigError

__all__ = ["OpenZarr", "names_axes", "zarr_nodes"]

_BLOSC_HEADER = 16


class OpenZarr:
    """A store that is open: its arrays by name, and itself where it is an array."""

    def __init__(self, path: Path) -> None:
        self.root = _open(path)

    def __getitem__(self, name: str) -> Any:
        return self.root[name] if name else self.root

    def close(self) -> None:
        """Close it."""
        self.root.store.close()


def zarr_nodes(path: Path, pool: OpenFiles) -> Iterator[Node]:
    """Yield what a Zarr store holds, nothing of its arrays read yet; `pool` opens it as `OpenZarr`.

    Raises:
        StoreError: if it declares more than it holds.
        ValueError: if a chunk has not the length it should have.
        ConfigError: if the package that reads it is missing.
    """
    if find_spec("zarr") is None:
        raise ConfigError(f"'{path}' is Zarr, which needs the package zarr: pip install 'scifm[formats]'.")
    root, held = _open(path), size_of(path)
    nodes = dict(_walk(root))
    for name, node in nodes.items():
        if hasattr(node, "arrays"):
            yield Node.of_attributes(name, dict(node.attrs))
            continue
        for what, shape in ((name, node.shape), (f"one chunk of {name}", node.chunks)):
            require_held(path, what, shape, node.dtype.itemsize, held)
        coding = _coding(node)
        if node.shape == ():
            array: LazyArray = np.asarray(coding.decode(np.asarray(node[()])))
        else:
            array = StoredArray(pool, path, name, tuple(node.shape), coding)
        group, words = name.rpartition("/")[0], _dimension_names(node)
        own = [(word, f"{group}/{word}".lstrip("/")) for word in words or ()]
        dimensions = [Dimension((word,), (line,) if line in nodes else ()) for word, line in own]
        yield Node(
            name or "data",
            array,
            texts=texts_of(node.attrs),
            dimensions=None if words is None else tuple(dimensions),
            remarks=tuple(_gaps(path, name or "data", node, coding)),
        )


def names_axes(path: Path) -> bool:
    """Return whether the axes of all arrays of a store have names."""
    return None not in (_dimension_names(node) for _, node in _walk(_open(path)) if not hasattr(node, "arrays"))


def _open(path: Path) -> Any:
    """Return the root of a store, a folder or a zip file: a group or an array of zarr."""
    import zarr

    return zarr.open(zarr.storage.ZipStore(path, mode="r") if path.is_file() else str(path), mode="r")


def _walk(node: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield name and node of a group and of all groups and arrays in it, in natural order; the root's name is empty."""
    yield name, node
    if hasattr(node, "arrays"):
        for key, child in sorted([*node.arrays(), *node.groups()], key=lambda item: natural(item[0])):
            yield from _walk(child, f"{name}/{key}".lstrip("/"))


def _dimension_names(array: Any) -> tuple[str, ...] | None:
    """Return the names of the axes of an array; None unless each has one."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    if names is None:
        return None if array.shape else ()
    return None if len(names) != len(array.shape) or None in names else tuple(names)


def _coding(array: Any) -> Coding:
    """Return how an array is written. What stands for none, Zarr 2 declares by array and Zarr 3 in an attribute."""
    dtype, attributes = np.dtype(array.dtype), dict(array.attrs)
    if array.metadata.zarr_format == 2:
        return Coding.of(dtype, attributes, declared=array.fill_value, default=netcdf_fill(dtype))
    fill = attributes.get("_FillValue")
    if dtype.kind == "f" and isinstance(fill, str):  # xarray writes the eight bytes of a float, NaN or not, as a text
        attributes["_FillValue"] = struct.unpack("<d", base64.b64decode(fill))[0]
    return Coding.of(dtype, attributes, default=netcdf_fill(dtype))


def _gaps(path: Path, name: str, array: Any, coding: Coding) -> Iterator[str]:
    """Yield a remark where an array lacks chunks which would read as a number; ValueError where one was cut off."""
    dtype = np.dtype(array.dtype)
    if dtype.kind not in NUMBERS or not array.shape:
        return
    absent = array.nchunks - array.nchunks_initialized
    meant = np.nan if array.fill_value is None else coding.decode(np.asarray(array.fill_value, dtype=dtype))
    if absent and not np.isnan(meant):
        yield f"{absent} of {array.nchunks} chunks of '{name}' are not in '{path.name}' and read as {float(meant)}."
    compressors = getattr(array, "compressors", None) or (getattr(array, "compressor", None),)
    ends_in_blosc = "blosc" in type(compressors[-1]).__name__.lower() and getattr(array, "shards", None) is None
    if path.is_dir() and ends_in_blosc:
        _check_lengths(path / array.path)


def _check_lengths(folder: Path) -> None:
    for file in folder.rglob("*"):
        if file.name.startswith(".") or file.name == "zarr.json" or not file.is_file():
            continue
        with file.open("rb") as handle:
            header = handle.read(_BLOSC_HEADER)
        size, declared = file.stat().st_size, max(_BLOSC_HEADER, int.from_bytes(header[12:16], "little"))
        if size != declared:
            raise ValueError(f"its chunk '{file}' has {size} bytes and should have {declared}")
