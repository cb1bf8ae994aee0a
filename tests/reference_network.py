"""The network of the reference transfer paper, written anew from its description, and a checkpoint as its code writes.

Lift; four Fourier layers with a pointwise skip, GELU after all but the last; fc1, GELU, fc2. Spectral weights are real
pairs; transforms are ortho-normal.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ReferenceModule", "write_checkpoint"]


class _Spectral(nn.Module):
    def __init__(self, width: int, modes: int) -> None:
        super().__init__()
        self.modes = modes
        self.weights1, self.weights2 = (nn.Parameter(torch.rand(width, width, modes, modes, 2) / width) for _ in "12")

    def forward(self, x: Tensor) -> Tensor:
        m, spectrum = self.modes, torch.fft.rfft2(x, norm="ortho")
        out = torch.zeros_like(spectrum)
        for rows, weights in ((slice(0, m), self.weights1), (slice(-m, None), self.weights2)):
            mixing = torch.view_as_complex(weights)
            out[:, :, rows, :m] = torch.einsum("bixy,ioxy->boxy", spectrum[:, :, rows, :m], mixing)
        return torch.fft.irfft2(out, s=x.shape[-2:], norm="ortho")


class ReferenceModule(nn.Module):
    """Maps ``(batch, channels, y, x)`` to ``(batch, 1, y, x)``."""

    def __init__(self, channels: int = 4, width: int = 6, modes: int = 5, projection: int = 9) -> None:
        super().__init__()
        self.fc0 = nn.Linear(channels, width)
        self.sp_convs = nn.ModuleList(_Spectral(width, modes) for _ in range(4))
        self.ws = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in range(4))
        self.fc1, self.fc2 = nn.Linear(width, projection), nn.Linear(projection, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc0(x.movedim(1, -1)).movedim(-1, 1)
        for index, (spectral, skip) in enumerate(zip(self.sp_convs, self.ws, strict=True)):
            x = spectral(x) + skip(x.flatten(2)).view(x.shape)
            x = functional.gelu(x) if index < 3 else x
        return self.fc2(functional.gelu(self.fc1(x.movedim(1, -1)))).movedim(-1, 1)


def write_checkpoint(network: nn.Module, path: Path) -> None:
    """Write what the reference's training leaves after one step of it, data-parallel prefix included."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=500)
    network(torch.randn(2, network.fc0.in_features, 12, 12)).square().sum().backward()
    optimizer.step()
    scheduler.step()
    torch.save(
        {
            "iters": 1,
            "epoch": 1,
            "model_state": {f"module.{name}": tensor for name, tensor in network.state_dict().items()},
            "optimizer_state_dict": optimizer.state_dict(),
            "scheduler_state_dict": scheduler.state_dict(),
        },
        path,
    )
