"""Reaction and diffusion: one bump that spreads faster than it grows, until the place is full.

Equation
    ∂u/∂t = ν ∂²u/∂x² + ρ u (1 − u)

Sign convention
    ν > 0 smooths; ρ > 0 lets u grow from 0, which is not stable, to 1, which is.

Domain and boundary
    A ring of length L, in one dimension; 2π as published.

Fields
    density   u   [–]   (batch, time, nx), of which 1 fills the place

Coefficients (constant in space, one number a sample)
    diffusivity   ν   [L²/T]
    rate          ρ   [1/T]

Knobs
    diffusivity   [L²/T], 2–6
    rate          [1/T], 1–10; 5 as published

Dimensionless groups
    √(ν/ρ) over L, the thickness of fronts: 0.07–0.39 on a length of 2π.

Initial state
    h(x) = exp(−(x − L/2)²/2(L/8)²), the same for all.

Exact solution
    None; from what is the same everywhere, that of `systems.reaction`.

Conserved
    Nothing; 0 ≤ u ≤ 1 stays so.

Solver and order
    Exponential time differencing of order 4 with 2/3 dealiasing; spectral in space. The published reference is a split
    scheme of first order in steps of 0.01 and 0.6 % off.

Good values
    256 points on a length of 2π; 100 frames, 1/99 apart.

Where it breaks
    As `systems.fisher_kpp`: fronts are wider than half the spacing of the grid.

References:
    Krishnapriyan, Gholami, Zhe, Kirby, Mahoney, arXiv:2109.01050 (NeurIPS 2021), sections 3 and 6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from scifm.fields.batch import Signature
from scifm.fields.grid import Grid
from scifm.systems.knobs import Knob
from scifm.systems.saturating_growth import LogisticGrowth, bump

__all__ = ["ReactionDiffusion"]

_DECAY = 0.25  # longest step in the time in which the first wave falls to 1/e


@dataclass(frozen=True)
class ReactionDiffusion(LogisticGrowth):
    """∂u/∂t = ν ∂²u/∂x² + ρ u (1 − u) from one bump; the module has the full description.

    Args:
        diffusivity: knob, ν [L²/T].
        rate: knob, ρ [1/T].
        save_interval: time between frames [T].
        num_frames: frames of a trajectory, the first at time 0.
        max_step: longest step of the solver [T]; a high rate asks for shorter ones.

    Raises:
        ConfigError: if a knob can be zero or below, or an option is out of its range.
    """

    diffusivity: Knob = Knob(2.0, 6.0)
    rate: Knob = Knob(1.0, 10.0)
    save_interval: float = 1 / 99
    num_frames: int = 100
    max_step: float = 0.05

    name: ClassVar[str] = "reaction_diffusion"
    title: ClassVar[str] = "Reaction and diffusion"
    equation: ClassVar[str] = "du/dt = diffusivity * d2u/dx2 + rate * u * (1 - u) on a ring, u = a bump at time 0"
    signature: ClassVar[Signature] = Signature(("density",), ("diffusivity", "rate"), ("density",), 1, evolves=True)

    def __post_init__(self) -> None:
        self.read_knobs(positive=("diffusivity", "rate"))
        self.require_options()

    def longest_step(self, grid: Grid) -> float:
        # the bump feeds its first waves by products while they decay: both have to be seen
        slowest = (2 * math.pi / grid.extent[0]) ** 2 * self.diffusivity.high
        return min(super().longest_step(grid), _DECAY / slowest)

    def initial(
        self, num_samples: int, grid: Grid, generator: torch.Generator | None, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        return bump(grid, device).repeat(num_samples, 1, 1), self.draw_knobs(num_samples, generator, device)
