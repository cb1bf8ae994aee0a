"""The solver all three systems share: against the reference's arrays, manufactured solutions, and itself."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny
from scifm.errors import ConfigError, DataError, SignatureError
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.systems.advection_diffusion import AdvectionDiffusion
from scifm.systems.forcing import GaussianForcing
from scifm.systems.helmholtz import Helmholtz
from scifm.systems.poisson import Poisson

HERE = Path(__file__).parent
SMALL = HERE / "data" / "elliptic_64_small.npz"
WHOLE = HERE.parents[2] / "shared" / "reference" / "elliptic_64.npz"
BOX = Grid((24, 30), (2.0, 0.8), (True, True))
CASES = [
    (Poisson(), [0.02, 0.05, -0.01]),
    (AdvectionDiffusion(), [0.02, 0.05, -0.01, -0.4, 0.3]),
    (Helmholtz(), [0.01, 4.0]),
    (Helmholtz(sign="slides"), [0.01, 4.0]),
]


def relative(made, true):
    return ((made - true).flatten(1).norm(dim=1) / true.flatten(1).norm(dim=1)).max().item()


def reference_batch(name, path):
    arrays = {key: torch.from_numpy(np.atleast_1d(value)) for key, value in np.load(path).items()}
    if name == "poisson":
        prefix, coefficients = "poisson", arrays["poisson_k11_k22_k12"]
    elif name == "advection_diffusion":
        prefix = "advdiff"
        coefficients = torch.cat([arrays["advdiff_k11_k22_k12"], arrays["advdiff_velocity"]], 1)
    else:
        prefix, shift = "helmholtz", arrays["helmholtz_omega"]
        coefficients = torch.stack([arrays["helmholtz_diffusion"].expand_as(shift), shift], 1)
    forcing, solution = (arrays[f"{prefix}_{part}"][:, None, None] for part in ("forcing", "solution"))
    return Batch(tiny.STEADY[name].signature, Grid.square(64), forcing, coefficients, solution)


@pytest.mark.parametrize("path", [SMALL, WHOLE], ids=["small", "whole"])
@pytest.mark.parametrize("name", tiny.STEADY)
def test_the_reference_arrays_are_reproduced(name, path):
    if not path.exists():
        pytest.skip(f"{path.name} is not beside this checkout; the small copy is tested")
    batch, system = reference_batch(name, path), tiny.STEADY[name]()
    assert relative(system.solve(batch.with_targets(None)).targets, batch.targets) < 1e-10
    assert relative(system.residual(batch) + batch.inputs, batch.inputs) < 1e-10
    assert relative(system.residual(batch.with_targets(-batch.targets)) + batch.inputs, batch.inputs) > 1


def test_the_reference_ratio_is_what_we_measure():
    batch = reference_batch("advection_diffusion", SMALL)
    expected = torch.from_numpy(np.load(SMALL)["advdiff_ratio"])
    torch.testing.assert_close(AdvectionDiffusion().measured_ratio(batch), expected, rtol=1e-10, atol=0)


def manufactured(system, coefficients, grid):
    """Return a batch whose solution is one oblique wave with the forcing worked out by hand."""
    y, x = grid.coordinates()
    p, q = 2 * math.pi * 3 / grid.extent[1], -2 * math.pi * 2 / grid.extent[0]
    phase = p * x + q * y[:, None] + 0.3
    if system.name == "helmholtz":
        diffusivity, shift = coefficients
        even, odd = diffusivity * (p**2 + q**2) + {"code": -1, "slides": 1}[system.sign] * shift, 0.0
    else:
        xx, yy, xy, *velocity = coefficients
        even = xx * p**2 + yy * q**2 + 2 * xy * p * q
        odd = velocity[0] * p + velocity[1] * q if velocity else 0.0
    forcing = even * torch.cos(phase) - odd * torch.sin(phase)
    values = torch.tensor([coefficients], dtype=torch.float64)
    shape = (1, 1, 1, *grid.num_points)
    return Batch(system.signature, grid, forcing.view(shape), values, torch.cos(phase).view(shape))


@pytest.mark.parametrize("grid", [BOX, Grid((15, 21), (0.7, 3.0), (True, True))], ids=str)
@pytest.mark.parametrize(("system", "coefficients"), CASES, ids=["poisson", "advection", "code", "slides"])
def test_manufactured_solutions_on_unequal_boxes(system, coefficients, grid):
    batch = manufactured(system, coefficients, grid)
    assert relative(system.solve(batch.with_targets(None)).targets, batch.targets) < 1e-12
    assert system.residual(batch).abs().max() < 1e-12 * batch.inputs.abs().max() * 100


@pytest.mark.parametrize(("system", "coefficients"), CASES, ids=["poisson", "advection", "code", "slides"])
def test_a_transposed_problem_is_another_problem(system, coefficients):
    batch = manufactured(system, coefficients, Grid((24, 24), (2.0, 0.8), (True, True)))
    turned = Batch(batch.signature, batch.grid, batch.inputs.mT.contiguous(), batch.coefficients)
    assert relative(system.solve(turned).targets, batch.targets.mT) > 0.1


@pytest.mark.parametrize("num_points", [(64, 64), (64, 96), (128, 128)])
@pytest.mark.parametrize("system", [system for system, _ in CASES], ids=["poisson", "advection", "code", "slides"])
def test_float32_suffices(system, num_points):
    """The claim of the module: the fast float32 route and float32 `solve` are within 4e-7 of float64."""
    grid = Grid(num_points, (1.0, num_points[1] / num_points[0]), (True, True))
    made = system.sample(32, grid, generator_for(5))
    exact = system.solve(made.to(dtype=torch.float64))
    assert relative(made.targets, exact.targets) < 4e-7
    assert relative(system.solve(made).targets, exact.targets) < 4e-7


@pytest.mark.parametrize("system", [system for system, _ in CASES], ids=["poisson", "advection", "code", "slides"])
def test_one_seed_is_one_set_of_problems_at_every_precision_and_resolution(system):
    coarse, fine = Grid.square(64), Grid.square(128)
    double, single = (system.sample(8, coarse, generator_for(2), dtype=d) for d in (torch.float64, torch.float32))
    assert relative(single.targets, double.targets) < 5e-6
    assert relative(single.inputs, double.inputs) < 1e-6
    finer = system.sample(8, fine, generator_for(2), dtype=torch.float64)
    torch.testing.assert_close(finer.coefficients, double.coefficients, rtol=1e-4, atol=1e-7)
    # The maximum is taken on the grid, so a finer grid scales f and u by almost, not exactly, the same number.
    assert relative(finer.targets[..., ::2, ::2], double.targets) < 0.02


def test_more_samples_begin_with_the_same_samples():
    grid = Grid.square(8)
    few, many = (Poisson().sample(n, grid, generator_for(1)) for n in (1024, 1030))
    torch.testing.assert_close(many.targets[:1024], few.targets)


def test_a_wide_forcing_that_is_cut_at_the_edge_takes_the_general_route():
    system = Poisson(forcing=GaussianForcing(num_centers=2, width=0.2, spacing=0.5))
    made = system.sample(8, Grid.square(64), generator_for(0))
    assert relative(made.targets, system.solve(made.to(dtype=torch.float64)).targets) < 1e-6


def test_large_boxes_with_short_resonant_waves_are_solved_right():
    system, grid = Helmholtz(wavenumber_shift=[9.5, 9.9], max_solution=math.inf), Grid.square(128, extent=8.0)
    made = system.sample(4, grid, generator_for(0))
    assert relative(made.targets, system.solve(made.to(dtype=torch.float64)).targets) < 2e-5


def test_forcing_is_scaled_to_one_and_centered_where_it_must():
    for system in (Poisson(), AdvectionDiffusion()):
        forcing = system.sample(16, Grid.square(64), generator_for(0), dtype=torch.float64).inputs.flatten(1)
        assert forcing.mean(1).abs().max() < 1e-15
        torch.testing.assert_close(forcing.amax(1) - forcing.amin(1), torch.ones(16).double(), atol=1e-4, rtol=0)
    forcing = Helmholtz().sample(16, Grid.square(64), generator_for(0)).inputs.flatten(1)
    torch.testing.assert_close(forcing.amax(1), torch.ones(16))
    assert forcing.min() >= 0


def test_a_forcing_without_solution_is_refused():
    batch = manufactured(*CASES[0], BOX)
    with pytest.raises(DataError, match="Sample 0 has no periodic solution"):
        Poisson().solve(Batch(batch.signature, BOX, batch.inputs + 0.1, batch.coefficients))
    resonant = manufactured(Helmholtz(), [0.01, 0.01 * (2 * math.pi) ** 2], Grid.square(16))
    driven = Batch(resonant.signature, resonant.grid, torch.randn(1, 1, 1, 16, 16).double(), resonant.coefficients)
    with pytest.raises(DataError, match="resonance"):
        Helmholtz().solve(driven)


def test_residual_trains_a_field_towards_the_solution():
    system = AdvectionDiffusion()
    made = system.sample(2, Grid.square(16), generator_for(0), dtype=torch.float64)
    guess = torch.zeros_like(made.targets, requires_grad=True)
    (0.5 * system.residual(made.with_targets(guess)).square().sum()).backward()
    assert (guess.grad * made.targets).flatten(1).sum(1).max() < 0


def test_requests_that_cannot_be_served_are_refused():
    system, grid = Poisson(), Grid.square(16)
    with pytest.raises(ConfigError, match="at least 1"):
        system.sample(0, grid)
    with pytest.raises(ConfigError, match="float16"):
        system.sample(1, grid, dtype=torch.float16)
    with pytest.raises(SignatureError, match="8 points"):
        system.sample(1, Grid.square(4))
    with pytest.raises(SignatureError, match="periodic"):
        system.sample(1, Grid((16, 16), (1.0, 1.0), (True, False)))
    with pytest.raises(SignatureError, match="2 dimensions"):
        system.sample(1, Grid.square(16, num_spatial_dims=3))
    with pytest.raises(SignatureError, match="velocity_x"):
        AdvectionDiffusion().solve(system.sample(1, grid))
    with pytest.raises(SignatureError, match="no targets"):
        system.residual(system.sample(1, grid).with_targets(None))


@pytest.mark.parametrize("name", ["poisson", "advection_diffusion", "helmholtz"])
def test_solutions_have_derivatives_of_coefficients_and_forcings(name):
    system = tiny.STEADY[name]()
    batch = system.sample(2, Grid((16, 12)), generator_for(0), dtype=torch.float64)

    def solved(inputs, coefficients):
        return system.solve(replace(batch, inputs=inputs, coefficients=coefficients, targets=None)).targets

    given = (batch.inputs.clone().requires_grad_(), batch.coefficients.clone().requires_grad_())
    weights = torch.randn(batch.targets.shape, generator=generator_for(1), dtype=torch.float64)
    slopes = torch.autograd.grad((solved(*given) * weights).sum(), given)
    steps = [
        1e-5 * part.detach() * torch.rand(part.shape, generator=generator_for(2), dtype=torch.float64) for part in given
    ]
    if system.zero_mean:
        steps[0] -= steps[0].mean((-1, -2), keepdim=True)
    for place in range(2):
        moved = [
            [part + sign * steps[place] if own == place else part for own, part in enumerate(given)] for sign in (1, -1)
        ]
        beyond, before = ((solved(*parts) * weights).sum() for parts in moved)
        assert float((beyond - before).detach() / 2) == pytest.approx(
            float((slopes[place] * steps[place]).sum()), rel=1e-5
        )
