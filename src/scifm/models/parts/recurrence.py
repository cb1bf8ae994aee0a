"""Long Expressive Memory: a recurrent cell with a fast and a slow state, each with learned step sizes in time.

    g = Δt σ(W₁ y + V₁ u + b₁)                    step sizes of the fast state z
    h = Δt σ(W₂ y + V₂ u + b₂)                    step sizes of the slow state y
    z ← z + g (tanh(W_z y + V_z u + b_z) − z)
    y ← y + h (tanh(W_y z + V_y u + b_y) − y)      with the new z

with the states of before on the right unless it says otherwise, zero at the beginning. It is a step, in part implicit,
of two coupled equations for relaxation with a rate that hangs on state and input. As g and h lie between 0 and Δt, what
is remembered neither explodes nor dies out within a few steps.

Told twice: by torch, step after step; and in C, all steps of a sequence at once. What inputs add is one product for all
steps, and so is the gradient of every weight.

References:
    Rusch, Mishra, Erichson and Mahoney, Long Expressive Memory for Sequence Modeling, ICLR 2022, arXiv:2110.04744.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from scifm.models.parts.native import is_exporting, native_for
from scifm.native import Library

__all__ = ["LEM", "States"]

States = tuple[Tensor, Tensor]
"""Fast and slow state, ``(batch, width)`` each."""


class LEM(nn.Module):
    """Long Expressive Memory over all steps of sequences.

    Every map has a bias, as published, so that each of the four sums has two. Weights and biases are drawn evenly from
    −1/√width to 1/√width.

    Args:
        num_inputs: numbers of a step.
        width: numbers of each state.
        time_step: Δt, the longest step.
        plain: whether torch's own operations do it, which have derivatives of every order.
    """

    def __init__(self, num_inputs: int, width: int, *, time_step: float = 1.0, plain: bool = False) -> None:
        super().__init__()
        self.time_step, self.plain = time_step, plain
        self.inputs = nn.Linear(num_inputs, 4 * width)
        self.slow = nn.Linear(width, 3 * width)
        self.fast = nn.Linear(width, width)
        for weight in self.parameters():
            nn.init.uniform_(weight, -(width**-0.5), width**-0.5)

    @property
    def width(self) -> int:
        """Numbers of each state."""
        return self.fast.in_features

    def forward(
        self, x: Float[Tensor, "time batch input"], states: States | None = None
    ) -> tuple[Float[Tensor, "time batch width"], States]:
        """Return the slow state after every step, and both states after the last one.

        Args:
            states: before the first step; zero when left out.
        """
        bias = self.inputs.bias + torch.cat([self.slow.bias, self.fast.bias])
        added = torch.addmm(bias, x.flatten(0, 1), self.inputs.weight.T).view(*x.shape[:2], -1)
        if states is None:
            zero = added.new_zeros(x.shape[1], self.width)
            states = zero, zero
        traced = is_exporting() or torch.is_autocast_enabled(x.device.type)
        native = None if self.plain or traced else native_for(added)
        if native is None:
            return self._stepped(added, states)
        slow, last_fast = _Native.apply(added, self.slow.weight, self.fast.weight, *states, self.time_step, native)
        return slow, (last_fast, slow[-1])

    def _stepped(self, added: Tensor, states: States) -> tuple[Tensor, States]:
        z, y = states
        width, made = self.width, []
        slow, fast, dt = self.slow.weight.T, self.fast.weight.T, self.time_step
        for now in added.unbind(0):  # a slice by its place would make a whole gradient for each step
            of_slow = now[:, : 3 * width] + y @ slow
            steps, candidate = dt * torch.sigmoid(of_slow[:, : 2 * width]), torch.tanh(of_slow[:, 2 * width :])
            z = z + steps[:, :width] * (candidate - z)
            y = y + steps[:, width:] * (torch.tanh(now[:, 3 * width :] + z @ fast) - y)
            made.append(y)
        return torch.stack(made), (z, y)


class _Native(torch.autograd.Function):
    """The sequence in C; its gradient is that of the steps, weights by one product each."""

    @staticmethod
    def forward(
        ctx: Any, added: Tensor, slow: Tensor, fast: Tensor, z: Tensor, y: Tensor, time_step: float, native: Library
    ) -> tuple[Tensor, Tensor]:
        steps, batch, width = len(added), added.shape[1], fast.shape[0]
        made = added.clone(memory_format=torch.contiguous_format)
        states = added.new_empty(2, steps + 1, batch, width)
        states[0, 0], states[1, 0] = z, y
        dt = added.new_tensor([time_step])
        weights = slow.T.contiguous(), fast.T.contiguous()
        native.call("lem", steps, batch, width, dt, *weights, made, states[0], states[1])
        ctx.save_for_backward(made, states, slow, fast)
        ctx.dt, ctx.native = dt, native
        return states[1, 1:].clone(), states[0, -1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        made, states, slow, fast = ctx.saved_tensors
        (fast_states, slow_states), width = states, fast.shape[0]
        steps, batch = made.shape[:2]
        into = made.clone()  # a second backward pass needs what was made
        grad_z = grads[1].clone(memory_format=torch.contiguous_format)
        grad_y = torch.zeros_like(grad_z)
        weights, above = (slow.contiguous(), fast.contiguous()), grads[0].contiguous()
        sizes = (steps, batch, width)
        about = (ctx.dt, *weights, above, fast_states, slow_states, into, grad_z, grad_y)
        ctx.native.call("lem_gradient", *sizes, *about)
        rows = into.flatten(0, 1)
        grad_slow = rows[:, : 3 * width].T @ slow_states[:-1].flatten(0, 1)
        grad_fast = rows[:, 3 * width :].T @ fast_states[1:].flatten(0, 1)
        return into, grad_slow, grad_fast, grad_z, grad_y, None, None
