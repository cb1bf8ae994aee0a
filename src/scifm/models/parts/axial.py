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

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from scifm.models.parts.convnext import channel_norm, per_sample
from scifm.models.parts.native import is_exporting
from scifm.models.parts.relative import NUM_BUCKETS, axis_bias, lines_bias

__all__ = ["AxialBlock", "Modulations", "modulated"]

_AT_ONCE = 64  # tokens of a box up to which the CPU compares all with all, and keeps what lies on common lines


class Modulations(nn.Module):
    """Scale and shift of every norm of a network, moved by what is known of each sample: all of them in one product.

    Args:
        channels: of each norm.
        condition_width: numbers that tell of each sample; 0: none.
    """

    def __init__(self, channels: Sequence[int], condition_width: int) -> None:
        super().__init__()
        self.channels, total = tuple(channels), sum(channels)
        self.weight, self.bias = nn.Parameter(torch.ones(total)), nn.Parameter(torch.zeros(total))
        self.moved = nn.Linear(condition_width, 2 * total) if condition_width else None
        if self.moved is not None:
            nn.init.normal_(self.moved.weight, std=0.1 / math.sqrt(condition_width))
            nn.init.zeros_(self.moved.bias)

    def forward(self, condition: Float[Tensor, "batch number"] | None) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return scales and shifts, ``(batch, channel)`` of each norm, ``(1, channel)`` where nothing is known."""
        scale, shift = self.weight[None], self.bias[None]
        if self.moved is not None and condition is not None:
            by, to = self.moved(condition).chunk(2, dim=1)
            scale, shift = torch.addcmul(scale, scale, by), shift + to
        return scale.split(self.channels, dim=1), shift.split(self.channels, dim=1)


def modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return ``(batch, …, channel)``, scaled and shifted by ``(batch, channel)``."""
    return torch.addcmul(per_sample(shift, x), x, per_sample(scale, x))


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
    """

    def __init__(
        self, channels: int, num_heads: int, *, layer_scale: float, sees_time: bool, last: bool, plain: bool
    ) -> None:
        super().__init__()
        self.last = last

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

    def forward(self, x: Tensor, wraps: tuple[bool, ...], *told: Float[Tensor, "batch channel"]) -> Tensor:
        """Return the block's answer.

        Args:
            x: tokens.
            wraps: of each axis of space, whether its ends meet.
            told: the scales of its norms, then their shifts.
        """
        num = len(told) // 2
        norms = list(zip(told[:num], told[num:], strict=True))
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


def _heard(parts: nn.ModuleList, x: Tensor, norms: list[tuple[Tensor, Tensor]], wraps: tuple[bool, ...]) -> Tensor:
    attention, out = parts
    heard = attention(modulated(channel_norm(x), *norms[0]), wraps)
    answer: Tensor = out(modulated(channel_norm(heard), *norms[1]))
    return answer
