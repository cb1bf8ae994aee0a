"""The textbook Fourier neural operator, written plainly: the contestant that ours is measured against.

Layout ``(batch, channel, y, x)``, full fast Fourier transforms, complex products by einsum: how the published codes do
it. The network is the reference transfer paper's (arXiv:2306.00258): lift, four Fourier layers with GELU after all but
the last, projection width → 128 → 1; spectral weights as real pairs, uniform in [0, 1/(C_in·C_out)).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["TextbookFNO", "TextbookLayer"]


class TextbookLayer(nn.Module):
    """rfft2 → complex product on the low modes of both signs → irfft2, all ortho-normalized."""

    def __init__(self, channels: int, modes: int) -> None:
        super().__init__()
        self.modes = modes
        shape = (channels, channels, modes, modes, 2)
        self.weights1 = nn.Parameter(torch.rand(shape) / channels**2)
        self.weights2 = nn.Parameter(torch.rand(shape) / channels**2)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, channel, y, x)`` to the same shape."""
        m = self.modes
        spectrum = torch.fft.rfft2(x, norm="ortho")
        out = torch.zeros_like(spectrum)
        out[:, :, :m, :m] = self._product(spectrum[:, :, :m, :m], self.weights1)
        out[:, :, -m:, :m] = self._product(spectrum[:, :, -m:, :m], self.weights2)
        return torch.fft.irfft2(out, s=x.shape[-2:], norm="ortho")

    @staticmethod
    def _product(spectrum: Tensor, weights: Tensor) -> Tensor:
        return torch.einsum("bixy,ioxy->boxy", spectrum, torch.view_as_complex(weights))


class TextbookFNO(nn.Module):
    """The reference network on ``(batch, channel, y, x)``; constant channels carry the coefficients."""

    def __init__(self, in_channels: int, *, width: int, modes: int, num_layers: int = 4) -> None:
        super().__init__()
        self.lift = nn.Linear(in_channels, width)
        self.spectral = nn.ModuleList(TextbookLayer(width, modes) for _ in range(num_layers))
        self.skips = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in range(num_layers))
        self.fc1 = nn.Linear(width, 128)
        self.fc2 = nn.Linear(128, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, in_channels, y, x)`` to ``(batch, 1, y, x)``."""
        x = self.lift(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        for index, (spectral, skip) in enumerate(zip(self.spectral, self.skips, strict=True)):
            x = spectral(x) + skip(x.flatten(2)).view_as(x)
            if index < len(self.spectral) - 1:
                x = functional.gelu(x)
        return self.fc2(functional.gelu(self.fc1(x.permute(0, 2, 3, 1)))).permute(0, 3, 1, 2)
