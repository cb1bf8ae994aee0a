"""Jets of a network of coordinates by ``jets.c``: the same numbers as through torch to round-off, several times sooner.

torch makes every plane of every layer a pass over memory; here a block of points goes through the whole network, and
back, while it stays near the processor. It is compiled when first needed, see `scifm.native`; it is C without
instructions of one processor, and runs wherever there is a C compiler. Sums do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from scifm.models.parts.native import is_exporting
from scifm.native import Library, load, vector_flags

__all__ = ["MOST_WIDTH", "compiled_jets", "jets_for", "library"]

MOST_WIDTH = 256  # channels: a block of points with more of them does not stay near the processor
_SOURCE = Path(__file__).with_name("jets.c")
_ACTIVATIONS = {"tanh": 0, "sin": 1}
_ROW = 32  # points are kept in blocks of that many or a divisor of it


@lru_cache(maxsize=1)
def library() -> Library | None:
    """Compile if needed and load; None where the system or the user says no."""
    return load(_SOURCE, ("-fno-trapping-math", *vector_flags()))


def jets_for(planes: Tensor, weights: Sequence[Tensor]) -> Library | None:
    """Return the library where it can work on such a network, else None.

    Args:
        planes: what goes in, ``(plane, point, feature)``.
        weights: of each linear map its weight and its bias.
    """
    tensors = (planes, *weights)
    plain = all(type(one) in (Tensor, torch.nn.Parameter) for one in tensors)
    if not plain or any(one.dtype != torch.float32 or one.device.type != "cpu" for one in tensors):
        return None
    if planes.numel() == 0 or max(max(weight.shape) for weight in weights) > MOST_WIDTH:
        return None
    if torch.compiler.is_compiling() or is_exporting() or torch.is_autocast_enabled("cpu"):
        return None
    return library()


def compiled_jets(
    native: Library, planes: Tensor, activation: str, orders: Sequence[int], weights: Sequence[Tensor]
) -> Tensor:
    """Return the jets that a network makes of others, ``(plane, point, channel)``; its gradient is by weights alone.

    Args:
        native: the library.
        planes: what goes in, ``(plane, point, feature)``: values, then of each line its coefficients.
        activation: ``tanh`` or ``sin``.
        orders: of each line its highest order, 1 or 2.
        weights: of each linear map its weight and its bias.
    """
    answer: Tensor = _Compiled.apply(native, planes, activation, tuple(orders), *weights)
    return answer


class _Compiled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, native: Library, planes: Tensor, activation: str, orders: tuple[int, ...], *weights: Tensor
    ) -> Tensor:
        widths = [planes.shape[-1], *(len(bias) for bias in weights[1::2])]
        rows = -(-planes.shape[1] // _ROW) * _ROW * len(planes)
        kept = planes.new_empty(rows * sum(widths[1:-1])) if any(ctx.needs_input_grad) else None
        flat, planes = torch.cat([weight.reshape(-1) for weight in weights]), planes.contiguous()
        out = planes.new_empty(*planes.shape[:2], widths[-1])
        ctx.native, ctx.numbers = native, (_ACTIVATIONS[activation], torch.tensor(widths), torch.tensor(orders))
        native.call("jets", *_arguments(ctx.numbers, flat, planes), out, kept)
        ctx.shapes = [weight.shape for weight in weights]
        ctx.save_for_backward(flat, planes, kept)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        flat, planes, kept = ctx.saved_tensors
        found = torch.empty_like(flat)
        ctx.native.call("jets_gradients", *_arguments(ctx.numbers, flat, planes), kept, grads[0].contiguous(), found)
        pieces = found.split([shape.numel() for shape in ctx.shapes])
        return None, None, None, None, *(piece.view(shape) for piece, shape in zip(pieces, ctx.shapes, strict=True))


def _arguments(numbers: tuple[int, Tensor, Tensor], flat: Tensor, planes: Tensor) -> tuple[Tensor | int, ...]:
    activation, widths, orders = numbers
    points = planes.shape[1], planes.shape[0]
    return *points, len(widths) - 1, widths, len(orders), orders, activation, flat, planes
