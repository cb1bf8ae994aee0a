"""Damped oscillator: a spring with friction at every place of a ring, each for itself, all in different phases.

Equation
    ∂x/∂t = v
    ∂v/∂t = −ω₀² x − 2δ v

Sign convention
    ω₀² > 0 pulls back to x = 0; δ > 0 takes energy out.

Domain and boundary
    A ring of length L, in one dimension. s runs along it and stands in no term: no place knows of another.

Fields
    displacement   x   [–]     (batch, time, ns)
    velocity       v   [1/T]

Coefficients (constant in space, one number a sample)
    damping     δ     [1/T]
    stiffness   ω₀²   [1/T²]

Knobs
    damping     δ    [1/T], 1–4
    frequency   ω₀   [1/T], 10–30

Dimensionless groups
    δ/ω₀: below 1 it swings, at 1 (critical) it comes to rest soonest, above it creeps; ω₀ t.

Initial state
    x = cos φ, v = −ω₀ sin φ with φ = 2π s/L, the same for all. At s = 0 it is pulled out by 1 and let go, the classic
    example; one turn of phase around the ring is one turn in the plane of x and v/ω₀. So x is never zero everywhere.

Exact solution
    With ω² = ω₀² − δ²,
        x(t) = e^{−δt} (x₀ cos ωt + (v₀ + δ x₀) sin(ωt)/ω),
        v(t) = e^{−δt} (v₀ cos ωt − (ω₀² x₀ + δ v₀) sin(ωt)/ω);
    where δ = ω₀ cos ωt is 1 and sin(ωt)/ω is t, where δ > ω₀ they are cosh κt and sinh(κt)/κ with κ² = δ² − ω₀².

Conserved
    Nothing, unless δ = 0. What the ring holds of x and of v changes as one oscillator would, whatever the first frame.

Solver and order
    The exact solution.

Good values
    32 points or more; 101 frames, 0.01 apart. The example that is often shown: δ = 2, ω₀ = 20, times 0 to 1.

Where it breaks
    Nowhere.

References:
    Landau, Lifshitz, Mechanics, §25. As an example of physics-informed networks, one place and δ = 2, ω₀ = 20: Moseley,
    github.com/benmoseley/harmonic-oscillator-pinn (2021).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.norms import integral
from scifm.fields.spectral import require_periodic
from scifm.fields.term import Term
from scifm.systems.evolving import Evolving
from scifm.systems.knobs import Knob

__all__ = ["DampedOscillator"]

_FIELDS = ("displacement", "velocity")


@dataclass(frozen=True)
class DampedOscillator(Evolving):
    """∂²x/∂t² + 2δ ∂x/∂t + ω₀² x = 0 at every place of a ring; the module has the full description.

    Args:
        damping: knob, δ [1/T]; 0: it swings for ever.
        frequency: knob, ω₀ [1/T], in radians.
        save_interval: time between frames [T].
        num_frames: frames of a trajectory, the first at time 0.

    Raises:
        ConfigError: if the damping can be below zero, the frequency zero or below, or an option is out of its range.
    """

    damping: Knob = Knob(1.0, 4.0)
    frequency: Knob = Knob(10.0, 30.0)
    save_interval: float = 0.01
    num_frames: int = 101

    name: ClassVar[str] = "damped_oscillator"
    equation: ClassVar[str] = (
        "d(displacement)/dt = velocity, d(velocity)/dt = - stiffness * displacement - 2 * damping * velocity at every "
        "place of a ring, stiffness = frequency^2"
    )
    signature: ClassVar[Signature] = Signature(_FIELDS, ("damping", "stiffness"), _FIELDS, 1, evolves=True)
    homogeneities: ClassVar[tuple[Homogeneity, ...]] = (
        Homogeneity((("displacement", 1.0), ("velocity", 1.0)), ("displacement",), "rms"),
        Homogeneity(
            (("stiffness", 1.0), ("damping", 0.5), ("velocity", 0.5), ("lead_time", -0.5)), ("stiffness",), "value"
        ),
    )
    terms: ClassVar[tuple[Term, ...]] = (
        Term("value", ("velocity",), of="displacement"),
        Term("value", ("displacement",), of="velocity", coefficient="stiffness", factor=-1.0),
        Term("value", ("velocity",), of="velocity", coefficient="damping", factor=-2.0),
    )
    order: ClassVar[int] = 4  # it has no error in time

    def __post_init__(self) -> None:
        self.read_knobs(positive=("frequency",), not_negative=("damping",))
        self.require_options()

    def require_grid(self, grid: Grid) -> None:
        super().require_grid(grid)
        require_periodic(grid)

    def initial(
        self, num_samples: int, grid: Grid, generator: torch.Generator | None, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        damping, frequency = self.draw_knobs(num_samples, generator, device).unbind(1)
        (s,) = grid.coordinates(device=device)
        phase = (2 * math.pi / grid.extent[0]) * s
        displacement = torch.cos(phase).expand(num_samples, -1)
        fields = torch.stack([displacement, -frequency[:, None] * torch.sin(phase)], dim=1)
        return fields, torch.stack([damping, frequency.square()], dim=1)

    @torch.no_grad()
    def advance(
        self, inputs: Tensor, coefficients: Tensor, grid: Grid, *, interval: float, num_frames: int, refine: int = 1
    ) -> Tensor:
        times = interval * torch.arange(1, num_frames + 1, dtype=torch.float64, device=inputs.device)
        x, v = inputs.double().unbind(1)
        frames = torch.stack(_swung(x[:, None], v[:, None], coefficients.double()[:, :, None, None], times[:, None]), 2)
        self.require_finite(frames, grid)
        return frames.to(inputs.dtype)

    def budgets(self, batch: Batch) -> dict[str, Tensor]:
        """Return what the ring holds of both fields: the equation is linear, so sums over places follow it too."""
        self.require_ours(batch)
        assert batch.lead_time is not None, "require_ours has looked"
        x, v = (integral(batch.field(name)[:, -1].double(), batch.grid)[:, None] for name in _FIELDS)
        held = _swung(x, v, self._coefficients(batch).double()[:, :, None], batch.lead_time.double())
        return dict(zip(_FIELDS, held, strict=True))

    def measured_knobs(self, batch: Batch) -> dict[str, Tensor]:
        return {"damping": batch.coefficient("damping"), "frequency": batch.coefficient("stiffness").sqrt()}


def _swung(x: Tensor, v: Tensor, coefficients: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    """Return displacement and velocity after a time, in float64.

    Args:
        x, v: of the beginning, ``(batch, …)``.
        coefficients: δ and ω₀², ``(batch, 2, …)``.
        time: what goes with the others.
    """
    damping, stiffness = coefficients.unbind(1)
    square = (stiffness.sqrt() - damping) * (stiffness.sqrt() + damping)  # ω², below zero where it creeps
    swings, rate = square > 0, square.abs().sqrt()
    fades = torch.exp(-damping * time)
    slow = torch.exp(-time * stiffness / (damping + rate))  # e^{−(δ−κ)t}, without the difference of near numbers
    # sin(ωt)/ω and sinh(κt)/κ are both t where the rate is zero
    bent = torch.where(rate > 0, -torch.expm1(-2 * rate * time) / torch.where(rate > 0, 2 * rate, 1.0), time)
    even = torch.where(swings, fades * torch.cos(rate * time), slow * (1 + torch.exp(-2 * rate * time)) / 2)
    odd = torch.where(swings, fades * time * torch.sinc(rate * time / math.pi), slow * bent)
    return even * x + odd * (v + damping * x), even * v - odd * (stiffness * x + damping * v)
