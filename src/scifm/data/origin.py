"""`Origin`: where samples come from, asked for names, for a grid and for samples; and the pool of a downstream task.

The origins there are stand in `scifm.data.origins`.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, ClassVar

from scifm.data.stream import BatchSource
from scifm.errors import ConfigError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.samples import Samples
from scifm.systems.system import System

__all__ = ["DownstreamPool", "Origin"]


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

    samples: Samples
    origin: dict[str, Any]
    homogeneities: tuple[Homogeneity, ...]

    @property
    def num_problems(self) -> int:
        """How many there are to choose from."""
        return self.samples.num_problems

    @property
    def stride(self) -> int:
        """Frames from input to target; 1 where problems are steady."""
        return int(self.origin.get("stride", 1))


class Origin(abc.ABC):
    """Where samples come from."""

    kind: ClassVar[str]
    stride: int = 1  # of trajectories, frames from input to target
    drawn_as: ClassVar[str] = "pretrain"  # what the rule of seeds calls what fits and what scores

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """What rows of a table call it: the system's name, or ``store:`` and the store's."""

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
    def grid(self) -> Grid:
        """Where its fields live."""

    @property
    @abc.abstractmethod
    def homogeneities(self) -> tuple[Homogeneity, ...]:
        """The exact scalings that are known of it."""

    @property
    def system(self) -> System | None:
        """The one system that draws the samples, if it is known."""
        return None

    @property
    def windows(self) -> int:
        """How many samples a problem gives: more than one where it is a trajectory."""
        return 1

    def ranges(self, *, only_given: bool = False) -> dict[str, list[float]]:
        """Return the ranges of its knobs as ``[low, high]``; none where they are unknown.

        Args:
            only_given: whether to leave out those that a recipe does not give itself.
        """
        return {}

    @abc.abstractmethod
    def stream(self, batch_size: int, seed: int, *, num_samples: int | None = None, blocks: int = 1) -> BatchSource:
        """Return the batches to train on, step by step.

        Args:
            batch_size: samples a step.
            seed: which samples, and their order.
            num_samples: distinct ones, drawn once and gone over in epochs; None: fresh ones at every step. A store has
                those it has.
            blocks: independent draws that a step is made of, see `Stream`.
        """

    @abc.abstractmethod
    def draw(self, num_samples: int, *names: int | str, seed: int = 0, split: str = "train") -> Batch:
        """Return samples as training sees them; the same ones whoever asks with the same arguments.

        Args:
            num_samples: how many; of a store at most, of trajectories windows from all over; of a mixture as many of
                each member, together no fewer.
            names: what they are for, by which the rule of seeds tells draws of a system apart.
            seed: of those draws.
            split: of a store.
        """

    def fitting(self, num_samples: int, seed: int) -> Batch:
        """Return the samples that the normalization of a pre-training is fitted on."""
        return self.draw(num_samples, self.drawn_as, "normalization", seed=seed)

    def validation(self, num_samples: int, seed: int) -> Batch:
        """Return the samples that score a pre-training on its way."""
        return self.draw(num_samples, self.drawn_as, "valid", seed=seed, split="valid")

    def test(self, num_samples: int, task: str) -> Batch:
        """Return the unseen samples that score the task called `task`: always the same ones.

        Args:
            num_samples: problems, fewer where a store has no more; trajectories come whole, with all their windows.
            task: its name.
        """
        return self.draw(num_samples, "study", "test", task, split="test")

    def pool(self, num_samples: int, seed: int = 0) -> DownstreamPool:
        """Return the problems that few-shot subsets are taken from.

        Args:
            num_samples: how many, of a system; subsets nest only within pools of one size and seed. Of a store, all.
            seed: which ones, of a system.
        """
        samples = self.draw(num_samples, "downstream", "pool", seed=seed)
        about = {**self.describe(), "num_samples": num_samples, "seed": seed}
        return DownstreamPool(samples, about, self.homogeneities)

    def unseen(self, num_samples: int, seed: int = 0) -> tuple[Samples, dict[str, Any]]:
        """Return problems that no training draws, with what scores on them say of them.

        Raises:
            ConfigError: if fewer than one sample is asked for.
        """
        if num_samples < 1:
            raise ConfigError(f"The number of samples must be at least 1; got {num_samples}.")
        about = {key: value for key, value in self.describe().items() if key not in ("kind", "grid")}
        about |= {"seed": seed, "num_samples": num_samples, **self.grid.to_dict()}
        return self.draw(num_samples, "evaluate", seed=seed, split="test"), about

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return all that tells these samples from others, in plain values: what a run's record says."""
