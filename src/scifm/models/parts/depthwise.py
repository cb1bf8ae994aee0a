"""A convolution of every channel by itself, channels last, across ends that wrap around or are walls.

Beyond a wall a field keeps the value it has there. torch's own backward pass of such a convolution takes far longer
than its forward pass on a CPU; where `native` can be used, both are ours: for 8 samples of 64² points with 32 channels
and 7² taps, on one core and the padding with it, forward and back together take 12 ms, by torch 35 ms.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from scifm.fields.on_device import numbers_for
from scifm.models.parts.matrices import Matrices
from scifm.models.parts.native import is_exporting, native_for
from scifm.native import Library

__all__ = ["Depthwise", "blurred", "padded"]


def padded(x: Tensor, axis: int, before: int, after: int, *, wraps: bool) -> Tensor:
    """Return a tensor with an axis longer at both ends, as a period or by its last values."""
    if not before and not after:
        return x
    n = x.shape[axis]
    if wraps and max(before, after) > n:
        places = torch.arange(-before, n + after, device=x.device)
        return x.index_select(axis, places % n)
    if wraps:
        start, end = x.narrow(axis, n - before, before), x.narrow(axis, 0, after)
    else:
        sizes = [[count if place == axis else size for place, size in enumerate(x.shape)] for count in (before, after)]
        start, end = x.narrow(axis, 0, 1).expand(sizes[0]), x.narrow(axis, n - 1, 1).expand(sizes[1])
    return torch.cat([start, x, end], dim=axis)


class Depthwise(nn.Module):
    """Each channel with a kernel of its own, ``(batch, *space, channel)`` to the same.

    Args:
        channels: how many.
        kernel_size: taps along each axis, odd.
        num_axes: 1, 2 or 3.
        plain: whether torch's own operations do it, which have derivatives of every order.
    """

    def __init__(self, channels: int, kernel_size: int, num_axes: int, *, plain: bool = False) -> None:
        super().__init__()
        self.plain = plain
        self.weight = nn.Parameter(torch.empty(channels, 1, *(kernel_size,) * num_axes))
        self.bias = nn.Parameter(torch.empty(channels))
        bound = kernel_size ** (-num_axes / 2)
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def matrices(self) -> Matrices:
        """Return a single matrix with a row of taps for each channel: how many filters there are, unlike each other."""
        return Matrices("weight", self.weight.detach().flatten(1)[None])

    def forward(self, x: Float[Tensor, "batch *space channel"], wraps: tuple[bool, ...]) -> Tensor:
        """Return the convolution; `wraps` tells of each axis whether its ends meet."""
        return _depthwise(x, self.weight, self.bias, wraps, plain=self.plain)


def blurred(
    x: Float[Tensor, "batch *space channel"], wraps: tuple[bool, ...], *, plain: bool = False
) -> Float[Tensor, "batch *space channel"]:
    """Return half of every point and a quarter of each neighbour, along one axis after the other.

    Of numbers that each fill two points this makes a line from one to the next, so that it matters little where the
    pairs begin.

    Args:
        wraps: tells of each axis whether its ends meet.
        plain: as of `Depthwise`.
    """
    line = numbers_for((0.25, 0.5, 0.25), x)
    taps = line
    for _ in wraps[1:]:
        taps = taps.unsqueeze(-1) * line
    weight = taps.expand(x.shape[-1], 1, *taps.shape)
    return _depthwise(x, weight, x.new_zeros(x.shape[-1]), wraps, plain=plain)


def _depthwise(x: Tensor, weight: Tensor, bias: Tensor, wraps: tuple[bool, ...], *, plain: bool) -> Tensor:
    native = None if plain or is_exporting() or torch.is_autocast_enabled(x.device.type) else native_for(x)
    if native is not None:
        answer: Tensor = _Native.apply(x.contiguous(), weight, bias, wraps, native)
        return answer
    for axis, wrap in enumerate(wraps, start=1):
        x = padded(x, axis, weight.shape[-1] // 2, weight.shape[-1] // 2, wraps=wrap)
    conv = (functional.conv1d, functional.conv2d, functional.conv3d)[len(wraps) - 1]
    return conv(x.movedim(-1, 1), weight, bias, groups=len(bias)).movedim(1, -1)


class _Native(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, wraps: tuple[bool, ...], native: Library) -> Tensor:
        framed = _framed(x, weight, wraps)
        ctx.save_for_backward(framed, weight)
        ctx.wraps, ctx.native = wraps, native
        return _convolved(native, framed, _taps(weight), bias, x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad, wraps, native = grads[0].contiguous(), ctx.wraps, ctx.native
        grad_x = None
        if ctx.needs_input_grad[0]:
            reach, framed, shape = weight.shape[-1] // 2, grad, list(grad.shape)
            if all(wraps):
                framed = _framed(grad, weight, wraps)
            else:
                for axis, wrap in enumerate(wraps, start=1):
                    # a walled axis answers for its padding too, whose share goes to the ends
                    if wrap:
                        framed = padded(framed, axis, reach, reach, wraps=True)
                    else:
                        framed = functional.pad(framed, (0, 0) * (framed.dim() - 1 - axis) + (2 * reach,) * 2)
                        shape[axis] += 2 * reach
            turned = _taps(weight.flip(tuple(range(2, weight.dim()))))
            grad_x = _convolved(native, framed, turned, None, torch.Size(shape))
            for axis, wrap in enumerate(wraps, start=1):
                grad_x = grad_x if wrap else _folded(grad_x, axis, reach)
        if not ctx.needs_input_grad[1]:
            return grad_x, None, None, None, None
        sums = x.new_empty(weight[0, 0].numel() + 1, weight.shape[0])
        native.call("depthwise_gradient", *_sizes(weight, grad.shape), x, grad, sums)
        return grad_x, sums[:-1].T.reshape(weight.shape), sums[-1], None, None


def _framed(x: Tensor, weight: Tensor, wraps: tuple[bool, ...]) -> Tensor:
    """Return what `padded` makes of every axis, by half the taps at both ends, in one pass over memory."""
    reach, dims = weight.shape[-1] // 2, len(wraps)
    if any(reach > n for n in x.shape[1:-1]):
        for axis, wrap in enumerate(wraps, start=1):
            x = padded(x, axis, reach, reach, wraps=wrap)
        return x.contiguous()
    out = x.new_empty(x.shape[0], *(n + 2 * reach for n in x.shape[1:-1]), x.shape[-1])
    inner = [out]  # with so many of the first axes without their ends
    for axis in range(1, dims + 1):
        inner.append(inner[-1].narrow(axis, reach, x.shape[axis]))
    inner.pop().copy_(x)
    for axis in reversed(range(1, dims + 1)):
        part, n = inner.pop(), x.shape[axis]
        start, end, count = (n, reach, reach) if wraps[axis - 1] else (reach, n + reach - 1, 1)
        part.narrow(axis, 0, reach).copy_(part.narrow(axis, start, count))
        part.narrow(axis, n + reach, reach).copy_(part.narrow(axis, end, count))
    return out


def _folded(grad: Tensor, axis: int, reach: int) -> Tensor:
    """Return the gradient of what was padded by its last values."""
    n = grad.shape[axis] - 2 * reach
    inner = grad.narrow(axis, reach, n).contiguous()
    inner.narrow(axis, 0, 1).add_(grad.narrow(axis, 0, reach).sum(axis, keepdim=True))
    inner.narrow(axis, n - 1, 1).add_(grad.narrow(axis, n + reach, reach).sum(axis, keepdim=True))
    return inner


def _taps(weight: Tensor) -> Tensor:
    """Return a weight ``(channel, 1, *taps)`` as ``(taps, channel)``."""
    return weight.flatten(1).T.contiguous()


def _sizes(weight: Tensor, shape: torch.Size) -> tuple[int, ...]:
    """Return batch, points and taps along each of three axes, and channels; axes that are not there have one."""
    dims = len(shape) - 2
    space, taps = shape[1:-1], weight.shape[2:]
    ones = (1,) * (3 - dims)
    return shape[0], *ones, *space, *ones, *taps, shape[-1]


def _convolved(native: Library, framed: Tensor, taps: Tensor, bias: Tensor | None, shape: torch.Size) -> Tensor:
    out = framed.new_empty(shape)
    dims = len(shape) - 2
    ones, reach = (1,) * (3 - dims), [a - b + 1 for a, b in zip(framed.shape[1:-1], shape[1:-1], strict=True)]
    sizes = (shape[0], *ones, *shape[1:-1], *ones, *reach, shape[-1])
    assert math.prod(reach) == len(taps)
    native.call("depthwise", *sizes, framed, taps, bias, out)
    return out
