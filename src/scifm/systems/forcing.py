"""The forcing of the reference paper: a random sum of Gaussians on a fixed lattice of centers.

    f(x, y) = Σ_ij a_ij exp(−(y − y_i)²/2σ_y²) exp(−(x − x_j)²/2σ_x²)

with 12 × 12 centers spaced 2σ around the middle of the box and σ = 1/32 of each side: 0.15625, 0.21875, …, 0.84375 on
the unit interval. On a box with other sides the picture is stretched with the box (σ and spacing are fractions of each
side), so the forcing always keeps the same distance, five σ, from the edges. As in the reference the Gaussians are
plain ones without periodic images; what is cut at the edge is below 4e-6 of a bump.

Every amplitude is zero with probability s, the sparsity, drawn for each sample from {0.2, 0.4, 0.6, 0.8}, and else
uniform in [1e-3, 1]; a sample that would have none gets one at a random center. The field is divided by its largest
value on the grid.

f is a sum of products of functions of one variable, so a sample costs two small matrix products (`GaussianForcing.raw`)
instead of 144 exponentials a grid point.

Reference: Subramanian et al., "Towards Foundation Models for Scientific Machine Learning", NeurIPS 2023,
arXiv:2306.00258, and its published generators.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scifm.config import Plain
from scifm.errors import ConfigError
from scifm.fields.grid import Grid

__all__ = ["GaussianForcing", "samples_at_once"]

_CACHE_POINTS = 2**18
_DEVICE_POINTS = 2**26


@dataclass(frozen=True)
class GaussianForcing(Plain):
    """A random sum of Gaussians; see the module for the formulas.

    Args:
        num_centers: centers along each axis.
        width: σ as a fraction of the side.
        spacing: distance between centers as a fraction of the side.
        sparsities: probabilities of an absent Gaussian; one is drawn for each sample, all equally likely.
        min_amplitude: smallest amplitude of a present Gaussian.
        max_amplitude: largest amplitude of a present Gaussian.

    Raises:
        ConfigError: if a number is out of its range, or the lattice does not fit in the box.
    """

    num_centers: int = 12
    width: float = 1 / 32
    spacing: float = 1 / 16
    sparsities: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8)
    min_amplitude: float = 1e-3
    max_amplitude: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "sparsities", tuple(float(s) for s in self.sparsities))
        if self.num_centers < 1 or not 0 < self.width < 1 or (self.num_centers - 1) * self.spacing >= 1:
            raise ConfigError(
                f"The forcing needs num_centers >= 1, 0 < width < 1 and (num_centers - 1) * spacing < 1, so that the "
                f"lattice fits in the box; got {self.num_centers}, {self.width}, {self.spacing}."
            )
        if not self.sparsities or any(not 0 <= s < 1 for s in self.sparsities):
            raise ConfigError(f"Sparsities are probabilities, 0 <= s < 1, at least one; got {self.sparsities}.")
        if not 0 < self.min_amplitude <= self.max_amplitude:
            raise ConfigError(
                f"Amplitudes need 0 < min_amplitude <= max_amplitude; got {self.min_amplitude}, {self.max_amplitude}."
            )

    def draw_sparsities(self, num_samples: int, generator: torch.Generator | None, device: Any) -> Tensor:
        """Return one sparsity a sample, ``(num_samples,)`` float64."""
        index = torch.randint(len(self.sparsities), (num_samples,), generator=generator, device=device)
        return torch.tensor(self.sparsities, dtype=torch.float64, device=index.device)[index]

    def draw_amplitudes(
        self, sparsities: Float[Tensor, " batch"], generator: torch.Generator | None
    ) -> Float[Tensor, "batch centers centers"]:
        """Return amplitudes for samples of these sparsities, ``(num_samples, centers_y, centers_x)`` float64."""
        num, side, device = len(sparsities), self.num_centers, sparsities.device
        rand = torch.rand(2, num, side * side, generator=generator, dtype=torch.float64, device=device)
        present = rand[0] > sparsities[:, None]
        # The largest of the presence draws is a uniformly random center: switching it on changes only empty samples.
        present.scatter_(1, rand[0].argmax(1, keepdim=True), True)
        amplitudes = rand[1].mul_(self.max_amplitude - self.min_amplitude).add_(self.min_amplitude)
        return amplitudes.mul_(present).view(num, side, side)

    def profiles(self, grid: Grid, *, dtype: torch.dtype, device: Any) -> tuple[Tensor, Tensor]:
        """Return the one-dimensional Gaussians, ``(ny, centers)`` and ``(nx, centers)``; cached, do not write to them.

        Args:
            grid: a two-dimensional grid.
        """
        return _profiles(self, grid, dtype, str(torch.device("cpu" if device is None else device)))

    def raw(
        self,
        amplitudes: Float[Tensor, "batch centers centers"],
        grid: Grid,
        *,
        out: Float[Tensor, "batch y x"] | None = None,
    ) -> Float[Tensor, "batch y x"]:
        """Return the sum of Gaussians before scaling, ``(batch, ny, nx)``, in the amplitudes' dtype and device.

        Args:
            amplitudes: ``(batch, centers_y, centers_x)``.
            grid: a two-dimensional grid.
            out: where to write it, if given.
        """
        along_y, along_x = self.profiles(grid, dtype=amplitudes.dtype, device=amplitudes.device)
        side, (ny, nx) = self.num_centers, grid.num_points
        if out is None:
            out = amplitudes.new_empty(len(amplitudes), ny, nx)
        rows = (amplitudes.reshape(-1, side) @ along_x.T).view(-1, side, nx)
        return torch.bmm(along_y.expand(len(rows), -1, -1), rows, out=out)


def samples_at_once(fields: Tensor) -> int:
    """Return how many of these fields ``(batch, *space)`` to work on at once: few on a CPU, to stay in its cache."""
    budget = _CACHE_POINTS if fields.device.type == "cpu" else _DEVICE_POINTS
    return max(1, min(len(fields), budget // max(1, fields[0].numel())))


@lru_cache(maxsize=16)
def _profiles(forcing: GaussianForcing, grid: Grid, dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor]:
    steps = torch.arange(forcing.num_centers, dtype=torch.float64) - (forcing.num_centers - 1) / 2
    centers = 0.5 + steps * forcing.spacing
    made = []
    for points, extent in zip(grid.coordinates(), grid.extent, strict=True):
        distance = (points[:, None] / extent - centers) / forcing.width
        made.append(torch.exp(-0.5 * distance**2).to(dtype=dtype, device=device))
    return made[0], made[1]
