"""Small problems of networks of coordinates, and one whose solution a network is by its weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.models.coordinate import Coordinate, CoordinateConfig
from scifm.systems.catalog import find_system

__all__ = ["RECIPE", "Bent", "convection", "network", "problem"]

RECIPE: dict[str, Any] = {
    "name": "pinn",
    "system": {"name": "convection", "knobs": {"speed": 1}, "options": {"num_frames": 11, "save_interval": 0.1}},
    "data": {"num_points": 16, "extent": 2 * math.pi, "num_samples": 1, "horizon": 10},
    "model": {"kind": "coordinate", "network": {"width": 6, "num_layers": 2}},
    "training": {
        "num_steps": 6, "batch_size": 1, "learning_rate": 1e-2, "schedule": "constant", "checkpoint_every": 2,
        "validate_every": 3, "log_every": 1, "accelerator": "cpu", "precision": "64-true",
        "objective": {"name": "collocation", "num_points": 30},
    },
}  # fmt: skip
"""Convection for a tenth of its frames, as a run in a second."""


def problem(name: str, grid: Grid, *, dtype: torch.dtype = torch.float64, **settings: Any) -> Batch:
    """Return one problem of a system, all frames of it."""
    drawn = find_system(name)(**settings).sample(1, grid, generator_for(0, "pinn"), dtype=dtype)
    assert drawn.num_samples == 1
    return drawn


def convection(speed: float = 1.0, *, points: int = 16, frames: int = 11, dtype: torch.dtype = torch.float64) -> Batch:
    """Return sin(x − β t) on a ring of length 2π, up to the time 1."""
    grid = Grid((points,), (2 * math.pi,), (True,))
    return problem("convection", grid, dtype=dtype, speed=speed, num_frames=frames, save_interval=1 / (frames - 1))


def network(batch: Batch, *, seed: int = 0, **settings: Any) -> Coordinate:
    """Return a small network for a problem, in its precision."""
    torch.manual_seed(seed)
    config = CoordinateConfig(**{"width": 6, "num_layers": 2, **settings}).on(batch.grid)
    lead = batch.lead_time
    duration = None if lead is None else float(lead.double().max())
    return Coordinate(batch.signature, config.lasting(duration)).to(batch.inputs.dtype)


class Bent(Coordinate):
    """sin(x − β t) as a network of one sine, exact but for `size` times something in its frequencies.

    Nothing is met by construction: start, equation and seam all have to hold.
    """

    def __init__(self, batch: Batch, *, size: float) -> None:
        config = CoordinateConfig(
            width=1, num_layers=1, activation="sin", periodic=False, scaled=False, initial="soft"
        )  # fmt: skip
        (lead,) = batch.lead_time
        super().__init__(batch.signature, config.on(batch.grid).lasting(float(lead[-1])))
        self.to(batch.inputs.dtype)
        inner, outer = self.networks[0]
        speed = float(batch.coefficient("speed"))
        with torch.no_grad():
            inner.weight.copy_(torch.tensor([[1.0, -speed]]) + size * torch.tensor([[0.3, 0.7]]))
            outer.weight.fill_(1.0)
            inner.bias.zero_(), outer.bias.zero_()
        self.wrong: nn.Parameter = inner.weight
