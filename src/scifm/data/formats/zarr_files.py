"""Plain Zarr: arrays without names of axes, read by zarr itself."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from scifm.data.formats.coding import Coding
from scifm.data.formats.contents import NUMBERS, LazyArray, single_numbers
from scifm.data.formats.pieces import Piece
from scifm.data.formats.zarr_checks import check_chunks, check_sizes, coding_of_zarr, open_zarr, walk_zarr
from scifm.errors import ConfigError

__all__ = ["ZarrArray", "require_zarr", "zarr_piece"]


@dataclass(frozen=True)
class ZarrArray:
    """An array of a Zarr store. Safe to hand to worker processes.

    Args:
        path: of the store.
        name: of the array inside the store; empty where the store is the array.
        shape: length of each axis.
        coding: how its numbers are written.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    coding: Coding

    @property
    def dtype(self) -> np.dtype:
        """Type of the numbers."""
        return self.coding.dtype

    def __getitem__(self, index: Any) -> np.ndarray:
        root = open_zarr(self.path)
        return self.coding.decode(np.asarray((root[self.name] if self.name else root)[index]))


def require_zarr(path: Path) -> None:
    """Raise ConfigError if the package that reads Zarr is missing; says how to get it."""
    if find_spec("zarr") is None:
        raise ConfigError(f"'{path}' is Zarr, which needs the package zarr: pip install 'scifm[formats]'.")


def zarr_piece(path: Path) -> Piece:
    """Return what a Zarr store holds; nothing of its arrays is read yet.

    Raises:
        StoreError: if it declares more than it holds.
        ConfigError: if the package that reads it is missing.
    """
    require_zarr(path)
    check_sizes(path)
    arrays: dict[str, LazyArray] = {}
    numbers: dict[str, float] = {}
    remarks = []
    for name, node in walk_zarr(open_zarr(path)):
        if hasattr(node, "arrays"):
            numbers |= {f"{name}/{key}".lstrip("/"): value for key, value in single_numbers(dict(node.attrs)).items()}
        elif np.dtype(node.dtype).kind not in NUMBERS:
            remarks.append(f"'{name}' of '{path.name}' holds {node.dtype}, not real numbers; it is left out.")
        elif node.shape == ():
            numbers |= single_numbers({name: coding_of_zarr(node).decode(np.asarray(node[()]))})
        else:
            arrays[name or "data"] = ZarrArray(path, name, tuple(node.shape), coding_of_zarr(node))
    return Piece(path, arrays, numbers=numbers, remarks=(*remarks, *check_chunks(path, arrays)))
