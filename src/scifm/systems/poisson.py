"""Poisson: anisotropic steady diffusion on a periodic box.

Equation
    −∇·(K∇u) = f,    K = 0.01 · Rᵀ diag(1, anisotropy) R,   R the rotation by `angle`;
    written out: −(K_xx u_xx + 2 K_xy u_xy + K_yy u_yy) = f.

Sign convention
    f > 0 is a source: u has its maxima where f is large.

Domain and boundary
    Rectangle [0, L_x) × [0, L_y), periodic. f has zero mean (else no solution exists); u is fixed by having zero mean.

Fields (x runs along the last axis)
    forcing    f   [U/T]   (batch, 1, ny, nx)   also called source
    solution   u   [U]     (batch, 1, ny, nx)

Coefficients (constant in space, one number a sample, every scale factor included)
    diffusion_xx   K_xx   [L²/T]   0.01 … 0.01·anisotropy
    diffusion_yy   K_yy   [L²/T]   0.01 … 0.01·anisotropy
    diffusion_xy   K_xy   [L²/T]   at most 0.005·(anisotropy − 1) in size

Knobs
    anisotropy   λmax/λmin of K, at least 1; 1–5 to pre-train in the reference paper, 5–10 and 10–20 downstream
    angle        [rad], 0–2π

Dimensionless groups
    anisotropy; the width of the forcing over the side, 1/32. The size of K only scales u (see `homogeneities`).

Exact solution
    f = (K_xx p² + 2 K_xy p q + K_yy q²) cos(p x + q y) gives u = cos(p x + q y), p and q multiples of 2π over a side.

Solver and order
    û = f̂ / (k·Kk), û(0) = 0: spectral, exact for every field the grid can hold (`solvers.elliptic` says how the Nyquist
    wavenumber is treated).

Good values
    64² points resolve the forcing to 3e-9, 128² to round-off except for the cut at the edge of the box.

Where it breaks
    A forcing with a mean (rejected by `solve`), anisotropies beyond about 1e6 in float32, grids below 8 points.

References:
    Subramanian et al., "Towards Foundation Models for Scientific Machine Learning: Characterizing Scaling and Transfer
    Behavior", NeurIPS 2023, arXiv:2306.00258.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from scifm.errors import ConfigError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.term import Term
from scifm.systems.coefficients import diffusion_basis, diffusion_tensor, measured_diffusion, require_knob
from scifm.systems.forcing import GaussianForcing
from scifm.systems.knobs import Knob
from scifm.systems.periodic_elliptic import PeriodicElliptic, Spectrum

__all__ = ["Poisson"]


@dataclass(frozen=True)
class Poisson(PeriodicElliptic):
    """−∇·(K∇u) = f with K = diffusivity · Rᵀ diag(1, anisotropy) R; the module has the full description.

    Args:
        anisotropy: knob, ratio of the eigenvalues of K.
        angle: knob, direction of K [rad].
        diffusivity: smaller eigenvalue of K.
        forcing: how f is drawn.

    Raises:
        ConfigError: if anisotropy can be below 1 or the diffusivity is not positive.
    """

    anisotropy: Knob = Knob(1, 5)
    angle: Knob = Knob(0, 2 * math.pi)
    diffusivity: float = 0.01
    forcing: GaussianForcing = field(default_factory=GaussianForcing)

    name: ClassVar[str] = "poisson"
    equation: ClassVar[str] = "-div(K grad u) = f on a periodic box, mean(f) = mean(u) = 0"
    zero_mean: ClassVar[bool] = True
    signature: ClassVar[Signature] = Signature(
        inputs=("forcing",), coefficients=("diffusion_xx", "diffusion_yy", "diffusion_xy"), outputs=("solution",)
    )
    homogeneities: ClassVar[tuple[Homogeneity, ...]] = (
        Homogeneity((("forcing", 1), ("solution", 1)), gauge=("forcing",), measure="rms"),
        Homogeneity(
            (("diffusion_xx", 1), ("diffusion_yy", 1), ("diffusion_xy", 1), ("solution", -1)),
            gauge=("diffusion_xx", "diffusion_yy", "diffusion_xy"),
            measure="geometric_mean",
        ),
    )
    terms: ClassVar[tuple[Term, ...]] = (
        Term("derivative_xx", ("solution",), of="solution", coefficient="diffusion_xx"),
        Term("derivative_yy", ("solution",), of="solution", coefficient="diffusion_yy"),
        Term("derivative_xy", ("solution",), of="solution", coefficient="diffusion_xy", factor=2.0),
        Term("value", ("forcing",), of="solution"),
    )

    def __post_init__(self) -> None:
        for name in ("anisotropy", "angle"):
            object.__setattr__(self, name, Knob.parse(getattr(self, name)))
        require_knob(self.name, "anisotropy", self.anisotropy, 1, "it is the larger eigenvalue over the smaller one")
        if not 0 < self.diffusivity < math.inf:
            raise ConfigError(f"'{self.name}' needs a positive finite diffusivity; got {self.diffusivity}.")

    def measured_knobs(self, batch: Batch) -> dict[str, Tensor]:
        self.require_ours(batch)
        return measured_diffusion(batch, self.angle)

    def symbol_basis(self, wave_y: Tensor, wave_x: Tensor) -> tuple[Tensor, Tensor | None]:
        return diffusion_basis(wave_y, wave_x), None

    def coefficients_for(self, drawn: dict[str, Tensor], spectrum: Spectrum, grid: Grid) -> Tensor:
        return diffusion_tensor(drawn["anisotropy"], drawn["angle"], self.diffusivity)
