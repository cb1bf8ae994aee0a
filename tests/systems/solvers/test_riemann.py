"""The exact Riemann solutions against published star states, conservation across waves, and mirrors."""

from __future__ import annotations

import pytest
import torch

from scifm.errors import DataError
from scifm.systems.solvers.riemann import gas_middle, gas_riemann, water_middle, water_riemann

RAYS = torch.linspace(-3, 3, 601, dtype=torch.float64)


@pytest.mark.parametrize(
    ("left", "right", "ratio", "middle", "tolerance"),
    [
        ((1, 0, 0.2), (0.125, 0, 0.02), 1.4, (0.060626, 0.414769, 0.426319, 0.265574), 1e-6),
        ((0.5, 0, 0.1), (2, 0, 0.05), 2.0, (0.082463, 0.059529, 0.454046, 2.558593), 1e-6),
        # Toro's five tests, to the digits he prints
        ((1, 0, 1), (0.125, 0, 0.1), 1.4, (0.30313, 0.92745, 0.42632, 0.26557), 5e-6),
        ((1, -2, 0.4), (1, 2, 0.4), 1.4, (0.00189, 0.0, 0.02185, 0.02185), 5e-6),
        ((1, 0, 1000), (1, 0, 0.01), 1.4, (460.894, 19.5975, 0.57506, 5.99924), 5e-4),
        ((1, 0, 0.01), (1, 0, 100), 1.4, (46.0950, -6.19633, 5.99242, 0.57511), 5e-5),
        ((5.99924, 19.5975, 460.894), (5.99242, -6.19633, 46.0950), 1.4, (1691.64, 8.68975, 14.2823, 31.0426), 7e-3),
    ],
)
def test_star_states_of_gases(left, right, ratio, middle, tolerance):
    found = gas_middle(left, right, ratio)
    for value, expected in zip((found.pressure, found.velocity, found.before, found.behind), middle, strict=True):
        assert abs(float(value) - expected) < tolerance


def test_a_batch_is_solved_as_each_alone():
    left = torch.tensor([[1, 0, 1], [1, -2, 0.4], [1, 0, 1000.0]], dtype=torch.float64)
    right = torch.tensor([[0.125, 0, 0.1], [1, 2, 0.4], [1, 0, 0.01]], dtype=torch.float64)
    ratio = torch.tensor([1.4, 1.4, 1.67], dtype=torch.float64)
    together = gas_riemann(left, right, ratio, RAYS)
    for row in range(3):
        torch.testing.assert_close(
            together[row], gas_riemann(left[row], right[row], ratio[row], RAYS), rtol=1e-13, atol=0
        )


def test_a_mirror_turns_the_solution_round():
    left, right = [1.0, 0.3, 1.0], [0.125, -0.2, 0.1]
    turned = gas_riemann([0.125, 0.2, 0.1], [1.0, -0.3, 1.0], 1.4, -RAYS)
    sign = torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)[:, None]
    torch.testing.assert_close(turned * sign, gas_riemann(left, right, 1.4, RAYS), rtol=1e-12, atol=1e-13)
    wet = water_riemann([1.0, 0.2], [2.0, -0.3], 9.81, -4 * RAYS)
    torch.testing.assert_close(
        wet * sign[:2], water_riemann([2.0, 0.3], [1.0, -0.2], 9.81, 4 * RAYS), rtol=1e-12, atol=1e-13
    )


def test_waves_of_a_gas_conserve_mass_momentum_and_energy():
    """What the fan holds at time 1 is what lay there at time 0 and what flowed in at its ends."""
    left, right, gamma = [1.0, 0.4, 1.0], [0.125, -0.1, 0.1], 1.4
    rays = (torch.arange(200000, dtype=torch.float64) + 0.5) / 200000 * 6 - 3
    rho, u, p = gas_riemann(left, right, gamma, rays)
    holds = [(part.mean() * 6).item() for part in (rho, rho * u, p / (gamma - 1) + rho * u**2 / 2)]

    def parts(state):
        rho, u, p = state
        energy = p / (gamma - 1) + rho * u**2 / 2
        return (rho, rho * u, energy), (rho * u, rho * u**2 + p, (energy + p) * u)

    (had_l, flow_l), (had_r, flow_r) = parts(left), parts(right)
    for now, one, other, comes, goes in zip(holds, had_l, had_r, flow_l, flow_r, strict=True):
        assert now == pytest.approx(3 * one + 3 * other + comes - goes, abs=2e-5)


def test_stokers_dam_break():
    """Its middle satisfies the fan's invariant on one side and the jump conditions of the bore on the other."""
    g, high, low = 9.81, 2.0, 1.0
    middle = water_middle([high, 0], [low, 0], g)
    h, u = float(middle.pressure), float(middle.velocity)
    assert u + 2 * (g * h) ** 0.5 == pytest.approx(2 * (g * high) ** 0.5, rel=1e-13)
    bore = h * u / (h - low)
    assert h * u**2 + g * h**2 / 2 - g * low**2 / 2 == pytest.approx(bore * h * u, rel=1e-12)
    depth, speed = water_riemann([high, 0], [0.1, 0], g, torch.zeros(1, dtype=torch.float64))
    assert float(depth) == pytest.approx(4 / 9 * high, rel=1e-12)  # at the dam, where the fan reaches over it
    assert float(speed) == pytest.approx(2 / 3 * (g * high) ** 0.5, rel=1e-12)


def test_what_has_no_solution_here_is_refused():
    with pytest.raises(DataError, match="vacuum"):
        gas_middle([1, -20, 0.4], [1, 20, 0.4], 1.4)
    with pytest.raises(DataError, match="positive density and pressure"):
        gas_middle([1, 0, 0.0], [1, 0, 0.4], 1.4)
    with pytest.raises(DataError, match="dry ground"):
        water_middle([1, -5], [1, 5], 1.0)
    with pytest.raises(DataError, match="positive depth"):
        water_middle([1, 0], [0, 0], 1.0)
