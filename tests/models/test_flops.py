from __future__ import annotations

import torch

import tiny
from scifm.models.flops import training_flops


def test_the_count_does_not_depend_on_samples_or_precision_and_changes_nothing():
    operator = tiny.operator()
    before = {name: tensor.clone() for name, tensor in operator.state_dict().items()}
    counts = {
        training_flops(operator, tiny.batch(n, dtype=dtype)) for n, dtype in ((1, torch.float32), (3, torch.float64))
    }
    assert len(counts) == 1
    assert all(torch.equal(before[name], tensor) for name, tensor in operator.state_dict().items())
    assert all(parameter.grad is None for parameter in operator.parameters())


def test_mode_mixing_by_hand():
    """Twice the width: mixing, skips and the wide part of the projection grow fourfold, the rest twofold."""
    small = training_flops(tiny.operator(width=8, projection_width=16), tiny.batch(1))
    large = training_flops(tiny.operator(width=16, projection_width=32), tiny.batch(1))
    # per layer: 3 passes, 4 real products of 2·width² on 3·6 modes; so much at least, and no more than four times
    assert small > 2 * 3 * 4 * 2 * 8**2 * 18
    assert 2 < large / small < 4
