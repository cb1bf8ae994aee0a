"""A soft penalty on what answers hold."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import tiny
from scifm.errors import ConfigError
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.norms import integral
from scifm.fields.seeds import generator_for
from scifm.models.fno import FNOConfig
from scifm.models.operator import Operator
from scifm.objectives import MeanSquaredError, RelativeL2
from scifm.objectives.contract import ObjectiveContract
from scifm.systems.allen_cahn import AllenCahn
from scifm.systems.heat import Heat
from scifm.systems.stefan import Stefan

LINE = Grid((33,), 1.0, "open")
STEFAN = Stefan(num_frames=4)
HEAT = Heat(num_spatial_dims=1, num_frames=4)
CIRCLE = Grid.square(32, num_spatial_dims=1)


def drawn(system, grid, count=5) -> Batch:
    return system.sample(count, grid, generator_for(0, "soft"), dtype=torch.float64)


class Off(Operator):
    """Answers with the truth and a constant more, by sample and frame."""

    needs_periodic = False

    def __init__(self, truth: Batch, more: torch.Tensor) -> None:
        super().__init__(truth.signature, FNOConfig(**tiny.NETWORK))
        self.more = torch.nn.Parameter(more)

    def forward(self, batch: Batch, *, through: int | None = None) -> Batch:
        more = self.more[: batch.num_samples]
        return batch.with_targets(
            batch.require_targets() + more.view(*more.shape, 1, *(1,) * batch.grid.num_spatial_dims)
        )


def loss(objective, operator, batch):
    return objective(operator, batch, step=0, generator=generator_for(0, "soft")).detach()


@pytest.mark.parametrize(("system", "grid"), [(STEFAN, LINE), (HEAT, CIRCLE)])
def test_it_is_the_mean_square_of_what_is_missed(system, grid):
    """Of a constant more everywhere: that constant's square, over the mean square of the field in training samples."""
    batch = drawn(system, grid)
    more = torch.randn(5, 3, generator=generator_for(1, "soft"), dtype=torch.float64)
    operator = Off(batch, more)
    for kind in (MeanSquaredError, RelativeL2):
        plain, soft = (kind(conserve=weight).on(batch) for weight in (0.0, 0.5))
        penalty = loss(soft, operator, batch) - loss(plain, operator, batch)
        size = integral(batch.targets[:, :, 0].square(), grid).mean() / grid.extent[0]
        assert float(penalty) == pytest.approx(0.5 * float(more.square().mean() / size), rel=1e-5)
    assert float(loss(soft, Off(batch, 0 * more), batch)) < 1e-10


def test_it_sees_the_sum_alone():
    """What moves heat from one place to another costs nothing; its gradient pushes all points of an answer alike."""
    batch = drawn(STEFAN, LINE)
    objective = MeanSquaredError(conserve=1.0).on(batch)
    answer = batch.require_targets().clone().requires_grad_()
    wave = torch.cos(torch.linspace(0, 2 * torch.pi, 33, dtype=torch.float64))
    wave = wave - integral(wave, LINE)
    moved = batch.with_targets(answer + wave + 0.1)
    off = objective._loss(moved, batch) - objective.compare(moved, batch)
    (slope,) = torch.autograd.grad(off, answer)
    inside = slope[..., 1:-1]
    assert (inside - inside[..., :1]).abs().max() < 1e-12 < inside.abs().min()


def test_parts_add_up_and_samples_of_other_systems_count_for_nothing():
    batch = replace(drawn(STEFAN, LINE), loss_weights=torch.arange(1.0, 6.0, dtype=torch.float64))
    contract = ObjectiveContract()
    contract.objective = MeanSquaredError(conserve=1.0).on(batch)
    contract._require_adding_up(batch)
    nameless = replace(batch, systems=("stefan",) * 2 + ("nobody",) * 3, loss_weights=None)
    more = torch.ones(5, 3, dtype=torch.float64)
    few, plain = (loss(MeanSquaredError(conserve=weight), Off(batch, more), nameless) for weight in (1.0, 0.0))
    assert float(few - plain) == pytest.approx(2 / 5, rel=1e-6)


@pytest.mark.parametrize(
    "batch",
    [
        replace(drawn(STEFAN, LINE), systems=()),
        drawn(AllenCahn(num_spatial_dims=1, num_frames=2), CIRCLE),
        tiny.batch(3),
    ],
)
def test_where_nobody_knows_it_is_refused(batch):
    with pytest.raises(ConfigError, match="nobody says so"):
        RelativeL2(conserve=1.0).on(batch)


def test_only_one_that_conserves_looks_at_samples():
    assert (MeanSquaredError().num_looked_at, MeanSquaredError(conserve=1.0).num_looked_at) == (0, 512)
    assert RelativeL2().num_looked_at == 512
