"""`Case`: what a check is given to find its answer by."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from scifm.data.origins import Origin, StoreOrigin, SystemOrigin
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.window import Window
from scifm.models.folder import ModelPlace
from scifm.models.operator import Operator
from scifm.systems.evolving import Evolving
from scifm.systems.system import System
from scifm.trust.errors import errors_of

__all__ = ["Case"]


@dataclass(frozen=True)
class Case:
    """An operator, samples to ask it about, and where more of them come from.

    Args:
        operator: a copy, in eval mode, which may be changed.
        samples: in the operator's order of names, in physical units.
        generator: source of every random number, on the CPU.
        origin: where the samples come from; None: nobody says.
        until: of `time.monotonic`: what takes long ends then, and says so.
        place: where the operator lies, with its run if it has one; None: it came as an object.
    """

    operator: Operator
    samples: Batch
    generator: torch.Generator
    origin: Origin | None = None
    until: float = math.inf
    place: ModelPlace | None = None

    @property
    def system(self) -> System | None:
        """The system that draws such samples, with its ranges; None where it is not known."""
        return None if self.origin is None else self.origin.system

    @property
    def seconds_left(self) -> float:
        """How long the check may still take."""
        return self.until - time.monotonic()

    @property
    def seed(self) -> int:
        """That of the check: the same however much was drawn before."""
        return self.generator.initial_seed() % 2**62

    @cached_property
    def answer(self) -> Tensor:
        """What the operator answers the samples, ``(batch, time, output, *space)``; computed once."""
        return self.operator.answers(self.samples).require_targets()

    def draw_seed(self) -> int:
        """Return a seed from the generator: another one each time."""
        return int(torch.randint(2**31, (), generator=self.generator))

    def errors(self, samples: Batch) -> Tensor:
        """Return the relative L2 error of the operator's answers to samples with solutions, see `errors_of`."""
        answer = self.answer if samples is self.samples else self.operator.answers(samples).require_targets()
        return errors_of(answer, samples.require_targets().double(), samples)

    def first(self, num_samples: int | None) -> Case:
        """Return the case with the first samples alone; None: all of them."""
        if num_samples is None or num_samples >= self.samples.num_samples:
            return self
        return replace(self, samples=self.samples.select(slice(0, num_samples)))

    def drawn(
        self, num_samples: int, system: System, *, grid: Grid | None = None, window: Window | None = None
    ) -> Batch:
        """Draw further samples, with solutions, as the operator is asked about them.

        Args:
            num_samples: how many; the same ones for every system and grid.
            system: what draws them: that of the case, with other ranges perhaps.
            grid: where; that of the samples when left out.
            window: of what evolves, which frames of a trajectory; as the samples have them when left out. One that
                takes a whole trajectory is taken of every one that is drawn.

        Raises:
            SignatureError, DataError: as `System.sample` does.
        """
        window = window or (None if self.origin is None else self.origin.window)
        origin = SystemOrigin.of(system, grid or self.samples.grid, window)
        drawn = origin.draw(num_samples, "trust", seed=self.seed)
        return self.operator.align(drawn).to(dtype=self.samples.inputs.dtype)

    def trajectories(self, num_steps: int | None = None) -> tuple[Batch, Evolving | None]:
        """Return unseen trajectories as windows, one each, and what made them where that is known.

        Args:
            num_steps: how many frames behind the first; None: as far as they go. As many as the samples of the case,
                which themselves are returned where nobody says where they come from.

        Raises:
            SignatureError, DataError: as sampling and reading do.
        """
        origin, history, count = self.origin, self.operator.history, self.samples.num_samples
        stride = 1 if origin is None else origin.window.stride
        if isinstance(origin, SystemOrigin) and isinstance(origin.system, Evolving):
            reaches = (origin.system.num_frames - 1) // stride - history + 1
            window = Window(history, max(1, min(num_steps or reaches, reaches)), stride)
            return self.drawn(count, origin.system, window=window), origin.system
        if isinstance(origin, StoreOrigin):
            times = origin.store.card.times
            reaches = (len(times or ()) - 1) // stride - history + 1
            window = Window(history, max(1, min(num_steps or reaches, reaches)), stride)
            split = origin.store.split("test", window)
            each = split.num_samples // split.num_problems
            firsts = torch.arange(0, split.num_samples, each)[:count]
            return self.operator.align(split.batch(firsts)), None
        return self.samples, None
