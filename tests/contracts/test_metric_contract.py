"""What every metric promises: joining `METRICS` earns these tests."""

from __future__ import annotations

import pytest
import torch

from scifm.evaluation import METRICS
from scifm.fields.grid import Grid

every_metric = pytest.mark.parametrize("name", METRICS)


def pair(space: tuple[int, ...] = (6, 5)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    target = torch.randn(4, 2, 3, *space, generator=generator, dtype=torch.float64)
    return target + 0.3 * torch.randn(target.shape, generator=generator, dtype=torch.float64), target


@every_metric
@pytest.mark.parametrize("space", [(7,), (6, 5), (3, 4, 5)])
def test_only_space_is_reduced(name, space):
    assert METRICS[name](*pair(space)).shape == (4, 2, 3)


@every_metric
def test_the_perfect_prediction_scores_zero_and_others_more(name):
    guess, target = pair()
    assert torch.equal(METRICS[name](target, target), torch.zeros(4, 2, 3, dtype=torch.float64))
    assert bool((METRICS[name](guess, target) > 0).all())


@every_metric
@pytest.mark.parametrize("place", ["guess", "target"])
def test_nan_in_gives_nan_out_there_and_nowhere_else(name, place):
    guess, target = pair()
    (guess if place == "guess" else target)[1, 0, 2, 3, 3] = float("nan")
    spoiled = METRICS[name](guess, target).isnan()
    assert bool(spoiled[1, 0, 2])
    assert int(spoiled.sum()) == 1


@every_metric
def test_each_number_depends_on_its_own_field_alone(name):
    guess, target = pair()
    whole = METRICS[name](guess, target)
    part = METRICS[name](guess[2:3, 1:, :1], target[2:3, 1:, :1])
    torch.testing.assert_close(part.item(), whole[2, 1, 0].item(), rtol=1e-14, atol=0)


@every_metric
def test_it_grows_with_the_error(name):
    guess, target = pair()
    near, far = METRICS[name](guess, target), METRICS[name](target + 2 * (guess - target), target)
    torch.testing.assert_close(far, 2 * near)


@every_metric
@pytest.mark.parametrize("ends", [True, False])
def test_what_stands_at_missing_points_counts_for_nothing(name, ends):
    """A mask that hides nothing changes no digit, and of the points that are there it is what it is of these alone."""
    guess, target = pair((6, 5))
    grid = Grid((6, 5), (1.0, 1.0), ends)
    metric, valid = METRICS[name], torch.rand(target.shape, generator=torch.Generator().manual_seed(3)) > 0.4
    valid[0, 0, 0] = False
    assert torch.equal(metric(guess, target, grid, valid=torch.ones_like(valid)), metric(guess, target, grid))
    found = metric(guess, target, grid, valid=valid)
    assert found.isnan().nonzero().tolist() == [[0, 0, 0]]
    for number in (1e8, float("nan")):
        spoiled = (torch.where(valid, field, number) for field in (guess, target))
        torch.testing.assert_close(metric(*spoiled, grid, valid=valid), found, rtol=0, atol=0, equal_nan=True)
    if ends:  # all points count alike
        there = valid[2, 1, 0]
        alone = (field[2, 1, 0][there].view(1, 1, 1, -1) for field in (guess, target))
        torch.testing.assert_close(metric(*alone)[0, 0, 0], found[2, 1, 0])


@every_metric
def test_it_says_its_formula_and_its_value_for_the_perfect_prediction(name):
    text = METRICS[name].__doc__
    assert text is not None
    assert "erfect 0" in text
