"""Energy by wavenumber: what of a field each length holds.

Waves are counted by |n|, n the whole-numbered wave vector: full waves along a side of the box. On axes with walls they
are those of the fields continued evenly, cosines, so n is a multiple of one half there.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from scifm.fields.grid import Grid

__all__ = ["energy_spectrum", "mode_energy", "shortest_wave"]


def mode_energy(fields: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Return |n| and the energy of every mode; over all modes the energies add up to the mean square of a field.

    Args:
        fields: ``(batch, time, channel, *space)``.
        grid: where they live. Over axes with walls the mean square is that of the field continued evenly.

    Returns:
        ``(*modes)`` and ``(batch, time, channel, *modes)``.
    """
    dims = grid.num_spatial_dims
    fields = _even(fields, grid)
    sizes = fields.shape[-dims:]
    numbers = [torch.fft.fftfreq(n, 1 / n) if axis < dims - 1 else torch.fft.rfftfreq(n, 1 / n)
               for axis, n in enumerate(sizes)]  # fmt: skip
    squares = [(number * half) ** 2 for number, half in zip(numbers, _halves(grid), strict=True)]
    lengths = torch.stack(torch.meshgrid(*squares, indexing="ij")).sum(0).sqrt().to(fields.device)
    doubled = torch.full((sizes[-1] // 2 + 1,), 2.0, device=fields.device, dtype=fields.dtype)
    doubled[0] = 1.0
    if sizes[-1] % 2 == 0:
        doubled[-1] = 1.0
    energy = torch.fft.rfftn(fields, dim=tuple(range(-dims, 0)), norm="forward").abs().square() * doubled
    return lengths, energy


def shortest_wave(grid: Grid) -> float:
    """Return the largest |n| that the grid holds in every direction."""
    sizes = [n if periodic else 2 * (n - 1) for n, periodic in zip(grid.num_points, grid.periodic, strict=True)]
    return min(n // 2 * half for n, half in zip(sizes, _halves(grid), strict=True))


def energy_spectrum(fields: Tensor, grid: Grid) -> Float[Tensor, "batch time channel shell"]:
    """Return the energy of the shells |n| = 1, 2, … to the shortest wave that every direction holds.

    A shell holds what is within one half of its |n|; the spatial mean is in none. The energy is a share of the mean
    square: unit that of the field, squared. NaN where the field is.

    Args:
        fields: ``(batch, time, channel, *space)``.
        grid: where they live.
    """
    lengths, energy = mode_energy(fields, grid)
    num_shells = max(1, int(shortest_wave(grid)))
    shell = (lengths.flatten() + 0.5).floor().long().clamp(max=num_shells + 1)
    shells = energy.new_zeros(*energy.shape[:3], num_shells + 2).index_add_(-1, shell, energy.flatten(3))
    return shells[..., 1 : num_shells + 1]


def _halves(grid: Grid) -> list[float]:
    return [1.0 if periodic else 0.5 for periodic in grid.periodic]  # a continued axis is twice as long


def _even(fields: Tensor, grid: Grid) -> Tensor:
    """Return fields continued evenly over axes with walls, which makes them periodic without a jump."""
    for axis, periodic in enumerate(grid.periodic):
        if not periodic:
            place = fields.dim() - grid.num_spatial_dims + axis
            inside = fields.narrow(place, 1, fields.shape[place] - 2)
            fields = torch.cat([fields, inside.flip(place)], dim=place)
    return fields
