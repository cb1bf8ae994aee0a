"""Spectral solution of linear equations with constant coefficients on a periodic box: û = f̂ / symbol.

The symbol of such an operator is what it multiplies exp(i k·x) by; it is linear in the equation's coefficients,

    symbol(k) = Σ_c coefficient_c · (even_c(k) + i · odd_c(k)),

so a system describes itself by one `SymbolBasis` and everything else (solving, residuals, balances) is written here
once. The method is exact for every field the grid can represent (spectral order).

Two cases are treated explicitly:

* **Singular modes.** Where the symbol is 0, or below 1e-12 of its value at k = 0, the equation says nothing about û and
  needs f̂ = 0. Such modes of u are set to 0 (a zero-mean solution for Poisson) and `solve_field` raises if f has more
  than 1e-5 of its root mean square in them.
* **The Nyquist wavenumber** N of an axis with an even number of points. The grid cannot tell +N from −N, and cross and
  advection terms differ between them. The mode is solved for both signs and averaged, which is what taking the real
  part of a complex transform does. The operator used for residuals is the exact inverse of that, the harmonic mean of
  the two symbols.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from scifm.errors import DataError
from scifm.fields.grid import Grid
from scifm.fields.spectral import wavenumbers

__all__ = [
    "Pair",
    "SymbolBasis",
    "apply_operator",
    "divide",
    "inverse_symbol",
    "multiply",
    "singular_threshold",
    "solve_field",
    "symbol",
]

SymbolBasis = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]
"""(wave_y, wave_x), both of one shape → (even, odd), each ``(coefficients, *shape)``: the even part belongs to the
first coefficients of the signature, the odd part to the last ones; odd is None when absent."""

Pair = tuple[Tensor, Tensor | None]
"""Real and imaginary part; None stands for an imaginary part that is zero everywhere."""

_SINGULAR = 1e-12
_FORCING_TOLERANCE = 1e-5


def symbol(basis: SymbolBasis, coefficients: Tensor, wave_y: Tensor, wave_x: Tensor) -> Pair:
    """Return the symbol at given wave vectors, real and imaginary part, each ``(batch, *modes)``.

    Args:
        basis: of the system.
        coefficients: ``(batch, num_coefficients)``.
        wave_y: ``(*modes)`` or broadcastable with `wave_x`; unit 1/length.
        wave_x: the same.
    """
    wave_y, wave_x = torch.broadcast_tensors(wave_y, wave_x)
    even, odd = basis(wave_y, wave_x)

    def combine(used: Tensor, part: Tensor) -> Tensor:
        return (used @ part.reshape(len(part), -1)).view(len(used), *wave_y.shape)

    real = combine(coefficients[:, : len(even)], even)
    return real, None if odd is None else combine(coefficients[:, -len(odd) :], odd)


def divide(real: Tensor, imaginary: Tensor | None, threshold: Tensor | float) -> Pair:
    """Return 1 / (real + i·imaginary), and 0 where its absolute value is not above `threshold`."""
    if imaginary is None:
        return real.masked_fill(real.abs() <= threshold, torch.inf).reciprocal_(), None
    square = (real * real).addcmul_(imaginary, imaginary)
    square.masked_fill_(square <= threshold * threshold, torch.inf)  # dividing by infinity leaves 0
    return real / square, imaginary.neg().div_(square)


def singular_threshold(basis: SymbolBasis, coefficients: Tensor) -> Tensor:
    """Return the size, ``(batch, 1, 1)``, at or below which a mode counts as singular."""
    zero = torch.zeros(1, 1, dtype=coefficients.dtype, device=coefficients.device)
    return symbol(basis, coefficients, zero, zero)[0].abs() * _SINGULAR


def inverse_symbol(basis: SymbolBasis, coefficients: Tensor, grid: Grid) -> Pair:
    """Return 1/symbol on the half-spectrum of a grid, each part ``(batch, ny, nx // 2 + 1)``, 0 in singular modes.

    Args:
        basis: of the system.
        coefficients: ``(batch, num_coefficients)``; computed in their precision, float64 is advised.
        grid: periodic, two axes.
    """
    (ny, nx), threshold = grid.num_points, singular_threshold(basis, coefficients)
    plus_y, plus_x = wavenumbers(grid, dtype=coefficients.dtype, device=coefficients.device)
    minus_y, minus_x = plus_y, plus_x
    if ny % 2 == 0:
        plus_y = plus_y.clone()
        plus_y[ny // 2] = plus_y[ny // 2].abs()
    if nx % 2 == 0:
        minus_x = plus_x.clone()
        minus_x[:, nx // 2] *= -1
    inverse = divide(*symbol(basis, coefficients, minus_y, minus_x), threshold)
    if coefficients.requires_grad:  # what a division answers is needed for its gradient, and written over below
        inverse = inverse[0].clone(), None if inverse[1] is None else inverse[1].clone()

    def average(row: slice, column: slice) -> None:
        other = divide(*symbol(basis, coefficients, plus_y[row], plus_x[:, column]), threshold)
        mine = divide(*symbol(basis, coefficients, minus_y[row], minus_x[:, column]), threshold)
        for target, first, second in zip(inverse, mine, other, strict=True):
            if target is not None and first is not None and second is not None:
                target[:, row, column] = 0.5 * (first + second)

    everything = slice(None)
    if ny % 2 == 0:
        average(slice(ny // 2, ny // 2 + 1), everything)
    if nx % 2 == 0:
        average(everything, slice(nx // 2, nx // 2 + 1))
    return inverse


def multiply(spectrum: Tensor, factor: Pair) -> Tensor:
    """Return spectrum · factor for a half-spectrum ``(batch, ..., ny, nx // 2 + 1)`` and one factor a sample."""
    real, imaginary = factor
    precision = torch.float64 if spectrum.dtype == torch.complex128 else torch.float32
    shape = (len(real), *(1,) * (spectrum.dim() - 3), *real.shape[1:])
    if imaginary is None:
        return spectrum * real.to(precision).view(shape)
    return spectrum * torch.complex(real.to(precision), imaginary.to(precision)).view(shape)


def solve_field(forcing: Tensor, inverse: Pair) -> Tensor:
    """Return u with operator(u) = forcing, in the forcing's precision.

    Args:
        forcing: ``(batch, ..., ny, nx)``.
        inverse: from `inverse_symbol`.

    Raises:
        DataError: if the forcing drives a singular mode: its mean is not zero where it must be, or it is resonant.
    """
    spectrum = torch.fft.rfft2(forcing)
    _require_solvable(spectrum, inverse, forcing)
    return torch.fft.irfft2(multiply(spectrum, inverse), s=forcing.shape[-2:])


def apply_operator(field: Tensor, inverse: Pair) -> Tensor:
    """Return operator(field), the exact inverse of `solve_field` outside singular modes; differentiable.

    Args:
        field: ``(batch, ..., ny, nx)``.
        inverse: from `inverse_symbol`.
    """
    return torch.fft.irfft2(multiply(torch.fft.rfft2(field), divide(*inverse, 0.0)), s=field.shape[-2:])


def _require_solvable(spectrum: Tensor, inverse: Pair, forcing: Tensor) -> None:
    real, imaginary = inverse
    singular = real == 0 if imaginary is None else (real == 0) & (imaginary == 0)
    if not bool(singular.any()):
        return
    shape = (len(singular), *(1,) * (spectrum.dim() - 3), *singular.shape[1:])
    driven = torch.where(singular.view(shape), spectrum.abs(), 0.0).amax((-2, -1))
    size = forcing.square().mean((-2, -1)).sqrt() * (forcing.shape[-2] * forcing.shape[-1])
    bad = driven > _FORCING_TOLERANCE * size
    if bool(bad.any()):
        worst = int(bad.flatten(1).any(1).nonzero()[0])
        raise DataError(
            f"Sample {worst} has no periodic solution: its forcing drives a mode that the operator maps to zero (the "
            f"mean of f for Poisson and advection-diffusion, a resonance for Helmholtz). Remove that part of the "
            f"forcing, or move the coefficients away from the resonance."
        )
