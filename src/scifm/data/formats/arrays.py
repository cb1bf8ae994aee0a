"""Plain arrays: NumPy's ``.npy`` and ``.npz``, HDF5 of any layout (MATLAB 7.3 is such), Zarr without names of axes.

They seldom say which axis is what. Where the arrays include coordinates (``t``, ``x``, …) of different lengths, or an
HDF5 file labels its dimensions or attaches scales to them, axes follow from these; otherwise a mapping has to be
written.

In a folder every file is one trajectory, in natural order. Names of ``.npy`` files tell arrays and trajectories:
``u_000.npy``, ``u_001.npy`` are two trajectories of ``u``; ``train_u.npy`` is the array ``u`` of the training split.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

from scifm.data.formats.axes import axis_of_name
from scifm.data.formats.format import Contents, Format, opening, single_numbers
from scifm.data.formats.hdf5 import hdf5_piece, open_hdf5
from scifm.data.formats.joining import join_pieces
from scifm.data.formats.kinds import data_sets_under, kind_of, required, split_words
from scifm.data.formats.mapping import DataMapping
from scifm.data.formats.numpy_files import Unpacked, open_npy, open_npz
from scifm.data.formats.pieces import Piece
from scifm.data.formats.proposal import Proposal
from scifm.data.formats.zarr_files import OpenZarr, zarr_piece
from scifm.data.well import OpenFiles
from scifm.errors import StoreError

__all__ = ["Arrays"]

_TITLES = {"npy": "a NumPy array", "npz": "a NumPy archive", "hdf5": "HDF5", "zarr": "Zarr"}


class Arrays(Format):
    """NumPy files, plain HDF5 and plain Zarr."""

    name = "arrays"
    title = "NumPy arrays (.npy, .npz), plain HDF5 (.h5, .hdf5, MATLAB 7.3) or plain Zarr"
    needs_map = True

    def sniff(self, path: Path) -> str | None:
        files = data_sets_under(path, _TITLES)
        if not files:
            return None
        kinds = sorted({str(kind_of(file)) for file in files})
        return f"{len(files)} file{'s' * (len(files) > 1)} of plain arrays ({', '.join(kinds)})"

    def read(self, path: Path) -> Contents:
        files = required(path, _TITLES, "NumPy, HDF5 or Zarr")
        kinds = {str(kind_of(file)) for file in files}
        if len(kinds) > 1:
            raise StoreError(
                f"'{path}' holds files of several kinds ({', '.join(sorted(kinds))}); give the folder or file of one."
            )
        kind = kinds.pop()
        openers = {"hdf5": partial(open_hdf5, linked=False), "npz": Unpacked, "zarr": OpenZarr}
        pool = OpenFiles(openers[kind]) if kind in openers else OpenFiles()
        pieces = [_piece(file, kind, pool, alone=len(files) == 1) for file in files]
        return join_pieces(path, files, pieces, close=pool.close)

    def propose(self, contents: Contents) -> DataMapping:
        return Proposal(contents, self.name).complete()


def _piece(path: Path, kind: str, pool: OpenFiles, *, alone: bool) -> Piece:
    """Return what one file holds.

    Raises:
        StoreError: if it is truncated, damaged, or holds no numbers.
    """
    with opening(path, _TITLES[kind]):
        if kind == "npy":
            name = path.stem if alone else _name_of_npy(path)
            piece = Piece(path, {name: open_npy(path, name)})
        elif kind == "npz":
            arrays, remarks = open_npz(path, pool)
            numbers = single_numbers({name: array[()] for name, array in arrays.items() if array.shape == ()})
            arrays = {name: array for name, array in arrays.items() if name not in numbers}
            piece = Piece(path, arrays, numbers=numbers, remarks=remarks)
        else:
            piece = hdf5_piece(path, pool) if kind == "hdf5" else zarr_piece(path, pool)
    if not piece.arrays and not piece.numbers:
        raise StoreError(" ".join([f"'{path}' holds no arrays of numbers.", *piece.remarks]))
    lines = {axis_of_name(name): name for name, array in piece.arrays.items() if len(array.shape) == 1}
    named = {axis: name for axis, name in lines.items() if axis not in (None, "trajectory", "channel")}
    return replace(piece, coordinates={**{str(axis): name for axis, name in named.items()}, **piece.coordinates})


def _name_of_npy(path: Path) -> str:
    """Return what the array in an ``.npy`` file is called: its name or else its folder's, without number and split."""
    for text in (path.stem, path.parent.name):
        name = re.sub(r"[_\-.]?\d+$", "", split_words(text)[1])
        if name:
            return name
    return "data"
