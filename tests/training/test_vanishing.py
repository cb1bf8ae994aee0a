"""Targets at rest train, and are named first."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

from scifm.data.stream import Epochs
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.objectives.supervised import MeanSquaredError, RelativeL2
from scifm.training.loop import prepared


class Aligned:
    """As much of an operator as is asked for."""

    def align(self, batch: Batch) -> Batch:
        return batch


def trajectories(*sizes: float) -> Batch:
    """Return one sample a size, the second channel zero in all."""
    wave = torch.tensor([3.0, 4.0])
    targets = torch.stack([torch.stack([size * wave, 0 * wave]) for size in sizes])[:, None]
    signature = Signature(("f", "g"), (), ("u", "w"), num_spatial_dims=1)
    return Batch(signature, Grid((2,), (1.0,), (True,)), targets.clone(), torch.zeros(len(sizes), 0), targets)


def test_vanishing_targets_are_named_and_have_a_finite_loss():
    batch = trajectories(1.0, 0.0, 2.0)
    with pytest.warns(UserWarning, match=r"'u' is zero in 1 of 3"), pytest.warns(UserWarning, match=r"'w' .* 3 of 3"):
        objective = prepared(RelativeL2(), Epochs(batch, batch_size=3, seed=0), Aligned())
    guess = batch.with_targets(batch.require_targets() + 1)
    assert math.isfinite(objective.compare(guess, batch).item())
    assert objective.compare(batch, batch).item() == 0


def test_nothing_is_told_of_targets_that_do_not_vanish_or_of_another_loss():
    whole = trajectories(1.0, 2.0)
    one = Signature(("f",), (), ("u",), num_spatial_dims=1)
    batch = Batch(one, whole.grid, whole.inputs[:, :, :1], whole.coefficients, whole.require_targets()[:, :, :1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RelativeL2().on(batch)
        prepared(MeanSquaredError(), Epochs(whole, batch_size=2, seed=0), Aligned())
