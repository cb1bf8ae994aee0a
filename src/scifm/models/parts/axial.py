"""A block of attention along time, then along the axes of space, then a pointwise network; and what is told to each.

    x + γ₁ W (norm(attention over time(norm x)))
    x + γ₂ W (norm(mean over the axes of space of attention along that axis(norm x)))
    x + γ₃ norm(W₂ gelu(W₁ x))

on tokens ``(batch, time, *space, channel)``. The axes of space share queries, keys, values and the table of relative
positions. Queries and keys are normalized, so that no logit grows without bound. Norms take a token's channels; their
scales and shifts are moved by what is known of each sample. The layout, and with it the number of weights, is that of
McCabe et al., "Multiple physics pretraining for spatiotemporal surrogate models" (arXiv:2310.02994), whose norms
within a block take a channel's tokens instead: with few tokens those tell more of the others than of the one.

Of one frame there is nothing else to look at, and a block has no attention over time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from scifm.models.parts.attention import MOST_TOKENS, native_block
from scifm.models.parts.convnext import channel_norm
from scifm.models.parts.matrices import Matrices
from scifm.models.parts.native import is_exporting, native_for
from scifm.models.parts.relative import NUM_BUCKETS, axis_bias, lines_bias
from scifm.models.parts.stages import modulated
from scifm.models.parts.workspace import Workspace
from scifm.native import Library

__all__ = ["AxialBlock", "Modulations"]

_AT_ONCE = 64  # tokens of a box up to which the CPU compares all with all, and keeps what lies on common lines


class Modulations(nn.Module):
    """Scale and shift of every norm of a network, moved by what is known of each sample: all of them in one product.

    Args:
        channels: of all norms of each part of the network.
        condition_width: numbers that tell of each sample; 0: none.
        workspace: of the network; None: torch's own operations do it, which have derivatives of every order.
    """

    def __init__(self, channels: Sequence[int], condition_width: int, *, workspace: Workspace | None = None) -> None:
        super().__init__()
        self.sizes, self.workspace = tuple(2 * number for number in channels), workspace
        base = [torch.tensor([1.0, 0.0]).repeat_interleave(number) for number in channels]
        self.base = nn.Parameter(torch.cat(base))  # of each part the scales, then the shifts
        self.moved = nn.Parameter(torch.empty(len(self.base), condition_width)) if condition_width else None
        if self.moved is not None:
            nn.init.normal_(self.moved, std=0.1 / math.sqrt(condition_width))

    def matrices(self) -> Matrices | None:
        """Return the one matrix of what moves them."""
        return None if self.moved is None else Matrices("moved", self.moved.detach()[None])

    def forward(self, condition: Float[Tensor, "batch number"] | None) -> tuple[Tensor, ...]:
        """Return of each part the scales, then the shifts, ``(batch, 2 channel)``; of no condition ``(1, …)``."""
        if self.moved is None or condition is None:
            return self.base[None].split(self.sizes, dim=1)
        own = self.workspace is None or is_exporting() or torch.is_autocast_enabled(condition.device.type)
        if own or torch.compiler.is_compiling():
            return functional.linear(condition, self.moved, self.base).split(self.sizes, dim=1)
        told: Tensor = _Told.apply(condition, self.moved, self.base, self.workspace)
        return told.split(self.sizes, dim=1)


class _Told(torch.autograd.Function):
    """A linear map whose weights are many beside its samples: their gradient is in memory that is used again."""

    @staticmethod
    def forward(ctx: Any, condition: Tensor, weight: Tensor, base: Tensor, workspace: Workspace) -> Tensor:
        ctx.save_for_backward(condition, weight)
        ctx.workspace = workspace
        return torch.addmm(base, condition, weight.T)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        condition, weight = ctx.saved_tensors
        of_weight = ctx.workspace.empty(weight.shape, weight)
        torch.mm(grads[0].T, condition, out=of_weight)
        return grads[0] @ weight, of_weight, grads[0].sum(0), None


class _Attention(nn.Module):
    """Attention of every token to those on its lines.

    Args:
        channels: of tokens.
        num_heads: that share them.
        plain: whether derivatives of every order are wanted.
    """

    def __init__(self, channels: int, num_heads: int, *, plain: bool) -> None:
        super().__init__()
        self.num_heads, self.plain = num_heads, plain
        self.all = nn.Linear(channels, 3 * channels)
        self.sizes = nn.Parameter(torch.ones(2, channels // num_heads))  # of queries and keys
        self.offsets = nn.Parameter(torch.zeros(2, channels // num_heads))
        self.positions = nn.Parameter(torch.zeros(NUM_BUCKETS, num_heads))
        nn.init.normal_(self.positions, std=0.02)

    def forward(self, x: Float[Tensor, "batch other *axes channel"], wraps: tuple[bool, ...]) -> Tensor:
        """Return the mean, over the axes, of what a token hears along each; the `other` ones do not hear each other."""
        heads = self.all(x.flatten(0, 1)).unflatten(-1, (3, self.num_heads, -1))
        compared, values = heads.split([2, 1], dim=-3)
        compared = torch.addcmul(self.offsets[:, None], channel_norm(compared), self.sizes[:, None])
        queries, keys = compared.unbind(-3)
        values, space = values.squeeze(-3), x.shape[2:-1]
        small = not is_exporting() and x.device.type == "cpu" and math.prod(space) <= _AT_ONCE
        heard = (self._at_once if small else self._axis_by_axis)(queries, keys, values, wraps)
        return heard.reshape(x.shape)

    def _at_once(self, queries: Tensor, keys: Tensor, values: Tensor, wraps: tuple[bool, ...]) -> Tensor:
        """Compare all tokens of ``(batch, *space, head, number)`` in one product, and hear along each axis apart."""
        space, root = tuple(values.shape[1:-2]), math.sqrt(values.shape[-1])
        asked, offered, said = (part.flatten(1, -3).transpose(1, 2) for part in (queries / root, keys, values))
        logits = asked @ offered.transpose(-1, -2)
        bias = lines_bias(self.positions, space, wraps)
        weights = torch.stack([torch.softmax(logits + along, dim=-1) for along in bias]).mean(0)
        return (weights @ said).transpose(1, 2).unflatten(1, space)

    def _axis_by_axis(self, queries: Tensor, keys: Tensor, values: Tensor, wraps: tuple[bool, ...]) -> Tensor:
        heard = torch.zeros_like(values)
        for axis, wrap in enumerate(wraps, start=1):
            bias = axis_bias(self.positions, values.shape[axis], wraps=wrap)
            bias = bias.view(self.num_heads, *(1,) * (len(wraps) - axis), *bias.shape[1:])  # the heads stand at `axis`
            lines = (part.transpose(axis, -2) for part in (queries, keys, values))
            heard = heard + self._attend(bias, *lines).transpose(axis, -2)
        return heard / len(wraps)

    def _attend(self, bias: Tensor, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        if self.plain or is_exporting():
            logits = queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1]) + bias
            return torch.softmax(logits, dim=-1) @ values
        return functional.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)


class AxialBlock(nn.Module):
    """One block, ``(batch, time, *space, channel)`` to the same.

    Args:
        channels, num_heads: of tokens.
        layer_scale: of every γ at first: how far the block is from doing nothing.
        sees_time: whether there is more than one frame.
        last: whether only the last frame is wanted of it, ``(batch, 1, *space, channel)``.
        plain: whether derivatives of every order are wanted.
        workspace: of the network.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        *,
        layer_scale: float,
        sees_time: bool,
        last: bool,
        plain: bool,
        workspace: Workspace | None = None,
    ) -> None:
        super().__init__()
        self.workspace = workspace or Workspace()
        self.last, self.plain = last, plain

        def attention() -> nn.ModuleList:
            return nn.ModuleList([_Attention(channels, num_heads, plain=plain), nn.Linear(channels, channels)])

        self.over_time = attention() if sees_time else None
        self.over_space = attention()
        self.first, self.second = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.layer_scales = nn.Parameter(torch.full((3 if sees_time else 2, channels), layer_scale))

    @staticmethod
    def num_norms(*, sees_time: bool) -> int:
        """Return how many scales and shifts a block takes."""
        return 5 if sees_time else 3

    def forward(
        self,
        x: Tensor,
        wraps: tuple[bool, ...],
        told: Float[Tensor, "batch number"],
    ) -> Tensor:
        """Return the block's answer.

        Args:
            x: tokens.
            wraps: of each axis of space, whether its ends meet.
            told: the scales of its norms, one after the other, then their shifts.
        """
        native = self._native(x)
        if native is not None:
            return self._natively(native, x, wraps, told)
        scales, shifts = (part.split(x.shape[-1], dim=1) for part in told.chunk(2, dim=1))
        norms = list(zip(scales, shifts, strict=True))
        *over_time, over_space, pointwise = self.layer_scales.unbind(0)
        if self.over_time is not None:
            lines = x.flatten(2, -2).transpose(1, 2)  # (batch, token, time, channel)
            heard = _heard(self.over_time, lines, norms[:2], (False,))
            x = torch.addcmul(x, over_time[0], heard.transpose(1, 2).reshape(x.shape))
        if self.last:
            x = x[:, -1:]
        x = torch.addcmul(x, over_space, _heard(self.over_space, x, norms[-3:-1], wraps))
        middle = self.second(functional.gelu(self.first(x)))
        return torch.addcmul(x, pointwise, modulated(channel_norm(middle), *norms[-1]))

    def _native(self, x: Tensor) -> Library | None:
        """Return the library where it can do the block."""
        if self.plain or is_exporting() or torch.is_autocast_enabled(x.device.type):
            return None
        most = max(math.prod(x.shape[2:-1]), x.shape[1] if self.over_time is not None else 1)
        return native_for(x) if most <= MOST_TOKENS else None

    def _natively(self, native: Library, x: Tensor, wraps: tuple[bool, ...], told: Tensor) -> Tensor:
        batch, time, *space, channels = x.shape
        layer_scales: Tensor = self.layer_scales
        if len(told) < batch:
            told = told.expand(batch, -1)
        if self.over_time is not None:
            lines = x.flatten(2, -2).transpose(1, 2).contiguous()
            norms = told.unflatten(1, (2, -1, channels))
            told = norms[:, :, :2].flatten(1)
            weights = *_weights(self.over_time), layer_scales[:1]
            heard = native_block(native, lines, (time,), (False,), told, *weights, workspace=self.workspace)
            x = heard.transpose(1, 2).reshape(x.shape)
            told = norms[:, :, 2:].flatten(1)
            layer_scales = layer_scales[1:]
        if self.last:
            x = x[:, -1:]
        pointwise = self.first.weight, self.first.bias, self.second.weight, self.second.bias
        weights = *_weights(self.over_space), layer_scales, *pointwise
        return native_block(native, x.contiguous(), tuple(space), wraps, told, *weights, workspace=self.workspace)


def _weights(parts: nn.ModuleList) -> tuple[Tensor, ...]:
    attention, out = parts
    assert isinstance(attention, _Attention)
    assert isinstance(out, nn.Linear)
    ours = attention.sizes, attention.offsets, attention.positions
    return attention.all.weight, attention.all.bias, *ours, out.weight, out.bias


def _heard(parts: nn.ModuleList, x: Tensor, norms: list[tuple[Tensor, Tensor]], wraps: tuple[bool, ...]) -> Tensor:
    attention, out = parts
    heard = attention(modulated(channel_norm(x), *norms[0]), wraps)
    answer: Tensor = out(modulated(channel_norm(heard), *norms[1]))
    return answer
