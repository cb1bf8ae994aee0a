"""`Derivatives`: what an equation asks of fields, so that it is written once for every way of differentiating.

An equation is a sum of terms (`scifm.fields.term`), and a term asks for values and partial derivatives of fields by
name, no matter where they come from: from the waves of a periodic grid (`SpectralDerivatives`), from differences
between the points of any (`DifferenceDerivatives`), or from a network that is a function of coordinates.

A derivative is named by the letters of its axes: ``x`` is ∂u/∂x, ``xxy`` is ∂³u/∂x²∂y, ``t`` is ∂u/∂t. x runs along the
last axis of an array, y along the one before, z before that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from scifm.fields.grid import Grid
from scifm.fields.spectral import require_periodic, wavenumbers

__all__ = ["Derivatives", "DifferenceDerivatives", "SpectralDerivatives"]

_LETTERS = "xyz"


class Derivatives(Protocol):
    """Fields, by name, with their partial derivatives, all at the same places."""

    @property
    def num_spatial_dims(self) -> int:
        """Axes of space."""

    def value(self, name: str) -> Tensor:
        """Return a field, ``(batch, …)``; its unit is its own."""

    def along(self, name: str, axes: str) -> Tensor:
        """Return a derivative of a field, ``(batch, …)``, by the letters of its axes; unit: the field's over theirs."""


class _OnGrid:
    """Fields on a grid.

    Args:
        fields: by name, ``(batch, …, *space)``.
        grid: where they live.
    """

    def __init__(self, fields: Mapping[str, Tensor], grid: Grid) -> None:
        self.fields, self.grid = fields, grid

    @property
    def num_spatial_dims(self) -> int:
        """Axes of space."""
        return self.grid.num_spatial_dims

    def value(self, name: str) -> Tensor:
        """Return a field."""
        return self.fields[name]

    def _orders(self, axes: str) -> dict[int, int]:
        """Return how often each axis of the array, counted from its end, stands among the letters."""
        return {-1 - place: axes.count(letter) for place, letter in enumerate(_LETTERS) if letter in axes}


class SpectralDerivatives(_OnGrid):
    """Derivatives of the trigonometric polynomials through the points of a periodic grid.

    Raises:
        SignatureError: if an axis is not periodic.
    """

    def __init__(self, fields: Mapping[str, Tensor], grid: Grid) -> None:
        require_periodic(grid)
        super().__init__(fields, grid)
        self._spectra: dict[str, Tensor] = {}

    def along(self, name: str, axes: str) -> Tensor:
        """Return a derivative; odd ones leave the Nyquist mode out, see `scifm.fields.spectral`."""
        spectrum = self.spectrum(name)
        for axis, order in self._orders(axes).items():
            wave = wavenumbers(self.grid, odd=order % 2 == 1, dtype=spectrum.real.dtype, device=spectrum.device)[axis]
            spectrum = spectrum * (1j * wave) ** order
        return self.on_grid(spectrum)

    def spectrum(self, name: str) -> Tensor:
        """Return the half-spectrum of a field."""
        if name not in self._spectra:
            self._spectra[name] = torch.fft.rfftn(self.fields[name], dim=self._axes)
        return self._spectra[name]

    def on_grid(self, spectrum: Tensor) -> Tensor:
        """Return the field of a half-spectrum."""
        return torch.fft.irfftn(spectrum, s=self.grid.num_points, dim=self._axes)

    @property
    def _axes(self) -> tuple[int, ...]:
        return tuple(range(-self.num_spatial_dims, 0))


class DifferenceDerivatives(_OnGrid):
    """Differences of second order between neighbours: central ones, and one-sided ones at the ends of an axis.

    Of an axis that wraps around all are central. Higher derivatives are differences of differences: every two orders
    one of second order, and a first one for what is left.
    """

    def along(self, name: str, axes: str) -> Tensor:
        """Return a derivative."""
        found = self.fields[name]
        for axis, order in self._orders(axes).items():
            for _ in range(order // 2):
                found = self._second(found, axis)
            if order % 2:
                found = self._first(found, axis)
        return found

    def _first(self, field: Tensor, axis: int) -> Tensor:
        spacing = self.grid.spacing[axis]
        if self.grid.periodic[axis]:
            return (field.roll(-1, axis) - field.roll(1, axis)) / (2 * spacing)
        return torch.gradient(field, spacing=spacing, dim=axis, edge_order=2)[0]

    def _second(self, field: Tensor, axis: int) -> Tensor:
        square = self.grid.spacing[axis] ** 2
        if self.grid.periodic[axis]:
            return (field.roll(-1, axis) - 2 * field + field.roll(1, axis)) / square
        f = field.movedim(axis, 0)
        first, last = (2 * f[0] - 5 * f[1] + 4 * f[2] - f[3], 2 * f[-1] - 5 * f[-2] + 4 * f[-3] - f[-4])
        return torch.cat([first[None], f[2:] - 2 * f[1:-1] + f[:-2], last[None]]).movedim(0, axis) / square
