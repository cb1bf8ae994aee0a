"""Finite volumes for ∂U/∂t + Σ ∂F/∂x = 0: values at the faces of cells (MUSCL), ghost cells, and Runge–Kutta.

Faces. From the differences a and b to the cells before and behind, a cell's value w is carried to its two faces as

    w ± s/4 (a + b) + s²/12 (b − a),    s = max(0, (2ab + ε) / (a² + b² + ε)):

van Leer's scheme with κ = 1/3, third order where s = 1, blended by van Albada's smooth s: near 1 where the field is
smooth, 0 at jumps. ε is a tenth of the mean square of all differences of the field along this axis: above what they are
at smooth crests, which then are not clipped, and far below a jump. So the scheme is exactly homogeneous, and the rate
of change is a smooth function of a smooth state.

Positive quantities. Near a vacuum a density or a pressure changes by more than itself from cell to cell; there the
whole state of the cell counts as constant (the scheme of first order, which with the fluxes of `riemann_fluxes` keeps
them positive), and nowhere do they fall below a tenth of their cell's value at a face.

Time. Shu and Osher's scheme of third order, three stages, each a convex combination of forward steps:

    u₁ = u + h L(u),    u₂ = ¾u + ¼(u₁ + h L(u₁)),    u' = ⅓u + ⅔(u₂ + h L(u₂))

Fields are ``(batch, channel, *space)``; every sample has its own step and nothing loops over samples.

References: van Leer, J. Comput. Phys. 32 (1979) 101, doi:10.1016/0021-9991(79)90145-1; Shu and Osher, J. Comput. Phys.
77 (1988) 439, doi:10.1016/0021-9991(88)90177-5; van Albada, van Leer and Roberts, Astron. Astrophys. 108 (1982) 76.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from scifm.fields.grid import Boundary

__all__ = ["NUM_GHOSTS", "differences", "face_values", "faces_of_cells", "ssprk3", "with_ghosts"]

NUM_GHOSTS = 2
_SMOOTH = 0.1  # of the mean square of all differences: below it a difference counts as smooth
_LEAST = 0.1  # what is positive keeps at least this part of its cell's value at a face
_STEEP = 2.0  # where it changes by more than this times itself, its cell is taken as constant, with all that is in it


def with_ghosts(fields: Tensor, axis: int, ends: Boundary, mirrored: int | None = None) -> Tensor:
    """Return the fields with two more cells at both ends of an axis.

    Args:
        fields: ``(batch, channel, *space)``.
        axis: counted from the last.
        ends: what lies there: its other end, a mirror at a wall, else more of the same.
        mirrored: the channel whose sign a wall turns: the velocity along the axis.
    """
    count = fields.shape[axis]
    first, last = fields.narrow(axis, 0, NUM_GHOSTS), fields.narrow(axis, count - NUM_GHOSTS, NUM_GHOSTS)
    if ends == "periodic":
        return torch.cat([last, fields, first], dim=axis)
    if ends == "wall":
        before, behind = first.flip(axis), last.flip(axis)  # both are copies
        if mirrored is not None:
            before[:, mirrored].neg_()
            behind[:, mirrored].neg_()
    else:
        before, behind = fields.narrow(axis, 0, 1), fields.narrow(axis, count - 1, 1)
        before, behind = torch.cat([before] * NUM_GHOSTS, dim=axis), torch.cat([behind] * NUM_GHOSTS, dim=axis)
    return torch.cat([before, fields, behind], dim=axis)


def face_values(padded: Tensor, axis: int, positive: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
    """Return the values on both sides of every face across an axis, as runs of memory.

    Neighbors along an axis are a fixed number of places apart in memory, so that all is done on whole runs, those few
    places among them where a line of cells ends and the next begins; nobody looks at what comes of these. `differences`
    finds the faces again.

    Args:
        padded: ``(batch, channel, *space)``, contiguous, with ghost cells along `axis`: n + 4 there.
        axis: counted from the last.
        positive: channels that must stay positive.

    Returns:
        The values before and behind the faces, ``(batch, channel, places)``: where place i of the padded space is a
        cell, place i of these is the second face after it.
    """
    runs, apart, places = padded.flatten(2), padded.stride(axis), padded[0, 0].numel()
    inner = places - 2 * apart
    steps = torch.empty_like(runs)
    torch.sub(runs[..., apart:], runs[..., :-apart], out=steps[..., :-apart])
    steps.view(padded.shape).narrow(axis, padded.shape[axis] - 1, 1).zero_()  # from a line to the next
    count = places * (padded.shape[axis] - 1) / padded.shape[axis]
    floor = torch.linalg.vector_norm(steps, dim=2, keepdim=True).square_().mul_(_SMOOTH / count)
    floor += torch.finfo(padded.dtype).tiny
    before, behind = steps[..., :inner], steps[..., apart : apart + inner]

    doubled = torch.addcmul(floor, steps, steps, value=2)
    below = doubled[..., :inner] + doubled[..., apart : apart + inner]
    smooth = torch.addcmul(0.5 * floor, before, behind).div_(below).clamp_(min=0)  # s/4
    center = runs[..., apart : apart + inner]
    for channel in positive:
        steep = before[:, channel].abs().add_(behind[:, channel].abs()) > _STEEP * center[:, channel]
        smooth.masked_fill_(steep.unsqueeze(1), 0)
    lean = torch.add(before, behind).mul_(smooth)
    bend = torch.sub(behind, before, out=below).mul_(smooth)
    back = torch.addcmul(center, bend, smooth, value=4 / 3)
    ahead = torch.add(back, lean, out=bend)
    back -= lean
    for channel in positive:
        least = center[:, channel] * _LEAST
        for side in (ahead, back):
            torch.maximum(side[:, channel], least, out=side[:, channel])
    return ahead[..., : inner - apart], back[..., apart:]


def differences(faces: Tensor, shape: torch.Size, axis: int) -> Tensor:
    """Return for every cell what `faces` hold before it less what they hold behind it.

    Args:
        faces: ``(batch, channel, places)`` of `face_values`, or ``(batch, places)``.
        shape: of the padded fields these were made of.
        axis: counted from the last.

    Returns:
        ``(batch, channel, *space)``, or ``(batch, *space)``, without ghosts.
    """
    first, second = faces_of_cells(faces, shape, axis)
    return first - second


def faces_of_cells(faces: Tensor, shape: torch.Size, axis: int) -> tuple[Tensor, Tensor]:
    """Return what faces hold before and behind every cell, as `differences`; views."""
    space = list(shape[2:])
    strides = [math.prod(space[place + 1 :]) for place in range(len(space))]
    space[axis] -= 2 * NUM_GHOSTS
    size, stride = (*faces.shape[:-1], *space), (*faces.stride()[:-1], *strides)
    start = faces.storage_offset()
    first, second = (faces.as_strided(size, stride, start + more) for more in (0, strides[axis]))
    return first, second


def ssprk3(state: Tensor, step: Tensor, rate: Callable[[Tensor], Tensor], now: Tensor) -> None:
    """Replace a state by the one a step later.

    Args:
        state: ``(batch, channel, *space)``; overwritten.
        step: of each sample, ``(batch, 1, 1, …)``.
        rate: L; its answer is overwritten.
        now: L of the state; overwritten.
    """
    first = now.mul_(step).add_(state)
    second = rate(first).mul_(step).add_(first).mul_(0.25).add_(state, alpha=0.75)
    third = rate(second).mul_(step).add_(second)
    state.lerp_(third, 2 / 3)  # a third and two thirds, which in single precision do not add up to 1
