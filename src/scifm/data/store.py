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

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from scifm.config import config_hash
from scifm.data.card import Card
from scifm.data.split import StoreSplit
from scifm.data.statistics import Statistics, samples_at_once, summarize
from scifm.data.well import Reader, WellReader
from scifm.errors import ConfigError, SignatureError, StoreError, suggest
from scifm.fields.batch import Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity

if TYPE_CHECKING:
    import xarray

__all__ = ["STATISTICS_NAME", "Store", "require_signature"]

STATISTICS_NAME = "stats.yaml"


def require_signature(store_signature: Signature, wanted: Signature) -> None:
    """Check that a store, which may hold more, offers every name that is wanted, in the same role.

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


@dataclass(frozen=True)
class Store:
    """A finished store. Open one with `Store.open`; `generate` and `import_data` make them.

    Args:
        path: its folder, or the foreign file it reads.
        card: where everything came from.
        readers: make what reads the numbers of a split; each split asked for has a reader of its own.
    """

    path: Path
    card: Card
    readers: Mapping[str, Callable[[], Reader]]

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """Open the store in the folder `path`; checks that every file is there and has its full length.

        Raises:
            StoreError: if there is no store, or a file is missing, truncated or foreign.
        """
        folder = Path(path).expanduser()
        card = Card.read(folder)
        card.check_sizes(folder)
        try:
            store = cls.unfinished(folder, card, {name: entry.num_samples or 0 for name, entry in card.files.items()})
            statistics = yaml.safe_load((folder / STATISTICS_NAME).read_text(encoding="utf-8"))
            vars(store)["statistics"] = Statistics.from_dict(statistics)
        except (OSError, AttributeError, KeyError, TypeError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise StoreError(
                f"The store '{folder}' cannot be understood: '{STATISTICS_NAME}' or the card does not hold what it "
                f"should ({error!r}). Remove '{STATISTICS_NAME}' and run the same 'scifm generate' again."
            ) from error
        return store

    @classmethod
    def unfinished(cls, folder: Path, card: Card, chunks: Mapping[str, int]) -> Store:
        """Return a store whose card is not written yet: its data files with the trajectories each holds."""
        signature = Signature.from_dict(card.signature)
        Grid.from_dict(card.grid)
        files = {
            split: tuple((folder / name, chunks[name]) for name in sorted(chunks) if name.startswith(f"data/{split}/"))
            for split in card.splits
        }
        readers = {split: partial(WellReader, own, signature) for split, own in files.items()}
        return cls(folder, card, readers)

    @cached_property
    def statistics(self) -> Statistics:
        """Statistics of the training split; of a foreign file they are gathered when they are first asked for."""
        return summarize(self.split("train").batches(samples_at_once(self.signature, self.grid)))

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
        """The exact scalings of the system the samples are of; none where none is known."""
        return tuple(Homogeneity.from_dict(entries) for entries in self.card.homogeneities)

    @property
    def content(self) -> str:
        """A hash of its files, another one when the samples change; of a foreign file, of its size and mapping."""
        card = self.card
        if not card.files and card.source is not None:
            return config_hash(card.source.to_dict())
        return config_hash({name: entry.sha256 for name, entry in card.files.items()})

    @property
    def splits(self) -> dict[str, int]:
        """Number of trajectories by split."""
        return dict(self.card.splits)

    @property
    def mapping(self) -> dict[str, Any] | None:
        """How foreign data are read where they lie, a `DataMapping` as a tree; None for a store of our own."""
        return self.card.source.mapping if self.card.source is not None and not self.card.files else None

    @property
    def num_problems(self) -> int:
        """Drawn problems in all splits together: trajectories, or samples of a steady system."""
        return sum(self.splits.values())

    @property
    def num_samples(self) -> int:
        """Samples in all splits together; of trajectories, every window is one."""
        return sum(self.split(name).num_samples for name in self.card.splits)

    def split(self, name: str, *, stride: int = 1) -> StoreSplit:
        """Return one split; nothing is read yet.

        Args:
            name: ``train``, ``valid`` or ``test``.
            stride: frames from input to target, of evolving systems.

        Raises:
            ConfigError: if the store has no such split, or the stride does not fit.
        """
        if name not in self.card.splits:
            if name not in ("train", "valid", "test"):
                raise ConfigError(f"Split of the store '{self.path}': {suggest(name, self.card.splits)}")
            held = ", ".join(f"{count} trajectories in {split}" for split, count in self.card.splits.items())
            raise ConfigError(
                f"The store '{self.path}' has no split '{name}'; it holds {held}. Import or generate it with some "
                "trajectories held out: splits = { train = 0.8, valid = 0.1, test = 0.1 } in the map; of a single long "
                "trajectory, cut it along time into several first."
            )
        dtype: torch.dtype = getattr(torch, self.card.dtype)
        card = self.card
        origin: dict[str, Any] = {"store": str(self.path), "content": self.content, "split": name}
        if card.times is not None:
            origin |= {"stride": stride}
        reader = self.readers[name]()
        return StoreSplit(reader, self.signature, self.grid, card.system_name, dtype, card.times, stride, origin)

    def whole(self, *, stride: int = 1) -> StoreSplit:
        """Return the trajectories of all splits, one split after the other; nothing is read yet.

        Raises:
            ConfigError: if the stride does not fit.
        """
        return StoreSplit.joined([self.split(name, stride=stride) for name, count in self.splits.items() if count])

    def to_xarray(self, split: str = "train") -> xarray.Dataset:
        """Return one split with names on its axes: trajectory, time if it evolves, then space; nothing is read yet.

        Raises:
            ConfigError: if the store has no such split.
        """
        from scifm.data.labelled_view import labelled_view

        return labelled_view(self.card, self.split(split).reader, split)

    def verify(self) -> None:
        """Compare the content of every file with the card; reads the whole store.

        Raises:
            StoreError: says which files differ.
        """
        self.card.check_hashes(self.path)
