"""What waves start from: media whose speed differs from place to place, and pulses. The same on every grid."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from scifm.config import Plain
from scifm.errors import ConfigError, suggest
from scifm.fields.grid import Grid
from scifm.systems.initial import require_waves

__all__ = ["Pulses", "RandomMedium"]

_KINDS = ("random", "layered")
_SHARPNESS = 3.0  # of the passage from layer to layer: the faster the wave below it, the thinner


@dataclass(frozen=True)
class RandomMedium(Plain):
    """A random periodic field g of zero mean and size 1, smooth over a length; a speed is c₀ exp(contrast · g).

    ``random``: a Fourier series with normal coefficients of standard deviation exp(−(kℓ)²/8), so that two points at a
    distance r correlate as exp(−(r/ℓ)²) where the box is much longer than ℓ; the mean square of g is exactly 1.
    ``layered``: such a series h along the first axis only (y in two dimensions, the depth), pressed into layers,
    tanh(3h), of which the mean is taken away and which are brought to size 1 too.

    Args:
        kind: ``random`` or ``layered``.
        max_wave: largest number of waves along an axis; shorter ones are left out.

    Raises:
        ConfigError: if the kind is unknown or there is no wave.
    """

    kind: str = "random"
    max_wave: int = 8

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ConfigError(f"Kind of a medium: {suggest(str(self.kind), _KINDS)}")
        if self.max_wave < 1:
            raise ConfigError(f"A random medium needs max_wave >= 1; got {self.max_wave}.")

    def draw(
        self, correlation_length: Float[Tensor, " batch"], grid: Grid, generator: torch.Generator | None = None
    ) -> Float[Tensor, " batch *space"]:
        """Return one field for each correlation length ℓ [L], in float64.

        Raises:
            SignatureError: if the grid cannot hold the shortest wave.
        """
        require_waves(self.max_wave, grid, of="the medium")
        dims = grid.num_spatial_dims if self.kind == "random" else 1
        series = self._series(correlation_length, grid.extent[:dims], generator)
        field = _sum_of_waves(series, grid.num_points[:dims])
        if self.kind == "layered":
            # of the layers themselves, on points of their own, so that the numbers are the same on every grid
            layers = torch.tanh(_SHARPNESS * _sum_of_waves(series, (64 * self.max_wave,)))
            mean, spread = layers.mean(1, keepdim=True), layers.std(1, keepdim=True, correction=0)
            field = (torch.tanh(_SHARPNESS * field) - mean) / spread
            field = field.view(*field.shape, *(1,) * (grid.num_spatial_dims - 1))
        return field.expand(-1, *grid.num_points)

    def _series(self, length: Tensor, extent: tuple[float, ...], generator: torch.Generator | None) -> Tensor:
        """Return Fourier coefficients ``(batch, 2 max_wave + 1, …)`` of real fields of zero mean and mean square 1."""
        numbers = torch.arange(-self.max_wave, self.max_wave + 1, dtype=torch.float64, device=length.device)
        waves = torch.meshgrid(*(2 * math.pi / side * numbers for side in extent), indexing="ij")
        square = torch.stack(waves).square().sum(0)
        normal = torch.randn(
            len(length), *square.shape, 2, generator=generator, dtype=torch.float64, device=length.device
        )
        size = torch.exp(-square * length.square().view(-1, *(1,) * len(extent)) / 8) * (square > 0)
        drawn = torch.view_as_complex(normal) * size
        axes = tuple(range(1, drawn.dim()))
        drawn = drawn + drawn.flip(axes).conj()
        return drawn / drawn.abs().square().sum(axes, keepdim=True).sqrt()


@dataclass(frozen=True)
class Pulses(Plain):
    """Bumps at random places of a periodic box, each on its way somewhere.

        Σⱼ aⱼ exp(−|x − xⱼ|²/2w²),    aⱼ between amplitude/2 and amplitude, of either sign

    with the images of each summed over. Each has a velocity too, in parts of the speed of the waves: of a random
    direction and a size up to 1, at which in one dimension it moves that way as a whole.

    Args:
        num: how many.
        amplitude: of the highest.

    Raises:
        ConfigError: if a number is out of its range.
    """

    num: int = 3
    amplitude: float = 1.0

    def __post_init__(self) -> None:
        if self.num < 1 or not 0 < self.amplitude < math.inf:
            raise ConfigError(
                f"Pulses need num >= 1 and a positive finite amplitude; got {self.num}, {self.amplitude}."
            )

    def draw(
        self,
        width: Float[Tensor, " batch"],
        grid: Grid,
        generator: torch.Generator | None = None,
        *,
        margin: float = 0.0,
    ) -> tuple[Float[Tensor, " batch *space"], Float[Tensor, "batch axis *space"]]:
        """Return the pulses f and Σⱼ vⱼ fⱼ along each axis in array order, both in float64.

        Args:
            width: w [L], of all pulses of a sample.
            margin: how far from the ends of each axis they stay [L].
        """
        dims, num = grid.num_spatial_dims, len(width)
        drawn = torch.rand(num, self.num, dims + 2, generator=generator, dtype=torch.float64, device=width.device)
        normal = torch.randn(num, self.num, dims, generator=generator, dtype=torch.float64, device=width.device)
        height = self.amplitude * (0.5 + 0.5 * drawn[..., 0]) * torch.where(drawn[..., 1] < 0.5, -1.0, 1.0)
        speed = torch.rand(num, self.num, 1, generator=generator, dtype=torch.float64, device=width.device)
        velocity = normal / normal.norm(dim=-1, keepdim=True).clamp(min=1e-300) * speed
        bumps = height.view(num, self.num, *(1,) * dims)
        for axis, (points, side) in enumerate(zip(grid.coordinates(device=width.device), grid.extent, strict=True)):
            place = margin + (side - 2 * margin) * drawn[..., 2 + axis, None]
            off = points - place  # (batch, pulse, points)
            w = width[:, None, None]
            line = sum(torch.exp(-0.5 * ((off + image * side) / w).square()) for image in (-1, 0, 1))
            assert isinstance(line, Tensor)
            bumps = bumps * line.view(num, self.num, *(1,) * axis, -1, *(1,) * (dims - 1 - axis))
        moving = (velocity.view(num, self.num, dims, *(1,) * dims) * bumps.unsqueeze(2)).sum(1)
        return bumps.sum(1), moving


def _sum_of_waves(series: Tensor, num_points: tuple[int, ...]) -> Tensor:
    """Return the real fields ``(batch, *space)`` of Fourier coefficients ``(batch, 2 most + 1, …)``, axis by axis."""
    for axis, points in enumerate(num_points, start=1):
        most = series.shape[axis] // 2
        waves = torch.arange(-most, most + 1, dtype=torch.float64, device=series.device)
        places = torch.arange(points, dtype=torch.float64, device=series.device) / points
        phases = torch.exp(2j * math.pi * waves[:, None] * places)
        series = (series.transpose(axis, -1) @ phases).transpose(axis, -1)
    return series.real
