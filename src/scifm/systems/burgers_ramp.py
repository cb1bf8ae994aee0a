"""Burgers ramp: a slope that steepens until it breaks, and runs on as a shock, without viscosity.

Equation
    ∂u/∂t + ∂/∂x (u²/2) = 0

Sign convention
    All moves towards larger x. The left end is held at u(0, t) = a.

Domain and boundary
    An interval of any length L, open at the right, in one dimension; a box with boundary = "open".

Fields
    velocity   u   [L/T]   (batch, time, nx), means over cells (`systems.moving_front`)

Coefficients (constant in space, one number a sample)
    height   a   [L/T]

Knobs
    height   a, 1–4
    start    time of the first frame [T], 0–0.1, since the ramp stood over the left half

Dimensionless groups
    2 a t/L: the ramp breaks at 1, the shock leaves at 3.

Initial state
    A ramp from a at the left end down to 0 in the middle, carried until the start.

Exact solution
    With l = L/2 and x from the left end: a up to a t, then a (l − x)/(l − a t) up to l, then 0; from t = l/a on a shock
    from a to 0 at x = (a t + l)/2.

Conserved
    What the interval holds grows by what flows in less what flows out: ∫u dx = (a/2)(l + a t) until the shock leaves.

Solver and order
    The exact solution; there is no error in time, and none in what cells hold.

Good values
    Any grid of more than 30 points on an interval of length 2; 11 frames, 0.06 apart: the highest ramp breaks at 0.25.

Where it breaks
    Nowhere. Behind t = 3l/a all is a and stays so.

References:
    Hansen et al., arXiv:2302.11002, with a of 1–4 for x from −1 to 1 until t = 1, and values at points; LeVeque,
    Finite Volume Methods for Hyperbolic Problems, 2002, chapter 11, doi:10.1017/CBO9780511791253.
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

__all__ = ["BurgersRamp"]


@dataclass(frozen=True)
class BurgersRamp(MovingFront):
    """∂u/∂t + ∂/∂x (u²/2) = 0, a ramp that breaks; the module has the full description.

    Args:
        height: knob, a [L/T].
        start: knob, time of the first frame [T].
        save_interval: time between frames [T].
        num_frames: frames of a trajectory.

    Raises:
        ConfigError: if the height can be zero or below, the start be below zero, or an option is out of its range.
    """

    height: Knob = Knob(1.0, 4.0)
    start: Knob = Knob(0.0, 0.1)
    save_interval: float = 0.06
    num_frames: int = 11

    name: ClassVar[str] = "burgers_ramp"
    equation: ClassVar[str] = (
        "du/dt + d/dx(u^2/2) = 0 on an interval, u = height at its left end, a ramp down to its middle"
    )
    signature: ClassVar[Signature] = Signature(("velocity",), ("height",), ("velocity",), 1, evolves=True)
    homogeneities: ClassVar[tuple[Homogeneity, ...]] = (
        Homogeneity((("velocity", 1.0), ("height", 1.0), ("lead_time", -1.0)), ("velocity",), "rms"),
    )
    fills: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.read_knobs(positive=("height",), not_negative=("start",))
        self.require_options()

    def profile(self, x: Tensor, time: Tensor, coefficient: Tensor, length: float) -> Tensor:
        top, foot = self._ends(time, coefficient, length)
        return coefficient * torch.where(x <= top, 1.0, ((foot - x) / _not_zero(foot - top)).clamp(0, 1))

    def filled(self, x: Tensor, time: Tensor, coefficient: Tensor, length: float) -> Tensor:
        top, foot = self._ends(time, coefficient, length)
        sloped = torch.minimum(x, foot).maximum(top) - top
        ramp = sloped - sloped**2 / (2 * _not_zero(foot - top))
        return coefficient * (torch.minimum(x, top) + ramp)

    def flow(self, x: Tensor, time: Tensor, coefficient: Tensor, length: float) -> Tensor:
        return self.profile(x, time, coefficient, length) ** 2 / 2

    def time_of(self, mass: Tensor, coefficient: Tensor, length: float) -> Tensor:
        return ((2 * mass / coefficient - length / 2) / coefficient).clamp(min=0)

    def leaves_at(self, coefficient: float, length: float) -> float:
        return 1.5 * length / coefficient

    @staticmethod
    def _ends(time: Tensor, coefficient: Tensor, length: float) -> tuple[Tensor, Tensor]:
        """Return where the ramp begins and where it ends; once it has broken, twice the place of the shock."""
        top, half = coefficient * time, length / 2
        shock = (top + half) / 2
        broken = top >= half
        return torch.where(broken, shock, top), torch.where(broken, shock, torch.full_like(top, half))


def _not_zero(width: Tensor) -> Tensor:
    """Return a width, or one where it is zero and nothing lies in it."""
    return torch.where(width > 0, width, 1.0)
