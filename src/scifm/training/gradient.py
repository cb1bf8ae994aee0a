"""The gradient of one step, as the pieces of every process add up to it."""

from __future__ import annotations

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from scifm.data.stream import WHOLE, BatchSource, Part
from scifm.errors import ConfigError
from scifm.fields.batch import Batch
from scifm.fields.seeds import generator_for
from scifm.training.processes import World
from scifm.training.sharing import Parcel, SharedLoss, Task

__all__ = ["StepGradient"]


def _weight(batch: Batch) -> float:
    """Return how much the loss of a batch counts beside those of others."""
    return float(batch.num_samples) if batch.loss_weights is None else float(batch.loss_weights.double().sum())


class StepGradient:
    """Computes loss and gradient of a step, a function of its number alone.

    Args:
        module: the shared loss as Fabric set it up.
        shared: the shared loss itself.
        source: batches by step number.
        fabric: owns device and precision.
        dtype: of the batches.
        world: the processes.
        micro_batches: pieces in which each process takes its share.
        seed: of what the objective draws.
    """

    def __init__(
        self,
        module: nn.Module,
        shared: SharedLoss,
        source: BatchSource,
        *,
        fabric: Fabric,
        dtype: torch.dtype,
        world: World,
        micro_batches: int,
        seed: int,
    ) -> None:
        self.module, self.shared, self.source, self.fabric = module, shared, source, fabric
        self.dtype, self.world, self.seed = dtype, world, seed
        self.pieces = Part(world.rank, world.size).split(micro_batches)

    def batch(self, step: int, part: Part) -> Batch:
        """Return a part of the batch of a step, on the device."""
        batch = self.source.batch(step) if part == WHOLE else self.source.batch(step, part)
        return batch.to(self.fabric.device, self.dtype)

    def require_samples(self, step: int) -> None:
        """Check that no piece of a step is empty; batches are of one size, and all processes are told alike.

        Raises:
            ConfigError: if one is.
        """
        pieces = self.pieces
        if pieces != [WHOLE] and self.world.any(not all(self.batch(step, part).num_samples for part in pieces)):
            raise ConfigError(
                f"A step is divided among {self.world.size} processes in {len(pieces)} pieces each, and "
                "has fewer samples than that. Raise training.batch_size (and have as many samples), or divide less."
            )

    def generator(self, step: int, part: Part) -> torch.Generator:
        """Return what the objective draws from there: a function of numbers, so nothing of it is ever saved."""
        return generator_for(self.seed, "objective", step, part.number, part.count, device=self.fabric.device)

    def compute(self, step: int) -> tuple[float, Batch]:
        """Add the gradient to those beside the weights; return the loss and the last piece it was taken on."""
        if len(self.pieces) == 1 and self.world.size == 1:
            batch = self.batch(step, self.pieces[0])
            loss = self._loss(step, self.pieces[0], batch)
            self.fabric.backward(loss)
            return float(loss.detach()), batch
        batches = [self.batch(step, part) for part in self.pieces]
        weights = [_weight(batch) for batch in batches]
        every, value = self.world.total(sum(weights)), 0.0
        for part, batch, weight in zip(self.pieces, batches, weights, strict=True):
            with self.shared.adding_up(batch is batches[-1]):
                loss = self._loss(step, part, batch)
                self.fabric.backward(loss * (weight * self.world.size / every))  # they average over processes
            value += float(loss.detach()) * weight / every
        return self.world.total(value), batches[-1]

    def _loss(self, step: int, part: Part, batch: Batch) -> Tensor:
        loss: Tensor = self.module(Parcel(Task(batch, step, self.generator(step, part)))).content
        return loss
