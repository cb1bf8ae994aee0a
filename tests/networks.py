"""Networks as users write them, for the tests of operators around anyone's network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = [
    "Dropping",
    "ExactPoisson",
    "GlobalNet",
    "Idle",
    "Rippled",
    "Severed",
    "Shift",
    "SmallConv",
    "Tied",
    "WrongShape",
]


class GlobalNet(nn.Module):
    """A periodic convolution, and the mean over space mixed into every point: everything hangs on everything."""

    def __init__(self, channels_in: int, channels_out: int, width: int = 6) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels_in, width, 3, padding=1, padding_mode="circular")
        self.mean = nn.Linear(width, width)
        self.last = nn.Conv2d(width, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(x))
        mean = self.mean(hidden.mean((-2, -1)))
        return self.last(torch.tanh(hidden + mean[..., None, None]))


class SmallConv(nn.Module):
    """Keeps a fixed filter beside its weights, as a buffer that is not saved, made from numbers read off a tensor."""

    def __init__(self, channels_in: int, channels_out: int, width: int = 4, *, reads_numbers: bool = False) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(channels_in, width, 3, padding="same"), nn.GELU())
        self.last = nn.Conv2d(width, channels_out, 1)
        scale = torch.linspace(1, 2, width).tolist() if reads_numbers else 1.5
        self.register_buffer("filter", torch.ones(width, 1, 1) * torch.as_tensor(scale).view(-1, 1, 1), False)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.net(x) * self.filter)


class Shift(nn.Module):
    """The forcing times a number, plus a number: no matrix product anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.gain, self.shift = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :1] * self.gain + self.shift


class Tied(nn.Module):
    """One weight under two names, and one that is complex."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 1, 1)
        self.second = nn.Conv2d(1, 1, 1)
        self.second.weight = self.first.weight
        self.turn = nn.Parameter(torch.randn(3, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)) * self.turn.real.sum() + self.turn.imag.prod()


class WrongShape(nn.Module):
    """Answers on half the grid."""

    def __init__(self, channels_in: int) -> None:
        super().__init__()
        self.map = nn.Conv2d(channels_in, 1, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.map(x)


class Idle(nn.Module):
    """A convolution, and weights that nothing hangs on."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.map = nn.Conv2d(channels_in, channels_out, 3, padding=1, padding_mode="circular")
        self.idle = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.map(x)


class Dropping(nn.Module):
    """A convolution behind dropout."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.map = nn.Conv2d(channels_in, channels_out, 3, padding=1, padding_mode="circular")

    def forward(self, x: Tensor) -> Tensor:
        return self.map(nn.functional.dropout(x, 0.5, self.training))


class ExactPoisson(nn.Module):
    """Solves −∇·(D∇u) = f on the periodic unit square, times a weight; what is added at a fixed place is another one.

    Args:
        gain: times the solution.
        added: times a field that hangs on the place alone, of the size of a solution.
    """

    def __init__(self, gain: float = 1.0, added: float = 0.0) -> None:
        super().__init__()
        self.gain, self.added = nn.Parameter(torch.tensor(gain)), nn.Parameter(torch.tensor(added))
        self.rest = nn.Dropout(0.0)

    def forward(self, x: Tensor) -> Tensor:
        forcing, xx, yy, xy = x.unbind(1)
        rows, columns = (
            2 * torch.pi * torch.fft.fftfreq(n, 1 / n, dtype=x.dtype, device=x.device) for n in x.shape[-2:]
        )
        ky, kx = torch.meshgrid(rows, columns, indexing="ij")
        symbol = xx * kx**2 + 2 * xy * kx * ky + yy * ky**2
        symbol[..., 0, 0] = torch.inf
        solution = torch.fft.ifft2(torch.fft.fft2(forcing) / symbol).real
        place = torch.linspace(0, 1, x.shape[-1], dtype=x.dtype, device=x.device).expand_as(solution)
        size = solution.square().mean((-2, -1), keepdim=True).sqrt()
        return self.rest(self.gain * solution + self.added * size * place).unsqueeze(1)


class Severed(nn.Module):
    """A network whose training path is broken: all but the last number is cut off from the gradient."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.body, self.gain = GlobalNet(channels_in, channels_out), nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).detach() * self.gain


class Rippled(ExactPoisson):
    """As `ExactPoisson` with a gain that rises and falls as two of its weights move."""

    def __init__(self) -> None:
        super().__init__()
        self.ripples = nn.Parameter(torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        ripple = (12 * self.ripples[:2]).cos()
        return super().forward(x) * (2 - 0.5 * ripple[0] - 0.4 * ripple[1])
