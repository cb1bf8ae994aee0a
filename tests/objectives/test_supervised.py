from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from scifm.errors import ConfigError, SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.objectives.supervised import (
    mean_squared_error,
    objective_named,
    relative_l2_loss,
    summed_squared_error,
    typical_sizes,
)


def answer(*fields: list[float]) -> Batch:
    """Return a batch of one-dimensional, two-point answers: one sample a list, one channel a pair of numbers."""
    targets = torch.tensor(fields, dtype=torch.float64).view(len(fields), 1, -1, 2)
    outputs = tuple(f"u{i}" for i in range(targets.shape[2]))
    grid = Grid((2,), (1.0,), (True,))
    signature = Signature(("f",), (), outputs, num_spatial_dims=1)
    return Batch(signature, grid, torch.zeros(len(fields), 1, 1, 2), torch.zeros(len(fields), 0), targets)


TRUTH = answer([3.0, 4.0, 1.0, 0.0], [6.0, 8.0, 0.0, 2.0])
GUESS = answer([3.0, 9.0, 1.0, 2.0], [6.0, 8.0, 1.0, 2.0])


def test_by_hand():
    """Errors: sample 0 has (0, 5) and (0, 2); sample 1 has (0, 0) and (1, 0)."""
    assert relative_l2_loss(GUESS, TRUTH).item() == pytest.approx((5 / 5 + 2 / 1 + 0 + 1 / 2) / 4)
    assert mean_squared_error(GUESS, TRUTH).item() == pytest.approx((25 + 4 + 1) / 8)
    assert summed_squared_error(GUESS, TRUTH).item() == pytest.approx((29 + 1) / 2)


def test_samples_count_by_their_weights():
    """Losses of the two samples: relative (1 + 2)/2 and (0 + 1/2)/2; squared 29 and 1, over 4 numbers each."""
    truth = replace(TRUTH, loss_weights=torch.tensor([3.0, 1.0], dtype=torch.float64))
    assert relative_l2_loss(GUESS, truth).item() == pytest.approx((3 * 1.5 + 0.25) / 4)
    assert mean_squared_error(GUESS, truth).item() == pytest.approx((3 * 29 / 4 + 1 / 4) / 4)
    assert summed_squared_error(GUESS, truth).item() == pytest.approx((3 * 29 + 1) / 4)
    equal = replace(TRUTH, loss_weights=torch.full((2,), 7.0, dtype=torch.float64))
    for loss in (relative_l2_loss, mean_squared_error, summed_squared_error):
        assert loss(GUESS, equal).item() == pytest.approx(loss(GUESS, TRUTH).item())


def test_weights_go_with_their_samples_and_must_be_one_each():
    weighted = replace(TRUTH, loss_weights=torch.tensor([3.0, 1.0]))
    assert weighted.select([1]).loss_weights.tolist() == [1.0]
    assert Batch.concatenate([weighted, weighted]).loss_weights.tolist() == [3.0, 1.0, 3.0, 1.0]
    with pytest.raises(SignatureError, match="some have not"):
        Batch.concatenate([weighted, TRUTH])
    with pytest.raises(SignatureError, match="loss_weights must have shape"):
        replace(TRUTH, loss_weights=torch.ones(3))


def test_the_relative_loss_weighs_small_and_large_samples_alike():
    small = answer([0.003, 0.009], [6.0, 8.0])
    assert relative_l2_loss(small, answer([0.003, 0.004], [6.0, 8.0])).item() == pytest.approx(0.5)


def test_a_truth_that_vanishes_gives_no_finite_loss():
    assert relative_l2_loss(answer([1.0, 0.0]), answer([0.0, 0.0])).item() == float("inf")
    assert relative_l2_loss(answer([0.0, 0.0]), answer([0.0, 0.0])).isnan()


def test_a_truth_that_vanishes_is_measured_against_the_typical_size():
    """Sizes of the training samples are 5 and 0: typical is sqrt(25 / 2); of a channel of zeros that of two ones."""
    training = answer([3.0, 4.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0])
    typical = typical_sizes(training.require_targets())
    assert typical.tolist() == pytest.approx([12.5**0.5, 2**0.5])
    at_rest, guess = answer([0.0, 1e-9, 0.0, 0.0]), answer([3.0, 4.0, 1.0, 0.0])
    loss = relative_l2_loss(guess, at_rest, typical=typical).item()
    assert loss == pytest.approx((5 / 12.5**0.5 + 1 / 2**0.5) / 2)
    assert relative_l2_loss(GUESS, TRUTH, typical=typical).item() == relative_l2_loss(GUESS, TRUTH).item()


def test_a_batch_without_truth_is_refused():
    with pytest.raises(SignatureError, match="no targets"):
        mean_squared_error(GUESS, TRUTH.with_targets(None))


def test_an_unknown_name_is_refused_with_the_nearest():
    assert objective_named("relative_l2") is relative_l2_loss
    with pytest.raises(ConfigError, match="Did you mean 'mean_squared_error'"):
        objective_named("mean_square_error")
