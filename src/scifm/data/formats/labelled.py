"""NetCDF and Zarr through xarray: files whose dimensions have names.

Names tell which axis is what, else what the climate and forecast conventions say about a coordinate. Nothing is read
before it is asked for, and masked values are NaN. Times are told in seconds where the file tells their unit. In a
folder every file is a trajectory, unless its arrays have an axis of trajectories themselves; these are joined.

Classic NetCDF is read by SciPy alone: other libraries read zeros where a file was cut off.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import h5py
import numpy as np

from scifm.data.declared import require_held, size_of, walk_hdf5
from scifm.data.formats.axes import axis_of_attributes, axis_of_name, seconds_of
from scifm.data.formats.coding import Coding, netcdf_fill
from scifm.data.formats.format import NUMBERS, Contents, Format, StoredArray, opening, read_whole, single_numbers
from scifm.data.formats.hdf5 import NETCDF_ENDINGS, is_netcdf4, open_hdf5
from scifm.data.formats.joining import join_pieces
from scifm.data.formats.kinds import data_sets_under, is_hdf5, kind_of, natural
from scifm.data.formats.mapping import SPACE, DataMapping
from scifm.data.formats.pieces import Piece
from scifm.data.formats.probe import require_sound
from scifm.data.formats.proposal import Proposal
from scifm.data.formats.zarr_files import (
    check_chunks,
    check_sizes,
    names_axes,
    open_zarr,
    walk_zarr,
    writes_fill_as_attribute,
)
from scifm.data.well import OpenFiles
from scifm.errors import ConfigError, StoreError

if TYPE_CHECKING:
    import xarray

__all__ = ["Labelled", "Source"]

_CLASSIC, _CLASSIC_64 = (b"CDF\x01", b"CDF\x02"), b"CDF\x05"
_CIRCLE = 360.0


class Labelled(Format):
    """NetCDF and Zarr."""

    name = "xarray"
    title = "NetCDF (.nc) or Zarr (.zarr), read by xarray"

    def sniff(self, path: Path) -> str | None:
        members = _members(path)
        if not members:
            return None
        kinds = sorted(set(map(_title, members)))
        return f"{len(members)} {' and '.join(kinds)} data set{'s' * (len(members) > 1)}"

    def read(self, path: Path) -> Contents:
        members = _members(path)
        if not members:
            raise StoreError(
                f"'{path}' is or holds neither NetCDF ({', '.join(NETCDF_ENDINGS)}) nor Zarr whose axes have names."
            )
        pool = OpenFiles(_open)
        try:
            return join_pieces(path, members, [_piece(member, pool) for member in members], close=pool.close)
        except BaseException:
            pool.close()
            raise

    def propose(self, contents: Contents) -> DataMapping:
        return Proposal(contents, self.name).complete()


def _title(path: Path) -> str:
    return "Zarr" if kind_of(path) == "zarr" else "NetCDF"


def _members(path: Path) -> list[Path]:
    """Return the data sets at or under a path that are for xarray."""
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


# --- how a data set is opened -----------------------------------------------------------------------------------------


class Source(NamedTuple):
    """A data set that xarray opens: a file or folder, and a group in it; empty for the root."""

    path: Path
    group: str


def _open(source: Source) -> xarray.Dataset:
    """Open one data set or one group in it, nothing of its arrays read.

    Raises:
        StoreError: if it is truncated, damaged or of another kind.
        ConfigError: if a package to read it is missing.
    """
    path, group = source
    with opening(path, _title(path)):
        engine = _engine(path)
        import xarray

        place: Any = path
        if engine == "zarr":
            check_sizes(path)
            if path.is_file():
                from zarr.storage import ZipStore

                place = ZipStore(path, mode="r")
        options: dict[str, Any] = {"group": group} if group else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about how the file was written; nothing a user can change here
            return xarray.open_dataset(
                place,
                engine=engine,
                cache=False,
                mask_and_scale=False,
                decode_times=False,
                decode_timedelta=False,
                **options,
            )


def _engine(path: Path) -> str:
    if kind_of(path) == "zarr":
        return _installed(path, "Zarr", "zarr")
    with path.open("rb") as handle:
        start = handle.read(4)
    if start in _CLASSIC:
        return "scipy"
    if start == _CLASSIC_64:
        raise StoreError(
            f"'{path}' is NetCDF in the classic form with 64-bit sizes, which is not read here: nobody would notice if "
            "it were cut off. Convert it with 'nccopy -k nc4 IN.nc OUT.nc'."
        )
    if not is_hdf5(path):
        raise ValueError(f"it begins with {start!r}")
    open_hdf5(path).close()  # refuses what leads to other files or declares more than is there
    return _installed(path, "NetCDF 4", "h5netcdf", "netCDF4")


def _installed(path: Path, what: str, *packages: str) -> str:
    for package in packages:
        if find_spec(package) is not None:
            return package.lower()
    raise ConfigError(
        f"'{path}' is {what}, which needs the package {' or '.join(packages)}: pip install 'scifm[formats]'."
    )


def _groups_in(path: Path) -> list[str]:
    """Return the groups of a data set that hold arrays, in natural order."""
    if kind_of(path) == "zarr":
        nodes = walk_zarr(open_zarr(path))
        return [name for name, node in nodes if name and hasattr(node, "arrays") and any(node.arrays())]
    if not is_hdf5(path):
        return []
    with open_hdf5(path) as file:
        groups = {
            str(name).rpartition("/")[0] for name, node in walk_hdf5(path, file) if isinstance(node, h5py.Dataset)
        }
    return sorted(groups - {""}, key=natural)


# --- what a data set holds --------------------------------------------------------------------------------------------


def _piece(path: Path, pool: OpenFiles) -> Piece:
    """Return what one data set holds, groups included; what lies in groups is called ``group/name``.

    Raises:
        StoreError: if it is truncated, damaged or of another kind, or holds no numbers.
    """
    remarks = []
    with opening(path, _title(path)):
        whole = _Group(Source(path, ""), pool).listed()
        for group in _groups_in(path):
            inner = _Group(Source(path, group), pool).listed()
            whole |= inner.chosen({name: f"{group}/{name}" for name in (*inner.arrays, *inner.numbers)})
        if kind_of(path) == "zarr":
            remarks = check_chunks(path, whole.arrays)
    if not whole.content:
        raise StoreError(f"'{path}' holds no arrays of numbers.")
    return replace(whole, remarks=[*whole.remarks, *remarks])


class _Group:
    """One group of a data set while it is listed."""

    def __init__(self, source: Source, pool: OpenFiles) -> None:
        self.source, self.pool, self.path = source, pool, source.path
        self.dataset: xarray.Dataset = pool.get(source)
        self.is_zarr = kind_of(self.path) == "zarr"
        self.declares_fill = self.is_zarr and not writes_fill_as_attribute(self.path)
        self.piece = Piece(self.path)

    def listed(self) -> Piece:
        piece, variables = self.piece, dict(self.dataset.variables)
        if self.is_zarr:  # a folder has no order, and fields must not come in another one each time
            variables = dict(sorted(variables.items(), key=lambda item: natural(str(item[0]))))
        held = size_of(self.path)
        bounds = {str(v.attrs.get("bounds", "")) for v in variables.values()}
        kinds = {str(dim): self._kind(str(dim)) for dim in self.dataset.sizes}
        piece.numbers.update(single_numbers({str(key): value for key, value in self.dataset.attrs.items()}))
        for name, variable in variables.items():
            name, dims = str(name), tuple(str(dim) for dim in variable.dims)
            require_held(self.path, name, variable.shape, variable.dtype.itemsize, held)
            if name in bounds or variable.dtype.kind not in NUMBERS:
                continue
            array = StoredArray(self.pool, self.source, name, tuple(variable.shape), self._coding(variable))
            if not dims:
                piece.numbers.update(single_numbers({name: array[()]}))
            elif dims != (name,):
                piece.arrays[name] = array
                piece.axes[name] = tuple(kinds[dim] or dim for dim in dims)
            elif (axis := kinds[name]) in ("time", *SPACE):
                self._coordinate(name, axis, array, variable.attrs)
        return self._without_curves(piece.with_lines_of_meshes())

    def _kind(self, dim: str) -> str | None:
        axis = axis_of_name(dim)
        if axis is None and dim in self.dataset.variables:
            axis = axis_of_attributes(self.dataset.variables[dim].attrs)
        return axis or ("-" if self.dataset.sizes[dim] == 1 else None)

    def _coding(self, variable: xarray.Variable) -> Coding:
        """Return how a variable is written; ``_FillValue`` may be xarray's name for what the array itself declares."""
        dtype, attributes = np.dtype(variable.dtype), dict(variable.attrs)
        declared = attributes.pop("_FillValue", None) if self.declares_fill else None
        return Coding.of(dtype, attributes, declared=declared, default=netcdf_fill(dtype))  # Zarr was NetCDF often

    def _coordinate(self, name: str, axis: str, array: StoredArray, attributes: dict[Any, Any]) -> None:
        piece, values, units = self.piece, read_whole(array), str(attributes.get("units", ""))
        if axis == "time":
            calendar = str(attributes.get("calendar", "standard"))
            values, piece.origins[name], remark = seconds_of(values, units, calendar)
            piece.remarks.extend([remark] if remark is not None else [])
        elif len(values) > 1:
            step = (values[-1] - values[0]) / (len(values) - 1)
            if step < 0:
                piece.remarks.append(f"{name} runs downward, from {values[0]:g} to {values[-1]:g}; the order is kept.")
            if units.lower().startswith("degree") and axis == "x" and np.isclose(abs(step) * len(values), _CIRCLE):
                piece.periodic["x"] = True
        piece.arrays[name], piece.coordinates[axis] = values, name

    def _without_curves(self, piece: Piece) -> Piece:
        """Return the piece without coordinates of every grid point that are not those of a rectangular grid."""
        curved = [name for name in piece.arrays if name in self.dataset.coords and len(piece.arrays[name].shape) > 1]
        straight = piece.chosen({name: name for name in (*piece.arrays, *piece.numbers) if name not in curved})
        remarks = [
            f"The coordinate '{name}' varies along several axes; the grid is taken as rectangular." for name in curved
        ]
        return replace(straight, remarks=[*piece.remarks, *remarks])
