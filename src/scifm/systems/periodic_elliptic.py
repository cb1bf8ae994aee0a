"""What the three equations of the reference paper share: linear, steady, constant coefficients, periodic box.

A subclass gives its symbol (`symbol_basis`), its coefficients (`coefficients_for`) and, where it must, a rule for
throwing samples away (`acceptable`). Sampling, solving, residuals and balances follow from these.

Precision. `solve` and `sample` form the symbol in float64; all else runs in the precision of the batch. In float32 a
solution then differs from the float64 solution of the same problem by at most 4e-7 of its norm
(tests/systems/test_periodic_elliptic.py), while sampling is several times faster. Balances are evaluated in float64.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from scifm.errors import DataError, SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.spectral import require_periodic, wavenumbers
from scifm.systems.forcing import GaussianForcing, samples_at_once
from scifm.systems.solvers.elliptic import (
    apply_operator,
    divide,
    inverse_symbol,
    multiply,
    singular_threshold,
    solve_field,
    symbol,
)
from scifm.systems.solvers.low_modes import LowModes, low_modes
from scifm.systems.system import SamplingRecord, System

__all__ = ["PeriodicElliptic", "Spectrum", "spectrum_on_grid"]

_DRAW_BLOCK = 1024  # problems drawn at once; fixed, so that drawn numbers depend on nothing but the seed
_MAX_ROUNDS = 1000  # rounds of redrawing rejected samples before giving up
_CHUNK_POINTS = {"cpu": 2**21}  # grid points of the samples whose spectra are worked on at once
_CHUNK_POINTS_ELSEWHERE = 2**26


@dataclass(frozen=True)
class Spectrum:
    """Forcings in Fourier space, for systems whose coefficients depend on them.

    Args:
        wave_y: ``(modes,)`` float64.
        wave_x: ``(modes,)`` float64.
        power: makes ``(batch, modes)``, the power of each mode up to one factor a sample; the mean has none. Modes
            that together hold less than 1e-6 of the power may be left out.
    """

    wave_y: Tensor
    wave_x: Tensor
    power: Callable[[], Tensor]


def _empty(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return memory to write samples to.

    On a CPU it is NumPy's: for large arrays NumPy asks Linux for huge pages and torch does not, and taking fresh memory
    in small pages costs as much as computing the samples (measured: 25 against 3 microseconds a field of 128²).
    Forcings and solutions share one array because the C library keeps freed memory up to twice its largest block.
    """
    if device.type != "cpu":
        return torch.empty(shape, dtype=dtype, device=device)
    return torch.from_numpy(np.empty(shape, np.float32 if dtype == torch.float32 else np.float64))


def spectrum_on_grid(spectrum: Tensor, grid: Grid) -> Spectrum:
    """Return the power of forcings given by their half-spectra ``(batch, ny, nx // 2 + 1)``."""

    def power() -> Tensor:
        counted = torch.full((spectrum.shape[-1],), 2.0, dtype=spectrum.real.dtype, device=spectrum.device)
        counted[0] = 1.0
        if grid.num_points[1] % 2 == 0:
            counted[-1] = 1.0
        made = (spectrum.real**2 + spectrum.imag**2) * counted
        made[:, 0, 0] = 0.0
        return made.flatten(1)

    wave_y, wave_x = torch.broadcast_tensors(*wavenumbers(grid, device=spectrum.device))
    return Spectrum(wave_y.flatten(), wave_x.flatten(), power)


class PeriodicElliptic(System):
    """A steady linear equation with constant coefficients on a periodic rectangle, driven by `GaussianForcing`."""

    signature: ClassVar[Signature]
    zero_mean: ClassVar[bool]
    """Whether the operator maps constants to zero, so that f and u have zero mean."""
    forcing: GaussianForcing

    @abc.abstractmethod
    def symbol_basis(self, wave_y: Tensor, wave_x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return even and odd part of the symbol for a unit of each coefficient; see `solvers.elliptic.SymbolBasis`."""

    @abc.abstractmethod
    def coefficients_for(self, drawn: dict[str, Tensor], spectrum: Spectrum, grid: Grid) -> Tensor:
        """Return ``(batch, num_coefficients)`` float64 in the order of the signature."""

    def draw(self, num_samples: int, generator: torch.Generator | None, device: Any) -> dict[str, Tensor]:
        """Return what is drawn for each sample beside the forcing, ``(num_samples,)`` float64 each: its knobs."""
        return {
            name: knob.draw(num_samples, generator, dtype=torch.float64, device=device)
            for name, knob in self.knobs.items()
        }

    def acceptable(self, coefficients: Tensor, solution: Tensor, grid: Grid) -> Tensor | None:
        """Return which samples are kept, ``(batch,)`` of bool, or None when all are."""
        return None

    def grows_beyond(self, wave: float) -> bool:
        """Return whether the symbol grows like k² from this wavenumber on, so that modes beyond it may be left out."""
        return True

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
        return self._sampled(num_samples, grid, generator, dtype, device, record or SamplingRecord(), solved=True)

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
        return self._sampled(num_samples, grid, generator, dtype, device, SamplingRecord(), solved=False)

    def _sampled(
        self,
        num_samples: int,
        grid: Grid,
        generator: torch.Generator | None,
        dtype: torch.dtype,
        device: Any,
        record: SamplingRecord,
        *,
        solved: bool,
    ) -> Batch:
        home, device = self.require_sampling(num_samples, grid, generator, dtype, device)
        self._require_room_for_forcing(grid)
        fields = _empty((2 if solved else 1, num_samples, 1, 1, *grid.num_points), dtype, device)
        coefficients = torch.empty(num_samples, len(self.signature.coefficients), dtype=dtype, device=device)
        for start in range(0, num_samples, _DRAW_BLOCK):
            rows = slice(start, min(start + _DRAW_BLOCK, num_samples))
            made = (fields[0][rows, 0, 0], coefficients[rows], *(each[rows, 0, 0] for each in fields[1:]))
            self._fill(made, grid, generator, home, record)
        return Batch(
            signature=self.signature,
            grid=grid,
            inputs=fields[0],
            coefficients=coefficients,
            targets=fields[1] if solved else None,
            systems=(self.name,) * num_samples,
        )

    def solve(self, batch: Batch) -> Batch:
        self.require_ours(batch)
        solution = solve_field(batch.field("forcing"), self._inverse(batch))
        return batch.with_targets(solution[:, :, None])

    def residual(self, batch: Batch) -> Float[Tensor, "batch time output y x"]:
        self.require_ours(batch)
        left = apply_operator(self._solution(batch), self._inverse(batch))
        return (left - batch.field("forcing"))[:, :, None]

    def pinned_residual(self, batch: Batch) -> Float[Tensor, "batch time output y x"]:
        """Return the residual; where the mean of u is left open and fixed to be zero, with the mean that u has.

        The mean counts as the wave of that size does on which the operator acts least.
        """
        missed = self.residual(batch)
        if not self.zero_mean:
            return missed
        real, imaginary = self._inverse(batch)
        size = real.abs() if imaginary is None else torch.hypot(real, imaginary)
        least = size.amax((1, 2)).reciprocal().to(missed).view(-1, 1, 1, 1, 1)
        return missed + least * self._solution(batch)[:, :, None].mean((-2, -1), keepdim=True)

    @torch.no_grad()
    def invariants(self, batch: Batch) -> dict[str, Float[Tensor, " batch"]]:
        """Return the balances of `System.invariants`; for every exact solution they are zero to round-off.

        * ``mean_balance``: mean(Lu − f) / rms(f): what goes in comes out.
        * ``energy_balance``: mean(u·Lu − u·f) / mean|u·f| with the even part of L only, since advection does no work.
        * ``mean_solution``: mean(u) / rms(u), where the solution is fixed by having zero mean.

        NaN where f (or u) is zero everywhere.
        """
        self.require_ours(batch)
        batch = batch.to(dtype=torch.float64)
        solution, forcing = self._solution(batch), batch.field("forcing")
        real = divide(*self._inverse(batch), 0.0)[0]
        image = torch.fft.irfft2(multiply(torch.fft.rfft2(solution), (real, None)), s=batch.grid.num_points)
        dims = (-3, -2, -1)
        work = solution * forcing
        balances = {
            "mean_balance": (image - forcing).mean(dims) / forcing.square().mean(dims).sqrt(),
            "energy_balance": (solution * image - work).mean(dims) / work.abs().mean(dims),
        }
        if self.zero_mean:
            balances["mean_solution"] = solution.mean(dims) / solution.square().mean(dims).sqrt()
        return balances

    def _inverse(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        names = self.signature.coefficients
        coefficients = torch.stack([batch.coefficient(name) for name in names], 1)
        return inverse_symbol(self.symbol_basis, coefficients.to(torch.float64), batch.grid)

    def _solution(self, batch: Batch) -> Tensor:
        batch.require_targets()
        return batch.field("solution")

    def require_grid(self, grid: Grid) -> None:
        super().require_grid(grid)
        require_periodic(grid)

    def _require_room_for_forcing(self, grid: Grid) -> None:
        if min(grid.num_points) * self.forcing.width < 0.25:
            raise SignatureError(
                f"The grid of {grid.num_points} points cannot hold Gaussians of width {self.forcing.width:g} of a "
                f"side; give at least {round(0.25 / self.forcing.width)} points an axis."
            )

    def _fill(
        self,
        made: tuple[Tensor, ...],
        grid: Grid,
        generator: torch.Generator | None,
        home: torch.device,
        record: SamplingRecord,
    ) -> None:
        """Write forcing, coefficients and solution of one block, drawing rejected samples again.

        Of two tensors alone forcing and coefficients are written; without a solution nothing is rejected.
        """
        sparsities = self.forcing.draw_sparsities(len(made[0]), generator, home)
        pending: Tensor | None = None
        for _ in range(_MAX_ROUNDS):
            amplitudes = self.forcing.draw_amplitudes(sparsities, generator)
            drawn = self.draw(len(sparsities), generator, home)
            target = made if pending is None else tuple(t.new_empty(len(sparsities), *t.shape[1:]) for t in made)
            accepted = self._make(amplitudes, drawn, grid, target)
            if pending is not None:
                for whole, part in zip(made, target, strict=True):
                    whole[pending] = part
            record.drawn += len(sparsities)
            if accepted is None or bool(accepted.all()):
                return
            bad = (~accepted).nonzero().squeeze(1)
            record.rejected += len(bad)
            pending = bad if pending is None else pending[bad]
            sparsities = sparsities[bad.to(home)]
        raise DataError(
            f"'{self.name}' rejected {len(sparsities)} of {len(made[0])} samples {_MAX_ROUNDS} times in a row with "
            f"knobs {self.told_knobs}. Widen the knobs or relax the rule that rejects."
        )

    def _make(
        self,
        amplitudes: Tensor,
        drawn: dict[str, Tensor],
        grid: Grid,
        made: tuple[Tensor, ...],
    ) -> Tensor | None:
        """Write the samples of these draws, a cache-sized chunk at a time; return which are acceptable."""
        dtype, device = made[0].dtype, made[0].device
        amplitudes = amplitudes.to(device=device, dtype=dtype)
        drawn = {name: values.to(device) for name, values in drawn.items()}
        modes = low_modes(self.forcing, grid, str(device)) if dtype == torch.float32 else None
        if modes is not None and not self.grows_beyond(modes.first_dropped_wave):
            modes = None
        budget = _CHUNK_POINTS.get(device.type, _CHUNK_POINTS_ELSEWHERE)
        chunk = max(1, budget // (grid.num_points[0] * grid.num_points[1]))
        accepted = []
        for start in range(0, len(amplitudes), chunk):
            rows = slice(start, start + chunk)
            part = {name: values[rows] for name, values in drawn.items()}
            out = tuple(tensor[rows] for tensor in made)
            scaled = self._write_forcing(amplitudes[rows], grid, out[0])
            if modes is None:
                self._solve_on_grid(part, grid, out)
            else:
                self._solve_in_modes(modes, scaled, part, grid, out)
            accepted.append(self.acceptable(out[1], out[2], grid) if len(out) == 3 else None)
        return None if accepted[0] is None else torch.cat([mask for mask in accepted if mask is not None])

    def _write_forcing(self, amplitudes: Tensor, grid: Grid, out: Tensor) -> Tensor:
        """Write f and return the amplitudes that it has after scaling to maximum 1."""
        scaled = torch.empty_like(amplitudes)
        along_y, along_x = (part.mean(0) for part in self.forcing.profiles(grid, dtype=out.dtype, device=out.device))
        block = samples_at_once(out)
        for start in range(0, len(out), block):
            rows = slice(start, start + block)
            values = self.forcing.raw(amplitudes[rows], grid, out=out[rows])
            scale = values.amax((1, 2)).reciprocal_()[:, None, None]
            values.mul_(scale)
            torch.mul(amplitudes[rows], scale, out=scaled[rows])
            if self.zero_mean:
                values.sub_(((scaled[rows] @ along_x) @ along_y)[:, None, None])
        return scaled

    def _solve_on_grid(self, drawn: dict[str, Tensor], grid: Grid, out: tuple[Tensor, ...]) -> None:
        forcing, coefficients, *solution = out
        spectrum = torch.fft.rfft2(forcing)
        if self.zero_mean:
            spectrum[:, 0, 0] = 0.0

        coefficients.copy_(self.coefficients_for(drawn, spectrum_on_grid(spectrum, grid), grid))
        if solution:
            inverse = inverse_symbol(self.symbol_basis, coefficients.to(torch.float64), grid)
            solution[0].copy_(torch.fft.irfft2(multiply(spectrum, inverse), s=grid.num_points))

    def _solve_in_modes(
        self, modes: LowModes, scaled: Tensor, drawn: dict[str, Tensor], grid: Grid, out: tuple[Tensor, ...]
    ) -> None:
        _, coefficients, *solution = out
        waves = modes.analyze(scaled)
        spectrum = Spectrum(*modes.strong_waves, lambda: modes.strong_power(waves))
        coefficients.copy_(self.coefficients_for(drawn, spectrum, grid))
        if not solution:
            return
        exact = coefficients.to(torch.float64)
        real, imaginary = symbol(self.symbol_basis, exact, modes.wave_y, modes.wave_x)
        # Only forming the symbol can cancel, so float64 ends here.
        threshold = singular_threshold(self.symbol_basis, exact)[..., None].float()
        factor = divide(real.float(), None if imaginary is None else imaginary.float(), threshold)
        modes.synthesize(modes.multiply(waves, factor), solution[0])
