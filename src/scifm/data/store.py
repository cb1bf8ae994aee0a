"""`Store`: samples on disk, with their card and statistics.

::

    <store>/
      card.json                        where everything came from, and every file's size and hash
      stats.yaml                       statistics of the training split
      <name>.yaml                      the folder as The Well's tools describe it
      data/{train,valid,test}/*.hdf5   samples in The Well's schema (`scifm.data.well`)

Nothing is read before it is asked for, and no more than that.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
import yaml
from torch import Tensor
from torch.utils.data import Dataset

from scifm.data.card import Card
from scifm.data.statistics import Statistics
from scifm.data.well import open_file, read_samples
from scifm.errors import ConfigError, DataError, SignatureError, StoreError, suggest
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity

__all__ = ["Store", "StoreSplit", "require_signature"]

STATISTICS_NAME = "stats.yaml"
_MAX_OPEN_FILES = 64
_LOAD_SIZE = 1024  # samples read at a time when a whole split is taken into memory


def require_signature(store_signature: Signature, wanted: Signature) -> None:
    """Check that a store offers every name that is wanted, in the same role.

    Args:
        store_signature: what the store offers; it may hold more.
        wanted: what is needed, for example by an operator.

    Raises:
        SignatureError: says what is missing.
    """
    missing = [
        f"{role[:-1]} '{name}'"
        for role in ("inputs", "coefficients", "outputs")
        for name in getattr(wanted, role)
        if name not in getattr(store_signature, role)
    ]
    for trait in ("num_spatial_dims", "evolves"):
        ours, theirs = getattr(store_signature, trait), getattr(wanted, trait)
        if ours != theirs:
            missing.append(f"{trait} = {theirs} (the store has {ours})")
    if missing:
        raise SignatureError(
            f"The store does not fit: missing are {', '.join(missing)}. It offers inputs "
            f"{list(store_signature.inputs)}, coefficients {list(store_signature.coefficients)}, outputs "
            f"{list(store_signature.outputs)}. Use a store of another system, or a model made for this one."
        )


class _OpenFiles:
    """HDF5 files kept open between reads, by the process that reads: never carried over a fork or a pickle."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._files: OrderedDict[Path, h5py.File] = OrderedDict()

    def get(self, path: Path) -> h5py.File:
        if self._owner != os.getpid():  # we are a forked worker: the parent's files are not ours to share
            self._owner, self._files = os.getpid(), OrderedDict()
        file = self._files.pop(path, None) or open_file(path)
        self._files[path] = file
        if len(self._files) > _MAX_OPEN_FILES:
            self._files.popitem(last=False)[1].close()
        return file

    def close(self) -> None:
        while self._files:
            self._files.popitem()[1].close()

    def __reduce__(self) -> tuple[type[_OpenFiles], tuple[()]]:
        return _OpenFiles, ()


@dataclass(frozen=True)
class StoreSplit(Dataset):
    """One split of a store, read as needed. Also a plain map-style torch `Dataset` of batches of one.

    Safe to hand to worker processes: each opens the files for itself. Threads need one split each.

    Args:
        files: data files in order, each with the number of samples it holds.
        signature: names in the files.
        grid: where the fields live.
        system: name of the system every sample came from.
        dtype: of the stored numbers.
    """

    files: tuple[tuple[Path, int], ...]
    signature: Signature
    grid: Grid
    system: str
    dtype: torch.dtype
    _open: _OpenFiles = field(init=False, repr=False, compare=False, default_factory=_OpenFiles)

    @property
    def num_samples(self) -> int:
        """Samples in all files together."""
        return sum(count for _, count in self.files)

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, index: int) -> Batch:
        """Return one sample as a batch of one; IndexError past the end, as iteration expects."""
        if not -self.num_samples <= index < self.num_samples:
            raise IndexError(f"Sample {index} of {self.num_samples} was asked for.")
        return self.batch([index % self.num_samples])

    def __iter__(self) -> Iterator[Batch]:
        return self.batches(1)

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Yield all samples in order, `batch_size` at a time; the last batch may be smaller."""
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1; got {batch_size}.")
        for start in range(0, self.num_samples, batch_size):
            yield self.batch(slice(start, start + batch_size))

    def load(self) -> Batch:
        """Return the whole split in memory."""
        return self.batch(slice(None))

    def batch(self, index: slice | Sequence[int] | Tensor) -> Batch:
        """Read some samples, in the order of `index`; one asked for twice comes twice.

        Args:
            index: a slice, or integers from ``-num_samples`` to ``num_samples - 1``.

        Raises:
            DataError: if a number read is NaN or infinite (says file, field, sample), or the index is out of range.
            StoreError: if a file is missing, truncated or damaged.
        """
        wanted = self._positions(index)
        rows, places = np.unique(wanted, return_inverse=True)
        arrays = self._read(rows)
        if not np.array_equal(rows, wanted):
            arrays = tuple(array[places] for array in arrays)
        inputs, coefficients, targets = (torch.from_numpy(array) for array in arrays)
        systems = (self.system,) * len(wanted)
        return Batch(self.signature, self.grid, inputs[:, None], coefficients, targets[:, None], systems)

    def _positions(self, index: slice | Sequence[int] | Tensor) -> np.ndarray:
        count = self.num_samples
        if isinstance(index, slice):
            return np.arange(count)[index]
        given = np.asarray(index)
        if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
            raise DataError(f"Samples are chosen by a slice or a list of integers; got {given.dtype} of {given.shape}.")
        if given.size and not (-count <= given.min() and given.max() < count):
            raise DataError(
                f"Samples {given.min()} to {given.max()} were asked for; this split holds 0 to {count - 1}."
            )
        return np.where(given < 0, given + count, given).astype(np.int64)

    def _read(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        """Read `rows`, which increase, from the files they lie in."""
        dtype = torch.empty(0, dtype=self.dtype).numpy().dtype
        names, space = self.signature, self.grid.num_points
        shapes = ((len(names.inputs), *space), (len(names.coefficients),), (len(names.outputs), *space))
        inputs, coefficients, targets = (np.empty((len(rows), *shape), dtype) for shape in shapes)
        first, start = 0, 0
        for path, count in self.files:
            stop = int(np.searchsorted(rows, first + count))
            if stop > start:
                part = slice(start, stop)
                out = (inputs[part], coefficients[part], targets[part])
                read_samples(self._open.get(path), names, rows[part] - first, out)
            first, start = first + count, stop
        return inputs, coefficients, targets

    def close(self) -> None:
        """Close the files this process holds open; reading again opens them again."""
        self._open.close()


@dataclass(frozen=True)
class Store:
    """A finished store. Open one with `Store.open`, make one with `scifm.data.generate.generate`.

    Args:
        path: its folder.
        card: where everything came from.
        statistics: of the training split.
    """

    path: Path
    card: Card
    statistics: Statistics

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """Open the store in the folder `path`; checks that every file is there and has its full length.

        Raises:
            StoreError: if there is no store, or a file is missing, truncated or foreign.
        """
        folder = Path(path).expanduser()
        card = Card.read(folder)
        card.check_sizes(folder)
        file = folder / STATISTICS_NAME
        try:
            statistics = Statistics.from_dict(yaml.safe_load(file.read_text(encoding="utf-8")))
            Signature.from_dict(card.signature), Grid.from_dict(card.grid)
        except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
            raise StoreError(
                f"The store '{folder}' cannot be understood: '{STATISTICS_NAME}' or the card does not hold what it "
                f"should ({error!r}). Remove '{STATISTICS_NAME}' and run the same 'scifm generate' again."
            ) from error
        return cls(folder, card, statistics)

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self.card.name

    @property
    def signature(self) -> Signature:
        """The names of every batch."""
        return Signature.from_dict(self.card.signature)

    @property
    def grid(self) -> Grid:
        """The grid of every batch."""
        return Grid.from_dict(self.card.grid)

    @property
    def homogeneities(self) -> tuple[Homogeneity, ...]:
        """The exact scalings of the system that made the samples."""
        return tuple(Homogeneity.from_dict(entries) for entries in self.card.homogeneities)

    @property
    def splits(self) -> dict[str, int]:
        """Number of samples by split."""
        return dict(self.card.splits)

    @property
    def num_samples(self) -> int:
        """Samples in all splits together."""
        return sum(self.card.splits.values())

    def split(self, name: str) -> StoreSplit:
        """Return one split; nothing is read yet.

        Raises:
            ConfigError: if the store has no such split.
        """
        if name not in self.card.splits:
            raise ConfigError(f"Split of the store '{self.path}': {suggest(name, self.card.splits)}")
        files = data_files(self.path, self.card.files, name)
        dtype: torch.dtype = getattr(torch, self.card.dtype)
        return StoreSplit(files, self.signature, self.grid, str(self.card.system["name"]), dtype)

    def verify(self) -> None:
        """Compare the content of every file with the card; reads the whole store.

        Raises:
            StoreError: says which files differ.
        """
        self.card.check_hashes(self.path)


def data_files(folder: Path, files: dict[str, Any], split: str) -> tuple[tuple[Path, int], ...]:
    """Return the data files of one split in order, with the number of samples in each."""
    prefix = f"data/{split}/"
    return tuple((folder / name, files[name].num_samples) for name in sorted(files) if name.startswith(prefix))
