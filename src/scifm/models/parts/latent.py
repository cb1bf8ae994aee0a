"""Band-limited passage between the grid of the data and the coarser grid of the hidden layers.

Where solutions are smooth, hidden layers on n < N points a side do the same work (N/n)² times cheaper in two
dimensions. The passage is one small matrix an axis, exact for every mode below half the smaller number of points; modes
above are dropped on the way down and absent on the way up, so a network behind it answers with those modes at zero.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from scifm.models.parts.native import is_exporting

__all__ = ["band_limited_resize", "resize_matrix"]


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def resize_matrix(num_from: int, num_to: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the ``(num_to, num_from)`` matrix that samples the low modes of a periodic line on another grid."""
    top = (min(num_from, num_to) - 1) // 2  # the Nyquist mode has no sign and is left out
    source = torch.arange(num_from, dtype=torch.float64) / num_from
    target = torch.arange(num_to, dtype=torch.float64) / num_to
    wavenumbers = torch.arange(1, top + 1, dtype=torch.float64)
    distance = target[:, None, None] - source[None, :, None]
    kernel = 1 + 2 * torch.cos(2 * math.pi * wavenumbers * distance).sum(-1)
    return (kernel / num_from).to(dtype=dtype, device=device)


def _matrix_in_a_program(num_from: int, num_to: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the same for numbers of points that may be symbols, equal ones not excluded: then the identity."""
    source, target = torch.arange(num_from, device=device), torch.arange(num_to, device=device)
    matrix = resize_matrix.__wrapped__(num_from, num_to, dtype, device)
    return torch.where(source[-1] == target[-1], (target[:, None] == source).to(dtype), matrix)


def band_limited_resize(fields: Tensor, num_points: tuple[int, ...]) -> Tensor:
    """Return ``(..., *space)`` fields on `num_points` per axis, low modes kept exactly.

    Axes that already have the right number of points are left untouched, high modes included.
    """
    first = fields.dim() - len(num_points)
    for axis, points in enumerate(num_points, start=first):
        here = fields.shape[axis]
        if isinstance(here, torch.SymInt) != isinstance(points, torch.SymInt) or here != points:
            build = _matrix_in_a_program if is_exporting() else resize_matrix
            matrix = build(here, points, fields.dtype, fields.device)
            fields = (fields.transpose(axis, -1) @ matrix.T).transpose(axis, -1)
    return fields
