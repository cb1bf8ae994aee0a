"""Exponential time differencing, Runge–Kutta: ∂û/∂t = L û + N(û) with a diagonal L that is integrated exactly.

    ETDRK2   a  = E û + h φ₁ N(û)
             û' = a + h φ₂ (N(a) − N(û))

    ETDRK4   a  = E½ û + ½h φ₁(hL/2) N(û)
             b  = E½ û + ½h φ₁(hL/2) N(a)
             c  = E½ a + ½h φ₁(hL/2) (2N(b) − N(û))
             û' = E û + h(φ₁ − 3φ₂ + 4φ₃) N(û) + 2h(φ₂ − 2φ₃) (N(a) + N(b)) + h(4φ₃ − φ₂) N(c)

with E = exp(hL), E½ = exp(hL/2), and φₙ of hL: φ₁(z) = (eᶻ − 1)/z, φ₂ = (φ₁ − 1)/z, φ₃ = (φ₂ − ½)/z. These cancel near
z = 0. Kassam and Trefethen average them over a contour; the same accuracy costs a tenth of that by their Taylor series
inside the unit disk and by the formulas outside it, in float64.

Every sample has its own L: fields are ``(batch, channel, *modes)`` and nothing loops over samples. Where L is real, its
factors are held twice, for real and for imaginary parts, so that every product is one of real numbers.

References: Cox and Matthews, J. Comput. Phys. 176 (2002) 430, eqs. 21–29, doi:10.1006/jcph.2002.6995; Kassam and
Trefethen, SIAM J. Sci. Comput. 26 (2005) 1214, doi:10.1137/S1064827502410633.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from scifm.errors import ConfigError

__all__ = ["ETDRK", "Nonlinear", "phi_functions"]

Nonlinear = Callable[[Tensor], Tensor]
"""Makes N(û) of a spectrum ``(batch, channel, *modes)``; the answer is the caller's to overwrite."""

_SERIES_TERMS = 22  # the next one is below 1e-21 inside the unit disk


def phi_functions(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return φ₁, φ₂ and φ₃ of every number, to round-off; of float64 or complex128."""
    near = z.abs() < 1
    inside, outside = torch.where(near, z, 0.0), torch.where(near, 1.0, z)
    phi3 = torch.zeros_like(z)
    for power in range(_SERIES_TERMS, -1, -1):  # Horner's rule for the sum of z^power / (power + 3)!
        phi3 = phi3 * inside + 1 / math.factorial(power + 3)
    phi2 = 0.5 + inside * phi3
    phi1 = 1.0 + inside * phi2
    far1 = (torch.exp(outside) - 1) / outside
    far2 = (far1 - 1) / outside
    far3 = (far2 - 0.5) / outside
    return torch.where(near, phi1, far1), torch.where(near, phi2, far2), torch.where(near, phi3, far3)


class ETDRK:
    """Steps of one length for one set of samples.

    Args:
        symbol: L, ``(batch, channel, *modes)`` or what broadcasts to it, float64 or complex128.
        step: h.
        nonlinear: N; None where there is none: the answer is then exact.
        order: 2 or 4.
        dtype: complex dtype of the spectra.

    Raises:
        ConfigError: if the order is another one.
    """

    def __init__(
        self, symbol: Tensor, step: float, nonlinear: Nonlinear | None, *, order: int, dtype: torch.dtype
    ) -> None:
        if order not in (2, 4):
            raise ConfigError(f"Exponential time differencing comes in orders 2 and 4 here; got {order}.")
        z = step * symbol
        real = not symbol.is_complex()
        stored = partial(_stored, dtype=dtype)
        self._view = torch.view_as_real if real else _as_it_is
        self._nonlinear, self._whole = nonlinear, stored(torch.exp(z))
        self._step: Callable[[Tensor], Tensor] = self._exact
        if nonlinear is None:
            return
        phi1, phi2, phi3 = phi_functions(z)
        if order == 2:
            self._first, self._second = stored(step * phi1), stored(step * phi2)
            self._step = self._second_order
        else:
            self._half, self._into_half = stored(torch.exp(z / 2)), stored(step / 2 * phi_functions(z / 2)[0])
            weights = (phi1 - 3 * phi2 + 4 * phi3, 2 * (phi2 - 2 * phi3), 4 * phi3 - phi2)
            self._weights = [stored(step * weight) for weight in weights]
            self._step = self._fourth_order

    def __call__(self, spectrum: Tensor) -> Tensor:
        """Return the spectrum one step later; the given one stays as it is."""
        return self._step(spectrum)

    def _exact(self, spectrum: Tensor) -> Tensor:
        out = torch.empty_like(spectrum)
        torch.mul(self._view(spectrum), self._whole, out=self._view(out))
        return out

    def _asked(self, spectrum: Tensor) -> Tensor:
        assert self._nonlinear is not None
        return self._view(self._nonlinear(spectrum))

    def _second_order(self, spectrum: Tensor) -> Tensor:
        now = self._asked(spectrum)
        out = self._exact(spectrum)
        view = self._view(out)
        view.addcmul_(self._first, now)
        view.addcmul_(self._second, self._asked(out).sub_(now))
        return out

    def _fourth_order(self, spectrum: Tensor) -> Tensor:
        u, first, (w1, w23, w4) = self._view(spectrum), self._into_half, self._weights
        now = self._asked(spectrum)
        halfway = u * self._half
        a, b, out = (torch.empty_like(spectrum) for _ in range(3))
        view = self._view(out)
        torch.addcmul(halfway, first, now, out=self._view(a))
        at_a = self._asked(a)
        torch.addcmul(halfway, first, at_a, out=self._view(b))
        at_b = self._asked(b)
        torch.mul(u, self._whole, out=view).addcmul_(w1, now)
        view.addcmul_(w23, at_a.add_(at_b))
        c = b  # which is done with
        torch.mul(self._view(a), self._half, out=self._view(c)).addcmul_(first, at_b.mul_(2).sub_(now))
        view.addcmul_(w4, self._asked(c))
        return out


def _as_it_is(spectrum: Tensor) -> Tensor:
    return spectrum


def _stored(factor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a factor as it acts on spectra: complex, or real and then once for each of their two parts."""
    if factor.is_complex():
        return factor.to(dtype)
    return torch.stack([factor, factor], dim=-1).to(dtype.to_real())
