"""FitzHugh–Nagumo: an activator that ignites itself and an inhibitor that follows and spreads faster: patterns.

Equation
    ∂u/∂t = D_u Δu + u − u³ − k − v
    ∂v/∂t = D_v Δv + u − v

Sign convention
    The activator u makes more of itself and of the inhibitor v, which holds it down. The unit of time is the rate of
    both, 1.

Domain and boundary
    A box with any sides, periodic, in one to three dimensions (option num_spatial_dims). (PDEBench: walls that nothing
    crosses, around (−1, 1)².)

Fields (x runs along the last axis)
    activator   u   [–]   (batch, time, [[nz,] ny,] nx)
    inhibitor   v   [–]   (batch, time, [[nz,] ny,] nx)

Coefficients (constant in space, one number a sample)
    activator_diffusivity   D_u   [L²/T]
    inhibitor_diffusivity   D_v   [L²/T]
    threshold               k     [1/T]

Knobs
    activator_diffusivity   [L²/T], 0.001–0.003, drawn on a log scale
    inhibitor_diffusivity   [L²/T], 0.005–0.015, drawn on a log scale
    threshold               [1/T], 0–0.1

Dimensionless groups
    D_v/D_u, 1.7–15; √D_u/L, the thickness of walls; k.

Initial state
    Random waves (`systems.initial`), 1 to 5 along a side, root mean square 1, of u and of v each. (PDEBench: white
    noise on the grid, which no other grid can hold.)

Exact solution
    Small waves around a uniform state, each mode by the exponential of a 2×2 matrix. Means follow the two ordinary
    differential equations where there are no waves.

Conserved
    Nothing.

Solver and order
    Exponential time differencing of order 4, of the modes below half of the highest, so that the cube does not alias;
    spectral in space. Two transforms of one field a right-hand side. (PDEBench: finite volumes, order 2.)

Good values
    64 points a side; trajectories of 51 frames, 0.1 apart. PDEBench's own numbers, D_u = 0.001, D_v = 0.005, k = 0.005
    and 101 frames 0.05 apart, are for a box of side 2.

Where it breaks
    Walls thinner than two grid spacings ring: √D_u below about 2 dx.

References:
    FitzHugh, Biophys. J. 1 (1961) 445, doi:10.1016/S0006-3495(61)86902-6; Nagumo, Arimoto and Yoshizawa, Proc. IRE 50
    (1962) 2061, doi:10.1109/JRPROC.1962.288235; PDEBench, arXiv:2210.07182 (these equations).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from scifm.fields.batch import Signature
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.term import Term
from scifm.systems.initial import RandomWaves
from scifm.systems.knobs import Knob
from scifm.systems.periodic_evolution import PeriodicEvolution, SpectralBox, squared
from scifm.systems.solvers.etdrk import Nonlinear

__all__ = ["FitzHughNagumo"]


@dataclass(frozen=True)
class FitzHughNagumo(PeriodicEvolution):
    """∂u/∂t = D_u Δu + u − u³ − k − v, ∂v/∂t = D_v Δv + u − v; the module has the full description.

    Args:
        activator_diffusivity: knob, D_u [L²/T].
        inhibitor_diffusivity: knob, D_v [L²/T].
        threshold: knob, k [1/T].
        initial_state: how u and v are drawn at time 0.
        num_spatial_dims: 1, 2 or 3.
        save_interval: time between frames [T].
        num_frames: frames of a trajectory, the first at time 0.
        max_step: longest step of the solver [T].

    Raises:
        ConfigError: if a diffusivity can be zero or below, or an option is out of its range.
    """

    activator_diffusivity: Knob = Knob(0.001, 0.003, scale="log")
    inhibitor_diffusivity: Knob = Knob(0.005, 0.015, scale="log")
    threshold: Knob = Knob(0.0, 0.1)
    initial_state: RandomWaves = field(default_factory=lambda: RandomWaves(max_wave=5))
    num_spatial_dims: int = 2
    save_interval: float = 0.1
    num_frames: int = 51
    max_step: float = 0.025

    name: ClassVar[str] = "fitzhugh_nagumo"
    title: ClassVar[str] = "FitzHugh–Nagumo"
    equation: ClassVar[str] = (
        "du/dt = D_u laplace(u) + u - u^3 - threshold - v, dv/dt = D_v laplace(v) + u - v on a periodic box"
    )
    keeps: ClassVar[float] = 1 / 2
    homogeneities: ClassVar[tuple[Homogeneity, ...]] = ()
    terms: ClassVar[tuple[Term, ...]] = (
        Term("laplacian", ("activator",), of="activator", coefficient="activator_diffusivity"),
        Term("value", ("activator",), of="activator"),
        Term("cube", ("activator",), of="activator", factor=-1.0),
        Term("one", (), of="activator", coefficient="threshold", factor=-1.0),
        Term("value", ("inhibitor",), of="activator", factor=-1.0),
        Term("laplacian", ("inhibitor",), of="inhibitor", coefficient="inhibitor_diffusivity"),
        Term("value", ("activator",), of="inhibitor"),
        Term("value", ("inhibitor",), of="inhibitor", factor=-1.0),
    )

    def __post_init__(self) -> None:
        self.read_knobs(positive=("activator_diffusivity", "inhibitor_diffusivity"))
        self.require_options()

    @property
    def signature(self) -> Signature:  # type: ignore[override]
        """The names, of as many dimensions as the option says."""
        fields = ("activator", "inhibitor")
        return Signature(fields, tuple(self.knobs), fields, self.num_spatial_dims, evolves=True)

    def symbol(self, waves: tuple[Tensor, ...], odd: tuple[Tensor, ...], coefficients: Tensor) -> Tensor:
        of_u, of_v = (self.per_sample(coefficients, i, len(waves)) for i in (0, 1))
        square = squared(waves)
        return torch.cat([1 - of_u * square, -1 - of_v * square], dim=1)

    def nonlinear(self, box: SpectralBox, coefficients: Tensor, inputs: Tensor) -> Nonlinear:
        threshold = coefficients[:, 2] * math.prod(box.grid.num_points)
        mean: tuple[Any, ...] = (slice(None), 0, *(0,) * self.num_spatial_dims)

        def rest(spectrum: Tensor) -> Tensor:
            u = box.to_grid(spectrum[:, 0])
            made = torch.empty_like(spectrum)
            torch.mul(box.to_modes(u.mul_(u.square())), -box.kept, out=made[:, 0])
            made[:, 0] -= spectrum[:, 1]
            made[:, 1] = spectrum[:, 0]
            made[mean] -= threshold
            return made

        return rest
