"""The frames that are kept for a page: which trajectory, which steps, how small."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tiny
from scifm.evaluation.example import forecast_example, typical_sample
from scifm.evaluation.forecast import Forecast
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.models.fno import FNOConfig
from scifm.models.operator import Operator
from scifm.report.films import read_frames


class Doubling(Operator):
    """Answers what it was given, `factor` times."""

    needs_periodic = False
    factor = 1.25

    def __init__(self, signature: Signature):
        super().__init__(signature, FNOConfig(**tiny.NETWORK))
        self.weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))

    def network(self, encoded):
        return (self.factor - 1) * encoded.inputs


def found_of(errors) -> Forecast:
    values = torch.tensor(errors, dtype=torch.float64)[:, :, None]
    times = tuple(0.5 * step for step in range(1, values.shape[1] + 1))
    return Forecast(times, ("u",), {"relative_l2": values}, {})


def test_the_typical_trajectory_has_the_median_error_and_lost_ones_are_the_worst():
    nan = float("nan")
    assert typical_sample(found_of([[0.3, 0.3], [0.1, 0.1], [0.2, 0.2]])) == 2
    assert typical_sample(found_of([[0.3, nan], [0.1, 0.1], [0.2, 0.2]])) == 2
    assert typical_sample(found_of([[0.3, nan], [0.1, nan], [0.2, 0.2]])) == 0
    assert typical_sample(found_of([[0.3]])) == 0


def case(grid: Grid, num_steps: int, outputs=("u",)) -> tuple[Doubling, Batch]:
    names = Signature(outputs, (), outputs, grid.num_spatial_dims, evolves=True)
    numbers = torch.rand(3, 1 + num_steps, len(outputs), *grid.num_points, generator=torch.Generator().manual_seed(0))
    lead_time = 0.5 * torch.arange(1, num_steps + 1).expand(3, -1)
    batch = Batch(names, grid, numbers[:, :1].double(), torch.zeros(3, 0, dtype=torch.float64),
                  numbers[:, 1:].double(), ("made",) * 3, lead_time.double())  # fmt: skip
    return Doubling(names), batch


@pytest.mark.parametrize("num_steps", [1, 3, 24, 500])
def test_the_first_and_the_last_step_are_kept_and_what_was_answered(num_steps, tmp_path):
    grid = Grid.square(16, num_spatial_dims=1)
    operator, batch = case(grid, num_steps)
    operator.factor = 1.005
    errors = [[0.3] * num_steps, [0.1] * num_steps, [0.2] * num_steps]
    made = forecast_example(operator, found_of(errors), batch)
    assert made.sample == 2
    assert (made.steps[0], made.steps[-1]) == (1, num_steps)
    assert len(made.steps) == min(num_steps, 240)
    for place, step in enumerate(made.steps):
        assert made.times[place] == pytest.approx(0.5 * step)
        truth = batch.require_targets()[2, step - 1].float().numpy()
        assert np.array_equal(made.truth[place], truth)
        answer = batch.inputs[2, 0].numpy() * 1.005**step
        np.testing.assert_allclose(made.prediction[place], answer, rtol=1e-5)
    made.write(tmp_path / "frames.npz")
    read = read_frames(tmp_path / "frames.npz")
    assert np.array_equal(read.truth, made.truth)
    assert (read.steps, read.channels, read.x, read.errors) == (made.steps, ("u",), made.x, made.errors)


def test_what_is_lost_is_not_a_number_from_there_on():
    operator, batch = case(Grid.square(16, num_spatial_dims=1), 6)
    operator.factor = 5.0
    made = forecast_example(operator, found_of([[0.1] * 6] * 3), batch, bound=30.0)
    assert np.isfinite(made.prediction[:2]).all()
    assert np.isnan(made.prediction[2:]).all()


def test_large_fields_are_averaged_and_many_channels_left_out():
    grid = Grid((200, 100), (2.0, 1.0), (True, True))
    names = ("a", "b", "c", "d")
    operator, batch = case(grid, 24, outputs=names)
    made = forecast_example(operator, found_of([[0.1] * 24] * 3), batch)
    assert made.channels == ("a", "b", "c")
    assert made.left_out == ("d",)
    assert made.truth.shape[1:] == (3, 66, 50)
    assert 3 * made.truth.size <= 1_000_000
    truth = batch.require_targets()[made.sample, 0, 0, :198].reshape(66, 3, 50, 2).mean(dim=(1, 3))
    np.testing.assert_allclose(made.truth[0, 0], truth.float().numpy(), rtol=1e-6)
    assert made.x[:2] == pytest.approx((0.005, 0.025))


def test_of_a_box_the_middle_plane_is_kept():
    operator, batch = case(Grid.square(8, num_spatial_dims=3), 2)
    made = forecast_example(operator, found_of([[0.1] * 2] * 3), batch)
    assert (made.plane, made.extent) == ("z = 0.5", (1.0, 1.0))
    assert np.array_equal(made.truth[0, 0], batch.require_targets()[made.sample, 0, 0, 4].float().numpy())
