"""Integrals and norms of fields over space.

Every function reduces the last ``grid.num_spatial_dims`` axes and keeps all others. Periodic axes use the rectangle
rule (spectrally accurate there), other axes the trapezoidal rule. NaN in gives NaN out.

Relative errors of metrics, losses and figures are one formula, `relative_l2`. It is not defined where the truth
vanishes. While a model trains, which must go on, such a truth counts as large as its channel typically is (`sizes_of`
with `typical_sizes`); an evaluation stays what it is by definition: infinite there.

A series has no space to go over, and passes through zero now and then: its size is that of all its frames together.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from scifm.fields.grid import Grid

__all__ = [
    "DIES_OUT", "VANISHES", "integral", "is_series", "l2_norm", "mean", "point_weights", "relative_l2", "rms",
    "sizes_of", "typical_sizes", "valid_share", "vanishing_part",
]  # fmt: skip

VANISHES = 1e-6
"""Part of the typical size below which a target counts as zero."""
DIES_OUT = 1e-2
"""The same of what evolves: a field may die out, and errors relative to its last trace would outweigh all others."""


def vanishing_part(evolves: bool) -> float:
    """Return the part of the typical size below which a target counts as zero while a model trains."""
    return DIES_OUT if evolves else VANISHES


def integral(field: Float[Tensor, "..."], grid: Grid) -> Float[Tensor, "..."]:
    """Return ∫ field dx, shape ``(...)`` for a field ``(..., *space)``; unit: field × length**dims.

    Raises:
        SignatureError: if the last axes are not those of the grid.
    """
    dims = grid.axes_of(field)
    weights = point_weights(grid, field)
    field = field if weights is None else field * weights
    return field.sum(dims) * math.prod(grid.spacing)


def point_weights(grid: Grid, like: Tensor) -> Tensor | None:
    """Return how much each point counts, ``(*space)``: 1 inside, half at each wall; None where all count alike."""
    if all(grid.periodic):
        return None
    weights = like.new_ones(grid.num_points)
    for axis, periodic in enumerate(grid.periodic):
        if not periodic:
            for end in (0, -1):
                weights.select(axis, end).mul_(0.5)
    return weights


def mean(field: Float[Tensor, "..."], grid: Grid) -> Float[Tensor, "..."]:
    """Return the average over space, shape ``(...)``; unit: that of the field."""
    return integral(field, grid) / math.prod(grid.extent)


def l2_norm(field: Float[Tensor, "..."], grid: Grid) -> Float[Tensor, "..."]:
    """Return (∫ field² dx)^½, shape ``(...)``; unit: field × length**(dims/2).

    Raises:
        SignatureError: if the last axes are not those of the grid.
    """
    return integral(field * field, grid).sqrt()


def rms(field: Float[Tensor, "..."], grid: Grid) -> Float[Tensor, "..."]:
    """Return the root of the spatial mean of field², shape ``(...)``; unit: that of the field.

    Raises:
        SignatureError: if the last axes are not those of the grid.
    """
    return mean(field * field, grid).sqrt()


def valid_share(valid: Bool[Tensor, "batch time channel *space"], grid: Grid | None, like: Tensor) -> Tensor:
    """Return which part of space the points that count stand for, ``(batch, time, channel)``; 1.0 exactly where all do.

    Args:
        valid: at which points fields count.
        grid: where they live; None: all points stand for as much, as on a periodic box.
        like: the fields, for the precision.
    """
    weights = None if grid is None else point_weights(grid, like)
    if weights is None:
        return valid.flatten(3).sum(-1).to(like.dtype) / valid[0, 0, 0].numel()
    return (valid * weights).flatten(3).sum(-1) / weights.sum()


def is_series(fields: Float[Tensor, "batch time channel *space"]) -> bool:
    """Return whether fields are of one place, and of several times: what differs there, differs in time."""
    return math.prod(fields.shape[3:]) == 1 and fields.shape[1] > 1


def sizes_of(
    fields: Float[Tensor, "batch time channel *space"],
    grid: Grid | None = None,
    typical: Tensor | None = None,
    *,
    vanishes: float = VANISHES,
    valid: Tensor | None = None,
    together: bool = False,
) -> Float[Tensor, "batch time channel"]:
    """Return ‖field‖₂ over space in units of the root of a cell's volume: plain sums over points on periodic boxes.

    Args:
        fields: of any number of samples, frames and channels.
        grid: where they live; None: all points count alike, as on a periodic box.
        typical: ``(channel,)``: what a size below a small part of it is replaced by; of a field with missing points,
            the part of it that the others stand for.
        vanishes: that part.
        valid: ``(batch, time, channel, *space)`` bool: at which points fields count; None: at all.
        together: whether all frames have one size, the root mean square over those that count.
    """
    weights = None if grid is None else point_weights(grid, fields)
    fields = fields if valid is None else torch.where(valid, fields, 0.0)
    size = torch.linalg.vector_norm((fields if weights is None else fields * weights.sqrt()).flatten(3), dim=-1)
    if together:
        counts = torch.ones_like(size) if valid is None else valid.flatten(3).any(-1).to(size)
        square = size.square().sum(1, keepdim=True) / counts.sum(1, keepdim=True).clamp(min=1)
        size = square.sqrt().expand_as(size)
    if typical is None:
        return size
    typical = typical.to(size)
    typical = typical if valid is None else typical * valid_share(valid, grid, fields).sqrt()
    return torch.where(size > vanishes * typical, size, typical)


def typical_sizes(
    targets: Float[Tensor, "batch time channel *space"],
    grid: Grid | None = None,
    present: Tensor | None = None,
    valid: Tensor | None = None,
) -> Float[Tensor, " channel"]:
    """Return the root mean square over samples and frames of ‖target‖₂; with missing points, as if it were whole.

    Of a channel that is zero in all of them it is that of a field of ones: as if it were measured in its own unit.

    Args:
        targets: of any number of samples, frames and channels.
        grid: where they live, as for `sizes_of`.
        present: ``(batch, channel)`` or ``(batch, time, channel)`` bool: which channels count of each; None: all.
        valid: at which points, as for `sizes_of`.
    """
    square = sizes_of(targets, grid, valid=valid).double().square()
    if valid is not None:
        share = valid_share(valid, grid, square.new_empty(()).expand(targets.shape))
        square, counted = square / share.clamp(min=torch.finfo(share.dtype).tiny), share > 0
        if present is not None:
            counted = counted & (present if present.dim() == 3 else present[:, None])
        size = (torch.where(counted, square, 0.0).sum((0, 1)) / counted.sum((0, 1)).clamp(min=1)).sqrt()
    else:
        present = present if present is None or present.dim() == 2 else present[:, 0]
        square = square.mean(dim=1)
        size = (square.mean(0) if present is None else square.sum(0) / present.sum(0).clamp(min=1)).sqrt()
    return torch.where(size > 0, size, sizes_of(torch.ones_like(targets[:1, :1, :1], dtype=size.dtype), grid).view(()))


def relative_l2(
    prediction: Tensor,
    target: Tensor,
    grid: Grid | None = None,
    *,
    typical: Tensor | None = None,
    vanishes: float = VANISHES,
    present: Tensor | None = None,
    valid: Tensor | None = None,
) -> Float[Tensor, "batch time channel"]:
    """Return ‖prediction − target‖₂ / ‖target‖₂ over space; arguments as of `sizes_of` and `typical_sizes`.

    Of series, see `is_series`, what is divided by is the root mean square over time.

    Of a channel that is not present it is the size of the answer, zero for an operator's. Of one without a point that
    counts it is NaN, but where `present` says that it is not there.
    """
    size = sizes_of(target, grid, typical, vanishes=vanishes, valid=valid, together=is_series(target))
    if present is not None:
        size = torch.where(present if present.dim() == 3 else present[:, None], size, 1.0)
    return sizes_of(prediction - target, grid, valid=valid) / size
