"""The textbook Fourier neural operator, written plainly: the contestant that ours is measured against.

Layout ``(batch, channel, *space)``, full fast Fourier transforms, complex products by einsum: how the published codes
do it. The network is the reference transfer paper's (arXiv:2306.00258): lift, four Fourier layers with GELU after all
but the last, projection width → 128 → 1; spectral weights as real pairs, uniform in [0, 1/(C_in·C_out)).
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["TextbookFNO", "TextbookLayer"]


class TextbookLayer(nn.Module):
    """rfftn → complex product on the low modes of both signs → irfftn, all ortho-normalized."""

    def __init__(self, channels: int, modes: int, *, num_spatial_dims: int = 2) -> None:
        super().__init__()
        signs = itertools.product((slice(0, modes), slice(-modes, None)), repeat=num_spatial_dims - 1)
        self.corners = [(..., *sign, slice(0, modes)) for sign in signs]
        self.axes = tuple(range(-num_spatial_dims, 0))
        shape = (channels, channels, *(modes,) * num_spatial_dims, 2)
        self.weights = nn.ParameterList(nn.Parameter(torch.rand(shape) / channels**2) for _ in self.corners)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, channel, *space)`` to the same shape."""
        spectrum = torch.fft.rfftn(x, dim=self.axes, norm="ortho")
        out = torch.zeros_like(spectrum)
        for corner, weights in zip(self.corners, self.weights, strict=True):
            out[corner] = torch.einsum("bi...,io...->bo...", spectrum[corner], torch.view_as_complex(weights))
        return torch.fft.irfftn(out, s=[x.shape[axis] for axis in self.axes], dim=self.axes, norm="ortho")


class TextbookFNO(nn.Module):
    """The reference network on ``(batch, channel, *space)``; constant channels carry the coefficients."""

    def __init__(
        self, in_channels: int, *, width: int, modes: int, num_layers: int = 4, num_spatial_dims: int = 2
    ) -> None:
        super().__init__()
        dims = {"num_spatial_dims": num_spatial_dims}
        self.lift = nn.Linear(in_channels, width)
        self.spectral = nn.ModuleList(TextbookLayer(width, modes, **dims) for _ in range(num_layers))
        self.skips = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in range(num_layers))
        self.fc1 = nn.Linear(width, 128)
        self.fc2 = nn.Linear(128, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, in_channels, *space)`` to ``(batch, 1, *space)``."""
        x = self.lift(x.movedim(1, -1)).movedim(-1, 1)
        for index, (spectral, skip) in enumerate(zip(self.spectral, self.skips, strict=True)):
            x = spectral(x) + skip(x.flatten(2)).view_as(x)
            if index < len(self.spectral) - 1:
                x = functional.gelu(x)
        return self.fc2(functional.gelu(self.fc1(x.movedim(1, -1)))).movedim(-1, 1)
