from __future__ import annotations

import math

import pytest
import torch

from scifm.errors import SignatureError
from scifm.evaluation.pointwise import mae, max_error, relative_l2, relative_l2_joint, rmse, undefined_of, vrmse
from scifm.fields.grid import Grid


def fields(*samples: list[list[float]]) -> torch.Tensor:
    """Return ``(sample, 1, channel, point)`` from nested lists ``[sample][channel][point]``."""
    return torch.tensor(samples, dtype=torch.float64)[:, None]


TARGET = fields([[3.0, 4.0], [1.0, 3.0]])
GUESS = fields([[3.0, 6.5], [2.0, 2.0]])


@pytest.mark.parametrize(
    ("metric", "values"),
    [
        (relative_l2, [2.5 / 5, math.sqrt(2 / 10)]),
        (vrmse, [math.sqrt(2.5**2 / 2) / 0.5, 1.0]),
        (rmse, [math.sqrt(2.5**2 / 2), 1.0]),
        (mae, [1.25, 1.0]),
        (max_error, [2.5, 1.0]),
    ],
)
def test_by_hand(metric, values):
    result = metric(GUESS, TARGET)
    assert result.shape == (1, 1, 2)
    assert result.flatten().tolist() == pytest.approx(values)


def test_the_joint_error_by_hand():
    result = relative_l2_joint(GUESS, TARGET)
    assert result.shape == (1, 1)
    assert result.item() == pytest.approx(math.sqrt((2.5**2 + 2) / (25 + 10)))


def test_one_prediction_many_numbers():
    """Two channels, mean 10 and std 1, mean 0 and std 0.1; the error is half a std in each."""
    torch.manual_seed(0)
    unit = torch.randn(8, 1, 2, 64, 64, dtype=torch.float64)
    unit = (unit - unit.mean((-2, -1), keepdim=True)) / unit.std((-2, -1), correction=0, keepdim=True)
    size, mean = torch.tensor([1.0, 0.1]).view(2, 1, 1), torch.tensor([10.0, 0.0]).view(2, 1, 1)
    target = mean + size * unit
    error = 0.5 * size * unit.roll(7, dims=-1)
    guess = target + error
    assert relative_l2_joint(guess, target).mean().item() == pytest.approx(0.050, abs=5e-4)
    per_channel = relative_l2(guess, target).mean((0, 1))
    assert per_channel.tolist() == pytest.approx([0.050, 0.500], abs=5e-4)
    assert relative_l2(guess, target).mean().item() == pytest.approx(0.275, abs=5e-4)
    assert vrmse(guess, target).flatten().tolist() == pytest.approx([0.5] * 16, abs=1e-9)


def test_the_values_that_the_docstrings_promise():
    torch.manual_seed(1)
    target = torch.randn(2, 1, 3, 8, 9, dtype=torch.float64) + 0.7
    mean = target.mean((-2, -1), keepdim=True).expand_as(target)
    deviation, size = target.std((-2, -1), correction=0), target.square().mean((-2, -1)).sqrt()
    one = torch.ones(2, 1, 3, dtype=torch.float64)
    torch.testing.assert_close(vrmse(mean, target), one)
    torch.testing.assert_close(relative_l2(mean, target), deviation / size)
    torch.testing.assert_close(relative_l2(torch.zeros_like(target), target), one)
    torch.testing.assert_close(rmse(mean, target), deviation)


def test_nothing_is_hidden_by_an_epsilon():
    flat = fields([[2.0, 2.0]])
    assert vrmse(fields([[2.0, 3.0]]), flat).item() == float("inf")
    assert vrmse(flat, flat).isnan().all()
    zero = fields([[0.0, 0.0]])
    assert relative_l2(fields([[0.0, 1e-30]]), zero).item() == float("inf")


@pytest.mark.parametrize("metric", [relative_l2, relative_l2_joint, vrmse, rmse, mae, max_error])
def test_shapes_that_differ_are_refused_and_not_broadcast(metric):
    with pytest.raises(SignatureError, match="of one shape"):
        metric(torch.zeros(2, 1, 1, 4), torch.zeros(1, 1, 1, 4))
    with pytest.raises(SignatureError, match="of one shape"):
        metric(torch.zeros(2, 1, 4), torch.zeros(2, 1, 4))


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-3, 101325.1])
@pytest.mark.parametrize("boundary", ["periodic", "wall"])
def test_a_constant_has_no_variance_whatever_float32_makes_of_it(value, boundary):
    target = torch.full((1, 1, 1, 48, 49), value)  # torch.var of it is not zero
    grid = Grid((48, 49), boundary=boundary)
    assert vrmse(target + 0.1, target, grid).item() == float("inf")
    assert vrmse(target + 0.1, target).item() == float("inf")
    assert undefined_of("vrmse", target).all()
