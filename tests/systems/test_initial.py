from __future__ import annotations

import math

import pytest
import torch

from scifm.errors import ConfigError, SignatureError
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.systems.initial import RandomWaves

GRIDS = [
    Grid((33,), (1.9,), (True,)),
    Grid((18, 21), (0.7, 1.9), (True, True)),
    Grid((11, 12, 14), (1.0, 2.0, 0.5), (True,) * 3),
]


def spectrum(field, dims):
    return torch.fft.fftn(field, dim=tuple(range(-dims, 0)), norm="forward")


def lengths(grid):
    """Return |n| of every mode of a full spectrum."""
    total = torch.zeros(grid.num_points, dtype=torch.float64)
    for axis, num in enumerate(grid.num_points):
        n = torch.fft.fftfreq(num, 1 / num, dtype=torch.float64)
        total = total + n.view([-1 if a == axis else 1 for a in range(grid.num_spatial_dims)]) ** 2
    return total.sqrt()


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_waves_have_the_size_asked_for_and_no_others_are_there(grid):
    waves = RandomWaves(max_wave=5, amplitude=0.3)
    field = waves.draw(4, 2, grid, generator_for(0))
    assert field.shape == (4, 2, *grid.num_points)
    assert field.dtype == torch.float64
    space = field.flatten(2)
    assert (space.square().mean(-1).sqrt() - 0.3).abs().max() < 1e-14
    assert space.mean(-1).abs().max() < 1e-15
    modes, n = spectrum(field, grid.num_spatial_dims).abs(), lengths(grid)
    assert modes[..., n > 5.0001].max() < 1e-15
    assert modes[..., (n > 0) & (n < 5.0001)].min() > 1e-8  # every one is there


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_every_grid_shows_the_same_field(grid):
    waves = RandomWaves(max_wave=5)
    coarse = waves.draw(3, 2, grid, generator_for(1))
    fine = waves.draw(3, 2, grid.resized(tuple(3 * n for n in grid.num_points)), generator_for(1))
    every_third = (slice(None), slice(None), *(slice(None, None, 3),) * grid.num_spatial_dims)
    assert (fine[every_third] - coarse).abs().max() < 1e-13


def test_amplitudes_fall_as_the_slope_says():
    """The logarithm of a mode's amplitude is seen, in which a field's size is the same for all its modes."""
    grid, slope = Grid.square(20), 1.5
    modes = spectrum(RandomWaves(max_wave=8, slope=slope).draw(300, 1, grid, generator_for(2)), 2)
    n = lengths(grid)
    there = (n > 0.9) & (n < 8.001)
    level, length = modes[..., there].abs().log().mean((0, 1)), n[there].log()
    seen = -((level - level.mean()) * (length - length.mean())).sum() / (length - length.mean()).square().sum()
    assert abs(float(seen) - slope) < 0.05


def test_waves_run_in_every_direction_alike():
    grid = Grid.square(16)
    power = spectrum(RandomWaves(max_wave=5).draw(500, 1, grid, generator_for(3)), 2).abs().square().mean((0, 1))
    torch.testing.assert_close(power, power.flip(0).roll(1, 0), rtol=0.3, atol=1e-12)  # y backwards
    torch.testing.assert_close(power, power.mT, rtol=0.3, atol=1e-12)


def test_seeds_tell_fields_apart():
    grid = Grid.square(16)
    first, again, other = (RandomWaves().draw(2, 1, grid, generator_for(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 0.1
    assert (first[0] - first[1]).abs().max() > 0.1


def test_what_cannot_be_is_refused():
    for wrong in ({"max_wave": 0}, {"slope": math.nan}, {"amplitude": 0.0}, {"amplitude": math.inf}):
        with pytest.raises(ConfigError, match="Random waves need"):
            RandomWaves(**wrong)
    with pytest.raises(SignatureError, match="cannot hold 8 waves along a side; give at least 17 points"):
        RandomWaves(max_wave=8).draw(1, 1, Grid((64, 16), (1.0, 1.0), (True, True)))
    assert RandomWaves.from_dict(RandomWaves(3, 1.5, 0.2).to_dict()) == RandomWaves(3, 1.5, 0.2)
