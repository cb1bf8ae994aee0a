"""NetCDF and Zarr through xarray: files whose dimensions have names.

Names tell which axis is what, else what the climate and forecast conventions say about a coordinate. Nothing is read
before it is asked for, and masked values are NaN. Times are told in seconds where the file tells their unit. In a
folder every file is a trajectory, unless its arrays have an axis of trajectories themselves; these are joined.

Classic NetCDF is read by SciPy alone: other libraries read zeros where a file was cut off.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import h5py
import numpy as np

from scifm.data.declared import require_held, size_of, walk_hdf5
from scifm.data.formats.axis_names import axis_of_attributes, axis_of_name
from scifm.data.formats.coding import Coding, netcdf_fill
from scifm.data.formats.contents import NUMBERS, Contents, LazyArray, read_whole, single_numbers
from scifm.data.formats.dates import origin_of, seconds_of
from scifm.data.formats.draft import draft_mapping
from scifm.data.formats.format import FOREIGN_ERRORS, Format, unreadable, unreadable_array
from scifm.data.formats.hdf5 import NETCDF_ENDINGS, is_netcdf4, open_hdf5
from scifm.data.formats.joining import join_pieces
from scifm.data.formats.kinds import data_sets_under, is_hdf5, kind_of, natural
from scifm.data.formats.mapping import SPACE, DataMapping
from scifm.data.formats.meshes import with_lines_of_meshes
from scifm.data.formats.pieces import Piece
from scifm.data.formats.scout import require_sound
from scifm.data.formats.zarr_checks import (
    check_chunks,
    check_sizes,
    names_axes,
    open_zarr,
    walk_zarr,
    writes_fill_as_attribute,
)
from scifm.data.well import OpenFiles
from scifm.errors import ConfigError, SciFMError, StoreError

if TYPE_CHECKING:
    import xarray

__all__ = ["Labelled", "LabelledArray", "Source"]

Value = TypeVar("Value")

_CLASSIC, _CLASSIC_64 = (b"CDF\x01", b"CDF\x02"), b"CDF\x05"
_CIRCLE = 360.0


class LabelledArray:
    """A variable of a file, read block by block; what was masked or never written is NaN.

    Args:
        files: keeps files open between reads.
        source: the file and the group in it.
        name: of the variable.
        variable: xarray's, not read yet.
        declares_fill: whether its ``_FillValue`` is what the array itself declares to be read where nothing was
            written (Zarr 2), which xarray tells under that name.
    """

    def __init__(
        self, files: OpenFiles, source: Source, name: str, variable: xarray.Variable, *, declares_fill: bool = False
    ) -> None:
        self.files, self.source, self.path, self.name = files, source, source.path, name
        self.coding = _coding(variable, declares_fill)
        self.shape, self.dtype = tuple(variable.shape), self.coding.dtype

    def __getitem__(self, index: Any) -> np.ndarray:
        try:
            written = np.array(self.files.get(self.source).variables[self.name][index].values)
        except Exception as error:  # each engine and each way of compression has errors of its own
            raise unreadable_array(self.path, self.name, error) from error
        return self.coding.decode(written)


def _coding(variable: xarray.Variable, declares_fill: bool) -> Coding:
    dtype, attributes = np.dtype(variable.dtype), dict(variable.attrs)
    declared = attributes.pop("_FillValue", None) if declares_fill else None
    return Coding.of(dtype, attributes, declared=declared, default=netcdf_fill(dtype))  # much Zarr was NetCDF once


class Source(NamedTuple):
    """A data set that xarray opens: a file or folder, and a group in it; empty for the root."""

    path: Path
    group: str


class _Group:
    """One group of a data set while it is listed."""

    def __init__(self, source: Source, pool: OpenFiles) -> None:
        self.source, self.pool, self.path = source, pool, source.path
        self.dataset: xarray.Dataset = pool.get(source)
        self.declares_fill = kind_of(self.path) == "zarr" and not writes_fill_as_attribute(self.path)
        self.arrays: dict[str, LazyArray] = {}
        self.axes: dict[str, tuple[str, ...]] = {}
        self.coordinates: dict[str, str] = {}
        self.periodic: dict[str, bool] = {}
        self.remarks: list[str] = []
        self.origins: dict[str, float] = {}

    def piece(self) -> Piece:
        variables = dict(self.dataset.variables)
        if kind_of(self.path) == "zarr":  # a folder has no order, and fields must not come in another one each time
            variables = dict(sorted(variables.items(), key=lambda item: natural(str(item[0]))))
        held = size_of(self.path)
        bounds = {str(v.attrs.get("bounds", "")) for v in variables.values()}
        self.kinds = {str(dim): self._kind(str(dim)) for dim in self.dataset.sizes}
        numbers = single_numbers({str(key): value for key, value in self.dataset.attrs.items()})
        for name, variable in variables.items():
            name, dims = str(name), tuple(str(dim) for dim in variable.dims)
            require_held(self.path, name, variable.shape, variable.dtype.itemsize, held)
            if name in bounds or variable.dtype.kind not in NUMBERS:
                continue
            if not dims:
                numbers |= single_numbers({name: self._array(name, variable)[()]})
            elif dims == (name,):
                self._coordinate(name, variable)
            else:
                self.arrays[name] = self._array(name, variable)
                self.axes[name] = tuple(self.kinds[dim] or dim for dim in dims)
        piece = with_lines_of_meshes(
            Piece(
                self.path,
                self.arrays,
                self.axes,
                self.coordinates,
                self.periodic,
                numbers,
                remarks=tuple(self.remarks),
                origins=self.origins,
            )
        )
        return self._without_curves(piece)

    def _without_curves(self, piece: Piece) -> Piece:
        """Return the piece without coordinates of every grid point that are not those of a rectangular grid."""
        curved = [name for name in piece.arrays if name in self.dataset.coords and len(piece.arrays[name].shape) > 1]
        told = [
            f"The coordinate '{name}' varies along several axes; the grid is taken as rectangular." for name in curved
        ]
        arrays = {name: array for name, array in piece.arrays.items() if name not in curved}
        axes = {name: axes for name, axes in piece.axes.items() if name in arrays}
        return replace(piece, arrays=arrays, axes=axes, remarks=(*piece.remarks, *told))

    def _kind(self, dim: str) -> str | None:
        told = axis_of_name(dim)
        if told is None and dim in self.dataset.variables:
            told = axis_of_attributes(self.dataset.variables[dim].attrs)
        return told or ("-" if self.dataset.sizes[dim] == 1 else None)

    def _array(self, name: str, variable: xarray.Variable) -> LabelledArray:
        return LabelledArray(self.pool, self.source, name, variable, declares_fill=self.declares_fill)

    def _coordinate(self, name: str, variable: xarray.Variable) -> None:
        axis = self.kinds[name]
        if axis not in ("time", *SPACE):
            return
        values = read_whole(self._array(name, variable))
        units = str(variable.attrs.get("units", ""))
        if axis == "time":
            self.origins[name] = origin_of(values, units, str(variable.attrs.get("calendar", "standard")))
            values, told = seconds_of(values, units)
            self.remarks += [told] if told else []
        elif len(values) > 1:
            step = (values[-1] - values[0]) / (len(values) - 1)
            if step < 0:
                self.remarks.append(f"{name} runs downward, from {values[0]:g} to {values[-1]:g}; the order is kept.")
            if units.lower().startswith("degree") and axis == "x" and np.isclose(abs(step) * len(values), _CIRCLE):
                self.periodic["x"] = True
        self.arrays[name], self.coordinates[axis] = values, name


def _piece(path: Path, pool: OpenFiles) -> Piece:
    """Return what one data set holds, groups included.

    Raises:
        StoreError: if it is truncated, damaged or of another kind, or holds no numbers.
    """
    what = "Zarr" if kind_of(path) == "zarr" else "NetCDF"
    try:
        pieces = {name: _Group(Source(path, name), pool).piece() for name in ("", *_groups_in(path))}
        remarks = check_chunks(path, _written(pieces)) if what == "Zarr" else []
    except SciFMError:
        raise
    except Exception as error:  # each engine has errors of its own
        raise unreadable(path, what, error) from error
    piece = _with_groups(pieces.pop(""), pieces)
    if not piece.content:
        raise StoreError(f"'{path}' holds no arrays of numbers.")
    return replace(piece, remarks=(*piece.remarks, *remarks))


def _written(pieces: Mapping[str, Piece]) -> list[str]:
    return [f"{group}/{name}".lstrip("/") for group, piece in pieces.items() for name in piece.arrays]


def _with_groups(root: Piece, groups: Mapping[str, Piece]) -> Piece:
    """Return the root with the arrays of its groups, called ``group/name``."""
    for group, piece in groups.items():

        def inside(entries: Mapping[str, Value], group: str = group) -> dict[str, Value]:
            return {f"{group}/{name}": value for name, value in entries.items()}

        told = {axis: f"{group}/{name}" for axis, name in piece.coordinates.items()}
        root = replace(
            root,
            arrays={**root.arrays, **inside(piece.arrays)},
            axes={**root.axes, **inside(piece.axes)},
            coordinates={**told, **root.coordinates},
            periodic={**piece.periodic, **root.periodic},
            numbers={**root.numbers, **inside(piece.numbers)},
            meshes={**root.meshes, **piece.meshes},
            origins={**root.origins, **inside(piece.origins)},
            remarks=tuple(dict.fromkeys((*root.remarks, *piece.remarks))),
        )
    return root


class Labelled(Format):
    """NetCDF and Zarr."""

    name = "xarray"
    title = "NetCDF (.nc) or Zarr (.zarr), read by xarray"

    def sniff(self, path: Path) -> str | None:
        found = _members(path)
        if not found:
            return None
        kinds = sorted({"Zarr" if kind_of(member) == "zarr" else "NetCDF" for member in found})
        return f"{len(found)} {' and '.join(kinds)} data set{'s' * (len(found) > 1)}"

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
        return draft_mapping(contents, self.name).complete()


def _members(path: Path) -> list[Path]:
    """Return the data sets at or under a path that are for xarray."""
    return [member for member in data_sets_under(path, ("netcdf", "hdf5", "zarr")) if _is_labelled(member)]


def _is_labelled(path: Path) -> bool:
    """Return whether a data set is NetCDF, or Zarr whose axes have names; what cannot be read is what it is called."""
    kind = kind_of(path)
    if kind == "netcdf":
        return True
    try:
        if kind == "zarr":
            return find_spec("zarr") is None or names_axes(path)
        require_sound(path)
        with h5py.File(path, "r") as file:
            return is_netcdf4(path, file)
    except (SciFMError, *FOREIGN_ERRORS):  # damaged in whatever way: reading it as what it is called says how
        return kind == "zarr" or path.suffix.lower() in NETCDF_ENDINGS


def _groups_in(path: Path) -> list[str]:
    """Return the groups of a data set that hold arrays, in natural order."""
    if kind_of(path) == "zarr":
        return [
            name for name, node in walk_zarr(open_zarr(path)) if name and hasattr(node, "arrays") and any(node.arrays())
        ]
    if not is_hdf5(path):
        return []
    with open_hdf5(path) as file:
        found = {str(name).rpartition("/")[0] for name, node in walk_hdf5(path, file) if isinstance(node, h5py.Dataset)}
    return sorted(found - {""}, key=natural)


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


def _open(source: Source) -> xarray.Dataset:
    """Open one data set or one group in it, nothing of its arrays read.

    Raises:
        StoreError: if it is truncated, damaged or of another kind.
        ConfigError: if a package to read it is missing.
    """
    path, group = source
    try:
        engine = _engine(path)
        import xarray

        if engine == "zarr":
            check_sizes(path)
        place: Any = path
        if engine == "zarr" and path.is_file():
            from zarr.storage import ZipStore

            place = ZipStore(path, mode="r")
        told: dict[str, Any] = {"engine": engine, "group": group} if group else {"engine": engine}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about how the file was written; nothing a user can change here
            return xarray.open_dataset(
                place, cache=False, mask_and_scale=False, decode_times=False, decode_timedelta=False, **told
            )
    except (StoreError, ConfigError):
        raise
    except Exception as error:  # each engine has errors of its own
        raise unreadable(path, "Zarr" if kind_of(path) == "zarr" else "NetCDF", error) from error
