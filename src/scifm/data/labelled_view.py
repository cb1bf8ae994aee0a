"""One split of a store as an `xarray.Dataset` that reads nothing before it is asked.

Blocks come from the readers of the store through xarray's own lazy arrays, so selections are put together first and
read last; dask is not needed, and used where it is installed and ``.chunk()`` is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray
from xarray.backends.common import BackendArray
from xarray.backends.locks import SerializableLock
from xarray.core import indexing

from scifm.data.card import Card
from scifm.data.labels import Labels
from scifm.data.ranges import runs
from scifm.data.well import Reader
from scifm.fields.batch import Signature
from scifm.fields.grid import Grid

__all__ = ["labelled_view"]


class _ReaderArray(BackendArray):
    """One coefficient or field of a split: trajectories, then times if it evolves, then space."""

    def __init__(
        self, reader: Reader, name: str, shape: tuple[int, ...], evolves: bool, dtype: np.dtype, lock: Any
    ) -> None:
        self.reader, self.name, self.shape, self.evolves = reader, name, shape, evolves
        self.dtype, self.lock = dtype, lock

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        """Read a block; of each axis there is an integer, a slice, or a list of places."""
        places = [np.atleast_1d(np.arange(n)[k]) for n, k in zip(self.shape, key, strict=True)]
        read_by_place = 1 + self.evolves
        if any(not len(own) for own in places):
            values = np.empty([len(own) for own in places], self.dtype)
        else:
            frames: Sequence[slice | None] = runs(places[1]) if self.evolves else [None]
            with self.lock:
                blocks = [self.reader.take(self.name, places[0], own) for own in frames]
            values = np.concatenate(blocks, int(self.evolves))
            values = values[(slice(None),) * read_by_place + tuple(np.ix_(*places[read_by_place:]))]
        single = tuple(axis for axis, k in enumerate(key) if isinstance(k, int | np.integer))
        return values.astype(self.dtype, copy=False).squeeze(single)


def labelled_view(card: Card, reader: Reader, split: str) -> xarray.Dataset:
    """Return one split of a store with names on its axes; the view closes the reader of that split."""
    names, grid = card.signature, card.grid
    dtype, lock = np.dtype(card.dtype), SerializableLock()
    num_frames = None if card.times is None else len(card.times)
    variables: dict[str, xarray.Variable] = {}
    for name in (*names.fields, *names.coefficients):
        evolves = num_frames is not None and name in names.outputs
        dims = ("trajectory", *(("time",) if evolves else ()), *(() if name in names.coefficients else grid.axis_names))
        sizes = {"trajectory": reader.num_trajectories, "time": num_frames or 1}
        sizes |= dict(zip(grid.axis_names, grid.num_points, strict=True))
        array = _ReaderArray(reader, name, tuple(sizes[dim] for dim in dims), evolves, dtype, lock)
        lazy = indexing.CopyOnWriteArray(indexing.LazilyIndexedArray(array))  # type: ignore[arg-type]
        variables[name] = xarray.Variable(dims, lazy, {"role": _role(names, name), **_texts(card, name)})
    labels = card.labels or Labels()
    coordinates = {}
    for axis, points in zip(grid.axis_names, grid.coordinates(), strict=True):
        told = labels.points(axis, len(points))
        coordinates[axis] = xarray.Variable(axis, points.numpy() if told is None else told, _texts(card, axis))
    if card.times is not None:
        times, dates = np.asarray(card.times), labels.dates
        said = _texts(card, "time") | (dates.attributes if dates is not None else {})
        coordinates["time"] = xarray.Variable("time", times if dates is None else dates.of(times), said)
    dataset = xarray.Dataset(variables, coordinates, labels.attributes("") | _attributes(card, grid, split))
    dataset.set_close(reader.close)
    return dataset


def _texts(card: Card, name: str) -> dict[str, str]:
    own = card.labels.attributes(name) if card.labels is not None else {}
    return ({"units": card.units[name]} if name in card.units else {}) | own


def _role(names: Signature, name: str) -> str:
    if name in names.coefficients:
        return "coefficient"
    return "state" if name in names.state else "input" if name in names.inputs else "output"


def _attributes(card: Card, grid: Grid, split: str) -> dict[str, str]:
    """Return what the card says, as texts, which every file format can keep."""
    texts = {
        "title": card.name,
        "split": split,
        "equation": card.equation,
        "boundary": ", ".join(f"{axis}: {ends}" for axis, ends in zip(grid.axis_names, grid.boundary, strict=True)),
        "extent": ", ".join(f"{axis}: {length:g}" for axis, length in zip(grid.axis_names, grid.extent, strict=True)),
        "known_defects": "\n".join(card.known_defects),
    }
    return {name: text for name, text in texts.items() if text}
