"""Allen–Cahn: two phases, each of which would rather be alone; walls between them straighten and small grains vanish.

Equation
    ∂u/∂t = D Δu + r (u − u³)

Sign convention
    D > 0 smooths; r > 0 drives u away from 0, towards the phases −1 and 1.

Domain and boundary
    A box with any sides, periodic, in one to three dimensions (option num_spatial_dims).

Fields (x runs along the last axis)
    phase   u   [–]   (batch, time, [[nz,] ny,] nx)

Coefficients (constant in space, one number a sample)
    diffusivity   D   [L²/T]
    rate          r   [1/T]

Knobs
    diffusivity   [L²/T], 0.0015–0.005, drawn on a log scale
    rate          [1/T], 1–2

Dimensionless groups
    ε = √(D/r) over L, the thickness of walls: 0.027–0.07 on the unit box. Walls move at D times their curvature.

Initial state
    Random waves (`systems.initial`), 1 to 5 along a side, root mean square 0.5.

Exact solution
    Uniform: u(t) = u₀/√(u₀² + (1 − u₀²) exp(−2rt)). Still: tanh(x/√2ε), and √(2m/(1 + m)) sn(x/(ε√(1 + m)), m) with
    period 4 ε √(1 + m) K(m).

Conserved
    Nothing. The energy ⟨½D|∇u|² + ¼r(1 − u²)²⟩ only falls, and |u| ≤ 1 stays so.

Solver and order
    Exponential time differencing of order 4, of the modes below half of the highest, so that the cube does not alias;
    spectral in space.

Good values
    64 points a side; trajectories of 21 frames, 0.25 apart: grains form within 2 units of time and then grow.

Where it breaks
    Walls thinner than two grid spacings ring: ε below about 2 dx.

References:
    Allen and Cahn, Acta Metall. 27 (1979) 1085, doi:10.1016/0001-6160(79)90196-2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from scifm.fields.batch import Signature
from scifm.fields.term import Term
from scifm.systems.initial import RandomWaves
from scifm.systems.knobs import Knob
from scifm.systems.saturating_growth import SaturatingGrowth

__all__ = ["AllenCahn"]


@dataclass(frozen=True)
class AllenCahn(SaturatingGrowth):
    """∂u/∂t = D Δu + r (u − u³) on a periodic box; the module has the full description.

    Args:
        diffusivity: knob, D [L²/T].
        rate: knob, r [1/T].
        initial_state: how u is drawn at time 0.
        num_spatial_dims: 1, 2 or 3.
        save_interval: time between frames [T].
        num_frames: frames of a trajectory, the first at time 0.
        max_step: longest step of the solver [T]; a high rate asks for shorter ones.

    Raises:
        ConfigError: if a knob can be zero or below, or an option is out of its range.
    """

    diffusivity: Knob = Knob(0.0015, 0.005, scale="log")
    rate: Knob = Knob(1.0, 2.0)
    initial_state: RandomWaves = field(default_factory=lambda: RandomWaves(max_wave=5, amplitude=0.5))
    num_spatial_dims: int = 2
    save_interval: float = 0.25
    num_frames: int = 21
    max_step: float = 0.025

    name: ClassVar[str] = "allen_cahn"
    title: ClassVar[str] = "Allen–Cahn"
    equation: ClassVar[str] = "du/dt = diffusivity * laplace(u) + rate * (u - u^3) on a periodic box"
    keeps: ClassVar[float] = 1 / 2
    longest: ClassVar[float] = 0.05
    terms: ClassVar[tuple[Term, ...]] = (
        Term("laplacian", ("phase",), of="phase", coefficient="diffusivity"),
        Term("value", ("phase",), of="phase", coefficient="rate"),
        Term("cube", ("phase",), of="phase", coefficient="rate", factor=-1.0),
    )

    def __post_init__(self) -> None:
        self.read_knobs(positive=("diffusivity", "rate"))
        self.require_options()

    @property
    def signature(self) -> Signature:  # type: ignore[override]
        """The names, of as many dimensions as the option says."""
        return Signature(("phase",), ("diffusivity", "rate"), ("phase",), self.num_spatial_dims, evolves=True)

    @staticmethod
    def saturation(field: Tensor) -> Tensor:
        return field.mul_(field.square())
