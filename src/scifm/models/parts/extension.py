"""Boxes with walls for networks that think in periods.

A Fourier layer takes its axes as periodic; across the ends of an axis with walls it would see a jump. There the fields
are given a smooth passage from their last value back to their first, a quarter of the axis long, and what a network
answers on the passage is thrown away: domain padding, with the padding made continuous.
"""

from __future__ import annotations

import torch
from torch import Tensor

from scifm.fields.grid import Grid

__all__ = ["extend_to_period", "position_channels"]


def extend_to_period(fields: Tensor, grid: Grid) -> Tensor:
    """Return ``(..., *space)`` fields with every axis that has walls a quarter longer, and continuous as a period."""
    first = fields.dim() - grid.num_spatial_dims
    for axis, (points, periodic) in enumerate(zip(grid.num_points, grid.periodic, strict=True), start=first):
        if not periodic:
            fields = torch.cat([fields, _passage(fields, axis, -(-points // 4))], dim=axis)
    return fields


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
