"""Convection: one wave carried around a ring at a constant speed; where networks that are taught by equations fail.

Equation
    ∂u/∂t + β ∂u/∂x = 0

Sign convention
    Where β > 0 the wave moves towards larger x.

Domain and boundary
    A ring of length L, in one dimension; 2π as published.

Fields
    tracer   u   [–]   (batch, time, nx)

Coefficients (constant in space, one number a sample)
    speed   β   [L/T]

Knobs
    speed   [L/T], 1–40

Dimensionless groups
    β t/L, the turns around the ring: 0.16–6.4 at the last frame of the published one.

Initial state
    u(x, 0) = sin(2π x/L), the same for all.

Exact solution
    u(x, t) = sin(2π (x − β t)/L).

Conserved
    The mean of u, zero, and of every function of u.

Solver and order
    The exact solution, mode by mode, as in `systems.advection`.

Good values
    256 points on a length of 2π; 100 frames, 1/99 apart.

Where it breaks
    Nowhere: the wave is one mode of every grid.

References:
    Krishnapriyan, Gholami, Zhe, Kirby, Mahoney, arXiv:2109.01050 (NeurIPS 2021), sections 3 and 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from scifm.fields.batch import Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.term import Term
from scifm.systems.knobs import Knob
from scifm.systems.periodic_evolution import PeriodicEvolution

__all__ = ["Convection"]


@dataclass(frozen=True)
class Convection(PeriodicEvolution):
    """∂u/∂t + β ∂u/∂x = 0 from one sine wave; the module has the full description.

    Args:
        speed: knob, β [L/T].
        save_interval: time between frames [T].
        num_frames: frames of a trajectory, the first at time 0.

    Raises:
        ConfigError: if the speed can be zero or below, or an option is out of its range.
    """

    speed: Knob = Knob(1.0, 40.0)
    save_interval: float = 1 / 99
    num_frames: int = 100

    name: ClassVar[str] = "convection"
    equation: ClassVar[str] = "du/dt + speed * du/dx = 0 on a ring, u = sin at time 0"
    signature: ClassVar[Signature] = Signature(("tracer",), ("speed",), ("tracer",), 1, evolves=True)
    homogeneities: ClassVar[tuple[Homogeneity, ...]] = (
        Homogeneity((("tracer", 1.0),), ("tracer",), "rms"),
        Homogeneity((("speed", 1.0), ("lead_time", -1.0)), ("speed",), "value"),
    )
    terms: ClassVar[tuple[Term, ...]] = (
        Term("derivative_x", ("tracer",), of="tracer", coefficient="speed", factor=-1.0),
    )
    keeps: ClassVar[float] = math.inf

    def __post_init__(self) -> None:
        self.read_knobs(positive=("speed",))
        self.require_options()

    def initial(
        self, num_samples: int, grid: Grid, generator: torch.Generator | None, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        drawn = self.draw_knobs(num_samples, generator, device)
        (x,) = grid.coordinates(device=device)
        return torch.sin(2 * math.pi / grid.extent[0] * x).repeat(num_samples, 1, 1), drawn

    def symbol(self, waves: tuple[Tensor, ...], odd: tuple[Tensor, ...], coefficients: Tensor) -> Tensor:
        return -1j * self.per_sample(coefficients, 0, 1) * odd[0]

    def kept(self, grid: Grid) -> tuple[str, ...]:
        return self.signature.outputs

    def quantities(self, state: Tensor, coefficients: Tensor, grid: Grid) -> dict[str, Tensor]:
        space = state[:, :, 0]
        power = space.square().mean(-1)
        return {"tracer": space.mean(-1) / power[:, :1].sqrt(), "variance": power / power[:, :1]}
