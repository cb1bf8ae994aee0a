"""Helmholtz: diffusion with a zeroth-order term, in the two signs that go by this name in the reference paper.

Equation
    sign = "code"     −D Δu − ωu = f    what the reference's published generator solves; indefinite; the default
    sign = "slides"   −D Δu + ωu = f    what its slides print; positive definite

    Divided by D the first is Δu + k²u = −f/D with the wavenumber k = (ω/D)^½: ω = `wavenumber_shift` is **not** a
    wavenumber. For D = 0.01 and ω = 1 … 10, k = 10 … 32, that is 1.6 to 5 waves across the unit box.

Sign convention
    f > 0 is a source of the diffusion part. The forcing keeps its mean; u(mean) = ∓ f(mean)/ω.

Domain and boundary
    Rectangle [0, L_x) × [0, L_y), periodic.

Fields (x runs along the last axis)
    forcing    f   [U/T]   (batch, 1, ny, nx)   between 0 and 1
    solution   u   [U]     (batch, 1, ny, nx)

Coefficients (constant in space, one number a sample)
    diffusivity        D   [L²/T]   0.01
    wavenumber_shift   ω   [1/T]    1 … 10

Knobs
    wavenumber_shift   positive; whole numbers 1–10 to pre-train (``Knob(1, 10, integer=True)``), real ones with
                       ``Knob(1, 10)``

Dimensionless groups
    ω L²/D; how near ω is to a resonance D|k|². Only ω/D matters but for the size of u (see `homogeneities`).

Exact solution
    f = (D(p² + q²) ∓ ω) cos(p x + q y) gives u = cos(p x + q y) for p, q multiples of 2π over the sides.

Solver and order
    û = f̂ / (D|k|² ∓ ω): spectral, exact for every field the grid can hold.

Good values
    D = 0.01 and whole ω on the unit box keep every mode at least 1.3 % of ω away from resonance.

Where it breaks
    * Resonance (sign "code"): at ω = D|k|² for a wave of the box a solution exists only if f holds nothing of that
      wave. The reference then removes the wave from f, which changes the forcing of just those samples. Here a draw
      with |D|k|² − ω| < 1e-3 ω for some wave is rejected and drawn again: whole ω on the unit box never come that
      close, so the reference's data are unchanged, and for real ω most such draws would fail the next rule anyway.
      `solve` raises a `DataError` if a given forcing drives an exactly resonant wave.
    * Large solutions: samples with max|u| > `max_solution` = 2 are rejected and drawn again, ω and amplitudes both, as
      in the reference. That biases the data: near-resonant ω become rarer and forcings with little power in the
      resonant wave more frequent. With the default knob 15 % of the draws are rejected: nearly all at ω = 2 (1.3 % from
      the waves with |k|² = 5 (2π)²) and two in three at ω = 4, so the kept data hold almost no ω = 2. A knob fixed at 2
      ends in a `DataError`. The `SamplingRecord` counts rejections and the card must quote them.

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
from scifm.fields.spectral import wavenumbers
from scifm.fields.term import Term
from scifm.systems.forcing import GaussianForcing
from scifm.systems.knobs import Knob
from scifm.systems.periodic_elliptic import PeriodicElliptic, Spectrum

__all__ = ["Helmholtz"]

_SIGNS = {"code": -1.0, "slides": 1.0}
_RESONANCE_GAP = 1e-3


@dataclass(frozen=True)
class Helmholtz(PeriodicElliptic):
    """−DΔu ∓ ωu = f; the module has the full description.

    Args:
        wavenumber_shift: knob, ω > 0.
        diffusivity: D.
        sign: "code" for −DΔu − ωu = f, "slides" for −DΔu + ωu = f.
        max_solution: samples with a larger max|u| are drawn again; ``math.inf`` keeps all.
        forcing: how f is drawn.

    Raises:
        ConfigError: if ω can be 0 or negative, or an option is not valid.
    """

    wavenumber_shift: Knob = Knob(1, 10, integer=True)
    diffusivity: float = 0.01
    sign: str = "code"
    max_solution: float = 2.0
    forcing: GaussianForcing = field(default_factory=GaussianForcing)

    name: ClassVar[str] = "helmholtz"
    equation: ClassVar[str] = "-D lap u - w u = f (sign 'code') or -D lap u + w u = f (sign 'slides'), periodic box"
    zero_mean: ClassVar[bool] = False
    signature: ClassVar[Signature] = Signature(
        inputs=("forcing",), coefficients=("diffusivity", "wavenumber_shift"), outputs=("solution",)
    )
    homogeneities: ClassVar[tuple[Homogeneity, ...]] = (
        Homogeneity((("forcing", 1), ("solution", 1)), gauge=("forcing",), measure="rms"),
        Homogeneity(
            (("diffusivity", 1), ("wavenumber_shift", 1), ("solution", -1)), gauge=("diffusivity",), measure="value"
        ),
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "wavenumber_shift", Knob.parse(self.wavenumber_shift))
        if self.wavenumber_shift.low <= 0:
            raise ConfigError(
                f"Knob 'wavenumber_shift' of '{self.name}' needs low > 0 (at 0 a forcing with a mean has no solution); "
                f"got low={self.wavenumber_shift.low:g}."
            )
        if self.sign not in _SIGNS:
            raise ConfigError(f"The sign of '{self.name}': {suggest(str(self.sign), _SIGNS)}")
        if not 0 < self.diffusivity < math.inf:
            raise ConfigError(f"'{self.name}' needs a positive finite diffusivity; got {self.diffusivity}.")
        if not self.max_solution > 0:
            raise ConfigError(f"'{self.name}' needs max_solution > 0 (inf keeps all); got {self.max_solution}.")

    @property
    def terms(self) -> tuple[Term, ...]:  # type: ignore[override]
        """As the option `sign` says."""
        return (
            Term("laplacian", ("solution",), of="solution", coefficient="diffusivity"),
            Term("value", ("solution",), of="solution", coefficient="wavenumber_shift", factor=-_SIGNS[self.sign]),
            Term("value", ("forcing",), of="solution"),
        )

    def measured_knobs(self, batch: Batch) -> dict[str, Tensor]:
        self.require_ours(batch)
        return {"wavenumber_shift": batch.coefficient("wavenumber_shift").to(torch.float64)}

    def symbol_basis(self, wave_y: Tensor, wave_x: Tensor) -> tuple[Tensor, Tensor | None]:
        square = wave_x * wave_x + wave_y * wave_y
        return torch.stack([square, torch.full_like(square, _SIGNS[self.sign])]), None

    def coefficients_for(self, drawn: dict[str, Tensor], spectrum: Spectrum, grid: Grid) -> Tensor:
        shift = drawn["wavenumber_shift"]
        return torch.stack([torch.full_like(shift, self.diffusivity), shift], 1)

    def grows_beyond(self, wave: float) -> bool:
        return self.diffusivity * wave**2 >= 4 * self.wavenumber_shift.high

    def acceptable(self, coefficients: Tensor, solution: Tensor, grid: Grid) -> Tensor | None:
        accepted = torch.ones(len(solution), dtype=torch.bool, device=solution.device)
        if self.max_solution < math.inf:
            accepted &= (solution.amax((1, 2)) <= self.max_solution) & (solution.amin((1, 2)) >= -self.max_solution)
        if self.sign == "code":
            accepted &= ~self._resonant(coefficients.to(torch.float64), grid)
        return accepted

    def _resonant(self, coefficients: Tensor, grid: Grid) -> Tensor:
        diffusivity, shift = coefficients.T[:, :, None]
        squares = _squares(grid, 2 * self.wavenumber_shift.high / self.diffusivity, str(coefficients.device))
        gap = (diffusivity * squares - shift).abs()
        return gap.amin(1) < _RESONANCE_GAP * shift[:, 0]


@lru_cache(maxsize=16)
def _squares(grid: Grid, largest: float, device: str) -> Tensor:
    """Return the distinct |k|² of the box up to `largest`, ``(num,)`` float64."""
    wave_y, wave_x = wavenumbers(grid)
    squares = (wave_y**2 + wave_x**2).unique()
    return squares[squares <= largest].to(device)
