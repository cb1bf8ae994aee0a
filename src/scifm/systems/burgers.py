"""Burgers: a velocity that carries itself and steepens into shocks, which viscosity smooths.

Equation
    ∂uᵢ/∂t + Σⱼ uⱼ ∂uᵢ/∂xⱼ = ν Δuᵢ,    i, j over the axes; in one dimension u_t + u u_x = ν u_xx.

Sign convention
    Where u > 0 it moves towards larger x. ν > 0 smooths.

Domain and boundary
    A box with any sides, periodic, in one to three dimensions (option num_spatial_dims).

Fields (x runs along the last axis)
    velocity                            u         [L/T]   (batch, time, nx)            in one dimension
    velocity_x, velocity_y, velocity_z  u₁, u₂, … [L/T]   (batch, time, [nz,] ny, nx)  in more

Coefficients (constant in space, one number a sample)
    viscosity   ν   [L²/T]

Knobs
    viscosity    [L²/T], 0.01–0.05, drawn on a log scale: on the unit box with u of size 1 the Reynolds number is 1/ν

Dimensionless groups
    Reynolds number U L/ν: 10–50 for the default knobs. A shock of height 2U is about 4ν/U wide.

Initial state
    Random waves (`systems.initial`), 1 to 3 along a side, each component with root mean square 0.5.

Exact solution
    In one dimension by Cole and Hopf: u = −2ν ∂ₓ log θ with θ_t = ν θ_xx, θ > 0.

Conserved
    In one dimension the mean of u (its momentum), for the equation is u_t + (u²/2 − ν u_x)_x = 0. In more none.

Solver and order
    Exponential time differencing of order 4 with 2/3 dealiasing; spectral in space. In one dimension the conservative
    form is solved, in more the form above.

Good values
    128 points a side resolve ν = 0.01 to 1e-4, 64 points ν = 0.02; trajectories of 21 frames, 0.05 apart.

Where it breaks
    Shocks thinner than two grid spacings ring: ν below about U·dx/2. The step follows the grid: U·step/dx ≤ 1/2 with U
    four times the initial root mean square, which random waves of so few modes do not exceed.

References:
    Cole, Quart. Appl. Math. 9 (1951) 225, doi:10.1090/qam/42889; Hopf, Comm. Pure Appl. Math. 3 (1950) 201,
    doi:10.1002/cpa.3160030302. Ranges are near those of PDEBench, arXiv:2210.07182 (there on (0, 1), ν/π = 0.001–4).
"""

from __future__ import annotations

# --8<-- [start:code]
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from scifm.fields.batch import Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.term import Term
from scifm.systems.initial import RandomWaves
from scifm.systems.knobs import Knob
from scifm.systems.periodic_evolution import PeriodicEvolution, SpectralBox, carried_by_itself, squared
from scifm.systems.solvers.etdrk import Nonlinear

__all__ = ["Burgers"]

_COURANT, _PEAK = 0.5, 4.0  # longest step, in crossings of a grid cell at the peak velocity; peak over root mean square


@dataclass(frozen=True)
class Burgers(PeriodicEvolution):
    """∂u/∂t + u·∇u = ν Δu on a periodic box; the module has the full description.

    Args:
        viscosity: knob, ν [L²/T].
        initial_state: how u is drawn at time 0.
        num_spatial_dims: 1, 2 or 3.
        save_interval: time between frames [T].
        num_frames: frames of a trajectory, the first at time 0.
        max_step: longest step of the solver [T]; a fine grid asks for shorter ones.

    Raises:
        ConfigError: if the viscosity can be zero or below, or an option is out of its range.
    """

    viscosity: Knob = Knob(0.01, 0.05, scale="log")
    initial_state: RandomWaves = field(default_factory=lambda: RandomWaves(max_wave=3, amplitude=0.5))
    num_spatial_dims: int = 1
    save_interval: float = 0.05
    num_frames: int = 21
    max_step: float = 0.01

    name: ClassVar[str] = "burgers"
    equation: ClassVar[str] = "du/dt + (u . grad) u = viscosity * laplace(u) on a periodic box"

    def __post_init__(self) -> None:
        self.read_knobs(positive=("viscosity",))
        self.require_options()

    @property
    def signature(self) -> Signature:  # type: ignore[override]
        """One velocity in one dimension, one for each axis in more."""
        names = ("velocity",) if self.num_spatial_dims == 1 else tuple(f"velocity_{axis}" for axis in "xyz")
        fields = names[: self.num_spatial_dims]
        return Signature(fields, ("viscosity",), fields, self.num_spatial_dims, evolves=True)

    @property
    def homogeneities(self) -> tuple[Homogeneity, ...]:  # type: ignore[override]
        """u → s u, ν → s ν, t → t/s."""
        fields = self.signature.outputs
        powers = (*((name, 1.0) for name in fields), ("viscosity", 1.0), ("lead_time", -1.0))
        return (Homogeneity(powers, gauge=fields[:1], measure="rms"),)

    @property
    def terms(self) -> tuple[Term, ...]:  # type: ignore[override]
        """Each velocity is carried by all of them, and smoothed."""
        fields = self.signature.outputs
        carried = [Term("advection", (name, *fields), of=name, factor=-1.0) for name in fields]
        return (*carried, *(Term("laplacian", (name,), of=name, coefficient="viscosity") for name in fields))

    def longest_step(self, grid: Grid) -> float:
        return min(self.max_step, _COURANT * min(grid.spacing) / (_PEAK * self.initial_state.amplitude))

    def symbol(self, waves: tuple[Tensor, ...], odd: tuple[Tensor, ...], coefficients: Tensor) -> Tensor:
        return -self.per_sample(coefficients, 0, len(waves)) * squared(waves)

    def nonlinear(self, box: SpectralBox, coefficients: Tensor, inputs: Tensor) -> Nonlinear:
        if self.num_spatial_dims == 1:
            return carried_by_itself(box)
        derivatives = torch.stack(torch.broadcast_tensors(*box.derivative[::-1]))  # along x, y, z as the velocities are
        minus = -box.kept

        def carried(spectrum: Tensor) -> Tensor:
            velocity = box.to_grid(spectrum).unsqueeze(1)  # (batch, 1, j, *space)
            slopes = box.to_grid(spectrum.unsqueeze(2) * derivatives)  # (batch, i, j, *space)
            return box.to_modes(slopes.mul_(velocity).sum(2)).mul_(minus)

        return carried

    def kept(self, grid: Grid) -> tuple[str, ...]:
        return self.signature.outputs if self.num_spatial_dims == 1 else ()

    def quantities(self, state: Tensor, coefficients: Tensor, grid: Grid) -> dict[str, Tensor]:
        if self.num_spatial_dims > 1:
            return {}
        size = state[:, 0, 0].square().mean(-1).sqrt()
        return {"momentum": state[:, :, 0].mean(-1) / size[:, None]}


# --8<-- [end:code]
