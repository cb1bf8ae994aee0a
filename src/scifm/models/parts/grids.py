"""From the grid of the data to that of the network: resampled within its band, and made periodic where it has walls.

Where solutions are smooth, hidden layers on n < N points a side do the same work (N/n)² times cheaper in two
dimensions. The passage is one small matrix an axis, exact for every mode below half the smaller number of points; modes
above are dropped on the way down and absent on the way up, so a network behind it answers with those modes at zero.

A Fourier layer takes its axes as periodic; across the ends of an axis with walls it would see a jump. There the fields
are given a smooth passage from their last value back to their first, a quarter of the axis long, and what a network
answers on the passage is thrown away: domain padding, with the padding made continuous.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from scifm.fields.grid import Grid
from scifm.models.parts.native import is_exporting

__all__ = ["are_equal", "band_limited_resize", "cropped", "extend_to_period", "position_channels", "resize_matrix"]


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


def are_equal(one: int, other: int) -> bool:
    """Return whether two numbers of points are equal; of symbols, whether they are so whatever these stand for."""
    if not is_exporting():
        return one == other
    from torch.fx.experimental.symbolic_shapes import statically_known_true  # with sympy, which nobody else waits for

    return bool(statically_known_true(one == other))


def band_limited_resize(fields: Tensor, num_points: tuple[int, ...]) -> Tensor:
    """Return ``(..., *space)`` fields on `num_points` per axis, low modes kept exactly.

    Axes that already have the right number of points are left untouched, high modes included.
    """
    first = fields.dim() - len(num_points)
    for axis, points in enumerate(num_points, start=first):
        here = fields.shape[axis]
        if not are_equal(here, points):
            build = _matrix_in_a_program if is_exporting() else resize_matrix
            matrix = build(here, points, fields.dtype, fields.device)
            fields = (fields.transpose(axis, -1) @ matrix.T).transpose(axis, -1)
    return fields


def extend_to_period(fields: Tensor, grid: Grid) -> Tensor:
    """Return ``(..., *space)`` fields with every axis that has walls a quarter longer, and continuous as a period."""
    first = fields.dim() - grid.num_spatial_dims
    for axis, (points, periodic) in enumerate(zip(grid.num_points, grid.periodic, strict=True), start=first):
        if not periodic:
            # not -(-points // 4): ONNX divides negative numbers otherwise
            fields = torch.cat([fields, _passage(fields, axis, (points + 3) // 4)], dim=axis)
    return fields


def cropped(fields: Tensor, grid: Grid) -> Tensor:
    """Return ``(..., *space)`` fields on the points of the grid alone, without what `extend_to_period` put behind."""
    inside: Any = (..., *(slice(0, points) for points in grid.num_points))
    return fields[inside]


def _passage(fields: Tensor, axis: int, num_points: int) -> Tensor:
    start, end = fields.narrow(axis, fields.shape[axis] - 1, 1), fields.narrow(axis, 0, 1)
    way = torch.arange(1, num_points + 1, dtype=fields.dtype, device=fields.device) / (num_points + 1)
    way = way.view(-1, *(1,) * (fields.dim() - 1 - axis))
    return torch.lerp(start, end, way.square() * (3 - 2 * way))


def position_channels(grid: Grid, like: Tensor) -> Tensor:
    """Return ``(batch, time, axis, *space)``: −1 to 1 along an axis with walls, 0 along one that wraps around."""
    dims = grid.num_spatial_dims
    channels = []
    for axis, (points, periodic) in enumerate(zip(grid.num_points, grid.periodic, strict=True)):
        line = torch.linspace(-1, 1, points, dtype=like.dtype, device=like.device) * (not periodic)
        channels.append(line.view(-1, *(1,) * (dims - 1 - axis)).expand(grid.num_points))
    return torch.stack(channels).expand(*like.shape[:2], -1, *grid.num_points)
