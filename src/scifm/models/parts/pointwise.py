"""The two ends of a network, pointwise: fields and coefficients to hidden channels, and hidden channels to answers.

Coefficients are the same at every point, so they enter as a bias a sample, at the cost of one small product. The hidden
layer of the projection is several times wider than the network, and the widest thing a step would keep: it is made a
slice of points at a time, small enough to stay in the cache, and made again in the backward pass instead of being
stored. The heavy steps are told twice, as those of `kernels` are.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from scifm.models.parts.native import is_exporting, native_for
from scifm.models.parts.workspace import Workspace

__all__ = ["Lift", "Projection", "lift_fields", "projection", "projection_gradients"]

_SLICE_ELEMENTS = 1 << 18  # hidden numbers of the projection alive at a time: 1 MiB in float32


def lift_fields(
    fields: Float[Tensor, "*space batch field"],
    weight: Float[Tensor, "width field"],
    bias: Float[Tensor, "batch width"],
    workspace: Workspace,
) -> Float[Tensor, "*space batch width"]:
    """Return ``W f + b`` with a bias a sample."""
    *space, batch, num_fields = fields.shape
    out = workspace.empty((*space, batch, len(weight)), fields)
    if native := native_for(fields):
        sizes = (math.prod(space), batch, num_fields, len(weight))
        native.call("lift", *sizes, fields, weight.T.contiguous(), bias.contiguous(), out)
        return out
    torch.mm(fields.view(-1, num_fields), weight.T, out=out.view(-1, len(weight)))
    return out.add_(bias)


class _LiftFields(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, fields: Tensor, weight: Tensor, bias: Tensor, workspace: Workspace) -> Tensor:
        ctx.save_for_backward(fields, weight)
        return lift_fields(fields, weight, bias, workspace)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        fields, weight = ctx.saved_tensors
        grad = grads[0]
        needs_fields, needs_weight, needs_bias, _ = ctx.needs_input_grad
        grad_fields = grad @ weight if needs_fields else None
        grad_weight = grad.flatten(0, -2).T @ fields.flatten(0, -2) if needs_weight else None
        return grad_fields, grad_weight, grad.flatten(0, -3).sum(0) if needs_bias else None, None


class Lift(nn.Linear):
    """One linear map of fields and coefficients, side by side, to `width` channels.

    Args:
        plain: whether torch's own operations do it, which have derivatives of every order.
    """

    def __init__(
        self, num_fields: int, num_coefficients: int, width: int, *, workspace: Workspace, plain: bool = False
    ) -> None:
        super().__init__(num_fields + num_coefficients, width)
        self.num_fields, self.plain = num_fields, plain
        self.workspace = workspace

    def forward(  # type: ignore[override]
        self, fields: Float[Tensor, "batch field *space"], coefficients: Float[Tensor, "batch coefficient"]
    ) -> Float[Tensor, "*space batch width"]:
        """Return hidden channels, space first and channels last."""
        field_weight, coefficient_weight = self.weight.split([self.num_fields, coefficients.shape[1]], dim=1)
        bias = torch.addmm(self.bias, coefficients, coefficient_weight.T)
        fields = fields.permute(*range(2, fields.dim()), 0, 1)
        # the casts are autocast's to choose
        if self.plain or is_exporting() or torch.is_autocast_enabled(fields.device.type):
            return fields @ field_weight.T + bias
        lifted: Tensor = _LiftFields.apply(fields.contiguous(), field_weight, bias, self.workspace)
        return lifted


def projection(
    x: Float[Tensor, "points in"], first: Tensor, first_bias: Tensor, last: Tensor, last_bias: Tensor
) -> Float[Tensor, "points out"]:
    """Return ``W₂ gelu(W₁ x + b₁) + b₂``, the wide middle a slice at a time."""
    out = x.new_empty(len(x), len(last))
    if native := native_for(x):
        tensors = (x, first.T.contiguous(), first_bias, last.contiguous(), last_bias, out)
        native.call("projection", *x.shape, *last.T.shape, *tensors)
        return out
    for rows in _slices(len(x), len(first)):
        hidden = torch.addmm(first_bias, x[rows], first.T)
        torch.addmm(last_bias, functional.gelu(hidden), last.T, out=out[rows])
    return out


def projection_gradients(
    x: Float[Tensor, "points in"],
    first: Tensor,
    first_bias: Tensor,
    last: Tensor,
    grad: Float[Tensor, "points out"],
    workspace: Workspace,
    *,
    needs_x: bool = True,
) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
    """Return the gradients of `projection` with respect to x, first, first_bias and last; the middle is made again."""
    grad_x = workspace.empty(x.shape, x) if needs_x else None
    if native := native_for(x):
        sizes = first.numel(), last.numel(), first_bias.numel()
        sums = x.new_empty(sum(sizes))
        tensors = (x, first.contiguous(), first.T.contiguous(), first_bias, last.contiguous(), grad, grad_x, sums)
        native.call("projection_gradients", *x.shape, *last.T.shape, *tensors)
        grad_first, grad_last, grad_bias = sums.split(sizes)
        return grad_x, grad_first.view_as(first), grad_bias, grad_last.view_as(last)
    grad_first, grad_bias, grad_last = torch.zeros_like(first), torch.zeros_like(first_bias), torch.zeros_like(last)
    for rows in _slices(len(x), len(first)):
        hidden = torch.addmm(first_bias, x[rows], first.T)
        grad_last.addmm_(grad[rows].T, functional.gelu(hidden))
        grad_hidden = torch.ops.aten.gelu_backward(grad[rows] @ last, hidden)
        if grad_x is not None:
            torch.mm(grad_hidden, first, out=grad_x[rows])
        grad_first.addmm_(grad_hidden.T, x[rows])
        grad_bias += grad_hidden.sum(0)
    return grad_x, grad_first, grad_bias, grad_last


def _slices(num_points: int, width: int) -> list[slice]:
    size = max(1, _SLICE_ELEMENTS // width)
    return [slice(start, start + size) for start in range(0, num_points, size)]


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
        gradients = projection_gradients(x, first, first_bias, last, grad, ctx.workspace, needs_x=needs_x)
        return *gradients, grad.sum(0), None


class Projection(nn.ModuleList):
    """``x ↦ W₂ gelu(W₁ x + b₁) + b₂`` on the last axis.

    Args:
        plain: whether torch's own operations do it, which have derivatives of every order.
    """

    def __init__(
        self, channels: int, width: int, out_channels: int, *, workspace: Workspace | None = None, plain: bool = False
    ) -> None:
        super().__init__([nn.Linear(channels, width), nn.Linear(width, out_channels)])
        self.plain, self.workspace = plain, workspace or Workspace()

    def forward(self, x: Float[Tensor, "*points in"]) -> Float[Tensor, "*points out"]:
        """Map ``(..., channels)`` to ``(..., out_channels)``."""
        first, last = self
        assert isinstance(first, nn.Linear)
        assert isinstance(last, nn.Linear)
        # the casts are autocast's to choose
        if self.plain or is_exporting() or torch.is_autocast_enabled(x.device.type):
            return last(functional.gelu(first(x)))
        flat = x.reshape(-1, x.shape[-1])
        out = _SlicedProjection.apply(flat, first.weight, first.bias, last.weight, last.bias, self.workspace)
        return out.view(*x.shape[:-1], -1)
