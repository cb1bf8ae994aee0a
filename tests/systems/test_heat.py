from __future__ import annotations

import math

import pytest
import torch

from scifm.errors import ConfigError
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.systems.heat import Heat

GRIDS = [
    Grid((66,), (1.9,), (True,)),
    Grid((40, 33), (0.7, 1.9), (True, True)),
    Grid((12, 14, 16), (1.0, 0.8, 1.2), (True,) * 3),
]
RATES = torch.tensor([[0.004], [0.01]], dtype=torch.float64)


def march(system, state, coefficients, grid, interval=0.3, num_frames=3):
    return system.advance(state, coefficients, grid, interval=interval, num_frames=num_frames)


def kernel(grid, axis, place, time):
    """Return the heat kernel of one axis, summed over its periodic images, ``(batch, points)``."""
    num, side = grid.num_points[axis], grid.extent[axis]
    x = torch.arange(num, dtype=torch.float64) * side / num - place
    images = torch.arange(-8, 9, dtype=torch.float64)[:, None] * side
    return torch.stack(
        [torch.exp(-((x + images) ** 2) / (4 * float(t))).sum(0) / math.sqrt(4 * math.pi * float(t)) for t in time]
    )


@pytest.mark.parametrize("grid", GRIDS[:2], ids=str)
def test_a_point_of_heat_spreads_as_the_heat_kernel(grid):
    """Gaussians, summed over their images, are a solution in any number of dimensions: known without any transform."""
    dims, start = grid.num_spatial_dims, 0.06  # κt of the first frame: wide enough for the coarsest axis

    def kernels(time):
        parts = [kernel(grid, axis, 0.3 * grid.extent[axis], time) for axis in range(dims)]
        return parts[0] if dims == 1 else parts[0][:, :, None] * parts[1][:, None, :]

    first = kernels([start, start])[:, None]
    made = march(Heat(num_spatial_dims=dims), first, RATES, grid)
    for frame in range(3):
        exact = kernels(start + RATES[:, 0] * 0.3 * (frame + 1))
        assert (made[:, frame, 0] - exact).abs().max() < 1e-10 * exact.abs().max()


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_random_waves_fall_mode_by_mode(grid):
    system = Heat(num_spatial_dims=grid.num_spatial_dims)
    state, rates = system.initial(2, grid, generator_for(0), torch.device("cpu"))
    axes = tuple(range(-grid.num_spatial_dims, 0))
    square = torch.zeros(grid.num_points, dtype=torch.float64)
    for axis, (num, side) in enumerate(zip(grid.num_points, grid.extent, strict=True)):
        wave = 2 * math.pi * torch.fft.fftfreq(num, 1 / num, dtype=torch.float64) / side
        square = square + wave.view([-1 if a == axis else 1 for a in range(grid.num_spatial_dims)]) ** 2
    fallen = torch.exp(-0.9 * rates.view(-1, 1, *(1,) * grid.num_spatial_dims) * square)
    exact = torch.fft.ifftn(torch.fft.fftn(state, dim=axes) * fallen, dim=axes).real
    made = march(system, state, rates, grid)[:, -1]
    assert (made - exact).abs().max() < 1e-12
    assert made.abs().max() < 0.95 * state.abs().max()


def test_the_shortest_wave_of_the_grid_falls_too():
    """It is a plain cosine on the grid, whose second derivative is known."""
    grid = Grid((8,), (1.0,), (True,))
    state = torch.cos(math.pi * torch.arange(8, dtype=torch.float64)).view(1, 1, 8)
    made = march(Heat(num_spatial_dims=1), state, RATES[:1], grid, num_frames=1)[:, 0]
    torch.testing.assert_close(made, state * math.exp(-0.004 * (8 * math.pi) ** 2 * 0.3), rtol=1e-12, atol=0)


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="'diffusivity' of 'heat' needs low > 0; got low=0"):
        Heat(diffusivity=[0, 1])
    with pytest.raises(ConfigError, match="1, 2 or 3 dimensions"):
        Heat(num_spatial_dims=4)
    with pytest.raises(ConfigError, match="at least 2 frames"):
        Heat(num_frames=1)
