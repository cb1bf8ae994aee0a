"""Heat: what diffuses at one rate everywhere, in one to three dimensions.

Equation
    ∂u/∂t = κ Δu

Sign convention
    κ > 0 smooths: heat flows from warm to cold.

Domain and boundary
    A box with any sides, periodic, in one to three dimensions (option num_spatial_dims).

Fields (x runs along the last axis)
    temperature   u   [K]   (batch, time, [[nz,] ny,] nx)

Coefficients (constant in space, one number a sample)
    diffusivity   κ   [L²/T]

Knobs
    diffusivity   [L²/T], 0.001–0.01, drawn on a log scale

Dimensionless groups
    Fourier number κ t/L²: a wave with n periods along L falls as exp(−(2πn)² κ t/L²).

Initial state
    Random waves (`systems.initial`), 1 to 5 along a side, root mean square 1.

Exact solution
    Each Fourier mode on its own: û(t) = û(0) exp(−κ|k|² t).

Conserved
    The mean of u.

Solver and order
    The exact solution, mode by mode, at any step: there is no error in time, and none in space of what the grid holds.

Good values
    Any grid of more than 10 points a side; trajectories of 21 frames, 0.05 apart, in which the longest wave loses
    between 4 and 33 % of its height.

Where it breaks
    Nowhere. After κt ≈ 0.1 L² only the longest waves are left, 2 % of their height.

References:
    J. Fourier, Théorie analytique de la chaleur (1822), ch. III–IV.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from scifm.fields.batch import Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.term import Term
from scifm.systems.initial import RandomWaves
from scifm.systems.knobs import Knob
from scifm.systems.periodic_evolution import PeriodicEvolution, squared

__all__ = ["Heat"]


@dataclass(frozen=True)
class Heat(PeriodicEvolution):
    """∂u/∂t = κ Δu on a periodic box; the module has the full description.

    Args:
        diffusivity: knob, κ [L²/T].
        initial_state: how u is drawn at time 0.
        num_spatial_dims: 1, 2 or 3.
        save_interval: time between frames [T].
        num_frames: frames of a trajectory, the first at time 0.

    Raises:
        ConfigError: if the diffusivity can be zero or below, or an option is out of its range.
    """

    diffusivity: Knob = Knob(0.001, 0.01, scale="log")
    initial_state: RandomWaves = field(default_factory=lambda: RandomWaves(max_wave=5, slope=1.0))
    num_spatial_dims: int = 2
    save_interval: float = 0.05
    num_frames: int = 21

    name: ClassVar[str] = "heat"
    equation: ClassVar[str] = "du/dt = diffusivity * laplace(u) on a periodic box"
    keeps: ClassVar[float] = math.inf

    def __post_init__(self) -> None:
        self.read_knobs(positive=("diffusivity",))
        self.require_options()

    @property
    def signature(self) -> Signature:  # type: ignore[override]
        """The names, of as many dimensions as the option says."""
        return Signature(("temperature",), ("diffusivity",), ("temperature",), self.num_spatial_dims, evolves=True)

    terms: ClassVar[tuple[Term, ...]] = (
        Term("laplacian", ("temperature",), of="temperature", coefficient="diffusivity"),
    )
    homogeneities: ClassVar[tuple[Homogeneity, ...]] = (
        Homogeneity((("temperature", 1.0),), ("temperature",), "rms"),
        Homogeneity((("diffusivity", 1.0), ("lead_time", -1.0)), ("diffusivity",), "value"),
    )

    def symbol(self, waves: tuple[Tensor, ...], odd: tuple[Tensor, ...], coefficients: Tensor) -> Tensor:
        return -self.per_sample(coefficients, 0, len(waves)) * squared(waves)

    def kept(self, grid: Grid) -> tuple[str, ...]:
        return self.signature.outputs

    def quantities(self, state: Tensor, coefficients: Tensor, grid: Grid) -> dict[str, Tensor]:
        space = state[:, :, 0].flatten(2)
        return {"heat": space.mean(-1) / space[:, :1].square().mean(-1).sqrt()}
