"""Scores on held-out samples, defined also where the truth vanishes: of all of them, and of each system's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from scifm.data.stream import Part
from scifm.evaluation.pointwise import METRICS
from scifm.fields.batch import Batch
from scifm.fields.norms import relative_l2, typical_sizes, vanishing_part
from scifm.models.operator import Operator
from scifm.training.processes import ALONE, World

__all__ = ["sample_errors", "validation_errors"]


def validation_errors(
    operator: Operator, batch: Batch, metrics: Sequence[str], world: World = ALONE
) -> dict[str, float]:
    """Return means over samples, frames and channels by metric, each process scoring its part of the samples.

    Of samples of several systems also those of each, as ``metric/system``. The relative L2 error is divided by the
    typical size over the batch where the truth vanishes.

    Args:
        metrics: names in ``scifm.evaluation.METRICS``.
    """
    whole = operator.align(batch)
    typical = typical_sizes(whole.require_targets(), batch.grid, whole.counted(), whole.valid_targets)
    part = whole.select(Part(world.rank, world.size).of(batch.num_samples)) if world.size > 1 else whole
    answer, target = operator.answers(part).require_targets(), part.require_targets()
    present, valid = part.counted(), part.valid_targets
    means = {}
    for name in dict.fromkeys(metrics):
        if name == "relative_l2":
            vanishes = vanishing_part(whole.signature.evolves)
            about: dict[str, Any] = {"typical": typical, "vanishes": vanishes}
            errors = relative_l2(answer, target, batch.grid, valid=valid, **about)
        else:
            errors = METRICS[name](answer, target, batch.grid, valid=valid)
        each, counts = (world.gather(part) for part in _means_of_samples(errors, present))
        means[name] = float(each[counts].mean())
        for system, own in _systems(whole).items():
            means[f"{name}/{system}"] = float(each[counts & own].mean())
    return means


def _systems(batch: Batch) -> dict[str, Tensor]:
    """Return which samples are of each system, where there are several systems."""
    names = list(dict.fromkeys(batch.systems))
    of = torch.tensor([names.index(name) for name in batch.systems], device=batch.inputs.device)
    return {name: of == place for place, name in enumerate(names)} if len(names) > 1 else {}


def _means_of_samples(errors: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the mean of errors ``(batch, time, channel)`` over the frames and channels that count of each sample.

    And in which samples some do: the others are left out of what is made of it.
    """
    if present is None:
        return errors.flatten(1).mean(1), errors.new_ones(len(errors), dtype=torch.bool)
    there = present.flatten(1).sum(1)
    return torch.where(present, errors, 0.0).flatten(1).sum(1) / there.clamp(min=1), there > 0


def sample_errors(operator: Operator, batch: Batch) -> Tensor:
    """Return the relative L2 error of each sample, ``(batch,)``, the mean over frames and channels; see above.

    Samples in which nothing counts are left out.
    """
    batch = operator.align(batch)
    target, present, valid = batch.require_targets(), batch.counted(), batch.valid_targets
    typical = typical_sizes(target, batch.grid, present, valid)
    answer, vanishes = operator.answers(batch).require_targets(), vanishing_part(batch.signature.evolves)
    errors = relative_l2(answer, target, batch.grid, typical=typical, vanishes=vanishes, valid=valid)
    each, counts = _means_of_samples(errors, present)
    return each[counts]
