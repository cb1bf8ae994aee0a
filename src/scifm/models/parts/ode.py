"""Explicit Runge–Kutta schemes, and three ways of the gradient back through their steps.

What is solved is dy/dx = width · f(y, x) for x from 0 to 1, in `num_steps` equal steps; width is how long the way is,
in the units of f. Places on it are fractions, so that which piece of a weight that changes along the way is meant never
hangs on rounding.

Gradients: ``plain``, through every operation of every step, each of which is kept; ``checkpoint``, the same numbers
with the states between steps alone kept and a step computed again when its turn comes (the ANODE of Gholami, Keutzer,
Biros, arXiv:1902.10298); ``adjoint``, the adjoint equation solved backward in time from the last state, which keeps
nothing (Chen, Rubanova, Bettencourt, Duvenaud, arXiv:1806.07366) and is the gradient of the discrete answer only in the
limit of short steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

__all__ = ["GRADIENTS", "SCHEMES", "Gradient", "Place", "Scheme", "SchemeName", "places", "runge_kutta", "solve"]

Gradient = Literal["plain", "checkpoint", "adjoint"]
"""How the gradient goes back through the steps."""

GRADIENTS: tuple[str, ...] = get_args(Gradient)

SchemeName = Literal["euler", "midpoint", "rk4"]


@dataclass(frozen=True)
class Scheme:
    """An explicit scheme whose every stage starts from the stage before it.

    Args:
        order: the error over a fixed time falls as the step to this power.
        nodes: where in the step each stage is, 0 to 1; it is reached from the start of the step by the slope of the
            stage before.
        weights: of the slopes in the step.
    """

    order: int
    nodes: tuple[Fraction, ...]
    weights: tuple[Fraction, ...]


SCHEMES: dict[str, Scheme] = {
    "euler": Scheme(1, (Fraction(0),), (Fraction(1),)),
    "midpoint": Scheme(2, (Fraction(0), Fraction(1, 2)), (Fraction(0), Fraction(1))),
    "rk4": Scheme(
        4,
        (Fraction(0), Fraction(1, 2), Fraction(1, 2), Fraction(1)),
        (Fraction(1, 6), Fraction(1, 3), Fraction(1, 3), Fraction(1, 6)),
    ),
}
"""By name."""


@dataclass(frozen=True)
class Place:
    """Where on the way from 0 to 1 a slope is asked for.

    Args:
        at: the place itself.
        middle: of the step it belongs to, which says from which side a place between two pieces is meant.
    """

    at: Fraction
    middle: Fraction

    def piece(self, count: int) -> int:
        """Return in which of so many equal pieces of the way it lies, from 0."""
        whole, part = divmod(self.at * count, 1)
        return min(max(int(whole) - (part == 0 and self.middle < self.at), 0), count - 1)


class Slope(Protocol):
    """The right-hand side f."""

    def __call__(self, state: Tensor, place: Place, /) -> Tensor: ...


@lru_cache(maxsize=256)
def places(scheme: Scheme, num_steps: int, *, backward: bool = False) -> tuple[tuple[Place, ...], ...]:
    """Return where each stage of each step is; backward: of the way from 1 to 0."""
    found = []
    for step in range(num_steps):
        ats = [(step + node) / num_steps for node in (*scheme.nodes, Fraction(1, 2))]
        *stages, middle = [1 - at if backward else at for at in ats]
        found.append(tuple(Place(at, middle) for at in stages))
    return tuple(found)


def runge_kutta(
    slope: Callable[[tuple[Tensor, ...], Place], tuple[Tensor, ...]],
    states: tuple[Tensor, ...],
    length: Tensor | float,
    scheme: Scheme,
    stages: Sequence[Place],
) -> tuple[Tensor, ...]:
    """Return tensors that go along together one step of a length further.

    Args:
        slope: of all of them, at a place.
        stages: where the stages are, of `places`.
    """
    slopes: tuple[Tensor, ...] | None = None
    sums: list[Tensor | None] = [None] * len(states)
    for node, weight, place in zip(scheme.nodes, scheme.weights, stages, strict=True):
        reached = states
        if slopes is not None:
            reached = tuple(y + float(node) * length * k for y, k in zip(states, slopes, strict=True))
        slopes = slope(reached, place)
        if weight:
            more = [float(weight) * k for k in slopes]
            sums = [k if old is None else old + k for old, k in zip(sums, more, strict=True)]
    return tuple(y + length * k for y, k in zip(states, sums, strict=True) if k is not None)


def solve(
    slope: Slope,
    state: Tensor,
    width: Tensor | float = 1.0,
    *,
    scheme: Scheme,
    num_steps: int,
    gradient: Gradient = "plain",
    held: Sequence[Tensor] = (),
) -> Tensor:
    """Return the state at the end of the way.

    Args:
        slope: f, ``(state, place) → `` a tensor of the shape of the state.
        state: at the start.
        width: a number, or a tensor that broadcasts against the state.
        scheme: of `SCHEMES`.
        num_steps: equal steps.
        gradient: how the gradient goes back.
        held: for ``adjoint``, the very tensors besides the state and the width that `slope` hangs on, weights among
            them: to others no gradient comes.
    """
    if gradient == "adjoint" and torch.is_grad_enabled():
        wide = torch.as_tensor(width, dtype=state.dtype, device=state.device)
        answer: Tensor = _Adjoint.apply(slope, scheme, num_steps, state, wide, *held)
        return answer
    length = width / num_steps

    def step(before: Tensor, stages: Sequence[Place]) -> Tensor:
        return runge_kutta(lambda y, place: (slope(y[0], place),), (before,), length, scheme, stages)[0]

    for stages in places(scheme, num_steps):
        if gradient == "checkpoint" and torch.is_grad_enabled():
            state = checkpoint(step, state, stages, use_reentrant=False)
        else:
            state = step(state, stages)
    return state


class _Adjoint(torch.autograd.Function):
    """The adjoint a = ∂loss/∂y obeys da/dx = −aᵀ ∂(width f)/∂y; what f hangs on gathers aᵀ ∂(width f)/∂θ on the way."""

    @staticmethod
    def forward(
        ctx: Any, slope: Slope, scheme: Scheme, num_steps: int, state: Tensor, width: Tensor, *held: Tensor
    ) -> Tensor:
        final = solve(slope, state, width, scheme=scheme, num_steps=num_steps)
        ctx.slope, ctx.scheme, ctx.num_steps, ctx.held = slope, scheme, num_steps, held
        ctx.again = _same_autocast(state.device.type)
        ctx.save_for_backward(final, width)
        return final

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        final, width = ctx.saved_tensors
        asked = [value for value, needs in zip(ctx.held, ctx.needs_input_grad[5:], strict=True) if needs]

        def slopes(now: tuple[Tensor, ...], place: Place) -> tuple[Tensor, ...]:
            with torch.enable_grad(), ctx.again():
                state, wide = now[0].detach().requires_grad_(), width.detach().requires_grad_()
                change = wide * ctx.slope(state, place)
                found = torch.autograd.grad(change, (state, wide, *asked), now[1].to(change.dtype), allow_unused=True)
            pulls = (torch.zeros_like(v) if g is None else g for g, v in zip(found, (state, wide, *asked), strict=True))
            return change.detach(), *(-pull for pull in pulls)

        now = (final, grads[0], torch.zeros_like(width), *(torch.zeros_like(value) for value in asked))
        for stages in places(ctx.scheme, ctx.num_steps, backward=True):
            now = runge_kutta(slopes, now, -1.0 / ctx.num_steps, ctx.scheme, stages)
        _, of_state, of_width, *rest = now
        found = iter(rest)
        of_held = [next(found) if needs else None for needs in ctx.needs_input_grad[5:]]
        return None, None, None, of_state, of_width if ctx.needs_input_grad[4] else None, *of_held


def _same_autocast(device: str) -> Callable[[], AbstractContextManager[Any]]:
    """Return what brings back the precision that operations choose now: a backward pass runs outside of it."""
    if not torch.is_autocast_enabled(device):
        return nullcontext
    dtype = torch.get_autocast_dtype(device)
    return lambda: torch.autocast(device, dtype)
