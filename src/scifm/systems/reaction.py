"""Reaction: what grows at every point until the place is full, and nowhere else; an ordinary equation at each x.

Equation
    ∂u/∂t = ρ u (1 − u)

Sign convention
    ρ > 0 lets u grow from 0, which is not stable, to 1, which is.

Domain and boundary
    A ring of length L, in one dimension; 2π as published.

Fields
    density   u   [–]   (batch, time, nx), of which 1 fills the place

Coefficients (constant in space, one number a sample)
    rate   ρ   [1/T]

Knobs
    rate   [1/T], 1–10

Dimensionless groups
    ρ t.

Initial state
    h(x) = exp(−(x − L/2)²/2(L/8)²), the same for all.

Exact solution
    u(x, t) = h e^{ρt}/(h e^{ρt} + 1 − h).

Conserved
    Nothing; 0 ≤ u ≤ 1 stays so.

Solver and order
    The exact solution.

Good values
    256 points on a length of 2π; 100 frames, 1/99 apart.

Where it breaks
    Nowhere.

References:
    Krishnapriyan, Gholami, Zhe, Kirby, Mahoney, arXiv:2109.01050 (NeurIPS 2021), appendix E.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from scifm.fields.batch import Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.spectral import require_periodic
from scifm.fields.term import Term
from scifm.systems.evolving import Evolving
from scifm.systems.knobs import Knob
from scifm.systems.saturating_growth import bump

__all__ = ["Reaction"]


@dataclass(frozen=True)
class Reaction(Evolving):
    """∂u/∂t = ρ u (1 − u) from one bump; the module has the full description.

    Args:
        rate: knob, ρ [1/T].
        save_interval: time between frames [T].
        num_frames: frames of a trajectory, the first at time 0.

    Raises:
        ConfigError: if the rate can be zero or below, or an option is out of its range.
    """

    rate: Knob = Knob(1.0, 10.0)
    save_interval: float = 1 / 99
    num_frames: int = 100

    name: ClassVar[str] = "reaction"
    equation: ClassVar[str] = "du/dt = rate * u * (1 - u) on a ring, u = a bump at time 0"
    signature: ClassVar[Signature] = Signature(("density",), ("rate",), ("density",), 1, evolves=True)
    homogeneities: ClassVar[tuple[Homogeneity, ...]] = (
        Homogeneity((("rate", 1.0), ("lead_time", -1.0)), ("rate",), "value"),
    )
    terms: ClassVar[tuple[Term, ...]] = (
        Term("value", ("density",), of="density", coefficient="rate"),
        Term("square", ("density",), of="density", coefficient="rate", factor=-1.0),
    )
    order: ClassVar[int] = 4  # it has no error in time

    def __post_init__(self) -> None:
        self.read_knobs(positive=("rate",))
        self.require_options()

    def require_grid(self, grid: Grid) -> None:
        super().require_grid(grid)
        require_periodic(grid)

    def initial(
        self, num_samples: int, grid: Grid, generator: torch.Generator | None, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        return bump(grid, device).repeat(num_samples, 1, 1), self.draw_knobs(num_samples, generator, device)

    @torch.no_grad()
    def advance(
        self, inputs: Tensor, coefficients: Tensor, grid: Grid, *, interval: float, num_frames: int, refine: int = 1
    ) -> Tensor:
        steps = interval * torch.arange(1, num_frames + 1, dtype=torch.float64, device=inputs.device)
        shrunk = torch.exp(-coefficients.double() * steps)[:, :, None, None]  # (batch, time, 1, 1)
        state = inputs.double()[:, None]
        frames = state / (state + (1 - state) * shrunk)
        self.require_finite(frames, grid)
        return frames.to(inputs.dtype)
