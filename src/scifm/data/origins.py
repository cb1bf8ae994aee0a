"""`Origin`: where samples come from: a system that is sampled, a store that is read, or a mixture (`data.mixtures`).

What a recipe says (`scifm.data.origin_config`) is resolved once into an `Origin`. Whoever trains, adapts, scores or
compares asks it for names, for a grid and for samples, and nobody asks which of the three it is. A store is taken by
its samples alone, whatever made it: what hangs on knobs is then unknown, and is left out rather than guessed.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

from scifm.data.origin_config import Curriculum, SystemConfig
from scifm.data.pools import DownstreamPool
from scifm.data.split import StoreSplit, grouped_windows, windows_of
from scifm.data.staged import Staged
from scifm.data.store import Store
from scifm.data.stream import (
    BatchSource,
    Epochs,
    Stream,
    Taking,
    drawn_problems,
    drawn_samples,
    steps_of,
)
from scifm.errors import ConfigError
from scifm.fields.batch import Batch, Signature
from scifm.fields.gaps import require_whole
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.samples import Samples
from scifm.fields.seeds import generator_for
from scifm.fields.window import NEXT_FRAME, Pace, Window
from scifm.systems.evolving import Evolving
from scifm.systems.system import System
from scifm.wording import span

__all__ = ["DownstreamPool", "Origin", "StoreOrigin", "SystemOrigin"]


class Origin(abc.ABC):
    """Where samples come from."""

    kind: ClassVar[str]
    window: Window = NEXT_FRAME  # of trajectories, which frames make a sample
    drawn_as: ClassVar[str] = "pretrain"  # what the rule of seeds calls what fits and what scores

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """What rows of a table call it: the system's name, or ``store:`` and the store's."""

    @property
    @abc.abstractmethod
    def label(self) -> str:
        """What figures call it, in words: of a system with the ranges its recipe gives."""

    @property
    @abc.abstractmethod
    def signature(self) -> Signature:
        """The names of its fields and coefficients; of a mixture the union of its members' names."""

    @property
    @abc.abstractmethod
    def grid(self) -> Grid:
        """Where its fields live."""

    @property
    @abc.abstractmethod
    def homogeneities(self) -> tuple[Homogeneity, ...]:
        """The exact scalings that are known of it."""

    @property
    def meanings(self) -> dict[str, str]:
        """What files said its numbers are, by name of a field, a coefficient or an axis; empty: nothing."""
        return {}

    @property
    def system(self) -> System | None:
        """The one system that draws the samples, if it is known."""
        return None

    @property
    def systems(self) -> tuple[str, ...]:
        """Names of the systems that are known to have made its samples, each once."""
        return ()

    @property
    def windows(self) -> int:
        """How many samples a problem gives: more than one where it is a trajectory."""
        return 1

    @property
    def is_one_problem(self) -> bool:
        """Whether the same problem is drawn whoever asks, as an operator wants it that knows no other."""
        return False

    @property
    def lead_times(self) -> tuple[float, float] | None:
        """The shortest and the longest time from frame to frame; None of what is steady."""
        return None

    def framed(self, window: Window) -> Origin:
        """Return the same origin with other windows of its trajectories."""
        return replace(self, window=window)  # type: ignore[type-var]

    def paced(self, pace: Pace, *, stride: int | None = None, **asked: Any) -> Origin:
        """Return the same origin, its samples the frames of trajectories that an operator of a pace is given.

        Args:
            stride: frames from one frame of a sample to the next; None: as many as make a lead time that it knows.
            asked: what else is said of a sample, as in `Window`.
        """
        if not self.signature.evolves:
            return self.framed(Window(stride=stride or 1, **asked))
        stride = stride or pace.stride(self.framed(NEXT_FRAME).lead_times)
        return self.framed(Window(history=pace.history, stride=stride, **asked))

    def ranges(self, *, only_given: bool = False) -> dict[str, list[float]]:
        """Return the ranges, ``[low, high]``, of its knobs or of those that a recipe gives; none where unknown."""
        return {}

    @abc.abstractmethod
    def stream(self, batch_size: int, seed: int, *, num_samples: int | None = None, blocks: int = 1) -> BatchSource:
        """Return the batches to train on, step by step.

        Args:
            batch_size, seed: samples a step; which samples, and their order.
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
        """Return the unseen samples that score the task of that name: always the same ones.

        Of a store fewer where it has no more; trajectories come whole, with all their windows.
        """
        samples = self.problems(num_samples, "study", "test", task, split="test")
        return samples.in_memory(samples.num_samples)

    def pool(self, num_samples: int, seed: int = 0) -> DownstreamPool:
        """Return the problems that few-shot subsets are taken from: of a store all, of a system so many of a seed.

        Subsets nest only within pools of one size and seed.
        """
        samples = self.problems(num_samples, "downstream", "pool", seed=seed)
        about = {**self.describe(), "num_samples": num_samples, "seed": seed}
        return DownstreamPool(samples, about, self.homogeneities, self.meanings)

    def unseen(self, num_samples: int, seed: int = 0, split: str = "test") -> tuple[Samples, dict[str, Any]]:
        """Return problems that no training draws, with what scores on them say of them.

        Args:
            num_samples, seed: how many are drawn, and which.
            split: of a store, which has those it has.

        Raises:
            ConfigError: if fewer than one sample is asked for.
        """
        if num_samples < 1:
            raise ConfigError(f"The number of samples must be at least 1; got {num_samples}.")
        about = {key: value for key, value in self.describe().items() if key not in ("kind", "grid")}
        about |= {"seed": seed, "num_samples": num_samples, **self.grid.to_dict()}
        return self.problems(num_samples, "evaluate", seed=seed, split=split), about

    def problems(self, num_problems: int, *names: int | str, seed: int = 0, split: str = "train") -> Samples:
        """Return whole problems, drawn as `draw` does: of what evolves trajectories, with all their windows."""
        return self.draw(num_problems, *names, seed=seed, split=split)

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return all that tells these samples from others, in plain values: what a run's record says."""


@dataclass(frozen=True)
class SystemOrigin(Origin):
    """A system with the ranges that a recipe gives, sampled on a grid, the `box`.

    Of one that evolves problems are trajectories, of which `window` and `per_trajectory` say how samples are taken. Of
    those to train on `same_knobs` share their knobs, where it says so, and a `curriculum` puts easier ones first. With
    a `problem`, the seed of one, all its samples are that one, from its first frame on, for what knows no other.
    """

    config: SystemConfig
    box: Grid
    window: Window = NEXT_FRAME
    per_trajectory: int = 4
    same_knobs: int | None = None
    curriculum: Curriculum | None = None
    problem: int | None = None
    kind = "system"

    @property
    def is_one_problem(self) -> bool:
        return self.problem is not None

    @classmethod
    def of(cls, system: System, grid: Grid, window: Window | None = None) -> SystemOrigin:
        """Return the origin that samples a system on a grid."""
        return cls(SystemConfig.of(system), grid, window or NEXT_FRAME)

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def label(self) -> str:
        given = self.ranges(only_given=True).items()
        ranges = [f"{name.replace('_', ' ')} {span(f'{low:g}', f'{high:g}')}" for name, (low, high) in given]
        return ", ".join([self.system.title, *ranges])

    @cached_property
    def system(self) -> System:
        return self.config.build()

    @property
    def signature(self) -> Signature:
        return self.system.signature

    @property
    def grid(self) -> Grid:
        return self.box

    @property
    def homogeneities(self) -> tuple[Homogeneity, ...]:
        return self.system.homogeneities

    def framed(self, window: Window) -> Origin:
        """Return the same origin with other windows of its trajectories."""
        return replace(self, window=window)

    def ranges(self, *, only_given: bool = False) -> dict[str, list[float]]:
        knobs = self.system.knobs
        return {name: [knobs[name].low, knobs[name].high] for name in (self.config.knobs if only_given else knobs)}

    @property
    def systems(self) -> tuple[str, ...]:
        return (self.config.name,)

    @property
    def lead_times(self) -> tuple[float, float] | None:
        return steps_of(self.system, self.window)

    @property
    def taking(self) -> Taking:
        """How samples to train on are taken of its problems."""
        return Taking(self.window, self.per_trajectory, self.same_knobs)

    @property
    def windows(self) -> int:
        if self.problem is not None:
            return 1
        return self.window.fits(self.system.num_frames) if isinstance(self.system, Evolving) else 1

    def stream(self, batch_size: int, seed: int, *, num_samples: int | None = None, blocks: int = 1) -> BatchSource:
        if self.curriculum is not None:
            turns = [replace(self, config=c, curriculum=None) for c in self.curriculum.stages(self.config)]
            about: dict[str, Any] = {"num_samples": num_samples, "blocks": blocks}
            return Staged([one.stream(batch_size, seed, **about) for one in turns], self.curriculum.steps)
        if num_samples is None:
            return self.fresh(batch_size, seed, blocks)
        if self.problem is not None:
            return Epochs(self.problems(1), batch_size=batch_size, seed=seed)
        generator = generator_for(seed, "pretrain", "train")
        drawn = drawn_problems(self.system, num_samples, self.grid, generator, same_knobs=self.same_knobs)
        if not self.signature.evolves:
            return Epochs(drawn, batch_size=batch_size, seed=seed)
        samples = windows_of(drawn, self.window)
        groups = None if drawn.group is None else grouped_windows(drawn.group, samples.windows_per_trajectory, seed)
        return Epochs(samples, batch_size=batch_size, seed=seed, groups=groups)

    def fresh(self, batch_size: int, seed: int, blocks: int = 1, *, solved: bool = True) -> Stream:
        """Return new samples at every step, with solutions or without."""
        taking = replace(self.taking, solved=solved)
        return Stream(self.system, self.grid, batch_size=batch_size, seed=seed, blocks=blocks, taking=taking)

    def draw(self, num_samples: int, *names: int | str, seed: int = 0, split: str = "train") -> Batch:
        if self.problem is not None:
            return self.problems(1).in_memory(1)
        taking = replace(self.taking, same_knobs=None)  # who does not train has no use for groups
        return drawn_samples(self.system, num_samples, self.grid, generator_for(seed, *names), taking)

    def problems(self, num_problems: int, *names: int | str, seed: int = 0, split: str = "train") -> Samples:
        system = self.system
        if self.problem is not None:
            num_problems, seed, names = 1, self.problem, ("pretrain", "train")
            if isinstance(system, Evolving):  # it starts at time 0: a window that begins later is of another problem
                system = replace(system, num_frames=self.window.span)  # type: ignore[type-var]
        drawn = system.sample(num_problems, self.grid, generator_for(seed, *names))
        return windows_of(drawn, self.window) if self.signature.evolves else drawn

    def unseen(self, num_samples: int, seed: int = 0, split: str = "test") -> tuple[Samples, dict[str, Any]]:
        return super().unseen(num_samples if self.problem is None else 1, seed, split)

    def describe(self) -> dict[str, Any]:
        about: dict[str, Any] = {} if self.problem is None else {"problem": self.problem}
        about |= {"kind": self.kind, "system": SystemConfig.of(self.system).to_dict(), "grid": self.grid.to_dict()}
        return {**about, **self.window.record()} if self.signature.evolves else about


@dataclass(frozen=True)
class StoreOrigin(Origin):
    """A store: its training split is trained on, its validation split scores on the way, its test split at the end."""

    store: Store
    window: Window = NEXT_FRAME
    kind = "store"

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
    def grid(self) -> Grid:
        return self.store.grid

    @property
    def homogeneities(self) -> tuple[Homogeneity, ...]:
        return self.store.homogeneities

    @property
    def meanings(self) -> dict[str, str]:
        return self.store.card.meanings

    @property
    def systems(self) -> tuple[str, ...]:
        made = self.store.card.generation
        return () if made is None else (str(made.system["name"]),)

    @property
    def windows(self) -> int:
        return self.split("train").windows_per_trajectory

    @property
    def lead_times(self) -> tuple[float, float] | None:
        return self.split(next(iter(self.store.splits))).lead_times

    def split(self, name: str) -> StoreSplit:
        """Return one of its splits with the window asked for; nothing is read yet.

        Raises:
            ConfigError: if there is no such split, or the window does not fit.
        """
        return self.store.split(name, self.window)

    def stream(self, batch_size: int, seed: int, *, num_samples: int | None = None, blocks: int = 1) -> BatchSource:
        return Epochs(self.split("train").kept(), batch_size=batch_size, seed=seed)

    def draw(self, num_samples: int, *names: int | str, seed: int = 0, split: str = "train") -> Batch:
        return self.split(split).some(num_samples)

    def test(self, num_samples: int, task: str) -> Batch:
        split = self.split("test")
        return split.chosen(range(min(num_samples, split.num_problems))).load()

    def unseen(self, num_samples: int, seed: int = 0, split: str = "test") -> tuple[Samples, dict[str, Any]]:
        """Return a whole split: what a store holds is not drawn."""
        held = self.split(split)
        return held, dict(held.origin)

    def pool(self, num_samples: int, seed: int = 0) -> DownstreamPool:
        split = self.split("train")
        about = {**self.describe(), "split": "train", "num_samples": split.num_problems}
        return DownstreamPool(split, about, self.homogeneities, self.meanings)

    def require(self, splits: dict[str, int]) -> None:
        """Raise ConfigError unless each split holds at least so many problems, and no point of them is missing."""
        remedy = "Train and score single runs on it, or fill the gaps (gaps = { fill = … } in the map)."
        require_whole(self.store.card.gaps, "A study compares tables that count every point", remedy)
        for split, least in splits.items():
            held = self.store.splits.get(split, 0)
            if held < least:
                what = "trajectories" if self.signature.evolves else "samples"
                raise ConfigError(
                    f"The store '{self.store.path}' needs at least {least} {what} in its split '{split}' for this "
                    f"study; it has {held}."
                )

    def describe(self) -> dict[str, Any]:
        """Return its place and a hash of its content, so that other data at the same place are others."""
        store, grid = self.store, self.grid.to_dict()
        about: dict[str, Any] = {"kind": self.kind, "store": str(store.path), "content": store.content, "grid": grid}
        if store.card.generation is not None:
            about["system"] = store.card.generation.system
        if store.mapping is not None:
            about["mapping"] = store.mapping
        return {**about, **self.window.record()} if self.signature.evolves else about
