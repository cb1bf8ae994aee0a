from __future__ import annotations

import math

import pytest
import torch

from scifm.errors import ConfigError
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.systems.advection import Advection
from scifm.systems.allen_cahn import AllenCahn
from scifm.systems.burgers import Burgers
from scifm.systems.heat import Heat
from scifm.systems.initial import RandomWaves
from scifm.systems.kdv import KortewegDeVries
from scifm.systems.kuramoto_sivashinsky import KuramotoSivashinsky
from scifm.systems.scalar_evolution import ScalarEvolution

GRID = Grid((128,), (1.0,), (True,))
NOTHING = dict.fromkeys(("speed", "steepening", "diffusivity", "dispersion", "hyperdiffusivity", "rate"), 0.0)


def system(**strengths):
    return ScalarEvolution(**{**NOTHING, **strengths})


@pytest.mark.parametrize(
    ("other", "strengths", "numbers", "time", "within"),
    [
        (Advection(num_spatial_dims=1), {"speed": 0.7}, [0.7], 0.4, 1e-12),
        (Heat(num_spatial_dims=1), {"diffusivity": 0.01}, [0.01], 0.4, 1e-12),
        (Burgers(), {"steepening": 1.0, "diffusivity": 0.03}, [0.03], 0.2, 1e-6),
        (KortewegDeVries(), {"steepening": 1.0, "dispersion": 0.003}, [0.003], 0.05, 1e-6),
        (
            KuramotoSivashinsky(),
            {"steepening": 1.0, "diffusivity": -0.0005, "hyperdiffusivity": 4e-7},
            [0.0005, 4e-7],
            5.0,
            1e-6,
        ),
        (AllenCahn(num_spatial_dims=1), {"diffusivity": 0.01, "rate": 2.0}, [0.01, 2.0], 0.2, 1e-6),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_with_some_strengths_it_is_a_known_equation(other, strengths, numbers, time, within):
    size = 0.02 if other.name == "kuramoto_sivashinsky" else 0.5
    start = RandomWaves(max_wave=3, amplitude=size).draw(2, 1, GRID, generator_for(0), device=torch.device("cpu"))
    ours = system(**strengths, initial_state=RandomWaves(max_wave=3, amplitude=size), max_step=0.002)
    knobs = torch.tensor([list({**NOTHING, **strengths}.values())] * 2, dtype=torch.float64)
    theirs = torch.tensor([numbers] * 2, dtype=torch.float64)
    mine = ours.advance(start, knobs, GRID, interval=time, num_frames=1, refine=2)
    known = other.advance(start, theirs, GRID, interval=time, num_frames=1, refine=4)
    assert (mine - start[:, None]).norm() > 0.05 * start.norm()  # something happened
    assert (mine - known).norm() < within * known.norm()


def test_without_products_each_wave_goes_its_own_way():
    k = 2 * math.pi * 3
    x = torch.arange(128, dtype=torch.float64) / 128
    numbers = {"speed": 0.5, "diffusivity": 0.002, "dispersion": 1e-4, "hyperdiffusivity": 2e-6}
    coefficients = torch.tensor([list({**NOTHING, **numbers}.values())], dtype=torch.float64)
    (made,) = system(**numbers).advance(torch.cos(k * x)[None, None], coefficients, GRID, interval=0.3, num_frames=1)
    damped = math.exp(-0.3 * (0.002 * k**2 + 2e-6 * k**4))
    exact = damped * torch.cos(k * x - 0.3 * (0.5 * k - 1e-4 * k**3))
    assert (made[0, 0] - exact).abs().max() < 1e-12


def test_a_uniform_state_reacts_alone():
    coefficients = torch.tensor([[1.0, 1.0, 0.01, 1e-4, 1e-6, 1.5]], dtype=torch.float64)
    start = torch.full((1, 1, 128), 0.3, dtype=torch.float64)
    made = ScalarEvolution().advance(start, coefficients, GRID, interval=1.0, num_frames=1)
    exact = 1 / math.sqrt(1 + (1 / 0.3**2 - 1) * math.exp(-2 * 1.5))  # of u' = r (u − u³)
    assert (made - exact).abs().max() < 1e-8


def test_what_would_grow_without_bound_is_refused():
    with pytest.raises(ConfigError, match="needs a hyperdiffusivity above 0"):
        system(diffusivity=-0.001)
    with pytest.raises(ConfigError, match="'hyperdiffusivity' of 'scalar_evolution' needs low >= 0"):
        system(hyperdiffusivity=-1e-6)
    with pytest.raises(ConfigError, match="'rate' of 'scalar_evolution' needs low >= 0"):
        system(rate=-1.0)
