"""Initial states: random fields with a spectrum of one's choice, the same on every grid."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scifm.config import Plain
from scifm.errors import ConfigError, SignatureError
from scifm.fields.grid import Grid

__all__ = ["RandomWaves", "require_waves"]


@dataclass(frozen=True)
class RandomWaves(Plain):
    """A random Fourier series of zero mean and given size, on a periodic box.

        u(x) = amplitude · Σₙ cₙ exp(2πi n·x/L) / rms,    cₙ normal, with standard deviation |n|^−slope

    over all whole-numbered n with 1 ≤ |n| ≤ max_wave. What is drawn does not depend on the grid, so a finer one shows
    the same problem.

    Args:
        max_wave: largest number of waves along a side.
        slope: how fast amplitudes fall with the wavenumber; 0: all alike.
        amplitude: root mean square of the field.

    Raises:
        ConfigError: if a number is out of its range.
    """

    max_wave: int = 5
    slope: float = 0.0
    amplitude: float = 1.0

    def __post_init__(self) -> None:
        if self.max_wave < 1 or not math.isfinite(self.slope) or not 0 < self.amplitude < math.inf:
            raise ConfigError(
                f"Random waves need max_wave >= 1, a finite slope and a positive finite amplitude; got "
                f"{self.max_wave}, {self.slope}, {self.amplitude}."
            )

    def draw(
        self,
        num_samples: int,
        num_channels: int,
        grid: Grid,
        generator: torch.Generator | None = None,
        *,
        device: Any = None,
    ) -> Float[Tensor, "batch channel *space"]:
        """Return fields ``(num_samples, num_channels, *space)`` in float64.

        Raises:
            SignatureError: if the grid cannot hold the shortest wave.
        """
        require_waves(self.max_wave, grid, of="the random waves")
        waves = _half_space(self.max_wave, grid.num_spatial_dims).to(device)
        normal = torch.randn(
            num_samples, num_channels, len(waves), 2, generator=generator, dtype=torch.float64, device=device
        )
        weights = waves.double().norm(dim=1) ** -self.slope
        drawn = torch.view_as_complex(normal) * weights
        # Parseval: each wave stands for itself and its conjugate
        drawn *= self.amplitude / (2 * drawn.abs().square().sum(-1, keepdim=True)).sqrt()
        space = grid.num_points
        spectrum = drawn.new_zeros(num_samples, num_channels, *space[:-1], space[-1] // 2 + 1)
        spectrum[(..., *waves.T % torch.tensor([*space[:-1], 10**9], device=device)[:, None])] = drawn
        mirrored = waves[:, -1] == 0  # on the plane that the half-spectrum holds whole
        back = -waves[mirrored].T % torch.tensor([*space[:-1], 10**9], device=device)[:, None]
        spectrum[(..., *back)] = drawn[..., mirrored].conj()
        return torch.fft.irfftn(spectrum, s=space, dim=tuple(range(-len(space), 0)), norm="forward")


def require_waves(max_wave: int, grid: Grid, *, of: str) -> None:
    """Check that a grid can hold waves.

    Args:
        max_wave: of the shortest one, how many lie along a side.
        grid: where.
        of: what they make, in words.

    Raises:
        SignatureError: if an axis has too few points.
    """
    if min(grid.num_points) <= 2 * max_wave:
        raise SignatureError(
            f"The grid of {grid.num_points} points cannot hold {max_wave} waves along a side; give at least "
            f"{2 * max_wave + 1} points an axis, or lower max_wave of {of}."
        )


@lru_cache(maxsize=16)
def _half_space(max_wave: int, num_dims: int) -> Tensor:
    """Return the whole-numbered vectors of length 1 to `max_wave`, one of each ±n, the last part never negative."""
    sides = range(-max_wave, max_wave + 1)
    vectors = (n for n in itertools.product(sides, repeat=num_dims) if 0 < sum(k * k for k in n) <= max_wave**2)
    return torch.tensor([n for n in vectors if n[::-1] > (0,) * num_dims])
