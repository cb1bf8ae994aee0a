from __future__ import annotations

import pytest
import torch

from scifm.errors import ConfigError
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.systems.catalog import system_from_dict
from scifm.systems.forcing import GaussianForcing

FORCING = GaussianForcing()


def draw(num=64, forcing=FORCING, seed=0):
    generator = generator_for(seed)
    sparsities = forcing.draw_sparsities(num, generator, None)
    return sparsities, forcing.draw_amplitudes(sparsities, generator)


@pytest.mark.parametrize("grid", [Grid.square(32), Grid((24, 40), (2.0, 0.5), (True, True))], ids=str)
def test_two_matrix_products_equal_the_sum_of_144_gaussians(grid):
    _, amplitudes = draw(2)
    y, x = grid.coordinates()
    expected = torch.zeros(2, *grid.num_points, dtype=torch.float64)
    for i in range(12):
        for j in range(12):
            to_y = (y / grid.extent[0] - (0.5 + (i - 5.5) / 16)) * 32
            to_x = (x / grid.extent[1] - (0.5 + (j - 5.5) / 16)) * 32
            bump = torch.exp(-0.5 * (to_y[:, None] ** 2 + to_x**2))
            expected += amplitudes[:, i, j, None, None] * bump
    torch.testing.assert_close(FORCING.raw(amplitudes, grid), expected, atol=1e-14, rtol=1e-13)


def test_rows_of_amplitudes_lie_along_y():
    amplitudes = torch.zeros(1, 12, 12, dtype=torch.float64)
    amplitudes[0, 2, 9] = 1.0
    peak = FORCING.raw(amplitudes, Grid.square(128))[0].argmax().item()
    assert (peak // 128, peak % 128) == (36, 92)  # 0.28125 and 0.71875 of 128


def test_presence_follows_the_sparsity_and_amplitudes_their_range():
    sparsities, amplitudes = draw(4000)
    assert sorted(set(sparsities.tolist())) == [0.2, 0.4, 0.6, 0.8]
    for sparsity in (0.2, 0.4, 0.6, 0.8):
        share = (amplitudes[sparsities == sparsity] > 0).double().mean().item()
        assert share == pytest.approx(1 - sparsity, abs=0.01)
    present = amplitudes[amplitudes > 0]
    assert present.min() >= 1e-3
    assert present.max() <= 1
    assert present.mean().item() == pytest.approx(0.5005, abs=0.005)


def test_at_least_one_gaussian_at_a_random_center():
    _, amplitudes = draw(500, GaussianForcing(sparsities=(0.999999,)))
    count = (amplitudes > 0).flatten(1).sum(1)
    assert count.min() == count.max() == 1
    assert len(amplitudes.flatten(1).argmax(1).unique()) > 100


def test_float32_is_the_rounded_float64():
    _, amplitudes = draw(4)
    single = FORCING.raw(amplitudes.float(), Grid.square(64)).double()
    assert (single - FORCING.raw(amplitudes, Grid.square(64))).abs().max() < 1e-6


def test_round_trip_and_bad_options():
    forcing = GaussianForcing(num_centers=4, width=0.05, spacing=0.2, sparsities=(0.5,))
    assert GaussianForcing.from_dict(forcing.to_dict()) == forcing
    with pytest.raises(ConfigError, match="Did you mean 'width'"):
        system_from_dict({"name": "poisson", "options": {"forcing": {"widht": 0.1}}})
    for bad in ({"num_centers": 0}, {"spacing": 0.1}, {"sparsities": ()}, {"sparsities": (1.0,)}, {"width": 0.0}):
        with pytest.raises(ConfigError, match="got"):
            GaussianForcing(**bad)
    with pytest.raises(ConfigError, match="amplitude"):
        GaussianForcing(min_amplitude=2.0)
