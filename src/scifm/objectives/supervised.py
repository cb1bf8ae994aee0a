"""Losses against known targets: differentiable, one scalar, zero at the truth."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from scifm.errors import ConfigError, suggest
from scifm.fields.batch import Batch

__all__ = [
    "SUPERVISED", "VANISHES", "mean_squared_error", "objective_named", "relative_l2_loss", "sizes_of",
    "summed_squared_error", "typical_sizes",
]  # fmt: skip

VANISHES = 1e-6
"""Part of the typical size below which a target counts as zero."""

Objective = Callable[[Batch, Batch], Tensor]


def _error(prediction: Batch, truth: Batch) -> Tensor:
    return prediction.require_targets() - truth.require_targets()


def _mean(losses: Tensor, truth: Batch) -> Tensor:
    """Return the mean of losses ``(batch, …)`` over everything, samples weighed by the batch's weights."""
    if truth.loss_weights is None:
        return losses.mean()
    weights = truth.loss_weights
    return (losses.flatten(1).mean(1) * weights).sum() / weights.sum()


def relative_l2_loss(prediction: Batch, truth: Batch, *, typical: Tensor | None = None) -> Tensor:
    """Mean over samples, frames and channels of ‖prediction − truth‖₂ / ‖truth‖₂ over space.

    Every sample weighs the same whatever its size. There is no hidden ε: a sample whose truth vanishes gives infinity,
    unless `typical` says what to divide by there.

    Args:
        prediction: the answers.
        truth: the same samples with what they should be.
        typical: ``(channel,)``, `typical_sizes` of the training samples.
    """
    size = sizes_of(truth.require_targets(), typical)
    return _mean(torch.linalg.vector_norm(_error(prediction, truth).flatten(3), dim=-1) / size, truth)


def sizes_of(targets: Tensor, typical: Tensor | None = None) -> Tensor:
    """Return ‖target‖₂ over space, ``(batch, time, channel)``, of targets ``(batch, time, channel, *space)``.

    Where a target vanishes, which is below a millionth of the typical size, it is the typical size, if that is given.
    """
    size = torch.linalg.vector_norm(targets.flatten(3), dim=-1)
    if typical is None:
        return size
    typical = typical.to(size)
    return torch.where(size > VANISHES * typical, size, typical)


def typical_sizes(targets: Tensor) -> Tensor:
    """Return the root mean square over samples and frames of ‖target‖₂, ``(channel,)``.

    Of a channel that is zero in all of them it is that of a field of ones: as if it were measured in its own unit.
    """
    size = sizes_of(targets).double().square().mean(dim=(0, 1)).sqrt()
    return torch.where(size > 0, size, math.sqrt(targets[0, 0, 0].numel()))


def mean_squared_error(prediction: Batch, truth: Batch) -> Tensor:
    """Mean of (prediction − truth)² over everything."""
    return _mean(_error(prediction, truth).square(), truth)


def summed_squared_error(prediction: Batch, truth: Batch) -> Tensor:
    """Sum of (prediction − truth)² over space and channels, mean over samples: the reference paper's loss."""
    return _mean(_error(prediction, truth).square().flatten(1).sum(1, keepdim=True), truth)


SUPERVISED: dict[str, Objective] = {
    "relative_l2": relative_l2_loss,
    "mean_squared_error": mean_squared_error,
    "summed_squared_error": summed_squared_error,
}


def objective_named(name: str) -> Objective:
    """Return the loss of that name.

    Raises:
        ConfigError: if there is none.
    """
    if name not in SUPERVISED:
        raise ConfigError(suggest(name, SUPERVISED))
    return SUPERVISED[name]
