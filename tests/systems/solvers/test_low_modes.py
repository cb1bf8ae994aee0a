from __future__ import annotations

import torch

from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.systems.forcing import GaussianForcing
from scifm.systems.solvers.low_modes import low_modes

FORCING = GaussianForcing()
BOX = Grid((80, 96), (1.0, 3.0), (True, True))


def amplitudes(num=4):
    generator = generator_for(0)
    return FORCING.draw_amplitudes(FORCING.draw_sparsities(num, generator, None), generator).float()


def test_analysis_and_synthesis_give_the_field_back():
    modes, given = low_modes(FORCING, BOX, "cpu"), amplitudes()
    made = torch.empty(4, 80, 96)
    modes.synthesize(modes.analyze(given), made)
    assert (2 * 0.5 * made - FORCING.raw(given, BOX)).abs().max() < 4e-6


def test_strong_power_is_that_of_a_fourier_transform():
    modes, given = low_modes(FORCING, BOX, "cpu"), amplitudes()
    power = modes.strong_power(modes.analyze(given))
    wave_y, wave_x = modes.strong_waves
    spectrum = torch.fft.fft2(FORCING.raw(given.double(), BOX)).abs().square()
    spectrum[:, 0, 0] = 0
    for moment in (1, 2):
        exact_y, exact_x = (
            2 * torch.pi * torch.fft.fftfreq(n, 1 / n, dtype=torch.float64) / e
            for n, e in zip(BOX.num_points, BOX.extent, strict=True)
        )
        mixed = (power.double() * (wave_y * wave_x) ** moment).sum(1) / power.double().sum(1)
        exact = (spectrum * (exact_y[:, None] * exact_x) ** moment).sum((1, 2)) / spectrum.sum((1, 2))
        torch.testing.assert_close(mixed, exact, rtol=1e-4, atol=1e-4)


def test_the_number_of_modes_follows_the_forcing_and_must_fit_the_grid():
    assert low_modes(FORCING, Grid.square(128), "cpu").num_modes == 26
    assert low_modes(FORCING, Grid.square(32), "cpu") is None
    assert low_modes(GaussianForcing(width=1 / 64), Grid.square(256), "cpu").num_modes > 48
