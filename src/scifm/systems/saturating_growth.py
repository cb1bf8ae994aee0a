"""What equations share in which something spreads and grows: ∂u/∂t = D Δu + r (u − s(u)) on a periodic box.

Growth of a density is logistic, s = u². A subclass says how it begins and how far its knobs go. Solved as all of
`systems.periodic_evolution`.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.term import Term
from scifm.systems.knobs import Knob
from scifm.systems.periodic_evolution import PeriodicEvolution, SpectralBox, squared
from scifm.systems.solvers.etdrk import Nonlinear

__all__ = ["LogisticGrowth", "SaturatingGrowth", "bump"]


@dataclass(frozen=True)
class SaturatingGrowth(PeriodicEvolution):
    """∂u/∂t = D Δu + r (u − s(u)): spreading, and growth that ends; a subclass says s.

    Attributes:
        diffusivity: knob, D [L²/T], the first coefficient.
        rate: knob, r [1/T], the second one.

    Class variables:
        longest: step of the solver over the shortest time 1/r.
    """

    diffusivity: Knob = Knob(0.0005, 0.005, scale="log")
    rate: Knob = Knob(1.0, 4.0)

    longest: ClassVar[float]
    homogeneities: ClassVar[tuple[Homogeneity, ...]] = (
        Homogeneity((("diffusivity", 1.0), ("rate", 1.0), ("lead_time", -1.0)), ("rate",), "value"),
    )

    def longest_step(self, grid: Grid) -> float:
        return min(self.max_step, self.longest / self.rate.high)

    def symbol(self, waves: tuple[Tensor, ...], odd: tuple[Tensor, ...], coefficients: Tensor) -> Tensor:
        diffusivity, rate = (self.per_sample(coefficients, i, len(waves)) for i in (0, 1))
        return rate - diffusivity * squared(waves)

    def nonlinear(self, box: SpectralBox, coefficients: Tensor, inputs: Tensor) -> Nonlinear:
        factor = -self.per_sample(coefficients, 1, box.grid.num_spatial_dims) * box.kept
        return lambda spectrum: box.to_modes(self.saturation(box.to_grid(spectrum))).mul_(factor)

    @staticmethod
    @abc.abstractmethod
    def saturation(field: Tensor) -> Tensor:
        """Return s(u), which may take the place of u."""


@dataclass(frozen=True)
class LogisticGrowth(SaturatingGrowth):
    """∂u/∂t = D Δu + r u (1 − u): the equation of those that begin in different ways."""

    longest: ClassVar[float] = 0.1
    terms: ClassVar[tuple[Term, ...]] = (
        Term("laplacian", ("density",), of="density", coefficient="diffusivity"),
        Term("value", ("density",), of="density", coefficient="rate"),
        Term("square", ("density",), of="density", coefficient="rate", factor=-1.0),
    )

    @staticmethod
    def saturation(field: Tensor) -> Tensor:
        return field.square_()


def bump(grid: Grid, device: torch.device | None = None) -> Tensor:
    """Return exp(−(x − L/2)²/2(L/8)²) on a ring of length L, ``(nx,)`` in float64: π/4 wide where L is 2π."""
    (x,), (length,) = grid.coordinates(device=device), grid.extent
    return torch.exp(-0.5 * ((x - length / 2) / (length / 8)) ** 2)
