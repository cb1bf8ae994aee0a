"""The samples of a downstream task, of which few-shot subsets are taken: drawn from a system, or read from a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from scifm.config import build_config
from scifm.data.importing import open_store
from scifm.data.split import StoreSplit
from scifm.data.store import Store
from scifm.errors import ConfigError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.seeds import generator_for
from scifm.models.hub import load_operator
from scifm.runs import Run
from scifm.systems.system import System
from scifm.training.pretrain import PretrainRecipe
from scifm.training.recipe import SystemConfig

__all__ = ["DownstreamPool", "downstream_pool", "grid_of_run", "in_memory"]

_IN_MEMORY_BYTES = 256 * 1024 * 1024  # a larger choice is read from its store as it is needed


@dataclass(frozen=True)
class DownstreamPool:
    """Problems of the downstream task that few-shot subsets are taken from.

    A problem is a sample of a steady system, or a whole trajectory of an evolving one: windows of one trajectory are
    never on two sides of a comparison.

    Args:
        samples: the whole pool; subsets of a seed are nested prefixes of one permutation of its problems.
        origin: where they came from, for the record.
        homogeneities: exact scalings of the system, for fitting a normalization from scratch.
    """

    samples: Batch | StoreSplit
    origin: dict[str, Any]
    homogeneities: tuple[Homogeneity, ...]

    @property
    def num_problems(self) -> int:
        """How many there are to choose from."""
        return self.samples.num_samples if isinstance(self.samples, Batch) else self.samples.num_trajectories

    @property
    def stride(self) -> int:
        """Frames from input to target; 1 where problems are steady."""
        return 1 if isinstance(self.samples, Batch) else self.samples.stride

    @property
    def signature(self) -> Signature:
        """The names of every sample."""
        return self.samples.signature

    @property
    def grid(self) -> Grid:
        """The grid of every sample."""
        return self.samples.grid

    def take(self, index: Tensor) -> Batch | StoreSplit:
        """Return the samples of some problems, in memory if they are not too large for it."""
        if isinstance(self.samples, Batch):
            return self.samples.select(index)
        chosen = self.samples.chosen(index)
        return chosen.load() if chosen.num_bytes <= _IN_MEMORY_BYTES else chosen


def in_memory(samples: Batch | StoreSplit, count: int) -> Batch:
    """Return at most `count` samples in memory; all of them if they are in memory already."""
    return samples if isinstance(samples, Batch) else samples.some(count)


def downstream_pool(
    target: System | Store, *, grid: Grid, num_samples: int, seed: int, stride: int = 1
) -> DownstreamPool:
    """Return a pool of downstream problems, drawn from a system or taken from a store's training split.

    Args:
        target: where samples come from.
        grid: for a system, where its fields live.
        num_samples: for a system, the size of the pool. Subsets nest only within pools of one size and seed.
        seed: for a system, which samples.
        stride: for a store of trajectories, frames from input to target; anything else has none.

    Raises:
        StoreError, DataError: if a store cannot be read.
        ConfigError: if the stride does not fit.
    """
    if isinstance(target, System):
        if stride != 1:
            raise ConfigError(f"stride = {stride} counts frames of a store of trajectories; a system here is steady.")
        samples = target.sample(num_samples, grid, generator_for(seed, "downstream", "pool"))
        origin = {
            "system": SystemConfig.of(target).to_dict(),
            "grid": grid.to_dict(),
            "num_samples": num_samples,
            "seed": seed,
        }
        return DownstreamPool(samples, origin, target.homogeneities)
    split = target.split("train", stride=stride)
    origin = {"store": str(target.path), "split": "train", "num_samples": split.num_trajectories}
    if target.mapping is not None:
        origin["mapping"] = target.mapping
    if split.signature.evolves:
        origin["stride"] = stride
    return DownstreamPool(split, origin, target.homogeneities)


def grid_of_run(run: Run) -> Grid:
    """Return the grid a run was trained on last.

    Raises:
        ConfigError: if its configuration is not that of a training.
        StoreError: if it was trained on a store that is gone.
    """
    downstream = run.config.get("downstream")
    if downstream is not None:
        if "grid" in downstream:
            return Grid.from_dict(downstream["grid"])
        return open_store(downstream["store"], downstream.get("mapping")).grid
    config = build_config(PretrainRecipe, run.config, source=f"'{run.path}'")
    if config.data.store is not None:
        return config.data.open_store().grid
    return config.data.grid(load_operator(run.path / "model").signature.num_spatial_dims)
