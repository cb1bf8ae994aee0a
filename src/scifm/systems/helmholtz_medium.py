"""Helmholtz in a medium: waves of one frequency from a source, in a medium whose index differs from place to place.

Equation
    −Δu − k²(1 + q(x))u = f, u complex: the amplitude of waves u exp(−iωt), k = ω/c₀. In the layers at the ends of both
    axes ∂ᵢ is (1/sᵢ)∂ᵢ, sᵢ = 1 + i aᵢ(xᵢ)/k, so that waves leave and nothing comes back.

Sign convention
    f > 0 is a source. Waves go outwards: in the open u = (i/4) H₀⁽¹⁾(kr) for f = δ. q > 0: waves are slower there.

Domain and boundary
    A rectangle [0, L_x) × [0, L_y) with absorbing layers of the thickness absorbing_layer inside of it; aᵢ rises as the
    square of the way into a layer, and a wave that goes through the two layers of an axis keeps 1e-4 of its amplitude.
    The medium is that of the open, q = 0, in the layers, and rises to what it is within 0.1 of their ends.

Fields (x runs along the last axis)
    forcing              f      [U/L²]  (batch, 1, ny, nx)   real
    contrast             q      [1]     the same             above −1; 1 + q is the square of the index of refraction
    solution_real        Re u   [U]     the same
    solution_imaginary   Im u   [U]     the same

Coefficients (constant in space, one number a sample)
    wavenumber           k      [1/L]   of the open

Knobs
    wavenumber           6–25: 1 to 4 waves across the unit box
    strength             [1], 0.05–0.25: standard deviation of log (1 + q), where the medium is not tapered
    correlation_length   ℓ [L], 0.15–0.3: over which q changes, see `scifm.systems.media.RandomMedium`
    source_width         w [L], 0.03–0.05: of the one source, a Gaussian of height 1 at a place outside of the layers

Dimensionless groups
    kL; kℓ; the phase that a wave gains or loses in the medium, about kL·strength/2.

Exact solution
    With q = 0 and a small source ∫f (i/4) H₀⁽¹⁾(kr), Hankel's function.

Solver and order
    Staggered differences of order 4 and a sparse factorization (`solvers.scattering`), differentiable by the adjoint.

Good values
    10 points a wave and more: 48 points a side for k = 25. A layer of half a wave.

Where it breaks
    Few points a wave: phases drift, by 7e-4 of the way at 10 points a wave. Layers much thinner than a wave reflect.
    Factorizations are made on the CPU; 128² points take a few tenths of a second each.

References:
    Berenger, J. Comput. Phys. 114 (1994) 185; Chew and Weedon, Microw. Opt. Technol. Lett. 7 (1994) 599; Colton and
    Kress, Inverse Acoustic and Electromagnetic Scattering Theory, 3rd ed. (sign, radiation condition).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from scifm.errors import ConfigError, DataError, SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.spectral import require_periodic
from scifm.systems.coefficients import require_knob
from scifm.systems.knobs import Knob
from scifm.systems.media import RandomMedium
from scifm.systems.solvers.scattering import apply_waves, solve_waves, stretched_lines
from scifm.systems.system import SamplingRecord, System

__all__ = ["HelmholtzMedium"]

_KEPT = 1e-4  # of the amplitude of a wave that goes through the layers on both sides of an axis
_TAPER = 0.1  # over which the medium rises from that of the open, from the end of the layers on
_KNOBS = ("wavenumber", "strength", "correlation_length", "source_width")
_AT_ONCE = 16  # samples solved together, for the memory of their operators


@dataclass(frozen=True)
class HelmholtzMedium(System):
    """−Δu − k²(1 + q(x))u = f with layers that absorb; the module has the full description.

    Args:
        wavenumber: knob, k [1/L].
        strength: knob, standard deviation of log (1 + q).
        correlation_length: knob, ℓ [L].
        source_width: knob, w [L].
        medium: how q differs from place to place.
        absorbing_layer: thickness of the layers at both ends of both axes [L].

    Raises:
        ConfigError: if a knob can take a value that makes no sense, or an option is out of its range.
    """

    wavenumber: Knob = Knob(6, 25)
    strength: Knob = Knob(0.05, 0.25)
    correlation_length: Knob = Knob(0.15, 0.3)
    source_width: Knob = Knob(0.03, 0.05)
    medium: RandomMedium = field(default_factory=RandomMedium)
    absorbing_layer: float = 0.15

    name: ClassVar[str] = "helmholtz_medium"
    title: ClassVar[str] = "Helmholtz in a medium"
    equation: ClassVar[str] = "-lap u - k^2 (1 + q(x)) u = f, u complex, with absorbing layers"
    signature: ClassVar[Signature] = Signature(
        inputs=("forcing", "contrast"),
        coefficients=("wavenumber",),
        outputs=("solution_real", "solution_imaginary"),
    )
    homogeneities: ClassVar[tuple[Homogeneity, ...]] = (
        Homogeneity(
            (("forcing", 1), ("solution_real", 1), ("solution_imaginary", 1)), gauge=("forcing",), measure="rms"
        ),
    )

    def __post_init__(self) -> None:
        for name in _KNOBS:
            object.__setattr__(self, name, Knob.parse(getattr(self, name)))
            if name != "strength" and getattr(self, name).low <= 0:
                raise ConfigError(f"Knob '{name}' of '{self.name}' needs low > 0; got low={getattr(self, name).low:g}.")
        require_knob(self.name, "strength", self.strength, 0, "it is a standard deviation")
        if not 0 < self.absorbing_layer < math.inf:
            raise ConfigError(f"'{self.name}' needs absorbing_layer > 0, a thickness; got {self.absorbing_layer}.")

    def require_grid(self, grid: Grid) -> None:
        super().require_grid(grid)
        require_periodic(grid)
        if not 2 * (self.absorbing_layer + _TAPER) < min(grid.extent):
            raise SignatureError(
                f"Two absorbing layers of {self.absorbing_layer:g} and a passage of {_TAPER:g} to each leave nothing "
                f"of a box with sides {grid.extent}; give a larger box, or a smaller absorbing_layer."
            )

    @torch.no_grad()
    def sample(
        self,
        num_samples: int,
        grid: Grid,
        generator: torch.Generator | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: Any = None,
        record: SamplingRecord | None = None,
    ) -> Batch:
        if record is not None:
            record.drawn += num_samples
        return self.solve(self.sample_inputs(num_samples, grid, generator, dtype=dtype, device=device))

    @torch.no_grad()
    def sample_inputs(
        self,
        num_samples: int,
        grid: Grid,
        generator: torch.Generator | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: Any = None,
    ) -> Batch:
        home, device = self.require_sampling(num_samples, grid, generator, dtype, device)
        drawn = {n: k.draw(num_samples, generator, dtype=torch.float64, device=home) for n, k in self.knobs.items()}
        shape = self.medium.draw(drawn["correlation_length"], grid, generator)
        contrast = self.contrast_of(drawn["strength"][:, None, None] * shape, grid)
        place = torch.rand(num_samples, 2, generator=generator, dtype=torch.float64, device=home)
        sides = torch.tensor(grid.extent, dtype=torch.float64, device=home)
        place = self.absorbing_layer + (sides - 2 * self.absorbing_layer) * place
        squares = [
            ((points - place[:, axis, None]) / drawn["source_width"][:, None]).square()
            for axis, points in enumerate(grid.coordinates(device=home))
        ]
        forcing = torch.exp(-0.5 * (squares[0][:, :, None] + squares[1][:, None, :]))
        return Batch(
            signature=self.signature,
            grid=grid,
            inputs=torch.stack([forcing, contrast], dim=1)[:, None].to(device=device, dtype=dtype),
            coefficients=drawn["wavenumber"][:, None].to(device=device, dtype=dtype),
            systems=(self.name,) * num_samples,
        )

    def contrast_of(self, logarithm: Float[Tensor, "batch y x"], grid: Grid) -> Float[Tensor, "batch y x"]:
        """Return q of a medium with this log (1 + q), tapered so that the layers are in the open; differentiable."""
        return torch.expm1(self.taper(grid, like=logarithm) * logarithm)

    def taper(self, grid: Grid, *, like: Tensor) -> Float[Tensor, "y x"]:
        """Return which part of a medium there is, ``(ny, nx)``: 0 in the layers, 1 from a little way inside of them."""
        lines = []
        for points, side in zip(grid.coordinates(dtype=like.dtype, device=like.device), grid.extent, strict=True):
            way = ((torch.minimum(points, side - points) - self.absorbing_layer) / _TAPER).clamp(0, 1)
            lines.append(0.5 - 0.5 * torch.cos(math.pi * way))
        return lines[0][:, None] * lines[1]

    def solve(self, batch: Batch) -> Batch:
        """Return the batch with targets; differentiable with respect to its forcing, contrast and wavenumber.

        Raises:
            SignatureError: if the batch is not one of this system.
            DataError: if a contrast is not above −1 and finite, or a wavenumber not positive.
        """
        self.require_ours(batch)
        parts = []
        for start in range(0, len(batch), _AT_ONCE):
            rows = slice(start, start + _AT_ONCE)
            forcing, medium, wavenumber = (own[rows] for own in self._equation(batch))
            parts.append(solve_waves(forcing, medium, self._lines(wavenumber, batch.grid)))
        solution = torch.cat(parts)
        fields = torch.stack([solution.real, solution.imag], dim=1)[:, None]
        return batch.with_targets(fields.to(batch.inputs.dtype))

    def residual(self, batch: Batch) -> Float[Tensor, "batch time output y x"]:
        missed, _, _ = self._missed(batch)
        return torch.stack([missed.real, missed.imag], dim=1)[:, None].to(batch.inputs.dtype)

    @torch.no_grad()
    def invariants(self, batch: Batch) -> dict[str, Float[Tensor, " batch"]]:
        """Return the balances of `System.invariants`; for every exact solution they are zero to round-off.

        * ``work_balance``: Re mean(ū(Au − f)) / mean|uf|, A the left side of the equation.
        * ``flux_balance``: its imaginary part: what the source gives off leaves through the layers.
        """
        missed, solution, forcing = self._missed(batch.to(dtype=torch.float64))
        mean, size = (solution.conj() * missed).mean((1, 2)), (solution * forcing).abs().mean((1, 2))
        return {"work_balance": mean.real / size, "flux_balance": mean.imag / size}

    def measured_knobs(self, batch: Batch) -> dict[str, Tensor]:
        self.require_ours(batch)
        return {"wavenumber": batch.coefficient("wavenumber").to(torch.float64)}

    def _equation(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return f, k²(1 + q) and k in float64."""
        forcing, contrast = (batch.field(name)[:, 0].double() for name in ("forcing", "contrast"))
        wavenumber = batch.coefficient("wavenumber").double()
        if not bool((contrast > -1).all()) or not bool((wavenumber > 0).all()):
            raise DataError(
                "A 'contrast' is above -1 everywhere and a 'wavenumber' is positive; the given ones are not."
            )
        return forcing, wavenumber.square()[:, None, None] * (1 + contrast), wavenumber

    def _missed(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return Au − f, u and f."""
        self.require_ours(batch)
        batch.require_targets()
        parts = [batch.target(name)[:, 0].double() for name in self.signature.outputs]
        solution = torch.complex(parts[0], parts[1])
        forcing, medium, wavenumber = self._equation(batch)
        return apply_waves(solution, medium, self._lines(wavenumber, batch.grid)) - forcing, solution, forcing

    def _lines(self, wavenumber: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        highest = -1.5 * math.log(_KEPT) / self.absorbing_layer  # for the square of the way, over two layers

        def absorption(places: Tensor, side: float) -> Tensor:
            way = (1 - torch.minimum(places, side - places) / self.absorbing_layer).clamp(min=0)
            return highest * way.square()

        return stretched_lines(wavenumber, grid, absorption)
