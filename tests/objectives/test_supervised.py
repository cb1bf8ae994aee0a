from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from scifm.config import build_config
from scifm.errors import ConfigError, SignatureError
from scifm.evaluation.pointwise import METRICS
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.norms import l2_norm, typical_sizes
from scifm.objectives.named import find_objective
from scifm.objectives.supervised import MeanSquaredError, RelativeChange, RelativeL2, SummedSquaredError
from scifm.training.loop import TrainingConfig
from scifm.training.pretrain import PretrainRecipe

relative_l2 = RelativeL2().compare
mean_squared_error, summed_squared_error = MeanSquaredError().compare, SummedSquaredError().compare


def answer(*fields: list[float]) -> Batch:
    """Return a batch of one-dimensional, two-point answers: one sample a list, one channel a pair of numbers."""
    targets = torch.tensor(fields, dtype=torch.float64).view(len(fields), 1, -1, 2)
    outputs = tuple(f"u{i}" for i in range(targets.shape[2]))
    grid = Grid((2,), (1.0,), (True,))
    signature = Signature(("f",), (), outputs, num_spatial_dims=1)
    return Batch(signature, grid, torch.zeros(len(fields), 1, 1, 2), torch.zeros(len(fields), 0), targets)


TABLE = {"name": "relative_l2", "vanishes": 1e-3}
TRUTH = answer([3.0, 4.0, 1.0, 0.0], [6.0, 8.0, 0.0, 2.0])
GUESS = answer([3.0, 9.0, 1.0, 2.0], [6.0, 8.0, 1.0, 2.0])


def test_by_hand():
    """Errors: sample 0 has (0, 5) and (0, 2); sample 1 has (0, 0) and (1, 0)."""
    assert relative_l2(GUESS, TRUTH).item() == pytest.approx((5 / 5 + 2 / 1 + 0 + 1 / 2) / 4)
    assert mean_squared_error(GUESS, TRUTH).item() == pytest.approx((25 + 4 + 1) / 8)
    assert summed_squared_error(GUESS, TRUTH).item() == pytest.approx((29 + 1) / 2)


def test_samples_count_by_their_weights():
    """Losses of the two samples: relative (1 + 2)/2 and (0 + 1/2)/2; squared 29 and 1, over 4 numbers each."""
    truth = replace(TRUTH, loss_weights=torch.tensor([3.0, 1.0], dtype=torch.float64))
    assert relative_l2(GUESS, truth).item() == pytest.approx((3 * 1.5 + 0.25) / 4)
    assert mean_squared_error(GUESS, truth).item() == pytest.approx((3 * 29 / 4 + 1 / 4) / 4)
    assert summed_squared_error(GUESS, truth).item() == pytest.approx((3 * 29 + 1) / 4)
    equal = replace(TRUTH, loss_weights=torch.full((2,), 7.0, dtype=torch.float64))
    for loss in (relative_l2, mean_squared_error, summed_squared_error):
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
    assert relative_l2(small, answer([0.003, 0.004], [6.0, 8.0])).item() == pytest.approx(0.5)


def test_a_truth_that_vanishes_gives_no_finite_loss():
    assert relative_l2(answer([1.0, 0.0]), answer([0.0, 0.0])).item() == float("inf")
    assert relative_l2(answer([0.0, 0.0]), answer([0.0, 0.0])).isnan()


def test_a_truth_that_vanishes_is_measured_against_the_typical_size():
    """Sizes of the training samples are 5 and 0: typical is sqrt(25 / 2); of a channel of zeros that of two ones."""
    training = answer([3.0, 4.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0])
    typical = typical_sizes(training.require_targets(), training.grid)
    with pytest.warns(UserWarning, match="is zero in"):
        prepared = RelativeL2().on(training).compare
    assert typical.tolist() == pytest.approx([12.5**0.5, 2**0.5])
    at_rest, guess = answer([0.0, 1e-9, 0.0, 0.0]), answer([3.0, 4.0, 1.0, 0.0])
    loss = prepared(guess, at_rest).item()
    assert loss == pytest.approx((5 / 12.5**0.5 + 1 / 2**0.5) / 2)
    assert prepared(GUESS, TRUTH).item() == relative_l2(GUESS, TRUTH).item()


def test_a_batch_without_truth_is_refused():
    with pytest.raises(SignatureError, match="no targets"):
        mean_squared_error(GUESS, TRUTH.with_targets(None))


def test_what_counts_as_zero_is_a_setting():
    training, guess = answer([3.0, 4.0], [0.3, 0.4]), answer([3.0, 4.0], [0.0, 0.0])
    assert RelativeL2().on(training).compare(guess, training).item() == pytest.approx(0.5)
    with pytest.warns(UserWarning, match="below 0.5 of its usual size in 1 of 2"):
        prepared = RelativeL2(vanishes=0.5).on(training)
    assert prepared.compare(guess, training).item() == pytest.approx(0.5 * 0.5 / (25.25 / 2) ** 0.5)


def test_points_on_walls_count_half():
    """One norm in metric, loss and figures: that of `scifm.fields.norms`."""
    grid = Grid((5, 4), (2.0, 3.0), (False, True))
    signature = Signature(("f",), (), ("u",))
    fields = torch.randn(2, 2, 1, 1, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    truth, guess = (Batch(signature, grid, fields[0], torch.zeros(2, 0), part) for part in fields)
    expected = (l2_norm(fields[1] - fields[0], grid) / l2_norm(fields[0], grid)).mean()
    torch.testing.assert_close(relative_l2(guess, truth), expected)
    assert METRICS["relative_l2"](fields[1], fields[0], grid).mean().item() == pytest.approx(expected.item())


def test_an_unknown_name_is_refused_with_the_nearest():
    assert find_objective("relative_l2") is RelativeL2
    with pytest.raises(ConfigError, match="Did you mean 'mean_squared_error'"):
        find_objective("mean_square_error")


@pytest.mark.parametrize(
    ("given", "told", "objective"),
    [
        ("mean_squared_error", "mean_squared_error", MeanSquaredError()),
        ({"name": "relative_l2"}, "relative_l2", RelativeL2()),
        (TABLE, TABLE, RelativeL2(vanishes=1e-3)),
    ],
)
def test_a_recipe_says_it_by_name_or_by_a_table(given, told, objective):
    config = build_config(TrainingConfig, {"objective": given})
    assert config.objective == objective
    assert config.to_dict()["objective"] == told
    assert build_config(TrainingConfig, config.to_dict()) == config


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"vanishes": 1e-3}, "a table of its name and settings"),
        ({"name": "relative_l2", "vanish": 1e-3}, r"in \[training.objective\] 'vanish' .* Did you mean 'vanishes'"),
        ({"name": "relative_l2", "vanishes": -1}, r"'training.objective.vanishes' = -1"),
        ("relative_l1", "Objective 'relative_l1' .* Did you mean 'relative_l2'"),
        (3, "'training.objective' = 3"),
    ],
)
def test_mistakes_are_one_line(given, told):
    with pytest.raises(ConfigError, match=told) as caught:
        build_config(PretrainRecipe, {"training": {"objective": given}})
    assert "\n" not in str(caught.value)


def marched(*frames: list[float]) -> Batch:
    """Return one trajectory of two points: the first frame is given, the others are asked for."""
    fields = torch.tensor(frames, dtype=torch.float64).view(1, len(frames), 1, 2)
    names = Signature(("u",), (), ("u",), num_spatial_dims=1, evolves=True)
    return Batch(names, Grid((2,), (1.0,), (True,)), fields[:, :1], torch.zeros(1, 0), fields[:, 1:])


def test_of_changes_by_hand():
    """Changes of size 5 and 2, missed by 1 and by 3; that nothing changes is 1 whatever the sizes of the fields."""
    truth = marched([100.0, 100.0], [103.0, 104.0], [103.0, 106.0])
    guess = truth.with_targets(torch.tensor([[[[103.0, 105.0]], [[106.0, 106.0]]]], dtype=torch.float64))
    assert RelativeChange().compare(guess, truth).item() == pytest.approx((1 / 5 + 3 / 2) / 2)
    still = truth.with_targets(torch.tensor([[[[100.0, 100.0]], [[103.0, 104.0]]]], dtype=torch.float64))
    assert RelativeChange().compare(still, truth).item() == pytest.approx(1.0)
    prepared = RelativeChange().on(truth)
    slow = marched([1.0, 1.0], [1.0, 1.1], [1.0, 1.1])
    missed = slow.with_targets(slow.require_targets() + torch.tensor([0.0, 0.1]))
    typical = (29 / 4) ** 0.5  # root mean square of all changes that were looked at: 3, 4, 0 and 2
    assert prepared.compare(missed, slow).item() == pytest.approx(0.1 * 2**-0.5 / typical, rel=1e-6)


def test_that_little_changes_now_and_then_is_nothing_to_be_told(recwarn):
    samples = Batch.concatenate([marched([1.0, 1.0], [4.0, 5.0]), marched([1.0, 1.0], [1.0, 1.01])])
    RelativeChange().on(samples)
    assert not recwarn.list


def test_of_what_does_not_evolve_there_is_no_change():
    with pytest.raises(SignatureError, match="u0, u1 have none"):
        RelativeChange().compare(GUESS, TRUTH)
