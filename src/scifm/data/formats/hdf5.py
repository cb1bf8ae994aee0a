"""Foreign HDF5: opened when it is read; and what a file holds: arrays, numbers, what labels and scales tell.

NetCDF 4 is HDF5 whose dimensions are scales. MATLAB's files of version 7.3 are HDF5 with the axes in reverse: they are
told here in MATLAB's own order, its vectors (1, n) and numbers (1, 1) as what they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

from scifm.data.declared import open_checked, walk_hdf5
from scifm.data.formats.coding import Coding, netcdf_fill, text_of
from scifm.data.formats.format import NUMBERS, LazyArray, OneEntry, Reversed, StoredArray, opening
from scifm.data.formats.kinds import MATLAB_MARK, natural
from scifm.data.formats.listing import Dimension, Node, no_numbers, texts_of
from scifm.data.formats.probe import require_sound
from scifm.data.well import OpenFiles
from scifm.errors import StoreError

__all__ = [
    "NETCDF_ENDINGS",
    "Hdf5Array",
    "coding_of",
    "hdf5_nodes",
    "holds_numbers",
    "is_netcdf4",
    "open_hdf5",
    "open_unlinked",
    "sniff_hdf5",
    "unwritten",
]

NETCDF_ENDINGS = (".nc", ".nc4", ".cdf", ".netcdf")
"""How names of NetCDF files end."""

_NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable"
_OF_A_DIMENSION = "_nc4_non_coord_"  # before the name of a variable that is called like a dimension of others
_NO_NUMBERS = (b"char", b"cell", b"struct", b"function_handle")  # MATLAB's classes

Answer = TypeVar("Answer")


class Hdf5Array(StoredArray):
    """A data set of an HDF5 file."""

    @classmethod
    def of(cls, files: OpenFiles, path: Path, data: h5py.Dataset, *, netcdf: bool = False) -> Hdf5Array:
        """Return the array of an open data set."""
        return cls(files, path, str(data.name).lstrip("/"), tuple(data.shape), coding_of(data, netcdf=netcdf))

    def written(self, index: Any) -> Any:
        data = self.files.get(self.source)[self.name]
        try:
            return data[index]
        except OSError as error:
            plan = data.id.get_create_plist()
            filters = [plan.get_filter(place) for place in range(plan.get_nfilters())]
            missing = [
                f"the filter {name.decode(errors='replace') or 'without a name'} ({code})"
                for code, _, _, name in filters
                if not h5py.h5z.filter_avail(code)
            ]
            if not missing:
                raise
            raise StoreError(
                f"'{self.name}' of '{self.path}' is compressed with {', '.join(missing)}, which HDF5 cannot read here. "
                "pip install hdf5plugin brings the usual filters; or write the file anew with gzip: h5repack -f GZIP=4."
            ) from error


def coding_of(data: h5py.Dataset, *, netcdf: bool = False) -> Coding:
    """Return how the numbers of an open data set are written, of one of NetCDF with what that puts where none is."""
    plan = data.id.get_create_plist()
    declared = data.dtype.itemsize > 1 and plan.fill_value_defined() == h5py.h5d.FILL_VALUE_USER_DEFINED
    default = netcdf_fill(data.dtype) if netcdf else None
    return Coding.of(data.dtype, data.attrs, declared=data.fillvalue.item() if declared else None, default=default)


def unwritten(data: h5py.Dataset, *, netcdf: bool = False) -> str | None:
    """Return how much of an open data set was never written, and what is read there; None where all of it was."""
    if not data.size or data.id.get_space_status() == h5py.h5d.SPACE_STATUS_ALLOCATED:
        return None
    meant = coding_of(data, netcdf=netcdf).decode(np.asarray(data.fillvalue))
    if data.chunks is None or not data.id.get_storage_size():
        return f"was never written; it reads as {meant}"
    count = math.prod(-(-length // chunk) for length, chunk in zip(data.shape, data.chunks, strict=True))
    absent = count - data.id.get_num_chunks()
    return f"lacks {absent} of its {count} chunks, which were never written and read as {meant}" if absent else None


def _type_of(data: h5py.Dataset) -> np.dtype | None:
    """Return the type of an open data set; None where NumPy has no such, as for HDF5's times."""
    try:
        dtype: np.dtype = data.dtype
    except TypeError:
        return None
    return dtype


def holds_numbers(node: object) -> bool:
    """Return whether something in an HDF5 file is an array of real numbers with at least one axis."""
    if not isinstance(node, h5py.Dataset) or not node.shape:
        return False
    dtype = _type_of(node)
    return dtype is not None and dtype.kind in NUMBERS


def open_hdf5(path: Path, *, linked: bool = True) -> h5py.File:
    """Open a foreign HDF5 file for reading.

    Where arrays are not `linked`, the caller leaves out those whose numbers lie in other files; else they are refused.

    Raises:
        StoreError: if it is missing, truncated, not HDF5, leads to other files, or declares more than it holds.
    """
    with opening(path, "HDF5"):
        require_sound(path)
        return open_checked(path, linked=linked)


def open_unlinked(path: Path) -> h5py.File:
    """Open a foreign HDF5 file of which arrays that lie in other files are left out."""
    return open_hdf5(path, linked=False)


def is_netcdf4(path: Path, file: h5py.File) -> bool:
    """Return whether an HDF5 file is NetCDF 4: it says so, or is called so and has its dimensions."""
    if "_NCProperties" in file.attrs:
        return True
    nodes = (file.get(name) for name in file) if path.suffix.lower() in NETCDF_ENDINGS else ()
    return any(isinstance(node, h5py.Dataset) and _is_scale(node) for node in nodes)


def sniff_hdf5(files: Iterable[Path], look: Callable[[h5py.File], Answer | None]) -> set[Answer] | None:
    """Return what `look` says of all files; None if it says None of one, one is no sound HDF5, or there are none.

    NetCDF 4 is not shown to it: that is HDF5 underneath, and may use any names.
    """
    answers: set[Answer] = set()
    for path in files:
        try:
            require_sound(path)
            with h5py.File(path, "r") as file:
                answer = None if is_netcdf4(path, file) else look(file)
        except (OSError, RuntimeError, KeyError, ValueError):  # truncated or not HDF5: not for us to say
            return None
        if answer is None:
            return None
        answers.add(answer)
    return answers or None


# --- what a file holds ------------------------------------------------------------------------------------------------


def hdf5_nodes(path: Path, pool: OpenFiles) -> Iterator[Node]:
    """Yield what an HDF5 file holds, nothing of its arrays read yet; `pool` opens it as `open_unlinked` does.

    Raises:
        StoreError: if it is truncated, damaged, or leads to another file.
    """
    with path.open("rb") as handle:
        matlab = handle.read(len(MATLAB_MARK)) == MATLAB_MARK
    with open_unlinked(path) as file:
        netcdf = is_netcdf4(path, file)
        yield Node.of_attributes("", file.attrs)
        nodes: dict[str, Any] = {}
        for name, node in walk_hdf5(path, file):
            if not isinstance(name, bytes):
                if not (matlab and name.startswith("#")):  # where MATLAB puts what lies in cells
                    nodes[name] = node
            elif isinstance(node, h5py.Dataset):  # bytes: what h5py gives where it cannot decode a name
                remark = f"A data set of '{path.name}' has no readable name, {name!r}; it is left out."
                yield Node(repr(name), remarks=(remark,))
        names = {h5py.h5o.get_info(node.id).addr: name.replace(_OF_A_DIMENSION, "") for name, node in nodes.items()}
        for name in nodes if netcdf else sorted(nodes, key=natural):  # NetCDF's variables have an order
            yield _node(path, pool, name, nodes[name], names, matlab=matlab, netcdf=netcdf)
        if matlab:
            yield Node("#", remarks=("MATLAB writes its axes in reverse; they are told in MATLAB's order.",))


def _node(
    path: Path, pool: OpenFiles, name: str, node: Any, names: Mapping[Any, str], *, matlab: bool, netcdf: bool
) -> Node:
    where, own = f"'{name}' of '{path.name}'", name.replace(_OF_A_DIMENSION, "")
    by_number = name.rpartition("/")[2].isdecimal()  # a simulation
    if isinstance(node, h5py.Group) or by_number:
        bare = Node.of_attributes(own, node.attrs)
    else:
        bare = Node(own, texts=texts_of(node.attrs))
    if not isinstance(node, h5py.Dataset) or text_of(node.attrs.get("NAME")).startswith(_NO_VARIABLE):
        return bare
    foreign = matlab and (node.attrs.get("MATLAB_class") in _NO_NUMBERS or "MATLAB_empty" in node.attrs)
    dtype = _type_of(node)
    if dtype is None:
        return replace(bare, remarks=(f"{where} is of a type that NumPy has not; it is left out.",))
    if node.shape is None:
        return replace(bare, remarks=(f"{where} is empty; it is left out.",))
    if foreign or dtype.kind not in NUMBERS:
        return replace(bare, remarks=(f"{where} {no_numbers(dtype)}",))
    if node.external is not None or node.is_virtual:
        return replace(bare, remarks=(f"{where} lies in other files, which are not read; it is left out.",))
    if node.shape == () or (matlab and math.prod(node.shape) == 1):
        return replace(bare, array=np.asarray(coding_of(node, netcdf=netcdf).decode(node[()])).reshape(()))
    gap = unwritten(node, netcdf=netcdf)
    array: LazyArray = Hdf5Array.of(pool, path, node, netcdf=netcdf)
    if matlab:
        vector = len(array.shape) == 2 and 1 in array.shape
        array = OneEntry(array, array.shape.index(1), 0) if vector else Reversed(array)
    dimensions = None if matlab else _dimensions(node, names, netcdf)
    remarks = bare.remarks if gap is None else (*bare.remarks, f"{where} {gap}.")
    return replace(bare, array=array, dimensions=dimensions, remarks=remarks)


def _dimensions(node: h5py.Dataset, names: Mapping[Any, str], netcdf: bool) -> tuple[Dimension, ...] | None:
    """Return what labels and scales tell of the axes of an array; None where they tell nothing."""
    if netcdf and _is_scale(node) and len(node.shape) == 1:
        own = str(node.name).lstrip("/")
        return (Dimension((own.rpartition("/")[2],), (own,)),)
    dimensions = []
    for label, scales in zip(
        _of_each_axis(node, "DIMENSION_LABELS"), _of_each_axis(node, "DIMENSION_LIST"), strict=True
    ):
        lines = [node.file[scale] for scale in np.ravel(scales) if isinstance(scale, h5py.Reference) and scale]
        places = (names.get(h5py.h5o.get_info(line.id).addr) for line in lines)
        known = tuple(name for name in places if name is not None)
        told = (text_of(line.attrs.get("NAME")) for line in lines)
        words = (text_of(label), *(name.rpartition("/")[2] for name in known), *told)
        dimensions.append(Dimension(tuple(word for word in words if word), known))
    return tuple(dimensions) if any(dimension.words for dimension in dimensions) else None


# HDF5's own functions for scales trust that attributes have the form they should have: in a damaged file they write
# past the end of memory. h5py's for attributes do not.


def _is_scale(node: h5py.Dataset) -> bool:
    return text_of(node.attrs.get("CLASS")) == "DIMENSION_SCALE"


def _of_each_axis(node: h5py.Dataset, key: str) -> Sequence[Any]:
    """Return the entries of an attribute that has one for each axis; None for each where it is not so."""
    entries = node.attrs.get(key)
    fits = isinstance(entries, np.ndarray) and entries.shape == (len(node.shape),)
    return list(entries) if fits else [None] * len(node.shape)
