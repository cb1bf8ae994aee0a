from __future__ import annotations

import itertools
import math

import pytest
import torch

from scifm.errors import ConfigError
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.systems.kdv import KortewegDeVries

GRID = Grid((192,), (1.0,), (True,))
BETA = torch.tensor([[0.001], [0.0007]], dtype=torch.float64)
X = torch.arange(192, dtype=torch.float64) / 192


def soliton(k, centre, time):
    """Return one soliton a sample in a box of side 1, ``(2, 1, 192)``."""
    place = torch.remainder(X - centre - BETA * k**2 * time + 0.5, 1.0) - 0.5
    return (3 * BETA * k**2 / torch.cosh(0.5 * k * place) ** 2)[:, None]


def test_a_soliton_keeps_its_shape_and_the_error_falls_with_the_fourth_power_of_the_step():
    start, time = soliton(50, 0.3, 0.0), 0.05
    errors = []
    for refine in (2, 4, 8):
        made = KortewegDeVries().advance(start, BETA, GRID, interval=time, num_frames=1, refine=refine)[:, 0]
        errors.append(float((made - soliton(50, 0.3, time)).abs().max() / start.max()))
    orders = [math.log2(coarse / fine) for coarse, fine in itertools.pairwise(errors)]
    assert errors[0] < 1e-6, errors
    assert all(abs(order - 4) < 0.2 for order in orders), (errors, orders)


def two_solitons(time, beta, slow=30.0, fast=50.0):
    """Return u = 12β ∂²ₓ log τ of two solitons by the derivatives of τ, ``(1, 1, 384)`` on a box of side 2."""
    x = torch.arange(384, dtype=torch.float64) / 192
    mix = ((slow - fast) / (slow + fast)) ** 2
    first, second = slow * (x - 0.9) - beta * slow**3 * time, fast * (x - 0.5) - beta * fast**3 * time
    terms = [
        (torch.zeros_like(x), 0.0, 1.0),
        (first, slow, 1.0),
        (second, fast, 1.0),
        (first + second, slow + fast, mix),
    ]
    largest = torch.stack([power for power, _, _ in terms]).amax(0)  # so that no exponential overflows
    tau, slope, bend = (sum(w * rate**n * torch.exp(power - largest) for power, rate, w in terms) for n in range(3))
    return (12 * beta * (bend / tau - (slope / tau) ** 2)).view(1, 1, -1)


def test_two_solitons_pass_through_each_other():
    grid, beta, time = Grid((384,), (2.0,), (True,)), 0.001, 0.4
    start, end = two_solitons(0.0, beta), two_solitons(time, beta)
    made = KortewegDeVries().advance(start, torch.tensor([[beta]]).double(), grid, interval=time, num_frames=1)[:, 0]
    assert start[0, 0].argmax() < 120 < 200 < end[0, 0].argmax()  # the fast one has overtaken
    assert (made - end).abs().max() < 1e-4 * end.abs().max()


def test_a_small_wave_goes_backwards():
    """Where u is small the equation is u_t = −β u_xxx: a wave of wavenumber k moves at −βk²."""
    k, time = 6 * math.pi, 0.3
    start = (1e-9 * torch.cos(k * X)).expand(2, 1, -1)
    made = KortewegDeVries().advance(start, BETA, GRID, interval=time, num_frames=1)[:, 0]
    exact = 1e-9 * torch.cos(k * (X + BETA * k**2 * time))[:, None]
    assert (made - exact).abs().max() < 1e-16


def test_mass_momentum_and_energy_are_kept():
    batch = KortewegDeVries().sample(8, Grid.square(128, num_spatial_dims=1), generator_for(0), dtype=torch.float64)
    drifts = KortewegDeVries().invariants(batch)
    assert drifts["mass_drift"].max() < 1e-13
    assert max(float(drifts[f"{name}_drift"].max()) for name in ("momentum", "energy")) < 1e-5


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="'dispersion' of 'kdv' needs low > 0"):
        KortewegDeVries(dispersion=0)
    with pytest.raises(ConfigError, match="positive finite max_step"):
        KortewegDeVries(max_step=0.0)
