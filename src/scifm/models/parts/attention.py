"""A whole block of axial attention in one call of ``attention.c`` each way; `axial` says what it is, and does the rest.

torch makes a block of some forty operations and as many on the way back, most of them a pass over memory that costs
more to begin than to do when there are few tokens. Here a group of about 64 tokens goes through all of it while it lies
in the second-level cache; what is kept for the way back are results of products.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from scifm.models.parts.relative import lines_buckets
from scifm.models.parts.workspace import Workspace
from scifm.native import Library

__all__ = ["MOST_TOKENS", "native_block"]

MOST_TOKENS = 256  # of a box: all are compared with all, which with more costs more than what follows
_GROUP = 64  # tokens that go through a block together
_LANES = 16


def native_block(
    native: Library,
    x: Tensor,
    space: tuple[int, ...],
    wraps: tuple[bool, ...],
    told: Tensor,
    *weights: Tensor,
    workspace: Workspace,
) -> Tensor:
    """Return ``x + γ₁ W (norm(attention(norm x)))``, and a pointwise network behind it where its weights are given.

    Args:
        native: the library.
        x: ``(batch, other, …, channel)``, whose tokens of a box hear each other; contiguous.
        space: tokens of the box along each axis.
        wraps: of each axis, whether its ends meet.
        told: scales of two norms, or three, then their shifts, ``(batch, 2 · norms · channel)``.
        weights: of queries, keys and values and its constant; sizes and offsets of queries and keys; positions; weight
            and constant of what goes out; layer scales ``(1 or 2, channel)``; then, or not, two weights, each with its
            constant, of the pointwise network.
        workspace: of the network: gradients of weights lie there, which otherwise are mapped anew in every step.
    """
    answer: Tensor = _Block.apply(native, _Box.of(x, space, wraps, workspace), x, told, *weights)
    return answer


_LEFT, _RIGHT = 48, 32  # channels of a panel


@dataclass(frozen=True)
class _Box:
    """Whose tokens hear each other, and how many such boxes a thread takes at a time."""

    space: tuple[int, ...]
    wraps: tuple[bool, ...]
    size: int
    workspace: Workspace

    @classmethod
    def of(cls, x: Tensor, space: tuple[int, ...], wraps: tuple[bool, ...], workspace: Workspace) -> _Box:
        tokens = math.prod(space)
        share = -(-x.shape[0] * x.shape[1] // torch.get_num_threads())
        return cls(space, wraps, min(max(1, _GROUP // tokens), share), workspace)

    def kept(self, x: Tensor, hidden: int) -> Tensor:
        """Return room for what the way back needs."""
        groups, channels = -(-x.shape[0] * x.shape[1] // self.size), x.shape[-1]
        rows = 5 * channels + (2 * channels + hidden if hidden else 0)
        return self.workspace.empty((groups, rows, (-(-self.size * math.prod(self.space) // _LANES) | 1) * _LANES), x)

    def panels(self, x: Tensor, hidden: int) -> Tensor:
        """Return room for the factors of weights' gradients."""
        channels, rest = x.shape[-1], x.shape[-1] if hidden else 0
        left, right = (3 * channels, channels, hidden, rest), (channels, channels, rest, hidden)
        wide = sum(-(-n // _LEFT) * _LEFT for n in left) + sum(-(-n // _RIGHT) * _RIGHT for n in right)
        return self.workspace.empty((wide * (x.numel() // channels),), x)


class _Block(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        native: Library,
        box: _Box,
        x: Tensor,
        told: Tensor,
        *weights: Tensor,
    ) -> Tensor:
        told = told if told.stride(1) == 1 else told.contiguous()
        weights = tuple(weight.contiguous() for weight in weights)
        kept = box.kept(x, len(weights[8]) if len(weights) > 8 else 0)
        ctx.native, ctx.box = native, box
        ctx.save_for_backward(x, told, kept, *weights)
        out = torch.empty_like(x)
        native.call("axial_block", *_arguments(box, x, told, kept, *weights), out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, told, kept, *weights = ctx.saved_tensors
        grad, of_x = grads[0].contiguous(), torch.empty_like(x)
        products = [weights[place] for place in (0, 1, 5, 6, *range(8, len(weights)))]
        others = [told, weights[7], *weights[2:5]]
        of_products, of_others = (
            ctx.box.workspace.empty((sum(part.numel() for part in parts),), x) for parts in (products, others)
        )
        panels = ctx.box.panels(x, len(weights[8]) if len(weights) > 8 else 0)
        arguments = _arguments(ctx.box, x, told, kept, *weights)
        ctx.native.call("axial_block_gradients", *arguments, grad, of_x, panels, of_products, of_others)
        of_all, of_all_bias, of_out, of_out_bias, *of_pointwise = _apart(of_products, products)
        of_told, of_layer_scales, *of_compared = _apart(of_others, others)
        of_weights = of_all, of_all_bias, *of_compared, of_out, of_out_bias, of_layer_scales, *of_pointwise
        return None, None, of_x, of_told, *of_weights


def _apart(sums: Tensor, parts: list[Tensor]) -> list[Tensor]:
    pieces = sums.split([part.numel() for part in parts])
    return [piece.view(part.shape) for piece, part in zip(pieces, parts, strict=True)]


def _arguments(box: _Box, x: Tensor, told: Tensor, kept: Tensor, *weights: Tensor) -> tuple[Tensor | int | None, ...]:
    batch, other, *_, channels = x.shape
    pointwise = weights[8:] or (None,) * 4
    heads, hidden = weights[4].shape[1], len(weights[8]) if len(weights) > 8 else 0
    sizes = batch * other, box.size, math.prod(box.space), other, channels, heads, len(box.space), hidden
    tensors = (x, told, lines_buckets(box.space, box.wraps), *weights[:8], *pointwise, kept)
    return *sizes, told.stride(0), *tensors
