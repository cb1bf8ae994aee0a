"""Samples without solutions: as objectives want them that ask the equation, and never read an answer.

Of a steady system they are drawn and not solved. Of one that evolves they begin at time 0 and say for which times they
are asked: later frames would have to be marched. What lies in a store is read, and its solutions are left where they
are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from scifm.errors import ConfigError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.samples import Samples
from scifm.fields.window import Window
from scifm.systems.evolving import Evolving
from scifm.systems.system import System

__all__ = ["UnsolvedSamples", "as_unsolved", "asked_for_times", "require_one_frame"]


def require_one_frame(system: System, window: Window) -> None:
    """Check that samples of a system can be made without marching it.

    Raises:
        ConfigError: if several input frames are asked for.
    """
    if isinstance(system, Evolving) and window.history > 1:
        raise ConfigError(
            f"history = {window.history}: frames before the last input frame are solutions of '{system.name}', and "
            "samples without solutions have none. Give history = 1, or take samples of a store (scifm generate)."
        )


def asked_for_times(drawn: Batch, system: System, window: Window, generator: torch.Generator) -> Batch:
    """Return problems at time 0 with the times of a window; of several leads each is asked for one of them.

    Raises:
        ConfigError: if the window has several input frames.
    """
    require_one_frame(system, window)
    if not isinstance(system, Evolving):
        return drawn
    count = drawn.num_samples
    lead = torch.randint(window.leads, (count, 1), generator=generator, device=generator.device) + 1
    frames = (lead + torch.arange(window.horizon, device=lead.device)).to(drawn.inputs)
    return replace(drawn, lead_time=frames * window.stride * system.save_interval)


def as_unsolved(batch: Batch) -> Batch:
    """Return samples that stand beside solved ones: targets that are zero and count nowhere."""
    frames, space = batch.num_frames, batch.grid.num_points
    targets = batch.inputs.new_zeros(batch.num_samples, frames, len(batch.signature.outputs), *space)
    return batch.with_targets(targets, torch.zeros_like(targets, dtype=torch.bool))


@dataclass(frozen=True)
class UnsolvedSamples:
    """The same samples, whose solutions nobody sees; as `Samples`.

    Args:
        samples: with solutions or without.
        outputs: names of what is asked for, where the samples, being inputs alone, do not say it; else empty.
    """

    samples: Samples
    outputs: tuple[str, ...] = ()

    @property
    def signature(self) -> Signature:
        """The names of every sample, with what is asked for."""
        names = self.samples.signature
        return replace(names, outputs=self.outputs) if self.outputs else names

    @property
    def grid(self) -> Grid:
        """The grid of every sample."""
        return self.samples.grid

    @property
    def num_samples(self) -> int:
        """How many there are."""
        return self.samples.num_samples

    @property
    def num_problems(self) -> int:
        """How many problems they are of."""
        return self.samples.num_problems

    @property
    def lead_times(self) -> tuple[float, float] | None:
        """As of the samples with solutions."""
        return self.samples.lead_times

    @property
    def gaps(self) -> tuple[str, ...]:
        """Those of the inputs."""
        return tuple(name for name in self.samples.gaps if name in self.samples.signature.inputs)

    def _without(self, batch: Batch) -> Batch:
        return replace(batch, signature=self.signature, targets=None, valid_targets=None)

    def batch(self, index: slice | Sequence[int] | Tensor) -> Batch:
        """Return some samples, in the order of `index`."""
        return self._without(self.samples.batch(index))

    def some(self, count: int) -> Batch:
        """Return at most `count` samples."""
        return self._without(self.samples.some(count))

    def in_memory(self, at_most: int) -> Batch:
        """Return all samples where they are in memory, else `some` of them."""
        return self._without(self.samples.in_memory(at_most))

    def pieces(self, batch_size: int) -> Iterator[Batch]:
        """Yield all samples in order."""
        return map(self._without, self.samples.pieces(batch_size))

    def problems(self, index: Sequence[int] | Tensor) -> UnsolvedSamples:
        """Return all samples of some problems."""
        return replace(self, samples=self.samples.problems(index))

    def describe(self) -> dict[str, Any]:
        """Return which samples these are."""
        return self.samples.describe()
