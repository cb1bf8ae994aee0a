from __future__ import annotations

import math

import pytest
import torch

from scifm.errors import ConfigError
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.systems.fisher_kpp import FisherKPP

NUMBERS = torch.tensor([[0.002, 1.0], [0.004, 3.0]], dtype=torch.float64)


def march(state, grid, interval, *, numbers=NUMBERS, refine=1):
    system = FisherKPP(num_spatial_dims=grid.num_spatial_dims)
    return system.advance(state, numbers, grid, interval=interval, num_frames=1, refine=refine)[:, 0]


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_without_waves_it_grows_as_is_known(dims):
    start, time = torch.tensor([0.1, 0.02], dtype=torch.float64), 1.5
    grid = Grid.square(4, num_spatial_dims=dims)
    made = march(start.view(2, 1, *(1,) * dims).expand(2, 1, *grid.num_points), grid, time, refine=4)
    exact = start / (start + (1 - start) * torch.exp(-NUMBERS[:, 1] * time))
    assert (made - exact.view(2, 1, *(1,) * dims)).abs().max() < 1e-7


def test_two_fronts_run_apart_at_the_speed_that_is_known():
    """To the right and to the left of a filled middle; they do not feel each other, 60 thicknesses apart."""
    diffusivity, rate, time = 0.002, 1.0, 4.0
    thick = math.sqrt(diffusivity / rate)
    grid = Grid((384,), (200 * thick,), (True,))
    x = torch.arange(384, dtype=torch.float64) * grid.spacing[0] - 100 * thick

    def fronts(moved):
        return (1 + torch.exp((x.abs() - 45 * thick - moved) / (math.sqrt(6) * thick))) ** -2

    made = march(fronts(0.0).view(1, 1, -1), grid, time, numbers=NUMBERS[:1])
    speed = 5 * math.sqrt(rate * diffusivity / 6)
    assert speed * time > 8 * thick
    assert (made[0, 0] - fronts(speed * time)).abs().max() < 1e-6


def test_density_fills_the_box_between_nothing_and_one():
    batch = FisherKPP().sample(6, Grid.square(48), generator_for(0))
    frames = torch.cat([batch.inputs, batch.targets], dim=1)
    assert frames.min() > -1e-5
    assert frames[:, 1:].min() > 0
    assert (frames.mean((2, 3, 4)).diff(dim=1) > 0).all()
    assert frames[:, 0].mean() < 0.2 < 0.5 < frames[:, -1].mean()


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="'diffusivity' of 'fisher_kpp' needs low > 0"):
        FisherKPP(diffusivity=0)


@pytest.mark.parametrize("shape", [(32,), (32, 32), (12, 12, 12)])
def test_it_stays_bounded_long_after_it_has_settled(shape):
    """What round-off adds to modes that no field has would grow here by e^100 and more."""
    system = FisherKPP(num_spatial_dims=len(shape), save_interval=60.0, num_frames=2, max_step=0.05)
    grid = Grid(shape, (1.0,) * len(shape), (True,) * len(shape))
    later = system.sample(2, grid, generator_for(0, "long")).require_targets()
    assert (later - 1).abs().max() < 1e-3
