"""Integrals and norms of fields over space.

Every function reduces the last ``grid.num_spatial_dims`` axes and keeps all others. Periodic axes use the rectangle
rule (spectrally accurate there), other axes the trapezoidal rule. NaN in gives NaN out.

Relative errors of metrics, losses and figures are one formula, `relative_l2`. It is not defined where the truth
vanishes. While a model trains, which must go on, such a truth counts as large as its channel typically is (`sizes_of`
with `typical_sizes`); an evaluation stays what it is by definition: infinite there.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from scifm.fields.grid import Grid

__all__ = [
    "DIES_OUT", "VANISHES", "integral", "l2_norm", "mean", "point_weights", "relative_l2", "rms", "sizes_of",
    "typical_sizes", "vanishing_part",
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
            weights.movedim(axis, 0)[[0, -1]] *= 0.5
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


def sizes_of(
    fields: Float[Tensor, "batch time channel *space"],
    grid: Grid | None = None,
    typical: Tensor | None = None,
    *,
    vanishes: float = VANISHES,
) -> Float[Tensor, "batch time channel"]:
    """Return ‖field‖₂ over space in units of the root of a cell's volume: plain sums over points on periodic boxes.

    Args:
        fields: of any number of samples, frames and channels.
        grid: where they live; None: all points count alike, as on a periodic box.
        typical: ``(channel,)``: what a size below a small part of it is replaced by.
        vanishes: that part.
    """
    weights = None if grid is None else point_weights(grid, fields)
    size = torch.linalg.vector_norm((fields if weights is None else fields * weights.sqrt()).flatten(3), dim=-1)
    if typical is None:
        return size
    typical = typical.to(size)
    return torch.where(size > vanishes * typical, size, typical)


def typical_sizes(
    targets: Float[Tensor, "batch time channel *space"], grid: Grid | None = None, present: Tensor | None = None
) -> Float[Tensor, " channel"]:
    """Return the root mean square over samples and frames of ‖target‖₂.

    Of a channel that is zero in all of them it is that of a field of ones: as if it were measured in its own unit.

    Args:
        targets: of any number of samples, frames and channels.
        grid: where they live, as for `sizes_of`.
        present: ``(batch, channel)`` bool: which channels count of each sample; None: all.
    """
    square = sizes_of(targets, grid).double().square().mean(dim=1)
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
) -> Float[Tensor, "batch time channel"]:
    """Return ‖prediction − target‖₂ / ‖target‖₂ over space; arguments as of `sizes_of` and `typical_sizes`.

    Of a channel that is not present it is the size of the answer, zero for an operator's.
    """
    size = sizes_of(target, grid, typical, vanishes=vanishes)
    return sizes_of(prediction - target, grid) / (size if present is None else torch.where(present[:, None], size, 1.0))
