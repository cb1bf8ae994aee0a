"""Integrals and norms of fields over space.

Every function reduces the last ``grid.num_spatial_dims`` axes and keeps all others. Periodic axes use the rectangle
rule (spectrally accurate there), other axes the trapezoidal rule. NaN in gives NaN out.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from scifm.errors import SignatureError
from scifm.fields.grid import Grid

__all__ = ["integral", "l2_norm", "mean", "rms"]


def _require_space(field: Tensor, grid: Grid) -> tuple[int, ...]:
    dims = grid.num_spatial_dims
    if tuple(field.shape[-dims:]) != grid.num_points:
        raise SignatureError(f"The field's last axes must be {grid.num_points}; got shape {tuple(field.shape)}.")
    return tuple(range(-dims, 0))


def integral(field: Float[Tensor, "..."], grid: Grid) -> Float[Tensor, "..."]:
    """Return ∫ field dx, shape ``(...)`` for a field ``(..., *space)``; unit: field × length**dims.

    Raises:
        SignatureError: if the last axes are not those of the grid.
    """
    dims = _require_space(field, grid)
    for axis, (num, periodic) in enumerate(zip(grid.num_points, grid.periodic, strict=True)):
        if not periodic:
            weights = torch.ones(num, dtype=field.dtype, device=field.device)
            weights[0] = weights[-1] = 0.5
            shape = [1] * grid.num_spatial_dims
            shape[axis] = num
            field = field * weights.view(shape)
    return field.sum(dims) * math.prod(grid.spacing)


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
