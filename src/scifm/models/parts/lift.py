"""The first step of a network: fields and constant coefficients to hidden channels.

Coefficients are the same at every point, so they enter as a bias a sample, at the cost of one small product.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from scifm.models.parts.kernels import lift_fields
from scifm.models.parts.native import is_exporting
from scifm.models.parts.workspace import Workspace

__all__ = ["Lift"]


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
        num_fields: input fields.
        num_coefficients: constants a sample.
        width: channels out.
        workspace: where large tensors come from.
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
