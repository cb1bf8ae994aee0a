"""What every objective promises: joining `OBJECTIVES` earns these tests."""

from __future__ import annotations

import pytest
import torch

import tiny
from scifm.objectives import OBJECTIVES

every_objective = pytest.mark.parametrize("name", OBJECTIVES)


@pytest.fixture(scope="module")
def truth():
    return tiny.batch(3, dtype=torch.float64)


def guess(truth, scale: float = 0.1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    targets = truth.require_targets()
    return targets + scale * torch.randn(targets.shape, generator=generator, dtype=targets.dtype)


@every_objective
def test_it_is_one_number_and_zero_at_the_truth(name, truth):
    loss = OBJECTIVES[name](truth, truth)
    assert loss.shape == ()
    assert loss.item() == 0
    assert OBJECTIVES[name](truth.with_targets(guess(truth)), truth).item() > 0


@every_objective
def test_it_grows_with_the_error(name, truth):
    losses = [OBJECTIVES[name](truth.with_targets(guess(truth, scale)), truth).item() for scale in (0.1, 0.2, 0.4)]
    assert losses == sorted(losses)
    assert losses[0] < losses[-1]


@every_objective
def test_its_gradient_is_that_of_finite_differences(name, truth):
    one = truth.select([0])
    assert torch.autograd.gradcheck(
        lambda t: OBJECTIVES[name](one.with_targets(t), one), guess(one).requires_grad_(), fast_mode=True
    )


@every_objective
def test_a_step_down_the_gradient_lowers_it(name, truth):
    targets = guess(truth).requires_grad_()
    loss = OBJECTIVES[name](truth.with_targets(targets), truth)
    (gradient,) = torch.autograd.grad(loss, targets)
    step = 1e-3 * loss.detach() / gradient.square().sum()
    assert OBJECTIVES[name](truth.with_targets(targets.detach() - step * gradient), truth).item() < loss.item()


@every_objective
def test_nan_in_gives_nan_out(name, truth):
    targets = guess(truth)
    targets[1, 0, 0, 2, 2] = float("nan")
    assert OBJECTIVES[name](truth.with_targets(targets), truth).isnan()


@every_objective
def test_it_does_not_depend_on_the_order_of_samples(name, truth):
    turned = torch.tensor([2, 0, 1])
    first = OBJECTIVES[name](truth.with_targets(guess(truth)), truth)
    second = OBJECTIVES[name](truth.with_targets(guess(truth)).select(turned), truth.select(turned))
    torch.testing.assert_close(first, second, rtol=1e-12, atol=0)
