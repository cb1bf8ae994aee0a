"""The projection at the end of a network: two pointwise maps with GELU between, never wholly in memory.

The hidden layer between the two maps is several times wider than the network, and the widest thing a step would keep.
It is made a slice of points at a time, small enough to stay in the cache, and made again in the backward pass instead
of being stored.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from scifm.models.parts.workspace import Workspace

__all__ = ["Projection"]

_SLICE_ELEMENTS = 1 << 18  # hidden numbers alive at a time: 1 MiB in float32


class _SlicedProjection(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, first: Tensor, first_bias: Tensor, last: Tensor, last_bias: Tensor, workspace: Workspace
    ) -> Tensor:
        ctx.save_for_backward(x, first, first_bias, last)
        ctx.workspace = workspace
        out = x.new_empty(len(x), len(last))
        for rows in _slices(len(x), len(first)):
            hidden = torch.addmm(first_bias, x[rows], first.T)
            torch.addmm(last_bias, functional.gelu(hidden), last.T, out=out[rows])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, first, first_bias, last = ctx.saved_tensors
        grad_x, grad_first, grad_last = ctx.workspace.empty(x.shape, x), torch.zeros_like(first), torch.zeros_like(last)
        grad_first_bias = torch.zeros_like(first_bias)
        for rows in _slices(len(x), len(first)):
            hidden = torch.addmm(first_bias, x[rows], first.T)
            grad_last.addmm_(grad[rows].T, functional.gelu(hidden))
            grad_hidden = torch.ops.aten.gelu_backward(grad[rows] @ last, hidden)
            torch.mm(grad_hidden, first, out=grad_x[rows])
            grad_first.addmm_(grad_hidden.T, x[rows])
            grad_first_bias += grad_hidden.sum(0)
        return grad_x, grad_first, grad_first_bias, grad_last, grad.sum(0), None


def _slices(num_points: int, width: int) -> list[slice]:
    size = max(1, _SLICE_ELEMENTS // width)
    return [slice(start, start + size) for start in range(0, num_points, size)]


class Projection(nn.ModuleList):
    """``x ↦ W₂ gelu(W₁ x + b₁) + b₂`` on the last axis.

    Args:
        in_channels: channels of the input.
        width: channels between the two maps.
        out_channels: channels of the output.
        workspace: where large tensors come from; its own when left out.
    """

    def __init__(self, in_channels: int, width: int, out_channels: int, *, workspace: Workspace | None = None) -> None:
        super().__init__([nn.Linear(in_channels, width), nn.Linear(width, out_channels)])
        self.workspace = workspace or Workspace()

    def forward(self, x: Float[Tensor, "*points in"]) -> Float[Tensor, "*points out"]:
        """Map ``(..., in_channels)`` to ``(..., out_channels)``."""
        first, last = self
        assert isinstance(first, nn.Linear)
        assert isinstance(last, nn.Linear)
        if torch.is_autocast_enabled(x.device.type):
            return last(functional.gelu(first(x)))  # the casts are autocast's to choose
        flat = x.reshape(-1, x.shape[-1])
        out = _SlicedProjection.apply(flat, first.weight, first.bias, last.weight, last.bias, self.workspace)
        return out.view(*x.shape[:-1], -1)
