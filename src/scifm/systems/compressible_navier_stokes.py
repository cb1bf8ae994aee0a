"""Compressible Navier–Stokes: a gas with friction, sound and shocks; PDEBench's equations.

Equation
    ∂ρ/∂t + ∇·(ρ u) = 0
    ∂(ρ u)/∂t + ∇·(ρ u⊗u) + ∇p = ∇·σ,    σ = η (∇u + ∇uᵀ) + (ζ − ⅔η) (∇·u) 1
    ∂E/∂t + ∇·((E + p) u) = ∇·(σ u),     E = p/(γ − 1) + ρ|u|²/2

Sign convention
    Where u > 0 gas moves towards larger x. η, ζ > 0 smooth. No heat is conducted. The ⅔ is that of three dimensions, in
    fewer too.

Domain and boundary
    As `systems.euler`. Walls mirror: gas slides along them without friction.

Fields (x runs along the last axis)
    density                             ρ         [M/L³]    (batch, time, *space)   positive
    velocity_x, velocity_y, velocity_z  u₁, u₂, … [L/T]     the same; velocity in one dimension
    pressure                            p         [M/L/T²]  the same, positive

Coefficients (constant in space, one number a sample)
    adiabatic_index   γ   [1]
    viscosity         η   [M/L/T], of shear
    bulk_viscosity    ζ   [M/L/T]

Knobs
    adiabatic_index   [1], 1.2–5/3
    mach              [1], 0.1–0.5, drawn on a log scale: as in `systems.euler`
    contrast          [1], 0.05–0.2: as in `systems.euler`
    viscosity         [M/L/T], 0.001–0.01, drawn on a log scale
    bulk_viscosity    [M/L/T], 0.001–0.01, drawn on a log scale

Dimensionless groups
    Mach number |u|/c; Reynolds number ρ U L/η: with mean density, speed of sound and box of size 1, mach/viscosity. Of
    sound: c L/((4/3 η + ζ)/ρ).

Initial state (option initial_state, see `systems.initial_cells`)
    As `systems.euler`.

Exact solution
    Sound of small amplitude and wavenumber k decays by exp(−½ (4/3 η + ζ) k² t/ρ); a shear wave by exp(−η k² t/ρ).

Conserved
    As `systems.euler`: what friction takes from motion stays as heat.

Solver and order
    Finite volumes as in `systems.euler`; stresses at faces by central differences of order 2.

Good values
    64 points a side resolve viscosities down to about 0.001 (a shock of height ΔU is about (4/3 η + ζ)/(ρ ΔU) wide).
    PDEBench has η = ζ from 1e-8 to 0.1, mach 0.1 and 1, γ = 5/3.

Where it breaks
    As `systems.euler`. Large viscosities on fine grids take many steps, for friction is marched explicitly.

References:
    Landau and Lifshitz, Fluid Mechanics, 2nd ed., Pergamon 1987, §15 and §49; PDEBench, arXiv:2210.07182.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from scifm.fields.batch import Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.systems.euler import Euler
from scifm.systems.finite_volume_system import derivative
from scifm.systems.knobs import Knob
from scifm.systems.solvers.finite_volume import NUM_GHOSTS, with_ghosts
from scifm.systems.solvers.volumes import Equation

__all__ = ["CompressibleNavierStokes"]

_FRICTION = 2.0  # a step of courant 1 is then four fifths of the longest that friction allows Runge and Kutta


@dataclass(frozen=True)
class CompressibleNavierStokes(Euler):
    """Euler's equations with friction; the module has the full description.

    Args:
        adiabatic_index: knob, γ.
        mach: knob, root mean square of the velocity at time 0 over the speed of sound.
        contrast: knob, logarithm of density and pressure over their means.
        initial_state: the fields w and v: waves, blocks or a column.
        num_spatial_dims: 1, 2 or 3.
        courant: cells that waves cross in a step of the solver.
        save_interval: time between frames [T].
        num_frames: frames of a trajectory, the first at time 0.
        viscosity: knob, η [M/L/T].
        bulk_viscosity: knob, ζ [M/L/T].

    Raises:
        ConfigError: if a knob or an option is out of its range.
    """

    viscosity: Knob = Knob(0.001, 0.01, scale="log")
    bulk_viscosity: Knob = Knob(0.001, 0.01, scale="log")

    name: ClassVar[str] = "compressible_navier_stokes"
    compiled: ClassVar[Equation | None] = "viscous gas"
    title: ClassVar[str] = "Compressible Navier–Stokes"
    equation: ClassVar[str] = (
        "d(rho)/dt + div(rho u) = 0, d(rho u)/dt + div(rho u u) + grad p = div(stress), "
        "dE/dt + div((E + p) u) = div(stress u)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.read_knobs(not_negative=("viscosity", "bulk_viscosity"))

    @property
    def signature(self) -> Signature:  # type: ignore[override]
        """Euler's fields, with the two viscosities among the coefficients."""
        state = super().signature.outputs
        names = ("adiabatic_index", "viscosity", "bulk_viscosity")
        return Signature(state, names, state, self.num_spatial_dims, evolves=True)

    @property
    def homogeneities(self) -> tuple[Homogeneity, ...]:  # type: ignore[override]
        """As Euler's, with η → s η and ζ → s ζ in the first, and both by √s in the second."""
        denser, stiffer = super().homogeneities
        frictions = ("viscosity", "bulk_viscosity")
        return (
            Homogeneity((*denser.exponents, *((name, 1.0) for name in frictions)), denser.gauge, denser.measure),
            Homogeneity((*stiffer.exponents, *((name, 0.5) for name in frictions)), stiffer.gauge, stiffer.measure),
        )

    def initial(
        self, num_samples: int, grid: Grid, generator: torch.Generator | None, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        inputs, index = super().initial(num_samples, grid, generator, device)
        knobs = (self.viscosity, self.bulk_viscosity)
        frictions = [knob.draw(num_samples, generator, dtype=torch.float64, device=device) for knob in knobs]
        return inputs, torch.cat([index, torch.stack(frictions, dim=1)], dim=1)

    def rates(self, primitive: Tensor, coefficients: Tensor, grid: Grid) -> Tensor:
        thinnest = primitive[:, 0].flatten(1).amin(1)
        friction = (4 / 3 * coefficients[:, 1] + coefficients[:, 2]) / thinnest
        squares = sum(1 / width**2 for width in grid.spacing)
        return super().rates(primitive, coefficients, grid) + _FRICTION * squares * friction

    def change(self, primitive: Tensor, still: Tensor, coefficients: Tensor, grid: Grid) -> Tensor:
        total = super().change(primitive, still, coefficients, grid)
        dims = grid.num_spatial_dims
        velocities = primitive[:, 1:-1]
        for axis in range(dims):
            velocities = with_ghosts(velocities, axis - dims, grid.boundary[axis], self.normal(axis) - 1)
        shear, bulk = self.per_sample(coefficients, 1), self.per_sample(coefficients, 2)
        for axis in range(dims):
            flux = self._friction(velocities, shear, bulk - 2 / 3 * shear, grid, axis)
            total[:, 1:] += flux.diff(dim=axis - dims).mul_(1 / grid.spacing[axis])
        return total

    def _friction(self, padded: Tensor, shear: Tensor, spread: Tensor, grid: Grid, axis: int) -> Tensor:
        """Return the stresses on the faces across an axis, and the work that they do, ``(batch, dims + 1, *faces)``.

        Args:
            padded: velocities with ghosts on all axes.
            shear: η, to act on ``(batch, *faces)``.
            spread: ζ − ⅔η.
            grid: where.
            axis: in array order.
        """
        dims, place = grid.num_spatial_dims, axis - grid.num_spatial_dims
        component = self.normal(axis) - 1

        def cells(shifted: int | None = None, by: int = 0) -> Tensor:
            """Return the cells on both sides of all faces, moved along another axis."""
            part = padded
            for other, count in enumerate(grid.num_points):
                start, length = (NUM_GHOSTS - 1, count + 2) if other == axis else (NUM_GHOSTS, count)
                part = part.narrow(other - dims, start + (by if other == shifted else 0), length)
            return part

        def at_faces(values: Tensor) -> Tensor:
            count = grid.num_points[axis] + 1
            return (values.narrow(place, 0, count) + values.narrow(place, 1, count)).mul_(0.5)

        here = cells()
        slopes = here.diff(dim=place) / grid.spacing[axis]
        spreading = slopes[:, component].clone()
        stress = slopes * shear.unsqueeze(1)
        stress[:, component] *= 2
        for other in range(dims):
            if other != axis:
                across, width = self.normal(other) - 1, 2 * grid.spacing[other]
                change = at_faces((cells(other, 1) - cells(other, -1)).div_(width))
                stress[:, across] += shear * change[:, component]
                spreading += change[:, across]
        stress[:, component] += spread * spreading
        work = (stress * at_faces(here)).sum(1, keepdim=True)
        return torch.cat([stress, work], dim=1)

    def tendency(self, inputs: Tensor, coefficients: Tensor, grid: Grid) -> Tensor:
        rate = super().tendency(inputs, coefficients, grid)
        index, shear, bulk = (self.per_sample(coefficients, number) for number in range(3))
        dims = grid.num_spatial_dims
        axes = range(dims)

        def slope(field: Tensor, axis: int, component: int | None, *past: int) -> Tensor:
            """Differentiate what came of a velocity by derivatives along past axes; each turns odd and even."""
            odd = (axis == component) != bool(past.count(axis) % 2)
            return derivative(field, grid, axis, grid.boundary[axis], odd=odd)

        speeds = [inputs[:, self.normal(axis)] for axis in axes]
        first = [[slope(speeds[i], j, i) for j in axes] for i in axes]  # ∂u_i/∂x_j
        spreading = torch.stack([first[i][i] for i in axes]).sum(0)
        heat = (bulk - 2 / 3 * shear) * spreading.square()
        for i in axes:
            push = (bulk + shear / 3) * slope(spreading, i, None)  # the divergence is even about every wall
            for j in axes:
                push = push + shear * slope(first[i][j], j, i, j)
                heat = heat + shear * first[i][j] * (first[i][j] + first[j][i])
            rate[:, self.normal(i)] += push / inputs[:, 0]
        rate[:, -1] += (index - 1) * heat
        return rate
