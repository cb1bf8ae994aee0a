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
from scifm.native import Code, Library, load, vector_flags, width

__all__ = ["MOST_WIDTH", "compiled_jets", "jets_for", "library", "sources"]

MOST_WIDTH = 256  # channels: a block of points with more of them does not stay near the processor
_SOURCE = Path(__file__).with_name("jets.c")
_ACTIVATIONS = {"tanh": 0, "sin": 1}
_ROW = 32  # points are kept in blocks of that many or a divisor of it


@lru_cache(maxsize=1)
def library() -> Library | None:
    """Load, compiled if needed; None where the system or the user says no."""
    return load(sources(width()))


def sources(bits: int) -> Code:
    """Return the C file, for vectors of so many bits."""
    return Code((_SOURCE,), ("-fno-trapping-math", *vector_flags(bits)))


def jets_for(several: Sequence[Tensor], weights: Sequence[Tensor]) -> Library | None:
    """Return the library where it can work on such a network, else None.

    Args:
        several: what goes in, ``(plane, point, feature)`` each.
        weights: of each linear map its weight and its bias.
    """
    tensors = (*several, *weights)
    plain = all(type(one) in (Tensor, torch.nn.Parameter) for one in tensors)
    if not plain or any(one.dtype != torch.float32 or one.device.type != "cpu" for one in tensors):
        return None
    if any(planes.numel() == 0 for planes in several) or max(max(weight.shape) for weight in weights) > MOST_WIDTH:
        return None
    if torch.compiler.is_compiling() or is_exporting() or torch.is_autocast_enabled("cpu"):
        return None
    return library()


def compiled_jets(
    native: Library,
    several: Sequence[Tensor],
    activation: str,
    orders: Sequence[Sequence[int]],
    weights: Sequence[Tensor],
) -> list[Tensor]:
    """Return the jets that a network makes of others, ``(plane, point, channel)``; their gradient is by weights alone.

    Args:
        native: the library.
        several: what goes in, at some points each, ``(plane, point, feature)``: values, then of each line its
            coefficients. All at once, since each call of autograd takes as long as a hundred points.
        activation: ``tanh`` or ``sin``.
        orders: of each, of each of its lines the highest order, 1 or 2.
        weights: of each linear map its weight and its bias.
    """
    answers = _Compiled.apply(native, activation, tuple(map(tuple, orders)), len(several), *several, *weights)
    return list(answers)


class _Compiled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, native: Library, activation: str, orders: tuple[tuple[int, ...], ...], number: int, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        several, weights = [planes.contiguous() for planes in tensors[:number]], tensors[number:]
        widths = (several[0].shape[-1], *(len(bias) for bias in weights[1::2]))
        flat, hidden = torch.cat([weight.reshape(-1) for weight in weights]), sum(widths[1:-1])
        answers, kept, needed = [], list[Tensor | None](), any(ctx.needs_input_grad)
        for planes, own in zip(several, orders, strict=True):
            count, points = planes.shape[:2]
            kept.append(planes.new_empty(-(-points // _ROW) * _ROW * count * hidden) if needed else None)
            answers.append(planes.new_empty(count, points, widths[-1]))
            native.call("jets", *_arguments(activation, widths, own, flat, planes), answers[-1], kept[-1])
        ctx.native, ctx.number = native, number
        ctx.about, ctx.shapes = (activation, widths, orders), [weight.shape for weight in weights]
        ctx.save_for_backward(flat, *several, *kept)
        return tuple(answers)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        flat, *tensors = ctx.saved_tensors
        activation, widths, orders = ctx.about
        found = []
        for planes, kept, own, grad in zip(tensors[: ctx.number], tensors[ctx.number :], orders, grads, strict=True):
            found.append(torch.empty_like(flat))
            arguments = _arguments(activation, widths, own, flat, planes)
            ctx.native.call("jets_gradients", *arguments, kept, grad.contiguous(), found[-1])
        for other in found[1:]:
            found[0] += other
        pieces = found[0].split([shape.numel() for shape in ctx.shapes])
        of_weights = (piece.view(shape) for piece, shape in zip(pieces, ctx.shapes, strict=True))
        return *(None,) * (4 + ctx.number), *of_weights


@lru_cache(maxsize=256)
def _numbers(*numbers: int) -> Tensor:
    return torch.tensor(numbers, dtype=torch.int64)


def _arguments(
    activation: str, widths: tuple[int, ...], orders: tuple[int, ...], flat: Tensor, planes: Tensor
) -> tuple[Tensor | int, ...]:
    points = planes.shape[1], planes.shape[0]
    lines = _numbers(*widths), len(orders), _numbers(*orders)
    return *points, len(widths) - 1, *lines, _ACTIVATIONS[activation], flat, planes
