"""Advected step: a jump that moves at one speed, which no smooth answer can follow.

Equation
    ∂u/∂t + a ∂u/∂x = 0

Sign convention
    The step moves towards larger x. The left end is held at u(0, t) = 1.

Domain and boundary
    An interval of any length L, open at the right, in one dimension; a box with boundary = "open".

Fields
    tracer   u   [–]   (batch, time, nx), means over cells (`systems.moving_front`)

Coefficients (constant in space, one number a sample)
    speed   a   [L/T]

Knobs
    speed   a, 1–5
    start   time of the first frame [T], 0–0.02, since the step stood in the middle

Dimensionless groups
    a t/L, the way of the step.

Initial state
    1 left of the middle, 0 right of it, carried until the start.

Exact solution
    1 where x − a t ≤ L/2, else 0.

Conserved
    What the interval holds grows by what flows in less what flows out: ∫u dx = min(L/2 + a t, L).

Solver and order
    The exact solution; there is no error in time, and none in what cells hold.

Good values
    Any grid of more than 30 points; 17 frames, 0.005 apart: the fastest step, started last, just comes to the end.

Where it breaks
    Nowhere. Behind t = L/(2a) all is 1 and stays so.

References:
    Hansen et al., arXiv:2302.11002, with a of 1–5 on the unit interval until t = 1, and values at points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from scifm.fields.batch import Signature
from scifm.fields.homogeneity import Homogeneity
from scifm.systems.knobs import Knob
from scifm.systems.moving_front import MovingFront

__all__ = ["AdvectedStep"]


@dataclass(frozen=True)
class AdvectedStep(MovingFront):
    """∂u/∂t + a ∂u/∂x = 0, a step from 1 to 0; the module has the full description.

    Args:
        speed: knob, a [L/T].
        start: knob, time of the first frame [T].
        save_interval: time between frames [T].
        num_frames: frames of a trajectory.

    Raises:
        ConfigError: if the speed can be zero or below, the start be below zero, or an option is out of its range.
    """

    speed: Knob = Knob(1.0, 5.0)
    start: Knob = Knob(0.0, 0.02)
    save_interval: float = 0.005
    num_frames: int = 17

    name: ClassVar[str] = "advected_step"
    equation: ClassVar[str] = "du/dt + speed du/dx = 0 on an interval, u = 1 at its left end, a step in its middle"
    signature: ClassVar[Signature] = Signature(("tracer",), ("speed",), ("tracer",), 1, evolves=True)
    homogeneities: ClassVar[tuple[Homogeneity, ...]] = ()
    fills: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.read_knobs(positive=("speed",), not_negative=("start",))
        self.require_options()

    def profile(self, x: Tensor, time: Tensor, coefficient: Tensor, length: float) -> Tensor:
        return (x - coefficient * time <= length / 2).to(time.dtype)

    def filled(self, x: Tensor, time: Tensor, coefficient: Tensor, length: float) -> Tensor:
        return torch.minimum(x, length / 2 + coefficient * time)

    def flow(self, x: Tensor, time: Tensor, coefficient: Tensor, length: float) -> Tensor:
        return coefficient * self.profile(x, time, coefficient, length)

    def time_of(self, mass: Tensor, coefficient: Tensor, length: float) -> Tensor:
        return ((mass - length / 2) / coefficient).clamp(min=0)

    def leaves_at(self, coefficient: float, length: float) -> float:
        return length / (2 * coefficient)
