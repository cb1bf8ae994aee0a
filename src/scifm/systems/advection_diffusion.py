"""Advection–diffusion: steady transport by a constant velocity against anisotropic diffusion on a periodic box.

Equation
    −∇·(K∇u) + v·∇u = f,    K = (1 − λ) · 0.01 · Rᵀ diag(1, anisotropy) R,    v = λ (cos direction, sin direction).

    λ in (0, 1) is not a knob: it is set for each sample such that the ratio below comes out as drawn.

Sign convention
    f > 0 is a source; v is the velocity of the medium, so what f emits is found downstream, in the direction of v.

Domain and boundary
    Rectangle [0, L_x) × [0, L_y), periodic. f has zero mean (else no solution exists); u is fixed by having zero mean.

Fields (x runs along the last axis)
    forcing    f   [U/T]   (batch, 1, ny, nx)   also called source
    solution   u   [U]     (batch, 1, ny, nx)

Coefficients (constant in space, one number a sample, every scale factor included)
    diffusion_xx, diffusion_yy, diffusion_xy   K   [L²/T]   as for Poisson, times 1 − λ
    velocity_x, velocity_y                     v   [L/T]    |v| = λ

Knobs
    advection_diffusion_ratio   ‖v·∇u‖ / ‖∇·(K∇u)‖ **on the solution**; 0.2–1 to pre-train in the reference paper,
                                0.2–0.4, 0.4–1.6, 1–2 and 2–5 downstream
    anisotropy                  λmax/λmin of K, at least 1; 1–5 throughout the reference paper
    angle, direction            [rad], 0–2π: of K and of v

Dimensionless groups
    advection_diffusion_ratio; anisotropy; angle between K and v; width of the forcing over the side, 1/32. The size of
    K and v together only scales u (see `homogeneities`). It is taken as √det K + |v| L/2π, L the geometric mean of the
    sides: in units of this sum both are bounded at every ratio, in units of √det K alone v would span decades.

How the ratio is met
    Write s = λ/(1 − λ), D(k) = k·Kk and a(k) = v·k for λ-free K and v. Diffusion and advection of a mode are in
    quadrature, so by Parseval the two terms share the power of f:

        ‖∇·(K∇u)‖² / ‖f‖² = Σ |f̂|² / (1 + s² a²/D²) / Σ |f̂|²,    and ‖v·∇u‖² is the rest.

    The ratio therefore grows strictly with s, from 0 to a bound that is infinite unless f has modes across the flow
    (a = 0). ratio = "measured": log ratio² is solved for log s² for all samples at once by Newton's method inside a
    bracket. ratio = "calibrated": the reference reads λ off a stored table of the mean ratio at each λ, so a sample has
    its drawn ratio only on average; here that curve is made by a seeded calibration run of 512 problems with this
    system's own knobs, and interpolated.

Exact solution
    f = D cos(p x + q y) − a sin(p x + q y), D = K_xx p² + 2 K_xy p q + K_yy q², a = v_x p + v_y q, gives
    u = cos(p x + q y) for p, q multiples of 2π over the sides.

Solver and order
    û = f̂ / (D + i a), û(0) = 0: spectral, exact for every field the grid can hold.

Good values
    Ratios 0.05–20 are met to 1e-4 in both precisions, the reference's 0.2–5 to 1e-5.

Where it breaks
    A ratio beyond the bound above, which happens only for flow along the lattice of waves: a `DataError` says so.
    Flow almost along it meets a large ratio only with λ close to 1.

References:
    Subramanian et al., "Towards Foundation Models for Scientific Machine Learning: Characterizing Scaling and Transfer
    Behavior", NeurIPS 2023, arXiv:2306.00258.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from scifm.errors import ConfigError, suggest
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.norms import l2_norm
from scifm.fields.seeds import generator_for
from scifm.fields.spectral import diffusion_operator, gradient
from scifm.fields.term import Term
from scifm.systems.coefficients import (
    diffusion_basis,
    diffusion_tensor,
    measured_diffusion,
    nearest_turn,
    require_knob,
)
from scifm.systems.forcing import GaussianForcing
from scifm.systems.knobs import Knob
from scifm.systems.periodic_elliptic import PeriodicElliptic, Spectrum, spectrum_on_grid
from scifm.systems.solvers.transport_ratio import RatioCurve, meet_ratio

__all__ = ["AdvectionDiffusion"]

_RATIO_MODES = ("measured", "calibrated")
_NUM_CALIBRATION_PROBLEMS = 512
_KNOBS = ("advection_diffusion_ratio", "anisotropy", "angle", "direction")
_DIFFUSION = ("diffusion_xx", "diffusion_yy", "diffusion_xy")
_VELOCITY = ("velocity_x", "velocity_y")
_OPERATOR_SCALING = (*((name, 1) for name in (*_DIFFUSION, *_VELOCITY)), ("solution", -1))


@dataclass(frozen=True)
class AdvectionDiffusion(PeriodicElliptic):
    """−∇·(K∇u) + v·∇u = f with a prescribed ratio of the two terms; the module has the full description.

    Args:
        advection_diffusion_ratio: knob, norm of the advection term over that of the diffusion term on the solution.
        anisotropy: knob, ratio of the eigenvalues of K.
        angle: knob, direction of K [rad].
        direction: knob, direction of v [rad], counted from x towards y.
        diffusivity: smaller eigenvalue of K before the factor 1 − λ.
        ratio: "measured" meets the drawn ratio in every sample, "calibrated" on average, as the reference does.
        forcing: how f is drawn.

    Raises:
        ConfigError: if a knob leaves its range or an option is not valid.
    """

    advection_diffusion_ratio: Knob = Knob(0.2, 1)
    anisotropy: Knob = Knob(1, 5)
    angle: Knob = Knob(0, 2 * math.pi)
    direction: Knob = Knob(0, 2 * math.pi)
    diffusivity: float = 0.01
    ratio: str = "measured"
    forcing: GaussianForcing = field(default_factory=GaussianForcing)

    name: ClassVar[str] = "advection_diffusion"
    title: ClassVar[str] = "Advection–diffusion"
    equation: ClassVar[str] = "-div(K grad u) + v.grad u = f on a periodic box, mean(f) = mean(u) = 0"
    zero_mean: ClassVar[bool] = True
    signature: ClassVar[Signature] = Signature(
        inputs=("forcing",),
        coefficients=(*_DIFFUSION, *_VELOCITY),
        outputs=("solution",),
    )
    homogeneities: ClassVar[tuple[Homogeneity, ...]] = (
        Homogeneity((("forcing", 1), ("solution", 1)), gauge=("forcing",), measure="rms"),
        Homogeneity(
            _OPERATOR_SCALING,
            gauge=(),
            measure="sum",
            parts=(
                Homogeneity(_OPERATOR_SCALING, gauge=_DIFFUSION, measure="geometric_mean"),
                Homogeneity(_OPERATOR_SCALING, gauge=_VELOCITY, measure="transport"),
            ),
        ),
    )

    terms: ClassVar[tuple[Term, ...]] = (
        Term("derivative_xx", ("solution",), of="solution", coefficient="diffusion_xx"),
        Term("derivative_yy", ("solution",), of="solution", coefficient="diffusion_yy"),
        Term("derivative_xy", ("solution",), of="solution", coefficient="diffusion_xy", factor=2.0),
        Term("derivative_x", ("solution",), of="solution", coefficient="velocity_x", factor=-1.0),
        Term("derivative_y", ("solution",), of="solution", coefficient="velocity_y", factor=-1.0),
        Term("value", ("forcing",), of="solution"),
    )

    def __post_init__(self) -> None:
        for name in _KNOBS:
            object.__setattr__(self, name, Knob.parse(getattr(self, name)))
        require_knob(self.name, "anisotropy", self.anisotropy, 1, "it is the larger eigenvalue over the smaller one")
        if self.advection_diffusion_ratio.low <= 0:
            raise ConfigError(
                f"Knob 'advection_diffusion_ratio' of '{self.name}' needs low > 0 (without advection use 'poisson'); "
                f"got low={self.advection_diffusion_ratio.low:g}."
            )
        if self.ratio not in _RATIO_MODES:
            raise ConfigError(f"The ratio of '{self.name}': {suggest(str(self.ratio), _RATIO_MODES)}")
        if not 0 < self.diffusivity < math.inf:
            raise ConfigError(f"'{self.name}' needs a positive finite diffusivity; got {self.diffusivity}.")

    def measured_ratio(self, batch: Batch) -> Tensor:
        """Return ‖v·∇u‖₂ / ‖∇·(K∇u)‖₂ measured on the batch's solution, ``(batch,)``, in the batch's precision.

        Raises:
            SignatureError: if the batch is not one of this system or has no targets.
        """
        self.require_ours(batch)
        solution = self._solution(batch)[:, 0]
        along_y, along_x = gradient(solution, batch.grid)
        velocity_x, velocity_y = (batch.coefficient(name)[:, None, None] for name in ("velocity_x", "velocity_y"))
        diffusion = {name: batch.coefficient(name) for name in ("diffusion_xx", "diffusion_yy", "diffusion_xy")}
        advected = l2_norm(velocity_x * along_x + velocity_y * along_y, batch.grid)
        return advected / l2_norm(diffusion_operator(solution, batch.grid, **diffusion), batch.grid)

    def measured_knobs(self, batch: Batch) -> dict[str, Tensor]:
        """Return all four knobs as `System.measured_knobs` does, ``(batch,)`` float64 each.

        With ratio = "calibrated" a sample has the ratio it was drawn for on average only, so some lie out of the range.
        """
        batch = batch.to(dtype=torch.float64)
        direction = torch.atan2(batch.coefficient("velocity_y"), batch.coefficient("velocity_x"))
        return {
            "advection_diffusion_ratio": self.measured_ratio(batch),
            **measured_diffusion(batch, self.angle),
            "direction": nearest_turn(direction, 2 * math.pi, self.direction),
        }

    def symbol_basis(self, wave_y: Tensor, wave_x: Tensor) -> tuple[Tensor, Tensor | None]:
        return diffusion_basis(wave_y, wave_x), torch.stack([wave_x, wave_y])

    def coefficients_for(self, drawn: dict[str, Tensor], spectrum: Spectrum, grid: Grid) -> Tensor:
        tensor, velocity = self.unscaled(drawn)
        target = drawn["advection_diffusion_ratio"]
        if self.ratio == "measured":
            power = spectrum.power()
            speed = meet_ratio(target, power, _balance(self, tensor, velocity, spectrum, power.dtype))
        else:
            speed = _calibration(self, grid.extent, str(target.device)).speed(target)
        share = (speed / (1 + speed))[:, None]
        return torch.cat([(1 - share) * tensor, share * velocity], 1)

    def unscaled(self, drawn: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return K ``(batch, 3)`` and the unit velocity ``(batch, 2)`` before the factors 1 − λ and λ."""
        velocity = torch.stack([drawn["direction"].cos(), drawn["direction"].sin()], 1)
        return diffusion_tensor(drawn["anisotropy"], drawn["angle"], self.diffusivity), velocity


def _balance(
    system: AdvectionDiffusion, tensor: Tensor, velocity: Tensor, spectrum: Spectrum, dtype: torch.dtype
) -> Tensor:
    """Return (a/D)² of each mode, ``(batch, modes)``; 0 for the mean, which takes no part."""
    even, odd = system.symbol_basis(spectrum.wave_y, spectrum.wave_x)
    assert odd is not None
    diffusion = tensor.to(dtype) @ even.to(dtype)
    advection = velocity.to(dtype) @ odd.to(dtype)
    mean = (spectrum.wave_x == 0) & (spectrum.wave_y == 0)
    return advection.div_(diffusion.masked_fill_(mean, 1.0)).square_()


@lru_cache(maxsize=8)
def _calibration(system: AdvectionDiffusion, extent: tuple[float, ...], device: str) -> RatioCurve:
    """Measure the mean ratio at each speed on problems of this system, always the same ones."""
    generator = generator_for(0, "advection_diffusion", "calibration")
    num, grid = _NUM_CALIBRATION_PROBLEMS, Grid((64, 64), extent, (True, True))
    sparsities = system.forcing.draw_sparsities(num, generator, None)
    field_values = system.forcing.raw(system.forcing.draw_amplitudes(sparsities, generator), grid)
    spectrum = spectrum_on_grid(torch.fft.rfft2(field_values), grid)
    power = spectrum.power()
    tensor, velocity = system.unscaled(system.draw(num, generator, None))
    curve = RatioCurve.run(power, _balance(system, tensor, velocity, spectrum, power.dtype))
    return RatioCurve(curve.log_speed.to(device), curve.log_ratio.to(device))
