"""A flow told by its velocity, beside exact solutions and beside the same flow told by its vorticity."""

from __future__ import annotations

import math

import pytest
import torch

from scifm.errors import SignatureError
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.fields.spectral import divergence, gradient
from scifm.systems.incompressible_flow import IncompressibleFlow
from scifm.systems.navier_stokes import NavierStokes

GRID = Grid((27, 32), (0.7, 1.9), (True, True))
VISCOSITY = torch.tensor([[0.002], [0.003]], dtype=torch.float64)
FLOW = IncompressibleFlow()


def places(grid=GRID):
    y, x = (torch.arange(n, dtype=torch.float64) * e / n for n, e in zip(grid.num_points, grid.extent, strict=True))
    return y[:, None], x[None, :]


def march(v_x, v_y, interval, *, force=None, num_frames=1, grid=GRID, viscosity=VISCOSITY, refine=1):
    zero = torch.zeros(len(viscosity), *grid.num_points, dtype=torch.float64)
    inputs = torch.stack([v_x + zero, v_y + zero, zero if force is None else force + zero], dim=1)
    return FLOW.advance(inputs, viscosity, grid, interval=interval, num_frames=num_frames, refine=refine)


def spread_of(frames, grid=GRID):
    """Return ‖∇·v‖ over ‖∇v‖ of velocities ``(…, 2, ny, nx)``."""
    v_x, v_y = frames.unbind(-3)
    return divergence((v_y, v_x), grid).norm() / torch.stack([*gradient(v_x, grid), *gradient(v_y, grid)]).norm()


def test_taylor_and_greens_vortices_decay_while_a_constant_velocity_carries_them():
    grid = Grid.square(24)
    y, x = places(grid)
    k, drift = 2 * 2 * math.pi, (0.3, -0.2)
    made = march(
        torch.cos(k * x) * torch.sin(k * y) + drift[0], -torch.sin(k * x) * torch.cos(k * y) + drift[1], 0.2,
        num_frames=2, grid=grid, refine=4,
    )  # fmt: skip
    for frame, time in enumerate((0.2, 0.4)):
        fallen = torch.exp(-2 * VISCOSITY * k * k * time)[:, :, None]
        there, up = x - drift[0] * time, y - drift[1] * time
        v_x = torch.cos(k * there) * torch.sin(k * up) * fallen + drift[0]
        v_y = -torch.sin(k * there) * torch.cos(k * up) * fallen + drift[1]
        off = (made[:, frame] - torch.stack([v_x, v_y], dim=1)).abs().max()
        assert off < 2e-8, f"frame {frame} is off by {off:.3g}"  # the steps of the solver, of order 4
    assert spread_of(made, grid) < 1e-13


def test_without_a_drift_they_only_decay():
    y, x = places()
    k, m = 2 * 2 * math.pi / 1.9, 3 * 2 * math.pi / 0.7
    v_x, v_y = -torch.cos(k * x) * torch.sin(m * y), k / m * torch.sin(k * x) * torch.cos(m * y)
    fallen = torch.exp(-VISCOSITY[:, 0] * (k * k + m * m) * 0.5).view(2, 1, 1, 1)
    assert (march(v_x, v_y, 0.5)[:, 0] - torch.stack([v_x, v_y]) * fallen).abs().max() < 1e-10


def test_it_is_the_flow_that_is_told_by_its_vorticity():
    """From one seed both march from the same state, and the curl of the one is the other, forced and chaotic or not."""
    for force in (0.0, 0.15):
        drawn = {
            system: system(force=force, num_frames=5).sample(2, Grid.square(32), generator_for(3), dtype=torch.float64)
            for system in (NavierStokes, IncompressibleFlow)
        }
        told, flow = drawn[NavierStokes], drawn[IncompressibleFlow]
        assert torch.equal(told.coefficients, flow.coefficients)
        v_x, v_y = flow.targets.unbind(2)
        curl = gradient(v_y, flow.grid)[1] - gradient(v_x, flow.grid)[0]
        assert (curl - told.targets[:, :, 0]).abs().max() < 1e-6 * curl.abs().max()
        pushed = -gradient(flow.field("force_x"), flow.grid)[0]
        assert (pushed - told.field("forcing")).abs().max() < 1e-10


def test_the_force_drives_a_shear_from_rest_to_its_steady_state():
    y, x = places()
    viscosity, push, k = 0.003, 0.15, 2 * 2 * math.pi / 0.7
    force, steady = push * torch.sin(k * y) + 0 * x, push / (viscosity * k * k) * torch.sin(k * y) + 0 * x
    made = march(0 * steady, 0 * steady, 0.3, force=force, viscosity=VISCOSITY[1:])
    exact = steady * (1 - math.exp(-viscosity * k * k * 0.3))
    assert (made[0, 0, 0] - exact).abs().max() < 1e-10 * steady.max()
    assert made[0, 0, 1].abs().max() < 1e-15
    drawn = IncompressibleFlow(force=0.15, force_waves=2).sample_inputs(2, GRID, generator_for(0), dtype=torch.float64)
    assert (drawn.field("force_x") - force).abs().max() < 1e-12


def test_what_of_the_force_is_a_gradient_or_its_mean_moves_nothing():
    y, x = places()
    force = 0.4 * torch.cos(2 * math.pi * x / 1.9) + 0.7 + 0 * y
    v_x, v_y = march(0 * force, 0 * force, 0.3, force=force)[:, 0].unbind(1)
    assert max(v_x.abs().max(), v_y.abs().max()) < 1e-15


def test_every_frame_has_no_divergence_and_keeps_its_mean():
    for dtype, least in ((torch.float64, 1e-13), (torch.float32, 2e-6)):
        batch = FLOW.sample(2, Grid.square(32), generator_for(0), dtype=dtype)
        frames = torch.cat([batch.inputs[:, :, :2], batch.targets], dim=1).double()
        assert spread_of(frames, batch.grid) < least
        assert frames.mean((-2, -1)).abs().max() < 1e-7 * frames.abs().max()
    moving = batch.inputs.double()[:, 0] + torch.tensor([0.3, -0.1, 0.0]).view(3, 1, 1).double()
    made = FLOW.advance(moving, batch.coefficients.double(), batch.grid, interval=0.25, num_frames=4)
    expected = torch.tensor([0.3, -0.1], dtype=torch.float64).expand(2, 4, 2)
    torch.testing.assert_close(made.mean((-2, -1)), expected, rtol=0, atol=1e-7)


def test_energy_is_balanced_along_a_trajectory():
    """What viscosity takes and the force gives, added up by Simpson's rule over the frames, is what is missing."""
    step = 0.01
    system = IncompressibleFlow(save_interval=step, num_frames=21)
    batch = system.sample(2, GRID, generator_for(0), dtype=torch.float64)
    frames = torch.cat([batch.inputs[:, :, :2], batch.targets], dim=1)
    v_x, v_y = frames.unbind(2)
    curl = gradient(v_y, GRID)[1] - gradient(v_x, GRID)[0]
    gained = (v_x * batch.field("force_x")).mean((2, 3)) - batch.coefficients * (curl**2).mean((2, 3))
    weights = torch.tensor([1.0, *[4.0, 2.0] * 9, 4.0, 1.0], dtype=torch.float64) * step / 3
    energy = 0.5 * (v_x**2 + v_y**2).mean((2, 3))
    change = energy[:, -1] - energy[:, 0]
    assert (change - (gained * weights).sum(1)).abs().max() < 1e-7 * energy.max()
    assert change.abs().min() > 1e-3 * energy.max()


def test_what_cannot_be_is_refused():
    with pytest.raises(SignatureError, match="cannot hold the 6 waves of the force along y"):
        IncompressibleFlow(force_waves=6).sample(1, Grid.square(16))
    assert IncompressibleFlow(force=0).sample(1, Grid.square(16)).field("force_x").abs().max() == 0
