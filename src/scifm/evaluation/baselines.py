"""Answers that need no network."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from scifm.fields.batch import Batch

__all__ = ["last_states"]


def last_states(batch: Batch) -> Float[Tensor, "batch 1 output *space"]:
    """Return what every output was in the last input frame: the answer that nothing changes.

    For a point that was missing then stands the mean of the others of its field, zero where all were missing: so this
    answer is compared at the same points as every other.

    Args:
        batch: all outputs are states.
    """
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
