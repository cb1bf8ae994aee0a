from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import hankel1

from scifm.errors import ConfigError, DataError, SignatureError
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.systems.contract import SystemContract
from scifm.systems.helmholtz_medium import HelmholtzMedium
from scifm.systems.knobs import Knob
from scifm.systems.solvers import scattering

SLOW_WAVES = HelmholtzMedium(wavenumber=Knob(6, 12))


class TestHelmholtzMedium(SystemContract):
    """The contract, on grids that hold its waves by 12 points and more."""

    system = SLOW_WAVES
    grids = (Grid((32, 36), (1.0, 1.1)), Grid.square(32), Grid((33, 31)))
    num_tried = 3

    @pytest.mark.gpu
    def test_batches_are_made_on_the_device(self):
        super().test_batches_are_made_on_the_device()


def bump(grid: Grid, width: float, wavenumber: float, contrast: float = 0.0) -> Batch:
    y, x = grid.coordinates()
    forcing = torch.exp(-0.5 * ((y[:, None] - 0.5) ** 2 + (x - 0.5) ** 2) / width**2)
    inputs = torch.stack([forcing, torch.full_like(forcing, contrast)])[None, None]
    numbers = torch.tensor([[wavenumber]], dtype=torch.float64)
    return Batch(signature=SLOW_WAVES.signature, grid=grid, inputs=inputs, coefficients=numbers)


@pytest.mark.parametrize(("wavenumber", "most"), [(6.0, 1e-3), (25.0, 3e-3)])
def test_in_the_open_it_is_hankels_function(wavenumber, most):
    grid, width = Grid.square(64), 0.03
    solved = HelmholtzMedium().solve(bump(grid, width, wavenumber)).targets[0, 0].numpy()
    y, x = (line.numpy() - 0.5 for line in grid.coordinates())
    distance = np.hypot(y[:, None], x)
    strength = 2 * np.pi * width**2 * np.exp(-((wavenumber * width) ** 2) / 2)
    exact = 0.25j * strength * hankel1(0, wavenumber * np.maximum(distance, 1e-9))
    seen = (distance > 0.15) & (np.abs(y[:, None]) < 0.34) & (np.abs(x) < 0.34)
    off = (solved[0] + 1j * solved[1] - exact)[seen]
    assert np.linalg.norm(off) < most * np.linalg.norm(exact[seen])


def test_the_order_is_four():
    """A grid twice as fine errs by less than a tenth, with the sixteenth that order 4 would have at best."""
    waves = 18.0
    solutions = [HelmholtzMedium().solve(bump(Grid.square(n), 0.05, waves)).targets[0, 0] for n in (24, 48, 96)]
    coarse, fine = (
        (one - solutions[2][:, :: 96 // n, :: 96 // n]).norm() for n, one in zip((24, 48), solutions, strict=False)
    )
    coarse = coarse / solutions[0].norm()
    assert float(fine / solutions[1].norm()) < 0.1 * float(coarse)


def test_derivatives_are_those_of_the_solution():
    system = SLOW_WAVES
    batch = system.sample(2, Grid.square(24), generator_for(0), dtype=torch.float64)
    inputs, numbers = batch.inputs.clone().requires_grad_(), batch.coefficients.clone().requires_grad_()
    weights = torch.randn(batch.targets.shape, generator=generator_for(1), dtype=torch.float64)

    def value(one, other):
        return (system.solve(replace(batch, inputs=one, coefficients=other, targets=None)).targets * weights).sum()

    slopes = torch.autograd.grad(value(inputs, numbers), (inputs, numbers))
    for place, slope in enumerate(slopes):
        step = [torch.zeros_like(batch.inputs), torch.zeros_like(batch.coefficients)]
        step[place] = 1e-4 * torch.randn(step[place].shape, generator=generator_for(2, place), dtype=torch.float64)
        beyond, before = (value(batch.inputs + s * step[0], batch.coefficients + s * step[1]) for s in (1, -1))
        assert float((beyond - before) / 2) == pytest.approx(float((slope * step[place]).sum()), rel=1e-5)


def test_samples_with_one_medium_share_a_factorization(monkeypatch):
    counted = []
    made = scattering._factorized
    monkeypatch.setattr(scattering, "_factorized", lambda *parts: counted.append(1) or made(*parts))
    batch = SLOW_WAVES.sample_inputs(2, Grid.square(24), generator_for(0), dtype=torch.float64)
    same = replace(batch, inputs=batch.inputs.clone(), coefficients=batch.coefficients[:1].expand(2, -1).contiguous())
    same.inputs[:, :, 1] = same.inputs[:1, :, 1]
    both = SLOW_WAVES.solve(same).targets
    assert len(counted) == 1
    torch.testing.assert_close(both[1:], SLOW_WAVES.solve(same.select(slice(1, 2))).targets)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ConfigError, match="low > 0"):
        HelmholtzMedium(wavenumber=Knob(0, 3))
    with pytest.raises(ConfigError, match="absorbing_layer"):
        HelmholtzMedium(absorbing_layer=0.0)
    with pytest.raises(SignatureError, match="larger box"):
        HelmholtzMedium(absorbing_layer=0.4).sample_inputs(1, Grid.square(24), generator_for(0))
    with pytest.raises(DataError, match="above -1"):
        HelmholtzMedium().solve(bump(Grid.square(24), 0.05, 6.0, contrast=-1.0))
