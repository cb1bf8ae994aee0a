"""Energy by wavenumber, against waves whose energy is known."""

from __future__ import annotations

import math

import pytest
import torch

from scifm.evaluation.spectra import energy_spectrum, mode_energy, shortest_wave
from scifm.fields.grid import Grid

GRIDS = [
    Grid.square(32, num_spatial_dims=1),
    Grid((16, 24), (1.0, 2.0), (True, True)),
    Grid((8, 8, 10), (1.0, 1.0, 1.0), (True, True, True)),
]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_energies_add_up_to_the_mean_square(grid):
    fields = torch.randn(2, 3, 2, *grid.num_points, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    _, energy = mode_energy(fields, grid)
    torch.testing.assert_close(energy.flatten(3).sum(-1), fields.square().flatten(3).mean(-1))


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_a_wave_stands_in_its_shell_and_the_mean_in_none(grid):
    x = torch.arange(grid.num_points[-1], dtype=torch.float64) / grid.num_points[-1]
    field = 5.0 + 0.5 * torch.sin(2 * math.pi * 3 * x + 1.0).expand(grid.num_points)
    found = energy_spectrum(field[None, None, None], grid)[0, 0, 0]
    assert found.shape == (min(n // 2 for n in grid.num_points),)
    expected = torch.zeros_like(found)
    expected[2] = 0.5**2 / 2
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-20)


def test_between_walls_waves_are_cosines_counted_by_halves():
    grid = Grid((33,), (1.0,), (False,))
    assert shortest_wave(grid) == 16
    (x,) = grid.coordinates()
    lengths, energy = mode_energy(torch.cos(5 * math.pi * x)[None, None, None], grid)
    assert float(lengths[energy[0, 0, 0].argmax()]) == 2.5
    found = energy_spectrum(torch.cos(6 * math.pi * x)[None, None, None], grid)[0, 0, 0]
    assert float(found[2]) == pytest.approx(0.5)
    assert float(found.sum()) == pytest.approx(0.5)


def test_what_is_not_a_number_has_no_spectrum_and_spoils_no_other():
    grid = GRIDS[0]
    fields = torch.ones(2, 1, 1, 32)
    fields[1] = torch.nan
    found = energy_spectrum(fields, grid)
    assert bool(found[0].isfinite().all())
    assert bool(found[1].isnan().all())
