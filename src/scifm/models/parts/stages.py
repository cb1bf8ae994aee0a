"""A linear map of patches, scaled and shifted by what is known of each sample, and GELU behind it.

    gelu((x W) · scale + shift)

One pass each way in ``stages.c`` where that can be used; torch takes six and twice as many.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from scifm.models.parts.convnext import per_sample
from scifm.models.parts.native import is_exporting, native_for
from scifm.models.parts.workspace import Workspace
from scifm.native import Library

__all__ = ["mapped", "modulated"]


def modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return ``(batch, …, channel)``, scaled and shifted by ``(batch, channel)``."""
    return torch.addcmul(per_sample(shift, x), x, per_sample(scale, x))


def mapped(
    x: Float[Tensor, "batch *tokens in"],
    weight: Float[Tensor, "in out"],
    scale: Float[Tensor, "sample out"],
    shift: Float[Tensor, "sample out"],
    *,
    active: bool,
    workspace: Workspace | None,
) -> Float[Tensor, "batch *tokens out"]:
    """Return ``(x W) · scale + shift``, or GELU of that.

    Args:
        x: points or patches.
        weight: of the map.
        scale, shift: of each sample, or one for all.
        active: whether GELU follows.
        workspace: of the network; None: torch's own operations do it, which have derivatives of every order.
    """
    own = workspace is None or is_exporting() or torch.is_autocast_enabled(x.device.type)
    native = None if own else native_for(x)
    if native is None or workspace is None:
        answer = modulated(x @ weight, scale, shift)
        return functional.gelu(answer) if active else answer
    told = (part.expand(len(x), -1).contiguous() for part in (scale, shift))
    mapped: Tensor = _Stage.apply(native, active, workspace, x.contiguous(), weight.contiguous(), *told)
    return mapped


class _Stage(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        native: Library,
        active: bool,
        workspace: Workspace,
        x: Tensor,
        weight: Tensor,
        scale: Tensor,
        shift: Tensor,
    ) -> Tensor:
        made, out = (workspace.empty((*x.shape[:-1], weight.shape[1]), x) for _ in range(2))
        native.call("stage", *_sizes(x, weight), x, weight, scale, shift, int(active), made, out)
        ctx.native, ctx.active, ctx.workspace = native, active, workspace
        ctx.save_for_backward(x, weight, scale, shift, made)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale, shift, made = ctx.saved_tensors
        of_x = ctx.workspace.empty(x.shape, x) if ctx.needs_input_grad[3] else None
        sizes = weight.numel(), scale.numel(), shift.numel()
        sums, grad = x.new_empty(sum(sizes)), grads[0].contiguous()
        tensors = (x, weight, scale, shift, int(ctx.active), made, grad, of_x, sums)
        ctx.native.call("stage_gradients", *_sizes(x, weight), *tensors)
        of_weight, of_scale, of_shift = sums.split(sizes)
        return None, None, None, of_x, of_weight.view_as(weight), of_scale.view_as(scale), of_shift.view_as(shift)


def _sizes(x: Tensor, weight: Tensor) -> tuple[int, ...]:
    return len(x), math.prod(x.shape[1:-1]), *weight.shape
