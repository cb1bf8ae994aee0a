"""Errors point by point: one name, one formula (docs/concepts/metrics.md).

All take ``prediction`` and ``target`` of shape ``(batch, time, channel, *space)`` and the ``grid`` they live on, and
reduce **space only**, returning ``(batch, time, channel)``. Means over space are integrals, as in `scifm.fields.norms`:
where a box has walls, the points on them count half. Without a grid all points count alike, as on a periodic box.
With ``valid``, bool of their shape, they are integrals over the points that count, whatever stands at the others, and
NaN where none does.
Reducing further is a separate act of the caller. NaN in gives NaN out; nothing is hidden by an ε, so a target that
vanishes gives infinity or NaN.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from scifm.errors import SignatureError
from scifm.fields import norms
from scifm.fields.grid import Grid

__all__ = ["METRICS", "mae", "max_error", "relative_l2", "relative_l2_joint", "rmse", "undefined_of", "vrmse"]


def _require_pair(prediction: Tensor, target: Tensor) -> None:
    if prediction.shape != target.shape or prediction.dim() < 4:
        raise SignatureError(
            f"Metrics need two tensors (batch, time, channel, *space) of one shape; got {tuple(prediction.shape)} and "
            f"{tuple(target.shape)}."
        )


def _needed(valid: Tensor | None) -> Tensor | None:
    """Return a mask, or None for one that hides nothing: then numbers are those without it, to the last digit."""
    return None if valid is None or bool(valid.all()) else valid


def _mean(fields: Tensor, grid: Grid | None, valid: Tensor | None = None) -> Tensor:
    """Return the mean over space."""
    weights = None if grid is None else norms.point_weights(grid, fields)
    if valid is not None:
        weights = valid.to(fields) if weights is None else valid * weights
        return (torch.where(valid, fields, 0.0) * weights).flatten(3).sum(-1) / weights.flatten(3).sum(-1)
    if weights is None:
        return fields.flatten(3).mean(-1)
    return (fields * weights).flatten(3).sum(-1) / weights.sum()


def _errors(prediction: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
    """Return prediction − target, zero at points that are missing."""
    error = prediction - target
    return error if valid is None else torch.where(valid, error, 0.0)


def relative_l2(
    prediction: Tensor, target: Tensor, grid: Grid | None = None, *, valid: Tensor | None = None
) -> Float[Tensor, "batch time channel"]:
    """‖e‖₂ / ‖y‖₂ over space.

    Perfect 0 · predicting the spatial mean std(y)/rms(y), at most 1 · predicting zero 1. On a uniform periodic grid
    this is also what others call nRMSE. Reference: Subramanian et al., arXiv:2306.00258.
    """
    _require_pair(prediction, target)
    return norms.relative_l2(prediction, target, grid, valid=_needed(valid))


def relative_l2_joint(
    prediction: Tensor, target: Tensor, grid: Grid | None = None, *, valid: Tensor | None = None
) -> Float[Tensor, "batch time"]:
    """‖e‖₂ / ‖y‖₂ over space and channels together; returns ``(batch, time)``.

    Only to compare with papers that pool channels: a channel of large mean hides the others. Perfect 0.
    """
    _require_pair(prediction, target)
    weights, valid = None if grid is None else norms.point_weights(grid, target), _needed(valid)
    root = 1.0 if weights is None else weights.sqrt()
    truth = target if valid is None else torch.where(valid, target, 0.0)
    error, truth = ((fields * root).flatten(3) for fields in (_errors(prediction, target, valid), truth))
    return torch.linalg.vector_norm(error, dim=(-2, -1)) / torch.linalg.vector_norm(truth, dim=(-2, -1))


def vrmse(
    prediction: Tensor, target: Tensor, grid: Grid | None = None, *, valid: Tensor | None = None
) -> Float[Tensor, "batch time channel"]:
    """rms(e) / std(y) over space, std with ddof 0; of series, see `norms.is_series`, std(y) over time.

    Perfect 0 · predicting the spatial mean 1. Reference: Ohana et al., The Well, arXiv:2412.00568 (without its ε; there
    points on walls count whole).
    """
    _require_pair(prediction, target)
    valid = _needed(valid)
    if norms.is_series(target):
        return _mean(_errors(prediction, target, valid).square(), grid, valid).sqrt() / _spread_in_time(target, valid)
    column = (*target.shape[:3], *(1,) * (target.dim() - 3))
    first = target.flatten(3)[..., 0] if valid is None else _first(target, valid)
    moved = _errors(target, first.view(column), valid)  # a constant field is exactly zero then, its variance as well
    spread = _mean((moved - _mean(moved, grid, valid).view(column)).square(), grid, valid).sqrt()
    return _mean(_errors(prediction, target, valid).square(), grid, valid).sqrt() / spread


def _spread_in_time(series: Tensor, valid: Tensor | None) -> Tensor:
    """Return the standard deviation over the frames that count, ``(batch, 1, channel)``."""
    values = series.flatten(2)
    counts = torch.ones_like(values) if valid is None else valid.flatten(2).to(values)
    values, number = torch.where(counts > 0, values, 0.0), counts.sum(1, keepdim=True)
    first = values.gather(1, counts.argmax(1, keepdim=True))  # what is constant has no variance then, to the last digit
    moved = (values - first) * counts
    about = (moved - moved.sum(1, keepdim=True) / number) * counts
    return (about.square().sum(1, keepdim=True) / number).sqrt()


def _first(fields: Tensor, valid: Tensor) -> Tensor:
    """Return of each field the number at its first point that counts, ``(batch, time, channel)``."""
    place = valid.flatten(3).int().argmax(-1, keepdim=True)
    return fields.flatten(3).gather(-1, place)[..., 0]


def rmse(
    prediction: Tensor, target: Tensor, grid: Grid | None = None, *, valid: Tensor | None = None
) -> Float[Tensor, "batch time channel"]:
    """rms(e) over space, in the field's unit. Perfect 0 · predicting the spatial mean std(y)."""
    _require_pair(prediction, target)
    valid = _needed(valid)
    return _mean(_errors(prediction, target, valid).square(), grid, valid).sqrt()


def mae(
    prediction: Tensor, target: Tensor, grid: Grid | None = None, *, valid: Tensor | None = None
) -> Float[Tensor, "batch time channel"]:
    """mean |e| over space, in the field's unit. Perfect 0."""
    _require_pair(prediction, target)
    valid = _needed(valid)
    return _mean(_errors(prediction, target, valid).abs(), grid, valid)


def max_error(
    prediction: Tensor, target: Tensor, grid: Grid | None = None, *, valid: Tensor | None = None
) -> Float[Tensor, "batch time channel"]:
    """max |e| over space, in the field's unit. Perfect 0."""
    _require_pair(prediction, target)
    valid = _needed(valid)
    largest = _errors(prediction, target, valid).flatten(3).abs().amax(-1)
    return largest if valid is None else torch.where(valid.flatten(3).any(-1), largest, torch.nan)


METRICS = {
    "relative_l2": relative_l2,
    "vrmse": vrmse,
    "rmse": rmse,
    "mae": mae,
    "max_error": max_error,
}
"""Metrics by name: what a run is scored by, and training validates by."""


def undefined_of(metric: str, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return where a truth has no error by this metric: its own, which else is zero, is no number."""
    known = target if valid is None else torch.where(valid, target, 0.0)
    return METRICS[metric](target, target, valid=valid).isnan() & known.isfinite().flatten(3).all(dim=-1)
