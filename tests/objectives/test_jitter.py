"""Batches moved around the axes that wrap: inputs and targets together, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import tiny
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.models import FNO, AxialTransformer, AxialTransformerConfig, FNOConfig
from scifm.models.operator import Operator
from scifm.objectives.supervised import MeanSquaredError, _moved

NAMES = Signature(("f", "g"), ("a",), ("u",))


def problems(wraps: tuple[bool, ...] = (True, True)) -> Batch:
    generator, grid = torch.Generator().manual_seed(0), Grid((16, 12), (1.0, 1.0), wraps)
    fields = torch.randn(3, 1, 3, 16, 12, generator=generator, dtype=torch.float64)
    return Batch(NAMES, grid, fields[:, :, :2], torch.zeros(3, 1, dtype=torch.float64), fields[:, :, 2:])


def losses(operator: Operator, batch: Batch, *, jitter: bool, draws: int = 4) -> list[float]:
    objective = MeanSquaredError(jitter=jitter)
    seeds = range(draws)
    return [
        float(objective(operator, batch, step=0, generator=torch.Generator().manual_seed(seed)).detach())
        for seed in seeds
    ]


def test_fields_and_targets_move_together_and_only_around():
    batch = problems((True, False))
    batch = replace(batch, valid_inputs=batch.inputs > 0, valid_targets=batch.require_targets() > 0)
    shifts = set()
    for seed in range(8):
        moved = _moved(batch, torch.Generator().manual_seed(seed))
        (shift,) = [s for s in range(16) if torch.equal(moved.inputs, batch.inputs.roll(s, -2))]
        assert torch.equal(moved.require_targets(), batch.require_targets().roll(shift, -2))
        assert torch.equal(moved.valid_inputs, moved.inputs > 0)
        assert torch.equal(moved.valid_targets, moved.require_targets() > 0)
        shifts.add(shift)
    assert len(shifts) > 3


def test_to_what_knows_no_place_it_is_nothing():
    operator = FNO(NAMES, FNOConfig(**{**tiny.NETWORK, "latent_points": 0})).double()
    (plain, *_), moved = (losses(operator, problems(), jitter=jitter) for jitter in (False, True))
    assert moved == pytest.approx([plain] * 4, rel=1e-12)


def test_to_what_cuts_fields_into_patches_it_is_something():
    settings = {"width": 16, "num_heads": 2, "num_blocks": 1, "patch": 4}
    operator = AxialTransformer(NAMES, AxialTransformerConfig(**settings)).double()
    still, moved = (losses(operator, problems(), jitter=jitter) for jitter in (False, True))
    assert len(set(still)) == 1
    assert len(set(moved)) == 4
