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

from scifm.models.parts.kernels import projection, projection_gradients
from scifm.models.parts.native import is_exporting
from scifm.models.parts.workspace import Workspace

__all__ = ["Projection"]


class _SlicedProjection(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, first: Tensor, first_bias: Tensor, last: Tensor, last_bias: Tensor, workspace: Workspace
    ) -> Tensor:
        ctx.save_for_backward(x, first, first_bias, last)
        ctx.workspace = workspace
        return projection(x, first, first_bias, last, last_bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, first, first_bias, last = ctx.saved_tensors
        grad = grads[0].contiguous()
        needs_x = ctx.needs_input_grad[0]  # not where the projection is all that trains
        found = projection_gradients(x, first, first_bias, last, grad, ctx.workspace, needs_x=needs_x)
        return *found, grad.sum(0), None


class Projection(nn.ModuleList):
    """``x ↦ W₂ gelu(W₁ x + b₁) + b₂`` on the last axis.

    Args:
        in_channels: channels of the input.
        width: channels between the two maps.
        out_channels: channels of the output.
        workspace: where large tensors come from; its own when left out.
        plain: whether torch's own operations do it, which have derivatives of every order.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        out_channels: int,
        *,
        workspace: Workspace | None = None,
        plain: bool = False,
    ) -> None:
        super().__init__([nn.Linear(in_channels, width), nn.Linear(width, out_channels)])
        self.plain = plain
        self.workspace = workspace or Workspace()

    def forward(self, x: Float[Tensor, "*points in"]) -> Float[Tensor, "*points out"]:
        """Map ``(..., in_channels)`` to ``(..., out_channels)``."""
        first, last = self
        assert isinstance(first, nn.Linear)
        assert isinstance(last, nn.Linear)
        # the casts are autocast's to choose
        if self.plain or is_exporting() or torch.is_autocast_enabled(x.device.type):
            return last(functional.gelu(first(x)))
        flat = x.reshape(-1, x.shape[-1])
        out = _SlicedProjection.apply(flat, first.weight, first.bias, last.weight, last.bias, self.workspace)
        return out.view(*x.shape[:-1], -1)
