from __future__ import annotations

import math

import pytest
import torch

from scifm.errors import ConfigError
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.systems.advection import Advection
from scifm.systems.catalog import system_from_dict

GRIDS = [
    Grid((97,), (1.9,), (True,)),
    Grid((64, 45), (0.7, 1.9), (True, True)),
    Grid((30, 28, 29), (1.0, 0.8, 1.2), (True,) * 3),
]
VELOCITY = torch.tensor([[0.7, -0.4, 0.2], [-0.3, 0.9, 1.1]], dtype=torch.float64)


def shape(grid, moved):
    """Return a smooth periodic function of x − moved, ``(*space)``; `moved` along x, y, z."""
    value = torch.ones((), dtype=torch.float64)
    for axis, (num, side) in enumerate(zip(grid.num_points, grid.extent, strict=True)):
        place = (torch.arange(num, dtype=torch.float64) * side / num - moved[grid.num_spatial_dims - 1 - axis]) / side
        value = value.unsqueeze(-1) * torch.exp(torch.sin(2 * math.pi * place + 0.3 * axis)) / 2
    return value


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_the_tracer_moves_and_keeps_its_shape(grid):
    dims = grid.num_spatial_dims
    velocity, still = VELOCITY[:, :dims], torch.zeros(dims, dtype=torch.float64)
    state = torch.stack([shape(grid, still)] * 2)[:, None]
    made = Advection(num_spatial_dims=dims).advance(state, velocity, grid, interval=0.37, num_frames=4)
    for sample in range(2):
        for frame in range(4):
            exact = shape(grid, 0.37 * (frame + 1) * velocity[sample])
            assert (made[sample, frame, 0] - exact).abs().max() < 1e-10


def test_directions_are_all_alike_or_given():
    grid = Grid.square(24, num_spatial_dims=2)
    batch = Advection(speed=[0.5, 0.5]).sample(400, grid, generator_for(0), dtype=torch.float64)
    assert batch.coefficients.norm(dim=1).sub(0.5).abs().max() < 1e-14
    assert batch.coefficients.mean(0).abs().max() < 0.06  # three standard deviations
    assert batch.coefficients.square().mean(0).sub(0.125).abs().max() < 0.02
    system = Advection(direction=(0.0, -3.0))
    assert (system.sample(5, grid, generator_for(0)).coefficients[:, 0] == 0).all()
    assert system_from_dict(system.to_dict()) == system


@pytest.mark.parametrize("direction", [(1.0,), (0.0, 0.0), (1.0, math.inf)])
def test_a_direction_that_is_none_is_refused(direction):
    with pytest.raises(ConfigError, match="A direction has 2 finite parts"):
        Advection(direction=direction)
