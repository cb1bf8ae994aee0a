from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from scifm.errors import ConfigError
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.fields.spectral import gradient, laplacian
from scifm.systems.kuramoto_sivashinsky import KuramotoSivashinsky

GRID = Grid((96,), (1.0,), (True,))
X = torch.arange(96, dtype=torch.float64) / 96
NUMBERS = torch.tensor([[0.0005, 2.5e-7], [0.0004, 4e-7]], dtype=torch.float64)


def march(state, interval, num_frames=1, numbers=NUMBERS, grid=GRID, refine=1):
    times = {"interval": interval, "num_frames": num_frames, "refine": refine}
    return KuramotoSivashinsky().advance(state, numbers, grid, **times)


def developed(num=2):
    state, _ = KuramotoSivashinsky().initial(num, GRID, generator_for(0), torch.device("cpu"))
    return march(state, 40.0)[:, 0]


@pytest.mark.parametrize("periods", [1, 3, 8])
def test_small_waves_grow_or_fall_at_their_rate(periods):
    k = 2 * math.pi * periods
    start = (1e-12 * torch.cos(k * X)).expand(2, 1, -1)
    rate = NUMBERS[:, :1] * k**2 - NUMBERS[:, 1:] * k**4
    assert (march(start, 2.0)[:, 0, 0] - torch.exp(2 * rate) * start[:, 0]).abs().max() < 1e-20


def test_carried_along_it_is_the_same():
    """With u also c + u(x − ct, t) is a solution: seen where c t is a whole number of grid points.

    In other frames the step errs otherwise, so what is left falls with its order.
    """
    start, speed = developed(), 0.05
    time = 12 / 96 / speed
    left = []
    for refine in (2, 4):
        plain, carried = (march(state, time, refine=refine)[:, 0] for state in (start, start + speed))
        left.append(float(((carried - speed).roll(-12, -1) - plain).abs().max() / plain.abs().max()))
    assert left[1] < 2e-6
    assert math.log2(left[0] / left[1]) > 3.5


def test_energy_changes_by_what_is_fed_and_what_is_damped():
    state = developed()
    rate = (state * KuramotoSivashinsky().tendency(state, NUMBERS, GRID)).mean((1, 2))
    fed = NUMBERS[:, 0] * gradient(state, GRID)[0].square().mean((1, 2))
    damped = NUMBERS[:, 1] * laplacian(state, GRID).square().mean((1, 2))
    assert (rate - (fed - damped)).abs().max() < 1e-10 * fed.max()
    assert fed.min() > 1e-10


def test_what_was_spun_up_is_what_comes_later():
    early = KuramotoSivashinsky(num_frames=6, max_step=1 / 16)  # the same steps on both ways
    late = replace(early, num_frames=3, spin_up=3.0)
    first, second = (s.sample(3, GRID, generator_for(1), dtype=torch.float64) for s in (early, late))
    whole = torch.cat([first.inputs, first.targets], dim=1)[:, 3:]
    made = torch.cat([second.inputs, second.targets], dim=1)
    torch.testing.assert_close(made, whole, rtol=1e-9, atol=1e-12)
    with pytest.raises(ConfigError, match="spin_up, 0 or more; got -1"):
        KuramotoSivashinsky(spin_up=-1.0)


@pytest.mark.slow
def test_statistics_do_not_depend_on_the_grid():
    """Time-averaged spectra of two resolutions agree within their sampling error, in every wave that matters."""
    system = KuramotoSivashinsky(antidiffusion=0.0005, viscosity=2.5e-7, spin_up=60.0, save_interval=4.0, num_frames=60)
    spectra = {}
    for num, seed in ((64, 0), (128, 1)):
        batch = system.sample(24, Grid((num,), (1.0,), (True,)), generator_for(seed))
        power = (torch.fft.rfft(batch.targets[:, :, 0].double(), norm="forward")).abs().square().mean(1)[:, 1:16]
        spectra[num] = power.mean(0), power.std(0) / math.sqrt(len(power))
    (one, off_one), (two, off_two) = spectra.values()
    error = torch.hypot(off_one, off_two)
    assert ((one - two).abs() < 4 * error).all()
    assert (error < 0.1 * two).all()  # or the comparison would say little
