from __future__ import annotations

import math

import pytest
import torch

import tiny
from scifm.applications.playground.problems import PlayedSystem
from scifm.errors import ConfigError, DataError, RunError
from scifm.fields.grid import Grid
from scifm.systems.advection_diffusion import AdvectionDiffusion
from scifm.systems.helmholtz import Helmholtz
from scifm.systems.poisson import Poisson

GRID = Grid((24, 32), (1.0, 1.5), (True, True))


def wave() -> torch.Tensor:
    y, x = GRID.coordinates()
    return torch.cos(2 * math.pi * y)[:, None] + torch.sin(2 * math.pi * (x / 1.5 - 2 * y[:, None]))


@pytest.mark.parametrize("name", tiny.STEADY)
def test_a_problem_has_the_knobs_that_were_set(name):
    """Measured on the solution, for a forcing no sampler draws: so also the ratio is met for what is painted."""
    played = PlayedSystem.of(tiny.STEADY[name]())
    values = {
        "anisotropy": 7.0,
        "angle": 2.0,
        "advection_diffusion_ratio": 1.7,
        "direction": 4.0,
        "wavenumber_shift": 15.0,
    }
    values = {dial.name: values[dial.name] for dial in played.dials}
    solved = played.system.solve(played.pose(wave().float(), values, GRID)[0])
    measured = {knob: float(value) for knob, value in played.system.measured_knobs(solved).items()}
    assert measured == pytest.approx(values, rel=1e-5)


@pytest.mark.parametrize("name", tiny.STEADY)
def test_a_problem_of_the_sampler_is_posed_as_the_sampler_poses_it(name):
    system = tiny.STEADY[name]()
    fixed = system.where(**{dial.name: dial.start for dial in PlayedSystem.of(system).dials})
    sample = fixed.sample(1, GRID, torch.Generator().manual_seed(3), dtype=torch.float64)
    played = PlayedSystem.of(system)
    values = {dial.name: dial.start for dial in played.dials}
    posed, removed = played.pose(sample.inputs[0, 0, 0], values, GRID)
    assert removed == 0
    torch.testing.assert_close(posed.coefficients, sample.coefficients, rtol=1e-6, atol=0)
    torch.testing.assert_close(played.system.solve(posed).targets, sample.targets, rtol=1e-6, atol=1e-9)


def test_the_mean_is_taken_away_where_the_equation_needs_it_and_told():
    posed, removed = PlayedSystem.of(Poisson()).pose(wave() + 0.25, {"anisotropy": 2.0, "angle": 0.0}, GRID)
    assert removed == pytest.approx(0.25)
    assert float(posed.inputs.mean()) == pytest.approx(0, abs=1e-15)
    posed, removed = PlayedSystem.of(Helmholtz()).pose(wave() + 0.25, {"wavenumber_shift": 5.0}, GRID)
    assert removed == 0
    assert float(posed.inputs.mean()) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("system", "level"), [(Poisson(), 0.0), (Poisson(), 0.3), (AdvectionDiffusion(), 0.1), (Helmholtz(), 0.0)]
)
def test_nothing_to_solve_is_said(system, level):
    played = PlayedSystem.of(system)
    values = {dial.name: dial.start for dial in played.dials}
    with pytest.raises(DataError, match="zero everywhere"):
        played.pose(torch.full(GRID.num_points, level), values, GRID)


def test_a_value_the_system_refuses_is_refused():
    with pytest.raises(ConfigError, match="low >= 1"):
        PlayedSystem.of(Poisson()).pose(wave(), {"anisotropy": 0.5, "angle": 0.0}, GRID)


def test_problems_the_sampler_throws_away_are_known():
    played = PlayedSystem.of(Helmholtz())
    small = played.system.solve(played.pose(0.01 * wave(), {"wavenumber_shift": 7.0}, GRID)[0])
    assert not played.is_rejected(small)
    assert played.is_rejected(played.system.solve(played.pose(100 * wave(), {"wavenumber_shift": 7.0}, GRID)[0]))
    poisson = PlayedSystem.of(Poisson())
    large = poisson.system.solve(poisson.pose(1e5 * wave(), {"anisotropy": 2.0, "angle": 0.0}, GRID)[0])
    assert not poisson.is_rejected(large)


def test_a_seed_is_one_forcing_at_every_resolution():
    played = PlayedSystem.of(Poisson())
    coarse, fine = (played.draw_forcing(Grid.square(n), 5) for n in (64, 128))
    assert torch.equal(coarse, played.draw_forcing(Grid.square(64), 5))
    assert not torch.equal(coarse, played.draw_forcing(Grid.square(64), 6))
    scale = float((coarse * fine[::2, ::2]).sum() / coarse.square().sum())  # each has maximum 1 on its own grid
    torch.testing.assert_close(fine[::2, ::2], scale * coarse, rtol=0, atol=2e-3)


def test_values_must_name_every_knob_and_no_other():
    played = PlayedSystem.of(Poisson())
    assert played.values({"anisotropy": "2", "angle": "1.5"}) == {"anisotropy": 2.0, "angle": 1.5}
    with pytest.raises(ConfigError, match="missing for angle"):
        played.values({"anisotropy": "2"})
    with pytest.raises(ConfigError, match="'anisotropie' is unknown"):
        played.values({"anisotropie": "2", "angle": "1"})


def test_another_kind_of_system_is_refused():
    class Stochastic:
        name = "dice"

    with pytest.raises(RunError, match="'dice' is neither"):
        PlayedSystem.of(Stochastic())
