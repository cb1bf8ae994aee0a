"""Small problems of networks of coordinates, and one whose solution a network is by its weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.fields.term import Term
from scifm.models.coordinate import Coordinate, CoordinateConfig
from scifm.systems.catalog import find_system
from scifm.systems.evolving import Evolving

__all__ = ["RECIPE", "Bent", "Rod", "convection", "network", "problem", "rod"]

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


@dataclass(frozen=True)
class Rod(Evolving):
    """∂u/∂t = κ Δu between walls: a wave that decays, times e^(−κ k² t) with k = π over the length of the box.

    Args:
        save_interval: time between frames [T].
        num_frames: frames of a trajectory.
        slopes: a cosine, whose slope is zero at the walls; else a sine, which is zero there itself.
    """

    save_interval: float = 0.1
    num_frames: int = 11
    slopes: bool = False

    name: ClassVar[str] = "rod"
    equation: ClassVar[str] = "du/dt = diffusivity * laplace(u) between walls"
    signature: ClassVar[Signature] = Signature(("heat",), ("diffusivity",), ("heat",), 1, evolves=True)
    terms: ClassVar[tuple[Term, ...]] = (Term("laplacian", ("heat",), of="heat", coefficient="diffusivity"),)

    def initial(self, num_samples, grid, generator, device):
        (x,) = grid.coordinates(device=device)
        wave = torch.cos if self.slopes else torch.sin
        state = wave(math.pi / grid.extent[0] * x).repeat(num_samples, 1, 1)
        return state, torch.full((num_samples, 1), 0.1, dtype=torch.float64)

    def advance(self, inputs, coefficients, grid, *, interval, num_frames, refine=1):
        times = interval * torch.arange(1, num_frames + 1, dtype=torch.float64)
        pace = coefficients[:, 0].double() * (math.pi / grid.extent[0]) ** 2
        decay = torch.exp(-pace[:, None] * times)[..., None, None]
        return (decay * inputs[:, None]).to(inputs.dtype)

    def quantities(self, state, coefficients, grid):
        return {}


def rod(*, points: int = 17, **settings: Any) -> Batch:
    """Return a rod of length 1 up to the time 1; who asks for its equation has to have it in the catalogue."""
    return Rod(**settings).sample(1, Grid((points,), (1.0,), "wall"), generator_for(0, "pinn"), dtype=torch.float64)


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
