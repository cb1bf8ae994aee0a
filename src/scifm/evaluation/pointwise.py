"""Errors point by point: one name, one formula (docs/concepts/metrics.md).

All take ``prediction`` and ``target`` of shape ``(batch, time, channel, *space)`` and reduce **space only**, returning
``(batch, time, channel)``. Reducing further is a separate act of the caller. NaN in gives NaN out; nothing is hidden by
an ε, so a target that vanishes gives infinity or NaN.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from scifm.errors import SignatureError

__all__ = ["METRICS", "mae", "max_error", "relative_l2", "relative_l2_joint", "rmse", "vrmse"]


def _flatten(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    if prediction.shape != target.shape or prediction.dim() < 4:
        raise SignatureError(
            f"Metrics need two tensors (batch, time, channel, *space) of one shape; got {tuple(prediction.shape)} and "
            f"{tuple(target.shape)}."
        )
    return (prediction - target).flatten(3), target.flatten(3)


def relative_l2(prediction: Tensor, target: Tensor) -> Float[Tensor, "batch time channel"]:
    """‖e‖₂ / ‖y‖₂ over space.

    Perfect 0 · predicting the spatial mean std(y)/rms(y), at most 1 · predicting zero 1. On a uniform grid this is also
    what others call nRMSE. Reference: Subramanian et al., arXiv:2306.00258.
    """
    error, truth = _flatten(prediction, target)
    return torch.linalg.vector_norm(error, dim=-1) / torch.linalg.vector_norm(truth, dim=-1)


def relative_l2_joint(prediction: Tensor, target: Tensor) -> Float[Tensor, "batch time"]:
    """‖e‖₂ / ‖y‖₂ over space and channels together; returns ``(batch, time)``.

    Only to compare with papers that pool channels: a channel of large mean hides the others. Perfect 0.
    """
    error, truth = _flatten(prediction, target)
    norm = torch.linalg.vector_norm
    return norm(error, dim=(-2, -1)) / norm(truth, dim=(-2, -1))


def vrmse(prediction: Tensor, target: Tensor) -> Float[Tensor, "batch time channel"]:
    """rms(e) / std(y) over space, std with ddof 0.

    Perfect 0 · predicting the spatial mean 1. Reference: Ohana et al., The Well, arXiv:2412.00568 (without its ε).
    """
    error, truth = _flatten(prediction, target)
    return error.square().mean(-1).sqrt() / truth.var(-1, correction=0).sqrt()


def rmse(prediction: Tensor, target: Tensor) -> Float[Tensor, "batch time channel"]:
    """rms(e) over space, in the field's unit. Perfect 0 · predicting the spatial mean std(y)."""
    return _flatten(prediction, target)[0].square().mean(-1).sqrt()


def mae(prediction: Tensor, target: Tensor) -> Float[Tensor, "batch time channel"]:
    """mean |e| over space, in the field's unit. Perfect 0."""
    return _flatten(prediction, target)[0].abs().mean(-1)


def max_error(prediction: Tensor, target: Tensor) -> Float[Tensor, "batch time channel"]:
    """max |e| over space, in the field's unit. Perfect 0."""
    return _flatten(prediction, target)[0].abs().amax(-1)


METRICS = {
    "relative_l2": relative_l2,
    "vrmse": vrmse,
    "rmse": rmse,
    "mae": mae,
    "max_error": max_error,
}
