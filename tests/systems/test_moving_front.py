"""Problems with a front: their closed forms beside each other, beside published constants, and beside the equation."""

from __future__ import annotations

import math

import pytest
import torch

from scifm.errors import ConfigError, DataError, SignatureError
from scifm.fields.grid import Grid
from scifm.fields.norms import integral
from scifm.fields.seeds import generator_for
from scifm.systems.advected_step import AdvectedStep
from scifm.systems.burgers_ramp import BurgersRamp
from scifm.systems.moving_front import cell_faces
from scifm.systems.porous_medium import PorousMedium
from scifm.systems.stefan import Stefan, front_of

# system, coefficient, time, length of the interval
CASES = [
    (PorousMedium(), 1.0, 0.5, 1.0), (PorousMedium(), 2.0, 0.5, 1.0), (PorousMedium(), 6.0, 0.3, 1.3),
    (Stefan(), 0.6, 0.05, 1.0), (Stefan(), 0.55, 0.1, 1.0),
    (AdvectedStep(), 3.0, 0.04, 1.0),
    (BurgersRamp(), 2.0, 0.3, 2.0), (BurgersRamp(), 3.0, 0.5, 2.0), (BurgersRamp(), 1.0, 0.7, 1.0),
]  # fmt: skip


def number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.parametrize(
    ("threshold", "z", "alpha", "scale", "front"),
    [
        (0.5, 0.6200626, 1.2401253, 0.8071552, 0.277300),
        (0.55, 0.5721482, 1.1442965, 0.7737739, 0.255872),
        (0.6, 0.5256698, 1.0513396, 0.7369657, 0.235087),
        (0.65, 0.4799643, 0.9599287, 0.6962158, 0.214647),
        (0.7, 0.4343554, 0.8687109, 0.6508101, 0.194250),
    ],
)
def test_the_front_of_stefan_is_the_published_one(threshold, z, alpha, scale, front):
    found, height = front_of(number(threshold))
    assert float(found) == pytest.approx(z, abs=1e-7)
    assert 2 * float(found) == pytest.approx(alpha, abs=1e-7)
    assert float(height) == pytest.approx(scale, abs=1e-7)
    assert 2 * float(found) * math.sqrt(0.05) == pytest.approx(front, abs=1e-6)
    mass = Stefan().filled(number(1.0), number(0.05), number(threshold), 1.0)
    assert float(mass) == pytest.approx(2 * scale * math.sqrt(0.05 / math.pi), rel=1e-6)


@pytest.mark.parametrize(("exponent", "mass"), [(1.0, 0.125), (2.0, 1 / 3), (3.0, 0.429268), (6.0, 0.514687)])
def test_a_porous_medium_holds_the_published_mass(exponent, mass):
    assert float(PorousMedium().filled(number(1.0), number(0.5), number(exponent), 1.0)) == pytest.approx(
        mass, abs=1e-6
    )


@pytest.mark.parametrize(("speed", "time", "mass"), [(1.0, 0.2, 0.7), (4.0, 0.1, 0.9), (5.0, 0.4, 1.0)])
def test_a_step_holds_half_and_what_flows_in(speed, time, mass):
    assert float(AdvectedStep().filled(number(1.0), number(time), number(speed), 1.0)) == pytest.approx(mass)


@pytest.mark.parametrize(("height", "time"), [(1.0, 0.5), (1.0, 1.0), (2.0, 0.9), (4.0, 0.1)])
def test_a_ramp_holds_the_published_mass_before_and_after_it_breaks(height, time):
    mass = BurgersRamp().filled(number(2.0), number(time), number(height), 2.0)
    assert float(mass) == pytest.approx(height / 2 * (1 + height * time))


@pytest.mark.parametrize(("system", "value", "time", "length"), CASES)
def test_what_is_filled_is_the_integral_of_the_profile_and_changes_by_what_flows(system, value, time, length):
    """∂ filled/∂x is the profile; ∂ filled/∂t is the flow in at the left less that at x, at a front too."""
    c = number(value)
    x = torch.linspace(0.003, length - 0.004, 211, dtype=torch.float64).requires_grad_()
    t = number(time).requires_grad_()
    (slope,) = torch.autograd.grad(system.filled(x, t, c, length).sum(), x)
    profile = system.profile(x, t, c, length)
    torch.testing.assert_close(slope, profile.detach(), rtol=1e-10, atol=1e-10)
    rates = torch.stack([torch.autograd.grad(system.filled(one, t, c, length), t)[0] for one in x.detach()])
    flow = system.flow(number(0.0), t, c, length) - system.flow(x, t, c, length)
    torch.testing.assert_close(rates, flow.detach(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("system", "value", "time", "length"), CASES)
def test_the_flow_is_that_of_the_equation(system, value, time, length):
    """−k(u) ∂u/∂x, a u or u²/2, of the profile that the system says, away from the front."""
    c, t = number(value), number(time)
    x = torch.linspace(0.003, length - 0.004, 211, dtype=torch.float64).requires_grad_()
    u = system.profile(x, t, c, length)
    laws = {
        "porous_medium": lambda slope: -(u**c) * slope,
        "stefan": lambda slope: -torch.where(u >= c - 1e-12, slope, 0.0),
        "advected_step": lambda _: c * u,
        "burgers_ramp": lambda _: u**2 / 2,
    }
    slope = torch.autograd.grad(u.sum(), x, retain_graph=True)[0] if u.requires_grad else torch.zeros_like(u)
    inside = u > 0  # ahead of a front (m t)^(1/m) has no derivative that is a number
    law = laws[system.name](slope)
    torch.testing.assert_close(
        law[inside].detach(), system.flow(x, t, c, length)[inside].detach(), rtol=1e-9, atol=1e-9
    )
    assert (system.flow(x, t, c, length)[~inside] == 0).all()


@pytest.mark.parametrize(("system", "value", "time", "length"), CASES)
def test_a_frame_tells_its_time_and_its_budget_is_what_later_ones_hold(system, value, time, length):
    grid = Grid((77,), (length,), "open")
    c, t = number(value).view(1, 1), number(time).view(1, 1)
    frame = system.cell_means(t, c, grid)
    assert float(system.times_of(frame[:, 0], c, grid)) == pytest.approx(time, rel=1e-12)
    held = integral(frame, grid)
    assert float(held) == pytest.approx(
        float(system.filled(number(length), number(time), number(value), length)), rel=1e-13
    )


def test_a_cell_reaches_half_way_to_its_neighbours():
    grid = Grid((5,), 2.0, "open")
    assert cell_faces(grid).tolist() == [0.0, 0.25, 0.75, 1.25, 1.75, 2.0]
    step = AdvectedStep().cell_means(number(0.05).view(1, 1), number(1.0).view(1, 1), grid)
    torch.testing.assert_close(step.flatten(), torch.tensor([1, 1, 0.6, 0, 0], dtype=torch.float64), rtol=0, atol=1e-15)


def test_the_trapezoidal_mass_of_values_at_points_is_off_by_what_was_published():
    """Of Stefan's profile at 201 points, u* = 0.6, it is 1.45e-3 too much: means over cells are off by nothing."""
    grid, c, t = Grid((201,), 1.0, "open"), number(0.6), number(0.05)
    known = Stefan().filled(number(1.0), t, c, 1.0)
    points = Stefan().profile(grid.coordinates()[0], t, c, 1.0)
    assert float(integral(points, grid) - known) == pytest.approx(1.45e-3, abs=5e-6)
    assert abs(float(integral(Stefan().cell_means(t.view(1, 1), c.view(1, 1), grid)[0, 0], grid) - known)) < 1e-15


def test_a_front_may_not_leave_where_it_is_not_known_what_comes_then():
    with pytest.raises(SignatureError, match=r"of length 1 at time 0\.7637"):
        Stefan(start=0.2, save_interval=0.05).sample(2, Grid((40,), 1.0, "open"))
    with pytest.raises(SignatureError, match=r"leaves an interval of length 0\.5"):
        PorousMedium().sample(2, Grid((40,), 0.5, "open"))
    later = AdvectedStep(num_frames=60).sample(2, Grid((40,), 1.0, "open"), generator_for(0))
    assert (later.require_targets()[:, -1] == 1).sum() >= 40


@pytest.mark.parametrize("boundary", ["periodic", "wall"])
def test_an_interval_has_an_open_end(boundary):
    with pytest.raises(SignatureError, match=f"the one given is {boundary}. Give boundary"):
        Stefan().sample(2, Grid((40,), 1.0, boundary))


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda: Stefan(threshold=[0.5, 1.0]), "threshold of 'stefan' is below 1"),
        (lambda: Stefan(start=[0, 0.01]), "'start' of 'stefan' needs low > 0"),
        (lambda: PorousMedium(exponent=[0, 1]), "'exponent' of 'porous_medium' needs low > 0"),
        (lambda: AdvectedStep(start=[-1, 1]), "'start' of 'advected_step' needs low >= 0"),
        (lambda: BurgersRamp(height=[0, 1]), "'height' of 'burgers_ramp' needs low > 0"),
        (lambda: PorousMedium(num_frames=1), "at least 2 frames"),
    ],
)
def test_what_cannot_be_is_refused(made, told):
    with pytest.raises(ConfigError, match=told):
        made()


def test_a_state_of_nans_is_not_marched():
    grid, system = Grid((40,), 1.0, "open"), Stefan()
    with pytest.raises(DataError, match="left every bound"):
        system.advance(torch.full((1, 1, 40), torch.nan), torch.full((1, 1), 0.6), grid, interval=0.01, num_frames=1)
