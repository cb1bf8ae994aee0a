"""Ghost cells, values at faces, Runge–Kutta, and the fluxes."""

from __future__ import annotations

import math
from itertools import pairwise

import torch

from scifm.systems.solvers.finite_volume import differences, face_values, faces_of_cells, ssprk3, with_ghosts
from scifm.systems.solvers.riemann import gas_riemann, water_riemann
from scifm.systems.solvers.riemann_fluxes import gas_flux, water_flux


def test_ghost_cells():
    fields = torch.arange(10.0, dtype=torch.float64).view(1, 2, 5) + 1
    assert with_ghosts(fields, -1, "periodic")[0, 0].tolist() == [4, 5, 1, 2, 3, 4, 5, 1, 2]
    assert with_ghosts(fields, -1, "open")[0, 0].tolist() == [1, 1, 1, 2, 3, 4, 5, 5, 5]
    wall = with_ghosts(fields, -1, "wall", mirrored=1)
    assert wall[0, 0].tolist() == [2, 1, 1, 2, 3, 4, 5, 5, 4]
    assert wall[0, 1].tolist() == [-7, -6, 6, 7, 8, 9, 10, -10, -9]
    assert fields[0, 1].tolist() == [6, 7, 8, 9, 10]


def faces(fields, axis, ends, positive=()):
    """Return the values on both sides of all faces across an axis, ``(…, n + 1, …)``."""
    padded = with_ghosts(fields, axis, ends)
    found = []
    for side in face_values(padded, axis, positive):
        first, second = faces_of_cells(side, padded.shape, axis)
        found.append(torch.cat([first, second.narrow(axis, second.shape[axis] - 1, 1)], dim=axis))
    return found


def test_face_values_are_the_same_along_every_axis():
    fields = torch.randn(2, 3, 6, 7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for axis in (-3, -2):
        for one, other in zip(
            faces(fields, axis, "open"), faces(fields.transpose(axis, -1).contiguous(), -1, "open"), strict=True
        ):
            torch.testing.assert_close(one, other.transpose(axis, -1), rtol=1e-12, atol=1e-12)
    before, _ = faces(fields, -2, "wall")
    torch.testing.assert_close(before.narrow(-2, 0, 7) - before.narrow(-2, 1, 7), differences(*_flat(fields)))


def _flat(fields):
    padded = with_ghosts(fields, -2, "wall")
    return face_values(padded, -2)[0], padded.shape, -2


def test_face_values_of_a_smooth_field_are_of_third_order_at_crests_too():
    """From the means of cells; both sides of every face, the crests not left out."""
    errors = []
    for num in (32, 64, 128):
        width = 2 * math.pi / num
        edges = torch.arange(num + 1, dtype=torch.float64) * width
        means = (edges[:-1].cos() - edges[1:].cos()) / width  # of sin
        before, behind = faces(means.view(1, 1, -1), -1, "periodic")
        errors.append(max(float((side[0, 0] - edges.sin()).abs().max()) for side in (before, behind)))
    orders = [math.log2(one / other) for one, other in pairwise(errors)]
    assert min(orders) > 2.7, (errors, orders)


def test_face_values_do_not_overshoot_a_jump_and_scale_with_the_field():
    field = torch.tensor([0.0] * 20 + [1.0] * 20, dtype=torch.float64).view(1, 1, -1)
    before, behind = faces(field, -1, "open")
    for side in (before, behind):
        assert side.min() > -0.003
        assert side.max() < 1.003
    noise = torch.randn(2, 3, 8, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for scaled, plain in zip(faces(7 * noise, -2, "periodic"), faces(noise, -2, "periodic"), strict=True):
        torch.testing.assert_close(scaled, 7 * plain, rtol=1e-12, atol=1e-12)


def test_what_is_positive_stays_so_at_faces():
    field = torch.tensor([1.0, 1.0, 0.4, 1e-3, 0.5, 1.0, 1.0], dtype=torch.float64).view(1, 1, -1)
    for side in faces(field, -1, "periodic", positive=(0,)):
        assert side.min() >= 0.999e-4


def test_runge_kutta_is_of_order_three_with_a_step_a_sample():
    """u' = −u² from 1: u = 1/(1 + t); two samples march to different times in as many steps."""
    ends = torch.tensor([1.0, 2.0], dtype=torch.float64).view(2, 1, 1)
    errors = []
    for steps in (20, 40):
        state = torch.ones(2, 1, 1, dtype=torch.float64)
        for _ in range(steps):
            ssprk3(state, ends / steps, lambda u: -u.square(), -state.square())
        errors.append((state - 1 / (1 + ends)).abs())
    assert (((errors[0] / errors[1]).log2() - 3).abs() < 0.15).all()


def test_between_equal_states_flows_what_the_equation_says():
    state = torch.tensor([1.3, 0.4, -0.7, 0.9], dtype=torch.float64).view(1, 4, 1)
    ratio = torch.full((1, 1), 1.4, dtype=torch.float64)
    rho, u, v, p = state.flatten().tolist()
    energy = p / 0.4 + rho * (u * u + v * v) / 2
    expected = [rho * v, rho * v * u, rho * v * v + p, (energy + p) * v]
    assert torch.allclose(gas_flux(state, state, 2, ratio).flatten().double(), torch.tensor(expected).double())
    wet, g = state[:, :3], 9.81
    expected = [rho * u, rho * u * u + g * rho**2 / 2, rho * u * v]
    found = water_flux(wet, wet, 1, torch.full((1, 1), g, dtype=torch.float64))
    assert torch.allclose(found.flatten(), torch.tensor(expected).double())


def test_fast_waves_carry_one_side_only_and_a_mirror_turns_the_flux():
    fast, slow = (torch.tensor(s, dtype=torch.float64).view(1, 3, 1) for s in ([1.0, 3.0, 1.0], [0.5, 2.5, 0.4]))
    ratio = torch.full((1, 1), 1.4, dtype=torch.float64)
    torch.testing.assert_close(gas_flux(fast, slow, 1, ratio), gas_flux(fast, fast, 1, ratio))
    mirror = torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64).view(1, 3, 1)
    one, other = (torch.tensor(s, dtype=torch.float64).view(1, 3, 1) for s in ([1.0, 0.1, 1.0], [0.5, -0.3, 0.4]))
    torch.testing.assert_close(
        gas_flux(mirror * other, mirror * one, 1, ratio), -mirror * gas_flux(one, other, 1, ratio)
    )
    torch.testing.assert_close(
        water_flux(mirror * other, mirror * one, 1, ratio), -mirror * water_flux(one, other, 1, ratio)
    )


def test_a_contact_at_rest_is_held_exactly():
    """HLLC knows the middle wave: two densities at rest under one pressure exchange nothing."""
    light, dense = (torch.tensor(s, dtype=torch.float64).view(1, 3, 1) for s in ([0.2, 0.0, 1.0], [3.0, 0.0, 1.0]))
    ratio = torch.full((1, 1), 1.4, dtype=torch.float64)
    assert gas_flux(light, dense, 1, ratio).flatten().tolist() == [0.0, 1.0, 0.0]


def test_fluxes_are_near_the_exact_ones():
    """Godunov's flux is that of the exact state at the face; HLLC's differs by little for waves of this size."""
    left, right = [1.0, 0.2, 1.0], [0.9, 0.1, 0.8]
    ratio = torch.full((1, 1), 1.4, dtype=torch.float64)
    at = gas_riemann(left, right, 1.4, torch.zeros(1, dtype=torch.float64)).view(1, 3, 1)
    one, other = (torch.tensor(s, dtype=torch.float64).view(1, 3, 1) for s in (left, right))
    torch.testing.assert_close(gas_flux(one, other, 1, ratio), gas_flux(at, at, 1, ratio), rtol=5e-3, atol=0)
    wet = water_riemann(left[:2], right[:2], 1.4, torch.zeros(1, dtype=torch.float64)).view(1, 2, 1)
    torch.testing.assert_close(
        water_flux(one[:, :2], other[:, :2], 1, ratio), water_flux(wet, wet, 1, ratio), rtol=5e-3, atol=0
    )
