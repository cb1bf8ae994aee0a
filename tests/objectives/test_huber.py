"""The Huber loss by hand, in units of each sample's own size."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from scifm.config import build_config
from scifm.errors import ConfigError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.objectives.huber import Huber
from scifm.training.loop import TrainingConfig

NAMES = Signature(("u",), (), ("u",), 1, evolves=True)


def answer(*frames: list[float]) -> Batch:
    """Return a sample of frames of two points."""
    targets = torch.tensor(frames, dtype=torch.float64).view(1, len(frames), 1, 2)
    start = targets[:, :1] * 0
    return Batch(
        NAMES, Grid((2,)), start, start.new_zeros(1, 0), targets, lead_time=torch.arange(1.0, len(frames) + 1)[None]
    )


TRUTH = answer([2.0, 2.0], [2.0, 2.0])  # root mean square 2
GUESS = answer([2.0, 2.2], [4.0, 2.0])  # off by 0.1 and by 1 of it


def test_by_hand():
    expected = (0.5 * 0.1**2 + 0.2 * (1.0 - 0.1)) / 4
    assert Huber(delta=0.2).compare(GUESS, TRUTH).item() == pytest.approx(expected)
    assert Huber(delta=10.0).compare(GUESS, TRUTH).item() == pytest.approx(0.5 * (0.1**2 + 1.0) / 4)


def test_the_size_is_that_of_all_frames_of_a_sample():
    """A frame in which little is left does not outweigh the others."""
    truth, guess = answer([4.0, 4.0], [0.001, 0.001]), answer([4.0, 4.0], [0.101, 0.001])
    size = (0.5 * (16.0 + 0.001**2)) ** 0.5
    assert Huber().compare(guess, truth).item() == pytest.approx(0.5 * (0.1 / size) ** 2 / 4)


def test_points_that_are_missing_count_for_nothing():
    valid = torch.tensor([[True, False], [True, True]]).view(1, 2, 1, 2)
    truth = replace(TRUTH, valid_targets=valid)
    wild = replace(GUESS, targets=torch.where(valid, GUESS.targets, 1e9))
    frames = (0.0, 0.2 * (1.0 - 0.1) / 2)  # of each frame the mean over its points that count
    assert Huber().compare(wild, truth).item() == pytest.approx(sum(frames) / 2)


def test_a_truth_that_vanishes_counts_as_large_as_usual():
    objective = Huber().on(TRUTH)
    nothing = answer([0.0, 0.0], [0.0, 0.0])
    off = answer([0.2, 0.0], [0.0, 0.0])
    assert objective.compare(off, nothing).item() == pytest.approx(0.5 * 0.1**2 / 4)


def test_recipes_name_it():
    named = build_config(TrainingConfig, {"objective": {"name": "huber", "delta": 0.5}})
    assert named.objective == Huber(delta=0.5)
    with pytest.raises(ConfigError, match="delta"):
        build_config(TrainingConfig, {"objective": {"name": "huber", "delta": 0}})
