"""What answers miss of equations: its order between frames, against exact solutions; what pins a solution."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import tiny
from scifm.errors import SignatureError
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.systems.burgers import Burgers
from scifm.systems.catalog import evolving_of, system_of
from scifm.systems.convection import Convection
from scifm.systems.heat import Heat
from scifm.systems.poisson import Poisson
from scifm.systems.residuals import known_of, residual_of
from scifm.systems.shallow_water import ShallowWater

CASES = {
    "heat": (Heat(num_spatial_dims=1), Grid((64,)), 0.01),
    "convection": (Convection(), Grid((64,), 2 * math.pi), 0.001),
    "burgers": (Burgers(viscosity=0.05), Grid((128,)), 0.0025),
}


def drawn(system, grid, count=3):
    return system.sample(count, grid, generator_for(0, "residual"), dtype=torch.float64)


def missed(system, grid) -> float:
    batch = drawn(system, grid)
    return float(residual_of(system, batch).norm(dim=-1).mean() / known_of(system, batch).norm(dim=-1).mean())


@pytest.mark.parametrize(("num_frames", "order"), [(1, 2), (2, 3), (3, 4), (5, 4)])
@pytest.mark.parametrize("name", CASES)
def test_its_order_between_frames(name, num_frames, order):
    system, grid, interval = CASES[name]
    errors = []
    for halved in (1, 2, 4):
        finer = replace(system, save_interval=interval / halved, num_frames=num_frames + 1)
        errors.append(missed(finer, grid))
    assert errors[0] < 0.05
    seen = math.log2(errors[1] / errors[2])
    assert order - 0.5 < seen < order + 0.5, errors


def test_frames_may_be_unevenly_far_apart():
    """A solution that is a cubic in time misses nothing, whatever its times are, and a quartic does."""
    system, grid = Heat(num_spatial_dims=1), Grid((16,))
    times = torch.tensor([0.0, 0.1, 0.25, 0.3, 0.7], dtype=torch.float64)
    batch = drawn(replace(system, num_frames=5), grid, 1)
    x = torch.arange(16, dtype=torch.float64) / 16
    rate = batch.coefficient("diffusivity") * (2 * math.pi) ** 2

    def solution(power: int) -> torch.Tensor:
        """Return u whose rate of change is F(u) + t^power · cos: its mean is told exactly up to power 3."""
        return torch.cos(2 * math.pi * x) * (times**power)[:, None]

    for power, exact in ((3, True), (4, False)):
        fields = solution(power)
        given = replace(
            batch,
            inputs=fields[None, :1, None],
            targets=fields[None, 1:, None],
            lead_time=times[None, 1:],
        )
        steps, found = times.diff(), residual_of(system, given)[0, :, 0]
        change = fields.diff(dim=0) / steps[:, None]
        integral = (times[1:] ** (power + 1) - times[:-1] ** (power + 1)) / (power + 1) / steps
        wanted = change + rate * integral[:, None] * torch.cos(2 * math.pi * x)
        assert bool(((found - wanted).abs().max() < 1e-12) == exact)


def test_samples_have_times_of_their_own():
    """Each sample is asked over its own steps, as if it were alone."""
    system, grid = replace(Heat(num_spatial_dims=1), num_frames=4), Grid((16,))
    slow, fast = (drawn(replace(system, save_interval=interval), grid) for interval in (0.05, 0.01))
    both = type(slow).concatenate([slow, fast])
    each = torch.cat([residual_of(system, slow), residual_of(system, fast)])
    torch.testing.assert_close(residual_of(system, both), each, rtol=1e-10, atol=1e-12)


def test_fields_that_do_not_change_are_held_and_coefficients_are_found_by_name():
    system = ShallowWater(num_spatial_dims=1, num_frames=3)
    batch = drawn(system, Grid((64,)))
    turned = batch.aligned(replace(batch.signature, inputs=batch.signature.inputs[::-1]))
    torch.testing.assert_close(residual_of(system, turned), residual_of(system, batch), rtol=1e-12, atol=1e-12)


def test_a_constant_more_misses_what_is_pinned():
    batch = tiny.batch(3, dtype=torch.float64)
    system = Poisson()
    more = batch.with_targets(batch.require_targets() + 0.01)
    assert system.residual(more).abs().max() < 1e-10
    assert residual_of(system, batch).abs().max() < 1e-10
    pinned = residual_of(system, more)
    torch.testing.assert_close(pinned, pinned.mean((-2, -1), keepdim=True).expand_as(pinned), rtol=0, atol=1e-10)
    wave = torch.cos(2 * math.pi * torch.arange(16, dtype=torch.float64) / 16)
    least = min(  # by how much the operator acts on the longest waves
        float(
            system.residual(batch.with_targets(batch.require_targets() + 0.01 * way)).sub(system.residual(batch)).std()
        )
        for way in (wave.expand(16, 16), wave[:, None].expand(16, 16))
    )
    assert 0 < float(pinned.mean()) <= 1.5 * least


def test_it_is_differentiable_and_asks_for_what_it_needs():
    system, grid = Burgers(num_frames=3), Grid((32,))
    batch = drawn(system, grid)
    targets = batch.require_targets().clone().requires_grad_()
    (slope,) = torch.autograd.grad(residual_of(system, batch.with_targets(targets)).square().sum(), targets)
    assert slope.abs().min() > 0
    with pytest.raises(SignatureError, match="no targets"):
        residual_of(system, batch.with_targets(None))
    walls = replace(batch, grid=Grid((32,), 1.0, "wall"))
    with pytest.raises(SignatureError, match="periodic"):
        residual_of(system, walls)


def test_what_is_known_of_a_linear_steady_system_is_its_forcing():
    batch = tiny.batch(2, dtype=torch.float64)
    torch.testing.assert_close(known_of(Poisson(), batch.with_targets(None)), -batch.inputs, rtol=1e-12, atol=1e-12)


def test_a_system_is_found_by_the_name_that_samples_carry():
    batch = tiny.batch(2)
    assert isinstance(system_of(batch), Poisson)
    assert evolving_of(batch) is None
    nameless, strange = replace(batch, systems=()), replace(batch, systems=("nobody",) * 2)
    for given in (nameless, strange):
        assert system_of(given) is None
        assert isinstance(system_of(given, "poisson"), Poisson)
    assert system_of(nameless, "burgers") is None
    assert system_of(replace(batch, systems=("poisson", "helmholtz"))) is None
    rows = drawn(Heat(num_spatial_dims=1, num_frames=3), Grid((16,)), 2)
    assert isinstance(evolving_of(rows), Heat)
