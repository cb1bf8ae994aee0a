from __future__ import annotations

import math

import pytest
import torch
from scipy.special import ellipj, ellipk

from scifm.errors import ConfigError
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.fields.spectral import gradient
from scifm.systems.allen_cahn import AllenCahn

NUMBERS = torch.tensor([[0.002, 1.0], [0.004, 2.0]], dtype=torch.float64)


def march(state, grid, interval, *, numbers=NUMBERS, refine=1, **options):
    dims = grid.num_spatial_dims
    system = AllenCahn(num_spatial_dims=dims, **options)
    return system.advance(state, numbers, grid, interval=interval, num_frames=1, refine=refine)[:, 0]


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_without_waves_each_phase_is_filled_as_is_known(dims):
    start, time = torch.tensor([0.3, -0.8], dtype=torch.float64), 1.7
    grid = Grid.square(4, num_spatial_dims=dims)
    made = march(start.view(2, 1, *(1,) * dims).expand(2, 1, *grid.num_points), grid, time, refine=4)
    exact = start / (start**2 + (1 - start**2) * torch.exp(-2 * NUMBERS[:, 1] * time)).sqrt()
    assert (made - exact.view(2, 1, *(1,) * dims)).abs().max() < 1e-7


def test_a_row_of_walls_stands_still():
    """A steady state told by Jacobi's elliptic function, of which every term of the equation is far from zero."""
    m, width = 0.9, math.sqrt(0.002)
    length = 4 * width * math.sqrt(1 + m) * ellipk(m)
    grid = Grid((128,), (length,), (True,))
    sn = ellipj(torch.arange(128).double().numpy() * length / 128 / (width * math.sqrt(1 + m)), m)[0]
    state = math.sqrt(2 * m / (1 + m)) * torch.from_numpy(sn).view(1, 1, -1)
    tendency = AllenCahn(num_spatial_dims=1).tendency(state, NUMBERS[:1], grid)
    assert tendency.abs().max() < 1e-10 < 0.1 < (state - state**3).abs().max()
    assert (march(state, grid, 1.0, numbers=NUMBERS[:1], refine=4) - state).abs().max() < 1e-8


def test_energy_falls_and_the_phases_are_not_left():
    system, grid = AllenCahn(), Grid.square(48)
    batch = system.sample(4, grid, generator_for(0), dtype=torch.float64)
    frames = torch.cat([batch.inputs, batch.targets], dim=1)[:, :, 0]
    diffusivity, rate = (batch.coefficients[:, i].view(-1, 1, 1, 1) for i in (0, 1))
    slopes = sum(slope.square() for slope in gradient(frames, grid))
    energy = (0.5 * diffusivity * slopes + 0.25 * rate * (1 - frames**2) ** 2).mean((2, 3))
    assert (energy.diff(dim=1) < 0).all()
    assert frames[:, -1].abs().max() < 1.02
    assert frames[:, -1].abs().mean() > 0.6


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="'rate' of 'allen_cahn' needs low > 0"):
        AllenCahn(rate=[0, 1])


@pytest.mark.parametrize("shape", [(32,), (32, 32), (12, 12, 12)])
def test_it_stays_bounded_long_after_it_has_settled(shape):
    """What round-off adds to modes that no field has would grow here by e^100 and more."""
    system = AllenCahn(num_spatial_dims=len(shape), save_interval=60.0, num_frames=2, max_step=0.05)
    grid = Grid(shape, (1.0,) * len(shape), (True,) * len(shape))
    later = system.sample(2, grid, generator_for(0, "long")).require_targets()
    assert later.abs().max() < 1.1
