"""Navier–Stokes in two dimensions: a flow that cannot be compressed, told by its vorticity, decaying or forced.

Equation
    ∂ω/∂t + v·∇ω = ν Δω + f,    v = (∂ψ/∂y, −∂ψ/∂x),    −Δψ = ω,    mean v = 0

Sign convention
    ω = ∂v_y/∂x − ∂v_x/∂y: counterclockwise is positive, and f is that of the force which drives the flow. As drawn it
    is χ sin(k_f y) along x, k_f = 2π n/L_y, the shear of Kolmogorov: f = −χ k_f cos(k_f y). χ = 0 lets it decay.

Domain and boundary
    A box with any sides, periodic, in two dimensions.

Fields (x runs along the last axis)
    vorticity   ω   [1/T]    (batch, time, ny, nx); `velocity_of` gives v
    forcing     f   [1/T²]   the same; input only, for it does not change. A field and not the number χ: where a force
                             stands in a periodic box no number says

Coefficients (constant in space, one number a sample)
    viscosity   ν   [L²/T]

Knobs
    viscosity   [L²/T], 5e-4–5e-3, drawn on a log scale
    force       χ, [L/T²], 0.1–0.2; ``where(force=0)`` is a flow that decays

Dimensionless groups
    Reynolds number √χ (L/2π)^{3/2}/ν: 4–57 on the unit box for the default knobs. With n = 4 the shear flow gives way
    to chaos near 20. Of a decaying flow U L/ν, U its root mean square velocity.

Initial state
    Random waves (`systems.initial`), 1 to 5 along a side, of which the amplitude falls as 1/|n|, root mean square 2.

Exact solution
    Taylor and Green's vortices ω = ω₀ cos(kx) cos(ly) exp(−ν(k² + l²) t) and all other flows of one |wavenumber|, for
    which v·∇ω = 0; the steady shear ω = −χ/(ν k_f) cos(k_f y), where it is stable or not disturbed.

Conserved
    The mean of ω, which is zero, as that of f is. Without viscosity and force also energy ½⟨v²⟩ and enstrophy ½⟨ω²⟩;
    with them d/dt ½⟨v²⟩ = −ν⟨ω²⟩ + ⟨ψf⟩ and d/dt ½⟨ω²⟩ = −ν⟨|∇ω|²⟩ + ⟨ωf⟩.

Solver and order
    Exponential time differencing of order 4 with 2/3 dealiasing; spectral in space. The transport is written by
    products of velocities, (∂²ₓ − ∂²ᵧ)(v_x v_y) + ∂ₓ∂ᵧ(v_y² − v_x²): four transforms and not five.

Good values
    64 points a side; trajectories of 41 frames, 0.25 apart. About the first 20 units of time lead from the initial
    state to the forced flow's own: option spin_up leaves them out.

Where it breaks
    Vorticity thinner than two grid spacings rings: 64 points hold the forced flow down to ν = 5e-4, where 1e-3 of the
    strongest wave reaches the last one kept. The step follows the grid, with U step/dx ≤ 1/2 for a peak velocity of
    three times the larger of ω L/2π and √(χ L/2π). Chaos parts two solvers in the end.

References:
    Taylor and Green, Proc. R. Soc. A 158 (1937) 499, doi:10.1098/rspa.1937.0036; Chandler and Kerswell, J. Fluid Mech.
    722 (2013) 554, doi:10.1017/jfm.2013.122 (forced as here, n = 4); Basdevant, J. Comput. Phys. 50 (1983) 209,
    doi:10.1016/0021-9991(83)90064-5 (the products).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from scifm.errors import ConfigError, SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.spectral import wavenumbers
from scifm.fields.term import Term
from scifm.systems.initial import RandomWaves
from scifm.systems.knobs import Knob
from scifm.systems.periodic_evolution import PeriodicEvolution, SpectralBox, squared
from scifm.systems.solvers.etdrk import Nonlinear

__all__ = ["NavierStokes", "velocity_of"]

_COURANT, _PEAK = 0.5, 3.0  # longest step, in crossings of a cell at the peak velocity; peak over what it is taken from


@dataclass(frozen=True)
class NavierStokes(PeriodicEvolution):
    """∂ω/∂t + v·∇ω = ν Δω + f on a periodic box; the module has the full description.

    Args:
        viscosity: knob, ν [L²/T].
        force: knob, χ [L/T²]; zero for a flow that decays.
        force_waves: n, periods of the force along y.
        initial_state: how ω is drawn at time 0.
        spin_up: time marched before the first frame [T].
        save_interval: time between frames [T].
        num_frames: frames of a trajectory, the first at time 0.
        max_step: longest step of the solver [T]; a fine grid asks for shorter ones.

    Raises:
        ConfigError: if a knob can go below its bound, or an option is out of its range.
    """

    viscosity: Knob = Knob(0.0005, 0.005, scale="log")
    force: Knob = Knob(0.1, 0.2)
    force_waves: int = 4
    initial_state: RandomWaves = field(default_factory=lambda: RandomWaves(max_wave=5, slope=1.0, amplitude=2.0))
    spin_up: float = 0.0
    save_interval: float = 0.25
    num_frames: int = 41
    max_step: float = 0.05

    name: ClassVar[str] = "navier_stokes"
    title: ClassVar[str] = "Navier–Stokes"
    equation: ClassVar[str] = (
        "dw/dt + v . grad(w) = viscosity * laplace(w) + forcing, w = curl(v), div(v) = 0, on a periodic box"
    )
    signature: ClassVar[Signature] = Signature(
        ("vorticity", "forcing"), ("viscosity",), ("vorticity",), 2, evolves=True
    )
    homogeneities: ClassVar[tuple[Homogeneity, ...]] = (
        Homogeneity(
            (("vorticity", 1.0), ("viscosity", 1.0), ("forcing", 2.0), ("lead_time", -1.0)), ("vorticity",), "rms"
        ),
    )
    terms: ClassVar[tuple[Term, ...]] = (
        Term("vorticity_advection", ("vorticity",), of="vorticity", factor=-1.0),
        Term("laplacian", ("vorticity",), of="vorticity", coefficient="viscosity"),
        Term("value", ("forcing",), of="vorticity"),
    )

    def __post_init__(self) -> None:
        self.read_knobs(positive=("viscosity",), not_negative=("force",))
        self.require_options()
        if self.force_waves < 1:
            raise ConfigError(f"The force of 'navier_stokes' has 1 wave or more; got force_waves={self.force_waves}.")

    def require_grid(self, grid: Grid) -> None:
        super().require_grid(grid)
        if grid.num_points[0] * self.keeps <= 2 * self.force_waves:
            raise SignatureError(
                f"The grid of {grid.num_points} points cannot hold the {self.force_waves} waves of the force along y, "
                f"for the solver keeps {self.keeps:.2g} of all; give {3 * self.force_waves + 1} points or more."
            )

    def initial(
        self, num_samples: int, grid: Grid, generator: torch.Generator | None, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        viscosity, force = self.draw_knobs(num_samples, generator, device).unbind(1)
        vorticity = self.initial_state.draw(num_samples, 1, grid, generator, device=device)
        wave = self._force_wavenumber(grid)
        shape = -wave * torch.cos(wave * grid.coordinates(device=device)[0])
        forcing = (force[:, None, None, None] * shape[:, None]).expand_as(vorticity)
        return torch.cat([vorticity, forcing], dim=1), viscosity[:, None]

    def measured_knobs(self, batch: Batch) -> dict[str, Tensor]:
        """Return the viscosity and the force χ of the sine whose mean square `forcing` has."""
        size = batch.field("forcing")[:, -1].flatten(1).square().mean(1).sqrt()
        return {**super().measured_knobs(batch), "force": math.sqrt(2) * size / self._force_wavenumber(batch.grid)}

    def longest_step(self, grid: Grid) -> float:
        length = max(grid.extent) / (2 * math.pi)
        velocity = max(self.initial_state.amplitude * length, math.sqrt(self.force.high * length))
        return min(self.max_step, _COURANT * min(grid.spacing) / (_PEAK * velocity))

    def symbol(self, waves: tuple[Tensor, ...], odd: tuple[Tensor, ...], coefficients: Tensor) -> Tensor:
        return -self.per_sample(coefficients, 0, 2) * squared(waves)

    def nonlinear(self, box: SpectralBox, coefficients: Tensor, inputs: Tensor) -> Nonlinear:
        wave_y, wave_x = box.waves
        to_velocity = _to_velocity(box.grid, inputs)
        # each factor twice, for the real and for the imaginary part, and of both products at once
        factors = torch.stack([(wave_x**2 - wave_y**2) * box.kept, wave_x * wave_y * box.kept])
        factors = torch.stack([factors, factors], dim=-1)
        push = box.to_modes(inputs[:, 1:]) * box.kept if bool((inputs[:, 1] != 0).any()) else None

        def rest(spectrum: Tensor) -> Tensor:
            velocity = box.to_grid(spectrum * to_velocity)
            v_x, v_y = velocity.unbind(1)
            products = torch.empty_like(velocity)
            torch.mul(v_x, v_y, out=products[:, 0])
            torch.sub(v_y, v_x, out=products[:, 1])
            products[:, 1].mul_(v_x.add_(v_y))
            flux = torch.view_as_real(box.to_modes(products)).mul_(factors)
            made = torch.view_as_complex(flux[:, :1] + flux[:, 1:])
            return made if push is None else made.add_(push)

        return rest

    def kept(self, grid: Grid) -> tuple[str, ...]:
        return self.signature.outputs

    def quantities(self, state: Tensor, coefficients: Tensor, grid: Grid) -> dict[str, Tensor]:
        space = state[:, :, 0].flatten(2)
        return {"circulation": space.mean(-1) / space[:, :1].square().mean(-1).sqrt()}

    def _force_wavenumber(self, grid: Grid) -> float:
        return 2 * math.pi * self.force_waves / grid.extent[0]


def velocity_of(
    vorticity: Float[Tensor, "*shape"], grid: Grid
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Return the velocity along x and along y, of zero mean and divergence, of a vorticity ``(…, ny, nx)``.

    Raises:
        SignatureError: if the grid is not periodic.
    """
    spectrum = torch.fft.rfftn(vorticity, dim=(-2, -1))
    along_x, along_y = _to_velocity(grid, vorticity).unbind(0)
    v_x, v_y = (torch.fft.irfftn(spectrum * part, s=grid.num_points, dim=(-2, -1)) for part in (along_x, along_y))
    return v_x, v_y


def _to_velocity(grid: Grid, like: Tensor) -> Tensor:
    """Return i k_y/|k|² and −i k_x/|k|², which make the velocity along x and y of a vorticity, ``(2, *modes)``."""
    wave_y, wave_x = wavenumbers(grid, device=like.device)
    odd_y, odd_x = wavenumbers(grid, odd=True, device=like.device)
    square = wave_y**2 + wave_x**2
    square[0, 0] = 1.0  # the mean, which has no velocity
    return torch.stack([1j * odd_y / square, -1j * odd_x / square]).to(like.dtype.to_complex())
