from __future__ import annotations

import torch

import tiny
from scifm.models.parts.kernels import mix
from scifm.models.parts.workspace import Workspace
from scifm.training.costs import product_counter, training_flops


def test_the_count_does_not_depend_on_samples_or_precision_and_changes_nothing():
    operator = tiny.operator()
    before = {name: tensor.clone() for name, tensor in operator.state_dict().items()}
    counts = {
        training_flops(operator, tiny.batch(n, dtype=dtype)) for n, dtype in ((1, torch.float32), (3, torch.float64))
    }
    assert len(counts) == 1
    assert all(torch.equal(before[name], tensor) for name, tensor in operator.state_dict().items())
    assert all(parameter.grad is None for parameter in operator.parameters())


def test_products_are_counted_whatever_they_are_written_into():
    """`mix` is four real products for a complex one, two of them added in place onto the others."""
    modes, weight = torch.randn(2, 5, 3, 4, dtype=torch.float64), torch.randn(2, 5, 4, 6, dtype=torch.float64)
    with product_counter() as counter:
        mix(modes, weight, Workspace())
    assert counter.get_total_flops() == 4 * 2 * 5 * 3 * 4 * 6


def test_the_count_grows_as_the_products_do():
    """Twice the width: mixing, skips and the wide part of the projection grow fourfold, the rest twofold."""
    small = training_flops(tiny.operator(width=8, projection_width=16), tiny.batch(1))
    large = training_flops(tiny.operator(width=16, projection_width=32), tiny.batch(1))
    assert 2 < large / small < 4
