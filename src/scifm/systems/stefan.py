"""Stefan: what melts. Heat spreads behind a front where the field jumps, and the front moves as it is fed.

Equation
    ∂u/∂t = ∂/∂x (k(u) ∂u/∂x),    k = 1 where u ≥ u*, 0 below

Sign convention
    Heat flows from left to right. The left end is held at u(0, t) = 1.

Domain and boundary
    An interval of any length, open at the right, in one dimension; a box with boundary = "open".

Fields
    temperature   u   [–]   (batch, time, nx), means over cells (`systems.moving_front`)

Coefficients (constant in space, one number a sample)
    threshold   u*   [–]

Knobs
    threshold   u*, 0.55–0.7; between 0 and 1
    start       time of the first frame [T], 0.005–0.02, since all was cold

Dimensionless groups
    t/L² (the diffusivity is 1), and u* itself: the height of the jump, and by it the speed of the front.

Initial state
    The exact solution at the start.

Exact solution
    u = 1 − c₁ erf(x/(2√t)) up to x = α√t, where u = u*, and 0 beyond. With u* √π erf(z) z exp(z²) = 1 − u* are α = 2z
    and c₁ = (1 − u*)/erf(z): u* = 0.6 has z = 0.52567, α = 1.05134, c₁ = 0.73697.

Conserved
    What the interval holds grows by what is fed: ∫u dx = 2 c₁ √(t/π) while the front is inside.

Solver and order
    The exact solution; there is no error in time, and none in what cells hold. z is found by Newton's method.

Good values
    Any grid of more than 30 points; 17 frames, 0.005 apart, until t = 0.1.

Where it breaks
    The front may not leave the interval, which is refused: from t = (L/α)² on the formula is not what it holds.

References:
    Hansen et al., arXiv:2302.11002, with u* of 0.55–0.7 on the unit interval until t = 0.1, and values at points;
    Crank, Free and Moving Boundary Problems, 1984, section 1.3 (Neumann's solution).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from scifm.errors import ConfigError
from scifm.fields.batch import Signature
from scifm.fields.homogeneity import Homogeneity
from scifm.systems.knobs import Knob
from scifm.systems.moving_front import MovingFront

__all__ = ["Stefan", "front_of"]


@dataclass(frozen=True)
class Stefan(MovingFront):
    """∂u/∂t = ∂/∂x (k(u) ∂u/∂x) with k = 1 above a threshold and 0 below; the module has the full description.

    Args:
        threshold: knob, u* [–].
        start: knob, time of the first frame [T].
        save_interval: time between frames [T].
        num_frames: frames of a trajectory.

    Raises:
        ConfigError: if the threshold can be 0 or below, or 1 or above, or an option is out of its range.
    """

    threshold: Knob = Knob(0.55, 0.7)
    start: Knob = Knob(0.005, 0.02)
    save_interval: float = 0.005
    num_frames: int = 17

    name: ClassVar[str] = "stefan"
    equation: ClassVar[str] = (
        "du/dt = d/dx(k du/dx) on an interval, k = 1 where u >= threshold, else 0, u = 1 at its left end"
    )
    signature: ClassVar[Signature] = Signature(("temperature",), ("threshold",), ("temperature",), 1, evolves=True)
    homogeneities: ClassVar[tuple[Homogeneity, ...]] = ()

    def __post_init__(self) -> None:
        self.read_knobs(positive=("threshold", "start"))
        self.require_options()
        if self.threshold.high >= 1:
            raise ConfigError(f"The threshold of 'stefan' is below 1; got high={self.threshold.high:g}.")

    def profile(self, x: Tensor, time: Tensor, coefficient: Tensor, length: float) -> Tensor:
        z, scale = front_of(coefficient)
        place = x / (2 * time.sqrt())
        return torch.where(place <= z, 1 - scale * torch.erf(place), 0.0)

    def filled(self, x: Tensor, time: Tensor, coefficient: Tensor, length: float) -> Tensor:
        z, scale = front_of(coefficient)
        width = 2 * time.sqrt()
        place = torch.minimum(x / width, z)
        held = place * torch.erf(place) + (torch.exp(-(place**2)) - 1) / math.sqrt(math.pi)
        return width * (place - scale * held)

    def flow(self, x: Tensor, time: Tensor, coefficient: Tensor, length: float) -> Tensor:
        z, scale = front_of(coefficient)
        place = x / (2 * time.sqrt())
        return torch.where(place <= z, scale * torch.exp(-(place**2)) / (math.pi * time).sqrt(), 0.0)

    def time_of(self, mass: Tensor, coefficient: Tensor, length: float) -> Tensor:
        _, scale = front_of(coefficient)
        # of what is empty the shortest time there is, for the solution has none at time 0
        return (math.pi * (mass.clamp(min=0) / (2 * scale)) ** 2).clamp(min=torch.finfo(mass.dtype).tiny)

    def leaves_at(self, coefficient: float, length: float) -> float:
        z, _ = front_of(torch.tensor(coefficient, dtype=torch.float64))
        return (length / (2 * float(z))) ** 2


def front_of(threshold: Tensor) -> tuple[Tensor, Tensor]:
    """Return z and c₁ of a threshold between 0 and 1: z solves u* √π erf(z) z exp(z²) = 1 − u*."""
    right = (1 - threshold) / (math.sqrt(math.pi) * threshold)
    z = torch.ones_like(threshold)
    for _ in range(60):  # the left side is convex and grows: Newton's method from above comes down to it
        raised = torch.exp(z**2)
        left = torch.erf(z) * z * raised
        slope = 2 * z / math.sqrt(math.pi) + torch.erf(z) * raised * (1 + 2 * z**2)
        step = (left - right) / slope
        z = z - step
        if bool((step.abs() <= 1e-15 * z).all()):
            break
    return z, (1 - threshold) / torch.erf(z)
