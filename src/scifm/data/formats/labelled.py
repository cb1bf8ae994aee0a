"""NetCDF and Zarr through xarray: files whose dimensions have names.

Names tell which axis is what, else what the climate and forecast conventions say about a coordinate. Nothing is read
before it is asked for, and masked values are NaN. Times are told in seconds where the file tells their unit. In a
folder every file is a trajectory, unless its arrays have an axis of trajectories themselves; these are joined.

Classic NetCDF is read by SciPy alone: other libraries read zeros where a file was cut off.
"""

from __future__ import annotations

import warnings
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scifm.data.declared import require_held, size_of
from scifm.data.formats.axis_names import axis_of_attributes, axis_of_name
from scifm.data.formats.coding import Coding, netcdf_fill
from scifm.data.formats.contents import NUMBERS, Contents, LazyArray, read_whole, single_numbers
from scifm.data.formats.draft import draft_mapping
from scifm.data.formats.format import Format, unreadable, unreadable_array
from scifm.data.formats.hdf5 import open_hdf5
from scifm.data.formats.mapping import SPACE, DataMapping
from scifm.data.formats.members import NumberArray, group_by_split, join_arrays, joined_attributes
from scifm.data.formats.zarr_checks import check_chunks, check_sizes, writes_fill_as_attribute
from scifm.errors import ConfigError, DataError, SciFMError, StoreError

if TYPE_CHECKING:
    import xarray

__all__ = ["Labelled", "LabelledArray", "seconds_of"]

_NETCDF = (".nc", ".nc4", ".cdf")
_ZARR_MARKS = ("zarr.json", ".zmetadata", ".zgroup")
_CLASSIC, _CLASSIC_64 = (b"CDF\x01", b"CDF\x02"), b"CDF\x05"
_HDF5_MARK = b"\x89HDF"
_SECONDS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("ns", "nanosecond", "nanoseconds"), 1e-9),
}
_CIRCLE = 360.0


class LabelledArray:
    """A variable of an open file, read block by block; what was masked or never written is NaN.

    Args:
        path: of the file, for messages.
        name: of the variable.
        variable: xarray's, not read yet.
    """

    def __init__(self, path: Path, name: str, variable: xarray.Variable) -> None:
        self.path, self.name, self.variable = path, name, variable
        self.coding = _coding(path, variable)
        self.shape, self.dtype = tuple(variable.shape), self.coding.dtype

    def __getitem__(self, index: Any) -> np.ndarray:
        try:
            written = np.array(self.variable[index].values)
        except Exception as error:  # each engine and each way of compression has errors of its own
            raise unreadable_array(self.path, self.name, error) from error
        return self.coding.decode(written)


def _coding(path: Path, variable: xarray.Variable) -> Coding:
    dtype, attributes = np.dtype(variable.dtype), dict(variable.attrs)
    declared = None
    if _is_zarr(path) and not writes_fill_as_attribute(path):
        declared = attributes.pop("_FillValue", None)  # xarray's name for what the array itself declares
    return Coding.of(dtype, attributes, declared=declared, default=netcdf_fill(dtype))  # much Zarr was NetCDF once


def seconds_of(values: np.ndarray, units: str) -> tuple[np.ndarray, str | None]:
    """Return times in seconds since the first one, and what was done; as they are where the unit says nothing.

    Args:
        values: numbers in the file.
        units: its ``units``, such as ``hours since 2000-01-01``.
    """
    word, _, since = units.lower().partition(" since ")
    factor = _SECONDS.get(word.strip())
    if factor is None or (factor == 1.0 and not since):
        return values, None
    return (values - values[:1]) * factor, f"Times are in seconds since the first frame; the file tells '{units}'."


class _File:
    """One open file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.dataset = _open(path)
        self.arrays: dict[str, LazyArray] = {}
        self.axes: dict[str, tuple[str, ...]] = {}
        self.coordinates: dict[str, str] = {}
        self.periodic: dict[str, bool] = {}
        self.attributes: dict[str, float] = {}
        self.remarks: list[str] = []
        try:
            held = size_of(path)
            for name, variable in self.dataset.variables.items():
                require_held(path, str(name), variable.shape, variable.dtype.itemsize, held)
            self._list()
            if _is_zarr(path):
                self.remarks += check_chunks(path, self.arrays)
        except SciFMError:
            self.dataset.close()
            raise
        except Exception as error:  # each engine has errors of its own
            self.dataset.close()
            raise unreadable(path, "Zarr" if _is_zarr(path) else "NetCDF", error) from error

    def _list(self) -> None:
        variables = dict(self.dataset.variables)
        if _is_zarr(self.path):  # a folder has no order, and fields must not come in another one each time
            variables = dict(sorted(variables.items(), key=lambda item: str(item[0])))
        bounds = {str(v.attrs.get("bounds", "")) for v in variables.values()}
        self.kinds = {str(dim): self._kind(str(dim)) for dim in self.dataset.sizes}
        self.attributes |= single_numbers({str(key): value for key, value in self.dataset.attrs.items()})
        for name, variable in variables.items():
            name, dims = str(name), tuple(str(dim) for dim in variable.dims)
            if name in bounds or variable.dtype.kind not in NUMBERS:
                continue
            if not dims:
                self.attributes |= single_numbers({name: LabelledArray(self.path, name, variable)[()]})
            elif dims == (name,):
                self._coordinate(name, variable)
            elif name in self.dataset.coords and len(dims) > 1:
                self.remarks.append(f"The coordinate '{name}' has {len(dims)} axes; the grid is taken as rectangular.")
            else:
                self.arrays[name] = LabelledArray(self.path, name, variable)
                self.axes[name] = tuple(self.kinds[dim] or dim for dim in dims)

    def _kind(self, dim: str) -> str | None:
        told = axis_of_name(dim)
        if told is None and dim in self.dataset.variables:
            told = axis_of_attributes(self.dataset.variables[dim].attrs)
        return told or ("-" if self.dataset.sizes[dim] == 1 else None)

    def _coordinate(self, name: str, variable: xarray.Variable) -> None:
        axis = self.kinds[name]
        if axis not in ("time", *SPACE):
            return
        values = read_whole(LabelledArray(self.path, name, variable))
        units = str(variable.attrs.get("units", ""))
        if axis == "time":
            values, told = seconds_of(values, units)
            self.remarks += [told] if told else []
        elif len(values) > 1:
            step = (values[-1] - values[0]) / (len(values) - 1)
            if step < 0:
                self.remarks.append(f"{name} runs downward, from {values[0]:g} to {values[-1]:g}; the order is kept.")
            if units.lower().startswith("degree") and axis == "x" and np.isclose(abs(step) * len(values), _CIRCLE):
                self.periodic["x"] = True
        self.arrays[name], self.coordinates[axis] = values, name


class Labelled(Format):
    """NetCDF and Zarr."""

    name = "xarray"
    title = "NetCDF (.nc) or Zarr (.zarr), read by xarray"

    def sniff(self, path: Path) -> str | None:
        found = _members(path)
        if not found:
            return None
        kinds = sorted({"NetCDF" if member.suffix in _NETCDF else "Zarr" for member in found})
        return f"{len(found)} {' and '.join(kinds)} data set{'s' * (len(found) > 1)}"

    def read(self, path: Path) -> Contents:
        members = _members(path)
        if not members:
            raise StoreError(f"'{path}' holds neither NetCDF ({', '.join(_NETCDF)}) nor Zarr (.zarr).")
        groups, files = group_by_split(path, members), {member: _File(member) for member in members}
        first = files[members[0]]
        for file in files.values():
            if not file.arrays.keys() - file.coordinates.values():
                raise StoreError(f"'{file.path}' holds no arrays of numbers.{_groups_in(file.path)}")
        joining = any("trajectory" in axes for axes in first.axes.values())
        many = len(members) > 1 and max(map(len, groups.values())) > 1
        attributes, varying = joined_attributes({member: file.attributes for member, file in files.items()})
        parts = {}
        for part, own in groups.items():
            found = [files[member].arrays for member in own]
            if many and not joining:
                found = [
                    f | {k: NumberArray(v[m]) for k, v in varying.items()} for f, m in zip(found, own, strict=True)
                ]
            parts[part] = self._join(own, found, first) if many else dict(found[0])
        axes = dict(first.axes)
        if many and not joining:
            axes = {name: ("trajectory", *own) for name, own in axes.items()} | dict.fromkeys(varying, ("trajectory",))
        names = next(iter(parts.values()))
        return Contents(
            path,
            tuple(_identity(member) for member in members),
            parts,
            attributes,
            axes={name: own for name, own in axes.items() if name in names},
            coordinates=first.coordinates,
            periodic=first.periodic,
            remarks=tuple(dict.fromkeys(remark for file in files.values() for remark in file.remarks)),
            close=partial(_close, [file.dataset for file in files.values()]),
        )

    @staticmethod
    def _join(members: list[Path], found: list[dict[str, LazyArray]], first: _File) -> dict[str, LazyArray]:
        shared = first.coordinates.values()
        counted = {name for name, axes in first.axes.items() if "trajectory" in axes}
        for name in counted:
            if first.axes[name][0] != "trajectory":
                raise DataError(
                    f"Trajectories of '{name}' do not lie along its first axis, {first.axes[name]}, and there are "
                    f"several files in '{members[0].parent}'. Give one file, or bring that axis to the front."
                )
        if counted:  # what has no trajectories cannot be told from many files
            found = [{name: a for name, a in own.items() if name in counted or name in shared} for own in found]
        return join_arrays(members, found, along_first=counted, shared=shared)

    def propose(self, contents: Contents) -> DataMapping:
        return draft_mapping(contents, self.name).complete()


def _close(datasets: list[Any]) -> None:
    for dataset in datasets:
        dataset.close()


def _is_zarr(path: Path) -> bool:
    if path.is_dir():
        return path.suffix == ".zarr" or any((path / mark).is_file() for mark in _ZARR_MARKS)
    return path.name.endswith(".zarr.zip")


def _members(path: Path) -> list[Path]:
    """Return the data sets at or under a path; a Zarr store is one, whatever it holds."""
    if _is_zarr(path) or (path.is_file() and path.suffix in _NETCDF):
        return [path]
    if not path.is_dir():
        return []
    inner = sorted(child for child in path.iterdir() if not child.name.startswith("."))
    return [member for child in inner for member in _members(child)]


def _identity(path: Path) -> Path:
    """Return the file by which a data set is known again."""
    return next((path / mark for mark in _ZARR_MARKS if (path / mark).is_file()), path)


def _engine(path: Path) -> str:
    if _is_zarr(path):
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
    if start != _HDF5_MARK:
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


def _open(path: Path) -> xarray.Dataset:
    """Open one data set, nothing of its arrays read.

    Raises:
        StoreError: if it is truncated, damaged or of another kind.
        ConfigError: if a package to read it is missing.
    """
    try:
        engine = _engine(path)
        import xarray

        if engine == "zarr":
            check_sizes(path)
        source: Any = path
        if engine == "zarr" and path.is_file():
            from zarr.storage import ZipStore

            source = ZipStore(path, mode="r")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about how the file was written; nothing a user can change here
            return xarray.open_dataset(
                source, engine=engine, cache=False, mask_and_scale=False, decode_times=False, decode_timedelta=False
            )
    except (StoreError, ConfigError):
        raise
    except Exception as error:  # each engine has errors of its own
        raise unreadable(path, "Zarr" if _is_zarr(path) else "NetCDF", error) from error


def _groups_in(path: Path) -> str:
    import h5py

    if path.is_dir() or not h5py.is_hdf5(path):
        return ""
    with h5py.File(path, "r") as file:
        groups = [name for name, node in file.items() if isinstance(node, h5py.Group)]
    if not groups:
        return ""
    return f" What lies in groups ({', '.join(groups)}) is not read: copy a group to a file of its own."
