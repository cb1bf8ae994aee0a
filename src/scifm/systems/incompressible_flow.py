"""Incompressible flow in two dimensions told by its velocity, which has no divergence: decaying or forced.

Equation
    ∂v/∂t + v·∇v = −∇p + ν Δv + f,    ∇·v = 0

Sign convention
    v > 0 moves towards larger x. The pressure p is what keeps ∇·v zero, and is not told. The force points along x; as
    drawn it is χ sin(k_f y), k_f = 2π n/L_y, the shear of Kolmogorov. What of it is a gradient, or its mean, is held by
    the pressure and moves nothing. χ = 0 lets the flow decay.

Domain and boundary
    A box with any sides, periodic, in two dimensions.

Fields (x runs along the last axis)
    velocity_x, velocity_y   v   [L/T]    (batch, time, ny, nx)
    force_x                  f   [L/T²]   the same; input only, for it does not change

Coefficients (constant in space, one number a sample)
    viscosity   ν   [L²/T]

Knobs
    viscosity   [L²/T], 5e-4–5e-3, drawn on a log scale
    force       χ, [L/T²], 0.1–0.2; ``where(force=0)`` is a flow that decays

Dimensionless groups
    As `systems.navier_stokes`, whose flow it is.

Initial state
    The velocity, of zero mean, of the vorticity that `systems.navier_stokes` draws from the same seed.

Exact solution
    Taylor and Green's vortices v = (cos kx sin ky, −sin kx cos ky) exp(−2νk²t), also carried along by a constant
    velocity; the steady shear v_x = χ/(ν k_f²) sin(k_f y).

Conserved
    The mean of v. ∇·v stays zero. Without viscosity and force also energy ½⟨|v|²⟩; with them its change is
    −ν⟨ω²⟩ + ⟨v·f⟩.

Solver and order
    Exponential time differencing of order 4 with 2/3 dealiasing; spectral in space. Of what momentum carries the part
    without divergence is taken in every evaluation, so that ∇·v is round-off. Four transforms an evaluation: of the two
    squares only the difference matters, for their sum is a gradient.

Good values
    As `systems.navier_stokes`: 64 points a side; 41 frames, 0.25 apart.

Where it breaks
    As `systems.navier_stokes`. A state that is given with a divergence loses it before the first step. The longest step
    follows the vorticity that is drawn: a flow carried along much faster than that asks for a smaller max_step.

References:
    Taylor and Green, Proc. R. Soc. A 158 (1937) 499, doi:10.1098/rspa.1937.0036; Chorin, Math. Comput. 22 (1968) 745,
    doi:10.1090/S0025-5718-1968-0242392-2 (the projection); Chandler and Kerswell, J. Fluid Mech. 722 (2013) 554,
    doi:10.1017/jfm.2013.122 (the force).
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
from scifm.fields.spectral import gradient, without_divergence
from scifm.fields.term import Term
from scifm.systems.navier_stokes import NavierStokes, velocity_of
from scifm.systems.periodic_evolution import PeriodicEvolution, SpectralBox
from scifm.systems.solvers.etdrk import Nonlinear

__all__ = ["IncompressibleFlow"]

_SCALES = (("velocity_x", 1.0), ("velocity_y", 1.0), ("viscosity", 1.0), ("force_x", 2.0), ("lead_time", -1.0))


@dataclass(frozen=True)
class IncompressibleFlow(NavierStokes):
    """∂v/∂t + v·∇v = −∇p + ν Δv + f with ∇·v = 0 on a periodic box; the module has the full description.

    Args:
        viscosity: knob, ν [L²/T].
        force: knob, χ [L/T²]; zero for a flow that decays.
        force_waves: n, periods of the force along y.
        initial_state: how the vorticity is drawn at time 0.
        spin_up: time marched before the first frame [T].
        save_interval: time between frames [T].
        num_frames: frames of a trajectory, the first at time 0.
        max_step: longest step of the solver [T]; a fine grid asks for shorter ones.

    Raises:
        ConfigError: if a knob can go below its bound, or an option is out of its range.
    """

    name: ClassVar[str] = "incompressible_flow"
    equation: ClassVar[str] = (
        "dv/dt + v . grad(v) = -grad(p) + viscosity * laplace(v) + force, div(v) = 0, on a periodic box"
    )
    signature: ClassVar[Signature] = Signature(
        ("velocity_x", "velocity_y", "force_x"), ("viscosity",), ("velocity_x", "velocity_y"), 2, evolves=True
    )
    solenoidal: ClassVar[tuple[str, ...]] = ("velocity_x", "velocity_y")
    homogeneities: ClassVar[tuple[Homogeneity, ...]] = (
        Homogeneity(
            _SCALES,
            (),
            "sum",
            (Homogeneity(_SCALES, ("velocity_x",), "rms"), Homogeneity(_SCALES, ("velocity_y",), "rms")),
        ),
    )
    terms: ClassVar[tuple[Term, ...]] = tuple(
        term
        for along in "xy"
        for term in (
            Term(f"solenoidal_advection_{along}", ("velocity_x", "velocity_y"), of=f"velocity_{along}", factor=-1.0),
            Term("laplacian", (f"velocity_{along}",), of=f"velocity_{along}", coefficient="viscosity"),
            Term(f"solenoidal_{along}", ("force_x",), of=f"velocity_{along}"),
        )
    )

    def initial(
        self, num_samples: int, grid: Grid, generator: torch.Generator | None, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        drawn, viscosity = super().initial(num_samples, grid, generator, device)
        # f = −∂f_x/∂y is what the force does to the vorticity; of a sine f_x follows from it by one more derivative
        force = gradient(drawn[:, 1], grid)[0] / self._force_wavenumber(grid) ** 2
        return torch.stack([*velocity_of(drawn[:, 0], grid), force], dim=1), viscosity

    def measured_knobs(self, batch: Batch) -> dict[str, Tensor]:
        """Return the viscosity and the force χ of the sine whose mean square `force_x` has."""
        size = batch.field("force_x")[:, -1].flatten(1).square().mean(1).sqrt()
        return {**PeriodicEvolution.measured_knobs(self, batch), "force": math.sqrt(2) * size}

    def nonlinear(self, box: SpectralBox, coefficients: Tensor, inputs: Tensor) -> Nonlinear:
        along_y, along_x = (derivative * box.kept for derivative in box.derivative)
        project = _projection(box)
        force = box.to_modes(inputs[:, 2]) * box.kept
        force[..., 0, 0] = 0.0
        push = project(torch.stack([force, torch.zeros_like(force)], dim=1))

        def rest(spectrum: Tensor) -> Tensor:
            v_x, v_y = box.to_grid(project(spectrum)).unbind(1)
            mixed, apart = box.to_modes(torch.stack([v_x * v_y, 0.5 * (v_x - v_y) * (v_x + v_y)], dim=1)).unbind(1)
            carried = torch.stack([along_x * apart + along_y * mixed, along_x * mixed - along_y * apart], dim=1)
            return push - project(carried)

        return rest

    def advance(
        self, inputs: Tensor, coefficients: Tensor, grid: Grid, *, interval: float, num_frames: int, refine: int = 1
    ) -> Tensor:
        v_y, v_x = without_divergence((inputs[:, 1], inputs[:, 0]), grid)
        inputs = torch.stack([v_x, v_y, inputs[:, 2]], dim=1)
        return super().advance(inputs, coefficients, grid, interval=interval, num_frames=num_frames, refine=refine)

    def quantities(self, state: Tensor, coefficients: Tensor, grid: Grid) -> dict[str, Tensor]:
        velocity = state[:, :, :2].flatten(3)
        speed = velocity[:, :1].square().sum(2).mean(-1).sqrt()
        return {f"momentum_{along}": velocity[:, :, place].mean(-1) / speed for place, along in enumerate("xy")}


def _projection(box: SpectralBox) -> Nonlinear:
    """Return what takes the divergence from half-spectra of velocities along x and y, ``(batch, 2, *modes)``."""
    along_y, along_x = (derivative.imag for derivative in box.derivative)
    square = along_x**2 + along_y**2
    inverse = torch.where(square > 0, 1 / square.where(square > 0, 1.0), 0.0)

    def project(spectrum: Tensor) -> Tensor:
        spread = (along_x * spectrum[:, 0] + along_y * spectrum[:, 1]) * inverse
        return torch.stack([spectrum[:, 0] - along_x * spread, spectrum[:, 1] - along_y * spread], dim=1)

    return project
