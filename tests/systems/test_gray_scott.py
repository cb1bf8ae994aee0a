from __future__ import annotations

import math

import pytest
import torch
from scipy.integrate import solve_ivp

from scifm.errors import ConfigError
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.systems.gray_scott import GrayScott

GRID = Grid((20, 24), (0.7, 1.3), (True, True))
NUMBERS = torch.tensor([[0.03, 0.06, 2e-4, 1e-4], [0.05, 0.062, 1.6e-4, 8e-5]], dtype=torch.float64)


def march(state, numbers, interval, *, grid=GRID, refine=1):
    system = GrayScott(num_spatial_dims=grid.num_spatial_dims)
    return system.advance(state, numbers, grid, interval=interval, num_frames=1, refine=refine)[:, 0]


def cosine(n=2, m=3, grid=GRID):
    y, x = (torch.arange(k, dtype=torch.float64) / k for k in grid.num_points)
    return torch.cos(2 * math.pi * n * y)[:, None] * torch.cos(2 * math.pi * m * x)


def test_without_catalyst_substrate_spreads_and_is_fed():
    start = torch.stack([0.6 + 0.3 * cosine(), torch.zeros(GRID.num_points, dtype=torch.float64)]).expand(2, -1, -1, -1)
    made = march(start, NUMBERS, 30.0)
    square = (2 * math.pi * 2 / 0.7) ** 2 + (2 * math.pi * 3 / 1.3) ** 2
    feed, _, spread, _ = NUMBERS.T.view(4, 2, 1, 1)
    exact = 1 - 0.4 * torch.exp(-30 * feed) + 0.3 * cosine() * torch.exp(-30 * (feed + spread * square))
    assert (made[:, 0] - exact).abs().max() < 1e-10
    assert (made[:, 1] == 0).all()


def test_what_reacts_is_not_lost():
    """With equal diffusivities and no kill the sum u + v knows nothing of the reaction."""
    numbers = torch.tensor([[0.03, 0.0, 2e-4, 2e-4]], dtype=torch.float64)
    start = torch.stack([1 - 0.3 * cosine(1, 1) ** 2, 0.25 + 0.2 * cosine(1, 2)])[None]
    made = march(start, numbers, 40.0)
    alone = march(torch.stack([start.sum(1), 0 * start[:, 0]], dim=1), numbers, 40.0)
    assert (made.sum(1) - alone[:, 0]).abs().max() < 1e-10
    assert (made[:, 0] - alone[:, 0]).abs().max() > 0.1


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_without_waves_it_follows_the_reaction(dims):
    grid = Grid.square(4, num_spatial_dims=dims)
    start = torch.tensor([0.7, 0.3], dtype=torch.float64)
    made = march(start.view(1, 2, *(1,) * dims).expand(2, 2, *grid.num_points), NUMBERS, 20.0, grid=grid, refine=8)
    for sample, (feed, kill, *_) in enumerate(NUMBERS.tolist()):

        def rate(_, y, feed=feed, kill=kill):
            reacted = y[0] * y[1] ** 2
            return [-reacted + feed * (1 - y[0]), reacted - (feed + kill) * y[1]]

        exact = solve_ivp(rate, (0, 20), start.numpy(), rtol=1e-12, atol=1e-13).y[:, -1]
        off = made[sample].flatten(1) - torch.from_numpy(exact)[:, None]
        assert off.abs().max() < 1e-7


def test_in_three_dimensions_a_flat_state_is_that_of_two():
    grid = Grid((6, *GRID.num_points), (0.4, *GRID.extent), (True,) * 3)
    start = torch.stack([1 - 0.3 * cosine(1, 1) ** 2, 0.25 + 0.2 * cosine(1, 2)]).expand(2, -1, -1, -1)
    flat = march(start, NUMBERS, 10.0)
    deep = march(start[:, :, None].expand(-1, -1, 6, -1, -1), NUMBERS, 10.0, grid=grid)
    assert (deep - flat[:, :, None]).abs().max() < 1e-12


def test_most_knobs_give_patterns_and_none_goes_below_zero():
    batch = GrayScott(save_interval=500.0, num_frames=2).sample(12, Grid.square(40), generator_for(0))
    last = batch.targets[:, -1, 1].flatten(1)
    assert (last.std(1) > 0.02).float().mean() > 0.6
    assert batch.targets.min() > -0.005
    assert batch.targets.max() < 1.005


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="'kill' of 'gray_scott' needs low >= 0"):
        GrayScott(kill=[-0.1, 0.06])
    assert GrayScott(kill=[0, 0.06]).kill.low == 0
