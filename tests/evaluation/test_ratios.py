"""One error over another, with an interval."""

from __future__ import annotations

import math

import pytest
import torch

from scifm.evaluation.evaluate import ratio_of_means
from scifm.fields.seeds import generator_for


def ratio(errors, others, **settings):
    return ratio_of_means(torch.tensor(errors), torch.tensor(others), generator=generator_for(0, "test"), **settings)


def test_by_hand():
    assert ratio([1.0, 3.0], [2.0, 2.0]) == (1.0, None, None)
    middle, low, high = ratio([1.0, 2.0, 3.0, 4.0], [2.0, 4.0, 6.0, 8.0])
    assert (middle, low, high) == (0.5, 0.5, 0.5), "what makes a sample hard for both cancels"


def test_the_interval_covers_as_often_as_it_says():
    generator = torch.Generator().manual_seed(0)
    inside = 0
    for _ in range(200):
        errors, others = torch.rand(2, 40, generator=generator, dtype=torch.float64)
        _, low, high = ratio_of_means(errors, 2 * others, generator=generator, num_resamples=400)
        inside += low <= 0.5 <= high
    assert 180 <= inside <= 199


def test_the_seed_alone_decides_and_nan_is_kept():
    one, two = torch.rand(2, 10, generator=torch.Generator().manual_seed(0))
    assert ratio(one.tolist(), two.tolist()) == ratio(one.tolist(), two.tolist())
    assert math.isnan(ratio([float("nan"), 1.0], [1.0, 1.0])[0])
    assert ratio([1.0], [0.0])[0] == pytest.approx(math.inf)
