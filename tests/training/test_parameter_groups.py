from __future__ import annotations

import pytest
import torch
from torch import nn

from scifm.training.optimizers import AdamW
from scifm.training.weights import Anchors, ParameterGroup, bytes_of_gradients, bytes_of_optimizer


def parameter(*values: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values, dtype=torch.float64))


def test_the_pull_by_hand():
    """2·η·factor·λ = 2·0.1·5·1 = 1, so half of the way back; without l2_sp nothing moves."""
    held, free = parameter(1.0, 2.0), parameter(1.0)
    anchors = Anchors([ParameterGroup((held,), learning_rate_factor=5.0, l2_sp=1.0), ParameterGroup((free,))])
    with torch.no_grad():
        held += torch.tensor([4.0, -2.0])
        free += 3.0
    anchors.pull(0.1)
    torch.testing.assert_close(held.data, torch.tensor([3.0, 1.0], dtype=torch.float64))
    assert float(free.detach()) == 4.0


@pytest.mark.parametrize("strength", [1e-3, 0.3, 1e6])
def test_the_pull_minimizes_what_it_says_and_never_overshoots(strength):
    start, rate = 1.0, 0.05
    held = parameter(start)
    anchors = Anchors([ParameterGroup((held,), l2_sp=strength)])
    with torch.no_grad():
        held += 2.0
    anchors.pull(rate)
    v = held.detach().clone().requires_grad_()
    ((v - 3.0).square() / (2 * rate) + strength * (v - start).square()).sum().backward()
    assert float(v.grad.abs()) < 1e-9 * (1 / rate + strength)
    assert start <= float(held.detach()) < 3.0


def test_nothing_is_copied_where_nothing_is_held():
    assert Anchors([ParameterGroup((parameter(1.0),))]).held == []


def test_the_optimizer_knows_only_the_groups_and_their_factors():
    first, second, frozen = parameter(1.0), parameter(2.0, 3.0), parameter(4.0)
    groups = [ParameterGroup((first,)), ParameterGroup((second,), 10.0)]
    optimizer = AdamW().build(groups, learning_rate=0.1, weight_decay=0.01)
    assert [group["learning_rate_factor"] for group in optimizer.param_groups] == [1.0, 10.0]
    assert all(group["weight_decay"] == 0.01 for group in optimizer.param_groups)
    known = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert known == {id(first), id(second)}
    assert id(frozen) not in known
    assert [group.num_params for group in groups] == [1, 2]


def test_bytes_are_those_of_the_tensors_that_are_there():
    module = nn.Linear(3, 2)
    module.bias.requires_grad_(False)
    optimizer = AdamW().build([ParameterGroup((module.weight,))], learning_rate=0.1, weight_decay=0.0)
    assert bytes_of_optimizer(optimizer) == bytes_of_gradients(module) == 0
    module(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert bytes_of_gradients(module) == 6 * 4
    assert bytes_of_optimizer(optimizer) == 2 * 6 * 4 + 4, "two moments and a counter"
