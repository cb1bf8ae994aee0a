"""Porous medium: a gas fills ground that is empty, behind a front, for its diffusivity vanishes where there is none.

Equation
    ∂u/∂t = ∂/∂x (uᵐ ∂u/∂x)

Sign convention
    The gas flows from left to right. Fed at the left end, u(0, t) = (m t)^{1/m}.

Domain and boundary
    An interval of any length, open at the right, in one dimension; a box with boundary = "open".

Fields
    density   u   [–]   (batch, time, nx), means over cells (`systems.moving_front`)

Coefficients (constant in space, one number a sample)
    exponent   m   [–]

Knobs
    exponent   m, 1–6: the front is a kink at m = 1, and stands ever steeper above it
    start      time of the first frame [T], 0.05–0.2, since the interval was empty

Dimensionless groups
    t/L, the way of the front: it moves at speed 1.

Initial state
    The exact solution at the start.

Exact solution
    u = (m max(t − x, 0))^{1/m}, a front that travels at speed 1.

Conserved
    What the interval holds grows by what is fed: ∫u dx = m^{1+1/m}/(m+1) · t^{1+1/m} while the front is inside.

Solver and order
    The exact solution; there is no error in time, and none in what cells hold.

Good values
    Any grid of more than 30 points; 17 frames, 0.05 apart: at the end a front that started last has come to x = 1.

Where it breaks
    The front may not leave the interval, which is refused: then what it holds says no time.

References:
    Hansen et al., arXiv:2302.11002, with m of 1–6 on the unit interval, and values at points; Vázquez, The Porous
    Medium Equation, 2007, doi:10.1093/acprof:oso/9780198569039.001.0001.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from scifm.fields.batch import Signature
from scifm.fields.homogeneity import Homogeneity
from scifm.systems.knobs import Knob
from scifm.systems.moving_front import MovingFront

__all__ = ["PorousMedium"]


@dataclass(frozen=True)
class PorousMedium(MovingFront):
    """∂u/∂t = ∂/∂x (uᵐ ∂u/∂x) behind a front; the module has the full description.

    Args:
        exponent: knob, m [–].
        start: knob, time of the first frame [T].
        save_interval: time between frames [T].
        num_frames: frames of a trajectory.

    Raises:
        ConfigError: if the exponent can be zero or below, the start be below zero, or an option is out of its range.
    """

    exponent: Knob = Knob(1.0, 6.0)
    start: Knob = Knob(0.05, 0.2)
    save_interval: float = 0.05
    num_frames: int = 17

    name: ClassVar[str] = "porous_medium"
    equation: ClassVar[str] = (
        "du/dt = d/dx(u^exponent du/dx) on an interval, u = (exponent t)^(1/exponent) at its left end"
    )
    signature: ClassVar[Signature] = Signature(("density",), ("exponent",), ("density",), 1, evolves=True)
    homogeneities: ClassVar[tuple[Homogeneity, ...]] = ()

    def __post_init__(self) -> None:
        self.read_knobs(positive=("exponent",), not_negative=("start",))
        self.require_options()

    def profile(self, x: Tensor, time: Tensor, coefficient: Tensor, length: float) -> Tensor:
        return (coefficient * (time - x).clamp(min=0)) ** (1 / coefficient)

    def filled(self, x: Tensor, time: Tensor, coefficient: Tensor, length: float) -> Tensor:
        power = 1 + 1 / coefficient
        return coefficient ** (1 / coefficient) / power * (time**power - (time - x).clamp(min=0) ** power)

    def flow(self, x: Tensor, time: Tensor, coefficient: Tensor, length: float) -> Tensor:
        return self.profile(
            x, time, coefficient, length
        )  # uᵐ = m (t − x), −∂u/∂x = u/(m (t − x)): all moves at speed 1

    def time_of(self, mass: Tensor, coefficient: Tensor, length: float) -> Tensor:
        power = 1 + 1 / coefficient
        return (mass.clamp(min=0) * (coefficient + 1) / coefficient**power) ** (1 / power)

    def leaves_at(self, coefficient: float, length: float) -> float:
        return length
