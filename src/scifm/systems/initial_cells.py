"""Initial states in boxes with walls and open ends too: random waves, blocks and a column, the same on every grid.

All are fields of unit size that a system scales by its knobs. They are drawn in float64 by numbers that do not depend
on the grid, and fill the box of its cells, of which its points are the centers; along an axis that is not periodic that
box reaches half a cell beyond the first and the last point, so that a wave meets a wall as it should.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scifm.config import Plain
from scifm.errors import ConfigError, suggest
from scifm.fields.grid import Grid
from scifm.systems.initial import require_waves

__all__ = ["CellFields"]

_KINDS = ("waves", "blocks", "column")


@dataclass(frozen=True)
class CellFields(Plain):
    """Fields of unit size at time 0.

    Args:
        kind: "waves", random Fourier series; "blocks", constant in blocks with jumps between them, so that Riemann
            problems start; "column", 1 inside a circle (sphere, interval) in the middle of the box and 0 outside.
        max_wave: of waves: how many fit along a side at most.
        slope: of waves: how fast their size falls with their number; 0: all alike.

    Raises:
        ConfigError: if the kind is unknown or a number is out of its range.
    """

    kind: str = "waves"
    max_wave: int = 2
    slope: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ConfigError(f"The kind of an initial state: {suggest(str(self.kind), _KINDS)}")
        if self.max_wave < 1 or not math.isfinite(self.slope):
            raise ConfigError(f"Random waves need max_wave >= 1 and a finite slope; got {self.max_wave}, {self.slope}.")

    def draw(
        self, num_samples: int, num_scalars: int, grid: Grid, generator: torch.Generator | None, device: Any = None
    ) -> Tensor:
        """Return scalars, and a velocity along every axis, x first, which is odd about walls.

        In a "column" all scalars are the same and velocities are waves.

        Returns:
            ``(num_samples, num_scalars + dimensions, *space)`` in float64.

        Raises:
            SignatureError: if the grid cannot hold the shortest wave.
        """
        dims = grid.num_spatial_dims
        if self.kind == "blocks":
            return _blocks(num_samples, num_scalars + dims, grid, generator, device=device)
        if self.kind == "column":
            scalars = _column(num_samples, grid, generator, device=device).expand(-1, num_scalars, *grid.num_points)
        else:
            scalars = self.draw_waves(num_samples, num_scalars, grid, generator, device=device)
        velocities = [
            self.draw_waves(num_samples, 1, grid, generator, odd=axis, device=device) for axis in reversed(range(dims))
        ]
        return torch.cat([scalars, *velocities], dim=1)

    def draw_waves(
        self,
        num_samples: int,
        num_channels: int,
        grid: Grid,
        generator: torch.Generator | None,
        *,
        odd: int | None = None,
        device: Any = None,
    ) -> Tensor:
        """Return random Fourier series of zero mean with root mean square 1 in each sample and channel.

        Along an axis that is not periodic waves come in halves and are even about both ends: cosines.

        Args:
            num_samples: how many.
            num_channels: how many each.
            grid: where.
            generator: source of the numbers.
            odd: the axis, in array order, about whose ends the fields are odd if it is not periodic: sines.
            device: where numbers are drawn and fields live.

        Returns:
            ``(num_samples, num_channels, *space)`` in float64.

        Raises:
            SignatureError: if the grid cannot hold the shortest wave.
        """
        require_waves(self.max_wave, grid, of="the random waves")
        sides = [_basis(self.max_wave, grid, axis, axis == odd, device) for axis in range(grid.num_spatial_dims)]
        counts = [count for count, _ in sides]
        length = torch.stack(torch.meshgrid(*counts, indexing="ij")).square().sum(0).sqrt()
        chosen = (length > 0) & (length <= self.max_wave * (1 + 1e-12))
        weights = torch.where(chosen, length.clamp(min=1e-300) ** -self.slope, 0.0)
        shape = (num_samples, num_channels, *length.shape)
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64, device=device) * weights
        space = tuple(range(2, drawn.dim()))
        drawn /= drawn.square().sum(dim=space, keepdim=True).sqrt()
        for _, values in sides:  # each turns the first axis of numbers into the last of space
            drawn = torch.tensordot(drawn, values, dims=([2], [0]))
        return drawn


def _basis(max_wave: int, grid: Grid, axis: int, odd: bool, device: Any) -> tuple[Tensor, Tensor]:
    """Return the waves of one axis: how many fit in each, ``(waves,)``, and their values ``(waves, points)``, rms 1."""
    num = grid.num_points[axis]
    place = torch.arange(num, dtype=torch.float64, device=device)
    root = math.sqrt(2)
    if grid.periodic[axis]:
        counts = torch.arange(1, max_wave + 1, dtype=torch.float64, device=device)
        angle = 2 * math.pi / num * counts[:, None] * place
        zero, still = counts.new_zeros(1), torch.ones_like(place)[None]
        return torch.cat([zero, counts, counts]), torch.cat([still, root * angle.cos(), root * angle.sin()])
    halves = torch.arange(1, 2 * max_wave + 1, dtype=torch.float64, device=device)
    angle = math.pi / num * halves[:, None] * (place + 0.5)
    if odd:
        return halves / 2, root * angle.sin()
    return torch.cat([halves.new_zeros(1), halves / 2]), torch.cat([torch.ones_like(place)[None], root * angle.cos()])


def _blocks(
    num_samples: int, num_channels: int, grid: Grid, generator: torch.Generator | None = None, *, device: Any = None
) -> Tensor:
    """Return fields that are constant in blocks: Riemann problems where these meet.

    A periodic axis is cut at two random places, any other at one in its middle half; values are uniform with mean 0 and
    variance 1. All channels of a sample have the same blocks.

    Returns:
        ``(num_samples, num_channels, *space)`` in float64.
    """
    dims = grid.num_spatial_dims
    values = torch.rand(num_samples, num_channels, 2**dims, generator=generator, dtype=torch.float64, device=device)
    cuts = torch.rand(num_samples, dims, 2, generator=generator, dtype=torch.float64, device=device)
    block = torch.zeros((num_samples, *(1,) * dims), dtype=torch.long, device=device)
    for axis, (num, periodic) in enumerate(zip(grid.num_points, grid.periodic, strict=True)):
        place = torch.arange(num, dtype=torch.float64, device=device)
        if periodic:
            first, second = cuts[:, axis, :1], 0.25 + 0.5 * cuts[:, axis, 1:]  # a start, and a share of the axis
            inside = (place / num - first) % 1.0 < second
        else:
            inside = (place + 0.5) / num > 0.25 + 0.5 * cuts[:, axis, :1]
        block = 2 * block + inside.view(num_samples, *(num if other == axis else 1 for other in range(dims)))
    chosen = torch.gather(values, 2, block.view(num_samples, 1, -1).expand(-1, num_channels, -1))
    return (2 * chosen - 1).mul_(math.sqrt(3)).view(num_samples, num_channels, *grid.num_points)


def _column(num_samples: int, grid: Grid, generator: torch.Generator | None = None, *, device: Any = None) -> Tensor:
    """Return fields that are 1 inside a circle (sphere, interval) in the middle of the box and 0 outside.

    Its radius is uniform between 6 % and 14 % of the shortest side.

    Returns:
        ``(num_samples, 1, *space)`` in float64.
    """
    dims = grid.num_spatial_dims
    drawn = torch.rand(num_samples, generator=generator, dtype=torch.float64, device=device)
    radius = min(grid.extent) * (0.06 + 0.08 * drawn)
    square = torch.zeros((), dtype=torch.float64, device=device)
    for axis, place in enumerate(grid.coordinates(device=device)):
        offset = place - 0.5 * grid.extent[axis]
        square = square + offset.square().view(*(-1 if other == axis else 1 for other in range(dims)))
    return (square < radius.square().view(-1, 1, *(1,) * dims)).double()
