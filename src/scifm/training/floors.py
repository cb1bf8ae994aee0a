"""What an objective is at the truth, told before training: below that no training goes."""

from __future__ import annotations

import warnings

import torch

from scifm.fields.batch import Batch
from scifm.models.operator import Operator
from scifm.objectives.objective import Objective

__all__ = ["floors_at"]

_MOST = 64  # samples that are looked at
_MUCH = 0.1  # of what is known: a floor above that is told as a warning


def floors_at(objective: Objective, operator: Operator, truth: Batch) -> dict[str, float]:
    """Return what an objective is at the truth, by system, where it says that this is not zero; warn where it is much.

    Args:
        objective: as training prepared it.
        operator: in whose names the samples are asked.
        truth: solved samples, of which some are looked at; of a mixture of every member.
    """
    some = torch.linspace(0, truth.num_samples - 1, min(truth.num_samples, _MOST)).round().long()
    floors = objective.floor(operator.align(truth.select(some)))
    for system, floor in floors.items():
        if floor > _MUCH:
            warnings.warn(
                f"Solutions of '{system}' themselves miss the equation by {floor:.0%} of what is known on this grid "
                "and between these frames, and no answer can be told from the truth by less. Take frames that are "
                "closer (data.stride, save_interval), several at a time (data.horizon), or a finer grid.",
                stacklevel=2,
            )
    return floors
