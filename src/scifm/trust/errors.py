"""The error of each sample, as checks compare them: with those that have none told apart from those that are broken."""

from __future__ import annotations

import torch
from torch import Tensor

from scifm.evaluation.pointwise import relative_l2, undefined_of
from scifm.fields.batch import Batch

__all__ = ["errors_of"]


def errors_of(answer: Tensor, truth: Tensor, samples: Batch) -> Tensor:
    """Return the relative L2 error of each sample, the mean over frames and channels that have one; NaN for none.

    Infinite where an answer is no number: that is not left out as a truth that is zero is.
    """
    grid, valid, counted = samples.grid, samples.valid_targets, samples.counted()
    broken = (~(answer if valid is None else torch.where(valid, answer, 0.0)).isfinite()).flatten(1).any(1)
    errors, undefined = (
        relative_l2(answer.to(truth), truth, grid, valid=valid),
        undefined_of("relative_l2", truth, valid),
    )
    undefined = undefined if counted is None else undefined | ~counted
    total = torch.where(undefined, 0.0, errors).flatten(1).sum(1)
    count = (~undefined).flatten(1).sum(1)
    return torch.where(broken & (count > 0), torch.inf, total / count)
