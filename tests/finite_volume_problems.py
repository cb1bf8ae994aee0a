"""What tests of the systems that finite volumes march share."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.systems.contract import size_of
from scifm.systems.finite_volume_system import FiniteVolumeSystem

__all__ = ["broken_states", "drawn", "moved", "orders_in_space", "unlike"]


def drawn(system: FiniteVolumeSystem, grid: Grid, num_samples: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    return system.initial(num_samples, grid, generator_for(seed, "volumes"), torch.device("cpu"))


def moved(system: FiniteVolumeSystem, grid: Grid, interval: float, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return the first frame and the one an interval later, ``(batch, 2, outputs, *space)``."""
    inputs, numbers = (part.to(dtype) for part in drawn(system, grid))
    later = system.advance(inputs, numbers, grid, interval=interval, num_frames=1)
    return torch.cat([inputs[:, None, : later.shape[2]], later], dim=1)


def unlike(system: FiniteVolumeSystem, grid: Grid) -> float:
    """Return by how much the solver's rate of change misses the right-hand side, over the latter."""
    inputs, numbers = drawn(system, grid)
    count, time = len(system.signature.outputs), 1e-5
    frames = system.advance(inputs, numbers, grid, interval=time, num_frames=2)
    rate = (-1.5 * inputs[:, :count] + 2 * frames[:, 0] - 0.5 * frames[:, 1]) / time
    right = system.tendency(inputs, numbers, grid)
    return float((size_of(rate - right) / size_of(right)).max())


def orders_in_space(system: FiniteVolumeSystem, grid: Grid) -> tuple[float, float]:
    """Return the difference of `unlike` on a grid, and the order at which it falls on one twice as fine."""
    coarse = unlike(system, grid)
    fine = unlike(system, grid.resized(tuple(2 * num for num in grid.num_points)))
    return fine, math.log2(coarse / fine)


def broken_states(left: list[float], right: list[float], num: int) -> tuple[Tensor, Grid, Tensor]:
    """Return two states that meet in the middle of an axis of length 1 with open ends, the grid, and its x."""
    grid = Grid((num,), (1 - 1 / num,), "open")
    x = (torch.arange(num, dtype=torch.float64) + 0.5) / num - 0.5
    sides = (torch.tensor(side, dtype=torch.float64)[:, None] for side in (left, right))
    return torch.where(x < 0, *sides)[None], grid, x
