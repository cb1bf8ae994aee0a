"""The spectral convolution of neuraloperator 2.0 in real arithmetic: modes −⌊K/2⌋ … around zero, by matrices.

It differs from `FourierLayer` in the modes it keeps: K of them around zero for an even or an odd K, fewer where the
grid has fewer points, and the Nyquist mode where it is among them. On an axis with an odd number of points, other than
the last, neuraloperator 2.0 puts every answered mode one wavenumber lower than it was (it shifts back the way it
shifted forth). Weights trained on such grids have learned this, so it is done here too.

Everything is products of real matrices: real and imaginary parts stand beside each other, nothing is complex.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scifm.models.parts.matrices import Matrices, wavenumbers_of
from scifm.models.parts.spectral import mix_by_matrices

__all__ = ["CenteredSpectral", "centered_matrices", "kept_slices"]


def kept_slices(num_points: Sequence[int], modes: Sequence[int]) -> tuple[slice, ...]:
    """Return which of the `modes` weights per axis a grid can use: all, or the middle (last axis: the first) ones."""
    slices = []
    for axis, (n, k) in enumerate(zip(num_points, modes, strict=True)):
        if axis == len(modes) - 1:
            slices.append(slice(0, min(k, n // 2 + 1)))
        else:
            first = max(k - n, 0) // 2
            slices.append(slice(first, first + min(k, n)))
    return tuple(slices)


def _angles(modes: Tensor, num_points: int) -> Tensor:
    points = torch.arange(num_points, dtype=torch.float64)
    return 2 * math.pi / num_points * torch.outer(points, modes)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # matrices first built during inference must still serve training later
def centered_matrices(
    num_points: tuple[int, ...], modes: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> tuple[tuple[Tensor, Tensor], ...]:
    """Build (once) what analyzes and what synthesizes each axis of a grid.

    Args:
        modes: modes kept per axis, no more than the grid has.

    Returns:
        For the last axis ``(2·k, n)`` and ``(n, 2·k)``; for others ``(2·k, n·2)`` and ``(n·2, 2·k)``, where the factor
        of the points is the fast one: real and imaginary parts of a point are neighbours.
    """
    pairs = []
    for n, k in zip(num_points[:-1], modes[:-1], strict=True):
        wavenumbers = torch.arange(k, dtype=torch.float64) - k // 2
        cos, sin = _angles(wavenumbers, n).cos().T, _angles(wavenumbers, n).sin().T
        forth = torch.stack([torch.cat([cos, -sin]), torch.cat([sin, cos])], dim=-1).flatten(1) / n
        answered = wavenumbers - n % 2
        cos, sin = _angles(answered, n).cos(), _angles(answered, n).sin()
        back = torch.stack([torch.cat([cos, -sin], dim=1), torch.cat([sin, cos], dim=1)], dim=1).flatten(0, 1)
        pairs.append((forth, back))
    n, k = num_points[-1], modes[-1]
    angles = _angles(torch.arange(k, dtype=torch.float64), n)
    weight = torch.full((k,), 2.0, dtype=torch.float64)
    weight[0] = 1.0
    if 2 * (k - 1) == n:
        weight[-1] = 1.0  # the Nyquist mode has no conjugate beside it
    forth = torch.cat([angles.cos().T, -angles.sin().T]) / n
    back = torch.cat([angles.cos() * weight, -angles.sin() * weight], dim=1)
    pairs.append((forth, back))
    return tuple(tuple(matrix.to(dtype=dtype, device=device).contiguous() for matrix in pair) for pair in pairs)  # type: ignore[misc]


class CenteredSpectral(nn.Module):
    """``x ↦ F⁻¹(R·F x) + b`` on ``(*space, batch, channel)``, with the modes of neuraloperator's ``SpectralConv``.

    Args:
        modes: kept per axis: all of them for an axis but the last, the non-negative ones for the last.

    Attributes:
        spectral_weight: ``(2, *modes, in, out)``, real and imaginary parts.
        bias: ``(out,)``.
    """

    def __init__(self, in_channels: int, out_channels: int, modes: tuple[int, ...]) -> None:
        super().__init__()
        self.modes = modes
        std = math.sqrt(2 / (in_channels + out_channels))
        # neuraloperator draws complex numbers of this deviation, so each part has less
        self.spectral_weight = nn.Parameter(torch.randn(2, *modes, in_channels, out_channels) * (std / math.sqrt(2)))
        self.bias = nn.Parameter(std * torch.randn(out_channels))

    def matrices(self) -> Matrices:
        """Return one complex matrix a mode, ``(mode, in, out)``."""
        real, imaginary = self.spectral_weight.detach().flatten(1, -3)
        axes = [[k - m // 2 for k in range(m)] for m in self.modes[:-1]] + [[*range(self.modes[-1])]]
        return Matrices("spectral_weight", torch.complex(real, imaginary), wavenumbers_of(axes))

    def forward(self, x: Float[Tensor, "*space batch in"]) -> Float[Tensor, "*space batch out"]:
        """Map ``(*space, batch, in)`` to ``(*space, batch, out)``."""
        space = tuple(x.shape[:-2])
        used = kept_slices(space, self.modes)
        weight = self.spectral_weight[(slice(None), *used)].flatten(1, -3).to(x.dtype)
        modes = tuple(part.stop - part.start for part in used)
        return mix_by_matrices(x, weight, centered_matrices(space, modes, x.dtype, x.device)) + self.bias
