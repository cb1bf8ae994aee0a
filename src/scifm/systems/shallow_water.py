"""Shallow water: waves, bores and dam breaks of a thin layer over a bottom that need not be flat.

Equation
    ∂h/∂t + ∇·(h u) = 0
    ∂(h u)/∂t + ∇·(h u⊗u) + ∇(g h²/2) = −g h ∇b

Sign convention
    b is the height of the bottom and h + b that of the surface; both grow upwards. Where u > 0 water moves towards
    larger x. g > 0.

Domain and boundary
    A box with any sides in one to three dimensions (option num_spatial_dims; the third for tests of the solver only);
    axes wrap, or end at walls or openly (boundary of the grid): see `systems.finite_volume_system` for where.

Fields (x runs along the last axis)
    depth                               h         [L]     (batch, time, [ny,] nx)   input and output, positive
    velocity_x, velocity_y, velocity_z  u₁, u₂, … [L/T]   the same; velocity in one dimension
    bottom                              b         [L]     the same; input only, for it does not change

Coefficients (constant in space, one number a sample)
    gravity   g   [L/T²]

Knobs
    gravity    [L/T²], 0.5–2, drawn on a log scale; long waves on the mean depth 1 run at √g
    contrast   [1], 0.02–0.1: logarithm of the height of the surface over its mean, times fields of unit size
    froude     [1], 0.05–0.2: root mean square of |u| at time 0 over √g
    relief     [1], 0–0.1: root mean square of the bottom over the mean depth

Dimensionless groups
    Froude number |u|/√(g h). Depth ratio of a dam break: exp(contrast).

Initial state (option initial_state, see `systems.initial_cells`)
    surface = exp(contrast w), depth = surface − bottom, u = froude √(g/dimensions) v.
    "waves": w and v are random waves, 1 or 2 along a side; "blocks": both constant in blocks, Riemann
    problems; "column": w is 1 in a circle in the middle and 0 outside, the radial dam break, and v random waves.
    PDEBench's radial dam break has depths 2 and 1, g = 1, radii 0.3–0.7 on a square of side 5 with open ends, up to
    time 1: kind "column", contrast = log 2, gravity = 1, froude = 0, relief = 0. The bottom is always random waves.

Exact solution
    In one dimension on a flat bottom that of the Riemann problem, Stoker's dam break among it:
    `solvers.riemann.water_riemann`. Over any bottom, rest: h + b constant and u = 0.

Conserved
    Mass, on boxes that wrap or have walls; on a flat bottom that wraps, momentum too.

Solver and order
    Finite volumes: MUSCL in surface and velocity, HLLC fluxes between depths over the higher of the two bottoms at a
    face (hydrostatic reconstruction, which leaves rest at rest), Runge–Kutta of order 3. Order 2 in space where the
    state is smooth, 1 (in the mean) where it has jumps.

Good values
    64 points a side; 21 frames, 0.05 apart on a box of side 1: waves steepen into bores at about time 0.3.

Where it breaks
    Dry ground: the depth must stay positive. Large contrast with large relief leaves none of it; blocks that fly apart
    may too. Bores are smeared over two or three cells.

References:
    Toro, Shock-Capturing Methods for Free-Surface Shallow Flows, Wiley 2001; Stoker, Water Waves, Interscience 1957;
    Audusse, Bouchut, Bristeau, Klein and Perthame, SIAM J. Sci. Comput. 25 (2004) 2050, doi:10.1137/S1064827503431090;
    PDEBench, arXiv:2210.07182.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from scifm.errors import DataError
from scifm.fields.batch import Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.systems.finite_volume_system import FiniteVolumeSystem, derivative
from scifm.systems.initial_cells import CellFields
from scifm.systems.knobs import Knob
from scifm.systems.solvers.finite_volume import differences, face_values, faces_of_cells, with_ghosts
from scifm.systems.solvers.riemann_fluxes import water_flux
from scifm.systems.solvers.volumes import Equation

__all__ = ["ShallowWater"]

_LEAST = 0.1  # of its cell's depth that is left at a face


@dataclass(frozen=True)
class ShallowWater(FiniteVolumeSystem):
    """∂h/∂t + ∇·(hu) = 0, ∂(hu)/∂t + ∇·(hu⊗u) + ∇(gh²/2) = −gh∇b; the module has the full description.

    Args:
        gravity: knob, g [L/T²].
        contrast: knob, logarithm of surface over mean depth.
        froude: knob, root mean square of the velocity at time 0 over √g.
        relief: knob, size of the bottom over the mean depth.
        initial_state: the fields w and v: waves, blocks or a column.
        num_spatial_dims: 1, 2 or 3.
        courant: cells that waves cross in a step of the solver.
        save_interval: time between frames [T].
        num_frames: frames of a trajectory, the first at time 0.

    Raises:
        ConfigError: if a knob or an option is out of its range.
    """

    gravity: Knob = Knob(0.5, 2.0, scale="log")
    contrast: Knob = Knob(0.02, 0.1)
    froude: Knob = Knob(0.05, 0.2)
    relief: Knob = Knob(0.0, 0.1)
    initial_state: CellFields = field(default_factory=CellFields)
    num_spatial_dims: int = 2
    courant: float = 0.6
    save_interval: float = 0.05
    num_frames: int = 21

    name: ClassVar[str] = "shallow_water"
    compiled: ClassVar[Equation | None] = "water"
    equation: ClassVar[str] = "dh/dt + div(h u) = 0, d(h u)/dt + div(h u u) + grad(g h^2/2) = -g h grad(bottom)"

    def __post_init__(self) -> None:
        self.read_knobs(positive=("gravity",), not_negative=("froude", "relief"))
        self.require_options()

    @property
    def signature(self) -> Signature:  # type: ignore[override]
        """Depth and velocities, which evolve, and the bottom, which does not."""
        velocities = tuple(f"velocity_{axis}" for axis in "xyz")[: self.num_spatial_dims]
        state = ("depth", *(velocities if self.num_spatial_dims > 1 else ("velocity",)))
        return Signature((*state, "bottom"), ("gravity",), state, self.num_spatial_dims, evolves=True)

    @property
    def homogeneities(self) -> tuple[Homogeneity, ...]:  # type: ignore[override]
        """g → s g with u → √s u, t → t/√s; and h → s h, b → s b with the same."""
        _, *velocities = self.signature.outputs
        faster = (*((name, 0.5) for name in velocities), ("lead_time", -0.5))
        return (
            Homogeneity((("gravity", 1.0), *faster), gauge=("gravity",), measure="value"),
            Homogeneity((("depth", 1.0), ("bottom", 1.0), *faster), gauge=("depth",), measure="rms"),
        )

    def initial(
        self, num_samples: int, grid: Grid, generator: torch.Generator | None, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        dims = self.num_spatial_dims
        knobs = (self.gravity, self.contrast, self.froude, self.relief)
        drawn = [knob.draw(num_samples, generator, dtype=torch.float64, device=device) for knob in knobs]
        gravity, contrast, froude, relief = (values.view(-1, *(1,) * (dims + 1)) for values in drawn)
        shapes = self.initial_state.draw(num_samples, 1, grid, generator, device)
        bottom = relief * self.initial_state.draw_waves(num_samples, 1, grid, generator, device=device)
        depth = (contrast * shapes[:, :1]).exp() - bottom
        if not bool((depth > 0).all()):
            raise DataError(
                f"Water over the bottom leaves dry ground (depth {float(depth.min()):.3g} at time 0), which "
                f"'shallow_water' does not know. Lower the knobs relief ({self.relief.high:g}) or contrast "
                f"({self.contrast.high:g})."
            )
        velocity = froude * (gravity / dims).sqrt() * shapes[:, 1:]
        return torch.cat([depth, velocity, bottom], dim=1), drawn[0][:, None]

    def conserved(self, primitive: Tensor, coefficients: Tensor) -> Tensor:
        return torch.cat([primitive[:, :1], primitive[:, 1:] * primitive[:, :1]], dim=1)

    def primitive(self, conserved: Tensor, coefficients: Tensor) -> Tensor:
        return torch.cat([conserved[:, :1], conserved[:, 1:] / conserved[:, :1]], dim=1)

    def sound_squared(self, primitive: Tensor, coefficients: Tensor) -> Tensor:
        return self.per_sample(coefficients, 0) * primitive[:, 0]

    def flux(self, before: Tensor, behind: Tensor, normal: int, coefficients: Tensor) -> Tensor:
        return water_flux(before, behind, normal, coefficients[:, :1])

    def change_along(self, primitive: Tensor, still: Tensor, coefficients: Tensor, grid: Grid, axis: int) -> Tensor:
        place, normal = axis - grid.num_spatial_dims, self.normal(axis)
        padded = with_ghosts(torch.cat([primitive, still], dim=1), place, grid.boundary[axis], normal)
        shape, apart = padded.shape, padded.stride(place)
        least = padded[:, 0].flatten(1) * _LEAST
        padded[:, 0] += padded[:, -1]  # from here on the surface
        before, behind = face_values(padded, place)
        floor = torch.maximum(before[:, -1], behind[:, -1])
        surfaces, depths, lifted = [], [], []
        for side, shift in ((before, apart), (behind, 2 * apart)):
            surface, bottom = side[:, 0].clone(), side[:, -1]
            under = least[:, shift : shift + surface.shape[1]]
            surfaces.append(surface)
            depths.append(torch.maximum(surface - bottom, under))
            lifted.append(torch.maximum(surface - floor, under))
            side[:, 0] = lifted[-1]
        flux = self.flux(before[:, :-1], behind[:, :-1], normal, coefficients)
        change = differences(flux, shape, place)
        # Momentum: the flux less the push of still water on each side, and the slope of the surface. All of it vanishes
        # where water is at rest, and on a flat bottom the sum is the flux again.
        half = 0.5 * coefficients[:, :1]
        ahead, back = (flux[:, normal] - half * water.square() for water in lifted)

        def behind_cell(faces: Tensor) -> Tensor:
            return faces_of_cells(faces, shape, place)[1]

        def before_cell(faces: Tensor) -> Tensor:
            return faces_of_cells(faces, shape, place)[0]

        slope = behind_cell(surfaces[0]) - before_cell(surfaces[1])
        slope *= behind_cell(depths[0]) + before_cell(depths[1])
        pushed = before_cell(back) - behind_cell(ahead)
        change[:, normal] = pushed.sub_(slope.mul_(0.5 * self.per_sample(coefficients, 0)))
        return change.mul_(1 / grid.spacing[axis])

    def tendency(self, inputs: Tensor, coefficients: Tensor, grid: Grid) -> Tensor:
        depth, velocities, bottom = inputs[:, 0], inputs[:, 1:-1], inputs[:, -1]
        gravity = self.per_sample(coefficients, 0)
        rate = torch.zeros_like(inputs[:, :-1])
        for axis in range(grid.num_spatial_dims):
            ends, normal = grid.boundary[axis], self.normal(axis)
            speed = inputs[:, normal]
            rate[:, 0] -= derivative(depth * speed, grid, axis, ends, odd=True)
            rate[:, normal] -= gravity * derivative(depth + bottom, grid, axis, ends)
            for other in range(1, grid.num_spatial_dims + 1):
                rate[:, other] -= speed * derivative(velocities[:, other - 1], grid, axis, ends, odd=other == normal)
        return rate

    def quantities(self, state: Tensor, coefficients: Tensor, grid: Grid) -> dict[str, Tensor]:
        if {"open", "bounded"} & set(grid.boundary):
            return {}
        mass = state[:, :, 0].flatten(2).mean(2)
        return {"mass": mass / state[:, :1, 0].flatten(2).square().mean(2).sqrt()}
