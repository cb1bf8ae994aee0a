from __future__ import annotations

import math

import pytest
import torch
from scipy.integrate import solve_ivp

from scifm.errors import ConfigError
from scifm.fields.grid import Grid
from scifm.systems.fitzhugh_nagumo import FitzHughNagumo

GRID = Grid((20, 24), (0.7, 1.3), (True, True))
NUMBERS = torch.tensor([[0.001, 0.005, 0.005], [0.003, 0.015, 0.1]], dtype=torch.float64)


def march(state, numbers, interval, *, grid=GRID, refine=1):
    system = FitzHughNagumo(num_spatial_dims=grid.num_spatial_dims)
    return system.advance(state, numbers, grid, interval=interval, num_frames=1, refine=refine)[:, 0]


def cosine(n, m):
    y, x = (torch.arange(k, dtype=torch.float64) / k for k in GRID.num_points)
    return torch.cos(2 * math.pi * n * y)[:, None] * torch.cos(2 * math.pi * m * x)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_without_waves_it_follows_the_reaction(dims):
    grid = Grid.square(4, num_spatial_dims=dims)
    start = torch.tensor([0.9, -0.4], dtype=torch.float64)
    made = march(start.view(1, 2, *(1,) * dims).expand(2, 2, *grid.num_points), NUMBERS, 2.0, grid=grid, refine=2)
    for sample, (_, _, threshold) in enumerate(NUMBERS.tolist()):

        def rate(_, y, threshold=threshold):
            return [y[0] - y[0] ** 3 - threshold - y[1], y[0] - y[1]]

        exact = solve_ivp(rate, (0, 2), start.numpy(), rtol=1e-12, atol=1e-13).y[:, -1]
        off = made[sample].flatten(1) - torch.from_numpy(exact)[:, None]
        assert off.abs().max() < 1e-7


def test_small_waves_follow_the_exponential_of_a_matrix():
    """Without a threshold u = v = 0 stands still, and around it each wave obeys a 2×2 system."""
    numbers = NUMBERS * torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    height = torch.tensor([1e-6, -2e-6], dtype=torch.float64)
    start = (height[:, None, None] * cosine(2, 3)).expand(2, -1, -1, -1)
    made = march(start, numbers, 1.0, refine=2)
    square = (2 * math.pi * 2 / 0.7) ** 2 + (2 * math.pi * 3 / 1.3) ** 2
    for sample in range(2):
        of_u, of_v, _ = numbers[sample].tolist()
        matrix = torch.tensor([[1 - of_u * square, -1.0], [1.0, -1 - of_v * square]], dtype=torch.float64)
        exact = (torch.linalg.matrix_exp(matrix) @ height)[:, None, None] * cosine(2, 3)
        assert (made[sample] - exact).abs().max() < 1e-7 * 1e-6


def test_in_three_dimensions_a_flat_state_is_that_of_two():
    grid = Grid((6, *GRID.num_points), (0.4, *GRID.extent), (True,) * 3)
    start = torch.stack([cosine(1, 2), 0.3 * cosine(2, 1)]).expand(2, -1, -1, -1)
    flat = march(start, NUMBERS, 0.5)
    deep = march(start[:, :, None].expand(-1, -1, 6, -1, -1), NUMBERS, 0.5, grid=grid)
    assert (deep - flat[:, :, None]).abs().max() < 1e-12


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="'inhibitor_diffusivity' of 'fitzhugh_nagumo' needs low > 0"):
        FitzHughNagumo(inhibitor_diffusivity=0)
