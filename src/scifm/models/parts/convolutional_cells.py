"""Recurrent cells whose maps are convolutions: what is remembered is a field, and places hear their neighbours.

Long Expressive Memory (``lem``), with a fast state C, a slow one H, peepholes P and a reset gate r::

    c ← Δt σ(W₁x + U₁H + P₁C)           C ← (1 − c) C + c tanh(W_c x + U_c H)
    h ← Δt σ(W₂x + U₂H + P₂C)           r ← Δt σ(W₃x + U₃H + P₃C)            with the new C
    H ← (1 − h) H + h tanh(r (V C) + W_h x)

W, U and V are convolutions, P fields of numbers, products of fields are taken point by point. Beside it the two cells
that it is compared with: ``lstm`` and ``gru``, with peepholes too. What inputs add is one convolution for all steps.

References:
    Lyu et al., WaveCastNet, arXiv:2405.20516 (the first, and the two others as it compares them); Shi et al.,
    Convolutional LSTM Network, arXiv:1506.04214.
"""

from __future__ import annotations

import abc
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from scifm.models.parts.depthwise import padded

__all__ = ["CELLS", "Cell", "Convolution", "States", "framed"]

States = tuple[Tensor, Tensor]
"""What a cell remembers, ``(batch, width, *space)`` each, the one that is answered last; of ``gru`` twice the same."""

_CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


def framed(x: Tensor, before: int, after: int, wraps: tuple[bool, ...]) -> Tensor:
    """Return fields ``(batch, channel, *space)`` with more points at both ends: a period where they meet, else zero."""
    for place, wrap in enumerate(wraps):
        if wrap:
            x = padded(x, 2 + place, before, after, wraps=True)
        else:
            x = functional.pad(x, (0, 0) * (len(wraps) - 1 - place) + (before, after))
    return x


class Convolution(nn.Module):
    """A convolution of fields ``(batch, channel, *space)`` that knows whether ends meet.

    Args:
        num_inputs, num_outputs: channels.
        kernel_size: taps along each axis.
        num_axes: 1, 2 or 3.
        stride: points that become one; the kernel then has an even number of taps.
        bias: whether there is one.
    """

    def __init__(
        self, num_inputs: int, num_outputs: int, kernel_size: int, num_axes: int, *, stride: int = 1, bias: bool = True
    ) -> None:
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(num_outputs, num_inputs, *(kernel_size,) * num_axes))
        self.bias = nn.Parameter(torch.zeros(num_outputs)) if bias else None
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x: Tensor, wraps: tuple[bool, ...]) -> Tensor:
        """Return the convolution; `wraps` tells of each axis whether its ends meet."""
        taps = self.weight.shape[-1]
        reach = taps - self.stride
        x = framed(x, reach // 2, reach - reach // 2, wraps)
        return _CONVOLUTIONS[len(wraps)](x, self.weight, self.bias, stride=self.stride)


class Cell(nn.Module, abc.ABC):
    """A cell: what its inputs add, and a step.

    Args:
        num_inputs: channels of its input.
        width: channels of what it remembers.
        kernel_size: taps of its convolutions along each axis.
        latent: points of the fields, which peepholes are for; None: without peepholes.
        num_axes: 1, 2 or 3.
    """

    of_inputs: ClassVar[int]
    of_state: ClassVar[int]
    peepholes: ClassVar[int]

    def __init__(
        self, num_inputs: int, width: int, kernel_size: int, latent: tuple[int, ...] | None, num_axes: int
    ) -> None:
        super().__init__()
        self.inputs = Convolution(num_inputs, self.of_inputs * width, kernel_size, num_axes)
        self.state = Convolution(width, self.of_state * width, kernel_size, num_axes)
        self.looks = None
        if latent is not None:
            self.looks = nn.Parameter(torch.empty(self.peepholes, width, *latent))
            for look in self.looks.data:
                nn.init.xavier_uniform_(look)

    def looked(self, place: int, remembered: Tensor) -> Tensor | float:
        """Return what a peephole sees."""
        return 0.0 if self.looks is None else self.looks[place] * remembered

    @abc.abstractmethod
    def step(self, added: Tensor, states: States, wraps: tuple[bool, ...]) -> States:
        """Return what is remembered after a step; inputs add `added` to it, ``(batch, of_inputs · width, *space)``."""

    def start(self, like: Tensor) -> States:
        """Return what is remembered before the first step: zero; `like` is what inputs add."""
        zero = like.new_zeros(len(like), like.shape[1] // self.of_inputs, *like.shape[2:])
        return zero, zero

    def forward(self, x: Tensor, states: States | None, wraps: tuple[bool, ...]) -> tuple[Tensor, States]:
        """Return what is answered after every step, ``(time, batch, width, *space)``, and what is remembered at last.

        Args:
            x: inputs of all steps, ``(time, batch, channel, *space)``.
            states: before the first step; zero where there are none.
            wraps: tells of each axis whether its ends meet.
        """
        added = self.inputs(x.flatten(0, 1), wraps).unflatten(0, x.shape[:2])
        states = self.start(added[0]) if states is None else states
        answers = []
        for now in added.unbind(0):
            states = self.step(now, states, wraps)
            answers.append(states[-1])
        return torch.stack(answers), states


class _ConvLEM(Cell):
    of_inputs, of_state, peepholes = 5, 4, 3

    def __init__(
        self, num_inputs: int, width: int, kernel_size: int, latent: tuple[int, ...] | None, num_axes: int,
        *, time_step: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__(num_inputs, width, kernel_size, latent, num_axes)
        self.time_step = time_step
        self.fast = Convolution(width, width, kernel_size, num_axes)

    def step(self, added: Tensor, states: States, wraps: tuple[bool, ...]) -> States:
        fast, slow = states
        x1, x2, x3, x_fast, x_slow = added.chunk(5, 1)
        u1, u2, u3, u_fast = self.state(slow, wraps).chunk(4, 1)
        gate = self.time_step * torch.sigmoid(x1 + u1 + self.looked(0, fast))
        fast = torch.lerp(fast, torch.tanh(x_fast + u_fast), gate)
        gate = self.time_step * torch.sigmoid(x2 + u2 + self.looked(1, fast))
        reset = self.time_step * torch.sigmoid(x3 + u3 + self.looked(2, fast))
        return fast, torch.lerp(slow, torch.tanh(reset * self.fast(fast, wraps) + x_slow), gate)


class _ConvLSTM(Cell):
    of_inputs, of_state, peepholes = 4, 4, 3

    def step(self, added: Tensor, states: States, wraps: tuple[bool, ...]) -> States:
        cell, hidden = states
        takes, keeps, new, says = (added + self.state(hidden, wraps)).chunk(4, 1)
        kept = torch.sigmoid(keeps + self.looked(1, cell)) * cell
        cell = kept + torch.sigmoid(takes + self.looked(0, cell)) * torch.tanh(new)
        return cell, torch.sigmoid(says + self.looked(2, cell)) * torch.tanh(cell)


class _ConvGRU(Cell):
    of_inputs, of_state, peepholes = 3, 3, 2

    def step(self, added: Tensor, states: States, wraps: tuple[bool, ...]) -> States:
        hidden = states[-1]
        (x1, x2, x_new), (u1, u2, u_new) = added.chunk(3, 1), self.state(hidden, wraps).chunk(3, 1)
        keeps = torch.sigmoid(x1 + u1 + self.looked(0, hidden))
        reset = torch.sigmoid(x2 + u2 + self.looked(1, hidden))
        hidden = torch.lerp(torch.tanh(x_new + reset * u_new), hidden, keeps)
        return hidden, hidden


CELLS: dict[str, type[Cell]] = {"lem": _ConvLEM, "lstm": _ConvLSTM, "gru": _ConvGRU}
"""By what a recipe calls them."""
