from __future__ import annotations

import itertools
import math

import pytest
import torch

from scifm.errors import ConfigError, DataError
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.systems.burgers import Burgers
from scifm.systems.initial import RandomWaves

VISCOSITY = torch.tensor([[0.02], [0.05]], dtype=torch.float64)
# θ = 1 + Σ height cos(k·x + phase) exp(−ν|k|²t), k in whole waves along x and y
WAVES = [((1, 0), 0.5, 0.3), ((2, -1), -0.15, 1.0), ((0, 1), 0.2, -0.7), ((1, 2), 0.05, 0.0)]


def cole_hopf(grid, time):
    """Return u = −2ν ∇ log θ, which solves the equation in any number of dimensions, ``(2, dims, *space)``."""
    dims = grid.num_spatial_dims
    sides = grid.extent[::-1]  # x first, as the velocities are
    axes = [torch.arange(n, dtype=torch.float64) * e / n for n, e in zip(grid.num_points, grid.extent, strict=True)]
    places = torch.meshgrid(*axes, indexing="ij")[::-1]
    viscosity = VISCOSITY.view(2, *(1,) * dims)
    theta, slopes = torch.ones(2, *grid.num_points, dtype=torch.float64), [0.0] * dims
    for waves, height, phase in WAVES:
        if any(waves[dims:]):
            continue  # this one is not there in so few dimensions
        k = [2 * math.pi * n / side for n, side in zip(waves, sides, strict=False)]
        angle = sum(kj * place for kj, place in zip(k, places, strict=True)) + phase
        fallen = height * torch.exp(-viscosity * sum(kj * kj for kj in k) * time)
        theta = theta + fallen * torch.cos(angle)
        slopes = [slope - fallen * kj * torch.sin(angle) for slope, kj in zip(slopes, k, strict=True)]
    return torch.stack([-2 * viscosity * slope / theta for slope in slopes], dim=1)


@pytest.mark.parametrize(
    "grid", [Grid((96,), (1.9,), (True,)), Grid((48, 54), (0.8, 1.3), (True, True))], ids=["1-D", "2-D"]
)
def test_it_solves_as_cole_and_hopf_do_and_errs_with_the_fourth_power_of_the_step(grid):
    small = RandomWaves(amplitude=0.01)  # so that the grid asks for no shorter steps
    system = Burgers(num_spatial_dims=grid.num_spatial_dims, initial_state=small, max_step=0.1)
    start, exact = cole_hopf(grid, 0.0), cole_hopf(grid, 0.5)
    assert (exact - start).abs().max() > 0.1 * start.abs().max()
    errors = []
    for step in (0.1, 0.05, 0.025):
        frame = start
        for _ in range(round(0.5 / step)):  # an interval as long as a step is one step
            frame = system.advance(frame, VISCOSITY, grid, interval=step, num_frames=1)[:, 0]
        errors.append(float((frame - exact).abs().max() / start.abs().max()))
    orders = [math.log2(coarse / fine) for coarse, fine in itertools.pairwise(errors)]
    assert all(abs(order - 4) < 0.2 for order in orders), (errors, orders)
    finest = Burgers(num_spatial_dims=grid.num_spatial_dims).advance(start, VISCOSITY, grid, interval=0.5, num_frames=1)
    assert (finest[:, 0] - exact).abs().max() < 1e-9 * start.abs().max()


def test_flow_along_one_axis_is_that_of_one_dimension():
    line, plane = Grid((48,), (1.3,), (True,)), Grid((12, 48), (0.8, 1.3), (True, True))
    start = cole_hopf(line, 0.0)
    flat = Burgers().advance(start, VISCOSITY, line, interval=0.2, num_frames=1)[:, 0, 0]
    both = torch.cat([start, 0 * start], dim=1).unsqueeze(2).expand(-1, -1, 12, -1)
    made = Burgers(num_spatial_dims=2).advance(both, VISCOSITY, plane, interval=0.2, num_frames=1)[:, 0]
    assert (made[:, 0] - flat[:, None]).abs().max() < 1e-7
    assert made[:, 1].abs().max() == 0


def test_axes_can_be_exchanged():
    """What is carried along y is carried as along x: components and axes are not mixed up."""
    grid = Grid.square(24)
    start, _ = Burgers(num_spatial_dims=2).initial(2, grid, generator_for(0), torch.device("cpu"))
    system = Burgers(num_spatial_dims=2)
    made = system.advance(start, VISCOSITY, grid, interval=0.1, num_frames=1)[:, 0]
    turned = system.advance(start.flip(1).mT, VISCOSITY, grid, interval=0.1, num_frames=1)[:, 0]
    assert (turned.flip(1).mT - made).abs().max() < 1e-12


def test_momentum_is_kept_and_energy_falls():
    batch = Burgers().sample(8, Grid.square(128, num_spatial_dims=1), generator_for(0), dtype=torch.float64)
    assert Burgers().invariants(batch)["momentum_drift"].max() < 1e-13
    frames = torch.cat([batch.inputs, batch.targets], dim=1)
    assert (frames.square().mean((2, 3)).diff(dim=1) < 0).all()


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="'viscosity' of 'burgers' needs low > 0; got low=0"):
        Burgers(viscosity=0)
    grid = Grid.square(64, num_spatial_dims=1)
    wild = 1e3 * cole_hopf(grid, 0.0)
    with pytest.raises(DataError, match=r"left every bound on 64 points.*viscosity 0\.01 to 0\.05.*a shorter step"):
        Burgers().advance(wild, VISCOSITY, grid, interval=0.5, num_frames=1)
