"""Answers that need no network."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from scifm.fields.batch import Batch
from scifm.fields.observed import one_step_samples

__all__ = ["last_states"]


def last_states(batch: Batch) -> Float[Tensor, "batch frames output *space"]:
    """Return what every output was in the last input frame: the answer that nothing changes; one frame for all targets.

    Of observed windows it is the frame before each target.

    For a point that was missing then stands the mean of the others of its field, zero where all were missing: so this
    answer is compared at the same points as every other.

    Args:
        batch: all outputs are states.
    """
    if batch.observed and batch.num_frames > 1:
        each = last_states(one_step_samples(batch))
        return each.view(batch.num_samples, -1, *each.shape[2:])
    names = batch.signature
    columns = []
    for name in names.outputs:
        field, valid = batch.field(name)[:, -1:], batch.valid(name)
        if valid is not None:
            known = valid[:, -1:]
            total, count = torch.where(known, field, 0.0).flatten(1).sum(1), known.flatten(1).sum(1)
            mean = (total / count.clamp(min=1)).view(-1, *(1,) * (field.dim() - 1))
            field = torch.where(known, field, mean)
        columns.append(field)
    return torch.stack(columns, dim=2)
