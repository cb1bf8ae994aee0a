"""Balanced parts of a loss: their gradients are alike where a step begins, and a step has one loss."""

from __future__ import annotations

import pytest
import torch

import pinn
from scifm.errors import ConfigError
from scifm.objectives.balancing import balance_of
from scifm.objectives.collocation import Collocation
from scifm.objectives.squares import Rows
from scifm.trust.hessian import hessian_of

RING = pinn.convection(speed=3.0)
OPEN = {"initial": "soft", "periodic": False}


def network():
    return pinn.network(RING, **OPEN)


def rows_of(objective: Collocation, operator, step: int = 0):
    return objective.squares(operator, RING, step=step, generator=torch.Generator()).rows


def loss_of(objective: Collocation, operator, step: int) -> float:
    return float(objective(operator, RING, step=step, generator=torch.Generator()).detach())


def gradients(rows, operator) -> list[torch.Tensor]:
    """Return the gradient of each row's share by all weights, in absolute numbers."""
    found = []
    for own in rows:
        parts = torch.autograd.grad(own.values.square().sum(), list(operator.parameters()), retain_graph=True)
        found.append(torch.cat([part.flatten() for part in parts]).abs())
    return found


@pytest.mark.parametrize("given", [{}, {"initial": 4.0, "seam": 0.25, "equation": 9.0}])
def test_where_a_step_begins_the_mean_slope_of_each_part_is_the_largest_of_the_equations(given):
    operator = network()
    equation, *others = gradients(rows_of(Collocation(num_points=20, balance=True, **given), operator), operator)
    assert len(others) == 2
    for name, own in zip(("initial", "seam"), others, strict=True):
        assert float(own.mean()) == pytest.approx(given.get(name, 1.0) * float(equation.max()), rel=1e-9)
    plain = gradients(rows_of(Collocation(num_points=20, **given), operator), operator)
    torch.testing.assert_close(equation, plain[0])  # the equation has the weight it was given
    assert float(plain[1].mean() / others[0].mean()) != pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("points", ["fixed", "uniform", "residual"])
def test_a_step_has_one_loss_and_another_step_its_own(points):
    operator = network()
    objective = Collocation(num_points=20, points=points, balance=True).on(RING)
    first = loss_of(objective, operator, 3)
    with torch.no_grad():  # as a line search does between two questions
        operator.networks[0][1].weight.mul_(1.5)
        moved = loss_of(objective, operator, 3)
        told = sum(own.values.square().sum() for own in rows_of(objective, operator, 3))
        assert float(told) == pytest.approx(moved, rel=1e-9)
        later = loss_of(objective, operator, 4)
        operator.networks[0][1].weight.div_(1.5)
        back = loss_of(objective, operator, 4)
    assert later != pytest.approx(moved, rel=1e-3)
    again = Collocation(num_points=20, points=points, balance=True).on(RING)
    assert loss_of(again, operator, 3) == pytest.approx(first, rel=1e-9)
    assert back != pytest.approx(loss_of(again, operator, 4), rel=1e-6)  # it was weighed where the step began
    assert [objective.draw(step) for step in (0, 5)] == [0, 5]


def test_balanced_points_are_those_of_the_others():
    operator, drawn = network(), []
    for balance in (False, True):
        objective = Collocation(num_points=20, points="fixed", balance=balance).on(RING)
        for step in (0, 3):
            objective(operator, RING, step=step, generator=torch.Generator())
            drawn.append(objective._kept.equation.points.places)
    assert all(torch.equal(drawn[0], other) for other in drawn[1:])


def test_a_part_without_slope_keeps_its_weight():
    weight = torch.nn.Parameter(torch.tensor([2.0, 1.0], dtype=torch.float64))
    parts = {
        "one": [Rows(weight * torch.tensor([3.0, 1.0]))], "two": [Rows(weight[:1])],
        "met": [Rows(weight * 0)], "empty": [],
    }  # fmt: skip
    assert balance_of(parts, [weight]) == {"two": pytest.approx(36 / 2), "met": 1.0}  # 2·9·2 over (2·2 + 0)/2
    assert balance_of({"met": parts["met"], "two": parts["two"]}, [weight]) == {"two": 1.0}


def test_its_curvature_is_that_of_weights_that_stay():
    operator, objective = network(), Collocation(num_points=20, points="fixed", balance=True).on(RING)
    loss_of(objective, operator, 0)
    stay = {name: factor**2 for name, factor in objective._balance[1].items()}
    vector = torch.randn(len(gradients(rows_of(objective, operator), operator)[0]), dtype=torch.float64,
                         generator=torch.Generator().manual_seed(0)).numpy()  # fmt: skip
    found, expected = (
        hessian_of(operator, RING, Collocation(num_points=20, points="fixed", **about)) @ vector
        for about in ({"balance": True}, stay)
    )
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_nothing_to_balance_is_refused():
    with pytest.raises(ConfigError, match="there is none beside the equation: the network meets all others by const"):
        rows_of(Collocation(balance=True), pinn.network(RING))
    frozen = network()
    for weight in frozen.parameters():
        weight.requires_grad_(False)
    with pytest.raises(ConfigError, match="and no weight trains"):
        rows_of(Collocation(balance=True), frozen)
