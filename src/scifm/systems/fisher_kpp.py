"""Fisher–KPP: what spreads and multiplies until the place is full, in fronts of a speed of their own.

Equation
    ∂u/∂t = D Δu + r u (1 − u)

Sign convention
    D > 0 smooths; r > 0 lets u grow from 0, which is not stable, to 1, which is.

Domain and boundary
    A box with any sides, periodic, in one to three dimensions (option num_spatial_dims).

Fields (x runs along the last axis)
    density   u   [–]   (batch, time, [[nz,] ny,] nx), of which 1 fills the place

Coefficients (constant in space, one number a sample)
    diffusivity   D   [L²/T]
    rate          r   [1/T]

Knobs
    diffusivity   [L²/T], 0.0005–0.005, drawn on a log scale
    rate          [1/T], 1–4

Dimensionless groups
    √(D/r) over L, the thickness of fronts: 0.011–0.07 on the unit box. Fronts settle at the speed 2√(rD).

Initial state
    u = w² of random waves w (`systems.initial`), 1 to 3 along a side, root mean square 0.35: patches up to about 1 that
    fill an eighth, which every grid holds exactly and which are nowhere negative.

Exact solution
    Uniform: u(t) = u₀/(u₀ + (1 − u₀) exp(−rt)). A front of the speed c = 5√(rD/6), faster than where others settle:
    u = (1 + exp((x − ct)√(r/6D)))⁻².

Conserved
    Nothing; 0 ≤ u stays so, and u ≤ 1.

Solver and order
    Exponential time differencing of order 4 with 2/3 dealiasing; spectral in space.

Good values
    64 points a side; trajectories of 21 frames, 0.1 apart, in which the box fills.

Where it breaks
    Below 0 the density falls without bound: it must not ring there, so √(D/r) is above dx/2.

References:
    Fisher, Ann. Eugenics 7 (1937) 355, doi:10.1111/j.1469-1809.1937.tb02153.x; Ablowitz and Zeppetella, Bull. Math.
    Biol. 41 (1979) 835, doi:10.1007/BF02462380 (the front). PDEBench, arXiv:2210.07182, has it in one dimension on
    (0, 1) with D = 0.5–5 and r = 1–10.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from scifm.fields.batch import Signature
from scifm.fields.grid import Grid
from scifm.systems.initial import RandomWaves
from scifm.systems.knobs import Knob
from scifm.systems.saturating_growth import LogisticGrowth

__all__ = ["FisherKPP"]


@dataclass(frozen=True)
class FisherKPP(LogisticGrowth):
    """∂u/∂t = D Δu + r u (1 − u) on a periodic box; the module has the full description.

    Args:
        diffusivity: knob, D [L²/T].
        rate: knob, r [1/T].
        initial_state: the waves from which u is made at time 0.
        num_spatial_dims: 1, 2 or 3.
        save_interval: time between frames [T].
        num_frames: frames of a trajectory, the first at time 0.
        max_step: longest step of the solver [T]; a high rate asks for shorter ones.

    Raises:
        ConfigError: if a knob can be zero or below, or an option is out of its range.
    """

    diffusivity: Knob = Knob(0.0005, 0.005, scale="log")
    rate: Knob = Knob(1.0, 4.0)
    initial_state: RandomWaves = field(default_factory=lambda: RandomWaves(max_wave=3, amplitude=0.35))
    num_spatial_dims: int = 2
    save_interval: float = 0.1
    num_frames: int = 21
    max_step: float = 0.05

    name: ClassVar[str] = "fisher_kpp"
    title: ClassVar[str] = "Fisher–KPP"
    equation: ClassVar[str] = "du/dt = diffusivity * laplace(u) + rate * u * (1 - u) on a periodic box"

    def __post_init__(self) -> None:
        self.read_knobs(positive=("diffusivity", "rate"))
        self.require_options()

    @property
    def signature(self) -> Signature:  # type: ignore[override]
        """The names, of as many dimensions as the option says."""
        return Signature(("density",), ("diffusivity", "rate"), ("density",), self.num_spatial_dims, evolves=True)

    def initial(
        self, num_samples: int, grid: Grid, generator: torch.Generator | None, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        drawn = self.draw_knobs(num_samples, generator, device)
        waves = self.initial_state.draw(num_samples, 1, grid, generator, device=device)
        return waves.square_(), drawn
