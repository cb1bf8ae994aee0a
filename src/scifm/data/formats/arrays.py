"""Plain arrays: NumPy's ``.npy`` and ``.npz``, and HDF5 of any layout.

They seldom say which axis is what. Where the arrays include coordinates (``t``, ``x``, …) of different lengths, or an
HDF5 file labels its dimensions, axes follow from these; otherwise a mapping has to be written.

In a folder every file is one trajectory. Names of ``.npy`` files tell arrays and trajectories: ``u_000.npy``,
``u_001.npy`` are two trajectories of ``u``; ``train_u.npy`` is the array ``u`` of the training split.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import h5py

from scifm.data.declared import walk_hdf5
from scifm.data.formats.axis_names import axis_of_name
from scifm.data.formats.coding import text_of
from scifm.data.formats.contents import NUMBERS, Contents, LazyArray, read_whole, single_numbers
from scifm.data.formats.draft import draft_mapping
from scifm.data.formats.format import Format, files_under, opening, required_files
from scifm.data.formats.hdf5 import HDF5_ENDINGS, Hdf5Array, coding_of, open_hdf5, unwritten
from scifm.data.formats.labelled import seconds_of
from scifm.data.formats.mapping import DataMapping
from scifm.data.formats.members import NumberArray, group_by_split, join_arrays, joined_attributes, split_words
from scifm.data.formats.numpy_files import open_npy, open_npz
from scifm.data.well import OpenFiles
from scifm.errors import DataError, StoreError

__all__ = ["Arrays"]

_TITLES = {".npy": "a NumPy array", ".npz": "a NumPy archive"}


class _Found:
    """What one file holds."""

    def __init__(self) -> None:
        self.arrays: dict[str, LazyArray] = {}
        self.attributes: dict[str, float] = {}
        self.axes: dict[str, tuple[str, ...]] = {}
        self.remarks: list[str] = []


class Arrays(Format):
    """NumPy files and plain HDF5."""

    name = "arrays"
    title = "NumPy arrays (.npy, .npz) or plain HDF5 (.h5, .hdf5)"
    needs_map = True

    def sniff(self, path: Path) -> str | None:
        files = files_under(path, (*_TITLES, *HDF5_ENDINGS))
        if not files:
            return None
        endings = sorted({file.suffix for file in files})
        return f"{len(files)} file{'s' * (len(files) > 1)} of plain arrays ({', '.join(endings)})"

    def read(self, path: Path) -> Contents:
        files, pool = required_files(path, (*_TITLES, *HDF5_ENDINGS)), OpenFiles(partial(open_hdf5, linked=False))
        endings = {"HDF5" if file.suffix in HDF5_ENDINGS else file.suffix for file in files}
        if len(endings) > 1:
            raise StoreError(
                f"'{path}' holds files of several kinds ({', '.join(sorted(endings))}); give the folder or file of one."
            )
        groups, found = group_by_split(path, files), {file: _open(file, pool) for file in files}
        many = max(map(len, groups.values())) > 1 and endings != {".npy"}
        parts: dict[str, dict[str, LazyArray]] = {}
        shared = _coordinates(found[files[0]].arrays)
        attributes, varying = joined_attributes({file: entry.attributes for file, entry in found.items()})
        for part, members in groups.items():
            own = [found[file].arrays | {k: NumberArray(v[file]) for k, v in varying.items()} for file in members]
            if endings == {".npy"}:
                parts[part] = _by_name(members, own)
            else:
                parts[part] = join_arrays(members, own, shared=shared.values()) if many else dict(own[0])
        _require_alike(path, parts)
        names = next(iter(parts.values()))
        return Contents(
            path,
            tuple(files),
            parts,
            attributes,
            axes={k: (("trajectory",) if many else ()) + v for k, v in found[files[0]].axes.items() if k in names},
            coordinates=shared if endings != {".npy"} else _coordinates(names),
            remarks=tuple(dict.fromkeys(remark for entry in found.values() for remark in entry.remarks)),
            close=pool.close,
        )

    def propose(self, contents: Contents) -> DataMapping:
        return draft_mapping(contents, self.name).complete()


def _coordinates(arrays: Mapping[str, LazyArray]) -> dict[str, str]:
    """Return the one-dimensional arrays that are called as axes are."""
    named = {name: axis_of_name(name.rpartition("/")[2]) for name, array in arrays.items() if len(array.shape) == 1}
    found = {axis: name for name, axis in named.items() if axis not in (None, "trajectory", "channel")}
    return {axis: name for axis, name in found.items() if axis is not None}


def _require_alike(path: Path, parts: Mapping[str, Mapping[str, LazyArray]]) -> None:
    first, names = next(iter(parts.items()))
    for part, arrays in parts.items():
        odd = sorted(set(names) ^ set(arrays))
        if odd:
            raise DataError(
                f"'{odd[0]}' of '{path}' is not in both {first} and {part}. All splits need the same arrays."
            )


def _by_name(files: list[Path], found: list[dict[str, LazyArray]]) -> dict[str, LazyArray]:
    """Return the arrays of ``.npy`` files: those whose names differ in a number are trajectories of one."""
    series: dict[str, list[tuple[Path, LazyArray]]] = {}
    for file, arrays in zip(files, found, strict=True):
        stem = split_words(file.stem)[1] or "data"
        base = re.sub(r"[_\-.]?\d+$", "", stem) or "data"
        series.setdefault(base, []).append((file, next(iter(arrays.values()))))
    joined: dict[str, LazyArray] = {}
    for base, members in series.items():
        if len(members) == 1:
            joined[split_words(members[0][0].stem)[1] or "data"] = members[0][1]
        else:
            joined |= join_arrays([file for file, _ in members], [{base: array} for _, array in members])
    return joined


def _open(path: Path, pool: OpenFiles) -> _Found:
    """Return what one file holds.

    Raises:
        StoreError: if it is truncated, damaged, or holds no numbers.
    """
    found = _Found()
    with opening(path, _TITLES.get(path.suffix, "HDF5")):
        if path.suffix == ".npy":
            found.arrays[path.stem] = open_npy(path, path.stem)
        elif path.suffix == ".npz":
            found.arrays, found.remarks = open_npz(path)
        else:
            with open_hdf5(path, linked=False) as file:
                _list_hdf5(path, file, found, pool)
    if not found.arrays:
        raise StoreError(" ".join([f"'{path}' holds no arrays of numbers.", *found.remarks]))
    return found


def _list_hdf5(path: Path, file: h5py.File, found: _Found, pool: OpenFiles) -> None:
    found.attributes |= single_numbers(file.attrs)
    for name, node in walk_hdf5(path, file):
        if not isinstance(node, h5py.Dataset):
            continue
        if isinstance(name, bytes):  # what h5py gives where it cannot decode a name
            found.remarks.append(f"A data set of '{path.name}' has no readable name, {name!r}; it is left out.")
            continue
        if node.dtype.kind not in NUMBERS or node.shape is None:
            found.remarks.append(f"'{name}' of '{path.name}' holds {node.dtype}, not real numbers; it is left out.")
        elif node.external is not None or node.is_virtual:
            found.remarks.append(f"'{name}' of '{path.name}' lies in other files, which are not read; it is left out.")
        elif node.shape == ():
            found.attributes |= single_numbers({name: coding_of(node).decode(node[()])})
        else:
            array: LazyArray = Hdf5Array.of(pool, path, node)
            if axis_of_name(name.rpartition("/")[2]) == "time" and len(array.shape) == 1 and "units" in node.attrs:
                array, told = seconds_of(read_whole(array), text_of(node.attrs["units"]))
                found.remarks += [told] if told else []
            found.arrays[name] = array
            labels = [axis_of_name(dimension.label) if dimension.label else None for dimension in node.dims]
            if all(labels):
                found.axes[name] = tuple(str(label) for label in labels)
            gap = unwritten(node)
            if gap is not None:
                found.remarks.append(f"'{name}' of '{path.name}' {gap}.")
