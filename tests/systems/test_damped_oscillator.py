"""The damped oscillator: swinging, critical and creeping, held against the exponential of its matrix."""

from __future__ import annotations

import math

import pytest
import torch

from scifm.errors import ConfigError
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.norms import integral
from scifm.fields.seeds import generator_for
from scifm.systems.damped_oscillator import DampedOscillator

RING = Grid((32,), 2.0)
TIMES = torch.arange(1, 101, dtype=torch.float64) / 100


def trajectory(damping: float, frequency: float, **options: object) -> Batch:
    system = DampedOscillator(damping=damping, frequency=frequency, **options)
    return system.sample(1, RING, generator_for(0, "swing"), dtype=torch.float64)


@pytest.mark.parametrize(
    ("damping", "frequency"),
    [(2, 20), (0, 20), (19.999999, 20), (20, 20), (20.000001, 20), (60, 20), (20 + 1e-12, 20), (3000, 20)],
)
def test_it_is_the_exponential_of_its_matrix(damping, frequency):
    """Below, at and above the critical damping, near it and far from it."""
    batch = trajectory(damping, frequency)
    matrix = torch.tensor([[0.0, 1.0], [-(float(frequency) ** 2), -2.0 * damping]], dtype=torch.float64)
    exact = torch.einsum("tij,jx->tix", torch.linalg.matrix_exp(TIMES[:, None, None] * matrix), batch.inputs[0, 0])
    unit = torch.tensor([1.0, frequency], dtype=torch.float64)[:, None]
    torch.testing.assert_close(batch.targets[0] / unit, exact / unit, rtol=1e-9, atol=1e-11)


def test_the_first_place_is_the_classic_example():
    """Pulled out by 1 and let go: x = e^{−δt} cos(ωt + ψ)/cos ψ with tan ψ = −δ/ω."""
    batch = trajectory(2, 20)
    assert batch.inputs[0, 0, :, 0].tolist() == [1.0, 0.0]
    omega = math.sqrt(20**2 - 2**2)
    turn = math.atan(-2 / omega)
    x = torch.exp(-2 * TIMES) * torch.cos(omega * TIMES + turn) / math.cos(turn)
    torch.testing.assert_close(batch.targets[0, :, 0, 0], x, rtol=0, atol=1e-13)
    assert batch.targets[0, :, 0].square().mean(-1).sqrt().min() > 0.09, "somewhere on the ring it is out, always"


def test_energy_falls_unless_nothing_is_damped():
    for damping in (0.0, 2.0):
        batch = trajectory(damping, 20)
        states = torch.cat([batch.inputs, batch.targets], dim=1)[0]
        energy = (states[:, 1].square() + 400 * states[:, 0].square()).mean(-1)
        if damping:
            assert (energy.diff() < 0).all()
        else:
            torch.testing.assert_close(energy, energy[:1].expand_as(energy), rtol=1e-12, atol=0)


def test_knobs_become_coefficients_and_are_read_off_them():
    system = DampedOscillator(num_frames=3)
    batch = system.sample(64, RING, generator_for(0, "knobs"))
    torch.testing.assert_close(batch.coefficient("stiffness"), system.measured_knobs(batch)["frequency"].square())
    frequency = system.measured_knobs(batch)["frequency"]
    assert 10 <= frequency.min() < 13 < 27 < frequency.max() <= 30
    assert batch.inputs[:, 0, 1].amax(-1).allclose(frequency, rtol=1e-3), "a turn in the plane of x and v/ω₀"


def test_what_the_ring_holds_is_known_of_any_first_frame():
    system = DampedOscillator(num_frames=6)
    batch = system.sample(3, RING, generator_for(0, "sums"), dtype=torch.float64)
    pushed = Batch(batch.signature, RING, batch.inputs + 1, batch.coefficients, lead_time=batch.lead_time)
    solved = system.solve(pushed)
    for name, held in system.budgets(pushed).items():
        torch.testing.assert_close(integral(solved.target(name), RING), held, rtol=1e-5, atol=1e-5)
        assert held.abs().min() > 0.1


def test_knobs_that_make_no_oscillator_are_refused():
    with pytest.raises(ConfigError, match="'frequency' of 'damped_oscillator' needs low > 0"):
        DampedOscillator(frequency=[0, 1])
    with pytest.raises(ConfigError, match="'damping' of 'damped_oscillator' needs low >= 0"):
        DampedOscillator(damping=[-1, 1])
