"""Euler: a compressible gas without friction: sound, shocks and contacts.

Equation
    ∂ρ/∂t + ∇·(ρ u) = 0
    ∂(ρ u)/∂t + ∇·(ρ u⊗u) + ∇p = 0
    ∂E/∂t + ∇·((E + p) u) = 0,    E = p/(γ − 1) + ρ|u|²/2

Sign convention
    Where u > 0 gas moves towards larger x.

Domain and boundary
    A box with any sides in one to three dimensions (option num_spatial_dims); axes wrap, or end at walls or openly
    (the boundary of the grid): see `systems.finite_volume_system` for where these stand.

Fields (x runs along the last axis)
    density                             ρ         [M/L³]    (batch, time, *space)   positive
    velocity_x, velocity_y, velocity_z  u₁, u₂, … [L/T]     the same; velocity in one dimension
    pressure                            p         [M/L/T²]  the same, positive

Coefficients (constant in space, one number a sample)
    adiabatic_index   γ   [1]

Knobs
    adiabatic_index   [1], 1.2–5/3
    mach              [1], 0.1–0.5, drawn on a log scale: root mean square of |u| at time 0 over the speed of sound
    contrast          [1], 0.05–0.2: logarithms of density and pressure over their means, times fields of unit size

Dimensionless groups
    Mach number |u|/c, c = √(γ p/ρ), and γ. At time 0 the mean density and the mean speed of sound are about 1.

Initial state (option initial_state, see `systems.initial_cells`)
    ρ = exp(contrast w₁), p = exp(contrast w₂)/γ, u = mach v/√dimensions. "waves": w and v are random waves, 1
    or 2 along a side; "blocks": constant in blocks, Riemann problems where these meet; "column": w₁ = w₂ is 1 in a
    circle and 0 outside, a blast, and v random waves.

Exact solution
    In one dimension that of the Riemann problem, Sod's among it: `solvers.riemann.gas_riemann`. In any: with u and p
    constant the density is carried along unchanged.

Conserved
    Mass and energy, on boxes that wrap or have walls; on boxes that wrap momentum too.

Solver and order
    Finite volumes: MUSCL in ρ, u, p, HLLC fluxes, Runge–Kutta of order 3. Order 2 in space where the state is smooth, 1
    (in the mean) where it has jumps.

Good values
    64 points a side in two dimensions, 128 in one; 21 frames, 0.05 apart on a box of side 1. Mach numbers near 0.5 make
    shocks at about time 0.3.

Where it breaks
    Near vacuum: density and pressure must stay positive. At Mach numbers below about 0.05 the scheme smooths vortices
    faster than it should. Strong shocks along an axis of the grid can grow bumps (carbuncles).

References:
    Toro, Riemann Solvers and Numerical Methods for Fluid Dynamics, 3rd ed., Springer 2009, doi:10.1007/b79761; Sod, J.
    Comput. Phys. 27 (1978) 1, doi:10.1016/0021-9991(78)90023-2; PDEBench, arXiv:2210.07182.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from scifm.errors import ConfigError
from scifm.fields.batch import Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.systems.finite_volume_system import FiniteVolumeSystem, derivative
from scifm.systems.initial_cells import CellFields
from scifm.systems.knobs import Knob
from scifm.systems.solvers.riemann_fluxes import gas_flux
from scifm.systems.solvers.volumes import Equation

__all__ = ["Euler"]


@dataclass(frozen=True)
class Euler(FiniteVolumeSystem):
    """∂ρ/∂t + ∇·(ρu) = 0, ∂(ρu)/∂t + ∇·(ρu⊗u) + ∇p = 0, ∂E/∂t + ∇·((E+p)u) = 0; the module has the full description.

    Args:
        adiabatic_index: knob, γ.
        mach: knob, root mean square of the velocity at time 0 over the speed of sound.
        contrast: knob, logarithm of density and pressure over their means.
        initial_state: the fields w and v: waves, blocks or a column.
        num_spatial_dims: 1, 2 or 3.
        courant: cells that waves cross in a step of the solver.
        save_interval: time between frames [T].
        num_frames: frames of a trajectory, the first at time 0.

    Raises:
        ConfigError: if a knob or an option is out of its range.
    """

    adiabatic_index: Knob = Knob(1.2, 5 / 3)
    mach: Knob = Knob(0.1, 0.5, scale="log")
    contrast: Knob = Knob(0.05, 0.2)
    initial_state: CellFields = field(default_factory=CellFields)
    num_spatial_dims: int = 2
    courant: float = 0.6
    save_interval: float = 0.05
    num_frames: int = 21

    name: ClassVar[str] = "euler"
    equation: ClassVar[str] = (
        "d(rho)/dt + div(rho u) = 0, d(rho u)/dt + div(rho u u) + grad p = 0, dE/dt + div((E + p) u) = 0"
    )
    compiled: ClassVar[Equation | None] = "gas"
    positive: ClassVar[tuple[int, ...]] = (0, -1)

    def __post_init__(self) -> None:
        self.read_knobs(not_negative=("mach",))
        if self.adiabatic_index.low <= 1:
            raise ConfigError(
                f"Knob 'adiabatic_index' of '{self.name}' needs low > 1; got low={self.adiabatic_index.low:g}."
            )
        self.require_options()

    @property
    def signature(self) -> Signature:  # type: ignore[override]
        """Density, velocities and pressure; what they are called depends on the number of dimensions."""
        velocities = tuple(f"velocity_{axis}" for axis in "xyz")[: self.num_spatial_dims]
        state = ("density", *(velocities if self.num_spatial_dims > 1 else ("velocity",)), "pressure")
        return Signature(state, ("adiabatic_index",), state, self.num_spatial_dims, evolves=True)

    @property
    def homogeneities(self) -> tuple[Homogeneity, ...]:  # type: ignore[override]
        """ρ → s ρ, p → s p; and p → s p with u → √s u, t → t/√s."""
        _, *velocities, _ = self.signature.outputs
        faster = (*((name, 0.5) for name in velocities), ("lead_time", -0.5))
        return (
            Homogeneity((("density", 1.0), ("pressure", 1.0)), gauge=("density",), measure="rms"),
            Homogeneity((("pressure", 1.0), *faster), gauge=("pressure",), measure="rms"),
        )

    def initial(
        self, num_samples: int, grid: Grid, generator: torch.Generator | None, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        knobs = (self.adiabatic_index, self.mach, self.contrast)
        drawn = [knob.draw(num_samples, generator, dtype=torch.float64, device=device) for knob in knobs]
        index, mach, contrast = (values.view(-1, *(1,) * (1 + self.num_spatial_dims)) for values in drawn)
        shapes = self.initial_state.draw(num_samples, 2, grid, generator, device)
        density, pressure = (contrast * shapes[:, :1]).exp(), (contrast * shapes[:, 1:2]).exp() / index
        velocity = mach / math.sqrt(self.num_spatial_dims) * shapes[:, 2:]
        return torch.cat([density, velocity, pressure], dim=1), drawn[0][:, None]

    def conserved(self, primitive: Tensor, coefficients: Tensor) -> Tensor:
        state = primitive * primitive[:, :1]
        state[:, 0] = primitive[:, 0]
        motion = carried(state, primitive)
        state[:, -1] = primitive[:, -1] / (self.per_sample(coefficients, 0) - 1) + 0.5 * motion
        return state

    def primitive(self, conserved: Tensor, coefficients: Tensor) -> Tensor:
        fields = conserved / conserved[:, :1]
        fields[:, 0] = conserved[:, 0]
        motion = carried(conserved, fields)
        fields[:, -1] = (conserved[:, -1] - 0.5 * motion) * (self.per_sample(coefficients, 0) - 1)
        return fields

    def sound_squared(self, primitive: Tensor, coefficients: Tensor) -> Tensor:
        return self.per_sample(coefficients, 0) * primitive[:, -1] / primitive[:, 0]

    def flux(self, before: Tensor, behind: Tensor, normal: int, coefficients: Tensor) -> Tensor:
        return gas_flux(before, behind, normal, coefficients[:, :1])

    def tendency(self, inputs: Tensor, coefficients: Tensor, grid: Grid) -> Tensor:
        density, pressure = inputs[:, 0], inputs[:, -1]
        rate = torch.zeros_like(inputs)
        for axis in range(grid.num_spatial_dims):
            ends, normal = grid.boundary[axis], self.normal(axis)
            speed = inputs[:, normal]
            spread = derivative(speed, grid, axis, ends, odd=True)
            slope = derivative(pressure, grid, axis, ends)
            rate[:, 0] -= derivative(density * speed, grid, axis, ends, odd=True)
            rate[:, normal] -= slope / density
            rate[:, -1] -= speed * slope + self.per_sample(coefficients, 0) * pressure * spread
            for other in range(1, grid.num_spatial_dims + 1):
                rate[:, other] -= speed * derivative(inputs[:, other], grid, axis, ends, odd=other == normal)
        return rate

    def quantities(self, state: Tensor, coefficients: Tensor, grid: Grid) -> dict[str, Tensor]:
        if {"open", "bounded"} & set(grid.boundary):
            return {}
        frames = state.shape[1]
        conserved = self.conserved(state.flatten(0, 1), coefficients.repeat_interleave(frames, dim=0))
        means = conserved.flatten(2).mean(2).view(-1, frames, conserved.shape[1])
        first = means[:, :1]
        found = {"mass": means[..., 0] / first[..., 0], "energy": means[..., -1] / first[..., -1]}
        scale = (first[..., 0] * first[..., -1]).abs().sqrt()  # of momentum at about the speed of sound
        for axis, name in enumerate(self.signature.outputs[1:-1]):
            if grid.periodic[grid.num_spatial_dims - 1 - axis]:
                found[name.replace("velocity", "momentum")] = means[..., 1 + axis] / scale
        return found


def carried(momenta: Tensor, velocities: Tensor) -> Tensor:
    """Return ρ|u|², ``(batch, *space)``, of states; written out, for torch is slow at sums of a few channels."""
    total = momenta[:, 1] * velocities[:, 1]
    for channel in range(2, momenta.shape[1] - 1):
        total.addcmul_(momenta[:, channel], velocities[:, channel])
    return total
