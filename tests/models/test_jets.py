"""Jets: derivatives of networks by Taylor coefficients, against torch's own, one grad inside the other."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from scifm.models.parts.jets import ACTIVATIONS, Jets, of_network

LINES = {"x": (1.0, 0.0), "t": (0.0, 1.0), "tx": (1.0, 1.0)}
CLOSE = {"rtol": 1e-12, "atol": 1e-12}


def maps(*widths: int) -> list[nn.Linear]:
    torch.manual_seed(0)
    return [nn.Linear(before, behind).double() for before, behind in pairwise(widths)]


def points(count: int = 7) -> torch.Tensor:
    return torch.randn(count, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def seeds(where: torch.Tensor, orders: dict[str, int]) -> Jets:
    """Return coordinates as jets: the way itself first, nothing of higher order."""
    planes = [where]
    for line, highest in orders.items():
        planes.append(torch.tensor(LINES[line], dtype=where.dtype).expand_as(where))
        planes += [torch.zeros_like(where)] * (highest - 1)
    return Jets(torch.stack(planes), orders)


def answer(layers: list[nn.Linear], activation: str, where: torch.Tensor) -> torch.Tensor:
    act = {"tanh": torch.tanh, "sin": torch.sin}[activation]
    for layer in layers[:-1]:
        where = act(layer(where))
    return layers[-1](where)


def nested(layers: list[nn.Linear], activation: str, where: torch.Tensor, columns: list[int]) -> torch.Tensor:
    """Return a partial derivative of every output, one grad inside the other, ``(point, channel)``."""
    where = where.clone().requires_grad_()
    found = []
    for channel in answer(layers, activation, where).unbind(-1):
        value = channel
        for column in columns:
            (slopes,) = torch.autograd.grad(value.sum(), where, create_graph=True)
            value = slopes[:, column]
        found.append(value)
    return torch.stack(found, dim=-1)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_derivatives_of_every_order_are_those_of_nested_grads(activation, depth):
    layers, where = maps(2, *(5,) * depth, 3), points()
    jets = of_network(layers, activation, seeds(where, {"x": 4, "t": 3}))
    torch.testing.assert_close(jets.value, answer(layers, activation, where), **CLOSE)
    for line, column, highest in (("x", 0, 4), ("t", 1, 3)):
        for order in range(1, highest + 1):
            expected = nested(layers, activation, where, [column] * order) if depth or order == 1 else 0 * jets.value
            torch.testing.assert_close(jets.along(line, order), expected, **CLOSE)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_mixed_second_derivative_is_half_of_what_the_diagonal_has_over_the_axes(activation):
    layers, where = maps(2, 6, 6, 1), points()
    jets = of_network(layers, activation, seeds(where, {"tx": 2, "t": 2, "x": 2}))
    mixed = (jets.along("tx", 2) - jets.along("t", 2) - jets.along("x", 2)) / 2
    torch.testing.assert_close(mixed, nested(layers, activation, where, [0, 1]), **CLOSE)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_lines_do_not_see_each_other(activation):
    layers, where = maps(2, 6, 6, 2), points()
    together = of_network(layers, activation, seeds(where, {"x": 3, "tx": 2, "t": 1}))
    assert together.lines() == [(1, 3), (4, 2), (6, 1)]
    for line, order in (("x", 3), ("tx", 2), ("t", 1)):
        alone = of_network(layers, activation, seeds(where, {line: order}))
        torch.testing.assert_close(together.along(line, order), alone.along(line, order), **CLOSE)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_their_slopes_by_the_weights_are_those_of_nested_grads(activation):
    layers, where = maps(2, 5, 5, 1), points()
    weights = [weight for layer in layers for weight in layer.parameters()]
    jets = of_network(layers, activation, seeds(where, {"x": 2}))
    own = torch.autograd.grad(jets.along("x", 2).square().sum(), weights, materialize_grads=True)
    theirs = nested(layers, activation, where, [0, 0]).square().sum()
    for one, other in zip(own, torch.autograd.grad(theirs, weights, materialize_grads=True), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    assert max(float(slopes.abs().max()) for slopes in own) > 1e-3


def test_what_passed_is_put_down_in_order_with_the_bias_in_the_values_alone():
    layers, where, passed = maps(2, 5, 1), points(), []
    jets = of_network(layers, "tanh", seeds(where, {"x": 2}), passed)
    assert [one.layer for one in passed] == layers
    assert passed[-1].outputs is jets.planes
    torch.testing.assert_close(passed[0].outputs[0], layers[0](where))
    torch.testing.assert_close(passed[0].outputs[1], layers[0].weight[:, 0].expand(len(where), -1))


def test_a_sine_has_its_own_series():
    where = torch.linspace(-math.pi, math.pi, 9, dtype=torch.float64)[:, None]
    orders = {"x": 6}
    planes = torch.cat([where[None], torch.ones_like(where)[None], torch.zeros(5, 9, 1, dtype=torch.float64)])
    made = Jets(ACTIVATIONS["sin"](Jets(planes, orders)), orders)
    for order in range(1, 7):
        torch.testing.assert_close(made.along("x", order), torch.sin(where + order * math.pi / 2), **CLOSE)
