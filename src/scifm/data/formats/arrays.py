"""Arrays with names, in files of any kind: NumPy, HDF5 (MATLAB 7.3 is such), Zarr and NetCDF.

All kinds tell the same, as nodes (`scifm.data.formats.listing`), and are two formats for what is to be asked a user.
In NetCDF, and Zarr whose dimensions have names, every axis is known by name. Elsewhere files seldom say which axis is
what. Where the arrays include coordinates (``t``, ``x``, …) of different lengths, or an HDF5 file labels its dimensions
or attaches scales to them, axes follow from these; otherwise a mapping has to be written.

In a folder every file is one trajectory, in natural order, unless its arrays have an axis of trajectories themselves;
these are joined. Names of ``.npy`` files tell arrays and trajectories: ``u_000.npy``, ``u_001.npy`` are two
trajectories of ``u``; ``train_u.npy`` is the array ``u`` of the training split.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py

from scifm.data.formats.format import Contents, Format, opening
from scifm.data.formats.hdf5 import NETCDF_ENDINGS, hdf5_nodes, is_netcdf4, open_unlinked
from scifm.data.formats.joining import join_pieces
from scifm.data.formats.kinds import data_sets_under, kind_of, required, split_words
from scifm.data.formats.listing import Node, piece_of
from scifm.data.formats.mapping import DataMapping
from scifm.data.formats.netcdf import OpenClassic, classic_nodes
from scifm.data.formats.npy import Unpacked, npy_node, npz_nodes
from scifm.data.formats.pieces import Piece
from scifm.data.formats.probe import require_sound
from scifm.data.formats.proposal import Proposal
from scifm.data.formats.zarr_files import OpenZarr, names_axes, zarr_nodes
from scifm.data.well import OpenFiles
from scifm.errors import StoreError

__all__ = ["Arrays", "Labelled"]

_PLAIN = ("npy", "npz", "hdf5", "zarr")
_TITLES = {"npy": "a NumPy array", "npz": "a NumPy archive", "hdf5": "HDF5", "zarr": "Zarr", "netcdf": "NetCDF"}
_OPENERS = {"hdf5": open_unlinked, "zarr": OpenZarr, "netcdf": OpenClassic}
_NODES = {"npz": npz_nodes, "hdf5": hdf5_nodes, "zarr": zarr_nodes, "netcdf": classic_nodes}


class Arrays(Format):
    """NumPy files, plain HDF5 and plain Zarr."""

    name = "arrays"
    title = "NumPy arrays (.npy, .npz), plain HDF5 (.h5, .hdf5, MATLAB 7.3) or plain Zarr"

    def sniff(self, path: Path) -> str | None:
        files = data_sets_under(path, _PLAIN)
        kinds = ", ".join(sorted({str(kind_of(file)) for file in files}))
        return f"{len(files)} file{'s' * (len(files) > 1)} of plain arrays ({kinds})" if files else None

    def read(self, path: Path) -> Contents:
        files = required(path, _PLAIN, "NumPy, HDF5 or Zarr")
        kinds = sorted({str(kind_of(file)) for file in files})
        if len(kinds) > 1:
            raise StoreError(
                f"'{path}' holds files of several kinds ({', '.join(kinds)}); give the folder or file of one."
            )
        return _contents(path, files)

    def propose(self, contents: Contents) -> DataMapping:
        return Proposal(contents, self.name).complete()


class Labelled(Arrays):
    """NetCDF and Zarr whose dimensions have names."""

    name = "xarray"
    title = "NetCDF (.nc) or Zarr (.zarr) whose dimensions have names"

    def sniff(self, path: Path) -> str | None:
        members = _labelled_under(path)
        kinds = " and ".join(sorted({"Zarr" if kind_of(member) == "zarr" else "NetCDF" for member in members}))
        return f"{len(members)} {kinds} data set{'s' * (len(members) > 1)}" if members else None

    def read(self, path: Path) -> Contents:
        members = _labelled_under(path)
        if not members:
            raise StoreError(
                f"'{path}' is or holds neither NetCDF ({', '.join(NETCDF_ENDINGS)}) nor Zarr whose axes have names."
            )
        return _contents(path, members)


def _labelled_under(path: Path) -> list[Path]:
    """Return the data sets at or under a path whose dimensions have names."""
    return [member for member in data_sets_under(path, ("netcdf", "hdf5", "zarr")) if _is_labelled(member)]


def _is_labelled(path: Path) -> bool:
    """Return whether a data set is NetCDF, or Zarr whose axes have names; what cannot be read is what it is called."""
    kind = kind_of(path)
    if kind == "netcdf":
        return True
    try:
        with opening(path, "one with names"):
            if kind == "zarr":
                return find_spec("zarr") is None or names_axes(path)
            require_sound(path)
            with h5py.File(path, "r") as file:
                return is_netcdf4(path, file)
    except StoreError:  # damaged in whatever way: reading it as what it is called says how
        return kind == "zarr" or path.suffix.lower() in NETCDF_ENDINGS


def _contents(path: Path, files: Sequence[Path]) -> Contents:
    pool = OpenFiles(_open)
    try:
        return join_pieces(path, files, [_piece(file, pool, alone=len(files) == 1) for file in files], close=pool.close)
    except BaseException:
        pool.close()
        raise


def _open(source: Any) -> Any:
    """Open a file, or what is packed in one, by the process that reads."""
    if not isinstance(source, Path):
        return Unpacked(source)
    return _OPENERS.get(str(kind_of(source)), open_unlinked)(source)  # one that is gone by now says so itself


def _piece(path: Path, pool: OpenFiles, *, alone: bool) -> Piece:
    """Return what one file holds.

    Raises:
        StoreError: if it is truncated, damaged, or holds no numbers.
    """
    kind = str(kind_of(path))
    with opening(path, _TITLES[kind]):
        nodes: Iterable[Node] = (
            [npy_node(path, path.stem if alone else _name_of_npy(path))] if kind == "npy" else _NODES[kind](path, pool)
        )
        piece = piece_of(path, nodes)
    if not piece.arrays and not piece.numbers:
        raise StoreError(" ".join([f"'{path}' holds no arrays of numbers.", *piece.remarks]))
    return piece


def _name_of_npy(path: Path) -> str:
    """Return what the array in an ``.npy`` file is called: its name or else its folder's, without number and split."""
    for text in (path.stem, path.parent.name):
        name = re.sub(r"[_\-.]?\d+$", "", split_words(text)[1])
        if name:
            return name
    return "data"
