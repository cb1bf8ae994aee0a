"""One point of the input: how far it reaches, on boxes of one to three dimensions, with walls, and in time."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import networks
import tiny
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.models.fno import FNO, FNOConfig
from scifm.models.module_operator import ModuleOperator
from scifm.systems.helmholtz import Helmholtz
from scifm.systems.poisson import Poisson
from scifm.trust.receptive_field import ReceptiveField


def found(operator, batch, **settings):
    return ReceptiveField(**settings)(operator, batch, generator=generator_for(0, "test"))


def problems(grid: Grid, *, evolves: bool = False) -> Batch:
    names = Signature(("f",), (), ("f",) if evolves else ("u",), grid.num_spatial_dims, evolves)
    inputs = torch.randn(4, 1, 1, *grid.num_points, generator=torch.Generator().manual_seed(0))
    return Batch(names, grid, inputs, torch.zeros(4, 0))


def fno(batch: Batch, *, dead: bool, **settings) -> FNO:
    torch.manual_seed(0)
    dims = batch.grid.num_spatial_dims
    modes = {1: 8, 2: 8, 3: 6}[dims]
    config = FNOConfig(width=6, modes=modes, num_layers=3, latent_points=2 * modes, spectral_init=1.0, **settings)
    operator = FNO(batch.signature, config)
    if dead:
        with torch.no_grad():
            for layer in operator.layers:
                layer.spectral_weight.zero_()
    return operator


@pytest.mark.parametrize("space", [(64,), (32, 40), (18, 16, 14)])
@pytest.mark.parametrize("walls", [False, True])
def test_a_dead_spectral_block_is_found_in_every_dimension(space, walls):
    batch = problems(Grid(space, (1.0,) * len(space), (not walls,) * len(space)))
    assert found(fno(batch, dead=False), batch).good is True
    assert found(fno(batch, dead=True), batch).good is False


def test_the_solver_says_how_far_the_truth_reaches():
    """Of samples that name their system the solver's own share is the measure; of others the whole grid."""
    batch = Helmholtz().sample(4, Grid.square(24), generator_for(0, "test"))
    operator = fno(batch, dead=False)
    assert 0.5 < found(operator, batch).threshold < 0.6
    assert found(operator, replace(batch, systems=())).threshold == 0.6


def test_a_normalization_by_size_does_not_answer_for_the_network():
    """Turning a sign leaves the size of a field: what is divided by it would else change everywhere."""
    from scifm.data.normalize import fit_normalization

    batch = tiny.batch(8)
    normalization = fit_normalization(batch, Poisson.homogeneities)
    local = ModuleOperator.wrap(networks.Idle(4, 1), Poisson.signature, normalization)
    told = found(local, batch)
    assert told.good is False
    assert told.statistic < 0.35


def test_a_local_answer_over_time_is_told_without_a_verdict():
    grid = Grid.square(24)
    local = found(fno(problems(grid, evolves=True), dead=True), problems(grid, evolves=True))
    assert local.good is None
    assert "no verdict" in local.evidence


def test_nothing_to_turn_and_nothing_answered():
    batch = tiny.batch(2)
    still = Batch(batch.signature, batch.grid, torch.zeros_like(batch.inputs), batch.coefficients)
    assert found(tiny.operator(), still).good is None
    silent = ModuleOperator.wrap(networks.ExactPoisson(gain=0.0), Poisson.signature)
    told = found(silent, batch)
    assert (told.good, told.statistic) == (False, 0.0)
    assert "does not change" in told.said


def test_complex_weights_are_asked_in_float64_too():
    class Complex(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.turn = nn.Parameter(torch.ones(3, 3, dtype=torch.complex64))
            self.gain = nn.Parameter(torch.ones(1))

        def forward(self, x):
            spectrum = torch.fft.fft2(x[:, :1])
            kept = torch.zeros_like(spectrum)
            kept[..., :3, :3] = spectrum[..., :3, :3] * self.turn
            return self.gain * torch.fft.ifft2(kept).real

    operator = ModuleOperator.wrap(Complex(), Poisson.signature)
    assert found(operator, tiny.batch(2)).good is True


def test_the_figure_falls_from_the_point():
    figure = found(tiny.operator(), tiny.batch(4)).figure
    (series,) = figure.panels[0].series
    told = [value for value in series.y if value is not None]
    assert len(series.x) == len(series.y)
    assert max(told) == told[0] <= 1
