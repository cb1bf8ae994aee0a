"""Where the samples of a study come from: a system that is sampled, or a store on disk.

A study asks an origin for names, samples to adapt on and samples to score on, and nothing else. A store is taken by its
samples alone, whatever made it: what hangs on knobs is then unknown, and is left out rather than guessed.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass

from scifm.data.split import StoreSplit
from scifm.data.store import Store
from scifm.errors import ConfigError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.seeds import generator_for
from scifm.studies.shift import Population
from scifm.systems.system import System
from scifm.training.pool import DownstreamPool, downstream_pool
from scifm.training.recipe import DataConfig, SystemConfig
from scifm.wording import span

__all__ = ["Origin", "StoreOrigin", "SystemOrigin", "origin_of"]

_POOL_SEED = 0


class Origin(abc.ABC):
    """Where samples come from."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """What rows of the table call the equation: the system's name, or ``store:`` and the store's."""

    @property
    @abc.abstractmethod
    def label(self) -> str:
        """What figures call it, in words."""

    @property
    @abc.abstractmethod
    def signature(self) -> Signature:
        """The names of its fields and coefficients."""

    @property
    @abc.abstractmethod
    def homogeneities(self) -> tuple[Homogeneity, ...]:
        """The exact scalings that are known of it."""

    @property
    def system(self) -> System | None:
        """The system that draws the samples, if it is known."""
        return None

    def ranges(self, *, only_given: bool = False) -> dict[str, list[float]]:
        """Return the ranges of its knobs as ``[low, high]``; none where they are unknown.

        Args:
            only_given: whether to leave out those that a recipe does not give itself.
        """
        return {}

    @abc.abstractmethod
    def test(self, num_samples: int, data: DataConfig, task: str) -> Batch:
        """Return the unseen samples that score the task called `task`: always the same ones.

        Args:
            num_samples: problems, fewer where a store has no more; trajectories come whole, with all their windows.
            data: the study's grid and stride.
            task: its name.
        """

    @abc.abstractmethod
    def pool(self, num_samples: int, data: DataConfig) -> DownstreamPool:
        """Return the problems that few-shot subsets are taken from; `num_samples` of a system, all of a store."""

    @abc.abstractmethod
    def draw(self, num_samples: int, data: DataConfig, *stream: int | str) -> Batch:
        """Return at most `num_samples` samples as pre-training sees them: of trajectories, windows from all over."""

    def windows(self, data: DataConfig) -> int:
        """Return how many samples a problem gives: more than one where it is a trajectory."""
        return 1

    def population(self, samples: Batch) -> Population:
        """Return samples of this origin in the form that shifts are measured on."""
        return Population(self.system, samples, self.homogeneities)


@dataclass(frozen=True)
class SystemOrigin(Origin):
    """A system with its ranges; samples live on the study's grid."""

    config: SystemConfig

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def label(self) -> str:
        """The system and the ranges its recipe gives, in words: ``Poisson, anisotropy 5 to 10``."""
        told = [
            f"{name.replace('_', ' ')} {span(f'{low:g}', f'{high:g}')}"
            for name, (low, high) in self.ranges(only_given=True).items()
        ]
        return ", ".join([self.name.replace("_", "–").capitalize(), *told])

    @property
    def system(self) -> System:
        return self.config.build()

    @property
    def signature(self) -> Signature:
        return self.system.signature

    @property
    def homogeneities(self) -> tuple[Homogeneity, ...]:
        return self.system.homogeneities

    def ranges(self, *, only_given: bool = False) -> dict[str, list[float]]:
        knobs = self.system.knobs
        return {name: [knobs[name].low, knobs[name].high] for name in (self.config.knobs if only_given else knobs)}

    def test(self, num_samples: int, data: DataConfig, task: str) -> Batch:
        return self.system.sample(num_samples, self._grid(data), generator_for(_POOL_SEED, "study", "test", task))

    def pool(self, num_samples: int, data: DataConfig) -> DownstreamPool:
        return downstream_pool(self.system, grid=self._grid(data), num_samples=num_samples, seed=_POOL_SEED)

    def draw(self, num_samples: int, data: DataConfig, *stream: int | str) -> Batch:
        return self.system.sample(num_samples, self._grid(data), generator_for(0, *stream))

    def _grid(self, data: DataConfig) -> Grid:
        return data.grid(self.signature.num_spatial_dims)


@dataclass(frozen=True)
class StoreOrigin(Origin):
    """A store: its training split is adapted or pre-trained on, its test split scores; samples live on its own grid."""

    folder: str

    @property
    def store(self) -> Store:
        """The store, opened."""
        return Store.open(self.folder)

    @property
    def name(self) -> str:
        return f"store:{self.store.name}"  # a folder called like a system is not taken for it

    @property
    def label(self) -> str:
        return f"Store {self.store.name}"

    @property
    def signature(self) -> Signature:
        return self.store.signature

    @property
    def homogeneities(self) -> tuple[Homogeneity, ...]:
        return self.store.homogeneities

    def test(self, num_samples: int, data: DataConfig, task: str) -> Batch:
        split = self._split("test", data)
        return split.chosen(range(min(num_samples, split.num_trajectories))).load()

    def pool(self, num_samples: int, data: DataConfig) -> DownstreamPool:
        store, stride = self.store, self._stride(data)
        return downstream_pool(store, grid=store.grid, num_samples=num_samples, seed=_POOL_SEED, stride=stride)

    def draw(self, num_samples: int, data: DataConfig, *stream: int | str) -> Batch:
        return self._split("train", data).some(num_samples)

    def windows(self, data: DataConfig) -> int:
        return self._split("train", data).windows_per_trajectory

    def require(self, splits: dict[str, int]) -> None:
        """Check that each split holds at least so many problems.

        Raises:
            ConfigError: if one is missing or smaller.
            StoreError: if the store cannot be read.
        """
        found = self.store.splits
        for split, least in splits.items():
            if found.get(split, 0) < least:
                what = "trajectories" if self.signature.evolves else "samples"
                raise ConfigError(
                    f"The store '{self.folder}' needs at least {least} {what} in its split '{split}' for this study; "
                    f"it has {found.get(split, 0)}."
                )

    def _stride(self, data: DataConfig) -> int:
        return data.stride if self.store.signature.evolves else 1  # a study may hold steady stores beside evolving ones

    def _split(self, split: str, data: DataConfig) -> StoreSplit:
        return self.store.split(split, stride=self._stride(data))


def origin_of(what: str, system: SystemConfig | None, store: str | None) -> Origin:
    """Return the origin that a recipe names by one of the two.

    Raises:
        ConfigError: if it names none or both.
    """
    if (system is None) == (store is None):
        raise ConfigError(f"{what} needs either a system or a store, the folder of one.")
    return StoreOrigin(store) if store is not None else SystemOrigin(system)  # type: ignore[arg-type]
