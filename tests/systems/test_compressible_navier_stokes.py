from __future__ import annotations

import math

import pytest
import torch

import finite_volume_problems as problems
from scifm.errors import ConfigError
from scifm.fields.grid import Grid
from scifm.systems.compressible_navier_stokes import CompressibleNavierStokes
from scifm.systems.euler import Euler
from scifm.systems.evolving_contract import EvolvingContract

THICK = {"viscosity": 0.05, "bulk_viscosity": 0.02}


@pytest.mark.slow
class TestBetweenWalls(EvolvingContract):
    """The contract where y runs between walls and x wraps."""

    system = CompressibleNavierStokes(num_frames=3, save_interval=0.02)
    grids = tuple(Grid(shape, (0.9, 1.3), ("wall", "periodic")) for shape in ((20, 30), (24, 24), (17, 21)))
    tolerance = 1e-5
    num_tried = 3
    tendency_tolerance = 0.12  # of the coarsest grid, in space; `test_it_is_of_second_order_in_space` sees it fall


@pytest.mark.parametrize(
    ("num_points", "boundary", "most"),
    [((32,), "periodic", 0.012), ((32, 32), ("periodic", "periodic"), 0.013), ((32, 32), ("wall", "periodic"), 0.013)],
)
def test_it_is_of_second_order_in_space(num_points, boundary, most):
    """With so much friction that its terms are as large as the others."""
    system = CompressibleNavierStokes(num_spatial_dims=len(num_points), **THICK)
    left, order = problems.orders_in_space(system, Grid(num_points, 1.0, boundary))
    assert left < most
    assert order > 1.9


def test_three_dimensions_have_all_stresses():
    system = CompressibleNavierStokes(num_spatial_dims=3, **THICK)
    left, order = problems.orders_in_space(
        system, Grid((10, 12, 10), (1.0, 1.1, 1.0), ("periodic", "wall", "periodic"))
    )
    assert left < 0.09
    assert order > 1.4  # as yet: few points


@pytest.mark.parametrize("boundary", ["periodic", "wall"])
def test_friction_conserves_mass_momentum_and_energy(boundary):
    grid = Grid((12, 16), (1.0, 1.3), boundary)
    system = CompressibleNavierStokes(contrast=0.02, **THICK)
    frames = problems.moved(system, grid, 0.2)
    values = system.quantities(frames, problems.drawn(system, grid)[1], grid)
    assert len(values) == (4 if boundary == "periodic" else 2)
    for name, value in values.items():
        assert (value[:, 1] - value[:, 0]).abs().max() < 1e-14, name
    motion = (frames[:, :, 0] * frames[:, :, 1:3].square().sum(2)).mean((-1, -2))
    assert (motion[:, 1] < 0.95 * motion[:, 0]).all()  # it went into heat


def test_a_shear_wave_decays_as_it_should():
    """Of velocity 1e-3 along y, changing along x: exp(−η k² t/ρ)."""
    grid, eta = Grid((4, 32), (0.5, 1.0), ("periodic", "periodic")), 0.02
    wave = 1e-3 * torch.sin(2 * math.pi * grid.coordinates()[1]).expand(4, -1)
    states = torch.stack([2.0 + 0 * wave, 0 * wave, wave, 1.0 + 0 * wave])[None]
    numbers = torch.tensor([[1.4, eta, 0.04]], dtype=torch.float64)
    later = CompressibleNavierStokes().advance(states, numbers, grid, interval=0.2, num_frames=1)[0, 0, 2]
    decayed = float((later * wave).mean() / wave.square().mean())
    assert decayed == pytest.approx(math.exp(-eta / 2 * (2 * math.pi) ** 2 * 0.2), rel=2e-3)


def test_sound_decays_as_it_should():
    """A running wave of amplitude 1e-5: exp(−½ (4/3 η + ζ) k² t/ρ)."""
    grid, eta, zeta, time = Grid((64,), (1.0,), "periodic"), 0.003, 0.006, 1.0
    angle = 2 * math.pi * grid.coordinates()[0]
    wave = 1e-5 * torch.cos(angle)
    states = torch.stack([1 + wave, wave, (1 + 1.4 * wave) / 1.4])[None]
    numbers = torch.tensor([[1.4, eta, zeta]], dtype=torch.float64)
    line = CompressibleNavierStokes(num_spatial_dims=1)
    later = line.advance(states, numbers, grid, interval=time, num_frames=1)[0, 0, 1]
    size = float(torch.fft.rfft(later)[1].abs() / torch.fft.rfft(wave)[1].abs())
    expected = math.exp(-0.5 * (4 / 3 * eta + zeta) * (2 * math.pi) ** 2 * time)
    assert size == pytest.approx(expected, rel=5e-3)


def test_without_friction_it_is_euler():
    grid = Grid((12, 16), (1.0, 1.3), ("periodic", "wall"))
    inputs, numbers = problems.drawn(Euler(), grid)
    bare = Euler().advance(inputs, numbers, grid, interval=0.1, num_frames=2)
    none = torch.cat([numbers, torch.zeros(2, 2).double()], dim=1)
    assert torch.equal(CompressibleNavierStokes().advance(inputs, none, grid, interval=0.1, num_frames=2), bare)


def test_much_friction_stays_stable():
    """The step follows the viscosity: at the largest courant allowed too."""
    system = CompressibleNavierStokes(viscosity=1.0, bulk_viscosity=1.0, courant=1.0)
    frames = problems.moved(system, Grid((10, 10), (1.0, 1.0), ("periodic", "periodic")), 0.05)
    assert frames[:, 1, 1:3].abs().max() < 0.3 * frames[:, 0, 1:3].abs().max()


def test_negative_friction_is_refused():
    for name in THICK:
        with pytest.raises(ConfigError, match=f"'{name}' of 'compressible_navier_stokes' needs low >= 0"):
            CompressibleNavierStokes(**{name: [-0.1, 0.1]})
