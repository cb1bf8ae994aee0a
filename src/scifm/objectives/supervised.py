"""Losses against known targets: differentiable, one scalar, zero at the truth."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from scifm.errors import ConfigError, suggest
from scifm.fields.batch import Batch

__all__ = ["SUPERVISED", "mean_squared_error", "objective_named", "relative_l2_loss", "summed_squared_error"]

Objective = Callable[[Batch, Batch], Tensor]


def _error(prediction: Batch, truth: Batch) -> Tensor:
    return prediction.require_targets() - truth.require_targets()


def _mean(losses: Tensor, truth: Batch) -> Tensor:
    """Return the mean of losses ``(batch, …)`` over everything, samples weighed by the batch's weights."""
    if truth.loss_weights is None:
        return losses.mean()
    weights = truth.loss_weights
    return (losses.flatten(1).mean(1) * weights).sum() / weights.sum()


def relative_l2_loss(prediction: Batch, truth: Batch) -> Tensor:
    """Mean over samples, frames and channels of ‖prediction − truth‖₂ / ‖truth‖₂ over space.

    Every sample weighs the same whatever its size. A sample whose truth vanishes gives infinity: there is no hidden ε.
    """
    target = truth.require_targets()
    size = torch.linalg.vector_norm(target.flatten(3), dim=-1)
    return _mean(torch.linalg.vector_norm(_error(prediction, truth).flatten(3), dim=-1) / size, truth)


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
