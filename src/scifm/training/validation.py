"""Errors on held-out samples while a model trains, defined also where the truth vanishes."""

from __future__ import annotations

from torch import Tensor

from scifm.data.stream import Part
from scifm.fields.batch import Batch
from scifm.models.operator import Operator
from scifm.objectives.supervised import sizes_of, typical_sizes
from scifm.training.processes import ALONE, World

__all__ = ["sample_errors", "validation_error"]


def validation_error(operator: Operator, batch: Batch, world: World = ALONE) -> float:
    """Return the mean relative L2 error over samples, frames and channels, each process scoring its part of them.

    Where the truth vanishes the error is divided by the typical size over the batch.
    """
    typical = typical_sizes(operator.align(batch).require_targets())
    part = batch.select(Part(world.rank, world.size).of(batch.num_samples)) if world.size > 1 else batch
    return float(world.gather(_errors(operator, part, typical)).mean())


def sample_errors(operator: Operator, batch: Batch) -> Tensor:
    """Return the relative L2 error of each sample, ``(batch,)``, the mean over frames and channels; see above."""
    return _errors(operator, batch, typical_sizes(operator.align(batch).require_targets())).flatten(1).mean(1)


def _errors(operator: Operator, batch: Batch, typical: Tensor) -> Tensor:
    target = operator.align(batch).require_targets()
    return sizes_of(operator.predict(batch).require_targets() - target) / sizes_of(target, typical)
